//! Readers beside the committer: every read shows whole batches, never goes back, and never runs ahead of the disk.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::executor::block_on;
use kedge_engine::store::{Batch, Store};
use kedge_stores::SledStore;

use crate::kit;

const KEYS: u8 = 40;
const ROUNDS: u64 = 300;

#[test]
fn readers_see_whole_batches_and_never_go_back() {
    let folder = tempfile::tempdir().expect("folder");
    let store = kit::open(folder.path());
    block_on(store.commit(all_keys(0))).expect("commit");
    let (done, asked) = (&AtomicBool::new(false), &AtomicU64::new(0));
    let store = &store;
    std::thread::scope(|scope| {
        let readers: Vec<_> = [false, true, false, true]
            .map(|back| scope.spawn(move || read_until(store, done, asked, back)))
            .into_iter()
            .collect();
        for round in 1..=ROUNDS {
            asked.store(round, Ordering::SeqCst);
            block_on(store.commit(all_keys(round))).expect("commit");
            let (found, _) = read(store, round.is_multiple_of(2));
            assert_eq!(found, round, "what is acknowledged is visible");
        }
        done.store(true, Ordering::SeqCst);
        let reads: Vec<u64> = readers.into_iter().map(|reader| reader.join().expect("reader")).collect();
        println!("readers: {reads:?} scans beside {ROUNDS} batches");
    });
}

/// Each round changes every key; every third round it removes the odd ones instead.
fn all_keys(round: u64) -> Batch {
    let mut batch = Batch::new();
    for key in 0..KEYS {
        match key % 2 == 1 && round % 3 == 2 {
            true => batch.delete([b'k', key]),
            false => batch.put([b'k', key], round.to_be_bytes()),
        };
    }
    batch
}

fn read_until(store: &SledStore, done: &AtomicBool, asked: &AtomicU64, back: bool) -> u64 {
    let (mut last, mut reads) = (0, 0);
    while !done.load(Ordering::SeqCst) {
        let (round, one) = read(store, back);
        let newest = asked.load(Ordering::SeqCst);
        assert!(last <= round && round <= one && one <= newest, "{last} <= {round} <= {one} <= {newest}");
        last = round;
        reads += 1;
    }
    reads
}

/// The round that a scan shows, in full, and the one that a read of a single key shows after it.
fn read(store: &SledStore, back: bool) -> (u64, u64) {
    let scan = if back { store.scan_back(b"k", None, 99) } else { store.scan(b"k", None, 99) };
    let found = scan.expect("scan");
    let rounds: Vec<u64> = found.iter().map(|(_, value)| number(value)).collect();
    let round = rounds[0];
    let expected = if round % 3 == 2 { KEYS / 2 } else { KEYS };
    assert!(rounds.iter().all(|other| *other == round), "a scan shows parts of batches: {rounds:?}");
    assert_eq!(rounds.len(), usize::from(expected), "a scan shows parts of batch {round}");
    (round, number(&store.get(&[b'k', 0]).expect("get").expect("a value")))
}

fn number(value: &[u8]) -> u64 {
    u64::from_be_bytes(value.try_into().expect("eight bytes"))
}
