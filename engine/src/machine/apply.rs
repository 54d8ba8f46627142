//! The only code that changes a task's state. An event that does not fit is an error and changes nothing.

use std::sync::Arc;

use petgraph::graph::NodeIndex;

use super::{FingerprintRecord, FingerprintState, IllegalEvent, Machine, Phase, StepRecord};
use crate::event::{Event, FingerprintPhase, Then, Verdict};
use crate::journal::Record;
use crate::plan::Class;
use crate::service::ResolveVerb;
use crate::step::StepError;
use crate::task::Millis;

/// Why an event does not fit.
type Why = String;

impl Machine {
    /// Begins with a task's first event.
    ///
    /// # Errors
    /// When it is not `accepted` with sequence 1.
    pub fn begin(record: &Record) -> Result<Self, IllegalEvent> {
        let illegal = |why: &str| IllegalEvent {
            sequence: record.sequence,
            kind: record.event.kind(),
            why: why.to_owned(),
        };
        let Event::Accepted(accepted) = &record.event else {
            return Err(illegal("a task begins with accepted"));
        };
        if record.sequence != 1 {
            return Err(illegal("a task begins with sequence 1"));
        }
        Ok(Self {
            created_at: record.at,
            steps: vec![StepRecord::new(record.at); accepted.plan.len()],
            outputs: Default::default(),
            before: FingerprintRecord::default(),
            after: FingerprintRecord::default(),
            locks_granted: false,
            cancel: None,
            failure: None,
            epoch: record.epoch,
            sequence: 1,
            started_at: None,
            finished: None,
            accepted: Arc::new((**accepted).clone()),
        })
    }

    /// Folds an event in.
    ///
    /// # Errors
    /// [`IllegalEvent`] when it does not fit the state; the state is as before then.
    pub fn apply(&mut self, record: &Record) -> Result<(), IllegalEvent> {
        self.fold(record).map_err(|why| IllegalEvent {
            sequence: record.sequence,
            kind: record.event.kind(),
            why,
        })?;
        self.sequence = record.sequence;
        Ok(())
    }

    fn fold(&mut self, record: &Record) -> Result<(), Why> {
        demand(record.sequence == self.sequence + 1, || {
            format!("sequence {} was expected", self.sequence + 1)
        })?;
        demand(self.finished.is_none(), || "the task has ended".to_owned())?;
        let at = record.at;
        if let Event::Recovered { epoch, run_deaths, undo_deaths } = &record.event {
            demand(*epoch == self.epoch + 1 && record.epoch == *epoch, || {
                format!("epoch {} was expected", self.epoch + 1)
            })?;
            self.epoch = *epoch;
            self.recovered(*run_deaths, *undo_deaths, at);
            return Ok(());
        }
        demand(record.epoch == self.epoch, || {
            format!("it is of epoch {}, not of {}", record.epoch, self.epoch)
        })?;
        match &record.event {
            Event::Accepted(_) => Err("it was accepted before".to_owned()),
            Event::Recovered { .. } => Err("handled above".to_owned()),
            Event::LocksGranted => {
                demand(!self.locks_granted, || "the locks were granted before".to_owned())?;
                self.locks_granted = true;
                Ok(())
            }
            Event::FingerprintStarted { phase, attempt } => self.fingerprint_started(*phase, *attempt, at),
            Event::FingerprintTaken { phase, attempt, digest, listing } => {
                let record = self.running_fingerprint(*phase, *attempt)?;
                record.phase = FingerprintState::Taken { digest: digest.clone(), listing: listing.clone() };
                Ok(())
            }
            Event::FingerprintFailed { phase, attempt, error, then } => {
                self.fingerprint_failed(*phase, *attempt, error, *then)
            }
            Event::AttemptStarted { step, attempt } => self.attempt_started(self.find(step)?, *attempt, at),
            Event::AttemptSucceeded { step, attempt, output, adopted: _ } => {
                let index = self.in_flight(step, *attempt)?;
                Arc::make_mut(&mut self.outputs).insert(step.clone(), Arc::new(output.clone()));
                let record = self.enter(index, Phase::Succeeded, at);
                record.finished_at = Some(at);
                Ok(())
            }
            Event::AttemptFailed { step, attempt, error, then } => {
                let index = self.in_flight(step, *attempt)?;
                self.attempt_failed(index, error, *then, at)
            }
            Event::Probed { step, verdict } => self.probed(self.in_doubt(step)?, verdict, at),
            Event::ProbeFailed { step, error, then } => {
                let index = self.in_doubt(step)?;
                let phase = match then {
                    Then::Retry { at } | Then::Probe { at } => Phase::InDoubt(*at),
                    Then::GiveUp => stuck(false, "its effect cannot be told", Some(error.message.clone())),
                };
                let record = self.enter(index, phase, at);
                record.failures += 1;
                record.error = Some(error.clone());
                Ok(())
            }
            Event::UndoStarted { step, attempt } => self.undo_started(self.find(step)?, *attempt, at),
            Event::UndoSucceeded { step, attempt } => {
                let index = self.undo_in_flight(step, *attempt)?;
                self.undone(index, at);
                Ok(())
            }
            Event::UndoFailed { step, attempt, error, then } => {
                let index = self.undo_in_flight(step, *attempt)?;
                let phase = match then {
                    Then::Retry { at } | Then::Probe { at } => Phase::UndoWaiting(*at),
                    Then::GiveUp => stuck(true, &error.message, None),
                };
                let record = self.enter(index, phase, at);
                record.undo_failures += 1;
                record.undo_error = Some(error.clone());
                Ok(())
            }
            Event::Parked { step, reason } => {
                let index = self.find(step)?;
                let undo = self.goes_back();
                self.enter(index, stuck(undo, reason, None), at);
                Ok(())
            }
            Event::CancelRequested { actor, reason } => {
                demand(self.refuses_cancel().is_none(), || self.refuses_cancel().unwrap_or_default())?;
                self.cancel = Some((actor.clone(), reason.clone()));
                Ok(())
            }
            Event::Resolved { step, verb, .. } => self.resolved(self.find(step)?, *verb, at),
            Event::Finished { outcome, verified, drift } => {
                let due = self.next(at).start.into_iter().any(|command| match command {
                    super::Command::Finish { outcome: ending } => {
                        crate::event::Outcome::from(ending) == *outcome
                    }
                    _ => false,
                });
                demand(due, || "it is not at its end".to_owned())?;
                self.finished = Some((at, *outcome, *verified, drift.clone()));
                Ok(())
            }
        }
    }

    fn attempt_started(&mut self, step: NodeIndex, attempt: u32, at: Millis) -> Result<(), Why> {
        let record = &self.steps[step.index()];
        let ready = match record.phase {
            Phase::Pending => self.runnable(step),
            Phase::Waiting(_) => true,
            Phase::Running
            | Phase::InDoubt(_)
            | Phase::Succeeded
            | Phase::Failed
            | Phase::Redo
            | Phase::Undoing
            | Phase::UndoWaiting(_)
            | Phase::Undone
            | Phase::Stuck { .. }
            | Phase::Abandoned => false,
        };
        demand(ready && !self.goes_back(), || "the step is not ready to run".to_owned())?;
        demand(attempt == record.attempts + 1, || format!("attempt {} was expected", record.attempts + 1))?;
        demand(self.locks_granted || self.plan().rest().locks.is_empty(), || {
            "the locks are not granted".to_owned()
        })?;
        let unproven =
            self.plan().rest().fingerprint.is_some() && self.fingerprint(FingerprintPhase::Before).is_none();
        demand(!(unproven && self.spec(step).class != Class::Query), || {
            "there is no fingerprint yet".to_owned()
        })?;
        self.started_at.get_or_insert(at);
        let record = self.enter(step, Phase::Running, at);
        record.attempts = attempt;
        record.started_at.get_or_insert(at);
        if record.failures == 0 && record.deaths == 0 {
            record.first_began = at;
        }
        Ok(())
    }

    fn attempt_failed(
        &mut self,
        step: NodeIndex,
        error: &StepError,
        then: Then,
        at: Millis,
    ) -> Result<(), Why> {
        let class = self.spec(step).class;
        let phase = match then {
            Then::Retry { at } => Phase::Waiting(at),
            Then::Probe { at } if class == Class::Query => Phase::Waiting(at),
            Then::Probe { at } => Phase::InDoubt(at),
            Then::GiveUp if class == Class::Retriable && self.committed(None) => {
                stuck(false, &error.message, None)
            }
            Then::GiveUp => Phase::Failed,
        };
        let failed = phase == Phase::Failed;
        let record = self.enter(step, phase, at);
        record.failures += 1;
        record.error = Some(error.clone());
        if failed {
            record.finished_at = Some(at);
            self.fail(step, error.clone());
        }
        Ok(())
    }

    /// Turns the task round, unless it has turned already.
    fn fail(&mut self, step: NodeIndex, error: StepError) {
        if !self.goes_back() {
            let name = self.spec(step).name.clone();
            self.failure.get_or_insert((name, error));
        }
    }

    fn probed(&mut self, step: NodeIndex, verdict: &Verdict, at: Millis) -> Result<(), Why> {
        let back = self.goes_back();
        let phase = match verdict {
            // Going back, only a pivot is probed: it has not decided, so it never will.
            Verdict::NotApplied | Verdict::Resumable if back => Phase::Failed,
            Verdict::NotApplied | Verdict::Resumable => Phase::Pending,
            Verdict::Partial { .. } if self.has_undo(step) => Phase::Redo,
            Verdict::Partial { .. } if back => Phase::Failed,
            Verdict::Partial { .. } => Phase::Pending,
            Verdict::Unknown { why } => stuck(false, "its effect cannot be told", Some(why.clone())),
        };
        self.enter(step, phase, at);
        Ok(())
    }

    fn undo_started(&mut self, step: NodeIndex, attempt: u32, at: Millis) -> Result<(), Why> {
        let record = &self.steps[step.index()];
        demand(attempt == record.undo_attempts + 1, || {
            format!("undo {} was expected", record.undo_attempts + 1)
        })?;
        let redo = matches!(record.phase, Phase::Redo | Phase::UndoWaiting(_)) && !self.goes_back();
        let ready = redo || (self.goes_back() && self.undoable(step, &self.settled()));
        demand(ready, || "the step is not ready to be undone".to_owned())?;
        let record = self.enter(step, Phase::Undoing, at);
        record.undo_attempts = attempt;
        if record.undo_failures == 0 {
            record.undo_first_began = at;
        }
        Ok(())
    }

    fn undone(&mut self, step: NodeIndex, at: Millis) {
        let phase = if self.goes_back() { Phase::Undone } else { Phase::Pending };
        let name = self.spec(step).name.clone();
        Arc::make_mut(&mut self.outputs).remove(&name);
        let record = self.enter(step, phase, at);
        record.undone_at = Some(at);
    }

    fn resolved(&mut self, step: NodeIndex, verb: ResolveVerb, at: Millis) -> Result<(), Why> {
        let Phase::Stuck { undo, probe, reason } = self.steps[step.index()].phase.clone() else {
            return Err("the step is not stuck".to_owned());
        };
        let phase = match verb {
            ResolveVerb::Retry if undo => Phase::UndoWaiting(at),
            ResolveVerb::Retry if probe.is_some() => Phase::InDoubt(at),
            ResolveVerb::Retry => Phase::Pending,
            ResolveVerb::MarkUndone if undo && !self.goes_back() => Phase::Pending,
            ResolveVerb::MarkUndone if undo => Phase::Undone,
            ResolveVerb::Abandon => Phase::Abandoned,
            // A person did it by hand: after the pivot that is as good as done, before it the rest is undone.
            ResolveVerb::MarkUndone if self.committed(None) => Phase::Abandoned,
            ResolveVerb::MarkUndone => Phase::Undone,
        };
        let turns = match verb {
            ResolveVerb::Retry => false,
            ResolveVerb::MarkUndone => !undo && !self.committed(None),
            ResolveVerb::Abandon => !self.committed(None),
        };
        let record = self.enter(step, phase, at);
        record.failures = 0;
        record.undo_failures = 0;
        record.deaths = 0;
        if turns {
            self.fail(step, StepError::fatal(reason));
        }
        Ok(())
    }

    fn recovered(&mut self, run_deaths: u32, undo_deaths: u32, at: Millis) {
        let back = self.goes_back();
        for index in self.plan().steps().map(|(index, _)| index).collect::<Vec<_>>() {
            let class = self.spec(index).class;
            let committed = self.committed(None);
            let record = &mut self.steps[index.index()];
            match record.phase {
                Phase::Running | Phase::InDoubt(_) => {
                    record.deaths += 1;
                    let died = format!("the process ended {} times during this step", record.deaths);
                    let forward_only = class == Class::Pivot || committed;
                    record.since = at;
                    if forward_only && record.deaths > undo_deaths {
                        record.phase = stuck(false, &died, Some("not probed again".to_owned()));
                    } else if !forward_only && !back && record.deaths > run_deaths {
                        record.phase = Phase::Failed;
                        record.error = Some(StepError::fatal(died.clone()));
                        self.fail(index, StepError::fatal(died));
                    } else {
                        record.phase =
                            if class == Class::Query { Phase::Pending } else { Phase::InDoubt(at) };
                    }
                }
                Phase::Undoing => {
                    record.deaths += 1;
                    record.since = at;
                    let died = format!("the process ended {} times during this undo", record.deaths);
                    record.phase = if record.deaths > undo_deaths {
                        stuck(true, &died, None)
                    } else {
                        Phase::UndoWaiting(at)
                    };
                }
                Phase::Pending
                | Phase::Waiting(_)
                | Phase::Succeeded
                | Phase::Failed
                | Phase::Redo
                | Phase::UndoWaiting(_)
                | Phase::Undone
                | Phase::Stuck { .. }
                | Phase::Abandoned => {}
            }
        }
        let mut before_failed = None;
        for (record, is_before) in [(&mut self.before, true), (&mut self.after, false)] {
            if matches!(record.phase, FingerprintState::Running) {
                record.deaths += 1;
                record.phase = FingerprintState::Pending;
                if record.deaths > run_deaths {
                    let error =
                        StepError::fatal(format!("the process ended {} times meanwhile", record.deaths));
                    record.phase = FingerprintState::Failed;
                    record.error = Some(error.clone());
                    before_failed = before_failed.or(is_before.then_some(error));
                }
            }
        }
        if let Some(error) = before_failed
            && !self.goes_back()
        {
            self.failure.get_or_insert(("fingerprint".to_owned(), error));
        }
    }

    fn fingerprint_started(&mut self, phase: FingerprintPhase, attempt: u32, at: Millis) -> Result<(), Why> {
        let after = phase == FingerprintPhase::After;
        let due = self.next(at).start.contains(&super::Command::Fingerprint { after, attempt });
        demand(due, || "this fingerprint is not due".to_owned())?;
        let record = self.fingerprint_record_mut(phase);
        record.phase = FingerprintState::Running;
        record.attempts = attempt;
        if record.failures == 0 {
            record.first_began = at;
        }
        self.started_at.get_or_insert(at);
        Ok(())
    }

    fn fingerprint_failed(
        &mut self,
        phase: FingerprintPhase,
        attempt: u32,
        error: &StepError,
        then: Then,
    ) -> Result<(), Why> {
        let back = self.goes_back();
        let record = self.running_fingerprint(phase, attempt)?;
        record.failures += 1;
        record.error = Some(error.clone());
        record.phase = match then {
            Then::Retry { at } | Then::Probe { at } => FingerprintState::Waiting(at),
            Then::GiveUp => FingerprintState::Failed,
        };
        if phase == FingerprintPhase::Before && then == Then::GiveUp && !back {
            self.failure.get_or_insert(("fingerprint".to_owned(), error.clone()));
        }
        Ok(())
    }

    fn running_fingerprint(
        &mut self,
        phase: FingerprintPhase,
        attempt: u32,
    ) -> Result<&mut FingerprintRecord, Why> {
        let record = self.fingerprint_record_mut(phase);
        let running = matches!(record.phase, FingerprintState::Running) && record.attempts == attempt;
        if running { Ok(record) } else { Err("this fingerprint is not being taken".to_owned()) }
    }

    fn fingerprint_record_mut(&mut self, phase: FingerprintPhase) -> &mut FingerprintRecord {
        match phase {
            FingerprintPhase::Before => &mut self.before,
            FingerprintPhase::After => &mut self.after,
        }
    }

    fn find(&self, step: &str) -> Result<NodeIndex, Why> {
        self.plan().find(step).ok_or_else(|| format!("{step:?} is no step of the plan"))
    }

    /// The step whose attempt is running, or in doubt and found applied by a probe.
    fn in_flight(&self, step: &str, attempt: u32) -> Result<NodeIndex, Why> {
        let index = self.find(step)?;
        let record = &self.steps[index.index()];
        let fits = matches!(record.phase, Phase::Running | Phase::InDoubt(_)) && record.attempts == attempt;
        if fits { Ok(index) } else { Err(format!("attempt {attempt} of {step:?} is not in flight")) }
    }

    fn in_doubt(&self, step: &str) -> Result<NodeIndex, Why> {
        let index = self.find(step)?;
        let fits = matches!(self.steps[index.index()].phase, Phase::InDoubt(_));
        if fits { Ok(index) } else { Err(format!("{step:?} is not in doubt")) }
    }

    fn undo_in_flight(&self, step: &str, attempt: u32) -> Result<NodeIndex, Why> {
        let index = self.find(step)?;
        let record = &self.steps[index.index()];
        let fits = record.phase == Phase::Undoing && record.undo_attempts == attempt;
        if fits { Ok(index) } else { Err(format!("undo {attempt} of {step:?} is not in flight")) }
    }

    fn enter(&mut self, step: NodeIndex, phase: Phase, at: Millis) -> &mut StepRecord {
        let record = &mut self.steps[step.index()];
        record.phase = phase;
        record.since = at;
        record
    }
}

fn stuck(undo: bool, reason: &str, probe: Option<String>) -> Phase {
    Phase::Stuck { undo, reason: reason.to_owned(), probe }
}

fn demand(holds: bool, why: impl FnOnce() -> Why) -> Result<(), Why> {
    if holds { Ok(()) } else { Err(why()) }
}
