//! The store on disk: pairs in sled, blobs as files, one process at a time.
//!
//! ```text
//! <data folder>/lock        held while the store is open; names the process
//!               journal/    sled: every pair, in one tree
//!               blobs/ab/   blobs whose SHA-256 starts with `ab`; blobs/tmp/ while they are written
//!               ballast     space that is given back when the disk is full
//!               logs/       not ours: the step logs (`FileLogs`)
//! ```
//!
//! sled alone promises too little, so the promises of [`Store`] are made here: one thread commits (`committer`), readers see only
//! what is synced (`view`), keys are spelled so that backward scans cannot panic (`keys`). Why, fact by fact, stands there.

mod blobs;
mod committer;
mod disk;
mod durability;
mod keys;
mod lock;
mod open;
mod queue;
mod view;
mod vitals;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures::FutureExt as _;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use kedge_engine::store::{Batch, BlobId, CommitError, Health, MAX_BLOB, ReadError, Store};

pub use self::durability::{Durability, RealDurability};
pub use self::open::OpenError;
pub use self::vitals::Stats;

use self::blobs::{BlobFolder, Job};
use self::committer::Request;
use self::disk::Disk;
use self::lock::DataLock;
use self::queue::{Limits, Queue};
use self::view::View;
use self::vitals::Vitals;

/// Batches that may wait for the committer. Eight full groups: more only adds waiting, and the callers hold their batches anyway.
const WAITING_BATCHES: Limits = Limits { items: 4096, bytes: 16 * 1024 * 1024 };
/// Blobs that may wait to be written: as much memory as one of the largest takes.
const WAITING_BLOBS: Limits = Limits { items: 256, bytes: MAX_BLOB };

/// The journal on disk. Open it once per process; dropping it finishes what was committed, syncs and lets go of the folder.
///
/// - Nothing happens before the future of [`Store::commit`] is polled; dropping it later does not take the batch back.
/// - A scan is one consistent picture: it sees all of a batch or nothing, and the committer waits for it. Page long listings.
/// - Reads after a failure go on, and show the last state that was surely durable.
/// - Overlay and network file systems are not refused, since containers run on the former: opening warns about them.
pub struct SledStore {
    commits: Arc<Queue<Request>>,
    jobs: Arc<Queue<Job>>,
    threads: Vec<JoinHandle<()>>,
    blobs: Arc<BlobFolder>,
    disk: Arc<Disk>,
    vitals: Arc<Vitals>,
    stall_after: Duration,
    probe_after: Duration,
    open_time: Duration,
    // Last, in this order: sled closes its files before the folder is given up.
    view: Arc<View>,
    _lock: DataLock,
}

/// How to open a [`SledStore`].
#[derive(Clone, Debug)]
pub struct Options {
    /// sled's page cache, in bytes. Its real memory use is higher; a small journal needs no more.
    pub cache_bytes: u64,
    /// Size of the ballast file, in bytes; 0 for none. It has to hold what opening a full journal writes, and the largest blob.
    pub ballast_bytes: u64,
    /// With less free space than this, in bytes, the store is [`Health::Low`]. A fixed amount, since what open tasks still have
    /// to write does not grow with the disk.
    pub free_floor_bytes: u64,
    /// When a commit takes longer, the store is [`Health::Low`] until it is through.
    pub stall_after: Duration,
    /// Asked for its health after this long without a commit, the store tries its disk: one that has become read-only, or broken,
    /// is known before somebody has something to write.
    pub probe_after: Duration,
    /// The calls that make data durable.
    pub durability: Arc<dyn Durability>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 64 * 1024 * 1024,
            ballast_bytes: MAX_BLOB as u64,
            free_floor_bytes: 256 * 1024 * 1024,
            stall_after: Duration::from_secs(10),
            probe_after: Duration::from_secs(10),
            durability: Arc::new(RealDurability),
        }
    }
}

impl SledStore {
    /// Opens the store in `folder`, or makes it there.
    ///
    /// # Errors
    /// [`OpenError`] says what stands in the way and what to do.
    pub fn open(folder: &Path, options: Options) -> Result<Self, OpenError> {
        open::open(folder, options)
    }

    /// Figures for metrics. Reads the sizes of the journal's files: call it every few seconds, not per task.
    pub fn stats(&self) -> Stats {
        self.vitals.stats(self.open_time, self.view.size_on_disk())
    }

    /// Has the blob thread do a job that brings no bytes with it.
    fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, CommitError>>) -> Job + Send + 'static,
    ) -> BoxFuture<'static, Result<T, CommitError>> {
        let (queue, vitals) = (Arc::clone(&self.jobs), Arc::clone(&self.vitals));
        async move {
            let (answer, done) = oneshot::channel();
            if queue.push(0, job(answer)).await.is_err() {
                return Err(vitals.closed());
            }
            done.await.unwrap_or_else(|_| Err(vitals.closed()))
        }
        .boxed()
    }

    fn ask_for_ballast(&self) {
        if self.disk.wants_ballast() && !self.jobs.try_push(0, Job::MakeBallast) {
            self.disk.ballast_not_made();
        }
    }

    fn ask_for_a_probe(&self) {
        // A full queue is at work on that disk already.
        if self.vitals.probe_begins(self.probe_after) && !self.jobs.try_push(0, Job::Probe) {
            self.vitals.probe_ends();
        }
    }
}

impl Store for SledStore {
    fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<(), CommitError>> {
        let (queue, vitals) = (Arc::clone(&self.commits), Arc::clone(&self.vitals));
        async move {
            batch.check_bounds()?;
            let (answer, done) = oneshot::channel();
            let request = Request { batch, answer };
            if queue.push(request.size(), request).await.is_err() {
                return Err(vitals.closed());
            }
            done.await.unwrap_or_else(|_| Err(vitals.closed()))
        }
        .boxed()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        self.view.get(key)
    }

    fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, ReadError> {
        self.view.scan(prefix, after, limit)
    }

    fn scan_back(
        &self,
        prefix: &[u8],
        before: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, ReadError> {
        self.view.scan_back(prefix, before, limit)
    }

    fn put_blob(&self, bytes: Vec<u8>) -> BoxFuture<'static, Result<BlobId, CommitError>> {
        let (queue, vitals) = (Arc::clone(&self.jobs), Arc::clone(&self.vitals));
        async move {
            if bytes.len() > MAX_BLOB {
                return Err(CommitError::TooLarge(format!(
                    "a blob of {} bytes, {MAX_BLOB} at most",
                    bytes.len()
                )));
            }
            let (answer, done) = oneshot::channel();
            if queue.push(bytes.len(), Job::Put { bytes, answer }).await.is_err() {
                return Err(vitals.closed());
            }
            done.await.unwrap_or_else(|_| Err(vitals.closed()))
        }
        .boxed()
    }

    fn get_blob(&self, id: &BlobId) -> Result<Option<Vec<u8>>, ReadError> {
        self.blobs.get(id)
    }

    fn delete_blob(&self, id: &BlobId) -> BoxFuture<'static, Result<(), CommitError>> {
        let id = id.clone();
        self.ask(|answer| Job::Delete { id, answer })
    }

    fn census(&self) -> BoxFuture<'static, Result<Vec<BlobId>, CommitError>> {
        self.ask(|answer| Job::Census { answer })
    }

    fn remove_unused(&self, unused: Vec<BlobId>) -> BoxFuture<'static, Result<u64, CommitError>> {
        self.ask(|answer| Job::RemoveUnused { unused, answer })
    }

    fn health(&self) -> Health {
        if let Some(why) = self.vitals.failure() {
            return Health::Failed(why.to_owned());
        }
        self.ask_for_a_probe();
        let under_way =
            [("a commit", self.vitals.committing_for()), ("a test file", self.vitals.probing_for())];
        for (what, time) in under_way {
            if let Some(time) = time.filter(|time| *time > self.stall_after) {
                let seconds = time.as_secs_f32();
                return Health::Low(format!(
                    "the disk is slow: {what} has been under way for {seconds:.1} s"
                ));
            }
        }
        match self.disk.shortage() {
            Some(why) => Health::Low(why),
            None => {
                self.ask_for_ballast();
                Health::Ready
            }
        }
    }
}

impl fmt::Debug for SledStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SledStore").field("disk", &self.disk).finish_non_exhaustive()
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        self.commits.close();
        self.jobs.close();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the store panicked; what it had not acknowledged may be lost");
            }
        }
    }
}
