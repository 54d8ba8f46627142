//! What the files in memory do to the nodes of their disk, and how they tell of them.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::disk::{Body, Disk, Node, relative};
use super::tar::TarMember;
use crate::ports::{Access, AccessRule, FileKind, PortError, PortResult, SavedFile, Stat, Usage};

/// Bytes at most that `read` returns.
const MAX_READ: usize = 256 * 1024;
/// The only file system of the fake.
pub(super) const DEVICE: u64 = 1;

pub(super) fn seen(node: &Node, by_content: bool, holds_hashed: bool) -> String {
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

pub(super) fn checked(path: &str) -> PortResult<()> {
    let plain = path.starts_with('/') && path.len() > 1 && !path.contains('\0');
    if plain && path[1..].split('/').all(|part| !part.is_empty() && part != "." && part != "..") {
        return Ok(());
    }
    Err(PortError::Refused(format!("{path:?} is not an absolute path")))
}

pub(super) fn checked_relative(path: &str) -> PortResult<()> {
    checked(&format!("/{path}")).map_err(|_| PortError::Refused(format!("{path:?} is not a relative path")))
}

/// Whether a relative path is one of these or below one; an empty one is the whole tree.
pub(super) fn covered(by: &[String], at: &str) -> bool {
    by.iter().any(|path| {
        path.is_empty() || at == path || at.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
    })
}

pub(super) fn is_dir(disk: &Disk, path: &str) -> PortResult<bool> {
    match disk.nodes.get(path).map(|node| &node.body) {
        Some(Body::Dir) => Ok(true),
        Some(_) => Err(PortError::Refused(format!("{path} is not a directory"))),
        None => Ok(false),
    }
}

/// Whether something on the way from a directory to a path below it is a link.
pub(super) fn behind_link(disk: &Disk, dir: &str, mut path: &str) -> bool {
    while let Some((above, _)) = path.rsplit_once('/') {
        if disk.nodes.get(&format!("{dir}/{above}")).is_some_and(|node| matches!(node.body, Body::Link(_))) {
            return true;
        }
        path = above;
    }
    false
}

pub(super) fn size(node: &Node) -> u64 {
    match &node.body {
        Body::File(bytes) => bytes.len() as u64,
        Body::Link(target) => target.len() as u64,
        Body::Dir => 0,
    }
}

pub(super) fn stat(node: &Node) -> Stat {
    let kind = match &node.body {
        Body::File(_) => FileKind::File,
        Body::Dir => FileKind::Dir,
        Body::Link(_) => FileKind::Link,
    };
    let (mode, uid, gid, inode) = (node.mode, node.uid, node.gid, node.inode);
    Stat { kind, mode, uid, gid, size: size(node), inode, device: DEVICE }
}

pub(super) fn usage(disk: &Disk, dir: &str) -> Usage {
    let below = disk.below(dir);
    let mut usage = Usage { entries: below.len() as u64, ..Usage::default() };
    for (at, node) in below.iter().filter_map(|at| Some((at, disk.nodes.get(at)?))) {
        usage.bytes += size(node);
        if let (Body::Link(target), Some(path)) = (&node.body, at.strip_prefix(&format!("{dir}/"))) {
            usage.note_link(path.as_bytes(), target.as_bytes());
        }
    }
    usage
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The hash of the file at a path, or of where the link there points to.
pub(super) fn hash_at(disk: &Disk, path: &str) -> PortResult<Option<String>> {
    disk.nodes.get(path).map(|node| saved(path, node).map(|saved| saved.sha256)).transpose()
}

pub(super) fn saved(path: &str, node: &Node) -> PortResult<SavedFile> {
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
    Ok(SavedFile { path, bytes, sha256, mode, uid, gid, mtime_ns, symlink, elsewhere: BTreeMap::new() })
}

pub(super) fn set_access(disk: &mut Disk, path: &str, access: &Access) {
    let uid = access.user.as_ref().map(|user| disk.id(user));
    let gid = access.group.as_ref().map(|group| disk.id(group));
    if let Some(node) = disk.nodes.get_mut(path) {
        node.mode = access.mode;
        node.uid = uid.unwrap_or(node.uid);
        node.gid = gid.unwrap_or(node.gid);
    }
}

pub(super) fn fix(disk: &mut Disk, dir: &str, at: &str, rule: &AccessRule) -> bool {
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
pub(super) fn copy_node(disk: &mut Disk, path: &str, from: &Node) {
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

pub(super) fn member(at: &str, node: &Node) -> TarMember {
    let path = if at.is_empty() { "./".to_owned() } else { format!("./{at}") };
    let member = match &node.body {
        Body::Dir => TarMember::dir(if at.is_empty() { "./" } else { &path }),
        Body::File(bytes) => TarMember::file(&path, bytes.clone()),
        Body::Link(target) => TarMember::symlink(&path, target),
    };
    let mtime = u64::try_from(node.mtime_ns / 1_000_000_000).unwrap_or(0);
    let mtime_ns = u32::try_from(node.mtime_ns % 1_000_000_000).unwrap_or(0);
    TarMember { mtime, mtime_ns, ..member.owned(node.mode, node.uid, node.gid) }
}

/// The modification time of a member, in nanoseconds since 1970.
pub(super) fn time_of(member: &TarMember) -> i64 {
    i64::try_from(member.mtime).unwrap_or(0) * 1_000_000_000 + i64::from(member.mtime_ns)
}

pub(super) fn place(dir: &str, member: &str) -> String {
    let parts: Vec<&str> = member.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.is_empty() { dir.to_owned() } else { format!("{dir}/{}", parts.join("/")) }
}

pub(super) fn unpack_member(disk: &mut Disk, dir: &str, member: &TarMember) -> PortResult<()> {
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
    let mtime_ns = time_of(member);
    let node = Node { uid: member.uid, gid: member.gid, mtime_ns, ..disk.node(body, member.mode) };
    copy_node(disk, &path, &node);
    Ok(())
}
