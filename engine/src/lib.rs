//! The saga core: risky work as a plan of steps that is done, or taken back, whatever fails and whenever the process dies.
//!
//! # The idea on one page
//! A **task** is one durable execution of a **plan**: a DAG of **steps**, built by a [`workflow`], stored whole with the task. A step has
//! a class: a *query* looks, a *compensable* one can be undone, the *pivot* decides, a *retriable* one comes after it. Before the pivot a
//! failure undoes everything, in reverse order, the failed step too; after it the task only goes forward.
//!
//! Nothing happens that the journal does not know first. A task's [`event`]s are its only state: [`machine::Machine::apply`] folds them,
//! and is the only code that changes a task; [`machine::Machine::next`] says what should be in flight. The executor does just that, over
//! and over: commit what has happened and what begins now, in one batch; start it; wait. After a crash the same lines run again:
//! read the events, apply them, ask what is next. There is no second path for recovery.
//!
//! An attempt whose result is unknown is **in doubt**: its **probe** looks at the world and says whether to adopt the effect, to run again,
//! or to undo first. What cannot be told, or cannot be undone, is **stuck**: it keeps its locks and an incident says why and what a person
//! can do. **Fingerprints** before the first effect and after the last undo prove that a rollback was one.
//!
//! # A task of two steps
//! ```
//! use std::collections::BTreeMap;
//! use std::sync::{Arc, Mutex};
//!
//! use kedge_engine::builder::PlanBuilder;
//! use kedge_engine::context::Cx;
//! use kedge_engine::executor::{Engine, Limits, Parts};
//! use kedge_engine::gate::AllOpen;
//! use kedge_engine::outbox::{Composer, NewCallback};
//! use kedge_engine::plan::Plan;
//! use kedge_engine::service::{Submission, Submitted, Tasks};
//! use kedge_engine::step::{Compensable, Compensate, Step, StepError, StepKinds};
//! use kedge_engine::store::ReadError;
//! use kedge_engine::task::{Actor, TaskState, TaskView};
//! use kedge_engine::testing::fakes::{FakeCustody, MemoryLogs};
//! use kedge_engine::testing::memory_store::MemoryStore;
//! use kedge_engine::testing::runtime::Runtime;
//! use kedge_engine::workflow::{Facts, PlanCx, PlanRefusal, Workflow};
//! use serde::{Deserialize, Serialize};
//! use serde_json::{Value, json};
//!
//! // What the steps act on. A real one has ports: files, a database, a web server.
//! type World = Mutex<BTreeMap<String, String>>;
//!
//! // A step is data: what it creates is named in its fields, so that it can run, and be undone, again.
//! #[derive(Serialize, Deserialize)]
//! struct Create {
//!     path: String,
//!     text: String,
//! }
//!
//! impl Step for Create {
//!     type Ports = World;
//!     type Output = ();
//!     type Mode = Compensable;
//!     const KIND: &'static str = "create";
//!
//!     fn title(&self) -> String {
//!         format!("create {}", self.path)
//!     }
//!     async fn run(&self, cx: &Cx<'_, World>) -> Result<(), StepError> {
//!         if self.text.is_empty() {
//!             return Err(StepError::fatal("nothing to write"));
//!         }
//!         cx.ports.lock().unwrap().insert(self.path.clone(), self.text.clone());
//!         Ok(())
//!     }
//! }
//!
//! impl Compensate for Create {
//!     fn undo_title(&self) -> String {
//!         format!("remove {}", self.path)
//!     }
//!     async fn undo(&self, cx: &Cx<'_, World>) -> Result<(), StepError> {
//!         cx.ports.lock().unwrap().remove(&self.path);
//!         Ok(())
//!     }
//! }
//!
//! // A workflow is a name and a pure function from parameters to a plan.
//! struct Publish;
//!
//! impl Workflow for Publish {
//!     fn name(&self) -> &'static str {
//!         "publish"
//!     }
//!     fn title(&self) -> &'static str {
//!         "writes a page and its index"
//!     }
//!     fn schema(&self) -> Value {
//!         json!({ "type": "object", "required": ["text"] })
//!     }
//!     fn example(&self) -> Value {
//!         json!({ "text": "hello" })
//!     }
//!     fn plan(&self, params: &Value, _: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
//!         let text = params["text"].as_str().unwrap_or_default();
//!         let mut plan = PlanBuilder::new(Some("shop.test"));
//!         plan.lock("site shop.test", false);
//!         let page = Create { path: "page".to_owned(), text: "a page".to_owned() };
//!         let page = plan.step("page", page, &[]);
//!         plan.step("index", Create { path: "index".to_owned(), text: text.to_owned() }, &[&page]);
//!         Ok(plan.build()?)
//!     }
//! }
//! # struct NoCallbacks;
//! # impl Composer for NoCallbacks {
//! #     fn compose(&self, _: &TaskView, _: Option<&Value>) -> Vec<NewCallback> { Vec::new() }
//! # }
//! # struct NoFacts;
//! # impl Facts for NoFacts {
//! #     fn record(&self, _: &str, _: &str) -> Result<Option<Value>, ReadError> { Ok(None) }
//! #     fn records(&self, _: &str) -> Result<Vec<(String, Value)>, ReadError> { Ok(Vec::new()) }
//! # }
//!
//! // Everything comes in from outside; here a deterministic runtime, a store in memory and fakes.
//! let runtime = Runtime::new(1);
//! let world = Arc::new(World::default());
//! let engine = Engine::new(Parts {
//!     store: Arc::new(MemoryStore::new()),
//!     clock: Arc::new(runtime.clone()),
//!     spawner: Arc::new(runtime.clone()),
//!     random: Arc::new(runtime.clone()),
//!     logs: Arc::new(MemoryLogs::default()),
//!     custody: Arc::new(FakeCustody::default()),
//!     composer: Arc::new(NoCallbacks),
//!     facts: Arc::new(NoFacts),
//!     kinds: StepKinds::new().with::<Create>(),
//!     workflows: vec![Box::new(Publish)],
//!     ports: world.clone(),
//!     gates: Arc::new(AllOpen),
//!     limits: Limits::default(),
//! });
//! engine.recover().unwrap();
//!
//! let submit = |text: &str| {
//!     let submission = Submission {
//!         workflow: "publish".to_owned(),
//!         params: json!({ "text": text }),
//!         actor: Actor { name: "token:ci".to_owned(), via: "http".to_owned() },
//!         correlation_id: None,
//!         callback: None,
//!         not_before: None,
//!         priority: 0,
//!         trace: None,
//!         dedupe: Vec::new(),
//!         if_plan: None,
//!     };
//!     let engine = engine.clone();
//!     let Some(Ok(Submitted::Created(task))) = runtime.block_on(async move { engine.submit(submission).await })
//!     else { panic!("not accepted") };
//!     runtime.settle();
//!     task.id
//! };
//!
//! // The second step fails for good: the first one is undone.
//! let failed = engine.task(&submit("")).unwrap().unwrap();
//! assert_eq!(failed.state, TaskState::RolledBack);
//! assert_eq!(failed.error.unwrap().detail, "nothing to write");
//! assert!(world.lock().unwrap().is_empty());
//!
//! let done = engine.task(&submit("hello")).unwrap().unwrap();
//! assert_eq!(done.state, TaskState::Succeeded);
//! assert_eq!(world.lock().unwrap().len(), 2);
//! ```
//!
//! # Where things are
//! | to see | look into |
//! | --- | --- |
//! | where a task's state changes | `machine/apply` |
//! | what is started when | `machine/next` |
//! | how it is written and run | `executor`: `driver` (the loop), `begin`, `flight`, `landing`, `commit` |
//! | how it is stored | [`journal`] over the port [`store::Store`] |
//! | when a second person is asked | [`gate`] |
//! | what a step and a plan are | [`step`], [`builder`], [`plan`] |
//! | what faces may ask | [`service::Tasks`] |
//!
//! Pure but for the executor, which awaits ports: no runtime, disk, network or clock of its own.

pub mod builder;
pub mod context;
pub mod event;
pub mod executor;
pub mod gate;
pub mod inbox;
pub mod journal;
mod locks;
pub mod machine;
#[doc(hidden)]
pub mod mutants;
pub mod outbox;
pub mod plan;
pub mod ports;
pub mod proof;
pub mod retry;
pub mod sabotage;
pub mod service;
mod slots;
pub mod step;
pub mod store;
pub mod task;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod workflow;
