//! What every vhost file of ours has in common, whatever the server: its name, the mark with the revision at its top, and the
//! check of what goes into it. Never knows a server's language.

use kedge_workflows::names::SiteName;
use kedge_workflows::ports::{PortError, PortResult, RenderedVhost, Vhost, VhostMode, VhostTarget};
use sha2::{Digest, Sha256};

/// Where every vhost of ours answers its revision, in every mode.
pub(super) const REVISION_PATH: &str = "/.well-known/kedge-revision";
/// Where certificates are proven, open in every mode.
pub(super) const ACME_PATH: &str = "/.well-known/acme-challenge/";
/// The first lines of a file of ours; the revision follows.
const MARK: &str = "# Managed by Kedge, which replaces this file whole and refuses to when it was changed by hand.\n# kedge-revision: ";
/// Most aliases: keeps the file below the 256 KiB that a `SavedFile` may have.
const MAX_ALIASES: usize = 500;

/// The file of a site.
pub(super) fn file_of(vhost_dir: &str, site: &SiteName) -> String {
    format!("{vhost_dir}/{site}.conf")
}

/// Makes a file of what `body` renders around a revision: the hash of the text with an empty revision, and the site's name, so
/// that no other site's answer can be taken for it.
pub(super) fn rendered(site: &SiteName, body: impl Fn(&str) -> String) -> RenderedVhost {
    let text = |revision: &str| format!("{MARK}{revision}\n{}", body(revision));
    let revision = format!("{}@{site}", hash(text("").as_bytes()).get(..32).unwrap_or_default());
    let text = text(&revision);
    RenderedVhost { sha256: hash(text.as_bytes()), revision, text }
}

/// SHA-256 in hex.
pub(super) fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Who wrote a vhost file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Kedge, and it is as Kedge left it: its revision.
    Ours(String),
    /// Kedge, and somebody changed it since.
    Edited,
    /// Somebody else.
    Foreign,
}

/// Tells by the mark and the revision in it.
pub(super) fn origin(bytes: &[u8]) -> Origin {
    let Ok(text) = std::str::from_utf8(bytes) else { return Origin::Foreign };
    let Some(revision) = text.strip_prefix(MARK).and_then(|rest| rest.lines().next()) else {
        return Origin::Foreign;
    };
    let Some((expected, _)) = revision.split_once('@') else { return Origin::Edited };
    let original = text.replace(revision, "");
    if hash(original.as_bytes()).get(..32) == Some(expected) {
        Origin::Ours(revision.to_owned())
    } else {
        Origin::Edited
    }
}

/// Whether an answer at [`REVISION_PATH`] is a revision of this site.
pub(super) fn is_revision_of(site: &SiteName, answer: &str) -> bool {
    answer.split_once('@').is_some_and(|(hash, name)| hash.len() == 32 && name == site.as_str())
}

/// All names of a vhost, each once, the site's first.
pub(super) fn names(vhost: &Vhost) -> Vec<&SiteName> {
    let mut names = vec![&vhost.site];
    for alias in &vhost.aliases {
        if !names.contains(&alias) {
            names.push(alias);
        }
    }
    names
}

/// A part of a vhost: names that get the same by the same ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part<'a> {
    /// Its names: never none.
    pub(super) names: Vec<&'a SiteName>,
    /// Whether it answers plain HTTP.
    pub(super) plain: bool,
    /// Whether it answers HTTPS.
    pub(super) tls: bool,
    /// Where visitors are sent; `None`: they get what the vhost's mode says.
    pub(super) sent_to: Option<SentTo<'a>>,
}

/// Where a part's visitors are sent, path kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SentTo<'a> {
    /// To this name, as they came.
    Name(&'a SiteName),
    /// To this name by HTTPS.
    Secure(&'a SiteName),
    /// To the name that they asked for, by HTTPS.
    Same,
}

/// The parts of a vhost, the one that serves the site first. While it is not live, nobody is sent anywhere: all names get the same.
pub(super) fn parts(vhost: &Vhost) -> Vec<Part<'_>> {
    let (all, tls) = (names(vhost), vhost.reach.tls.is_some());
    let whole = Part { names: all.clone(), plain: true, tls, sent_to: None };
    if vhost.mode != VhostMode::Live || vhost.reach.is_plain() {
        return vec![whole];
    }
    let (only, canonical) = (vhost.reach.https_only(), vhost.reach.canonical.as_ref());
    let (own, others): (Vec<_>, Vec<_>) =
        all.iter().partition(|name| canonical.is_none_or(|canonical| canonical == **name));
    let mut parts = vec![Part { names: own, plain: !only, ..whole.clone() }];
    if let Some(canonical) = canonical.filter(|_| !others.is_empty()) {
        let sent_to = Some(if only { SentTo::Secure(canonical) } else { SentTo::Name(canonical) });
        parts.push(Part { names: others, plain: !only, tls, sent_to });
    }
    if only {
        let sent_to = Some(canonical.map_or(SentTo::Same, SentTo::Secure));
        parts.push(Part { tls: false, sent_to, ..whole });
    }
    parts
}

/// The target of a mode that serves the site to somebody.
pub(super) fn served_target(vhost: &Vhost) -> Option<&VhostTarget> {
    match &vhost.mode {
        VhostMode::Live | VhostMode::Maintenance { bypass: Some(_) } => vhost.target.as_ref(),
        VhostMode::Maintenance { bypass: None } | VhostMode::Disabled | VhostMode::Redirect { .. } => None,
    }
}

/// Refuses a vhost that no template should meet.
pub(super) fn validate(site: &SiteName, vhost: &Vhost) -> PortResult<()> {
    let refuse = |what: String| Err(PortError::Refused(format!("vhost of {site}: {what}")));
    if vhost.site != *site {
        return refuse(format!("it is rendered for {}", vhost.site));
    }
    if vhost.aliases.len() > MAX_ALIASES {
        return refuse(format!("more than {MAX_ALIASES} aliases"));
    }
    match &vhost.mode {
        VhostMode::Redirect { to } if names(vhost).contains(&to) => {
            return refuse(format!("it would redirect to itself ({to})"));
        }
        VhostMode::Maintenance { bypass: Some(token) } if !safe_token(token) => {
            return refuse("the bypass token is not 16 to 128 letters, digits, - or _".to_owned());
        }
        VhostMode::Live | VhostMode::Maintenance { bypass: Some(_) } if vhost.target.is_none() => {
            return refuse("a site that is served needs a target".to_owned());
        }
        VhostMode::Live
        | VhostMode::Maintenance { .. }
        | VhostMode::Disabled
        | VhostMode::Redirect { .. } => {}
    }
    if let Some(canonical) = vhost.reach.canonical.as_ref().filter(|name| !names(vhost).contains(name)) {
        return refuse(format!("its visitors would be sent to {canonical}, which is none of its names"));
    }
    if let Some(tls) = &vhost.reach.tls {
        for (name, path) in [("certificate", &tls.certificate), ("key", &tls.key)] {
            safe_path(path).or_else(|why| refuse(format!("{name} {path:?} {why}")))?;
        }
    }
    if let Some(target) = &vhost.target {
        for (name, path) in [("platform root", &target.platform_root), ("site directory", &target.site_dir)] {
            safe_path(path).or_else(|why| refuse(format!("{name} {path:?} {why}")))?;
        }
    }
    Ok(())
}

/// A bypass token: nothing that a cookie, a regular expression or a quoted string could take for its own.
pub(super) fn safe_token(token: &str) -> bool {
    (16..=128).contains(&token.len())
        && token.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// A path that is itself in every server's language within double quotes.
///
/// # Errors
/// What is wrong, to be read after the path.
pub(super) fn safe_path(path: &str) -> Result<(), &'static str> {
    if !path.starts_with('/') || path == "/" {
        return Err("is not an absolute path below /");
    }
    if path.len() > 1024 {
        return Err("is longer than 1024 bytes");
    }
    if path[1..].split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("has empty, . or .. parts");
    }
    // `%` and `$` begin variables, `*?[]` patterns in Apache's <Directory>, the others end or escape something.
    if path.chars().any(|c| c.is_control() || "\"'`\\;{}$%*?[]<>|#".contains(c)) {
        return Err(
            "has a character that is not allowed in a vhost (quotes, \\ ; { } $ % * ? [ ] < > | # or a control character)",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kedge_workflows::ports::{AppKind, Reach, Tls};

    fn site(name: &str) -> SiteName {
        SiteName::parse(name).unwrap()
    }

    fn live(root: &str, dir: &str) -> Vhost {
        Vhost {
            site: site("a.test"),
            aliases: vec![],
            mode: VhostMode::Live,
            target: Some(VhostTarget {
                platform_root: root.into(),
                site_dir: dir.into(),
                app: AppKind::Plain,
            }),
            reach: Reach::default(),
        }
    }

    #[test]
    fn a_revision_changes_with_the_text_and_shows_changes_by_hand() {
        let one = rendered(&site("a.test"), |r| format!("serve one; answer {r};\n"));
        let two = rendered(&site("a.test"), |r| format!("serve two; answer {r};\n"));
        assert_ne!(one.revision, two.revision);
        assert_eq!(one, rendered(&site("a.test"), |r| format!("serve one; answer {r};\n")));
        assert_eq!(one.sha256, hash(one.text.as_bytes()));
        assert_eq!(origin(one.text.as_bytes()), Origin::Ours(one.revision.clone()));
        assert_eq!(origin(one.text.replace("one", "1").as_bytes()), Origin::Edited);
        assert_eq!(origin(format!("{}\n", one.text).as_bytes()), Origin::Edited);
        assert_eq!(origin(b"server { }"), Origin::Foreign);
        assert_eq!(origin(b"\xff"), Origin::Foreign);
    }

    #[test]
    fn a_revision_belongs_to_one_site() {
        let one = rendered(&site("b.test"), str::to_owned);
        assert!(is_revision_of(&site("b.test"), &one.revision));
        assert!(!is_revision_of(&site("a.test"), &one.revision));
        assert!(!is_revision_of(&site("a.test"), "<html>webmaster@a.test"));
    }

    #[test]
    fn unsafe_paths_are_refused() {
        for path in ["/srv/wp", "/srv/wp 6.1/sites/bücher.test", "/srv/a_b-c+d,e@f:g=h(i)!~"] {
            assert_eq!(safe_path(path), Ok(()), "{path}");
        }
        let bad = [
            "",
            "/",
            "srv",
            "/srv//x",
            "/srv/",
            "/srv/../etc",
            "/a;b",
            "/a\"b",
            "/a'b",
            "/a\nb",
            "/a{b",
            "/a}b",
            "/a$b",
            "/a%b",
            "/a\\b",
            "/a*",
            "/a[b]",
            "/a<b",
            "/a|b",
            "/a#b",
            "/a\u{7f}",
        ];
        for path in bad {
            assert!(safe_path(path).is_err(), "{path:?} was accepted");
            assert!(validate(&site("a.test"), &live("/srv", path)).is_err());
            assert!(validate(&site("a.test"), &live(path, "/srv")).is_err());
        }
    }

    #[test]
    fn modes_are_checked() {
        let check = |change: &dyn Fn(&mut Vhost)| {
            let mut vhost = live("/srv/wp", "/srv/wp/sites/a");
            change(&mut vhost);
            validate(&site("a.test"), &vhost).map_err(|e| e.to_string())
        };
        assert_eq!(check(&|_| ()), Ok(()));
        assert_eq!(check(&|v| (v.mode, v.target) = (VhostMode::Disabled, None)), Ok(()));
        assert_eq!(check(&|v| v.mode = VhostMode::Redirect { to: site("b.test") }), Ok(()));
        let no_target = check(&|v| v.target = None);
        assert_eq!(no_target, Err("vhost of a.test: a site that is served needs a target".to_owned()));
        assert!(check(&|v| v.mode = VhostMode::Redirect { to: site("a.test") }).is_err());
        assert!(check(&|v| v.mode = VhostMode::Maintenance { bypass: Some("x".into()) }).is_err());
        assert!(
            check(&|v| v.mode = VhostMode::Maintenance { bypass: Some("0123456789abcdef\"".into()) })
                .is_err()
        );
        assert!(check(&|v| v.site = site("b.test")).is_err());
        assert!(check(&|v| v.reach.canonical = Some(site("other.test"))).is_err());
        assert_eq!(check(&|v| v.reach.canonical = Some(site("a.test"))), Ok(()));
        let tls = |path: &str| Tls {
            certificate: "/etc/ssl/a.pem".into(),
            key: path.into(),
            self_signed: false,
            only: true,
        };
        assert_eq!(check(&|v| v.reach.tls = Some(tls("/etc/ssl/a.key"))), Ok(()));
        assert!(check(&|v| v.reach.tls = Some(tls("/etc/ssl/a\"; x"))).is_err());
    }
}
