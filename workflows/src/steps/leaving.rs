//! What has to hold of a side that is given up, before anything is done: that it can be moved aside, and that its writes can be stopped.

use kedge_engine::step::StepError;

use crate::names::DatabaseName;
use crate::place::{Place, Store};
use crate::ports::{Database, DatabaseFacts, Files, PortResult, Stat};

/// A side that goes is renamed into the trash beside it: refuses what nobody can rename, before anything is done.
pub(super) async fn demand_movable(files: &dyn Files, place: &Place, dir: &Stat) -> Result<(), StepError> {
    let sites = place.sites_dir();
    if files.stat(&sites).await?.is_some_and(|sites| sites.device != dir.device) {
        return Err(StepError::fatal(format!(
            "{} is on a file system of its own, and cannot be moved within {sites}: mount that at {sites}, or elsewhere with a link to what \
             is in it",
            place.dir
        )));
    }
    if !files.free(&sites).await?.writable {
        return Err(StepError::fatal(format!(
            "the file system of {sites} is read-only, so that {} could not be moved",
            place.dir
        )));
    }
    Ok(())
}

/// A fence locks the site's database account and ends its sessions: refuses one on which others depend, and a server that does not show
/// the sessions.
pub(super) async fn demand_fence(
    server: &dyn Database,
    store: &Store,
    schema: &DatabaseName,
    user: &DatabaseName,
) -> Result<(), StepError> {
    let reach = reach_beyond(server, schema, user).await?;
    if !reach.is_empty() {
        return Err(StepError::fatal(format!(
            "the database user {user} of the site has rights on more than {schema} ({}), and would be locked: give whoever uses those a user \
             of its own first",
            reach.join(", ")
        )));
    }
    demand_sessions(server, &store.server).await
}

/// The schemas besides its own that a site's user has rights on: somebody else depends on it.
pub(super) async fn reach_beyond(
    server: &dyn Database,
    schema: &DatabaseName,
    user: &DatabaseName,
) -> PortResult<Vec<String>> {
    let mut reach = server.reach(user).await?;
    reach.retain(|other| other != schema.as_str());
    Ok(reach)
}

pub(super) async fn demand_sessions(server: &dyn Database, name: &str) -> Result<(), StepError> {
    if server.sees_sessions().await? {
        return Ok(());
    }
    Err(StepError::fatal(format!(
        "Kedge's account on {name} does not see the sessions of others, so that it could not tell when the site writes no more: GRANT PROCESS \
         ON *.* to it"
    )))
}

pub(super) fn demand_writable(facts: &DatabaseFacts, server: &str) -> Result<(), StepError> {
    if facts.read_only {
        return Err(StepError::fatal(format!("the database server {server} refuses writes (read_only)")));
    }
    Ok(())
}
