//! `POST /v1/tasks`: a task or, as a dry run, its plan.

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use hyper::body::Body as HttpBody;
use jiff::Timestamp;
use kedge_engine::service::{DedupeKey, Submission, Submitted};
use kedge_engine::task::{Actor, Millis};
use serde_json::{Value, json};

use crate::accept;
use crate::api;
use crate::app::Answer;
use crate::auth::{Token, Verb};
use crate::body::Body;
use crate::cx::Cx;
use crate::fields::Fields;
use crate::handlers::{self, MAX_CORRELATION, Query, settle, submit};
use crate::json;
use crate::problem::{Fault, Problem};
use crate::provider::is_json;

/// Longest name of a workflow.
const MAX_WORKFLOW: usize = 64;
/// How far ahead a task may be planned: a year, beyond which a number is a mistake.
const MAX_AHEAD_MS: u64 = 366 * 86_400_000;
/// Highest priority, and its opposite the lowest.
const MAX_PRIORITY: i8 = 100;
/// Longest `If-Plan`: a SHA-256 in hex, with room for other hashes.
const MAX_PLAN_HASH: usize = 128;
const IF_PLAN: HeaderName = HeaderName::from_static("if-plan");

/// A task as asked for.
struct Request {
    workflow: String,
    params: Value,
    callback: Option<Value>,
    correlation_id: Option<String>,
    not_before: Option<Millis>,
    priority: i8,
}

pub(crate) async fn create<B: HttpBody<Data = Bytes> + Unpin>(cx: &Cx<'_>, body: B) -> Answer {
    let token = cx.token()?;
    token.demand_some(Verb::Create)?;
    let headers = &cx.parts.headers;
    let content_type = content_type(headers)?;
    let dry_run = match Query::new(cx, &["dry_run"])?.get("dry_run") {
        None | Some("false") => false,
        Some("true" | "") => true,
        Some(_) => return Err(Problem::query("dry_run", "is true or false")),
    };
    let key = accept::idempotency_key(headers)?;
    let if_plan = if_plan(headers)?;
    let body = cx.body(body).await?;
    let request = read(cx, json::parse(&body).map_err(|error| Problem::json(&error))?)?;
    check(cx, token, &request)?;
    if dry_run {
        let plan = cx.app.ports.tasks.preview(&request.workflow, &request.params);
        let plan = plan.map_err(|error| submit::refusal(cx.app, error, |fault| fault.below("/params")))?;
        return Ok(handlers::json(StatusCode::OK, &api::plan(&plan)));
    }
    let dedupe = key.map(|key| DedupeKey {
        scope: format!("{} POST /v1/tasks", token.principal()),
        key,
        fingerprint: Some(submit::fingerprint(&[content_type.as_bytes(), &body])),
    });
    let submission = Submission {
        workflow: request.workflow,
        params: request.params,
        actor: Actor { name: token.principal(), via: "http".to_owned() },
        correlation_id: request.correlation_id,
        callback: request.callback,
        not_before: request.not_before,
        priority: request.priority,
        trace: cx.trace(),
        dedupe: dedupe.into_iter().collect(),
        if_plan,
    };
    match submit::submit(cx.app, submission).await? {
        Ok(Submitted::Created(view)) => answer(cx, view, false).await,
        Ok(Submitted::Duplicate(view)) => answer(cx, view, true).await,
        Err(error) => Err(submit::refusal(cx.app, error, |fault| fault.below("/params"))),
    }
}

/// 202 and the task, or 200 when the caller waited and it ended.
async fn answer(cx: &Cx<'_>, view: kedge_engine::task::TaskView, replayed: bool) -> Answer {
    let wait = accept::wait(&cx.parts.headers);
    let view = match wait {
        Some(time) => settle(cx.app, view, time, |view| api::is_settled(view.state)).await?,
        None => view,
    };
    let ended = wait.is_some() && view.state.is_final();
    let mut response = handlers::task(cx.app, StatusCode::ACCEPTED, &view);
    if ended {
        *response.status_mut() = StatusCode::OK;
        response.headers_mut().remove(header::RETRY_AFTER);
    }
    if replayed {
        response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
    applied(&mut response, wait);
    Ok(response)
}

/// Says that `Prefer: wait` was honoured.
pub(crate) fn applied(response: &mut Response<Body>, wait: Option<std::time::Duration>) {
    let value = wait.and_then(|time| HeaderValue::from_str(&format!("wait={}", time.as_secs())).ok());
    if let Some(value) = value {
        response.headers_mut().insert("preference-applied", value);
    }
}

/// The content type, which has to be JSON.
pub(crate) fn content_type(headers: &HeaderMap) -> Result<String, Problem> {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if is_json(value) {
        return Ok(value.to_owned());
    }
    Err(Problem::media_type("send JSON, with `Content-Type: application/json`"))
}

fn if_plan(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(IF_PLAN) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim().trim_matches('"');
    if text.is_empty() || text.len() > MAX_PLAN_HASH || !text.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(Problem::bad_request("If-Plan is the plan_hash that a dry run answered"));
    }
    Ok(Some(text.to_owned()))
}

fn read(cx: &Cx<'_>, body: Value) -> Result<Request, Problem> {
    let mut fields = Fields::new(body);
    let workflow = fields.text("workflow", MAX_WORKFLOW);
    fields.require("workflow", workflow.as_ref());
    let params = fields.any("params").unwrap_or_else(|| json!({}));
    let callback = fields.any("callback");
    let correlation_id = fields.text("correlation_id", MAX_CORRELATION);
    let priority = fields.any("priority").map_or(Some(0), |value| priority(&value));
    if priority.is_none() {
        let detail = format!(
            "is low, normal, high or a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY}; the higher goes first"
        );
        fields.fault("priority", detail);
    }
    let not_before =
        fields.text("not_before", 64).and_then(|text| match not_before(&text, cx.app.ports.clock.now()) {
            Ok(at) => Some(at),
            Err(detail) => {
                fields.fault("not_before", detail);
                None
            }
        });
    let mut faults = fields.finish().err().unwrap_or_default();
    if let Some(callback) = &callback {
        let wrong = cx.app.endpoints.check_callback(callback).err().unwrap_or_default();
        faults.extend(wrong.into_iter().map(|fault| fault.below("/callback")));
    }
    match workflow {
        Some(workflow) if faults.is_empty() => {
            let priority = priority.unwrap_or(0);
            Ok(Request { workflow, params, callback, correlation_id, not_before, priority })
        }
        _ => Err(Problem::invalid("the body is not a task that could be asked for", faults)),
    }
}

/// A priority as a word or a number.
fn priority(value: &Value) -> Option<i8> {
    match value.as_str() {
        Some("low") => return Some(-50),
        Some("normal") => return Some(0),
        Some("high") => return Some(50),
        Some(_) => return None,
        None => {}
    }
    // JSON knows one kind of number: 5.0 is whole.
    let number =
        value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() <= f64::from(MAX_PRIORITY))?;
    #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
    let number = Some(number as i8);
    number.filter(|number| (-MAX_PRIORITY..=MAX_PRIORITY).contains(number))
}

fn not_before(text: &str, now: Millis) -> Result<Millis, String> {
    let at: Timestamp =
        text.parse().map_err(|_| "is a time such as 2026-11-22T16:00:00Z, with its offset".to_owned())?;
    let at = u64::try_from(at.as_millisecond()).unwrap_or(0);
    if at > now + MAX_AHEAD_MS {
        return Err("is more than a year ahead".to_owned());
    }
    Ok(at)
}

fn check(cx: &Cx<'_>, token: &Token, request: &Request) -> Result<(), Problem> {
    token.demand(Verb::Create, &request.workflow)?;
    if !cx.app.schemas.knows(&request.workflow) {
        return Err(submit::unknown_workflow(cx.app));
    }
    let below = |faults: Vec<Fault>| faults.into_iter().map(|fault| fault.below("/params"));
    cx.app
        .schemas
        .check(&request.workflow, &request.params)
        .map_err(|faults| submit::bad_params(below(faults)))?;
    submit::check_sites(cx.app, token.sites(), &request.workflow, &request.params)
}
