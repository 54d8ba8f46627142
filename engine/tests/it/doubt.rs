//! Steps in doubt: an attempt was started and its result is unknown. A probe decides.

use kedge_engine::builder::PlanBuilder;
use kedge_engine::event::Verdict;
use kedge_engine::task::{StepStateView, TaskState};

use crate::rig::{Options, Rig};
use crate::steps::{Act, Decide, Make, ProbeStyle, Tidy};
use crate::world::{Behave, Effect, End, Kind};

fn chain(probe: ProbeStyle) -> impl Fn(&mut PlanBuilder) + Send + Sync {
    move |plan| {
        let a = plan.step("a", Make(Act::on("t/a").probe(probe)), &[]);
        let b = plan.step("b", Make(Act::on("t/b").needs(&[&a])), &[]);
        let pivot = plan.step("pivot", Decide::on(Act::on("site")), &[&b]);
        plan.step("tidy", Tidy(Act::on("u")), &[&pivot]);
    }
}

/// The process ends while the first attempt of `a` is in flight, with this much of its effect there.
fn dies_in_a(effect: Effect, probe: ProbeStyle) -> (Rig, kedge_engine::task::TaskId) {
    let mut rig = Rig::of(chain(probe));
    rig.world.script("a", Kind::Run, [Behave { effect, end: End::Hang, ms: 0 }]);
    let task = rig.submit("plan");
    rig.until("a is where it dies", || {
        rig.world.count("a", Kind::Run) == 1 && (effect == Effect::None || rig.world.get("t/a").is_some())
    });
    rig.restart();
    rig.settle();
    (rig, task)
}

#[test]
fn nothing_is_there_so_it_is_run_again() {
    let (rig, task) = dies_in_a(Effect::None, ProbeStyle::Honest);
    assert_eq!(rig.state(&task), TaskState::Succeeded);
    assert_eq!(rig.world.acts()[..3], ["run a", "probe a", "run a"]);
}

#[test]
fn all_of_it_is_there_so_it_is_adopted() {
    let (rig, task) = dies_in_a(Effect::Whole, ProbeStyle::Honest);
    assert_eq!(rig.state(&task), TaskState::Succeeded);
    assert_eq!(
        rig.world.acts()[..3],
        ["run a", "probe a", "run b"],
        "it is not run again, and b got its output"
    );
    let adopted = rig.events(&task).into_iter().find(|event| event.data["adopted"] == true).unwrap();
    assert_eq!(adopted.data["step"], "a");
}

#[test]
fn half_of_it_is_there_so_it_is_undone_and_run_again() {
    let (rig, task) = dies_in_a(Effect::Half, ProbeStyle::Honest);
    assert_eq!(rig.state(&task), TaskState::Succeeded);
    assert_eq!(rig.world.acts()[..4], ["run a", "probe a", "undo a", "run a"]);
    assert_eq!(rig.view(&task).error, None, "the task never turned round");
}

#[test]
fn half_of_it_is_there_and_it_goes_on_from_there() {
    let (rig, task) = dies_in_a(Effect::Half, ProbeStyle::Resumes);
    assert_eq!(rig.state(&task), TaskState::Succeeded);
    assert_eq!(rig.world.acts()[..3], ["run a", "probe a", "run a"]);
}

#[test]
fn what_cannot_be_told_needs_a_person() {
    let rig = Rig::of(chain(ProbeStyle::Honest));
    rig.world.runs("a", [(Effect::Half, End::InDoubt)]);
    rig.world.probes("a", [End::Unknown]);
    let task = rig.run();
    let view = rig.view(&task);
    assert_eq!(view.state, TaskState::Stuck);
    let stuck = &view.incident.unwrap().steps[0];
    assert_eq!((stuck.step.as_str(), stuck.phase.as_str()), ("a", "run"));
    assert_eq!(stuck.probe.as_deref(), Some("two of them are there"));
    assert_eq!(stuck.by_hand, ["look at t/a"]);
    // Tried again, it is probed again before anything else.
    rig.retry(&task).unwrap();
    rig.settle();
    assert_eq!(rig.state(&task), TaskState::Succeeded);
    assert_eq!(rig.world.acts()[..5], ["run a", "probe a", "probe a", "undo a", "run a"]);
}

#[test]
fn a_probe_that_fails_is_asked_again_without_costing_the_step_its_attempts() {
    let rig = Rig::of(chain(ProbeStyle::Honest));
    // Two of three attempts are used up; many failed probes must not use up the third.
    rig.world.runs("a", [(Effect::None, End::Retryable), (Effect::None, End::InDoubt)]);
    rig.world.probes("a", [End::Retryable, End::Fatal, End::Panic, End::Hang, End::InDoubt]);
    let task = rig.run();
    assert_eq!(rig.state(&task), TaskState::Succeeded, "{:#?}", rig.story(&task));
    assert_eq!(rig.world.count("a", Kind::Probe), 6);
}

#[test]
fn a_probe_that_never_works_ends_with_a_person() {
    let rig = Rig::of(chain(ProbeStyle::Honest));
    rig.world.runs("a", [(Effect::Half, End::InDoubt)]);
    rig.world.probes("a", [End::Retryable; 200]);
    let task = rig.run();
    assert_eq!(rig.state(&task), TaskState::Stuck);
    let probes = rig.world.count("a", Kind::Probe);
    assert!((50..=101).contains(&probes), "patient, but not for ever: {probes}");
    rig.world.behave();
    rig.retry(&task).unwrap();
    rig.settle();
    assert_eq!(rig.state(&task), TaskState::Succeeded);
}

#[test]
fn a_pivot_in_doubt_is_probed_until_it_is_known_and_never_rolled_back_before() {
    let rig = Rig::of(chain(ProbeStyle::Honest));
    // The decision was made, but nobody heard of it; and the host is away for longer than any policy of the step.
    rig.world.runs("pivot", [(Effect::Whole, End::InDoubt)]);
    rig.world.probes("pivot", [End::Retryable; 30]);
    let task = rig.run();
    assert_eq!(rig.state(&task), TaskState::Succeeded);
    assert_eq!(rig.world.count("pivot", Kind::Run), 1);
    assert_eq!(rig.world.count("b", Kind::Undo), 0);

    // It answers "in doubt" more often than its policy allows attempts: still nothing is guessed.
    let rig = Rig::of(chain(ProbeStyle::Honest));
    rig.world.runs("pivot", [(Effect::None, End::InDoubt); 10]);
    let task = rig.run();
    assert_eq!(rig.state(&task), TaskState::Succeeded);
    assert_eq!(rig.world.count("pivot", Kind::Probe), 10);
    assert_eq!(rig.world.count("b", Kind::Undo), 0);
}

#[test]
fn a_pivot_that_has_not_decided_can_fail() {
    let rig = Rig::of(chain(ProbeStyle::Honest));
    rig.world.runs("pivot", [(Effect::None, End::InDoubt), (Effect::None, End::Fatal)]);
    let task = rig.run();
    assert_eq!(rig.state(&task), TaskState::RolledBack);
    assert!(rig.world.resources().is_empty());
}

#[test]
fn a_run_that_can_simply_be_repeated_needs_no_probe_of_its_own_and_is_still_undone() {
    // The default probe says "go on", not "nothing is there": what the lost attempt has done must not be forgotten.
    let rig = Rig::of(|plan| {
        let a = plan.step("a", Make(Act::on("t/a").probe(ProbeStyle::Repeat).slot("dump")), &[]);
        let _ = a;
        plan.step("b", Make(Act::on("t/b")), &[]);
    });
    rig.world.runs("a", [(Effect::Whole, End::InDoubt), (Effect::None, End::Fatal)]);
    let task = rig.run();
    assert_eq!(rig.state(&task), TaskState::RolledBack);
    assert!(rig.world.resources().is_empty(), "{:?}", rig.world.resources());
}

#[test]
fn what_was_found_half_done_is_not_forgotten_while_its_next_run_waits() {
    for probe in [ProbeStyle::Repeat, ProbeStyle::Resumes] {
        let options = Options::default()
            .plan("plan", move |plan| {
                plan.step("a", Make(Act::on("t/a").probe(probe).slot("dump")), &[]);
                plan.step("b", Make(Act::on("t/b")), &[]);
            })
            .plan("other", |plan| {
                plan.step("long", Make(Act::on("o/long").slot("dump")), &[]);
            })
            .limits(|limits| limits.per_slot = 1);
        let rig = Rig::new(1, options);
        rig.world.runs("a", [(Effect::Half, End::InDoubt)]);
        rig.world.script("b", Kind::Run, [Behave { effect: Effect::None, end: End::Fatal, ms: 600 }]);
        rig.world.script("long", Kind::Run, [Behave::slow(900)]);
        let task = rig.submit("plan");
        rig.until("a runs", || rig.world.count("a", Kind::Run) == 1);
        let other = rig.submit("other");
        rig.settle();
        // The other task had the slot, so a was probed and waited; then b failed.
        let mut acts = rig.world.acts().split_off(2);
        acts[2..].sort();
        assert_eq!(acts, ["run long", "probe a", "undo a", "undo b"]);
        assert_eq!((rig.state(&task), rig.state(&other)), (TaskState::RolledBack, TaskState::Succeeded));
        assert_eq!(rig.world.resources().keys().collect::<Vec<_>>(), ["o/long"]);
    }
}

#[test]
fn going_back_nothing_is_probed_but_what_decides() {
    let mut rig = Rig::of(|plan| {
        plan.step("a", Make(Act::on("t/a")), &[]);
        plan.step("b", Make(Act::on("t/b")), &[]);
    });
    rig.world.runs("a", [(Effect::Half, End::Hang)]);
    rig.world.script("b", Kind::Run, [Behave { effect: Effect::None, end: End::Fatal, ms: 10 }]);
    let task = rig.submit("plan");
    rig.until("b has failed", || rig.view(&task).error.is_some());
    rig.restart();
    rig.settle();
    assert_eq!(rig.state(&task), TaskState::RolledBack);
    assert_eq!(rig.world.count("a", Kind::Probe), 0, "its undo is right whatever is there");
    assert!(rig.world.resources().is_empty());
}

#[test]
fn an_undo_does_not_begin_beside_the_probe_of_its_step() {
    let rig = Rig::of(|plan| {
        plan.step("a", Make(Act::on("t/a")), &[]);
        plan.step("b", Make(Act::on("t/b")), &[]);
    });
    rig.world.runs("a", [(Effect::Whole, End::InDoubt)]);
    rig.world.script("a", Kind::Probe, [Behave::slow(100_000)]);
    rig.world.script("b", Kind::Run, [Behave { effect: Effect::None, end: End::Fatal, ms: 800 }]);
    let task = rig.run();
    assert_eq!(rig.state(&task), TaskState::RolledBack);
    let acts = rig.world.acts();
    assert_eq!(
        (acts.iter().filter(|act| *act == "probe a").count(), acts.last().unwrap().as_str()),
        (1, "undo a")
    );
    let view = rig.view(&task);
    assert!(view.finished_at.unwrap() - view.created_at < 10_000, "the probe was cut short");
}

#[test]
fn verdicts_and_states_are_told() {
    let rig = Rig::of(chain(ProbeStyle::Honest));
    rig.world.runs("a", [(Effect::Half, End::InDoubt)]);
    rig.world.script("a", Kind::Probe, [Behave::slow(50)]);
    let task = rig.submit("plan");
    let mut states = std::collections::BTreeSet::new();
    rig.until("the end", || {
        let view = rig.view(&task);
        states.insert(format!("{:?}", view.steps[0].state));
        view.state.is_final()
    });
    for state in
        [StepStateView::Running, StepStateView::InDoubt, StepStateView::Undoing, StepStateView::Succeeded]
    {
        assert!(states.contains(&format!("{state:?}")), "{states:?}");
    }
    let probed = rig.events(&task).into_iter().find(|event| event.kind == "probed").unwrap();
    let verdict: Verdict = serde_json::from_value(probed.data["verdict"].clone()).unwrap();
    assert_eq!(verdict, Verdict::Partial { what: "~made".to_owned() });
}

#[test]
fn the_machine_never_takes_a_pivot_in_doubt_for_failed() {
    use kedge_engine::event::{Event, Then};
    use kedge_engine::machine::Machine;
    use kedge_engine::step::StepError;
    // No driver writes that; a journal that says so is still not a reason to undo under a decision.
    let rig = Rig::of(chain(ProbeStyle::Honest));
    let task = rig.run();
    let records = rig.watch.records(&task);
    let started = records
        .iter()
        .position(|record| matches!(&record.event, Event::AttemptStarted { step, .. } if step == "pivot"));
    let mut machine = Machine::begin(&records[0]).unwrap();
    records[1..=started.unwrap()].iter().for_each(|record| machine.apply(record).unwrap());
    let event = Event::AttemptFailed {
        step: "pivot".to_owned(),
        attempt: 1,
        error: StepError::in_doubt("the answer was lost"),
        then: Then::GiveUp,
    };
    machine.apply(&kedge_engine::journal::record(machine.sequence() + 1, 1, 0, event)).unwrap();
    assert!(!machine.goes_back());
    assert_eq!(machine.state(), TaskState::Stuck);
}
