//! Follows a task: a picture that redraws itself in a terminal, a line for each change elsewhere. It asks again and again; a server
//! that is being restarted, or has no answer for the moment, is waited for. It changes nothing.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Api, ApiError, Out, render};

/// How often a task is asked for.
const EVERY: Duration = Duration::from_millis(250);
/// How often one is asked that says that it is too busy to answer: less, since that may be why.
const BUSY: Duration = Duration::from_secs(2);
/// How many questions in a row may stay without an answer: a minute and a half, more than a restart with many open tasks takes.
const UNANSWERED: u32 = 360;

/// Follows a task until it ends or gets stuck, prints its page, and returns it.
///
/// # Errors
/// When the server stays away, or refuses.
pub(crate) async fn watch(api: &Api, out: Out, mut task: Value) -> Result<Value> {
    let id = task["id"].as_str().unwrap_or_default().to_owned();
    let mut screen = (std::io::stdout().is_terminal() && !out.json).then(Screen::default);
    let mut seen = Vec::new();
    loop {
        match &mut screen {
            Some(screen) => screen.draw(&task, out)?,
            None if out.json => {}
            None => seen = changes(&task, seen, out)?,
        }
        if matches!(task["state"].as_str(), Some("succeeded" | "rolled_back" | "stuck" | "canceled")) {
            break;
        }
        tokio::time::sleep(EVERY).await;
        task = patiently(api, &id, screen.as_mut()).await?;
    }
    if let Some(screen) = &mut screen {
        screen.clear()?;
    }
    out.value(&task, render::task)?;
    Ok(task)
}

/// The task as soon as the server answers.
async fn patiently(api: &Api, id: &str, mut screen: Option<&mut Screen>) -> Result<Value> {
    let mut unanswered = 0;
    loop {
        match api.get(&format!("/v1/tasks/{id}")).await {
            Err(error)
                if matches!(error.downcast_ref(), Some(ApiError::Unreachable { .. } | ApiError::Busy(_))) =>
            {
                let busy = matches!(error.downcast_ref(), Some(ApiError::Busy(_)));
                unanswered += 1;
                if unanswered == UNANSWERED {
                    return Err(error);
                }
                if unanswered == 1 {
                    let note = "Kedge does not answer: waiting for it; the task is in its journal";
                    match &mut screen {
                        Some(screen) => screen.note(note)?,
                        None => eprintln!("{note}"),
                    }
                }
                tokio::time::sleep(if busy { BUSY } else { EVERY }).await;
            }
            answer => return answer,
        }
    }
}

/// What was drawn last.
#[derive(Default)]
struct Screen {
    lines: usize,
}

impl Screen {
    /// Draws over what was drawn before. What does not fit is told in short: a terminal cannot be drawn over above its upper edge.
    fn draw(&mut self, task: &Value, out: Out) -> Result<()> {
        let (width, height) = size();
        let mut lines = render::task(task, out.style);
        if lines.len() >= height {
            lines = render::short(task, height.saturating_sub(1), out.style);
        }
        let lines: Vec<String> =
            lines.iter().flat_map(|line| line.split('\n')).map(|line| render::fit(line, width)).collect();
        self.clear()?;
        let mut to = std::io::stdout().lock();
        for line in &lines {
            writeln!(to, "{line}")?;
        }
        self.lines = lines.len();
        to.flush().context("standard output is closed")
    }

    fn note(&mut self, note: &str) -> Result<()> {
        self.lines += 1;
        writeln!(std::io::stdout().lock(), "{note}").context("standard output is closed")
    }

    fn clear(&mut self) -> Result<()> {
        let mut to = std::io::stdout().lock();
        if self.lines > 0 {
            write!(to, "\u{1b}[{}A\r\u{1b}[J", self.lines)?;
        }
        self.lines = 0;
        to.flush().context("standard output is closed")
    }
}

/// Columns and rows of the terminal; those of old where it does not tell.
fn size() -> (usize, usize) {
    let told = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
    let told = told.filter(|size| size.ws_col > 0 && size.ws_row > 0);
    told.map_or((80, 24), |size| (usize::from(size.ws_col), usize::from(size.ws_row)))
}

/// Prints the steps whose state has changed.
fn changes(task: &Value, seen: Vec<(String, String)>, out: Out) -> Result<Vec<(String, String)>> {
    let text = |step: &Value, field: &str| step[field].as_str().unwrap_or_default().to_owned();
    let steps = task["steps"].as_array().into_iter().flatten();
    let now: Vec<(String, String)> = steps.map(|step| (text(step, "name"), text(step, "state"))).collect();
    let fresh = now.iter().filter(|step| !seen.contains(step) && step.1 != "pending");
    let lines: Vec<String> = fresh.map(|(name, state)| format!("{state:<10} {name}")).collect();
    out.lines(&lines)?;
    Ok(now)
}
