//! The kinds of step that tests plan with: one for each class, all acting on the [`World`], and the fingerprint.

use kedge_engine::context::Cx;
use kedge_engine::plan::Doors;
use kedge_engine::retry::Policy;
use kedge_engine::step::{
    Compensable, Compensate, Covered, CoveredBy, Pivot, Probe, Query, Ref, Retriable, Step, StepError,
    StepKinds,
};
use serde::{Deserialize, Serialize};

use crate::world::World;

/// What a step left at a key, or saw there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    pub key: String,
    pub value: Option<String>,
}

/// How a step's probe answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeStyle {
    /// As it is.
    Honest,
    /// As it is, and goes on from a half.
    Resumes,
    /// Never looks: the run can simply be repeated.
    Repeat,
}

/// What all test steps are made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Act {
    pub key: String,
    pub value: String,
    /// Whether it changes anything.
    pub acts: bool,
    /// Whether its errors have to be true.
    pub decides: bool,
    /// Who saw what its undo puts back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Ref<Made>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<Ref<Made>>,
    pub probe: ProbeStyle,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    #[serde(skip, default = "Planned::usual")]
    pub planned: Planned,
}

/// What only the plan needs to know.
#[derive(Clone, Debug)]
pub struct Planned {
    pub policy: Policy,
    pub undo_policy: Policy,
    pub slot: Option<String>,
    pub doors: Option<Doors>,
    pub reports: bool,
}

impl Planned {
    fn usual() -> Self {
        Self { policy: QUICK, undo_policy: PATIENT, slot: None, doors: None, reports: false }
    }
}

/// Three tries within a minute, a second each.
pub const QUICK: Policy =
    Policy { limit_ms: 1000, attempts: 3, first_ms: 100, cap_ms: 1000, budget_ms: 60_000 };
/// Six tries within ten minutes.
pub const PATIENT: Policy =
    Policy { limit_ms: 1000, attempts: 6, first_ms: 100, cap_ms: 5000, budget_ms: 600_000 };

impl Act {
    /// Sets a key to `made`.
    pub fn on(key: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            value: "made".to_owned(),
            acts: true,
            decides: false,
            before: None,
            needs: Vec::new(),
            probe: ProbeStyle::Honest,
            claim: None,
            record: None,
            planned: Planned::usual(),
        }
    }

    pub fn value(self, value: &str) -> Self {
        Self { value: value.to_owned(), ..self }
    }

    pub fn before(self, seen: &Ref<Made>) -> Self {
        Self { before: Some(seen.clone()), ..self }
    }

    pub fn needs(self, needs: &[&Ref<Made>]) -> Self {
        Self { needs: needs.iter().map(|need| (*need).clone()).collect(), ..self }
    }

    pub fn slot(mut self, slot: &str) -> Self {
        self.planned.slot = Some(slot.to_owned());
        self
    }

    pub fn doors(mut self, doors: Doors) -> Self {
        self.planned.doors = Some(doors);
        self
    }

    pub fn probe(self, probe: ProbeStyle) -> Self {
        Self { probe, ..self }
    }

    pub fn claim(self, name: &str) -> Self {
        Self { claim: Some(name.to_owned()), ..self }
    }

    pub fn record(self, name: &str) -> Self {
        Self { record: Some(name.to_owned()), ..self }
    }

    pub fn policy(mut self, policy: Policy) -> Self {
        self.planned.policy = policy;
        self
    }
}

macro_rules! step {
    ($name:ident, $mode:ty, $kind:literal) => {
        #[derive(Clone, Debug, Serialize, Deserialize)]
        pub struct $name(pub Act);

        impl Step for $name {
            type Ports = World;
            type Output = Made;
            type Mode = $mode;
            const KIND: &'static str = $kind;

            fn title(&self) -> String {
                format!("{} {}", $kind, self.0.key)
            }
            async fn run(&self, cx: &Cx<'_, World>) -> Result<Made, StepError> {
                cx.ports.run(cx, &self.0).await
            }
            async fn probe(&self, cx: &Cx<'_, World>) -> Result<Probe<Made>, StepError> {
                cx.ports.probe(cx, &self.0).await
            }
            fn policy(&self) -> Policy {
                self.0.planned.policy
            }
            fn slot(&self) -> Option<String> {
                self.0.planned.slot.clone()
            }
            fn doors(&self) -> Option<Doors> {
                self.0.planned.doors
            }
            fn reports(&self) -> bool {
                self.0.planned.reports
            }
            fn by_hand(&self) -> Vec<String> {
                vec![format!("look at {}", self.0.key)]
            }
        }
    };
}

step!(Look, Query, "look");
step!(Make, Compensable, "make");
step!(Fill, Covered, "fill");
step!(Decide, Pivot, "decide");
step!(Tidy, Retriable, "tidy");

impl Look {
    pub fn at(key: impl Into<String>) -> Self {
        Self(Act { acts: false, ..Act::on(key) })
    }
}

impl Decide {
    pub fn on(act: Act) -> Self {
        Self(Act { decides: true, ..act })
    }
}

impl Compensate for Make {
    fn undo_title(&self) -> String {
        format!("remove {}", self.0.key)
    }
    async fn undo(&self, cx: &Cx<'_, World>) -> Result<(), StepError> {
        cx.ports.undo(cx, &self.0).await
    }
    fn undo_policy(&self) -> Policy {
        self.0.planned.undo_policy
    }
}

impl CoveredBy for Fill {
    fn covered_by(&self) -> String {
        "it goes with its folder".to_owned()
    }
}

/// The fingerprint: all resources whose keys begin so.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Print(pub Vec<String>);

impl Step for Print {
    type Ports = World;
    type Output = std::collections::BTreeMap<String, std::collections::BTreeMap<String, String>>;
    type Mode = Query;
    const KIND: &'static str = "print";

    fn title(&self) -> String {
        "look at everything".to_owned()
    }
    async fn run(&self, cx: &Cx<'_, World>) -> Result<Self::Output, StepError> {
        let seen = cx.ports.print(cx, &self.0).await?;
        Ok([("world".to_owned(), seen)].into())
    }
    fn policy(&self) -> Policy {
        QUICK
    }
}

/// All kinds.
pub fn kinds() -> StepKinds<World> {
    StepKinds::new()
        .with::<Look>()
        .with::<Make>()
        .with::<Fill>()
        .with::<Decide>()
        .with::<Tidy>()
        .with::<Print>()
}
