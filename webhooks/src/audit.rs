//! The audit log: who changed or tried to change what, by which token or hook. Records are appended only, each holds the hash of the
//! one before, and they are bounded in number. Requests whose sender is not known are the log's business, not this one's.

use std::sync::{Arc, Mutex, PoisonError};

use kedge_engine::store::{Batch, CommitError, ReadError, Store};
use kedge_engine::task::Millis;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::api;
use crate::rows::Rows;

/// Records kept; older ones go one by one as new ones come.
const MAX_RECORDS: u64 = 100_000;
/// Records written in one batch.
const AT_ONCE: usize = 256;
/// Records that may wait to be written; beyond, requests wait for their own.
const MAX_WAITING: usize = 4096;
/// Longest path kept.
const MAX_PATH: usize = 300;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) at: Millis,
    /// `token:ci`, `hook:deploy`.
    pub(crate) by: String,
    /// Where from, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    /// The route's name.
    pub(crate) action: String,
    /// What it was done to: the path.
    pub(crate) target: String,
    /// How it was answered.
    pub(crate) status: u16,
    /// The request's id, as in the log.
    pub(crate) request: String,
    /// The task that came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) task: Option<String>,
}

/// An entry in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    #[serde(flatten)]
    entry: Entry,
    /// Hash of the record before; empty for the first.
    previous: String,
    /// SHA-256 of the previous hash, a line feed, and the entry's JSON.
    hash: String,
}

/// The audit log. Clones are the same.
#[derive(Clone)]
pub(crate) struct Audit(Arc<Inner>);

struct Inner {
    rows: Rows,
    state: Mutex<State>,
    written: watch::Sender<u64>,
}

struct State {
    /// Number of the last record that is written or waits.
    last: u64,
    /// Number and hash of the last record that is written.
    head: (u64, String),
    waiting: Vec<Entry>,
    writing: bool,
}

impl Audit {
    /// Opens the log and finds its end.
    ///
    /// # Errors
    /// When the store cannot be read or the last record is damaged.
    pub(crate) fn open(store: Arc<dyn Store>) -> Result<Self, ReadError> {
        let rows = Rows::new(store, "a");
        let last: Option<(String, Record)> = rows.back(None, 1)?.pop();
        let head = match last {
            None => (0, String::new()),
            Some((name, record)) => (number(&name)?, record.hash),
        };
        let written = watch::Sender::new(head.0);
        let state = State { last: head.0, head, waiting: Vec::new(), writing: false };
        Ok(Self(Arc::new(Inner { rows, state: Mutex::new(state), written })))
    }

    /// Appends an entry. `durable`: returns when it is written; else when it is sure to be written soon.
    pub(crate) async fn append(&self, mut entry: Entry, durable: bool) {
        entry.target = entry.target.chars().take(MAX_PATH).collect();
        let (number, crowded, lead) = {
            let mut state = self.state();
            state.last += 1;
            state.waiting.push(entry);
            let lead = !std::mem::replace(&mut state.writing, true);
            (state.last, state.waiting.len() > MAX_WAITING, lead)
        };
        if lead {
            let own = self.clone();
            tokio::spawn(async move { own.write().await });
        }
        if durable || crowded {
            self.until(number).await;
        }
    }

    /// Resolves when everything that was appended is written, or could not be.
    pub(crate) async fn flush(&self) {
        let last = self.state().last;
        self.until(last).await;
    }

    async fn until(&self, number: u64) {
        // The sender lives in `self`: there is no error to be had.
        let _ = self.0.written.subscribe().wait_for(|written| *written >= number).await;
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what waits, batch after batch, until nothing does. One of these runs at a time.
    async fn write(&self) {
        loop {
            let (entries, head) = {
                let mut state = self.state();
                if state.waiting.is_empty() {
                    state.writing = false;
                    return;
                }
                let count = state.waiting.len().min(AT_ONCE);
                (state.waiting.drain(..count).collect::<Vec<_>>(), state.head.clone())
            };
            let count = entries.len() as u64;
            match self.write_batch(entries, head).await {
                Ok(head) => self.state().head = head,
                Err(error) => {
                    // The numbers are used up: the gap shows that something is missing.
                    tracing::error!(target: "kedge::audit", %error, count, "audit records could not be written");
                    self.state().head.0 += count;
                }
            }
            let written = self.state().head.0;
            self.0.written.send_replace(written);
        }
    }

    async fn write_batch(
        &self,
        entries: Vec<Entry>,
        (mut number, mut previous): (u64, String),
    ) -> Result<(u64, String), CommitError> {
        let mut batch = Batch::new();
        for entry in entries {
            number += 1;
            let hash =
                chained(&previous, &entry).map_err(|error| CommitError::TooLarge(error.to_string()))?;
            let record = Record { entry, previous, hash: hash.clone() };
            self.0.rows.put(&mut batch, &name(number), &record, true)?;
            if let Some(old) = number.checked_sub(MAX_RECORDS).filter(|old| *old > 0) {
                self.0.rows.delete(&mut batch, &name(old));
            }
            previous = hash;
        }
        self.0.rows.commit(batch).await?;
        Ok((number, previous))
    }

    /// Up to `limit` records before a number, the newest first, as they are shown.
    pub(crate) fn page(&self, before: Option<u64>, limit: usize) -> Result<Vec<(u64, Value)>, ReadError> {
        let before = before.map(name);
        let rows: Vec<(String, Record)> = self.0.rows.back(before.as_deref(), limit)?;
        rows.into_iter()
            .map(|(name, record)| number(&name).map(|number| (number, shown(number, &record))))
            .collect()
    }
}

fn chained(previous: &str, entry: &Entry) -> Result<String, serde_json::Error> {
    let entry = serde_json::to_string(entry)?;
    Ok(hex::encode(Sha256::digest(format!("{previous}\n{entry}"))))
}

/// Names sort as numbers do.
fn name(number: u64) -> String {
    format!("{number:020}")
}

fn number(name: &str) -> Result<u64, ReadError> {
    name.parse().map_err(|_| ReadError::Damaged(format!("{name:?} is no number of an audit record")))
}

fn shown(number: u64, record: &Record) -> Value {
    let entry = &record.entry;
    let whole = chained(&record.previous, entry).is_ok_and(|hash| hash == record.hash);
    json!({
        "sequence": number,
        "at": api::time(entry.at),
        "by": entry.by,
        "from": entry.from,
        "action": entry.action,
        "target": entry.target,
        "status": entry.status,
        "request": entry.request,
        "task_id": entry.task,
        "previous": record.previous,
        "hash": record.hash,
        "intact": whole,
    })
}

#[cfg(test)]
mod tests {
    use kedge_engine::testing::memory_store::MemoryStore;

    use super::*;

    fn entry(n: u64) -> Entry {
        Entry {
            at: n,
            by: "token:ci".to_owned(),
            from: None,
            action: "cancel".to_owned(),
            target: format!("/v1/tasks/{n}/cancel"),
            status: 202,
            request: format!("req_{n}"),
            task: None,
        }
    }

    #[tokio::test]
    async fn records_are_chained_over_lives_and_batches() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let audit = Audit::open(store.clone()).unwrap();
        audit.append(entry(1), true).await;
        for n in 2..=700 {
            audit.append(entry(n), false).await;
        }
        audit.flush().await;
        let audit = Audit::open(store).unwrap();
        audit.append(entry(701), true).await;
        let mut records = audit.page(None, 1000).unwrap();
        records.reverse();
        assert_eq!(records.len(), 701);
        let mut previous = Value::from("");
        for (index, (number, record)) in records.iter().enumerate() {
            assert_eq!((*number, &record["sequence"]), (index as u64 + 1, &json!(index + 1)));
            assert_eq!(record["target"], format!("/v1/tasks/{number}/cancel"), "in order");
            assert_eq!((&record["previous"], &record["intact"]), (&previous, &json!(true)));
            previous = record["hash"].clone();
        }
        let page = audit.page(Some(3), 10).unwrap();
        assert_eq!(page.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2, 1]);
    }

    #[tokio::test]
    async fn a_changed_record_shows() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let audit = Audit::open(store.clone()).unwrap();
        audit.append(entry(1), true).await;
        let key = format!("w/a/{}", name(1)).into_bytes();
        let text = String::from_utf8(store.get(&key).unwrap().unwrap()).unwrap();
        let mut batch = Batch::new();
        batch.put(key, text.replace("token:ci", "token:no"));
        store.commit(batch).await.unwrap();
        assert_eq!(audit.page(None, 1).unwrap()[0].1["intact"], false);
    }
}
