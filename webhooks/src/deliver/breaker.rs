//! Whether a receiver is worth an attempt: after some failures in a row it is left alone for a while, then tried once. Pure and in memory:
//! a restart tries everybody once.

use std::collections::HashMap;

use kedge_engine::task::Millis;

/// Failures in a row, over all callbacks of an endpoint, after which it is left alone.
const PATIENCE: u32 = 5;
/// How long, at first; twice as long with each failure more.
const PAUSE_MS: u64 = 30_000;
/// And at most.
const MAX_PAUSE_MS: u64 = 3_600_000;
/// A receiver that only fails for so long is disabled, as Standard Webhooks proposes.
const GIVE_UP_MS: u64 = 5 * 86_400_000;

/// Most receivers whose failures are counted: tasks may name URLs of their own, each of which counts for itself.
const MAX: usize = 4096;

/// The breakers of all endpoints, and of the URLs that tasks have named.
#[derive(Debug, Default)]
pub(crate) struct Breakers(HashMap<String, Breaker>);

#[derive(Debug)]
struct Breaker {
    failures: u32,
    since: Millis,
    /// Nothing is sent before.
    closed_until: Millis,
}

impl Breakers {
    /// Whether something may be sent now. After a pause one attempt is let through; the others wait for what comes of it.
    pub(crate) fn admits(&mut self, name: &str, now: Millis) -> bool {
        let Some(breaker) = self.0.get_mut(name).filter(|breaker| breaker.failures >= PATIENCE) else {
            return true;
        };
        if now < breaker.closed_until {
            return false;
        }
        breaker.closed_until = now + PAUSE_MS;
        true
    }

    /// Notes what came of an attempt; `true`: it has failed for so long that it should be disabled.
    pub(crate) fn note(&mut self, name: &str, delivered: bool, now: Millis) -> bool {
        if delivered {
            self.0.remove(name);
            return false;
        }
        if self.0.len() >= MAX && !self.0.contains_key(name) {
            self.0.retain(|_, breaker| breaker.closed_until > now);
            if self.0.len() >= MAX {
                return false;
            }
        }
        let breaker =
            self.0.entry(name.to_owned()).or_insert(Breaker { failures: 0, since: now, closed_until: 0 });
        breaker.failures = breaker.failures.saturating_add(1);
        if let Some(over) = breaker.failures.checked_sub(PATIENCE) {
            let pause = PAUSE_MS.saturating_mul(1 << over.min(10)).min(MAX_PAUSE_MS);
            breaker.closed_until = now + pause;
        }
        now.saturating_sub(breaker.since) >= GIVE_UP_MS
    }

    /// When the next pause ends.
    pub(crate) fn next(&self, now: Millis) -> Option<Millis> {
        self.0.values().map(|breaker| breaker.closed_until).filter(|at| *at > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_receiver_is_left_alone_for_longer_and_longer_and_tried_once() {
        let mut breakers = Breakers::default();
        for n in 0..4 {
            assert!(breakers.admits("a", n) && !breakers.note("a", false, n));
        }
        assert!(breakers.admits("a", 4));
        breakers.note("a", false, 4);
        assert!(!breakers.admits("a", 30_003) && breakers.admits("b", 5));
        assert_eq!(breakers.next(5), Some(30_004));
        assert!(breakers.admits("a", 30_004), "one is let through");
        assert!(!breakers.admits("a", 30_004), "the others wait");
        breakers.note("a", false, 30_004);
        assert!(!breakers.admits("a", 90_003) && breakers.admits("a", 90_004), "twice as long");
        breakers.note("a", true, 90_005);
        assert!(breakers.admits("a", 90_005) && breakers.next(90_005).is_none());
    }

    #[test]
    fn no_number_of_receivers_fills_the_memory() {
        let mut breakers = Breakers::default();
        (0..2 * MAX).for_each(|n| assert!(!breakers.note(&n.to_string(), false, 1)));
        assert!(breakers.0.len() <= MAX);
    }

    #[test]
    fn days_of_failures_alone_end_it() {
        let mut breakers = Breakers::default();
        assert!(!breakers.note("a", false, 1000));
        assert!(!breakers.note("a", false, 1000 + GIVE_UP_MS - 1));
        assert!(breakers.note("a", false, 1000 + GIVE_UP_MS));
        breakers.note("a", true, 1000 + GIVE_UP_MS);
        assert!(!breakers.note("a", false, 1000 + 2 * GIVE_UP_MS), "a success in between counts");
        for n in 0..100 {
            breakers.note("a", false, 2000 + 2 * GIVE_UP_MS + n);
        }
        assert!(breakers.next(2 * GIVE_UP_MS).unwrap() <= 2100 + 2 * GIVE_UP_MS + MAX_PAUSE_MS);
    }
}
