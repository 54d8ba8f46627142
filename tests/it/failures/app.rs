//! Cases about the application.

use anyhow::{Context as _, Result, ensure};
use kedge_testenv::Service;
use serde_json::json;

use super::{database_of, done, gone, rolls_back, sql, succeeds, to_the_other_platform};
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

/// Code that mails, tells a payment provider, and leaves an event for cron, when it is asked to.
const REACHES: &str = r#"
if (defined('DOING_CRON')) { register_shutdown_function(function () { touch('/srv/case/cron'); }); }
add_filter('pre_http_request', function ($answer, $args, $url) {
	return strpos($url, 'wordpress.org') === false ? $answer : new WP_Error('no_way_out', 'the test host has none');
}, 10, 3);
add_action('case_event', function () { update_option('case_ran', '1', false); });
add_action('init', function () {
	if (!isset($_GET['case'])) { return; }
	delete_option('case_ran');
	wp_clear_scheduled_hook('case_event');
	delete_transient('doing_cron');
	if ($_GET['case'] === 'reach') {
		wp_schedule_single_event(time() - 60, 'case_event');
		$mailed = wp_mail('customer@example.test', 'case 55', home_url());
		$blocked = function ($url) {
			$answer = wp_remote_post($url, array('timeout' => 2, 'body' => 'paid'));
			return is_wp_error($answer) && $answer->get_error_code() === 'http_request_not_executed';
		};
		echo json_encode(array('mailed' => $mailed, 'others' => $blocked('http://127.0.0.2:9/paid'), 'itself' => $blocked(home_url('/'))));
	}
	exit;
});
"#;

/// What a site does when it is asked to mail, to tell a payment provider, and to run its cron: whether mail left, whether the provider
/// was called, and whether the event ran.
async fn reaches(scene: &Scene, site: &str) -> Result<(bool, bool, bool)> {
    scene.shell("truncate -s 0 /srv/case/mails; rm -f /srv/case/cron").await?;
    let told = scene.host.get(scene.server, site, "/?case=reach").await?.text();
    let told: serde_json::Value = serde_json::from_str(told.trim()).with_context(|| told.clone())?;
    ensure!(told["mailed"] == true && told["itself"] == false, "{site}: {told}");
    scene.host.get(scene.server, site, "/wp-cron.php").await?;
    // WordPress answers first, and runs what is due then.
    scene
        .shell("for i in $(seq 600); do test -e /srv/case/cron && exit 0; sleep 0.1; done; echo 'no end of cron' >&2; exit 1")
        .await?;
    let mail = scene.shell("cat /srv/case/mails").await?;
    ensure!(mail.is_empty() || mail.contains(&format!("http://{site}")), "somebody else's mail: {mail}");
    let ran = "SELECT COUNT(*) FROM wp_options WHERE option_name='case_ran'";
    let ran = sql(scene, &database_of(scene, 0, site).await?, ran).await?;
    Ok((!mail.is_empty(), told["others"] == false, ran.trim() == "1"))
}

/// Whether a site reaches everybody, or nobody.
async fn reaching(scene: &Scene, site: &str, all: bool, otherwise: &str) -> Result<()> {
    let seen = reaches(scene, site).await?;
    ensure!(seen == (all, all, all), "{otherwise} (mail, provider, cron): {seen:?}");
    Ok(())
}

/// What the test host puts before every script holds back requests by itself: out of the way, or back.
async fn host_holds_back(scene: &Scene, holds: bool) -> Result<()> {
    const PREPEND: &str = "/usr/share/kedge-testenv/prepend.php";
    scene.host.stop_service(Service::Php).await?;
    let script = match holds {
        true => format!("cat /root/prepend.kept >{PREPEND} && rm /root/prepend.kept"),
        false => format!("cp {PREPEND} /root/prepend.kept && : >{PREPEND}"),
    };
    scene.shell(&script).await?;
    Ok(scene.host.start_service(Service::Php).await?)
}

/// A quiet copy mails nobody, runs no cron and calls no payment provider, until it is let go; the original does as ever.
pub(super) async fn quiet_copy(scene: &mut Scene) -> Result<()> {
    const COPY: &str = "quiet.example.test";
    const SENDMAIL: &str = "test ! -e /usr/sbin/sendmail && mkdir -m 777 /srv/case && touch /srv/case/mails && chmod 666 /srv/case/mails && \
         printf '#!/bin/sh\ncat >>/srv/case/mails\n' >/usr/sbin/sendmail && chmod 755 /usr/sbin/sendmail";
    let before = scene.look().await?;
    plugin(scene, REACHES).await?;
    scene.shell(SENDMAIL).await?;
    host_holds_back(scene, false).await?;
    done(scene, "clone", &json!({ "site": SITE, "new_site": COPY, "quiet": true })).await?;
    reaching(scene, COPY, false, "the quiet copy reaches somebody").await?;
    reaching(scene, SITE, true, "the original does not work as ever").await?;
    done(scene, "configure", &json!({ "site": COPY, "quiet": false })).await?;
    reaching(scene, COPY, true, "the copy was not let go").await?;
    gone(scene, COPY).await?;
    scene.host.get(scene.server, SITE, "/?case=clean").await?;
    scene.shell("rm -r /usr/sbin/sendmail /srv/case").await?;
    no_plugin(scene).await?;
    host_holds_back(scene, true).await?;
    // The original's own cron has worked on its files and rows meanwhile.
    let after = scene.look().await?;
    for subject in ["databases", "users", "grants", "vhosts", "names in platforms", "processes"] {
        ensure!(
            before.0[subject] == after.0[subject],
            "{subject}: {} -> {}",
            before.0[subject],
            after.0[subject]
        );
    }
    Ok(())
}
