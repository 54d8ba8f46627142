//! Rollback: order, the failed step, patience, and what one stuck undo does not stop.

use std::sync::Arc;

use kedge_engine::builder::PlanBuilder;
use kedge_engine::event::Event;
use kedge_engine::journal::{self, Journal, keys};
use kedge_engine::machine::Machine;
use kedge_engine::plan::UndoSpec;
use kedge_engine::service::ResolveVerb;
use kedge_engine::store::{Batch, Store as _};
use kedge_engine::task::{StepStateView, TaskState};

use crate::rig::{Rig, steps};
use crate::steps::{Act, Fill, Look, Make, PATIENT};
use crate::world::{Effect, End, Kind};

/// `i -> (a || b) -> c`, and `x -> y` beside it.
fn two_branches(plan: &mut PlanBuilder) {
    let i = plan.step("i", Make(Act::on("t/i")), &[]);
    let a = plan.step("a", Make(Act::on("t/a")), &[&i]);
    let b = plan.step("b", Make(Act::on("t/b")), &[&i]);
    plan.step("c", Make(Act::on("t/c")), &[&a, &b]);
    let x = plan.step("x", Make(Act::on("t/x")), &[]);
    plan.step("y", Make(Act::on("t/y")), &[&x]);
}

#[test]
fn the_failed_step_is_undone_too_whatever_it_has_left() {
    for effect in [Effect::None, Effect::Half, Effect::Whole] {
        for end in [End::Fatal, End::Retryable, End::InDoubt] {
            let rig = Rig::of(two_branches);
            rig.world.runs("c", [(effect, end); 3]);
            rig.world.probes("c", [End::Retryable, End::Retryable]);
            let task = rig.run();
            let view = rig.view(&task);
            if end == End::InDoubt && effect == Effect::Whole {
                assert_eq!(view.state, TaskState::Succeeded, "a probe found it: that is no failure");
                continue;
            }
            assert_eq!(view.state, TaskState::RolledBack, "{effect:?} {end:?}: {:#?}", rig.story(&task));
            assert!(rig.world.resources().is_empty(), "{effect:?} {end:?}: {:?}", rig.world.resources());
            assert!(rig.world.count("c", Kind::Undo) >= 1);
            let error = view.error.unwrap();
            assert_eq!((error.step.as_str(), error.title.as_str()), ("c", "make t/c"));
        }
    }
}

#[test]
fn a_step_without_an_undo_says_why_and_goes_with_the_one_that_covers_it() {
    let rig = Rig::of(|plan| {
        let folder = plan.step("folder", Make(Act::on("t/folder")), &[]);
        let look = plan.step("look", Look::at("t/folder"), &[&folder]);
        let fill = plan.step("fill", Fill(Act::on("t/folder/index")), &[&look]);
        plan.step("last", Make(Act::on("t/last")), &[&fill]);
    });
    rig.world.runs("last", [(Effect::Half, End::Fatal)]);
    let task = rig.run();
    assert_eq!(rig.state(&task), TaskState::RolledBack);
    assert!(rig.world.resources().is_empty());
    let records = Journal::new(Arc::new(rig.store.clone())).history(&task).unwrap().0;
    let Event::Accepted(accepted) = &records[0].event else { panic!() };
    for (_, spec) in accepted.plan.steps() {
        match (&spec.undo, spec.name.as_str()) {
            (UndoSpec::None { why }, "look" | "fill") => assert!(!why.is_empty()),
            (UndoSpec::Own { title }, "folder" | "last") => assert!(!title.is_empty()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_undo_has_its_own_longer_patience() {
    let rig = Rig::of(two_branches);
    rig.world.runs("c", [(Effect::Whole, End::Fatal)]);
    let tries = usize::try_from(PATIENT.attempts).unwrap();
    rig.world.undos("c", vec![(Effect::Half, End::Retryable); tries - 1]);
    let task = rig.run();
    assert_eq!(rig.state(&task), TaskState::RolledBack);
    assert_eq!(rig.world.count("c", Kind::Undo), tries);

    let rig = Rig::of(two_branches);
    rig.world.runs("c", [(Effect::Whole, End::Fatal)]);
    rig.world.undos("c", vec![(Effect::Half, End::Retryable); tries]);
    let task = rig.run();
    assert_eq!(rig.state(&task), TaskState::Stuck);
    assert_eq!(
        rig.view(&task).steps.iter().find(|step| step.name == "c").unwrap().undo.attempts,
        PATIENT.attempts
    );
}

#[test]
fn other_branches_finish_their_undo_when_one_is_stuck() {
    let rig = Rig::of(two_branches);
    rig.world.runs("c", [(Effect::Whole, End::Fatal)]);
    rig.world.undos("a", [(Effect::None, End::Fatal)]);
    let task = rig.run();
    let view = rig.view(&task);
    assert_eq!(view.state, TaskState::Stuck);
    let states = steps(&view);
    for undone in ["c", "b", "x", "y"] {
        assert_eq!(states[undone], StepStateView::Undone, "{undone}");
    }
    assert_eq!(states["a"], StepStateView::Stuck);
    assert_eq!(states["i"], StepStateView::Succeeded, "an ancestor of what is stuck waits");
    let incident = view.incident.unwrap();
    assert_eq!((incident.steps.len(), incident.steps[0].reason.as_str()), (1, "a cannot work"));
    rig.resolve(&task, "a", ResolveVerb::Retry).unwrap();
    rig.settle();
    assert_eq!(rig.state(&task), TaskState::RolledBack);
    assert!(rig.world.resources().is_empty());
}

#[test]
fn a_half_unwound_history_goes_on_where_steno_refuses_it() {
    // i ok, a started, b started, a ok, b failed, a undone, crash. c was never started.
    let mut rig = Rig::of(|plan| {
        let i = plan.step("i", Make(Act::on("t/i")), &[]);
        let a = plan.step("a", Make(Act::on("t/a")), &[&i]);
        let b = plan.step("b", Fill(Act::on("t/i/b")), &[&i]);
        plan.step("c", Make(Act::on("t/c")), &[&a, &b]);
    });
    rig.world.runs("b", [(Effect::Half, End::Fatal)]);
    let task = rig.submit("plan");
    rig.until("a is undone", || {
        rig.view(&task).steps.iter().any(|step| step.name == "a" && step.state == StepStateView::Undone)
    });
    rig.restart();
    rig.settle();
    assert_eq!(rig.state(&task), TaskState::RolledBack, "{:#?}", rig.story(&task));
    assert_eq!(rig.world.acts().last().unwrap(), "undo i");
    assert!(rig.world.resources().is_empty());
    assert_eq!(rig.world.count("c", Kind::Run), 0);
}

#[test]
fn the_same_history_event_by_event_from_every_place_in_it() {
    // Cut after each event of a rollback: what is left of it is taken up from there, and ends in the same world.
    let rig = Rig::of(two_branches);
    rig.world.runs("c", [(Effect::Half, End::Fatal)]);
    let task = rig.run();
    let whole = Journal::new(Arc::new(rig.store.clone())).history(&task).unwrap().0;
    assert_eq!(rig.state(&task), TaskState::RolledBack);
    for cut in 1..whole.len() {
        let mut rig = Rig::of(two_branches);
        // A journal that ends there, and the world as these events say that it is.
        let mut machine = Machine::begin(&whole[0]).unwrap();
        whole[1..cut].iter().for_each(|record| machine.apply(record).unwrap());
        for record in &whole[..cut] {
            match &record.event {
                Event::AttemptStarted { step, .. } => rig.world.put(&format!("t/{step}"), "made"),
                Event::UndoSucceeded { step, .. } => rig.world.remove(&format!("t/{step}")),
                _ => {}
            }
        }
        plant(&rig, &whole[..cut], &machine);
        rig.watch.reread(&rig.store);
        rig.boot().unwrap();
        rig.settle();
        let state = rig.state(&task);
        assert!(state.is_final(), "cut after {cut}: {state:?}");
        if state == TaskState::RolledBack {
            assert!(rig.world.resources().is_empty(), "cut after {cut}: {:?}", rig.world.resources());
        } else {
            assert_eq!(rig.world.resources().len(), 6, "cut after {cut}");
        }
    }
}

/// Writes a history into a store, as drivers do.
fn plant(rig: &Rig, records: &[journal::Record], machine: &Machine) {
    let journal = Journal::new(Arc::new(rig.store.clone()));
    let task = machine.accepted().task.clone();
    let mut batch = Batch::new();
    let mut records = records.to_vec();
    let (store, head) = (rig.store.clone(), machine.clone());
    rig.runtime
        .block_on(async move {
            let hash = journal.append(&mut batch, &task, "", &mut records).await.unwrap();
            let head = journal::Head {
                sequence: head.sequence(),
                hash,
                epoch: head.epoch(),
                state: head.state(),
                workflow: head.accepted().workflow.clone(),
                site: None,
                created_at: head.created_at(),
            };
            batch.put(keys::head(&task), serde_json::to_vec(&head).unwrap());
            batch.put(keys::open(&task), b"");
            store.commit(batch).await.unwrap();
        })
        .unwrap();
}
