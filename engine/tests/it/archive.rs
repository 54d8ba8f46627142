//! The archive: what has ended is packed, reads as before, and survives a death at any moment of the packing.

use std::sync::Arc;

use kedge_engine::executor::fsck;
use kedge_engine::journal::{Journal, keys};
use kedge_engine::service::Tasks as _;
use kedge_engine::store::Store as _;
use kedge_engine::task::{EventView, TaskId, TaskState, TaskView};
use kedge_engine::testing::memory_store::Crash;

use crate::rig::Rig;
use crate::steps::{Act, Make};
use crate::world::{Effect, End};

fn rig() -> Rig {
    Rig::of(|plan| {
        let a = plan.step("a", Make(Act::on("t/a")), &[]);
        plan.step("b", Make(Act::on("t/b")), &[&a]);
    })
}

/// One that succeeds, one that is rolled back.
fn two_ended(rig: &Rig) -> [TaskId; 2] {
    let good = rig.run();
    rig.world.runs("b", [(Effect::Half, End::Fatal)]);
    let bad = rig.run();
    assert_eq!((rig.state(&good), rig.state(&bad)), (TaskState::Succeeded, TaskState::RolledBack));
    [good, bad]
}

fn archive(rig: &Rig) -> Option<usize> {
    let engine = rig.engine.clone();
    rig.runtime.block_on(async move { engine.archive(u64::MAX, 100).await.unwrap() })
}

fn seen(rig: &Rig, tasks: &[TaskId]) -> Vec<(TaskView, Vec<EventView>)> {
    tasks.iter().map(|task| (rig.view(task), rig.events(task))).collect()
}

fn rows(rig: &Rig, task: &TaskId) -> usize {
    let count = |prefix: &[u8]| rig.store.scan(prefix, None, 1000).unwrap().len();
    count(&keys::events(task)) + count(&keys::parts_of_task(task))
}

fn is_sound(rig: &Rig) -> u64 {
    let report = fsck(Arc::new(rig.store.clone())).unwrap();
    assert_eq!(report.problems, [] as [&str; 0]);
    report.events
}

#[test]
fn a_packed_history_reads_as_before_and_takes_no_rows() {
    let mut rig = rig();
    let tasks = two_ended(&rig);
    let (before, events) = (seen(&rig, &tasks), is_sound(&rig));
    assert_eq!(archive(&rig), Some(2));
    assert_eq!(tasks.map(|task| rows(&rig, &task)), [0, 0]);
    let [good, bad] = &tasks_of(&before);
    assert_eq!(seen(&rig, &[good.clone(), bad.clone()]), before);
    assert_eq!(is_sound(&rig), events);
    let later = rig.engine.events(good, 2, 2).unwrap();
    assert_eq!(later, before[0].1[2..4]);
    assert_eq!(archive(&rig), Some(0), "once is enough");
    rig.crash();
    rig.boot().unwrap();
    assert_eq!(seen(&rig, &[good.clone(), bad.clone()]), before);
    let next = rig.run();
    assert_eq!(rig.state(&next), TaskState::Succeeded, "the world goes on");
}

fn tasks_of(seen: &[(TaskView, Vec<EventView>)]) -> [TaskId; 2] {
    [seen[0].0.id.clone(), seen[1].0.id.clone()]
}

#[test]
fn what_has_not_ended_or_is_young_stays() {
    let rig = rig();
    rig.world.runs("a", [(Effect::None, End::Hang)]);
    let open = rig.submit("plan");
    rig.until("a runs", || rig.events(&open).iter().any(|event| event.kind == "attempt_started"));
    let many = rows(&rig, &open);
    assert_eq!(archive(&rig), Some(0));
    assert_eq!(rows(&rig, &open), many);
    let young = rig.engine.clone();
    let created = rig.view(&open).created_at;
    assert_eq!(rig.runtime.block_on(async move { young.archive(created, 100).await.unwrap() }), Some(0));
}

#[test]
fn a_death_at_any_moment_of_packing_loses_nothing() {
    for commit in 1..=6 {
        for how in [Crash::Before, Crash::AfterWriteBeforeAck] {
            let mut rig = rig();
            let tasks = two_ended(&rig);
            let before = seen(&rig, &tasks);
            rig.store.crash_after(commit, how);
            // Nobody waits for the answer of a process that dies.
            archive(&rig);
            rig.crash();
            rig.boot().unwrap();
            assert_eq!(seen(&rig, &tasks), before, "death at commit {commit} ({how:?})");
            is_sound(&rig);
            archive(&rig);
            assert_eq!(seen(&rig, &tasks), before, "packed after a death at commit {commit} ({how:?})");
            assert_eq!(tasks.map(|task| rows(&rig, &task)), [0, 0]);
        }
    }
}

#[test]
fn a_damaged_archive_is_named_and_others_go_on() {
    let rig = rig();
    let [good, bad] = two_ended(&rig);
    assert_eq!(archive(&rig), Some(2));
    rig.store.tamper(&keys::archived(&bad), Some(b"{\"blob\":\"00\",\"events\":3}".to_vec()));
    let told = Journal::new(Arc::new(rig.store.clone())).history(&bad).unwrap_err().to_string();
    assert!(told.contains(bad.as_str()) && told.contains("archive"), "{told}");
    assert_eq!(rig.state(&good), TaskState::Succeeded);
    let problems = fsck(Arc::new(rig.store.clone())).unwrap().problems;
    assert_eq!(problems.len(), 1, "{problems:?}");
}
