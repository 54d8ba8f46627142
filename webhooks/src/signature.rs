//! Signatures of webhooks as pure functions: Standard Webhooks 1.0.0 (`v1` with a shared key, `v1a` with ed25519), MACs as GitHub and
//! Slack send them, ed25519 as Discord does. They read no clock and no header map, and they try every key without an early end.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use subtle::ConstantTimeEq;
use thiserror::Error;

pub use crate::key::{Key, KeyError};

/// How far the sender's clock may be away from ours, in seconds, either way: the Standard Webhooks libraries' tolerance, and Slack's.
pub const TOLERANCE_S: u64 = 300;
/// Most signatures looked at in one header: each costs a comparison per key.
const MAX_SIGNATURES: usize = 8;
/// Longest message id: it becomes a dedupe key and is shown.
const MAX_ID: usize = 256;

/// Why a signature does not hold. For our log and the inbox; the sender is told none of it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// A header of the signature is missing, doubled or not text.
    #[error("the header {0} is missing, doubled or not readable")]
    Header(&'static str),
    /// A header whose name is configured is missing, doubled or not text.
    #[error("the configured header of the signature is missing, doubled or not readable")]
    ConfiguredHeader,
    /// The token that has to be in the body is not there, or the body cannot be read.
    #[error("the body holds no token, or more than one")]
    Body,
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

/// The value of `webhook-signature`: `v1,` and base64 for each shared key, `v1a,` for each private one, separated by spaces.
#[must_use]
pub fn sign_standard(keys: &[Key], id: &str, timestamp_s: u64, body: &[u8]) -> String {
    let timestamp = timestamp_s.to_string();
    let message = || standard_parts(id, &timestamp, body).concat();
    let sign = |key: &Key| match key.mac(&standard_parts(id, &timestamp, body)) {
        Some(mac) => Some(format!("v1,{}", BASE64.encode(mac))),
        None => key.sign(&message()).map(|signature| format!("v1a,{}", BASE64.encode(signature))),
    };
    keys.iter().filter_map(sign).collect::<Vec<String>>().join(" ")
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
    find_standard(keys, (id, timestamp, signatures), body, now_s).map(|_| ())
}

/// The same, and says which of the keys it was.
pub(crate) fn find_standard(
    keys: &[Key],
    (id, timestamp, signatures): (&str, &str, &str),
    body: &[u8],
    now_s: u64,
) -> Result<usize, Refused> {
    let received = |version: &str| -> Vec<Vec<u8>> {
        let coded = signatures.split(' ').filter_map(|one| one.strip_prefix(version));
        coded.take(MAX_SIGNATURES).map(|coded| BASE64.decode(coded).unwrap_or_default()).collect()
    };
    let parts = standard_parts(id, timestamp, body);
    let shared = find_mac(keys, &parts, &received("v1,"));
    let asymmetric = received("v1a,");
    let message = if asymmetric.is_empty() { Vec::new() } else { parts.concat() };
    let right = shared.or(find_ed25519(keys, &message, &asymmetric));
    // A dot in the id would let a captured message be cut elsewhere: `a.1` + `2` reads like `a` + `1` + `2...`.
    if id.is_empty() || id.len() > MAX_ID || id.contains('.') {
        return Err(Refused::Malformed("webhook-id"));
    }
    let sent = seconds(timestamp).ok_or(Refused::Malformed("webhook-timestamp"))?;
    let right = right.ok_or(Refused::Mismatch)?;
    if now_s.abs_diff(sent) > TOLERANCE_S { Err(Refused::Stale) } else { Ok(right) }
}

/// The value of `X-Hub-Signature-256`.
#[must_use]
pub fn sign_github(key: &Key, body: &[u8]) -> String {
    format!("sha256={}", hex::encode(key.mac(&[body]).unwrap_or_default()))
}

/// Checks `X-Hub-Signature-256`. The older SHA-1 header is never looked at.
///
/// # Errors
/// [`Refused`], for our log only.
pub fn verify_github(keys: &[Key], signature: &str, body: &[u8]) -> Result<(), Refused> {
    find_hex(keys, "sha256=", signature, &[body]).map(|_| ())
}

/// Which key gives this MAC, written in hex after a prefix.
pub(crate) fn find_hex(
    keys: &[Key],
    prefix: &str,
    signature: &str,
    parts: &[&[u8]],
) -> Result<usize, Refused> {
    let received = signature.strip_prefix(prefix).and_then(|coded| hex::decode(coded).ok());
    find_mac(keys, parts, &[received.unwrap_or_default()]).ok_or(Refused::Mismatch)
}

/// Which key gives one of these MACs. All are compared.
pub(crate) fn find_mac(keys: &[Key], parts: &[&[u8]], received: &[Vec<u8>]) -> Option<usize> {
    let mut found = None;
    for (index, key) in keys.iter().enumerate() {
        let Some(mac) = key.mac(parts) else { continue };
        for one in received {
            if bool::from(mac.as_slice().ct_eq(one.as_slice())) {
                found = Some(index);
            }
        }
    }
    found
}

/// Which key one of these ed25519 signatures was made with.
pub(crate) fn find_ed25519(keys: &[Key], message: &[u8], received: &[Vec<u8>]) -> Option<usize> {
    let mut found = None;
    for (index, key) in keys.iter().enumerate() {
        for one in received {
            if key.signed(message, one) {
                found = Some(index);
            }
        }
    }
    found
}

/// Which key is this token. An empty one is none.
pub(crate) fn find_token(keys: &[Key], presented: &str) -> Option<usize> {
    let mut found = None;
    for (index, key) in keys.iter().enumerate() {
        if key.is_token(presented.as_bytes()) {
            found = Some(index);
        }
    }
    found.filter(|_| !presented.is_empty())
}

/// Checks a timestamp against the window, once the signature is known to be right.
pub(crate) fn in_window(timestamp: &str, header: &'static str, now_s: u64) -> Result<(), Refused> {
    let sent = seconds(timestamp).ok_or(Refused::Malformed(header))?;
    if now_s.abs_diff(sent) > TOLERANCE_S { Err(Refused::Stale) } else { Ok(()) }
}

/// Whole seconds since 1970, digits only: `+1` would be read by some and refused by others.
fn seconds(timestamp: &str) -> Option<u64> {
    let digits = !timestamp.is_empty() && timestamp.bytes().all(|b| b.is_ascii_digit());
    timestamp.parse().ok().filter(|_| digits)
}

fn standard_parts<'a>(id: &'a str, timestamp: &'a str, body: &'a [u8]) -> [&'a [u8]; 5] {
    [id.as_bytes(), b".", timestamp.as_bytes(), b".", body]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

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
    fn ed25519_vector_of_the_specification() {
        // The signature printed in the specification's header example, and Svix's test key.
        let printed =
            "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==";
        let public = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";
        let private =
            "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
        let public = Key::standard_verifying(&Secret::new(public)).unwrap();
        let check = |keys: &[Key], signatures: &str, body: &[u8], now| {
            verify_standard(keys, JS_ID, "1614265330", signatures, body, now)
        };
        let one = std::slice::from_ref(&public);
        assert_eq!(check(one, printed, JS_BODY, JS_TIME), Ok(()));
        assert_eq!(check(one, printed, b"{}", JS_TIME), Err(Refused::Mismatch));
        assert_eq!(check(one, printed, JS_BODY, JS_TIME + 301), Err(Refused::Stale));
        assert_eq!(check(one, &printed.replace("v1a,", "v1,"), JS_BODY, JS_TIME), Err(Refused::Mismatch));
        let private = Key::standard(&Secret::new(private)).unwrap();
        assert_eq!(sign_standard(std::slice::from_ref(&private), JS_ID, JS_TIME, JS_BODY), printed);
        assert_eq!(private.verifying(), public);
        // Beside a shared key, in either order: each signature is for its own key.
        let both = [standard(JS_SECRET), public.clone()];
        assert_eq!(find_standard(&both, (JS_ID, "1614265330", printed), JS_BODY, JS_TIME), Ok(1));
        assert_eq!(find_standard(&both, (JS_ID, "1614265330", JS_SIGNATURE), JS_BODY, JS_TIME), Ok(0));
        assert_eq!(
            check(one, JS_SIGNATURE, JS_BODY, JS_TIME),
            Err(Refused::Mismatch),
            "a public key makes no MAC"
        );
        assert_eq!(sign_standard(&[public], JS_ID, JS_TIME, JS_BODY), "", "and signs nothing");
    }
}
