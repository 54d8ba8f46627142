//! The operator's own commands around tasks on a real host over SSH: what they are told, what comes of one that fails, and that one which is
//! cut off by a death is ended and run again. Needs Docker.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kedge_testenv::Service;
use serde_json::json;
use support::kedge::Transport;
use support::wait_until;

use crate::scene::{LIMIT, SITE, Scene, as_before, take_back, wanted};

/// Longest wait for a command to begin.
const BEGIN: Duration = Duration::from_secs(60);

const COMMANDS: &str = r#"
[[commands]]
name = "announce"
host = "web1"
run = ["/root/own", "announce", "it's $HOME"]
workflows = ["migrate", "undo"]
sites = ["*.example.test"]
at = "before"

[[commands]]
name = "warm-up"
host = "web1"
run = ["/root/own", "warm-up"]
workflows = ["*"]
at = "after"

[[commands]]
name = "slow"
host = "web1"
run = ["/root/slow"]
workflows = ["verify"]
at = "before"
"#;

/// Writes down what it is told, and fails when there is a file that says so.
const OWN: &str = r#"cat > /root/own <<'X'
#!/bin/sh
echo "$KEDGE_AT $KEDGE_WORKFLOW $KEDGE_SITE $*" >>/root/told
echo "$1 was here"
[ ! -e "/root/fail-$1" ] || { echo 'not today' >&2; exit 9; }
X
cat > /root/slow <<'X'
#!/bin/sh
echo $$ >>/root/slow-runs
[ "$(wc -l </root/slow-runs)" -gt 1 ] || exec sleep 31415
X
chmod 755 /root/own /root/slow"#;

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_the_operator_run_around_tasks_on_apache_over_ssh() -> Result<()> {
    if !wanted() {
        return Ok(());
    }
    let mut scene = Scene::new(Service::Apache, Transport::Ssh).await?;
    scene.shell(OWN).await?;
    scene.kedge.configure(COMMANDS)?;
    scene.kedge.reload()?;
    wait_until("the reload", LIMIT, || async {
        scene.kedge.log_end(50).contains("the configuration is reloaded")
    })
    .await?;
    let before = scene.look().await?;
    let params = json!({ "site": SITE, "target_platform": scene.platforms[1] });

    let task = scene.run("migrate", &params).await?;
    ensure!(task["state"] == "succeeded" && task["result"]["command_warm-up"] == "done", "{task}");
    take_back(&scene, task["id"].as_str().context("an id")?).await?;
    let told = scene.shell("cat /root/told; rm /root/told").await?;
    let expected = [
        format!("before migrate {SITE} announce it's $HOME"),
        format!("after migrate {SITE} warm-up"),
        format!("before undo {SITE} announce it's $HOME"),
        format!("after undo {SITE} warm-up"),
    ];
    ensure!(told.lines().eq(expected.iter().map(String::as_str)), "{told}");
    let now = scene.look().await?;
    as_before(&before.without_trash(&before), &now.without_trash(&before), "after the way back")?;

    let before = scene.look().await?;
    scene.shell("touch /root/fail-announce").await?;
    let task = scene.run("migrate", &params).await?;
    ensure!(
        task["state"] == "rolled_back" && task["error"].to_string().contains("status 9: not today"),
        "{task}"
    );
    as_before(&before, &scene.look().await?, "after a command that failed before")?;
    scene.shell("rm /root/fail-announce; touch /root/fail-warm-up").await?;
    let task = scene.run("backup", &json!({ "site": SITE })).await?;
    ensure!(
        task["state"] == "succeeded" && task["result"]["command_warm-up"] == "failed: status 9: not today",
        "{task}"
    );

    cut_off(&mut scene).await?;
    scene.end().await
}

/// Kedge dies in the middle of a command: nothing of it goes on, and it runs again.
async fn cut_off(scene: &mut Scene) -> Result<()> {
    let id = scene.face.submit("verify", &json!({ "site": SITE })).await?;
    let runs = || async { scene.shell("cat /root/slow-runs 2>/dev/null || true").await.unwrap_or_default() };
    wait_until("the slow command", BEGIN, || async { !runs().await.is_empty() }).await?;
    scene.kedge.kill()?;
    scene.kedge.start().await?;
    let task = scene.face.settled(&id, LIMIT, |_| ()).await?;
    ensure!(task["state"] == "succeeded", "{task}");
    let left = scene.shell("wc -l </root/slow-runs; pgrep -f -c '[s]leep 31415' || true").await?;
    ensure!(left.split_whitespace().eq(["2", "0"]), "runs, and what is left of them: {left}");
    Ok(())
}
