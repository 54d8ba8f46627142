//! What visitors of a site may reach, by application, in terms that every web server understands: directories and regular
//! expressions (PCRE) on the decoded path. Never speaks a server's language.

use kedge_workflows::ports::{AppKind, VhostTarget};

/// What answers with PHP's text or runs as PHP on some server somewhere: nothing of this may be reached in a directory that visitors fill.
const SCRIPT_SUFFIX: &str = r"\.(?:php[0-9]?|phps|pht|phtml|phar)(?:[./]|$)";
/// Files and directories that begin with a dot (`.git`, `.env`, `.htaccess`), but not `.well-known`.
const DOT_FILES: &str = r"/\.(?!well-known(?:/|$))";
/// Database dumps, and what editors and people leave behind.
const LEFTOVERS: &str = r"\.(?:sql(?:\.(?:gz|bz2|xz|zst|zip))?|bak|orig|swp|swo)$|~$";

/// The script that answers what no file does.
const FRONT: &str = "/index.php";

/// A site's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SiteRules {
    /// The document root.
    pub(super) root: String,
    /// A part of the URL space that has a directory of its own.
    pub(super) mount: Option<Mount>,
    /// Paths that are answered as others are, as if those had been asked for: a pattern, and what becomes of it.
    pub(super) rewritten: Option<(&'static str, String)>,
    /// Answered with 403, whatever is there. Case does not matter.
    pub(super) denied: Vec<Denied>,
    /// Index files, in order.
    pub(super) index: &'static str,
    /// Gets every request that no file answers (pretty URLs).
    pub(super) front: Option<&'static str>,
    /// What PHP gets as `KEDGE_SITE`.
    pub(super) site: String,
}

/// `url` and everything below it is served from `dir`; `dir` ends with `url`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// Without a slash at its end.
    pub(super) url: &'static str,
    /// The directory whose child `url` is.
    pub(super) parent: String,
}

impl Mount {
    /// The directory that is served.
    pub(super) fn dir(&self) -> String {
        format!("{}{}", self.parent, self.url)
    }
}

/// A denial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Denied {
    /// What it keeps from visitors.
    pub(super) what: &'static str,
    /// The paths.
    pub(super) pattern: String,
}

impl SiteRules {
    /// The rules of a target.
    pub(super) fn of(target: &VhostTarget) -> Self {
        let site = target.site_dir.rsplit('/').next().unwrap_or_default().to_owned();
        match target.app {
            AppKind::Wordpress => Self {
                root: target.platform_root.clone(),
                mount: Some(Mount { url: "/wp-content", parent: target.site_dir.clone() }),
                // The sites of the platform are nobody's business, and a page of this one may have their URL.
                rewritten: Some(("(?i)^/sites(?:/|$)", FRONT.to_owned())),
                denied: wordpress_denied(),
                index: "index.php index.html",
                front: Some(FRONT),
                site,
            },
            AppKind::Drupal => Self {
                root: target.platform_root.clone(),
                mount: None,
                // Where a site that was alone on its Drupal had its files, and Aegir's short form: links to them are in its content, and
                // with others. A page may begin with /files/ too, and is none with an ending.
                rewritten: Some((
                    r"^/(?:sites/default/files|files(?=/.*\.[A-Za-z0-9]+$))/(.*)$",
                    format!("/sites/{site}/files/$1"),
                )),
                denied: drupal_denied(&site),
                index: "index.php",
                front: Some(FRONT),
                site,
            },
            AppKind::Plain => Self {
                root: format!("{}/docroot", target.site_dir),
                mount: None,
                rewritten: None,
                denied: common_denied(),
                index: "index.php index.html index.htm",
                front: None,
                site,
            },
        }
    }
}

fn denied(what: &'static str, pattern: impl Into<String>) -> Denied {
    Denied { what, pattern: pattern.into() }
}

fn common_denied() -> Vec<Denied> {
    vec![denied("files that begin with a dot", DOT_FILES), denied("dumps and leftovers", LEFTOVERS)]
}

fn wordpress_denied() -> Vec<Denied> {
    let mut rules = common_denied();
    rules.extend([
        denied("settings", r"^/wp-config(?:-sample)?\."),
        denied("the installer: Kedge installs, and an empty database must not be anybody's", r"^/wp-admin/(?:install|setup-config)\.php"),
        denied("scripts among uploads", format!("^/wp-content/(?:uploads|files|blogs\\.dir)/.*{SCRIPT_SUFFIX}")),
        denied("the debug log", r"^/wp-content/debug\.log"),
        denied(
            "versions of the code",
            r"^/(?:wp-content/(?:plugins|mu-plugins|themes)/(?:.*/)?)?(?:readme|license|changelog)\.(?:html|txt|md)$",
        ),
    ]);
    rules
}

/// Drupal keeps a site's files, themes and modules below `sites/<site>` and shared ones below `sites/all`; its own `.htaccess`
/// is the source of the names.
fn drupal_denied(site: &str) -> Vec<Denied> {
    let site = escape(site);
    let mut rules = common_denied();
    rules.extend([
        denied(
            "other sites, settings and private files",
            format!("^/sites(?:$|/(?!(?:all|{site}/(?:files|themes|modules|libraries))/))"),
        ),
        denied("scripts among uploads", format!("^/sites/{site}/files/.*{SCRIPT_SUFFIX}")),
        denied(
            "scripts that are not entry points",
            format!(r"^(?!/(?:index|update|cron|xmlrpc|authorize|core/authorize|core/modules/statistics/statistics)\.php(?:/|$)).*{SCRIPT_SUFFIX}"),
        ),
        denied("code that is not PHP", r"\.(?:engine|inc|install|make|module|profile|po|sh|theme|twig|tpl|xtmpl|yml)$"),
        denied("package lists", r"/(?:composer\.(?:json|lock)|package(?:-lock)?\.json|yarn\.lock|web\.config)$"),
        denied(
            "versions of the code",
            r"^/(?:core/)?(?:changelog|copyright|install[^/]*|license|maintainers|readme|upgrade)\.(?:txt|md)$",
        ),
    ]);
    rules
}

/// A text as a regular expression for itself.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if !c.is_alphanumeric() && !matches!(c, '_' | '/' | '-') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(app: AppKind) -> VhostTarget {
        VhostTarget { platform_root: "/srv/wp".into(), site_dir: "/srv/wp/sites/a.test".into(), app }
    }

    #[test]
    fn wordpress_takes_code_from_the_platform_and_content_from_the_site() {
        let rules = SiteRules::of(&target(AppKind::Wordpress));
        assert_eq!(rules.root, "/srv/wp");
        assert_eq!(rules.mount.unwrap().dir(), "/srv/wp/sites/a.test/wp-content");
        assert_eq!(rules.site, "a.test");
    }

    #[test]
    fn a_plain_site_has_a_root_of_its_own() {
        assert_eq!(SiteRules::of(&target(AppKind::Plain)).root, "/srv/wp/sites/a.test/docroot");
    }

    #[test]
    fn a_site_is_no_regular_expression() {
        assert_eq!(escape("t7.a-b.test"), r"t7\.a-b\.test");
        let rules = SiteRules::of(&target(AppKind::Drupal));
        assert!(rules.denied.iter().any(|d| d.pattern.contains(r"a\.test/(?:files")));
    }
}
