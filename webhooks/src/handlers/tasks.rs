//! Tasks as they are: the list, one of them, its graph and its steps' logs.

use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use jiff::Timestamp;
use kedge_engine::service::TaskFilter;
use kedge_engine::task::{Millis, TaskId, TaskState, TaskView};
use serde_json::Value;

use crate::accept;
use crate::api;
use crate::app::Answer;
use crate::auth::{Token, Verb};
use crate::body::Body;
use crate::cx::Cx;
use crate::graph;
use crate::handlers::{self, MAX_LIMIT, MAX_SCANNED, Query, create, etag, find, settle, unreadable};
use crate::problem::Problem;

pub(crate) async fn show(cx: &Cx<'_>, id: &TaskId) -> Answer {
    let view = find(cx, id, Verb::Read)?;
    Query::new(cx, &[])?;
    let known = accept::if_none_match(&cx.parts.headers);
    let wait = accept::wait(&cx.parts.headers);
    let view = match wait {
        Some(time) => {
            // With a known state the caller waits for any change, without one for the end.
            let wanted = |view: &TaskView| match known {
                Some(known) => view.sequence != known,
                None => api::is_settled(view.state),
            };
            settle(cx.app, view, time, wanted).await?
        }
        None => view,
    };
    let mut response = if known == Some(view.sequence) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response.headers_mut().insert(header::ETAG, etag(view.sequence));
        response
    } else {
        handlers::task(cx.app, StatusCode::OK, &view)
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    create::applied(&mut response, wait);
    Ok(response)
}

pub(crate) fn list(cx: &Cx<'_>) -> Answer {
    let token = cx.token()?;
    token.demand_some(Verb::Read)?;
    let query = Query::new(cx, &["site", "workflow", "state", "since", "limit", "cursor"])?;
    let limit = query.limit()?;
    let filter = TaskFilter {
        site: query.get("site").map(str::to_owned),
        workflow: query.get("workflow").map(str::to_owned),
        state: query.get("state").map(state).transpose()?,
        since: query.get("since").map(since).transpose()?,
        limit,
        before: query.get("cursor").map(cursor).transpose()?,
    };
    let (tasks, next) = visible(cx, token, filter)?;
    let items: Vec<Value> = tasks.iter().map(|task| api::task_line(task, &cx.app.links)).collect();
    Ok(handlers::page(cx, &query, "tasks", items, next.as_ref().map(TaskId::as_str)))
}

/// Up to `filter.limit` tasks that the token sees, and where to go on. Looks at a bounded number of tasks, so a page can be short
/// although there is a next one.
fn visible(
    cx: &Cx<'_>,
    token: &Token,
    mut filter: TaskFilter,
) -> Result<(Vec<TaskView>, Option<TaskId>), Problem> {
    let wanted = filter.limit;
    let mut tasks = Vec::new();
    let mut scanned = 0;
    loop {
        let page = cx.app.ports.tasks.tasks(&filter).map_err(|error| unreadable(&error))?;
        let count = page.tasks.len();
        scanned += count;
        for (index, task) in page.tasks.into_iter().enumerate() {
            if token.sees(&task) {
                tasks.push(task);
            }
            if tasks.len() == wanted {
                let next =
                    if index + 1 == count { page.next } else { tasks.last().map(|task| task.id.clone()) };
                return Ok((tasks, next));
            }
        }
        match page.next {
            Some(next) if scanned < MAX_SCANNED => filter.before = Some(next),
            next => return Ok((tasks, next)),
        }
        filter.limit = MAX_LIMIT;
    }
}

fn state(text: &str) -> Result<TaskState, Problem> {
    TaskState::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
        let states: Vec<&str> = TaskState::ALL.iter().map(|state| state.as_str()).collect();
        Problem::query("state", format!("is one of {}", states.join(", ")))
    })
}

fn since(text: &str) -> Result<Millis, Problem> {
    // A + of an offset that was not encoded arrives as a space.
    let at: Result<Timestamp, _> = text.replace(' ', "+").parse();
    // Before 1970 nothing was accepted: all tasks are younger.
    at.ok()
        .map(|at| u64::try_from(at.as_millisecond()).unwrap_or(0))
        .ok_or_else(|| Problem::query("since", "is a time such as 2026-11-22T16:00:00Z"))
}

fn cursor(text: &str) -> Result<TaskId, Problem> {
    TaskId::try_from(text.to_owned())
        .map_err(|_| Problem::query("cursor", "is what `next` of the page before said"))
}

pub(crate) fn graph(cx: &Cx<'_>, id: &TaskId) -> Answer {
    let view = find(cx, id, Verb::Read)?;
    Query::new(cx, &[])?;
    let kind = accept::choose(&cx.parts.headers, &graph::KINDS)?;
    let (kind, body) = graph::draw(&view, kind);
    let mut response = handlers::text(StatusCode::OK, kind, body);
    // A picture opened by itself in a browser runs nothing and loads nothing.
    let nothing = HeaderValue::from_static("default-src 'none'");
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, nothing);
    Ok(response)
}

pub(crate) fn log(cx: &Cx<'_>, id: &TaskId, step: &str) -> Answer {
    let view = find(cx, id, Verb::Read)?;
    Query::new(cx, &[])?;
    if !view.steps.iter().any(|known| known.name == step) {
        return Err(Problem::not_found("the task has no step of this name; GET the task lists them"));
    }
    let log = cx.app.ports.tasks.log(id, step).map_err(|error| unreadable(&error))?;
    Ok(handlers::text(StatusCode::OK, "text/plain; charset=utf-8", log.unwrap_or_default()))
}
