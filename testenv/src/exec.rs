//! Commands inside a host, for tests: bounded in time and output. Not a driver: Kedge has its own way in.

use std::time::Duration;

use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecResults};
use futures::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::time::{sleep, timeout};

use crate::docker::{Docker, POLL};
use crate::error::{Error, Result, tail};

/// Output that a command may give, each stream: a dump of a test site fits, a runaway does not fill the memory.
const OUTPUT_BOUND: usize = 64 * 1024 * 1024;
/// Time that a command gets unless it asks for another.
const DEFAULT_LIMIT: Duration = Duration::from_secs(120);
/// What is granted on top, for the command's `timeout` to end it and Docker to say so.
const GRACE: Duration = Duration::from_secs(15);

/// A command to run in a host.
#[derive(Debug, Clone)]
pub struct Exec {
    argv: Vec<String>,
    stdin: Vec<u8>,
    user: String,
    env: Vec<String>,
    limit: Duration,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Exit code; 127 when there is no such program.
    pub code: i64,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Exec {
    /// A program with its arguments, run as root with an empty standard input.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            stdin: Vec::new(),
            user: "root".into(),
            env: Vec::new(),
            limit: DEFAULT_LIMIT,
        }
    }

    /// What it reads.
    #[must_use]
    pub fn stdin(mut self, stdin: impl Into<Vec<u8>>) -> Self {
        self.stdin = stdin.into();
        self
    }

    /// Who runs it, such as `www-data`.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = user.into();
        self
    }

    /// A variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push(format!("{name}={value}"));
        self
    }

    /// Time after which it is killed with its children, and counts as failed.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Its first words, for errors.
    fn title(&self) -> String {
        self.argv.iter().take(4).cloned().collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn error(&self, host: &str, detail: impl Into<String>) -> Error {
        Error::Command { host: host.to_owned(), command: self.title(), detail: detail.into() }
    }
}

impl Output {
    /// Standard output as text, without the last line's end.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }

    /// Whether it ended with 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.code == 0
    }

    /// The code, and the end of what it said on standard error.
    pub(crate) fn describe(&self) -> String {
        format!(
            "exit code {}: {}",
            self.code,
            tail(if self.stderr.is_empty() { &self.stdout } else { &self.stderr })
        )
    }
}

/// Runs a command in a container to its end. `timeout` inside the container ends it with all its children.
pub(crate) async fn run(docker: &Docker, container: &str, exec: Exec) -> Result<Output> {
    let limit = exec.limit;
    match timeout(limit + GRACE, attached(docker, container, &exec)).await {
        // 124: timeout(1) had to end it; 137: even by SIGKILL.
        Ok(Ok(output)) if output.code == 124 => {
            Err(exec.error(container, format!("killed after {} s; {}", limit.as_secs(), output.describe())))
        }
        Ok(result) => result,
        Err(_) => Err(exec.error(container, format!("no end after {} s", (limit + GRACE).as_secs()))),
    }
}

async fn attached(docker: &Docker, container: &str, exec: &Exec) -> Result<Output> {
    let doing = || format!("running `{}` in {container}", exec.title());
    let seconds = exec.limit.as_secs_f32().to_string();
    let wrapper = ["timeout", "--kill-after=5", &seconds].map(str::to_owned);
    let options = CreateExecOptions {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        user: Some(exec.user.clone()),
        env: Some(exec.env.clone()),
        cmd: Some(wrapper.into_iter().chain(exec.argv.iter().cloned()).collect()),
        ..CreateExecOptions::default()
    };
    let id = docker.api.create_exec(container, options).await.map_err(Error::docker(doing()))?.id;
    let started = docker.api.start_exec(&id, None).await.map_err(Error::docker(doing()))?;
    let StartExecResults::Attached { mut output, mut input } = started else {
        return Err(exec.error(container, "Docker detached it"));
    };
    let feed = async {
        // A command may end without reading its input; its exit code tells whether that was an error.
        if input.write_all(&exec.stdin).await.is_ok() {
            let _ = input.shutdown().await;
        }
    };
    let collect = async {
        let mut streams = (Vec::new(), Vec::new());
        while let Some(part) = output.next().await {
            let (stream, bytes) = match part.map_err(Error::docker(doing()))? {
                LogOutput::StdErr { message } => (&mut streams.1, message),
                LogOutput::StdOut { message } | LogOutput::Console { message } => (&mut streams.0, message),
                LogOutput::StdIn { .. } => continue,
            };
            if stream.len() + bytes.len() > OUTPUT_BOUND {
                return Err(exec.error(container, format!("more than {OUTPUT_BOUND} bytes of output")));
            }
            stream.extend_from_slice(&bytes);
        }
        Ok(streams)
    };
    // Both at once: a command that answers while it reads would otherwise block.
    let ((), streams) = tokio::join!(feed, collect);
    let (stdout, stderr) = streams?;
    loop {
        let state = docker.api.inspect_exec(&id).await.map_err(Error::docker(doing()))?;
        if let (Some(false), Some(code)) = (state.running, state.exit_code) {
            return Ok(Output { code, stdout, stderr });
        }
        sleep(POLL).await; // its streams close a moment before Docker knows its code
    }
}
