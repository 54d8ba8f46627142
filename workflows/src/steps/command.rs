//! The operator's own commands as steps. Each runs at least once: again after a death in the middle. Nothing is taken back of what they
//! did: whoever needs that has a command for `undo`.

use std::collections::BTreeMap;

use kedge_engine::context::Cx;
use kedge_engine::retry::Policy;
use kedge_engine::step::{ErrorClass, Query, Retriable, Step, StepError};
use serde::{Deserialize, Serialize};

use crate::commands::At;
use crate::place::scope;
use crate::ports::{CommandEnd, OwnCommand, World};

/// What a step has more than its command: a connection that hangs is given up by the host before the step is, so that what comes after a
/// task never keeps it from being done.
const MARGIN_MS: u64 = 300_000;
/// How often a command at the end is tried when its host is away; then that is told.
const TRIES: u32 = 3;
/// Longest end of what a command said that goes into a message, in characters.
const TOLD: usize = 300;

/// A command on behalf of a task.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Errand {
    /// The command.
    pub(crate) command: OwnCommand,
    /// When it runs.
    pub(crate) at: At,
    /// The task's workflow.
    pub(crate) workflow: String,
    /// The site that the task is about.
    pub(crate) site: Option<String>,
}

impl Errand {
    fn title(&self) -> String {
        format!("run the command {} on {}", self.command.name, self.command.host)
    }

    fn policy(&self) -> Policy {
        Policy::RUN.limit(self.command.limit_ms.saturating_add(MARGIN_MS))
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<CommandEnd, StepError> {
        let commands = cx.ports.commands(&self.command.host, &scope(cx))?;
        let at = if self.at == At::Before { "before" } else { "after" };
        let env = [
            ("KEDGE_TASK", cx.task.as_str()),
            ("KEDGE_WORKFLOW", &self.workflow),
            ("KEDGE_SITE", self.site.as_deref().unwrap_or_default()),
            ("KEDGE_AT", at),
        ];
        let end = commands.run(&self.command, &env).await?;
        end.said.lines().for_each(|line| cx.log(line));
        Ok(end)
    }

    /// How it ended, in words: for a task that is done, whatever a command says.
    async fn told(&self, cx: &Cx<'_, dyn World>) -> Result<BTreeMap<String, String>, StepError> {
        let told = match self.run(cx).await {
            Ok(CommandEnd { status: 0, .. }) => "done".to_owned(),
            Ok(end) => format!("failed: {}", in_words(&end)),
            Err(error) if error.class != ErrorClass::Fatal && cx.attempt < TRIES => return Err(error),
            Err(error) => format!("failed: {error}"),
        };
        cx.log(format!("{}: {told}", self.command.name));
        Ok(BTreeMap::from([(format!("command_{}", self.command.name), told)]))
    }
}

fn in_words(end: &CommandEnd) -> String {
    let last = end.said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let said: String = last.trim().chars().take(TOLD).collect();
    let said = if said.is_empty() { "it said nothing".to_owned() } else { said };
    format!("status {}: {said}", end.status)
}

/// Before everything else. When it fails, nothing is done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RunBefore(pub(crate) Errand);

impl Step for RunBefore {
    type Ports = dyn World;
    type Output = ();
    type Mode = Query;
    const KIND: &'static str = "command_before";

    fn title(&self) -> String {
        self.0.title()
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let end = self.0.run(cx).await?;
        if end.status == 0 {
            return Ok(());
        }
        let name = &self.0.command.name;
        Err(StepError::fatal(format!("the command {name} does not let the task begin: {}", in_words(&end))))
    }

    fn policy(&self) -> Policy {
        self.0.policy()
    }
}

/// After everything else of a task that has decided: told, whatever comes of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RunAfter(pub(crate) Errand);

impl Step for RunAfter {
    type Ports = dyn World;
    type Output = BTreeMap<String, String>;
    type Mode = Retriable;
    const KIND: &'static str = "command_after";

    fn title(&self) -> String {
        self.0.title()
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<BTreeMap<String, String>, StepError> {
        self.0.told(cx).await
    }

    fn reports(&self) -> bool {
        true
    }

    fn policy(&self) -> Policy {
        self.0.policy()
    }
}

/// The same of a task that decides nothing, such as a backup.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RunLast(pub(crate) Errand);

impl Step for RunLast {
    type Ports = dyn World;
    type Output = BTreeMap<String, String>;
    type Mode = Query;
    const KIND: &'static str = "command_last";

    fn title(&self) -> String {
        self.0.title()
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<BTreeMap<String, String>, StepError> {
        self.0.told(cx).await
    }

    fn reports(&self) -> bool {
        true
    }

    fn policy(&self) -> Policy {
        self.0.policy()
    }
}
