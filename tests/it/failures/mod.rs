//! The failure cases that a hosting team meets, played on real servers. A table in words: each case with its expected end, none of them
//! open. Each belongs to one of the two web servers, by a printed seed, which also says in which order they come until the time is over;
//! `KEDGE_CASES=all` plays all on both, `KEDGE_CASE=36,40` some. Needs Docker.

mod app;
mod archives;
mod batch;
mod database;
mod disk;
mod drupal;
mod dumps;
mod engine;
mod faults;
mod names;
mod remote;
mod sites;
mod space;
mod table;
mod task;
mod vhosts;
mod web;

use std::pin::Pin;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kedge_testenv::Service;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use serde_json::{Value, json};
use support::face::id_of;
use support::kedge::Transport;
use support::outside::Outside;

use crate::scene::{LIMIT, SITE, Scene, as_before, take_back, wanted};

/// How long a web server plays cases when not all are asked for: a share of what CI may take. The case in hand is played to its end.
const SHARE: Duration = Duration::from_secs(180);
/// Longest wait for a step to begin.
const STEP: Duration = Duration::from_secs(90);

/// How a case is played: it fails where Kedge does not behave as the words say.
type Play = for<'a> fn(&'a mut Scene) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// One case.
struct Case {
    /// Its number in the list.
    number: u8,
    /// What happens, and what must come of it.
    words: &'static str,
    play: Play,
    /// The test without containers that carries the claim where the code that it needs is not at hand.
    beside: Option<&'static str>,
}

#[tokio::test(flavor = "multi_thread")]
async fn failure_cases_on_nginx() -> Result<()> {
    play(Service::Nginx, Transport::Docker).await
}

#[tokio::test(flavor = "multi_thread")]
async fn failure_cases_on_apache_over_ssh() -> Result<()> {
    play(Service::Apache, Transport::Ssh).await
}

#[test]
fn the_table_has_every_case() {
    let open: Vec<u8> =
        (1..=73).filter(|number| !table::CASES.iter().any(|case| case.number == *number)).collect();
    println!("{} cases, {} of the 73 open", table::CASES.len(), open.len());
    assert!(open.is_empty(), "no case plays {open:?}");
}

/// What stands in for a case where its code is not at hand has to be there.
#[test]
fn a_test_that_carries_a_case_is_there() {
    let files = ["../workflows/tests/matrix/packages.rs", "../drivers/src/app/tests/drupal_replayed.rs"];
    let texts = files.map(|file| std::fs::read_to_string(file).unwrap_or_default());
    for case in table::CASES {
        if let Some(test) = case.beside {
            let there = texts.iter().any(|text| {
                text.contains(&format!("#[test]\nfn {test}()"))
                    || text.contains(&format!("#[test]\n    fn {test}()"))
            });
            assert!(there, "case {}: there is no test {test} in {files:?}", case.number);
        }
    }
}

/// The cases that a web server plays, in their order, and for how long.
fn chosen(server: Service) -> (Vec<&'static Case>, Duration) {
    static SEED: LazyLock<u64> = LazyLock::new(rand::random);
    let played = table::CASES.iter();
    if let Ok(only) = std::env::var("KEDGE_CASE") {
        let only: Vec<u8> = only.split(',').filter_map(|number| number.trim().parse().ok()).collect();
        return (played.filter(|case| only.contains(&case.number)).collect(), Duration::MAX);
    }
    if std::env::var("KEDGE_CASES").is_ok_and(|cases| cases == "all") {
        return (played.collect(), Duration::MAX);
    }
    let seed = std::env::var("KEDGE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(*SEED);
    println!("KEDGE_SEED={seed}");
    let mut all: Vec<_> = played.collect();
    all.shuffle(&mut StdRng::seed_from_u64(seed));
    let mine =
        all.into_iter().enumerate().filter(|(place, _)| (place % 2 == 0) == (server == Service::Nginx));
    (mine.map(|(_, case)| case).collect(), SHARE)
}

async fn play(server: Service, transport: Transport) -> Result<()> {
    if !wanted() {
        return Ok(());
    }
    let (cases, time) = chosen(server);
    let mut scene = Scene::new(server, transport).await?;
    let (begin, mut played, mut failed) = (Instant::now(), 0, Vec::new());
    for case in &cases {
        if begin.elapsed() > time {
            break;
        }
        let began = Instant::now();
        let result = (case.play)(&mut scene).await;
        played += 1;
        let sign = if result.is_ok() { "✓" } else { "✗" };
        println!("  {sign} {:>2} {} ({:.1} s)", case.number, case.words, began.elapsed().as_secs_f32());
        if let Err(error) = result {
            failed.push(format!("{} {}: {error:#}", case.number, case.words));
            // What a failed case leaves behind would spoil the next one.
            println!("    {error:#}\n{}", scene.kedge.log_end(12));
            scene.end().await?;
            scene = Scene::new(server, transport).await?;
        }
    }
    println!(
        "failure cases: {played} played on {server}, {} held, {} left to other seeds",
        played - failed.len(),
        cases.len() - played
    );
    scene.end().await?;
    ensure!(failed.is_empty(), "{} cases failed:\n{}", failed.len(), failed.join("\n"));
    Ok(())
}

/// The parameters of a move to the other platform.
fn to_the_other_platform(scene: &Scene) -> Value {
    json!({ "site": SITE, "target_platform": scene.platforms[1] })
}

/// A migrate that has to be rolled back, verified, for a reason with these words in it; everything is as before.
async fn rolls_back(scene: &Scene, before: &Outside, params: &Value, reason: &str) -> Result<()> {
    let task = scene.run("migrate", params).await?;
    rolled_back(scene, before, &task, reason).await
}

async fn rolled_back(scene: &Scene, before: &Outside, task: &Value, reason: &str) -> Result<()> {
    ensure!(task["state"] == "rolled_back", "not rolled back: {task}");
    ensure!(task["outcome"]["verified"] != json!(false), "not verified: {}", task["outcome"]);
    let detail = task["error"].to_string();
    ensure!(detail.contains(reason), "{reason:?} is not in the reason: {detail}");
    as_before(before, &scene.look().await?, "after the rollback")
}

/// A migrate that has to succeed, whatever happens meanwhile; then it is taken back.
async fn succeeds(scene: &Scene, before: &Outside, params: &Value) -> Result<Value> {
    let task = scene.run("migrate", params).await?;
    ensure!(task["state"] == "succeeded", "it did not succeed: {task}");
    returns(scene, before, &task).await?;
    Ok(task)
}

/// Takes a finished migrate back; the site is as it was.
async fn returns(scene: &Scene, before: &Outside, task: &Value) -> Result<()> {
    take_back(scene, task["id"].as_str().unwrap_or_default()).await?;
    let after = scene.look().await?;
    as_before(&before.without_trash(before), &after.without_trash(before), "after the undo")
}

/// Done or as before, nothing between; a finished task is taken back.
async fn done_or_as_before(scene: &Scene, before: &Outside, id: &str) -> Result<()> {
    let task = scene.face.settled(id, LIMIT, |_| ()).await?;
    match task["state"].as_str() {
        Some("succeeded") => returns(scene, before, &task).await,
        _ => rolled_back(scene, before, &task, "").await,
    }
}

/// Waits until a step of the task runs.
async fn when(scene: &Scene, id: &str, step: &str) -> Result<()> {
    let end = Instant::now() + STEP;
    loop {
        let task = scene.face.task(id).await?;
        let steps = task["steps"].as_array().context("a task without steps")?;
        let state = steps.iter().find(|one| one["name"] == step).context("no such step")?["state"].clone();
        if state == "running" {
            return Ok(());
        }
        ensure!(state == "pending" || state == "waiting", "{step} was {state} before it was seen running");
        ensure!(Instant::now() < end, "{step} did not begin: {task}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A task that has to succeed.
async fn done(scene: &Scene, workflow: &str, params: &Value) -> Result<Value> {
    let task = scene.run(workflow, params).await?;
    ensure!(task["state"] == "succeeded", "{workflow} {params}: {task}");
    Ok(task)
}

/// A request that has to be refused at once with this status, with these words in its answer.
async fn refused(scene: &Scene, workflow: &str, params: &Value, expected: u16, words: &str) -> Result<()> {
    let (status, answer) =
        scene.face.post("/v1/tasks", &json!({ "workflow": workflow, "params": params })).await?;
    ensure!(status == expected, "{workflow} {params}: {status} {answer}");
    ensure!(answer.to_string().contains(words), "{workflow} {params}: {words:?} is not in {answer}");
    Ok(())
}

/// Installs a small site beside the others; its record names its database.
async fn install(scene: &Scene, site: &str, more: &Value) -> Result<()> {
    let mut params = json!({ "site": site, "platform": scene.platforms[0], "database_server": "db1" });
    for (name, value) in more.as_object().into_iter().flatten() {
        params[name] = value.clone();
    }
    done(scene, "install", &params).await.map(drop)
}

/// Removes such a site, and what it would keep.
async fn gone(scene: &Scene, site: &str) -> Result<()> {
    let disable = json!({ "workflow": "disable", "params": { "site": site, "force": true } });
    let (status, answer) = scene.face.post("/v1/tasks", &disable).await?;
    ensure!(
        status == 202 || answer.to_string().contains("disabled already"),
        "disable {site}: {status} {answer}"
    );
    if status == 202 {
        scene.face.settled(&id_of(&answer)?, LIMIT, |_| ()).await?;
    }
    done(scene, "delete", &json!({ "site": site, "force": true, "hold": "0m" })).await?;
    purged(scene, site).await
}

/// Purges the trash of a site.
async fn purged(scene: &Scene, site: &str) -> Result<()> {
    done(scene, "purge", &json!({ "site": site })).await.map(drop)
}

/// Asks a site for its first page.
async fn answers(scene: &Scene, site: &str, expected: u16) -> Result<()> {
    let page = scene.host.get(scene.server, site, "/").await?;
    ensure!(page.status == expected, "{site} answers {} instead of {expected}", page.status);
    Ok(())
}

/// The directory of a site on the old or the new platform (0 or 1).
fn dir_of(platform: usize, site: &str) -> String {
    format!("/srv/platforms/wordpress-{}/sites/{site}", ["6.1", "6.8"][platform])
}

/// The database that a site's settings name.
async fn database_of(scene: &Scene, platform: usize, site: &str) -> Result<String> {
    let script =
        format!("sed -nE \"s/.*DB_NAME', *'([^']+)'.*/\\1/p\" {}/wp-config.php", dir_of(platform, site));
    let name = scene.shell(&script).await?.trim().to_owned();
    ensure!(!name.is_empty(), "the settings of {site} name no database");
    Ok(name)
}

/// What a query says about the host's database server.
async fn sql(scene: &Scene, database: &str, query: &str) -> Result<String> {
    let argv = ["mariadb", "--default-character-set=utf8mb4", "-N", "--batch", database];
    Ok(scene.host.run_ok(kedge_testenv::Exec::new(argv).stdin(query)).await?.text())
}
