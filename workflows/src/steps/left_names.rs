//! Old names in settings that nothing rewrites: an owner's own lines stay as they are, so whoever moves a site is told which of them name what
//! it was called, or where it was.

use kedge_engine::context::Cx;
use kedge_engine::step::StepError;

use crate::place::{Place, scope};
use crate::ports::{App, AppKind, Files, PortResult, World};

/// Most lines told of one file: who has more has to read it anyway.
const MAX_LINES: usize = 20;
/// Settings of the owner's own that Drupal's file includes, by habit.
const DRUPAL_OWN: [&str; 2] = ["local.settings.php", "settings.local.php"];

/// What the owner's own settings say of the side that is there, and would say of the new one too.
pub(super) async fn told(cx: &Cx<'_, dyn World>, from: &Place, to: &Place) -> Result<Vec<String>, StepError> {
    let files = cx.ports.files(&from.web_server, &scope(cx))?;
    let app = cx.ports.app(&from.web_server, &from.platform, from.app, &scope(cx))?;
    Ok(look(&*files, &*app, from.app, &from.dir, &old_names(from, to)).await?)
}

/// What a side was called and where it was, as far as the new one is not.
pub(super) fn old_names(from: &Place, to: &Place) -> Vec<String> {
    let now = to.all_names();
    let mut old: Vec<String> =
        from.all_names().iter().filter(|name| !now.contains(name)).map(ToString::to_string).collect();
    if from.root != to.root {
        old.push(from.root.clone());
    } else if from.dir != to.dir {
        old.push(from.dir.clone());
    }
    old
}

/// A warning for each settings file in a directory that has such names in lines of the owner's. Never what they say: it may be secret.
pub(super) async fn look(
    files: &dyn Files,
    app: &dyn App,
    kind: AppKind,
    dir: &str,
    old: &[String],
) -> PortResult<Vec<String>> {
    let mut names = app.settings_files();
    if kind == AppKind::Drupal {
        names.extend(DRUPAL_OWN.map(str::to_owned));
    }
    let mut warnings = Vec::new();
    for name in names {
        let Some(file) = files.read(&format!("{dir}/{name}")).await? else { continue };
        let lines = lines_with(&String::from_utf8_lossy(&file.bytes), old);
        if lines.is_empty() {
            continue;
        }
        let told: Vec<String> = lines.iter().take(MAX_LINES).map(ToString::to_string).collect();
        let more = if lines.len() > told.len() { " and more" } else { "" };
        let s = if lines.len() == 1 { "" } else { "s" };
        warnings.push(format!(
            "{name}, line{s} {}{more}: an old name or directory is there, outside what Kedge writes; look whether it has to change",
            told.join(", ")
        ));
    }
    Ok(warnings)
}

/// The numbers of the lines that hold one of these names, but for comments and for what Kedge writes anew.
fn lines_with(text: &str, old: &[String]) -> Vec<usize> {
    let (mut lines, mut ours) = (Vec::new(), false);
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        // The marks of every driver's blocks: `# BEGIN kedge`, `// BEGIN quiet kedge`.
        let mark = |word: &str| {
            line.split_once(word).is_some_and(|(comment, rest)| {
                matches!(comment, "# " | "// ")
                    && (rest.starts_with("kedge") || rest.starts_with("quiet kedge"))
            })
        };
        ours = (ours || mark("BEGIN ")) && !mark("END ");
        let comment = ["//", "#", "/*", "*"].iter().any(|begin| line.starts_with(begin));
        if !ours && !comment && old.iter().any(|name| holds(line, name)) {
            lines.push(number + 1);
        }
    }
    lines
}

/// Whether a name is in a line as a whole one, or as the domain or directory that others are below.
fn holds(line: &str, name: &str) -> bool {
    let (line, name) = (line.to_ascii_lowercase(), name.to_ascii_lowercase());
    let part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    line.match_indices(&name).any(|(at, _)| {
        let (before, after) = (line.as_bytes()[..at].last(), line.as_bytes().get(at + name.len()));
        !before.is_some_and(|byte| part(*byte)) && !after.is_some_and(|byte| part(*byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_owners_that_hold_an_old_name_are_told_by_number() {
        let old = ["old.test".to_owned(), "/srv/a".to_owned()];
        let text = "<?php\n// BEGIN kedge: x\ndefine( 'WP_HOME', 'http://old.test' );\n// END kedge\n\
            define( 'COOKIE_DOMAIN', '.OLD.test' );\n// define( 'X', 'old.test' );\n\
            define( 'WPCACHEHOME', '/srv/a/wp-content/x/' );\n$x = 'bold.test old.test2 /srv/ab';\n\
            // BEGIN quiet kedge 1: x\n$base_url = 'old.test';\n// END quiet kedge\n$base_url = 'old.test';\n";
        assert_eq!(lines_with(text, &old), [5, 7, 12]);
        assert_eq!(lines_with(text, &[]), [0; 0]);
    }
}
