//! `clone`: a copy of a site under another name, on the same platform or another. The original stays up and is only read.

mod over;

use kedge_engine::builder::{Named, PlanBuilder};
use kedge_engine::plan::Plan;
use kedge_engine::step::Ref;
use kedge_engine::workflow::{FinishedTask, PlanCx, PlanRefusal, Workflow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::delete;
use crate::install::{database_password, platform_lock, taken_names};
use crate::migrate::take_back;
use crate::names::SiteName;
use crate::params::{Hold, parse, schema};
use crate::place::{Names, Place, Store};
use crate::ports::{Reach, SecretRef};
use crate::reach::{aliases_are_free, can_be_quiet, can_be_sanitized, lock_names};
use crate::records::{self, SiteRecord};
use crate::renaming;
use crate::steps::app::{ClearCaches, PreparePlatform, SanitizeCopy, UpdateDatabase, WriteSettings};
use crate::steps::copy_database::CopyDatabase;
use crate::steps::database::{CreateSchema, CreateUser, StartEvents};
use crate::steps::files::{CopyFiles, FixAccess, MakeStage, Publish};
use crate::steps::fingerprint::FingerprintSite;
use crate::steps::hidden::{CheckHidden, OpenHidden};
use crate::steps::names::ReserveNames;
use crate::steps::preflight::{Becomes, Found, Preflight};
use crate::steps::registry::CommitClone;
use crate::steps::vhost::GoLive;

/// The workflow.
pub(crate) struct Clone;

/// Parameters of `clone`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// The original.
    site: SiteName,
    /// The copy's name.
    new_site: SiteName,
    /// The copy's platform; the original's by default.
    #[serde(default)]
    target_platform: Option<String>,
    /// The copy's database server; the original's by default.
    #[serde(default)]
    target_database_server: Option<String>,
    /// Other host names of the copy. Those of the original stay its own.
    #[serde(default)]
    #[schemars(length(max = 50))]
    aliases: Vec<SiteName>,
    /// Keep the copy from reaching anybody: no mail, no cron, no requests to others (WordPress, Drupal). `configure` with quiet=false lifts it.
    /// Left out, a new copy is not kept, and a site that is replaced stays as it is.
    #[serde(default)]
    quiet: Option<bool>,
    /// Take persons out of the copy (WordPress, Drupal): mail addresses of users and commenters, passwords, sessions, addresses of customers.
    /// Names stay.
    #[serde(default)]
    sanitize: bool,
    /// If there is a site of that name, it is replaced by the copy: it keeps its names and certificate, what it is now goes to the trash.
    #[serde(default)]
    over_existing: bool,
    /// How long the task can be undone, and a replaced site is kept.
    #[serde(default)]
    hold: Hold,
}

impl Workflow for Clone {
    fn name(&self) -> &'static str {
        "clone"
    }

    fn title(&self) -> &'static str {
        "Copy a site under another name."
    }

    fn schema(&self) -> Value {
        schema::<Params>()
    }

    fn example(&self) -> Value {
        json!({ "site": "shop.example.test", "new_site": "staging.example.test", "target_platform": "wordpress-68" })
    }

    fn plan(&self, params: &Value, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        let params: Params = parse(params)?;
        let record = records::site(cx.facts, &params.site, "/site")?;
        if params.sanitize {
            can_be_sanitized(records::platform(cx.facts, &record.platform, "/site")?.app)?;
        }
        let there = match params.over_existing {
            true => records::find::<SiteRecord>(cx.facts, records::SITE, params.new_site.as_str())?,
            false => None,
        };
        if let Some(there) = there {
            return over::plan(&params, &record, &there, cx);
        }
        let (from, to, server) = sides(&params, &record, cx)?;
        let mut plan = PlanBuilder::new(Some(to.site.as_str()));
        plan.lock(format!("site {}", from.site), true);
        lock_names(&mut plan, &to.all_names());
        platform_lock(&mut plan, cx.facts, &from.platform)?;
        let prepared = platform_lock(&mut plan, cx.facts, &to.platform)?;
        plan.note("the original is copied while it is up: what visitors change meanwhile may be missing in the copy");
        let copy = Copy { cx, record: &record, from, to, sanitize: params.sanitize };
        copy.plan(&mut plan, server, prepared)?;
        plan.hold(params.hold.0);
        Ok(plan.build()?)
    }

    fn undo(&self, finished: &FinishedTask<'_>, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        let params: Params = parse(finished.params)?;
        if finished.outputs.contains_key(over::LOOK) {
            return take_back::plan(finished, cx, &params.new_site, params.hold.0, false);
        }
        delete::unmade(finished.task.as_str(), &params.new_site, cx)
    }
}

fn sides(
    params: &Params,
    record: &SiteRecord,
    cx: &PlanCx<'_>,
) -> Result<(Place, Place, String), PlanRefusal> {
    let old = records::platform(cx.facts, &record.platform, "/site")?;
    let from = Place::of(record, &old, records::host_of(cx.facts, &old.web_server)?);
    let platform = params.target_platform.as_ref().unwrap_or(&record.platform);
    let new = records::platform(cx.facts, platform, "/target_platform")?;
    if new.app != old.app {
        return Err(PlanRefusal::param("/target_platform", "it is a platform of another application"));
    }
    if let Some(owner) = records::owner_of(cx.facts, &params.new_site)? {
        let name = &params.new_site;
        let hint = if owner == *name { "; with over_existing the copy replaces it" } else { "" };
        return Err(PlanRefusal::Refused(format!("{name} is a name of the site {owner} already{hint}")));
    }
    aliases_are_free(cx.facts, &params.new_site, &params.aliases)?;
    let server = params.target_database_server.as_ref().unwrap_or(&record.database_server);
    records::database_server(cx.facts, server, "/target_database_server")?;
    let host = records::host_of(cx.facts, &new.web_server)?;
    let (aliases, quiet) = (params.aliases.clone(), params.quiet.unwrap_or(false));
    if quiet {
        can_be_quiet(new.app)?;
    }
    // It has the same plugins, which answer in the same way.
    let reach = Reach { pages: record.reach.pages.clone(), ..Reach::default() };
    let to = Place { aliases, reach, quiet, ..Place::on(&params.new_site, platform, &new, host) };
    Ok((from, to, server.clone()))
}

/// What all parts of the plan need to know.
struct Copy<'a> {
    cx: &'a PlanCx<'a>,
    record: &'a SiteRecord,
    from: Place,
    to: Place,
    sanitize: bool,
}

impl Copy<'_> {
    fn plan(&self, plan: &mut PlanBuilder, server: String, prepared: bool) -> Result<(), PlanRefusal> {
        let preflight = Preflight {
            from: Some((self.from.clone(), Store::of(self.record))),
            to: Some(self.to.clone()),
            to_server: Some(server.clone()),
            backup: false,
            expects: None,
            warnings_stop: false,
            may_be_broken: false,
            replaces: None,
            state: None,
            becomes: Becomes::Kept,
        };
        let found = plan.step("preflight", preflight, &[]);
        let proof = FingerprintSite {
            places: vec![self.to.clone()],
            passing: vec![(self.to.web_server.clone(), self.to.stage(self.cx.task.as_str()))],
            stores: Vec::new(),
            platforms: if prepared { Vec::new() } else { vec![self.to.clone()] },
        };
        plan.fingerprint(&proof, proof.resources());
        let (new, user) = self.database(plan, server, &found)?;
        let built = self.build(plan, &new, prepared, (&found, &user));
        self.open(plan, new, &built);
        Ok(())
    }

    /// An empty database of the copy's own, and its user.
    fn database(
        &self,
        plan: &mut PlanBuilder,
        server: String,
        found: &Ref<Found>,
    ) -> Result<(Store, Ref<()>), PlanRefusal> {
        let (site, taken) = (self.to.site.clone(), taken_names(self.cx.facts, &server)?);
        let reserve = ReserveNames { site: site.clone(), server: server.clone(), taken };
        let reserved = plan.step("reserve_names", reserve, &[found]);
        let new = Store { server, password: database_password(self.cx), names: Names::Reserved(reserved) };
        let schema = CreateSchema { site: site.clone(), store: new.clone(), found: Some(found.clone()) };
        let schema = plan.step("create_schema", schema, &[]);
        let user = plan.step("create_user", CreateUser { site, store: new.clone() }, &[&schema]);
        Ok((new, user))
    }

    /// The copy in its stage and its database, while the original is up.
    fn build(
        &self,
        plan: &mut PlanBuilder,
        new: &Store,
        prepared: bool,
        (found, user): (&Ref<Found>, &Ref<()>),
    ) -> Ref<()> {
        // The stage is made after the platform is prepared, so that it is gone before that is taken back.
        let mut ready: Vec<&dyn Named> = vec![found];
        let platform;
        if !prepared {
            let prepare = PreparePlatform { to: self.to.clone(), found: Some(found.clone()) };
            platform = plan.step("prepare_platform", prepare, &[found]);
            ready.push(&platform);
        }
        let staged = plan.step("make_stage", MakeStage { to: self.to.clone() }, &ready);
        let copy = CopyFiles { from: self.from.clone(), to: self.to.clone() };
        let files = plan.step("copy_files", copy, &[&staged]);
        // A name that is somebody else's is not ours to rewrite, in the copy neither.
        let taken = |name: &SiteName| {
            records::owner_of(self.cx.facts, name).ok().flatten().is_some_and(|owner| owner != self.from.site)
        };
        let had = self.from.aliases.iter().chain(&self.from.reach.canonical);
        let mut renames = renaming::copied(&self.from.site, had, &self.to, taken).into_iter();
        let moves = [(&self.from.dir, &self.to.dir), (&self.from.root, &self.to.root)];
        let copy = CopyDatabase {
            site: self.to.site.clone(),
            from: Store::of(self.record),
            to: new.clone(),
            rename: renames.next(),
            also: renames.collect(),
            moves: moves.into_iter().filter(|(a, b)| a != b).map(|(a, b)| (a.clone(), b.clone())).collect(),
            // The original stays up.
            fenced: false,
            ahead: None,
        };
        let rows = plan.step("copy_database", copy, &[user]);
        let settings = WriteSettings { to: self.to.clone(), store: new.clone(), renews: true };
        let settings = plan.step("write_settings", settings, &[&files, user]);
        let access = plan.step("fix_access", FixAccess { to: self.to.clone() }, &[&settings]);
        let update = UpdateDatabase { to: self.to.clone(), store: new.clone() };
        let updated = plan.step("update_database", update, &[&access, &rows]);
        let mut ready: Vec<&dyn Named> = vec![&updated];
        let sanitized;
        if self.sanitize {
            let sanitize = SanitizeCopy { to: self.to.clone(), store: new.clone() };
            sanitized = plan.step("sanitize_copy", sanitize, &[&updated]);
            ready.push(&sanitized);
        }
        plan.step("clear_caches", ClearCaches { to: self.to.clone(), store: new.clone() }, &ready)
    }

    fn open(&self, plan: &mut PlanBuilder, new: Store, built: &dyn Named) {
        let publish = Publish { to: self.to.clone(), from_dir: self.to.stage(self.cx.task.as_str()) };
        let published = plan.step("publish", publish, &[built]);
        let bypass = SecretRef(format!("bypass/{}", self.cx.task));
        let hidden = OpenHidden {
            to: self.to.clone(),
            over: None,
            bypass: bypass.clone(),
            redirect: None,
            gives: None,
        };
        let opened = plan.step("open_hidden", hidden, &[&published]);
        let check = CheckHidden { to: self.to.clone(), bypass: bypass.clone() };
        let checked = plan.step("check_hidden", check, &[&opened]);
        let commit = CommitClone { of: self.record.clone(), to: self.to.clone(), store: new.clone() };
        let committed = plan.step("commit", commit, &[&checked]);
        let live =
            plan.step("go_live", GoLive { to: self.to.clone(), bypass, disabled: false }, &[&committed]);
        plan.step("start_events", StartEvents { site: self.to.site.clone(), store: new }, &[&live]);
    }
}
