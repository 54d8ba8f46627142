//! Submissions: accepted once, durable before anybody hears of it, and refused with the reason.

use kedge_engine::builder::PlanBuilder;
use kedge_engine::journal::keys;
use kedge_engine::plan::Plan;
use kedge_engine::service::{DedupeKey, Submission, SubmitError, Submitted, Tasks as _, VerbError};
use kedge_engine::store::Store as _;
use kedge_engine::task::{TaskId, TaskState};
use kedge_engine::testing::runtime::EPOCH;
use kedge_engine::workflow::PlanRefusal;
use serde_json::json;

use crate::rig::{Options, Rig, keyed, submission};
use crate::steps::{Act, Decide, Make};
use crate::world::{Effect, End, Kind};

fn one(plan: &mut PlanBuilder) {
    plan.step("a", Make(Act::on("t/a")), &[]);
}

fn created(answer: Result<Submitted, SubmitError>) -> TaskId {
    match answer {
        Ok(Submitted::Created(view)) => view.id,
        other => panic!("{other:?}"),
    }
}

fn duplicate(answer: Result<Submitted, SubmitError>) -> TaskId {
    match answer {
        Ok(Submitted::Duplicate(view)) => view.id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_same_key_with_the_same_request_is_the_same_task() {
    let mut rig = Rig::of(one);
    let first = created(rig.try_submit(keyed("plan", "k", "body 1")));
    assert_eq!(duplicate(rig.try_submit(keyed("plan", "k", "body 1"))), first);
    rig.settle();
    assert_eq!(duplicate(rig.try_submit(keyed("plan", "k", "body 1"))), first, "also when it has ended");
    rig.restart();
    assert_eq!(duplicate(rig.try_submit(keyed("plan", "k", "body 1"))), first, "also in the next life");
    assert_eq!(
        rig.try_submit(keyed("plan", "k", "body 2")),
        Err(SubmitError::KeyReused("k".to_owned())),
        "another request under the same key is a mistake"
    );
    assert_ne!(created(rig.try_submit(keyed("plan", "other", "body 1"))), first);
    let mut elsewhere = keyed("plan", "k", "body 1");
    elsewhere.dedupe[0].scope = "token:somebody else".to_owned();
    assert_ne!(created(rig.try_submit(elsewhere)), first, "keys are their owner's");
}

#[test]
fn many_at_once_with_one_key_are_one_task() {
    for seed in 0..20 {
        let mut options = Options::default().plan("plan", one);
        options.pauses = true;
        let rig = Rig::new(seed, options);
        let all = (0..30).map(|_| {
            let engine = rig.engine.clone();
            async move { engine.submit(keyed("plan", "k", "body")).await }
        });
        let answers = rig.runtime.block_on(futures::future::join_all(all.collect::<Vec<_>>())).unwrap();
        let created: Vec<_> =
            answers.iter().filter(|answer| matches!(answer, Ok(Submitted::Created(_)))).collect();
        assert_eq!(created.len(), 1, "seed {seed}");
        assert!(
            answers
                .iter()
                .all(|answer| matches!(answer, Ok(Submitted::Created(_) | Submitted::Duplicate(_))))
        );
        rig.settle();
        assert_eq!(rig.store.scan(keys::HEADS, None, 10).unwrap().len(), 1);
        assert_eq!(rig.world.count("a", Kind::Run), 1);
    }
}

#[test]
fn a_delivery_id_without_a_fingerprint_is_enough_and_several_keys_work_together() {
    let rig = Rig::of(one);
    let key =
        |key: &str| DedupeKey { scope: "hook:deploy".to_owned(), key: key.to_owned(), fingerprint: None };
    let with =
        |keys: &[&str]| Submission { dedupe: keys.iter().map(|k| key(k)).collect(), ..submission("plan") };
    let first = created(rig.try_submit(with(&["delivery 1", "body 1"])));
    assert_eq!(duplicate(rig.try_submit(with(&["delivery 2", "body 1"]))), first);
    assert_eq!(duplicate(rig.try_submit(with(&["delivery 1"]))), first);
    assert_ne!(created(rig.try_submit(with(&["delivery 2", "body 2"]))), first);
    let many: Vec<String> = (0..9).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(matches!(rig.try_submit(with(&many)), Err(SubmitError::Refused(_))));
}

#[test]
fn long_and_odd_keys_and_scopes_work_and_do_not_meet() {
    let rig = Rig::of(one);
    let with = |scope: &str, key: &str| Submission {
        dedupe: vec![DedupeKey { scope: scope.to_owned(), key: key.to_owned(), fingerprint: None }],
        ..submission("plan")
    };
    let long = "é".repeat(5000);
    let scopes = ["", "a\0b", "a", &long, &format!("{long}x"), &"s".repeat(128), &"s".repeat(129)];
    let keys = ["", "k\0", "k", &long];
    let mut tasks = std::collections::BTreeSet::new();
    for scope in scopes {
        for key in keys {
            assert!(tasks.insert(created(rig.try_submit(with(scope, key)))), "{scope:?} {key:?}");
        }
    }
}

#[test]
fn the_plan_hash_of_a_preview_is_that_of_the_submission() {
    let options = Options::default().workflow("plan", |params, cx| {
        let mut plan = PlanBuilder::new(Some("shop.test"));
        // The task's id and the time are in the real plan, and must not change its hash.
        let key = format!("t/{}-{}-{}", cx.task, cx.named_at, params["n"]);
        plan.step("a", Make(Act::on(key)), &[]);
        plan.note("look out");
        Ok(plan.build()?)
    });
    let rig = Rig::new(1, options);
    let params = json!({ "n": 1 });
    let seen = rig.engine.preview("plan", &params).unwrap();
    assert_eq!(
        (seen.site.as_deref(), seen.notes.as_slice()),
        (Some("shop.test"), ["look out".to_owned()].as_slice())
    );
    assert!(rig.store.scan(b"", None, 10).unwrap().is_empty(), "a preview leaves nothing");
    rig.runtime.set_clock(EPOCH + 5000);
    let submit = |if_plan: &str, params: &serde_json::Value| Submission {
        params: params.clone(),
        if_plan: Some(if_plan.to_owned()),
        ..submission("plan")
    };
    let task = created(rig.try_submit(submit(&seen.plan_hash, &params)));
    assert_eq!(rig.view(&task).plan_hash, Some(seen.plan_hash.clone()));
    let other = rig.try_submit(submit(&seen.plan_hash, &json!({ "n": 2 })));
    let Err(SubmitError::PlanChanged { now }) = other else { panic!("{other:?}") };
    assert_eq!(now, rig.engine.preview("plan", &json!({ "n": 2 })).unwrap().plan_hash);
    rig.settle();
    assert_eq!(rig.world.resources().keys().next().unwrap(), &format!("t/{task}-{}-1", EPOCH + 5000));
}

#[test]
fn what_cannot_be_accepted_is_refused_and_leaves_nothing() {
    let options = Options::default()
        .workflow("params", |_, _| Err(PlanRefusal::param("/site", "a host name is needed")))
        .workflow("world", |_, _| Err(PlanRefusal::Refused("the site exists already".to_owned())))
        .workflow("defect", |_, _| Ok(PlanBuilder::new(None).build()?))
        .workflow("long", |_, _| {
            let mut plan = PlanBuilder::new(Some(&"s".repeat(1000)));
            one(&mut plan);
            Ok(plan.build()?)
        })
        .plan("plan", one)
        .limits(|limits| limits.open_tasks = 2);
    let rig = Rig::new(1, options);
    assert_eq!(
        rig.try_submit(submission("nothing")),
        Err(SubmitError::UnknownWorkflow("nothing".to_owned()))
    );
    let answer = rig.try_submit(submission("params"));
    assert!(matches!(answer, Err(SubmitError::BadParams(problems)) if problems[0].pointer == "/site"));
    assert_eq!(
        rig.try_submit(submission("world")),
        Err(SubmitError::Refused("the site exists already".to_owned()))
    );
    for defect in ["defect", "long"] {
        let answer = rig.try_submit(submission(defect));
        assert!(
            matches!(&answer, Err(SubmitError::Refused(why)) if why.contains("defect of the workflow")),
            "{answer:?}"
        );
    }
    rig.store.set_low(Some("1 GiB left of 2".to_owned()));
    assert_eq!(
        rig.try_submit(submission("plan")),
        Err(SubmitError::Unavailable("1 GiB left of 2".to_owned()))
    );
    rig.store.set_low(None);
    assert!(rig.store.scan(b"", None, 10).unwrap().is_empty());

    rig.world.script("a", Kind::Run, vec![crate::world::Behave::slow(500); 5]);
    let all = (0..5).map(|_| {
        let engine = rig.engine.clone();
        async move { engine.submit(submission("plan")).await }
    });
    let answers = rig.runtime.block_on(futures::future::join_all(all.collect::<Vec<_>>())).unwrap();
    let taken = answers.iter().filter(|answer| matches!(answer, Ok(Submitted::Created(_)))).count();
    assert_eq!(taken, 2, "the bound holds for all that come at once");
    assert!(answers.iter().any(
        |answer| matches!(answer, Err(SubmitError::Unavailable(why)) if why.contains("2 tasks are open"))
    ));
    rig.settle();
    created(rig.try_submit(submission("plan")));
}

fn held(rig: Options) -> Options {
    rig.workflow("plan", |_, _| {
        let mut plan = PlanBuilder::new(None);
        plan.hold(10_000);
        let a = plan.step("a", Make(Act::on("t/a")), &[]);
        plan.step("pivot", Decide::on(Act::on("site").value("new")), &[&a]);
        Ok(plan.build()?)
    })
    .undone_by(|finished| back(finished.outputs["pivot"]["key"].as_str().unwrap()))
}

fn back(key: &str) -> Plan {
    let mut plan = PlanBuilder::new(None);
    plan.step("back", Decide::on(Act::on(key).value("old")), &[]);
    plan.build().unwrap()
}

fn refusal(answer: Result<kedge_engine::task::TaskView, VerbError>) -> String {
    match answer {
        Err(VerbError::Conflict(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_finished_task_is_taken_back_by_a_new_one_within_its_hold() {
    let mut rig = Rig::new(1, held(Options::default()));
    let task = rig.submit("plan");
    assert!(refusal(rig.undo(&task)).contains("only a task that has succeeded"));
    rig.settle();
    let until = rig.view(&task).undo_until.unwrap();
    assert_eq!(until, rig.view(&task).finished_at.unwrap() + 10_000);
    rig.restart();
    let undo = rig.undo(&task).unwrap();
    assert_eq!(
        (undo.workflow.as_str(), &undo.params),
        ("undo", &json!({ "task": task, "workflow": "plan" }))
    );
    assert!(
        refusal(rig.undo(&task)).contains("is taking it back already"),
        "once, however often it is asked for"
    );
    rig.settle();
    assert_eq!(rig.state(&undo.id), TaskState::Succeeded);
    assert_eq!(rig.world.get("site").as_deref(), Some("old"));
    assert!(refusal(rig.undo(&task)).contains("has taken it back already"));
    let accepted = &rig.events(&undo.id)[0];
    assert_eq!(accepted.data["undo_of"], json!(task));
}

#[test]
fn an_undo_that_was_rolled_back_can_be_asked_for_again() {
    let rig = Rig::new(1, held(Options::default()));
    let task = rig.submit("plan");
    rig.settle();
    rig.world.runs("back", [(Effect::None, End::Fatal)]);
    let undo = rig.undo(&task).unwrap();
    rig.settle();
    assert_eq!(rig.state(&undo.id), TaskState::RolledBack);
    assert!(refusal(rig.retry(&undo.id)).contains("undo the original task again"));
    let again = rig.undo(&task).unwrap();
    rig.settle();
    assert_eq!(rig.state(&again.id), TaskState::Succeeded);
}

#[test]
fn two_undos_at_once_are_one() {
    for seed in 0..10 {
        let mut options = held(Options::default());
        options.pauses = true;
        let rig = Rig::new(seed, options);
        let task = rig.submit("plan");
        rig.settle();
        let all = (0..5).map(|_| {
            let (engine, task) = (rig.engine.clone(), task.clone());
            async move { engine.undo(&task, crate::rig::actor()).await.is_ok() }
        });
        let answers = rig.runtime.block_on(futures::future::join_all(all.collect::<Vec<_>>())).unwrap();
        assert_eq!(answers.iter().filter(|taken| **taken).count(), 1, "seed {seed}");
    }
}

#[test]
fn after_the_hold_nothing_is_taken_back() {
    let rig = Rig::new(1, held(Options::default()).plan("for good", one));
    let task = rig.submit("plan");
    let other = rig.submit("for good");
    rig.settle();
    rig.runtime.set_clock(rig.view(&task).undo_until.unwrap());
    rig.undo(&task).unwrap();
    let late = rig.submit("plan");
    rig.settle();
    rig.runtime.set_clock(rig.view(&late).undo_until.unwrap() + 1);
    assert!(refusal(rig.undo(&late)).contains("the hold is over"));
    assert!(refusal(rig.undo(&other)).contains("cannot be undone"));
    assert_eq!(rig.undo(&TaskId::from_bytes([7; 16])), Err(VerbError::UnknownTask));
}

#[test]
fn a_rolled_back_task_is_retried_as_a_new_one_with_the_same_request() {
    let rig = Rig::of(one);
    rig.world.runs("a", [(Effect::Half, End::Fatal)]);
    let request = Submission {
        params: json!({ "x": 1 }),
        correlation_id: Some("build 7".to_owned()),
        callback: Some(json!({ "url": "https://ci.test" })),
        ..keyed("plan", "k", "body")
    };
    let task = created(rig.try_submit(request.clone()));
    rig.settle();
    let again = rig.retry(&task).unwrap();
    assert_ne!(again.id, task);
    assert_eq!((again.params, again.correlation_id.as_deref()), (json!({ "x": 1 }), Some("build 7")));
    rig.settle();
    assert_eq!(rig.state(&again.id), TaskState::Succeeded);
    let body = &rig.callbacks()[0].body;
    assert!(body.contains("https://ci.test"), "{body}");
    assert!(refusal(rig.retry(&again.id)).contains("has succeeded"));
    assert_eq!(duplicate(rig.try_submit(request)), task, "the key stays with the first one");
}

#[test]
fn a_running_task_that_is_not_stuck_cannot_be_retried() {
    let rig = Rig::of(one);
    let task = rig.submit("plan");
    assert!(refusal(rig.retry(&task)).contains("nothing of the task is stuck"));
}
