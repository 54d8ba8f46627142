//! How a task looks from outside. Changes nothing.

use petgraph::graph::NodeIndex;
use serde_json::{Map, Value};

use super::{Machine, Phase};
use crate::event::Outcome;
use crate::plan::{Doors, Plan, StepSpec, UndoSpec};
use crate::task::{
    FailureView, Incident, Millis, OutcomeView, StepStateView, StepView, StuckStep, TaskState, TaskView,
    UndoView,
};

impl Machine {
    /// Where the task stands at `now`.
    #[must_use]
    pub fn state(&self, now: Millis) -> TaskState {
        match self.outcome() {
            Some(Outcome::Succeeded) => return TaskState::Succeeded,
            Some(Outcome::RolledBack) => return TaskState::RolledBack,
            Some(Outcome::Canceled) => return TaskState::Canceled,
            None => {}
        }
        let running = self.steps.iter().any(|step| matches!(step.phase, Phase::Running | Phase::Undoing));
        if self.steps.iter().any(|step| matches!(step.phase, Phase::Stuck { .. })) && !running {
            let next = self.next(now);
            if next.start.is_empty() && next.wake.is_none() {
                return TaskState::Stuck;
            }
        }
        if self.goes_back() {
            return TaskState::Compensating;
        }
        if self.started_at.is_none() {
            return TaskState::Queued;
        }
        let waiting = self.steps.iter().any(|step| matches!(step.phase, Phase::Waiting(_)));
        if waiting && !running && self.next(now).start.is_empty() {
            return TaskState::Waiting;
        }
        TaskState::Running
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
            state: self.state(now),
            params: accepted.params.clone(),
            steps: self.plan().steps().map(|(index, spec)| self.step_view(index, spec)).collect(),
            outcome: self
                .finished
                .as_ref()
                .map(|(_, _, verified, drift)| OutcomeView { verified: *verified, drift: drift.clone() }),
            result: self.result(),
            downtime_ms: self.downtime(now),
            blocked_on: None,
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
            actor: accepted.actor.clone(),
            plan_hash: accepted.plan_hash.clone(),
            created_at: self.created_at,
            started_at: self.started_at,
            finished_at: self.finished.as_ref().map(|(at, ..)| *at),
            undo_until: self.undo_until(),
            sequence: self.sequence,
            progress_version: 0,
        }
    }

    /// Until when the finished task can be taken back.
    #[must_use]
    pub fn undo_until(&self) -> Option<Millis> {
        match (&self.finished, self.plan().rest().hold_ms) {
            (Some((at, Outcome::Succeeded, ..)), Some(hold)) => Some(at + hold),
            _ => None,
        }
    }

    fn step_view(&self, index: NodeIndex, spec: &StepSpec) -> StepView {
        let record = &self.steps[index.index()];
        let mut view = pending_step(self.plan(), index, spec);
        view.state = self.step_state(index);
        view.attempts = record.attempts;
        view.started_at = record.started_at;
        view.finished_at = record.finished_at;
        view.error = record.error.clone();
        view.undo.attempts = record.undo_attempts;
        view.undo.error = record.undo_error.clone();
        view.undo.finished_at = record.undone_at;
        view
    }

    fn step_state(&self, index: NodeIndex) -> StepStateView {
        let back = self.goes_back();
        let ended = self.finished.is_some();
        match self.steps[index.index()].phase {
            Phase::Pending if back || ended => StepStateView::Skipped,
            Phase::Pending => StepStateView::Pending,
            Phase::Running => StepStateView::Running,
            Phase::Waiting(_) if !back => StepStateView::Waiting,
            Phase::InDoubt(_) if !back => StepStateView::InDoubt,
            Phase::Waiting(_) | Phase::InDoubt(_) | Phase::Failed => StepStateView::Failed,
            Phase::Succeeded | Phase::Abandoned => StepStateView::Succeeded,
            Phase::Redo | Phase::Undoing | Phase::UndoWaiting(_) => StepStateView::Undoing,
            Phase::Undone => StepStateView::Undone,
            Phase::Stuck { .. } => StepStateView::Stuck,
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
        let ended = self.finished.as_ref().map(|(at, ..)| *at);
        let until = opened.or(reopened).or(ended).unwrap_or(now);
        Some(until.saturating_sub(closed))
    }

    fn incident(&self) -> Option<Incident> {
        let steps: Vec<StuckStep> = self
            .plan()
            .steps()
            .filter_map(|(index, spec)| {
                let record = &self.steps[index.index()];
                let Phase::Stuck { undo, reason, probe } = &record.phase else { return None };
                Some(StuckStep {
                    step: spec.name.clone(),
                    phase: if *undo { "undo" } else { "run" }.to_owned(),
                    reason: reason.clone(),
                    probe: probe.clone(),
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
