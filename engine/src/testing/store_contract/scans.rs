//! Order and ranges: scans in both directions against what an ordered map would say, above all on bytes at the edges.

use std::collections::BTreeMap;
use std::fmt::Debug;

use super::{Subject, everything, puts};
use crate::store::{Batch, ReadError, Store};

type Pair = (Vec<u8>, Vec<u8>);

/// `after` and `before` are exclusive, may lie outside the prefix, and never widen it.
pub(super) async fn scans_keep_prefix_limit_and_edge(subject: impl Subject) {
    let store = subject.store();
    store
        .commit(puts(&[("a", ""), ("b", ""), ("b/1", ""), ("b/2", ""), ("b/3", ""), ("b0", ""), ("c", "")]))
        .await
        .expect("commit");
    type Case = (&'static str, Option<&'static str>, usize, &'static [&'static str]);
    let forward: [Case; 11] = [
        ("b/", None, 9, &["b/1", "b/2", "b/3"]),
        ("b/", None, 2, &["b/1", "b/2"]),
        ("b/", None, 0, &[]),
        ("b/", Some("b/1"), 9, &["b/2", "b/3"]),
        ("b/", Some("b/11"), 1, &["b/2"]),
        ("b/", Some("a"), 9, &["b/1", "b/2", "b/3"]),
        ("b/", Some("b/3"), 9, &[]),
        ("b/", Some("c"), 9, &[]),
        ("b", Some("b"), 9, &["b/1", "b/2", "b/3", "b0"]),
        ("x", None, 9, &[]),
        ("", Some("b0"), 9, &["c"]),
    ];
    for (prefix, after, limit, keys) in forward {
        let found = store.scan(prefix.as_bytes(), after.map(str::as_bytes), limit);
        assert_eq!(names(found), keys, "scan({prefix:?}, {after:?}, {limit})");
    }
    let back: [Case; 11] = [
        ("b/", None, 9, &["b/3", "b/2", "b/1"]),
        ("b/", None, 2, &["b/3", "b/2"]),
        ("b/", None, 0, &[]),
        ("b/", Some("b/3"), 9, &["b/2", "b/1"]),
        ("b/", Some("b/21"), 1, &["b/2"]),
        ("b/", Some("c"), 9, &["b/3", "b/2", "b/1"]),
        ("b/", Some("b/1"), 9, &[]),
        ("b/", Some("a"), 9, &[]),
        ("b", Some("b0"), 9, &["b/3", "b/2", "b/1", "b"]),
        ("x", None, 9, &[]),
        ("", Some("b"), 9, &["a"]),
    ];
    for (prefix, before, limit, keys) in back {
        let found = store.scan_back(prefix.as_bytes(), before.map(str::as_bytes), limit);
        assert_eq!(names(found), keys, "scan_back({prefix:?}, {before:?}, {limit})");
    }
}

/// 0x00 and 0xff sort and delimit like any other byte.
pub(super) async fn scans_handle_extreme_bytes(subject: impl Subject) {
    let store = subject.store();
    let keys: [&[u8]; 9] = [
        b"\0",
        b"\0\0",
        b"\x01",
        b"p",
        b"p\xff",
        b"p\xff\0",
        b"p\xff\xff\xff\xff\xff\x01",
        b"q",
        b"\xff\xff",
    ];
    let mut batch = Batch::new();
    for key in keys {
        batch.put(key, key);
    }
    store.commit(batch).await.expect("commit");
    type Case = (&'static [u8], Option<&'static [u8]>, &'static [usize]);
    let cases: [Case; 8] = [
        (b"", None, &[0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (b"\0", None, &[0, 1]),
        (b"\0", Some(b"\0"), &[1]),
        (b"p\xff", None, &[4, 5, 6]),
        (b"p\xff", Some(b"p\xff"), &[5, 6]),
        (b"p\xff\xff", None, &[6]),
        (b"\xff", None, &[8]),
        (b"\xff\xff\xff", None, &[]),
    ];
    for (prefix, after, wanted) in cases {
        let wanted: Vec<_> = wanted.iter().map(|&n| (keys[n].to_vec(), keys[n].to_vec())).collect();
        assert_eq!(store.scan(prefix, after, 99), Ok(wanted.clone()), "scan({prefix:?}, {after:?})");
        let mut back = store.scan_back(prefix, None, 99).expect("scan_back");
        back.retain(|(key, _)| after.is_none_or(|after| key.as_slice() > after));
        back.reverse();
        assert_eq!(back, wanted, "scan_back({prefix:?})");
    }
    assert_eq!(names(store.scan_back(b"p", Some(b"p\xff\xff"), 1)), ["p\u{fffd}\0"]);
    assert_eq!(store.scan_back(b"\xff", Some(b"\xff\xff"), 9), Ok(Vec::new()));
}

/// Enough keys for several pages, and between neighbours the bytes on which stores guess where the page before begins.
pub(super) async fn scans_cross_pages_of_extreme_bytes(subject: impl Subject) {
    let store = subject.store();
    let mut keys = Vec::new();
    for middle in
        [&b"\0"[..], b"\0\xff\xff\xff\xff\xff", b"\x01", b"\x01\0\0", b"\xfe\xff\xff\xff\xff\xff", b"\xff"]
    {
        keys.extend((0..60_u8).map(|n| [b"k", middle, &[n, 0xff, 0xff, 0xff, 0xff, n]].concat()));
    }
    for some in keys.chunks(50) {
        let mut batch = Batch::new();
        some.iter().for_each(|key| _ = batch.put(key.clone(), "v"));
        store.commit(batch).await.expect("commit");
    }
    keys.sort();
    let only_keys = |found: Result<Vec<Pair>, ReadError>| -> Vec<Vec<u8>> {
        found.expect("scan").into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(only_keys(store.scan(b"k", None, usize::MAX)), keys);
    for (n, edge) in keys.iter().enumerate() {
        assert_eq!(only_keys(store.scan(b"k", Some(edge), 3)), keys[n + 1..(n + 4).min(keys.len())]);
        let mut back = only_keys(store.scan_back(b"k", Some(edge), 3));
        back.reverse();
        assert_eq!(back, keys[n.saturating_sub(3)..n]);
    }
    let mut back = only_keys(store.scan_back(b"k", None, usize::MAX));
    back.reverse();
    assert_eq!(back, keys);
}

/// Random batches and scans against a `BTreeMap`, on keys with long runs of extreme bytes, over several restarts.
pub(super) async fn behaves_like_an_ordered_map(mut subject: impl Subject, seed: u64) {
    println!("store contract: random batches, seed {seed}");
    let mut dice = Dice(seed);
    let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for round in 0..120 {
        let mut batch = Batch::new();
        for _ in 0..dice.below(24) {
            let known = model.keys().nth(dice.below(model.len() + 1)).cloned();
            match (known, dice.below(3)) {
                (Some(key), 0) => {
                    model.remove(&key);
                    batch.delete(key);
                }
                _ => {
                    let (key, value) = (dice.key(), vec![round; dice.below(400)]);
                    model.insert(key.clone(), value.clone());
                    batch.put(key, value);
                }
            }
        }
        subject.store().commit(batch).await.expect("commit");
        if dice.below(20) == 0 {
            subject.reopen();
        }
        compare_scans(&*subject.store(), &model, &mut dice);
    }
    assert_eq!(everything(&*subject.store()), model.into_iter().collect::<Vec<_>>());
}

fn compare_scans(store: &dyn Store, model: &BTreeMap<Vec<u8>, Vec<u8>>, dice: &mut Dice) {
    let mut prefix = dice.key();
    prefix.truncate(dice.below(4));
    let edge = (dice.below(3) > 0).then(|| dice.key());
    let limit = dice.below(40);
    let with_prefix: Vec<_> = model.iter().filter(|(key, _)| key.starts_with(&prefix)).collect();
    let copy = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
    let above = with_prefix.iter().copied().filter(|(key, _)| edge.as_ref().is_none_or(|edge| *key > edge));
    let wanted: Vec<_> = above.take(limit).map(copy).collect();
    assert_eq!(
        store.scan(&prefix, edge.as_deref(), limit),
        Ok(wanted),
        "scan({prefix:?}, {edge:?}, {limit})"
    );
    let below =
        with_prefix.iter().copied().rev().filter(|(key, _)| edge.as_ref().is_none_or(|edge| *key < edge));
    let wanted: Vec<_> = below.take(limit).map(copy).collect();
    let found = store.scan_back(&prefix, edge.as_deref(), limit);
    assert_eq!(found, Ok(wanted), "scan_back({prefix:?}, {edge:?}, {limit})");
}

// === helpers ===

fn names<E: Debug>(found: Result<Vec<Pair>, E>) -> Vec<String> {
    let found = found.expect("scan");
    found.into_iter().map(|(key, _)| String::from_utf8_lossy(&key).into_owned()).collect()
}

/// SplitMix64: enough chance for tests, the same on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }

    /// A key of up to 24 bytes with runs of the bytes that break careless bounds.
    fn key(&mut self) -> Vec<u8> {
        let length = 1 + self.below(24);
        let mut key = Vec::new();
        while key.len() < length {
            let byte = [0, 1, b'k', 0xfe, 0xff][self.below(5)];
            key.extend(std::iter::repeat_n(byte, 1 + self.below(6)));
        }
        key.truncate(length);
        key
    }
}
