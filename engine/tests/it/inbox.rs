//! The inbox: a message is kept by the very write that makes it a task, others soon after; each kind has room of its own.

use std::sync::Arc;

use kedge_engine::executor::{Room, StoreInbox};
use kedge_engine::inbox::{Inbox as _, Kept, MAX_REST, Received};
use kedge_engine::service::{Submitted, Tasks as _};
use kedge_engine::store::{MAX_VALUE, Store as _};
use kedge_engine::task::TaskId;
use serde_json::{Value, json};

use crate::rig::{Rig, keyed};
use crate::steps::{Act, Make};

fn received(n: u64, kind: Kept, rest: Value) -> Received {
    Received {
        id: format!("in_{n:032x}"),
        at: n,
        kind,
        task: None,
        line: json!({"n": n}),
        rest: Arc::new(rest),
    }
}

fn rig() -> Rig {
    Rig::of(|plan| {
        plan.step("a", Make(Act::on("t/a")), &[]);
    })
}

fn submit(rig: &Rig, key: &str, n: u64, rest: Value) -> (bool, TaskId) {
    let (engine, submission) = (rig.engine.clone(), keyed("plan", key, "body"));
    let message = received(n, Kept::Accepted, rest);
    let done = rig.runtime.block_on(async move { engine.submit_received(submission, message).await });
    match done.unwrap().unwrap() {
        Submitted::Created(view) => (true, view.id),
        Submitted::Duplicate(view) => (false, view.id),
    }
}

fn round(rig: &Rig, inbox: &StoreInbox, now: Option<u64>) {
    let inbox = inbox.clone();
    rig.runtime.block_on(async move { inbox.round(now).await }).unwrap();
}

fn ids(inbox: &StoreInbox) -> Vec<u64> {
    inbox.list(None, 1000).unwrap().iter().map(|message| message.line["n"].as_u64().unwrap()).collect()
}

#[test]
fn a_message_that_becomes_a_task_is_kept_by_the_same_write() {
    let mut rig = rig();
    let commits = rig.store.counts().commits;
    let (created, task) = submit(&rig, "k", 1, json!({"payload": "x"}));
    assert!(created);
    assert_eq!(rig.store.counts().commits, commits + 1, "one durable write for both");
    let kept = rig.engine.inbox().received(&received(1, Kept::Accepted, Value::Null).id).unwrap().unwrap();
    assert_eq!(
        (kept.task, &kept.rest["payload"], kept.kind),
        (Some(task.clone()), &json!("x"), Kept::Accepted)
    );
    assert_eq!(submit(&rig, "k", 2, json!({})), (false, task), "a duplicate leaves nothing");
    assert_eq!(ids(&rig.engine.inbox()), [1]);
    rig.restart();
    assert_eq!(ids(&rig.engine.inbox()), [1], "it survives");
    rig.settle();
}

#[test]
fn large_messages_are_spread_and_come_back_whole() {
    let rig = rig();
    let large = json!({"payload": "é\"".repeat(30_000)});
    submit(&rig, "large", 1, large.clone());
    let too_large = json!({"payload": "x".repeat(MAX_REST)});
    submit(&rig, "too large", 2, too_large);
    let whole =
        |n: u64| rig.engine.inbox().received(&received(n, Kept::Accepted, Value::Null).id).unwrap().unwrap();
    assert_eq!(*whole(1).rest, large);
    assert!(
        whole(2).task.is_some() && whole(2).rest.is_null(),
        "kept without its rest, and no reason to refuse a task"
    );
    let listed = rig.engine.inbox().list(None, 10).unwrap();
    assert!(listed.iter().all(|message| message.rest.is_null()), "lists are short");
    rig.settle();
}

#[test]
fn strangers_fill_their_own_room_alone() {
    let rig = rig();
    let room = |count: usize| Room { count, bytes: 1 << 20, age_ms: 1000 };
    let inbox = rig.engine.inbox().with_rooms([room(40), room(40), room(40)]);
    inbox.count();
    submit(&rig, "k", 1, json!({"payload": "x".repeat(9000)}));
    assert!(inbox.keep(received(2, Kept::Refused, json!({}))));
    for n in 100..1100 {
        inbox.keep(received(n, Kept::Rejected, json!({"payload": "x".repeat(5000)})));
        if n % 100 == 0 {
            round(&rig, &inbox, None);
        }
    }
    round(&rig, &inbox, None);
    let left = ids(&inbox);
    assert!(left.contains(&1) && left.contains(&2), "{left:?}");
    assert!(left.len() <= 42 && left[0] == 1099, "{left:?}");
    let rows = rig.store.scan(b"j/", None, 4000).unwrap().len();
    assert!(rows <= 40 * 2 + 3, "the parts of what is gone are gone: {rows}");
    round(&rig, &inbox, Some(5000));
    assert_eq!(ids(&inbox), Vec::<u64>::new(), "in the end, age takes all");
    assert!(rig.store.scan(b"j/", None, 1).unwrap().is_empty());
    rig.settle();
}

#[test]
fn the_bytes_of_what_is_there_stay_known_over_many_rounds() {
    const LARGE: usize = 3 * MAX_VALUE + 500;
    let rig = rig();
    let room = Room { count: 100_000, bytes: 200 * LARGE, age_ms: u64::MAX };
    let inbox = rig.engine.inbox().with_rooms([room; 3]);
    inbox.count();
    for n in 0..1000 {
        inbox.keep(received(n, Kept::Refused, json!({"payload": "x".repeat(LARGE)})));
        if n % 20 == 19 {
            round(&rig, &inbox, None);
        }
    }
    let rows = rig.store.scan(b"j/", None, 100_000).unwrap();
    let bytes: usize = rows.iter().map(|(_, value)| value.len()).sum();
    assert!(bytes <= room.bytes && bytes >= room.bytes / 2, "{bytes} of {}", room.bytes);
    rig.settle();
}

#[test]
fn what_is_accepted_while_the_oldest_go_is_counted() {
    let rig = rig();
    let room = Room { count: 40, bytes: 1 << 20, age_ms: u64::MAX };
    let inbox = rig.engine.inbox().with_rooms([room; 3]);
    inbox.count();
    for cycle in 0..20 {
        for n in 0..4 {
            let n = cycle * 5 + n;
            submit(&rig, &n.to_string(), n, json!({}));
        }
        rig.settle();
        rig.store.hold();
        let trimmed = inbox.clone();
        rig.runtime.spawn_here(async move { trimmed.round(None).await });
        rig.runtime.settle();
        let waiting = rig.store.held();
        let n = cycle * 5 + 4;
        let (engine, asked) = (rig.engine.clone(), keyed("plan", &n.to_string(), "body"));
        let message = received(n, Kept::Accepted, json!({}));
        rig.runtime.spawn_here(async move { drop(engine.submit_received(asked, message).await) });
        rig.runtime.settle();
        rig.store.release_one(waiting);
        rig.runtime.settle();
        rig.store.release_all();
        rig.settle();
    }
    round(&rig, &inbox, None);
    let left = ids(&inbox).len();
    assert!((30..=41).contains(&left), "{left} of a room for 40");
}

#[test]
fn what_comes_quicker_than_the_disk_is_dropped_and_counted() {
    let rig = rig();
    let inbox = rig.engine.inbox();
    let taken = (0..1000).filter(|n| inbox.keep(received(*n, Kept::Rejected, json!({})))).count();
    assert!(taken < 1000 && inbox.dropped() == 1000 - taken as u64);
    assert!(
        inbox.keep(received(2000, Kept::Refused, json!({}))),
        "those who are known have their own place in the queue"
    );
    round(&rig, &inbox, None);
    assert_eq!(ids(&inbox).len(), taken + 1);
    rig.settle();
}
