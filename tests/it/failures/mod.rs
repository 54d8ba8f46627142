//! The failure cases that a hosting team meets, played on real servers. A table in words: each case with its expected end; what is not
//! played yet stands in it as open. Each is played on one of the two web servers, by a printed seed; `KEDGE_CASES=all` plays all on both,
//! `KEDGE_CASE=36` one. Needs Docker.

mod app;
mod database;
mod disk;
mod remote;
mod table;
mod task;
mod web;

use std::pin::Pin;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kedge_testenv::Service;
use serde_json::{Value, json};
use support::kedge::Transport;
use support::outside::Outside;

use crate::scene::{LIMIT, SITE, Scene, as_before, take_back, wanted};

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
    /// `None`: not played yet, or played elsewhere.
    play: Option<Play>,
}

#[tokio::test(flavor = "multi_thread")]
async fn failure_cases_on_nginx() -> Result<()> {
    play(Service::Nginx, Transport::Docker).await
}

#[tokio::test(flavor = "multi_thread")]
async fn failure_cases_on_apache_over_ssh() -> Result<()> {
    play(Service::Apache, Transport::Ssh).await
}

/// Which half of the cases each web server plays: by a seed that is one for both. `None`: all.
fn turn() -> Option<u64> {
    static SEED: LazyLock<u64> = LazyLock::new(rand::random);
    if std::env::var("KEDGE_CASES").is_ok_and(|cases| cases == "all") {
        return None;
    }
    let seed = std::env::var("KEDGE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(*SEED);
    println!("KEDGE_SEED={seed}");
    Some(seed)
}

async fn play(server: Service, transport: Transport) -> Result<()> {
    if !wanted() {
        return Ok(());
    }
    let only: Option<u8> = std::env::var("KEDGE_CASE").ok().and_then(|number| number.parse().ok());
    let turn = turn();
    let mine = |place: usize| {
        turn.is_none_or(|turn| {
            (place as u64).wrapping_add(turn).is_multiple_of(2) == (server == Service::Nginx)
        })
    };
    let mut scene = Scene::new(server, transport).await?;
    let mut failed = Vec::new();
    let played = table::CASES.iter().filter(|case| case.play.is_some()).enumerate();
    for (place, case) in played.filter(|(_, case)| only.is_none_or(|only| only == case.number)) {
        let Some(play) = case.play.filter(|_| only.is_some() || mine(place)) else { continue };
        let began = Instant::now();
        let played = play(&mut scene).await;
        let sign = if played.is_ok() { "✓" } else { "✗" };
        println!("  {sign} {:>2} {} ({:.1} s)", case.number, case.words, began.elapsed().as_secs_f32());
        if let Err(error) = played {
            failed.push(format!("{} {}: {error:#}", case.number, case.words));
            // What a failed case leaves behind would spoil the next one.
            println!("    {error:#}\n{}", scene.kedge.log_end(12));
            scene.end().await?;
            scene = Scene::new(server, transport).await?;
        }
    }
    let open = table::CASES.iter().filter(|case| case.play.is_none()).count();
    println!("{} cases, {open} of them open", table::CASES.len());
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
