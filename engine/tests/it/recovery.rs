//! The process ends and starts: unknown steps, a store that fails, drain, and what is left in memory.

use kedge_engine::builder::PlanBuilder;
use kedge_engine::service::{SubmitError, Tasks as _, VerbError};
use kedge_engine::step::StepKinds;
use kedge_engine::store::{Health, ReadError};
use kedge_engine::task::{StepStateView, TaskId, TaskState};
use kedge_engine::testing::memory_store::{Crash, Fault, Moment};

use crate::rig::{Options, Rig, steps, submission};
use crate::steps::{Act, Decide, Fill, Look, Make, Print, Tidy, kinds};
use crate::world::{Behave, Effect, End, Kind, World};

fn chain(plan: &mut PlanBuilder) {
    plan.lock("site x", false);
    let a = plan.step("a", Make(Act::on("t/a")), &[]);
    let b = plan.step("b", Make(Act::on("t/b")), &[&a]);
    let pivot = plan.step("pivot", Decide::on(Act::on("site")), &[&b]);
    plan.step("tidy", Tidy(Act::on("u")), &[&pivot]);
}

fn without_make() -> StepKinds<World> {
    StepKinds::new().with::<Look>().with::<Fill>().with::<Decide>().with::<Tidy>().with::<Print>()
}

#[test]
fn an_unknown_kind_of_step_parks_the_task_and_a_known_one_goes_on() {
    // About to run.
    let mut rig = Rig::of(chain);
    rig.world.script("a", Kind::Run, [Behave::slow(500)]);
    let task = rig.submit("plan");
    rig.kinds(without_make);
    rig.restart();
    rig.settle();
    let view = rig.view(&task);
    assert_eq!(view.state, TaskState::Stuck);
    assert_eq!(view.incident.unwrap().steps[0].reason, "unknown step kind \"make\"");
    assert!(rig.world.acts().is_empty());
    // Retried by the same binary, it says so again; by one that knows it, it goes on.
    rig.retry(&task).unwrap();
    rig.settle();
    assert_eq!(rig.state(&task), TaskState::Stuck);
    rig.kinds(kinds);
    rig.restart();
    rig.retry(&task).unwrap();
    rig.settle();
    assert_eq!(rig.state(&task), TaskState::Succeeded);
}

#[test]
fn an_unknown_kind_in_doubt_is_probed_when_it_is_known_again() {
    let mut rig = Rig::of(chain);
    rig.world.script("a", Kind::Run, [Behave { effect: Effect::Whole, end: End::Hang, ms: 0 }]);
    let task = rig.submit("plan");
    rig.until("a has acted", || rig.world.get("t/a").is_some());
    rig.kinds(without_make);
    rig.restart();
    rig.settle();
    assert_eq!(rig.state(&task), TaskState::Stuck);
    rig.kinds(kinds);
    rig.restart();
    rig.retry(&task).unwrap();
    rig.settle();
    assert_eq!(rig.state(&task), TaskState::Succeeded);
    assert_eq!(rig.world.acts()[..3], ["run a", "probe a", "run b"], "it was not run blindly again");
}

#[test]
fn an_unknown_kind_to_be_undone_is_undone_when_it_is_known_again() {
    let mut rig = Rig::of(chain);
    rig.world.runs("pivot", [(Effect::None, End::Fatal)]);
    rig.world.script("b", Kind::Undo, [Behave::slow(500)]);
    let task = rig.submit("plan");
    rig.until("it goes back", || rig.world.count("b", Kind::Undo) == 1);
    rig.kinds(without_make);
    rig.restart();
    rig.settle();
    let view = rig.view(&task);
    assert_eq!((view.state, view.incident.unwrap().steps[0].phase.as_str()), (TaskState::Stuck, "undo"));
    rig.kinds(kinds);
    rig.restart();
    rig.retry(&task).unwrap();
    rig.settle();
    assert_eq!(rig.state(&task), TaskState::RolledBack);
    assert!(rig.world.resources().is_empty());
}

#[test]
fn parameters_that_are_not_understood_any_more_park_the_task_too() {
    #[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
    struct Newer {
        must: String,
    }
    impl kedge_engine::step::Step for Newer {
        type Ports = World;
        type Output = ();
        type Mode = kedge_engine::step::Query;
        const KIND: &'static str = "make";
        fn title(&self) -> String {
            "newer".to_owned()
        }
        async fn run(
            &self,
            _: &kedge_engine::context::Cx<'_, World>,
        ) -> Result<(), kedge_engine::step::StepError> {
            Ok(())
        }
    }
    let mut rig = Rig::of(chain);
    let task = rig.submit("plan");
    rig.kinds(|| without_make().with::<Newer>());
    rig.restart();
    rig.settle();
    let reason = rig.view(&task).incident.unwrap().steps[0].reason.clone();
    assert!(reason.contains("does not understand its parameters"), "{reason}");
}

#[test]
fn a_store_that_fails_stops_the_engine_and_the_next_life_goes_on() {
    for crash in [Crash::Before, Crash::AfterWriteBeforeAck] {
        let mut at = 0;
        loop {
            at += 1;
            let mut rig = Rig::of(chain);
            let task = rig.submit("plan");
            let other = rig.submit("plan");
            let commits = rig.store.counts().commits;
            let at = Moment::Commit(commits + at);
            rig.store.inject(Fault { at, how: crash, why: "no disk".to_owned() });
            rig.settle();
            if !rig.failed() {
                assert_eq!(rig.state(&other), TaskState::Succeeded);
                break;
            }
            let Health::Failed(why) = rig.engine.health() else { panic!() };
            assert!(why.contains("no disk"), "{why}");
            let engine = rig.engine.clone();
            assert_eq!(rig.runtime.block_on(async move { engine.failed().await }), Some(why.clone()));
            let engine = rig.engine.clone();
            rig.runtime
                .block_on(async move { engine.drain().await })
                .expect("a failed engine drains at once");
            assert!(matches!(rig.try_submit(submission("plan")), Err(SubmitError::Unavailable(_))));
            assert!(matches!(rig.cancel(&task), Err(VerbError::Conflict(_))));
            rig.restart();
            rig.settle();
            assert_eq!((rig.state(&task), rig.state(&other)), (TaskState::Succeeded, TaskState::Succeeded));
        }
        assert!(at > 10, "the fault struck many places");
    }
}

#[test]
fn a_blob_that_cannot_be_stored_stops_the_engine_too_and_costs_nothing() {
    let mut rig = Rig::of(|plan| {
        plan.fingerprint(&Print(vec!["t/".to_owned()]), vec![]);
        plan.step("a", Make(Act::on("t/a")), &[]);
    });
    let task = rig.submit("plan");
    let blobs = rig.store.counts().blob_writes;
    rig.store.inject(Fault { at: Moment::Blob(blobs + 1), how: Crash::Before, why: "no room".to_owned() });
    rig.settle();
    assert!(rig.failed());
    rig.restart();
    rig.settle();
    assert_eq!(rig.state(&task), TaskState::Succeeded);
}

#[test]
fn tasks_that_the_store_cannot_give_are_read_again() {
    let mut rig = Rig::of(chain);
    rig.world.script("a", Kind::Run, vec![Behave::slow(500); 5]);
    let tasks: Vec<TaskId> = (0..3).map(|_| rig.submit("plan")).collect();
    rig.until("a runs", || rig.world.count("a", Kind::Run) == 1);
    rig.crash();
    // Each head is one read; the first two fail, at the start and then once more.
    *rig.reads_fail.lock().unwrap() = 2;
    let recovery = rig.boot().unwrap();
    assert_eq!((recovery.resumed.len(), recovery.quarantined.len()), (1, 2));
    assert!(recovery.quarantined[0].1.contains("the disk says no"));
    assert_eq!(rig.engine.quarantined().len(), 2);
    assert_eq!(rig.view(&tasks[0]).state, TaskState::Stuck, "named as long as it is so");
    rig.settle();
    assert!(rig.engine.quarantined().is_empty());
    assert!(tasks.iter().all(|task| rig.state(task) == TaskState::Succeeded));
}

#[test]
fn a_list_of_tasks_that_cannot_be_read_means_that_nothing_runs() {
    // Without the list nothing is known; `recover` says so and starts nothing.
    struct Blind(kedge_engine::testing::memory_store::MemoryStore);
    use futures::future::BoxFuture;
    use kedge_engine::store::{Batch, BlobId, CommitError, Pairs, Store};
    impl Store for Blind {
        fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<(), CommitError>> {
            self.0.commit(batch)
        }
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
            self.0.get(key)
        }
        fn scan(&self, _: &[u8], _: Option<&[u8]>, _: usize) -> Result<Pairs, ReadError> {
            Err(ReadError::Io("blind".to_owned()))
        }
        fn scan_back(&self, _: &[u8], _: Option<&[u8]>, _: usize) -> Result<Pairs, ReadError> {
            Err(ReadError::Io("blind".to_owned()))
        }
        fn put_blob(&self, bytes: Vec<u8>) -> BoxFuture<'static, Result<BlobId, CommitError>> {
            self.0.put_blob(bytes)
        }
        fn get_blob(&self, id: &BlobId) -> Result<Option<Vec<u8>>, ReadError> {
            self.0.get_blob(id)
        }
        fn delete_blob(&self, id: &BlobId) -> BoxFuture<'static, Result<(), CommitError>> {
            self.0.delete_blob(id)
        }
        fn census(&self) -> BoxFuture<'static, Result<Vec<BlobId>, CommitError>> {
            self.0.census()
        }
        fn remove_unused(&self, unused: Vec<BlobId>) -> BoxFuture<'static, Result<u64, CommitError>> {
            self.0.remove_unused(unused)
        }
        fn health(&self) -> Health {
            Health::Ready
        }
    }
    let mut rig = Rig::of(chain);
    rig.submit("plan");
    rig.crash();
    let blind = std::sync::Arc::new(Blind(rig.store.clone()));
    let engine = rig.engine_on(blind);
    assert_eq!(engine.recover(), Err(ReadError::Io("blind".to_owned())));
    rig.runtime.settle();
    assert!(rig.world.acts().is_empty());
}

#[test]
fn drain_lets_attempts_land_and_starts_nothing_new() {
    let mut rig = Rig::of(chain);
    rig.world.script("a", Kind::Run, [Behave::slow(500)]);
    let task = rig.submit("plan");
    let waits = rig.submit("plan");
    rig.until("a runs", || rig.world.count("a", Kind::Run) == 1);
    let engine = rig.engine.clone();
    rig.runtime.block_on(async move { engine.drain().await }).expect("it ends");
    rig.runtime.settle();
    assert_eq!(rig.world.acts(), ["run a"]);
    assert_eq!(rig.runtime.alive(), 0, "no driver is left");
    assert_eq!(steps(&rig.view(&task))["a"], StepStateView::Succeeded, "its result is durable");
    assert!(matches!(rig.try_submit(submission("plan")), Err(SubmitError::Unavailable(_))));
    assert!(matches!(rig.cancel(&task), Err(VerbError::Conflict(why)) if why.contains("stopping")));
    assert!(matches!(rig.engine.health(), Health::Low(_)));
    rig.restart();
    rig.settle();
    assert_eq!((rig.state(&task), rig.state(&waits)), (TaskState::Succeeded, TaskState::Succeeded));
    assert_eq!(rig.world.count("a", Kind::Probe), 0, "nothing was in doubt");
}

#[test]
fn drain_does_not_wait_for_retries_start_times_locks_or_persons() {
    let rig = Rig::new(
        1,
        Options::default()
            .plan("retry", |plan| {
                plan.step("r", Make(Act::on("t/r")), &[]);
            })
            .plan("stuck", |plan| {
                plan.lock("site x", false);
                plan.step("s", Make(Act::on("t/s")), &[]);
            }),
    );
    rig.world.runs("r", [(Effect::None, End::Retryable)]);
    rig.world.runs("s", [(Effect::Whole, End::InDoubt)]);
    rig.world.probes("s", [End::Unknown]);
    let stuck = rig.submit("stuck");
    rig.settle();
    assert_eq!(rig.state(&stuck), TaskState::Stuck);
    let locked = rig.submit("stuck");
    let later = kedge_engine::service::Submission {
        not_before: Some(kedge_engine::testing::runtime::EPOCH + 1_000_000),
        ..submission("retry")
    };
    rig.try_submit(later).unwrap();
    let retry = rig.submit("retry");
    rig.until("it waits", || rig.state(&retry) == TaskState::Waiting);
    let before = kedge_engine::ports::Clock::now(&rig.runtime);
    let engine = rig.engine.clone();
    rig.runtime.block_on(async move { engine.drain().await }).expect("it ends");
    assert_eq!(kedge_engine::ports::Clock::now(&rig.runtime), before, "at once");
    assert_eq!(rig.state(&locked), TaskState::Queued);
}

#[test]
fn a_task_that_has_ended_leaves_nothing_in_memory() {
    let rig = Rig::of(chain);
    let runtime = rig.runtime.alive();
    for _ in 0..50 {
        rig.submit("plan");
    }
    rig.settle();
    assert_eq!(rig.runtime.alive(), runtime, "no driver");
    assert!(rig.engine.locks().is_empty(), "no lock");
    let arrived = std::sync::Arc::strong_count(&rig.world);
    let again = rig.submit("plan");
    rig.settle();
    assert_eq!(rig.state(&again), TaskState::Succeeded);
    assert_eq!(std::sync::Arc::strong_count(&rig.world), arrived);
}

#[test]
fn survivors_of_an_earlier_life_are_ended_before_anything_acts_and_before_the_end() {
    // A query runs when the process dies, and the task is canceled: nothing has to be undone, but its process must not stay.
    let mut rig = Rig::of(|plan| {
        plan.step("look", Look::at("site"), &[]);
    });
    rig.world.script("look", Kind::Run, [Behave::new(Effect::None, End::Hang)]);
    let task = rig.submit("plan");
    rig.until("it looks", || rig.custody.alive().len() == 1);
    rig.store.hold();
    let engine = rig.engine.clone();
    let id = task.clone();
    rig.runtime.spawn_here(async move {
        drop(engine.cancel(&id, crate::rig::actor(), "now".to_owned()).await);
    });
    rig.until("the cancel waits to be durable", || rig.store.held() == 1);
    rig.store.release_one(0);
    rig.restart();
    assert_eq!(rig.custody.alive().len(), 1, "the process outlived its engine");
    rig.settle();
    assert_eq!(rig.state(&task), TaskState::Canceled);
    assert!(rig.custody.alive().is_empty());
}

#[test]
fn a_host_that_cannot_be_reached_delays_what_must_not_run_beside_survivors() {
    let mut rig = Rig::of(chain);
    rig.world.script("a", Kind::Run, [Behave::new(Effect::None, End::Hang)]);
    let task = rig.submit("plan");
    rig.until("a runs", || rig.custody.alive().len() == 1);
    rig.restart();
    for _ in 0..4 {
        rig.custody.fail_next(kedge_engine::step::StepError::retryable("web1 does not answer"));
    }
    rig.settle();
    assert_eq!(rig.state(&task), TaskState::Succeeded, "{:#?}", rig.story(&task));
    assert!(rig.custody.alive().is_empty());
}

#[test]
fn a_driver_that_panics_takes_nobody_with_it() {
    /// Panics when it is taken apart.
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                std::panic::resume_unwind(Box::new("the bomb".to_owned()));
            }
        }
    }
    #[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
    struct Bad;
    impl kedge_engine::step::Step for Bad {
        type Ports = World;
        type Output = ();
        type Mode = kedge_engine::step::Query;
        const KIND: &'static str = "bad";
        fn title(&self) -> String {
            "bad".to_owned()
        }
        async fn run(
            &self,
            _: &kedge_engine::context::Cx<'_, World>,
        ) -> Result<(), kedge_engine::step::StepError> {
            let _bomb = Bomb;
            std::future::pending().await
        }
        fn policy(&self) -> kedge_engine::retry::Policy {
            crate::steps::QUICK
        }
    }
    let options = Options {
        kinds: || kinds().with::<Bad>(),
        ..Options::default()
            .plan("bad", |plan| {
                plan.step("bad", Bad, &[]);
            })
            .plan("plan", chain)
    };
    let rig = Rig::new(1, options);
    let (bad, good) = (rig.submit("bad"), rig.submit("plan"));
    rig.settle();
    assert_eq!(rig.state(&bad), TaskState::RolledBack, "a failed attempt, three times");
    assert_eq!(rig.state(&good), TaskState::Succeeded);
    assert!(rig.engine.quarantined().is_empty() && !rig.failed());
}
