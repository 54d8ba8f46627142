//! Steps that take away what a site leaves: after the decision only, and only what carries its mark. Each is right when nothing is left.

use kedge_engine::context::Cx;
use kedge_engine::retry::Policy;
use kedge_engine::step::{Query, Retriable, Step, StepError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::leaving::{demand_movable, reach_beyond};
use super::preflight::demand_valid;
use super::registry::GivenUp;
use crate::place::{Place, Store, scope};
use crate::ports::{ConfigTest, Existing, World};
use crate::records::{BACKUP, BackupRecord, DATABASE_NAME, SITE, SiteRecord, TRASH};

/// An hour: removing millions of files.
const REMOVE_LIMIT_MS: u64 = 3_600_000;

/// Looks which pieces of a site are there, for a delete that counts missing ones as done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Survey {
    /// Its files and vhost.
    pub(crate) place: Place,
    /// Its database.
    pub(crate) store: Store,
}

/// What a survey found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Surveyed {
    /// What is missing, in words.
    pub(crate) missing: Vec<String>,
    /// Hosts at which the database account is locked already: an undelete leaves it so. Absent in old journals.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) locked_at: Vec<String>,
}

impl Step for Survey {
    type Ports = dyn World;
    type Output = Surveyed;
    type Mode = Query;
    const KIND: &'static str = "survey";

    fn title(&self) -> String {
        format!("look which pieces of {} are there", self.place.site)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<Surveyed, StepError> {
        let (scope, place) = (scope(cx), &self.place);
        let (schema, user) = self.store.known(cx)?;
        let server = cx.ports.database(&self.store.server, &scope)?;
        let files = cx.ports.files(&place.web_server, &scope)?;
        let mut missing = Vec::new();
        match files.stat(&place.dir).await? {
            Some(dir) => demand_movable(&*files, place, &dir).await?,
            None => missing.push(format!("the directory {}", place.dir)),
        }
        let web = cx.ports.web_server(&place.web_server, &scope)?;
        let vhost = web.vhost(&place.site).await?;
        if vhost.is_none() {
            missing.push(format!("the vhost on {}", place.web_server));
        }
        // A vhost of its own that is broken goes; with another's, the server would not notice that this one has gone.
        match web.test().await? {
            ConfigTest::Invalid { culprit: Some(file), .. }
                if vhost.as_ref().is_some_and(|vhost| vhost.path == file) => {}
            _ => demand_valid(cx, &place.web_server).await?,
        }
        if server.schema(&schema).await? == Existing::Absent {
            missing.push(format!("the database {schema} on {}", self.store.server));
        }
        let mut locked_at = Vec::new();
        if server.user_exists(&user).await? {
            locked_at = server.locked_at(&user).await?;
        } else {
            missing.push(format!("the database user {user} on {}", self.store.server));
        }
        Ok(Surveyed { missing, locked_at })
    }

    fn reports(&self) -> bool {
        true
    }
}

/// Locks the database account of a side that is trash from here on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LockAccount {
    /// Whose account.
    pub(crate) store: Store,
}

impl Step for LockAccount {
    type Ports = dyn World;
    type Output = ();
    type Mode = Retriable;
    const KIND: &'static str = "lock_account";

    fn title(&self) -> String {
        format!("lock the database account on {}", self.store.server)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let (schema, user) = self.store.known(cx)?;
        let server = cx.ports.database(&self.store.server, &scope(cx))?;
        if !server.user_exists(&user).await? {
            return Ok(());
        }
        let reach = reach_beyond(&*server, &schema, &user).await?;
        if !reach.is_empty() {
            cx.log(format!("{user} stays open: it has rights on {} as well", reach.join(", ")));
            return Ok(());
        }
        Ok(server.set_account_locked(&user, true).await?)
    }

    fn policy(&self) -> Policy {
        Policy::PERSISTENT
    }
}

/// Removes the directory of an old side.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RemoveDir {
    /// The web server of its host.
    pub(crate) web_server: String,
    /// The directory.
    pub(crate) dir: String,
    /// What it has to be below.
    pub(crate) within: String,
    /// Only if it was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) given_up: Option<GivenUp>,
}

impl Step for RemoveDir {
    type Ports = dyn World;
    type Output = ();
    type Mode = Retriable;
    const KIND: &'static str = "remove_dir";

    fn title(&self) -> String {
        format!("remove {}", self.dir)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        if stays(cx, self.given_up.as_ref())? {
            return Ok(());
        }
        Ok(cx.ports.files(&self.web_server, &scope(cx))?.remove_tree(&self.dir, &self.within).await?)
    }

    fn policy(&self) -> Policy {
        Policy::PERSISTENT.limit(REMOVE_LIMIT_MS)
    }

    fn by_hand(&self) -> Vec<String> {
        vec![format!("rm -r -- {}", self.dir)]
    }
}

/// Drops schema and user of an old side, if they carry its mark, and gives the name back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DropDatabase {
    /// The site as it was on that side.
    pub(crate) site: SiteRecord,
    /// Only if it was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) given_up: Option<GivenUp>,
}

/// Whether a side was not given up after all: it came back while the purge waited.
fn stays(cx: &Cx<'_, dyn World>, given_up: Option<&GivenUp>) -> Result<bool, StepError> {
    let stays = given_up.map_or(Ok(false), |side| side.holds(cx).map(|holds| !holds))?;
    if stays {
        cx.log("it was brought back meanwhile, and stays");
    }
    Ok(stays)
}

impl DropDatabase {
    /// The site, live or in the trash, that the registry knows to use it, if one does. Its mark would not tell: a site that came back has
    /// the very database that it was deleted with.
    fn in_use(&self, cx: &Cx<'_, dyn World>) -> Result<Option<String>, StepError> {
        let is = |site: &Value| {
            site["database_server"] == self.site.database_server.as_str()
                && site["schema"] == self.site.schema.as_str()
        };
        let live = cx.records(SITE)?.into_iter().find(|(_, site)| is(site)).map(|(name, _)| name);
        let kept = || -> Result<Option<String>, StepError> {
            let kept = cx.records(TRASH)?.into_iter().find(|(_, trash)| is(&trash["site"]));
            Ok(kept.map(|(task, _)| format!("what {task} has put into the trash")))
        };
        live.map_or_else(kept, |name| Ok(Some(name)))
    }
}

impl Step for DropDatabase {
    type Ports = dyn World;
    type Output = ();
    type Mode = Retriable;
    const KIND: &'static str = "drop_database";

    fn title(&self) -> String {
        format!("drop the database {} and its user on {}", self.site.schema, self.site.database_server)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let site = &self.site;
        if stays(cx, self.given_up.as_ref())? {
            return Ok(());
        }
        // Left instead of failed: nobody should be told to drop it by hand.
        if let Some(user) = self.in_use(cx)? {
            cx.log(format!("the database {} is that of {user}, and stays", site.schema));
            return Ok(());
        }
        let Some(mark) = site.mark() else {
            return Err(StepError::fatal(format!(
                "the database {} was not made by Kedge: drop it by hand",
                site.schema
            )));
        };
        let server = cx.ports.database(&site.database_server, &scope(cx))?;
        server.drop_schema(&site.schema, &mark).await?;
        server.drop_user(&site.user, &site.password, &mark).await?;
        // Last: without the password the user could not be recognised as ours.
        cx.ports.secrets().remove(&site.password).await?;
        cx.delete_record(DATABASE_NAME, format!("{}/{}", site.database_server, site.schema));
        Ok(())
    }

    fn policy(&self) -> Policy {
        Policy::PERSISTENT.limit(REMOVE_LIMIT_MS)
    }

    fn by_hand(&self) -> Vec<String> {
        vec![format!("DROP DATABASE {}; DROP USER {};", self.site.schema, self.site.user)]
    }
}

/// Removes an archive whose record is gone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RemoveBackup {
    /// File name.
    pub(crate) name: String,
    /// The task that made it: another's stays.
    pub(crate) made_by: String,
}

impl Step for RemoveBackup {
    type Ports = dyn World;
    type Output = ();
    type Mode = Retriable;
    const KIND: &'static str = "remove_backup";

    fn title(&self) -> String {
        format!("remove the backup {}", self.name)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        if cx.record::<BackupRecord>(BACKUP, &self.name)?.is_some() {
            cx.log(format!("{} stays", self.name));
            return Ok(());
        }
        Ok(cx.ports.backups(&scope(cx)).remove(&self.name, &self.made_by).await?)
    }

    fn policy(&self) -> Policy {
        Policy::PERSISTENT
    }
}
