//! One point of the matrix: the lives, the verdict on how they ended, and the way back to the start.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use kedge_engine::proof::Listing;
use kedge_engine::task::{TaskState, TaskView};
use kedge_workflows::ports::World as _;
use kedge_workflows::records::SiteRecord;
use serde_json::Value;

use super::back::{Inverse, Records, new_records};
use super::life::{Action, End};
use super::lives::{Lived, Lives};
use super::look::{Scene, done, written_anew};
use super::point::{Passed, Point};
use super::state::State;
use super::verdict::{
    differences, disproved, put_aside, registry_changes, site_records, stray_backups, unexpected, unsound,
    without_secrets,
};

/// Looks at a world that does not come to rest are repeated for so long: a visit's own cron job may still run.
const REST: Duration = Duration::from_secs(20);
/// Between two looks.
const AGAIN: Duration = Duration::from_millis(500);

/// Everything that a drill needs for a point.
pub(crate) struct Drill {
    pub(crate) workflow: String,
    pub(crate) params: Value,
    pub(crate) inverse: Inverse,
    /// It is the undo of the finished task that is drilled.
    pub(crate) of_undo: bool,
    pub(crate) state: State,
    pub(crate) lives: Lives,
    pub(crate) scene: Scene,
    /// The registry at the start.
    pub(crate) start: Records,
    /// The world at the start.
    pub(crate) before: Listing,
    /// The world after an undisturbed success, in general words; absent until there was one.
    pub(crate) done: Option<Listing>,
}

/// A finished task that is to be taken back.
struct Finished {
    task: TaskView,
    /// The sites whose databases are looked at.
    sites: Vec<SiteRecord>,
    /// The world before the undo.
    world: Listing,
}

/// What became of a point.
pub(crate) struct Round {
    pub(crate) point: Point,
    /// The task's state, or what else.
    pub(crate) ended: String,
    pub(crate) lives: usize,
    /// What does not hold: empty when all does.
    pub(crate) wrong: Vec<String>,
    /// Kills that were never reached.
    pub(crate) unreached: usize,
    pub(crate) passed: Vec<Passed>,
    pub(crate) task: Option<TaskView>,
    pub(crate) took: Duration,
    /// The world is not as at the start, and nothing here can make it so.
    pub(crate) stranded: bool,
}

impl Drill {
    /// The records of the sites that the task is about, as of the start.
    fn sites(&self) -> Result<Vec<SiteRecord>> {
        site_records(&self.start, &self.scene)
    }

    /// Lives through a point, judges, and comes back to the start.
    ///
    /// # Errors
    /// When the drill itself cannot go on: a host is gone, a process cannot be started.
    pub(crate) async fn round(&mut self, point: &Point) -> Result<Round> {
        let began = Instant::now();
        self.state.begin()?;
        let submit = Action::Submit { workflow: self.workflow.clone(), params: self.params.clone() };
        let (action, finished) = if self.of_undo {
            let finished = self.finished(submit).await?;
            (Action::Undo { task: finished.task.id.clone() }, Some(finished))
        } else {
            (submit, None)
        };
        let mut round = Round {
            point: point.clone(),
            ended: String::new(),
            lives: 0,
            wrong: Vec::new(),
            unreached: 0,
            passed: Vec::new(),
            task: None,
            took: Duration::ZERO,
            stranded: false,
        };
        let lived = match &finished {
            Some(finished) => self.lives.after(&finished.task.id).live(&self.state, action, point).await?,
            None => self.lives.live(&self.state, action, point).await?,
        };
        match lived {
            Lived::Refused(why) => bail!("the task was refused: {why}"),
            Lived::Broken { why, lives } => {
                round.lives = lives;
                round.ended = "broken".to_owned();
                round.wrong.push(why);
                round.stranded = true;
            }
            Lived::Ended { end, lives } => {
                round.lives = lives;
                round.unreached = point.kills.len() - point.kills.len().min(lives - 1);
                match finished {
                    Some(finished) => self.judge_undo(&mut round, *end, &finished).await?,
                    None => self.judge(&mut round, *end).await?,
                }
            }
        }
        round.took = began.elapsed();
        Ok(round)
    }

    async fn judge(&mut self, round: &mut Round, end: End) -> Result<()> {
        round.passed = end.passed.clone();
        let task = end.task.clone().filter(|task| self.lives.since.as_ref() != Some(&task.id));
        round.wrong.extend(unsound(&end));
        round.wrong.extend(stray_backups(
            &self.state.backups(),
            self.state.brought().as_deref(),
            &self.start,
            &end.records,
        )?);
        let Some(task) = task else {
            round.ended = "never accepted".to_owned();
            round.wrong.extend(registry_changes(&self.start, &end.records));
            let wrong = self.as_before("the task was never accepted", true).await?;
            round.stranded = !wrong.is_empty();
            round.wrong.extend(wrong);
            return Ok(());
        };
        round.ended = task.state.as_str().to_owned();
        round.wrong.extend(unexpected(&round.point, &task));
        match task.state {
            TaskState::Succeeded => {
                round.wrong.extend(self.as_done(&task, &end.records).await?);
                let wrong = self.back(&task, &end.records).await?;
                round.stranded = !wrong.is_empty();
                round.wrong.extend(wrong);
            }
            TaskState::RolledBack | TaskState::Canceled => {
                round.wrong.extend(disproved(&task));
                round.wrong.extend(registry_changes(&self.start, &end.records));
                let wrong = self.as_before("rolled back", true).await?;
                round.stranded = !wrong.is_empty();
                round.wrong.extend(wrong);
                self.scene.purge(&self.start, &end.records).await?;
            }
            TaskState::Stuck => {
                round.wrong.push(format!("it is stuck: {:?}", task.incident));
                round.stranded = true;
            }
            state @ (TaskState::Queued
            | TaskState::Running
            | TaskState::Waiting
            | TaskState::Compensating) => {
                round.wrong.push(format!("it ended {}", state.as_str()));
                round.stranded = true;
            }
        }
        round.task = Some(task);
        Ok(())
    }

    /// A task that has succeeded undisturbed, and is to be taken back.
    async fn finished(&self, submit: Action) -> Result<Finished> {
        let end = match self.lives.live(&self.state, submit, &Point::default()).await? {
            Lived::Ended { end, .. } => end,
            Lived::Refused(why) | Lived::Broken { why, .. } => bail!("the task before the undo: {why}"),
        };
        let task = end.task.context("the task before the undo was not accepted")?;
        ensure!(
            task.state == TaskState::Succeeded,
            "the task before the undo ended {}: {:?}",
            task.state.as_str(),
            task.error
        );
        let mut sites = self.sites()?;
        sites.extend(
            new_records::<SiteRecord>("site", &self.start, &end.records)?.into_iter().map(|(_, site)| site),
        );
        let world = self.scene.look(&sites).await?;
        Ok(Finished { task, sites, world })
    }

    async fn judge_undo(&self, round: &mut Round, end: End, finished: &Finished) -> Result<()> {
        round.passed = end.passed.clone();
        round.wrong.extend(unsound(&end));
        round.wrong.extend(stray_backups(
            &self.state.backups(),
            self.state.brought().as_deref(),
            &self.start,
            &end.records,
        )?);
        let task = end.task.clone().filter(|task| task.id != finished.task.id);
        let back = match &task {
            None => {
                round.ended = "never accepted".to_owned();
                round.wrong.extend(
                    self.rests(&finished.sites, &finished.world, "the undo was never accepted", true).await?,
                );
                self.back(&finished.task, &end.records).await?
            }
            Some(task) => {
                round.ended = task.state.as_str().to_owned();
                round.wrong.extend(unexpected(&round.point, task));
                match task.state {
                    TaskState::Succeeded => {
                        self.scene.purge(&self.start, &end.records).await?;
                        self.as_before("taken back", false).await?
                    }
                    TaskState::RolledBack | TaskState::Canceled => {
                        round.wrong.extend(disproved(task));
                        let when = "the undo was rolled back";
                        round.wrong.extend(self.rests(&finished.sites, &finished.world, when, true).await?);
                        self.back(&finished.task, &end.records).await?
                    }
                    state => vec![format!("the undo is {}: {:?}", state.as_str(), task.incident)],
                }
            }
        };
        round.stranded = !back.is_empty();
        round.wrong.extend(back);
        round.task = task;
        Ok(())
    }

    /// What differs from the start, once the world has come to rest.
    ///
    /// # Errors
    /// When the world cannot be seen.
    pub(crate) async fn as_before(&self, when: &str, with_secrets: bool) -> Result<Vec<String>> {
        self.rests(&self.sites()?, &self.before, when, with_secrets).await
    }

    /// What differs from a look, once the world has come to rest.
    async fn rests(
        &self,
        sites: &[SiteRecord],
        expected: &Listing,
        when: &str,
        with_secrets: bool,
    ) -> Result<Vec<String>> {
        // Its undo writes the settings a second time: the same bytes, at another time.
        let settings = if self.workflow == "configure" { self.settings()? } else { Vec::new() };
        let seen = |look: &Listing| {
            let look = if with_secrets { look.clone() } else { without_secrets(look) };
            written_anew(look, &settings)
        };
        let until = Instant::now() + REST;
        loop {
            let drift = differences(when, &seen(expected), &seen(&self.scene.look(sites).await?));
            if drift.is_empty() || Instant::now() > until {
                return Ok(drift);
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// What differs from an undisturbed success.
    async fn as_done(&mut self, task: &TaskView, records: &Records) -> Result<Vec<String>> {
        let made = new_records::<SiteRecord>("site", &self.start, records)?;
        let mut sites = self.sites()?;
        let mut chosen = vec![(task.id.to_string(), "TASK".to_owned())];
        for (_, site) in made {
            let schema = site.schema.to_string();
            // As grants name it.
            chosen.push((schema.replace('_', r"\_"), "SCHEMA".to_owned()));
            chosen.push((schema, "SCHEMA".to_owned()));
            chosen.push((site.user.to_string(), "USER".to_owned()));
            sites.push(site);
        }
        let settings = self.settings()?;
        let until = Instant::now() + REST;
        loop {
            let look = done(&self.scene.look(&sites).await?, &chosen, &settings);
            let Some(expected) = &self.done else {
                self.done = Some(look);
                return Ok(Vec::new());
            };
            let drift = differences("done", expected, &look);
            if drift.is_empty() || Instant::now() > until {
                return Ok(drift);
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Files that hold the names which a task chooses.
    fn settings(&self) -> Result<Vec<String>> {
        let mut files = Vec::new();
        for name in &self.scene.platforms {
            let platform = self.scene.config.platforms.get(name).context("the platform is not configured")?;
            let scope = kedge_workflows::ports::Scope { task: "drill".to_owned(), step: "look".to_owned() };
            let app = self.scene.world.app(&platform.web_server, name, platform.app, &scope)?;
            files.extend(app.settings_files().into_iter().map(|file| format!("/{file}")));
        }
        Ok(files)
    }

    /// From a success to the start.
    pub(crate) async fn back(&self, task: &TaskView, records: &Records) -> Result<Vec<String>> {
        match self.inverse {
            Inverse::Nothing => {}
            Inverse::Remove => self.scene.remove(&self.start, records).await?,
            Inverse::Undo | Inverse::Task(_) => {
                let what = "what takes the done task back";
                let Some(action) = self.taking_back(task) else {
                    bail!("nothing takes a {} back", task.workflow)
                };
                match self.lives.live(&self.state, action, &Point::default()).await? {
                    Lived::Ended { end, .. } => {
                        let state = end.task.as_ref().map(|undo| undo.state);
                        if state != Some(TaskState::Succeeded) {
                            return Ok(vec![format!("{what} ended {state:?}: {:?}", end.task)]);
                        }
                        self.scene.purge(&self.start, &end.records).await?;
                    }
                    Lived::Refused(why) => return Ok(vec![format!("{what} was refused: {why}")]),
                    Lived::Broken { why, .. } => return Ok(vec![format!("{what}: {why}")]),
                }
            }
        }
        self.as_before("taken back", false).await
    }

    /// The task that takes a finished one back, if it is a task that does.
    fn taking_back(&self, task: &TaskView) -> Option<Action> {
        match self.inverse {
            Inverse::Undo => Some(Action::Undo { task: task.id.clone() }),
            Inverse::Task(other) => {
                let params = serde_json::json!({ "site": self.params["site"] });
                Some(Action::Submit { workflow: other.to_owned(), params })
            }
            Inverse::Nothing | Inverse::Remove => None,
        }
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
        let Some(task) = left.task.filter(|task| self.lives.since.as_ref() != Some(&task.id)) else {
            return Ok(());
        };
        ensure!(
            task.state.is_final(),
            "the task of an interrupted drill is {}: {:?}",
            task.state.as_str(),
            task.incident
        );
        let back = match (put_aside(&self.start, &left.records)?, self.inverse) {
            (Some(task), _) => Some(Action::Undo { task }),
            (None, Inverse::Task(_)) if !registry_changes(&self.start, &left.records).is_empty() => {
                self.taking_back(&task)
            }
            (None, Inverse::Remove) => return self.scene.remove(&self.start, &left.records).await,
            (None, Inverse::Task(_) | Inverse::Undo | Inverse::Nothing) => None,
        };
        let Some(action) = back else { return self.scene.purge(&self.start, &left.records).await };
        let what = "the task of an interrupted drill cannot be taken back";
        match self.lives.live(&self.state, action, &Point::default()).await? {
            Lived::Ended { end, .. } => {
                let undo = end.task.context(what)?;
                ensure!(undo.state == TaskState::Succeeded, "{what}: {:?} {:?}", undo.error, undo.incident);
                self.scene.purge(&self.start, &end.records).await
            }
            Lived::Refused(why) | Lived::Broken { why, .. } => bail!("{what}: {why}"),
        }
    }
}
