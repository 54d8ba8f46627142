//! Plans: for a new task, for somebody who only wants to see one, and once more for a task that has waited. Changes nothing.

use serde_json::Value;

use super::Inner;
use crate::machine::Machine;
use crate::plan::Plan;
use crate::service::{LockView, PlanView, SubmitError};
use crate::task::{Millis, TaskId};
use crate::workflow::{FinishedTask, PlanCx, PlanRefusal, Workflow};

/// Where a plan comes from.
pub(super) enum Origin<'a> {
    /// From a workflow and parameters.
    Fresh,
    /// From a finished task that is to be taken back.
    Undo(&'a Machine),
}

impl<P: ?Sized + Send + Sync + 'static> Inner<P> {
    pub(super) fn plan(
        &self,
        workflow: &str,
        params: &Value,
        origin: &Origin<'_>,
        (task, now): (&TaskId, Millis),
    ) -> Result<Plan, SubmitError> {
        self.plan_named_at(
            workflow,
            params,
            origin,
            &PlanCx { task, now, named_at: now, facts: &*self.facts },
        )
    }

    /// The plan that a waiting task would have if it were asked for now.
    pub(super) fn plan_again(&self, machine: &Machine, now: Millis) -> Result<Plan, SubmitError> {
        let accepted = machine.accepted();
        // Named as it was named before: what has not changed is to be the same.
        let named_at = machine.created_at();
        let cx = PlanCx { task: &accepted.task, now, named_at, facts: &*self.facts };
        self.plan_named_at(&accepted.workflow, &accepted.params, &Origin::Fresh, &cx)
    }

    /// The plan as it would be without a task's id and time in its names.
    fn plan_of_nobody(
        &self,
        workflow: &str,
        params: &Value,
        origin: &Origin<'_>,
    ) -> Result<Plan, SubmitError> {
        let task = TaskId::from_bytes([0; 16]);
        let cx = PlanCx { task: &task, now: self.clock.now(), named_at: 0, facts: &*self.facts };
        self.plan_named_at(workflow, params, origin, &cx)
    }

    /// Its hash: a dry run and the real one have the same.
    pub(super) fn plan_hash(
        &self,
        workflow: &str,
        params: &Value,
        origin: &Origin<'_>,
    ) -> Result<String, SubmitError> {
        Ok(self.plan_of_nobody(workflow, params, origin)?.hash())
    }

    fn plan_named_at(
        &self,
        workflow: &str,
        params: &Value,
        origin: &Origin<'_>,
        cx: &PlanCx<'_>,
    ) -> Result<Plan, SubmitError> {
        let plan = match origin {
            Origin::Fresh => self.workflow(workflow)?.plan(params, cx),
            Origin::Undo(machine) => {
                let accepted = machine.accepted();
                let finished = FinishedTask {
                    task: &accepted.task,
                    workflow: &accepted.workflow,
                    params: &accepted.params,
                    plan: machine.plan(),
                    outputs: machine.outputs(),
                };
                self.workflow(&accepted.workflow)?.undo(&finished, cx)
            }
        };
        plan.map_err(|refusal| match refusal {
            PlanRefusal::BadParams(problems) => SubmitError::BadParams(problems),
            PlanRefusal::Refused(why) => SubmitError::Refused(why),
            PlanRefusal::Nothing(why) => SubmitError::Nothing(why),
            PlanRefusal::Read(error) => SubmitError::Store(error.to_string()),
            PlanRefusal::Plan(error) => SubmitError::Refused(format!("a defect of the workflow: {error}")),
        })
    }

    fn workflow(&self, name: &str) -> Result<&dyn Workflow, SubmitError> {
        let found = self.workflows.get(name).map(|workflow| &**workflow);
        found.ok_or_else(|| SubmitError::UnknownWorkflow(name.chars().take(80).collect()))
    }

    /// See [`crate::service::Tasks::preview`].
    pub(super) fn preview(&self, workflow: &str, params: &Value) -> Result<PlanView, SubmitError> {
        let plan = self.plan_of_nobody(workflow, params, &Origin::Fresh)?;
        let held = self.shared.tables().locks.view();
        let steps =
            plan.steps().map(|(index, spec)| crate::machine::pending_step(&plan, index, spec)).collect();
        let locks = plan.rest().locks.iter().map(|lock| {
            let now = held.iter().find(|held| held.resource == lock.resource);
            LockView {
                resource: lock.resource.clone(),
                shared: lock.shared,
                holders: now.map(|now| now.holders.clone()).unwrap_or_default(),
                waiting: now.map(|now| now.waiting.clone()).unwrap_or_default(),
            }
        });
        let mut notes = plan.rest().notes.clone();
        if let Some(gate) = self.gate(workflow, params, &plan) {
            let (asked, before) = (gate.asked(), gate.place(&plan).as_str());
            notes.push(format!(
                "It needs the approval of {asked} (before: {before}, policy {}).",
                gate.policy
            ));
        }
        Ok(PlanView {
            workflow: workflow.to_owned(),
            site: plan.rest().site.clone(),
            steps,
            pivot: plan.pivot(None).map(|pivot| plan.step(pivot).name.clone()),
            locks: locks.collect(),
            resources: plan.rest().resources.clone(),
            notes,
            plan_hash: plan.hash(),
            estimate: self
                .estimate(workflow, plan.rest().site.as_deref())
                .map_err(|error| SubmitError::Store(error.to_string()))?,
        })
    }
}
