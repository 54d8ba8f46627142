//! The faults of one life: a store, hosts and a saboteur that count what passes and kill the process at one spot with SIGKILL. They
//! exist only in a process that a drill has started (see `life`); they change nothing that passes.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream, StreamExt as _};
use kedge_drivers::host::{Command, Finished, Host, Output};
use kedge_engine::sabotage::{Attempt, Phase, Saboteur};
use kedge_engine::step::{StepError, StepKinds};
use kedge_engine::store::{Batch, BlobId, CommitError, Health, Pairs, ReadError, Store};
use kedge_workflows::ports::{PortResult, Scope, World};
use serde_json::json;

use super::point::{CommandSide, Failure, Moment, Passed, Side, Spot};
use crate::between::Between;

/// Most that one life remembers of what passed by: some hundred steps and their commands.
const MAX_PASSED: usize = 20_000;

/// The faults.
pub(crate) struct Faults {
    kill: Option<Spot>,
    failures: Vec<Failure>,
    writes: AtomicU64,
    /// What each step does now, and how many commands it has run so far in each phase.
    steps: Mutex<Steps>,
    passed: Mutex<Vec<Passed>>,
    /// Only what belongs to the task counts: not the looks before and after.
    armed: AtomicBool,
}

#[derive(Default)]
struct Steps {
    doing: BTreeMap<String, Phase>,
    commands: BTreeMap<(String, Phase), u64>,
}

impl Faults {
    /// Faults with at most one kill.
    pub(crate) fn new(kill: Option<Spot>, failures: Vec<Failure>) -> Arc<Self> {
        Arc::new(Self {
            kill,
            failures,
            writes: AtomicU64::new(0),
            steps: Mutex::default(),
            passed: Mutex::default(),
            armed: AtomicBool::new(true),
        })
    }

    /// Nothing is counted or broken any more.
    pub(crate) fn disarm(&self) {
        self.armed.store(false, Ordering::SeqCst);
    }

    /// What passed by, in order.
    pub(crate) fn passed(&self) -> Vec<Passed> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn pass(&self, passed: Passed) {
        let mut all = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < MAX_PASSED && !all.contains(&passed) {
            all.push(passed);
        }
    }

    /// The number of the write that begins, unless nothing counts any more.
    fn next_write(&self) -> Option<u64> {
        if !self.armed.load(Ordering::SeqCst) {
            return None;
        }
        let n = self.writes.fetch_add(1, Ordering::SeqCst) + 1;
        self.pass(Passed::Write { n });
        Some(n)
    }

    fn kills_write(&self, n: Option<u64>, at: Moment) -> bool {
        matches!(&self.kill, Some(Spot::Write { n: wanted, moment }) if Some(*wanted) == n && *moment == at)
    }

    fn kill_at_act(&self, attempt: Attempt<'_>, at: Side) {
        if let Some(spot @ Spot::Act { phase, step, side }) = &self.kill
            && (*phase, step.as_str(), *side) == (attempt.phase, attempt.step, at)
        {
            die(spot);
        }
    }

    fn broken(&self, attempt: Attempt<'_>, at: Side) -> Result<(), StepError> {
        let meant = |failure: &&Failure| {
            failure.phase == attempt.phase
                && (failure.step == "*" || failure.step == attempt.step)
                && failure.side == at
                && (failure.lasting || attempt.number == 1)
        };
        match self.failures.iter().find(meant) {
            Some(failure) if failure.lasting => Err(StepError::fatal(format!("drill: {failure}"))),
            Some(failure) => Err(StepError::retryable(format!("drill: {failure}"))),
            None => Ok(()),
        }
    }

    /// The command that begins, unless it is none of a step's.
    fn next_command(&self, scope: &Scope) -> Option<(Phase, String, u64)> {
        if !self.armed.load(Ordering::SeqCst) {
            return None;
        }
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let phase = *steps.doing.get(&scope.step)?;
        let count = steps.commands.entry((scope.step.clone(), phase)).or_default();
        *count += 1;
        Some((phase, scope.step.clone(), *count))
    }

    /// Where in this command the process is killed, if it is.
    fn kill_in_command(&self, command: Option<&(Phase, String, u64)>) -> Option<(CommandSide, Spot)> {
        let (Some(spot @ Spot::Command { phase, step, n, side }), Some(command)) = (&self.kill, command)
        else {
            return None;
        };
        ((phase, step, n) == (&command.0, &command.1, &command.2)).then(|| (*side, spot.clone()))
    }

    fn command_ended(&self, command: Option<(Phase, String, u64)>, began: Instant) {
        if let Some((phase, step, n)) = command {
            let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.pass(Passed::Command { phase, step, n, ms });
        }
    }
}

/// Kills this process: no destructor runs, nothing is flushed, as with a power cut.
fn die(spot: &Spot) -> ! {
    let line = json!({ "line": "dies", "at": spot.to_string() }).to_string();
    let mut out = std::io::stdout().lock();
    // The drill sees from the exit status that the process was killed, too.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    let myself = rustix::process::getpid();
    loop {
        if rustix::process::kill_process(myself, rustix::process::Signal::KILL).is_err() {
            std::process::abort();
        }
    }
}

impl Between for Arc<Faults> {
    fn store(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        Arc::new(FaultStore { store, faults: self.clone() })
    }

    fn host(&self, host: Arc<dyn Host>) -> Arc<dyn Host> {
        Arc::new(FaultHost { host, faults: self.clone() })
    }

    fn kinds(&self, kinds: StepKinds<dyn World>) -> StepKinds<dyn World> {
        kinds.sabotaged(Arc::new(FaultSteps(self.clone())))
    }
}

struct FaultSteps(Arc<Faults>);

impl Saboteur for FaultSteps {
    fn before(&self, attempt: Attempt<'_>) -> Result<(), StepError> {
        let step = attempt.step.to_owned();
        self.0.steps.lock().unwrap_or_else(PoisonError::into_inner).doing.insert(step.clone(), attempt.phase);
        self.0.pass(Passed::Act { phase: attempt.phase, step });
        self.0.kill_at_act(attempt, Side::Before);
        self.0.broken(attempt, Side::Before)
    }

    fn after(&self, attempt: Attempt<'_>, succeeded: bool) -> Result<(), StepError> {
        self.0.kill_at_act(attempt, Side::After);
        if succeeded { self.0.broken(attempt, Side::After) } else { Ok(()) }
    }
}

struct FaultStore {
    store: Arc<dyn Store>,
    faults: Arc<Faults>,
}

impl FaultStore {
    fn around<T: Send + 'static>(
        &self,
        write: impl FnOnce(&dyn Store) -> BoxFuture<'static, T>,
    ) -> BoxFuture<'static, T> {
        let faults = self.faults.clone();
        let n = faults.next_write();
        let kill = move |moment| {
            if let (true, Some(spot)) = (faults.kills_write(n, moment), &faults.kill) {
                die(spot);
            }
        };
        kill(Moment::Before);
        let mut write = write(&*self.store);
        async move {
            // Polled once: the batch is on its way to the disk.
            let written = match (&mut write).now_or_never() {
                Some(written) => written,
                None => {
                    kill(Moment::During);
                    write.await
                }
            };
            kill(Moment::During);
            kill(Moment::After);
            written
        }
        .boxed()
    }
}

impl Store for FaultStore {
    fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<(), CommitError>> {
        self.around(|store| store.commit(batch))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        self.store.get(key)
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Pairs, ReadError> {
        self.store.scan(prefix, after, limit)
    }

    fn scan_back(&self, prefix: &[u8], before: Option<&[u8]>, limit: usize) -> Result<Pairs, ReadError> {
        self.store.scan_back(prefix, before, limit)
    }

    fn put_blob(&self, bytes: Vec<u8>) -> BoxFuture<'static, Result<BlobId, CommitError>> {
        self.around(|store| store.put_blob(bytes))
    }

    fn get_blob(&self, id: &BlobId) -> Result<Option<Vec<u8>>, ReadError> {
        self.store.get_blob(id)
    }

    fn delete_blob(&self, id: &BlobId) -> BoxFuture<'static, Result<(), CommitError>> {
        self.store.delete_blob(id)
    }

    fn census(&self) -> BoxFuture<'static, Result<Vec<BlobId>, CommitError>> {
        self.store.census()
    }

    fn remove_unused(&self, unused: Vec<BlobId>) -> BoxFuture<'static, Result<u64, CommitError>> {
        self.store.remove_unused(unused)
    }

    fn health(&self) -> Health {
        self.store.health()
    }
}

struct FaultHost {
    host: Arc<dyn Host>,
    faults: Arc<Faults>,
}

/// Kills the process after a while, on a thread of its own: whatever the runtime does meanwhile.
fn die_within(ms: u64, spot: Spot) {
    let (alive, deadline) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        // Nobody sends: this is the thread's clock.
        let _ = deadline.recv_timeout(Duration::from_millis(ms));
        drop(alive);
        die(&spot);
    });
}

#[async_trait]
impl Host for FaultHost {
    fn name(&self) -> &str {
        self.host.name()
    }

    async fn run(&self, command: Command) -> PortResult<Finished> {
        let (began, this) = (Instant::now(), self.faults.next_command(&command.scope));
        let kill = self.faults.kill_in_command(this.as_ref());
        if let Some((CommandSide::Within(ms), spot)) = &kill {
            die_within(*ms, spot.clone());
        }
        let finished = self.host.run(command).await;
        if let Some((_, spot)) = kill {
            die(&spot);
        }
        self.faults.command_ended(this, began);
        finished
    }

    async fn stream(&self, command: Command) -> PortResult<Output> {
        let (began, this) = (Instant::now(), self.faults.next_command(&command.scope));
        let kill = self.faults.kill_in_command(this.as_ref());
        if let Some((CommandSide::Within(ms), spot)) = &kill {
            die_within(*ms, spot.clone());
        }
        let inner = self.host.stream(command).await?;
        let end = EndOfStream { faults: self.faults.clone(), this, began, kill: kill.map(|(_, spot)| spot) };
        Ok(watched(inner, end).boxed())
    }

    async fn clear(&self, scope: &Scope) -> PortResult<()> {
        self.host.clear(scope).await
    }
}

struct EndOfStream {
    faults: Arc<Faults>,
    this: Option<(Phase, String, u64)>,
    began: Instant,
    kill: Option<Spot>,
}

/// The stream, and what is to happen when it has been read to its end.
fn watched<T: Send + 'static>(
    inner: impl Stream<Item = T> + Send + 'static,
    end: EndOfStream,
) -> impl Stream<Item = T> + Send + 'static {
    let ending = futures::stream::once(async move {
        if let Some(spot) = &end.kill {
            die(spot);
        }
        end.faults.command_ended(end.this, end.began);
    });
    inner.map(Some).chain(ending.map(|()| None)).filter_map(futures::future::ready)
}
