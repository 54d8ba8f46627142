//! A copy that reaches nobody and knows nobody, seen from outside: no mail leaves, no cron runs, no request goes to others, no person is left
//! in its database; then it is let go, and does as the original.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{Drupal, Sites};
use crate::scene::SITE;

const COPY: &str = "quiet.example.test";
/// Keeps what is sent. Undone at the end.
const SENDMAIL: &str = "test ! -e /usr/sbin/sendmail && mkdir -m 777 /srv/case && touch /srv/case/mails && chmod 666 /srv/case/mails && \
     printf '#!/bin/sh\ncat >>/srv/case/mails\n' >/usr/sbin/sendmail && chmod 755 /usr/sbin/sendmail";

/// What a site reaches when its module is asked to mail, to call others and itself, and cron is asked for in every way: whether mail
/// left, whether others were called, whether cron ran.
async fn reaches(sites: &Sites, site: &str) -> Result<(bool, bool, bool)> {
    let dir = format!("{}/sites/{site}", sites.drupal.root(false));
    let database = sites.database(&dir).await?;
    let (forget, ran, key) = match sites.drupal {
        Drupal::Seven => (
            "DELETE FROM variable WHERE name IN ('harbour_cron_ran', 'cron_last'); DELETE FROM cache_bootstrap",
            "SELECT COUNT(*) FROM variable WHERE name = 'harbour_cron_ran'",
            "SELECT value FROM variable WHERE name = 'cron_key'",
        ),
        Drupal::Ten => (
            "DELETE FROM key_value WHERE name IN ('harbour_cron_ran', 'system.cron_last'); DELETE FROM cache_bootstrap",
            "SELECT COUNT(*) FROM key_value WHERE name = 'harbour_cron_ran'",
            "SELECT value FROM key_value WHERE name = 'system.cron_key'",
        ),
    };
    sites.shell(&format!("truncate -s 0 /srv/case/mails; mariadb {database} -e \"{forget}\"")).await?;
    let told = sites.host.get(sites.server, site, "/harbour/reach").await?.text();
    let told: Value = serde_json::from_str(told.trim()).with_context(|| told.clone())?;
    ensure!(told["mailed"] == true, "the site is told that its mail went: {told}");
    ensure!(!told["itself"].to_string().contains("Kedge"), "it reaches itself: {told}");
    let key = sites.shell(&format!("mariadb -N {database} -e \"{key}\"")).await?;
    let key = key.trim().split('"').nth(1).context("a cron key")?.to_owned();
    let asked = match sites.drupal {
        Drupal::Seven => format!("/cron.php?cron_key={key}"),
        Drupal::Ten => format!("/cron/{key}"),
    };
    for path in ["/", "/user/login", &asked] {
        sites.host.get(sites.server, site, path).await?;
    }
    let ran = sites.shell(&format!("mariadb -N {database} -e \"{ran}\"")).await?;
    let mail = sites.shell("cat /srv/case/mails").await?;
    println!("  {site} reaches: {told}, cron ran {} times, {} bytes of mail", ran.trim(), mail.len());
    Ok((!mail.is_empty(), !told["others"].to_string().contains("Kedge"), ran.trim() == "1"))
}

/// Plays all of it. The copy is gone at the end.
pub(super) async fn a_copy_is_quiet_and_clean(sites: &Sites) -> Result<()> {
    sites.shell(SENDMAIL).await?;
    let params = json!({ "site": SITE, "new_site": COPY, "quiet": true, "sanitize": true });
    let task = sites.done("clone", params).await?;
    ensure!(task["result"]["sanitized_users"] == 1, "{task}");
    let old = if sites.drupal == Drupal::Seven { "7.98" } else { "10.5" };
    sites.works(COPY, COPY, old).await?;
    let seen = reaches(sites, COPY).await?;
    ensure!(seen == (false, false, false), "the quiet copy reaches somebody (mail, others, cron): {seen:?}");
    let dir = format!("{}/sites/{COPY}", sites.drupal.root(false));
    let database = sites.database(&dir).await?;
    let dump =
        format!("mariadb-dump {database} | grep -oE '[a-zA-Z0-9._-]+@[a-zA-Z0-9.-]+' | sort | uniq -c");
    let addresses = sites.shell(&dump).await?;
    println!("  addresses in it:\n{addresses}");
    ensure!(!addresses.contains("admin@shop") && addresses.contains("user1@example.invalid"), "{addresses}");
    let seen = reaches(sites, SITE).await?;
    ensure!(seen == (true, true, true), "the original does not work as ever: {seen:?}");

    sites.done("configure", json!({ "site": COPY, "quiet": false })).await?;
    let seen = reaches(sites, COPY).await?;
    ensure!(seen == (true, true, true), "the copy was not let go: {seen:?}");
    let traces = sites.shell(&format!("grep -ci 'quiet kedge' {dir}/settings.php; true")).await?;
    ensure!(traces.trim() == "0", "{} lines of quiet are left", traces.trim());
    sites.done("disable", json!({ "site": COPY })).await?;
    sites.done("delete", json!({ "site": COPY })).await?;
    sites.shell("rm -r /usr/sbin/sendmail /srv/case").await?;
    Ok(())
}
