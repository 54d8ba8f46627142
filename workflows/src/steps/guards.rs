//! Directories of a WordPress site that a plugin guards by `.htaccess` files (files that were sold, backups, logs): a web server that does
//! not read them would show to everybody what is in there. Only looks.

use kedge_engine::context::Cx;
use kedge_engine::step::StepError;

use crate::place::{Place, scope};
use crate::ports::{AppKind, World};

/// Most of these files that are looked for, and most that are read: each costs a command on the host.
const MAX_FOUND: usize = 10_000;
const MAX_READ: usize = 100;
/// Most that are named.
const MAX_TOLD: usize = 10;
/// Where code is: what guards that protects nobody's data, and is in every other plugin.
const CODE: [&str; 5] = ["languages/", "mu-plugins/", "plugins/", "themes/", "upgrade/"];

/// A warning, if visitors of the new side could reach what the old side's server denies.
pub(super) async fn left_open(
    cx: &Cx<'_, dyn World>,
    from: &Place,
    to: &Place,
) -> Result<Option<String>, StepError> {
    let counts = |place: &Place| -> Result<bool, StepError> {
        Ok(cx.ports.web_server(&place.web_server, &scope(cx))?.counts_htaccess())
    };
    if from.app != AppKind::Wordpress || !counts(from)? || counts(to)? {
        return Ok(None);
    }
    let (files, content) =
        (cx.ports.files(&from.web_server, &scope(cx))?, format!("{}/wp-content", from.dir));
    let mut open = Vec::new();
    let mut found = files.find(&content, ".htaccess", MAX_FOUND).await?;
    found.retain(|path| !CODE.iter().any(|code| path.starts_with(code)));
    for path in found.iter().take(MAX_READ) {
        if let Some(file) = files.read(&format!("{content}/{path}")).await?
            && denies(&String::from_utf8_lossy(&file.bytes))
        {
            open.push(format!("wp-content/{}", path.trim_end_matches(".htaccess")));
        }
    }
    Ok(told(open, found.len().saturating_sub(MAX_READ), &to.web_server))
}

/// What whoever moves the site should know: of directories that would be open, and of files that nobody has read.
fn told(mut open: Vec<String>, unread: usize, server: &str) -> Option<String> {
    let unread = match unread {
        0 => String::new(),
        1 => format!("one .htaccess beyond the first {MAX_READ} was not read, look at it yourself"),
        _ => format!(
            "{unread} .htaccess files beyond the first {MAX_READ} were not read, look at them yourself"
        ),
    };
    if open.is_empty() {
        let why =
            format!("{unread}: {server} reads none, so what one of them keeps visitors out of would be open");
        return (!unread.is_empty()).then_some(why);
    }
    let more = open.len().saturating_sub(MAX_TOLD);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    open.truncate(MAX_TOLD);
    let unread = if unread.is_empty() { unread } else { format!("; {unread}") };
    Some(format!(
        "{}{more}: a .htaccess there keeps visitors out, which {server} does not read, so everybody could fetch what is in there{unread}",
        open.join(", "),
    ))
}

/// Whether a `.htaccess` file denies what is in its directory: not only scripts, which nobody reaches among a site's files anyway.
fn denies(text: &str) -> bool {
    let mut of_scripts = false;
    text.lines().any(|line| {
        let line = line.trim().to_ascii_lowercase();
        if line.starts_with("<files") {
            of_scripts = ["php", "phtml", "phar"].iter().any(|suffix| line.contains(suffix));
        } else if line.starts_with("</files") {
            of_scripts = false;
        }
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let denial = matches!(
            words[..],
            ["deny", "from", "all"]
                | ["require", "all", "denied"]
                | ["require", "valid-user" | "user" | "group" | "ip" | "host", ..]
        );
        denial && !of_scripts
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_were_not_read_are_told_with_those_that_deny_and_without() {
        let dirs = |count: usize| (0..count).map(|n| format!("wp-content/uploads/{n}/")).collect::<Vec<_>>();
        assert_eq!(told(dirs(0), 0, "web1"), None);
        let text = told(dirs(0), 3, "web1").unwrap();
        assert!(text.starts_with("3 .htaccess files beyond the first 100 were not read"), "{text}");
        let text = told(dirs(12), 0, "web1").unwrap();
        assert!(text.contains("uploads/9/ and 2 more: a .htaccess") && text.ends_with("in there"), "{text}");
        let text = told(dirs(1), 1, "web1").unwrap();
        assert!(
            text.ends_with("in there; one .htaccess beyond the first 100 was not read, look at it yourself"),
            "{text}"
        );
    }

    #[test]
    fn what_denies_a_directory_is_told_from_what_denies_scripts() {
        for (text, expected) in [
            ("deny from all", true),
            ("<IfModule mod_authz_core.c>\n\tRequire all denied\n</IfModule>\n", true),
            ("Order Deny,Allow\nDENY  FROM ALL\n", true),
            ("AuthType Basic\nRequire valid-user", true),
            ("<FilesMatch \"\\.(zip|sql)$\">\nRequire all denied\n</FilesMatch>", true),
            ("<Files *.php>\ndeny from all\n</Files>", false),
            ("<FilesMatch \"\\.(?i:phtml)$\">\nRequire all denied\n</FilesMatch>\ndeny from all", true),
            ("# deny from all\nOptions -Indexes\nRequire all granted", false),
            ("", false),
        ] {
            assert_eq!(denies(text), expected, "{text}");
        }
    }
}
