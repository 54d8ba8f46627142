//! Callbacks that are to be delivered: composed when a task changes state, written in the same batch as that change, delivered
//! by someone else. Decides when the next attempt is due; never sends anything.

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::store::{CommitError, ReadError};

use crate::task::{Millis, TaskId, TaskState, TaskView};

/// Composes the callbacks of a state change. Called before the change is committed: pure and quick.
pub trait Composer: Send + Sync + 'static {
    /// The callbacks that `task`, which is now in its new state, has to send. `callback` is what its submission asked for.
    fn compose(&self, task: &TaskView, callback: Option<&serde_json::Value>) -> Vec<NewCallback>;
}

/// A callback to be queued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCallback {
    /// Who gets it: an endpoint's name, or a URL.
    pub endpoint: String,
    /// Its type, such as `task.succeeded`.
    pub event: String,
    /// The exact bytes to be sent, at every attempt the same.
    pub body: String,
}

/// A queued callback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Callback {
    /// `msg_` and 32 hex digits: the `webhook-id`, the same at every attempt.
    pub id: String,
    /// The task it is about.
    pub task: TaskId,
    /// Its place in the task's history.
    pub sequence: u64,
    /// Who gets it.
    pub endpoint: String,
    /// Its type.
    pub event: String,
    /// The state it tells.
    pub state: TaskState,
    /// The bytes to be sent.
    pub body: String,
    /// When it was queued.
    pub created_at: Millis,
    /// Attempts so far.
    pub attempts: u32,
    /// The trace context of whoever asked for the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// Where it stands.
    pub status: CallbackStatus,
}

/// Where a callback stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum CallbackStatus {
    /// The next attempt is due at this time.
    Due {
        /// When.
        at: Millis,
    },
    /// The receiver has it.
    Delivered {
        /// Since when.
        at: Millis,
    },
    /// Given up; can be replayed.
    Dead {
        /// Since when.
        at: Millis,
    },
}

/// One attempt to deliver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The callback.
    pub callback: String,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// When it began.
    pub at: Millis,
    /// How long it took.
    pub duration_ms: u64,
    /// The receiver's status, if it answered.
    pub status: Option<u16>,
    /// What went wrong, if something did.
    pub error: Option<String>,
    /// The answer's first bytes as text, bounded.
    pub answer: String,
}

/// Access to the queued callbacks, for whoever delivers them and whoever shows them.
pub trait Outbox: Send + Sync + 'static {
    /// Up to `limit` callbacks that are due at `now`, longest due first.
    fn due(&self, now: Millis, limit: usize) -> Result<Vec<Callback>, ReadError>;
    /// When the next one is due, if any is.
    fn next_due(&self) -> Result<Option<Millis>, ReadError>;
    /// Resolves when a callback is queued or made due after this call.
    fn queued(&self) -> BoxFuture<'static, ()>;
    /// Records an attempt and what follows from it, durably.
    fn record(&self, delivery: Delivery, then: CallbackStatus) -> BoxFuture<'_, Result<(), CommitError>>;
    /// Queues a callback beside those of state changes, durably: a notice about delivering itself. Its id must be new.
    fn queue(&self, callback: Callback) -> BoxFuture<'_, Result<(), CommitError>>;
    /// Makes a delivered or dead callback due again. `false`: there is no such callback.
    fn replay(&self, id: &str, now: Millis) -> BoxFuture<'_, Result<bool, CommitError>>;
    /// A callback.
    fn callback(&self, id: &str) -> Result<Option<Callback>, ReadError>;
    /// Callbacks, newest first, at most `limit`, older than `before` (an id). One that is damaged is left out; fewer than `limit` are the last.
    fn callbacks(&self, before: Option<&str>, limit: usize) -> Result<Vec<Callback>, ReadError>;
    /// The same of those that are about a task, or go to a receiver.
    fn callbacks_of(
        &self,
        of: CallbacksOf<'_>,
        before: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Callback>, ReadError>;
    /// The attempts of a callback, oldest first.
    fn deliveries(&self, id: &str) -> Result<Vec<Delivery>, ReadError>;
}

/// Which callbacks are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallbacksOf<'a> {
    /// Those about a task.
    Task(&'a TaskId),
    /// Those to a receiver: an endpoint's name, or a URL, as the callbacks have it.
    Endpoint(&'a str),
}

impl CallbacksOf<'_> {
    /// Whether a callback is one of them.
    #[must_use]
    pub fn contains(&self, callback: &Callback) -> bool {
        match *self {
            Self::Task(task) => callback.task == *task,
            Self::Endpoint(endpoint) => callback.endpoint == endpoint,
        }
    }
}

/// Delays before attempts 1, 2, ...: Standard Webhooks' schedule, 75 hours and 35 minutes in all.
pub const SCHEDULE_S: [u64; 10] = [0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];

/// What follows a failed attempt.
///
/// `roll` is a random number in 0..1: the delay is spread by 20 % either way, so that receivers that come back are not flooded.
/// `retry_after_s` is what the receiver asked for; it only lengthens the delay, by a day at most.
#[must_use]
pub fn after_failure(attempts: u32, now: Millis, roll: f64, retry_after_s: Option<u64>) -> CallbackStatus {
    let Some(base) = SCHEDULE_S.get(attempts as usize) else { return CallbackStatus::Dead { at: now } };
    let spread = 0.8 + 0.4 * roll.clamp(0.0, 1.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "at most a day in ms"
    )]
    let delay = (*base as f64 * 1000.0 * spread) as u64;
    let asked = retry_after_s.unwrap_or(0).min(86_400) * 1000;
    CallbackStatus::Due { at: now + delay.max(asked) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_follow_the_schedule_and_then_die() {
        assert_eq!(after_failure(1, 1000, 0.5, None), CallbackStatus::Due { at: 6000 });
        assert_eq!(after_failure(2, 0, 0.0, None), CallbackStatus::Due { at: 240_000 });
        assert_eq!(after_failure(1, 0, 0.5, Some(60)), CallbackStatus::Due { at: 60_000 });
        assert_eq!(after_failure(10, 7, 0.5, None), CallbackStatus::Dead { at: 7 });
    }
}
