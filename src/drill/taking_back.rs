//! Tasks beside the drilled one: those that come first, and those that take everything back. None of them is disturbed.

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use kedge_engine::proof::Listing;
use kedge_engine::task::{TaskId, TaskState, TaskView};
use kedge_workflows::records::{SiteRecord, TrashRecord};

use super::back::{Records, new_records};
use super::life::Action;
use super::lives::Lived;
use super::point::Point;
use super::round::Drill;
use super::verdict::{put_aside, registry_changes};
use super::way::{Inverse, Way};

/// What came before a drilled task that takes it back.
pub(super) struct Finished {
    /// The last task.
    pub(super) task: TaskView,
    /// The newest one: the drilled task comes after it.
    pub(super) newest: Option<TaskId>,
    /// The sites whose databases are looked at.
    pub(super) sites: Vec<SiteRecord>,
    /// The world before the undo.
    pub(super) world: Listing,
}

impl Drill {
    /// Tasks one after another, undisturbed, and what they leave.
    pub(super) async fn finished(&self, first: Vec<Action>) -> Result<Finished> {
        let mut since = self.lives.since.clone();
        let mut last = None;
        for action in first {
            let lives = self.lives.after(since);
            let end = match lives.live(&self.state, action, &Point::default()).await? {
                Lived::Ended { end, .. } => end,
                Lived::Refused(why) | Lived::Broken { why, .. } => bail!("a task that comes first: {why}"),
            };
            let task = end.task.as_ref().context("a task that comes first was not accepted")?;
            ensure!(
                task.state == TaskState::Succeeded,
                "the {} that comes first ended {}: {:?}",
                task.workflow,
                task.state.as_str(),
                task.error
            );
            since = end.newest.clone();
            last = Some(end);
        }
        let end = last.context("nothing comes first")?;
        let mut sites = self.sites()?;
        let new = new_records::<SiteRecord>("site", &self.start, &end.records)?;
        sites.extend(new.into_iter().map(|(_, site)| site));
        for (_, trash) in new_records::<TrashRecord>("trash", &self.start, &end.records)? {
            let side = |site: &SiteRecord| (site.database_server.clone(), site.schema.clone());
            if !sites.iter().any(|site| side(site) == side(&trash.site)) {
                sites.push(trash.site);
            }
        }
        let world = self.scene.look(&sites).await?;
        let task = end.task.context("a task that comes first was not accepted")?;
        Ok(Finished { task, newest: end.newest, sites, world })
    }

    /// From a success to the start.
    pub(crate) async fn back(&self, task: &TaskView, records: &Records) -> Result<Vec<String>> {
        if self.way == Way::There(Inverse::Remove) {
            self.scene.remove(&self.start, records).await?;
        }
        if let Err(why) = self.taken_back(self.taking_back(task, records)?, records).await? {
            return Ok(vec![why]);
        }
        self.as_before("taken back", false).await
    }

    /// The tasks that take a finished one back, as far as there are such.
    fn taking_back(&self, task: &TaskView, records: &Records) -> Result<Vec<Action>> {
        Ok(match &self.way {
            Way::Undo | Way::There(Inverse::Undo) => vec![Action::Undo { task: task.id.clone() }],
            Way::There(Inverse::Each) => {
                let aside = put_aside(&self.start, records)?;
                aside.into_iter().map(|task| Action::Undo { task }).collect()
            }
            Way::There(Inverse::Task(other)) => {
                let params = serde_json::json!({ "site": self.params["site"] });
                vec![Action::Submit { workflow: (*other).to_owned(), params }]
            }
            Way::Back(_) => vec![self.drilled()],
            Way::There(Inverse::Nothing | Inverse::Remove) => Vec::new(),
        })
    }

    /// Runs what takes a task back, and removes what is put aside then; otherwise why it is not taken back.
    async fn taken_back(&self, actions: Vec<Action>, records: &Records) -> Result<Result<(), String>> {
        let what = "what takes the done task back";
        let mut last = None;
        for action in actions {
            match self.lives.live(&self.state, action, &Point::default()).await? {
                Lived::Ended { end, .. } => {
                    let state = end.task.as_ref().map(|undo| undo.state);
                    if state != Some(TaskState::Succeeded) {
                        return Ok(Err(format!("{what} ended {state:?}: {:?}", end.task)));
                    }
                    last = Some(end);
                }
                Lived::Refused(why) => return Ok(Err(format!("{what} was refused: {why}"))),
                Lived::Broken { why, .. } => return Ok(Err(format!("{what}: {why}"))),
            }
        }
        let records = last.as_ref().map_or(records, |end| &end.records);
        self.scene.purge(&self.start, records).await?;
        Ok(Ok(()))
    }

    /// What an interrupted drill has left is brought to its end and back.
    ///
    /// # Errors
    /// When that does not work: then a person is needed.
    pub(crate) async fn finish_interrupted(&mut self) -> Result<()> {
        let left = match self.lives.live(&self.state, Action::Resume, &Point::default()).await? {
            Lived::Ended { end, .. } => end,
            Lived::Refused(why) | Lived::Broken { why, .. } => {
                bail!("what an interrupted drill left goes on badly: {why}")
            }
        };
        let Some(task) = &left.task else { return Ok(()) };
        let open = left.tasks.iter().find(|task| !task.state.is_final());
        ensure!(open.is_none(), "a task of an interrupted drill is stuck: {open:?}");
        let aside = put_aside(&self.start, &left.records)?;
        let undone =
            left.tasks.iter().any(|task| task.workflow == "undo" && task.state == TaskState::Succeeded);
        let changed = !registry_changes(&self.start, &left.records).is_empty();
        let actions = if !aside.is_empty() {
            aside.into_iter().map(|task| Action::Undo { task }).collect()
        } else {
            match &self.way {
                Way::There(Inverse::Undo) | Way::Undo if task.state == TaskState::Succeeded && !undone => {
                    self.taking_back(task, &left.records)?
                }
                Way::There(Inverse::Task(_)) if changed => self.taking_back(task, &left.records)?,
                Way::There(Inverse::Remove) | Way::Back(_) => {
                    self.scene.remove(&self.start, &left.records).await?;
                    Vec::new()
                }
                Way::There(_) | Way::Undo => Vec::new(),
            }
        };
        let taken_back = self.taken_back(actions, &left.records).await?;
        taken_back.map_err(|why| anyhow!("the task of an interrupted drill: {why}"))
    }
}
