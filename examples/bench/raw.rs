//! The raw limit: sled without anything around it, fed with the batches that a store has just seen.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures::future::BoxFuture;
use kedge_engine::store::{Batch, BlobId, CommitError, Health, Pairs, ReadError, Store, Write};
use kedge_stores::SledStore;

/// Remembers what was written, so that the raw loop can write the same.
pub(crate) struct Recorded {
    pub(crate) store: Arc<SledStore>,
    pub(crate) batches: Mutex<Vec<Batch>>,
}

impl Recorded {
    /// What was written since the last time, in order.
    pub(crate) fn take(&self) -> Vec<Batch> {
        std::mem::take(&mut *self.batches.lock().expect("nothing panics"))
    }
}

impl Store for Recorded {
    fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<(), CommitError>> {
        self.batches.lock().expect("nothing panics").push(batch.clone());
        self.store.commit(batch)
    }
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        self.store.get(key)
    }
    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Pairs, ReadError> {
        self.store.scan(prefix, after, limit)
    }
    fn scan_back(&self, prefix: &[u8], before: Option<&[u8]>, limit: usize) -> Result<Pairs, ReadError> {
        self.store.scan_back(prefix, before, limit)
    }
    fn put_blob(&self, bytes: Vec<u8>) -> BoxFuture<'static, Result<BlobId, CommitError>> {
        self.store.put_blob(bytes)
    }
    fn get_blob(&self, id: &BlobId) -> Result<Option<Vec<u8>>, ReadError> {
        self.store.get_blob(id)
    }
    fn delete_blob(&self, id: &BlobId) -> BoxFuture<'static, Result<(), CommitError>> {
        self.store.delete_blob(id)
    }
    fn census(&self) -> BoxFuture<'static, Result<Vec<BlobId>, CommitError>> {
        self.store.census()
    }

    fn remove_unused(&self, unused: Vec<BlobId>) -> BoxFuture<'static, Result<u64, CommitError>> {
        self.store.remove_unused(unused)
    }

    fn health(&self) -> Health {
        self.store.health()
    }
}

/// The key of the head that a batch moves: that of its task.
pub(crate) fn head(batch: &Batch) -> &[u8] {
    let head = batch.writes.iter().find_map(|write| match write {
        Write::Put(key, _) if key.starts_with(b"h/") => Some(key.as_slice()),
        Write::Put(..) | Write::Delete(_) => None,
    });
    head.expect("each batch moves a head")
}

/// sled without anything around it.
pub(crate) struct Raw {
    db: sled::Db,
    file: File,
}

impl Raw {
    pub(crate) fn open(folder: &Path) -> Self {
        let config = sled::Config::new().path(folder).cache_capacity(64 * 1024 * 1024).flush_every_ms(None);
        let db = config.open().expect("sled");
        let file = File::open(folder.join("db")).expect("sled's file");
        Self { db, file }
    }

    /// Seconds to write these groups of batches, each flushed and synced.
    pub(crate) fn seconds<'a>(&self, groups: impl Iterator<Item = Vec<&'a Batch>>) -> f64 {
        let began = Instant::now();
        for group in groups {
            let mut writes = sled::Batch::default();
            for write in group.into_iter().flat_map(|batch| &batch.writes) {
                match write {
                    Write::Put(key, value) => writes.insert(key.as_slice(), value.as_slice()),
                    Write::Delete(key) => writes.remove(key.as_slice()),
                }
            }
            self.db.apply_batch(writes).expect("batch");
            self.db.flush().expect("flush");
            self.file.sync_data().expect("sync");
        }
        began.elapsed().as_secs_f64()
    }
}
