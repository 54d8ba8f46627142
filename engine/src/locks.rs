//! Locks: who may go on, by priority, then first come first served. All locks of a task are granted at once, so there is no deadlock. A release costs
//! what its own resources' queues do, however many tasks wait elsewhere. In memory only; what is durable of locks is written by the
//! executor together with the events.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::plan::Lock;
use crate::service::LockView;
use crate::task::{BlockedOn, Millis, TaskId};

/// Place in the queue: the higher priority first, then the order of arrival.
type Ticket = (Reverse<i8>, u64);

/// The lock table.
#[derive(Debug, Default)]
pub(crate) struct LockTable {
    resources: BTreeMap<String, Resource>,
    /// What each task holds.
    held: BTreeMap<TaskId, BTreeSet<String>>,
    waiting: BTreeMap<Ticket, Waiting>,
    tickets: BTreeMap<TaskId, Ticket>,
    /// The places that tasks had when they got what they hold.
    turns: BTreeMap<TaskId, Ticket>,
    next_number: u64,
}

/// Who holds a resource and who waits for it, and whether they share it. Dropped when nobody does either.
#[derive(Debug, Default)]
struct Resource {
    holders: Vec<(TaskId, bool)>,
    queue: BTreeMap<Ticket, bool>,
}

#[derive(Debug)]
struct Waiting {
    task: TaskId,
    locks: Vec<Lock>,
    since: Millis,
}

impl LockTable {
    /// Asks for all locks of a task. `true`: granted. Otherwise the task is in the queue (once), and a later call asks again.
    pub(crate) fn request(&mut self, task: &TaskId, locks: &[Lock], priority: i8, now: Millis) -> bool {
        if self.holds(task, locks) {
            return true;
        }
        let ticket = self.tickets.get(task).copied();
        let new = (Reverse(priority), self.next_number);
        if self.blocker(task, locks, ticket.unwrap_or(new)).is_none() {
            self.leave_queue(task);
            self.hold(task, locks);
            self.turns.insert(task.clone(), ticket.unwrap_or(new));
            if ticket.is_none() {
                self.next_number += 1;
            }
            return true;
        }
        if ticket.is_none() {
            self.enqueue(task, locks, new, now);
        }
        false
    }

    fn holds(&self, task: &TaskId, locks: &[Lock]) -> bool {
        let held = self.held.get(task);
        locks.iter().all(|lock| held.is_some_and(|held| held.contains(&lock.resource)))
    }

    fn enqueue(&mut self, task: &TaskId, locks: &[Lock], ticket: Ticket, now: Millis) {
        self.next_number += 1;
        for lock in locks {
            self.resources.entry(lock.resource.clone()).or_default().queue.insert(ticket, lock.shared);
        }
        self.waiting.insert(ticket, Waiting { task: task.clone(), locks: locks.to_vec(), since: now });
        self.tickets.insert(task.clone(), ticket);
    }

    /// Gives a task's locks back and asks for others, as if it had asked for them when its turn was: it stays before all that came after
    /// it. The tasks that get their locks when they ask now, in order.
    pub(crate) fn exchange(&mut self, task: &TaskId, locks: &[Lock], now: Millis) -> Vec<TaskId> {
        let Some(turn) = self.turns.get(task).copied() else { return Vec::new() };
        let free = self.give_back(task);
        if self.blocker(task, locks, turn).is_some() {
            self.enqueue(task, locks, turn, now);
        } else {
            self.hold(task, locks);
            self.turns.insert(task.clone(), turn);
        }
        self.ready(&free)
    }

    /// Takes a task out of the queues; the resources that it waited for.
    fn leave_queue(&mut self, task: &TaskId) -> BTreeSet<String> {
        let waiting =
            self.tickets.remove(task).and_then(|ticket| Some((ticket, self.waiting.remove(&ticket)?)));
        let Some((ticket, waiting)) = waiting else { return BTreeSet::new() };
        for lock in &waiting.locks {
            self.change(&lock.resource, |resource| {
                resource.queue.remove(&ticket);
            });
        }
        waiting.locks.into_iter().map(|lock| lock.resource).collect()
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut Resource)) {
        if let Some(resource) = self.resources.get_mut(name) {
            change(resource);
            if resource.holders.is_empty() && resource.queue.is_empty() {
                self.resources.remove(name);
            }
        }
    }

    /// Takes locks that the journal says are held.
    pub(crate) fn hold(&mut self, task: &TaskId, locks: &[Lock]) {
        for lock in locks {
            if self.held.entry(task.clone()).or_default().insert(lock.resource.clone()) {
                let resource = self.resources.entry(lock.resource.clone()).or_default();
                resource.holders.push((task.clone(), lock.shared));
            }
        }
    }

    /// Gives everything of a task back, its place in the queue too; the tasks that get their locks when they ask now, in order.
    pub(crate) fn release(&mut self, task: &TaskId) -> Vec<TaskId> {
        let mut free = self.leave_queue(task);
        free.extend(self.give_back(task));
        self.ready(&free)
    }

    /// Gives back what a task holds; the resources.
    fn give_back(&mut self, task: &TaskId) -> BTreeSet<String> {
        self.turns.remove(task);
        let held = self.held.remove(task).unwrap_or_default();
        for name in &held {
            self.change(name, |resource| resource.holders.retain(|(holder, _)| holder != task));
        }
        held
    }

    /// The tasks that wait for one of these and whose locks are all free and are not awaited by others before them.
    fn ready(&self, free: &BTreeSet<String>) -> Vec<TaskId> {
        let queues = free.iter().filter_map(|name| Some(&self.resources.get(name)?.queue));
        // Whoever comes after somebody who wants it alone is not next; and who wants it alone is next only at the head.
        let heads = queues.flat_map(|queue| {
            let alone = queue.iter().find(|(_, shared)| !**shared).map(|(ticket, _)| *ticket);
            let first = queue.keys().next().copied();
            let sharing = queue.keys().copied().take_while(move |ticket| Some(*ticket) != alone);
            sharing.chain(first.filter(move |first| Some(*first) == alone))
        });
        let heads: BTreeSet<Ticket> = heads.collect();
        let heads = heads.iter().filter_map(|ticket| Some((*ticket, self.waiting.get(ticket)?)));
        let ready =
            heads.filter(|(ticket, waiting)| self.blocker(&waiting.task, &waiting.locks, *ticket).is_none());
        ready.map(|(_, waiting)| waiting.task.clone()).collect()
    }

    /// What a waiting task waits for.
    pub(crate) fn blocked_on(&self, task: &TaskId) -> Option<BlockedOn> {
        let ticket = *self.tickets.get(task)?;
        let waiting = self.waiting.get(&ticket)?;
        let (resource, holder) = self.blocker(task, &waiting.locks, ticket)?;
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
        let view = |(name, resource): (&String, &Resource)| LockView {
            resource: name.clone(),
            shared: match resource.holders.is_empty() {
                false => resource.holders.iter().all(|(_, shared)| *shared),
                true => resource.queue.values().next().is_some_and(|shared| *shared),
            },
            holders: resource.holders.iter().map(|(task, _)| task.clone()).collect(),
            waiting: resource
                .queue
                .keys()
                .filter_map(|ticket| Some(self.waiting.get(ticket)?.task.clone()))
                .collect(),
        };
        self.resources.iter().map(view).collect()
    }

    /// The first thing in the way of these locks: a holder, or somebody who comes before `ticket`.
    fn blocker(&self, task: &TaskId, locks: &[Lock], ticket: Ticket) -> Option<(String, TaskId)> {
        for lock in locks {
            let Some(resource) = self.resources.get(&lock.resource) else { continue };
            let together = |shared: bool| shared && lock.shared;
            let holder =
                resource.holders.iter().find(|(holder, shared)| holder != task && !together(*shared));
            if let Some((holder, _)) = holder {
                return Some((lock.resource.clone(), holder.clone()));
            }
            let before = resource.queue.range(..ticket).find(|(_, shared)| !together(**shared));
            if let Some(before) = before.and_then(|(ticket, _)| self.waiting.get(ticket)) {
                return Some((lock.resource.clone(), before.task.clone()));
            }
        }
        None
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
        assert!(table.request(&task(1), &locks(&[("a", false), ("p", true)]), 0, 0));
        assert!(!table.request(&task(2), &locks(&[("a", false), ("b", false)]), 0, 1));
        assert!(
            !table.request(&task(3), &locks(&[("b", false)]), 0, 2),
            "2 asked for b earlier, though nobody holds it"
        );
        assert!(table.request(&task(4), &locks(&[("p", true)]), 0, 3), "shared locks go together");
        assert_eq!(table.blocked_on(&task(2)).unwrap().holder, Some(task(1)));
        assert_eq!(table.blocked_on(&task(3)).unwrap().holder, Some(task(2)));
        assert_eq!(table.release(&task(1)), [task(2)], "3 is still behind 2");
        assert!(!table.request(&task(3), &locks(&[("b", false)]), 0, 4), "still behind 2");
        assert!(table.request(&task(2), &locks(&[("a", false), ("b", false)]), 0, 4));
        assert_eq!(table.release(&task(2)), [task(3)]);
        assert!(table.request(&task(3), &locks(&[("b", false)]), 0, 5));
        assert!(!table.request(&task(5), &locks(&[("b", false)]), 0, 6));
        assert!(table.request(&task(3), &locks(&[("b", false)]), 0, 7), "what is held is granted again");
    }

    #[test]
    fn an_exclusive_lock_is_not_starved_by_shared_ones() {
        let mut table = LockTable::default();
        assert!(table.request(&task(1), &locks(&[("p", true)]), 0, 0));
        assert!(!table.request(&task(2), &locks(&[("p", false)]), 0, 0));
        assert!(!table.request(&task(3), &locks(&[("p", true)]), 0, 0), "comes after the exclusive one");
        table.release(&task(1));
        assert!(table.request(&task(2), &locks(&[("p", false)]), 0, 0));
    }

    #[test]
    fn all_shared_locks_at_the_head_of_the_queue_are_granted_together() {
        let mut table = LockTable::default();
        assert!(table.request(&task(1), &locks(&[("p", false)]), 0, 0));
        for n in [2, 3] {
            assert!(!table.request(&task(n), &locks(&[("p", true)]), 0, 0));
        }
        assert!(!table.request(&task(4), &locks(&[("p", false)]), 0, 0));
        assert!(!table.request(&task(5), &locks(&[("p", true)]), 0, 0));
        assert_eq!(table.release(&task(1)), [task(2), task(3)], "5 comes after the exclusive 4");
    }

    #[test]
    fn a_higher_priority_goes_first_but_takes_nothing_away() {
        let mut table = LockTable::default();
        assert!(table.request(&task(1), &locks(&[("a", false)]), -10, 0));
        assert!(!table.request(&task(2), &locks(&[("a", false)]), 0, 0));
        assert!(!table.request(&task(3), &locks(&[("a", false)]), 5, 0), "1 holds it, whatever its priority");
        assert!(!table.request(&task(4), &locks(&[("a", false)]), 5, 0));
        assert_eq!(table.blocked_on(&task(2)).unwrap().holder, Some(task(1)));
        for (ended, next) in [(1, 3), (3, 4), (4, 2)] {
            assert_eq!(table.release(&task(ended)), [task(next)]);
            assert!(table.request(&task(next), &locks(&[("a", false)]), 0, 0), "it keeps the place it has");
        }
    }

    /// The rules in their plainest form: a list by priority and arrival, looked through from its beginning.
    #[derive(Default)]
    struct Plain {
        held: Vec<(TaskId, Lock)>,
        waiting: Vec<(TaskId, Vec<Lock>, i8)>,
    }

    impl Plain {
        fn clash(one: &Lock, other: &Lock) -> bool {
            one.resource == other.resource && !(one.shared && other.shared)
        }

        fn free(&self, place: usize, locks: &[Lock]) -> bool {
            let earlier = self.waiting[..place].iter().flat_map(|(_, locks, _)| locks);
            let mut taken = self.held.iter().map(|(_, lock)| lock).chain(earlier);
            !taken.any(|taken| locks.iter().any(|lock| Self::clash(taken, lock)))
        }

        fn request(&mut self, task: &TaskId, locks: &[Lock], priority: i8) -> bool {
            let place = self.waiting.iter().position(|(waiting, ..)| waiting == task);
            let new = self.waiting.iter().take_while(|(.., has)| *has >= priority).count();
            let free = self.free(place.unwrap_or(new), locks);
            match (free, place) {
                (true, _) => {
                    self.waiting.retain(|(waiting, ..)| waiting != task);
                    self.held.extend(locks.iter().map(|lock| (task.clone(), lock.clone())));
                }
                (false, None) => self.waiting.insert(new, (task.clone(), locks.to_vec(), priority)),
                (false, Some(_)) => {}
            }
            free
        }

        fn release(&mut self, task: &TaskId) -> Vec<TaskId> {
            self.held.retain(|(holder, _)| holder != task);
            self.waiting.retain(|(waiting, ..)| waiting != task);
            let ready =
                self.waiting.iter().enumerate().filter(|(place, (_, locks, _))| self.free(*place, locks));
            ready.map(|(_, (task, ..))| task.clone()).collect()
        }
    }

    #[test]
    fn the_table_does_what_the_plain_rules_say() {
        let mut dice = crate::testing::runtime::Dice::new(7);
        for _ in 0..300 {
            let (mut table, mut plain) = (LockTable::default(), Plain::default());
            let mut wants: BTreeMap<TaskId, (Vec<Lock>, i8)> = BTreeMap::new();
            for step in 0..60 {
                let task = task(u8::try_from(dice.below(12)).unwrap());
                let holds = plain.held.iter().any(|(holder, _)| *holder == task);
                if holds || dice.percent(20) {
                    let ready = table.release(&task);
                    assert_eq!(ready, plain.release(&task), "step {step}");
                    for task in &ready {
                        let (locks, priority) = &wants[task];
                        assert!(table.request(task, locks, *priority, 0));
                        assert!(plain.request(task, locks, *priority));
                    }
                    wants.remove(&task);
                } else {
                    let (locks, priority) = wants.entry(task.clone()).or_insert_with(|| {
                        let mut list = vec![(["a", "b", "c"][step % 3], dice.percent(50))];
                        for name in ["d", "e"] {
                            if dice.percent(40) {
                                list.push((name, dice.percent(50)));
                            }
                        }
                        (super::tests::locks(&list), [0, 0, 0, 7, -7][dice.below(5) as usize])
                    });
                    let granted = table.request(&task, locks, *priority, 0);
                    assert_eq!(granted, plain.request(&task, locks, *priority), "step {step}");
                }
            }
            for task in (0..12).map(task) {
                table.release(&task);
            }
            assert!(
                table.view().is_empty() && table.waiting.is_empty() && table.held.is_empty(),
                "{table:?}"
            );
        }
    }
}
