//! The engine: tasks in, events to the journal, steps in flight. Awaits ports and nothing else; decides nothing that
//! [`crate::machine`] decides.

mod archive;
mod begin;
mod commit;
mod driver;
mod estimate;
mod flight;
mod fsck;
mod history;
mod inbox;
mod landing;
mod live;
mod outbox;
mod planning;
mod records;
mod recover;
mod retention;
mod service;
mod submit;
mod subtask;
mod sweep;
mod tables;
mod verbs;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use futures::channel::oneshot;

use crate::gate::Gatekeeper;
use crate::journal::Journal;
use crate::outbox::Composer;
use crate::ports::{Clock, Custody, LogSink, Random, Spawner};
use crate::step::StepKinds;
use crate::store::{ReadError, Store};
use crate::task::{Millis, TaskId};
use crate::workflow::{Facts, Workflow};

pub use fsck::{FsckReport, fsck};
pub use inbox::{Room, StoreInbox};
pub use outbox::StoreOutbox;
pub(crate) use outbox::body_blob;
pub use recover::Recovery;
pub use retention::Retention;
pub use sweep::Sweep;

use history::Followed;
use live::Live;
use tables::Tables;

/// Bounds of the engine, each with its reason.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most unfinished tasks: each costs memory and a place in queues.
    pub open_tasks: usize,
    /// Steps that may use one server's slot at once: dumps and imports fight for the same disk.
    pub per_slot: usize,
    /// Deaths of the process during a step before it counts as failed: a poison step must not become a crash loop.
    pub run_deaths: u32,
    /// Deaths during an undo, or after the pivot, before it counts as stuck: there is no other way out, so more patience.
    pub undo_deaths: u32,
    /// Largest output of a step, in bytes: outputs are facts for later steps, not data.
    pub output: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { open_tasks: 10_000, per_slot: 2, run_deaths: 5, undo_deaths: 25, output: 1024 * 1024 }
    }
}

/// Everything an engine is made of.
pub struct Parts<P: ?Sized> {
    /// Where the journal is.
    pub store: Arc<dyn Store>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Runs the drivers of tasks.
    pub spawner: Arc<dyn Spawner>,
    /// Chance.
    pub random: Arc<dyn Random>,
    /// Step logs.
    pub logs: Arc<dyn LogSink>,
    /// Processes of attempts.
    pub custody: Arc<dyn Custody>,
    /// Callbacks of state changes.
    pub composer: Arc<dyn Composer>,
    /// What plans are built from.
    pub facts: Arc<dyn Facts>,
    /// The kinds of step.
    pub kinds: StepKinds<P>,
    /// The workflows.
    pub workflows: Vec<Box<dyn Workflow>>,
    /// What the steps need from the world.
    pub ports: Arc<P>,
    /// Which tasks need a second person.
    pub gates: Arc<dyn Gatekeeper>,
    /// Bounds.
    pub limits: Limits,
}

/// The engine. Cheap to clone: all clones are one engine.
pub struct Engine<P: ?Sized>(Arc<Inner<P>>);

impl<P: ?Sized> Clone for Engine<P> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Inner<P: ?Sized> {
    journal: Journal,
    outbox: StoreOutbox,
    inbox: StoreInbox,
    clock: Arc<dyn Clock>,
    spawner: Arc<dyn Spawner>,
    random: Arc<dyn Random>,
    logs: Arc<dyn LogSink>,
    custody: Arc<dyn Custody>,
    composer: Arc<dyn Composer>,
    facts: Arc<dyn Facts>,
    kinds: StepKinds<P>,
    workflows: BTreeMap<&'static str, Box<dyn Workflow>>,
    ports: Arc<P>,
    gates: Arc<dyn Gatekeeper>,
    limits: Limits,
    shared: Arc<Shared>,
    followed: Followed,
}

/// What all tasks share while the engine runs.
struct Shared {
    state: Mutex<EngineState>,
    tables: Mutex<Tables>,
    /// How often tasks have changed the registry.
    changes: AtomicU64,
}

#[derive(Default)]
struct EngineState {
    /// Unfinished tasks with a driver of their own.
    live: BTreeMap<TaskId, Arc<Live>>,
    /// Submissions that are being stored: each will be a live task.
    arriving: usize,
    /// Those of them that steps have asked for, by their keys.
    children: BTreeSet<String>,
    /// Tasks that could not be read or replayed: named, and left alone.
    quarantined: BTreeMap<TaskId, String>,
    draining: bool,
    /// Why the engine cannot go on, if it cannot.
    failed: Option<String>,
    /// Told when the engine fails, the last driver ends, or a step's task is stored.
    watchers: Vec<oneshot::Sender<()>>,
}

impl<P: ?Sized + Send + Sync + 'static> Engine<P> {
    /// An engine; nothing runs before [`Engine::recover`].
    ///
    /// # Panics
    /// When two workflows have one name: found by the first test that builds the registry.
    #[must_use]
    pub fn new(parts: Parts<P>) -> Self {
        let mut workflows = BTreeMap::new();
        for workflow in parts.workflows {
            let name = workflow.name();
            assert!(workflows.insert(name, workflow).is_none(), "two workflows are named {name:?}");
        }
        let outbox = StoreOutbox::new(parts.store.clone());
        let inbox = StoreInbox::new(parts.store.clone());
        Self(Arc::new(Inner {
            journal: Journal::new(parts.store),
            outbox,
            inbox,
            clock: parts.clock,
            spawner: parts.spawner,
            random: parts.random,
            logs: parts.logs,
            custody: parts.custody,
            composer: parts.composer,
            facts: parts.facts,
            kinds: parts.kinds,
            workflows,
            ports: parts.ports,
            gates: parts.gates,
            limits: parts.limits,
            shared: Arc::new(Shared::new(parts.limits.per_slot)),
            followed: Followed::default(),
        }))
    }

    /// The queued callbacks.
    #[must_use]
    pub fn outbox(&self) -> StoreOutbox {
        self.0.outbox.clone()
    }

    /// The messages that came in. Somebody has to poll [`StoreInbox::tend`].
    #[must_use]
    pub fn inbox(&self) -> StoreInbox {
        self.0.inbox.clone()
    }

    /// Packs the events of tasks that were accepted before `before` and have ended, at most `limit` of them: how many. A task that cannot
    /// be packed is named in the log and stays as it is.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn archive(&self, before: Millis, limit: usize) -> Result<usize, ReadError> {
        self.0.archive(before, limit).await
    }

    /// Forgets finished tasks that nothing needs any more, at most `limit` of them: how many. Archives them first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn forget(&self, rule: Retention, limit: usize) -> Result<usize, ReadError> {
        self.0.forget(rule, limit).await
    }

    /// Stops starting steps and resolves when none is in flight any more. The journal keeps the rest for the next life.
    pub async fn drain(&self) {
        let lives: Vec<Arc<Live>> = {
            let mut state = self.0.shared.state();
            state.draining = true;
            state.live.values().cloned().collect()
        };
        for live in lives {
            live.poke();
        }
        self.0.until(|state| state.live.is_empty() || state.failed.is_some()).await;
    }

    /// Resolves when the engine cannot go on, with the reason: the process has to end and start anew.
    pub async fn failed(&self) -> String {
        self.0.until(|state| state.failed.is_some()).await;
        self.0.shared.state().failed.clone().unwrap_or_default()
    }

    /// Tasks that could not be read, with the reason.
    #[must_use]
    pub fn quarantined(&self) -> Vec<(TaskId, String)> {
        self.0.shared.state().quarantined.iter().map(|(task, why)| (task.clone(), why.clone())).collect()
    }
}

impl<P: ?Sized + Send + Sync + 'static> Inner<P> {
    fn live(&self, task: &TaskId) -> Option<Arc<Live>> {
        self.shared.state().live.get(task).cloned()
    }

    /// Changes the state and tells the watchers.
    fn change(&self, change: impl FnOnce(&mut EngineState)) {
        let watchers = {
            let mut state = self.shared.state();
            change(&mut state);
            std::mem::take(&mut state.watchers)
        };
        for watcher in watchers {
            // A watcher that is gone does not wait any more.
            let _ = watcher.send(());
        }
    }

    async fn until(&self, holds: impl Fn(&EngineState) -> bool) {
        loop {
            let watch = {
                let mut state = self.shared.state();
                if holds(&state) {
                    return;
                }
                let (sender, watch) = oneshot::channel();
                state.watchers.push(sender);
                watch
            };
            // Dropped unsent only together with the engine; then nothing is left to wait for.
            if watch.await.is_err() {
                return;
            }
        }
    }

    fn fail(&self, why: &str) {
        tracing::error!(why, "the engine cannot go on");
        self.change(|state| {
            state.failed.get_or_insert_with(|| why.to_owned());
        });
    }
}
