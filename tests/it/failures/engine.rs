//! Cases about Kedge's own death, and about commands whose end nobody hears of.

use anyhow::{Context as _, Result, ensure};
use rand::Rng as _;
use serde_json::{Value, json};
use support::kedge::Transport;

use super::faults::{calls, reached, stand_back, stand_in};
use super::{done, done_or_as_before, rolled_back, to_the_other_platform, when};
use crate::scene::{LIMIT, SITE, Scene, as_before, take_back};

/// A site of its own for the drill of a delete.
const DRILLED: &str = "drilled.example.test";

/// The process is killed at points of the matrix of a workflow: `kedge drill`, which compares by itself; a sample of one workflow each time.
pub(super) async fn killed_anywhere(scene: &mut Scene) -> Result<()> {
    let workflow = ["migrate", "install", "delete", "restore"][rand::rng().random_range(0..4)];
    let mut params = vec![format!("site={SITE}")];
    match workflow {
        "migrate" => params.push(format!("target_platform={}", scene.platforms[1])),
        "install" => {
            params = vec!["site=fresh2.example.test".to_owned(), format!("platform={}", scene.platforms[0])];
            params.push("database_server=db1".to_owned());
        }
        "restore" => {
            let made = done(scene, "backup", &json!({ "site": SITE })).await?;
            params.push(format!("backup={}", made["result"]["backup"].as_str().unwrap_or_default()));
        }
        _ => {
            super::install(scene, DRILLED, &json!({})).await?;
            done(scene, "disable", &json!({ "site": DRILLED })).await?;
            params = vec![format!("site={DRILLED}")];
        }
    }
    let before = scene.look().await?;
    scene.kedge.stop().await?;
    let report = scene.kedge.dir().join("report");
    let report = report.to_str().context("the report's directory is no text")?;
    let mut args = vec!["drill", workflow, "--points", "sample:4", "--report", report];
    params.iter().for_each(|param| args.extend(["--param", param.as_str()]));
    let drilled = scene.kedge.command(&args);
    scene.kedge.start().await?;
    let (held, said) = drilled?;
    ensure!(held, "the drill of {workflow} found something:\n{said}");
    println!(
        "    a drill of {workflow}: {}",
        said.lines().rev().find(|line| line.contains("held")).unwrap_or_default()
    );
    as_before(&before, &scene.look().await?, "after the drill")?;
    if workflow == "delete" {
        super::gone(scene, DRILLED).await?;
    }
    Ok(())
}

/// The host goes down between the two renames with which a new directory takes the place of the old one.
pub(super) async fn between_two_renames(scene: &mut Scene) -> Result<()> {
    let made = done(scene, "backup", &json!({ "site": SITE })).await?;
    let before = scene.look().await?;
    let hangs = "[ -e /root/faults/renaming ] || { : >/root/faults/renaming; sync; sleep 1000; }";
    stand_in(scene, "perl", "*renameat2*.kedge-stage-*", hangs).await?;
    let params = json!({ "site": SITE, "backup": made["result"]["backup"] });
    let id = scene.face.submit("restore", &params).await?;
    reached(scene, "renaming").await?;
    let there = scene.shell(&format!("ls -d {} 2>&1; true", super::dir_of(0, SITE))).await?;
    ensure!(there.contains("No such file"), "the old directory is in its place still: {there}");
    scene.host.kill().await?;
    scene.host.boot().await?;
    let ended = done_or_as_before(scene, &before, &id).await;
    scene.shell("rm -f /root/faults/renaming").await?;
    stand_back(scene, "perl").await?;
    ended
}

/// Killed again and again while everything is taken back.
pub(super) async fn dies_while_compensating(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    let id = scene.face.submit("migrate", &to_the_other_platform(scene)).await?;
    when(scene, &id, "copy_database").await?;
    let (status, answer) = scene.face.post(&format!("/v1/tasks/{id}/cancel"), &json!({})).await?;
    ensure!(status == 202, "{status} {answer}");
    let mut kills = 0;
    for undone in [0, 2, 4] {
        let mut ended = false;
        support::wait_until("more undone steps", super::STEP, || async {
            let task = scene.face.task(&id).await.unwrap_or_default();
            let steps = task["steps"].as_array().cloned().unwrap_or_default();
            let count = steps
                .iter()
                .filter(|step| step["undo"]["state"] == "done" || step["state"] == "undone")
                .count();
            count > undone || task["state"] == "canceled" || (undone == 0 && task["state"] == "compensating")
        })
        .await?;
        ended |= scene.face.task(&id).await?["state"] == "canceled";
        if ended {
            break;
        }
        scene.kedge.kill()?;
        scene.kedge.start().await?;
        kills += 1;
    }
    ensure!(kills > 0, "it was never killed while it took back");
    let task = scene.face.settled(&id, LIMIT, |_| ()).await?;
    ensure!(task["state"] == "canceled" && task["outcome"]["verified"] != json!(false), "{task}");
    as_before(&before, &scene.look().await?, "after the kills")
}

/// The connection is gone when a command has done its work (SSH only): it is looked at, and not done twice.
pub(super) async fn result_unknown(scene: &mut Scene) -> Result<()> {
    if scene.transport != Transport::Ssh {
        return Ok(());
    }
    let before = scene.look().await?;
    let cut = "[ $n -gt 1 ] || { \"$real\" \"$@\"; pkill -KILL -u deploy -x sshd; sleep 100; }";
    stand_in(scene, "perl", "*renameat2*.kedge-stage-*", cut).await?;
    let task = scene.run("migrate", &to_the_other_platform(scene)).await?;
    let renames = calls(scene, "perl").await?;
    stand_back(scene, "perl").await?;
    ensure!(task["state"] == "succeeded", "{task}");
    ensure!(renames == 1, "the directory was renamed {renames} times");
    super::returns(scene, &before, &task).await
}

/// A command hangs, with a grandchild in a session of its own: its limit ends both, on the host too, and it is tried again.
pub(super) async fn hanging_command(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    let (program, pattern) = super::vhosts::reload(scene);
    let hang = "[ $n -gt 1 ] || { setsid sleep 4321 & exec sleep 4321; }";
    stand_in(scene, program, pattern, hang).await?;
    let task = scene.run("migrate", &to_the_other_platform(scene)).await?;
    let left = scene.shell("pgrep -fc '^sleep 4321'; true").await?;
    stand_back(scene, program).await?;
    ensure!(left.trim() == "0", "{} processes have survived their attempt", left.trim());
    ensure!(task["state"] == "succeeded", "{task}");
    super::returns(scene, &before, &task).await
}

/// Killed in the middle with a command and its grandchild on the host: the next life ends both before it acts.
pub(super) async fn orphans(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    // Each call writes down which survivors of an earlier one it sees.
    let body = "pgrep -f '^sleep 5432' >>/root/faults/survivors\n[ $n -gt 1 ] || { setsid sh -c 'trap \"\" TERM; sleep 5432; sleep 5432' & \
                : >/root/faults/dumping; sleep 5432; }";
    stand_in(scene, "mariadb-dump", "*--single-transaction*", body).await?;
    let id = scene.face.submit("migrate", &to_the_other_platform(scene)).await?;
    reached(scene, "dumping").await?;
    scene.kedge.kill()?;
    scene.kedge.start().await?;
    let ended = done_or_as_before(scene, &before, &id).await;
    let (calls, survivors) =
        (calls(scene, "mariadb-dump").await?, scene.shell("cat /root/faults/survivors").await?);
    let left = scene.shell("pgrep -fc '^sleep 5432'; true").await?;
    scene.shell("rm -f /root/faults/survivors /root/faults/dumping").await?;
    stand_back(scene, "mariadb-dump").await?;
    ended?;
    ensure!(calls > 1, "nothing was dumped again");
    ensure!(
        survivors.trim().is_empty() && left.trim() == "0",
        "survivors were there when the next life acted: {survivors}"
    );
    Ok(())
}

/// Killed while it holds locks: nobody removes anything by hand, and a second process is told that the first has the data.
pub(super) async fn stale_locks(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    let id = scene.face.submit("migrate", &to_the_other_platform(scene)).await?;
    when(scene, &id, "copy_files").await?;
    let config = scene.kedge.config();
    let config = config.to_str().context("the configuration's path is no text")?;
    let (served, said) = scene.kedge.command(&["serve", "--config", config])?;
    ensure!(!served && said.contains("in use by process"), "a second process on the same data: {said}");
    scene.kedge.kill()?;
    scene.kedge.start().await?;
    let task: Value = scene.face.settled(&id, LIMIT, |_| ()).await?;
    done(scene, "backup", &json!({ "site": SITE })).await?;
    let (_, locks) = scene.face.get("/v1/locks").await?;
    ensure!(locks["locks"].as_array().is_some_and(Vec::is_empty), "locks are left: {locks}");
    if task["state"] == "succeeded" {
        take_back(scene, &id).await?;
        let after = scene.look().await?;
        return as_before(&before.without_trash(&before), &after.without_trash(&before), "after the undo");
    }
    rolled_back(scene, &before, &task, "").await
}
