//! Which blobs the journal names: what a sweep keeps. Reads only.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{Journal, PAGE, Place, decode, keys, pack};
use crate::event::Event;
use crate::executor::body_blob;
use crate::store::{BlobId, ReadError};

/// Stands in every record of a fingerprint, and in few others: only those are decoded.
const LISTING: &[u8] = b"\"fingerprint_taken\"";

/// The one field of an archive's place in the index that matters here; what cannot be read keeps nothing and is fsck's to tell.
#[derive(Deserialize)]
struct Named {
    blob: BlobId,
}

impl Journal {
    /// Every blob that something in the journal names. The listings behind the fingerprints of archived tasks are not among them: what
    /// they had to say stands in the task's end.
    ///
    /// # Errors
    /// When the store cannot be read: then nothing may be removed.
    pub fn named_blobs(&self) -> Result<BTreeSet<BlobId>, ReadError> {
        let mut named = BTreeSet::new();
        self.each(keys::EVENTS, |_, value| {
            named.extend(Place::blob(&value));
            // A large record in parts is a plan or an output, not a fingerprint. What does not unpack is fsck's to tell.
            let Ok(value) = pack::unpack(value) else { return };
            if value.windows(LISTING.len()).any(|window| window == LISTING)
                && let Ok(record) = decode(&value)
                && let Event::FingerprintTaken { listing, .. } = record.event
            {
                named.insert(listing);
            }
        })?;
        self.each(keys::ARCHIVED, |_, value| {
            named.extend(serde_json::from_slice(&value).ok().map(|Named { blob }| blob));
        })?;
        self.each(keys::CALLBACKS, |_, value| named.extend(body_blob(&value)))?;
        Ok(named)
    }

    /// Shows every pair of a family.
    pub(crate) fn each(&self, prefix: &[u8], mut see: impl FnMut(Vec<u8>, Vec<u8>)) -> Result<(), ReadError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.store.scan(prefix, after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            page.into_iter().for_each(|(key, value)| see(key, value));
        }
    }
}
