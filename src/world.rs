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
use kedge_workflows::cluster::{ClusterApp, ClusterFiles, ClusterWebServer, Member};
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
    /// By its name, on each of its hosts.
    web_servers: BTreeMap<String, BTreeMap<String, Arc<WebServerShared>>>,
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
            let shared = |host: &String| Ok((host.clone(), WebServerShared::new(server.driver.clone())?));
            web_servers.insert(name.clone(), server.hosts().map(shared).collect::<PortResult<_>>()?);
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

    fn server(&self, web_server: &str) -> PortResult<&crate::config::WebServer> {
        self.config.web_servers.get(web_server).ok_or_else(|| unknown("web server", web_server))
    }

    fn host(&self, name: &str) -> PortResult<Arc<dyn Host>> {
        self.hosts.get(name).cloned().ok_or_else(|| unknown("host", name))
    }

    fn files_of(&self, host: &str, scope: &Scope) -> PortResult<Arc<dyn Files>> {
        Ok(Arc::new(HostFiles::new(self.host(host)?, scope.clone())))
    }

    /// One member for each of the other hosts of a web server.
    fn others<T>(
        server: &crate::config::WebServer,
        port: impl Fn(&str) -> PortResult<T>,
    ) -> PortResult<Vec<Member<T>>> {
        let member = |host: &String| Ok(Member { host: host.clone(), port: port(host)? });
        server.also_on.iter().map(member).collect()
    }

    /// The web server on one of its hosts.
    fn web_server_on(&self, name: &str, host: &str, scope: &Scope) -> PortResult<Arc<dyn WebServer>> {
        let shared = self.web_servers.get(name).and_then(|hosts| hosts.get(host));
        let shared = shared.ok_or_else(|| unknown("web server", name))?;
        Ok(Arc::new(shared.handle(self.host(host)?, self.files_of(host, scope)?, scope)))
    }

    /// The application on one host, on these files.
    fn app_on(
        &self,
        host: &str,
        files: Arc<dyn Files>,
        user: &str,
        (platform, kind): (&str, AppKind),
        scope: &Scope,
    ) -> PortResult<Arc<dyn App>> {
        let (host, secrets) = (self.host(host)?, self.secrets.clone());
        Ok(match kind {
            AppKind::Wordpress => Arc::new(WordPress::new(host, files, secrets, scope.clone(), user)),
            AppKind::Plain => {
                let config = self.plain.get(platform).cloned().unwrap_or_default();
                Arc::new(Plain::new(config, host, files, secrets, scope.clone(), user)?)
            }
            AppKind::Drupal => {
                let drush = self.config.platforms.get(platform).and_then(|platform| platform.drush.clone());
                Arc::new(Drupal::new(host, files, secrets, scope.clone(), user, drush))
            }
        })
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
        let server = self.server(name)?;
        let first = self.web_server_on(name, &server.host, scope)?;
        if server.also_on.is_empty() {
            return Ok(first);
        }
        let others = Self::others(server, |host| self.web_server_on(name, host, scope))?;
        Ok(Arc::new(ClusterWebServer::new(Member { host: server.host.clone(), port: first }, others)))
    }

    fn files(&self, web_server: &str, scope: &Scope) -> PortResult<Arc<dyn Files>> {
        let server = self.server(web_server)?;
        let first = self.files_of(&server.host, scope)?;
        if server.also_on.is_empty() || server.shared_files {
            return Ok(first);
        }
        let others = Self::others(server, |host| self.files_of(host, scope))?;
        Ok(Arc::new(ClusterFiles::new(first, others)))
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
        let (server, what) = (self.server(web_server)?, (platform, kind));
        let app = |host: &str, files| self.app_on(host, files, &server.user, what, scope);
        let shared = app(&server.host, self.files(web_server, scope)?)?;
        if server.also_on.is_empty() || server.shared_files {
            return Ok(shared);
        }
        let own = |host: &str| app(host, self.files_of(host, scope)?);
        let first = Member { host: server.host.clone(), port: own(&server.host)? };
        Ok(Arc::new(ClusterApp::new(shared, first, Self::others(server, own)?)))
    }

    fn backups(&self, _scope: &Scope) -> Arc<dyn Backups> {
        self.backups.clone()
    }

    fn secrets(&self) -> Arc<dyn Secrets> {
        self.secrets.clone()
    }
}
