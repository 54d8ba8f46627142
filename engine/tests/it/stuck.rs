//! Stuck tasks: the incident, and the three verbs before and after the pivot, in a redo and going back.

use kedge_engine::builder::PlanBuilder;
use kedge_engine::service::{ResolveVerb, VerbError};
use kedge_engine::task::{StepStateView, TaskId, TaskState};

use crate::rig::{Rig, steps};
use crate::steps::{Act, Decide, Make, Print, QUICK, Tidy};
use crate::world::{Effect, End, Kind};

fn plan(plan: &mut PlanBuilder) {
    plan.fingerprint(&Print(vec!["t/".to_owned()]), vec!["t".to_owned()]);
    let a = plan.step("a", Make(Act::on("t/a")), &[]);
    let b = plan.step("b", Make(Act::on("t/b")), &[&a]);
    let pivot = plan.step("pivot", Decide::on(Act::on("site")), &[&b]);
    let one = plan.step("one", Tidy(Act::on("u/one")), &[&pivot]);
    plan.step("two", Tidy(Act::on("u/two")), &[&one]);
}

/// Stuck in an undo, going back.
fn in_undo() -> (Rig, TaskId) {
    let rig = Rig::of(plan);
    rig.world.runs("b", [(Effect::Whole, End::Fatal)]);
    rig.world.undos("b", [(Effect::None, End::Fatal)]);
    let task = rig.run();
    assert_eq!(rig.state(&task), TaskState::Stuck);
    (rig, task)
}

/// Stuck in a probe, before the pivot.
fn in_probe(step: &str) -> (Rig, TaskId) {
    let rig = Rig::of(plan);
    rig.world.runs(step, [(Effect::Whole, End::InDoubt)]);
    rig.world.probes(step, [End::Unknown]);
    let task = rig.run();
    assert_eq!(rig.state(&task), TaskState::Stuck);
    (rig, task)
}

/// Stuck in the undo of a redo: half of it was there, going forward.
fn in_redo() -> (Rig, TaskId) {
    let rig = Rig::of(plan);
    rig.world.runs("b", [(Effect::Half, End::InDoubt)]);
    rig.world.undos("b", [(Effect::None, End::Fatal)]);
    let task = rig.run();
    assert_eq!(rig.state(&task), TaskState::Stuck);
    assert_eq!(rig.view(&task).error, None, "the task has not turned round");
    (rig, task)
}

/// Stuck after the pivot.
fn after_pivot() -> (Rig, TaskId) {
    let rig = Rig::of(plan);
    rig.world.runs("one", vec![(Effect::None, End::Retryable); QUICK.attempts as usize]);
    let task = rig.run();
    assert_eq!(rig.state(&task), TaskState::Stuck);
    (rig, task)
}

fn settle(rig: &Rig, task: &TaskId, step: &str, verb: ResolveVerb) -> TaskState {
    rig.resolve(task, step, verb).unwrap();
    rig.settle();
    rig.state(task)
}

#[test]
fn an_incident_names_the_step_the_reason_and_the_verbs() {
    let (rig, task) = in_undo();
    let view = rig.view(&task);
    let incident = view.incident.unwrap();
    assert_eq!(incident.verbs, ["retry", "mark_undone", "abandon"]);
    let step = &incident.steps[0];
    assert_eq!((step.step.as_str(), step.phase.as_str()), ("b", "undo"));
    assert_eq!(
        (step.reason.as_str(), step.by_hand.as_slice()),
        ("b cannot work", ["look at t/b".to_owned()].as_slice())
    );
    assert_eq!(view.error.unwrap().detail, "b cannot work");
    let told: Vec<String> = rig.callbacks().into_iter().rev().map(|callback| callback.event).collect();
    assert_eq!(told, ["task.running", "task.compensating", "task.stuck"]);
}

#[test]
fn verbs_on_a_stuck_undo() {
    let (rig, task) = in_undo();
    assert_eq!(settle(&rig, &task, "b", ResolveVerb::Retry), TaskState::RolledBack);
    assert_eq!(rig.view(&task).outcome.unwrap().verified, Some(true));

    let (rig, task) = in_undo();
    rig.world.remove("t/b");
    assert_eq!(settle(&rig, &task, "b", ResolveVerb::MarkUndone), TaskState::RolledBack);
    assert_eq!(rig.view(&task).outcome.unwrap().verified, Some(true));
    assert_eq!(rig.world.count("b", Kind::Undo), 1);

    // Marked but not done: the fingerprint tells.
    let (rig, task) = in_undo();
    assert_eq!(settle(&rig, &task, "b", ResolveVerb::MarkUndone), TaskState::RolledBack);
    let outcome = rig.view(&task).outcome.unwrap();
    assert_eq!((outcome.verified, outcome.drift[0].item.as_str()), (Some(false), "t/b"));

    let (rig, task) = in_undo();
    assert_eq!(settle(&rig, &task, "b", ResolveVerb::Abandon), TaskState::RolledBack);
    let view = rig.view(&task);
    let outcome = view.outcome.clone().unwrap();
    assert_eq!(outcome.verified, Some(false));
    assert_eq!(outcome.drift[0].resource, "step b");
    assert_eq!(outcome.drift[0].after.as_deref(), Some("seen by hand"), "with the reason");
    assert_eq!(outcome.drift[1].item, "t/b");
    assert_eq!(steps(&view)["b"], StepStateView::Abandoned);
    assert_eq!(rig.world.get("t/a"), None, "what comes before it is undone");
}

#[test]
fn verbs_on_a_step_in_doubt_before_the_pivot() {
    let (rig, task) = in_probe("b");
    assert_eq!(settle(&rig, &task, "b", ResolveVerb::Retry), TaskState::Succeeded);
    assert_eq!(rig.world.count("b", Kind::Run), 1, "the second probe found it");

    let (rig, task) = in_probe("b");
    rig.world.remove("t/b");
    assert_eq!(settle(&rig, &task, "b", ResolveVerb::MarkUndone), TaskState::RolledBack);
    assert_eq!(rig.world.count("b", Kind::Undo), 0);
    assert_eq!(rig.view(&task).outcome.unwrap().verified, Some(true));

    let (rig, task) = in_probe("b");
    assert_eq!(settle(&rig, &task, "b", ResolveVerb::Abandon), TaskState::RolledBack);
    assert_eq!(rig.world.get("t/b").as_deref(), Some("made"), "left as it is");
    assert_eq!(rig.view(&task).outcome.unwrap().verified, Some(false));
}

#[test]
fn verbs_on_a_pivot_in_doubt() {
    let (rig, task) = in_probe("pivot");
    rig.cancel(&task).unwrap_err();
    assert_eq!(settle(&rig, &task, "pivot", ResolveVerb::Retry), TaskState::Succeeded);

    let (rig, task) = in_probe("pivot");
    rig.world.remove("site");
    assert_eq!(settle(&rig, &task, "pivot", ResolveVerb::MarkUndone), TaskState::RolledBack);
    assert_eq!(rig.view(&task).outcome.unwrap().verified, Some(true));
}

#[test]
fn verbs_on_a_stuck_redo() {
    let (rig, task) = in_redo();
    assert_eq!(settle(&rig, &task, "b", ResolveVerb::Retry), TaskState::Succeeded);
    assert_eq!(
        rig.world.acts().iter().filter(|act| act.ends_with(" b")).count(),
        5,
        "{:?}",
        rig.world.acts()
    );

    // Undone by hand: it is run again.
    let (rig, task) = in_redo();
    rig.world.remove("t/b");
    assert_eq!(settle(&rig, &task, "b", ResolveVerb::MarkUndone), TaskState::Succeeded);
    assert_eq!(rig.world.count("b", Kind::Run), 2);

    // Left: the task cannot go on without it, so it goes back.
    let (rig, task) = in_redo();
    assert_eq!(settle(&rig, &task, "b", ResolveVerb::Abandon), TaskState::RolledBack);
    assert_eq!(rig.world.get("t/b").as_deref(), Some("~made"));
}

#[test]
fn verbs_after_the_pivot() {
    let (rig, task) = after_pivot();
    assert_eq!(settle(&rig, &task, "one", ResolveVerb::Retry), TaskState::Succeeded);

    let (rig, task) = after_pivot();
    rig.world.put("u/one", "made");
    assert_eq!(settle(&rig, &task, "one", ResolveVerb::MarkUndone), TaskState::Succeeded);
    let view = rig.view(&task);
    assert_eq!(steps(&view)["one"], StepStateView::Succeeded, "done by hand is done");
    assert_eq!(view.outcome.unwrap().drift, []);

    let (rig, task) = after_pivot();
    assert_eq!(settle(&rig, &task, "one", ResolveVerb::Abandon), TaskState::Succeeded);
    let view = rig.view(&task);
    assert_eq!(
        (steps(&view)["one"], steps(&view)["two"]),
        (StepStateView::Abandoned, StepStateView::Succeeded)
    );
    let outcome = view.outcome.clone().unwrap();
    assert_eq!((outcome.verified, outcome.drift[0].resource.as_str()), (None, "step one"));
    assert_eq!(rig.world.count("b", Kind::Undo), 0);
}

#[test]
fn verbs_need_a_stuck_step_and_a_reason() {
    let (rig, task) = in_undo();
    assert!(
        matches!(rig.resolve(&task, "a", ResolveVerb::Retry), Err(VerbError::Conflict(why)) if why.contains("\"a\""))
    );
    assert!(matches!(rig.resolve(&task, "nothing", ResolveVerb::Abandon), Err(VerbError::Conflict(_))));
    use kedge_engine::service::{Resolution, Tasks as _};
    for reason in [String::new(), "  ".to_owned(), "x".repeat(1001)] {
        let resolution = Resolution { step: "b".to_owned(), verb: ResolveVerb::Abandon, reason };
        let (engine, task) = (rig.engine.clone(), task.clone());
        let answer =
            rig.runtime.block_on(async move { engine.resolve(&task, resolution, crate::rig::actor()).await });
        assert!(matches!(answer.unwrap(), Err(VerbError::Conflict(_))));
    }
    assert_eq!(rig.state(&task), TaskState::Stuck);
    let missing = TaskId::from_bytes([9; 16]);
    assert_eq!(rig.resolve(&missing, "b", ResolveVerb::Retry), Err(VerbError::UnknownTask));
}

#[test]
fn two_people_at_once_settle_it_once() {
    let (rig, task) = in_undo();
    use kedge_engine::service::{Resolution, Tasks as _};
    let settle = |verb| {
        let (engine, task) = (rig.engine.clone(), task.clone());
        async move {
            let resolution = Resolution { step: "b".to_owned(), verb, reason: "mine".to_owned() };
            engine.resolve(&task, resolution, crate::rig::actor()).await
        }
    };
    let both = futures::future::join(settle(ResolveVerb::Retry), settle(ResolveVerb::Abandon));
    let (one, two) = rig.runtime.block_on(both).unwrap();
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    rig.settle();
    assert_eq!(rig.events(&task).iter().filter(|event| event.kind == "resolved").count(), 1);
}

#[test]
fn a_cancel_of_a_stuck_task_rolls_it_back_without_asking_about_what_can_be_undone() {
    let (rig, task) = in_probe("b");
    rig.cancel(&task).unwrap();
    rig.settle();
    assert_eq!(rig.state(&task), TaskState::Canceled);
    assert_eq!(rig.view(&task).outcome.unwrap().verified, Some(true));
    assert!(rig.world.resources().is_empty());
}

#[test]
fn a_stuck_task_stays_stuck_over_restarts_and_keeps_its_incident() {
    let (mut rig, task) = in_undo();
    let before = rig.view(&task).incident;
    for _ in 0..3 {
        rig.restart();
        rig.settle();
        assert_eq!((rig.state(&task), rig.view(&task).incident), (TaskState::Stuck, before.clone()));
    }
    let told = rig.callbacks().into_iter().filter(|callback| callback.event == "task.stuck").count();
    assert_eq!(told, 1, "told once");
    assert_eq!(settle(&rig, &task, "b", ResolveVerb::Retry), TaskState::RolledBack);
}
