//! The face's own rows beside the journal: tokens, endpoints, the audit log. Values in JSON under keys of their own (`w/`), written with
//! the store's promises. It knows no meaning of theirs.

use std::sync::Arc;

use kedge_engine::store::{Batch, CommitError, ReadError, Store};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// All of our rows begin so; the journal's do not.
const PREFIX: &str = "w/";
/// Rows read at once.
const PAGE: usize = 500;
/// Most rows of a family that are kept in memory: tokens and endpoints are made by people.
pub(crate) const MAX_ROWS: usize = 10_000;

/// The rows of a family: `w/<family>/<name>`.
#[derive(Clone)]
pub(crate) struct Rows {
    store: Arc<dyn Store>,
    family: &'static str,
}

impl Rows {
    pub(crate) fn new(store: Arc<dyn Store>, family: &'static str) -> Self {
        Self { store, family }
    }

    fn key(&self, name: &str) -> Vec<u8> {
        format!("{PREFIX}{}/{name}", self.family).into_bytes()
    }

    /// All of them, by name.
    pub(crate) fn all<T: DeserializeOwned>(&self) -> Result<Vec<(String, T)>, ReadError> {
        let prefix = self.key("");
        let mut after: Option<Vec<u8>> = None;
        let mut all = Vec::new();
        while all.len() < MAX_ROWS {
            let page = self.store.scan(&prefix, after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, value) in &page {
                let name = String::from_utf8_lossy(&key[prefix.len()..]).into_owned();
                let value = serde_json::from_slice(value)
                    .map_err(|error| ReadError::Damaged(format!("{} {name}: {error}", self.family)))?;
                all.push((name, value));
            }
        }
        Ok(all)
    }

    /// Up to `limit` rows before a name, the last first.
    pub(crate) fn back<T: DeserializeOwned>(
        &self,
        before: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, T)>, ReadError> {
        let (prefix, before) = (self.key(""), before.map(|name| self.key(name)));
        let rows = self.store.scan_back(&prefix, before.as_deref(), limit)?;
        let read = |(key, value): (Vec<u8>, Vec<u8>)| {
            let name = String::from_utf8_lossy(&key[prefix.len()..]).into_owned();
            let value = serde_json::from_slice(&value)
                .map_err(|error| ReadError::Damaged(format!("{} {name}: {error}", self.family)))?;
            Ok((name, value))
        };
        rows.into_iter().map(read).collect()
    }

    /// Adds to a batch that a row is written; `new`: it must not be there.
    pub(crate) fn put<T: Serialize>(
        &self,
        batch: &mut Batch,
        name: &str,
        value: &T,
        new: bool,
    ) -> Result<(), CommitError> {
        let value = serde_json::to_vec(value).map_err(|error| CommitError::TooLarge(error.to_string()))?;
        if new {
            batch.require_absent(self.key(name));
        }
        batch.put(self.key(name), value);
        Ok(())
    }

    /// Adds to a batch that a row goes.
    pub(crate) fn delete(&self, batch: &mut Batch, name: &str) {
        batch.delete(self.key(name));
    }

    /// Applies a batch, durably.
    pub(crate) async fn commit(&self, batch: Batch) -> Result<(), CommitError> {
        self.store.commit(batch).await
    }
}
