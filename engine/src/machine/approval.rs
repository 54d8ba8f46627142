//! The second person: which steps wait, when to ask and when to give up, and what is shown of it. Changes nothing.

use petgraph::graph::NodeIndex;

use super::{Answer, Approval, Command, Machine, Next};
use crate::gate::{Before, Gate};
use crate::mutants::bug;
use crate::plan::{Class, Doors};
use crate::task::{Actor, ApprovalState, ApprovalView, Millis};

impl Machine {
    /// The gate that the task was accepted with.
    pub(super) fn asked_gate(&self) -> Option<&Gate> {
        self.accepted.gate.as_ref()
    }

    /// Whether nothing at all may begin yet.
    pub(super) fn held_whole(&self) -> bool {
        self.gate == Some(Before::Start) && !self.is_granted()
    }

    /// Whether a step may not begin yet.
    pub(super) fn held(&self, step: NodeIndex) -> bool {
        let spec = self.spec(step);
        let waits = match self.gate {
            None => false,
            Some(Before::Start) => true,
            Some(Before::Close) => spec.doors == Some(Doors::Close),
            Some(Before::Pivot) => spec.class == Class::Pivot && spec.scope.is_none(),
        };
        waits && !self.is_granted()
    }

    fn is_granted(&self) -> bool {
        match self.approval {
            Approval::Granted(_) => true,
            Approval::Asked { .. } => bug("gate-stands-open"),
            Approval::Unasked | Approval::Refused(_) | Approval::Expired { .. } => false,
        }
    }

    /// Whether somebody is being asked.
    pub(crate) fn asks(&self) -> bool {
        matches!(self.approval, Approval::Asked { .. }) && !self.goes_back() && self.finished.is_none()
    }

    /// What is to be done about a gate that something has come to.
    pub(super) fn next_at_gate(&self, now: Millis, next: &mut Next) {
        match self.approval {
            Approval::Unasked => next.start.push(Command::Ask),
            Approval::Asked { until, .. } => next.at(until, now, Command::Expire),
            Approval::Granted(_) | Approval::Refused(_) | Approval::Expired { .. } => {}
        }
    }

    /// Until when somebody who is asked now has time.
    pub(crate) fn ask_until(&self, now: Millis) -> Millis {
        now.saturating_add(self.asked_gate().map_or(0, |gate| gate.within_ms))
    }

    /// Why somebody may not decide now, if they may not.
    #[must_use]
    pub fn refuses_decision(&self, approve: bool, actor: &Actor, now: Millis) -> Option<String> {
        let Some(gate) = self.asked_gate() else {
            return Some("the task needs nobody's approval".to_owned());
        };
        if self.finished.is_some() {
            return Some("the task has ended".to_owned());
        }
        match &self.approval {
            Approval::Granted(answer) => {
                return Some(format!("{} has approved it already", answer.actor.name));
            }
            Approval::Unasked => {
                return Some("the task has not come to where it needs an approval".to_owned());
            }
            Approval::Refused(_) | Approval::Expired { .. } => {
                return Some("the task is canceled".to_owned());
            }
            Approval::Asked { .. } if self.goes_back() => return Some("the task is rolling back".to_owned()),
            Approval::Asked { until, .. } if now >= *until => {
                return Some("the time for an approval is over".to_owned());
            }
            Approval::Asked { .. } => {}
        }
        // Saying no to one's own is a cancel, and allowed as one.
        if approve { gate.forbids(actor, &self.accepted.actor) } else { None }
    }

    /// Whether somebody has approved it where this policy asked.
    pub(crate) fn approved_under(&self, policy: &str) -> bool {
        let asked = self.asked_gate().is_some_and(|gate| gate.policy == policy);
        asked && matches!(self.approval, Approval::Granted(_))
    }

    /// What a page shows of it.
    pub(super) fn approval_view(&self) -> Option<ApprovalView> {
        let (gate, before) = (self.asked_gate()?, self.gate?);
        let mut view = ApprovalView {
            state: ApprovalState::NotYet,
            policy: gate.policy.clone(),
            before: before.as_str().to_owned(),
            approvers: gate.approvers.clone(),
            asked_at: None,
            until: None,
            by: None,
            reason: None,
            decided_at: None,
        };
        let mut decided = |state, at, answer: Option<&Answer>| {
            view.state = state;
            view.decided_at = Some(at);
            view.by = answer.map(|answer| answer.actor.clone());
            view.reason = answer.map(|answer| answer.reason.clone()).filter(|reason| !reason.is_empty());
        };
        match &self.approval {
            Approval::Unasked => {}
            Approval::Asked { at, until } => {
                let state = if self.asks() { ApprovalState::Asked } else { ApprovalState::Withdrawn };
                (view.state, view.asked_at, view.until) = (state, Some(*at), Some(*until));
            }
            Approval::Granted(answer) => decided(ApprovalState::Granted, answer.at, Some(answer)),
            Approval::Refused(answer) => decided(ApprovalState::Refused, answer.at, Some(answer)),
            Approval::Expired { at } => decided(ApprovalState::Expired, *at, None),
        }
        Some(view)
    }

    /// What it waits for, in words, since and until when.
    pub(super) fn waits_for_person(&self) -> Option<(String, Millis, Millis)> {
        let (Approval::Asked { at, until }, true) = (&self.approval, self.asks()) else { return None };
        let (gate, before) = (self.asked_gate()?, self.gate?);
        let what = match before {
            Before::Start => "before it starts",
            Before::Close => "before the site is closed",
            Before::Pivot => "before its point of no return",
        };
        Some((format!("the approval of {} {what} (policy {})", gate.asked(), gate.policy), *at, *until))
    }
}
