//! Sites whose database is on Oracle's MySQL, on a host of its own: installed, moved, rolled back, renamed, restored, deleted, and moved
//! from MariaDB and back. Needs Docker and that host's image, which `just mysql` makes.

use anyhow::{Context as _, Result, ensure};
use kedge_testenv::wordpress::{SeedSpec, seed};
use kedge_testenv::{Exec, Host, HostSpec, Progress, Service, Testenv};
use serde_json::{Value, json};
use support::face::{Face, id_of};
use support::kedge::{Kedge, Transport};
use support::outside::Outside;
use support::receiver::Receiver;

use crate::scene::{LIMIT, SITE, as_before, wanted};

const DIR: &str = "/srv/platforms/wordpress-6.1/sites/shop.example.test";
/// A site that begins on MariaDB.
const OTHER: &str = "other.example.test";

/// A web host with MariaDB, which is `db1`, and a host with MySQL, which is `my1`.
struct Hosts {
    face: Face,
    kedge: Kedge,
    _receiver: Receiver,
    web: Host,
    mysql: Host,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_lives_on_mysql_and_moves_to_it_and_back() -> Result<()> {
    if !wanted() {
        return Ok(());
    }
    if std::env::var_os("KEDGE_MYSQL_TESTS").is_none() {
        println!("skipped: MySQL needs an image of its own, which takes two minutes; `just mysql` runs it");
        return Ok(());
    }
    let env = Testenv::open(&Progress::stderr()).await?;
    let mut hosts = Hosts::start(&env).await?;
    installed(&hosts).await?;
    a_failing_update(&hosts).await?;
    moved_renamed_and_back(&hosts).await?;
    restored(&hosts).await?;
    from_mariadb_and_back(&hosts).await?;
    gone_for_good(&hosts).await?;
    hosts.kedge.stop().await?;
    let (sound, fsck) = hosts.kedge.command(&["journal", "fsck"])?;
    ensure!(sound, "{fsck}");
    hosts.web.shutdown().await?;
    hosts.mysql.shutdown().await?;
    env.shutdown().await?;
    Ok(())
}

impl Hosts {
    async fn start(env: &Testenv) -> Result<Self> {
        let web = Host::start(env, &HostSpec::web_and_database("web1")).await?;
        let mysql = Host::start(env, &HostSpec::mysql("my1")).await?;
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let mut kedge = Kedge::prepare(&web, Transport::Ssh, port)?;
        kedge.configure(&format!(
            r#"
[hosts.my1]
transport = "ssh"
address = "deploy@127.0.0.1:{}"
identity_file = {:?}
known_hosts = {:?}
sudo = true

[database_servers.my1]
host = "my1"
kind = "mysql"
admin_defaults_file = "/etc/mysql/debian.cnf"
grant_hosts = ["%"]
address = "my1"
"#,
            mysql.ssh_port(),
            mysql.ssh_key_path(),
            mysql.known_hosts_path(),
        ))?;
        let receiver = Receiver::start_on(port, &kedge.callback_secret).await?;
        kedge.start().await?;
        let face = kedge.face()?;
        Ok(Self { face, kedge, _receiver: receiver, web, mysql })
    }

    async fn run(&self, workflow: &str, params: &Value) -> Result<Value> {
        let id = self.face.submit(workflow, params).await?;
        self.face.settled(&id, LIMIT, |_| ()).await
    }

    async fn done(&self, workflow: &str, params: Value) -> Result<Value> {
        let task = self.run(workflow, &params).await?;
        ensure!(task["state"] == "succeeded", "{workflow} {params}: {task}");
        Ok(task)
    }

    /// A task that ends rolled back, for this reason, with everything as it was.
    async fn refused(&self, params: Value, reason: &str) -> Result<()> {
        let before = self.look(SITE).await?;
        let task = self.run("migrate", &params).await?;
        ensure!(task["state"] == "rolled_back", "migrate {params}: {task}");
        let error = task["error"].to_string();
        ensure!(error.contains(reason), "migrate {params}: it should tell of {reason}: {error}");
        ensure!(task["downtime_ms"].as_u64().unwrap_or(0) == 0, "the site was closed for it: {task}");
        as_before(&before, &self.look(SITE).await?, reason)
    }

    async fn undo(&self, task: &Value) -> Result<()> {
        let (status, undo) = self.face.post(&format!("/v1/tasks/{}/undo", id_of(task)?), &json!({})).await?;
        ensure!(status == 202, "undo: {status} {undo}");
        let task = self.face.settled(&id_of(&undo)?, LIMIT, |_| ()).await?;
        ensure!(task["state"] == "succeeded", "undo: {task}");
        Ok(())
    }

    async fn look(&self, site: &str) -> Result<Outside> {
        Outside::look_apart(&self.web, &self.mysql, Service::Nginx, site).await
    }

    async fn shell(&self, script: &str) -> Result<String> {
        Ok(self.web.run_ok(Exec::new(["sh", "-c", script])).await?.text())
    }

    async fn sql(&self, sql: &str) -> Result<String> {
        let output = self.mysql.run_ok(Exec::new(["mysql", "-N"]).stdin(sql.as_bytes())).await;
        Ok(output.with_context(|| sql.to_owned())?.text().trim().to_owned())
    }

    async fn answers(&self, site: &str, expected: u16) -> Result<String> {
        let page = self.web.get(Service::Nginx, site, "/").await?;
        ensure!(page.status == expected, "{site} answers {}: {}", page.status, page.text());
        Ok(page.text())
    }

    /// The database that a site's settings name.
    async fn database_of(&self, dir: &str) -> Result<String> {
        let name =
            self.shell(&format!("sed -nE \"s/.*DB_NAME', *'([^']+)'.*/\\1/p\" {dir}/wp-config.php")).await?;
        ensure!(!name.trim().is_empty(), "the settings in {dir} name no database");
        Ok(name.trim().to_owned())
    }
}

async fn installed(hosts: &Hosts) -> Result<()> {
    let seen = hosts.done("verify", json!({ "server": "my1", "check_only": true })).await?;
    println!("my1: {}", seen["result"]);
    let version = hosts.sql("SELECT VERSION()").await?;
    ensure!(version.starts_with("9.") && !version.contains("MariaDB"), "my1 is {version}");
    hosts
        .done("install", json!({ "site": SITE, "platform": "wordpress-61", "database_server": "my1" }))
        .await?;
    seed(&hosts.web, &SeedSpec::new("/srv/platforms/wordpress-6.1", SITE, 30, 17)).await?;
    hosts.answers(SITE, 200).await?;
    let user = hosts.database_of(DIR).await?;
    let plugin = hosts.sql(&format!("SELECT DISTINCT plugin FROM mysql.user WHERE user = '{user}'")).await?;
    ensure!(plugin == "caching_sha2_password", "{user} logs in by {plugin}");
    // A server that was started anew knows no password's digest: PHP has to send the password, under the server's key.
    hosts.mysql.stop_service(Service::Mysql).await?;
    hosts.mysql.start_service(Service::Mysql).await?;
    hosts.answers(SITE, 200).await.map(drop)
}

async fn a_failing_update(hosts: &Hosts) -> Result<()> {
    let plugin = format!("{DIR}/wp-content/mu-plugins");
    let code = "add_filter('dbdelta_queries', function ($q) { throw new RuntimeException('on purpose'); });";
    hosts.shell(&format!("mkdir -p {plugin} && cat >{plugin}/case.php <<'X'\n<?php\n{code}\nX")).await?;
    let before = hosts.look(SITE).await?;
    let task = hosts.run("migrate", &json!({ "site": SITE, "target_platform": "wordpress-68" })).await?;
    ensure!(task["state"] == "rolled_back" && task["error"]["step"] == "update_database", "{task}");
    ensure!(task["outcome"]["verified"] == true, "the rollback is not verified: {task}");
    as_before(&before, &hosts.look(SITE).await?, "after a failed update")?;
    hosts.shell(&format!("rm {plugin}/case.php; rmdir {plugin} 2>/dev/null; true")).await.map(drop)
}

async fn moved_renamed_and_back(hosts: &Hosts) -> Result<()> {
    let before = hosts.look(SITE).await?;
    let old = hosts.database_of(DIR).await?;
    let task = hosts.done("migrate", json!({ "site": SITE, "target_platform": "wordpress-68" })).await?;
    hosts.answers(SITE, 200).await?;
    let new = hosts.database_of(&DIR.replace("6.1", "6.8")).await?;
    let version = "SELECT option_value FROM {}.wp_options WHERE option_name = 'db_version'";
    let versions = [&old, &new].map(|name| version.replace("{}", name));
    let (old, new) = (hosts.sql(&versions[0]).await?, hosts.sql(&versions[1]).await?);
    ensure!(old < new, "the update went from {old} to {new}");
    let copied = task["result"].to_string();
    println!("moved on MySQL: downtime {} ms, {copied}", task["downtime_ms"]);
    hosts.undo(&task).await?;
    as_before(
        &before.without_trash(&before),
        &hosts.look(SITE).await?.without_trash(&before),
        "after the undo of a move",
    )?;

    let params = json!({ "site": SITE, "target_platform": "wordpress-68", "new_site": "store.example.test" });
    let task = hosts.done("migrate", params).await?;
    hosts.answers("store.example.test", 200).await?;
    let name = hosts.database_of("/srv/platforms/wordpress-6.8/sites/store.example.test").await?;
    let named = hosts
        .sql(&format!("SELECT COUNT(*) FROM {name}.wp_posts WHERE CONCAT(post_content, ' ', guid, ' ') REGEXP '//shop[.]example[.]test[^a-z0-9.-]'"))
        .await?;
    ensure!(named == "0", "{named} posts of the renamed site name the old host");
    ensure!(task["result"]["values_rewritten"].as_u64() > Some(100), "{}", task["result"]);
    hosts.undo(&task).await?;
    hosts.answers(SITE, 200).await?;
    as_before(
        &before.without_trash(&before),
        &hosts.look(SITE).await?.without_trash(&before),
        "after the undo of a rename",
    )
}

async fn restored(hosts: &Hosts) -> Result<()> {
    let files =
        format!("cd {DIR} && find wp-content -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum");
    let rows = async || -> Result<String> {
        let name = hosts.database_of(DIR).await?;
        let script = format!(
            "mysqldump --set-gtid-purged=OFF --skip-dump-date --skip-comments --order-by-primary --skip-extended-insert \
             {name} wp_posts wp_postmeta wp_comments wp_users | grep ^INSERT | sha256sum"
        );
        Ok(hosts.mysql.run_ok(Exec::new(["sh", "-c", &script])).await?.text())
    };
    let was = (hosts.shell(&files).await?, rows().await?);
    let made = hosts.done("backup", json!({ "site": SITE })).await?;
    let backup = made["result"]["backup"].as_str().context("no backup")?.to_owned();
    let name = hosts.database_of(DIR).await?;
    hosts.sql(&format!("USE {name}; DROP TABLE wp_posts; DELETE FROM wp_options;")).await?;
    hosts.shell(&format!("rm -r {DIR}/wp-content/uploads")).await?;
    hosts.done("restore", json!({ "site": SITE, "backup": backup })).await?;
    hosts.answers(SITE, 200).await?;
    let is = (hosts.shell(&files).await?, rows().await?);
    ensure!(was == is, "the restored site differs: {was:?} {is:?}");
    hosts.done("rehearse", json!({ "site": SITE })).await.map(drop)
}

async fn from_mariadb_and_back(hosts: &Hosts) -> Result<()> {
    // What one flavour alone can hold is told before anything is closed. Tables without a collation of their own have MySQL's.
    let name = hosts.database_of(DIR).await?;
    let to_mariadb = json!({ "site": SITE, "target_database_server": "db1" });
    hosts
        .refused(to_mariadb.clone(), "lacks collations that the site's database uses: utf8mb4_0900_ai_ci;")
        .await?;
    let tables = hosts
        .sql(&format!("SELECT CONCAT('ALTER TABLE `', TABLE_NAME, '` CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_520_ci;') \
             FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{name}' AND TABLE_COLLATION = 'utf8mb4_0900_ai_ci'"))
        .await?;
    hosts.sql(&format!("USE {name}; {tables}")).await?;
    let odd = format!("CREATE TABLE {name}.odd (a varchar(9), KEY low ((LOWER(a)))) COLLATE utf8mb4_bin");
    hosts.sql(&odd).await?;
    hosts.refused(to_mariadb.clone(), "only MySQL has: index odd.low (of an expression);").await?;
    hosts.sql(&format!("DROP TABLE {name}.odd")).await?;
    let before = hosts.look(SITE).await?;
    let task = hosts.done("migrate", to_mariadb).await?;
    hosts.answers(SITE, 200).await?;
    hosts.undo(&task).await?;
    as_before(
        &before.without_trash(&before),
        &hosts.look(SITE).await?.without_trash(&before),
        "back from MariaDB",
    )?;

    hosts
        .done("install", json!({ "site": OTHER, "platform": "wordpress-61", "database_server": "db1" }))
        .await?;
    seed(&hosts.web, &SeedSpec::new("/srv/platforms/wordpress-6.1", OTHER, 5, 18)).await?;
    let name = hosts.database_of(&DIR.replace(SITE, OTHER)).await?;
    let to_mysql = json!({ "site": OTHER, "target_database_server": "my1" });
    hosts.shell(&format!("mariadb {name} -e 'CREATE SEQUENCE odd'")).await?;
    hosts.refused(to_mysql.clone(), "only MariaDB has: table odd (sequence)").await?;
    hosts.shell(&format!("mariadb {name} -e 'DROP SEQUENCE odd'")).await?;
    // Nor does MySQL take the values of generated columns, which MariaDB's dump holds.
    hosts.refused(to_mysql.clone(), "(generated)").await?;
    let generated = format!(
        "SELECT CONCAT('ALTER TABLE `', TABLE_NAME, '` DROP COLUMN `', COLUMN_NAME, '`;') FROM information_schema.COLUMNS \
         WHERE TABLE_SCHEMA = '{name}' AND IS_GENERATED = 'ALWAYS'"
    );
    let drop = hosts.shell(&format!("mariadb -N <<'X'\n{generated}\nX")).await?;
    hosts.shell(&format!("mariadb {name} <<'X'\n{drop}\nX")).await?;
    // Nor what was made in a mode that it does not know.
    hosts.refused(to_mysql.clone(), "(sql_mode NO_AUTO_CREATE_USER)").await?;
    let made = format!(
        "SELECT CONCAT('DROP TRIGGER `', TRIGGER_NAME, '`;') FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = '{name}'; \
         SELECT CONCAT('DROP ', ROUTINE_TYPE, ' `', ROUTINE_NAME, '`;') FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = '{name}'; \
         SELECT CONCAT('DROP EVENT `', EVENT_NAME, '`;') FROM information_schema.EVENTS WHERE EVENT_SCHEMA = '{name}'"
    );
    let drop = hosts.shell(&format!("mariadb -N <<'X'\n{made}\nX")).await?;
    hosts.shell(&format!("mariadb {name} <<'X'\n{drop}\nX")).await?;
    hosts.done("migrate", to_mysql).await?;
    hosts.answers(OTHER, 200).await?;
    let there = hosts.database_of(&DIR.replace(SITE, OTHER)).await?;
    let posts = "SELECT COUNT(*), SUM(CRC32(post_content)) FROM {}.wp_posts";
    let (new, old) = (
        hosts.sql(&posts.replace("{}", &there)).await?,
        hosts.shell(&format!("mariadb -N -e '{}'", posts.replace("{}", &name))).await?,
    );
    ensure!(new == old.trim(), "the posts differ: {new} and {old}");
    Ok(())
}

/// Both sites are deleted and purged: the server has nothing of them left.
async fn gone_for_good(hosts: &Hosts) -> Result<()> {
    let names = (hosts.database_of(DIR).await?, hosts.database_of(&DIR.replace(SITE, OTHER)).await?);
    for site in [SITE, OTHER] {
        hosts.done("disable", json!({ "site": site })).await?;
        hosts.answers(site, 503).await?;
    }
    hosts.done("delete", json!({ "site": SITE, "hold": "7d" })).await?;
    hosts.done("undelete", json!({ "site": SITE })).await?;
    hosts.done("enable", json!({ "site": SITE })).await?;
    hosts.answers(SITE, 200).await?;
    hosts.done("disable", json!({ "site": SITE })).await?;
    for site in [SITE, OTHER] {
        hosts.done("delete", json!({ "site": site, "hold": "0m" })).await?;
    }
    hosts.done("purge", json!({})).await?;
    let ours = format!("IN ('{}', '{}')", names.0, names.1);
    let left = hosts
        .sql(&format!(
            "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME {ours}; \
             SELECT user FROM mysql.user WHERE user {ours} OR user LIKE 'kedge-%'"
        ))
        .await?;
    ensure!(left.is_empty(), "of the purged sites is left: {left}");
    Ok(())
}
