//! The promises of the application port, tested on the fake and on real applications with the same lines.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a suite fails by panicking, also where it is not compiled as a test"
)]

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt as _;

use crate::comparison::compare;
use crate::names::{DatabaseName, SiteName};
use crate::ports::{
    Access, App, AppDatabase, AppSite, CopyOptions, Database, DatabaseFingerprint, Files, InstallRequest,
    Login, Mark, Package, PackageKind, PortError, Reach, SecretRef, Secrets,
};

/// What the suite needs, all on one host.
#[async_trait]
pub trait AppBench: Send + Sync {
    /// The application, on behalf of a new attempt.
    fn app(&self) -> Arc<dyn App>;
    /// The files of its host.
    fn files(&self) -> Arc<dyn Files>;
    /// The database server of its sites, `db1` in the configuration.
    fn database(&self) -> Arc<dyn Database>;
    /// The secrets that everything resolves.
    fn secrets(&self) -> Arc<dyn Secrets>;
    /// Roots of two platforms without sites, not prepared; the second wants a newer schema than the first.
    fn platforms(&self) -> [String; 2];
    /// Makes the database update of a staged site fail, or work again.
    async fn break_update(&self, site: &AppSite, broken: bool);
    /// The file that is there when [`App::prepare_platform`] is killed while it writes, if anything is.
    fn left_by_a_killed_prepare(&self, _root: &str) -> Option<String> {
        None
    }
}

/// Everything an application promises. Uses the site `app.contract.test` and cleans up behind itself.
pub async fn app_contract(bench: &dyn AppBench) {
    the_policy_is_told(bench);
    a_platform_is_prepared_and_taken_back(bench).await;
    let [old, new] = bench.platforms();
    let first = Side::make(bench, &old, "kc_app_1").await;
    a_site_is_installed(bench, &first).await;
    packages_are_told(bench, &first).await;
    a_login_link_is_made_and_taken_back(bench, &first).await;
    settings_keep_what_is_not_ours(bench, &first).await;
    first.publish(bench).await;
    let second = Side::make(bench, &new, "kc_app_2").await;
    a_copy_is_updated_and_its_original_is_not(bench, &first, &second).await;
    for side in [first, second] {
        side.remove(bench).await;
    }
}

/// Owner and mode of directories that the suite makes.
fn access() -> Access {
    Access { mode: 0o755, user: None, group: None }
}

/// One side of the site: a stage or a published directory on a platform, and its database.
struct Side {
    site: AppSite,
    mark: Mark,
    login: Login,
}

impl Side {
    /// A prepared platform, an empty stage, an empty schema with its user.
    async fn make(bench: &dyn AppBench, root: &str, label: &str) -> Self {
        let name = SiteName::parse("app.contract.test").expect("a host name");
        let schema = DatabaseName::parse(label).expect("a database name");
        let mark = Mark { task: label.to_owned(), site: name.to_string() };
        let login = Login { user: schema.clone(), password: SecretRef(format!("contract/{label}")) };
        bench.secrets().ensure(&login.password).await.expect("a secret");
        let database = bench.database();
        database.create_schema(&schema, &mark, None).await.expect("schema created");
        database.create_user(&login.user, &schema, &login.password, &mark).await.expect("user created");
        bench.app().prepare_platform(root).await.expect("prepared");
        let site = AppSite {
            live_dir: format!("{root}/sites/{name}"),
            dir: format!("{root}/sites/.kedge-stage-{label}"),
            platform_root: root.to_owned(),
            name,
            aliases: Vec::new(),
            database: AppDatabase {
                server: "db1".to_owned(),
                address: database.address_for_sites(),
                name: schema,
                user: login.user.clone(),
                password: login.password.clone(),
            },
            reach: Reach::default(),
            quiet: false,
        };
        let files = bench.files();
        files.make_dir(&format!("{root}/sites"), &access(), false).await.expect("made");
        files.make_dir(&site.dir, &access(), false).await.expect("made");
        Self { site, mark, login }
    }

    async fn fix_access(&self, bench: &dyn AppBench) {
        bench.files().fix_access(&self.site.dir, &bench.app().access_rules()).await.expect("fixed");
    }

    /// Moves the stage to where it will live; settings are not written again.
    async fn publish(&self, bench: &dyn AppBench) {
        bench.files().rename(&self.site.dir, &self.site.live_dir).await.expect("renamed");
        let site = self.live();
        let facts = bench.app().site_facts(&site).await.expect("facts");
        assert!(facts.installed && !facts.update_pending, "its settings work in both places: {facts:?}");
    }

    fn live(&self) -> AppSite {
        AppSite { dir: self.site.live_dir.clone(), ..self.site.clone() }
    }

    async fn remove(self, bench: &dyn AppBench) {
        let (files, database, root) = (bench.files(), bench.database(), &self.site.platform_root);
        for dir in [&self.site.dir, &self.site.live_dir] {
            files.remove_tree(dir, root).await.expect("removed");
        }
        bench.app().unprepare_platform(root).await.expect("taken back");
        let facts = bench.app().platform_facts(root).await.expect("facts");
        assert!(!facts.prepared, "no site lives on it any more");
        database.drop_schema(&self.login.user, &self.mark).await.expect("dropped");
        database.drop_user(&self.login.user, &self.login.password, &self.mark).await.expect("dropped");
        bench.secrets().remove(&self.login.password).await.expect("removed");
    }

    async fn settings(&self, bench: &dyn AppBench) -> String {
        let name = bench.app().settings_files().into_iter().next().expect("a settings file");
        let file =
            bench.files().read(&format!("{}/{name}", self.site.dir)).await.expect("read").expect("there");
        assert_eq!(file.mode & 0o007, 0, "others read the settings");
        String::from_utf8(file.bytes).expect("text")
    }
}

fn request(admin: &str) -> InstallRequest {
    InstallRequest {
        title: "It's a \"title\" <b>&</b> ü 🚢 \\".to_owned(),
        admin_email: "admin@app.contract.test".to_owned(),
        admin_user: admin.to_owned(),
        admin_password: SecretRef(format!("contract/{admin}")),
        language: None,
        profile: None,
    }
}

fn assert_refused<T: std::fmt::Debug>(result: Result<T, PortError>, what: &str) -> String {
    match result {
        Err(PortError::Refused(message)) => message,
        other => panic!("{what}: {other:?}"),
    }
}

fn the_policy_is_told(bench: &dyn AppBench) {
    let app = bench.app();
    let site = SiteName::parse("app.contract.test").expect("a host name");
    let rules = app.access_rules();
    assert!(
        rules.first().is_some_and(|rule| rule.path.is_empty()),
        "the first rule is for everything: {rules:?}"
    );
    assert!(rules.iter().all(|rule| rule.dir_mode & 0o002 == 0 && rule.file_mode & 0o002 == 0), "{rules:?}");
    for file in app.settings_files() {
        assert!(
            rules.iter().any(|rule| rule.path == file && rule.file_mode & 0o007 == 0),
            "{file} needs a rule: {rules:?}"
        );
    }
    let checks = app.smoke_checks(&site);
    assert!(checks.iter().any(|check| check.get.path == "/"), "{checks:?}");
    assert!(checks.iter().all(|check| check.get.host == site && !check.statuses.is_empty()), "{checks:?}");
}

async fn a_platform_is_prepared_and_taken_back(bench: &dyn AppBench) {
    let (app, files, [old, new]) = (bench.app(), bench.files(), bench.platforms());
    assert_refused(app.platform_facts("/srv").await, "/srv is no platform");
    let (before, after) =
        (app.platform_facts(&old).await.expect("facts"), app.platform_facts(&new).await.expect("facts"));
    assert!(before.schema_version < after.schema_version, "{before:?} {after:?}");
    assert!(before.version != after.version && !before.prepared && !after.prepared);
    let print = files.fingerprint(&old, true, &[]).await.expect("fingerprint");
    assert!(app.prepare_platform(&old).await.expect("prepared"), "this call made it");
    assert!(app.platform_facts(&old).await.expect("facts").prepared);
    assert!(!app.prepare_platform(&old).await.expect("prepared"), "it was there already");
    let (sites, neighbour) = (format!("{old}/sites"), format!("{old}/sites/neighbour.contract.test"));
    let had_sites = files.stat(&sites).await.expect("asked").is_some();
    files.make_dir(&neighbour, &access(), true).await.expect("made");
    app.unprepare_platform(&old).await.expect("left alone");
    assert!(app.platform_facts(&old).await.expect("facts").prepared, "a site lives on it");
    files.remove_tree(if had_sites { &neighbour } else { &sites }, &old).await.expect("removed");
    for _ in 0..2 {
        if let Some(left) = bench.left_by_a_killed_prepare(&old) {
            files.put(&left, b"", &access(), None).await.expect("written");
        }
        app.unprepare_platform(&old).await.expect("taken back, also twice");
        assert!(!app.platform_facts(&old).await.expect("facts").prepared);
    }
    let left = files.fingerprint(&old, true, &[]).await.expect("fingerprint");
    let different: Vec<_> = left.entries.iter().filter(|entry| !print.entries.contains(entry)).collect();
    // Directories that had children for a while have another time; nothing else may differ.
    assert!(
        left.entries.iter().map(|(key, _)| key).eq(print.entries.iter().map(|(key, _)| key)),
        "{different:?}"
    );
    foreign_settings_are_refused(bench, &old).await;
}

async fn foreign_settings_are_refused(bench: &dyn AppBench, root: &str) {
    let (app, files) = (bench.app(), bench.files());
    let path = format!("{root}/{}", app.settings_files().first().expect("a settings file"));
    let foreign = b"<?php // somebody's own\n";
    files.put(&path, foreign, &Access { mode: 0o644, ..access() }, None).await.expect("written");
    let facts = app.platform_facts(root).await;
    let foreign_matters = facts.is_err();
    if foreign_matters {
        assert!(assert_refused(facts, "foreign settings").contains(&path));
        assert_refused(app.prepare_platform(root).await, "prepare over foreign settings");
        app.unprepare_platform(root).await.expect("left alone");
    }
    let file = files.read(&path).await.expect("read").expect("still there");
    assert_eq!(file.bytes, foreign);
    files.restore(&path, None, &[file.sha256]).await.expect("removed");
}

async fn a_site_is_installed(bench: &dyn AppBench, side: &Side) {
    let (app, site) = (bench.app(), &side.site);
    assert!(app.site_facts(site).await.is_err(), "a site without settings has no facts");
    for _ in 0..2 {
        app.fill_skeleton(&site.platform_root, &site.dir).await.expect("filled, also twice");
        app.write_settings(site).await.expect("written, also twice");
    }
    side.fix_access(bench).await;
    let facts = app.site_facts(site).await.expect("facts");
    assert!(!facts.installed && !facts.update_pending, "{facts:?}");
    for admin in ["chief", "other"] {
        bench.secrets().ensure(&request(admin).admin_password).await.expect("a secret");
    }
    for _ in 0..2 {
        app.install(site, &request("chief")).await.expect("installed, also twice");
    }
    assert_refused(app.install(site, &request("other")).await, "an install over another");
    let (facts, platform) = (
        app.site_facts(site).await.expect("facts"),
        app.platform_facts(&site.platform_root).await.expect("facts"),
    );
    assert_eq!((facts.version, facts.schema_version), (platform.version, platform.schema_version));
    assert!(facts.installed && !facts.update_pending);
    app.clear_caches(site).await.expect("emptied");
    let wrong = AppSite {
        database: AppDatabase { password: request("other").admin_password, ..site.database.clone() },
        ..site.clone()
    };
    assert_eq!(app.settings_drift(site).await, Ok(Vec::new()), "as they should be");
    let drift = app.settings_drift(&wrong).await.expect("drift");
    assert!(!drift.is_empty(), "another password");
    let secrets = [&site.database.password, &wrong.database.password];
    for secret in secrets {
        let secret = bench.secrets().get(secret).await.expect("asked").expect("there");
        assert!(!drift.concat().contains(secret.expose()), "a secret is in the drift");
    }
    a_site_is_held_back(bench, side).await;
    app.write_settings(&wrong).await.expect("written");
    let error = app.site_facts(site).await.expect_err("the password is wrong");
    let secret = bench.secrets().get(&wrong.database.password).await.expect("asked").expect("there");
    assert!(!format!("{error:?}").contains(secret.expose()), "a secret is in an error");
    app.write_settings(site).await.expect("written");
    app.site_facts(site).await.expect("right again");
    for admin in ["chief", "other"] {
        bench.secrets().remove(&request(admin).admin_password).await.expect("removed");
    }
}

/// A quiet site has other settings, works, and is let go again without a trace.
async fn a_site_is_held_back(bench: &dyn AppBench, side: &Side) {
    let (app, was) = (bench.app(), side.settings(bench).await);
    let quiet = AppSite { quiet: true, ..side.site.clone() };
    if !app.abilities().quiet {
        assert_refused(app.write_settings(&quiet).await, "a quiet site");
        assert_eq!(side.settings(bench).await, was);
        return;
    }
    assert!(!app.settings_drift(&quiet).await.expect("drift").is_empty(), "it is not quiet yet");
    app.write_settings(&quiet).await.expect("written");
    assert_eq!(app.settings_drift(&quiet).await, Ok(Vec::new()));
    assert!(!app.settings_drift(&side.site).await.expect("drift").is_empty(), "it is quiet");
    let facts = app.site_facts(&quiet).await.expect("facts");
    assert!(facts.installed, "{facts:?}");
    app.clear_caches(&quiet).await.expect("emptied");
    app.write_settings(&side.site).await.expect("written");
    assert_eq!(side.settings(bench).await, was, "no trace is left");
}

async fn packages_are_told(bench: &dyn AppBench, side: &Side) {
    let (app, site) = (bench.app(), &side.site);
    let (facts, platform) = (
        app.site_facts(site).await.expect("facts"),
        app.platform_facts(&site.platform_root).await.expect("facts"),
    );
    if !app.abilities().packages {
        assert_refused(app.packages(site).await, "packages of a site");
        assert_refused(app.platform_packages(&site.platform_root).await, "packages of a platform");
        return;
    }
    let own = app.packages(site).await.expect("packages");
    let given = app.platform_packages(&site.platform_root).await.expect("packages");
    for list in [&own, &given] {
        let name = |package: &Package| (package.kind, package.name.clone(), package.profile.clone());
        let names: Vec<_> = list.iter().map(name).collect();
        assert!(names.is_sorted() && names.windows(2).all(|two| two[0] != two[1]), "{names:?}");
        let cores = list.iter().filter(|package| package.kind == PackageKind::Core);
        assert_eq!(cores.count(), 1, "{list:?}");
    }
    let (core, wants) = (&own[0], &given[0]);
    assert_eq!((core.kind, wants.kind, &core.name), (PackageKind::Core, PackageKind::Core, &wants.name));
    assert!(core.enabled && !core.own, "{core:?}");
    assert_eq!((core.version.as_ref(), core.schema_version), (Some(&facts.version), facts.schema_version));
    assert_eq!(
        (wants.version.as_ref(), wants.schema_version),
        (Some(&platform.version), platform.schema_version)
    );
    assert!(given.iter().all(|package| !package.enabled && !package.own), "{given:?}");
    assert!(own.iter().all(|package| package.profile.is_none()), "a site has what it sees: {own:?}");
    let table = compare(&own, &given);
    assert_eq!((table.errors().count(), table.warnings().count()), (0, 0), "at home: {table:?}");
    let theme = |package: &&Package| package.kind == PackageKind::Theme && package.enabled;
    assert!(own.iter().any(|package| theme(&package)), "a site that shows pages has a theme: {own:?}");
}

async fn a_login_link_is_made_and_taken_back(bench: &dyn AppBench, side: &Side) {
    let (app, secrets, database, site) = (bench.app(), bench.secrets(), bench.database(), &side.site);
    let print = DatabaseFingerprint {
        schema: side.login.user.clone(),
        user: Some(side.login.user.clone()),
        volatile: app.volatile_rows(),
        full: true,
    };
    let before = database.fingerprint(&print).await.expect("fingerprint");
    let link = SecretRef("contract/login".to_owned());
    if !app.abilities().login_links {
        assert_refused(app.login_link(site, None, &link, u64::MAX).await, "a login link");
        app.revoke_login(site, &link).await.expect("there is none to take back");
        assert!(secrets.get(&link).await.expect("asked").is_none());
        return;
    }
    let made = app.login_link(site, None, &link, u64::MAX).await.expect("a link");
    assert_eq!(made.user, "chief", "the first administrator");
    assert!(made.until > 0, "a link that was never good");
    let url = secrets.get(&link).await.expect("asked").expect("kept");
    assert!(url.expose().starts_with(&format!("http://{}/", site.name)), "the link is to somewhere else");
    for user in ["chief", &request("chief").admin_email] {
        let again = app.login_link(site, Some(user), &link, u64::MAX).await;
        assert_eq!(again.map(|made| made.user), Ok("chief".to_owned()), "{user}");
    }
    let second = secrets.get(&link).await.expect("asked").expect("kept");
    assert!(second != url, "the first one would be good still");
    let error =
        assert_refused(app.login_link(site, Some("nobody"), &link, u64::MAX).await, "an unknown user");
    assert!(!error.contains(second.expose()), "a link is in an error");
    for _ in 0..2 {
        app.revoke_login(site, &link).await.expect("taken back, also twice");
        assert!(secrets.get(&link).await.expect("asked").is_none());
    }
    let after = database.fingerprint(&print).await.expect("fingerprint");
    assert_eq!(after, before, "a link changes nothing that counts");
}

async fn settings_keep_what_is_not_ours(bench: &dyn AppBench, side: &Side) {
    let (app, files, site) = (bench.app(), bench.files(), &side.site);
    let name = app.settings_files().into_iter().next().expect("a settings file");
    let (path, written) = (format!("{}/{name}", site.dir), side.settings(bench).await);
    let secret = bench.secrets().get(&side.login.password).await.expect("asked").expect("there");
    assert!(written.contains(secret.expose()) && written.contains(site.database.name.as_str()));
    let file = files.read(&path).await.expect("read").expect("there");
    // A line of the owner's, at the end of what was made once.
    let own = format!("{written}// my own: \\ 'x' \"y\"\n");
    let access = Access { mode: 0o440, user: Some("root".to_owned()), group: Some("www-data".to_owned()) };
    files.put(&path, own.as_bytes(), &access, Some(&file.sha256)).await.expect("written");
    app.write_settings(site).await.expect("written");
    assert_eq!(side.settings(bench).await, own, "salts and own lines stay, byte for byte");
    files.fix_access(&site.dir, &app.access_rules()).await.expect("fixed");
    app.site_facts(site).await.expect("it still works");
}

async fn persons_are_taken_out(bench: &dyn AppBench, copy: &Side) {
    let app = bench.app();
    if !app.abilities().sanitize {
        assert_refused(app.sanitize(&copy.site).await, "an application that does not know its persons");
        return;
    }
    for _ in 0..2 {
        let done = app.sanitize(&copy.site).await.expect("taken out, also twice");
        assert_eq!(done.sanitized_users, 1, "the one who was installed");
    }
    let mut dump = bench.database().dump(&copy.login.user).await.expect("dumped");
    let mut text = Vec::new();
    while let Some(chunk) = dump.next().await {
        text.extend_from_slice(&chunk.expect("read"));
    }
    let text = String::from_utf8_lossy(&text);
    assert!(!text.contains(&request("chief").admin_email), "an address is left");
    assert!(text.contains("user1@example.invalid") && text.contains("chief"), "names stay");
}

async fn a_copy_is_updated_and_its_original_is_not(bench: &dyn AppBench, from: &Side, to: &Side) {
    let (app, files, database) = (bench.app(), bench.files(), bench.database());
    let request = DatabaseFingerprint {
        schema: from.login.user.clone(),
        user: Some(from.login.user.clone()),
        volatile: Vec::new(),
        full: true,
    };
    let before = database.fingerprint(&request).await.expect("fingerprint");
    files.copy_tree(&from.site.live_dir, &to.site.dir, &CopyOptions::default()).await.expect("copied");
    let dump = database.dump(&from.login.user).await.expect("dumped");
    database.import(&to.login.user, &to.mark, &to.login, dump).await.expect("imported");
    app.write_settings(&to.site).await.expect("written");
    to.fix_access(bench).await;
    let settings = to.settings(bench).await;
    assert!(
        settings.contains(to.login.user.as_str()) && !settings.contains(from.login.user.as_str()),
        "it names its own database"
    );
    assert!(settings.ends_with("// my own: \\ 'x' \"y\"\n"), "own lines come along");
    for _ in 0..2 {
        app.renew_keys(&to.site).await.expect("made anew, also twice");
    }
    let renewed = to.settings(bench).await;
    assert!(renewed != settings, "the keys are the original's");
    assert!(renewed.ends_with("// my own: \\ 'x' \"y\"\n"), "own lines stay");
    assert_eq!(app.settings_drift(&to.site).await, Ok(Vec::new()));
    let facts = app.site_facts(&to.site).await.expect("facts");
    assert!(facts.installed && facts.update_pending, "{facts:?}");
    bench.break_update(&to.site, true).await;
    let message = assert_refused(app.update_database(&to.site).await, "an update that fails");
    let secret = bench.secrets().get(&to.login.password).await.expect("asked").expect("there");
    assert!(!message.contains(secret.expose()), "a secret is in an error");
    assert_eq!(
        database.fingerprint(&request).await.expect("fingerprint"),
        before,
        "the original was touched"
    );
    bench.break_update(&to.site, false).await;
    let report = app.update_database(&to.site).await.expect("updated");
    let wanted = app.platform_facts(&to.site.platform_root).await.expect("facts").schema_version;
    assert_eq!((report.from, report.to), (facts.schema_version, wanted));
    let again = app.update_database(&to.site).await.expect("nothing to do is fine");
    assert_eq!((again.from, again.to), (wanted, wanted));
    persons_are_taken_out(bench, to).await;
    app.clear_caches(&to.site).await.expect("emptied");
    let facts = app.site_facts(&to.site).await.expect("facts");
    assert!(facts.installed && !facts.update_pending, "{facts:?}");
    assert_eq!(
        database.fingerprint(&request).await.expect("fingerprint"),
        before,
        "the original was touched"
    );
    to.publish(bench).await;
}
