//! Cases about files and disks.

use anyhow::{Result, ensure};

use super::{rolls_back, succeeds, to_the_other_platform};
use crate::scene::{SITE, Scene, as_before, take_back};

/// Where the old side's uploads are, seen from inside the host.
const UPLOADS: &str = "/srv/platforms/wordpress-6.1/sites/shop.example.test/wp-content/uploads";

/// Every kind of file that a tree can have arrives as it was; modes and owners are those of the application's policy.
pub(super) async fn odd_files(scene: &mut Scene) -> Result<()> {
    let make = format!(
        r#"mkdir -p {UPLOADS}/case && cd {UPLOADS}/case &&
        printf x > "$(printf 'new\nline')" && printf x > "$(printf 'not\377utf8')" && printf x > ./-rf && printf x > ' lead' && printf x > 'trail ' &&
        printf x > "quote'\"\\" && printf x > "$(printf '%0255d' 0)" && mkdir -p d/e/e/p && printf deep > d/e/e/p/f && mkdir empty &&
        ln -s / root && ln -s ../../../../.. up && ln -s nowhere dangling && ln -s -- -rf rel && printf h > hard1 && ln hard1 hard2 &&
        truncate -s 5M sparse && printf x > secret && chmod 600 secret && chmod 2775 d && touch -d 2001-02-03T04:05:06 secret && chown www-data: secret &&
        (setfattr -n user.kedge -v kept secret 2>/dev/null || true)"#
    );
    scene.shell(&make).await?;
    let before = scene.look().await?;
    let list = "find case -printf '%P %y %l %s %T@ %n\\n' | sort | sha256sum; find case -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum; getfattr -d case/secret 2>/dev/null; true";
    let old = scene.shell(&format!("cd {UPLOADS} && {list}")).await?;
    let task = scene.run("migrate", &to_the_other_platform(scene)).await?;
    ensure!(task["state"] == "succeeded", "{task}");
    let new = scene.shell(&format!("cd {} && {list}", UPLOADS.replace("6.1", "6.8"))).await?;
    ensure!(old == new, "the odd files differ:\n{old}\n{new}");
    super::returns(scene, &before, &task).await?;
    scene.shell(&format!("rm -rf {UPLOADS}/case")).await?;
    Ok(())
}

/// Files that change, come and go while the tree is read are no failure: what is written before the fence arrives.
pub(super) async fn busy_files(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    let busy = format!(
        "mkdir -p {UPLOADS}/busy && cd {UPLOADS}/busy && (i=0; while :; do i=$((i+1)); echo $i >> grows; date > f$((i%7)); rm -f f$(((i+3)%7)); sleep 0.02; done) >/dev/null 2>&1 & echo $!"
    );
    let writer = scene.shell(&busy).await?;
    let task = scene.run("migrate", &to_the_other_platform(scene)).await?;
    // Its directory goes to the trash and comes back: the writer goes along.
    if task["state"] == "succeeded" {
        take_back(scene, task["id"].as_str().unwrap_or_default()).await?;
    }
    let calm = format!(
        "kill {0}; while kill -0 {0} 2>/dev/null; do sleep 0.05; done; rm -rf {UPLOADS}/busy",
        writer.trim()
    );
    scene.shell(&calm).await?;
    ensure!(task["state"] == "succeeded", "{task}");
    let after = scene.look().await?;
    as_before(&before.without_trash(&before), &after.without_trash(&before), "after the undo")
}

/// No place to write backups: refused before the site is touched.
pub(super) async fn no_backup_dir(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    let dir = scene.kedge.dir().join("backups");
    let away = scene.kedge.dir().join("backups.away");
    std::fs::rename(&dir, &away)?;
    std::fs::write(&dir, "not a directory")?;
    let rolled_back = rolls_back(scene, &before, &to_the_other_platform(scene), "backup").await;
    std::fs::remove_file(&dir)?;
    std::fs::rename(&away, &dir)?;
    rolled_back?;
    succeeds(scene, &before, &to_the_other_platform(scene)).await.map(drop)
}

/// What an older crash left lying about does not stop the next task.
pub(super) async fn leftovers(scene: &mut Scene) -> Result<()> {
    let sites = "/srv/platforms/wordpress-6.8/sites";
    let make = format!(
        "mkdir -p {sites}/.kedge-stage-dead/wp-content {sites}/{SITE}.restore && touch {sites}/{SITE}.restore/database.sql"
    );
    scene.shell(&make).await?;
    let before = scene.look().await?;
    succeeds(scene, &before, &to_the_other_platform(scene)).await?;
    scene.shell(&format!("rm -r {sites}/.kedge-stage-dead {sites}/{SITE}.restore")).await?;
    Ok(())
}
