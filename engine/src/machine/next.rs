//! What should be in flight. A pure function of the state and the time; it starts nothing.

use petgraph::graph::NodeIndex;

use super::{FingerprintRecord, FingerprintState, Machine, Phase, Stage};
use crate::event::{FingerprintPhase, Outcome};
use crate::mutants::bug;
use crate::plan::Class;
use crate::task::Millis;

/// Something that should be in flight, or done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Command {
    /// Ask a second person.
    Ask,
    /// Give up waiting for one.
    Expire,
    /// Get all locks.
    Lock,
    /// Take a fingerprint.
    Fingerprint {
        /// Which: `true` is the one after the last undo.
        after: bool,
        /// The attempt's number.
        attempt: u32,
    },
    /// Start an attempt of a step.
    Run {
        /// The step.
        step: NodeIndex,
        /// The attempt's number.
        attempt: u32,
    },
    /// Probe a step in doubt.
    Probe {
        /// The step.
        step: NodeIndex,
    },
    /// Start an attempt of a step's undo.
    Undo {
        /// The step.
        step: NodeIndex,
        /// The attempt's number.
        attempt: u32,
    },
    /// End the task.
    Finish {
        /// How.
        outcome: Ending,
    },
}

/// [`Outcome`] with an order, for sets of commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// Everything is done.
    Succeeded,
    /// Undone after a failure.
    RolledBack,
    /// Undone on request.
    Canceled,
}

impl From<Ending> for Outcome {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Succeeded => Self::Succeeded,
            Ending::RolledBack => Self::RolledBack,
            Ending::Canceled => Self::Canceled,
        }
    }
}

/// The answer of [`Machine::next`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Next {
    /// To be started, unless in flight already.
    pub start: Vec<Command>,
    /// Steps whose run or probe, if in flight, should be cut short: the task goes back.
    pub interrupt: Vec<NodeIndex>,
    /// The same for the first fingerprint.
    pub interrupt_fingerprint: bool,
    /// When to ask again, if nothing happens before.
    pub wake: Option<Millis>,
}

impl Next {
    fn wake_at(&mut self, at: Millis) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    /// The command now, or a look at the time when it is due.
    pub(super) fn at(&mut self, due: Millis, now: Millis, command: Command) {
        if due <= now { self.start.push(command) } else { self.wake_at(due) }
    }
}

impl FingerprintPhase {
    pub(crate) fn of(after: bool) -> Self {
        if after { Self::After } else { Self::Before }
    }
}

impl Machine {
    /// What should be in flight at `now`, as far as it is not running already by this state.
    #[must_use]
    pub fn next(&self, now: Millis) -> Next {
        let mut next = Next::default();
        if self.finished.is_some() {
            return next;
        }
        if self.goes_back() {
            self.next_back(now, &mut next);
            return next;
        }
        if self.held_whole() {
            self.next_at_gate(now, &mut next);
            return next;
        }
        let begun = self.locks_granted || self.started_at.is_some();
        if let Some(at) = self.accepted.not_before
            && now < at
            && !begun
        {
            next.wake_at(at);
            return next;
        }
        if !self.locks_granted && !self.plan().rest().locks.is_empty() {
            next.start.push(Command::Lock);
            return next;
        }
        self.next_forward(now, &mut next);
        next
    }

    fn next_forward(&self, now: Millis, next: &mut Next) {
        let proven =
            self.plan().rest().fingerprint.is_none() || self.fingerprint(FingerprintPhase::Before).is_some();
        let (mut waits_for_proof, mut waits_for_person) = (false, false);
        let mut done = true;
        for (step, spec) in self.plan().steps() {
            let record = self.record(step);
            let undo = Command::Undo { step, attempt: record.undo_attempts + 1 };
            done &= record.phase.is_done();
            match record.phase {
                Phase::Pending if spec.class != Class::Query && !proven => {
                    waits_for_proof |= self.runnable(step);
                }
                Phase::Pending if self.held(step) => waits_for_person |= self.runnable(step),
                Phase::Redo => next.start.push(undo),
                Phase::UndoWaiting(at) => next.at(at, now, undo),
                Phase::Pending | Phase::Waiting(_) | Phase::InDoubt(_) => {
                    self.next_of_run(step, now, next);
                }
                Phase::Running
                | Phase::Succeeded
                | Phase::Failed
                | Phase::Undoing
                | Phase::Undone
                | Phase::Stuck(_)
                | Phase::Abandoned => {}
            }
        }
        if waits_for_proof {
            Self::next_fingerprint(&self.before, false, now, next);
        }
        if waits_for_person {
            self.next_at_gate(now, next);
        }
        if done {
            next.start.push(Command::Finish { outcome: Ending::Succeeded });
        }
    }

    /// What a step needs to go forward.
    fn next_of_run(&self, step: NodeIndex, now: Millis, next: &mut Next) {
        let record = self.record(step);
        let run = Command::Run { step, attempt: record.attempts + 1 };
        match record.phase {
            Phase::Pending if self.runnable(step) => next.start.push(run),
            Phase::Waiting(at) => next.at(at, now, run),
            Phase::InDoubt(at) => next.at(at, now, Command::Probe { step }),
            Phase::Pending
            | Phase::Running
            | Phase::Succeeded
            | Phase::Failed
            | Phase::Redo
            | Phase::Undoing
            | Phase::UndoWaiting(_)
            | Phase::Undone
            | Phase::Stuck(_)
            | Phase::Abandoned => {}
        }
    }

    fn next_back(&self, now: Millis, next: &mut Next) {
        let settled = self.settled();
        for (step, spec) in self.plan().steps().rev() {
            let record = self.record(step);
            let in_doubt = matches!(record.phase, Phase::InDoubt(_));
            if self.outlives(step) || (spec.class == Class::Pivot && in_doubt) {
                self.next_of_run(step, now, next);
                continue;
            }
            // What decides for a sub-task is awaited; everything else is cut short.
            if (record.phase == Phase::Running || in_doubt) && spec.class != Class::Pivot {
                next.interrupt.push(step);
            }
            if self.undoable(step, &settled) {
                let due = if let Phase::UndoWaiting(at) = record.phase { at } else { now };
                next.at(due, now, Command::Undo { step, attempt: record.undo_attempts + 1 });
            }
        }
        if matches!(self.before.phase, FingerprintState::Running) {
            next.interrupt_fingerprint = true;
        } else if settled.iter().all(|settled| *settled) || bug("early-end") {
            self.next_end(now, next);
        }
    }

    /// Everything is taken back: the proof, then the end.
    fn next_end(&self, now: Millis, next: &mut Next) {
        let proof_due = self.touched() && self.fingerprint(FingerprintPhase::Before).is_some();
        match self.after.phase {
            FingerprintState::Pending | FingerprintState::Running | FingerprintState::Waiting(_)
                if proof_due =>
            {
                Self::next_fingerprint(&self.after, true, now, next);
            }
            FingerprintState::Pending
            | FingerprintState::Running
            | FingerprintState::Waiting(_)
            | FingerprintState::Taken { .. }
            | FingerprintState::Failed => {
                let outcome = if self.cancel.is_some() { Ending::Canceled } else { Ending::RolledBack };
                next.start.push(Command::Finish { outcome });
            }
        }
    }

    fn next_fingerprint(record: &FingerprintRecord, after: bool, now: Millis, next: &mut Next) {
        let command = Command::Fingerprint { after, attempt: record.attempts + 1 };
        match record.phase {
            FingerprintState::Pending => next.start.push(command),
            FingerprintState::Waiting(at) => next.at(at, now, command),
            FingerprintState::Running | FingerprintState::Taken { .. } | FingerprintState::Failed => {}
        }
    }

    /// Whether everything a step waits for is there.
    pub(super) fn runnable(&self, step: NodeIndex) -> bool {
        self.plan().before(step).all(|before| self.record(before).phase.is_done())
    }

    /// Whether the undo of a step may begin: it has something to take back, nothing of it is in flight, and nothing that came after
    /// it is left (G4).
    pub(super) fn undoable(&self, step: NodeIndex, settled: &[bool]) -> bool {
        let idle = !matches!(self.record(step).phase, Phase::Running | Phase::Undoing | Phase::Stuck(_));
        let free = self.plan().after(step).all(|after| settled[after.index()]) || bug("undo-too-early");
        idle && self.needs_undo(step) && free
    }

    /// For each step by its index, whether nothing of it or after it is left to take back or to wait for, when the task goes back.
    pub(super) fn settled(&self) -> Vec<bool> {
        let going_on = self.going_on();
        let mut settled = vec![false; self.steps.len()];
        for (step, spec) in self.plan().steps().rev() {
            let own = match &self.record(step).phase {
                Phase::Pending | Phase::Waiting(_) | Phase::InDoubt(_) if going_on[step.index()] => false,
                Phase::InDoubt(_) if spec.class == Class::Pivot => false,
                Phase::Running | Phase::Undoing | Phase::UndoWaiting(_) => false,
                Phase::Stuck(stuck) => match stuck.stage {
                    Stage::Undo | Stage::Probe => false,
                    Stage::Run => !self.needs_undo(step),
                },
                Phase::Pending
                | Phase::Waiting(_)
                | Phase::InDoubt(_)
                | Phase::Succeeded
                | Phase::Failed
                | Phase::Redo
                | Phase::Undone
                | Phase::Abandoned => !self.needs_undo(step),
            };
            settled[step.index()] = own && self.plan().after(step).all(|after| settled[after.index()]);
        }
        settled
    }

    /// For each step by its index, whether it will still run although the task goes back.
    fn going_on(&self) -> Vec<bool> {
        let mut going_on = vec![false; self.steps.len()];
        for (step, _) in self.plan().steps().filter(|(step, _)| self.outlives(*step)) {
            going_on[step.index()] = match self.record(step).phase {
                Phase::Running | Phase::Waiting(_) | Phase::InDoubt(_) => true,
                Phase::Pending => self
                    .plan()
                    .before(step)
                    .all(|before| self.record(before).phase.is_done() || going_on[before.index()]),
                Phase::Succeeded
                | Phase::Failed
                | Phase::Redo
                | Phase::Undoing
                | Phase::UndoWaiting(_)
                | Phase::Undone
                | Phase::Stuck(_)
                | Phase::Abandoned => false,
            };
        }
        going_on
    }
}
