//! Composes the callbacks of a task's state changes. Pure but for the clock it is given; the engine stores what it returns
//! together with the change, and the deliverer sends it.

use std::sync::Arc;

use kedge_engine::outbox::{Composer, NewCallback};
use kedge_engine::plan::Class;
use kedge_engine::ports::Clock;
use kedge_engine::task::{StepStateView, TaskState, TaskView};
use serde_json::{Value, json};

use crate::api::{self, Links};
use crate::endpoint::{APPROVAL_REQUESTED, Endpoints, Form, Kind};
use crate::message;
use crate::status::{Commit, STATUS};

/// Longest error text in a callback, as JSON: callbacks are thin, the whole stands at `links.self`.
const MAX_DETAIL: usize = 1000;
/// Largest result in a callback, as JSON.
const MAX_RESULT: usize = 1500;

/// Composes callbacks for the configured endpoints.
pub struct EndpointComposer {
    endpoints: Endpoints,
    links: Links,
    clock: Arc<dyn Clock>,
}

impl EndpointComposer {
    /// A composer for these endpoints; `links` should have a base, since receivers are elsewhere.
    pub fn new(endpoints: Endpoints, links: Links, clock: Arc<dyn Clock>) -> Self {
        Self { endpoints, links, clock }
    }
}

impl EndpointComposer {
    /// The mail with the link of a finished `login`, to whom it names.
    fn welcome(&self, event: &str, task: &TaskView) -> Option<NewCallback> {
        if task.workflow != "login" || task.state != TaskState::Succeeded {
            return None;
        }
        let all = self.endpoints.all();
        let (name, body) = all.iter().find_map(|endpoint| match &endpoint.kind {
            Kind::Mail(mail) => Some((endpoint.name.clone(), mail.welcome(task)?)),
            Kind::Web | Kind::Forge(_) => None,
        })?;
        Some(NewCallback { endpoint: name, event: event.to_owned(), body })
    }

    /// The status of the commit that a hook's message named.
    fn status(&self, event: &str, task: &TaskView, callback: &Value) -> Option<NewCallback> {
        let commit: Commit = serde_json::from_value(callback.get(STATUS)?.clone()).ok()?;
        let receiver = commit.receiver();
        let (endpoint, _) = self.endpoints.target(&receiver)?;
        let Kind::Forge(writer) = &endpoint.kind else { return None };
        let body = writer.body(task, &self.links)?.to_string();
        Some(NewCallback { endpoint: receiver, event: event.to_owned(), body })
    }
}

impl Composer for EndpointComposer {
    fn compose(&self, task: &TaskView, callback: Option<&Value>) -> Vec<NewCallback> {
        let Some(event) = event_of(task) else { return Vec::new() };
        let all = self.endpoints.all();
        let named = callback.and_then(|callback| callback.get("endpoint")).and_then(Value::as_str);
        let mut receivers: Vec<String> = all
            .iter()
            .filter(|endpoint| {
                let is_named = named == Some(endpoint.name.as_str());
                endpoint.wants(event) || (is_named && endpoint.wants_when_named(event))
            })
            .map(|endpoint| endpoint.name.clone())
            .collect();
        if let Some(url) = callback.and_then(|callback| callback.get("url")).and_then(Value::as_str)
            && let Some((endpoint, target)) = self.endpoints.target(url)
            && endpoint.wants_when_named(event)
            && !(endpoint.url == target && receivers.contains(&endpoint.name))
        {
            receivers.push(target.into());
        }
        let status = callback.and_then(|callback| self.status(event, task, callback));
        let now = task.finished_at.unwrap_or_else(|| self.clock.now());
        let callback = |receiver: String| {
            let (endpoint, _) = self.endpoints.target(&receiver)?;
            if let Kind::Mail(mail) = &endpoint.kind {
                let body = mail.body(task, &self.links)?;
                return Some(NewCallback { endpoint: receiver, event: event.to_owned(), body });
            }
            let body = match endpoint.form {
                Form::Standard => body(event, task, &self.links, now, endpoint.full).to_string(),
                Form::CloudEvents => cloud_event(event, task, &self.links, now, endpoint.full).to_string(),
                Form::Slack | Form::Mattermost | Form::Discord => {
                    message::of(endpoint.form, task, &self.links, self.endpoints.marks()).to_string()
                }
            };
            Some(NewCallback { endpoint: receiver, event: event.to_owned(), body })
        };
        receivers.into_iter().filter_map(callback).chain(status).chain(self.welcome(event, task)).collect()
    }
}

/// The event that tells a state; a queued task is told to nobody but its caller.
fn event_of(task: &TaskView) -> Option<&'static str> {
    match task.state {
        TaskState::Queued => None,
        TaskState::Running => Some("task.running"),
        TaskState::Waiting if message::is_asked(task) => Some(APPROVAL_REQUESTED),
        TaskState::Waiting => Some("task.waiting"),
        TaskState::Compensating => Some("task.compensating"),
        TaskState::Succeeded => Some("task.succeeded"),
        TaskState::RolledBack => Some("task.rolled_back"),
        TaskState::Stuck => Some("task.stuck"),
        TaskState::Canceled => Some("task.canceled"),
    }
}

fn body(event: &str, task: &TaskView, links: &Links, now: u64, full: bool) -> Value {
    let mut body = json!({
        "type": event,
        "timestamp": api::time(now),
        "data": {
            "task_id": task.id,
            "sequence": task.sequence,
            "workflow": task.workflow,
            "site": task.site,
            "state": task.state,
            "correlation_id": task.correlation_id,
            "result": result(task),
            "error": error(task),
            "links": links.task(task),
        },
    });
    if let Some(approval) = task.approval.as_ref().filter(|_| message::is_asked(task)) {
        body["data"]["approval"] = api::approval(approval);
    }
    if full {
        body["data"]["task"] = api::task(task, links);
    }
    body
}

/// The same as a CloudEvent in structured mode; its `id` is the task's and the event's, so that a repetition shows.
fn cloud_event(event: &str, task: &TaskView, links: &Links, now: u64, full: bool) -> Value {
    let standard = body(event, task, links, now, full);
    json!({
        "specversion": "1.0",
        "id": format!("{}.{}", task.id, task.sequence),
        "source": links.source(),
        "type": format!("kedge.{event}"),
        "subject": task.site,
        "time": standard["timestamp"],
        "datacontenttype": "application/json",
        "sequence": format!("{:020}", task.sequence),
        "data": standard["data"],
    })
}

fn result(task: &TaskView) -> Value {
    let mut result = match &task.result {
        Value::Object(map) if task.result.to_string().len() <= MAX_RESULT => map.clone(),
        Value::Object(_) | Value::Array(_) => {
            [("omitted".to_owned(), Value::Bool(true))].into_iter().collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => serde_json::Map::new(),
    };
    if let Some(downtime) = task.downtime_ms {
        result.insert("downtime_ms".to_owned(), downtime.into());
    }
    Value::Object(result)
}

/// What a task that was canceled says of its end; `compensated` says what became of what it had done.
const CANCELED: &str = "it was canceled";

fn error(task: &TaskView) -> Value {
    let compensated = match task.state {
        TaskState::Succeeded => return Value::Null,
        TaskState::RolledBack | TaskState::Canceled => proof(task),
        TaskState::Compensating => "partial",
        TaskState::Stuck if task.steps.iter().any(|step| step.state == StepStateView::Undone) => "partial",
        TaskState::Queued | TaskState::Running | TaskState::Waiting | TaskState::Stuck => "no",
    };
    let stuck = task.incident.as_ref().and_then(|incident| incident.steps.first());
    let (step, title, detail) = match (&task.error, stuck) {
        (Some(error), _) => (&error.step, Some(&error.title), &error.detail),
        (None, Some(stuck)) => {
            let title = task.steps.iter().find(|step| step.name == stuck.step).map(|step| &step.title);
            (&stuck.step, title, &stuck.reason)
        }
        // Somebody wanted it so: no step failed, and whether all is as before is still to be told.
        (None, None) if task.state == TaskState::Canceled => {
            return json!({ "step": null, "title": "canceled", "detail": CANCELED, "compensated": compensated });
        }
        (None, None) => return Value::Null,
    };
    json!({ "step": step, "title": title, "detail": clip(detail), "compensated": compensated })
}

/// What a finished rollback can claim. Without fingerprints it is verified only if no step with an effect was ever begun.
fn proof(task: &TaskView) -> &'static str {
    match task.outcome.as_ref().and_then(|outcome| outcome.verified) {
        Some(true) => "verified",
        Some(false) => "drift",
        None if task.steps.iter().any(|step| step.class != Class::Query && step.attempts > 0) => "partial",
        None => "verified",
    }
}

/// Cuts a text so that its JSON stays within [`MAX_DETAIL`] bytes.
fn clip(text: &str) -> String {
    let mut size = 0;
    let mut clipped = String::new();
    for c in text.chars() {
        size += if c.is_control() { 6 } else { c.len_utf8() + usize::from(matches!(c, '"' | '\\')) };
        if size > MAX_DETAIL {
            clipped.push('…');
            break;
        }
        clipped.push(c);
    }
    clipped
}

#[cfg(test)]
mod tests {
    use kedge_engine::task::{FailureView, OutcomeView};

    use super::*;
    use crate::endpoint::{Endpoint, EndpointSpec};
    use crate::secret::Secret;
    use crate::testing::{FakeClock, SECRET, sample_task};

    fn composer(endpoints: &[(&str, Option<&[&str]>)]) -> EndpointComposer {
        let endpoint = |(name, events): &(&str, Option<&[&str]>)| {
            Endpoint::new(EndpointSpec {
                name: (*name).to_owned(),
                url: format!("https://{name}.test/hook"),
                secrets: vec![Secret::new(SECRET)],
                events: events.map(|list| list.iter().map(|text| (*text).to_owned()).collect()),
                ..EndpointSpec::default()
            })
            .unwrap()
        };
        let endpoints = Endpoints::new(endpoints.iter().map(endpoint).collect()).unwrap();
        EndpointComposer::new(
            endpoints,
            Links::new(Some(&"https://kedge.test".parse().unwrap())),
            FakeClock::at(5),
        )
    }

    fn rolled_back() -> TaskView {
        let mut task = sample_task(7, "a.test");
        task.state = TaskState::RolledBack;
        task.error = Some(FailureView {
            step: "update".to_owned(),
            title: "Update the database".to_owned(),
            detail: "exit 1".to_owned(),
        });
        task.outcome = Some(OutcomeView { verified: Some(true), drift: Vec::new() });
        task.finished_at = Some(1_795_363_200_123);
        task.downtime_ms = Some(740);
        task
    }

    fn receivers(composer: &EndpointComposer, task: &TaskView, callback: Option<Value>) -> Vec<String> {
        composer.compose(task, callback.as_ref()).into_iter().map(|callback| callback.endpoint).collect()
    }

    #[test]
    fn the_body_is_the_contracts() {
        let task = rolled_back();
        let composed = composer(&[("ci", None)]).compose(&task, None);
        assert_eq!((composed.len(), composed[0].event.as_str()), (1, "task.rolled_back"));
        let body: Value = serde_json::from_str(&composed[0].body).unwrap();
        let own = format!("https://kedge.test/v1/tasks/{}", task.id);
        let want = json!({
            "type": "task.rolled_back",
            "timestamp": "2026-11-22T16:00:00.123Z",
            "data": {
                "task_id": task.id, "sequence": task.sequence, "workflow": "migrate", "site": "a.test",
                "state": "rolled_back", "correlation_id": null, "result": {"downtime_ms": 740},
                "error": {
                    "step": "update", "title": "Update the database", "detail": "exit 1", "compensated": "verified"
                },
                "links": {"self": own, "events": format!("{own}/events"), "graph": format!("{own}/graph")},
            },
        });
        assert_eq!(body, want);
    }

    #[test]
    fn filters_and_own_callbacks_decide_who_gets_it() {
        let some: &[&str] = &["task.succeeded"];
        let composer = composer(&[("all", None), ("good", Some(some)), ("asked", Some(&[]))]);
        let mut task = rolled_back();
        assert_eq!(receivers(&composer, &task, None), ["all"]);
        assert_eq!(receivers(&composer, &task, Some(json!({"endpoint": "asked"}))), ["all", "asked"]);
        assert_eq!(receivers(&composer, &task, Some(json!({"endpoint": "all"}))), ["all"]);
        let url = "https://all.test/job/7";
        assert_eq!(receivers(&composer, &task, Some(json!({"url": url}))), ["all", url]);
        assert_eq!(receivers(&composer, &task, Some(json!({"url": "https://all.test/hook"}))), ["all"]);
        assert_eq!(receivers(&composer, &task, Some(json!({"url": "https://evil.test/"}))), ["all"]);
        task.state = TaskState::Stuck;
        assert_eq!(
            receivers(&composer, &task, None),
            ["all", "good", "asked"],
            "everybody hears of a stuck task"
        );
        task.state = TaskState::Queued;
        assert!(receivers(&composer, &task, None).is_empty());
        task.state = TaskState::Running;
        assert!(receivers(&composer, &task, None).is_empty());
    }

    #[test]
    fn compensated_claims_no_more_than_is_known() {
        let mut task = rolled_back();
        let claim = |task: &TaskView| error(task)["compensated"].clone();
        task.outcome = Some(OutcomeView { verified: Some(false), drift: Vec::new() });
        assert_eq!(claim(&task), "drift");
        task.outcome = None;
        task.steps[1].attempts = 1;
        assert_eq!(claim(&task), "partial", "undone, but nobody compared");
        for step in &mut task.steps {
            step.attempts = u32::from(step.class == Class::Query);
        }
        assert_eq!(claim(&task), "verified", "only looked");
        task.state = TaskState::Compensating;
        assert_eq!(claim(&task), "partial");
        task.state = TaskState::Stuck;
        assert_eq!(claim(&task), "no");
        task.state = TaskState::Succeeded;
        assert_eq!(error(&task), Value::Null);
    }

    #[test]
    fn a_canceled_task_tells_whether_all_is_as_before() {
        let mut task = rolled_back();
        (task.state, task.error) = (TaskState::Canceled, None);
        let told = error(&task);
        assert_eq!((&told["step"], &told["compensated"]), (&Value::Null, &json!("verified")));
        task.outcome = Some(OutcomeView { verified: Some(false), drift: Vec::new() });
        assert_eq!(error(&task)["compensated"], "drift");
    }

    #[test]
    fn an_endpoint_gets_its_own_form() {
        let endpoint = |name: &str, form, full| {
            Endpoint::new(EndpointSpec {
                name: name.to_owned(),
                url: format!("https://{name}.test/hook"),
                secrets: vec![Secret::new(SECRET)],
                form,
                full,
                ..EndpointSpec::default()
            })
            .unwrap()
        };
        let list = vec![
            endpoint("thin", Form::Standard, false),
            endpoint("full", Form::Standard, true),
            endpoint("cloud", Form::CloudEvents, false),
            endpoint("discord", Form::Discord, false),
        ];
        let links = Links::new(Some(&"https://kedge.test".parse().unwrap()));
        let composer = EndpointComposer::new(Endpoints::new(list).unwrap(), links, FakeClock::at(5));
        let task = rolled_back();
        let bodies: Vec<Value> = composer
            .compose(&task, None)
            .iter()
            .map(|callback| serde_json::from_str(&callback.body).unwrap())
            .collect();
        let [thin, full, cloud, discord] = &bodies[..] else { panic!("{bodies:?}") };
        assert_eq!((thin["data"].get("task"), &full["data"]["task"]["id"]), (None, &json!(task.id)));
        assert_eq!(full["data"]["task"]["steps"].as_array().unwrap().len(), 4);
        assert_eq!(
            (&cloud["specversion"], &cloud["type"]),
            (&json!("1.0"), &json!("kedge.task.rolled_back"))
        );
        assert_eq!((&cloud["source"], &cloud["subject"]), (&json!("https://kedge.test"), &json!("a.test")));
        assert_eq!(cloud["data"], thin["data"]);
        assert!(discord["content"].as_str().unwrap().contains("rolled back"), "{discord}");
    }

    #[test]
    fn the_body_stays_small() {
        let mut task = rolled_back();
        task.error.as_mut().unwrap().detail = "\u{1}\"ü".repeat(100_000);
        task.result = json!({"list": vec!["x"; 10_000]});
        task.correlation_id = Some("ü".repeat(128));
        let body = &composer(&[("ci", None)]).compose(&task, None)[0].body;
        assert!(body.len() < 3500, "{}", body.len());
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["data"]["result"], json!({"omitted": true, "downtime_ms": 740}));
    }
}
