//! Builds a driver's next batch: what happened, what follows from it at once, the head, locks, registry records and callbacks.
//! All of it becomes durable together, before anything of it is visible or begins (G1, G2, G3, G6, G7).

use std::sync::Arc;

use super::driver::{Driver, Fact, Halt, Launch, Reply};
use super::flight::Flight;
use super::outbox::queue_callbacks;
use crate::context::RecordWrite;
use crate::event::Event;
use crate::journal::{AppendError, Head, Record, keys, record};
use crate::machine::{IllegalEvent, Machine, Next};
use crate::mutants::bug;
use crate::service::VerbError;
use crate::store::{Batch, CommitError};
use crate::task::{Millis, TaskState};

/// Tries when another task claimed the same record at the same moment; more is no coincidence.
const MAX_CONFLICTS: usize = 5;

/// A batch in the making.
pub(super) struct Draft {
    pub(super) now: Millis,
    pub(super) machine: Machine,
    pub(super) records: Vec<Record>,
    pub(super) writes: Vec<RecordWrite>,
    /// What must stand under the claimed records, or that nothing does.
    pub(super) guards: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub(super) launches: Vec<Launch>,
    /// The machine's last answer.
    pub(super) next: Next,
    /// Slots that steps wait for.
    pub(super) slots_wanted: Vec<String>,
    /// How often the registry had been changed when the plan was looked at last.
    pub(super) planned_at: Option<u64>,
    /// By the fact's place.
    replies: Vec<(usize, Reply)>,
}

impl<P: ?Sized + Send + Sync + 'static> Driver<P> {
    /// Journals the waiting facts and, if these are the last, whatever may begin now; returns what to start, and what the machine
    /// wants beyond that.
    pub(super) async fn commit(&mut self, last: bool) -> Result<(Vec<Launch>, Next), Halt> {
        for _ in 0..MAX_CONFLICTS {
            let facts: Vec<Fact> = std::mem::take(&mut self.facts);
            // Only claims can conflict with other tasks; without one, a conflict means that somebody else extends this history.
            let claims = facts.iter().any(|fact| fact.writes.iter().any(RecordWrite::is_claim));
            let kept = claims.then(|| facts.iter().map(Fact::without_reply).collect::<Vec<_>>());
            let mut draft = self.draft(facts, last)?;
            if draft.records.is_empty() {
                return Ok((draft.launches, draft.next));
            }
            if bug("launch-before-commit") {
                std::mem::take(&mut draft.launches).into_iter().try_for_each(|launch| self.launch(launch))?;
            }
            match (self.write(&mut draft).await, kept) {
                (Ok(()), _) => return Ok(self.done(draft)),
                (Err(AppendError::Commit(CommitError::Conflict(_))), Some(kept)) => {
                    self.facts = kept;
                    for (place, reply) in draft.replies {
                        self.facts[place].reply = Some(reply);
                    }
                }
                (Err(AppendError::Commit(CommitError::Conflict(key))), None) => {
                    let task = &self.live.task;
                    return Err(Halt::Engine(format!("{task}: another process extends its history ({key})")));
                }
                (Err(AppendError::Commit(error @ CommitError::Failed(_))), _) => {
                    return Err(Halt::Engine(format!("{}: {error}", self.live.task)));
                }
                (
                    Err(error @ (AppendError::Commit(CommitError::TooLarge(_)) | AppendError::Encode(_))),
                    _,
                ) => {
                    return Err(Halt::Task(error.to_string()));
                }
            }
        }
        Err(Halt::Engine(format!("{}: its claims conflict again and again", self.live.task)))
    }

    fn draft(&mut self, facts: Vec<Fact>, last: bool) -> Result<Draft, Halt> {
        let mut draft = Draft {
            now: self.inner.clock.now(),
            machine: (*self.machine).clone(),
            records: Vec::new(),
            writes: Vec::new(),
            guards: Vec::new(),
            launches: Vec::new(),
            next: Next::default(),
            slots_wanted: Vec::new(),
            planned_at: self.planned_at,
            replies: Vec::new(),
        };
        for (place, fact) in facts.into_iter().enumerate() {
            self.fold_fact(&mut draft, place, fact)?;
        }
        while last && self.extend(&mut draft)? {}
        if last {
            let next = self.inner.shared.tables().slots.only_wants(&self.live.task, &draft.slots_wanted);
            self.inner.shared.poke(&next);
        }
        Ok(draft)
    }

    fn fold_fact(&self, draft: &mut Draft, place: usize, mut fact: Fact) -> Result<(), Halt> {
        self.check_claims(draft, &mut fact)?;
        let canceling = matches!(fact.event, Event::CancelRequested { .. });
        match draft.push(fact.event) {
            Ok(()) => {
                draft.writes.extend(fact.writes);
                draft.replies.extend(fact.reply.map(|reply| (place, reply)));
            }
            // G5: a report of an old attempt or epoch, or a verb that came too late.
            Err(illegal) => {
                tracing::warn!(%illegal, "dropped");
                if let Some(reply) = fact.reply {
                    let refusal = draft.machine.refuses_cancel().filter(|_| canceling).unwrap_or(illegal.why);
                    // Nobody waits for it any more: fine.
                    let _ = reply.send(Err(VerbError::Conflict(refusal)));
                }
            }
        }
        Ok(())
    }

    async fn write(&mut self, draft: &mut Draft) -> Result<(), AppendError> {
        let task = &self.live.task;
        let mut batch = Batch::new();
        let hash = self.inner.journal.append(&mut batch, task, &self.head_hash, &mut draft.records).await?;
        let machine = &draft.machine;
        let state = machine.state();
        let head = Head::of(machine, hash.clone(), state).encode()?;
        if !bug("head-not-demanded") {
            batch.require_equals(keys::head(task), self.head.clone());
        }
        batch.put(keys::head(task), head.clone());
        let ended = machine.outcome().is_some();
        for lock in &machine.plan().rest().locks {
            let key = || keys::lock(&lock.resource, task);
            if ended && !bug("locks-are-left") {
                batch.delete(key());
            } else if machine.locks_granted() && !self.machine.locks_granted() {
                batch.put(key(), lock.value());
            }
        }
        if ended {
            batch.delete(keys::open(task));
        }
        draft.stage_records(&mut batch)?;
        let mut queued = false;
        // Who is asked for an approval hears of it, also where the task waited for something else before.
        let asks = state == TaskState::Waiting && machine.asks() && !self.machine.asks();
        if state != self.state || asks {
            let view = machine.view(draft.now);
            let mut callbacks = self.inner.composer.compose(&view, machine.accepted().callback.as_ref());
            callbacks.retain(|_| !(ended && bug("end-without-callback")));
            queued = !callbacks.is_empty();
            let id = || hex::encode(self.inner.random.id());
            queue_callbacks(self.inner.journal.store(), &mut batch, &view, callbacks, draft.now, id).await?;
        }
        self.inner.journal.store().commit(batch).await?;
        if state != self.state {
            tracing::info!(state = state.as_str(), "the task's state changed");
        }
        (self.head, self.head_hash, self.state) = (head, hash, state);
        if queued {
            self.inner.outbox.tell();
        }
        Ok(())
    }

    /// The batch is durable: shows it, answers, and gives what is to be started.
    fn done(&mut self, draft: Draft) -> (Vec<Launch>, Next) {
        if !draft.writes.is_empty() {
            self.inner.shared.changed();
        }
        self.planned_at = draft.planned_at;
        self.machine = Arc::new(draft.machine);
        self.live.publish(self.machine.clone());
        for (_, reply) in draft.replies {
            // Nobody waits for it any more: fine, it is durable.
            let _ = reply.send(Ok(self.machine.view(draft.now)));
        }
        (draft.launches, draft.next)
    }
}

impl Draft {
    fn push(&mut self, event: Event) -> Result<(), IllegalEvent> {
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
    pub(super) fn push_sure(&mut self, event: Event) -> Result<(), Halt> {
        let pushed = self.push(event);
        pushed.map_err(|illegal| Halt::Task(format!("the machine refuses what it asked for: {illegal}")))
    }

    pub(super) fn is_launched(&self, flight: Flight) -> bool {
        self.launches.iter().any(|launch| launch.flight == flight)
    }
}

impl Fact {
    fn without_reply(&self) -> Self {
        Self { event: self.event.clone(), writes: self.writes.clone(), reply: None }
    }
}
