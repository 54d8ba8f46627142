//! Commands of the operator's own on hosts of a fake world: what ran and for which task. They do nothing.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::Faults;
use crate::ports::{CommandEnd, Commands, OwnCommand, PortResult};

/// Commands that do nothing. Clones share what they did.
#[derive(Clone, Default)]
pub struct FakeCommands {
    faults: Faults,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    runs: Vec<String>,
    failing: BTreeSet<String>,
}

impl FakeCommands {
    /// None has run.
    #[must_use]
    pub fn new(faults: Faults) -> Self {
        Self { faults, state: Arc::default() }
    }

    /// Lets the command of this name end with status 3.
    pub fn fail(&self, name: &str) {
        self.lock().failing.insert(name.to_owned());
    }

    /// What ran, in its order: name, host, and what it was told of its task.
    #[must_use]
    pub fn runs(&self) -> Vec<String> {
        self.lock().runs.clone()
    }

    /// The same commands, of which none has run.
    #[must_use]
    pub fn fork(&self, faults: Faults) -> Self {
        let failing = self.lock().failing.clone();
        Self { faults, state: Arc::new(Mutex::new(State { runs: Vec::new(), failing })) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panicked elsewhere leaves nothing half done here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Commands for FakeCommands {
    async fn run(&self, command: &OwnCommand, env: &[(&str, &str)]) -> PortResult<CommandEnd> {
        self.faults.before("commands.run", &command.name)?;
        let told = env.iter().filter(|(name, _)| *name != "KEDGE_TASK");
        let told: Vec<&str> = told.map(|(_, value)| *value).collect();
        let status = {
            let mut state = self.lock();
            state.runs.push(format!("{} on {}: {}", command.name, command.host, told.join(" ")));
            if state.failing.contains(&command.name) { 3 } else { 0 }
        };
        self.faults.after("commands.run", &command.name)?;
        Ok(CommandEnd { status, said: "nothing to do\n".to_owned() })
    }
}
