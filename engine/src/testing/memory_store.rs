//! A store in memory for simulations and tests: deterministic, no clock, no disk, with crashes, errors and delays on demand.
//! It never survives its process; [`MemoryStore::reopen`] imitates a restart on what was durable.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt as _;
use futures::channel::oneshot;
use futures::future::BoxFuture;

use crate::store::{
    Batch, BlobId, CommitError, Health, MAX_BLOB, MAX_CENSUS, Precondition, ReadError, Store, Write,
};

/// A store in memory. Clones are handles on the same store; futures are ready at the first poll, unless the gate is shut.
///
/// Nothing happens before a returned future is polled; dropping it later does not take the write back.
#[derive(Clone, Default)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
}

/// What survives a crash, taken at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pairs: BTreeMap<Vec<u8>, Vec<u8>>,
    blobs: BTreeMap<BlobId, Arc<Vec<u8>>>,
}

/// A failure that waits for its moment. When it strikes, the caller sees [`CommitError::Failed`], and so does everyone after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which write it strikes, counted from 1 since the store was made or reopened.
    pub at: Moment,
    /// What happens to that write.
    pub how: Crash,
    /// The text of the error.
    pub why: String,
}

/// A write, by its number. A write that is refused (conflict, bounds) has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The n-th batch whose preconditions hold.
    Commit(u64),
    /// The n-th storing or removal of a blob.
    Blob(u64),
}

/// What a crash leaves of the write it strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The write is not there after the restart.
    Before,
    /// The write is there after the restart, but the caller never hears of it.
    AfterWriteBeforeAck,
}

/// What a store has been asked so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Batches applied, or struck by a fault.
    pub commits: u64,
    /// Batches refused because a precondition did not hold.
    pub conflicts: u64,
    /// Blobs stored or removed, or struck by a fault.
    pub blob_writes: u64,
}

#[derive(Default)]
struct State {
    durable: Snapshot,
    faults: Vec<Fault>,
    counts: Counts,
    failed: Option<String>,
    low: Option<String>,
    gate: Option<VecDeque<Held>>,
    /// Blobs stored since the census, if there was one.
    stored: Option<BTreeSet<BlobId>>,
}

struct Held {
    batch: Batch,
    answer: oneshot::Sender<Result<(), CommitError>>,
}

impl MemoryStore {
    /// An empty store without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A store on an earlier state, without faults, its counters at zero.
    #[must_use]
    pub fn from_snapshot(durable: Snapshot) -> Self {
        Self { state: Arc::new(Mutex::new(State { durable, ..State::default() })) }
    }

    /// What is durable now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.state().durable.clone()
    }

    /// Imitates the end of this process and the start of the next: a new store on what is durable. Every handle on this one
    /// fails from now on, as do the commits that wait at its gate: nothing of the old life may write any more.
    #[must_use]
    pub fn reopen(&self) -> Self {
        let mut state = self.state();
        state.failed.get_or_insert_with(|| "this store was reopened; its process is gone".to_owned());
        state.gate = None;
        Self::from_snapshot(state.durable.clone())
    }

    /// Adds a fault; several may wait at different moments.
    pub fn inject(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Crash budget: `commits` more batches succeed, and the one after them meets `how`.
    pub fn crash_after(&self, commits: u64, how: Crash) {
        let mut state = self.state();
        let at = Moment::Commit(state.counts.commits + commits + 1);
        state.faults.push(Fault { at, how, why: format!("crash {how:?} at {at:?}") });
    }

    /// Shuts the gate: batches committed from now on wait, unapplied and invisible, until they are released.
    pub fn hold(&self) {
        self.state().gate.get_or_insert_default();
    }

    /// How many batches wait at the gate.
    #[must_use]
    pub fn held(&self) -> usize {
        self.state().gate.as_ref().map_or(0, VecDeque::len)
    }

    /// Applies the waiting batch at `index` (0 is the oldest) and answers its caller; false when there is none.
    pub fn release_one(&self, index: usize) -> bool {
        let mut state = self.state();
        let Some(held) = state.gate.as_mut().and_then(|gate| gate.remove(index)) else { return false };
        state.answer(held);
        true
    }

    /// Opens the gate: applies what waits, oldest first.
    pub fn release_all(&self) {
        let mut state = self.state();
        for held in state.gate.take().unwrap_or_default() {
            state.answer(held);
        }
    }

    /// Sets or ends [`Health::Low`], as a full disk would.
    pub fn set_low(&self, why: Option<String>) {
        self.state().low = why;
    }

    /// What was asked of this store since it was made or reopened.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    /// Changes or removes a pair behind the journal's back, as a damaged disk would. No fault or gate applies.
    pub fn tamper(&self, key: &[u8], value: Option<Vec<u8>>) {
        self.state().durable.set(key.to_vec(), value);
    }

    /// Flips a bit in a stored blob; false when there is no such blob or it is empty.
    pub fn damage_blob(&self, id: &BlobId) -> bool {
        let mut state = self.state();
        let Some(byte) = state.durable.blobs.get_mut(id).and_then(|bytes| Arc::make_mut(bytes).last_mut())
        else {
            return false;
        };
        *byte ^= 1;
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change below is finished before anything can panic, so a poisoned lock guards a whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn apply(&mut self, batch: Batch) -> Result<(), CommitError> {
        self.check_alive()?;
        if let Some(key) = batch.preconditions.iter().find_map(|wanted| self.durable.violates(wanted)) {
            self.counts.conflicts += 1;
            return Err(CommitError::Conflict(String::from_utf8_lossy(key).into_owned()));
        }
        self.counts.commits += 1;
        self.strike(Moment::Commit(self.counts.commits), |durable| {
            for write in batch.writes {
                match write {
                    Write::Put(key, value) => durable.set(key, Some(value)),
                    Write::Delete(key) => durable.set(key, None),
                }
            }
        })
    }

    fn apply_blob(&mut self, id: BlobId, bytes: Option<Vec<u8>>) -> Result<(), CommitError> {
        self.check_alive()?;
        if let Some(stored) = self.stored.as_mut().filter(|_| bytes.is_some()) {
            stored.insert(id.clone());
        }
        self.counts.blob_writes += 1;
        self.strike(Moment::Blob(self.counts.blob_writes), |durable| {
            match bytes {
                Some(bytes) => durable.blobs.insert(id, Arc::new(bytes)),
                None => durable.blobs.remove(&id),
            };
        })
    }

    /// Carries out one write under the fault that waits for it, if any.
    fn strike(&mut self, moment: Moment, write: impl FnOnce(&mut Snapshot)) -> Result<(), CommitError> {
        let fault = self.faults.iter().find(|fault| fault.at == moment);
        if fault.is_none_or(|fault| fault.how == Crash::AfterWriteBeforeAck) {
            write(&mut self.durable);
        }
        self.failed = fault.map(|fault| fault.why.clone());
        self.check_alive()
    }

    fn check_alive(&self) -> Result<(), CommitError> {
        self.failed.as_ref().map_or(Ok(()), |why| Err(CommitError::Failed(why.clone())))
    }

    fn answer(&mut self, held: Held) {
        let result = self.apply(held.batch);
        // The caller may have dropped its future; the batch counts all the same, as in every store.
        let _ = held.answer.send(result);
    }
}

impl Snapshot {
    fn set(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        match value {
            Some(value) => self.pairs.insert(key, value),
            None => self.pairs.remove(&key),
        };
    }

    fn violates<'a>(&self, wanted: &'a Precondition) -> Option<&'a [u8]> {
        let (key, holds) = match wanted {
            Precondition::Absent(key) => (key, !self.pairs.contains_key(key)),
            Precondition::Equals(key, value) => (key, self.pairs.get(key) == Some(value)),
        };
        (!holds).then_some(key)
    }
}

impl Store for MemoryStore {
    fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<(), CommitError>> {
        let store = self.clone();
        async move {
            batch.check_bounds()?;
            let waiting = {
                let mut state = store.state();
                state.check_alive()?;
                let Some(gate) = &mut state.gate else { return state.apply(batch) };
                let (answer, waiting) = oneshot::channel();
                gate.push_back(Held { batch, answer });
                waiting
            };
            waiting.await.unwrap_or_else(|_| Err(CommitError::Failed("the process ended first".to_owned())))
        }
        .boxed()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(self.state().durable.pairs.get(key).cloned())
    }

    fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, ReadError> {
        let start = after.unwrap_or_default().max(prefix);
        let state = self.state();
        let pairs = state.durable.pairs.range(start.to_vec()..);
        let pairs = pairs.take_while(|(key, _)| key.starts_with(prefix));
        let pairs = pairs.filter(|(key, _)| after != Some(key.as_slice()));
        Ok(pairs.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn scan_back(
        &self,
        prefix: &[u8],
        before: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, ReadError> {
        let state = self.state();
        let end = match (before, first_above(prefix)) {
            (Some(before), Some(above)) => Bound::Excluded(before.to_vec().min(above)),
            (Some(before), None) => Bound::Excluded(before.to_vec()),
            (None, Some(above)) => Bound::Excluded(above),
            (None, None) => Bound::Unbounded,
        };
        let pairs = state.durable.pairs.range((Bound::Unbounded, end)).rev();
        let pairs = pairs.take_while(|(key, _)| key.starts_with(prefix));
        Ok(pairs.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn put_blob(&self, bytes: Vec<u8>) -> BoxFuture<'static, Result<BlobId, CommitError>> {
        let store = self.clone();
        async move {
            if bytes.len() > MAX_BLOB {
                return Err(CommitError::TooLarge(format!(
                    "a blob of {} bytes, {MAX_BLOB} at most",
                    bytes.len()
                )));
            }
            let id = BlobId::of(&bytes);
            store.state().apply_blob(id.clone(), Some(bytes)).map(|()| id)
        }
        .boxed()
    }

    fn get_blob(&self, id: &BlobId) -> Result<Option<Vec<u8>>, ReadError> {
        let Some(bytes) = self.state().durable.blobs.get(id).cloned() else { return Ok(None) };
        if BlobId::of(&bytes) == *id {
            Ok(Some(bytes.to_vec()))
        } else {
            Err(ReadError::Damaged(format!("blob {} does not match its hash", id.as_str())))
        }
    }

    fn delete_blob(&self, id: &BlobId) -> BoxFuture<'static, Result<(), CommitError>> {
        let (store, id) = (self.clone(), id.clone());
        async move { store.state().apply_blob(id, None) }.boxed()
    }

    fn census(&self) -> BoxFuture<'static, Result<Vec<BlobId>, CommitError>> {
        let store = self.clone();
        async move {
            let mut state = store.state();
            state.check_alive()?;
            state.stored = Some(BTreeSet::new());
            Ok(state.durable.blobs.keys().take(MAX_CENSUS).cloned().collect())
        }
        .boxed()
    }

    fn remove_unused(&self, unused: Vec<BlobId>) -> BoxFuture<'static, Result<u64, CommitError>> {
        let store = self.clone();
        async move {
            let mut state = store.state();
            let Some(stored) = state.stored.take() else { return Ok(0) };
            let mut removed = 0;
            for id in unused.into_iter().filter(|id| !stored.contains(id)) {
                removed += u64::from(state.durable.blobs.contains_key(&id));
                state.apply_blob(id, None)?;
            }
            Ok(removed)
        }
        .boxed()
    }

    fn health(&self) -> Health {
        let state = self.state();
        match (&state.failed, &state.low) {
            (Some(why), _) => Health::Failed(why.clone()),
            (None, Some(why)) => Health::Low(why.clone()),
            (None, None) => Health::Ready,
        }
    }
}

/// The smallest key above all keys with this prefix; none when every key above the prefix has it.
fn first_above(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte < 0xff)?;
    let mut above = prefix[..=last].to_vec();
    above[last] += 1;
    Some(above)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(store: &MemoryStore, key: &str) -> Option<Result<(), CommitError>> {
        let mut batch = Batch::new();
        batch.put(key, "v");
        store.commit(batch).now_or_never()
    }

    fn keys(store: &MemoryStore) -> Vec<String> {
        let pairs = store.scan(b"", None, usize::MAX).expect("scan");
        pairs.into_iter().map(|(key, _)| String::from_utf8_lossy(&key).into_owned()).collect()
    }

    #[test]
    fn a_crash_strikes_its_write_and_everything_after() {
        for (how, left) in
            [(Crash::Before, vec!["a", "b"]), (Crash::AfterWriteBeforeAck, vec!["a", "b", "c"])]
        {
            let store = MemoryStore::new();
            assert_eq!(put(&store, "a"), Some(Ok(())));
            store.crash_after(1, how);
            assert_eq!(put(&store, "b"), Some(Ok(())));
            assert!(matches!(put(&store, "c"), Some(Err(CommitError::Failed(_)))));
            assert!(matches!(put(&store, "d"), Some(Err(CommitError::Failed(_)))));
            let again = store.reopen();
            assert_eq!(keys(&again), left, "{how:?}");
            assert_eq!((store.counts().commits, again.counts()), (3, Counts::default()));
            assert_eq!(put(&again, "e"), Some(Ok(())));
        }
    }

    #[test]
    fn conflicts_are_counted_apart_and_blobs_have_their_own_faults() {
        let store = MemoryStore::new();
        store.inject(Fault { at: Moment::Blob(2), how: Crash::Before, why: "bad sector".to_owned() });
        let mut refused = Batch::new();
        refused.require_equals("a", "1").put("a", "2");
        assert!(matches!(store.commit(refused).now_or_never(), Some(Err(CommitError::Conflict(_)))));
        let first = store.put_blob(vec![1]).now_or_never().expect("ready").expect("stored");
        assert_eq!(store.counts(), Counts { commits: 0, conflicts: 1, blob_writes: 1 });
        let failed = store.put_blob(vec![2]).now_or_never().expect("ready");
        assert_eq!(failed, Err(CommitError::Failed("bad sector".to_owned())));
        assert!(matches!(put(&store, "a"), Some(Err(CommitError::Failed(_)))));
        let again = store.reopen();
        assert_eq!(again.get_blob(&first), Ok(Some(vec![1])));
        assert_eq!(again.get_blob(&BlobId::of(&[2])), Ok(None));
    }

    #[test]
    fn the_gate_releases_in_any_order_and_a_restart_loses_what_waits() {
        let store = MemoryStore::new();
        store.hold();
        let commit = |key: &str| {
            let mut batch = Batch::new();
            batch.require_absent("first").put("first", key).put(key, "v");
            let mut commit = store.commit(batch);
            assert!((&mut commit).now_or_never().is_none(), "it waits");
            commit
        };
        let (a, b, c) = (commit("a"), commit("b"), commit("c"));
        assert_eq!((store.held(), keys(&store).len()), (3, 0));
        assert!(store.release_one(1) && !store.release_one(2));
        assert_eq!(b.now_or_never(), Some(Ok(())));
        assert!(store.release_one(0));
        assert!(
            matches!(a.now_or_never(), Some(Err(CommitError::Conflict(_)))),
            "preconditions count at the release"
        );
        assert_eq!(keys(&store), ["b", "first"]);
        let again = store.reopen();
        assert!(matches!(c.now_or_never(), Some(Err(CommitError::Failed(_)))));
        assert!(matches!(put(&store, "zombie"), Some(Err(CommitError::Failed(_)))), "the old life is over");
        assert_eq!(keys(&again), ["b", "first"]);
    }

    #[test]
    fn tampering_and_shortage_show() {
        let store = MemoryStore::new();
        assert_eq!(put(&store, "a"), Some(Ok(())));
        store.tamper(b"a", Some(b"changed".to_vec()));
        assert_eq!(store.get(b"a"), Ok(Some(b"changed".to_vec())));
        store.tamper(b"a", None);
        assert_eq!(store.snapshot(), Snapshot::default());
        store.set_low(Some("no room".to_owned()));
        assert_eq!(store.health(), Health::Low("no room".to_owned()));
        store.set_low(None);
        assert_eq!(store.health(), Health::Ready);
    }
}
