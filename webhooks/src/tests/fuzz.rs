//! Texts of strangers and of configurations, at random: parsers answer, and never panic.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::config::{Sites, matches_glob};
use crate::filter::Condition;
use crate::mapping::Mapping;
use crate::provider::Facts;
use crate::{Provider, Secret, accept, route};

fn headers(pairs: &[(&'static str, &[u8])]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &[u8])| {
        Some((HeaderName::from_static(name), HeaderValue::from_bytes(value).ok()?))
    };
    pairs.iter().filter_map(pair).collect()
}

proptest! {
    #[test]
    fn conditions(text in "(event|branch|path|/a|==|in|\\[|\\]|,|or|\"|\\\\| |é|x){0,12}") {
        if let Ok(condition) = Condition::parse(&text) {
            let body = json!({"a": 1, "ref": "refs/heads/x"});
            let holds = condition.check(&Facts { provider: Provider::Gitlab, event: Some("x"), body: &body });
            prop_assert!(holds.is_ok() || holds.is_err_and(|reason| reason.contains(text.trim())));
        }
    }

    #[test]
    fn mappings(text in "([{}/?~01é]|a){0,12}") {
        let mut mistakes = Vec::new();
        let mapping = Mapping::parse(&Value::String(text), "m", &mut mistakes);
        if mistakes.is_empty() {
            let faults = mapping.apply(&json!({"a": "b", "": {"a": 1}})).err().unwrap_or_default();
            prop_assert!(faults.iter().all(|fault| fault.pointer.starts_with('/')));
        }
    }

    #[test]
    fn header_values(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let all = headers(&[
            ("accept", &bytes), ("prefer", &bytes), ("if-none-match", &bytes), ("idempotency-key", &bytes),
            ("webhook-id", &bytes), ("webhook-timestamp", &bytes), ("webhook-signature", &bytes),
            ("x-hub-signature-256", &bytes), ("x-hub-signature", &bytes), ("x-gitlab-token", &bytes), ("authorization", &bytes),
            ("x-gitea-signature", &bytes), ("x-forgejo-signature", &bytes), ("x-signature-256", &bytes),
            ("x-slack-signature", &bytes), ("x-slack-request-timestamp", &bytes),
            ("x-signature-ed25519", &bytes), ("x-signature-timestamp", &bytes),
        ]);
        prop_assert!(accept::wait(&all).is_none_or(|wait| wait <= accept::MAX_WAIT));
        prop_assert!(accept::choose(&all, &["a/b"]).is_ok_and(|kind| kind == "a/b") || all.contains_key("accept"));
        prop_assert!(accept::idempotency_key(&all).is_ok_and(|key| key.is_none_or(|key| key.len() <= 255)) || all.contains_key("idempotency-key"));
        prop_assert!(accept::if_none_match(&all).is_none() || all.contains_key("if-none-match"));
        let secret = Secret::new("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD");
        let discord = Secret::new("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        for provider in Provider::ALL {
            let secret = if provider == Provider::Discord { &discord } else { &secret };
            let keys = [provider.key(secret).unwrap()];
            prop_assert!(provider.verify(&all, &bytes, &keys, 0).is_err(), "nobody signed this");
        }
    }

    #[test]
    fn paths(path in "(/|v1|tasks|hooks|%2e|\\.\\.|é|x|task_0193f1c20000700080000000000000aa){0,8}") {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            if let route::Routed::Found(found) = route::route(&method, &path) {
                prop_assert!(path.starts_with('/') && !found.name().is_empty());
            }
        }
    }

    #[test]
    fn globs_agree_with_a_plain_matcher(pattern in "[ab*]{0,8}", text in "[ab]{0,8}") {
        fn plain(pattern: &[u8], text: &[u8]) -> bool {
            match pattern.split_first() {
                None => text.is_empty(),
                Some((b'*', rest)) => (0..=text.len()).any(|n| plain(rest, &text[n..])),
                Some((c, rest)) => text.first() == Some(c) && plain(rest, &text[1..]),
            }
        }
        prop_assert_eq!(matches_glob(&pattern, &text), plain(pattern.as_bytes(), text.as_bytes()));
    }

    #[test]
    fn no_site_outside_its_pattern(site in "[a-zA-Z0-9./\\\\@:é\u{0}-]{0,20}") {
        let sites = Sites::new(&["*.a.test".to_owned()], &mut Vec::new());
        if sites.covers(Some(&site)) {
            prop_assert!(site.trim_end_matches('.').to_lowercase().ends_with(".a.test"), "{:?}", site);
        }
    }
}

/// A request such as no client would send, near one that clients do send.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let lines = prop::sample::select(vec![
        "POST /v1/tasks HTTP/1.1",
        "GET /v1/tasks?limit=9999999999999 HTTP/1.1",
        "POST /v1/hooks/deploy HTTP/1.1",
        "GET /v1/tasks/%2e%2e/%00 HTTP/1.1",
        "PRI * HTTP/2.0",
        "GET / HTTP/0.9",
        "DELETE /v1/tasks HTTP/1.1",
        "POST http://x/v1/tasks HTTP/1.1",
        "GET /v1/tasks/task_0193f1c20000700080000000000000aa/events?after=-1 HTTP/1.1",
    ]);
    let headers = prop::sample::select(vec![
        "host: x",
        "authorization: Bearer admin-token-secret",
        "content-type: application/json",
        "content-length: 0",
        "content-length: 18446744073709551616",
        "content-length: 5",
        "transfer-encoding: chunked",
        "transfer-encoding: gzip, chunked",
        "expect: 100-continue",
        "upgrade: h2c",
        "connection: upgrade",
        "last-event-id: 99999999999999999999",
        "prefer: wait=1",
        "idempotency-key: \u{1}",
        "webhook-signature: v1,",
        "accept: */*;q=x",
        "if-plan: ",
        ": empty",
        "no colon",
        "\tfolded",
    ]);
    let bodies = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60),
        Just(b"5\r\n{\"wor\r\n0\r\n\r\n".to_vec()),
        Just(b"ffffffffffffffff\r\n".to_vec()),
        Just(b"{\"workflow\":\"migrate\",\"params\":{\"site\":\"a.test\"}}".to_vec()),
    ];
    (
        lines,
        prop::collection::vec(headers, 0..8),
        any::<bool>(),
        bodies,
        prop::option::weighted(0.2, (any::<prop::sample::Index>(), any::<u8>())),
    )
        .prop_map(|(line, headers, ends, body, damage)| {
            let mut bytes = line.as_bytes().to_vec();
            bytes.extend(b"\r\n");
            headers.iter().for_each(|header| bytes.extend([header.as_bytes(), b"\r\n"].concat()));
            if ends {
                bytes.extend(b"\r\n");
            }
            bytes.extend(body);
            if let Some((at, byte)) = damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes
        })
}

proptest! {
    /// Whatever comes over a connection: an answer of HTTP or its end, no task of it that has a site in it that nobody named, and whoever
    /// comes next is served.
    #[test]
    fn requests(requests in prop::collection::vec(request(), 1..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let h = start().await;
            for request in &requests {
                let mut connection = TcpStream::connect(h.address).await.unwrap();
                // The server may have heard enough before all of it is sent.
                let _ = connection.write_all(request).await;
                let _ = connection.shutdown().await;
                let mut answer = Vec::new();
                let ended = timeout(PATIENCE, connection.read_to_end(&mut answer)).await;
                prop_assert!(ended.is_ok(), "neither an answer nor an end: {:?}", String::from_utf8_lossy(request));
                let http = answer.is_empty() || answer.starts_with(b"HTTP/1.") || request.starts_with(b"PRI") || answer[..answer.len().min(9)].contains(&0);
                prop_assert!(http, "{:?}", String::from_utf8_lossy(&answer));
                prop_assert!(!answer.starts_with(b"HTTP/1.1 500"), "{:?}: {:?}", String::from_utf8_lossy(request), String::from_utf8_lossy(&answer));
            }
            let live = h.client.get(h.url("/livez")).send().await;
            prop_assert!(live.is_ok_and(|answer| answer.status() == 200));
            Ok(())
        })?;
    }
}
