//! An independent judge: reads every durable batch and holds it to the guarantees, without using the machine that is under test.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use kedge_engine::event::{Accepted, Event, FingerprintPhase, Outcome, Then, Verdict};
use kedge_engine::gate::Before;
use kedge_engine::journal::{self, Journal, Record, keys};
use kedge_engine::plan::{Class, Doors, Plan, UndoSpec};
use kedge_engine::retry::Policy;
use kedge_engine::service::ResolveVerb;
use kedge_engine::step::ErrorClass;
use kedge_engine::store::{Batch, BlobId, CommitError, Health, Pairs, ReadError, Store, Write};
use kedge_engine::task::{Actor, Millis, TaskId};
use kedge_engine::testing::memory_store::MemoryStore;
use kedge_engine::testing::runtime::Runtime;

use crate::story;
use crate::world::Kind;

/// What is durable, as far as the guarantees need it.
#[derive(Default)]
pub struct Watch(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    tasks: BTreeMap<TaskId, Task>,
    /// Lock rows: resource, then holders and whether they share.
    locks: BTreeMap<String, BTreeMap<TaskId, bool>>,
    /// Claimed records: given once.
    claims: BTreeMap<Vec<u8>, Vec<u8>>,
    broken: Vec<String>,
    events: u64,
    /// Tasks that have ended, in that order.
    ends: Vec<TaskId>,
}

struct Task {
    records: Arc<Vec<Record>>,
    /// Their stored bytes.
    stored: Vec<Vec<u8>>,
    accepted: Arc<Accepted>,
    steps: BTreeMap<String, Step>,
    sequence: u64,
    epoch: u64,
    granted: bool,
    proven: bool,
    printing: Option<u32>,
    turned: bool,
    /// Until when a second person may answer, once asked; and whether they said yes.
    asked: Option<Millis>,
    approved: bool,
    ended: Option<Outcome>,
}

#[derive(Clone, Debug, Default)]
struct Step {
    attempt: u32,
    undo: u32,
    running: bool,
    doubt: bool,
    done: bool,
    dirty: bool,
    redo: bool,
    undoing: bool,
    abandoned: bool,
    /// How often the process died during its run, before the pivot; and whether that was too often.
    deaths: u32,
    dead: bool,
    runs: Row,
    probes: Row,
    undos: Row,
}

/// Tries in a row, since the last success or word of a person.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    failed: u32,
    began: Option<Millis>,
}

impl Row {
    fn begins(&mut self, at: Millis) {
        self.began.get_or_insert(at);
    }

    /// A try fails; why what follows is not what the policy says, if it is not.
    fn fails(&mut self, policy: &Policy, class: ErrorClass, then: Then, at: Millis) -> Option<String> {
        self.failed += 1;
        let began = self.began.unwrap_or(at);
        let delay = policy.first_ms.saturating_mul(1 << (self.failed - 1).min(20)).min(policy.cap_ms);
        let over = class == ErrorClass::Fatal
            || self.failed >= policy.attempts
            || at.saturating_sub(began).saturating_add(delay) > policy.budget_ms;
        let sure = class == ErrorClass::Fatal
            || self.failed >= policy.attempts
            || at.saturating_sub(began) > policy.budget_ms;
        match then {
            Then::GiveUp if !over => {
                Some(format!("given up after {self:?}, though {policy:?} has not ended"))
            }
            Then::Retry { .. } | Then::Probe { .. } if sure => {
                Some(format!("not given up after {self:?}, though {policy:?} has ended"))
            }
            Then::GiveUp | Then::Retry { .. } | Then::Probe { .. } => None,
        }
    }
}

impl Watch {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn broken(&self) -> Vec<String> {
        self.seen().broken.clone()
    }

    pub fn events(&self) -> u64 {
        self.seen().events
    }

    /// The durable records of a task.
    pub fn records(&self, task: &TaskId) -> Arc<Vec<Record>> {
        self.seen().tasks[task].records.clone()
    }

    /// Whether a task has ended.
    pub fn ended(&self, task: &TaskId) -> bool {
        self.seen().tasks.get(task).is_some_and(|task| task.ended.is_some())
    }

    /// Tasks that have ended, in that order.
    pub fn ends(&self) -> Vec<TaskId> {
        self.seen().ends.clone()
    }

    /// Whether a call of a step may act now: its start is durable, and nothing newer is.
    pub fn may_act(&self, task: &TaskId, step: &str, attempt: u32, kind: Kind) -> Result<(), String> {
        let seen = self.seen();
        let task_id = task;
        let task = seen.tasks.get(task).ok_or("its task is not durable")?;
        if task.ended.is_some() {
            return Err("its task has ended".to_owned());
        }
        for lock in &task.accepted.plan.rest().locks {
            let held = seen.locks.get(&lock.resource).is_some_and(|holders| holders.contains_key(task_id));
            if !held && kind != Kind::Probe {
                return Err(format!("the lock on {} is not its task's", lock.resource));
            }
        }
        if kind == Kind::Print {
            return if task.printing == Some(attempt) {
                Ok(())
            } else {
                Err("it is not journaled".to_owned())
            };
        }
        let step = task.steps.get(step).ok_or("it is no step of the plan")?;
        let fits = match kind {
            Kind::Run => step.running && step.attempt == attempt,
            Kind::Undo => step.undoing && step.undo == attempt,
            Kind::Probe => step.doubt && step.attempt == attempt,
            Kind::Print => false,
        };
        if fits { Ok(()) } else { Err(format!("the journal says {step:?}")) }
    }

    /// Forgets what it knew and reads the journal anew, as it is after a crash.
    pub fn reread(&self, store: &MemoryStore) {
        let mut old = std::mem::take(&mut *self.seen());
        let mut fresh = Seen::default();
        for (key, _) in store.scan(keys::HEADS, None, usize::MAX).unwrap() {
            // A head without events belongs to a test that damages them.
            let Ok(task) = TaskId::try_from(String::from_utf8_lossy(&key[2..]).into_owned()) else {
                continue;
            };
            let mut known = old
                .tasks
                .remove(&task)
                .map(|known| known.stored.into_iter().zip(Arc::unwrap_or_clone(known.records)));
            for (key, value) in store.scan(&keys::events(&task), None, usize::MAX).unwrap() {
                // Read again only where it is not what was there before.
                let same = known.as_mut().and_then(Iterator::next).filter(|(stored, _)| *stored == value);
                let sequence = u64::from_be_bytes(key[key.len() - 8..].try_into().unwrap());
                let record =
                    same.map(|(_, record)| record).or_else(|| decode(store, &task, sequence, &value));
                let Some(record) = record else { break };
                fresh.fold(&task, record, value, None);
            }
        }
        for (key, value) in store.scan(keys::LOCKS, None, usize::MAX).unwrap() {
            fresh.lock(&key, Some(&value));
        }
        fresh.claims = store.scan(&keys::records("slot"), None, usize::MAX).unwrap().into_iter().collect();
        old.broken.append(&mut fresh.broken);
        (fresh.broken, fresh.events) = (old.broken, old.events);
        let new: Vec<TaskId> = fresh.ends.into_iter().filter(|task| !old.ends.contains(task)).collect();
        fresh.ends = old.ends.into_iter().chain(new).collect();
        *self.seen() = fresh;
    }

    /// A batch is durable now.
    fn committed(&self, store: &MemoryStore, batch: &Batch) {
        let mut seen = self.seen();
        for write in &batch.writes {
            match write {
                Write::Put(key, value) if key.starts_with(keys::LOCKS) => seen.lock(key, Some(value)),
                Write::Delete(key) if key.starts_with(keys::LOCKS) => seen.lock(key, None),
                Write::Put(key, value) if key.starts_with(&keys::records("slot")) => {
                    let before = seen.claims.insert(key.clone(), value.clone());
                    if before.is_some_and(|before| before != *value) {
                        let key = String::from_utf8_lossy(key).into_owned();
                        seen.broken.push(format!("{key} is claimed twice"));
                    }
                }
                Write::Put(..) | Write::Delete(_) => {}
            }
        }
        for write in &batch.writes {
            let Write::Put(key, value) = write else { continue };
            if key.starts_with(b"e/") {
                let task = String::from_utf8_lossy(&key[2..2 + 37]).into_owned();
                let task = TaskId::try_from(task).unwrap();
                seen.events += 1;
                let sequence = u64::from_be_bytes(key[key.len() - 8..].try_into().unwrap());
                match decode(store, &task, sequence, value) {
                    Some(record) => seen.fold(&task, record, value.clone(), Some(batch)),
                    None => seen.broken.push(format!("{task} has a record that does not read")),
                }
            }
        }
    }
}

fn decode(store: &MemoryStore, task: &TaskId, sequence: u64, value: &[u8]) -> Option<Record> {
    if value.starts_with(b"{\"v\"") {
        return journal::decode(value).ok();
    }
    let journal = Journal::new(Arc::new(store.clone()));
    journal.records(task, sequence - 1, 1).ok()?.pop()
}

impl Seen {
    fn lock(&mut self, key: &[u8], value: Option<&[u8]>) {
        let (resource, task) = keys::lock_parts(key).unwrap();
        let holders = self.locks.entry(resource.clone()).or_default();
        match value {
            Some(value) => {
                let shared = value == b"shared";
                let alone = holders.iter().all(|(holder, others)| *holder == task || (*others && shared));
                if !alone {
                    self.broken.push(format!("{resource} is locked by {task} beside {holders:?}"));
                }
                holders.insert(task, shared);
            }
            None => {
                holders.remove(&task);
            }
        }
    }

    fn fold(&mut self, id: &TaskId, record: Record, stored: Vec<u8>, batch: Option<&Batch>) {
        if batch.is_some() {
            story::tell(|| story::journaled(id, &record));
        }
        if let Event::Accepted(accepted) = &record.event {
            let accepted = accepted.clone();
            self.tasks.insert(id.clone(), Task::new(accepted, record, stored));
            return;
        }
        let Some(task) = self.tasks.get_mut(id) else {
            self.broken.push(format!("{id} begins with {}", record.event.kind()));
            return;
        };
        let mut broken = task.fold(&record);
        if task.ended.is_some() {
            self.ends.push(id.clone());
        }
        if let (Event::Finished { .. }, Some(batch)) = (&record.event, batch) {
            broken.extend(end_is_whole(id, task, batch));
        }
        self.broken.extend(broken.into_iter().map(|what| format!("{id} {}: {what}", record.sequence)));
        Arc::make_mut(&mut task.records).push(record);
        task.stored.push(stored);
    }
}

/// G6, G7: the end, its callbacks, the open mark and the locks are one write.
fn end_is_whole(id: &TaskId, task: &Task, batch: &Batch) -> Vec<String> {
    let mut broken = Vec::new();
    let deletes: BTreeSet<&[u8]> = batch
        .writes
        .iter()
        .filter_map(|write| match write {
            Write::Delete(key) => Some(key.as_slice()),
            Write::Put(..) => None,
        })
        .collect();
    if !deletes.contains(keys::open(id).as_slice()) {
        broken.push("the end leaves the open mark".to_owned());
    }
    for lock in &task.accepted.plan.rest().locks {
        if task.granted && !deletes.contains(keys::lock(&lock.resource, id).as_slice()) {
            broken.push(format!("the end leaves the lock on {}", lock.resource));
        }
    }
    let puts = |prefix: &[u8]| {
        batch.writes.iter().any(|write| matches!(write, Write::Put(key, _) if key.starts_with(prefix)))
    };
    if !puts(keys::CALLBACKS) || !puts(keys::DUE) {
        broken.push("the end has no callback".to_owned());
    }
    broken
}

impl Task {
    fn new(accepted: Arc<Accepted>, first: Record, stored: Vec<u8>) -> Self {
        let plan = &accepted.plan;
        Self {
            steps: plan.steps().map(|(_, spec)| (spec.name.clone(), Step::default())).collect(),
            sequence: 1,
            epoch: first.epoch,
            records: Arc::new(vec![first]),
            stored: vec![stored],
            granted: plan.rest().locks.is_empty(),
            proven: plan.rest().fingerprint.is_none(),
            printing: None,
            turned: false,
            asked: None,
            approved: accepted.gate.is_none(),
            ended: None,
            accepted,
        }
    }

    fn spec(&self, step: &str) -> (Class, bool, Option<String>) {
        let spec = self.accepted.plan.step(self.accepted.plan.find(step).unwrap());
        let own = spec.class == Class::Compensable && matches!(spec.undo, UndoSpec::Own { .. });
        (spec.class, own, spec.scope.clone())
    }

    fn committed(&self, scope: Option<&str>) -> bool {
        self.accepted
            .plan
            .pivot(scope)
            .is_some_and(|pivot| self.steps[&self.accepted.plan.step(pivot).name].done)
    }

    fn neighbours(&self, step: &str, after: bool) -> Vec<String> {
        let index = self.accepted.plan.find(step).unwrap();
        let name = |index| self.accepted.plan.step(index).name.clone();
        if after {
            self.accepted.plan.after(index).map(name).collect()
        } else {
            self.accepted.plan.before(index).map(name).collect()
        }
    }

    fn fold(&mut self, record: &Record) -> Vec<String> {
        let mut broken = Vec::new();
        if record.sequence != self.sequence + 1 {
            broken.push(format!("it follows {}", self.sequence));
        }
        self.sequence = record.sequence;
        if self.ended.is_some() {
            broken.push("something after the end".to_owned());
        }
        if !matches!(record.event, Event::Recovered { .. }) && record.epoch != self.epoch {
            broken.push(format!("an event of epoch {} in epoch {}", record.epoch, self.epoch));
        }
        match &record.event {
            Event::Accepted(_) => broken.push("accepted twice".to_owned()),
            Event::Recovered { epoch, run_deaths, .. } => {
                if *epoch != self.epoch + 1 {
                    broken.push("the epoch jumps".to_owned());
                }
                self.epoch = *epoch;
                self.recovered(*run_deaths, record.at);
            }
            Event::Planned { plan } => broken.extend(self.planned(plan)),
            Event::LocksGranted => {
                if !self.approved && self.gate() == Some(Before::Start) {
                    broken.push("locks before an approval".to_owned());
                }
                self.granted = true;
            }
            Event::ApprovalAsked { .. }
            | Event::Approved { .. }
            | Event::ApprovalRefused { .. }
            | Event::ApprovalExpired => broken.extend(self.fold_approval(record)),
            Event::FingerprintStarted { phase, attempt } => {
                self.printing = Some(*attempt);
                if *phase == FingerprintPhase::After && self.left().is_some() {
                    broken.push(format!("the last fingerprint begins before {:?} is undone", self.left()));
                }
            }
            Event::FingerprintTaken { phase, .. } => {
                self.printing = None;
                self.proven |= *phase == FingerprintPhase::Before;
            }
            Event::FingerprintFailed { phase, then, .. } => {
                self.printing = None;
                self.turned |= *phase == FingerprintPhase::Before && *then == Then::GiveUp;
            }
            Event::CancelRequested { .. } => {
                let pivot =
                    self.accepted.plan.pivot(None).map(|pivot| self.accepted.plan.step(pivot).name.clone());
                if pivot.is_some_and(|pivot| self.steps[&pivot].running || self.steps[&pivot].done) {
                    broken.push("canceled after the pivot began".to_owned());
                }
                self.turned = true;
            }
            Event::Finished { outcome, .. } => broken.extend(self.end(*outcome)),
            Event::AttemptStarted { .. }
            | Event::AttemptSucceeded { .. }
            | Event::AttemptFailed { .. }
            | Event::Probed { .. }
            | Event::ProbeFailed { .. }
            | Event::UndoStarted { .. }
            | Event::UndoSucceeded { .. }
            | Event::UndoFailed { .. }
            | Event::Parked { .. }
            | Event::Resolved { .. } => {
                broken.extend(self.patience(&record.event, record.at));
                broken.extend(self.fold_step(&record.event));
            }
        }
        broken
    }

    /// Another plan: as long as nothing has begun, and nobody has seen and wanted the first one.
    fn planned(&mut self, plan: &Plan) -> Option<String> {
        let seen = self.accepted.gate.is_some() || self.accepted.plan_hash.is_some();
        let begun =
            self.granted || self.printing.is_some() || self.steps.values().any(|step| step.attempt > 0);
        if seen || begun || self.turned || self.accepted.undo_of.is_some() {
            return Some("planned anew too late".to_owned());
        }
        self.accepted = Arc::new(Accepted { plan: plan.clone(), ..(*self.accepted).clone() });
        self.steps = plan.steps().map(|(_, spec)| (spec.name.clone(), Step::default())).collect();
        self.granted = plan.rest().locks.is_empty();
        self.proven = plan.rest().fingerprint.is_none();
        None
    }

    /// A new life: what was running is in doubt, and has killed the process once more (G8).
    fn recovered(&mut self, run_deaths: u32, at: Millis) {
        self.printing = None;
        let accepted = self.accepted.clone();
        let plan = &accepted.plan;
        let forward = !self.turned && !self.committed(None);
        for (name, step) in &mut self.steps {
            let class = plan.step(plan.find(name).unwrap()).class;
            if step.running {
                step.probes = Row { failed: 0, began: Some(at) };
                step.deaths += 1;
                step.dead |= step.deaths > run_deaths && forward && class != Class::Pivot;
            }
            step.doubt |= step.running && class != Class::Query;
            step.running = false;
            step.undoing = false;
        }
    }

    /// Whether what follows a failure is what the policy says. To be asked before the event is folded in.
    fn patience(&mut self, event: &Event, at: Millis) -> Option<String> {
        let (Event::AttemptStarted { step, .. }
        | Event::AttemptSucceeded { step, .. }
        | Event::AttemptFailed { step, .. }
        | Event::Probed { step, .. }
        | Event::ProbeFailed { step, .. }
        | Event::UndoStarted { step, .. }
        | Event::UndoSucceeded { step, .. }
        | Event::UndoFailed { step, .. }
        | Event::Resolved { step, .. }) = event
        else {
            return None;
        };
        let accepted = self.accepted.clone();
        let plan = &accepted.plan;
        let spec = plan.step(plan.find(step)?);
        let back = self.turned && !self.committed(None);
        let watched = self.steps.get_mut(step)?;
        match event {
            Event::AttemptStarted { .. } => watched.runs.begins(at),
            Event::AttemptSucceeded { .. } => {
                (watched.runs, watched.probes) = (Row::default(), Row::default());
                watched.deaths = 0;
            }
            Event::AttemptFailed { error, then, .. } => {
                watched.probes = Row { failed: 0, began: Some(at) };
                let undecided = spec.class == Class::Pivot && error.class == ErrorClass::InDoubt;
                let broken = watched.runs.fails(&spec.run_policy, error.class, *then, at);
                // Going back it is not tried again; a pivot in doubt is never given up.
                return broken.filter(|_| !back && !undecided);
            }
            Event::Probed { .. } => watched.probes = Row::default(),
            Event::ProbeFailed { then, .. } => {
                return watched.probes.fails(&Policy::PERSISTENT, ErrorClass::Retryable, *then, at);
            }
            Event::UndoStarted { .. } => watched.undos.begins(at),
            Event::UndoSucceeded { .. } => watched.undos = Row::default(),
            Event::UndoFailed { error, then, .. } => {
                return watched.undos.fails(&spec.undo_policy, error.class, *then, at);
            }
            _ => {
                (watched.runs, watched.undos) = (Row::default(), Row::default());
                (watched.deaths, watched.dead) = (0, false);
                watched.probes = Row { failed: 0, began: Some(at) };
            }
        }
        None
    }

    #[expect(clippy::too_many_lines, reason = "one arm an event: apart they would hide that none is missing")]
    fn fold_step(&mut self, event: &Event) -> Option<String> {
        match event {
            Event::AttemptStarted { step, attempt } => {
                let broken = self.may_start(step, *attempt);
                let step = self.steps.get_mut(step)?;
                step.attempt = *attempt;
                (step.running, step.dirty, step.doubt, step.done) = (true, true, false, false);
                broken
            }
            Event::AttemptSucceeded { step, attempt, adopted, .. } => {
                let step = self.steps.get_mut(step)?;
                let fits = step.attempt == *attempt && if *adopted { step.doubt } else { step.running };
                (step.running, step.doubt, step.done) = (false, false, true);
                (!fits).then(|| format!("a success of attempt {attempt} that was not in flight"))
            }
            Event::AttemptFailed { step: name, attempt, error, then } => {
                let committed = self.committed(None);
                let class = self.spec(name).0;
                let step = self.steps.get_mut(name)?;
                let fits = step.attempt == *attempt && step.running;
                step.running = false;
                step.doubt = match then {
                    Then::Probe { .. } => class != Class::Query,
                    Then::Retry { .. } => false,
                    // Stuck: before it is tried again it has to be probed.
                    Then::GiveUp => {
                        error.class == ErrorClass::InDoubt && (committed || class == Class::Pivot)
                    }
                };
                self.turned |= *then == Then::GiveUp && !committed && !step.doubt;
                (!fits).then(|| format!("a failure of attempt {attempt} that was not in flight"))
            }
            Event::Probed { step: name, verdict } => {
                let (turned, own) = (self.turned, self.spec(name).1);
                let step = self.steps.get_mut(name)?;
                let fits = step.doubt;
                step.doubt = matches!(verdict, Verdict::Unknown { .. });
                step.dirty &= *verdict != Verdict::NotApplied;
                step.redo = matches!(verdict, Verdict::Partial { .. }) && own && !turned;
                (!fits).then(|| "a probe of a step that is not in doubt".to_owned())
            }
            Event::ProbeFailed { step, .. } => {
                (!self.steps[step].doubt).then(|| "a probe of a step that is not in doubt".to_owned())
            }
            Event::UndoStarted { step: name, attempt } => {
                let broken = self.may_undo(name, *attempt);
                let step = self.steps.get_mut(name)?;
                self.turned |= !step.redo;
                step.undo = *attempt;
                (step.undoing, step.doubt) = (true, false);
                broken
            }
            Event::UndoSucceeded { step, attempt } => {
                let step = self.steps.get_mut(step)?;
                let fits = step.undoing && step.undo == *attempt;
                (step.undoing, step.dirty, step.done, step.redo) = (false, false, false, false);
                (!fits).then(|| format!("undo {attempt} was not in flight"))
            }
            Event::UndoFailed { step, attempt, .. } => {
                let step = self.steps.get_mut(step)?;
                let fits = step.undoing && step.undo == *attempt;
                step.undoing = false;
                (!fits).then(|| format!("undo {attempt} was not in flight"))
            }
            Event::Resolved { step: name, verb, .. } => {
                let committed = self.committed(None);
                let step = self.steps.get_mut(name)?;
                match verb {
                    ResolveVerb::Retry => {}
                    ResolveVerb::MarkUndone if committed => (step.done, step.doubt) = (true, false),
                    ResolveVerb::MarkUndone => {
                        let redo = step.redo;
                        (step.dirty, step.doubt, step.redo) = (false, false, false);
                        self.turned |= !redo;
                    }
                    ResolveVerb::Abandon => {
                        (step.abandoned, step.doubt) = (true, false);
                        self.turned |= !committed;
                    }
                }
                None
            }
            _ => None,
        }
    }

    /// G11: who is asked, and who may answer.
    fn fold_approval(&mut self, record: &Record) -> Option<String> {
        match &record.event {
            Event::ApprovalAsked { until } => {
                let again = self.asked.replace(*until).is_some();
                (again || self.turned || self.gate().is_none())
                    .then(|| "an approval is asked for out of place".to_owned())
            }
            Event::Approved { actor, .. } => {
                let broken = self.may_approve(actor, record.at);
                self.approved = true;
                broken
            }
            event => {
                let over = self.asked.is_some_and(|until| until <= record.at);
                let expired = matches!(event, Event::ApprovalExpired);
                let out_of_place = self.asked.is_none() || self.approved || self.turned || expired != over;
                self.turned = true;
                out_of_place.then(|| "an approval is given up out of place".to_owned())
            }
        }
    }

    /// Where the task waits for a second person, by its plan.
    fn gate(&self) -> Option<Before> {
        let plan = &self.accepted.plan;
        let before = self.accepted.gate.as_ref()?.before;
        let closes = plan.steps().any(|(_, spec)| spec.doors == Some(Doors::Close));
        let there = match before {
            Before::Start => true,
            Before::Close => closes,
            Before::Pivot => plan.pivot(None).is_some(),
        };
        Some(if there { before } else { Before::Start })
    }

    /// Somebody else, in time, and one of those who are asked.
    fn may_approve(&self, actor: &Actor, at: Millis) -> Option<String> {
        let name = |actor: &Actor| actor.name.split(':').next_back().unwrap_or_default().to_owned();
        let gate = self.accepted.gate.as_ref()?;
        let may = gate.approvers.is_empty() || gate.approvers.contains(&name(actor));
        let fits = may && name(actor) != name(&self.accepted.actor) && !self.turned && !self.approved;
        (!fits || self.asked.is_none_or(|until| at >= until))
            .then(|| format!("approved by {} at {at}", actor.name))
    }

    /// G1, G2, G5, G8: what an attempt needs to begin.
    fn may_start(&self, name: &str, attempt: u32) -> Option<String> {
        let step = &self.steps[name];
        let (class, _, scope) = self.spec(name);
        let waits = self.neighbours(name, false);
        let outlives = class == Class::Retriable && scope.is_some() && self.committed(scope.as_deref());
        if step.running || step.undoing || step.doubt || step.done || step.redo || attempt != step.attempt + 1
        {
            Some(format!("{name} starts while {step:?}"))
        } else if step.dead {
            Some(format!("{name} starts though the process died of it {} times", step.deaths))
        } else if let Some(before) =
            waits.iter().find(|before| !self.steps[*before].done && !self.steps[*before].abandoned)
        {
            Some(format!("{name} starts before {before} is done"))
        } else if !self.approved && self.is_gated(name) {
            Some(format!("{name} starts without an approval"))
        } else if !self.granted || (!self.proven && class != Class::Query) {
            Some(format!("{name} starts without locks or fingerprint"))
        } else if self.turned && !self.committed(None) && !outlives {
            Some(format!("{name} starts although the task goes back"))
        } else {
            None
        }
    }

    fn is_gated(&self, name: &str) -> bool {
        let spec = self.accepted.plan.step(self.accepted.plan.find(name).unwrap());
        match self.gate() {
            None => false,
            Some(Before::Start) => true,
            Some(Before::Close) => spec.doors == Some(Doors::Close),
            Some(Before::Pivot) => spec.class == Class::Pivot && spec.scope.is_none(),
        }
    }

    /// G3, G4: what an undo needs to begin.
    fn may_undo(&self, name: &str, attempt: u32) -> Option<String> {
        let step = &self.steps[name];
        let (_, own, scope) = self.spec(name);
        if self.committed(None) || self.committed(scope.as_deref()) {
            return Some(format!("{name} is undone after the pivot"));
        }
        if step.running || step.undoing || !own || !step.dirty || attempt != step.undo + 1 {
            return Some(format!("the undo of {name} starts while {step:?}"));
        }
        let left = |after: &&String| self.is_left(after);
        let after = self.neighbours(name, true);
        after
            .iter()
            .find(left)
            .map(|after| format!("{name} is undone before {after}: {:?}", self.steps[after]))
    }

    /// Whether something of a step is there that has to be undone, or is going on.
    fn is_left(&self, name: &str) -> bool {
        let step = &self.steps[name];
        let (class, own, scope) = self.spec(name);
        let kept = step.abandoned || self.committed(scope.as_deref());
        let decides = class == Class::Pivot && step.doubt;
        step.running || step.undoing || decides || (step.dirty && own && !kept)
    }

    fn left(&self) -> Option<&String> {
        self.steps.keys().find(|name| self.is_left(name))
    }

    fn end(&mut self, outcome: Outcome) -> Option<String> {
        self.ended = Some(outcome);
        match outcome {
            Outcome::Succeeded => {
                let open = self.steps.iter().find(|(_, step)| !step.done && !step.abandoned);
                open.map(|(name, step)| format!("succeeded although {name} is {step:?}"))
            }
            Outcome::RolledBack | Outcome::Canceled if self.committed(None) => {
                Some("rolled back after the pivot".to_owned())
            }
            Outcome::RolledBack | Outcome::Canceled => {
                self.left().map(|name| format!("rolled back although {name} is {:?}", self.steps[name]))
            }
        }
    }
}

/// A memory store that tells the watch what became durable, and lets others go first now and then.
#[derive(Clone)]
pub struct Watched {
    pub store: MemoryStore,
    pub watch: Arc<Watch>,
    /// Where the pauses come from; `None`: no pauses.
    pub pauses: Option<Runtime>,
    /// The next reads fail so often.
    pub reads_fail: Arc<Mutex<u32>>,
}

impl Watched {
    fn readable(&self) -> Result<(), ReadError> {
        let mut fail = self.reads_fail.lock().unwrap();
        if *fail > 0 {
            *fail -= 1;
            return Err(ReadError::Io("the disk says no".to_owned()));
        }
        Ok(())
    }
}

impl Store for Watched {
    fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<(), CommitError>> {
        let this = self.clone();
        async move {
            this.pause().await;
            // Once it is under way it is carried out, whether the caller waits or not.
            let result = this.store.commit(batch.clone()).await;
            if result.is_ok() {
                this.watch.committed(&this.store, &batch);
            }
            this.pause().await;
            result
        }
        .boxed()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        self.readable()?;
        self.store.get(key)
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Pairs, ReadError> {
        self.store.scan(prefix, after, limit)
    }

    fn scan_back(&self, prefix: &[u8], before: Option<&[u8]>, limit: usize) -> Result<Pairs, ReadError> {
        self.store.scan_back(prefix, before, limit)
    }

    fn put_blob(&self, bytes: Vec<u8>) -> BoxFuture<'static, Result<BlobId, CommitError>> {
        self.store.put_blob(bytes)
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

impl Watched {
    async fn pause(&self) {
        let Some(runtime) = &self.pauses else { return };
        for _ in 0..runtime.below(3) {
            runtime.pause().await;
        }
    }
}
