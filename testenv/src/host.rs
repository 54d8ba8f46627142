//! A running test host: start, ports, commands, faults, end.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bollard::container::LogOutput;
use bollard::query_parameters::{
    KillContainerOptionsBuilder, LogsOptionsBuilder, StartContainerOptions, StopContainerOptionsBuilder,
};
use futures::StreamExt;

use crate::cleanup::{Things, remove_blocking};
use crate::env::{Run, Testenv};
use crate::error::{Error, Result};
use crate::exec::{self, Exec, Output};
use crate::http::{self, Page};
use crate::ready;
use crate::spec::{DataDir, HostSpec, Service};

/// Seconds that a stopped host gets to end its services before Docker kills it.
const STOP_SECONDS: i32 = 30;
/// Lines of the log that are given at most.
const LOG_LINES: usize = 500;

/// A running host. Dropping it removes its container and volumes, also on a panic.
#[derive(Debug)]
pub struct Host {
    pub(crate) run: Arc<Run>,
    pub(crate) name: String,
    pub(crate) services: Vec<Service>,
    pub(crate) container: String,
    pub(crate) image: String,
    pub(crate) volumes: Vec<String>,
    pub(crate) ports: HashMap<Service, u16>,
    pub(crate) known_hosts: PathBuf,
    removed: AtomicBool,
}

impl Host {
    /// Starts a host and waits until every service answers: some seconds.
    pub async fn start(env: &Testenv, spec: &HostSpec) -> Result<Self> {
        spec.check()?;
        let run = Arc::clone(&env.run);
        let image = if spec.runs_mysql() { run.mysql_image().await? } else { run.image.clone() };
        let container = format!("kedge-{}-{}", run.id, spec.name);
        let mut volumes = Vec::new();
        if spec.srv_volume {
            volumes.push(format!("{container}-srv"));
        }
        if spec.data_dir == DataDir::Volume && spec.has_databases() {
            volumes.push(format!("{container}-mysql"));
        }
        let known_hosts = run.dir().join(format!("{}.known_hosts", spec.name));
        let mut host = Self {
            run,
            name: spec.name.clone(),
            services: spec.services.clone(),
            container,
            image,
            volumes,
            ports: HashMap::new(),
            known_hosts,
            removed: AtomicBool::new(false),
        };
        host.create_and_start(spec).await?;
        host.wait_ready().await?;
        if host.services.contains(&Service::Ssh) {
            host.write_known_hosts().await?;
        }
        Ok(host)
    }

    /// Name of the container, for `docker exec` and for Kedge's docker transport.
    #[must_use]
    pub fn container_name(&self) -> &str {
        &self.container
    }

    /// The name that the other hosts of the run know it by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The port of this machine (127.0.0.1) that leads to a service; the same after a restart.
    ///
    /// # Panics
    /// When the host does not have the service: a mistake in the test.
    #[must_use]
    #[expect(clippy::panic, reason = "a test that asks for a service it did not start is wrong")]
    pub fn port(&self, service: Service) -> u16 {
        match self.ports.get(&service) {
            Some(port) => *port,
            None => panic!("the host {} publishes no port of {service}", self.name),
        }
    }

    /// nginx.
    #[must_use]
    pub fn http_port(&self) -> u16 {
        self.port(Service::Nginx)
    }

    /// Apache.
    #[must_use]
    pub fn apache_port(&self) -> u16 {
        self.port(Service::Apache)
    }

    /// SSH.
    #[must_use]
    pub fn ssh_port(&self) -> u16 {
        self.port(Service::Ssh)
    }

    /// MariaDB or MySQL.
    #[must_use]
    pub fn mysql_port(&self) -> u16 {
        let mysql = self.services.contains(&Service::Mysql);
        self.port(if mysql { Service::Mysql } else { Service::Mariadb })
    }

    /// The private key (mode 0600) that `root` and `deploy` accept.
    #[must_use]
    pub fn ssh_key_path(&self) -> PathBuf {
        self.run.key()
    }

    /// A `known_hosts` file with this host's key.
    #[must_use]
    pub fn known_hosts_path(&self) -> &Path {
        &self.known_hosts
    }

    /// Runs a command as root to its end, whatever its code.
    pub async fn exec<S: Into<String>>(
        &self,
        argv: impl IntoIterator<Item = S>,
        stdin: &[u8],
    ) -> Result<Output> {
        self.run(Exec::new(argv).stdin(stdin)).await
    }

    /// Runs a command as root that must end with 0, and gives what it printed.
    pub async fn exec_ok<S: Into<String>>(&self, argv: impl IntoIterator<Item = S>) -> Result<String> {
        self.run_ok(Exec::new(argv)).await.map(|output| output.text())
    }

    /// Runs a command to its end, whatever its code.
    pub async fn run(&self, exec: Exec) -> Result<Output> {
        exec::run(&self.run.docker, &self.container, exec).await
    }

    /// Runs a command that must end with 0.
    pub async fn run_ok(&self, exec: Exec) -> Result<Output> {
        let output = self.run(exec.clone()).await?;
        if output.success() { Ok(output) } else { Err(exec.error(&self.container, output.describe())) }
    }

    /// Asks a web server of the host for a path of a site, as a visitor would.
    pub async fn get(&self, server: Service, site: &str, path: &str) -> Result<Page> {
        http::get(self.port(server), site, path)
            .await
            .map_err(Error::io(format!("http://{site}{path} on {server}")))
    }

    /// Waits until every service of the host answers.
    pub async fn wait_ready(&self) -> Result<()> {
        ready::wait(self, &self.services).await
    }

    /// Starts a service that was stopped or has ended, and waits until it answers.
    pub async fn start_service(&self, service: Service) -> Result<()> {
        self.exec_ok(["kedge-service", "start", &service.to_string()]).await?;
        ready::wait(self, &[service]).await
    }

    /// Ends a service in order, and waits until it has ended. It stays down until it is started.
    pub async fn stop_service(&self, service: Service) -> Result<()> {
        self.exec_ok(["kedge-service", "stop", &service.to_string()]).await.map(drop)
    }

    /// Kills a service with SIGKILL, as a crash would. It stays down until it is started.
    pub async fn kill_service(&self, service: Service) -> Result<()> {
        self.exec_ok(["kedge-service", "kill", &service.to_string()]).await.map(drop)
    }

    /// Shuts the host down in order.
    pub async fn stop(&self) -> Result<()> {
        let options = StopContainerOptionsBuilder::default().t(STOP_SECONDS).build();
        let stopped = self.run.docker.api.stop_container(&self.container, Some(options)).await;
        stopped.map_err(Error::docker(format!("stopping {}", self.container)))
    }

    /// Cuts the power: every process gets SIGKILL. Volumes stay.
    pub async fn kill(&self) -> Result<()> {
        let options = KillContainerOptionsBuilder::default().signal("SIGKILL").build();
        let killed = self.run.docker.api.kill_container(&self.container, Some(options)).await;
        killed.map_err(Error::docker(format!("killing {}", self.container)))
    }

    /// Starts a stopped or killed host with all its services and the same ports, and waits until they answer.
    pub async fn boot(&self) -> Result<()> {
        let started =
            self.run.docker.api.start_container(&self.container, None::<StartContainerOptions>).await;
        started.map_err(Error::docker(format!("starting {}", self.container)))?;
        self.wait_ready().await
    }

    /// Shuts the host down, starts it, and waits until it answers.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        self.boot().await
    }

    /// Freezes every process: connections hang without an error, as on a host that swaps itself to death.
    pub async fn pause(&self) -> Result<()> {
        let paused = self.run.docker.api.pause_container(&self.container).await;
        paused.map_err(Error::docker(format!("pausing {}", self.container)))
    }

    /// Ends the freeze.
    pub async fn unpause(&self) -> Result<()> {
        let unpaused = self.run.docker.api.unpause_container(&self.container).await;
        unpaused.map_err(Error::docker(format!("unpausing {}", self.container)))
    }

    /// The last lines that the host's services and its init have printed.
    pub async fn logs(&self) -> Result<String> {
        let options =
            LogsOptionsBuilder::default().stdout(true).stderr(true).tail(&LOG_LINES.to_string()).build();
        let mut stream = self.run.docker.api.logs(&self.container, Some(options));
        let mut text = String::new();
        while let Some(part) = stream.next().await {
            let part: LogOutput =
                part.map_err(Error::docker(format!("reading the log of {}", self.container)))?;
            text.push_str(&part.to_string());
        }
        Ok(text)
    }

    /// Removes the host. Dropping it does the same, but cannot say what failed.
    pub async fn shutdown(self) -> Result<()> {
        self.removed.store(true, Ordering::SeqCst);
        self.run.docker.remove(&self.things()).await
    }

    fn things(&self) -> Things {
        Things {
            containers: vec![self.container.clone()],
            volumes: self.volumes.clone(),
            ..Things::default()
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if !self.removed.load(Ordering::SeqCst) {
            remove_blocking(self.things());
        }
    }
}
