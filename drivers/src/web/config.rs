//! What the configuration says about a web server, checked once. Never touches a host.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use kedge_workflows::ports::{PortError, PortResult};

use super::vhost::safe_path;

/// A web server as the configuration file describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebServerConfig {
    /// Its name in the configuration, for messages.
    pub name: String,
    /// Which server it is.
    pub kind: WebServerKind,
    /// Where vhost files are: a directory whose `*.conf` files the server includes.
    pub vhost_dir: String,
    /// The port that visitors come in by (plain HTTP).
    pub listen_port: u16,
    /// The port that visitors with HTTPS come in by: for sites with a certificate.
    pub tls_port: u16,
    /// Addresses to listen on. Empty: all IPv4 addresses for nginx, all addresses for Apache. nginx gives a request to the vhosts with the most
    /// specific `listen`, so these must be the ones that the other vhosts of the server use (with `::` where they have `[::]:80`).
    pub listen_addresses: Vec<IpAddr>,
    /// Where php-fpm listens.
    pub php_fpm: PhpFpm,
    /// The document root under which ACME clients put their challenges, for all sites.
    pub acme_root: String,
    /// The command that tests the configuration; `None`: the server's usual one.
    pub test_command: Option<Vec<String>>,
    /// The command that makes the server read its configuration; `None`: through systemd where it runs the server, else directly.
    pub reload_command: Option<Vec<String>>,
    /// How long the new revision may take to be answered after a reload.
    pub revision_limit: Duration,
}

/// Web servers that Kedge drives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WebServerKind {
    /// nginx.
    Nginx,
    /// Apache httpd 2.4 with mod_proxy_fcgi, mod_rewrite, mod_headers, mod_alias, mod_dir and mod_env.
    Apache,
}

/// Where php-fpm listens.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub enum PhpFpm {
    /// A socket's path.
    Socket(String),
    /// `host:port`.
    Address(String),
}

impl WebServerConfig {
    /// A configuration with the defaults: ports 80 and 443, all addresses, challenges under `/var/www/html`, the usual commands,
    /// 30 seconds for a revision.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        kind: WebServerKind,
        vhost_dir: impl Into<String>,
        php_fpm: PhpFpm,
    ) -> Self {
        Self {
            name: name.into(),
            kind,
            vhost_dir: vhost_dir.into(),
            listen_port: 80,
            tls_port: 443,
            listen_addresses: Vec::new(),
            php_fpm,
            acme_root: "/var/www/html".into(),
            test_command: None,
            reload_command: None,
            revision_limit: Duration::from_secs(30),
        }
    }

    /// Checks what goes into templates and commands.
    ///
    /// # Errors
    /// `Refused`, naming the setting and what is wrong with it.
    pub fn validate(&self) -> PortResult<()> {
        let refuse = |what: String| Err(PortError::Refused(format!("web server {}: {what}", self.name)));
        for (setting, path) in [("vhost_dir", &self.vhost_dir), ("acme_root", &self.acme_root)] {
            safe_path(path).or_else(|why| refuse(format!("{setting} {path:?} {why}")))?;
        }
        if self.listen_port == 0 {
            return refuse("listen_port must be 1 to 65535".to_owned());
        }
        if self.tls_port == 0 || self.tls_port == self.listen_port {
            return refuse("tls_port must be 1 to 65535, and another one than listen_port".to_owned());
        }
        for (setting, command) in
            [("test_command", &self.test_command), ("reload_command", &self.reload_command)]
        {
            if command.as_ref().is_some_and(|argv| argv.first().is_none_or(String::is_empty)) {
                return refuse(format!("{setting} is empty; leave it out for the usual command"));
            }
        }
        Ok(())
    }

    /// What vhosts listen on, as `address:port` where an address is given.
    pub(super) fn listen(&self) -> Vec<String> {
        self.listen_on(self.listen_port)
    }

    /// The same for the port of HTTPS.
    pub(super) fn listen_tls(&self) -> Vec<String> {
        self.listen_on(self.tls_port)
    }

    fn listen_on(&self, port: u16) -> Vec<String> {
        if self.listen_addresses.is_empty() {
            return vec![port.to_string()];
        }
        self.listen_addresses.iter().map(|address| bracketed(*address, port)).collect()
    }

    /// The addresses among `others` that visitors come by, on our port, and that our vhosts are not bound to: a server prefers the
    /// vhosts bound to the address itself.
    pub(super) fn missing_addresses(&self, others: &[SocketAddr]) -> Vec<IpAddr> {
        let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
        let own = if self.listen_addresses.is_empty() { &any } else { self.listen_addresses.as_slice() };
        let on_our_port =
            others.iter().filter(|address| address.port() == self.listen_port).map(SocketAddr::ip);
        let mut missing: Vec<IpAddr> =
            on_our_port.filter(|ip| !ip.is_loopback() && !own.contains(ip)).collect();
        missing.sort();
        missing.dedup();
        missing
    }

    /// Where the host itself reaches the server: `address:port`.
    pub(super) fn own_address(&self) -> String {
        self.own_address_on(self.listen_port)
    }

    /// The same at another port of the server.
    pub(super) fn own_address_on(&self, port: u16) -> String {
        match self.listen_addresses.first() {
            Some(address) if !address.is_unspecified() => bracketed(*address, port),
            Some(IpAddr::V6(_)) => format!("[::1]:{port}"),
            Some(IpAddr::V4(_)) | None => format!("127.0.0.1:{port}"),
        }
    }
}

fn bracketed(address: IpAddr, port: u16) -> String {
    SocketAddr::new(address, port).to_string()
}

impl PhpFpm {
    /// Parses `unix:/path` or `host:port`.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = |why: &str| {
            Err(format!("{text:?} {why}; php_fpm is \"unix:/run/php/php-fpm.sock\" or \"127.0.0.1:9000\""))
        };
        if let Some(path) = text.strip_prefix("unix:") {
            return match safe_path(path) {
                // Both servers end the socket's path at a blank; a colon begins a path within nginx.
                Ok(()) if path.contains([' ', ':']) => bad("has a blank or a colon in its path"),
                Ok(()) => Ok(Self::Socket(path.to_owned())),
                Err(why) => bad(why),
            };
        }
        let Some((host, port)) = text.rsplit_once(':') else { return bad("has neither unix: nor a port") };
        if port.parse::<u16>().map_or(true, |port| port == 0) {
            return bad("has no port of 1 to 65535");
        }
        let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let valid = match inner {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                !host.is_empty()
                    && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
            }
        };
        if valid { Ok(Self::Address(text.to_owned())) } else { bad("has no valid host") }
    }
}

impl TryFrom<String> for PhpFpm {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl fmt::Display for WebServerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nginx => "nginx",
            Self::Apache => "Apache",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn php_fpm_is_a_socket_or_an_address() {
        assert_eq!(
            PhpFpm::parse("unix:/run/php/php-fpm.sock"),
            Ok(PhpFpm::Socket("/run/php/php-fpm.sock".into()))
        );
        for good in ["127.0.0.1:9000", "php.internal:9000", "[::1]:9000"] {
            assert_eq!(PhpFpm::parse(good), Ok(PhpFpm::Address(good.into())));
        }
        for bad in [
            "",
            "unix:",
            "unix:run",
            "unix:/a b",
            "unix:/a;b",
            "host",
            "host:",
            "host:0",
            "host:70000",
            ":9000",
            "a;b:1",
            "[x]:1",
        ] {
            assert!(PhpFpm::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn unusable_settings_are_named() {
        let good = WebServerConfig::new(
            "web1",
            WebServerKind::Nginx,
            "/etc/nginx/sites-enabled",
            PhpFpm::parse("[::1]:9").unwrap(),
        );
        assert_eq!(good.validate(), Ok(()));
        let check = |change: &dyn Fn(&mut WebServerConfig)| {
            let mut config = good.clone();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert!(
            check(&|c| c.vhost_dir = "etc".into())
                .starts_with("web server web1: vhost_dir \"etc\" is not an absolute path")
        );
        assert!(check(&|c| c.acme_root = "/a\"b".into()).contains("acme_root"));
        assert!(check(&|c| c.listen_port = 0).contains("listen_port"));
        assert!(check(&|c| c.test_command = Some(vec![])).contains("test_command"));
        assert!(check(&|c| c.reload_command = Some(vec![String::new()])).contains("reload_command"));
    }

    #[test]
    fn addresses_that_only_others_have_are_missing() {
        let mut config = WebServerConfig::new("w", WebServerKind::Nginx, "/v", PhpFpm::parse("h:1").unwrap());
        let others: Vec<SocketAddr> =
            ["0.0.0.0:80", "[::]:80", "192.0.2.1:80", "192.0.2.1:80", "127.0.0.1:80", "192.0.2.2:443"]
                .map(|a| a.parse().unwrap())
                .to_vec();
        let mut check = |own: &[&str]| {
            config.listen_addresses = own.iter().map(|a| a.parse().unwrap()).collect();
            config.missing_addresses(&others).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(check(&[]), ["192.0.2.1", "::"]);
        assert_eq!(check(&["0.0.0.0", "::", "192.0.2.1"]), Vec::<String>::new());
        assert_eq!(check(&["192.0.2.1"]), ["0.0.0.0", "::"]);
    }

    #[test]
    fn the_own_address_is_one_the_server_listens_on() {
        let mut config = WebServerConfig::new("w", WebServerKind::Nginx, "/v", PhpFpm::parse("h:1").unwrap());
        let mut check = |addresses: &[&str]| {
            config.listen_addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
            (config.listen().join(" "), config.own_address())
        };
        assert_eq!(check(&[]), ("80".into(), "127.0.0.1:80".into()));
        assert_eq!(check(&["0.0.0.0", "::"]), ("0.0.0.0:80 [::]:80".into(), "127.0.0.1:80".into()));
        assert_eq!(check(&["192.0.2.7"]), ("192.0.2.7:80".into(), "192.0.2.7:80".into()));
        assert_eq!(check(&["::"]), ("[::]:80".into(), "[::1]:80".into()));
    }
}
