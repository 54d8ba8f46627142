//! `kedge drill` on real sites: a sample of the crash and failure matrix of migrate, install, and of another workflow, chosen by a printed
//! seed, on nginx and on Apache; with `KEDGE_DRILL_POINTS` these of every workflow, or of those that
//! `KEDGE_DRILL_WORKFLOWS` names (`migrate,install`). Before and after, the whole host is looked at from outside. Needs Docker.

use anyhow::{Context as _, Result, ensure};
use kedge_testenv::Service;
use serde_json::{Value, json};
use support::kedge::{Kedge, Transport};

use crate::import;
use crate::scene::{NEIGHBOUR, SITE, Scene, as_before, wanted};

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_of_a_drill_holds_on_nginx() -> Result<()> {
    let change = ["target_platform=wordpress-68"];
    drilled(Service::Nginx, Transport::Docker, &change).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_of_a_drill_with_a_rename_holds_on_apache_over_ssh() -> Result<()> {
    let change = ["target_platform=apache-68", "new_site=store.example.test", "redirect_old=true"];
    drilled(Service::Apache, Transport::Ssh, &change).await
}

/// A workflow that can be drilled besides install and migrate.
struct Other {
    workflow: &'static str,
    /// Its parameters; what is written large stands for what a scene has.
    params: &'static [&'static str],
    /// Whether the site is closed when it begins.
    closed: bool,
    /// Whether it is the undo that is drilled.
    undo: bool,
}

/// The others.
const OTHERS: &[Other] = &[
    other("backup", &["site=SITE"], false),
    other("verify", &["site=SITE"], false),
    other("rehearse", &["site=SITE", "backup=BACKUP"], false),
    other("pin", &["site=SITE", "backup=BACKUP"], false),
    other("restore", &["site=SITE", "backup=BACKUP"], false),
    other("clone", &["site=SITE", "new_site=copy.example.test"], false),
    other("configure", &["site=SITE", "www=true", "redirect_to=www.shop.example.test"], false),
    other("login", &["site=SITE"], false),
    other("purge", &["site=SITE"], false),
    other(
        "migrate_platform",
        &["platform=PLATFORM", "target_platform=TARGET", r#"sites=["SITE","NEIGHBOUR"]"#],
        false,
    ),
    other(IMPORT, &["platform=PLATFORM", "path=HANDMADE", r#"aliases=["www.hand.example.test"]"#], false),
    other("disable", &["site=SITE"], false),
    other("enable", &["site=SITE"], true),
    other("delete", &["site=SITE"], true),
    Other { undo: true, ..other("delete", &["site=SITE"], true) },
    other("undelete", &["site=SITE"], true),
];

/// It needs a site that somebody has made by hand.
const IMPORT: &str = "import";

const fn other(workflow: &'static str, params: &'static [&'static str], closed: bool) -> Other {
    Other { workflow, params, closed, undo: false }
}

async fn drilled(server: Service, transport: Transport, change: &[&str]) -> Result<()> {
    if !wanted() {
        return Ok(());
    }
    let seed = std::env::var("KEDGE_SEED").unwrap_or_else(|_| rand::random::<u32>().to_string());
    let asked = std::env::var("KEDGE_DRILL_POINTS").ok();
    // Of each workflow what is asked for; else, in CI's time, a few points of some.
    let all = asked.is_some();
    let (points, few): (String, String) =
        asked.map_or(("sample:4".into(), "sample:2".into()), |asked| (asked.clone(), asked));
    println!("KEDGE_SEED={seed} KEDGE_DRILL_POINTS={points}");
    let mut scene = Scene::new(server, transport).await?;
    let (held, said) = scene.kedge.command(&["drill", "backup", "--site", SITE])?;
    ensure!(!held && said.contains("stop `kedge serve`"), "beside a service: {said}");
    // A drill of verify begins with a site as it should be: what it puts right, nothing makes wrong again.
    let verified = scene.run("verify", &json!({ "site": SITE })).await?;
    ensure!(verified["state"] == "succeeded", "verify: {verified}");
    let chosen = chosen(&seed, all);
    if chosen.iter().any(|other| other.workflow == IMPORT) {
        import::make(&scene).await?;
    }
    let before = scene.look().await?;
    others(&mut scene, &chosen, &seed, &few).await?;

    scene.kedge.stop().await?;
    if named("migrate") {
        let site = format!("site={SITE}");
        let change: Vec<String> =
            std::iter::once(site.as_str()).chain(change.iter().copied()).map(str::to_owned).collect();
        let report = drill(&scene.kedge, "migrate", &change, &seed, &points, false)?;
        let drilled = report["points"].as_array().context("the report has no points")?;
        ensure!(drilled.len() > 2, "nothing was drilled: {report}");
    }
    if named("install") {
        let platform = format!("platform={}", scene.platforms[0]);
        let new = ["site=new.example.test".to_owned(), platform, "database_server=db1".to_owned()];
        drill(&scene.kedge, "install", &new, &seed, &few, false)?;
    }
    as_before(&before, &scene.look().await?, "after the drills")?;
    scene.end().await
}

/// Whether a workflow is among those to be drilled: all, unless some are named.
fn named(workflow: &str) -> bool {
    std::env::var("KEDGE_DRILL_WORKFLOWS").map_or(true, |names| names.split(',').any(|name| name == workflow))
}

/// The others that are drilled: one that the seed chooses, or all; of these, what is named.
fn chosen(seed: &str, all: bool) -> Vec<&'static Other> {
    let one = seed.bytes().fold(0, |sum, byte| sum * 31 + usize::from(byte)) % OTHERS.len();
    let chosen = OTHERS.iter().enumerate().filter(|(place, _)| all || *place == one);
    chosen.map(|(_, other)| other).filter(|other| named(other.workflow)).collect()
}

/// Drills the others; then the site is open again.
async fn others(scene: &mut Scene, chosen: &[&Other], seed: &str, points: &str) -> Result<()> {
    let backup = scene.run("backup", &json!({ "site": SITE })).await?;
    let (_, backups) = scene.face.get("/v1/backups").await?;
    let name = backups["backups"][0]["name"].as_str().with_context(|| format!("no backup: {backup}"))?;
    let of_scene = [
        ("SITE", SITE),
        ("NEIGHBOUR", NEIGHBOUR),
        ("BACKUP", name),
        ("PLATFORM", scene.platforms[0]),
        ("TARGET", scene.platforms[1]),
        ("HANDMADE", import::DIR),
    ];
    let filled =
        |param: &&str| of_scene.iter().fold((*param).to_owned(), |text, (of, is)| text.replace(of, is));
    let mut closed = false;
    for other in chosen {
        if other.closed && !closed {
            let task = scene.run("disable", &json!({ "site": SITE })).await?;
            ensure!(task["state"] == "succeeded", "disable: {task}");
            closed = true;
        }
        scene.kedge.stop().await?;
        let params: Vec<String> = other.params.iter().map(filled).collect();
        drill(&scene.kedge, other.workflow, &params, seed, points, other.undo)?;
        scene.kedge.start().await?;
    }
    if closed {
        let task = scene.run("enable", &json!({ "site": SITE })).await?;
        ensure!(task["state"] == "succeeded", "enable: {task}");
    }
    Ok(())
}

/// Drills, shows what it said, and gives its report.
fn drill(
    kedge: &Kedge,
    workflow: &str,
    params: &[String],
    seed: &str,
    points: &str,
    undo: bool,
) -> Result<Value> {
    let dir = kedge.dir().join("report");
    let dir = dir.to_str().context("the report's directory is no text")?;
    let mut args = vec!["drill", workflow, "--seed", seed, "--points", points, "--report", dir];
    params.iter().for_each(|param| args.extend(["--param", param.as_str()]));
    args.extend(undo.then_some("--undo"));
    let (held, said) = kedge.command(&args)?;
    println!("{said}");
    ensure!(held, "the drill of {workflow} found something");
    let report = serde_json::from_slice(&std::fs::read(kedge.dir().join("report/report.json"))?)?;
    let page = std::fs::read_to_string(kedge.dir().join("report/report.html"))?;
    ensure!(page.contains("<svg") && page.contains("every point held"), "the page lacks something");
    Ok(report)
}
