//! A second person: who counts, where the task waits, and what holds across deaths of the process.

use std::sync::Arc;

use kedge_engine::builder::PlanBuilder;
use kedge_engine::context::{Cx, Subtask};
use kedge_engine::gate::{Before, Gate, Gatekeeper, Wanted};
use kedge_engine::plan::Doors;
use kedge_engine::retry::Policy;
use kedge_engine::service::{TaskFilter, Tasks as _, VerbError};
use kedge_engine::step::{Query, Step, StepError};
use kedge_engine::task::{ApprovalState, TaskId, TaskState, TaskView};
use kedge_engine::testing::runtime::EPOCH;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::rig::{Options, Rig};
use crate::steps::{Act, Decide, Make, Print, Tidy, kinds};
use crate::world::{Behave, Effect, End, Kind, World};

fn plan(plan: &mut PlanBuilder) {
    plan.lock("site x", false);
    plan.fingerprint(&Print(vec!["t/".to_owned()]), vec!["t".to_owned()]);
    let stage = plan.step("stage", Make(Act::on("t/stage")), &[]);
    let close = plan.step("close", Make(Act::on("t/closed").doors(Doors::Close)), &[&stage]);
    let pivot = plan.step("pivot", Decide::on(Act::on("site")), &[&close]);
    plan.step("open", Tidy(Act::on("u/open").doors(Doors::Open)), &[&pivot]);
}

fn gate(before: Before, approvers: &[&str]) -> Gate {
    let approvers = approvers.iter().map(|name| (*name).to_owned()).collect();
    Gate { policy: "shops".to_owned(), before, approvers, within_ms: 60_000 }
}

fn rig(before: Before, approvers: &[&str]) -> Rig {
    Rig::new(1, Options::default().plan("plan", plan).gate(gate(before, approvers)))
}

fn asked(rig: &Rig) -> TaskId {
    let task = rig.submit("plan");
    rig.until("somebody is asked", || rig.state(&task) == TaskState::Waiting);
    task
}

fn conflict(answer: Result<TaskView, VerbError>) -> String {
    match answer {
        Err(VerbError::Conflict(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn it_waits_where_the_policy_says_and_goes_on_with_a_yes() {
    for (before, ran) in [(Before::Start, 0), (Before::Close, 1), (Before::Pivot, 2)] {
        let rig = rig(before, &[]);
        let task = asked(&rig);
        let runs = |rig: &Rig| {
            ["stage", "close", "pivot"].iter().map(|step| rig.world.count(step, Kind::Run)).sum::<usize>()
        };
        assert_eq!(runs(&rig), ran, "{before:?}");
        assert_eq!(
            rig.engine.locks().is_empty(),
            before == Before::Start,
            "who has not begun holds up nobody"
        );
        let view = rig.view(&task);
        let blocked = view.blocked_on.unwrap();
        assert_eq!((blocked.kind.as_str(), blocked.until), ("approval", view.approval.unwrap().until));
        assert!(blocked.what.contains("a second person who may approve"), "{}", blocked.what);
        let view = rig.decide(&task, true, "chat:anna").unwrap();
        assert_eq!(view.approval.unwrap().state, ApprovalState::Granted);
        rig.settle();
        let view = rig.view(&task);
        assert_eq!(
            (view.state, view.approval.unwrap().by.unwrap().name.as_str()),
            (TaskState::Succeeded, "chat:anna")
        );
    }
}

/// A step that has a task of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Child;

impl Step for Child {
    type Ports = World;
    type Output = TaskId;
    type Mode = Query;
    const KIND: &'static str = "child";

    fn title(&self) -> String {
        "have a task of its own done".to_owned()
    }

    async fn run(&self, cx: &Cx<'_, World>) -> Result<TaskId, StepError> {
        match cx.subtask("plan", Value::Null).await? {
            Subtask::Ended { task, state: TaskState::Succeeded, .. } => Ok(task),
            other => Err(StepError::fatal(format!("{other:?}"))),
        }
    }

    fn policy(&self) -> Policy {
        Policy::RUN.limit(600_000)
    }
}

/// Asks for each workflow under a policy of its name, or under one for all.
struct ByWorkflow {
    one_for_all: bool,
}

impl Gatekeeper for ByWorkflow {
    fn gate(&self, wanted: Wanted<'_>) -> Option<Gate> {
        let policy = if self.one_for_all { "all" } else { wanted.workflow };
        Some(Gate { policy: policy.to_owned(), ..gate(Before::Start, &[]) })
    }
}

#[test]
fn what_was_approved_is_not_asked_about_again_for_its_own_tasks() {
    for one_for_all in [true, false] {
        let rig = Rig::new(
            1,
            Options {
                kinds: || kinds().with::<Child>(),
                gates: Arc::new(ByWorkflow { one_for_all }),
                ..Options::default().plan("plan", plan).plan("parent", |plan| {
                    plan.step("child", Child, &[]);
                })
            },
        );
        let filter = TaskFilter { workflow: Some("plan".to_owned()), limit: 9, ..TaskFilter::default() };
        let child = || rig.engine.tasks(&filter).unwrap().tasks.pop();
        let parent = rig.submit("parent");
        rig.until("somebody is asked", || rig.state(&parent) == TaskState::Waiting);
        assert!(child().is_none(), "nothing begins before");
        rig.decide(&parent, true, "chat:anna").unwrap();
        if one_for_all {
            rig.settle();
            assert_eq!(child().unwrap().approval, None);
        } else {
            rig.until("another policy asks too", || {
                child().is_some_and(|child| child.state == TaskState::Waiting)
            });
            let child = child().unwrap();
            assert!(conflict(rig.decide(&child.id, true, "chat:test")).contains("second person"));
            rig.decide(&child.id, true, "chat:bert").unwrap();
            rig.settle();
        }
        assert_eq!(
            (rig.state(&parent), child().unwrap().state),
            (TaskState::Succeeded, TaskState::Succeeded)
        );
        // On its own it is asked about as ever.
        let alone = rig.submit("plan");
        rig.until("somebody is asked", || rig.state(&alone) == TaskState::Waiting);
    }
}

#[test]
fn one_s_own_yes_does_not_count_whichever_way_it_comes() {
    let rig = rig(Before::Start, &["anna", "test"]);
    let task = asked(&rig);
    for own in ["token:test", "chat:test"] {
        assert!(conflict(rig.decide(&task, true, own)).contains("second person"), "{own}");
    }
    assert!(conflict(rig.decide(&task, true, "token:bert")).contains("only anna, test may"));
    assert_eq!(rig.state(&task), TaskState::Waiting);
    rig.decide(&task, true, "token:anna").unwrap();
    assert!(conflict(rig.decide(&task, true, "token:anna")).contains("already"));
    rig.settle();
    assert_eq!(rig.state(&task), TaskState::Succeeded);
    assert!(conflict(rig.decide(&task, true, "token:anna")).contains("ended"));
}

#[test]
fn a_no_and_no_answer_take_everything_back() {
    for (before, answer) in [(Before::Pivot, Some(false)), (Before::Pivot, None), (Before::Start, None)] {
        let rig = rig(before, &[]);
        let task = asked(&rig);
        if answer.is_some() {
            rig.decide(&task, false, "token:bert").unwrap();
        }
        rig.settle();
        let view = rig.view(&task);
        assert_eq!(view.state, TaskState::Canceled, "{before:?} {answer:?}");
        let touched = before == Before::Pivot;
        assert_eq!(view.outcome.unwrap().verified, touched.then_some(true));
        assert!(rig.world.resources().is_empty() && rig.engine.locks().is_empty());
        let approval = view.approval.unwrap();
        let waited = view.finished_at.unwrap() - EPOCH;
        match answer {
            Some(_) => assert_eq!(
                (approval.state, approval.reason.as_deref()),
                (ApprovalState::Refused, Some("looked at"))
            ),
            None => assert!(approval.state == ApprovalState::Expired && waited >= 60_000, "{waited}"),
        }
    }
}

#[test]
fn a_question_an_answer_and_the_time_for_it_survive_the_process() {
    let mut rig = rig(Before::Close, &[]);
    let task = asked(&rig);
    let until = rig.view(&task).approval.unwrap().until;
    rig.restart();
    rig.until("it waits again", || rig.state(&task) == TaskState::Waiting);
    assert_eq!(rig.view(&task).approval.unwrap().until, until, "a restart gives no more time");
    // The answer is durable together with what follows from it; the process dies right then.
    rig.world.script("close", Kind::Run, [Behave::slow(500)]);
    rig.decide(&task, true, "token:bert").unwrap();
    rig.restart();
    rig.settle();
    let view = rig.view(&task);
    assert_eq!((view.state, view.approval.unwrap().state), (TaskState::Succeeded, ApprovalState::Granted));

    let mut rig = self::rig(Before::Close, &[]);
    let task = asked(&rig);
    rig.crash();
    rig.runtime.set_clock(EPOCH + 200_000);
    rig.boot().unwrap();
    // Whichever comes first, the answer or the look at the time: it is too late.
    let why = conflict(rig.decide(&task, true, "token:bert"));
    assert!(why.contains("is over") || why.contains("is canceled") || why.contains("has ended"), "{why}");
    rig.settle();
    assert_eq!(rig.state(&task), TaskState::Canceled);
}

#[test]
fn a_task_that_goes_back_asks_nobody_any_more() {
    let rig = rig(Before::Pivot, &[]);
    let task = asked(&rig);
    rig.cancel(&task).unwrap();
    rig.settle();
    let approval = rig.view(&task).approval.unwrap();
    assert_eq!((rig.state(&task), approval.state), (TaskState::Canceled, ApprovalState::Withdrawn));
    assert_eq!(rig.world.count("close", Kind::Undo), 1);
}

#[test]
fn what_fails_before_it_is_asked_asks_nobody() {
    let rig = rig(Before::Pivot, &[]);
    rig.world.runs("close", [(Effect::Half, End::Fatal)]);
    let task = rig.submit("plan");
    rig.settle();
    let view = rig.view(&task);
    assert_eq!((view.state, view.approval.unwrap().state), (TaskState::RolledBack, ApprovalState::NotYet));
    assert!(conflict(rig.decide(&task, true, "token:bert")).contains("ended"));
}

#[test]
fn a_plan_without_such_a_step_is_asked_about_before_it_begins() {
    let options = Options::default().plan("plan", |plan| {
        plan.step("make", Make(Act::on("t/a")), &[]);
    });
    let rig = Rig::new(1, options.gate(gate(Before::Pivot, &[])));
    let task = asked(&rig);
    assert_eq!(
        (rig.world.count("make", Kind::Run), rig.view(&task).approval.unwrap().before.as_str()),
        (0, "start")
    );
    let preview = rig.engine.preview("plan", &serde_json::json!({})).unwrap();
    assert!(preview.notes[0].contains("needs the approval of a second person"), "{:?}", preview.notes);
}
