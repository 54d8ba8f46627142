//! A Drupal site's `settings.php`: our block in it, and the whole file where there is none; one form for Drupal 7 and newer ones.
//! Pure. Source of the form: Aegir's `provision_drupal_settings.tpl.php`, without its cloaking.

use kedge_workflows::names::SiteName;
use kedge_workflows::ports::{AppSite, PortError, PortResult, Secret};

use super::block::Markers;
use super::keys;
use super::wordpress_settings::literal;

/// Our block's markers: comments of PHP.
const MARKERS: Markers = Markers { begin: "// BEGIN kedge", end: "// END kedge" };
/// What takes login links: in front of Drupal, which no page cache of its own is.
const LOGIN: &str = include_str!("php/drupal_login_lines.php");
/// What holds a quiet site back: at the end of the file, where nothing else has the last word.
const QUIET: &str = include_str!("php/drupal_quiet.php");
/// Its markers.
const QUIET_MARKERS: Markers = Markers { begin: "// BEGIN quiet kedge", end: "// END quiet kedge" };

/// Where Drupal 7 and newer ones have their salt. Source: default.settings.php.
const SALTS: [&str; 2] = ["$drupal_hash_salt", "$settings['hash_salt']"];

/// The file that shall be there, given the one that is. `salt` is asked for once, for a new file.
///
/// # Errors
/// `Refused` when the file is no PHP or its markers are damaged, or a value cannot be written.
pub(super) fn render(
    there: Option<&[u8]>,
    site: &AppSite,
    password: &Secret,
    salt: impl FnOnce() -> PortResult<String>,
) -> PortResult<Vec<u8>> {
    let loud = there.map(|file| QUIET_MARKERS.without_end(file)).transpose()?;
    let new = loud_file(loud.as_deref(), site, password, salt)?;
    if !site.quiet {
        return Ok(new);
    }
    // Lines that are there already stay where they are: what was put behind them has the same byte before and after.
    match there.filter(|_| loud.as_deref() != there) {
        Some(file) => {
            QUIET_MARKERS.at_end(&loud_file(Some(file), site, password, || Ok(String::new()))?, QUIET)
        }
        None => QUIET_MARKERS.at_end(&new, QUIET),
    }
}

/// The file of a site that is not held back; lines that hold it back are kept where they are there.
fn loud_file(
    there: Option<&[u8]>,
    site: &AppSite,
    password: &Secret,
    salt: impl FnOnce() -> PortResult<String>,
) -> PortResult<Vec<u8>> {
    let block = block(site, password)?;
    let Some(file) = there else { return Ok(whole(&block, &salt()?)?.into_bytes()) };
    if let Some(new) = MARKERS.replace(file, &block)? {
        return Ok(new);
    }
    if !file.starts_with(b"<?php") {
        return Err(PortError::Refused("it does not begin with <?php".to_owned()));
    }
    // A file that is not from us (Aegir's, or made by hand): our values come last, and the last one counts.
    Ok([file, gap(file), block.as_bytes()].concat())
}

/// What has to be between a file and more code.
fn gap(file: &[u8]) -> &'static [u8] {
    match file.trim_ascii_end() {
        closed if closed.ends_with(b"?>") => b"\n<?php\n",
        _ if file.ends_with(b"\n") => b"",
        _ => b"\n",
    }
}

/// The file with a new salt: in the lines that give it a literal, or at the end, where the last one counts.
///
/// # Errors
/// `Refused` when the salt cannot be written.
pub(super) fn renewed(file: &[u8], salt: &str) -> PortResult<Vec<u8>> {
    if let Some(new) = keys::with_variables(file, &SALTS, salt)? {
        return Ok(new);
    }
    let last = format!("{} = {};\n{} = {0};\n", SALTS[0], literal(salt)?, SALTS[1]);
    Ok([file, gap(file), last.as_bytes()].concat())
}

fn block(site: &AppSite, password: &Secret) -> PortResult<String> {
    let mut text = format!(
        "{}: written anew whenever Kedge moves the site. Your own settings belong below, or into local.settings.php.\n\
         $databases['default']['default'] = array(\n",
        MARKERS.begin
    );
    let place = Place::of(&site.database.address)?;
    let none = || Ok("NULL".to_owned());
    for (name, value) in [
        ("driver", literal("mysql")?),
        ("database", literal(site.database.name.as_str())?),
        ("username", literal(site.database.user.as_str())?),
        ("password", literal(password.expose())?),
        ("host", literal(place.host)?),
        ("port", place.port.map_or_else(none, literal)?),
        ("unix_socket", place.socket.map_or_else(none, literal)?),
    ] {
        text += &format!("  '{name}' => {value},\n");
    }
    text += ") + (isset($databases['default']['default']) ? $databases['default']['default'] : array('prefix' => ''));\n";
    // Where the file is at this moment, so that a side that is built beside the live one never reaches into that.
    text += "$kedge_dir = 'sites/' . basename(__DIR__);\n";
    for (names, value) in [
        (["$conf['file_public_path']", "$settings['file_public_path']"], "/files"),
        (["$conf['file_private_path']", "$settings['file_private_path']"], "/private/files"),
        (["$conf['file_temporary_path']", "$settings['file_temp_path']"], "/private/temp"),
        (["", "$settings['config_sync_directory']"], "/private/config/sync"),
    ] {
        for name in names.iter().filter(|name| !name.is_empty()) {
            text += &format!("{name} = $kedge_dir . '{value}';\n");
        }
    }
    text += "$settings['trusted_host_patterns'] = array(\n";
    for name in std::iter::once(&site.name).chain(&site.aliases) {
        text += &format!("  {},\n", literal(&host_pattern(name))?);
    }
    text += ");\n";
    // What is kept in memory by the name of a deployment is never another side's.
    text += &format!("$settings['deployment_identifier'] = {};\n", literal(site.database.name.as_str())?);
    text += &format!("umask(0002);\n{LOGIN}{}\n", MARKERS.end);
    Ok(text)
}

/// The whole name and nothing else, as a regular expression.
fn host_pattern(name: &SiteName) -> String {
    format!("^{}$", name.as_str().replace('.', "\\."))
}

fn whole(block: &str, salt: &str) -> PortResult<String> {
    let salt = literal(salt)?;
    Ok(format!(
        "<?php\n{block}\n\
         $databases['default']['default'] += array('charset' => 'utf8mb4', 'collation' => 'utf8mb4_general_ci');\n\
         $drupal_hash_salt = {salt};\n\
         $settings['hash_salt'] = $drupal_hash_salt;\n\
         $settings['update_free_access'] = FALSE;\n\
         $update_free_access = FALSE;\n\n\
         // Settings of the platform, and of this site.\n\
         foreach (array(__DIR__ . '/../all/platform.settings.php', __DIR__ . '/local.settings.php') as $kedge_file) {{\n\
         \x20 if (is_readable($kedge_file)) {{\n\
         \x20   include $kedge_file;\n\
         \x20 }}\n\
         }}\n"
    ))
}

/// A database's address in parts: `host`, `host:port` or `host:/socket`.
struct Place<'a> {
    host: &'a str,
    port: Option<&'a str>,
    socket: Option<&'a str>,
}

impl<'a> Place<'a> {
    fn of(address: &'a str) -> PortResult<Self> {
        let plain = Self { host: address, port: None, socket: None };
        // An IPv6 address in brackets has colons of its own.
        let after = address.rfind(']').map_or(0, |end| end + 1);
        let Some(colon) = address[after..].find(':').map(|at| after + at) else { return Ok(plain) };
        let (host, rest) = (&address[..colon], &address[colon + 1..]);
        if rest.starts_with('/') {
            return Ok(Self { host, socket: Some(rest), ..plain });
        }
        if rest.parse::<u16>().is_err() {
            return Err(PortError::Refused(format!(
                "the database address {address:?} is none of host, host:port and host:/socket"
            )));
        }
        Ok(Self { host, port: Some(rest), ..plain })
    }
}

#[cfg(test)]
mod tests {
    use super::super::wordpress_settings::tests::site;
    use super::*;

    fn text(there: Option<&str>, schema: &str, password: &str) -> PortResult<String> {
        let alias = SiteName::parse("www.shop.example.test").unwrap();
        let site = AppSite { aliases: vec![alias], ..site(schema) };
        let salt = || Ok("salt".to_owned());
        let bytes = render(there.map(str::as_bytes), &site, &Secret::new(password), salt)?;
        Ok(String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn a_new_file_has_everything_and_is_stable() {
        let new = text(None, "shop", r"it's \ a password").unwrap();
        for line in [
            r"  'password' => 'it\'s \\ a password',",
            "  'host' => 'localhost',",
            "  'port' => NULL,",
            "  'unix_socket' => '/run/mysqld/mysqld.sock',",
            r"  '^shop\\.example\\.test$',",
            r"  '^www\\.shop\\.example\\.test$',",
            "$settings['config_sync_directory'] = $kedge_dir . '/private/config/sync';",
            "$conf['file_public_path'] = $kedge_dir . '/files';",
            "$drupal_hash_salt = 'salt';",
        ] {
            assert!(new.contains(line), "{line} is missing in {new}");
        }
        assert!(!new.contains("stage") && !new.contains("/srv/"), "it has to work in both places: {new}");
        assert_eq!(text(Some(&new), "shop", r"it's \ a password").unwrap(), new);
    }

    #[test]
    fn what_is_around_the_block_stays() {
        let own = text(None, "shop", "old").unwrap() + "// mine\n";
        let moved = text(Some(&own), "shop_2", "new").unwrap();
        assert_eq!(own.replace("'shop'", "'shop_2'").replace("'old'", "'new'"), moved);
    }

    #[test]
    fn a_file_of_somebody_else_gets_the_block_behind() {
        for (theirs, gap) in
            [("<?php\n$a = 1;\n", ""), ("<?php\n$a = 1;", "\n"), ("<?php\n$a = 1;\n?>\n", "\n<?php\n")]
        {
            let file = text(Some(theirs), "shop", "pw").unwrap();
            assert!(file.starts_with(&format!("{theirs}{gap}// BEGIN kedge")), "{file}");
            assert_eq!(text(Some(&file), "shop", "pw").unwrap(), file);
        }
        for bad in ["", "text", "<?php\n// BEGIN kedge\n"] {
            assert!(text(Some(bad), "shop", "pw").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_quiet_site_is_held_back_at_the_end_and_let_go_without_a_trace() {
        let render = |there: Option<&str>, quiet: bool| {
            let site = AppSite { quiet, ..site("shop") };
            let salt = || Ok("salt".to_owned());
            let new = render(there.map(str::as_bytes), &site, &Secret::new("pw"), salt).unwrap();
            String::from_utf8(new).unwrap()
        };
        let loud = render(None, false);
        for own in [loud.clone(), loud.clone() + "// mine", loud.clone() + "// mine\n"] {
            let quiet = render(Some(&own), true);
            assert!(quiet.starts_with(&own) && quiet.ends_with("// END quiet kedge\n"), "{quiet}");
            assert_eq!(render(Some(&quiet), true), quiet, "twice is once");
            assert_eq!(render(Some(&quiet), false), own);
            let older = quiet.replace("quiet kedge 1:", "quiet kedge 0:") + "// behind\n";
            assert_eq!(render(Some(&older), true), quiet.clone() + "// behind\n");
            assert_eq!(render(Some(&older), false), own.clone() + "// behind\n");
        }
        assert_eq!(render(None, true), render(Some(&loud), true));
        let closed = super::render(
            Some(format!("{loud}?>\n").as_bytes()),
            &AppSite { quiet: true, ..site("shop") },
            &Secret::new("pw"),
            || Ok(String::new()),
        );
        assert!(format!("{closed:?}").contains("no ?> at its end"), "{closed:?}");
    }

    #[test]
    fn a_copy_gets_a_salt_of_its_own() {
        let again =
            |file: &str, salt: &str| String::from_utf8(renewed(file.as_bytes(), salt).unwrap()).unwrap();
        let ours = text(None, "shop", "pw").unwrap();
        assert_eq!(again(&ours, "new"), ours.replace("'salt'", "'new'"));
        let newer = again("<?php\n$settings['hash_salt'] = 'old';\n", "new");
        assert_eq!(newer, "<?php\n$settings['hash_salt'] = 'new';\n");
        let read = again("<?php\n$settings['hash_salt'] = file_get_contents('x');\n", "new");
        assert!(
            read.ends_with("$drupal_hash_salt = 'new';\n$settings['hash_salt'] = $drupal_hash_salt;\n"),
            "{read}"
        );
        assert_eq!(again(&read, "newer"), read.replace("'new'", "'newer'"));
    }

    #[test]
    fn addresses_are_taken_apart() {
        for (address, host, port, socket) in [
            ("localhost", "localhost", None, None),
            ("db1.internal:3307", "db1.internal", Some("3307"), None),
            ("localhost:/run/m.sock", "localhost", None, Some("/run/m.sock")),
            ("[::1]:3306", "[::1]", Some("3306"), None),
            ("[::1]", "[::1]", None, None),
        ] {
            let place = Place::of(address).unwrap();
            assert_eq!((place.host, place.port, place.socket), (host, port, socket), "{address}");
        }
        assert!(Place::of("db:x").is_err());
    }

    #[test]
    fn control_characters_are_refused_without_repeating_the_value() {
        let error = text(None, "shop", "ge\nheim").unwrap_err();
        assert!(!format!("{error:?}").contains("heim"));
    }
}
