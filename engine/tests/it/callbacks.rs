//! The outbox: queued with the change that it tells, due by time, delivered by somebody else, replayed on request.

use kedge_engine::journal::keys;
use kedge_engine::outbox::{Callback, CallbackStatus, CallbacksOf, Delivery, Outbox as _, after_failure};
use kedge_engine::ports::Clock as _;
use kedge_engine::store::{CommitError, MAX_VALUE, Store as _};
use kedge_engine::testing::runtime::EPOCH;

use crate::rig::{Rig, submission};
use crate::steps::{Act, Make};

fn rig() -> Rig {
    Rig::of(|plan| {
        plan.step("a", Make(Act::on("t/a")), &[]);
    })
}

fn delivery(id: &str, attempt: u32, at: u64) -> Delivery {
    Delivery {
        callback: id.to_owned(),
        attempt,
        at,
        duration_ms: 3,
        status: Some(500),
        error: None,
        answer: "oops".to_owned(),
    }
}

fn record(rig: &Rig, delivery: Delivery, then: CallbackStatus) -> Result<(), CommitError> {
    let outbox = rig.engine.outbox();
    rig.runtime.block_on(async move { outbox.record(delivery, then).await }).unwrap()
}

fn replay(rig: &Rig, id: &str, now: u64) -> bool {
    let (outbox, id) = (rig.engine.outbox(), id.to_owned());
    rig.runtime.block_on(async move { outbox.replay(&id, now).await }).unwrap().unwrap()
}

#[test]
fn callbacks_are_due_at_once_in_order_and_say_what_happened() {
    let rig = rig();
    let task = rig.run();
    let outbox = rig.engine.outbox();
    let due = outbox.due(rig.runtime.now(), 100).unwrap();
    let told: Vec<_> = due.iter().map(|callback| callback.event.as_str()).collect();
    assert_eq!(told, ["task.running", "task.succeeded"]);
    let last = &due[1];
    assert_eq!((last.task.clone(), last.sequence), (task.clone(), rig.view(&task).sequence));
    assert!(last.id.starts_with("msg_") && last.id.len() == 36);
    assert_eq!(outbox.due(rig.runtime.now(), 1).unwrap().len(), 1);
    assert_eq!(outbox.next_due().unwrap(), Some(due[0].created_at));
    assert_eq!(outbox.callback(&last.id).unwrap().as_ref(), Some(last));
    assert_eq!(outbox.callback("msg_nothing").unwrap(), None);
    let newest: Vec<String> =
        outbox.callbacks(None, 1).unwrap().into_iter().map(|callback| callback.id).collect();
    assert_eq!(newest, std::slice::from_ref(&last.id));
    assert_eq!(outbox.callbacks(Some(&last.id), 10).unwrap(), [due[0].clone()]);
}

#[test]
fn a_delivery_moves_it_on_and_stays_to_be_seen() {
    let rig = rig();
    rig.run();
    let outbox = rig.engine.outbox();
    let id = outbox.callbacks(None, 1).unwrap()[0].id.clone();
    let mut now = rig.runtime.now();
    for attempt in 1..=3 {
        let then = after_failure(attempt, now, 0.5, None);
        record(&rig, delivery(&id, attempt, now), then.clone()).unwrap();
        let CallbackStatus::Due { at } = then else { panic!() };
        let due = outbox.due(at - 1, 100).unwrap();
        assert!(due.iter().all(|callback| callback.id != id), "not before its time");
        assert!(outbox.due(at, 100).unwrap().iter().any(|callback| callback.id == id));
        now = at;
    }
    record(&rig, delivery(&id, 4, now), CallbackStatus::Delivered { at: now }).unwrap();
    assert!(outbox.due(u64::MAX, 100).unwrap().iter().all(|callback| callback.id != id));
    let seen: Vec<u32> = outbox.deliveries(&id).unwrap().iter().map(|delivery| delivery.attempt).collect();
    assert_eq!(seen, [1, 2, 3, 4]);
    let callback = outbox.callback(&id).unwrap().unwrap();
    assert_eq!((callback.attempts, callback.status), (4, CallbackStatus::Delivered { at: now }));

    assert!(replay(&rig, &id, now + 5));
    assert!(outbox.due(now + 5, 100).unwrap().iter().any(|callback| callback.id == id), "the same id again");
    assert!(!replay(&rig, "msg_nothing", now));
    // Replayed twice, it is due once.
    assert!(replay(&rig, &id, now + 9));
    let due: Vec<_> =
        outbox.due(u64::MAX, 100).unwrap().into_iter().filter(|callback| callback.id == id).collect();
    assert_eq!(due.len(), 1);
}

#[test]
fn a_dead_one_is_not_due_and_can_be_replayed() {
    let rig = rig();
    rig.run();
    let outbox = rig.engine.outbox();
    let id = outbox.callbacks(None, 1).unwrap()[0].id.clone();
    let then = after_failure(10, EPOCH, 0.5, None);
    assert!(matches!(then, CallbackStatus::Dead { .. }));
    record(&rig, delivery(&id, 10, EPOCH), then).unwrap();
    assert!(outbox.due(u64::MAX, 100).unwrap().iter().all(|callback| callback.id != id));
    assert!(replay(&rig, &id, EPOCH));
    assert!(outbox.due(EPOCH, 100).unwrap().iter().any(|callback| callback.id == id));
}

#[test]
fn who_waits_is_woken_when_something_is_queued() {
    let rig = rig();
    let outbox = rig.engine.outbox();
    for _ in 0..1000 {
        // Waited for and given up again: nothing may pile up.
        drop(outbox.queued());
    }
    let queued = outbox.queued();
    let woken = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let tell = woken.clone();
    rig.runtime.spawn_here(async move {
        queued.await;
        tell.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    rig.runtime.settle();
    assert!(!woken.load(std::sync::atomic::Ordering::Relaxed));
    rig.run();
    assert!(woken.load(std::sync::atomic::Ordering::Relaxed));
}

#[test]
fn a_body_too_large_for_a_value_is_kept_whole() {
    let rig = rig();
    let long = "x".repeat(20_000);
    let submission = kedge_engine::service::Submission {
        callback: Some(serde_json::json!({ "url": long })),
        ..submission("plan")
    };
    rig.try_submit(submission).unwrap();
    rig.settle();
    let outbox = rig.engine.outbox();
    let callback = outbox.callbacks(None, 1).unwrap().remove(0);
    assert!(callback.body.contains(&long));
    record(&rig, delivery(&callback.id, 1, EPOCH), CallbackStatus::Due { at: EPOCH }).unwrap();
    assert_eq!(
        outbox.callback(&callback.id).unwrap().unwrap().body,
        callback.body,
        "the same bytes at every attempt"
    );
}

#[test]
fn a_row_of_any_size_can_be_delivered() {
    let rig = rig();
    rig.run();
    let model = rig.callbacks().remove(0);
    let at = rig.runtime.now();
    let sized = |id: String, bytes: usize| {
        let mut callback = Callback { id, status: CallbackStatus::Due { at }, ..model.clone() };
        callback.body = String::new();
        let rest = serde_json::to_vec(&callback).unwrap().len();
        Callback { body: "x".repeat(bytes - rest), ..callback }
    };
    // Those of an older version are kept in their rows to the last byte.
    let ours = (MAX_VALUE - 100..MAX_VALUE + 20).map(|bytes| (false, bytes));
    let older = (MAX_VALUE - 40..=MAX_VALUE).map(|bytes| (true, bytes));
    for (older, bytes) in ours.chain(older) {
        let id = format!("msg_{bytes:031}{}", u8::from(older));
        let callback = sized(id.clone(), bytes);
        let (outbox, queued) = (rig.engine.outbox(), callback.clone());
        rig.runtime.block_on(async move { outbox.queue(queued).await }).unwrap().unwrap();
        if older {
            rig.store.tamper(&keys::callback(&id), Some(serde_json::to_vec(&callback).unwrap()));
        }
        record(&rig, delivery(&id, 1, at), CallbackStatus::Due { at }).unwrap();
        record(&rig, delivery(&id, 1000, at), CallbackStatus::Delivered { at }).unwrap();
        let now = rig.engine.outbox().callback(&id).unwrap().unwrap();
        assert_eq!(now.status, CallbackStatus::Delivered { at }, "{bytes} bytes");
        assert_eq!(now.body, callback.body);
    }
}

#[test]
fn a_damaged_callback_does_not_hold_up_the_others() {
    let rig = rig();
    rig.run();
    rig.run();
    let outbox = rig.engine.outbox();
    let all = outbox.due(u64::MAX, 100).unwrap();
    assert_eq!(all.len(), 4);
    rig.store.tamper(&keys::callback(&all[0].id), Some(b"nonsense".to_vec()));
    rig.store.tamper(&keys::callback(&all[1].id), None);
    let left: Vec<_> = outbox.due(u64::MAX, 2).unwrap().into_iter().map(|callback| callback.id).collect();
    assert_eq!(left, [all[2].id.clone(), all[3].id.clone()]);
    assert_eq!(outbox.next_due().unwrap(), Some(all[2].created_at), "and nobody is woken for them");
}

#[test]
fn two_deliverers_do_not_record_over_each_other() {
    let rig = rig();
    rig.run();
    let outbox = rig.engine.outbox();
    let id = outbox.callbacks(None, 1).unwrap()[0].id.clone();
    rig.store.hold();
    let answers = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    for then in [CallbackStatus::Delivered { at: EPOCH }, CallbackStatus::Dead { at: EPOCH }] {
        let (outbox, id, answers) = (rig.engine.outbox(), id.clone(), answers.clone());
        rig.runtime.spawn_here(async move {
            let answer = outbox.record(delivery(&id, 1, EPOCH), then).await;
            answers.lock().unwrap().push(answer);
        });
    }
    rig.until("both have read it", || rig.store.held() == 2);
    rig.store.release_all();
    rig.runtime.settle();
    let answers = answers.lock().unwrap();
    let [one, two] = answers.as_slice() else { panic!("{answers:?}") };
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    assert!(rig.store.get(&keys::delivery(&id, 1)).unwrap().is_some());
}

#[test]
fn callbacks_are_found_by_task_and_by_receiver() {
    let rig = rig();
    let (one, two) = (rig.run(), rig.run());
    let outbox = rig.engine.outbox();
    let all = outbox.callbacks(None, 100).unwrap();
    for (of, count) in [
        (CallbacksOf::Task(&one), 2),
        (CallbacksOf::Task(&two), 2),
        (CallbacksOf::Endpoint("ci"), 4),
        (CallbacksOf::Endpoint("c"), 0),
    ] {
        let wanted: Vec<_> = all.iter().filter(|callback| of.contains(callback)).cloned().collect();
        assert_eq!(wanted.len(), count);
        assert_eq!(outbox.callbacks_of(of, None, 100).unwrap(), wanted, "{of:?}");
        if let [newest, rest @ ..] = wanted.as_slice() {
            let next = outbox.callbacks_of(of, Some(&newest.id), 1).unwrap();
            assert_eq!(next, rest[..1.min(rest.len())], "{of:?}, page by page");
        }
    }
}

#[test]
fn receivers_with_long_names_have_keys_of_their_own() {
    let url = |end: &str| format!("https://ci.example.test/{}{end}", "x".repeat(400));
    let (one, two) = (keys::callbacks_to(&url("1")), keys::callbacks_to(&url("2")));
    assert!(one != two && one.len() < 200 && one.ends_with(b"\0"));
    assert_eq!(keys::callbacks_to("ci"), b"n/ci\0");
}
