//! Cases about room: every file system that a task writes to is full once, at each phase, and again in the rollback.

use anyhow::{Context as _, Result, ensure};
use kedge_testenv::Service;
use serde_json::{Value, json};

use super::faults::SmallDisk;
use super::{done_or_as_before, rolled_back, succeeds, to_the_other_platform, when};
use crate::scene::{LIMIT, SITE, Scene};

/// Where the new side's files will be.
const SITES: &str = "/srv/platforms/wordpress-6.8/sites";

/// The new side's file system is too small: found out before anything begins.
pub(super) async fn known_before(scene: &mut Scene) -> Result<()> {
    scene.shell(&format!("mkdir -p {SITES}")).await?;
    let before = scene.look().await?;
    for (options, words) in [("", "MiB free"), (",nr_inodes=$((inodes + 20))", "inodes free")] {
        let room = if words == "MiB free" { 300 } else { 400_000 };
        let disk = SmallDisk::under(scene, SITES, room, options).await?;
        let task = scene.run("migrate", &to_the_other_platform(scene)).await;
        disk.away(scene, false).await?;
        rolled_back(scene, &before, &task?, words).await?;
    }
    Ok(())
}

/// It is full when the files are copied, when the doors close and nothing at all can be written any more; and is read-only.
pub(super) async fn files_full(scene: &mut Scene) -> Result<()> {
    // Once without a fault: then the platform is ready, and nobody has to take that back while the disk's filler lies in it.
    let fresh = scene.look().await?;
    succeeds(scene, &fresh, &to_the_other_platform(scene)).await?;
    let before = scene.look().await?;
    for (step, but_kib, read_only) in [("preflight", 200, false), ("close", 0, false), ("close", 0, true)] {
        let disk = SmallDisk::under(scene, SITES, 400_000, "").await?;
        let id = scene.face.submit("migrate", &to_the_other_platform(scene)).await?;
        if step == "preflight" {
            // It has looked by then; what is copied does not fit any more.
            after(scene, &id, step).await?;
        } else {
            when(scene, &id, step).await?;
        }
        disk.fill(scene, but_kib).await?;
        if read_only {
            disk.remount(scene, "ro").await?;
            // Nothing can be removed there either: the rollback waits for whoever repairs it.
            compensating(scene, &id).await?;
            disk.remount(scene, "rw").await?;
        }
        let mut task = scene.face.settled(&id, LIMIT, |_| ()).await?;
        if read_only && task["state"] == "stuck" {
            let (status, answer) = scene.face.post(&format!("/v1/tasks/{id}/retry"), &json!({})).await?;
            ensure!(status == 202, "{status} {answer}");
            task = scene.face.settled(&id, LIMIT, |_| ()).await?;
        }
        disk.empty(scene).await?;
        let left = scene.shell(&format!("ls -A {SITES}")).await?;
        disk.away(scene, false).await?;
        ensure!(!left.contains("kedge-stage"), "{step}: a stage is left: {left}");
        rolled_back(scene, &before, &task, "").await.with_context(|| format!("full at {step}"))?;
        ensure!(read_only || task["error"].to_string().contains("o space left"), "{step}: {}", task["error"]);
    }
    Ok(())
}

/// The database server's disk is full in the import, and stays so while everything is taken back.
pub(super) async fn database_full(scene: &mut Scene) -> Result<()> {
    scene.host.stop_service(Service::Mariadb).await?;
    let disk = SmallDisk::under(scene, "/var/lib/mysql", 200_000, "").await?;
    scene.host.start_service(Service::Mariadb).await?;
    let before = scene.look().await?;
    let id = scene.face.submit("migrate", &to_the_other_platform(scene)).await?;
    when(scene, &id, "copy_ahead").await?;
    disk.fill(scene, 64).await?;
    let ended = scene.face.settled(&id, LIMIT, |_| ()).await;
    disk.empty(scene).await?;
    let task = match ended {
        Ok(task) => task,
        Err(_) => scene.face.settled(&id, LIMIT, |_| ()).await?,
    };
    let looked = match task["state"].as_str() {
        Some("succeeded") => super::returns(scene, &before, &task).await,
        _ => rolled_back(scene, &before, &task, "").await,
    };
    scene.host.stop_service(Service::Mariadb).await?;
    disk.away(scene, true).await?;
    scene.host.start_service(Service::Mariadb).await?;
    looked
}

/// The backup directory is full in the middle of the archive; nothing of it stays.
pub(super) async fn backups_full(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    let disk = support::disk::LocalDisk::under(&scene.kedge.dir().join("backups"), 64)?;
    let id = scene.face.submit("migrate", &to_the_other_platform(scene)).await?;
    after(scene, &id, "preflight").await?;
    disk.fill()?;
    let task = scene.face.settled(&id, LIMIT, |_| ()).await?;
    let names: Vec<_> = disk.names()?;
    ensure!(names.iter().all(|name| name == "filler"), "half an archive is left: {names:?}");
    rolled_back(scene, &before, &task, "o space left").await?;
    disk.empty()?;
    let task = super::done(scene, "backup", &json!({ "site": SITE })).await?;
    ensure!(task["result"]["backup_bytes"].as_u64() > Some(1000), "{task}");
    let (_, backups) = scene.face.get("/v1/backups").await?;
    ensure!(backups.to_string().contains(SITE), "{backups}");
    Ok(())
}

/// Waits until a step of the task is over.
async fn after(scene: &Scene, id: &str, step: &str) -> Result<()> {
    support::wait_until(step, super::STEP, || async {
        let task = scene.face.task(id).await.unwrap_or_default();
        let over = |one: &Value| {
            one["name"] == step && !matches!(one["state"].as_str(), Some("pending" | "running" | "waiting"))
        };
        task["steps"].as_array().is_some_and(|steps| steps.iter().any(over))
    })
    .await
}

/// Waits until an undo of the task has failed at least once.
async fn compensating(scene: &Scene, id: &str) -> Result<()> {
    support::wait_until("an undo that fails", super::STEP, || async {
        let task = scene.face.task(id).await.unwrap_or_default();
        let tried = |step: &Value| step["undo"]["error"].is_object();
        task["steps"].as_array().is_some_and(|steps| steps.iter().any(tried))
    })
    .await
}

/// A site on a read-only file system cannot be moved aside: found out before anything begins, and told.
pub(super) async fn old_side_read_only(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    let disk = SmallDisk::under(scene, "/srv/platforms/wordpress-6.1/sites", 100_000, "").await?;
    disk.remount(scene, "ro").await?;
    let task = scene.run("migrate", &to_the_other_platform(scene)).await;
    disk.remount(scene, "rw").await?;
    disk.away(scene, true).await?;
    rolled_back(scene, &before, &task?, "is read-only").await
}

/// The journal's own disk runs full in the middle of a task: the service says so, takes nothing on, and goes on by itself when there is
/// room again. The task ends done or as before.
pub(super) async fn journal_full(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    scene.kedge.stop().await?;
    let data = scene.kedge.dir().join("data");
    let kept = scene.kedge.dir().join("data.kept");
    std::fs::rename(&data, &kept)?;
    std::fs::create_dir(&data)?;
    let disk = support::disk::LocalDisk::under(&data, 512)?;
    copy(&kept, &data)?;
    scene.kedge.start().await?;
    let id = scene.face.submit("migrate", &to_the_other_platform(scene)).await?;
    when(scene, &id, "copy_database").await?;
    disk.fill()?;
    support::wait_until("readyz to say that there is no room", super::STEP, || async {
        scene.face.get("/readyz").await.is_ok_and(|(status, _)| status == 503)
    })
    .await?;
    let (status, answer) =
        scene.face.post("/v1/tasks", &json!({ "workflow": "backup", "params": { "site": SITE } })).await?;
    ensure!(status == 503 || status == 507, "a task on a full disk: {status} {answer}");
    disk.empty()?;
    support::wait_until("a service that is ready again", super::STEP, || async {
        scene.face.get("/readyz").await.is_ok_and(|(status, _)| status == 200)
    })
    .await?;
    let ended = done_or_as_before(scene, &before, &id).await;
    scene.kedge.stop().await?;
    std::fs::remove_dir_all(&kept)?;
    copy(&data, &kept)?;
    drop(disk);
    std::fs::remove_dir(&data)?;
    std::fs::rename(&kept, &data)?;
    scene.kedge.start().await?;
    ended
}

fn copy(from: &std::path::Path, to: &std::path::Path) -> Result<()> {
    let copied =
        std::process::Command::new("cp").args(["-aT", "--sparse=never"]).arg(from).arg(to).status()?;
    ensure!(copied.success(), "{} could not be copied: {copied}", from.display());
    Ok(())
}
