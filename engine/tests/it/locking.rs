//! Locks and slots: who goes first, what others are told, and what a restart changes of it.

use kedge_engine::builder::PlanBuilder;
use kedge_engine::journal::keys;
use kedge_engine::service::{Submitted, Tasks as _};
use kedge_engine::store::Store as _;
use kedge_engine::task::{TaskId, TaskState};
use kedge_engine::workflow::{PlanCx, PlanRefusal};

use crate::rig::{Options, Rig};
use crate::steps::{Act, Make};
use crate::world::{Behave, Kind};

fn locked(resources: &'static [(&'static str, bool)]) -> impl Fn(&mut PlanBuilder) + Send + Sync {
    move |plan| {
        for (resource, shared) in resources {
            plan.lock(*resource, *shared);
        }
        plan.step("a", Make(Act::on("t/a")), &[]);
    }
}

fn rig() -> Rig {
    let rig = Rig::new(
        1,
        Options::default()
            .plan("x", locked(&[("x", false)]))
            .plan("xy", locked(&[("x", false), ("y", false)]))
            .plan("y", locked(&[("y", false)]))
            .plan("shared", locked(&[("x", true)])),
    );
    rig.world.script("a", Kind::Run, vec![Behave::slow(100); 50]);
    rig
}

/// The order in which tasks ended.
fn order(rig: &Rig, tasks: &[TaskId]) -> Vec<usize> {
    let ends = rig.watch.ends();
    ends.iter().filter_map(|end| tasks.iter().position(|task| task == end)).collect()
}

#[test]
fn first_come_first_served_over_many_tasks() {
    let rig = rig();
    let tasks: Vec<TaskId> = (0..20).map(|_| rig.submit("x")).collect();
    rig.settle();
    assert_eq!(order(&rig, &tasks), (0..20).collect::<Vec<_>>());
}

#[test]
fn a_higher_priority_goes_first_also_after_a_restart() {
    let mut rig = rig();
    let submit = |rig: &Rig, priority: i8| {
        let request = kedge_engine::service::Submission { priority, ..crate::rig::submission("x") };
        match rig.try_submit(request).unwrap() {
            Submitted::Created(view) | Submitted::Duplicate(view) => view.id,
        }
    };
    let tasks: Vec<TaskId> = [0, 0, 0, 5, -5, 5].map(|priority| submit(&rig, priority)).into();
    assert_eq!(rig.view(&tasks[3]).priority, 5);
    rig.until("the first is done", || rig.watch.ends().len() == 1);
    rig.restart();
    rig.settle();
    assert_eq!(order(&rig, &tasks), [0, 3, 5, 1, 2, 4]);
}

#[test]
fn the_order_is_kept_over_a_restart() {
    let mut rig = rig();
    let tasks: Vec<TaskId> = (0..20).map(|_| rig.submit("x")).collect();
    rig.until("three are done", || rig.watch.ends().len() == 3);
    rig.restart();
    rig.settle();
    assert_eq!(order(&rig, &tasks), (0..20).collect::<Vec<_>>());
}

#[test]
fn all_locks_come_at_once_and_a_waiting_task_says_for_what_and_whom() {
    let rig = rig();
    let x = rig.submit("x");
    let xy = rig.submit("xy");
    let y = rig.submit("y");
    rig.until("x runs", || rig.world.count("a", Kind::Run) == 1);
    assert_eq!(rig.world.count("a", Kind::Run), 1, "xy holds nothing yet, but y comes after it");
    let blocked = rig.view(&xy).blocked_on.unwrap();
    assert_eq!((blocked.kind.as_str(), blocked.holder), ("lock", Some(x.clone())));
    assert!(blocked.what.contains("the lock on x"), "{}", blocked.what);
    assert_eq!(rig.view(&y).blocked_on.unwrap().holder, Some(xy.clone()));
    let view = rig.engine.locks();
    let of = |resource: &str| view.iter().find(|lock| lock.resource == resource).unwrap();
    assert_eq!((of("x").holders.clone(), of("x").waiting.clone()), (vec![x], vec![xy.clone()]));
    assert_eq!((of("y").holders.clone(), of("y").waiting.clone()), (vec![], vec![xy, y]));
    rig.settle();
    assert!(rig.engine.locks().is_empty());
    assert!(rig.store.scan(keys::LOCKS, None, 10).unwrap().is_empty());
}

#[test]
fn shared_locks_go_together_and_an_exclusive_one_in_between_is_not_starved() {
    let rig = rig();
    let tasks: Vec<TaskId> =
        ["shared", "shared", "x", "shared", "shared"].map(|name| rig.submit(name)).into();
    let mut together = 0;
    rig.until("all end", || {
        together = together.max(rig.world.in_flight());
        tasks.iter().all(|task| rig.state(task).is_final())
    });
    assert_eq!(together, 2);
    let order = order(&rig, &tasks);
    assert_eq!(order.iter().position(|n| *n == 2), Some(2), "{order:?}");
    rig.sound();
}

#[test]
fn a_preview_shows_who_holds_what() {
    let rig = rig();
    let x = rig.submit("x");
    rig.until("x runs", || rig.world.count("a", Kind::Run) == 1);
    let plan = rig.engine.preview("xy", &serde_json::json!({})).unwrap();
    let shown: Vec<_> =
        plan.locks.iter().map(|lock| (lock.resource.as_str(), lock.holders.clone())).collect();
    assert_eq!(shown, [("x", vec![x]), ("y", vec![])]);
}

fn dumping(plan: &mut PlanBuilder) {
    let mut before = plan.step("a0", Make(Act::on("t/0").slot("dump")), &[]);
    for n in 1..3 {
        before = plan.step(&format!("a{n}"), Make(Act::on(format!("t/{n}")).slot("dump")), &[&before]);
    }
}

#[test]
fn slots_bound_what_runs_and_go_round() {
    let options = Options::default().plan("plan", dumping).limits(|limits| limits.per_slot = 2);
    let rig = Rig::new(1, options);
    for n in 0..3 {
        rig.world.script(&format!("a{n}"), Kind::Run, vec![Behave::slow(100); 10]);
    }
    let tasks: Vec<TaskId> = (0..5).map(|_| rig.submit("plan")).collect();
    let mut most = 0;
    let mut waits = false;
    rig.until("all end", || {
        most = most.max(rig.world.in_flight());
        waits |=
            tasks.iter().any(|task| rig.view(task).blocked_on.is_some_and(|blocked| blocked.kind == "slot"));
        tasks.iter().all(|task| rig.state(task).is_final())
    });
    assert_eq!(most, 2);
    assert!(waits, "a task that waits for a slot says so");
    let acts = rig.world.acts();
    let last_first = acts.iter().rposition(|act| act == "run a0").unwrap();
    let first_last = acts.iter().position(|act| act == "run a2").unwrap();
    assert!(last_first < first_last, "no task takes the slot again while others wait: {acts:?}");
    assert!(tasks.iter().all(|task| rig.state(task) == TaskState::Succeeded));
    rig.sound();
}

#[test]
fn a_task_that_turns_round_leaves_the_queue_for_a_slot() {
    let options = Options::default()
        .plan("holds", |plan| {
            plan.step("h", Make(Act::on("t/h").slot("dump")), &[]);
        })
        .plan("turns", |plan| {
            let a = plan.step("a", Make(Act::on("t/a")), &[]);
            plan.step("b", Make(Act::on("t/b").slot("dump")), &[&a]);
        })
        .limits(|limits| limits.per_slot = 1);
    let rig = Rig::new(1, options);
    rig.world.script("h", Kind::Run, [Behave::slow(500), Behave::WELL]);
    rig.world.script("a", Kind::Undo, [Behave::slow(900)]);
    let first = rig.submit("holds");
    rig.until("it holds the slot", || rig.world.count("h", Kind::Run) == 1);
    let turns = rig.submit("turns");
    rig.until("it waits", || rig.view(&turns).blocked_on.is_some_and(|blocked| blocked.kind == "slot"));
    let last = rig.submit("holds");
    rig.cancel(&turns).unwrap();
    rig.until("the last one has the slot", || rig.world.count("h", Kind::Run) == 2);
    assert_eq!(rig.state(&first), TaskState::Succeeded);
    assert_eq!(rig.state(&turns), TaskState::Compensating, "it is not in the way");
    rig.settle();
    assert_eq!((rig.state(&turns), rig.state(&last)), (TaskState::Canceled, TaskState::Succeeded));
}

/// A workflow whose plan is of what tasks have left: it goes to where the site is, under locks of that place.
fn moving() -> Options {
    let at = |cx: &PlanCx<'_>| -> Result<String, PlanRefusal> {
        let place = cx.facts.record("site", "shop")?;
        Ok(place.and_then(|place| place.as_str().map(str::to_owned)).unwrap_or_else(|| "old".to_owned()))
    };
    Options::default()
        .plan("move", |plan| {
            plan.lock("site", false);
            plan.step("move", Make(Act::on("t/move").value("new").record("shop")), &[]);
        })
        .workflow("visit", move |_, cx| {
            let place = at(cx)?;
            let mut plan = PlanBuilder::new(Some("shop"));
            plan.lock("site", false);
            plan.lock(format!("platform {place}"), false);
            plan.step("visit", Make(Act::on(format!("t/visited {place} by {}", cx.task))), &[]);
            Ok(plan.build()?)
        })
        .plan("new", |plan| {
            plan.lock("platform new", false);
            plan.step("new", Make(Act::on("t/new")), &[]);
        })
}

/// Where a visit has been.
fn visited(rig: &Rig, task: &TaskId) -> Vec<String> {
    let by = format!(" by {task}");
    let keys = rig.world.resources().into_keys();
    keys.filter_map(|key| Some(key.strip_prefix("t/visited ")?.strip_suffix(&by)?.to_owned())).collect()
}

#[test]
fn a_task_that_waited_goes_by_a_plan_of_what_others_have_left() {
    for restart in [false, true] {
        let mut rig = Rig::new(1, moving());
        rig.world.script("move", Kind::Run, vec![Behave::slow(100); 3]);
        let before = rig.submit("visit");
        rig.settle();
        let (moves, after) = (rig.submit("move"), rig.submit("visit"));
        assert!(rig.view(&after).blocked_on.is_some_and(|blocked| blocked.holder == Some(moves)));
        if restart {
            rig.restart();
        }
        rig.settle();
        assert_eq!((visited(&rig, &before), visited(&rig, &after)), (vec!["old".into()], vec!["new".into()]));
        let planned = |task| rig.story(task).iter().filter(|line| line.contains("planned")).count();
        assert_eq!((planned(&before), planned(&after)), (0, 1), "only what has changed is planned anew");
        rig.sound();
    }
}

#[test]
fn other_locks_of_a_new_plan_are_asked_for_from_the_place_in_the_queue_that_it_had() {
    let rig = Rig::new(1, moving());
    rig.world.script("move", Kind::Run, vec![Behave::slow(100)]);
    rig.world.script("new", Kind::Run, vec![Behave::slow(1000)]);
    let tasks = ["new", "move", "visit", "visit"].map(|name| rig.submit(name));
    rig.until("it waits for the lock of its new place", || {
        rig.view(&tasks[2]).blocked_on.is_some_and(|blocked| blocked.holder.as_ref() == Some(&tasks[0]))
    });
    let behind = rig.view(&tasks[3]).blocked_on.expect("it comes after the other one");
    assert_eq!(behind.holder, Some(tasks[2].clone()), "{behind:?}");
    let held: Vec<String> = rig
        .engine
        .locks()
        .into_iter()
        .filter(|lock| lock.holders.contains(&tasks[2]))
        .map(|lock| lock.resource)
        .collect();
    assert!(held.is_empty(), "it holds {held:?} while it waits");
    rig.settle();
    assert_eq!(order(&rig, &tasks), [1, 0, 2, 3]);
    assert_eq!([2, 3].map(|n| visited(&rig, &tasks[n])), [vec!["new".to_owned()], vec!["new".to_owned()]]);
    rig.sound();
}

#[test]
fn a_plan_that_somebody_has_seen_stays_as_it_was_seen() {
    let rig = Rig::new(1, moving());
    rig.world.script("move", Kind::Run, vec![Behave::slow(100)]);
    let seen = rig.engine.preview("visit", &serde_json::json!({})).unwrap().plan_hash;
    rig.submit("move");
    let request =
        kedge_engine::service::Submission { if_plan: Some(seen), ..crate::rig::submission("visit") };
    let Submitted::Created(visit) = rig.try_submit(request).unwrap() else { panic!("it is new") };
    rig.settle();
    assert_eq!(visited(&rig, &visit.id), ["old"]);
    rig.sound();
}
