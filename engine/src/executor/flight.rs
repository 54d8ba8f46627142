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
use crate::context::{Cx, RecordWrite, Report};
use crate::machine::Machine;
use crate::plan::StepSpec;
use crate::proof::Listing;
use crate::step::{ErasedStep, ErrorClass, Probe, StepError};
use crate::store::BlobId;
use crate::task::Millis;

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
}

/// How a flight ended.
pub(super) struct Landed {
    pub(super) flight: Flight,
    pub(super) attempt: u32,
    pub(super) result: Result<Done, StepError>,
    pub(super) writes: Vec<RecordWrite>,
    pub(super) slot: Option<String>,
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
}

/// Everything an attempt needs, owned.
pub(super) struct Attempt<P: ?Sized> {
    pub(super) inner: Arc<Inner<P>>,
    pub(super) live: Arc<Live>,
    pub(super) machine: Arc<Machine>,
    pub(super) survivors: Arc<Survivors>,
    pub(super) step: Box<dyn ErasedStep<P>>,
    pub(super) flight: Flight,
    pub(super) attempt: u32,
    pub(super) slot: Option<String>,
}

impl<P: ?Sized + Send + Sync + 'static> Attempt<P> {
    fn spec(&self) -> &StepSpec {
        match self.flight {
            Flight::Run(step) | Flight::Probe(step) | Flight::Undo(step) => self.machine.plan().step(step),
            Flight::Fingerprint(_) =>
            {
                #[expect(
                    clippy::expect_used,
                    reason = "the machine asks for a fingerprint only where the plan has one"
                )]
                self.machine.plan().rest().fingerprint.as_ref().expect("the plan has a fingerprint")
            }
        }
    }

    /// The flight as a future: never panics, never hangs beyond the step's limit.
    pub(super) fn fly(self, abort: AbortRegistration) -> BoxFuture<'static, Landed> {
        let spec = self.spec();
        let kind = match self.flight {
            Flight::Run(_) => "run",
            Flight::Probe(_) => "probe",
            Flight::Undo(_) => "undo",
            Flight::Fingerprint(_) => "fingerprint",
        };
        let step_span = tracing::info_span!("step", name = %spec.name);
        let span = tracing::info_span!(parent: &step_span, "attempt", kind, n = self.attempt);
        async move {
            let staged = Mutex::new(Vec::new());
            let result = self.bounded(&staged, abort).await;
            match &result {
                Ok(_) => tracing::info!("done"),
                Err(error) => tracing::warn!(class = ?error.class, error = %error.message, "failed"),
            }
            let writes = staged.into_inner().unwrap_or_else(PoisonError::into_inner);
            let writes = if result.is_ok() { writes } else { Vec::new() };
            Landed { flight: self.flight, attempt: self.attempt, result, writes, slot: self.slot }
        }
        .instrument(span)
        .boxed()
    }

    async fn bounded(
        &self,
        staged: &Mutex<Vec<RecordWrite>>,
        abort: AbortRegistration,
    ) -> Result<Done, StepError> {
        let now = self.inner.clock.now();
        let limit = match self.flight {
            Flight::Run(_) | Flight::Fingerprint(_) => self.spec().run_policy.limit_ms,
            Flight::Undo(_) => self.spec().undo_policy.limit_ms,
            Flight::Probe(_) => PROBE_LIMIT_MS,
        };
        let work = AssertUnwindSafe(self.work(now, staged)).catch_unwind();
        let work = Abortable::new(work, abort);
        let end = self.inner.clock.sleep_until(now.saturating_add(limit));
        let (result, cut_short) = match select(Box::pin(work), end).await {
            Either::Left((Ok(Ok(result)), _)) => {
                let lost = matches!(&result, Err(error) if error.class == ErrorClass::InDoubt);
                (result, lost)
            }
            Either::Left((Ok(Err(panic)), _)) => {
                (Err(StepError::in_doubt(format!("the step panicked: {}", panic_text(&*panic)))), true)
            }
            Either::Left((Err(_aborted), _)) => {
                (Err(StepError::fatal("interrupted, since the task goes back")), true)
            }
            Either::Right(((), _)) => (
                Err(StepError::in_doubt(format!("it took longer than its limit of {} s", limit / 1000))),
                true,
            ),
        };
        if cut_short {
            self.clear_own().await;
        }
        result
    }

    async fn work(&self, now: Millis, staged: &Mutex<Vec<RecordWrite>>) -> Result<Done, StepError> {
        self.clear_survivors().await?;
        let step = self.spec().name.as_str();
        let (live, logs, name) = (self.live.clone(), self.inner.logs.clone(), step.to_owned());
        let report = Arc::new(move |report: Report| match report {
            Report::Progress(progress) => live.progress(&name, progress),
            Report::Log(line) => logs.append(live.task.as_str(), &name, &line),
        });
        let cx = Cx {
            ports: &*self.inner.ports,
            task: &self.live.task,
            step,
            attempt: self.attempt,
            now,
            outputs: self.machine.outputs(),
            staged,
            report,
        };
        match self.flight {
            Flight::Run(_) => self.step.run(&cx).await.map(Done::Output),
            Flight::Fingerprint(_) => self.store_listing(self.step.run(&cx).await?).await,
            Flight::Probe(_) => self.step.probe(&cx).await.map(Done::Probed),
            Flight::Undo(_) => self.step.undo(&cx).await.map(|()| Done::Undone),
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

    /// Before anything acts: ends what earlier attempts of this task may have left running.
    async fn clear_survivors(&self) -> Result<(), StepError> {
        let mut steps = self.survivors.steps.lock().await;
        while let Some(step) = steps.first().cloned() {
            self.inner.custody.clear(&self.live.task, step.as_deref()).await?;
            steps.remove(&step);
        }
        Ok(())
    }

    /// After an attempt was cut short: ends its processes now, and remembers to look again where that did not work.
    async fn clear_own(&self) {
        let step = self.spec().name.as_str();
        let limit = self.inner.clock.sleep_until(self.inner.clock.now().saturating_add(CLEAR_LIMIT_MS));
        let cleared = select(self.inner.custody.clear(&self.live.task, Some(step)), limit).await;
        match cleared {
            Either::Left((Ok(()), _)) => {}
            Either::Left((Err(error), _)) => {
                tracing::warn!(error = %error.message, "the attempt's processes could not be ended; the next attempt will");
                self.survivors.steps.lock().await.insert(Some(step.to_owned()));
            }
            Either::Right(_) => {
                tracing::warn!("ending the attempt's processes took too long; the next attempt will");
                self.survivors.steps.lock().await.insert(Some(step.to_owned()));
            }
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}
