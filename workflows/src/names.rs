//! Names that are valid once built: sites (host names) and databases. They never touch a host.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest host name: RFC 1035 has 253, and a file that is called by it and written beside its place has to have a name (255 bytes).
/// Aegir's limit too.
const MAX_HOST: usize = 235;
/// Longest database name of MySQL and MariaDB.
const MAX_DATABASE: usize = 64;
/// Longest name that `aegir_base` keeps.
const AEGIR_BASE: usize = 16;

/// Why a name is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{name:?} {reason}")]
pub struct BadName {
    name: String,
    reason: &'static str,
}

/// A site's name: a host name in lower case and punycode, at least two labels, no port, no path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SiteName(String);

impl SiteName {
    /// Parses a host name; international ones become punycode.
    ///
    /// # Errors
    /// Says what is wrong: empty, too long, a path, a port, an address, one label only, characters a host name cannot have.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let bad = |reason| BadName { name: text.chars().take(80).collect(), reason };
        if text.len() > 4 * MAX_HOST {
            return Err(bad("is too long for a host name (235 characters)"));
        }
        if text.contains('/') || text.contains('\\') {
            return Err(bad("has a path; a site is named by its host name alone"));
        }
        if text.contains(':') {
            return Err(bad("has a port or a scheme; a site is named by its host name alone"));
        }
        let ascii = idna::domain_to_ascii_strict(text.trim_end_matches('.')).map_err(|_| {
            bad("is not a host name (letters, digits and hyphens in labels of 1 to 63, separated by dots)")
        })?;
        if ascii.is_empty() || ascii.len() > MAX_HOST {
            return Err(bad("is not a host name of 1 to 235 characters"));
        }
        let labels: Vec<&str> = ascii.split('.').collect();
        if labels.len() < 2 {
            return Err(bad("has no dot; a site needs a full host name such as www.example.org"));
        }
        if labels.iter().any(|label| label.is_empty() || label.len() > 63) {
            return Err(bad("has a label that is empty or longer than 63 characters"));
        }
        if labels.last().is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit())) {
            return Err(bad("looks like an address; a site is named by a host name"));
        }
        Ok(Self(ascii))
    }

    /// The host name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The base that Aegir makes database names of: without a leading `www.`, dots and hyphens, the first 16 characters.
    #[must_use]
    pub fn database_base(&self) -> String {
        let name = self.0.strip_prefix("www.").unwrap_or(&self.0);
        name.chars().filter(|c| !matches!(c, '.' | '-')).take(AEGIR_BASE).collect()
    }

    /// The database names that Aegir would try, in order: the base, then `<first characters>_<i>` for i in 0..100.
    /// Source: Provision's `suggest_db_name`.
    pub fn database_candidates(&self) -> impl Iterator<Item = DatabaseName> + use<> {
        let base = self.database_base();
        let numbered = {
            let base = base.clone();
            (0..100u32).map(move |i| {
                let suffix = i.to_string();
                let keep = (AEGIR_BASE - 1).saturating_sub(suffix.len());
                format!("{}_{suffix}", base.chars().take(keep).collect::<String>())
            })
        };
        std::iter::once(base).chain(numbered).filter_map(|name| DatabaseName::parse(&name).ok())
    }
}

impl std::fmt::Display for SiteName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for SiteName {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        Self::parse(&text)
    }
}

impl From<SiteName> for String {
    fn from(name: SiteName) -> Self {
        name.0
    }
}

impl schemars::JsonSchema for SiteName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SiteName".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "minLength": 3, "maxLength": MAX_HOST,
            "pattern": "^[^/:\\\\\\s]+\\.[^/:\\\\\\s]+$",
            "description": "A site's host name, such as www.example.org: no scheme, port or path"
        })
    }
}

/// A database's or database user's name: `[A-Za-z0-9_$-]`, 1 to 64 characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DatabaseName(String);

impl DatabaseName {
    /// Parses a name.
    ///
    /// # Errors
    /// Says which rule is broken.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let bad = |reason| BadName { name: text.chars().take(80).collect(), reason };
        if text.is_empty() || text.len() > MAX_DATABASE {
            return Err(bad("is not a database name of 1 to 64 characters"));
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | b'-')) {
            return Err(bad("is not a database name (letters, digits, _ $ -)"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for DatabaseName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for DatabaseName {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        Self::parse(&text)
    }
}

impl From<DatabaseName> for String {
    fn from(name: DatabaseName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn site_names_are_host_names() {
        for (text, expected) in [
            ("Example.TEST", "example.test"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("a.b.c.", "a.b.c"),
        ] {
            assert_eq!(SiteName::parse(text).unwrap().as_str(), expected);
        }
        let long = format!("{}.test", "a".repeat(64));
        for text in [
            "",
            "localhost",
            "a/b.test",
            "a.test:80",
            "http://a.test",
            "10.0.0.1",
            "a..test",
            "-a.test",
            "a b.test",
            "../x.y",
            &long,
        ] {
            assert!(SiteName::parse(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn database_names_follow_aegir() {
        let site = SiteName::parse("www.my-shop.example.test").unwrap();
        let names: Vec<String> = site.database_candidates().take(12).map(String::from).collect();
        assert_eq!(names[0], "myshopexampletes");
        assert_eq!(names[1], "myshopexamplet_0");
        assert_eq!(names[11], "myshopexample_10");
        assert!(names.iter().all(|name| name.len() <= 16));
    }
}
