//! `purge`: gives up old sides whose hold is over, and old backups when asked to. Never the newest backup of a site.

use std::collections::BTreeMap;

use kedge_engine::builder::{Named, PlanBuilder};
use kedge_engine::plan::Plan;
use kedge_engine::workflow::{Facts, PlanCx, PlanRefusal, Workflow};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::names::SiteName;
use crate::params::{Hold, parse, schema};
use crate::records::{self, BackupRecord, TrashRecord};
use crate::steps::registry::CommitPurge;
use crate::steps::removal::{DropDatabase, RemoveBackup, RemoveDir};

/// Most old sides and most backups of one task: its plan stays one that a person can read.
const MAX_ITEMS: usize = 50;

/// The workflow.
pub(crate) struct Purge;

/// Parameters of `purge`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// Of this site only.
    #[serde(default)]
    site: Option<SiteName>,
    /// Backups older than this go as well, but for the newest of each site: 30d.
    #[serde(default)]
    older_than: Option<Hold>,
}

impl Workflow for Purge {
    fn name(&self) -> &'static str {
        "purge"
    }

    fn title(&self) -> &'static str {
        "Give up old sides whose hold is over, and old backups."
    }

    fn schema(&self) -> Value {
        schema::<Params>()
    }

    fn example(&self) -> Value {
        json!({ "older_than": "30d" })
    }

    fn plan(&self, params: &Value, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        let params: Params = parse(params)?;
        let of_site = |site: &SiteName| params.site.as_ref().is_none_or(|only| only == site);
        let mut trash: Vec<(String, TrashRecord)> = all(cx.facts, records::TRASH)?;
        trash.retain(|(_, trash)| trash.until <= cx.now && of_site(&trash.site.name));
        let mut backups = match params.older_than {
            Some(age) => old_backups(all(cx.facts, records::BACKUP)?, cx.now.saturating_sub(age.0)),
            None => Vec::new(),
        };
        backups.retain(|backup| of_site(&backup.site));
        if trash.is_empty() && backups.is_empty() {
            return Err(PlanRefusal::Refused("there is nothing to purge: every hold still runs".to_owned()));
        }
        let mut plan = PlanBuilder::new(params.site.as_ref().map(SiteName::as_str));
        for (what, more) in [("old sides", trash.len()), ("backups", backups.len())] {
            if more > MAX_ITEMS {
                plan.note(format!("{} of {more} {what}: purge again for the others", MAX_ITEMS));
            }
        }
        trash.truncate(MAX_ITEMS);
        backups.truncate(MAX_ITEMS);
        purge(&mut plan, cx.facts, &trash, &backups)?;
        Ok(plan.build()?)
    }
}

fn all<T: DeserializeOwned>(facts: &dyn Facts, family: &str) -> Result<Vec<(String, T)>, PlanRefusal> {
    let read = |(name, value): (String, Value)| {
        let record = serde_json::from_value(value);
        record.map(|record| (name.clone(), record)).map_err(|error| {
            PlanRefusal::Refused(format!("the {family} record of {name} does not read: {error}"))
        })
    };
    facts.records(family)?.into_iter().map(read).collect()
}

/// Backups made before a time, but for the newest of each site.
fn old_backups(all: Vec<(String, BackupRecord)>, before: u64) -> Vec<BackupRecord> {
    let mut newest: BTreeMap<SiteName, u64> = BTreeMap::new();
    for (_, backup) in &all {
        let at = newest.entry(backup.site.clone()).or_default();
        *at = backup.created_at.max(*at);
    }
    let old = |backup: &BackupRecord| {
        backup.created_at < before && newest.get(&backup.site) != Some(&backup.created_at)
    };
    all.into_iter().map(|(_, backup)| backup).filter(old).collect()
}

fn purge(
    plan: &mut PlanBuilder,
    facts: &dyn Facts,
    trash: &[(String, TrashRecord)],
    backups: &[BackupRecord],
) -> Result<(), PlanRefusal> {
    let commit = CommitPurge {
        tasks: trash.iter().map(|(task, _)| task.clone()).collect(),
        backups: backups.iter().map(|backup| backup.name.clone()).collect(),
    };
    let committed = plan.step("commit", commit, &[]);
    let after: [&dyn Named; 1] = [&committed];
    for (index, (_, trash)) in trash.iter().enumerate() {
        let site = &trash.site;
        plan.lock(format!("site {}", site.name), false);
        let platform = records::platform(facts, &site.platform, "")?;
        let remove = RemoveDir {
            web_server: platform.web_server.clone(),
            dir: site.dir.clone(),
            within: format!("{}/sites", platform.root.trim_end_matches('/')),
        };
        plan.step(&format!("remove_dir_{index}"), remove, &after);
        plan.step(&format!("drop_database_{index}"), DropDatabase { site: site.clone() }, &after);
    }
    for (index, backup) in backups.iter().enumerate() {
        plan.lock(format!("site {}", backup.site), true);
        plan.lock(format!("backup {}", backup.name), false);
        let remove = RemoveBackup { name: backup.name.clone(), made_by: backup.task.clone() };
        plan.step(&format!("remove_backup_{index}"), remove, &after);
    }
    Ok(())
}
