//! Tasks that a step starts: none is lost, whenever the step is cut short or the process ends.

use std::task::{Context, Waker};

use futures::future::BoxFuture;
use kedge_engine::context::{Cx, Subtask};
use kedge_engine::ports::Spawner;
use kedge_engine::retry::Policy;
use kedge_engine::service::{TaskFilter, Tasks as _};
use kedge_engine::step::{Compensable, Compensate, Step, StepError};
use kedge_engine::task::{TaskId, TaskState, TaskView};
use kedge_engine::testing::runtime::Runtime;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::rig::{Options, Rig};
use crate::steps::{Act, Make, kinds};
use crate::world::{Behave, Kind, World};

/// Has a task of its own done; where the parent goes back, it waits for it.
#[derive(Serialize, Deserialize)]
struct Child;

impl Step for Child {
    type Ports = World;
    type Output = TaskId;
    type Mode = Compensable;
    const KIND: &'static str = "own_task";

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

impl Compensate for Child {
    fn undo_title(&self) -> String {
        "wait for it".to_owned()
    }

    async fn undo(&self, cx: &Cx<'_, World>) -> Result<(), StepError> {
        cx.subtask_awaited().await.map(drop)
    }

    fn undo_policy(&self) -> Policy {
        Policy::PERSISTENT.limit(600_000)
    }
}

fn rig() -> Rig {
    let options = Options { kinds: || kinds().with::<Child>(), ..Options::default() };
    let options = options.plan("plan", |plan| {
        plan.step("make", Make(Act::on("t/make")), &[]);
    });
    let rig = Rig::new(
        1,
        options.plan("parent", |plan| {
            plan.step("child", Child, &[]);
        }),
    );
    rig.world.script("make", Kind::Run, [Behave::slow(900)]);
    rig
}

fn child(rig: &Rig) -> Option<TaskView> {
    let filter = TaskFilter { workflow: Some("plan".to_owned()), limit: 9, ..TaskFilter::default() };
    rig.engine.tasks(&filter).unwrap().tasks.pop()
}

/// Runs what is spawned at once, as far as it goes.
struct Eager(Runtime);

impl Spawner for Eager {
    fn spawn(&self, mut future: BoxFuture<'static, ()>) {
        if future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            self.0.spawn(future);
        }
    }
}

#[test]
fn a_parent_finds_its_child_after_a_restart_whoever_comes_first() {
    let mut rig = rig();
    let parent = rig.submit("parent");
    rig.until("the child is under way", || rig.world.count("make", Kind::Run) == 1);
    rig.crash();
    let spawner = std::sync::Arc::new(Eager(rig.runtime.clone()));
    assert_eq!(rig.boot_on(spawner).resumed.len(), 2);
    rig.runtime.settle();
    let view = rig.view(&parent);
    assert_eq!(view.state, TaskState::Succeeded, "{:#?}", rig.story(&parent));
    let took = view.finished_at.unwrap() - view.created_at;
    assert!(took < 60_000, "it was told, and did not wait for its limit: {took} ms");
    assert_eq!(child(&rig).unwrap().state, TaskState::Succeeded);
}

#[test]
fn a_child_that_is_being_accepted_when_its_step_is_cut_short_has_a_driver() {
    let rig = rig();
    let parent = rig.submit("parent");
    rig.until("the step is about to begin", || rig.view(&parent).steps[0].attempts == 1);
    rig.store.hold();
    rig.until("the child is being stored", || rig.store.held() == 1);
    let (engine, task) = (rig.engine.clone(), parent.clone());
    rig.runtime.spawn_here(async move {
        drop(engine.cancel(&task, crate::rig::actor(), "on second thoughts".to_owned()).await);
    });
    rig.until("the parent goes back, before its child is there", || {
        rig.store.release_one(1);
        rig.story(&parent).iter().any(|event| event.starts_with("undo_started"))
    });
    // Time for the undo to look for the child.
    rig.runtime.run(30, || false);
    assert_eq!((rig.state(&parent), child(&rig)), (TaskState::Compensating, None), "it waits for its child");
    rig.store.release_all();
    rig.settle();
    assert_eq!(child(&rig).unwrap().state, TaskState::Succeeded);
    assert_eq!(rig.state(&parent), TaskState::Canceled, "{:#?}", rig.story(&parent));
}
