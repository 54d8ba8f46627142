//! Every provider by its published vectors, and the traps of each.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::*;
use crate::filter::Condition;

const STANDARD: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
/// RFC 8032, test 1.
const DISCORD_PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
const DISCORD_PRIVATE: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
const SLACK_BODY: &str = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
const FORM: &str = "application/x-www-form-urlencoded";

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap())
    };
    pairs.iter().map(pair).collect()
}

fn secret(provider: Provider, signs: bool) -> Secret {
    Secret::new(match provider {
        Provider::Discord if signs => DISCORD_PRIVATE,
        Provider::Discord => DISCORD_PUBLIC,
        _ => STANDARD,
    })
}

fn keys(provider: Provider) -> Vec<Key> {
    vec![provider.key(&secret(provider, false)).unwrap()]
}

fn key(provider: Provider, text: &str) -> Vec<Key> {
    vec![provider.key(&Secret::new(text)).unwrap()]
}

fn signed(provider: Provider, body: &[u8], now_s: u64) -> HeaderMap {
    let key = provider.signing_key(&secret(provider, true)).unwrap();
    provider
        .sign(&[key], "msg_1", now_s, body)
        .into_iter()
        .map(|(name, value)| (name, HeaderValue::try_from(value).unwrap()))
        .collect()
}

/// The header that holds a provider's signature or token.
fn signature_of(provider: Provider) -> &'static str {
    match provider {
        Provider::Standard | Provider::Gitlab => "webhook-signature",
        Provider::Github => "x-hub-signature-256",
        Provider::Gitea => "x-gitea-signature",
        Provider::Forgejo => "x-forgejo-signature",
        Provider::Bitbucket => "x-hub-signature",
        Provider::Slack => "x-slack-signature",
        Provider::Mattermost => "authorization",
        Provider::Discord => "x-signature-ed25519",
        Provider::HmacSha256 => "x-signature-256",
    }
}

#[test]
fn what_each_provider_signs_it_verifies() {
    for provider in Provider::ALL {
        assert_eq!(Provider::find(provider.as_str()), Some(provider));
        let (keys, headers) = (keys(provider), signed(provider, b"{}", 1000));
        assert!(provider.verify(&headers, b"{}", &keys, 1000).is_ok(), "{provider:?}");
        if provider != Provider::Mattermost {
            let other = provider.verify(&headers, b"{ }", &keys, 1000);
            assert_eq!(other, Err(Refused::Mismatch), "{provider:?}");
        }
        let stranger = key(
            provider,
            match provider {
                Provider::Discord => "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
                _ => "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            },
        );
        assert_eq!(provider.verify(&headers, b"{}", &stranger, 1000), Err(Refused::Mismatch), "{provider:?}");
        let both = [stranger, keys].concat();
        let found = provider.verify(&headers, b"{}", &both, 1000).unwrap();
        assert_eq!(found.key, 1, "{provider:?}: while rotating, each key counts");
    }
    assert_eq!(Provider::find("sha1"), None);
}

#[test]
fn missing_doubled_and_empty_signatures_are_refused() {
    for provider in Provider::ALL {
        let (keys, good) = (keys(provider), signed(provider, b"{}", 1000));
        let name = signature_of(provider);
        assert!(provider.verify(&HeaderMap::new(), b"{}", &keys, 1000).is_err(), "{provider:?}");
        let mut doubled = good.clone();
        doubled.append(name, good[name].clone());
        let got = provider.verify(&doubled, b"{}", &keys, 1000);
        assert!(matches!(got, Err(Refused::Header(_) | Refused::ConfiguredHeader)), "{provider:?}: {got:?}");
        let mut empty = good;
        empty.insert(name, HeaderValue::from_static(""));
        assert!(provider.verify(&empty, b"{}", &keys, 1000).is_err(), "{provider:?}");
        assert_eq!(provider.key(&Secret::new(" ")), Err(KeyError::Empty), "{provider:?}");
    }
}

#[test]
fn the_window_is_five_minutes_both_ways_where_the_time_is_signed() {
    for provider in [Provider::Standard, Provider::Gitlab, Provider::Slack, Provider::Discord] {
        let (keys, headers) = (keys(provider), signed(provider, b"{}", 1000));
        for (now, want) in [(700, true), (699, false), (1300, true), (1301, false)] {
            let got = provider.verify(&headers, b"{}", &keys, now);
            assert_eq!(got.is_ok(), want, "{provider:?} at {now}: {got:?}");
            assert!(want || got == Err(Refused::Stale), "{provider:?} at {now}: {got:?}");
        }
    }
}

#[test]
fn sha1_is_never_accepted() {
    let sha1 = "sha1=6ccdde2f2fdb3e25a4dbbf2a7b1a9d1c8f3a1e62";
    let both = headers(&[("x-hub-signature", sha1)]);
    let github = Provider::Github.verify(&both, b"{}", &keys(Provider::Github), 0);
    assert_eq!(github, Err(Refused::Header("x-hub-signature-256")));
    let bitbucket = Provider::Bitbucket.verify(&both, b"{}", &keys(Provider::Bitbucket), 0);
    assert_eq!(bitbucket, Err(Refused::Mismatch));
    // Gitea sends GitHub's headers too; only its own count.
    let mut gitea = signed(Provider::Gitea, b"{}", 0);
    gitea.remove("x-gitea-signature");
    gitea.extend(signed(Provider::Github, b"{}", 0));
    let got = Provider::Gitea.verify(&gitea, b"{}", &keys(Provider::Gitea), 0);
    assert_eq!(got, Err(Refused::Header("x-gitea-signature")));
}

#[test]
fn bitbuckets_vector_and_its_ids() {
    let signature = "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9";
    let keys = key(Provider::Bitbucket, "It's a Secret to Everybody");
    let base = [("x-hub-signature", signature), ("x-event-key", "repo:push")];
    for id in ["x-request-uuid", "x-request-id"] {
        let headers = headers(&[&base[..], &[(id, "u-1")]].concat());
        let verified = Provider::Bitbucket.verify(&headers, b"Hello World!", &keys, 0).unwrap();
        assert_eq!(
            (verified.delivery.as_deref(), verified.event.as_deref()),
            (Some("u-1"), Some("repo:push"))
        );
        assert!(!verified.id_is_signed);
    }
    assert!(is_unsigned_ping(&headers(&[("x-event-key", "diagnostics:ping")])));
    assert!(!is_unsigned_ping(&headers(&[("x-event-key", "diagnostics:ping"), ("x-hub-signature", "x")])));
}

#[test]
fn gitea_and_forgejo_sign_the_json_also_within_a_form() {
    // RFC 4231, case 2.
    let mac = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    for (provider, name) in
        [(Provider::Gitea, "x-gitea-signature"), (Provider::Forgejo, "x-forgejo-signature")]
    {
        let keys = key(provider, "Jefe");
        let plain = headers(&[(name, mac), ("content-type", "application/json")]);
        assert!(provider.verify(&plain, b"what do ya want for nothing?", &keys, 0).is_ok());
        let form = headers(&[(name, mac), ("content-type", FORM)]);
        let body = b"payload=what+do+ya+want+for+nothing%3F";
        assert!(provider.verify(&form, body, &keys, 0).is_ok());
        let doubled = [&body[..], b"&payload=%7B%7D"].concat();
        assert_eq!(provider.verify(&form, &doubled, &keys, 0), Err(Refused::Mismatch), "which one counts?");
        let prefixed = headers(&[(name, &format!("sha256={mac}"))]);
        assert!(provider.verify(&prefixed, b"what do ya want for nothing?", &keys, 0).is_err());
    }
    let github = key(Provider::Github, "Jefe");
    let of_text = headers(&[("x-hub-signature-256", &format!("sha256={mac}")), ("content-type", FORM)]);
    let got = Provider::Github.verify(&of_text, b"payload=what+do+ya+want+for+nothing%3F", &github, 0);
    assert_eq!(got, Err(Refused::Mismatch), "GitHub signs the form as it is");
}

#[test]
fn gitlab_with_a_secret_token() {
    let keys = key(Provider::Gitlab, "hunter2-hunter2");
    let got = |pairs: &[(&str, &str)]| Provider::Gitlab.verify(&headers(pairs), b"{}", &keys, 0);
    let event = ("x-gitlab-event", "Push Hook");
    let right = ("x-gitlab-token", "hunter2-hunter2");
    let verified =
        got(&[event, right, ("idempotency-key", "k-1"), ("x-gitlab-webhook-uuid", "w-1")]).unwrap();
    assert_eq!((verified.delivery.as_deref(), verified.event.as_deref()), (Some("k-1"), Some("Push Hook")));
    // The webhook's own id, and that of a chain of webhooks, come again with every push.
    let older = got(&[right, ("x-gitlab-webhook-uuid", "w-1"), ("x-gitlab-event-uuid", "e-1")]).unwrap();
    assert_eq!((older.delivery, older.id_is_signed), (None, false));
    assert_eq!(got(&[event, ("x-gitlab-token", "hunter2")]), Err(Refused::Mismatch));
    assert_eq!(got(&[event, ("x-gitlab-token", "")]), Err(Refused::Mismatch));
    assert_eq!(got(&[event]), Err(Refused::Header("x-gitlab-token")));
}

#[test]
fn gitlab_with_a_signing_token_looks_at_nothing_weaker() {
    let signing = keys(Provider::Gitlab);
    let mut good = signed(Provider::Gitlab, b"{}", 1000);
    let verified = Provider::Gitlab.verify(&good, b"{}", &signing, 1000).unwrap();
    assert_eq!((verified.event.as_deref(), verified.id_is_signed), (Some("Push Hook"), true));
    let token = headers(&[("x-gitlab-token", STANDARD)]);
    let got = Provider::Gitlab.verify(&token, b"{}", &signing, 1000);
    assert_eq!(got, Err(Refused::Header("webhook-id")), "the signing token itself is no password");
    // While a hook moves from one to the other, a wrong signature is not made good by the token.
    let both = [signing, key(Provider::Gitlab, "old-token")].concat();
    good.insert("x-gitlab-token", HeaderValue::from_static("old-token"));
    assert_eq!(Provider::Gitlab.verify(&good, b"{}", &both, 1000).unwrap().key, 0);
    assert_eq!(Provider::Gitlab.verify(&good, b"{ }", &both, 1000), Err(Refused::Mismatch));
    let only_token = headers(&[("x-gitlab-token", "old-token")]);
    assert_eq!(Provider::Gitlab.verify(&only_token, b"{}", &both, 1000).unwrap().key, 1);
}

#[test]
fn slacks_vector_and_what_its_bodies_say() {
    let signature = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
    let keys = key(Provider::Slack, "8f742231b10e8888abcd99yyyzzz85a5");
    let good = headers(&[("x-slack-signature", signature), ("x-slack-request-timestamp", "1531420618")]);
    let check = |body: &str, now| Provider::Slack.verify(&good, body.as_bytes(), &keys, now);
    assert!(check(SLACK_BODY, 1_531_420_618).unwrap().id_is_signed);
    assert_eq!(check(SLACK_BODY, 1_531_420_618 + 301), Err(Refused::Stale));
    assert_eq!(check(SLACK_BODY, 1_531_420_618 - 301), Err(Refused::Stale), "nor from the future");
    assert_eq!(check("token=x", 1_531_420_618), Err(Refused::Mismatch));
    let said = Provider::Slack.payload(FORM, SLACK_BODY.as_bytes()).unwrap().unwrap();
    assert_eq!(said.event.as_deref(), Some("command"));
    assert_eq!(said.delivery.as_deref(), Some("398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"));
    assert_eq!(said.value["command"], "/webhook-collect");
    assert!(said.value.get("token").is_none(), "a token is nobody's parameter");
    let button = b"payload=%7B%22type%22%3A%22block_actions%22%2C%22trigger_id%22%3A%22t%22%7D";
    let said = Provider::Slack.payload(FORM, button).unwrap().unwrap();
    assert_eq!((said.event.as_deref(), said.delivery.as_deref()), (Some("block_actions"), Some("t")));
    let event = br#"{"type":"event_callback","event_id":"Ev1","event":{"type":"app_mention"}}"#;
    let said = Provider::Slack.payload("application/json", event).unwrap().unwrap();
    assert_eq!((said.event.as_deref(), said.delivery.as_deref()), (Some("app_mention"), Some("Ev1")));
    let hello = json!({"type": "url_verification", "challenge": "abc", "token": "x"});
    assert_eq!(Provider::Slack.greeting(&hello), Some(json!({"challenge": "abc"})));
    assert!(matches!(Provider::Slack.payload(FORM, b"a=1&a=2"), Some(Err(_))), "a doubled field");
}

#[test]
fn discords_signature_covers_time_and_body() {
    let signature = "16b0c60b181dc59288f26156c080f5eb1e8f2916de8cd0ea4eb83105cce13678770496083db92599945686cbcd6324edca9e1434ba3d66d0f0e9c1ec7494330a";
    let keys = keys(Provider::Discord);
    let with = |signature: &str, time: &str| {
        let headers = headers(&[("x-signature-ed25519", signature), ("x-signature-timestamp", time)]);
        Provider::Discord.verify(&headers, br#"{"type":1}"#, &keys, 1_609_459_200)
    };
    assert!(with(signature, "1609459200").is_ok());
    assert_eq!(with(signature, "1609459201"), Err(Refused::Mismatch));
    for bad in ["", "zz", "16b0", &"0".repeat(128), &signature.replace('1', "2")] {
        assert_eq!(with(bad, "1609459200"), Err(Refused::Mismatch), "{bad}");
    }
    assert_eq!(Provider::Discord.greeting(&json!({"type": 1})), Some(json!({"type": 1})));
    assert_eq!(Provider::Discord.greeting(&json!({"type": 2})), None);
}

#[test]
fn mattermosts_token_stands_in_the_header_or_the_body() {
    let keys = key(Provider::Mattermost, "hunter2");
    let check = |pairs: &[(&str, &str)], body: &str| {
        Provider::Mattermost.verify(&headers(pairs), body.as_bytes(), &keys, 0).map(|_| ())
    };
    let (form, json) = (("content-type", FORM), ("content-type", "application/json"));
    assert_eq!(check(&[("authorization", "Token hunter2"), form], "token=other"), Ok(()));
    assert_eq!(check(&[form], "token=hunter2&trigger_id=t"), Ok(()));
    assert_eq!(check(&[json], r#"{"token":"hunter2"}"#), Ok(()));
    assert_eq!(check(&[("authorization", "Token wrong"), form], "token=hunter2"), Err(Refused::Mismatch));
    assert_eq!(check(&[("authorization", "Bearer hunter2"), form], "token=hunter2"), Err(Refused::Body));
    assert_eq!(check(&[form], "token=hunter2&token=hunter2"), Err(Refused::Body));
    assert_eq!(check(&[json], r#"{"token":"hunter2","token":"x"}"#), Err(Refused::Body));
    assert_eq!(check(&[form], "text=hunter2"), Err(Refused::Body));
    assert_eq!(check(&[form], "token="), Err(Refused::Mismatch));
    let said =
        Provider::Mattermost.payload(FORM, b"token=hunter2&command=%2Fk&trigger_id=t").unwrap().unwrap();
    assert_eq!((said.event.as_deref(), said.delivery.as_deref()), (Some("command"), Some("t")));
    assert!(!said.value.to_string().contains("hunter2"));
}

#[test]
fn other_senders_are_configured() {
    let scheme = |spec: CustomSpec| Scheme::new(Provider::HmacSha256, Some(spec)).unwrap();
    let text = |text: &str| Some(text.to_owned());
    let keys = key(Provider::HmacSha256, "Jefe");
    let (body, mac) =
        (b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    let check = |scheme: &Scheme, name: &str, value: &str| {
        scheme.verify(&headers(&[(name, value), ("x-id", "d-1"), ("x-what", "push")]), body, &keys, 0)
    };
    let plain = Scheme::from(Provider::HmacSha256);
    assert!(check(&plain, "x-signature-256", mac).is_ok());
    assert!(check(&plain, "x-signature-256", &format!("sha256={mac}")).is_ok());
    assert_eq!(check(&plain, "x-signature", mac), Err(Refused::ConfiguredHeader));
    let own = scheme(CustomSpec {
        header: text("X-Shop-Signature"),
        encoding: text("base64"),
        prefix: text("v1="),
        id_header: text("x-id"),
        event_header: text("x-what"),
    });
    let verified =
        check(&own, "x-shop-signature", "v1=W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=").unwrap();
    assert_eq!((verified.delivery.as_deref(), verified.event.as_deref()), (Some("d-1"), Some("push")));
    assert!(check(&own, "x-shop-signature", "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=").is_err());
    let mistakes = Scheme::new(
        Provider::HmacSha256,
        Some(CustomSpec { header: text("a b"), encoding: text("hex64"), ..CustomSpec::default() }),
    )
    .unwrap_err();
    let fields: Vec<&str> = mistakes.iter().map(|mistake| mistake.field.as_str()).collect();
    assert_eq!(fields, ["signature.header", "signature.encoding"]);
    assert!(Scheme::new(Provider::Github, Some(CustomSpec::default())).is_err());
}

#[test]
fn payloads_come_as_json_or_as_the_providers_form() {
    let value = |provider: Provider, kind: &str, body: &[u8]| {
        provider.payload(kind, body).map(|payload| payload.map(|payload| payload.value))
    };
    let form = b"payload=%7B%22a%22%3A1%7D";
    for provider in [Provider::Github, Provider::Gitea, Provider::Forgejo] {
        assert_eq!(value(provider, FORM, form), Some(Ok(json!({"a": 1}))));
        assert!(matches!(value(provider, FORM, b"x=1"), Some(Err(_))));
    }
    for provider in [Provider::Standard, Provider::Gitlab, Provider::Bitbucket, Provider::Discord] {
        assert_eq!(value(provider, FORM, form), None);
    }
    assert_eq!(value(Provider::HmacSha256, FORM, b"site=a.test"), Some(Ok(json!({"site": "a.test"}))));
    for kind in ["Application/JSON; charset=utf-8", "application/cloudevents+json"] {
        assert_eq!(value(Provider::Standard, kind, b"{}"), Some(Ok(json!({}))));
    }
    assert_eq!(value(Provider::Standard, "text/json", b"{}"), None);
}

/// The same push, pull request, tag and removal as each forge tells them.
fn told(provider: Provider) -> [(&'static str, Value); 4] {
    let commits = json!([{"added": ["docs/a.md"], "modified": ["sites/shop/x.php"], "removed": []}]);
    match provider {
        Provider::Gitlab => [
            (
                "Push Hook",
                json!({"ref": "refs/heads/main", "after": "9f", "commits": commits, "total_commits_count": 1}),
            ),
            (
                "Merge Request Hook",
                json!({"object_attributes": {"source_branch": "x", "target_branch": "main"}}),
            ),
            ("Tag Push Hook", json!({"ref": "refs/tags/v1", "after": "9f", "commits": []})),
            ("Push Hook", json!({"ref": "refs/heads/main", "after": "0000000000"})),
        ],
        Provider::Bitbucket => [
            (
                "repo:push",
                json!({"push": {"changes": [
                {"new": {"type": "branch", "name": "other"}}, {"new": {"type": "branch", "name": "main"}}]}}),
            ),
            ("pullrequest:created", json!({"pullrequest": {"destination": {"branch": {"name": "main"}}}})),
            (
                "repo:refs_changed",
                json!({"changes": [{"ref": {"id": "refs/tags/v1", "displayId": "v1", "type": "TAG"}, "type": "ADD"}]}),
            ),
            (
                "repo:push",
                json!({"push": {"changes": [{"new": null, "old": {"type": "branch", "name": "main"}}]}}),
            ),
        ],
        _ => [
            ("push", json!({"ref": "refs/heads/main", "after": "9f", "commits": commits})),
            ("pull_request", json!({"pull_request": {"base": {"ref": "main"}, "head": {"ref": "x"}}})),
            ("push", json!({"ref": "refs/tags/v1", "after": "9f", "commits": []})),
            ("push", json!({"ref": "refs/heads/main", "after": "0000", "deleted": true})),
        ],
    }
}

#[test]
fn a_filter_means_the_same_at_every_forge() {
    for provider in
        [Provider::Github, Provider::Gitlab, Provider::Gitea, Provider::Forgejo, Provider::Bitbucket]
    {
        let told = told(provider);
        let holds = |text: &str, (event, body): &(&str, Value)| {
            let facts = Facts { provider, event: Some(event), body };
            Condition::parse(text).unwrap().check(&facts).is_ok()
        };
        for (text, want) in [
            ("event == push", [true, false, true, false]),
            ("event == pull_request", [false, true, false, false]),
            ("event == delete", [false, false, false, true]),
            ("branch == main", [true, true, false, true]),
            ("branch matches ma*", [true, true, false, true]),
            ("branch != main", [false, false, true, false]),
            ("branch missing", [false, false, true, false]),
            ("tag == v1", [false, false, true, false]),
        ] {
            let got: Vec<bool> = told.iter().map(|told| holds(text, told)).collect();
            assert_eq!(got, want, "{provider:?}: {text}");
        }
        if provider.tells_paths() {
            assert!(holds("path matches sites/shop/*", &told[0]), "{provider:?}");
            assert!(!holds("path matches sites/blog/*", &told[0]), "{provider:?}");
            assert!(!holds("path matches *", &told[1]), "{provider:?}: a pull request changes no file yet");
        }
    }
    let facts = |event, body| Facts { provider: Provider::Gitlab, event: Some(event), body };
    let own = Condition::parse("event == \"Pipeline Hook\"").unwrap();
    assert!(own.check(&facts("Pipeline Hook", &json!({}))).is_ok(), "the sender's own word counts too");
}

#[test]
fn files_that_were_not_all_told_count_as_changed() {
    let condition = Condition::parse("path matches sites/blog/*").unwrap();
    let commits = json!([{"modified": ["sites/shop/x.php"]}]);
    for (provider, body, want) in [
        (Provider::Gitlab, json!({"commits": commits, "total_commits_count": 1}), false),
        (Provider::Gitlab, json!({"commits": commits, "total_commits_count": 21}), true),
        (Provider::Gitea, json!({"commits": commits, "total_commits": 16}), true),
        (Provider::Github, json!({"commits": commits, "forced": false}), false),
        (Provider::Github, json!({"commits": commits, "forced": true}), true),
    ] {
        let facts = Facts { provider, event: Some("push"), body: &body };
        assert_eq!(condition.check(&facts).is_ok(), want, "{body}");
    }
}
