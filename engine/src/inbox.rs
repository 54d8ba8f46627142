//! What faces receive from outside, kept with what became of it: a ring of messages for people who ask "did it come, and why did nothing
//! happen?". The engine keeps and trims them; what a message says, only its face knows.

use std::sync::Arc;

use serde_json::Value;

use crate::store::ReadError;
use crate::task::{Millis, TaskId};

/// Largest [`Received::rest`], in bytes of JSON: forges' payloads are far smaller, and a batch has to bear it.
pub const MAX_REST: usize = 256 * 1024;
/// Largest [`Received::line`], in bytes of JSON.
pub const MAX_LINE: usize = 2048;

/// A message that came in.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// Its id, which sorts by time.
    pub id: String,
    /// When it came.
    pub at: Millis,
    /// What became of it: each kind has room of its own.
    pub kind: Kept,
    /// The task that it became.
    pub task: Option<TaskId>,
    /// What a list shows of it, at most [`MAX_LINE`].
    pub line: Value,
    /// All the rest, at most [`MAX_REST`]; null in lists.
    pub rest: Arc<Value>,
}

/// What became of a message. Strangers can fill the room of the last kind alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// It became a task.
    Accepted,
    /// Its sender is known, and it became none: ignored, a duplicate, or not fit.
    Refused,
    /// Its sender is not known.
    Rejected,
}

impl Kept {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Accepted, Self::Refused, Self::Rejected];
}

/// Access to the messages, for faces. Those that become tasks are kept by
/// [`Tasks::submit_received`](crate::service::Tasks::submit_received), in the same write.
pub trait Inbox: Send + Sync + 'static {
    /// Keeps a message soon: it is durable some milliseconds later, nobody waits for it. `false`: there is no room, since messages
    /// come quicker than they can be written; it is counted and dropped.
    fn keep(&self, received: Received) -> bool;
    /// A message, whole.
    fn received(&self, id: &str) -> Result<Option<Received>, ReadError>;
    /// Messages, newest first, at most `limit`, older than `before` (an id).
    fn list(&self, before: Option<&str>, limit: usize) -> Result<Vec<Received>, ReadError>;
    /// How many were dropped for lack of room since the start.
    fn dropped(&self) -> u64;
}
