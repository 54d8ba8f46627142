//! Blobs as files named by their SHA-256: written beside, synced, renamed, and the folder synced, all before the caller goes on.
//! On a thread of its own, since 64 MiB take a second to sync and the committer must not wait. It never looks into a blob.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::channel::oneshot;
use kedge_engine::store::{BlobId, CommitError, MAX_BLOB, MAX_CENSUS, ReadError};
use rustix::io::Errno;

use super::disk::{Disk, is_full};
use super::durability::Durability;
use super::queue::{CloseOnExit, Limits, Queue};
use super::vitals::{FailOnPanic, Vitals};

pub(super) struct BlobFolder {
    folder: PathBuf,
    temps: PathBuf,
    durability: Arc<dyn Durability>,
}

/// What the blob thread is asked to do.
pub(super) enum Job {
    Put { bytes: Vec<u8>, answer: oneshot::Sender<Result<BlobId, CommitError>> },
    Delete { id: BlobId, answer: oneshot::Sender<Result<(), CommitError>> },
    Census { answer: oneshot::Sender<Result<Vec<BlobId>, CommitError>> },
    RemoveUnused { unused: Vec<BlobId>, answer: oneshot::Sender<Result<u64, CommitError>> },
    MakeBallast,
    Probe,
}

pub(super) struct BlobThread {
    pub(super) blobs: Arc<BlobFolder>,
    pub(super) disk: Arc<Disk>,
    pub(super) vitals: Arc<Vitals>,
    /// Blobs stored since the last census, if one is being worked on.
    pub(super) stored: Option<BTreeSet<BlobId>>,
}

/// One job at a time: each ends with its own syncs, there is nothing to gather.
const ONE: Limits = Limits { items: 1, bytes: usize::MAX };

impl BlobThread {
    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self, queue: &Queue<Job>) {
        let _closing = CloseOnExit(queue);
        while let Some(jobs) = queue.take(ONE) {
            for job in jobs {
                self.carry_out(job);
            }
        }
    }

    fn carry_out(&mut self, job: Job) {
        // An answer to a caller that is gone is not needed; the work is done all the same.
        match job {
            Job::Put { bytes, answer } => {
                let result = self.write("store a blob", || self.blobs.put(&bytes));
                self.vitals.blobs_stored.add(usize::from(result.is_ok()));
                if let (Some(stored), Ok(id)) = (&mut self.stored, &result) {
                    stored.insert(id.clone());
                }
                let _ = answer.send(result);
            }
            Job::Delete { id, answer } => {
                let result = self.write("remove a blob", || self.blobs.delete(&id));
                self.vitals.blobs_removed.add(usize::from(result.is_ok()));
                let _ = answer.send(result);
            }
            Job::Census { answer } => {
                let result = self.write("list the blobs", || self.blobs.list());
                self.stored = result.is_ok().then(BTreeSet::new);
                let _ = answer.send(result);
            }
            Job::RemoveUnused { unused, answer } => {
                let result = self.remove_unused(unused);
                let _ = answer.send(result);
            }
            Job::MakeBallast => self.disk.make_ballast(),
            Job::Probe => {
                let tried = || match self.blobs.probe() {
                    // Nothing is lost yet. Little room is told by the free space, and the others are no fault of the disk.
                    Err(error) if is_full(&error) || is_want(&error) => {
                        tracing::warn!(%error, "the disk could not be tried");
                        Ok(())
                    }
                    tried => tried,
                };
                // Nobody waits: whoever asks for the store's health hears of it.
                let _ = self.write("write a test file", tried);
                self.vitals.probe_ends();
            }
        }
    }

    fn remove_unused(&mut self, mut unused: Vec<BlobId>) -> Result<u64, CommitError> {
        let Some(stored) = self.stored.take() else { return Ok(0) };
        unused.retain(|id| !stored.contains(id));
        let removed = self.write("remove a blob", || self.blobs.delete_all(&unused))?;
        self.vitals.blobs_removed.add(removed);
        Ok(removed as u64)
    }

    /// Does one thing in the blob folder. A full disk gets the ballast, and then a second try from the start; any other error,
    /// above all a failed sync, ends the store.
    fn write<T>(&self, doing: &str, work: impl Fn() -> io::Result<T>) -> Result<T, CommitError> {
        let _on_panic = FailOnPanic(&self.vitals);
        self.vitals.check()?;
        let result = match work() {
            Err(error) if is_full(&error) && self.disk.release_ballast() => work(),
            result => result,
        };
        result.map_err(|error| {
            let (folder, advice) = (self.blobs.folder.display(), self.disk.advice(&error));
            self.vitals.fail(format!("cannot {doing} in {folder}: {error}; {advice}"))
        })
    }
}

impl BlobFolder {
    /// Opens the folder, makes it when it is not there, and removes what a killed process was writing.
    pub(super) fn open(folder: PathBuf, durability: Arc<dyn Durability>) -> io::Result<Self> {
        let temps = folder.join("tmp");
        fs::create_dir_all(&temps)?;
        for stray in temps.read_dir()? {
            fs::remove_file(stray?.path())?;
        }
        // A killed process may have made a folder in here without syncing its name.
        durability.sync_folder(&folder)?;
        Ok(Self { folder, temps, durability })
    }

    fn put(&self, bytes: &[u8]) -> io::Result<BlobId> {
        let id = BlobId::of(bytes);
        let path = self.path(&id);
        let home = self.home(&id);
        if make_folder(&home)? {
            self.durability.sync_folder(&self.folder)?;
        }
        // A damaged copy is replaced, an intact one stays.
        if !matches!(fs::read(&path), Ok(found) if found == bytes) {
            let temp = self.temps.join(id.as_str());
            self.write_file(&temp, bytes).and_then(|()| fs::rename(&temp, &path)).inspect_err(|_| {
                // The error that counts is the first one; a temp that stays is removed at the next opening.
                let _ = fs::remove_file(&temp);
            })?;
        }
        // Also for a copy that was there: its process may have been killed between the rename and this.
        self.durability.sync_folder(&home)?;
        Ok(id)
    }

    fn write_file(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        self.durability.sync_file(&file)
    }

    /// Writes, syncs and removes a file: a disk that takes nothing any more says so.
    fn probe(&self) -> io::Result<()> {
        let temp = self.temps.join("probe");
        self.write_file(&temp, b"kedge")?;
        fs::remove_file(temp)
    }

    pub(super) fn get(&self, id: &BlobId) -> Result<Option<Vec<u8>>, ReadError> {
        let path = self.path(id);
        let io = |error: io::Error| ReadError::Io(format!("{}: {error}", path.display()));
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_BLOB as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() > MAX_BLOB || BlobId::of(&bytes) != *id {
            return Err(ReadError::Damaged(format!("blob {} does not match its hash", path.display())));
        }
        Ok(Some(bytes))
    }

    fn delete(&self, id: &BlobId) -> io::Result<()> {
        match fs::remove_file(self.path(id)) {
            Ok(()) => self.durability.sync_folder(&self.home(id)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The blobs that are there, at most [`MAX_CENSUS`].
    fn list(&self) -> io::Result<Vec<BlobId>> {
        let mut found = Vec::new();
        for home in self.folder.read_dir()? {
            let home = home?.path();
            if home == self.temps || !home.is_dir() {
                continue;
            }
            for file in home.read_dir()? {
                // What has no blob's name is not ours to judge.
                let name = file?.file_name().into_string().unwrap_or_default();
                found.extend(BlobId::try_from(name).ok());
                if found.len() >= MAX_CENSUS {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }

    /// Removes many; their folders are synced once each: how many were there.
    fn delete_all(&self, ids: &[BlobId]) -> io::Result<usize> {
        let mut homes = BTreeSet::new();
        let mut removed = 0;
        for id in ids {
            match fs::remove_file(self.path(id)) {
                Ok(()) => {
                    homes.insert(self.home(id));
                    removed += 1;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        homes.iter().try_for_each(|home| self.durability.sync_folder(home))?;
        Ok(removed)
    }

    /// By the first two digits: 256 folders keep each small.
    fn home(&self, id: &BlobId) -> PathBuf {
        self.folder.join(&id.as_str()[..2])
    }

    fn path(&self, id: &BlobId) -> PathBuf {
        self.home(id).join(id.as_str())
    }
}

/// The process or the machine has no descriptor or memory to spare at the moment.
fn is_want(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
}

/// True when it was not there.
fn make_folder(folder: &Path) -> io::Result<bool> {
    match fs::create_dir(folder) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}
