//! Approvals: a task may have to wait for a second person before it begins, before it closes its site or before its pivot. What a task is
//! asked for is fixed when it is accepted, and stands in its first event; no later change of a policy alters it. Pure.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::plan::{Doors, Plan};
use crate::task::{Actor, Millis};

/// Whom a task waits for, and before what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// The policy that asks for it.
    pub policy: String,
    /// Before what.
    pub before: Before,
    /// The persons who may approve, by their names without the way they come (`anna`, not `chat:anna`); empty: whoever has the scope.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvers: Vec<String>,
    /// How long they have, from when they are asked.
    pub within_ms: Millis,
}

/// Where a task waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Before {
    /// Before anything, locks too.
    Start,
    /// Before the first step that turns visitors away: everything that can be prepared is.
    Close,
    /// Before the pivot: the site may be closed meanwhile.
    Pivot,
}

impl Before {
    /// The word on every face.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Close => "close",
            Self::Pivot => "pivot",
        }
    }
}

impl Gate {
    /// Where it stands in a plan: one that has no such step is asked about before it begins.
    pub(crate) fn place(&self, plan: &Plan) -> Before {
        let there = match self.before {
            Before::Start => true,
            Before::Close => plan.steps().any(|(_, spec)| spec.doors == Some(Doors::Close)),
            Before::Pivot => plan.main_pivot().is_some(),
        };
        if there { self.before } else { Before::Start }
    }

    /// Why somebody may not approve, if they may not. Who asked for the task is known by name, whichever way they come.
    pub(crate) fn forbids(&self, who: &Actor, asked_by: &Actor) -> Option<String> {
        let name = person(who);
        if name == person(asked_by) {
            return Some("whoever asked for a task cannot approve it: a second person is needed".to_owned());
        }
        if !self.approvers.is_empty() && !self.approvers.iter().any(|approver| approver == name) {
            return Some(format!("only {} may approve this task", self.approvers.join(", ")));
        }
        None
    }

    /// Who is asked, in words.
    #[must_use]
    pub fn asked(&self) -> String {
        match &self.approvers[..] {
            [] => "a second person who may approve".to_owned(),
            some => some.join(" or "),
        }
    }
}

/// A person's name without the way they came: `token:anna` and `chat:anna` are one person.
fn person(actor: &Actor) -> &str {
    actor.name.split_once(':').map_or(actor.name.as_str(), |(_, name)| name)
}

/// What a policy looks at.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The workflow; `undo` of tasks that take back others.
    pub workflow: &'a str,
    /// The site it is about, if it is about one.
    pub site: Option<&'a str>,
    /// Its parameters.
    pub params: &'a Value,
}

/// Says which tasks need a second person. Asked once, when a task is accepted: pure and quick.
pub trait Gatekeeper: Send + Sync + 'static {
    /// The gate of a task; `None`: it needs nobody.
    fn gate(&self, wanted: Wanted<'_>) -> Option<Gate>;
}

/// Nobody is needed for anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllOpen;

impl Gatekeeper for AllOpen {
    fn gate(&self, _: Wanted<'_>) -> Option<Gate> {
        None
    }
}
