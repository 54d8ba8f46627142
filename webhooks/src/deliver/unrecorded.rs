//! Attempts whose outcome could not be written: in the outbox their callbacks are as due as before, and would be sent again at once. They
//! wait, longer with each time. Pure and in memory: a restart tries them at once.

use std::collections::HashMap;

use kedge_engine::task::Millis;

/// How long such a callback waits, at first; twice as long with each time more.
const PAUSE_MS: u64 = 5_000;
/// And at most.
const MAX_PAUSE_MS: u64 = 3_600_000;
/// Most of them: an outbox that cannot write so many will not write the next one either, so no other is sent.
const MAX: usize = 1024;

/// Callbacks whose last attempt is not written down.
#[derive(Debug, Default)]
pub(super) struct Unrecorded(HashMap<String, Pause>);

#[derive(Debug)]
struct Pause {
    times: u32,
    until: Millis,
}

impl Unrecorded {
    /// Notes such an attempt; until when its callback waits.
    pub(super) fn add(&mut self, id: &str, now: Millis) -> Millis {
        // One that was not tried for so long is gone, or was recorded by somebody else.
        self.0.retain(|_, pause| pause.until.saturating_add(MAX_PAUSE_MS) > now);
        let pause = self.0.entry(id.to_owned()).or_insert(Pause { times: 0, until: now });
        pause.until = now + PAUSE_MS.saturating_mul(1 << pause.times.min(10)).min(MAX_PAUSE_MS);
        pause.times = pause.times.saturating_add(1);
        pause.until
    }

    /// Notes that an attempt was written down.
    pub(super) fn remove(&mut self, id: &str) {
        self.0.remove(id);
    }

    /// Whether a callback may be sent now.
    pub(super) fn admits(&self, id: &str, now: Millis) -> bool {
        self.0.get(id).map_or(self.0.len() < MAX, |pause| pause.until <= now)
    }

    /// When the first of those that wait may be sent.
    pub(super) fn next(&self, after: Millis) -> Option<Millis> {
        self.0.values().map(|pause| pause.until).filter(|until| *until > after).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_recorded_waits_longer_and_longer() {
        let mut unrecorded = Unrecorded::default();
        assert_eq!(unrecorded.add("1", 100), 5_100);
        assert!(!unrecorded.admits("1", 5_099) && unrecorded.admits("2", 100));
        assert_eq!(unrecorded.next(100), Some(5_100));
        assert!(unrecorded.admits("1", 5_100));
        assert_eq!(unrecorded.add("1", 6_000), 16_000);
        for _ in 0..40 {
            assert!(unrecorded.add("1", 7_000) <= 7_000 + MAX_PAUSE_MS);
        }
        unrecorded.remove("1");
        assert!(unrecorded.admits("1", 7_000) && unrecorded.next(0).is_none());
    }

    #[test]
    fn too_many_of_them_keep_all_others_back() {
        let mut unrecorded = Unrecorded::default();
        for n in 0..MAX {
            unrecorded.add(&n.to_string(), 0);
        }
        assert!(!unrecorded.admits("another", 0) && unrecorded.admits("7", PAUSE_MS));
        unrecorded.add("7", 2 * MAX_PAUSE_MS);
        assert!(unrecorded.admits("another", 2 * MAX_PAUSE_MS), "those of long ago are forgotten");
    }
}
