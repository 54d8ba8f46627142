//! Retention: what nothing needs any more is forgotten whole, everything else stays, and a death at any moment of it leaves a sound
//! journal. And the sweep: blobs that nothing names go, all others stay.

use std::sync::Arc;

use futures::FutureExt as _;
use kedge_engine::executor::{Retention, fsck};
use kedge_engine::journal::keys;
use kedge_engine::outbox::{CallbackStatus, Delivery, Outbox as _};
use kedge_engine::ports::Clock as _;
use kedge_engine::service::{DedupeKey, Submission, Submitted, Tasks as _};
use kedge_engine::store::{BlobId, Store as _};
use kedge_engine::task::{TaskId, TaskState};
use kedge_engine::testing::memory_store::Crash;

use crate::rig::{Options, Rig, submission};
use crate::steps::{Act, Make};
use crate::world::{Effect, End};

const ALL: Retention =
    Retention { succeeded_before: Some(u64::MAX), rolled_back_before: Some(u64::MAX), keep_per_site: 0 };

fn rig() -> Rig {
    Rig::of(|plan| {
        plan.step("a", Make(Act::on("t/a")), &[]);
        plan.step("b", Make(Act::on("t/b")), &[]);
    })
}

fn submit(rig: &Rig, submission: &Submission) -> TaskId {
    match rig.try_submit(submission.clone()).unwrap() {
        Submitted::Created(view) => view.id,
        Submitted::Duplicate(view) => panic!("{} is a duplicate", view.id),
    }
}

fn blobs(rig: &Rig) -> Vec<BlobId> {
    rig.store.census().now_or_never().expect("a store in memory does not wait").unwrap()
}

fn forget(rig: &Rig, rule: Retention) -> Option<usize> {
    let engine = rig.engine.clone();
    rig.runtime.block_on(async move { engine.forget(rule, 100).await.unwrap() })
}

/// Everything there is to deliver is delivered.
fn deliver_all(rig: &Rig) {
    let outbox = rig.engine.outbox();
    rig.runtime
        .block_on(async move {
            for callback in outbox.due(u64::MAX, 1000).unwrap() {
                let delivery = Delivery {
                    callback: callback.id,
                    attempt: 1,
                    at: 1,
                    duration_ms: 1,
                    status: Some(200),
                    error: None,
                    answer: String::new(),
                };
                outbox.record(delivery, CallbackStatus::Delivered { at: 1 }).await.unwrap();
            }
        })
        .unwrap();
}

/// Keys that have this task's id in them, and dedupe keys.
fn traces(rig: &Rig, task: &TaskId) -> Vec<String> {
    let rows = rig.store.scan(b"", None, 100_000).unwrap();
    let names = |(key, value): &(Vec<u8>, Vec<u8>)| {
        let text = [key.as_slice(), value.as_slice()].map(String::from_utf8_lossy).concat();
        text.contains(task.as_str()).then(|| String::from_utf8_lossy(key).into_owned())
    };
    rows.iter().filter_map(names).collect()
}

fn is_sound(rig: &Rig) {
    assert_eq!(fsck(Arc::new(rig.store.clone())).unwrap().problems, [] as [&str; 0]);
}

#[test]
fn a_forgotten_task_leaves_no_trace_and_others_stay() {
    let rig = rig();
    rig.world.runs("b", [(Effect::Half, End::Fatal)]);
    let bad = rig.run();
    let mut asked = submission("plan");
    asked.dedupe = vec![DedupeKey { scope: "hook".to_owned(), key: "1".to_owned(), fingerprint: None }];
    let good = submit(&rig, &asked);
    rig.settle();
    deliver_all(&rig);
    let only_bad = Retention { succeeded_before: None, ..ALL };
    assert_eq!(forget(&rig, only_bad), Some(1));
    assert_eq!(traces(&rig, &bad), [] as [&str; 0]);
    assert!(rig.engine.task(&bad).unwrap().is_none());
    assert_eq!(rig.state(&good), TaskState::Succeeded);
    assert!(traces(&rig, &good).len() > 3);
    assert_eq!(forget(&rig, ALL), Some(1));
    assert_eq!(traces(&rig, &good), [] as [&str; 0]);
    assert_eq!(rig.store.scan(keys::DEDUPE, None, 10).unwrap(), [], "its key is free again");
    is_sound(&rig);
    let again = submit(&rig, &asked);
    assert_ne!(again, good);
    assert_eq!(forget(&rig, ALL), Some(0), "an open task stays");
}

#[test]
fn what_is_young_or_has_callbacks_on_their_way_stays() {
    let rig = rig();
    let task = rig.run();
    assert_eq!(forget(&rig, ALL), Some(0), "its callbacks are due");
    deliver_all(&rig);
    let created = rig.view(&task).created_at;
    let young = Retention { succeeded_before: Some(created), rolled_back_before: None, keep_per_site: 0 };
    assert_eq!(forget(&rig, young), Some(0));
    assert_eq!(forget(&rig, Retention { succeeded_before: Some(created + 1), ..young }), Some(1));
}

#[test]
fn a_task_whose_callback_is_damaged_stays_alone() {
    let rig = rig();
    let (first, second) = (rig.run(), rig.run());
    deliver_all(&rig);
    let damaged = rig.callbacks().iter().find(|callback| callback.task == first).unwrap().id.clone();
    rig.store.tamper(&keys::callback(&damaged), Some(b"nonsense".to_vec()));
    assert_eq!(forget(&rig, ALL), Some(1));
    assert!(rig.engine.task(&first).unwrap().is_some() && rig.engine.task(&second).unwrap().is_none());
}

#[test]
fn a_callback_that_is_replayed_meanwhile_stays_with_its_task() {
    let mut stayed = 0;
    for cut in 0..8 {
        let rig = rig();
        let task = rig.run();
        deliver_all(&rig);
        let id = rig.callbacks()[0].id.clone();
        rig.store.hold();
        let engine = rig.engine.clone();
        rig.runtime.spawn_here(async move { drop(engine.forget(ALL, 100).await) });
        for _ in 0..cut {
            rig.runtime.settle();
            rig.store.release_one(0);
        }
        rig.runtime.settle();
        let (outbox, asked) = (rig.engine.outbox(), id.clone());
        let waiting = rig.store.held();
        rig.runtime.spawn_here(async move { drop(outbox.replay(&asked, 7).await) });
        rig.runtime.settle();
        rig.store.release_one(waiting);
        rig.store.release_all();
        rig.runtime.settle();
        let due = rig.store.scan(keys::DUE, None, 10).unwrap();
        assert!(due.is_empty() || rig.callbacks().iter().any(|callback| callback.id == id), "cut {cut}");
        assert!(due.is_empty() || rig.engine.task(&task).unwrap().is_some(), "cut {cut}");
        stayed += due.len();
        is_sound(&rig);
    }
    assert!((1..8).contains(&stayed), "{stayed}");
}

#[test]
fn a_place_in_the_queue_without_its_callback_goes() {
    let rig = rig();
    rig.run();
    let due = rig.store.scan(keys::DUE, None, 10).unwrap();
    rig.store.tamper(&keys::callback(&rig.callbacks()[0].id), None);
    assert_eq!(forget(&rig, Retention { succeeded_before: None, rolled_back_before: None, ..ALL }), Some(0));
    assert_eq!(rig.store.scan(keys::DUE, None, 10).unwrap(), due[..due.len() - 1]);
}

#[test]
fn the_newest_of_each_site_stay() {
    let options = Options::default().workflow("plan", |_, _| {
        let mut plan = kedge_engine::builder::PlanBuilder::new(Some("a.test"));
        plan.step("a", Make(Act::on("t/a")), &[]);
        Ok(plan.build()?)
    });
    let rig = Rig::new(1, options);
    let tasks = [rig.run(), rig.run(), rig.run()];
    deliver_all(&rig);
    assert_eq!(forget(&rig, Retention { keep_per_site: 2, ..ALL }), Some(1));
    let left = tasks.map(|task| rig.engine.task(&task).unwrap().is_some());
    assert_eq!(left, [false, true, true]);
}

#[test]
fn what_can_be_taken_back_stays_and_so_does_what_took_it_back() {
    const HOLD: u64 = 60_000;
    let options = Options::default()
        .workflow("plan", |_, _| {
            let mut plan = kedge_engine::builder::PlanBuilder::new(None);
            plan.step("a", Make(Act::on("t/a")), &[]);
            plan.hold(HOLD);
            Ok(plan.build()?)
        })
        .undone_by(|_| {
            let mut plan = kedge_engine::builder::PlanBuilder::new(None);
            plan.step("u", Make(Act::on("t/u")), &[]);
            plan.build().unwrap()
        });
    let rig = Rig::new(1, options);
    let task = rig.run();
    rig.undo(&task).unwrap();
    rig.settle();
    deliver_all(&rig);
    assert_eq!(forget(&rig, ALL), Some(0));
    rig.runtime.set_clock(rig.runtime.now() + HOLD + 1);
    assert_eq!(forget(&rig, ALL), Some(2));
    is_sound(&rig);
}

#[test]
fn a_death_at_any_moment_of_forgetting_leaves_all_or_nothing_to_be_seen() {
    for commit in 1..=8 {
        for how in [Crash::Before, Crash::AfterWriteBeforeAck] {
            let mut rig = rig();
            let task = rig.run();
            deliver_all(&rig);
            let before = rig.view(&task);
            rig.store.crash_after(commit, how);
            // Nobody waits for the answer of a process that dies.
            forget(&rig, ALL);
            rig.crash();
            rig.boot().unwrap();
            is_sound(&rig);
            if let Some(view) = rig.engine.task(&task).unwrap() {
                assert_eq!(view, before, "death at commit {commit} ({how:?})");
            }
            forget(&rig, ALL);
            assert_eq!(traces(&rig, &task), [] as [&str; 0], "after a death at commit {commit} ({how:?})");
            sweep(&rig);
            assert_eq!(blobs(&rig), [], "after a death at commit {commit} ({how:?})");
        }
    }
}

fn sweep(rig: &Rig) -> Option<u64> {
    let engine = rig.engine.clone();
    rig.runtime.block_on(async move { engine.begin_sweep().await.unwrap().finish().await.unwrap() })
}

#[test]
fn a_sweep_takes_what_nothing_names_and_nothing_else() {
    let rig = Rig::of(|plan| {
        plan.step("a", Make(Act::on("t/a")), &[]);
        plan.fingerprint(&crate::steps::Print(vec!["t/a".to_owned()]), vec!["t/a".to_owned()]);
    });
    rig.world.runs("a", [(Effect::Half, End::Fatal)]);
    let task = rig.run();
    assert_eq!(rig.state(&task), TaskState::RolledBack);
    let named = blobs(&rig);
    assert!(!named.is_empty(), "a fingerprint leaves its listing");
    let store = rig.store.clone();
    let orphan =
        rig.runtime.block_on(async move { store.put_blob(b"orphan".to_vec()).await }).unwrap().unwrap();
    assert_eq!(sweep(&rig), Some(1));
    assert_eq!(rig.store.get_blob(&orphan), Ok(None));
    assert_eq!(blobs(&rig), named);
    let engine = rig.engine.clone();
    rig.runtime.block_on(async move { engine.archive(u64::MAX, 10).await.unwrap() });
    let before = rig.view(&task);
    assert_eq!(sweep(&rig), Some(named.len() as u64), "of an archived task only the archive stays");
    assert_eq!(blobs(&rig).len(), 1);
    assert_eq!(rig.view(&task), before);
}
