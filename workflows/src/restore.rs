//! `restore`: a site as it was when a backup was made, or its files or its database only. The new side is built from the archive beside
//! the live one, which goes to the trash: a restore can be taken back like a migrate.

use kedge_engine::builder::{Named, PlanBuilder};
use kedge_engine::plan::Plan;
use kedge_engine::step::Ref;
use kedge_engine::workflow::{FinishedTask, PlanCx, PlanRefusal, Workflow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::backup;
use crate::install::{database_password, platform_lock, taken_names};
use crate::migrate::{Move, take_back};
use crate::names::SiteName;
use crate::params::{Hold, parse, schema};
use crate::place::{Names, Place, Store};
use crate::ports::{Compression, Contents};
use crate::records::{self, BackupRecord, SiteRecord};
use crate::steps::app::{ClearCaches, PreparePlatform, UpdateDatabase, WriteSettings};
use crate::steps::certificate;
use crate::steps::copy_ahead::{Ahead, CopyAhead};
use crate::steps::copy_database::CopyDatabase;
use crate::steps::database::{CreateSchema, CreateUser, Fence};
use crate::steps::files::{CopyFiles, FixAccess, MakeStage, SyncFiles};
use crate::steps::names::ReserveNames;
use crate::steps::packages::CompareRestored;
use crate::steps::preflight::{Becomes, Found, Preflight};
use crate::steps::restore::{ImportBackup, ReadBackup, UnpackFiles};
use crate::steps::vhost::{Close, SaveVhost};

/// Most paths named in a note on what a backup lacks.
const MAX_TOLD: usize = 5;

/// The workflow.
pub(crate) struct Restore;

/// Parameters of `restore`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// The site.
    site: SiteName,
    /// The backup's file name, in the backup directory.
    #[schemars(length(min = 1, max = 230))]
    backup: String,
    /// What comes from the backup; the rest stays as it is now.
    #[serde(default)]
    parts: Parts,
    /// The platform it is restored on; the one it is on by default.
    #[serde(default)]
    target_platform: Option<String>,
    /// How long what is replaced is kept and the task can be undone.
    #[serde(default)]
    hold: Hold,
}

/// What comes from the backup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Parts {
    /// Files and database.
    #[default]
    All,
    /// The files.
    Files,
    /// The database.
    Database,
}

impl Workflow for Restore {
    fn name(&self) -> &'static str {
        "restore"
    }

    fn title(&self) -> &'static str {
        "Bring a site, its files or its database back from a backup."
    }

    fn schema(&self) -> Value {
        schema::<Params>()
    }

    fn example(&self) -> Value {
        json!({ "site": "shop.example.test", "backup": "shop.example.test-20261122.100000_abcdef.tar.zst" })
    }

    fn plan(&self, params: &Value, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        let params: Params = parse(params)?;
        let record = records::site(cx.facts, &params.site, "/site")?;
        let (from, to) = sides(&params, &record, cx)?;
        let mut plan = PlanBuilder::new(Some(params.site.as_str()));
        plan.lock(format!("site {}", params.site), false);
        // A purge waits until it has been read.
        plan.lock(format!("backup {}", params.backup), true);
        platform_lock(&mut plan, cx.facts, &from.platform)?;
        let prepared = platform_lock(&mut plan, cx.facts, &to.platform)?;
        plan.hold(params.hold.0);
        let known: Option<BackupRecord> = records::find(cx.facts, records::BACKUP, &params.backup)?;
        if let Some(without) = known.as_ref().filter(|_| params.parts != Parts::Database).and_then(lacks) {
            plan.note(without);
        }
        if let Some(other) = known.map(|backup| backup.site).filter(|site| *site != params.site) {
            plan.note(format!("it is a backup of {other}: its names are rewritten"));
        }
        let moving =
            Move { cx, record: &record, from, to, hold_ms: params.hold.0, redirect: false, lineage: None };
        Restoring { moving, params: &params }.plan(&mut plan, prepared)?;
        Ok(plan.build()?)
    }

    fn undo(&self, finished: &FinishedTask<'_>, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        let params: Params = parse(finished.params)?;
        take_back::plan(finished, cx, &params.site, params.hold.0, false)
    }
}

/// What a backup lacks, in words.
fn lacks(backup: &BackupRecord) -> Option<String> {
    let (first, more) = backup.exclude.split_at(backup.exclude.len().min(MAX_TOLD));
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    let what = first.join(", ");
    (!first.is_empty()).then(|| {
        format!("the backup was made without {what}{more}: the restored site will not have what is there now")
    })
}

fn sides(params: &Params, record: &SiteRecord, cx: &PlanCx<'_>) -> Result<(Place, Place), PlanRefusal> {
    if params.backup.contains(['/', '\0']) || params.backup.starts_with('.') {
        return Err(PlanRefusal::param(
            "/backup",
            "write the file name of a backup; `kedge backups` lists them",
        ));
    }
    let old = records::platform(cx.facts, &record.platform, "/site")?;
    let from = Place::of(record, &old, records::host_of(cx.facts, &old.web_server)?);
    let platform = params.target_platform.as_ref().unwrap_or(&record.platform);
    let new = records::platform(cx.facts, platform, "/target_platform")?;
    if new.app != old.app {
        return Err(PlanRefusal::param("/target_platform", "it is a platform of another application"));
    }
    let host = records::host_of(cx.facts, &new.web_server)?;
    let (aliases, reach) = (record.aliases.clone(), record.reach.clone());
    let to = Place { aliases, reach, quiet: record.quiet, ..Place::on(&record.name, platform, &new, host) };
    Ok((from, to))
}

struct Restoring<'a> {
    moving: Move<'a>,
    params: &'a Params,
}

impl Restoring<'_> {
    fn plan(&self, plan: &mut PlanBuilder, prepared: bool) -> Result<(), PlanRefusal> {
        let moving = &self.moving;
        let old = Store::of(moving.record);
        let preflight = Preflight {
            from: Some((moving.from.clone(), old.clone())),
            to: Some(moving.to.clone()),
            to_server: Some(old.server.clone()),
            backup: true,
            expects: None,
            warnings_stop: false,
            may_be_broken: true,
            replaces: None,
            state: Some(moving.record.state),
            becomes: Becomes::Replaced,
        };
        let found = plan.step("preflight", preflight, &[]);
        let read = ReadBackup {
            name: self.params.backup.clone(),
            files: self.params.parts != Parts::Database,
            database: self.params.parts != Parts::Files,
            to: moving.to.clone(),
        };
        let contents = plan.step("read_backup", read, &[&found]);
        let saved = plan.step("save_vhost", SaveVhost { place: moving.from.clone() }, &[&found]);
        moving.proof(plan, &old, prepared);
        let backed_up = plan.scope("backup", |plan| {
            let description = "Generated before being restored to a previous version".to_owned();
            let request =
                backup::Request { description, compression: Compression::Zstd, exclude: Vec::new() };
            backup::steps(plan, moving.cx, &moving.from, &old, request, &contents)
        });
        let (new, user) = self.database(plan, &old, &found, &contents)?;
        let staged = self.stage(plan, prepared, &found, &contents);
        // What comes from the archive is there before the doors close; what comes from the live side is copied behind them.
        let files = self.files(plan, &staged, &user);
        let imported = (self.params.parts != Parts::Files).then(|| self.import(plan, &new, &contents, &user));
        let mut before: Vec<&dyn Named> = vec![&backed_up, &user, &files];
        let (mut built, mut ahead) = (None, None);
        match &imported {
            Some(imported) if self.params.parts == Parts::All => {
                built = Some(self.finish(plan, &new, &files, imported));
            }
            Some(imported) => before.push(imported),
            None => ahead = Some(self.copy_ahead(plan, &old, &new, &user)),
        }
        before.extend(ahead.as_ref().map(|ahead| ahead as &dyn Named));
        before.extend(built.as_ref().map(|built| built as &dyn Named));
        let certificate = certificate::ensured(plan, &moving.to, &contents);
        before.extend(certificate.iter().map(|step| step as &dyn Named));
        let closed = plan.step(
            "close",
            Close { place: moving.from.clone(), saved, disabled: moving.disabled() },
            &before,
        );
        let fenced = plan.step("fence", Fence { store: old.clone(), found: found.clone() }, &[&closed]);
        if built.is_some() {
            moving.switch(plan, &new, &fenced, &found);
            return Ok(());
        }
        let built = match imported {
            Some(imported) => {
                let sync = SyncFiles { from: moving.from.clone(), to: moving.to.clone() };
                let synced = plan.step("sync_files", sync, &[&fenced]);
                self.finish(plan, &new, &synced, &imported)
            }
            None => {
                let copied = plan.step("copy_database", self.copy(&old, &new, ahead), &[&fenced]);
                self.finish(plan, &new, &files, &copied)
            }
        };
        moving.switch(plan, &new, &built, &found);
        Ok(())
    }

    fn database(
        &self,
        plan: &mut PlanBuilder,
        old: &Store,
        found: &Ref<Found>,
        contents: &Ref<Contents>,
    ) -> Result<(Store, Ref<()>), PlanRefusal> {
        let site = self.moving.to.site.clone();
        let server = old.server.clone();
        let taken = taken_names(self.moving.cx.facts, &server)?;
        let reserve = ReserveNames { site: site.clone(), server: server.clone(), taken };
        let reserved = plan.step("reserve_names", reserve, &[contents]);
        let password = database_password(self.moving.cx);
        let new = Store { server, password, names: Names::Reserved(reserved) };
        let create = CreateSchema { site: site.clone(), store: new.clone(), found: Some(found.clone()) };
        let schema = plan.step("create_schema", create, &[]);
        let user = plan.step("create_user", CreateUser { site, store: new.clone() }, &[&schema]);
        Ok((new, user))
    }

    fn stage(
        &self,
        plan: &mut PlanBuilder,
        prepared: bool,
        found: &Ref<Found>,
        contents: &Ref<Contents>,
    ) -> Ref<()> {
        let to = &self.moving.to;
        let mut ready: Vec<&dyn Named> = vec![contents];
        let platform;
        if !prepared {
            let prepare = PreparePlatform { to: to.clone(), found: Some(found.clone()) };
            platform = plan.step("prepare_platform", prepare, &[contents]);
            ready.push(&platform);
        }
        plan.step("make_stage", MakeStage { to: to.clone() }, &ready)
    }

    /// The files in the stage; after the user, whose password the settings will have.
    fn files(&self, plan: &mut PlanBuilder, staged: &Ref<()>, user: &Ref<()>) -> Box<dyn Named> {
        let (from, to) = (self.moving.from.clone(), self.moving.to.clone());
        if self.params.parts == Parts::Database {
            return Box::new(plan.step("copy_files", CopyFiles { from, to }, &[staged, user]));
        }
        let unpack = UnpackFiles { name: self.params.backup.clone(), to };
        Box::new(plan.step("unpack_files", unpack, &[staged, user]))
    }

    fn import(
        &self,
        plan: &mut PlanBuilder,
        new: &Store,
        contents: &Ref<Contents>,
        user: &Ref<()>,
    ) -> Box<dyn Named> {
        let import = ImportBackup {
            name: self.params.backup.clone(),
            to: self.moving.to.clone(),
            store: new.clone(),
            contents: contents.clone(),
        };
        Box::new(plan.step("import_backup", import, &[user]))
    }

    fn copy_ahead(&self, plan: &mut PlanBuilder, old: &Store, new: &Store, user: &Ref<()>) -> Ref<Ahead> {
        plan.step("copy_ahead", CopyAhead { copy: self.copy(old, new, None) }, &[user])
    }

    /// The live database: ahead of the fence, or behind it what was written since.
    fn copy(&self, old: &Store, new: &Store, ahead: Option<Ref<Ahead>>) -> CopyDatabase {
        let (from, to) = (&self.moving.from, &self.moving.to);
        let moves = [(&from.dir, &to.dir), (&from.root, &to.root)];
        CopyDatabase {
            site: to.site.clone(),
            from: old.clone(),
            to: new.clone(),
            rename: None,
            also: Vec::new(),
            moves: moves.into_iter().filter(|(a, b)| a != b).map(|(a, b)| (a.clone(), b.clone())).collect(),
            fenced: ahead.is_some(),
            ahead,
        }
    }

    /// Settings, access, the application's database update and its caches on the new side.
    fn finish(
        &self,
        plan: &mut PlanBuilder,
        new: &Store,
        files: &dyn Named,
        database: &dyn Named,
    ) -> Ref<()> {
        let to = &self.moving.to;
        let settings = plan.step(
            "write_settings",
            WriteSettings { to: to.clone(), store: new.clone(), renews: false },
            &[files],
        );
        let access = plan.step("fix_access", FixAccess { to: to.clone() }, &[&settings]);
        let update = UpdateDatabase { to: to.clone(), store: new.clone() };
        let compare = CompareRestored { to: to.clone(), store: new.clone() };
        let compared = plan.step("compare", compare, &[&access, database]);
        let updated = plan.step("update_database", update, &[&compared]);
        plan.step("clear_caches", ClearCaches { to: to.clone(), store: new.clone() }, &[&updated])
    }
}
