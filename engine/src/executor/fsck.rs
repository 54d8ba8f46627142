//! `journal fsck`: replays every task through the machine and compares what hangs on the events: heads, open marks, locks; and reads its
//! callbacks.
//! Repairs nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::outbox::StoreOutbox;
use super::recover::replay;
use crate::journal::{Journal, keys};
use crate::store::{ReadError, Store};
use crate::task::TaskId;

/// Length of a task's id, with which the keys of open marks and locks end.
const TASK_ID: usize = 37;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FsckReport {
    /// Tasks replayed.
    pub tasks: u64,
    /// Of them, unfinished.
    pub open: u64,
    /// Events replayed.
    pub events: u64,
    /// What is wrong; empty when nothing is.
    pub problems: Vec<String>,
}

/// Checks a journal.
///
/// # Errors
/// When the store itself cannot be read.
pub fn fsck(store: Arc<dyn Store>) -> Result<FsckReport, ReadError> {
    let journal = Journal::new(store);
    let mut report = FsckReport::default();
    let mut locks = BTreeSet::new();
    let mut open = BTreeSet::new();
    let mut damaged = BTreeSet::new();
    journal.each(keys::HEADS, |key, _| {
        let text = String::from_utf8_lossy(&key[keys::HEADS.len()..]).into_owned();
        let Ok(task) = TaskId::try_from(text.clone()) else {
            report.problems.push(format!("{text:?} is the head of no task"));
            return;
        };
        report.tasks += 1;
        let replayed = journal.history(&task).and_then(|(records, head, _)| {
            report.events += records.len() as u64;
            Ok((replay(&task, &records)?, head))
        });
        let (machine, head) = match replayed {
            Ok(replayed) => replayed,
            Err(error) => {
                damaged.insert(task);
                return report.problems.push(error.to_string());
            }
        };
        if head.state.is_final() != machine.outcome().is_some() {
            report.problems.push(format!("{task}: its head says {:?}, its events do not", head.state));
        }
        if machine.outcome().is_none() {
            report.open += 1;
            open.insert(keys::open(&task));
            if machine.locks_granted() {
                locks
                    .extend(machine.plan().rest().locks.iter().map(|lock| keys::lock(&lock.resource, &task)));
            }
        }
    })?;
    for (prefix, expected, what) in [(keys::OPEN, &open, "open mark"), (keys::LOCKS, &locks, "lock")] {
        let mut found = BTreeSet::new();
        journal.each(prefix, |key, _| {
            // What a damaged task should have cannot be told.
            let task = String::from_utf8_lossy(&key[key.len().saturating_sub(TASK_ID)..]).into_owned();
            if TaskId::try_from(task).map_or(true, |task| !damaged.contains(&task)) {
                found.insert(key);
            }
        })?;
        let name = |key: &Vec<u8>| String::from_utf8_lossy(key).replace('\0', " ");
        report
            .problems
            .extend(expected.difference(&found).map(|key| format!("the {what} {} is missing", name(key))));
        report
            .problems
            .extend(found.difference(expected).map(|key| format!("the {what} {} is left over", name(key))));
    }
    let outbox = StoreOutbox::new(Arc::clone(journal.store()));
    journal.each(keys::CALLBACKS, |key, value| {
        let id = String::from_utf8_lossy(&key[keys::CALLBACKS.len()..]);
        if let Some(why) = outbox.flaw(&id, &value) {
            report.problems.push(format!("the callback {id}: {why}"));
        }
    })?;
    Ok(report)
}
