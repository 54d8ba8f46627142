//! Sites whose web server, database and next platform are on different hosts: files and rows go from host to host through Kedge. Needs Docker.

use std::time::Duration;

use anyhow::{Result, ensure};
use kedge_testenv::wordpress::{SeedSpec, seed};
use kedge_testenv::{Exec, Host, HostSpec, Progress, Service, Testenv};
use serde_json::{Value, json};
use support::face::{Face, id_of};
use support::kedge::{Kedge, Transport};
use support::outside::Outside;
use support::receiver::Receiver;

use crate::scene::{LIMIT, SITE, as_before, wanted};

/// Three hosts: web1 as everywhere, web2 with a platform, db2 with a database server.
struct Hosts {
    face: Face,
    kedge: Kedge,
    _receiver: Receiver,
    web1: Host,
    web2: Host,
    db2: Host,
}

impl Hosts {
    async fn start(env: &Testenv) -> Result<Self> {
        let web1 = Host::start(env, &HostSpec::web_and_database("web1")).await?;
        let web2 = Host::start(env, &HostSpec::web("web2")).await?;
        let db2 = Host::start(env, &HostSpec::database("db2")).await?;
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let mut kedge = Kedge::prepare(&web1, Transport::Docker, port)?;
        kedge.configure(&format!(
            r#"
[hosts.web2]
transport = "ssh"
address = "deploy@127.0.0.1:{}"
identity_file = {:?}
known_hosts = {:?}
sudo = true

[hosts.db2]
transport = "docker"
container = {:?}

[database_servers.db2]
host = "db2"
kind = "mysql"
grant_hosts = ["%"]
address = "db2"

[web_servers.nginx2]
host = "web2"
kind = "nginx"
vhost_dir = "/etc/nginx/sites-enabled"
php_fpm = "unix:/run/php/php-fpm.sock"

[platforms.far-68]
web_server = "nginx2"
root = "/srv/platforms/wordpress-6.8"
app = "wordpress"
"#,
            web2.ssh_port(),
            web2.ssh_key_path(),
            web2.known_hosts_path(),
            db2.container_name()
        ))?;
        let receiver = Receiver::start_on(port, &kedge.callback_secret).await?;
        kedge.start().await?;
        let face = kedge.face()?;
        Ok(Self { face, kedge, _receiver: receiver, web1, web2, db2 })
    }

    async fn run(&self, workflow: &str, params: Value) -> Result<Value> {
        let id = self.face.submit(workflow, &params).await?;
        self.face.settled(&id, LIMIT, |_| ()).await
    }

    async fn done(&self, workflow: &str, params: Value) -> Result<Value> {
        let task = self.run(workflow, params).await?;
        ensure!(task["state"] == "succeeded", "{workflow}: {task}");
        Ok(task)
    }

    async fn undo(&self, task: &Value) -> Result<()> {
        let (status, undo) = self.face.post(&format!("/v1/tasks/{}/undo", id_of(task)?), &json!({})).await?;
        ensure!(status == 202, "undo: {status} {undo}");
        let task = self.face.settled(&id_of(&undo)?, LIMIT, |_| ()).await?;
        ensure!(task["state"] == "succeeded", "undo: {task}");
        Ok(())
    }

    async fn look(&self) -> Result<Outside> {
        Outside::look(&self.web1, Service::Nginx, SITE).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_moves_between_hosts_and_back() -> Result<()> {
    if !wanted() {
        return Ok(());
    }
    let env = Testenv::open(&Progress::stderr()).await?;
    let mut hosts = Hosts::start(&env).await?;
    let params = json!({ "site": SITE, "platform": "wordpress-61", "database_server": "db1" });
    hosts.done("install", params).await?;
    seed(&hosts.web1, &SeedSpec::new("/srv/platforms/wordpress-6.1", SITE, 30, 11)).await?;

    to_another_database_server(&hosts).await?;
    a_database_server_that_dies(&hosts).await?;
    to_another_web_host(&hosts).await?;

    let params = json!({ "site": "split.example.test", "platform": "far-68", "database_server": "db2" });
    hosts.done("install", params).await?;
    hosts.done("backup", json!({ "site": "split.example.test" })).await?;
    let page = hosts.web2.get(Service::Nginx, "split.example.test", "/").await?;
    ensure!(page.status == 200, "a site with its database elsewhere answers {}", page.status);

    hosts.kedge.stop().await?;
    let (sound, fsck) = hosts.kedge.command(&["journal", "fsck"])?;
    ensure!(sound, "{fsck}");
    for host in [hosts.web1, hosts.web2, hosts.db2] {
        host.shutdown().await?;
    }
    env.shutdown().await?;
    Ok(())
}

async fn to_another_database_server(hosts: &Hosts) -> Result<()> {
    let before = hosts.look().await?;
    let task = hosts.done("migrate", json!({ "site": SITE, "target_database_server": "db2" })).await?;
    let there = hosts
        .db2
        .run_ok(Exec::new(["sh", "-c", "mariadb -N -e 'SHOW DATABASES' | grep -c shop"]))
        .await?
        .text();
    ensure!(there.trim() == "1", "on db2 there are {} databases of the site", there.trim());
    let page = hosts.web1.get(Service::Nginx, SITE, "/").await?;
    ensure!(page.status == 200, "with its database on db2 the site answers {}", page.status);
    hosts.undo(&task).await?;
    let after = hosts.look().await?;
    as_before(&before.without_trash(&before), &after.without_trash(&before), "after the way back to db1")
}

/// The new server is gone in the middle and comes back: done or as before.
async fn a_database_server_that_dies(hosts: &Hosts) -> Result<()> {
    let before = hosts.look().await?;
    let params = json!({ "site": SITE, "target_database_server": "db2", "target_platform": "wordpress-68" });
    let id = hosts.face.submit("migrate", &params).await?;
    support::wait_until("the copy", Duration::from_secs(90), || async {
        let task = hosts.face.task(&id).await.unwrap_or_default();
        let copying = |step: &Value| step["name"] == "copy_database" && step["state"] != "pending";
        task["steps"].as_array().is_some_and(|steps| steps.iter().any(copying))
    })
    .await?;
    hosts.db2.kill().await?;
    hosts.db2.boot().await?;
    let task = hosts.face.settled(&id, LIMIT, |_| ()).await?;
    if task["state"] == "succeeded" {
        hosts.undo(&task).await?;
        let after = hosts.look().await?;
        return as_before(&before.without_trash(&before), &after.without_trash(&before), "after the undo");
    }
    ensure!(task["state"] == "rolled_back" && task["outcome"]["verified"] != json!(false), "{task}");
    as_before(&before, &hosts.look().await?, "after db2 died")
}

async fn to_another_web_host(hosts: &Hosts) -> Result<()> {
    let before = hosts.look().await?;
    let params = json!({ "site": SITE, "target_platform": "far-68", "target_database_server": "db2" });
    let task = hosts.done("migrate", params).await?;
    let page = hosts.web2.get(Service::Nginx, SITE, "/").await?;
    ensure!(page.status == 200, "on web2 the site answers {}", page.status);
    let uploads = |platform: &str| {
        format!(
            "cd /srv/platforms/wordpress-{platform}/sites/{SITE}/wp-content/uploads 2>/dev/null || cd /srv/platforms/wordpress-{platform}/sites/.kedge-trash-*/wp-content/uploads; \
                 find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum"
        )
    };
    let old = hosts.web1.run_ok(Exec::new(["sh", "-c", &uploads("6.1")])).await?.text();
    let new = hosts.web2.run_ok(Exec::new(["sh", "-c", &uploads("6.8")])).await?.text();
    ensure!(old == new, "the uploads differ: {old} {new}");
    hosts.undo(&task).await?;
    let after = hosts.look().await?;
    as_before(&before.without_trash(&before), &after.without_trash(&before), "after the way back to web1")
}
