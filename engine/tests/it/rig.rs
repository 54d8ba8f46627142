//! Puts an engine on the deterministic runtime, over a watched store, in front of a test world; crashes and restarts it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use kedge_engine::builder::PlanBuilder;
use kedge_engine::executor::{Engine, Limits, Parts, Recovery};
use kedge_engine::gate::{AllOpen, Gate, Gatekeeper, Wanted};
use kedge_engine::journal::keys;
use kedge_engine::outbox::{Composer, NewCallback};
use kedge_engine::plan::Plan;
use kedge_engine::ports::Spawner;
use kedge_engine::service::{
    DedupeKey, Resolution, ResolveVerb, Submission, SubmitError, Submitted, Tasks as _, VerbError,
};
use kedge_engine::step::StepKinds;
use kedge_engine::store::{ReadError, Store};
use kedge_engine::task::{Actor, EventView, TaskId, TaskState, TaskView};
use kedge_engine::testing::fakes::{FakeCustody, MemoryLogs};
use kedge_engine::testing::memory_store::MemoryStore;
use kedge_engine::testing::runtime::Runtime;
use kedge_engine::workflow::{Facts, FinishedTask, PlanCx, PlanRefusal, Workflow};
use serde_json::{Value, json};

use crate::watch::{Watch, Watched};
use crate::world::World;

type Make = Arc<dyn Fn(&Value, &PlanCx<'_>) -> Result<Plan, PlanRefusal> + Send + Sync>;
type Undo = Arc<dyn Fn(&FinishedTask<'_>) -> Plan + Send + Sync>;

pub struct Rig {
    pub runtime: Runtime,
    pub world: Arc<World>,
    pub watch: Arc<Watch>,
    pub custody: FakeCustody,
    pub store: MemoryStore,
    pub engine: Engine<World>,
    pub reads_fail: Arc<Mutex<u32>>,
    options: Options,
    logs: Arc<MemoryLogs>,
}

/// What a rig is made of.
#[derive(Clone)]
pub struct Options {
    pub limits: Limits,
    pub kinds: fn() -> StepKinds<World>,
    pub pauses: bool,
    pub workflows: Vec<(&'static str, Make, Option<Undo>)>,
    pub gates: Arc<dyn Gatekeeper>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            kinds: crate::steps::kinds,
            pauses: false,
            workflows: Vec::new(),
            gates: Arc::new(AllOpen),
        }
    }
}

impl Options {
    /// A workflow whose plan is built so.
    pub fn plan(self, name: &'static str, make: impl Fn(&mut PlanBuilder) + Send + Sync + 'static) -> Self {
        self.workflow(name, move |_, _| {
            let mut plan = PlanBuilder::new(None);
            make(&mut plan);
            Ok(plan.build()?)
        })
    }

    /// A workflow that looks at its parameters.
    pub fn workflow(
        mut self,
        name: &'static str,
        make: impl Fn(&Value, &PlanCx<'_>) -> Result<Plan, PlanRefusal> + Send + Sync + 'static,
    ) -> Self {
        self.workflows.push((name, Arc::new(make), None));
        self
    }

    /// How the last workflow is taken back.
    pub fn undone_by(mut self, undo: impl Fn(&FinishedTask<'_>) -> Plan + Send + Sync + 'static) -> Self {
        self.workflows.last_mut().unwrap().2 = Some(Arc::new(undo));
        self
    }

    /// Every task needs a second person.
    pub fn gate(mut self, gate: Gate) -> Self {
        self.gates = Arc::new(Always(gate));
        self
    }

    pub fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }
}

impl Rig {
    pub fn new(seed: u64, options: Options) -> Self {
        let runtime = Runtime::new(seed);
        let watch = Arc::new(Watch::default());
        let custody = FakeCustody::default();
        let world = Arc::new(World::new(runtime.clone(), custody.clone(), watch.clone()));
        let store = MemoryStore::new();
        let logs = Arc::new(MemoryLogs::default());
        let reads_fail = Arc::default();
        let engine = engine(&runtime, &world, &store, &options, &logs, &reads_fail);
        engine.recover().unwrap();
        Self { runtime, world, watch, custody, store, engine, reads_fail, options, logs }
    }

    /// A rig with one plan, named `plan`.
    pub fn of(make: impl Fn(&mut PlanBuilder) + Send + Sync + 'static) -> Self {
        Self::new(1, Options::default().plan("plan", make))
    }

    /// The process ends where it stands.
    pub fn crash(&mut self) {
        self.runtime.crash();
        self.store = self.store.reopen();
        self.watch.reread(&self.store);
    }

    /// The next process, on what is durable.
    pub fn boot(&mut self) -> Result<Recovery, ReadError> {
        self.engine =
            engine(&self.runtime, &self.world, &self.store, &self.options, &self.logs, &self.reads_fail);
        self.engine.recover()
    }

    pub fn restart(&mut self) -> Recovery {
        self.crash();
        self.boot().unwrap()
    }

    /// The next process knows other kinds of step.
    pub fn kinds(&mut self, kinds: fn() -> StepKinds<World>) {
        self.options.kinds = kinds;
    }

    /// The next process has other bounds.
    pub fn limits(&mut self, change: impl FnOnce(&mut Limits)) {
        change(&mut self.options.limits);
    }

    pub fn try_submit(&self, submission: Submission) -> Result<Submitted, SubmitError> {
        let engine = self.engine.clone();
        let submitted = self.runtime.block_on(async move { engine.submit(submission).await });
        submitted.expect("submit answers")
    }

    /// Submits and lets nothing else run on purpose.
    pub fn submit(&self, workflow: &str) -> TaskId {
        match self.try_submit(submission(workflow)).unwrap() {
            Submitted::Created(view) => view.id,
            Submitted::Duplicate(view) => panic!("{} is a duplicate", view.id),
        }
    }

    /// Submits the plan of [`Rig::of`] and runs until nothing happens any more.
    pub fn run(&self) -> TaskId {
        let task = self.submit("plan");
        self.settle();
        task
    }

    pub fn settle(&self) {
        self.runtime.settle();
        self.sound();
    }

    /// No rule was broken.
    pub fn sound(&self) {
        let broken = self.world.broken();
        assert!(broken.is_empty(), "broken: {broken:#?}\nacts: {:#?}", self.world.acts());
    }

    /// Runs until this holds.
    pub fn until(&self, what: &str, holds: impl FnMut() -> bool) {
        let stop = self.runtime.run(100_000, holds);
        assert_eq!(stop, kedge_engine::testing::runtime::Stop::Done, "never: {what}");
    }

    pub fn view(&self, task: &TaskId) -> TaskView {
        self.engine.task(task).unwrap().expect("the task is known")
    }

    pub fn state(&self, task: &TaskId) -> TaskState {
        self.view(task).state
    }

    pub fn events(&self, task: &TaskId) -> Vec<EventView> {
        self.engine.events(task, 0, 1000).unwrap()
    }

    /// The journal in short: `attempt_started a 1`.
    pub fn story(&self, task: &TaskId) -> Vec<String> {
        let events = self.events(task);
        events
            .iter()
            .map(|event| {
                let text = |field: &str| match &event.data[field] {
                    Value::Null => String::new(),
                    Value::String(text) => format!(" {text}"),
                    other => format!(" {other}"),
                };
                format!("{}{}{}", event.kind, text("step"), text("attempt"))
            })
            .collect()
    }

    pub fn cancel(&self, task: &TaskId) -> Result<TaskView, VerbError> {
        let (engine, task) = (self.engine.clone(), task.clone());
        self.runtime
            .block_on(async move { engine.cancel(&task, actor(), "on second thoughts".to_owned()).await })
            .unwrap()
    }

    /// Somebody's yes or no.
    pub fn decide(&self, task: &TaskId, approve: bool, who: &str) -> Result<TaskView, VerbError> {
        let (engine, task) = (self.engine.clone(), task.clone());
        let actor = Actor { name: who.to_owned(), via: "http".to_owned() };
        let reason = "looked at".to_owned();
        self.runtime.block_on(async move { engine.decide(&task, approve, reason, actor).await }).unwrap()
    }

    pub fn retry(&self, task: &TaskId) -> Result<TaskView, VerbError> {
        let (engine, task) = (self.engine.clone(), task.clone());
        self.runtime.block_on(async move { engine.retry(&task, actor()).await }).unwrap()
    }

    pub fn undo(&self, task: &TaskId) -> Result<TaskView, VerbError> {
        let (engine, task) = (self.engine.clone(), task.clone());
        self.runtime.block_on(async move { engine.undo(&task, actor()).await }).unwrap()
    }

    pub fn resolve(&self, task: &TaskId, step: &str, verb: ResolveVerb) -> Result<TaskView, VerbError> {
        let (engine, task) = (self.engine.clone(), task.clone());
        let resolution = Resolution { step: step.to_owned(), verb, reason: "seen by hand".to_owned() };
        self.runtime.block_on(async move { engine.resolve(&task, resolution, actor()).await }).unwrap()
    }

    /// Callbacks queued, newest first.
    pub fn callbacks(&self) -> Vec<kedge_engine::outbox::Callback> {
        use kedge_engine::outbox::Outbox as _;
        self.engine.outbox().callbacks(None, 1000).unwrap()
    }

    /// An engine on another store, not recovered.
    pub fn engine_on(&self, store: Arc<dyn Store>) -> Engine<World> {
        let registry = Registry(self.store.clone());
        Engine::new(parts(&self.runtime, &self.world, store, registry, &self.options, &self.logs))
    }

    /// The next process, whose futures are run by somebody else.
    pub fn boot_on(&mut self, spawner: Arc<dyn Spawner>) -> Recovery {
        let registry = Registry(self.store.clone());
        let store = Arc::new(self.store.clone());
        let parts = parts(&self.runtime, &self.world, store, registry, &self.options, &self.logs);
        self.engine = Engine::new(Parts { spawner, ..parts });
        self.engine.recover().unwrap()
    }

    pub fn failed(&self) -> bool {
        matches!(self.engine.health(), kedge_engine::store::Health::Failed(_))
    }
}

pub fn actor() -> Actor {
    Actor { name: "token:test".to_owned(), via: "http".to_owned() }
}

pub fn submission(workflow: &str) -> Submission {
    Submission {
        workflow: workflow.to_owned(),
        params: json!({}),
        actor: actor(),
        correlation_id: None,
        callback: None,
        not_before: None,
        priority: 0,
        trace: None,
        dedupe: Vec::new(),
        if_plan: None,
    }
}

pub fn keyed(workflow: &str, key: &str, fingerprint: &str) -> Submission {
    let dedupe = DedupeKey {
        scope: "token:test POST /v1/tasks".to_owned(),
        key: key.to_owned(),
        fingerprint: Some(fingerprint.to_owned()),
    };
    Submission { dedupe: vec![dedupe], ..submission(workflow) }
}

fn engine(
    runtime: &Runtime,
    world: &Arc<World>,
    store: &MemoryStore,
    options: &Options,
    logs: &Arc<MemoryLogs>,
    reads_fail: &Arc<Mutex<u32>>,
) -> Engine<World> {
    let watched = Watched {
        store: store.clone(),
        watch: world.watch.clone(),
        pauses: options.pauses.then(|| runtime.clone()),
        reads_fail: reads_fail.clone(),
    };
    Engine::new(parts(runtime, world, Arc::new(watched), Registry(store.clone()), options, logs))
}

fn parts(
    runtime: &Runtime,
    world: &Arc<World>,
    store: Arc<dyn Store>,
    registry: Registry,
    options: &Options,
    logs: &Arc<MemoryLogs>,
) -> Parts<World> {
    let workflows = options.workflows.iter().map(|(name, make, undo)| {
        Box::new(Scripted { name, make: make.clone(), undo: undo.clone() }) as Box<dyn Workflow>
    });
    Parts {
        store,
        clock: Arc::new(runtime.clone()),
        spawner: Arc::new(runtime.clone()),
        random: Arc::new(runtime.clone()),
        logs: logs.clone(),
        custody: Arc::new(world.custody.clone()),
        composer: Arc::new(Tell),
        facts: Arc::new(registry),
        kinds: (options.kinds)(),
        workflows: workflows.collect(),
        ports: world.clone(),
        gates: options.gates.clone(),
        limits: options.limits,
    }
}

struct Always(Gate);

impl Gatekeeper for Always {
    fn gate(&self, _: Wanted<'_>) -> Option<Gate> {
        Some(self.0.clone())
    }
}

struct Scripted {
    name: &'static str,
    make: Make,
    undo: Option<Undo>,
}

impl Workflow for Scripted {
    fn name(&self) -> &'static str {
        self.name
    }
    fn title(&self) -> &'static str {
        "does what the test says"
    }
    fn schema(&self) -> Value {
        json!({ "type": "object" })
    }
    fn example(&self) -> Value {
        json!({})
    }
    fn plan(&self, params: &Value, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        (self.make)(params, cx)
    }
    fn undo(&self, finished: &FinishedTask<'_>, _cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        match &self.undo {
            Some(undo) => Ok(undo(finished)),
            None => Err(PlanRefusal::Refused("it cannot be taken back".to_owned())),
        }
    }
}

/// One callback for each state that a task gets into.
struct Tell;

impl Composer for Tell {
    fn compose(&self, task: &TaskView, callback: Option<&Value>) -> Vec<NewCallback> {
        let event = format!("task.{}", task.state.as_str());
        let body = json!({ "type": event, "task": task.id, "callback": callback }).to_string();
        vec![NewCallback { endpoint: "ci".to_owned(), event, body }]
    }
}

/// The registry as the steps have written it.
struct Registry(MemoryStore);

impl Facts for Registry {
    fn record(&self, family: &str, name: &str) -> Result<Option<Value>, ReadError> {
        let bytes = self.0.get(&keys::record(family, name))?;
        Ok(bytes.map(|bytes| serde_json::from_slice(&bytes).unwrap()))
    }
    fn records(&self, family: &str) -> Result<Vec<(String, Value)>, ReadError> {
        let prefix = keys::records(family);
        let rows = self.0.scan(&prefix, None, 1000)?;
        let name = |key: &[u8]| String::from_utf8_lossy(&key[prefix.len()..]).into_owned();
        Ok(rows.iter().map(|(key, value)| (name(key), serde_json::from_slice(value).unwrap())).collect())
    }
}

/// Outputs by step, from the task's page: for looking at views only.
pub fn steps(view: &TaskView) -> BTreeMap<&str, kedge_engine::task::StepStateView> {
    view.steps.iter().map(|step| (step.name.as_str(), step.state)).collect()
}
