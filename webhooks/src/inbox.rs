//! What is kept of a message to a hook: who it says it is from, what became of it and why, and enough of it to try again. Secrets do not get
//! in: tokens and signatures are left out, and of a message from a stranger only a masked beginning is kept.

use std::sync::Arc;

use http::HeaderMap;
use kedge_engine::inbox::{Kept, Received};
use kedge_engine::task::{Millis, TaskId};
use serde_json::{Map, Value, json};

use crate::api;
use crate::hook::Checked;
use crate::json;
use crate::problem::Fault;
use crate::provider::{Verified, is_form, is_json, short};

/// Largest body that is kept for another try: forges' payloads are a tenth of it.
const MAX_PAYLOAD: usize = 200 * 1024;
/// What is kept of a stranger's body.
const MAX_PREVIEW: usize = 1024;
/// Headers kept, and the longest value of one.
const MAX_HEADERS: usize = 40;
const MAX_VALUE: usize = 200;
/// Longest reason in a list.
const MAX_REASON: usize = 500;
/// What stands where something secret was.
const MASK: &str = "***";

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// It is a task.
    Accepted,
    /// It was one already.
    Duplicate,
    /// The hook's filters leave it out, or it only greets.
    Ignored,
    /// It is not what the hook makes a task of.
    Invalid,
    /// The task was refused as things were.
    Refused,
    /// Nobody who is known sent it.
    Rejected,
}

impl Status {
    pub(crate) const ALL: [Self; 6] =
        [Self::Accepted, Self::Duplicate, Self::Ignored, Self::Invalid, Self::Refused, Self::Rejected];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Ignored => "ignored",
            Self::Invalid => "invalid",
            Self::Refused => "refused",
            Self::Rejected => "rejected",
        }
    }

    fn kept(self) -> Kept {
        match self {
            Self::Accepted => Kept::Accepted,
            Self::Duplicate | Self::Ignored | Self::Invalid | Self::Refused => Kept::Refused,
            Self::Rejected => Kept::Rejected,
        }
    }
}

/// What is known of a message so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Story {
    pub(crate) hook: String,
    pub(crate) provider: Option<&'static str>,
    /// Set when the signature holds.
    pub(crate) verified: Option<Verified>,
    pub(crate) filter: Vec<Checked>,
    pub(crate) workflow: Option<String>,
    pub(crate) site: Option<String>,
    pub(crate) faults: Vec<Fault>,
    /// The body's value; null until the signature holds.
    pub(crate) payload: Value,
    pub(crate) digest: String,
    pub(crate) bytes: usize,
    pub(crate) headers: Value,
    pub(crate) replay_of: Option<String>,
}

impl Story {
    /// The message as it is kept.
    pub(crate) fn received(self, id: String, at: Millis, status: Status, reason: Option<&str>) -> Received {
        let verified = self.verified.as_ref();
        let line = json!({
            "hook": self.hook,
            "status": status.as_str(),
            "reason": reason.map(|text| text.chars().take(MAX_REASON).collect::<String>()),
            "event": verified.and_then(|verified| verified.event.as_deref()).map(short),
            "delivery": verified.and_then(|verified| verified.delivery.as_deref()).map(short),
            "workflow": self.workflow,
            "site": self.site,
            "bytes": self.bytes,
            "replay_of": self.replay_of,
        });
        let signature = match verified {
            Some(verified) => {
                json!({ "holds": true, "key": verified.key, "id_is_signed": verified.id_is_signed })
            }
            None => json!({ "holds": false }),
        };
        let errors =
            |fault: &Fault| json!({ "pointer": format!("#{}", fault.pointer), "detail": fault.detail });
        let large = self.bytes > MAX_PAYLOAD;
        let rest = json!({
            "provider": self.provider,
            "signature": signature,
            "delivery": verified.and_then(|verified| verified.delivery.as_deref()),
            "filter": self.filter.iter().map(Checked::json).collect::<Vec<_>>(),
            "errors": self.faults.iter().map(errors).collect::<Vec<_>>(),
            "headers": self.headers,
            "digest": self.digest,
            "payload": if large { Value::Null } else { self.payload },
            "too_large_to_keep": large,
        });
        Received { id, at, kind: status.kept(), task: None, line, rest: Arc::new(rest) }
    }
}

/// The same message with another end.
pub(crate) fn ended(
    received: Received,
    status: Status,
    reason: Option<&str>,
    task: Option<TaskId>,
) -> Received {
    let mut line = received.line;
    line["status"] = status.as_str().into();
    line["reason"] = reason.map(|text| text.chars().take(MAX_REASON).collect::<String>()).into();
    Received { kind: status.kept(), line, task, ..received }
}

/// The headers of a message as they are kept: without what proves who sends.
pub(crate) fn headers(headers: &HeaderMap) -> Value {
    let mut kept = Map::new();
    for (name, value) in headers.iter().take(MAX_HEADERS) {
        let text = if is_secret(name.as_str()) || name.as_str().contains("signature") || name == "cookie" {
            MASK.to_owned()
        } else {
            String::from_utf8_lossy(value.as_bytes()).chars().take(MAX_VALUE).collect()
        };
        kept.insert(name.as_str().to_owned(), text.into());
    }
    Value::Object(kept)
}

/// What is kept of a stranger's body: a beginning of it, without what may be a secret.
pub(crate) fn preview(content_type: &str, body: &[u8]) -> Value {
    let value = if is_json(content_type) {
        json::parse(body).ok().map(|value| mask(&value))
    } else if is_form(content_type) {
        let fields = url::form_urlencoded::parse(body).take(MAX_HEADERS);
        let fields = fields.map(|(name, text)| (name.into_owned(), Value::String(text.into_owned())));
        Some(mask(&Value::Object(fields.collect())))
    } else {
        None
    };
    match value {
        Some(value) if value.to_string().len() <= MAX_PREVIEW => value,
        Some(value) => value.to_string().chars().take(MAX_PREVIEW).collect::<String>().into(),
        // Not what its type says: nothing of it is known, so nothing of it is kept.
        None => json!({ "unreadable_bytes": body.len() }),
    }
}

/// A value without what its names call secret.
pub(crate) fn mask(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(mask).collect(),
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| {
                let hidden = is_secret(key) && !value.is_null();
                (key.clone(), if hidden { MASK.into() } else { mask(value) })
            };
            Value::Object(map.iter().map(entry).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// Whether a name is that of a secret.
fn is_secret(name: &str) -> bool {
    const PARTS: [&str; 9] = [
        "passw",
        "passphrase",
        "secret",
        "token",
        "apikey",
        "authorization",
        "credential",
        "privatekey",
        "responseurl",
    ];
    let plain: String =
        name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    PARTS.iter().any(|part| plain.contains(part)) || plain == "pass" || plain == "pwd"
}

/// A message in a list.
pub(crate) fn line_json(received: &Received) -> Value {
    let mut value = received.line.clone();
    if let Value::Object(map) = &mut value {
        map.insert("id".to_owned(), received.id.clone().into());
        map.insert("at".to_owned(), api::time(received.at).into());
        map.insert("task_id".to_owned(), json!(received.task));
        let mut links = Map::from_iter([("self".to_owned(), format!("/v1/inbox/{}", received.id).into())]);
        links.extend(received.task.iter().map(|task| ("task".to_owned(), api::task_path(task).into())));
        map.insert("links".to_owned(), Value::Object(links));
    }
    value
}

/// A message, whole, without secrets.
pub(crate) fn whole_json(received: &Received) -> Value {
    let mut value = line_json(received);
    if let (Value::Object(map), Value::Object(rest)) = (&mut value, &*received.rest) {
        for (key, value) in rest.iter().filter(|(key, _)| !map_has(received, key)) {
            let shown = match key.as_str() {
                "payload" => mask(value),
                _ => value.clone(),
            };
            map.insert(key.clone(), shown);
        }
        map.insert("replayable".to_owned(), replayable(received).is_ok().into());
    }
    value
}

fn map_has(received: &Received, key: &str) -> bool {
    received.line.get(key).is_some()
}

/// Whether a message can be tried again.
///
/// # Errors
/// Why not.
pub(crate) fn replayable(received: &Received) -> Result<(), &'static str> {
    if received.kind == Kept::Rejected {
        return Err("its signature did not hold: nobody knows who sent it; let the sender send it again");
    }
    if received.rest["payload"].is_null() {
        return Err("its body was not kept: it was too large, or no JSON; let the sender send it again");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn secrets_are_masked_by_their_names() {
        let body = json!({"site": "a.test", "admin_password": "hunter2", "deep": [{"apiKey": "k", "token": null}],
            "Authorization": "Bearer x", "response_url": "https://hooks.slack.com/x", "pass": 1, "compass": "north"});
        let want = json!({"site": "a.test", "admin_password": "***", "deep": [{"apiKey": "***", "token": null}],
            "Authorization": "***", "response_url": "***", "pass": "***", "compass": "north"});
        assert_eq!(mask(&body), want);
    }

    #[test]
    fn a_strangers_body_is_kept_in_part_and_masked() {
        assert_eq!(preview("application/json", br#"{"token":"x","a":1}"#), json!({"token": "***", "a": 1}));
        let form = preview("application/x-www-form-urlencoded", b"token=hunter2&text=hello");
        assert_eq!(form, json!({"token": "***", "text": "hello"}));
        assert_eq!(preview("application/json", b"hunter2"), json!({"unreadable_bytes": 7}));
        let long = preview("application/json", format!("{{\"a\":\"{}\"}}", "x".repeat(5000)).as_bytes());
        assert_eq!(long.as_str().map(str::len), Some(MAX_PREVIEW));
    }

    #[test]
    fn headers_that_prove_who_sends_are_not_kept() {
        let mut all = HeaderMap::new();
        for name in ["x-gitlab-token", "authorization", "x-hub-signature-256", "cookie"] {
            all.insert(name, HeaderValue::from_static("hunter2"));
        }
        all.insert("x-github-event", HeaderValue::from_static("push"));
        let kept = headers(&all);
        assert_eq!(kept["x-github-event"], "push");
        assert!(!kept.to_string().contains("hunter2"), "{kept}");
    }
}
