//! How keys are spelled inside sled: never with the byte 0xff. It knows nothing of their meaning.
//!
//! Iterating backwards, sled 0.34.7 looks for the left neighbour of a page that starts at `..b` under the key
//! `..(b-1) ff ff ff ff`. A page that starts above that key is never found, and sled panics ("tree traversal next_back").
//! Without 0xff in any key no page starts there. The spelling keeps the order of keys and their prefixes:
//! 0xfe becomes `fe 00`, 0xff becomes `fe 01`.

use std::borrow::Cow;

const ESCAPE: u8 = 0xfe;

/// The spelling of a key, or of a prefix of keys.
pub(crate) fn encode(key: &[u8]) -> Cow<'_, [u8]> {
    if key.iter().all(|&byte| byte < ESCAPE) {
        return Cow::Borrowed(key);
    }
    let mut spelled = Vec::with_capacity(key.len() + 8);
    for &byte in key {
        match byte.checked_sub(ESCAPE) {
            None => spelled.push(byte),
            Some(offset) => spelled.extend([ESCAPE, offset]),
        }
    }
    Cow::Owned(spelled)
}

/// The key of a spelling that [`encode`] made.
pub(crate) fn decode(spelled: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(spelled.len());
    let mut bytes = spelled.iter();
    while let Some(&byte) = bytes.next() {
        key.push(if byte == ESCAPE {
            ESCAPE.saturating_add(bytes.next().copied().unwrap_or(0))
        } else {
            byte
        });
    }
    key
}

/// The smallest key above all keys with this prefix; none when every key above the prefix has it.
pub(crate) fn first_above(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte < 0xff)?;
    let mut above = prefix[..=last].to_vec();
    above[last] += 1;
    Some(above)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All keys of up to three bytes over the bytes at the edges.
    fn keys() -> Vec<Vec<u8>> {
        let mut keys = vec![Vec::new()];
        for start in 0.. {
            let Some(key) = keys.get(start).cloned() else { break };
            if key.len() < 3 {
                keys.extend([0, 1, 2, 0xfd, 0xfe, 0xff].map(|byte| [key.as_slice(), &[byte]].concat()));
            }
        }
        keys
    }

    #[test]
    fn the_spelling_keeps_order_and_prefixes_and_comes_back() {
        for a in keys() {
            assert_eq!(decode(&encode(&a)), a);
            assert!(!encode(&a).contains(&0xff));
            for b in keys() {
                assert_eq!(encode(&a).cmp(&encode(&b)), a.cmp(&b), "{a:?} {b:?}");
                assert_eq!(encode(&a).starts_with(&encode(&b)), a.starts_with(&b), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn first_above_is_the_exact_end_of_a_prefix() {
        for prefix in keys() {
            let above = first_above(&prefix);
            for key in keys().into_iter().filter(|key| *key >= prefix) {
                let below_end = above.as_ref().is_none_or(|above| key < *above);
                assert_eq!(key.starts_with(&prefix), below_end, "{key:?} under {prefix:?}");
            }
        }
    }
}
