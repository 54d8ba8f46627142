//! Events: the journal's words. A task's state is the fold of its events and nothing else. Golden files hold their form:
//! fields may be added with a default, never renamed or given another meaning.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::gate::Gate;
use crate::plan::Plan;
use crate::service::ResolveVerb;
use crate::step::StepError;
use crate::store::BlobId;
use crate::task::{Actor, Drift, Millis, TaskId};

/// A fact about a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The task is accepted: always the first event, and only that.
    Accepted(Arc<Accepted>),
    /// A process took the task over. Whatever was in flight before is in doubt.
    Recovered {
        /// Rises by one each time; reports of an older epoch are dropped.
        epoch: u64,
        /// Deaths of the process during a step's run before it counts as failed.
        run_deaths: u32,
        /// Deaths of the process during an undo, or after the pivot, before it counts as stuck.
        undo_deaths: u32,
    },
    /// What the plan was made of has changed while the task waited, and nothing had begun: it goes by a new one.
    Planned {
        /// The plan, whole.
        plan: Arc<Plan>,
    },
    /// All locks of the plan are held, until the task ends.
    LocksGranted,
    /// A fingerprint is being taken.
    FingerprintStarted {
        /// Which.
        phase: FingerprintPhase,
        /// From 1.
        attempt: u32,
    },
    /// It was taken.
    FingerprintTaken {
        /// Which.
        phase: FingerprintPhase,
        /// The attempt.
        attempt: u32,
        /// SHA-256 over all its resources.
        digest: String,
        /// The listing behind it.
        listing: BlobId,
    },
    /// It could not be taken.
    FingerprintFailed {
        /// Which.
        phase: FingerprintPhase,
        /// The attempt.
        attempt: u32,
        /// Why.
        error: StepError,
        /// What follows.
        then: Then,
    },
    /// An attempt begins: durable before its effect.
    AttemptStarted {
        /// The step.
        step: String,
        /// From 1, rising over the whole life of the task.
        attempt: u32,
    },
    /// It succeeded: durable before anything that depends on it.
    AttemptSucceeded {
        /// The step.
        step: String,
        /// The attempt.
        attempt: u32,
        /// Its output.
        output: Value,
        /// Whether a probe found the effect, rather than the attempt reporting it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        adopted: bool,
    },
    /// It failed.
    AttemptFailed {
        /// The step.
        step: String,
        /// The attempt.
        attempt: u32,
        /// Why.
        error: StepError,
        /// What follows.
        then: Then,
    },
    /// A probe of a step in doubt found something other than the whole effect.
    Probed {
        /// The step.
        step: String,
        /// What it saw.
        verdict: Verdict,
    },
    /// The probe itself failed.
    ProbeFailed {
        /// The step.
        step: String,
        /// Why.
        error: StepError,
        /// What follows.
        then: Then,
    },
    /// An undo begins: durable before it acts.
    UndoStarted {
        /// The step.
        step: String,
        /// From 1, rising.
        attempt: u32,
    },
    /// The step is undone.
    UndoSucceeded {
        /// The step.
        step: String,
        /// The attempt.
        attempt: u32,
    },
    /// The undo failed.
    UndoFailed {
        /// The step.
        step: String,
        /// The attempt.
        attempt: u32,
        /// Why.
        error: StepError,
        /// What follows.
        then: Then,
    },
    /// The running binary cannot run this step at all.
    Parked {
        /// The step.
        step: String,
        /// Why.
        reason: String,
    },
    /// Somebody asked for rollback.
    CancelRequested {
        /// Who.
        actor: Actor,
        /// Why.
        reason: String,
    },
    /// A second person is asked: the task waits, until then at most.
    ApprovalAsked {
        /// Until when.
        until: Millis,
    },
    /// A second person said yes.
    Approved {
        /// Who.
        actor: Actor,
        /// What they said, if they did.
        reason: String,
    },
    /// A second person said no: the task is canceled.
    ApprovalRefused {
        /// Who.
        actor: Actor,
        /// Why.
        reason: String,
    },
    /// Nobody answered in time: the task is canceled.
    ApprovalExpired,
    /// Somebody settled a stuck step.
    Resolved {
        /// The step.
        step: String,
        /// How.
        verb: ResolveVerb,
        /// Why.
        reason: String,
        /// Who.
        actor: Actor,
    },
    /// The task has ended; its locks are free and its callbacks queued.
    Finished {
        /// How.
        outcome: Outcome,
        /// Whether the fingerprints before and after are equal; absent where nothing was touched or nothing had to be proven.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        verified: Option<bool>,
        /// What differs, bounded.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        drift: Vec<Drift>,
    },
}

/// What was accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accepted {
    /// The task's id.
    pub task: TaskId,
    /// The workflow.
    pub workflow: String,
    /// Its parameters.
    pub params: Value,
    /// Who asked.
    pub actor: Actor,
    /// The caller's own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// The caller's own receiver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback: Option<Value>,
    /// Not before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Millis>,
    /// Who goes first when several wait for the same lock.
    #[serde(default, skip_serializing_if = "is_ordinary")]
    pub priority: i8,
    /// The trace context of whoever asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// The task that this one takes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo_of: Option<TaskId>,
    /// The second person it needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// The plan, whole.
    pub plan: Plan,
    /// The plan's hash as a dry run shows it, where whoever asked had seen one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_hash: Option<String>,
}

/// Whether a priority is the one that most tasks have, and that journals from before priorities leave out.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_ordinary(priority: &i8) -> bool {
    *priority == 0
}

/// Which fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FingerprintPhase {
    /// Before the first effect.
    Before,
    /// After the last undo.
    After,
}

/// What follows a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "then", rename_all = "snake_case")]
pub enum Then {
    /// Another attempt at this time.
    Retry {
        /// When.
        at: Millis,
    },
    /// A probe at this time: the effect may be there.
    Probe {
        /// When.
        at: Millis,
    },
    /// No more attempts.
    GiveUp,
}

/// What a probe saw, other than the whole effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing: run again.
    NotApplied,
    /// Half of it, and the run goes on from there: run again.
    Resumable,
    /// Half of it: undo, then run again.
    Partial {
        /// What is there.
        what: String,
    },
    /// It cannot be told.
    Unknown {
        /// Why.
        why: String,
    },
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Everything is done.
    Succeeded,
    /// It failed and is undone.
    RolledBack,
    /// It was canceled and is undone.
    Canceled,
}

impl Event {
    /// The event's kind, as its `type` field has it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Accepted(_) => "accepted",
            Self::Recovered { .. } => "recovered",
            Self::Planned { .. } => "planned",
            Self::LocksGranted => "locks_granted",
            Self::FingerprintStarted { .. } => "fingerprint_started",
            Self::FingerprintTaken { .. } => "fingerprint_taken",
            Self::FingerprintFailed { .. } => "fingerprint_failed",
            Self::AttemptStarted { .. } => "attempt_started",
            Self::AttemptSucceeded { .. } => "attempt_succeeded",
            Self::AttemptFailed { .. } => "attempt_failed",
            Self::Probed { .. } => "probed",
            Self::ProbeFailed { .. } => "probe_failed",
            Self::UndoStarted { .. } => "undo_started",
            Self::UndoSucceeded { .. } => "undo_succeeded",
            Self::UndoFailed { .. } => "undo_failed",
            Self::Parked { .. } => "parked",
            Self::CancelRequested { .. } => "cancel_requested",
            Self::ApprovalAsked { .. } => "approval_asked",
            Self::Approved { .. } => "approved",
            Self::ApprovalRefused { .. } => "approval_refused",
            Self::ApprovalExpired => "approval_expired",
            Self::Resolved { .. } => "resolved",
            Self::Finished { .. } => "finished",
        }
    }
}
