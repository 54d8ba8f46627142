//! Signatures of webhooks as pure functions: Standard Webhooks 1.0.0 (symmetric, `v1`) and GitHub's `X-Hub-Signature-256`.
//! They read no clock and no header map, and they compare in constant time, trying every key without an early end.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;

use crate::secret::Secret;

/// How far the sender's clock may be away from ours, in seconds, either way: the Standard Webhooks libraries' tolerance.
pub const TOLERANCE_S: u64 = 300;
/// Most signatures looked at in one header: each costs a comparison per key.
const MAX_SIGNATURES: usize = 8;
/// Longest message id: it becomes a dedupe key and is shown.
const MAX_ID: usize = 256;

/// A signing key, decoded.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Vec<u8>);

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
}

impl Key {
    /// Decodes a Standard Webhooks secret: `whsec_` and base64 of 24 to 64 bytes.
    ///
    /// # Errors
    /// [`KeyError`] says what a secret looks like.
    pub fn standard(secret: &Secret) -> Result<Self, KeyError> {
        if secret.expose().is_empty() {
            return Err(KeyError::Empty);
        }
        let coded = secret.expose().strip_prefix("whsec_").ok_or(KeyError::NotStandard)?;
        let bytes = BASE64.decode(coded).map_err(|_| KeyError::NotStandard)?;
        if (24..=64).contains(&bytes.len()) { Ok(Self(bytes)) } else { Err(KeyError::NotStandard) }
    }

    /// Takes a secret's bytes as they are, as GitHub does.
    ///
    /// # Errors
    /// [`KeyError::Empty`].
    pub fn raw(secret: &Secret) -> Result<Self, KeyError> {
        if secret.expose().is_empty() {
            return Err(KeyError::Empty);
        }
        Ok(Self(secret.expose().as_bytes().to_vec()))
    }

    fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

/// Why a signature does not hold. For our log and the inbox; the sender is told none of it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// A header of the signature is missing, doubled or not text.
    #[error("the header {0} is missing, doubled or not readable")]
    Header(&'static str),
    /// The id or the timestamp is not what the format allows.
    #[error("the header {0} is malformed")]
    Malformed(&'static str),
    /// The timestamp is too far away.
    #[error("the timestamp is more than {TOLERANCE_S} s away from our clock")]
    Stale,
    /// No key gives this signature.
    #[error("no key of the hook gives this signature")]
    Mismatch,
    /// There is no such hook; the same work was done.
    #[error("there is no such hook")]
    UnknownHook,
}

/// The value of `webhook-signature`: `v1,` and base64, one for each key, separated by spaces.
#[must_use]
pub fn sign_standard(keys: &[Key], id: &str, timestamp_s: u64, body: &[u8]) -> String {
    let timestamp = timestamp_s.to_string();
    let signatures: Vec<String> = keys
        .iter()
        .map(|key| format!("v1,{}", BASE64.encode(standard_mac(key, id, &timestamp, body))))
        .collect();
    signatures.join(" ")
}

/// Checks a Standard Webhooks message. All the work is done before anything is refused.
///
/// # Errors
/// [`Refused`], for our log only.
pub fn verify_standard(
    keys: &[Key],
    id: &str,
    timestamp: &str,
    signatures: &str,
    body: &[u8],
    now_s: u64,
) -> Result<(), Refused> {
    let received: Vec<Vec<u8>> = signatures
        .split(' ')
        .filter_map(|one| one.strip_prefix("v1,"))
        .take(MAX_SIGNATURES)
        .map(|coded| BASE64.decode(coded).unwrap_or_default())
        .collect();
    let right = matches_any(keys.iter().map(|key| standard_mac(key, id, timestamp, body)), &received);
    // A dot in the id would let a captured message be cut elsewhere: `a.1` + `2` reads like `a` + `1` + `2...`.
    if id.is_empty() || id.len() > MAX_ID || id.contains('.') {
        return Err(Refused::Malformed("webhook-id"));
    }
    let digits = !timestamp.is_empty() && timestamp.bytes().all(|b| b.is_ascii_digit());
    let sent: u64 = match timestamp.parse() {
        Ok(sent) if digits => sent,
        _ => return Err(Refused::Malformed("webhook-timestamp")),
    };
    if !right {
        return Err(Refused::Mismatch);
    }
    if now_s.abs_diff(sent) > TOLERANCE_S { Err(Refused::Stale) } else { Ok(()) }
}

/// The value of `X-Hub-Signature-256`.
#[must_use]
pub fn sign_github(key: &Key, body: &[u8]) -> String {
    format!("sha256={}", hex::encode(key.mac(&[body])))
}

/// Checks `X-Hub-Signature-256`. The older SHA-1 header is never looked at.
///
/// # Errors
/// [`Refused`], for our log only.
pub fn verify_github(keys: &[Key], signature: &str, body: &[u8]) -> Result<(), Refused> {
    let received =
        signature.strip_prefix("sha256=").and_then(|coded| hex::decode(coded).ok()).unwrap_or_default();
    if matches_any(keys.iter().map(|key| key.mac(&[body])), &[received]) {
        Ok(())
    } else {
        Err(Refused::Mismatch)
    }
}

fn standard_mac(key: &Key, id: &str, timestamp: &str, body: &[u8]) -> [u8; 32] {
    key.mac(&[id.as_bytes(), b".", timestamp.as_bytes(), b".", body])
}

fn matches_any(macs: impl Iterator<Item = [u8; 32]>, received: &[Vec<u8>]) -> bool {
    let mut found = Choice::from(0);
    for mac in macs {
        for one in received {
            found |= mac.as_slice().ct_eq(one.as_slice());
        }
    }
    found.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const JS_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const JS_ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const JS_BODY: &[u8] = br#"{"test": 2432232314}"#;
    const JS_SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    const JS_TIME: u64 = 1_614_265_330;

    fn standard(secret: &str) -> Key {
        Key::standard(&Secret::new(secret)).unwrap()
    }

    fn raw(secret: &str) -> Key {
        Key::raw(&Secret::new(secret)).unwrap()
    }

    #[test]
    fn standard_vectors_of_the_rust_and_javascript_libraries() {
        let rust = standard("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD");
        let body = br#"{"email":"test@example.com","username":"test_user"}"#;
        let signed = sign_standard(&[rust], "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", 1_649_367_553, body);
        assert_eq!(signed, "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=");
        let js = standard(JS_SECRET);
        assert_eq!(sign_standard(std::slice::from_ref(&js), JS_ID, JS_TIME, JS_BODY), JS_SIGNATURE);
        assert_eq!(verify_standard(&[js], JS_ID, "1614265330", JS_SIGNATURE, JS_BODY, JS_TIME), Ok(()));
    }

    #[test]
    fn github_vectors_of_its_documentation_and_octokit() {
        let docs = raw("It's a Secret to Everybody");
        let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert_eq!(sign_github(&docs, b"Hello, World!"), signature);
        assert_eq!(verify_github(std::slice::from_ref(&docs), signature, b"Hello, World!"), Ok(()));
        assert_eq!(verify_github(&[docs], signature, b"Hello, World"), Err(Refused::Mismatch));
        let octokit = sign_github(&raw("mysecret"), br#"{"foo":"bar"}"#);
        assert_eq!(octokit, "sha256=4864d2759938a15468b5df9ade20bf161da9b4f737ea61794142f3484236bda3");
    }

    #[test]
    fn any_of_several_keys_and_signatures_is_enough() {
        let (old, new) = (standard(JS_SECRET), standard("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"));
        let check = |keys: &[Key], signatures: &str| {
            verify_standard(keys, JS_ID, "1614265330", signatures, JS_BODY, JS_TIME)
        };
        assert_eq!(check(&[new.clone(), old.clone()], JS_SIGNATURE), Ok(()));
        let both = sign_standard(&[new.clone(), old.clone()], JS_ID, JS_TIME, JS_BODY);
        assert_eq!(both.split(' ').count(), 2);
        assert_eq!(check(std::slice::from_ref(&old), &both), Ok(()));
        assert_eq!(check(std::slice::from_ref(&old), &format!("v1a,xxxx v1,???? {JS_SIGNATURE}")), Ok(()));
        let late = format!("{}{JS_SIGNATURE}", "v1,AAAA ".repeat(MAX_SIGNATURES));
        assert_eq!(
            check(&[old], &late),
            Err(Refused::Mismatch),
            "signatures beyond the bound are not looked at"
        );
        assert_eq!(check(&[new], JS_SIGNATURE), Err(Refused::Mismatch));
    }

    #[test]
    fn the_window_is_five_minutes_both_ways() {
        let key = standard(JS_SECRET);
        for (now, want) in [
            (JS_TIME + 300, Ok(())),
            (JS_TIME - 300, Ok(())),
            (JS_TIME + 301, Err(Refused::Stale)),
            (JS_TIME - 301, Err(Refused::Stale)),
        ] {
            let got =
                verify_standard(std::slice::from_ref(&key), JS_ID, "1614265330", JS_SIGNATURE, JS_BODY, now);
            assert_eq!(got, want, "at {now}");
        }
    }

    #[test]
    fn malformed_parts_are_refused() {
        let key = [standard(JS_SECRET)];
        let check =
            |id: &str, time: &str, signature: &str| verify_standard(&key, id, time, signature, b"x", 1);
        assert_eq!(check("", "1", ""), Err(Refused::Malformed("webhook-id")));
        assert_eq!(check("a.1", "1", ""), Err(Refused::Malformed("webhook-id")));
        assert_eq!(check("a", "", ""), Err(Refused::Malformed("webhook-timestamp")));
        assert_eq!(check("a", "+1", ""), Err(Refused::Malformed("webhook-timestamp")));
        assert_eq!(check("a", "99999999999999999999999", ""), Err(Refused::Malformed("webhook-timestamp")));
        for signature in ["", "v1,", "v1", "v1,=", "v2,AAAA", "  "] {
            assert_eq!(check("a", "1", signature), Err(Refused::Mismatch), "{signature:?}");
        }
        for signature in ["", "sha256=", "sha256=zz", "sha1=00", "sha256=00"] {
            assert_eq!(verify_github(&key, signature, b"x"), Err(Refused::Mismatch), "{signature:?}");
        }
    }

    #[test]
    fn secrets_that_sign_nothing_are_refused_without_being_shown() {
        let short = format!("whsec_{}", BASE64.encode([7; 23]));
        for text in ["hunter2", "whsec_", "whsec_???", short.as_str()] {
            let error = Key::standard(&Secret::new(text)).unwrap_err();
            assert_eq!(error, KeyError::NotStandard);
            assert!(!error.to_string().contains("hunter2"));
        }
        assert_eq!(Key::standard(&Secret::new("")), Err(KeyError::Empty));
        assert_eq!(Key::raw(&Secret::new(" \n")), Err(KeyError::Empty));
    }
}
