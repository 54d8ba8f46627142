//! `migrate_platform`: all sites of a platform to another one, each by a `migrate` of its own: some of them first, so many at once, and
//! nothing new after so many failures.

use kedge_engine::builder::{Named, PlanBuilder};
use kedge_engine::plan::{MAX_STEPS, Plan};
use kedge_engine::step::Ref;
use kedge_engine::workflow::{FinishedTask, PlanCx, PlanRefusal, Workflow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::names::SiteName;
use crate::params::{Hold, parse, schema};
use crate::records::{self, SITE, SiteRecord, SiteState};
use crate::steps::batch::{CountSites, MoveSite, MoveSiteBack, SiteDone, SiteEnd, StopLoss};

/// Most sites of one task: a step each, and a few to spare.
const MAX_SITES: usize = MAX_STEPS - 12;
/// Sites at once when nobody says otherwise.
const PARALLEL: usize = 2;
/// Most sites at once: their copies share the disks of one or two hosts.
const MAX_PARALLEL: usize = 32;
/// Longest part of a site's name in a step's.
const MAX_STEP_NAME: usize = 58;

/// The workflow.
pub(crate) struct MigratePlatform;

/// Parameters of `migrate_platform`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// The platform whose sites move.
    platform: String,
    /// The platform they move to.
    target_platform: String,
    /// Only these sites; all that are enabled by default.
    #[serde(default)]
    #[schemars(length(max = 500))]
    sites: Vec<SiteName>,
    /// How many move at once: 2 by default.
    #[serde(default)]
    #[schemars(range(min = 1, max = 32))]
    max_parallel: Option<usize>,
    /// Who goes first, and has to arrive before any other sets out: the name of a site, or a number of sites; 1 by default.
    #[serde(default)]
    canary: Canary,
    /// After so many failures nothing new is begun: 1 by default.
    #[serde(default)]
    #[schemars(range(min = 1))]
    stop_after_failures: Option<u32>,
    /// Go on although a site's plan has warnings.
    #[serde(default)]
    acknowledge_warnings: bool,
    /// How long the old sides are kept and the moves can be undone.
    #[serde(default)]
    hold: Hold,
}

/// Who goes first.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Canary {
    /// So many, by their names.
    Count(usize),
    /// This site.
    Site(SiteName),
}

impl Default for Canary {
    fn default() -> Self {
        Self::Count(1)
    }
}

impl Workflow for MigratePlatform {
    fn name(&self) -> &'static str {
        "migrate_platform"
    }

    fn title(&self) -> &'static str {
        "Move all sites of a platform to another one."
    }

    fn schema(&self) -> Value {
        schema::<Params>()
    }

    fn example(&self) -> Value {
        json!({ "platform": "wordpress-one", "target_platform": "wordpress-68", "max_parallel": 4, "stop_after_failures": 2 })
    }

    fn plan(&self, params: &Value, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        let params: Params = parse(params)?;
        let old = records::platform(cx.facts, &params.platform, "/platform")?;
        let new = records::platform(cx.facts, &params.target_platform, "/target_platform")?;
        if new.app != old.app {
            return Err(PlanRefusal::param("/target_platform", "it is a platform of another application"));
        }
        if params.platform == params.target_platform {
            return Err(PlanRefusal::param(
                "/target_platform",
                "nothing would change: name another platform",
            ));
        }
        let parallel = params.max_parallel.unwrap_or(PARALLEL);
        if parallel == 0 || parallel > MAX_PARALLEL {
            return Err(PlanRefusal::param("/max_parallel", format!("1 to {MAX_PARALLEL} sites at once")));
        }
        let failures = params.stop_after_failures.unwrap_or(1);
        if failures == 0 {
            return Err(PlanRefusal::param("/stop_after_failures", "at least 1"));
        }
        let mut plan = PlanBuilder::new(None);
        let sites = sites(&mut plan, &params, cx)?;
        let (first, others) = first(sites, &params.canary)?;
        plan.lock(format!("sites of {}", params.platform), false);
        plan.hold(params.hold.0);
        plan.note("each site is a task of its own, which stays done when others fail; a cancel lets those under way end");
        let count = first.len() + others.len();
        let step =
            |plan: &mut PlanBuilder, number: usize, site: &SiteName, canary: bool, after: &[&dyn Named]| {
                let mut move_params = json!({
                    "site": site, "target_platform": params.target_platform, "hold": params.hold,
                });
                if params.acknowledge_warnings {
                    move_params["acknowledge_warnings"] = Value::Bool(true);
                }
                let stop = StopLoss { failures, canary };
                plan.step(
                    &step_name(number, site),
                    MoveSite { site: site.clone(), params: move_params, stop },
                    after,
                )
            };
        let mut steps: Vec<Ref<SiteDone>> = Vec::new();
        for (number, site) in first.iter().enumerate() {
            let before: Vec<&dyn Named> =
                number.checked_sub(parallel).map(|at| &steps[at] as &dyn Named).into_iter().collect();
            let added = step(&mut plan, number, site, true, &before);
            steps.push(added);
        }
        for (number, site) in (first.len()..).zip(&others) {
            let lane = number.checked_sub(parallel).filter(|at| *at >= first.len());
            let before: Vec<&dyn Named> = match lane {
                Some(at) => vec![&steps[at]],
                None => steps[..first.len()].iter().map(|step| step as &dyn Named).collect(),
            };
            let added = step(&mut plan, number, site, false, &before);
            steps.push(added);
        }
        let all: Vec<&dyn Named> = steps.iter().map(|step| step as &dyn Named).collect();
        plan.step("count", CountSites { of: count }, &all);
        Ok(plan.build()?)
    }

    fn undo(&self, finished: &FinishedTask<'_>, _: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        let params: Params = parse(finished.params)?;
        let parallel = params.max_parallel.unwrap_or(PARALLEL);
        let outputs = finished.plan.steps().filter_map(|(_, step)| finished.outputs.get(&step.name));
        let ends = outputs.filter_map(|output| SiteDone::deserialize(&**output).ok());
        let moved: Vec<(SiteName, kedge_engine::task::TaskId)> = ends
            .filter(|end| end.end == SiteEnd::Done)
            .filter_map(|end| Some((end.site, end.task?)))
            .collect();
        let mut plan = PlanBuilder::new(None);
        plan.lock(format!("sites of {}", params.platform), false);
        plan.note("what visitors have changed since then stays in the backups of these undos only");
        let mut steps: Vec<Ref<SiteDone>> = Vec::new();
        for (number, (site, task)) in moved.iter().enumerate() {
            let before: Vec<&dyn Named> =
                number.checked_sub(parallel).map(|at| &steps[at] as &dyn Named).into_iter().collect();
            let back = MoveSiteBack { site: site.clone(), task: task.clone() };
            let added = plan.step(&step_name(number, site), back, &before);
            steps.push(added);
        }
        let all: Vec<&dyn Named> = steps.iter().map(|step| step as &dyn Named).collect();
        plan.step("count", CountSites { of: moved.len() }, &all);
        Ok(plan.build()?)
    }
}

/// The sites that move, by name.
fn sites(plan: &mut PlanBuilder, params: &Params, cx: &PlanCx<'_>) -> Result<Vec<SiteName>, PlanRefusal> {
    let mut there = Vec::new();
    for (name, value) in cx.facts.records(SITE)? {
        let record: SiteRecord = serde_json::from_value(value).map_err(|error| {
            PlanRefusal::Refused(format!("the site record of {name} does not read: {error}"))
        })?;
        if record.platform == params.platform {
            there.push(record);
        }
    }
    for (index, site) in params.sites.iter().enumerate() {
        let pointer = format!("/sites/{index}");
        match there.iter().find(|record| record.name == *site) {
            None => return Err(PlanRefusal::param(pointer, format!("it is not on {}", params.platform))),
            Some(record) if record.state == SiteState::Disabled => {
                return Err(PlanRefusal::param(pointer, "it is disabled; enable it first"));
            }
            Some(_) if params.sites[..index].contains(site) => {
                return Err(PlanRefusal::param(pointer, "the site is given twice"));
            }
            Some(_) => {}
        }
    }
    if !params.sites.is_empty() {
        there.retain(|record| params.sites.contains(&record.name));
    }
    let (disabled, sites): (Vec<_>, Vec<_>) =
        there.into_iter().partition(|record| record.state == SiteState::Disabled);
    for record in disabled.iter().take(20) {
        plan.note(format!("{} is disabled, and stays where it is", record.name));
    }
    if sites.is_empty() {
        return Err(PlanRefusal::Refused(format!("no enabled site is on {}", params.platform)));
    }
    if sites.len() > MAX_SITES {
        let (count, platform) = (sites.len(), &params.platform);
        return Err(PlanRefusal::Refused(format!(
            "{count} sites are on {platform}, and one task moves {MAX_SITES} at most: name some of them in sites"
        )));
    }
    Ok(sites.into_iter().map(|record| record.name).collect())
}

/// Who goes first, and who follows.
fn first(mut sites: Vec<SiteName>, canary: &Canary) -> Result<(Vec<SiteName>, Vec<SiteName>), PlanRefusal> {
    match canary {
        Canary::Count(count) => {
            let others = sites.split_off((*count).min(sites.len()));
            Ok((sites, others))
        }
        Canary::Site(name) => {
            let at = sites.iter().position(|site| site == name);
            let at =
                at.ok_or_else(|| PlanRefusal::param("/canary", "it is not one of the sites that move"))?;
            let first = sites.remove(at);
            Ok((vec![first], sites))
        }
    }
}

fn step_name(number: usize, site: &SiteName) -> String {
    let site = site.as_str();
    if site.len() <= MAX_STEP_NAME {
        return site.to_owned();
    }
    format!("{}-{number}", &site[..MAX_STEP_NAME])
}
