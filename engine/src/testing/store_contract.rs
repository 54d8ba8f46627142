//! The contract suite of [`Store`]: every numbered promise of the trait as a check that any implementation has to pass.
//! It never knows an implementation; what it must be able to do to one (restart, hold, break) stands in [`Subject`].

#![expect(clippy::expect_used, clippy::panic, reason = "test code: a broken promise is a panic")]

mod scans;

use std::sync::Arc;

use futures::future::{join, join_all};
use futures::poll;

use crate::store::{
    Batch, BlobId, CommitError, Health, MAX_BATCH, MAX_BLOB, MAX_KEY, MAX_VALUE, Precondition, ReadError,
    Store, Write,
};

/// One store under test, on its own storage, and what tests do to it from outside.
pub trait Subject {
    /// The store as it is open now. The suite keeps no handle over a call of [`Subject::reopen`].
    fn store(&self) -> Arc<dyn Store>;
    /// Closes the store (or gives it up, when it has failed) and opens it anew on what is durable. Ends a fault.
    fn reopen(&mut self);
    /// From now on batches stop just before they are durable.
    fn hold(&self);
    /// Returns when a batch has stopped there.
    fn wait_until_held(&self);
    /// Lets batches go on.
    fn release(&self);
    /// The next batch meets a disk that fails at the moment that would make it durable.
    fn break_disk(&self);
    /// Changes a stored blob behind the store's back.
    fn damage_blob(&self, id: &BlobId);
}

/// Runs every check, each on a new subject. A broken promise panics.
pub async fn run<S: Subject>(make: impl Fn() -> S) {
    batches_are_atomic_and_ordered(make()).await;
    preconditions_guard_the_whole_batch(make()).await;
    bounds_are_enforced_and_harmless(make()).await;
    one_callers_batches_apply_in_order(make()).await;
    concurrent_batches_do_not_mix(make()).await;
    scans::scans_keep_prefix_limit_and_edge(make()).await;
    scans::scans_handle_extreme_bytes(make()).await;
    scans::scans_cross_pages_of_extreme_bytes(make()).await;
    for seed in 1..=3 {
        scans::behaves_like_an_ordered_map(make(), seed).await;
    }
    nothing_is_visible_before_it_is_durable(make()).await;
    reopening_keeps_everything_acknowledged(make()).await;
    blobs_are_named_by_their_bytes(make()).await;
    unused_blobs_are_removed(make()).await;
    damaged_blobs_are_reported(make()).await;
    failure_is_final_until_reopened(make()).await;
}

/// Promise 1, all or nothing; the writes of a batch apply in their order.
async fn batches_are_atomic_and_ordered(subject: impl Subject) {
    let store = subject.store();
    store.commit(puts(&[("a", "1"), ("b", "1"), ("c", "1")])).await.expect("commit");
    let mut batch = Batch::new();
    batch.delete("a").put("b", "2").put("b", "3").put("c", "x").delete("c").delete("nowhere").put("d", "");
    store.commit(batch).await.expect("commit");
    assert_eq!(everything(&*store), pairs(&[("b", "3"), ("d", "")]));
    assert_eq!(store.get(b"d"), Ok(Some(Vec::new())), "an empty value is a value");
    assert_eq!(store.get(b"c"), Ok(None));
    store.commit(Batch::new()).await.expect("an empty batch is fine");
    assert_eq!(store.health(), Health::Ready);
}

/// Promise 1: preconditions see the state just before the batch; one that fails stops every write, and the store goes on.
async fn preconditions_guard_the_whole_batch(subject: impl Subject) {
    let store = subject.store();
    store.commit(puts(&[("head", "1"), ("empty", "")])).await.expect("commit");
    type Demand = fn(&mut Batch) -> &mut Batch;
    let refused: [(&str, Demand); 6] = [
        ("head", |b| b.require_absent("head")),
        ("head", |b| b.require_equals("head", "2")),
        ("none", |b| b.require_equals("none", "")),
        ("none", |b| b.require_equals("head", "1").require_equals("none", "1")),
        ("new", |b| b.put("new", "1").require_equals("new", "1")),
        ("empty", |b| b.require_absent("empty")),
    ];
    for (key, demand) in refused {
        let mut batch = puts(&[("head", "9"), ("other", "9")]);
        demand(&mut batch);
        assert_eq!(store.commit(batch).await, Err(CommitError::Conflict(key.to_owned())));
        assert_eq!(everything(&*store), pairs(&[("empty", ""), ("head", "1")]));
    }
    let mut batch = puts(&[("head", "2"), ("new", "1")]);
    batch.require_equals("head", "1").require_absent("new").require_equals("empty", "");
    store
        .commit(batch)
        .await
        .expect("all preconditions hold, though the batch itself changes what they look at");
    assert_eq!(everything(&*store), pairs(&[("empty", ""), ("head", "2"), ("new", "1")]));
    let mut check_only = Batch::new();
    check_only.require_equals("head", "1");
    assert_eq!(store.commit(check_only).await, Err(CommitError::Conflict("head".to_owned())));
}

/// What is at its bound is stored; what is over it is refused whole, and the store goes on.
async fn bounds_are_enforced_and_harmless(subject: impl Subject) {
    let store = subject.store();
    let mut full = Batch::new();
    full.put(vec![0xfe; MAX_KEY], vec![7; MAX_VALUE]);
    for n in 1..MAX_BATCH {
        full.put(format!("k{n:05}"), "v");
    }
    store.commit(full.clone()).await.expect("a batch at every bound");
    assert_eq!(store.get(&[0xfe; MAX_KEY]), Ok(Some(vec![7; MAX_VALUE])));
    assert_eq!(store.scan(b"k", None, usize::MAX).expect("scan").len(), MAX_BATCH - 1);

    full.put("one more", "");
    let writes = [
        Write::Put(Vec::new(), b"empty key".to_vec()),
        Write::Put(vec![b'k'; MAX_KEY + 1], Vec::new()),
        Write::Delete(vec![b'k'; MAX_KEY + 1]),
        Write::Put(b"big".to_vec(), vec![0; MAX_VALUE + 1]),
    ];
    let over = writes.map(|write| Batch { writes: vec![put("beside", "x"), write], ..Batch::new() });
    let conditions = [
        vec![Precondition::Absent(Vec::new())],
        vec![Precondition::Absent(vec![b'k'; MAX_KEY + 1])],
        vec![Precondition::Equals(b"big".to_vec(), vec![0; MAX_VALUE + 1])],
        vec![Precondition::Absent(b"beside".to_vec()); MAX_BATCH + 1],
    ];
    let asking = conditions.map(|preconditions| Batch { preconditions, writes: vec![put("beside", "x")] });
    for batch in over.into_iter().chain(asking).chain([full]) {
        assert!(matches!(store.commit(batch).await, Err(CommitError::TooLarge(_))));
    }
    assert!(matches!(store.put_blob(vec![0; MAX_BLOB + 1]).await, Err(CommitError::TooLarge(_))));
    assert_eq!(
        (store.get(b"beside"), store.get(b"one more"), store.get(b"big")),
        (Ok(None), Ok(None), Ok(None))
    );
    store.commit(puts(&[("after", "1")])).await.expect("the store goes on");
    assert_eq!(store.health(), Health::Ready);
}

/// Promise 4, first half.
async fn one_callers_batches_apply_in_order(subject: impl Subject) {
    let store = subject.store();
    for n in 0..50_u32 {
        let mut batch = Batch::new();
        match n.checked_sub(1) {
            None => batch.require_absent("n"),
            Some(before) => batch.require_equals("n", before.to_be_bytes()),
        };
        batch.put("n", n.to_be_bytes());
        store.commit(batch).await.expect("each batch sees the one before it");
        assert_eq!(store.get(b"n"), Ok(Some(n.to_be_bytes().to_vec())), "an acknowledged batch is visible");
    }
}

/// Promise 4, second half: concurrent batches apply in some order, one by one.
async fn concurrent_batches_do_not_mix(subject: impl Subject) {
    let store = subject.store();
    let claims = join_all((0..64_u8).map(|n| {
        let mut batch = Batch::new();
        batch.require_absent("owner").put("owner", [n]).put([b'c', n], [n]);
        store.commit(batch)
    }))
    .await;
    let won: Vec<usize> = (0..64).filter(|&n| claims[n].is_ok()).collect();
    assert_eq!(won.len(), 1, "exactly one claim wins: {claims:?}");
    assert_eq!(store.get(b"owner"), Ok(Some(vec![won[0] as u8])));
    assert_eq!(store.scan(b"c", None, 100).expect("scan").len(), 1, "the losers wrote nothing");

    const WRITERS: u64 = 16;
    const ROUNDS: u64 = 20;
    join_all((0..WRITERS).map(|_| async {
        for _ in 0..ROUNDS {
            while !increment(&*store).await {}
        }
    }))
    .await;
    let sum = store.get(b"sum").expect("get").expect("written");
    assert_eq!(sum, (WRITERS * ROUNDS).to_be_bytes(), "no increment is lost");
}

async fn increment(store: &dyn Store) -> bool {
    let before = store.get(b"sum").expect("get");
    let number = before.clone().map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().expect("eight bytes")));
    let mut batch = Batch::new();
    match before {
        None => batch.require_absent("sum"),
        Some(bytes) => batch.require_equals("sum", bytes),
    };
    batch.put("sum", (number + 1).to_be_bytes());
    match store.commit(batch).await {
        Ok(()) => true,
        Err(CommitError::Conflict(_)) => false,
        Err(error) => panic!("{error}"),
    }
}

/// Promise 3.
async fn nothing_is_visible_before_it_is_durable(subject: impl Subject) {
    let store = subject.store();
    let before = pairs(&[("k/changed", "old"), ("k/kept", "old"), ("k/removed", "old")]);
    store
        .commit(puts(&[("k/changed", "old"), ("k/kept", "old"), ("k/removed", "old")]))
        .await
        .expect("commit");
    subject.hold();
    let mut batch = puts(&[("k/changed", "new"), ("k/added", "new"), ("k/zzz", "new")]);
    batch.delete("k/removed");
    let mut commit = store.commit(batch);
    assert!(poll!(&mut commit).is_pending(), "no acknowledgement while the batch is held");
    subject.wait_until_held();
    assert_eq!(store.get(b"k/added"), Ok(None));
    assert_eq!(store.get(b"k/changed"), Ok(Some(b"old".to_vec())));
    assert_eq!(store.get(b"k/removed"), Ok(Some(b"old".to_vec())));
    assert_eq!(store.scan(b"k/", None, 99), Ok(before.clone()));
    assert_eq!(store.scan(b"k/", None, 1), Ok(before[..1].to_vec()));
    assert_eq!(store.scan(b"k/", Some(b"k/kept"), 99), Ok(before[2..].to_vec()));
    let mut back = store.scan_back(b"k/", None, 99).expect("scan_back");
    back.reverse();
    assert_eq!(back, before);
    assert_eq!(store.scan_back(b"k/", None, 1), Ok(before[2..].to_vec()));
    assert!(poll!(&mut commit).is_pending());
    subject.release();
    commit.await.expect("commit");
    let after = pairs(&[("k/added", "new"), ("k/changed", "new"), ("k/kept", "old"), ("k/zzz", "new")]);
    assert_eq!(store.scan(b"k/", None, 99), Ok(after));
}

/// Promise 1 over a restart: puts, removals and blobs.
async fn reopening_keeps_everything_acknowledged(mut subject: impl Subject) {
    let store = subject.store();
    for n in 0..200_u32 {
        let mut batch = Batch::new();
        batch.put(format!("n/{n:05}"), vec![n as u8; 300]);
        if n >= 100 {
            batch.delete(format!("n/{:05}", n - 100));
        }
        store.commit(batch).await.expect("commit");
    }
    let (blob, gone) = join(store.put_blob(vec![3; 100_000]), store.put_blob(b"gone".to_vec())).await;
    let (blob, gone) = (blob.expect("blob"), gone.expect("blob"));
    store.delete_blob(&gone).await.expect("delete");
    let before = everything(&*store);
    assert_eq!(before.len(), 100);
    drop(store);
    for _ in 0..3 {
        subject.reopen();
        let store = subject.store();
        assert_eq!(everything(&*store), before);
        assert_eq!(store.get_blob(&blob), Ok(Some(vec![3; 100_000])));
        assert_eq!(store.get_blob(&gone), Ok(None));
        assert_eq!(store.health(), Health::Ready);
    }
}

async fn blobs_are_named_by_their_bytes(subject: impl Subject) {
    let store = subject.store();
    for bytes in [Vec::new(), vec![0], vec![0xa5; 3 * 1024 * 1024]] {
        let expected = BlobId::of(&bytes);
        assert_eq!(store.get_blob(&expected), Ok(None));
        let (first, second) = join(store.put_blob(bytes.clone()), store.put_blob(bytes.clone())).await;
        assert_eq!((first.as_ref(), second.as_ref()), (Ok(&expected), Ok(&expected)));
        assert_eq!(
            store.put_blob(bytes.clone()).await.as_ref(),
            Ok(&expected),
            "storing it again is a no-op"
        );
        assert_eq!(store.get_blob(&expected), Ok(Some(bytes)));
        store.delete_blob(&expected).await.expect("delete");
        assert_eq!(store.get_blob(&expected), Ok(None));
        store.delete_blob(&expected).await.expect("removing what is not there is a no-op");
    }
    assert_eq!(everything(&*store), Vec::new(), "blobs are no pairs");
}

/// A sweep never takes what was stored again while it looked for what is used.
async fn unused_blobs_are_removed(subject: impl Subject) {
    let store = subject.store();
    let mut ids = Vec::new();
    for n in 0..5_u8 {
        ids.push(store.put_blob(vec![n; 10]).await.expect("blob"));
    }
    assert_eq!(store.remove_unused(ids.clone()).await, Ok(0), "nothing without a census");
    let mut listed = store.census().await.expect("census");
    listed.sort();
    let mut sorted = ids.clone();
    sorted.sort();
    assert_eq!(listed, sorted);
    store.put_blob(vec![1; 10]).await.expect("the same again");
    let new = store.put_blob(vec![9; 10]).await.expect("a new one");
    let absent = BlobId::of(b"never stored");
    let unused = vec![ids[0].clone(), ids[1].clone(), ids[4].clone(), new.clone(), absent];
    assert_eq!(store.remove_unused(unused.clone()).await, Ok(2));
    for (id, there) in [(&ids[0], false), (&ids[1], true), (&ids[2], true), (&ids[4], false), (&new, true)] {
        assert_eq!(store.get_blob(id).expect("read").is_some(), there, "{id:?}");
    }
    assert_eq!(store.remove_unused(unused).await, Ok(0), "one census, one sweep");
}

async fn damaged_blobs_are_reported(subject: impl Subject) {
    let store = subject.store();
    let good = store.put_blob(b"untouched".to_vec()).await.expect("blob");
    let bad = store.put_blob(b"to be damaged".to_vec()).await.expect("blob");
    subject.damage_blob(&bad);
    match store.get_blob(&bad) {
        Err(ReadError::Damaged(text)) => assert!(text.contains(bad.as_str()), "{text:?} names the blob"),
        other => panic!("a damaged blob read as {other:?}"),
    }
    assert_eq!(store.get_blob(&good), Ok(Some(b"untouched".to_vec())));
}

/// Promise 5, and promise 2 for the batch that met the failure.
async fn failure_is_final_until_reopened(mut subject: impl Subject) {
    let store = subject.store();
    store.commit(puts(&[("a", "1"), ("b", "1")])).await.expect("commit");
    subject.break_disk();
    let in_doubt = store.commit(puts(&[("a", "2"), ("b", "2")])).await;
    assert!(matches!(in_doubt, Err(CommitError::Failed(_))), "{in_doubt:?}");
    for n in 0..3 {
        let later = store.commit(puts(&[("later", "x")])).await;
        assert!(matches!(later, Err(CommitError::Failed(_))), "commit {n} after the failure: {later:?}");
    }
    assert!(matches!(store.put_blob(b"later".to_vec()).await, Err(CommitError::Failed(_))));
    assert!(matches!(store.health(), Health::Failed(_)));
    drop(store);
    subject.reopen();
    let store = subject.store();
    let found = everything(&*store);
    let allowed = ["1", "2"].map(|value| pairs(&[("a", value), ("b", value)]));
    assert!(allowed.contains(&found), "a batch in doubt is there whole or not at all: {found:?}");
    assert_eq!(store.health(), Health::Ready);
    store.commit(puts(&[("later", "1")])).await.expect("a store that was opened anew works");
}

// === helpers ===

fn put(key: &str, value: &str) -> Write {
    Write::Put(key.into(), value.into())
}

fn puts(pairs: &[(&str, &str)]) -> Batch {
    Batch { writes: pairs.iter().map(|(key, value)| put(key, value)).collect(), ..Batch::new() }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    pairs.iter().map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

fn everything(store: &dyn Store) -> Vec<(Vec<u8>, Vec<u8>)> {
    store.scan(b"", None, usize::MAX).expect("scan")
}
