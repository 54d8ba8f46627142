//! An application in memory: WordPress in small. Its code is a version file in the platform, its settings a file of `key=value`
//! lines, its content rows with URLs and serialised values; it works on the fake disk and the fake database servers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use kedge_engine::task::Millis;

use super::database_sql::{FakeTable, FakeTables};
use super::world::digest;
use super::{FakeDatabase, FakeDisk, FakeFiles, Faults, Page};
use crate::names::{DatabaseName, SiteName};
use crate::ports::{
    Abilities, Access, AccessRule, Answer, App, AppSite, CopyOptions, Files, FoundSite, Get, InstallRequest,
    LoginUser, Package, PackageKind, PlatformFacts, PortError, PortResult, Sanitized, SavedFile, Secret,
    SecretRef, Secrets, SiteFacts, SmokeCheck, UpdateReport, VolatileRows,
};

const DISPATCHER: &[u8] = b"<?php // kedge: picks the site by its host name\n";
const SETTINGS: &str = "wp-config.php";
const BEGIN: &str = "# BEGIN kedge\n";
const END: &str = "# END kedge\n";
/// Where the row of a login link is.
const LOGIN_KEY: u64 = 1 << 40;

/// An application in memory. Clones share it.
#[derive(Clone)]
pub struct FakeApp {
    faults: Faults,
    disk: FakeDisk,
    files: Arc<dyn Files>,
    databases: Arc<BTreeMap<String, FakeDatabase>>,
    secrets: Arc<dyn Secrets>,
    failure: Arc<Mutex<Option<String>>>,
    /// Login links made.
    links: Arc<AtomicUsize>,
}

/// A platform's code: version and the schema version that it wants.
struct Code {
    version: String,
    schema: u64,
}

impl FakeApp {
    /// An application on this disk, whose sites use these database servers.
    #[must_use]
    pub fn new(
        faults: Faults,
        disk: FakeDisk,
        databases: BTreeMap<String, FakeDatabase>,
        secrets: Arc<dyn Secrets>,
    ) -> Self {
        let files = Arc::new(FakeFiles::new(disk.clone(), faults.clone()));
        let (databases, failure, links) = (Arc::new(databases), Arc::default(), Arc::default());
        Self { faults, disk, files, databases, secrets, failure, links }
    }

    /// The same application on another disk with other database servers.
    #[must_use]
    pub fn fork(
        &self,
        faults: Faults,
        disk: FakeDisk,
        databases: BTreeMap<String, FakeDatabase>,
        secrets: Arc<dyn Secrets>,
    ) -> Self {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let links = Arc::new(AtomicUsize::new(self.links.load(Ordering::Relaxed)));
        let fork = Self::new(faults, disk, databases, secrets);
        Self { failure: Arc::new(Mutex::new(failure)), links, ..fork }
    }

    /// The same application, which writes these files: those of a cluster whose first host has its disk.
    #[must_use]
    pub fn with_files(&self, files: Arc<dyn Files>) -> Self {
        Self { files, ..self.clone() }
    }

    /// Puts a platform on the disk.
    pub fn make_platform(&self, root: &str, version: &str, schema: u64) {
        self.disk.make_dir(&format!("{root}/sites"));
        self.disk.write(&format!("{root}/version"), format!("{version}\n{schema}\n"));
        self.disk.write(&format!("{root}/wp-content/themes/plain/style.css"), format!("/* {version} */\n"));
        self.disk.write(&format!("{root}/wp-content/plugins/hello.php"), "<?php\n");
    }

    /// Makes every database update fail half way with this message, or work again.
    pub fn fail_update(&self, message: Option<&str>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = message.map(str::to_owned);
    }

    /// What a visitor sees: pages for [`super::FakeWebServer`], made of the site's settings, rows and code as they are then.
    #[must_use]
    pub fn page(&self) -> Page {
        let app = self.clone();
        Arc::new(move |vhost, request, _| {
            let answer = |status: u16, body: String| Answer {
                status,
                location: None,
                content_type: Some("text/html; charset=UTF-8".to_owned()),
                body: body.into_bytes(),
            };
            let Some(target) = &vhost.target else { return answer(404, "no site".to_owned()) };
            let hidden = || app.disk.bytes(&format!("{}/{HIDES_LOGIN}", target.site_dir)).is_some();
            if request.path == "/wp-login.php" && hidden() {
                return answer(404, "<html>nothing here</html>".to_owned());
            }
            match app.render(&target.platform_root, &target.site_dir, request) {
                Ok(body) => answer(200, body),
                Err(error) => answer(500, format!("Error establishing a database connection: {error}")),
            }
        })
    }

    fn render(&self, root: &str, site_dir: &str, request: &Get) -> PortResult<String> {
        if self.disk.bytes(&format!("{root}/{SETTINGS}")).as_deref() != Some(DISPATCHER) {
            return Err(refused(format!("{root} has no dispatcher")));
        }
        let code = self.code_now(root)?;
        let settings = self
            .disk
            .bytes(&format!("{site_dir}/{SETTINGS}"))
            .map(|bytes| values(&bytes))
            .unwrap_or_default();
        let rows = self.as_site(&settings, |tables| {
            let titles = tables
                .get("wp_posts")
                .map(|posts| posts.rows.values().filter_map(|row| row[0].clone()).collect());
            (option(tables, "blogname"), option(tables, "home"), option(tables, "db_version"), titles)
        })?;
        let (Some(name), Some(home), Some(schema), titles) = rows else {
            return Err(refused("the site is not installed".to_owned()));
        };
        let titles: Vec<String> = titles.unwrap_or_default();
        let (form, version) =
            (if request.path == "/wp-login.php" { "<form id=\"loginform\">" } else { "" }, code.version);
        Ok(format!(
            "<html>{name} at {home}: {} {form} WordPress {version} on {schema}</html>",
            titles.join(", ")
        ))
    }

    /// The code of a platform, from its files.
    async fn code(&self, root: &str) -> PortResult<Code> {
        if self.files.stat(&format!("{root}/version")).await?.is_none() {
            return Err(refused(format!("{root} is not this application")));
        }
        self.code_now(root)
    }

    fn code_now(&self, root: &str) -> PortResult<Code> {
        let text = self.disk.bytes(&format!("{root}/version")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let mut lines = text.lines();
        match (lines.next(), lines.next().and_then(|schema| schema.parse().ok())) {
            (Some(version), Some(schema)) => Ok(Code { version: version.to_owned(), schema }),
            _ => Err(refused(format!("{root} is not this application"))),
        }
    }

    /// The site's settings as they are in its directory.
    async fn settings(&self, site: &AppSite) -> PortResult<BTreeMap<String, String>> {
        let path = format!("{}/{SETTINGS}", site.dir);
        let file = self.files.read(&path).await?.ok_or_else(|| refused(format!("{path} does not exist")))?;
        Ok(values(&file.bytes))
    }

    /// A platform's profiles and modules: files `<root>/{profiles,modules}/<name>` with version and schema.
    async fn modules(&self, root: &str) -> PortResult<Vec<Package>> {
        let mut packages = Vec::new();
        for (kind, dir) in [(PackageKind::Profile, "profiles"), (PackageKind::Module, "modules")] {
            for name in self.files.list(&format!("{root}/{dir}")).await? {
                let text = self.disk.bytes(&format!("{root}/{dir}/{name}")).unwrap_or_default();
                let text = String::from_utf8_lossy(&text).into_owned();
                let (version, schema) = text.split_once(' ').unwrap_or((&text, ""));
                let (version, schema_version) = (Some(version.to_owned()), schema.parse().ok());
                packages.push(Package { version, schema_version, ..bare(kind, name) });
            }
        }
        Ok(packages)
    }

    /// Plugins and themes below a `wp-content`.
    async fn below(&self, content: &str) -> PortResult<Vec<Package>> {
        let mut packages = Vec::new();
        for (kind, dir) in [(PackageKind::Plugin, "plugins"), (PackageKind::Theme, "themes")] {
            for name in self.files.list(&format!("{content}/{dir}")).await? {
                packages.push(bare(kind, name));
            }
        }
        Ok(packages)
    }

    /// The settings file that shall be there, given the one that is.
    async fn settings_text(&self, site: &AppSite, there: Option<&SavedFile>) -> PortResult<String> {
        let secret = self.secrets.get(&site.database.password).await?;
        let secret = secret.ok_or_else(|| refused("the password of the database is not known".to_owned()))?;
        let rest = match there {
            None => format!("salt=made for {}\n", site.name),
            Some(file) => {
                let text = String::from_utf8_lossy(&file.bytes).into_owned();
                text.split_once(END).map_or(text.clone(), |(_, rest)| rest.to_owned())
            }
        };
        let AppSite { platform_root, live_dir, database, .. } = site;
        let quiet = if site.quiet { "quiet=yes\n" } else { "" };
        Ok(format!(
            "{BEGIN}server={}\nschema={}\nuser={}\npassword={}\nurl={}\nroot={platform_root}\ndir={live_dir}\n{quiet}{END}{rest}",
            database.server,
            database.name,
            database.user,
            secret.expose(),
            site.url()
        ))
    }

    /// Works on the database that the settings name, with the access that they name.
    fn as_site<R>(
        &self,
        settings: &BTreeMap<String, String>,
        act: impl FnOnce(&mut FakeTables) -> R,
    ) -> PortResult<R> {
        let get = |key: &str| settings.get(key).map_or("", String::as_str);
        let server =
            self.databases.get(get("server")).ok_or_else(|| refused("no database server".to_owned()))?;
        server.as_site(get("user"), get("password"), get("schema"), act)
    }
}

fn refused(what: String) -> PortError {
    PortError::Refused(what)
}

fn core(code: Code) -> Package {
    Package {
        version: Some(code.version),
        schema_version: Some(code.schema),
        ..bare(PackageKind::Core, "wordpress".to_owned())
    }
}

/// A package of which nothing but the name is known.
fn bare(kind: PackageKind, name: String) -> Package {
    Package { kind, name, profile: None, version: None, schema_version: None, enabled: false, own: false }
}

/// The row that tells a login link.
fn login_row(link: &SecretRef) -> String {
    format!("_transient_kedge_{}", link.0)
}

fn values(bytes: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(bytes);
    let mut values = BTreeMap::new();
    for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
        // The first one counts, as with PHP's constants.
        values.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    }
    values
}

fn option(tables: &FakeTables, name: &str) -> Option<String> {
    let rows = &tables.get("wp_options")?.rows;
    rows.values().find(|row| row[0].as_deref() == Some(name)).and_then(|row| row[1].clone())
}

fn set_option(tables: &mut FakeTables, name: &str, value: &str) {
    let table = tables
        .entry("wp_options".to_owned())
        .or_insert_with(|| FakeTable::new(&["option_name", "option_value"]));
    match table.rows.values_mut().find(|row| row[0].as_deref() == Some(name)) {
        Some(row) => row[1] = Some(value.to_owned()),
        None => {
            table.insert(&[name, value]);
        }
    }
}

fn schema_of(tables: &FakeTables) -> Option<u64> {
    option(tables, "db_version").and_then(|version| version.parse().ok())
}

fn install(
    tables: &mut FakeTables,
    site: &AppSite,
    request: &InstallRequest,
    password: &str,
    schema: u64,
) -> PortResult<()> {
    if option(tables, "siteurl").is_some() {
        let ours = tables.get("wp_users").is_some_and(|users| {
            users.rows.values().any(|row| {
                row[0].as_deref() == Some(&request.admin_user) && row[1].as_deref() == Some(password)
            })
        });
        return if ours {
            Ok(())
        } else {
            Err(refused("another site is installed in this database".to_owned()))
        };
    }
    let (url, dir) = (site.url(), &site.live_dir);
    let (link, path) = (format!("{url}/about"), format!("{dir}/wp-content/uploads"));
    let widget =
        format!("a:2:{{s:3:\"url\";s:{}:\"{link}\";s:4:\"path\";s:{}:\"{path}\";}}", link.len(), path.len());
    for (name, value) in [
        ("siteurl", url.as_str()),
        ("home", &url),
        ("blogname", &request.title),
        ("admin_email", &request.admin_email),
        ("upload_path", &path),
        ("widget_text", &widget),
        ("db_version", &schema.to_string()),
        ("template", "plain"),
        ("active_plugins", "hello.php"),
    ] {
        set_option(tables, name, value);
    }
    let mut posts = FakeTable::new(&["post_title", "post_content", "guid"]);
    posts.insert(&[
        "Hello world!",
        &format!("<a href=\"{link}\">It's here</a>\nand {}\\/x", url.replace('/', "\\/")),
        &format!("{url}/?p=1"),
    ]);
    tables.insert("wp_posts".to_owned(), posts);
    let mut users = FakeTable::new(&["user_login", "user_pass", "user_email"]);
    users.insert(&[&request.admin_user, password, &request.admin_email]);
    tables.insert("wp_users".to_owned(), users);
    Ok(())
}

#[async_trait]
impl App for FakeApp {
    async fn platform_facts(&self, root: &str) -> PortResult<PlatformFacts> {
        self.faults.before("app.platform_facts", root)?;
        let code = self.code(root).await?;
        let prepared = match self.files.read(&format!("{root}/{SETTINGS}")).await? {
            None => false,
            Some(file) if file.bytes == DISPATCHER => true,
            Some(_) => return Err(refused(format!("{root}/{SETTINGS} is not ours"))),
        };
        Ok(PlatformFacts {
            version: code.version,
            schema_version: Some(code.schema),
            prepared,
            behind: Vec::new(),
        })
    }

    async fn prepare_platform(&self, root: &str) -> PortResult<bool> {
        if self.platform_facts(root).await?.prepared {
            return Ok(false);
        }
        self.faults.before("app.prepare_platform", root)?;
        let access = Access { mode: 0o644, user: None, group: None };
        self.files.put(&format!("{root}/{SETTINGS}"), DISPATCHER, &access, None).await?;
        self.faults.after("app.prepare_platform", root)?;
        Ok(true)
    }

    async fn unprepare_platform(&self, root: &str) -> PortResult<()> {
        self.faults.before("app.unprepare_platform", root)?;
        let sites = self.files.list(&format!("{root}/sites")).await?;
        let path = format!("{root}/{SETTINGS}");
        if sites.is_empty() {
            let there = self.files.read(&path).await?;
            if there.as_ref().is_none_or(|file| file.bytes == DISPATCHER) {
                let ours: Vec<String> = there.into_iter().map(|file| file.sha256).collect();
                self.files.restore(&path, None, &ours).await?;
            }
        }
        self.faults.after("app.unprepare_platform", root)
    }

    async fn fill_skeleton(&self, root: &str, site_dir: &str) -> PortResult<()> {
        self.faults.before("app.fill_skeleton", site_dir)?;
        let access = Access { mode: 0o755, user: None, group: None };
        let (from, to) = (format!("{root}/wp-content"), format!("{site_dir}/wp-content"));
        self.files.make_dir(&to, &access, false).await?;
        self.files.copy_tree(&from, &to, &CopyOptions::default()).await?;
        self.files.make_dir(&format!("{to}/uploads"), &access, false).await?;
        self.faults.after("app.fill_skeleton", site_dir)
    }

    async fn write_settings(&self, site: &AppSite) -> PortResult<()> {
        self.faults.before("app.write_settings", &site.dir)?;
        let path = format!("{}/{SETTINGS}", site.dir);
        let there = self.files.read(&path).await?;
        let text = self.settings_text(site, there.as_ref()).await?;
        let access =
            Access { mode: 0o440, user: Some("root".to_owned()), group: Some("www-data".to_owned()) };
        let expected = there.as_ref().map(|file| file.sha256.as_str());
        self.files.put(&path, text.as_bytes(), &access, expected).await?;
        self.faults.after("app.write_settings", &site.dir)
    }

    async fn renew_keys(&self, site: &AppSite) -> PortResult<()> {
        self.faults.before("app.renew_keys", &site.dir)?;
        let path = format!("{}/{SETTINGS}", site.dir);
        let file = self.files.read(&path).await?.ok_or_else(|| refused(format!("{path} does not exist")))?;
        let text = String::from_utf8_lossy(&file.bytes).into_owned();
        let new = text.lines().map(|line| match line.strip_prefix("salt=") {
            Some(_) => format!("salt=made anew for {}\n", site.name),
            None => format!("{line}\n"),
        });
        let access =
            Access { mode: 0o440, user: Some("root".to_owned()), group: Some("www-data".to_owned()) };
        self.files.put(&path, new.collect::<String>().as_bytes(), &access, Some(&file.sha256)).await?;
        self.faults.after("app.renew_keys", &site.dir)
    }

    async fn settings_drift(&self, site: &AppSite) -> PortResult<Vec<String>> {
        self.faults.before("app.settings_drift", &site.dir)?;
        let there = self.files.read(&format!("{}/{SETTINGS}", site.dir)).await?;
        let new = self.settings_text(site, there.as_ref()).await?;
        let Some(there) = there else { return Ok(vec!["- (there is no settings file)".to_owned()]) };
        let old = String::from_utf8_lossy(&there.bytes).into_owned();
        let plain = |line: &&str| !line.starts_with("password=");
        let only = |of: &str, other: &str, sign: &str| {
            let of: Vec<&str> = of.lines().filter(plain).collect();
            let differs = of.into_iter().filter(|line| !other.lines().any(|there| there == *line));
            differs.map(|line| format!("{sign} {line}")).collect::<Vec<_>>()
        };
        let mut lines = [only(&old, &new, "-"), only(&new, &old, "+")].concat();
        if lines.is_empty() && old != new {
            lines.push("- password ***".to_owned());
        }
        Ok(lines)
    }

    async fn find_site(&self, dir: &str, _: &SiteName) -> PortResult<FoundSite> {
        self.faults.before("app.find_site", dir)?;
        let code = self.code(dir).await?;
        let path = format!("{dir}/{SETTINGS}");
        let file = self.files.read(&path).await?.ok_or_else(|| refused(format!("{path} does not exist")))?;
        let settings = values(&file.bytes);
        let get = |key: &str| settings.get(key).map_or("", String::as_str);
        let (home, schema_version, tables) = self
            .as_site(&settings, |tables| (option(tables, "home"), schema_of(tables), tables.len() as u64))?;
        let bad = |error: crate::names::BadName| refused(format!("{path}: {error}"));
        let home = home.ok_or_else(|| refused(format!("the site in {dir} is not installed")))?;
        let name =
            SiteName::parse(home.split_once("://").map_or(home.as_str(), |(_, host)| host)).map_err(bad)?;
        let robots = self.files.read(&format!("{dir}/robots.txt")).await?.is_some();
        Ok(FoundSite {
            name: Some(name),
            version: code.version,
            schema_version,
            database_host: "localhost".to_owned(),
            database: DatabaseName::parse(get("schema")).map_err(bad)?,
            user: DatabaseName::parse(get("user")).map_err(bad)?,
            tables: Some(tables),
            members: vec![SETTINGS.to_owned(), "wp-content".to_owned()],
            packages: Vec::new(),
            https: home.starts_with("https://"),
            notes: if robots { vec!["robots.txt does not come along".to_owned()] } else { Vec::new() },
        })
    }

    async fn install(&self, site: &AppSite, request: &InstallRequest) -> PortResult<()> {
        let password = self.secrets.get(&request.admin_password).await?;
        let password =
            password.ok_or_else(|| refused("the password of the first user is not known".to_owned()))?;
        let code = self.code(&site.platform_root).await?;
        let settings = self.settings(site).await?;
        self.faults.before("app.install", site.name.as_str())?;
        self.as_site(&settings, |tables| install(tables, site, request, password.expose(), code.schema))??;
        self.faults.after("app.install", site.name.as_str())
    }

    async fn site_facts(&self, site: &AppSite) -> PortResult<SiteFacts> {
        self.faults.before("app.site_facts", site.name.as_str())?;
        let code = self.code(&site.platform_root).await?;
        let settings = self.settings(site).await?;
        let (installed, schema) =
            self.as_site(&settings, |tables| (option(tables, "siteurl").is_some(), schema_of(tables)))?;
        let update_pending = installed && schema != Some(code.schema);
        Ok(SiteFacts { installed, version: code.version, schema_version: schema, update_pending })
    }

    async fn update_database(&self, site: &AppSite) -> PortResult<UpdateReport> {
        let code = self.code(&site.platform_root).await?;
        let settings = self.settings(site).await?;
        self.faults.before("app.update_database", site.name.as_str())?;
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let report = self.as_site(&settings, |tables| {
            let from = schema_of(tables).ok_or_else(|| refused("the site is not installed".to_owned()))?;
            if from == code.schema {
                return Ok(UpdateReport { from: Some(from), to: Some(from) });
            }
            set_option(tables, "updated_from", &from.to_string());
            if let Some(message) = failure {
                return Err(refused(format!("the database update of {} failed: {message}", site.name)));
            }
            set_option(tables, "db_version", &code.schema.to_string());
            Ok(UpdateReport { from: Some(from), to: Some(code.schema) })
        })??;
        self.faults.after("app.update_database", site.name.as_str())?;
        Ok(report)
    }

    async fn sanitize(&self, site: &AppSite) -> PortResult<Sanitized> {
        let settings = self.settings(site).await?;
        self.faults.before("app.sanitize", site.name.as_str())?;
        let sanitized_users = self.as_site(&settings, |tables| {
            let mut users = 0;
            for (id, row) in tables.get_mut("wp_users").into_iter().flat_map(|users| &mut users.rows) {
                row[1] = Some("!".to_owned());
                row[2] = Some(format!("user{id}@example.invalid"));
                users += 1;
            }
            set_option(tables, "admin_email", "admin@example.invalid");
            users
        })?;
        self.faults.after("app.sanitize", site.name.as_str())?;
        Ok(Sanitized { sanitized_users })
    }

    async fn clear_caches(&self, site: &AppSite) -> PortResult<()> {
        let settings = self.settings(site).await?;
        self.faults.before("app.clear_caches", site.name.as_str())?;
        self.as_site(&settings, |tables| {
            if let Some(options) = tables.get_mut("wp_options") {
                options
                    .rows
                    .retain(|_, row| row[0].as_deref().is_none_or(|name| !name.starts_with("_transient")));
            }
        })?;
        self.faults.after("app.clear_caches", site.name.as_str())
    }

    fn abilities(&self) -> Abilities {
        Abilities::ALL
    }

    async fn packages(&self, site: &AppSite) -> PortResult<Vec<Package>> {
        self.faults.before("app.packages", site.name.as_str())?;
        let code = self.code(&site.platform_root).await?;
        let settings = self.settings(site).await?;
        let (schema, used, modules) = self.as_site(&settings, |tables| {
            let used = [option(tables, "template"), option(tables, "active_plugins")];
            let profile = option(tables, "profile").map(|profile| format!("{profile}="));
            let modules = [option(tables, "modules"), profile].into_iter().flatten().collect::<Vec<_>>();
            (schema_of(tables), used.into_iter().flatten().collect::<Vec<_>>(), modules.join(" "))
        })?;
        let core = Package { schema_version: schema, enabled: true, ..core(code) };
        let mut packages = vec![core];
        // Profiles and modules are the platform's; the site has their schema versions.
        for package in self.modules(&site.platform_root).await? {
            let schema =
                modules.split(' ').find_map(|module| module.strip_prefix(&format!("{}=", package.name)));
            let schema_version = schema.and_then(|schema| schema.parse().ok());
            packages.push(Package { enabled: schema.is_some(), schema_version, ..package });
        }
        for mut package in self.below(&format!("{}/wp-content", site.dir)).await? {
            package.enabled = used.contains(&package.name);
            package.own = true;
            packages.push(package);
        }
        Ok(packages)
    }

    async fn platform_packages(&self, root: &str) -> PortResult<Vec<Package>> {
        self.faults.before("app.platform_packages", root)?;
        let mut packages = vec![core(self.code(root).await?)];
        packages.extend(self.modules(root).await?);
        packages.extend(self.below(&format!("{root}/wp-content")).await?);
        Ok(packages)
    }

    async fn login_link(
        &self,
        site: &AppSite,
        user: Option<&str>,
        link: &SecretRef,
        until: Millis,
    ) -> PortResult<LoginUser> {
        let settings = self.settings(site).await?;
        self.faults.before("app.login_link", site.name.as_str())?;
        let number = self.links.fetch_add(1, Ordering::Relaxed);
        let url = format!("http://{}/wp-login.php?kedge_login={number}", site.name);
        let user = self.as_site(&settings, |tables| {
            let mut users = tables.get("wp_users")?.rows.values();
            let is = |field: &Option<String>| user.is_none() || field.as_deref() == user;
            let found = users.find(|row| is(&row[0]) || is(&row[2]))?[0].clone()?;
            // Behind all others: such a row is passing, and leaves the table's counter as it is.
            let row = [login_row(link), format!("{found} {}", digest(&url))].map(Some).to_vec();
            tables.get_mut("wp_options")?.rows.insert(LOGIN_KEY, row);
            Some(found)
        })?;
        let user = user.ok_or_else(|| refused(format!("{} has no such user", site.name)))?;
        self.faults.after("app.login_link", site.name.as_str())?;
        self.secrets.put(link, &Secret::new(url), until).await?;
        Ok(LoginUser { user, until })
    }

    async fn revoke_login(&self, site: &AppSite, link: &SecretRef) -> PortResult<()> {
        let settings = self.settings(site).await?;
        self.faults.before("app.revoke_login", site.name.as_str())?;
        self.as_site(&settings, |tables| {
            if let Some(options) = tables.get_mut("wp_options") {
                options.rows.retain(|_, row| row[0].as_ref() != Some(&login_row(link)));
            }
        })?;
        self.faults.after("app.revoke_login", site.name.as_str())?;
        self.secrets.remove(link).await
    }

    fn access_rules(&self) -> Vec<AccessRule> {
        let rule = |path: &str, dir_mode, file_mode, user: &str| AccessRule {
            path: path.to_owned(),
            dir_mode,
            file_mode,
            user: Some(user.to_owned()),
            group: Some("www-data".to_owned()),
        };
        vec![
            rule("", 0o755, 0o640, "root"),
            rule("wp-content", 0o2775, 0o664, "www-data"),
            rule(SETTINGS, 0o755, 0o440, "root"),
        ]
    }

    fn settings_files(&self) -> Vec<String> {
        vec![SETTINGS.to_owned()]
    }

    fn volatile_rows(&self) -> Vec<VolatileRows> {
        vec![VolatileRows {
            table_suffix: "options".to_owned(),
            column: "option_name".to_owned(),
            like: vec!["\\_transient%".to_owned(), "cron".to_owned()],
        }]
    }

    fn smoke_checks(&self, site: &SiteName) -> Vec<SmokeCheck> {
        let check = |path: &str, contains: &str| SmokeCheck {
            get: Get { host: site.clone(), path: path.to_owned(), bypass: None },
            statuses: vec![200],
            also: Vec::new(),
            contains: vec![contains.to_owned()],
            lacks: vec!["Error establishing a database connection".to_owned()],
        };
        vec![check("/", "</html>"), check("/wp-login.php", "loginform")]
    }
}

/// A plugin of a site that answers for the login page in its own way: 404.
pub const HIDES_LOGIN: &str = "wp-content/plugins/hide-login.php";

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::super::{AppBench, FakeSecrets, app_contract};
    use super::*;
    use crate::ports::Database;

    struct Bench {
        app: FakeApp,
        disk: FakeDisk,
        database: FakeDatabase,
        secrets: FakeSecrets,
    }

    #[async_trait]
    impl AppBench for Bench {
        fn app(&self) -> Arc<dyn App> {
            Arc::new(self.app.clone())
        }

        fn files(&self) -> Arc<dyn Files> {
            self.app.files.clone()
        }

        fn database(&self) -> Arc<dyn Database> {
            Arc::new(self.database.clone())
        }

        fn secrets(&self) -> Arc<dyn Secrets> {
            Arc::new(self.secrets.clone())
        }

        fn platforms(&self) -> [String; 2] {
            ["/srv/old".to_owned(), "/srv/new".to_owned()]
        }

        async fn break_update(&self, _site: &AppSite, broken: bool) {
            self.app.fail_update(broken.then_some("table wp_posts is marked as crashed"));
        }
    }

    #[test]
    fn the_fake_keeps_the_contract() {
        let (faults, disk) = (Faults::new(), FakeDisk::new());
        let secrets = FakeSecrets::new(faults.clone());
        let database = FakeDatabase::new(faults.clone(), Arc::new(secrets.clone()));
        let databases = BTreeMap::from([("db1".to_owned(), database.clone())]);
        let app = FakeApp::new(faults, disk.clone(), databases, Arc::new(secrets.clone()));
        app.make_platform("/srv/old", "6.1", 53496);
        app.make_platform("/srv/new", "6.8", 60421);
        disk.make_dir("/srv/nothing");
        let bench = Bench { app, disk, database, secrets };
        let (disk, database) = (bench.disk.snapshot("/srv"), bench.database.state());
        app_contract(&bench).now_or_never().expect("a fake never waits");
        assert_eq!(bench.database.state(), database, "the suite cleans up");
        assert_eq!(bench.disk.snapshot("/srv").keys().collect::<Vec<_>>(), disk.keys().collect::<Vec<_>>());
    }
}
