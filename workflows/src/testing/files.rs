//! The files of a host in memory. Long calls pass a point in the middle too, so that a world can stop with half a copy done.

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;

use super::Faults;
use super::disk::{Body, Disk, FakeDisk, Node, relative};
use super::file_nodes::{
    DEVICE, behind_link, checked, checked_relative, copy_node, covered, fix, hash_at, is_dir, member, place,
    saved, seen, set_access, sha256, stat, time_of, unpack_member, usage,
};
use super::tar::{tar_archive, tar_members};
use crate::ports::{
    Access, AccessRule, AccessWas, ByteStream, CopyOptions, CopyReport, Files, Fingerprint, FixReport, Free,
    PortError, PortResult, SavedFile, Stat, Usage, WrongAccess,
};

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

    /// Modes and owners are of a directory that is there.
    fn demand_dir(&self, dir: &str) -> PortResult<()> {
        if is_dir(&self.disk.lock(), dir)? {
            return Ok(());
        }
        Err(PortError::Refused(format!("{dir} does not exist")))
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

/// What a file is called, beside its place, until it is whole.
fn beside(path: &str) -> String {
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    format!("{above}/.{name}.new")
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

    async fn find(&self, dir: &str, name: &str, limit: usize) -> PortResult<Vec<String>> {
        self.look("files.find", dir, |disk| {
            let file = |at: &String| matches!(disk.nodes.get(at)?.body, Body::File(_)).then_some(());
            let named = |at: &String| at.rsplit('/').next() == Some(name) && file(at).is_some();
            let below = disk.below(dir).into_iter().filter(named);
            let mut found: Vec<String> = below.map(|at| relative(dir, &at).to_owned()).collect();
            found.sort();
            found.truncate(limit);
            Ok(found)
        })
    }

    async fn free(&self, path: &str) -> PortResult<Free> {
        self.look("files.free", path, |disk| {
            Ok(Free { bytes: disk.free, inodes: None, device: DEVICE, writable: true })
        })
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
                node.mtime_ns = time_of(member);
            }
        }
        drop(disk);
        self.faults.after("files.unpack", dir)
    }

    async fn read(&self, path: &str) -> PortResult<Option<SavedFile>> {
        self.look("files.read", path, |disk| disk.nodes.get(path).map(|node| saved(path, node)).transpose())
    }

    async fn put(&self, path: &str, bytes: &[u8], access: &Access, expected: Option<&str>) -> PortResult<()> {
        let beside = beside(path);
        let as_expected = |disk: &mut Disk| {
            disk.parent(path)?;
            let (there, new) = (hash_at(disk, path)?, sha256(bytes));
            if there.as_deref() != expected && there.as_deref() != Some(new.as_str()) {
                return Err(PortError::NotOurs(format!("{path} is not what it was")));
            }
            Ok(())
        };
        // Half of it is there for a moment, as on a real host; what was killed then goes with the next call.
        self.act("files.put_beside", path, |disk| {
            as_expected(disk)?;
            let half = disk.node(Body::File(Vec::new()), 0o600);
            disk.put(&beside, half);
            Ok(())
        })?;
        self.act("files.put", path, |disk| {
            disk.take(&beside);
            as_expected(disk)?;
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
            disk.take(&beside(path));
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
        self.demand_dir(dir)?;
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

    async fn wrong_access(&self, dir: &str, rules: &[AccessRule], limit: usize) -> PortResult<WrongAccess> {
        self.look("files.wrong_access", dir, |_| Ok(()))?;
        self.demand_dir(dir)?;
        // On a copy of the disk: what would change is what is wrong.
        let copy = self.disk.fork();
        let mut report = WrongAccess::default();
        for (at, node) in self.disk.snapshot(dir) {
            report.checked += 1;
            let rule = rules.iter().rev().find(|rule| covered(std::slice::from_ref(&rule.path), &at));
            let Some(rule) = rule.filter(|rule| fix(&mut copy.lock(), dir, &at, rule)) else { continue };
            report.wrong += 1;
            if report.entries.len() < limit {
                let path = if at.is_empty() { ".".to_owned() } else { at };
                let wanted = rule.told(node.body == Body::Dir);
                report.entries.push(AccessWas {
                    path,
                    mode: node.mode,
                    uid: node.uid,
                    gid: node.gid,
                    wanted,
                });
            }
        }
        Ok(report)
    }

    async fn set_access(&self, dir: &str, entries: &[AccessWas]) -> PortResult<()> {
        checked(dir)?;
        self.faults.before("files.set_access", dir)?;
        self.demand_dir(dir)?;
        self.act_on_each("files.set_access", dir, entries.to_vec(), |disk, entry| {
            let path = if entry.path == "." { dir.to_owned() } else { place(dir, &entry.path) };
            if let Some(node) = disk.nodes.get_mut(&path) {
                (node.mode, node.uid, node.gid) = (entry.mode, entry.uid, entry.gid);
            }
            Ok(())
        })?;
        self.faults.after("files.set_access", dir)
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
