//! What people may ask of a task that exists: cancel, retry, undo, resolve. Each is an event with its actor, or a new task.

use std::sync::Arc;

use futures::channel::oneshot;

use super::Inner;
use super::live::{Mail, Verb};
use super::planning::Origin;
use crate::event::Outcome;
use crate::machine::Machine;
use crate::service::{DedupeKey, Resolution, ResolveVerb, Submission, SubmitError, Submitted, VerbError};
use crate::task::{Actor, TaskId, TaskView, UNDO};

/// Longest reason, in bytes: it goes into an event.
const MAX_REASON: usize = 1000;

impl<P: ?Sized + Send + Sync + 'static> Inner<P> {
    pub(super) async fn cancel(
        &self,
        task: &TaskId,
        actor: Actor,
        reason: String,
    ) -> Result<TaskView, VerbError> {
        let machine = self.open(task)?;
        if let Some(why) = machine.refuses_cancel() {
            return Err(VerbError::Conflict(why));
        }
        self.send(task, Verb::Cancel { reason: bounded(reason)? }, actor).await
    }

    pub(super) async fn decide(
        &self,
        task: &TaskId,
        approve: bool,
        reason: String,
        actor: Actor,
    ) -> Result<TaskView, VerbError> {
        let machine = self.open(task)?;
        if let Some(why) = machine.refuses_decision(approve, &actor, self.clock.now()) {
            return Err(VerbError::Conflict(why));
        }
        self.send(task, Verb::Decide { approve, reason: bounded(reason)? }, actor).await
    }

    pub(super) async fn resolve(
        &self,
        task: &TaskId,
        resolution: Resolution,
        actor: Actor,
    ) -> Result<TaskView, VerbError> {
        let view = self.open(task)?.view(self.clock.now());
        let stuck = view
            .incident
            .iter()
            .flat_map(|incident| &incident.steps)
            .any(|step| step.step == resolution.step);
        if !stuck {
            return Err(VerbError::Conflict(format!("the step {:?} is not stuck", resolution.step)));
        }
        if resolution.verb != ResolveVerb::Retry && resolution.reason.trim().is_empty() {
            return Err(VerbError::Conflict(
                "say why: this verb needs a reason, which is kept in the journal".to_owned(),
            ));
        }
        let resolution = Resolution { reason: bounded(resolution.reason)?, ..resolution };
        self.send(task, Verb::Resolve(vec![resolution]), actor).await
    }

    pub(super) async fn retry(self: &Arc<Self>, task: &TaskId, actor: Actor) -> Result<TaskView, VerbError> {
        let machine = self.known(task)?;
        let view = machine.view(self.clock.now());
        match machine.outcome() {
            Some(Outcome::RolledBack | Outcome::Canceled) => {
                let accepted = machine.accepted();
                if accepted.workflow == UNDO {
                    return Err(VerbError::Conflict("undo the original task again instead".to_owned()));
                }
                let submission = Submission {
                    workflow: accepted.workflow.clone(),
                    params: accepted.params.clone(),
                    actor,
                    correlation_id: accepted.correlation_id.clone(),
                    callback: accepted.callback.clone(),
                    not_before: None,
                    priority: accepted.priority,
                    trace: None,
                    dedupe: Vec::new(),
                    if_plan: None,
                };
                Ok(view_of(self.accept(submission, Origin::Fresh, None).await?))
            }
            Some(Outcome::Succeeded) => Err(VerbError::Conflict("the task has succeeded".to_owned())),
            None => {
                let steps = view.incident.map(|incident| incident.steps).unwrap_or_default();
                if steps.is_empty() {
                    return Err(VerbError::Conflict("nothing of the task is stuck".to_owned()));
                }
                let again =
                    |step: String| Resolution { step, verb: ResolveVerb::Retry, reason: String::new() };
                let resolutions = steps.into_iter().map(|step| again(step.step)).collect();
                self.send(task, Verb::Resolve(resolutions), actor).await
            }
        }
    }

    pub(super) async fn undo(
        self: &Arc<Self>,
        task: &TaskId,
        actor: Actor,
        dedupe: Vec<DedupeKey>,
        parent: Option<&Machine>,
    ) -> Result<TaskView, VerbError> {
        let machine = self.known(task)?;
        if machine.outcome() != Some(Outcome::Succeeded) {
            let why = "only a task that has succeeded can be undone; cancel one that still runs";
            return Err(VerbError::Conflict(why.to_owned()));
        }
        let now = self.clock.now();
        match machine.undo_until() {
            None => {
                return Err(VerbError::Conflict(format!(
                    "a {} cannot be undone",
                    machine.accepted().workflow
                )));
            }
            Some(until) if now > until => {
                return Err(VerbError::Conflict("the hold is over: the old side may be purged".to_owned()));
            }
            Some(_) => {}
        }
        let accepted = machine.accepted();
        let submission = Submission {
            workflow: UNDO.to_owned(),
            // Whoever may do something with a task may do it with what takes it back too.
            params: serde_json::json!({ "task": task, "workflow": accepted.workflow }),
            actor,
            correlation_id: accepted.correlation_id.clone(),
            callback: accepted.callback.clone(),
            not_before: None,
            priority: accepted.priority,
            trace: None,
            dedupe,
            if_plan: None,
        };
        match self.accept_of(submission, Origin::Undo(&machine), None, parent).await {
            Ok(submitted) => Ok(view_of(submitted)),
            Err(SubmitError::Refused(why)) => Err(VerbError::Conflict(why)),
            Err(error) => Err(error.into()),
        }
    }

    /// A task that has not ended. What is asked too late is told by the head alone: an ended history may be long.
    fn open(&self, task: &TaskId) -> Result<Arc<Machine>, VerbError> {
        if self.live(task).is_none() {
            let head = self.journal.head(task).map_err(|error| VerbError::Store(error.to_string()))?;
            let (head, _) = head.ok_or(VerbError::UnknownTask)?;
            if head.state.is_final() {
                return Err(VerbError::Conflict("the task has ended".to_owned()));
            }
        }
        self.known(task)
    }

    fn known(&self, task: &TaskId) -> Result<Arc<Machine>, VerbError> {
        let loaded = self.load(task).map_err(|error| VerbError::Store(error.to_string()))?;
        loaded.ok_or(VerbError::UnknownTask)
    }

    async fn send(&self, task: &TaskId, verb: Verb, actor: Actor) -> Result<TaskView, VerbError> {
        let ended = || VerbError::Conflict("the task has ended, or the service is stopping".to_owned());
        let live = self.live(task).ok_or_else(ended)?;
        let (reply, answer) = oneshot::channel();
        live.send(Mail { verb, actor, reply })
            .map_err(|_| VerbError::Conflict("too many requests wait for this task; ask again".to_owned()))?;
        answer.await.map_err(|_| ended())?
    }
}

fn bounded(reason: String) -> Result<String, VerbError> {
    if reason.len() > MAX_REASON {
        return Err(VerbError::Conflict(format!("the reason is longer than {MAX_REASON} bytes")));
    }
    Ok(reason)
}

fn view_of(submitted: Submitted) -> TaskView {
    match submitted {
        Submitted::Created(view) | Submitted::Duplicate(view) => view,
    }
}
