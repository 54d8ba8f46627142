//! Whether the service lives, whether it takes new work, and its counts. Open to everybody, so they name no site and no path; the
//! store's own words are for those with a token.

use http::{Response, StatusCode};
use kedge_engine::service::TaskFilter;
use kedge_engine::store::Health;
use kedge_engine::task::TaskState;
use serde_json::json;

use crate::app::Answer;
use crate::body::Body;
use crate::cx::Cx;
use crate::handlers::{self, MAX_LIMIT, MAX_SCANNED, unreadable};
use crate::problem::Problem;

pub(crate) fn live() -> Response<Body> {
    handlers::json(StatusCode::OK, &json!({ "status": "alive" }))
}

pub(crate) fn ready(cx: &Cx<'_>) -> Answer {
    if cx.app.draining.is_cancelled() {
        return Err(Problem::unavailable(
            "the server is shutting down; what has begun goes on after its next start",
            5,
        ));
    }
    let (what, words) = match cx.app.ports.tasks.health() {
        Health::Ready => return Ok(handlers::json(StatusCode::OK, &json!({ "status": "ready" }))),
        Health::Low(words) => ("no new tasks are taken, open ones go on: the store is low on room", words),
        Health::Failed(words) => ("the store has failed: the process has to be started anew", words),
    };
    let detail = match cx.token() {
        Ok(_) => format!("{what}: {words}"),
        Err(_) => format!("{what}; ask with a token, or see the server's log, for more"),
    };
    Err(Problem::unavailable(detail, 30))
}

pub(crate) fn metrics(cx: &Cx<'_>) -> Answer {
    let open = TaskState::ALL.into_iter().filter(|state| !state.is_final());
    let counts: Result<Vec<(&str, usize)>, Problem> =
        open.map(|state| Ok((state.as_str(), count(cx, state)?))).collect();
    let text = cx.app.metrics.text(&counts?, cx.app.ports.inbox.dropped());
    Ok(handlers::text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text))
}

/// The interface as OpenAPI; open to everybody, as generators fetch it, and the same for everybody.
pub(crate) fn openapi(cx: &Cx<'_>) -> Response<Body> {
    let mut response = handlers::text(StatusCode::OK, "application/json", String::new());
    *response.body_mut() = Body::full(cx.app.openapi.clone());
    response
}

/// How many tasks are in a state that is not the end, up to [`MAX_SCANNED`].
fn count(cx: &Cx<'_>, state: TaskState) -> Result<usize, Problem> {
    let mut filter = TaskFilter { state: Some(state), limit: MAX_LIMIT, ..TaskFilter::default() };
    let mut count = 0;
    loop {
        let page = cx.app.ports.tasks.tasks(&filter).map_err(|error| unreadable(&error))?;
        count += page.tasks.len();
        match page.next {
            Some(next) if count < MAX_SCANNED && !page.tasks.is_empty() => filter.before = Some(next),
            _ => return Ok(count),
        }
    }
}
