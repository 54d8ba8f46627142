//! Endpoints that were made by API: as they are stored, and how they are changed. Their secrets are not: each is derived from the server's master secret and a
//! random number of its own, so a copy of the journal alone signs nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use kedge_engine::store::{Batch, CommitError, ReadError, Store};
use kedge_engine::task::Millis;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::chat::approve::Marks;
use crate::config::Mistake;
use crate::endpoint::{Endpoint, EndpointSpec, Endpoints, Form};
use crate::key::Key;
use crate::rows::{MAX_ROWS, Rows};
use crate::secret::Secret;

/// Most keys of an endpoint: each adds a signature to every callback.
const MAX_KEYS: usize = 4;

/// What all secrets of endpoints, and the key of asymmetric signatures, are derived from.
#[derive(Clone, Debug)]
pub struct Master(Secret);

impl Master {
    /// Takes a secret of at least 128 bits of chance.
    #[must_use]
    pub fn new(secret: Secret) -> Self {
        Self(secret)
    }

    fn derive(&self, what: &str) -> [u8; 32] {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.0.expose().as_bytes()).expect("a key of any length");
        mac.update(what.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// The secret of an endpoint's key.
    pub(crate) fn endpoint_secret(&self, number: &str) -> Secret {
        Secret::new(format!("whsec_{}", BASE64.encode(self.derive(&format!("endpoint {number}")))))
    }

    /// The key of asymmetric signatures.
    pub(crate) fn signing_key(&self) -> Key {
        Key::private(&self.derive("ed25519"))
    }
}

/// A key: the number that its secret is derived from, and how long it counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredKey {
    number: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Millis>,
}

/// An endpoint as stored, under its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) url: String,
    /// `None`: how tasks end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) events: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) allow_private: Vec<String>,
    #[serde(default)]
    pub(crate) full: bool,
    #[serde(default)]
    pub(crate) form: Form,
    pub(crate) keys: Vec<StoredKey>,
    /// Why nothing is sent to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) disabled: Option<String>,
    pub(crate) created_at: Millis,
    pub(crate) created_by: String,
}

impl Stored {
    /// Adds a key; the others count for `grace_ms` more, and the oldest beyond the bound go. Gives the new secret.
    pub(crate) fn rotate(&mut self, master: &Master, number: String, now: Millis, grace_ms: u64) -> Secret {
        let secret = master.endpoint_secret(&number);
        for key in &mut self.keys {
            let end = now.saturating_add(grace_ms);
            key.until = Some(key.until.map_or(end, |until| until.min(end)));
        }
        self.keys.insert(0, StoredKey { number, until: None });
        self.keys.retain(|key| key.until.is_none_or(|until| until > now));
        self.keys.truncate(MAX_KEYS);
        secret
    }

    /// The endpoint that it stands for.
    ///
    /// # Errors
    /// Every mistake.
    pub(crate) fn endpoint(&self, name: &str, master: &Master) -> Result<Endpoint, Vec<Mistake>> {
        let mut endpoint = Endpoint::new(EndpointSpec {
            name: name.to_owned(),
            url: self.url.clone(),
            secrets: self.keys.iter().map(|key| master.endpoint_secret(&key.number)).collect(),
            events: self.events.clone(),
            allow_private: self.allow_private.clone(),
            full: self.full,
            form: self.form,
            ..EndpointSpec::default()
        })?;
        endpoint.ends = self.keys.iter().map(|key| key.until).collect();
        Ok(endpoint)
    }
}

/// Where endpoints made by API are kept.
#[derive(Clone)]
pub(crate) struct Book {
    rows: Rows,
    master: Master,
    signing: Key,
}

impl fmt::Debug for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Book")
    }
}

/// Why an endpoint was not changed.
#[derive(Debug)]
pub(crate) enum NotChanged {
    /// The request is wrong.
    Mistakes(Vec<Mistake>),
    /// There is one of this name already.
    Taken,
    /// There is none of this name.
    Unknown,
    /// It is in the configuration.
    Configured,
    /// There are too many.
    Full,
    /// The store failed.
    Store(CommitError),
}

impl Endpoints {
    /// Adds the endpoints that were made by API, and keeps those to come in this store.
    ///
    /// # Errors
    /// When the store cannot be read or holds what is no endpoint, or when a name is in the configuration too.
    pub fn open(&self, store: Arc<dyn Store>, master: Master) -> Result<(), ReadError> {
        let rows = Rows::new(store, "e");
        let mut list = self.all().as_ref().clone();
        let mut own = BTreeMap::new();
        for (name, stored) in rows.all::<Stored>()? {
            let damaged = |why: &str| ReadError::Damaged(format!("the endpoint {name}: {why}"));
            if list.iter().any(|endpoint| endpoint.name == name) {
                return Err(damaged("there is one of this name in the configuration too: rename that one"));
            }
            let endpoint = stored.endpoint(&name, &master);
            let endpoint = endpoint.map_err(|mistakes| {
                damaged(&mistakes.first().map(ToString::to_string).unwrap_or_default())
            })?;
            if let Some(reason) = &stored.disabled {
                self.disabled
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(name.clone(), reason.clone());
            }
            list.push(endpoint);
            own.insert(name, stored);
        }
        *self.list.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(list);
        *self.own.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(own);
        let signing = master.signing_key();
        self.book.get_or_init(|| Book { rows, master, signing });
        Ok(())
    }

    /// What marks the buttons of approvals as ours.
    pub(crate) fn marks(&self) -> Option<Marks> {
        self.book.get().map(|book| Marks::new(book.master.derive("approval buttons")))
    }

    /// The key of asymmetric signatures, when there is one.
    pub(crate) fn signing(&self) -> Option<&Key> {
        self.book.get().map(|book| &book.signing)
    }

    /// Those made by API, as they are stored.
    pub(crate) fn own(&self) -> Arc<BTreeMap<String, Stored>> {
        Arc::clone(&self.own.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes (`new`), changes or removes (`None` from `change`) an endpoint of the API, durably.
    pub(crate) async fn change(
        &self,
        name: &str,
        new: Option<Stored>,
        change: impl FnOnce(&mut Stored, &Master) -> bool,
    ) -> Result<Option<Stored>, NotChanged> {
        let book = self.book.get().ok_or(NotChanged::Configured)?;
        let _turn = self.turn.lock().await;
        let own = self.own();
        let is_new = new.is_some();
        let mut stored = match (own.get(name), new) {
            (Some(_), Some(_)) => return Err(NotChanged::Taken),
            (Some(stored), None) => stored.clone(),
            (None, _) if self.all().iter().any(|endpoint| endpoint.name == name) => {
                return Err(if is_new { NotChanged::Taken } else { NotChanged::Configured });
            }
            (None, Some(_)) if own.len() >= MAX_ROWS => return Err(NotChanged::Full),
            (None, Some(new)) => new,
            (None, None) => return Err(NotChanged::Unknown),
        };
        let keep = change(&mut stored, &book.master);
        let mut batch = Batch::new();
        let endpoint = if keep {
            let endpoint = stored.endpoint(name, &book.master).map_err(NotChanged::Mistakes)?;
            book.rows.put(&mut batch, name, &stored, false).map_err(NotChanged::Store)?;
            Some(endpoint)
        } else {
            book.rows.delete(&mut batch, name);
            None
        };
        book.rows.commit(batch).await.map_err(NotChanged::Store)?;
        let mut list: Vec<Endpoint> = self.all().iter().filter(|other| other.name != name).cloned().collect();
        let mut all = own.as_ref().clone();
        all.remove(name);
        let mut disabled = self.disabled.lock().unwrap_or_else(PoisonError::into_inner);
        disabled.remove(name);
        if let Some(endpoint) = endpoint {
            list.push(endpoint);
            all.insert(name.to_owned(), stored.clone());
            disabled.extend(stored.disabled.clone().map(|reason| (name.to_owned(), reason)));
        }
        *self.list.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(list);
        *self.own.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(all);
        Ok(keep.then_some(stored))
    }

    /// Sends no more to an endpoint, for this reason (or again, without one). What was made by API stays so over a restart; the
    /// configuration's get another chance then.
    pub(crate) async fn set_disabled(&self, name: &str, reason: Option<&str>) {
        {
            let mut disabled = self.disabled.lock().unwrap_or_else(PoisonError::into_inner);
            match reason {
                Some(reason) => disabled.insert(name.to_owned(), reason.to_owned()),
                None => disabled.remove(name),
            };
        }
        if self.own().contains_key(name) {
            let kept = self.change(name, None, |stored, _| {
                stored.disabled = reason.map(str::to_owned);
                true
            });
            if let Err(error) = kept.await {
                tracing::error!(target: "kedge::callbacks", endpoint = name, ?error, "its state could not be stored");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_lets_the_old_key_count_for_a_while() {
        let master = Master::new(Secret::new("the master secret of a test"));
        let mut stored = Stored {
            url: "https://a.test/".to_owned(),
            events: None,
            allow_private: Vec::new(),
            full: false,
            form: Form::Standard,
            keys: Vec::new(),
            disabled: None,
            created_at: 0,
            created_by: "token:a".to_owned(),
        };
        let first = stored.rotate(&master, "1".to_owned(), 0, 0);
        let second = stored.rotate(&master, "2".to_owned(), 1000, 500);
        assert_ne!(first, second);
        let endpoint = stored.endpoint("a", &master).unwrap();
        assert_eq!((endpoint.keys_at(1499).len(), endpoint.keys_at(1500).len()), (2, 1));
        for n in 3..9 {
            stored.rotate(&master, n.to_string(), 2000, 10_000);
        }
        assert_eq!(stored.keys.len(), MAX_KEYS);
        assert_eq!(stored.keys[0].until, None);
        stored.rotate(&master, "9".to_owned(), 3000, 0);
        assert_eq!(stored.keys.len(), 1, "without grace the others are gone at once");
        assert!(!serde_json::to_string(&stored).unwrap().contains("whsec_"));
    }
}
