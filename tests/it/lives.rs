//! The life of a site on real servers: cloned, disabled, enabled, deleted, brought back, deleted for good, purged. Needs Docker.

use anyhow::{Result, ensure};
use kedge_testenv::Service;
use serde_json::{Value, json};
use support::kedge::Transport;

use crate::scene::{NEIGHBOUR, SITE, Scene, as_before, take_back, wanted};

const CLONE: &str = "staging.example.test";

#[tokio::test(flavor = "multi_thread")]
async fn a_site_is_cloned_disabled_deleted_and_purged_on_nginx() -> Result<()> {
    life(Service::Nginx, Transport::Docker).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_is_cloned_disabled_deleted_and_purged_on_apache_over_ssh() -> Result<()> {
    life(Service::Apache, Transport::Ssh).await
}

async fn life(server: Service, transport: Transport) -> Result<()> {
    if !wanted() {
        return Ok(());
    }
    let scene = Scene::new(server, transport).await?;
    let before = scene.look().await?;
    let clone =
        json!({ "site": SITE, "new_site": CLONE, "target_platform": scene.platforms[1], "sanitize": true });
    let task = done(&scene, "clone", &clone).await?;
    ensure!(task["result"]["sanitized_users"].as_u64() > Some(1), "what was done to users: {task}");
    let page = answers(&scene, CLONE, 200).await?;
    it_is_its_own(&scene).await?;
    ensure!(!page.contains("//shop.example.test"), "the clone's page names the original");
    answers(&scene, SITE, 200).await?;
    let after = scene.look().await?;
    let original = |seen: &support::outside::Outside| seen.0["page"].clone();
    ensure!(original(&before) == original(&after), "the original's page has changed");

    done(&scene, "disable", &json!({ "site": CLONE })).await?;
    answers(&scene, CLONE, 503).await?;
    refused(&scene, "disable", &json!({ "site": CLONE }), 409).await?;
    refused(&scene, "delete", &json!({ "site": SITE }), 409).await?;
    done(&scene, "enable", &json!({ "site": CLONE })).await?;
    answers(&scene, CLONE, 200).await?;

    done(&scene, "disable", &json!({ "site": CLONE })).await?;
    let disabled = scene.look().await?;
    done(&scene, "delete", &json!({ "site": CLONE, "hold": "7d" })).await?;
    refused(&scene, "delete", &json!({ "site": CLONE }), 422).await?;
    refused(&scene, "purge", &json!({}), 409).await?;
    done(&scene, "undelete", &json!({ "site": CLONE })).await?;
    as_before(
        &disabled.without_trash(&disabled),
        &scene.look().await?.without_trash(&disabled),
        "after undelete",
    )?;
    done(&scene, "enable", &json!({ "site": CLONE })).await?;
    answers(&scene, CLONE, 200).await?;

    gone_for_good(&scene, &before).await?;
    restored(&scene).await?;
    refreshed(&scene).await?;
    scene.end().await
}

/// Keys and salts of the copy: all eight, none of them the original's; and none of its persons.
async fn it_is_its_own(scene: &Scene) -> Result<()> {
    let keys = |version: &str, site: &str| {
        format!(
            "grep -hoE \"(AUTH|LOGGED_IN|NONCE)_(KEY|SALT)', '[^']+'\" /srv/platforms/wordpress-{version}/sites/{site}/wp-config.php | sort"
        )
    };
    let (original, copy) = (keys("6.1", SITE), keys("6.8", CLONE));
    let told = scene
        .shell(&format!(
            "{original} >/tmp/keys; {copy} >/tmp/copy; wc -l </tmp/copy; comm -12 /tmp/keys /tmp/copy | wc -l"
        ))
        .await?;
    ensure!(
        told.split_whitespace().eq(["8", "0"]),
        "keys of the copy, and those that are the original's: {told}"
    );
    let persons = |version: &str, site: &str| {
        format!(
            "d=$(sed -nE \"s/.*DB_NAME', *'([^']+)'.*/\\1/p\" /srv/platforms/wordpress-{version}/sites/{site}/wp-config.php); \
             mariadb -N $d -e \"SELECT COUNT(*) FROM wp_users WHERE user_email NOT LIKE 'user%@example.invalid' OR user_pass <> '!'; \
             SELECT COUNT(*) FROM wp_comments WHERE comment_author_email NOT LIKE '%@example.invalid' AND comment_author_email <> ''\""
        )
    };
    let left = scene.shell(&persons("6.8", CLONE)).await?;
    ensure!(
        left.split_whitespace().eq(["0", "0"]),
        "users and commenters of the copy who are persons still: {left}"
    );
    let kept = scene.shell(&persons("6.1", SITE)).await?;
    ensure!(
        !kept.split_whitespace().any(|count| count == "0"),
        "users and commenters of the original: {kept}"
    );
    Ok(())
}

/// A site is replaced by a copy of another one, keeps its name, tells where it comes from, and comes back as it was.
async fn refreshed(scene: &Scene) -> Result<()> {
    scene.shell(&format!("touch /srv/platforms/wordpress-6.1/sites/{NEIGHBOUR}/wp-content/mine.txt")).await?;
    let (before, was) = (scene.look().await?, answers(scene, NEIGHBOUR, 200).await?);
    let over = json!({ "site": SITE, "new_site": NEIGHBOUR, "target_platform": scene.platforms[1], "over_existing": true, "quiet": true });
    let task = done(scene, "clone", &over).await?;
    let (is, original) = (answers(scene, NEIGHBOUR, 200).await?, answers(scene, SITE, 200).await?);
    ensure!(is.replace(NEIGHBOUR, SITE) != was.replace(NEIGHBOUR, SITE), "the page is the old one");
    ensure!(
        !is.contains(&format!("//{SITE}")) && !original.contains(NEIGHBOUR),
        "a page names the other site"
    );
    let quiet = format!(
        "cd /srv/platforms/wordpress-6.8/sites/{NEIGHBOUR} && test ! -e wp-content/mine.txt && grep -q DISABLE_WP_CRON wp-config.php"
    );
    scene.shell(&quiet).await?;
    let (_, sites) = scene.face.get("/v1/sites").await?;
    let told = sites["sites"].as_array().into_iter().flatten().find(|site| site["name"] == NEIGHBOUR);
    ensure!(
        told.is_some_and(|site| site["cloned_from"] == SITE && site["quiet"] == true),
        "what is told of it: {sites}"
    );
    take_back(scene, task["id"].as_str().unwrap_or_default()).await?;
    ensure!(answers(scene, NEIGHBOUR, 200).await? == was, "the page is not as before");
    let after = scene.look().await?;
    as_before(&before.without_trash(&before), &after.without_trash(&before), "after the clone was taken back")
}

/// A broken site comes back from its backup, as it was; a damaged archive is refused before anything is touched; the database alone.
async fn restored(scene: &Scene) -> Result<()> {
    let dir = format!("/srv/platforms/wordpress-6.1/sites/{SITE}");
    let content = format!(
        "cd {dir} && find wp-content -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum; \
         d=$(sed -nE \"s/.*DB_NAME', *'([^']+)'.*/\\1/p\" wp-config.php); \
         mariadb-dump --skip-dump-date --skip-comments --order-by-primary --skip-extended-insert $d wp_posts wp_postmeta wp_comments wp_users | grep ^INSERT | sha256sum"
    );
    let was = scene.shell(&content).await?;
    let made = done(scene, "backup", &json!({ "site": SITE })).await?;
    let backup = made["result"]["backup"].as_str().unwrap_or_default().to_owned();
    let archives = scene.kedge.dir().join("backups");
    let bytes = std::fs::read(archives.join(&backup))?;
    std::fs::write(archives.join(format!("cut-{backup}")), &bytes[..bytes.len() / 2])?;
    let before = scene.look().await?;
    let task = scene.run("restore", &json!({ "site": SITE, "backup": format!("cut-{backup}") })).await?;
    ensure!(
        task["state"] == "rolled_back" && task["error"].to_string().contains("damaged"),
        "a cut archive: {task}"
    );
    as_before(&before, &scene.look().await?, "after a cut archive")?;

    let broke = format!(
        "cd {dir} && d=$(sed -nE \"s/.*DB_NAME', *'([^']+)'.*/\\1/p\" wp-config.php); mariadb $d -e 'DROP TABLE wp_posts; DELETE FROM wp_options' && rm -r wp-content/uploads wp-content/themes"
    );
    scene.shell(&broke).await?;
    // A broken site that was disabled cannot be enabled; a restore mends it, and leaves it disabled.
    done(scene, "disable", &json!({ "site": SITE, "force": true })).await?;
    let task = done(scene, "restore", &json!({ "site": SITE, "backup": backup })).await?;
    answers(scene, SITE, 503).await?;
    done(scene, "enable", &json!({ "site": SITE })).await?;
    answers(scene, SITE, 200).await?;
    let is = scene.shell(&content).await?;
    ensure!(was == is, "the restored site differs: {was} {is}");
    // What it replaced was broken: nothing goes back to that.
    let (status, undo) = scene
        .face
        .post(&format!("/v1/tasks/{}/undo", task["id"].as_str().unwrap_or_default()), &json!({}))
        .await?;
    ensure!(status == 202, "undo: {status} {undo}");
    let undone = scene.face.settled(&support::face::id_of(&undo)?, crate::scene::LIMIT, |_| ()).await?;
    ensure!(undone["state"] == "rolled_back", "an undo onto a broken side: {undone}");
    answers(scene, SITE, 200).await?;

    scene.shell(&format!("cd {dir} && touch wp-content/kept.txt")).await?;
    done(scene, "restore", &json!({ "site": SITE, "backup": backup, "parts": "database", "target_platform": scene.platforms[1] })).await?;
    answers(scene, SITE, 200).await?;
    scene.shell(&format!("test -e {}/wp-content/kept.txt", dir.replace("6.1", "6.8"))).await?;
    Ok(())
}

/// Deleted by force while pieces are missing, and purged as soon as its hold, which is none, is over: nothing is left of it.
async fn gone_for_good(scene: &Scene, before: &support::outside::Outside) -> Result<()> {
    done(scene, "disable", &json!({ "site": CLONE })).await?;
    scene.shell(&format!("rm -r /srv/platforms/wordpress-6.8/sites/{CLONE}")).await?;
    let task = done(scene, "delete", &json!({ "site": CLONE, "hold": "0m", "force": true })).await?;
    let missing = task["result"]["missing"].to_string();
    ensure!(missing.contains("the directory /srv/platforms"), "missing pieces are not told: {task}");
    let task = done(scene, "purge", &json!({})).await?;
    ensure!(task["result"]["sides"] == 1, "purged: {task}");
    let left = scene
        .shell("mariadb -N -e \"SHOW DATABASES; SELECT user FROM mysql.user\" | grep staging; true")
        .await?;
    ensure!(left.is_empty(), "of the purged site is left: {left}");
    let after = scene.look().await?;
    for subject in ["databases", "users", "rows", "page"] {
        ensure!(
            before.0[subject] == after.0[subject],
            "{subject}: {} -> {}",
            before.0[subject],
            after.0[subject]
        );
    }
    let trash = scene.shell("ls -A /srv/platforms/*/sites | grep kedge-; true").await?;
    ensure!(trash.is_empty(), "directories are left: {trash}");
    let (_, backups) = scene.face.get("/v1/backups").await?;
    ensure!(
        backups.to_string().contains("Generated before being disabled"),
        "the backups are gone: {backups}"
    );
    Ok(())
}

async fn done(scene: &Scene, workflow: &str, params: &Value) -> Result<Value> {
    let task = scene.run(workflow, params).await?;
    ensure!(task["state"] == "succeeded", "{workflow} {params}: {task}");
    Ok(task)
}

async fn refused(scene: &Scene, workflow: &str, params: &Value, expected: u16) -> Result<()> {
    let body = json!({ "workflow": workflow, "params": params });
    let (status, answer) = scene.face.post("/v1/tasks", &body).await?;
    ensure!(status == expected, "{workflow} {params}: {status} {answer}");
    Ok(())
}

async fn answers(scene: &Scene, site: &str, expected: u16) -> Result<String> {
    let page = scene.host.get(scene.server, site, "/").await?;
    ensure!(page.status == expected, "{site} answers {}", page.status);
    Ok(page.text())
}
