//! What the three platforms send: who, what was typed or pressed, and where answers go. Pure; the signature was checked before, but for
//! Mattermost's buttons, which have none: there the button's own mark proves them.

use serde_json::Value;

use super::Platform;

/// Longest id, name, address or text taken from a message.
const MAX_TEXT: usize = 3000;

/// A message from a chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Incoming {
    /// The platform's id of the person: the only thing about them that counts.
    pub(crate) user: String,
    /// A name to mention them by, of letters and digits, where the platform needs one.
    pub(crate) mention: String,
    pub(crate) what: What,
    /// Where more may be said about it.
    pub(crate) reply: Reply,
    /// The platform's id of the message.
    pub(crate) id: Option<String>,
}

/// What somebody did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Typed a command.
    Said(String),
    /// Pressed a Confirm button with this value.
    Pressed(String),
    /// Pressed the other one.
    Dismissed,
}

/// Where more may be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// To an address that the message named; pinned to a configured host before it is used.
    Url(String),
    /// To the first answer, which is edited: an application and a token of the message.
    Discord {
        /// The application's id.
        application: String,
        /// The message's token.
        token: String,
    },
    /// Nowhere.
    Nowhere,
}

/// The id of the button that does nothing.
pub(crate) const DISMISS: &str = "kedge_dismiss";

/// Reads a message.
///
/// # Errors
/// What it is not.
pub(crate) fn read(platform: Platform, body: &Value) -> Result<Incoming, &'static str> {
    match platform {
        Platform::Slack => slack(body),
        Platform::Mattermost => mattermost(body),
        Platform::Discord => discord(body),
    }
}

fn text(body: &Value, pointer: &str) -> Option<String> {
    let text = body.pointer(pointer)?.as_str()?;
    (!text.is_empty() && text.len() <= MAX_TEXT).then(|| text.to_owned())
}

fn url(body: &Value) -> Reply {
    text(body, "/response_url").map_or(Reply::Nowhere, Reply::Url)
}

fn pressed(value: Option<String>, action: Option<&str>) -> Result<What, &'static str> {
    match value {
        _ if action == Some(DISMISS) => Ok(What::Dismissed),
        Some(value) if value == DISMISS => Ok(What::Dismissed),
        Some(value) => Ok(What::Pressed(value)),
        None => Err("the button has no value"),
    }
}

fn slack(body: &Value) -> Result<Incoming, &'static str> {
    let (user, what) = if body["type"] == "block_actions" {
        let action = body.pointer("/actions/0/action_id").and_then(Value::as_str);
        (text(body, "/user/id"), pressed(text(body, "/actions/0/value"), action)?)
    } else if body.get("command").is_some() {
        let said = body["text"].as_str().unwrap_or_default();
        (text(body, "/user_id"), What::Said(said.to_owned()))
    } else {
        return Err("neither a command nor a button");
    };
    let user = user.ok_or("nobody's: it has no user id")?;
    let mention = format!("<@{}>", plain(&user));
    Ok(Incoming { mention, what, reply: url(body), id: text(body, "/trigger_id"), user })
}

fn mattermost(body: &Value) -> Result<Incoming, &'static str> {
    let what = if let Some(context) = body.get("context") {
        pressed(context["kedge"].as_str().map(str::to_owned), None)?
    } else if body.get("command").is_some() {
        What::Said(body["text"].as_str().unwrap_or_default().to_owned())
    } else {
        return Err("neither a command nor a button");
    };
    let user = text(body, "/user_id").ok_or("nobody's: it has no user id")?;
    let mention = text(body, "/user_name").map_or_else(String::new, |name| format!("@{}", plain(&name)));
    Ok(Incoming { user, mention, what, reply: url(body), id: text(body, "/trigger_id") })
}

fn discord(body: &Value) -> Result<Incoming, &'static str> {
    let user = text(body, "/member/user/id").or_else(|| text(body, "/user/id"));
    let user = user.ok_or("nobody's: it has no user id")?;
    let what = match body["type"].as_u64() {
        Some(2) => What::Said(discord_command(&body["data"])),
        Some(3) => pressed(text(body, "/data/custom_id"), None)?,
        _ => return Err("neither a command nor a button"),
    };
    let reply = match (text(body, "/application_id"), text(body, "/token")) {
        (Some(application), Some(token)) if is_word(&application) && is_word(&token) => {
            Reply::Discord { application, token }
        }
        _ => Reply::Nowhere,
    };
    Ok(Incoming { mention: format!("<@{}>", plain(&user)), user, what, reply, id: text(body, "/id") })
}

/// A command of Discord as text: one text option is the whole command; else a subcommand and its options by name.
fn discord_command(data: &Value) -> String {
    let empty = Vec::new();
    let mut options = data["options"].as_array().unwrap_or(&empty);
    let mut words = Vec::new();
    while let [one] = &options[..] {
        // 1 and 2: a subcommand, a group of them.
        if !matches!(one["type"].as_u64(), Some(1 | 2)) {
            break;
        }
        words.push(quoted(one["name"].as_str().unwrap_or_default()));
        options = one["options"].as_array().unwrap_or(&empty);
    }
    if let ([one], true) = (&options[..], words.is_empty())
        && let Some(text) = one["value"].as_str()
    {
        return text.to_owned();
    }
    for option in options {
        let name = option["name"].as_str().unwrap_or_default();
        let value = match &option["value"] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        // The first word after a verb needs no name.
        let bare = matches!(name, "site" | "task") && words.len() == 1;
        words.push(if bare { quoted(&value) } else { quoted(&format!("{name}={value}")) });
    }
    words.join(" ")
}

fn quoted(word: &str) -> String {
    word.chars()
        .flat_map(|c| {
            let escaped = (c.is_whitespace() || matches!(c, '"' | '\'' | '\\')).then_some('\\');
            escaped.into_iter().chain([c])
        })
        .collect()
}

/// Whether a text can stand in a path as it is.
fn is_word(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && !text.starts_with('.')
}

fn plain(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')).take(64).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn commands_and_buttons_of_slack() {
        let command = json!({"command": "/kedge", "text": "status", "user_id": "U1", "user_name": "admin",
            "response_url": "https://hooks.slack.com/x", "trigger_id": "t"});
        let read_it = read(Platform::Slack, &command).unwrap();
        assert_eq!((read_it.user.as_str(), read_it.mention.as_str()), ("U1", "<@U1>"));
        assert_eq!(read_it.what, What::Said("status".to_owned()));
        assert_eq!(read_it.reply, Reply::Url("https://hooks.slack.com/x".to_owned()));
        let button = |id: &str| json!({"type": "block_actions", "user": {"id": "U1"}, "actions": [{"action_id": id, "value": "kc1.x"}]});
        let what = |body: &Value| read(Platform::Slack, body).map(|incoming| incoming.what);
        assert_eq!(what(&button("kedge_confirm")), Ok(What::Pressed("kc1.x".to_owned())));
        assert_eq!(what(&button(DISMISS)), Ok(What::Dismissed));
        assert!(what(&json!({"type": "event_callback"})).is_err());
        assert!(what(&json!({"command": "/kedge", "text": ""})).is_err(), "nobody's");
    }

    #[test]
    fn commands_and_buttons_of_mattermost() {
        let command =
            json!({"command": "/kedge", "text": "help", "user_id": "m1", "user_name": "anna<!channel>"});
        let read_it = read(Platform::Mattermost, &command).unwrap();
        assert_eq!((read_it.mention.as_str(), &read_it.reply), ("@annachannel", &Reply::Nowhere));
        let button = json!({"user_id": "m1", "post_id": "p", "context": {"kedge": "kc1.x"}});
        assert_eq!(read(Platform::Mattermost, &button).unwrap().what, What::Pressed("kc1.x".to_owned()));
    }

    #[test]
    fn commands_and_buttons_of_discord() {
        let with = |data: Value| {
            let body = json!({"type": 2, "id": "i", "application_id": "7", "token": "tok", "data": data,
                "member": {"user": {"id": "42", "username": "anna"}}});
            read(Platform::Discord, &body).unwrap()
        };
        let one = with(
            json!({"name": "kedge", "options": [{"type": 3, "name": "command", "value": "migrate a.test to wp"}]}),
        );
        assert_eq!(one.what, What::Said("migrate a.test to wp".to_owned()));
        assert_eq!(one.reply, Reply::Discord { application: "7".to_owned(), token: "tok".to_owned() });
        let sub = with(json!({"name": "kedge", "options": [{"type": 1, "name": "backup", "options": [
            {"type": 3, "name": "site", "value": "a.test"}, {"type": 3, "name": "description", "value": "two words"}]}]}));
        assert_eq!(sub.what, What::Said("backup a.test description=two\\ words".to_owned()));
        let escape =
            json!({"type": 2, "application_id": "../x", "token": "tok", "data": {}, "user": {"id": "42"}});
        assert_eq!(read(Platform::Discord, &escape).unwrap().reply, Reply::Nowhere);
        let button = json!({"type": 3, "user": {"id": "42"}, "data": {"custom_id": DISMISS}});
        assert_eq!(read(Platform::Discord, &button).unwrap().what, What::Dismissed);
    }
}
