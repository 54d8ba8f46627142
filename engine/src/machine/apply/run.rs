//! What events of runs and probes do to a step.

use std::sync::Arc;

use petgraph::graph::NodeIndex;
use serde_json::Value;

use super::{Why, demand, stuck};
use crate::event::{FingerprintPhase, Then, Verdict};
use crate::machine::{Machine, Phase, Stage, Tries};
use crate::plan::Class;
use crate::step::{ErrorClass, StepError};
use crate::task::Millis;

impl Machine {
    pub(super) fn attempt_started(&mut self, step: NodeIndex, attempt: u32, at: Millis) -> Result<(), Why> {
        let record = self.record(step);
        let ready = match record.phase {
            Phase::Pending => self.runnable(step),
            Phase::Waiting(_) => true,
            Phase::Running
            | Phase::InDoubt(_)
            | Phase::Succeeded
            | Phase::Failed
            | Phase::Redo
            | Phase::Undoing
            | Phase::UndoWaiting(_)
            | Phase::Undone
            | Phase::Stuck(_)
            | Phase::Abandoned => false,
        };
        let forward = !self.goes_back() || self.outlives(step);
        demand(ready && forward, || "the step is not ready to run".to_owned())?;
        demand(!self.held(step), || "nobody has approved it".to_owned())?;
        demand(attempt == record.attempts + 1, || format!("attempt {} was expected", record.attempts + 1))?;
        demand(self.locks_granted || self.plan().rest().locks.is_empty(), || {
            "the locks are not granted".to_owned()
        })?;
        let unproven =
            self.plan().rest().fingerprint.is_some() && self.fingerprint(FingerprintPhase::Before).is_none();
        demand(!(unproven && self.spec(step).class != Class::Query), || {
            "there is no fingerprint yet".to_owned()
        })?;
        self.started_at.get_or_insert(at);
        let record = self.enter(step, Phase::Running, at);
        record.dirty = true;
        record.attempts = attempt;
        record.started_at.get_or_insert(at);
        record.finished_at = None;
        record.undone_at = None;
        record.runs.begin(at);
        Ok(())
    }

    pub(super) fn attempt_succeeded(&mut self, step: NodeIndex, output: &Value, at: Millis) {
        let name = self.spec(step).name.clone();
        Arc::make_mut(&mut self.outputs).insert(name, Arc::new(output.clone()));
        let record = self.enter(step, Phase::Succeeded, at);
        record.finished_at = Some(at);
        record.runs = Tries::default();
        record.probes = Tries::default();
    }

    pub(super) fn attempt_failed(&mut self, step: NodeIndex, error: &StepError, then: Then, at: Millis) {
        let class = self.spec(step).class;
        let in_doubt = error.class == ErrorClass::InDoubt;
        let phase = match then {
            Then::Retry { at } => Phase::Waiting(at),
            Then::Probe { at } if class == Class::Query => Phase::Waiting(at),
            Then::Probe { at } => Phase::InDoubt(at),
            // Whether it has decided is not known, and must not be guessed.
            Then::GiveUp if class == Class::Pivot && in_doubt => stuck(Stage::Probe, &error.message, None),
            Then::GiveUp if self.committed() => {
                stuck(if in_doubt { Stage::Probe } else { Stage::Run }, &error.message, None)
            }
            Then::GiveUp => Phase::Failed,
        };
        let failed = phase == Phase::Failed;
        let record = self.enter(step, phase, at);
        record.runs.failures += 1;
        record.probes = Tries { first_began: at, ..Tries::default() };
        record.error = Some(Arc::new(error.clone()));
        if failed {
            self.failed(step, error.clone(), at);
        }
    }

    /// A step has failed for good.
    pub(super) fn failed(&mut self, step: NodeIndex, error: StepError, at: Millis) {
        self.enter(step, Phase::Failed, at).finished_at = Some(at);
        let name = self.spec(step).name.clone();
        self.fail(name, error, at);
    }

    pub(super) fn probed(&mut self, step: NodeIndex, verdict: &Verdict, at: Millis) {
        // Going back, only what decides or outlives the task is probed on purpose; of everything else a late verdict is no news,
        // since its undo is right whatever is there.
        let back = self.goes_back();
        let moot = back && !self.outlives(step);
        let phase = match verdict {
            Verdict::NotApplied | Verdict::Resumable | Verdict::Partial { .. } if moot => Phase::Failed,
            Verdict::Unknown { .. } if back && self.spec(step).class != Class::Pivot => Phase::Failed,
            Verdict::NotApplied | Verdict::Resumable => Phase::Pending,
            Verdict::Partial { .. } if self.has_undo(step) => Phase::Redo,
            Verdict::Partial { .. } => Phase::Pending,
            Verdict::Unknown { why } => stuck(Stage::Probe, "its effect cannot be told", Some(why)),
        };
        let record = self.enter(step, phase, at);
        record.probes = Tries::default();
        if *verdict == Verdict::NotApplied {
            record.dirty = false;
        }
    }

    pub(super) fn probe_failed(&mut self, step: NodeIndex, error: &StepError, then: Then, at: Millis) {
        let phase = match then {
            Then::Retry { at } | Then::Probe { at } => Phase::InDoubt(at),
            Then::GiveUp if self.goes_back() && self.spec(step).class != Class::Pivot => Phase::Failed,
            Then::GiveUp => stuck(Stage::Probe, "its effect cannot be told", Some(&error.message)),
        };
        let record = self.enter(step, phase, at);
        record.probes.failures += 1;
        // It came back, so it did not kill anybody.
        record.probes.deaths = 0;
        record.error = Some(Arc::new(error.clone()));
    }

    /// The running binary cannot run, probe or undo the step.
    pub(super) fn parked(&mut self, step: NodeIndex, reason: &str, at: Millis) -> Result<(), Why> {
        let back = self.goes_back();
        let pivot = self.spec(step).class == Class::Pivot;
        let stage = match self.record(step).phase {
            Phase::Pending | Phase::Waiting(_) if !back => Some(Stage::Run),
            Phase::InDoubt(_) if !back || pivot => Some(Stage::Probe),
            Phase::Pending | Phase::Waiting(_) | Phase::InDoubt(_) if self.outlives(step) => None,
            Phase::Redo | Phase::UndoWaiting(_) => Some(Stage::Undo),
            Phase::Waiting(_) | Phase::InDoubt(_) | Phase::Succeeded | Phase::Failed if back => {
                Some(Stage::Undo)
            }
            Phase::Pending
            | Phase::Running
            | Phase::Waiting(_)
            | Phase::InDoubt(_)
            | Phase::Succeeded
            | Phase::Failed
            | Phase::Undoing
            | Phase::Undone
            | Phase::Stuck(_)
            | Phase::Abandoned => return Err("the step was not to be started".to_owned()),
        };
        let phase = stage.map_or(Phase::Failed, |stage| stuck(stage, reason, None));
        self.enter(step, phase, at);
        Ok(())
    }

    /// The step whose attempt is running; for a result that a probe found, the one in doubt.
    pub(super) fn in_flight(&self, step: &str, attempt: u32, adopted: bool) -> Result<NodeIndex, Why> {
        let index = self.find(step)?;
        let record = self.record(index);
        let fits =
            if adopted { matches!(record.phase, Phase::InDoubt(_)) } else { record.phase == Phase::Running };
        demand(fits && record.attempts == attempt, || {
            format!("attempt {attempt} of {step:?} is not in flight")
        })?;
        Ok(index)
    }

    pub(super) fn in_doubt(&self, step: &str) -> Result<NodeIndex, Why> {
        let index = self.find(step)?;
        let fits = matches!(self.record(index).phase, Phase::InDoubt(_));
        demand(fits, || format!("{step:?} is not in doubt"))?;
        Ok(index)
    }
}
