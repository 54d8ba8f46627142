//! Which file serves which host name on which port, as the servers' configuration languages tell it. Pure.

use kedge_workflows::names::SiteName;

/// A host name that a file serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Served {
    /// The file.
    pub(super) file: String,
    /// What it claims.
    pub(super) claim: Claim,
    /// On which ports; `None` where the file alone does not tell.
    pub(super) ports: Option<Vec<u16>>,
}

/// What a vhost claims of the name space, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Claim {
    /// One name.
    Name(String),
    /// Names by a pattern of `*` (any characters) and `?` (one).
    Pattern(String),
}

impl Served {
    fn on(&self, port: u16) -> bool {
        self.ports.as_ref().is_none_or(|ports| ports.contains(&port))
    }
}

/// The file that serves a name on a port because it names it, not by a pattern.
pub(super) fn by_name<'a>(all: &'a [Served], name: &SiteName, port: u16) -> Option<&'a str> {
    let named = |served: &&Served| matches!(&served.claim, Claim::Name(claimed) if claimed == name.as_str());
    all.iter().filter(|served| served.on(port)).find(named).map(|served| served.file.as_str())
}

/// The file that serves a name on a port: by its name, else by the longest pattern.
pub(super) fn by_any<'a>(all: &'a [Served], name: &SiteName, port: u16) -> Option<&'a str> {
    by_name(all, name, port).or_else(|| {
        let patterns = all.iter().filter(|served| served.on(port)).filter_map(|served| match &served.claim {
            Claim::Pattern(pattern) if matches(pattern, name.as_str()) => {
                Some((pattern.len(), served.file.as_str()))
            }
            Claim::Pattern(_) | Claim::Name(_) => None,
        });
        patterns.max_by_key(|(length, _)| *length).map(|(_, file)| file)
    })
}

/// Whether a name fits a pattern of `*` and `?`.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == b'?' || c == name[n] => (p, n) = (p + 1, n + 1),
            _ => {
                // Back to the last star, which takes one character more.
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                (p, n) = (at + 1, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

/// Whether a file in a vhost directory is likely no vhost but what an editor, a package or a person left there.
pub(super) fn looks_disabled(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let suffixes = [
        ".bak",
        ".old",
        ".orig",
        ".save",
        ".swp",
        ".disabled",
        ".off",
        ".dpkg-old",
        ".dpkg-dist",
        ".dpkg-new",
        ".rpmsave",
        ".rpmnew",
    ];
    name.starts_with('.') || name.ends_with('~') || suffixes.iter().any(|suffix| name.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_stars_and_marks() {
        for (pattern, name, expected) in [
            ("*.a.test", "x.a.test", true),
            ("*.a.test", "x.y.a.test", true),
            ("*.a.test", "a.test", false),
            ("www.a.*", "www.a.test", true),
            ("w??.a.test", "www.a.test", true),
            ("w?.a.test", "www.a.test", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b", "xxaxxbxx", false),
            ("*", "anything", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_name_wins_over_patterns_and_the_longest_pattern_over_others() {
        let served = |file: &str, claim: Claim, port| Served { file: file.into(), claim, ports: port };
        let all = [
            served("/short", Claim::Pattern("*.test".into()), None),
            served("/long", Claim::Pattern("*.a.test".into()), Some(vec![80])),
            served("/tls", Claim::Name("x.a.test".into()), Some(vec![443])),
            served("/exact", Claim::Name("y.a.test".into()), Some(vec![80, 8080])),
        ];
        let name = |text| SiteName::parse(text).unwrap();
        assert_eq!(by_any(&all, &name("x.a.test"), 80), Some("/long"));
        assert_eq!(by_any(&all, &name("x.a.test"), 443), Some("/tls"));
        assert_eq!(by_any(&all, &name("y.a.test"), 80), Some("/exact"));
        assert_eq!(by_any(&all, &name("b.test"), 80), Some("/short"));
        assert_eq!(by_any(&all, &name("b.org"), 80), None);
        assert_eq!(by_name(&all, &name("b.test"), 80), None);
    }
}
