//! W3C trace contexts: `traceparent` is taken over when it is well formed, kept with the task, and given on in callbacks as a child of
//! its own. Pure; it starts no traces, since a caller without one has nowhere to look at it.

use http::HeaderMap;
use sha2::{Digest, Sha256};

/// Length of a `traceparent` of version 00, the only one there is.
const LENGTH: usize = 55;

/// The caller's `traceparent`, if there is a whole one.
pub(crate) fn incoming(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all("traceparent").iter();
    let text = values.next()?.to_str().ok()?;
    (values.next().is_none() && is_whole(text)).then(|| text.to_owned())
}

/// The `traceparent` of something that follows from `parent`: the same trace, a span of its own for each `what`.
pub(crate) fn child(parent: &str, what: &str) -> Option<String> {
    if !is_whole(parent) {
        return None;
    }
    let span = hex::encode(&Sha256::digest(format!("{parent} {what}"))[..8]);
    Some(format!("{}{span}{}", &parent[..36], &parent[52..]))
}

fn is_whole(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [version, trace, span, flags] = parts[..] else { return false };
    let hex = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let some = |text: &str| text.bytes().any(|b| b != b'0');
    text.len() == LENGTH
        && version == "00"
        && (trace.len(), span.len(), flags.len()) == (32, 16, 2)
        && hex(trace)
        && hex(span)
        && hex(flags)
        && some(trace)
        && some(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn only_whole_contexts_are_taken_over() {
        let with = |text: &str| {
            let headers: HeaderMap =
                [("traceparent".parse().unwrap(), text.parse().unwrap())].into_iter().collect();
            incoming(&headers)
        };
        assert_eq!(with(PARENT).as_deref(), Some(PARENT));
        for wrong in [
            "",
            "00",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert_eq!(with(wrong), None, "{wrong}");
        }
        let mut twice = HeaderMap::new();
        twice.append("traceparent", PARENT.parse().unwrap());
        twice.append("traceparent", PARENT.parse().unwrap());
        assert_eq!(incoming(&twice), None);
    }

    #[test]
    fn a_child_is_of_the_same_trace() {
        let (one, other) = (child(PARENT, "msg_1 1").unwrap(), child(PARENT, "msg_1 2").unwrap());
        assert!(is_whole(&one) && one != other && one != PARENT, "{one}");
        assert_eq!((&one[..36], &one[52..]), (&PARENT[..36], "-01"));
        assert_eq!(child("nonsense", "x"), None);
    }
}
