//! Recovery: every unfinished task of the journal gets a driver again. One damaged task never stops the others (G9).

use std::sync::Arc;

use super::Engine;
use super::driver::Driver;
use super::flight::Survivors;
use super::live::Live;
use crate::event::Event;
use crate::journal::{JournalError, Record, keys};
use crate::machine::Machine;
use crate::store::ReadError;
use crate::task::TaskId;

/// Open marks read at a time.
const PAGE: usize = 256;

/// What recovery found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Tasks that go on.
    pub resumed: Vec<TaskId>,
    /// Tasks that cannot be read or replayed, and why.
    pub quarantined: Vec<(TaskId, String)>,
}

impl<P: ?Sized + Send + Sync + 'static> Engine<P> {
    /// Takes every unfinished task over. To be called once, before anything is submitted.
    ///
    /// # Errors
    /// When the list of unfinished tasks cannot be read: then nothing is known and nothing may run.
    pub fn recover(&self) -> Result<Recovery, ReadError> {
        let mut found = Recovery::default();
        let mut drivers = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.0.journal.store().scan(keys::OPEN, after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, _) in page {
                let text = String::from_utf8_lossy(&key[keys::OPEN.len()..]).into_owned();
                let Ok(task) = TaskId::try_from(text) else { continue };
                match self.resume(&task) {
                    Ok(driver) => {
                        found.resumed.push(task);
                        drivers.push(driver);
                    }
                    Err(error) => found.quarantined.push((task, error.to_string())),
                }
            }
        }
        self.0.change(|state| state.quarantined.extend(found.quarantined.iter().cloned()));
        for (task, why) in &found.quarantined {
            tracing::error!(%task, why, "quarantined: it cannot be replayed");
        }
        for driver in drivers {
            self.0.start(driver);
        }
        Ok(found)
    }

    fn resume(&self, task: &TaskId) -> Result<Driver<P>, JournalError> {
        let (records, head, bytes) = self.0.journal.history(task)?;
        let machine = Arc::new(replay(task, &records)?);
        if machine.locks_granted() {
            self.0.tables().locks.hold(task, &machine.plan().rest().locks);
        }
        let (live, mailbox, pokes) = Live::new(machine.clone());
        let mut driver = Driver::new(
            self.0.clone(),
            live,
            (bytes, head.hash),
            Survivors::of_earlier_life(),
            mailbox,
            pokes,
        );
        let limits = &self.0.limits;
        driver.facts.push(
            Event::Recovered {
                epoch: machine.epoch() + 1,
                run_deaths: limits.run_deaths,
                undo_deaths: limits.undo_deaths,
            }
            .into(),
        );
        Ok(driver)
    }
}

impl<P: ?Sized + Send + Sync + 'static> super::Inner<P> {
    /// Makes a task live and lets its driver run.
    pub(super) fn start(&self, driver: Driver<P>) {
        use futures::FutureExt as _;
        use tracing::Instrument as _;
        let live = driver.live.clone();
        let accepted = live.machine().accepted().clone();
        self.state().live.insert(live.task.clone(), live);
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
