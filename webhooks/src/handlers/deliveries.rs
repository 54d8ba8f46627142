//! Callbacks that were queued, and the attempts to deliver them.

use http::StatusCode;
use kedge_engine::outbox::Callback;
use kedge_engine::store::CommitError;
use kedge_engine::task::UNDO;
use serde_json::Value;

use crate::api;
use crate::app::Answer;
use crate::auth::{Token, Verb};
use crate::chat::approve::without_marks;
use crate::cx::Cx;
use crate::handlers::{self, MAX_LIMIT, MAX_SCANNED, Query, unreadable};
use crate::problem::Problem;

pub(crate) fn list(cx: &Cx<'_>) -> Answer {
    let token = cx.token()?;
    token.demand_some(Verb::Read)?;
    let query = Query::new(cx, &["limit", "cursor"])?;
    let limit = query.limit()?;
    let mut before = query.get("cursor").map(str::to_owned);
    if before.as_deref().is_some_and(|cursor| !is_id(cursor)) {
        return Err(Problem::query("cursor", "is what `next` of the page before said"));
    }
    let mut items = Vec::new();
    let mut scanned = 0;
    while items.len() < limit && scanned < MAX_SCANNED {
        let outbox = &cx.app.ports.outbox;
        let found = outbox.callbacks(before.as_deref(), MAX_LIMIT).map_err(|error| unreadable(&error))?;
        let last_page = found.len() < MAX_LIMIT;
        for callback in found {
            if items.len() == limit {
                return Ok(handlers::page(cx, &query, "deliveries", items, before.as_deref()));
            }
            scanned += 1;
            if sees(cx, token, Verb::Read, &callback) {
                items.push(api::callback(&callback, &cx.app.endpoints.label(&callback.endpoint)));
            }
            before = Some(callback.id);
        }
        if last_page {
            return Ok(handlers::page(cx, &query, "deliveries", items, None));
        }
    }
    Ok(handlers::page(cx, &query, "deliveries", items, before.as_deref()))
}

pub(crate) fn show(cx: &Cx<'_>, id: &str) -> Answer {
    let callback = find(cx, id, Verb::Read)?;
    Query::new(cx, &[])?;
    let attempts = cx.app.ports.outbox.deliveries(id).map_err(|error| unreadable(&error))?;
    let mut value = api::callback(&callback, &cx.app.endpoints.label(&callback.endpoint));
    if let Value::Object(map) = &mut value {
        let body = serde_json::from_str(&callback.body).unwrap_or(Value::Null);
        map.insert("body".to_owned(), without_marks(body));
        map.insert("deliveries".to_owned(), attempts.iter().map(api::attempt).collect());
    }
    Ok(handlers::json(StatusCode::OK, &value))
}

pub(crate) async fn replay(cx: &Cx<'_>, id: &str) -> Answer {
    let callback = find(cx, id, Verb::Replay)?;
    Query::new(cx, &[])?;
    let (outbox, now, own) = (cx.app.ports.outbox.clone(), cx.app.ports.clock.now(), id.to_owned());
    let done =
        handlers::to_its_end(&cx.app.ports.tasks, |_| async move { outbox.replay(&own, now).await }).await?;
    match done {
        Ok(true) => {
            if let Some((endpoint, _)) = cx.app.endpoints.target(&callback.endpoint) {
                cx.app.endpoints.set_disabled(&endpoint.name, None).await; // whoever asks for it again means it
            }
            show_now(cx, id)
        }
        Ok(false) => Err(nothing()),
        Err(CommitError::Conflict(_)) => {
            let detail = "the delivery changed at this moment; look at it again";
            Err(Problem::new(StatusCode::CONFLICT, "state", "The delivery is under way", detail))
        }
        Err(error) => {
            tracing::error!(target: "kedge::http", %error, "a replay could not be stored");
            Err(Problem::unavailable("it could not be stored; nothing was changed", 30))
        }
    }
}

fn show_now(cx: &Cx<'_>, id: &str) -> Answer {
    let callback =
        cx.app.ports.outbox.callback(id).map_err(|error| unreadable(&error))?.ok_or_else(nothing)?;
    let value = api::callback(&callback, &cx.app.endpoints.label(&callback.endpoint));
    Ok(handlers::json(StatusCode::ACCEPTED, &value))
}

fn find(cx: &Cx<'_>, id: &str, verb: Verb) -> Result<Callback, Problem> {
    let token = cx.token()?;
    token.demand_some(verb)?;
    if !is_id(id) {
        return Err(nothing());
    }
    let callback = cx.app.ports.outbox.callback(id).map_err(|error| unreadable(&error))?;
    callback.filter(|callback| sees(cx, token, verb, callback)).ok_or_else(nothing)
}

fn nothing() -> Problem {
    Problem::not_found(
        "there is no such delivery, or this token does not see its site; its id begins with msg_",
    )
}

/// Whether a text can be the id of a callback.
fn is_id(text: &str) -> bool {
    text.len() <= 80
        && text.starts_with("msg_")
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// A callback is seen by those who see its task; what it is about stands in its body, or, where that is a message or a commit status, in the
/// task.
fn sees(cx: &Cx<'_>, token: &Token, verb: Verb, callback: &Callback) -> bool {
    let body: Value = serde_json::from_str(&callback.body).unwrap_or(Value::Null);
    if let Some(workflow) = body["data"]["workflow"].as_str().filter(|workflow| *workflow != UNDO) {
        return token.may(verb, workflow) && token.sites().covers(body["data"]["site"].as_str());
    }
    match cx.app.ports.tasks.task(&callback.task) {
        Ok(Some(task)) => token.may_with(verb, &task) && token.sites().covers(task.site.as_deref()),
        // Notices about delivering, and what is left of forgotten tasks: for those who see everything.
        Ok(None) | Err(_) => token.may(verb, "") && token.sites().covers(None),
    }
}
