//! Sub-tasks: inlined in the plan, committed at their own pivot, never undone afterwards.

use kedge_engine::builder::PlanBuilder;
use kedge_engine::task::{StepStateView, TaskState};

use crate::rig::{Rig, steps};
use crate::steps::{Act, Decide, Look, Make, Print, Tidy};
use crate::world::{Behave, Effect, End, Kind};

fn plan(plan: &mut PlanBuilder) {
    plan.fingerprint(&Print(vec!["t/".to_owned()]), vec!["t".to_owned()]);
    let look = plan.step("look", Look::at("t/"), &[]);
    let other = plan.step("other", Make(Act::on("t/other")), &[]);
    let backup = plan.scope("backup", |plan| {
        let pack = plan.step("pack", Make(Act::on("b/pack")), &[&look]);
        let keep = plan.step("keep", Decide::on(Act::on("b/keep")), &[&pack]);
        plan.step("clean", Tidy(Act::on("b/clean")), &[&keep])
    });
    let last = plan.step("last", Make(Act::on("t/last")), &[&backup, &other]);
    plan.step("pivot", Decide::on(Act::on("site")), &[&last]);
}

#[test]
fn it_survives_the_rollback_of_its_task() {
    let rig = Rig::of(plan);
    rig.world.runs("last", [(Effect::Half, End::Fatal)]);
    let task = rig.run();
    let view = rig.view(&task);
    assert_eq!((view.state, view.outcome.as_ref().unwrap().verified), (TaskState::RolledBack, Some(true)));
    let left: Vec<String> = rig.world.resources().into_keys().collect();
    assert_eq!(left, ["b/clean", "b/keep", "b/pack"]);
    assert_eq!(steps(&view)["pack"], StepStateView::Succeeded);
}

#[test]
fn it_is_undone_when_it_has_not_committed() {
    let rig = Rig::of(plan);
    rig.world.runs("keep", [(Effect::None, End::Fatal)]);
    let task = rig.run();
    assert_eq!(rig.state(&task), TaskState::RolledBack);
    assert!(rig.world.resources().is_empty());
}

/// `other` fails while this step is in flight for so long.
fn turns_while(step: &str, slow: Behave) -> (Rig, kedge_engine::task::TaskId) {
    let rig = Rig::of(plan);
    rig.world.script("other", Kind::Run, [Behave { effect: Effect::Whole, end: End::Fatal, ms: 500 }]);
    rig.world.script(step, Kind::Run, [slow]);
    let task = rig.submit("plan");
    rig.until("it goes back", || rig.view(&task).error.is_some());
    (rig, task)
}

#[test]
fn its_pivot_is_awaited_when_the_task_goes_back() {
    let (rig, task) = turns_while("keep", Behave::slow(900));
    assert_eq!(steps(&rig.view(&task))["keep"], StepStateView::Running, "what decides is not cut short");
    rig.settle();
    assert_eq!(rig.state(&task), TaskState::RolledBack);
    assert_eq!(rig.world.get("b/pack").as_deref(), Some("made"), "it decided, so it is kept");
    assert_eq!(rig.world.get("b/clean").as_deref(), Some("made"), "and goes on to its end");
    assert_eq!(rig.world.get("t/other"), None);
}

#[test]
fn its_pivot_in_doubt_is_probed_while_the_task_goes_back() {
    for (effect, kept) in [(Effect::Whole, true), (Effect::None, false), (Effect::Half, false)] {
        let (rig, task) = turns_while("keep", Behave { effect, end: End::InDoubt, ms: 900 });
        rig.world.probes("keep", [End::Retryable, End::Retryable]);
        rig.settle();
        assert_eq!(rig.state(&task), TaskState::RolledBack);
        assert_eq!(rig.world.get("b/pack").is_some(), kept, "{effect:?}: {:#?}", rig.story(&task));
        assert_eq!(rig.world.count("keep", Kind::Run), 1, "it is not run again");
        assert_eq!(rig.world.count("keep", Kind::Probe), 3);
    }
}

#[test]
fn its_pivot_in_doubt_that_cannot_be_told_needs_a_person_and_others_are_undone() {
    let (rig, task) = turns_while("keep", Behave { effect: Effect::Whole, end: End::InDoubt, ms: 900 });
    rig.world.probes("keep", [End::Unknown]);
    rig.settle();
    assert_eq!(rig.state(&task), TaskState::Stuck);
    let view = rig.view(&task);
    assert_eq!(
        (steps(&view)["other"], steps(&view)["pack"]),
        (StepStateView::Undone, StepStateView::Succeeded)
    );
    rig.retry(&task).unwrap();
    rig.settle();
    assert_eq!(rig.state(&task), TaskState::RolledBack);
    assert!(rig.world.get("b/pack").is_some());
}

#[test]
fn what_comes_after_its_pivot_goes_on_when_the_task_goes_back() {
    // It runs: it is not cut short. It fails: it is tried again. The process dies: it is probed and run again.
    let (rig, task) = turns_while("clean", Behave { effect: Effect::None, end: End::Retryable, ms: 900 });
    rig.settle();
    assert_eq!((rig.state(&task), rig.world.count("clean", Kind::Run)), (TaskState::RolledBack, 2));
    assert_eq!(rig.world.get("b/clean").as_deref(), Some("made"));

    let (mut rig, task) = turns_while("clean", Behave { effect: Effect::Half, end: End::Hang, ms: 0 });
    rig.restart();
    rig.settle();
    assert_eq!((rig.state(&task), rig.world.count("clean", Kind::Run)), (TaskState::RolledBack, 2));
    assert_eq!(rig.world.get("b/clean").as_deref(), Some("made"));
}

#[test]
fn what_comes_after_its_pivot_and_cannot_be_done_fails_the_task_before_its_own_pivot() {
    let rig = Rig::of(plan);
    rig.world.runs("clean", [(Effect::None, End::Fatal)]);
    let task = rig.run();
    let view = rig.view(&task);
    assert_eq!((view.state, view.error.unwrap().step.as_str()), (TaskState::RolledBack, "clean"));
    assert!(rig.world.get("b/pack").is_some() && rig.world.get("t/other").is_none());

    // And when it goes back already, that is that.
    let (rig, task) = turns_while("clean", Behave { effect: Effect::None, end: End::Fatal, ms: 900 });
    rig.settle();
    let view = rig.view(&task);
    assert_eq!((view.state, view.error.unwrap().step.as_str()), (TaskState::RolledBack, "other"));
}

#[test]
fn a_poison_step_after_its_pivot_ends_also_when_the_task_goes_back() {
    let (mut rig, task) = turns_while("clean", Behave { effect: Effect::None, end: End::Hang, ms: 0 });
    rig.world.script("clean", Kind::Run, vec![Behave::new(Effect::None, End::Hang); 20]);
    for _ in 0..10 {
        let before = rig.world.count("clean", Kind::Run);
        let stop = rig.runtime.run(10_000, || rig.world.count("clean", Kind::Run) > before);
        if stop != kedge_engine::testing::runtime::Stop::Done {
            break;
        }
        rig.restart();
    }
    assert_eq!(rig.state(&task), TaskState::RolledBack, "{:#?}", rig.story(&task));
    rig.sound();
}
