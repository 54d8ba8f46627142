//! Cases about web servers.

use anyhow::{Result, ensure};
use kedge_testenv::Service;
use serde_json::{Value, json};

use super::{done_or_as_before, rolls_back, succeeds, to_the_other_platform, when};
use crate::scene::{LIMIT, SITE, Scene};

fn broken_file(scene: &Scene) -> &'static str {
    if scene.server == Service::Apache {
        "/etc/apache2/sites-enabled/zz-broken.conf"
    } else {
        "/etc/nginx/sites-enabled/zz-broken.conf"
    }
}

fn own_file(scene: &Scene) -> String {
    let dir = if scene.server == Service::Apache { "/etc/apache2" } else { "/etc/nginx" };
    format!("$(grep -lE '(server_name|ServerName) +{SITE}' {dir}/sites-enabled/*)")
}

/// A neighbour's vhost is broken before: the culprit is named, nothing begins.
pub(super) async fn neighbour_before(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    let file = broken_file(scene);
    scene.shell(&format!("echo 'NoSuchDirective here;' > {file}")).await?;
    let task = scene.run("migrate", &to_the_other_platform(scene)).await?;
    scene.shell(&format!("rm {file}")).await?;
    super::rolled_back(scene, &before, &task, "zz-broken.conf").await
}

/// A neighbour's vhost breaks in the middle: as before, or stuck with the culprit's name until it is repaired; then as before.
pub(super) async fn neighbour_during(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    let file = broken_file(scene);
    let id = scene.face.submit("migrate", &to_the_other_platform(scene)).await?;
    when(scene, &id, "copy_database").await?;
    scene.shell(&format!("echo 'NoSuchDirective here;' > {file}")).await?;
    let mut task = scene.face.settled(&id, LIMIT, |_| ()).await?;
    let told = task.to_string().contains("zz-broken.conf");
    scene.shell(&format!("rm {file}")).await?;
    ensure!(told, "the culprit is not named: {task}");
    if task["state"] == "stuck" {
        let (status, answer) = scene.face.post(&format!("/v1/tasks/{id}/retry"), &json!({})).await?;
        ensure!(status == 202, "{status} {answer}");
        task = scene.face.settled(&id, LIMIT, |_| ()).await?;
    }
    super::rolled_back(scene, &before, &task, "").await
}

/// A vhost that a person has edited is not overwritten: refused, and the edit is told.
pub(super) async fn hand_edited(scene: &mut Scene) -> Result<()> {
    let file = own_file(scene);
    scene
        .shell(&format!("f={file}; cp -a \"$f\" /root/vhost.kept && echo '# a hand was here' >> \"$f\""))
        .await?;
    let before = scene.look().await?;
    let ended = rolls_back(scene, &before, &to_the_other_platform(scene), "changed by hand").await;
    scene.shell(&format!("f={file}; cp -a /root/vhost.kept \"$f\"")).await?;
    ended
}

/// php-fpm is dead: the new side does not answer rightly, so it is not switched to.
pub(super) async fn php_fpm_dead(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    let id = scene.face.submit("migrate", &to_the_other_platform(scene)).await?;
    when(scene, &id, "copy_database").await?;
    scene.host.stop_service(Service::Php).await?;
    let task = scene.face.settled(&id, LIMIT, |_| ()).await?;
    scene.host.start_service(Service::Php).await?;
    super::rolled_back(scene, &before, &task, "check_hidden").await
}

/// The web server is restarted by somebody in the middle.
pub(super) async fn restarted(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    let id = scene.face.submit("migrate", &to_the_other_platform(scene)).await?;
    when(scene, &id, "copy_database").await?;
    scene.host.stop_service(scene.server).await?;
    scene.host.start_service(scene.server).await?;
    done_or_as_before(scene, &before, &id).await
}

/// Every request that a visitor sends while the site moves gets an answer of one side or a 503; none is lost, none is an error.
pub(super) async fn visitors(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    let visitor = support::poller::Poller::start(scene.port(), SITE, "/");
    let began = std::time::Instant::now();
    let task: Value = succeeds(scene, &before, &to_the_other_platform(scene)).await?;
    let seen = visitor.since(began);
    let odd: Vec<u16> =
        seen.iter().map(|seen| seen.status).filter(|status| ![200, 503].contains(status)).collect();
    ensure!(odd.is_empty() && seen.len() > 20, "of {} requests some got {odd:?}", seen.len());
    let told = task["downtime_ms"].as_u64().unwrap_or_default();
    ensure!(told > 0, "no downtime was told: {task}");
    Ok(())
}
