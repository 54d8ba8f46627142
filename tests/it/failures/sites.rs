//! Cases about sites that are closed, half gone, or gone.

use anyhow::{Result, ensure};
use kedge_testenv::Service;
use serde_json::{Value, json};

use super::{answers, dir_of, done, install, purged, refused, rolled_back, sql};
use crate::scene::{LIMIT, SITE, Scene, as_before};

/// A site that was closed before stays closed, whatever happens: an enable that finds broken pages, a delete that is taken back, a move
/// and its undo.
pub(super) async fn closed_before(scene: &mut Scene) -> Result<()> {
    let open = scene.look().await?;
    done(scene, "disable", &json!({ "site": SITE })).await?;
    let closed = scene.look().await?;
    scene.host.stop_service(Service::Php).await?;
    let enable = scene.run("enable", &json!({ "site": SITE })).await;
    scene.host.start_service(Service::Php).await?;
    rolled_back(scene, &closed, &enable?, "check_hidden").await?;
    answers(scene, SITE, 503).await?;
    done(scene, "delete", &json!({ "site": SITE, "hold": "1h" })).await?;
    done(scene, "undelete", &json!({ "site": SITE })).await?;
    answers(scene, SITE, 503).await?;
    as_before(
        &closed.without_trash(&closed),
        &scene.look().await?.without_trash(&closed),
        "after the undelete",
    )?;
    let moved = done(scene, "migrate", &super::to_the_other_platform(scene)).await?;
    answers(scene, SITE, 503).await?;
    super::returns(scene, &closed, &moved).await?;
    answers(scene, SITE, 503).await?;
    done(scene, "enable", &json!({ "site": SITE })).await?;
    as_before(&open.without_trash(&open), &scene.look().await?.without_trash(&open), "after all")
}

/// What is taken away from a site before it is deleted.
const PIECES: [&str; 4] = ["database", "directory", "vhost", "all"];

/// A delete of a site of which pieces are missing, each alone and all: it succeeds and tells what was missing.
pub(super) async fn half_gone(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    let mut tasks = Vec::new();
    for piece in PIECES {
        let params = json!({ "site": format!("{piece}.example.test"), "platform": scene.platforms[0], "database_server": "db1", "method": "empty",
            "aliases": [format!("also-{piece}.example.test")] });
        tasks.push(scene.face.submit("install", &params).await?);
    }
    for task in &tasks {
        let task = scene.face.settled(task, LIMIT, |_| ()).await?;
        ensure!(task["state"] == "succeeded", "{task}");
    }
    for piece in PIECES {
        let site = format!("{piece}.example.test");
        let database = super::database_of(scene, 0, &site).await?;
        let missing = take_away(scene, piece, &site, &database).await?;
        done(scene, "disable", &json!({ "site": site, "force": true })).await?;
        let task = done(scene, "delete", &json!({ "site": site, "force": true, "hold": "0m" })).await?;
        let told = task["result"]["missing"].to_string();
        for what in missing {
            ensure!(told.contains(&what), "{piece}: {what:?} is not told: {task}");
        }
        purged(scene, &site).await?;
    }
    as_before(&before, &scene.look().await?, "after all were deleted")
}

/// Takes a piece away; what a delete has to say about it. (A vhost is written again by the disable that comes before.)
async fn take_away(scene: &Scene, piece: &str, site: &str, database: &str) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    if matches!(piece, "database" | "all") {
        sql(scene, "mysql", &format!("DROP DATABASE {database}; DROP USER '{database}'@'localhost'")).await?;
        missing.extend([format!("the database {database}"), format!("the database user {database}")]);
    }
    if matches!(piece, "directory" | "all") {
        scene.shell(&format!("rm -r {}", dir_of(0, site))).await?;
        missing.push(format!("the directory {}", dir_of(0, site)));
    }
    if matches!(piece, "vhost" | "all") {
        let vhosts = if scene.server == Service::Apache { "/etc/apache2" } else { "/etc/nginx" };
        scene
            .shell(&format!("rm $(grep -lE '(server_name|ServerName) +{site}' {vhosts}/sites-enabled/*)"))
            .await?;
    }
    Ok(missing)
}

/// A second delete changes nothing.
pub(super) async fn deleted_twice(scene: &mut Scene) -> Result<()> {
    const TWICE: &str = "twice.example.test";
    install(scene, TWICE, &json!({})).await?;
    done(scene, "disable", &json!({ "site": TWICE })).await?;
    done(scene, "delete", &json!({ "site": TWICE, "hold": "1h" })).await?;
    let before = scene.look().await?;
    refused(scene, "delete", &json!({ "site": TWICE }), 422, TWICE).await?;
    refused(scene, "delete", &json!({ "site": TWICE, "force": true }), 422, TWICE).await?;
    as_before(&before, &scene.look().await?, "after a second delete")?;
    done(scene, "undelete", &json!({ "site": TWICE })).await?;
    super::gone(scene, TWICE).await
}

/// Links that lead out of the tree are copied as links and never followed, neither when files are copied nor when they are removed.
pub(super) async fn links_out(scene: &mut Scene) -> Result<()> {
    let uploads = format!("{}/wp-content/uploads", dir_of(0, SITE));
    let make = format!(
        "mkdir -p /srv/canary/deep {uploads}/links && echo canary | tee /srv/canary/file >/srv/canary/deep/file && chmod -R 777 /srv/canary && cd {uploads}/links && \
         ln -s / root && ln -s ../../../../../../canary up && ln -s /srv/canary abs && ln -s /srv/canary/file file && ln -s /etc/passwd passwd && ln -s . self"
    );
    scene.shell(&make).await?;
    let canary = "find /srv/canary /etc/passwd -printf '%p %m %u %s %C@ %A@\\n' | sort";
    let watched = scene.shell(canary).await?;
    let before = scene.look().await?;
    // One whose stage is removed, one whose links arrive, and a copy that is purged.
    let fail =
        "add_filter('dbdelta_queries', function ($q) { throw new RuntimeException('broken on purpose'); });";
    super::app::broken(scene, fail, "update_database").await?;
    super::succeeds(scene, &before, &super::to_the_other_platform(scene)).await?;
    done(scene, "clone", &json!({ "site": SITE, "new_site": "links.example.test" })).await?;
    let links = scene
        .shell(&format!(
            "cd {}/wp-content/uploads/links && find . -type l -printf '%P %l\\n' | sort",
            dir_of(0, "links.example.test")
        ))
        .await?;
    super::gone(scene, "links.example.test").await?;
    let seen = scene.shell(canary).await?;
    scene.shell(&format!("rm -r {uploads}/links /srv/canary")).await?;
    ensure!(links.lines().count() == 6 && links.contains("root /\n"), "the links of the copy: {links}");
    ensure!(seen == watched, "what the links point to was touched:\n{watched}\n{seen}");
    Ok(())
}

/// Files of the web server's own in directories that only it may enter: moved, and back, with nobody's help.
pub(super) async fn files_of_the_web_server(scene: &mut Scene) -> Result<()> {
    let uploads = format!("{}/wp-content/uploads", dir_of(0, SITE));
    let make = format!(
        "mkdir -p {uploads}/theirs/deep && cd {uploads}/theirs && echo x >deep/f && echo y >g && chown -R www-data:www-data . && chmod 600 deep/f g && chmod 500 deep && chmod 700 ."
    );
    scene.shell(&make).await?;
    let before = scene.look().await?;
    let task = done(scene, "migrate", &super::to_the_other_platform(scene)).await?;
    let there =
        scene.shell(&format!("cat {0}/theirs/deep/f {0}/theirs/g", uploads.replace("6.1", "6.8"))).await?;
    ensure!(there.trim() == "x\ny", "they did not arrive: {there}");
    super::returns(scene, &before, &task).await?;
    scene.shell(&format!("rm -r {uploads}/theirs")).await.map(drop)
}

/// Many small files: those that stay are not touched, and the copy of nearly all of them is made while visitors are served.
pub(super) async fn many_files(scene: &mut Scene) -> Result<()> {
    const COUNT: usize = 2_000;
    let uploads = format!("{}/wp-content/uploads/many", dir_of(0, SITE));
    let make = format!(
        "mkdir -p {uploads}/d && cd {uploads} && seq {COUNT} | xargs -n 500 touch && chown -R www-data:www-data ."
    );
    scene.shell(&make).await?;
    let inodes = format!("find {uploads} -printf '%P %i %C@ %T@ %m %u\\n' | sort | sha256sum");
    let was = scene.shell(&inodes).await?;
    let before = scene.look().await?;
    let task = done(scene, "migrate", &super::to_the_other_platform(scene)).await?;
    ensure!(
        scene.shell(&inodes.replace(&uploads, &trashed(&task, &uploads))).await? == was,
        "the old side's inodes were written"
    );
    // Times of birth on the new side, beside when the doors were closed.
    let step = task["steps"].as_array().and_then(|steps| steps.iter().find(|step| step["name"] == "close"));
    let closed = step.map(|step| step["started_at"].clone()).unwrap_or_default();
    let late = format!("find {} -type f -newerBt \"$1\" | wc -l", uploads.replace("6.1", "6.8"));
    let argv = ["sh", "-c", &late, "sh", closed.as_str().unwrap_or_default()];
    let late = scene.host.run_ok(kedge_testenv::Exec::new(argv)).await?.text();
    ensure!(late.trim() == "0", "{late} of {COUNT} files were copied behind closed doors (since {closed})");
    super::returns(scene, &before, &task).await?;
    ensure!(scene.shell(&inodes).await? == was, "the inodes were written on the way back");
    scene.shell(&format!("rm -r {uploads}")).await.map(drop)
}

/// Where a directory of the old side is, now that this task has moved it away.
fn trashed(task: &Value, dir: &str) -> String {
    let (old, id) = (dir_of(0, SITE), task["id"].as_str().unwrap_or_default());
    let sites = old.strip_suffix(SITE).unwrap_or_default();
    format!("{sites}.kedge-trash-{id}{}", dir.strip_prefix(&old).unwrap_or_default())
}
