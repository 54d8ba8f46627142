//! Whole tasks on real sites, from the webhook to the callback: backup, migrate and rename, undo, and a neighbour's mistake. What is left
//! is compared from outside. Needs Docker.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kedge_testenv::Service;
use serde_json::json;
use support::face::id_of;
use support::kedge::Transport;
use support::outside::Outside;
use support::poller::Poller;

use crate::scene::{NEIGHBOUR, SITE, Scene, as_before, take_back, wanted};

#[tokio::test(flavor = "multi_thread")]
async fn a_site_migrates_is_renamed_and_rolls_back_on_nginx() -> Result<()> {
    if !wanted() {
        return Ok(());
    }
    let scene = Scene::new(Service::Nginx, Transport::Docker).await?;
    moves(&scene).await?;
    crate::import::a_site_made_by_hand(&scene).await?;
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_migrates_is_renamed_and_rolls_back_on_apache_over_ssh() -> Result<()> {
    if !wanted() {
        return Ok(());
    }
    let scene = Scene::new(Service::Apache, Transport::Ssh).await?;
    moves(&scene).await?;
    crate::import::a_site_made_by_hand(&scene).await?;
    scene.end().await
}

async fn moves(scene: &Scene) -> Result<()> {
    let neighbour = Poller::start(scene.port(), NEIGHBOUR, "/");
    let began = std::time::Instant::now();
    let backup = scene.run("backup", &json!({ "site": SITE })).await?;
    ensure!(
        backup["state"] == "succeeded" && backup["result"]["backup_bytes"].as_u64() > Some(100_000),
        "backup: {backup}"
    );

    let before = scene.look().await?;
    broken_neighbour(scene, &before).await?;

    let params = json!({ "site": SITE, "target_platform": scene.platforms[1], "new_site": "store.example.test", "redirect_old": true });
    let task = scene.run("migrate", &params).await?;
    ensure!(task["state"] == "succeeded", "migrate and rename: {task}");
    let page = scene.host.get(scene.server, "store.example.test", "/").await?;
    ensure!(page.status == 200, "the new name answers {}", page.status);
    let old = scene.host.get(scene.server, SITE, "/some/page").await?;
    ensure!(
        old.status == 301 && old.header("location") == Some("http://store.example.test/some/page"),
        "the old name: {}",
        old.head
    );
    let database = scene
        .shell("sed -nE \"s/.*DB_NAME', *'([^']+)'.*/\\1/p\" /srv/platforms/wordpress-6.8/sites/store.example.test/wp-config.php")
        .await?;
    let database = database.trim();
    ensure!(!database.is_empty(), "the new settings name no database");
    // Longer names such as shop.example.testx are others; the seed has them on purpose.
    let script = format!(
        "mariadb -N {database} -e \"SELECT ID FROM wp_posts WHERE CONCAT(post_content, ' ', guid, ' ') REGEXP '//shop[.]example[.]test[^a-z0-9.-]' LIMIT 5\""
    );
    let named = scene.shell(&script).await?;
    ensure!(
        named.is_empty(),
        "posts of the renamed site still name the old host: {named}\n{}",
        task["result"]
    );
    let rewritten = task["result"]["values_rewritten"].as_u64();
    ensure!(rewritten > Some(100), "only {rewritten:?} values were rewritten");

    take_back(scene, &id_of(&task)?).await?;
    let page = scene.host.get(scene.server, SITE, "/").await?;
    ensure!(page.status == 200, "after the undo the old name answers {}", page.status);
    let answers = neighbour.since(began);
    let bad: Vec<u16> = answers.iter().map(|seen| seen.status).filter(|status| *status != 200).collect();
    ensure!(
        bad.is_empty() && answers.len() > 20,
        "of {} requests to the neighbour {bad:?} failed",
        answers.len()
    );
    let id = id_of(&task)?;
    support::wait_until("the callback", Duration::from_secs(20), || async {
        scene.receiver.find("task.succeeded", &id).is_some()
    })
    .await?;
    ensure!(
        scene.receiver.find("task.succeeded", &id).context("gone")?.signed,
        "the callback is not signed rightly"
    );
    Ok(())
}

/// While a neighbour's vhost is broken, nothing of ours begins, and the neighbour is named.
async fn broken_neighbour(scene: &Scene, before: &Outside) -> Result<()> {
    let file = match scene.server {
        Service::Apache => "/etc/apache2/sites-enabled/zz-broken.conf",
        _ => "/etc/nginx/sites-enabled/zz-broken.conf",
    };
    scene.shell(&format!("echo 'NoSuchDirective here;' > {file}")).await?;
    let params = json!({ "site": SITE, "target_platform": scene.platforms[1] });
    let task = scene.run("migrate", &params).await?;
    scene.shell(&format!("rm {file}")).await?;
    ensure!(task["state"] == "rolled_back", "with a broken neighbour: {task}");
    ensure!(
        task["error"]["detail"].as_str().is_some_and(|detail| detail.contains("zz-broken.conf")),
        "the culprit is not named: {}",
        task["error"]
    );
    as_before(before, &scene.look().await?, "a broken neighbour")
}
