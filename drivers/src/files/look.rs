//! Questions about files: what is there, how much, and how much room there is.

use std::collections::HashSet;

use kedge_workflows::ports::{FileKind, Free, PortError, PortResult, Stat, Usage};

use super::walk::Entry;
use super::{HostFiles, paths};

/// The programs that work with files, and the packages (of Debian) that have them.
const TOOLS: &[(&str, &str)] = &[
    ("dd", "coreutils"),
    ("find", "findutils"),
    ("grep", "grep"),
    ("perl", "perl-base"),
    ("rsync", "rsync"),
    ("setpriv", "util-linux"),
    ("sha256sum", "coreutils"),
    ("tar", "tar"),
    ("xargs", "findutils"),
];
/// Most names in a directory.
const MAX_NAMES: usize = 100_000;

impl HostFiles {
    /// Looks for every program that the files of a host need.
    ///
    /// # Errors
    /// `Refused` with the packages to install.
    pub async fn check_tools(&self) -> PortResult<()> {
        let what = format!("looking for programs on {}", self.host.name());
        let script = "for tool; do command -v \"$tool\" >/dev/null || echo \"$tool\"; done";
        let names: Vec<&str> = TOOLS.iter().map(|(tool, _)| *tool).collect();
        let output = self.run(&what, self.script(script, &names)).await?;
        let missing = String::from_utf8_lossy(&output).into_owned();
        let mut packages: Vec<&str> = TOOLS
            .iter()
            .filter(|(tool, _)| missing.lines().any(|line| line == *tool))
            .map(|(_, package)| *package)
            .collect();
        packages.dedup();
        if packages.is_empty() {
            return Ok(());
        }
        Err(PortError::Refused(format!("install {} on {}", packages.join(", "), self.host.name())))
    }

    pub(super) async fn look_at(&self, path: &str) -> PortResult<Option<Stat>> {
        let mut found = None;
        self.walk(paths::absolute(path)?, &["-maxdepth", "0"], |entry| {
            found = Some(stat(&entry));
            Ok(())
        })
        .await?;
        Ok(found)
    }

    pub(super) async fn names_in(&self, dir: &str) -> PortResult<Vec<String>> {
        let mut names = Vec::new();
        self.walk(paths::absolute(dir)?, &["-maxdepth", "1"], |entry| {
            if entry.path.is_empty() {
                return must_be_dir(&entry, dir);
            }
            names.push(super::fingerprint::shown(&entry.path));
            if names.len() > MAX_NAMES {
                return Err(PortError::Refused(format!("{dir} holds more than {MAX_NAMES} names")));
            }
            Ok(())
        })
        .await?;
        names.sort();
        Ok(names)
    }

    /// Allocated bytes and entries below a directory, each inode counted once.
    pub(super) async fn usage_of(&self, dir: &str) -> PortResult<Usage> {
        let (mut usage, mut seen) = (Usage::default(), HashSet::new());
        self.walk(paths::absolute(dir)?, &[], |entry| {
            if !entry.path.is_empty() {
                usage.entries += 1;
                if entry.kind == b'l' {
                    usage.note_link(&entry.path, &entry.target);
                }
                let again =
                    entry.kind != b'd' && entry.names > 1 && !seen.insert((entry.device, entry.inode));
                usage.bytes += if again { 0 } else { entry.blocks * 512 };
            }
            Ok(())
        })
        .await?;
        Ok(usage)
    }

    pub(super) async fn named(&self, dir: &str, name: &str, limit: usize) -> PortResult<Vec<String>> {
        // `-name` takes patterns.
        if name.is_empty() || name.contains(['/', '*', '?', '[', '\\']) {
            return Err(PortError::Refused(format!("{name:?} is no plain name")));
        }
        let mut found = Vec::new();
        self.walk(paths::absolute(dir)?, &["-type", "f", "-name", name], |entry| {
            if found.len() < limit && !entry.path.is_empty() {
                found.extend(String::from_utf8(entry.path).ok());
            }
            Ok(())
        })
        .await?;
        found.sort();
        Ok(found)
    }

    pub(super) async fn room_at(&self, path: &str) -> PortResult<Free> {
        let what = self.what("looking for room at", path);
        let output =
            self.run(&what, self.script(include_str!("scripts/free.sh"), &[paths::absolute(path)?])).await?;
        let text = String::from_utf8_lossy(&output);
        let numbers: Option<Vec<u64>> = text.split_whitespace().map(|number| number.parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[blocks, block, free_inodes, inodes, device, writable]) => {
                let (bytes, inodes) = (blocks.saturating_mul(block), (inodes > 0).then_some(free_inodes));
                Ok(Free { bytes, inodes, device, writable: writable == 1 })
            }
            _ => Err(PortError::Refused(format!("{what}: stat says {text:?}"))),
        }
    }

    /// Refuses a path at which there is no directory.
    pub(super) async fn must_be_directory(&self, dir: &str) -> PortResult<()> {
        match self.look_at(dir).await? {
            Some(Stat { kind: FileKind::Dir, .. }) => Ok(()),
            Some(_) => Err(PortError::Refused(format!("{dir} on {} is not a directory", self.host.name()))),
            None => Err(PortError::Refused(format!("{dir} does not exist on {}", self.host.name()))),
        }
    }
}

fn must_be_dir(entry: &Entry, dir: &str) -> PortResult<()> {
    if entry.kind == b'd' { Ok(()) } else { Err(PortError::Refused(format!("{dir} is not a directory"))) }
}

fn stat(entry: &Entry) -> Stat {
    let kind = match entry.kind {
        b'f' => FileKind::File,
        b'd' => FileKind::Dir,
        b'l' => FileKind::Link,
        _ => FileKind::Other,
    };
    let Entry { mode, uid, gid, size, inode, device, .. } = *entry;
    Stat { kind, mode, uid, gid, size, inode, device }
}
