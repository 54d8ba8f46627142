//! The backup directory in memory. Keeps what archives really hold. A world that stops in the middle of a write leaves a partial
//! archive behind, as a killed process does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Faults;
use super::tar::{TarMember, tar_archive, tar_members};
use crate::ports::{
    BackupInfo, BackupRequest, Backups, ByteStream, Contents, OWN_MEMBERS, Origin, PortError, PortResult,
};

/// How a complete dump ends.
const TRAILER: &str = "-- Dump completed";

/// The fake. Clones share one directory.
#[derive(Clone)]
pub struct FakeBackups {
    faults: Faults,
    dir: Arc<Mutex<Dir>>,
}

#[derive(Clone)]
struct Dir {
    archives: BTreeMap<String, FakeArchive>,
    partial: BTreeSet<String>,
    free: u64,
}

/// An archive in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FakeArchive {
    /// The dump, if there is one.
    pub database: Option<Vec<u8>>,
    /// The site's members.
    pub files: Option<Vec<TarMember>>,
    /// What the manifest says.
    pub manifest: Value,
    /// What was told when it was written; differs from what is read back when it is damaged.
    pub info: BackupInfo,
}

impl FakeBackups {
    /// An empty directory with 1 TiB free.
    #[must_use]
    pub fn new(faults: Faults) -> Self {
        let dir = Dir { archives: BTreeMap::new(), partial: BTreeSet::new(), free: 1 << 40 };
        Self { faults, dir: Arc::new(Mutex::new(dir)) }
    }

    /// Another directory with the same archives.
    #[must_use]
    pub fn fork(&self, faults: Faults) -> Self {
        Self { faults, dir: Arc::new(Mutex::new(self.lock().clone())) }
    }

    /// Names of complete archives.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.lock().archives.keys().cloned().collect()
    }

    /// Names of archives that were begun and neither finished nor removed.
    #[must_use]
    pub fn partial(&self) -> Vec<String> {
        self.lock().partial.iter().cloned().collect()
    }

    /// An archive.
    #[must_use]
    pub fn archive(&self, name: &str) -> Option<FakeArchive> {
        self.lock().archives.get(name).cloned()
    }

    /// Gives an archive another name beside its own, as a person does who copies one into the directory.
    pub fn copy(&self, name: &str, to: &str) {
        let mut dir = self.lock();
        if let Some(mut archive) = dir.archives.get(name).cloned() {
            archive.info = info(to, archive.database.as_deref(), archive.files.as_deref(), &archive.manifest);
            dir.archives.insert(to.to_owned(), archive);
        }
    }

    /// Takes an archive away, as a person does who makes room.
    pub fn lose(&self, name: &str) {
        self.lock().archives.remove(name);
    }

    /// Damages an archive, as a disk does.
    pub fn damage(&self, name: &str) {
        if let Some(archive) = self.lock().archives.get_mut(name) {
            archive.database = Some(b"damaged".to_vec());
        }
    }

    /// Sets how much room there is.
    pub fn set_free(&self, bytes: u64) {
        self.lock().free = bytes;
    }

    fn there(&self, name: &str) -> PortResult<FakeArchive> {
        checked(name)?;
        self.archive(name).ok_or_else(|| PortError::Refused(format!("there is no archive {name}")))
    }

    fn lock(&self) -> MutexGuard<'_, Dir> {
        // A test that panicked elsewhere leaves nothing half done here.
        self.dir.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fill(&self, request: BackupRequest) -> PortResult<FakeArchive> {
        let name = request.name;
        let database = collect(request.database).await?;
        self.faults.before("backups.write.half", &name)?;
        let files = match collect(request.files).await? {
            Some(bytes) => {
                let broken = || PortError::Refused(format!("{name}: the files are not a whole tar stream"));
                let mut members = tar_members(&bytes).ok_or_else(broken)?;
                members.retain(|member| !OWN_MEMBERS.contains(&member.path.trim_start_matches("./")));
                Some(members)
            }
            None => None,
        };
        let info = info(&name, database.as_deref(), files.as_deref(), &request.manifest);
        if info.bytes > self.lock().free {
            return Err(PortError::NoSpace(format!("{name}: the backup directory is full")));
        }
        Ok(FakeArchive { database, files, manifest: request.manifest, info })
    }
}

#[async_trait]
impl Backups for FakeBackups {
    async fn write(&self, request: BackupRequest) -> PortResult<BackupInfo> {
        let name = request.name.clone();
        checked(&name)?;
        if !name.ends_with(request.compression.suffix()) {
            return Err(PortError::Refused(format!(
                "{name} does not end in {}",
                request.compression.suffix()
            )));
        }
        if !request.manifest.is_object() {
            return Err(PortError::Refused(format!("{name}: the manifest is not an object")));
        }
        self.faults.before("backups.write", &name)?;
        let task = request.manifest.get("task").cloned();
        if self
            .lock()
            .archives
            .get(&name)
            .is_some_and(|there| task.is_none() || there.manifest.get("task") != task.as_ref())
        {
            return Err(PortError::NotOurs(format!("{name} is there and not of this task")));
        }
        self.lock().partial.insert(name.clone());
        let filled = self.fill(request).await;
        if !self.faults.stopped() {
            self.lock().partial.remove(&name);
        }
        let archive = filled?;
        let info = archive.info.clone();
        self.lock().archives.insert(name.clone(), archive);
        self.faults.after("backups.write", &name)?;
        Ok(info)
    }

    async fn verify(&self, name: &str) -> PortResult<BackupInfo> {
        checked(name)?;
        self.faults.before("backups.verify", name)?;
        let absent = || PortError::Refused(format!("there is no archive {name}"));
        let archive = self.archive(name).ok_or_else(absent)?;
        let read = info(name, archive.database.as_deref(), archive.files.as_deref(), &archive.manifest);
        let complete = archive.database.is_none_or(|sql| {
            let end = String::from_utf8_lossy(&sql[sql.len().saturating_sub(256)..]).into_owned();
            end.trim_end().lines().last().is_some_and(|line| line.starts_with(TRAILER))
        });
        if read != archive.info || !complete {
            return Err(PortError::Refused(format!("{name} is damaged or its dump is cut off")));
        }
        Ok(read)
    }

    async fn remove(&self, name: &str, task: &str) -> PortResult<()> {
        checked(name)?;
        self.faults.before("backups.remove", name)?;
        let theirs = self.archive(name).is_some_and(|there| there.manifest["task"] != task);
        if theirs {
            return Err(PortError::NotOurs(format!("{name} is not of {task}")));
        }
        self.lock().archives.remove(name);
        self.lock().partial.remove(name);
        self.faults.after("backups.remove", name)
    }

    async fn stat(&self, name: &str) -> PortResult<Option<BackupInfo>> {
        checked(name)?;
        self.faults.before("backups.stat", name)?;
        Ok(self.archive(name).map(|archive| archive.info))
    }

    async fn size(&self, name: &str) -> PortResult<Option<u64>> {
        checked(name)?;
        self.faults.before("backups.size", name)?;
        Ok(self.archive(name).map(|archive| archive.info.bytes))
    }

    async fn contents(&self, name: &str) -> PortResult<Contents> {
        let info = self.verify(name).await?;
        let archive = self.there(name)?;
        let made = |sql: &Vec<u8>| {
            String::from_utf8_lossy(sql).lines().filter(|line| line.starts_with("CREATE TABLE `")).count()
                as u64
        };
        Ok(Contents {
            info,
            tables: archive.database.as_ref().map(made),
            database: archive.database.is_some(),
            files: archive.files.is_some(),
            origin: Origin::of(&archive.manifest),
        })
    }

    async fn database(&self, name: &str) -> PortResult<ByteStream> {
        self.faults.before("backups.database", name)?;
        let sql = self.there(name)?.database;
        Ok(pieces(&sql.ok_or_else(|| PortError::Refused(format!("{name} has no dump")))?))
    }

    async fn files(&self, name: &str) -> PortResult<ByteStream> {
        self.faults.before("backups.files", name)?;
        let members = self.there(name)?.files;
        Ok(pieces(&tar_archive(&members.ok_or_else(|| PortError::Refused(format!("{name} has no files")))?)))
    }

    async fn free_bytes(&self) -> PortResult<u64> {
        self.faults.before("backups.free_bytes", "")?;
        Ok(self.lock().free)
    }
}

fn checked(name: &str) -> PortResult<()> {
    let known = [".tar", ".tar.gz", ".tar.zst"].iter().any(|suffix| name.ends_with(suffix));
    if known && !name.starts_with('.') && !name.contains(['/', '\0']) {
        return Ok(());
    }
    Err(PortError::Refused(format!("{name:?} is not the name of an archive")))
}

fn pieces(bytes: &[u8]) -> ByteStream {
    let pieces: Vec<_> = bytes.chunks(4096).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    Box::pin(futures::stream::iter(pieces))
}

async fn collect(stream: Option<ByteStream>) -> PortResult<Option<Vec<u8>>> {
    let Some(mut stream) = stream else { return Ok(None) };
    let mut all = Vec::new();
    while let Some(piece) = stream.next().await {
        all.extend_from_slice(&piece?);
    }
    Ok(Some(all))
}

fn info(name: &str, database: Option<&[u8]>, files: Option<&[TarMember]>, manifest: &Value) -> BackupInfo {
    let whole = format!("{database:?} {files:?} {manifest}");
    BackupInfo {
        name: name.to_owned(),
        bytes: whole.len() as u64,
        sha256: hex::encode(Sha256::digest(&whole)),
        members: files.map_or(0, <[_]>::len) as u64 + u64::from(database.is_some()) + 1,
        database_bytes: database.map_or(0, <[_]>::len) as u64,
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::testing::backups_contract;

    #[test]
    fn the_fake_keeps_the_contract() {
        let backups = FakeBackups::new(Faults::new());
        backups_contract(&backups).now_or_never().expect("fakes never wait");
        assert_eq!((backups.names(), backups.partial()), (Vec::new(), Vec::new()));
    }

    #[test]
    fn a_stopped_world_leaves_a_partial_archive() {
        let faults = Faults::new();
        let backups = FakeBackups::new(faults.clone());
        faults.stop_at(1);
        let request = BackupRequest {
            name: "a.tar".into(),
            compression: crate::ports::Compression::None,
            database: None,
            files: None,
            manifest: serde_json::json!({}),
        };
        let written = backups.write(request).now_or_never().expect("fakes never wait");
        assert!(matches!(written, Err(PortError::Lost(_))));
        assert_eq!((backups.names().len(), backups.partial()), (0, vec!["a.tar".to_owned()]));
    }
}
