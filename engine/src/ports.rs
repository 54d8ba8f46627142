//! The ports that the executor needs beside the store: time, tasks, dice, logs and custody of processes. Promises only.

use futures::future::BoxFuture;

use crate::step::StepError;
use crate::store::ReadError;
use crate::task::{Millis, TaskId};

/// Time.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Millis;
    /// Resolves at or after a time.
    fn sleep_until(&self, at: Millis) -> BoxFuture<'static, ()>;
}

/// Runs futures beside each other.
pub trait Spawner: Send + Sync + 'static {
    /// Starts a future; it runs to its end.
    fn spawn(&self, future: BoxFuture<'static, ()>);
}

/// Chance.
pub trait Random: Send + Sync + 'static {
    /// 16 bytes for an id that sorts by time (a UUIDv7) and never comes twice.
    fn id(&self) -> [u8; 16];
    /// A number in 0..1.
    fn roll(&self) -> f64;
}

/// Keeps the steps' logs, bounded, beside the journal. Lines come masked or are masked here; losing the last lines in a crash is fine.
pub trait LogSink: Send + Sync + 'static {
    /// Adds a line.
    fn append(&self, task: &str, step: &str, line: &str);
    /// The log, if there is one.
    fn read(&self, task: &str, step: &str) -> Result<Option<String>, ReadError>;
    /// Removes all logs of a task; none is fine.
    fn remove(&self, task: &str) -> Result<(), ReadError>;
}

/// Knows the processes that attempts have started, on every host.
pub trait Custody: Send + Sync + 'static {
    /// Ends every process that was started for a step of a task (for all its steps with `None`), in this life or an earlier one,
    /// on every host that the task reaches; returns when none is left. Retryable when a host cannot be reached.
    fn clear<'a>(&'a self, task: &'a TaskId, step: Option<&'a str>) -> BoxFuture<'a, Result<(), StepError>>;
}
