//! What a test host shall be: its name, its services, where its data lies.

use std::fmt;

use crate::error::{Error, Result};

/// A service of a host, started by its init.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    /// OpenSSH: key login for `root` and for `deploy`, who has sudo without a password.
    Ssh,
    /// nginx on port 80, sites in `/etc/nginx/sites-enabled/*`.
    Nginx,
    /// Apache on port 8080, sites in `/etc/apache2/sites-enabled/*.conf`.
    Apache,
    /// PHP-FPM 8.2 on `/run/php/php-fpm.sock`, pool `www` as `www-data`.
    Php,
    /// MariaDB 10.11; root by socket, `/etc/mysql/debian.cnf` as Debian leaves it.
    Mariadb,
    /// Oracle's MySQL 9; root by socket. On hosts of their own image, made when first asked for, which has nothing but this and SSH.
    Mysql,
}

impl Service {
    /// All that one host can have.
    pub const ALL: [Self; 5] = [Self::Ssh, Self::Nginx, Self::Apache, Self::Php, Self::Mariadb];

    /// The port it listens on inside, where it has one.
    #[must_use]
    pub fn port(self) -> Option<u16> {
        match self {
            Self::Ssh => Some(22),
            Self::Nginx => Some(80),
            Self::Apache => Some(8080),
            Self::Php => None,
            Self::Mariadb | Self::Mysql => Some(3306),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ssh => "ssh",
            Self::Nginx => "nginx",
            Self::Apache => "apache",
            Self::Php => "php",
            Self::Mariadb => "mariadb",
            Self::Mysql => "mysql",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a host keeps `/var/lib/mysql`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataDir {
    /// A volume: survives a stop, a kill and a restart of the host.
    Volume,
    /// Memory, up to so many MiB: quicker, and **empty again after every restart of the container**.
    Tmpfs(u32),
}

/// A host to start.
#[derive(Debug, Clone)]
pub struct HostSpec {
    pub(crate) name: String,
    pub(crate) services: Vec<Service>,
    pub(crate) data_dir: DataDir,
    pub(crate) srv_volume: bool,
    pub(crate) mounts: bool,
}

impl HostSpec {
    /// A host with these services. Its name is its host name, by which the hosts of a run find each other.
    pub fn new(name: impl Into<String>, services: impl IntoIterator<Item = Service>) -> Self {
        let mut services: Vec<Service> = services.into_iter().collect();
        services.sort_unstable();
        services.dedup();
        Self { name: name.into(), services, data_dir: DataDir::Volume, srv_volume: false, mounts: false }
    }

    /// Everything on one host.
    pub fn web_and_database(name: impl Into<String>) -> Self {
        Self::new(name, Service::ALL)
    }

    /// A web server without a database of its own.
    pub fn web(name: impl Into<String>) -> Self {
        Self::new(name, [Service::Ssh, Service::Nginx, Service::Apache, Service::Php])
    }

    /// A database server.
    pub fn database(name: impl Into<String>) -> Self {
        Self::new(name, [Service::Ssh, Service::Mariadb])
    }

    /// A database server that is Oracle's MySQL. The first one on a machine makes its image, which takes two minutes more.
    pub fn mysql(name: impl Into<String>) -> Self {
        Self::new(name, [Service::Ssh, Service::Mysql])
    }

    /// Where its databases lie; a volume unless said otherwise.
    #[must_use]
    pub fn data_dir(mut self, data_dir: DataDir) -> Self {
        self.data_dir = data_dir;
        self
    }

    /// Puts `/srv` (platforms and sites) on a volume, a plain file system, instead of the container's own layers, where a
    /// directory of the image cannot be renamed and a file of the image changes its inode when it is first written.
    /// Copying the platforms there costs some seconds.
    #[must_use]
    pub fn srv_on_volume(mut self) -> Self {
        self.srv_volume = true;
        self
    }

    /// Lets root of the host mount file systems, such as small ones that run full.
    #[must_use]
    pub fn may_mount(mut self) -> Self {
        self.mounts = true;
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        let label = !self.name.is_empty()
            && self.name.len() <= 40 // a host name has at most 63; the run's id comes before it in the container's name
            && self.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !self.name.starts_with('-')
            && !self.name.ends_with('-');
        if !label {
            let what = "is not a host name: take 1 to 40 lower-case letters, digits and inner hyphens";
            return Err(Error::Spec(format!("{:?} {what}", self.name)));
        }
        if self.services.is_empty() {
            return Err(Error::Spec(format!("the host {} has no service", self.name)));
        }
        if self.runs_mysql() && self.services.iter().any(|s| !matches!(s, Service::Ssh | Service::Mysql)) {
            return Err(Error::Spec(format!("the host {} has more than SSH beside MySQL", self.name)));
        }
        Ok(())
    }

    /// Whether it is started from the image with MySQL.
    pub(crate) fn runs_mysql(&self) -> bool {
        self.services.contains(&Service::Mysql)
    }

    /// Whether it has a data directory of databases.
    pub(crate) fn has_databases(&self) -> bool {
        self.services.contains(&Service::Mariadb) || self.runs_mysql()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_host_names_and_services_are_sets() {
        assert!(HostSpec::web("web-1").check().is_ok());
        for name in ["", "Web", "web_1", "-a", "a-", "a.b", &"a".repeat(41)] {
            assert!(HostSpec::web(name).check().is_err(), "{name}");
        }
        assert!(HostSpec::new("a", []).check().is_err());
        assert!(HostSpec::mysql("a").check().is_ok());
        assert!(HostSpec::new("a", [Service::Mysql, Service::Mariadb]).check().is_err());
        assert_eq!(
            HostSpec::new("a", [Service::Php, Service::Ssh, Service::Php]).services,
            [Service::Ssh, Service::Php]
        );
    }
}
