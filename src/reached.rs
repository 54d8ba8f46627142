//! What one configuration reaches: its hosts and servers, and the drivers on them. The only place where concrete drivers are chosen.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use kedge_drivers::app::{Drupal, Plain, PlainConfig, WordPress};
use kedge_drivers::commands::HostCommands;
use kedge_drivers::files::HostFiles;
use kedge_drivers::host::{Custody, DockerHost, Host, LocalHost, SshHost, SshOptions};
use kedge_drivers::mysql::Mysql;
use kedge_drivers::secrets::FileSecrets;
use kedge_drivers::web::WebServerShared;
use kedge_workflows::cluster::{ClusterApp, ClusterFiles, ClusterWebServer, Member};
use kedge_workflows::ports::{
    App, AppKind, Commands, Database, Files, PortError, PortResult, Scope, WebServer,
};

use crate::between::Between;
use crate::config::{Config, HostConfig};

/// Hosts and servers of a configuration.
pub(crate) struct Reached {
    pub(crate) config: Arc<Config>,
    pub(crate) hosts: BTreeMap<String, Arc<dyn Host>>,
    /// By its name, on each of its hosts.
    web_servers: BTreeMap<String, BTreeMap<String, Arc<WebServerShared>>>,
    databases: BTreeMap<String, Mysql>,
    plain: BTreeMap<String, PlainConfig>,
    secrets: Arc<FileSecrets>,
}

/// What hosts of every configuration have in common.
pub(crate) struct Ground {
    /// By which processes of this installation are known.
    pub(crate) custody: Custody,
    /// Where sockets of shared SSH connections are.
    pub(crate) runtime: PathBuf,
    /// The secrets of sites.
    pub(crate) secrets: Arc<FileSecrets>,
}

impl Reached {
    /// Puts the drivers together; touches no host. What is as it was `before` is the same: who writes a vhost or reloads a server
    /// still waits for whoever did so under the other configuration.
    ///
    /// # Errors
    /// When a host's or a web server's options are wrong.
    pub(crate) fn new(
        config: Arc<Config>,
        ground: &Ground,
        between: &dyn Between,
        before: Option<&Self>,
    ) -> Result<Self> {
        let mut hosts = BTreeMap::new();
        for (name, host) in &config.hosts {
            let same = before.filter(|before| before.config.hosts.get(name) == Some(host));
            let made = match same.and_then(|before| before.hosts.get(name)) {
                Some(made) => made.clone(),
                None => between.host(
                    make_host(name, host, &ground.custody, &ground.runtime)
                        .with_context(|| format!("hosts.{name}"))?,
                ),
            };
            hosts.insert(name.clone(), made);
        }
        let mut web_servers = BTreeMap::new();
        for (name, server) in &config.web_servers {
            let was = before.and_then(|before| before.config.web_servers.get(name));
            let same = before.filter(|_| was.is_some_and(|was| was.driver == server.driver));
            let shared = |host: &String| {
                let kept = same.and_then(|before| before.web_servers.get(name)?.get(host));
                let shared =
                    kept.map_or_else(|| WebServerShared::new(server.driver.clone()), |kept| Ok(kept.clone()));
                Ok((host.clone(), shared?))
            };
            let shared = server.hosts().map(shared).collect::<PortResult<_>>();
            web_servers.insert(name.clone(), shared.with_context(|| format!("web_servers.{name}"))?);
        }
        let nobody = Scope { task: "none".to_owned(), step: "none".to_owned() };
        let secrets = ground.secrets.clone();
        let databases = config.database_servers.iter().filter_map(|(name, server)| {
            let host = hosts.get(&server.host)?.clone();
            Some((name.clone(), Mysql::new(server.driver.clone(), host, nobody.clone(), secrets.clone())))
        });
        let databases = databases.collect();
        let plain = config
            .platforms
            .iter()
            .filter_map(|(name, platform)| Some((name.clone(), platform.plain.clone()?)));
        let plain = plain.collect();
        Ok(Self { config, hosts, web_servers, databases, plain, secrets })
    }

    fn server(&self, web_server: &str) -> PortResult<&crate::config::WebServer> {
        self.config.web_servers.get(web_server).ok_or_else(|| unknown("web server", web_server))
    }

    fn host(&self, name: &str) -> PortResult<Arc<dyn Host>> {
        self.hosts.get(name).cloned().ok_or_else(|| unknown("host", name))
    }

    /// Where commands of the operator's own run.
    pub(crate) fn commands(&self, host: &str, scope: &Scope) -> PortResult<Arc<dyn Commands>> {
        Ok(Arc::new(HostCommands::new(self.host(host)?, scope.clone())))
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

    /// See [`kedge_workflows::ports::World`].
    pub(crate) fn web_server(&self, name: &str, scope: &Scope) -> PortResult<Arc<dyn WebServer>> {
        let server = self.server(name)?;
        let first = self.web_server_on(name, &server.host, scope)?;
        if server.also_on.is_empty() {
            return Ok(first);
        }
        let others = Self::others(server, |host| self.web_server_on(name, host, scope))?;
        Ok(Arc::new(ClusterWebServer::new(Member { host: server.host.clone(), port: first }, others)))
    }

    pub(crate) fn files(&self, web_server: &str, scope: &Scope) -> PortResult<Arc<dyn Files>> {
        let server = self.server(web_server)?;
        let first = self.files_of(&server.host, scope)?;
        if server.also_on.is_empty() || server.shared_files {
            return Ok(first);
        }
        let others = Self::others(server, |host| self.files_of(host, scope))?;
        Ok(Arc::new(ClusterFiles::new(first, others)))
    }

    pub(crate) fn database(&self, name: &str, scope: &Scope) -> PortResult<Arc<dyn Database>> {
        let database = self.databases.get(name).ok_or_else(|| unknown("database server", name))?;
        Ok(Arc::new(database.scoped(scope)))
    }

    pub(crate) fn app(
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
