//! A task as others see it: its id, its states and the views that the HTTP face and the command line show. Never changes anything.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::step::StepError;

/// Milliseconds since 1970, UTC.
pub type Millis = u64;

/// Names a task: `task_` and 32 hex digits of a UUIDv7, so that ids sort by time.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TaskId(String);

impl TaskId {
    /// Makes an id of 16 bytes (a UUIDv7).
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(format!("task_{}", hex::encode(bytes)))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TaskId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let hex = text.strip_prefix("task_").unwrap_or("");
        if hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            Ok(Self(text))
        } else {
            Err("a task id is task_ and 32 hex digits".to_owned())
        }
    }
}

impl From<TaskId> for String {
    fn from(id: TaskId) -> Self {
        id.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Accepted; nothing has begun, since a lock or the start time is not there yet.
    Queued,
    /// Steps run forward.
    Running,
    /// Every step that could run waits for a retry, or for a second person.
    Waiting,
    /// Steps are being undone.
    Compensating,
    /// Everything is done.
    Succeeded,
    /// It failed, and everything is undone.
    RolledBack,
    /// A step or an undo cannot finish: a person is needed. Its locks are kept.
    Stuck,
    /// It was canceled, and everything is undone.
    Canceled,
}

impl TaskState {
    /// All states, for documents and filters.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Running,
        Self::Waiting,
        Self::Compensating,
        Self::Succeeded,
        Self::RolledBack,
        Self::Stuck,
        Self::Canceled,
    ];

    /// Whether nothing more will happen.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::Succeeded | Self::RolledBack | Self::Canceled => true,
            Self::Queued | Self::Running | Self::Waiting | Self::Compensating | Self::Stuck => false,
        }
    }

    /// The word used on every face.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Compensating => "compensating",
            Self::Succeeded => "succeeded",
            Self::RolledBack => "rolled_back",
            Self::Stuck => "stuck",
            Self::Canceled => "canceled",
        }
    }
}

/// Who asked for something: kept in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The token's, hook's or user's name, such as `token:ci` or `hook:deploy`.
    pub name: String,
    /// How it came: `http`, `hook`, `cli`, `chat`.
    pub via: String,
}

/// The workflow's name of tasks that take back others.
pub const UNDO: &str = "undo";

/// A task with everything that its page shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskView {
    /// Its id.
    pub id: TaskId,
    /// What kind of task.
    pub workflow: String,
    /// The site it is about, if it is about one.
    pub site: Option<String>,
    /// Where it stands.
    pub state: TaskState,
    /// What was asked for.
    pub params: Value,
    /// The plan's steps with their states, in an order that respects the DAG.
    pub steps: Vec<StepView>,
    /// How it ended; absent before.
    pub outcome: Option<OutcomeView>,
    /// What the workflow reports of itself: `downtime_ms`, archive, versions.
    pub result: Value,
    /// How long visitors saw 503, in milliseconds; absent when they never did.
    pub downtime_ms: Option<u64>,
    /// What it waits for: a lock and its holder, a start time, a retry.
    pub blocked_on: Option<BlockedOn>,
    /// The second person it needs, and what they said.
    #[serde(default)]
    pub approval: Option<ApprovalView>,
    /// Why it is stuck and what can be done.
    pub incident: Option<Incident>,
    /// The step that failed first, and why.
    pub error: Option<FailureView>,
    /// The caller's own id.
    pub correlation_id: Option<String>,
    /// Who goes first when several wait for the same lock; 0 is ordinary.
    #[serde(default)]
    pub priority: i8,
    /// The trace context (`traceparent`) of whoever asked.
    #[serde(default)]
    pub trace: Option<String>,
    /// Who asked for it.
    pub actor: Actor,
    /// Hash of the plan as a dry run shows it, where whoever asked had seen one.
    pub plan_hash: Option<String>,
    /// When it was accepted.
    pub created_at: Millis,
    /// When its first step began.
    pub started_at: Option<Millis>,
    /// When it ended.
    pub finished_at: Option<Millis>,
    /// Until when `undo` can take back a finished task.
    pub undo_until: Option<Millis>,
    /// Sequence of its last event.
    pub sequence: u64,
    /// Rises with each report of progress; not durable.
    pub progress_version: u64,
}

impl TaskView {
    /// The workflow of the task that this one takes back.
    #[must_use]
    pub fn takes_back(&self) -> Option<&str> {
        (self.workflow == UNDO).then(|| self.params["workflow"].as_str()).flatten()
    }
}

/// A step within a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepView {
    /// Name within the plan.
    pub name: String,
    /// What it does, in words.
    pub title: String,
    /// Class.
    pub class: crate::plan::Class,
    /// Where it stands.
    pub state: StepStateView,
    /// Attempts so far.
    pub attempts: u32,
    /// When its first attempt began.
    pub started_at: Option<Millis>,
    /// When it succeeded or failed for good.
    pub finished_at: Option<Millis>,
    /// The last report of progress.
    pub progress: Option<Progress>,
    /// The last error.
    pub error: Option<StepError>,
    /// Its undo.
    pub undo: UndoView,
    /// Names of the steps it waits for.
    pub after: Vec<String>,
}

/// A step's undo.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UndoView {
    /// What it does, or why there is none.
    pub title: String,
    /// Attempts so far.
    pub attempts: u32,
    /// The last error.
    pub error: Option<StepError>,
    /// When it was done.
    pub finished_at: Option<Millis>,
}

/// Where a step stands, as shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStateView {
    /// Not started.
    Pending,
    /// An attempt runs.
    Running,
    /// The next attempt waits for its time.
    Waiting,
    /// An attempt was started and its result is unknown: it is being probed.
    InDoubt,
    /// Done.
    Succeeded,
    /// Failed for good.
    Failed,
    /// Its undo runs or waits for its turn or its next attempt.
    Undoing,
    /// Undone.
    Undone,
    /// A person is needed.
    Stuck,
    /// Left as it is by a person.
    Abandoned,
    /// Never started, and never will be.
    Skipped,
}

/// How far a step is. Reported by steps, not journaled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Done so far, in `unit`.
    pub done: u64,
    /// Out of this many, if known.
    pub total: Option<u64>,
    /// `bytes`, `tables`, `files`.
    pub unit: String,
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeView {
    /// For a rolled back or canceled task: whether the fingerprints before and after are equal. Absent where nothing was touched.
    pub verified: Option<bool>,
    /// What differs, if they are not: at most [`MAX_DRIFT`] entries.
    pub drift: Vec<Drift>,
}

/// Most entries of a drift report: more tells nobody more.
pub const MAX_DRIFT: usize = 50;

/// One difference between the fingerprint before and the one after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// The resource: `files web1:/srv/...`, `database db1/shop`, `vhost web1:shop.test`.
    pub resource: String,
    /// The path, table, grant or directive.
    pub item: String,
    /// What was there before.
    pub before: Option<String>,
    /// What is there now.
    pub after: Option<String>,
}

/// What a task waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockedOn {
    /// `lock`, `time`, `retry`, `slot`, `host`, `approval`.
    pub kind: String,
    /// In words, with names.
    pub what: String,
    /// The task that holds it, if one does.
    pub holder: Option<TaskId>,
    /// Since when.
    pub since: Millis,
    /// Until when, if known.
    pub until: Option<Millis>,
}

/// The second person that a task needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalView {
    /// How far it is.
    pub state: ApprovalState,
    /// The policy that asks for it.
    pub policy: String,
    /// Before what: `start`, `close`, `pivot`.
    pub before: String,
    /// Who may approve; empty: whoever has the scope.
    pub approvers: Vec<String>,
    /// When they were asked.
    pub asked_at: Option<Millis>,
    /// Until when they have time.
    pub until: Option<Millis>,
    /// Who answered.
    pub by: Option<Actor>,
    /// What they said.
    pub reason: Option<String>,
    /// When they did, or when the time was over.
    pub decided_at: Option<Millis>,
}

/// How far an approval is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// The task has not come to where it needs it.
    NotYet,
    /// Somebody is asked.
    Asked,
    /// Yes.
    Granted,
    /// No.
    Refused,
    /// Nobody answered in time.
    Expired,
    /// The task goes back for another reason: nobody has to answer any more.
    Withdrawn,
}

/// Why a task is stuck.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// The stuck steps.
    pub steps: Vec<StuckStep>,
    /// The verbs a person has, as `resolve` takes them.
    pub verbs: Vec<String>,
}

/// A stuck step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StuckStep {
    /// Name within the plan.
    pub step: String,
    /// `run` or `undo`.
    pub phase: String,
    /// Why.
    pub reason: String,
    /// What the last probe saw, if there was one.
    pub probe: Option<String>,
    /// What a person would do by hand.
    pub by_hand: Vec<String>,
    /// Since when.
    pub since: Millis,
}

/// The failure that turned a task round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureView {
    /// The step.
    pub step: String,
    /// Its title.
    pub title: String,
    /// What went wrong.
    pub detail: String,
}

/// One event as shown: the journal's record without its chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventView {
    /// Dense sequence within the task, from 1.
    pub sequence: u64,
    /// When.
    pub at: Millis,
    /// Kind of event, such as `attempt_started`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The event's fields.
    pub data: Value,
    /// The task's state after it.
    pub state: TaskState,
}
