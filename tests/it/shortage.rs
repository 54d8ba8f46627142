//! The journal's disk runs full, breaks and comes back under a real service: it says so, takes nothing on, goes on by itself, and no task is
//! lost. The only host is one that nobody reaches, so that tasks stay open. Needs root and the binary, and no Docker.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use support::disk::LocalDisk;
use support::face::{Face, id_of};
use support::kedge::Kedge;
use support::wait_until;

/// Longest wait for a condition here.
const LIMIT: Duration = Duration::from_secs(120);
/// More than ballast and floor together: with it a fresh service takes tasks.
const MIB: u32 = 640;

fn wanted() -> Result<bool> {
    let root = Command::new("id").arg("-u").output()?.stdout == b"0\n";
    if std::env::var_os("KEDGE_BIN").is_none() || !root {
        println!("skipped: needs root, and the binary by KEDGE_BIN; scripts/test runs it");
        return Ok(false);
    }
    Ok(true)
}

fn kedge() -> Result<Kedge> {
    let receiver = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let kedge = Kedge::reaching(
        "transport = \"ssh\"\naddress = \"deploy@127.0.0.1:1\"",
        receiver.local_addr()?.port(),
    )?;
    std::fs::create_dir(kedge.dir().join("data"))?;
    Ok(kedge)
}

async fn submit(face: &Face, site: &str) -> Result<(u16, String)> {
    let params = json!({ "site": site, "platform": "wordpress-61", "database_server": "db1" });
    let (status, answer) =
        face.post("/v1/tasks", &json!({ "workflow": "install", "params": params })).await?;
    Ok((status, if status == 202 { id_of(&answer)? } else { answer.to_string() }))
}

async fn ready_is(face: &Face, status: u16) -> bool {
    face.get("/readyz").await.is_ok_and(|(is, _)| is == status)
}

async fn all_are_there(face: &Face, tasks: &BTreeSet<String>) -> Result<()> {
    for id in tasks {
        let task = face.task(id).await?;
        ensure!(task["state"].is_string(), "{task}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_left_by_itself() -> Result<()> {
    if !wanted()? {
        return Ok(());
    }
    let mut kedge = kedge()?;
    let disk = LocalDisk::under(&kedge.dir().join("data"), MIB)?;
    kedge.start().await?;
    let face = kedge.face()?;
    let mut tasks = BTreeSet::new();
    for n in 0..300 {
        let (status, id) = submit(&face, &format!("s{n}.example.test")).await?;
        ensure!(status == 202, "{status} {id}");
        tasks.insert(id);
    }

    // Little room: nothing new is taken, what is open goes on.
    disk.fill()?;
    let (status, why) = submit(&face, "refused.example.test").await?;
    ensure!(status == 503 && ready_is(&face, 503).await, "a task on a full disk: {status} {why}");
    // None at all, nor ballast: the journal fails, and the service waits for room in its own place.
    let waits = || async {
        face.get("/readyz")
            .await
            .is_ok_and(|(status, said)| status == 503 && said.to_string().contains("waits for its disk"))
    };
    for id in tasks.iter().cycle().take(10 * tasks.len()) {
        // What it has given back of its own is taken again, and everything that can be asked for is something to write.
        disk.fill()?;
        let asked = face.post(&format!("/v1/tasks/{id}/cancel"), &json!({})).await;
        if asked.is_err() || waits().await {
            break;
        }
    }
    wait_until("a service that waits for its disk", LIMIT, || async { disk.fill().is_ok() && waits().await })
        .await?;
    ensure!(face.get("/livez").await?.0 == 200 && kedge.runs()?, "it does not live");
    disk.empty()?;
    wait_until("a service that goes on by itself", LIMIT, || ready_is(&face, 200)).await?;
    all_are_there(&face, &tasks).await?;
    let (status, id) = submit(&face, "again.example.test").await?;
    ensure!(status == 202, "{status} {id}");
    tasks.insert(id);

    // It dies while there is no room: its next life waits, and goes on.
    kedge.kill()?;
    disk.fill()?;
    kedge.spawn()?;
    let full = || async { face.get("/readyz").await.is_ok_and(|(status, _)| status == 503) };
    wait_until("an answer", LIMIT, full).await?;
    disk.fill()?;
    disk.empty()?;
    wait_until("a service that goes on", LIMIT, || ready_is(&face, 200)).await?;
    all_are_there(&face, &tasks).await?;
    sound(kedge).await?;
    println!("shortage: a full disk was told and left by itself, {} tasks kept", tasks.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_becomes_read_only_is_waited_for() -> Result<()> {
    if !wanted()? {
        return Ok(());
    }
    let mut kedge = kedge()?;
    let (image, data) = (kedge.dir().join("image"), kedge.dir().join("data"));
    let Some(broken) = Breakable::make(&image, &data)? else {
        println!("SKIPPED: no loop device or no ext4 with errors to be had here");
        return Ok(());
    };
    kedge.start().await?;
    let face = kedge.face()?;
    let (status, id) = submit(&face, "a.example.test").await?;
    ensure!(status == 202, "{status} {id}");
    // Its first step has given up and its host is not there for more: nothing is written any more, and the disk is tried all the same.
    wait_until("a task with nothing to write", LIMIT, || async {
        face.task(&id).await.is_ok_and(|task| task["state"] == "compensating")
    })
    .await?;
    let tasks = BTreeSet::from([id]);
    broken.fail()?;
    let waits = || async {
        face.get("/readyz")
            .await
            .is_ok_and(|(status, said)| status == 503 && said.to_string().contains("waits for its disk"))
    };
    let waited = wait_until("a service that waits for its disk", LIMIT, waits).await;
    ensure!(waited.is_ok(), "the broken disk was not seen; the log ends with:\n{}", kedge.log_end(20));
    broken.repair()?;
    wait_until("a service that goes on by itself", LIMIT, || ready_is(&face, 200)).await?;
    all_are_there(&face, &tasks).await?;
    sound(kedge).await?;
    println!("shortage: a disk that became read-only was waited for, {} task kept", tasks.len());
    drop(broken);
    Ok(())
}

async fn sound(mut kedge: Kedge) -> Result<()> {
    kedge.stop().await?;
    let (sound, fsck) = kedge.command(&["journal", "fsck"])?;
    ensure!(sound, "journal fsck: {fsck}");
    Ok(())
}

/// An ext4 in a file that becomes read-only at its first error.
struct Breakable {
    device: String,
    dir: std::path::PathBuf,
}

impl Breakable {
    fn make(image: &Path, dir: &Path) -> Result<Option<Self>> {
        let (image, text) = (image.to_str().context("no text")?, dir.to_str().context("no text")?);
        let script = format!(
            "set -e; truncate -s {MIB}M {image}; mkfs.ext4 -q -F -E lazy_itable_init=0 {image}; d=$(losetup -f --show {image}); \
             mount -o errors=remount-ro $d {text} || {{ losetup -d $d; exit 1; }}; test -e /sys/fs/ext4/${{d#/dev/}}/trigger_fs_error; chmod 700 {text}; echo $d"
        );
        let made = Command::new("sh").args(["-c", &script]).output()?;
        let device = String::from_utf8_lossy(&made.stdout).trim().to_owned();
        Ok(made.status.success().then(|| Self { device, dir: dir.to_owned() }))
    }

    fn sh(&self, script: &str) -> Result<()> {
        let (name, dir) = (self.device.trim_start_matches("/dev/"), self.dir.display().to_string());
        let output = Command::new("sh").args(["-c", script, "sh", &self.device, name, &dir]).output()?;
        ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn fail(&self) -> Result<()> {
        self.sh("echo a fault on purpose >/sys/fs/ext4/$2/trigger_fs_error")
    }

    /// What an administrator does: unmount, check, mount.
    fn repair(&self) -> Result<()> {
        self.sh("umount -l $3; e2fsck -fy $1 >/dev/null; [ $? -le 2 ] || exit 1; mount -o errors=remount-ro $1 $3")
    }
}

impl Drop for Breakable {
    fn drop(&mut self) {
        if let Err(error) = self.sh("umount -l $3; losetup -d $1") {
            eprintln!("{error:#}");
        }
    }
}
