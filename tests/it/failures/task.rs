//! Cases about tasks themselves: doubles, queues, cancels.

use anyhow::{Result, ensure};
use serde_json::json;

use super::to_the_other_platform;
use crate::scene::{LIMIT, NEIGHBOUR, SITE, Scene, as_before};

/// The same delivery three times, the same key three times: one task each.
pub(super) async fn doubles(scene: &mut Scene) -> Result<()> {
    let body = json!({ "workflow": "backup", "params": { "site": SITE } });
    let mut ids = Vec::new();
    for _ in 0..3 {
        let (status, answer) = scene.face.hook("any", "msg_double", &body).await?;
        ensure!(status == 202 || (status == 200 && answer["status"] == "duplicate"), "{status} {answer}");
        let task = if status == 202 { &answer } else { &answer["task"] };
        ids.push(task["id"].as_str().unwrap_or_default().to_owned());
    }
    ensure!(!ids[0].is_empty() && ids.iter().all(|id| *id == ids[0]), "three tasks came of it: {ids:?}");
    let task = scene.face.settled(&ids[0], LIMIT, |_| ()).await?;
    ensure!(task["state"] == "succeeded", "{task}");
    Ok(())
}

/// A second task of the same site waits and names the first; canceled in the middle, the first leaves everything as it was.
pub(super) async fn queue_and_cancel(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    let first = scene.face.submit("migrate", &to_the_other_platform(scene)).await?;
    super::when(scene, &first, "copy_database").await?;
    let second = scene.face.submit("backup", &json!({ "site": SITE })).await?;
    let waiting = scene.face.task(&second).await?;
    ensure!(waiting["blocked_on"]["holder"] == json!(first), "it does not say what it waits for: {waiting}");
    let (status, answer) = scene.face.post(&format!("/v1/tasks/{first}/cancel"), &json!({})).await?;
    ensure!(status == 202, "{status} {answer}");
    let task = scene.face.settled(&first, LIMIT, |_| ()).await?;
    ensure!(task["state"] == "canceled" && task["outcome"]["verified"] != json!(false), "{task}");
    let backup = scene.face.settled(&second, LIMIT, |_| ()).await?;
    ensure!(backup["state"] == "succeeded", "{backup}");
    as_before(&before, &scene.look().await?, "after the cancel")
}

/// A name that another site has, as its own or as an alias, is refused at once.
pub(super) async fn taken_names(scene: &mut Scene) -> Result<()> {
    for name in [NEIGHBOUR, "a/b.example.test", "*.example.test", "", "x"] {
        let body = json!({ "workflow": "migrate", "params": { "site": SITE, "new_site": name } });
        let (status, answer) = scene.face.post("/v1/tasks", &body).await?;
        ensure!(status == 422 || status == 409, "{name:?}: {status} {answer}");
    }
    Ok(())
}

/// An install that failed can be asked for again under the same name.
pub(super) async fn install_again(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    let install = scene.shell("p=$(command -v php); mv $p $p.away; echo $p").await?;
    let params =
        json!({ "site": "fresh.example.test", "platform": scene.platforms[0], "database_server": "db1" });
    let failed = scene.run("install", &params).await?;
    scene.shell(&format!("mv {0}.away {0}", install.trim())).await?;
    ensure!(failed["state"] == "rolled_back", "an install without php: {failed}");
    as_before(&before, &scene.look().await?, "after a failed install")?;
    let done = scene.run("install", &params).await?;
    ensure!(done["state"] == "succeeded", "{done}");
    Ok(())
}
