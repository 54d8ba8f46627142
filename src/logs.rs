//! Logs: what goes to standard error, and the steps' logs with secrets masked.

use std::io::IsTerminal as _;
use std::sync::Arc;

use kedge_engine::ports::LogSink;
use kedge_engine::store::ReadError;
use kedge_stores::FileLogs;
use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;
use crate::world::LiveWorld;

/// Shortest text that is masked: shorter ones are words of the language, and no secret.
const MIN_SECRET: usize = 6;

/// Step logs without the secrets of the configuration of the moment.
pub(crate) struct MaskedLogs {
    files: FileLogs,
    world: Arc<LiveWorld>,
}

impl MaskedLogs {
    /// Over files, masking what this world's configuration knows.
    pub(crate) fn new(files: FileLogs, world: Arc<LiveWorld>) -> Self {
        Self { files, world }
    }

    fn masked(&self, line: &str) -> String {
        let now = self.world.now();
        let secrets = now.config.secrets.iter().filter(|secret| secret.len() >= MIN_SECRET);
        secrets.fold(line.to_owned(), |line, secret| line.replace(secret.as_str(), "***"))
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
