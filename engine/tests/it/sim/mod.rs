//! Simulation: random plans, behaviour, store faults, cancels and crashes, all from one seed; the watch judges each durable batch,
//! and at the end the world has to be as the outcomes say. A run that fails is made small and told as a story.
//!
//! `KEDGE_SEED` repeats one run (`KEDGE_CUTS` without some of it), `KEDGE_RUNS` makes more of them, `KEDGE_RUNS=0` goes on until one
//! fails, from a first seed that `KEDGE_FIRST` or else the clock chooses. `KEDGE_STORY=0`: the seed is enough.

mod cuts;
mod judge;
mod matrix;
mod plan;
mod run;
mod shrink;

use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::story;
use cuts::Cuts;
use run::{Tally, run};

/// Runs in `cargo test`.
const RUNS: u64 = 20_000;
/// How often a long simulation says how far it is.
const REPORT: Duration = Duration::from_secs(10);

fn env(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[test]
fn whatever_fails_and_whenever_it_dies_it_is_done_or_as_before() {
    let cuts = Cuts::parse(&std::env::var("KEDGE_CUTS").unwrap_or_default());
    if let Some(seed) = env("KEDGE_SEED") {
        let (result, story) = story::told(|| run(seed, cuts));
        println!("{}", story.join("\n"));
        match result {
            Ok(tally) => println!("seed {seed}: {tally:?}"),
            Err(panic) => panic!("{}", shrink::text(&*panic)),
        }
        return;
    }
    let runs = env("KEDGE_RUNS").unwrap_or(RUNS);
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() << 20;
    let first = env("KEDGE_FIRST").unwrap_or_else(|| if runs == 0 { clock() } else { 1 });
    let end = if runs == 0 { u64::MAX } else { first + runs };
    let sum = simulate(first, end, cuts);
    assert!(sum.is_broad(), "the simulation no longer reaches everything: {sum:?}");
}

/// Runs the seeds from `first` up to `end` on all cores.
fn simulate(first: u64, end: u64, cuts: Cuts) -> Tally {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    println!("seeds from {first} on, on {threads} threads");
    let (began, next) = (Instant::now(), AtomicU64::new(first));
    let failed: Mutex<Option<u64>> = Mutex::new(None);
    let lock = || failed.lock().unwrap_or_else(PoisonError::into_inner);
    let worker = |chatty: bool| {
        let (mut sum, mut reported, before) = (Tally::default(), Instant::now(), busy());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end || lock().is_some() {
                return (sum, busy() - before);
            }
            match catch_unwind(|| run(seed, cuts)) {
                Ok(tally) => sum.add(&tally),
                Err(_) => *lock() = Some(seed),
            }
            if chatty && reported.elapsed() > REPORT {
                reported = Instant::now();
                let done = (seed - first) as f64;
                println!("{done:>12} runs, {:.0} a second", done / began.elapsed().as_secs_f64());
            }
        }
    };
    let (mut sum, mut worked) = (Tally::default(), 0.0);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|n| scope.spawn(move || worker(n == 0))).collect();
        for worker in workers {
            let (tally, seconds) = worker.join().unwrap();
            sum.add(&tally);
            worked += seconds;
        }
    });
    if let Some(seed) = *lock() {
        println!("seed {seed} fails");
        assert!(env("KEDGE_STORY") != Some(0), "repeat with KEDGE_SEED={seed}");
        println!("looking for a smaller run that fails in the same way");
        panic!("{}", shrink::shrink(seed, cuts));
    }
    let (runs, seconds) = ((end - first) as f64, began.elapsed().as_secs_f64());
    println!("{runs} runs in {seconds:.1} s, {:.0} a second of one core: {sum:?}", runs / worked);
    sum
}

/// Seconds of processor time that this thread has had, where Linux tells.
fn busy() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|text| text.parse::<f64>().ok());
    nanoseconds.unwrap_or(f64::NAN) / 1e9
}
