//! Which callback is to be sent next: in order for each task and endpoint, so many at once for each endpoint and in all, so that a
//! slow endpoint holds up nobody else. Pure; the deliverer asks it and tells it what came of it.

use std::collections::{HashMap, HashSet};

use kedge_engine::outbox::Callback;
use kedge_engine::task::{Millis, TaskId};

use super::unrecorded::Unrecorded;

/// Attempts at once, in all.
pub(crate) const MAX_IN_FLIGHT: usize = 64;
/// Attempts at once to one endpoint: one that hangs keeps as many of them busy, 15 s each.
const MAX_PER_ENDPOINT: usize = 4;

/// The callbacks of one task to one receiver: these are kept in order.
pub(crate) type Thread = (String, TaskId);

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Pick {
    /// Send this one.
    Send(Callback),
    /// Send the callback of this id first, due or not: a later one of its thread waits behind it.
    Early(Thread, String),
}

/// A callback that waits for its next attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    id: String,
    sequence: u64,
    due: Millis,
}

/// What is under way and what waits.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    endpoints: HashMap<String, usize>,
    busy: HashSet<Thread>,
    held: HashMap<Thread, Held>,
    /// Callbacks for whose sake an early attempt was made: one each.
    nudged: HashSet<String>,
    unrecorded: Unrecorded,
}

pub(crate) fn thread(callback: &Callback) -> Thread {
    (callback.endpoint.clone(), callback.task.clone())
}

impl Lanes {
    /// Notes that a callback waits for its next attempt at `due`; of several in a thread the first one counts.
    pub(crate) fn hold(&mut self, callback: &Callback, due: Millis) {
        let held = Held { id: callback.id.clone(), sequence: callback.sequence, due };
        let entry = self.held.entry(thread(callback)).or_insert_with(|| held.clone());
        if held.sequence <= entry.sequence {
            *entry = held;
        }
    }

    /// Chooses among the callbacks that are due and begins them. `lane` names the endpoint of a stored receiver; `admits` says whether a
    /// stored receiver is worth an attempt, and is asked last: a yes may be the only one for a while.
    pub(crate) fn pick(
        &mut self,
        due: Vec<Callback>,
        now: Millis,
        lane: impl Fn(&str) -> String,
        mut admits: impl FnMut(&str) -> bool,
    ) -> Vec<Pick> {
        let mut first: HashMap<Thread, Callback> = HashMap::new();
        let mut order = Vec::new();
        for callback in due {
            let thread = thread(&callback);
            match first.get(&thread) {
                None => order.push(thread.clone()),
                Some(have) if have.sequence <= callback.sequence => continue,
                Some(_) => {}
            }
            first.insert(thread, callback);
        }
        let mut picks = Vec::new();
        for thread in order {
            let Some(callback) = first.remove(&thread) else { continue };
            let lane = lane(&callback.endpoint);
            let load = self.endpoints.get(&lane).copied().unwrap_or(0);
            if self.busy.len() >= MAX_IN_FLIGHT || load >= MAX_PER_ENDPOINT || self.busy.contains(&thread) {
                continue;
            }
            let before = self.held.get(&thread).filter(|held| held.sequence < callback.sequence);
            let early = before.is_some_and(|held| held.due > now);
            let next = before.map_or(&callback.id, |held| &held.id);
            if (early && self.nudged.contains(&callback.id))
                || !self.unrecorded.admits(next, now)
                || !admits(&callback.endpoint)
            {
                continue;
            }
            let pick = match before {
                Some(held) => Pick::Early(thread.clone(), held.id.clone()),
                None => Pick::Send(callback.clone()),
            };
            if early {
                self.nudged.insert(callback.id);
            }
            self.busy.insert(thread);
            *self.endpoints.entry(lane).or_default() += 1;
            picks.push(pick);
        }
        picks
    }

    /// Notes the end of an attempt that could not be written down: as if it were to be made again, a little later.
    pub(crate) fn unrecorded(&mut self, callback: &Callback, lane: &str, now: Millis) {
        let again = self.unrecorded.add(&callback.id, now);
        self.close(callback, lane, Some(again));
    }

    /// Notes the end of an attempt; `again` is when the next one is due, if there is one.
    pub(crate) fn finish(&mut self, callback: &Callback, lane: &str, again: Option<Millis>) {
        self.unrecorded.remove(&callback.id);
        self.close(callback, lane, again);
    }

    fn close(&mut self, callback: &Callback, lane: &str, again: Option<Millis>) {
        self.release(&thread(callback), lane);
        self.nudged.remove(&callback.id);
        match again {
            Some(due) => self.hold(callback, due),
            None => {
                let thread = thread(callback);
                if self.held.get(&thread).is_some_and(|held| held.id == callback.id) {
                    self.held.remove(&thread);
                }
            }
        }
    }

    /// Notes that there is no such callback any more: nobody waits behind it.
    pub(crate) fn lost(&mut self, thread: &Thread, id: &str, lane: &str) {
        self.release(thread, lane);
        if self.held.get(thread).is_some_and(|held| held.id == id) {
            self.held.remove(thread);
        }
    }

    /// Notes that nothing is under way in a thread any more.
    pub(crate) fn release(&mut self, thread: &Thread, lane: &str) {
        if self.busy.remove(thread)
            && let Some(load) = self.endpoints.get_mut(lane)
        {
            *load -= 1;
            if *load == 0 {
                self.endpoints.remove(lane);
            }
        }
    }

    /// When the first of those that wait is due.
    pub(crate) fn next_due(&self, after: Millis) -> Option<Millis> {
        let held = self.held.values().map(|held| held.due).filter(|due| *due > after).min();
        [held, self.unrecorded.next(after)].into_iter().flatten().min()
    }

    pub(crate) fn has_room(&self) -> bool {
        self.busy.len() < MAX_IN_FLIGHT
    }
}

#[cfg(test)]
mod tests {
    use kedge_engine::outbox::CallbackStatus;
    use kedge_engine::task::TaskState;

    use super::*;
    use crate::testing::task_id;

    fn callback(id: &str, endpoint: &str, task: u64, sequence: u64) -> Callback {
        Callback {
            id: id.to_owned(),
            task: task_id(task),
            sequence,
            endpoint: endpoint.to_owned(),
            event: "task.succeeded".to_owned(),
            state: TaskState::Succeeded,
            body: String::new(),
            created_at: 0,
            attempts: 0,
            trace: None,
            status: CallbackStatus::Due { at: 0 },
        }
    }

    fn pick(lanes: &mut Lanes, due: &[&Callback], now: Millis) -> Vec<String> {
        pick_if(lanes, due, now, |_| true)
    }

    fn pick_if(
        lanes: &mut Lanes,
        due: &[&Callback],
        now: Millis,
        admits: impl FnMut(&str) -> bool,
    ) -> Vec<String> {
        let due = due.iter().map(|callback| (*callback).clone()).collect();
        let name = |pick| match pick {
            Pick::Send(callback) => callback.id,
            Pick::Early(_, id) => format!("early {id}"),
        };
        lanes.pick(due, now, str::to_owned, admits).into_iter().map(name).collect()
    }

    #[test]
    fn a_thread_is_sent_in_order_one_at_a_time() {
        let mut lanes = Lanes::default();
        let (one, two, other) =
            (callback("1", "a", 1, 5), callback("2", "a", 1, 9), callback("3", "a", 2, 1));
        assert_eq!(pick(&mut lanes, &[&two, &other, &one], 0), ["1", "3"], "the lower sequence first");
        assert!(pick(&mut lanes, &[&two], 0).is_empty(), "the first one is under way");
        lanes.finish(&one, "a", None);
        assert_eq!(pick(&mut lanes, &[&two], 0), ["2"]);
    }

    #[test]
    fn a_later_one_waits_behind_a_failed_one_and_hastens_it_once() {
        let mut lanes = Lanes::default();
        let (one, two) = (callback("1", "a", 1, 5), callback("2", "a", 1, 9));
        assert_eq!(pick(&mut lanes, &[&one], 0), ["1"]);
        lanes.finish(&one, "a", Some(100));
        assert_eq!(lanes.next_due(0), Some(100));
        assert_eq!(pick(&mut lanes, &[&two], 10), ["early 1"]);
        lanes.finish(&one, "a", Some(500));
        assert!(pick(&mut lanes, &[&two], 10).is_empty(), "not again before its time");
        assert_eq!(pick(&mut lanes, &[&two, &one], 500), ["1"]);
        lanes.finish(&one, "a", None);
        assert_eq!(pick(&mut lanes, &[&two], 500), ["2"]);
        lanes.finish(&two, "a", None);
        assert_eq!(lanes.next_due(0), None);
    }

    #[test]
    fn the_one_attempt_that_is_let_through_goes_to_one_that_can_be_sent() {
        let mut lanes = Lanes::default();
        let (one, two, other) =
            (callback("1", "a", 1, 5), callback("2", "a", 1, 9), callback("3", "a", 2, 1));
        lanes.hold(&one, 500);
        assert_eq!(pick(&mut lanes, &[&two], 10), ["early 1"]);
        lanes.finish(&one, "a", Some(500));
        let mut left = 1;
        let mut once = |_: &str| std::mem::take(&mut left) == 1;
        assert!(pick_if(&mut lanes, &[&two], 20, &mut once).is_empty(), "it waits, and nobody is asked");
        assert_eq!(pick_if(&mut lanes, &[&two, &other], 20, &mut once), ["3"]);
        lanes.finish(&other, "a", None);
        // Refused, it is hastened when somebody says yes.
        let third = callback("4", "a", 1, 12);
        assert!(pick_if(&mut lanes, &[&third], 20, |_| false).is_empty());
        assert_eq!(pick(&mut lanes, &[&third], 20), ["early 1"]);
    }

    #[test]
    fn one_that_is_due_comes_before_a_later_one_that_was_found_first() {
        let mut lanes = Lanes::default();
        let (one, two) = (callback("1", "a", 1, 5), callback("2", "a", 1, 9));
        lanes.hold(&one, 500);
        assert_eq!(pick(&mut lanes, &[&two], 500), ["early 1"]);
        lanes.lost(&thread(&one), "1", "a");
        assert_eq!(pick(&mut lanes, &[&two], 500), ["2"], "it is gone");
    }

    #[test]
    fn what_could_not_be_recorded_is_not_sent_again_at_once_nor_hastened() {
        let mut lanes = Lanes::default();
        let (one, two) = (callback("1", "a", 1, 5), callback("2", "a", 1, 9));
        assert_eq!(pick(&mut lanes, &[&one], 0), ["1"]);
        lanes.unrecorded(&one, "a", 0);
        assert!(pick(&mut lanes, &[&one, &two], 0).is_empty() && pick(&mut lanes, &[&two], 0).is_empty());
        let then = lanes.next_due(0).unwrap();
        assert_eq!(pick(&mut lanes, &[&one, &two], then), ["1"]);
        lanes.finish(&one, "a", None);
        assert_eq!(pick(&mut lanes, &[&two], then), ["2"]);
    }

    #[test]
    fn a_hanging_endpoint_leaves_room_for_others() {
        let mut lanes = Lanes::default();
        let slow: Vec<Callback> = (0..100).map(|n| callback(&format!("s{n}"), "slow", n, 1)).collect();
        let quick = callback("q", "quick", 1, 1);
        let mut due: Vec<&Callback> = slow.iter().collect();
        due.push(&quick);
        assert_eq!(pick(&mut lanes, &due, 0), ["s0", "s1", "s2", "s3", "q"]);
        assert!(pick(&mut lanes, &due, 0).is_empty());
        lanes.finish(&slow[2], "slow", Some(9));
        assert_eq!(pick(&mut lanes, &due[4..], 0), ["s4"]);
    }

    #[test]
    fn the_number_in_flight_is_bounded() {
        let mut lanes = Lanes::default();
        let many: Vec<Callback> =
            (0..100).map(|n| callback(&n.to_string(), &format!("e{n}"), n, 1)).collect();
        let due: Vec<&Callback> = many.iter().collect();
        assert_eq!(pick(&mut lanes, &due, 0).len(), MAX_IN_FLIGHT);
        assert!(!lanes.has_room());
    }
}
