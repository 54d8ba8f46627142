//! What the running binary takes over without a restart: hosts, servers and platforms of a changed configuration, and platforms made by
//! the command line, which stay. Those that are new can be planned with at once, those that are gone cannot, and a broken file changes
//! nothing. Needs the binary, and no Docker; nobody reaches its hosts.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use support::face::Face;
use support::kedge::Kedge;
use support::wait_until;

const LIMIT: Duration = Duration::from_secs(30);
const UNREACHABLE: &str = "transport = \"ssh\"\naddress = \"deploy@127.0.0.1:1\"";

/// Another host with a web server and a platform.
const MORE: &str = r#"
[hosts.web2]
transport = "local"

[web_servers.nginx2]
host = "web2"
kind = "nginx"
vhost_dir = "/etc/nginx/sites-enabled"
php_fpm = "unix:/run/php/php-fpm.sock"

[platforms.wordpress-70]
web_server = "nginx2"
root = "/srv/platforms/wordpress-7.0"
app = "wordpress"
"#;

async fn platforms(face: &Face) -> Result<Vec<String>> {
    let (status, page) = face.get("/v1/platforms").await?;
    ensure!(status == 200, "{status} {page}");
    let all = page["platforms"].as_array().context("no platforms")?;
    Ok(all.iter().filter_map(|platform| platform["name"].as_str().map(str::to_owned)).collect())
}

/// Plans an install on the new platform: status and answer.
async fn plan(face: &Face) -> Result<(u16, Value)> {
    let params = json!({ "site": "new.example.test", "platform": "wordpress-70", "database_server": "db1" });
    face.post("/v1/tasks?dry_run=true", &json!({ "workflow": "install", "params": params })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_brings_platforms_and_takes_them_away() -> Result<()> {
    if std::env::var_os("KEDGE_BIN").is_none() {
        println!("skipped: needs the binary by KEDGE_BIN; scripts/test runs it");
        return Ok(());
    }
    let receiver = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let mut kedge = Kedge::reaching(UNREACHABLE, receiver.local_addr()?.port())?;
    let plain = std::fs::read_to_string(kedge.config())?;
    kedge.start().await?;
    let face = kedge.face()?;
    ensure!(plan(&face).await?.0 == 422, "a platform that is not there can be planned with");
    kedge.configure(MORE)?;
    kedge.reload()?;
    let known = || async { platforms(&face).await.is_ok_and(|all| all.contains(&"wordpress-70".to_owned())) };
    wait_until("the new platform", LIMIT, known).await.with_context(|| kedge.log_end(20))?;
    let (status, planned) = plan(&face).await?;
    ensure!(status == 200 && planned.to_string().contains("wordpress-70"), "{status} {planned}");

    kedge
        .configure("[platforms.wordpress-71]\nweb_server = \"nginx9\"\nroot = \"/x\"\napp = \"wordpress\"")?;
    kedge.reload()?;
    wait_until("the refusal", LIMIT, || async { kedge.log_end(50).contains("not reloaded") }).await?;
    ensure!(known().await, "a broken file has changed something");

    std::fs::write(kedge.config(), plain)?;
    kedge.reload()?;
    wait_until("an end of the platform", LIMIT, || async { !known().await }).await?;
    ensure!(plan(&face).await?.0 == 422, "a platform that is gone can be planned with");
    kedge.stop().await
}

/// Runs `kedge platforms ...` on an installation whose token may do everything: what it said.
fn command(kedge: &Kedge, words: &str) -> Result<(bool, String)> {
    let words: Vec<&str> = ["platforms"].into_iter().chain(words.split(' ')).collect();
    kedge.command(&words)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_by_command_stays_and_goes() -> Result<()> {
    if std::env::var_os("KEDGE_BIN").is_none() {
        println!("skipped: needs the binary by KEDGE_BIN; scripts/test runs it");
        return Ok(());
    }
    let receiver = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let mut kedge = Kedge::reaching(UNREACHABLE, receiver.local_addr()?.port())?;
    let text =
        std::fs::read_to_string(kedge.config())?.replace("[\"task:*:*\"]", "[\"task:*:*\", \"admin\"]");
    std::fs::write(kedge.config(), &text)?;
    kedge.start().await?;
    let face = kedge.face()?;
    let add = "add wordpress-70 --web-server nginx1 --root /srv/platforms/wordpress-7.0/ --app wordpress";
    for (words, told) in [
        (add.replace("nginx1", "nginx9"), "is not configured; there are: apache1, nginx1"),
        (add.replace("/srv", "srv"), "has to be an absolute path"),
        (add.replace("--app wordpress", "--app joomla"), "is wordpress, drupal or plain"),
        (add.replace("wordpress-70", "wordpress-61"), "there is a platform wordpress-61"),
        (add.replace("7.0/", "6.8"), "is the platform wordpress-68 already"),
        ("remove wordpress-61".to_owned(), "is in the configuration"),
        ("remove wordpress-70".to_owned(), "there is no platform of this name"),
    ] {
        let (done, said) = command(&kedge, &words)?;
        ensure!(!done && said.contains(told), "{words}: {said}");
    }
    let (added, said) = command(&kedge, add)?;
    ensure!(added, "{said}");
    let (status, planned) = plan(&face).await?;
    ensure!(status == 200, "{status} {planned}");
    // Through a reload and a kill -9. A life keeps its data where they are, whatever a reload says.
    std::fs::write(kedge.config(), text.replace("/data\"", "/elsewhere\""))?;
    kedge.reload()?;
    wait_until("the reload", LIMIT, || async { kedge.log_end(50).contains("is reloaded") }).await?;
    ensure!(kedge.log_end(50).contains("data_dir has changed: that needs a restart"), "nobody was told");
    ensure!(plan(&face).await?.0 == 200, "a reload has lost it");
    std::fs::write(kedge.config(), text)?;
    kedge.kill()?;
    kedge.start().await?;
    ensure!(plan(&face).await?.0 == 200, "a kill has lost it");
    // A task that has not ended still needs it.
    let params = json!({ "site": "new.example.test", "platform": "wordpress-70", "database_server": "db1" });
    let date = std::process::Command::new("date").args(["-u", "-d", "+1 hour", "+%FT%TZ"]).output()?;
    let later = String::from_utf8(date.stdout)?;
    let later = json!({ "workflow": "install", "params": params, "not_before": later.trim() });
    let (status, task) = face.post("/v1/tasks", &later).await?;
    ensure!(status == 202, "{status} {task}");
    let task = support::face::id_of(&task)?;
    let (removed, said) = command(&kedge, "remove wordpress-70")?;
    ensure!(!removed && said.contains("has not ended and names it"), "{said}");
    let (resolved, said) = kedge.command(&["resolve", &task, "preflight", "retry"])?;
    ensure!(!resolved && said.contains("409"), "resolve without a reason: {said}");
    let (canceled, said) = kedge.command(&["cancel", &task])?;
    ensure!(canceled, "cancel without a reason: {said}");
    face.settled(&task, LIMIT, |_| ()).await?;
    let (removed, said) = command(&kedge, "remove wordpress-70")?;
    ensure!(removed && plan(&face).await?.0 == 422, "{said}");
    kedge.stop().await
}
