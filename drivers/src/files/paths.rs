//! Paths as the port gives them: absolute, or relative to a tree. Checked before they reach a host.

use kedge_workflows::ports::{PortError, PortResult};

/// The directory above an absolute path, and its last part. Refuses what is not a plain absolute path below the root: empty
/// parts, `.`, `..`, NUL.
pub(super) fn split(path: &str) -> PortResult<(&str, &str)> {
    let refused = || PortError::Refused(format!("{path:?} is not a plain absolute path"));
    let parts = path.strip_prefix('/').filter(|parts| plain(parts)).ok_or_else(refused)?;
    Ok(parts.rsplit_once('/').map_or(("/", parts), |(above, name)| (&path[..=above.len()], name)))
}

/// Refuses what [`split`] refuses.
pub(super) fn absolute(path: &str) -> PortResult<&str> {
    split(path).map(|_| path)
}

/// Refuses a path that is not relative and plain.
pub(super) fn relative(path: &str) -> PortResult<&str> {
    if plain(path) {
        Ok(path)
    } else {
        Err(PortError::Refused(format!("{path:?} is not a plain relative path")))
    }
}

/// What is left of a path below another one; `None` if it is not below.
pub(super) fn below<'a>(path: &'a str, within: &str) -> Option<&'a str> {
    path.strip_prefix(within)?.strip_prefix('/')
}

/// Whether one of two paths is, or is below, the other one.
pub(super) fn overlap(a: &str, b: &str) -> bool {
    a == b || below(a, b).is_some() || below(b, a).is_some()
}

fn plain(path: &str) -> bool {
    !path.contains('\0') && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart() {
        assert_eq!(split("/a"), Ok(("/", "a")));
        assert_eq!(split("/a/-b"), Ok(("/a", "-b")));
        for bad in ["", "/", "a", "a/b", "/a/", "//a", "/a//b", "/a/../b", "/./a", "/a/..", "/a\0"] {
            assert!(split(bad).is_err(), "{bad:?}");
        }
        assert!(relative("a/b c").is_ok() && relative("...").is_ok());
        assert!(relative("/a").is_err() && relative("").is_err() && relative("a/../b").is_err());
        assert_eq!((below("/a/b", "/a"), below("/ab", "/a"), below("/a", "/a")), (Some("b"), None, None));
        assert!(
            overlap("/a", "/a") && overlap("/a", "/a/b") && overlap("/a/b", "/a") && !overlap("/a", "/ab")
        );
    }
}
