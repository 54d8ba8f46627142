//! What holds for every Drupal site: modes and owners, rows that visits change, pages that have to answer. Pure.

use kedge_workflows::names::SiteName;
use kedge_workflows::ports::{AccessRule, Get, SmokeCheck, VolatileRows};

/// Modes as Aegir sets them; the code and the settings are root's, what the site writes is the web server's user's.
pub(super) fn access_rules(web: &str) -> Vec<AccessRule> {
    let rule = |path: &str, dir_mode, file_mode, user: &str| AccessRule {
        path: path.to_owned(),
        dir_mode,
        file_mode,
        user: Some(user.to_owned()),
        group: Some(web.to_owned()),
    };
    vec![
        rule("", 0o755, 0o644, "root"),
        rule("files", 0o2775, 0o664, web),
        rule("private", 0o2770, 0o660, web),
        rule("settings.php", 0o755, 0o440, "root"),
        rule("local.settings.php", 0o755, 0o440, "root"),
        rule("drushrc.php", 0o755, 0o440, "root"),
        // Passwords and keys of services are in them, by Drupal's own example and by habit.
        rule("settings.local.php", 0o755, 0o440, "root"),
        rule(".env", 0o755, 0o440, "root"),
        rule(".env.local", 0o755, 0o440, "root"),
    ]
}

/// Tables that visits and the cron jobs that visits start write to, and what they note in tables that are not theirs.
pub(super) fn volatile_rows() -> Vec<VolatileRows> {
    let rows = |table: &str, column: &str, like: &[&str]| VolatileRows {
        table_suffix: table.to_owned(),
        column: column.to_owned(),
        like: like.iter().map(|pattern| (*pattern).to_owned()).collect(),
    };
    let mut all: Vec<VolatileRows> = [
        "cache*",
        "cachetags",
        "sessions",
        "semaphore",
        "watchdog",
        "flood",
        "history",
        "batch",
        "queue",
        "accesslog",
        "node_counter",
        "key_value_expire",
        "search_dataset",
        "search_index",
        "search_total",
    ]
    .iter()
    .map(|table| rows(table, "", &[]))
    .collect();
    all.extend([
        // Drupal 7's notes of its own.
        rows(
            "variable",
            "name",
            &[
                r"cron\_last",
                r"cron\_semaphore",
                r"css\_js\_query\_string",
                r"drupal\_%\_cache\_files",
                r"javascript\_parsed",
                r"cache\_flush\_%",
                r"menu\_%",
                r"path\_alias\_whitelist",
                r"update\_%",
                r"node\_cron\_%",
                r"statistics\_%",
                r"drupal\_private\_key",
                r"cache\_%",
            ],
        ),
        rows(
            "key_value",
            "name",
            &[
                r"system.cron\_last",
                r"system.css\_js\_query\_string",
                r"drupal\_%\_cache\_files",
                r"drupal\_css\_cache\_files",
                r"routing.%",
                r"update.%",
                r"node.%",
                r"comment.%",
                r"twig\_%",
                r"asset.%",
                r"menu\_%",
                r"router\_%",
                r"system.javascript\_parsed",
                r"system.private\_key",
                r"system.profile.files",
                r"views.%",
            ],
        ),
    ]);
    all
}

/// The front page in whatever state the owner wants it (behind a redirect, for members only, in Drupal's own maintenance mode), and the
/// login, which is there in any case and needs the database.
pub(super) fn smoke_checks(site: &SiteName) -> Vec<SmokeCheck> {
    let check = |path: &str, statuses: &[u16], contains: &[&str]| SmokeCheck {
        get: Get { host: site.clone(), path: path.to_owned(), bypass: None },
        statuses: statuses.to_vec(),
        also: Vec::new(),
        contains: contains.iter().map(|text| (*text).to_owned()).collect(),
        lacks: [
            "The website encountered an unexpected error",
            "PDOException",
            "Fatal error",
            "site is currently not available due to technical",
        ]
        .map(str::to_owned)
        .into(),
    };
    vec![check("/", &[200, 301, 302, 403, 503], &[]), check("/user/login", &[200, 403], &["</html>"])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_with_secrets_are_read_by_the_web_server_and_nobody_else() {
        let rules = access_rules("www-data");
        for name in ["settings.php", "local.settings.php", "settings.local.php", ".env", ".env.local"] {
            let rule = rules.iter().rfind(|rule| rule.path == name).expect(name);
            assert_eq!(rule.told(false), "0440 root:www-data", "{name}");
        }
    }
}
