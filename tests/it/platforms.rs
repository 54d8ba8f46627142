//! All sites of a platform move at once, one of them with TLS, and come back, on a real server. Needs Docker.

use anyhow::{Context as _, Result, ensure};
use kedge_testenv::Service;
use serde_json::json;
use support::kedge::Transport;

use crate::scene::{NEIGHBOUR, SITE, Scene, as_before, take_back, wanted};

#[tokio::test(flavor = "multi_thread")]
async fn the_sites_of_a_platform_move_and_come_back_on_nginx() -> Result<()> {
    if !wanted() {
        return Ok(());
    }
    let scene = Scene::new(Service::Nginx, Transport::Docker).await?;
    let face = json!({ "site": SITE, "aliases": ["store.example.test"], "tls": "self_signed" });
    let task = scene.run("configure", &face).await?;
    ensure!(task["state"] == "succeeded", "configure: {task}");
    served(&scene, "6.1").await?;

    let before = scene.look().await?;
    let [from, to] = scene.platforms;
    let params = json!({ "platform": from, "target_platform": to, "canary": SITE, "max_parallel": 2 });
    let moved = scene.run("migrate_platform", &params).await?;
    ensure!(moved["state"] == "succeeded", "migrate_platform: {moved}");
    served(&scene, "6.8").await?;

    take_back(&scene, moved["id"].as_str().context("a task without id")?).await?;
    served(&scene, "6.1").await?;
    let after = scene.look().await?;
    as_before(&before.without_trash(&before), &after.without_trash(&before), "after the undo")?;
    scene.end().await
}

/// Both sites are served by this version of WordPress; the one also by its other name, and behind TLS.
async fn served(scene: &Scene, version: &str) -> Result<()> {
    let tls = "curl -sk --max-time 60 --resolve shop.example.test:443:127.0.0.1 https://shop.example.test/";
    let page = scene.shell(tls).await?;
    ensure!(
        page.contains(&format!("WordPress {version}")),
        "not WordPress {version} behind TLS: {page:.600}"
    );
    for name in [SITE, NEIGHBOUR, "store.example.test"] {
        let page = scene.host.get(scene.server, name, "/").await?;
        let body = String::from_utf8_lossy(&page.body);
        ensure!(
            page.status == 200 && body.contains(&format!("WordPress {version}")),
            "{name} is not served by WordPress {version}: {} {body:.600}",
            page.status
        );
    }
    Ok(())
}
