//! The world that test steps act on: resources with values, behaviour by script or by dice, and a note of every rule that was broken.
//! It outlives crashes, as the world does.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use kedge_engine::context::Cx;
use kedge_engine::ports::Clock as _;
use kedge_engine::step::{Probe, StepError};
use kedge_engine::task::TaskId;
use kedge_engine::testing::fakes::FakeCustody;
use kedge_engine::testing::runtime::{Dice, Runtime};

use crate::steps::{Act, Made, ProbeStyle};
use crate::story;
use crate::watch::Watch;

/// What a step is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Run,
    Undo,
    Probe,
    Print,
}

/// How much of the effect comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    None,
    Half,
    Whole,
}

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Ok,
    Retryable,
    Fatal,
    InDoubt,
    Panic,
    Hang,
    /// For probes: it cannot be told.
    Unknown,
}

/// What happens in one call of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behave {
    pub effect: Effect,
    pub end: End,
    pub ms: u64,
}

impl Behave {
    pub const WELL: Self = Self { effect: Effect::Whole, end: End::Ok, ms: 0 };

    pub fn new(effect: Effect, end: End) -> Self {
        Self { effect, end, ms: 0 }
    }

    pub fn slow(ms: u64) -> Self {
        Self { ms, ..Self::WELL }
    }
}

/// Behaviour by dice, in percent of the calls.
#[derive(Clone, Debug)]
pub struct Chaos {
    pub dice: Dice,
    pub delays: u64,
    pub run_trouble: u64,
    pub undo_trouble: u64,
    pub probe_trouble: u64,
    pub undo_lies: u64,
}

pub struct World {
    pub runtime: Runtime,
    pub custody: FakeCustody,
    pub watch: Arc<Watch>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    resources: BTreeMap<String, String>,
    scripts: BTreeMap<(String, Kind), VecDeque<Behave>>,
    chaos: Option<Chaos>,
    acts: Vec<(String, Kind)>,
    in_flight: BTreeMap<(TaskId, String), Kind>,
    broken: Vec<String>,
    lies: u64,
}

impl World {
    pub fn new(runtime: Runtime, custody: FakeCustody, watch: Arc<Watch>) -> Self {
        Self { runtime, custody, watch, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The next calls of a step behave so; after them, well.
    pub fn script(&self, step: &str, kind: Kind, behave: impl IntoIterator<Item = Behave>) {
        self.state().scripts.entry((step.to_owned(), kind)).or_default().extend(behave);
    }

    /// Runs end so, without an effect unless it is said.
    pub fn runs(&self, step: &str, ends: impl IntoIterator<Item = (Effect, End)>) {
        self.script(step, Kind::Run, ends.into_iter().map(|(effect, end)| Behave::new(effect, end)));
    }

    /// Undos end so.
    pub fn undos(&self, step: &str, ends: impl IntoIterator<Item = (Effect, End)>) {
        self.script(step, Kind::Undo, ends.into_iter().map(|(effect, end)| Behave::new(effect, end)));
    }

    /// Probes end so.
    pub fn probes(&self, step: &str, ends: impl IntoIterator<Item = End>) {
        self.script(step, Kind::Probe, ends.into_iter().map(|end| Behave::new(Effect::None, end)));
    }

    /// Forgets what was scripted and not used.
    pub fn behave(&self) {
        let mut state = self.state();
        state.scripts.clear();
        state.chaos = None;
    }

    pub fn chaos(&self, chaos: Chaos) {
        self.state().chaos = Some(chaos);
    }

    pub fn put(&self, key: &str, value: &str) {
        self.state().resources.insert(key.to_owned(), value.to_owned());
    }

    pub fn get(&self, key: &str) -> Option<String> {
        self.state().resources.get(key).cloned()
    }

    pub fn remove(&self, key: &str) {
        self.state().resources.remove(key);
    }

    pub fn resources(&self) -> BTreeMap<String, String> {
        self.state().resources.clone()
    }

    /// What was called, in order: `run a`, `undo a`, `probe a`.
    pub fn acts(&self) -> Vec<String> {
        let word = |kind| match kind {
            Kind::Run => "run",
            Kind::Undo => "undo",
            Kind::Probe => "probe",
            Kind::Print => "print",
        };
        self.state().acts.iter().map(|(step, kind)| format!("{} {step}", word(*kind))).collect()
    }

    /// Calls of a step.
    pub fn count(&self, step: &str, kind: Kind) -> usize {
        self.state().acts.iter().filter(|(name, what)| name == step && *what == kind).count()
    }

    pub fn lies(&self) -> u64 {
        self.state().lies
    }

    pub fn in_flight(&self) -> usize {
        self.state().in_flight.len()
    }

    /// Rules that were broken, here or in the journal.
    pub fn broken(&self) -> Vec<String> {
        let mut broken = self.state().broken.clone();
        broken.extend(self.watch.broken());
        broken
    }

    fn accuse(&self, what: String) {
        self.state().broken.push(what);
    }

    fn behaviour(&self, step: &str, kind: Kind) -> Behave {
        let mut state = self.state();
        let scripted = state.scripts.get_mut(&(step.to_owned(), kind)).and_then(VecDeque::pop_front);
        let behave = scripted.or_else(|| state.chaos.as_mut().map(|chaos| chaos.behave(kind)));
        let behave = behave.unwrap_or(Behave::WELL);
        if kind == Kind::Undo && behave.end == End::Ok && behave.effect != Effect::Whole {
            state.lies += 1;
        }
        if behave != Behave::WELL {
            story::tell(|| format!("       {kind:?} of {step} will go so: {behave:?}"));
        }
        behave
    }

    /// A call begins: is it allowed now?
    fn enter<'a>(&'a self, cx: &Cx<'_, World>, kind: Kind) -> Guard<'a> {
        let key = (cx.task.clone(), cx.step.to_owned());
        self.fence(cx, kind, "begins");
        let alive = self.custody.alive();
        let mut state = self.state();
        state.acts.push((cx.step.to_owned(), kind));
        if let Some(other) = state.in_flight.insert(key.clone(), kind) {
            state.broken.push(format!("{kind:?} of {} begins beside its {other:?}", cx.step));
        }
        if alive.contains(&key) {
            state
                .broken
                .push(format!("{kind:?} of {} begins beside a process of an earlier attempt", cx.step));
        }
        Guard { world: self, key }
    }

    /// G1, G3, G5: what acts has been journaled as started, and nothing newer.
    fn fence(&self, cx: &Cx<'_, World>, kind: Kind, does: &str) {
        if let Err(why) = self.watch.may_act(cx.task, cx.step, cx.attempt, kind) {
            self.accuse(format!("{kind:?} {} of {} {does}, but {why}", cx.attempt, cx.step));
        }
    }

    /// Also lets others go first: a crash may strike there.
    async fn sleep(&self, ms: u64) {
        self.runtime.pause().await;
        if ms > 0 {
            self.runtime.sleep_until(self.runtime.now() + ms).await;
        }
    }

    async fn end(&self, end: End, what: &str) -> Result<(), StepError> {
        match end {
            End::Ok => Ok(()),
            End::Retryable => Err(StepError::retryable(format!("{what} may work later"))),
            End::Fatal => Err(StepError::fatal(format!("{what} cannot work"))),
            End::InDoubt | End::Unknown => Err(StepError::in_doubt(format!("the answer of {what} was lost"))),
            // Quietly: without the hook that prints to the terminal.
            End::Panic => std::panic::resume_unwind(Box::new(format!("{what} panics"))),
            End::Hang => std::future::pending().await,
        }
    }

    /// Runs a step.
    pub async fn run(&self, cx: &Cx<'_, World>, act: &Act) -> Result<Made, StepError> {
        let guard = self.enter(cx, Kind::Run);
        let mut behave = self.behaviour(cx.step, Kind::Run);
        if act.decides && matches!(behave.end, End::Retryable | End::Fatal) {
            // Such an error of a pivot says that it has not decided; when that is not known, it says so.
            behave.effect = Effect::None;
        }
        let process = self.custody.started(cx.task, cx.step);
        for need in &act.needs {
            let made: Made = cx.output(need)?;
            if self.get(&made.key) != made.value {
                self.accuse(format!("{} needs {made:?}, which is not there", cx.step));
            }
        }
        self.sleep(behave.ms / 2).await;
        match behave.effect {
            Effect::None => {}
            Effect::Half | Effect::Whole if !act.acts => {}
            Effect::Half => self.change(cx, Kind::Run, &act.key, Some(format!("~{}", act.value))),
            Effect::Whole => self.change(cx, Kind::Run, &act.key, Some(act.value.clone())),
        }
        self.sleep(behave.ms - behave.ms / 2).await;
        self.end(behave.end, cx.step).await?;
        process.ended();
        if let Some(claim) = &act.claim {
            cx.claim_record("slot", claim.clone(), &cx.task)?;
        }
        if let Some(record) = &act.record {
            cx.put_record("site", record.clone(), &act.value)?;
        }
        drop(guard);
        Ok(Made { key: act.key.clone(), value: self.get(&act.key) })
    }

    /// Takes the effect back: what was there before if it was seen, else nothing.
    pub async fn undo(&self, cx: &Cx<'_, World>, act: &Act) -> Result<(), StepError> {
        let guard = self.enter(cx, Kind::Undo);
        let behave = self.behaviour(cx.step, Kind::Undo);
        let process = self.custody.started(cx.task, cx.step);
        let before = match &act.before {
            Some(seen) => cx.maybe(seen)?.and_then(|made| made.value),
            None => None,
        };
        self.sleep(behave.ms / 2).await;
        match behave.effect {
            Effect::None => {}
            Effect::Half => {
                if self.get(&act.key).is_some() {
                    self.change(cx, Kind::Undo, &act.key, Some(format!("~{}", act.value)));
                }
            }
            Effect::Whole => {
                let below: Vec<String> = self.below(&act.key);
                for key in below {
                    self.change(cx, Kind::Undo, &key, None);
                }
                self.change(cx, Kind::Undo, &act.key, before);
            }
        }
        self.sleep(behave.ms - behave.ms / 2).await;
        self.end(behave.end, cx.step).await?;
        process.ended();
        drop(guard);
        Ok(())
    }

    /// Looks whether the effect is there.
    pub async fn probe(&self, cx: &Cx<'_, World>, act: &Act) -> Result<Probe<Made>, StepError> {
        let guard = self.enter(cx, Kind::Probe);
        let behave = self.behaviour(cx.step, Kind::Probe);
        let process = self.custody.started(cx.task, cx.step);
        self.sleep(behave.ms).await;
        if behave.end == End::Unknown {
            process.ended();
            return Ok(Probe::Unknown("two of them are there".to_owned()));
        }
        self.end(behave.end, cx.step).await?;
        process.ended();
        drop(guard);
        let there = self.get(&act.key);
        let half = format!("~{}", act.value);
        Ok(match act.probe {
            ProbeStyle::Repeat => Probe::Resumable,
            ProbeStyle::Honest | ProbeStyle::Resumes => match there {
                Some(value) if value == act.value => {
                    Probe::Applied(Made { key: act.key.clone(), value: Some(value) })
                }
                Some(value) if value == half && act.probe == ProbeStyle::Honest => Probe::Partial(value),
                Some(value) if value == half => Probe::Resumable,
                Some(_) | None => Probe::NotApplied,
            },
        })
    }

    /// Fingerprints resources by prefix.
    pub async fn print(
        &self,
        cx: &Cx<'_, World>,
        keys: &[String],
    ) -> Result<BTreeMap<String, String>, StepError> {
        let guard = self.enter(cx, Kind::Print);
        let behave = self.behaviour(cx.step, Kind::Print);
        let process = self.custody.started(cx.task, cx.step);
        self.sleep(behave.ms).await;
        self.end(behave.end, cx.step).await?;
        process.ended();
        drop(guard);
        let resources = self.resources();
        Ok(resources
            .into_iter()
            .filter(|(key, _)| keys.iter().any(|prefix| key.starts_with(prefix)))
            .collect())
    }

    fn below(&self, key: &str) -> Vec<String> {
        let folder = format!("{key}/");
        self.state().resources.keys().filter(|key| key.starts_with(&folder)).cloned().collect()
    }

    fn change(&self, cx: &Cx<'_, World>, kind: Kind, key: &str, value: Option<String>) {
        self.fence(cx, kind, &format!("changes {key}"));
        let (at, task) = (story::time(self.runtime.now()), story::short(cx.task));
        story::tell(|| format!("{at} {task}     {kind:?} of {} sets {key} to {value:?}", cx.step));
        let mut state = self.state();
        match value {
            Some(value) => state.resources.insert(key.to_owned(), value),
            None => state.resources.remove(key),
        };
    }
}

/// A call in flight.
struct Guard<'a> {
    world: &'a World,
    key: (TaskId, String),
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.world.state().in_flight.remove(&self.key);
    }
}

impl Chaos {
    fn behave(&mut self, kind: Kind) -> Behave {
        let dice = &mut self.dice;
        let ms = if dice.percent(self.delays) { dice.below(40) } else { 0 };
        let trouble = match kind {
            Kind::Run => self.run_trouble,
            Kind::Undo => self.undo_trouble,
            Kind::Probe | Kind::Print => self.probe_trouble,
        };
        if kind == Kind::Undo && dice.percent(self.undo_lies) {
            return Behave { effect: Effect::None, end: End::Ok, ms };
        }
        if !dice.percent(trouble) {
            return Behave { ms, ..Behave::WELL };
        }
        let effect = match dice.below(3) {
            0 => Effect::None,
            1 => Effect::Half,
            _ => Effect::Whole,
        };
        let end = match dice.below(if kind == Kind::Undo { 14 } else { 8 }) {
            0 => End::Fatal,
            1 => End::Panic,
            2 => End::Hang,
            3 | 4 => End::InDoubt,
            5 if kind == Kind::Probe => End::Unknown,
            _ => End::Retryable,
        };
        Behave { effect, end, ms }
    }
}
