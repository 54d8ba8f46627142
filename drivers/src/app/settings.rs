//! A site's `wp-config.php`: our marked block is replaced whole, everything outside of it is kept byte for byte. Pure.

use kedge_workflows::ports::AppSite;

const BEGIN: &str = "/* kedge:begin - Kedge replaces this block whole; your own settings belong below it */";
const END: &str = "/* kedge:end */";
/// Names of WordPress's keys and salts.
const SALTS: [&str; 8] = [
    "AUTH_KEY", "SECURE_AUTH_KEY", "LOGGED_IN_KEY", "NONCE_KEY", "AUTH_SALT", "SECURE_AUTH_SALT", "LOGGED_IN_SALT",
    "NONCE_SALT",
];

/// Our block for a site.
pub(super) fn block(site: &AppSite, password: &str) -> String {
    let url = format!("http://{}", site.name);
    let database = &site.database;
    let mut lines = vec![BEGIN.to_owned()];
    for (name, value) in [
        ("DB_NAME", database.name.as_str()),
        ("DB_USER", database.user.as_str()),
        ("DB_PASSWORD", password),
        ("DB_HOST", &database.address),
        ("DB_CHARSET", "utf8mb4"),
        ("DB_COLLATE", ""),
        ("WP_HOME", &url),
        ("WP_SITEURL", &url),
        ("WP_CONTENT_URL", &format!("{url}/wp-content")),
    ] {
        lines.push(format!("define('{name}', {});", quoted(value)));
    }
    // By its own place, so that the file is right in the stage and when it is live.
    lines.push("define('WP_CONTENT_DIR', __DIR__ . '/wp-content');".to_owned());
    // Core belongs to the platform: a site must not update it under the others.
    lines.push("define('WP_AUTO_UPDATE_CORE', false);".to_owned());
    lines.push(END.to_owned());
    lines.join("\n")
}

/// A new settings file. `salt` makes a new random text each time.
pub(super) fn new_file(block: &str, salt: impl Fn() -> String) -> String {
    let salts: Vec<String> = SALTS.iter().map(|name| format!("define('{name}', {});", quoted(&salt()))).collect();
    format!(
        "<?php\n{block}\n\n{}\n\n$table_prefix = 'wp_';\n\nif (!defined('ABSPATH')) {{\n    define('ABSPATH', dirname(__DIR__, 2) . '/');\n}}\nrequire_once ABSPATH . 'wp-settings.php';\n",
        salts.join("\n")
    )
}

/// An existing file with another block; `None` when it has none of ours.
pub(super) fn replaced(file: &[u8], block: &str) -> Option<Vec<u8>> {
    let begin = memchr::memmem::find(file, BEGIN.as_bytes())?;
    let end = begin + memchr::memmem::find(&file[begin..], END.as_bytes())? + END.len();
    Some([&file[..begin], block.as_bytes(), &file[end..]].concat())
}

/// A PHP string in single quotes.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use kedge_workflows::names::{DatabaseName, SiteName};
    use kedge_workflows::ports::{AppDatabase, SecretRef};

    use super::*;

    fn site(name: &str) -> AppSite {
        AppSite {
            name: SiteName::parse(name).unwrap(),
            platform_root: "/srv/p".into(),
            live_dir: "/srv/p/sites/x".into(),
            dir: "/srv/p/sites/x".into(),
            database: AppDatabase {
                server: "db1".into(),
                address: "localhost".into(),
                name: DatabaseName::parse("shop").unwrap(),
                user: DatabaseName::parse("shop").unwrap(),
                password: SecretRef("x".into()),
            },
        }
    }

    #[test]
    fn everything_outside_the_block_is_kept() {
        let file = new_file(&block(&site("a.test"), "p'w\\"), || "salt".to_owned());
        assert!(file.contains(r"define('DB_PASSWORD', 'p\'w\\');"));
        let edited = file.replace("$table_prefix = 'wp_';", "define('MINE', \"\u{e9}\");\n$table_prefix = 'x_';");
        let moved = replaced(edited.as_bytes(), &block(&site("b.test"), "q")).unwrap();
        let moved = String::from_utf8(moved).unwrap();
        assert!(moved.contains("define('WP_HOME', 'http://b.test');") && !moved.contains("a.test"));
        assert!(moved.contains("define('MINE', \"\u{e9}\");") && moved.contains("$table_prefix = 'x_';"));
        assert_eq!(moved.matches("'salt'").count(), 8);
        assert_eq!(replaced(b"<?php define('DB_NAME', 'x');", "block"), None);
    }
}
