//! The one place where a drill may break attempts on purpose: a saboteur around every step, put there by whoever builds the registry of
//! kinds. Without one, nothing of this is in the way; it never touches the journal.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::context::Cx;
use crate::step::{ErasedStep, Probe, StepError};

/// What an attempt does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Runs the step, or takes a fingerprint.
    Run,
    /// Looks whether its effect is there.
    Probe,
    /// Takes its effect back.
    Undo,
}

/// An attempt as a [`Saboteur`] sees it.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The step's name within the plan.
    pub step: &'a str,
    /// What it does.
    pub phase: Phase,
    /// Its number, from 1.
    pub number: u32,
}

/// Breaks attempts on purpose, so that a drill can show that nothing comes of it. It decides from outside the step: the step and the
/// engine cannot tell its errors from real ones.
pub trait Saboteur: Send + Sync + 'static {
    /// Before the attempt acts; an error ends it here.
    ///
    /// # Errors
    /// As the step's own.
    fn before(&self, attempt: Attempt<'_>) -> Result<(), StepError>;

    /// After it has acted and before its result is reported; an error takes the place of a success.
    ///
    /// # Errors
    /// As the step's own.
    fn after(&self, attempt: Attempt<'_>, succeeded: bool) -> Result<(), StepError>;
}

/// A step with a saboteur around it.
pub(crate) struct Sabotaged<P: ?Sized> {
    step: Box<dyn ErasedStep<P>>,
    saboteur: Arc<dyn Saboteur>,
}

impl<P: ?Sized + Send + Sync + 'static> Sabotaged<P> {
    pub(crate) fn new(step: Box<dyn ErasedStep<P>>, saboteur: Arc<dyn Saboteur>) -> Self {
        Self { step, saboteur }
    }

    async fn around<T>(
        &self,
        cx: &Cx<'_, P>,
        phase: Phase,
        act: BoxFuture<'_, Result<T, StepError>>,
    ) -> Result<T, StepError> {
        let attempt = Attempt { step: cx.step, phase, number: cx.attempt };
        self.saboteur.before(attempt)?;
        let result = act.await;
        self.saboteur.after(attempt, result.is_ok())?;
        result
    }
}

impl<P: ?Sized + Send + Sync + 'static> ErasedStep<P> for Sabotaged<P> {
    fn run<'a>(&'a self, cx: &'a Cx<'a, P>) -> BoxFuture<'a, Result<Value, StepError>> {
        self.around(cx, Phase::Run, self.step.run(cx)).boxed()
    }

    fn probe<'a>(&'a self, cx: &'a Cx<'a, P>) -> BoxFuture<'a, Result<Probe<Value>, StepError>> {
        self.around(cx, Phase::Probe, self.step.probe(cx)).boxed()
    }

    fn undo<'a>(&'a self, cx: &'a Cx<'a, P>) -> BoxFuture<'a, Result<(), StepError>> {
        self.around(cx, Phase::Undo, self.step.undo(cx)).boxed()
    }
}
