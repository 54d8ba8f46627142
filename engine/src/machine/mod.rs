//! The machine: the fold of a task's events. `apply` is the only code that changes a task's state, `next` says what should be in
//! flight; live run and recovery are the same lines. Reads no clock, does no I/O.

mod apply;
mod next;
mod view;

pub(crate) use view::pending_step;

use std::collections::BTreeMap;
use std::sync::Arc;

use petgraph::graph::NodeIndex;
use serde_json::Value;
use thiserror::Error;

use crate::event::{Accepted, FingerprintPhase, Outcome};
use crate::plan::{Class, Plan, StepSpec, UndoSpec};
use crate::step::StepError;
use crate::store::BlobId;
use crate::task::{Actor, Drift, Millis};

pub use next::{Command, Next};

/// A task's state.
#[derive(Clone, Debug)]
pub struct Machine {
    accepted: Arc<Accepted>,
    created_at: Millis,
    steps: Vec<StepRecord>,
    outputs: Arc<BTreeMap<String, Arc<Value>>>,
    before: FingerprintRecord,
    after: FingerprintRecord,
    locks_granted: bool,
    cancel: Option<(Actor, String)>,
    /// The first step that failed for good, and why: turns the task round.
    failure: Option<(String, StepError)>,
    epoch: u64,
    sequence: u64,
    started_at: Option<Millis>,
    finished: Option<(Millis, Outcome, Option<bool>, Vec<Drift>)>,
}

/// An event that does not fit the state: a damaged journal, or a defect of ours. Nothing is changed by it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("event {sequence} ({kind}) does not fit: {why}")]
pub struct IllegalEvent {
    /// Its sequence.
    pub sequence: u64,
    /// Its kind.
    pub kind: &'static str,
    /// Why not.
    pub why: String,
}

/// A step's state.
#[derive(Clone, Debug)]
struct StepRecord {
    phase: Phase,
    /// Attempts started, over the whole life: an attempt's number.
    attempts: u32,
    undo_attempts: u32,
    /// Failures since the last fresh start: what the retry policy counts.
    failures: u32,
    undo_failures: u32,
    /// Deaths of the process while it was in flight, since the last fresh start.
    deaths: u32,
    first_began: Millis,
    undo_first_began: Millis,
    started_at: Option<Millis>,
    finished_at: Option<Millis>,
    undone_at: Option<Millis>,
    /// When the phase changed last.
    since: Millis,
    error: Option<StepError>,
    undo_error: Option<StepError>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Pending,
    Running,
    /// Failed; the next attempt is due at this time.
    Waiting(Millis),
    /// Started, result unknown; the next probe is due at this time.
    InDoubt(Millis),
    Succeeded,
    /// Failed for good.
    Failed,
    /// Half applied: to be undone, then run again.
    Redo,
    Undoing,
    /// The next undo attempt is due at this time.
    UndoWaiting(Millis),
    Undone,
    Stuck {
        undo: bool,
        reason: String,
        probe: Option<String>,
    },
    /// Left as it is by a person.
    Abandoned,
}

#[derive(Clone, Debug, Default)]
struct FingerprintRecord {
    phase: FingerprintState,
    attempts: u32,
    failures: u32,
    deaths: u32,
    first_began: Millis,
    error: Option<StepError>,
}

#[derive(Clone, Debug, Default)]
enum FingerprintState {
    #[default]
    Pending,
    Running,
    Waiting(Millis),
    Taken {
        digest: String,
        listing: BlobId,
    },
    Failed,
}

impl StepRecord {
    fn new(at: Millis) -> Self {
        Self {
            phase: Phase::Pending,
            attempts: 0,
            undo_attempts: 0,
            failures: 0,
            undo_failures: 0,
            deaths: 0,
            first_began: 0,
            undo_first_began: 0,
            started_at: None,
            finished_at: None,
            undone_at: None,
            since: at,
            error: None,
            undo_error: None,
        }
    }
}

impl Machine {
    /// What was accepted.
    #[must_use]
    pub fn accepted(&self) -> &Arc<Accepted> {
        &self.accepted
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.accepted.plan
    }

    /// The outputs of the steps that succeeded, by name.
    #[must_use]
    pub fn outputs(&self) -> &Arc<BTreeMap<String, Arc<Value>>> {
        &self.outputs
    }

    /// Sequence of the last event.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The life in which it is.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// When the task was accepted.
    #[must_use]
    pub fn created_at(&self) -> Millis {
        self.created_at
    }

    /// How it ended.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        self.finished.as_ref().map(|(_, outcome, _, _)| *outcome)
    }

    /// Whether its locks are granted.
    #[must_use]
    pub fn locks_granted(&self) -> bool {
        self.locks_granted
    }

    /// The digest and listing of a fingerprint, once taken.
    #[must_use]
    pub fn fingerprint(&self, phase: FingerprintPhase) -> Option<(&str, &BlobId)> {
        match &self.fingerprint_record(phase).phase {
            FingerprintState::Taken { digest, listing } => Some((digest, listing)),
            FingerprintState::Pending
            | FingerprintState::Running
            | FingerprintState::Waiting(_)
            | FingerprintState::Failed => None,
        }
    }

    /// Failures so far and the time of the first attempt: what the retry policy of a run needs.
    #[must_use]
    pub fn run_failures(&self, step: NodeIndex) -> (u32, Millis) {
        (self.steps[step.index()].failures, self.steps[step.index()].first_began)
    }

    /// The same for its undo.
    #[must_use]
    pub fn undo_failures(&self, step: NodeIndex) -> (u32, Millis) {
        (self.steps[step.index()].undo_failures, self.steps[step.index()].undo_first_began)
    }

    /// The same for a fingerprint.
    #[must_use]
    pub fn fingerprint_failures(&self, phase: FingerprintPhase) -> (u32, Millis) {
        let record = self.fingerprint_record(phase);
        (record.failures, record.first_began)
    }

    /// Whether the task goes back. After the pivot it never does.
    #[must_use]
    pub fn goes_back(&self) -> bool {
        (self.cancel.is_some() || self.failure.is_some()) && !self.committed(None)
    }

    /// Why a cancel is refused now, if it is.
    #[must_use]
    pub fn refuses_cancel(&self) -> Option<String> {
        if self.finished.is_some() {
            return Some("the task has ended".to_owned());
        }
        if self.goes_back() {
            return Some("the task is rolling back already".to_owned());
        }
        let pivot = self.plan().pivot(None)?;
        match self.steps[pivot.index()].phase {
            Phase::Pending => None,
            _ => Some(format!(
                "the task is past its point of no return ({}); undo it when it has finished",
                self.plan().step(pivot).name
            )),
        }
    }

    fn spec(&self, step: NodeIndex) -> &StepSpec {
        self.accepted.plan.step(step)
    }

    /// Whether the scope's pivot has succeeded: nothing in it is undone any more.
    fn committed(&self, scope: Option<&str>) -> bool {
        self.plan().pivot(scope).is_some_and(|pivot| self.steps[pivot.index()].phase == Phase::Succeeded)
    }

    fn has_undo(&self, step: NodeIndex) -> bool {
        let spec = self.spec(step);
        spec.class == Class::Compensable && matches!(spec.undo, UndoSpec::Own { .. })
    }

    /// Whether a step's effect may be there and is to be taken back, if the task goes back.
    fn needs_undo(&self, step: NodeIndex) -> bool {
        if !self.has_undo(step) || self.committed(self.spec(step).scope.as_deref()) {
            return false;
        }
        match self.steps[step.index()].phase {
            // Pending after a probe said that nothing is there, or after a redo's undo: nothing to take back.
            Phase::Pending | Phase::Undone | Phase::Abandoned => false,
            Phase::Running
            | Phase::Waiting(_)
            | Phase::InDoubt(_)
            | Phase::Succeeded
            | Phase::Failed
            | Phase::Redo
            | Phase::Undoing
            | Phase::UndoWaiting(_)
            | Phase::Stuck { .. } => true,
        }
    }

    fn fingerprint_record(&self, phase: FingerprintPhase) -> &FingerprintRecord {
        match phase {
            FingerprintPhase::Before => &self.before,
            FingerprintPhase::After => &self.after,
        }
    }

    /// Why a fingerprint could not be taken after the rollback.
    #[must_use]
    pub(crate) fn fingerprint_error(&self) -> Option<String> {
        self.after.error.as_ref().map(|error| error.message.clone())
    }

    /// Attempts of a step so far.
    #[must_use]
    pub(crate) fn attempts(&self, step: NodeIndex) -> u32 {
        self.steps[step.index()].attempts
    }

    /// Whether anything but looking was ever begun.
    pub(crate) fn touched(&self) -> bool {
        self.plan()
            .steps()
            .any(|(index, spec)| spec.class != Class::Query && self.steps[index.index()].attempts > 0)
    }
}
