//! A deterministic runtime: one thread, one seed, virtual time. The seed decides which ready future is polled next; when none is
//! ready, time jumps to the earliest timer. A crash drops everything that runs. It never reads a clock or a real random number.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};

use futures::FutureExt as _;
use futures::channel::oneshot;
use futures::future::BoxFuture;

use crate::ports::{Clock, Random, Spawner};
use crate::task::Millis;

/// Where virtual time begins: some day in 2026, so that ids and texts look real.
pub const EPOCH: Millis = 1_780_000_000_000;

/// The runtime. Clones are handles on one; it is [`Clock`], [`Spawner`] and [`Random`] in one.
#[derive(Clone)]
pub struct Runtime(Arc<Mutex<State>>);

struct State {
    now: Millis,
    dice: Dice,
    tasks: BTreeMap<u64, Task>,
    /// Tasks to be polled, each once.
    ready: Vec<u64>,
    timers: BTreeMap<(Millis, u64), Waker>,
    /// Numbers for tasks, timers and ids.
    numbers: u64,
    polls: u64,
}

struct Task {
    /// Away while it is polled.
    future: Option<BoxFuture<'static, ()>>,
    waker: Arc<Bell>,
    ready: bool,
}

/// Wakes a task.
struct Bell {
    task: u64,
    runtime: Weak<Mutex<State>>,
}

/// Why a run has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// What was waited for is there.
    Done,
    /// Nothing is ready and no timer is set: whoever still waits, waits for ever.
    Idle,
    /// The number of polls is used up.
    Polls,
}

impl Runtime {
    /// A runtime in which nothing runs, at [`EPOCH`].
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            now: EPOCH,
            dice: Dice::new(seed),
            tasks: BTreeMap::new(),
            ready: Vec::new(),
            timers: BTreeMap::new(),
            numbers: 0,
            polls: 0,
        })))
    }

    /// Polls ready futures until `done`, until nothing can happen any more, or until `polls` are used up.
    pub fn run(&self, polls: u64, mut done: impl FnMut() -> bool) -> Stop {
        let end = self.polls().saturating_add(polls);
        loop {
            if done() {
                return Stop::Done;
            }
            if self.polls() >= end {
                return Stop::Polls;
            }
            if !self.step() {
                return Stop::Idle;
            }
        }
    }

    /// Runs until nothing can happen any more.
    ///
    /// # Panics
    /// After a million polls: something runs in circles.
    pub fn settle(&self) {
        let stop = self.run(1_000_000, || false);
        assert_eq!(stop, Stop::Idle, "something runs in circles");
    }

    /// Runs a future to its end beside everything else; `None` when it can never end, or after a million polls.
    pub fn block_on<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let (sender, mut receiver) = oneshot::channel();
        // The receiver is gone only if the caller gave up.
        self.spawn(future.map(|result| drop(sender.send(result))).boxed());
        let mut result = None;
        self.run(1_000_000, || {
            result = result.take().or_else(|| receiver.try_recv().ok().flatten());
            result.is_some()
        });
        result
    }

    /// Starts a future beside everything else.
    pub fn spawn_here(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.spawn(future.boxed());
    }

    /// The end of the process: everything that runs is dropped where it stands. Time, dice and counters go on.
    pub fn crash(&self) {
        let (tasks, timers) = {
            let mut state = self.state();
            state.ready.clear();
            (std::mem::take(&mut state.tasks), std::mem::take(&mut state.timers))
        };
        drop((tasks, timers));
    }

    /// Polls so far: the measure of where a crash strikes.
    #[must_use]
    pub fn polls(&self) -> u64 {
        self.state().polls
    }

    /// Number of futures that have not ended.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.state().tasks.len()
    }

    /// Sets the clock, also backwards; timers that are due by then ring.
    pub fn set_clock(&self, now: Millis) {
        let due = {
            let mut state = self.state();
            state.now = now;
            state.due()
        };
        due.into_iter().for_each(Waker::wake);
    }

    /// A number below `bound` from the seed.
    #[must_use]
    pub fn below(&self, bound: u64) -> u64 {
        self.state().dice.below(bound)
    }

    /// Lets others go first.
    pub async fn pause(&self) {
        let mut paused = false;
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut paused, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// One poll, or one jump of time. `false`: nothing can happen any more.
    fn step(&self) -> bool {
        let (id, mut future, waker) = {
            let mut state = self.state();
            if state.ready.is_empty() {
                let Some((at, _)) = state.timers.keys().next().copied() else { return false };
                state.now = state.now.max(at);
                let due = state.due();
                drop(state);
                due.into_iter().for_each(Waker::wake);
                return true;
            }
            let count = state.ready.len() as u64;
            let place = state.dice.below(count);
            #[expect(clippy::cast_possible_truncation, reason = "below the length of a vector")]
            let id = state.ready.swap_remove(place as usize);
            state.polls += 1;
            let Some(task) = state.tasks.get_mut(&id) else { return true };
            task.ready = false;
            let Some(future) = task.future.take() else { return true };
            (id, future, Waker::from(task.waker.clone()))
        };
        let ended = future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let rest = {
            let mut state = self.state();
            match state.tasks.get_mut(&id) {
                Some(task) if !ended => {
                    task.future = Some(future);
                    None
                }
                // Ended, or a crash came while it was polled: dropped below, when nothing is locked.
                _ => Some((state.tasks.remove(&id), future)),
            }
        };
        drop(rest);
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn due(&mut self) -> Vec<Waker> {
        let later = self.timers.split_off(&(self.now.saturating_add(1), 0));
        std::mem::replace(&mut self.timers, later).into_values().collect()
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        let Some(runtime) = self.runtime.upgrade().map(Runtime) else { return };
        let mut state = runtime.state();
        let Some(task) = state.tasks.get_mut(&self.task) else { return };
        if !std::mem::replace(&mut task.ready, true) {
            state.ready.push(self.task);
        }
    }
}

impl Clock for Runtime {
    fn now(&self) -> Millis {
        self.state().now
    }

    fn sleep_until(&self, at: Millis) -> BoxFuture<'static, ()> {
        let number = self.state().number();
        Box::pin(Sleep { runtime: self.clone(), key: (at, number) })
    }
}

impl Spawner for Runtime {
    fn spawn(&self, future: BoxFuture<'static, ()>) {
        let mut state = self.state();
        let id = state.number();
        let waker = Arc::new(Bell { task: id, runtime: Arc::downgrade(&self.0) });
        state.tasks.insert(id, Task { future: Some(future), waker, ready: true });
        state.ready.push(id);
    }
}

impl Random for Runtime {
    fn id(&self) -> [u8; 16] {
        let mut state = self.state();
        let number = state.number();
        let mut id = [0; 16];
        id[..6].copy_from_slice(&state.now.to_be_bytes()[2..]);
        id[6] = 0x70;
        id[8..].copy_from_slice(&(number | 0x8000_0000_0000_0000).to_be_bytes());
        id
    }

    fn roll(&self) -> f64 {
        self.state().dice.roll()
    }
}

struct Sleep {
    runtime: Runtime,
    key: (Millis, u64),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.runtime.state();
        if state.now >= self.key.0 {
            return Poll::Ready(());
        }
        state.timers.insert(self.key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let waker = self.runtime.state().timers.remove(&self.key);
        drop(waker);
    }
}

/// Random numbers from a seed (SplitMix64): small, quick, and good enough to choose by.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 when that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.bits() % bound }
    }

    /// A number in 0..1.
    pub fn roll(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let top = (self.bits() >> 11) as f64;
        top / 9_007_199_254_740_992.0
    }

    /// True in `percent` of the cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn race(seed: u64) -> Vec<u32> {
        let runtime = Runtime::new(seed);
        let order = Arc::new(Mutex::new(Vec::new()));
        for n in 0..6 {
            let (inside, order) = (runtime.clone(), order.clone());
            runtime.spawn(Box::pin(async move {
                inside.pause().await;
                inside.sleep_until(EPOCH + 10).await;
                order.lock().unwrap().push(n);
            }));
        }
        runtime.settle();
        assert_eq!(runtime.now(), EPOCH + 10);
        let order = order.lock().unwrap();
        order.clone()
    }

    #[test]
    fn the_seed_decides_the_order_and_nothing_else_does() {
        assert_eq!(race(1), race(1));
        assert!((2..10).any(|seed| race(seed) != race(1)), "other seeds give other orders");
    }

    #[test]
    fn time_jumps_to_the_earliest_timer_and_a_dropped_one_does_not_count() {
        let runtime = Runtime::new(7);
        drop(runtime.sleep_until(EPOCH + 5));
        let clock = runtime.clone();
        let at = runtime.block_on(async move {
            let early = clock.sleep_until(EPOCH + 100);
            let late = clock.sleep_until(EPOCH + 200);
            futures::future::select(early, late).await;
            clock.now()
        });
        assert_eq!(at, Some(EPOCH + 100));
        runtime.settle();
        assert_eq!(runtime.now(), EPOCH + 100);
    }

    #[test]
    fn a_crash_drops_what_runs() {
        let runtime = Runtime::new(7);
        let held = Arc::new(());
        let inside = held.clone();
        runtime.spawn(Box::pin(async move {
            std::future::pending::<()>().await;
            drop(inside);
        }));
        runtime.settle();
        assert_eq!((runtime.alive(), Arc::strong_count(&held)), (1, 2));
        runtime.crash();
        assert_eq!((runtime.alive(), Arc::strong_count(&held)), (0, 1));
    }

    #[test]
    fn ids_sort_by_time_and_never_come_twice() {
        let runtime = Runtime::new(7);
        let first = runtime.id();
        let second = runtime.id();
        runtime.set_clock(EPOCH + 1);
        let third = runtime.id();
        assert!(first < second && second < third);
    }
}
