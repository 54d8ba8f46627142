//! What the registry has to say still for a plan to be carried out: a plan that waited may be older than what it is about, and no task
//! writes old knowledge over new.

use kedge_engine::context::Cx;
use kedge_engine::step::{Query, Step, StepError};
use serde::{Deserialize, Serialize};

use crate::names::SiteName;
use crate::place::{Names, Place, Store};
use crate::ports::World;
use crate::records::{SITE, SiteRecord, SiteState, has_alias};

/// Asks the registry, and nothing else, so that it can be done about a site of which pieces are missing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AskRegistry {
    /// Where the site is known to be.
    pub(crate) place: Place,
    /// Its database.
    pub(crate) store: Store,
    /// Whether visitors are served, where that makes a difference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<SiteState>,
    /// The side that will take its place: its names have to be free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<Place>,
}

impl Step for AskRegistry {
    type Ports = dyn World;
    type Output = ();
    type Mode = Query;
    const KIND: &'static str = "ask_registry";

    fn title(&self) -> String {
        format!("ask the registry whether {} is as it was", self.place.site)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        demand_unchanged(cx, &self.place, &self.store, self.state)?;
        match &self.to {
            Some(to) => demand_free(cx, &to.all_names(), &[&self.place.site]),
            None => Ok(()),
        }
    }
}

/// Whether the site still is where it was when the plan was made: another task may have moved it while this one waited for its lock.
pub(super) fn demand_unchanged(
    cx: &Cx<'_, dyn World>,
    place: &Place,
    store: &Store,
    state: Option<SiteState>,
) -> Result<(), StepError> {
    let record: Option<SiteRecord> = cx.record(SITE, place.site.as_str())?;
    let same = record.is_some_and(|now| {
        let names = matches!(&store.names, Names::Known { schema, user } if *schema == now.schema && *user == now.user);
        names
            && (&now.platform, &now.dir, &now.aliases) == (&place.platform, &place.dir, &place.aliases)
            && (&now.reach, now.quiet) == (&place.reach, place.quiet)
            && (&now.database_server, &now.password) == (&store.server, &store.password)
            && state.is_none_or(|state| state == now.state)
    });
    if same { Ok(()) } else { Err(changed(&place.site)) }
}

/// The site as the registry knows it now, which has to be what the plan knew, but for what no plan is made of: whose it is, what it can be
/// taken back by, when it was looked at.
pub(super) fn still(cx: &Cx<'_, dyn World>, planned: &SiteRecord) -> Result<SiteRecord, StepError> {
    let now: Option<SiteRecord> = cx.record(SITE, planned.name.as_str())?;
    let same = |now: &SiteRecord| {
        let planned = SiteRecord {
            client: now.client.clone(),
            cloned_from: now.cloned_from.clone(),
            task: now.task.clone(),
            changed_at: now.changed_at,
            verified_at: now.verified_at,
            ..planned.clone()
        };
        planned == *now
    };
    now.filter(same).ok_or_else(|| changed(&planned.name))
}

fn changed(site: &SiteName) -> StepError {
    StepError::fatal(format!(
        "another task has changed {site} while this one waited for it; look at the site and ask again"
    ))
}

/// Whether nobody has the names of a new side but the sites whose place it takes: another task may have taken one meanwhile, on whatever
/// web server.
pub(super) fn demand_free(
    cx: &Cx<'_, dyn World>,
    names: &[SiteName],
    leaves: &[&SiteName],
) -> Result<(), StepError> {
    for (owner, site) in cx.records(SITE)? {
        if leaves.iter().any(|leaves| leaves.as_str() == owner) {
            continue;
        }
        if let Some(name) = names.iter().find(|name| name.as_str() == owner || has_alias(&site, name)) {
            return Err(StepError::fatal(format!(
                "{name} is a name of the site {owner} by now; take it from there, or ask for another one"
            )));
        }
    }
    Ok(())
}
