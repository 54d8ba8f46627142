//! What the face shows that the engine does not know: it asks this port, which the binary implements. Reads only.

use futures::future::BoxFuture;
use kedge_engine::task::TaskId;
use serde_json::Value;

/// Answers what neither a task nor the registry tells.
pub trait Desk: Send + Sync + 'static {
    /// The login link that a task made, while it is good. The error says why it cannot be told, without the link.
    fn login_link(&self, task: &TaskId) -> BoxFuture<'_, Result<Option<String>, String>>;

    /// What a site on a platform is made of, against another platform: `{"rows": [...], "errors": n, "warnings": n}`. Without a site,
    /// the one platform against the other.
    fn compare(&self, from: &str, to: &str, site: Option<&str>) -> BoxFuture<'_, Result<Value, DeskError>>;
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeskError {
    /// There is no such thing.
    Unknown(String),
    /// It cannot be answered as asked.
    Refused(String),
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
        Box::pin(std::future::ready(Err(DeskError::Unknown("nothing is known here".to_owned()))))
    }
}
