//! What a Drupal site is made of against what the other platform gives: what the table shows, what a task refuses, what it only warns of.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{Drupal, Sites};
use crate::scene::{SITE, as_before};

/// The platform's own module on the old platform, and where its profile is on the new one.
struct Moves {
    module: String,
    there: String,
    extension: &'static str,
    profile: String,
}

impl Moves {
    fn of(drupal: Drupal) -> Self {
        let (old, new) = (drupal.root(false), drupal.root(true));
        let (modules, profiles, extension) = match drupal {
            Drupal::Seven => ("sites/all/modules", "profiles", ".info"),
            Drupal::Ten => ("modules", "core/profiles", ".info.yml"),
        };
        Self {
            module: format!("{old}/{modules}/crane"),
            there: format!("{new}/{modules}/crane"),
            extension,
            profile: format!("{new}/{profiles}/standard"),
        }
    }

    /// A module in a directory, whose code has updates up to a number.
    fn write(&self, dir: &str, version: &str, update: u32) -> String {
        let info = if self.extension == ".info" {
            format!("name = Crane\ncore = 7.x\nversion = \"{version}\"\n")
        } else {
            format!("name: Crane\ntype: module\ncore_version_requirement: ^10\nversion: '{version}'\n")
        };
        format!(
            "mkdir -p {dir} && printf '%s' '{info}' >{dir}/crane{} && echo '<?php' >{dir}/crane.module && \
             echo '<?php function crane_update_{update}() {{}}' >{dir}/crane.install && sed -i 's/<?php function/<?php\\nfunction/' {dir}/crane.install\n",
            self.extension
        )
    }
}

/// The row of a package in the table, which is printed: a person looks at it.
async fn row(sites: &Sites, kind: &str, name: &str, site: bool) -> Result<Value> {
    let query = if site { format!("?site={SITE}") } else { String::new() };
    let (status, table) = sites.face.get(&format!("/v1/platforms/old/compare/new{query}")).await?;
    ensure!(status == 200, "{status} {table}");
    let rows = table["rows"].as_array().context("rows")?;
    let row = rows.iter().find(|row| row["kind"] == kind && row["name"] == name);
    row.cloned().with_context(|| format!("no {kind} {name} in {table}"))
}

async fn says(sites: &Sites, kind: &str, name: &str, verdict: &str) -> Result<()> {
    let row = row(sites, kind, name, true).await?;
    ensure!(row["verdict"] == verdict, "{verdict} was expected: {row}");
    Ok(())
}

fn show(sites: &Sites) -> Result<()> {
    let (_, table) = sites.kedge.command(&["platforms", "compare", "old", "new", "--site", SITE])?;
    println!("{table}");
    Ok(())
}

async fn refused(sites: &Sites, acknowledged: bool, words: &str) -> Result<()> {
    let before = sites.look().await?;
    let params = json!({ "site": SITE, "target_platform": "new", "acknowledge_warnings": acknowledged });
    let task = sites.run("migrate", params).await?;
    let told = task["error"].to_string();
    ensure!(task["state"] == "rolled_back" && task["error"]["step"] == "preflight", "{task}");
    ensure!(told.contains(words), "{words:?} is not in {told}");
    println!("  refused: {}", task["error"]["detail"]);
    as_before(&before, &sites.look().await?, "after a refusal")
}

/// Plays all of it; the site and both platforms are as before at the end.
pub(super) async fn are_compared(sites: &Sites) -> Result<()> {
    let moves = Moves::of(sites.drupal);
    let update = if sites.drupal == Drupal::Seven { 7003 } else { 10003 };
    sites.shell(&moves.write(&moves.module, "1.2", update)).await?;
    sites.drush(&["en", "crane"]).await?;
    // The first visit after that builds what it needs.
    sites.look().await?;
    show(sites)?;
    for (kind, name, verdict) in [
        ("core", "drupal", "upgrade"),
        ("module", "system", "upgrade"),
        ("module", "harbour", "comes_along"),
        ("profile", "standard", "upgrade"),
        ("module", "crane", "missing"),
    ] {
        says(sites, kind, name, verdict).await?;
    }
    refused(sites, false, "module crane: missing on the platform").await?;
    // The table is of now: what it said before counts for nothing.
    sites.shell(&moves.write(&moves.there, "1.1", update)).await?;
    says(sites, "module", "crane", "downgrade").await?;
    refused(sites, false, "module crane: 1.2 here, 1.1 on the platform").await?;
    sites.shell(&moves.write(&moves.there, "1.3", update - 1)).await?;
    says(sites, "module", "crane", "older_schema").await?;
    refused(sites, true, &format!("schema {update} in the database, the platform's is {}", update - 1))
        .await?;
    let params = json!({ "site": SITE, "new_site": "no.example.test", "target_platform": "new" });
    let copy = sites.run("clone", params).await?;
    ensure!(
        copy["error"]["detail"].as_str().is_some_and(|told| told.contains("module crane: schema")),
        "{copy}"
    );
    let backup = sites.done("backup", json!({ "site": SITE })).await?["result"]["backup"].clone();
    let before = sites.look().await?;
    let back =
        sites.run("restore", json!({ "site": SITE, "backup": backup, "target_platform": "new" })).await?;
    ensure!(
        back["error"]["detail"].as_str().is_some_and(|told| told.contains("module crane: schema")),
        "{back}"
    );
    as_before(&before, &sites.look().await?, "after a refused restore")?;

    sites.shell(&format!("rm -r {}; mv {} /srv/kept-profile", moves.there, moves.profile)).await?;
    says(sites, "profile", "standard", "no_profile").await?;
    refused(sites, true, "profile standard: the site was installed with it").await?;
    show(sites)?;
    sites.shell(&format!("mv /srv/kept-profile {}", moves.profile)).await?;

    let uninstall: &[&[&str]] = match sites.drupal {
        Drupal::Seven => &[&["pm-disable", "crane"], &["pm-uninstall", "crane"]],
        Drupal::Ten => &[&["pm:uninstall", "crane"]],
    };
    for args in uninstall {
        sites.drush(args).await?;
    }
    sites.shell(&format!("rm -r {}", moves.module)).await?;
    let (_, table) = sites.face.get(&format!("/v1/platforms/old/compare/new?site={SITE}")).await?;
    ensure!(table["errors"] == 0 && table["warnings"] == 0, "{table}");
    Ok(())
}
