//! drush on a host: the platform's own first, then the configured one, then whatever is in the path. Runs as the web server's user, with
//! a home of its own that goes with it. What it prints is the site's code's too: bounded, searched for its answer, never believed as to
//! success (the caller looks at the database afterwards).

use std::sync::Arc;
use std::time::Duration;

use kedge_workflows::ports::{AppSite, PortError, PortResult, Scope, Secret};

use crate::host::{Command, Host};

/// Most bytes of standard output that are kept, from its end: an answer of ours is some hundred KiB at most, noise can be anything.
const KEPT: usize = 4 << 20;
/// Finds drush and runs it; its status comes behind its output, whose beginning is thrown away where it is long.
const FIND: &str = r#"
root=$1 configured=$2 kept=$3
shift 3
found=drush
for drush in "$root/vendor/bin/drush" "$root/../vendor/bin/drush" "$configured"; do
    [ -n "$drush" ] && [ -x "$drush" ] && { found=$drush; break; }
done
command -v "$found" >/dev/null || { echo 'kedge: no drush' >&2; exit 127; }
HOME=$(mktemp -d /tmp/kedge-drush.XXXXXXXX) || exit 126
export HOME
trap 'rm -rf -- "$HOME"' EXIT
trap 'exit 143' TERM INT HUP
{ "$found" "$@" </dev/null; printf '\nkedge-drush %s %s\n' "$?" "$found"; } | tail -c "$kept"
"#;
/// Longest reason in a message, in characters.
const REASON: usize = 400;

/// drush on a host.
#[derive(Clone)]
pub(super) struct Drush {
    pub(super) host: Arc<dyn Host>,
    pub(super) scope: Scope,
    /// The user that it runs as: the web server's.
    pub(super) user: String,
    /// The one from the configuration.
    pub(super) configured: Option<String>,
}

/// What a run said, of one that ended by itself.
#[derive(Debug, PartialEq)]
pub(super) struct Said {
    pub(super) status: i32,
    pub(super) path: String,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

/// A run of drush.
pub(super) struct Run<'a> {
    /// What is being done, to which site: for messages.
    pub(super) what: String,
    pub(super) args: &'a [&'a str],
    pub(super) limit: Duration,
    /// Whether it changes something, so that its end is unknown when it was cut off.
    pub(super) changes: bool,
    /// What must not be in an error.
    pub(super) secret: Option<Secret>,
}

impl Drush {
    /// Which drush a platform has, and its version.
    pub(super) async fn version(&self, root: &str, limit: Duration) -> PortResult<(String, String)> {
        let what = format!("looking for drush on {root}");
        let run = Run { what, args: &["--version"], limit, changes: false, secret: None };
        let said = self.run(root, None, &run).await?;
        let version = version(&said.stdout).ok_or_else(|| {
            PortError::Refused(format!(
                "{} is no drush: asked for its version it says {:?}",
                said.path,
                reason(&said)
            ))
        })?;
        Ok((said.path, version))
    }

    /// Runs it on a site, in the directory where that is now. A status other than 0 is refused.
    pub(super) async fn on_site(&self, site: &AppSite, run: &Run<'_>) -> PortResult<Said> {
        let said = self.run(&site.platform_root, Some(site), run).await?;
        if said.status == 0 {
            return Ok(said);
        }
        let text = format!("{}: drush ended with status {}: {}", run.what, said.status, reason(&said));
        Err(PortError::Refused(mask(text, run.secret.as_ref())))
    }

    async fn run(&self, root: &str, site: Option<&AppSite>, run: &Run<'_>) -> PortResult<Said> {
        let kept = KEPT.to_string();
        let configured = self.configured.as_deref().unwrap_or("");
        let mut argv = ["sh", "-c", FIND, "kedge-drush", root, configured, &kept].map(str::to_owned).to_vec();
        argv.extend([format!("--root={root}"), "--yes".to_owned()]);
        let mut command = Command::new(&self.scope, [""]).as_user(&self.user).within(run.limit);
        if let Some(site) = site {
            argv.push(format!("--uri=http://{}", site.name));
            command = command.env("KEDGE_SITE", site.dir.rsplit('/').next().unwrap_or_default());
        }
        command.argv = argv.into_iter().chain(run.args.iter().map(|arg| (*arg).to_owned())).collect();
        let finished = self.host.run(command).await.map_err(|error| match error {
            PortError::Lost(what) if !run.changes => PortError::Unavailable(what),
            // Ended because it took too long: what it did until then is there.
            PortError::Unavailable(what) if run.changes => PortError::Lost(what),
            other => other,
        })?;
        if finished.status == 127 {
            return Err(PortError::Refused(format!(
                "the platform {root} has no drush: neither vendor/bin/drush nor one in the path; install it, or name one with drush = \
                 \"/path/of/drush\" in the platform's configuration"
            )));
        }
        said(&finished.stdout, finished.stderr).ok_or_else(|| {
            let text = format!("{}: drush was ended: status {}", run.what, finished.status);
            if run.changes { PortError::Lost(text) } else { PortError::Unavailable(text) }
        })
    }
}

/// Output taken apart: what drush printed, and the line of ours behind it.
fn said(stdout: &[u8], stderr: Vec<u8>) -> Option<Said> {
    let mark = b"\nkedge-drush ";
    let at = memchr::memmem::rfind(stdout, mark)?;
    let line = std::str::from_utf8(stdout.get(at + mark.len()..)?).ok()?;
    let (status, path) = line.trim_end().split_once(' ')?;
    Some(Said { status: status.parse().ok()?, path: path.to_owned(), stdout: stdout[..at].to_vec(), stderr })
}

/// The version in what drush says of itself: ` Drush Version   :  8.4.12`, `Drush Commandline Tool 12.5.2.0`.
pub(super) fn version(stdout: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(stdout);
    let lines = text.lines().filter(|line| line.to_ascii_lowercase().contains("drush"));
    let numbers = |word: &str| {
        let dotted = word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
        dotted && word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit())
    };
    lines.rev().find_map(|line| line.split_whitespace().find(|word| numbers(word)).map(str::to_owned))
}

/// Whether a drush can work on a Drupal: 8 was the last one for Drupal 7, and knows nothing newer than the first 8.
///
/// # Errors
/// `Refused` when it cannot, saying which one can.
pub(super) fn fits(path: &str, version: &str, drupal: &str, seven: bool) -> PortResult<()> {
    let major: u32 = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
    let (fits, wanted) = if seven {
        ((5..=8).contains(&major), "drush 8")
    } else {
        (major >= 9, "its own vendor/bin/drush (composer require drush/drush)")
    };
    if fits {
        return Ok(());
    }
    Err(PortError::Refused(format!("Drupal {drupal} needs {wanted}, and {path} is drush {version}")))
}

/// Why it failed, in drush's words: lines that tell of errors, or the last ones.
fn reason(said: &Said) -> String {
    let text = [said.stdout.as_slice(), b"\n", said.stderr.as_slice()].concat();
    let text = plain(&String::from_utf8_lossy(&text));
    let tells = |line: &&str| {
        ["[error]", "SQLSTATE", "Exception", "PHP Fatal", "Fatal error"]
            .iter()
            .any(|word| line.contains(word))
    };
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut told: Vec<&str> = lines.iter().copied().filter(tells).collect();
    if told.is_empty() {
        told = lines.iter().rev().take(5).rev().copied().collect();
    }
    let words: Vec<&str> = told.iter().flat_map(|line| line.split_whitespace()).collect();
    words.join(" ").chars().take(REASON).collect()
}

/// Without the escapes that colour a terminal.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            // To the letter that ends it.
            chars.by_ref().find(|c| c.is_ascii_alphabetic());
        } else {
            out.push(c);
        }
    }
    out
}

fn mask(text: String, secret: Option<&Secret>) -> String {
    match secret.map(Secret::expose).filter(|secret| !secret.is_empty()) {
        Some(secret) => text.replace(secret, "***"),
        None => text,
    }
}

#[cfg(test)]
#[path = "tests/drush.rs"]
mod tests;
