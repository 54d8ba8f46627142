//! What a workflow is to the engine: a name, a schema, and a pure function from parameters and facts to a plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use thiserror::Error;

use crate::plan::{Plan, PlanError};
use crate::service::ParamError;
use crate::store::ReadError;
use crate::task::{Millis, TaskId};

/// A kind of task.
pub trait Workflow: Send + Sync + 'static {
    /// Its name: route, command, schema and callbacks follow from it.
    fn name(&self) -> &'static str;
    /// What it does, in a sentence.
    fn title(&self) -> &'static str;
    /// JSON Schema 2020-12 of its parameters; unknown fields are refused by it.
    fn schema(&self) -> Value;
    /// Parameters that fit the schema, for documents and tests.
    fn example(&self) -> Value;
    /// The plan for these parameters, by what is known now. The same input gives the same plan.
    fn plan(&self, params: &Value, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal>;
    /// The plan that takes a finished task back.
    fn undo(&self, finished: &FinishedTask<'_>, _cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        Err(PlanRefusal::Refused(format!("a finished {} cannot be taken back", finished.workflow)))
    }
}

/// What a plan is built from, besides the parameters.
pub struct PlanCx<'a> {
    /// The task's id: part of the names of what it creates.
    pub task: &'a TaskId,
    /// Now: what is due, what is over.
    pub now: Millis,
    /// Now as it may be written into the names of what the task makes. It is 0 where plans are compared, as the task's id is: a plan
    /// that was looked at and the one that is made of it a moment later are the same.
    pub named_at: Millis,
    /// What is known of the world.
    pub facts: &'a dyn Facts,
}

/// What is known of the world without touching it: the configuration and the registry.
pub trait Facts: Send + Sync + 'static {
    /// A record.
    fn record(&self, family: &str, name: &str) -> Result<Option<Value>, ReadError>;
    /// All records of a family, by name.
    fn records(&self, family: &str) -> Result<Vec<(String, Value)>, ReadError>;
}

/// A task that has succeeded.
pub struct FinishedTask<'a> {
    /// Its id.
    pub task: &'a TaskId,
    /// Its workflow.
    pub workflow: &'a str,
    /// Its parameters.
    pub params: &'a Value,
    /// Its plan.
    pub plan: &'a Plan,
    /// The outputs of its steps.
    pub outputs: &'a BTreeMap<String, Arc<Value>>,
}

/// Why there is no plan.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum PlanRefusal {
    /// Parameters that cannot be meant so.
    #[error("the parameters do not fit")]
    BadParams(Vec<ParamError>),
    /// The world does not allow it.
    #[error("{0}")]
    Refused(String),
    /// Everything is as asked for already.
    #[error("{0}")]
    Nothing(String),
    /// The registry could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A defect of the workflow.
    #[error("the workflow makes no valid plan: {0}")]
    Plan(#[from] PlanError),
}

impl PlanRefusal {
    /// One parameter that does not fit.
    #[must_use]
    pub fn param(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::BadParams(vec![ParamError { pointer: pointer.into(), detail: detail.into() }])
    }
}
