//! Messages in each platform's form: an answer, a plan with its buttons, how a task goes, how it ended. Pure.

use kedge_engine::plan::Class;
use kedge_engine::service::PlanView;
use kedge_engine::task::{ApprovalState, StepStateView, TaskState, TaskView};
use serde_json::{Value, json};

use super::incoming::DISMISS;
use super::text::slack_text;
use super::{Budget, Platform};

/// Longest text: Slack takes 3000 characters in a section, Discord 2000 in a message.
const MAX_TEXT: usize = 1900;
/// Steps of a plan that are listed.
const MAX_STEPS: usize = 25;

/// What is said, in one platform's form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Voice<'a> {
    pub(crate) platform: Platform,
    /// Where Mattermost's buttons post to.
    pub(crate) own_url: Option<&'a str>,
}

impl Voice<'_> {
    fn text(&self, text: &str) -> String {
        let short: String = text.chars().take(MAX_TEXT).collect();
        match self.platform {
            Platform::Slack | Platform::Mattermost => slack_text(&short),
            // Mentions are switched off beside it; only formatting could play tricks.
            Platform::Discord => {
                short.replace('`', "'").chars().filter(|c| *c == '\n' || !c.is_control()).collect()
            }
        }
    }

    /// An answer that only the person sees.
    pub(crate) fn answer(&self, text: &str) -> Value {
        let text = self.text(text);
        match self.platform {
            Platform::Slack | Platform::Mattermost => json!({ "response_type": "ephemeral", "text": text }),
            Platform::Discord => {
                json!({ "type": 4, "data": { "content": text, "flags": 64, "allowed_mentions": { "parse": [] } } })
            }
        }
    }

    /// A question with two buttons, of which one has this value.
    pub(crate) fn question(&self, text: &str, value: &str) -> Value {
        let text = self.text(text);
        match self.platform {
            Platform::Slack => json!({
                "response_type": "ephemeral",
                "text": text,
                "blocks": [
                    { "type": "section", "text": { "type": "mrkdwn", "text": text } },
                    { "type": "actions", "elements": [
                        { "type": "button", "action_id": "kedge_confirm", "style": "danger", "value": value,
                          "text": { "type": "plain_text", "text": "Confirm" } },
                        { "type": "button", "action_id": DISMISS, "value": DISMISS,
                          "text": { "type": "plain_text", "text": "Leave it" } },
                    ] },
                ],
            }),
            Platform::Mattermost => {
                let button = |id: &str, name: &str, style: &str, value: &str| {
                    json!({ "id": id, "name": name, "style": style,
                        "integration": { "url": self.own_url, "context": { "kedge": value } } })
                };
                json!({
                    "response_type": "ephemeral",
                    "text": text,
                    "attachments": [{ "fallback": "Confirm or leave it", "text": "", "actions": [
                        button("kedgeconfirm", "Confirm", "danger", value),
                        button("kedgedismiss", "Leave it", "default", DISMISS),
                    ] }],
                })
            }
            Platform::Discord => json!({ "type": 4, "data": {
                "content": text, "flags": 64, "allowed_mentions": { "parse": [] },
                "components": [{ "type": 1, "components": [
                    { "type": 2, "style": 4, "label": "Confirm", "custom_id": value },
                    { "type": 2, "style": 2, "label": "Leave it", "custom_id": DISMISS },
                ] }],
            } }),
        }
    }

    /// What takes the place of a question whose button was pressed, as the answer to the press.
    pub(crate) fn instead(&self, text: &str) -> Value {
        let text = self.text(text);
        match self.platform {
            Platform::Slack => self.edit(&text, None),
            Platform::Mattermost => json!({ "update": { "message": text, "props": { "attachments": [] } } }),
            Platform::Discord => {
                json!({ "type": 7, "data": { "content": text, "components": [], "allowed_mentions": { "parse": [] } } })
            }
        }
    }

    /// What only the person sees who pressed a button of a message that stays.
    pub(crate) fn aside(&self, text: &str) -> Value {
        match self.platform {
            Platform::Slack => {
                json!({ "response_type": "ephemeral", "replace_original": false, "text": self.text(text) })
            }
            Platform::Mattermost => json!({ "ephemeral_text": self.text(text) }),
            Platform::Discord => self.answer(text),
        }
    }

    /// A later word on it: the same message where the platform can edit it. `mention` wakes one person.
    pub(crate) fn later(&self, text: &str, mention: Option<&str>) -> Value {
        self.edit(&self.text(text), mention)
    }

    fn edit(&self, text: &str, mention: Option<&str>) -> Value {
        let told = mention.map_or_else(|| text.to_owned(), |mention| format!("{mention} {text}"));
        match self.platform {
            Platform::Slack => {
                json!({ "replace_original": true, "response_type": "ephemeral", "text": told })
            }
            Platform::Mattermost => json!({ "response_type": "ephemeral", "text": told }),
            Platform::Discord => {
                let id = mention.map(|mention| mention.trim_matches(['<', '@', '>']).to_owned());
                json!({ "content": told, "components": [], "allowed_mentions": { "parse": [], "users": id.into_iter().collect::<Vec<_>>() } })
            }
        }
    }

    /// The same for a channel's incoming webhook, where a conversation's own address has expired.
    pub(crate) fn channel(&self, text: &str, mention: &str) -> Value {
        let told = format!("{mention} {}", self.text(text));
        match self.platform {
            Platform::Slack | Platform::Mattermost => json!({ "text": told }),
            Platform::Discord => {
                let id = mention.trim_matches(['<', '@', '>']);
                json!({ "content": told, "allowed_mentions": { "parse": [], "users": [id] } })
            }
        }
    }
}

/// A plan in some lines.
pub(crate) fn plan(plan: &PlanView) -> String {
    let of = plan.site.as_deref().map_or_else(String::new, |site| format!(" of {site}"));
    let mut text = format!("{}{of}, {} steps:", plan.workflow, plan.steps.len());
    for step in plan.steps.iter().take(MAX_STEPS) {
        let mark = if step.class == Class::Pivot { "  (from here on there is no rollback)" } else { "" };
        text.push_str(&format!("\n• {}{mark}", step.title));
    }
    if plan.steps.len() > MAX_STEPS {
        text.push_str(&format!("\n• and {} more", plan.steps.len() - MAX_STEPS));
    }
    for note in &plan.notes {
        text.push_str(&format!("\nNote: {note}"));
    }
    for lock in plan.locks.iter().filter(|lock| !lock.holders.is_empty()) {
        text.push_str(&format!("\nIt will wait: {} is held by {}", lock.resource, lock.holders[0]));
    }
    text
}

/// A task in a line.
pub(crate) fn task(view: &TaskView) -> String {
    let of = view.site.as_deref().map_or_else(String::new, |site| format!(" of {site}"));
    let done = view.steps.iter().filter(|step| step.state == StepStateView::Succeeded).count();
    let mut text = format!("{}{of}: {}", view.workflow, view.state.as_str().replace('_', " "));
    if !view.state.is_final() {
        text.push_str(&format!(", {done} of {} steps", view.steps.len()));
        if let Some(step) = view.steps.iter().find(|step| step.state == StepStateView::Running) {
            text.push_str(&format!(", now: {}", step.title));
        }
    }
    text.push_str(&format!(" ({})", short_id(view)));
    text
}

/// A task that has ended, or needs somebody.
pub(crate) fn end(view: &TaskView) -> String {
    let mut text = task(view);
    let verified = view.outcome.as_ref().and_then(|outcome| outcome.verified);
    match (view.state, verified) {
        (TaskState::RolledBack | TaskState::Canceled, Some(true)) => {
            text.push_str("\nEverything is as it was before; that was checked.");
        }
        (TaskState::RolledBack | TaskState::Canceled, Some(false)) => {
            text.push_str("\nIt was taken back, but not everything is as it was: `why` tells what.");
        }
        _ => {}
    }
    if view.state != TaskState::Succeeded {
        text.push_str(&format!("\n{}", why(view)));
    }
    if view.undo_until.is_some() {
        text.push_str(&format!("\nTo take it back: undo {}", short_id(view)));
    }
    text
}

/// Why a task is where it is.
pub(crate) fn why(view: &TaskView) -> String {
    let mut lines = Vec::new();
    if let Some(approval) = view.approval.as_ref().filter(|approval| approval.state == ApprovalState::Asked) {
        let id = short_id(view);
        let asked = match &approval.approvers[..] {
            [] => "A second person".to_owned(),
            some => some.join(" or "),
        };
        lines.push(format!("{asked} has to approve it: approve {id}, or refuse {id} REASON"));
    }
    if let Some(blocked) = &view.blocked_on {
        let holder = blocked.holder.as_ref().map_or_else(String::new, |holder| format!(", held by {holder}"));
        lines.push(format!("It waits for {}{holder}.", blocked.what));
    }
    for step in view.steps.iter().filter(|step| step.state != StepStateView::Succeeded) {
        if let Some(error) = &step.error {
            lines.push(format!("{}: {}", step.title, error.message));
        }
    }
    for stuck in view.incident.iter().flat_map(|incident| &incident.steps) {
        lines.push(format!("Stuck in {} ({}): {}", stuck.step, stuck.phase, stuck.reason));
        lines.extend(stuck.by_hand.iter().map(|line| format!("By hand: {line}")));
    }
    for drift in view.outcome.iter().flat_map(|outcome| &outcome.drift) {
        lines.push(format!("Not as before: {}", serde_json::to_string(drift).unwrap_or_default()));
    }
    if lines.is_empty() {
        lines.push("Nothing holds it up.".to_owned());
    }
    lines.join("\n")
}

/// The end of a task's id: enough to name it.
pub(crate) fn short_id(view: &TaskView) -> &str {
    let id = view.id.as_str();
    &id[id.len().saturating_sub(8)..]
}

/// What can be typed.
pub(crate) fn help(workflows: &str) -> String {
    format!(
        "What you can type:\n\
         • migrate SITE to PLATFORM · clone SITE to NEW · restore SITE from BACKUP · backup SITE\n\
         • any workflow: WORKFLOW SITE NAME=VALUE ... ({workflows})\n\
         • status [SITE or TASK] · why TASK · undo TASK · cancel TASK [reason]\n\
         • approve TASK · refuse TASK [reason]: for tasks that ask for a second person\n\
         A task is named by the end of its id. What changes a site shows its plan first and asks."
    )
}

/// What is said while a budget lasts: kept here so that its words and its bounds are read together.
pub(crate) fn remaining(budget: &Budget) -> &'static str {
    if budget.edits() { "This message follows it." } else { "You are told when it ends." }
}
