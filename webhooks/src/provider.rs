//! Who sends to a hook: which headers hold its signature, its delivery's id and its event. One scheme per hook, never a weaker
//! one instead. Adding a provider means adding a variant and its arms here.

use http::{HeaderMap, HeaderName};
use serde_json::Value;

use crate::json::{self, JsonError};
use crate::secret::Secret;
use crate::signature::{self, Key, KeyError, Refused};

const WEBHOOK_ID: &str = "webhook-id";
const WEBHOOK_TIMESTAMP: &str = "webhook-timestamp";
const WEBHOOK_SIGNATURE: &str = "webhook-signature";
const HUB_SIGNATURE: &str = "x-hub-signature-256";
const GITHUB_DELIVERY: &str = "x-github-delivery";
const GITHUB_EVENT: &str = "x-github-event";

/// Longest header of a signature, id or event that is looked at.
const MAX_HEADER: usize = 1024;

/// A sender's scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// Standard Webhooks 1.0.0, symmetric.
    Standard,
    /// GitHub: `X-Hub-Signature-256`.
    Github,
}

/// A message whose signature holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The delivery's id, the same when it is sent again.
    pub delivery: Option<String>,
    /// The event, such as `push`; absent where the provider names none outside the body.
    pub event: Option<String>,
    /// Whether the id is signed too. Where it is not, a captured body could come again under another id.
    pub id_is_signed: bool,
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Standard, Self::Github];

    /// The word used in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Github => "github",
        }
    }

    /// The provider of a word.
    #[must_use]
    pub fn find(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.as_str() == word)
    }

    /// Decodes a secret as this provider writes it.
    ///
    /// # Errors
    /// [`KeyError`] says what a secret looks like.
    pub fn key(self, secret: &Secret) -> Result<Key, KeyError> {
        match self {
            Self::Standard => Key::standard(secret),
            Self::Github => Key::raw(secret),
        }
    }

    /// Checks a message. All keys are tried; the same work is done whatever is wrong.
    ///
    /// # Errors
    /// [`Refused`], for our log only.
    pub fn verify(
        self,
        headers: &HeaderMap,
        body: &[u8],
        keys: &[Key],
        now_s: u64,
    ) -> Result<Verified, Refused> {
        match self {
            Self::Standard => {
                let id = one(headers, WEBHOOK_ID);
                let timestamp = one(headers, WEBHOOK_TIMESTAMP);
                let signatures = one(headers, WEBHOOK_SIGNATURE);
                let part = |part: Result<&str, Refused>| part.unwrap_or_default().to_owned();
                let (i, t, s) = (part(id), part(timestamp), part(signatures));
                let checked = signature::verify_standard(keys, &i, &t, &s, body, now_s);
                id.and(timestamp).and(signatures)?;
                checked?;
                Ok(Verified { delivery: Some(i), event: None, id_is_signed: true })
            }
            Self::Github => {
                let received = one(headers, HUB_SIGNATURE);
                signature::verify_github(keys, received.unwrap_or_default(), body)
                    .map_err(|error| received.err().unwrap_or(error))?;
                let text = |name| one(headers, name).ok().map(str::to_owned);
                Ok(Verified {
                    delivery: text(GITHUB_DELIVERY),
                    event: text(GITHUB_EVENT),
                    id_is_signed: false,
                })
            }
        }
    }

    /// The headers that a sender of this kind would add to a body.
    #[must_use]
    pub fn sign(self, keys: &[Key], id: &str, now_s: u64, body: &[u8]) -> Vec<(&'static str, String)> {
        match self {
            Self::Standard => vec![
                (WEBHOOK_ID, id.to_owned()),
                (WEBHOOK_TIMESTAMP, now_s.to_string()),
                (WEBHOOK_SIGNATURE, signature::sign_standard(keys, id, now_s, body)),
            ],
            Self::Github => {
                let mut headers = vec![(GITHUB_DELIVERY, id.to_owned()), (GITHUB_EVENT, "push".to_owned())];
                headers.extend(keys.first().map(|key| (HUB_SIGNATURE, signature::sign_github(key, body))));
                headers
            }
        }
    }

    /// The JSON in a body that this provider sent with this content type. `None`: a content type that it does not use.
    pub(crate) fn payload(self, content_type: &str, body: &[u8]) -> Option<Result<Value, JsonError>> {
        if is_json(content_type) {
            return Some(json::parse(body));
        }
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        if self == Self::Github && kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            let payload = url::form_urlencoded::parse(body).find(|(name, _)| name == "payload");
            return Some(json::parse(payload.map(|(_, text)| text).unwrap_or_default().as_bytes()));
        }
        None
    }

    /// Whether an event only asks if somebody is there.
    pub(crate) fn is_ping(self, event: Option<&str>) -> bool {
        match self {
            Self::Standard => false,
            Self::Github => event == Some("ping"),
        }
    }
}

/// Whether a content type means JSON.
pub(crate) fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

/// The one value of a header; doubled headers are refused, since readers would not agree on which one counts.
fn one<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, Refused> {
    let mut values = headers.get_all(HeaderName::from_static(name)).iter();
    match (values.next().map(|value| value.to_str()), values.next()) {
        (Some(Ok(value)), None) if value.len() <= MAX_HEADER => Ok(value),
        _ => Err(Refused::Header(name)),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use serde_json::json;

    use super::*;

    fn headers(pairs: &[(&'static str, String)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_str(v).unwrap())).collect()
    }

    fn keys(provider: Provider) -> Vec<Key> {
        vec![provider.key(&Secret::new("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")).unwrap()]
    }

    #[test]
    fn what_each_provider_signs_it_verifies() {
        for provider in Provider::ALL {
            assert_eq!(Provider::find(provider.as_str()), Some(provider));
            let keys = keys(provider);
            let signed = headers(&provider.sign(&keys, "msg_1", 1000, b"{}"));
            let verified = provider.verify(&signed, b"{}", &keys, 1000).unwrap();
            assert_eq!(verified.delivery.as_deref(), Some("msg_1"));
            assert_eq!(provider.verify(&signed, b"{ }", &keys, 1000), Err(Refused::Mismatch));
        }
        assert_eq!(Provider::find("sha1"), None);
    }

    #[test]
    fn missing_and_doubled_headers_are_refused() {
        for provider in Provider::ALL {
            let keys = keys(provider);
            let signed = headers(&provider.sign(&keys, "msg_1", 1000, b"{}"));
            assert!(provider.verify(&HeaderMap::new(), b"{}", &keys, 1000).is_err());
            let signature = if provider == Provider::Standard { WEBHOOK_SIGNATURE } else { HUB_SIGNATURE };
            let mut doubled = signed.clone();
            doubled.append(signature, HeaderValue::from_static("v1,AAAA"));
            let got = provider.verify(&doubled, b"{}", &keys, 1000);
            assert_eq!(got, Err(Refused::Header(signature)));
        }
    }

    #[test]
    fn github_never_falls_back_to_sha1() {
        let mut old = HeaderMap::new();
        old.insert("x-hub-signature", HeaderValue::from_static("sha1=00"));
        let got = Provider::Github.verify(&old, b"{}", &keys(Provider::Github), 0);
        assert_eq!(got, Err(Refused::Header(HUB_SIGNATURE)));
    }

    #[test]
    fn payloads_come_as_json_or_as_githubs_form() {
        let form = b"payload=%7B%22a%22%3A1%7D";
        let kind = "application/x-www-form-urlencoded";
        assert_eq!(Provider::Github.payload(kind, form), Some(Ok(json!({"a": 1}))));
        assert!(matches!(Provider::Github.payload(kind, b"x=1"), Some(Err(_))));
        assert_eq!(Provider::Standard.payload(kind, form), None);
        assert_eq!(Provider::Standard.payload("Application/JSON; charset=utf-8", b"{}"), Some(Ok(json!({}))));
        assert_eq!(Provider::Standard.payload("application/cloudevents+json", b"{}"), Some(Ok(json!({}))));
        assert_eq!(Provider::Standard.payload("text/json", b"{}"), None);
    }
}
