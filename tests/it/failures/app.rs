//! Cases about the application.

use anyhow::{Result, ensure};
use serde_json::json;

use super::{rolls_back, succeeds, to_the_other_platform};
use crate::scene::{SITE, Scene};

const MU: &str = "/srv/platforms/wordpress-6.1/sites/shop.example.test/wp-content/mu-plugins";

async fn plugin(scene: &Scene, code: &str) -> Result<()> {
    scene.shell(&format!("mkdir -p {MU} && cat > {MU}/case.php <<'X'\n<?php\n{code}\nX")).await?;
    Ok(())
}

async fn no_plugin(scene: &Scene) -> Result<()> {
    scene.shell(&format!("rm -rf {MU}/case.php; rmdir {MU} 2>/dev/null; true")).await?;
    Ok(())
}

pub(super) async fn broken(scene: &Scene, code: &str, reason: &str) -> Result<()> {
    plugin(scene, code).await?;
    let before = scene.look().await?;
    let ended = rolls_back(scene, &before, &to_the_other_platform(scene), reason).await;
    no_plugin(scene).await?;
    ended
}

/// The database update fails half way.
pub(super) async fn update_fails(scene: &mut Scene) -> Result<()> {
    broken(
        scene,
        "add_filter('dbdelta_queries', function ($q) { throw new RuntimeException('broken on purpose'); });",
        "update_database",
    )
    .await
}

/// The database update ends the process without a word.
pub(super) async fn update_dies(scene: &mut Scene) -> Result<()> {
    broken(
        scene,
        "add_filter('dbdelta_queries', function ($q) { posix_kill(getmypid(), 9); exit(0); });",
        "update_database",
    )
    .await
}

/// The command line is fine, but the pages of the new side are errors.
pub(super) async fn pages_fail(scene: &mut Scene) -> Result<()> {
    let code = "add_action('template_redirect', function () { if (version_compare($GLOBALS['wp_version'], '6.8', '>=')) { status_header(500); echo 'oops'; exit; } });";
    broken(scene, code, "check_hidden").await
}

/// The pages are blank with status 200: the white screen of death.
pub(super) async fn white_page(scene: &mut Scene) -> Result<()> {
    let code = "add_action('template_redirect', function () { if (version_compare($GLOBALS['wp_version'], '6.8', '>=')) { exit; } });";
    broken(scene, code, "check_hidden").await
}

/// The database is not to be had by the pages.
pub(super) async fn no_database_in_pages(scene: &mut Scene) -> Result<()> {
    let code =
        "if (PHP_SAPI !== 'cli' && version_compare($GLOBALS['wp_version'], '6.8', '>=')) { dead_db(); }";
    broken(scene, code, "check_hidden").await
}

/// Notices and megabytes of noise on standard output and standard error spoil nothing.
pub(super) async fn noise(scene: &mut Scene) -> Result<()> {
    let code = "if (PHP_SAPI === 'cli') { echo \"Notice: Undefined index\\n{\\\"a\\\": 1}\\n\" . str_repeat(str_repeat('x', 999) . \"\\n\", 20000); fwrite(STDERR, str_repeat(\"Deprecated: y\\n\", 20000)); }";
    plugin(scene, code).await?;
    let before = scene.look().await?;
    let ended = succeeds(scene, &before, &to_the_other_platform(scene)).await;
    no_plugin(scene).await?;
    ended.map(drop)
}

/// A name that the old one is a part of, and back: no name is rewritten twice, none that only looks alike.
pub(super) async fn name_in_name(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    let params = json!({ "site": SITE, "new_site": format!("a{SITE}") });
    let task = scene.run("migrate", &params).await?;
    ensure!(task["state"] == "succeeded", "{task}");
    let settings = format!("/srv/platforms/wordpress-6.1/sites/a{SITE}/wp-config.php");
    let script = format!(
        "d=$(sed -nE \"s/.*DB_NAME', *'([^']+)'.*/\\1/p\" {settings}); mariadb -N $d -e \"SELECT COUNT(*) FROM wp_posts WHERE CONCAT(post_content, guid) LIKE '%aa{SITE}%'; SELECT option_value FROM wp_options WHERE option_name='siteurl'\""
    );
    let told = scene.shell(&script).await?;
    ensure!(told.trim() == format!("0\nhttp://a{SITE}"), "after the rename: {told}");
    super::returns(scene, &before, &task).await
}
