//! Retry as arithmetic: how long an attempt may take, and when the next one is due. Reads no clock and rolls no dice of its own.

use serde::{Deserialize, Serialize};

use crate::task::Millis;

/// How often and how long something is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// One attempt is ended after this time.
    pub limit_ms: u64,
    /// Failed attempts before it is given up.
    pub attempts: u32,
    /// Delay after the first failure; it doubles with each further one.
    pub first_ms: u64,
    /// Longest delay.
    pub cap_ms: u64,
    /// No new attempt begins later than this after the first one began.
    pub budget_ms: u64,
}

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;

impl Policy {
    /// Runs before the pivot: give up soon, since everything can be undone and the site may be waiting.
    pub const RUN: Self = Self {
        limit_ms: 10 * MINUTE,
        attempts: 3,
        first_ms: SECOND,
        cap_ms: 10 * SECOND,
        budget_ms: 20 * MINUTE,
    };
    /// Undos and steps after the pivot: there is no other way out, so hosts get an hour and a half to come back.
    pub const PERSISTENT: Self = Self {
        limit_ms: 10 * MINUTE,
        attempts: 100,
        first_ms: SECOND,
        cap_ms: MINUTE,
        budget_ms: 90 * MINUTE,
    };

    /// The same with another time limit for an attempt, in milliseconds; the budget grows with it.
    #[must_use]
    pub const fn limit(self, limit_ms: u64) -> Self {
        let budget_ms = if self.budget_ms < 2 * limit_ms { 2 * limit_ms } else { self.budget_ms };
        Self { limit_ms, budget_ms, ..self }
    }

    /// When the next attempt is due after `failures` failed ones (at least 1), or `None` when it is given up.
    /// `roll` in 0..1 spreads the delay between half of it and all of it, so that many tasks do not come back at once.
    #[must_use]
    pub fn next(&self, failures: u32, first_began: Millis, now: Millis, roll: f64) -> Option<Millis> {
        if failures >= self.attempts {
            return None;
        }
        let doubled = self.first_ms.saturating_mul(1 << failures.saturating_sub(1).min(32));
        let delay = doubled.min(self.cap_ms);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "minutes in ms"
        )]
        let jittered = (delay as f64 * (0.5 + 0.5 * roll.clamp(0.0, 1.0))) as u64;
        let at = now.saturating_add(jittered);
        (at.saturating_sub(first_began) <= self.budget_ms).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_and_end_with_attempts_or_budget() {
        let policy = Policy { limit_ms: 1, attempts: 5, first_ms: 100, cap_ms: 300, budget_ms: 1000 };
        assert_eq!(policy.next(1, 0, 0, 1.0), Some(100));
        assert_eq!(policy.next(2, 0, 0, 1.0), Some(200));
        assert_eq!(policy.next(3, 0, 0, 1.0), Some(300));
        assert_eq!(policy.next(4, 0, 0, 0.0), Some(150));
        assert_eq!(policy.next(5, 0, 0, 0.0), None, "attempts are used up");
        assert_eq!(policy.next(1, 0, 950, 1.0), None, "the budget is used up");
    }
}
