//! What a machine remembers of each step and fingerprint. Plain data: it changes in `apply` only.

use std::sync::Arc;

use crate::event::Outcome;
use crate::step::StepError;
use crate::store::BlobId;
use crate::task::{Actor, Drift, Millis};

/// The end of a task.
#[derive(Clone, Debug)]
pub(super) struct Finish {
    pub(super) at: Millis,
    pub(super) outcome: Outcome,
    pub(super) verified: Option<bool>,
    pub(super) drift: Vec<Drift>,
}

/// How far a task is with the second person it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Approval {
    /// Nobody is asked yet, or nobody is needed.
    Unasked,
    Asked {
        at: Millis,
        until: Millis,
    },
    Granted(Arc<Answer>),
    Refused(Arc<Answer>),
    Expired {
        at: Millis,
    },
}

/// What a second person said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) actor: Actor,
    pub(super) reason: String,
    pub(super) at: Millis,
}

/// A step's state.
#[derive(Clone, Debug)]
pub(super) struct StepRecord {
    pub(super) phase: Phase,
    /// Whether something of its effect may be there: from the start of an attempt until an undo, or a probe that found nothing.
    pub(super) dirty: bool,
    /// Attempts started, over the whole life: an attempt's number.
    pub(super) attempts: u32,
    pub(super) undo_attempts: u32,
    /// What the retry policies count, since the last fresh start.
    pub(super) runs: Tries,
    pub(super) probes: Tries,
    pub(super) undos: Tries,
    pub(super) started_at: Option<Millis>,
    pub(super) finished_at: Option<Millis>,
    pub(super) undone_at: Option<Millis>,
    /// When the phase changed last.
    pub(super) since: Millis,
    pub(super) error: Option<Arc<StepError>>,
    pub(super) undo_error: Option<Arc<StepError>>,
    /// Who left it as it is, and why.
    pub(super) abandoned: Option<Arc<(Actor, String)>>,
}

/// Failed tries of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tries {
    pub(super) failures: u32,
    /// Deaths of the process meanwhile.
    pub(super) deaths: u32,
    /// When the first one began.
    pub(super) first_began: Millis,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Pending,
    Running,
    /// Failed; the next attempt is due at this time.
    Waiting(Millis),
    /// Started, result unknown; the next probe is due at this time.
    InDoubt(Millis),
    Succeeded,
    /// Failed for good.
    Failed,
    /// Half applied: to be undone, then run again.
    Redo,
    Undoing,
    /// The next undo attempt is due at this time.
    UndoWaiting(Millis),
    Undone,
    /// Nothing goes on before a person decides.
    Stuck(Arc<Stuck>),
    /// Left as it is by a person.
    Abandoned,
}

/// What a person has to know of a stuck step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stuck {
    pub(super) stage: Stage,
    pub(super) reason: String,
    /// What the last probe saw.
    pub(super) probe: Option<String>,
}

/// Where a stuck step goes on when it is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It can simply be run.
    Run,
    /// It has to be probed first.
    Probe,
    /// It has to be undone.
    Undo,
}

#[derive(Clone, Debug, Default)]
pub(super) struct FingerprintRecord {
    pub(super) phase: FingerprintState,
    pub(super) attempts: u32,
    pub(super) tries: Tries,
    pub(super) error: Option<StepError>,
}

#[derive(Clone, Debug, Default)]
pub(super) enum FingerprintState {
    #[default]
    Pending,
    Running,
    Waiting(Millis),
    Taken {
        digest: String,
        listing: BlobId,
    },
    Failed,
}

impl StepRecord {
    pub(super) fn new(at: Millis) -> Self {
        Self {
            phase: Phase::Pending,
            dirty: false,
            attempts: 0,
            undo_attempts: 0,
            runs: Tries::default(),
            probes: Tries::default(),
            undos: Tries::default(),
            started_at: None,
            finished_at: None,
            undone_at: None,
            since: at,
            error: None,
            undo_error: None,
            abandoned: None,
        }
    }
}

impl Tries {
    /// A try begins: the first one of a row sets the time that the policy's budget counts from.
    pub(super) fn begin(&mut self, at: Millis) {
        if self.failures == 0 && self.deaths == 0 {
            self.first_began = at;
        }
    }

    /// The process ended during a try; how often so far.
    pub(super) fn died(&mut self) -> u32 {
        self.deaths += 1;
        self.deaths
    }

    pub(super) fn counted(&self) -> (u32, Millis) {
        (self.failures, self.first_began)
    }
}

impl Phase {
    pub(super) fn stage(&self) -> Option<Stage> {
        match self {
            Self::Stuck(stuck) => Some(stuck.stage),
            Self::Pending
            | Self::Running
            | Self::Waiting(_)
            | Self::InDoubt(_)
            | Self::Succeeded
            | Self::Failed
            | Self::Redo
            | Self::Undoing
            | Self::UndoWaiting(_)
            | Self::Undone
            | Self::Abandoned => None,
        }
    }

    /// Whether what comes after it may begin.
    pub(super) fn is_done(&self) -> bool {
        matches!(self, Self::Succeeded | Self::Abandoned)
    }
}
