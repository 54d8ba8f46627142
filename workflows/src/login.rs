//! `login`: a link that logs in to a site, once, as a user of it. It is shown to who asked; the journal has who asked, for whom and until
//! when, never the link.

use kedge_engine::builder::PlanBuilder;
use kedge_engine::plan::Plan;
use kedge_engine::step::Ref;
use kedge_engine::task::TaskId;
use kedge_engine::workflow::{Facts, FinishedTask, PlanCx, PlanRefusal, Workflow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::names::SiteName;
use crate::params::{Hold, parse, schema};
use crate::place::{Place, Store};
use crate::ports::SecretRef;
use crate::records::{self, SiteRecord, SiteState};
use crate::steps::login::{DecideRevoke, MakeLogin, RevokeLogin};
use crate::steps::registered::AskRegistry;

/// How long a link is good when nobody says otherwise: long enough to read a message and click.
const DEFAULT_VALID_MS: u64 = 3_600_000;
/// Longest: whoever gets to see a link later than this should ask for one.
const MAX_VALID_MS: u64 = 24 * 3_600_000;

/// The workflow.
pub(crate) struct Login;

/// Parameters of `login`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// The site.
    site: SiteName,
    /// Whom it logs in: name, mail address or number of a user; the first administrator by default.
    #[serde(default)]
    #[schemars(length(min = 1, max = 200))]
    user: Option<String>,
    /// A mail address that gets the link, where the configuration sends mail to its domain.
    #[serde(default)]
    #[schemars(length(min = 3, max = 200))]
    mail_to: Option<String>,
    /// How long the link is good: 15m, 1h (the default), at most 24h.
    #[serde(default)]
    valid_for: Option<Hold>,
}

/// Where the link of a task is kept, while it is good.
#[must_use]
pub fn login_secret(task: &TaskId) -> SecretRef {
    SecretRef(format!("login/{task}"))
}

impl Workflow for Login {
    fn name(&self) -> &'static str {
        "login"
    }

    fn title(&self) -> &'static str {
        "Make a link that logs in to a site, once."
    }

    fn schema(&self) -> Value {
        schema::<Params>()
    }

    fn example(&self) -> Value {
        json!({ "site": "shop.example.test", "valid_for": "15m" })
    }

    fn plan(&self, params: &Value, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        let params: Params = parse(params)?;
        let valid_ms = params.valid_for.map_or(DEFAULT_VALID_MS, |valid| valid.0);
        if valid_ms == 0 || valid_ms > MAX_VALID_MS {
            return Err(PlanRefusal::param("/valid_for", "a link is good for 1m to 24h"));
        }
        if params.user.as_ref().is_some_and(|user| user.chars().any(char::is_control)) {
            return Err(PlanRefusal::param("/user", "no user has control characters in its name"));
        }
        if params
            .mail_to
            .as_ref()
            .is_some_and(|to| !to.contains('@') || to.chars().any(|c| c.is_control() || c.is_whitespace()))
        {
            return Err(PlanRefusal::param("/mail_to", "is no mail address"));
        }
        let (record, place) = site(cx.facts, &params.site)?;
        if record.state != SiteState::Enabled {
            let name = &params.site;
            return Err(PlanRefusal::Refused(format!(
                "{name} is disabled: nobody can log in; enable it first"
            )));
        }
        let store = Store::of(&record);
        let mut plan = PlanBuilder::new(Some(params.site.as_str()));
        plan.lock(format!("site {}", params.site), true);
        plan.hold(valid_ms);
        let link = login_secret(cx.task);
        let asked = asked(&mut plan, &place, &store, Some(record.state));
        plan.step("make_link", MakeLogin { place, store, user: params.user, link, valid_ms }, &[&asked]);
        Ok(plan.build()?)
    }

    fn undo(&self, finished: &FinishedTask<'_>, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        let params: Params = parse(finished.params)?;
        let (record, place) = site(cx.facts, &params.site)?;
        let store = Store::of(&record);
        let mut plan = PlanBuilder::new(Some(params.site.as_str()));
        plan.lock(format!("site {}", params.site), true);
        let link = login_secret(finished.task);
        // A disabled site has its links too.
        let asked = asked(&mut plan, &place, &store, None);
        let decided = plan.step("decide", DecideRevoke { site: params.site }, &[&asked]);
        plan.step("revoke_link", RevokeLogin { place, store, link }, &[&decided]);
        Ok(plan.build()?)
    }
}

/// The site has to be where it was: behind the decision to take a link back nobody could turn to where it is now.
fn asked(plan: &mut PlanBuilder, place: &Place, store: &Store, state: Option<SiteState>) -> Ref<()> {
    let ask = AskRegistry { place: place.clone(), store: store.clone(), state, to: None };
    plan.step("ask_registry", ask, &[])
}

fn site(facts: &dyn Facts, name: &SiteName) -> Result<(SiteRecord, Place), PlanRefusal> {
    let record = records::site(facts, name, "/site")?;
    let platform = records::platform(facts, &record.platform, "/site")?;
    let place = Place::of(&record, &platform, records::host_of(facts, &platform.web_server)?);
    Ok((record, place))
}
