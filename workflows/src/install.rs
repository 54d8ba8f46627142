//! `install`: a new site on a platform. Built in a stage directory and an empty database, checked behind a closed vhost, then opened.

use kedge_engine::builder::{Named, PlanBuilder};
use kedge_engine::plan::Plan;
use kedge_engine::step::Ref;
use kedge_engine::workflow::{Facts, FinishedTask, PlanCx, PlanRefusal, Workflow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::delete;
use crate::names::{DatabaseName, SiteName};
use crate::params::{Hold, parse, schema};
use crate::place::{Names, Place, Store};
use crate::ports::{InstallRequest, Reach, SecretRef};
use crate::reach::{Asked, TlsFrom, aliases_are_free, lock_names, with_www};
use crate::records;
use crate::steps::app::{ClearCaches, FillSkeleton, InstallApp, PreparePlatform, WriteSettings};
use crate::steps::certificate;
use crate::steps::database::{CreateSchema, CreateUser};
use crate::steps::files::{FixAccess, MakeStage, Publish};
use crate::steps::fingerprint::FingerprintSite;
use crate::steps::hidden::{CheckHidden, OpenHidden};
use crate::steps::names::ReserveNames;
use crate::steps::preflight::{Becomes, Found, Preflight};
use crate::steps::registry::CommitInstall;
use crate::steps::vhost::GoLive;

/// The workflow.
pub(crate) struct Install;

/// Parameters of `install`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// The new site.
    site: SiteName,
    /// The platform it will run on.
    platform: String,
    /// The database server it will use.
    database_server: String,
    /// Profile or flavour, where the application has them.
    #[serde(default)]
    #[schemars(length(max = 64))]
    profile: Option<String>,
    /// Language, such as `de_DE`.
    #[serde(default)]
    #[schemars(length(max = 16))]
    language: Option<String>,
    /// Title of the site; its name by default.
    #[serde(default)]
    #[schemars(length(max = 200))]
    title: Option<String>,
    /// Other host names it answers to.
    #[serde(default)]
    #[schemars(length(max = 50))]
    aliases: Vec<SiteName>,
    /// Add the name with (or without) `www.` to them.
    #[serde(default)]
    www: bool,
    /// The one of its names that visitors of all others are sent to.
    #[serde(default)]
    redirect_to: Option<SiteName>,
    /// Where its certificate comes from; without: plain HTTP only.
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
    /// Whose it is.
    #[serde(default)]
    #[schemars(length(max = 64))]
    client: Option<String>,
    /// Mail address of the first user.
    #[serde(default)]
    #[schemars(length(max = 254))]
    admin_email: Option<String>,
    /// Whether the application is installed, or its database left empty.
    #[serde(default)]
    method: Method,
}

/// How much is installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Method {
    /// The application, by its profile.
    #[default]
    Profile,
    /// Directory, settings and an empty database.
    Empty,
}

impl Workflow for Install {
    fn name(&self) -> &'static str {
        "install"
    }

    fn title(&self) -> &'static str {
        "Install a new site on a platform."
    }

    fn schema(&self) -> Value {
        schema::<Params>()
    }

    fn example(&self) -> Value {
        json!({ "site": "new.example.test", "platform": "wordpress-61", "database_server": "db1", "title": "New" })
    }

    fn plan(&self, params: &Value, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        let mut params: Params = parse(params)?;
        if params.www {
            params.aliases = with_www(&params.site, params.aliases);
        }
        let platform = records::platform(cx.facts, &params.platform, "/platform")?;
        records::database_server(cx.facts, &params.database_server, "/database_server")?;
        names_are_free(cx.facts, &params)?;
        check_email(params.admin_email.as_deref())?;
        let host = records::host_of(cx.facts, &platform.web_server)?;
        let asked = Asked {
            tls: params.tls,
            certificate: params.certificate.as_deref(),
            key: params.key.as_deref(),
            https_only: params.https_only,
            redirect_to: params.redirect_to.as_ref(),
            pages: None,
        };
        let to = Place {
            aliases: params.aliases.clone(),
            reach: asked.reach(&params.site, &params.aliases, &Reach::default())?,
            ..Place::on(&params.site, &params.platform, &platform, host)
        };
        let mut plan = PlanBuilder::new(Some(params.site.as_str()));
        lock_names(&mut plan, &to.all_names());
        let prepared = platform_lock(&mut plan, cx.facts, &params.platform)?;
        build(&mut plan, cx, &params, &to, prepared)?;
        plan.hold(Hold::default().0);
        Ok(plan.build()?)
    }

    fn undo(&self, finished: &FinishedTask<'_>, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        let params: Params = parse(finished.params)?;
        delete::unmade(finished.task.as_str(), &params.site, cx)
    }
}

fn build(
    plan: &mut PlanBuilder,
    cx: &PlanCx<'_>,
    params: &Params,
    to: &Place,
    prepared: bool,
) -> Result<(), PlanRefusal> {
    let server = params.database_server.clone();
    let found = plan.step(
        "preflight",
        Preflight {
            from: None,
            to: Some(to.clone()),
            to_server: Some(server.clone()),
            backup: false,
            expects: None,
            warnings_stop: false,
            may_be_broken: false,
            replaces: None,
            state: None,
            becomes: Becomes::Kept,
        },
        &[],
    );
    let proof = FingerprintSite {
        places: vec![to.clone()],
        passing: vec![(to.web_server.clone(), to.stage(cx.task.as_str()))],
        stores: Vec::new(),
        platforms: if prepared { Vec::new() } else { vec![to.clone()] },
    };
    plan.fingerprint(&proof, proof.resources());
    let (store, user) = database(plan, cx, params, &found)?;
    // The stage is made after the platform is prepared, so that it is gone before that is taken back.
    let mut before: Vec<Box<dyn Named>> = vec![Box::new(found.clone())];
    if !prepared {
        before.push(Box::new(plan.step(
            "prepare_platform",
            PreparePlatform { to: to.clone(), found: Some(found.clone()) },
            &[&found],
        )));
    }
    let before: Vec<&dyn Named> = before.iter().map(|step| &**step).collect();
    let stage = plan.step("make_stage", MakeStage { to: to.clone() }, &before);
    let filled = plan.step("fill_skeleton", FillSkeleton { to: to.clone() }, &[&stage]);
    let written = plan.step(
        "write_settings",
        WriteSettings { to: to.clone(), store: store.clone(), renews: false },
        &[&filled, &user],
    );
    let accessible = plan.step("fix_access", FixAccess { to: to.clone() }, &[&written]);
    let mut ready = accessible;
    if params.method == Method::Profile {
        let request = InstallRequest {
            title: params.title.clone().unwrap_or_else(|| params.site.to_string()),
            admin_email: params.admin_email.clone().unwrap_or_else(|| format!("admin@{}", params.site)),
            admin_user: "admin".to_owned(),
            admin_password: SecretRef(format!("admin/{}", cx.task)),
            language: params.language.clone(),
            profile: params.profile.clone(),
        };
        let install = InstallApp { to: to.clone(), store: store.clone(), request };
        let installed = plan.step("install_app", install, &[&ready]);
        ready =
            plan.step("clear_caches", ClearCaches { to: to.clone(), store: store.clone() }, &[&installed]);
    }
    open(plan, cx, params, to, store, &ready);
    Ok(())
}

/// The new database and its user.
fn database(
    plan: &mut PlanBuilder,
    cx: &PlanCx<'_>,
    params: &Params,
    found: &Ref<Found>,
) -> Result<(Store, Ref<()>), PlanRefusal> {
    let server = params.database_server.clone();
    let reserved = plan.step(
        "reserve_names",
        ReserveNames {
            site: params.site.clone(),
            server: server.clone(),
            taken: taken_names(cx.facts, &server)?,
        },
        &[found],
    );
    let store = Store { server, password: database_password(cx), names: Names::Reserved(reserved) };
    let schema = plan.step(
        "create_schema",
        CreateSchema { site: params.site.clone(), store: store.clone(), found: None },
        &[],
    );
    let user =
        plan.step("create_user", CreateUser { site: params.site.clone(), store: store.clone() }, &[&schema]);
    Ok((store, user))
}

/// The directory in its place, checked behind a closed vhost; the decision; the doors open.
fn open(
    plan: &mut PlanBuilder,
    cx: &PlanCx<'_>,
    params: &Params,
    to: &Place,
    store: Store,
    ready: &dyn Named,
) {
    let from_dir = to.stage(cx.task.as_str());
    let published = plan.step("publish", Publish { to: to.clone(), from_dir }, &[ready]);
    let bypass = SecretRef(format!("bypass/{}", cx.task));
    let certificate = certificate::ensured(plan, to, &published);
    let ready: Vec<&dyn Named> = match &certificate {
        Some(certificate) => vec![&published, certificate],
        None => vec![&published],
    };
    let mut opened = plan.step(
        "open_hidden",
        OpenHidden { to: to.clone(), over: None, bypass: bypass.clone(), redirect: None, gives: None },
        &ready,
    );
    if params.method == Method::Profile {
        opened =
            plan.step("check_hidden", CheckHidden { to: to.clone(), bypass: bypass.clone() }, &[&opened]);
    }
    let commit = CommitInstall { to: to.clone(), store, client: params.client.clone() };
    let committed = plan.step("commit", commit, &[&opened]);
    plan.step("go_live", GoLive { to: to.clone(), bypass, disabled: false }, &[&committed]);
}

/// An address that no application would take is better refused before anything is built.
fn check_email(address: Option<&str>) -> Result<(), PlanRefusal> {
    let fits = |address: &str| {
        let parts = address.split_once('@');
        let plain = !address.contains(|c: char| c.is_whitespace() || c.is_control() || c == ',');
        plain
            && parts.is_some_and(|(user, host)| !user.is_empty() && host.contains('.') && !host.contains('@'))
    };
    match address {
        Some(address) if !fits(address) => {
            Err(PlanRefusal::param("/admin_email", "write one mail address, such as admin@example.org"))
        }
        _ => Ok(()),
    }
}

fn names_are_free(facts: &dyn Facts, params: &Params) -> Result<(), PlanRefusal> {
    if let Some(there) = records::find::<records::SiteRecord>(facts, records::SITE, params.site.as_str())? {
        return Err(PlanRefusal::Refused(format!(
            "the site {} exists already, on {}",
            params.site, there.platform
        )));
    }
    if let Some(owner) = records::owner_of(facts, &params.site)? {
        return Err(PlanRefusal::param("/site", format!("it is an alias of the site {owner}")));
    }
    aliases_are_free(facts, &params.site, &params.aliases)
}

/// Locks the platform: shared, or for us alone while it is not prepared. Tells whether it is.
pub(crate) fn platform_lock(
    plan: &mut PlanBuilder,
    facts: &dyn Facts,
    platform: &str,
) -> Result<bool, PlanRefusal> {
    let prepared = facts.record(records::PREPARED, platform)?.is_some();
    plan.lock(format!("platform {platform}"), prepared);
    Ok(prepared)
}

/// The database names that other tasks have claimed on a server.
pub(crate) fn taken_names(facts: &dyn Facts, server: &str) -> Result<Vec<DatabaseName>, PlanRefusal> {
    let prefix = format!("{server}/");
    let claims = facts.records(records::DATABASE_NAME)?;
    let names = claims.iter().filter_map(|(claim, _)| claim.strip_prefix(&prefix));
    Ok(names.filter_map(|name| DatabaseName::parse(name).ok()).collect())
}

/// Where the password of a task's new database user is.
pub(crate) fn database_password(cx: &PlanCx<'_>) -> SecretRef {
    SecretRef(format!("{}{}", records::DATABASE_PASSWORDS, cx.task))
}
