//! What can go wrong with a test host, each error with the thing concerned and a way out. Never a secret.

use std::path::PathBuf;
use std::time::Duration;

/// Everything that this crate can fail with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No Docker engine answers, and this process cannot bring one up. The text is one sentence that says why.
    #[error("{0}")]
    NoDocker(String),
    /// A program on this machine failed; the tail of its output is part of the text.
    #[error("{doing} failed: {detail}")]
    Program {
        /// What was being done, as a noun phrase.
        doing: String,
        /// The last lines that it printed, or why it could not run.
        detail: String,
    },
    /// Docker refused something.
    #[error("docker: {doing}")]
    Docker {
        /// What was being done.
        doing: String,
        /// Docker's answer.
        source: Box<bollard::errors::Error>,
    },
    /// An image could not be built; the tail of the build's output is part of the text.
    #[error("building {image} failed: {detail}")]
    Build {
        /// Tag of the image.
        image: String,
        /// The last lines of the build.
        detail: String,
    },
    /// A condition was not met in time, or can no longer be met.
    #[error("{what} after {} s; {detail}", waited.as_secs())]
    NotReady {
        /// What did not happen, with the name of the host.
        what: String,
        /// How long was waited.
        waited: Duration,
        /// The last failed check and the tail of the host's log.
        detail: String,
    },
    /// A command in a host could not be run to its end, or ended with another code than 0 where 0 was demanded.
    #[error("`{command}` in {host}: {detail}")]
    Command {
        /// Name of the container.
        host: String,
        /// The command's first arguments.
        command: String,
        /// Exit code and the tail of its standard error, or the limit that it broke.
        detail: String,
    },
    /// A file of this machine.
    #[error("{}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A specification that cannot be met.
    #[error("{0}")]
    Spec(String),
}

/// Short for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn docker(doing: impl Into<String>) -> impl FnOnce(bollard::errors::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Docker { doing, source: Box::new(source) }
    }
}

/// Number of lines that an error quotes from a program's output: enough to see why, short enough to read.
const TAIL_LINES: usize = 12;

/// Length of a quoted line: some programs print all their arguments.
const TAIL_COLUMNS: usize = 300;

/// The last lines of an output, for an error.
pub(crate) fn tail(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let shorten = |line: &str| line.trim_end().chars().take(TAIL_COLUMNS).collect::<String>();
    let lines: Vec<String> = text.lines().map(shorten).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_keeps_the_end() {
        let output = (0..40).map(|n| format!("line {n}\n\n")).collect::<String>();
        let tail = tail(output.as_bytes());
        assert_eq!(tail.lines().count(), TAIL_LINES);
        assert_eq!(super::tail("ü".repeat(1000).as_bytes()).chars().count(), TAIL_COLUMNS);
        assert!(tail.starts_with("line 28") && tail.ends_with("line 39"), "{tail}");
    }
}
