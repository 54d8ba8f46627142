//! What a step sees of the world while it runs: its ports, the outputs of earlier steps, and where it may report. It cannot touch
//! the journal but through what it stages here, which is committed together with its result or not at all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::step::{Ref, StepError};
use crate::task::{Millis, Progress, TaskId, TaskState};
use crate::workflow::Facts;

/// Longest line of a step's log, in bytes.
const MAX_LINE: usize = 4096;

/// The context of one attempt.
pub struct Cx<'a, P: ?Sized> {
    /// What the step needs from the world.
    pub ports: &'a P,
    /// The task.
    pub task: &'a TaskId,
    /// The step's name within the plan.
    pub step: &'a str,
    /// The number of this attempt, from 1.
    pub attempt: u32,
    /// When the attempt began.
    pub now: Millis,
    pub(crate) facts: &'a dyn Facts,
    pub(crate) outputs: &'a BTreeMap<String, Arc<Value>>,
    pub(crate) staged: &'a Mutex<Vec<RecordWrite>>,
    pub(crate) report: Arc<dyn Fn(Report) + Send + Sync>,
    pub(crate) subtasks: &'a dyn Subtasks,
}

/// Starts and follows the tasks of a step, which is named.
pub(crate) trait Subtasks: Send + Sync {
    fn run<'a>(
        &'a self,
        step: &'a str,
        workflow: &'a str,
        params: Value,
    ) -> BoxFuture<'a, Result<Subtask, StepError>>;
    fn undo<'a>(&'a self, step: &'a str, task: &'a TaskId) -> BoxFuture<'a, Result<Subtask, StepError>>;
    fn awaited<'a>(&'a self, step: &'a str) -> BoxFuture<'a, Result<Option<Subtask>, StepError>>;
}

/// What became of a task that a step has started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subtask {
    /// It was refused, and there is none.
    Refused {
        /// Why.
        why: String,
    },
    /// It goes no further by itself: it has ended, or is stuck.
    Ended {
        /// Its id.
        task: TaskId,
        /// Where it stands.
        state: TaskState,
        /// Why it did not succeed.
        error: Option<String>,
    },
}

/// A change of the registry, committed with the step's result.
#[derive(Clone, Debug, PartialEq)]
pub enum RecordWrite {
    /// Sets a record.
    Put {
        /// Family, such as `site`.
        family: &'static str,
        /// Name within the family.
        name: String,
        /// The record.
        value: Value,
    },
    /// Sets a record that must not be there, or be this task's claim already.
    Claim {
        /// Family.
        family: &'static str,
        /// Name.
        name: String,
        /// The record.
        value: Value,
    },
    /// Removes a record.
    Delete {
        /// Family.
        family: &'static str,
        /// Name.
        name: String,
    },
}

impl RecordWrite {
    pub(crate) fn is_claim(&self) -> bool {
        matches!(self, Self::Claim { .. })
    }
}

/// Tells how far a step is.
#[derive(Clone)]
pub struct ProgressHandle(Arc<dyn Fn(Report) + Send + Sync>);

impl ProgressHandle {
    /// See [`Cx::progress`].
    pub fn tell(&self, done: u64, total: Option<u64>, unit: &str) {
        (self.0)(Report::Progress(Progress { done, total, unit: unit.to_owned() }));
    }
}

/// What a step tells while it runs. Lost in a crash, by design.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    Progress(Progress),
    Log(String),
}

impl<P: ?Sized> Cx<'_, P> {
    /// The output of an earlier step.
    ///
    /// # Errors
    /// Fatal when the step has none: the plan's edges make that impossible for a run, an undo may meet it and should then act
    /// on what it finds.
    pub fn output<T: DeserializeOwned>(&self, of: &Ref<T>) -> Result<T, StepError> {
        self.find(of.name())?
            .ok_or_else(|| StepError::fatal(format!("the step {:?} has no output", of.name())))
    }

    /// The output of an earlier step, if it has one: for undos.
    ///
    /// # Errors
    /// Fatal when it does not read as `T`.
    pub fn maybe<T: DeserializeOwned>(&self, of: &Ref<T>) -> Result<Option<T>, StepError> {
        self.find(of.name())
    }

    /// This step's own output, if its run succeeded: for undos.
    ///
    /// # Errors
    /// Fatal when it does not read as `T`.
    pub fn own<T: DeserializeOwned>(&self) -> Result<Option<T>, StepError> {
        self.find(self.step)
    }

    fn find<T: DeserializeOwned>(&self, step: &str) -> Result<Option<T>, StepError> {
        let Some(value) = self.outputs.get(step) else { return Ok(None) };
        T::deserialize(&**value)
            .map(Some)
            .map_err(|error| StepError::fatal(format!("the output of {step:?} does not read: {error}")))
    }

    /// The outputs that steps of the task had when this attempt began, by their names: predecessors or not.
    pub fn so_far(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.outputs.iter().map(|(step, output)| (step.as_str(), &**output))
    }

    /// Has another task do something, in the name of who asked for this one, and waits until it goes no further. It is a saga of its own:
    /// whatever becomes of this task, it ends by itself. A step has one: asked again, after whatever happened, it is the same one.
    ///
    /// # Errors
    /// Retryable when no task can be taken on at the moment, or the store cannot be read.
    pub async fn subtask(&self, workflow: &str, params: Value) -> Result<Subtask, StepError> {
        self.subtasks.run(self.step, workflow, params).await
    }

    /// The same for the task that takes back another.
    ///
    /// # Errors
    /// As [`Cx::subtask`].
    pub async fn subtask_undo(&self, task: &TaskId) -> Result<Subtask, StepError> {
        self.subtasks.undo(self.step, task).await
    }

    /// Waits for the task that this step has started, if it has.
    ///
    /// # Errors
    /// As [`Cx::subtask`].
    pub async fn subtask_awaited(&self) -> Result<Option<Subtask>, StepError> {
        self.subtasks.awaited(self.step).await
    }

    /// Tells how far it is.
    pub fn progress(&self, done: u64, total: Option<u64>, unit: &str) {
        (self.report)(Report::Progress(Progress { done, total, unit: unit.to_owned() }));
    }

    /// The same for code that outlives this borrow, such as a stream.
    #[must_use]
    pub fn progress_handle(&self) -> ProgressHandle {
        ProgressHandle(self.report.clone())
    }

    /// Adds a line to the step's log. Never a secret.
    pub fn log(&self, line: impl Into<String>) {
        let mut line = line.into();
        if line.len() > MAX_LINE {
            let mut end = MAX_LINE;
            while !line.is_char_boundary(end) {
                end -= 1;
            }
            line.truncate(end);
        }
        (self.report)(Report::Log(line));
    }

    /// A record of the registry or the configuration as it is now. The plan was made of what was known when the task was accepted;
    /// what it waited for since may have changed that.
    ///
    /// # Errors
    /// Retryable when the registry cannot be read, fatal when the record does not read as `T`.
    pub fn record<T: DeserializeOwned>(&self, family: &str, name: &str) -> Result<Option<T>, StepError> {
        let read = self.facts.record(family, name);
        let value = read.map_err(|error| StepError::retryable(format!("the registry: {error}")))?;
        value.map(serde_json::from_value).transpose().map_err(|error| {
            StepError::fatal(format!("the {family} record of {name} does not read: {error}"))
        })
    }

    /// All records of a family as they are now, by their names.
    ///
    /// # Errors
    /// Retryable when the registry cannot be read.
    pub fn records(&self, family: &str) -> Result<Vec<(String, Value)>, StepError> {
        self.facts.records(family).map_err(|error| StepError::retryable(format!("the registry: {error}")))
    }

    /// Stages a record: committed with the success of this run or undo, or never.
    ///
    /// # Errors
    /// Fatal when the value does not serialise.
    pub fn put_record<T: Serialize>(
        &self,
        family: &'static str,
        name: impl Into<String>,
        value: &T,
    ) -> Result<(), StepError> {
        let value = json(value)?;
        self.stage(RecordWrite::Put { family, name: name.into(), value });
        Ok(())
    }

    /// Stages a record that must be new: if another task was quicker, the attempt fails and is tried again.
    ///
    /// # Errors
    /// Fatal when the value does not serialise.
    pub fn claim_record<T: Serialize>(
        &self,
        family: &'static str,
        name: impl Into<String>,
        value: &T,
    ) -> Result<(), StepError> {
        let value = json(value)?;
        self.stage(RecordWrite::Claim { family, name: name.into(), value });
        Ok(())
    }

    /// Stages the removal of a record.
    pub fn delete_record(&self, family: &'static str, name: impl Into<String>) {
        self.stage(RecordWrite::Delete { family, name: name.into() });
    }

    fn stage(&self, write: RecordWrite) {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner).push(write);
    }
}

fn json<T: Serialize>(value: &T) -> Result<Value, StepError> {
    serde_json::to_value(value)
        .map_err(|error| StepError::fatal(format!("a record cannot be stored: {error}")))
}
