//! Recovery: every unfinished task of the journal gets a driver again. One damaged task never stops the others (G9).

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt as _;
use tracing::Instrument as _;

use super::driver::Driver;
use super::flight::{Survivors, panic_text};
use super::live::Live;
use super::{Engine, Inner};
use crate::event::Event;
use crate::journal::{JournalError, Record, keys};
use crate::machine::{Command, Machine};
use crate::mutants::bug;
use crate::plan::Lock;
use crate::store::ReadError;
use crate::task::{Millis, TaskId};

/// Rows read at a time.
const PAGE: usize = 256;
/// First and longest delay before tasks that the store could not give are read again, in milliseconds.
const READ_AGAIN_MS: (Millis, Millis) = (1000, 60_000);

/// What recovery found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Tasks that go on.
    pub resumed: Vec<TaskId>,
    /// Tasks that cannot be read or replayed, and why. What could not be read at the moment is read again later.
    pub quarantined: Vec<(TaskId, String)>,
}

impl<P: ?Sized + Send + Sync + 'static> Engine<P> {
    /// Takes every unfinished task over. To be called once, before anything is submitted.
    ///
    /// # Errors
    /// When the list of unfinished tasks or of locks cannot be read: then nothing is known and nothing may run.
    pub fn recover(&self) -> Result<Recovery, ReadError> {
        let mut found = Recovery::default();
        let mut drivers = Vec::new();
        let mut unread = Vec::new();
        for task in self.0.open_tasks()? {
            match self.0.resume(&task) {
                Ok(driver) => {
                    found.resumed.push(task);
                    drivers.push(driver);
                }
                Err(error) => {
                    tracing::error!(%task, %error, "quarantined: it cannot be replayed");
                    if matches!(error, JournalError::Read(ReadError::Io(_))) {
                        unread.push(task.clone());
                    }
                    found.quarantined.push((task, error.to_string()));
                }
            }
        }
        let unknown: BTreeSet<TaskId> = found.quarantined.iter().map(|(task, _)| task.clone()).collect();
        self.0.hold_locks_of(&unknown)?;
        self.0.change(|state| state.quarantined.extend(found.quarantined.iter().cloned()));
        self.0.queue_up(&drivers);
        // All of them before the first one runs: a task that waits for another has to find it.
        drivers.iter().for_each(|driver| self.0.enlist(driver));
        for driver in drivers {
            self.0.set_off(driver);
        }
        if !unread.is_empty() {
            self.0.spawner.spawn(self.0.clone().read_again(unread).boxed());
        }
        Ok(found)
    }
}

impl<P: ?Sized + Send + Sync + 'static> Inner<P> {
    /// The unfinished tasks that have no driver yet, oldest first.
    fn open_tasks(&self) -> Result<Vec<TaskId>, ReadError> {
        let mut open = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.journal.store().scan(keys::OPEN, after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            let ids =
                page.iter().map(|(key, _)| String::from_utf8_lossy(&key[keys::OPEN.len()..]).into_owned());
            open.extend(ids.filter_map(|text| TaskId::try_from(text).ok()));
        }
        let state = self.shared.state();
        open.retain(|task| !state.live.contains_key(task));
        Ok(open)
    }

    /// Takes the locks of tasks that cannot be replayed, as the journal's lock rows have them: what they were doing to a site nobody
    /// knows, so nobody else may touch it.
    fn hold_locks_of(&self, tasks: &BTreeSet<TaskId>) -> Result<(), ReadError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.journal.store().scan(keys::LOCKS, after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (key, value) in &page {
                let parts = keys::lock_parts(key).filter(|(_, task)| tasks.contains(task));
                let Some((resource, task)) = parts else { continue };
                let shared = Lock { resource: String::new(), shared: true }.value() == value.as_slice();
                self.shared.tables().locks.hold(&task, &[Lock { resource, shared }]);
            }
        }
    }

    /// Puts tasks that wait for locks into the queue, by priority and in the order in which they were accepted, whichever driver runs
    /// first.
    fn queue_up(&self, drivers: &[Driver<P>]) {
        let now = self.clock.now();
        let mut drivers: Vec<&Driver<P>> = drivers.iter().collect();
        drivers.sort_by_key(|driver| Reverse(driver.machine.accepted().priority));
        for driver in drivers {
            let machine = &driver.machine;
            if machine.next(now).start.contains(&Command::Lock) {
                let (locks, priority) = (&machine.plan().rest().locks, machine.accepted().priority);
                // Granted here already or not: the driver asks again, and journals what it gets.
                self.shared.tables().locks.request(&driver.live.task, locks, priority, now);
            }
        }
    }

    fn resume(self: &Arc<Self>, task: &TaskId) -> Result<Driver<P>, JournalError> {
        // Whatever is stored must not keep the others from going on, not even what makes our own code panic.
        std::panic::catch_unwind(AssertUnwindSafe(|| self.driver_of(task))).unwrap_or_else(|panic| {
            let why = format!("replaying it panicked: {}", panic_text(&*panic));
            Err(JournalError::Damaged { task: task.clone(), sequence: 0, why })
        })
    }

    fn driver_of(self: &Arc<Self>, task: &TaskId) -> Result<Driver<P>, JournalError> {
        let (records, head, bytes) = self.journal.history(task)?;
        let machine = Arc::new(replay(task, &records)?);
        if machine.locks_granted() && !bug("locks-are-forgotten") {
            self.shared.tables().locks.hold(task, &machine.plan().rest().locks);
        }
        let (live, mailbox, pokes) = Live::new(machine.clone());
        // Where nothing was ever begun, nothing can be left.
        let of_life = if machine.began() && !bug("survivors-run-on") {
            Survivors::of_earlier_life()
        } else {
            Survivors::default()
        };
        let stored = (bytes, head.hash, head.state);
        let mut driver = Driver::new(self.clone(), live, stored, of_life, mailbox, pokes);
        let (run_deaths, undo_deaths) = (self.limits.run_deaths, self.limits.undo_deaths);
        driver.facts.push(Event::Recovered { epoch: machine.epoch() + 1, run_deaths, undo_deaths }.into());
        Ok(driver)
    }

    /// Reads tasks again that the store could not give, until it does or says that they are damaged.
    async fn read_again(self: Arc<Self>, mut unread: Vec<TaskId>) {
        let (mut delay, longest) = READ_AGAIN_MS;
        while !unread.is_empty() {
            self.clock.sleep_until(self.clock.now().saturating_add(delay)).await;
            delay = (delay * 2).min(longest);
            {
                let state = self.shared.state();
                if state.draining || state.failed.is_some() {
                    return;
                }
            }
            unread.retain(|task| match self.resume(task) {
                Ok(driver) => {
                    tracing::info!(%task, "it could be read now, and goes on");
                    self.enlist(&driver);
                    self.change(|state| {
                        state.quarantined.remove(task);
                    });
                    self.set_off(driver);
                    false
                }
                Err(JournalError::Read(ReadError::Io(_))) => true,
                Err(error) => {
                    self.change(|state| {
                        state.quarantined.insert(task.clone(), error.to_string());
                    });
                    false
                }
            });
        }
    }

    /// Makes a task live, queues it up for its locks and lets its driver run.
    pub(super) fn start(&self, driver: Driver<P>) {
        self.enlist(&driver);
        self.set_off(driver);
    }

    fn enlist(&self, driver: &Driver<P>) {
        self.queue_up(std::slice::from_ref(driver));
        let live = driver.live.clone();
        self.shared.state().live.insert(live.task.clone(), live);
    }

    fn set_off(&self, driver: Driver<P>) {
        let accepted = driver.machine.accepted().clone();
        let site = accepted.plan.rest().site.clone().unwrap_or_default();
        let span = tracing::info_span!("task", id = %accepted.task, workflow = %accepted.workflow, site);
        self.spawner.spawn(driver.drive().instrument(span).boxed());
    }
}

/// Folds a history.
pub(super) fn replay(task: &TaskId, records: &[Record]) -> Result<Machine, JournalError> {
    let damaged = |sequence: u64, why: String| JournalError::Damaged { task: task.clone(), sequence, why };
    let (first, rest) = records.split_first().ok_or_else(|| damaged(0, "it has no events".to_owned()))?;
    let mut machine = Machine::begin(first).map_err(|illegal| damaged(1, illegal.to_string()))?;
    if machine.accepted().task != *task {
        return Err(damaged(1, format!("it is the history of {}", machine.accepted().task)));
    }
    for record in rest {
        machine.apply(record).map_err(|illegal| damaged(record.sequence, illegal.to_string()))?;
    }
    Ok(machine)
}
