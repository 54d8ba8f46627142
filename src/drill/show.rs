//! What a drill shows while it runs: a progress bar in a terminal, a line a point elsewhere, and the table at the end.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use super::point::Point;
use super::report::Report;
use super::round::Round;

/// Cells of the bar.
const BAR: usize = 30;

/// Where it is shown: progress on standard error, the table on standard output.
pub(crate) struct Show {
    live: bool,
    json: bool,
    began: Instant,
}

impl Show {
    /// By what standard error is.
    pub(crate) fn new(json: bool) -> Self {
        Self { live: std::io::stderr().is_terminal(), json, began: Instant::now() }
    }

    /// A remark.
    pub(crate) fn line(&self, text: &str) {
        let clear = if self.live { "\r\u{1b}[2K" } else { "" };
        write(&format!("{clear}{text}\n"));
    }

    /// How far it is, before a point.
    pub(crate) fn progress(&self, done: usize, all: usize, point: &Point, wrong: usize) {
        if self.live {
            let filled = BAR * done / all.max(1);
            let bar: String = (0..BAR).map(|cell| if cell < filled { '█' } else { '░' }).collect();
            let wrong = if wrong > 0 { format!("\u{1b}[31m {wrong} ✗\u{1b}[0m") } else { String::new() };
            write(&format!("\r\u{1b}[2K{bar} {done}/{all}{wrong}  {point}"));
        }
    }

    /// No more points.
    pub(crate) fn progress_ends(&self) {
        if self.live {
            write("\r\u{1b}[2K");
        }
    }

    /// A point that was drilled: each where nothing is drawn live, in a terminal only what does not hold.
    pub(crate) fn round(&self, round: &Round) {
        if round.wrong.is_empty() && self.live {
            return;
        }
        let sign = if !round.wrong.is_empty() {
            "✗"
        } else if round.unreached > 0 {
            "-"
        } else {
            "✓"
        };
        self.line(&format!(
            "{:7.1}s {sign} {:<12} {} life/lives {:5.1}s  {}",
            self.began.elapsed().as_secs_f64(),
            round.ended,
            round.lives,
            round.took.as_secs_f64(),
            round.point
        ));
        for wrong in &round.wrong {
            self.line(&format!("          {wrong}"));
        }
    }

    /// The end.
    ///
    /// # Errors
    /// When standard output is closed.
    pub(crate) fn table(&self, report: &Report, dir: &Path) -> Result<()> {
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(report)?)?;
            return Ok(());
        }
        writeln!(
            out,
            "{:<14} {:>7} {:>7} {:>9} {:>12} {:>5} {:>8}",
            "part", "points", "done", "rolled", "not reached", "held", "wrong"
        )?;
        for (part, sum) in report.parts() {
            writeln!(
                out,
                "{part:<14} {:>7} {:>7} {:>9} {:>12} {:>5} {:>8}",
                sum.points, sum.succeeded, sum.rolled_back, sum.unreached, sum.held, sum.wrong
            )?;
        }
        for point in report.points.iter().filter(|point| !point.wrong.is_empty()) {
            writeln!(out, "\n✗ {}\n  repeat it: {}", point.point, report.again(&point.point))?;
            for wrong in &point.wrong {
                writeln!(out, "  {wrong}")?;
            }
        }
        writeln!(
            out,
            "\nseed {}: {} of {} points drilled, {} counterexamples; {}",
            report.seed,
            report.points.len(),
            report.all,
            report.counterexamples(),
            dir.join("report.html").display()
        )?;
        Ok(())
    }
}

fn write(text: &str) {
    let mut out = std::io::stderr().lock();
    // When nobody looks any more, there is nobody to tell; the report is written all the same.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
