//! Opening the store: lock, room, leftovers of a killed process, sled, syncs, threads, in an order that matters.
//! It never repairs a journal.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use thiserror::Error;

use super::blobs::{BlobFolder, BlobThread};
use super::committer::{Committer, SpilledPages};
use super::disk::{self, Disk};
use super::lock::{self, DataLock};
use super::queue::Queue;
use super::view::View;
use super::vitals::Vitals;
use super::{Options, SledStore, WAITING_BATCHES, WAITING_BLOBS};

/// Unit of sled's log, fixed for the life of a journal. Eight times sled's own choice, for two reasons: what sled writes for a
/// group of batches (`committer::GROUP`) stays well below it, so that a power cut cannot leave a later segment without the one
/// before even where writes do not go through (see [`write_through`]); and only pages above a quarter of it are put into files
/// that sled never syncs.
const SEGMENT_BYTES: usize = 4 * 1024 * 1024;

/// Why the store did not open.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has the folder open.
    #[error(
        "the data folder {} is in use by {}; stop that one first, or use another folder",
        folder.display(),
        holder.map_or("another process".to_owned(), |pid| format!("process {pid}"))
    )]
    InUse {
        /// The data folder.
        folder: PathBuf,
        /// The process that holds it, when it says so.
        holder: Option<u32>,
    },
    /// There is no room to open the journal, and no ballast left to release. Trying again later can help.
    #[error("the disk of {} is full, so the journal in it cannot be opened: make room there, then start Kedge again", folder.display())]
    DiskFull {
        /// The data folder.
        folder: PathBuf,
        /// What sled or the system said.
        #[source]
        source: io::Error,
    },
    /// sled refuses the journal.
    #[error("cannot open the journal {}: do not delete it; keep a copy of the folder, then restore an export", folder.display())]
    Journal {
        /// sled's folder.
        folder: PathBuf,
        /// What sled said.
        #[source]
        source: sled::Error,
    },
    /// A file or folder of the store cannot be used.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl OpenError {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> Self + Copy {
        move |source| match disk::is_full(&source) {
            true => Self::DiskFull { folder: path.to_owned(), source },
            false => Self::Io { doing, path: path.to_owned(), source },
        }
    }
}

pub(super) fn open(folder: &Path, options: Options) -> Result<SledStore, OpenError> {
    let started = Instant::now();
    make_private_folder(folder)?;
    let lock = DataLock::take(folder)?;
    disk::warn_about_file_system(folder).map_err(OpenError::io("look at", folder))?;
    let disk = Arc::new(Disk::new(folder, options.free_floor_bytes, options.ballast_bytes));
    disk.release_ballast_if_tight().map_err(OpenError::io("look at", folder))?;

    let journal = folder.join("journal");
    make_private_folder(&journal)?;
    remove_torn_snapshots(&journal, &options)?;
    lock::wait_for_sled(&journal)?;
    remove_torn_settings(&journal, &options)?;
    write_through(&journal)?;
    let db = open_sled(&journal, &options, &disk)?;
    let db_file = sync_sleds_files(&journal, &options)?;
    let blobs = folder.join("blobs");
    make_private_folder(&blobs)?;
    let durability = Arc::clone(&options.durability);
    let blobs = Arc::new(
        BlobFolder::open(blobs.clone(), Arc::clone(&durability)).map_err(OpenError::io("prepare", &blobs))?,
    );
    options.durability.sync_folder(folder).map_err(OpenError::io("sync", folder))?;

    let vitals = Arc::new(Vitals::default());
    let view = Arc::new(View::new(db.clone()));
    let commits = Arc::new(Queue::new(WAITING_BATCHES));
    let jobs = Arc::new(Queue::new(WAITING_BLOBS));
    let committer = Committer {
        db,
        db_file,
        spilled: SpilledPages::new(&journal),
        journal,
        view: Arc::clone(&view),
        vitals: Arc::clone(&vitals),
        disk: Arc::clone(&disk),
        durability,
    };
    let blob_thread = BlobThread {
        blobs: Arc::clone(&blobs),
        disk: Arc::clone(&disk),
        vitals: Arc::clone(&vitals),
        stored: None,
    };
    let mut store = SledStore {
        commits: Arc::clone(&commits),
        jobs: Arc::clone(&jobs),
        threads: Vec::new(),
        blobs,
        disk,
        vitals,
        stall_after: options.stall_after,
        probe_after: options.probe_after,
        open_time: started.elapsed(),
        view,
        _lock: lock,
    };
    store.threads.push(start_thread("kedge-journal", folder, move || committer.run(&commits))?);
    store.threads.push(start_thread("kedge-blobs", folder, move || blob_thread.run(&jobs))?);
    store.ask_for_ballast();
    Ok(store)
}

/// Only its owner may look in: the journal names sites, databases and people.
fn make_private_folder(folder: &Path) -> Result<(), OpenError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(OpenError::io("make the folder", folder))
}

/// sled writes a snapshot under this name first, and takes a half-written one for the newest: it would never open again.
fn remove_torn_snapshots(journal: &Path, options: &Options) -> Result<(), OpenError> {
    let mut found = false;
    for entry in journal.read_dir().map_err(OpenError::io("read", journal))? {
        let path = entry.map_err(OpenError::io("read", journal))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            tracing::warn!(path = %path.display(), "removing a snapshot that a killed process left unfinished");
            fs::remove_file(&path).map_err(OpenError::io("remove", &path))?;
            found = true;
        }
    }
    if found {
        options.durability.sync_folder(journal).map_err(OpenError::io("sync", journal))?;
    }
    Ok(())
}

/// sled writes its settings in two pieces before it stores anything, and opens no journal in which the second one is missing. As long as
/// nothing is stored, they can be written anew.
fn remove_torn_settings(journal: &Path, options: &Options) -> Result<(), OpenError> {
    let (data, settings) = (journal.join("db"), journal.join("conf"));
    let stored = match fs::metadata(&data) {
        Ok(data) => data.len() > 0,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(OpenError::io("look at", &data)(error)),
    };
    if stored {
        return Ok(());
    }
    match fs::remove_file(&settings) {
        Ok(()) => options.durability.sync_folder(journal).map_err(OpenError::io("sync", journal)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(OpenError::io("remove", &settings)(error)),
    }
}

/// sled orders its writes, but its own syncs do not reach the disk (sync_file_range), and ours come after a whole group. A power
/// cut in the middle of a group of some hundred KiB could then leave a later segment without an earlier one, and sled, which
/// takes what a later segment says for granted, loses the journal. So each of its writes goes through to the disk.
fn write_through(journal: &Path) -> Result<(), OpenError> {
    let (data, spilled) = (journal.join("db"), journal.join("blobs"));
    make_private_folder(&spilled)?;
    // Not truncated: it may be there, and if not, sled takes an empty file for a new one.
    let made = OpenOptions::new().create(true).append(true).open(&data);
    made.map_err(OpenError::io("make", &data))?;
    for path in [journal, &data, &spilled] {
        if !disk::write_through(path).map_err(OpenError::io("set the sync flag of", path))? {
            tracing::warn!(
                path = %path.display(),
                "this file system cannot write through (chattr +S): a power cut during a large write may lose the journal"
            );
            break;
        }
    }
    Ok(())
}

fn open_sled(journal: &Path, options: &Options, disk: &Disk) -> Result<sled::Db, OpenError> {
    let config = || {
        sled::Config::new()
            .path(journal)
            .mode(sled::Mode::LowSpace)
            .cache_capacity(options.cache_bytes)
            .flush_every_ms(Some(1000)) // its thread is also the one that collects garbage
            .use_compression(false)
            .segment_size(SEGMENT_BYTES)
    };
    // On some damage sled panics instead.
    let open = || {
        std::panic::catch_unwind(AssertUnwindSafe(|| config().open())).unwrap_or_else(|_| {
            Err(sled::Error::ReportableBug(
                "it panicked while reading its files (its words are in the log)".to_owned(),
            ))
        })
    };
    let full = |error: &sled::Error| matches!(error, sled::Error::Io(error) if disk::is_full(error));
    let result = match open() {
        Err(error) if full(&error) && disk.release_ballast() => {
            tracing::warn!("the disk of {} is full; the ballast was released to open it", journal.display());
            open()
        }
        result => result,
    };
    result.map_err(|error| match error {
        sled::Error::Io(source) if disk::is_full(&source) => {
            OpenError::DiskFull { folder: journal.to_owned(), source }
        }
        source => OpenError::Journal { folder: journal.to_owned(), source },
    })
}

/// sled syncs neither its settings nor the names of its files. Returns our own handle on its data file.
fn sync_sleds_files(journal: &Path, options: &Options) -> Result<File, OpenError> {
    let sync = |name: &str| {
        let path = journal.join(name);
        let file = File::open(&path).map_err(OpenError::io("open", &path))?;
        options.durability.sync_file(&file).map_err(OpenError::io("sync", &path))?;
        Ok(file)
    };
    sync("conf")?;
    let db_file = sync("db")?;
    options.durability.sync_folder(journal).map_err(OpenError::io("sync", journal))?;
    Ok(db_file)
}

fn start_thread(
    name: &str,
    folder: &Path,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, OpenError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(OpenError::io("start a thread for", folder))
}
