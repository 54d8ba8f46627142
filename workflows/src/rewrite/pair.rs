//! A pair of old and new name, valid once built. Never looks at data.

use thiserror::Error;

use crate::names::SiteName;

/// Longest path, in bytes (Linux's PATH_MAX).
const MAX_PATH: usize = 4096;

/// Why pairs are refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BadPair {
    /// The path cannot be told apart safely in text.
    #[error("the path {path:?} cannot be rewritten: it {reason}")]
    Path {
        /// The path, cut to 80 characters.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// One old name, two new ones.
    #[error("{from:?} is to be rewritten to two different names; give each old name once")]
    Twice {
        /// The old name.
        from: String,
    },
    /// More than [`super::MAX_PAIRS`].
    #[error("{pairs} pairs to rewrite are too many; at most {} are possible", super::MAX_PAIRS)]
    TooMany {
        /// How many were given.
        pairs: usize,
    },
}

/// An old name and the new one in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    from: String,
    to: String,
    host: bool,
}

impl Pair {
    /// A renamed host: matched in any case, as a whole name (not `www.` before it, not `.au` behind it), not in mail addresses.
    #[must_use]
    pub fn host(from: &SiteName, to: &SiteName) -> Self {
        Self { from: from.as_str().to_owned(), to: to.as_str().to_owned(), host: true }
    }

    /// A moved directory: matched with the case as written, at whole components. Slashes at the end do not matter.
    ///
    /// # Errors
    /// When a path is not absolute, has fewer than two components (`/a` is in every `</a>`), is not in its plainest form, or has other
    /// characters than letters, digits and `. _ ~ -` (those are written alike in URLs, JSON and plain text).
    pub fn path(from: &str, to: &str) -> Result<Self, BadPair> {
        Ok(Self { from: plain_path(from)?, to: plain_path(to)?, host: false })
    }

    /// The old name.
    #[must_use]
    pub fn from(&self) -> &str {
        &self.from
    }

    /// The new name.
    #[must_use]
    pub fn to(&self) -> &str {
        &self.to
    }

    /// Whether it is a host (else a path).
    #[must_use]
    pub fn is_host(&self) -> bool {
        self.host
    }
}

fn plain_path(text: &str) -> Result<String, BadPair> {
    let bad = |reason| BadPair::Path { path: text.chars().take(80).collect(), reason };
    let path = text.trim_end_matches('/');
    if path.len() > MAX_PATH {
        return Err(bad("is longer than 4096 bytes"));
    }
    let Some(inner) = path.strip_prefix('/') else {
        return Err(bad("is not absolute (or is the root itself)"));
    };
    let components: Vec<&str> = inner.split('/').collect();
    if components.len() < 2 {
        return Err(bad(
            "has one component only, which is too little to find it safely in text; give at least two (/srv/sites)",
        ));
    }
    if components.iter().any(|part| matches!(*part, "" | "." | "..")) {
        return Err(bad("has an empty component, '.' or '..'; give the path in its plain form"));
    }
    if !inner.bytes().all(|b| b == b'/' || is_component_byte(b)) {
        return Err(bad("has characters other than letters, digits, '.', '_', '~' and '-'"));
    }
    Ok(path.to_owned())
}

/// Bytes of a path's component that plain text, JSON and URLs write alike.
pub(super) fn is_component_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b'-')
}
