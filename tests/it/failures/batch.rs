//! Cases about certificates, times, and many sites at once.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use kedge_testenv::Service;
use serde_json::{Value, json};
use support::wait_until;

use super::{dir_of, done, gone, install, rolled_back};
use crate::scene::{LIMIT, NEIGHBOUR, SITE, Scene, as_before, take_back};

/// A directory for certificates of somebody else.
const OWN: &str = "/etc/ssl/kedge-case";
/// A site that fails in the batch: by its name between the other two.
const FAILS: &str = "pond.example.test";

/// A certificate that is missing, over, of other names, or shared: HTTP goes on, what is wrong is told, nobody else's is taken away.
pub(super) async fn certificates(scene: &mut Scene) -> Result<()> {
    if scene.server == Service::Apache {
        let listen = "a2enmod -q ssl >/dev/null && echo 'Listen 8443' >/etc/apache2/conf-enabled/secure.conf && apache2ctl restart";
        scene.shell(listen).await?;
    }
    let before = scene.look().await?;
    let files = |name: &str| json!({ "site": SITE, "certificate": format!("{OWN}/{name}.pem"), "key": format!("{OWN}/key.pem") });
    // Not there.
    let task = scene.run("configure", &files("missing")).await?;
    rolled_back(scene, &before, &task, "missing.pem is not there").await?;
    // Over, and of another name: taken, and told.
    let make = format!(
        "umask 077 && mkdir -p {OWN} && cd {OWN} && openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=old -addext subjectAltName=DNS:other.example.test -keyout key.pem -out soon.pem 2>/dev/null && openssl x509 -in soon.pem -signkey key.pem -days 0 -out over.pem 2>/dev/null"
    );
    scene.shell(&make).await?;
    let task = done(scene, "configure", &files("over")).await?;
    super::answers(scene, SITE, 200).await?;
    let told = task["result"]["drift"].to_string();
    ensure!(told.contains("over.pem is over since"), "an old certificate is not told: {told}");
    ensure!(told.contains(&format!("over.pem is not for {SITE}")), "another's names are not told: {told}");
    take_back(scene, task["id"].as_str().context("no id")?).await?;
    let told = done(scene, "configure", &files("soon")).await?["result"]["drift"].to_string();
    ensure!(told.contains("soon.pem ends soon"), "a certificate's last day is not told: {told}");
    // Shared with a neighbour, who is deleted.
    let shared =
        json!({ "tls": "files", "certificate": format!("{OWN}/soon.pem"), "key": format!("{OWN}/key.pem") });
    install(scene, "shares.example.test", &shared).await?;
    gone(scene, "shares.example.test").await?;
    scene.shell(&format!("test -s {OWN}/soon.pem && test -s {OWN}/key.pem")).await?;
    secured(scene, SITE, "other.example.test").await?;
    // Renamed, with one of its own: it is for the new name.
    done(scene, "configure", &json!({ "site": SITE, "tls": "self_signed" })).await?;
    let moved = done(scene, "migrate", &json!({ "site": SITE, "new_site": "store.example.test" })).await?;
    secured(scene, "store.example.test", "store.example.test").await?;
    take_back(scene, moved["id"].as_str().context("no id")?).await?;
    secured(scene, SITE, SITE).await?;
    done(scene, "configure", &json!({ "site": SITE, "tls": "none" })).await?;
    scene.shell(&format!("rm -r {OWN}")).await?;
    let after = scene.look().await?;
    as_before(&before.without_trash(&before), &after.without_trash(&before), "after the certificates")
}

/// The site answers by HTTPS, with a certificate for this name.
async fn secured(scene: &Scene, site: &str, name: &str) -> Result<()> {
    let port = if scene.server == Service::Apache { 8443 } else { 443 };
    let script = format!(
        "curl -sk --max-time 60 -o /dev/null -w '%{{http_code}}' --resolve {site}:{port}:127.0.0.1 https://{site}:{port}/wp-login.php && echo && \
         openssl s_client -connect 127.0.0.1:{port} -servername {site} </dev/null 2>/dev/null | openssl x509 -noout -ext subjectAltName"
    );
    let told = scene.shell(&script).await?;
    ensure!(told.starts_with("200"), "{site} by HTTPS: {told}");
    ensure!(told.contains(&format!("DNS:{name}")), "{site} has no certificate for {name}: {told}");
    Ok(())
}

/// Kedge is down when a schedule is due, and dies after it: what catches up runs once, what does not is told.
pub(super) async fn schedules(scene: &mut Scene) -> Result<()> {
    let now = seconds()?;
    let slot = |name: &str, at: u64, catch_up: bool| {
        let (h, m, s) = (at / 3600 % 24, at / 60 % 60, at % 60);
        format!(
            "[[schedules]]\nname = \"{name}\"\nworkflow = \"backup\"\nsites = [\"{SITE}\"]\nparams = {{ description = \"{name}\" }}\n\
             at = [\"{h:02}:{m:02}:{s:02}\"]\nwindow = \"0m\"\ncatch_up = {catch_up}\n"
        )
    };
    let plain = std::fs::read_to_string(scene.kedge.config())?;
    scene.kedge.stop().await?;
    let (known, due, next) = (now + 8, now + 20, now + 50);
    let parts = [
        slot("known", known, true),
        slot("once", due, true),
        slot("never", due, false),
        slot("next", next, true),
    ];
    scene.kedge.configure(&parts.concat())?;
    scene.kedge.start().await?;
    // It has looked at all of them when it has begun the first.
    backups(scene, "known", 1).await?;
    ensure!(seconds()? < due, "this machine took longer to begin than the case allows for: play it again");
    scene.kedge.stop().await?;
    wait_until("the slot to be over", LIMIT, || async { seconds().is_ok_and(|now| now > due + 2) }).await?;
    scene.kedge.start().await?;
    backups(scene, "once", 1).await?;
    scene.kedge.kill()?;
    scene.kedge.start().await?;
    // A later look has found everything else done.
    backups(scene, "next", 1).await?;
    for (name, times) in [("known", 1), ("once", 1), ("never", 0), ("next", 1)] {
        backups(scene, name, times).await?;
    }
    let log = std::fs::read_to_string(scene.kedge.log_file())?;
    let missed =
        log.lines().any(|line| line.contains("missed: its window has passed") && line.contains("never"));
    ensure!(missed, "what was missed is not told");
    scene.kedge.stop().await?;
    std::fs::write(scene.kedge.config(), plain)?;
    scene.kedge.start().await
}

fn seconds() -> Result<u64> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs())
}

/// Waits until a schedule has made so many backups; never more.
async fn backups(scene: &Scene, schedule: &str, times: usize) -> Result<()> {
    let end = std::time::Instant::now() + LIMIT;
    loop {
        let (status, tasks) = scene.face.get("/v1/tasks?workflow=backup&limit=200").await?;
        ensure!(status == 200, "the tasks: {status} {tasks}");
        let tasks = tasks["tasks"].as_array().context("no tasks")?;
        let own: Vec<&Value> =
            tasks.iter().filter(|task| task["params"]["description"] == schedule).collect();
        ensure!(own.len() <= times, "{schedule} was begun {} times: {own:?}", own.len());
        if own.len() == times && own.iter().all(|task| task["state"] == "succeeded") {
            return Ok(());
        }
        ensure!(std::time::Instant::now() < end, "{schedule} was not begun {times} times: {own:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// One of many fails: nothing new is begun after so many failures as the task bears; who has moved stays, and comes back by an undo.
pub(super) async fn one_of_many_fails(scene: &mut Scene) -> Result<()> {
    install(scene, FAILS, &json!({})).await?;
    let code =
        "add_filter('dbdelta_queries', function ($q) { throw new RuntimeException('broken on purpose'); });";
    let plugins = format!("{}/wp-content/mu-plugins", dir_of(0, FAILS));
    scene.shell(&format!("mkdir -p {plugins} && cat > {plugins}/case.php <<'X'\n<?php\n{code}\nX")).await?;
    let before = scene.look().await?;
    let [from, to] = scene.platforms;
    for (bears, ends) in [(1, ["done", "rolled_back", "skipped"]), (2, ["done", "rolled_back", "done"])] {
        let params = json!({
            "platform": from, "target_platform": to, "canary": NEIGHBOUR, "max_parallel": 1, "stop_after_failures": bears
        });
        let task = done(scene, "migrate_platform", &params).await?;
        let told = task["result"]["sites"].clone();
        for (site, end) in [NEIGHBOUR, FAILS, SITE].into_iter().zip(ends) {
            let one = told.as_array().and_then(|sites| sites.iter().find(|one| one["site"] == site));
            ensure!(one.is_some_and(|one| one["end"] == end), "{site} is not {end}, bearing {bears}: {told}");
            let version = if end == "done" { "6.8" } else { "6.1" };
            let page = scene.host.get(scene.server, site, "/").await?;
            let body = String::from_utf8_lossy(&page.body);
            ensure!(
                body.contains(&format!("WordPress {version}")),
                "{site} is not at {version}: {body:.300}"
            );
        }
        take_back(scene, task["id"].as_str().context("no id")?).await?;
        let after = scene.look().await?;
        as_before(&before.without_trash(&before), &after.without_trash(&before), "after the undo")?;
    }
    gone(scene, FAILS).await
}
