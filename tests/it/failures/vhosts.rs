//! Cases about vhosts: invalid ones, reloads that fail or hang, what is in them.

use anyhow::{Result, ensure};
use kedge_testenv::Service;

use super::faults::{calls, stand_back, stand_in};
use super::{done, refused, returns, rolls_back, succeeds, to_the_other_platform, when};
use crate::scene::{LIMIT, NEIGHBOUR, SITE, Scene, as_before};

/// The program that reloads the web server, and what its arguments look like then.
pub(super) fn reload(scene: &Scene) -> (&'static str, &'static str) {
    if scene.server == Service::Apache { ("apache2ctl", "*graceful*") } else { ("nginx", "*reload*") }
}

fn test(scene: &Scene) -> (&'static str, &'static str) {
    if scene.server == Service::Apache { ("apache2ctl", "*-t*|*configtest*") } else { ("nginx", "*-t*") }
}

fn vhosts(scene: &Scene) -> &'static str {
    if scene.server == Service::Apache { "/etc/apache2/sites-enabled" } else { "/etc/nginx/sites-enabled" }
}

/// The server takes the new vhost for invalid: it goes, and the server runs on with what it had.
pub(super) async fn invalid(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    let (program, pattern) = test(scene);
    // The new vhost is known by the place it points to.
    let body = format!(
        "f=$(grep -lE '/srv/platforms/wordpress-6.8' {}/* | head -n 1)\n[ -z \"$f\" ] || {{ echo \"invalid directive in $f:3\" >&2; exit 1; }}",
        vhosts(scene)
    );
    stand_in(scene, program, pattern, &body).await?;
    let ended = rolls_back(scene, &before, &to_the_other_platform(scene), "invalid").await;
    stand_back(scene, program).await?;
    ended?;
    super::answers(scene, SITE, 200).await?;
    super::answers(scene, NEIGHBOUR, 200).await
}

/// The test is fine and the reload fails. For good: as before, since what was never taken need not be taken back. Once: it is tried again.
pub(super) async fn reload_fails(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    let (program, pattern) = reload(scene);
    stand_in(scene, program, pattern, "echo 'reload: never' >&2; exit 1").await?;
    let ended = rolls_back(scene, &before, &to_the_other_platform(scene), "reload: never").await;
    stand_back(scene, program).await?;
    ended?;
    stand_in(scene, program, pattern, "[ $n -gt 1 ] || { echo 'reload: no' >&2; exit 1; }").await?;
    let task = succeeds(scene, &before, &to_the_other_platform(scene)).await;
    let reloads = calls(scene, program).await?;
    stand_back(scene, program).await?;
    task?;
    ensure!(reloads > 2, "only {reloads} reloads were asked for");
    Ok(())
}

/// Several tasks reload one server at the same time: fewer reloads than asked for, and everybody's vhost is taken.
pub(super) async fn reload_storm(scene: &mut Scene) -> Result<()> {
    let sites: Vec<String> = (0..6).map(|n| format!("storm{n}.example.test")).collect();
    let (program, pattern) = reload(scene);
    // A slow reload, so that the others come while one is under way.
    stand_in(scene, program, pattern, "sleep 0.5").await?;
    let mut tasks = Vec::new();
    for site in &sites {
        let params = serde_json::json!({ "site": site, "platform": scene.platforms[0], "database_server": "db1", "method": "empty" });
        tasks.push(scene.face.submit("install", &params).await?);
    }
    let mut states = Vec::new();
    for task in &tasks {
        states.push(scene.face.settled(task, LIMIT, |_| ()).await?["state"].clone());
    }
    let reloads = calls(scene, program).await?;
    stand_back(scene, program).await?;
    ensure!(states.iter().all(|state| state == "succeeded"), "{states:?}");
    ensure!(reloads < 2 * 6, "{reloads} reloads for {} vhosts that were put twice each", sites.len());
    for site in &sites {
        let file =
            scene.shell(&format!("grep -rlE '(server_name|ServerName) +{site}' {}", vhosts(scene))).await?;
        ensure!(file.lines().count() == 1, "{site} is in {file:?}");
        super::gone(scene, site).await?;
    }
    Ok(())
}

/// No vhost of ours carries access to a database, and none has an empty value: there is nothing that an empty credential could break.
pub(super) async fn no_credentials(scene: &mut Scene) -> Result<()> {
    let database = super::database_of(scene, 0, SITE).await?;
    let file = scene
        .shell(&format!("cat $(grep -lE '(server_name|ServerName) +{SITE}' {}/*)", vhosts(scene)))
        .await?;
    ensure!(file.contains(SITE), "the vhost was not found");
    for word in [database.as_str(), "db_port", "db_passwd", "DB_PASSWORD"] {
        ensure!(!file.contains(word), "{word:?} is in the vhost:\n{file}");
    }
    let empty = |line: &&str| {
        let line = line.trim();
        let values = line.starts_with("fastcgi_param") || line.starts_with("SetEnv");
        // The one that has to be empty: a header of visitors must not become PHP's proxy.
        values
            && (line.contains("\"\"") || line.split_whitespace().count() < 3)
            && !line.contains("HTTP_PROXY")
    };
    let found: Vec<&str> = file.lines().filter(empty).collect();
    ensure!(found.is_empty(), "values without content: {found:?}");
    Ok(())
}

/// Pools of php-fpm are nobody's but the host's: no task writes one, so none can lose its last one.
pub(super) async fn no_pools(scene: &mut Scene) -> Result<()> {
    let pools = "find /etc/php -type f -exec sha256sum {} + | sort | sha256sum; find /etc/php -printf '%p %m %u %C@\\n' | sort | sha256sum";
    let before = (scene.look().await?, scene.shell(pools).await?);
    let task = done(scene, "migrate", &to_the_other_platform(scene)).await?;
    ensure!(scene.shell(pools).await? == before.1, "something under /etc/php has changed");
    returns(scene, &before.0, &task).await
}

/// While the doors are closed the web server itself says so: no flag of the application that could expire, and no PHP is asked.
pub(super) async fn closed_by_the_server(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    let id = scene.face.submit("migrate", &to_the_other_platform(scene)).await?;
    when(scene, &id, "copy_database").await?;
    scene.host.stop_service(Service::Php).await?;
    let (page, neighbour) =
        (scene.host.get(scene.server, SITE, "/").await?, scene.host.get(scene.server, NEIGHBOUR, "/").await?);
    let flags = scene.shell("find /srv/platforms -name .maintenance; true").await?;
    scene.host.start_service(Service::Php).await?;
    super::done_or_as_before(scene, &before, &id).await?;
    ensure!(page.status == 503 && page.header("retry-after").is_some(), "closed: {}", page.head);
    ensure!(
        neighbour.status != 503 || page.text() != neighbour.text(),
        "the 503 is PHP's absence, not the closed door"
    );
    ensure!(flags.is_empty(), "an application's flag is there: {flags}");
    Ok(())
}

/// A name that a site has, as its own: swapping two sites' names is refused at once, and nothing happens.
pub(super) async fn swap(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    let params = serde_json::json!({ "site": SITE, "new_site": NEIGHBOUR });
    refused(scene, "migrate", &params, 409, NEIGHBOUR).await?;
    as_before(&before, &scene.look().await?, "after a refused swap")
}
