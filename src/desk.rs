//! What the HTTP face shows beside tasks and records: login links, from the secrets, and comparisons of platforms, looked up on their
//! hosts. Reads only.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use kedge_engine::task::TaskId;
use kedge_webhooks::{Desk, DeskError};
use kedge_workflows::compare::{CompareError, compare_platforms};
use kedge_workflows::login_secret;
use kedge_workflows::names::SiteName;
use kedge_workflows::ports::{PortError, World as _};
use serde_json::{Value, json};

use crate::facts::KnownFacts;
use crate::world::LiveWorld;

/// Longest look at two platforms: somebody waits for the answer.
const LOOK_LIMIT: Duration = Duration::from_secs(60);

/// The desk of a running service.
pub(crate) struct LiveDesk {
    world: Arc<LiveWorld>,
    facts: Arc<KnownFacts>,
}

impl LiveDesk {
    /// Over this world.
    pub(crate) fn new(world: Arc<LiveWorld>, facts: Arc<KnownFacts>) -> Self {
        Self { world, facts }
    }
}

impl Desk for LiveDesk {
    fn login_link(&self, task: &TaskId) -> BoxFuture<'_, Result<Option<String>, String>> {
        let (secrets, name) = (self.world.secrets(), login_secret(task));
        async move {
            let link = secrets.get(&name).await.map_err(|error| error.to_string())?;
            Ok(link.map(|link| link.expose().to_owned()))
        }
        .boxed()
    }

    fn compare(&self, from: &str, to: &str, site: Option<&str>) -> BoxFuture<'_, Result<Value, DeskError>> {
        let (from, to, site) = (from.to_owned(), to.to_owned(), site.map(SiteName::parse));
        async move {
            let site = site.transpose().map_err(|error| DeskError::Unknown(error.to_string()))?;
            let look = compare_platforms(&*self.world, &*self.facts, (&from, &to), site.as_ref());
            let table = tokio::time::timeout(LOOK_LIMIT, look).await.map_err(|_| {
                DeskError::Failed(format!("the look took longer than {} seconds", LOOK_LIMIT.as_secs()))
            })?;
            let table = table.map_err(|error| match error {
                CompareError::Unknown(what) => DeskError::Unknown(what),
                CompareError::Refused(what) | CompareError::Port(PortError::Refused(what)) => {
                    DeskError::Refused(what)
                }
                CompareError::Read(error) => DeskError::Failed(error.to_string()),
                CompareError::Port(error) => DeskError::Failed(error.to_string()),
            })?;
            let (errors, warnings) = (table.errors().count(), table.warnings().count());
            Ok(json!({ "from": from, "to": to, "site": site, "errors": errors, "warnings": warnings, "rows": table.rows }))
        }
        .boxed()
    }
}
