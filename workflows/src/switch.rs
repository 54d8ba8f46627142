//! `disable` and `enable`: whether visitors are served. Files and database stay as they are.

use kedge_engine::builder::PlanBuilder;
use kedge_engine::plan::Plan;
use kedge_engine::step::Ref;
use kedge_engine::task::Millis;
use kedge_engine::workflow::{Facts, FinishedTask, PlanCx, PlanRefusal, Workflow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::backup;
use crate::names::SiteName;
use crate::params::{Hold, parse, schema};
use crate::place::{Place, Store};
use crate::ports::{Compression, SavedFile, SecretRef};
use crate::records::{self, SiteRecord, SiteState};
use crate::steps::fingerprint::FingerprintSite;
use crate::steps::hidden::{CheckHidden, OpenHidden};
use crate::steps::preflight::{Becomes, Found, Preflight};
use crate::steps::registered::AskRegistry;
use crate::steps::registry::CommitState;
use crate::steps::vhost::{Disable as DisableStep, GoLive, SaveVhost};

/// The workflow that closes a site.
pub(crate) struct Disable;
/// The workflow that opens it again.
pub(crate) struct Enable;

/// Parameters of `disable`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DisableParams {
    /// The site.
    site: SiteName,
    /// Close it although it is broken or pieces of it are missing; without a backup, since it may be impossible.
    #[serde(default)]
    force: bool,
}

/// Parameters of `enable`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// The site.
    site: SiteName,
}

impl Workflow for Disable {
    fn name(&self) -> &'static str {
        "disable"
    }

    fn title(&self) -> &'static str {
        "Show visitors of a site the disabled page, after a backup."
    }

    fn schema(&self) -> Value {
        schema::<DisableParams>()
    }

    fn example(&self) -> Value {
        json!({ "site": "shop.example.test" })
    }

    fn plan(&self, params: &Value, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        let params: DisableParams = parse(params)?;
        let (record, place) = site_in(cx.facts, &params.site, SiteState::Enabled)?;
        let mut plan = PlanBuilder::new(Some(params.site.as_str()));
        plan.hold(Hold::default().0);
        if params.force {
            close_anyhow(&mut plan, record, place);
            return Ok(plan.build()?);
        }
        let (found, saved) = begin(&mut plan, &record, &place);
        let request = backup::Request {
            description: "Generated before being disabled".to_owned(),
            compression: Compression::Zstd,
            exclude: Vec::new(),
        };
        let store = Store::of(&record);
        let backed_up = plan.scope("backup", |plan| backup::steps(plan, cx, &place, &store, request, &found));
        let disabled = plan.step("disable", DisableStep { place, saved }, &[&backed_up]);
        plan.step("commit", CommitState { record, state: SiteState::Disabled }, &[&disabled]);
        Ok(plan.build()?)
    }

    fn undo(&self, finished: &FinishedTask<'_>, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        let params: DisableParams = parse(finished.params)?;
        open(&params.site, None, cx)
    }
}

impl Workflow for Enable {
    fn name(&self) -> &'static str {
        "enable"
    }

    fn title(&self) -> &'static str {
        "Open a disabled site again, when its pages answer."
    }

    fn schema(&self) -> Value {
        schema::<Params>()
    }

    fn example(&self) -> Value {
        json!({ "site": "closed.example.test" })
    }

    fn plan(&self, params: &Value, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        let params: Params = parse(params)?;
        open(&params.site, Some(Hold::default().0), cx)
    }

    fn undo(&self, finished: &FinishedTask<'_>, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        let params: Params = parse(finished.params)?;
        let (record, place) = site_in(cx.facts, &params.site, SiteState::Enabled)?;
        let mut plan = PlanBuilder::new(Some(params.site.as_str()));
        // Nothing is deleted by it, and before the enable there was no backup of its own either.
        close_anyhow(&mut plan, record, place);
        Ok(plan.build()?)
    }
}

/// The plan that opens a disabled site, when its pages answer; with a hold it can be undone.
fn open(site: &SiteName, hold_ms: Option<Millis>, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
    let (record, place) = site_in(cx.facts, site, SiteState::Disabled)?;
    let mut plan = PlanBuilder::new(Some(site.as_str()));
    if let Some(hold_ms) = hold_ms {
        plan.hold(hold_ms);
    }
    let (_, saved) = begin(&mut plan, &record, &place);
    let bypass = SecretRef(format!("bypass/{}", cx.task));
    let hidden = OpenHidden {
        to: place.clone(),
        over: None,
        bypass: bypass.clone(),
        redirect: Some(saved),
        gives: None,
    };
    let opened = plan.step("open_hidden", hidden, &[]);
    let check = CheckHidden { to: place.clone(), bypass: bypass.clone() };
    let checked = plan.step("check_hidden", check, &[&opened]);
    let commit = CommitState { record, state: SiteState::Enabled };
    let committed = plan.step("commit", commit, &[&checked]);
    plan.step("go_live", GoLive { to: place, bypass, disabled: false }, &[&committed]);
    Ok(plan.build()?)
}

/// Closes a site of which nothing but its web server is asked for, and the registry, whether it is where it was.
fn close_anyhow(plan: &mut PlanBuilder, record: SiteRecord, place: Place) {
    plan.lock(format!("site {}", place.site), false);
    let proof = FingerprintSite {
        places: vec![place.clone()],
        passing: Vec::new(),
        stores: Vec::new(),
        platforms: Vec::new(),
    };
    plan.fingerprint(&proof, proof.resources());
    let (store, state) = (Store::of(&record), Some(record.state));
    let asked = plan.step("ask_registry", AskRegistry { place: place.clone(), store, state, to: None }, &[]);
    let saved = plan.step("save_vhost", SaveVhost { place: place.clone() }, &[&asked]);
    let disabled = plan.step("disable", DisableStep { place, saved: saved.clone() }, &[&saved]);
    plan.step("commit", CommitState { record, state: SiteState::Disabled }, &[&disabled]);
}

/// The site, which has to be in this state, and its place.
fn site_in(facts: &dyn Facts, name: &SiteName, state: SiteState) -> Result<(SiteRecord, Place), PlanRefusal> {
    let record = records::site(facts, name, "/site")?;
    if record.state != state {
        let is = if record.state == SiteState::Enabled { "enabled" } else { "disabled" };
        return Err(PlanRefusal::Refused(format!("{name} is {is} already")));
    }
    let platform = records::platform(facts, &record.platform, "/site")?;
    let place = Place::of(&record, &platform, records::host_of(facts, &platform.web_server)?);
    Ok((record, place))
}

fn begin(plan: &mut PlanBuilder, record: &SiteRecord, place: &Place) -> (Ref<Found>, Ref<Option<SavedFile>>) {
    plan.lock(format!("site {}", place.site), false);
    let store = Store::of(record);
    let proof = FingerprintSite {
        places: vec![place.clone()],
        passing: Vec::new(),
        stores: vec![(store.clone(), place.clone())],
        platforms: Vec::new(),
    };
    plan.fingerprint(&proof, proof.resources());
    let preflight = Preflight {
        from: Some((place.clone(), store)),
        to: None,
        to_server: None,
        backup: true,
        expects: None,
        warnings_stop: false,
        may_be_broken: false,
        replaces: None,
        state: Some(record.state),
        becomes: Becomes::Kept,
    };
    let found = plan.step("preflight", preflight, &[]);
    let saved = plan.step("save_vhost", SaveVhost { place: place.clone() }, &[&found]);
    (found, saved)
}
