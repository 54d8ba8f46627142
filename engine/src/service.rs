//! What the engine offers to its faces (HTTP, command line, chat): one trait, so that they need not know ports or workflows.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::inbox::Received;
use crate::store::{Health, ReadError};
use crate::task::{Actor, EventView, Millis, StepView, TaskId, TaskState, TaskView};

/// Everything a face can ask of the engine. Implemented by [`crate::executor::Engine`].
pub trait Tasks: Send + Sync + 'static {
    /// The workflows there are, by name.
    fn workflows(&self) -> Vec<WorkflowInfo>;

    /// The plan that a submission would get now. Touches nothing.
    fn preview(&self, workflow: &str, params: &Value) -> Result<PlanView, SubmitError>;

    /// Accepts a task: when it resolves to `Created`, the task is durable. Checked in this order: duplicates, parameters, plan,
    /// plan hash, room for new work.
    fn submit(&self, submission: Submission) -> BoxFuture<'_, Result<Submitted, SubmitError>>;

    /// The same for a message that came in: where it becomes a task, it is kept in the inbox by the same write. Nothing is kept of it
    /// otherwise.
    fn submit_received(
        &self,
        submission: Submission,
        received: Received,
    ) -> BoxFuture<'_, Result<Submitted, SubmitError>>;

    /// A task.
    fn task(&self, id: &TaskId) -> Result<Option<TaskView>, ReadError>;

    /// Tasks, newest first.
    fn tasks(&self, filter: &TaskFilter) -> Result<TaskPage, ReadError>;

    /// Up to `limit` events of a task with a sequence above `after`.
    fn events(&self, id: &TaskId, after: u64, limit: usize) -> Result<Vec<EventView>, ReadError>;

    /// Resolves when the task has an event above `sequence` or progress above `progress_version`; at once when it has already,
    /// or when the task is unknown. Never resolves for a finished task without new events: ask `task` first.
    fn changed(&self, id: &TaskId, sequence: u64, progress_version: u64) -> BoxFuture<'static, ()>;

    /// A step's log, masked and bounded.
    fn log(&self, id: &TaskId, step: &str) -> Result<Option<String>, ReadError>;

    /// Asks for rollback. Refused after the pivot was begun and at the end.
    fn cancel(&self, id: &TaskId, actor: Actor, reason: String)
    -> BoxFuture<'_, Result<TaskView, VerbError>>;

    /// A stuck task: tries its stuck steps again. A rolled back or canceled one: submits the same request as a new task.
    fn retry(&self, id: &TaskId, actor: Actor) -> BoxFuture<'_, Result<TaskView, VerbError>>;

    /// Takes back a finished task within its hold: a new task, which is returned.
    fn undo(&self, id: &TaskId, actor: Actor) -> BoxFuture<'_, Result<TaskView, VerbError>>;

    /// A second person's yes or no to a task that asks for one. Refused to whoever asked for the task, and to those it does not ask.
    fn decide(
        &self,
        id: &TaskId,
        approve: bool,
        reason: String,
        actor: Actor,
    ) -> BoxFuture<'_, Result<TaskView, VerbError>>;

    /// Settles a stuck step.
    fn resolve(
        &self,
        id: &TaskId,
        resolution: Resolution,
        actor: Actor,
    ) -> BoxFuture<'_, Result<TaskView, VerbError>>;

    /// Records of the registry (`site`, `platform`, `backup`), by name, at most `limit` after `after`.
    fn records(
        &self,
        family: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Value)>, ReadError>;

    /// One record of the registry.
    fn record(&self, family: &str, name: &str) -> Result<Option<Value>, ReadError>;

    /// Who holds which lock, and who waits for it.
    fn locks(&self) -> Vec<LockView>;

    /// Whether new work is taken on.
    fn health(&self) -> Health;
}

/// A request for a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Submission {
    /// Which workflow.
    pub workflow: String,
    /// Its parameters, already checked against the workflow's schema.
    pub params: Value,
    /// Who asks.
    pub actor: Actor,
    /// The caller's own id, given back in every callback.
    pub correlation_id: Option<String>,
    /// A receiver for this task's callbacks, as the callback composer understands it.
    pub callback: Option<Value>,
    /// Not before this time.
    pub not_before: Option<Millis>,
    /// Who goes first when several wait for the same lock: the higher number; among equals the one that came first. 0 is ordinary.
    pub priority: i8,
    /// The W3C trace context (`traceparent`) of whoever asks, given on in every callback.
    pub trace: Option<String>,
    /// Keys that must be new: an `Idempotency-Key`, a delivery id. Written with the task.
    pub dedupe: Vec<DedupeKey>,
    /// Refuse if the plan's hash is another.
    pub if_plan: Option<String>,
}

/// A key under which a request is accepted once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DedupeKey {
    /// Whose keys: principal, method and route, or the hook. At most 128 bytes.
    pub scope: String,
    /// The key; any text, kept by its SHA-256.
    pub key: String,
    /// SHA-256 of what was asked (content type and raw body): the same key with another one is refused. `None`: not compared.
    pub fingerprint: Option<String>,
}

/// What became of a submission.
#[derive(Clone, Debug, PartialEq)]
pub enum Submitted {
    /// A new task.
    Created(TaskView),
    /// A dedupe key was there already: this is its task, unchanged.
    Duplicate(TaskView),
}

/// Why a submission was not accepted. Nothing was written.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum SubmitError {
    /// No such workflow.
    #[error("there is no workflow {0:?}")]
    UnknownWorkflow(String),
    /// The parameters cannot be meant so: each with a JSON pointer into the parameters.
    #[error("the parameters do not fit: {}", .0.iter().map(|p| format!("{}: {}", p.pointer, p.detail)).collect::<Vec<_>>().join("; "))]
    BadParams(Vec<ParamError>),
    /// The parameters are right, but the world does not allow it: site exists already, unknown platform, hold is over.
    #[error("{0}")]
    Refused(String),
    /// Everything is as asked for already.
    #[error("{0}")]
    Nothing(String),
    /// A dedupe key was used with another request.
    #[error("the key {0:?} was used for another request")]
    KeyReused(String),
    /// The plan is not the one that was seen.
    #[error("the plan has changed: its hash is {now} now")]
    PlanChanged {
        /// The plan's hash at this moment.
        now: String,
    },
    /// No new work at the moment: draining, disk low, or too many open tasks.
    #[error("no new tasks at the moment: {0}")]
    Unavailable(String),
    /// The store failed.
    #[error("the task could not be stored: {0}")]
    Store(String),
}

/// One parameter that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParamError {
    /// JSON pointer into the parameters, such as `/site`.
    pub pointer: String,
    /// What is wrong and what would be right. Never the value itself where it may be secret.
    pub detail: String,
}

/// Why a verb was not carried out. Nothing was changed.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum VerbError {
    /// No such task.
    #[error("there is no such task")]
    UnknownTask,
    /// The task's state does not allow it: with the reason.
    #[error("{0}")]
    Conflict(String),
    /// A new task was needed and refused.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The store failed.
    #[error("it could not be stored: {0}")]
    Store(String),
}

/// What a person decides about a stuck step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolution {
    /// The step.
    pub step: String,
    /// What to do.
    pub verb: ResolveVerb,
    /// Why: required for everything but `retry`.
    #[serde(default)]
    pub reason: String,
}

/// The verbs of an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResolveVerb {
    /// Try again, with fresh attempts.
    Retry,
    /// The person has undone (or done, after the pivot) it by hand.
    MarkUndone,
    /// Leave it as it is; the task ends with a drift report.
    Abandon,
}

/// Which tasks to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskFilter {
    /// Of this site.
    pub site: Option<String>,
    /// Of this workflow.
    pub workflow: Option<String>,
    /// In this state.
    pub state: Option<TaskState>,
    /// Created at or after.
    pub since: Option<Millis>,
    /// At most this many; the engine's bound is 200.
    pub limit: usize,
    /// Only tasks older than this one (a page's cursor).
    pub before: Option<TaskId>,
}

/// A page of tasks.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskPage {
    /// The tasks, newest first.
    pub tasks: Vec<TaskView>,
    /// Where the next page begins, if there may be one.
    pub next: Option<TaskId>,
}

/// A workflow as its callers see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkflowInfo {
    /// Its name.
    pub name: String,
    /// What it does, in a sentence.
    pub title: String,
    /// JSON Schema 2020-12 of its parameters.
    pub schema: Value,
    /// Parameters that would be valid.
    pub example: Value,
}

/// A plan as shown by a dry run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanView {
    /// The workflow.
    pub workflow: String,
    /// The site it is about, if it is about one.
    pub site: Option<String>,
    /// The steps, in an order that respects the DAG, all pending.
    pub steps: Vec<StepView>,
    /// The step after which there is no way back, if there is one.
    pub pivot: Option<String>,
    /// Locks it takes, with their present holders.
    pub locks: Vec<LockView>,
    /// Resources whose fingerprints prove a rollback.
    pub resources: Vec<String>,
    /// Remarks for the person who decides.
    pub notes: Vec<String>,
    /// Changes when the plan does.
    pub plan_hash: String,
    /// How long it took before; `None` when there is nothing to go by.
    pub estimate: Option<Estimate>,
}

/// How long a task is going to take: as long as a finished one did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimate {
    /// From start to end, in milliseconds.
    pub duration_ms: u64,
    /// While visitors were turned away, in milliseconds; `None` when they never were.
    pub downtime_ms: Option<u64>,
    /// By step, in milliseconds.
    pub steps: BTreeMap<String, u64>,
    /// The task that this is taken from.
    pub based_on: TaskId,
    /// Whether that was about the same site.
    pub same_site: bool,
}

/// A lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockView {
    /// What is locked: `site shop.test`, `platform wordpress-69`.
    pub resource: String,
    /// Whether others may share it.
    pub shared: bool,
    /// Who holds it.
    pub holders: Vec<TaskId>,
    /// Who waits for it, in order.
    pub waiting: Vec<TaskId>,
}
