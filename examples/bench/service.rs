//! The service under test: the real engine on sled with real callbacks, as `kedge serve` wires them, in front of a world that does
//! nothing.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use kedge_engine::executor::{Engine, Limits, Parts};
use kedge_engine::gate::AllOpen;
use kedge_engine::outbox::{Composer, NewCallback};
use kedge_engine::ports::{Clock, Custody, Random, Spawner};
use kedge_engine::service::Tasks as _;
use kedge_engine::step::{StepError, StepKinds};
use kedge_engine::store::ReadError;
use kedge_engine::task::{Millis, TaskId, TaskState, TaskView};
use kedge_engine::workflow::Facts;
use kedge_stores::{FileLogs, Options, SledStore};
use kedge_webhooks::api::Links;
use kedge_webhooks::{EndpointComposer, EndpointSpec, Endpoints, Secret};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;

use crate::raw::Recorded;
use crate::steps::{Chain, Null, World};

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// An engine with everything it needs.
pub(crate) struct Service {
    pub(crate) engine: Engine<World>,
    pub(crate) world: Arc<World>,
    pub(crate) store: Arc<Recorded>,
    pub(crate) endpoints: Endpoints,
    pub(crate) base: Arc<Base>,
    ended: Arc<Ended>,
}

impl Service {
    pub(crate) fn new(runtime: &Runtime, folder: &Path) -> Self {
        let store = SledStore::open(folder, Options::default()).expect("store");
        let store = Arc::new(Recorded { store: Arc::new(store), batches: Mutex::default() });
        let world = Arc::new(World::new());
        let base = Arc::new(Base(runtime.handle().clone()));
        let endpoint = EndpointSpec {
            name: "ci".to_owned(),
            url: "https://ci.example.test/kedge".to_owned(),
            secrets: vec![Secret::new(SECRET)],
            ..EndpointSpec::default()
        };
        let endpoint = kedge_webhooks::Endpoint::new(endpoint).expect("an endpoint");
        let endpoints = Endpoints::new(vec![endpoint]).expect("endpoints");
        let links = Links::new(Some(&"https://kedge.example.test".parse().expect("a URL")));
        let composer = EndpointComposer::new(endpoints.clone(), links, base.clone());
        let ended = Arc::new(Ended { composer, count: AtomicUsize::new(0), more: Notify::new() });
        let engine = Engine::new(Parts {
            store: store.clone(),
            clock: base.clone(),
            spawner: base.clone(),
            random: base.clone(),
            logs: Arc::new(FileLogs::new(folder)),
            custody: base.clone(),
            composer: ended.clone(),
            facts: base.clone(),
            kinds: StepKinds::new().with::<Null>(),
            workflows: vec![Box::new(Chain)],
            ports: world.clone(),
            gates: Arc::new(AllOpen),
            limits: Limits::default(),
        });
        engine.recover().expect("an empty journal");
        Self { engine, world, store, endpoints, base, ended }
    }

    /// Returns when these tasks, which are all there are, have succeeded, durably.
    pub(crate) async fn ends(&self, tasks: &[TaskId]) {
        while self.ended.count.load(Ordering::SeqCst) < tasks.len() {
            self.ended.more.notified().await;
        }
        self.ended.count.store(0, Ordering::SeqCst);
        for task in tasks {
            loop {
                let view = self.engine.task(task).expect("the store can be read").expect("the task is there");
                if view.state.is_final() {
                    assert_eq!(view.state, TaskState::Succeeded);
                    break;
                }
                self.engine.changed(task, view.sequence, 0).await;
            }
        }
    }
}

/// The callbacks of endpoints; and how many ends are about to be written.
struct Ended {
    composer: EndpointComposer,
    count: AtomicUsize,
    more: Notify,
}

impl Composer for Ended {
    fn compose(&self, task: &TaskView, callback: Option<&Value>) -> Vec<NewCallback> {
        if task.state.is_final() {
            self.count.fetch_add(1, Ordering::SeqCst);
            self.more.notify_one();
        }
        self.composer.compose(task, callback)
    }
}

/// Time, tasks and ids from tokio and the machine; nothing is known of hosts, and no process runs on them.
pub(crate) struct Base(tokio::runtime::Handle);

impl Clock for Base {
    fn now(&self) -> Millis {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.as_millis().try_into().unwrap_or(Millis::MAX)
    }

    fn sleep_until(&self, at: Millis) -> BoxFuture<'static, ()> {
        let left = Duration::from_millis(at.saturating_sub(self.now()));
        let _inside = self.0.enter();
        tokio::time::sleep(left).boxed()
    }
}

impl Spawner for Base {
    fn spawn(&self, future: BoxFuture<'static, ()>) {
        self.0.spawn(future);
    }
}

impl Random for Base {
    fn id(&self) -> [u8; 16] {
        *uuid::Uuid::now_v7().as_bytes()
    }

    fn roll(&self) -> f64 {
        rand::random()
    }
}

impl Custody for Base {
    fn clear<'a>(&'a self, _: &'a TaskId, _: Option<&'a str>) -> BoxFuture<'a, Result<(), StepError>> {
        futures::future::ready(Ok(())).boxed()
    }
}

impl Facts for Base {
    fn record(&self, _: &str, _: &str) -> Result<Option<Value>, ReadError> {
        Ok(None)
    }
    fn records(&self, _: &str) -> Result<Vec<(String, Value)>, ReadError> {
        Ok(Vec::new())
    }
}
