//! The files of a host in memory. Long calls pass a point in the middle too, so that a world can stop with half a copy done.

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use sha2::{Digest, Sha256};

use super::Faults;
use super::disk::{Body, Disk, FakeDisk, Node, relative};
use super::tar::{TarMember, tar_archive, tar_members};
use crate::ports::{
    Access, AccessRule, ByteStream, CopyOptions, CopyReport, FileKind, Files, Fingerprint, FixReport, Free,
    PortError, PortResult, SavedFile, Stat, Usage,
};

/// Bytes at most that `read` returns.
const MAX_READ: usize = 256 * 1024;
/// The only file system of the fake.
const DEVICE: u64 = 1;

/// The fake: a disk, and the faults of the world it is in.
#[derive(Clone)]
pub struct FakeFiles {
    disk: FakeDisk,
    faults: Faults,
}

impl FakeFiles {
    /// The files on this disk.
    #[must_use]
    pub fn new(disk: FakeDisk, faults: Faults) -> Self {
        Self { disk, faults }
    }

    /// An effect with a point on each side.
    fn act<T>(&self, op: &str, path: &str, effect: impl FnOnce(&mut Disk) -> PortResult<T>) -> PortResult<T> {
        checked(path)?;
        self.faults.before(op, path)?;
        let result = effect(&mut self.disk.lock())?;
        self.faults.after(op, path)?;
        Ok(result)
    }

    /// A look, with a point ahead of it.
    fn look<T>(&self, op: &str, path: &str, look: impl FnOnce(&mut Disk) -> PortResult<T>) -> PortResult<T> {
        checked(path)?;
        self.faults.before(op, path)?;
        look(&mut self.disk.lock())
    }

    /// An effect on many things, with a point on each side and one in the middle.
    fn act_on_each<I>(
        &self,
        op: &str,
        path: &str,
        items: Vec<I>,
        mut effect: impl FnMut(&mut Disk, I) -> PortResult<()>,
    ) -> PortResult<()> {
        let (count, middle) = (items.len(), format!("{op}.half"));
        for (i, item) in items.into_iter().enumerate() {
            if i > 0 && i == count / 2 {
                self.faults.before(&middle, path)?;
            }
            effect(&mut self.disk.lock(), item)?;
        }
        Ok(())
    }
}

#[async_trait]
impl Files for FakeFiles {
    async fn stat(&self, path: &str) -> PortResult<Option<Stat>> {
        self.look("files.stat", path, |disk| Ok(disk.nodes.get(path).map(stat)))
    }

    async fn list(&self, dir: &str) -> PortResult<Vec<String>> {
        self.look("files.list", dir, |disk| {
            if !is_dir(disk, dir)? {
                return Ok(Vec::new());
            }
            let below = disk.below(dir).into_iter().map(|at| relative(dir, &at).to_owned());
            let mut names: Vec<String> = below.filter(|name| !name.contains('/')).collect();
            names.sort();
            Ok(names)
        })
    }

    async fn usage(&self, dir: &str) -> PortResult<Usage> {
        self.look("files.usage", dir, |disk| Ok(usage(disk, dir)))
    }

    async fn free(&self, path: &str) -> PortResult<Free> {
        self.look("files.free", path, |disk| Ok(Free { bytes: disk.free, inodes: None, device: DEVICE }))
    }

    async fn make_dir(&self, path: &str, access: &Access, parents: bool) -> PortResult<()> {
        self.act("files.make_dir", path, |disk| {
            if parents {
                disk.make_parents(path);
            }
            disk.parent(path)?;
            if !is_dir(disk, path)? {
                let node = disk.node(Body::Dir, 0o700);
                disk.put(path, node);
            }
            set_access(disk, path, access);
            Ok(())
        })
    }

    async fn remove_tree(&self, path: &str, within: &str) -> PortResult<()> {
        checked(path)?;
        if !path.starts_with(&format!("{within}/")) {
            return Err(PortError::Refused(format!("{path} is not below {within}")));
        }
        self.faults.before("files.remove_tree", path)?;
        if behind_link(&self.disk.lock(), within, relative(within, path)) {
            return Err(PortError::Refused(format!("{path} is behind a symbolic link")));
        }
        let mut all = self.disk.lock().below(path);
        all.reverse();
        all.push(path.to_owned());
        self.act_on_each("files.remove_tree", path, all, |disk, at| {
            disk.take(&at);
            Ok(())
        })?;
        self.faults.after("files.remove_tree", path)
    }

    async fn rename(&self, from: &str, to: &str) -> PortResult<()> {
        checked(to)?;
        self.act("files.rename", from, |disk| {
            if disk.nodes.contains_key(to) {
                return Err(PortError::NotOurs(format!("{to} exists")));
            }
            disk.parent(to)?;
            let below = disk.below(from);
            let node = disk.take(from).ok_or_else(|| PortError::Refused(format!("{from} does not exist")))?;
            disk.put(to, node);
            for at in below {
                if let Some(node) = disk.nodes.remove(&at) {
                    disk.nodes.insert(format!("{to}/{}", relative(from, &at)), node);
                }
            }
            Ok(())
        })
    }

    async fn copy_tree(&self, from: &str, to: &str, options: &CopyOptions) -> PortResult<CopyReport> {
        let (op, excluded) = ("files.copy_tree", |at: &str| covered(&options.exclude, at));
        checked(from)?;
        checked(to)?;
        if format!("{to}/").starts_with(&format!("{from}/"))
            || format!("{from}/").starts_with(&format!("{to}/"))
        {
            return Err(PortError::Refused(format!("{from} and {to} are one inside the other")));
        }
        for path in &options.exclude {
            checked_relative(path)?;
        }
        self.faults.before(op, to)?;
        let source = self.disk.snapshot(from);
        if !source.get("").is_some_and(|node| node.body == Body::Dir) {
            return Err(PortError::Refused(format!("{from} is not a directory")));
        }
        if let Some(node) = self.disk.lock().nodes.get(to).filter(|node| node.body != Body::Dir) {
            return Err(PortError::Refused(format!("{to} is not a directory but a {:?}", stat(node).kind)));
        }
        let target = self.disk.snapshot(to);
        if options.exact {
            let mut extra: Vec<String> =
                target.keys().filter(|at| !source.contains_key(*at) && !excluded(at)).cloned().collect();
            extra.reverse();
            extra.iter().for_each(|at| drop(self.disk.lock().take(&format!("{to}/{at}"))));
        }
        let wanted: Vec<(String, Node)> = source.into_iter().filter(|(at, _)| !excluded(at)).collect();
        self.act_on_each(op, to, wanted.clone(), |disk, (at, node)| {
            let path = if at.is_empty() { to.to_owned() } else { format!("{to}/{at}") };
            disk.parent(&path)?;
            copy_node(disk, &path, &node);
            Ok(())
        })?;
        // Times of directories last, as filling them moves them on.
        let mut disk = self.disk.lock();
        for (at, from) in wanted.iter().filter(|(_, node)| node.body == Body::Dir) {
            let path = if at.is_empty() { to.to_owned() } else { format!("{to}/{at}") };
            if let Some(dir) = disk.nodes.get_mut(&path) {
                dir.mtime_ns = from.mtime_ns;
            }
        }
        let usage = usage(&disk, to);
        drop(disk);
        self.faults.after(op, to)?;
        Ok(CopyReport { bytes: usage.bytes, entries: usage.entries, vanished: 0 })
    }

    async fn pack(&self, dir: &str, exclude: &[String]) -> PortResult<ByteStream> {
        for path in exclude {
            checked_relative(path)?;
        }
        let archive = self.look("files.pack", dir, |disk| {
            if !is_dir(disk, dir)? {
                return Err(PortError::Refused(format!("{dir} does not exist")));
            }
            let whole = std::iter::once(dir.to_owned()).chain(disk.below(dir));
            let nodes = whole.filter_map(|at| Some((relative(dir, &at).to_owned(), disk.nodes.get(&at)?)));
            let members = nodes.filter(|(at, _)| !covered(exclude, at)).map(|(at, node)| member(&at, node));
            Ok(tar_archive(&members.collect::<Vec<_>>()))
        })?;
        let pieces: Vec<_> = archive.chunks(4096).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        Ok(Box::pin(futures::stream::iter(pieces)))
    }

    async fn unpack(&self, dir: &str, mut tar: ByteStream) -> PortResult<()> {
        checked(dir)?;
        self.faults.before("files.unpack", dir)?;
        let mut archive = Vec::new();
        while let Some(piece) = tar.next().await {
            archive.extend_from_slice(&piece?);
        }
        if !is_dir(&self.disk.lock(), dir)? {
            return Err(PortError::Refused(format!("{dir} does not exist")));
        }
        let broken =
            || PortError::Refused(format!("what should be unpacked into {dir} is not a whole tar stream"));
        let members = tar_members(&archive).ok_or_else(broken)?;
        self.act_on_each("files.unpack", dir, members.clone(), |disk, member| {
            unpack_member(disk, dir, &member)
        })?;
        let mut disk = self.disk.lock();
        for member in members.iter().filter(|member| member.flag == b'5') {
            if let Some(node) = disk.nodes.get_mut(&place(dir, &member.path)) {
                node.mtime_ns = i64::try_from(member.mtime).unwrap_or(0) * 1_000_000_000;
            }
        }
        drop(disk);
        self.faults.after("files.unpack", dir)
    }

    async fn read(&self, path: &str) -> PortResult<Option<SavedFile>> {
        self.look("files.read", path, |disk| disk.nodes.get(path).map(|node| saved(path, node)).transpose())
    }

    async fn put(&self, path: &str, bytes: &[u8], access: &Access, expected: Option<&str>) -> PortResult<()> {
        self.act("files.put", path, |disk| {
            disk.parent(path)?;
            let (there, new) = (hash_at(disk, path)?, sha256(bytes));
            if there.as_deref() != expected && there.as_deref() != Some(new.as_str()) {
                return Err(PortError::NotOurs(format!("{path} is not what it was")));
            }
            let old = disk.nodes.get(path).cloned();
            let mut node = disk.node(Body::File(bytes.to_vec()), access.mode);
            (node.uid, node.gid) = old.map_or((0, 0), |old| (old.uid, old.gid));
            disk.put(path, node);
            set_access(disk, path, access);
            Ok(())
        })
    }

    async fn restore(&self, path: &str, saved: Option<&SavedFile>, ours: &[String]) -> PortResult<()> {
        self.act("files.restore", path, |disk| {
            let there = hash_at(disk, path)?;
            let right = saved.map(|saved| saved.sha256.as_str());
            if there
                .as_deref()
                .is_some_and(|there| Some(there) != right && !ours.iter().any(|hash| hash == there))
            {
                return Err(PortError::NotOurs(format!("{path} was changed since")));
            }
            let Some(saved) = saved else {
                disk.take(path);
                return Ok(());
            };
            let body = saved.symlink.clone().map_or_else(|| Body::File(saved.bytes.clone()), Body::Link);
            let mut node = disk.node(body, saved.mode);
            (node.uid, node.gid, node.mtime_ns) = (saved.uid, saved.gid, saved.mtime_ns);
            let same =
                disk.nodes.get(path).is_some_and(|old| Node { inode: node.inode, ..old.clone() } == node);
            if !same {
                disk.parent(path)?;
                disk.put(path, node);
            }
            Ok(())
        })
    }

    async fn fix_access(&self, dir: &str, rules: &[AccessRule]) -> PortResult<FixReport> {
        checked(dir)?;
        self.faults.before("files.fix_access", dir)?;
        let mut report = FixReport::default();
        let all: Vec<String> = self.disk.snapshot(dir).into_keys().collect();
        self.act_on_each("files.fix_access", dir, all, |disk, at| {
            report.checked += 1;
            let rule = rules.iter().rev().find(|rule| covered(std::slice::from_ref(&rule.path), &at));
            report.changed += u64::from(rule.is_some_and(|rule| fix(disk, dir, &at, rule)));
            Ok(())
        })?;
        self.faults.after("files.fix_access", dir)?;
        Ok(report)
    }

    async fn fingerprint(&self, dir: &str, full: bool, hashed: &[String]) -> PortResult<Fingerprint> {
        self.look("files.fingerprint", dir, |_| Ok(()))?;
        let snapshot = self.disk.snapshot(dir);
        let entries = snapshot.iter().map(|(at, node)| {
            let by_content = full || hashed.contains(at);
            let holds_hashed =
                hashed.iter().any(|path| path.rsplit_once('/').map_or("", |(dir, _)| dir) == at);
            let key = if at.is_empty() { "." } else { at };
            (key.to_owned(), seen(node, by_content, holds_hashed))
        });
        Ok(Fingerprint::of(entries.collect()))
    }
}

fn seen(node: &Node, by_content: bool, holds_hashed: bool) -> String {
    let (mode, uid, gid, inode, mtime) = (node.mode, node.uid, node.gid, node.inode, node.mtime_ns);
    let time = if node.body == Body::Dir && holds_hashed { String::new() } else { format!(" mtime {mtime}") };
    let inode = if by_content { String::new() } else { format!(" inode {inode}") };
    match &node.body {
        Body::Dir => format!("dir {mode:04o} {uid}:{gid}{time}{inode}"),
        Body::Link(target) => format!("link {uid}:{gid}{time}{inode} -> {target}"),
        Body::File(bytes) if by_content => {
            format!("file {mode:04o} {uid}:{gid}{time} sha256 {}", sha256(bytes))
        }
        Body::File(bytes) => format!("file {mode:04o} {uid}:{gid}{time}{inode} {} bytes", bytes.len()),
    }
}

fn checked(path: &str) -> PortResult<()> {
    let plain = path.starts_with('/') && path.len() > 1 && !path.contains('\0');
    if plain && path[1..].split('/').all(|part| !part.is_empty() && part != "." && part != "..") {
        return Ok(());
    }
    Err(PortError::Refused(format!("{path:?} is not an absolute path")))
}

fn checked_relative(path: &str) -> PortResult<()> {
    checked(&format!("/{path}")).map_err(|_| PortError::Refused(format!("{path:?} is not a relative path")))
}

/// Whether a relative path is one of these or below one; an empty one is the whole tree.
fn covered(by: &[String], at: &str) -> bool {
    by.iter().any(|path| {
        path.is_empty() || at == path || at.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
    })
}

fn is_dir(disk: &Disk, path: &str) -> PortResult<bool> {
    match disk.nodes.get(path).map(|node| &node.body) {
        Some(Body::Dir) => Ok(true),
        Some(_) => Err(PortError::Refused(format!("{path} is not a directory"))),
        None => Ok(false),
    }
}

/// Whether something on the way from a directory to a path below it is a link.
fn behind_link(disk: &Disk, dir: &str, mut path: &str) -> bool {
    while let Some((above, _)) = path.rsplit_once('/') {
        if disk.nodes.get(&format!("{dir}/{above}")).is_some_and(|node| matches!(node.body, Body::Link(_))) {
            return true;
        }
        path = above;
    }
    false
}

fn size(node: &Node) -> u64 {
    match &node.body {
        Body::File(bytes) => bytes.len() as u64,
        Body::Link(target) => target.len() as u64,
        Body::Dir => 0,
    }
}

fn stat(node: &Node) -> Stat {
    let kind = match &node.body {
        Body::File(_) => FileKind::File,
        Body::Dir => FileKind::Dir,
        Body::Link(_) => FileKind::Link,
    };
    let (mode, uid, gid, inode) = (node.mode, node.uid, node.gid, node.inode);
    Stat { kind, mode, uid, gid, size: size(node), inode, device: DEVICE }
}

fn usage(disk: &Disk, dir: &str) -> Usage {
    let below = disk.below(dir);
    let bytes = below.iter().filter_map(|at| disk.nodes.get(at)).map(size).sum();
    Usage { bytes, entries: below.len() as u64 }
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The hash of the file at a path, or of where the link there points to.
fn hash_at(disk: &Disk, path: &str) -> PortResult<Option<String>> {
    disk.nodes.get(path).map(|node| saved(path, node).map(|saved| saved.sha256)).transpose()
}

fn saved(path: &str, node: &Node) -> PortResult<SavedFile> {
    let (bytes, symlink) = match &node.body {
        Body::File(bytes) => (bytes.clone(), None),
        Body::Link(target) => (target.clone().into_bytes(), Some(target.clone())),
        Body::Dir => return Err(PortError::Refused(format!("{path} is not a file"))),
    };
    if bytes.len() > MAX_READ {
        return Err(PortError::Refused(format!("{path} is larger than 256 KiB")));
    }
    let (path, sha256) = (path.to_owned(), sha256(&bytes));
    let Node { mode, uid, gid, mtime_ns, .. } = *node;
    Ok(SavedFile { path, bytes, sha256, mode, uid, gid, mtime_ns, symlink })
}

fn set_access(disk: &mut Disk, path: &str, access: &Access) {
    let uid = access.user.as_ref().map(|user| disk.id(user));
    let gid = access.group.as_ref().map(|group| disk.id(group));
    if let Some(node) = disk.nodes.get_mut(path) {
        node.mode = access.mode;
        node.uid = uid.unwrap_or(node.uid);
        node.gid = gid.unwrap_or(node.gid);
    }
}

fn fix(disk: &mut Disk, dir: &str, at: &str, rule: &AccessRule) -> bool {
    let path = if at.is_empty() { dir.to_owned() } else { format!("{dir}/{at}") };
    let Some(old) = disk.nodes.get(&path).cloned() else { return false };
    let mode = match old.body {
        Body::File(_) => rule.file_mode,
        Body::Dir => rule.dir_mode,
        Body::Link(_) => old.mode,
    };
    set_access(disk, &path, &Access { mode, user: rule.user.clone(), group: rule.group.clone() });
    disk.nodes.get(&path) != Some(&old)
}

/// Makes a node like another one; what is the same already keeps its inode.
fn copy_node(disk: &mut Disk, path: &str, from: &Node) {
    let inode = disk.nodes.get(path).filter(|old| old.body == from.body).map(|old| old.inode);
    let fresh = disk.node(from.body.clone(), from.mode).inode;
    let node = Node { inode: inode.unwrap_or(fresh), ..from.clone() };
    if inode.is_some() {
        disk.nodes.insert(path.to_owned(), node);
    } else {
        for below in disk.below(path) {
            disk.take(&below);
        }
        disk.put(path, node);
    }
}

fn member(at: &str, node: &Node) -> TarMember {
    let path = if at.is_empty() { "./".to_owned() } else { format!("./{at}") };
    let member = match &node.body {
        Body::Dir => TarMember::dir(if at.is_empty() { "./" } else { &path }),
        Body::File(bytes) => TarMember::file(&path, bytes.clone()),
        Body::Link(target) => TarMember::symlink(&path, target),
    };
    let mtime = u64::try_from(node.mtime_ns / 1_000_000_000).unwrap_or(0);
    TarMember { mtime, ..member.owned(node.mode, node.uid, node.gid) }
}

fn place(dir: &str, member: &str) -> String {
    let parts: Vec<&str> = member.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.is_empty() { dir.to_owned() } else { format!("{dir}/{}", parts.join("/")) }
}

fn unpack_member(disk: &mut Disk, dir: &str, member: &TarMember) -> PortResult<()> {
    let refused = |why| Err(PortError::Refused(format!("the archive has a member {why}: {}", member.path)));
    let escapes = |path: &str| path.starts_with('/') || path.split('/').any(|part| part == "..");
    if escapes(&member.path) || (member.flag == b'1' && escapes(&member.link)) {
        return refused("that leads out of the tree");
    }
    let path = place(dir, &member.path);
    if behind_link(disk, dir, relative(dir, &path)) {
        return refused("that leads through a symbolic link");
    }
    let body = match member.flag {
        b'0' => Body::File(member.bytes.clone()),
        b'2' => Body::Link(member.link.clone()),
        b'5' => Body::Dir,
        b'1' => match disk.nodes.get(&place(dir, &member.link)) {
            Some(target) => target.body.clone(),
            None => return refused("that links to nothing"),
        },
        _ => return refused("of an unknown kind"),
    };
    disk.make_parents(&path);
    let mtime_ns = i64::try_from(member.mtime).unwrap_or(0) * 1_000_000_000;
    let node = Node { uid: member.uid, gid: member.gid, mtime_ns, ..disk.node(body, member.mode) };
    copy_node(disk, &path, &node);
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::testing::files_contract;

    fn now<T>(future: impl Future<Output = T>) -> T {
        future.now_or_never().expect("fakes never wait")
    }

    #[test]
    fn the_fake_keeps_the_contract() {
        let disk = FakeDisk::new();
        disk.make_dir("/srv/root");
        let files = FakeFiles::new(disk.clone(), Faults::new());
        now(files_contract(&files, "/srv/root"));
        assert_eq!(disk.snapshot("/srv/root").len(), 1);
    }

    #[test]
    fn a_world_can_stop_with_half_a_copy_done() {
        let (disk, faults) = (FakeDisk::new(), Faults::new());
        (0..4).for_each(|i| disk.write(&format!("/a/{i}"), "x"));
        let files = FakeFiles::new(disk.clone(), faults.clone());
        faults.stop_at(1);
        let options = CopyOptions { exact: true, exclude: Vec::new() };
        let copied = now(files.copy_tree("/a", "/b", &options));
        assert!(matches!(copied, Err(PortError::Lost(_))));
        assert_eq!(disk.snapshot("/b").len(), 2);
        faults.resume();
        now(files.copy_tree("/a", "/b", &options)).unwrap();
        assert_eq!(disk.snapshot("/b").len(), 5);
    }
}
