//! Who sends to a hook: the words, secrets and schemes of senders. One scheme per hook, never a weaker one instead. Adding a provider means
//! adding a variant here, its signature in `verify.rs`, its bodies in `payload.rs` and what its fields mean in `facts.rs`.

mod facts;
mod payload;
#[cfg(test)]
mod tests;
mod verify;

use http::{HeaderMap, HeaderName};

use crate::config::Mistake;
use crate::secret::Secret;
use crate::signature::{Key, KeyError, Refused};

pub use facts::Facts;
pub(crate) use facts::short;
pub(crate) use payload::{is_form, is_json};
pub(crate) use verify::is_unsigned_ping;

/// A sender's scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// Standard Webhooks 1.0.0, symmetric or ed25519.
    Standard,
    /// GitHub: `X-Hub-Signature-256`.
    Github,
    /// GitLab: a signing token (Standard Webhooks) or a secret token (`X-Gitlab-Token`).
    Gitlab,
    /// Gitea: `X-Gitea-Signature`.
    Gitea,
    /// Forgejo: `X-Forgejo-Signature`.
    Forgejo,
    /// Bitbucket Cloud and Data Center: `X-Hub-Signature` with SHA-256.
    Bitbucket,
    /// Slack's commands, buttons and events: `X-Slack-Signature`.
    Slack,
    /// Mattermost's commands and outgoing webhooks: a token in the `Authorization` header or the body.
    Mattermost,
    /// Discord's interactions: ed25519.
    Discord,
    /// Any other sender with an HMAC-SHA256 over the raw body.
    HmacSha256,
}

/// A message whose signature holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The delivery's id, the same when it is sent again.
    pub delivery: Option<String>,
    /// The event in the sender's own word, such as `push`; absent where the provider names none outside the body.
    pub event: Option<String>,
    /// Whether the id is signed too. Where it is not, a captured body could come again under another id.
    pub id_is_signed: bool,
    /// Which of the hook's secrets it was, from 0.
    pub key: usize,
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Standard,
        Self::Github,
        Self::Gitlab,
        Self::Gitea,
        Self::Forgejo,
        Self::Bitbucket,
        Self::Slack,
        Self::Mattermost,
        Self::Discord,
        Self::HmacSha256,
    ];

    /// The word used in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Github => "github",
            Self::Gitlab => "gitlab",
            Self::Gitea => "gitea",
            Self::Forgejo => "forgejo",
            Self::Bitbucket => "bitbucket",
            Self::Slack => "slack",
            Self::Mattermost => "mattermost",
            Self::Discord => "discord",
            Self::HmacSha256 => "hmac-sha256",
        }
    }

    /// The provider of a word.
    #[must_use]
    pub fn find(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.as_str() == word)
    }

    /// Decodes a secret as this provider writes it, for verifying.
    ///
    /// # Errors
    /// [`KeyError`] says what a secret looks like.
    pub fn key(self, secret: &Secret) -> Result<Key, KeyError> {
        match self {
            Self::Standard => Key::standard_verifying(secret),
            // GitLab's signing tokens can be told from the tokens that people make up.
            Self::Gitlab if secret.expose().starts_with("whsec_") => Key::standard(secret),
            Self::Gitlab | Self::Mattermost => Key::token(secret),
            Self::Github | Self::Gitea | Self::Forgejo | Self::Bitbucket | Self::Slack | Self::HmacSha256 => {
                Key::raw(secret)
            }
            Self::Discord => Key::discord(secret),
        }
    }

    /// Decodes a secret for signing: another one than for verifying where the two sides have different halves.
    ///
    /// # Errors
    /// [`KeyError`] says what a secret looks like.
    pub fn signing_key(self, secret: &Secret) -> Result<Key, KeyError> {
        match self {
            Self::Standard => Key::standard(secret),
            Self::Discord => Key::discord_signing(secret),
            _ => self.key(secret),
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
        Scheme::from(self).verify(headers, body, keys, now_s)
    }

    /// The headers that a sender of this kind would add to a body.
    #[must_use]
    pub fn sign(self, keys: &[Key], id: &str, now_s: u64, body: &[u8]) -> Vec<(HeaderName, String)> {
        Scheme::from(self).sign(keys, id, now_s, body)
    }
}

/// A provider and, for senders without a preset, where and how they put their signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheme {
    pub(crate) provider: Provider,
    custom: Custom,
}

/// How `hmac-sha256` signs, as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CustomSpec {
    /// The header of the signature; `x-signature-256` by default.
    pub header: Option<String>,
    /// `hex` or `base64`; hex by default.
    pub encoding: Option<String>,
    /// What stands before the signature. By default `sha256=` may stand there or not.
    pub prefix: Option<String>,
    /// The header of the delivery's id, if it has one.
    pub id_header: Option<String>,
    /// The header of the event, if it has one.
    pub event_header: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Custom {
    header: HeaderName,
    encoding: Encoding,
    prefix: Option<String>,
    id: Option<HeaderName>,
    event: Option<HeaderName>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Hex,
    Base64,
}

/// Longest prefix of a signature.
const MAX_PREFIX: usize = 64;

impl From<Provider> for Scheme {
    fn from(provider: Provider) -> Self {
        let header = HeaderName::from_static("x-signature-256");
        let custom = Custom { header, encoding: Encoding::Hex, prefix: None, id: None, event: None };
        Self { provider, custom }
    }
}

impl Scheme {
    /// Checks how a sender signs. Presets have nothing to configure.
    ///
    /// # Errors
    /// Every mistake.
    pub fn new(provider: Provider, spec: Option<CustomSpec>) -> Result<Self, Vec<Mistake>> {
        let mut scheme = Self::from(provider);
        let Some(spec) = spec else { return Ok(scheme) };
        let mut mistakes = Vec::new();
        if provider != Provider::HmacSha256 {
            let detail = format!("{} has its own way to sign; leave it out", provider.as_str());
            mistakes.push(Mistake::new("signature", detail));
        }
        let mut name = |field: &str, text: Option<String>| {
            let text = text?;
            let name = HeaderName::try_from(text.as_str());
            if name.is_err() {
                mistakes.push(Mistake::new(
                    format!("signature.{field}"),
                    format!("{text:?} is no name of a header"),
                ));
            }
            name.ok()
        };
        scheme.custom.header = name("header", spec.header).unwrap_or(scheme.custom.header);
        scheme.custom.id = name("id_header", spec.id_header);
        scheme.custom.event = name("event_header", spec.event_header);
        match spec.encoding.as_deref() {
            None | Some("hex") => {}
            Some("base64") => scheme.custom.encoding = Encoding::Base64,
            Some(other) => {
                let detail = format!("{other:?} is no encoding: hex or base64");
                mistakes.push(Mistake::new("signature.encoding", detail));
            }
        }
        if spec.prefix.as_ref().is_some_and(|prefix| prefix.len() > MAX_PREFIX) {
            mistakes.push(Mistake::new("signature.prefix", format!("has at most {MAX_PREFIX} bytes")));
        }
        scheme.custom.prefix = spec.prefix;
        if mistakes.is_empty() { Ok(scheme) } else { Err(mistakes) }
    }
}
