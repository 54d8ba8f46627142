//! How the store is doing: the failure that ended it, the commit under way, counters. It never decides anything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use kedge_engine::store::CommitError;

#[derive(Debug, Default)]
pub(super) struct Vitals {
    failure: OnceLock<String>,
    committing_since: Mutex<Option<Instant>>,
    /// When the disk was last seen to work.
    written: Mutex<Option<Instant>>,
    probing_since: Mutex<Option<Instant>>,
    pub(super) commits: Counter,
    pub(super) conflicts: Counter,
    pub(super) groups: Counter,
    pub(super) spilled_pages: Counter,
    pub(super) blobs_stored: Counter,
    pub(super) blobs_removed: Counter,
}

#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

/// Figures of an open store, for metrics. Counters start at zero when it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// How long opening took, in milliseconds.
    pub open_ms: u64,
    /// Bytes of the journal on disk, without blobs; none when they cannot be counted.
    pub size_on_disk: Option<u64>,
    /// Batches acknowledged.
    pub commits: u64,
    /// Batches refused because a precondition did not hold.
    pub conflicts: u64,
    /// Groups of batches that were synced together: the number of syncs of the journal.
    pub groups: u64,
    /// Oversized pages that sled put into files of their own, each synced by us. Far from zero, values are too large.
    pub spilled_pages: u64,
    /// Blobs stored, the same bytes again included.
    pub blobs_stored: u64,
    /// Blobs removed.
    pub blobs_removed: u64,
}

impl Vitals {
    /// Ends the store. The first reason stays.
    pub(super) fn fail(&self, why: String) -> CommitError {
        let why = self.failure.get_or_init(|| {
            tracing::error!(%why, "the store failed");
            why
        });
        CommitError::Failed(why.clone())
    }

    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    pub(super) fn check(&self) -> Result<(), CommitError> {
        self.failure.get().map_or(Ok(()), |why| Err(CommitError::Failed(why.clone())))
    }

    /// What a caller hears whose request was never taken up.
    pub(super) fn closed(&self) -> CommitError {
        self.check().err().unwrap_or_else(|| CommitError::Failed("the store is closed".to_owned()))
    }

    pub(super) fn commit_begins(&self) {
        *locked(&self.committing_since) = Some(Instant::now());
    }

    pub(super) fn commit_ends(&self) {
        *locked(&self.committing_since) = None;
        *locked(&self.written) = Some(Instant::now());
    }

    /// Whether nothing has been written for this long, and nobody tries it: then a probe begins.
    pub(super) fn probe_begins(&self, after: Duration) -> bool {
        let now = Instant::now();
        let quiet = now.duration_since(*locked(&self.written).get_or_insert(now)) >= after;
        let mut probing = locked(&self.probing_since);
        let begins = quiet && probing.is_none();
        if begins {
            *probing = Some(now);
        }
        begins
    }

    /// The probe is through, or was not taken up.
    pub(super) fn probe_ends(&self) {
        *locked(&self.probing_since) = None;
        *locked(&self.written) = Some(Instant::now());
    }

    pub(super) fn probing_for(&self) -> Option<Duration> {
        locked(&self.probing_since).map(|since| since.elapsed())
    }

    pub(super) fn committing_for(&self) -> Option<Duration> {
        locked(&self.committing_since).map(|since| since.elapsed())
    }

    pub(super) fn stats(&self, open_time: Duration, size_on_disk: Option<u64>) -> Stats {
        Stats {
            open_ms: u64::try_from(open_time.as_millis()).unwrap_or(u64::MAX),
            size_on_disk,
            commits: self.commits.get(),
            conflicts: self.conflicts.get(),
            groups: self.groups.get(),
            spilled_pages: self.spilled_pages.get(),
            blobs_stored: self.blobs_stored.get(),
            blobs_removed: self.blobs_removed.get(),
        }
    }
}

fn locked(time: &Mutex<Option<Instant>>) -> MutexGuard<'_, Option<Instant>> {
    // An assignment cannot be half done.
    time.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Counter {
    pub(super) fn add(&self, more: usize) {
        self.0.fetch_add(more as u64, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Ends the store when the thread panics while this is alive.
pub(super) struct FailOnPanic<'a>(pub(super) &'a Vitals);

impl Drop for FailOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or("a thread of the store").to_owned();
            self.0.fail(format!("{name} panicked (what it said is in the log); restart Kedge"));
        }
    }
}
