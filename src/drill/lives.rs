//! The lives of a drilled task: child processes, one after another, until one of them comes to an end.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use kedge_engine::task::TaskId;
use std::os::unix::process::ExitStatusExt as _;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

use super::life::{Action, End, Line, Order};
use super::point::Point;
use super::state::State;

/// SIGKILL.
const KILLED: i32 = 9;
/// Lines of a life's log that are shown when it fails.
const SHOWN: usize = 6;

/// Starts lives.
pub(crate) struct Lives {
    pub(crate) config: PathBuf,
    /// The longest that one life may take: longer is a hang.
    pub(crate) limit: Duration,
    /// The newest task before the drilled one.
    pub(crate) since: Option<TaskId>,
}

/// What became of a task.
pub(crate) enum Lived {
    /// A life came to its end.
    Ended { end: Box<End>, lives: usize },
    /// The plan was refused.
    Refused(String),
    /// A life did not end in time, or ended otherwise than by its own kill.
    Broken { why: String, lives: usize },
}

enum OneLife {
    Said(Line),
    Died,
    Broken(String),
}

impl Lives {
    /// The same for a task that comes after another one.
    pub(crate) fn after(&self, task: Option<TaskId>) -> Self {
        Self { config: self.config.clone(), limit: self.limit, since: task }
    }

    /// Lives through an action with the faults of a point.
    ///
    /// # Errors
    /// When processes cannot be started.
    pub(crate) async fn live(&self, state: &State, action: Action, point: &Point) -> Result<Lived> {
        let mut kills = point.kills.iter();
        let mut action = action;
        for lives in 1.. {
            let order = Order {
                parent: std::process::id(),
                config: self.config.clone(),
                data_dir: state.data(),
                backup_dir: state.backups(),
                action,
                since: self.since.clone(),
                kill: kills.next().map(ToString::to_string),
                failures: point.failures.iter().map(ToString::to_string).collect(),
            };
            match self.one(state, &order).await? {
                OneLife::Said(Line::Ended(end)) => return Ok(Lived::Ended { end, lives }),
                OneLife::Said(Line::Refused { why }) => return Ok(Lived::Refused(why)),
                OneLife::Said(Line::Dies { at }) => {
                    let why = format!("it was to die at {at}, and lived on");
                    return Ok(Lived::Broken { why, lives });
                }
                OneLife::Died => action = Action::Resume,
                OneLife::Broken(why) => return Ok(Lived::Broken { why, lives }),
            }
        }
        bail!("no life came to an end")
    }

    async fn one(&self, state: &State, order: &Order) -> Result<OneLife> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(state.log())?;
        let mut child = Command::new(std::env::current_exe()?)
            .arg("drill-life")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            // Ctrl-C is for the drill, which ends its point first.
            .process_group(0)
            .spawn()
            .context("a life cannot be started")?;
        let order = format!("{}\n", serde_json::to_string(order)?);
        let mut stdin = child.stdin.take().context("the life has no input")?;
        stdin.write_all(order.as_bytes()).await.context("the life does not take its order")?;
        match tokio::time::timeout(self.limit, until_its_end(&mut child)).await {
            Ok(ended) => {
                let broken = |why| OneLife::Broken(format!("{why}; its log ends:\n{}", log_end(state)));
                Ok(match ended? {
                    OneLife::Broken(why) => broken(why),
                    ended => ended,
                })
            }
            Err(_) => {
                child.kill().await.context("a life that hangs cannot be killed")?;
                let why = format!("it did not end within {} s", self.limit.as_secs());
                Ok(OneLife::Broken(format!("{why}; its log ends:\n{}", log_end(state))))
            }
        }
    }
}

async fn until_its_end(child: &mut Child) -> Result<OneLife> {
    let mut lines = BufReader::new(child.stdout.take().context("the life has no output")?).lines();
    let mut last = None;
    while let Some(line) = lines.next_line().await? {
        last = Some(serde_json::from_str::<Line>(&line).with_context(|| format!("a life said {line:?}"))?);
    }
    let status = child.wait().await?;
    Ok(match last {
        Some(Line::Dies { .. }) if status.signal() == Some(KILLED) => OneLife::Died,
        Some(line) if status.success() => OneLife::Said(line),
        _ => OneLife::Broken(format!("a life ended with {status}")),
    })
}

fn log_end(state: &State) -> String {
    let text = std::fs::read_to_string(state.log()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN)..].join("\n")
}
