//! `configure`: other names of a site, where they lead, its certificate, whether it reaches anybody. The site stays where it is; its
//! vhost and settings follow.

use kedge_engine::plan::Plan;
use kedge_engine::workflow::{FinishedTask, PlanCx, PlanRefusal, Workflow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::names::SiteName;
use crate::params::{Hold, parse, schema};
use crate::ports::UsualPage;
use crate::reach::{Asked, TlsFrom, aliases_are_free, can_be_quiet, with_www};
use crate::records::{self, SiteRecord};
use crate::steps::verify::{Change, Reached};
use crate::verify;

/// The workflow.
pub(crate) struct Configure;

/// Parameters of `configure`: what is left out stays as it is.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// The site.
    site: SiteName,
    /// All its other host names.
    #[serde(default)]
    #[schemars(length(max = 50))]
    aliases: Option<Vec<SiteName>>,
    /// Add the name with (or without) `www.` to them.
    #[serde(default)]
    www: bool,
    /// The one of its names that visitors of all others are sent to.
    #[serde(default)]
    redirect_to: Option<SiteName>,
    /// Let every name answer by itself again.
    #[serde(default)]
    no_redirect: bool,
    /// Where its certificate comes from.
    #[serde(default)]
    tls: Option<TlsFrom>,
    /// Its certificate and chain on the web server's host: a PEM file.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    certificate: Option<String>,
    /// Its private key there: a PEM file, which Kedge never reads.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    key: Option<String>,
    /// Whether visitors by plain HTTP are sent to HTTPS.
    #[serde(default)]
    https_only: Option<bool>,
    /// Whether it is kept from reaching anybody: no mail, no cron, no requests to others (WordPress, Drupal).
    #[serde(default)]
    quiet: Option<bool>,
    /// Pages that it answers in its own way, where what its application usually answers would not do: every check of the site goes by them.
    /// Those of before are forgotten.
    #[serde(default)]
    #[schemars(length(max = 20))]
    pages: Option<Vec<UsualPage>>,
    /// How long the task can be undone.
    #[serde(default)]
    hold: Hold,
}

impl Workflow for Configure {
    fn name(&self) -> &'static str {
        "configure"
    }

    fn title(&self) -> &'static str {
        "Change a site's other names, where they lead, its certificate, and whether it reaches anybody."
    }

    fn schema(&self) -> Value {
        schema::<Params>()
    }

    fn example(&self) -> Value {
        json!({ "site": "shop.example.test", "www": true, "redirect_to": "www.shop.example.test", "tls": "self_signed", "https_only": true })
    }

    fn plan(&self, params: &Value, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        let params: Params = parse(params)?;
        let was = records::site(cx.facts, &params.site, "/site")?;
        let mut aliases = params.aliases.clone().unwrap_or_else(|| was.aliases.clone());
        if params.www {
            aliases = with_www(&was.name, aliases);
        }
        aliases_are_free(cx.facts, &was.name, &aliases)?;
        if params.no_redirect && params.redirect_to.is_some() {
            return Err(PlanRefusal::param("/no_redirect", "it contradicts redirect_to"));
        }
        let mut now = was.reach.clone();
        // An alias that goes is none to be sent to; who asks for another target is told when that is none either.
        let goes = now.canonical.as_ref().is_some_and(|name| *name != was.name && !aliases.contains(name));
        if params.no_redirect || goes {
            now.canonical = None;
        }
        let asked = Asked {
            tls: params.tls,
            certificate: params.certificate.as_deref(),
            key: params.key.as_deref(),
            https_only: params.https_only,
            redirect_to: params.redirect_to.as_ref(),
            pages: params.pages.as_deref(),
        };
        let reach = asked.reach(&was.name, &aliases, &now)?;
        let quiet = params.quiet.unwrap_or(was.quiet);
        if quiet {
            can_be_quiet(records::platform(cx.facts, &was.platform, "/site")?.app)?;
        }
        let record = SiteRecord { aliases, reach, quiet, changed_at: cx.named_at, ..was.clone() };
        verify::configured(cx, &was, record, Some(params.hold.0))
    }

    fn undo(&self, finished: &FinishedTask<'_>, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        let params: Params = parse(finished.params)?;
        let change = finished.outputs.get("commit").and_then(|output| Option::deserialize(&**output).ok());
        let change: Change = change.flatten().ok_or_else(|| {
            PlanRefusal::Refused(format!("{} has not written down how it was before", finished.task))
        })?;
        let now = records::site(cx.facts, &params.site, "")?;
        if Reached::of(&now) != change.to {
            let why = format!("how {} is reached was changed since; undo that first", now.name);
            return Err(PlanRefusal::Refused(why));
        }
        let Reached { aliases, reach, quiet } = change.from;
        aliases_are_free(cx.facts, &now.name, &aliases)?;
        let record = SiteRecord { aliases, reach, quiet, changed_at: cx.named_at, ..now.clone() };
        verify::configured(cx, &now, record, None)
    }
}
