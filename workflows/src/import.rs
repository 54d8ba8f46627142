//! `import`: a site that Kedge did not make becomes one of its own. It is built anew on a platform from what is there, by the name that
//! it has; what it came from is only read, and waits, closed, where it is.

mod moves;

use kedge_engine::builder::{Named, PlanBuilder};
use kedge_engine::plan::Plan;
use kedge_engine::step::Ref;
use kedge_engine::workflow::{FinishedTask, PlanCx, PlanRefusal, Workflow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::backup;
use crate::install::{database_password, platform_lock, taken_names};
use crate::names::SiteName;
use crate::params::{Hold, parse, schema};
use crate::place::{Names, Place, Store};
use crate::ports::{Compression, FoundSite, Reach, SavedFile, SecretRef, UsualPage};
use crate::reach;
use crate::reach::{Asked, TlsFrom};
use crate::records::{self, SiteState};
use crate::steps::app::{ClearCaches, PreparePlatform, UpdateDatabase, WriteSettings};
use crate::steps::certificate;
use crate::steps::copy_ahead::{Ahead, CopyAhead};
use crate::steps::copy_database::CopyDatabase;
use crate::steps::database::{CreateSchema, CreateUser, Fence, StartEvents, Unfence};
use crate::steps::files::{FixAccess, MakeStage, Publish, TrashDir};
use crate::steps::fingerprint::FingerprintSite;
use crate::steps::found::{FindDatabase, FindSite, LookAtFound};
use crate::steps::hidden::{CheckHidden, OpenHidden};
use crate::steps::import::{CommitGiveBack, CopyFound, FingerprintFound, HandBack, TakeName};
use crate::steps::names::{ReserveNames, Reserved};
use crate::steps::preflight::{Becomes, Found, Preflight};
use crate::steps::registry::CommitInstall;
use crate::steps::vhost::{Close, GoLive, SaveVhost};

/// Longest path: the longest that Linux takes.
const MAX_PATH: usize = 4095;

/// The workflow.
pub(crate) struct Import;

/// Parameters of `import`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// The platform that it will run on. Its host is where the site is.
    platform: String,
    /// The directory that the site is in: with its own settings file.
    #[schemars(length(min = 2, max = 4095))]
    path: String,
    /// The name that it is served by; the last part of the path by default.
    #[serde(default)]
    site: Option<SiteName>,
    /// Other host names that it is served by.
    #[serde(default)]
    #[schemars(length(max = 50))]
    aliases: Vec<SiteName>,
    /// The server that its database is on; the only one by default.
    #[serde(default)]
    database_server: Option<String>,
    /// The one of its names that visitors of all others are sent to.
    #[serde(default)]
    redirect_to: Option<SiteName>,
    /// Where its certificate comes from; without: plain HTTP only, which a site that calls itself HTTPS is not taken to unasked.
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
    /// Whether visitors by plain HTTP are sent to HTTPS, and the site's own address is one of HTTPS: to be said where it is one now.
    #[serde(default)]
    https_only: Option<bool>,
    /// Pages that it answers in its own way, where what its application usually answers would not do.
    #[serde(default)]
    #[schemars(length(max = 20))]
    pages: Option<Vec<UsualPage>>,
    /// Whose it is.
    #[serde(default)]
    #[schemars(length(max = 64))]
    client: Option<String>,
    /// Only look, and tell what is there.
    #[serde(default)]
    check_only: bool,
    /// How long the import can be undone.
    #[serde(default)]
    hold: Hold,
}

impl Workflow for Import {
    fn name(&self) -> &'static str {
        "import"
    }

    fn title(&self) -> &'static str {
        "Make a site that is there already one of Kedge's own."
    }

    fn schema(&self) -> Value {
        schema::<Params>()
    }

    fn example(&self) -> Value {
        json!({
            "platform": "wordpress-61", "path": "/var/www/found.example.test", "site": "found.example.test",
            "aliases": ["www.found.example.test"], "database_server": "db1",
        })
    }

    fn plan(&self, params: &Value, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        let params: Params = parse(params)?;
        let platform = records::platform(cx.facts, &params.platform, "/platform")?;
        let host = records::host_of(cx.facts, &platform.web_server)?;
        let path = path(&params.path, &platform.root)?;
        let site = name(&params, &path)?;
        names_are_free(cx, &site, &params.aliases)?;
        let server = database_server(&params, cx)?;
        let place = Place::on(&site, &params.platform, &platform, host);
        let asked = Asked {
            tls: params.tls,
            certificate: params.certificate.as_deref(),
            key: params.key.as_deref(),
            https_only: params.https_only,
            redirect_to: params.redirect_to.as_ref(),
            pages: params.pages.as_deref(),
        };
        let reach = asked.reach(&site, &params.aliases, &Reach::default())?;
        let to = Place { aliases: params.aliases, reach, ..place };
        let import = Take {
            cx,
            path,
            to,
            server,
            demands_tls: params.tls.is_none(),
            demands_scheme: params.https_only.is_none(),
            check_only: params.check_only,
        };
        let mut plan = PlanBuilder::new(Some(site.as_str()));
        plan.lock(format!("site {site}"), params.check_only);
        let looks = import.look(&mut plan);
        if params.check_only {
            plan.lock(format!("platform {}", params.platform), true);
            return Ok(plan.build()?);
        }
        reach::lock_names(&mut plan, &import.to.aliases);
        let prepared = platform_lock(&mut plan, cx.facts, &params.platform)?;
        plan.hold(params.hold.0);
        plan.note(format!(
            "{} and its database stay where they are, the account locked: remove them yourself",
            import.path
        ));
        plan.note("visitors get a 503 from `take_name` to `go_live`; the result tells for how long");
        let new = import.begin(&mut plan, &looks)?;
        let built = import.build(&mut plan, &looks, &new, prepared);
        import.open(&mut plan, &new.store, params.client, &built);
        Ok(plan.build()?)
    }

    fn undo(&self, finished: &FinishedTask<'_>, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        let params: Params = parse(finished.params)?;
        take_back(finished, &params, cx)
    }
}

/// The directory, as it is used from here on. It must not be where Kedge's own sites are, nor hold them.
fn path(path: &str, root: &str) -> Result<String, PlanRefusal> {
    let bad = |why: &str| Err(PlanRefusal::param("/path", why));
    let path = path.trim_end_matches('/');
    let plain = path.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
    if !path.starts_with('/') || !plain || path.len() > MAX_PATH || path.chars().any(char::is_control) {
        return bad("write the absolute path of a directory, without . and ..");
    }
    let root = root.trim_end_matches('/');
    if path == root || root.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')) {
        return bad(
            "the platform itself is there: make a platform of another copy of the code, and import from here",
        );
    }
    if path.strip_prefix(root).is_some_and(|rest| rest.starts_with("/sites/")) {
        return bad(
            "the platform's own sites are there: move the directory out of sites, and import from there",
        );
    }
    Ok(path.to_owned())
}

fn name(params: &Params, path: &str) -> Result<SiteName, PlanRefusal> {
    if let Some(site) = &params.site {
        return Ok(site.clone());
    }
    let last = path.rsplit('/').next().unwrap_or_default();
    SiteName::parse(last).map_err(|_| {
        PlanRefusal::param("/site", format!("{last:?} is no host name: say by which the site is served"))
    })
}

fn names_are_free(cx: &PlanCx<'_>, site: &SiteName, aliases: &[SiteName]) -> Result<(), PlanRefusal> {
    if let Some(owner) = records::owner_of(cx.facts, site)? {
        return Err(PlanRefusal::Refused(format!("{site} is a name of the site {owner} already")));
    }
    for (index, alias) in aliases.iter().enumerate() {
        let twice = alias == site || aliases[..index].contains(alias);
        if twice || records::owner_of(cx.facts, alias)?.is_some() {
            return Err(PlanRefusal::param(format!("/aliases/{index}"), "the name is in use already"));
        }
    }
    Ok(())
}

fn database_server(params: &Params, cx: &PlanCx<'_>) -> Result<String, PlanRefusal> {
    if let Some(server) = &params.database_server {
        records::database_server(cx.facts, server, "/database_server")?;
        return Ok(server.clone());
    }
    let mut servers = cx.facts.records(records::DATABASE_SERVER)?.into_iter().map(|(name, _)| name);
    match (servers.next(), servers.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(PlanRefusal::Refused("no database server is configured".to_owned())),
        (Some(_), Some(_)) => Err(PlanRefusal::param(
            "/database_server",
            "there are several: say which one the site's database is on",
        )),
    }
}

/// What all parts of the plan need to know.
struct Take<'a> {
    cx: &'a PlanCx<'a>,
    path: String,
    to: Place,
    server: String,
    demands_tls: bool,
    demands_scheme: bool,
    check_only: bool,
}

/// The steps that only look.
struct Looks {
    site: Ref<FoundSite>,
    old: Store,
    found: Ref<Found>,
    saved: Ref<Option<SavedFile>>,
}

/// The new side's database, and its user.
struct New {
    store: Store,
    user: Ref<()>,
}

impl Take<'_> {
    fn look(&self, plan: &mut PlanBuilder) -> Looks {
        let (path, to, server) = (&self.path, &self.to, &self.server);
        let find = FindSite {
            path: path.clone(),
            to: to.clone(),
            demands_tls: self.demands_tls,
            demands_scheme: self.demands_scheme,
            check_only: self.check_only,
        };
        let site = plan.step("find_site", find, &[]);
        let database: Ref<Reserved> =
            plan.step("find_database", FindDatabase { site: site.clone(), server: server.clone() }, &[]);
        // Kedge never knows the password of an account that it did not make: nothing is kept under this name.
        let password = SecretRef(format!("import/{}", self.cx.task));
        let old = Store { server: server.clone(), password, names: Names::Reserved(database) };
        let look = LookAtFound {
            path: path.clone(),
            site: site.clone(),
            old: old.clone(),
            to: to.clone(),
            server: server.clone(),
            undecided: self.check_only && self.demands_tls,
            unsaid: self.demands_tls,
        };
        let found = plan.step("preflight", look, &[]);
        let saved = plan.step("save_vhost", SaveVhost { place: to.clone() }, &[&found]);
        Looks { site, old, found, saved }
    }

    fn begin(&self, plan: &mut PlanBuilder, looks: &Looks) -> Result<New, PlanRefusal> {
        let (path, to, server) = (self.path.clone(), self.to.clone(), self.server.clone());
        let proof = FingerprintFound { path, to, server: server.clone() };
        plan.fingerprint(&proof, proof.resources());
        let taken = taken_names(self.cx.facts, &server)?;
        let reserve = ReserveNames { site: self.to.site.clone(), server: server.clone(), taken };
        let reserved = plan.step("reserve_names", reserve, &[&looks.found, &looks.saved]);
        let store = Store { server, password: database_password(self.cx), names: Names::Reserved(reserved) };
        let site = self.to.site.clone();
        let schema =
            CreateSchema { site: site.clone(), store: store.clone(), found: Some(looks.found.clone()) };
        let schema = plan.step("create_schema", schema, &[]);
        let user = plan.step("create_user", CreateUser { site, store: store.clone() }, &[&schema]);
        Ok(New { store, user })
    }

    fn build(&self, plan: &mut PlanBuilder, looks: &Looks, new: &New, prepared: bool) -> Ref<()> {
        let to = &self.to;
        // The stage is made after the platform is prepared, so that it is gone before that is taken back.
        let mut ready: Vec<&dyn Named> = vec![&looks.found];
        let platform;
        if !prepared {
            let prepare = PreparePlatform { to: to.clone(), found: Some(looks.found.clone()) };
            platform = plan.step("prepare_platform", prepare, &[&looks.found]);
            ready.push(&platform);
        }
        let staged = plan.step("make_stage", MakeStage { to: to.clone() }, &ready);
        let copy = CopyFound { path: self.path.clone(), site: looks.site.clone(), to: to.clone() };
        let copied = plan.step("copy_files", copy.clone(), &[&staged]);
        let ahead = plan.step("copy_ahead", CopyAhead { copy: self.copy(looks, new, None) }, &[&new.user]);
        let take = TakeName { to: to.clone(), saved: looks.saved.clone() };
        // Already the closed vhost names it.
        let certificate = certificate::ensured(plan, to, &copied);
        let mut before: Vec<&dyn Named> = vec![&ahead, &copied];
        before.extend(certificate.as_ref().map(|certificate| certificate as &dyn Named));
        let taken = plan.step("take_name", take, &before);
        let fence = Fence { store: looks.old.clone(), found: looks.found.clone() };
        let fenced = plan.step("fence", fence, &[&taken]);
        let synced = plan.step("sync_files", copy, &[&fenced]);
        let rows = plan.step("copy_database", self.copy(looks, new, Some(ahead)), &[&fenced]);
        let settings = WriteSettings { to: to.clone(), store: new.store.clone(), renews: false };
        let settings = plan.step("write_settings", settings, &[&synced]);
        let access = plan.step("fix_access", FixAccess { to: to.clone() }, &[&settings]);
        let update = UpdateDatabase { to: to.clone(), store: new.store.clone() };
        let updated = plan.step("update_database", update, &[&access, &rows]);
        plan.step("clear_caches", ClearCaches { to: to.clone(), store: new.store.clone() }, &[&updated])
    }

    /// The copy of its database: ahead of the fence, or behind it what was written since.
    fn copy(&self, looks: &Looks, new: &New, ahead: Option<Ref<Ahead>>) -> CopyDatabase {
        let to = &self.to;
        CopyDatabase {
            site: to.site.clone(),
            from: looks.old.clone(),
            to: new.store.clone(),
            rename: None,
            also: Vec::new(),
            moves: moves::moves(&self.path, to),
            fenced: ahead.is_some(),
            ahead,
        }
    }

    fn open(&self, plan: &mut PlanBuilder, store: &Store, client: Option<String>, built: &dyn Named) {
        let to = &self.to;
        let publish = Publish { to: to.clone(), from_dir: to.stage(self.cx.task.as_str()) };
        let published = plan.step("publish", publish, &[built]);
        let bypass = SecretRef(format!("bypass/{}", self.cx.task));
        let hidden = OpenHidden {
            to: to.clone(),
            over: Some(to.clone()),
            bypass: bypass.clone(),
            redirect: None,
            gives: None,
        };
        let opened = plan.step("open_hidden", hidden, &[&published]);
        let check = CheckHidden { to: to.clone(), bypass: bypass.clone() };
        let checked = plan.step("check_hidden", check, &[&opened]);
        let commit = CommitInstall { to: to.clone(), store: store.clone(), client };
        let committed = plan.step("commit", commit, &[&checked]);
        let live = plan.step("go_live", GoLive { to: to.clone(), bypass, disabled: false }, &[&committed]);
        plan.step("start_events", StartEvents { site: to.site.clone(), store: store.clone() }, &[&live]);
    }
}

/// The plan that gives an imported site back to what it came from; what Kedge made goes to the trash.
fn take_back(finished: &FinishedTask<'_>, params: &Params, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
    let output = |step: &str| {
        let output = finished.outputs.get(step);
        output.ok_or_else(|| PlanRefusal::Refused(format!("{} has no output of {step}", finished.task)))
    };
    let bad = |error: serde_json::Error| PlanRefusal::Refused(format!("an output does not read: {error}"));
    let Reserved { schema, user } = Reserved::deserialize(&**output("find_database")?).map_err(bad)?;
    let saved = Option::<SavedFile>::deserialize(&**output("save_vhost")?).map_err(bad)?;
    let looked = Found::deserialize(&**output("preflight")?).map_err(bad)?;
    let site = name(params, params.path.trim_end_matches('/'))?;
    let record = records::site_put_there_by(finished.task.as_str(), cx.facts, &site)?;
    if record.state == SiteState::Disabled {
        return Err(PlanRefusal::Refused(format!("{site} is disabled; enable it first")));
    }
    let platform = records::platform(cx.facts, &record.platform, "")?;
    let place = Place::of(&record, &platform, records::host_of(cx.facts, &platform.web_server)?);
    let (now, trash) = (Store::of(&record), place.trash(cx.task.as_str()));
    let old = Store {
        server: record.database_server.clone(),
        password: SecretRef(format!("import/{}", finished.task)),
        names: Names::Known { schema, user },
    };
    let mut plan = PlanBuilder::new(Some(site.as_str()));
    plan.lock(format!("site {site}"), false);
    plan.lock(format!("platform {}", place.platform), true);
    plan.note("what visitors have changed since the import stays in the backup of this undo only");
    let proof = FingerprintSite {
        places: vec![place.clone()],
        passing: vec![(place.web_server.clone(), trash.clone())],
        stores: vec![(now.clone(), place.clone()), (old.clone(), place.clone())],
        platforms: Vec::new(),
    };
    plan.fingerprint(&proof, proof.resources());
    let preflight = Preflight {
        from: Some((place.clone(), now.clone())),
        to: None,
        to_server: None,
        backup: true,
        expects: Some((place.web_server.clone(), params.path.trim_end_matches('/').to_owned())),
        warnings_stop: false,
        may_be_broken: true,
        replaces: None,
        state: Some(SiteState::Enabled),
        becomes: Becomes::Replaced,
    };
    let found = plan.step("preflight", preflight, &[]);
    let vhost = plan.step("save_vhost", SaveVhost { place: place.clone() }, &[&found]);
    let backed_up = plan.scope("backup", |plan| {
        let description = format!("Generated before {} was taken back", finished.task);
        let request = backup::Request { description, compression: Compression::Zstd, exclude: Vec::new() };
        backup::steps(plan, cx, &place, &now, request, &found)
    });
    let closed =
        plan.step("close", Close { place: place.clone(), saved: vhost, disabled: false }, &[&backed_up]);
    let fenced = plan.step("fence", Fence { store: now, found }, &[&closed]);
    let unlocked = plan.step("unfence", Unfence { store: old, stay: looked.locked_at }, &[&fenced]);
    let commit = CommitGiveBack { record, trash, hold_ms: params.hold.0 };
    let committed = plan.step("commit", commit, &[&unlocked]);
    let back = plan.step("hand_back", HandBack { place: place.clone(), saved }, &[&committed]);
    plan.step("trash_dir", TrashDir { place, may_be_missing: false }, &[&back]);
    Ok(plan.build()?)
}
