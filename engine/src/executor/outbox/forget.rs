//! Callbacks that nothing needs any more: forgotten whole, and never one that is due. Decides nothing about tasks.

use super::{Callback, CallbackStatus, StoreOutbox, Stored};
use crate::journal::keys;
use crate::store::{Batch, CommitError, MAX_BATCH, ReadError};

/// Most deliveries removed with their callback, in one batch: far more than anybody makes by replays.
const FORGOTTEN: usize = MAX_BATCH / 4;
/// Places in the queue looked at together for callbacks that are gone.
const PAGE: usize = 256;

impl StoreOutbox {
    /// Forgets a callback and its deliveries. `false`: it is due, perhaps only since somebody looked, or does not read, and stays.
    pub(in crate::executor) async fn forget(&self, id: &str) -> Result<bool, CommitError> {
        let failed = |error: ReadError| CommitError::Failed(error.to_string());
        let Some(bytes) = self.store.get(&keys::callback(id)).map_err(failed)? else { return Ok(true) };
        let Ok(stored) = serde_json::from_slice::<Stored>(&bytes) else { return Ok(false) };
        if let CallbackStatus::Due { .. } = stored.callback.status {
            return Ok(false);
        }
        let mut batch = Batch::new();
        batch.require_equals(keys::callback(id), bytes);
        for (key, _) in self.store.scan(&keys::deliveries(id), None, FORGOTTEN).map_err(failed)? {
            batch.delete(key);
        }
        let Callback { task, endpoint, .. } = &stored.callback;
        for of in [keys::callbacks_of_task(task), keys::callbacks_to(endpoint)] {
            batch.delete([&of, id.as_bytes()].concat());
        }
        batch.delete(keys::callback(id));
        match self.store.commit(batch).await {
            Ok(()) => Ok(true),
            Err(CommitError::Conflict(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes the places in the queue of callbacks that are not there any more: they would be looked for at every turn. A place and its
    /// callback are written in one batch.
    pub(in crate::executor) async fn drop_lost(&self) -> Result<(), CommitError> {
        let failed = |error: ReadError| CommitError::Conflict(error.to_string());
        let mut after: Option<Vec<u8>> = None;
        loop {
            let rows = self.store.scan(keys::DUE, after.as_deref(), PAGE).map_err(failed)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after = Some(last.clone());
            for (key, id) in rows {
                let callback = keys::callback(&String::from_utf8_lossy(&id));
                if self.store.get(&callback).map_err(failed)?.is_none() {
                    let mut batch = Batch::new();
                    batch.require_absent(callback).delete(key);
                    self.store.commit(batch).await?;
                }
            }
        }
    }
}
