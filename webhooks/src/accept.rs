//! Headers that say what an answer should be like: `Accept`, `Prefer`, `If-None-Match`, `Idempotency-Key`. Pure.

use std::time::Duration;

use http::header::{self, HeaderName};
use http::{HeaderMap, StatusCode};

use crate::problem::Problem;

/// Longest wait of a long poll: below the 30 s after which proxies give up.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(25);
const PREFER: HeaderName = HeaderName::from_static("prefer");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Longest idempotency key, as in the IETF draft's examples of limits.
const MAX_KEY: usize = 255;

/// Picks the offer that `Accept` likes best; the first one when it likes several the same, or is not there.
///
/// # Errors
/// 406 when it likes none.
pub(crate) fn choose<'a>(headers: &HeaderMap, offers: &[&'a str]) -> Result<&'a str, Problem> {
    let text = joined(headers, &header::ACCEPT);
    let first = offers.first().copied().unwrap_or_default();
    if text.trim().is_empty() {
        return Ok(first);
    }
    let mut best = (0, first);
    for offer in offers {
        let quality = quality(&text, offer);
        if quality > best.0 {
            best = (quality, offer);
        }
    }
    if best.0 > 0 {
        return Ok(best.1);
    }
    let detail = format!("this is to be had as {}", offers.join(", "));
    Err(Problem::new(StatusCode::NOT_ACCEPTABLE, "not-acceptable", "Not to be had like this", detail))
}

/// How much a list of media ranges likes a type, in thousandths; the most specific range decides.
fn quality(accept: &str, offer: &str) -> u32 {
    let (kind, _) = offer.split_once('/').unwrap_or((offer, ""));
    let mut found = (0, 0);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok()).unwrap_or(1.0);
        let specific = match name.split_once('/') {
            _ if name.eq_ignore_ascii_case(offer) => 3,
            Some((range, "*")) if range.eq_ignore_ascii_case(kind) => 2,
            Some(("*", "*")) => 1,
            _ => continue,
        };
        if specific > found.0 {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
            let thousandths = (weight.clamp(0.0, 1.0) * 1000.0) as u32;
            found = (specific, thousandths);
        }
    }
    found.1
}

/// `Prefer: wait=N`, at most [`MAX_WAIT`].
pub(crate) fn wait(headers: &HeaderMap) -> Option<Duration> {
    let text = joined(headers, &PREFER);
    let seconds = text.split([',', ';']).find_map(|part| {
        let (name, value) = part.split_once('=')?;
        let value = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case("wait").then(|| value.parse::<u64>().ok()).flatten()
    })?;
    Some(Duration::from_secs(seconds).min(MAX_WAIT))
}

/// The sequence of an entity tag in `If-None-Match`, if it is one of ours.
pub(crate) fn if_none_match(headers: &HeaderMap) -> Option<u64> {
    let text = joined(headers, &header::IF_NONE_MATCH);
    let tag = text.split(',').next_back()?.trim();
    tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"').parse().ok()
}

/// Demands what `If-Match` does, if it is there: that the caller has seen the state as it is.
///
/// # Errors
/// 412 when it is another.
pub(crate) fn if_match(headers: &HeaderMap, sequence: u64) -> Result<(), Problem> {
    if !headers.contains_key(header::IF_MATCH) {
        return Ok(());
    }
    let text = joined(headers, &header::IF_MATCH);
    let same = |tag: &str| {
        tag == "*"
            || tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')) == Some(&sequence.to_string())
    };
    if text.split(',').map(str::trim).any(same) {
        return Ok(());
    }
    let detail =
        "it has changed since you looked: look at it again, and send its ETag if you still want this";
    Err(Problem::new(StatusCode::PRECONDITION_FAILED, "stale", "This is not the state you saw", detail)
        .header(header::ETAG, &format!("\"{sequence}\"")))
}

/// `Idempotency-Key`: a structured-field string, or the bare text that many clients send.
///
/// # Errors
/// 400 when it is doubled, empty, too long or no visible ASCII.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let bad = || {
        Problem::bad_request(format!(
            "Idempotency-Key has 1 to {MAX_KEY} visible ASCII characters, and is sent once"
        ))
    };
    let text = value.to_str().map_err(|_| bad())?.trim();
    let key = match text.strip_prefix('"') {
        None => text.to_owned(),
        Some(quoted) => unquote(quoted).ok_or_else(bad)?,
    };
    let fits =
        !key.is_empty() && key.len() <= MAX_KEY && key.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    if fits && values.next().is_none() { Ok(Some(key)) } else { Err(bad()) }
}

fn unquote(text: &str) -> Option<String> {
    let inner = text.strip_suffix('"')?;
    let mut key = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => key.push(chars.next().filter(|c| matches!(c, '"' | '\\'))?),
            '"' => return None,
            _ => key.push(c),
        }
    }
    Some(key)
}

fn joined(headers: &HeaderMap, name: &HeaderName) -> String {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: HeaderName, value: &str) -> HeaderMap {
        [(name, value.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn accept_picks_the_best_offer() {
        let offers = ["application/json", "text/event-stream", "application/x-ndjson"];
        for (accept, want) in [
            ("*/*", Some("application/json")),
            ("text/event-stream", Some("text/event-stream")),
            ("text/html, */*;q=0.1", Some("application/json")),
            ("application/json;q=0.5, text/event-stream", Some("text/event-stream")),
            ("application/*, application/json;q=0", Some("application/x-ndjson")),
            ("text/*", Some("text/event-stream")),
            ("image/png", None),
            ("", Some("application/json")),
        ] {
            let got = choose(&with(header::ACCEPT, accept), &offers);
            assert_eq!(got.ok(), want, "{accept}");
        }
        assert_eq!(choose(&HeaderMap::new(), &offers).ok(), Some("application/json"));
    }

    #[test]
    fn prefer_wait_is_bounded() {
        for (text, want) in [
            ("wait=10", Some(10)),
            ("respond-async, wait=3", Some(3)),
            ("Wait = \"4\"", Some(4)),
            ("wait=9999", Some(25)),
            ("wait=-1", None),
            ("wait", None),
            ("return=minimal", None),
        ] {
            assert_eq!(wait(&with(PREFER, text)), want.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn entity_tags_are_sequences() {
        for (text, want) in [("\"42\"", Some(42)), ("W/\"42\"", Some(42)), ("\"x\"", None), ("*", None)] {
            assert_eq!(if_none_match(&with(header::IF_NONE_MATCH, text)), want, "{text}");
        }
    }

    #[test]
    fn idempotency_keys_are_strings_or_bare() {
        let get = |text: &str| {
            idempotency_key(&with(IDEMPOTENCY_KEY, text)).map_err(|problem| problem.status.as_u16())
        };
        assert_eq!(get("\"a-1\""), Ok(Some("a-1".to_owned())));
        assert_eq!(get("a-1"), Ok(Some("a-1".to_owned())));
        assert_eq!(get(r#""a\"b\\""#), Ok(Some(r#"a"b\"#.to_owned())));
        for bad in ["", "\"\"", "\"a", "\"a\"b\"", r#""a\n""#, &"x".repeat(256)] {
            assert_eq!(get(bad), Err(400), "{bad:?}");
        }
        assert_eq!(idempotency_key(&HeaderMap::new()).ok(), Some(None));
        let mut twice = with(IDEMPOTENCY_KEY, "a");
        twice.append(IDEMPOTENCY_KEY, "b".parse().unwrap());
        assert!(idempotency_key(&twice).is_err());
    }
}
