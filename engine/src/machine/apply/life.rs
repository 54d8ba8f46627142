//! What concerns the whole task: a new life of the process, the turn round, fingerprints.

use std::sync::Arc;

use petgraph::graph::NodeIndex;

use super::{Why, demand, stuck};
use crate::event::{Accepted, FingerprintPhase, Then};
use crate::machine::{
    Command, FingerprintRecord, FingerprintState, Machine, Phase, Stage, StepRecord, Tries,
};
use crate::mutants::bug;
use crate::plan::{Class, Plan};
use crate::step::StepError;
use crate::store::BlobId;
use crate::task::Millis;

/// What stands in a failure's place of the step when the first fingerprint could not be taken.
const FINGERPRINT: &str = "fingerprint";

/// How many deaths of the process are too many, by what goes on.
#[derive(Clone, Copy)]
struct Patience {
    run: u32,
    undo: u32,
}

impl Machine {
    /// Goes by another plan from here on: nothing of the old one has begun.
    pub(super) fn planned(&mut self, plan: &Arc<Plan>, at: Millis) -> Result<(), Why> {
        self.refuses_plan().map_or(Ok(()), |why| Err(why.to_owned()))?;
        demand(plan.rest().site == self.plan().rest().site, || "it is a plan for another site".to_owned())?;
        self.accepted = Arc::new(Accepted { plan: (**plan).clone(), ..(*self.accepted).clone() });
        self.steps = vec![StepRecord::new(at); plan.len()];
        Ok(())
    }

    /// A new life: what was in flight is in doubt, and what the process died of too often is not begun again (G8).
    pub(super) fn recovered(&mut self, run: u32, undo: u32, at: Millis) {
        let patience = Patience { run, undo };
        let steps: Vec<NodeIndex> = self.plan().steps().map(|(step, _)| step).collect();
        for step in steps {
            match self.record(step).phase {
                Phase::Running => self.survived_run(step, patience, at),
                // Due: a probe may have been in flight. Probes are not journaled.
                Phase::InDoubt(due) if due <= at => self.survived_run(step, patience, at),
                Phase::Undoing => {
                    let record = self.enter(step, Phase::UndoWaiting(at), at);
                    let deaths = record.undos.died();
                    if deaths > patience.undo {
                        let died = format!("the process ended {deaths} times during this undo");
                        record.phase = stuck(Stage::Undo, &died, None);
                    }
                }
                Phase::InDoubt(_)
                | Phase::Pending
                | Phase::Waiting(_)
                | Phase::Succeeded
                | Phase::Failed
                | Phase::Redo
                | Phase::UndoWaiting(_)
                | Phase::Undone
                | Phase::Stuck(_)
                | Phase::Abandoned => {}
            }
        }
        self.survived_fingerprints(patience, at);
    }

    /// The process ended while a run or its probe was in flight.
    fn survived_run(&mut self, step: NodeIndex, patience: Patience, at: Millis) {
        let class = self.spec(step).class;
        let repeats = class == Class::Query || bug("no-doubt");
        let phase = if repeats { Phase::Pending } else { Phase::InDoubt(at) };
        let ran = self.record(step).phase == Phase::Running;
        let record = self.enter(step, phase, at);
        let deaths = if bug("deaths-do-not-count") {
            0
        } else if ran {
            record.probes = Tries { first_began: at, ..Tries::default() };
            record.runs.died()
        } else {
            record.probes.died()
        };
        let died = format!("the process ended {deaths} times during this step");
        if class == Class::Pivot || self.committed() {
            if deaths > patience.undo {
                let stage = if class == Class::Query { Stage::Run } else { Stage::Probe };
                self.enter(step, stuck(stage, &died, Some("not probed again")), at);
            }
        } else if deaths > patience.run && (!self.goes_back() || self.outlives(step)) {
            let error = StepError::fatal(died);
            self.steps[step.index()].error = Some(Arc::new(error.clone()));
            self.failed(step, error, at);
        }
    }

    fn survived_fingerprints(&mut self, patience: Patience, at: Millis) {
        for phase in [FingerprintPhase::Before, FingerprintPhase::After] {
            let record = self.fingerprint_record_mut(phase);
            if !matches!(record.phase, FingerprintState::Running) {
                continue;
            }
            record.phase = FingerprintState::Pending;
            let deaths = record.tries.died();
            if deaths > patience.run {
                let error =
                    StepError::fatal(format!("the process ended {deaths} times during the fingerprint"));
                record.phase = FingerprintState::Failed;
                record.error = Some(error.clone());
                if phase == FingerprintPhase::Before {
                    self.fail(FINGERPRINT.to_owned(), error, at);
                }
            }
        }
    }

    /// Turns the task round, unless it has turned already or only goes forward.
    pub(super) fn fail(&mut self, what: String, error: StepError, at: Millis) {
        if !self.goes_back() && !self.committed() {
            self.failure = Some((what, error));
            self.turned(at);
        }
    }

    /// From now on the task goes back. What waits for a person because it cannot go forward need not any more: its undo is right
    /// whatever is there. Only a pivot that may have decided still has to be told.
    pub(super) fn turned(&mut self, at: Millis) {
        let steps: Vec<NodeIndex> = self.plan().steps().map(|(step, _)| step).collect();
        for step in steps {
            let waits = match self.record(step).phase.stage() {
                Some(Stage::Run) => false,
                Some(Stage::Probe) => self.spec(step).class == Class::Pivot,
                Some(Stage::Undo) | None => true,
            };
            if !waits {
                self.enter(step, Phase::Failed, at);
            }
        }
    }

    pub(super) fn fingerprint_started(
        &mut self,
        phase: FingerprintPhase,
        attempt: u32,
        at: Millis,
    ) -> Result<(), Why> {
        let after = phase == FingerprintPhase::After;
        let due = self.next(at).start.contains(&Command::Fingerprint { after, attempt });
        demand(due, || "this fingerprint is not due".to_owned())?;
        self.started_at.get_or_insert(at);
        let record = self.fingerprint_record_mut(phase);
        record.phase = FingerprintState::Running;
        record.attempts = attempt;
        record.tries.begin(at);
        Ok(())
    }

    pub(super) fn fingerprint_taken(
        &mut self,
        phase: FingerprintPhase,
        attempt: u32,
        digest: &str,
        listing: &BlobId,
    ) -> Result<(), Why> {
        let record = self.running_fingerprint(phase, attempt)?;
        record.phase = FingerprintState::Taken { digest: digest.to_owned(), listing: listing.clone() };
        Ok(())
    }

    pub(super) fn fingerprint_failed(
        &mut self,
        phase: FingerprintPhase,
        attempt: u32,
        error: &StepError,
        then: Then,
        at: Millis,
    ) -> Result<(), Why> {
        let record = self.running_fingerprint(phase, attempt)?;
        record.tries.failures += 1;
        record.error = Some(error.clone());
        record.phase = match then {
            Then::Retry { at } | Then::Probe { at } => FingerprintState::Waiting(at),
            Then::GiveUp => FingerprintState::Failed,
        };
        if phase == FingerprintPhase::Before && then == Then::GiveUp {
            self.fail(FINGERPRINT.to_owned(), error.clone(), at);
        }
        Ok(())
    }

    fn running_fingerprint(
        &mut self,
        phase: FingerprintPhase,
        attempt: u32,
    ) -> Result<&mut FingerprintRecord, Why> {
        let record = self.fingerprint_record_mut(phase);
        let running = matches!(record.phase, FingerprintState::Running) && record.attempts == attempt;
        if running { Ok(record) } else { Err("this fingerprint is not being taken".to_owned()) }
    }

    fn fingerprint_record_mut(&mut self, phase: FingerprintPhase) -> &mut FingerprintRecord {
        match phase {
            FingerprintPhase::Before => &mut self.before,
            FingerprintPhase::After => &mut self.after,
        }
    }
}
