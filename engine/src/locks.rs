//! Locks and slots: who may go on, first come first served. All locks of a task are granted at once, so there is no deadlock.
//! In memory only; what is durable of them is written by the executor together with the events.

use std::collections::BTreeMap;

use crate::plan::Lock;
use crate::service::LockView;
use crate::task::{BlockedOn, Millis, TaskId};

/// The lock table.
#[derive(Debug, Default)]
pub(crate) struct LockTable {
    held: BTreeMap<String, Vec<(TaskId, bool)>>,
    /// By arrival.
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    task: TaskId,
    locks: Vec<Lock>,
    since: Millis,
}

impl LockTable {
    /// Asks for all locks of a task. `true`: granted. Otherwise the task is in the queue (once), and a later call asks again.
    pub(crate) fn request(&mut self, task: &TaskId, locks: &[Lock], now: Millis) -> bool {
        if self.holds(task, locks) {
            return true;
        }
        let place = self.waiting.iter().position(|waiting| waiting.task == *task);
        let earlier = &self.waiting[..place.unwrap_or(self.waiting.len())];
        if self.blocker(task, locks, earlier).is_none() {
            if let Some(place) = place {
                self.waiting.remove(place);
            }
            self.hold(task, locks);
            return true;
        }
        if place.is_none() {
            self.waiting.push(Waiting { task: task.clone(), locks: locks.to_vec(), since: now });
        }
        false
    }

    fn holds(&self, task: &TaskId, locks: &[Lock]) -> bool {
        locks.iter().all(|lock| {
            let holders = self.held.get(&lock.resource);
            holders.is_some_and(|holders| holders.iter().any(|(holder, _)| holder == task))
        })
    }

    /// Takes locks that the journal says are held.
    pub(crate) fn hold(&mut self, task: &TaskId, locks: &[Lock]) {
        for lock in locks {
            let holders = self.held.entry(lock.resource.clone()).or_default();
            if !holders.iter().any(|(holder, _)| holder == task) {
                holders.push((task.clone(), lock.shared));
            }
        }
    }

    /// Gives everything of a task back, its place in the queue too; the tasks that get their locks when they ask now, in order.
    pub(crate) fn release(&mut self, task: &TaskId) -> Vec<TaskId> {
        self.waiting.retain(|waiting| waiting.task != *task);
        self.held.retain(|_, holders| {
            holders.retain(|(holder, _)| holder != task);
            !holders.is_empty()
        });
        self.ready()
    }

    /// The waiting tasks whose locks are free and were not asked for earlier by others.
    fn ready(&self) -> Vec<TaskId> {
        let mut ahead: BTreeMap<&str, bool> = BTreeMap::new();
        let mut ready = Vec::new();
        for waiting in &self.waiting {
            let free = waiting.locks.iter().all(|lock| {
                let holders = self.held.get(&lock.resource).into_iter().flatten();
                let held = holders.into_iter().any(|(_, shared)| !(*shared && lock.shared));
                let wanted =
                    ahead.get(lock.resource.as_str()).is_some_and(|shared| !(*shared && lock.shared));
                !held && !wanted
            });
            if free {
                ready.push(waiting.task.clone());
            }
            for lock in &waiting.locks {
                *ahead.entry(&lock.resource).or_insert(true) &= lock.shared;
            }
        }
        ready
    }

    /// What a waiting task waits for.
    pub(crate) fn blocked_on(&self, task: &TaskId) -> Option<BlockedOn> {
        let place = self.waiting.iter().position(|waiting| waiting.task == *task)?;
        let waiting = &self.waiting[place];
        let (resource, holder) = self.blocker(task, &waiting.locks, &self.waiting[..place])?;
        Some(BlockedOn {
            kind: "lock".to_owned(),
            what: format!("the lock on {resource}, held or awaited by {holder}"),
            holder: Some(holder),
            since: waiting.since,
            until: None,
        })
    }

    /// The table, for people.
    pub(crate) fn view(&self) -> Vec<LockView> {
        let mut views: BTreeMap<&str, LockView> = BTreeMap::new();
        let empty = |resource: &str, shared| LockView {
            resource: resource.to_owned(),
            shared,
            holders: Vec::new(),
            waiting: Vec::new(),
        };
        for (resource, holders) in &self.held {
            let shared = holders.iter().all(|(_, shared)| *shared);
            let view = views.entry(resource).or_insert_with(|| empty(resource, shared));
            view.holders.extend(holders.iter().map(|(task, _)| task.clone()));
        }
        for waiting in &self.waiting {
            for lock in &waiting.locks {
                let view = views.entry(&lock.resource).or_insert_with(|| empty(&lock.resource, lock.shared));
                view.waiting.push(waiting.task.clone());
            }
        }
        views.into_values().collect()
    }

    /// The first thing in the way of these locks: a holder, or somebody who asked earlier.
    fn blocker(&self, task: &TaskId, locks: &[Lock], earlier: &[Waiting]) -> Option<(String, TaskId)> {
        for lock in locks {
            let holders = self.held.get(&lock.resource).into_iter().flatten();
            if let Some((holder, _)) =
                holders.into_iter().find(|(holder, shared)| holder != task && !(*shared && lock.shared))
            {
                return Some((lock.resource.clone(), holder.clone()));
            }
            let before = earlier.iter().find(|waiting| {
                let mut wanted = waiting.locks.iter().filter(|wanted| wanted.resource == lock.resource);
                wanted.any(|wanted| !(wanted.shared && lock.shared))
            });
            if let Some(before) = before {
                return Some((lock.resource.clone(), before.task.clone()));
            }
        }
        None
    }
}

/// Slots: how many steps may use a server's resource at the same time.
#[derive(Debug)]
pub(crate) struct Slots {
    capacity: usize,
    used: BTreeMap<String, usize>,
    waiting: Vec<(String, TaskId)>,
}

impl Slots {
    /// The same number for each slot.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), used: BTreeMap::new(), waiting: Vec::new() }
    }

    /// Takes one, or queues the task behind those who asked earlier.
    pub(crate) fn take(&mut self, slot: &str, task: &TaskId) -> bool {
        let used = self.used.get(slot).copied().unwrap_or_default();
        let mut queue = self.waiting.iter().filter(|(wanted, _)| wanted == slot);
        let place = queue.position(|(_, waiting)| waiting == task);
        let ahead = place.unwrap_or_else(|| self.waiting.iter().filter(|(wanted, _)| wanted == slot).count());
        if used + ahead < self.capacity {
            *self.used.entry(slot.to_owned()).or_default() += 1;
            self.waiting.retain(|(wanted, waiting)| !(wanted == slot && waiting == task));
            return true;
        }
        if place.is_none() {
            self.waiting.push((slot.to_owned(), task.clone()));
        }
        false
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
        let gone = |(wanted, waiting): &(String, TaskId)| waiting == task && !slots.contains(wanted);
        let left: Vec<String> =
            self.waiting.iter().filter(|row| gone(row)).map(|(slot, _)| slot.clone()).collect();
        self.waiting.retain(|row| !gone(row));
        left.iter().flat_map(|slot| self.ready(slot)).collect()
    }

    fn ready(&self, slot: &str) -> Vec<TaskId> {
        let free = self.capacity.saturating_sub(self.used.get(slot).copied().unwrap_or_default());
        let queue = self.waiting.iter().filter(|(wanted, _)| wanted == slot);
        queue.take(free).map(|(_, task)| task.clone()).collect()
    }

    /// The slot that a task waits for.
    pub(crate) fn awaited(&self, task: &TaskId) -> Option<&str> {
        self.waiting.iter().find(|(_, waiting)| waiting == task).map(|(slot, _)| slot.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(n: u8) -> TaskId {
        TaskId::from_bytes([n; 16])
    }

    fn locks(list: &[(&str, bool)]) -> Vec<Lock> {
        list.iter()
            .map(|(resource, shared)| Lock { resource: (*resource).to_owned(), shared: *shared })
            .collect()
    }

    #[test]
    fn all_locks_come_at_once_and_first_come_first_served() {
        let mut table = LockTable::default();
        assert!(table.request(&task(1), &locks(&[("a", false), ("p", true)]), 0));
        assert!(!table.request(&task(2), &locks(&[("a", false), ("b", false)]), 1));
        assert!(
            !table.request(&task(3), &locks(&[("b", false)]), 2),
            "2 asked for b earlier, though nobody holds it"
        );
        assert!(table.request(&task(4), &locks(&[("p", true)]), 3), "shared locks go together");
        assert_eq!(table.blocked_on(&task(2)).unwrap().holder, Some(task(1)));
        assert_eq!(table.blocked_on(&task(3)).unwrap().holder, Some(task(2)));
        assert_eq!(table.release(&task(1)), [task(2)], "3 is still behind 2");
        assert!(!table.request(&task(3), &locks(&[("b", false)]), 4), "still behind 2");
        assert!(table.request(&task(2), &locks(&[("a", false), ("b", false)]), 4));
        assert_eq!(table.release(&task(2)), [task(3)]);
        assert!(table.request(&task(3), &locks(&[("b", false)]), 5));
        assert!(!table.request(&task(5), &locks(&[("b", false)]), 6));
        assert!(table.request(&task(3), &locks(&[("b", false)]), 7), "what is held is granted again");
    }

    #[test]
    fn an_exclusive_lock_is_not_starved_by_shared_ones() {
        let mut table = LockTable::default();
        assert!(table.request(&task(1), &locks(&[("p", true)]), 0));
        assert!(!table.request(&task(2), &locks(&[("p", false)]), 0));
        assert!(!table.request(&task(3), &locks(&[("p", true)]), 0), "comes after the exclusive one");
        table.release(&task(1));
        assert!(table.request(&task(2), &locks(&[("p", false)]), 0));
    }

    #[test]
    fn all_shared_locks_at_the_head_of_the_queue_are_granted_together() {
        let mut table = LockTable::default();
        assert!(table.request(&task(1), &locks(&[("p", false)]), 0));
        for n in [2, 3] {
            assert!(!table.request(&task(n), &locks(&[("p", true)]), 0));
        }
        assert!(!table.request(&task(4), &locks(&[("p", false)]), 0));
        assert!(!table.request(&task(5), &locks(&[("p", true)]), 0));
        assert_eq!(table.release(&task(1)), [task(2), task(3)], "5 comes after the exclusive 4");
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
