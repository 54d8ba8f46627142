//! Drupal 7 and newer: sites share a platform's code, each with its own directory (`sites/<site>`: settings, files, modules) and
//! database. Installs and looks through Drupal's own functions and plain reading, updates through drush. Never believes a command
//! that its update went well: the database is looked at. A site that is built beside the live one works on its own directory only.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kedge_engine::task::Millis;
use kedge_workflows::names::SiteName;
use kedge_workflows::ports::{
    Abilities, Access, AccessRule, App, AppSite, FileKind, Files, FoundSite, InstallRequest, LoginUser,
    Package, PlatformFacts, PortError, PortResult, Sanitized, SavedFile, Scope, Secret, SecretRef, Secrets,
    SiteFacts, SmokeCheck, UpdateReport, VolatileRows,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::drift::drift;
use super::drush::{self, Drush};
use super::packages::{Packages, sorted};
use super::php::{Php, Run};
use super::{drupal_find, drupal_login, drupal_policy, drupal_settings, drupal_sites};
use crate::host::Host;

pub(super) const SETTINGS: &str = "settings.php";
pub(super) const CODE: &str = include_str!("php/drupal_code.php");
pub(super) const LOAD: &str = include_str!("php/drupal_load.php");
/// Limits of runs that read, that install, and that update: a step's own limit ends them before, where it is shorter.
pub(super) const FACTS_LIMIT: Duration = Duration::from_secs(120);
const INSTALL_LIMIT: Duration = Duration::from_secs(1800);
const UPDATE_LIMIT: Duration = Duration::from_secs(4 * 3600);
/// What a site's directory has for the code of the site's own.
const CODE_DIRECTORIES: [&str; 3] = ["modules", "themes", "libraries"];
/// What it has for what the site writes. Source: Aegir's layout.
const DATA_DIRECTORIES: [&str; 6] =
    ["files", "private", "private/files", "private/temp", "private/config", "private/config/sync"];
/// Directories below `sites` that are no sites.
const NO_SITES: [&str; 3] = ["all", "default", "simpletest"];
/// How often a shared file is written anew when another was quicker.
const TRIES: usize = 5;

/// Drupal on a host, on behalf of one attempt.
pub struct Drupal {
    php: Php,
    drush: Drush,
    pub(super) files: Arc<dyn Files>,
    pub(super) secrets: Arc<dyn Secrets>,
}

#[derive(Deserialize)]
struct Platform {
    version: String,
    schema_version: u64,
    seven: bool,
}

#[derive(Debug, Deserialize)]
struct Facts {
    installed: bool,
    version: String,
    schema_version: Option<u64>,
    wanted: u64,
    pending: Vec<String>,
    maintenance: bool,
    seven: bool,
}

impl Drupal {
    /// Drupal on this host, whose files are `files`; `web_user` is what its web server runs PHP as; `drush` from the configuration.
    pub fn new(
        host: Arc<dyn Host>,
        files: Arc<dyn Files>,
        secrets: Arc<dyn Secrets>,
        scope: Scope,
        web_user: impl Into<String>,
        drush: Option<String>,
    ) -> Self {
        let user = web_user.into();
        let drush = Drush { host: host.clone(), scope: scope.clone(), user: user.clone(), configured: drush };
        Self { php: Php { host, scope, user }, drush, files, secrets }
    }

    async fn secret(&self, name: &SecretRef) -> PortResult<Secret> {
        let secret = self.secrets.get(name).await?;
        secret.ok_or_else(|| PortError::Refused(format!("the secret {:?} does not exist", name.0)))
    }

    async fn sites_file(&self, root: &str) -> PortResult<Option<SavedFile>> {
        self.files.read(&format!("{root}/sites/sites.php")).await
    }

    /// Runs a script that reads the code of a platform.
    async fn on_platform<T: DeserializeOwned>(&self, root: &str, doing: &str, script: &str) -> PortResult<T> {
        let parameters = Map::from_iter([("platform_root".to_owned(), Value::from(root))]);
        let (what, script, secrets) = (format!("{doing} {root}"), [CODE, script], Vec::new());
        let run = Run { what, script: &script, parameters, secrets, limit: FACTS_LIMIT, changes: false };
        self.php.run(run).await
    }

    /// Runs a script on a site, from the directory where it is now.
    pub(super) async fn on_site<T: DeserializeOwned>(&self, site: &AppSite, run: OnSite) -> PortResult<T> {
        let mut secrets = run.secrets;
        secrets.extend(self.secrets.get(&site.database.password).await?);
        let mut parameters = run.parameters;
        for (name, value) in [
            ("platform_root", site.platform_root.as_str()),
            ("dir", &site.dir),
            ("site", site.name.as_str()),
            ("mode", run.mode),
        ] {
            parameters.insert(name.to_owned(), Value::from(value));
        }
        let what = format!("{} {}", run.doing, site.name);
        let (script, limit, changes) = ([CODE, LOAD, run.script], run.limit, run.changes);
        self.php.run(Run { what, script: &script, parameters, secrets, limit, changes }).await
    }

    async fn facts(&self, site: &AppSite) -> PortResult<Facts> {
        self.on_site(site, OnSite::new("looking at", include_str!("php/drupal_facts.php"))).await
    }

    /// Empties the caches in the database, and moves what the code of the site's own is found by from one directory to another.
    async fn settle(&self, site: &AppSite, from: &str, to: &str) -> PortResult<()> {
        let mut run = OnSite::new("emptying the caches of", include_str!("php/drupal_settle.php"));
        for (name, dir) in [("from", from), ("to", to)] {
            run.parameters.insert(name.to_owned(), Value::from(dir.rsplit('/').next().unwrap_or_default()));
        }
        self.on_site::<Value>(site, run).await.map(|_| ())
    }

    pub(super) async fn drush(
        &self,
        site: &AppSite,
        doing: &str,
        args: &[&str],
        limit: Duration,
    ) -> PortResult<drush::Said> {
        let secret = self.secrets.get(&site.database.password).await?;
        let what = format!("{doing} {}", site.name);
        self.drush.on_site(site, &drush::Run { what, args, limit, changes: true, secret }).await
    }
}

/// A script and how it is run.
pub(super) struct OnSite {
    pub(super) doing: &'static str,
    pub(super) script: &'static str,
    pub(super) parameters: Map<String, Value>,
    pub(super) secrets: Vec<Secret>,
    pub(super) mode: &'static str,
    pub(super) limit: Duration,
    pub(super) changes: bool,
}

impl OnSite {
    pub(super) fn new(doing: &'static str, script: &'static str) -> Self {
        let (parameters, secrets) = (Map::new(), Vec::new());
        Self { doing, script, parameters, secrets, mode: "look", limit: FACTS_LIMIT, changes: false }
    }
}

#[async_trait]
impl App for Drupal {
    async fn platform_facts(&self, root: &str) -> PortResult<PlatformFacts> {
        let script = include_str!("php/drupal_platform.php");
        let platform: Platform = self.on_platform(root, "looking at the platform", script).await?;
        let (path, version) = self.drush.version(root, FACTS_LIMIT).await?;
        drush::fits(&path, &version, &platform.version, platform.seven)?;
        let prepared = self.sites_file(root).await?.is_some_and(|file| drupal_sites::has_lines(&file.bytes));
        let (version, schema_version) = (platform.version, Some(platform.schema_version));
        Ok(PlatformFacts { version, schema_version, prepared, behind: Vec::new() })
    }

    async fn prepare_platform(&self, root: &str) -> PortResult<bool> {
        let path = format!("{root}/sites/sites.php");
        for _ in 0..TRIES {
            let there = self.sites_file(root).await?;
            if there.as_ref().is_some_and(|file| drupal_sites::has_lines(&file.bytes)) {
                return Ok(false);
            }
            let new = drupal_sites::with_lines(there.as_ref().map(|file| file.bytes.as_slice()))
                .map_err(|error| named(&path, error))?;
            let access = there.as_ref().map_or_else(
                || Access { mode: 0o644, user: Some("root".to_owned()), group: Some("root".to_owned()) },
                |file| Access { mode: file.mode, user: None, group: None },
            );
            match self.files.put(&path, &new, &access, there.as_ref().map(|file| file.sha256.as_str())).await
            {
                // Somebody else wrote to it in between: from what there is now.
                Err(PortError::NotOurs(_)) => {}
                written => return written.map(|()| true),
            }
        }
        Err(PortError::Unavailable(format!("{path} is being written to by others all the time")))
    }

    async fn unprepare_platform(&self, root: &str) -> PortResult<()> {
        let sites = format!("{root}/sites");
        for name in self.files.list(&sites).await? {
            let is_site = !NO_SITES.contains(&name.as_str())
                && self
                    .files
                    .stat(&format!("{sites}/{name}"))
                    .await?
                    .is_some_and(|s| s.kind == FileKind::Dir);
            if is_site {
                return Ok(());
            }
        }
        let path = format!("{sites}/sites.php");
        for _ in 0..TRIES {
            // Where nothing is to be taken out, what an attempt that was killed has left beside the file goes.
            let Some(there) = self.sites_file(root).await? else {
                return self.files.restore(&path, None, &[]).await;
            };
            // Damaged markers are somebody's own lines by now.
            let Ok(left) = drupal_sites::without_lines(&there.bytes) else { return Ok(()) };
            let done = match left {
                Some(left) if left == there.bytes => {
                    self.files.restore(&path, Some(&there), std::slice::from_ref(&there.sha256)).await
                }
                Some(left) => {
                    let access = Access { mode: there.mode, user: None, group: None };
                    self.files.put(&path, &left, &access, Some(&there.sha256)).await
                }
                None => self.files.restore(&path, None, &[there.sha256]).await,
            };
            match done {
                Err(PortError::NotOurs(_)) => {}
                done => return done,
            }
        }
        Ok(())
    }

    async fn fill_skeleton(&self, _root: &str, site_dir: &str) -> PortResult<()> {
        for name in CODE_DIRECTORIES {
            let access = Access { mode: 0o755, user: None, group: None };
            self.files.make_dir(&format!("{site_dir}/{name}"), &access, false).await?;
        }
        Ok(())
    }

    async fn write_settings(&self, site: &AppSite) -> PortResult<()> {
        let password = self.secret(&site.database.password).await?;
        for name in DATA_DIRECTORIES {
            let path = format!("{}/{name}", site.dir);
            if self.files.stat(&path).await?.is_none() {
                let user = Some(self.php.user.clone());
                let access = Access { mode: 0o2770, user: user.clone(), group: user };
                self.files.make_dir(&path, &access, false).await?;
            }
        }
        let path = format!("{}/{SETTINGS}", site.dir);
        let there = self.files.read(&path).await?;
        let bytes = there.as_ref().map(|file| file.bytes.as_slice());
        let new =
            drupal_settings::render(bytes, site, &password, salt).map_err(|error| named(&path, error))?;
        let access =
            Access { mode: 0o440, user: Some("root".to_owned()), group: Some(self.php.user.clone()) };
        self.files.put(&path, &new, &access, there.as_ref().map(|file| file.sha256.as_str())).await
    }

    async fn renew_keys(&self, site: &AppSite) -> PortResult<()> {
        let path = format!("{}/{SETTINGS}", site.dir);
        let there = self.files.read(&path).await?;
        let there = there.ok_or_else(|| PortError::Refused(format!("{path} does not exist")))?;
        let new = drupal_settings::renewed(&there.bytes, &salt()?)?;
        let access =
            Access { mode: 0o440, user: Some("root".to_owned()), group: Some(self.php.user.clone()) };
        self.files.put(&path, &new, &access, Some(&there.sha256)).await
    }

    async fn settings_drift(&self, site: &AppSite) -> PortResult<Vec<String>> {
        let password = self.secret(&site.database.password).await?;
        let there = self.files.read(&format!("{}/{SETTINGS}", site.dir)).await?;
        let bytes = there.as_ref().map(|file| file.bytes.as_slice());
        drift(there.as_ref(), drupal_settings::render(bytes, site, &password, salt), &password)
    }

    async fn find_site(&self, dir: &str, name: &SiteName) -> PortResult<FoundSite> {
        drupal_find::find(&self.php, dir, name).await
    }

    async fn install(&self, site: &AppSite, request: &InstallRequest) -> PortResult<()> {
        let password = self.secret(&request.admin_password).await?;
        let run = OnSite::new("installing", include_str!("php/drupal_install.php"));
        let mut run = OnSite { mode: "install", limit: INSTALL_LIMIT, changes: true, ..run };
        for (name, value) in [
            ("title", request.title.as_str()),
            ("admin_user", &request.admin_user),
            ("admin_email", &request.admin_email),
            ("admin_password", password.expose()),
            ("language", request.language.as_deref().unwrap_or("")),
            ("profile", request.profile.as_deref().unwrap_or("")),
        ] {
            run.parameters.insert(name.to_owned(), Value::from(value));
        }
        run.secrets.push(password);
        self.on_site::<Value>(site, run).await.map(|_| ())
    }

    async fn site_facts(&self, site: &AppSite) -> PortResult<SiteFacts> {
        let facts = self.facts(site).await?;
        let update_pending = !facts.pending.is_empty();
        let Facts { installed, version, schema_version, .. } = facts;
        Ok(SiteFacts { installed, version, schema_version, update_pending })
    }

    async fn update_database(&self, site: &AppSite) -> PortResult<UpdateReport> {
        let before = self.facts(site).await?;
        let refused =
            |text: String| PortError::Refused(format!("updating the database of {}: {text}", site.name));
        let from = before.schema_version.filter(|_| before.installed);
        let from = from.ok_or_else(|| refused("no Drupal is installed in this database".to_owned()))?;
        if from > before.wanted {
            return Err(refused(format!(
                "it is of a newer Drupal ({from}) than the platform ({})",
                before.wanted
            )));
        }
        // Code of the site's own is where the site is now, and what is cached was true elsewhere.
        self.settle(site, &site.live_dir, &site.dir).await?;
        self.drush(site, "updating the database of", &["updatedb"], UPDATE_LIMIT).await?;
        let after = self.facts(site).await?;
        if !after.pending.is_empty() {
            return Err(refused(format!(
                "drush says that it went well, and these are left: {}",
                after.pending.join(" ")
            )));
        }
        if after.maintenance != before.maintenance {
            let run = OnSite::new("leaving maintenance mode of", include_str!("php/drupal_maintenance.php"));
            let parameters = Map::from_iter([("maintenance".to_owned(), json!(before.maintenance))]);
            self.on_site::<Value>(site, OnSite { parameters, changes: true, ..run }).await?;
        }
        Ok(UpdateReport { from: Some(from), to: after.schema_version })
    }

    async fn sanitize(&self, site: &AppSite) -> PortResult<Sanitized> {
        let run = OnSite::new("taking persons out of", include_str!("php/drupal_sanitize.php"));
        let done = self.on_site(site, OnSite { limit: UPDATE_LIMIT, changes: true, ..run }).await?;
        // What is cached has them still.
        self.settle(site, &site.dir, &site.dir).await?;
        Ok(done)
    }

    async fn clear_caches(&self, site: &AppSite) -> PortResult<()> {
        let facts = self.facts(site).await?;
        let args: &[&str] = if facts.seven { &["cache-clear", "all"] } else { &["cache:rebuild"] };
        // Caches outside of the database too, such as Redis: only the site's own code knows them.
        self.drush(site, "emptying the caches of", args, FACTS_LIMIT * 5).await?;
        self.settle(site, &site.dir, &site.live_dir).await?;
        self.files.remove_tree(&format!("{}/files/php", site.dir), &site.dir).await
    }

    fn abilities(&self) -> Abilities {
        // Its compiled templates are files, and a rebuild takes minutes.
        Abilities { clears_in_place: false, ..Abilities::ALL }
    }

    async fn packages(&self, site: &AppSite) -> PortResult<Vec<Package>> {
        let run = OnSite::new("looking at the packages of", include_str!("php/drupal_packages.php"));
        let Packages { packages } = self.on_site(site, run).await?;
        Ok(sorted(packages))
    }

    async fn platform_packages(&self, root: &str) -> PortResult<Vec<Package>> {
        let script = include_str!("php/drupal_platform_packages.php");
        let Packages { packages } = self.on_platform(root, "looking at the packages of", script).await?;
        Ok(sorted(packages))
    }

    async fn login_link(
        &self,
        site: &AppSite,
        user: Option<&str>,
        link: &SecretRef,
        until: Millis,
    ) -> PortResult<LoginUser> {
        drupal_login::make(self, site, user, link, until).await
    }

    async fn revoke_login(&self, site: &AppSite, link: &SecretRef) -> PortResult<()> {
        drupal_login::revoke(self, site, link).await
    }

    fn access_rules(&self) -> Vec<AccessRule> {
        drupal_policy::access_rules(&self.php.user)
    }

    fn settings_files(&self) -> Vec<String> {
        vec![SETTINGS.to_owned()]
    }

    fn volatile_rows(&self) -> Vec<VolatileRows> {
        drupal_policy::volatile_rows()
    }

    fn smoke_checks(&self, site: &SiteName) -> Vec<SmokeCheck> {
        drupal_policy::smoke_checks(site)
    }
}

/// An error that tells which file it is about.
fn named(path: &str, error: PortError) -> PortError {
    match error {
        PortError::Refused(what) => PortError::Refused(format!("{path}: {what}")),
        other => other,
    }
}

/// 440 random bits, in the form of Drupal's own salts.
fn salt() -> PortResult<String> {
    let mut bytes = [0; 55];
    getrandom::fill(&mut bytes)
        .map_err(|error| PortError::Unavailable(format!("the system has no random bytes: {error}")))?;
    Ok(hex::encode(bytes))
}
