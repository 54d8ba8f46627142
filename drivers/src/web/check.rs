//! Looks for what would keep Kedge from working with a web server, before any task needs it. Only looks.

use std::time::Duration;

use kedge_workflows::names::SiteName;
use kedge_workflows::ports::{ConfigTest, PortResult, WebServer};

use super::config::PhpFpm;
use super::server::VhostServer;
use super::tools::look;
use crate::host::Command;

const LIMIT: Duration = Duration::from_secs(30);
/// Prints as which user each master process of a server runs: one of these names whose parent has another one. Those of other containers
/// are none of this server. Arguments: names of processes.
const MASTERS: &str = r#"same=$(readlink /proc/self/ns/pid)
for status in /proc/[0-9]*/status; do
    dir=${status%/status} name= above= parent= user=
    { read -r name <"$dir/comm"; } 2>/dev/null || continue
    case " $* " in *" $name "*) ;; *) continue ;; esac
    [ "$(readlink "$dir/ns/pid")" = "$same" ] || continue
    { while read -r key first second _; do
        case $key in PPid:) parent=$first ;; Uid:) user=$second ;; esac
    done <"$status"; } 2>/dev/null || continue
    { read -r above <"/proc/$parent/comm"; } 2>/dev/null || above=
    [ "$above" = "$name" ] || [ -z "$user" ] || echo "$user"
done
"#;

impl VhostServer {
    /// Problems in words, each with a way out; none: vhosts can be written, tested, reloaded and asked for.
    ///
    /// # Errors
    /// What the host says when it cannot be reached.
    pub async fn problems(&self) -> PortResult<Vec<String>> {
        let (what, config) = (self.what(), &self.shared.config);
        let mut problems = Vec::new();
        let (_, curl) = look(&*self.host, &self.scope, &["curl"]).await?;
        if !curl {
            problems.push(format!(
                "install curl on {}: Kedge asks the web server there for pages with it",
                self.host.name()
            ));
        }
        let (tools, server) = look(&*self.host, &self.scope, self.shared.dialect.programs()).await?;
        if !server && config.test_command.is_none() {
            problems.push(format!(
                "{} is not there: install {what}, or set test_command and reload_command",
                tools.program
            ));
            return Ok(problems); // everything else would fail for this reason
        }
        if !self.holds("-d", &config.vhost_dir).await? {
            problems.push(format!("{what}: vhost_dir {} is no directory", config.vhost_dir));
        }
        match &config.php_fpm {
            PhpFpm::Socket(path) if !self.holds("-S", path).await? => {
                problems
                    .push(format!("{what}: php_fpm {path} is no socket; start php-fpm or correct the path"));
            }
            PhpFpm::Socket(_) | PhpFpm::Address(_) => {}
        }
        problems.extend(self.missing_modules().await?);
        problems.extend(self.not_root().await?);
        if let ConfigTest::Invalid { culprit, message } = self.test().await? {
            let place = culprit.map(|file| format!(" (in {file})")).unwrap_or_default();
            problems.push(format!("the configuration of {what} is invalid{place}: {message}"));
        }
        let missing = config.missing_addresses(&self.survey().await?.addresses);
        if !missing.is_empty() {
            let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
            problems.push(format!(
                "{what}: other vhosts listen on {} as well, and visitors who come by such an address would not see ours; set listen_addresses",
                missing.join(", ")
            ));
        }
        if curl && self.nothing_listens().await? {
            problems.push(format!(
                "{what}: nothing listens on {}; start it or correct listen_port",
                config.own_address()
            ));
        }
        Ok(problems)
    }

    async fn holds(&self, test: &str, path: &str) -> PortResult<bool> {
        Ok(self.host.run(Command::new(&self.scope, ["test", test, path]).within(LIMIT)).await?.status == 0)
    }

    async fn missing_modules(&self) -> PortResult<Option<String>> {
        let Some((arguments, needed)) = self.shared.dialect.modules() else { return Ok(None) };
        let finished = self.run(self.control(arguments).await?, LIMIT).await?;
        if finished.status != 0 {
            return Ok(None); // the configuration is invalid, which is told by itself
        }
        let output = String::from_utf8_lossy(&finished.stdout).into_owned();
        let loaded =
            |module: &str| output.lines().any(|line| line.trim().starts_with(&format!("{module}_module ")));
        let missing: Vec<&str> = needed.iter().copied().filter(|module| !loaded(module)).collect();
        Ok((!missing.is_empty()).then(|| {
            format!(
                "{} lacks modules: a2enmod {} (or LoadModule), then restart it",
                self.what(),
                missing.join(" ")
            )
        }))
    }

    /// A server that cannot read what only root may, such as a vhost with the token to a side that nobody has decided for.
    async fn not_root(&self) -> PortResult<Option<String>> {
        let argv = ["sh", "-c", MASTERS, "kedge-masters"];
        let argv = argv.into_iter().chain(self.shared.dialect.processes().iter().copied());
        let finished = self.host.run(Command::new(&self.scope, argv).within(LIMIT)).await?;
        Ok(ordinary(&String::from_utf8_lossy(&finished.stdout)).map(|user| {
            format!(
                "{} runs as user {user} from its start, and cannot read the vhosts that Kedge keeps for root; start it as root, its workers have a user of their own",
                self.what()
            )
        }))
    }

    async fn nothing_listens(&self) -> PortResult<bool> {
        // A name that no site has (RFC 6761): only whether anything answers counts.
        let Ok(nobody) = SiteName::parse("kedge-check.invalid") else { return Ok(false) };
        Ok(self.curl().revisions(&nobody, 1).await?.iter().all(|said| said.refused))
    }
}

/// The user of a server's masters, where none of them is root's: another server of the same kind may run beside it.
fn ordinary(users: &str) -> Option<&str> {
    if users.lines().any(|user| user == "0") { None } else { users.lines().next() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn masters_are_found_by_their_names() {
        let masters = |names: &[&str]| {
            let mut command = std::process::Command::new("sh");
            let output = command.args(["-c", MASTERS, "kedge-masters"]).args(names).output().expect("sh");
            String::from_utf8(output.stdout).expect("text")
        };
        let own = std::fs::read_to_string("/proc/self/comm").expect("a name");
        let user = std::fs::metadata("/proc/self").expect("a process").uid().to_string();
        let users = masters(&["none", own.trim()]);
        assert!(users.lines().any(|line| line == user), "{users:?}");
        assert_eq!(masters(&["none"]), "");
    }

    #[test]
    fn a_server_is_an_ordinary_users_when_no_master_is_roots() {
        for (users, told) in [("", None), ("0\n", None), ("101\n", Some("101")), ("101\n0\n", None)] {
            assert_eq!(ordinary(users), told);
        }
    }
}
