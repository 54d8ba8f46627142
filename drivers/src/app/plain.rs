//! Plain sites: any files, one database, and commands from the configuration. A site directory has a `docroot`, which the web
//! server serves, and a settings file beside it with the database access in a block of ours. What a command does is the owner's.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kedge_engine::task::Millis;
use kedge_workflows::names::{DatabaseName, SiteName};
use kedge_workflows::ports::{
    Abilities, Access, AccessRule, App, AppSite, CopyOptions, FileKind, Files, FoundSite, Get,
    InstallRequest, LoginUser, Package, PackageKind, PlatformFacts, PortError, PortResult, Sanitized, Scope,
    Secret, SecretRef, Secrets, SiteFacts, SmokeCheck, UpdateReport, VolatileRows,
};
use serde::{Deserialize, Serialize};

use super::block::Markers;
use super::demand_loud;
use super::drift::drift;
use super::wordpress_settings::literal;
use crate::host::{Command, Host};

/// Time limit of a command: a step's own limit ends it before, where it is shorter.
const LIMIT: Duration = Duration::from_secs(4 * 3600);
/// The part of a platform that new sites begin with, if it has one.
const SKELETON: &str = "skeleton";
/// The part of a site that is served.
const DOCROOT: &str = "docroot";
/// Goes to a directory and runs the rest of the arguments there.
const IN_DIRECTORY: &str = r#"cd -- "$1" && shift && exec "$@""#;

/// What a kind of plain site is like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlainConfig {
    /// The settings file, relative to the site's directory and outside of `docroot`.
    pub settings_file: String,
    /// How it is written.
    pub settings_format: SettingsFormat,
    /// Fills an empty database: program and arguments, run as the web server's user in the site's directory. None: nothing to do.
    pub install_command: Vec<String>,
    /// Updates the database after the code changed. None: nothing to do.
    pub update_command: Vec<String>,
    /// Empties caches. None: nothing to do.
    pub cache_command: Vec<String>,
    /// Rows that a mere visit changes.
    pub volatile: Vec<VolatileRows>,
    /// Directories relative to the site's that the web server's user writes to.
    pub writable: Vec<String>,
    /// What the front page must contain.
    pub front_page_contains: Vec<String>,
}

/// How settings are written: the names are DB_HOST, DB_NAME, DB_USER, DB_PASSWORD, SITE_NAME, SITE_URL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettingsFormat {
    /// `NAME='value'` lines, as shells and dotenv libraries read them.
    #[default]
    Env,
    /// PHP: `define('NAME', 'value');` lines.
    Php,
}

impl Default for PlainConfig {
    fn default() -> Self {
        Self {
            settings_file: "site.env".to_owned(),
            settings_format: SettingsFormat::Env,
            install_command: Vec::new(),
            update_command: Vec::new(),
            cache_command: Vec::new(),
            volatile: Vec::new(),
            writable: Vec::new(),
            front_page_contains: Vec::new(),
        }
    }
}

impl PlainConfig {
    /// Checks the paths.
    ///
    /// # Errors
    /// `Refused` naming the path that leaves the site's directory or would be served.
    pub fn check(&self) -> PortResult<()> {
        let within =
            |path: &str| !path.is_empty() && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        for path in self.writable.iter().chain([&self.settings_file]) {
            if !within(path) {
                return Err(PortError::Refused(format!(
                    "{path:?} has to be a path below the site's directory"
                )));
            }
        }
        if self.settings_file.starts_with("docroot/") || self.settings_file == DOCROOT {
            return Err(PortError::Refused(format!(
                "{:?} would be served to visitors: put it outside of docroot",
                self.settings_file
            )));
        }
        Ok(())
    }
}

/// Plain sites on a host, on behalf of one attempt.
pub struct Plain {
    config: PlainConfig,
    host: Arc<dyn Host>,
    files: Arc<dyn Files>,
    secrets: Arc<dyn Secrets>,
    scope: Scope,
    web_user: String,
}

impl Plain {
    /// Plain sites on this host, whose files are `files`; commands run as `web_user`.
    ///
    /// # Errors
    /// As [`PlainConfig::check`].
    pub fn new(
        config: PlainConfig,
        host: Arc<dyn Host>,
        files: Arc<dyn Files>,
        secrets: Arc<dyn Secrets>,
        scope: Scope,
        web_user: impl Into<String>,
    ) -> PortResult<Self> {
        config.check()?;
        Ok(Self { config, host, files, secrets, scope, web_user: web_user.into() })
    }

    async fn run(&self, doing: &str, site: &AppSite, command: &[String]) -> PortResult<()> {
        if command.is_empty() {
            return Ok(());
        }
        let argv = ["sh", "-c", IN_DIRECTORY, "kedge-plain", &site.dir]
            .map(str::to_owned)
            .into_iter()
            .chain(command.iter().cloned());
        let command = Command::new(&self.scope, argv)
            .as_user(&self.web_user)
            .within(LIMIT)
            .env("KEDGE_SITE", site.name.as_str())
            .env("KEDGE_PLATFORM_ROOT", &site.platform_root);
        let secret = self.secrets.get(&site.database.password).await?;
        let finished = self.host.run(command).await.map_err(|error| match error {
            // Ended because it took too long: what it did until then is there.
            PortError::Unavailable(what) => PortError::Lost(what),
            other => other,
        })?;
        finished.success(&format!("{doing} {}", site.name)).map(|_| ()).map_err(|error| {
            match (error, secret) {
                (PortError::Refused(text), Some(secret)) => {
                    PortError::Refused(text.replace(secret.expose(), "***"))
                }
                (error, _) => error,
            }
        })
    }
}

#[async_trait]
impl App for Plain {
    async fn platform_facts(&self, root: &str) -> PortResult<PlatformFacts> {
        if !self.files.stat(root).await?.is_some_and(|stat| stat.kind == FileKind::Dir) {
            return Err(PortError::Refused(format!("{root} is not a directory")));
        }
        let version = self.files.read(&format!("{root}/VERSION")).await?;
        let version = version.map_or(String::new(), |file| {
            String::from_utf8_lossy(&file.bytes).trim().chars().take(100).collect()
        });
        Ok(PlatformFacts { version, schema_version: None, prepared: true, behind: Vec::new() })
    }

    async fn prepare_platform(&self, root: &str) -> PortResult<bool> {
        self.platform_facts(root).await.map(|_| false)
    }

    async fn unprepare_platform(&self, _root: &str) -> PortResult<()> {
        Ok(())
    }

    async fn fill_skeleton(&self, root: &str, site_dir: &str) -> PortResult<()> {
        let skeleton = format!("{root}/{SKELETON}");
        if self.files.stat(&skeleton).await?.is_some_and(|stat| stat.kind == FileKind::Dir) {
            self.files.copy_tree(&skeleton, site_dir, &CopyOptions::default()).await?;
        }
        let access = Access { mode: 0o755, user: None, group: None };
        self.files.make_dir(&format!("{site_dir}/{DOCROOT}"), &access, false).await?;
        for dir in &self.config.writable {
            self.files.make_dir(&format!("{site_dir}/{dir}"), &access, true).await?;
        }
        Ok(())
    }

    async fn write_settings(&self, site: &AppSite) -> PortResult<()> {
        demand_loud(site, "a plain site")?;
        let secret = self.secrets.get(&site.database.password).await?;
        let secret = secret.ok_or_else(|| {
            PortError::Refused("the password of the site's database does not exist".to_owned())
        })?;
        let path = format!("{}/{}", site.dir, self.config.settings_file);
        let there = self.files.read(&path).await?;
        let new = settings(
            self.config.settings_format,
            there.as_ref().map(|file| file.bytes.as_slice()),
            site,
            &secret,
        )?;
        let access =
            Access { mode: 0o440, user: Some("root".to_owned()), group: Some(self.web_user.clone()) };
        self.files.put(&path, &new, &access, there.as_ref().map(|file| file.sha256.as_str())).await
    }

    async fn renew_keys(&self, _site: &AppSite) -> PortResult<()> {
        // What else a settings file of the owner's has is not known.
        Ok(())
    }

    async fn settings_drift(&self, site: &AppSite) -> PortResult<Vec<String>> {
        let secret = self.secrets.get(&site.database.password).await?;
        let secret = secret.ok_or_else(|| {
            PortError::Refused("the password of the site's database does not exist".to_owned())
        })?;
        let there = self.files.read(&format!("{}/{}", site.dir, self.config.settings_file)).await?;
        let bytes = there.as_ref().map(|file| file.bytes.as_slice());
        drift(there.as_ref(), settings(self.config.settings_format, bytes, site, &secret), &secret)
    }

    async fn find_site(&self, dir: &str, _: &SiteName) -> PortResult<FoundSite> {
        let path = format!("{dir}/{}", self.config.settings_file);
        let file = self.files.read(&path).await?.ok_or_else(|| {
            PortError::Refused(format!("{path} is not there: no plain site, or another settings_file"))
        })?;
        let text = String::from_utf8_lossy(&file.bytes).into_owned();
        let value = |name: &str| found_value(&text, name, self.config.settings_format);
        let named = |name: &str| {
            value(name).ok_or_else(|| PortError::Refused(format!("{path} has no {name} that can be read")))
        };
        let database = |name: &str| {
            let parsed = DatabaseName::parse(&named(name)?);
            parsed.map_err(|error| PortError::Refused(format!("{path}, {name}: {error}")))
        };
        let version = self.files.read(&format!("{dir}/VERSION")).await?;
        Ok(FoundSite {
            name: value("SITE_NAME").and_then(|name| SiteName::parse(&name).ok()),
            version: version
                .map(|file| String::from_utf8_lossy(&file.bytes).trim().chars().take(100).collect())
                .unwrap_or_default(),
            schema_version: None,
            database_host: named("DB_HOST")?,
            database: database("DB_NAME")?,
            user: database("DB_USER")?,
            tables: None,
            members: self.files.list(dir).await?,
            packages: Vec::new(),
            https: false,
            notes: Vec::new(),
        })
    }

    async fn install(&self, site: &AppSite, _request: &InstallRequest) -> PortResult<()> {
        self.run("installing", site, &self.config.install_command).await
    }

    async fn site_facts(&self, site: &AppSite) -> PortResult<SiteFacts> {
        let installed =
            self.files.stat(&format!("{}/{}", site.dir, self.config.settings_file)).await?.is_some();
        let version = self.platform_facts(&site.platform_root).await?.version;
        // What the update does is the owner's: whether it is needed cannot be seen, so it is run at every move.
        let update_pending = installed && !self.config.update_command.is_empty();
        Ok(SiteFacts { installed, version, schema_version: None, update_pending })
    }

    async fn update_database(&self, site: &AppSite) -> PortResult<UpdateReport> {
        self.run("updating the database of", site, &self.config.update_command).await?;
        Ok(UpdateReport { from: None, to: None })
    }

    async fn sanitize(&self, site: &AppSite) -> PortResult<Sanitized> {
        let name = &site.name;
        Err(PortError::Refused(format!("what of {name} is about persons is not known: it is a plain site")))
    }

    async fn clear_caches(&self, site: &AppSite) -> PortResult<()> {
        self.run("emptying the caches of", site, &self.config.cache_command).await
    }

    fn abilities(&self) -> Abilities {
        Abilities { packages: true, ..Abilities::NONE }
    }

    async fn packages(&self, site: &AppSite) -> PortResult<Vec<Package>> {
        let mut packages = self.platform_packages(&site.platform_root).await?;
        packages.iter_mut().for_each(|package| package.enabled = true);
        Ok(packages)
    }

    async fn platform_packages(&self, root: &str) -> PortResult<Vec<Package>> {
        let version = Some(self.platform_facts(root).await?.version).filter(|version| !version.is_empty());
        let (kind, name) = (PackageKind::Core, "plain".to_owned());
        Ok(vec![Package {
            kind,
            name,
            profile: None,
            version,
            schema_version: None,
            enabled: false,
            own: false,
        }])
    }

    async fn login_link(
        &self,
        site: &AppSite,
        _: Option<&str>,
        _: &SecretRef,
        _: Millis,
    ) -> PortResult<LoginUser> {
        Err(PortError::Refused(format!("{} is a plain site: Kedge knows no way to log in to it", site.name)))
    }

    async fn revoke_login(&self, _: &AppSite, link: &SecretRef) -> PortResult<()> {
        self.secrets.remove(link).await
    }

    fn access_rules(&self) -> Vec<AccessRule> {
        let rule = |path: &str, dir_mode, file_mode, user: &str| AccessRule {
            path: path.to_owned(),
            dir_mode,
            file_mode,
            user: Some(user.to_owned()),
            group: Some(self.web_user.clone()),
        };
        let mut rules = vec![rule("", 0o750, 0o640, "root")];
        rules.extend(self.config.writable.iter().map(|path| rule(path, 0o2770, 0o660, &self.web_user)));
        rules.push(rule(&self.config.settings_file, 0o750, 0o440, "root"));
        rules
    }

    fn settings_files(&self) -> Vec<String> {
        vec![self.config.settings_file.clone()]
    }

    fn volatile_rows(&self) -> Vec<VolatileRows> {
        self.config.volatile.clone()
    }

    fn smoke_checks(&self, site: &SiteName) -> Vec<SmokeCheck> {
        vec![SmokeCheck {
            get: Get { host: site.clone(), path: "/".to_owned(), bypass: None },
            statuses: vec![200],
            also: Vec::new(),
            contains: self.config.front_page_contains.clone(),
            lacks: Vec::new(),
        }]
    }
}

/// The settings file that shall be there, given the one that is.
fn settings(
    format: SettingsFormat,
    there: Option<&[u8]>,
    site: &AppSite,
    password: &Secret,
) -> PortResult<Vec<u8>> {
    let (start, markers) = match format {
        SettingsFormat::Env => ("", Markers { begin: "# BEGIN kedge", end: "# END kedge" }),
        SettingsFormat::Php => ("<?php\n", Markers { begin: "// BEGIN kedge", end: "// END kedge" }),
    };
    let url = site.url();
    let mut block = format!(
        "{}: written anew whenever Kedge moves the site. Your own settings belong below.\n",
        markers.begin
    );
    for (name, value) in [
        ("DB_HOST", site.database.address.as_str()),
        ("DB_NAME", site.database.name.as_str()),
        ("DB_USER", site.database.user.as_str()),
        ("DB_PASSWORD", password.expose()),
        ("SITE_NAME", site.name.as_str()),
        ("SITE_URL", &url),
    ] {
        block += &match format {
            SettingsFormat::Env => format!("{name}={}\n", env_value(value)?),
            SettingsFormat::Php => format!("define('{name}', {});\n", literal(value)?),
        };
    }
    block += &format!("{}\n", markers.end);
    let Some(file) = there else { return Ok(format!("{start}{block}").into_bytes()) };
    if let Some(new) = markers.replace(file, &block)? {
        return Ok(new);
    }
    // The owner's own: in front of it in PHP, where the first definition counts; behind it in a list, where the last one does.
    match format {
        SettingsFormat::Env => {
            let gap: &[u8] = if file.is_empty() || file.ends_with(b"\n") { b"" } else { b"\n" };
            Ok([file, gap, block.as_bytes()].concat())
        }
        SettingsFormat::Php => match file.strip_prefix(start.as_bytes()) {
            Some(rest) => Ok([start.as_bytes(), block.as_bytes(), rest].concat()),
            None => Err(PortError::Refused("the settings file does not begin with a line <?php".to_owned())),
        },
    }
}

/// The value of a name in somebody's settings: the last one in a list, the first one in PHP, as their readers have it. Only plain values:
/// what has to be computed is not one.
fn found_value(text: &str, name: &str, format: SettingsFormat) -> Option<String> {
    let plain = |value: &str| -> Option<String> {
        let quote = value.chars().next().filter(|c| matches!(c, '\'' | '"'));
        let inner = match quote {
            Some(quote) => value.strip_prefix(quote)?.split_once(quote)?.0,
            None => value.trim_end(),
        };
        (!inner.is_empty() && !inner.contains(['\\', '$', '`'])).then(|| inner.to_owned())
    };
    let mut found = text.lines().map(str::trim_start).filter_map(|line| match format {
        SettingsFormat::Env => {
            let line = line.strip_prefix("export ").unwrap_or(line);
            plain(line.strip_prefix(name)?.strip_prefix('=')?)
        }
        SettingsFormat::Php => {
            let arguments = line.strip_prefix("define")?.trim_start().strip_prefix('(')?.trim_start();
            let rest = arguments.strip_prefix(['\'', '"'])?.strip_prefix(name)?.strip_prefix(['\'', '"'])?;
            let value = rest.trim_start().strip_prefix(',')?.trim_start();
            value.starts_with(['\'', '"']).then(|| plain(value)).flatten()
        }
    });
    match format {
        SettingsFormat::Env => found.next_back(),
        SettingsFormat::Php => found.next(),
    }
}

/// A value in single quotes, which neither shells nor dotenv libraries look into.
fn env_value(value: &str) -> PortResult<String> {
    if value.contains('\'') || value.chars().any(char::is_control) {
        return Err(PortError::Refused(
            "a value for the settings file has a quote or control character".to_owned(),
        ));
    }
    Ok(format!("'{value}'"))
}

#[cfg(test)]
mod tests {
    use super::super::wordpress_settings::tests::site;
    use super::*;

    fn render(format: SettingsFormat, there: Option<&str>) -> PortResult<String> {
        let bytes = settings(format, there.map(str::as_bytes), &site("shop"), &Secret::new("pw"))?;
        Ok(String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn settings_are_made_replaced_and_added() {
        for (format, own) in
            [(SettingsFormat::Env, "OWN=1"), (SettingsFormat::Php, "<?php\ndefine('OWN', 1);\n")]
        {
            let new = render(format, None).unwrap();
            assert!(new.contains("DB_PASSWORD") && new.contains("'pw'"), "{new}");
            assert_eq!(render(format, Some(&new)).unwrap(), new);
            let added = render(format, Some(own)).unwrap();
            assert!(added.contains("OWN") && added.contains("DB_PASSWORD"), "{added}");
            assert_eq!(render(format, Some(&added)).unwrap(), added);
        }
        assert!(render(SettingsFormat::Php, Some("no php")).is_err());
    }

    #[test]
    fn values_of_others_are_found_where_they_are_plain() {
        let env = "# DB_NAME=no\nexport DB_NAME=shop\nDB_USER='shop user'\nDB_NAME=\"late\"\nDB_HOST=$HOST\nXDB_HOST=a\n";
        let php = "<?php\ndefine('DB_NAME', 'shop');\n  define( \"DB_USER\" , \"u\" );\ndefine('DB_NAME', 'late');\ndefine('DB_HOST', getenv('H'));\n";
        let values =
            |text, format| ["DB_NAME", "DB_USER", "DB_HOST"].map(|name| found_value(text, name, format));
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(values(env, SettingsFormat::Env), [some("late"), some("shop user"), None]);
        assert_eq!(values(php, SettingsFormat::Php), [some("shop"), some("u"), None]);
    }

    #[test]
    fn the_settings_file_is_neither_served_nor_outside() {
        let config = |path: &str| PlainConfig { settings_file: path.to_owned(), ..PlainConfig::default() };
        for path in ["", "/etc/x", "../x", "a/../b", "docroot/x.env", "a//b"] {
            assert!(config(path).check().is_err(), "{path:?}");
        }
        assert!(config("conf/site.env").check().is_ok());
    }
}
