//! The signatures of each provider: which headers and which bytes. Pure: the time comes in, and nothing is told to the sender.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, HeaderName, header};

use super::payload::{form_field, is_form, is_json};
use super::{Custom, Encoding, Provider, Scheme, Verified};
use crate::json;
use crate::signature::{
    Key, Refused, find_ed25519, find_hex, find_mac, find_standard, find_token, in_window, sign_standard,
};

const WEBHOOK_ID: &str = "webhook-id";
const WEBHOOK_TIMESTAMP: &str = "webhook-timestamp";
const WEBHOOK_SIGNATURE: &str = "webhook-signature";
const HUB_SIGNATURE_256: &str = "x-hub-signature-256";
const GITHUB_DELIVERY: &str = "x-github-delivery";
const GITHUB_EVENT: &str = "x-github-event";
const GITLAB_TOKEN: &str = "x-gitlab-token";
const GITLAB_EVENT: &str = "x-gitlab-event";
/// GitLab's id of a delivery. `X-Gitlab-Webhook-UUID` names the webhook, `X-Gitlab-Event-UUID` is shared by recursive ones: neither is an id.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const GITEA: Forge = Forge("x-gitea-signature", "x-gitea-delivery", "x-gitea-event");
const FORGEJO: Forge = Forge("x-forgejo-signature", "x-forgejo-delivery", "x-forgejo-event");
/// Bitbucket's is SHA-256; GitHub sends SHA-1 under the same name.
const HUB_SIGNATURE: &str = "x-hub-signature";
const BITBUCKET_CLOUD_ID: &str = "x-request-uuid";
const BITBUCKET_SERVER_ID: &str = "x-request-id";
const BITBUCKET_EVENT: &str = "x-event-key";
pub(super) const BITBUCKET_PING: &str = "diagnostics:ping";
const SLACK_SIGNATURE: &str = "x-slack-signature";
const SLACK_TIMESTAMP: &str = "x-slack-request-timestamp";
const DISCORD_SIGNATURE: &str = "x-signature-ed25519";
const DISCORD_TIMESTAMP: &str = "x-signature-timestamp";
const AUTHORIZATION: &str = "authorization";

/// Longest header of a signature, id or event that is looked at.
const MAX_HEADER: usize = 1024;
/// Longest id of a delivery: it becomes a dedupe key and is shown.
const MAX_ID: usize = 256;

/// Headers of Gitea and what came of it: signature, delivery, event.
struct Forge(&'static str, &'static str, &'static str);

impl Scheme {
    /// Checks a message. All keys are tried; the same work is done whatever is wrong.
    ///
    /// # Errors
    /// [`Refused`], for our log only.
    pub fn verify(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        keys: &[Key],
        now_s: u64,
    ) -> Result<Verified, Refused> {
        match self.provider {
            Provider::Standard => standard(headers, body, keys, now_s),
            Provider::Github => {
                let found = hex(headers, HUB_SIGNATURE_256, "sha256=", &[body], keys)?;
                Ok(unsigned_id(headers, &[GITHUB_DELIVERY], Some(GITHUB_EVENT), found))
            }
            Provider::Gitlab => gitlab(headers, body, keys, now_s),
            Provider::Gitea => forge(headers, body, keys, &GITEA),
            Provider::Forgejo => forge(headers, body, keys, &FORGEJO),
            Provider::Bitbucket => {
                let found = hex(headers, HUB_SIGNATURE, "sha256=", &[body], keys)?;
                let ids = [BITBUCKET_CLOUD_ID, BITBUCKET_SERVER_ID];
                Ok(unsigned_id(headers, &ids, Some(BITBUCKET_EVENT), found))
            }
            Provider::Slack => {
                let timestamp = one(headers, SLACK_TIMESTAMP);
                let parts: [&[u8]; 4] = [b"v0:", timestamp.unwrap_or_default().as_bytes(), b":", body];
                let found = hex(headers, SLACK_SIGNATURE, "v0=", &parts, keys)?;
                in_window(timestamp?, SLACK_TIMESTAMP, now_s)?;
                Ok(in_body(found))
            }
            Provider::Discord => {
                let (timestamp, signature) =
                    (one(headers, DISCORD_TIMESTAMP), one(headers, DISCORD_SIGNATURE));
                let message = [timestamp.unwrap_or_default().as_bytes(), body].concat();
                let received = ::hex::decode(signature.unwrap_or_default()).unwrap_or_default();
                let found = find_ed25519(keys, &message, &[received]);
                let timestamp = signature.and(timestamp)?;
                let found = found.ok_or(Refused::Mismatch)?;
                in_window(timestamp, DISCORD_TIMESTAMP, now_s)?;
                Ok(in_body(found))
            }
            Provider::Mattermost => mattermost(headers, body, keys),
            Provider::HmacSha256 => self.custom.verify(headers, body, keys),
        }
    }

    /// What the headers claim, whoever sent them: for people who try a body out without its signature.
    pub(crate) fn claimed(&self, headers: &HeaderMap) -> Verified {
        match self.provider {
            Provider::Standard => unsigned_id(headers, &[WEBHOOK_ID], None, 0),
            Provider::Github => unsigned_id(headers, &[GITHUB_DELIVERY], Some(GITHUB_EVENT), 0),
            Provider::Gitlab => unsigned_id(headers, &[IDEMPOTENCY_KEY], Some(GITLAB_EVENT), 0),
            Provider::Gitea => unsigned_id(headers, &[GITEA.1], Some(GITEA.2), 0),
            Provider::Forgejo => unsigned_id(headers, &[FORGEJO.1], Some(FORGEJO.2), 0),
            Provider::Bitbucket => {
                unsigned_id(headers, &[BITBUCKET_CLOUD_ID, BITBUCKET_SERVER_ID], Some(BITBUCKET_EVENT), 0)
            }
            Provider::Slack | Provider::Mattermost | Provider::Discord => in_body(0),
            Provider::HmacSha256 => {
                let text = |name: &Option<HeaderName>| word(single(headers, name.as_ref()?));
                let (delivery, event) = (text(&self.custom.id), text(&self.custom.event));
                Verified { delivery, event, id_is_signed: false, key: 0 }
            }
        }
    }

    /// The headers that a sender of this kind would add to a body.
    #[must_use]
    pub fn sign(&self, keys: &[Key], id: &str, now_s: u64, body: &[u8]) -> Vec<(HeaderName, String)> {
        let first = keys.first();
        let mac = |parts: &[&[u8]]| ::hex::encode(first.and_then(|key| key.mac(parts)).unwrap_or_default());
        let token = || first.and_then(Key::expose_token).unwrap_or_default();
        let now = now_s.to_string();
        let standard = || {
            vec![
                (WEBHOOK_ID, id.to_owned()),
                (WEBHOOK_TIMESTAMP, now.clone()),
                (WEBHOOK_SIGNATURE, sign_standard(keys, id, now_s, body)),
            ]
        };
        let forge = |forge: &Forge| {
            vec![(forge.0, mac(&[body])), (forge.1, id.to_owned()), (forge.2, "push".to_owned())]
        };
        let headers = match self.provider {
            Provider::Standard => standard(),
            Provider::Github => vec![
                (HUB_SIGNATURE_256, format!("sha256={}", mac(&[body]))),
                (GITHUB_DELIVERY, id.to_owned()),
                (GITHUB_EVENT, "push".to_owned()),
            ],
            Provider::Gitlab => {
                let signs = !first.is_some_and(Key::is_plain);
                let mut headers = if signs { standard() } else { vec![(GITLAB_TOKEN, token())] };
                headers.extend([(IDEMPOTENCY_KEY, id.to_owned()), (GITLAB_EVENT, "Push Hook".to_owned())]);
                headers
            }
            Provider::Gitea => forge(&GITEA),
            Provider::Forgejo => forge(&FORGEJO),
            Provider::Bitbucket => vec![
                (HUB_SIGNATURE, format!("sha256={}", mac(&[body]))),
                (BITBUCKET_CLOUD_ID, id.to_owned()),
                (BITBUCKET_EVENT, "repo:push".to_owned()),
            ],
            Provider::Slack => {
                let signature = mac(&[b"v0:", now.as_bytes(), b":", body]);
                vec![(SLACK_SIGNATURE, format!("v0={signature}")), (SLACK_TIMESTAMP, now)]
            }
            Provider::Mattermost => vec![(AUTHORIZATION, format!("Token {}", token()))],
            Provider::Discord => {
                let signature = first.and_then(|key| key.sign(&[now.as_bytes(), body].concat()));
                let signature = signature.map(::hex::encode).unwrap_or_default();
                vec![(DISCORD_SIGNATURE, signature), (DISCORD_TIMESTAMP, now)]
            }
            Provider::HmacSha256 => return self.custom.sign(first, id, body),
        };
        headers.into_iter().map(|(name, value)| (HeaderName::from_static(name), value)).collect()
    }
}

fn standard(headers: &HeaderMap, body: &[u8], keys: &[Key], now_s: u64) -> Result<Verified, Refused> {
    let (id, timestamp) = (one(headers, WEBHOOK_ID), one(headers, WEBHOOK_TIMESTAMP));
    let signatures = one(headers, WEBHOOK_SIGNATURE);
    let texts = (id.unwrap_or_default(), timestamp.unwrap_or_default(), signatures.unwrap_or_default());
    let found = find_standard(keys, texts, body, now_s);
    id.and(timestamp).and(signatures)?;
    Ok(Verified { delivery: Some(texts.0.to_owned()), event: None, id_is_signed: true, key: found? })
}

/// A signature counts where one is sent and the hook has a signing token: a token beside it changes nothing. While a hook moves from one to
/// the other it has both.
fn gitlab(headers: &HeaderMap, body: &[u8], keys: &[Key], now_s: u64) -> Result<Verified, Refused> {
    let event = || one(headers, GITLAB_EVENT).ok().map(str::to_owned);
    let signs = keys.iter().any(|key| !key.is_plain());
    if signs && (headers.contains_key(WEBHOOK_SIGNATURE) || !keys.iter().any(Key::is_plain)) {
        return Ok(Verified { event: event(), ..standard(headers, body, keys, now_s)? });
    }
    let token = one(headers, GITLAB_TOKEN);
    let found = find_token(keys, token.unwrap_or_default());
    token?;
    Ok(unsigned_id(headers, &[IDEMPOTENCY_KEY], Some(GITLAB_EVENT), found.ok_or(Refused::Mismatch)?))
}

/// Gitea and Forgejo sign the JSON text, also where they send it within a form.
fn forge(headers: &HeaderMap, body: &[u8], keys: &[Key], forge: &Forge) -> Result<Verified, Refused> {
    let payload = if is_form(content_type(headers)) { form_field(body, "payload") } else { None };
    let signed = payload.as_deref().map_or(body, str::as_bytes);
    let found = hex(headers, forge.0, "", &[signed], keys)?;
    Ok(unsigned_id(headers, &[forge.1], Some(forge.2), found))
}

/// A slash command carries its token in the header and in its form, an outgoing webhook in its body alone.
fn mattermost(headers: &HeaderMap, body: &[u8], keys: &[Key]) -> Result<Verified, Refused> {
    let presented = if headers.contains_key(AUTHORIZATION) {
        one(headers, AUTHORIZATION)?.strip_prefix("Token ").map(str::to_owned)
    } else if is_json(content_type(headers)) {
        let body = json::parse(body).map_err(|_| Refused::Body)?;
        body.get("token").and_then(|token| token.as_str()).map(str::to_owned)
    } else {
        form_field(body, "token")
    };
    let found = find_token(keys, presented.as_deref().unwrap_or_default());
    presented.ok_or(Refused::Body)?;
    Ok(in_body(found.ok_or(Refused::Mismatch)?))
}

impl Custom {
    fn verify(&self, headers: &HeaderMap, body: &[u8], keys: &[Key]) -> Result<Verified, Refused> {
        let received = single(headers, &self.header);
        let text = received.unwrap_or_default();
        let coded = match &self.prefix {
            Some(prefix) => text.strip_prefix(prefix.as_str()),
            None => Some(text.strip_prefix("sha256=").unwrap_or(text)),
        };
        let decoded = coded.and_then(|coded| match self.encoding {
            Encoding::Hex => ::hex::decode(coded).ok(),
            Encoding::Base64 => BASE64.decode(coded).ok(),
        });
        let found = find_mac(keys, &[body], &[decoded.unwrap_or_default()]);
        received.ok_or(Refused::ConfiguredHeader)?;
        let key = found.ok_or(Refused::Mismatch)?;
        let text = |name: &Option<HeaderName>| word(single(headers, name.as_ref()?));
        Ok(Verified { delivery: text(&self.id), event: text(&self.event), id_is_signed: false, key })
    }

    fn sign(&self, key: Option<&Key>, id: &str, body: &[u8]) -> Vec<(HeaderName, String)> {
        let mac = key.and_then(|key| key.mac(&[body])).unwrap_or_default();
        let coded = match self.encoding {
            Encoding::Hex => ::hex::encode(mac),
            Encoding::Base64 => BASE64.encode(mac),
        };
        let prefix = self.prefix.as_deref().unwrap_or("sha256=");
        let mut headers = vec![(self.header.clone(), format!("{prefix}{coded}"))];
        headers.extend(self.id.clone().map(|name| (name, id.to_owned())));
        headers.extend(self.event.clone().map(|name| (name, "push".to_owned())));
        headers
    }
}

/// Bitbucket's test of a connection carries no signature. It is answered whatever the hook, so that it tells nothing about hooks.
pub(crate) fn is_unsigned_ping(headers: &HeaderMap) -> bool {
    one(headers, BITBUCKET_EVENT) == Ok(BITBUCKET_PING) && !headers.contains_key(HUB_SIGNATURE)
}

/// A MAC in hex over `parts`, in one header.
fn hex(
    headers: &HeaderMap,
    name: &'static str,
    prefix: &str,
    parts: &[&[u8]],
    keys: &[Key],
) -> Result<usize, Refused> {
    let received = one(headers, name);
    let found = find_hex(keys, prefix, received.unwrap_or_default(), parts);
    received.and(found)
}

/// Id and event stand in headers that nobody signs.
fn unsigned_id(
    headers: &HeaderMap,
    ids: &[&'static str],
    event: Option<&'static str>,
    key: usize,
) -> Verified {
    let text = |name: &&'static str| word(one(headers, name).ok());
    Verified {
        delivery: ids.iter().find_map(text),
        event: event.and_then(|name| text(&name)),
        id_is_signed: false,
        key,
    }
}

/// Id and event stand in the body, which is signed as a whole.
fn in_body(key: usize) -> Verified {
    Verified { delivery: None, event: None, id_is_signed: true, key }
}

fn word(value: Option<&str>) -> Option<String> {
    value.filter(|value| !value.is_empty() && value.len() <= MAX_ID).map(str::to_owned)
}

fn content_type(headers: &HeaderMap) -> &str {
    headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The one value of a header; doubled headers are refused, since readers would not agree on which one counts.
fn one<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, Refused> {
    single(headers, &HeaderName::from_static(name)).ok_or(Refused::Header(name))
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next().map(|value| value.to_str()), values.next()) {
        (Some(Ok(value)), None) if value.len() <= MAX_HEADER => Some(value),
        _ => None,
    }
}
