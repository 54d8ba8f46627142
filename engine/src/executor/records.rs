//! Registry records that steps stage: their bounds, claims against those of other tasks, and their way into a batch.

use petgraph::graph::NodeIndex;

use super::commit::Draft;
use super::driver::{Driver, Fact, Halt};
use crate::context::RecordWrite;
use crate::event::Event;
use crate::journal::{AppendError, keys};
use crate::mutants::bug;
use crate::plan::Class;
use crate::step::StepError;
use crate::store::{Batch, MAX_KEY, MAX_VALUE};
use crate::task::Millis;

/// Most records staged by one attempt: they are committed in one batch, beside those of others.
const MAX_WRITES: usize = 64;

/// Whether the store will take what an attempt has staged: found out now, since a batch that is refused would stop everything.
pub(super) fn check_writes(writes: &[RecordWrite]) -> Result<(), String> {
    if writes.len() > MAX_WRITES {
        return Err(format!("it stages {} records, {MAX_WRITES} are allowed", writes.len()));
    }
    for write in writes {
        let (key, value) = match write {
            RecordWrite::Put { family, name, value } | RecordWrite::Claim { family, name, value } => {
                (keys::record(family, name), encode(value)?.len())
            }
            RecordWrite::Delete { family, name } => (keys::record(family, name), 0),
        };
        if key.len() > MAX_KEY {
            return Err(format!("the name of its record is too long: {} bytes, {MAX_KEY} fit", key.len()));
        }
        if value > MAX_VALUE {
            let key = String::from_utf8_lossy(&key);
            return Err(format!("its record {key:?} has {value} bytes, {MAX_VALUE} fit"));
        }
    }
    Ok(())
}

fn encode(value: &serde_json::Value) -> Result<Vec<u8>, String> {
    serde_json::to_vec(value).map_err(|error| format!("a record does not serialise: {error}"))
}

impl<P: ?Sized + Send + Sync + 'static> Driver<P> {
    /// A claim that somebody else holds turns the success into a failure that may pass: the next attempt chooses again. What a claim
    /// was checked against becomes a precondition of the batch.
    pub(super) fn check_claims(&self, draft: &mut Draft, fact: &mut Fact) -> Result<(), Halt> {
        let Event::AttemptSucceeded { step, attempt, adopted, .. } = &fact.event else { return Ok(()) };
        let mut guards = Vec::new();
        let mut lost = None;
        for write in &fact.writes {
            let RecordWrite::Claim { family, name, value } = write else { continue };
            let mine = encode(value).map_err(Halt::Task)?;
            let held = match draft.written(family, name) {
                Some(RecordWrite::Put { value, .. } | RecordWrite::Claim { value, .. }) => {
                    Some(encode(value).map_err(Halt::Task)?)
                }
                Some(RecordWrite::Delete { .. }) => None,
                None => {
                    let key = keys::record(family, name);
                    let held = self.inner.journal.store().get(&key);
                    let held = held.map_err(|error| Halt::Engine(error.to_string()))?;
                    guards.push((key, held.clone()));
                    held
                }
            };
            if held.is_some_and(|held| held != mine) {
                lost = Some(format!("{family} {name:?} was claimed by somebody else meanwhile"));
            }
        }
        match (lost, self.machine.plan().find(step)) {
            (Some(why), Some(index)) => {
                fact.event = self.lost_claim(index, *attempt, *adopted, why, draft.now);
                fact.writes.clear();
            }
            (None, _) | (Some(_), None) => draft.guards.extend(guards),
        }
        Ok(())
    }

    fn lost_claim(&self, index: NodeIndex, attempt: u32, adopted: bool, why: String, now: Millis) -> Event {
        let spec = self.machine.plan().step(index);
        if adopted {
            return self.probe_failed(index, StepError::retryable(why), now);
        }
        // The effect is there: what has decided must not be taken for failed.
        let pivot = spec.class == Class::Pivot;
        let error = if pivot { StepError::in_doubt(why) } else { StepError::retryable(why) };
        let then = self.after_run_failure(index, &error, now);
        Event::AttemptFailed { step: spec.name.clone(), attempt, error, then }
    }
}

impl Draft {
    /// What this batch does to a record.
    fn written(&self, family: &str, name: &str) -> Option<&RecordWrite> {
        self.writes.iter().rev().find(|write| match write {
            RecordWrite::Put { family: f, name: n, .. }
            | RecordWrite::Claim { family: f, name: n, .. }
            | RecordWrite::Delete { family: f, name: n } => *f == family && n == name,
        })
    }

    /// Adds the registry's changes to a batch.
    pub(super) fn stage_records(&self, batch: &mut Batch) -> Result<(), AppendError> {
        for (key, held) in self.guards.iter().filter(|_| !bug("claims-unguarded")) {
            match held {
                Some(held) => batch.require_equals(key.clone(), held.clone()),
                None => batch.require_absent(key.clone()),
            };
        }
        for write in &self.writes {
            match write {
                RecordWrite::Put { family, name, value } | RecordWrite::Claim { family, name, value } => {
                    batch.put(keys::record(family, name), encode(value).map_err(AppendError::Encode)?);
                }
                RecordWrite::Delete { family, name } => {
                    batch.delete(keys::record(family, name));
                }
            }
        }
        Ok(())
    }
}
