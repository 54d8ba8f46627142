//! The end of a run: whether the world is as the outcomes say.

use std::collections::BTreeMap;
use std::sync::Arc;

use kedge_engine::event::{Event, Outcome, Then};
use kedge_engine::executor::fsck;
use kedge_engine::journal::{Record, keys};
use kedge_engine::machine::Machine;
use kedge_engine::plan::{Class, Plan, StepSpec};
use kedge_engine::ports::Clock as _;
use kedge_engine::service::Tasks as _;
use kedge_engine::store::Store as _;
use kedge_engine::task::{StepStateView, TaskId, TaskView};

use super::plan::own;
use super::run::Run;
use crate::rig::Rig;
use crate::steps::{Act, Made};

pub fn judge(run: &mut Run) {
    let rig = &run.rig;
    rig.sound();
    assert_eq!(rig.world.in_flight(), 0, "something is still in flight");
    assert!(rig.custody.alive().is_empty(), "processes are left: {:?}", rig.custody.alive());
    assert!(rig.engine.locks().is_empty(), "locks are left: {:?}", rig.engine.locks());
    let heads = rig.store.scan(keys::HEADS, None, usize::MAX).unwrap().len() as u64;
    assert_eq!(heads, run.tally.tasks, "one task for each request");
    assert!(rig.store.scan(keys::OPEN, None, 1).unwrap().is_empty(), "an open mark is left");
    // Slow, and rarely news: now and then.
    let thorough = run.seed.is_multiple_of(8);
    if thorough {
        let report = fsck(Arc::new(rig.store.clone())).unwrap();
        assert!(report.problems.is_empty(), "{:#?}", report.problems);
    }
    // In the order in which they ended: tasks that hold a lock one after another end in that order.
    let ends: Vec<(TaskId, TaskView)> =
        rig.watch.ends().into_iter().map(|task| (task.clone(), view(rig, &task))).collect();
    assert_eq!(ends.len() as u64, run.tally.tasks);
    run.tally.lies = rig.world.lies();
    run.tally.events = rig.watch.events();
    let mut shared =
        BTreeMap::from([("lock/x", Some("original".to_owned())), ("lock/y", Some("original".to_owned()))]);
    let mut told: BTreeMap<TaskId, u64> = BTreeMap::new();
    for callback in rig.callbacks().into_iter().filter(|callback| callback.state.is_final()) {
        *told.entry(callback.task).or_default() += 1;
    }
    for (task, view) in &ends {
        let records = records(&run.rig, task);
        let count = |kind: &str| records.iter().filter(|record| record.event.kind() == kind).count() as u64;
        run.tally.asked += count("approval_asked");
        run.tally.approved += count("approved");
        run.tally.planned += count("planned");
        // G6: one callback tells the end, once.
        assert_eq!(told.get(task), Some(&1), "how often the end of {task} was told");
        match outcome(&records) {
            Outcome::Succeeded => {
                run.tally.succeeded += 1;
                all_done(run, task, &records, &mut shared);
            }
            Outcome::RolledBack => {
                run.tally.rolled_back += 1;
                run.tally.drifts += u64::from(as_before(run, task, view, &records));
            }
            Outcome::Canceled => {
                run.tally.canceled += 1;
                run.tally.drifts += u64::from(as_before(run, task, view, &records));
            }
        }
    }
    if run.rig.world.lies() == 0 && run.left.is_empty() {
        for (key, value) in shared {
            assert_eq!(
                run.rig.world.get(key),
                value,
                "{key} is not what the last task that succeeded made it"
            );
        }
    }
    if thorough {
        same_after_restart(run, &ends);
    }
}

fn records(rig: &Rig, task: &TaskId) -> Arc<Vec<Record>> {
    rig.watch.records(task)
}

/// The task's page by its records.
fn view(rig: &Rig, task: &TaskId) -> TaskView {
    let records = records(rig, task);
    let mut machine = Machine::begin(&records[0]).unwrap();
    for record in &records[1..] {
        machine.apply(record).unwrap();
    }
    machine.view(rig.runtime.now())
}

fn plan_of(records: &[Record]) -> &Plan {
    let plans = records.iter().rev().filter_map(|record| match &record.event {
        Event::Accepted(accepted) => Some(&accepted.plan),
        Event::Planned { plan } => Some(&**plan),
        _ => None,
    });
    plans.into_iter().next().expect("a task has a plan")
}

fn outcome(records: &[Record]) -> Outcome {
    match &records.last().unwrap().event {
        Event::Finished { outcome, .. } => *outcome,
        other => panic!("the last event is {other:?}"),
    }
}

fn act(spec: &StepSpec) -> Act {
    serde_json::from_value(spec.params.clone()).unwrap()
}

/// Succeeded: everything is there that was not left by a person.
fn all_done(run: &Run, task: &TaskId, records: &[Record], shared: &mut BTreeMap<&str, Option<String>>) {
    for (_, spec) in plan_of(records).steps() {
        let act = act(spec);
        if spec.class == Class::Query {
            continue;
        }
        let name =
            if act.key == "lock/x" { Some("lock/x") } else { (act.key == "lock/y").then_some("lock/y") };
        if let Some(name) = name {
            shared.insert(name, Some(act.value.clone()));
            continue;
        }
        if !run.left.contains(&(task.clone(), spec.name.clone())) {
            let there = run.rig.world.get(&act.key);
            assert_eq!(there, Some(act.value), "{} of {task} is not there, though it succeeded", spec.name);
        }
    }
}

/// Rolled back: nothing of the task's own is there but what a person has left; and the fingerprint says the truth. Returns whether
/// there is drift.
fn as_before(run: &Run, task: &TaskId, view: &TaskView, records: &[Record]) -> bool {
    let plan = plan_of(records);
    let left: Vec<&str> =
        run.left.iter().filter(|(of, _)| of == task).map(|(_, step)| step.as_str()).collect();
    let prefix = own(task.as_str());
    let rest: Vec<String> =
        run.rig.world.resources().into_keys().filter(|key| key.starts_with(&prefix)).collect();
    if run.rig.world.lies() == 0 {
        let folders: Vec<String> =
            left.iter().map(|step| act(plan.step(plan.find(step).unwrap())).key).collect();
        let mine: Vec<&String> =
            rest.iter().filter(|key| !folders.iter().any(|folder| key.starts_with(folder))).collect();
        assert!(mine.is_empty(), "{task} is rolled back, but there is {mine:?}: {:#?}", view.steps);
    }
    let proof = view.outcome.as_ref().unwrap();
    let touched = view.steps.iter().any(|step| step.class != Class::Query && step.attempts > 0);
    if plan.rest().fingerprint.is_some() && touched {
        let verified = proof.verified.expect("there is a proof");
        assert!(!verified || rest.is_empty(), "{task} is verified, but there is {rest:?}");
        assert_eq!(verified, proof.drift.is_empty(), "{task}: {proof:?}");
        let clean = rest.is_empty() && left.is_empty() && run.rig.world.lies() == 0;
        assert!(verified || !clean || !alone(run, records), "{task}: all is as before, but {proof:?}");
    }
    if !left.is_empty() {
        assert_ne!(proof.verified, Some(true));
        for step in left {
            let told = proof.drift.iter().any(|drift| drift.resource == format!("step {step}"));
            assert!(told, "{step} was left by a person, but the report of {task} does not say so");
        }
    }
    sub_task(run, task, view, plan);
    !proof.drift.is_empty()
}

/// Whether nothing but the task itself can have changed what its fingerprints show, and both could be taken.
fn alone(run: &Run, records: &[Record]) -> bool {
    let trouble = |record: &&Record| {
        matches!(record.event, Event::Recovered { .. } | Event::FingerprintFailed { then: Then::GiveUp, .. })
    };
    run.tally.tasks == 1 && !records.iter().any(|record| trouble(&record))
}

/// A sub-task that has committed is whole; one that has not is gone.
fn sub_task(run: &Run, task: &TaskId, view: &TaskView, plan: &Plan) {
    let Some(pivot) = plan.pivot(Some("sub")) else { return };
    let state = |name: &str| view.steps.iter().find(|step| step.name == name).unwrap().state;
    let committed = state(&plan.step(pivot).name) == StepStateView::Succeeded;
    for (_, spec) in plan.steps().filter(|(_, spec)| spec.scope.is_some()) {
        let left = run.left.contains(&(task.clone(), spec.name.clone()));
        if left || run.rig.world.lies() > 0 {
            continue;
        }
        let there = run.rig.world.get(&act(spec).key);
        match spec.class {
            Class::Compensable if committed => {
                assert!(there.is_some(), "{} of {task} did not survive", spec.name)
            }
            Class::Compensable => assert_eq!(there, None, "{} of {task} is left", spec.name),
            // It goes on to its end when the task goes back.
            Class::Retriable if committed => {
                let done = matches!(
                    state(&spec.name),
                    StepStateView::Succeeded | StepStateView::Failed | StepStateView::Undone
                );
                assert!(done, "{} of {task} is {:?}", spec.name, state(&spec.name));
            }
            Class::Retriable | Class::Pivot | Class::Query => {}
        }
    }
}

/// What is shown of a task that has ended does not depend on the process that shows it, and is what its records say.
fn same_after_restart(run: &mut Run, ends: &[(TaskId, TaskView)]) {
    let recovery = run.rig.restart();
    assert!(recovery.resumed.is_empty() && recovery.quarantined.is_empty(), "{recovery:?}");
    for (task, before) in ends {
        assert_eq!(&run.rig.view(task), before);
    }
    assert!(run.rig.store.scan(keys::OPEN, None, 1).unwrap().is_empty());
}

/// A stuck task says which step, why, and what can be done.
pub fn explains_itself(rig: &Rig, task: &TaskId) {
    let view = rig.view(task);
    let incident = view.incident.expect("a stuck task has an incident");
    assert!(!incident.steps.is_empty() && incident.verbs.len() == 3);
    for step in &incident.steps {
        assert!(!step.reason.is_empty(), "{step:?}");
        let shown = view.steps.iter().find(|shown| shown.name == step.step).unwrap();
        assert_eq!(shown.state, StepStateView::Stuck);
    }
}

/// A person undoes a step, or does it after the pivot.
pub fn settle_by_hand(rig: &Rig, task: &TaskId, step: &str) {
    let records = records(rig, task);
    let plan = plan_of(&records);
    let spec = plan.step(plan.find(step).unwrap());
    let act = act(spec);
    let view = rig.view(task);
    let state = |name: &str| view.steps.iter().find(|step| step.name == name).unwrap().state;
    let committed =
        plan.pivot(None).is_some_and(|pivot| state(&plan.step(pivot).name) == StepStateView::Succeeded);
    if committed {
        rig.world.put(&act.key, &act.value);
        return;
    }
    if spec.class == Class::Query {
        return;
    }
    let seen = act.before.as_ref().and_then(|seen| {
        records.iter().rev().find_map(|record| match &record.event {
            Event::AttemptSucceeded { step, output, .. } if step == seen.name() => {
                serde_json::from_value::<Made>(output.clone()).unwrap().value
            }
            _ => None,
        })
    });
    for key in rig.world.resources().into_keys().filter(|key| key.starts_with(&format!("{}/", act.key))) {
        rig.world.remove(&key);
    }
    match seen {
        Some(value) => rig.world.put(&act.key, &value),
        None => rig.world.remove(&act.key),
    }
}
