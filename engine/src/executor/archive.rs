//! Archives what has ended: looks for old finished tasks and has the journal pack them. Never touches a task that is open.

use super::Inner;
use crate::journal::archive::ArchiveError;
use crate::journal::keys;
use crate::store::ReadError;
use crate::task::{Millis, TaskId};

/// Heads read at a time.
const PAGE: usize = 256;

impl<P: ?Sized + Send + Sync + 'static> Inner<P> {
    /// Packs tasks accepted before `before` that have ended, at most `limit`.
    pub(super) async fn archive(&self, before: Millis, limit: usize) -> Result<usize, ReadError> {
        let (mut after, mut packed): (Option<Vec<u8>>, usize) = (None, 0);
        loop {
            let page = self.journal.store().scan(keys::HEADS, after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(packed) };
            after = Some(last.clone());
            for (key, _) in &page {
                let text = String::from_utf8_lossy(&key[keys::HEADS.len()..]).into_owned();
                let Ok(task) = TaskId::try_from(text) else { continue };
                let old = matches!(self.journal.head(&task), Ok(Some((head, _)))
                    if head.state.is_final() && head.created_at < before);
                if !old || self.live(&task).is_some() {
                    continue;
                }
                match self.journal.archive(&task).await {
                    Ok(done) => packed += usize::from(done),
                    Err(ArchiveError::Write(error)) => {
                        // The store itself has a say in whether the service can go on.
                        tracing::warn!(%task, %error, "not archived");
                        return Ok(packed);
                    }
                    Err(ArchiveError::Journal(error)) => tracing::warn!(%task, %error, "not archived"),
                }
                if packed >= limit {
                    return Ok(packed);
                }
            }
        }
    }
}
