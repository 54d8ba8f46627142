//! Which members of a tar stream may be unpacked: none that is absolute, leads upwards, or goes through a symbolic link, be it of
//! the stream or of the directory. Never touches a file system.

use std::collections::HashSet;

use crate::tar::{Kind, Member, TarError};

/// Follows the members of a stream.
#[derive(Debug, Default)]
pub(super) struct Guard {
    links: HashSet<Vec<u8>>,
}

impl Guard {
    /// Notes a link that is in the directory already.
    pub(super) fn there(&mut self, link: Vec<u8>) {
        self.links.insert(link);
    }

    /// Says why a member must not be unpacked.
    pub(super) fn check(&mut self, member: &Member) -> Result<(), Unsafe> {
        let refused = |why| Err(Unsafe::Member(why, String::from_utf8_lossy(&member.path).into_owned()));
        let Some(path) = normal(&member.path) else { return refused("leads out of the directory") };
        if self.behind_link(&path) {
            return refused("goes through a symbolic link");
        }
        if path.is_empty() && member.kind != Kind::Dir {
            return refused("takes the place of the directory");
        }
        match member.kind {
            Kind::Symlink => drop(self.links.insert(path)),
            Kind::HardLink => {
                let Some(target) = normal(&member.link) else { return refused("links to something outside") };
                if self.behind_link(&target) {
                    return refused("links to something behind a symbolic link");
                }
                // Another name of a link is a link.
                if self.links.contains(&target) {
                    self.links.insert(path)
                } else {
                    self.links.remove(&path)
                };
            }
            Kind::Device => return refused("is a device"),
            // It takes the place of a link that was there.
            Kind::File | Kind::Dir | Kind::Fifo => drop(self.links.remove(&path)),
        }
        Ok(())
    }

    fn behind_link(&self, path: &[u8]) -> bool {
        let slashes = memchr::memchr_iter(b'/', path);
        slashes.into_iter().any(|at| self.links.contains(&path[..at]))
    }
}

/// Why a stream is not unpacked any further.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Unsafe {
    /// It is no tar stream.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// A member is not wanted.
    #[error("a member of the archive {0}: {1}")]
    Member(&'static str, String),
}

/// A path without `.` and empty parts; `None` if it is absolute or leads upwards.
fn normal(path: &[u8]) -> Option<Vec<u8>> {
    if path.starts_with(b"/") {
        return None;
    }
    let parts: Vec<&[u8]> =
        path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    if parts.contains(&b"..".as_slice()) { None } else { Some(parts.join(&b'/')) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(path: &str, kind: Kind, link: &str) -> Member {
        Member { path: path.into(), kind, link: link.into(), size: 0 }
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        for (path, kind, link) in [
            ("/etc/x", Kind::File, ""),
            ("../x", Kind::Dir, ""),
            ("a/../../x", Kind::File, ""),
            ("./h", Kind::HardLink, "/etc/passwd"),
            ("./h", Kind::HardLink, "../x"),
            ("./d", Kind::Device, ""),
            (".", Kind::Symlink, "/etc"),
        ] {
            assert!(Guard::default().check(&member(path, kind, link)).is_err(), "{path}");
        }
    }

    #[test]
    fn links_are_remembered_until_something_takes_their_place() {
        let mut guard = Guard::default();
        guard.there(b"old".to_vec());
        assert!(guard.check(&member("./old/x", Kind::File, "")).is_err());
        assert_eq!(guard.check(&member("./old/", Kind::Dir, "")), Ok(()));
        assert_eq!(guard.check(&member("./old/x", Kind::File, "")), Ok(()));
        assert_eq!(guard.check(&member("./a/./l", Kind::Symlink, "/etc")), Ok(()));
        assert_eq!(guard.check(&member("a//h", Kind::HardLink, "a/l")), Ok(()));
        for path in ["a/l/x", "./a/h/x/y", "a/./l/x"] {
            assert!(guard.check(&member(path, Kind::File, "")).is_err(), "{path}");
        }
        assert!(guard.check(&member("x", Kind::HardLink, "a/l/passwd")).is_err());
        assert_eq!(guard.check(&member("a/l2/x", Kind::File, "")), Ok(()));
    }
}
