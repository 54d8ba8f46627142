//! What every route answers, a module for each group. They ask the engine and shape its answers; they decide nothing about tasks.

pub(crate) mod archives;
pub(crate) mod audit;
pub(crate) mod chat;
pub(crate) mod compare;
pub(crate) mod create;
pub(crate) mod deliveries;
pub(crate) mod endpoints;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod hooks;
pub(crate) mod inbox;
pub(crate) mod login;
pub(crate) mod platforms;
pub(crate) mod resources;
pub(crate) mod submit;
pub(crate) mod tasks;
pub(crate) mod tokens;
pub(crate) mod verbs;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use hyper::body::Body as HttpBody;
use kedge_engine::service::Tasks;
use kedge_engine::store::{CommitError, ReadError};
use kedge_engine::task::{Millis, TaskId, TaskView};
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::api;
use crate::app::Inner;
use crate::auth::Verb;
use crate::body::Body;
use crate::config::Mistake;
use crate::cx::Cx;
use crate::fields::Fields;
use crate::problem::{Fault, Problem};

/// Longest correlation id: it is given back in every callback.
pub(crate) const MAX_CORRELATION: usize = 128;
/// Entries of a list when the caller does not say, and at most.
const DEFAULT_LIMIT: usize = 50;
pub(crate) const MAX_LIMIT: usize = 200;
/// Most entries looked at for one page, when a token sees only some of them.
pub(crate) const MAX_SCANNED: usize = 1000;

/// An answer in JSON.
#[expect(clippy::expect_used, reason = "our own bodies: text keys, no maps of anything else")]
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Response<Body> {
    text(status, "application/json", serde_json::to_string(body).expect("a body is JSON"))
}

/// An answer of some kind.
pub(crate) fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// An answer that is a task.
pub(crate) fn task(app: &Inner, status: StatusCode, view: &TaskView) -> Response<Body> {
    let mut response = json(status, &api::body(view, &app.links));
    let headers = response.headers_mut();
    headers.insert(header::ETAG, etag(view.sequence));
    headers.insert("task-state", HeaderValue::from_static(view.state.as_str()));
    if status == StatusCode::ACCEPTED {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        if let Ok(path) = HeaderValue::from_str(&api::task_path(&view.id)) {
            headers.insert(header::LOCATION, path);
        }
    }
    response
}

pub(crate) fn etag(sequence: u64) -> HeaderValue {
    #[expect(clippy::expect_used, reason = "digits in quotes are a header value")]
    HeaderValue::from_str(&format!("\"{sequence}\"")).expect("digits in quotes")
}

/// Notes a failed read in the log and tells the caller no more than that.
pub(crate) fn unreadable(error: &ReadError) -> Problem {
    tracing::error!(target: "kedge::http", %error, "the store could not be read");
    Problem::internal()
}

/// Notes a failed write in the log and tells the caller that nothing was changed.
pub(crate) fn unstored(error: &CommitError) -> Problem {
    tracing::error!(target: "kedge::http", %error, "a change could not be stored");
    Problem::unavailable("it could not be stored; nothing was changed", 30)
}

/// A mistake in what was sent, with its field as a pointer: `scopes[1]` is `/scopes/1`.
pub(crate) fn fault_of(mistake: &Mistake) -> Fault {
    let pointer = mistake.field.replace(['.', '['], "/").replace(']', "");
    Fault::new(format!("/{pointer}"), mistake.detail.clone())
}

/// A time as RFC 3339 has it, in milliseconds since 1970; 0 before that.
pub(crate) fn moment(text: &str) -> Option<Millis> {
    let at: jiff::Timestamp = text.parse().ok()?;
    Some(u64::try_from(at.as_millisecond()).unwrap_or(0))
}

/// The fields of a body in JSON; `needed`: it has to be there.
pub(crate) async fn fields<B: HttpBody<Data = Bytes> + Unpin>(
    cx: &Cx<'_>,
    body: B,
    needed: bool,
) -> Result<Fields, Problem> {
    if needed {
        create::content_type(&cx.parts.headers)?;
    }
    let body = cx.body(body).await?;
    if body.is_empty() && !needed {
        return Ok(Fields::new(serde_json::json!({})));
    }
    create::content_type(&cx.parts.headers)?;
    Ok(Fields::new(crate::json::parse(&body).map_err(|error| Problem::json(&error))?))
}

/// A task that the token may do this with. One that it cannot see is the same as none.
pub(crate) fn find(cx: &Cx<'_>, id: &TaskId, verb: Verb) -> Result<TaskView, Problem> {
    let token = cx.token()?;
    let view = cx.app.ports.tasks.task(id).map_err(|error| unreadable(&error))?;
    let seen = view.filter(|view| token.sites().covers(view.site.as_deref()));
    let view =
        seen.ok_or_else(|| Problem::not_found("there is no such task, or this token does not see its site"))?;
    token.demand_with(verb, &view)?;
    Ok(view)
}

/// Waits until a task is as wanted, has ended, the time is over or the server ends; then the task as it is.
pub(crate) async fn settle(
    app: &Inner,
    mut view: TaskView,
    time: Duration,
    wanted: impl Fn(&TaskView) -> bool,
) -> Result<TaskView, Problem> {
    let deadline = Instant::now() + time;
    while !wanted(&view)
        && !view.state.is_final()
        && Instant::now() < deadline
        && !app.draining.is_cancelled()
    {
        // Progress alone does not settle anything: no progress version is above the highest.
        let changed = app.ports.tasks.changed(&view.id, view.sequence, u64::MAX);
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = app.draining.cancelled() => {}
        }
        match app.ports.tasks.task(&view.id).map_err(|error| unreadable(&error))? {
            Some(now) => view = now,
            None => break,
        }
    }
    Ok(view)
}

/// Runs something to its end, also when the caller goes away meanwhile.
pub(crate) async fn to_its_end<T, F>(
    tasks: &Arc<dyn Tasks>,
    act: impl FnOnce(Arc<dyn Tasks>) -> F,
) -> Result<T, Problem>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    tokio::spawn(act(Arc::clone(tasks))).await.map_err(|error| {
        tracing::error!(target: "kedge::http", %error, "a request broke off");
        Problem::internal()
    })
}

/// The query of a request; every parameter has to be known and may come once.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn new(cx: &Cx<'_>, known: &[&str]) -> Result<Self, Problem> {
        let text = cx.parts.uri.query().unwrap_or_default();
        let pairs: Vec<(String, String)> =
            url::form_urlencoded::parse(text.as_bytes()).into_owned().collect();
        for (index, (name, _)) in pairs.iter().enumerate() {
            let shown: String = name.chars().take(80).collect();
            if !known.contains(&name.as_str()) {
                let there = if known.is_empty() { "none here".to_owned() } else { known.join(", ") };
                return Err(Problem::query(&shown, format!("is not known; there are: {there}")));
            }
            if pairs[..index].iter().any(|(other, _)| other == name) {
                return Err(Problem::query(&shown, "is there twice"));
            }
        }
        Ok(Self(pairs))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Problem> {
        let parse = |text: &str| text.parse().map_err(|_| Problem::query(name, "has to be a whole number"));
        self.get(name).map(parse).transpose()
    }

    pub(crate) fn limit(&self) -> Result<usize, Problem> {
        match self.number("limit")?.unwrap_or(DEFAULT_LIMIT) {
            limit @ 1..=MAX_LIMIT => Ok(limit),
            _ => Err(Problem::query("limit", format!("is 1 to {MAX_LIMIT}"))),
        }
    }

    /// The query with another cursor, for the link to the next page.
    fn with_cursor(&self, cursor: &str) -> String {
        let others = self.0.iter().filter(|(name, _)| name != "cursor");
        url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(others)
            .append_pair("cursor", cursor)
            .finish()
    }
}

/// A page of a list under its name, with a link to the next one.
pub(crate) fn page(
    cx: &Cx<'_>,
    query: &Query,
    name: &str,
    items: Vec<Value>,
    next: Option<&str>,
) -> Response<Body> {
    let mut response = json(StatusCode::OK, &serde_json::json!({ name: items, "next": next }));
    if let Some(next) = next {
        let link = format!("<{}?{}>; rel=\"next\"", cx.parts.uri.path(), query.with_cursor(next));
        if let Ok(link) = HeaderValue::from_str(&link) {
            response.headers_mut().insert(header::LINK, link);
        }
    }
    response
}
