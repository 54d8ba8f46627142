//! What a port fails with, in classes that decide what the saga does next. Never carries a secret or a command's environment.

use kedge_engine::step::StepError;
use thiserror::Error;

/// Why a port could not do what was asked. Texts name the thing concerned (path, database, site, host).
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PortError {
    /// It cannot work as asked, now or later: bad input, missing tool, failed check.
    #[error("{0}")]
    Refused(String),
    /// It may work later: server down, host unreachable, lock wait, too many connections, a file system that is read-only since an error.
    #[error("{0}")]
    Unavailable(String),
    /// It was begun and its end is unknown: the connection to the host was lost meanwhile.
    #[error("{0}")]
    Lost(String),
    /// The thing exists and does not carry our mark, or somebody changed it since: nothing was touched.
    #[error("{0}")]
    NotOurs(String),
    /// A file system is full, out of inodes or over quota; what was half written is removed.
    #[error("{0}")]
    NoSpace(String),
}

/// Result of a port call.
pub type PortResult<T> = Result<T, PortError>;

impl From<PortError> for StepError {
    fn from(error: PortError) -> Self {
        match error {
            PortError::Refused(what) | PortError::NotOurs(what) => StepError::fatal(what),
            // Room comes back: a step before the point of no return gives up after a few attempts, an undo waits for it.
            PortError::Unavailable(what) | PortError::NoSpace(what) => StepError::retryable(what),
            PortError::Lost(what) => StepError::in_doubt(what),
        }
    }
}
