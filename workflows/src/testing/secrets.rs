//! A secret store in memory. Its secrets are numbered, not random: tests see the same ones every time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::Faults;
use crate::ports::{PortError, PortResult, Secret, SecretRef, Secrets};

/// Secrets in memory. Clones share them.
#[derive(Clone, Default)]
pub struct FakeSecrets {
    faults: Faults,
    secrets: Arc<Mutex<BTreeMap<SecretRef, Secret>>>,
}

impl FakeSecrets {
    /// An empty store.
    #[must_use]
    pub fn new(faults: Faults) -> Self {
        Self { faults, secrets: Arc::default() }
    }

    /// Names of all secrets, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<SecretRef> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<SecretRef, Secret>> {
        // A test that panicked elsewhere leaves nothing half done here.
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Secrets for FakeSecrets {
    async fn ensure(&self, name: &SecretRef) -> PortResult<Secret> {
        self.faults.before("secrets.ensure", &name.0)?;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._/-".contains(&byte);
        if name.0.is_empty() || name.0.len() > 200 || !name.0.bytes().all(plain) {
            return Err(PortError::Refused(format!("{:?} is not the name of a secret", name.0)));
        }
        let secret = {
            let mut secrets = self.lock();
            let number = secrets.len();
            secrets
                .entry(name.clone())
                .or_insert_with(|| Secret::new(format!("fakesecret{number:022}")))
                .clone()
        };
        self.faults.after("secrets.ensure", &name.0)?;
        Ok(secret)
    }

    async fn get(&self, name: &SecretRef) -> PortResult<Option<Secret>> {
        self.faults.before("secrets.get", &name.0)?;
        Ok(self.lock().get(name).cloned())
    }

    async fn remove(&self, name: &SecretRef) -> PortResult<()> {
        self.faults.before("secrets.remove", &name.0)?;
        self.lock().remove(name);
        self.faults.after("secrets.remove", &name.0)
    }
}
