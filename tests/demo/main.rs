//! The demonstration: a real site on a test host is installed, filled, migrated by signed webhooks; one migrate fails on purpose and
//! is rolled back, the next one succeeds and is undone. Every claim that is printed was checked; the first that does not hold ends it.

mod stage;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kedge_testenv::wordpress::{SeedSpec, seed};
use kedge_testenv::{Exec, Host, HostSpec, Progress, Service, Testenv};
use serde_json::json;
use stage::Stage;
use support::face::{Face, id_of};
use support::kedge::{Kedge, Transport};
use support::outside::Outside;
use support::poller::Poller;
use support::receiver::Receiver;

const SITE: &str = "shop.example.test";
const NEIGHBOUR: &str = "neighbour.example.test";
/// Longest time that one task may take here.
const LIMIT: Duration = Duration::from_secs(300);
const POSTS: u32 = 300;

/// A must-use plugin that WordPress 6.8 cannot update with: what a real incompatible plugin does.
const BROKEN_PLUGIN: &str = "<?php\nadd_filter('dbdelta_queries', function ($queries) {\n    global $wp_version;\n    \
    if (version_compare($wp_version, '6.8', '>=')) {\n        throw new RuntimeException('shop-extras 1.2 does not know WordPress ' . $wp_version);\n    }\n    return $queries;\n});\n";

#[tokio::main]
async fn main() -> ExitCode {
    let stage = Stage::new();
    match story(&stage).await {
        Ok(()) => {
            stage.title("Every claim above was checked. Kedge hauled itself off.");
            ExitCode::SUCCESS
        }
        Err(error) => {
            stage.failed(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn story(stage: &Stage) -> Result<()> {
    stage.title("1. A test host");
    let progress = stage.clone();
    let env = Testenv::open(&Progress::new(move |line| progress.note(line))).await?;
    let host = Host::start(&env, &HostSpec::web_and_database("web1")).await?;
    stage.done(
        "nginx, Apache, php-fpm and MariaDB run in a container, with WordPress 6.1 and 6.8 as platforms",
    );

    stage.title("2. kedge serve, on its embedded store");
    // The receiver needs Kedge's secret and Kedge the receiver's port: the port is found first.
    let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let mut kedge = Kedge::prepare(&host, Transport::Docker, port)?;
    let receiver = Receiver::start_on(port, &kedge.callback_secret).await?;
    kedge.start().await?;
    let face = kedge.face()?;
    stage.done(&format!("it answers at {}", face.url));
    let result = acts(stage, &host, &mut kedge, &face, &receiver).await;
    if result.is_err() {
        stage.note(&format!("the end of Kedge's log:\n{}", kedge.log_end(15)));
    }
    result?;
    kedge.stop().await?;
    let (sound, fsck) = kedge.command(&["journal", "fsck"])?;
    ensure!(sound, "journal fsck: {fsck}");
    stage.done(&format!("journal fsck: {}", fsck.trim()));
    host.shutdown().await?;
    env.shutdown().await?;
    Ok(())
}

async fn acts(stage: &Stage, host: &Host, kedge: &mut Kedge, face: &Face, receiver: &Receiver) -> Result<()> {
    stage.title("3. A real site with content");
    for site in [SITE, NEIGHBOUR] {
        let params = json!({ "site": site, "platform": "wordpress-61", "database_server": "db1", "title": "The Shop" });
        let id = face.submit("install", &params).await?;
        let task = face.settled(&id, LIMIT, |task| stage.task(task)).await?;
        stage.end_of_task();
        ensure!(task["state"] == "succeeded", "install ended {}: {}", task["state"], task["error"]);
    }
    let filled = seed(host, &SeedSpec::new("/srv/platforms/wordpress-6.1", SITE, POSTS, 7)).await?;
    stage.done(&format!(
        "{SITE} runs on WordPress 6.1 with {} posts, {} picture files, {} comments",
        filled.posts, filled.files, filled.comments
    ));

    let port = host.http_port();
    let visitor = Poller::start(port, SITE, "/?p=1");
    let neighbour = Poller::start(port, NEIGHBOUR, "/");
    let started = Instant::now();

    stage.title("4. A migrate that fails in its database update, on purpose");
    plugin(host, Some(BROKEN_PLUGIN)).await?;
    let before = Outside::look(host, Service::Nginx, SITE).await?;
    let (id, state) = migrate(stage, face, receiver, "demo-failing").await?;
    ensure!(state == "rolled_back", "it should have been rolled back, and is {state}");
    let task = face.task(&id).await?;
    stage.detail("what failed", task["error"]["detail"].as_str().unwrap_or_default());
    ensure!(task["error"]["step"] == "update_database", "it failed elsewhere: {}", task["error"]);
    ensure!(task["outcome"]["verified"] == true, "the rollback is not verified: {}", task["outcome"]);
    stage.done("rolled back; Kedge's fingerprints before and after are equal");
    let after = Outside::look(host, Service::Nginx, SITE).await?;
    let differences = before.differences(&after);
    ensure!(differences.is_empty(), "seen from outside it is not as before: {differences:#?}");
    stage.done("seen from outside it is as before: every byte, mode and owner, every row, grants, vhost, page; nothing left over");

    stage.title("5. The same migrate, without the broken plugin");
    plugin(host, None).await?;
    let good = Instant::now();
    let (id, state) = migrate(stage, face, receiver, "demo-good").await?;
    ensure!(state == "succeeded", "it should have succeeded, and is {state}");
    let task = face.task(&id).await?;
    let version = version_of(host, "6.8").await?;
    ensure!(version.starts_with("6.8"), "the site runs on WordPress {version}");
    let (told, seen) = (task["downtime_ms"].as_u64().unwrap_or_default(), visitor.downtime(good).as_millis());
    stage.done(&format!("{SITE} runs on WordPress {version}"));
    stage.done(&format!(
        "a visitor who asked all along saw a 503 for {seen} ms; Kedge reports at most {told} ms"
    ));
    ensure!(u128::from(told) + 100 >= seen, "Kedge reports less downtime than the visitor saw");

    stage.title("6. And back again: undo within the hold");
    let (status, undo) = face.post(&format!("/v1/tasks/{id}/undo"), &json!({})).await?;
    ensure!(status == 202, "undo was refused: {status} {undo}");
    let task = face.settled(&id_of(&undo)?, LIMIT, |task| stage.task(task)).await?;
    stage.end_of_task();
    ensure!(task["state"] == "succeeded", "undo ended {}: {}", task["state"], task["error"]);
    stage.done("the site is on WordPress 6.1 again, from the very directory and database that it had");

    stage.title("7. What others saw meanwhile");
    let answers = neighbour.since(started);
    let bad = answers.iter().filter(|seen| seen.status != 200).count();
    ensure!(bad == 0, "{bad} of {} requests to the neighbour failed", answers.len());
    stage.done(&format!("the neighbour on the same servers answered all of its {} requests", answers.len()));
    let wrong = visitor.since(started).iter().filter(|seen| !matches!(seen.status, 200 | 301 | 503)).count();
    ensure!(wrong == 0, "{wrong} requests to the site got something other than a page or a 503");
    secrets_are_kept(kedge, receiver)?;
    stage.done("no secret is in Kedge's log, journal or callbacks");
    Ok(())
}

/// Posts the signed webhook, shows the task, and the signed callback that tells how it ended.
async fn migrate(
    stage: &Stage,
    face: &Face,
    receiver: &Receiver,
    delivery: &str,
) -> Result<(String, String)> {
    let body = json!({ "site": SITE, "platform": "wordpress-68" });
    let (status, accepted) = face.hook("deploy", delivery, &body).await?;
    ensure!(status == 202, "the webhook was not accepted: {status} {accepted}");
    let id = id_of(&accepted)?;
    stage.detail("POST /v1/hooks/deploy", &format!("signed, {body} -> 202 {id}"));
    let task = face.settled(&id, LIMIT, |task| stage.task(task)).await?;
    stage.end_of_task();
    let state = task["state"].as_str().unwrap_or_default().to_owned();
    let kind = format!("task.{state}");
    support::wait_until("the callback", Duration::from_secs(30), || async {
        receiver.find(&kind, &id).is_some()
    })
    .await?;
    let callback = receiver.find(&kind, &id).context("the callback is gone")?;
    ensure!(callback.signed, "the callback's signature is wrong");
    stage.detail("signed callback", &format!("{} {}", callback.id, callback.raw));
    Ok((id, state))
}

/// Puts the broken plugin into the site, or takes it away.
async fn plugin(host: &Host, text: Option<&str>) -> Result<()> {
    let file = format!("/srv/platforms/wordpress-6.1/sites/{SITE}/wp-content/mu-plugins/shop-extras.php");
    let script = match text {
        Some(_) => "mkdir -p \"$(dirname \"$1\")\" && cat > \"$1\"",
        None => "rm \"$1\"",
    };
    host.run_ok(Exec::new(["sh", "-c", script, "sh", &file]).stdin(text.unwrap_or_default())).await?;
    Ok(())
}

/// The version in the generator tag of the site's feed, as a visitor sees it.
async fn version_of(host: &Host, expected: &str) -> Result<String> {
    let page = host.get(Service::Nginx, SITE, "/?feed=rss2").await?;
    let text = page.text();
    let version = text.split("?v=").nth(1).and_then(|rest| rest.split('<').next()).unwrap_or_default();
    ensure!(
        !version.is_empty(),
        "the feed names no version (expected {expected}): {} {}",
        page.status,
        text.chars().take(200).collect::<String>()
    );
    Ok(version.to_owned())
}

/// Looks for the secrets where they must not be.
fn secrets_are_kept(kedge: &Kedge, receiver: &Receiver) -> Result<()> {
    let log = std::fs::read(kedge.log_file())?;
    let mut places = vec![("the log".to_owned(), log)];
    let mut open = vec![kedge.dir().join("data/journal"), kedge.dir().join("data/logs")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            for entry in std::fs::read_dir(&path)? {
                open.push(entry?.path());
            }
        } else if path.is_file() {
            places.push((path.display().to_string(), std::fs::read(&path)?));
        }
    }
    places.extend(
        receiver.received().into_iter().map(|one| (format!("callback {}", one.id), one.raw.into_bytes())),
    );
    for secret in kedge.secrets() {
        for (place, bytes) in &places {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            ensure!(!found, "a secret is in {place}");
        }
    }
    Ok(())
}
