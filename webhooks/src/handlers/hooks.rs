//! `POST /v1/hooks/{hook}`: verify, parse, filter, map, persist, 202. Nothing of the body is looked at before its signature holds,
//! and whoever has no key learns nothing, not even whether the hook exists.

use bytes::Bytes;
use http::{Response, StatusCode, header};
use hyper::body::Body as HttpBody;
use kedge_engine::service::{DedupeKey, Submission, Submitted};
use kedge_engine::task::{Actor, TaskView};
use serde_json::{Value, json};

use crate::api;
use crate::app::{Answer, Cx};
use crate::body::Body;
use crate::handlers::{self, submit};
use crate::hook::{Decision, Hook, verify_nothing};
use crate::problem::Problem;
use crate::provider::{Payload, Provider, Verified, is_form, is_unsigned_ping};

/// What a message led to.
enum Outcome {
    Accepted(TaskView),
    Duplicate(TaskView),
    Ignored(String),
    /// The sender only wants to be answered this.
    Greeted(Value),
}

pub(crate) async fn receive<B: HttpBody<Data = Bytes> + Unpin>(cx: &Cx<'_>, name: &str, body: B) -> Answer {
    let body = cx.body(body).await?;
    if is_unsigned_ping(&cx.parts.headers) {
        let reason =
            "a ping without a signature: the address is right; whether the secret is, it cannot tell";
        return answer(cx, Ok(Outcome::Ignored(reason.to_owned())));
    }
    let (hook, verified) = verify(cx, name, &body)?;
    cx.hook(&hook.name)?;
    let outcome = understand(cx, hook, verified, &body).await;
    // A person waits in a chat, which shows answers of its own form only.
    match outcome {
        Ok(Outcome::Greeted(_)) => answer(cx, outcome),
        outcome => spoken(cx, hook.scheme.provider, &outcome).map_or_else(|| answer(cx, outcome), Ok),
    }
}

/// The hook whose signature the body has. A wrong signature and an unknown hook look the same, and take the same time.
fn verify<'a>(cx: &Cx<'a>, name: &str, body: &[u8]) -> Result<(&'a Hook, Verified), Problem> {
    let now_s = cx.app.ports.clock.now() / 1000;
    let hook = cx.access.hooks.iter().find(|hook| hook.name == name);
    let checked = match hook {
        Some(hook) => hook.verify(&cx.parts.headers, body, now_s).map(|verified| (hook, verified)),
        None => Err(verify_nothing(&cx.parts.headers, body, now_s)),
    };
    checked.map_err(|refused| {
        let hook = hook.map(|hook| hook.name.as_str());
        tracing::warn!(target: "kedge::http", hook, reason = %refused, "a webhook was refused");
        let detail = "there is no such hook, or the signature does not hold: check the hook's name, its secret, that the raw \
                      body is signed, and the sender's clock";
        Problem::new(StatusCode::UNAUTHORIZED, "bad-signature", "Not verified", detail)
            .header(header::WWW_AUTHENTICATE, "Webhook-Signature realm=\"kedge\"")
    })
}

/// What a message whose signature holds leads to.
async fn understand(
    cx: &Cx<'_>,
    hook: &Hook,
    mut verified: Verified,
    body: &[u8],
) -> Result<Outcome, Problem> {
    let provider = hook.scheme.provider;
    let payload = provider.payload(content_type(cx), body);
    let payload =
        payload.ok_or_else(|| Problem::media_type("send JSON, with `Content-Type: application/json`"))?;
    let Payload { value: payload, delivery, event } = payload.map_err(|error| Problem::json(&error))?;
    verified.delivery = verified.delivery.or(delivery);
    verified.event = verified.event.or(event);
    if let Some(greeting) = provider.greeting(&payload) {
        return Ok(Outcome::Greeted(greeting));
    }
    let decision = hook.decide(&verified, &payload);
    let decision = decision
        .map_err(|faults| Problem::invalid("the body lacks what the hook makes a task of", faults))?;
    match decision {
        Decision::Ignored(reason) => {
            tracing::info!(target: "kedge::http", hook = hook.name, reason, "ignored");
            Ok(Outcome::Ignored(reason))
        }
        Decision::Task { workflow, params, correlation_id } => {
            let submission = Submission {
                workflow,
                params,
                actor: Actor { name: format!("hook:{}", hook.name), via: "hook".to_owned() },
                correlation_id,
                callback: hook.callback.clone(),
                not_before: None,
                priority: 0,
                trace: cx.trace(),
                dedupe: dedupe(hook, &verified, body),
                if_plan: None,
            };
            accept(cx, hook, submission).await
        }
    }
}

/// What must be new. An id that is not signed can be made up, so there the body itself must be new too.
fn dedupe(hook: &Hook, verified: &Verified, body: &[u8]) -> Vec<DedupeKey> {
    let scope = format!("hook:{}", hook.name);
    let digest = submit::fingerprint(&[body]);
    let mut keys = Vec::new();
    if let Some(id) = &verified.delivery {
        let key = format!("id {id}");
        keys.push(DedupeKey { scope: scope.clone(), key, fingerprint: Some(digest.clone()) });
    }
    if !verified.id_is_signed || verified.delivery.is_none() {
        keys.push(DedupeKey { scope, key: format!("body {digest}"), fingerprint: None });
    }
    keys
}

async fn accept(cx: &Cx<'_>, hook: &Hook, submission: Submission) -> Result<Outcome, Problem> {
    if !cx.app.schemas.knows(&submission.workflow) {
        return Err(submit::unknown_workflow(cx.app));
    }
    let checked = cx.app.schemas.check(&submission.workflow, &submission.params);
    checked.map_err(|faults| submit::bad_params(faults.into_iter().map(|fault| hook.locate(fault))))?;
    submit::check_sites(&hook.sites, &submission.params)?;
    match submit::submit(cx.app, submission).await? {
        Ok(Submitted::Created(view)) => Ok(Outcome::Accepted(view)),
        Ok(Submitted::Duplicate(view)) => Ok(Outcome::Duplicate(view)),
        Err(error) => Err(submit::refusal(cx.app, error, |fault| hook.locate(fault))),
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
