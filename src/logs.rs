//! Logs: what goes to standard error, and the steps' logs with secrets masked.

use std::io::IsTerminal as _;

use kedge_engine::ports::LogSink;
use kedge_engine::store::ReadError;
use kedge_stores::FileLogs;
use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;

/// Shortest text that is masked: shorter ones are words of the language, and no secret.
const MIN_SECRET: usize = 6;

/// Step logs without the configuration's secrets.
pub(crate) struct MaskedLogs {
    files: FileLogs,
    secrets: Vec<String>,
}

impl MaskedLogs {
    /// Over files, masking these.
    pub(crate) fn new(files: FileLogs, secrets: Vec<String>) -> Self {
        Self { files, secrets: secrets.into_iter().filter(|secret| secret.len() >= MIN_SECRET).collect() }
    }

    fn masked(&self, line: &str) -> String {
        self.secrets.iter().fold(line.to_owned(), |line, secret| line.replace(secret, "***"))
    }
}

impl LogSink for MaskedLogs {
    fn append(&self, task: &str, step: &str, line: &str) {
        self.files.append(task, step, &self.masked(line));
    }

    fn read(&self, task: &str, step: &str) -> Result<Option<String>, ReadError> {
        self.files.read(task, step)
    }

    fn remove(&self, task: &str) -> Result<(), ReadError> {
        LogSink::remove(&self.files, task)
    }
}

/// Starts the log on standard error: pretty in a terminal, JSON on demand. `RUST_LOG` chooses what is shown.
pub(crate) fn start(format: Option<LogFormat>) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        Some(LogFormat::Json) => log.json().with_current_span(true).with_span_list(true).init(),
        Some(LogFormat::Pretty) => log.with_ansi(true).init(),
        None => log.with_ansi(std::io::stderr().is_terminal()).init(),
    }
}
