//! The inbox on a store: a row for each message, more where it is large, and a ring for each kind. Judges nothing.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt as _;
use futures::channel::oneshot;
use futures::future::select;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::inbox::{Inbox, Kept, MAX_LINE, MAX_REST, Received};
use crate::journal::keys;
use crate::ports::Clock;
use crate::store::{Batch, MAX_VALUE, ReadError, Store};
use crate::task::{Millis, TaskId};

/// Messages that wait to be written, of known and of unknown senders: bounds their memory when they come quicker than the disk is.
const QUEUED: usize = 256;
/// Bytes of them in all.
const QUEUED_BYTES: usize = 8 * 1024 * 1024;
/// Rows read at a time.
const PAGE: usize = 256;
/// How often the age of messages is looked at.
const LOOK_EVERY_MS: Millis = 600_000;
const DAY_MS: Millis = 86_400_000;

/// Room of a kind of messages: whatever is over goes, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Most messages.
    pub count: usize,
    /// Most bytes of all of them.
    pub bytes: usize,
    /// Longest age.
    pub age_ms: Millis,
}

impl Room {
    /// Weeks of a busy team's pipelines, days of what strangers send; some ten megabytes on disk at most.
    fn of(kind: Kept) -> Self {
        match kind {
            Kept::Accepted => Self { count: 20_000, bytes: 64 << 20, age_ms: 30 * DAY_MS },
            Kept::Refused => Self { count: 5000, bytes: 32 << 20, age_ms: 30 * DAY_MS },
            Kept::Rejected => Self { count: 2000, bytes: 4 << 20, age_ms: 7 * DAY_MS },
        }
    }
}

/// The inbox of a store. Clones are the same.
#[derive(Clone)]
pub struct StoreInbox {
    store: Arc<dyn Store>,
    state: Arc<Mutex<State>>,
    rooms: [Room; 3],
}

#[derive(Default)]
struct State {
    queue: VecDeque<Received>,
    queued_bytes: usize,
    dropped: u64,
    /// What there is of each kind, counted since [`StoreInbox::tend`] began.
    there: [Tally; 3],
    listener: Option<oneshot::Sender<()>>,
}

#[derive(Clone, Copy, Default)]
struct Tally {
    count: usize,
    bytes: usize,
}

/// A message as stored: what does not fit into its row is in parts.
#[derive(Serialize, Deserialize)]
struct Row {
    at: Millis,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    task: Option<TaskId>,
    line: Value,
    #[serde(default, skip_serializing_if = "is_null")]
    rest: Arc<Value>,
    #[serde(default, skip_serializing_if = "is_zero")]
    parts: usize,
}

fn is_null(rest: &Arc<Value>) -> bool {
    rest.is_null()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_zero(parts: &usize) -> bool {
    *parts == 0
}

impl StoreInbox {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, state: Arc::default(), rooms: Kept::ALL.map(Room::of) }
    }

    /// The same inbox with other rooms, in the order of [`Kept::ALL`].
    #[must_use]
    pub fn with_rooms(self, rooms: [Room; 3]) -> Self {
        Self { rooms, ..self }
    }

    /// Writes what is kept and trims what is over, for as long as it is polled.
    pub async fn tend(self, clock: Arc<dyn Clock>) {
        self.count();
        let mut look_at = clock.now();
        loop {
            let now = clock.now();
            let age = now >= look_at;
            if age {
                look_at = now + LOOK_EVERY_MS;
            }
            self.round(age.then_some(now)).await;
            let news = self.listen();
            select(news, clock.sleep_until(look_at)).await;
        }
    }

    /// Writes what waits and trims what is over; with a time, also what is too old.
    pub async fn round(&self, now: Option<Millis>) {
        self.flush().await;
        for kind in Kept::ALL {
            self.trim(kind, now).await;
        }
    }

    /// Writes everything that waits.
    pub async fn flush(&self) {
        loop {
            let mut batch = Batch::new();
            let mut sizes = Vec::new();
            {
                let mut state = self.state();
                while batch.writes.len() < PAGE
                    && let Some(received) = state.queue.pop_front()
                {
                    let size = stage(&mut batch, &received);
                    state.queued_bytes = state.queued_bytes.saturating_sub(weight(&received));
                    sizes.push((received.kind, size));
                }
            }
            if batch.writes.is_empty() {
                return;
            }
            match self.store.commit(batch).await {
                Ok(()) => sizes.into_iter().for_each(|(kind, size)| self.noted(kind, size)),
                Err(error) => tracing::warn!(%error, messages = sizes.len(), "messages could not be kept"),
            }
        }
    }

    /// Notes that a message has been written.
    pub(super) fn noted(&self, kind: Kept, bytes: usize) {
        let over = {
            let mut state = self.state();
            let there = &mut state.there[kind as usize];
            there.count += 1;
            there.bytes += bytes;
            there.over(&self.rooms[kind as usize])
        };
        if over {
            self.tell();
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        if let Some(listener) = self.state().listener.take() {
            // Gone: nobody tends any more.
            let _ = listener.send(());
        }
    }

    /// Resolves when there is something to do.
    fn listen(&self) -> futures::future::BoxFuture<'static, ()> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        if !state.queue.is_empty() {
            return futures::future::ready(()).boxed();
        }
        state.listener = Some(sender);
        drop(state);
        receiver.map(|_| ()).boxed()
    }

    /// Counts what is there: once, before the first round.
    pub fn count(&self) {
        for kind in Kept::ALL {
            let mut tally = Tally::default();
            let mut after: Option<Vec<u8>> = None;
            loop {
                let rows = match self.store.scan(&keys::inbox(kind), after.as_deref(), PAGE) {
                    Ok(rows) => rows,
                    Err(error) => {
                        tracing::error!(%error, "the inbox cannot be counted");
                        break;
                    }
                };
                let Some((last, _)) = rows.last() else { break };
                after = Some(last.clone());
                for (_, value) in &rows {
                    tally.count += 1;
                    tally.bytes += size(value.len(), parts(value));
                }
            }
            self.state().there[kind as usize] = tally;
        }
    }

    /// Removes what is over, oldest first, and a little more, so that it is not done for every message.
    async fn trim(&self, kind: Kept, now: Option<Millis>) {
        let room = self.rooms[kind as usize];
        let oldest = now.map(|now| now.saturating_sub(room.age_ms));
        let mut wanted = room;
        if self.state().there[kind as usize].over(&room) {
            wanted.count -= room.count / 20;
            wanted.bytes -= room.bytes / 20;
        }
        loop {
            let rows = match self.store.scan(&keys::inbox(kind), None, PAGE) {
                Ok(rows) => rows,
                Err(error) => return tracing::error!(%error, "the inbox cannot be trimmed"),
            };
            let mut batch = Batch::new();
            let mut left = self.state().there[kind as usize];
            let mut removed = Tally::default();
            for (key, value) in &rows {
                let old = oldest.is_some_and(|oldest| at(value).is_none_or(|at| at < oldest));
                if (!old && !left.over(&wanted)) || batch.writes.len() >= 2 * PAGE {
                    break;
                }
                let parts = parts(value);
                let one = Tally { count: 1, bytes: size(value.len(), parts) };
                left = left.without(one);
                removed.count += one.count;
                removed.bytes += one.bytes;
                batch.delete(key.clone());
                let id = String::from_utf8_lossy(&key[keys::inbox(kind).len()..]).into_owned();
                (0..parts).for_each(|part| {
                    batch.delete(keys::inbox_part(&id, part));
                });
            }
            if batch.writes.is_empty() {
                return;
            }
            if let Err(error) = self.store.commit(batch).await {
                return tracing::warn!(%error, "the inbox could not be trimmed");
            }
            // Others have been noted meanwhile.
            let mut state = self.state();
            state.there[kind as usize] = state.there[kind as usize].without(removed);
        }
    }

    fn read(&self, kind: Kept, id: &str, value: &[u8], whole: bool) -> Result<Received, ReadError> {
        let damaged = |error: serde_json::Error| ReadError::Damaged(format!("the message {id}: {error}"));
        let mut row: Row = serde_json::from_slice(value).map_err(damaged)?;
        if whole && row.parts > 0 {
            let mut text = Vec::new();
            for part in 0..row.parts {
                let part = self.store.get(&keys::inbox_part(id, part))?;
                text.extend(
                    part.ok_or_else(|| ReadError::Damaged(format!("a part of the message {id} is missing")))?,
                );
            }
            row.rest = Arc::new(serde_json::from_slice(&text).map_err(damaged)?);
        }
        let rest = if whole { row.rest } else { Arc::default() };
        Ok(Received { id: id.to_owned(), at: row.at, kind, task: row.task, line: row.line, rest })
    }
}

impl Tally {
    fn over(&self, room: &Room) -> bool {
        self.count > room.count || self.bytes > room.bytes
    }

    fn without(self, other: Self) -> Self {
        Self { count: self.count.saturating_sub(other.count), bytes: self.bytes.saturating_sub(other.bytes) }
    }
}

impl Inbox for StoreInbox {
    fn keep(&self, received: Received) -> bool {
        {
            let mut state = self.state();
            let known = received.kind != Kept::Rejected;
            let alike = state.queue.iter().filter(|other| (other.kind != Kept::Rejected) == known).count();
            let weight = weight(&received);
            if alike >= QUEUED || state.queued_bytes + weight > QUEUED_BYTES {
                state.dropped += 1;
                return false;
            }
            state.queued_bytes += weight;
            state.queue.push_back(received);
        }
        self.tell();
        true
    }

    fn received(&self, id: &str) -> Result<Option<Received>, ReadError> {
        for kind in Kept::ALL {
            if let Some(value) = self.store.get(&keys::inbox_message(kind, id))? {
                return self.read(kind, id, &value, true).map(Some);
            }
        }
        Ok(None)
    }

    fn list(&self, before: Option<&str>, limit: usize) -> Result<Vec<Received>, ReadError> {
        let mut found = Vec::new();
        for kind in Kept::ALL {
            let before = before.map(|id| keys::inbox_message(kind, id));
            let prefix = keys::inbox(kind);
            for (key, value) in self.store.scan_back(&prefix, before.as_deref(), limit)? {
                let id = String::from_utf8_lossy(&key[prefix.len()..]).into_owned();
                found.push(self.read(kind, &id, &value, false)?);
            }
        }
        found.sort_by(|a, b| b.id.cmp(&a.id));
        found.truncate(limit);
        Ok(found)
    }

    fn dropped(&self) -> u64 {
        self.state().dropped
    }
}

/// Adds a message to a batch; its size. One that is over its bounds is kept without its rest, or not at all: never is it a reason not to
/// do what the batch is for.
pub(super) fn stage(batch: &mut Batch, received: &Received) -> usize {
    let row = |rest: Arc<Value>, parts: usize| {
        let (at, task, line) = (received.at, received.task.clone(), received.line.clone());
        serde_json::to_vec(&Row { at, task, line, rest, parts }).unwrap_or_default()
    };
    let key = keys::inbox_message(received.kind, &received.id);
    let whole = row(received.rest.clone(), 0);
    if !whole.is_empty() && whole.len() <= MAX_VALUE {
        let size = size(whole.len(), 0);
        batch.put(key, whole);
        return size;
    }
    let rest = serde_json::to_vec(&*received.rest).unwrap_or_default();
    let rest = if rest.len() <= MAX_REST { rest } else { Vec::new() };
    let parts: Vec<&[u8]> = rest.chunks(MAX_VALUE).collect();
    let value = row(Arc::default(), parts.len());
    if value.is_empty() || value.len() > MAX_VALUE {
        tracing::error!(
            id = received.id,
            bytes = value.len(),
            limit = MAX_LINE,
            "a message is too large to be kept"
        );
        return 0;
    }
    let size = size(value.len(), parts.len());
    batch.put(key, value);
    for (number, part) in parts.into_iter().enumerate() {
        batch.put(keys::inbox_part(&received.id, number), part);
    }
    size
}

fn weight(received: &Received) -> usize {
    fn of(value: &Value) -> usize {
        match value {
            Value::String(text) => text.len() + 24,
            Value::Array(items) => 24 + items.iter().map(of).sum::<usize>(),
            Value::Object(map) => {
                24 + map.iter().map(|(key, value)| key.len() + 48 + of(value)).sum::<usize>()
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => 24,
        }
    }
    of(&received.line) + of(&received.rest)
}

/// The head of a row, without its texts.
#[derive(Deserialize)]
struct Head {
    at: Millis,
    #[serde(default)]
    parts: usize,
}

fn at(value: &[u8]) -> Option<Millis> {
    serde_json::from_slice::<Head>(value).ok().map(|head| head.at)
}

fn parts(value: &[u8]) -> usize {
    serde_json::from_slice::<Head>(value).map_or(0, |head| head.parts)
}

/// Bytes of a message, roughly: the last part counts as a whole one. What is added for it and what is taken away has to be the same.
fn size(row: usize, parts: usize) -> usize {
    row + parts * MAX_VALUE
}

/// Adds the message that became a task to the batch that makes it one.
pub(super) fn attach(batch: &mut Batch, received: Option<Received>, task: &TaskId) -> Option<(Kept, usize)> {
    let received = Received { task: Some(task.clone()), ..received? };
    let size = stage(batch, &received);
    (size > 0).then_some((received.kind, size))
}
