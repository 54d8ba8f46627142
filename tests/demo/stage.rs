//! What the demonstration looks like: titles, ticks, and a task that is drawn live in a terminal, or told line by line elsewhere.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::Value;

/// Where the story is told.
#[derive(Clone)]
pub(crate) struct Stage(Arc<Mutex<Drawn>>);

struct Drawn {
    live: bool,
    began: Instant,
    /// Lines of the task that is on the screen.
    lines: usize,
    /// States of its steps, where lines are told once.
    told: BTreeMap<String, String>,
}

impl Stage {
    /// On standard output.
    pub(crate) fn new() -> Self {
        let live = std::io::stdout().is_terminal();
        let drawn = Drawn { live, began: Instant::now(), lines: 0, told: BTreeMap::new() };
        Self(Arc::new(Mutex::new(drawn)))
    }

    /// A chapter.
    pub(crate) fn title(&self, text: &str) {
        self.line(&format!("\n{}", self.paint("1", text)));
    }

    /// A claim that was checked.
    pub(crate) fn done(&self, text: &str) {
        self.line(&format!("  {} {text}", self.paint("32", "✓")));
    }

    /// Something to know.
    pub(crate) fn note(&self, text: &str) {
        self.line(&format!("  {}", self.paint("2", text)));
    }

    /// Something to look at.
    pub(crate) fn detail(&self, what: &str, text: &str) {
        self.line(&format!("  {} {text}", self.paint("36", &format!("{what}:"))));
    }

    /// The end, if it is a bad one.
    pub(crate) fn failed(&self, text: &str) {
        self.line(&format!("\n{} {text}", self.paint("31", "✗ this does not hold:")));
    }

    /// Shows a task: drawn over itself in a terminal, else a line for each change.
    pub(crate) fn task(&self, task: &Value) {
        let mut drawn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let steps: Vec<&Value> = task["steps"].as_array().into_iter().flatten().collect();
        let word = |step: &Value, field: &str| step[field].as_str().unwrap_or_default().to_owned();
        let mut out = std::io::stdout().lock();
        if drawn.live {
            let mut text = String::new();
            if drawn.lines > 0 {
                text.push_str(&format!("\u{1b}[{}A", drawn.lines));
            }
            text.push_str(&format!("\r\u{1b}[2K  {} {}\n", word(task, "workflow"), word(task, "state")));
            for step in &steps {
                text.push_str(&format!("\r\u{1b}[2K{}\n", step_line(step)));
            }
            drawn.lines = steps.len() + 1;
            write(&mut out, &text);
        } else {
            for step in &steps {
                let (name, state) = (word(step, "name"), word(step, "state"));
                let quiet = matches!(state.as_str(), "pending" | "skipped");
                if !quiet && drawn.told.get(&name) != Some(&state) {
                    let at = drawn.began.elapsed().as_secs_f64();
                    write(&mut out, &format!("    {at:6.1}s {state:<10} {name}\n"));
                }
                drawn.told.insert(name, state);
            }
        }
    }

    /// The task has ended: what comes next is below it.
    pub(crate) fn end_of_task(&self) {
        let mut drawn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drawn.lines = 0;
        drawn.told.clear();
    }

    fn line(&self, text: &str) {
        write(&mut std::io::stdout().lock(), &format!("{text}\n"));
    }

    fn paint(&self, code: &str, text: &str) -> String {
        let live = self.0.lock().unwrap_or_else(PoisonError::into_inner).live;
        if live { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

fn step_line(step: &Value) -> String {
    let word = |field: &str| step[field].as_str().unwrap_or_default();
    let (sign, color) = match word("state") {
        "succeeded" => ("✓", "32"),
        "running" => ("▶", "36"),
        "failed" | "stuck" => ("✗", "31"),
        "undoing" => ("↶", "33"),
        "undone" => ("↺", "33"),
        "skipped" => ("-", "2"),
        _ => ("·", "2"),
    };
    let doing = if word("state") == "undone" {
        step["undo"]["title"].as_str().unwrap_or_default()
    } else {
        word("title")
    };
    let progress = match (step["progress"]["done"].as_u64(), word("state")) {
        (Some(done), "running") => format!("  {:.1} MiB", done as f64 / 1_048_576.0),
        _ => String::new(),
    };
    format!("    \u{1b}[{color}m{sign}\u{1b}[0m {:<18} {doing}{progress}", word("name"))
}

fn write(out: &mut impl std::io::Write, text: &str) {
    // When nobody reads the story any more, there is nobody to tell.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
