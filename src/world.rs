//! The world as the workflows' ports want it: what the configuration of this moment reaches. A step works on with what it has when the
//! configuration changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use anyhow::Result;
use kedge_drivers::backups::LocalBackups;
use kedge_drivers::host::{Custody, Host};
use kedge_drivers::secrets::FileSecrets;
use kedge_workflows::ports::{
    App, AppKind, Backups, Commands, Database, Files, PortResult, Scope, Secrets, WebServer, World,
};

use crate::between::{Between, Nothing};
use crate::config::Config;
use crate::reached::{Ground, Reached};

/// Longest directory for sockets of shared SSH connections, in bytes.
const MAX_RUNTIME_DIR: usize = 70;

/// The configured world.
pub(crate) struct LiveWorld {
    now: RwLock<Arc<Reached>>,
    changing: Mutex<()>,
    ground: Ground,
    backups: Arc<LocalBackups>,
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
        let secrets = Arc::new(FileSecrets::open(config.data_dir.join("secrets"))?);
        let ground = Ground { custody, runtime, secrets };
        let backups = Arc::new(LocalBackups::new(&config.backup_dir));
        let now = Reached::new(config, &ground, between, None)?;
        Ok(Self { now: RwLock::new(Arc::new(now)), changing: Mutex::new(()), ground, backups })
    }

    /// What is reached at this moment.
    pub(crate) fn now(&self) -> Arc<Reached> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What another configuration would reach; nothing changes yet.
    ///
    /// # Errors
    /// When a host's or a web server's options are wrong.
    pub(crate) fn with(&self, config: Arc<Config>) -> Result<Reached> {
        Reached::new(config, &self.ground, &Nothing, Some(&self.now()))
    }

    /// From now on this is reached; what is in flight ends with what it had.
    pub(crate) fn replace(&self, reached: Reached) {
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(reached);
    }

    /// Whoever changes what is reached waits for others who do.
    pub(crate) fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hosts by name.
    pub(crate) fn hosts(&self) -> BTreeMap<String, Arc<dyn Host>> {
        self.now().hosts.clone()
    }

    /// The secrets, as they are kept here.
    pub(crate) fn secret_files(&self) -> &Arc<FileSecrets> {
        &self.ground.secrets
    }
}

impl World for LiveWorld {
    fn web_server(&self, name: &str, scope: &Scope) -> PortResult<Arc<dyn WebServer>> {
        self.now().web_server(name, scope)
    }

    fn files(&self, web_server: &str, scope: &Scope) -> PortResult<Arc<dyn Files>> {
        self.now().files(web_server, scope)
    }

    fn database(&self, name: &str, scope: &Scope) -> PortResult<Arc<dyn Database>> {
        self.now().database(name, scope)
    }

    fn app(
        &self,
        web_server: &str,
        platform: &str,
        kind: AppKind,
        scope: &Scope,
    ) -> PortResult<Arc<dyn App>> {
        self.now().app(web_server, platform, kind, scope)
    }

    fn commands(&self, host: &str, scope: &Scope) -> PortResult<Arc<dyn Commands>> {
        self.now().commands(host, scope)
    }

    fn backups(&self, _scope: &Scope) -> Arc<dyn Backups> {
        self.backups.clone()
    }

    fn secrets(&self) -> Arc<dyn Secrets> {
        self.ground.secrets.clone()
    }
}
