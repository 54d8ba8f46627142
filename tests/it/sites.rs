//! Whole tasks on real sites, from the webhook to the callback: migrates, renames, failures, and kill -9 at random moments. What is
//! left is compared from outside. Needs Docker.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kedge_testenv::wordpress::{SeedSpec, seed};
use kedge_testenv::{Exec, Host, HostSpec, Progress, Service, Testenv};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use support::face::{Face, id_of};
use support::kedge::{Kedge, Transport};
use support::outside::Outside;
use support::poller::Poller;
use support::receiver::Receiver;

const LIMIT: Duration = Duration::from_secs(300);
const SITE: &str = "shop.example.test";
const NEIGHBOUR: &str = "neighbour.example.test";

/// A host, a Kedge on it, a filled site and a neighbour.
struct Scene {
    face: Face,
    kedge: Kedge,
    receiver: Receiver,
    server: Service,
    platforms: [&'static str; 2],
    host: Host,
    env: Testenv,
}

impl Scene {
    async fn new(server: Service, transport: Transport) -> Result<Self> {
        let env = Testenv::open(&Progress::stderr()).await?;
        let host = Host::start(&env, &HostSpec::web_and_database("web1")).await?;
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let mut kedge = Kedge::prepare(&host, transport, port)?;
        let receiver = Receiver::start_on(port, &kedge.callback_secret).await?;
        kedge.start().await?;
        let face = kedge.face()?;
        let platforms = match server {
            Service::Apache => ["apache-61", "apache-68"],
            _ => ["wordpress-61", "wordpress-68"],
        };
        let scene = Self { face, kedge, receiver, server, platforms, host, env };
        for site in [SITE, NEIGHBOUR] {
            let params = json!({ "site": site, "platform": platforms[0], "database_server": "db1" });
            let task = scene.run("install", &params).await?;
            ensure!(task["state"] == "succeeded", "install: {task}");
        }
        seed(&scene.host, &SeedSpec::new("/srv/platforms/wordpress-6.1", SITE, 40, 7)).await?;
        Ok(scene)
    }

    async fn run(&self, workflow: &str, params: &Value) -> Result<Value> {
        let id = self.face.submit(workflow, params).await?;
        self.face.settled(&id, LIMIT, |_| ()).await
    }

    async fn look(&self) -> Result<Outside> {
        Outside::look(&self.host, self.server, SITE).await
    }

    async fn shell(&self, script: &str) -> Result<String> {
        Ok(self.host.run_ok(Exec::new(["sh", "-c", script])).await?.text())
    }

    fn port(&self) -> u16 {
        if self.server == Service::Apache { self.host.apache_port() } else { self.host.http_port() }
    }

    async fn end(mut self) -> Result<()> {
        self.kedge.stop().await?;
        let (sound, fsck) = self.kedge.command(&["journal", "fsck"])?;
        ensure!(sound, "journal fsck: {fsck}");
        self.host.shutdown().await?;
        self.env.shutdown().await?;
        Ok(())
    }
}

fn wanted() -> bool {
    let wanted = std::env::var_os("KEDGE_DOCKER_TESTS").is_some_and(|value| value == "1");
    if !wanted {
        println!("skipped: needs Docker; scripts/test runs it");
    }
    wanted
}

fn as_before(before: &Outside, after: &Outside, when: &str) -> Result<()> {
    let differences = before.differences(after);
    ensure!(differences.is_empty(), "{when}: not as before: {differences:#?}");
    Ok(())
}

/// Moves on or back by hand of Kedge's own verbs, so that the next round begins where this one did.
async fn take_back(scene: &Scene, id: &str) -> Result<()> {
    let (status, undo) = scene.face.post(&format!("/v1/tasks/{id}/undo"), &json!({})).await?;
    ensure!(status == 202, "undo: {status} {undo}");
    let task = scene.face.settled(&id_of(&undo)?, LIMIT, |_| ()).await?;
    ensure!(task["state"] == "succeeded", "undo: {task}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_migrates_is_renamed_and_rolls_back_on_nginx() -> Result<()> {
    if !wanted() {
        return Ok(());
    }
    let scene = Scene::new(Service::Nginx, Transport::Docker).await?;
    moves(&scene).await?;
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_migrates_is_renamed_and_rolls_back_on_apache_over_ssh() -> Result<()> {
    if !wanted() {
        return Ok(());
    }
    let scene = Scene::new(Service::Apache, Transport::Ssh).await?;
    moves(&scene).await?;
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

#[tokio::test(flavor = "multi_thread")]
async fn kill_dash_nine_at_random_moments_ends_done_or_as_before() -> Result<()> {
    if !wanted() {
        return Ok(());
    }
    let seed: u64 =
        std::env::var("KEDGE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    let rounds: u32 = std::env::var("KEDGE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
    println!("KEDGE_SEED={seed} KEDGE_ROUNDS={rounds}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut scene = Scene::new(Service::Nginx, Transport::Docker).await?;
    for round in 0..rounds {
        let broken = random.random_bool(0.5);
        let mut kills: Vec<u64> =
            (0..random.random_range(1..=2)).map(|_| random.random_range(50..9000)).collect();
        kills.sort_unstable();
        println!("round {round}: broken update: {broken}, kills after {kills:?} ms");
        round_of_kills(&mut scene, broken, &kills)
            .await
            .with_context(|| format!("round {round} of seed {seed}"))?;
    }
    scene.end().await
}

async fn round_of_kills(scene: &mut Scene, broken: bool, kills: &[u64]) -> Result<()> {
    let plugin = format!("/srv/platforms/wordpress-6.1/sites/{SITE}/wp-content/mu-plugins/broken.php");
    if broken {
        let script = format!(
            "mkdir -p \"$(dirname {plugin})\"; cat > {plugin} <<'X'\n<?php\nadd_filter('dbdelta_queries', function ($q) {{ throw new RuntimeException('broken on purpose'); }});\nX"
        );
        scene.shell(&script).await?;
    }
    let before = scene.look().await?;
    let params = json!({ "site": SITE, "target_platform": scene.platforms[1] });
    let id = scene.face.submit("migrate", &params).await?;
    let began = tokio::time::Instant::now();
    for kill in kills {
        tokio::time::sleep_until(began + Duration::from_millis(*kill)).await;
        scene.kedge.kill()?;
        scene.kedge.start().await?;
    }
    let task = scene.face.settled(&id, LIMIT, |_| ()).await?;
    match task["state"].as_str() {
        Some("succeeded") => {
            ensure!(!broken, "a broken update succeeded: {task}");
            let page = scene.host.get(scene.server, SITE, "/").await?;
            ensure!(page.status == 200, "done, but the site answers {}", page.status);
            take_back(scene, &id).await?;
        }
        Some("rolled_back") => {
            ensure!(task["outcome"]["verified"] != json!(false), "not verified: {}", task["outcome"]);
            as_before(&before, &scene.look().await?, "after kills")?;
        }
        state => anyhow::bail!("ended {state:?}: {task}"),
    }
    if broken {
        scene.shell(&format!("rm {plugin}")).await?;
    }
    let (_, locks) = scene.face.get("/v1/locks").await?;
    ensure!(locks["locks"].as_array().is_some_and(Vec::is_empty), "locks are left: {locks}");
    Ok(())
}
