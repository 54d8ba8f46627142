//! A task's plan: a checked DAG of steps, stored whole with the task. Pure data: it runs nothing.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::retry::Policy;

/// Most steps of a plan: each costs a few events, and a person has to be able to look at it.
pub const MAX_STEPS: usize = 512;
/// Longest name of a step: it is part of keys and file names.
pub const MAX_NAME: usize = 64;
/// Longest name of a site or of a locked resource, in bytes: they are part of keys, beside a task's id. Site names have 253 at most.
pub const MAX_RESOURCE: usize = 300;
/// Most locks of a plan: they are granted and given back in one batch.
pub const MAX_LOCKS: usize = 256;

/// What a step may do and what follows from its failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Only looks.
    Query,
    /// Acts, and its effect is taken back when the task fails before the pivot.
    Compensable,
    /// The decision: once it has succeeded, its scope only goes forward.
    Pivot,
    /// Comes after the pivot and is tried until it succeeds.
    Retriable,
}

/// How the effect of a step is taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "undo", rename_all = "snake_case")]
pub enum UndoSpec {
    /// By its own undo, which does this.
    Own {
        /// In words.
        title: String,
    },
    /// By nothing of its own: it has no effect of its own, or another step's undo takes it back.
    None {
        /// Why not.
        why: String,
    },
}

/// What a step does to the time in which visitors are turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doors {
    /// It closes the site; its undo opens it.
    Close,
    /// It opens the site.
    Open,
}

/// A step of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepSpec {
    /// Name, unique in the plan: `[a-z0-9_.-]`.
    pub name: String,
    /// Kind, by which the running binary finds its code.
    pub kind: String,
    /// What it does, in words.
    pub title: String,
    /// Class.
    pub class: Class,
    /// The step itself, as data.
    pub params: Value,
    /// The sub-task it belongs to; `None`: the task's own. A sub-task commits at its own pivot and is not undone afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Its undo.
    pub undo: UndoSpec,
    /// For its run.
    pub run_policy: Policy,
    /// For its undo.
    pub undo_policy: Policy,
    /// A server's slot it needs while it runs, such as `db1 import`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// What it does to visitors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doors: Option<Doors>,
    /// Whether its output is part of the task's result.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reports: bool,
    /// What a person would do by hand if it got stuck.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_hand: Vec<String>,
}

/// A lock that a task holds from before its first step to its end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Lock {
    /// What is locked: `site shop.test`, `platform wordpress-69`.
    pub resource: String,
    /// Whether other shared locks on it are allowed.
    pub shared: bool,
}

impl Lock {
    /// What stands in the journal under a held lock.
    pub(crate) fn value(&self) -> &'static [u8] {
        if self.shared { b"shared" } else { b"exclusive" }
    }
}

/// A checked plan.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "PlanData")]
pub struct Plan {
    graph: DiGraph<StepSpec, ()>,
    order: Vec<NodeIndex>,
    by_name: BTreeMap<String, NodeIndex>,
    /// For each step by its index, the pivot of its scope.
    pivots: Vec<Option<NodeIndex>>,
    /// The pivot of the task itself.
    pivot: Option<NodeIndex>,
    rest: Rest,
}

/// What a plan says besides its steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rest {
    /// The site it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// Locks, sorted, each resource once.
    #[serde(default)]
    pub locks: Vec<Lock>,
    /// A query step that fingerprints every resource the plan will touch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<StepSpec>,
    /// The resources of the fingerprint, in words.
    #[serde(default)]
    pub resources: Vec<String>,
    /// Remarks for the person who decides.
    #[serde(default)]
    pub notes: Vec<String>,
    /// How long the finished task can be taken back, in milliseconds; absent: it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_ms: Option<u64>,
}

/// A plan as it is stored: its steps and edges, and [`Rest`] beside them.
#[derive(Deserialize)]
struct PlanData {
    steps: Vec<StepSpec>,
    edges: Vec<(String, String)>,
    #[serde(default)]
    site: Option<String>,
    #[serde(default)]
    locks: Vec<Lock>,
    #[serde(default)]
    fingerprint: Option<StepSpec>,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    notes: Vec<String>,
    #[serde(default)]
    hold_ms: Option<u64>,
}

/// The same, borrowed for writing.
#[derive(PartialEq, Serialize)]
struct PlanView<'a> {
    steps: Vec<&'a StepSpec>,
    edges: Vec<(&'a str, &'a str)>,
    #[serde(flatten)]
    rest: &'a Rest,
}

/// Why steps and edges make no plan.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PlanError {
    /// More than [`MAX_STEPS`], or none.
    #[error("a plan has 1 to {MAX_STEPS} steps, this one has {0}")]
    Size(usize),
    /// A name is used twice.
    #[error("two steps are named {0:?}")]
    Duplicate(String),
    /// A name breaks the rules.
    #[error("{0:?} is no name for a step: [a-z0-9_.-], 1 to {MAX_NAME} characters")]
    BadName(String),
    /// An edge names no step.
    #[error("{0:?} is not a step of the plan")]
    Unknown(String),
    /// The steps wait for each other.
    #[error("the step {0:?} waits for itself")]
    Cycle(String),
    /// More than one pivot in a scope.
    #[error("{0} has two pivots, {1:?} and {2:?}")]
    TwoPivots(String, String, String),
    /// A step that can fail the task is not before the pivot.
    #[error("{0:?} is {1:?} and must come before the pivot {2:?}, since after it nothing is undone")]
    NotBeforePivot(String, Class, String),
    /// A retriable step is not after the pivot.
    #[error(
        "{0:?} is retriable and must come after a pivot of its scope, since before it a failure undoes everything"
    )]
    NotAfterPivot(String),
    /// A sub-task goes beyond the task's own pivot.
    #[error("{0:?} of a sub-task must come before the task's pivot {1:?}")]
    ScopeAfterPivot(String, String),
    /// A resource is locked twice.
    #[error("{0:?} is locked twice")]
    DoubleLock(String),
    /// More than [`MAX_LOCKS`].
    #[error("a plan has {MAX_LOCKS} locks at most, this one has {0}")]
    Locks(usize),
    /// A site or locked resource that cannot be part of a key.
    #[error("{0:?} is no name for a site or resource: 1 to {MAX_RESOURCE} bytes, without NUL")]
    BadResource(String),
}

impl Plan {
    /// Checks steps and edges.
    ///
    /// # Errors
    /// See [`PlanError`]: whatever makes rollback ambiguous is refused here, once, and trusted afterwards.
    pub fn new(steps: Vec<StepSpec>, edges: &[(String, String)], mut rest: Rest) -> Result<Self, PlanError> {
        if steps.is_empty() || steps.len() > MAX_STEPS {
            return Err(PlanError::Size(steps.len()));
        }
        let mut graph = DiGraph::new();
        let mut by_name = BTreeMap::new();
        for step in steps {
            check_name(&step.name)?;
            let name = step.name.clone();
            let index = graph.add_node(step);
            if by_name.insert(name.clone(), index).is_some() {
                return Err(PlanError::Duplicate(name));
            }
        }
        for (from, to) in edges {
            let find =
                |name: &String| by_name.get(name).copied().ok_or_else(|| PlanError::Unknown(name.clone()));
            graph.update_edge(find(from)?, find(to)?, ());
        }
        let order = petgraph::algo::toposort(&graph, None)
            .map_err(|cycle| PlanError::Cycle(graph[cycle.node_id()].name.clone()))?;
        rest.locks.sort();
        if let Some(pair) = rest.locks.windows(2).find(|pair| pair[0].resource == pair[1].resource) {
            return Err(PlanError::DoubleLock(pair[0].resource.clone()));
        }
        if rest.locks.len() > MAX_LOCKS {
            return Err(PlanError::Locks(rest.locks.len()));
        }
        for name in rest.site.iter().chain(rest.locks.iter().map(|lock| &lock.resource)) {
            check_resource(name)?;
        }
        let mut plan = Self { graph, order, by_name, pivots: Vec::new(), pivot: None, rest };
        plan.check_classes()?;
        plan.pivot = plan.pivot(None);
        plan.pivots = plan.graph.node_weights().map(|step| plan.pivot(step.scope.as_deref())).collect();
        Ok(plan)
    }

    /// Steps in an order that respects the DAG.
    pub fn steps(&self) -> impl DoubleEndedIterator<Item = (NodeIndex, &StepSpec)> {
        self.order.iter().map(|&index| (index, &self.graph[index]))
    }

    /// Number of steps.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Never: a plan has a step.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// A step by its index.
    #[must_use]
    pub fn step(&self, index: NodeIndex) -> &StepSpec {
        &self.graph[index]
    }

    /// A step by its name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<NodeIndex> {
        self.by_name.get(name).copied()
    }

    /// Steps that a step waits for.
    pub fn before(&self, index: NodeIndex) -> impl Iterator<Item = NodeIndex> + '_ {
        self.graph.neighbors_directed(index, Direction::Incoming)
    }

    /// Steps that wait for a step.
    pub fn after(&self, index: NodeIndex) -> impl Iterator<Item = NodeIndex> + '_ {
        self.graph.neighbors_directed(index, Direction::Outgoing)
    }

    /// The pivot of a scope.
    #[must_use]
    pub fn pivot(&self, scope: Option<&str>) -> Option<NodeIndex> {
        self.order.iter().copied().find(|&index| {
            self.graph[index].class == Class::Pivot && self.graph[index].scope.as_deref() == scope
        })
    }

    /// The pivot of the task itself: after it, the task only goes forward.
    pub(crate) fn main_pivot(&self) -> Option<NodeIndex> {
        self.pivot
    }

    /// The pivot of a step's scope.
    pub(crate) fn pivot_over(&self, step: NodeIndex) -> Option<NodeIndex> {
        self.pivots[step.index()]
    }

    /// What the plan says besides its steps.
    #[must_use]
    pub fn rest(&self) -> &Rest {
        &self.rest
    }

    /// SHA-256 of the stored form, in hex.
    #[must_use]
    pub fn hash(&self) -> String {
        #[expect(
            clippy::expect_used,
            reason = "a plan is strings, numbers and JSON values: it always serialises"
        )]
        let bytes = serde_json::to_vec(self).expect("a plan serialises");
        crate::store::BlobId::of(&bytes).as_str().to_owned()
    }

    /// Its steps, its edges by their names, and the rest.
    pub(crate) fn into_parts(self) -> (Vec<StepSpec>, Vec<(String, String)>, Rest) {
        let stored = self.stored();
        let edges = stored.edges.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
        let steps = self.graph.into_nodes_edges().0.into_iter().map(|node| node.weight).collect();
        (steps, edges, self.rest)
    }

    fn stored(&self) -> PlanView<'_> {
        let name = |index: NodeIndex| self.graph[index].name.as_str();
        let ends = self.graph.edge_indices().filter_map(|edge| self.graph.edge_endpoints(edge));
        let mut edges: Vec<(&str, &str)> = ends.map(|(from, to)| (name(from), name(to))).collect();
        edges.sort_unstable();
        PlanView { steps: self.graph.node_weights().collect(), edges, rest: &self.rest }
    }

    fn check_classes(&self) -> Result<(), PlanError> {
        let scopes: BTreeSet<Option<&str>> = self.steps().map(|(_, step)| step.scope.as_deref()).collect();
        for &scope in &scopes {
            let members = || self.steps().filter(move |(_, step)| step.scope.as_deref() == scope);
            let mut pivots = members().filter(|(_, step)| step.class == Class::Pivot);
            let pivot = pivots.next();
            if let (Some((_, one)), Some((_, two))) = (pivot, pivots.next()) {
                let scope = scope.unwrap_or("the task");
                return Err(PlanError::TwoPivots(scope.to_owned(), one.name.clone(), two.name.clone()));
            }
            let Some((pivot, spec)) = pivot else {
                if let Some((_, step)) = members().find(|(_, step)| step.class == Class::Retriable) {
                    return Err(PlanError::NotAfterPivot(step.name.clone()));
                }
                continue;
            };
            let ancestors = self.reach(pivot, Direction::Incoming);
            let descendants = self.reach(pivot, Direction::Outgoing);
            for (index, step) in members().filter(|(index, _)| *index != pivot) {
                match step.class {
                    Class::Query | Class::Compensable | Class::Pivot if !ancestors.contains(&index) => {
                        return Err(PlanError::NotBeforePivot(
                            step.name.clone(),
                            step.class,
                            spec.name.clone(),
                        ));
                    }
                    Class::Retriable if !descendants.contains(&index) => {
                        return Err(PlanError::NotAfterPivot(step.name.clone()));
                    }
                    Class::Query | Class::Compensable | Class::Pivot | Class::Retriable => {}
                }
            }
            if scope.is_none() {
                let late =
                    self.steps().find(|(index, step)| step.scope.is_some() && !ancestors.contains(index));
                if let Some((_, step)) = late {
                    return Err(PlanError::ScopeAfterPivot(step.name.clone(), spec.name.clone()));
                }
            }
        }
        Ok(())
    }

    fn reach(&self, from: NodeIndex, direction: Direction) -> BTreeSet<NodeIndex> {
        let mut seen = BTreeSet::new();
        let mut open = vec![from];
        while let Some(index) = open.pop() {
            for next in self.graph.neighbors_directed(index, direction) {
                if seen.insert(next) {
                    open.push(next);
                }
            }
        }
        seen
    }
}

impl PartialEq for Plan {
    fn eq(&self, other: &Self) -> bool {
        self.stored() == other.stored()
    }
}

impl Serialize for Plan {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.stored().serialize(serializer)
    }
}

fn check_name(name: &str) -> Result<(), PlanError> {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'-');
    if name.is_empty() || name.len() > MAX_NAME || name.starts_with('.') || !name.bytes().all(ok) {
        return Err(PlanError::BadName(name.chars().take(80).collect()));
    }
    Ok(())
}

fn check_resource(name: &str) -> Result<(), PlanError> {
    if name.is_empty() || name.len() > MAX_RESOURCE || name.contains('\0') {
        return Err(PlanError::BadResource(name.chars().take(80).collect()));
    }
    Ok(())
}

impl TryFrom<PlanData> for Plan {
    type Error = PlanError;

    fn try_from(data: PlanData) -> Result<Self, PlanError> {
        let PlanData { steps, edges, site, locks, fingerprint, resources, notes, hold_ms } = data;
        Self::new(steps, &edges, Rest { site, locks, fingerprint, resources, notes, hold_ms })
    }
}
