//! kill -9 of the whole process at random moments of migrates, renames and rollbacks: each round ends done or exactly as before, the
//! neighbour answers every request, and no secret is seen in an argument vector, a log, the journal or a callback. Needs Docker.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kedge_testenv::Service;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use support::argv::Argv;
use support::kedge::Transport;
use support::poller::Poller;

use crate::scene::{LIMIT, NEIGHBOUR, SITE, Scene, as_before, take_back, wanted};

#[tokio::test(flavor = "multi_thread")]
async fn kill_dash_nine_at_random_moments_on_nginx() -> Result<()> {
    rounds(Service::Nginx, Transport::Docker).await
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_dash_nine_at_random_moments_on_apache_over_ssh() -> Result<()> {
    rounds(Service::Apache, Transport::Ssh).await
}

/// What breaks the migrate, if anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    /// Nothing: it succeeds.
    No,
    /// The application's database update fails.
    Update,
    /// The new side's pages are fatal errors: found by the hidden check.
    Page,
}

/// A kill -9.
#[derive(Clone, Copy, Debug)]
enum Kill {
    /// So many milliseconds after the submission.
    After(u64),
    /// So many milliseconds after the rollback was seen to begin.
    InRollback(u64),
}

async fn rounds(server: Service, transport: Transport) -> Result<()> {
    if !wanted() {
        return Ok(());
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seed = number("KEDGE_SEED").unwrap_or_else(rand::random);
    let rounds = number("KEDGE_ROUNDS").unwrap_or(3);
    println!("KEDGE_SEED={seed} KEDGE_ROUNDS={rounds}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut scene = Scene::new(server, transport).await?;
    let argv = Argv::watch();
    let neighbour = Poller::start(scene.port(), NEIGHBOUR, "/");
    let began = Instant::now();
    for round in 0..rounds {
        let params = match random.random_range(0..3) {
            0 => json!({ "site": SITE, "target_platform": scene.platforms[1] }),
            1 => {
                json!({ "site": SITE, "new_site": "store.example.test", "redirect_old": random.random_bool(0.5) })
            }
            _ => {
                json!({ "site": SITE, "new_site": "store.example.test", "target_platform": scene.platforms[1] })
            }
        };
        let broken = [Broken::No, Broken::Update, Broken::Page][random.random_range(0..3)];
        let mut kills: Vec<Kill> = Vec::new();
        let mut moments: Vec<u64> =
            (0..random.random_range(0..=2)).map(|_| random.random_range(50..9000)).collect();
        moments.sort_unstable();
        kills.extend(moments.into_iter().map(Kill::After));
        if broken != Broken::No || kills.is_empty() {
            kills.push(Kill::InRollback(random.random_range(0..2500)));
        }
        println!("round {round}: {params}, broken: {broken:?}, kills: {kills:?}");
        let ended = round_of_kills(&mut scene, &params, broken, &kills).await;
        println!("  {}", ended.with_context(|| format!("round {round} of seed {seed}"))?);
    }
    let answers = neighbour.since(began);
    let bad: Vec<u16> = answers.iter().map(|seen| seen.status).filter(|status| *status != 200).collect();
    ensure!(
        bad.is_empty() && answers.len() > 20,
        "of {} requests to the neighbour failed: {bad:?}",
        answers.len()
    );
    println!("the neighbour answered all of {} requests", answers.len());
    scene.kedge.stop().await?;
    no_secret(&scene, &argv).await?;
    scene.end().await
}

/// One migrate with its kills. A finished one is taken back, so that the next round begins where this one did.
async fn round_of_kills(scene: &mut Scene, params: &Value, broken: Broken, kills: &[Kill]) -> Result<String> {
    let plugin = format!("/srv/platforms/wordpress-6.1/sites/{SITE}/wp-content/mu-plugins/broken.php");
    if let Some(code) = broken_code(broken, params) {
        let script = format!("mkdir -p \"$(dirname {plugin})\"; cat > {plugin} <<'X'\n<?php\n{code}\nX");
        scene.shell(&script).await?;
    }
    let before = scene.look().await?;
    let id = scene.face.submit("migrate", params).await?;
    let began = tokio::time::Instant::now();
    for kill in kills {
        match kill {
            Kill::After(ms) => tokio::time::sleep_until(began + Duration::from_millis(*ms)).await,
            Kill::InRollback(ms) => {
                if !rollback_begun(scene, &id).await? {
                    continue;
                }
                tokio::time::sleep(Duration::from_millis(*ms)).await;
            }
        }
        scene.kedge.kill()?;
        scene.kedge.start().await?;
    }
    let task = scene.face.settled(&id, LIMIT, |_| ()).await?;
    match task["state"].as_str() {
        Some("succeeded") => {
            ensure!(broken_code(broken, params).is_none(), "a broken site was migrated: {task}");
            let name = params["new_site"].as_str().unwrap_or(SITE);
            let page = scene.host.get(scene.server, name, "/").await?;
            ensure!(page.status == 200, "done, but {name} answers {}", page.status);
            take_back(scene, &id).await?;
            let after = scene.look().await?;
            as_before(&before.without_trash(&before), &after.without_trash(&before), "after the undo")?;
        }
        Some("rolled_back") => {
            ensure!(task["outcome"]["verified"] != json!(false), "not verified: {}", task["outcome"]);
            as_before(&before, &scene.look().await?, "after kills")?;
        }
        state => anyhow::bail!("ended {state:?}: {task}"),
    }
    scene.shell(&format!("rm -f {plugin}")).await?;
    let (_, locks) = scene.face.get("/v1/locks").await?;
    ensure!(locks["locks"].as_array().is_some_and(Vec::is_empty), "locks are left: {locks}");
    let state = task["state"].as_str().unwrap_or_default();
    Ok(format!("{state}, {} kills, verified: {}", kills.len(), task["outcome"]["verified"]))
}

/// A must-use plugin that breaks the new side only. `None` where this migrate meets nothing broken.
fn broken_code(broken: Broken, params: &Value) -> Option<String> {
    let new_version = params["target_platform"].is_string();
    let new_name = params["new_site"].is_string();
    match broken {
        Broken::No => None,
        // The database update runs on a new version only.
        Broken::Update if !new_version => None,
        Broken::Update => {
            Some("add_filter('dbdelta_queries', function ($q) { throw new RuntimeException('broken on purpose'); });".into())
        }
        Broken::Page => {
            let here = if new_name { "home_url() !== 'http://shop.example.test'" } else { "version_compare($GLOBALS['wp_version'], '6.8', '>=')" };
            Some(format!(
                "add_action('template_redirect', function () {{ if ({here}) {{ throw new RuntimeException('broken on purpose'); }} }});"
            ))
        }
    }
}

/// Whether the task was seen rolling back; `false` when it ended before.
async fn rollback_begun(scene: &Scene, id: &str) -> Result<bool> {
    let end = Instant::now() + LIMIT;
    loop {
        let task = scene.face.task(id).await?;
        match task["state"].as_str() {
            Some("compensating") => return Ok(true),
            Some("queued" | "running" | "waiting") => tokio::time::sleep(Duration::from_millis(20)).await,
            _ => return Ok(false),
        }
        ensure!(Instant::now() < end, "it neither ends nor rolls back: {task}");
    }
}

/// Looks for Kedge's secrets and the sites' database passwords where they must not be.
async fn no_secret(scene: &Scene, argv: &Argv) -> Result<()> {
    let script = "sed -nE \"s/.*DB_PASSWORD', *'([^']+)'.*/\\1/p\" $(find /srv/platforms -path '*/sites/*' -name wp-config.php)";
    let mut secrets: Vec<String> = scene.shell(script).await?.lines().map(str::to_owned).collect();
    ensure!(
        secrets.len() > 1 && secrets.iter().all(|secret| secret.len() > 10),
        "the passwords were not found"
    );
    secrets.extend(scene.kedge.secrets().map(str::to_owned));
    ensure!(argv.count() > 50, "only {} argument vectors were seen", argv.count());
    let seen = argv.with(&secrets);
    ensure!(seen.is_empty(), "{} argument vectors have a secret in them", seen.len());
    let data = scene.kedge.dir().join("data");
    for place in [scene.kedge.log_file(), data.join("journal"), data.join("logs")] {
        for secret in &secrets {
            let found =
                std::process::Command::new("grep").args(["-rqF", "-e", secret]).arg(&place).status()?;
            ensure!(found.code() == Some(1), "a secret is in {} ({found})", place.display());
        }
    }
    let callbacks = scene.receiver.received();
    ensure!(!callbacks.is_empty(), "no callback came");
    let told = callbacks
        .iter()
        .filter(|body| secrets.iter().any(|secret| body.raw.contains(secret.as_str())))
        .count();
    ensure!(told == 0, "{told} callbacks have a secret in them");
    println!(
        "{} secrets are in none of {} argument vectors, nor in log, journal and callbacks",
        secrets.len(),
        argv.count()
    );
    Ok(())
}
