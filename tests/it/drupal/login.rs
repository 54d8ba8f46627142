//! Login links of a Drupal site: a link lets in once, as whom it names; one that was used, taken back or made up lets in nobody.

use anyhow::{Context as _, Result, ensure};
use kedge_testenv::{Progress, Service, Testenv};
use serde_json::json;
use support::face::id_of;

use super::{Drupal, SITE, Sites, undo, wanted};

#[tokio::test(flavor = "multi_thread")]
async fn a_link_lets_in_to_drupal_7_on_nginx() -> Result<()> {
    play(Drupal::Seven, Service::Nginx).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_lets_in_to_drupal_10_on_apache() -> Result<()> {
    play(Drupal::Ten, Service::Apache).await
}

async fn play(drupal: Drupal, server: Service) -> Result<()> {
    if !wanted() {
        return Ok(());
    }
    let Some(code) = drupal.code() else { return Ok(()) };
    let env = Testenv::open(&Progress::stderr()).await?;
    let mut sites = Sites::start(&env, drupal, server, code).await?;
    sites.done("install", json!({ "site": SITE, "platform": "old", "database_server": "db1" })).await?;
    lets_in_once(&sites).await?;
    sites.kedge.stop().await?;
    sites.host.shutdown().await?;
    env.shutdown().await?;
    Ok(())
}

pub(super) async fn lets_in_once(sites: &Sites) -> Result<()> {
    let (task, link) = link(sites).await?;
    let form = sites.host.get(sites.server, SITE, &link).await?;
    ensure!(
        form.status == 200 && form.text().contains("<form method=\"post\">"),
        "{} {}",
        form.status,
        form.text()
    );
    let entered = enter(sites, &link).await?;
    ensure!(
        entered.starts_with("303\n") && entered.contains("pass-reset-token"),
        "it did not let in: {entered}"
    );
    let told = sites.face.get(&format!("/v1/tasks/{task}/events")).await?.1.to_string();
    let token = link.rsplit('.').next().context("a token")?;
    ensure!(!told.contains(token) && !told.contains("user/reset"), "the journal tells the link");
    ensure!(!sites.kedge.log_end(usize::MAX).contains("user/reset"), "the log tells the way in");
    let again = enter(sites, &link).await?;
    ensure!(again.starts_with("403"), "a used link: {again}");

    let (task, link) = self::link(sites).await?;
    let made_up = format!("{}{}", &link[..link.len() - 64], "0".repeat(64));
    let made_up = enter(sites, &made_up).await?;
    ensure!(made_up.starts_with("403"), "a link that was made up: {made_up}");
    undo(sites, &sites.face.task(&task).await?).await?;
    let gone = enter(sites, &link).await?;
    ensure!(gone.starts_with("403"), "a link that was taken back: {gone}");
    let nobody = sites.run("login", json!({ "site": SITE, "user": "nobody" })).await?;
    ensure!(
        nobody["state"] == "rolled_back" && nobody["error"].to_string().contains("no such user"),
        "{nobody}"
    );
    Ok(())
}

/// A login task and the path of its link.
async fn link(sites: &Sites) -> Result<(String, String)> {
    let task = sites.done("login", json!({ "site": SITE, "valid_for": "10m" })).await?;
    let id = id_of(&task)?;
    let (status, body) = sites.face.get(&format!("/v1/tasks/{id}/login")).await?;
    ensure!(status == 200, "{status} {body}");
    let url = body["url"].as_str().context("a link")?;
    let path = url.strip_prefix(&format!("http://{SITE}")).with_context(|| format!("another site: {url}"))?;
    Ok((id, path.to_owned()))
}

/// The status of whoever presses the button, and where a browser comes to by it.
async fn enter(sites: &Sites, link: &str) -> Result<String> {
    let port = if sites.server == Service::Apache { 8080 } else { 80 };
    let script = format!(
        "jar=$(mktemp); ask() {{ curl -sS -b $jar -c $jar --connect-to {SITE}:80:127.0.0.1:{port} --connect-to {SITE}:{port}:127.0.0.1:{port} \"$@\"; }}\n\
         said=$(ask -o /dev/null -w '%{{http_code}} %{{redirect_url}}' -X POST 'http://{SITE}{link}')\n\
         echo \"${{said%% *}}\"; to=${{said#* }}\n\
         [ -z \"$to\" ] || ask -L \"$to\"; rm -f $jar"
    );
    sites.shell(&script).await
}
