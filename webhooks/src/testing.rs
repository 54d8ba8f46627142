//! Fakes of the engine and its ports for the tests of this crate. They keep everything in memory and do nothing on their own.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::BoxFuture;
use kedge_engine::inbox::{Inbox, Received};
use kedge_engine::outbox::{Callback, CallbackStatus, CallbacksOf, Delivery, Outbox};
use kedge_engine::plan::Class;
use kedge_engine::ports::{Clock, Random};
use kedge_engine::service::{
    LockView, PlanView, Resolution, Submission, SubmitError, Submitted, TaskFilter, TaskPage, Tasks,
    VerbError, WorkflowInfo,
};
use kedge_engine::store::{CommitError, Health, ReadError};
use kedge_engine::task::{
    Actor, ApprovalState, ApprovalView, EventView, Millis, StepStateView, StepView, TaskId, TaskState,
    TaskView, UndoView,
};
use serde_json::{Value, json};
use tokio::sync::watch;

/// A Standard Webhooks secret, that of the Rust library's tests.
pub(crate) const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

pub(crate) fn task_id(n: u64) -> TaskId {
    TaskId::from_bytes(u128::from(n).to_be_bytes())
}

/// A migrate of four steps, the first two done.
pub(crate) fn sample_task(n: u64, site: &str) -> TaskView {
    let step = |name: &str, class, state, after: &[&str]| StepView {
        name: name.to_owned(),
        title: format!("Do {name}"),
        class,
        state,
        attempts: u32::from(state == StepStateView::Succeeded),
        started_at: None,
        finished_at: None,
        progress: None,
        error: None,
        undo: UndoView { title: "Take it back".to_owned(), attempts: 0, error: None, finished_at: None },
        after: after.iter().map(|name| (*name).to_owned()).collect(),
    };
    TaskView {
        id: task_id(n),
        workflow: "migrate".to_owned(),
        site: Some(site.to_owned()),
        state: TaskState::Queued,
        params: json!({ "site": site }),
        steps: vec![
            step("look", Class::Query, StepStateView::Succeeded, &[]),
            step("copy", Class::Compensable, StepStateView::Succeeded, &["look"]),
            step("update", Class::Compensable, StepStateView::Pending, &["copy"]),
            step("switch", Class::Pivot, StepStateView::Pending, &["update"]),
        ],
        outcome: None,
        result: Value::Null,
        downtime_ms: None,
        blocked_on: None,
        approval: None,
        incident: None,
        error: None,
        correlation_id: None,
        priority: 0,
        trace: None,
        actor: Actor { name: "token:ci".to_owned(), via: "http".to_owned() },
        plan_hash: None,
        created_at: 1_795_363_200_000,
        started_at: None,
        finished_at: None,
        undo_until: None,
        sequence: 1,
        progress_version: 0,
    }
}

/// The same, waiting for a second person.
pub(crate) fn asked_task(n: u64, site: &str) -> TaskView {
    let approval = ApprovalView {
        state: ApprovalState::Asked,
        policy: "shops".to_owned(),
        before: "pivot".to_owned(),
        approvers: vec!["anna".to_owned(), "bert".to_owned()],
        asked_at: Some(1_795_363_200_000),
        until: Some(1_795_449_600_000),
        by: None,
        reason: None,
        decided_at: None,
    };
    TaskView { state: TaskState::Waiting, approval: Some(approval), ..sample_task(n, site) }
}

/// An engine whose tasks do only what a test says.
pub(crate) struct FakeTasks {
    state: Mutex<FakeState>,
    version: watch::Sender<u64>,
    pub(crate) inbox: Arc<FakeInbox>,
}

/// An inbox in memory.
#[derive(Default)]
pub(crate) struct FakeInbox(Mutex<BTreeMap<String, Received>>);

impl FakeInbox {
    /// All messages, newest first.
    pub(crate) fn all(&self) -> Vec<Received> {
        self.0.lock().unwrap().values().rev().cloned().collect()
    }
}

impl Inbox for FakeInbox {
    fn keep(&self, received: Received) -> bool {
        self.0.lock().unwrap().insert(received.id.clone(), received);
        true
    }

    fn received(&self, id: &str) -> Result<Option<Received>, ReadError> {
        Ok(self.0.lock().unwrap().get(id).cloned())
    }

    fn list(&self, before: Option<&str>, limit: usize) -> Result<Vec<Received>, ReadError> {
        let older =
            self.all().into_iter().filter(|message| before.is_none_or(|before| message.id.as_str() < before));
        Ok(older.take(limit).collect())
    }

    fn dropped(&self) -> u64 {
        0
    }
}

#[derive(Default)]
struct FakeState {
    tasks: BTreeMap<TaskId, TaskView>,
    events: HashMap<TaskId, Vec<EventView>>,
    dedupe: HashMap<(String, String), (Option<String>, TaskId)>,
    submissions: Vec<Submission>,
    refuse: Option<SubmitError>,
    health: Option<Health>,
    records: BTreeMap<(String, String), Value>,
    locks: Vec<LockView>,
    resolutions: Vec<Resolution>,
}

impl FakeTasks {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), version: watch::Sender::new(0), inbox: Arc::default() })
    }

    pub(crate) fn add(&self, task: TaskView) {
        let mut state = self.state.lock().unwrap();
        state.events.insert(task.id.clone(), vec![event(1, "task_accepted", task.state)]);
        state.tasks.insert(task.id.clone(), task);
    }

    /// Adds an event and moves the task to its state.
    pub(crate) fn happen(&self, id: &TaskId, kind: &str, to: TaskState) {
        {
            let mut state = self.state.lock().unwrap();
            let task = state.tasks.get_mut(id).unwrap();
            task.sequence += 1;
            task.state = to;
            let sequence = task.sequence;
            state.events.get_mut(id).unwrap().push(event(sequence, kind, to));
        }
        self.version.send_modify(|version| *version += 1);
    }

    /// Changes a task without an event, as progress does.
    pub(crate) fn change(&self, id: &TaskId, change: impl FnOnce(&mut TaskView)) {
        change(self.state.lock().unwrap().tasks.get_mut(id).unwrap());
        self.version.send_modify(|version| *version += 1);
    }

    pub(crate) fn refuse(&self, error: Option<SubmitError>) {
        self.state.lock().unwrap().refuse = error;
    }

    pub(crate) fn set_health(&self, health: Health) {
        self.state.lock().unwrap().health = Some(health);
    }

    pub(crate) fn record(&self, family: &str, name: &str, value: Value) {
        self.state.lock().unwrap().records.insert((family.to_owned(), name.to_owned()), value);
    }

    pub(crate) fn lock(&self, resource: &str) {
        let lock = LockView {
            resource: resource.to_owned(),
            shared: false,
            holders: vec![task_id(1)],
            waiting: vec![],
        };
        self.state.lock().unwrap().locks.push(lock);
    }

    pub(crate) fn submissions(&self) -> Vec<Submission> {
        self.state.lock().unwrap().submissions.clone()
    }

    pub(crate) fn resolutions(&self) -> Vec<Resolution> {
        self.state.lock().unwrap().resolutions.clone()
    }

    fn verb(&self, id: &TaskId, allowed: &[TaskState], to: TaskState) -> Result<TaskView, VerbError> {
        let view = self.task(id).unwrap().ok_or(VerbError::UnknownTask)?;
        if !allowed.contains(&view.state) {
            return Err(VerbError::Conflict(format!("the task is {}", view.state.as_str())));
        }
        self.happen(id, "verb", to);
        Ok(self.task(id).unwrap().unwrap())
    }
}

fn event(sequence: u64, kind: &str, state: TaskState) -> EventView {
    EventView {
        sequence,
        at: 1_795_363_200_000 + sequence,
        kind: kind.to_owned(),
        data: json!({"n": sequence}),
        state,
    }
}

impl Tasks for FakeTasks {
    fn workflows(&self) -> Vec<WorkflowInfo> {
        let schema = json!({
            "type": "object", "additionalProperties": false, "required": ["site"],
            "properties": {
                "site": {"type": "string", "format": "hostname"}, "target_platform": {"type": "string"},
                "new_site": {"type": "string"}, "password": {"type": "string", "maxLength": 4},
                "hold": {"type": "integer"}
            }
        });
        let info = |name: &str| WorkflowInfo {
            name: name.to_owned(),
            title: format!("Does a {name}"),
            schema: schema.clone(),
            example: json!({"site": "shop.test"}),
        };
        vec![info("migrate"), info("backup")]
    }

    fn preview(&self, workflow: &str, params: &Value) -> Result<PlanView, SubmitError> {
        assert_ne!(params["site"], "panic.a.test", "a panic on demand");
        if let Some(error) = self.state.lock().unwrap().refuse.clone() {
            return Err(error);
        }
        let task = sample_task(1, params["site"].as_str().unwrap_or_default());
        Ok(PlanView {
            workflow: workflow.to_owned(),
            site: task.site,
            steps: task.steps,
            pivot: Some("switch".to_owned()),
            locks: Vec::new(),
            resources: Vec::new(),
            notes: Vec::new(),
            plan_hash: "ab12".to_owned(),
            estimate: None,
        })
    }

    fn submit(&self, submission: Submission) -> BoxFuture<'_, Result<Submitted, SubmitError>> {
        let done = {
            let mut state = self.state.lock().unwrap();
            for key in &submission.dedupe {
                if let Some((fingerprint, id)) = state.dedupe.get(&(key.scope.clone(), key.key.clone())) {
                    if *fingerprint != key.fingerprint {
                        return std::future::ready(Err(SubmitError::KeyReused(key.key.clone()))).boxed();
                    }
                    let view = state.tasks[id].clone();
                    return std::future::ready(Ok(Submitted::Duplicate(view))).boxed();
                }
            }
            if let Some(error) = state.refuse.clone() {
                return std::future::ready(Err(error)).boxed();
            }
            if submission.if_plan.as_ref().is_some_and(|hash| hash != "ab12") {
                return std::future::ready(Err(SubmitError::PlanChanged { now: "ab12".to_owned() })).boxed();
            }
            let n = 1000 + state.submissions.len() as u64;
            let mut view = sample_task(n, submission.params["site"].as_str().unwrap_or_default());
            view.workflow = submission.workflow.clone();
            view.params = submission.params.clone();
            view.correlation_id = submission.correlation_id.clone();
            view.priority = submission.priority;
            view.trace = submission.trace.clone();
            view.actor = submission.actor.clone();
            for key in &submission.dedupe {
                let entry = (key.fingerprint.clone(), view.id.clone());
                state.dedupe.insert((key.scope.clone(), key.key.clone()), entry);
            }
            // In one go: whoever sees the submission sees its task.
            state.events.insert(view.id.clone(), vec![event(1, "task_accepted", view.state)]);
            state.tasks.insert(view.id.clone(), view.clone());
            state.submissions.push(submission);
            view
        };
        std::future::ready(Ok(Submitted::Created(done))).boxed()
    }

    fn submit_received(
        &self,
        submission: Submission,
        received: Received,
    ) -> BoxFuture<'_, Result<Submitted, SubmitError>> {
        let done = self.submit(submission);
        async move {
            let done = done.await;
            if let Ok(Submitted::Created(view)) = &done {
                self.inbox.keep(Received { task: Some(view.id.clone()), ..received });
            }
            done
        }
        .boxed()
    }

    fn task(&self, id: &TaskId) -> Result<Option<TaskView>, ReadError> {
        Ok(self.state.lock().unwrap().tasks.get(id).cloned())
    }

    fn tasks(&self, filter: &TaskFilter) -> Result<TaskPage, ReadError> {
        let state = self.state.lock().unwrap();
        let fits = |task: &&TaskView| {
            filter.site.as_ref().is_none_or(|site| task.site.as_ref() == Some(site))
                && filter.workflow.as_ref().is_none_or(|workflow| task.workflow == *workflow)
                && filter.state.is_none_or(|state| task.state == state)
                && filter.since.is_none_or(|since| task.created_at >= since)
                && filter.before.as_ref().is_none_or(|before| task.id < *before)
        };
        let limit = filter.limit.min(200);
        let all: Vec<TaskView> = state.tasks.values().rev().filter(fits).take(limit + 1).cloned().collect();
        let tasks: Vec<TaskView> = all.iter().take(limit).cloned().collect();
        let next = (all.len() > limit).then(|| tasks.last().unwrap().id.clone());
        Ok(TaskPage { tasks, next })
    }

    fn events(&self, id: &TaskId, after: u64, limit: usize) -> Result<Vec<EventView>, ReadError> {
        let state = self.state.lock().unwrap();
        let events = state.events.get(id).into_iter().flatten();
        Ok(events.filter(|event| event.sequence > after).take(limit).cloned().collect())
    }

    fn changed(&self, id: &TaskId, sequence: u64, progress_version: u64) -> BoxFuture<'static, ()> {
        let changed = self
            .state
            .lock()
            .unwrap()
            .tasks
            .get(id)
            .is_none_or(|task| task.sequence > sequence || task.progress_version > progress_version);
        let mut version = self.version.subscribe();
        if changed {
            return std::future::ready(()).boxed();
        }
        async move {
            // The sender lives as long as the fake; a test that drops it is over.
            version.changed().await.unwrap_or_default();
        }
        .boxed()
    }

    fn log(&self, _: &TaskId, step: &str) -> Result<Option<String>, ReadError> {
        Ok((step == "copy").then(|| "copied 3 files\n".to_owned()))
    }

    fn cancel(&self, id: &TaskId, _: Actor, _: String) -> BoxFuture<'_, Result<TaskView, VerbError>> {
        let allowed = [TaskState::Queued, TaskState::Running, TaskState::Waiting];
        std::future::ready(self.verb(id, &allowed, TaskState::Compensating)).boxed()
    }

    fn retry(&self, id: &TaskId, _: Actor) -> BoxFuture<'_, Result<TaskView, VerbError>> {
        std::future::ready(self.verb(id, &[TaskState::Stuck], TaskState::Compensating)).boxed()
    }

    fn undo(&self, id: &TaskId, _: Actor) -> BoxFuture<'_, Result<TaskView, VerbError>> {
        std::future::ready(self.verb(id, &[TaskState::Succeeded], TaskState::Succeeded)).boxed()
    }

    fn decide(
        &self,
        id: &TaskId,
        approve: bool,
        reason: String,
        actor: Actor,
    ) -> BoxFuture<'_, Result<TaskView, VerbError>> {
        let asks = self.task(id).unwrap().is_some_and(|task| crate::message::is_asked(&task));
        if !asks {
            return std::future::ready(Err(VerbError::Conflict("the task asks nobody".to_owned()))).boxed();
        }
        let to = if approve { TaskState::Running } else { TaskState::Compensating };
        self.change(id, |task| {
            let approval = task.approval.as_mut().unwrap();
            approval.state = if approve { ApprovalState::Granted } else { ApprovalState::Refused };
            (approval.by, approval.reason) = (Some(actor), Some(reason));
        });
        std::future::ready(self.verb(id, &[TaskState::Waiting], to)).boxed()
    }

    fn resolve(&self, id: &TaskId, how: Resolution, _: Actor) -> BoxFuture<'_, Result<TaskView, VerbError>> {
        self.state.lock().unwrap().resolutions.push(how);
        std::future::ready(self.verb(id, &[TaskState::Stuck], TaskState::Compensating)).boxed()
    }

    fn records(
        &self,
        family: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Value)>, ReadError> {
        let state = self.state.lock().unwrap();
        let of = state
            .records
            .iter()
            .filter(|((of, name), _)| of == family && after.is_none_or(|after| name.as_str() > after));
        Ok(of.map(|((_, name), value)| (name.clone(), value.clone())).take(limit).collect())
    }

    fn record(&self, family: &str, name: &str) -> Result<Option<Value>, ReadError> {
        Ok(self.state.lock().unwrap().records.get(&(family.to_owned(), name.to_owned())).cloned())
    }

    fn locks(&self) -> Vec<LockView> {
        self.state.lock().unwrap().locks.clone()
    }

    fn health(&self) -> Health {
        self.state.lock().unwrap().health.clone().unwrap_or(Health::Ready)
    }
}

/// A callback and what reading it fails with.
type Unread = (String, fn(String) -> ReadError);

/// An outbox in memory.
pub(crate) struct FakeOutbox {
    pub(crate) callbacks: Mutex<BTreeMap<String, Callback>>,
    pub(crate) log: Mutex<Vec<Delivery>>,
    queued: watch::Sender<u64>,
    pub(crate) recorded: watch::Sender<usize>,
    /// Attempts that could not be recorded, once it refuses them.
    pub(crate) refused: watch::Sender<Option<usize>>,
    /// A callback that cannot be read alone, and why.
    pub(crate) unreadable: Mutex<Option<Unread>>,
}

impl FakeOutbox {
    pub(crate) fn new() -> Arc<Self> {
        let (queued, recorded) = (watch::Sender::new(0), watch::Sender::new(0));
        let (callbacks, log, unreadable) = (Mutex::default(), Mutex::default(), Mutex::default());
        Arc::new(Self { callbacks, log, queued, recorded, refused: watch::Sender::new(None), unreadable })
    }

    /// Queues a callback of a task, due at once.
    pub(crate) fn queue(&self, id: &str, endpoint: &str, task: u64, sequence: u64) {
        let body =
            json!({"type": "task.succeeded", "data": {"workflow": "migrate", "site": "a.test", "id": id}});
        let callback = Callback {
            id: id.to_owned(),
            task: task_id(task),
            sequence,
            endpoint: endpoint.to_owned(),
            event: "task.succeeded".to_owned(),
            state: TaskState::Succeeded,
            body: body.to_string(),
            created_at: 1_795_363_200_000,
            attempts: 0,
            trace: None,
            status: CallbackStatus::Due { at: 0 },
        };
        self.callbacks.lock().unwrap().insert(id.to_owned(), callback);
        self.queued.send_modify(|n| *n += 1);
    }

    pub(crate) fn status(&self, id: &str) -> CallbackStatus {
        self.callbacks.lock().unwrap()[id].status.clone()
    }

    /// Waits until so many attempts are recorded.
    pub(crate) async fn attempts(&self, count: usize) -> Vec<Delivery> {
        self.recorded.subscribe().wait_for(|have| *have >= count).await.unwrap();
        self.log.lock().unwrap().clone()
    }
}

impl Outbox for FakeOutbox {
    fn due(&self, now: Millis, limit: usize) -> Result<Vec<Callback>, ReadError> {
        let callbacks = self.callbacks.lock().unwrap();
        let at = |callback: &Callback| match callback.status {
            CallbackStatus::Due { at } if at <= now => Some(at),
            _ => None,
        };
        let mut due: Vec<Callback> =
            callbacks.values().filter(|callback| at(callback).is_some()).cloned().collect();
        due.sort_by_key(|callback| at(callback));
        due.truncate(limit);
        Ok(due)
    }

    fn next_due(&self) -> Result<Option<Millis>, ReadError> {
        let callbacks = self.callbacks.lock().unwrap();
        let at = |callback: &Callback| match callback.status {
            CallbackStatus::Due { at } => Some(at),
            CallbackStatus::Delivered { .. } | CallbackStatus::Dead { .. } => None,
        };
        Ok(callbacks.values().filter_map(at).min())
    }

    fn queued(&self) -> BoxFuture<'static, ()> {
        let mut queued = self.queued.subscribe();
        async move { queued.changed().await.unwrap_or_default() }.boxed()
    }

    fn record(&self, delivery: Delivery, then: CallbackStatus) -> BoxFuture<'_, Result<(), CommitError>> {
        if self.refused.borrow().is_some() {
            self.refused.send_modify(|count| *count = count.map(|count| count + 1));
            return std::future::ready(Err(CommitError::TooLarge("a test".to_owned()))).boxed();
        }
        {
            let mut callbacks = self.callbacks.lock().unwrap();
            let callback = callbacks.get_mut(&delivery.callback).unwrap();
            callback.attempts = delivery.attempt;
            callback.status = then;
            self.log.lock().unwrap().push(delivery);
        }
        self.recorded.send_modify(|count| *count += 1);
        std::future::ready(Ok(())).boxed()
    }

    fn queue(&self, callback: Callback) -> BoxFuture<'_, Result<(), CommitError>> {
        self.callbacks.lock().unwrap().insert(callback.id.clone(), callback);
        self.queued.send_modify(|n| *n += 1);
        std::future::ready(Ok(())).boxed()
    }

    fn replay(&self, id: &str, now: Millis) -> BoxFuture<'_, Result<bool, CommitError>> {
        let mut callbacks = self.callbacks.lock().unwrap();
        let found = callbacks.get_mut(id).map(|callback| callback.status = CallbackStatus::Due { at: now });
        self.queued.send_modify(|n| *n += 1);
        std::future::ready(Ok(found.is_some())).boxed()
    }

    fn callback(&self, id: &str) -> Result<Option<Callback>, ReadError> {
        if let Some((_, error)) = self.unreadable.lock().unwrap().as_ref().filter(|(name, _)| name == id) {
            return Err(error("a test".to_owned()));
        }
        Ok(self.callbacks.lock().unwrap().get(id).cloned())
    }

    fn callbacks(&self, before: Option<&str>, limit: usize) -> Result<Vec<Callback>, ReadError> {
        let callbacks = self.callbacks.lock().unwrap();
        let older = callbacks
            .values()
            .rev()
            .filter(|callback| before.is_none_or(|before| callback.id.as_str() < before));
        Ok(older.take(limit).cloned().collect())
    }

    fn callbacks_of(
        &self,
        of: CallbacksOf<'_>,
        before: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Callback>, ReadError> {
        let mut found = self.callbacks(before, usize::MAX)?;
        found.retain(|callback| of.contains(callback));
        found.truncate(limit);
        Ok(found)
    }

    fn deliveries(&self, id: &str) -> Result<Vec<Delivery>, ReadError> {
        Ok(self.log.lock().unwrap().iter().filter(|delivery| delivery.callback == id).cloned().collect())
    }
}

/// A clock that moves only when told to.
pub(crate) struct FakeClock(watch::Sender<Millis>);

impl FakeClock {
    pub(crate) fn at(now: Millis) -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(now)))
    }

    pub(crate) fn set(&self, now: Millis) {
        self.0.send_replace(now);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Millis {
        *self.0.borrow()
    }

    fn sleep_until(&self, at: Millis) -> BoxFuture<'static, ()> {
        let mut now = self.0.subscribe();
        async move {
            if now.wait_for(|now| *now >= at).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        .boxed()
    }
}

/// The link of task 1; the others have none.
pub(crate) const LINK: &str = "http://shop.a.test/index.php?kedge_login=0123";

pub(crate) struct FakeDesk;

impl crate::Desk for FakeDesk {
    fn archive(&self, backup: &str) -> BoxFuture<'_, Result<crate::Archive, crate::DeskError>> {
        let read = |pieces: Vec<std::io::Result<bytes::Bytes>>| {
            Ok(crate::Archive { bytes: 11, stream: Box::pin(futures::stream::iter(pieces)) })
        };
        let archive = match backup {
            "gone.tar.zst" => Err(crate::DeskError::Unknown("it is not there any more".to_owned())),
            "broken.tar.zst" => read(vec![Ok("arch".into()), Err(std::io::Error::other("a bad block"))]),
            _ => read(vec![Ok("arch".into()), Ok("ive...".into()), Ok(".".into())]),
        };
        std::future::ready(archive).boxed()
    }

    fn login_link(&self, task: &TaskId) -> BoxFuture<'_, Result<Option<String>, String>> {
        let link = (*task == task_id(1)).then(|| LINK.to_owned());
        std::future::ready(Ok(link)).boxed()
    }

    fn compare(
        &self,
        from: &str,
        to: &str,
        site: Option<&str>,
    ) -> BoxFuture<'_, Result<Value, crate::DeskError>> {
        let answer = match to {
            "nowhere" => Err(crate::DeskError::Unknown("there is no such platform".to_owned())),
            "other" => Err(crate::DeskError::Refused("another application".to_owned())),
            "away" => Err(crate::DeskError::Failed("the host is away".to_owned())),
            _ => Ok(json!({ "from": from, "to": to, "site": site, "errors": 0, "warnings": 1, "rows": [{
                "kind": "module", "name": "views", "enabled": true, "site_version": "3.2", "target_version": null,
                "site_schema": 7300, "target_schema": null, "verdict": "missing",
            }] })),
        };
        std::future::ready(answer).boxed()
    }

    fn add_platform(&self, new: crate::NewPlatform) -> BoxFuture<'_, Result<Value, crate::DeskError>> {
        let answer = match new.name.as_str() {
            "taken" => Err(crate::DeskError::Refused("there is a platform taken".to_owned())),
            "lost" => Err(crate::DeskError::Failed("the disk is full".to_owned())),
            _ if new.web_server != "web1" => {
                Err(crate::DeskError::Unfit(vec![("web_server", "is not configured".to_owned())]))
            }
            _ => Ok(
                json!({ "name": new.name, "web_server": "web1", "root": new.root, "app": new.app, "source": "api" }),
            ),
        };
        std::future::ready(answer).boxed()
    }

    fn remove_platform(&self, name: &str) -> BoxFuture<'_, Result<(), crate::DeskError>> {
        let answer = match name {
            "new" => Ok(()),
            "used" => Err(crate::DeskError::Refused("a site lives on it".to_owned())),
            _ => Err(crate::DeskError::Unknown("there is no such platform".to_owned())),
        };
        std::future::ready(answer).boxed()
    }
}

/// Counts up; rolls the middle.
#[derive(Default)]
pub(crate) struct FakeRandom(AtomicU64);

impl Random for FakeRandom {
    fn id(&self) -> [u8; 16] {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed)).to_be_bytes()
    }

    fn roll(&self) -> f64 {
        0.5
    }
}
