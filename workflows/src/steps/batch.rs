//! Steps that have each site moved by a task of its own, and count how that went. A site's task is a saga: it stays done, or takes
//! itself back; nothing here ever touches a site.

use kedge_engine::context::{Cx, Subtask};
use kedge_engine::retry::Policy;
use kedge_engine::step::{Compensable, Compensate, Query, Step, StepError};
use kedge_engine::task::{TaskId, TaskState};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::names::SiteName;
use crate::ports::World;

/// A week: the longest that a site's own task is waited for, its time in the queue of locks included.
const LIMIT_MS: u64 = 7 * 24 * 3_600_000;

/// What became of a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SiteDone {
    /// The site.
    pub(crate) site: SiteName,
    /// How it ended.
    pub(crate) end: SiteEnd,
    /// The task of its own, if one was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) task: Option<TaskId>,
    /// Why it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
    /// Whether the others waited for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) canary: bool,
}

/// How a site's own task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SiteEnd {
    /// As asked.
    Done,
    /// Taken back by itself: the site is as before.
    RolledBack,
    /// Taken back by a person's order.
    Canceled,
    /// A person is needed.
    Stuck,
    /// There was no task: it was refused.
    Refused,
    /// There was no task, since too many others failed before.
    Skipped,
}

impl SiteEnd {
    fn failed(self) -> bool {
        match self {
            Self::Done | Self::Skipped => false,
            Self::RolledBack | Self::Canceled | Self::Stuck | Self::Refused => true,
        }
    }
}

/// When nothing new is begun any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StopLoss {
    /// After so many failures.
    pub(crate) failures: u32,
    /// Whether the site is one that the others wait for.
    pub(crate) canary: bool,
}

/// Has a site moved, by a task of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MoveSite {
    /// The site.
    pub(crate) site: SiteName,
    /// Parameters of its `migrate`.
    pub(crate) params: Value,
    /// When it is not begun.
    pub(crate) stop: StopLoss,
}

impl Step for MoveSite {
    type Ports = dyn World;
    type Output = SiteDone;
    type Mode = Compensable;
    const KIND: &'static str = "move_site";

    fn title(&self) -> String {
        format!("move {} by a task of its own", self.site)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<SiteDone, StepError> {
        // Begun before the process died: then it is followed, whatever became of others since.
        let end = match cx.subtask_awaited().await? {
            Some(end) => end,
            None => match stopped(cx, self.stop) {
                Some(why) => return Ok(self.done(SiteEnd::Skipped, None, Some(why))),
                None => cx.subtask("migrate", self.params.clone()).await?,
            },
        };
        Ok(done(&self.site, self.stop.canary, end))
    }

    fn policy(&self) -> Policy {
        Policy::RUN.limit(LIMIT_MS)
    }
}

impl MoveSite {
    fn done(&self, end: SiteEnd, task: Option<TaskId>, why: Option<String>) -> SiteDone {
        SiteDone { site: self.site.clone(), end, task, why, canary: self.stop.canary }
    }
}

impl Compensate for MoveSite {
    fn undo_title(&self) -> String {
        format!("wait for the task of {} where it is under way: it stays as it ends", self.site)
    }

    async fn undo(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        cx.subtask_awaited().await.map(drop)
    }

    fn undo_policy(&self) -> Policy {
        Policy::PERSISTENT.limit(LIMIT_MS)
    }
}

/// Takes the move of a site back, by a task of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MoveSiteBack {
    /// The site.
    pub(crate) site: SiteName,
    /// The task that moved it.
    pub(crate) task: TaskId,
}

impl Step for MoveSiteBack {
    type Ports = dyn World;
    type Output = SiteDone;
    type Mode = Compensable;
    const KIND: &'static str = "move_site_back";

    fn title(&self) -> String {
        format!("take the move of {} back", self.site)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<SiteDone, StepError> {
        Ok(done(&self.site, false, cx.subtask_undo(&self.task).await?))
    }

    fn policy(&self) -> Policy {
        Policy::RUN.limit(LIMIT_MS)
    }
}

impl Compensate for MoveSiteBack {
    fn undo_title(&self) -> String {
        format!("wait for the task of {} where it is under way: it stays as it ends", self.site)
    }

    async fn undo(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        cx.subtask_awaited().await.map(drop)
    }

    fn undo_policy(&self) -> Policy {
        Policy::PERSISTENT.limit(LIMIT_MS)
    }
}

fn done(site: &SiteName, canary: bool, end: Subtask) -> SiteDone {
    let (end, task, why) = match end {
        Subtask::Refused { why } => (SiteEnd::Refused, None, Some(why)),
        Subtask::Ended { task, state, error } => {
            let end = match state {
                TaskState::Succeeded => SiteEnd::Done,
                TaskState::RolledBack => SiteEnd::RolledBack,
                TaskState::Canceled => SiteEnd::Canceled,
                TaskState::Queued
                | TaskState::Running
                | TaskState::Waiting
                | TaskState::Compensating
                | TaskState::Stuck => SiteEnd::Stuck,
            };
            (end, Some(task), error)
        }
    };
    SiteDone { site: site.clone(), end, task, why, canary }
}

/// What became of the sites so far.
fn so_far(cx: &Cx<'_, dyn World>) -> Vec<SiteDone> {
    cx.so_far().filter_map(|(_, output)| SiteDone::deserialize(output).ok()).collect()
}

/// Why nothing new is begun, if so.
fn stopped(cx: &Cx<'_, dyn World>, stop: StopLoss) -> Option<String> {
    let ends = so_far(cx);
    let failed: Vec<&SiteDone> = ends.iter().filter(|site| site.end.failed()).collect();
    if let Some(canary) = failed.iter().find(|site| site.canary && !stop.canary) {
        return Some(format!("{} went first and failed", canary.site));
    }
    let many = u32::try_from(failed.len()).is_ok_and(|failed| failed >= stop.failures);
    many.then(|| format!("{} sites failed before it", failed.len()))
}

/// Counts how it went.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CountSites {
    /// How many sites there are.
    pub(crate) of: usize,
}

/// How it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counted {
    /// Sites that are as asked.
    pub(crate) done: usize,
    /// Sites that failed.
    pub(crate) failed: usize,
    /// Sites that were not begun.
    pub(crate) skipped: usize,
    /// Each of them.
    pub(crate) sites: Vec<SiteDone>,
}

impl Step for CountSites {
    type Ports = dyn World;
    type Output = Counted;
    type Mode = Query;
    const KIND: &'static str = "count_sites";

    fn title(&self) -> String {
        format!("tell how it went with {} sites", self.of)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<Counted, StepError> {
        let ends = so_far(cx);
        let count = |which: fn(SiteEnd) -> bool| ends.iter().filter(|site| which(site.end)).count();
        let counted = Counted {
            done: count(|end| end == SiteEnd::Done),
            failed: count(SiteEnd::failed),
            skipped: count(|end| end == SiteEnd::Skipped),
            sites: ends.clone(),
        };
        if counted.done > 0 {
            return Ok(counted);
        }
        // Then all is as before, which is what a rolled back task says.
        let first = ends.iter().find(|site| site.end.failed());
        let why = first.map(|site| format!(": {}: {}", site.site, site.why.clone().unwrap_or_default()));
        Err(StepError::fatal(format!("no site was changed{}", why.unwrap_or_default())))
    }

    fn reports(&self) -> bool {
        true
    }
}
