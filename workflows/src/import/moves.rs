//! Where the paths in an imported site's content lead from now on. Pure.

use crate::place::Place;
use crate::ports::AppKind;

/// The paths of a found site's directory and code, as its content names them, and where they will be.
pub(super) fn moves(path: &str, to: &Place) -> Vec<(String, String)> {
    let pair = |from: &str, into: &str| (from.to_owned(), into.to_owned());
    let own = pair(path, &to.dir);
    match (to.app, path.rsplit_once("/sites/")) {
        (AppKind::Wordpress, _) => {
            let content = pair(&format!("{path}/wp-content"), &format!("{}/wp-content", to.dir));
            vec![content, pair(path, &to.root)]
        }
        (AppKind::Drupal, Some((root, dir))) => {
            // `/sites/default/files/a.png` is a URL, and as far as its form goes a path.
            let url = |name: &str| format!("/sites/{name}");
            let urls = (dir != to.site.as_str()).then(|| pair(&url(dir), &url(to.site.as_str())));
            [own, pair(root, &to.root)].into_iter().chain(urls).collect()
        }
        _ => vec![own],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::SiteName;
    use crate::records::PlatformRecord;
    use crate::rewrite::{Pair, Rewrite};

    #[test]
    fn links_to_files_of_a_drupal_that_was_alone_lead_to_where_they_are() {
        let platform =
            PlatformRecord { web_server: "w".into(), root: "/srv/drupal".into(), app: AppKind::Drupal };
        let to = Place::on(&SiteName::parse("a.test").unwrap(), "p", &platform, "h".into());
        let rewrite = |path: &str, text: &str| {
            let pairs = moves(path, &to).iter().map(|(from, into)| Pair::path(from, into).unwrap()).collect();
            let outcome = Rewrite::new(pairs).unwrap().value(text.as_bytes());
            outcome.changed.map_or(text.to_owned(), |bytes| String::from_utf8(bytes).unwrap())
        };
        for (path, text, expected) in [
            (
                "/var/www/d/sites/default",
                "<img src=\"/sites/default/files/a.png\">",
                "<img src=\"/sites/a.test/files/a.png\">",
            ),
            (
                "/var/www/d/sites/default",
                r#"{"u":"\/sites\/default\/files\/a.png"}"#,
                r#"{"u":"\/sites\/a.test\/files\/a.png"}"#,
            ),
            ("/var/www/d/sites/default", "/var/www/d/sites/default/files", "/srv/drupal/sites/a.test/files"),
            (
                "/var/www/d/sites/default",
                "see /var/www/d/core and /sites/default2",
                "see /srv/drupal/core and /sites/default2",
            ),
            (
                "/var/www/d/sites/old",
                "(/sites/old/files/a.png) /sites/default/x",
                "(/sites/a.test/files/a.png) /sites/default/x",
            ),
            ("/var/www/d/sites/a.test", "/sites/a.test/files", "/sites/a.test/files"),
        ] {
            assert_eq!(rewrite(path, text), expected, "{path}");
        }
    }
}
