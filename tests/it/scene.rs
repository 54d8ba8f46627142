//! A test host with a Kedge of its own, a filled site and a neighbour: where whole tasks are played. Needs Docker.

use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Result, ensure};
use kedge_testenv::wordpress::{SeedSpec, seed};
use kedge_testenv::{Exec, Host, HostSpec, Progress, Service, Testenv};
use serde_json::{Value, json};
use support::face::{Face, id_of};
use support::kedge::{Kedge, Transport};
use support::outside::Outside;
use support::receiver::Receiver;

/// Longest time that one task may take here.
pub(crate) const LIMIT: Duration = Duration::from_secs(300);
/// The site that things happen to.
pub(crate) const SITE: &str = "shop.example.test";
/// A site on the same servers that must not notice.
pub(crate) const NEIGHBOUR: &str = "neighbour.example.test";

/// A host, a Kedge on it, a filled site and a neighbour.
pub(crate) struct Scene {
    pub(crate) face: Face,
    pub(crate) kedge: Kedge,
    pub(crate) receiver: Receiver,
    pub(crate) server: Service,
    pub(crate) transport: Transport,
    /// The platforms of the old and of the new version.
    pub(crate) platforms: [&'static str; 2],
    pub(crate) host: Host,
    env: Testenv,
}

impl Scene {
    pub(crate) async fn new(server: Service, transport: Transport) -> Result<Self> {
        let env = Testenv::open(&Progress::stderr()).await?;
        let host = Host::start(&env, &HostSpec::web_and_database("web1").may_mount()).await?;
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let mut kedge = Kedge::prepare(&host, transport, port)?;
        let receiver = Receiver::start_on(port, &kedge.callback_secret).await?;
        kedge.start().await?;
        let face = kedge.face()?;
        let platforms = match server {
            Service::Apache => ["apache-61", "apache-68"],
            _ => ["wordpress-61", "wordpress-68"],
        };
        let scene = Self { face, kedge, receiver, server, transport, platforms, host, env };
        for site in [SITE, NEIGHBOUR] {
            let params = json!({ "site": site, "platform": platforms[0], "database_server": "db1" });
            let task = scene.run("install", &params).await?;
            ensure!(task["state"] == "succeeded", "install: {task}");
        }
        seed(&scene.host, &SeedSpec::new("/srv/platforms/wordpress-6.1", SITE, 40, 7)).await?;
        Ok(scene)
    }

    pub(crate) async fn run(&self, workflow: &str, params: &Value) -> Result<Value> {
        let id = self.face.submit(workflow, params).await?;
        self.face.settled(&id, LIMIT, |_| ()).await
    }

    pub(crate) async fn look(&self) -> Result<Outside> {
        Outside::look(&self.host, self.server, SITE).await
    }

    pub(crate) async fn shell(&self, script: &str) -> Result<String> {
        Ok(self.host.run_ok(Exec::new(["sh", "-c", script])).await?.text())
    }

    pub(crate) fn port(&self) -> u16 {
        if self.server == Service::Apache { self.host.apache_port() } else { self.host.http_port() }
    }

    pub(crate) async fn end(mut self) -> Result<()> {
        self.kedge.stop().await?;
        let (sound, fsck) = self.kedge.command(&["journal", "fsck"])?;
        ensure!(sound, "journal fsck: {fsck}");
        self.host.shutdown().await?;
        self.env.shutdown().await?;
        Ok(())
    }
}

pub(crate) fn wanted() -> bool {
    let wanted = std::env::var_os("KEDGE_DOCKER_TESTS").is_some_and(|value| value == "1");
    if !wanted {
        println!("skipped: needs Docker; scripts/test runs it");
    }
    wanted
}

/// Long tests that both servers have: one of them plays by a printed seed, which also says which; both where this variable is set.
pub(crate) fn in_turn(server: Service, both: &str) -> bool {
    static SEED: LazyLock<u64> = LazyLock::new(|| {
        let named = std::env::var("KEDGE_SEED").ok().and_then(|seed| seed.parse().ok());
        named.unwrap_or_else(rand::random)
    });
    if std::env::var_os(both).is_some() {
        return true;
    }
    let turn = SEED.is_multiple_of(2) == (server == Service::Nginx);
    println!("KEDGE_SEED={}{}", *SEED, if turn { "" } else { " leaves this to the other server" });
    turn
}

pub(crate) fn as_before(before: &Outside, after: &Outside, when: &str) -> Result<()> {
    let differences = before.differences(after);
    ensure!(differences.is_empty(), "{when}: not as before: {differences:#?}");
    Ok(())
}

/// Moves on or back by hand of Kedge's own verbs, so that the next round begins where this one did.
pub(crate) async fn take_back(scene: &Scene, id: &str) -> Result<()> {
    let (status, undo) = scene.face.post(&format!("/v1/tasks/{id}/undo"), &json!({})).await?;
    ensure!(status == 202, "undo: {status} {undo}");
    let task = scene.face.settled(&id_of(&undo)?, LIMIT, |_| ()).await?;
    ensure!(task["state"] == "succeeded", "undo: {task}");
    Ok(())
}
