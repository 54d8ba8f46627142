//! Locks and slots of the running engine, and who is told when something was given back. Nothing here is durable: the journal's
//! lock rows are.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::live::Live;
use super::{EngineState, Shared};
use crate::locks::LockTable;
use crate::slots::Slots;
use crate::task::TaskId;

/// Locks and slots, changed together.
pub(super) struct Tables {
    pub(super) locks: LockTable,
    pub(super) slots: Slots,
}

impl Shared {
    pub(super) fn new(per_slot: usize) -> Self {
        Self {
            state: Mutex::new(EngineState::default()),
            tables: Mutex::new(Tables { locks: LockTable::default(), slots: Slots::new(per_slot) }),
            changes: AtomicU64::new(0),
        }
    }

    /// How often tasks have changed the registry in this life.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// Notes that the registry was changed.
    pub(super) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn state(&self) -> MutexGuard<'_, EngineState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells tasks to look again: something they may wait for was given back.
    pub(super) fn poke(&self, tasks: &[TaskId]) {
        if tasks.is_empty() {
            return;
        }
        let lives: Vec<Arc<Live>> = {
            let state = self.state();
            tasks.iter().filter_map(|task| state.live.get(task).cloned()).collect()
        };
        for live in lives {
            live.poke();
        }
    }

    /// Takes a slot; `None`: the task is in the queue for it.
    pub(super) fn take_slot(self: &Arc<Self>, slot: &str, task: &TaskId) -> Option<SlotHold> {
        let taken = self.tables().slots.take(slot, task);
        taken.then(|| SlotHold { shared: self.clone(), slot: slot.to_owned() })
    }
}

/// A slot in use: given back when dropped, however the attempt ends.
pub(super) struct SlotHold {
    shared: Arc<Shared>,
    slot: String,
}

impl Drop for SlotHold {
    fn drop(&mut self) {
        let next = self.shared.tables().slots.give(&self.slot);
        self.shared.poke(&next);
    }
}
