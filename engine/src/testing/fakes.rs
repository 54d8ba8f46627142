//! Fakes of the smaller ports: logs in memory, and a custody that knows every process which a step says it has started. They never
//! start anything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::ports::{Custody, LogSink};
use crate::step::StepError;
use crate::store::ReadError;
use crate::task::TaskId;

/// Step logs in memory.
#[derive(Debug, Default)]
pub struct MemoryLogs(Mutex<BTreeMap<(String, String), String>>);

impl LogSink for MemoryLogs {
    fn append(&self, task: &str, step: &str, line: &str) {
        let mut logs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let log = logs.entry((task.to_owned(), step.to_owned())).or_default();
        log.push_str(line);
        log.push('\n');
    }

    fn read(&self, task: &str, step: &str) -> Result<Option<String>, ReadError> {
        let logs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(logs.get(&(task.to_owned(), step.to_owned())).cloned())
    }

    fn remove(&self, task: &str) -> Result<(), ReadError> {
        let mut logs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        logs.retain(|(owner, _), _| owner != task);
        Ok(())
    }
}

/// Knows the processes that steps say they have started. It outlives a crash, as processes do: keep it over a restart.
#[derive(Clone, Debug, Default)]
pub struct FakeCustody(Arc<Mutex<Processes>>);

#[derive(Debug, Default)]
struct Processes {
    started: u64,
    alive: BTreeMap<u64, (TaskId, String)>,
    /// Answers to the next calls of `clear`, before it works again.
    failures: Vec<StepError>,
    cleared: Vec<(TaskId, Option<String>)>,
}

/// A process of a step. Dropped without [`Process::ended`], it lives on: that is what a cut-short attempt leaves behind.
#[derive(Debug)]
pub struct Process {
    custody: FakeCustody,
    number: u64,
}

impl FakeCustody {
    /// A step starts a process.
    #[must_use]
    pub fn started(&self, task: &TaskId, step: &str) -> Process {
        let mut processes = self.processes();
        processes.started += 1;
        let number = processes.started;
        processes.alive.insert(number, (task.clone(), step.to_owned()));
        drop(processes);
        Process { custody: self.clone(), number }
    }

    /// The processes alive: of which task and step.
    #[must_use]
    pub fn alive(&self) -> Vec<(TaskId, String)> {
        self.processes().alive.values().cloned().collect()
    }

    /// The next call of `clear` fails so.
    pub fn fail_next(&self, error: StepError) {
        self.processes().failures.push(error);
    }

    /// What was cleared so far.
    #[must_use]
    pub fn cleared(&self) -> Vec<(TaskId, Option<String>)> {
        self.processes().cleared.clone()
    }

    fn processes(&self) -> MutexGuard<'_, Processes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process {
    /// It has ended by itself.
    pub fn ended(self) {
        self.custody.processes().alive.remove(&self.number);
    }
}

impl Custody for FakeCustody {
    fn clear<'a>(&'a self, task: &'a TaskId, step: Option<&'a str>) -> BoxFuture<'a, Result<(), StepError>> {
        async move {
            let mut processes = self.processes();
            if let Some(error) = processes.failures.pop() {
                return Err(error);
            }
            processes.cleared.push((task.clone(), step.map(str::to_owned)));
            processes.alive.retain(|_, (of, name)| of != task || step.is_some_and(|step| step != name));
            Ok(())
        }
        .boxed()
    }
}
