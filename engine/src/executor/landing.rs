//! What a flight that has landed means: the event that is journaled of it, with what follows by the policies. Changes nothing.

use petgraph::graph::NodeIndex;

use super::driver::Driver;
use super::flight::{Done, Flight, Landed};
use super::records::check_writes;
use crate::context::RecordWrite;
use crate::event::{Event, FingerprintPhase, Then, Verdict};
use crate::plan::Class;
use crate::retry::Policy;
use crate::step::{ErrorClass, Probe, StepError};
use crate::task::Millis;

impl<P: ?Sized + Send + Sync + 'static> Driver<P> {
    /// The event, if the flight has one.
    pub(super) fn event_of(&mut self, landed: &Landed, now: Millis) -> Option<Event> {
        match landed.flight {
            Flight::Run(step) => Some(self.run_event(step, landed, now)),
            Flight::Probe(_) if landed.interrupted => None,
            Flight::Probe(step) => Some(self.probe_event(step, landed, now)),
            Flight::Undo(step) => Some(self.undo_event(step, landed, now)),
            Flight::Fingerprint(after) => {
                Some(self.fingerprint_event(FingerprintPhase::of(after), landed, now))
            }
            Flight::Clear => {
                self.cleared(landed, now);
                None
            }
        }
    }

    fn run_event(&self, index: NodeIndex, landed: &Landed, now: Millis) -> Event {
        let spec = self.machine.plan().step(index);
        let (step, attempt) = (spec.name.clone(), landed.attempt);
        let error = match &landed.result {
            Ok(Done::Output(output)) => match self.unstorable(output, landed) {
                None => {
                    return Event::AttemptSucceeded { step, attempt, output: output.clone(), adopted: false };
                }
                // The effect is there: what has decided must not be taken for failed.
                Some(why) if spec.class == Class::Pivot => StepError::in_doubt(why),
                Some(why) => StepError::fatal(why),
            },
            Ok(_) => StepError::fatal("the attempt answered something else"),
            Err(error) => error.clone(),
        };
        let then = self.after_run_failure(index, &error, now);
        Event::AttemptFailed { step, attempt, error, then }
    }

    /// Why a result cannot be journaled, if it cannot.
    fn unstorable(&self, output: &serde_json::Value, landed: &Landed) -> Option<String> {
        let most = self.inner.limits.output;
        if output_size(output) > most {
            return Some(format!("its output is larger than {most} bytes"));
        }
        check_writes(&landed.writes).err()
    }

    /// What follows a failed attempt of a run.
    pub(super) fn after_run_failure(&self, step: NodeIndex, error: &StepError, now: Millis) -> Then {
        let spec = self.machine.plan().step(step);
        let (failures, began) = self.machine.run_failures(step);
        // A pivot in doubt may have decided: only a probe can tell, however often.
        let undecided = spec.class == Class::Pivot && error.class == ErrorClass::InDoubt;
        if self.machine.goes_back() && !undecided && !self.machine.outlives(step) {
            return Then::GiveUp;
        }
        let then = self.after_failure(&spec.run_policy, error.class, failures + 1, began, now);
        if undecided && then == Then::GiveUp {
            Then::Probe { at: now.saturating_add(spec.run_policy.cap_ms) }
        } else {
            then
        }
    }

    fn after_failure(
        &self,
        policy: &Policy,
        class: ErrorClass,
        failures: u32,
        began: Millis,
        now: Millis,
    ) -> Then {
        let at = policy.next(failures, began, now, self.inner.random.roll());
        match (class, at) {
            (ErrorClass::Fatal, _) | (_, None) => Then::GiveUp,
            (ErrorClass::Retryable, Some(at)) => Then::Retry { at },
            (ErrorClass::InDoubt, Some(at)) => Then::Probe { at },
        }
    }

    fn probe_event(&self, index: NodeIndex, landed: &Landed, now: Millis) -> Event {
        let step = self.machine.plan().step(index).name.clone();
        let verdict = |verdict| Event::Probed { step: step.clone(), verdict };
        match &landed.result {
            Ok(Done::Probed(Probe::Applied(output))) => match self.unstorable(output, landed) {
                None => Event::AttemptSucceeded {
                    step,
                    attempt: landed.attempt,
                    output: output.clone(),
                    adopted: true,
                },
                Some(why) => verdict(Verdict::Unknown { why }),
            },
            Ok(Done::Probed(Probe::NotApplied)) => verdict(Verdict::NotApplied),
            Ok(Done::Probed(Probe::Resumable)) => verdict(Verdict::Resumable),
            Ok(Done::Probed(Probe::Partial(what))) => verdict(Verdict::Partial { what: what.clone() }),
            Ok(Done::Probed(Probe::Unknown(why))) => verdict(Verdict::Unknown { why: why.clone() }),
            Ok(_) => verdict(Verdict::Unknown { why: "the probe answered something else".to_owned() }),
            Err(error) => self.probe_failed(index, error.clone(), now),
        }
    }

    /// A probe that fails, even for good, says nothing about the effect: it is asked again, patiently.
    pub(super) fn probe_failed(&self, index: NodeIndex, error: StepError, now: Millis) -> Event {
        let step = self.machine.plan().step(index).name.clone();
        let (failures, began) = self.machine.probe_failures(index);
        let then = self.after_failure(&Policy::PERSISTENT, ErrorClass::Retryable, failures + 1, began, now);
        Event::ProbeFailed { step, error, then }
    }

    fn undo_event(&self, index: NodeIndex, landed: &Landed, now: Millis) -> Event {
        let spec = self.machine.plan().step(index);
        let (step, attempt) = (spec.name.clone(), landed.attempt);
        let error = match &landed.result {
            Ok(_) if landed.writes.iter().any(RecordWrite::is_claim) => {
                StepError::fatal("an undo claims nothing")
            }
            Ok(_) => match check_writes(&landed.writes) {
                Ok(()) => return Event::UndoSucceeded { step, attempt },
                Err(why) => StepError::fatal(why),
            },
            Err(error) => error.clone(),
        };
        let (failures, began) = self.machine.undo_failures(index);
        let then = self.after_failure(&spec.undo_policy, error.class, failures + 1, began, now);
        Event::UndoFailed { step, attempt, error, then }
    }

    fn fingerprint_event(&self, phase: FingerprintPhase, landed: &Landed, now: Millis) -> Event {
        let attempt = landed.attempt;
        let error = match &landed.result {
            Ok(Done::Listed { digest, listing }) => {
                return Event::FingerprintTaken {
                    phase,
                    attempt,
                    digest: digest.clone(),
                    listing: listing.clone(),
                };
            }
            Ok(_) => StepError::fatal("the fingerprint step gave no listing"),
            Err(error) => error.clone(),
        };
        let (failures, began) = self.machine.fingerprint_failures(phase);
        // The first one failing costs nothing but the task; the last one is the proof, so it is tried for long.
        let (policy, class) = match phase {
            FingerprintPhase::Before => (Policy::RUN, error.class),
            FingerprintPhase::After => (Policy::PERSISTENT, ErrorClass::Retryable),
        };
        let then = match self.after_failure(&policy, class, failures + 1, began, now) {
            Then::Probe { at } => Then::Retry { at },
            then @ (Then::Retry { .. } | Then::GiveUp) => then,
        };
        Event::FingerprintFailed { phase, attempt, error, then }
    }

    /// Processes of earlier attempts were ended, or not.
    fn cleared(&mut self, landed: &Landed, now: Millis) {
        let Err(error) = &landed.result else {
            return;
        };
        let (failures, began) = (self.leftovers.failures + 1, self.leftovers.first_began);
        self.leftovers.failures = failures;
        match self.after_failure(&Policy::PERSISTENT, ErrorClass::Retryable, failures, began, now) {
            Then::Retry { at } | Then::Probe { at } => self.leftovers.next = at,
            Then::GiveUp => self.leftovers.given_up = Some(error.message.clone()),
        }
    }
}

/// The size of an output, about: small in nearly all cases, and only strings and containers can be large.
fn output_size(output: &serde_json::Value) -> usize {
    match output {
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => 8,
        serde_json::Value::String(text) => text.len() + 2,
        serde_json::Value::Array(items) => items.iter().map(|item| output_size(item) + 1).sum(),
        serde_json::Value::Object(map) => {
            map.iter().map(|(key, value)| key.len() + 4 + output_size(value)).sum()
        }
    }
}
