//! Cases about archives that are restored: damaged, foreign, hostile, gone.

use anyhow::{Context as _, Result, ensure};
use kedge_testenv::Exec;
use serde_json::{Value, json};
use support::outside::Outside;
use support::tar::{Member, archive};

use super::{dir_of, done, done_or_as_before, refused, returns, rolled_back, when};
use crate::scene::{LIMIT, NEIGHBOUR, SITE, Scene, as_before};

/// Puts an archive into the backup directory; its name.
fn put(scene: &Scene, suffix: &str, bytes: &[u8]) -> Result<String> {
    let name = format!("{SITE}-20200101.000000_{suffix}");
    std::fs::write(scene.kedge.dir().join("backups").join(&name), bytes)?;
    Ok(name)
}

async fn restore(scene: &Scene, name: &str) -> Result<Value> {
    scene.run("restore", &json!({ "site": SITE, "backup": name })).await
}

/// What Aegir would have packed of the site: its directory and a dump, which `edit` (of sed) may change on its way.
async fn as_aegir(scene: &Scene, edit: &str) -> Result<Vec<u8>> {
    let database = super::database_of(scene, 0, SITE).await?;
    let script = format!(
        "set -e; rm -rf /root/aegir; cp -a {} /root/aegir; cd /root/aegir; umask 077; mariadb-dump --single-transaction --routines {database} | sed -e '{edit}' >database.sql; \
         tar cpzf - .; rm -rf /root/aegir",
        dir_of(0, SITE)
    );
    Ok(scene.host.run_ok(Exec::new(["sh", "-c", &script])).await?.stdout)
}

/// A restore that has to be refused before the live side is touched.
async fn is_refused(scene: &Scene, before: &Outside, name: &str, reason: &str) -> Result<()> {
    let task = restore(scene, name).await?;
    let closed = task["downtime_ms"].as_u64().unwrap_or_default();
    ensure!(closed == 0, "{name}: the site was closed for {closed} ms");
    rolled_back(scene, before, &task, reason).await.with_context(|| name.to_owned())
}

/// Cut, changed, not an archive, without a dump: each is found out. An old one of Aegir restores.
pub(super) async fn damaged(scene: &mut Scene) -> Result<()> {
    let made = done(scene, "backup", &json!({ "site": SITE })).await?;
    let good = std::fs::read(
        scene.kedge.dir().join("backups").join(made["result"]["backup"].as_str().unwrap_or_default()),
    )?;
    let aegir = as_aegir(scene, "").await?;
    let before = scene.look().await?;
    let mut changed = good.clone();
    let middle = changed.len() / 2;
    changed[middle..middle + 64].iter_mut().for_each(|byte| *byte ^= 0x55);
    let dump = b"-- nothing\n".as_slice();
    let cases: [(&str, Vec<u8>, &str); 6] = [
        ("cut.tar.zst", good[..good.len() - 100].to_vec(), "damaged"),
        ("changed.tar.zst", changed, "damaged"),
        ("text.tar.gz", b"this is no archive".to_vec(), "damaged"),
        ("cut.tar.gz", aegir[..aegir.len() / 2].to_vec(), "damaged"),
        ("nodump.tar", archive(&[Member::file("./wp-content/index.php", b"<?php")]), "no whole database.sql"),
        (
            "halfdump.tar",
            archive(&[Member::file("./database.sql", dump), Member::file("./wp-content/x", b"")]),
            "no whole database.sql",
        ),
    ];
    for (suffix, bytes, reason) in cases {
        let name = put(scene, suffix, &bytes)?;
        is_refused(scene, &before, &name, reason).await?;
    }
    is_refused(scene, &before, "gone-20200101.000000.tar.gz", "no such archive").await?;
    let name = put(scene, "old.tar.gz", &aegir)?;
    let task = restore(scene, &name).await?;
    ensure!(task["state"] == "succeeded", "an archive of Aegir: {task}");
    returns(scene, &before, &task).await
}

/// Members that would be written elsewhere: nothing of them is, wherever they come in the archive.
pub(super) async fn hostile(scene: &mut Scene) -> Result<()> {
    scene.shell("mkdir -p /srv/canary && echo canary >/srv/canary/file && chmod 777 /srv/canary").await?;
    let canary = "find /srv/canary -printf '%p %m %u %s %C@ %l\\n' | sort; ls -d /srv/evil /evil /etc/cron.d/evil /srv/platforms/evil 2>/dev/null; true";
    let watched = scene.shell(canary).await?;
    let before = scene.look().await?;
    let dump = b"CREATE TABLE wp_case (a INT);\n-- Dump completed on 2026-01-01\n".as_slice();
    let start = [Member::file("./database.sql", dump), Member::other("./wp-content/", b'5', "")];
    let cases: [(&str, Vec<Member<'_>>); 8] = [
        ("up.tar", vec![Member::file("./../../../evil", b"x")]),
        ("root.tar", vec![Member::file("/srv/evil", b"x")]),
        ("inner.tar", vec![Member::file("./wp-content/../../../../evil", b"x")]),
        (
            "through.tar",
            vec![
                Member::other("./wp-content/out", b'2', "/srv/canary"),
                Member::file("./wp-content/out/evil", b"x"),
            ],
        ),
        (
            "twice.tar",
            vec![
                Member::other("./wp-content/f", b'2', "/srv/canary/file"),
                Member::file("./wp-content/f", b"evil"),
            ],
        ),
        ("hard.tar", vec![Member::other("./wp-content/passwd", b'1', "/srv/canary/file")]),
        ("device.tar", vec![Member::other("./wp-content/null", b'3', "")]),
        (
            "self.tar",
            vec![Member::other("./wp-content", b'2', "/srv/canary"), Member::file("./wp-content/evil", b"x")],
        ),
    ];
    for (suffix, members) in cases {
        let name = put(scene, suffix, &archive(&[&start[..], &members[..]].concat()))?;
        let task = restore(scene, &name).await?;
        ensure!(task["state"] == "rolled_back", "{name}: {task}");
        rolled_back(scene, &before, &task, "").await.with_context(|| name.clone())?;
        let seen = scene.shell(canary).await?;
        ensure!(seen == watched, "{name} has reached out of its directory:\n{watched}\n{seen}");
    }
    scene.shell("rm -r /srv/canary").await.map(drop)
}

/// The first line with which new clients of MariaDB guard their dumps is no statement for others.
pub(super) async fn sandbox_line(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    let bytes = as_aegir(scene, "1i /*!999999\\\\- enable the sandbox mode */").await?;
    let name = put(scene, "sandbox.tar.gz", &bytes)?;
    let task = restore(scene, &name).await?;
    ensure!(task["state"] == "succeeded", "{task}");
    returns(scene, &before, &task).await
}

/// A collation of MySQL 8 that this server does not have: the restore says so, and the site stays up.
pub(super) async fn foreign_collation(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    let bytes = as_aegir(
        scene,
        "s/utf8mb4_unicode_520_ci/utf8mb4_0900_ai_ci/g; s/utf8mb4_unicode_ci/utf8mb4_0900_ai_ci/g",
    )
    .await?;
    let name = put(scene, "collation.tar.gz", &bytes)?;
    is_refused(scene, &before, &name, "utf8mb4_0900_ai_ci").await
}

/// A statement in the middle of a dump fails: it is not skipped.
pub(super) async fn error_in_the_middle(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    let bytes =
        as_aegir(scene, "/^-- Dumping data for table .wp_posts/a INSERT INTO nowhere VALUES (1);").await?;
    let name = put(scene, "error.tar.gz", &bytes)?;
    is_refused(scene, &before, &name, "nowhere").await
}

/// The platform is not there any more: refused, with those that are.
pub(super) async fn platform_gone(scene: &mut Scene) -> Result<()> {
    let made = done(scene, "backup", &json!({ "site": SITE })).await?;
    let config = std::fs::read_to_string(scene.kedge.config())?;
    let before = scene.look().await?;
    let gone = format!("[platforms.{}]", scene.platforms[1]);
    ensure!(config.contains(&gone), "the configuration has no {gone}");
    scene.kedge.stop().await?;
    std::fs::write(scene.kedge.config(), config.replace(&gone, "[platforms.another]"))?;
    scene.kedge.start().await?;
    let params =
        json!({ "site": SITE, "backup": made["result"]["backup"], "target_platform": scene.platforms[1] });
    let answered = refused(scene, "restore", &params, 422, scene.platforms[0]).await;
    scene.kedge.stop().await?;
    std::fs::write(scene.kedge.config(), config)?;
    scene.kedge.start().await?;
    answered?;
    as_before(&before, &scene.look().await?, "after a refused restore")
}

/// A backup of a closed site, restored later: the site comes up, since what closes it is not in its database.
pub(super) async fn backup_of_a_closed_site(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    let closed = done(scene, "disable", &json!({ "site": SITE })).await?;
    super::answers(scene, SITE, 503).await?;
    let made = done(scene, "backup", &json!({ "site": SITE })).await?;
    done(scene, "enable", &json!({ "site": SITE })).await?;
    ensure!(closed["result"]["backup"] != made["result"]["backup"], "two backups have one name");
    let task = done(scene, "restore", &json!({ "site": SITE, "backup": made["result"]["backup"] })).await?;
    super::answers(scene, SITE, 200).await?;
    returns(scene, &before, &task).await
}

/// A purge of old backups comes while one of them is read: that one is there until it has been read.
pub(super) async fn purged_while_read(scene: &mut Scene) -> Result<()> {
    let old = done(scene, "backup", &json!({ "site": NEIGHBOUR })).await?;
    done(scene, "backup", &json!({ "site": NEIGHBOUR })).await?;
    let before = scene.look().await?;
    let id =
        scene.face.submit("restore", &json!({ "site": SITE, "backup": old["result"]["backup"] })).await?;
    when(scene, &id, "import_backup").await?;
    let purge = scene.face.submit("purge", &json!({ "site": NEIGHBOUR, "older_than": "0m" })).await?;
    let waiting = scene.face.task(&purge).await?;
    ensure!(waiting["blocked_on"]["holder"] == json!(id), "it does not wait for the restore: {waiting}");
    let task = scene.face.settled(&id, LIMIT, |_| ()).await?;
    ensure!(task["state"] == "succeeded", "{task}");
    let purged = scene.face.settled(&purge, LIMIT, |_| ()).await?;
    ensure!(purged["state"] == "succeeded", "{purged}");
    done_or_as_before(scene, &before, &id).await
}
