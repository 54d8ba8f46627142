//! The ports: what the workflows need from the world, one file a resource. Drivers implement them; `testing` has fakes and the
//! contract suites that fakes and drivers both pass. No I/O happens here.
//!
//! Rules every implementation keeps:
//! - Everything a caller creates is named by the caller beforehand, and creating it again is a success when it is ours.
//! - Removing what is not there is a success; removing what is not ours is [`PortError::NotOurs`], never an act.
//! - A handle is bound to one attempt ([`Scope`]); dropping a future ends its commands, on remote hosts too.
//! - Nothing secret is in an error, an argument vector or a log.

mod app;
mod backups;
mod commands;
mod database;
mod error;
mod files;
mod secrets;
mod web_server;

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;

pub use app::*;
pub use backups::*;
pub use commands::*;
pub use database::*;
pub use error::*;
pub use files::*;
pub use secrets::*;
pub use web_server::*;

/// Bytes on their way from one port to another. The stream ends with an error when its producer failed, also at its very end:
/// a consumer that saw a clean end has everything.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, PortError>> + Send>>;

/// The attempt on whose behalf a port works: marks its commands, so that none outlives it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    /// The task's id.
    pub task: String,
    /// The step's name within the plan.
    pub step: String,
}

/// Everything the workflows reach, by the names of the configuration.
pub trait World: Send + Sync + 'static {
    /// The web server of that name.
    fn web_server(&self, name: &str, scope: &Scope) -> Result<Arc<dyn WebServer>, PortError>;
    /// The files of the host that a web server runs on.
    fn files(&self, web_server: &str, scope: &Scope) -> Result<Arc<dyn Files>, PortError>;
    /// The database server of that name.
    fn database(&self, name: &str, scope: &Scope) -> Result<Arc<dyn Database>, PortError>;
    /// The application driver of a platform, which is of this kind, acting on the host that its web server runs on.
    fn app(
        &self,
        web_server: &str,
        platform: &str,
        kind: AppKind,
        scope: &Scope,
    ) -> Result<Arc<dyn App>, PortError>;
    /// Where commands of the operator's own run.
    fn commands(&self, host: &str, scope: &Scope) -> Result<Arc<dyn Commands>, PortError>;
    /// Where backups are kept.
    fn backups(&self, scope: &Scope) -> Arc<dyn Backups>;
    /// The secrets of sites.
    fn secrets(&self) -> Arc<dyn Secrets>;
}
