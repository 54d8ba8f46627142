//! Submissions: duplicates found, plan made, task durable, driver started; in this order.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::channel::oneshot;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tracing::Instrument as _;

use super::driver::Driver;
use super::flight::Survivors;
use super::inbox::attach;
use super::live::Live;
use super::planning::Origin;
use super::recover::replay;
use super::{Inner, Shared};
use crate::event::{Accepted, Event, Outcome};
use crate::gate::{Gate, Wanted};
use crate::inbox::Received;
use crate::journal::{AppendError, Head, JournalError, keys, record};
use crate::machine::Machine;
use crate::plan::Plan;
use crate::service::{DedupeKey, Submission, SubmitError, Submitted};
use crate::store::{Batch, CommitError, Health};
use crate::task::{Millis, TaskId, TaskView};

/// Most dedupe keys of one submission: an Idempotency-Key, a delivery id, a body's hash.
const MAX_DEDUPE: usize = 8;
/// Longest scope of a dedupe key that is kept readable, in bytes; a longer one is kept by its hash.
const MAX_SCOPE: usize = 128;
/// Scope of the keys under which the task that takes back another is found.
const UNDO_SCOPE: &str = "engine:undo";

/// What stands under a dedupe key.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct Used {
    pub(super) task: TaskId,
    fingerprint: Option<String>,
}

/// A dedupe key that is free for a new task.
struct Stamp {
    row: Vec<u8>,
    /// What stands there of a task that counts no more.
    held: Option<Vec<u8>>,
    fingerprint: Option<String>,
}

/// Room for a task that is being stored; and the key of the step that asks for it, if one does.
struct Room {
    shared: Arc<Shared>,
    child: Option<String>,
}

impl Drop for Room {
    fn drop(&mut self) {
        let watchers = {
            let mut state = self.shared.state();
            state.arriving -= 1;
            let Some(child) = &self.child else { return };
            state.children.remove(child);
            std::mem::take(&mut state.watchers)
        };
        for watcher in watchers {
            // A watcher that is gone does not wait any more.
            let _ = watcher.send(());
        }
    }
}

impl<P: ?Sized + Send + Sync + 'static> Inner<P> {
    /// See [`crate::service::Tasks::submit`].
    pub(super) async fn accept(
        self: &Arc<Self>,
        submission: Submission,
        origin: Origin<'_>,
        received: Option<Received>,
    ) -> Result<Submitted, SubmitError> {
        self.accept_of(submission, origin, received, None).await
    }

    /// The same for a task that a step of `parent` asks for: what somebody has approved with the parent is not asked about again under the
    /// same policy.
    pub(super) async fn accept_of(
        self: &Arc<Self>,
        submission: Submission,
        origin: Origin<'_>,
        received: Option<Received>,
        parent: Option<&Machine>,
    ) -> Result<Submitted, SubmitError> {
        let mut stamps = match self.stamps(&submission.dedupe)? {
            Ok(stamps) => stamps,
            Err(known) => return Ok(Submitted::Duplicate(*known)),
        };
        if let Origin::Undo(machine) = &origin {
            stamps.push(self.undo_stamp(&machine.accepted().task)?);
        }
        let task = TaskId::from_bytes(self.random.id());
        // Before the plan: whatever changes from here on makes it worth another look.
        let (changes, now) = (self.shared.changes(), self.clock.now());
        let plan = self.plan(&submission.workflow, &submission.params, &origin, (&task, now))?;
        if let Some(seen) = &submission.if_plan {
            let now = self.plan_hash(&submission.workflow, &submission.params, &origin)?;
            if *seen != now {
                return Err(SubmitError::PlanChanged { now });
            }
        }
        let approved = |gate: &Gate| parent.is_some_and(|parent| parent.approved_under(&gate.policy));
        let gate = self.gate(&submission.workflow, &submission.params, &plan).filter(|gate| !approved(gate));
        let child = parent.and_then(|_| submission.dedupe.first()).map(|key| key.key.clone());
        let room = self.admit(child)?;
        let accepted = Accepted {
            task: task.clone(),
            workflow: submission.workflow,
            params: submission.params,
            actor: submission.actor,
            correlation_id: submission.correlation_id,
            callback: submission.callback,
            not_before: submission.not_before,
            priority: submission.priority,
            trace: submission.trace,
            undo_of: match &origin {
                Origin::Fresh => None,
                Origin::Undo(machine) => Some(machine.accepted().task.clone()),
            },
            gate,
            plan,
            plan_hash: submission.if_plan,
        };
        let storing = self.clone().store_and_start(accepted, (stamps, received), room, changes, now);
        let stored = match parent {
            // On its own: a step may be cut short between its task's write and the driver, and nobody would do the task.
            Some(_) => self.alone(storing).await?,
            None => storing.await,
        };
        match stored {
            Ok(view) => Ok(Submitted::Created(view)),
            // Somebody else was quicker with one of the keys.
            Err(AppendError::Commit(CommitError::Conflict(_))) => match self.stamps(&submission.dedupe)? {
                Err(known) => Ok(Submitted::Duplicate(*known)),
                Ok(_) => Err(SubmitError::Store("somebody else was quicker; ask again".to_owned())),
            },
            Err(error) => Err(SubmitError::Store(error.to_string())),
        }
    }

    pub(super) fn gate(&self, workflow: &str, params: &Value, plan: &Plan) -> Option<Gate> {
        self.gates.gate(Wanted { workflow, site: plan.rest().site.as_deref(), params })
    }

    fn admit(&self, child: Option<String>) -> Result<Room, SubmitError> {
        match self.journal.store().health() {
            Health::Ready => {}
            Health::Low(why) | Health::Failed(why) => return Err(SubmitError::Unavailable(why)),
        }
        let mut state = self.shared.state();
        if let Some(why) = &state.failed {
            return Err(SubmitError::Unavailable(why.clone()));
        }
        if state.draining {
            return Err(SubmitError::Unavailable(
                "the service is stopping; ask again when it is back".to_owned(),
            ));
        }
        if state.live.len() + state.arriving >= self.limits.open_tasks {
            let most = self.limits.open_tasks;
            return Err(SubmitError::Unavailable(format!(
                "{most} tasks are open, which is the most there may be"
            )));
        }
        state.arriving += 1;
        state.children.extend(child.clone());
        drop(state);
        Ok(Room { shared: self.shared.clone(), child })
    }

    /// Runs a future to its end, also where whoever waits for it is cut short.
    async fn alone<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, SubmitError> {
        let (sender, result) = oneshot::channel();
        self.spawner.spawn(future.map(|result| drop(sender.send(result))).in_current_span().boxed());
        result.await.map_err(|_| SubmitError::Store("it is not known whether it was stored".to_owned()))
    }

    /// Stores a task and gives it its driver.
    async fn store_and_start(
        self: Arc<Self>,
        accepted: Accepted,
        (stamps, received): (Vec<Stamp>, Option<Received>),
        room: Room,
        changes: u64,
        now: Millis,
    ) -> Result<TaskView, AppendError> {
        let mut driver = self.store_task(accepted, stamps, received, now).await?;
        driver.planned_at = Some(changes);
        let view = driver.live.machine().view(self.clock.now());
        self.start(driver);
        drop(room);
        Ok(view)
    }

    async fn store_task(
        self: &Arc<Self>,
        accepted: Accepted,
        stamps: Vec<Stamp>,
        received: Option<Received>,
        now: Millis,
    ) -> Result<Driver<P>, AppendError> {
        let task = accepted.task.clone();
        let mut records = [record(1, 1, now, Event::Accepted(Arc::new(accepted)))];
        let mut batch = Batch::new();
        let hash = self.journal.append(&mut batch, &task, "", &mut records).await?;
        let machine =
            Machine::begin(&records[0]).map_err(|illegal| AppendError::Encode(illegal.to_string()))?;
        let state = machine.state();
        let head = Head::of(&machine, hash.clone(), state).encode()?;
        batch.require_absent(keys::head(&task));
        batch.put(keys::head(&task), head.clone());
        batch.put(keys::open(&task), b"");
        if let Some(site) = &machine.plan().rest().site {
            batch.put(keys::site_task(site, &task), b"");
        }
        for stamp in stamps {
            let used = Used { task: task.clone(), fingerprint: stamp.fingerprint };
            let used = serde_json::to_vec(&used).map_err(|error| AppendError::Encode(error.to_string()))?;
            match stamp.held {
                Some(held) => batch.require_equals(stamp.row.clone(), held),
                None => batch.require_absent(stamp.row.clone()),
            };
            batch.put(stamp.row, used);
        }
        let kept = attach(&mut batch, received, &task);
        self.journal.store().commit(batch).await?;
        if let Some((kind, bytes)) = kept {
            self.inbox.noted(kind, bytes);
        }
        let (live, mailbox, pokes) = Live::new(Arc::new(machine));
        let survivors = Survivors::default();
        Ok(Driver::new(self.clone(), live, (head, hash, state), survivors, mailbox, pokes))
    }

    /// The keys, free for a new task; or the task that has one of them already.
    fn stamps(&self, dedupe: &[DedupeKey]) -> Result<Result<Vec<Stamp>, Box<TaskView>>, SubmitError> {
        if dedupe.len() > MAX_DEDUPE {
            let count = dedupe.len();
            return Err(SubmitError::Refused(format!("{count} dedupe keys, {MAX_DEDUPE} are allowed")));
        }
        let mut stamps = Vec::new();
        for key in dedupe {
            let row = dedupe_row(key);
            let held = self.used(&row)?;
            if let Some((used, _)) = &held {
                if key.fingerprint.is_some() && used.fingerprint != key.fingerprint {
                    return Err(SubmitError::KeyReused(key.key.chars().take(80).collect()));
                }
                let known = self.view(&used.task).map_err(|error| SubmitError::Store(error.to_string()))?;
                if let Some(known) = known {
                    return Ok(Err(Box::new(known)));
                }
            }
            let held = held.map(|(_, bytes)| bytes);
            stamps.push(Stamp { row, held, fingerprint: key.fingerprint.clone() });
        }
        Ok(Ok(stamps))
    }

    /// The task that has a dedupe key.
    pub(super) fn with_key(&self, key: &DedupeKey) -> Result<Option<TaskView>, SubmitError> {
        Ok(self.stamps(std::slice::from_ref(key))?.err().map(|known| *known))
    }

    /// The key of the task that takes back another: free unless such a task goes on or has succeeded.
    fn undo_stamp(&self, task: &TaskId) -> Result<Stamp, SubmitError> {
        let key = DedupeKey { scope: UNDO_SCOPE.to_owned(), key: task.to_string(), fingerprint: None };
        let row = dedupe_row(&key);
        let held = self.used(&row)?;
        if let Some((used, _)) = &held {
            let before = self.load(&used.task).map_err(|error| SubmitError::Store(error.to_string()))?;
            match before.map(|before| before.outcome()) {
                None | Some(Some(Outcome::RolledBack | Outcome::Canceled)) => {}
                Some(Some(Outcome::Succeeded)) => {
                    return Err(SubmitError::Refused(format!("{} has taken it back already", used.task)));
                }
                Some(None) => {
                    return Err(SubmitError::Refused(format!("{} is taking it back already", used.task)));
                }
            }
        }
        Ok(Stamp { row, held: held.map(|(_, bytes)| bytes), fingerprint: None })
    }

    /// What stands under a dedupe key, and its exact bytes.
    fn used(&self, row: &[u8]) -> Result<Option<(Used, Vec<u8>)>, SubmitError> {
        let bytes = self.journal.store().get(row).map_err(|error| SubmitError::Store(error.to_string()))?;
        let Some(bytes) = bytes else { return Ok(None) };
        let used = serde_json::from_slice(&bytes).map_err(|error| SubmitError::Store(error.to_string()))?;
        Ok(Some((used, bytes)))
    }

    /// A task's state, live or from the journal.
    pub(super) fn load(&self, task: &TaskId) -> Result<Option<Arc<Machine>>, JournalError> {
        if let Some(live) = self.live(task) {
            return Ok(Some(live.machine()));
        }
        if self.journal.head(task)?.is_none() {
            return Ok(None);
        }
        let (records, _, _) = self.journal.history(task)?;
        replay(task, &records).map(|machine| Some(Arc::new(machine)))
    }
}

fn dedupe_row(key: &DedupeKey) -> Vec<u8> {
    let sha256 = |text: &str| hex::encode(Sha256::digest(text.as_bytes()));
    let readable = key.scope.len() <= MAX_SCOPE && !key.scope.contains('\0');
    let scope = if readable { key.scope.clone() } else { sha256(&key.scope) };
    keys::dedupe(&scope, &sha256(&key.key))
}
