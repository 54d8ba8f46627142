//! `verify`: a site, a platform or a server is looked at; what is wrong is put right, and nothing else is touched. What differs is in the
//! task's result; with `check_only` that is all that happens.

use kedge_engine::builder::{Named, PlanBuilder};
use kedge_engine::plan::Plan;
use kedge_engine::task::Millis;
use kedge_engine::workflow::{PlanCx, PlanRefusal, Workflow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::names::SiteName;
use crate::params::{parse, schema};
use crate::place::{Place, Store};
use crate::records::{self, SiteRecord};
use crate::steps::certificate;
use crate::steps::fingerprint::FingerprintSite;
use crate::steps::repair::{DropKept, GiveFiles, RepairAccess, RepairSettings, RepairVhost};
use crate::steps::servers::{
    LookAtDatabaseServer, LookAtPlatform, LookAtWebServer, PlatformAt, RefreshPlatform,
};
use crate::steps::verify::{CheckPages, CommitVerify, LookAtSite, Reached, TellDrift};
use crate::steps::vhost::SaveVhost;

/// Most sites of a platform that a look at it knows by name.
const MAX_KNOWN: usize = 5000;

/// The workflow.
pub(crate) struct Verify;

/// Parameters of `verify`: one of site, platform and server.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// The site.
    #[serde(default)]
    site: Option<SiteName>,
    /// The platform.
    #[serde(default)]
    platform: Option<String>,
    /// The web or database server.
    #[serde(default)]
    server: Option<String>,
    /// Only look, and tell what differs.
    #[serde(default)]
    check_only: bool,
    /// Replace a vhost that was changed by hand as well; otherwise it is told and left as it is.
    #[serde(default)]
    overwrite: bool,
}

impl Workflow for Verify {
    fn name(&self) -> &'static str {
        "verify"
    }

    fn title(&self) -> &'static str {
        "Look whether a site, a platform or a server is as it should be, and put right what is not."
    }

    fn schema(&self) -> Value {
        schema::<Params>()
    }

    fn example(&self) -> Value {
        json!({ "site": "shop.example.test" })
    }

    fn plan(&self, params: &Value, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        let params: Params = parse(params)?;
        match (&params.site, &params.platform, &params.server) {
            (Some(site), None, None) => self::site(&params, site, cx),
            (None, Some(platform), None) => self::platform(&params, platform, cx),
            (None, None, Some(server)) => self::server(server, cx),
            _ => Err(PlanRefusal::param("", "name one of site, platform and server")),
        }
    }
}

fn site(params: &Params, name: &SiteName, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
    let record = records::site(cx.facts, name, "/site")?;
    let mut plan = PlanBuilder::new(Some(name.as_str()));
    plan.lock(format!("site {name}"), params.check_only);
    plan.note("what differs is found by looking: with check_only a task looks, changes nothing, and tells it in its result");
    repair(&mut plan, params, cx, None, record)?;
    Ok(plan.build()?)
}

/// The plan that makes a site as `record` says, where it was as `was` says: only how it is reached differs. With a hold it can be undone.
pub(crate) fn configured(
    cx: &PlanCx<'_>,
    was: &SiteRecord,
    record: SiteRecord,
    hold_ms: Option<Millis>,
) -> Result<Plan, PlanRefusal> {
    let mut plan = PlanBuilder::new(Some(record.name.as_str()));
    if let Some(hold_ms) = hold_ms {
        plan.hold(hold_ms);
    }
    plan.lock(format!("site {}", record.name), false);
    for alias in record.aliases.iter().filter(|alias| !was.aliases.contains(alias)) {
        // Another task that wants the name waits, and is told.
        plan.lock(format!("site {alias}"), false);
    }
    let params = Params { site: None, platform: None, server: None, check_only: false, overwrite: false };
    repair(&mut plan, &params, cx, Some(was), record)?;
    Ok(plan.build()?)
}

fn repair(
    plan: &mut PlanBuilder,
    params: &Params,
    cx: &PlanCx<'_>,
    was: Option<&SiteRecord>,
    record: SiteRecord,
) -> Result<(), PlanRefusal> {
    let platform = records::platform(cx.facts, &record.platform, "/site")?;
    let place = Place::of(&record, &platform, records::host_of(cx.facts, &platform.web_server)?);
    let (store, state) = (Store::of(&record), record.state);
    let before =
        was.map(|was| Place::of(was, &platform, place.host.clone())).filter(|before| *before != place);
    let look = LookAtSite { place: place.clone(), store: store.clone(), state, was: before };
    let drift = plan.step("look", look, &[]);
    let tell = TellDrift { place: place.clone(), drift: drift.clone(), overwrite: params.overwrite };
    let told = plan.step("tell", tell, &[]);
    if params.check_only {
        return Ok(());
    }
    let proof = FingerprintSite {
        places: vec![place.clone()],
        passing: vec![(place.web_server.clone(), place.stage(cx.task.as_str()))],
        stores: Vec::new(),
        platforms: Vec::new(),
    };
    plan.fingerprint(&proof, proof.resources());
    let saved = plan.step("save_vhost", SaveVhost { place: place.clone() }, &[&told]);
    let give = GiveFiles { place: place.clone(), drift: drift.clone() };
    let given = plan.step("give_files", give, &[&told]);
    let repair = RepairSettings { place: place.clone(), store, drift: drift.clone() };
    let settings = plan.step("repair_settings", repair, &[&given]);
    // Modes and owners are nobody's question where only names are, and an undo would not bring wrong ones back.
    let access = was.is_none().then(|| {
        let repair = RepairAccess { place: place.clone(), drift: drift.clone() };
        plan.step("repair_access", repair, &[&settings])
    });
    let mut ready: Vec<&dyn Named> = vec![&settings];
    ready.extend(access.iter().map(|step| step as &dyn Named));
    let certificate = certificate::ensured(plan, &place, &told);
    ready.extend(certificate.iter().map(|step| step as &dyn Named));
    let repair = RepairVhost { place: place.clone(), state, drift, saved, overwrite: params.overwrite };
    let vhost = plan.step("repair_vhost", repair, &ready);
    let checked = plan.step("check_pages", CheckPages { place: place.clone(), state }, &[&vhost]);
    let committed = plan.step("commit", CommitVerify { record, reached: was.map(Reached::of) }, &[&checked]);
    plan.step("drop_kept", DropKept { place }, &[&committed]);
    Ok(())
}

fn platform(params: &Params, name: &str, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
    let platform = records::platform(cx.facts, name, "/platform")?;
    let mut known = Vec::new();
    for (site, value) in cx.facts.records(records::SITE)? {
        let record: Option<SiteRecord> = serde_json::from_value(value).ok();
        known.extend(record.filter(|record| record.platform == name).map(|record| record.dir));
        if known.len() > MAX_KNOWN {
            return Err(PlanRefusal::Refused(format!(
                "{name} has more than {MAX_KNOWN} sites, {site} among them"
            )));
        }
    }
    let platform = PlatformAt {
        name: name.to_owned(),
        web_server: platform.web_server,
        root: platform.root.trim_end_matches('/').to_owned(),
        app: platform.app,
    };
    let mut plan = PlanBuilder::new(None);
    plan.lock(format!("platform {name}"), params.check_only);
    let look = LookAtPlatform { platform: platform.clone(), known };
    let seen = plan.step("look", look, &[]);
    if !params.check_only {
        plan.step("refresh_platform", RefreshPlatform { platform, seen }, &[]);
    }
    Ok(plan.build()?)
}

fn server(name: &str, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
    let mut plan = PlanBuilder::new(None);
    let web = cx.facts.record(records::WEB_SERVER, name)?.is_some();
    let database = cx.facts.record(records::DATABASE_SERVER, name)?.is_some();
    if web {
        plan.step("look_at_web_server", LookAtWebServer { name: name.to_owned() }, &[]);
    }
    if database {
        plan.step("look_at_database_server", LookAtDatabaseServer { name: name.to_owned() }, &[]);
    }
    if !web && !database {
        let servers = [cx.facts.records(records::WEB_SERVER)?, cx.facts.records(records::DATABASE_SERVER)?];
        let names: Vec<String> = servers.into_iter().flatten().map(|(name, _)| name).take(20).collect();
        let detail = format!("there is no such server; there are: {}", names.join(", "));
        return Err(PlanRefusal::param("/server", detail));
    }
    Ok(plan.build()?)
}
