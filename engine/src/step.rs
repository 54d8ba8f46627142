//! What a step is: plain data that can run, be probed and, in its type, be undone or not. It never knows how it is scheduled.

use std::collections::BTreeMap;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::context::Cx;
use crate::plan::{Class, Doors, UndoSpec};
use crate::retry::Policy;
use crate::sabotage::{Sabotaged, Saboteur};

/// A step: a serialisable struct whose fields are its parameters and whose impl is its code.
///
/// `run` may be called again after any failure or crash: what it creates is named in its fields, and creating it again is fine.
pub trait Step: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What it needs from the world.
    type Ports: ?Sized + Send + Sync + 'static;
    /// What it hands to later steps; journaled, so never a secret.
    type Output: Serialize + DeserializeOwned + Send + Sync + 'static;
    /// [`Query`], [`Compensable`], [`Covered`], [`Pivot`] or [`Retriable`].
    type Mode;
    /// Its kind: unique, and never reused for something else, since old journals name it.
    const KIND: &'static str;

    /// What it does, in words.
    fn title(&self) -> String;

    /// Acts.
    fn run(&self, cx: &Cx<'_, Self::Ports>) -> impl Future<Output = Result<Self::Output, StepError>> + Send;

    /// Looks whether the effect is there, after an attempt whose result is unknown. The default suits a step whose `run` can
    /// simply be repeated.
    fn probe(
        &self,
        _cx: &Cx<'_, Self::Ports>,
    ) -> impl Future<Output = Result<Probe<Self::Output>, StepError>> + Send {
        async { Ok(Probe::Resumable) }
    }

    /// How often and how long it is tried.
    fn policy(&self) -> Policy {
        Policy::RUN
    }

    /// A server's slot it needs while it runs.
    fn slot(&self) -> Option<String> {
        None
    }

    /// What it does to visitors.
    fn doors(&self) -> Option<Doors> {
        None
    }

    /// Whether its output is part of the task's result.
    fn reports(&self) -> bool {
        false
    }

    /// What a person would do by hand if it got stuck.
    fn by_hand(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A step that takes its own effect back.
pub trait Compensate: Step {
    /// What the undo does, in words.
    fn undo_title(&self) -> String;

    /// Takes the effect back. Must be right when nothing, half or all of it is there, and when called again.
    fn undo(&self, cx: &Cx<'_, Self::Ports>) -> impl Future<Output = Result<(), StepError>> + Send;

    /// How often and how long the undo is tried.
    fn undo_policy(&self) -> Policy {
        Policy::PERSISTENT
    }
}

/// A step whose effect is taken back by the undo of an earlier one.
pub trait CoveredBy: Step {
    /// By which, and why that is enough.
    fn covered_by(&self) -> String;
}

/// What a probe saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe<T> {
    /// Nothing of the effect is there: run again.
    NotApplied,
    /// All of it is there: adopt this output.
    Applied(T),
    /// Some of it is there, and `run` goes on from there.
    Resumable,
    /// Some of it is there: undo, then run again. Says what.
    Partial(String),
    /// It cannot be told. A person is needed. Says why.
    Unknown(String),
}

/// Refers to the output of an earlier step. In a step's fields it makes that step a predecessor.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Ref<T> {
    #[serde(rename = "$step")]
    step: String,
    #[serde(skip)]
    output: PhantomData<fn() -> T>,
}

impl<T> Ref<T> {
    pub(crate) fn new(step: String) -> Self {
        Self { step, output: PhantomData }
    }

    /// The step's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.step
    }
}

impl<T> Clone for Ref<T> {
    fn clone(&self) -> Self {
        Self::new(self.step.clone())
    }
}

impl<T> std::fmt::Debug for Ref<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ref({})", self.step)
    }
}

/// Mode of a step that only looks.
pub enum Query {}
/// Mode of a step with an undo of its own: needs [`Compensate`].
pub enum Compensable {}
/// Mode of a step that acts and is taken back by another's undo: needs [`CoveredBy`].
pub enum Covered {}
/// Mode of the step that decides.
pub enum Pivot {}
/// Mode of a step after the pivot.
pub enum Retriable {}

/// Ties a mode to what it demands of a step.
pub trait ModeOf<S: Step> {
    /// The class in the plan.
    const CLASS: Class;
    /// The undo as the plan shows it.
    fn undo_spec(step: &S) -> UndoSpec;
    /// The policy of the undo.
    fn undo_policy(_step: &S) -> Policy {
        Policy::PERSISTENT
    }
    /// Runs the undo.
    fn undo<'a>(_step: &'a S, _cx: &'a Cx<'a, S::Ports>) -> BoxFuture<'a, Result<(), StepError>> {
        async { Ok(()) }.boxed()
    }
}

impl<S: Step> ModeOf<S> for Query {
    const CLASS: Class = Class::Query;
    fn undo_spec(_: &S) -> UndoSpec {
        UndoSpec::None { why: "only looks".to_owned() }
    }
}

impl<S: Compensate> ModeOf<S> for Compensable {
    const CLASS: Class = Class::Compensable;
    fn undo_spec(step: &S) -> UndoSpec {
        UndoSpec::Own { title: step.undo_title() }
    }
    fn undo_policy(step: &S) -> Policy {
        step.undo_policy()
    }
    fn undo<'a>(step: &'a S, cx: &'a Cx<'a, S::Ports>) -> BoxFuture<'a, Result<(), StepError>> {
        step.undo(cx).boxed()
    }
}

impl<S: CoveredBy> ModeOf<S> for Covered {
    const CLASS: Class = Class::Compensable;
    fn undo_spec(step: &S) -> UndoSpec {
        UndoSpec::None { why: step.covered_by() }
    }
}

impl<S: Step> ModeOf<S> for Pivot {
    const CLASS: Class = Class::Pivot;
    fn undo_spec(_: &S) -> UndoSpec {
        UndoSpec::None { why: "the point of no return".to_owned() }
    }
}

impl<S: Step> ModeOf<S> for Retriable {
    const CLASS: Class = Class::Retriable;
    fn undo_spec(_: &S) -> UndoSpec {
        UndoSpec::None { why: "comes after the point of no return".to_owned() }
    }
}

/// A step without its types, as the executor handles it.
pub(crate) trait ErasedStep<P: ?Sized>: Send + Sync {
    fn run<'a>(&'a self, cx: &'a Cx<'a, P>) -> BoxFuture<'a, Result<Value, StepError>>;
    fn probe<'a>(&'a self, cx: &'a Cx<'a, P>) -> BoxFuture<'a, Result<Probe<Value>, StepError>>;
    fn undo<'a>(&'a self, cx: &'a Cx<'a, P>) -> BoxFuture<'a, Result<(), StepError>>;
}

struct Erased<S>(S);

impl<S: Step> ErasedStep<S::Ports> for Erased<S>
where
    S::Mode: ModeOf<S>,
{
    fn run<'a>(&'a self, cx: &'a Cx<'a, S::Ports>) -> BoxFuture<'a, Result<Value, StepError>> {
        async move { to_value(&self.0.run(cx).await?) }.boxed()
    }

    fn probe<'a>(&'a self, cx: &'a Cx<'a, S::Ports>) -> BoxFuture<'a, Result<Probe<Value>, StepError>> {
        async move {
            Ok(match self.0.probe(cx).await? {
                Probe::NotApplied => Probe::NotApplied,
                Probe::Applied(output) => Probe::Applied(to_value(&output)?),
                Probe::Resumable => Probe::Resumable,
                Probe::Partial(what) => Probe::Partial(what),
                Probe::Unknown(why) => Probe::Unknown(why),
            })
        }
        .boxed()
    }

    fn undo<'a>(&'a self, cx: &'a Cx<'a, S::Ports>) -> BoxFuture<'a, Result<(), StepError>> {
        <S::Mode as ModeOf<S>>::undo(&self.0, cx)
    }
}

fn to_value<T: Serialize>(output: &T) -> Result<Value, StepError> {
    serde_json::to_value(output)
        .map_err(|error| StepError::in_doubt(format!("the output cannot be stored: {error}")))
}

type Decode<P> = fn(&Value) -> Result<Box<dyn ErasedStep<P>>, serde_json::Error>;

/// The kinds of step that the running binary knows.
pub struct StepKinds<P: ?Sized> {
    kinds: BTreeMap<&'static str, Decode<P>>,
    #[cfg(any(test, feature = "testing"))]
    meddler: Option<crate::testing::meddle::Meddler>,
    saboteur: Option<Arc<dyn Saboteur>>,
}

impl<P: ?Sized + Send + Sync + 'static> StepKinds<P> {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            kinds: BTreeMap::new(),
            saboteur: None,
            #[cfg(any(test, feature = "testing"))]
            meddler: None,
        }
    }

    /// The same kinds, whose calls are meddled with: for tests.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn meddled(self, meddler: crate::testing::meddle::Meddler) -> Self {
        Self { meddler: Some(meddler), ..self }
    }

    /// Adds a kind.
    ///
    /// # Panics
    /// When two kinds have one name: found by the first test that builds the registry.
    #[must_use]
    pub fn with<S: Step<Ports = P>>(mut self) -> Self
    where
        S::Mode: ModeOf<S>,
    {
        let decode: Decode<P> = |params| Ok(Box::new(Erased(S::deserialize(params)?)));
        let before = self.kinds.insert(S::KIND, decode);
        assert!(before.is_none(), "two kinds of step are named {:?}", S::KIND);
        self
    }

    /// The step behind a stored one.
    pub(crate) fn decode(&self, kind: &str, params: &Value) -> Result<Box<dyn ErasedStep<P>>, String> {
        let decode = self.kinds.get(kind).ok_or_else(|| format!("unknown step kind {kind:?}"))?;
        let step = decode(params)
            .map_err(|error| format!("step kind {kind:?} does not understand its parameters: {error}"))?;
        let step = match &self.saboteur {
            Some(saboteur) => Box::new(Sabotaged::new(step, saboteur.clone())),
            None => step,
        };
        #[cfg(any(test, feature = "testing"))]
        if let Some(meddler) = self.meddler.clone() {
            return Ok(Box::new(crate::testing::meddle::Meddled { step, meddler }));
        }
        Ok(step)
    }

    /// Puts a saboteur around every step: for drills only.
    #[must_use]
    pub fn sabotaged(mut self, saboteur: Arc<dyn Saboteur>) -> Self {
        self.saboteur = Some(saboteur);
        self
    }

    /// The names of the kinds.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.kinds.keys().copied()
    }
}

impl<P: ?Sized + Send + Sync + 'static> Default for StepKinds<P> {
    fn default() -> Self {
        Self::new()
    }
}

/// Why an attempt failed, in the class that decides what happens next.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize, Deserialize)]
#[error("{message}")]
pub struct StepError {
    /// Decides between retry, undo and probe.
    pub class: ErrorClass,
    /// What went wrong, with the name or path concerned; never a secret.
    pub message: String,
}

/// Classes of failed attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// May work later: the retry policy decides.
    Retryable,
    /// Will not work: no retry.
    Fatal,
    /// The effect may be there or not: probe before anything else.
    InDoubt,
}

/// Longest message kept, in bytes: errors go into the journal, whose values are bounded.
const MAX_MESSAGE: usize = 2000;

impl StepError {
    /// An error that may pass.
    #[must_use]
    pub fn retryable(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Retryable, message)
    }

    /// An error that stays.
    #[must_use]
    pub fn fatal(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Fatal, message)
    }

    /// An error after which the effect may be there or not.
    #[must_use]
    pub fn in_doubt(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::InDoubt, message)
    }

    fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MAX_MESSAGE {
            let mut end = MAX_MESSAGE;
            while !message.is_char_boundary(end) {
                end -= 1;
            }
            message.truncate(end);
            message.push('…');
        }
        Self { class, message }
    }
}
