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
use crate::records::{self, BackupRecord, SiteRecord, TrashRecord};
use crate::steps::registry::{CommitPurge, GivenUp};
use crate::steps::removal::{DropDatabase, RemoveBackup, RemoveDir};
use crate::steps::staying::Staying;

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
    /// Backups older than this go as well, but for pinned ones and the newest of each site: 30d.
    #[serde(default)]
    older_than: Option<Hold>,
    /// So many of each site's newest backups stay, however old they are; without older_than all others go. 1 by default.
    #[serde(default)]
    #[schemars(range(min = 1))]
    keep: Option<usize>,
    /// This backup goes, whatever its age, by its file name: neither a pinned one nor the newest of its site.
    #[serde(default)]
    #[schemars(length(min = 1, max = 255))]
    backup: Option<String>,
    /// What this task has put into the trash goes, though its hold still runs: the task cannot be undone any more.
    #[serde(default)]
    #[schemars(length(min = 1, max = 80))]
    trash: Option<String>,
}

/// What a purge gives up.
#[derive(Default)]
struct Going {
    trash: Vec<(String, TrashRecord)>,
    backups: Backups,
}

impl Workflow for Purge {
    fn name(&self) -> &'static str {
        "purge"
    }

    fn title(&self) -> &'static str {
        "Give up old sides whose hold is over, and old backups; or the ones that are named."
    }

    fn schema(&self) -> Value {
        schema::<Params>()
    }

    fn example(&self) -> Value {
        json!({ "older_than": "30d" })
    }

    fn plan(&self, params: &Value, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        let params: Params = parse(params)?;
        let named = params.backup.is_some() || params.trash.is_some();
        let Going { trash, backups } = if named { asked_for(&params, cx)? } else { due(&params, cx)? };
        // One platform that is not configured any more must not keep everything else.
        let (mut trash, left): (Vec<_>, Vec<_>) = trash
            .into_iter()
            .partition(|(_, trash)| records::platform(cx.facts, &trash.site.platform, "").is_ok());
        let Backups { going: mut backups, mut staying } = backups;
        if trash.is_empty() && backups.is_empty() {
            return Err(PlanRefusal::Refused("there is nothing to purge: every hold still runs".to_owned()));
        }
        let mut plan = PlanBuilder::new(params.site.as_ref().map(SiteName::as_str));
        for (_, trash) in left {
            let SiteRecord { name, dir, platform, .. } = trash.site;
            plan.note(format!("{dir} of {name} stays: its platform {platform} is not configured any more"));
        }
        for (what, more) in [("old sides", trash.len()), ("backups", backups.len())] {
            if more > MAX_ITEMS {
                plan.note(format!("{} of {more} {what}: purge again for the others", MAX_ITEMS));
            }
        }
        trash.truncate(MAX_ITEMS);
        backups.truncate(MAX_ITEMS);
        // Nothing is asked of a site of which nothing goes this time.
        staying.retain(|stays| backups.iter().any(|goes| goes.site == stays.site));
        purge(&mut plan, cx.facts, &trash, &backups, &staying)?;
        Ok(plan.build()?)
    }
}

/// What is due: by hold, age and number.
fn due(params: &Params, cx: &PlanCx<'_>) -> Result<Going, PlanRefusal> {
    let of_site = |site: &SiteName| params.site.as_ref().is_none_or(|only| only == site);
    let mut trash: Vec<(String, TrashRecord)> = all(cx.facts, records::TRASH)?;
    trash.retain(|(_, trash)| trash.until <= cx.now && of_site(&trash.site.name));
    let before = params.older_than.map(|age| cx.now.saturating_sub(age.0));
    if before.is_none() && params.keep.is_none() {
        return Ok(Going { trash, ..Going::default() });
    }
    // Nobody can ask for none: the newest always stays.
    let keep = params.keep.unwrap_or(1).max(1);
    let all = all::<BackupRecord>(cx.facts, records::BACKUP)?.into_iter().map(|(_, backup)| backup);
    let backups = old_backups(all.filter(|backup| of_site(&backup.site)), before.unwrap_or(u64::MAX), keep);
    Ok(Going { trash, backups })
}

/// What somebody names.
fn asked_for(params: &Params, cx: &PlanCx<'_>) -> Result<Going, PlanRefusal> {
    let also = [
        ("/site", params.site.is_some()),
        ("/older_than", params.older_than.is_some()),
        ("/keep", params.keep.is_some()),
    ];
    if let Some((at, _)) = also.iter().find(|(_, given)| *given) {
        return Err(PlanRefusal::param(*at, "leave it out: what goes is named already"));
    }
    let mut going = Going::default();
    if let Some(task) = &params.trash {
        let found = records::find(cx.facts, records::TRASH, task)?.ok_or_else(|| {
            PlanRefusal::param(
                "/trash",
                "this task has nothing in the trash; `kedge trash` lists what is there",
            )
        })?;
        going.trash.push((task.clone(), found));
    }
    let Some(name) = &params.backup else { return Ok(going) };
    let there: BackupRecord = records::find(cx.facts, records::BACKUP, name)?.ok_or_else(|| {
        PlanRefusal::param("/backup", "there is no backup of this name; `kedge backups` lists them")
    })?;
    if there.pinned {
        return Err(PlanRefusal::param("/backup", "it is pinned; `pin` with pinned=false lets it go"));
    }
    let all = all::<BackupRecord>(cx.facts, records::BACKUP)?.into_iter().map(|(_, backup)| backup);
    going.backups = old_backups(all.filter(|backup| backup.site == there.site), u64::MAX, 1);
    going.backups.going.retain(|backup| backup.name == there.name);
    if going.backups.going.is_empty() {
        let why =
            format!("it is the newest of {}, or the newest that holds all of it, and stays", there.site);
        return Err(PlanRefusal::param("/backup", why));
    }
    Ok(going)
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

/// Backups that go, and those by which each of their sites comes back.
#[derive(Default)]
struct Backups {
    going: Vec<BackupRecord>,
    staying: Vec<Staying>,
}

/// Those made before a time go, but for pinned ones and the newest of each site, so many of them; and as many of those that hold the whole
/// site, since one without its uploads brings no site back.
fn old_backups(all: impl Iterator<Item = BackupRecord>, before: u64, keep: usize) -> Backups {
    let mut of_site: BTreeMap<SiteName, Vec<BackupRecord>> = BTreeMap::new();
    for backup in all {
        of_site.entry(backup.site.clone()).or_default().push(backup);
    }
    let mut found = Backups::default();
    for mut backups in of_site.into_values() {
        backups.sort_by_key(|backup| std::cmp::Reverse(backup.created_at));
        let (mut seen, mut whole) = (0, 0);
        let (newest, others): (Vec<_>, Vec<_>) = backups.into_iter().partition(|backup| {
            seen += 1;
            whole += usize::from(backup.exclude.is_empty());
            seen <= keep || (whole <= keep && backup.exclude.is_empty())
        });
        let going = others.into_iter().filter(|backup| backup.created_at < before && !backup.pinned);
        let count = found.going.len();
        found.going.extend(going);
        if found.going.len() > count {
            found.staying.extend(newest.iter().map(Staying::of));
        }
    }
    found
}

fn purge(
    plan: &mut PlanBuilder,
    facts: &dyn Facts,
    trash: &[(String, TrashRecord)],
    backups: &[BackupRecord],
    staying: &[Staying],
) -> Result<(), PlanRefusal> {
    let commit = CommitPurge {
        tasks: trash.iter().map(|(task, _)| task.clone()).collect(),
        backups: backups.iter().map(|backup| backup.name.clone()).collect(),
        sides: trash.iter().map(|(_, trash)| trash.clone()).collect(),
        staying: staying.to_vec(),
    };
    let committed = plan.step("commit", commit, &[]);
    let after: [&dyn Named; 1] = [&committed];
    for (index, (by, trash)) in trash.iter().enumerate() {
        let site = &trash.site;
        let given_up = Some(GivenUp { by: by.clone(), purged: committed.clone() });
        plan.lock(format!("site {}", site.name), false);
        let platform = records::platform(facts, &site.platform, "")?;
        let remove = RemoveDir {
            web_server: platform.web_server.clone(),
            dir: site.dir.clone(),
            within: format!("{}/sites", platform.root.trim_end_matches('/')),
            given_up: given_up.clone(),
        };
        plan.step(&format!("remove_dir_{index}"), remove, &after);
        let drop = DropDatabase { site: site.clone(), given_up };
        plan.step(&format!("drop_database_{index}"), drop, &after);
    }
    for (index, backup) in backups.iter().enumerate() {
        plan.lock(format!("site {}", backup.site), true);
        plan.lock(format!("backup {}", backup.name), false);
        let remove = RemoveBackup { name: backup.name.clone(), made_by: backup.task.clone() };
        plan.step(&format!("remove_backup_{index}"), remove, &after);
    }
    Ok(())
}
