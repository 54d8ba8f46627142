//! `migrate`: a site to another platform, another name, another database server, or any of them at once. The new side is built
//! beside the old one, which is not touched; the old side goes to the trash, from where `undo` takes it back.

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
use crate::ports::{Compression, SavedFile, SecretRef};
use crate::records::{self, PREPARED, SiteRecord, SiteState, TrashRecord};
use crate::renaming;
use crate::steps::app::{ClearCaches, PreparePlatform, UpdateDatabase, WriteSettings};
use crate::steps::database::{CopyDatabase, CreateSchema, CreateUser, Fence, Unfence};
use crate::steps::files::{CopyFiles, FixAccess, MakeStage, Publish, SetAside, SyncFiles, TrashDir};
use crate::steps::fingerprint::FingerprintSite;
use crate::steps::names::ReserveNames;
use crate::steps::preflight::{Found, Preflight};
use crate::steps::registry::CommitMove;
use crate::steps::vhost::{CheckHidden, Close, Gives, GoLive, OpenHidden, RetireVhost, SaveVhost};

/// The workflow.
pub(crate) struct Migrate;

/// Parameters of `migrate`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("anyOf" = [
    { "required": ["target_platform"] }, { "required": ["new_site"] }, { "required": ["target_database_server"] }
]))]
struct Params {
    /// The site.
    site: SiteName,
    /// The platform it moves to.
    #[serde(default)]
    target_platform: Option<String>,
    /// Its new name.
    #[serde(default)]
    new_site: Option<SiteName>,
    /// The database server it moves to.
    #[serde(default)]
    target_database_server: Option<String>,
    /// Go on although the plan has warnings.
    #[serde(default)]
    acknowledge_warnings: bool,
    /// After a rename: send visitors of the old name to the new one.
    #[serde(default)]
    redirect_old: bool,
    /// How long the old side is kept and the task can be undone.
    #[serde(default)]
    hold: Hold,
}

impl Workflow for Migrate {
    fn name(&self) -> &'static str {
        "migrate"
    }

    fn title(&self) -> &'static str {
        "Move a site to another platform, name or database server."
    }

    fn schema(&self) -> Value {
        schema::<Params>()
    }

    fn example(&self) -> Value {
        json!({ "site": "shop.example.test", "target_platform": "wordpress-68", "hold": "24h" })
    }

    fn plan(&self, params: &Value, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        let params: Params = parse(params)?;
        let record = records::site(cx.facts, &params.site, "/site")?;
        let (from, to, server) = sides(&params, &record, cx)?;
        let mut plan = PlanBuilder::new(Some(params.site.as_str()));
        plan.lock(format!("site {}", params.site), false);
        plan.lock(format!("site {}", to.site), false);
        platform_lock(&mut plan, cx.facts, &from.platform)?;
        let prepared = platform_lock(&mut plan, cx.facts, &to.platform)?;
        plan.hold(params.hold.0);
        let mut moving =
            Move { cx, record: &record, from, to, hold_ms: params.hold.0, redirect: params.redirect_old };
        moving.plan(&mut plan, server, prepared)?;
        Ok(plan.build()?)
    }

    fn undo(&self, finished: &FinishedTask<'_>, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        undo_plan(finished, cx)
    }
}

/// The two sides and the new database server, checked against what is known.
fn sides(
    params: &Params,
    record: &SiteRecord,
    cx: &PlanCx<'_>,
) -> Result<(Place, Place, String), PlanRefusal> {
    if record.state == SiteState::Disabled {
        return Err(PlanRefusal::Refused(format!("{} is disabled; enable it first", record.name)));
    }
    let old = records::platform(cx.facts, &record.platform, "/site")?;
    let from = Place::of(record, &old, records::host_of(cx.facts, &old.web_server)?);
    let platform = params.target_platform.as_ref().unwrap_or(&record.platform);
    let new = records::platform(cx.facts, platform, "/target_platform")?;
    if new.app != old.app {
        return Err(PlanRefusal::param("/target_platform", "it is a platform of another application"));
    }
    let site = params.new_site.as_ref().unwrap_or(&record.name);
    // A rename to an own alias makes the old name free.
    let aliases = renaming::aliases(&record.name, &record.aliases, site);
    for name in std::iter::once(site).chain(&aliases) {
        if let Some(owner) = records::owner_of(cx.facts, name)?.filter(|owner| *owner != record.name) {
            return Err(PlanRefusal::Refused(format!("{name} is a name of the site {owner} already")));
        }
    }
    let server = params.target_database_server.as_ref().unwrap_or(&record.database_server);
    records::database_server(cx.facts, server, "/target_database_server")?;
    if *platform == record.platform && *site == record.name && *server == record.database_server {
        return Err(PlanRefusal::param(
            "",
            "nothing would change: name another platform, site name or database server",
        ));
    }
    let host = records::host_of(cx.facts, &new.web_server)?;
    let to = Place { aliases, ..Place::on(site, platform, &new, host) };
    Ok((from, to, server.clone()))
}

/// What all parts of the plan need to know.
struct Move<'a> {
    cx: &'a PlanCx<'a>,
    record: &'a SiteRecord,
    from: Place,
    to: Place,
    hold_ms: u64,
    redirect: bool,
}

impl Move<'_> {
    fn task(&self) -> &str {
        self.cx.task.as_str()
    }

    /// Whether the new directory takes the very place of the old one.
    fn same_dir(&self) -> bool {
        self.from.host == self.to.host && self.from.dir == self.to.dir
    }

    /// Whether the new vhost is written over the old one.
    fn same_vhost(&self) -> bool {
        self.from.web_server == self.to.web_server && self.from.site == self.to.site
    }

    fn plan(&mut self, plan: &mut PlanBuilder, server: String, prepared: bool) -> Result<(), PlanRefusal> {
        let old = Store::of(self.record);
        let found = plan.step(
            "preflight",
            Preflight {
                from: Some((self.from.clone(), old.clone())),
                to: Some(self.to.clone()),
                to_server: Some(server.clone()),
                backup: true,
                expects: None,
            },
            &[],
        );
        let saved = plan.step("save_vhost", SaveVhost { place: self.from.clone() }, &[&found]);
        self.proof(plan, &old);
        let backed_up = plan.scope("backup", |plan| {
            let description = "Pre-migration backup".to_owned();
            let request =
                backup::Request { description, compression: Compression::Zstd, exclude: Vec::new() };
            backup::steps(plan, self.cx, &self.from, &old, request, &found)
        });
        let reserve = ReserveNames {
            site: self.to.site.clone(),
            server: server.clone(),
            taken: taken_names(self.cx.facts, &server)?,
        };
        let reserved = plan.step("reserve_names", reserve, &[&found]);
        let new = Store { server, password: database_password(self.cx), names: Names::Reserved(reserved) };
        let site = self.to.site.clone();
        let schema = CreateSchema { site: site.clone(), store: new.clone(), found: Some(found.clone()) };
        let schema = plan.step("create_schema", schema, &[]);
        let user = plan.step("create_user", CreateUser { site, store: new.clone() }, &[&schema]);
        // The stage is made after the platform is prepared, so that it is gone before that is taken back.
        let mut ready: Vec<&dyn Named> = vec![&found];
        let platform;
        if !prepared {
            platform = plan.step(
                "prepare_platform",
                PreparePlatform { to: self.to.clone(), found: Some(found.clone()) },
                &[&found],
            );
            ready.push(&platform);
        }
        let staged = plan.step("make_stage", MakeStage { to: self.to.clone() }, &ready);
        let copy = CopyFiles { from: self.from.clone(), to: self.to.clone() };
        let copied = plan.step("copy_files", copy, &[&staged]);
        let before: [&dyn Named; 3] = [&backed_up, &user, &copied];
        let closed = plan.step("close", Close { place: self.from.clone(), saved: saved.clone() }, &before);
        let fenced = plan.step("fence", Fence { store: old.clone(), found: found.clone() }, &[&closed]);
        let built = self.build(plan, &old, &new, &fenced);
        self.switch(plan, &new, &built, &found);
        Ok(())
    }

    fn proof(&self, plan: &mut PlanBuilder, old: &Store) {
        let mut places = vec![self.from.clone()];
        if !self.same_dir() || !self.same_vhost() {
            places.push(self.to.clone());
        }
        let passing = vec![
            (self.to.web_server.clone(), self.to.stage(self.task())),
            (self.from.web_server.clone(), self.from.trash(self.task())),
        ];
        let proof = FingerprintSite { places, passing, stores: vec![(old.clone(), self.from.clone())] };
        plan.fingerprint(&proof, proof.resources());
    }

    /// Behind closed doors: the new side from what the old one holds now.
    fn build(&self, plan: &mut PlanBuilder, old: &Store, new: &Store, fenced: &dyn Named) -> Ref<()> {
        let synced =
            plan.step("sync_files", SyncFiles { from: self.from.clone(), to: self.to.clone() }, &[fenced]);
        let taken = |name: &SiteName| {
            // A registry that cannot be read now could not be read a moment ago: no plan would have been made.
            records::owner_of(self.cx.facts, name).ok().flatten().is_some_and(|owner| owner != self.from.site)
        };
        let mut renames = renaming::rewrites(&self.from.site, &self.to, taken).into_iter();
        let moves = [(&self.from.dir, &self.to.dir), (&self.from.root, &self.to.root)];
        let copy = CopyDatabase {
            site: self.to.site.clone(),
            from: old.clone(),
            to: new.clone(),
            rename: renames.next(),
            also: renames.collect(),
            moves: moves.into_iter().filter(|(a, b)| a != b).map(|(a, b)| (a.clone(), b.clone())).collect(),
        };
        let copied = plan.step("copy_database", copy, &[fenced]);
        let settings = WriteSettings { to: self.to.clone(), store: new.clone() };
        let settings = plan.step("write_settings", settings, &[&synced]);
        let access = plan.step("fix_access", FixAccess { to: self.to.clone() }, &[&settings]);
        let update = UpdateDatabase { to: self.to.clone(), store: new.clone() };
        let updated = plan.step("update_database", update, &[&access, &copied]);
        plan.step("clear_caches", ClearCaches { to: self.to.clone(), store: new.clone() }, &[&updated])
    }

    /// The switch: the new side in place and checked, the decision, the doors open, the old side in the trash.
    fn switch(&self, plan: &mut PlanBuilder, new: &Store, built: &dyn Named, found: &Ref<Found>) {
        let aside;
        let mut before: Vec<&dyn Named> = vec![built, found];
        if self.same_dir() {
            aside = plan.step("set_aside", SetAside { place: self.from.clone() }, &[built]);
            before.push(&aside);
        }
        let publish = Publish { to: self.to.clone(), from_dir: self.to.stage(self.task()) };
        let published = plan.step("publish", publish, &before);
        let checked = self.hidden(plan, &published);
        let commit = CommitMove {
            old: self.record.clone(),
            old_trash: self.from.trash(self.task()),
            hold_ms: self.hold_ms,
            to: self.to.clone(),
            store: new.clone(),
            takes_back: None,
        };
        let committed = plan.step("commit", commit, &[&checked]);
        self.after(plan, &committed);
    }

    fn bypass(&self) -> SecretRef {
        SecretRef(format!("bypass/{}", self.task()))
    }

    fn hidden(&self, plan: &mut PlanBuilder, published: &dyn Named) -> Ref<()> {
        self.hidden_over(plan, None, published)
    }

    /// The same with the redirect that is in the new vhost's place until then, if one is.
    fn hidden_over(
        &self,
        plan: &mut PlanBuilder,
        redirect: Option<Ref<Option<SavedFile>>>,
        published: &dyn Named,
    ) -> Ref<()> {
        let over = self.same_vhost().then(|| self.from.clone());
        let left = self.left();
        let keeps_all = left.as_ref().is_some_and(|left| left.aliases == self.from.aliases);
        let gives = (!keeps_all).then(|| Gives { from: self.from.clone(), left });
        let hidden = OpenHidden { to: self.to.clone(), over, bypass: self.bypass(), redirect, gives };
        let opened = plan.step("open_hidden", hidden, &[published]);
        plan.step("check_hidden", CheckHidden { to: self.to.clone(), bypass: self.bypass() }, &[&opened])
    }

    /// The side that is left, with the names that stay in its vhost; `None` when none does.
    fn left(&self) -> Option<Place> {
        if self.from.web_server == self.to.web_server && !self.same_vhost() {
            return renaming::without_the_names_of(&self.from, &self.to);
        }
        Some(self.from.clone())
    }

    /// After the pivot: only forward.
    fn after(&self, plan: &mut PlanBuilder, committed: &dyn Named) {
        let live = plan.step("go_live", GoLive { to: self.to.clone(), bypass: self.bypass() }, &[committed]);
        let mut last: Vec<&dyn Named> = vec![&live];
        let retired;
        if let Some(place) = self.left().filter(|_| !self.same_vhost()) {
            let renamed = self.from.site != self.to.site;
            let redirect = (self.redirect && renamed).then(|| self.to.site.clone());
            retired = plan.step("retire_vhost", RetireVhost { place, redirect }, &[&live]);
            last.push(&retired);
        }
        if !self.same_dir() {
            plan.step("trash_dir", TrashDir { place: self.from.clone(), may_be_missing: false }, &last);
        }
    }
}

/// The plan that takes a finished migrate back: the same switch in the other direction, onto the side in the trash.
fn undo_plan(finished: &FinishedTask<'_>, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
    let gone = || {
        PlanRefusal::Refused("the old side is not in the trash any more: nothing to go back to".to_owned())
    };
    let trash: TrashRecord =
        records::find(cx.facts, records::TRASH, finished.task.as_str())?.ok_or_else(gone)?;
    let params: Params = parse(finished.params)?;
    let name = params.new_site.as_ref().unwrap_or(&params.site);
    let record = records::site(cx.facts, name, "")?;
    if record.task != finished.task.as_str() {
        let why = format!("{name} was changed since, by {}; undo that first", record.task);
        return Err(PlanRefusal::Refused(why));
    }
    if record.state == SiteState::Disabled {
        return Err(PlanRefusal::Refused(format!("{name} is disabled; enable it first")));
    }
    let platform = records::platform(cx.facts, &record.platform, "")?;
    let from = Place::of(&record, &platform, records::host_of(cx.facts, &platform.web_server)?);
    let old = records::platform(cx.facts, &trash.site.platform, "")?;
    let host = records::host_of(cx.facts, &old.web_server)?;
    let to = Place {
        aliases: trash.site.aliases.clone(),
        ..Place::on(&trash.site.name, &trash.site.platform, &old, host)
    };
    let mut plan = PlanBuilder::new(Some(record.name.as_str()));
    plan.lock(format!("site {}", from.site), false);
    plan.lock(format!("site {}", to.site), false);
    plan.lock(format!("platform {}", from.platform), cx.facts.record(PREPARED, &from.platform)?.is_some());
    plan.lock(format!("platform {}", to.platform), cx.facts.record(PREPARED, &to.platform)?.is_some());
    plan.note("what visitors have changed since the migrate stays in its backup only");
    let moving = Move { cx, record: &record, from, to, hold_ms: params.hold.0, redirect: false };
    moving.take_back(&mut plan, &trash, finished.task.as_str(), params.redirect_old);
    Ok(plan.build()?)
}

impl Move<'_> {
    fn take_back(&self, plan: &mut PlanBuilder, trash: &TrashRecord, migrate: &str, redirected: bool) {
        let (now, old) = (Store::of(self.record), Store::of(&trash.site));
        let waits = trash.site.dir.clone();
        let preflight = Preflight {
            from: Some((self.from.clone(), now.clone())),
            to: None,
            to_server: None,
            backup: true,
            expects: Some((self.to.web_server.clone(), waits.clone())),
        };
        let found = plan.step("preflight", preflight, &[]);
        let saved = plan.step("save_vhost", SaveVhost { place: self.from.clone() }, &[&found]);
        let stores = vec![(now.clone(), self.from.clone()), (old.clone(), self.to.clone())];
        let mut places = vec![self.from.clone()];
        if !self.same_dir() || !self.same_vhost() {
            places.push(self.to.clone());
        }
        let passing = vec![
            (self.to.web_server.clone(), waits.clone()),
            (self.from.web_server.clone(), self.from.trash(self.task())),
        ];
        let proof = FingerprintSite { places, passing, stores };
        plan.fingerprint(&proof, proof.resources());
        let backed_up = plan.scope("backup", |plan| {
            let description = format!("Generated before {migrate} was taken back");
            let request =
                backup::Request { description, compression: Compression::Zstd, exclude: Vec::new() };
            backup::steps(plan, self.cx, &self.from, &now, request, &found)
        });
        let closed = plan.step("close", Close { place: self.from.clone(), saved }, &[&backed_up]);
        let fenced = plan.step("fence", Fence { store: now, found: found.clone() }, &[&closed]);
        let mut before: Vec<&dyn Named> = vec![&fenced];
        let aside;
        if self.same_dir() {
            aside = plan.step("set_aside", SetAside { place: self.from.clone() }, &[&fenced]);
            before.push(&aside);
        }
        let publish = Publish { to: self.to.clone(), from_dir: waits };
        let published = plan.step("publish", publish, &before);
        let unlocked = plan.step("unfence", Unfence { store: old.clone() }, &[&published]);
        let redirect: Option<Ref<Option<SavedFile>>> =
            redirected.then(|| plan.step("save_redirect", SaveVhost { place: self.to.clone() }, &[&found]));
        let checked = self.hidden_over(plan, redirect, &unlocked);
        let commit = CommitMove {
            old: self.record.clone(),
            old_trash: self.from.trash(self.task()),
            hold_ms: self.hold_ms,
            to: self.to.clone(),
            store: old,
            takes_back: Some(migrate.to_owned()),
        };
        let committed = plan.step("commit", commit, &[&checked]);
        self.after(plan, &committed);
    }
}
