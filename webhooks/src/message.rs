//! A task's change of state as a message to people in a chat: what happened to which site, how sure it is, where to look. Pure; texts of
//! others are shown without what a chat would make of them.

use kedge_engine::task::{ApprovalState, TaskState, TaskView};
use serde_json::{Value, json};

use crate::api::{self, Links};
use crate::chat::Platform;
use crate::chat::approve::Marks;
use crate::endpoint::Form;

/// Longest detail shown: people read the task's page for more.
const MAX_DETAIL: usize = 300;

/// The message's body in a chat's own form.
pub(crate) fn of(form: Form, task: &TaskView, links: &Links, marks: Option<Marks>) -> Value {
    let text = text(form, task, links);
    if let Some(marks) = marks.filter(|_| is_asked(task))
        && let Some(platform) = platform(form)
    {
        let value = |approve| marks.value(platform, &task.id, approve);
        if let Some(message) = buttons(form, &text, &value(true), &value(false), links) {
            return message;
        }
    }
    match form {
        Form::Discord => json!({ "content": text, "allowed_mentions": { "parse": [] } }),
        Form::Standard | Form::CloudEvents | Form::Slack | Form::Mattermost => json!({ "text": text }),
    }
}

/// Where the buttons of a form are pressed.
fn platform(form: Form) -> Option<Platform> {
    match form {
        Form::Slack => Some(Platform::Slack),
        Form::Mattermost => Some(Platform::Mattermost),
        Form::Discord | Form::Standard | Form::CloudEvents => None,
    }
}

/// Whether a second person is asked about it.
pub(crate) fn is_asked(task: &TaskView) -> bool {
    task.approval.as_ref().is_some_and(|approval| approval.state == ApprovalState::Asked)
}

/// The message with two buttons, where an incoming webhook takes them: Discord's does not.
fn buttons(form: Form, text: &str, yes: &str, no: &str, links: &Links) -> Option<Value> {
    match form {
        Form::Slack => {
            let button = |id: &str, style: &str, name: &str, value: &str| {
                json!({ "type": "button", "action_id": id, "style": style, "value": value,
                    "text": { "type": "plain_text", "text": name } })
            };
            Some(json!({ "text": text, "blocks": [
                { "type": "section", "text": { "type": "mrkdwn", "text": text } },
                { "type": "actions", "elements": [
                    button("kedge_approve", "primary", "Approve", yes), button("kedge_refuse", "danger", "Refuse", no),
                ] },
            ] }))
        }
        Form::Mattermost => {
            let url = links.below("/v1/chat/mattermost")?;
            let button = |id: &str, style: &str, name: &str, value: &str| {
                json!({ "id": id, "name": name, "style": style,
                    "integration": { "url": url, "context": { "kedge": value } } })
            };
            Some(
                json!({ "text": text, "attachments": [{ "fallback": "Approve or refuse", "text": "", "actions": [
                button("kedgeapprove", "good", "Approve", yes), button("kedgerefuse", "danger", "Refuse", no),
            ] }] }),
            )
        }
        Form::Standard | Form::CloudEvents | Form::Discord => None,
    }
}

/// The message as plain text.
pub(crate) fn plain(task: &TaskView, links: &Links) -> String {
    text(Form::Standard, task, links).replace("**", "")
}

fn text(form: Form, task: &TaskView, links: &Links) -> String {
    let site = task.site.as_deref().unwrap_or("no single site");
    let bold = |text: &str| match form {
        Form::Slack => format!("*{}*", harmless(form, text)),
        Form::Standard | Form::CloudEvents | Form::Mattermost | Form::Discord => {
            format!("**{}**", harmless(form, text))
        }
    };
    let mut text = format!("{} {}: {}", bold(&task.workflow), bold(site), words(task));
    if let Some(approval) = task.approval.as_ref().filter(|_| is_asked(task)) {
        let asked = match &approval.approvers[..] {
            [] => "a second person".to_owned(),
            some => some.join(" or "),
        };
        let (by, id) = (harmless(form, &task.actor.name), &task.id.as_str()[task.id.as_str().len() - 8..]);
        text.push_str(&format!(
            "\nasked for by {by}; {} has to approve it before its {} (policy {}){}",
            harmless(form, &asked),
            approval.before,
            harmless(form, &approval.policy),
            approval.until.map_or_else(String::new, |until| format!(", until {}", api::time(until)))
        ));
        text.push_str(&format!("\n/kedge approve {id}  or  /kedge refuse {id} REASON"));
    }
    if let Some(error) = &task.error {
        text.push_str(&format!("\n{}: {}", harmless(form, &error.title), harmless(form, &error.detail)));
    }
    if let Some(ms) = task.downtime_ms.filter(|_| task.state.is_final()) {
        text.push_str(&format!("\nvisitors saw a 503 for at most {ms} ms"));
    }
    if let Some(link) = links.task(task)["self"].as_str().filter(|link| link.starts_with("http")) {
        text.push_str(&format!("\n{link}"));
    }
    text
}

pub(crate) fn words(task: &TaskView) -> &'static str {
    let verified = task.outcome.as_ref().and_then(|outcome| outcome.verified);
    match (task.state, verified) {
        (TaskState::Queued, _) => "is queued",
        (TaskState::Running, _) => "has begun",
        (TaskState::Waiting, _) if is_asked(task) => "waits for an approval",
        (TaskState::Waiting, _) => "waits for its next attempt",
        (TaskState::Compensating, _) => "is being rolled back",
        (TaskState::Succeeded, _) => "succeeded",
        (TaskState::RolledBack, Some(true)) => "failed and is rolled back; verified: everything is as it was",
        (TaskState::RolledBack, Some(false)) => "failed and is rolled back, but not everything is as it was",
        (TaskState::RolledBack, None) => "failed and is rolled back",
        (TaskState::Canceled, Some(false)) => "was canceled, but not everything is as it was",
        (TaskState::Canceled, _) => "was canceled, and is rolled back",
        (TaskState::Stuck, _) => "is stuck: a person is needed",
    }
}

/// A text in which a chat finds no markup, no mention and no link of its own.
fn harmless(form: Form, text: &str) -> String {
    let short: String = text.chars().take(MAX_DETAIL).collect();
    let mut out = String::new();
    for c in short.chars() {
        match (form, c) {
            (Form::Slack, '&') => out.push_str("&amp;"),
            (Form::Slack, '<') => out.push_str("&lt;"),
            (Form::Slack, '>') => out.push_str("&gt;"),
            // A space of no width: the mention is no mention any more.
            (_, '@') => out.push_str("@\u{200b}"),
            (Form::Mattermost | Form::Discord, '*' | '_' | '`' | '[' | ']' | '~' | '|' | '<') => {
                out.push('\\');
                out.push(c);
            }
            (_, c) if c.is_control() => out.push(' '),
            (_, c) => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use kedge_engine::task::{FailureView, OutcomeView};

    use super::*;
    use crate::testing::sample_task;

    fn failed() -> TaskView {
        let mut task = sample_task(7, "a.test");
        task.state = TaskState::RolledBack;
        task.outcome = Some(OutcomeView { verified: Some(true), drift: Vec::new() });
        task.error = Some(FailureView {
            step: "update".to_owned(),
            title: "Update the database".to_owned(),
            detail: "<!channel> @everyone *now*\nexit 1".to_owned(),
        });
        task
    }

    #[test]
    fn a_message_says_what_happened_and_pings_nobody() {
        let links = Links::new(Some(&"https://kedge.test".parse().unwrap()));
        let task = failed();
        let slack = of(Form::Slack, &task, &links, None);
        let text = slack["text"].as_str().unwrap();
        assert!(text.starts_with("*migrate* *a.test*: failed and is rolled back; verified"), "{text}");
        assert!(text.contains("&lt;!channel&gt;") && !text.contains("@everyone"), "{text}");
        assert!(text.ends_with(&format!("https://kedge.test/v1/tasks/{}", task.id)), "{text}");
        let mattermost = of(Form::Mattermost, &task, &links, None);
        let text = mattermost["text"].as_str().unwrap();
        assert!(text.starts_with("**migrate** **a.test**") && text.contains("\\*now\\* exit 1"), "{text}");
        let discord = of(Form::Discord, &task, &links, None);
        assert_eq!(discord["allowed_mentions"], json!({"parse": []}));
        let long = "x".repeat(10_000);
        assert_eq!(harmless(Form::Slack, &long).len(), MAX_DETAIL);
    }
}
