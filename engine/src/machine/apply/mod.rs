//! The only code that changes a task's state. An event that does not fit is an error and changes nothing.

mod approval;
mod life;
mod run;
mod undo;

use std::sync::Arc;

use petgraph::graph::NodeIndex;

use super::{Approval, FingerprintRecord, Finish, IllegalEvent, Machine, Phase, Stage, StepRecord, Stuck};
use crate::event::{Event, Outcome};
use crate::journal::Record;
use crate::machine::Command;
use crate::task::{Drift, Millis};

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
            outputs: Arc::default(),
            before: FingerprintRecord::default(),
            after: FingerprintRecord::default(),
            locks_granted: false,
            cancel: None,
            gate: accepted.gate.as_ref().map(|gate| gate.place(&accepted.plan)),
            approval: Approval::Unasked,
            failure: None,
            epoch: record.epoch,
            sequence: 1,
            started_at: None,
            finished: None,
            accepted: accepted.clone(),
        })
    }

    /// Folds an event in.
    ///
    /// # Errors
    /// [`IllegalEvent`] when it does not fit the state; the state is as before then.
    pub fn apply(&mut self, record: &Record) -> Result<(), IllegalEvent> {
        self.check(record)
            .and_then(|()| self.fold(&record.event, record.at))
            .map_err(|why| IllegalEvent { sequence: record.sequence, kind: record.event.kind(), why })?;
        self.sequence = record.sequence;
        Ok(())
    }

    /// What must hold for any event.
    fn check(&self, record: &Record) -> Result<(), Why> {
        demand(record.sequence == self.sequence + 1, || {
            format!("sequence {} was expected", self.sequence + 1)
        })?;
        demand(self.finished.is_none(), || "the task has ended".to_owned())?;
        let epoch = match &record.event {
            Event::Recovered { epoch, .. } => {
                demand(*epoch == self.epoch + 1, || format!("epoch {} was expected", self.epoch + 1))?;
                *epoch
            }
            _ => self.epoch,
        };
        demand(record.epoch == epoch, || format!("it is of epoch {}, not of {epoch}", record.epoch))
    }

    fn fold(&mut self, event: &Event, at: Millis) -> Result<(), Why> {
        match event {
            Event::Accepted(_) => Err("it was accepted before".to_owned()),
            Event::Recovered { epoch, run_deaths, undo_deaths } => {
                self.epoch = *epoch;
                self.recovered(*run_deaths, *undo_deaths, at);
                Ok(())
            }
            Event::Planned { plan } => self.planned(plan, at),
            Event::LocksGranted => {
                demand(!self.held_whole(), || "nobody has approved it".to_owned())?;
                demand(!self.locks_granted, || "the locks were granted before".to_owned())?;
                self.locks_granted = true;
                Ok(())
            }
            Event::FingerprintStarted { phase, attempt } => self.fingerprint_started(*phase, *attempt, at),
            Event::FingerprintTaken { phase, attempt, digest, listing } => {
                self.fingerprint_taken(*phase, *attempt, digest, listing)
            }
            Event::FingerprintFailed { phase, attempt, error, then } => {
                self.fingerprint_failed(*phase, *attempt, error, *then, at)
            }
            Event::AttemptStarted { step, attempt } => self.attempt_started(self.find(step)?, *attempt, at),
            Event::AttemptSucceeded { step, attempt, output, adopted } => {
                self.attempt_succeeded(self.in_flight(step, *attempt, *adopted)?, output, at);
                Ok(())
            }
            Event::AttemptFailed { step, attempt, error, then } => {
                self.attempt_failed(self.in_flight(step, *attempt, false)?, error, *then, at);
                Ok(())
            }
            Event::Probed { step, verdict } => {
                self.probed(self.in_doubt(step)?, verdict, at);
                Ok(())
            }
            Event::ProbeFailed { step, error, then } => {
                self.probe_failed(self.in_doubt(step)?, error, *then, at);
                Ok(())
            }
            Event::UndoStarted { step, attempt } => self.undo_started(self.find(step)?, *attempt, at),
            Event::UndoSucceeded { step, attempt } => {
                self.undone(self.undo_in_flight(step, *attempt)?, at);
                Ok(())
            }
            Event::UndoFailed { step, attempt, error, then } => {
                self.undo_failed(self.undo_in_flight(step, *attempt)?, error, *then, at);
                Ok(())
            }
            Event::Parked { step, reason } => self.parked(self.find(step)?, reason, at),
            Event::CancelRequested { actor, reason } => {
                self.refuses_cancel().map_or(Ok(()), Err)?;
                self.cancel = Some((actor.clone(), reason.clone()));
                self.turned(at);
                Ok(())
            }
            Event::ApprovalAsked { until } => self.approval_asked(*until, at),
            Event::Approved { actor, reason } => self.approved(actor, reason, at),
            Event::ApprovalRefused { actor, reason } => self.refused(actor, reason, at),
            Event::ApprovalExpired => self.expired(at),
            Event::Resolved { step, verb, reason, actor } => {
                self.resolved(self.find(step)?, *verb, (actor, reason), at)
            }
            Event::Finished { outcome, verified, drift } => self.finish(*outcome, *verified, drift, at),
        }
    }

    fn finish(
        &mut self,
        outcome: Outcome,
        verified: Option<bool>,
        drift: &[Drift],
        at: Millis,
    ) -> Result<(), Why> {
        let due = self.next(at).start.into_iter().any(|command| match command {
            Command::Finish { outcome: ending } => Outcome::from(ending) == outcome,
            Command::Lock
            | Command::Ask
            | Command::Expire
            | Command::Fingerprint { .. }
            | Command::Run { .. }
            | Command::Probe { .. }
            | Command::Undo { .. } => false,
        });
        demand(due, || "it is not at its end".to_owned())?;
        self.finished = Some(Arc::new(Finish { at, outcome, verified, drift: drift.to_vec() }));
        Ok(())
    }

    fn find(&self, step: &str) -> Result<NodeIndex, Why> {
        self.plan().find(step).ok_or_else(|| format!("{step:?} is no step of the plan"))
    }

    fn enter(&mut self, step: NodeIndex, phase: Phase, at: Millis) -> &mut StepRecord {
        let record = &mut self.steps[step.index()];
        record.phase = phase;
        record.since = at;
        record
    }
}

fn stuck(stage: Stage, reason: &str, probe: Option<&str>) -> Phase {
    Phase::Stuck(Arc::new(Stuck { stage, reason: reason.to_owned(), probe: probe.map(str::to_owned) }))
}

fn demand(holds: bool, why: impl FnOnce() -> Why) -> Result<(), Why> {
    if holds { Ok(()) } else { Err(why()) }
}
