//! A task's events for those who show them: each with the state after it. Who follows a task asks again and again from where it was, so
//! the states of the last askers are kept, and only what is new is read.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::Inner;
use crate::journal::{JournalError, Record};
use crate::machine::Machine;
use crate::store::ReadError;
use crate::task::{EventView, TaskId};

/// Most events given at once.
const MAX_EVENTS: usize = 1000;
/// States kept: as many as people and tools follow at a time; who falls out costs a reading from the start.
const MAX_KEPT: usize = 64;

/// The states up to which events were read last, newest first.
#[derive(Default)]
pub(super) struct Followed(Mutex<VecDeque<Arc<Machine>>>);

impl Followed {
    /// The newest state of a task that is not beyond `after`.
    fn at(&self, task: &TaskId, after: u64) -> Option<Arc<Machine>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |machine: &&Arc<Machine>| machine.accepted().task == *task && machine.sequence() <= after;
        kept.iter().filter(fits).max_by_key(|machine| machine.sequence()).cloned()
    }

    fn keep(&self, machine: Machine) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |known: &Arc<Machine>| {
            known.accepted().task == machine.accepted().task && known.sequence() == machine.sequence()
        };
        kept.retain(|known| !same(known));
        kept.push_front(Arc::new(machine));
        kept.truncate(MAX_KEPT);
    }
}

impl<P: ?Sized + Send + Sync + 'static> Inner<P> {
    /// See [`crate::service::Tasks::events`].
    pub(super) fn events(
        &self,
        task: &TaskId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<EventView>, ReadError> {
        let limit = limit.min(MAX_EVENTS);
        let mut machine = self.followed.at(task, after).map(Arc::unwrap_or_clone);
        let from = machine.as_ref().map_or(0, Machine::sequence);
        let skipped = usize::try_from(after - from.min(after)).unwrap_or(usize::MAX);
        let records = self.journal.records(task, from, skipped.saturating_add(limit)).map_err(read_error)?;
        let mut events = Vec::new();
        for record in &records {
            let now = match machine.take() {
                None => Machine::begin(record),
                Some(mut machine) => machine.apply(record).map(|()| machine),
            };
            let now = now.map_err(|illegal| ReadError::Damaged(illegal.to_string()))?;
            if record.sequence > after {
                events.push(view(record, &now)?);
            }
            machine = Some(now);
        }
        if let Some(machine) = machine.filter(|_| !records.is_empty()) {
            self.followed.keep(machine);
        }
        Ok(events)
    }
}

fn view(record: &Record, machine: &Machine) -> Result<EventView, ReadError> {
    let data = serde_json::to_value(&record.event).map_err(|error| ReadError::Damaged(error.to_string()));
    let mut data = data?;
    if let Value::Object(fields) = &mut data {
        fields.remove("type");
        fields.remove("plan");
    }
    Ok(EventView {
        sequence: record.sequence,
        at: record.at,
        kind: record.event.kind().to_owned(),
        data,
        state: machine.state(),
    })
}

fn read_error(error: JournalError) -> ReadError {
    match error {
        JournalError::Read(error) => error,
        damaged @ JournalError::Damaged { .. } => ReadError::Damaged(damaged.to_string()),
    }
}
