//! The archive: the events of a finished task, packed into one blob, so that the journal that is written to stays small. Its head stays
//! where it was, as the index, and its history reads as before. It never packs what can still change.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use serde::{Deserialize, Serialize};

use super::{AppendError, Journal, JournalError, Place, damaged, keys};
use crate::store::{Batch, BlobId, CommitError, MAX_BLOB};
use crate::task::TaskId;

/// Rows removed in one batch.
const ROWS: usize = 1000;
/// Most bytes of a packed history when unpacked: more is left where it is, and not believed when it is read.
const MAX_UNPACKED: u64 = 1 << 30;

/// What stands in the index for the events of an archived task.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Packed {
    /// Where they are: each with its length before it, deflated.
    blob: BlobId,
    /// How many.
    events: u64,
}

/// Why a task could not be archived: it stays as it is.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ArchiveError {
    /// Its history does not read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The archive could not be written.
    #[error(transparent)]
    Write(#[from] AppendError),
}

impl From<CommitError> for ArchiveError {
    fn from(error: CommitError) -> Self {
        Self::Write(AppendError::Commit(error))
    }
}

impl From<crate::store::ReadError> for ArchiveError {
    fn from(error: crate::store::ReadError) -> Self {
        Self::Journal(JournalError::Read(error))
    }
}

impl Journal {
    /// Packs the events of a finished task. `false`: it is not finished, or was packed before; then only rows that a death in the
    /// middle has left are removed. The packed events are durable, and their place is in the index, before the first row goes.
    ///
    /// # Errors
    /// [`ArchiveError`]; whatever it was, the history reads as before.
    pub async fn archive(&self, task: &TaskId) -> Result<bool, ArchiveError> {
        if self.store.get(&keys::archived(task))?.is_some() {
            self.remove_rows(task).await?;
            return Ok(false);
        }
        let (records, head, head_bytes) = self.history(task)?;
        if !head.state.is_final() {
            return Ok(false);
        }
        let Some(packed) = self.pack(task)? else { return Ok(false) };
        let blob = self.store.put_blob(packed).await?;
        let entry = Packed { blob, events: records.len() as u64 };
        let entry = serde_json::to_vec(&entry).map_err(|error| AppendError::Encode(error.to_string()))?;
        let mut batch = Batch::new();
        batch.require_equals(keys::head(task), head_bytes);
        batch.put(keys::archived(task), entry);
        self.store.commit(batch).await?;
        self.remove_rows(task).await?;
        Ok(true)
    }

    /// The bytes of a task's events, from its rows; `None` when there is more than an archive may hold.
    fn pack(&self, task: &TaskId) -> Result<Option<Vec<u8>>, JournalError> {
        let failed = |error: std::io::Error| damaged(task, 0, format!("it cannot be packed: {error}"));
        let mut packer = DeflateEncoder::new(Vec::new(), Compression::default());
        let (mut sequence, mut unpacked) = (0, 0);
        loop {
            let from = (sequence > 0).then(|| keys::event(task, sequence));
            let page = self.store.scan(&keys::events(task), from.as_deref(), super::PAGE)?;
            if page.is_empty() {
                break;
            }
            for (_, value) in page {
                sequence += 1;
                let bytes = self.bytes(task, sequence, value)?;
                let length = u32::try_from(bytes.len())
                    .map_err(|_| damaged(task, sequence, "it is longer than 4 GiB".to_owned()))?;
                unpacked += u64::from(length);
                packer
                    .write_all(&length.to_be_bytes())
                    .and_then(|()| packer.write_all(&bytes))
                    .map_err(failed)?;
            }
        }
        let packed = packer.finish().map_err(failed)?;
        Ok((packed.len() <= MAX_BLOB && unpacked <= MAX_UNPACKED).then_some(packed))
    }

    /// Where an archived task's events are; `None` when it is not archived.
    pub(crate) fn packed_blob(&self, task: &TaskId) -> Result<Option<BlobId>, JournalError> {
        let Some(entry) = self.store.get(&keys::archived(task))? else { return Ok(None) };
        let entry: Packed = serde_json::from_slice(&entry)
            .map_err(|error| damaged(task, 0, format!("its archive: {error}")))?;
        Ok(Some(entry.blob))
    }

    /// The bytes of an archived task's events; `None` when it is not archived.
    pub(super) fn unpacked(&self, task: &TaskId) -> Result<Option<Vec<Vec<u8>>>, JournalError> {
        let Some(entry) = self.store.get(&keys::archived(task))? else { return Ok(None) };
        let bad = |why: String| damaged(task, 0, format!("its archive: {why}"));
        let entry: Packed = serde_json::from_slice(&entry).map_err(|error| bad(error.to_string()))?;
        let blob = self.store.get_blob(&entry.blob)?;
        let blob = blob.ok_or_else(|| bad(format!("the blob {:?} is missing", entry.blob)))?;
        let mut plain = Vec::new();
        let mut decoder = DeflateDecoder::new(blob.as_slice()).take(MAX_UNPACKED * 2);
        decoder.read_to_end(&mut plain).map_err(|error| bad(error.to_string()))?;
        let (mut events, mut rest) = (Vec::new(), plain.as_slice());
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            let (bytes, after) =
                after.split_at_checked(length).ok_or_else(|| bad("it is cut off".to_owned()))?;
            events.push(bytes.to_vec());
            rest = after;
        }
        if events.len() as u64 != entry.events || !rest.is_empty() {
            return Err(bad(format!("{} of its {} events are there", events.len(), entry.events)));
        }
        Ok(Some(events))
    }

    /// Removes the rows of an archived task's events, and the blobs that only they name.
    async fn remove_rows(&self, task: &TaskId) -> Result<(), ArchiveError> {
        for prefix in [keys::events(task), keys::parts_of_task(task)] {
            loop {
                let rows = self.store.scan(&prefix, None, ROWS)?;
                if rows.is_empty() {
                    break;
                }
                let mut batch = Batch::new();
                let mut blobs = Vec::new();
                for (key, value) in rows {
                    // A record names its task: no other one has the same bytes, and so the same blob.
                    if prefix.starts_with(keys::EVENTS) {
                        blobs.extend(Place::blob(&value));
                    }
                    batch.delete(key);
                }
                self.store.commit(batch).await?;
                for blob in blobs {
                    self.store.delete_blob(&blob).await?;
                }
            }
        }
        Ok(())
    }
}
