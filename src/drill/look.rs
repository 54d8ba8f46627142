//! A look from outside at everything that the drilled task may touch: by plain commands on the hosts and by the drivers' fingerprints of
//! whole contents, not by the workflows' steps. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use kedge_drivers::host::{Command, Host};
use kedge_engine::proof::Listing;
use kedge_workflows::names::SiteName;
use kedge_workflows::ports::{DatabaseFingerprint, Get, Scope, World as _};
use kedge_workflows::records::SiteRecord;

use crate::config::{Config, WebServer};
use crate::world::LiveWorld;

/// Words of a page that are compared: a page's end names times and versions.
const WORDS: usize = 400;

/// What is looked at.
pub(crate) struct Scene {
    pub(crate) config: Arc<Config>,
    pub(crate) world: LiveWorld,
    /// This installation, by which processes of it are known on hosts.
    pub(crate) instance: String,
    /// The names that the task is about.
    pub(crate) sites: Vec<SiteName>,
    /// Directories elsewhere that it is about.
    pub(crate) dirs: Vec<String>,
    /// The platforms that it is about.
    pub(crate) platforms: BTreeSet<String>,
    /// The database servers that it is about.
    pub(crate) database_servers: BTreeSet<String>,
}

/// Entries of a directory, and of whole trees with their contents; names end with NUL, so any name is right.
const TREES: &str = r#"
list() { find "$1" -mindepth 1 -maxdepth 1 -printf '%y %m %U:%G -> %l\t%p\0' 2>/dev/null; }
for root in $1; do [ -d "$root" ] && list "$root"; [ -d "$root/sites" ] && list "$root/sites"; done
for dir in $2; do
    [ -e "$dir" ] || continue
    find "$dir" -printf '%y %m %U:%G %T@ -> %l\t%p\0'
    find "$dir" -type f -print0 | xargs -0r sha256sum -bz | sed -z 's/^\([0-9a-f]*\) \*\(.*\)$/sha256 \1\t\2/'
done
for dir in $3; do
    find "$dir" -mindepth 1 -maxdepth 1 -printf '%y %m %U:%G -> %l\t%p\0'
    find "$dir" -mindepth 1 -maxdepth 1 -xtype f -print0 | xargs -0r sha256sum -bz | sed -z 's/^\([0-9a-f]*\) \*\(.*\)$/sha256 \1\t\2/'
done
find /tmp /var/tmp /run -maxdepth 1 -iname '*kedge*' -printf 'left over\t%p\0' 2>/dev/null
for file in $(grep -lzE -e "^KEDGE_ATTEMPT=$4/" /proc/[0-9]*/environ 2>/dev/null); do
    printf 'runs: %s\t%s\0' "$(tr '\0' ' ' < "${file%environ}cmdline")" "${file%/environ}"
done
true
"#;

/// Schemas with their comments, users with a hash of what they are and may: no secret leaves the host.
const DATABASES: &str = r#"
tool=$(command -v mariadb || command -v mysql)
sql() { if [ -n "$1" ]; then "$tool" --defaults-file="$1" -N -B; else "$tool" -N -B; fi; }
echo "SELECT CONCAT('schema ', SCHEMA_NAME) FROM information_schema.SCHEMATA ORDER BY 1" | sql "$1"
users="SELECT QUOTE(user), QUOTE(host) FROM mysql.user WHERE user NOT IN ('mariadb.sys','root','mysql','PUBLIC','mysql.sys','mysql.session','mysql.infoschema','') ORDER BY 1, 2"
echo "$users" | sql "$1" | while read -r user host; do
    made=$(echo "SHOW CREATE USER $user@$host" | sql "$1")
    may=$(echo "SHOW GRANTS FOR $user@$host" | sql "$1" | sort)
    case "$made" in *"ACCOUNT LOCK"*) locked=locked ;; *) locked=open ;; esac
    echo "user $user@$host $locked $(printf '%s%s' "$made" "$may" | sha256sum | cut -c1-16)"
done
"#;

fn scope() -> Scope {
    Scope { task: "drill".to_owned(), step: "look".to_owned() }
}

impl Scene {
    /// Looks. `sites`: what the registry says of the site now, for its databases.
    ///
    /// # Errors
    /// When a host or server does not answer: then nothing is known.
    pub(crate) async fn look(&self, sites: &[SiteRecord]) -> Result<Listing> {
        let mut seen = BTreeMap::new();
        for (name, host) in self.hosts() {
            seen.insert(format!("host {name}"), self.trees(name, &host).await?);
        }
        for server in &self.database_servers {
            seen.insert(format!("database server {server}"), self.databases(server).await?);
        }
        for site in sites {
            let platform =
                self.config.platforms.get(&site.platform).context("the site's platform is not configured")?;
            let app = self.world.app(&platform.web_server, &site.platform, platform.app, &scope())?;
            let request = DatabaseFingerprint {
                schema: site.schema.clone(),
                user: Some(site.user.clone()),
                volatile: app.volatile_rows(),
                full: true,
            };
            let database = self.world.database(&site.database_server, &scope())?;
            let entries = database.fingerprint(&request).await?.entries;
            seen.insert(
                format!("database {}/{}", site.database_server, site.schema),
                entries.into_iter().collect(),
            );
        }
        seen.insert("pages".to_owned(), self.pages().await?);
        seen.insert("secrets".to_owned(), self.secrets()?);
        Ok(Listing(seen))
    }

    /// The web servers of the platforms.
    pub(crate) fn web_servers(&self) -> BTreeSet<&str> {
        let platforms = self.platforms.iter().filter_map(|name| self.config.platforms.get(name));
        platforms.map(|platform| platform.web_server.as_str()).collect()
    }

    fn hosts(&self) -> Vec<(&str, Arc<dyn Host>)> {
        let servers = self.web_servers();
        let names: BTreeSet<&str> = servers
            .iter()
            .filter_map(|name| self.config.web_servers.get(*name))
            .flat_map(|server| server.hosts().map(String::as_str))
            .collect();
        names.into_iter().filter_map(|name| Some((name, self.world.hosts().get(name)?.clone()))).collect()
    }

    async fn trees(&self, name: &str, host: &Arc<dyn Host>) -> Result<BTreeMap<String, String>> {
        let runs_here = |server: &WebServer| server.hosts().any(|host| host == name);
        let on_host = |server: &str| self.config.web_servers.get(server).is_some_and(runs_here);
        let roots: BTreeSet<&str> = self
            .config
            .platforms
            .values()
            .filter(|platform| on_host(&platform.web_server))
            .map(|platform| platform.root.trim_end_matches('/'))
            .collect();
        let dirs: Vec<String> = roots
            .iter()
            .flat_map(|root| self.sites.iter().map(move |site| format!("{root}/sites/{site}")))
            .chain(self.dirs.iter().cloned())
            .collect();
        let vhosts: BTreeSet<&str> = self
            .config
            .web_servers
            .values()
            .filter(|server| runs_here(server))
            .map(|server| server.driver.vhost_dir.as_str())
            .collect();
        let joined = |items: Vec<&str>| items.join(" ");
        let argv = [
            "sh".to_owned(),
            "-c".to_owned(),
            TREES.to_owned(),
            "kedge-drill".to_owned(),
            joined(roots.into_iter().collect()),
            joined(dirs.iter().map(String::as_str).collect()),
            joined(vhosts.into_iter().collect()),
            self.instance.clone(),
        ];
        let output = host.run(Command::new(&scope(), argv)).await?.success("a look at the files")?;
        let mut items: BTreeMap<String, String> = BTreeMap::new();
        for line in output.split(|byte| *byte == 0).filter(|line| !line.is_empty()) {
            let line = line.escape_ascii().to_string();
            let (seen, path) = line.split_once("\\t").unwrap_or((line.as_str(), ""));
            let item = items.entry(path.to_owned()).or_default();
            if !item.split(", ").any(|there| there == seen) {
                item.push_str(if item.is_empty() { "" } else { ", " });
                item.push_str(seen);
            }
        }
        Ok(items)
    }

    async fn databases(&self, server: &str) -> Result<BTreeMap<String, String>> {
        let config =
            self.config.database_servers.get(server).context("the database server is not configured")?;
        let hosts = self.world.hosts();
        let host = hosts.get(&config.host).context("the database server's host is not configured")?;
        let file = config.driver.admin_defaults_file.clone().unwrap_or_default();
        let argv = ["sh", "-c", DATABASES, "kedge-drill", &file].map(str::to_owned);
        let output =
            host.run(Command::new(&scope(), argv)).await?.success("a look at the database server")?;
        let text = String::from_utf8_lossy(&output).into_owned();
        Ok(text
            .lines()
            .map(|line| match line.strip_prefix("user ").and_then(|rest| rest.split_once(' ')) {
                Some((user, seen)) => (format!("user {user}"), seen.to_owned()),
                None => (line.to_owned(), "there".to_owned()),
            })
            .collect())
    }

    async fn pages(&self) -> Result<BTreeMap<String, String>> {
        let mut pages = BTreeMap::new();
        for server in self.web_servers() {
            for site in &self.sites {
                let get = Get { host: site.clone(), path: "/".to_owned(), bypass: None };
                for (host, answer) in self.world.web_server(server, &scope())?.get_everywhere(&get).await? {
                    let words = words(&String::from_utf8_lossy(&answer.body));
                    let location = answer.location.unwrap_or_default();
                    let page = [server, host.as_str(), site.as_str()].join(" ");
                    pages.insert(page, format!("{} {location} {words}", answer.status));
                }
            }
        }
        Ok(pages)
    }

    /// Names of the secrets that are kept.
    fn secrets(&self) -> Result<BTreeMap<String, String>> {
        let mut names = BTreeMap::new();
        let mut open = vec![self.config.data_dir.join("secrets")];
        while let Some(dir) = open.pop() {
            for entry in std::fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
                let path = entry?.path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    let shown = path.strip_prefix(&self.config.data_dir).unwrap_or(&path);
                    names.insert(shown.display().to_string(), "there".to_owned());
                }
            }
        }
        Ok(names)
    }
}

/// The visible words of a page.
fn words(html: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for c in html.chars() {
        match c {
            '<' => inside = true,
            '>' => inside = false,
            c if !inside => text.push(c),
            _ => {}
        }
    }
    text.split_whitespace().take(WORDS).collect::<Vec<_>>().join(" ")
}

/// A look at a done task, without what differs between two that did the same: the names that a task chooses, times, and the bytes of
/// files and rows that hold such names.
pub(crate) fn done(look: &Listing, chosen: &[(String, String)], settings: &[String]) -> Listing {
    let general = |text: &str| {
        chosen.iter().fold(text.to_owned(), |text, (name, general)| text.replace(name.as_str(), general))
    };
    let mut seen = BTreeMap::new();
    for (resource, items) in &look.0 {
        if resource == "secrets" {
            continue;
        }
        let mut general_items = BTreeMap::new();
        for (item, told) in items {
            let own = settings.iter().any(|file| item.ends_with(file.as_str()));
            let told = told
                .split(", ")
                .map(|part| if own && part.starts_with("sha256 ") { "sha256" } else { part })
                .map(|part| part.split(' ').filter(|word| !is_time(word)).collect::<Vec<_>>().join(" "))
                .collect::<Vec<_>>()
                .join(", ");
            let told = if item.starts_with("user ") {
                told.split(' ').next().unwrap_or_default().to_owned()
            } else if item.starts_with("account:") {
                told.split(',').next().unwrap_or_default().to_owned()
            } else if item.starts_with("content:") {
                // An update writes the hour into rows, so only what it leaves alone can be compared, with the old side.
                let same =
                    look.0.iter().any(|(other, items)| other != resource && items.get(item) == Some(&told));
                if same { "as on the other side" } else { "changed" }.to_owned()
            } else {
                general(&told)
            };
            general_items.insert(general(item), told);
        }
        seen.insert(general(resource), general_items);
    }
    Listing(seen)
}

/// A look without the times of settings files and of the directories that they are in.
pub(crate) fn written_anew(look: Listing, settings: &[String]) -> Listing {
    let timeless = |told: &str| {
        let part = |part: &str| part.split(' ').filter(|word| !is_time(word)).collect::<Vec<_>>().join(" ");
        // A directory tells itself once more with its time.
        let parts: BTreeSet<String> = told.split(", ").map(part).collect();
        parts.into_iter().collect::<Vec<_>>().join(", ")
    };
    let mut seen = BTreeMap::new();
    for (resource, items) in look.0 {
        let written = |item: &String| {
            settings
                .iter()
                .any(|file| item.ends_with(file.as_str()) || items.contains_key(&format!("{item}{file}")))
        };
        let told = |(item, told): (&String, &String)| {
            (item.clone(), if written(item) { timeless(told) } else { told.clone() })
        };
        seen.insert(resource, items.iter().map(told).collect());
    }
    Listing(seen)
}

/// Seconds with a fraction, as `find` tells times.
fn is_time(word: &str) -> bool {
    word.split_once('.').is_some_and(|(seconds, fraction)| {
        seconds.len() >= 9
            && fraction.len() == 10
            && [seconds, fraction].concat().bytes().all(|b| b.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_done_tasks_are_equal_but_for_the_names_they_chose() {
        let look = |task: &str, schema: &str, time: &str, hash: &str, page: &str| {
            Listing(BTreeMap::from([
                (
                    "host web1".to_owned(),
                    BTreeMap::from([
                        (format!("/p/sites/.kedge-trash-{task}"), "d 2770 0:33 -> ".to_owned()),
                        (
                            "/p/sites/a/wp-config.php".to_owned(),
                            format!("f 440 0:33 {time} -> , sha256 {hash}"),
                        ),
                        ("/p/sites/a/index.php".to_owned(), format!("f 440 0:33 {time} -> , sha256 77")),
                    ]),
                ),
                (format!("database db1/{schema}"), BTreeMap::from([("t".to_owned(), "1 row".to_owned())])),
                ("pages".to_owned(), BTreeMap::from([("a".to_owned(), page.to_owned())])),
            ]))
        };
        let settings = ["/wp-config.php".to_owned()];
        let general = |look: &Listing, task: &str, schema: &str| {
            let chosen = [(task.to_owned(), "TASK".to_owned()), (schema.to_owned(), "SCHEMA".to_owned())];
            done(look, &chosen, &settings)
        };
        let one = general(&look("t1", "s1", "1700000000.0000000001", "aa", "200"), "t1", "s1");
        let two = general(&look("t2", "s2", "1700000009.1234567890", "bb", "200"), "t2", "s2");
        assert_eq!(one, two);
        let bad = general(&look("t2", "s2", "1700000009.1234567890", "bb", "503"), "t2", "s2");
        assert_ne!(one, bad);
    }

    #[test]
    fn settings_written_anew_are_the_same_only_with_the_same_bytes() {
        let look = |time: &str, hash: &str, other: &str| {
            let items = [
                ("/p/sites/a".to_owned(), format!("d 750 0:33 -> , d 750 0:33 {time} -> ")),
                ("/p/sites/a/wp-config.php".to_owned(), format!("f 440 0:33 {time} -> , sha256 {hash}")),
                ("/p/sites/a/index.php".to_owned(), format!("f 440 0:33 {other} -> , sha256 77")),
            ];
            let look = Listing(BTreeMap::from([("host web1".to_owned(), BTreeMap::from(items))]));
            written_anew(look, &["/wp-config.php".to_owned()])
        };
        let (early, late) = ("1700000000.0000000001", "1700000009.1234567890");
        assert_eq!(look(early, "aa", early), look(late, "aa", early));
        assert_ne!(look(early, "aa", early), look(late, "bb", early));
        assert_ne!(look(early, "aa", early), look(late, "aa", late));
    }
}
