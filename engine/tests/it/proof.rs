//! Verified compensation: fingerprints before the first effect and after the last undo.

use kedge_engine::builder::PlanBuilder;
use kedge_engine::task::TaskState;

use crate::rig::Rig;
use crate::steps::{Act, Look, Make, Print};
use crate::world::{Behave, Effect, End, Kind};

fn plan(plan: &mut PlanBuilder) {
    plan.fingerprint(&Print(vec!["t/".to_owned(), "site".to_owned()]), vec!["t".to_owned()]);
    let look = plan.step("look", Look::at("site"), &[]);
    let a = plan.step("a", Make(Act::on("site").value("closed").before(&look)), &[]);
    plan.step("b", Make(Act::on("t/b")), &[&a]);
}

#[test]
fn the_fingerprint_is_durable_before_the_first_effect_and_looking_needs_none() {
    let rig = Rig::of(plan);
    rig.world.put("site", "open");
    let task = rig.run();
    assert_eq!(rig.world.acts(), ["run look", "print fingerprint", "run a", "run b"]);
    let view = rig.view(&task);
    assert_eq!((view.state, view.outcome.unwrap().verified), (TaskState::Succeeded, None));
}

#[test]
fn equal_fingerprints_are_a_proof() {
    let rig = Rig::of(plan);
    rig.world.put("site", "open");
    rig.world.runs("b", [(Effect::Whole, End::Fatal)]);
    let task = rig.run();
    let outcome = rig.view(&task).outcome.unwrap();
    assert_eq!((outcome.verified, outcome.drift), (Some(true), vec![]));
    assert_eq!(rig.world.get("site").as_deref(), Some("open"));
    assert_eq!(rig.world.acts().last().unwrap(), "print fingerprint");
}

#[test]
fn an_undo_that_lies_is_found_out() {
    let rig = Rig::of(plan);
    rig.world.put("site", "open");
    rig.world.runs("b", [(Effect::Half, End::Fatal)]);
    rig.world.undos("b", [(Effect::None, End::Ok)]);
    let task = rig.run();
    let view = rig.view(&task);
    assert_eq!(view.state, TaskState::RolledBack);
    let outcome = view.outcome.unwrap();
    assert_eq!(outcome.verified, Some(false));
    let drift = &outcome.drift[0];
    assert_eq!((drift.resource.as_str(), drift.item.as_str()), ("world", "t/b"));
    assert_eq!((drift.before.as_deref(), drift.after.as_deref()), (None, Some("~made")));
}

#[test]
fn what_somebody_else_changed_meanwhile_shows_as_drift() {
    let rig = Rig::of(plan);
    rig.world.put("site", "open");
    rig.world.put("t/theirs", "1");
    rig.world.script("b", Kind::Run, [Behave { effect: Effect::None, end: End::Fatal, ms: 400 }]);
    let task = rig.submit("plan");
    rig.until("b runs", || rig.world.count("b", Kind::Run) == 1);
    rig.world.remove("t/theirs");
    rig.settle();
    let outcome = rig.view(&task).outcome.unwrap();
    assert_eq!((outcome.verified, outcome.drift[0].item.as_str()), (Some(false), "t/theirs"));
    assert_eq!((outcome.drift[0].before.as_deref(), outcome.drift[0].after.as_deref()), (Some("1"), None));
}

#[test]
fn without_a_first_fingerprint_nothing_is_touched() {
    for end in [End::Fatal, End::Panic, End::Hang, End::Retryable] {
        let rig = Rig::of(plan);
        rig.world.script("fingerprint", Kind::Print, [Behave::new(Effect::None, end); 3]);
        let task = rig.run();
        let view = rig.view(&task);
        assert_eq!(view.state, TaskState::RolledBack, "{end:?}");
        assert_eq!(
            (view.outcome.unwrap().verified, view.error.unwrap().step.as_str()),
            (None, "fingerprint")
        );
        assert_eq!(rig.world.count("a", Kind::Run), 0);
    }
}

#[test]
fn a_last_fingerprint_that_cannot_be_read_is_no_proof_and_says_so() {
    let rig = Rig::of(plan);
    rig.world.runs("b", [(Effect::Whole, End::Fatal)]);
    let bad = vec![Behave::new(Effect::None, End::Fatal); 200];
    rig.world.script("fingerprint", Kind::Print, std::iter::once(Behave::WELL).chain(bad));
    let task = rig.run();
    let view = rig.view(&task);
    assert_eq!(view.state, TaskState::RolledBack, "the undo is done; only the proof is missing");
    let outcome = view.outcome.unwrap();
    assert_eq!(outcome.verified, Some(false));
    assert_eq!(
        (outcome.drift[0].resource.as_str(), outcome.drift[0].after.as_deref()),
        ("fingerprint", Some("fingerprint cannot work"))
    );
    assert!(rig.world.count("fingerprint", Kind::Print) > 50, "it was tried for long");
}

#[test]
fn a_plan_without_a_fingerprint_proves_nothing_and_does_not_claim_to() {
    let rig = Rig::of(|plan| {
        plan.step("a", Make(Act::on("t/a")), &[]);
    });
    rig.world.runs("a", [(Effect::Whole, End::Fatal)]);
    let task = rig.run();
    assert_eq!(rig.view(&task).outcome.unwrap().verified, None);
}

#[test]
fn a_failure_before_anything_was_touched_needs_no_second_look() {
    let rig = Rig::of(plan);
    rig.world.runs("look", [(Effect::None, End::Fatal)]);
    let task = rig.run();
    assert_eq!(rig.view(&task).outcome.unwrap().verified, None);
    assert!(rig.world.count("fingerprint", Kind::Print) <= 1);
}

#[test]
fn a_damaged_listing_is_no_proof() {
    let rig = Rig::of(plan);
    rig.world.runs("b", [(Effect::Whole, End::Fatal)]);
    rig.world.undos("b", [(Effect::None, End::Ok)]);
    let task = rig.submit("plan");
    rig.until("the first fingerprint is there", || rig.world.count("a", Kind::Run) == 1);
    let taken = rig.events(&task).into_iter().find(|event| event.kind == "fingerprint_taken").unwrap();
    let listing = serde_json::from_value(taken.data["listing"].clone()).unwrap();
    assert!(rig.store.damage_blob(&listing));
    rig.settle();
    let outcome = rig.view(&task).outcome.unwrap();
    assert_eq!((outcome.verified, outcome.drift[0].resource.as_str()), (Some(false), "fingerprint"));
    assert!(outcome.drift[0].after.as_deref().unwrap().contains("hash"));
}
