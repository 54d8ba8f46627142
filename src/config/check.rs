//! Checks a configuration's text as a whole. Pure: files and environment come as functions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kedge_drivers::mysql::DatabaseConfig;
use kedge_drivers::web::{PhpFpm, WebServerConfig};
use kedge_webhooks::{Mistake, Rate, Rates};
use kedge_workflows::ports::AppKind;
use kedge_workflows::records::DeletePolicy;
use serde::de::DeserializeOwned;
use toml::Spanned;

use super::{Ages, Config, DatabaseServer, HostConfig, Platform, Problem, WebServer, raw};

/// Reads a secret file.
pub(crate) type ReadSecret<'a> = &'a dyn Fn(&Path) -> Result<String, String>;
/// Reads an environment variable.
pub(crate) type ReadEnv<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Checks everything.
///
/// # Errors
/// Every problem found.
#[cfg(test)]
pub(crate) fn config(text: &str, read: ReadSecret<'_>, env: ReadEnv<'_>) -> Result<Config, Vec<Problem>> {
    whole(text, read, read, env)
}

/// The same; `public` reads files that anybody may read.
///
/// # Errors
/// Every problem found.
pub(crate) fn whole(
    text: &str,
    read: ReadSecret<'_>,
    public: ReadSecret<'_>,
    env: ReadEnv<'_>,
) -> Result<Config, Vec<Problem>> {
    let file: raw::File = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(0, |span| line_of(text, span.start));
        vec![Problem { line, part: String::new(), detail: error.message().to_owned() }]
    })?;
    let mut check =
        Check { text, read, public, env, problems: Vec::new(), secrets: Vec::new(), lines: BTreeMap::new() };
    let config = check.file(file);
    if check.problems.is_empty() {
        return Ok(Config { secrets: check.secrets, ..config });
    }
    check.problems.sort_by_key(|problem| problem.line);
    Err(check.problems)
}

/// What is wrong with a platform, by field.
pub(crate) fn platform_mistakes(
    root: &str,
    app: AppKind,
    drush: Option<&str>,
) -> Vec<(&'static str, String)> {
    let mut mistakes = Vec::new();
    let bad = |c: char| c.is_control() || matches!(c, '"' | '\'' | ';' | '{' | '}' | '$' | '\\' | ' ');
    if !root.starts_with('/') || root.trim_end_matches('/').is_empty() || root.contains(bad) {
        let detail = "has to be an absolute path without spaces, quotes, ; { } $ and \\";
        mistakes.push(("root", detail.to_owned()));
    }
    if let Some(drush) = drush {
        if app != AppKind::Drupal {
            mistakes.push(("drush", "is for platforms of Drupal (app = \"drupal\")".to_owned()));
        } else if !drush.starts_with('/') {
            mistakes.push(("drush", format!("{drush:?} has to be an absolute path")));
        }
    }
    mistakes
}

pub(super) struct Check<'a> {
    text: &'a str,
    pub(super) read: ReadSecret<'a>,
    pub(super) public: ReadSecret<'a>,
    pub(super) env: ReadEnv<'a>,
    problems: Vec<Problem>,
    pub(super) secrets: Vec<String>,
    /// Where the parts of the face are, by their names such as `hooks.deploy`.
    pub(super) lines: BTreeMap<String, usize>,
}

impl Check<'_> {
    fn file(&mut self, file: raw::File) -> Config {
        let data_dir = self.directory("data_dir", file.data_dir, "/var/lib/kedge");
        let backup_dir = self.directory("backup_dir", file.backup_dir, "/var/backups/kedge");
        let ages = file.store.map(|store| self.store(store)).unwrap_or_default();
        let policies = file.policies.and_then(|policies| self.part::<raw::Policies>("policies", policies));
        let deletes = policies.map_or_else(DeletePolicy::default, |policies| DeletePolicy {
            only_disabled: policies.delete_only_disabled,
        });
        let http = file.http.map(|http| (self.line(&http), http));
        let (line, http) = match http {
            Some((line, http)) => (line, self.part::<raw::Http>("http", http).unwrap_or_default()),
            None => (0, raw::Http::default()),
        };
        let listen = http.listen.as_deref().unwrap_or("127.0.0.1:7480");
        let listen = listen.parse().unwrap_or_else(|_| {
            self.problem(
                line,
                "http",
                format!("listen = {listen:?} is no address with a port, such as 127.0.0.1:7480"),
            );
            std::net::SocketAddr::from(([127, 0, 0, 1], 7480))
        });
        let mut rate = |field: &str, text: Option<String>| {
            let rate = Rate::parse(&text?);
            rate.map_err(|why| self.problem(line, "http", format!("{field}: {why}"))).ok()
        };
        let rates =
            Rates { token: rate("token_rate", http.token_rate), hook: rate("hook_rate", http.hook_rate) };
        let endpoint_networks = self.networks(line, "endpoint_networks", &http.endpoint_networks);
        let trusted_proxies = self.networks(line, "trusted_proxies", &http.trusted_proxies);
        let tls = http.tls.and_then(|tls| self.tls(line, tls));
        // A name that is there counts, also when its part has mistakes of its own: one mistake, one line.
        let host_names: Vec<String> = file.hosts.keys().cloned().collect();
        let web_server_names: Vec<String> = file.web_servers.keys().cloned().collect();
        let hosts = self.parts::<raw::Host>("hosts", file.hosts);
        let hosts: BTreeMap<String, HostConfig> =
            hosts.into_iter().map(|(name, (_, host))| (name, host)).collect();
        let web_servers = self.web_servers(file.web_servers, &host_names);
        let database_servers = self.database_servers(file.database_servers, &host_names);
        let platforms = self.platforms(file.platforms, &web_server_names);
        let (mails, smtp) = (file.smtp.is_some(), file.smtp.and_then(|smtp| self.smtp(smtp)));
        let config = Config {
            data_dir,
            backup_dir,
            ages,
            listen,
            public_url: self.public_url(line, http.public_url),
            rates,
            endpoint_networks,
            trusted_proxies,
            tls,
            hosts,
            web_servers,
            database_servers,
            platforms,
            deletes,
            tokens: self.tokens(file.tokens),
            certificates: self.certificates(file.certificates),
            hooks: self.hooks(file.hooks),
            chats: self.chats(file.chat),
            endpoints: self.endpoints(file.endpoints, mails, smtp),
            approvals: self.approvals(file.approvals),
            schedules: self.schedules(file.schedules),
            commands: self.commands(file.commands, &host_names),
            secrets: Vec::new(),
        };
        self.face(&config);
        config
    }

    fn store(&mut self, store: Spanned<toml::Value>) -> Ages {
        let line = self.line(&store);
        let Some(store) = self.part::<raw::Store>("store", store) else { return Ages::default() };
        if store.kind != "sled" {
            let detail = format!("there is no store {:?}; write kind = \"sled\"", store.kind);
            self.problem(line, "store", detail);
        }
        let usual = Ages::default();
        let forget = store.forget_after_days.unwrap_or(usual.forget);
        let ages = Ages {
            archive: store.archive_after_days.unwrap_or(usual.archive),
            forget,
            forget_rolled_back: store.forget_rolled_back_after_days.unwrap_or(forget),
            keep_per_site: store.keep_per_site.unwrap_or(usual.keep_per_site),
        };
        for (name, days) in
            [("forget_after_days", ages.forget), ("forget_rolled_back_after_days", ages.forget_rolled_back)]
        {
            if days != 0 && days < ages.archive {
                let detail = format!("{name} = {days} is shorter than archive_after_days = {}", ages.archive);
                self.problem(line, "store", format!("{detail}: tasks are archived first; write 0 for never"));
            }
        }
        ages
    }

    fn public_url(&mut self, line: usize, text: Option<String>) -> Option<String> {
        if let Some(Err(error)) = text.as_deref().map(url::Url::parse) {
            let detail = format!("public_url: {error}; write such as https://kedge.example.org");
            self.problem(line, "http", detail);
        }
        text
    }

    fn directory(&mut self, part: &str, value: Option<Spanned<String>>, default: &str) -> PathBuf {
        let Some(value) = value else { return PathBuf::from(default) };
        if !value.get_ref().starts_with('/') {
            let line = self.line(&value);
            self.problem(line, part, "has to be an absolute path");
        }
        PathBuf::from(value.into_inner())
    }

    fn web_servers(
        &mut self,
        parts: BTreeMap<String, Spanned<toml::Value>>,
        hosts: &[String],
    ) -> BTreeMap<String, WebServer> {
        let mut servers = BTreeMap::new();
        for (name, (line, raw)) in self.parts::<raw::WebServer>("web_servers", parts) {
            let part = format!("web_servers.{name}");
            self.known(line, &part, "host", &raw.host, hosts);
            for (number, host) in raw.also_on.iter().enumerate() {
                self.known(line, &part, "also_on", host, hosts);
                if *host == raw.host || raw.also_on[..number].contains(host) {
                    self.problem(
                        line,
                        &part,
                        format!("also_on: {host:?} is named twice; write each host once"),
                    );
                }
            }
            let php_fpm = match PhpFpm::try_from(raw.php_fpm.clone()) {
                Ok(php_fpm) => php_fpm,
                Err(why) => {
                    self.problem(line, &part, format!("php_fpm: {why}"));
                    continue;
                }
            };
            let mut driver = WebServerConfig::new(&name, raw.kind, raw.vhost_dir, php_fpm);
            driver.listen_port = raw.port;
            driver.tls_port = raw.tls_port;
            driver.listen_addresses = raw.listen_addresses;
            driver.acme_root = raw.acme_root.unwrap_or(driver.acme_root);
            driver.test_command = raw.test_command;
            driver.reload_command = raw.reload_command;
            if let Err(error) = driver.validate() {
                self.problem(line, &part, error.to_string());
            }
            let raw::WebServer { host, also_on, shared_files, user, .. } = raw;
            servers.insert(name, WebServer { host, also_on, shared_files, user, driver });
        }
        servers
    }

    fn database_servers(
        &mut self,
        parts: BTreeMap<String, Spanned<toml::Value>>,
        hosts: &[String],
    ) -> BTreeMap<String, DatabaseServer> {
        let mut servers = BTreeMap::new();
        for (name, (line, raw)) in self.parts::<raw::DatabaseServer>("database_servers", parts) {
            let part = format!("database_servers.{name}");
            self.known(line, &part, "host", &raw.host, hosts);
            if raw.kind != "mysql" {
                self.problem(
                    line,
                    &part,
                    format!("kind = {:?} is not known; write \"mysql\" (MariaDB too)", raw.kind),
                );
            }
            let local = DatabaseConfig::local(&name);
            let driver = DatabaseConfig {
                admin_defaults_file: raw.admin_defaults_file,
                grant_hosts: raw.grant_hosts.unwrap_or(local.grant_hosts),
                address_for_sites: raw.address.unwrap_or(local.address_for_sites),
                name: local.name,
            };
            servers.insert(name, DatabaseServer { host: raw.host, driver });
        }
        servers
    }

    fn platforms(
        &mut self,
        parts: BTreeMap<String, Spanned<toml::Value>>,
        web_servers: &[String],
    ) -> BTreeMap<String, Platform> {
        let mut platforms = BTreeMap::new();
        for (name, (line, raw)) in self.parts::<raw::Platform>("platforms", parts) {
            let part = format!("platforms.{name}");
            self.known(line, &part, "web_server", &raw.web_server, web_servers);
            for (field, detail) in platform_mistakes(&raw.root, raw.app, raw.drush.as_deref()) {
                self.problem(line, &part, format!("{field} {detail}"));
            }
            let root = raw.root.trim_end_matches('/').to_owned();
            let raw::Platform { web_server, app, drush, plain, .. } = raw;
            platforms.insert(name, Platform { web_server, root, app, drush, plain, own: false });
        }
        platforms
    }

    pub(super) fn built<T>(&mut self, line: usize, part: &str, built: Result<T, Vec<Mistake>>) -> Option<T> {
        match built {
            Ok(built) => Some(built),
            Err(mistakes) => {
                for mistake in mistakes {
                    self.problem(line, part, mistake.to_string());
                }
                None
            }
        }
    }

    fn known(&mut self, line: usize, part: &str, field: &str, name: &str, names: &[String]) {
        if names.iter().any(|known| known == name) {
            return;
        }
        let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        self.problem(line, part, format!("{field} = {name:?} is not configured; there are: {known}"));
    }

    pub(super) fn part<T: DeserializeOwned>(&mut self, part: &str, value: Spanned<toml::Value>) -> Option<T> {
        let line = self.line(&value);
        match value.into_inner().try_into() {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(line, part, error.to_string().trim());
                None
            }
        }
    }

    fn parts<T: DeserializeOwned>(
        &mut self,
        part: &str,
        values: BTreeMap<String, Spanned<toml::Value>>,
    ) -> Vec<(String, (usize, T))> {
        let mut parts = Vec::new();
        for (name, value) in values {
            let line = self.line(&value);
            let full = format!("{part}.{name}");
            let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            if name.is_empty() || name.len() > 64 || !name.bytes().all(ok) {
                self.problem(line, &full, "a name has 1 to 64 of A-Z a-z 0-9 - _ .");
            }
            if let Some(value) = self.part(&full, value) {
                parts.push((name, (line, value)));
            }
        }
        parts
    }

    pub(super) fn list<T: DeserializeOwned>(
        &mut self,
        part: &str,
        values: Vec<Spanned<toml::Value>>,
    ) -> Vec<(usize, T)> {
        let mut list = Vec::new();
        for (index, value) in values.into_iter().enumerate() {
            let line = self.line(&value);
            if let Some(value) = self.part(&format!("{part}[{index}]"), value) {
                list.push((line, value));
            }
        }
        list
    }

    pub(super) fn line<T>(&self, value: &Spanned<T>) -> usize {
        line_of(self.text, value.span().start)
    }

    pub(super) fn problem(&mut self, line: usize, part: &str, detail: impl Into<String>) {
        self.problems.push(Problem { line, part: part.to_owned(), detail: detail.into() });
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let read = |path: &Path| match path.to_str() {
            Some("good") => Ok("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()),
            _ => Err(format!("the secret file {} cannot be read", path.display())),
        };
        let env = |_: &str| None;
        match config(text, &read, &env) {
            Ok(_) => Vec::new(),
            Err(list) => list.into_iter().map(|p| format!("{} {}: {}", p.line, p.part, p.detail)).collect(),
        }
    }

    const WHOLE: &str = r#"
data_dir = "/var/lib/kedge"

[http]
listen = "127.0.0.1:7480"

[hosts.web1]
transport = "ssh"
address = "deploy@web1.example:22"
sudo = true

[web_servers.web1]
host = "web1"
kind = "nginx"
vhost_dir = "/etc/nginx/sites-enabled"
php_fpm = "unix:/run/php/php-fpm.sock"

[database_servers.db1]
host = "web1"
kind = "mysql"

[platforms.wordpress-61]
web_server = "web1"
root = "/srv/platforms/wordpress-6.1"
app = "wordpress"

[[tokens]]
name = "ci"
secret_file = "good"
scopes = ["task:*:create"]
sites = ["*.example.test"]

[[hooks]]
name = "deploy"
provider = "standard"
secret_files = ["good"]
workflow = "migrate"
params = { site = "{/site}" }

[[endpoints]]
name = "ci"
url = "https://ci.example/kedge"
secret_file = "good"
"#;

    #[test]
    fn the_contract_s_example_holds_together() {
        assert_eq!(problems(WHOLE), Vec::<String>::new());
    }

    #[test]
    fn the_ages_of_tasks_fit_each_other() {
        let with = |store: &str| problems(&WHOLE.replace("[http]", &format!("[store]\n{store}\n[http]")));
        let never = with("forget_after_days = 0\narchive_after_days = 500");
        assert_eq!(never, [] as [&str; 0]);
        let told = with("forget_after_days = 10");
        assert_eq!(told.len(), 2, "{told:#?}");
        assert!(
            told[0].contains("forget_after_days = 10 is shorter than archive_after_days = 30"),
            "{told:#?}"
        );
    }

    #[test]
    fn every_mistake_is_told_at_once_with_its_line() {
        let text = WHOLE
            .replace("127.0.0.1:7480", "localhost")
            .replace("host = \"web1\"\nkind = \"nginx\"", "host = \"web9\"\nkind = \"nginx\"")
            .replace("app = \"wordpress\"", "app = \"wordpress\"\nrot = 1")
            .replace("secret_file = \"good\"\nscopes", "secret_file = \"bad\"\nscopes")
            .replace("https://ci.example/kedge", "ftp://ci.example");
        let told = problems(&text);
        let has = |words: &str| {
            assert!(told.iter().any(|line| line.contains(words)), "{words:?} is not in {told:#?}")
        };
        has("4 http: listen = \"localhost\"");
        has("web_servers.web1: host = \"web9\" is not configured; there are: web1");
        has("platforms.wordpress-61: unknown field `rot`");
        has("tokens.ci: the secret file bad cannot be read");
        has("endpoints.ci: url:");
        assert_eq!(told.len(), 5, "{told:#?}");
    }

    /// What used to be found only by a service that had opened its journal.
    #[test]
    fn what_parts_say_of_each_other_is_checked_with_its_line() {
        let has = |told: &[String], words: &str| {
            assert!(told.iter().any(|line| line.contains(words)), "{words:?} is not in {told:#?}");
        };
        let told = problems(&WHOLE.replace("workflow = \"migrate\"", "workflow = \"migrat\""));
        has(&told, "33 hooks.deploy: workflow: there is no workflow \"migrat\"; there are ");
        let told = problems(&WHOLE.replace("task:*:create", "task:instal:create"));
        has(&told, "27 tokens.ci: scopes: there is no workflow \"instal\"");
        let status = "status = { endpoint = \"ci\", commit = \"{/sha}\", repository = \"{/r}\" }";
        let by_api = "callback = { endpoint = \"made-by-api\" }";
        let hook = format!("workflow = \"migrate\"\n{by_api}\n{status}");
        let told = problems(&WHOLE.replace("workflow = \"migrate\"", &hook));
        assert_eq!(told, ["33 hooks.deploy: status.endpoint: \"ci\" is no endpoint with `forge`"]);
        let endpoint =
            WHOLE.rsplit_once("[[endpoints]]").map(|(_, part)| format!("[[endpoints]]{part}")).unwrap();
        has(&problems(&format!("{WHOLE}{endpoint}")), " endpoints.ci: another one has the same name");
        let token =
            "[[tokens]]\nname = \"ci\"\nsecret_file = \"good\"\nscopes = [\"admin\"]\nsites = [\"*\"]\n";
        has(&problems(&format!("{WHOLE}{token}")), " tokens.ci: another one has the same name");
        let told = problems(&WHOLE.replace("[http]", "[http]\npublic_url = \"kedge.example\""));
        has(&told, "4 http: public_url: ");
    }

    #[test]
    fn what_delete_may_do_is_a_policy() {
        let with = |line: &str| {
            let text = WHOLE.replace("[http]", &format!("[policies]\n{line}\n[http]"));
            config(&text, &|_| Ok("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()), &|_| None)
                .map(|config| config.deletes.only_disabled)
        };
        assert_eq!((with("").ok(), with("delete_only_disabled = false").ok()), (Some(true), Some(false)));
        assert!(with("delete_anything = true").is_err());
    }

    #[test]
    fn the_hosts_of_a_cluster_are_known_and_named_once() {
        let with = |hosts: &str| {
            let second = "[hosts.web2]\ntransport = \"local\"\n";
            let also = format!("host = \"web1\"\nalso_on = {hosts}\nkind = \"nginx\"");
            problems(&(WHOLE.replace("host = \"web1\"\nkind = \"nginx\"", &also) + second))
        };
        assert_eq!(with("[\"web2\"]"), [] as [&str; 0]);
        assert!(
            with("[\"web3\"]")[0].contains("also_on = \"web3\" is not configured; there are: web1, web2")
        );
        assert!(with("[\"web1\"]")[0].contains("named twice"));
        assert!(with("[\"web2\", \"web2\"]")[0].contains("named twice"));
    }

    #[test]
    fn a_policy_that_would_never_ask_is_a_mistake() {
        let with = |policy: &str| problems(&format!("{WHOLE}\n[[approvals]]\nname = \"shops\"\n{policy}"));
        assert_eq!(
            with("workflows = [\"migrate\", \"un*\"]\nbefore = \"close\"\nwithin = \"2h\""),
            [] as [&str; 0]
        );
        assert!(with("workflows = [\"migrat\"]")[0].contains("stands for none; there are"));
        assert!(with("[[approvals]]\nname = \"shops\"")[0].contains("two policies"));
    }

    #[test]
    fn a_file_that_is_no_toml_names_its_line() {
        assert!(problems("data_dir = \"/x\"\n[hosts\n")[0].starts_with("2 "));
        assert!(problems("data_dri = \"/x\"\n")[0].contains("unknown field"));
    }
}
