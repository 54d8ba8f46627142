//! The inbox: messages to hooks and what became of them; trying one again; and what a message would do. A replay goes through the hook as
//! it is configured now, on behalf of the token that asks.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hyper::body::Body as HttpBody;
use kedge_engine::inbox::{Kept, Received};
use kedge_engine::service::SubmitError;
use serde_json::{Value, json};

use crate::api;
use crate::app::Answer;
use crate::auth::{Token, Verb};
use crate::cx::Cx;
use crate::explain::with as explained_by;
use crate::fields::Fields;
use crate::handlers::{self, MAX_LIMIT, MAX_SCANNED, Query, create, hooks, submit, unreadable};
use crate::hook::Hook;
use crate::inbox::{Status, line_json, replayable, whole_json};
use crate::json;
use crate::problem::{Fault, Problem};

/// Most headers of a message to be explained.
pub(crate) const MAX_HEADERS: usize = 100;
/// Characters of a bad header's name that are told.
const NAME_TOLD: usize = 40;

pub(crate) fn list(cx: &Cx<'_>) -> Answer {
    let token = cx.token()?;
    token.demand_some(Verb::Read)?;
    let query = Query::new(cx, &["hook", "status", "limit", "cursor"])?;
    let limit = query.limit()?;
    let (hook, status) = (query.get("hook"), query.get("status"));
    let words = Status::ALL.map(Status::as_str);
    if status.is_some_and(|status| !words.contains(&status)) {
        return Err(Problem::query("status", format!("is one of {}", words.join(", "))));
    }
    let mut before = query.get("cursor").map(str::to_owned);
    if before.as_deref().is_some_and(|cursor| !is_id(cursor)) {
        return Err(Problem::query("cursor", "is what `next` of the page before said"));
    }
    let fits = |received: &Received| {
        hook.is_none_or(|hook| received.line["hook"] == hook)
            && status.is_none_or(|status| received.line["status"] == status)
            && sees(token, Verb::Read, received)
    };
    let mut items = Vec::new();
    let mut scanned = 0;
    while items.len() < limit && scanned < MAX_SCANNED {
        let found = cx.app.ports.inbox.list(before.as_deref(), MAX_LIMIT);
        let found = found.map_err(|error| unreadable(&error))?;
        let last_page = found.len() < MAX_LIMIT;
        for received in found {
            if items.len() == limit {
                return Ok(handlers::page(cx, &query, "inbox", items, before.as_deref()));
            }
            scanned += 1;
            if fits(&received) {
                items.push(line_json(&received));
            }
            before = Some(received.id);
        }
        if last_page {
            return Ok(handlers::page(cx, &query, "inbox", items, None));
        }
    }
    Ok(handlers::page(cx, &query, "inbox", items, before.as_deref()))
}

pub(crate) fn show(cx: &Cx<'_>, id: &str) -> Answer {
    let received = find(cx, id, Verb::Read)?;
    Query::new(cx, &[])?;
    Ok(handlers::json(StatusCode::OK, &whole_json(&received)))
}

pub(crate) async fn replay(cx: &Cx<'_>, id: &str) -> Answer {
    let received = find(cx, id, Verb::Replay)?;
    Query::new(cx, &[])?;
    let state = |detail: &str| {
        Problem::new(StatusCode::CONFLICT, "state", "This message cannot be tried again", detail)
    };
    replayable(&received).map_err(state)?;
    let name = received.line["hook"].as_str().unwrap_or_default();
    let hook = cx.access.hooks.iter().find(|hook| hook.name == name);
    let hook = hook.ok_or_else(|| state("its hook is not configured any more"))?;
    hooks::again(cx, hook, &received).await
}

/// What a message would do: the message's headers and its body as text, or the body's value as `payload`.
pub(crate) async fn explain<B: HttpBody<Data = Bytes> + Unpin>(cx: &Cx<'_>, name: &str, body: B) -> Answer {
    let token = cx.token()?;
    token.demand_some(Verb::Create)?;
    Query::new(cx, &[])?;
    create::content_type(&cx.parts.headers)?;
    let body = cx.body(body).await?;
    let (headers, message) = message(json::parse(&body).map_err(|error| Problem::json(&error))?)?;
    let hook = cx.access.hooks.iter().find(|hook| hook.name == name && may_see(token, hook));
    let hook = hook.ok_or_else(|| {
        Problem::not_found("there is no such hook, or this token does not see its workflows or sites")
    })?;
    let now_s = cx.app.ports.clock.now() / 1000;
    let mut explained = explained_by(hook, &cx.app.schemas, &headers, &message, now_s);
    if let Some((workflow, params)) = &explained.task {
        token.demand(Verb::Create, workflow)?;
        submit::check_sites(cx.app, token.sites(), workflow, params)?;
        let mut nothing = false;
        let planned = submit::check_sites(cx.app, &hook.sites, workflow, params).and_then(|()| {
            cx.app.ports.tasks.preview(workflow, params).map_err(|error| {
                nothing = matches!(error, SubmitError::Nothing(_));
                submit::refusal(cx.app, error, |fault| hook.locate(fault))
            })
        });
        match planned {
            Ok(plan) => explained.report["plan"] = api::plan(&plan),
            // Not the message's fault: nothing can be told.
            Err(failure) if failure.status.is_server_error() => return Err(failure),
            Err(refusal) => {
                // As the hook itself keeps it.
                let decision = match refusal.status {
                    StatusCode::FORBIDDEN => "invalid",
                    _ if nothing => "ignored",
                    _ => "refused",
                };
                explained.report["decision"] = decision.into();
                explained.report["reason"] = refusal.in_words().into();
            }
        }
    }
    Ok(handlers::json(StatusCode::OK, &explained.report))
}

/// Whether a token may ask for something that a hook asks for: then it may know what the hook does.
fn may_see(token: &Token, hook: &Hook) -> bool {
    let mut named = hook.named_workflows().peekable();
    if named.peek().is_none() {
        return token.may_some(Verb::Create);
    }
    named.any(|workflow| token.may(Verb::Create, workflow))
}

fn message(body: Value) -> Result<(HeaderMap, Vec<u8>), Problem> {
    let mut fields = Fields::new(body);
    let (text, payload, given) = (fields.any("body"), fields.any("payload"), fields.any("headers"));
    let bytes = match (text, payload) {
        (Some(Value::String(text)), None) => text.into_bytes(),
        (None, Some(payload)) => payload.to_string().into_bytes(),
        _ => {
            fields.fault("body", "is the message's body as text; or give its value as payload, not both");
            Vec::new()
        }
    };
    let mut headers = HeaderMap::new();
    let given = given.unwrap_or_else(|| json!({}));
    let count = given.as_object().map_or(usize::MAX, serde_json::Map::len);
    if count > MAX_HEADERS {
        fields.fault("headers", format!("is an object of at most {MAX_HEADERS} texts"));
    }
    for (name, value) in given.as_object().into_iter().flatten().take(MAX_HEADERS) {
        let pair = (HeaderName::try_from(name.as_str()), value.as_str().map(HeaderValue::try_from));
        match pair {
            (Ok(name), Some(Ok(value))) => {
                headers.append(name, value);
            }
            _ => {
                let name: String = name.chars().take(NAME_TOLD).collect();
                fields
                    .fault("headers", format!("{name:?} is no header's name, or its value no header's text"));
            }
        }
    }
    let faults: Vec<Fault> = fields.finish().err().unwrap_or_default();
    if faults.is_empty() { Ok((headers, bytes)) } else { Err(Problem::invalid("this is no message", faults)) }
}

fn find(cx: &Cx<'_>, id: &str, verb: Verb) -> Result<Received, Problem> {
    let token = cx.token()?;
    token.demand_some(verb)?;
    let nothing = || {
        Problem::not_found(
            "there is no such message any more, or this token does not see its site; its id begins with in_",
        )
    };
    if !is_id(id) {
        return Err(nothing());
    }
    let received = cx.app.ports.inbox.received(id).map_err(|error| unreadable(&error))?;
    received.filter(|received| sees(token, verb, received)).ok_or_else(nothing)
}

fn is_id(text: &str) -> bool {
    text.len() <= 80
        && text.starts_with("in_")
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// What is about a site is seen by those who see the site; what is about none, or not known to be, by those who see all.
fn sees(token: &Token, verb: Verb, received: &Received) -> bool {
    let text = |key: &str| received.line[key].as_str().filter(|_| received.kind != Kept::Rejected);
    let may = text("workflow").map_or_else(|| token.may_some(verb), |workflow| token.may(verb, workflow));
    may && token.sites().covers(text("site"))
}
