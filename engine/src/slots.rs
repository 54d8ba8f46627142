//! Slots: how many steps may use a server's resource at the same time, first come first served. In memory only, and nothing durable
//! depends on them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::task::TaskId;

/// The slots of all servers.
#[derive(Debug)]
pub(crate) struct Slots {
    capacity: usize,
    used: BTreeMap<String, usize>,
    /// By arrival.
    queues: BTreeMap<String, VecDeque<TaskId>>,
    /// The slots that each waiting task waits for.
    wanted: BTreeMap<TaskId, BTreeSet<String>>,
}

impl Slots {
    /// The same number for each slot.
    pub(crate) fn new(capacity: usize) -> Self {
        let (used, queues, wanted) = Default::default();
        Self { capacity: capacity.max(1), used, queues, wanted }
    }

    /// Takes one, or queues the task behind those who asked earlier.
    pub(crate) fn take(&mut self, slot: &str, task: &TaskId) -> bool {
        let used = self.used.get(slot).copied().unwrap_or_default();
        let queue = self.queues.get(slot);
        let place = queue.and_then(|queue| queue.iter().position(|waiting| waiting == task));
        let ahead = place.or(queue.map(VecDeque::len)).unwrap_or_default();
        if used + ahead < self.capacity {
            *self.used.entry(slot.to_owned()).or_default() += 1;
            self.leave(slot, task);
            return true;
        }
        if place.is_none() {
            self.queues.entry(slot.to_owned()).or_default().push_back(task.clone());
            self.wanted.entry(task.clone()).or_default().insert(slot.to_owned());
        }
        false
    }

    fn leave(&mut self, slot: &str, task: &TaskId) {
        if let Some(queue) = self.queues.get_mut(slot) {
            queue.retain(|waiting| waiting != task);
            if queue.is_empty() {
                self.queues.remove(slot);
            }
        }
        if let Some(wanted) = self.wanted.get_mut(task) {
            wanted.remove(slot);
            if wanted.is_empty() {
                self.wanted.remove(task);
            }
        }
    }

    /// Gives one back; the tasks that get it when they ask now, in order.
    pub(crate) fn give(&mut self, slot: &str) -> Vec<TaskId> {
        if let Some(used) = self.used.get_mut(slot) {
            *used = used.saturating_sub(1);
            if *used == 0 {
                self.used.remove(slot);
            }
        }
        self.ready(slot)
    }

    /// Takes a task out of the queues of all slots but these; the tasks that get one when they ask now.
    pub(crate) fn only_wants(&mut self, task: &TaskId, slots: &[String]) -> Vec<TaskId> {
        let Some(wanted) = self.wanted.get(task) else { return Vec::new() };
        let left: Vec<String> = wanted.iter().filter(|slot| !slots.contains(slot)).cloned().collect();
        left.iter().for_each(|slot| self.leave(slot, task));
        left.iter().flat_map(|slot| self.ready(slot)).collect()
    }

    fn ready(&self, slot: &str) -> Vec<TaskId> {
        let free = self.capacity.saturating_sub(self.used.get(slot).copied().unwrap_or_default());
        self.queues.get(slot).into_iter().flatten().take(free).cloned().collect()
    }

    /// A slot that a task waits for.
    pub(crate) fn awaited(&self, task: &TaskId) -> Option<&str> {
        self.wanted.get(task)?.first().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(n: u8) -> TaskId {
        TaskId::from_bytes([n; 16])
    }

    #[test]
    fn slots_go_round_first_come_first_served() {
        let mut slots = Slots::new(1);
        assert!(slots.take("dump", &task(1)));
        assert!(!slots.take("dump", &task(2)));
        assert!(!slots.take("dump", &task(3)));
        assert_eq!(slots.awaited(&task(3)), Some("dump"));
        assert!(slots.take("pack", &task(3)), "another slot");
        assert_eq!(slots.give("dump"), [task(2)]);
        assert!(!slots.take("dump", &task(1)), "it just had it, and 2 waits longer");
        assert!(!slots.take("dump", &task(3)), "still behind 2");
        assert!(slots.take("dump", &task(2)));
        assert_eq!(slots.give("dump"), [task(3)]);
        assert_eq!(slots.only_wants(&task(3), &[]), [task(1)], "3 has turned round");
        assert!(slots.take("dump", &task(1)));
    }
}
