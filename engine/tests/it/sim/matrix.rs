//! The matrix: each step fails in each way, and the process dies at each place of that, and once more while the next one recovers.

use std::collections::BTreeSet;

use kedge_engine::builder::PlanBuilder;
use kedge_engine::task::{TaskId, TaskState};
use kedge_engine::testing::memory_store::{Crash, Fault, Moment};
use kedge_engine::testing::runtime::Dice;

use crate::rig::{Options, Rig};
use crate::steps::{Act, Decide, Fill, Look, Make, Print, Tidy};
use crate::world::{Behave, Effect, End, Kind};

/// A migrate in small: a backup that commits on its own, two branches, a pivot, and what comes after it.
fn plan(plan: &mut PlanBuilder) {
    plan.lock("site", false);
    plan.fingerprint(&Print(vec!["t/".to_owned(), "site".to_owned()]), vec!["the site".to_owned()]);
    let look = plan.step("look", Look::at("site"), &[]);
    let backup = plan.scope("backup", |plan| {
        let pack = plan.step("pack", Make(Act::on("b/pack")), &[&look]);
        let keep = plan.step("keep", Decide::on(Act::on("b/keep")), &[&pack]);
        plan.step("clean", Tidy(Act::on("b/clean")), &[&keep])
    });
    let stage = plan.step("stage", Make(Act::on("t/stage")), &[&look]);
    let fill = plan.step("fill", Fill(Act::on("t/stage/index").needs(&[&stage])), &[]);
    let close = plan.step("close", Make(Act::on("site").value("closed").before(&look)), &[&fill, &backup]);
    let pivot = plan.step("pivot", Decide::on(Act::on("u/pivot")), &[&close]);
    plan.step("open", Tidy(Act::on("site").value("new")), &[&pivot]);
}

const BEFORE_PIVOT: [&str; 5] = ["look", "pack", "stage", "fill", "close"];
const STEPS: [&str; 8] = ["look", "pack", "keep", "clean", "stage", "fill", "close", "pivot"];

/// How one call of one step goes wrong.
#[derive(Clone, Copy, Debug)]
struct Trouble {
    step: &'static str,
    kind: Kind,
    behave: Behave,
}

fn troubles() -> Vec<Vec<Trouble>> {
    let mut troubles = vec![vec![]];
    for step in STEPS.into_iter().chain(["open"]) {
        for (effect, end) in [
            (Effect::Half, End::Fatal),
            (Effect::Whole, End::InDoubt),
            (Effect::Half, End::Panic),
            (Effect::None, End::Hang),
        ] {
            if step == "open" && end == End::Fatal {
                continue; // After the pivot that is a matter for a person.
            }
            let run = Trouble { step, kind: Kind::Run, behave: Behave::new(effect, end) };
            troubles.push(vec![run]);
            if BEFORE_PIVOT.contains(&step) && end == End::Fatal {
                // And each undo of the rollback has to be tried twice.
                let undo = |step| Trouble {
                    step,
                    kind: Kind::Undo,
                    behave: Behave::new(Effect::Half, End::Retryable),
                };
                troubles.push(std::iter::once(run).chain(["pack", "stage", "close"].map(undo)).collect());
            }
        }
    }
    troubles
}

fn begin(troubles: &[Trouble]) -> (Rig, TaskId) {
    // With pauses around each write, there are more places to die at.
    let mut options = Options::default().plan("plan", plan);
    options.pauses = true;
    let rig = Rig::new(1, options);
    rig.world.put("site", "old");
    for trouble in troubles {
        rig.world.script(trouble.step, trouble.kind, [trouble.behave]);
    }
    let task = rig.submit("plan");
    (rig, task)
}

/// Done, or as before and verified; nothing else.
fn judge(rig: &Rig, task: &TaskId, what: &str) {
    rig.sound();
    let view = rig.view(task);
    let left: BTreeSet<(String, String)> = rig.world.resources().into_iter().collect();
    let is = |key: &str, value: &str| left.contains(&(key.to_owned(), value.to_owned()));
    match view.state {
        TaskState::Succeeded => {
            let made = ["b/pack", "b/keep", "b/clean", "t/stage", "t/stage/index", "u/pivot"];
            assert!(made.iter().all(|key| is(key, "made")) && is("site", "new"), "{what}: {left:?}");
        }
        TaskState::RolledBack => {
            assert!(view.outcome.as_ref().unwrap().verified.unwrap_or(true), "{what}: {:?}", view.outcome);
            assert!(is("site", "old"), "{what}: {left:?}");
            let rest: Vec<&str> =
                left.iter().map(|(key, _)| key.as_str()).filter(|key| *key != "site").collect();
            let kept = is("b/keep", "made");
            assert!(rest.iter().all(|key| kept && key.starts_with("b/")), "{what}: {left:?}");
            assert!(!kept || is("b/pack", "made"), "{what}: {left:?}");
        }
        state => panic!("{what}: {state:?} {:#?}", rig.story(task)),
    }
    assert!(rig.custody.alive().is_empty(), "{what}");
}

#[test]
fn each_step_fails_in_each_way_and_the_process_dies_at_each_place_of_it_and_of_the_recovery() {
    let mut dice = Dice::new(1);
    let mut runs = 0;
    for troubles in troubles() {
        let (rig, task) = begin(&troubles);
        let start = rig.runtime.polls();
        rig.settle();
        judge(&rig, &task, &format!("{troubles:?}"));
        let polls = rig.runtime.polls() - start;
        for first in 0..polls {
            let (mut rig, task) = begin(&troubles);
            rig.runtime.run(first, || false);
            rig.restart();
            // Once more, somewhere in what is left; at its very beginning too.
            let second = if dice.percent(20) { dice.below(3) } else { dice.below(polls) };
            rig.runtime.run(second, || false);
            rig.restart();
            rig.settle();
            judge(&rig, &task, &format!("{troubles:?}, dies after {first} polls and again after {second}"));
            runs += 1;
        }
    }
    assert!(runs > 1000, "{runs}");
}

#[test]
fn each_write_fails_before_and_after_it_is_durable() {
    for troubles in troubles() {
        for how in [Crash::Before, Crash::AfterWriteBeforeAck] {
            for n in 1.. {
                let (mut rig, task) = begin(&troubles);
                let at = Moment::Commit(rig.store.counts().commits + n);
                rig.store.inject(Fault { at, how, why: "pulled the plug".to_owned() });
                rig.settle();
                let struck = rig.failed();
                rig.restart();
                rig.settle();
                judge(&rig, &task, &format!("{troubles:?}, {how:?} at write {n}"));
                if !struck {
                    break;
                }
            }
        }
    }
}
