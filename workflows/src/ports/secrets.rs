//! The secrets port: passwords by reference. A reference may be journaled; a secret never is.

use async_trait::async_trait;
use kedge_engine::task::Millis;
use serde::{Deserialize, Serialize};

use super::PortResult;

/// Names a secret: path-like text of `[a-z0-9._/-]`, at most 200 characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretRef(pub String);

/// A secret in memory. Prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself: for the last moment before it is handed over.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Where secrets are kept, encrypted at rest.
#[async_trait]
pub trait Secrets: Send + Sync {
    /// The secret of this name, made if it is not there: 32 characters from a cryptographic generator, alphabet without
    /// characters that look alike (Aegir's 57). Durable before it returns.
    async fn ensure(&self, name: &SecretRef) -> PortResult<Secret>;
    /// Keeps a secret that was made elsewhere, at most 2,000 bytes, in place of the one that is there. It is gone at `until`.
    /// Durable before it returns.
    async fn put(&self, name: &SecretRef, secret: &Secret, until: Millis) -> PortResult<()>;
    /// The secret of this name, unless its time is over.
    async fn get(&self, name: &SecretRef) -> PortResult<Option<Secret>>;
    /// Forgets it. Absent: fine.
    async fn remove(&self, name: &SecretRef) -> PortResult<()>;
}

/// What a fingerprint found: a digest to compare and the listing behind it, to say what differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// SHA-256 over the sorted entries, in hex.
    pub digest: String,
    /// Key (path, table, grant, directive; bytes that are no UTF-8 escaped as `\xNN`) to what was seen there. Sorted by key.
    pub entries: Vec<(String, String)>,
}

impl Fingerprint {
    /// Makes a fingerprint of entries in any order.
    #[must_use]
    pub fn of(mut entries: Vec<(String, String)>) -> Self {
        use sha2::{Digest, Sha256};
        entries.sort();
        let mut hash = Sha256::new();
        for (key, value) in &entries {
            for text in [key, value] {
                hash.update((text.len() as u64).to_be_bytes());
                hash.update(text.as_bytes());
            }
        }
        Self { digest: hex::encode(hash.finalize()), entries }
    }
}
