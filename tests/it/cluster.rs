//! A site on three web hosts: built on the first, the same on all before visitors see it; whatever fails on one of them, all are as
//! before. `KEDGE_CLUSTERS=all` plays it on both web servers, otherwise a printed seed chooses. Needs Docker.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kedge_testenv::wordpress::{SeedSpec, seed};
use kedge_testenv::{Exec, Host, HostSpec, Progress, Service, Testenv};
use serde_json::{Value, json};
use support::face::{Face, id_of};
use support::kedge::{Kedge, Transport};
use support::outside::Outside;
use support::receiver::Receiver;

use crate::scene::{LIMIT, SITE, as_before, in_turn, wanted};

/// Web hosts web1 to web3, and a database host.
struct Trio {
    face: Face,
    kedge: Kedge,
    _receiver: Receiver,
    webs: Vec<Host>,
    db: Host,
    server: Service,
    env: Testenv,
}

impl Trio {
    async fn start(server: Service) -> Result<Self> {
        let env = Testenv::open(&Progress::stderr()).await?;
        let mut webs = Vec::new();
        for name in ["web1", "web2", "web3"] {
            webs.push(Host::start(&env, &HostSpec::web(name)).await?);
        }
        let db = Host::start(&env, &HostSpec::database("db2")).await?;
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let mut kedge = Kedge::prepare(&webs[0], Transport::Docker, port)?;
        kedge.configure(&config(server, &webs, &db))?;
        let receiver = Receiver::start_on(port, &kedge.callback_secret).await?;
        kedge.start().await?;
        let face = kedge.face()?;
        Ok(Self { face, kedge, _receiver: receiver, webs, db, server, env })
    }

    async fn submit(&self, workflow: &str, params: Value) -> Result<String> {
        self.face.submit(workflow, &params).await
    }

    async fn ended(&self, id: &str) -> Result<Value> {
        self.face.settled(id, LIMIT, |_| ()).await
    }

    async fn done(&self, workflow: &str, params: Value) -> Result<Value> {
        let task = self.ended(&self.submit(workflow, params).await?).await?;
        ensure!(task["state"] == "succeeded", "{workflow}: {task}");
        Ok(task)
    }

    async fn undo(&self, task: &Value) -> Result<()> {
        let (status, undo) = self.face.post(&format!("/v1/tasks/{}/undo", id_of(task)?), &json!({})).await?;
        ensure!(status == 202, "undo: {status} {undo}");
        let task = self.ended(&id_of(&undo)?).await?;
        ensure!(task["state"] == "succeeded", "undo: {task}");
        Ok(())
    }

    /// Each web host as it is seen from outside.
    async fn look(&self) -> Result<Vec<Outside>> {
        let mut seen = Vec::new();
        for web in &self.webs {
            seen.push(Outside::look_apart(web, &self.db, self.server, SITE).await?);
        }
        Ok(seen)
    }

    /// The site answers on every host, with the very same files.
    async fn the_same_everywhere(&self, site: &str, version: &str) -> Result<()> {
        let script = format!(
            "cd /srv/platforms/wordpress-{version}/sites/{site} && find . -printf '%p %y %m %U:%G %s %T@ %l\\n' | grep -v '^[.] ' | sort | sha256sum; \
             find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum; find . -type f | wc -l"
        );
        let mut first = None;
        for web in &self.webs {
            let page = web.get(self.server, site, "/").await?;
            ensure!(page.status == 200, "{} answers {} for {site}", web.name(), page.status);
            let files = web.run_ok(Exec::new(["sh", "-c", &script])).await?.text();
            let first = first.get_or_insert_with(|| files.clone());
            ensure!(*first == files, "{} has other files: {files} and not {first}", web.name());
        }
        Ok(())
    }

    async fn end(mut self) -> Result<()> {
        self.kedge.stop().await?;
        let (sound, fsck) = self.kedge.command(&["journal", "fsck"])?;
        ensure!(sound, "{fsck}");
        for host in self.webs.into_iter().chain([self.db]) {
            host.shutdown().await?;
        }
        Ok(self.env.shutdown().await?)
    }
}

fn config(server: Service, webs: &[Host], db: &Host) -> String {
    let mut text = String::new();
    for (number, web) in webs.iter().enumerate().skip(1) {
        text.push_str(&format!(
            "\n[hosts.web{}]\ntransport = \"ssh\"\naddress = \"deploy@127.0.0.1:{}\"\nidentity_file = {:?}\nknown_hosts = {:?}\nsudo = true\n",
            number + 1,
            web.ssh_port(),
            web.ssh_key_path(),
            web.known_hosts_path()
        ));
    }
    let (kind, vhosts, ports) = match server {
        Service::Apache => ("apache", "/etc/apache2/sites-enabled", "port = 8080\ntls_port = 8443"),
        _ => ("nginx", "/etc/nginx/sites-enabled", ""),
    };
    text.push_str(&format!(
        r#"
[hosts.db2]
transport = "docker"
container = {:?}

[database_servers.db2]
host = "db2"
kind = "mysql"
grant_hosts = ["%"]
address = "db2"

[web_servers.trio]
host = "web1"
also_on = ["web2", "web3"]
kind = "{kind}"
vhost_dir = "{vhosts}"
php_fpm = "unix:/run/php/php-fpm.sock"
{ports}
"#,
        db.container_name()
    ));
    for (name, version) in [("trio-61", "6.1"), ("trio-68", "6.8")] {
        text.push_str(&format!(
            "\n[platforms.{name}]\nweb_server = \"trio\"\nroot = \"/srv/platforms/wordpress-{version}\"\napp = \"wordpress\"\n"
        ));
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_lives_on_three_web_hosts_of_nginx() -> Result<()> {
    life(Service::Nginx).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_lives_on_three_web_hosts_of_apache() -> Result<()> {
    life(Service::Apache).await
}

async fn life(server: Service) -> Result<()> {
    if !wanted() || !in_turn(server, "KEDGE_CLUSTERS") {
        return Ok(());
    }
    let mut trio = installed(server).await?;
    let moved = json!({ "site": SITE, "target_platform": "trio-68" });
    let before = trio.look().await?;
    let task = trio.done("migrate", moved.clone()).await?;
    trio.the_same_everywhere(SITE, "6.8").await?;
    trio.undo(&task).await?;
    as_before_everywhere(&before, &trio.look().await?, true)?;

    a_host_that_serves_nothing(&trio).await?;
    killed(&mut trio, &moved).await?;

    let renamed = json!({ "site": SITE, "new_site": "store.example.test" });
    let task = trio.done("migrate", renamed).await?;
    trio.the_same_everywhere("store.example.test", "6.1").await?;
    trio.undo(&task).await?;
    trio.the_same_everywhere(SITE, "6.1").await?;

    a_host_that_joins(&trio, &moved).await?;
    a_host_that_joins_by_a_verify(&trio).await?;
    trio.done("disable", json!({ "site": SITE })).await?;
    for web in &trio.webs {
        let status = web.get(trio.server, SITE, "/").await?.status;
        ensure!(status == 503, "{} answers {status} for a disabled site", web.name());
    }
    trio.done("delete", json!({ "site": SITE, "hold": "0m" })).await?;
    trio.done("purge", json!({})).await?;
    for web in &trio.webs {
        let script = "ls -A /srv/platforms/*/sites; ls /etc/*/sites-enabled | grep example; true";
        let left = web.run_ok(Exec::new(["sh", "-c", script])).await?.text();
        ensure!(!left.contains("shop") && !left.contains("stage"), "on {} is left: {left}", web.name());
    }
    trio.end().await
}

async fn installed(server: Service) -> Result<Trio> {
    let trio = Trio::start(server).await?;
    let params = json!({ "site": SITE, "platform": "trio-61", "database_server": "db2" });
    trio.done("install", params).await?;
    trio.the_same_everywhere(SITE, "6.1").await?;
    seed(&trio.webs[0], &SeedSpec::new("/srv/platforms/wordpress-6.1", SITE, 20, 11)).await?;
    // What came to the first host alone is on all as soon as the site is built anew.
    let made = trio.done("backup", json!({ "site": SITE })).await?;
    trio.done("restore", json!({ "site": SITE, "backup": made["result"]["backup"], "hold": "0m" })).await?;
    trio.the_same_everywhere(SITE, "6.1").await?;
    Ok(trio)
}

/// `undone`: by an undo, which leaves trash.
fn as_before_everywhere(before: &[Outside], after: &[Outside], undone: bool) -> Result<()> {
    for (number, (before, after)) in before.iter().zip(after).enumerate() {
        let when = format!("on web{}", number + 1);
        if undone {
            as_before(&before.without_trash(before), &after.without_trash(before), &when)?;
        } else {
            as_before(before, after, &when)?;
        }
    }
    Ok(())
}

/// One host's php is dead: the new side is asked for its pages on each host, so nobody sees it.
async fn a_host_that_serves_nothing(trio: &Trio) -> Result<()> {
    let before = trio.look().await?;
    trio.webs[2].stop_service(Service::Php).await?;
    let task = trio.submit("migrate", json!({ "site": SITE, "target_platform": "trio-68" })).await?;
    let task = trio.ended(&task).await?;
    trio.webs[2].start_service(Service::Php).await?;
    ensure!(task["state"] == "rolled_back" && task["outcome"]["verified"] != json!(false), "{task}");
    ensure!(task["error"].to_string().contains("on web3"), "the host is not named: {}", task["error"]);
    as_before_everywhere(&before, &trio.look().await?, false)
}

/// A host that a reload brings has nothing of the site: it gets all of it with the next move, and nothing of it stays when that fails.
async fn a_host_that_joins(trio: &Trio, moved: &Value) -> Result<()> {
    let third = &trio.webs[2];
    let servers = if trio.server == Service::Apache { "apache2" } else { "nginx" };
    let script = format!(
        "rm -r /srv/platforms/*/sites /srv/platforms/*/wp-config.php /etc/{servers}/sites-enabled/{SITE}.conf && \
         ls -A /etc/{servers}/sites-enabled | grep -c shop; true"
    );
    let left = third.run_ok(Exec::new(["sh", "-c", &script])).await?.text();
    ensure!(left.trim() == "0", "web3 still has {left} vhosts of the site");
    third.stop_service(trio.server).await?;
    third.start_service(trio.server).await?;
    let task = trio.ended(&trio.submit("migrate", moved.clone()).await?).await?;
    ensure!(task["error"].to_string().contains("trio-68 is not ready on web3"), "{}", task["error"]);
    for platform in ["trio-61", "trio-68"] {
        trio.done("verify", json!({ "platform": platform })).await?;
    }
    let before = trio.look().await?;
    trio.webs[1].stop_service(Service::Php).await?;
    let task = trio.ended(&trio.submit("migrate", moved.clone()).await?).await?;
    trio.webs[1].start_service(Service::Php).await?;
    ensure!(task["state"] == "rolled_back" && task["outcome"]["verified"] != json!(false), "{task}");
    as_before_everywhere(&before, &trio.look().await?, false)?;
    let task = trio.done("migrate", moved.clone()).await?;
    trio.the_same_everywhere(SITE, "6.8").await?;
    // The old side was never there: nobody is led back to a host that cannot serve it.
    let (status, undo) = trio.face.post(&format!("/v1/tasks/{}/undo", id_of(&task)?), &json!({})).await?;
    ensure!(status == 202, "undo: {status} {undo}");
    let undo = trio.ended(&id_of(&undo)?).await?;
    ensure!(undo["state"] == "rolled_back" && undo["error"].to_string().contains("on web3"), "{undo}");
    trio.the_same_everywhere(SITE, "6.8").await
}

/// A verify brings it the site where it is, and nothing of it stays when the site does not answer everywhere.
async fn a_host_that_joins_by_a_verify(trio: &Trio) -> Result<()> {
    let third = &trio.webs[2];
    let servers = if trio.server == Service::Apache { "apache2" } else { "nginx" };
    let script =
        format!("rm -r /srv/platforms/wordpress-6.8/sites/{SITE} /etc/{servers}/sites-enabled/{SITE}.conf");
    third.run_ok(Exec::new(["sh", "-c", &script])).await?;
    third.stop_service(trio.server).await?;
    third.start_service(trio.server).await?;
    let before = trio.look().await?;
    trio.webs[1].stop_service(Service::Php).await?;
    let task = trio.ended(&trio.submit("verify", json!({ "site": SITE })).await?).await?;
    trio.webs[1].start_service(Service::Php).await?;
    ensure!(task["state"] == "rolled_back" && task["outcome"]["verified"] != json!(false), "{task}");
    as_before_everywhere(&before, &trio.look().await?, false)?;
    let task = trio.done("verify", json!({ "site": SITE })).await?;
    let drift = task["result"]["drift"].to_string();
    ensure!(drift.contains("web3 has none of them") && drift.contains("there is none on web3"), "{drift}");
    trio.the_same_everywhere(SITE, "6.8").await
}

/// kill -9 while the directory is being published on one host after the other.
async fn killed(trio: &mut Trio, params: &Value) -> Result<()> {
    let before = trio.look().await?;
    let id = trio.submit("migrate", params.clone()).await?;
    begun(&trio.face, &id, "publish").await?;
    trio.kedge.kill()?;
    trio.kedge.start().await?;
    let task = trio.ended(&id).await?;
    match task["state"].as_str() {
        Some("succeeded") => {
            trio.the_same_everywhere(SITE, "6.8").await?;
            trio.undo(&task).await?;
            as_before_everywhere(&before, &trio.look().await?, true)
        }
        Some("rolled_back") => as_before_everywhere(&before, &trio.look().await?, false),
        _ => anyhow::bail!("{task}"),
    }
}

async fn begun(face: &Face, id: &str, step: &str) -> Result<()> {
    support::wait_until(step, Duration::from_secs(120), || async {
        let task = face.task(id).await.unwrap_or_default();
        let begun = |seen: &Value| seen["name"] == step && seen["state"] != "pending";
        task["steps"].as_array().is_some_and(|steps| steps.iter().any(begun))
    })
    .await
}

/// One of the three is down while files are pushed to it: when it is back, all are as before.
pub(crate) async fn one_is_down(server: Service) -> Result<()> {
    let trio = installed(server).await?;
    let before = trio.look().await?;
    let id = trio.submit("migrate", json!({ "site": SITE, "target_platform": "trio-68" })).await?;
    begun(&trio.face, &id, "copy_files").await?;
    trio.webs[1].kill().await?;
    support::wait_until("the end of the way forward", Duration::from_secs(120), || async {
        let task = trio.face.task(&id).await.unwrap_or_default();
        !matches!(task["state"].as_str(), None | Some("queued" | "running" | "waiting"))
    })
    .await?;
    for web in [&trio.webs[0], &trio.webs[2]] {
        let status = web.get(trio.server, SITE, "/").await?.status;
        ensure!(status == 200, "{} answers {status} while web2 is down", web.name());
    }
    trio.webs[1].boot().await?;
    let task = trio.ended(&id).await?;
    ensure!(task["state"] == "rolled_back", "{task}");
    ensure!(task["outcome"]["verified"] == json!(true), "not verified: {}", task["outcome"]);
    let after = trio.look().await.context("a look after web2 came back")?;
    as_before_everywhere(&before, &after, false)?;
    trio.end().await
}
