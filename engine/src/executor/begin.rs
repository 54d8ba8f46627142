//! What begins now: turns the machine's commands into events and launches, as far as locks and slots allow. Starts nothing itself:
//! that happens when the events are durable (G1, G3).

use std::sync::Arc;

use petgraph::graph::NodeIndex;

use super::commit::Draft;
use super::driver::{Driver, Halt, Launch};
use super::flight::Flight;
use crate::event::{Event, FingerprintPhase, Outcome, Then};
use crate::machine::{Command, Ending, Machine};
use crate::mutants::bug;
use crate::plan::Plan;
use crate::proof::Listing;
use crate::step::StepError;
use crate::task::{Drift, MAX_DRIFT};

impl<P: ?Sized + Send + Sync + 'static> Driver<P> {
    /// Adds what may begin now. `true`: something was added, so look again.
    pub(super) fn extend(&mut self, draft: &mut Draft) -> Result<bool, Halt> {
        draft.next = draft.machine.next(draft.now);
        draft.slots_wanted.clear();
        if self.inner.shared.state().draining {
            return Ok(false);
        }
        let before = draft.records.len();
        for command in self.fresh(&draft.next) {
            match command {
                Command::Ask => {
                    let until = draft.machine.ask_until(draft.now);
                    draft.push_sure(Event::ApprovalAsked { until })?;
                }
                Command::Expire => draft.push_sure(Event::ApprovalExpired)?,
                Command::Lock => self.begin_lock(draft)?,
                Command::Run { step, attempt } => self.begin_run(draft, step, attempt)?,
                Command::Undo { step, attempt } => self.begin_undo(draft, step, attempt)?,
                Command::Probe { step } => self.begin_probe(draft, step)?,
                Command::Fingerprint { after, attempt } => self.begin_fingerprint(draft, after, attempt)?,
                Command::Finish { outcome } => self.finish(draft, outcome)?,
            }
        }
        Ok(draft.records.len() > before)
    }

    fn begin_lock(&self, draft: &mut Draft) -> Result<(), Halt> {
        let (locks, priority) = (&draft.machine.plan().rest().locks, draft.machine.accepted().priority);
        let granted = self.inner.shared.tables().locks.request(&self.live.task, locks, priority, draft.now);
        if !granted {
            return Ok(());
        }
        // Only now: nobody changes any more what the locks are about.
        match self.planned_anew(draft) {
            None => draft.push_sure(Event::LocksGranted),
            Some(plan) => {
                let next = {
                    let mut tables = self.inner.shared.tables();
                    tables.locks.exchange(&self.live.task, &plan.rest().locks, draft.now)
                };
                self.inner.shared.poke(&next);
                tracing::info!("planned anew: what it is about has changed while it waited");
                draft.push_sure(Event::Planned { plan: Arc::new(plan) })
            }
        }
    }

    /// The plan of what is known now, if that is another one. A task that waited behind others finds what they have left.
    fn planned_anew(&self, draft: &mut Draft) -> Option<Plan> {
        let (changes, machine) = (self.inner.shared.changes(), &draft.machine);
        if draft.planned_at == Some(changes) || machine.refuses_plan().is_some() || bug("plan-is-old") {
            return None;
        }
        draft.planned_at = Some(changes);
        match self.inner.plan_again(machine, draft.now) {
            Ok(plan) if plan == *machine.plan() => None,
            Ok(plan) if plan.rest().site == machine.plan().rest().site => Some(plan),
            Ok(_) => None,
            // It goes by the plan that it has, whose first step finds the same, without any harm.
            Err(why) => {
                tracing::info!(%why, "cannot be planned anew");
                None
            }
        }
    }

    fn begin_run(&self, draft: &mut Draft, step: NodeIndex, attempt: u32) -> Result<(), Halt> {
        if self.parked(draft, step)? {
            return Ok(());
        }
        let spec = draft.machine.plan().step(step);
        let (name, slot) = (spec.name.clone(), spec.slot.clone());
        let slot = match slot {
            None => None,
            Some(slot) => match self.inner.shared.take_slot(&slot, &self.live.task) {
                Some(hold) => Some(hold),
                None => {
                    draft.slots_wanted.push(slot);
                    return Ok(());
                }
            },
        };
        draft.push_sure(Event::AttemptStarted { step: name, attempt })?;
        draft.launches.push(Launch { flight: Flight::Run(step), attempt, slot });
        Ok(())
    }

    fn begin_undo(&self, draft: &mut Draft, step: NodeIndex, attempt: u32) -> Result<(), Halt> {
        if self.parked(draft, step)? {
            return Ok(());
        }
        let name = draft.machine.plan().step(step).name.clone();
        draft.push_sure(Event::UndoStarted { step: name, attempt })?;
        draft.launches.push(Launch { flight: Flight::Undo(step), attempt, slot: None });
        Ok(())
    }

    fn begin_probe(&self, draft: &mut Draft, step: NodeIndex) -> Result<(), Halt> {
        let flight = Flight::Probe(step);
        if draft.is_launched(flight) || self.parked(draft, step)? {
            return Ok(());
        }
        let attempt = draft.machine.attempts(step);
        draft.launches.push(Launch { flight, attempt, slot: None });
        Ok(())
    }

    fn begin_fingerprint(&self, draft: &mut Draft, after: bool, attempt: u32) -> Result<(), Halt> {
        let phase = FingerprintPhase::of(after);
        let Some(spec) = draft.machine.plan().rest().fingerprint.as_ref() else {
            return Err(Halt::Task("the machine asks for a fingerprint that the plan has not".to_owned()));
        };
        let known = self.inner.kinds.decode(&spec.kind, &spec.params);
        draft.push_sure(Event::FingerprintStarted { phase, attempt })?;
        match known {
            Ok(_) => {
                draft.launches.push(Launch { flight: Flight::Fingerprint(after), attempt, slot: None });
                Ok(())
            }
            Err(why) => {
                let error = StepError::fatal(why);
                draft.push_sure(Event::FingerprintFailed { phase, attempt, error, then: Then::GiveUp })
            }
        }
    }

    /// Whether the running binary does not know the step: then that is journaled, and a person is needed.
    fn parked(&self, draft: &mut Draft, step: NodeIndex) -> Result<bool, Halt> {
        let spec = draft.machine.plan().step(step);
        let Err(reason) = self.inner.kinds.decode(&spec.kind, &spec.params) else { return Ok(false) };
        let step = spec.name.clone();
        draft.push_sure(Event::Parked { step, reason })?;
        Ok(true)
    }

    /// Ends the task when nothing of it is in flight and nothing that its attempts have started runs any more.
    fn finish(&mut self, draft: &mut Draft, ending: Ending) -> Result<(), Halt> {
        if !self.is_grounded() || !draft.launches.is_empty() {
            return Ok(());
        }
        let leftovers = &mut self.leftovers;
        if self.survivors.any() && leftovers.given_up.is_none() {
            if draft.now < leftovers.next {
                draft.next.wake =
                    Some(draft.next.wake.map_or(leftovers.next, |wake| wake.min(leftovers.next)));
                return Ok(());
            }
            if leftovers.failures == 0 {
                leftovers.first_began = draft.now;
            }
            draft.launches.push(Launch {
                flight: Flight::Clear,
                attempt: leftovers.failures + 1,
                slot: None,
            });
            return Ok(());
        }
        let (verified, drift) = self.proof(&draft.machine);
        draft.push_sure(Event::Finished { outcome: Outcome::from(ending), verified, drift })
    }

    /// Whether the world is as before, and what differs. What a person has left as it is differs in any case.
    fn proof(&self, machine: &Machine) -> (Option<bool>, Vec<Drift>) {
        let mut left: Vec<Drift> = machine
            .abandoned()
            .map(|(step, actor, reason)| Drift {
                resource: format!("step {step}"),
                item: format!("left as it is by {}", actor.name),
                before: None,
                after: Some(reason.to_owned()),
            })
            .collect();
        left.extend(self.leftovers.given_up.iter().map(|why| Drift {
            resource: "processes".to_owned(),
            item: "what the task has started could not be ended everywhere".to_owned(),
            before: None,
            after: Some(why.clone()),
        }));
        let (mut verified, drift) = self.compared(machine);
        if machine.goes_back() && !left.is_empty() {
            verified = Some(false);
        }
        left.extend(drift);
        left.truncate(MAX_DRIFT);
        (verified, left)
    }

    /// What the fingerprints before and after say.
    fn compared(&self, machine: &Machine) -> (Option<bool>, Vec<Drift>) {
        let (Some((before, before_listing)), true) =
            (machine.fingerprint(FingerprintPhase::Before), machine.goes_back() && machine.touched())
        else {
            return (None, Vec::new());
        };
        let unreadable = |why: &str| {
            let item = "the fingerprint after the rollback could not be compared".to_owned();
            let resource = "fingerprint".to_owned();
            (Some(false), vec![Drift { resource, item, before: None, after: Some(why.to_owned()) }])
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
            (Err(why), _) | (_, Err(why)) => unreadable(&why),
        }
    }
}
