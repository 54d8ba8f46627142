//! The files of several hosts as those of one. Reads ask the first host. What is below a stage is built there, and is the same on every
//! host before it leaves the stage; everything else is done on every host.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Member, spread, there};
use crate::place::STAGE;
use crate::ports::{
    Access, AccessRule, AccessWas, ByteStream, CopyOptions, CopyReport, Files, Fingerprint, FixReport, Free,
    PortError, PortResult, SavedFile, Stat, Usage, WrongAccess,
};

/// What stands between a host's name and a path, where only one of them has a name for it.
const OF: &str = ": ";

/// Whether this is still being built: on the first host only.
fn staged(path: &str) -> bool {
    path.contains(STAGE)
}

/// Only root looks into it: what is kept may have passwords.
fn roots_own() -> Access {
    Access { mode: 0o700, user: Some("root".to_owned()), group: Some("root".to_owned()) }
}

/// The files of a cluster.
pub struct ClusterFiles {
    first: Arc<dyn Files>,
    others: Vec<Member<Arc<dyn Files>>>,
}

impl ClusterFiles {
    /// The files of these hosts.
    #[must_use]
    pub fn new(first: Arc<dyn Files>, others: Vec<Member<Arc<dyn Files>>>) -> Self {
        Self { first, others }
    }

    /// The others where a path is theirs too.
    fn others(&self, path: &str) -> &[Member<Arc<dyn Files>>] {
        if staged(path) { &[] } else { &self.others }
    }

    /// The others, and the first one last: what it has, all have.
    fn all(&self, path: &str) -> impl Iterator<Item = &dyn Files> {
        self.others(path).iter().map(|other| &*other.port).chain(std::iter::once(&*self.first))
    }
}

#[async_trait]
impl Files for ClusterFiles {
    /// What is there on the first host that has anything: free is only what is free on all.
    async fn stat(&self, path: &str) -> PortResult<Option<Stat>> {
        if let Some(stat) = self.first.stat(path).await? {
            return Ok(Some(stat));
        }
        for other in &self.others {
            if let Some(stat) = other.port.stat(path).await? {
                return Ok(Some(stat));
            }
        }
        Ok(None)
    }

    async fn list(&self, dir: &str) -> PortResult<Vec<String>> {
        self.first.list(dir).await
    }

    async fn usage(&self, dir: &str) -> PortResult<Usage> {
        self.first.usage(dir).await
    }

    async fn find(&self, dir: &str, name: &str, limit: usize) -> PortResult<Vec<String>> {
        self.first.find(dir, name, limit).await
    }

    /// The least of all.
    async fn free(&self, path: &str) -> PortResult<Free> {
        let mut free = self.first.free(path).await?;
        for other in &self.others {
            let theirs = other.port.free(path).await?;
            free.bytes = free.bytes.min(theirs.bytes);
            free.writable &= theirs.writable;
            free.inodes = match (free.inodes, theirs.inodes) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        Ok(free)
    }

    async fn make_dir(&self, path: &str, access: &Access, parents: bool) -> PortResult<()> {
        for files in self.all(path) {
            files.make_dir(path, access, parents).await?;
        }
        Ok(())
    }

    /// On the first host first: what it has is whole on all.
    async fn remove_tree(&self, path: &str, within: &str) -> PortResult<()> {
        self.first.remove_tree(path, within).await?;
        for other in &self.others {
            other.port.remove_tree(path, within).await?;
        }
        Ok(())
    }

    /// What leaves the stage is made the same on each host first. A host on which it has happened already is left alone, so that an attempt
    /// that was cut off half-way can be made again; and so is a host that has nothing to move, as it is new in the cluster.
    async fn rename(&self, from: &str, to: &str) -> PortResult<()> {
        for other in &self.others {
            let files = &*other.port;
            let (waits, there) = files.moved(from, to).await?;
            if there && !waits {
                continue;
            }
            if staged(from) && !staged(to) {
                let (within, _) = from.rsplit_once('/').unwrap_or_default();
                spread::spread(&*self.first, other, from, within).await?;
            } else if !waits {
                continue;
            }
            files.rename(from, to).await?;
        }
        match self.first.moved(from, to).await? {
            (false, true) => Ok(()),
            _ => self.first.rename(from, to).await,
        }
    }

    async fn moved(&self, from: &str, to: &str) -> PortResult<(bool, bool)> {
        self.first.moved(from, to).await
    }

    /// On each host where it has happened: the others may have nothing at either place yet.
    async fn move_back(&self, from: &str, to: &str) -> PortResult<()> {
        for other in &self.others {
            if other.port.stat(to).await?.is_some() {
                other.port.move_back(from, to).await?;
            }
        }
        self.first.move_back(from, to).await
    }

    async fn copy_tree(&self, from: &str, to: &str, options: &CopyOptions) -> PortResult<CopyReport> {
        self.first.copy_tree(from, to, options).await
    }

    async fn spread(&self, dir: &str, within: &str) -> PortResult<()> {
        for other in &self.others {
            spread::spread(&*self.first, other, dir, within).await?;
        }
        Ok(())
    }

    async fn hosts_without(&self, path: &str) -> PortResult<Vec<String>> {
        let mut hosts = Vec::new();
        for other in &self.others {
            if other.port.stat(path).await?.is_none() {
                hosts.push(other.host.clone());
            }
        }
        Ok(hosts)
    }

    async fn give(&self, dir: &str, within: &str, hosts: &[String]) -> PortResult<()> {
        for other in self.others.iter().filter(|other| hosts.contains(&other.host)) {
            spread::spread(&*self.first, other, dir, within).await?;
        }
        Ok(())
    }

    async fn take_away(&self, dir: &str, within: &str, hosts: &[String]) -> PortResult<()> {
        for other in self.others.iter().filter(|other| hosts.contains(&other.host)) {
            other.port.remove_tree(dir, within).await?;
        }
        Ok(())
    }

    async fn strays(&self, dir: &str, limit: usize, contents: bool) -> PortResult<(Vec<String>, usize)> {
        let ours = spread::told(&*self.first, dir, contents).await?;
        let (mut names, mut count) = (Vec::new(), 0);
        for other in &self.others {
            for path in spread::strays(&ours, &spread::told(&*other.port, dir, contents).await?) {
                count += 1;
                if names.len() < limit {
                    names.push([&other.host, OF, path].concat());
                }
            }
        }
        Ok((names, count))
    }

    async fn pack(&self, dir: &str, exclude: &[String]) -> PortResult<ByteStream> {
        self.first.pack(dir, exclude).await
    }

    async fn unpack(&self, dir: &str, tar: ByteStream) -> PortResult<()> {
        self.first.unpack(dir, tar).await
    }

    /// The first host's file, with what the others have in its place.
    async fn read(&self, path: &str) -> PortResult<Option<SavedFile>> {
        let Some(mut file) = self.first.read(path).await? else { return Ok(None) };
        for other in &self.others {
            file.elsewhere.insert(other.host.clone(), other.port.read(path).await?);
        }
        Ok(Some(file))
    }

    /// A host that lacks the file gets it, whatever is expected of the others: it is new in the cluster.
    async fn put(&self, path: &str, bytes: &[u8], access: &Access, expected: Option<&str>) -> PortResult<()> {
        for other in self.others(path) {
            match other.port.put(path, bytes, access, expected).await {
                Err(PortError::NotOurs(_)) if other.port.stat(path).await?.is_none() => {
                    other.port.put(path, bytes, access, None).await?;
                }
                put => put?,
            }
        }
        self.first.put(path, bytes, access, expected).await
    }

    async fn restore(&self, path: &str, saved: Option<&SavedFile>, ours: &[String]) -> PortResult<()> {
        // A copy that is kept in a stage to be put back from there: each host keeps its own.
        let kept = saved.is_some_and(|saved| !saved.elsewhere.is_empty());
        for other in if kept { &self.others } else { self.others(path) } {
            let theirs = there(saved, &other.host);
            if staged(path) && theirs.is_some() {
                let (dir, _) = path.rsplit_once('/').unwrap_or_default();
                other.port.make_dir(dir, &roots_own(), true).await?;
            }
            other.port.restore(path, theirs, ours).await?;
        }
        self.first.restore(path, saved, ours).await
    }

    async fn fix_access(&self, dir: &str, rules: &[AccessRule]) -> PortResult<FixReport> {
        let mut all = FixReport::default();
        for files in self.all(dir) {
            let report = files.fix_access(dir, rules).await?;
            all.checked += report.checked;
            all.changed += report.changed;
        }
        Ok(all)
    }

    /// Entries of the others carry their host's name: `web2: wp-content/x`. A host that is new in the cluster has nothing to look at.
    async fn wrong_access(&self, dir: &str, rules: &[AccessRule], limit: usize) -> PortResult<WrongAccess> {
        let mut all = self.first.wrong_access(dir, rules, limit).await?;
        for other in self.others(dir) {
            if other.port.stat(dir).await?.is_none() {
                continue;
            }
            let theirs = other.port.wrong_access(dir, rules, limit.saturating_sub(all.entries.len())).await?;
            all.checked += theirs.checked;
            all.wrong += theirs.wrong;
            let named =
                |entry: AccessWas| AccessWas { path: [&other.host, OF, &entry.path].concat(), ..entry };
            all.entries.extend(theirs.entries.into_iter().map(named));
        }
        Ok(all)
    }

    async fn set_access(&self, dir: &str, entries: &[AccessWas]) -> PortResult<()> {
        let mut of_host: BTreeMap<&str, Vec<AccessWas>> = BTreeMap::new();
        for entry in entries {
            let theirs = self.others.iter().find_map(|other| {
                let path = entry.path.strip_prefix(other.host.as_str())?.strip_prefix(OF)?;
                Some((other.host.as_str(), path))
            });
            let (host, path) = theirs.unwrap_or(("", &entry.path));
            of_host.entry(host).or_default().push(AccessWas { path: path.to_owned(), ..entry.clone() });
        }
        for other in &self.others {
            if let Some(entries) = of_host.get(other.host.as_str()) {
                other.port.set_access(dir, entries).await?;
            }
        }
        match of_host.get("") {
            Some(entries) => self.first.set_access(dir, entries).await,
            None => Ok(()),
        }
    }

    /// Of all hosts: an entry of the others carries its host's name.
    async fn fingerprint(&self, dir: &str, full: bool, hashed: &[String]) -> PortResult<Fingerprint> {
        let mut entries = self.first.fingerprint(dir, full, hashed).await?.entries;
        for other in &self.others {
            let theirs = other.port.fingerprint(dir, full, hashed).await?.entries;
            entries.extend(theirs.into_iter().map(|(key, told)| ([&other.host, OF, &key].concat(), told)));
        }
        Ok(Fingerprint::of(entries))
    }
}
