//! What events of undos do to a step, and what people decide about stuck ones.

use std::sync::Arc;

use petgraph::graph::NodeIndex;

use super::{Why, demand, stuck};
use crate::event::Then;
use crate::machine::{Machine, Phase, Stage, Tries};
use crate::mutants::bug;
use crate::service::ResolveVerb;
use crate::step::StepError;
use crate::task::{Actor, Millis};

impl Machine {
    pub(super) fn undo_started(&mut self, step: NodeIndex, attempt: u32, at: Millis) -> Result<(), Why> {
        let record = self.record(step);
        demand(attempt == record.undo_attempts + 1, || {
            format!("undo {} was expected", record.undo_attempts + 1)
        })?;
        let ready = if self.goes_back() {
            self.undoable(step, &self.settled())
        } else {
            matches!(record.phase, Phase::Redo | Phase::UndoWaiting(_))
        };
        demand(ready, || "the step is not ready to be undone".to_owned())?;
        let record = self.enter(step, Phase::Undoing, at);
        record.undo_attempts = attempt;
        record.undos.begin(at);
        Ok(())
    }

    pub(super) fn undo_failed(&mut self, step: NodeIndex, error: &StepError, then: Then, at: Millis) {
        if bug("undo-cut-short") {
            return self.undone(step, at);
        }
        let phase = match then {
            Then::Retry { at } | Then::Probe { at } => Phase::UndoWaiting(at),
            Then::GiveUp => stuck(Stage::Undo, &error.message, None),
        };
        let record = self.enter(step, phase, at);
        record.undos.failures += 1;
        record.undo_error = Some(Arc::new(error.clone()));
    }

    /// Nothing of the step is there any more: it is run again, or that was it.
    pub(super) fn undone(&mut self, step: NodeIndex, at: Millis) {
        let phase = if self.goes_back() { Phase::Undone } else { Phase::Pending };
        let name = self.spec(step).name.clone();
        if self.outputs.contains_key(&name) {
            Arc::make_mut(&mut self.outputs).remove(&name);
        }
        let record = self.enter(step, phase, at);
        record.dirty = false;
        record.undos = Tries::default();
        record.undone_at = Some(at);
    }

    pub(super) fn undo_in_flight(&self, step: &str, attempt: u32) -> Result<NodeIndex, Why> {
        let index = self.find(step)?;
        let record = self.record(index);
        let fits = record.phase == Phase::Undoing && record.undo_attempts == attempt;
        demand(fits, || format!("undo {attempt} of {step:?} is not in flight"))?;
        Ok(index)
    }

    pub(super) fn resolved(
        &mut self,
        step: NodeIndex,
        verb: ResolveVerb,
        (actor, why): (&Actor, &String),
        at: Millis,
    ) -> Result<(), Why> {
        let Phase::Stuck(stuck) = self.record(step).phase.clone() else {
            return Err(format!("the step {:?} is not stuck", self.spec(step).name));
        };
        let record = &mut self.steps[step.index()];
        record.runs = Tries::default();
        record.probes = Tries { first_began: at, ..Tries::default() };
        record.undos = Tries::default();
        match (verb, stuck.stage) {
            (ResolveVerb::Retry, Stage::Run) => {
                self.enter(step, Phase::Pending, at);
            }
            (ResolveVerb::Retry, Stage::Probe) => {
                self.enter(step, Phase::InDoubt(at), at);
            }
            (ResolveVerb::Retry, Stage::Undo) => {
                self.enter(step, Phase::UndoWaiting(at), at);
            }
            (ResolveVerb::MarkUndone, Stage::Undo) => self.undone(step, at),
            // A person did it by hand: after the pivot that is as good as done.
            (ResolveVerb::MarkUndone, Stage::Run | Stage::Probe) if self.committed() => {
                self.enter(step, Phase::Succeeded, at).finished_at = Some(at);
            }
            (ResolveVerb::MarkUndone, Stage::Run | Stage::Probe) => {
                let record = self.enter(step, Phase::Undone, at);
                record.dirty = false;
                record.undone_at = Some(at);
                self.fail(self.spec(step).name.clone(), StepError::fatal(&*stuck.reason), at);
            }
            (ResolveVerb::Abandon, _) => {
                let record = self.enter(step, Phase::Abandoned, at);
                record.abandoned = Some(Arc::new((actor.clone(), why.clone())));
                if !self.committed() {
                    self.fail(self.spec(step).name.clone(), StepError::fatal(&*stuck.reason), at);
                }
            }
        }
        Ok(())
    }
}
