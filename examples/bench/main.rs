//! The benchmarks: durable steps and accepted webhooks on sled, synced, each beside its raw limit in the same run: the same bytes, put
//! into sled in groups, flushed and synced, by a loop that knows no engine. Engine and raw loop take turns, so that a busy machine slows
//! both; medians are shown. Ends with 1 when a target is missed.
//!
//! `cargo run --release --example bench [FOLDER]`: the folder (default: here) chooses the disk.

#![expect(clippy::expect_used, reason = "a measurement that cannot be made ends")]

mod client;
mod engine;
mod hooks;
mod raw;
mod service;
mod steps;

use std::process::ExitCode;

/// Engine and raw loop take this many turns.
const TURNS: usize = 5;

/// As the binary's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let folder = std::env::args_os().nth(1).unwrap_or_else(|| ".".into());
    let folder = tempfile::tempdir_in(folder).expect("a folder that can be written");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // As `kedge serve` logs, but to nowhere: what is measured is not the terminal.
    tracing_subscriber::fmt().with_env_filter("info").with_ansi(false).with_writer(std::io::sink).init();
    println!(
        "{cores} cores; everything on sled, synced; medians of {TURNS} turns, engine and raw loop by turns"
    );
    if let Some(others) = load() {
        println!("others keep {others:.1} cores busy: what is shown is less than this machine can");
    }
    println!("ratio: of the raw loop's figure, which writes the same bytes in groups without an engine\n");
    println!("{:<54} {:>18} {:>18} {:>6} {:>16}", "", "here", "raw loop", "ratio", "target");
    let runtime = service::runtime();

    let met = [engine::run(&runtime, folder.path()), hooks::run(&runtime, folder.path())];
    runtime.shutdown_background();
    if met.into_iter().all(|met| met) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The machine's load in the last minute, where it is enough to spoil figures.
fn load() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    let load: f64 = text.split(' ').next()?.parse().ok()?;
    (load > 0.5).then_some(load)
}

/// One line of the table.
struct Line<'a> {
    what: &'a str,
    here: f64,
    /// The raw loop's figure, where there is one.
    raw: Option<f64>,
    unit: &'a str,
    target: Target,
}

/// What a figure has to be.
enum Target {
    AtLeast(f64),
    AtMost(f64),
    None,
}

impl Line<'_> {
    /// Prints it; whether it meets its target.
    fn print(&self) -> bool {
        let figure = |value: f64| {
            let digits = if value < 100.0 { 2 } else { 0 };
            format!("{value:.digits$} {}", self.unit)
        };
        let (met, target) = match self.target {
            Target::AtLeast(least) => (self.here >= least, format!(">= {least:.0}")),
            Target::AtMost(most) => (self.here <= most, format!("<= {most}")),
            Target::None => (true, String::new()),
        };
        let verdict = match (&self.target, met) {
            (Target::None, _) => "",
            (_, true) => "met",
            (_, false) => "MISSED",
        };
        let raw = self.raw.map(figure).unwrap_or_default();
        let ratio = self.raw.map(|raw| format!("{:.2}", self.here / raw)).unwrap_or_default();
        let here = figure(self.here);
        println!("{:<54} {here:>18} {raw:>18} {ratio:>6} {target:>9} {verdict:>6}", self.what);
        met
    }
}

fn median(values: &mut [f64]) -> f64 {
    part(values, 50)
}

/// The value below which so many of a hundred are.
fn part(values: &mut [f64], of_100: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) * of_100 / 100]
}
