//! The journal's form: keys, records and heads over a [`Store`]. Encodes and decodes, chains hashes, spreads what is too large for
//! a value over several, or spills it into a blob. It knows no step and decides nothing.

pub mod archive;
mod blobs;
pub mod keys;
mod pack;
pub mod transfer;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::event::Event;
use crate::machine::Machine;
use crate::store::{Batch, BlobId, CommitError, MAX_VALUE, ReadError, Store};
use crate::task::{Millis, TaskId, TaskState};

/// Version of the record format.
const FORMAT: u32 = 1;
/// Records read at a time.
const PAGE: usize = 256;

/// Most values over which a record is spread. A blob would cost two syncs of its own; this much goes with the group commit, and
/// most plans fit.
const MAX_PARTS: usize = 16;
/// How a value begins that is a record as it is. One that is packed, or says where the record is, begins otherwise.
const RECORD: &[u8] = b"{\"v\":";

/// One event as journaled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Format version.
    #[serde(rename = "v")]
    pub version: u32,
    /// Dense sequence within the task, from 1.
    #[serde(rename = "seq")]
    pub sequence: u64,
    /// The life of the process in which it was written.
    pub epoch: u64,
    /// When.
    pub at: Millis,
    /// SHA-256 of the record before (of its stored bytes), 32 hex digits; empty for the first.
    pub prev: String,
    /// The event.
    pub event: Event,
}

/// A record whose event is not read yet.
#[derive(Deserialize)]
struct RawRecord<'a> {
    #[serde(rename = "v")]
    version: u32,
    #[serde(rename = "seq")]
    sequence: u64,
    epoch: u64,
    at: Millis,
    prev: String,
    #[serde(borrow)]
    event: &'a RawValue,
}

/// How the first event of a task begins.
const ACCEPTED: &str = "{\"type\":\"accepted\",";

/// What stands in the value when a record is too large for it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Elsewhere {
    /// In this many values beside it.
    Parts(usize),
    /// In a blob.
    Blob(BlobId),
}

/// Where a record is, from the value under its event's key.
enum Place {
    /// It is that value, packed or not.
    Here,
    Elsewhere(Elsewhere),
}

impl Place {
    fn of(value: &[u8]) -> Result<Self, serde_json::Error> {
        if value.starts_with(RECORD) || pack::is_packed(value) {
            return Ok(Self::Here);
        }
        serde_json::from_slice(value).map(Self::Elsewhere)
    }

    /// The blob in which it is.
    fn blob(value: &[u8]) -> Option<BlobId> {
        match Self::of(value) {
            Ok(Self::Elsewhere(Elsewhere::Blob(blob))) => Some(blob),
            // A key of another form is no event's, and fsck's to tell.
            Ok(Self::Here | Self::Elsewhere(Elsewhere::Parts(_))) | Err(_) => None,
        }
    }
}

/// A task's head: an index over its events, written with each of them. Never a source of truth, but a guard: a task whose events
/// end before or after its head is damaged, and two processes cannot both extend it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Sequence of the last event.
    pub sequence: u64,
    /// Hash of the last record.
    pub hash: String,
    /// Epoch.
    pub epoch: u64,
    /// State after the last event.
    pub state: TaskState,
    /// Workflow.
    pub workflow: String,
    /// Site.
    pub site: Option<String>,
    /// When it was accepted.
    pub created_at: Millis,
}

impl Head {
    pub(crate) fn of(machine: &Machine, hash: String, state: TaskState) -> Self {
        Self {
            sequence: machine.sequence(),
            hash,
            epoch: machine.epoch(),
            state,
            workflow: machine.accepted().workflow.clone(),
            site: machine.plan().rest().site.clone(),
            created_at: machine.created_at(),
        }
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, AppendError> {
        serde_json::to_vec(self).map_err(|error| AppendError::Encode(error.to_string()))
    }
}

/// Why a task could not be read: it is quarantined, others go on.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum JournalError {
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What is stored is no valid history.
    #[error("the history of {task} is damaged at event {sequence}: {why}")]
    Damaged {
        /// The task.
        task: TaskId,
        /// Where.
        sequence: u64,
        /// How.
        why: String,
    },
}

/// Why a task's history could not be extended.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AppendError {
    /// The store refused or failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A record does not serialise.
    #[error("an event cannot be stored: {0}")]
    Encode(String),
}

/// The journal over a store.
#[derive(Clone)]
pub struct Journal {
    store: Arc<dyn Store>,
}

/// A record ready to be written: its value, and the blob that has to be durable before it.
pub struct Encoded {
    /// The value under the event's key.
    pub value: Vec<u8>,
    /// The values beside it, when the record was too large for one.
    pub parts: Vec<Vec<u8>>,
    /// The blob, when the record was too large for those.
    pub blob: Option<Vec<u8>>,
    /// The record's hash, for its successor's `prev`.
    pub hash: String,
}

impl Journal {
    /// A journal over a store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// The store beneath.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// A task's head and its exact bytes, which the next write demands unchanged.
    ///
    /// # Errors
    /// When it cannot be read or is no head.
    pub fn head(&self, task: &TaskId) -> Result<Option<(Head, Vec<u8>)>, JournalError> {
        let Some(bytes) = self.store.get(&keys::head(task))? else { return Ok(None) };
        let head =
            serde_json::from_slice(&bytes).map_err(|error| damaged(task, 0, format!("its head: {error}")))?;
        Ok(Some((head, bytes)))
    }

    /// The records of a task above `after`, at most `limit`, checked for density and, from the beginning, for the hash chain.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] names the first record that is not right.
    pub fn records(&self, task: &TaskId, after: u64, limit: usize) -> Result<Vec<Record>, JournalError> {
        Ok(self.read(task, after, limit)?.0)
    }

    /// The records and the hash of the last one.
    fn read(
        &self,
        task: &TaskId,
        after: u64,
        limit: usize,
    ) -> Result<(Vec<Record>, Option<String>), JournalError> {
        let prefix = keys::events(task);
        let mut reading =
            Reading { records: Vec::new(), prev: (after == 0).then(String::new), sequence: after };
        let mut unpacked = false;
        while reading.records.len() < limit {
            let sequence = reading.sequence;
            let from = (sequence > 0).then(|| keys::event(task, sequence));
            let page = self.store.scan(&prefix, from.as_deref(), PAGE.min(limit - reading.records.len()))?;
            let goes_on = page.first().is_some_and(|(key, _)| *key == keys::event(task, sequence + 1));
            if !goes_on && !unpacked {
                unpacked = true;
                if let Some(packed) = self.unpacked(task)? {
                    let known = usize::try_from(sequence).unwrap_or(usize::MAX);
                    for bytes in packed.iter().skip(known).take(limit - reading.records.len()) {
                        reading.take(task, bytes)?;
                    }
                    continue;
                }
            }
            if page.is_empty() {
                break;
            }
            for (key, value) in page {
                if key != keys::event(task, reading.sequence + 1) {
                    return Err(damaged(task, reading.sequence + 1, "a record is missing".to_owned()));
                }
                let bytes = self.bytes(task, reading.sequence + 1, value)?;
                reading.take(task, &bytes)?;
            }
        }
        let Reading { records, prev, .. } = reading;
        Ok((records, prev))
    }

    /// A task's whole history, checked against its head.
    ///
    /// # Errors
    /// As [`Journal::records`]; also when the head says that there is more or less, or another last hash.
    pub fn history(&self, task: &TaskId) -> Result<(Vec<Record>, Head, Vec<u8>), JournalError> {
        let Some((head, bytes)) = self.head(task)? else {
            return Err(damaged(task, 0, "it has no head".to_owned()));
        };
        let (records, hash) = self.read(task, 0, usize::MAX)?;
        let last = records.len() as u64;
        if last != head.sequence {
            let why = format!("its head says {} events, {last} are there", head.sequence);
            return Err(damaged(task, last, why));
        }
        if hash.as_ref() != Some(&head.hash) {
            return Err(damaged(task, last, "the last record is not the one its head names".to_owned()));
        }
        Ok((records, head, bytes))
    }

    /// Encodes records that follow `head_hash`, storing blobs first; adds the writes to `batch`.
    ///
    /// # Errors
    /// When a blob cannot be stored or a record does not serialise.
    pub async fn append(
        &self,
        batch: &mut Batch,
        task: &TaskId,
        head_hash: &str,
        records: &mut [Record],
    ) -> Result<String, AppendError> {
        let mut prev = head_hash.to_owned();
        for record in records {
            record.prev.clone_from(&prev);
            let encoded = encode(record).map_err(AppendError::Encode)?;
            if let Some(blob) = encoded.blob {
                self.store.put_blob(blob).await?;
            }
            for (number, part) in encoded.parts.into_iter().enumerate() {
                batch.put(keys::part(task, record.sequence, number), part);
            }
            batch.put(keys::event(task, record.sequence), encoded.value);
            prev = encoded.hash;
        }
        Ok(prev)
    }

    /// A record's bytes, wherever they are, unpacked.
    fn bytes(&self, task: &TaskId, sequence: u64, value: Vec<u8>) -> Result<Vec<u8>, JournalError> {
        let bad = |why: String| damaged(task, sequence, why);
        let stored = match Place::of(&value).map_err(|error| bad(error.to_string()))? {
            Place::Here => value,
            Place::Elsewhere(Elsewhere::Parts(count)) => {
                let parts = self.store.scan(&keys::parts(task, sequence), None, MAX_PARTS)?;
                if parts.len() != count {
                    return Err(bad(format!("{} of its {count} parts are there", parts.len())));
                }
                parts.into_iter().flat_map(|(_, part)| part).collect()
            }
            Place::Elsewhere(Elsewhere::Blob(blob)) => {
                let bytes = self.store.get_blob(&blob)?;
                bytes.ok_or_else(|| bad(format!("its blob {blob:?} is missing")))?
            }
        };
        pack::unpack(stored).map_err(bad)
    }
}

/// A history as it is read: dense, and chained by hashes.
struct Reading {
    records: Vec<Record>,
    prev: Option<String>,
    sequence: u64,
}

impl Reading {
    fn take(&mut self, task: &TaskId, bytes: &[u8]) -> Result<(), JournalError> {
        let expected = self.sequence + 1;
        let record = decode(bytes).map_err(|error| damaged(task, expected, error.to_string()))?;
        if record.sequence != expected {
            return Err(damaged(task, expected, "a record is missing".to_owned()));
        }
        if self.prev.as_ref().is_some_and(|prev| *prev != record.prev) {
            return Err(damaged(task, expected, "the hash chain is broken".to_owned()));
        }
        self.prev = Some(hash(bytes));
        self.sequence = expected;
        self.records.push(record);
        Ok(())
    }
}

/// Makes a record of an event; `prev` is set when it is appended.
#[must_use]
pub fn record(sequence: u64, epoch: u64, at: Millis, event: Event) -> Record {
    Record { version: FORMAT, sequence, epoch, at, prev: String::new(), event }
}

/// The values of a record as they are stored. Its hash is that of its bytes before they are packed.
///
/// # Errors
/// When it does not serialise: in words.
pub fn encode(record: &Record) -> Result<Encoded, String> {
    let bytes = serde_json::to_vec(record).map_err(|error| error.to_string())?;
    let hash = hash(&bytes);
    let bytes = pack::pack(bytes);
    let elsewhere = |elsewhere: Elsewhere| serde_json::to_vec(&elsewhere).map_err(|error| error.to_string());
    if bytes.len() <= MAX_VALUE {
        return Ok(Encoded { value: bytes, parts: Vec::new(), blob: None, hash });
    }
    if bytes.len() <= MAX_PARTS * MAX_VALUE {
        let parts: Vec<Vec<u8>> = bytes.chunks(MAX_VALUE).map(<[u8]>::to_vec).collect();
        return Ok(Encoded { value: elsewhere(Elsewhere::Parts(parts.len()))?, parts, blob: None, hash });
    }
    let value = elsewhere(Elsewhere::Blob(BlobId::of(&bytes)))?;
    Ok(Encoded { value, parts: Vec::new(), blob: Some(bytes), hash })
}

/// A record from its stored bytes.
///
/// # Errors
/// When they are none.
pub fn decode(bytes: &[u8]) -> Result<Record, serde_json::Error> {
    let raw: RawRecord<'_> = serde_json::from_slice(bytes)?;
    // The one large event is read straight into its place; serde would build it twice to look for its tag first.
    let event = if raw.event.get().starts_with(ACCEPTED) {
        Event::Accepted(Arc::new(serde_json::from_str(raw.event.get())?))
    } else {
        serde_json::from_str(raw.event.get())?
    };
    let RawRecord { version, sequence, epoch, at, prev, event: _ } = raw;
    Ok(Record { version, sequence, epoch, at, prev, event })
}

fn hash(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes)[..16])
}

fn damaged(task: &TaskId, sequence: u64, why: String) -> JournalError {
    JournalError::Damaged { task: task.clone(), sequence, why }
}
