//! Commands of the operator's own around tasks: before anything is looked at, and when everything is done. Every workflow has them, by the
//! configuration alone. Pure: which steps a plan has more.

use kedge_engine::builder::PlanBuilder;
use kedge_engine::plan::Plan;
use kedge_engine::task::UNDO;
use kedge_engine::workflow::{FinishedTask, PlanCx, PlanRefusal, Workflow};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ports::OwnCommand;
use crate::records;
use crate::steps::command::{Errand, RunAfter, RunBefore, RunLast};

/// The record of [`records::POLICY`] that has them, a list of [`CommandRule`].
pub const COMMANDS: &str = "commands";

/// When a command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum At {
    /// Before anything is looked at: when it fails, nothing is done.
    Before,
    /// When everything is done: when it fails, that is told.
    After,
}

/// A command, and around which tasks it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRule {
    /// The command.
    pub command: OwnCommand,
    /// Names of workflows, `undo` among them; `*`: all.
    pub workflows: Vec<String>,
    /// Sites: a name, or `*.` and the end of names. Empty: all, and what is about no site.
    pub sites: Vec<String>,
    /// When.
    pub at: At,
}

impl CommandRule {
    fn is_for(&self, workflow: &str, site: Option<&str>) -> bool {
        let named = self.workflows.iter().any(|name| name == "*" || name == workflow);
        let covers = |pattern: &String, site: &str| match pattern.strip_prefix('*') {
            Some(end) => site.len() > end.len() && site.ends_with(end),
            None => pattern == site,
        };
        let covered = |site: &str| self.sites.iter().any(|pattern| covers(pattern, site));
        named && (self.sites.is_empty() || site.is_some_and(covered))
    }
}

/// A workflow with the operator's commands around its plans.
pub(crate) struct WithCommands(pub(crate) Box<dyn Workflow>);

impl Workflow for WithCommands {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn title(&self) -> &'static str {
        self.0.title()
    }

    fn schema(&self) -> Value {
        self.0.schema()
    }

    fn example(&self) -> Value {
        self.0.example()
    }

    fn plan(&self, params: &Value, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        around(self.0.plan(params, cx)?, self.name(), cx)
    }

    fn undo(&self, finished: &FinishedTask<'_>, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        around(self.0.undo(finished, cx)?, UNDO, cx)
    }
}

fn around(plan: Plan, workflow: &str, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
    let rules: Vec<CommandRule> = records::find(cx.facts, records::POLICY, COMMANDS)?.unwrap_or_default();
    let site = plan.rest().site.clone();
    let rules: Vec<CommandRule> =
        rules.into_iter().filter(|rule| rule.is_for(workflow, site.as_deref())).collect();
    if rules.is_empty() {
        return Ok(plan);
    }
    let decides = plan.pivot(None).is_some();
    let mut plan = PlanBuilder::from(plan);
    let errand = |rule: &CommandRule| Errand {
        command: rule.command.clone(),
        at: rule.at,
        workflow: workflow.to_owned(),
        site: site.clone(),
    };
    let name = |rule: &CommandRule| format!("command_{}", rule.command.name);
    // The one that is added last comes first.
    for rule in rules.iter().rev().filter(|rule| rule.at == At::Before) {
        plan.first(&name(rule), RunBefore(errand(rule)));
    }
    for rule in rules.iter().filter(|rule| rule.at == At::After) {
        if decides {
            plan.last(&name(rule), RunAfter(errand(rule)));
        } else {
            plan.last(&name(rule), RunLast(errand(rule)));
        }
    }
    Ok(plan.build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_for_workflows_and_sites() {
        let rule = |workflows: &[&str], sites: &[&str]| {
            let list = |names: &[&str]| names.iter().map(ToString::to_string).collect();
            let (name, host, run) = ("x".to_owned(), "web1".to_owned(), vec!["true".to_owned()]);
            let command = OwnCommand { name, host, run, user: None, limit_ms: 1 };
            CommandRule { command, workflows: list(workflows), sites: list(sites), at: At::Before }
        };
        let all = rule(&["*"], &[]);
        assert!(all.is_for("migrate", Some("a.test")) && all.is_for("purge", None));
        let some = rule(&["migrate", "undo"], &["*.a.test", "b.test"]);
        for (workflow, site, is) in [
            ("migrate", Some("x.a.test"), true),
            ("undo", Some("b.test"), true),
            ("migrate", Some("a.test"), false),
            ("migrate", Some(".a.test"), false),
            ("migrate", Some("xb.test"), false),
            ("backup", Some("x.a.test"), false),
            ("migrate", None, false),
        ] {
            assert_eq!(some.is_for(workflow, site), is, "{workflow} {site:?}");
        }
    }
}
