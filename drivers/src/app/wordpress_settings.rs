//! A WordPress site's `wp-config.php`: our block in it, and the whole file where there is none. Pure.

use kedge_workflows::ports::{AppSite, PortError, PortResult, Secret};

use super::block::Markers;
use super::keys;

/// Our block's markers: comments of PHP.
const MARKERS: Markers = Markers { begin: "// BEGIN kedge", end: "// END kedge" };
/// Keys and salts that WordPress wants. Source: wp-config-sample.php.
const SALTS: [&str; 8] = [
    "AUTH_KEY",
    "SECURE_AUTH_KEY",
    "LOGGED_IN_KEY",
    "NONCE_KEY",
    "AUTH_SALT",
    "SECURE_AUTH_SALT",
    "LOGGED_IN_SALT",
    "NONCE_SALT",
];

/// Constants that our block defines: what an owner wrote of them would count no more, and PHP would say so at every visit.
const OURS: [&str; 9] = [
    "DB_NAME",
    "DB_USER",
    "DB_PASSWORD",
    "DB_HOST",
    "WP_HOME",
    "WP_SITEURL",
    "WP_CONTENT_URL",
    "WP_CONTENT_DIR",
    "WP_AUTO_UPDATE_CORE",
];
/// What keeps sites apart that share an object cache of Redis or Memcached: its drop-ins come along with a copy of the site.
const CACHE_KEYS: [&str; 2] = ["WP_CACHE_KEY_SALT", "WP_REDIS_PREFIX"];

/// What holds a quiet site back, before any code of its own is loaded. WordPress takes hooks that are set before it (since 4.7), and the
/// first one who defines `wp_mail` has it: a plugin that mails by itself is held back too. Requests to the site itself go through.
const QUIET: &str = include_str!("php/wordpress_quiet.php");

/// The file that shall be there, given the one that is. `salt` is asked for each new key.
///
/// # Errors
/// `Refused` when the file is no PHP or its markers are damaged, or a value cannot be written.
pub(super) fn render(
    there: Option<&[u8]>,
    site: &AppSite,
    password: &Secret,
    salt: impl FnMut() -> PortResult<String>,
) -> PortResult<Vec<u8>> {
    let block = block(site, password)?;
    let Some(file) = there else { return Ok(whole(&block, salt)?.into_bytes()) };
    // The owner's would be the original's also in a copy, and PHP complains of a second definition at every visit.
    if let Some(new) = MARKERS.replace(&keys::without_constants(file, &CACHE_KEYS), &block)? {
        return Ok(new);
    }
    // A file that is not from us: our definitions come first, and the first one of a constant counts.
    let open = file
        .strip_prefix(b"<?php")
        .ok_or_else(|| PortError::Refused("it does not begin with <?php".to_owned()))?;
    let line = memchr::memchr(b'\n', open).map_or(file.len(), |i| file.len() - open.len() + i + 1);
    let (first, rest) = file.split_at(line);
    if first.trim_ascii_end() != b"<?php" {
        return Err(PortError::Refused(
            "its first line has more than <?php; put a line break there".to_owned(),
        ));
    }
    let rest = keys::without_constants(rest, &OURS);
    Ok([b"<?php\n", block.as_bytes(), &keys::without_constants(&rest, &CACHE_KEYS)].concat())
}

fn block(site: &AppSite, password: &Secret) -> PortResult<String> {
    let url = site.url();
    let mut text = format!(
        "{}: written anew whenever Kedge moves the site. Your own settings belong below.\n",
        MARKERS.begin
    );
    for (name, value) in [
        ("DB_NAME", site.database.name.as_str()),
        ("DB_USER", site.database.user.as_str()),
        ("DB_PASSWORD", password.expose()),
        ("DB_HOST", &site.database.address),
        ("WP_HOME", &url),
        ("WP_SITEURL", &url),
        ("WP_CONTENT_URL", &format!("{url}/wp-content")),
    ] {
        text += &format!("define( '{name}', {} );\n", literal(value)?);
    }
    // Each side has a database of its own; the colon ends the name, so that no name is the beginning of another.
    let cache = literal(&format!("{}.{}:", site.database.server, site.database.name))?;
    for name in CACHE_KEYS {
        text += &format!("define( '{name}', {cache} );\n");
    }
    text += &format!(
        "define( 'WP_CONTENT_DIR', __DIR__ . '/wp-content' );\n\
         // The core is shared by the platform's sites: it changes when they move, not by itself.\n\
         define( 'WP_AUTO_UPDATE_CORE', false );\n\
         defined( 'ABSPATH' ) || define( 'ABSPATH', {} );\n{}{}\n",
        literal(&format!("{}/", site.platform_root))?,
        if site.quiet { QUIET } else { "" },
        MARKERS.end
    );
    Ok(text)
}

fn whole(block: &str, mut salt: impl FnMut() -> PortResult<String>) -> PortResult<String> {
    let mut text =
        format!("<?php\n{block}\ndefine( 'DB_CHARSET', 'utf8mb4' );\ndefine( 'DB_COLLATE', '' );\n\n");
    text += &salts(&mut salt)?;
    text += "\n$table_prefix = 'wp_';\n\ndefine( 'WP_DEBUG', false );\n\nrequire_once ABSPATH . 'wp-settings.php';\n";
    Ok(text)
}

fn salts(mut salt: impl FnMut() -> PortResult<String>) -> PortResult<String> {
    let lines = SALTS.iter().map(|name| Ok(format!("define( '{name}', {} );\n", literal(&salt()?)?)));
    lines.collect()
}

/// A file that has our block, with new keys and salts. They stand right behind the block, so that they are the first, which count: also
/// where the old ones are written in a form that is not known here.
///
/// # Errors
/// `Refused` when it has no block of ours.
pub(super) fn renewed(file: &[u8], salt: impl FnMut() -> PortResult<String>) -> PortResult<Vec<u8>> {
    let new = MARKERS.append(&keys::without_constants(file, &SALTS), &salts(salt)?)?;
    new.ok_or_else(|| PortError::Refused(format!("it has no block {:?}", MARKERS.begin)))
}

/// A string of PHP in single quotes.
///
/// # Errors
/// `Refused` for control characters, which no name or path of ours has. The value is not repeated: it may be a secret.
pub(super) fn literal(value: &str) -> PortResult<String> {
    if value.chars().any(char::is_control) {
        return Err(PortError::Refused("a value for a settings file has a control character".to_owned()));
    }
    Ok(format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'")))
}

#[cfg(test)]
pub(super) mod tests {
    use kedge_workflows::names::{DatabaseName, SiteName};
    use kedge_workflows::ports::{AppDatabase, Reach, SecretRef};

    use super::*;

    pub(in crate::app) fn site(schema: &str) -> AppSite {
        AppSite {
            name: SiteName::parse("shop.example.test").unwrap(),
            aliases: Vec::new(),
            platform_root: "/srv/platforms/wordpress-6.1".into(),
            live_dir: "/srv/platforms/wordpress-6.1/sites/shop.example.test".into(),
            dir: "/srv/platforms/wordpress-6.1/sites/.kedge-stage-t".into(),
            database: AppDatabase {
                server: "db1".into(),
                address: "localhost:/run/mysqld/mysqld.sock".into(),
                name: DatabaseName::parse(schema).unwrap(),
                user: DatabaseName::parse(schema).unwrap(),
                password: SecretRef("x".into()),
            },
            reach: Reach::default(),
            quiet: false,
        }
    }

    fn render_text(there: Option<&str>, schema: &str, password: &str) -> PortResult<String> {
        let mut number = 0;
        let salt = || {
            number += 1;
            Ok(format!("salt '{number}'"))
        };
        let bytes = render(there.map(str::as_bytes), &site(schema), &Secret::new(password), salt)?;
        Ok(String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn a_new_file_has_everything_and_is_stable() {
        let text = render_text(None, "shop", r"it's \ a password").unwrap();
        for line in [
            r"define( 'DB_PASSWORD', 'it\'s \\ a password' );",
            "define( 'WP_HOME', 'http://shop.example.test' );",
            "define( 'WP_CONTENT_DIR', __DIR__ . '/wp-content' );",
            r"define( 'NONCE_SALT', 'salt \'8\'' );",
            "$table_prefix = 'wp_';",
        ] {
            assert!(text.contains(line), "{line} is missing in {text}");
        }
        assert!(!text.contains("stage"), "the file must work in both places");
        assert_eq!(render_text(Some(&text), "shop", r"it's \ a password").unwrap(), text);
    }

    #[test]
    fn keys_are_made_anew_whatever_form_the_old_ones_have() {
        let renewed = |file: &str, name: &str| {
            let bytes = renewed(file.as_bytes(), || Ok(name.to_owned())).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        let ours = render_text(None, "shop", "pw").unwrap();
        let theirs = "<?php\ndefine('AUTH_KEY',   'x\\'y');\ndefine('NONCE_KEY', getenv('N'));\n$a = 1;\n";
        for file in [ours, render_text(Some(theirs), "shop", "pw").unwrap()] {
            let new = renewed(&file, "new");
            for name in SALTS {
                let first = new.find(&format!("'{name}'")).map(|at| &new[at..]);
                assert!(first.unwrap().starts_with(&format!("'{name}', 'new' );")), "{name}: {new}");
            }
            assert!(!new.contains("salt '") && !new.contains("x\\'y"), "an old one is left: {new}");
            assert_eq!(renewed(&new, "newer"), new.replace("'new'", "'newer'"));
            assert_eq!(render_text(Some(&new), "shop", "pw").unwrap(), new);
        }
        assert!(super::renewed(b"<?php\n", || Ok("new".to_owned())).is_err());
    }

    #[test]
    fn a_quiet_site_is_held_back_and_let_go() {
        let render = |there: &str, quiet: bool| {
            let site = AppSite { quiet, ..site("shop") };
            let new = render(Some(there.as_bytes()), &site, &Secret::new("pw"), || Ok("salt".to_owned()));
            String::from_utf8(new.unwrap()).unwrap()
        };
        let loud = render_text(None, "shop", "pw").unwrap();
        let quiet = render(&loud, true);
        for line in ["define( 'DISABLE_WP_CRON', true );", "function wp_mail(", "'WP_HTTP_BLOCK_EXTERNAL'"] {
            assert!(quiet.contains(line) && !loud.contains(line), "{line}: {quiet}");
        }
        assert!(quiet.find(QUIET).unwrap() < quiet.find(MARKERS.end).unwrap(), "within our block: {quiet}");
        assert_eq!(render(&quiet, true), quiet);
        assert_eq!(render(&quiet, false), loud);
    }

    #[test]
    fn what_is_around_the_block_stays() {
        let text = render_text(None, "shop", "old").unwrap() + "// mine: DB_NAME\n";
        let moved = render_text(Some(&text), "shop_2", "new").unwrap();
        let expected = text.replace("'shop'", "'shop_2'").replace("'old'", "'new'");
        assert_eq!(expected.replace("'db1.shop:'", "'db1.shop_2:'"), moved);
    }

    #[test]
    fn a_side_has_a_cache_of_its_own_whatever_the_owner_wrote() {
        let own = "define( 'WP_CACHE_KEY_SALT', 'live' );\ndefine('WP_REDIS_PREFIX', 'live:');\n// mine\n";
        for file in [render_text(None, "shop", "pw").unwrap() + own, format!("<?php\n{own}")] {
            let (live, copy) = (render_text(Some(&file), "shop", "pw"), render_text(Some(&file), "s2", "pw"));
            for (text, cache) in [(live.unwrap(), "db1.shop:"), (copy.unwrap(), "db1.s2:")] {
                for name in CACHE_KEYS {
                    let defined = format!("define( '{name}', '{cache}' );\n");
                    assert!(text.contains(&defined) && text.matches(name).count() == 1, "{name}: {text}");
                }
                assert!(text.ends_with("// mine\n"), "{text}");
            }
        }
    }

    #[test]
    fn a_file_of_somebody_else_gets_the_block_in_front() {
        let theirs = "<?php\r\n$theirs = 1;\nrequire_once ABSPATH . 'wp-settings.php';\n";
        let text = render_text(Some(theirs), "shop", "pw").unwrap();
        assert!(text.starts_with("<?php\n// BEGIN kedge") && text.ends_with(&theirs["<?php\r\n".len()..]));
        assert_eq!(render_text(Some(&text), "shop", "pw").unwrap(), text);
        // What the block defines is defined once; what is not surely a definition of it stays.
        let before = "define('DB_NAME', 'theirs'); // x\ndefine( 'WP_AUTO_UPDATE_CORE', true );\n";
        let stays = "define('WP_HOME', getenv('H'));\nif ($x)\n  define('DB_HOST', 'theirs');\n";
        let text = render_text(Some(&format!("<?php\n{before}{stays}")), "shop", "pw").unwrap();
        assert!(text.ends_with(&format!("{}\n{stays}", MARKERS.end)), "{text}");
        for name in OURS {
            assert!(text.contains(&format!("define( '{name}', ")), "{name} is none of the block's: {text}");
        }
        for bad in ["", "text", "<?php define('A', 1);\n", "<?php\n// BEGIN kedge\n"] {
            assert!(render_text(Some(bad), "shop", "pw").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn control_characters_are_refused_without_repeating_the_value() {
        let error = render_text(None, "shop", "ge\nheim").unwrap_err();
        assert!(!format!("{error:?}").contains("heim"));
    }
}
