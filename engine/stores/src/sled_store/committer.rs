//! The thread that commits: takes what waits, checks it, applies it as one sled batch, flushes, syncs, then answers all.
//! The only writer of the journal. After an error it never writes again, and a failed sync is never repeated: the kernel may
//! have dropped the dirty pages, and a second sync would say that all is well.

use std::collections::HashMap;
use std::collections::btree_map::Entry;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::channel::oneshot;
use kedge_engine::mutants::bug;
use kedge_engine::store::{Batch, CommitError, Precondition, Write};

use super::disk::{Disk, is_full};
use super::durability::Durability;
use super::keys;
use super::queue::{CloseOnExit, Limits, Queue};
use super::view::{Change, Changes, View};
use super::vitals::{FailOnPanic, Vitals};

/// What one sync covers. The count bounds how long the first caller waits while others are checked, the bytes how long the
/// disk needs: a millisecond or two.
const GROUP: Limits = Limits { items: 512, bytes: 256 * 1024 };

/// A batch in line, and who waits for it.
pub(super) struct Request {
    pub(super) batch: Batch,
    pub(super) answer: Answer,
}

type Answer = oneshot::Sender<Result<(), CommitError>>;

pub(super) struct Committer {
    pub(super) db: sled::Db,
    /// sled's data file, opened by us: fsync works on the file, whoever wrote it, and errors are told to each handle.
    pub(super) db_file: File,
    pub(super) journal: PathBuf,
    pub(super) view: Arc<View>,
    pub(super) vitals: Arc<Vitals>,
    pub(super) disk: Arc<Disk>,
    pub(super) durability: Arc<dyn Durability>,
    pub(super) spilled: SpilledPages,
}

impl Request {
    /// Bytes it takes in memory, about.
    pub(super) fn size(&self) -> usize {
        let conditions = self.batch.preconditions.iter().map(|condition| match condition {
            Precondition::Absent(key) => key.len(),
            Precondition::Equals(key, value) => key.len() + value.len(),
        });
        let writes = self.batch.writes.iter().map(|write| match write {
            Write::Put(key, value) => key.len() + value.len(),
            Write::Delete(key) => key.len(),
        });
        conditions.sum::<usize>() + writes.sum::<usize>()
    }
}

impl Committer {
    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self, queue: &Queue<Request>) {
        let _closing = CloseOnExit(queue);
        while let Some(requests) = queue.take(GROUP) {
            self.vitals.commit_begins();
            self.commit(requests);
            self.vitals.commit_ends();
        }
    }

    fn commit(&mut self, requests: Vec<Request>) {
        // A local, so that it goes off before the requests are dropped and their callers look for the reason.
        let vitals = Arc::clone(&self.vitals);
        let _on_panic = FailOnPanic(&vitals);
        let mut group = Group::default();
        let result = match self.vitals.check() {
            Ok(()) => {
                self.carry_out(&mut group, &requests).map_err(|(doing, error)| self.fail(doing, &error))
            }
            failed => failed,
        };
        if result.is_ok() {
            let conflicts = group.results.iter().filter(|result| result.is_err()).count();
            self.vitals.conflicts.add(conflicts);
            self.vitals.commits.add(group.results.len() - conflicts);
        } else {
            group.results = vec![result; requests.len()];
        }
        for (request, result) in requests.into_iter().zip(group.results) {
            // A caller that is gone needs no answer; its batch stands.
            let _ = request.answer.send(result);
        }
    }

    fn carry_out(
        &mut self,
        group: &mut Group,
        requests: &[Request],
    ) -> Result<(), (&'static str, io::Error)> {
        for request in requests {
            group.add(&request.batch, &self.view).map_err(|error| ("read from", error.into()))?;
        }
        if group.changes.is_empty() {
            return Ok(());
        }
        let batch = sled_batch(&group.changes);
        self.view.cover(std::mem::take(&mut group.changes));
        self.db.apply_batch(batch).map_err(|error| ("write to", error.into()))?;
        self.db.flush().map_err(|error| ("write to", error.into()))?;
        self.spilled.sync(&*self.durability, &self.vitals).map_err(|error| ("sync a page of", error))?;
        if !bug("ack-before-sync") {
            self.durability.sync_journal(&self.db_file).map_err(|error| ("sync", error))?;
        }
        self.vitals.groups.add(1);
        self.view.reveal();
        Ok(())
    }

    fn fail(&self, doing: &str, error: &io::Error) -> CommitError {
        let advice = self.disk.advice(error);
        // sled hands on a copy of an error of its threads, whose text is the debug form of the first one.
        let error = if is_full(error) { error.kind().to_string() } else { error.to_string() };
        self.vitals
            .fail(format!("cannot {doing} the journal in {}: {error}; {advice}", self.journal.display()))
    }
}

/// Batches that become durable together.
#[derive(Default)]
struct Group {
    changes: Changes,
    results: Vec<Result<(), CommitError>>,
}

impl Group {
    /// Adds a batch if its preconditions hold after the batches before it.
    fn add(&mut self, batch: &Batch, view: &View) -> sled::Result<()> {
        for condition in &batch.preconditions {
            let (key, wanted) = match condition {
                Precondition::Absent(key) => (key, None),
                Precondition::Equals(key, value) => (key, Some(value)),
            };
            let holds = match self.changes.get(key) {
                Some(change) => change.after.as_ref() == wanted,
                None => view.stored(key)?.as_ref() == wanted,
            };
            if !holds && !bug("conditions-ignored") {
                self.results.push(Err(CommitError::Conflict(String::from_utf8_lossy(key).into_owned())));
                return Ok(());
            }
        }
        for write in &batch.writes {
            let (key, after) = match write {
                Write::Put(key, value) => (key, Some(value.clone())),
                Write::Delete(key) => (key, None),
            };
            match self.changes.entry(key.clone()) {
                Entry::Occupied(mut change) => change.get_mut().after = after,
                Entry::Vacant(change) => {
                    change.insert(Change { before: view.stored(key)?, after });
                }
            }
        }
        self.results.push(Ok(()));
        Ok(())
    }
}

fn sled_batch(changes: &Changes) -> sled::Batch {
    let mut batch = sled::Batch::default();
    for (key, change) in changes {
        match &change.after {
            Some(value) => batch.insert(&*keys::encode(key), value.as_slice()),
            None => batch.remove(&*keys::encode(key)),
        }
    }
    batch
}

/// Pages over 1 MiB: sled writes them into files of their own and never syncs those. Values of a few KiB hardly add up to such a
/// page, unless many of its neighbours are deleted and merged into it, so this folder is nearly always empty.
pub(super) struct SpilledPages {
    folder: PathBuf,
    /// Length of each file when it was synced: one that was still being written is longer the next time.
    synced: HashMap<OsString, u64>,
}

impl SpilledPages {
    pub(super) fn new(journal: &Path) -> Self {
        Self { folder: journal.join("blobs"), synced: HashMap::new() }
    }

    fn sync(&mut self, durability: &dyn Durability, vitals: &Vitals) -> io::Result<()> {
        let mut present = HashMap::new();
        let mut new = 0;
        for entry in self.folder.read_dir()? {
            let entry = entry?;
            // sled may remove a page's file at any time.
            let Some(file) = or_missing(File::open(entry.path()))? else { continue };
            let length = file.metadata()?.len();
            if self.synced.get(&entry.file_name()) != Some(&length) {
                durability.sync_file(&file)?;
                new += 1;
            }
            present.insert(entry.file_name(), length);
        }
        if new > 0 {
            durability.sync_folder(&self.folder)?;
            vitals.spilled_pages.add(new);
        }
        self.synced = present;
        Ok(())
    }
}

fn or_missing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
