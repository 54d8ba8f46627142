//! The machine: the fold of a task's events. `apply` is the only code that changes a task's state, `next` says what should be in
//! flight; live run and recovery are the same lines. Reads no clock, does no I/O.

mod apply;
mod approval;
mod next;
mod record;
mod view;

pub(crate) use view::pending_step;

use std::collections::BTreeMap;
use std::sync::Arc;

use petgraph::graph::NodeIndex;
use serde_json::Value;
use thiserror::Error;

use crate::event::{Accepted, FingerprintPhase, Outcome};
use crate::gate::Before;
use crate::mutants::bug;
use crate::plan::{Class, Plan, StepSpec, UndoSpec};
use crate::step::StepError;
use crate::store::BlobId;
use crate::task::{Actor, Millis};

pub use next::{Command, Ending, Next};
use record::{
    Answer, Approval, FingerprintRecord, FingerprintState, Finish, Phase, Stage, StepRecord, Stuck, Tries,
};

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
    /// Where it waits for a second person, if it needs one.
    gate: Option<Before>,
    approval: Approval,
    /// The first step that failed for good, and why: turns the task round.
    failure: Option<(String, StepError)>,
    epoch: u64,
    sequence: u64,
    started_at: Option<Millis>,
    finished: Option<Arc<Finish>>,
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
        self.finished.as_ref().map(|finish| finish.outcome)
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
        self.steps[step.index()].runs.counted()
    }

    /// The same for looking whether its effect is there.
    #[must_use]
    pub fn probe_failures(&self, step: NodeIndex) -> (u32, Millis) {
        self.steps[step.index()].probes.counted()
    }

    /// The same for its undo.
    #[must_use]
    pub fn undo_failures(&self, step: NodeIndex) -> (u32, Millis) {
        self.steps[step.index()].undos.counted()
    }

    /// The same for a fingerprint.
    #[must_use]
    pub fn fingerprint_failures(&self, phase: FingerprintPhase) -> (u32, Millis) {
        self.fingerprint_record(phase).tries.counted()
    }

    /// Whether the task goes back. After the pivot it never does.
    #[must_use]
    pub fn goes_back(&self) -> bool {
        (self.cancel.is_some() || self.failure.is_some()) && !self.committed()
    }

    /// Why it cannot go by another plan any more, if so. What somebody has seen and wanted stays as it was seen.
    #[must_use]
    pub(crate) fn refuses_plan(&self) -> Option<&'static str> {
        let accepted = &self.accepted;
        if self.locks_granted || self.started_at.is_some() {
            return Some("it has begun");
        }
        if self.goes_back() {
            return Some("the task goes back");
        }
        if accepted.undo_of.is_some() {
            return Some("it takes back what another task has done");
        }
        if accepted.gate.is_some() || accepted.plan_hash.is_some() {
            return Some("somebody has seen the plan that it has");
        }
        None
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
        let pivot = self.plan().main_pivot()?;
        match self.steps[pivot.index()].phase {
            Phase::Pending => None,
            Phase::Running
            | Phase::Waiting(_)
            | Phase::InDoubt(_)
            | Phase::Succeeded
            | Phase::Failed
            | Phase::Redo
            | Phase::Undoing
            | Phase::UndoWaiting(_)
            | Phase::Undone
            | Phase::Stuck(_)
            | Phase::Abandoned => Some(format!(
                "the task is past its point of no return ({}); undo it when it has finished",
                self.plan().step(pivot).name
            )),
        }
    }

    fn spec(&self, step: NodeIndex) -> &StepSpec {
        self.accepted.plan.step(step)
    }

    fn record(&self, step: NodeIndex) -> &StepRecord {
        &self.steps[step.index()]
    }

    /// Whether the task's pivot has succeeded: nothing is undone any more.
    pub(crate) fn committed(&self) -> bool {
        let decided = |pivot| self.record(pivot).phase == Phase::Succeeded;
        self.plan().main_pivot().is_some_and(decided) && !bug("back-after-pivot")
    }

    /// Whether the pivot of a step's scope has succeeded: the step is not undone any more.
    fn committed_over(&self, step: NodeIndex) -> bool {
        self.plan().pivot_over(step).is_some_and(|pivot| self.record(pivot).phase == Phase::Succeeded)
    }

    /// Whether a step comes after the pivot of a sub-task that has committed: it goes forward even when the task goes back.
    pub(crate) fn outlives(&self, step: NodeIndex) -> bool {
        let spec = self.spec(step);
        spec.class == Class::Retriable && spec.scope.is_some() && self.committed_over(step)
    }

    fn has_undo(&self, step: NodeIndex) -> bool {
        let spec = self.spec(step);
        spec.class == Class::Compensable && matches!(spec.undo, UndoSpec::Own { .. })
    }

    /// Whether a step's effect may be there and is to be taken back, if the task goes back.
    fn needs_undo(&self, step: NodeIndex) -> bool {
        let record = self.record(step);
        let clean = !record.dirty || (bug("failed-step-is-clean") && record.phase == Phase::Failed);
        !clean && record.phase != Phase::Abandoned && self.has_undo(step) && !self.committed_over(step)
    }

    fn fingerprint_record(&self, phase: FingerprintPhase) -> &FingerprintRecord {
        match phase {
            FingerprintPhase::Before => &self.before,
            FingerprintPhase::After => &self.after,
        }
    }

    /// Why a fingerprint could not be taken after the rollback.
    #[must_use]
    pub(crate) fn fingerprint_error(&self) -> Option<&str> {
        self.after.error.as_ref().map(|error| error.message.as_str())
    }

    /// Attempts of a step so far.
    #[must_use]
    pub(crate) fn attempts(&self, step: NodeIndex) -> u32 {
        self.record(step).attempts
    }

    /// Whether anything was ever begun.
    pub(crate) fn began(&self) -> bool {
        self.started_at.is_some()
    }

    /// Whether anything but looking was ever begun.
    pub(crate) fn touched(&self) -> bool {
        self.plan().steps().any(|(step, spec)| spec.class != Class::Query && self.record(step).attempts > 0)
    }

    /// The steps that a person has left as they are: name, who, why.
    pub(crate) fn abandoned(&self) -> impl Iterator<Item = (&str, &Actor, &str)> {
        self.plan().steps().filter_map(|(step, spec)| {
            let (actor, reason) = self.record(step).abandoned.as_deref()?;
            Some((spec.name.as_str(), actor, reason.as_str()))
        })
    }
}
