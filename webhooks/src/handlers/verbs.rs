//! `POST /v1/tasks/{id}/{cancel,retry,undo,resolve,approve,refuse}`: what people and scripts decide about a task. The engine says whether its state
//! allows it.

use bytes::Bytes;
use http::StatusCode;
use hyper::body::Body as HttpBody;
use kedge_engine::service::{Resolution, ResolveVerb, VerbError};
use kedge_engine::task::{Actor, TaskId, TaskView};

use crate::accept;
use crate::app::Answer;
use crate::auth::Verb;
use crate::cx::Cx;
use crate::fields::Fields;
use crate::handlers::{self, Query, find, submit, to_its_end};
use crate::problem::Problem;

/// Longest reason: it is journaled with the decision.
const MAX_REASON: usize = 1000;
/// Longest name of a step.
const MAX_STEP: usize = 64;

pub(crate) async fn cancel<B: HttpBody<Data = Bytes> + Unpin>(cx: &Cx<'_>, id: &TaskId, body: B) -> Answer {
    let actor = ask(cx, id, Verb::Cancel)?;
    let mut fields = handlers::fields(cx, body, false).await?;
    let reason = fields.text("reason", MAX_REASON).unwrap_or_default();
    fields.finish().map_err(unfit)?;
    let id = id.clone();
    answer(
        cx,
        to_its_end(&cx.app.ports.tasks, |tasks| async move { tasks.cancel(&id, actor, reason).await })
            .await?,
    )
}

pub(crate) async fn retry<B: HttpBody<Data = Bytes> + Unpin>(cx: &Cx<'_>, id: &TaskId, body: B) -> Answer {
    let actor = ask(cx, id, Verb::Retry)?;
    handlers::fields(cx, body, false).await?.finish().map_err(unfit)?;
    let id = id.clone();
    answer(cx, to_its_end(&cx.app.ports.tasks, |tasks| async move { tasks.retry(&id, actor).await }).await?)
}

pub(crate) async fn undo<B: HttpBody<Data = Bytes> + Unpin>(cx: &Cx<'_>, id: &TaskId, body: B) -> Answer {
    let actor = ask(cx, id, Verb::Undo)?;
    handlers::fields(cx, body, false).await?.finish().map_err(unfit)?;
    let id = id.clone();
    answer(cx, to_its_end(&cx.app.ports.tasks, |tasks| async move { tasks.undo(&id, actor).await }).await?)
}

pub(crate) async fn resolve<B: HttpBody<Data = Bytes> + Unpin>(cx: &Cx<'_>, id: &TaskId, body: B) -> Answer {
    let actor = ask(cx, id, Verb::Resolve)?;
    let resolution = resolution(handlers::fields(cx, body, false).await?)?;
    let id = id.clone();
    let act =
        to_its_end(&cx.app.ports.tasks, |tasks| async move { tasks.resolve(&id, resolution, actor).await });
    answer(cx, act.await?)
}

pub(crate) async fn decide<B: HttpBody<Data = Bytes> + Unpin>(
    cx: &Cx<'_>,
    id: &TaskId,
    approve: bool,
    body: B,
) -> Answer {
    let actor = ask(cx, id, Verb::Approve)?;
    let mut fields = handlers::fields(cx, body, false).await?;
    let reason = fields.text("reason", MAX_REASON).unwrap_or_default();
    fields.finish().map_err(unfit)?;
    let id = id.clone();
    let act =
        to_its_end(
            &cx.app.ports.tasks,
            |tasks| async move { tasks.decide(&id, approve, reason, actor).await },
        );
    answer(cx, act.await?)
}

fn ask(cx: &Cx<'_>, id: &TaskId, verb: Verb) -> Result<Actor, Problem> {
    let view = find(cx, id, verb)?;
    Query::new(cx, &[])?;
    accept::if_match(&cx.parts.headers, view.sequence)?;
    Ok(Actor { name: cx.token()?.principal(), via: "http".to_owned() })
}

fn resolution(mut fields: Fields) -> Result<Resolution, Problem> {
    let step = fields.text("step", MAX_STEP);
    fields.require("step", step.as_ref());
    let word = fields.text("verb", MAX_STEP);
    fields.require("verb", word.as_ref());
    let verb = word.as_deref().and_then(|word| match word {
        "retry" => Some(ResolveVerb::Retry),
        "mark_undone" => Some(ResolveVerb::MarkUndone),
        "abandon" => Some(ResolveVerb::Abandon),
        _ => {
            fields.fault("verb", "is one of retry, mark_undone, abandon");
            None
        }
    });
    let reason = fields.text("reason", MAX_REASON);
    if verb.is_some_and(|verb| verb != ResolveVerb::Retry) {
        fields.require("reason", reason.as_ref());
    }
    fields.finish().map_err(unfit)?;
    match (step, verb) {
        (Some(step), Some(verb)) => Ok(Resolution { step, verb, reason: reason.unwrap_or_default() }),
        _ => Err(unfit(Vec::new())),
    }
}

fn unfit(faults: Vec<crate::problem::Fault>) -> Problem {
    Problem::invalid("the body does not fit this request", faults)
}

fn answer(cx: &Cx<'_>, done: Result<TaskView, VerbError>) -> Answer {
    match done {
        Ok(view) => Ok(handlers::task(cx.app, StatusCode::ACCEPTED, &view)),
        Err(VerbError::UnknownTask) => Err(Problem::not_found("there is no such task")),
        Err(VerbError::Conflict(why)) => {
            Err(Problem::new(StatusCode::CONFLICT, "state", "The task's state does not allow this", why))
        }
        Err(VerbError::Submit(error)) => Err(submit::refusal(cx.app, error, |fault| fault)),
        Err(VerbError::Store(error)) => {
            tracing::error!(target: "kedge::http", error, "a decision could not be stored");
            Err(Problem::unavailable("it could not be stored; nothing was changed", 30))
        }
    }
}
