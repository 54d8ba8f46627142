//! The pivots: one write to the registry, atomic with the journal's event, so never in doubt. They touch nothing else.

use kedge_engine::context::Cx;
use kedge_engine::step::{Pivot, Step, StepError};
use serde::{Deserialize, Serialize};

use crate::place::{Place, Store};
use crate::ports::World;
use crate::records::{SITE, SiteRecord, SiteState, TRASH, TrashRecord};

fn record_of(
    cx: &Cx<'_, dyn World>,
    place: &Place,
    store: &Store,
    client: Option<String>,
) -> Result<SiteRecord, StepError> {
    let (schema, user) = store.known(cx)?;
    Ok(SiteRecord {
        name: place.site.clone(),
        aliases: place.aliases.clone(),
        client,
        platform: place.platform.clone(),
        dir: place.dir.clone(),
        database_server: store.server.clone(),
        schema,
        user,
        password: store.password.clone(),
        state: SiteState::Enabled,
        task: cx.task.to_string(),
        changed_at: cx.now,
    })
}

/// Enters a new site.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CommitInstall {
    /// Where it is.
    pub(crate) to: Place,
    /// Its database.
    pub(crate) store: Store,
    /// Whose it is.
    pub(crate) client: Option<String>,
}

impl Step for CommitInstall {
    type Ports = dyn World;
    type Output = ();
    type Mode = Pivot;
    const KIND: &'static str = "commit_install";

    fn title(&self) -> String {
        format!("enter {} into the registry: from here on it exists", self.to.site)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        cx.put_record(
            SITE,
            self.to.site.as_str(),
            &record_of(cx, &self.to, &self.store, self.client.clone())?,
        )
    }
}

/// Points a site to its new side and puts the old one into the trash.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CommitMove {
    /// The side that is left.
    pub(crate) old: SiteRecord,
    /// Where its directory is kept.
    pub(crate) old_trash: String,
    /// How long, in milliseconds.
    pub(crate) hold_ms: u64,
    /// The new side.
    pub(crate) to: Place,
    /// Its database.
    pub(crate) store: Store,
    /// The task whose trash the new side comes from, if it does.
    pub(crate) takes_back: Option<String>,
}

/// What a task reports of a move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moved {
    /// The platform now.
    pub(crate) platform: String,
    /// The site's name now.
    pub(crate) site: String,
    /// Until when the old side is kept, in milliseconds since 1970.
    pub(crate) kept_until: u64,
}

impl Step for CommitMove {
    type Ports = dyn World;
    type Output = Moved;
    type Mode = Pivot;
    const KIND: &'static str = "commit_move";

    fn title(&self) -> String {
        format!("decide: {} is on {} from here on", self.to.site, self.to.platform)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<Moved, StepError> {
        if self.old.name != self.to.site {
            cx.delete_record(SITE, self.old.name.as_str());
        }
        cx.put_record(
            SITE,
            self.to.site.as_str(),
            &record_of(cx, &self.to, &self.store, self.old.client.clone())?,
        )?;
        if let Some(task) = &self.takes_back {
            cx.delete_record(TRASH, task);
        }
        let until = cx.now.saturating_add(self.hold_ms);
        let site = SiteRecord { dir: self.old_trash.clone(), ..self.old.clone() };
        cx.put_record(TRASH, cx.task.as_str(), &TrashRecord { site, until })?;
        Ok(Moved { platform: self.to.platform.clone(), site: self.to.site.to_string(), kept_until: until })
    }

    fn reports(&self) -> bool {
        true
    }
}
