//! A drill's report: as JSON, and as one page that needs nothing else.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use kedge_engine::task::TaskView;
use serde::Serialize;
use serde_json::Value;

use super::round::{Drill, Round};
use crate::cli::DrillArgs;

/// What was drilled and what came of it.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) workflow: String,
    pub(crate) params: Value,
    /// It is the undo that was drilled.
    pub(crate) undo: bool,
    pub(crate) seed: u64,
    /// The version of this binary.
    pub(crate) version: &'static str,
    /// When it began, in seconds since 1970.
    pub(crate) began: i64,
    /// Points of the whole matrix.
    pub(crate) all: usize,
    pub(crate) points: Vec<Told>,
    /// The configuration, for the commands that repeat a point.
    #[serde(skip)]
    config: String,
    #[serde(skip)]
    picture: String,
}

/// A point in the report.
#[derive(Serialize)]
pub(crate) struct Told {
    pub(crate) point: String,
    pub(crate) part: &'static str,
    pub(crate) ended: String,
    pub(crate) lives: usize,
    pub(crate) milliseconds: u64,
    pub(crate) unreached: usize,
    pub(crate) wrong: Vec<String>,
}

/// Points of a part.
#[derive(Default)]
pub(crate) struct Sum {
    pub(crate) points: usize,
    pub(crate) succeeded: usize,
    pub(crate) rolled_back: usize,
    pub(crate) unreached: usize,
    pub(crate) held: usize,
    pub(crate) wrong: usize,
}

impl Report {
    /// Of a drill that begins.
    pub(crate) fn new(drill: &Drill, seed: u64, args: &DrillArgs) -> Self {
        Self {
            workflow: drill.workflow.clone(),
            params: drill.params.clone(),
            undo: args.undo,
            seed,
            version: env!("CARGO_PKG_VERSION"),
            began: jiff::Timestamp::now().as_second(),
            all: 0,
            points: Vec::new(),
            config: args.config.config.display().to_string(),
            picture: String::new(),
        }
    }

    /// The DAG, as the undisturbed task went through it.
    pub(crate) fn shows(&mut self, task: &TaskView) {
        self.picture = kedge_webhooks::picture(task);
    }

    /// Adds a point.
    pub(crate) fn add(&mut self, round: &Round) {
        self.points.push(Told {
            point: round.point.to_string(),
            part: round.point.part(),
            ended: round.ended.clone(),
            lives: round.lives,
            milliseconds: u64::try_from(round.took.as_millis()).unwrap_or(u64::MAX),
            unreached: round.unreached,
            wrong: round.wrong.clone(),
        });
    }

    /// Points that do not hold.
    pub(crate) fn counterexamples(&self) -> usize {
        self.points.iter().filter(|point| !point.wrong.is_empty()).count()
    }

    /// The parts of the matrix with their sums.
    pub(crate) fn parts(&self) -> BTreeMap<&'static str, Sum> {
        let mut parts: BTreeMap<&'static str, Sum> = BTreeMap::new();
        for point in &self.points {
            let sum = parts.entry(point.part).or_default();
            sum.points += 1;
            sum.succeeded += usize::from(point.ended == "succeeded");
            sum.rolled_back += usize::from(point.ended == "rolled_back");
            sum.unreached += usize::from(point.unreached > 0);
            sum.held += usize::from(point.wrong.is_empty());
            sum.wrong += usize::from(!point.wrong.is_empty());
        }
        parts
    }

    /// The command that repeats a point alone.
    pub(crate) fn again(&self, point: &str) -> String {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
        let mut command = format!("kedge drill {} --config {}", self.workflow, quoted(&self.config));
        for (name, value) in self.params.as_object().into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            // Writing into a String does not fail, here and below.
            let _ = write!(command, " --param {}", quoted(&format!("{name}={value}")));
        }
        command.push_str(if self.undo { " --undo" } else { "" });
        let _ = write!(command, " --seed {} --point {}", self.seed, quoted(point));
        command
    }

    /// Writes both forms.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let what = || format!("the report cannot be written to {}", dir.display());
        fs::create_dir_all(dir).with_context(what)?;
        fs::write(dir.join("report.json"), serde_json::to_vec_pretty(self)?).with_context(what)?;
        fs::write(dir.join("report.html"), self.html()).with_context(what)
    }

    fn what(&self) -> String {
        let of_undo = if self.undo { "the undo of " } else { "" };
        format!("{of_undo}{}", self.workflow)
    }

    fn html(&self) -> String {
        let wrong = self.counterexamples();
        let verdict =
            if wrong == 0 { "every point held".to_owned() } else { format!("{wrong} counterexamples") };
        let color = if wrong == 0 { "#166534" } else { "#b91c1c" };
        let mut text = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>kedge drill {0}</title>\n<style>{STYLE}</style></head><body>\n\
             <h1>Drill of {0}</h1>\n<p class=\"verdict\" style=\"color:{color}\">{verdict}</p>\n\
             <p>Seed {1}, {2} of {3} points, kedge {4}. Parameters: <code>{5}</code></p>\n",
            escaped(&self.what()),
            self.seed,
            self.points.len(),
            self.all,
            self.version,
            escaped(&self.params.to_string())
        );
        text.push_str("<h2>Results</h2>\n<table><tr><th>part</th><th>points</th><th>done</th><th>rolled back</th><th>not reached</th><th>held</th><th>wrong</th></tr>\n");
        for (part, sum) in self.parts() {
            let _ = writeln!(
                text,
                "<tr><td>{part}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                sum.points, sum.succeeded, sum.rolled_back, sum.unreached, sum.held, sum.wrong
            );
        }
        let _ = writeln!(text, "</table>\n<h2>The plan</h2>\n<div class=\"plan\">{}</div>", self.picture);
        text.push_str("<h2>Points</h2>\n<table><tr><th></th><th>point</th><th>part</th><th>ended</th><th>lives</th><th>seconds</th></tr>\n");
        for point in &self.points {
            let (sign, class) = match (point.wrong.is_empty(), point.unreached) {
                (false, _) => ("✗", "wrong"),
                (true, 0) => ("✓", "held"),
                (true, _) => ("–", "unreached"),
            };
            let _ = writeln!(
                text,
                "<tr class=\"{class}\"><td>{sign}</td><td><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td><td>{:.1}</td></tr>",
                escaped(&point.point),
                point.part,
                escaped(&point.ended),
                point.lives,
                point.milliseconds as f64 / 1000.0
            );
            if !point.wrong.is_empty() {
                let list: String =
                    point.wrong.iter().map(|wrong| format!("<li>{}</li>", escaped(wrong))).collect();
                let _ = writeln!(
                    text,
                    "<tr class=\"wrong\"><td></td><td colspan=\"5\"><ul>{list}</ul>repeat it: <code>{}</code></td></tr>",
                    escaped(&self.again(&point.point))
                );
            }
        }
        text.push_str("</table>\n</body></html>\n");
        text
    }
}

/// The page's looks.
const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem;color:#111827}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #e5e7eb;vertical-align:top}\
code{font-size:.9em;overflow-wrap:anywhere}.verdict{font-size:1.4rem;font-weight:600}.plan{overflow-x:auto}\
.held td:first-child{color:#16a34a}.unreached td:first-child{color:#6b7280}.wrong{background:#fef2f2}.wrong td:first-child{color:#b91c1c}";

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
