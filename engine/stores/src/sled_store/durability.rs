//! The calls that make data durable, as a seam: tests see them, delay them and make them fail. It never writes anything.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::path::Path;

/// What the store calls before it acknowledges. Every method returns only when the data would survive a power cut.
pub trait Durability: Debug + Send + Sync + 'static {
    /// Syncs the journal's data file: once per group of batches, just before they are acknowledged.
    ///
    /// # Errors
    /// The store fails for good: after a failed sync the kernel may already have dropped what was not written.
    fn sync_journal(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    /// Syncs any other file, with its length.
    ///
    /// # Errors
    /// As for the journal.
    fn sync_file(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    /// Syncs the names in a folder: what was created, renamed or removed there.
    ///
    /// # Errors
    /// As for the journal.
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }
}

/// The disk as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDurability;

impl Durability for RealDurability {}
