//! `GET /v1/tasks/{id}/events`: the journal's events of a task, as a page of JSON or as a stream that goes on until the task ends and
//! can be resumed anywhere, since an event's id is its sequence. Progress is shown in streams, without an id.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use kedge_engine::service::Tasks;
use kedge_engine::task::{EventView, Progress, TaskId, TaskView};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::accept;
use crate::api;
use crate::app::Answer;
use crate::auth::Verb;
use crate::body::Body;
use crate::cx::Cx;
use crate::handlers::{self, Query, find, unreadable};
use crate::problem::Problem;

const JSON: &str = "application/json";
const SSE: &str = "text/event-stream";
const NDJSON: &str = "application/x-ndjson";
/// How often a stream without news says that it lives: proxies cut silent connections after 30 s or more.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Events read at once; a page of JSON has as many at most.
const BATCH: usize = 500;
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

pub(crate) fn events(cx: &Cx<'_>, id: &TaskId) -> Answer {
    let view = find(cx, id, Verb::Read)?;
    let query = Query::new(cx, &["after"])?;
    let after = after(cx, &query)?;
    let kind = accept::choose(&cx.parts.headers, &[JSON, SSE, NDJSON])?;
    if kind == JSON {
        return page(cx, &view, after);
    }
    if view.state.is_final() && after >= view.sequence {
        // Browsers connect again after a stream has ended, unless they are told 204.
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        return Ok(response);
    }
    let permit = Arc::clone(&cx.app.streams).try_acquire_owned();
    let permit = permit.map_err(|_| Problem::unavailable("too many event streams are open", 5))?;
    let follow = Follow {
        tasks: Arc::clone(&cx.app.ports.tasks),
        draining: cx.app.draining.clone(),
        id: id.clone(),
        form: if kind == SSE { Form::Sse } else { Form::Ndjson },
        after,
        progress_version: 0,
        shown: BTreeMap::new(),
        // How soon a browser comes back when the stream breaks off.
        ready: if kind == SSE { VecDeque::from(["retry: 2000\n\n".to_owned()]) } else { VecDeque::new() },
        ended: false,
        _permit: permit,
    };
    let mut response = Response::new(Body::stream(stream::unfold(follow, Follow::next)));
    let headers = response.headers_mut();
    let kind = if kind == SSE { SSE } else { NDJSON };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Where to begin: `?after=`, else `Last-Event-ID`, else at the first event.
fn after(cx: &Cx<'_>, query: &Query) -> Result<u64, Problem> {
    if let Some(after) = query.number("after")? {
        return Ok(after);
    }
    let Some(value) = cx.parts.headers.get(LAST_EVENT_ID) else { return Ok(0) };
    let number = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    number.ok_or_else(|| Problem::bad_request("Last-Event-ID is the id of an event, a whole number"))
}

fn page(cx: &Cx<'_>, view: &TaskView, after: u64) -> Answer {
    let events = cx.app.ports.tasks.events(&view.id, after, BATCH).map_err(|error| unreadable(&error))?;
    let last = events.last().map_or(after, |event| event.sequence);
    let more = last < view.sequence;
    let items: Vec<Value> = events.iter().map(api::event).collect();
    let body = json!({ "events": items, "last": last, "more": more });
    let mut response = handlers::json(StatusCode::OK, &body);
    if more {
        let link = format!("<{}?after={last}>; rel=\"next\"", cx.parts.uri.path());
        response.headers_mut().extend(HeaderValue::from_str(&link).ok().map(|link| (header::LINK, link)));
    }
    Ok(response)
}

#[derive(Clone, Copy)]
enum Form {
    Sse,
    Ndjson,
}

/// A stream in progress.
struct Follow {
    tasks: Arc<dyn Tasks>,
    draining: CancellationToken,
    id: TaskId,
    form: Form,
    /// Sequence of the last event sent.
    after: u64,
    progress_version: u64,
    /// The progress sent last, by step.
    shown: BTreeMap<String, Progress>,
    ready: VecDeque<String>,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

impl Follow {
    /// The next piece. Asked for only when the connection has room for it, so a slow reader holds one batch at most.
    async fn next(mut self) -> Option<(Bytes, Self)> {
        let heartbeat = Instant::now() + HEARTBEAT;
        loop {
            if !self.ready.is_empty() {
                let text: String = self.ready.drain(..).collect();
                return Some((text.into(), self));
            }
            if self.ended {
                return None;
            }
            if self.draining.is_cancelled() {
                self.ended = true;
                self.shutdown();
                continue;
            }
            // A read that fails ends the stream: the client asks again from where it is.
            let view = match self.read() {
                Ok(Some(view)) => view,
                Ok(None) | Err(()) => return None,
            };
            if !self.ready.is_empty() || self.ended {
                continue;
            }
            tokio::task::yield_now().await; // others first, should changes come faster than they can be shown
            let changed = self.tasks.changed(&self.id, view.sequence, self.progress_version);
            tokio::select! {
                () = changed => {}
                () = self.draining.cancelled() => {}
                () = tokio::time::sleep_until(heartbeat) => {
                    let beat = if matches!(self.form, Form::Sse) { ": still here\n\n" } else { "\n" };
                    return Some((Bytes::from_static(beat.as_bytes()), self));
                }
            }
        }
    }

    /// Reads what is new. The task is read first: what happens meanwhile is found by the next round.
    fn read(&mut self) -> Result<Option<TaskView>, ()> {
        let failed = |error| tracing::error!(target: "kedge::http", %error, "an event stream broke off");
        let Some(view) = self.tasks.task(&self.id).map_err(failed)? else { return Ok(None) };
        let events = self.tasks.events(&self.id, self.after, BATCH).map_err(failed)?;
        for event in &events {
            self.after = event.sequence;
            let piece = self.event(event);
            self.ready.push_back(piece);
        }
        if self.after >= view.sequence {
            self.progress(&view);
            self.ended = view.state.is_final();
        }
        self.progress_version = view.progress_version.max(self.progress_version);
        Ok(Some(view))
    }

    fn progress(&mut self, view: &TaskView) {
        for step in &view.steps {
            let Some(progress) = &step.progress else { continue };
            if self.shown.get(&step.name) != Some(progress) {
                self.shown.insert(step.name.clone(), progress.clone());
                let data = json!({ "type": "progress", "step": step.name, "progress": progress });
                let piece = self.piece(None, "progress", &data);
                self.ready.push_back(piece);
            }
        }
    }

    fn shutdown(&mut self) {
        let data = json!({ "type": "shutdown", "last": self.after });
        let piece = self.piece(None, "shutdown", &data);
        self.ready.push_back(piece);
    }

    fn event(&self, event: &EventView) -> String {
        self.piece(Some(event.sequence), &event.kind, &api::event(event))
    }

    /// One piece: JSON has no line feeds, so it is one line of data.
    fn piece(&self, id: Option<u64>, kind: &str, data: &Value) -> String {
        match (self.form, id) {
            (Form::Sse, Some(id)) => format!("id: {id}\nevent: {kind}\ndata: {data}\n\n"),
            (Form::Sse, None) => format!("event: {kind}\ndata: {data}\n\n"),
            (Form::Ndjson, _) => format!("{data}\n"),
        }
    }
}
