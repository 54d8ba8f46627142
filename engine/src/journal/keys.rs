//! Keys of the journal: one tree, a letter for each family, big-endian numbers. Bytes only: it reads and writes nothing.

use crate::inbox::Kept;
use crate::store::BlobId;
use crate::task::{Millis, TaskId};

/// Longest name of a receiver that stands in a key as it is, in bytes: URLs are longer.
const MAX_ENDPOINT: usize = 128;

/// Everything.
pub const ALL: &[u8] = b"";
/// Heads, all of them: `h/<task>`.
pub const HEADS: &[u8] = b"h/";
/// Events, all of them: `e/<task>/<sequence>`.
pub const EVENTS: &[u8] = b"e/";
/// Archived tasks: `a/<task>`.
pub const ARCHIVED: &[u8] = b"a/";
/// Dedupe keys: `x/<scope>\0<key>`.
pub const DEDUPE: &[u8] = b"x/";
/// Unfinished tasks: `o/<task>`.
pub const OPEN: &[u8] = b"o/";
/// Locks: `l/<resource>\0<task>`.
pub const LOCKS: &[u8] = b"l/";
/// Callbacks: `c/<id>`.
pub const CALLBACKS: &[u8] = b"c/";
/// Callbacks that are due: `u/<millis><id>`.
pub const DUE: &[u8] = b"u/";

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// A task's head.
#[must_use]
pub fn head(task: &TaskId) -> Vec<u8> {
    join(&[HEADS, task.as_str().as_bytes()])
}

/// The mark of an unfinished task.
#[must_use]
pub fn open(task: &TaskId) -> Vec<u8> {
    join(&[OPEN, task.as_str().as_bytes()])
}

/// All events of a task.
#[must_use]
pub fn events(task: &TaskId) -> Vec<u8> {
    join(&[EVENTS, task.as_str().as_bytes(), b"/"])
}

/// One event.
#[must_use]
pub fn event(task: &TaskId, sequence: u64) -> Vec<u8> {
    join(&[&events(task), &sequence.to_be_bytes()])
}

/// The values over which an event is spread: `p/<task>/<sequence>`.
#[must_use]
pub fn parts(task: &TaskId, sequence: u64) -> Vec<u8> {
    join(&[b"p/", task.as_str().as_bytes(), b"/", &sequence.to_be_bytes()])
}

/// One of them.
#[must_use]
pub fn part(task: &TaskId, sequence: u64, number: usize) -> Vec<u8> {
    join(&[&parts(task, sequence), &(number as u64).to_be_bytes()])
}

/// Where the events of an archived task are: `a/<task>`.
#[must_use]
pub fn archived(task: &TaskId) -> Vec<u8> {
    join(&[ARCHIVED, task.as_str().as_bytes()])
}

/// The parts of all events of a task.
#[must_use]
pub fn parts_of_task(task: &TaskId) -> Vec<u8> {
    join(&[b"p/", task.as_str().as_bytes(), b"/"])
}

/// The tasks of a site.
#[must_use]
pub fn site(site: &str) -> Vec<u8> {
    join(&[b"s/", site.as_bytes(), b"\0"])
}

/// One task of a site.
#[must_use]
pub fn site_task(site_name: &str, task: &TaskId) -> Vec<u8> {
    join(&[&site(site_name), task.as_str().as_bytes()])
}

/// A lock held by a task.
#[must_use]
pub fn lock(resource: &str, task: &TaskId) -> Vec<u8> {
    join(&[LOCKS, resource.as_bytes(), b"\0", task.as_str().as_bytes()])
}

/// A lock's resource and task, from its key.
#[must_use]
pub fn lock_parts(key: &[u8]) -> Option<(String, TaskId)> {
    let text = std::str::from_utf8(key.strip_prefix(LOCKS)?).ok()?;
    let (resource, task) = text.rsplit_once('\0')?;
    Some((resource.to_owned(), TaskId::try_from(task.to_owned()).ok()?))
}

/// A dedupe key.
#[must_use]
pub fn dedupe(scope: &str, key_sha256: &str) -> Vec<u8> {
    join(&[DEDUPE, scope.as_bytes(), b"\0", key_sha256.as_bytes()])
}

/// The records of a family.
#[must_use]
pub fn records(family: &str) -> Vec<u8> {
    join(&[b"r/", family.as_bytes(), b"/"])
}

/// A record.
#[must_use]
pub fn record(family: &str, name: &str) -> Vec<u8> {
    join(&[&records(family), name.as_bytes()])
}

/// A callback.
#[must_use]
pub fn callback(id: &str) -> Vec<u8> {
    join(&[CALLBACKS, id.as_bytes()])
}

/// The callbacks of a task: `m/<task>/<id>`, without a value.
#[must_use]
pub fn callbacks_of_task(task: &TaskId) -> Vec<u8> {
    join(&[b"m/", task.as_str().as_bytes(), b"/"])
}

/// The callbacks to a receiver: `n/<name>\0<id>`, without a value. Long names are there by their hash.
#[must_use]
pub fn callbacks_to(endpoint: &str) -> Vec<u8> {
    if endpoint.len() <= MAX_ENDPOINT && !endpoint.contains('\0') {
        return join(&[b"n/", endpoint.as_bytes(), b"\0"]);
    }
    join(&[b"n/", BlobId::of(endpoint.as_bytes()).as_str().as_bytes(), b"\0"])
}

/// When a callback is due.
#[must_use]
pub fn due(at: Millis, id: &str) -> Vec<u8> {
    join(&[DUE, &at.to_be_bytes(), id.as_bytes()])
}

/// The deliveries of a callback.
#[must_use]
pub fn deliveries(callback: &str) -> Vec<u8> {
    join(&[b"d/", callback.as_bytes(), b"/"])
}

/// One delivery.
#[must_use]
pub fn delivery(callback: &str, attempt: u32) -> Vec<u8> {
    join(&[&deliveries(callback), &attempt.to_be_bytes()])
}

/// Messages of a kind: `i/<letter>/<id>`.
#[must_use]
pub fn inbox(kind: Kept) -> Vec<u8> {
    let letter: &[u8] = match kind {
        Kept::Accepted => b"a/",
        Kept::Refused => b"f/",
        Kept::Rejected => b"j/",
    };
    join(&[b"i/", letter])
}

/// One message.
#[must_use]
pub fn inbox_message(kind: Kept, id: &str) -> Vec<u8> {
    join(&[&inbox(kind), id.as_bytes()])
}

/// A part of a message that does not fit into its row: `j/<id>\0<number>`.
#[must_use]
pub fn inbox_part(id: &str, number: usize) -> Vec<u8> {
    join(&[b"j/", id.as_bytes(), b"\0", &(number as u64).to_be_bytes()])
}
