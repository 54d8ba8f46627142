//! One run: tasks are submitted, canceled and struck by crashes and faults until the last life, in which everything comes to its end.

use std::sync::{Arc, Mutex};

use kedge_engine::gate::{Before, Gate, Gatekeeper, Wanted};
use kedge_engine::ports::Clock as _;
use kedge_engine::service::{ResolveVerb, Submission, Submitted, Tasks as _};
use kedge_engine::step::{StepError, StepKinds};
use kedge_engine::task::{Actor, TaskId, TaskState};
use kedge_engine::testing::memory_store::{Crash, Fault, Moment};
use kedge_engine::testing::runtime::{Dice, Stop};
use serde_json::json;

use super::cuts::{Cut, Cuts};
use super::judge;
use super::plan::plan;
use crate::rig::{Options, Rig, actor, keyed};
use crate::steps::{Decide, Fill, Look, Print, Tidy, kinds};
use crate::story;
use crate::world::{Chaos, World};

fn without_make() -> StepKinds<World> {
    StepKinds::new().with::<Look>().with::<Fill>().with::<Decide>().with::<Tidy>().with::<Print>()
}

/// What happened, summed over runs.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub tasks: u64,
    pub succeeded: u64,
    pub rolled_back: u64,
    pub canceled: u64,
    pub stuck: u64,
    pub crashes: u64,
    pub store_faults: u64,
    pub lies: u64,
    pub drifts: u64,
    pub by_hand: u64,
    /// Second persons that were asked, and those who said yes in time.
    pub asked: u64,
    pub approved: u64,
    /// Plans that were made anew, since what they were made of had changed meanwhile.
    pub planned: u64,
    pub events: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.tasks += other.tasks;
        self.succeeded += other.succeeded;
        self.rolled_back += other.rolled_back;
        self.canceled += other.canceled;
        self.stuck += other.stuck;
        self.crashes += other.crashes;
        self.store_faults += other.store_faults;
        self.lies += other.lies;
        self.drifts += other.drifts;
        self.by_hand += other.by_hand;
        self.asked += other.asked;
        self.approved += other.approved;
        self.planned += other.planned;
        self.events += other.events;
    }

    /// Every kind of end and trouble was met.
    pub fn is_broad(&self) -> bool {
        let met = [
            self.succeeded,
            self.rolled_back,
            self.canceled,
            self.stuck,
            self.crashes,
            self.store_faults,
            self.lies,
            self.drifts,
            self.by_hand,
            self.asked - self.approved,
            self.approved,
            self.planned,
        ];
        self.tasks < 10_000 || met.iter().all(|met| *met > 20)
    }
}

/// A request of a client that asks again, with the same key, until it is told.
#[derive(Clone)]
pub struct Request {
    pub key: String,
    pub seed: u64,
    pub task: Option<TaskId>,
}

pub struct Run {
    pub seed: u64,
    pub dice: Dice,
    pub rig: Rig,
    pub requests: Arc<Mutex<Vec<Request>>>,
    pub tally: Tally,
    /// Steps that a person has left as they are: task, step.
    pub left: Vec<(TaskId, String)>,
    cuts: Cuts,
}

/// Carries out the run of a seed.
pub fn run(seed: u64, cuts: Cuts) -> Tally {
    let mut run = Run::new(seed, cuts);
    let lives = run.dice.below(4);
    let most = if !cuts.keep(Cut::Crashes) {
        0
    } else if cuts.keep(Cut::SecondCrash) {
        4
    } else {
        1
    };
    for life in 0..lives.min(most) {
        run.live(life);
        run.strike();
    }
    run.last_life();
    run.finish();
    judge::judge(&mut run);
    run.rig.runtime.crash();
    run.tally
}

/// Some tasks need a second person: which, a task's seed tells.
struct SomeGates(Cuts);

impl Gatekeeper for SomeGates {
    fn gate(&self, wanted: Wanted<'_>) -> Option<Gate> {
        let mut dice = Dice::new(wanted.params["seed"].as_u64().unwrap() ^ 0x6a7e);
        let before = match dice.below(12) {
            0 => Before::Start,
            1 => Before::Close,
            2 | 3 => Before::Pivot,
            _ => return None,
        };
        let approvers = if dice.percent(30) { vec!["second".to_owned()] } else { Vec::new() };
        let gate = Gate { policy: "some".to_owned(), before, approvers, within_ms: 50 + dice.below(1500) };
        self.0.keep(Cut::Gates).then_some(gate)
    }
}

fn options(dice: &mut Dice, cuts: Cuts) -> Options {
    let mut options = Options::default().workflow("random", move |params, cx| {
        let seed = params["seed"].as_u64().unwrap();
        // Some tasks look at what others have left: while they wait, that makes another plan of theirs.
        let looks = Dice::new(seed ^ 0x100c).percent(50) && cuts.keep(Cut::Looks);
        let seen = if looks { cx.facts.records("site")?.len() as u64 } else { 0 };
        Ok(plan(seed ^ seen << 32, cx.task.as_str(), cuts)?)
    });
    options.gates = Arc::new(SomeGates(cuts));
    options.pauses = dice.percent(50) && cuts.keep(Cut::Pauses);
    options.limits(|limits| {
        limits.per_slot = 1 + usize::from(dice.percent(30));
        limits.run_deaths = u32::try_from(dice.below(4)).unwrap();
        limits.undo_deaths = 1 + u32::try_from(dice.below(4)).unwrap();
    })
}

impl Run {
    fn new(seed: u64, cuts: Cuts) -> Self {
        let mut dice = Dice::new(seed);
        let options = options(&mut dice, cuts);
        let rig = Rig::new(dice.bits(), options);
        for resource in ["lock/x", "lock/y"] {
            rig.world.put(resource, "original");
        }
        let rough = [0, 5, 15, 40][usize::try_from(dice.below(4)).unwrap()];
        let undo = [0, 0, 10, 30][usize::try_from(dice.below(4)).unwrap()];
        let percent = |cut, percent| if cuts.keep(cut) { percent } else { 0 };
        rig.world.chaos(Chaos {
            dice: Dice::new(dice.bits()),
            delays: percent(Cut::Delays, 30),
            run_trouble: percent(Cut::RunTrouble, rough),
            undo_trouble: percent(Cut::UndoTrouble, undo),
            probe_trouble: percent(Cut::ProbeTrouble, undo),
            undo_lies: if dice.percent(10) { percent(Cut::Lies, 20) } else { 0 },
        });
        let count: u64 = [1, 1, 1, 1, 1, 2, 2, 2, 2, 3][usize::try_from(dice.below(10)).unwrap()];
        let count = count.min(if !cuts.keep(Cut::SecondTask) {
            1
        } else if cuts.keep(Cut::ThirdTask) {
            3
        } else {
            2
        });
        let request = |n: u64| Request { key: format!("key {n}"), seed: dice.bits(), task: None };
        let requests: Vec<Request> = (0..count).map(request).collect();
        let tally = Tally { tasks: count, ..Tally::default() };
        let left = Vec::new();
        Self { seed, dice, rig, requests: Arc::new(Mutex::new(requests)), tally, left, cuts }
    }

    fn say(&self, what: impl FnOnce() -> String) {
        story::tell(|| format!("-- {}", what()));
    }

    /// Throws for something that can be left out.
    fn happens(&mut self, percent: u64, cut: Cut) -> bool {
        self.dice.percent(percent) && self.cuts.keep(cut)
    }

    /// One life with clients, ended by a crash or a fault of the store somewhere in it.
    fn live(&mut self, life: u64) {
        if self.happens(30, Cut::StoreFaults) {
            let how = if self.dice.percent(50) { Crash::Before } else { Crash::AfterWriteBeforeAck };
            let n = 1 + self.dice.below(30);
            let at = if self.dice.percent(10) { Moment::Blob(n) } else { Moment::Commit(n) };
            self.rig.store.inject(Fault { at, how, why: "the disk is gone".to_owned() });
        }
        let full = self.happens(5, Cut::FullDisks).then(|| "the disk is nearly full".to_owned());
        self.rig.store.set_low(full);
        self.ask_again();
        self.cancel_some();
        self.decide_some();
        let longest = [20, 100, 400][usize::try_from(self.dice.below(3)).unwrap()];
        let polls = self.dice.below(longest);
        let rig = &self.rig;
        let stop = rig.runtime.run(polls, || rig.failed());
        if rig.failed() {
            self.tally.store_faults += 1;
        }
        self.say(|| {
            format!("life {life} ends: {stop:?}{}", if rig.failed() { ", its store has failed" } else { "" })
        });
        self.rig.sound();
    }

    /// The process ends; the next one may meet a disk that does not read at first, a host that does not answer, a clock that was set,
    /// or be of a version that lacks a kind of step.
    fn strike(&mut self) {
        self.tally.crashes += 1;
        if self.happens(10, Cut::Drains) {
            let engine = self.rig.engine.clone();
            self.rig.runtime.spawn_here(async move { engine.drain().await });
            self.rig.runtime.run(self.dice.below(100), || false);
        }
        self.rig.crash();
        if self.happens(10, Cut::ClockJumps) {
            let by = self.dice.below(2000);
            let now = self.rig.runtime.now();
            self.rig.runtime.set_clock(if self.dice.percent(50) { now + by } else { now - by });
        }
        for _ in 0..self.dice.below(3) * u64::from(self.happens(20, Cut::DeafHosts)) {
            self.rig.custody.fail_next(StepError::retryable("the host does not answer"));
        }
        let known = if self.happens(5, Cut::UnknownKinds) { without_make } else { kinds };
        self.rig.kinds(known);
        if self.happens(30, Cut::Concurrency) {
            let per_slot = 1 + usize::try_from(self.dice.below(3)).unwrap();
            self.rig.limits(|limits| limits.per_slot = per_slot);
        }
        let failing =
            if self.happens(10, Cut::ReadFaults) { u32::try_from(self.dice.below(3)).unwrap() } else { 0 };
        *self.rig.reads_fail.lock().unwrap() = failing;
        let recovery = self.rig.boot().unwrap();
        let unread = recovery.quarantined.len();
        assert!(unread <= failing as usize, "{recovery:?}");
        *self.rig.reads_fail.lock().unwrap() = 0;
        self.say(|| format!("the next life: {} tasks resumed, {unread} not read", recovery.resumed.len()));
    }

    /// All kinds are known, and nothing strikes any more.
    fn last_life(&mut self) {
        self.rig.kinds(kinds);
        let recovery = self.rig.restart();
        assert!(recovery.quarantined.is_empty(), "{recovery:?}");
        self.ask_again();
        self.decide_some();
        self.settle();
    }

    /// Clients that were not told ask, each at its time.
    fn ask_again(&mut self) {
        let requests = self.requests.lock().unwrap().clone();
        for (n, request) in requests.into_iter().enumerate().filter(|(_, request)| request.task.is_none()) {
            let (engine, runtime) = (self.rig.engine.clone(), self.rig.runtime.clone());
            let (all, delay) = (self.requests.clone(), self.dice.below(100));
            self.rig.runtime.spawn_here(async move {
                runtime.sleep_until(runtime.now() + delay).await;
                let params = json!({ "seed": request.seed });
                let submission = Submission { params, ..keyed("random", &request.key, "body") };
                match engine.submit(submission).await {
                    Ok(Submitted::Created(view) | Submitted::Duplicate(view)) => {
                        all.lock().unwrap()[n].task = Some(view.id);
                    }
                    Err(error) => assert!(
                        matches!(
                            error,
                            kedge_engine::service::SubmitError::Store(_)
                                | kedge_engine::service::SubmitError::Unavailable(_)
                        ),
                        "{error}"
                    ),
                }
            });
        }
    }

    /// Somebody cancels something at some time.
    fn cancel_some(&mut self) {
        let requests = self.requests.lock().unwrap().len();
        for n in 0..requests {
            if !self.happens(15, Cut::Cancels) {
                continue;
            }
            let (engine, runtime) = (self.rig.engine.clone(), self.rig.runtime.clone());
            let (all, delay) = (self.requests.clone(), self.dice.below(400));
            self.rig.runtime.spawn_here(async move {
                runtime.sleep_until(runtime.now() + delay).await;
                let task = all.lock().unwrap()[n].task.clone();
                if let Some(task) = task {
                    // Refused or not: what must hold is judged by what is journaled.
                    drop(engine.cancel(&task, actor(), "sim".to_owned()).await);
                }
            });
        }
    }

    /// Somebody says yes or no at some time; now and then whoever asked does, which must not count.
    fn decide_some(&mut self) {
        let requests = self.requests.lock().unwrap().len();
        for n in 0..requests {
            for _ in 0..self.dice.below(4) {
                let (engine, runtime) = (self.rig.engine.clone(), self.rig.runtime.clone());
                let (all, delay) = (self.requests.clone(), self.dice.below(800));
                let approve = self.dice.percent(85);
                let name =
                    ["token:second", "chat:third", "chat:test"][usize::try_from(self.dice.below(3)).unwrap()];
                self.rig.runtime.spawn_here(async move {
                    runtime.sleep_until(runtime.now() + delay).await;
                    let task = all.lock().unwrap()[n].task.clone();
                    let who = Actor { name: name.to_owned(), via: "sim".to_owned() };
                    if let Some(task) = task {
                        // Refused or not: what must hold is judged by what is journaled.
                        drop(engine.decide(&task, approve, String::new(), who).await);
                    }
                });
            }
        }
    }

    fn settle(&self) {
        let stop = self.rig.runtime.run(100_000, || false);
        assert_eq!(stop, Stop::Idle, "it runs in circles");
        assert!(!self.rig.failed(), "the engine has failed without a fault");
        self.rig.sound();
    }

    /// A person settles what is stuck, until everything has ended.
    fn finish(&mut self) {
        for round in 0..60 {
            let tasks: Vec<TaskId> =
                self.requests.lock().unwrap().iter().map(|request| request.task.clone().unwrap()).collect();
            let open: Vec<&TaskId> = tasks.iter().filter(|task| !self.rig.watch.ended(task)).collect();
            let stuck: Vec<&TaskId> =
                open.iter().copied().filter(|task| self.rig.state(task) == TaskState::Stuck).collect();
            if stuck.is_empty() {
                for task in open {
                    let view = self.rig.view(task);
                    let steps: Vec<_> = view.steps.iter().map(|step| (&step.name, step.state)).collect();
                    assert!(
                        view.state.is_final(),
                        "{task} is {:?}, blocked on {:?}: {steps:?}",
                        view.state,
                        view.blocked_on
                    );
                }
                return;
            }
            if round > 20 {
                self.rig.world.behave();
            }
            for task in stuck {
                self.tally.stuck += 1;
                judge::explains_itself(&self.rig, task);
                self.settle_stuck(task, round > 20);
            }
            self.settle();
        }
        panic!("it stays stuck whatever is done");
    }

    fn settle_stuck(&mut self, task: &TaskId, only_retry: bool) {
        if only_retry || !self.happens(40, Cut::ByHand) {
            self.say(|| format!("a person retries {}", story::short(task)));
            self.rig.retry(task).unwrap();
            return;
        }
        if self.dice.percent(30) && self.rig.cancel(task).is_ok() {
            self.say(|| format!("a person cancels {}", story::short(task)));
            return;
        }
        let incident = self.rig.view(task).incident.unwrap();
        let place = usize::try_from(self.dice.below(incident.steps.len() as u64)).unwrap();
        let step = &incident.steps[place].step;
        self.tally.by_hand += 1;
        let verb = if self.dice.percent(60) {
            judge::settle_by_hand(&self.rig, task, step);
            ResolveVerb::MarkUndone
        } else {
            self.left.push((task.clone(), step.clone()));
            ResolveVerb::Abandon
        };
        self.say(|| format!("a person settles {step} of {}: {verb:?}", story::short(task)));
        self.rig.resolve(task, step, verb).unwrap();
    }
}
