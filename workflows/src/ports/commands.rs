//! Commands of the operator's own on a host. What they do is nobody's business here; that none outlives its attempt is.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::PortResult;

/// A command: a program and its arguments, without a shell in between. Never a secret: it stands in plans.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnCommand {
    /// What it is called.
    pub name: String,
    /// The host that it runs on.
    pub host: String,
    /// Program and arguments.
    pub run: Vec<String>,
    /// Whom it runs as; root by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// It is ended when it takes longer, in milliseconds.
    pub limit_ms: u64,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandEnd {
    /// Its exit status.
    pub status: i32,
    /// The end of what it said, a few KiB at most.
    pub said: String,
}

/// Runs commands on one host.
#[async_trait]
pub trait Commands: Send + Sync {
    /// Runs one to its end, with this environment beside its own and nothing to read. A status other than 0 is no error of the port; one
    /// that cannot be found ends with 127.
    async fn run(&self, command: &OwnCommand, env: &[(&str, &str)]) -> PortResult<CommandEnd>;
}
