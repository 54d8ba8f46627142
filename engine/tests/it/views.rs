//! What faces see: pages, lists, events, news, logs, downtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kedge_engine::builder::PlanBuilder;
use kedge_engine::plan::Doors;
use kedge_engine::service::{TaskFilter, Tasks as _};
use kedge_engine::task::{TaskId, TaskState};
use kedge_engine::testing::runtime::EPOCH;
use serde_json::json;

use crate::rig::{Options, Rig, submission};
use crate::steps::{Act, Decide, Make, Tidy};
use crate::world::{Behave, Effect, End, Kind};

fn doors(plan: &mut PlanBuilder) {
    let a = plan.step("a", Make(Act::on("t/a")), &[]);
    let close = plan.step("close", Make(Act::on("t/closed").doors(Doors::Close)), &[&a]);
    let pivot = plan.step("pivot", Decide::on(Act::on("site")), &[&close]);
    plan.step("open", Tidy(Act::on("u/open").doors(Doors::Open)), &[&pivot]);
}

#[test]
fn downtime_is_from_the_first_attempt_to_close_until_it_is_open_again() {
    let rig = Rig::of(doors);
    for step in ["a", "close", "pivot", "open"] {
        rig.world.script(step, Kind::Run, [Behave::slow(100)]);
    }
    let task = rig.submit("plan");
    rig.until("a runs", || rig.world.count("a", Kind::Run) == 1);
    assert_eq!(rig.view(&task).downtime_ms, None, "not closed yet");
    rig.settle();
    assert_eq!(rig.view(&task).downtime_ms, Some(300));
    rig.runtime.set_clock(EPOCH + 1_000_000);
    assert_eq!(rig.view(&task).downtime_ms, Some(300), "it does not grow afterwards");

    // Rolled back: until the undo of closing is done.
    let rig = Rig::of(doors);
    rig.world.script("pivot", Kind::Run, [Behave { effect: Effect::None, end: End::Fatal, ms: 200 }]);
    rig.world.script("close", Kind::Undo, [Behave::slow(50)]);
    rig.world.script("a", Kind::Undo, [Behave::slow(500)]);
    let task = rig.run();
    assert_eq!((rig.state(&task), rig.view(&task).downtime_ms), (TaskState::RolledBack, Some(250)));

    // Closed, undone and closed again in a redo: it is closed until it is open.
    let rig = Rig::of(doors);
    rig.world.runs("close", [(Effect::Half, End::InDoubt)]);
    rig.world.script("pivot", Kind::Run, [Behave::slow(300)]);
    let task = rig.submit("plan");
    rig.until("the pivot runs", || rig.world.count("pivot", Kind::Run) == 1);
    let early = rig.view(&task).downtime_ms.unwrap();
    rig.settle();
    assert!(rig.view(&task).downtime_ms.unwrap() >= early + 300);

    // Never closed.
    let rig = Rig::of(doors);
    rig.world.runs("a", [(Effect::None, End::Fatal)]);
    let task = rig.run();
    assert_eq!(rig.view(&task).downtime_ms, None);
}

/// Follows a task as a stream of events does; returns how often it was woken.
fn follow(rig: &Rig, task: &TaskId) -> (Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let (seen, woken) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (engine, task) = (rig.engine.clone(), task.clone());
    let (tell_seen, tell_woken) = (seen.clone(), woken.clone());
    rig.runtime.spawn_here(async move {
        let mut after = 0;
        loop {
            let events = engine.events(&task, after, 100).unwrap();
            if let Some(last) = events.last() {
                after = last.sequence;
                tell_seen.store(usize::try_from(after).unwrap(), Ordering::Relaxed);
            }
            engine.changed(&task, after, u64::MAX).await;
            tell_woken.fetch_add(1, Ordering::Relaxed);
        }
    });
    (seen, woken)
}

#[test]
fn a_follower_sees_every_event_and_is_never_woken_for_nothing() {
    for seed in 0..30 {
        let mut options = Options::default().plan("plan", doors);
        options.pauses = true;
        let rig = Rig::new(seed, options);
        rig.world.script("a", Kind::Run, [Behave::slow(100)]);
        let task = rig.submit("plan");
        let followers: Vec<_> = (0..3).map(|_| follow(&rig, &task)).collect();
        // A follower that runs in circles is caught by the bound of polls.
        rig.settle();
        let last = usize::try_from(rig.view(&task).sequence).unwrap();
        for (seen, woken) in followers {
            assert_eq!(seen.load(Ordering::Relaxed), last, "seed {seed}");
            assert!(woken.load(Ordering::Relaxed) <= last + 1, "seed {seed}");
        }
        // One that comes after the end waits for what never comes.
        let (seen, woken) = follow(&rig, &task);
        rig.settle();
        assert_eq!((seen.load(Ordering::Relaxed), woken.load(Ordering::Relaxed)), (last, 0));
    }
}

#[test]
fn news_of_an_unknown_task_or_of_an_old_sequence_come_at_once() {
    let rig = Rig::of(doors);
    let task = rig.run();
    for (id, sequence) in [(TaskId::from_bytes([5; 16]), 0), (task.clone(), 1)] {
        let news = rig.engine.changed(&id, sequence, 0);
        assert!(rig.runtime.block_on(news).is_some());
    }
    assert!(rig.runtime.block_on(rig.engine.changed(&task, 999, 0)).is_none());
}

#[test]
fn a_stuck_or_quarantined_task_keeps_its_followers_waiting() {
    let rig = Rig::of(doors);
    rig.world.runs("a", [(Effect::Whole, End::Fatal)]);
    rig.world.undos("a", [(Effect::None, End::Fatal)]);
    let task = rig.run();
    let (seen, woken) = follow(&rig, &task);
    rig.settle();
    assert_eq!(woken.load(Ordering::Relaxed), 0);
    rig.retry(&task).unwrap();
    rig.settle();
    assert_eq!(seen.load(Ordering::Relaxed) as u64, rig.view(&task).sequence);
}

fn ids(rig: &Rig, filter: TaskFilter) -> Vec<TaskId> {
    rig.engine.tasks(&filter).unwrap().tasks.into_iter().map(|view| view.id).collect()
}

#[test]
fn lists_are_newest_first_filtered_and_paged() {
    let site = |site: &'static str| {
        move |_: &serde_json::Value, _: &kedge_engine::workflow::PlanCx<'_>| {
            let mut plan = PlanBuilder::new(Some(site));
            plan.step(site, Make(Act::on(format!("t/{site}"))), &[]);
            Ok(plan.build()?)
        }
    };
    let options = Options::default().workflow("install", site("a.test")).workflow("backup", site("b.test"));
    let rig = Rig::new(1, options);
    rig.world.runs("b.test", [(Effect::None, End::Fatal)]);
    let mut all = Vec::new();
    for n in 0..7 {
        rig.runtime.set_clock(EPOCH + n * 1000);
        all.push(rig.submit(if n % 2 == 0 { "install" } else { "backup" }));
        rig.settle();
    }
    all.reverse();
    assert_eq!(ids(&rig, TaskFilter { limit: 50, ..TaskFilter::default() }), all);
    let of_site =
        ids(&rig, TaskFilter { site: Some("a.test".to_owned()), limit: 50, ..TaskFilter::default() });
    assert_eq!(of_site, [0, 2, 4, 6].map(|n| all[n].clone()));
    let backups =
        ids(&rig, TaskFilter { workflow: Some("backup".to_owned()), limit: 50, ..TaskFilter::default() });
    assert_eq!(backups, [1, 3, 5].map(|n| all[n].clone()));
    let failed =
        ids(&rig, TaskFilter { state: Some(TaskState::RolledBack), limit: 50, ..TaskFilter::default() });
    assert_eq!(failed, [all[5].clone()]);
    let recent = ids(&rig, TaskFilter { since: Some(EPOCH + 5000), limit: 50, ..TaskFilter::default() });
    assert_eq!(recent, all[..2]);
    let mut paged = Vec::new();
    let mut before = None;
    loop {
        let page = rig.engine.tasks(&TaskFilter { limit: 3, before, ..TaskFilter::default() }).unwrap();
        paged.extend(page.tasks.into_iter().map(|view| view.id));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(paged, all);
}

#[test]
fn events_show_their_fields_and_the_state_after_them() {
    let rig = Rig::of(doors);
    rig.world.runs("close", [(Effect::Half, End::Fatal)]);
    let task = rig.run();
    let events = rig.events(&task);
    assert!(events.iter().enumerate().all(|(n, event)| event.sequence == n as u64 + 1));
    assert_eq!(events[0].kind, "accepted");
    assert_eq!(events[0].data.get("plan"), None, "the plan is no news");
    let states: Vec<TaskState> = events.iter().map(|event| event.state).collect();
    assert_eq!(states[..2], [TaskState::Queued, TaskState::Running]);
    assert_eq!(states.last(), Some(&TaskState::RolledBack));
    let failed = events.iter().find(|event| event.kind == "attempt_failed").unwrap();
    assert_eq!(
        failed.data,
        json!({
            "step": "close",
            "attempt": 1,
            "error": { "class": "fatal", "message": "close cannot work" },
            "then": { "then": "give_up" },
        })
    );
    assert_eq!(rig.engine.events(&task, 3, 2).unwrap(), events[3..5]);
    // However they are asked for, and whoever asked before.
    for after in (0..=events.len()).chain((0..events.len()).rev()) {
        for limit in [1, 3, 1000] {
            let end = events.len().min(after + limit);
            let page = rig.engine.events(&task, after as u64, limit).unwrap();
            assert_eq!(page, events[after..end], "{limit} after {after}");
        }
    }
    assert_eq!(rig.engine.events(&task, 1000, 1).unwrap(), []);
    assert_eq!(rig.engine.events(&TaskId::from_bytes([5; 16]), 0, 10).unwrap(), []);
}

#[test]
fn a_result_is_what_steps_report_and_times_are_kept() {
    let rig = Rig::of(|plan| {
        let mut act = Act::on("t/a");
        act.planned.reports = true;
        plan.step("a", Make(act), &[]);
        plan.step("b", Make(Act::on("t/b")), &[]);
    });
    rig.world.script("a", Kind::Run, [Behave::slow(70)]);
    let task = rig.run();
    let view = rig.view(&task);
    assert_eq!(view.result, json!({ "key": "t/a", "value": "made" }));
    let a = view.steps.iter().find(|step| step.name == "a").unwrap();
    assert_eq!((a.started_at, a.finished_at), (Some(EPOCH), Some(EPOCH + 70)));
    assert_eq!((view.created_at, view.started_at, view.finished_at), (EPOCH, Some(EPOCH), Some(EPOCH + 70)));
}

#[test]
fn a_dry_run_says_how_long_it_took_before() {
    let site = |name: &'static str| {
        move |_: &serde_json::Value, _: &kedge_engine::workflow::PlanCx<'_>| {
            let mut plan = PlanBuilder::new(Some(name));
            plan.step("a", Make(Act::on("t/a")), &[]);
            Ok(plan.build()?)
        }
    };
    let rig = Rig::new(1, Options::default().workflow("plan", site("a.test")));
    let estimate = |rig: &Rig| rig.engine.preview("plan", &json!({})).unwrap().estimate;
    assert_eq!(estimate(&rig), None, "nothing to go by");
    rig.world.script("a", Kind::Run, [Behave::slow(70)]);
    let task = rig.run();
    let seen = estimate(&rig).unwrap();
    assert_eq!((seen.duration_ms, seen.downtime_ms, seen.same_site), (70, None, true));
    assert_eq!((seen.steps["a"], seen.based_on), (70, task));
    rig.world.runs("a", [(Effect::None, End::Fatal)]);
    rig.run();
    assert_eq!(estimate(&rig).unwrap().duration_ms, 70, "what was rolled back is no measure");
    let journal = rig.store.snapshot();
    let mut other = Rig::new(1, Options::default().workflow("plan", site("b.test")));
    other.store = kedge_engine::testing::memory_store::MemoryStore::from_snapshot(journal);
    other.boot().unwrap();
    let seen = estimate(&other).unwrap();
    assert_eq!((seen.duration_ms, seen.same_site), (70, false));
}

#[test]
fn workflows_are_listed_with_their_schemas() {
    let rig = Rig::new(1, Options::default().plan("b", doors).plan("a", doors));
    let names: Vec<String> = rig.engine.workflows().into_iter().map(|workflow| workflow.name).collect();
    assert_eq!(names, ["a", "b"]);
    let plan = rig.engine.preview("a", &json!({})).unwrap();
    assert_eq!(plan.pivot.as_deref(), Some("pivot"));
    let names: Vec<&str> = plan.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["a", "close", "pivot", "open"]);
    assert_eq!(plan.steps[1].undo.title, "remove t/closed", "the dry run says what each undo would do");
    rig.try_submit(submission("a")).unwrap();
}
