//! Cases about databases.

use anyhow::{Result, ensure};
use kedge_testenv::Service;

use super::{done_or_as_before, rolls_back, succeeds, to_the_other_platform, when};
use crate::scene::Scene;

/// The site's database, read from its settings.
async fn database(scene: &Scene) -> Result<String> {
    super::database_of(scene, 0, crate::scene::SITE).await
}

/// Everything that a schema can have, with what dumps are known to spoil.
const ODD_SCHEMA: &str = r#"
CREATE TABLE `kedge select` (`order` INT PRIMARY KEY, `a``b` VARCHAR(20), body LONGTEXT CHARACTER SET utf8mb4, bin LONGBLOB, d DATE, dt DATETIME(6),
  g INT AS (`order` * 2) STORED, v INT AS (`order` + 1) VIRTUAL, bits BIT(9), f DOUBLE, n DECIMAL(30,10), j JSON);
SET SESSION sql_mode='';
INSERT INTO `kedge select` (`order`,`a``b`,body,bin,d,dt,bits,f,n,j) VALUES
 (1,'x','/*!50013 DEFINER=`a`@`b` SQL SECURITY DEFINER */ -- Dump completed\nINSERT INTO `x` VALUES (1);\n', UNHEX('00FF27225C0A0D1A'),'0000-00-00','0000-00-00 00:00:00',b'101010101',1e308,12345678901234567890.0123456789,'{"a":[1,2]}'),
 (2,NULL,'\xF0\x9F\x98\x80 \\ '' " %', NULL, NULL, '2024-02-29 23:59:59.999999', NULL, -0.1, NULL, NULL), (0,'zero','',REPEAT(UNHEX('00'),300000),NULL,NULL,0,0,0,'null');
CREATE TABLE kedge_a (id INT PRIMARY KEY, b INT); CREATE TABLE kedge_b (id INT PRIMARY KEY, a INT, CONSTRAINT kb FOREIGN KEY (a) REFERENCES kedge_a (id));
ALTER TABLE kedge_a ADD CONSTRAINT ka FOREIGN KEY (b) REFERENCES kedge_b (id);
INSERT INTO kedge_a VALUES (1,NULL); INSERT INTO kedge_b VALUES (1,1); UPDATE kedge_a SET b=1;
CREATE TABLE kedge_old (id INT AUTO_INCREMENT PRIMARY KEY, t TEXT) ENGINE=MyISAM DEFAULT CHARSET=latin1; INSERT INTO kedge_old (t) VALUES (CONVERT(UNHEX('E4F6FC') USING latin1));
CREATE USER `gone`@`nowhere`; GRANT ALL ON *.* TO `gone`@`nowhere`;
CREATE DEFINER=`gone`@`nowhere` VIEW kedge_view AS SELECT `order` FROM `kedge select`; CREATE VIEW kedge_view2 AS SELECT * FROM kedge_view;
DELIMITER //
CREATE DEFINER=`gone`@`nowhere` TRIGGER kedge_t BEFORE INSERT ON kedge_old FOR EACH ROW BEGIN SET NEW.t = CONCAT(NEW.t, ';'); END //
CREATE DEFINER=`gone`@`nowhere` PROCEDURE kedge_p() BEGIN SELECT 1; END //
CREATE FUNCTION kedge_f(x INT) RETURNS INT DETERMINISTIC RETURN x + 1 //
CREATE EVENT kedge_e ON SCHEDULE EVERY 1 YEAR DO INSERT INTO kedge_old (t) VALUES ('event') //
DELIMITER ;
"#;

const DROP_ODD: &str = "SET FOREIGN_KEY_CHECKS=0; DROP VIEW IF EXISTS kedge_view2, kedge_view; DROP TABLE IF EXISTS `kedge select`, kedge_a, kedge_b, kedge_old; \
DROP PROCEDURE IF EXISTS kedge_p; DROP FUNCTION IF EXISTS kedge_f; DROP EVENT IF EXISTS kedge_e;";

/// What is told of the odd schema, without its name and without definers, which become the new account.
fn odd_dump(name: &str) -> String {
    format!(
        "mariadb-dump --skip-dump-date --skip-comments --hex-blob --order-by-primary --skip-extended-insert --routines --triggers --events {name} \
         'kedge select' kedge_a kedge_b kedge_old kedge_view kedge_view2 | sed -E 's/DEFINER=`[^`]*`@`[^`]*`//g; s/`{name}`\\.//g'; \
         mariadb -N {name} -e \"SELECT ROUTINE_NAME, ROUTINE_DEFINITION FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA='{name}' ORDER BY 1; \
         SELECT EVENT_NAME, EVENT_DEFINITION, STATUS FROM information_schema.EVENTS WHERE EVENT_SCHEMA='{name}'; CHECKSUM TABLE \\`kedge select\\`, kedge_a, kedge_b, kedge_old\" | sed 's/{name}//'"
    )
}

/// Views, triggers, routines, events, definers that are gone, generated columns, cycles, zero dates, binary: all arrives.
pub(super) async fn odd_schema(scene: &mut Scene) -> Result<()> {
    let name = database(scene).await?;
    scene.shell(&format!("mariadb --default-character-set=utf8mb4 {name} <<'X'\n{ODD_SCHEMA}\nX")).await?;
    // Without its definer a view cannot even be dumped by the plain tool that compares here.
    let old = scene.shell(&odd_dump(&name)).await?;
    scene.shell("mariadb -e \"DROP USER gone@nowhere\"").await?;
    let before = scene.look().await?;
    let task = scene.run("migrate", &to_the_other_platform(scene)).await?;
    ensure!(task["state"] == "succeeded", "{task}");
    let settings = "/srv/platforms/wordpress-6.8/sites/shop.example.test/wp-config.php";
    let new_name = scene.shell(&format!("sed -nE \"s/.*DB_NAME', *'([^']+)'.*/\\1/p\" {settings}")).await?;
    let new = scene.shell(&odd_dump(new_name.trim())).await?;
    let differ: Vec<(&str, &str)> = old.lines().zip(new.lines()).filter(|(a, b)| a != b).take(5).collect();
    ensure!(old == new, "the odd schema differs: {differ:#.300?}");
    super::returns(scene, &before, &task).await?;
    scene.shell(&format!("mariadb {name} -e \"{}\"", DROP_ODD.replace('`', "\\`"))).await?;
    Ok(())
}

/// Writes to two tables at once as the site's code does, until it is not let in any more, and notes what was acknowledged.
const WRITER: &str = r#"<?php
mysqli_report(MYSQLI_REPORT_OFF);
$of = function ($what) use ($argv) { preg_match("/'DB_$what', *'([^']+)'/", file_get_contents($argv[1]), $found); return $found[1]; };
$db = new mysqli('localhost', $of('USER'), $of('PASSWORD'), $of('NAME'));
for ($n = 1; ; $n++) {
    $done = $db->query('START TRANSACTION') && $db->query("INSERT INTO kedge_plain VALUES ($n)")
        && $db->query("INSERT INTO kedge_text VALUES ($n, '$argv[1]')") && $db->query('COMMIT');
    if (!$done) { exit; }
    file_put_contents('/tmp/kedge-acknowledged', "$n\n");
    usleep(3000);
}
"#;

/// A site writes all through the copy that is made while it is open: what was acknowledged is there, in both tables or in neither.
pub(super) async fn written_all_along(scene: &mut Scene) -> Result<()> {
    let name = database(scene).await?;
    let before = scene.look().await?;
    let settings =
        |version: &str| format!("/srv/platforms/wordpress-{version}/sites/shop.example.test/wp-config.php");
    let tables =
        "CREATE TABLE kedge_plain (n INT PRIMARY KEY); CREATE TABLE kedge_text (n INT PRIMARY KEY, t TEXT);";
    scene.shell(&format!("mariadb {name} -e '{tables}'")).await?;
    scene.shell(&format!("cat >/tmp/kedge-writer.php <<'X'\n{WRITER}\nX")).await?;
    scene.shell(&format!("php /tmp/kedge-writer.php {} >/dev/null 2>&1 &", settings("6.1"))).await?;
    let id = scene.face.submit("migrate", &to_the_other_platform(scene)).await?;
    let task = scene.face.settled(&id, crate::scene::LIMIT, |_| ()).await?;
    ensure!(task["state"] == "succeeded", "{task}");
    let new_name = format!("$(sed -nE \"s/.*DB_NAME', *'([^']+)'.*/\\1/p\" {})", settings("6.8"));
    let query = "SELECT COUNT(*), MAX(n) FROM kedge_plain UNION ALL SELECT COUNT(*), MAX(n) FROM kedge_text";
    let rows = scene.shell(&format!("mariadb -N {new_name} -e '{query}'")).await?;
    let acknowledged: u64 = scene.shell("cat /tmp/kedge-acknowledged").await?.trim().parse()?;
    let numbers: Vec<u64> = rows.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    ensure!(acknowledged > 100, "only {acknowledged} writes");
    // The last one may have been stored without a word of it.
    let whole =
        numbers.iter().all(|n| *n == numbers[0]) && (acknowledged..=acknowledged + 1).contains(&numbers[0]);
    ensure!(numbers.len() == 4 && whole, "{acknowledged} writes were acknowledged, the copy has {rows}");
    super::take_back(scene, &id).await?;
    let clean = "DROP TABLE kedge_plain; DROP TABLE kedge_text;";
    scene
        .shell(&format!("mariadb {name} -e '{clean}'; rm /tmp/kedge-writer.php /tmp/kedge-acknowledged"))
        .await?;
    let after = scene.look().await?;
    super::as_before(&before.without_trash(&before), &after.without_trash(&before), "after the undo")
}

/// Somebody reads and writes under locks while the migrate wants to read: it waits or fails cleanly, and does not hang.
pub(super) async fn table_lock(scene: &mut Scene) -> Result<()> {
    let name = database(scene).await?;
    let before = scene.look().await?;
    let id = scene.face.submit("migrate", &to_the_other_platform(scene)).await?;
    when(scene, &id, "write_backup").await?;
    scene.shell(&format!("(mariadb {name} -e 'LOCK TABLES wp_posts WRITE; SELECT SLEEP(6); UNLOCK TABLES') >/dev/null 2>&1 &")).await?;
    done_or_as_before(scene, &before, &id).await
}

/// Databases and accounts that have just the names that would come next are not ours: they stay, untouched.
pub(super) async fn foreign_names(scene: &mut Scene) -> Result<()> {
    let old = database(scene).await?;
    let base = old.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
    let mut script = String::new();
    for n in 0..4 {
        script.push_str(&format!("CREATE DATABASE IF NOT EXISTS {base}{n}; CREATE USER IF NOT EXISTS '{base}{n}'@'localhost' IDENTIFIED BY 'theirs';"));
    }
    scene.shell(&format!("mariadb -e \"{script}\"")).await?;
    let before = scene.look().await?;
    succeeds(scene, &before, &to_the_other_platform(scene)).await?;
    let mut gone = String::new();
    for n in (0..4).filter(|n| format!("{base}{n}") != old) {
        gone.push_str(&format!("DROP DATABASE {base}{n}; DROP USER '{base}{n}'@'localhost';"));
    }
    scene.shell(&format!("mariadb -e \"{gone}\"")).await?;
    Ok(())
}

/// The server is killed in the middle of the copy and comes back.
pub(super) async fn killed_in_the_copy(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    let id = scene.face.submit("migrate", &to_the_other_platform(scene)).await?;
    when(scene, &id, "copy_ahead").await?;
    scene.host.kill_service(Service::Mariadb).await?;
    scene.host.start_service(Service::Mariadb).await?;
    done_or_as_before(scene, &before, &id).await
}

/// The server is down when the rollback needs it: the rollback waits for it instead of giving up.
pub(super) async fn down_in_the_rollback(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    let id = scene.face.submit("migrate", &to_the_other_platform(scene)).await?;
    when(scene, &id, "copy_database").await?;
    scene.host.kill_service(Service::Mariadb).await?;
    let (status, answer) = scene.face.post(&format!("/v1/tasks/{id}/cancel"), &serde_json::json!({})).await?;
    ensure!(status == 202, "{status} {answer}");
    support::wait_until(
        "an undo that fails for want of the server",
        std::time::Duration::from_secs(60),
        || async {
            let task = scene.face.task(&id).await.unwrap_or_default();
            let tried = |step: &serde_json::Value| {
                step["undo"]["attempts"].as_u64() > Some(0) && step["undo"]["error"].is_object()
            };
            task["steps"].as_array().is_some_and(|steps| steps.iter().any(tried))
        },
    )
    .await?;
    scene.host.start_service(Service::Mariadb).await?;
    let task = scene.face.settled(&id, crate::scene::LIMIT, |_| ()).await?;
    ensure!(task["state"] == "canceled" && task["outcome"]["verified"] != serde_json::json!(false), "{task}");
    crate::scene::as_before(&before, &scene.look().await?, "after the cancel")
}

/// A server that takes no writes is found out before anything begins.
pub(super) async fn read_only(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    scene.shell("mariadb -e 'SET GLOBAL read_only=1'").await?;
    let ended = rolls_back(scene, &before, &to_the_other_platform(scene), "read_only").await;
    scene.shell("mariadb -e 'SET GLOBAL read_only=0'").await?;
    ended
}

/// A packet limit below a row's size on the way in: refused before, or clean.
pub(super) async fn small_packets(scene: &mut Scene) -> Result<()> {
    let name = database(scene).await?;
    scene.shell(&format!("mariadb {name} -e \"CREATE TABLE kedge_big (id INT PRIMARY KEY, b LONGBLOB); INSERT INTO kedge_big VALUES (1, REPEAT('x', 3000000))\"")).await?;
    scene.shell("mariadb -e 'SET GLOBAL max_allowed_packet=1048576'").await?;
    let before = scene.look().await?;
    let task = scene.run("migrate", &to_the_other_platform(scene)).await?;
    scene.shell("mariadb -e 'SET GLOBAL max_allowed_packet=16777216'").await?;
    match task["state"].as_str() {
        Some("succeeded") => super::returns(scene, &before, &task).await?,
        _ => super::rolled_back(scene, &before, &task, "max_allowed_packet").await?,
    }
    scene.shell(&format!("mariadb {name} -e 'DROP TABLE kedge_big'")).await?;
    Ok(())
}
