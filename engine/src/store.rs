//! The store port: what the engine asks of a durable key-value store, with every promise written down.
//! Plain bytes in and out. It never knows tasks or events; the `journal` module does.

use std::fmt;

use futures::future::BoxFuture;
use thiserror::Error;

/// Largest key, in bytes: keys are short tuples, and sled keeps whole keys in its index pages.
pub const MAX_KEY: usize = 512;
/// Largest value, in bytes. sled 0.34.7 moves larger page fragments into files that it never syncs.
pub const MAX_VALUE: usize = 4096;
/// Most writes, and most preconditions, in one batch: bounds the memory of a group commit.
pub const MAX_BATCH: usize = 4096;
/// Largest blob, in bytes: plans, fingerprint listings and step logs fit; site data never goes here.
pub const MAX_BLOB: usize = 64 * 1024 * 1024;

/// Most blobs that one census names: their names have to fit into memory. Others come with the next one, when these are gone.
pub const MAX_CENSUS: usize = 200_000;

/// Key-value pairs in key order (or backwards), as scans give them.
pub type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// A durable, ordered key-value store with a blob area beside it.
///
/// Promises every implementation keeps (the contract suite in `testing::store_contract` holds it to them):
/// 1. `commit` checks every precondition against the state just before the batch, applies every write or none, and when it
///    returns `Ok` the batch survives a crash of the process and of the machine.
/// 2. A batch whose `commit` has not returned may be there after a crash or not, but never in part.
/// 3. Nothing of a batch is visible to `get` or `scan` before it is durable.
/// 4. Batches committed one after another by one caller apply in that order; concurrent ones in some order.
/// 5. After `CommitError::Failed` every later commit fails too, until the store is opened anew.
pub trait Store: Send + Sync + 'static {
    /// Applies a batch atomically and durably.
    fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<(), CommitError>>;

    /// The value of a key, if it is there.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError>;

    /// Up to `limit` pairs whose key starts with `prefix` and is greater than `after` (when given), in key order.
    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Pairs, ReadError>;

    /// Like [`Store::scan`], greatest key first; `before` excludes keys at or above it.
    fn scan_back(&self, prefix: &[u8], before: Option<&[u8]>, limit: usize) -> Result<Pairs, ReadError>;

    /// Stores bytes under their SHA-256, durable when it returns: to be called before the batch that names them.
    /// Storing the same bytes again is a no-op.
    fn put_blob(&self, bytes: Vec<u8>) -> BoxFuture<'static, Result<BlobId, CommitError>>;

    /// The bytes of a blob, checked against their hash.
    fn get_blob(&self, id: &BlobId) -> Result<Option<Vec<u8>>, ReadError>;

    /// Removes a blob; removing one that is not there is a no-op.
    fn delete_blob(&self, id: &BlobId) -> BoxFuture<'static, Result<(), CommitError>>;

    /// The blobs that are there, at most [`MAX_CENSUS`] of them. From now on, until [`Store::remove_unused`], those that are stored
    /// are remembered.
    fn census(&self) -> BoxFuture<'static, Result<Vec<BlobId>, CommitError>>;

    /// Removes those of `unused` that were not stored, for the first time or again, since the last census: how many. Without a
    /// census it removes nothing.
    fn remove_unused(&self, unused: Vec<BlobId>) -> BoxFuture<'static, Result<u64, CommitError>>;

    /// Whether new work may be taken on.
    fn health(&self) -> Health;
}

/// What a store says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Commits work and there is room.
    Ready,
    /// Open tasks go on, new ones are refused: less room than the floor. The text says what and where.
    Low(String),
    /// Nothing can be committed any more; the process has to end and start anew. The text says why.
    Failed(String),
}

/// Writes that become durable together, guarded by preconditions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Checked first; if one does not hold, nothing is written.
    pub preconditions: Vec<Precondition>,
    /// Applied in order.
    pub writes: Vec<Write>,
}

/// What must hold just before the batch applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// The key is not there.
    Absent(Vec<u8>),
    /// The key has exactly this value.
    Equals(Vec<u8>, Vec<u8>),
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets a key.
    Put(Vec<u8>, Vec<u8>),
    /// Removes a key; a missing one is fine.
    Delete(Vec<u8>),
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a write of `value` under `key`.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> &mut Self {
        self.writes.push(Write::Put(key.into(), value.into()));
        self
    }

    /// Adds the removal of `key`.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) -> &mut Self {
        self.writes.push(Write::Delete(key.into()));
        self
    }

    /// Demands that `key` is absent.
    pub fn require_absent(&mut self, key: impl Into<Vec<u8>>) -> &mut Self {
        self.preconditions.push(Precondition::Absent(key.into()));
        self
    }

    /// Demands that `key` holds `value`.
    pub fn require_equals(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> &mut Self {
        self.preconditions.push(Precondition::Equals(key.into(), value.into()));
        self
    }

    /// Checks the bounds that every store enforces.
    ///
    /// # Errors
    /// [`CommitError::TooLarge`] names the key or the count that is over its bound.
    pub fn check_bounds(&self) -> Result<(), CommitError> {
        if self.writes.len() > MAX_BATCH {
            return Err(CommitError::TooLarge(format!(
                "{} writes in a batch, {MAX_BATCH} at most",
                self.writes.len()
            )));
        }
        if self.preconditions.len() > MAX_BATCH {
            return Err(CommitError::TooLarge(format!(
                "{} preconditions of a batch, {MAX_BATCH} at most",
                self.preconditions.len()
            )));
        }
        let conditions = self.preconditions.iter().map(|condition| match condition {
            Precondition::Absent(key) => (key, 0),
            Precondition::Equals(key, value) => (key, value.len()),
        });
        let writes = self.writes.iter().map(|write| match write {
            Write::Put(key, value) => (key, value.len()),
            Write::Delete(key) => (key, 0),
        });
        for (key, value) in conditions.chain(writes) {
            if key.is_empty() || key.len() > MAX_KEY {
                return Err(CommitError::TooLarge(format!(
                    "a key of {} bytes, 1 to {MAX_KEY} allowed",
                    key.len()
                )));
            }
            if value > MAX_VALUE {
                let key = String::from_utf8_lossy(key);
                return Err(CommitError::TooLarge(format!(
                    "{value} bytes under {key:?}, {MAX_VALUE} at most"
                )));
            }
        }
        Ok(())
    }
}

/// Name of a blob: the SHA-256 of its bytes, in lower-case hex.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlobId(String);

impl BlobId {
    /// The name that these bytes get.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::{Digest, Sha256};
        Self(hex::encode(Sha256::digest(bytes)))
    }

    /// The hex text, 64 characters: safe as a file name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for BlobId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let ok = text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if ok { Ok(Self(text)) } else { Err(format!("{text:?} is no SHA-256 in lower-case hex")) }
    }
}

impl From<BlobId> for String {
    fn from(id: BlobId) -> Self {
        id.0
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobId({})", &self.0[..12])
    }
}

/// Why a batch was not committed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CommitError {
    /// A precondition did not hold; nothing was written, and the store goes on.
    #[error("the store's precondition on {0:?} does not hold")]
    Conflict(String),
    /// A bound was crossed; nothing was written, and the store goes on.
    #[error("over the store's bounds: {0}")]
    TooLarge(String),
    /// The commit path failed: what happened to this batch is unknown until the store is opened anew.
    #[error("the store failed: {0}")]
    Failed(String),
}

/// Why something could not be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ReadError {
    /// The store is there but this read failed.
    #[error("cannot read from the store: {0}")]
    Io(String),
    /// What is stored is not what was written.
    #[error("the store holds damaged data: {0}")]
    Damaged(String),
}
