//! `kedge drill` on real sites: a sample of a migrate's and an install's crash and failure matrix, chosen by a printed seed, on nginx and on
//! Apache. Before and after, the whole host is looked at from outside. Needs Docker.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kedge_testenv::wordpress::{SeedSpec, seed};
use kedge_testenv::{Host, HostSpec, Progress, Service, Testenv};
use serde_json::{Value, json};
use support::kedge::{Kedge, Transport};
use support::outside::Outside;

const LIMIT: Duration = Duration::from_secs(300);
const SITE: &str = "shop.example.test";

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_of_a_drill_holds_on_nginx() -> Result<()> {
    let change = ["target_platform=wordpress-68"];
    drilled(Service::Nginx, Transport::Docker, "wordpress-61", &change).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_of_a_drill_with_a_rename_holds_on_apache_over_ssh() -> Result<()> {
    let change = ["target_platform=apache-68", "new_site=store.example.test", "redirect_old=true"];
    drilled(Service::Apache, Transport::Ssh, "apache-61", &change).await
}

async fn drilled(server: Service, transport: Transport, platform: &str, change: &[&str]) -> Result<()> {
    if std::env::var_os("KEDGE_DOCKER_TESTS").is_none_or(|value| value != "1") {
        println!("skipped: needs Docker; scripts/test runs it");
        return Ok(());
    }
    let seed = std::env::var("KEDGE_SEED").unwrap_or_else(|_| rand::random::<u32>().to_string());
    let points = std::env::var("KEDGE_DRILL_POINTS").unwrap_or_else(|_| "sample:6".to_owned());
    println!("KEDGE_SEED={seed} KEDGE_DRILL_POINTS={points}");
    let env = Testenv::open(&Progress::stderr()).await?;
    let host = Host::start(&env, &HostSpec::web_and_database("web1")).await?;
    let mut kedge = Kedge::prepare(&host, transport, 9)?;
    kedge.start().await?;
    let face = kedge.face()?;
    let params = json!({ "site": SITE, "platform": platform, "database_server": "db1" });
    let id = face.submit("install", &params).await?;
    let task = face.settled(&id, LIMIT, |_| ()).await?;
    ensure!(task["state"] == "succeeded", "install: {task}");
    seed_site(&host).await?;
    let busy = kedge.command(&["drill", "backup", "--site", SITE])?;
    ensure!(!busy.0 && busy.1.contains("stop `kedge serve`"), "beside a service: {busy:?}");
    kedge.stop().await?;

    let before = Outside::look(&host, server, SITE).await?;
    let mut params = vec![format!("site={SITE}")];
    params.extend(change.iter().map(|param| (*param).to_owned()));
    let report = drill(&kedge, "migrate", &params, &seed, &points)?;
    let parts = report["points"].as_array().context("the report has no points")?;
    ensure!(parts.len() > 2, "nothing was drilled: {report}");
    let new = [
        "site=new.example.test".to_owned(),
        format!("platform={platform}"),
        "database_server=db1".to_owned(),
    ];
    drill(&kedge, "install", &new, &seed, "sample:2")?;
    let differences = before.differences(&Outside::look(&host, server, SITE).await?);
    ensure!(differences.is_empty(), "after the drills the host is not as before: {differences:#?}");
    host.shutdown().await?;
    env.shutdown().await?;
    Ok(())
}

async fn seed_site(host: &Host) -> Result<()> {
    seed(host, &SeedSpec::new("/srv/platforms/wordpress-6.1", SITE, 40, 7)).await?;
    Ok(())
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
