//! A site as it is seen from outside Kedge: files (bytes, modes, owners), database (every row), grants, vhosts, a page. Taken with
//! plain tools inside the host, and compared as text.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use kedge_testenv::{Exec, Host, Service};

/// What was seen, by subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside(pub BTreeMap<String, String>);

/// Tables and rows that a mere visit changes: left out of the comparison.
const VOLATILE: &str = "_transient_|_site_transient_|'cron'|cron_last|css_js_query_string|_cache_files|javascript_parsed|'menu_|'routing\\.|'update[_.]";
/// Tables of Drupal that do.
const VOLATILE_TABLES: &str = "^(cache|cachetags|cache_.*|sessions|semaphore|watchdog|flood|batch|queue|history|key_value_expire|users|users_field_data)$";

impl Outside {
    /// Looks at everything that a failed task could have touched.
    ///
    /// # Errors
    /// When a tool fails.
    pub async fn look(host: &Host, server: Service, site: &str) -> Result<Self> {
        Self::look_apart(host, host, server, site).await
    }

    /// The same for a site whose database is on another host than its web server.
    ///
    /// # Errors
    /// When a tool fails.
    pub async fn look_apart(host: &Host, database: &Host, server: Service, site: &str) -> Result<Self> {
        let mut seen = BTreeMap::new();
        for (subject, script) in [
            ("files", FILES),
            (
                "names in platforms",
                "cd /srv/platforms && ls -A1 */sites 2>/dev/null; ls -A1 */wp-config.php 2>/dev/null; true",
            ),
            (
                "vhosts",
                "cd /etc && stat -c '%n %a %U:%G %s' nginx/sites-enabled/* apache2/sites-enabled/* && sha256sum nginx/sites-enabled/* apache2/sites-enabled/*",
            ),
            ("processes", PROCESSES),
        ] {
            seen.insert(subject.to_owned(), shell(host, script).await?);
        }
        for (subject, script) in [
            ("databases", "$sql -e 'SHOW DATABASES'"),
            ("users", USERS),
            ("grants", GRANTS),
            ("processes beside the database", PROCESSES),
        ] {
            seen.insert(subject.to_owned(), shell(database, &with_tools(script)).await?);
        }
        seen.insert("rows".to_owned(), rows(database).await?);
        let page = host.get(server, site, "/").await?;
        seen.insert("page".to_owned(), format!("{} {}", page.status, words(&page.text())));
        Ok(Self(seen))
    }

    /// The part that a migrate and its undo together leave as it was: the site's files, settings, vhosts, rows and page. Trash, the
    /// databases of the side that was left, and what made the other platform ready are not in it.
    #[must_use]
    pub fn without_trash(&self, before: &Self) -> Self {
        let mut seen = self.0.clone();
        for subject in ["users", "grants", "databases", "names in platforms"] {
            seen.remove(subject);
        }
        let known = before.0.get("rows").map(String::as_str).unwrap_or_default();
        let of_before = |line: &&str| {
            let database = line.split(' ').next().unwrap_or_default();
            known.lines().any(|line| line.split(' ').next() == Some(database))
        };
        let keep = |text: &mut String, wanted: &dyn Fn(&&str) -> bool| {
            *text = text.lines().filter(wanted).collect::<Vec<_>>().join("\n");
        };
        seen.entry("rows".to_owned()).and_modify(|text| keep(text, &of_before));
        let no_trash =
            |line: &&str| !line.contains("/sites/.kedge-trash-") && !line.contains("/sites/sites.php ");
        seen.entry("files".to_owned()).and_modify(|text| keep(text, &no_trash));
        Self(seen)
    }

    /// The subjects in which two looks differ, with both texts cut short.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        for (subject, before) in &self.0 {
            let after = other.0.get(subject).map(String::as_str).unwrap_or_default();
            if before != after {
                let first = before.lines().zip(after.lines()).find(|(a, b)| a != b);
                let lines = (before.lines().count(), after.lines().count());
                differences.push(format!("{subject}: {lines:?} lines, first difference: {first:?}"));
            }
        }
        differences
    }
}

const FILES: &str = r"cd /srv/platforms && for d in */sites; do [ -d $d ] && find $d -mindepth 1 -printf '%p %y %m %U:%G %l ' \
 \( -type f -exec sha256sum -b {} \; -o -printf '\n' \); done | sort | grep -v '^.$'; true";

const PROCESSES: &str = "ps -eo args | grep -E 'rsync|mariadb-dump|mysqldump|kedge' | grep -vE 'grep|kedge-service|kedge-testenv' | sort; true";

const USERS: &str = r#"$sql -e "SELECT CONCAT('SHOW CREATE USER ''',user,'''@''',host,''';') FROM mysql.user WHERE user NOT IN ('mariadb.sys','root','mysql','PUBLIC','') ORDER BY user,host" | $sql | sha256sum"#;

const GRANTS: &str = r#"$sql -e "SELECT CONCAT('SHOW GRANTS FOR ''',user,'''@''',host,''';') FROM mysql.user ORDER BY user,host" | $sql | sed "s/IDENTIFIED.*//""#;

/// A script whose `$sql` and `$dump` are the tools of MariaDB or MySQL. MySQL's dump would tell every transaction of the server.
fn with_tools(script: &str) -> String {
    format!(
        "if command -v mariadb >/dev/null; then sql='mariadb -N' dump=mariadb-dump; \
         else sql='mysql -N' dump='mysqldump --set-gtid-purged=OFF'; fi; {script}"
    )
}

/// Every row of every database that is not the server's own, but for what a visit changes.
async fn rows(host: &Host) -> Result<String> {
    let databases = shell(host, &with_tools("$sql -e 'SHOW DATABASES'")).await?;
    let own = ["information_schema", "mysql", "performance_schema", "sys"];
    let mut all = String::new();
    for name in databases.lines().filter(|name| !own.contains(name)) {
        let script = format!(
            "$dump --skip-extended-insert --skip-dump-date --order-by-primary --routines --triggers --events {name} \
             $($sql -e \"SELECT CONCAT('--ignore-table={name}.', table_name) FROM information_schema.tables WHERE table_schema = '{name}' AND table_name REGEXP '{VOLATILE_TABLES}'\") | grep -vE \"{VOLATILE}\" | sed 's/ AUTO_INCREMENT=[0-9]*//' | sha256sum"
        );
        all.push_str(&format!("{name} {}\n", shell(host, &with_tools(&script)).await?));
    }
    Ok(all)
}

/// The visible words of a page, without what changes at every request.
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
    text.split_whitespace().take(400).collect::<Vec<_>>().join(" ")
}

async fn shell(host: &Host, script: &str) -> Result<String> {
    let output = host.run(Exec::new(["sh", "-c", script])).await?;
    ensure!(output.success(), "{script}: {}: {}", output.code, String::from_utf8_lossy(&output.stderr));
    Ok(output.text())
}
