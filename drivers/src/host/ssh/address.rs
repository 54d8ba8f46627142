//! Where an SSH host is, and the options of every `ssh` process: no questions, no forwarding, no surprise from a user's
//! configuration, but its host aliases, jump hosts, keys and known hosts.

use std::path::{Path, PathBuf};

use kedge_workflows::ports::{PortError, PortResult};
use tokio::process::Command as Process;

use crate::host::custody::VARIABLE;

/// Options of every process. `ServerAlive`: a dead peer is noticed after 45 seconds.
const OPTIONS: &[&str] = &[
    "BatchMode=yes",
    "ClearAllForwardings=yes",
    "ConnectTimeout=10",
    "ControlPersist=no",
    "EscapeChar=none",
    "ForwardAgent=no",
    "ForwardX11=no",
    "LogLevel=ERROR",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    "RequestTTY=no",
    "ServerAliveCountMax=3",
    "ServerAliveInterval=15",
];

/// How a host is reached.
#[derive(Clone, Debug)]
pub struct SshOptions {
    /// `user@host:port`; user and port may be left to the user's ssh configuration, of which `host` may be an alias.
    pub address: String,
    /// The key to log in with, and no other.
    pub identity_file: Option<PathBuf>,
    /// The file of known host keys; a host that is not in it is refused. Without it the user's ssh configuration decides.
    pub known_hosts: Option<PathBuf>,
    /// Whether commands go through `sudo -n`.
    pub sudo: bool,
    /// Directory for the sockets of shared connections: private, short (at most 70 bytes), made if absent.
    pub runtime_dir: PathBuf,
}

/// A checked address with the options of `ssh`.
#[derive(Clone, Debug)]
pub(super) struct Client {
    user: Option<String>,
    host: String,
    port: Option<u16>,
    identity_file: Option<PathBuf>,
    known_hosts: Option<PathBuf>,
}

impl Client {
    /// Takes the address apart.
    pub(super) fn new(name: &str, options: &SshOptions) -> PortResult<Self> {
        let address = &options.address;
        let refused = |why: &str| {
            PortError::Refused(format!(
                "{name}: {address:?} is not an address such as deploy@web1.example:22: {why}"
            ))
        };
        let (user, place) = match address.rsplit_once('@') {
            Some((user, place)) => (Some(user.to_owned()), place),
            None => (None, address.as_str()),
        };
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(|| refused("a bracket is not closed"))?;
                (host, port.strip_prefix(':'))
            }
            None if place.matches(':').count() > 1 => {
                return Err(refused("write IPv6 addresses in brackets"));
            }
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map(|port| {
            port.parse().ok().filter(|port| *port > 0).ok_or_else(|| refused("the port is not one"))
        });
        let odd = |text: &str| {
            text.is_empty()
                || text.starts_with('-')
                || text.contains(|c: char| c.is_whitespace() || c.is_control())
        };
        if odd(host) || user.as_deref().is_some_and(odd) {
            return Err(refused("user or host is not a name"));
        }
        Ok(Self {
            user,
            host: host.to_owned(),
            port: port.transpose()?,
            identity_file: options.identity_file.clone(),
            known_hosts: options.known_hosts.clone(),
        })
    }

    /// User, host and port as `ssh` takes them, for messages and for a person to type.
    pub(super) fn shown(&self) -> String {
        let place =
            self.user.as_ref().map_or_else(|| self.host.clone(), |user| format!("{user}@{}", self.host));
        self.port.map_or_else(|| place.clone(), |port| format!("{place} -p {port}"))
    }

    /// An `ssh` process up to the host's name: what follows is the remote command. It holds the shared connection behind this
    /// socket (`holds`) or uses it; when it is gone it connects by itself. Ended when its handle is dropped.
    pub(super) fn process(&self, socket: &Path, holds: bool) -> Process {
        let mut process = Process::new("ssh");
        process.arg("-T");
        for option in OPTIONS {
            process.args(["-o", option]);
        }
        process.args(["-o", if holds { "ControlMaster=yes" } else { "ControlMaster=no" }]);
        process.arg("-o").arg(option("ControlPath", socket));
        if let Some(file) = &self.identity_file {
            process.args(["-o", "IdentitiesOnly=yes", "-o"]).arg(option("IdentityFile", file));
        }
        if let Some(file) = &self.known_hosts {
            process.args(["-o", "StrictHostKeyChecking=yes", "-o", "GlobalKnownHostsFile=/dev/null"]);
            process.arg("-o").arg(option("UserKnownHostsFile", file));
        }
        if let Some(user) = &self.user {
            process.args(["-l", user]);
        }
        if let Some(port) = self.port {
            process.args(["-p", &port.to_string()]);
        }
        process.args(["--", &self.host]);
        process.env_remove(VARIABLE).env("LC_ALL", "C").process_group(0).kill_on_drop(true);
        process
    }
}

/// An option whose value is a path: in quotes, `%` doubled, as ssh_config wants it.
fn option(name: &str, path: &Path) -> String {
    format!("{name}=\"{}\"", path.display().to_string().replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(address: &str) -> PortResult<(Option<String>, String, Option<u16>)> {
        let options = SshOptions {
            address: address.into(),
            identity_file: None,
            known_hosts: None,
            sudo: false,
            runtime_dir: PathBuf::new(),
        };
        Client::new("web1", &options).map(|client| (client.user, client.host, client.port))
    }

    #[test]
    fn addresses_have_user_host_and_port() {
        assert_eq!(
            parsed("deploy@web1.example:2222").unwrap(),
            (Some("deploy".into()), "web1.example".into(), Some(2222))
        );
        assert_eq!(parsed("web1").unwrap(), (None, "web1".into(), None));
        assert_eq!(parsed("root@[::1]:22").unwrap(), (Some("root".into()), "::1".into(), Some(22)));
        for bad in [
            "",
            "@web1",
            "deploy@",
            "a@-oProxyCommand=x",
            "-lx@web1",
            "web1:",
            "web1:x",
            "web1:0",
            "::1",
            "[::1",
            "a b",
            "web1:70000",
        ] {
            assert!(matches!(parsed(bad), Err(PortError::Refused(_))), "{bad:?}");
        }
    }
}
