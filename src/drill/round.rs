//! One point of the matrix: the lives, the verdict on how they ended, and the way back to the start.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use kedge_engine::proof::Listing;
use kedge_engine::task::{TaskState, TaskView};
use kedge_workflows::ports::World as _;
use kedge_workflows::records::SiteRecord;
use serde_json::Value;

use super::back::{Records, new_records};
use super::life::{Action, End};
use super::lives::{Lived, Lives};
use super::look::{Scene, done, written_anew};
use super::point::{Passed, Point};
use super::state::State;
use super::taking_back::Finished;
use super::verdict::{
    differences, disproved, put_aside, registry_changes, site_records, stray_backups, unexpected, unsound,
    without_secrets,
};
use super::way::{Inverse, Way, given};

/// Looks at a world that does not come to rest are repeated for so long: a visit's own cron job may still run.
const REST: Duration = Duration::from_secs(20);
/// Between two looks.
const AGAIN: Duration = Duration::from_millis(500);

/// Everything that a drill needs for a point.
pub(crate) struct Drill {
    pub(crate) workflow: String,
    /// As they were given to the drill.
    pub(crate) params: Value,
    pub(crate) way: Way,
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
    pub(super) fn sites(&self) -> Result<Vec<SiteRecord>> {
        site_records(&self.start, &self.scene)
    }

    /// Lives through a point, judges, and comes back to the start.
    ///
    /// # Errors
    /// When the drill itself cannot go on: a host is gone, a process cannot be started.
    pub(crate) async fn round(&mut self, point: &Point) -> Result<Round> {
        let began = Instant::now();
        self.state.begin()?;
        let (action, finished) = match &self.way {
            Way::There(_) => (self.drilled(), None),
            Way::Undo => {
                let finished = self.finished(vec![self.drilled()]).await?;
                (Action::Undo { task: finished.task.id.clone() }, Some(finished))
            }
            Way::Back(first) => {
                let first = first.iter().map(|first| Action::Submit {
                    workflow: first.workflow.to_owned(),
                    params: first.params.clone(),
                });
                (self.drilled(), Some(self.finished(first.collect()).await?))
            }
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
            Some(finished) => {
                self.lives.after(finished.newest.clone()).live(&self.state, action, point).await?
            }
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
                    Some(finished) => self.judge_way_back(&mut round, *end, &finished).await?,
                    None => self.judge(&mut round, *end).await?,
                }
            }
        }
        round.took = began.elapsed();
        Ok(round)
    }

    async fn judge(&mut self, round: &mut Round, end: End) -> Result<()> {
        round.passed = end.passed.clone();
        round.wrong.extend(unsound(&end));
        round.wrong.extend(stray_backups(
            &self.state.backups(),
            self.state.brought().as_deref(),
            &self.start,
            &end.records,
        )?);
        let Some(task) = end.task.clone() else {
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
                let moved = self.way == Way::There(Inverse::Each)
                    && !put_aside(&self.start, &end.records)?.is_empty();
                let wrong = if moved {
                    self.back(&task, &end.records).await?
                } else {
                    round.wrong.extend(registry_changes(&self.start, &end.records));
                    let wrong = self.as_before("rolled back", true).await?;
                    self.scene.purge(&self.start, &end.records).await?;
                    wrong
                };
                round.stranded = !wrong.is_empty();
                round.wrong.extend(wrong);
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

    /// The drilled workflow.
    pub(super) fn drilled(&self) -> Action {
        Action::Submit { workflow: self.workflow.clone(), params: given(&self.workflow, &self.params) }
    }

    async fn judge_way_back(&self, round: &mut Round, end: End, finished: &Finished) -> Result<()> {
        round.passed = end.passed.clone();
        round.wrong.extend(unsound(&end));
        round.wrong.extend(stray_backups(
            &self.state.backups(),
            self.state.brought().as_deref(),
            &self.start,
            &end.records,
        )?);
        let back = match &end.task {
            None => {
                round.ended = "never accepted".to_owned();
                let when = "the way back was never accepted";
                round.wrong.extend(self.rests(&finished.sites, &finished.world, when, true).await?);
                self.back(&finished.task, &end.records).await?
            }
            Some(task) => {
                round.ended = task.state.as_str().to_owned();
                round.wrong.extend(unexpected(&round.point, task));
                match task.state {
                    TaskState::Succeeded => {
                        self.scene.purge(&self.start, &end.records).await?;
                        // The undo of a task keeps the passwords of both sides for a while.
                        self.as_before("taken back", self.way != Way::Undo).await?
                    }
                    TaskState::RolledBack | TaskState::Canceled => {
                        round.wrong.extend(disproved(task));
                        let when = "the way back was rolled back";
                        round.wrong.extend(self.rests(&finished.sites, &finished.world, when, true).await?);
                        self.back(&finished.task, &end.records).await?
                    }
                    state => vec![format!("the way back is {}: {:?}", state.as_str(), task.incident)],
                }
            }
        };
        round.stranded = !back.is_empty();
        round.wrong.extend(back);
        round.task = end.task;
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
            let (of, schema) = (|what: &str| format!("{what} of {}", site.name), site.schema.to_string());
            chosen.push((site.task.clone(), of("TASK")));
            // As grants name it.
            chosen.push((schema.replace('_', r"\_"), of("SCHEMA")));
            chosen.push((schema, of("SCHEMA")));
            chosen.push((site.user.to_string(), of("USER")));
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
}
