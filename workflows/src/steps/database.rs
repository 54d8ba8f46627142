//! Steps on databases: the new schema and user, its events, the write fence on the old. What is in it comes by `copy_database`.

use kedge_engine::context::Cx;
use kedge_engine::retry::Policy;
use kedge_engine::step::{Compensable, Compensate, Ref, Retriable, Step, StepError};
use serde::{Deserialize, Serialize};

use super::preflight::Found;
use crate::names::SiteName;
use crate::place::{Store, mark, scope};
use crate::ports::{Charset, EventsReport, World};

/// Creates the new schema, with the character set of the old one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CreateSchema {
    /// For this site.
    pub(crate) site: SiteName,
    /// What to create.
    pub(crate) store: Store,
    /// Facts of the old side, if there is one.
    pub(crate) found: Option<Ref<Found>>,
}

impl Step for CreateSchema {
    type Ports = dyn World;
    type Output = ();
    type Mode = Compensable;
    const KIND: &'static str = "create_schema";

    fn title(&self) -> String {
        format!("create the new database of {} on {}", self.site, self.store.server)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let server = cx.ports.database(&self.store.server, &scope(cx))?;
        let (schema, _) = self.store.known(cx)?;
        let like: Option<Charset> = match &self.found {
            Some(found) => cx.output(found)?.charset,
            None => None,
        };
        Ok(server.create_schema(&schema, &mark(cx, &self.site), like.as_ref()).await?)
    }
}

impl Compensate for CreateSchema {
    fn undo_title(&self) -> String {
        "drop the new database, if it carries this task's mark".to_owned()
    }

    async fn undo(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let Some((schema, _)) = self.store.names(cx)? else { return Ok(()) };
        let server = cx.ports.database(&self.store.server, &scope(cx))?;
        Ok(server.drop_schema(&schema, &mark(cx, &self.site)).await?)
    }
}

/// Creates the new database user, with a password of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CreateUser {
    /// For this site.
    pub(crate) site: SiteName,
    /// What to create.
    pub(crate) store: Store,
}

impl Step for CreateUser {
    type Ports = dyn World;
    type Output = ();
    type Mode = Compensable;
    const KIND: &'static str = "create_user";

    fn title(&self) -> String {
        format!("create a database user for {} with a new password", self.site)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let (schema, user) = self.store.known(cx)?;
        cx.ports.secrets().ensure(&self.store.password).await?;
        let server = cx.ports.database(&self.store.server, &scope(cx))?;
        Ok(server.create_user(&user, &schema, &self.store.password, &mark(cx, &self.site)).await?)
    }
}

impl Compensate for CreateUser {
    fn undo_title(&self) -> String {
        "drop the new database user, if it is this task's".to_owned()
    }

    async fn undo(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        if let Some((_, user)) = self.store.names(cx)? {
            let server = cx.ports.database(&self.store.server, &scope(cx))?;
            server.drop_user(&user, &self.store.password, &mark(cx, &self.site)).await?;
        }
        // Last: as long as the user may be there, its password proves that it is ours.
        Ok(cx.ports.secrets().remove(&self.store.password).await?)
    }
}

/// Switches on the new side's events, now that the old side serves nobody any more: until then they would have run twice.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StartEvents {
    /// The site.
    pub(crate) site: SiteName,
    /// Its database.
    pub(crate) store: Store,
}

impl Step for StartEvents {
    type Ports = dyn World;
    type Output = EventsReport;
    type Mode = Retriable;
    const KIND: &'static str = "start_events";

    fn title(&self) -> String {
        "switch on the scheduled events of the new database".to_owned()
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<EventsReport, StepError> {
        let (schema, user) = self.store.known(cx)?;
        let server = cx.ports.database(&self.store.server, &scope(cx))?;
        let report = server.start_events(&schema, &mark(cx, &self.site), &self.store.login(user)).await?;
        for event in &report.passed {
            cx.log(format!("the event {event} stays off: its only time has passed"));
        }
        Ok(report)
    }

    fn policy(&self) -> Policy {
        Policy::PERSISTENT
    }

    fn by_hand(&self) -> Vec<String> {
        vec![
            "ALTER EVENT <name> ENABLE, for each event of the site's database that is disabled on replicas"
                .to_owned(),
        ]
    }
}

/// Locks the account of the side that is left, so that nothing writes to it any more: a 503 stops neither cron nor old workers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Fence {
    /// Whose account.
    pub(crate) store: Store,
    /// How it was before.
    pub(crate) found: Ref<Found>,
}

impl Step for Fence {
    type Ports = dyn World;
    type Output = ();
    type Mode = Compensable;
    const KIND: &'static str = "fence";

    fn title(&self) -> String {
        "stop all writes: lock the site's database account and end its sessions".to_owned()
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let (_, user) = self.store.known(cx)?;
        let server = cx.ports.database(&self.store.server, &scope(cx))?;
        Ok(server.set_account_locked(&user, true).await?)
    }
}

impl Compensate for Fence {
    fn undo_title(&self) -> String {
        "unlock the account, unless it was locked before".to_owned()
    }

    async fn undo(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let found = cx.maybe(&self.found)?;
        if found.as_ref().is_some_and(|found| found.account_locked) {
            return Ok(());
        }
        // An account of the same user for another host may have been locked on purpose.
        let stay = found.map(|found| found.locked_at).unwrap_or_default();
        let Some((_, user)) = self.store.names(cx)? else { return Ok(()) };
        let server = cx.ports.database(&self.store.server, &scope(cx))?;
        Ok(server.unlock_but(&user, &stay).await?)
    }
}

/// Unlocks the account of a side that comes back from the trash.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Unfence {
    /// Whose account.
    pub(crate) store: Store,
    /// Where its accounts connect from that were locked before the fence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) stay: Vec<String>,
}

impl Step for Unfence {
    type Ports = dyn World;
    type Output = ();
    type Mode = Compensable;
    const KIND: &'static str = "unfence";

    fn title(&self) -> String {
        "unlock the database account of the old side".to_owned()
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let (_, user) = self.store.known(cx)?;
        let server = cx.ports.database(&self.store.server, &scope(cx))?;
        Ok(server.unlock_but(&user, &self.stay).await?)
    }
}

impl Compensate for Unfence {
    fn undo_title(&self) -> String {
        "lock it again".to_owned()
    }

    async fn undo(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let (_, user) = self.store.known(cx)?;
        let server = cx.ports.database(&self.store.server, &scope(cx))?;
        Ok(server.set_account_locked(&user, true).await?)
    }
}
