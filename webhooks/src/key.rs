//! Signing keys, decoded from the texts that providers hand out. They show nothing of themselves, and compare in constant time.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;

use crate::secret::Secret;

/// A key, decoded.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Kind);

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    /// Both sides have it, and make MACs with it.
    Shared(Vec<u8>),
    /// Both sides have it, and it is sent along as it is.
    Token(Vec<u8>),
    /// The sender's public half.
    Public(VerifyingKey),
    /// Both halves: for whoever signs.
    Private(Box<SigningKey>),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(***)")
    }
}

/// Why a text is no signing secret. Never says what it was.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    /// Nothing in it.
    #[error("the secret is empty")]
    Empty,
    /// Not `whsec_...`.
    #[error(
        "a Standard Webhooks secret is whsec_ and the base64 of 24 to 64 random bytes; make one with: \
         printf 'whsec_%s\\n' \"$(openssl rand -base64 32)\""
    )]
    NotStandard,
    /// Not `whpk_...`.
    #[error("a public key of Standard Webhooks is whpk_ and the base64 of 32 bytes, as the sender shows it")]
    NotPublic,
    /// Not `whsk_...`.
    #[error(
        "a private key of Standard Webhooks is whsk_ and the base64 of 64 bytes: the seed and its public key"
    )]
    NotPrivate,
    /// A private key where the sender's public one belongs.
    #[error("this is the sender's private key (whsk_): whoever only verifies gets the public one (whpk_)")]
    Private,
    /// Not 32 bytes in hex.
    #[error(
        "a key of Discord is 64 hex digits: the application's public key, from its page \"General Information\""
    )]
    NotDiscord,
}

impl Key {
    /// Decodes a Standard Webhooks secret that can sign: `whsec_` and base64 of 24 to 64 bytes, or `whsk_` and base64 of an
    /// ed25519 seed with its public key.
    ///
    /// # Errors
    /// [`KeyError`] says what a secret looks like.
    pub fn standard(secret: &Secret) -> Result<Self, KeyError> {
        let text = secret.expose();
        if text.is_empty() {
            return Err(KeyError::Empty);
        }
        if let Some(coded) = text.strip_prefix("whsk_") {
            let bytes = BASE64.decode(coded).ok().and_then(|bytes| <[u8; 64]>::try_from(bytes).ok());
            let key = bytes.and_then(|bytes| SigningKey::from_keypair_bytes(&bytes).ok());
            return key.map(|key| Self(Kind::Private(Box::new(key)))).ok_or(KeyError::NotPrivate);
        }
        let coded = text.strip_prefix("whsec_").ok_or(KeyError::NotStandard)?;
        let bytes = BASE64.decode(coded).map_err(|_| KeyError::NotStandard)?;
        if (24..=64).contains(&bytes.len()) {
            Ok(Self(Kind::Shared(bytes)))
        } else {
            Err(KeyError::NotStandard)
        }
    }

    /// Decodes a Standard Webhooks secret that can verify: `whsec_`, or `whpk_` and base64 of an ed25519 public key.
    ///
    /// # Errors
    /// [`KeyError`] says what a secret looks like.
    pub fn standard_verifying(secret: &Secret) -> Result<Self, KeyError> {
        let text = secret.expose();
        if text.starts_with("whsk_") {
            return Err(KeyError::Private);
        }
        let Some(coded) = text.strip_prefix("whpk_") else { return Self::standard(secret) };
        let bytes = BASE64.decode(coded).ok();
        bytes.as_deref().and_then(public).ok_or(KeyError::NotPublic)
    }

    /// Takes a secret's bytes as they are, as GitHub does.
    ///
    /// # Errors
    /// [`KeyError::Empty`].
    pub fn raw(secret: &Secret) -> Result<Self, KeyError> {
        if secret.expose().is_empty() {
            return Err(KeyError::Empty);
        }
        Ok(Self(Kind::Shared(secret.expose().as_bytes().to_vec())))
    }

    /// A secret that is sent along as it is.
    pub(crate) fn token(secret: &Secret) -> Result<Self, KeyError> {
        if secret.expose().is_empty() {
            return Err(KeyError::Empty);
        }
        Ok(Self(Kind::Token(secret.expose().as_bytes().to_vec())))
    }

    /// An application's public key as Discord shows it.
    pub(crate) fn discord(secret: &Secret) -> Result<Self, KeyError> {
        if secret.expose().is_empty() {
            return Err(KeyError::Empty);
        }
        let bytes = hex::decode(secret.expose()).ok();
        bytes.as_deref().and_then(public).ok_or(KeyError::NotDiscord)
    }

    /// The private half of such a key, 32 bytes in hex: for tests of receivers.
    pub(crate) fn discord_signing(secret: &Secret) -> Result<Self, KeyError> {
        let bytes = hex::decode(secret.expose()).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let key = bytes.map(|bytes| SigningKey::from_bytes(&bytes));
        key.map(|key| Self(Kind::Private(Box::new(key)))).ok_or(KeyError::NotDiscord)
    }

    /// A private key from its seed.
    pub(crate) fn private(seed: &[u8; 32]) -> Self {
        Self(Kind::Private(Box::new(SigningKey::from_bytes(seed))))
    }

    /// The bytes of its public half, where it has one.
    pub(crate) fn public_bytes(&self) -> Option<[u8; 32]> {
        match &self.0 {
            Kind::Private(key) => Some(key.verifying_key().to_bytes()),
            Kind::Public(key) => Some(key.to_bytes()),
            Kind::Shared(_) | Kind::Token(_) => None,
        }
    }

    /// The half of it that verifies.
    #[must_use]
    pub fn verifying(&self) -> Self {
        match &self.0 {
            Kind::Private(key) => Self(Kind::Public(key.verifying_key())),
            Kind::Shared(_) | Kind::Token(_) | Kind::Public(_) => self.clone(),
        }
    }

    /// The HMAC-SHA256 of several parts, where the key is a shared one.
    pub(crate) fn mac(&self, parts: &[&[u8]]) -> Option<[u8; 32]> {
        let Kind::Shared(bytes) = &self.0 else { return None };
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(bytes).expect("HMAC takes a key of any length");
        for part in parts {
            mac.update(part);
        }
        Some(mac.finalize().into_bytes().into())
    }

    /// The ed25519 signature of a message, where the key is a private one.
    pub(crate) fn sign(&self, message: &[u8]) -> Option<[u8; 64]> {
        let Kind::Private(key) = &self.0 else { return None };
        Some(key.sign(message).to_bytes())
    }

    /// Whether an ed25519 signature of a message holds. Only the strict rules count: no weak keys, one encoding.
    pub(crate) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let Kind::Public(key) = &self.0 else { return false };
        Signature::from_slice(signature).is_ok_and(|signature| key.verify_strict(message, &signature).is_ok())
    }

    /// Whether a token is this one. The digests are compared, so that not even the length can be timed.
    pub(crate) fn is_token(&self, presented: &[u8]) -> bool {
        let Kind::Token(bytes) = &self.0 else { return false };
        Sha256::digest(bytes).ct_eq(&Sha256::digest(presented)).into()
    }

    /// The token, where it is one.
    pub(crate) fn expose_token(&self) -> Option<String> {
        let Kind::Token(bytes) = &self.0 else { return None };
        Some(String::from_utf8_lossy(bytes).into_owned())
    }

    /// Whether it is a token.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self.0, Kind::Token(_))
    }
}

fn public(bytes: &[u8]) -> Option<Key> {
    let key = VerifyingKey::from_bytes(bytes.try_into().ok()?).ok()?;
    // Anybody could sign for a key of small order.
    (!key.is_weak()).then_some(Key(Kind::Public(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_that_sign_nothing_are_refused_without_being_shown() {
        let short = format!("whsec_{}", BASE64.encode([7; 23]));
        for text in ["hunter2", "whsec_", "whsec_???", short.as_str()] {
            let error = Key::standard(&Secret::new(text)).unwrap_err();
            assert_eq!(error, KeyError::NotStandard);
            assert!(!error.to_string().contains("hunter2"));
        }
        for empty in ["", " \n"] {
            let empty = Secret::new(empty);
            for key in [Key::standard, Key::standard_verifying, Key::raw, Key::token, Key::discord] {
                assert_eq!(key(&empty), Err(KeyError::Empty));
            }
        }
    }

    #[test]
    fn public_keys_are_32_bytes_of_a_point_that_somebody_has_to_know() {
        let zero = format!("whpk_{}", BASE64.encode([0; 32]));
        for text in ["whpk_", "whpk_AAAA", zero.as_str()] {
            assert_eq!(Key::standard_verifying(&Secret::new(text)), Err(KeyError::NotPublic), "{text}");
        }
        for text in ["d75a", &"00".repeat(32), &"g".repeat(64)] {
            assert_eq!(Key::discord(&Secret::new(text)), Err(KeyError::NotDiscord), "{text}");
        }
        let forged = format!("whsk_{}", BASE64.encode([7; 64]));
        assert_eq!(Key::standard(&Secret::new(&forged)), Err(KeyError::NotPrivate), "its halves do not fit");
        assert_eq!(Key::standard_verifying(&Secret::new(&forged)), Err(KeyError::Private));
    }

    #[test]
    fn tokens_are_compared_whole() {
        let key = Key::token(&Secret::new("hunter2")).unwrap();
        assert!(key.is_token(b"hunter2"));
        for wrong in ["", "hunter", "hunter22", "Hunter2"] {
            assert!(!key.is_token(wrong.as_bytes()), "{wrong}");
        }
        assert!(
            !Key::raw(&Secret::new("hunter2")).unwrap().is_token(b"hunter2"),
            "a signing key is no token"
        );
        assert_eq!(format!("{key:?}"), "Key(***)");
    }
}
