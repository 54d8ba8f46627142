//! How a task looks from outside. Changes nothing.

use petgraph::graph::NodeIndex;
use serde_json::{Map, Value};

use super::{Command, FingerprintState, Machine, Phase, Stage};
use crate::event::Outcome;
use crate::plan::{Class, Doors, Plan, StepSpec, UndoSpec};
use crate::task::{
    FailureView, Incident, Millis, OutcomeView, StepStateView, StepView, StuckStep, TaskState, TaskView,
    UndoView,
};

impl Machine {
    /// Where the task stands. The time plays no part: what waits for its time waits until an event says that it went on.
    #[must_use]
    pub fn state(&self) -> TaskState {
        match self.outcome() {
            Some(Outcome::Succeeded) => return TaskState::Succeeded,
            Some(Outcome::RolledBack) => return TaskState::RolledBack,
            Some(Outcome::Canceled) => return TaskState::Canceled,
            None => {}
        }
        let back = self.goes_back();
        if !back && self.started_at.is_none() && !self.any_stuck() {
            return if self.asks() { TaskState::Waiting } else { TaskState::Queued };
        }
        let waiting = self.asks()
            || self.steps.iter().any(|step| matches!(step.phase, Phase::Waiting(_)))
            || matches!(self.before.phase, FingerprintState::Waiting(_));
        if (self.any_stuck() || (waiting && !back)) && !self.anything_runs() {
            let next = self.next(Millis::MAX).start;
            if next.is_empty() && self.any_stuck() {
                return TaskState::Stuck;
            }
            if !back && waiting && next.iter().all(|command| self.is_retry(*command)) {
                return TaskState::Waiting;
            }
        }
        if back { TaskState::Compensating } else { TaskState::Running }
    }

    fn any_stuck(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.phase, Phase::Stuck(_)))
    }

    fn anything_runs(&self) -> bool {
        let running = |state: &FingerprintState| matches!(state, FingerprintState::Running);
        self.steps.iter().any(|step| matches!(step.phase, Phase::Running | Phase::Undoing))
            || running(&self.before.phase)
            || running(&self.after.phase)
    }

    fn is_retry(&self, command: Command) -> bool {
        match command {
            Command::Run { step, .. } => matches!(self.record(step).phase, Phase::Waiting(_)),
            Command::Fingerprint { after: false, .. } => {
                matches!(self.before.phase, FingerprintState::Waiting(_))
            }
            // Nothing else goes on before the time for an approval is over.
            Command::Expire => true,
            Command::Fingerprint { after: true, .. }
            | Command::Ask
            | Command::Lock
            | Command::Probe { .. }
            | Command::Undo { .. }
            | Command::Finish { .. } => false,
        }
    }

    /// What the task waits for, if it is a time: the kind (`approval`, `time`, `retry`), in words, since when, until when.
    pub(crate) fn waits(&self, now: Millis) -> Option<(&'static str, String, Millis, Millis)> {
        if let Some((what, since, until)) = self.waits_for_person()
            && !self.anything_runs()
        {
            return Some(("approval", what, since, until));
        }
        if let Some(at) = self.accepted.not_before
            && now < at
            && self.started_at.is_none()
            && !self.locks_granted
        {
            return Some(("time", "its start".to_owned(), self.created_at, at));
        }
        if self.anything_runs() {
            return None;
        }
        let waits = self.plan().steps().filter_map(|(step, spec)| {
            let record = self.record(step);
            let (what, at, error) = match record.phase {
                Phase::Waiting(at) if !self.goes_back() || self.outlives(step) => {
                    ("attempt", at, &record.error)
                }
                Phase::InDoubt(at) => ("probe", at, &record.error),
                Phase::UndoWaiting(at) => ("undo", at, &record.undo_error),
                Phase::Pending
                | Phase::Running
                | Phase::Waiting(_)
                | Phase::Succeeded
                | Phase::Failed
                | Phase::Redo
                | Phase::Undoing
                | Phase::Undone
                | Phase::Stuck(_)
                | Phase::Abandoned => return None,
            };
            let why = error.as_ref().map(|error| error.message.as_str()).unwrap_or_default();
            (at > now).then(|| {
                ("retry", format!("the next {what} of {}, after: {why}", spec.name), record.since, at)
            })
        });
        waits.min_by_key(|(.., at)| *at)
    }

    /// The task's page. `blocked_on`, progress and its version are the executor's to fill in.
    #[must_use]
    pub fn view(&self, now: Millis) -> TaskView {
        let accepted = &self.accepted;
        let rest = self.plan().rest();
        TaskView {
            id: accepted.task.clone(),
            workflow: accepted.workflow.clone(),
            site: rest.site.clone(),
            state: self.state(),
            params: accepted.params.clone(),
            steps: self.plan().steps().map(|(index, spec)| self.step_view(index, spec)).collect(),
            outcome: self
                .finished
                .as_ref()
                .map(|finish| OutcomeView { verified: finish.verified, drift: finish.drift.clone() }),
            result: self.result(),
            downtime_ms: self.downtime(now),
            blocked_on: None,
            approval: self.approval_view(),
            incident: self.incident(),
            error: self.failure.as_ref().map(|(step, error)| FailureView {
                step: step.clone(),
                title: self
                    .plan()
                    .find(step)
                    .map_or_else(|| step.clone(), |index| self.spec(index).title.clone()),
                detail: error.message.clone(),
            }),
            correlation_id: accepted.correlation_id.clone(),
            priority: accepted.priority,
            trace: accepted.trace.clone(),
            actor: accepted.actor.clone(),
            plan_hash: accepted.plan_hash.clone(),
            created_at: self.created_at,
            started_at: self.started_at,
            finished_at: self.finished.as_ref().map(|finish| finish.at),
            undo_until: self.undo_until().filter(|until| now <= *until),
            sequence: self.sequence,
            progress_version: 0,
        }
    }

    /// Until when the finished task can be taken back.
    #[must_use]
    pub fn undo_until(&self) -> Option<Millis> {
        let hold = self.plan().rest().hold_ms?;
        let finish = self.finished.as_ref().filter(|finish| finish.outcome == Outcome::Succeeded)?;
        Some(finish.at.saturating_add(hold))
    }

    fn step_view(&self, index: NodeIndex, spec: &StepSpec) -> StepView {
        let record = &self.steps[index.index()];
        let mut view = pending_step(self.plan(), index, spec);
        view.state = self.step_state(index);
        view.attempts = record.attempts;
        view.started_at = record.started_at;
        view.finished_at = record.finished_at;
        view.error = record.error.as_deref().cloned();
        view.undo.attempts = record.undo_attempts;
        view.undo.error = record.undo_error.as_deref().cloned();
        view.undo.finished_at = record.undone_at;
        view
    }

    fn step_state(&self, index: NodeIndex) -> StepStateView {
        let back = self.goes_back();
        let ended = self.finished.is_some();
        let record = self.record(index);
        // An attempt that the turn round found waiting or in doubt is over, but for what goes forward all the same.
        let over = back && !self.outlives(index);
        let decides = self.spec(index).class == Class::Pivot;
        match &record.phase {
            Phase::Pending if back && record.dirty => StepStateView::Failed,
            Phase::Pending if back || ended => StepStateView::Skipped,
            Phase::Pending => StepStateView::Pending,
            Phase::Running => StepStateView::Running,
            Phase::Waiting(_) if over => StepStateView::Failed,
            Phase::InDoubt(_) if over && !decides => StepStateView::Failed,
            Phase::Waiting(_) => StepStateView::Waiting,
            Phase::InDoubt(_) => StepStateView::InDoubt,
            Phase::Failed => StepStateView::Failed,
            Phase::Succeeded => StepStateView::Succeeded,
            Phase::Abandoned => StepStateView::Abandoned,
            Phase::Redo | Phase::Undoing | Phase::UndoWaiting(_) => StepStateView::Undoing,
            Phase::Undone => StepStateView::Undone,
            Phase::Stuck(_) => StepStateView::Stuck,
        }
    }

    /// The outputs of the steps that report, merged in the plan's order.
    fn result(&self) -> Value {
        let mut result = Map::new();
        for (_, spec) in self.plan().steps().filter(|(_, spec)| spec.reports) {
            if let Some(Value::Object(output)) = self.outputs.get(&spec.name).map(|output| &**output) {
                result.extend(output.clone());
            }
        }
        Value::Object(result)
    }

    /// From the first attempt to close the site until it was open again, in milliseconds: an upper bound of what visitors saw.
    fn downtime(&self, now: Millis) -> Option<u64> {
        let with = |doors: Doors| {
            self.plan()
                .steps()
                .filter(move |(_, spec)| spec.doors == Some(doors))
                .map(|(index, _)| &self.steps[index.index()])
        };
        let closed = with(Doors::Close).filter_map(|step| step.started_at).min()?;
        let opened = with(Doors::Open).filter_map(|step| step.finished_at).max();
        let reopened = with(Doors::Close).filter_map(|step| step.undone_at).max();
        let ended = self.finished.as_ref().map(|finish| finish.at);
        let until = opened.or(reopened).or(ended).unwrap_or(now);
        Some(until.saturating_sub(closed))
    }

    fn incident(&self) -> Option<Incident> {
        let steps: Vec<StuckStep> = self
            .plan()
            .steps()
            .filter_map(|(index, spec)| {
                let record = &self.steps[index.index()];
                let Phase::Stuck(stuck) = &record.phase else { return None };
                let phase = match stuck.stage {
                    Stage::Run | Stage::Probe => "run",
                    Stage::Undo => "undo",
                };
                Some(StuckStep {
                    step: spec.name.clone(),
                    phase: phase.to_owned(),
                    reason: stuck.reason.clone(),
                    probe: stuck.probe.clone(),
                    by_hand: spec.by_hand.clone(),
                    since: record.since,
                })
            })
            .collect();
        if steps.is_empty() || self.finished.is_some() {
            return None;
        }
        let verbs = ["retry", "mark_undone", "abandon"].map(str::to_owned).to_vec();
        Some(Incident { steps, verbs })
    }
}

/// A step of a plan that was not started.
#[must_use]
pub(crate) fn pending_step(plan: &Plan, index: NodeIndex, spec: &StepSpec) -> StepView {
    let title = match &spec.undo {
        UndoSpec::Own { title } => title.clone(),
        UndoSpec::None { why } => why.clone(),
    };
    let mut after: Vec<String> = plan.before(index).map(|before| plan.step(before).name.clone()).collect();
    after.sort();
    StepView {
        name: spec.name.clone(),
        title: spec.title.clone(),
        class: spec.class,
        state: StepStateView::Pending,
        attempts: 0,
        started_at: None,
        finished_at: None,
        progress: None,
        error: None,
        undo: UndoView { title, attempts: 0, error: None, finished_at: None },
        after,
    }
}
