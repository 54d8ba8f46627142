//! Custody of the processes that attempts start: knows which hosts a task reaches, by its plan, and ends survivors there.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::{BoxFuture, try_join_all};
use kedge_engine::event::Event;
use kedge_engine::journal::Journal;
use kedge_engine::plan::Plan;
use kedge_engine::ports::Custody;
use kedge_engine::step::StepError;
use kedge_engine::task::TaskId;
use kedge_workflows::ports::Scope;
use serde_json::Value;

use crate::config::Config;
use crate::world::LiveWorld;

/// Fields of steps that name a server.
const SERVER_FIELDS: [&str; 4] = ["web_server", "server", "to_server", "database_server"];
/// Events read at a time: a task begins with its first few.
const PAGE: usize = 8;

/// Custody over the configured hosts.
pub(crate) struct HostCustody {
    /// For the servers' hosts, as they are at this moment.
    pub(crate) world: Arc<LiveWorld>,
    /// For the tasks' plans.
    pub(crate) journal: Journal,
}

impl Custody for HostCustody {
    fn clear<'a>(&'a self, task: &'a TaskId, step: Option<&'a str>) -> BoxFuture<'a, Result<(), StepError>> {
        async move {
            let plan = self.plan(task)?;
            let scope = Scope { task: task.to_string(), step: step.unwrap_or_default().to_owned() };
            let reached = self.world.now();
            let hosts = hosts_of(&plan, &reached.config);
            let clears = hosts.iter().filter_map(|name| reached.hosts.get(name)).map(|host| {
                let scope = &scope;
                async move {
                    let cleared = host.clear(scope).await;
                    let words = |error| format!("survivors on {} cannot be ended: {error}", host.name());
                    cleared.map_err(|error| StepError::retryable(words(error)))
                }
            });
            try_join_all(clears).await.map(|_| ())
        }
        .boxed()
    }
}

impl HostCustody {
    /// The plan by which it has begun: the last one that was made before.
    fn plan(&self, task: &TaskId) -> Result<Plan, StepError> {
        let (mut plan, mut after, mut begun) = (None, 0, false);
        while !begun {
            let page = self.journal.records(task, after, PAGE);
            let page = page.map_err(|error| StepError::retryable(error.to_string()))?;
            begun = page.is_empty();
            for record in page {
                after = record.sequence;
                match record.event {
                    Event::Accepted(accepted) => plan = Some(accepted.plan.clone()),
                    Event::Planned { plan: anew } => plan = Some((*anew).clone()),
                    Event::AttemptStarted { .. } | Event::FingerprintStarted { .. } => begun = true,
                    _ => {}
                }
            }
        }
        plan.ok_or_else(|| StepError::fatal(format!("{task} has no plan")))
    }
}

/// Hosts of the servers that a plan's steps name.
fn hosts_of(plan: &Plan, config: &Config) -> BTreeSet<String> {
    let mut hosts = BTreeSet::new();
    for (_, step) in plan.steps() {
        find(config, &step.params, &mut hosts);
    }
    hosts
}

/// Hosts of the servers that a step's fields name.
fn find(config: &Config, value: &Value, hosts: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (field, value) in map {
                if let (true, Value::String(name)) = (SERVER_FIELDS.contains(&field.as_str()), value) {
                    let web = config.web_servers.get(name);
                    let web = web.into_iter().flat_map(crate::config::WebServer::hosts);
                    let database = config.database_servers.get(name).map(|server| &server.host);
                    hosts.extend(web.chain(database).cloned());
                }
                find(config, value, hosts);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| find(config, item, hosts)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
