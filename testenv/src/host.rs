//! A running test host: start, ports, commands, faults, end.

use std::collections::HashMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bollard::container::LogOutput;
use bollard::errors::Error as Api;
use bollard::models::{
    ContainerCreateBody, EndpointSettings, HostConfig, Mount, MountTmpfsOptions, MountType, NetworkingConfig,
    PortBinding, VolumeCreateRequest,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, KillContainerOptionsBuilder, LogsOptionsBuilder, StartContainerOptions,
    StopContainerOptionsBuilder,
};
use futures::StreamExt;

use crate::cleanup::{Things, remove_blocking};
use crate::env::{Run, Testenv};
use crate::error::{Error, Result};
use crate::exec::{self, Exec, Output};
use crate::http::{self, Page};
use crate::ready;
use crate::spec::{DataDir, HostSpec, Service};

/// Ports are taken from here, below the range that the kernel gives to outgoing connections: a port stays the host's
/// own while the container is stopped.
const PORTS: std::ops::Range<u16> = 20000..32000;
/// Starts with other ports when somebody took one between our look and Docker's.
const PORT_TRIES: usize = 5;
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
    container: String,
    volumes: Vec<String>,
    ports: HashMap<Service, u16>,
    known_hosts: PathBuf,
    removed: AtomicBool,
}

impl Host {
    /// Starts a host and waits until every service answers: some seconds.
    pub async fn start(env: &Testenv, spec: &HostSpec) -> Result<Self> {
        spec.check()?;
        let run = Arc::clone(&env.run);
        let container = format!("kedge-{}-{}", run.id, spec.name);
        let mut volumes = Vec::new();
        if spec.srv_volume {
            volumes.push(format!("{container}-srv"));
        }
        if spec.data_dir == DataDir::Volume && spec.services.contains(&Service::Mariadb) {
            volumes.push(format!("{container}-mysql"));
        }
        let known_hosts = run.dir().join(format!("{}.known_hosts", spec.name));
        let mut host = Self {
            run,
            name: spec.name.clone(),
            services: spec.services.clone(),
            container,
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

    async fn create_and_start(&mut self, spec: &HostSpec) -> Result<()> {
        let api = &self.run.docker.api;
        for name in &self.volumes {
            let labels = Some(self.run.labels.clone());
            let request =
                VolumeCreateRequest { name: Some(name.clone()), labels, ..VolumeCreateRequest::default() };
            api.create_volume(request).await.map_err(Error::docker(format!("creating the volume {name}")))?;
        }
        let mut tries = 0;
        loop {
            tries += 1;
            self.ports = free_ports(&self.services)?;
            let options = CreateContainerOptionsBuilder::default().name(&self.container).build();
            let created = api.create_container(Some(options), self.body(spec)?).await;
            created.map_err(Error::docker(format!("creating the container {}", self.container)))?;
            match api.start_container(&self.container, None::<StartContainerOptions>).await {
                Ok(()) => return Ok(()),
                Err(Api::DockerResponseServerError { message, .. })
                    if tries < PORT_TRIES
                        && message.contains("already allocated") | message.contains("in use") =>
                {
                    let things = Things { containers: vec![self.container.clone()], ..Things::default() };
                    self.run.docker.remove(&things).await?;
                }
                Err(error) => return Err(Error::docker(format!("starting {}", self.container))(error)),
            }
        }
    }

    /// The container as Docker's API describes it.
    fn body(&self, spec: &HostSpec) -> Result<ContainerCreateBody> {
        let public = self.run.key().with_extension("pub");
        let key = std::fs::read_to_string(&public).map_err(Error::io(&public))?;
        let services: Vec<String> = self.services.iter().map(ToString::to_string).collect();
        let volume = |suffix: &str, target: &str| Mount {
            target: Some(target.to_owned()),
            source: Some(format!("{}-{suffix}", self.container)),
            typ: Some(MountType::VOLUME),
            ..Mount::default()
        };
        let mut mounts = Vec::new();
        if spec.srv_volume {
            mounts.push(volume("srv", "/srv"));
        }
        match spec.data_dir {
            _ if !self.services.contains(&Service::Mariadb) => (),
            DataDir::Volume => mounts.push(volume("mysql", "/var/lib/mysql")),
            DataDir::Tmpfs(mib) => mounts.push(Mount {
                target: Some("/var/lib/mysql".to_owned()),
                typ: Some(MountType::TMPFS),
                tmpfs_options: Some(MountTmpfsOptions {
                    size_bytes: Some(i64::from(mib) << 20),
                    ..MountTmpfsOptions::default()
                }),
                ..Mount::default()
            }),
        }
        let bindings = self.ports.iter().filter_map(|(service, port)| {
            let binding =
                PortBinding { host_ip: Some("127.0.0.1".into()), host_port: Some(port.to_string()) };
            Some((format!("{}/tcp", service.port()?), Some(vec![binding])))
        });
        let endpoint =
            EndpointSettings { aliases: Some(vec![spec.name.clone()]), ..EndpointSettings::default() };
        Ok(ContainerCreateBody {
            image: Some(self.run.image.clone()),
            hostname: Some(spec.name.clone()),
            env: Some(vec![
                format!("KEDGE_SERVICES={}", services.join(" ")),
                format!("KEDGE_SSH_PUBLIC_KEY={}", key.trim()),
            ]),
            labels: Some(self.run.labels.clone()),
            networking_config: Some(NetworkingConfig {
                endpoints_config: Some([(self.run.network.clone(), endpoint)].into()),
            }),
            host_config: Some(HostConfig {
                network_mode: Some(self.run.network.clone()),
                port_bindings: Some(bindings.collect()),
                mounts: Some(mounts),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        })
    }

    async fn write_known_hosts(&self) -> Result<()> {
        let key = self.exec_ok(["cut", "-d", " ", "-f1,2", "/etc/ssh/ssh_host_ed25519_key.pub"]).await?;
        let line = format!("[127.0.0.1]:{} {key}\n", self.ssh_port());
        std::fs::write(&self.known_hosts, line).map_err(Error::io(&self.known_hosts))
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

    /// MariaDB.
    #[must_use]
    pub fn mysql_port(&self) -> u16 {
        self.port(Service::Mariadb)
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

/// Finds a free port of this machine for each service that has one. Free now: Docker has the last word.
fn free_ports(services: &[Service]) -> Result<HashMap<Service, u16>> {
    let mut held = Vec::new();
    let mut ports = HashMap::new();
    for service in services.iter().filter(|service| service.port().is_some()) {
        let free = (0..1000).find_map(|_| {
            let port = rand::random_range(PORTS);
            TcpListener::bind(("127.0.0.1", port)).ok().map(|listener| (port, listener))
        });
        let (port, listener) =
            free.ok_or_else(|| Error::Spec(format!("no free port for {service} in {PORTS:?}")))?;
        ports.insert(*service, port);
        held.push(listener); // until all are found: no port twice
    }
    Ok(ports)
}
