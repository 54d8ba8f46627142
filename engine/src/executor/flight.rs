//! One attempt of a run, a probe, an undo or a fingerprint: bounded in time, its panics caught, its processes ended with it.
//! Reports what happened; decides nothing.

use std::any::Any;
use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt as _;
use futures::future::{AbortRegistration, Abortable, BoxFuture, Either, select};
use futures::lock::Mutex as AsyncMutex;
use petgraph::graph::NodeIndex;
use serde_json::Value;
use tracing::Instrument as _;

use super::Inner;
use super::live::Live;
use super::subtask::Starter;
use super::tables::SlotHold;
use crate::context::{Cx, RecordWrite, Report};
use crate::machine::Machine;
use crate::plan::StepSpec;
use crate::ports::{Clock, Custody};
use crate::proof::Listing;
use crate::step::{ErasedStep, Probe, StepError};
use crate::store::BlobId;
use crate::task::{Millis, TaskId};

/// Limit of a probe, in milliseconds: probes only look.
const PROBE_LIMIT_MS: u64 = 120_000;
/// Limit of ending the processes of an attempt that was cut short, in milliseconds; the next attempt tries again.
const CLEAR_LIMIT_MS: u64 = 30_000;

/// What is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Flight {
    Run(NodeIndex),
    Probe(NodeIndex),
    Undo(NodeIndex),
    /// `true`: the one after.
    Fingerprint(bool),
    /// Ending what earlier attempts of the task may have left running.
    Clear,
}

/// How a flight ended.
pub(super) struct Landed {
    pub(super) flight: Flight,
    pub(super) attempt: u32,
    pub(super) result: Result<Done, StepError>,
    pub(super) writes: Vec<RecordWrite>,
    /// Cut short, since the task goes back.
    pub(super) interrupted: bool,
}

impl Landed {
    /// A flight that was dropped before it landed: what it has done nobody knows.
    pub(super) fn lost(flight: Flight, attempt: u32) -> Self {
        let result = Err(StepError::in_doubt("the attempt was dropped"));
        Self { flight, attempt, result, writes: Vec::new(), interrupted: false }
    }
}

/// What a flight brought.
pub(super) enum Done {
    Output(Value),
    Probed(Probe<Value>),
    Undone,
    /// A fingerprint, its listing stored.
    Listed {
        digest: String,
        listing: BlobId,
    },
    /// Nothing of earlier attempts runs any more.
    Cleared,
}

/// Which steps of a task may have left processes behind.
#[derive(Default)]
pub(super) struct Survivors {
    /// `None` in it: of any step, since an earlier life may have started them.
    steps: AsyncMutex<BTreeSet<Option<String>>>,
}

impl Survivors {
    /// Of any step: after a start of the process.
    pub(super) fn of_earlier_life() -> Self {
        Self { steps: AsyncMutex::new(BTreeSet::from([None])) }
    }

    /// Whether there may be any; also when somebody is just looking.
    pub(super) fn any(&self) -> bool {
        self.steps.try_lock().is_none_or(|steps| !steps.is_empty())
    }

    async fn add(&self, step: &str) {
        self.steps.lock().await.insert(Some(step.to_owned()));
    }

    /// Ends them all.
    async fn clear(&self, custody: &dyn Custody, task: &TaskId) -> Result<(), StepError> {
        let mut steps = self.steps.lock().await;
        while let Some(step) = steps.first().cloned() {
            custody.clear(task, step.as_deref()).await?;
            steps.remove(&step);
        }
        Ok(())
    }
}

/// Everything an attempt needs, owned.
pub(super) struct Attempt<P: ?Sized> {
    pub(super) inner: Arc<Inner<P>>,
    pub(super) live: Arc<Live>,
    pub(super) machine: Arc<Machine>,
    pub(super) survivors: Arc<Survivors>,
    pub(super) flight: Flight,
    pub(super) attempt: u32,
}

impl<P: ?Sized + Send + Sync + 'static> Attempt<P> {
    fn spec(&self) -> &StepSpec {
        let spec = match self.flight {
            Flight::Run(step) | Flight::Probe(step) | Flight::Undo(step) => {
                Some(self.machine.plan().step(step))
            }
            Flight::Fingerprint(_) | Flight::Clear => self.machine.plan().rest().fingerprint.as_ref(),
        };
        #[expect(
            clippy::expect_used,
            reason = "the machine asks for a fingerprint only where the plan has one, and clearing has no step"
        )]
        spec.expect("the flight has a step")
    }

    /// The flight as a future: never panics, never hangs beyond the step's limit. The slot is given back when it has landed.
    pub(super) fn fly(
        self,
        step: Box<dyn ErasedStep<P>>,
        abort: AbortRegistration,
        slot: Option<SlotHold>,
    ) -> BoxFuture<'static, Landed> {
        let kind = match self.flight {
            Flight::Run(_) => "run",
            Flight::Probe(_) => "probe",
            Flight::Undo(_) => "undo",
            Flight::Fingerprint(_) => "fingerprint",
            Flight::Clear => "clear",
        };
        let step_span = tracing::info_span!("step", name = %self.spec().name);
        let span = tracing::info_span!(parent: &step_span, "attempt", kind, n = self.attempt);
        async move {
            let staged = Mutex::new(Vec::new());
            let (result, interrupted) = self.bounded(&*step, &staged, abort).await;
            match &result {
                Ok(_) => tracing::info!("done"),
                Err(error) => tracing::warn!(class = ?error.class, error = %error.message, "failed"),
            }
            drop(slot);
            let writes = staged.into_inner().unwrap_or_else(PoisonError::into_inner);
            let writes = if result.is_ok() { writes } else { Vec::new() };
            Landed { flight: self.flight, attempt: self.attempt, result, writes, interrupted }
        }
        .instrument(span)
        .boxed()
    }

    /// Ends what earlier attempts of the task may have left running, as a flight of its own.
    pub(super) fn clear(self) -> BoxFuture<'static, Landed> {
        async move {
            let limit = self.inner.clock.sleep_until(self.inner.clock.now().saturating_add(CLEAR_LIMIT_MS));
            let clear = self.survivors.clear(&*self.inner.custody, &self.live.task);
            let result = match select(Box::pin(clear), limit).await {
                Either::Left((result, _)) => result.map(|()| Done::Cleared),
                Either::Right(_) => Err(StepError::retryable("ending the task's processes took too long")),
            };
            Landed {
                flight: self.flight,
                attempt: self.attempt,
                result,
                writes: Vec::new(),
                interrupted: false,
            }
        }
        .boxed()
    }

    async fn bounded(
        &self,
        step: &dyn ErasedStep<P>,
        staged: &Mutex<Vec<RecordWrite>>,
        abort: AbortRegistration,
    ) -> (Result<Done, StepError>, bool) {
        let now = self.inner.clock.now();
        let limit = match self.flight {
            Flight::Run(_) | Flight::Fingerprint(_) => self.spec().run_policy.limit_ms,
            Flight::Undo(_) => self.spec().undo_policy.limit_ms,
            Flight::Probe(_) => PROBE_LIMIT_MS,
            Flight::Clear => CLEAR_LIMIT_MS,
        };
        let work = AssertUnwindSafe(self.work(step, now, staged)).catch_unwind();
        let mut work = Box::pin(Abortable::new(work, abort));
        let end = self.inner.clock.sleep_until(now.saturating_add(limit));
        let mut interrupted = false;
        let mut result = match select(&mut work, end).await {
            Either::Left((Ok(Ok(result)), _)) => result,
            Either::Left((Ok(Err(panic)), _)) => Err(panicked(&*panic)),
            Either::Left((Err(_aborted), _)) => {
                interrupted = true;
                Err(StepError::fatal("interrupted, since the task goes back"))
            }
            Either::Right(((), _)) => Err(StepError::in_doubt(format!(
                "it took longer than its limit of {} s",
                limit.div_ceil(1000)
            ))),
        };
        // Whatever the step still holds is given back here, and may panic in doing so.
        if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(|| drop(work))) {
            result = result.and(Err(panicked(&*panic)));
        }
        // A step that fails may have left something running beside what failed.
        if result.is_err() {
            self.clear_own().await;
        }
        (result, interrupted)
    }

    async fn work(
        &self,
        step: &dyn ErasedStep<P>,
        now: Millis,
        staged: &Mutex<Vec<RecordWrite>>,
    ) -> Result<Done, StepError> {
        // Before anything acts: ends what earlier attempts of this task may have left running.
        self.survivors.clear(&*self.inner.custody, &self.live.task).await?;
        let name = self.spec().name.as_str();
        let (live, logs, own) = (self.live.clone(), self.inner.logs.clone(), name.to_owned());
        let report = Arc::new(move |report: Report| match report {
            Report::Progress(progress) => live.progress(&own, progress),
            Report::Log(line) => logs.append(live.task.as_str(), &own, &line),
        });
        let cx = Cx {
            ports: &*self.inner.ports,
            task: &self.live.task,
            step: name,
            attempt: self.attempt,
            now,
            facts: &*self.inner.facts,
            outputs: self.machine.outputs(),
            staged,
            report,
            subtasks: &Starter { inner: self.inner.clone(), machine: self.machine.clone() },
        };
        match self.flight {
            Flight::Run(_) => step.run(&cx).await.map(Done::Output),
            Flight::Fingerprint(_) => self.store_listing(step.run(&cx).await?).await,
            Flight::Probe(_) => step.probe(&cx).await.map(Done::Probed),
            Flight::Undo(_) => step.undo(&cx).await.map(|()| Done::Undone),
            Flight::Clear => Ok(Done::Cleared),
        }
    }

    async fn store_listing(&self, output: Value) -> Result<Done, StepError> {
        let listing: Listing = serde_json::from_value(output)
            .map_err(|error| StepError::fatal(format!("the fingerprint step gave no listing: {error}")))?;
        let digest = listing.digest();
        let bytes = serde_json::to_vec(&listing).map_err(|error| StepError::fatal(error.to_string()))?;
        let stored = self.inner.journal.store().put_blob(bytes).await;
        let listing =
            stored.map_err(|error| StepError::retryable(format!("the listing cannot be stored: {error}")))?;
        Ok(Done::Listed { digest, listing })
    }

    /// After an attempt that failed or was cut short: ends its processes now, and remembers to look again where that did not work.
    async fn clear_own(&self) {
        let step = self.spec().name.as_str();
        let limit = self.inner.clock.sleep_until(self.inner.clock.now().saturating_add(CLEAR_LIMIT_MS));
        let clear = AssertUnwindSafe(self.inner.custody.clear(&self.live.task, Some(step))).catch_unwind();
        let why = match select(clear, limit).await {
            Either::Left((Ok(Ok(())), _)) => return,
            Either::Left((Ok(Err(error)), _)) => error.message,
            Either::Left((Err(panic), _)) => panicked(&*panic).message,
            Either::Right(_) => "it took too long".to_owned(),
        };
        tracing::warn!(why, "the attempt's processes could not be ended; the next attempt will");
        self.survivors.add(step).await;
    }
}

/// After a task's driver has given up: ends whatever its attempts may have left running, as far as that works now.
pub(super) async fn clear_leftovers(custody: &dyn Custody, clock: &dyn Clock, task: &TaskId) {
    let limit = clock.sleep_until(clock.now().saturating_add(CLEAR_LIMIT_MS));
    match select(custody.clear(task, None), limit).await {
        Either::Left((Ok(()), _)) => {}
        Either::Left((Err(error), _)) => {
            tracing::warn!(error = %error.message, "its processes could not be ended")
        }
        Either::Right(_) => tracing::warn!("ending its processes took too long"),
    }
}

fn panicked(panic: &(dyn Any + Send)) -> StepError {
    StepError::in_doubt(format!("the step panicked: {}", panic_text(panic)))
}

pub(super) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}
