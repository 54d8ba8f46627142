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
    for path in found.into_iter().take(MAX_READ) {
        if let Some(file) = files.read(&format!("{content}/{path}")).await?
            && denies(&String::from_utf8_lossy(&file.bytes))
        {
            open.push(format!("wp-content/{}", path.trim_end_matches(".htaccess")));
        }
    }
    if open.is_empty() {
        return Ok(None);
    }
    let more = open.len().saturating_sub(MAX_TOLD);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    open.truncate(MAX_TOLD);
    Ok(Some(format!(
        "{}{more}: a .htaccess there keeps visitors out, which {} does not read, so everybody could fetch what is in there",
        open.join(", "),
        to.web_server
    )))
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
