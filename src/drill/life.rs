//! One life of a drilled task: a process of its own that the drill starts, that puts the engine together with faults in between, takes
//! the task to its end or dies on the way. Reached by no other way: it takes its order from its parent's pipe, and checks that.

use std::collections::BTreeMap;
use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use kedge_engine::executor::{FsckReport, fsck};
use kedge_engine::service::{
    LockView, Submission, SubmitError, Submitted, TaskFilter, Tasks as _, VerbError,
};
use kedge_engine::task::{Actor, TaskId, TaskState, TaskView};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::faults::Faults;
use super::point::Passed;
use crate::config;
use crate::serve::Service;

/// The families of the registry that a drill looks at.
const FAMILIES: [&str; 5] = ["site", "trash", "backup", "prepared", "database_name"];
/// Most records of a family: more sites than one journal has.
const MAX_RECORDS: usize = 10_000;
/// Tasks of a page: as many as the engine gives.
const PAGE: usize = 200;

/// What a life is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The process that gives it.
    pub(crate) parent: u32,
    /// The configuration file.
    pub(crate) config: PathBuf,
    /// Where the drill's copy of the data is.
    pub(crate) data_dir: PathBuf,
    /// Where its backups go.
    pub(crate) backup_dir: PathBuf,
    /// What to begin with.
    pub(crate) action: Action,
    /// The newest task before the drilled one.
    pub(crate) since: Option<TaskId>,
    /// Where to die.
    pub(crate) kill: Option<String>,
    /// What fails.
    pub(crate) failures: Vec<String>,
}

/// What a life begins with.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    /// Looks at the registry only.
    Look,
    /// Submits a task.
    Submit { workflow: String, params: Value },
    /// Takes a finished task back.
    Undo { task: TaskId },
    /// Goes on with what the last life has left.
    Resume,
}

/// What a life tells, a line each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub(crate) enum Line {
    /// It dies now.
    Dies { at: String },
    /// The plan or the parameters were refused.
    Refused { why: String },
    /// It has come to an end.
    Ended(Box<End>),
}

/// A task that the drill has started, or one that such a task has.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Started {
    pub(crate) id: TaskId,
    pub(crate) workflow: String,
    pub(crate) state: TaskState,
}

/// How a life ended.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct End {
    /// The task, if there is one.
    pub(crate) task: Option<TaskView>,
    /// All tasks since, oldest first: those that it has started as well.
    pub(crate) tasks: Vec<Started>,
    /// The newest task in the journal.
    pub(crate) newest: Option<TaskId>,
    /// What a kill would have been possible at.
    pub(crate) passed: Vec<Passed>,
    /// Locks that are still held.
    pub(crate) locks: Vec<LockView>,
    /// Unfinished or damaged tasks.
    pub(crate) fsck: FsckReport,
    /// Tasks that could not be read.
    pub(crate) quarantined: Vec<String>,
    /// The registry, by family and name.
    pub(crate) records: BTreeMap<String, BTreeMap<String, Value>>,
}

/// `kedge drill-life`.
///
/// # Errors
/// Without a drill as its parent, and when the service cannot be put together.
pub(crate) async fn life() -> Result<ExitCode> {
    // A drill that is killed takes its life with it: the next drill goes on with what is durable.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let mut text = String::new();
    std::io::stdin().lock().read_line(&mut text)?;
    let order: Order = serde_json::from_str(&text).context("only `kedge drill` starts this command")?;
    let parent = std::os::unix::process::parent_id();
    ensure!(order.parent == parent, "only `kedge drill` starts this command, and this is not its child");
    match live(order).await {
        Ok(line) => tell(&line)?,
        Err(error) => bail!("the drilled life failed: {error:#}"),
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(line: &Line) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(line)?)?;
    Ok(out.flush()?)
}

async fn live(order: Order) -> Result<Line> {
    let mut config = config::load(&order.config)?;
    config.data_dir = order.data_dir;
    config.backup_dir = order.backup_dir;
    // Nobody is told of a drill.
    config.endpoints.clear();
    let kill = order.kill.as_deref().map(str::parse).transpose()?;
    let failures = order.failures.iter().map(|text| text.parse()).collect::<Result<Vec<_>>>()?;
    let faults = Faults::new(kill, failures);
    let service = Service::open(&Arc::new(config), &faults)?;
    let recovery = service.engine.recover()?;
    tracing::info!(resumed = recovery.resumed.len(), "a life begins");
    let actor = Actor { name: "drill".to_owned(), via: "cli".to_owned() };
    let look = matches!(order.action, Action::Look);
    let task = match order.action {
        Action::Look => None,
        Action::Submit { workflow, params } => match submit(&service, workflow, params, actor).await {
            Ok(task) => Some(task),
            Err(error @ (SubmitError::Unavailable(_) | SubmitError::Store(_))) => return Err(error.into()),
            Err(refused) => return Ok(Line::Refused { why: refused.to_string() }),
        },
        Action::Undo { task } => match service.engine.undo(&task, actor).await {
            Ok(view) => Some(view.id),
            Err(VerbError::Conflict(why)) => return Ok(Line::Refused { why }),
            Err(error) => return Err(error.into()),
        },
        // The oldest: what it has started comes after it.
        Action::Resume => started(&service, order.since.as_ref())?.into_iter().next().map(|task| task.id),
    };
    let task = match task {
        Some(task) => Some(settled(&service, &task).await?),
        None => None,
    };
    let tasks = if look { Vec::new() } else { all_settled(&service, order.since.as_ref()).await? };
    faults.disarm();
    end(service, task, tasks, &faults).await.map(|end| Line::Ended(Box::new(end)))
}

async fn submit(
    service: &Service,
    workflow: String,
    params: Value,
    actor: Actor,
) -> Result<TaskId, SubmitError> {
    let submission = Submission {
        workflow,
        params,
        actor,
        correlation_id: None,
        callback: None,
        not_before: None,
        priority: 0,
        trace: None,
        dedupe: Vec::new(),
        if_plan: None,
    };
    match service.engine.submit(submission).await? {
        Submitted::Created(view) | Submitted::Duplicate(view) => Ok(view.id),
    }
}

/// The newest task in the journal.
fn newest(service: &Service) -> Result<Option<TaskId>> {
    let page = service.engine.tasks(&TaskFilter { limit: 1, ..TaskFilter::default() })?;
    Ok(page.tasks.into_iter().next().map(|task| task.id))
}

/// The tasks after that one, oldest first.
fn started(service: &Service, since: Option<&TaskId>) -> Result<Vec<Started>> {
    let mut found = Vec::new();
    let mut before = None;
    loop {
        let page = service.engine.tasks(&TaskFilter { limit: PAGE, before, ..TaskFilter::default() })?;
        for task in page.tasks {
            if Some(&task.id) == since {
                found.reverse();
                return Ok(found);
            }
            found.push(Started { id: task.id, workflow: task.workflow, state: task.state });
        }
        before = page.next;
        if before.is_none() {
            found.reverse();
            return Ok(found);
        }
    }
}

/// The tasks after that one, once all of them have ended or are stuck.
async fn all_settled(service: &Service, since: Option<&TaskId>) -> Result<Vec<Started>> {
    loop {
        let tasks = started(service, since)?;
        let open = tasks.iter().find(|task| !task.state.is_final() && task.state != TaskState::Stuck);
        let Some(open) = open else { return Ok(tasks) };
        settled(service, &open.id).await?;
    }
}

/// Waits until the task has ended or is stuck.
async fn settled(service: &Service, id: &TaskId) -> Result<TaskView> {
    loop {
        let task = service.engine.task(id)?.with_context(|| format!("{id} is not in the journal"))?;
        if task.state.is_final() || task.state == TaskState::Stuck {
            return Ok(task);
        }
        tokio::select! {
            () = service.engine.changed(id, task.sequence, u64::MAX) => {}
            why = service.engine.failed() => bail!("the journal failed: {why}"),
        }
    }
}

async fn end(service: Service, task: Option<TaskView>, tasks: Vec<Started>, faults: &Faults) -> Result<End> {
    let passed = faults.passed();
    service.engine.drain().await;
    let mut records = BTreeMap::new();
    for family in FAMILIES {
        let of_family = service.engine.records(family, None, MAX_RECORDS)?;
        records.insert(family.to_owned(), of_family.into_iter().collect());
    }
    Ok(End {
        task,
        tasks,
        newest: newest(&service)?,
        passed,
        locks: service.engine.locks(),
        fsck: fsck(service.store.clone())?,
        quarantined: service
            .engine
            .quarantined()
            .into_iter()
            .map(|(id, why)| format!("{id}: {why}"))
            .collect(),
        records,
    })
}
