//! How a host comes to be: volumes, ports, the container's description. What it is afterwards stands in `host.rs`.

use std::collections::HashMap;
use std::net::TcpListener;

use bollard::errors::Error as Api;
use bollard::models::{
    ContainerCreateBody, EndpointSettings, HostConfig, Mount, MountTmpfsOptions, MountType, NetworkingConfig,
    PortBinding, VolumeCreateRequest,
};
use bollard::query_parameters::{CreateContainerOptionsBuilder, StartContainerOptions};

use crate::cleanup::Things;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::spec::{DataDir, HostSpec, Service};

/// Ports are taken from here, below the range that the kernel gives to outgoing connections: a port stays the host's
/// own while the container is stopped.
const PORTS: std::ops::Range<u16> = 20000..32000;
/// Starts with other ports when somebody took one between our look and Docker's.
const PORT_TRIES: usize = 5;
impl Host {
    /// Creates volumes and container, and starts it on ports that are free.
    pub(crate) async fn create_and_start(&mut self, spec: &HostSpec) -> Result<()> {
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
            _ if !spec.has_databases() => (),
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
            image: Some(self.image.clone()),
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
                cap_add: spec.mounts.then(|| vec!["SYS_ADMIN".to_owned()]),
                // Where AppArmor is on, its profile for containers forbids mounts whatever the capability.
                security_opt: spec.mounts.then(|| vec!["apparmor=unconfined".to_owned()]),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        })
    }

    /// Notes the host's key for clients that check it.
    pub(crate) async fn write_known_hosts(&self) -> Result<()> {
        let key = self.exec_ok(["cut", "-d", " ", "-f1,2", "/etc/ssh/ssh_host_ed25519_key.pub"]).await?;
        let line = format!("[127.0.0.1]:{} {key}\n", self.ssh_port());
        std::fs::write(&self.known_hosts, line).map_err(Error::io(&self.known_hosts))
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
