//! What differs between web servers: language, commands, words. Pure; one implementation a server.

use std::net::SocketAddr;

use kedge_workflows::ports::Vhost;

use super::config::{WebServerConfig, WebServerKind};
use super::served::Served;

/// A web server's own way. Adding a server is a module with one of these, and a line in [`of`].
pub(super) trait Dialect: Send + Sync + 'static {
    /// A vhost in the server's language, without the mark at the top.
    fn render(&self, config: &WebServerConfig, vhost: &Vhost, revision: &str) -> String;

    /// Names of the program that controls the server, best first.
    fn programs(&self) -> &'static [&'static str];
    /// Names of its systemd unit.
    fn units(&self) -> &'static [&'static str];
    /// Arguments that test the configuration on disk.
    fn test(&self) -> &'static [&'static str];
    /// Whether that reads the keys of certificates: where it does not, a wrong one ends the server at its next reload.
    fn tests_keys(&self) -> bool;
    /// Whether a vhost of ours lets denials in `.htaccess` files count.
    fn counts_htaccess(&self) -> bool;
    /// Arguments that print what [`Dialect::survey`] reads; they fail when the configuration is invalid.
    fn dump(&self) -> &'static [&'static str];
    /// Arguments that make the running server read its configuration.
    fn reload(&self) -> &'static [&'static str];
    /// Where a reload would start a server that is not running: the process id file and the processes' names, so that it is
    /// asked first. A server started by us would be ended with the attempt.
    fn pid_file(&self, dump: &str) -> Option<String>;
    /// Names of the server's processes.
    fn processes(&self) -> &'static [&'static str];

    /// Arguments that list the server's modules, and what the vhosts need of them.
    fn modules(&self) -> Option<(&'static [&'static str], &'static [&'static str])>;

    /// What a failed test says.
    fn verdict(&self, vhost_dir: &str, output: &str) -> Verdict;
    /// What the dump of a valid configuration says.
    fn survey(&self, dump: &str) -> Survey;
    /// What one vhost file serves, valid or not.
    fn served(&self, file: &str, text: &str) -> Vec<Served>;
}

/// The dialect of a kind of server.
pub(super) fn of(kind: WebServerKind) -> &'static dyn Dialect {
    match kind {
        WebServerKind::Nginx => &super::nginx::Nginx,
        WebServerKind::Apache => &super::apache::Apache,
    }
}

/// Why a configuration is invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Who is at fault.
    pub(super) suspect: Suspect,
    /// The server's words.
    pub(super) message: String,
}

/// The file at fault, as far as a message tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Suspect {
    /// It is named.
    File(String),
    /// Some file mentions this path, which is not there or not readable.
    Mentions(String),
    /// The message does not tell.
    Unknown,
}

/// What a valid configuration consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Survey {
    /// Host names and their files.
    pub(super) served: Vec<Served>,
    /// All files of the configuration.
    pub(super) files: Vec<String>,
    /// Files among them that the dump only names: read, they may tell more.
    pub(super) unread: Vec<String>,
    /// Addresses that vhosts are bound to, with their ports.
    pub(super) addresses: Vec<SocketAddr>,
}

/// Longest message of a server that we pass on.
const MAX_MESSAGE: usize = 2000;

/// A message, bounded.
pub(super) fn bounded(message: &str) -> String {
    message.chars().take(MAX_MESSAGE).collect()
}

/// `path` in `... path:12`, as both servers end a place.
pub(super) fn file_of_place(place: &str) -> Option<&str> {
    let (file, line) = place.rsplit_once(':')?;
    (file.starts_with('/') && !line.is_empty() && line.bytes().all(|b| b.is_ascii_digit())).then_some(file)
}
