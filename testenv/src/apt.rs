//! The apt settings of this machine, read at run time so that containers reach packages in the same way.
//! Nothing of them is ever written into the repository.
//!
//! Formats: `sources.list(5)` (one-line and deb822), `apt.conf(5)`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use crate::error::{Error, Result};
use crate::program;

/// The release of Debian that is never released.
pub(crate) const UNSTABLE: &str = "sid";

/// Where packages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Archive {
    uri: String,
    signed_by: Option<String>,
    trusted: bool,
}

/// The archives of a Debian machine: the main one and, where the machine uses it, the one of security updates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sources {
    main: Archive,
    security: Option<Archive>,
}

/// A file to lay into an image: absolute path and content.
pub(crate) type ImageFile = (String, Vec<u8>);

/// What was found on this machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Machine {
    /// Missing on machines that are not Debian: their archives hold no Debian packages.
    pub(crate) sources: Option<Sources>,
    /// Settings about the way to the archives (proxies, certificates, date checks), in the format of `apt.conf`.
    pub(crate) acquire: String,
    /// Keys and certificates that the settings name, and certificates that the machine's owner added.
    pub(crate) files: Vec<ImageFile>,
}

impl Machine {
    /// Reads the settings of this machine. A machine without apt has none.
    pub(crate) async fn read() -> Result<Self> {
        let root = Path::new("/etc/apt");
        let os_release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let sources =
            if os_release.lines().any(|line| line == "ID=debian") { read_sources(root)? } else { None };
        let acquire = if program::exists("apt-config") {
            let mut command = Command::new("apt-config");
            command.args(["dump", "--format", "%f \"%v\";%n", "Acquire"]);
            let dump = program::run("apt-config", &mut command, b"", Duration::from_secs(20)).await?;
            acquire_settings(&String::from_utf8_lossy(&dump))
        } else {
            String::new()
        };
        let mut named: Vec<PathBuf> = Vec::new();
        if let Some(sources) = &sources {
            let keys = [Some(&sources.main), sources.security.as_ref()].into_iter().flatten();
            named.extend(keys.filter_map(|archive| archive.signed_by.as_ref()).map(PathBuf::from));
        }
        named.extend(
            acquire.lines().filter(|line| line.to_lowercase().contains("cainfo ")).filter_map(quoted),
        );
        named.extend(list(Path::new("/usr/local/share/ca-certificates"))?);
        named.sort();
        named.dedup();
        let mut files = Vec::new();
        for path in named.into_iter().filter(|path| path.is_absolute() && path.is_file()) {
            let content = std::fs::read(&path).map_err(Error::io(&path))?;
            files.push((path.to_string_lossy().into_owned(), content));
        }
        Ok(Self { sources, acquire, files })
    }

    /// The files that give an image of `suite` the settings of this machine.
    pub(crate) fn image_files(&self, suite: &str) -> Vec<ImageFile> {
        let mut files = self.files.clone();
        if let Some(sources) = &self.sources {
            let path = "/etc/apt/sources.list.d/kedge-testenv.sources".to_owned();
            files.push((path, sources.render(suite).into_bytes()));
        }
        if !self.acquire.is_empty() {
            let path = "/etc/apt/apt.conf.d/90kedge-testenv".to_owned();
            files.push((path, self.acquire.clone().into_bytes()));
        }
        files
    }
}

impl Sources {
    /// The sources of a suite in the deb822 format, with its updates, and its security updates where the machine has such. The unstable
    /// release has neither: it is where updates come from.
    pub(crate) fn render(&self, suite: &str) -> String {
        let stanza = |archive: &Archive, suites: String| {
            let mut text = format!("Types: deb\nURIs: {}\nSuites: {suites}\nComponents: main\n", archive.uri);
            if let Some(key) = &archive.signed_by {
                text.push_str(&format!("Signed-By: {key}\n"));
            }
            if archive.trusted {
                text.push_str("Trusted: yes\n");
            }
            text
        };
        if suite == UNSTABLE {
            return stanza(&self.main, suite.to_owned());
        }
        let mut text = stanza(&self.main, format!("{suite} {suite}-updates"));
        if let Some(security) = &self.security {
            text.push('\n');
            text.push_str(&stanza(security, format!("{suite}-security")));
        }
        text
    }
}

fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(dir)(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(Error::io(dir))?.path());
    }
    paths.sort();
    Ok(paths)
}

fn read_sources(root: &Path) -> Result<Option<Sources>> {
    let mut found = Vec::new();
    for path in std::iter::once(root.join("sources.list")).chain(list(&root.join("sources.list.d"))?) {
        let deb822 = match path.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => true,
            Some("list") => false,
            _ => continue,
        };
        match std::fs::read_to_string(&path) {
            Ok(text) => found.extend(if deb822 { parse_deb822(&text) } else { parse_lines(&text) }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => (),
            Err(error) => return Err(Error::io(&path)(error)),
        }
    }
    Ok(choose(&found))
}

/// One archive with the suites that are taken from it.
type Entry = (Archive, Vec<String>);

/// The archive of Debian itself is told from others (tools of vendors) by the suites of a release that it carries.
fn choose(entries: &[Entry]) -> Option<Sources> {
    const RELEASES: [&str; 8] =
        ["bullseye", "bookworm", "trixie", "forky", "oldstable", "stable", "testing", "sid"];
    let with = |wanted: fn(&str, &str) -> bool| {
        let carries = |suites: &[String]| {
            suites.iter().any(|suite| RELEASES.iter().any(|release| wanted(suite, release)))
        };
        entries.iter().find(|(_, suites)| carries(suites)).map(|(archive, _)| archive.clone())
    };
    let main = with(|suite, release| suite == release)?;
    let security = with(|suite, release| suite.strip_suffix("-security") == Some(release));
    Some(Sources { main, security })
}

fn parse_deb822(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    for stanza in text.split("\n\n") {
        let field = |name: &str| {
            stanza.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.trim().eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let says = |name: &str, value: &str| field(name).is_some_and(|text| text.eq_ignore_ascii_case(value));
        let (Some(types), Some(uris), Some(suites)) = (field("Types"), field("URIs"), field("Suites")) else {
            continue;
        };
        if !types.split_whitespace().any(|kind| kind == "deb") || says("Enabled", "no") {
            continue;
        }
        let Some(uri) = uris.split_whitespace().next() else { continue };
        let archive = Archive {
            uri: uri.to_owned(),
            signed_by: field("Signed-By").filter(|key| key.starts_with('/')),
            trusted: says("Trusted", "yes"),
        };
        entries.push((archive, suites.split_whitespace().map(str::to_owned).collect()));
    }
    entries
}

fn parse_lines(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    for line in text.lines().map(str::trim) {
        let Some(rest) = line.strip_prefix("deb ").map(str::trim_start) else { continue };
        let (options, rest) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((options, rest)) => (options, rest),
            None => ("", rest),
        };
        let option = |name: &str| {
            options.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        };
        let mut words = rest.split_whitespace();
        let (Some(uri), Some(suite)) = (words.next(), words.next()) else { continue };
        let archive = Archive {
            uri: uri.to_owned(),
            signed_by: option("signed-by").filter(|key| key.starts_with('/')).map(str::to_owned),
            trusted: option("trusted") == Some("yes"),
        };
        entries.push((archive, vec![suite.to_owned()]));
    }
    entries
}

/// Of all settings under `Acquire`, those about the way to the archives that are set.
fn acquire_settings(dump: &str) -> String {
    const KEPT: [&str; 5] = [
        "acquire::http::",
        "acquire::https::",
        "acquire::check-",
        "acquire::allowinsecure",
        "acquire::force",
    ];
    dump.lines()
        .filter(|line| {
            KEPT.iter().any(|prefix| line.to_lowercase().starts_with(prefix)) && !line.ends_with("\"\";")
        })
        .map(|line| format!("{line}\n"))
        .collect()
}

fn quoted(line: &str) -> Option<PathBuf> {
    line.split('"').nth(1).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

    #[test]
    fn both_formats_are_read_and_rendered_for_another_suite() {
        let deb822 = format!(
            "Types: deb\n# a comment: with a colon\nURIs: http://mirror.test/debian\nSuites: trixie trixie-updates\n\
             Components: main contrib\nSigned-By: {KEY}\n\nTypes: deb\nURIs: http://mirror.test/debian-security\n\
             Suites: trixie-security\nComponents: main\nSigned-By: {KEY}\n"
        );
        let lines = format!(
            "# deb http://old.test/debian trixie main\ndeb [arch=amd64 signed-by=/k.gpg] http://tools.test/apt nodistro main\n\
             deb [signed-by={KEY}] http://mirror.test/debian trixie main contrib\n\
             deb [signed-by={KEY}] http://mirror.test/debian-security trixie-security main\n"
        );
        let sources = choose(&parse_deb822(&deb822)).unwrap();
        assert_eq!(choose(&parse_lines(&lines)).unwrap(), sources);
        let text = sources.render("bookworm");
        assert!(
            text.starts_with(
                "Types: deb\nURIs: http://mirror.test/debian\nSuites: bookworm bookworm-updates\n"
            )
        );
        assert!(text.contains("Suites: bookworm-security\n") && !text.contains("trixie"), "{text}");
        assert_eq!(choose(&parse_deb822(&text)).unwrap(), sources);
        let unstable = sources.render(UNSTABLE);
        assert!(unstable.contains("Suites: sid\n") && !unstable.contains("sid-"), "{unstable}");
    }

    #[test]
    fn archives_of_others_are_not_debian() {
        let text = "Types: deb\nURIs: https://tools.test/apt\nSuites: nodistro\nComponents: main\n";
        assert_eq!(choose(&parse_deb822(text)), None);
        assert_eq!(
            choose(&parse_deb822("Types: deb\nURIs: http://x.test\nSuites: bookworm\nEnabled: no\n")),
            None
        );
    }

    #[test]
    fn only_the_way_to_the_archives_is_kept() {
        let dump = "Acquire::Languages \"none\";\nAcquire::http::Proxy \"http://proxy.test:3128\";\n\
                    Acquire::https::CAInfo \"/etc/ssl/own.pem\";\nAcquire::http::Timeout \"\";\nAcquire::Check-Date \"false\";\n";
        let kept = acquire_settings(dump);
        assert_eq!(kept.lines().count(), 3, "{kept}");
        assert_eq!(quoted(kept.lines().nth(1).unwrap()), Some("/etc/ssl/own.pem".into()));
    }
}
