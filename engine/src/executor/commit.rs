//! Builds a driver's next batch: what happened, what follows from it at once, the head, locks, registry records and callbacks.
//! All of it becomes durable together, before anything of it is visible or begins (G1, G2, G3, G6, G7).

use std::sync::Arc;

use futures::channel::oneshot;
use petgraph::graph::NodeIndex;

use super::driver::{Driver, Fact, Halt, Launch};
use super::flight::Flight;
use super::outbox::queue_callbacks;
use crate::context::RecordWrite;
use crate::event::{Event, FingerprintPhase, Outcome};
use crate::journal::{AppendError, Head, Record, keys, record};
use crate::machine::{Command, Machine};
use crate::proof::Listing;
use crate::service::VerbError;
use crate::step::StepError;
use crate::store::{Batch, CommitError, Store};
use crate::task::{Drift, Millis, TaskView};

/// Tries when another task claimed the same record at the same moment; more is no coincidence.
const MAX_CONFLICTS: usize = 5;

type Reply = oneshot::Sender<Result<TaskView, VerbError>>;

/// A batch in the making.
struct Draft {
    now: Millis,
    machine: Machine,
    records: Vec<Record>,
    writes: Vec<RecordWrite>,
    launches: Vec<Launch>,
    /// By the fact's place.
    replies: Vec<(usize, Reply)>,
    slots_taken: Vec<String>,
}

impl<P: ?Sized + Send + Sync + 'static> Driver<P> {
    /// Journals the waiting facts and whatever may begin now; returns what to start.
    pub(super) async fn commit(&mut self) -> Result<Vec<Launch>, Halt> {
        for _ in 0..MAX_CONFLICTS {
            let facts: Vec<Fact> = std::mem::take(&mut self.facts);
            let kept: Vec<(Event, Vec<RecordWrite>)> =
                facts.iter().map(|fact| (fact.event.clone(), fact.writes.clone())).collect();
            let mut draft = self.draft(facts)?;
            if draft.records.is_empty() {
                self.answer(draft.replies);
                return Ok(draft.launches);
            }
            match self.write(&mut draft).await {
                Ok(()) => {
                    self.answer(draft.replies);
                    return Ok(draft.launches);
                }
                Err(AppendError::Commit(CommitError::Conflict(_))) => {
                    for slot in &draft.slots_taken {
                        self.inner.tables().slots.give(slot);
                    }
                    self.facts =
                        kept.into_iter().map(|(event, writes)| Fact { event, writes, reply: None }).collect();
                    for (place, reply) in draft.replies {
                        self.facts[place].reply = Some(reply);
                    }
                }
                Err(error) => return Err(Halt(format!("{}: {error}", self.live.task))),
            }
        }
        Err(Halt(format!("{}: another process extends its history", self.live.task)))
    }

    fn draft(&mut self, facts: Vec<Fact>) -> Result<Draft, Halt> {
        let mut draft = Draft {
            now: self.inner.clock.now(),
            machine: (*self.machine).clone(),
            records: Vec::new(),
            writes: Vec::new(),
            launches: Vec::new(),
            replies: Vec::new(),
            slots_taken: Vec::new(),
        };
        for (place, fact) in facts.into_iter().enumerate() {
            self.fold_fact(&mut draft, place, fact)?;
        }
        while self.extend(&mut draft)? {}
        Ok(draft)
    }

    fn fold_fact(&self, draft: &mut Draft, place: usize, fact: Fact) -> Result<(), Halt> {
        let (event, writes) = self.checked_claims(draft, fact.event, fact.writes)?;
        match draft.push(event) {
            Ok(()) => {
                draft.writes.extend(writes);
                draft.replies.extend(fact.reply.map(|reply| (place, reply)));
            }
            // G5: a report of an old attempt or epoch, or a verb that came too late.
            Err(illegal) => {
                tracing::warn!(%illegal, "dropped");
                if let Some(reply) = fact.reply {
                    let refusal = draft.machine.refuses_cancel().unwrap_or(illegal.why);
                    // Nobody waits for it any more: fine.
                    let _ = reply.send(Err(VerbError::Conflict(refusal)));
                }
            }
        }
        Ok(())
    }

    /// A claim that somebody else holds turns the success into a failure that may pass: the next attempt chooses again.
    fn checked_claims(
        &self,
        draft: &Draft,
        event: Event,
        writes: Vec<RecordWrite>,
    ) -> Result<(Event, Vec<RecordWrite>), Halt> {
        let Event::AttemptSucceeded { step, attempt, .. } = &event else { return Ok((event, writes)) };
        for write in &writes {
            let RecordWrite::Claim { family, name, value } = write else { continue };
            let held = self
                .inner
                .journal
                .store()
                .get(&keys::record(family, name))
                .map_err(|e| Halt(e.to_string()))?;
            let mine = serde_json::to_vec(value).map_err(|error| Halt(error.to_string()))?;
            if held.is_some_and(|held| held != mine) {
                let error =
                    StepError::retryable(format!("{family} {name:?} was claimed by another task meanwhile"));
                let index: Option<NodeIndex> = self.machine.plan().find(step);
                let then = match index {
                    Some(index) => self.after_run_failure(index, &error, draft.now),
                    None => crate::event::Then::GiveUp,
                };
                return Ok((
                    Event::AttemptFailed { step: step.clone(), attempt: *attempt, error, then },
                    Vec::new(),
                ));
            }
        }
        Ok((event, writes))
    }

    /// Adds what may begin now. `true`: something was added, so look again.
    fn extend(&mut self, draft: &mut Draft) -> Result<bool, Halt> {
        if self.inner.state().draining {
            return Ok(false);
        }
        let next = draft.machine.next(draft.now);
        let before = draft.records.len();
        for command in self.fresh(&next) {
            match command {
                Command::Lock => {
                    let granted = {
                        let locks = &draft.machine.plan().rest().locks;
                        self.inner.tables().locks.request(&self.live.task, locks, draft.now)
                    };
                    if granted {
                        draft.push_sure(Event::LocksGranted)?;
                    }
                }
                Command::Run { step, attempt } => self.begin_run(draft, step, attempt)?,
                Command::Undo { step, attempt } => {
                    let spec = draft.machine.plan().step(step).clone();
                    match self.inner.kinds.decode(&spec.kind, &spec.params) {
                        Ok(_) => {
                            draft.push_sure(Event::UndoStarted { step: spec.name, attempt })?;
                            draft.launches.push(Launch { flight: Flight::Undo(step), attempt, slot: None });
                        }
                        Err(reason) => draft.push_sure(Event::Parked { step: spec.name, reason })?,
                    }
                }
                Command::Probe { step } => self.begin_probe(draft, step)?,
                Command::Fingerprint { after, attempt } => {
                    let phase = FingerprintPhase::of(after);
                    draft.push_sure(Event::FingerprintStarted { phase, attempt })?;
                    let known = draft.machine.plan().rest().fingerprint.as_ref();
                    match known.map(|spec| self.inner.kinds.decode(&spec.kind, &spec.params)) {
                        Some(Ok(_)) => {
                            draft.launches.push(Launch {
                                flight: Flight::Fingerprint(after),
                                attempt,
                                slot: None,
                            });
                        }
                        Some(Err(why)) => {
                            let (error, then) = (StepError::fatal(why), crate::event::Then::GiveUp);
                            draft.push_sure(Event::FingerprintFailed { phase, attempt, error, then })?;
                        }
                        None => return Err(Halt("a fingerprint without a step".to_owned())),
                    }
                }
                Command::Finish { outcome } => {
                    let (verified, drift) = self.proof(&draft.machine);
                    draft.push_sure(Event::Finished { outcome: Outcome::from(outcome), verified, drift })?;
                }
            }
        }
        Ok(draft.records.len() > before)
    }

    fn begin_run(&self, draft: &mut Draft, step: NodeIndex, attempt: u32) -> Result<(), Halt> {
        let spec = draft.machine.plan().step(step).clone();
        if let Err(reason) = self.inner.kinds.decode(&spec.kind, &spec.params) {
            return draft.push_sure(Event::Parked { step: spec.name, reason });
        }
        if let Some(slot) = &spec.slot {
            if !self.inner.tables().slots.take(slot, &self.live.task) {
                return Ok(());
            }
            draft.slots_taken.push(slot.clone());
        }
        draft.push_sure(Event::AttemptStarted { step: spec.name, attempt })?;
        draft.launches.push(Launch { flight: Flight::Run(step), attempt, slot: spec.slot });
        Ok(())
    }

    fn begin_probe(&self, draft: &mut Draft, step: NodeIndex) -> Result<(), Halt> {
        let flight = Flight::Probe(step);
        if draft.launches.iter().any(|launch| launch.flight == flight) {
            return Ok(());
        }
        let spec = draft.machine.plan().step(step).clone();
        if let Err(reason) = self.inner.kinds.decode(&spec.kind, &spec.params) {
            return draft.push_sure(Event::Parked { step: spec.name, reason });
        }
        let attempt = draft.machine.attempts(step);
        draft.launches.push(Launch { flight, attempt, slot: None });
        Ok(())
    }

    /// Whether the world is as before, and what differs.
    fn proof(&self, machine: &Machine) -> (Option<bool>, Vec<Drift>) {
        let (Some((before, before_listing)), true) =
            (machine.fingerprint(FingerprintPhase::Before), machine.goes_back() && machine.touched())
        else {
            return (None, Vec::new());
        };
        let unreadable = |why: String| {
            let item = "the fingerprint after the rollback could not be compared".to_owned();
            (
                Some(false),
                vec![Drift { resource: "fingerprint".to_owned(), item, before: None, after: Some(why) }],
            )
        };
        let Some((after, after_listing)) = machine.fingerprint(FingerprintPhase::After) else {
            return unreadable(machine.fingerprint_error().unwrap_or_default());
        };
        if before == after {
            return (Some(true), Vec::new());
        }
        let read = |id| -> Result<Listing, String> {
            let bytes = self.inner.journal.store().get_blob(id).map_err(|error| error.to_string())?;
            serde_json::from_slice(&bytes.ok_or("its listing is missing")?).map_err(|error| error.to_string())
        };
        match (read(before_listing), read(after_listing)) {
            (Ok(before), Ok(after)) => (Some(false), Listing::drift(&before, &after)),
            (Err(why), _) | (_, Err(why)) => unreadable(why),
        }
    }

    async fn write(&mut self, draft: &mut Draft) -> Result<(), AppendError> {
        let task = &self.live.task;
        let mut batch = Batch::new();
        let hash = self.inner.journal.append(&mut batch, task, &self.head_hash, &mut draft.records).await?;
        let machine = &draft.machine;
        let state = machine.state(draft.now);
        let head = Head {
            sequence: machine.sequence(),
            hash: hash.clone(),
            epoch: machine.epoch(),
            state,
            workflow: machine.accepted().workflow.clone(),
            site: machine.plan().rest().site.clone(),
            created_at: machine.created_at(),
        };
        let head = serde_json::to_vec(&head).map_err(|error| AppendError::Encode(error.to_string()))?;
        batch.require_equals(keys::head(task), self.head.clone());
        batch.put(keys::head(task), head.clone());
        for lock in &machine.plan().rest().locks {
            if machine.outcome().is_some() {
                batch.delete(keys::lock(&lock.resource, task));
            } else if machine.locks_granted() && !self.machine.locks_granted() {
                batch.put(
                    keys::lock(&lock.resource, task),
                    if lock.shared { b"shared".as_slice() } else { b"exclusive" },
                );
            }
        }
        if machine.outcome().is_some() {
            batch.delete(keys::open(task));
        }
        stage_records(&**self.inner.journal.store(), &mut batch, &draft.writes)?;
        let mut queued = false;
        if state != self.machine.state(draft.now) {
            let view = machine.view(draft.now);
            let callbacks = self.inner.composer.compose(&view, machine.accepted().callback.as_ref());
            queued = !callbacks.is_empty();
            let id = || hex::encode(self.inner.random.id());
            queue_callbacks(self.inner.journal.store(), &mut batch, &view, callbacks, draft.now, id).await?;
            tracing::info!(state = state.as_str(), "the task's state changed");
        }
        self.inner.journal.store().commit(batch).await?;
        self.head = head;
        self.head_hash = hash;
        self.machine = Arc::new(draft.machine.clone());
        self.live.publish(self.machine.clone());
        if queued {
            self.inner.outbox.tell();
        }
        Ok(())
    }

    fn answer(&self, replies: Vec<(usize, Reply)>) {
        for (_, reply) in replies {
            // Nobody waits for it any more: fine, it is durable.
            let _ = reply.send(Ok(self.machine.view(self.inner.clock.now())));
        }
    }
}

impl Draft {
    fn push(&mut self, event: Event) -> Result<(), crate::machine::IllegalEvent> {
        let epoch = match &event {
            Event::Recovered { epoch, .. } => *epoch,
            _ => self.machine.epoch(),
        };
        let record = record(self.machine.sequence() + 1, epoch, self.now, event);
        self.machine.apply(&record)?;
        self.records.push(record);
        Ok(())
    }

    /// Adds an event that the machine has just asked for.
    fn push_sure(&mut self, event: Event) -> Result<(), Halt> {
        self.push(event).map_err(|illegal| Halt(format!("the machine refuses what it asked for: {illegal}")))
    }
}

/// Adds registry changes to a batch.
fn stage_records(store: &dyn Store, batch: &mut Batch, writes: &[RecordWrite]) -> Result<(), AppendError> {
    let json = |value| serde_json::to_vec(value).map_err(|error| AppendError::Encode(error.to_string()));
    for write in writes {
        match write {
            RecordWrite::Put { family, name, value } => {
                batch.put(keys::record(family, name), json(value)?);
            }
            RecordWrite::Claim { family, name, value } => {
                let (key, mine) = (keys::record(family, name), json(value)?);
                let held = store.get(&key).map_err(|error| CommitError::Failed(error.to_string()))?;
                match held {
                    Some(_) => batch.require_equals(key.clone(), mine.clone()),
                    None => batch.require_absent(key.clone()),
                };
                batch.put(key, mine);
            }
            RecordWrite::Delete { family, name } => {
                batch.delete(keys::record(family, name));
            }
        }
    }
    Ok(())
}
