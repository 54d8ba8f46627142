//! A site that is looked at, put right and logged in to, and platforms that are compared, on real servers. Needs Docker.

use anyhow::{Context as _, Result, ensure};
use kedge_testenv::Service;
use serde_json::{Value, json};
use support::kedge::Transport;

use crate::scene::{SITE, Scene, as_before, take_back, wanted};

const DIR: &str = "/srv/platforms/wordpress-6.1/sites/shop.example.test";

#[tokio::test(flavor = "multi_thread")]
async fn a_site_is_verified_and_logged_in_to_on_nginx() -> Result<()> {
    if !wanted() {
        return Ok(());
    }
    let scene = Scene::new(Service::Nginx, Transport::Docker).await?;
    verified(&scene).await?;
    edited_vhost(&scene).await?;
    logged_in(&scene).await?;
    compared(&scene).await?;
    brought(&scene).await?;
    scene.end().await
}

async fn verify(scene: &Scene, more: Value) -> Result<String> {
    let mut params = json!({ "site": SITE });
    params.as_object_mut().context("an object")?.extend(more.as_object().context("an object")?.clone());
    let task = scene.run("verify", &params).await?;
    ensure!(task["state"] == "succeeded", "verify {params}: {task}");
    let lines = task["result"]["drift"].as_array().context("drift")?;
    Ok(lines.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n"))
}

async fn verified(scene: &Scene) -> Result<()> {
    let told = verify(scene, json!({})).await?;
    ensure!(!told.contains("settings") && !told.contains("vhost"), "a new site is right: {told}");
    let bend = format!(
        "cd {DIR}; sed -i \"s|define( 'WP_HOME', .*|define( 'WP_HOME', 'http://wrong.example.test' );|\" wp-config.php; \
         echo '// mine' >>wp-config.php; mkdir -p wp-content/uploads; echo x >wp-content/uploads/bent.txt; \
         chmod 600 wp-content/uploads/bent.txt; grep AUTH_KEY wp-config.php | md5sum"
    );
    let salts = scene.shell(&bend).await?;
    let before = scene.look().await?;
    let told = verify(scene, json!({ "check_only": true })).await?;
    for line in ["- define( 'WP_HOME', 'http://wrong.example.test' );", "wp-content/uploads/bent.txt is 0600"]
    {
        ensure!(told.contains(line), "{line} is missing in {told}");
    }
    as_before(&before, &scene.look().await?, "after a look")?;
    let mended = verify(scene, json!({})).await?;
    ensure!(mended == told, "{mended}\ninstead of\n{told}");
    let look = format!(
        "cd {DIR}; grep -c wrong wp-config.php || true; tail -1 wp-config.php; stat -c %a wp-content/uploads/bent.txt; \
         ls -A .. | grep -c kedge || true; grep AUTH_KEY wp-config.php | md5sum"
    );
    let seen = scene.shell(&look).await?;
    ensure!(seen == format!("0\n// mine\n664\n0\n{salts}"), "{seen}");
    ensure!(scene.host.get(scene.server, SITE, "/").await?.status == 200, "the site does not answer");
    let left = verify(scene, json!({ "check_only": true })).await?;
    ensure!(left.is_empty(), "nothing is left to do: {left}");
    Ok(())
}

async fn edited_vhost(scene: &Scene) -> Result<()> {
    let find = "grep -rl 'kedge-revision: .*@shop.example.test' /etc/nginx/sites-enabled";
    let file = scene.shell(find).await?.trim().to_owned();
    scene.shell(&format!("echo '# mine' >>{file}")).await?;
    let told = verify(scene, json!({})).await?;
    ensure!(told.contains("vhost: - # mine") && told.contains("changed by hand"), "{told}");
    ensure!(scene.shell(&format!("tail -1 {file}")).await? == "# mine", "it was to be left");
    verify(scene, json!({ "overwrite": true })).await?;
    ensure!(scene.shell(&format!("grep -c mine {file} || true")).await? == "0", "it was to go");
    ensure!(scene.host.get(scene.server, SITE, "/").await?.status == 200, "the site does not answer");
    Ok(())
}

async fn logged_in(scene: &Scene) -> Result<()> {
    let (task, path) = link(scene).await?;
    let enter = |path: &str| {
        format!(
            "curl -sS -o /dev/null -w '%{{http_code}} %{{redirect_url}}' -X POST -H 'Host: {SITE}' 'http://127.0.0.1{path}'"
        )
    };
    ensure!(
        scene.host.get(scene.server, SITE, &path).await?.text().contains("<form method=\"post\">"),
        "no form"
    );
    let seen = scene.shell(&enter(&path)).await?;
    ensure!(seen == format!("302 http://{SITE}/wp-admin/"), "{seen}");
    ensure!(scene.shell(&enter(&path)).await?.starts_with("403"), "it works once");
    let token = path.rsplit('.').next().context("a token")?;
    for told in [format!("/v1/tasks/{task}"), format!("/v1/tasks/{task}/events")] {
        ensure!(!scene.face.get(&told).await?.1.to_string().contains(token), "{told} tells the link");
    }
    ensure!(!scene.kedge.log_end(usize::MAX).contains(token), "the log tells the link");
    let (task, path) = link(scene).await?;
    take_back(scene, &task).await?;
    ensure!(scene.shell(&enter(&path)).await?.starts_with("403"), "a link that was taken back lets in");
    let (status, _) = scene.face.get(&format!("/v1/tasks/{task}/login")).await?;
    ensure!(status == 404, "a link that was taken back is shown: {status}");
    Ok(())
}

/// A login task and the path of its link.
async fn link(scene: &Scene) -> Result<(String, String)> {
    let task = scene.run("login", &json!({ "site": SITE, "valid_for": "10m" })).await?;
    ensure!(task["state"] == "succeeded" && task["result"]["expires_at"].is_u64(), "login: {task}");
    let id = task["id"].as_str().context("an id")?.to_owned();
    let (status, body) = scene.face.get(&format!("/v1/tasks/{id}/login")).await?;
    ensure!(status == 200, "{status} {body}");
    let url = body["url"].as_str().context("a link")?;
    let path = url.strip_prefix(&format!("http://{SITE}")).with_context(|| format!("another site: {url}"))?;
    Ok((id, path.to_owned()))
}

async fn compared(scene: &Scene) -> Result<()> {
    let [old, new] = scene.platforms;
    let (status, table) = scene.face.get(&format!("/v1/platforms/{old}/compare/{new}?site={SITE}")).await?;
    let core = &table["rows"][0];
    ensure!(status == 200 && table["errors"] == 0 && core["verdict"] == "upgrade", "{status} {table}");
    let rows = table["rows"].as_array().context("rows")?;
    let theme =
        |row: &Value| row["kind"] == "theme" && row["enabled"] == true && row["verdict"] == "comes_along";
    ensure!(rows.iter().any(theme), "{table}");
    let (status, table) = scene.face.get(&format!("/v1/platforms/{new}/compare/{old}")).await?;
    ensure!(status == 200 && table["rows"][0]["verdict"] == "older_schema", "{status} {table}");
    Ok(())
}

/// An archive is brought to whoever asks for it, as it was made, and over nothing; the trash is listed.
async fn brought(scene: &Scene) -> Result<()> {
    let task = scene.run("backup", &json!({ "site": SITE })).await?;
    let name = task["result"]["backup"].as_str().with_context(|| format!("no backup: {task}"))?;
    let dir = tempfile::tempdir()?;
    let to = dir.path().join("here.tar.zst");
    let get = ["backups", "get", name, "--to", to.to_str().context("the path is no text")?];
    let (done, told) = scene.kedge.command(&get)?;
    ensure!(done, "{told}");
    let made = scene.kedge.log_file().with_file_name("backups").join(name);
    ensure!(std::fs::read(&to)? == std::fs::read(&made)?, "another archive came: {told}");
    let (done, told) = scene.kedge.command(&get)?;
    ensure!(!done && told.contains("is there already"), "{told}");
    let (done, told) = scene.kedge.command(&["backups", "get", "never.tar.zst"])?;
    ensure!(!done && told.contains("no backup of this name"), "{told}");
    let (done, told) = scene.kedge.command(&["trash"])?;
    ensure!(done && told.contains("until"), "{told}");
    Ok(())
}
