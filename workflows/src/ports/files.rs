//! The files port: directories and files of one host. Paths are absolute; nothing follows a symbolic link out of the tree it works on.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{ByteStream, Fingerprint, PortResult, SavedFile};

/// The files of a host.
#[async_trait]
pub trait Files: Send + Sync {
    /// What is at a path (not following a link), if anything.
    async fn stat(&self, path: &str) -> PortResult<Option<Stat>>;
    /// Names in a directory, sorted; at most 100,000. An absent directory is empty.
    async fn list(&self, dir: &str) -> PortResult<Vec<String>>;
    /// Bytes and files below a directory.
    async fn usage(&self, dir: &str) -> PortResult<Usage>;
    /// Regular files of this name below a directory, by their paths below it: the first `limit` that are met, sorted. Names that are no
    /// UTF-8 are left out. An absent directory has none.
    async fn find(&self, dir: &str, name: &str, limit: usize) -> PortResult<Vec<String>>;
    /// Room on the file system that holds a path (or its nearest existing parent).
    async fn free(&self, path: &str) -> PortResult<Free>;

    /// Makes a directory (parents must exist unless `parents`); there already as a directory: fine, mode and owner are set.
    async fn make_dir(&self, path: &str, access: &Access, parents: bool) -> PortResult<()>;
    /// Removes a directory tree, whatever its modes; links are removed, not followed. Absent: fine. Refuses a path that is not
    /// below `within` (a root of ours) or is `within` itself.
    async fn remove_tree(&self, path: &str, within: &str) -> PortResult<()>;
    /// Renames without replacing: `NotOurs` when the target exists. Same file system only. Both parents are synced.
    async fn rename(&self, from: &str, to: &str) -> PortResult<()>;

    /// Which of the two a rename has left: what is at `from`, and what is at `to`. On a cluster the first host tells: it is the last to be
    /// changed.
    async fn moved(&self, from: &str, to: &str) -> PortResult<(bool, bool)> {
        Ok((self.stat(from).await?.is_some(), self.stat(to).await?.is_some()))
    }
    /// Takes a rename back: what is at `to` goes to `from` again, unless something is there: then it has not happened.
    async fn move_back(&self, from: &str, to: &str) -> PortResult<()> {
        if self.stat(from).await?.is_some() { Ok(()) } else { self.rename(to, from).await }
    }

    /// Copies a tree into `to` (created if absent): modes, owners, times, links, hard links, sparse files, ACLs, xattrs.
    /// By reflink where the file system can, else rsync. With `exact`, what is in `to` and not in `from` is removed:
    /// a second call is a delta. Files that vanish meanwhile are counted, not an error.
    async fn copy_tree(&self, from: &str, to: &str, options: &CopyOptions) -> PortResult<CopyReport>;

    /// Where these are the files of a cluster: makes a tree below `within` the same on every host as it is on the first one. On one host
    /// there is nothing to do.
    async fn spread(&self, _dir: &str, _within: &str) -> PortResult<()> {
        Ok(())
    }

    /// Hosts of a cluster on which nothing is at a path: they are new in it. On one host there is none.
    async fn hosts_without(&self, _path: &str) -> PortResult<Vec<String>> {
        Ok(Vec::new())
    }
    /// Makes a tree below `within` on these hosts of a cluster as it is on the first one.
    async fn give(&self, _dir: &str, _within: &str, _hosts: &[String]) -> PortResult<()> {
        Ok(())
    }
    /// Takes a tree below `within` away again from these hosts of a cluster, never from the first one. Absent: fine.
    async fn take_away(&self, _dir: &str, _within: &str, _hosts: &[String]) -> PortResult<()> {
        Ok(())
    }

    /// What other hosts of a cluster have below a directory and the first one has not, or not the same, as `web2: uploads/a.png`: the first
    /// `limit` of it, and how much in all. Without `contents` no file is read, and those of one size count as the same. On one host there
    /// is none.
    async fn strays(&self, _dir: &str, _limit: usize, _contents: bool) -> PortResult<(Vec<String>, usize)> {
        Ok((Vec::new(), 0))
    }

    /// A tar stream (POSIX format, sparse, xattrs, ACLs, numeric owners) of a directory's members (`./...`). A file that changes or
    /// vanishes while it is read is no failure; behind the end of the archive, where no reader of tar looks, a line `# kedge: ...` may
    /// name it.
    async fn pack(&self, dir: &str, exclude: &[String]) -> PortResult<ByteStream>;
    /// Unpacks a tar stream into an existing directory. Absolute, `..` and through-link members are refused.
    async fn unpack(&self, dir: &str, tar: ByteStream) -> PortResult<()>;

    /// A file's bytes, mode, owner; at most 256 KiB. `None` when absent.
    async fn read(&self, path: &str) -> PortResult<Option<SavedFile>>;
    /// Writes a file: temp, fsync, rename, directory synced. `expected` as in `WebServer::put_vhost`.
    async fn put(&self, path: &str, bytes: &[u8], access: &Access, expected: Option<&str>) -> PortResult<()>;
    /// Puts a saved file back if what is there is one of `ours` (hashes) or already right; `None` removes it.
    async fn restore(&self, path: &str, saved: Option<&SavedFile>, ours: &[String]) -> PortResult<()>;

    /// Sets mode and owner below a tree only where they differ from the rules.
    async fn fix_access(&self, dir: &str, rules: &[AccessRule]) -> PortResult<FixReport>;

    /// What [`Files::fix_access`] would change: how many entries, and the first `limit` of those whose names are UTF-8 as they are.
    async fn wrong_access(&self, dir: &str, rules: &[AccessRule], limit: usize) -> PortResult<WrongAccess>;
    /// Gives entries the modes and owners that they had. What is gone, or not a file, directory or link, is left out.
    async fn set_access(&self, dir: &str, entries: &[AccessWas]) -> PortResult<()>;

    /// Fingerprint of a tree: path, type, mode, owner, size, mtime, inode, link target; with `full`, contents instead of inode.
    /// `hashed` paths (relative) are hashed by content always.
    async fn fingerprint(&self, dir: &str, full: bool, hashed: &[String]) -> PortResult<Fingerprint>;
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    /// What kind of thing.
    pub kind: FileKind,
    /// Permission bits.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Inode number.
    pub inode: u64,
    /// Device number: two paths with the same one can be renamed into each other.
    pub device: u64,
}

/// Kind of a directory entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Link,
    /// A socket, FIFO or device.
    Other,
}

/// What is below a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Allocated bytes.
    pub bytes: u64,
    /// Entries of any kind.
    pub entries: u64,
    /// Symbolic links that lead out of the directory, or into it by its full path: the first [`MAX_LINKS_OUT`] that were met.
    pub links_out: Vec<LinkOut>,
    /// How many of them there are in all.
    pub links_out_count: u64,
}

/// Most links of a tree that are named: whoever has more knows that he works with links.
pub const MAX_LINKS_OUT: usize = 20;

/// A symbolic link that a copy of its tree does not take along, as what it leads to is not in the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkOut {
    /// The link, below the directory.
    pub path: String,
    /// What it says.
    pub target: String,
}

impl Usage {
    /// Adds what is below a member of the directory. Of its links, only those that were named are looked at again: some of them lead to
    /// another member.
    pub fn add_member(&mut self, member: &str, below: &Self) {
        self.bytes += below.bytes;
        self.entries += below.entries;
        for link in &below.links_out {
            self.note_link(format!("{member}/{}", link.path).as_bytes(), link.target.as_bytes());
        }
    }

    /// Notes a symbolic link, if it is one that [`leads_out`].
    pub fn note_link(&mut self, path: &[u8], target: &[u8]) {
        if !leads_out(path, target) {
            return;
        }
        self.links_out_count += 1;
        if self.links_out.len() < MAX_LINKS_OUT {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            self.links_out.push(LinkOut { path: text(path), target: text(target) });
        }
    }
}

/// Whether a link at a path below a directory leads out of it as far as its text tells: by a full path, or by more `..` than it is deep.
#[must_use]
pub fn leads_out(path: &[u8], target: &[u8]) -> bool {
    if target.starts_with(b"/") {
        return true;
    }
    let parts = |text: &[u8]| -> Vec<Vec<u8>> {
        let named = |part: &&[u8]| !matches!(*part, b"" | b".");
        text.split(|byte| *byte == b'/').filter(named).map(<[u8]>::to_vec).collect()
    };
    // The directory that the link is in; -1 is what is above the tree.
    let mut depth = i64::try_from(parts(path).len()).unwrap_or(i64::MAX) - 1;
    parts(target).iter().any(|part| {
        depth += if part == b".." { -1 } else { 1 };
        depth < 0
    })
}

/// Room on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Free {
    /// Bytes available to us.
    pub bytes: u64,
    /// Inodes available; `None` where the file system makes them as needed.
    pub inodes: Option<u64>,
    /// Device number, to tell file systems apart.
    pub device: u64,
    /// Whether it may be written to: not mounted read-only.
    pub writable: bool,
}

/// Mode and owner, by name: `None` keeps what is there (root for new things).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Permission bits.
    pub mode: u32,
    /// Owner's name.
    pub user: Option<String>,
    /// Group's name.
    pub group: Option<String>,
}

/// A rule of the permission policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessRule {
    /// Path relative to the tree; the rule holds for it and everything below; later rules win.
    pub path: String,
    /// Mode of directories.
    pub dir_mode: u32,
    /// Mode of files.
    pub file_mode: u32,
    /// Owner.
    pub user: Option<String>,
    /// Group.
    pub group: Option<String>,
}

/// How to copy a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyOptions {
    /// Remove from the target what the source does not have.
    pub exact: bool,
    /// Paths relative to the source to leave out (and to leave alone in the target).
    pub exclude: Vec<String>,
}

/// What a copy did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyReport {
    /// Bytes in the target afterwards.
    pub bytes: u64,
    /// Entries in the target afterwards.
    pub entries: u64,
    /// Source files that vanished while we copied.
    pub vanished: u64,
}

/// What a permission fix did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixReport {
    /// Entries looked at.
    pub checked: u64,
    /// Entries changed.
    pub changed: u64,
}

/// What a look at modes and owners found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrongAccess {
    /// Entries looked at.
    pub checked: u64,
    /// Entries that are not as the rules say.
    pub wrong: u64,
    /// The first of them.
    pub entries: Vec<AccessWas>,
}

/// An entry's mode and owner as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessWas {
    /// Relative to the tree; `.` is the tree itself.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// What the rules say, in words: `0640 root:www-data`.
    pub wanted: String,
}

impl AccessRule {
    /// What it says of a directory, or of anything else, in words.
    #[must_use]
    pub fn told(&self, dir: bool) -> String {
        let mode = if dir { self.dir_mode } else { self.file_mode };
        let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "any".to_owned());
        format!("{mode:04o} {}:{}", name(&self.user), name(&self.group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_out_by_a_full_path_or_above_the_directory() {
        for (path, target, out) in [
            ("uploads", "/mnt/uploads", true),
            ("uploads", "../shared", true),
            ("a/uploads", "../b", false),
            ("a/b/uploads", "../../../x", true),
            ("a/b/uploads", "./..//../x", false),
            ("a/uploads", "b/../../../x", true),
            ("a", "b", false),
            ("a", ".", false),
            ("a", "..", true),
        ] {
            assert_eq!(leads_out(path.as_bytes(), target.as_bytes()), out, "{path} -> {target}");
        }
    }

    #[test]
    fn many_links_are_counted_and_some_named() {
        let mut usage = Usage::default();
        for number in 0..=MAX_LINKS_OUT {
            usage.note_link(format!("l{number}").as_bytes(), b"/mnt");
        }
        usage.note_link(b"inside", b"x");
        assert_eq!((usage.links_out.len(), usage.links_out_count), (MAX_LINKS_OUT, MAX_LINKS_OUT as u64 + 1));
    }

    #[test]
    fn a_link_from_one_member_to_another_stays_inside() {
        let (mut all, mut one) = (Usage::default(), Usage { bytes: 3, entries: 2, ..Usage::default() });
        one.note_link(b"x", b"../other");
        one.note_link(b"y", b"../../out");
        assert_eq!(one.links_out_count, 2);
        all.add_member("one", &one);
        let out = LinkOut { path: "one/y".into(), target: "../../out".into() };
        assert_eq!(all, Usage { bytes: 3, entries: 2, links_out: vec![out], links_out_count: 1 });
    }
}
