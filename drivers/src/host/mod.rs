//! Hosts: machines reached locally, by docker exec, or over SSH. The only place that starts processes.
//! Never builds a shell string from input, never puts a secret into an argument vector.

mod custody;
mod docker;
mod local;
mod machine;
mod pipes;
mod running;
mod ssh;

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use kedge_workflows::ports::{PortError, PortResult, Scope};
use memchr::memmem;

pub use custody::Custody;
pub use docker::DockerHost;
pub use local::LocalHost;
pub use ssh::{SshHost, SshOptions};

/// Most bytes kept of a command's standard error: enough for the message that matters, bounded against floods.
pub const MAX_STDERR: usize = 64 * 1024;
/// Most bytes of standard output collected by [`Host::run`]; more is an error (use [`Host::stream`]).
pub const MAX_STDOUT: usize = 16 * 1024 * 1024;

/// Bytes for a command's standard input.
pub type Input = Pin<Box<dyn Stream<Item = PortResult<Bytes>> + Send>>;
/// Bytes of a command's standard output.
pub type Output = Pin<Box<dyn Stream<Item = PortResult<Bytes>> + Send>>;

/// A machine.
///
/// Promises: a command runs with exactly this argument vector; its environment is small, fixed (`LC_ALL=C`, `PATH`) plus
/// `Command::env` plus `KEDGE_ATTEMPT=<instance>/<task>/<step>/<token of this command>` (parts percent-escaped), by which survivors
/// are found; dropping the future or stream of a command ends the command and all its descendants on the machine (best effort at
/// once, for certain by [`Host::clear`]). A command ends when its process has ended and nothing holds its outputs any more. It
/// has no terminal and nobody to answer questions. A program that is not there is exit status 127, as in a shell.
///
/// Failures that are not the command's own: `Unavailable` when it was not begun or was ended by its time limit, `Lost` when its
/// end is unknown, `Refused` when only a person can help (host key changed, sudo wants a password, more output than [`MAX_STDOUT`]).
#[async_trait]
pub trait Host: Send + Sync + 'static {
    /// Its name in the configuration.
    fn name(&self) -> &str;

    /// Runs a command to its end and collects its output (bounded).
    async fn run(&self, command: Command) -> PortResult<Finished>;

    /// Starts a command whose standard output is read as a stream. The stream ends with an error if the exit status is not 0.
    async fn stream(&self, command: Command) -> PortResult<Output>;

    /// Ends every process on this machine that was started for the scope's task (all its steps when `step` is empty) by this
    /// instance, in this life or an earlier one, and returns when none is left. Found by `KEDGE_ATTEMPT` in `/proc/*/environ`,
    /// so that process groups and sessions of their own do not hide anything.
    async fn clear(&self, scope: &Scope) -> PortResult<()>;
}

/// A command to run on a host.
pub struct Command {
    /// Program and arguments. Never a secret.
    pub argv: Vec<String>,
    /// More environment. Never a secret: other users' processes may read it.
    pub env: Vec<(String, String)>,
    /// Standard input.
    pub stdin: Stdin,
    /// The user to run as; `None`: root (by `sudo -n` where the host is configured so).
    pub user: Option<String>,
    /// It is ended when it takes longer.
    pub limit: Duration,
    /// On whose behalf it runs.
    pub scope: Scope,
}

/// What a command reads.
pub enum Stdin {
    /// Nothing.
    Empty,
    /// These bytes (the way for secrets).
    Bytes(Vec<u8>),
    /// A stream; an error in it ends the command, which then fails with that error.
    Stream(Input),
}

impl Command {
    /// A command of a program and its arguments, run as root without input, with a limit of ten minutes.
    pub fn new<A: Into<String>>(scope: &Scope, argv: impl IntoIterator<Item = A>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            stdin: Stdin::Empty,
            user: None,
            limit: Duration::from_secs(600),
            scope: scope.clone(),
        }
    }

    /// Sets standard input to these bytes.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Stdin::Bytes(bytes.into());
        self
    }

    /// Sets standard input to a stream.
    #[must_use]
    pub fn input_stream(mut self, input: Input) -> Self {
        self.stdin = Stdin::Stream(input);
        self
    }

    /// Sets the user to run as.
    #[must_use]
    pub fn as_user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Sets the time limit.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Adds to the environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// The program's name, for messages.
    #[must_use]
    pub fn program(&self) -> &str {
        self.argv.first().map_or("", |program| program.rsplit('/').next().unwrap_or(program))
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command").field("argv", &self.argv).field("user", &self.user).finish_non_exhaustive()
    }
}

/// A command that ended by itself.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Exit status; 128 + n when a signal n ended it.
    pub status: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error, its last [`MAX_STDERR`] bytes.
    pub stderr: Vec<u8>,
}

impl Finished {
    /// The output, if the status was 0.
    ///
    /// # Errors
    /// With `what`, the status and the end of standard error: `NoSpace` when a file system is full, `Unavailable` when the machine
    /// is out of memory or processes, else `Refused`; a program that is not there is named.
    pub fn success(self, what: &str) -> PortResult<Vec<u8>> {
        if self.status == 0 {
            return Ok(self.stdout);
        }
        let said = self.last_error();
        if let Some(program) = missing_program(self.status, &said) {
            return Err(PortError::Refused(format!("{what}: install {program} there")));
        }
        let whole = format!("{what}: exit status {}: {said}", self.status);
        Err(self.failure(whole))
    }

    /// What the end of standard error makes of a failure, told in these words.
    pub(crate) fn failure(&self, words: String) -> PortError {
        let says =
            |list: &[&str]| list.iter().any(|text| memmem::find(&self.stderr, text.as_bytes()).is_some());
        if says(&["No space left on device", "Disk quota exceeded"]) {
            PortError::NoSpace(words)
        } else if says(&[
            "Cannot allocate memory",
            "Resource temporarily unavailable",
            "Too many open files",
            // Whoever repairs the disk makes them pass.
            "Read-only file system",
            "Input/output error",
        ]) {
            PortError::Unavailable(words)
        } else {
            PortError::Refused(words)
        }
    }

    /// The end of standard error as text, at most 500 characters.
    #[must_use]
    pub fn last_error(&self) -> String {
        let text = String::from_utf8_lossy(&self.stderr);
        let text = text.trim();
        let skip = text.chars().count().saturating_sub(500);
        text.chars().skip(skip).collect()
    }
}

/// The program that `env`, `xargs` or a shell did not find, if that is why they failed.
fn missing_program(status: i32, said: &str) -> Option<&str> {
    let line = said.lines().last().filter(|_| status == 127)?;
    let named =
        line.strip_suffix(": No such file or directory").or_else(|| line.strip_suffix(": not found"))?;
    named.rsplit(": ").next().map(|program| program.trim_matches(['\'', '"', '‘', '’']))
}

#[cfg(test)]
mod contract;

#[cfg(test)]
mod tests;
