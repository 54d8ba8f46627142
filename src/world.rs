//! The world as the workflows' ports want it: drivers on the configured hosts. The only place where concrete drivers are chosen.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use kedge_drivers::app::{Drupal, Plain, PlainConfig, WordPress};
use kedge_drivers::backups::LocalBackups;
use kedge_drivers::files::HostFiles;
use kedge_drivers::host::{Custody, DockerHost, Host, LocalHost, SshHost, SshOptions};
use kedge_drivers::mysql::Mysql;
use kedge_drivers::secrets::FileSecrets;
use kedge_drivers::web::WebServerShared;
use kedge_workflows::ports::{
    App, AppKind, Backups, Database, Files, PortError, PortResult, Scope, Secrets, WebServer, World,
};

use crate::between::Between;
use crate::config::{Config, HostConfig};

/// Longest directory for sockets of shared SSH connections, in bytes.
const MAX_RUNTIME_DIR: usize = 70;

/// The configured world.
pub(crate) struct LiveWorld {
    config: Arc<Config>,
    hosts: BTreeMap<String, Arc<dyn Host>>,
    web_servers: BTreeMap<String, Arc<WebServerShared>>,
    databases: BTreeMap<String, Mysql>,
    plain: BTreeMap<String, PlainConfig>,
    backups: Arc<LocalBackups>,
    secrets: Arc<FileSecrets>,
}

impl LiveWorld {
    /// Puts the drivers together; touches no host.
    ///
    /// # Errors
    /// When a host's options are wrong or the secrets cannot be opened.
    pub(crate) fn new(config: Arc<Config>, instance: &str, between: &dyn Between) -> Result<Self> {
        let custody = Custody::new(instance);
        // Paths of sockets are short: beside the data where that is short enough.
        let beside = config.data_dir.join("run");
        let short = beside.as_os_str().len() <= MAX_RUNTIME_DIR;
        let runtime = if short {
            beside
        } else {
            std::env::temp_dir().join(format!("kedge-{}", &instance[..8.min(instance.len())]))
        };
        let mut hosts = BTreeMap::new();
        for (name, host) in &config.hosts {
            let made = make_host(name, host, &custody, &runtime).with_context(|| format!("hosts.{name}"))?;
            hosts.insert(name.clone(), between.host(made));
        }
        let secrets = Arc::new(FileSecrets::open(config.data_dir.join("secrets"))?);
        let mut web_servers = BTreeMap::new();
        for (name, server) in &config.web_servers {
            web_servers.insert(name.clone(), WebServerShared::new(server.driver.clone())?);
        }
        let nobody = Scope { task: "none".to_owned(), step: "none".to_owned() };
        let databases = config.database_servers.iter().filter_map(|(name, server)| {
            let host = hosts.get(&server.host)?.clone();
            Some((name.clone(), Mysql::new(server.driver.clone(), host, nobody.clone(), secrets.clone())))
        });
        let databases = databases.collect();
        let backups = Arc::new(LocalBackups::new(&config.backup_dir));
        let plain = config
            .platforms
            .iter()
            .filter_map(|(name, platform)| Some((name.clone(), platform.plain.clone()?)));
        let plain = plain.collect();
        Ok(Self { config, hosts, web_servers, databases, plain, backups, secrets })
    }

    /// The hosts by name.
    pub(crate) fn hosts(&self) -> &BTreeMap<String, Arc<dyn Host>> {
        &self.hosts
    }

    /// The secrets, as they are kept here.
    pub(crate) fn secret_files(&self) -> &Arc<FileSecrets> {
        &self.secrets
    }

    fn host_of(&self, web_server: &str) -> PortResult<(&Arc<dyn Host>, &crate::config::WebServer)> {
        let server =
            self.config.web_servers.get(web_server).ok_or_else(|| unknown("web server", web_server))?;
        let host = self.hosts.get(&server.host).ok_or_else(|| unknown("host", &server.host))?;
        Ok((host, server))
    }
}

fn unknown(what: &str, name: &str) -> PortError {
    PortError::Unavailable(format!("the configuration has no {what} {name:?} any more; add it and retry"))
}

fn make_host(name: &str, config: &HostConfig, custody: &Custody, runtime: &Path) -> Result<Arc<dyn Host>> {
    Ok(match config {
        HostConfig::Local {} => Arc::new(LocalHost::new(name, custody.clone())),
        HostConfig::Docker { container } => Arc::new(DockerHost::new(name, container, custody.clone())),
        HostConfig::Ssh { address, identity_file, known_hosts, sudo } => {
            let options = SshOptions {
                address: address.clone(),
                identity_file: identity_file.clone().map(Into::into),
                known_hosts: known_hosts.clone().map(Into::into),
                sudo: *sudo,
                runtime_dir: runtime.to_owned(),
            };
            Arc::new(SshHost::new(name, &options, custody.clone())?)
        }
    })
}

impl World for LiveWorld {
    fn web_server(&self, name: &str, scope: &Scope) -> PortResult<Arc<dyn WebServer>> {
        let (host, _) = self.host_of(name)?;
        let shared = self.web_servers.get(name).ok_or_else(|| unknown("web server", name))?;
        Ok(Arc::new(shared.handle(host.clone(), self.files(name, scope)?, scope)))
    }

    fn files(&self, web_server: &str, scope: &Scope) -> PortResult<Arc<dyn Files>> {
        let (host, _) = self.host_of(web_server)?;
        Ok(Arc::new(HostFiles::new(host.clone(), scope.clone())))
    }

    fn database(&self, name: &str, scope: &Scope) -> PortResult<Arc<dyn Database>> {
        let database = self.databases.get(name).ok_or_else(|| unknown("database server", name))?;
        Ok(Arc::new(database.scoped(scope)))
    }

    fn app(
        &self,
        web_server: &str,
        platform: &str,
        kind: AppKind,
        scope: &Scope,
    ) -> PortResult<Arc<dyn App>> {
        let (host, server) = self.host_of(web_server)?;
        let (host, files, secrets) = (host.clone(), self.files(web_server, scope)?, self.secrets.clone());
        match kind {
            AppKind::Wordpress => {
                Ok(Arc::new(WordPress::new(host, files, secrets, scope.clone(), &server.user)))
            }
            AppKind::Plain => {
                let config = self.plain.get(platform).cloned().unwrap_or_default();
                Ok(Arc::new(Plain::new(config, host, files, secrets, scope.clone(), &server.user)?))
            }
            AppKind::Drupal => {
                let drush = self.config.platforms.get(platform).and_then(|platform| platform.drush.clone());
                Ok(Arc::new(Drupal::new(host, files, secrets, scope.clone(), &server.user, drush)))
            }
        }
    }

    fn backups(&self, _scope: &Scope) -> Arc<dyn Backups> {
        self.backups.clone()
    }

    fn secrets(&self) -> Arc<dyn Secrets> {
        self.secrets.clone()
    }
}
