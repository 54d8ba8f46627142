//! What a person types after the slash: split into words, then read as a command. Pure; no shell ever sees it.
//!
//! ```text
//! help | status [SITE or TASK] | why TASK | undo TASK | cancel TASK [reason ...] | approve TASK [reason ...] | refuse TASK [reason ...]
//! WORKFLOW [SITE] [to X] [from X] [on X] [NAME=VALUE ...]
//! ```
//! `to`, `from` and `on` are what people say: `migrate shop.test to wordpress-69`, `clone shop.test to copy.test on wordpress-69`,
//! `restore shop.test from BACKUP`. A value is JSON where it reads as JSON, else text.

use serde_json::{Map, Value};

/// Longest text of a command, in bytes: names and a few parameters.
const MAX_TEXT: usize = 2000;
/// Most words.
const MAX_WORDS: usize = 40;

/// A command.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command {
    /// What can be typed.
    Help,
    /// How a task, a site's tasks or all of them stand.
    Status(Option<String>),
    /// Why a task waits or failed.
    Why(String),
    /// Take a finished task back.
    Undo(String),
    /// Ask for rollback.
    Cancel {
        /// The task.
        task: String,
        /// Why.
        reason: String,
    },
    /// A second person's yes or no.
    Decide {
        /// The task.
        task: String,
        /// Yes.
        approve: bool,
        /// Why.
        reason: String,
    },
    /// A task.
    Run {
        /// Its workflow.
        workflow: String,
        /// Its parameters.
        params: Value,
    },
}

/// Reads a command. `known` tells whether there is a workflow of a name.
///
/// # Errors
/// In words for the person who typed it.
pub(crate) fn command(text: &str, known: impl Fn(&str) -> bool) -> Result<Command, String> {
    let words = words(text)?;
    let Some((verb, rest)) = words.split_first() else { return Ok(Command::Help) };
    let verb = verb.to_lowercase();
    let only = |what: &str| match rest {
        [one] => Ok(one.clone()),
        _ => Err(format!("write `{verb} {what}`")),
    };
    match verb.as_str() {
        "help" | "?" => Ok(Command::Help),
        "status" | "tasks" => match rest {
            [] => Ok(Command::Status(None)),
            [one] => Ok(Command::Status(Some(one.clone()))),
            _ => Err("write `status`, `status SITE` or `status TASK`".to_owned()),
        },
        "why" => only("TASK").map(Command::Why),
        "undo" => only("TASK").map(Command::Undo),
        "cancel" => match rest {
            [] => Err("write `cancel TASK`, and why if you like".to_owned()),
            [task, reason @ ..] => Ok(Command::Cancel { task: task.clone(), reason: reason.join(" ") }),
        },
        "approve" | "refuse" => match rest {
            [] => Err(format!("write `{verb} TASK`, and why if you like")),
            [task, reason @ ..] => Ok(Command::Decide {
                task: task.clone(),
                approve: verb == "approve",
                reason: reason.join(" "),
            }),
        },
        workflow if known(workflow) => {
            Ok(Command::Run { workflow: workflow.to_owned(), params: params(workflow, rest)? })
        }
        _ => Err(format!("there is no command {verb:?}; `help` lists them")),
    }
}

fn params(workflow: &str, words: &[String]) -> Result<Value, String> {
    let mut params = Map::new();
    let mut put = |name: &str, value: Value| match params.insert(name.to_owned(), value) {
        None => Ok(()),
        Some(_) => Err(format!("{name} is there twice")),
    };
    let mut words = words.iter().enumerate();
    while let Some((index, word)) = words.next() {
        if let Some((name, value)) = word.split_once('=').filter(|(name, _)| is_name(name)) {
            put(name, serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned())))?;
        } else if let Some(name) = preposition(workflow, word) {
            let (_, value) = words.next().ok_or_else(|| format!("after `{word}` comes a name"))?;
            put(name, Value::String(value.clone()))?;
        } else if index == 0 {
            put("site", Value::String(word.clone()))?;
        } else {
            return Err(format!("{word:?} stands alone: write it as NAME=VALUE"));
        }
    }
    Ok(Value::Object(params))
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The parameter that people mean with a small word.
fn preposition(workflow: &str, word: &str) -> Option<&'static str> {
    match (workflow, word) {
        ("clone", "to" | "as") | ("migrate", "as") => Some("new_site"),
        ("migrate" | "migrate_platform" | "restore", "to") | ("clone", "on") => Some("target_platform"),
        ("install", "on") => Some("platform"),
        ("restore", "from") => Some("backup"),
        _ => None,
    }
}

/// Splits a text: white space between words, quotes of both kinds around several, a backslash before a sign that is meant as itself.
fn words(text: &str) -> Result<Vec<String>, String> {
    if text.len() > MAX_TEXT {
        return Err(format!("a command has at most {MAX_TEXT} bytes"));
    }
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        // Telephones write other quotes.
        let plain = match c {
            '\u{201c}' | '\u{201d}' => '"',
            '\u{2018}' | '\u{2019}' => '\'',
            c => c,
        };
        match (plain, quote) {
            ('\\', _) => {
                let next = chars.next().ok_or("a \\ at the end stands before nothing")?;
                word.get_or_insert_default().push(next);
            }
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(plain);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) if c.is_control() => return Err("a command has no control characters".to_owned()),
            (_, _) => word.get_or_insert_default().push(c),
        }
        if words.len() > MAX_WORDS {
            return Err(format!("a command has at most {MAX_WORDS} words"));
        }
    }
    if quote.is_some() {
        return Err("a quote does not end".to_owned());
    }
    words.extend(word);
    Ok(words.into_iter().map(unlinked).collect())
}

/// Slack makes links of host names: `<http://shop.test|shop.test>` was typed as `shop.test`.
fn unlinked(word: String) -> String {
    let Some(inner) = word.strip_prefix('<').and_then(|word| word.strip_suffix('>')) else { return word };
    match inner.split_once('|') {
        Some((link, shown)) if link.starts_with("http") => shown.to_owned(),
        _ => word,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Result<Command, String> {
        command(text, |name| ["migrate", "clone", "restore", "backup", "install"].contains(&name))
    }

    #[test]
    fn what_people_type() {
        let run = |workflow: &str, params: Value| Ok(Command::Run { workflow: workflow.to_owned(), params });
        for (text, want) in [
            ("", Ok(Command::Help)),
            ("  HELP ", Ok(Command::Help)),
            ("status", Ok(Command::Status(None))),
            ("status a.test", Ok(Command::Status(Some("a.test".to_owned())))),
            ("why 12ab", Ok(Command::Why("12ab".to_owned()))),
            ("undo 12ab", Ok(Command::Undo("12ab".to_owned()))),
            (
                "cancel 12ab wrong platform",
                Ok(Command::Cancel { task: "12ab".to_owned(), reason: "wrong platform".to_owned() }),
            ),
            (
                "approve 12ab looks good",
                Ok(Command::Decide {
                    task: "12ab".to_owned(),
                    approve: true,
                    reason: "looks good".to_owned(),
                }),
            ),
            (
                "refuse a.test",
                Ok(Command::Decide { task: "a.test".to_owned(), approve: false, reason: String::new() }),
            ),
            (
                "migrate example.test to wordpress-69",
                run("migrate", json!({"site": "example.test", "target_platform": "wordpress-69"})),
            ),
            ("Migrate a.test as b.test", run("migrate", json!({"site": "a.test", "new_site": "b.test"}))),
            (
                "clone a.test to b.test on wp aliases='[\"c.test\"]'",
                run(
                    "clone",
                    json!({"site": "a.test", "new_site": "b.test", "target_platform": "wp", "aliases": ["c.test"]}),
                ),
            ),
            (
                "restore a.test from a.tar.zst",
                run("restore", json!({"site": "a.test", "backup": "a.tar.zst"})),
            ),
            (
                "backup <http://a.test|a.test> description=“before the sale” n=3",
                run("backup", json!({"site": "a.test", "description": "before the sale", "n": 3})),
            ),
            ("install site=a.test on wp", run("install", json!({"site": "a.test", "platform": "wp"}))),
        ] {
            assert_eq!(read(text), want, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_said() {
        for (text, want) in [
            ("format c:", "no command"),
            ("why", "write `why TASK`"),
            ("undo a b", "write `undo TASK`"),
            ("migrate a.test wordpress", "stands alone"),
            ("migrate a.test to", "comes a name"),
            ("migrate a.test site=b.test", "twice"),
            ("backup \"a", "does not end"),
            ("backup a\\", "before nothing"),
            ("backup a\u{7}", "control"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
        assert!(read(&"a ".repeat(300)).unwrap_err().contains("words"));
        assert!(read(&"a".repeat(3000)).unwrap_err().contains("bytes"));
    }

    proptest! {
        #[test]
        fn any_text_is_a_command_or_an_error(text in "\\PC{0,60}") {
            if let Err(error) = read(&text) {
                prop_assert!(!error.is_empty());
            }
        }

        #[test]
        fn quoted_words_come_out_as_they_are(word in "[a-z \\\\\"'=<>|;$`]{1,20}") {
            let quoted: String = word.chars().flat_map(|c| ['\\', c]).collect();
            let got = words(&quoted).unwrap();
            prop_assert_eq!(got, [unlinked(word)]);
        }
    }
}
