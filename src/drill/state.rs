//! The drill's own copy of Kedge's data: every point begins with the same journal, and the real one is left alone. Nobody else works on
//! the real one meanwhile: its lock is held.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use kedge_drivers::secrets::FileSecrets;
use kedge_engine::executor::fsck;
use kedge_engine::store::Store;
use kedge_stores::{Options, SledStore};

use crate::serve::{instance, make_dir};

/// What a copy does without: it is made anew, grows without end, or is the drill's own.
const LEFT_OUT: [&str; 5] = ["drill", "run", "logs", "ballast", "lock"];

/// What an interrupted drill needs to know.
const BEGUN: &str = "begun.json";

/// The drill's data.
pub(crate) struct State {
    dir: PathBuf,
    /// An archive that the task reads: every point begins with a copy of it.
    brings: Option<PathBuf>,
    /// Held, so that no service starts on the real data meanwhile.
    _real: SledStore,
}

impl State {
    /// Takes the real data's lock and makes the copy that every point begins with, or finds what an interrupted drill has left.
    ///
    /// # Errors
    /// When a service runs on the data, or files cannot be copied.
    pub(crate) fn open(data_dir: &Path) -> Result<(Self, bool)> {
        make_dir(data_dir)?;
        let journal = data_dir.join("journal");
        let dir = data_dir.join("drill");
        // Without it nothing was begun yet but a look.
        let interrupted = dir.join("data").exists() && dir.join(BEGUN).exists();
        let busy = "a drill needs the journal for itself: stop `kedge serve` on this data first";
        // Closed while it is copied: then its files are complete.
        {
            let store: Arc<dyn Store> =
                Arc::new(SledStore::open(&journal, Options::default()).context(busy)?);
            let open = fsck(store)?.open;
            // A life would take them up, beside the service that they belong to.
            ensure!(open == 0, "{open} tasks are unfinished: let `kedge serve` end them first");
        }
        if !interrupted {
            instance(data_dir)?;
            // Made here if it is not there yet: every life and the drill itself read with one key.
            FileSecrets::open(data_dir.join("secrets"))?;
            remove(&dir)?;
            make_dir(&dir)?;
            copy(data_dir, &dir.join("start"), &LEFT_OUT)?;
        }
        let real = SledStore::open(&journal, Options::default()).context(busy)?;
        Ok((Self { dir, brings: None, _real: real }, interrupted))
    }

    /// Where the lives' data is.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Where the lives' backups are.
    pub(crate) fn backups(&self) -> PathBuf {
        self.dir.join("backups")
    }

    /// Where it is written down what an interrupted drill needs.
    pub(crate) fn begun(&self) -> PathBuf {
        self.dir.join(BEGUN)
    }

    /// Where the lives' logs are.
    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("lives.log")
    }

    /// Begins every point with a copy of this archive.
    pub(crate) fn bring(&mut self, archive: PathBuf) {
        self.brings = Some(archive);
    }

    /// The archive's name.
    pub(crate) fn brought(&self) -> Option<String> {
        Some(self.brings.as_ref()?.file_name()?.to_string_lossy().into_owned())
    }

    /// The journal as it was at the start, and no backups but for what the task reads.
    ///
    /// # Errors
    /// When files cannot be copied.
    pub(crate) fn begin(&self) -> Result<()> {
        self.clear()?;
        if let (Some(archive), Some(name)) = (&self.brings, self.brought()) {
            make_dir(&self.backups())?;
            let copied = fs::copy(archive, self.backups().join(name));
            copied.with_context(|| format!("{} cannot be copied", archive.display()))?;
        }
        let new = self.dir.join("data.new");
        remove(&new)?;
        copy(&self.dir.join("start"), &new, &LEFT_OUT)?;
        fs::rename(&new, self.data()).context("the drill's copy cannot be put into its place")
    }

    /// What the last point has left, away: the world is as at the start.
    ///
    /// # Errors
    /// When files cannot be removed.
    pub(crate) fn clear(&self) -> Result<()> {
        remove(&self.data())?;
        remove(&self.backups())
    }

    /// Everything away.
    ///
    /// # Errors
    /// When files cannot be removed.
    pub(crate) fn remove(self) -> Result<()> {
        remove(&self.dir)
    }
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Copies a tree of our own files: modes kept, sockets and the like left out.
fn copy(from: &Path, to: &Path, left_out: &[&str]) -> Result<()> {
    let what = || format!("{} cannot be copied to {}", from.display(), to.display());
    make_dir(to)?;
    for entry in fs::read_dir(from).with_context(what)? {
        let entry = entry.with_context(what)?;
        let name = entry.file_name();
        if left_out.iter().any(|out| name == *out) {
            continue;
        }
        let kind = entry.file_type().with_context(what)?;
        if kind.is_dir() {
            copy(&entry.path(), &to.join(&name), left_out)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), to.join(&name)).with_context(what)?;
        }
    }
    Ok(())
}
