//! Tasks that a step starts: each once, however often the step runs, and across deaths of the process. A task is known by who started it:
//! a dedupe key of the step that did, written with the task itself.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::Value;

use super::planning::Origin;
use super::{Engine, Inner};
use crate::context::{Subtask, Subtasks};
use crate::machine::Machine;
use crate::service::{DedupeKey, Submission, SubmitError, Submitted, Tasks as _, VerbError};
use crate::step::StepError;
use crate::task::{TaskId, TaskState, TaskView};

/// Scope of the keys of tasks that steps start.
const SCOPE: &str = "engine:subtask";

/// What a step's subtasks are started and followed by.
pub(super) struct Starter<P: ?Sized> {
    pub(super) inner: Arc<Inner<P>>,
    /// The task that the step is of.
    pub(super) machine: Arc<Machine>,
}

impl<P: ?Sized + Send + Sync + 'static> Starter<P> {
    fn key(&self, step: &str) -> DedupeKey {
        let task = &self.machine.accepted().task;
        DedupeKey { scope: SCOPE.to_owned(), key: format!("{task}/{step}"), fingerprint: None }
    }

    async fn submit(&self, step: &str, workflow: &str, params: Value) -> Result<Subtask, StepError> {
        self.arrived(step).await;
        let parent = self.machine.accepted();
        let submission = Submission {
            workflow: workflow.to_owned(),
            params,
            actor: parent.actor.clone(),
            correlation_id: parent.correlation_id.clone(),
            callback: None,
            not_before: None,
            priority: parent.priority,
            trace: parent.trace.clone(),
            dedupe: vec![self.key(step)],
            if_plan: None,
        };
        match self.inner.accept_of(submission, Origin::Fresh, None, Some(&self.machine)).await {
            Ok(Submitted::Created(view) | Submitted::Duplicate(view)) => self.end(view).await,
            Err(SubmitError::Unavailable(why) | SubmitError::Store(why)) => Err(StepError::retryable(why)),
            Err(error) => Ok(Subtask::Refused { why: error.to_string() }),
        }
    }

    async fn take_back(&self, step: &str, task: &TaskId) -> Result<Subtask, StepError> {
        // Before anything is asked of the task: its hold may be over by now, or it is taken back already, by us.
        if let Some(view) = self.started(step).await? {
            return self.end(view).await;
        }
        let actor = self.machine.accepted().actor.clone();
        match self.inner.undo(task, actor, vec![self.key(step)], Some(&self.machine)).await {
            Ok(view) => self.end(view).await,
            Err(VerbError::Submit(SubmitError::Unavailable(why) | SubmitError::Store(why)))
            | Err(VerbError::Store(why)) => Err(StepError::retryable(why)),
            Err(error) => Ok(Subtask::Refused { why: error.to_string() }),
        }
    }

    async fn started(&self, step: &str) -> Result<Option<TaskView>, StepError> {
        self.arrived(step).await;
        let found = self.inner.with_key(&self.key(step));
        found.map_err(|error| StepError::retryable(error.to_string()))
    }

    /// Waits for the task that an earlier attempt of the step has asked for, if it is being stored: cut short, the attempt has left it to
    /// itself.
    async fn arrived(&self, step: &str) {
        let key = self.key(step).key;
        self.inner.until(|state| !state.children.contains(&key)).await;
    }

    /// Waits until the task goes no further by itself.
    async fn end(&self, mut view: TaskView) -> Result<Subtask, StepError> {
        let engine = Engine(self.inner.clone());
        while !view.state.is_final() && view.state != TaskState::Stuck {
            engine.changed(&view.id, view.sequence, view.progress_version).await;
            let now = self.inner.view(&view.id).map_err(|error| StepError::retryable(error.to_string()))?;
            view =
                now.ok_or_else(|| StepError::fatal(format!("the task {} is not known any more", view.id)))?;
        }
        let error = match (view.error, view.incident) {
            (_, Some(incident)) => incident.steps.into_iter().next().map(|stuck| stuck.reason),
            (Some(failure), None) => Some(failure.detail),
            (None, None) => None,
        };
        Ok(Subtask::Ended { task: view.id, state: view.state, error })
    }
}

impl<P: ?Sized + Send + Sync + 'static> Subtasks for Starter<P> {
    fn run<'a>(
        &'a self,
        step: &'a str,
        workflow: &'a str,
        params: Value,
    ) -> BoxFuture<'a, Result<Subtask, StepError>> {
        self.submit(step, workflow, params).boxed()
    }

    fn undo<'a>(&'a self, step: &'a str, task: &'a TaskId) -> BoxFuture<'a, Result<Subtask, StepError>> {
        self.take_back(step, task).boxed()
    }

    fn awaited<'a>(&'a self, step: &'a str) -> BoxFuture<'a, Result<Option<Subtask>, StepError>> {
        async move {
            match self.started(step).await? {
                Some(view) => self.end(view).await.map(Some),
                None => Ok(None),
            }
        }
        .boxed()
    }
}
