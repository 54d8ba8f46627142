//! What should be in flight. A pure function of the state and the time; it starts nothing.

use petgraph::graph::NodeIndex;

use super::{FingerprintRecord, FingerprintState, Machine, Phase};
use crate::event::{FingerprintPhase, Outcome};
use crate::plan::Class;
use crate::task::Millis;

/// Something that should be in flight, or done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Command {
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
    /// Attempts that should be cut short: the task goes back.
    pub interrupt: Vec<NodeIndex>,
    /// When to ask again, if nothing happens before.
    pub wake: Option<Millis>,
}

impl Next {
    fn wake_at(&mut self, at: Millis) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
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
        if let Some(at) = self.accepted.not_before
            && now < at
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
        let fingerprinted =
            self.plan().rest().fingerprint.is_none() || self.fingerprint(FingerprintPhase::Before).is_some();
        let mut waits_for_fingerprint = false;
        let mut done = true;
        for (step, spec) in self.plan().steps() {
            let record = &self.steps[step.index()];
            done &= matches!(record.phase, Phase::Succeeded | Phase::Abandoned);
            match record.phase {
                Phase::Pending if self.runnable(step) => {
                    if spec.class == Class::Query || fingerprinted {
                        next.start.push(Command::Run { step, attempt: record.attempts + 1 });
                    } else {
                        waits_for_fingerprint = true;
                    }
                }
                Phase::Waiting(at) if at <= now => {
                    next.start.push(Command::Run { step, attempt: record.attempts + 1 });
                }
                Phase::InDoubt(at) if at <= now => next.start.push(Command::Probe { step }),
                Phase::Redo => next.start.push(Command::Undo { step, attempt: record.undo_attempts + 1 }),
                Phase::UndoWaiting(at) if at <= now => {
                    next.start.push(Command::Undo { step, attempt: record.undo_attempts + 1 });
                }
                Phase::Waiting(at) | Phase::InDoubt(at) | Phase::UndoWaiting(at) => next.wake_at(at),
                Phase::Pending
                | Phase::Running
                | Phase::Succeeded
                | Phase::Failed
                | Phase::Undoing
                | Phase::Undone
                | Phase::Stuck { .. }
                | Phase::Abandoned => {}
            }
        }
        if waits_for_fingerprint {
            Self::next_fingerprint(&self.before, false, now, next);
        }
        if done {
            next.start.push(Command::Finish { outcome: Ending::Succeeded });
        }
    }

    fn next_back(&self, now: Millis, next: &mut Next) {
        let settled = self.settled();
        for (step, spec) in self.plan().steps().rev() {
            let record = &self.steps[step.index()];
            if record.phase == Phase::Running {
                // A pivot of a sub-task decides for itself; everything else is cut short.
                if spec.class != Class::Pivot {
                    next.interrupt.push(step);
                }
                continue;
            }
            if let Phase::InDoubt(at) = record.phase
                && spec.class == Class::Pivot
            {
                if at <= now {
                    next.start.push(Command::Probe { step });
                } else {
                    next.wake_at(at);
                }
                continue;
            }
            if !self.undoable(step, &settled) {
                continue;
            }
            match record.phase {
                Phase::UndoWaiting(at) if at > now => next.wake_at(at),
                _ => next.start.push(Command::Undo { step, attempt: record.undo_attempts + 1 }),
            }
        }
        if !self.plan().steps().all(|(step, _)| settled[step.index()]) || !self.fingerprints_at_rest() {
            return;
        }
        let proof_due = self.touched() && self.fingerprint(FingerprintPhase::Before).is_some();
        match self.after.phase {
            FingerprintState::Taken { .. } | FingerprintState::Failed => {}
            FingerprintState::Pending | FingerprintState::Running | FingerprintState::Waiting(_)
                if proof_due =>
            {
                Self::next_fingerprint(&self.after, true, now, next);
                return;
            }
            FingerprintState::Pending | FingerprintState::Running | FingerprintState::Waiting(_) => {}
        }
        let outcome = if self.cancel.is_some() { Ending::Canceled } else { Ending::RolledBack };
        next.start.push(Command::Finish { outcome });
    }

    fn next_fingerprint(record: &FingerprintRecord, after: bool, now: Millis, next: &mut Next) {
        let attempt = record.attempts + 1;
        match record.phase {
            FingerprintState::Pending => next.start.push(Command::Fingerprint { after, attempt }),
            FingerprintState::Waiting(at) if at <= now => {
                next.start.push(Command::Fingerprint { after, attempt })
            }
            FingerprintState::Waiting(at) => next.wake_at(at),
            FingerprintState::Running | FingerprintState::Taken { .. } | FingerprintState::Failed => {}
        }
    }

    /// The first fingerprint is not being taken at this moment (a cancel may come meanwhile).
    fn fingerprints_at_rest(&self) -> bool {
        !matches!(self.before.phase, FingerprintState::Running)
    }

    /// Whether everything a step waits for is there.
    pub(super) fn runnable(&self, step: NodeIndex) -> bool {
        self.plan()
            .before(step)
            .all(|before| matches!(self.steps[before.index()].phase, Phase::Succeeded | Phase::Abandoned))
    }

    /// Whether the undo of a step may begin: it has something to take back, and nothing that came after it is left (G4).
    pub(super) fn undoable(&self, step: NodeIndex, settled: &[bool]) -> bool {
        let phase = &self.steps[step.index()].phase;
        self.needs_undo(step)
            && !matches!(phase, Phase::Running | Phase::Undoing | Phase::Stuck { .. })
            && self.plan().after(step).all(|after| settled[after.index()])
    }

    /// For each step by its index, whether nothing of it or after it is left to take back or to wait for.
    pub(super) fn settled(&self) -> Vec<bool> {
        let mut settled = vec![false; self.steps.len()];
        for (step, spec) in self.plan().steps().rev() {
            settled[step.index()] = match self.steps[step.index()].phase {
                Phase::Pending | Phase::Undone | Phase::Abandoned => true,
                Phase::Running | Phase::Undoing | Phase::UndoWaiting(_) | Phase::Stuck { .. } => false,
                Phase::InDoubt(_) if spec.class == Class::Pivot => false,
                Phase::Waiting(_) | Phase::InDoubt(_) | Phase::Succeeded | Phase::Failed | Phase::Redo => {
                    !self.needs_undo(step)
                }
            } && self.plan().after(step).all(|after| settled[after.index()]);
        }
        settled
    }
}
