//! The registry's records and what the configuration says of platforms and servers, read through [`Facts`]. Reads, never writes.

use kedge_engine::task::Millis;
use kedge_engine::workflow::{Facts, PlanRefusal};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::names::{DatabaseName, SiteName};
use crate::ports::{AppKind, Mark, Reach, SecretRef};

/// Where the passwords of new database users are: behind this, the task that makes the user.
pub const DATABASE_PASSWORDS: &str = "database/";

/// Family of site records.
pub const SITE: &str = "site";
/// Family of platform records (from the configuration).
pub const PLATFORM: &str = "platform";
/// Family of web server records (from the configuration).
pub const WEB_SERVER: &str = "web_server";
/// Family of database server records (from the configuration).
pub const DATABASE_SERVER: &str = "database_server";
/// Family of what the configuration lets tasks do (from the configuration), by workflow.
pub const POLICY: &str = "policy";
/// Family of platforms that are ready to be shared.
pub const PREPARED: &str = "prepared";
/// Family of claims on database names: `<server>/<name>`.
pub const DATABASE_NAME: &str = "database_name";
/// Family of backups, by file name.
pub const BACKUP: &str = "backup";
/// Family of old sides within their hold, by the task that put them there.
pub const TRASH: &str = "trash";

/// A site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteRecord {
    /// Its host name.
    pub name: SiteName,
    /// Other names it answers to.
    #[serde(default)]
    pub aliases: Vec<SiteName>,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The platform it runs on.
    pub platform: String,
    /// Its directory.
    pub dir: String,
    /// The database server.
    pub database_server: String,
    /// Its schema.
    pub schema: DatabaseName,
    /// Its database user.
    pub user: DatabaseName,
    /// Where the user's password is.
    pub password: SecretRef,
    /// `enabled` or `disabled`.
    pub state: SiteState,
    /// How visitors reach it.
    #[serde(default, skip_serializing_if = "Reach::is_plain")]
    pub reach: Reach,
    /// Whether it reaches nobody: no mail, no cron, no requests to others. A copy may be so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub quiet: bool,
    /// The site that this one was cloned from, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloned_from: Option<SiteName>,
    /// The task that put the site where it is: what it can be taken back by.
    pub task: String,
    /// When.
    pub changed_at: Millis,
    /// When it was last found, or made, as it should be by a verify.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_at: Option<Millis>,
}

impl SiteRecord {
    /// The mark that the site's schema and user carry, if Kedge made them: by the task whose password they got.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        let task = self.password.0.strip_prefix(DATABASE_PASSWORDS)?.to_owned();
        Some(Mark { task, site: self.name.to_string() })
    }
}

/// Whether visitors are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SiteState {
    /// They are.
    Enabled,
    /// They see the disabled page.
    Disabled,
}

/// A platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformRecord {
    /// The web server it is on.
    pub web_server: String,
    /// Its root directory.
    pub root: String,
    /// Its application.
    pub app: AppKind,
}

/// A web server, as far as plans need to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebServerRecord {
    /// The host it runs on: two web servers on one host share its files.
    pub host: String,
}

/// What `delete` may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletePolicy {
    /// A site has to be disabled first.
    pub only_disabled: bool,
}

impl Default for DeletePolicy {
    fn default() -> Self {
        Self { only_disabled: true }
    }
}

/// A backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRecord {
    /// File name.
    pub name: String,
    /// The site.
    pub site: SiteName,
    /// The platform it was on.
    pub platform: String,
    /// The database server it was on.
    pub database_server: String,
    /// Why it was made.
    pub description: String,
    /// Bytes on disk.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Paths below the site's directory that it was made without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// The task that made it.
    pub task: String,
    /// When.
    pub created_at: Millis,
    /// Whether it is kept, whatever a purge is told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
    /// When it was last found to restore, in a database that was thrown away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsed_at: Option<Millis>,
}

/// An old side within its hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrashRecord {
    /// The site as it was, its directory being where it is now.
    pub site: SiteRecord,
    /// Until when it is kept.
    pub until: Millis,
    /// How it came there.
    #[serde(default)]
    pub why: TrashedBy,
    /// From where its database accounts connect that somebody else had locked before: they stay so when it comes back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub locked_at: Vec<String>,
}

/// How a side came into the trash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrashedBy {
    /// The site moved away from it.
    #[default]
    Move,
    /// The site was deleted.
    Delete,
    /// An import was taken back.
    Import,
}

/// Reads a record.
///
/// # Errors
/// When the registry cannot be read or the record is damaged.
pub fn find<T: DeserializeOwned>(
    facts: &dyn Facts,
    family: &str,
    name: &str,
) -> Result<Option<T>, PlanRefusal> {
    let Some(value) = facts.record(family, name)? else { return Ok(None) };
    let record = serde_json::from_value(value);
    record.map(Some).map_err(|error| {
        PlanRefusal::Refused(format!("the {family} record of {name} does not read: {error}"))
    })
}

/// A platform that has to exist.
///
/// # Errors
/// Names the platforms there are, at `pointer`.
pub fn platform(facts: &dyn Facts, name: &str, pointer: &str) -> Result<PlatformRecord, PlanRefusal> {
    match find(facts, PLATFORM, name)? {
        Some(platform) => Ok(platform),
        None => Err(unknown(facts, PLATFORM, "platform", pointer)?),
    }
}

/// A site that has to exist.
///
/// # Errors
/// Says so at `pointer`.
pub fn site(facts: &dyn Facts, name: &SiteName, pointer: &str) -> Result<SiteRecord, PlanRefusal> {
    let found = find(facts, SITE, name.as_str())?;
    found.ok_or_else(|| {
        PlanRefusal::param(pointer, format!("there is no site {name}; `kedge sites` lists them"))
    })
}

/// A site that still is where a task has put it: what an undo of that task begins with.
///
/// # Errors
/// When it is gone, or another task has put it elsewhere since.
pub(crate) fn site_put_there_by(
    task: &str,
    facts: &dyn Facts,
    name: &SiteName,
) -> Result<SiteRecord, PlanRefusal> {
    let record = site(facts, name, "")?;
    if record.task != task {
        let why = format!("{name} was changed since, by {}; undo that first", record.task);
        return Err(PlanRefusal::Refused(why));
    }
    Ok(record)
}

/// The site that a host name belongs to, by its name or an alias.
///
/// # Errors
/// When the registry cannot be read.
pub fn owner_of(facts: &dyn Facts, name: &SiteName) -> Result<Option<SiteName>, PlanRefusal> {
    if facts.record(SITE, name.as_str())?.is_some() {
        return Ok(Some(name.clone()));
    }
    let sites = facts.records(SITE)?;
    let owner =
        sites.into_iter().find(|(_, site)| has_alias(site, name)).map(|(owner, _)| SiteName::parse(&owner));
    owner.transpose().map_err(|bad| PlanRefusal::Refused(format!("a record of the registry: {bad}")))
}

/// Whether a site, as the registry has it, answers to another name.
pub(crate) fn has_alias(site: &serde_json::Value, name: &SiteName) -> bool {
    site["aliases"].as_array().is_some_and(|aliases| aliases.iter().any(|alias| *alias == name.as_str()))
}

/// Refuses to bring back a side whose names another site has got since. `own`: the site that is there instead of it.
pub(crate) fn names_came_free(
    facts: &dyn Facts,
    names: &[SiteName],
    own: Option<&SiteName>,
) -> Result<(), PlanRefusal> {
    for name in names {
        if let Some(owner) = owner_of(facts, name)?.filter(|owner| Some(owner) != own) {
            let why = format!(
                "{name} is a name of the site {owner} by now; delete or rename that, or take the name from it"
            );
            return Err(PlanRefusal::Refused(why));
        }
    }
    Ok(())
}

/// A database server that has to exist.
///
/// # Errors
/// Names the servers there are, at `pointer`.
pub fn database_server(facts: &dyn Facts, name: &str, pointer: &str) -> Result<(), PlanRefusal> {
    match facts.record(DATABASE_SERVER, name)? {
        Some(_) => Ok(()),
        None => Err(unknown(facts, DATABASE_SERVER, "database server", pointer)?),
    }
}

/// The host of a web server.
///
/// # Errors
/// When the configuration does not name it.
pub fn host_of(facts: &dyn Facts, web_server: &str) -> Result<String, PlanRefusal> {
    let record: Option<WebServerRecord> = find(facts, WEB_SERVER, web_server)?;
    let unknown = || PlanRefusal::Refused(format!("the configuration has no web server {web_server:?}"));
    Ok(record.ok_or_else(unknown)?.host)
}

fn unknown(facts: &dyn Facts, family: &str, what: &str, pointer: &str) -> Result<PlanRefusal, PlanRefusal> {
    let names: Vec<String> = facts.records(family)?.into_iter().map(|(name, _)| name).take(20).collect();
    let known = if names.is_empty() {
        "none is configured".to_owned()
    } else {
        format!("there are: {}", names.join(", "))
    };
    Ok(PlanRefusal::param(pointer, format!("there is no such {what}; {known}")))
}
