//! `delete` and `undelete`: a site into the trash, where it is kept for its hold, and back.

use kedge_engine::builder::PlanBuilder;
use kedge_engine::plan::Plan;
use kedge_engine::workflow::{Facts, FinishedTask, PlanCx, PlanRefusal, Workflow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::backup;
use crate::names::SiteName;
use crate::params::{Hold, parse, schema};
use crate::place::{Place, Store};
use crate::ports::{Compression, SecretRef};
use crate::reach::lock_names;
use crate::records::{self, DeletePolicy, SiteRecord, SiteState, TrashRecord, TrashedBy};
use crate::steps::database::Unfence;
use crate::steps::files::{Publish, TrashDir};
use crate::steps::fingerprint::FingerprintSite;
use crate::steps::hidden::{CheckHidden, OpenHidden};
use crate::steps::preflight::{Becomes, Preflight};
use crate::steps::registered::AskRegistry;
use crate::steps::registry::{CommitDelete, CommitUndelete};
use crate::steps::removal::{LockAccount, Survey};
use crate::steps::vhost::{Disable, GoLive, RemoveVhost, SaveVhost};

/// The workflow that deletes a site.
pub(crate) struct Delete;
/// The workflow that brings it back.
pub(crate) struct Undelete;

/// Parameters of `delete`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// The site, which has to be disabled.
    site: SiteName,
    /// Count missing pieces as done, and list them; without a backup, since it may be impossible.
    #[serde(default)]
    force: bool,
    /// How long files and database are kept and the site can be brought back.
    #[serde(default)]
    hold: Hold,
}

/// Parameters of `undelete`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct UndeleteParams {
    /// The deleted site.
    site: SiteName,
}

impl Workflow for Delete {
    fn name(&self) -> &'static str {
        "delete"
    }

    fn title(&self) -> &'static str {
        "Delete a disabled site; its files and database are kept for a while."
    }

    fn schema(&self) -> Value {
        schema::<Params>()
    }

    fn example(&self) -> Value {
        json!({ "site": "closed.example.test", "hold": "7d" })
    }

    fn plan(&self, params: &Value, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        let params: Params = parse(params)?;
        if cx.facts.record(records::SITE, params.site.as_str())?.is_none()
            && let Some((task, _)) = newest_deleted(cx.facts, &params.site)?
        {
            return Err(PlanRefusal::Nothing(format!(
                "{} is deleted already, by {task}: it is in the trash, from where undelete brings it back",
                params.site
            )));
        }
        let record = records::site(cx.facts, &params.site, "/site")?;
        let enabled = record.state != SiteState::Disabled;
        let policy: Option<DeletePolicy> = records::find(cx.facts, records::POLICY, "delete")?;
        if enabled && policy.unwrap_or_default().only_disabled {
            return Err(PlanRefusal::Refused(format!("{} is enabled; disable it first", record.name)));
        }
        let platform = records::platform(cx.facts, &record.platform, "/site")?;
        let place = Place::of(&record, &platform, records::host_of(cx.facts, &platform.web_server)?);
        let mut plan = PlanBuilder::new(Some(params.site.as_str()));
        plan.lock(format!("site {}", place.site), false);
        plan.hold(params.hold.0);
        if enabled {
            plan.note("the site is open until it is gone; what visitors change meanwhile is in its trash, and not in the backup");
        }
        let why = Reason { description: "Generated before being deleted".to_owned(), may_be_broken: false };
        delete(&mut plan, cx, &params, why, record, &place);
        Ok(plan.build()?)
    }

    fn undo(&self, finished: &FinishedTask<'_>, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        let gone = || {
            PlanRefusal::Refused("the site is not in the trash any more: nothing to bring back".to_owned())
        };
        let trash = records::find(cx.facts, records::TRASH, finished.task.as_str())?.ok_or_else(gone)?;
        undelete(cx, finished.task.as_str(), &trash)
    }
}

/// Why a site goes.
struct Reason {
    /// What its backup says.
    description: String,
    /// It may be broken, or never have been installed: also what failed can be taken back.
    may_be_broken: bool,
}

fn delete(
    plan: &mut PlanBuilder,
    cx: &PlanCx<'_>,
    params: &Params,
    why: Reason,
    record: SiteRecord,
    place: &Place,
) {
    let (store, trash) = (Store::of(&record), place.trash(cx.task.as_str()));
    let state = record.state;
    let commit = |found, surveyed| CommitDelete {
        record,
        trash: trash.clone(),
        hold_ms: params.hold.0,
        found,
        surveyed,
    };
    let (saved, committed) = if params.force {
        let ask = AskRegistry { place: place.clone(), store: store.clone(), state: Some(state), to: None };
        let asked = plan.step("ask_registry", ask, &[]);
        let survey = Survey { place: place.clone(), store: store.clone() };
        let surveyed = plan.step("survey", survey, &[&asked]);
        let saved = plan.step("save_vhost", SaveVhost { place: place.clone() }, &[&surveyed]);
        let committed = plan.step("commit", commit(None, Some(surveyed.clone())), &[&saved]);
        (saved, committed)
    } else {
        let proof = FingerprintSite {
            places: vec![place.clone()],
            passing: vec![(place.web_server.clone(), trash.clone())],
            stores: vec![(store.clone(), place.clone())],
            platforms: Vec::new(),
        };
        plan.fingerprint(&proof, proof.resources());
        let preflight = Preflight {
            from: Some((place.clone(), store.clone())),
            to: None,
            to_server: None,
            backup: true,
            expects: None,
            warnings_stop: false,
            may_be_broken: why.may_be_broken,
            replaces: None,
            state: Some(state),
            becomes: Becomes::Deleted,
        };
        let found = plan.step("preflight", preflight, &[]);
        let request = backup::Request {
            description: why.description,
            compression: Compression::Zstd,
            exclude: Vec::new(),
        };
        let backed_up = plan.scope("backup", |plan| backup::steps(plan, cx, place, &store, request, &found));
        let saved = plan.step("save_vhost", SaveVhost { place: place.clone() }, &[&found]);
        let committed = plan.step("commit", commit(Some(found), None), &[&saved, &backed_up]);
        (saved, committed)
    };
    let removed = plan.step("remove_vhost", RemoveVhost { place: place.clone(), saved }, &[&committed]);
    // Not before visitors are gone: a site that is taken back is open until then.
    plan.step("lock_account", LockAccount { store }, &[&removed]);
    let to_trash = TrashDir { place: place.clone(), may_be_missing: params.force };
    plan.step("trash_dir", to_trash, &[&removed]);
}

impl Workflow for Undelete {
    fn name(&self) -> &'static str {
        "undelete"
    }

    fn title(&self) -> &'static str {
        "Bring a deleted site back from the trash, disabled or open as it was."
    }

    fn schema(&self) -> Value {
        schema::<UndeleteParams>()
    }

    fn example(&self) -> Value {
        json!({ "site": "deleted.example.test" })
    }

    fn plan(&self, params: &Value, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        let params: UndeleteParams = parse(params)?;
        let newest = newest_deleted(cx.facts, &params.site)?;
        let (task, trash) = newest.ok_or_else(|| {
            PlanRefusal::param("/site", format!("no deleted site {} is in the trash", params.site))
        })?;
        undelete(cx, &task, &trash)
    }
}

/// The site of this name that was deleted last and is in the trash, with the task that put it there.
fn newest_deleted(facts: &dyn Facts, site: &SiteName) -> Result<Option<(String, TrashRecord)>, PlanRefusal> {
    let mut newest: Option<(String, TrashRecord)> = None;
    for (task, value) in facts.records(records::TRASH)? {
        let Ok(trash) = serde_json::from_value::<TrashRecord>(value) else {
            return Err(PlanRefusal::Refused(format!("the trash record of {task} does not read")));
        };
        let fits = trash.why == TrashedBy::Delete && trash.site.name == *site;
        if fits && newest.as_ref().is_none_or(|(_, other)| other.until < trash.until) {
            newest = Some((task, trash));
        }
    }
    Ok(newest)
}

/// The plan that takes back what has made a site: the site goes to the trash, as if it were deleted, and is kept there.
///
/// # Errors
/// When it is gone, or another task has put it where it is since.
pub(crate) fn unmade(task: &str, site: &SiteName, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
    let record = records::site_put_there_by(task, cx.facts, site)?;
    let platform = records::platform(cx.facts, &record.platform, "")?;
    let place = Place::of(&record, &platform, records::host_of(cx.facts, &platform.web_server)?);
    let mut plan = PlanBuilder::new(Some(site.as_str()));
    plan.lock(format!("site {site}"), false);
    let params = Params { site: site.clone(), force: false, hold: Hold::default() };
    plan.note("the site goes to the trash: `undelete` brings it back within its hold");
    let why = Reason { description: format!("Generated before {task} was taken back"), may_be_broken: true };
    delete(&mut plan, cx, &params, why, record, &place);
    Ok(plan.build()?)
}

/// The plan that brings a deleted site back.
fn undelete(cx: &PlanCx<'_>, task: &str, trash: &TrashRecord) -> Result<Plan, PlanRefusal> {
    let (facts, name) = (cx.facts, &trash.site.name);
    if facts.record(records::SITE, name.as_str())?.is_some() {
        return Err(PlanRefusal::Refused(format!("there is a site {name} again; delete or rename it first")));
    }
    let platform = records::platform(facts, &trash.site.platform, "")?;
    let host = records::host_of(facts, &platform.web_server)?;
    let place = Place {
        aliases: trash.site.aliases.clone(),
        reach: trash.site.reach.clone(),
        quiet: trash.site.quiet,
        ..Place::on(name, &trash.site.platform, &platform, host)
    };
    records::names_came_free(facts, &place.all_names(), None)?;
    let (store, waits) = (Store::of(&trash.site), trash.site.dir.clone());
    let mut plan = PlanBuilder::new(Some(name.as_str()));
    lock_names(&mut plan, &place.all_names());
    plan.lock(format!("platform {}", place.platform), true);
    let proof = FingerprintSite {
        places: vec![place.clone()],
        passing: vec![(place.web_server.clone(), waits.clone())],
        stores: vec![(store.clone(), place.clone())],
        platforms: Vec::new(),
    };
    plan.fingerprint(&proof, proof.resources());
    let preflight = Preflight {
        from: None,
        to: Some(place.clone()),
        to_server: Some(store.server.clone()),
        backup: false,
        expects: Some((place.web_server.clone(), waits.clone())),
        warnings_stop: false,
        may_be_broken: false,
        replaces: None,
        state: None,
        becomes: Becomes::Kept,
    };
    let found = plan.step("preflight", preflight, &[]);
    let publish = Publish { to: place.clone(), from_dir: waits };
    let published = plan.step("publish", publish, &[&found]);
    let unlocked = plan.step("unfence", Unfence { store, stay: trash.locked_at.clone() }, &[&published]);
    let record = SiteRecord { dir: place.dir.clone(), ..trash.site.clone() };
    let commit = CommitUndelete { record, deleted_by: task.to_owned() };
    if trash.site.state == SiteState::Disabled {
        let saved = plan.step("save_vhost", SaveVhost { place: place.clone() }, &[&found]);
        let shown = plan.step("disable", Disable { place, saved }, &[&unlocked]);
        plan.step("commit", commit, &[&shown]);
        return Ok(plan.build()?);
    }
    // It was open, as the policy let it: it is asked for its pages before visitors are let in.
    let bypass = SecretRef(format!("bypass/{}", cx.task));
    let hidden =
        OpenHidden { to: place.clone(), over: None, bypass: bypass.clone(), redirect: None, gives: None };
    let hidden = plan.step("open_hidden", hidden, &[&unlocked]);
    let checked =
        plan.step("check_hidden", CheckHidden { to: place.clone(), bypass: bypass.clone() }, &[&hidden]);
    let committed = plan.step("commit", commit, &[&checked]);
    plan.step("go_live", GoLive { to: place, bypass, disabled: false }, &[&committed]);
    Ok(plan.build()?)
}
