//! What configurations have in common: how a mistake is reported, names, and patterns of site names. Reads no files.

use std::fmt;

use thiserror::Error;

/// A mistake in a part of the configuration. All of them are returned at once.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{field}: {detail}")]
pub struct Mistake {
    /// Where, within the part: `scopes[1]`, `params.site`, or empty for the whole.
    pub field: String,
    /// What is wrong and what would be right; never a secret.
    pub detail: String,
}

impl Mistake {
    /// A mistake in a field.
    pub fn new(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: field.into(), detail: detail.into() }
    }
}

/// Longest name of a token, hook or endpoint: names are parts of dedupe scopes and log lines.
const MAX_NAME: usize = 64;

/// Checks the name of a token, hook or endpoint.
pub(crate) fn check_name(name: &str, mistakes: &mut Vec<Mistake>) {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(ok) {
        let shown: String = name.chars().take(MAX_NAME).collect();
        mistakes.push(Mistake::new(
            "name",
            format!("{shown:?} is no name: [a-z0-9._-], 1 to {MAX_NAME} characters"),
        ));
    }
}

/// Patterns of site names: `*` stands for any characters, dots too.
#[derive(Clone, PartialEq, Eq)]
pub struct Sites(Vec<String>);

impl fmt::Debug for Sites {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Sites {
    /// Checks patterns.
    pub(crate) fn new(patterns: &[String], mistakes: &mut Vec<Mistake>) -> Self {
        let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'*' | b'_');
        for (index, pattern) in patterns.iter().enumerate() {
            if pattern.is_empty() || pattern.len() > 253 || !pattern.bytes().all(ok) {
                let field = format!("sites[{index}]");
                let detail =
                    "a pattern is a host name in which * stands for any characters, such as *.example.test";
                mistakes.push(Mistake::new(field, detail));
            }
        }
        Self(patterns.iter().map(|pattern| pattern.to_ascii_lowercase()).collect())
    }

    /// Whether every site is meant, and with it what is about no site.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0.iter().any(|pattern| pattern == "*")
    }

    /// Whether a site is meant. `None`, which stands for what is about no single site, is meant only by `*`.
    #[must_use]
    pub fn covers(&self, site: Option<&str>) -> bool {
        if self.is_all() {
            return true;
        }
        let Some(name) = site.and_then(normal) else { return false };
        self.0.iter().any(|pattern| matches_glob(pattern, &name))
    }
}

/// A site's name as it is compared: lower case, punycode, without a dot at the end.
fn normal(name: &str) -> Option<String> {
    match url::Host::parse(name.trim_end_matches('.')) {
        Ok(url::Host::Domain(name)) => Some(name),
        Ok(url::Host::Ipv4(address)) => Some(address.to_string()),
        Ok(url::Host::Ipv6(_)) | Err(_) => None,
    }
}

/// Whether a text matches a pattern in which `*` stands for any characters.
pub(crate) fn matches_glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        if let Some(part) = last.replace(part) {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
    }
    match last {
        Some(last) => rest.ends_with(last),
        None => rest.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, want) in [
            ("*", "", true),
            ("*", "a.b", true),
            ("*.example.test", "a.b.example.test", true),
            ("*.example.test", "example.test", false),
            ("*.example.test", "evilexample.test", false),
            ("*.example.test", "a.example.test.evil.org", false),
            ("a*b*c", "a--b--c", true),
            ("a*b*c", "a--c--b", false),
            ("ab*ba", "aba", false),
            ("a**b", "ab", true),
            ("exact", "exact", true),
            ("exact", "exact2", false),
        ] {
            assert_eq!(matches_glob(pattern, text), want, "{pattern} {text}");
        }
    }

    #[test]
    fn sites_are_compared_as_host_names() {
        let mut mistakes = Vec::new();
        let sites =
            Sites::new(&["*.Example.test".to_owned(), "xn--bcher-kva.test".to_owned()], &mut mistakes);
        assert!(mistakes.is_empty());
        for (site, want) in [
            (Some("shop.example.test"), true),
            (Some("SHOP.EXAMPLE.TEST."), true),
            (Some("bücher.test"), true),
            (Some("example.org"), false),
            (Some("x/../shop.example.test"), false),
            (Some("shop.example.test\n"), false),
            (None, false),
        ] {
            assert_eq!(sites.covers(site), want, "{site:?}");
        }
        let all = Sites::new(&["*".to_owned()], &mut mistakes);
        assert!(all.covers(None) && all.covers(Some("anything")));
        assert!(!Sites::new(&[], &mut mistakes).covers(Some("a.test")));
    }

    #[test]
    fn bad_names_and_patterns_are_reported() {
        let mut mistakes = Vec::new();
        check_name("ci", &mut mistakes);
        assert!(mistakes.is_empty());
        for name in ["", "a b", "Ci", "a/b", &"x".repeat(65)] {
            check_name(name, &mut mistakes);
        }
        assert_eq!(mistakes.len(), 5);
        Sites::new(&["a b".to_owned(), String::new()], &mut mistakes);
        assert_eq!(mistakes[5].field, "sites[0]");
        assert_eq!(mistakes.len(), 7);
    }
}
