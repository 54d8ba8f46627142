//! The JSON that faces show: tasks, plans, events, callbacks. Pure: views in, values out. Field names are the contract's.

use jiff::Timestamp;
use kedge_engine::outbox::{Callback, CallbackStatus, Delivery};
use kedge_engine::plan::Class;
use kedge_engine::service::{LockView, PlanView};
use kedge_engine::step::StepError;
use kedge_engine::task::{
    ApprovalView, BlockedOn, EventView, Incident, Millis, OutcomeView, Progress, StepStateView, StepView,
    TaskId, TaskState, TaskView,
};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Where links begin: a base such as `https://kedge.example`, or nothing for links relative to the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links(String);

impl Links {
    /// Links below a base URL; `None`: paths alone.
    #[must_use]
    pub fn new(base: Option<&url::Url>) -> Self {
        Self(base.map(|base| base.as_str().trim_end_matches('/').to_owned()).unwrap_or_default())
    }

    /// Who we are, as a URI reference: the base, or a name.
    pub(crate) fn source(&self) -> &str {
        if self.0.is_empty() { "urn:kedge" } else { &self.0 }
    }

    /// An address below the base, if there is a base.
    pub(crate) fn below(&self, path: &str) -> Option<String> {
        (!self.0.is_empty()).then(|| format!("{}{path}", self.0))
    }

    /// A task's links. `undo` is there while a finished task can be taken back.
    #[must_use]
    pub fn task(&self, task: &TaskView) -> Value {
        let own = format!("{}{}", self.0, task_path(&task.id));
        let mut links = Map::new();
        for (name, below) in [("self", ""), ("events", "/events"), ("graph", "/graph")] {
            links.insert(name.to_owned(), format!("{own}{below}").into());
        }
        if task.workflow == "login" {
            links.insert("login".to_owned(), format!("{own}/login").into());
        }
        if task.undo_until.is_some() {
            links.insert("undo".to_owned(), format!("{own}/undo").into());
        }
        Value::Object(links)
    }
}

/// The path of a task.
#[must_use]
pub fn task_path(id: &TaskId) -> String {
    format!("/v1/tasks/{id}")
}

/// RFC 3339 in UTC with milliseconds.
#[must_use]
pub fn time(at: Millis) -> String {
    let at =
        i64::try_from(at).ok().and_then(|at| Timestamp::from_millisecond(at).ok()).unwrap_or(Timestamp::MAX);
    format!("{at:.3}")
}

fn maybe(at: Option<Millis>) -> Value {
    at.map_or(Value::Null, |at| time(at).into())
}

/// A task's body.
#[must_use]
pub fn task(view: &TaskView, links: &Links) -> Value {
    value(&body(view, links))
}

/// A task's body, to be written as it is: a list of forty steps need not be built as values first.
pub(crate) fn body<'a>(view: &'a TaskView, links: &Links) -> TaskBody<'a> {
    TaskBody {
        id: &view.id,
        workflow: &view.workflow,
        site: view.site.as_deref(),
        state: view.state,
        params: &view.params,
        steps: Some(view.steps.iter().map(step).collect()),
        outcome: view.outcome.as_ref().map(outcome),
        result: &view.result,
        downtime_ms: view.downtime_ms,
        blocked_on: view.blocked_on.as_ref().map(blocked_on),
        approval: view.approval.as_ref().map(approval),
        incident: view.incident.as_ref().map(incident),
        error: value(&view.error),
        correlation_id: view.correlation_id.as_deref(),
        priority: view.priority,
        traceparent: view.trace.as_deref(),
        actor: value(&view.actor),
        plan_hash: view.plan_hash.as_deref(),
        created_at: time(view.created_at),
        started_at: view.started_at.map(time),
        finished_at: view.finished_at.map(time),
        undo_until: view.undo_until.map(time),
        sequence: view.sequence,
        links: links.task(view),
    }
}

#[expect(clippy::expect_used, reason = "our own views: text keys, no maps of anything else")]
fn value(body: &impl Serialize) -> Value {
    serde_json::to_value(body).expect("a view is JSON")
}

/// See the contract.
#[derive(Serialize)]
pub(crate) struct TaskBody<'a> {
    id: &'a TaskId,
    workflow: &'a str,
    site: Option<&'a str>,
    state: TaskState,
    params: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<Vec<StepBody<'a>>>,
    outcome: Option<Value>,
    result: &'a Value,
    downtime_ms: Option<u64>,
    blocked_on: Option<Value>,
    approval: Option<Value>,
    incident: Option<Value>,
    error: Value,
    correlation_id: Option<&'a str>,
    priority: i8,
    traceparent: Option<&'a str>,
    actor: Value,
    plan_hash: Option<&'a str>,
    created_at: String,
    started_at: Option<String>,
    finished_at: Option<String>,
    undo_until: Option<String>,
    sequence: u64,
    links: Value,
}

#[derive(Serialize)]
struct StepBody<'a> {
    name: &'a str,
    title: &'a str,
    class: Class,
    state: StepStateView,
    attempts: u32,
    started_at: Option<String>,
    finished_at: Option<String>,
    progress: Option<&'a Progress>,
    error: Option<Value>,
    undo: UndoBody<'a>,
    after: &'a [String],
}

#[derive(Serialize)]
struct UndoBody<'a> {
    title: &'a str,
    attempts: u32,
    error: Option<Value>,
    finished_at: Option<String>,
}

fn step(view: &StepView) -> StepBody<'_> {
    StepBody {
        name: &view.name,
        title: &view.title,
        class: view.class,
        state: view.state,
        attempts: view.attempts,
        started_at: view.started_at.map(time),
        finished_at: view.finished_at.map(time),
        progress: view.progress.as_ref(),
        error: view.error.as_ref().map(error),
        undo: UndoBody {
            title: &view.undo.title,
            attempts: view.undo.attempts,
            error: view.undo.error.as_ref().map(error),
            finished_at: view.undo.finished_at.map(time),
        },
        after: &view.after,
    }
}

fn error(error: &StepError) -> Value {
    json!({ "class": error.class, "message": error.message })
}

fn outcome(view: &OutcomeView) -> Value {
    json!({ "verified": view.verified, "drift": view.drift })
}

fn blocked_on(view: &BlockedOn) -> Value {
    json!({
        "kind": view.kind,
        "what": view.what,
        "holder": view.holder,
        "since": time(view.since),
        "until": maybe(view.until),
    })
}

pub(crate) fn approval(view: &ApprovalView) -> Value {
    json!({
        "state": view.state,
        "policy": view.policy,
        "before": view.before,
        "approvers": view.approvers,
        "asked_at": maybe(view.asked_at),
        "until": maybe(view.until),
        "by": view.by,
        "reason": view.reason,
        "decided_at": maybe(view.decided_at),
    })
}

fn incident(view: &Incident) -> Value {
    let steps = view.steps.iter().map(|stuck| {
        json!({
            "step": stuck.step,
            "phase": stuck.phase,
            "reason": stuck.reason,
            "probe": stuck.probe,
            "by_hand": stuck.by_hand,
            "since": time(stuck.since),
        })
    });
    json!({ "steps": steps.collect::<Vec<_>>(), "verbs": view.verbs })
}

/// A task in a list: without its steps.
#[must_use]
pub fn task_line(view: &TaskView, links: &Links) -> Value {
    value(&TaskBody { steps: None, ..body(view, links) })
}

/// An event.
#[must_use]
pub fn event(view: &EventView) -> Value {
    json!({
        "sequence": view.sequence,
        "at": time(view.at),
        "type": view.kind,
        "state": view.state,
        "data": view.data,
    })
}

/// A plan, as a dry run answers it.
#[must_use]
pub fn plan(view: &PlanView) -> Value {
    json!({
        "workflow": view.workflow,
        "site": view.site,
        "steps": view.steps.iter().map(step).collect::<Vec<_>>(),
        "pivot": view.pivot,
        "locks": view.locks.iter().map(lock).collect::<Vec<_>>(),
        "resources": view.resources,
        "notes": view.notes,
        "plan_hash": view.plan_hash,
        "estimate": view.estimate,
    })
}

/// A lock.
#[must_use]
pub fn lock(view: &LockView) -> Value {
    json!({ "resource": view.resource, "shared": view.shared, "holders": view.holders, "waiting": view.waiting })
}

/// A callback without its body.
#[must_use]
pub fn callback(view: &Callback, endpoint: &str) -> Value {
    let (status, at) = match view.status {
        CallbackStatus::Due { at } => ("due", at),
        CallbackStatus::Delivered { at } => ("delivered", at),
        CallbackStatus::Dead { at } => ("dead", at),
    };
    json!({
        "id": view.id,
        "task_id": view.task,
        "sequence": view.sequence,
        "endpoint": endpoint,
        "type": view.event,
        "state": view.state,
        "status": status,
        "at": time(at),
        "attempts": view.attempts,
        "created_at": time(view.created_at),
        "links": { "self": format!("/v1/deliveries/{}", view.id), "task": task_path(&view.task) },
    })
}

/// An attempt to deliver.
#[must_use]
pub fn attempt(view: &Delivery) -> Value {
    json!({
        "attempt": view.attempt,
        "at": time(view.at),
        "duration_ms": view.duration_ms,
        "status": view.status,
        "error": view.error,
        "answer": view.answer,
    })
}

/// Whether a person who waits for a task has no more to wait for.
#[must_use]
pub fn is_settled(state: TaskState) -> bool {
    state.is_final() || state == TaskState::Stuck
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::sample_task;

    #[test]
    fn times_have_milliseconds() {
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(1_795_363_200_007), "2026-11-22T16:00:00.007Z");
        assert_eq!(time(u64::MAX), format!("{:.3}", Timestamp::MAX));
    }

    #[test]
    fn a_task_has_the_contracts_fields() {
        let links = Links::new(Some(&"https://kedge.example/".parse().unwrap()));
        let body = task(&sample_task(1, "a.test"), &links);
        for field in [
            "id",
            "workflow",
            "site",
            "state",
            "params",
            "steps",
            "outcome",
            "downtime_ms",
            "blocked_on",
            "incident",
            "correlation_id",
            "created_at",
            "started_at",
            "finished_at",
            "links",
        ] {
            assert!(body.get(field).is_some(), "{field}");
        }
        for field in
            ["name", "class", "state", "attempts", "started_at", "finished_at", "progress", "error", "undo"]
        {
            assert!(body["steps"][0].get(field).is_some(), "{field}");
        }
        let id = body["id"].as_str().unwrap();
        assert_eq!(body["links"]["events"], format!("https://kedge.example/v1/tasks/{id}/events"));
        assert!(task_line(&sample_task(1, "a.test"), &Links::default()).get("steps").is_none());
    }
}
