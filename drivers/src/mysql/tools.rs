//! Which client tools a host has, what they can do, and which server they reach. Asked once.

use kedge_workflows::ports::{PortError, PortResult};

use super::client::{Client, Select};

/// MySQL or MariaDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    Mysql,
    Mariadb,
}

impl Flavour {
    /// As ports call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Mysql => "mysql",
            Self::Mariadb => "mariadb",
        }
    }
}

/// A server as it says of itself.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) flavour: Flavour,
    pub(super) version: String,
    /// Whether `_` and `%` are wildcards in the schema of a grant.
    pub(super) grant_wildcards: bool,
    /// The host part of our own account as the server sees us.
    pub(super) our_host: String,
}

/// The client tools and what they can do, and the server they reach.
#[derive(Debug)]
pub(super) struct Tools {
    pub(super) client: String,
    pub(super) dump: String,
    pub(super) dump_help: String,
    pub(super) client_help: String,
    pub(super) server: Server,
}

impl Tools {
    /// Whether the dump tool knows an option.
    pub(super) fn dump_knows(&self, option: &str) -> bool {
        self.dump_help.contains(option)
    }
}

impl Client {
    /// Looks for the tools and asks the server what it is.
    pub(super) async fn find_tools(&self) -> PortResult<Tools> {
        let client = self.find("mariadb", "mysql").await?;
        let dump = self.find("mariadb-dump", "mysqldump").await?;
        let (client_help, dump_help) = (self.help(&client).await?, self.help(&dump).await?);
        let query = Select::new(["VERSION()", "SUBSTRING_INDEX(USER(), '@', -1)"], "");
        let variable = Select::new(
            ["VARIABLE_VALUE"],
            "FROM performance_schema.global_variables WHERE VARIABLE_NAME = 'partial_revokes'",
        );
        let what = format!("reaching the database server from {}", self.host().name());
        let answer = self.select_with(&client, &what, &[query]).await?;
        let row = answer.into_iter().flatten().next().unwrap_or_default();
        let [Some(version), Some(our_host)] = row.as_slice() else {
            return Err(PortError::Refused(format!("{what}: the server does not say its version")));
        };
        let flavour = if version.contains("MariaDB") { Flavour::Mariadb } else { Flavour::Mysql };
        let grant_wildcards = match flavour {
            Flavour::Mariadb => true,
            Flavour::Mysql => {
                let rows = self.select_with(&client, &what, &[variable]).await?;
                rows.into_iter().flatten().flatten().flatten().next().as_deref() != Some("ON")
            }
        };
        let server =
            Server { flavour, version: version.clone(), grant_wildcards, our_host: our_host.clone() };
        check_version(&server)?;
        Ok(Tools { client, dump, dump_help, client_help, server })
    }

    async fn find(&self, first: &str, second: &str) -> PortResult<String> {
        let argv = ["sh", "-c", "command -v \"$1\" || command -v \"$2\"", "kedge-find", first, second];
        let finished = self.run_other(argv).await?;
        let path = String::from_utf8_lossy(&finished.stdout).trim().to_owned();
        if finished.status != 0 || !path.starts_with('/') {
            let host = self.host().name();
            return Err(PortError::Refused(format!(
                "{host} has neither {first} nor {second}: install the client tools of the database there"
            )));
        }
        Ok(path)
    }

    async fn help(&self, tool: &str) -> PortResult<String> {
        let finished = self.run_other([tool, "--no-defaults", "--help"]).await?;
        Ok(String::from_utf8_lossy(&finished.success(&format!("{tool} --help"))?).into_owned())
    }
}

fn check_version(server: &Server) -> PortResult<()> {
    let mut parts =
        server.version.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    let number = [(); 3].map(|()| parts.next().unwrap_or(0));
    let (least, name) = match server.flavour {
        Flavour::Mariadb => ([10, 5, 0], "MariaDB 10.5"),
        Flavour::Mysql => ([8, 0, 21], "MySQL 8.0.21"),
    };
    if number < least {
        let version = &server.version;
        return Err(PortError::Refused(format!(
            "the database server is {version}; {name} is the oldest that can carry our marks"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_refused_by_name() {
        let server = |flavour, version: &str| Server {
            flavour,
            version: version.into(),
            grant_wildcards: true,
            our_host: "localhost".into(),
        };
        for (flavour, version, fine) in [
            (Flavour::Mariadb, "10.11.19-MariaDB-0+deb12u1", true),
            (Flavour::Mariadb, "11.8.6-MariaDB-0+deb13u1 from Debian", true),
            (Flavour::Mariadb, "10.3.39-MariaDB", false),
            (Flavour::Mysql, "8.0.21", true),
            (Flavour::Mysql, "9.7.4-2", true),
            (Flavour::Mysql, "5.7.44-log", false),
        ] {
            assert_eq!(check_version(&server(flavour, version)).is_ok(), fine, "{version}");
        }
    }
}
