//! WordPress: several sites share a platform's core, each with its own directory (`sites/<site>`: settings and `wp-content`) and
//! database. Works through WordPress's own functions, run by PHP on the host. Never loads a site's plugins, never lets it send mail.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kedge_engine::task::Millis;
use kedge_workflows::names::{BadName, DatabaseName, SiteName};
use kedge_workflows::ports::{
    Abilities, Access, AccessRule, App, AppSite, CopyOptions, FileKind, Files, FoundSite, Get,
    InstallRequest, LoginUser, Package, PlatformFacts, PortError, PortResult, Sanitized, SavedFile, Scope,
    Secret, SecretRef, Secrets, SiteFacts, SmokeCheck, UpdateReport, VolatileRows,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::drift::drift;
use super::packages::{Packages, sorted};
use super::php::{Php, Run};
use super::wordpress_script::{FACTS_LIMIT, Found, OnSite, Platform, Site, Updated, left_behind};
use super::{wordpress_login, wordpress_settings};
use crate::host::{Command, Host};

/// The file that WordPress reads its settings from; in the platform's root it is the dispatcher.
const SETTINGS: &str = "wp-config.php";
const DISPATCHER: &str = include_str!("php/dispatcher.php");
/// What every version of the dispatcher begins with.
const DISPATCHER_MARK: &str = "<?php\n// kedge dispatcher ";
const LOAD: &str = include_str!("php/wordpress_load.php");
const HEADERS: &str = include_str!("php/wordpress_headers.php");
/// Limits of runs that install, and that update: a step's own limit ends them before, where it is shorter.
const INSTALL_LIMIT: Duration = Duration::from_secs(600);
const UPDATE_LIMIT: Duration = Duration::from_secs(4 * 3600);
/// What a site's own copy of `wp-content` begins with, where the platform has it.
const SKELETON: [&str; 4] = ["themes", "plugins", "mu-plugins", "languages"];
/// Directories below `wp-content` that are there in any case.
const DIRECTORIES: [&str; 3] = ["themes", "plugins", "uploads"];

/// WordPress on a host, on behalf of one attempt.
pub struct WordPress {
    php: Php,
    files: Arc<dyn Files>,
    pub(super) secrets: Arc<dyn Secrets>,
}

impl WordPress {
    /// WordPress on this host, whose files are `files`; `web_user` is what its web server runs PHP as (`www-data` on Debian).
    pub fn new(
        host: Arc<dyn Host>,
        files: Arc<dyn Files>,
        secrets: Arc<dyn Secrets>,
        scope: Scope,
        web_user: impl Into<String>,
    ) -> Self {
        Self { php: Php { host, scope, user: web_user.into() }, files, secrets }
    }

    async fn secret(&self, name: &SecretRef) -> PortResult<Secret> {
        let secret = self.secrets.get(name).await?;
        secret.ok_or_else(|| PortError::Refused(format!("the secret {:?} does not exist", name.0)))
    }

    /// The platform's own settings file: `None` when there is none, `Ok(Some)` when it is ours.
    pub(super) async fn dispatcher(&self, root: &str) -> PortResult<Option<SavedFile>> {
        let path = format!("{root}/{SETTINGS}");
        let Some(file) = self.files.read(&path).await? else { return Ok(None) };
        if !file.bytes.starts_with(DISPATCHER_MARK.as_bytes()) {
            return Err(PortError::Refused(format!(
                "{path} was not made by Kedge, and a platform that sites share needs one that picks the site: move it away"
            )));
        }
        Ok(Some(file))
    }

    /// Whether the platform has today's dispatcher.
    pub(super) async fn is_prepared(&self, root: &str) -> PortResult<bool> {
        Ok(self.dispatcher(root).await?.is_some_and(|file| file.bytes == DISPATCHER.as_bytes()))
    }

    /// Runs a script on a site, from the directory where it is now.
    pub(super) async fn on_site<T: DeserializeOwned>(
        &self,
        site: &AppSite,
        run: OnSite<'_>,
    ) -> PortResult<T> {
        let mut secrets = run.secrets;
        secrets.extend(self.secrets.get(&site.database.password).await?);
        let mut parameters = run.parameters;
        for (name, value) in [
            ("platform_root", site.platform_root.as_str()),
            ("dir", &site.dir),
            ("site", site.name.as_str()),
            ("mode", if run.short { "short" } else { "installing" }),
        ] {
            parameters.insert(name.to_owned(), Value::from(value));
        }
        let what = format!("{} {}", run.doing, site.name);
        let script = [LOAD, run.before, run.script];
        self.php
            .run(Run { what, script: &script, parameters, secrets, limit: run.limit, changes: run.changes })
            .await
    }
}

#[async_trait]
impl App for WordPress {
    async fn platform_facts(&self, root: &str) -> PortResult<PlatformFacts> {
        let parameters = Map::from_iter([("platform_root".to_owned(), Value::from(root))]);
        let platform: Platform = self
            .php
            .run(Run {
                what: format!("looking at the platform {root}"),
                script: &[include_str!("php/wordpress_platform.php")],
                parameters,
                secrets: Vec::new(),
                limit: FACTS_LIMIT,
                changes: false,
            })
            .await?;
        let prepared = self.dispatcher(root).await?.is_some_and(|file| file.bytes == DISPATCHER.as_bytes());
        Ok(PlatformFacts {
            version: platform.version,
            schema_version: Some(platform.schema_version),
            prepared,
            behind: Vec::new(),
        })
    }

    async fn prepare_platform(&self, root: &str) -> PortResult<bool> {
        let there = self.dispatcher(root).await?;
        if there.as_ref().is_some_and(|file| file.bytes == DISPATCHER.as_bytes()) {
            return Ok(false);
        }
        let access = Access { mode: 0o644, user: Some("root".to_owned()), group: Some("root".to_owned()) };
        let expected = there.as_ref().map(|file| file.sha256.as_str());
        self.files.put(&format!("{root}/{SETTINGS}"), DISPATCHER.as_bytes(), &access, expected).await?;
        // One of an older version was there: other sites rely on it, and taking it back is not ours.
        Ok(there.is_none())
    }

    async fn unprepare_platform(&self, root: &str) -> PortResult<()> {
        let sites = format!("{root}/sites");
        if !self.files.list(&sites).await?.is_empty() {
            return Ok(());
        }
        match self.dispatcher(root).await {
            // Where there is none, what an attempt that was killed has left beside its place goes.
            Ok(file) => {
                let ours: Vec<String> = file.into_iter().map(|file| file.sha256).collect();
                self.files.restore(&format!("{root}/{SETTINGS}"), None, &ours).await?;
            }
            Err(PortError::Refused(_)) => return Ok(()),
            Err(error) => return Err(error),
        }
        // Not by `remove_tree`: a site may move in at this moment.
        let rmdir = ["rmdir", "--ignore-fail-on-non-empty", "--", &sites];
        if self.files.stat(&sites).await?.is_some_and(|stat| stat.kind == FileKind::Dir) {
            let finished = self.php.host.run(Command::new(&self.php.scope, rmdir)).await?;
            // Where sites are on a file system of their own it stays: it was there before us.
            if !finished.last_error().contains("resource busy") {
                finished.success(&format!("removing {sites}"))?;
            }
        }
        Ok(())
    }

    async fn fill_skeleton(&self, root: &str, site_dir: &str) -> PortResult<()> {
        let (from, to) = (format!("{root}/wp-content"), format!("{site_dir}/wp-content"));
        let access = Access { mode: 0o755, user: None, group: None };
        self.files.make_dir(&to, &access, false).await?;
        for name in SKELETON {
            let (from, to) = (format!("{from}/{name}"), format!("{to}/{name}"));
            match self.files.stat(&from).await?.map(|stat| stat.kind) {
                Some(FileKind::Dir) => {
                    self.files.copy_tree(&from, &to, &CopyOptions::default()).await?;
                }
                None => {}
                Some(_) => {
                    return Err(PortError::Refused(format!(
                        "{from} is not a directory; a platform must be one plain tree"
                    )));
                }
            }
        }
        for name in DIRECTORIES {
            self.files.make_dir(&format!("{to}/{name}"), &access, false).await?;
        }
        // Keeps the directory from being listed, as in WordPress's own.
        let access = Access { mode: 0o644, ..access };
        let index = "<?php\n// Silence is golden.\n";
        self.files.put(&format!("{to}/index.php"), index.as_bytes(), &access, None).await
    }

    async fn write_settings(&self, site: &AppSite) -> PortResult<()> {
        let password = self.secret(&site.database.password).await?;
        let path = format!("{}/{SETTINGS}", site.dir);
        let there = self.files.read(&path).await?;
        let new = wordpress_settings::render(
            there.as_ref().map(|file| file.bytes.as_slice()),
            site,
            &password,
            salt,
        )
        .map_err(|error| match error {
            PortError::Refused(what) => PortError::Refused(format!("{path}: {what}")),
            other => other,
        })?;
        let access =
            Access { mode: 0o440, user: Some("root".to_owned()), group: Some(self.php.user.clone()) };
        self.files.put(&path, &new, &access, there.as_ref().map(|file| file.sha256.as_str())).await
    }

    async fn renew_keys(&self, site: &AppSite) -> PortResult<()> {
        let path = format!("{}/{SETTINGS}", site.dir);
        let there = self.files.read(&path).await?;
        let there = there.ok_or_else(|| PortError::Refused(format!("{path} does not exist")))?;
        let new = wordpress_settings::renewed(&there.bytes, salt)?;
        let access =
            Access { mode: 0o440, user: Some("root".to_owned()), group: Some(self.php.user.clone()) };
        self.files.put(&path, &new, &access, Some(&there.sha256)).await
    }

    async fn settings_drift(&self, site: &AppSite) -> PortResult<Vec<String>> {
        let password = self.secret(&site.database.password).await?;
        let there = self.files.read(&format!("{}/{SETTINGS}", site.dir)).await?;
        let bytes = there.as_ref().map(|file| file.bytes.as_slice());
        drift(there.as_ref(), wordpress_settings::render(bytes, site, &password, salt), &password)
    }

    async fn find_site(&self, dir: &str, name: &SiteName) -> PortResult<FoundSite> {
        let mut parameters = Map::new();
        for (key, value) in [("platform_root", dir), ("dir", dir), ("site", name.as_str()), ("mode", "short")]
        {
            parameters.insert(key.to_owned(), Value::from(value));
        }
        let found: Found = self
            .php
            .run(Run {
                what: format!("looking at the site in {dir}"),
                script: &[LOAD, include_str!("php/wordpress_find.php")],
                parameters,
                // PHP tells no arguments of functions, and the script reads no password: there is none to be masked.
                secrets: Vec::new(),
                limit: FACTS_LIMIT,
                changes: false,
            })
            .await?;
        let bad =
            |what: &str, error: BadName| PortError::Refused(format!("{dir}/{SETTINGS}, {what}: {error}"));
        Ok(FoundSite {
            name: Some(SiteName::parse(&found.host).map_err(|error| bad("the site's address", error))?),
            version: found.version,
            schema_version: Some(found.schema_version),
            database_host: found.database_host,
            database: DatabaseName::parse(&found.database).map_err(|error| bad("DB_NAME", error))?,
            user: DatabaseName::parse(&found.user).map_err(|error| bad("DB_USER", error))?,
            tables: Some(found.tables),
            members: vec![SETTINGS.to_owned(), "wp-content".to_owned()],
            packages: Vec::new(),
            https: found.https,
            notes: left_behind(&found.left).into_iter().collect(),
        })
    }

    async fn install(&self, site: &AppSite, request: &InstallRequest) -> PortResult<()> {
        let password = self.secret(&request.admin_password).await?;
        let mut run =
            OnSite::new("installing", include_str!("php/wordpress_install.php")).changing(INSTALL_LIMIT);
        for (name, value) in [
            ("title", request.title.as_str()),
            ("admin_user", &request.admin_user),
            ("admin_email", &request.admin_email),
            ("admin_password", password.expose()),
            ("language", request.language.as_deref().unwrap_or("")),
        ] {
            run.parameters.insert(name.to_owned(), Value::from(value));
        }
        run.secrets.push(password);
        self.on_site::<Value>(site, run).await.map(|_| ())
    }

    async fn site_facts(&self, site: &AppSite) -> PortResult<SiteFacts> {
        let run = OnSite::new("looking at", include_str!("php/wordpress_facts.php"));
        let Site { installed, version, schema_version, update_pending } = self.on_site(site, run).await?;
        Ok(SiteFacts { installed, version, schema_version, update_pending })
    }

    async fn update_database(&self, site: &AppSite) -> PortResult<UpdateReport> {
        let run = OnSite::new("updating the database of", include_str!("php/wordpress_update.php"))
            .changing(UPDATE_LIMIT);
        let Updated { from, to } = self.on_site(site, run).await?;
        Ok(UpdateReport { from: Some(from), to: Some(to) })
    }

    async fn sanitize(&self, site: &AppSite) -> PortResult<Sanitized> {
        let run = OnSite::new("taking persons out of", include_str!("php/wordpress_sanitize.php"));
        let run = OnSite { limit: UPDATE_LIMIT, changes: true, ..run };
        self.on_site(site, run).await
    }

    async fn clear_caches(&self, site: &AppSite) -> PortResult<()> {
        let run = OnSite::new("emptying the caches of", include_str!("php/wordpress_caches.php"));
        self.on_site::<Value>(site, run).await.map(|_| ())
    }

    fn abilities(&self) -> Abilities {
        Abilities::ALL
    }

    async fn packages(&self, site: &AppSite) -> PortResult<Vec<Package>> {
        let run = OnSite::new("looking at the packages of", include_str!("php/wordpress_packages.php"));
        let Packages { packages } = self.on_site(site, OnSite { before: HEADERS, ..run }).await?;
        Ok(sorted(packages))
    }

    async fn platform_packages(&self, root: &str) -> PortResult<Vec<Package>> {
        let Packages { packages } = self
            .php
            .run(Run {
                what: format!("looking at the packages of {root}"),
                script: &[HEADERS, include_str!("php/wordpress_platform_packages.php")],
                parameters: Map::from_iter([("platform_root".to_owned(), Value::from(root))]),
                secrets: Vec::new(),
                limit: FACTS_LIMIT,
                changes: false,
            })
            .await?;
        Ok(sorted(packages))
    }

    async fn login_link(
        &self,
        site: &AppSite,
        user: Option<&str>,
        link: &SecretRef,
        until: Millis,
    ) -> PortResult<LoginUser> {
        wordpress_login::make(self, site, user, link, until).await
    }

    async fn revoke_login(&self, site: &AppSite, link: &SecretRef) -> PortResult<()> {
        wordpress_login::revoke(self, site, link).await
    }

    fn access_rules(&self) -> Vec<AccessRule> {
        let rule = |path: &str, dir_mode, file_mode, user: &str| AccessRule {
            path: path.to_owned(),
            dir_mode,
            file_mode,
            user: Some(user.to_owned()),
            group: Some(self.php.user.clone()),
        };
        let web = self.php.user.as_str();
        // A site owns its themes and plugins: its own dashboard installs them. The core and the settings are not its own.
        vec![
            rule("", 0o750, 0o640, "root"),
            rule("wp-content", 0o2775, 0o664, web),
            rule(SETTINGS, 0o750, 0o440, "root"),
        ]
    }

    fn settings_files(&self) -> Vec<String> {
        vec![SETTINGS.to_owned()]
    }

    fn volatile_rows(&self) -> Vec<VolatileRows> {
        let rows = |table: &str, column: &str, like: &[&str]| VolatileRows {
            table_suffix: table.to_owned(),
            column: column.to_owned(),
            like: like.iter().map(|pattern| (*pattern).to_owned()).collect(),
        };
        vec![
            // Written by visits and by the cron jobs that visits start; found by comparing databases over visits of 6.1 and 6.8.
            rows(
                "_options",
                "option_name",
                &[
                    r"\_transient\_%",
                    r"\_site\_transient\_%",
                    "cron",
                    "rewrite_rules",
                    "recovery\\_%",
                    "https_detection_errors",
                    "can_compress_scripts",
                    "recently_activated",
                    "%.lock",
                ],
            ),
            // Who is logged in, and what a dashboard remembers of whoever looks at it.
            rows(
                "_usermeta",
                "meta_key",
                &[
                    "session_tokens",
                    "community-events-location",
                    r"%\_dashboard\_quick\_press\_last\_post\_id",
                    r"%user-settings%",
                ],
            ),
            // Who has an editor open.
            rows("_postmeta", "meta_key", &[r"\_edit\_lock", r"\_edit\_last"]),
            // The empty draft that a look at the dashboard or at the editor leaves.
            rows("_posts", "post_status", &["auto-draft"]),
        ]
    }

    fn smoke_checks(&self, site: &SiteName) -> Vec<SmokeCheck> {
        let check = |path: &str, contains: &str| SmokeCheck {
            get: Get { host: site.clone(), path: path.to_owned(), bypass: None },
            statuses: vec![200],
            also: Vec::new(),
            contains: vec![contains.to_owned()],
            lacks: [
                "Error establishing a database connection",
                "There has been a critical error",
                "Fatal error</b>",
            ]
            .map(str::to_owned)
            .into(),
        };
        vec![check("/", "</html>"), check("/wp-login.php", "loginform")]
    }
}

/// A key of 384 random bits.
fn salt() -> PortResult<String> {
    let mut bytes = [0; 48];
    getrandom::fill(&mut bytes)
        .map_err(|error| PortError::Unavailable(format!("the system has no random bytes: {error}")))?;
    Ok(hex::encode(bytes))
}
