//! Durable commits per second through the store, beside the raw limit on the same disk in the same run: a loop that puts the same
//! bytes into sled, flushes and syncs, without preconditions, readers, callers or acknowledgements.
//!
//! `cargo run --release -p kedge-stores --example commit_bench [FOLDER]`: the folder (default: here) chooses the disk.

#![expect(clippy::expect_used, reason = "a measurement that cannot be made ends")]

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use futures::future::join_all;
use kedge_engine::store::{Batch, Store as _};
use kedge_stores::{Options, SledStore};

/// One event with its key, as the journal writes it.
const VALUE_BYTES: usize = 300;
/// How long each side runs at a time; they take turns, so that a busy machine slows both.
const TURN: Duration = Duration::from_millis(700);
const TURNS: usize = 5;

fn main() {
    let folder = std::env::args_os().nth(1).unwrap_or_else(|| ".".into());
    let folder = tempfile::tempdir_in(folder).expect("a folder that can be written");
    let store = SledStore::open(&folder.path().join("store"), Options::default()).expect("store");
    let raw = Raw::open(&folder.path().join("raw"));
    println!("durable commits of {VALUE_BYTES} B; medians of {TURNS} turns of {} ms each", TURN.as_millis());
    println!(
        "{:>8} {:>12} {:>12} {:>7} {:>9} {:>9} {:>12}",
        "writers", "raw/s", "store/s", "ratio", "p50 ms", "p99 ms", "batch/sync"
    );
    for writers in [1, 16, 256] {
        let (mut raws, mut stores, mut waits) = (Vec::new(), Vec::new(), Vec::new());
        let before = store.stats();
        for turn in 0..TURNS {
            raws.push(raw.turn(turn, writers));
            stores.push(store_turn(&store, turn, writers, &mut waits));
        }
        let after = store.stats();
        let together = (after.commits - before.commits) as f64 / (after.groups - before.groups) as f64;
        let (raw, store) = (median(&mut raws), median(&mut stores));
        waits.sort();
        let wait = |part: usize| waits[(waits.len() - 1) * part / 100].as_secs_f64() * 1000.0;
        let (p50, p99) = (wait(50), wait(99));
        println!(
            "{writers:>8} {raw:>12.0} {store:>12.0} {:>7.2} {p50:>9.2} {p99:>9.2} {together:>12.1}",
            store / raw
        );
    }
}

/// Writers that commit one batch after another; commits per second.
fn store_turn(store: &SledStore, turn: usize, writers: usize, waits: &mut Vec<Duration>) -> f64 {
    let started = Instant::now();
    let done = block_on(join_all((0..writers).map(|writer| async move {
        let mut waits = Vec::new();
        while started.elapsed() < TURN {
            let asked = Instant::now();
            let mut batch = Batch::new();
            batch.put(key(turn, writers, writer, waits.len()), vec![7; VALUE_BYTES]);
            store.commit(batch).await.expect("commit");
            waits.push(asked.elapsed());
        }
        waits
    })));
    let seconds = started.elapsed().as_secs_f64();
    let before = waits.len();
    waits.extend(done.into_iter().flatten());
    (waits.len() - before) as f64 / seconds
}

struct Raw {
    db: sled::Db,
    file: File,
}

impl Raw {
    fn open(folder: &Path) -> Self {
        let db = sled::Config::new()
            .path(folder)
            .mode(sled::Mode::LowSpace)
            .cache_capacity(64 * 1024 * 1024)
            .flush_every_ms(Some(1000))
            .open()
            .expect("sled");
        Self { db, file: File::open(folder.join("db")).expect("sled's file") }
    }

    /// Groups of one batch of each writer, without the writers; commits per second.
    fn turn(&self, turn: usize, writers: usize) -> f64 {
        let started = Instant::now();
        let mut groups = 0;
        while started.elapsed() < TURN {
            let mut batch = sled::Batch::default();
            for writer in 0..writers {
                batch.insert(key(turn, writers, writer, groups), vec![7; VALUE_BYTES]);
            }
            self.db.apply_batch(batch).expect("apply");
            self.db.flush().expect("flush");
            self.file.sync_data().expect("sync");
            groups += 1;
        }
        (groups * writers) as f64 / started.elapsed().as_secs_f64()
    }
}

/// Spread like events: ordered within each task, tasks side by side.
fn key(turn: usize, writers: usize, writer: usize, number: usize) -> Vec<u8> {
    let mut key = format!("event/{turn}-{writers}-{writer:05}/").into_bytes();
    key.extend((number as u64).to_be_bytes());
    key
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
