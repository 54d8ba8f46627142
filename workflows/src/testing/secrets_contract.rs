//! The promises of the secrets port, tested on the fake and on a real store with the same lines.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a suite fails by panicking, also where it is not compiled as a test"
)]

use crate::ports::{PortError, Secret, SecretRef, Secrets};

/// Characters of a secret: letters and digits without those that look alike.
pub const SECRET_ALPHABET: &str = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// Everything that a store of secrets promises. It is empty, and empty again afterwards.
pub async fn secrets_contract(secrets: &dyn Secrets) {
    let name = |text: &str| SecretRef(text.to_owned());
    let (a, b) = (name("sites/a.test/db"), name("sites/a.test/db2"));
    assert!(secrets.get(&a).await.expect("a look").is_none());
    let first = secrets.ensure(&a).await.expect("a secret");
    let second = secrets.ensure(&b).await.expect("a secret");
    assert_eq!(first.expose().len(), 32);
    assert!(first.expose().chars().all(|c| SECRET_ALPHABET.contains(c)), "a character out of the alphabet");
    assert!(first != second, "two secrets are the same");
    assert!(secrets.ensure(&a).await.expect("a secret") == first, "it is made once");
    assert!(secrets.get(&a).await.expect("a look") == Some(first.clone()));
    assert_eq!(format!("{first:?}"), "***");

    for _ in 0..2 {
        secrets.remove(&a).await.expect("it is forgotten, or absent");
        assert!(secrets.get(&a).await.expect("a look").is_none());
    }
    assert!(secrets.get(&b).await.expect("a look") == Some(second), "another one stays");
    secrets.remove(&b).await.expect("it is forgotten");

    let link = name("login/a");
    for text in ["https://a.test/?x=1", "another"] {
        secrets.put(&link, &Secret::new(text), u64::MAX).await.expect("kept");
        assert!(secrets.get(&link).await.expect("a look") == Some(Secret::new(text)));
    }
    assert!(secrets.ensure(&link).await.expect("there") == Secret::new("another"), "it is not made anew");
    secrets.put(&link, &Secret::new("late"), 0).await.expect("kept, for no time at all");
    assert!(secrets.get(&link).await.expect("a look").is_none(), "its time is over");
    secrets.remove(&link).await.expect("it is forgotten");

    let longest = "x".repeat(200);
    for good in ["a", "a/b/c", "0", "a-b_c.d", &longest] {
        secrets.ensure(&name(good)).await.expect(good);
        secrets.remove(&name(good)).await.expect(good);
    }
    let too_long = "x".repeat(201);
    for bad in ["", "A", "a b", "a\0", "é", "a\n", "*", &too_long] {
        let failed = secrets.ensure(&name(bad)).await;
        assert!(matches!(failed, Err(PortError::Refused(_))), "{bad:?}");
    }
}
