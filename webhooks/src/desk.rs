//! What the face shows and changes that the engine does not know: it asks this port, which the binary implements.

use std::fmt;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use kedge_engine::task::TaskId;
use serde_json::Value;

/// Answers what neither a task nor the registry tells.
pub trait Desk: Send + Sync + 'static {
    /// The login link that a task made, while it is good. The error says why it cannot be told, without the link.
    fn login_link(&self, task: &TaskId) -> BoxFuture<'_, Result<Option<String>, String>>;

    /// What a site on a platform is made of, against another platform: `{"rows": [...], "errors": n, "warnings": n}`. Without a site,
    /// the one platform against the other.
    fn compare(&self, from: &str, to: &str, site: Option<&str>) -> BoxFuture<'_, Result<Value, DeskError>>;

    /// Adds a platform to those of the configuration; durable when it returns. Gives its record.
    fn add_platform(&self, platform: NewPlatform) -> BoxFuture<'_, Result<Value, DeskError>>;

    /// Takes one away again that was added so, and that nothing lives on.
    fn remove_platform(&self, name: &str) -> BoxFuture<'_, Result<(), DeskError>>;

    /// The archive of a backup that the registry knows, from its beginning.
    fn archive(&self, backup: &str) -> BoxFuture<'_, Result<Archive, DeskError>>;
}

/// An archive that is read while it is sent.
pub struct Archive {
    /// How long it is.
    pub bytes: u64,
    /// Its bytes. After an error there is nothing more.
    pub stream: BoxStream<'static, std::io::Result<Bytes>>,
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Archive({} bytes)", self.bytes)
    }
}

/// A platform that somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPlatform {
    /// Its name.
    pub name: String,
    /// A configured web server.
    pub web_server: String,
    /// Its root directory.
    pub root: String,
    /// Its application, by the word of the configuration.
    pub app: String,
    /// For Drupal: the drush to use where the platform has none of its own.
    pub drush: Option<String>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeskError {
    /// There is no such thing.
    Unknown(String),
    /// It cannot be answered as asked.
    Refused(String),
    /// A field of what was sent does not fit: its name, and what would.
    Unfit(Vec<(&'static str, String)>),
    /// It may be answered later.
    Failed(String),
}

/// A desk that knows nothing: for faces without a world.
pub struct EmptyDesk;

impl Desk for EmptyDesk {
    fn login_link(&self, _: &TaskId) -> BoxFuture<'_, Result<Option<String>, String>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn compare(&self, _: &str, _: &str, _: Option<&str>) -> BoxFuture<'_, Result<Value, DeskError>> {
        Box::pin(std::future::ready(Err(nothing())))
    }

    fn add_platform(&self, _: NewPlatform) -> BoxFuture<'_, Result<Value, DeskError>> {
        Box::pin(std::future::ready(Err(nothing())))
    }

    fn remove_platform(&self, _: &str) -> BoxFuture<'_, Result<(), DeskError>> {
        Box::pin(std::future::ready(Err(nothing())))
    }

    fn archive(&self, _: &str) -> BoxFuture<'_, Result<Archive, DeskError>> {
        Box::pin(std::future::ready(Err(nothing())))
    }
}

fn nothing() -> DeskError {
    DeskError::Unknown("nothing is known here".to_owned())
}
