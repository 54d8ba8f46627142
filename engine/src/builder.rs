//! Builds plans from typed steps: a [`Ref`] in a step's fields becomes an edge, so data never flows where order does not.

use serde::Serialize;
use serde_json::Value;

use crate::plan::{Lock, Plan, PlanError, Rest, StepSpec};
use crate::step::{ModeOf, Ref, Step};

/// A plan in the making.
#[derive(Default)]
pub struct PlanBuilder {
    steps: Vec<StepSpec>,
    edges: Vec<(String, String)>,
    scope: Option<String>,
    rest: Rest,
}

/// Anything that names a step: the [`Ref`]s that [`PlanBuilder::step`] returns.
pub trait Named {
    /// The step's name.
    fn step_name(&self) -> &str;
}

impl<T> Named for Ref<T> {
    fn step_name(&self) -> &str {
        self.name()
    }
}

impl<N: Named + ?Sized> Named for Box<N> {
    fn step_name(&self) -> &str {
        (**self).step_name()
    }
}

/// A plan that is to have more steps.
impl From<Plan> for PlanBuilder {
    fn from(plan: Plan) -> Self {
        let (steps, edges, rest) = plan.into_parts();
        Self { steps, edges, scope: None, rest }
    }
}

impl PlanBuilder {
    /// An empty plan about a site, or about none.
    #[must_use]
    pub fn new(site: Option<&str>) -> Self {
        Self { rest: Rest { site: site.map(str::to_owned), ..Rest::default() }, ..Self::default() }
    }

    /// Adds a step that waits for `after` and for every step it refers to.
    pub fn step<S: Step>(&mut self, name: &str, step: S, after: &[&dyn Named]) -> Ref<S::Output>
    where
        S::Mode: ModeOf<S>,
    {
        let spec = self.spec(name, &step);
        for before in refs(&spec.params) {
            self.edges.push((before, name.to_owned()));
        }
        self.edges.extend(after.iter().map(|before| (before.step_name().to_owned(), name.to_owned())));
        self.steps.push(spec);
        Ref::new(name.to_owned())
    }

    /// Adds a step that everything waits for that is there now.
    pub fn first<S: Step>(&mut self, name: &str, step: S)
    where
        S::Mode: ModeOf<S>,
    {
        let free = |name: &String| !self.edges.iter().any(|(_, after)| after == name);
        let roots: Vec<String> = self.steps.iter().map(|step| step.name.clone()).filter(free).collect();
        self.step(name, step, &[]);
        self.edges.extend(roots.into_iter().map(|root| (name.to_owned(), root)));
    }

    /// Adds a step that waits for everything that is there now.
    pub fn last<S: Step>(&mut self, name: &str, step: S)
    where
        S::Mode: ModeOf<S>,
    {
        let last = |name: &String| !self.edges.iter().any(|(before, _)| before == name);
        let ends: Vec<String> = self.steps.iter().map(|step| step.name.clone()).filter(last).collect();
        self.step(name, step, &[]);
        self.edges.extend(ends.into_iter().map(|end| (end, name.to_owned())));
    }

    /// The fingerprint that proves a rollback: a query step outside the DAG.
    pub fn fingerprint<S: Step>(&mut self, step: &S, resources: Vec<String>)
    where
        S::Mode: ModeOf<S>,
    {
        self.rest.fingerprint = Some(self.spec("fingerprint", step));
        self.rest.resources = resources;
    }

    /// What is added by `inside` is a sub-task: it commits at its own pivot and is not undone afterwards.
    pub fn scope<T>(&mut self, name: &str, inside: impl FnOnce(&mut Self) -> T) -> T {
        let outer = self.scope.replace(name.to_owned());
        let result = inside(self);
        self.scope = outer;
        result
    }

    /// Adds a lock, exclusive unless `shared`. The same one again makes it exclusive if either is.
    pub fn lock(&mut self, resource: impl Into<String>, shared: bool) {
        let resource = resource.into();
        match self.rest.locks.iter_mut().find(|lock| lock.resource == resource) {
            Some(lock) => lock.shared &= shared,
            None => self.rest.locks.push(Lock { resource, shared }),
        }
    }

    /// Adds a remark for the person who decides.
    pub fn note(&mut self, note: impl Into<String>) {
        self.rest.notes.push(note.into());
    }

    /// The finished task can be taken back for this long.
    pub fn hold(&mut self, ms: u64) {
        self.rest.hold_ms = Some(ms);
    }

    /// Checks it.
    ///
    /// # Errors
    /// Those of [`Plan::new`].
    pub fn build(self) -> Result<Plan, PlanError> {
        Plan::new(self.steps, &self.edges, self.rest)
    }

    fn spec<S: Step>(&self, name: &str, step: &S) -> StepSpec
    where
        S::Mode: ModeOf<S>,
    {
        StepSpec {
            name: name.to_owned(),
            kind: S::KIND.to_owned(),
            title: step.title(),
            class: <S::Mode as ModeOf<S>>::CLASS,
            params: params(step),
            scope: self.scope.clone(),
            undo: <S::Mode as ModeOf<S>>::undo_spec(step),
            run_policy: step.policy(),
            undo_policy: <S::Mode as ModeOf<S>>::undo_policy(step),
            slot: step.slot(),
            doors: step.doors(),
            reports: step.reports(),
            by_hand: step.by_hand(),
        }
    }
}

fn params<S: Serialize>(step: &S) -> Value {
    #[expect(
        clippy::expect_used,
        reason = "steps are structs of strings, numbers and JSON values, checked by every plan test"
    )]
    serde_json::to_value(step).expect("a step serialises")
}

/// Names of the steps that a JSON value refers to: `{"$step": name}` anywhere in it.
fn refs(value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![value];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(map) => {
                if let (1, Some(Value::String(step))) = (map.len(), map.get("$step")) {
                    found.push(step.clone());
                }
                open.extend(map.values());
            }
            Value::Array(items) => open.extend(items),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    found
}
