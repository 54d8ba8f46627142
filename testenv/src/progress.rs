//! How a caller hears what a long preparation is doing. Never decides anything.

use std::fmt;
use std::sync::Arc;

/// Takes one line per stage, such as "building the host image, about 90 seconds". Every line also goes to `tracing`.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(&str) + Send + Sync>);

impl Progress {
    /// Calls `report` with each line.
    pub fn new(report: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(report))
    }

    /// Only `tracing` hears it.
    #[must_use]
    pub fn silent() -> Self {
        Self::new(|_| ())
    }

    /// Lines on standard error.
    #[must_use]
    pub fn stderr() -> Self {
        Self::new(|line| eprintln!("testenv: {line}"))
    }

    pub(crate) fn say(&self, line: impl AsRef<str>) {
        tracing::info!(target: "kedge_testenv", "{}", line.as_ref());
        (self.0)(line.as_ref());
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}
