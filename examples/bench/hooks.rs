//! Accepted webhooks per second: signed bodies over kept connections to the real server, each a durable task when its 202 is there. The
//! tasks take their locks and start their first step meanwhile, which waits; afterwards all of them have to be there and to succeed.

use std::path::Path;
use std::sync::Arc;

use kedge_engine::ports::Clock as _;
use kedge_engine::store::Batch;
use kedge_engine::task::TaskId;
use kedge_webhooks::{
    Access, App, EmptyDesk, Hook, HookSpec, HttpConfig, Metrics, Ports, Provider, Secret, Server,
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::client::{Posted, post};
use crate::raw::Raw;
use crate::service::{SECRET, Service};
use crate::{Line, TURNS, Target, median, part};

/// Webhooks of a turn, for so many sites, over so many connections.
const HOOKS: usize = 3000;
const SITES: usize = 400;
const CONNECTIONS: usize = 32;
/// Steps of each task.
const STEPS: usize = 10;

/// What is asked for on two cores.
const PER_SECOND: f64 = 2000.0;
const P99_MS: f64 = 50.0;

/// Prints its lines; whether all targets are met.
pub(crate) fn run(runtime: &Runtime, folder: &Path) -> bool {
    let mut turns = Turns::default();
    for turn in 0..TURNS {
        turns.take(runtime, folder, &format!("hooks-{turn}"), true);
    }
    let what = format!("webhooks accepted ({CONNECTIONS} connections), tasks of {STEPS} steps begin");
    let rate = Line {
        what: &what,
        here: median(&mut turns.rates),
        raw: Some(median(&mut turns.limits)),
        unit: "hooks/s",
        target: Target::AtLeast(PER_SECOND),
    };
    let mut met = rate.print();
    for (of_100, target) in [(50, Target::None), (99, Target::AtMost(P99_MS))] {
        let what = format!("                  {of_100} of 100 answered within");
        let here = part(&mut turns.answers, of_100);
        met &= Line { what: &what, here, raw: None, unit: "ms", target }.print();
    }

    let mut busy = Turns::default();
    for turn in 0..TURNS {
        busy.take(runtime, folder, &format!("busy-{turn}"), false);
    }
    let what = "the same, while their tasks run to their ends";
    let (here, raw) = (median(&mut busy.rates), Some(median(&mut busy.limits)));
    met &= Line { what, here, raw, unit: "hooks/s", target: Target::None }.print();
    let (what, here) = ("                  99 of 100 answered within", part(&mut busy.answers, 99));
    met & Line { what, here, raw: None, unit: "ms", target: Target::None }.print()
}

#[derive(Default)]
struct Turns {
    rates: Vec<f64>,
    limits: Vec<f64>,
    /// Milliseconds.
    answers: Vec<f64>,
}

impl Turns {
    fn take(&mut self, runtime: &Runtime, folder: &Path, name: &str, wait: bool) {
        let (posted, batches) = turn(runtime, &folder.join(name), wait);
        self.rates.push(HOOKS as f64 / posted.seconds);
        self.answers.extend(posted.answers.iter().map(|time| time.as_secs_f64() * 1000.0));
        let raw = Raw::open(&folder.join(format!("{name}-raw")));
        let groups = batches.chunks(CONNECTIONS).map(|group| group.iter().collect());
        self.limits.push(HOOKS as f64 / raw.seconds(groups));
    }
}

/// One turn on a fresh store; what was written while webhooks were accepted.
fn turn(runtime: &Runtime, folder: &Path, wait: bool) -> (Posted, Vec<Batch>) {
    let service = Service::new(runtime, folder);
    let stop = CancellationToken::new();
    let server = runtime.block_on(server(&service));
    let address = server.address();
    let serving = runtime.spawn(server.run(stop.clone().cancelled_owned()));
    let requests = requests(service.base.now() / 1000, wait);
    service.store.take();
    let posted = post(address, CONNECTIONS, requests);
    let batches = service.store.take();
    let tasks: Vec<TaskId> = posted.bodies.iter().map(|body| task_of(body)).collect();
    service.world.gate.send_replace(true);
    runtime.block_on(async {
        service.ends(&tasks).await;
        stop.cancel();
        serving.await.expect("a server that stops");
        service.engine.drain().await;
    });
    (posted, batches)
}

async fn server(service: &Service) -> Server {
    let hook = HookSpec {
        name: "deploy".to_owned(),
        provider: "standard".to_owned(),
        secrets: vec![Secret::new(SECRET)],
        workflow: "chain".to_owned(),
        when: Vec::new(),
        params: Some(
            json!({ "site": "{/site}", "steps": "{/deployment/steps}", "waits": "{/deployment/waits}" }),
        ),
        sites: vec!["*.example.test".to_owned()],
        ..HookSpec::default()
    };
    let hook = Hook::new(hook).expect("a hook");
    let http = HttpConfig { listen: ([127, 0, 0, 1], 0).into(), ..HttpConfig::default() };
    let ports = Ports {
        store: service.store.clone(),
        tasks: Arc::new(service.engine.clone()),
        outbox: Arc::new(service.engine.outbox()),
        inbox: Arc::new(service.engine.inbox()),
        clock: service.base.clone(),
        random: service.base.clone(),
        desk: Arc::new(EmptyDesk),
    };
    let access = Access { hooks: vec![hook], ..Access::default() };
    let app = App::new(ports, access, service.endpoints.clone(), &http, Metrics::default()).expect("an app");
    Server::bind(http, app).await.expect("a free port")
}

/// Signed requests, as a CI pipeline would send them.
fn requests(now_s: u64, wait: bool) -> Vec<Vec<u8>> {
    let key = Provider::Standard.key(&Secret::new(SECRET)).expect("a key");
    let request = |number: usize| {
        let site = format!("shop-{}.example.test", number % SITES);
        let body = json!({
            "site": site,
            "ref": "refs/heads/main",
            "commit": "9f2c1d7e5b8a4c3d2e1f0a9b8c7d6e5f4a3b2c1d",
            "pipeline": { "id": number, "url": format!("https://ci.example.test/pipelines/{number}") },
            "deployment": { "steps": STEPS, "waits": wait },
        })
        .to_string();
        let signed = Provider::Standard.sign(
            std::slice::from_ref(&key),
            &format!("msg_{number}"),
            now_s,
            body.as_bytes(),
        );
        let headers: String = signed.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!(
            "POST /v1/hooks/deploy HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n{headers}\r\n{body}",
            body.len()
        )
        .into_bytes()
    };
    (0..HOOKS).map(request).collect()
}

fn task_of(body: &[u8]) -> TaskId {
    let body: Value = serde_json::from_slice(body).expect("a task's page");
    let id = body["id"].as_str().expect("a task's id");
    TaskId::try_from(id.to_owned()).expect("a task's id")
}
