//! Cases about what is in a database, and about the tools that dump it.

use anyhow::{Context as _, Result, ensure};
use kedge_testenv::{Exec, Service};
use serde_json::{Value, json};

use super::faults::{calls, stand_back, stand_in};
use super::{database_of, done, returns, rolls_back, sql, to_the_other_platform};
use crate::scene::{SITE, Scene};

/// Puts something into the site's database, moves the site, and compares what both sides say about it; then the site goes back.
async fn arrives(scene: &Scene, make: &str, look: impl Fn(&str) -> String, unmake: &str) -> Result<Value> {
    let old = database_of(scene, 0, SITE).await?;
    sql(scene, &old, make).await?;
    let was = sql(scene, &old, &look(&old)).await?;
    ensure!(!was.trim().is_empty(), "nothing was made");
    // Whoever defined things is gone when they move.
    sql(scene, "mysql", "DROP USER IF EXISTS `gone`@`nowhere`").await?;
    let before = scene.look().await?;
    let task = done(scene, "migrate", &to_the_other_platform(scene)).await?;
    let new = database_of(scene, 1, SITE).await?;
    let is = sql(scene, &new, &look(&new)).await?;
    let (was, is) = (was.replace(&old, "<schema>"), is.replace(&new, "<schema>"));
    ensure!(was == is, "it did not arrive as it was:\n{was}\n{is}");
    let definers = sql(scene, "information_schema", &definers(&new)).await?;
    ensure!(definers.lines().all(|line| line.starts_with(&new)), "definers of the new side: {definers}");
    returns(scene, &before, &task).await?;
    sql(scene, &old, unmake).await?;
    Ok(task)
}

fn definers(schema: &str) -> String {
    format!(
        "SELECT DEFINER FROM VIEWS WHERE TABLE_SCHEMA='{schema}' UNION ALL SELECT DEFINER FROM TRIGGERS WHERE TRIGGER_SCHEMA='{schema}' \
         UNION ALL SELECT DEFINER FROM ROUTINES WHERE ROUTINE_SCHEMA='{schema}' UNION ALL SELECT DEFINER FROM EVENTS WHERE EVENT_SCHEMA='{schema}'"
    )
}

/// The dump in the safety backup of a task, or of a backup.
async fn dump_in_backup(scene: &Scene, task: &Value) -> Result<String> {
    let name = task["result"]["backup"].as_str().with_context(|| format!("no backup: {task}"))?;
    let archive = std::fs::read(scene.kedge.dir().join("backups").join(name))?;
    let unpack = "zstd -dc | tar -xO ./database.sql";
    Ok(scene.host.run_ok(Exec::new(["sh", "-c", unpack]).stdin(archive)).await?.text())
}

/// What a missing user has defined runs as the site's own user.
pub(super) async fn definer_is_gone(scene: &mut Scene) -> Result<()> {
    let make = "CREATE TABLE case_t (a INT); CREATE USER `gone`@`nowhere`; GRANT ALL ON *.* TO `gone`@`nowhere`;
        CREATE DEFINER=`gone`@`nowhere` SQL SECURITY DEFINER VIEW case_v AS SELECT COUNT(*) AS n FROM wp_posts;
        CREATE DEFINER=`gone`@`nowhere` TRIGGER case_tr BEFORE INSERT ON case_t FOR EACH ROW SET NEW.a = NEW.a + 1;
        CREATE DEFINER=`gone`@`nowhere` PROCEDURE case_p() SELECT 1;
        CREATE DEFINER=`gone`@`nowhere` FUNCTION case_f() RETURNS INT DETERMINISTIC RETURN 2;
        CREATE DEFINER=`gone`@`nowhere` EVENT case_e ON SCHEDULE EVERY 1 YEAR DISABLE DO SELECT 1;";
    let look = |schema: &str| {
        format!(
            "SELECT COUNT(*) FROM information_schema.VIEWS WHERE TABLE_SCHEMA='{schema}'; SELECT TRIGGER_NAME, ACTION_STATEMENT FROM information_schema.TRIGGERS \
             WHERE TRIGGER_SCHEMA='{schema}'; SELECT ROUTINE_NAME, ROUTINE_DEFINITION FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA='{schema}' ORDER BY 1; \
             SELECT EVENT_NAME, EVENT_DEFINITION, STATUS FROM information_schema.EVENTS WHERE EVENT_SCHEMA='{schema}'"
        )
    };
    let unmake =
        "DROP VIEW case_v; DROP TABLE case_t; DROP PROCEDURE case_p; DROP FUNCTION case_f; DROP EVENT case_e";
    arrives(scene, make, look, unmake).await.map(drop)
}

/// Rows that look like a dump stay what they are, byte for byte.
pub(super) async fn dump_in_a_row(scene: &mut Scene) -> Result<()> {
    let make = r"INSERT INTO wp_options (option_name, option_value, autoload) VALUES
        ('case_1', CONCAT('/*!50013 DEFINER=`a`@`b` SQL SECURITY DEFINER */\n-- Dump completed on 2026-01-01\n/*!999999\\- enable the sandbox mode */\n',
          'DELIMITER ;;\nUSE `mysql`;\nDROP DATABASE x;;\nDELIMITER ;\n\\. /etc/passwd\nsource /etc/passwd\nINSERT INTO `a` VALUES (''x''),(''y'');\n'), 'no'),
        ('case_2', CONCAT(REPEAT('/*!50013 DEFINER=`a`@`b` */', 400), '\r\n', UNHEX('00010203'), '\'), (\'', CHAR(26), '-- '), 'no')";
    let look = |_: &str| {
        "SELECT option_name, HEX(option_value) FROM wp_options WHERE option_name LIKE 'case\\_%' ORDER BY 1"
            .to_owned()
    };
    arrives(scene, make, look, "DELETE FROM wp_options WHERE option_name LIKE 'case\\_%'").await.map(drop)
}

/// Routines and events, which dumps leave out by default, arrive, and are in the backup.
pub(super) async fn routines_and_events(scene: &mut Scene) -> Result<()> {
    let make = "CREATE PROCEDURE case_routine(IN a INT) SELECT a + 1; CREATE EVENT case_event ON SCHEDULE EVERY 1 YEAR DO DELETE FROM wp_options WHERE option_name='never'";
    let look = |schema: &str| {
        format!(
            "SELECT ROUTINE_NAME, ROUTINE_DEFINITION FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA='{schema}'; SELECT EVENT_NAME, EVENT_DEFINITION, STATUS FROM information_schema.EVENTS WHERE EVENT_SCHEMA='{schema}'"
        )
    };
    let task = arrives(scene, make, look, "DROP PROCEDURE case_routine; DROP EVENT case_event").await?;
    let dump = dump_in_backup(scene, &task).await?;
    ensure!(dump.contains("case_routine") && dump.contains("case_event"), "they are not in the backup");
    Ok(())
}

/// A server with global transaction ids and a binary log: no dump tells another server to take its ids over.
pub(super) async fn global_ids(scene: &mut Scene) -> Result<()> {
    let file = "/etc/mysql/mariadb.conf.d/99-zz-case.cnf";
    scene
        .shell(&format!(
            "printf '[mysqld]\\nlog_bin = case-bin\\nserver_id = 7\\ngtid_strict_mode = 1\\nlog_bin_trust_function_creators = 1\\n' >{file}"
        ))
        .await?;
    scene.host.stop_service(Service::Mariadb).await?;
    scene.host.start_service(Service::Mariadb).await?;
    let before = scene.look().await?;
    let task = done(scene, "migrate", &to_the_other_platform(scene)).await?;
    let dump = dump_in_backup(scene, &task).await?;
    for word in ["GTID_PURGED", "gtid_slave_pos", "CHANGE MASTER", "SQL_LOG_BIN"] {
        ensure!(!dump.to_lowercase().contains(&word.to_lowercase()), "{word} is in the dump");
    }
    returns(scene, &before, &task).await?;
    scene.shell(&format!("rm {file}")).await?;
    scene.host.stop_service(Service::Mariadb).await?;
    scene.shell("rm -f /var/lib/mysql/case-bin*").await?;
    scene.host.start_service(Service::Mariadb).await?;
    Ok(())
}

/// A table is changed while it is dumped: tried again, and when that does not help, as before.
pub(super) async fn changed_while_dumped(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    let fail = "{ echo 'mariadb-dump: Error 1412: Table definition has changed, please retry transaction when dumping table `wp_posts` at row: 0' >&2; exit 3; }";
    stand_in(scene, "mariadb-dump", "*--single-transaction*", &format!("[ $n -gt 1 ] || {fail}")).await?;
    let task = scene.run("migrate", &to_the_other_platform(scene)).await?;
    ensure!(task["state"] == "succeeded", "one change is no reason to give up: {task}");
    let dumps = calls(scene, "mariadb-dump").await?;
    // Whichever came first is made again; and a table that was written meanwhile is dumped once more behind the fence.
    ensure!([3, 4].contains(&dumps), "the backup, the copy, and one of them again, not {dumps} dumps");
    returns(scene, &before, &task).await?;
    stand_in(scene, "mariadb-dump", "*--single-transaction*", fail).await?;
    let before = scene.look().await?;
    let ended = rolls_back(scene, &before, &to_the_other_platform(scene), "1412").await;
    stand_back(scene, "mariadb-dump").await?;
    ended
}

/// Tables outside of transactions are copied behind the fence with every row; the backup of the live site names them.
pub(super) async fn outside_transactions(scene: &mut Scene) -> Result<()> {
    let make = "CREATE TABLE case_myisam (id INT AUTO_INCREMENT PRIMARY KEY, t VARCHAR(50)) ENGINE=MyISAM; INSERT INTO case_myisam (t) SELECT REPEAT('x', 40) FROM wp_posts;
        CREATE TABLE case_aria (id INT PRIMARY KEY) ENGINE=Aria TRANSACTIONAL=0; INSERT INTO case_aria VALUES (1),(2)";
    let look = |_: &str| "CHECKSUM TABLE case_myisam, case_aria; SELECT COUNT(*) FROM case_myisam".to_owned();
    let task = arrives(scene, make, look, "DROP TABLE case_myisam, case_aria").await?;
    let name = task["result"]["backup"].as_str().context("no backup")?;
    let archive = std::fs::read(scene.kedge.dir().join("backups").join(name))?;
    let unpack = "zstd -dc | tar -xO ./.kedge-manifest.json";
    let manifest = scene.host.run_ok(Exec::new(["sh", "-c", unpack]).stdin(archive)).await?.text();
    let manifest: Value = serde_json::from_str(&manifest)?;
    let named = manifest["database"]["not_in_the_snapshot"].as_array().context("no list in the manifest")?;
    for table in ["case_aria", "case_myisam"] {
        ensure!(named.contains(&json!(table)), "the manifest does not name {table}: {named:?}");
    }
    ensure!(!named.contains(&json!("wp_posts")), "the manifest names tables of the snapshot: {named:?}");
    Ok(())
}

/// An administrator who may see neither processes nor tablespaces: the dump needs neither.
pub(super) async fn least_privilege(scene: &mut Scene) -> Result<()> {
    const LEAST: &str = "least.example.test";
    let account = "CREATE OR REPLACE USER kedge_least@localhost IDENTIFIED BY 'least-secret-1'; \
        GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, REFERENCES, INDEX, ALTER, CREATE TEMPORARY TABLES, LOCK TABLES, CREATE VIEW, SHOW VIEW, CREATE ROUTINE, \
        ALTER ROUTINE, EXECUTE, EVENT, TRIGGER, CREATE USER, RELOAD, SHOW DATABASES, DELETE HISTORY ON *.* TO kedge_least@localhost WITH GRANT OPTION";
    sql(scene, "mysql", account).await?;
    scene.shell("umask 077; printf '[client]\\nuser=kedge_least\\npassword=least-secret-1\\n' >/etc/mysql/kedge-least.cnf").await?;
    if !std::fs::read_to_string(scene.kedge.config())?.contains("database_servers.least") {
        scene.kedge.stop().await?;
        scene.kedge.configure("[database_servers.least]\nhost = \"web1\"\nkind = \"mysql\"\nadmin_defaults_file = \"/etc/mysql/kedge-least.cnf\"\n")?;
        scene.kedge.start().await?;
    }
    let before = scene.look().await?;
    super::install(scene, LEAST, &json!({ "database_server": "least" })).await?;
    let backup = done(scene, "backup", &json!({ "site": LEAST })).await?;
    ensure!(dump_in_backup(scene, &backup).await?.contains("wp_posts"), "the dump is empty");
    // Whoever does not see the sessions of a site cannot tell when it writes no more: it is not moved.
    let task = scene.run("migrate", &json!({ "site": LEAST, "target_platform": scene.platforms[1] })).await?;
    let told = task["error"].to_string();
    ensure!(
        task["state"] == "rolled_back" && told.contains("GRANT PROCESS"),
        "a move without PROCESS: {task}"
    );
    super::answers(scene, LEAST, 200).await?;
    super::gone(scene, LEAST).await?;
    crate::scene::as_before(&before, &scene.look().await?, "after the site was removed")?;
    sql(scene, "mysql", "DROP USER kedge_least@localhost").await.map(drop)
}

/// Accounts are made in a way that every server knows: no statement grants and identifies at once.
pub(super) async fn accounts_by_create_user(scene: &mut Scene) -> Result<()> {
    const WATCHED: &str = "watched.example.test";
    sql(scene, "mysql", "SET GLOBAL log_output='TABLE'; TRUNCATE general_log; SET GLOBAL general_log=1")
        .await?;
    let installed = super::install(scene, WATCHED, &json!({ "method": "empty" })).await;
    sql(scene, "mysql", "SET GLOBAL general_log=0; SET GLOBAL log_output='FILE'").await?;
    installed?;
    let count = |like: &str| format!("SELECT COUNT(*) FROM general_log WHERE argument LIKE '{like}'");
    let made = sql(scene, "mysql", &count("CREATE USER%")).await?;
    let both = sql(scene, "mysql", &count("GRANT%IDENTIFIED%")).await?;
    let grants = sql(scene, "mysql", &count("GRANT%")).await?;
    ensure!(
        made != "0" && grants != "0" && both == "0",
        "{made} accounts made, {grants} grants, {both} both at once"
    );
    super::gone(scene, WATCHED).await
}

/// The dump breaks off while its tool says that all is well: the last line is missing, and that is seen.
pub(super) async fn cut_dump(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    let cut = "\"$real\" \"$@\" | head -c 100000\nexit 0";
    stand_in(scene, "mariadb-dump", "*--single-transaction*", cut).await?;
    let ended = rolls_back(scene, &before, &to_the_other_platform(scene), "broke off").await;
    stand_back(scene, "mariadb-dump").await?;
    ended
}
