//! Cases about web servers.

use anyhow::{Context as _, Result, ensure};
use kedge_testenv::Service;
use serde_json::{Value, json};
use support::wait_until;

use super::{
    database_of, dir_of, done, done_or_as_before, rolls_back, sql, succeeds, to_the_other_platform, when,
};
use crate::scene::{LIMIT, SITE, Scene, as_before};

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

/// A neighbour's vhost breaks in the middle: the culprit is named, its repair is waited for where the way back needs the server, and then
/// all is as before, without anybody's word.
pub(super) async fn neighbour_during(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    let file = broken_file(scene);
    let id = scene.face.submit("migrate", &to_the_other_platform(scene)).await?;
    when(scene, &id, "copy_database").await?;
    scene.shell(&format!("echo 'NoSuchDirective here;' > {file}")).await?;
    let (face, task) = (&scene.face, id.as_str());
    let turned = wait_until("the way back", LIMIT, || async move {
        let Ok(task) = face.task(task).await else { return false };
        let back = matches!(task["state"].as_str(), Some("compensating" | "rolled_back" | "stuck"));
        back && task.to_string().contains("zz-broken.conf")
    });
    let turned = turned.await;
    scene.shell(&format!("rm {file}")).await?;
    turned.context("the culprit is named")?;
    let task = scene.face.settled(&id, LIMIT, |_| ()).await?;
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
    ended?;
    // Inside our lines of its settings: the new side does not have it, and that is told.
    let settings = format!("{}/wp-config.php", dir_of(0, SITE));
    let edit = format!(
        "f={settings}; cp -a \"$f\" /root/settings.kept; sed -i \"/END kedge/i define( 'BY_HAND', 1 );\" \"$f\""
    );
    scene.shell(&edit).await?;
    let before = scene.look().await?;
    let moved = succeeds(scene, &before, &to_the_other_platform(scene)).await?;
    scene.shell(&format!("f={settings}; cp -a /root/settings.kept \"$f\"")).await?;
    let told = moved["result"].to_string();
    ensure!(told.contains("wp-config.php was changed inside") && told.contains("BY_HAND"), "{told}");
    Ok(())
}

/// A site whose settings are open to everybody and whose vhost is gone is put right: its salts, passwords, account and scheduled events
/// stay what they were, and everything is as before the disorder.
pub(super) async fn put_right(scene: &mut Scene) -> Result<()> {
    let settings = format!("{}/wp-config.php", dir_of(0, SITE));
    let database = database_of(scene, 0, SITE).await?;
    let secrets = async |scene: &Scene| -> Result<String> {
        let defined = format!(
            "grep -E \"_KEY'|_SALT'|DB_PASSWORD'\" {settings} | sha256sum; mariadb -N -e \"SELECT SHA2(GROUP_CONCAT(User, Host, authentication_string ORDER BY User, Host), 256) FROM mysql.user WHERE User = '{database}'\""
        );
        let events = "SELECT option_name, SHA2(option_value, 256) FROM wp_options WHERE option_name IN ('cron', 'auth_key', 'auth_salt', 'nonce_key', 'nonce_salt') ORDER BY 1";
        Ok(scene.shell(&defined).await? + "\n" + &sql(scene, &database, events).await?)
    };
    // The modes of what was uploaded by hand are put right once: after that nothing but the disorder is wrong.
    done(scene, "verify", &json!({ "site": SITE })).await?;
    let before = scene.look().await?;
    let kept = secrets(scene).await?;
    ensure!(kept.lines().count() >= 3 && !kept.contains("NULL"), "there is nothing to compare: {kept}");
    scene.shell(&format!("f={}; chmod 0666 {settings}; rm \"$f\"", own_file(scene))).await?;
    let task = done(scene, "verify", &json!({ "site": SITE })).await?;
    ensure!(secrets(scene).await? == kept, "verify has changed a secret: {}", task["result"]);
    as_before(&before, &scene.look().await?, "after the verify")
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
