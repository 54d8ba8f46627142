//! The link of a `login` task: to whoever may see the task and may make such links. Never in a task's body, a callback or a log.

use http::StatusCode;
use kedge_engine::task::TaskId;
use serde_json::json;

use crate::app::Answer;
use crate::auth::Verb;
use crate::cx::Cx;
use crate::handlers::{self, Query, find};
use crate::problem::Problem;

/// The workflow whose tasks have links. Reading them needs the scope that makes them: who only reads tasks does not get to log in.
const LOGIN: &str = "login";

pub(crate) async fn show(cx: &Cx<'_>, id: &TaskId) -> Answer {
    let view = find(cx, id, Verb::Read)?;
    Query::new(cx, &[])?;
    if view.workflow != LOGIN {
        return Err(Problem::not_found("only tasks of the workflow login have a link"));
    }
    let token = cx.token()?;
    token.demand(Verb::Create, LOGIN)?;
    let link = cx.app.ports.desk.login_link(id).await.map_err(|error| {
        tracing::error!(target: "kedge::http", task = %id, error, "a login link cannot be read");
        Problem::internal()
    })?;
    let gone = "there is no link: the task has not made it yet, it was taken back, or its time is over; ask for a new one";
    let link = link.ok_or_else(|| Problem::not_found(gone))?;
    tracing::info!(target: "kedge::audit", task = %id, token = token.name(), "the login link was shown");
    Ok(handlers::json(StatusCode::OK, &json!({ "url": link, "result": view.result })))
}
