//! `kedge drill` on real sites: a sample of a migrate's and an install's crash and failure matrix, chosen by a printed seed, on nginx and on
//! Apache. Before and after, the whole host is looked at from outside. Needs Docker.

use anyhow::{Context as _, Result, ensure};
use kedge_testenv::Service;
use serde_json::Value;
use support::kedge::{Kedge, Transport};

use crate::scene::{SITE, Scene, as_before, wanted};

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

async fn drilled(server: Service, transport: Transport, change: &[&str]) -> Result<()> {
    if !wanted() {
        return Ok(());
    }
    let seed = std::env::var("KEDGE_SEED").unwrap_or_else(|_| rand::random::<u32>().to_string());
    let points = std::env::var("KEDGE_DRILL_POINTS").unwrap_or_else(|_| "sample:4".to_owned());
    println!("KEDGE_SEED={seed} KEDGE_DRILL_POINTS={points}");
    let mut scene = Scene::new(server, transport).await?;
    let (held, said) = scene.kedge.command(&["drill", "backup", "--site", SITE])?;
    ensure!(!held && said.contains("stop `kedge serve`"), "beside a service: {said}");
    scene.kedge.stop().await?;

    let before = scene.look().await?;
    let mut params = vec![format!("site={SITE}")];
    params.extend(change.iter().map(|param| (*param).to_owned()));
    let report = drill(&scene.kedge, "migrate", &params, &seed, &points)?;
    let drilled = report["points"].as_array().context("the report has no points")?;
    ensure!(drilled.len() > 2, "nothing was drilled: {report}");
    let platform = format!("platform={}", scene.platforms[0]);
    let new = ["site=new.example.test".to_owned(), platform, "database_server=db1".to_owned()];
    drill(&scene.kedge, "install", &new, &seed, "sample:2")?;
    as_before(&before, &scene.look().await?, "after the drills")?;
    scene.end().await
}

/// Drills, shows what it said, and gives its report.
fn drill(kedge: &Kedge, workflow: &str, params: &[String], seed: &str, points: &str) -> Result<Value> {
    let dir = kedge.dir().join("report");
    let dir = dir.to_str().context("the report's directory is no text")?;
    let mut args = vec!["drill", workflow, "--seed", seed, "--points", points, "--report", dir];
    params.iter().for_each(|param| args.extend(["--param", param.as_str()]));
    let (held, said) = kedge.command(&args)?;
    println!("{said}");
    ensure!(held, "the drill of {workflow} found something");
    let report = serde_json::from_slice(&std::fs::read(kedge.dir().join("report/report.json"))?)?;
    let page = std::fs::read_to_string(kedge.dir().join("report/report.html"))?;
    ensure!(page.contains("<svg") && page.contains("every point held"), "the page lacks something");
    Ok(report)
}
