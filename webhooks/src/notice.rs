//! What an endpoint is told that is about no task: a test, or that another one is disabled; in its own form. Pure.

use kedge_engine::task::Millis;
use serde_json::{Value, json};

use crate::api::{self, Links};
use crate::endpoint::{Endpoint, Form, Kind};

/// A notice.
pub(crate) struct Notice {
    /// Its event, such as `endpoint.test`.
    pub(crate) event: &'static str,
    /// A mail's subject.
    pub(crate) subject: &'static str,
    /// For people.
    pub(crate) text: String,
    /// For machines.
    pub(crate) data: Value,
}

impl Notice {
    /// The body for an endpoint; nothing where it has nobody of its own to tell, as one that only sends login links.
    pub(crate) fn body(&self, endpoint: &Endpoint, id: &str, links: &Links, now: Millis) -> Option<String> {
        if let Kind::Mail(mail) = &endpoint.kind {
            return mail.notice(self.subject, &self.text);
        }
        let body = match endpoint.form {
            Form::Standard => {
                json!({ "type": self.event, "timestamp": api::time(now), "data": self.data })
            }
            Form::CloudEvents => json!({
                "specversion": "1.0", "id": id, "source": links.source(), "type": format!("kedge.{}", self.event),
                "time": api::time(now), "datacontenttype": "application/json", "data": self.data,
            }),
            Form::Slack | Form::Mattermost => json!({ "text": self.text }),
            Form::Discord => json!({ "content": self.text, "allowed_mentions": { "parse": [] } }),
        };
        Some(body.to_string())
    }
}
