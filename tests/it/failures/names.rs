//! Cases about names of sites, databases and accounts.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::{gone, install, refused, sql};
use crate::scene::{LIMIT, SITE, Scene, as_before, take_back};

/// Names that clash in their first sixteen characters, long ones, digits, other alphabets, all at once: each gets names of its own.
pub(super) async fn clashes(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    // Longer ones are more than nginx takes unless it is told to: see below.
    let long = format!("{}.example.test", "l".repeat(30));
    let sites = [
        "verylongshopname-one.example.test",
        "verylongshopname-two.example.test",
        "0123456789.example.test",
        "bücher.example.test",
        &long,
    ];
    let mut tasks = Vec::new();
    for site in sites {
        let params = json!({ "site": site, "platform": scene.platforms[0], "database_server": "db1", "method": "empty" });
        tasks.push(scene.face.submit("install", &params).await?);
    }
    for task in &tasks {
        let task = scene.face.settled(task, LIMIT, |_| ()).await?;
        ensure!(task["state"] == "succeeded", "{task}");
    }
    let (_, known) = scene.face.get("/v1/sites").await?;
    let known = known["sites"].as_array().context("no sites")?.clone();
    let mut names = BTreeSet::new();
    for site in &known {
        let (schema, user) =
            (site["schema"].as_str().unwrap_or_default(), site["user"].as_str().unwrap_or_default());
        ensure!(names.insert(schema.to_owned()), "{schema} belongs to two sites");
        ensure!(!schema.is_empty() && schema.len() <= 64 && user.len() <= 32, "{site}");
        let there = sql(scene, "mysql", &format!("SELECT COUNT(*) FROM user WHERE user='{user}'")).await?;
        ensure!(there == "1" || there == "2", "{user} has {there} accounts");
    }
    ensure!(known.len() >= 2 + sites.len(), "some sites are unknown: {known:?}");
    for site in sites {
        let site = if site.starts_with('b') { "xn--bcher-kva.example.test" } else { site };
        gone(scene, site).await?;
    }
    as_before(&before, &scene.look().await?, "after all of them were removed")?;
    let longest = format!("{}.example.test", "l".repeat(63));
    let params = json!({ "site": longest, "platform": scene.platforms[0], "database_server": "db1", "method": "empty" });
    let task = scene.run("install", &params).await?;
    if task["state"] == "succeeded" {
        gone(scene, &longest).await?;
    } else {
        super::rolled_back(scene, &before, &task, "server_names_hash_bucket_size").await?;
    }
    as_before(&before, &scene.look().await?, "after the longest name")
}

/// Somebody has given a site's account rights on a database of their own: that one is not touched, and the account goes only when that is
/// settled.
pub(super) async fn shared_account(scene: &mut Scene) -> Result<()> {
    const SHARED: &str = "shared.example.test";
    install(scene, SHARED, &json!({ "method": "empty" })).await?;
    let user = super::database_of(scene, 0, SHARED).await?;
    sql(scene, "mysql", &format!("CREATE DATABASE theirs; CREATE TABLE theirs.t (a INT); INSERT INTO theirs.t VALUES (7); GRANT SELECT ON theirs.* TO '{user}'@'localhost'")).await?;
    // A move would lock it: refused, and whoever uses it is named.
    let task =
        scene.run("migrate", &json!({ "site": SHARED, "target_platform": scene.platforms[1] })).await?;
    let told = task["error"].to_string();
    ensure!(task["state"] == "rolled_back" && told.contains("(theirs)"), "a shared account: {task}");
    super::done(scene, "disable", &json!({ "site": SHARED, "force": true })).await?;
    super::done(scene, "delete", &json!({ "site": SHARED, "force": true, "hold": "0m" })).await?;
    let locked =
        "SELECT COUNT(*) FROM mysql.global_priv WHERE JSON_VALUE(Priv, '$.account_locked') = 1 AND User = ";
    let locked = sql(scene, "mysql", &format!("{locked}'{user}'")).await?;
    ensure!(locked.trim() == "0", "the account of somebody else is locked while the site is in the trash");
    super::purged(scene, SHARED).await?;
    let kept = sql(
        scene,
        "mysql",
        &format!(
            "SELECT a FROM theirs.t; SHOW GRANTS FOR '{user}'@'localhost'; SHOW DATABASES LIKE '{user}'"
        ),
    )
    .await?;
    ensure!(
        kept.starts_with('7') && kept.contains("`theirs`.*"),
        "what was given to the account is gone: {kept}"
    );
    ensure!(
        !kept.contains(&format!("ON `{user}`.*")) && kept.lines().all(|line| line != user),
        "rights or database of the site are left: {kept}"
    );
    sql(scene, "mysql", &format!("DROP DATABASE theirs; DROP USER '{user}'@'localhost'")).await?;
    Ok(())
}

/// A site takes one of its aliases as its name, and goes back.
pub(super) async fn own_alias(scene: &mut Scene) -> Result<()> {
    const FIRST: &str = "dual.example.test";
    const OTHER: &str = "other.example.test";
    install(scene, FIRST, &json!({ "aliases": [OTHER] })).await?;
    let task = super::done(scene, "migrate", &json!({ "site": FIRST, "new_site": OTHER })).await?;
    super::answers(scene, OTHER, 200).await?;
    take_back(scene, task["id"].as_str().unwrap_or_default()).await?;
    super::answers(scene, FIRST, 200).await?;
    gone(scene, FIRST).await?;
    // The side that the undo left is in the trash for its hold.
    Ok(())
}

/// A copy under a name that is taken, as a site's own or as an alias.
pub(super) async fn onto_existing(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    for name in [SITE, crate::scene::NEIGHBOUR] {
        refused(scene, "clone", &json!({ "site": SITE, "new_site": name }), 409, name).await?;
    }
    as_before(&before, &scene.look().await?, "after refused clones")
}
