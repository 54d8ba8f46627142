//! `migrate`: a site to another platform, another name, another database server, or any of them at once. The new side is built
//! beside the old one, which is not touched; the old side goes to the trash, from where `undo` takes it back.

pub(crate) mod take_back;

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
use crate::records::{self, SiteRecord, SiteState};
use crate::steps::app::{ClearCaches, PreparePlatform, UpdateDatabase, WriteSettings};
use crate::steps::certificate;
use crate::steps::copy_ahead::{Ahead, CopyAhead};
use crate::steps::copy_database::CopyDatabase;
use crate::steps::database::{CreateSchema, CreateUser, Fence, StartEvents};
use crate::steps::files::{CopyFiles, FixAccess, MakeStage, Publish, SetAside, SyncFiles, TrashDir};
use crate::steps::fingerprint::FingerprintSite;
use crate::steps::hidden::{CheckHidden, Gives, OpenHidden};
use crate::steps::names::ReserveNames;
use crate::steps::preflight::{Becomes, Found, Preflight};
use crate::steps::registry::CommitMove;
use crate::steps::vhost::{Close, GoLive, RetireVhost, SaveVhost};
use crate::{reach, renaming};

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
        reach::lock_names(&mut plan, to.aliases.iter().filter(|alias| !record.aliases.contains(alias)));
        platform_lock(&mut plan, cx.facts, &from.platform)?;
        let prepared = platform_lock(&mut plan, cx.facts, &to.platform)?;
        plan.hold(params.hold.0);
        notes(&mut plan, &record, &from, &to);
        let (hold_ms, redirect) = (params.hold.0, params.redirect_old);
        let mut moving = Move { cx, record: &record, from, to, hold_ms, redirect, lineage: None };
        moving.plan(&mut plan, server, prepared, params.acknowledge_warnings)?;
        Ok(plan.build()?)
    }

    fn undo(&self, finished: &FinishedTask<'_>, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        let params: Params = parse(finished.params)?;
        let name = params.new_site.as_ref().unwrap_or(&params.site);
        take_back::plan(finished, cx, name, params.hold.0, params.redirect_old)
    }
}

/// The two sides and the new database server, checked against what is known.
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
    if params.redirect_old && *site == record.name {
        return Err(PlanRefusal::param(
            "/redirect_old",
            "there is no old name: name a new_site, or leave this out",
        ));
    }
    if *platform == record.platform && *site == record.name && *server == record.database_server {
        let why = "nothing would change: name another platform, site name or database server";
        return Err(PlanRefusal::Nothing(why.to_owned()));
    }
    let host = records::host_of(cx.facts, &new.web_server)?;
    let reach = match *site == record.name {
        true => record.reach.clone(),
        false => reach::renamed(&record.reach, &record.name, site, &aliases),
    };
    let to = Place { aliases, reach, quiet: record.quiet, ..Place::on(site, platform, &new, host) };
    Ok((from, to, server.clone()))
}

/// What a person should know before it begins.
fn notes(plan: &mut PlanBuilder, record: &SiteRecord, from: &Place, to: &Place) {
    plan.note(match record.state {
        SiteState::Enabled => "visitors get a 503 from `close` to `go_live`; the result tells for how long",
        SiteState::Disabled => "the site is disabled, and stays so",
    });
    if from.site == to.site {
        return;
    }
    if let Some(tls) = to.reach.tls.as_ref().filter(|tls| !tls.self_signed) {
        plan.note(format!("the certificate {} stays: it has to be valid for {}", tls.certificate, to.site));
    }
    let names = |names: &[SiteName]| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let new: Vec<SiteName> =
        to.aliases.iter().filter(|alias| !from.aliases.contains(alias)).cloned().collect();
    if !new.is_empty() {
        plan.note(format!("{} answers to {} too", to.site, names(&new)));
    }
    let answers = |name: &SiteName| to.site == *name || to.aliases.contains(name);
    let gone: Vec<SiteName> = from.aliases.iter().filter(|alias| !answers(alias)).cloned().collect();
    if !gone.is_empty() {
        plan.note(format!("{} goes with the old name", names(&gone)));
    }
}

/// What all parts of the plan need to know.
pub(crate) struct Move<'a> {
    /// The plan's circumstances.
    pub(crate) cx: &'a PlanCx<'a>,
    /// The site as it is.
    pub(crate) record: &'a SiteRecord,
    /// The side that is there.
    pub(crate) from: Place,
    /// The new side.
    pub(crate) to: Place,
    /// How long the old side is kept.
    pub(crate) hold_ms: u64,
    /// Whether visitors of the old name are sent on.
    pub(crate) redirect: bool,
    /// The site that the new side is a copy of, when it becomes one.
    pub(crate) lineage: Option<SiteName>,
}

impl Move<'_> {
    fn task(&self) -> &str {
        self.cx.task.as_str()
    }

    /// Whether the site is disabled, and stays so.
    pub(crate) fn disabled(&self) -> bool {
        self.record.state == SiteState::Disabled
    }

    /// Whether the new directory takes the very place of the old one.
    fn same_dir(&self) -> bool {
        self.from.host == self.to.host && self.from.dir == self.to.dir
    }

    /// Whether the new vhost is written over the old one.
    fn same_vhost(&self) -> bool {
        self.from.web_server == self.to.web_server && self.from.site == self.to.site
    }

    fn plan(
        &mut self,
        plan: &mut PlanBuilder,
        server: String,
        prepared: bool,
        acknowledged: bool,
    ) -> Result<(), PlanRefusal> {
        let old = Store::of(self.record);
        let found = plan.step(
            "preflight",
            Preflight {
                from: Some((self.from.clone(), old.clone())),
                to: Some(self.to.clone()),
                to_server: Some(server.clone()),
                backup: true,
                expects: None,
                warnings_stop: !acknowledged,
                may_be_broken: false,
                replaces: None,
                state: Some(self.record.state),
                becomes: Becomes::Replaced,
            },
            &[],
        );
        let saved = plan.step("save_vhost", SaveVhost { place: self.from.clone() }, &[&found]);
        self.proof(plan, &old, prepared);
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
        let ahead = plan.step("copy_ahead", CopyAhead { copy: self.copy(&old, &new, None) }, &[&user]);
        let certificate = certificate::ensured(plan, &self.to, &found);
        let mut before: Vec<&dyn Named> = vec![&backed_up, &ahead, &copied];
        before.extend(certificate.iter().map(|step| step as &dyn Named));
        let closed = plan.step(
            "close",
            Close { place: self.from.clone(), saved: saved.clone(), disabled: self.disabled() },
            &before,
        );
        let fenced = plan.step("fence", Fence { store: old.clone(), found: found.clone() }, &[&closed]);
        let built = self.build(plan, self.copy(&old, &new, Some(ahead)), &new, &fenced);
        self.switch(plan, &new, &built, &found);
        Ok(())
    }

    pub(crate) fn proof(&self, plan: &mut PlanBuilder, old: &Store, prepared: bool) {
        let mut places = vec![self.from.clone()];
        if !self.same_dir() || !self.same_vhost() {
            places.push(self.to.clone());
        }
        let passing = vec![
            (self.to.web_server.clone(), self.to.stage(self.task())),
            (self.from.web_server.clone(), self.from.trash(self.task())),
        ];
        let platforms = if prepared { Vec::new() } else { vec![self.to.clone()] };
        let stores = vec![(old.clone(), self.from.clone())];
        let proof = FingerprintSite { places, passing, stores, platforms };
        plan.fingerprint(&proof, proof.resources());
    }

    /// Behind closed doors: the new side from what the old one holds now.
    fn build(&self, plan: &mut PlanBuilder, copy: CopyDatabase, new: &Store, fenced: &dyn Named) -> Ref<()> {
        let synced =
            plan.step("sync_files", SyncFiles { from: self.from.clone(), to: self.to.clone() }, &[fenced]);
        let copied = plan.step("copy_database", copy, &[fenced]);
        let settings = WriteSettings { to: self.to.clone(), store: new.clone(), renews: false };
        let settings = plan.step("write_settings", settings, &[&synced]);
        let access = plan.step("fix_access", FixAccess { to: self.to.clone() }, &[&settings]);
        let update = UpdateDatabase { to: self.to.clone(), store: new.clone() };
        let updated = plan.step("update_database", update, &[&access, &copied]);
        plan.step("clear_caches", ClearCaches { to: self.to.clone(), store: new.clone() }, &[&updated])
    }

    /// The copy of the database: ahead of the fence, or behind it what was written since.
    fn copy(&self, old: &Store, new: &Store, ahead: Option<Ref<Ahead>>) -> CopyDatabase {
        let taken = |name: &SiteName| {
            // A registry that cannot be read now could not be read a moment ago: no plan would have been made.
            records::owner_of(self.cx.facts, name).ok().flatten().is_some_and(|owner| owner != self.from.site)
        };
        let mut renames = renaming::rewrites(&self.from.site, &self.to, taken).into_iter();
        let moves = [(&self.from.dir, &self.to.dir), (&self.from.root, &self.to.root)];
        CopyDatabase {
            site: self.to.site.clone(),
            from: old.clone(),
            to: new.clone(),
            rename: renames.next(),
            also: renames.collect(),
            moves: moves.into_iter().filter(|(a, b)| a != b).map(|(a, b)| (a.clone(), b.clone())).collect(),
            fenced: ahead.is_some(),
            ahead,
        }
    }

    /// The switch: the new side in place and checked, the decision, the doors open, the old side in the trash.
    pub(crate) fn switch(&self, plan: &mut PlanBuilder, new: &Store, built: &dyn Named, found: &Ref<Found>) {
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
            cloned_from: self.lineage.clone(),
        };
        let committed = plan.step("commit", commit, &[&checked]);
        let live = self.after(plan, &committed);
        plan.step("start_events", StartEvents { site: self.to.site.clone(), store: new.clone() }, &[&live]);
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
    fn after(&self, plan: &mut PlanBuilder, committed: &dyn Named) -> Ref<()> {
        let live = plan.step(
            "go_live",
            GoLive { to: self.to.clone(), bypass: self.bypass(), disabled: self.disabled() },
            &[committed],
        );
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
        live
    }
}
