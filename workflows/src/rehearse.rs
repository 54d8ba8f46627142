//! `rehearse` and `pin`: whether a backup really restores, found out in a database that is thrown away; and which backups no purge takes.

use kedge_engine::builder::PlanBuilder;
use kedge_engine::plan::Plan;
use kedge_engine::workflow::{Facts, PlanCx, PlanRefusal, Workflow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::install::{database_password, taken_names};
use crate::names::SiteName;
use crate::params::{parse, schema};
use crate::place::{Names, Place, Store};
use crate::records::{self, BACKUP, BackupRecord};
use crate::steps::database::{CreateSchema, CreateUser};
use crate::steps::names::ReserveNames;
use crate::steps::rehearsal::{CheckRehearsal, CommitPin, CommitRehearsal, DropRehearsal};
use crate::steps::restore::{ImportBackup, ReadBackup};

/// The workflow that restores a backup into a database that is thrown away.
pub(crate) struct Rehearse;
/// The workflow that keeps a backup from being purged, or not any more.
pub(crate) struct Pin;

/// Parameters of `rehearse`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("anyOf" = [{ "required": ["site"] }, { "required": ["backup"] }]))]
struct Params {
    /// The site whose newest backup it is.
    #[serde(default)]
    site: Option<SiteName>,
    /// The backup's file name.
    #[serde(default)]
    #[schemars(length(min = 1, max = 230))]
    backup: Option<String>,
    /// The server that it is tried on; the one that the site was on by default.
    #[serde(default)]
    database_server: Option<String>,
}

/// Parameters of `pin`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("anyOf" = [{ "required": ["site"] }, { "required": ["backup"] }]))]
struct PinParams {
    /// The site whose newest backup it is.
    #[serde(default)]
    site: Option<SiteName>,
    /// The backup's file name.
    #[serde(default)]
    #[schemars(length(min = 1, max = 230))]
    backup: Option<String>,
    /// Whether it is kept whatever a purge is told, or no longer.
    #[serde(default = "yes")]
    pinned: bool,
}

fn yes() -> bool {
    true
}

impl Workflow for Rehearse {
    fn name(&self) -> &'static str {
        "rehearse"
    }

    fn title(&self) -> &'static str {
        "Try whether a backup restores, in a database that is thrown away."
    }

    fn schema(&self) -> Value {
        schema::<Params>()
    }

    fn example(&self) -> Value {
        json!({ "site": "deleted.example.test" })
    }

    fn plan(&self, params: &Value, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        let params: Params = parse(params)?;
        let backup = find(cx.facts, params.site.as_ref(), params.backup.as_deref())?;
        let server = params.database_server.unwrap_or_else(|| backup.database_server.clone());
        records::database_server(cx.facts, &server, "/database_server")?;
        let platform = records::platform(cx.facts, &backup.platform, "")?;
        let host = records::host_of(cx.facts, &platform.web_server)?;
        let (site, place) = (backup.site.clone(), Place::on(&backup.site, &backup.platform, &platform, host));
        let mut plan = PlanBuilder::new(Some(site.as_str()));
        // No purge takes it meanwhile.
        plan.lock(format!("backup {}", backup.name), true);
        let read = ReadBackup { name: backup.name.clone(), files: false, database: true, to: place.clone() };
        let contents = plan.step("read_backup", read, &[]);
        let reserve = ReserveNames {
            site: site.clone(),
            server: server.clone(),
            taken: taken_names(cx.facts, &server)?,
        };
        let reserved = plan.step("reserve_names", reserve, &[&contents]);
        let store = Store { server, password: database_password(cx), names: Names::Reserved(reserved) };
        let schema = CreateSchema { site: site.clone(), store: store.clone(), found: None };
        let schema = plan.step("create_schema", schema, &[]);
        let user = CreateUser { site: site.clone(), store: store.clone() };
        let user = plan.step("create_user", user, &[&schema]);
        let import = ImportBackup {
            name: backup.name.clone(),
            to: place.clone(),
            store: store.clone(),
            contents: contents.clone(),
        };
        let imported = plan.step("import_backup", import, &[&user]);
        let check = CheckRehearsal { place, store: store.clone(), contents, imported };
        let checked = plan.step("check", check, &[]);
        let committed = plan.step("commit", CommitRehearsal { backup: backup.name }, &[&checked]);
        plan.step("drop_database", DropRehearsal { site, store }, &[&committed]);
        Ok(plan.build()?)
    }
}

impl Workflow for Pin {
    fn name(&self) -> &'static str {
        "pin"
    }

    fn title(&self) -> &'static str {
        "Keep a backup whatever a purge is told, or no longer."
    }

    fn schema(&self) -> Value {
        schema::<PinParams>()
    }

    fn example(&self) -> Value {
        json!({ "site": "deleted.example.test" })
    }

    fn plan(&self, params: &Value, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        let params: PinParams = parse(params)?;
        let backup = find(cx.facts, params.site.as_ref(), params.backup.as_deref())?;
        let mut plan = PlanBuilder::new(Some(backup.site.as_str()));
        plan.lock(format!("backup {}", backup.name), false);
        plan.step("commit", CommitPin { backup: backup.name, pinned: params.pinned }, &[]);
        Ok(plan.build()?)
    }
}

/// The backup of that name, or the newest one of a site.
fn find(facts: &dyn Facts, site: Option<&SiteName>, name: Option<&str>) -> Result<BackupRecord, PlanRefusal> {
    if let Some(name) = name {
        let backup: Option<BackupRecord> = records::find(facts, BACKUP, name)?;
        let fits = backup.filter(|backup| site.is_none_or(|site| *site == backup.site));
        let none = "there is no such backup in the registry; `kedge backups` lists them";
        return fits.ok_or_else(|| PlanRefusal::param("/backup", none));
    }
    let Some(site) = site else { return Err(PlanRefusal::param("", "name a site or a backup")) };
    let mut newest: Option<BackupRecord> = None;
    for (name, value) in facts.records(BACKUP)? {
        let backup: BackupRecord = serde_json::from_value(value).map_err(|error| {
            PlanRefusal::Refused(format!("the backup record of {name} does not read: {error}"))
        })?;
        if backup.site == *site && newest.as_ref().is_none_or(|other| other.created_at < backup.created_at) {
            newest = Some(backup);
        }
    }
    newest.ok_or_else(|| PlanRefusal::param("/site", format!("there is no backup of {site}")))
}
