//! A hosting team's hour: many sites, tasks in random order and several at once, some broken on purpose, some canceled, the process
//! killed and restarted in between. Each task ends done or as before, no other site notices, and when everything was deleted and
//! purged, the host is as it was at the beginning. `KEDGE_TASKS` and `KEDGE_SITES` say how many, on both web servers (`just hour`);
//! otherwise it is a short one, on one of them. Needs Docker.

mod model;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kedge_testenv::Service;
use model::{HOLD, Job, Site, Sites, Standing};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use support::face::id_of;
use support::kedge::Transport;
use support::poller::Poller;
use support::wait_until;

use crate::scene::{LIMIT, NEIGHBOUR, SITE, Scene, as_before, in_turn, wanted};

/// So many tasks at once: some wait for each other's sites, and a test host has two cores.
const AT_ONCE: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn a_teams_hour_on_nginx() -> Result<()> {
    hour(Service::Nginx, Transport::Docker).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_teams_hour_on_apache_over_ssh() -> Result<()> {
    hour(Service::Apache, Transport::Ssh).await
}

/// A task that was asked for.
struct Asked {
    id: String,
    job: Job,
    at: Instant,
    canceled: bool,
}

async fn hour(server: Service, transport: Transport) -> Result<()> {
    if !wanted() || !in_turn(server, "KEDGE_TASKS") {
        return Ok(());
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seed = number("KEDGE_SEED").unwrap_or_else(rand::random);
    let tasks = number("KEDGE_TASKS").unwrap_or(10);
    let count = usize::try_from(number("KEDGE_SITES").unwrap_or(3))?;
    println!("KEDGE_SEED={seed} KEDGE_TASKS={tasks} KEDGE_SITES={count}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut scene = Scene::new(server, transport).await?;
    // Both platforms are ready, so that what the hour leaves behind is all its own.
    let third =
        json!({ "site": "third.example.test", "platform": scene.platforms[1], "database_server": "db1" });
    ended(&scene, "install", &third).await?;
    let before = scene.look().await?;
    let neighbours = [SITE, NEIGHBOUR].map(|name| Poller::start(scene.port(), name, "/"));
    let began = Instant::now();

    let mut sites = Sites::new(count, scene.platforms);
    let mut asked: Vec<Asked> = Vec::new();
    let (mut begun, mut kills) = (0, 0);
    while begun < tasks || !asked.is_empty() {
        let room = begun < tasks && asked.len() < AT_ONCE;
        if let Some(job) = if room { sites.next(&mut random) } else { None } {
            asked.extend(ask(&scene, &mut sites, job).await?);
            begun += 1;
            kills += u64::from(dies_now_and_then(&mut scene, &mut random).await?);
            continue;
        }
        let done = first_done(&scene, &mut asked).await?;
        let told = settle(&scene, &mut sites, done).await.with_context(|| format!("seed {seed}"))?;
        println!("{:>4} of {tasks}, {:>5} s: {told}", begun - asked.len() as u64, began.elapsed().as_secs());
    }
    println!(
        "{begun} tasks on {count} sites, {kills} deaths and restarts, in {} s",
        began.elapsed().as_secs()
    );
    all_gone(&scene, sites).await?;
    let gone = wait_until("an end of every hold, and a host as it was", Duration::from_secs(420), || async {
        purged(&scene).await.is_ok()
            && scene.look().await.is_ok_and(|now| before.differences(&now).is_empty())
    });
    let gone = gone.await;
    as_before(&before, &scene.look().await?, "when everything was deleted and purged")?;
    gone?;
    for neighbour in neighbours {
        let seen = neighbour.since(began);
        let bad: Vec<u16> = seen.iter().map(|seen| seen.status).filter(|status| *status != 200).collect();
        ensure!(
            bad.is_empty() && seen.len() > 20,
            "of {} requests to a neighbour failed: {bad:?}",
            seen.len()
        );
    }
    scene.end().await
}

/// kill -9, or an orderly end, some moment after every fifth task; and a new start.
async fn dies_now_and_then(scene: &mut Scene, random: &mut StdRng) -> Result<bool> {
    if !random.random_ratio(1, 5) {
        return Ok(false);
    }
    tokio::time::sleep(Duration::from_millis(random.random_range(0..4000))).await;
    if random.random_ratio(1, 4) {
        scene.kedge.stop().await?;
    } else {
        scene.kedge.kill()?;
    }
    scene.kedge.start().await?;
    Ok(true)
}

/// Asks for a task, after making what breaks it. `None`: refused, as it may be.
async fn ask(scene: &Scene, sites: &mut Sites, job: Job) -> Result<Option<Asked>> {
    let site = sites.all[job.place].clone();
    if let Some(site) = site.as_ref().filter(|_| job.broken) {
        let script = format!(
            "mkdir -p \"$(dirname {0})\"; cat > {0} <<'X'\n<?php\nif (version_compare($GLOBALS['wp_version'], '6.8', '>=')) \
             {{ add_action('template_redirect', function () {{ throw new RuntimeException('broken on purpose'); }}); }}\nX",
            plugin(site)
        );
        scene.shell(&script).await?;
    }
    let (status, answer) = match &job.params {
        Value::String(task) => scene.face.post(&format!("/v1/tasks/{task}/undo"), &json!({})).await?,
        params => {
            scene.face.post("/v1/tasks", &json!({ "workflow": job.workflow, "params": params })).await?
        }
    };
    if status != 202 {
        // Its hold may be over.
        ensure!(
            matches!(job.workflow, "undo" | "undelete") && answer.to_string().contains("hold"),
            "{job:?} was refused: {status} {answer}"
        );
        let site = sites.all[job.place].as_mut().context("it had a site")?;
        site.undo = None;
        if site.standing == Standing::Deleted {
            sites.all[job.place] = None;
        }
        return Ok(None);
    }
    sites.busy[job.place] = true;
    if let Some(read) = job.reads {
        sites.busy[read] = true;
    }
    Ok(Some(Asked { id: id_of(&answer)?, job, at: Instant::now(), canceled: false }))
}

/// Waits until one of them has ended, and cancels what has to be.
async fn first_done(scene: &Scene, asked: &mut Vec<Asked>) -> Result<(Asked, Value)> {
    let limit = Instant::now() + LIMIT;
    loop {
        for place in 0..asked.len() {
            let one = &mut asked[place];
            let due = one.job.cancel.is_some_and(|ms| one.at.elapsed() >= Duration::from_millis(ms));
            if due && !one.canceled {
                let (status, answer) =
                    scene.face.post(&format!("/v1/tasks/{}/cancel", one.id), &json!({})).await?;
                ensure!(matches!(status, 202 | 409), "cancel: {status} {answer}");
                one.canceled = true;
            }
            let task = scene.face.task(&one.id).await?;
            if matches!(task["state"].as_str(), Some("succeeded" | "rolled_back" | "canceled" | "stuck")) {
                return Ok((asked.swap_remove(place), task));
            }
            ensure!(Instant::now() < limit, "it does not end: {task}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The model goes on, and the site is as it says.
async fn settle(scene: &Scene, sites: &mut Sites, (asked, task): (Asked, Value)) -> Result<String> {
    let Asked { id, job, canceled, .. } = asked;
    let was = sites.all[job.place].clone();
    if let Some(site) = was.as_ref().filter(|_| job.broken) {
        scene.shell(&format!("rm -f {}", plugin(site))).await?;
    }
    let state = task["state"].as_str().unwrap_or_default().to_owned();
    match state.as_str() {
        "succeeded" => {
            ensure!(!job.broken, "a broken site was migrated: {task}");
            sites.all[job.place] = Some(succeeded(scene, &id, &job, was.clone(), &task).await?);
        }
        "rolled_back" if job.broken || canceled => {}
        "canceled" if canceled => {}
        _ => anyhow::bail!("ended {state}: {task}"),
    }
    ensure!(task["outcome"]["verified"] != json!(false), "not as before: {}", task["outcome"]);
    sites.busy[job.place] = false;
    if let Some(read) = job.reads {
        sites.busy[read] = false;
        looks(scene, sites.all[read].as_ref()).await?;
    }
    looks(scene, sites.all[job.place].as_ref()).await.with_context(|| format!("after {job:?}, {state}"))?;
    if let Some(was) = was.filter(|was| sites.all[job.place].as_ref().is_some_and(|is| is.name != was.name)) {
        let page = scene.host.get(scene.server, &was.name, "/").await?;
        ensure!(!page.text().contains(&was.mark), "{} is still served", was.name);
    }
    let then = &job.then;
    let canceled = if canceled { ", asked to be canceled" } else { "" };
    let broken = if job.broken { ", broken" } else { "" };
    Ok(format!(
        "{} of {} on {}: {state}{broken}{canceled}",
        job.workflow, then.name, scene.platforms[then.at]
    ))
}

/// The site as it is now, with a mark of its own after what made it anew.
async fn succeeded(scene: &Scene, id: &str, job: &Job, was: Option<Site>, task: &Value) -> Result<Site> {
    let mut site = job.then.clone();
    site.undo = was.filter(|_| job.can_be_undone()).map(|was| (id.to_owned(), Box::new(was)));
    match job.workflow {
        "backup" => {
            let name = task["result"]["backup"].as_str().context("a backup has a name")?.to_owned();
            let of = (name, site.name.clone(), site.at, site.mark.clone());
            site.backups.push(of);
            // What is changed behind it, a restore takes back.
            site.mark = format!("Mark {}", &id[id.len().saturating_sub(8)..]);
            write_mark(scene, &site).await?;
        }
        "install" | "clone" => write_mark(scene, &site).await?,
        _ => {}
    }
    Ok(site)
}

fn dir(site: &Site) -> String {
    format!("/srv/platforms/wordpress-{}/sites/{}", ["6.1", "6.8"][site.at], site.name)
}

fn plugin(site: &Site) -> String {
    format!("{}/wp-content/mu-plugins/broken.php", dir(site))
}

/// In the database and in a file.
async fn write_mark(scene: &Scene, site: &Site) -> Result<()> {
    let script = format!(
        "cd {} && mkdir -p wp-content/uploads && echo '{1}' > wp-content/uploads/mark.txt && chown -R --reference=wp-content wp-content/uploads && \
         d=$(sed -nE \"s/.*DB_NAME', *'([^']+)'.*/\\1/p\" wp-config.php) && \
         mariadb $d -e \"UPDATE wp_options SET option_value = '{1}' WHERE option_name = 'blogname'\"",
        dir(site),
        site.mark
    );
    scene.shell(&script).await.map(drop)
}

/// Pages and a file of a site tell what they should.
async fn looks(scene: &Scene, site: Option<&Site>) -> Result<()> {
    let Some(site) = site else { return Ok(()) };
    let page = scene.host.get(scene.server, &site.name, "/").await?;
    let file = scene.host.get(scene.server, &site.name, "/wp-content/uploads/mark.txt").await?;
    let told = (page.status, page.text().contains(&site.mark), file.status);
    let right = match site.standing {
        Standing::Open => told == (200, true, 200) && file.text().trim() == site.mark,
        Standing::Disabled => page.status == 503 && file.status == 503,
        Standing::Deleted => !told.1 && !file.text().contains(&site.mark),
    };
    ensure!(right, "{site:?} looks otherwise: {told:?}, its file: {:.80}", file.text());
    Ok(())
}

async fn ended(scene: &Scene, workflow: &str, params: &Value) -> Result<()> {
    let task = scene.run(workflow, params).await?;
    ensure!(task["state"] == "succeeded", "{workflow}: {task}");
    Ok(())
}

/// Every site of the hour is deleted, and every lock is free.
async fn all_gone(scene: &Scene, sites: Sites) -> Result<()> {
    for site in sites.all.into_iter().flatten() {
        looks(scene, Some(&site)).await?;
        let only = json!({ "site": site.name });
        if site.standing == Standing::Open {
            ended(scene, "disable", &only).await?;
        }
        if site.standing != Standing::Deleted {
            ended(scene, "delete", &json!({ "site": site.name, "hold": HOLD })).await?;
        }
    }
    let (_, locks) = scene.face.get("/v1/locks").await?;
    ensure!(locks["locks"].as_array().is_some_and(Vec::is_empty), "locks are left: {locks}");
    Ok(())
}

/// Purges what may be; nothing to purge is fine.
async fn purged(scene: &Scene) -> Result<()> {
    let (status, task) = scene.face.post("/v1/tasks", &json!({ "workflow": "purge", "params": {} })).await?;
    if status == 202 {
        let task = scene.face.settled(&id_of(&task)?, LIMIT, |_| ()).await?;
        ensure!(task["state"] == "succeeded", "purge: {task}");
    }
    Ok(())
}
