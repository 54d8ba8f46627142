//! The configuration: read, checked whole, every mistake reported at once with file, line and a way out. Nothing is bound, opened
//! or created by it.

mod check;
mod commands;
#[cfg(test)]
mod docs;
mod face;
#[cfg(test)]
mod fuzz;
pub(crate) mod own;
mod raw;
mod schedules;
mod secrets;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use kedge_drivers::mysql::DatabaseConfig;
use kedge_drivers::web::WebServerConfig;
use kedge_webhooks::{ApprovalPolicy, Chat, ClientCertificate, Endpoint, Hook, Rates, Tls, Token};
use kedge_workflows::commands::CommandRule;
use kedge_workflows::ports::AppKind;
use kedge_workflows::records::DeletePolicy;

use crate::schedules::Schedule;
use crate::upkeep::Ages;

pub(crate) use check::platform_mistakes;
pub(crate) use raw::Host as HostConfig;

/// A configuration that holds together.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) data_dir: PathBuf,
    pub(crate) backup_dir: PathBuf,
    pub(crate) ages: Ages,
    pub(crate) listen: SocketAddr,
    pub(crate) public_url: Option<String>,
    pub(crate) rates: Rates,
    pub(crate) endpoint_networks: Vec<ipnet::IpNet>,
    pub(crate) trusted_proxies: Vec<ipnet::IpNet>,
    pub(crate) tls: Option<Tls>,
    pub(crate) hosts: BTreeMap<String, HostConfig>,
    pub(crate) web_servers: BTreeMap<String, WebServer>,
    pub(crate) database_servers: BTreeMap<String, DatabaseServer>,
    pub(crate) platforms: BTreeMap<String, Platform>,
    pub(crate) deletes: DeletePolicy,
    pub(crate) tokens: Vec<Token>,
    pub(crate) certificates: Vec<ClientCertificate>,
    pub(crate) hooks: Vec<Hook>,
    pub(crate) chats: Vec<Chat>,
    pub(crate) endpoints: Vec<Endpoint>,
    /// Which tasks need a second person.
    pub(crate) approvals: Vec<ApprovalPolicy>,
    pub(crate) schedules: Vec<Schedule>,
    /// The operator's own, around tasks.
    pub(crate) commands: Vec<CommandRule>,
    /// Loaded secrets, for the mask of logs.
    pub(crate) secrets: Vec<String>,
}

/// A web server on its host, or on several: a cluster.
#[derive(Clone, Debug)]
pub(crate) struct WebServer {
    /// The host that leads.
    pub(crate) host: String,
    /// The others.
    pub(crate) also_on: Vec<String>,
    /// Whether what is written on one host is there on all.
    pub(crate) shared_files: bool,
    pub(crate) user: String,
    pub(crate) driver: WebServerConfig,
}

impl WebServer {
    /// All its hosts, the one that leads first.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.host).chain(&self.also_on)
    }
}

/// A database server and the host of its client tools.
#[derive(Clone, Debug)]
pub(crate) struct DatabaseServer {
    pub(crate) host: String,
    pub(crate) driver: DatabaseConfig,
}

/// A platform.
#[derive(Clone, Debug)]
pub(crate) struct Platform {
    pub(crate) web_server: String,
    pub(crate) root: String,
    pub(crate) app: AppKind,
    pub(crate) drush: Option<String>,
    pub(crate) plain: Option<kedge_drivers::app::PlainConfig>,
    /// Made by API, and not in the file.
    pub(crate) own: bool,
}

/// One mistake.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Line in the file, from 1; 0 for the file as a whole.
    pub(crate) line: usize,
    /// The part, such as `hosts.web1`.
    pub(crate) part: String,
    /// What is wrong and what would be right.
    pub(crate) detail: String,
}

/// All mistakes of a file.
#[derive(Debug)]
pub(crate) struct Problems {
    pub(crate) file: PathBuf,
    pub(crate) list: Vec<Problem>,
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}", self.file.display())?;
            if problem.line > 0 {
                write!(f, ":{}", problem.line)?;
            }
            if !problem.part.is_empty() {
                write!(f, ": {}", problem.part)?;
            }
            write!(f, ": {}", problem.detail)?;
        }
        Ok(())
    }
}

/// Reads and checks a configuration file.
///
/// # Errors
/// [`Problems`]: all of them.
pub(crate) fn load(file: &Path) -> Result<Config, Problems> {
    with_own(file, checked(file)?)
}

/// The same for a service that runs with `now`: what a life has from its beginning to its end stays, and is named where the file has
/// another word for it.
///
/// # Errors
/// [`Problems`]: all of them.
pub(crate) fn load_again(file: &Path, now: &Config) -> Result<(Config, Vec<&'static str>), Problems> {
    let mut config = checked(file)?;
    let mut stay = Vec::new();
    keep(&now.data_dir, &mut config.data_dir, "data_dir", &mut stay);
    keep(&now.backup_dir, &mut config.backup_dir, "backup_dir", &mut stay);
    keep(&now.listen, &mut config.listen, "http.listen", &mut stay);
    keep(&now.public_url, &mut config.public_url, "http.public_url", &mut stay);
    keep(&now.rates, &mut config.rates, "http.token_rate or http.hook_rate", &mut stay);
    keep(&now.ages, &mut config.ages, "what [store] says of ages", &mut stay);
    Ok((with_own(file, config)?, stay))
}

fn keep<T: Clone + PartialEq>(now: &T, then: &mut T, name: &'static str, stay: &mut Vec<&'static str>) {
    if now != then {
        then.clone_from(now);
        stay.push(name);
    }
}

/// What the file says, without what was made by API.
fn checked(file: &Path) -> Result<Config, Problems> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| unread(file, format!("cannot be read: {error}; name another file with --config")))?;
    let folder = file.parent().unwrap_or(Path::new("."));
    let read = |path: &Path| secrets::read(&folder.join(path));
    let env = |name: &str| std::env::var(name).ok();
    let public = |path: &Path| secrets::read_public(&folder.join(path));
    check::whole(&text, &read, &public, &env).map_err(|list| Problems { file: file.to_owned(), list })
}

/// Adds what was made by API, which is kept where the data is.
fn with_own(file: &Path, mut config: Config) -> Result<Config, Problems> {
    let own = own::read(&config.data_dir).map_err(|error| unread(file, format!("{error:#}")))?;
    own::add(&mut config, own);
    Ok(config)
}

fn unread(file: &Path, detail: String) -> Problems {
    Problems { file: file.to_owned(), list: vec![Problem { line: 0, part: String::new(), detail }] }
}
