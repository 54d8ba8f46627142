//! Cancel: rollback on request, until the pivot has begun.

use kedge_engine::builder::PlanBuilder;
use kedge_engine::service::{Submission, VerbError};
use kedge_engine::task::TaskState;
use kedge_engine::testing::runtime::EPOCH;

use crate::rig::{Options, Rig, submission};
use crate::steps::{Act, Decide, Look, Make, Print, Tidy};
use crate::world::{Behave, Effect, End, Kind};

fn plan(plan: &mut PlanBuilder) {
    plan.lock("site x", false);
    plan.fingerprint(&Print(vec!["t/".to_owned()]), vec!["t".to_owned()]);
    let a = plan.step("a", Make(Act::on("t/a")), &[]);
    let look = plan.step("look", Look::at("t/a"), &[&a]);
    let pivot = plan.step("pivot", Decide::on(Act::on("site")), &[&look]);
    plan.step("tidy", Tidy(Act::on("u")), &[&pivot]);
}

fn conflict(answer: Result<kedge_engine::task::TaskView, VerbError>) -> String {
    match answer {
        Err(VerbError::Conflict(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_running_task_is_interrupted_and_undone() {
    let rig = Rig::of(plan);
    rig.world.runs("a", [(Effect::Half, End::Hang)]);
    let task = rig.submit("plan");
    rig.until("a runs", || rig.world.count("a", Kind::Run) == 1);
    let view = rig.cancel(&task).unwrap();
    assert_eq!(view.state, TaskState::Compensating);
    rig.settle();
    let view = rig.view(&task);
    assert_eq!((view.state, view.outcome.unwrap().verified), (TaskState::Canceled, Some(true)));
    assert!(view.finished_at.unwrap() - EPOCH < 1000, "it did not wait for the step's limit");
    assert!(rig.custody.alive().is_empty() && rig.world.resources().is_empty());
    assert_eq!(view.error, None, "nothing failed");
    let canceled = rig.events(&task).into_iter().find(|event| event.kind == "cancel_requested").unwrap();
    assert_eq!(
        (canceled.data["actor"]["name"].as_str(), canceled.data["reason"].as_str()),
        (Some("token:test"), Some("on second thoughts"))
    );
}

#[test]
fn a_query_or_a_fingerprint_that_runs_is_cut_short() {
    for (step, kind) in [("look", Kind::Run), ("fingerprint", Kind::Print)] {
        let rig = Rig::of(plan);
        rig.world.script(step, kind, [Behave::new(Effect::None, End::Hang)]);
        let task = rig.submit("plan");
        rig.until("it hangs", || rig.world.count(step, kind) == 1);
        rig.cancel(&task).unwrap();
        rig.settle();
        let view = rig.view(&task);
        assert_eq!(view.state, TaskState::Canceled, "{step}");
        assert!(view.finished_at.unwrap() - EPOCH < 1000, "{step}");
        assert!(rig.custody.alive().is_empty() && rig.world.resources().is_empty());
    }
}

#[test]
fn a_queued_task_leaves_the_queue() {
    let rig = Rig::of(plan);
    rig.world.script("a", Kind::Run, [Behave::slow(500)]);
    let first = rig.submit("plan");
    let second = rig.submit("plan");
    let third = rig.submit("plan");
    rig.until("a runs", || rig.world.count("a", Kind::Run) == 1);
    assert_eq!(rig.state(&second), TaskState::Queued);
    rig.cancel(&second).unwrap();
    rig.settle();
    assert_eq!(rig.state(&second), TaskState::Canceled);
    assert_eq!(
        rig.view(&second).outcome.unwrap().verified,
        None,
        "nothing was touched, nothing had to be proven"
    );
    assert_eq!((rig.state(&first), rig.state(&third)), (TaskState::Succeeded, TaskState::Succeeded));
}

#[test]
fn a_task_that_waits_for_its_time_or_a_retry_goes_at_once() {
    let rig = Rig::of(plan);
    let later = Submission { not_before: Some(EPOCH + 1_000_000), ..submission("plan") };
    let kedge_engine::service::Submitted::Created(view) = rig.try_submit(later).unwrap() else { panic!() };
    rig.cancel(&view.id).unwrap();
    rig.settle();
    let view = rig.view(&view.id);
    assert_eq!((view.state, view.finished_at.unwrap() - EPOCH < 1000), (TaskState::Canceled, true));

    let rig = Rig::of(plan);
    rig.world.runs("a", [(Effect::Whole, End::Retryable)]);
    let task = rig.submit("plan");
    rig.until("it waits", || rig.state(&task) == TaskState::Waiting);
    rig.cancel(&task).unwrap();
    rig.settle();
    assert_eq!(rig.state(&task), TaskState::Canceled);
    assert_eq!((rig.world.count("a", Kind::Run), rig.world.count("a", Kind::Undo)), (1, 1));
    assert!(rig.world.resources().is_empty());
}

#[test]
fn it_is_refused_from_the_pivot_on_with_the_reason() {
    for step in ["pivot", "tidy"] {
        let rig = Rig::of(plan);
        rig.world.script(step, Kind::Run, [Behave::slow(500)]);
        let task = rig.submit("plan");
        rig.until("it runs", || rig.world.count(step, Kind::Run) == 1);
        let why = conflict(rig.cancel(&task));
        assert!(why.contains("point of no return (pivot)"), "{why}");
        rig.settle();
        assert_eq!(rig.state(&task), TaskState::Succeeded);
        assert!(conflict(rig.cancel(&task)).contains("has ended"));
    }
}

#[test]
fn it_is_refused_while_the_pivot_waits_for_a_retry_or_is_in_doubt() {
    let rig = Rig::of(plan);
    rig.world.runs("pivot", [(Effect::None, End::Retryable), (Effect::Whole, End::InDoubt)]);
    let task = rig.submit("plan");
    rig.until("it waits", || rig.state(&task) == TaskState::Waiting);
    assert!(conflict(rig.cancel(&task)).contains("point of no return"));
    rig.until("it is in doubt", || {
        rig.view(&task).steps.iter().any(|step| step.state == kedge_engine::task::StepStateView::InDoubt)
    });
    assert!(conflict(rig.cancel(&task)).contains("point of no return"));
    rig.settle();
    assert_eq!(rig.state(&task), TaskState::Succeeded);
}

#[test]
fn it_is_refused_while_the_task_goes_back() {
    let rig = Rig::of(plan);
    rig.world.runs("look", [(Effect::None, End::Fatal)]);
    rig.world.script("a", Kind::Undo, [Behave::slow(500)]);
    let task = rig.submit("plan");
    rig.until("it goes back", || rig.state(&task) == TaskState::Compensating);
    assert!(conflict(rig.cancel(&task)).contains("rolling back already"));
    rig.settle();
    assert_eq!(rig.state(&task), TaskState::RolledBack, "a failure is a failure");
}

#[test]
fn a_pivot_that_has_certainly_not_decided_can_be_canceled_again() {
    // Its effect is not there, and its next run waits for a slot.
    let options = Options::default()
        .plan("plan", |plan| {
            let a = plan.step("a", Make(Act::on("t/a")), &[]);
            plan.step("pivot", Decide::on(Act::on("site").slot("dump")), &[&a]);
        })
        .plan("other", |plan| {
            plan.step("long", Make(Act::on("o/long").slot("dump")), &[]);
        })
        .limits(|limits| limits.per_slot = 1);
    let rig = Rig::new(1, options);
    rig.world.runs("pivot", [(Effect::None, End::InDoubt)]);
    rig.world.script("long", Kind::Run, [Behave::slow(900)]);
    let task = rig.submit("plan");
    rig.until("the pivot runs", || rig.world.count("pivot", Kind::Run) == 1);
    rig.submit("other");
    rig.until("it waits for the slot", || {
        rig.events(&task).iter().any(|event| event.kind == "probed")
            && rig.view(&task).blocked_on.is_some_and(|blocked| blocked.kind == "slot")
    });
    rig.cancel(&task).unwrap();
    rig.settle();
    assert_eq!(rig.state(&task), TaskState::Canceled);
    assert_eq!(rig.world.get("t/a"), None);
}

#[test]
fn many_cancels_are_one() {
    use kedge_engine::service::Tasks as _;
    let rig = Rig::of(plan);
    rig.world.script("a", Kind::Run, [Behave::slow(500)]);
    let task = rig.submit("plan");
    rig.until("a runs", || rig.world.count("a", Kind::Run) == 1);
    let cancels = (0..100).map(|_| {
        let (engine, task) = (rig.engine.clone(), task.clone());
        async move { engine.cancel(&task, crate::rig::actor(), "flood".to_owned()).await.is_ok() }
    });
    let answers = rig.runtime.block_on(futures::future::join_all(cancels.collect::<Vec<_>>())).unwrap();
    assert_eq!(answers.iter().filter(|taken| **taken).count(), 1);
    rig.settle();
    assert_eq!(rig.events(&task).iter().filter(|event| event.kind == "cancel_requested").count(), 1);
    assert_eq!(rig.state(&task), TaskState::Canceled);
}

#[test]
fn a_cancel_survives_a_crash() {
    let mut rig = Rig::new(3, Options::default().plan("plan", plan));
    rig.world.script("a", Kind::Undo, [Behave::new(Effect::None, End::Hang)]);
    rig.world.script("a", Kind::Run, [Behave::slow(500)]);
    let task = rig.submit("plan");
    rig.until("a runs", || rig.world.count("a", Kind::Run) == 1);
    rig.cancel(&task).unwrap();
    rig.until("a is undone", || rig.world.count("a", Kind::Undo) == 1);
    rig.restart();
    rig.settle();
    assert_eq!(rig.state(&task), TaskState::Canceled);
    assert!(rig.world.resources().is_empty());
}
