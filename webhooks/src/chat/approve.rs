//! The buttons of a question for approval: each names a task and an answer, under a mark that only we can make. They need no memory: whether
//! an answer still counts, the task says. Who may give it, the person's scopes and the task's gate say. A mark is good on one platform:
//! Mattermost signs no presses, and what Slack shows to a channel must not be pressed there.

use hmac::{Hmac, KeyInit, Mac};
use kedge_engine::task::TaskId;
use serde_json::Value;
use sha2::Sha256;

use crate::chat::Platform;

/// Bytes of a mark.
const MARK: usize = 16;

/// How the value of a button begins.
pub(crate) const BEGIN: &str = "ka1.";

/// Makes and knows marks.
#[derive(Clone)]
pub(crate) struct Marks([u8; 32]);

impl Marks {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    fn mac(&self, platform: Platform, task: &TaskId, approve: bool) -> Hmac<Sha256> {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(platform.as_str().as_bytes());
        mac.update(b".");
        mac.update(task.as_str().as_bytes());
        mac.update(&[u8::from(approve)]);
        mac
    }

    /// The value of a button.
    pub(crate) fn value(&self, platform: Platform, task: &TaskId, approve: bool) -> String {
        let mark = hex::encode(&self.mac(platform, task, approve).finalize().into_bytes()[..MARK]);
        format!("{BEGIN}{}.{task}.{mark}", if approve { "y" } else { "n" })
    }

    /// What a value stands for, if it is ours and of this platform.
    pub(crate) fn read(&self, platform: Platform, value: &str) -> Option<(TaskId, bool)> {
        let mut parts = value.split('.');
        let (Some("ka1"), Some(answer), Some(task), Some(mark), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        let approve = match answer {
            "y" => true,
            "n" => false,
            _ => return None,
        };
        let task = TaskId::try_from(task.to_owned()).ok()?;
        let mark = hex::decode(mark).ok().filter(|mark| mark.len() == MARK)?;
        self.mac(platform, &task, approve).verify_truncated_left(&mark).ok()?;
        Some((task, approve))
    }
}

/// A message without the values of its buttons: whoever may read it may not press them in another's name.
pub(crate) fn without_marks(message: Value) -> Value {
    match message {
        Value::String(text) if text.starts_with(BEGIN) => Value::String(format!("{BEGIN}…")),
        Value::Array(items) => items.into_iter().map(without_marks).collect(),
        Value::Object(map) => map.into_iter().map(|(name, value)| (name, without_marks(value))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => message,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::task_id;

    #[test]
    fn a_button_says_one_thing_of_one_task_on_one_platform() {
        let marks = Marks::new([7; 32]);
        let value = |approve| marks.value(Platform::Slack, &task_id(1), approve);
        let (yes, no) = (value(true), value(false));
        assert_eq!(marks.read(Platform::Slack, &yes), Some((task_id(1), true)));
        assert_eq!(marks.read(Platform::Slack, &no), Some((task_id(1), false)));
        assert_eq!(marks.read(Platform::Mattermost, &yes), None, "Mattermost signs no presses");
        let other = yes.replace(task_id(1).as_str(), task_id(2).as_str());
        for forged in
            ["", "ka1", &yes.replace(".y.", ".n."), &other, &yes[..yes.len() - 2], &format!("{yes}.x")]
        {
            assert_eq!(marks.read(Platform::Slack, forged), None, "{forged}");
        }
        assert_eq!(Marks::new([8; 32]).read(Platform::Slack, &yes), None);
    }
    #[test]
    fn a_message_is_shown_without_its_marks() {
        let mark = Marks::new([7; 32]).value(Platform::Mattermost, &task_id(1), true);
        let message =
            json!({ "text": "Approve?", "attachments": [{ "actions": [{ "context": { "kedge": mark } }] }] });
        let shown = without_marks(message).to_string();
        assert!(shown.contains("Approve?") && !shown.contains(&mark), "{shown}");
    }
}
