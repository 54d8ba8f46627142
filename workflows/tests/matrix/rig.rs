//! One run of a task: an engine on the deterministic runtime, a store in memory and a world of fakes, with the troubles of a case. When
//! the process dies, nothing of that life writes any more, and the next one begins on what is durable.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use kedge_engine::executor::{Engine, Limits, Parts};
use kedge_engine::gate::AllOpen;
use kedge_engine::journal::keys;
use kedge_engine::outbox::{Composer, NewCallback};
use kedge_engine::ports::Clock as _;
use kedge_engine::service::{DedupeKey, Submission, Submitted, Tasks as _};
use kedge_engine::store::{Batch, BlobId, CommitError, Health, ReadError, Store};
use kedge_engine::task::{Actor, Incident, Millis, TaskId, TaskState, TaskView};
use kedge_engine::testing::fakes::{FakeCustody, MemoryLogs};
use kedge_engine::testing::meddle::{Call, Meddler, Trouble};
use kedge_engine::testing::memory_store::{Crash, Fault, MemoryStore, Moment, Snapshot};
use kedge_engine::testing::runtime::Runtime;
use kedge_engine::workflow::Facts;
use kedge_workflows::ports::{PortError, World};
use kedge_workflows::testing::{FakeWorld, Faults, Point};
use kedge_workflows::{step_kinds, workflows};
use serde_json::Value;

/// Most polls of one life: a whole task takes some hundreds, a hundred attempts of an undo some thousands.
const MAX_POLLS: u64 = 200_000;

/// What goes wrong in one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Case {
    /// Decides in which order what is ready runs.
    pub(crate) seed: u64,
    /// The call at this point fails once.
    pub(crate) fail: Option<(usize, PortError)>,
    /// From this point on, calls that begin so fail as long as the task is not stuck.
    pub(crate) down: Option<(usize, &'static str)>,
    /// Calls of steps that go wrong.
    pub(crate) steps: Vec<StepTrouble>,
    /// Somebody cancels the task after so many commits.
    pub(crate) cancel: Option<u64>,
    /// When the process dies, life by life.
    pub(crate) deaths: Vec<Death>,
}

/// Calls of a step that go wrong.
#[derive(Clone, Debug)]
pub(crate) struct StepTrouble {
    pub(crate) step: String,
    pub(crate) call: Call,
    pub(crate) attempts: RangeInclusive<u32>,
    pub(crate) trouble: Trouble,
}

/// Where the process dies, counted from the beginning of its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// At a point of the ports.
    Point(usize),
    /// At a write of the journal.
    Commit(u64, Crash),
}

/// A world with a history.
#[derive(Clone)]
pub(crate) struct Base {
    pub(crate) world: FakeWorld,
    pub(crate) journal: Snapshot,
    pub(crate) now: Millis,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Task { workflow: &'static str, params: Value },
    Undo(TaskId),
}

/// How a run has ended.
pub(crate) struct End {
    pub(crate) rig: Rig,
    pub(crate) view: TaskView,
    /// The incident, if a person had to help.
    pub(crate) incident: Option<Incident>,
    /// Deaths met.
    pub(crate) died: usize,
    /// What each life passed: points of the ports, commits.
    pub(crate) lives: Vec<(usize, u64)>,
    /// Whoever saw what nobody should see.
    pub(crate) scandal: Option<String>,
}

pub(crate) struct Rig {
    pub(crate) world: FakeWorld,
    pub(crate) runtime: Runtime,
    pub(crate) store: MemoryStore,
    pub(crate) engine: Engine<dyn World>,
    pub(crate) custody: FakeCustody,
    meddler: Option<Meddler>,
    meddling: Arc<AtomicBool>,
    born: (usize, u64),
}

impl Rig {
    pub(crate) fn new(base: &Base, case: &Case) -> Self {
        let (world, runtime) = (base.world.fork(), Runtime::new(case.seed));
        runtime.set_clock(base.now);
        let store = MemoryStore::from_snapshot(base.journal.clone());
        let meddling = Arc::new(AtomicBool::new(true));
        let meddler = (!case.steps.is_empty()).then(|| meddler(case.steps.clone(), meddling.clone()));
        let custody = FakeCustody::default();
        let engine = engine(&world, &runtime, &store, &custody, meddler.clone());
        let rig = Self { world, runtime, store, engine, custody, meddler, meddling, born: (0, 0) };
        rig.engine.recover().unwrap();
        rig
    }

    /// What is now, for tasks to come.
    pub(crate) fn base(&self) -> Base {
        Base { world: self.world.fork(), journal: self.store.snapshot(), now: self.runtime.now() + 1000 }
    }

    pub(crate) fn points(&self) -> Vec<Point> {
        self.world.faults().log()
    }

    fn dead(&self) -> bool {
        self.world.faults().stopped() || matches!(self.engine.health(), Health::Failed(_))
    }

    fn arm(&self, death: Option<&Death>) {
        match death {
            None => {}
            Some(Death::Point(n)) => self.world.faults().stop_at(self.world.faults().passed() + n),
            Some(Death::Commit(n, how)) => {
                let at = Moment::Commit(self.store.counts().commits + n);
                self.store.inject(Fault { at, how: *how, why: "the process dies here".to_owned() });
            }
        }
    }

    fn lived(&self) -> (usize, u64) {
        (self.world.faults().passed() - self.born.0, self.store.counts().commits - self.born.1)
    }

    /// The process ends where it stands; the next one takes over.
    fn restart(&mut self) {
        self.runtime.crash();
        self.world.faults().resume();
        self.store = self.store.reopen();
        self.born = (self.world.faults().passed(), 0);
        self.engine = engine(&self.world, &self.runtime, &self.store, &self.custody, self.meddler.clone());
        let recovery = self.engine.recover().unwrap();
        assert!(recovery.quarantined.is_empty(), "{recovery:?}");
    }

    /// Asks, with a key that makes asking again harmless; `None` when the process died meanwhile.
    fn ask(&self, ask: &Ask) -> Option<TaskId> {
        let (engine, ask) = (self.engine.clone(), ask.clone());
        let (sender, receiver) = futures::channel::oneshot::channel();
        self.runtime.spawn_here(async move {
            let answer = match ask {
                Ask::Task { workflow, params } => match engine.submit(submission(workflow, params)).await {
                    Ok(Submitted::Created(view) | Submitted::Duplicate(view)) => Ok(view.id),
                    Err(error) => Err(error.to_string()),
                },
                Ask::Undo(task) => match engine.undo(&task, actor()).await {
                    Ok(view) => Ok(view.id),
                    Err(error) => Err(error.to_string()),
                },
            };
            // Nobody listens any more when the process died first.
            drop(sender.send(answer));
        });
        let (mut receiver, mut answer) = (receiver, None);
        self.runtime.run(MAX_POLLS, || {
            answer = answer.take().or_else(|| receiver.try_recv().ok().flatten());
            answer.is_some() || self.dead()
        });
        match answer {
            Some(Ok(task)) => Some(task),
            _ if self.dead() => None,
            other => panic!("the task is not accepted: {other:?}"),
        }
    }

    /// Asks and lets nothing else happen; why not, if it is refused.
    fn ask_only(&self, ask: &Ask) -> Result<TaskId, String> {
        let (engine, ask) = (self.engine.clone(), ask.clone());
        let answer = self.runtime.block_on(async move {
            match ask {
                Ask::Task { workflow, params } => {
                    let mut submission = submission(workflow, params);
                    submission.dedupe.clear();
                    match engine.submit(submission).await {
                        Ok(Submitted::Created(view) | Submitted::Duplicate(view)) => Ok(view.id),
                        Err(error) => Err(error.to_string()),
                    }
                }
                Ask::Undo(task) => match engine.undo(&task, actor()).await {
                    Ok(view) => Ok(view.id),
                    Err(error) => Err(error.to_string()),
                },
            }
        });
        answer.expect("an answer")
    }

    /// The task that was accepted, although nobody was told.
    fn newest(&self, since: Millis) -> Option<TaskId> {
        let filter =
            kedge_engine::service::TaskFilter { since: Some(since), limit: 200, ..Default::default() };
        // What it has started itself came later.
        self.engine.tasks(&filter).unwrap().tasks.last().map(|task| task.id.clone())
    }

    /// A task that is stuck: the one that was asked for, or one that it has started.
    fn stuck(&self, since: Millis) -> Option<TaskView> {
        let state = Some(TaskState::Stuck);
        let filter =
            kedge_engine::service::TaskFilter { since: Some(since), state, limit: 1, ..Default::default() };
        self.engine.tasks(&filter).unwrap().tasks.into_iter().next()
    }

    fn view(&self, task: &TaskId) -> TaskView {
        self.engine.task(task).unwrap().expect("the task is known")
    }

    fn cancel(&self, task: &TaskId) {
        let (engine, task) = (self.engine.clone(), task.clone());
        self.runtime.spawn_here(async move {
            // Refused after the pivot and at the end: that is fine here.
            drop(engine.cancel(&task, actor(), "on second thoughts".to_owned()).await);
        });
    }

    /// Ends all trouble, and tries what is stuck again.
    fn heal(&self, task: &TaskId) {
        self.world.faults().resume();
        self.meddling.store(false, Ordering::Relaxed);
        let (engine, task) = (self.engine.clone(), task.clone());
        let retried = self.runtime.block_on(async move { engine.retry(&task, actor()).await });
        retried.expect("an answer").expect("a stuck task can be tried again");
    }

    /// The journal in short.
    pub(crate) fn story(&self, task: &TaskId) -> Vec<String> {
        let events = self.engine.events(task, 0, 1000).unwrap();
        let text = |data: &Value, field: &str| match &data[field] {
            Value::Null => String::new(),
            Value::String(text) => format!(" {text}"),
            other => format!(" {other}"),
        };
        let told = |event: &kedge_engine::task::EventView| {
            let fields = ["step", "attempt", "error", "verdict", "why"].map(|field| text(&event.data, field));
            format!("{}{}", event.kind, fields.concat())
        };
        events.iter().map(told).collect()
    }

    /// All records of the registry.
    pub(crate) fn records(&self) -> Vec<(String, Value)> {
        let rows = self.store.scan(b"r/", None, 10_000).unwrap();
        let name = |key: &[u8]| String::from_utf8_lossy(&key[2..]).into_owned();
        rows.iter().map(|(key, value)| (name(key), serde_json::from_slice(value).unwrap())).collect()
    }
}

/// Two tasks, asked for one after the other before either has begun.
pub(crate) fn both(base: &Base, asks: [&Ask; 2]) -> (Rig, [TaskView; 2]) {
    let rig = Rig::new(base, &Case::default());
    let ids = asks.map(|ask| rig.ask_only(ask).expect("the task is accepted"));
    rig.runtime.run(MAX_POLLS, || false);
    let views = ids.map(|id| rig.view(&id));
    (rig, views)
}

/// Why nobody begins with this.
pub(crate) fn refusal(base: &Base, ask: &Ask) -> String {
    Rig::new(base, &Case::default()).ask_only(ask).expect_err("the task is refused")
}

/// Plays a case to its end. `watch` looks at the world between any two things that happen.
pub(crate) fn play(base: &Base, ask: &Ask, case: &Case, watch: &dyn Fn(&FakeWorld) -> Option<String>) -> End {
    let mut rig = Rig::new(base, case);
    if let Some((at, error)) = &case.fail {
        rig.world.faults().fail_at(*at, error.clone());
    }
    if let Some((at, op)) = case.down {
        rig.world.faults().down_from(at, op, PortError::Unavailable(format!("{op} is down")));
    }
    let mut deaths = case.deaths.iter();
    rig.arm(deaths.next());
    let (mut task, mut lives, mut died, mut scandal) = (None, Vec::new(), 0, None);
    let mut cancel = case.cancel;
    loop {
        if task.is_none() {
            task = rig.newest(base.now).or_else(|| rig.ask(ask));
        }
        rig.runtime.run(MAX_POLLS, || {
            scandal = scandal.take().or_else(|| watch(&rig.world));
            rig.dead() || cancel.is_some_and(|n| rig.lived().1 >= n)
        });
        lives.push(rig.lived());
        if rig.dead() {
            rig.restart();
            died += 1;
            rig.arm(deaths.next());
        } else if cancel.take().is_some() {
            rig.cancel(task.as_ref().expect("accepted"));
        } else {
            break;
        }
    }
    let task = task.expect("accepted");
    let (mut incident, mut healed) = (None, Vec::new());
    while let Some(stuck) = rig.stuck(base.now) {
        let again = healed.contains(&stuck.id);
        assert!(!again, "stuck again after everything is well: {:#?}", rig.story(&stuck.id));
        incident = stuck.incident;
        rig.heal(&stuck.id);
        healed.push(stuck.id);
        rig.runtime.run(MAX_POLLS, || {
            scandal = scandal.take().or_else(|| watch(&rig.world));
            false
        });
    }
    let view = rig.view(&task);
    End { rig, view, incident, died, lives, scandal }
}

fn meddler(troubles: Vec<StepTrouble>, meddling: Arc<AtomicBool>) -> Meddler {
    Arc::new(move |step, call, attempt| {
        let meant = |trouble: &&StepTrouble| {
            trouble.step == step && trouble.call == call && trouble.attempts.contains(&attempt)
        };
        let trouble = troubles.iter().find(meant).map(|trouble| trouble.trouble.clone());
        trouble.filter(|_| meddling.load(Ordering::Relaxed))
    })
}

fn actor() -> Actor {
    Actor { name: "token:test".to_owned(), via: "http".to_owned() }
}

fn submission(workflow: &str, params: Value) -> Submission {
    let key = DedupeKey { scope: "test".to_owned(), key: "the request".to_owned(), fingerprint: None };
    Submission {
        workflow: workflow.to_owned(),
        params,
        actor: actor(),
        correlation_id: None,
        callback: None,
        not_before: None,
        priority: 0,
        trace: None,
        dedupe: vec![key],
        if_plan: None,
    }
}

/// Runs a task that nothing happens to.
pub(crate) fn quietly(base: &Base, ask: &Ask) -> (Base, TaskView) {
    let end = play(base, ask, &Case::default(), &|_| None);
    let story = end.rig.story(&end.view.id);
    assert_eq!(end.view.state, TaskState::Succeeded, "{ask:?}: {story:#?}");
    // Its key is free again for the next one.
    let mut batch = Batch::new();
    for (key, _) in end.rig.store.scan(b"x/", None, 100).unwrap() {
        batch.delete(key);
    }
    end.rig.store.commit(batch).now_or_never().unwrap().unwrap();
    (end.rig.base(), end.view)
}

fn engine(
    world: &FakeWorld,
    runtime: &Runtime,
    store: &MemoryStore,
    custody: &FakeCustody,
    meddler: Option<Meddler>,
) -> Engine<dyn World> {
    let kinds = step_kinds();
    let kinds = match meddler {
        Some(meddler) => kinds.meddled(meddler),
        None => kinds,
    };
    Engine::new(Parts {
        store: Arc::new(Mortal { store: store.clone(), faults: world.faults().clone() }),
        clock: Arc::new(runtime.clone()),
        spawner: Arc::new(runtime.clone()),
        random: Arc::new(runtime.clone()),
        logs: Arc::new(MemoryLogs::default()),
        custody: Arc::new(custody.clone()),
        composer: Arc::new(Silent),
        facts: Arc::new(Known { world: world.clone(), store: store.clone() }),
        kinds,
        workflows: workflows(),
        ports: Arc::new(world.clone()),
        gates: Arc::new(AllOpen),
        limits: Limits::default(),
    })
}

struct Silent;

impl Composer for Silent {
    fn compose(&self, _: &TaskView, _: Option<&Value>) -> Vec<NewCallback> {
        Vec::new()
    }
}

/// The configuration of the world, and the registry as the steps have written it.
struct Known {
    world: FakeWorld,
    store: MemoryStore,
}

impl Facts for Known {
    fn record(&self, family: &str, name: &str) -> Result<Option<Value>, ReadError> {
        Ok(self.records(family)?.into_iter().find(|(known, _)| known == name).map(|(_, value)| value))
    }

    fn records(&self, family: &str) -> Result<Vec<(String, Value)>, ReadError> {
        if let Some(records) = self.world.configured(family) {
            return Ok(records);
        }
        let prefix = keys::records(family);
        let name = |key: &[u8]| String::from_utf8_lossy(&key[prefix.len()..]).into_owned();
        let rows = self.store.scan(&prefix, None, 10_000)?;
        Ok(rows.iter().map(|(key, value)| (name(key), serde_json::from_slice(value).unwrap())).collect())
    }
}

/// A store that takes nothing more when the process has died at a point of the ports.
struct Mortal {
    store: MemoryStore,
    faults: Faults,
}

impl Mortal {
    fn alive(&self) -> Result<(), CommitError> {
        if self.faults.stopped() {
            Err(CommitError::Failed("the process is dead".to_owned()))
        } else {
            Ok(())
        }
    }
}

impl Store for Mortal {
    fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<(), CommitError>> {
        let (store, faults) = (self.store.clone(), self.faults.clone());
        async move {
            Self { store: store.clone(), faults }.alive()?;
            store.commit(batch).await
        }
        .boxed()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        self.store.get(key)
    }

    fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, ReadError> {
        self.store.scan(prefix, after, limit)
    }

    fn scan_back(
        &self,
        prefix: &[u8],
        before: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, ReadError> {
        self.store.scan_back(prefix, before, limit)
    }

    fn put_blob(&self, bytes: Vec<u8>) -> BoxFuture<'static, Result<BlobId, CommitError>> {
        let (store, faults) = (self.store.clone(), self.faults.clone());
        async move {
            Self { store: store.clone(), faults }.alive()?;
            store.put_blob(bytes).await
        }
        .boxed()
    }

    fn get_blob(&self, id: &BlobId) -> Result<Option<Vec<u8>>, ReadError> {
        self.store.get_blob(id)
    }

    fn delete_blob(&self, id: &BlobId) -> BoxFuture<'static, Result<(), CommitError>> {
        let (store, faults, id) = (self.store.clone(), self.faults.clone(), id.clone());
        async move {
            Self { store: store.clone(), faults }.alive()?;
            store.delete_blob(&id).await
        }
        .boxed()
    }

    fn census(&self) -> BoxFuture<'static, Result<Vec<BlobId>, CommitError>> {
        self.store.census()
    }

    fn remove_unused(&self, unused: Vec<BlobId>) -> BoxFuture<'static, Result<u64, CommitError>> {
        self.store.remove_unused(unused)
    }

    fn health(&self) -> Health {
        self.store.health()
    }
}
