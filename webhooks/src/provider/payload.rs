//! Bodies as each provider sends them: JSON, or forms that carry it; and what has to be answered to a greeting. Looked at only when the
//! signature holds (but for tokens that stand in a body, and forms whose content is what is signed).

use serde_json::{Map, Value, json};

use super::Provider;
use super::verify::BITBUCKET_PING;
use crate::json::{self, JsonError};

/// Longest id taken from a body: it becomes a dedupe key and is shown.
const MAX_ID: usize = 256;
/// Most fields of a form: commands of chats have about fifteen.
const MAX_FIELDS: usize = 100;

/// What a body says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Payload {
    /// The JSON, or the form's fields as an object. Tokens of chats are taken out.
    pub(crate) value: Value,
    /// The delivery's id, where it stands in the body.
    pub(crate) delivery: Option<String>,
    /// The event, where it stands in the body.
    pub(crate) event: Option<String>,
}

impl Provider {
    /// What a body says that this provider sent with this content type. `None`: a content type that it does not use.
    pub(crate) fn payload(self, content_type: &str, body: &[u8]) -> Option<Result<Payload, JsonError>> {
        let value = if is_json(content_type) {
            json::parse(body)
        } else if !is_form(content_type) {
            return None;
        } else {
            match self {
                Self::Github | Self::Gitea | Self::Forgejo => {
                    json::parse(form_field(body, "payload").unwrap_or_default().as_bytes())
                }
                Self::Slack | Self::Mattermost | Self::HmacSha256 => form(body),
                Self::Standard | Self::Gitlab | Self::Bitbucket | Self::Discord => return None,
            }
        };
        Some(value.map(|value| self.told(value)))
    }

    fn told(self, mut value: Value) -> Payload {
        let text = |pointer: &str| {
            let text = value.pointer(pointer)?.as_str()?;
            (!text.is_empty() && text.len() <= MAX_ID).then(|| text.to_owned())
        };
        let (delivery, event) = match self {
            Self::Slack => {
                let delivery = text("/event_id").or_else(|| text("/trigger_id"));
                let command = || text("/command").map(|_| "command".to_owned());
                (delivery, text("/event/type").or_else(command).or_else(|| text("/type")))
            }
            Self::Mattermost => {
                let delivery = text("/trigger_id").or_else(|| text("/post_id"));
                let event = if text("/command").is_some() { "command" } else { "message" };
                (delivery, Some(event.to_owned()))
            }
            Self::Discord => {
                let event = match value.get("type").and_then(Value::as_u64) {
                    Some(1) => Some("ping"),
                    Some(2) => Some("command"),
                    Some(3) => Some("button"),
                    Some(5) => Some("form"),
                    _ => None,
                };
                (text("/id"), event.map(str::to_owned))
            }
            Self::Standard | Self::HmacSha256 => (None, text("/type")),
            Self::Github | Self::Gitlab | Self::Gitea | Self::Forgejo | Self::Bitbucket => (None, None),
        };
        if matches!(self, Self::Slack | Self::Mattermost)
            && let Value::Object(map) = &mut value
        {
            map.remove("token"); // proves who sends, and is nobody else's
        }
        Payload { value, delivery, event }
    }

    /// Whether an event only asks if somebody is there.
    pub(crate) fn is_ping(self, event: Option<&str>) -> bool {
        match self {
            Self::Github => event == Some("ping"),
            Self::Bitbucket => event == Some(BITBUCKET_PING),
            _ => false,
        }
    }

    /// What a greeting wants to be answered, before the sender sends anything else.
    pub(crate) fn greeting(self, body: &Value) -> Option<Value> {
        match self {
            Self::Discord if body["type"] == 1 => Some(json!({ "type": 1 })),
            Self::Slack if body["type"] == "url_verification" => {
                Some(json!({ "challenge": body["challenge"].as_str()? }))
            }
            _ => None,
        }
    }

    /// What a person in a chat sees as the answer to a command; `None` where no person waits for it.
    pub(crate) fn spoken(self, text: &str) -> Option<Value> {
        match self {
            Self::Slack | Self::Mattermost => {
                Some(json!({ "response_type": "ephemeral", "text": crate::chat::slack_text(text) }))
            }
            Self::Discord => Some(json!({
                "type": 4,
                "data": { "content": text, "flags": 64, "allowed_mentions": { "parse": [] } },
            })),
            _ => None,
        }
    }
}

/// Whether a content type means JSON.
pub(crate) fn is_json(content_type: &str) -> bool {
    let kind = kind(content_type);
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

/// Whether a content type means a form.
pub(crate) fn is_form(content_type: &str) -> bool {
    kind(content_type) == "application/x-www-form-urlencoded"
}

fn kind(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// A field that a form has exactly once.
pub(super) fn form_field(body: &[u8], name: &str) -> Option<String> {
    let mut values = url::form_urlencoded::parse(body).filter(|(field, _)| field == name);
    let value = values.next().map(|(_, text)| text.into_owned());
    value.filter(|_| values.next().is_none())
}

/// A form's fields as an object, or the JSON in its field `payload`, as buttons send it.
fn form(body: &[u8]) -> Result<Value, JsonError> {
    let mut fields = Map::new();
    for (name, text) in url::form_urlencoded::parse(body) {
        if fields.len() >= MAX_FIELDS {
            return Err(JsonError::Syntax {
                line: 1,
                column: 1,
                what: format!("a form of over {MAX_FIELDS} fields"),
            });
        }
        let shown: String = name.chars().take(80).collect();
        if fields.insert(name.into_owned(), Value::String(text.into_owned())).is_some() {
            return Err(JsonError::Doubled(format!("/{}", json::token(&shown))));
        }
    }
    match fields.get("payload").and_then(Value::as_str) {
        Some(payload) => json::parse(payload.as_bytes()),
        None => Ok(Value::Object(fields)),
    }
}
