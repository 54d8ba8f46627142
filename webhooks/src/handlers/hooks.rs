//! `POST /v1/hooks/{hook}`: verify, parse, filter, map, persist, 202. Nothing of the body is looked at before its signature holds,
//! and whoever has no key learns nothing, not even whether the hook exists.

use bytes::Bytes;
use http::{StatusCode, header};
use hyper::body::Body as HttpBody;
use kedge_engine::service::{DedupeKey, Submission, Submitted};
use kedge_engine::task::Actor;
use serde_json::{Value, json};

use crate::api;
use crate::app::{Answer, Cx};
use crate::handlers::{self, submit};
use crate::hook::{Decision, Hook, verify_nothing};
use crate::problem::Problem;
use crate::provider::Verified;

pub(crate) async fn receive<B: HttpBody<Data = Bytes> + Unpin>(cx: &Cx<'_>, name: &str, body: B) -> Answer {
    let body = cx.body(body).await?;
    let (hook, verified) = verify(cx, name, &body)?;
    let content_type = cx.parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let payload = hook.provider.payload(content_type.unwrap_or_default(), &body);
    let payload =
        payload.ok_or_else(|| Problem::media_type("send JSON, with `Content-Type: application/json`"))?;
    let payload = payload.map_err(|error| Problem::json(&error))?;
    let decision = hook.decide(&verified, &payload);
    let decision = decision
        .map_err(|faults| Problem::invalid("the body lacks what the hook makes a task of", faults))?;
    match decision {
        Decision::Ignored(reason) => {
            tracing::info!(target: "kedge::http", hook = name, reason, "ignored");
            Ok(handlers::json(StatusCode::OK, &json!({ "status": "ignored", "reason": reason })))
        }
        Decision::Task { workflow, params, correlation_id } => {
            let submission = Submission {
                workflow,
                params,
                actor: Actor { name: format!("hook:{}", hook.name), via: "hook".to_owned() },
                correlation_id,
                callback: hook.callback.clone(),
                not_before: None,
                dedupe: dedupe(hook, &verified, &body),
                if_plan: None,
            };
            accept(cx, hook, submission).await
        }
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

/// What must be new. An id that is not signed can be made up, so there the body itself must be new too.
fn dedupe(hook: &Hook, verified: &Verified, body: &[u8]) -> Vec<DedupeKey> {
    let scope = format!("hook:{}", hook.name);
    let digest = submit::fingerprint(&[body]);
    let mut keys = Vec::new();
    if let Some(id) = &verified.delivery {
        let key = format!("id {id}");
        keys.push(DedupeKey { scope: scope.clone(), key, fingerprint: Some(digest.clone()) });
    }
    if !verified.id_is_signed {
        keys.push(DedupeKey { scope, key: format!("body {digest}"), fingerprint: None });
    }
    keys
}

async fn accept(cx: &Cx<'_>, hook: &Hook, submission: Submission) -> Answer {
    if !cx.app.schemas.knows(&submission.workflow) {
        return Err(submit::unknown_workflow(cx.app));
    }
    let checked = cx.app.schemas.check(&submission.workflow, &submission.params);
    checked.map_err(|faults| submit::bad_params(faults.into_iter().map(|fault| hook.locate(fault))))?;
    submit::check_sites(&hook.sites, &submission.params)?;
    match submit::submit(cx.app, submission).await? {
        Ok(Submitted::Created(view)) => Ok(handlers::task(cx.app, StatusCode::ACCEPTED, &view)),
        Ok(Submitted::Duplicate(view)) => {
            let task: Value = api::task_line(&view, &cx.app.links);
            let body = json!({ "status": "duplicate", "task_id": view.id, "task": task });
            Ok(handlers::json(StatusCode::OK, &body))
        }
        Err(error) => Err(submit::refusal(cx.app, error, |fault| hook.locate(fault))),
    }
}
