//! Meddles with the calls of steps, without a line in any step: a call is refused before it begins, or its answer is lost after it has
//! done everything. What the steps themselves do is never changed.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::Value;

use crate::context::Cx;
use crate::step::{ErasedStep, Probe, StepError};

/// A call of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Its run.
    Run,
    /// Its probe.
    Probe,
    /// Its undo.
    Undo,
}

/// What is done to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It never begins, and fails so.
    Before(StepError),
    /// It does everything that it does, and fails so all the same.
    After(StepError),
    /// It does everything that it does, and never answers.
    Hang,
}

/// Decides about each call: of which step of the plan, which call, which attempt (from 1).
pub type Meddler = Arc<dyn Fn(&str, Call, u32) -> Option<Trouble> + Send + Sync>;

/// A step whose calls are meddled with.
pub(crate) struct Meddled<P: ?Sized> {
    pub(crate) step: Box<dyn ErasedStep<P>>,
    pub(crate) meddler: Meddler,
}

async fn meddled<T>(
    trouble: Option<Trouble>,
    call: BoxFuture<'_, Result<T, StepError>>,
) -> Result<T, StepError> {
    match trouble {
        None => call.await,
        Some(Trouble::Before(error)) => Err(error),
        Some(Trouble::After(error)) => call.await.and(Err(error)),
        Some(Trouble::Hang) => {
            call.await?;
            futures::future::pending().await
        }
    }
}

impl<P: ?Sized + Send + Sync> ErasedStep<P> for Meddled<P> {
    fn run<'a>(&'a self, cx: &'a Cx<'a, P>) -> BoxFuture<'a, Result<Value, StepError>> {
        meddled((self.meddler)(cx.step, Call::Run, cx.attempt), self.step.run(cx)).boxed()
    }

    fn probe<'a>(&'a self, cx: &'a Cx<'a, P>) -> BoxFuture<'a, Result<Probe<Value>, StepError>> {
        meddled((self.meddler)(cx.step, Call::Probe, cx.attempt), self.step.probe(cx)).boxed()
    }

    fn undo<'a>(&'a self, cx: &'a Cx<'a, P>) -> BoxFuture<'a, Result<(), StepError>> {
        meddled((self.meddler)(cx.step, Call::Undo, cx.attempt), self.step.undo(cx)).boxed()
    }
}
