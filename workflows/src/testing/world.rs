//! A whole world of fakes: hosts with disks and web servers, database servers, platforms, backups, secrets. It can be copied at any
//! moment and compared as a whole, without asking anything that the workflows ask. Never waits.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    Body, FakeApp, FakeBackups, FakeCommands, FakeDatabase, FakeDisk, FakeFiles, FakeSecrets, FakeWebServer,
    Faults,
};
use crate::cluster::{ClusterApp, ClusterFiles, ClusterWebServer, Member};
use crate::commands::{COMMANDS, CommandRule};
use crate::names::SiteName;
use crate::ports::{
    App, AppKind, Backups, Commands, Database, Files, Get, PortError, PortResult, Scope, Secrets, WebServer,
    World,
};
use crate::records::{
    DATABASE_SERVER, DeletePolicy, PLATFORM, POLICY, PlatformRecord, WEB_SERVER, WebServerRecord,
};

/// A world. Clones share it.
#[derive(Clone)]
pub struct FakeWorld {
    faults: Faults,
    hosts: BTreeMap<String, Host>,
    web_servers: BTreeMap<String, (String, FakeWebServer)>,
    /// The other hosts of web servers that run on several.
    others: BTreeMap<String, Vec<Member<FakeWebServer>>>,
    databases: BTreeMap<String, FakeDatabase>,
    platforms: BTreeMap<String, PlatformRecord>,
    deletes: DeletePolicy,
    rules: Vec<CommandRule>,
    commands: FakeCommands,
    backups: FakeBackups,
    secrets: FakeSecrets,
}

#[derive(Clone)]
struct Host {
    disk: FakeDisk,
    app: FakeApp,
}

/// Everything there is in a world, in words, by what it is: two that are equal are the same world.
pub type WorldState = BTreeMap<String, String>;

impl FakeWorld {
    /// A world with these database servers, and with these web servers by the names of their hosts.
    #[must_use]
    pub fn new(databases: &[&str], web_servers: &[(&str, &str)]) -> Self {
        let faults = Faults::new();
        let secrets = FakeSecrets::new(faults.clone());
        let keeper: Arc<dyn Secrets> = Arc::new(secrets.clone());
        let database = |name: &&str| ((*name).to_owned(), FakeDatabase::new(faults.clone(), keeper.clone()));
        let databases: BTreeMap<_, _> = databases.iter().map(database).collect();
        let mut hosts = BTreeMap::new();
        let mut web = BTreeMap::new();
        for (name, host) in web_servers {
            let host_of = hosts.entry((*host).to_owned()).or_insert_with(|| {
                let disk = FakeDisk::new();
                let app = FakeApp::new(faults.clone(), disk.clone(), databases.clone(), keeper.clone());
                Host { disk, app }
            });
            let server = FakeWebServer::new(format!("/etc/{name}"), faults.clone(), host_of.app.page());
            web.insert((*name).to_owned(), ((*host).to_owned(), server));
        }
        let backups = FakeBackups::new(faults.clone());
        let (platforms, others, deletes) = (BTreeMap::new(), BTreeMap::new(), DeletePolicy::default());
        let (rules, commands, web_servers) = (Vec::new(), FakeCommands::new(faults.clone()), web);
        Self {
            faults,
            hosts,
            web_servers,
            others,
            databases,
            platforms,
            deletes,
            rules,
            commands,
            backups,
            secrets,
        }
    }

    /// Lets sites be deleted that are not disabled.
    pub fn let_open_sites_be_deleted(&mut self) {
        self.deletes.only_disabled = false;
    }

    /// The operator's own commands around tasks.
    pub fn set_commands(&mut self, rules: Vec<CommandRule>) {
        self.rules = rules;
    }

    /// What became of them.
    #[must_use]
    pub fn own_commands(&self) -> &FakeCommands {
        &self.commands
    }

    /// Makes a web server a cluster: it runs on this host too.
    pub fn add_host(&mut self, web_server: &str, host: &str) {
        let (disk, keeper) = (FakeDisk::new(), Arc::new(self.secrets.clone()));
        let app = FakeApp::new(self.faults.clone(), disk.clone(), self.databases.clone(), keeper);
        let port = FakeWebServer::new(format!("/etc/{web_server}"), self.faults.clone(), app.page());
        self.hosts.insert(host.to_owned(), Host { disk, app });
        let member = Member { host: host.to_owned(), port };
        self.others.entry(web_server.to_owned()).or_default().push(member);
    }

    /// Puts a platform of the fake application on the host of a web server.
    ///
    /// # Panics
    /// When there is no such web server.
    pub fn add_platform(&mut self, name: &str, web_server: &str, root: &str, version: &str, schema: u64) {
        let (host, _) = &self.web_servers[web_server];
        for host in std::iter::once(host).chain(self.others(web_server).map(|other| &other.host)) {
            self.hosts[host].app.make_platform(root, version, schema);
        }
        let (web_server, root) = (web_server.to_owned(), root.to_owned());
        self.platforms.insert(name.to_owned(), PlatformRecord { web_server, root, app: AppKind::Wordpress });
    }

    /// Another world, the same as this one at this moment, with no faults yet.
    #[must_use]
    pub fn fork(&self) -> Self {
        let faults = Faults::new();
        let secrets = self.secrets.fork(faults.clone());
        let keeper: Arc<dyn Secrets> = Arc::new(secrets.clone());
        let fork = |(name, database): (&String, &FakeDatabase)| {
            (name.clone(), database.fork(faults.clone(), keeper.clone()))
        };
        let databases: BTreeMap<_, _> = self.databases.iter().map(fork).collect();
        let fork = |(name, host): (&String, &Host)| {
            let disk = host.disk.fork();
            let app = host.app.fork(faults.clone(), disk.clone(), databases.clone(), keeper.clone());
            (name.clone(), Host { disk, app })
        };
        let hosts: BTreeMap<_, _> = self.hosts.iter().map(fork).collect();
        let fork = |(name, (host, server)): (&String, &(String, FakeWebServer))| {
            (name.clone(), (host.clone(), server.fork(faults.clone(), hosts[host].app.page())))
        };
        let web_servers = self.web_servers.iter().map(fork).collect();
        let fork = |(name, members): (&String, &Vec<Member<FakeWebServer>>)| {
            let fork = |Member { host, port }: &Member<FakeWebServer>| {
                let port = port.fork(faults.clone(), hosts[host].app.page());
                Member { host: host.clone(), port }
            };
            (name.clone(), members.iter().map(fork).collect())
        };
        let others = self.others.iter().map(fork).collect();
        let (backups, platforms) = (self.backups.fork(faults.clone()), self.platforms.clone());
        let (deletes, rules, commands) =
            (self.deletes, self.rules.clone(), self.commands.fork(faults.clone()));
        Self {
            faults,
            hosts,
            web_servers,
            others,
            databases,
            platforms,
            deletes,
            rules,
            commands,
            backups,
            secrets,
        }
    }

    fn others(&self, web_server: &str) -> impl Iterator<Item = &Member<FakeWebServer>> {
        self.others.get(web_server).into_iter().flatten()
    }

    /// Every web server by its name, on the others of its hosts with the host's name too.
    fn every_server(&self) -> impl Iterator<Item = (String, &FakeWebServer)> {
        let first = self.web_servers.iter().map(|(name, (_, server))| (name.clone(), server));
        let others = self.others.iter().flat_map(|(name, members)| {
            members.iter().map(move |other| (format!("{name} on {}", other.host), &other.port))
        });
        first.chain(others)
    }

    /// What can go wrong in it.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// A host's disk.
    ///
    /// # Panics
    /// When there is no such host.
    #[must_use]
    pub fn disk(&self, host: &str) -> &FakeDisk {
        &self.hosts[host].disk
    }

    /// A web server.
    ///
    /// # Panics
    /// When there is no such server.
    #[must_use]
    pub fn web(&self, name: &str) -> &FakeWebServer {
        &self.web_servers[name].1
    }

    /// A database server.
    ///
    /// # Panics
    /// When there is no such server.
    #[must_use]
    pub fn database_server(&self, name: &str) -> &FakeDatabase {
        &self.databases[name]
    }

    /// The secret store.
    #[must_use]
    pub fn secret_store(&self) -> &FakeSecrets {
        &self.secrets
    }

    /// The backup directory.
    #[must_use]
    pub fn backup_dir(&self) -> &FakeBackups {
        &self.backups
    }

    /// The platforms' roots, with the host of each.
    #[must_use]
    pub fn roots(&self) -> Vec<(String, String)> {
        let hosts = |platform: &PlatformRecord| {
            let first = self.web_servers[&platform.web_server].0.clone();
            let others = self.others(&platform.web_server).map(|other| other.host.clone());
            std::iter::once(first).chain(others).collect::<Vec<_>>()
        };
        let roots = |platform: &PlatformRecord| {
            let root = platform.root.clone();
            hosts(platform).into_iter().map(move |host| (host, root.clone())).collect::<Vec<_>>()
        };
        self.platforms.values().flat_map(roots).collect()
    }

    /// What the configuration says: records of a family; `None` for families of the registry.
    #[must_use]
    pub fn configured(&self, family: &str) -> Option<Vec<(String, Value)>> {
        Some(match family {
            PLATFORM => {
                self.platforms.iter().map(|(name, platform)| (name.clone(), json!(platform))).collect()
            }
            WEB_SERVER => {
                let record = |host: &String| json!(WebServerRecord { host: host.clone() });
                self.web_servers.iter().map(|(name, (host, _))| (name.clone(), record(host))).collect()
            }
            POLICY => {
                vec![("delete".to_owned(), json!(self.deletes)), (COMMANDS.to_owned(), json!(self.rules))]
            }
            DATABASE_SERVER => self.databases.keys().map(|name| (name.clone(), json!({}))).collect(),
            _ => return None,
        })
    }

    /// What a visitor gets of a host name at each web server: its name, the status (0: no answer) and the page. Whatever faults there are.
    #[must_use]
    pub fn visit(&self, host: &SiteName, path: &str) -> Vec<(String, u16, String)> {
        let request = Get { host: host.clone(), path: path.to_owned(), bypass: None };
        let answers = self.every_server().map(|(name, server)| match server.browse(&request) {
            Some(answer) => (name, answer.status, String::from_utf8_lossy(&answer.body).into_owned()),
            None => (name, 0, String::new()),
        });
        answers.collect()
    }

    /// Everything there is: each node of each disk with mode, owner and contents, apart from it its inode and its time; each vhost file
    /// and what the servers run with; each row, account and grant; each secret; each archive, whole or not.
    #[must_use]
    pub fn state(&self) -> WorldState {
        let mut state = WorldState::new();
        for (name, host) in &self.hosts {
            for (path, node) in host.disk.snapshot("/") {
                let (kind, contents) = match &node.body {
                    Body::Dir => ("dir", String::new()),
                    Body::Link(to) => ("link", to.clone()),
                    Body::File(bytes) => ("file", String::from_utf8_lossy(bytes).into_owned()),
                };
                let told = format!("{kind} {:o} {:?} {contents}", node.mode, (node.uid, node.gid));
                state.insert(format!("disk {name} /{path}"), told);
                state.insert(format!("inode {name} /{path}"), node.inode.to_string());
                state.insert(format!("time {name} /{path}"), node.mtime_ns.to_string());
            }
        }
        for (name, server) in self.every_server() {
            for (path, file) in server.files() {
                let text = String::from_utf8_lossy(&file.bytes).into_owned();
                let access = (file.mode, file.uid, file.gid, &file.symlink);
                state.insert(format!("vhost {name} {path}"), format!("{access:?} {text}"));
                state.insert(format!("time {name} {path}"), file.mtime_ns.to_string());
            }
            let loaded = server.loaded();
            state.extend(loaded.into_iter().map(|(path, told)| (format!("loaded {name} {path}"), told)));
        }
        for (name, database) in &self.databases {
            let entries = database.state().entries;
            state.extend(entries.into_iter().map(|(key, told)| (format!("database {name} {key}"), told)));
        }
        let secrets = self.secrets.all();
        state.extend(
            secrets.into_iter().map(|(name, secret)| (format!("secret {}", name.0), digest(secret.expose()))),
        );
        for name in self.backups.names() {
            state.insert(format!("backup {name}"), digest(&format!("{:?}", self.backups.archive(&name))));
        }
        state.extend(
            self.backups.partial().into_iter().map(|name| (format!("partial {name}"), String::new())),
        );
        state
    }
}

/// How a state tells of something long or secret.
pub(super) fn digest(text: &str) -> String {
    hex::encode(&Sha256::digest(text)[..8])
}

fn unknown(what: &str, name: &str) -> PortError {
    PortError::Unavailable(format!("there is no {what} {name:?}"))
}

impl World for FakeWorld {
    fn web_server(&self, name: &str, _: &Scope) -> PortResult<Arc<dyn WebServer>> {
        let (host, server) = self.web_servers.get(name).ok_or_else(|| unknown("web server", name))?;
        let member = |host: &String, server: &FakeWebServer| -> Member<Arc<dyn WebServer>> {
            Member { host: host.clone(), port: Arc::new(server.clone()) }
        };
        let others: Vec<_> = self.others(name).map(|other| member(&other.host, &other.port)).collect();
        if others.is_empty() {
            return Ok(Arc::new(server.clone()));
        }
        Ok(Arc::new(ClusterWebServer::new(member(host, server), others)))
    }

    fn files(&self, web_server: &str, _: &Scope) -> PortResult<Arc<dyn Files>> {
        let (host, _) = self.web_servers.get(web_server).ok_or_else(|| unknown("web server", web_server))?;
        let files = |host: &String| -> Arc<dyn Files> {
            Arc::new(FakeFiles::new(self.hosts[host].disk.clone(), self.faults.clone()))
        };
        let member = |host: &String| Member { host: host.clone(), port: files(host) };
        let others: Vec<_> = self.others(web_server).map(|other| member(&other.host)).collect();
        if others.is_empty() { Ok(files(host)) } else { Ok(Arc::new(ClusterFiles::new(files(host), others))) }
    }

    fn database(&self, name: &str, _: &Scope) -> PortResult<Arc<dyn Database>> {
        Ok(Arc::new(self.databases.get(name).ok_or_else(|| unknown("database server", name))?.clone()))
    }

    fn app(&self, web_server: &str, _: &str, _: AppKind, scope: &Scope) -> PortResult<Arc<dyn App>> {
        let (host, _) = self.web_servers.get(web_server).ok_or_else(|| unknown("web server", web_server))?;
        let member = |host: &String| -> Member<Arc<dyn App>> {
            Member { host: host.clone(), port: Arc::new(self.hosts[host].app.clone()) }
        };
        let others: Vec<_> = self.others(web_server).map(|other| member(&other.host)).collect();
        if others.is_empty() {
            return Ok(member(host).port);
        }
        let shared = self.hosts[host].app.with_files(self.files(web_server, scope)?);
        Ok(Arc::new(ClusterApp::new(Arc::new(shared), member(host), others)))
    }

    fn commands(&self, _: &str, _: &Scope) -> PortResult<Arc<dyn Commands>> {
        Ok(Arc::new(self.commands.clone()))
    }

    fn backups(&self, _: &Scope) -> Arc<dyn Backups> {
        Arc::new(self.backups.clone())
    }

    fn secrets(&self) -> Arc<dyn Secrets> {
        Arc::new(self.secrets.clone())
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn world() -> FakeWorld {
        let mut world = FakeWorld::new(&["db1"], &[("web1", "host1"), ("web2", "host2")]);
        world.add_platform("old", "web1", "/srv/old", "6.1", 1);
        world
    }

    #[test]
    fn a_fork_is_the_same_world_and_another_one() {
        let world = world();
        let before = world.state();
        let fork = world.fork();
        assert_eq!(fork.state(), before);
        fork.disk("host1").write("/srv/old/more", "x");
        fork.disk("host2").make_dir("/new");
        let scope = Scope { task: "t".to_owned(), step: "s".to_owned() };
        let name = crate::names::DatabaseName::parse("shop").unwrap();
        let mark = crate::ports::Mark { task: "t".to_owned(), site: "s".to_owned() };
        let database = fork.database("db1", &scope).unwrap();
        database.create_schema(&name, &mark, None).now_or_never().unwrap().unwrap();
        let secret = crate::ports::SecretRef("a".to_owned());
        fork.secrets().ensure(&secret).now_or_never().unwrap().unwrap();
        assert_eq!(world.state(), before);
        let changed: Vec<String> = fork
            .state()
            .into_iter()
            .filter(|(key, told)| before.get(key) != Some(told))
            .map(|(key, _)| key)
            .collect();
        let made = ["database db1 schema:shop", "disk host1 /srv/old/more", "disk host2 /new", "secret a"];
        assert!(made.iter().all(|key| changed.contains(&(*key).to_owned())), "{changed:?}");
        let times = ["time host1 /srv/old", "time host1 /srv/old/more", "time host2 /", "time host2 /new"];
        assert_eq!(changed.iter().filter(|key| key.starts_with("time")).collect::<Vec<_>>(), times);
        assert_eq!(changed.len(), 10, "{changed:?}");
    }

    #[test]
    fn the_configuration_names_what_is_there() {
        let families =
            [PLATFORM, WEB_SERVER, DATABASE_SERVER].map(|family| world().configured(family).unwrap().len());
        assert_eq!(families, [1, 2, 1]);
        assert_eq!(world().configured("site"), None);
        assert_eq!(world().roots(), [("host1".to_owned(), "/srv/old".to_owned())]);
    }
}
