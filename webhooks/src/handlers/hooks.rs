//! `POST /v1/hooks/{hook}`: verify, parse, filter, map, persist, 202. Nothing of the body is looked at before its signature holds,
//! and whoever has no key learns nothing, not even whether the hook exists.

use bytes::Bytes;
use http::{Response, StatusCode, header};
use hyper::body::Body as HttpBody;
use kedge_engine::inbox::Received;
use kedge_engine::service::{DedupeKey, Submission, SubmitError, Submitted};
use kedge_engine::task::{Actor, TaskId, TaskView};
use serde_json::{Value, json};

use crate::api;
use crate::app::Answer;
use crate::auth::{Token, Verb};
use crate::body::Body;
use crate::cx::Cx;
use crate::handlers::{self, submit};
use crate::hook::{Decision, Hook, verify_nothing};
use crate::inbox::{self, Status, Story};
use crate::problem::Problem;
use crate::provider::{Provider, Verified, is_form, is_unsigned_ping};
use crate::signature::Refused;

/// What a message led to.
enum Outcome {
    Accepted(TaskView),
    Duplicate(TaskView),
    Ignored(String),
    /// The sender only wants to be answered this.
    Greeted(Value),
}

pub(crate) async fn receive<B: HttpBody<Data = Bytes> + Unpin>(cx: &Cx<'_>, name: &str, body: B) -> Answer {
    let mut story =
        Story { hook: name.to_owned(), headers: inbox::headers(&cx.parts.headers), ..Story::default() };
    let body = match cx.body(body).await {
        Ok(body) => body,
        Err(problem) => {
            keep(cx, story, Status::Rejected, Some(&problem.in_words()));
            return Err(problem);
        }
    };
    story.bytes = body.len();
    if is_unsigned_ping(&cx.parts.headers) {
        let reason =
            "a ping without a signature: the address is right; whether the secret is, it cannot tell";
        keep(cx, story, Status::Rejected, Some(reason));
        return answer(cx, Ok(Outcome::Ignored(reason.to_owned())));
    }
    let (hook, verified) = match verify(cx, name, &body) {
        Ok(verified) => verified,
        Err(refused) => {
            story.payload = inbox::preview(content_type(cx), &body);
            keep(cx, story, Status::Rejected, Some(&refused.to_string()));
            return Err(not_verified());
        }
    };
    cx.hook(&hook.name)?;
    story.provider = Some(hook.scheme.provider.as_str());
    story.digest = submit::fingerprint(&[&body]);
    story.verified = Some(verified.clone());
    let outcome = match read(cx, hook, verified, &body) {
        Ok(Read::Greeting(greeting)) => {
            keep(cx, story, Status::Ignored, Some("a greeting: it is answered, and nothing is done"));
            Ok(Outcome::Greeted(greeting))
        }
        Ok(Read::Message(verified, payload)) => {
            story.verified = Some(verified);
            decide(cx, hook, story, payload, Again::No).await
        }
        Err(problem) => {
            keep(cx, story, Status::Invalid, Some(&problem.in_words()));
            Err(problem)
        }
    };
    // A person waits in a chat, which shows answers of its own form only.
    match outcome {
        Ok(Outcome::Greeted(_)) => answer(cx, outcome),
        outcome => spoken(cx, hook.scheme.provider, &outcome).map_or_else(|| answer(cx, outcome), Ok),
    }
}

/// A message from the inbox, once more: through the hook as it is now, for the token that asks.
pub(crate) async fn again(cx: &Cx<'_>, hook: &Hook, received: &Received) -> Answer {
    let token = cx.token()?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let verified = Verified {
        delivery: text(&received.rest["delivery"]),
        event: text(&received.line["event"]),
        id_is_signed: received.rest["signature"]["id_is_signed"] == true,
        key: 0,
    };
    let story = Story {
        hook: hook.name.clone(),
        provider: Some(hook.scheme.provider.as_str()),
        headers: received.rest["headers"].clone(),
        digest: text(&received.rest["digest"]).unwrap_or_default(),
        bytes: received.line["bytes"].as_u64().and_then(|bytes| bytes.try_into().ok()).unwrap_or_default(),
        replay_of: Some(received.id.clone()),
        verified: Some(verified),
        ..Story::default()
    };
    // Whoever replays what has become a task wants another one; what has not, its sender may have sent again meanwhile.
    let again = if received.task.is_some() { Again::New(token) } else { Again::Once(token) };
    answer(cx, decide(cx, hook, story, received.rest["payload"].clone(), again).await)
}

/// Whether a message comes from its sender or from the inbox, and on whose behalf.
#[derive(Clone, Copy)]
enum Again<'a> {
    No,
    Once(&'a Token),
    New(&'a Token),
}

/// Keeps a message that becomes no task.
fn keep(cx: &Cx<'_>, story: Story, status: Status, reason: Option<&str>) {
    let received = story.received(new_id(cx), cx.app.ports.clock.now(), status, reason);
    if !cx.app.ports.inbox.keep(received) {
        tracing::debug!(target: "kedge::http", "a message was not kept: they come too quickly");
    }
}

fn new_id(cx: &Cx<'_>) -> String {
    format!("in_{}", hex::encode(cx.app.ports.random.id()))
}

/// The hook whose signature the body has. A wrong signature and an unknown hook look the same, and take the same time.
fn verify<'a>(cx: &Cx<'a>, name: &str, body: &[u8]) -> Result<(&'a Hook, Verified), Refused> {
    let now_s = cx.app.ports.clock.now() / 1000;
    let hook = cx.access.hooks.iter().find(|hook| hook.name == name);
    let checked = match hook {
        Some(hook) => hook.verify(&cx.parts.headers, body, now_s).map(|verified| (hook, verified)),
        None => Err(verify_nothing(&cx.parts.headers, body, now_s)),
    };
    checked.inspect_err(|refused| {
        let hook = hook.map(|hook| hook.name.as_str());
        tracing::warn!(target: "kedge::http", hook, reason = %refused, "a webhook was refused");
    })
}

/// The same for every message whose signature does not hold.
pub(crate) fn not_verified() -> Problem {
    let detail = "there is no such hook, or the signature does not hold: check the hook's name, its secret, that the raw \
                  body is signed, and the sender's clock";
    Problem::new(StatusCode::UNAUTHORIZED, "bad-signature", "Not verified", detail)
        .header(header::WWW_AUTHENTICATE, "Webhook-Signature realm=\"kedge\"")
}

enum Read {
    Greeting(Value),
    Message(Verified, Value),
}

/// Reads a message whose signature holds.
fn read(cx: &Cx<'_>, hook: &Hook, verified: Verified, body: &[u8]) -> Result<Read, Problem> {
    let provider = hook.scheme.provider;
    let payload = provider.payload(content_type(cx), body);
    let payload =
        payload.ok_or_else(|| Problem::media_type("send JSON, with `Content-Type: application/json`"))?;
    let payload = payload.map_err(|error| Problem::json(&error))?;
    if let Some(greeting) = provider.greeting(&payload.value) {
        return Ok(Read::Greeting(greeting));
    }
    let verified = Verified {
        delivery: verified.delivery.or(payload.delivery),
        event: verified.event.or(payload.event),
        ..verified
    };
    Ok(Read::Message(verified, payload.value))
}

/// What a message leads to. Either way it is kept, with the reason.
async fn decide(
    cx: &Cx<'_>,
    hook: &Hook,
    mut story: Story,
    payload: Value,
    again: Again<'_>,
) -> Result<Outcome, Problem> {
    let Some(verified) = story.verified.clone() else { return Err(Problem::internal()) };
    let examined = hook.examine(&verified, &payload);
    story.filter = examined.filter;
    story.workflow = hook.named_workflows().next().map(str::to_owned);
    let (workflow, params, correlation_id) = match examined.decision {
        Ok(Decision::Task { workflow, params, correlation_id }) => (workflow, params, correlation_id),
        Ok(Decision::Ignored(reason)) => {
            tracing::info!(target: "kedge::http", hook = hook.name, reason, "ignored");
            story.payload = payload;
            keep(cx, story, Status::Ignored, Some(&reason));
            return Ok(Outcome::Ignored(reason));
        }
        Err(faults) => {
            story.faults.clone_from(&faults);
            story.payload = payload;
            let problem = Problem::invalid("the body lacks what the hook makes a task of", faults);
            keep(cx, story, Status::Invalid, Some(&problem.in_words()));
            return Err(problem);
        }
    };
    story.workflow = Some(workflow.chars().take(80).collect());
    story.site = params["site"].as_str().map(|site| site.chars().take(253).collect());
    story.payload = payload;
    let dedupe =
        if matches!(again, Again::New(_)) { Vec::new() } else { dedupe(hook, &verified, &story.digest) };
    let actor = match again {
        Again::No => Actor { name: format!("hook:{}", hook.name), via: "hook".to_owned() },
        Again::Once(token) | Again::New(token) => Actor { name: token.principal(), via: "inbox".to_owned() },
    };
    if let Err(problem) = check(cx, hook, &workflow, &params, again) {
        keep(cx, story, Status::Invalid, Some(&problem.in_words()));
        return Err(problem);
    }
    let callback = hook.callback_for(&story.payload);
    let submission = Submission {
        workflow,
        params,
        actor,
        correlation_id,
        callback,
        not_before: None,
        priority: 0,
        trace: cx.trace(),
        dedupe,
        if_plan: None,
    };
    accept(cx, hook, submission, story).await
}

/// What must be new. An id that is not signed can be made up, so there the body itself must be new too.
fn dedupe(hook: &Hook, verified: &Verified, digest: &str) -> Vec<DedupeKey> {
    let scope = format!("hook:{}", hook.name);
    let mut keys = Vec::new();
    if let Some(id) = &verified.delivery {
        let key = format!("id {id}");
        keys.push(DedupeKey { scope: scope.clone(), key, fingerprint: Some(digest.to_owned()) });
    }
    if !verified.id_is_signed || verified.delivery.is_none() {
        keys.push(DedupeKey { scope, key: format!("body {digest}"), fingerprint: None });
    }
    keys
}

fn check(cx: &Cx<'_>, hook: &Hook, workflow: &str, params: &Value, again: Again<'_>) -> Result<(), Problem> {
    if let Again::Once(token) | Again::New(token) = again {
        token.demand(Verb::Replay, workflow)?;
        submit::check_sites(cx.app, token.sites(), workflow, params)?;
    }
    if !cx.app.schemas.knows(workflow) {
        return Err(submit::unknown_workflow(cx.app));
    }
    let checked = cx.app.schemas.check(workflow, params);
    checked.map_err(|faults| submit::bad_params(faults.into_iter().map(|fault| hook.locate(fault))))?;
    submit::check_sites(cx.app, &hook.sites, workflow, params)
}

async fn accept(cx: &Cx<'_>, hook: &Hook, submission: Submission, story: Story) -> Result<Outcome, Problem> {
    let received = story.received(new_id(cx), cx.app.ports.clock.now(), Status::Accepted, None);
    let kept = |status: Status, reason: Option<&str>, task: Option<TaskId>| {
        // Whether there is room for it changes nothing for the sender.
        let _ = cx.app.ports.inbox.keep(inbox::ended(received.clone(), status, reason, task));
    };
    match submit::submit_received(cx.app, submission, received.clone()).await? {
        Ok(Submitted::Created(view)) => Ok(Outcome::Accepted(view)),
        Ok(Submitted::Duplicate(view)) => {
            kept(Status::Duplicate, None, Some(view.id.clone()));
            Ok(Outcome::Duplicate(view))
        }
        // No mistake of the sender's: a pipeline deploys what is deployed already, and a forge switches off a hook that answers errors.
        Err(SubmitError::Nothing(why)) => {
            kept(Status::Ignored, Some(&why), None);
            Ok(Outcome::Ignored(why))
        }
        Err(error) => {
            let problem = submit::refusal(cx.app, error, |fault| hook.locate(fault));
            kept(Status::Refused, Some(&problem.in_words()), None);
            Err(problem)
        }
    }
}

fn answer(cx: &Cx<'_>, outcome: Result<Outcome, Problem>) -> Answer {
    match outcome? {
        Outcome::Accepted(view) => Ok(handlers::task(cx.app, StatusCode::ACCEPTED, &view)),
        Outcome::Duplicate(view) => {
            let task: Value = api::task_line(&view, &cx.app.links);
            let body = json!({ "status": "duplicate", "task_id": view.id, "task": task });
            Ok(handlers::json(StatusCode::OK, &body))
        }
        Outcome::Ignored(reason) => {
            Ok(handlers::json(StatusCode::OK, &json!({ "status": "ignored", "reason": reason })))
        }
        Outcome::Greeted(body) => Ok(handlers::json(StatusCode::OK, &body)),
    }
}

/// The answer as the chat's own message, where a person sees it: always 200, since a chat shows nothing of other answers.
fn spoken(cx: &Cx<'_>, provider: Provider, outcome: &Result<Outcome, Problem>) -> Option<Response<Body>> {
    // Slack's events come as JSON; nobody waits for their answer.
    if provider == Provider::Slack && !is_form(content_type(cx)) {
        return None;
    }
    let text = match outcome {
        Ok(Outcome::Accepted(view)) => format!("accepted: {} is {}", view.workflow, view.id),
        Ok(Outcome::Duplicate(view)) => format!("this came before: it is {}", view.id),
        Ok(Outcome::Ignored(reason)) => format!("ignored: {reason}"),
        Ok(Outcome::Greeted(_)) => return None,
        Err(problem) => problem.in_words(),
    };
    Some(handlers::json(StatusCode::OK, &provider.spoken(&text)?))
}

fn content_type<'a>(cx: &Cx<'a>) -> &'a str {
    let value = cx.parts.headers.get(header::CONTENT_TYPE);
    value.and_then(|value| value.to_str().ok()).unwrap_or_default()
}
