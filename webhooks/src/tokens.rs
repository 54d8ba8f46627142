//! Tokens that were made by API, beside those of the configuration: kept by the SHA-256 of their secrets, which are shown once.

use std::sync::{Arc, PoisonError, RwLock};

use kedge_engine::store::{Batch, CommitError, ReadError, Store};
use kedge_engine::task::Millis;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use crate::auth::{Token, TokenSpec};
use crate::config::Mistake;
use crate::rows::{MAX_ROWS, Rows};

/// Random bytes of a secret: nobody guesses 256 bits.
const SECRET_BYTES: usize = 32;
/// How secrets begin, so that scanners of source code find leaked ones.
const SECRET_PREFIX: &str = "kedge_";

/// A token as stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Stored {
    /// SHA-256 of the secret, in hex.
    digest: String,
    scopes: Vec<String>,
    sites: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    networks: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<Millis>,
    created_at: Millis,
    created_by: String,
}

/// A token made by API.
#[derive(Clone, Debug)]
pub(crate) struct OwnToken {
    pub(crate) token: Token,
    pub(crate) created_at: Millis,
    pub(crate) created_by: String,
}

/// All of them.
pub(crate) struct Tokens {
    rows: Rows,
    list: RwLock<Arc<Vec<OwnToken>>>,
    /// Held while one is made or revoked.
    turn: Mutex<()>,
}

/// Why a token was not made.
#[derive(Debug)]
pub(crate) enum NotMade {
    /// The request is wrong.
    Mistakes(Vec<Mistake>),
    /// There is one of this name.
    Taken,
    /// There are too many.
    Full,
    /// The store, or the system's generator, failed.
    Failed(String),
}

impl From<CommitError> for NotMade {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Conflict(_) => Self::Taken,
            error @ (CommitError::TooLarge(_) | CommitError::Failed(_)) => Self::Failed(error.to_string()),
        }
    }
}

impl Tokens {
    /// Reads what is stored.
    ///
    /// # Errors
    /// When the store cannot be read, or holds what is no token.
    pub(crate) fn open(store: Arc<dyn Store>) -> Result<Self, ReadError> {
        let rows = Rows::new(store, "t");
        let mut list = Vec::new();
        for (name, stored) in rows.all::<Stored>()? {
            let damaged = |why: &str| ReadError::Damaged(format!("the token {name}: {why}"));
            let digest: [u8; 32] = hex::decode(&stored.digest)
                .ok()
                .and_then(|bytes| bytes.try_into().ok())
                .ok_or_else(|| damaged("its digest is none"))?;
            let spec = TokenSpec {
                name: name.clone(),
                secret: None,
                scopes: stored.scopes,
                sites: stored.sites,
                networks: stored.networks,
                expires_at: stored.expires_at,
            };
            let token = Token::with_digest(spec, digest).map_err(|mistakes| {
                damaged(&mistakes.first().map(ToString::to_string).unwrap_or_default())
            })?;
            list.push(OwnToken { token, created_at: stored.created_at, created_by: stored.created_by });
        }
        Ok(Self { rows, list: RwLock::new(Arc::new(list)), turn: Mutex::new(()) })
    }

    pub(crate) fn all(&self) -> Arc<Vec<OwnToken>> {
        Arc::clone(&self.list.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes a token; gives it and its secret, which is not kept.
    pub(crate) async fn make(
        &self,
        spec: TokenSpec,
        now: Millis,
        by: &str,
    ) -> Result<(OwnToken, String), NotMade> {
        let mut bytes = [0; SECRET_BYTES];
        getrandom::fill(&mut bytes).map_err(|error| NotMade::Failed(error.to_string()))?;
        let secret = format!("{SECRET_PREFIX}{}", hex::encode(bytes));
        let digest: [u8; 32] = Sha256::digest(&secret).into();
        let name = spec.name.clone();
        let stored = Stored {
            digest: hex::encode(digest),
            scopes: spec.scopes.clone(),
            sites: spec.sites.clone(),
            networks: spec.networks.clone(),
            expires_at: spec.expires_at,
            created_at: now,
            created_by: by.to_owned(),
        };
        let token = Token::with_digest(spec, digest).map_err(NotMade::Mistakes)?;
        let _turn = self.turn.lock().await;
        if self.all().len() >= MAX_ROWS {
            return Err(NotMade::Full);
        }
        let mut batch = Batch::new();
        self.rows.put(&mut batch, &name, &stored, true)?;
        self.rows.commit(batch).await?;
        let own = OwnToken { token, created_at: now, created_by: by.to_owned() };
        self.change(|list| list.push(own.clone()));
        Ok((own, secret))
    }

    /// Revokes a token: from now on it is not known. `false`: there is none of this name.
    pub(crate) async fn revoke(&self, name: &str) -> Result<bool, CommitError> {
        let _turn = self.turn.lock().await;
        if !self.all().iter().any(|own| own.token.name() == name) {
            return Ok(false);
        }
        let mut batch = Batch::new();
        self.rows.delete(&mut batch, name);
        self.rows.commit(batch).await?;
        self.change(|list| list.retain(|own| own.token.name() != name));
        Ok(true)
    }

    fn change(&self, change: impl FnOnce(&mut Vec<OwnToken>)) {
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        let mut new = list.as_ref().clone();
        change(&mut new);
        *list = Arc::new(new);
    }
}

#[cfg(test)]
mod tests {
    use kedge_engine::testing::memory_store::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn a_token_is_kept_by_its_hash_over_lives_until_it_is_revoked() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let tokens = Tokens::open(store.clone()).unwrap();
        let spec = || TokenSpec {
            name: "bot".to_owned(),
            scopes: vec!["task:*:read".to_owned()],
            sites: vec!["*".to_owned()],
            expires_at: Some(9),
            ..TokenSpec::default()
        };
        let (own, secret) = tokens.make(spec(), 5, "token:admin").await.unwrap();
        assert_eq!((own.token.name(), secret.len()), ("bot", SECRET_PREFIX.len() + 64));
        assert!(matches!(tokens.make(spec(), 5, "token:admin").await, Err(NotMade::Taken)));
        let wrong = TokenSpec { name: "B".to_owned(), ..spec() };
        assert!(matches!(tokens.make(wrong, 5, "token:admin").await, Err(NotMade::Mistakes(_))));
        let rows = store.scan(b"w/", None, 10).unwrap();
        assert_eq!(rows.len(), 1);
        assert!(!String::from_utf8_lossy(&rows[0].1).contains(&secret), "the secret is nowhere");
        let headers = [("authorization".parse().unwrap(), format!("Bearer {secret}").parse().unwrap())]
            .into_iter()
            .collect();
        let known = |tokens: &Tokens, now| {
            let all = tokens.all();
            crate::auth::authenticate(all.iter().map(|own| &own.token), &headers, now, None).is_ok()
        };
        assert!(known(&tokens, 5) && !known(&tokens, 9));
        let tokens = Tokens::open(store).unwrap();
        assert!(known(&tokens, 5), "after a restart");
        assert_eq!(tokens.all()[0].created_by, "token:admin");
        assert!(tokens.revoke("bot").await.unwrap() && !tokens.revoke("bot").await.unwrap());
        assert!(!known(&tokens, 5));
    }
}
