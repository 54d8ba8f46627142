//! Simulation: random plans, behaviour, store faults, cancels and crashes, all from one seed; the watch judges each durable batch,
//! and at the end the world has to be as the outcomes say. `KEDGE_SEED` repeats one run, `KEDGE_RUNS` makes more of them.

mod judge;
mod matrix;
mod plan;
mod run;

use run::run;

/// Runs in `cargo test`.
const RUNS: u64 = 20_000;

fn env(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[test]
fn whatever_fails_and_whenever_it_dies_it_is_done_or_as_before() {
    if let Some(seed) = env("KEDGE_SEED") {
        let tally = run(seed, true);
        println!("seed {seed}: {tally:?}");
        return;
    }
    let runs = env("KEDGE_RUNS").unwrap_or(RUNS);
    let first = env("KEDGE_FIRST").unwrap_or(1);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let began = std::time::Instant::now();
    let tallies: Vec<run::Tally> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    let mut sum = run::Tally::default();
                    for seed in (first..first + runs).filter(|seed| seed % threads == thread) {
                        let result = std::panic::catch_unwind(|| run(seed, false));
                        match result {
                            Ok(tally) => sum.add(&tally),
                            Err(_) => panic!("repeat with KEDGE_SEED={seed}"),
                        }
                    }
                    sum
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("a run failed: its seed is printed above"))
            .collect()
    });
    let mut sum = run::Tally::default();
    tallies.iter().for_each(|tally| sum.add(tally));
    let seconds = began.elapsed().as_secs_f64();
    println!("{runs} runs in {seconds:.1} s on {threads} threads: {sum:?}");
    assert!(sum.is_broad(), "the simulation no longer reaches everything: {sum:?}");
}
