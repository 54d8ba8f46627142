//! A secret store in memory. Its secrets are numbered, not random: tests see the same ones every time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use kedge_engine::task::Millis;

use super::Faults;
use crate::ports::{PortError, PortResult, Secret, SecretRef, Secrets};

/// Secrets in memory. Clones share them.
#[derive(Clone, Default)]
pub struct FakeSecrets {
    faults: Faults,
    secrets: Arc<Mutex<BTreeMap<SecretRef, Secret>>>,
    made: Arc<AtomicUsize>,
}

impl FakeSecrets {
    /// An empty store.
    #[must_use]
    pub fn new(faults: Faults) -> Self {
        Self { faults, secrets: Arc::default(), made: Arc::default() }
    }

    /// Another store with the same secrets.
    #[must_use]
    pub fn fork(&self, faults: Faults) -> Self {
        let made = Arc::new(AtomicUsize::new(self.made.load(Ordering::Relaxed)));
        Self { faults, secrets: Arc::new(Mutex::new(self.lock().clone())), made }
    }

    /// All secrets: these are no real ones.
    #[must_use]
    pub fn all(&self) -> BTreeMap<SecretRef, Secret> {
        self.lock().clone()
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

/// A number in letters of the alphabet of secrets.
fn letters(number: usize) -> String {
    number.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect()
}

fn checked(name: &SecretRef) -> PortResult<()> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._/-".contains(&byte);
    if name.0.is_empty() || name.0.len() > 200 || !name.0.bytes().all(plain) {
        return Err(PortError::Refused(format!("{:?} is not the name of a secret", name.0)));
    }
    Ok(())
}

#[async_trait]
impl Secrets for FakeSecrets {
    async fn ensure(&self, name: &SecretRef) -> PortResult<Secret> {
        self.faults.before("secrets.ensure", &name.0)?;
        checked(name)?;
        let make = || {
            let number = self.made.fetch_add(1, Ordering::Relaxed);
            Secret::new(format!("fakesecret{:a>22}", letters(number)))
        };
        let secret = self.lock().entry(name.clone()).or_insert_with(make).clone();
        self.faults.after("secrets.ensure", &name.0)?;
        Ok(secret)
    }

    async fn put(&self, name: &SecretRef, secret: &Secret, until: Millis) -> PortResult<()> {
        self.faults.before("secrets.put", &name.0)?;
        checked(name)?;
        let mut secrets = self.lock();
        secrets.remove(name);
        // Here it is always the beginning of time: what is over by then is over at once.
        if until > 0 {
            secrets.insert(name.clone(), secret.clone());
        }
        drop(secrets);
        self.faults.after("secrets.put", &name.0)
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

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::testing::secrets_contract;

    #[test]
    fn the_fake_keeps_the_contract() {
        let secrets = FakeSecrets::new(Faults::new());
        secrets_contract(&secrets).now_or_never().expect("fakes never wait");
        assert_eq!(secrets.names(), []);
    }
}
