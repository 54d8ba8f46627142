//! G1 to G10 of the design, each with a test that names it.

use std::sync::Arc;

use kedge_engine::builder::PlanBuilder;
use kedge_engine::event::Event;
use kedge_engine::executor::fsck;
use kedge_engine::journal::{self, Journal, Record, keys};
use kedge_engine::machine::Machine;
use kedge_engine::service::{ResolveVerb, Tasks as _};
use kedge_engine::store::Store as _;
use kedge_engine::task::{TaskId, TaskState};
use kedge_engine::testing::memory_store::{Crash, Fault, Moment};
use sha2::{Digest as _, Sha256};

use crate::rig::{Options, Rig};
use crate::steps::{Act, Decide, Make, Print, Tidy};
use crate::world::{Behave, Effect, End, Kind};

/// Hexadecimal digits that do not pack to much less than half, always the same ones.
fn noise(seed: usize, length: usize) -> String {
    let digits = (0..=length / 64).map(|n| hex::encode(Sha256::digest(format!("{seed}/{n}"))));
    digits.collect::<String>()[..length].to_owned()
}

/// `a -> b`, both with an undo.
fn two(plan: &mut PlanBuilder) {
    let a = plan.step("a", Make(Act::on("t/a")), &[]);
    plan.step("b", Make(Act::on("t/b").needs(&[&a])), &[]);
}

/// `i -> (a || b) -> c`.
fn diamond(plan: &mut PlanBuilder) {
    let i = plan.step("i", Make(Act::on("t/i")), &[]);
    let a = plan.step("a", Make(Act::on("t/a")), &[&i]);
    let b = plan.step("b", Make(Act::on("t/b")), &[&i]);
    plan.step("c", Make(Act::on("t/c")), &[&a, &b]);
}

/// A locked, proven plan with a pivot in the middle.
fn whole(plan: &mut PlanBuilder) {
    plan.lock("site x", false);
    plan.fingerprint(&Print(vec!["t/".to_owned()]), vec!["everything below t".to_owned()]);
    let a = plan.step("a", Make(Act::on("t/a")), &[]);
    let pivot = plan.step("pivot", Decide::on(Act::on("site")), &[&a]);
    plan.step("tidy", Tidy(Act::on("u/tidy")), &[&pivot]);
}

#[test]
fn g1_the_start_of_an_attempt_is_durable_before_its_effect() {
    let rig = Rig::of(two);
    rig.submit("plan");
    rig.store.hold();
    rig.settle();
    assert_eq!(rig.store.held(), 1, "the start of a waits to be durable");
    assert!(rig.world.acts().is_empty(), "and until then nothing acts");
    rig.store.release_one(0);
    rig.settle();
    assert_eq!(rig.world.acts(), ["run a"]);
}

#[test]
fn g2_a_result_is_durable_before_anything_that_depends_on_it_starts() {
    let rig = Rig::of(two);
    let task = rig.submit("plan");
    rig.until("a acts", || rig.world.count("a", Kind::Run) == 1);
    rig.store.hold();
    rig.settle();
    assert_eq!((rig.store.held(), rig.world.acts()), (1, vec!["run a".to_owned()]));
    rig.store.release_all();
    rig.settle();
    assert_eq!(rig.world.acts(), ["run a", "run b"]);
    assert_eq!(rig.state(&task), TaskState::Succeeded);
}

#[test]
fn g3_the_start_of_an_undo_is_durable_before_it_acts() {
    let rig = Rig::of(two);
    rig.world.runs("b", [(Effect::Half, End::Fatal)]);
    let task = rig.submit("plan");
    rig.until("b acts", || rig.world.count("b", Kind::Run) == 1);
    rig.store.hold();
    rig.settle();
    assert_eq!(rig.world.count("b", Kind::Undo), 0);
    rig.store.release_all();
    rig.settle();
    assert_eq!(rig.world.acts(), ["run a", "run b", "undo b", "undo a"]);
    assert_eq!(rig.state(&task), TaskState::RolledBack);
}

#[test]
fn g4_a_step_is_undone_after_its_successors_and_branches_in_parallel() {
    let rig = Rig::of(diamond);
    rig.world.runs("c", [(Effect::Whole, End::Fatal)]);
    for step in ["a", "b"] {
        rig.world.script(step, Kind::Undo, [Behave::slow(500)]);
    }
    let task = rig.submit("plan");
    let mut side_by_side = false;
    rig.until("the end", || {
        side_by_side |= rig.world.in_flight() == 2 && rig.world.count("c", Kind::Undo) == 1;
        rig.state(&task).is_final()
    });
    assert!(side_by_side, "a and b are undone at the same time");
    let acts = rig.world.acts();
    let at = |act: &str| acts.iter().position(|done| done == act).unwrap();
    assert!(at("undo c") < at("undo a") && at("undo c") < at("undo b"));
    assert!(at("undo a") < at("undo i") && at("undo b") < at("undo i"));
    assert!(rig.world.resources().is_empty());
    rig.sound();
}

/// Records as a driver would write them.
fn history(rig: &Rig, task: &TaskId) -> Vec<Record> {
    Journal::new(Arc::new(rig.store.clone())).history(task).unwrap().0
}

#[test]
fn g5_reports_of_an_old_attempt_or_epoch_are_dropped() {
    let mut rig = Rig::of(two);
    rig.world.script("a", Kind::Run, [Behave::slow(900)]);
    let task = rig.submit("plan");
    rig.until("a runs", || rig.world.in_flight() == 1);
    let old = rig.engine.clone();
    rig.restart();
    rig.settle();
    assert_eq!(rig.state(&task), TaskState::Succeeded, "{:#?}", rig.story(&task));

    // The machine takes a success of the attempt that runs, in its epoch, and no other.
    let records = history(&rig, &task);
    let started = records.iter().rposition(
        |record| matches!(&record.event, Event::AttemptStarted { step, attempt: 2 } if step == "a"),
    );
    let mut machine = Machine::begin(&records[0]).unwrap();
    for record in &records[1..=started.unwrap()] {
        machine.apply(record).unwrap();
    }
    let before = format!("{machine:?}");
    let success = |epoch: u64, attempt: u32| {
        let event = Event::AttemptSucceeded {
            step: "a".to_owned(),
            attempt,
            output: serde_json::Value::Null,
            adopted: false,
        };
        journal::record(machine.sequence() + 1, epoch, 0, event)
    };
    for late in [success(1, 2), success(2, 1), success(3, 2), success(2, 3)] {
        let mut machine = machine.clone();
        machine.apply(&late).unwrap_err();
        assert_eq!(format!("{machine:?}"), before, "an event that does not fit changes nothing");
    }
    machine.clone().apply(&success(2, 2)).unwrap();

    // An engine of an earlier life cannot write any more.
    assert!(matches!(old.health(), kedge_engine::store::Health::Failed(_)));
}

#[test]
fn g5_of_two_processes_on_one_store_the_older_one_stops() {
    let mut rig = Rig::of(two);
    rig.world.script("a", Kind::Run, [Behave::slow(900)]);
    let task = rig.submit("plan");
    rig.until("a runs", || rig.world.in_flight() == 1);
    let old = rig.engine.clone();
    // The second process starts while the first one still runs: its attempt and that of the other side act side by side, which only
    // custody could prevent; what they write is fenced.
    rig.boot().unwrap();
    rig.runtime.settle();
    assert!(
        matches!(old.health(), kedge_engine::store::Health::Failed(_)),
        "the older one has lost the task"
    );
    assert_eq!(rig.engine.health(), kedge_engine::store::Health::Ready);
    assert_eq!(rig.state(&task), TaskState::Succeeded);
    assert_eq!(fsck(Arc::new(rig.store.clone())).unwrap().problems, [] as [&str; 0]);
}

#[test]
fn g6_the_end_and_its_callbacks_are_one_write() {
    for crash in [Crash::Before, Crash::AfterWriteBeforeAck] {
        for at in 1.. {
            let mut rig = Rig::of(whole);
            rig.store.inject(Fault { at: Moment::Commit(at), how: crash, why: "pulled the plug".to_owned() });
            let Ok(submitted) = rig.try_submit(crate::rig::submission("plan")) else {
                rig.restart();
                assert!(crash == Crash::AfterWriteBeforeAck || rig.callbacks().is_empty());
                continue;
            };
            let kedge_engine::service::Submitted::Created(view) = submitted else { panic!("a duplicate") };
            rig.settle();
            let struck = rig.failed();
            rig.crash();
            let ended = history(&rig, &view.id).iter().any(|record| record.event.kind() == "finished");
            let told = rig
                .store
                .scan(keys::CALLBACKS, None, 100)
                .unwrap()
                .iter()
                .any(|(_, value)| String::from_utf8_lossy(value).contains("task.succeeded"));
            assert_eq!(ended, told, "after {crash:?} at commit {at}");
            rig.boot().unwrap();
            rig.settle();
            assert_eq!(rig.state(&view.id), TaskState::Succeeded);
            let told = rig.callbacks().iter().filter(|callback| callback.event == "task.succeeded").count();
            assert_eq!(told, 1, "told once, whenever it died");
            if !struck {
                break;
            }
        }
    }
}

#[test]
fn g7_locks_go_in_the_same_write_and_a_stuck_task_keeps_them() {
    let mut rig = Rig::new(1, Options::default().plan("plan", whole));
    rig.world.script("a", Kind::Undo, [Behave::new(Effect::None, End::Fatal)]);
    rig.world.runs("a", [(Effect::Whole, End::Fatal)]);
    let stuck = rig.run();
    assert_eq!(rig.state(&stuck), TaskState::Stuck);
    let next = rig.submit("plan");
    rig.settle();
    let held = |rig: &Rig| rig.store.scan(keys::LOCKS, None, 10).unwrap().len();
    for _ in 0..2 {
        assert_eq!(held(&rig), 1);
        assert_eq!(rig.state(&next), TaskState::Queued);
        let blocked = rig.view(&next).blocked_on.unwrap();
        assert_eq!((blocked.kind.as_str(), blocked.holder.as_ref()), ("lock", Some(&stuck)));
        // And so it is after a restart.
        rig.restart();
        rig.settle();
    }
    rig.resolve(&stuck, "a", ResolveVerb::Retry).unwrap();
    rig.settle();
    assert_eq!(rig.state(&stuck), TaskState::RolledBack);
    assert_eq!(rig.state(&next), TaskState::Succeeded, "it went on by itself");
    assert_eq!(held(&rig), 0);
}

/// The process dies whenever this call of this step is in flight, as often as it happens.
fn poison(rig: &mut Rig, step: &str, kind: Kind, limit: usize) -> usize {
    for deaths in 0..limit {
        let before = rig.world.count(step, kind);
        let stop = rig.runtime.run(100_000, || rig.world.count(step, kind) > before);
        if stop != kedge_engine::testing::runtime::Stop::Done {
            rig.sound();
            return deaths;
        }
        rig.restart();
    }
    panic!("{kind:?} of {step} kills the process again and again");
}

#[test]
fn g8_a_step_that_kills_the_process_is_given_up() {
    let options = || Options::default().plan("plan", whole).limits(|limits| limits.undo_deaths = 8);
    // Every run kills: undone. The attempt's number rises with each.
    let mut rig = Rig::new(1, options());
    rig.world.script("a", Kind::Run, [Behave::slow(50); 20]);
    let task = rig.submit("plan");
    let deaths = poison(&mut rig, "a", Kind::Run, 20);
    assert_eq!(deaths, 6, "run_deaths of 5 are tolerated");
    let view = rig.view(&task);
    assert_eq!((view.state, view.steps[0].attempts), (TaskState::RolledBack, 6));
    assert!(view.error.unwrap().detail.contains("process ended 6 times"));

    // So does every probe of it.
    let mut rig = Rig::new(1, options());
    rig.world.script("a", Kind::Probe, [Behave::slow(50); 20]);
    let task = rig.submit("plan");
    rig.until("a runs", || rig.world.count("a", Kind::Run) == 1);
    rig.restart();
    assert_eq!(poison(&mut rig, "a", Kind::Probe, 20), 6);
    assert_eq!(rig.state(&task), TaskState::RolledBack);

    // A fingerprint.
    let mut rig = Rig::new(1, options());
    rig.world.script("fingerprint", Kind::Print, [Behave::slow(50); 20]);
    let task = rig.submit("plan");
    assert_eq!(poison(&mut rig, "fingerprint", Kind::Print, 20), 6);
    assert_eq!(rig.state(&task), TaskState::RolledBack);
    assert!(rig.world.resources().is_empty());
}

#[test]
fn g8_what_must_not_be_given_up_gets_stuck_instead() {
    let options = || Options::default().plan("plan", whole).limits(|limits| limits.undo_deaths = 8);
    // An undo.
    let mut rig = Rig::new(1, options());
    rig.world.runs("a", [(Effect::Whole, End::Fatal)]);
    rig.world.script("a", Kind::Undo, [Behave::slow(50); 20]);
    let task = rig.submit("plan");
    assert_eq!(poison(&mut rig, "a", Kind::Undo, 20), 9);
    let incident = rig.view(&task).incident.unwrap();
    assert_eq!((rig.state(&task), incident.steps[0].phase.as_str()), (TaskState::Stuck, "undo"));
    rig.world.behave();
    rig.retry(&task).unwrap();
    rig.settle();
    assert_eq!(rig.state(&task), TaskState::RolledBack, "a person may try again, with fresh patience");

    // A step after the pivot, and the pivot itself.
    for step in ["tidy", "pivot"] {
        let mut rig = Rig::new(1, options());
        rig.world.script(step, Kind::Run, [Behave { effect: Effect::None, ..Behave::slow(50) }; 20]);
        let task = rig.submit("plan");
        assert_eq!(poison(&mut rig, step, Kind::Run, 20), 9);
        assert_eq!(rig.state(&task), TaskState::Stuck);
        rig.world.behave();
        rig.retry(&task).unwrap();
        rig.settle();
        assert_eq!(rig.state(&task), TaskState::Succeeded);
    }
}

#[test]
fn g9_a_damaged_task_is_quarantined_and_named_and_all_others_go_on() {
    let options = Options::default().plan("plan", two).plan("locked", whole);
    let mut rig = Rig::new(1, options);
    let tasks: Vec<TaskId> = (0..3).map(|_| rig.submit("plan")).collect();
    let locked = rig.submit("locked");
    rig.until("it has its locks", || rig.world.count("fingerprint", Kind::Print) == 1);
    rig.crash();
    // One record is missing, one is not what was written, one is nonsense.
    rig.store.tamper(&keys::event(&tasks[0], 2), None);
    let record = rig.store.get(&keys::event(&tasks[1], 2)).unwrap().unwrap();
    let forged = String::from_utf8(record).unwrap().replace("\"attempt\":1", "\"attempt\":7");
    rig.store.tamper(&keys::event(&tasks[1], 2), Some(forged.into_bytes()));
    rig.store.tamper(&keys::event(&locked, 1), Some(b"{}".to_vec()));
    let recovery = rig.boot().unwrap();
    assert_eq!(recovery.resumed, [tasks[2].clone()]);
    let named: Vec<&TaskId> = recovery.quarantined.iter().map(|(task, _)| task).collect();
    assert_eq!(named, [&tasks[0], &tasks[1], &locked]);
    let waits = rig.submit("locked");
    let free = rig.submit("plan");
    rig.runtime.settle();
    assert_eq!(rig.state(&tasks[2]), TaskState::Succeeded);
    assert_eq!(rig.state(&free), TaskState::Succeeded);
    for (task, why) in &recovery.quarantined {
        let view = rig.view(task);
        assert_eq!(view.state, TaskState::Stuck);
        assert!(view.incident.unwrap().steps[0].reason.contains(why.as_str()), "the page says why");
        rig.cancel(task).unwrap_err();
    }
    assert_eq!(rig.view(&waits).blocked_on.unwrap().holder, Some(locked), "its locks are kept");
    let problems = fsck(Arc::new(rig.store.clone())).unwrap().problems;
    assert_eq!(problems.len(), 3, "and fsck finds them: {problems:#?}");
}

#[test]
fn g9_a_plan_that_is_not_whole_is_damage() {
    let mut rig = Rig::of(|plan| {
        for n in 0..20 {
            plan.step(&format!("a{n}"), Make(Act::on(format!("t/{n}/{}", noise(n, 800)))), &[]);
        }
    });
    rig.world.script("a0", Kind::Run, [Behave::slow(500); 9]);
    let tasks = [rig.submit("plan"), rig.submit("plan"), rig.submit("plan")];
    rig.until("all run", || rig.world.count("a0", Kind::Run) == 3);
    rig.crash();
    let parts = rig.store.scan(&keys::parts(&tasks[0], 1), None, 100).unwrap();
    assert!(parts.len() > 2, "the first event is spread over several values");
    rig.store.tamper(&parts[1].0, None);
    let mut swapped = rig.store.get(&keys::part(&tasks[1], 1, 2)).unwrap().unwrap();
    // In the middle of a long run of digits: text, not a length or a distance of the packing.
    let run = swapped.windows(41).position(|run| run.iter().all(u8::is_ascii_hexdigit)).unwrap();
    swapped[run + 20] = if swapped[run + 20] == b'0' { b'1' } else { b'0' };
    rig.store.tamper(&keys::part(&tasks[1], 1, 2), Some(swapped));
    let recovery = rig.boot().unwrap();
    assert_eq!(recovery.resumed, [tasks[2].clone()]);
    assert!(recovery.quarantined[0].1.contains("parts are there"), "{:?}", recovery.quarantined);
    assert!(recovery.quarantined[1].1.contains("the hash chain is broken"), "{:?}", recovery.quarantined);
    rig.runtime.settle();
    assert_eq!(rig.state(&tasks[2]), TaskState::Succeeded);
}

#[test]
fn a_record_of_any_size_is_kept_whole() {
    for note in [0, 3000, 20_000, 70_000, 1_000_000] {
        let mut rig = Rig::of(move |plan| {
            plan.note(noise(1, note));
            plan.step("a", Make(Act::on("t/a")), &[]);
        });
        let task = rig.run();
        rig.restart();
        assert_eq!(rig.state(&task), TaskState::Succeeded);
        assert_eq!(fsck(Arc::new(rig.store.clone())).unwrap().problems, [] as [&str; 0]);
    }
}

#[test]
fn g9_a_head_that_is_none_is_quarantined_too() {
    let mut rig = Rig::of(two);
    let (bad, good) = (rig.submit("plan"), rig.submit("plan"));
    rig.until("they run", || rig.world.acts().len() >= 2);
    rig.crash();
    rig.store.tamper(&keys::head(&bad), Some(b"not json".to_vec()));
    let recovery = rig.boot().unwrap();
    rig.runtime.settle();
    assert_eq!((recovery.quarantined.len(), recovery.quarantined[0].0.clone()), (1, bad));
    assert_eq!(rig.state(&good), TaskState::Succeeded);
}

#[test]
fn g10_a_panic_is_a_failed_attempt_and_a_hang_ends() {
    for end in [End::Panic, End::Hang] {
        for effect in [Effect::None, Effect::Half, Effect::Whole] {
            let rig = Rig::of(whole);
            for step in ["a", "pivot", "tidy"] {
                rig.world.runs(step, [(effect, end)]);
                rig.world.probes(step, [end]);
            }
            rig.world.script("fingerprint", Kind::Print, [Behave::new(Effect::None, end)]);
            let task = rig.run();
            assert_eq!(rig.state(&task), TaskState::Succeeded, "{end:?} {effect:?}: {:#?}", rig.story(&task));
            assert!(rig.custody.alive().is_empty(), "nothing of the attempts survives");

            let rig = Rig::of(whole);
            rig.world.runs("a", [(effect, end), (effect, End::Fatal)]);
            rig.world.undos("a", [(effect, end), (effect, end)]);
            rig.world.script("fingerprint", Kind::Print, [Behave::WELL, Behave::new(Effect::None, end)]);
            rig.world.script("pivot", Kind::Run, [Behave::new(Effect::None, End::Fatal)]);
            let task = rig.run();
            let view = rig.view(&task);
            assert_eq!(view.state, TaskState::RolledBack, "{end:?} {effect:?}: {:#?}", rig.story(&task));
            assert_eq!(view.outcome.unwrap().verified, Some(true));
        }
    }
}
