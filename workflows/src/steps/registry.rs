//! The pivots: one write to the registry, atomic with the journal's event, so never in doubt. They touch nothing else.

use kedge_engine::context::Cx;
use kedge_engine::step::{Pivot, Ref, Step, StepError};
use serde::{Deserialize, Serialize};

use super::preflight::Found;
use super::registered::{demand_free, still};
use super::removal::Surveyed;
use super::staying::{Staying, may_go};
use crate::names::SiteName;
use crate::place::{Place, Store};
use crate::ports::World;
use crate::records::{BACKUP, BackupRecord, SITE, SiteRecord, SiteState, TRASH, TrashRecord, TrashedBy};

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
        reach: place.reach.clone(),
        quiet: place.quiet,
        cloned_from: None,
        task: cx.task.to_string(),
        changed_at: cx.now,
        verified_at: None,
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
        demand_free(cx, &self.to.all_names(), &[])?;
        cx.put_record(
            SITE,
            self.to.site.as_str(),
            &record_of(cx, &self.to, &self.store, self.client.clone())?,
        )
    }
}

/// Enters a clone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CommitClone {
    /// The site it was made from.
    pub(crate) of: SiteRecord,
    /// Where it is.
    pub(crate) to: Place,
    /// Its database.
    pub(crate) store: Store,
}

impl Step for CommitClone {
    type Ports = dyn World;
    type Output = ();
    type Mode = Pivot;
    const KIND: &'static str = "commit_clone";

    fn title(&self) -> String {
        format!("enter {} into the registry: from here on it exists", self.to.site)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        demand_free(cx, &self.to.all_names(), &[])?;
        let record = record_of(cx, &self.to, &self.store, self.of.client.clone())?;
        let record = SiteRecord { cloned_from: Some(self.of.name.clone()), ..record };
        cx.put_record(SITE, self.to.site.as_str(), &record)
    }
}

/// Notes whether visitors are served.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CommitState {
    /// The site as it was.
    pub(crate) record: SiteRecord,
    /// Its new state.
    pub(crate) state: SiteState,
}

impl Step for CommitState {
    type Ports = dyn World;
    type Output = ();
    type Mode = Pivot;
    const KIND: &'static str = "commit_state";

    fn title(&self) -> String {
        let state = match self.state {
            SiteState::Enabled => "enabled",
            SiteState::Disabled => "disabled",
        };
        format!("decide: {} is {state} from here on", self.record.name)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let record = SiteRecord { state: self.state, changed_at: cx.now, ..still(cx, &self.record)? };
        cx.put_record(SITE, self.record.name.as_str(), &record)
    }
}

/// Takes a site out of the registry; what is left of it is trash.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CommitDelete {
    /// The site.
    pub(crate) record: SiteRecord,
    /// Where its directory is kept.
    pub(crate) trash: String,
    /// How long, in milliseconds.
    pub(crate) hold_ms: u64,
    /// What was found, where it was looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) found: Option<Ref<Found>>,
    /// What a survey found, where it was that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) surveyed: Option<Ref<Surveyed>>,
}

/// What a task reports of a deleted site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Deleted {
    /// Until when its files and database are kept, in milliseconds since 1970.
    pub(crate) kept_until: u64,
}

impl Step for CommitDelete {
    type Ports = dyn World;
    type Output = Deleted;
    type Mode = Pivot;
    const KIND: &'static str = "commit_delete";

    fn title(&self) -> String {
        format!("decide: {} is gone from here on", self.record.name)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<Deleted, StepError> {
        let site = SiteRecord { dir: self.trash.clone(), ..still(cx, &self.record)? };
        cx.delete_record(SITE, self.record.name.as_str());
        let until = cx.now.saturating_add(self.hold_ms);
        let found = self.found.as_ref().map(|found| cx.output(found)).transpose()?;
        let surveyed = self.surveyed.as_ref().map(|surveyed| cx.output(surveyed)).transpose()?;
        let locked_at = found.map(|found| found.locked_at).or(surveyed.map(|surveyed| surveyed.locked_at));
        let locked_at = locked_at.unwrap_or_default();
        let trash = TrashRecord { site, until, why: TrashedBy::Delete, locked_at };
        cx.put_record(TRASH, cx.task.as_str(), &trash)?;
        Ok(Deleted { kept_until: until })
    }

    fn reports(&self) -> bool {
        true
    }
}

/// Enters a deleted site again, as it was.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CommitUndelete {
    /// The site, its directory being where it is again.
    pub(crate) record: SiteRecord,
    /// The task that had deleted it.
    pub(crate) deleted_by: String,
}

impl Step for CommitUndelete {
    type Ports = dyn World;
    type Output = ();
    type Mode = Pivot;
    const KIND: &'static str = "commit_undelete";

    fn title(&self) -> String {
        format!("enter {} into the registry again", self.record.name)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        if cx.record::<TrashRecord>(TRASH, &self.deleted_by)?.is_none() {
            return Err(no_trash(&self.deleted_by));
        }
        let record = SiteRecord { changed_at: cx.now, ..self.record.clone() };
        let names: Vec<SiteName> = std::iter::once(&record.name).chain(&record.aliases).cloned().collect();
        demand_free(cx, &names, &[])?;
        cx.delete_record(TRASH, &self.deleted_by);
        cx.put_record(SITE, self.record.name.as_str(), &record)
    }
}

fn no_trash(task: &str) -> StepError {
    StepError::fatal(format!(
        "what {task} had put into the trash is not there any more: nothing to bring back"
    ))
}

/// Gives up trash: from here on nobody can take it back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CommitPurge {
    /// The tasks that put it there.
    pub(crate) tasks: Vec<String>,
    /// The backups that go with it.
    pub(crate) backups: Vec<String>,
    /// What each of these tasks had put there; empty in plans of before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) sides: Vec<TrashRecord>,
    /// The backups of the same sites that stay; empty in plans of before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) staying: Vec<Staying>,
}

/// What a task reports of a purge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Purged {
    /// Old sides that are gone.
    pub(crate) sides: usize,
    /// Backups that are gone.
    pub(crate) backups: usize,
    /// The tasks that had put these sides into the trash; `None` in journals of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tasks: Option<Vec<String>>,
}

/// An old side that a purge gives up, unless it left the trash while the purge waited.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GivenUp {
    /// The task that put it there.
    pub(crate) by: String,
    /// What was given up.
    pub(crate) purged: Ref<Purged>,
}

impl GivenUp {
    /// Whether it was there to be given up.
    pub(crate) fn holds(&self, cx: &Cx<'_, dyn World>) -> Result<bool, StepError> {
        let tasks = cx.output(&self.purged)?.tasks;
        Ok(tasks.is_none_or(|tasks| tasks.contains(&self.by)))
    }
}

impl Step for CommitPurge {
    type Ports = dyn World;
    type Output = Purged;
    type Mode = Pivot;
    const KIND: &'static str = "commit_purge";

    fn title(&self) -> String {
        format!(
            "decide: {} old sides and {} backups are gone from here on",
            self.tasks.len(),
            self.backups.len()
        )
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<Purged, StepError> {
        let mut tasks = Vec::new();
        for (index, task) in self.tasks.iter().enumerate() {
            let there: Option<TrashRecord> = cx.record(TRASH, task)?;
            // Brought back while this task waited: it is no trash any more, and nothing of it may go.
            if there.is_some_and(|there| self.sides.get(index).is_none_or(|side| *side == there)) {
                cx.delete_record(TRASH, task);
                tasks.push(task.clone());
            } else {
                cx.log(format!("what {task} had put into the trash is not there any more, and stays"));
            }
        }
        let mut backups = Vec::new();
        for backup in &self.backups {
            // Pinned while this task waited for its lock.
            backups.extend(cx.record::<BackupRecord>(BACKUP, backup)?.filter(|backup| !backup.pinned));
        }
        let backups = may_go(cx, &self.staying, backups).await?;
        backups.iter().for_each(|backup| cx.delete_record(BACKUP, &backup.name));
        Ok(Purged { sides: tasks.len(), backups: backups.len(), tasks: Some(tasks) })
    }

    fn reports(&self) -> bool {
        true
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
    /// The site that the new side is a copy of; `None`: as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cloned_from: Option<SiteName>,
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
        let old = still(cx, &self.old)?;
        demand_free(cx, &self.to.all_names(), &[&old.name])?;
        if old.name != self.to.site {
            cx.delete_record(SITE, old.name.as_str());
        }
        let record = record_of(cx, &self.to, &self.store, old.client.clone())?;
        let back: Option<TrashRecord> = match &self.takes_back {
            Some(task) => Some(cx.record(TRASH, task)?.ok_or_else(|| no_trash(task))?),
            None => None,
        };
        let record = SiteRecord { state: old.state, ..record };
        let record = match back {
            // A side that comes back is what it was: the task that had put it there can be taken back in its turn.
            Some(TrashRecord { site: SiteRecord { cloned_from, task, verified_at, .. }, .. }) => {
                SiteRecord { cloned_from, task, verified_at, ..record }
            }
            None => {
                let cloned_from = self.cloned_from.clone().or_else(|| old.cloned_from.clone());
                SiteRecord { cloned_from, ..record }
            }
        };
        cx.put_record(SITE, self.to.site.as_str(), &record)?;
        if let Some(task) = &self.takes_back {
            cx.delete_record(TRASH, task);
        }
        let until = cx.now.saturating_add(self.hold_ms);
        let site = SiteRecord { dir: self.old_trash.clone(), ..old };
        let trash = TrashRecord { site, until, why: TrashedBy::Move, locked_at: Vec::new() };
        cx.put_record(TRASH, cx.task.as_str(), &trash)?;
        Ok(Moved { platform: self.to.platform.clone(), site: self.to.site.to_string(), kept_until: until })
    }

    fn reports(&self) -> bool {
        true
    }
}
