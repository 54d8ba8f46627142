//! The engine as its faces see it: [`Tasks`] over the journal and the live tasks.

use futures::FutureExt as _;
use futures::future::{BoxFuture, pending, ready};
use serde_json::Value;

use super::planning::Origin;
use super::{Engine, Inner};
use crate::inbox::Received;
use crate::journal::keys;
use crate::machine::Machine;
use crate::service::{
    LockView, PlanView, Resolution, Submission, SubmitError, Submitted, TaskFilter, TaskPage, Tasks,
    VerbError, WorkflowInfo,
};
use crate::store::{Health, ReadError};
use crate::task::{Actor, BlockedOn, EventView, Incident, StuckStep, TaskId, TaskState, TaskView};

/// Most tasks of a page.
const MAX_PAGE: usize = 200;
/// Most records given at once.
const MAX_ROWS: usize = 1000;
/// Heads looked at for one page of a filtered list: a rare filter ends with a cursor instead of reading everything.
const MAX_LOOKED_AT: usize = 20_000;

impl<P: ?Sized + Send + Sync + 'static> Tasks for Engine<P> {
    fn workflows(&self) -> Vec<WorkflowInfo> {
        let info = |workflow: &dyn crate::workflow::Workflow| WorkflowInfo {
            name: workflow.name().to_owned(),
            title: workflow.title().to_owned(),
            schema: workflow.schema(),
            example: workflow.example(),
        };
        self.0.workflows.values().map(|workflow| info(&**workflow)).collect()
    }

    fn preview(&self, workflow: &str, params: &Value) -> Result<PlanView, SubmitError> {
        self.0.preview(workflow, params)
    }

    fn submit(&self, submission: Submission) -> BoxFuture<'_, Result<Submitted, SubmitError>> {
        self.0.accept(submission, Origin::Fresh, None).boxed()
    }

    fn submit_received(
        &self,
        submission: Submission,
        received: Received,
    ) -> BoxFuture<'_, Result<Submitted, SubmitError>> {
        self.0.accept(submission, Origin::Fresh, Some(received)).boxed()
    }

    fn task(&self, id: &TaskId) -> Result<Option<TaskView>, ReadError> {
        self.0.view(id)
    }

    fn tasks(&self, filter: &TaskFilter) -> Result<TaskPage, ReadError> {
        self.0.page(filter)
    }

    fn events(&self, id: &TaskId, after: u64, limit: usize) -> Result<Vec<EventView>, ReadError> {
        self.0.events(id, after, limit)
    }

    fn changed(&self, id: &TaskId, sequence: u64, progress_version: u64) -> BoxFuture<'static, ()> {
        if let Some(news) = self.0.live(id).and_then(|live| live.listen(sequence, progress_version)) {
            return news.map(|_| ()).boxed();
        }
        // Newer already, or no driver: the task has ended, is quarantined or unknown, or waits for the next life.
        let live = self.0.live(id).is_some();
        match self.0.journal.head(id) {
            Ok(Some((head, _))) if !live && head.sequence <= sequence => pending().boxed(),
            Ok(_) | Err(_) => ready(()).boxed(),
        }
    }

    fn log(&self, id: &TaskId, step: &str) -> Result<Option<String>, ReadError> {
        self.0.logs.read(id.as_str(), step)
    }

    fn cancel(
        &self,
        id: &TaskId,
        actor: Actor,
        reason: String,
    ) -> BoxFuture<'_, Result<TaskView, VerbError>> {
        let id = id.clone();
        async move { self.0.cancel(&id, actor, reason).await }.boxed()
    }

    fn retry(&self, id: &TaskId, actor: Actor) -> BoxFuture<'_, Result<TaskView, VerbError>> {
        let id = id.clone();
        async move { self.0.retry(&id, actor).await }.boxed()
    }

    fn undo(&self, id: &TaskId, actor: Actor) -> BoxFuture<'_, Result<TaskView, VerbError>> {
        let id = id.clone();
        async move { self.0.undo(&id, actor, Vec::new(), None).await }.boxed()
    }

    fn decide(
        &self,
        id: &TaskId,
        approve: bool,
        reason: String,
        actor: Actor,
    ) -> BoxFuture<'_, Result<TaskView, VerbError>> {
        let id = id.clone();
        async move { self.0.decide(&id, approve, reason, actor).await }.boxed()
    }

    fn resolve(
        &self,
        id: &TaskId,
        resolution: Resolution,
        actor: Actor,
    ) -> BoxFuture<'_, Result<TaskView, VerbError>> {
        let id = id.clone();
        async move { self.0.resolve(&id, resolution, actor).await }.boxed()
    }

    fn records(
        &self,
        family: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Value)>, ReadError> {
        let mut records = self.0.facts.records(family)?;
        records.sort_by(|a, b| a.0.cmp(&b.0));
        records.retain(|(name, _)| after.is_none_or(|after| name.as_str() > after));
        records.truncate(limit.min(MAX_ROWS));
        Ok(records)
    }

    fn record(&self, family: &str, name: &str) -> Result<Option<Value>, ReadError> {
        self.0.facts.record(family, name)
    }

    fn locks(&self) -> Vec<LockView> {
        self.0.shared.tables().locks.view()
    }

    fn health(&self) -> Health {
        let state = self.0.shared.state();
        if let Some(why) = &state.failed {
            return Health::Failed(why.clone());
        }
        if state.draining {
            return Health::Low("the service is stopping".to_owned());
        }
        drop(state);
        self.0.journal.store().health()
    }
}

impl<P: ?Sized + Send + Sync + 'static> Inner<P> {
    /// A task's page; a quarantined one shows why it is.
    pub(super) fn view(&self, task: &TaskId) -> Result<Option<TaskView>, ReadError> {
        let quarantined = self.shared.state().quarantined.get(task).cloned();
        if let Some(why) = quarantined {
            return self.quarantined_view(task, &why);
        }
        let now = self.clock.now();
        let Some(live) = self.live(task) else {
            return match self.load(task) {
                Ok(machine) => Ok(machine.map(|machine| machine.view(now))),
                Err(error) => self.quarantined_view(task, &error.to_string()),
            };
        };
        let machine = live.machine();
        let mut view = machine.view(now);
        live.add_progress(&mut view);
        view.blocked_on = self.blocked_on(&view, &machine);
        Ok(Some(view))
    }

    fn quarantined_view(&self, task: &TaskId, why: &str) -> Result<Option<TaskView>, ReadError> {
        let Ok(Some((head, _))) = self.journal.head(task) else { return Ok(None) };
        let step = StuckStep {
            step: "journal".to_owned(),
            phase: "run".to_owned(),
            reason: format!("quarantined, since it cannot go on: {why}"),
            probe: None,
            by_hand: vec!["kedge journal fsck".to_owned()],
            since: head.created_at,
        };
        Ok(Some(TaskView {
            id: task.clone(),
            workflow: head.workflow,
            site: head.site,
            state: TaskState::Stuck,
            params: Value::Null,
            steps: Vec::new(),
            outcome: None,
            result: Value::Null,
            downtime_ms: None,
            blocked_on: None,
            approval: None,
            incident: Some(Incident { steps: vec![step], verbs: Vec::new() }),
            error: None,
            correlation_id: None,
            priority: 0,
            trace: None,
            actor: Actor { name: "unknown".to_owned(), via: "journal".to_owned() },
            plan_hash: None,
            created_at: head.created_at,
            started_at: None,
            finished_at: None,
            undo_until: None,
            sequence: head.sequence,
            progress_version: 0,
        }))
    }

    /// What a live task waits for.
    fn blocked_on(&self, view: &TaskView, machine: &Machine) -> Option<BlockedOn> {
        let tables = self.shared.tables();
        if let Some(lock) = tables.locks.blocked_on(&view.id) {
            return Some(lock);
        }
        let blocked = |kind: &str, what: String, since, until| {
            Some(BlockedOn { kind: kind.to_owned(), what, holder: None, since, until })
        };
        if let Some(slot) = tables.slots.awaited(&view.id) {
            let since = view.started_at.unwrap_or(view.created_at);
            return blocked("slot", format!("a free slot of {slot}"), since, None);
        }
        let (kind, what, since, until) = machine.waits(self.clock.now())?;
        blocked(kind, what, since, Some(until))
    }

    fn page(&self, filter: &TaskFilter) -> Result<TaskPage, ReadError> {
        let limit = filter.limit.clamp(1, MAX_PAGE);
        let store = self.journal.store();
        let prefix = match &filter.site {
            Some(site) => keys::site(site),
            None => keys::HEADS.to_vec(),
        };
        let key = |task: &TaskId| [prefix.as_slice(), task.as_str().as_bytes()].concat();
        let mut before = filter.before.as_ref().map(key);
        let mut page = TaskPage { tasks: Vec::new(), next: None };
        let mut looked_at = 0;
        loop {
            let rows = store.scan_back(&prefix, before.as_deref(), MAX_PAGE)?;
            let Some((last, _)) = rows.last() else { return Ok(page) };
            before = Some(last.clone());
            for (key, _) in rows {
                let text = String::from_utf8_lossy(&key[prefix.len()..]).into_owned();
                let Ok(task) = TaskId::try_from(text) else { continue };
                looked_at += 1;
                let Ok(Some((head, _))) = self.journal.head(&task) else { continue };
                let fits = filter.workflow.as_ref().is_none_or(|workflow| *workflow == head.workflow)
                    && filter.state.is_none_or(|state| state == head.state)
                    && filter.since.is_none_or(|since| head.created_at >= since);
                if fits && let Some(view) = self.view(&task)? {
                    page.tasks.push(view);
                }
                if page.tasks.len() >= limit || looked_at >= MAX_LOOKED_AT {
                    page.next = Some(task);
                    return Ok(page);
                }
            }
        }
    }
}
