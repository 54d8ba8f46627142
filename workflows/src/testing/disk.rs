//! A disk in memory: directories, files and links with modes, owners, inode numbers and times. Time is a counter that every
//! change moves on. Hard links, devices and names that are no UTF-8 do not exist here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ports::{PortError, PortResult};

/// A disk. Clones share it.
#[derive(Clone, Debug)]
pub struct FakeDisk(Arc<Mutex<Disk>>);

/// The nodes of a disk, by absolute path.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    pub(super) nodes: BTreeMap<String, Node>,
    pub(super) free: u64,
    users: Vec<String>,
    inodes: u64,
    clock: i64,
}

/// A directory entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it is, with its contents.
    pub body: Body,
    /// Permission bits.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Inode number: never used twice.
    pub inode: u64,
    /// Modification time in nanoseconds.
    pub mtime_ns: i64,
}

/// What a directory entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A regular file's bytes.
    File(Vec<u8>),
    /// A directory.
    Dir,
    /// A symbolic link's target.
    Link(String),
}

impl Default for FakeDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeDisk {
    /// An empty disk with 1 TiB free. Its users are `root` (0) and `www-data` (33); others come to be when they are named.
    #[must_use]
    pub fn new() -> Self {
        let mut disk = Disk {
            nodes: BTreeMap::new(),
            free: 1 << 40,
            users: Vec::new(),
            inodes: 1,
            clock: 1_700_000_000_000_000_000,
        };
        let root = disk.node(Body::Dir, 0o755);
        disk.nodes.insert("/".to_owned(), root);
        Self(Arc::new(Mutex::new(disk)))
    }

    /// Another disk with the same contents.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self(Arc::new(Mutex::new(self.lock().clone())))
    }

    /// Writes a file (0644, root), with the directories above it (0755, root).
    pub fn write(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        let mut disk = self.lock();
        disk.make_parents(path);
        let node = disk.node(Body::File(bytes.into()), 0o644);
        disk.put(path, node);
    }

    /// Makes a directory (0755, root), with the directories above it.
    pub fn make_dir(&self, path: &str) {
        let mut disk = self.lock();
        disk.make_parents(path);
        if !disk.nodes.contains_key(path) {
            let node = disk.node(Body::Dir, 0o755);
            disk.put(path, node);
        }
    }

    /// Makes a symbolic link, with the directories above it.
    pub fn link(&self, path: &str, target: &str) {
        let mut disk = self.lock();
        disk.make_parents(path);
        let node = disk.node(Body::Link(target.to_owned()), 0o777);
        disk.put(path, node);
    }

    /// The bytes of a file, if it is one.
    #[must_use]
    pub fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        match &self.lock().nodes.get(path)?.body {
            Body::File(bytes) => Some(bytes.clone()),
            Body::Dir | Body::Link(_) => None,
        }
    }

    /// What is at a path and everything below it, by path relative to it (itself: empty).
    #[must_use]
    pub fn snapshot(&self, path: &str) -> BTreeMap<String, Node> {
        let disk = self.lock();
        let below = disk.below(path);
        let whole = std::iter::once(path.to_owned()).chain(below);
        whole.filter_map(|at| Some((relative(path, &at).to_owned(), disk.nodes.get(&at)?.clone()))).collect()
    }

    /// Removes what is at a path and everything below it, as somebody does who should not.
    pub fn lose(&self, path: &str) {
        let below = format!("{path}/");
        self.lock().nodes.retain(|at, _| at != path && !at.starts_with(&below));
    }

    /// Sets how much room there is.
    pub fn set_free(&self, bytes: u64) {
        self.lock().free = bytes;
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Disk> {
        // A test that panicked elsewhere leaves nothing half done here.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    /// A new node of root's, with a new inode and the time of now.
    pub(super) fn node(&mut self, body: Body, mode: u32) -> Node {
        self.inodes += 1;
        Node { body, mode, uid: 0, gid: 0, inode: self.inodes, mtime_ns: self.now() }
    }

    pub(super) fn now(&mut self) -> i64 {
        self.clock += 1_000_000_000; // whole seconds, which is what small tar archives keep
        self.clock
    }

    /// The number of a user or group.
    pub(super) fn id(&mut self, name: &str) -> u32 {
        match name {
            "root" => return 0,
            "www-data" => return 33,
            _ => {}
        }
        let at = self.users.iter().position(|user| user == name).unwrap_or_else(|| {
            self.users.push(name.to_owned());
            self.users.len() - 1
        });
        1000 + u32::try_from(at).unwrap_or(u32::MAX - 1000)
    }

    /// Everything below a path, parents first.
    pub(super) fn below(&self, path: &str) -> Vec<String> {
        let prefix = if path == "/" { path.to_owned() } else { format!("{path}/") };
        let range = self.nodes.range(prefix.clone()..);
        let mut found: Vec<String> = range
            .take_while(|(at, _)| at.starts_with(&prefix))
            .map(|(at, _)| at.clone())
            .filter(|at| *at != path)
            .collect();
        // As parts, so that a directory comes right before what is in it, whatever its siblings are called.
        found.sort_by(|a, b| a.split('/').cmp(b.split('/')));
        found
    }

    /// The directory above a path, if it is one.
    pub(super) fn parent(&self, path: &str) -> PortResult<String> {
        let parent = parent(path);
        match self.nodes.get(parent).map(|node| &node.body) {
            Some(Body::Dir) => Ok(parent.to_owned()),
            Some(_) => Err(PortError::Refused(format!("{parent} is not a directory"))),
            None => Err(PortError::Refused(format!("{parent} does not exist"))),
        }
    }

    /// Puts a node at a path and marks the directory above as changed.
    pub(super) fn put(&mut self, path: &str, node: Node) {
        self.nodes.insert(path.to_owned(), node);
        self.touch(parent(path));
    }

    /// Takes a node away and marks the directory above as changed.
    pub(super) fn take(&mut self, path: &str) -> Option<Node> {
        let node = self.nodes.remove(path)?;
        self.touch(parent(path));
        Some(node)
    }

    fn touch(&mut self, dir: &str) {
        let now = self.now();
        if let Some(dir) = self.nodes.get_mut(dir) {
            dir.mtime_ns = now;
        }
    }

    pub(super) fn make_parents(&mut self, path: &str) {
        let parent = parent(path).to_owned();
        if !self.nodes.contains_key(&parent) {
            self.make_parents(&parent);
            let node = self.node(Body::Dir, 0o755);
            self.put(&parent, node);
        }
    }
}

fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((parent, _)) => parent,
    }
}

/// A path below `dir`, relative to it; empty for `dir` itself.
pub(super) fn relative<'a>(dir: &str, path: &'a str) -> &'a str {
    path.strip_prefix(dir).map_or(path, |rest| rest.trim_start_matches('/'))
}
