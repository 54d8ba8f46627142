//! Time: limits, retries with jitter and a total budget, start times, and a clock that jumps.

use kedge_engine::builder::PlanBuilder;
use kedge_engine::ports::Clock as _;
use kedge_engine::retry::Policy;
use kedge_engine::service::{Submission, Submitted};
use kedge_engine::task::{TaskId, TaskState};
use kedge_engine::testing::runtime::EPOCH;

use crate::rig::{Options, Rig, submission};
use crate::steps::{Act, Decide, Make, Tidy};
use crate::world::{Behave, Effect, End, Kind};

fn one(policy: Policy) -> impl Fn(&mut PlanBuilder) + Send + Sync {
    move |plan| {
        plan.step("a", Make(Act::on("t/a").policy(policy)), &[]);
    }
}

/// When attempts of `a` began.
fn began(rig: &Rig, task: &TaskId) -> Vec<u64> {
    let events = rig.events(task);
    events.iter().filter(|event| event.kind == "attempt_started").map(|event| event.at - EPOCH).collect()
}

#[test]
fn an_attempt_is_ended_at_its_limit_and_its_processes_with_it() {
    let rig =
        Rig::of(one(Policy { limit_ms: 700, attempts: 2, first_ms: 100, cap_ms: 100, budget_ms: 10_000 }));
    rig.world.runs("a", [(Effect::None, End::Hang), (Effect::None, End::Hang)]);
    let task = rig.run();
    let view = rig.view(&task);
    assert_eq!(view.state, TaskState::RolledBack);
    assert!(view.error.unwrap().detail.contains("longer than its limit of 1 s"));
    assert!(view.finished_at.unwrap() - EPOCH < 2000);
    assert!(rig.custody.alive().is_empty());
}

#[test]
fn an_undo_is_ended_at_its_limit_too() {
    let rig = Rig::of(one(Policy { limit_ms: 700, ..crate::steps::QUICK }));
    rig.world.runs("a", [(Effect::Whole, End::Fatal)]);
    rig.world.undos("a", [(Effect::Half, End::Hang)]);
    let task = rig.run();
    assert_eq!(rig.state(&task), TaskState::RolledBack);
    assert!(rig.world.resources().is_empty() && rig.custody.alive().is_empty());
}

#[test]
fn retries_back_off_with_jitter() {
    let policy = Policy { limit_ms: 1000, attempts: 6, first_ms: 100, cap_ms: 400, budget_ms: 60_000 };
    let mut delays = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let rig = Rig::new(seed, Options::default().plan("plan", one(policy)));
        rig.world.runs("a", [(Effect::None, End::Retryable); 6]);
        let task = rig.run();
        let began = began(&rig, &task);
        assert_eq!(began.len(), 6);
        let waited: Vec<u64> = began.windows(2).map(|pair| pair[1] - pair[0]).collect();
        for (delay, full) in waited.iter().zip([100, 200, 400, 400, 400]) {
            assert!((full / 2..=full).contains(delay), "{waited:?}");
        }
        delays.insert(waited);
    }
    assert!(delays.len() > 15, "tasks that failed together do not come back together");
}

#[test]
fn the_budget_ends_the_retries_before_the_attempts_do() {
    let policy = Policy { limit_ms: 1000, attempts: 1000, first_ms: 100, cap_ms: 100, budget_ms: 1000 };
    let rig = Rig::of(one(policy));
    rig.world.runs("a", [(Effect::None, End::Retryable); 100]);
    let task = rig.run();
    let began = began(&rig, &task);
    assert!((10..=21).contains(&began.len()) && *began.last().unwrap() <= 1000, "{began:?}");
    assert_eq!(rig.state(&task), TaskState::RolledBack);
}

#[test]
fn a_success_in_between_gives_fresh_patience_but_numbers_go_on() {
    // Partial, undone, run again: the undo is not the failure of the run.
    let rig = Rig::of(one(crate::steps::QUICK));
    rig.world.runs("a", [(Effect::None, End::Retryable), (Effect::None, End::Retryable)]);
    let task = rig.run();
    let view = rig.view(&task);
    assert_eq!((view.state, view.steps[0].attempts), (TaskState::Succeeded, 3));
    assert_eq!(
        view.steps[0].error.as_ref().unwrap().message,
        "a may work later",
        "the last error stays to be seen"
    );
}

#[test]
fn waiting_is_a_state_and_says_until_when() {
    let rig = Rig::of(one(crate::steps::QUICK));
    rig.world.runs("a", [(Effect::None, End::Retryable)]);
    let task = rig.submit("plan");
    rig.until("it waits", || rig.state(&task) == TaskState::Waiting);
    let blocked = rig.view(&task).blocked_on.unwrap();
    assert_eq!(blocked.kind, "retry");
    assert!(blocked.what.contains("the next attempt of a, after: a may work later"), "{}", blocked.what);
    assert!(blocked.until.unwrap() > rig.runtime.now());
    rig.settle();
    let told: Vec<String> = rig.callbacks().into_iter().rev().map(|callback| callback.event).collect();
    assert_eq!(told, ["task.running", "task.waiting", "task.running", "task.succeeded"]);
}

fn later(at: u64) -> Submission {
    Submission { not_before: Some(at), ..submission("plan") }
}

#[test]
fn a_task_does_not_begin_before_its_time_and_takes_no_lock_until_then() {
    let mut rig = Rig::of(|plan| {
        plan.lock("site x", false);
        plan.step("a", Make(Act::on("t/a")), &[]);
    });
    let Submitted::Created(view) = rig.try_submit(later(EPOCH + 5000)).unwrap() else { panic!() };
    let early = rig.submit("plan");
    rig.until("the other one is done", || rig.state(&early).is_final());
    assert!(rig.runtime.now() < EPOCH + 1000);
    let waiting = rig.view(&view.id);
    assert_eq!(waiting.state, TaskState::Queued);
    let blocked = waiting.blocked_on.unwrap();
    assert_eq!((blocked.kind.as_str(), blocked.until), ("time", Some(EPOCH + 5000)));
    rig.restart();
    rig.settle();
    let view = rig.view(&view.id);
    assert_eq!((view.state, view.started_at), (TaskState::Succeeded, Some(EPOCH + 5000)));
}

#[test]
fn a_clock_that_jumps_back_stops_nothing_that_has_begun() {
    let rig = Rig::of(|plan| {
        let a = plan.step("a", Make(Act::on("t/a")), &[]);
        plan.step("b", Make(Act::on("t/b")), &[&a]);
    });
    rig.world.script("a", Kind::Run, [Behave::slow(400)]);
    let Submitted::Created(view) = rig.try_submit(later(EPOCH + 1000)).unwrap() else { panic!() };
    rig.until("a runs", || rig.world.count("a", Kind::Run) == 1);
    rig.runtime.set_clock(EPOCH - 100_000);
    rig.until("the end", || rig.state(&view.id).is_final());
    assert_eq!(rig.state(&view.id), TaskState::Succeeded);
    assert!(rig.runtime.now() < EPOCH, "it did not wait for its start time again");
}

#[test]
fn a_clock_that_jumps_ahead_ends_patience_and_nothing_else() {
    let rig = Rig::of(|plan| {
        let a = plan.step("a", Make(Act::on("t/a")), &[]);
        let pivot = plan.step("pivot", Decide::on(Act::on("site")), &[&a]);
        plan.step("tidy", Tidy(Act::on("u")), &[&pivot]);
    });
    rig.world.script("tidy", Kind::Run, [Behave::slow(400)]);
    let task = rig.submit("plan");
    rig.until("tidy runs", || rig.world.count("tidy", Kind::Run) == 1);
    rig.runtime.set_clock(EPOCH + 1_000_000_000);
    rig.settle();
    assert_eq!(rig.state(&task), TaskState::Stuck, "by the clock, its budget was over long ago");
    rig.retry(&task).unwrap();
    rig.settle();
    assert_eq!(rig.state(&task), TaskState::Succeeded);
}
