//! Removes blobs that nothing names: what a process that died had stored and not yet committed, and what forgotten tasks have left.
//! Never one that is stored while it looks.

use std::collections::BTreeSet;

use super::Engine;
use crate::journal::Journal;
use crate::store::{BlobId, CommitError, ReadError};

/// The blobs of earlier lives, before anything of this one was stored. Finish it beside everything else.
#[must_use = "nothing is removed before it is finished"]
pub struct Sweep {
    journal: Journal,
    there: Vec<BlobId>,
}

impl<P: ?Sized + Send + Sync + 'static> Engine<P> {
    /// Counts the blobs. To be called before [`Engine::recover`]: while nothing runs, none waits for the batch that names it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn begin_sweep(&self) -> Result<Sweep, CommitError> {
        let journal = self.0.journal.clone();
        let there = journal.store().census().await?;
        Ok(Sweep { journal, there })
    }
}

impl Sweep {
    /// Removes those that nothing names: how many.
    ///
    /// # Errors
    /// When the journal cannot be read: then nothing is removed. When the store fails.
    pub async fn finish(self) -> Result<u64, CommitError> {
        let Self { journal, there } = self;
        let named = if there.is_empty() { BTreeSet::new() } else { journal.named_blobs().map_err(unread)? };
        let unused = there.into_iter().filter(|blob| !named.contains(blob)).collect();
        journal.store().remove_unused(unused).await
    }
}

fn unread(error: ReadError) -> CommitError {
    CommitError::Conflict(format!("what the journal names: {error}"))
}
