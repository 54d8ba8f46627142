//! Runs scripts of ours with PHP on a host, as the web server's user. Script and parameters come on standard input, so that nothing
//! is written there and no secret is an argument; the answer comes in a frame that the site's own output cannot fake by accident.

use std::sync::Arc;
use std::time::Duration;

use kedge_workflows::ports::{PortError, PortResult, Scope, Secret};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::host::{Command, Host};

/// Reads a script up to NUL from standard input and runs it in the global scope; the rest of the input is the script's.
const EVAL: &str = "eval(stream_get_line(STDIN, 1048576, \"\\0\"));";
/// What begins every script.
const START: &str = include_str!("php/start.php");
/// Settings of PHP: errors to standard error without arguments of functions, which can be passwords; bounded memory.
const OPTIONS: [&str; 9] = [
    "display_errors=stderr",
    "display_startup_errors=0",
    "html_errors=0",
    "log_errors=0",
    "zend.exception_ignore_args=1",
    "memory_limit=1G",
    "auto_prepend_file=",
    "auto_append_file=",
    "opcache.enable_cli=0",
];

/// PHP on a host.
#[derive(Clone)]
pub(super) struct Php {
    pub(super) host: Arc<dyn Host>,
    pub(super) scope: Scope,
    /// The user that PHP runs as: the web server's.
    pub(super) user: String,
}

/// One run of a script.
pub(super) struct Run<'a> {
    /// What is being done, to which site: for messages.
    pub(super) what: String,
    /// The script's parts, each with its `<?php`.
    pub(super) script: &'a [&'a str],
    /// Parameters. May hold secrets.
    pub(super) parameters: Map<String, Value>,
    /// What must not be in an error.
    pub(super) secrets: Vec<Secret>,
    /// It is ended when it takes longer.
    pub(super) limit: Duration,
    /// Whether it changes something, so that its end is unknown when it was cut off.
    pub(super) changes: bool,
}

impl Php {
    /// Runs a script and reads its answer.
    pub(super) async fn run<T: DeserializeOwned>(&self, run: Run<'_>) -> PortResult<T> {
        let frame = frame()?;
        let argv = OPTIONS.iter().fold(vec!["php".to_owned()], |mut argv, option| {
            argv.extend(["-d".to_owned(), (*option).to_owned()]);
            argv
        });
        let argv = argv.into_iter().chain(["-r".to_owned(), EVAL.to_owned()]);
        let input = input(&frame, run.script, run.parameters)?;
        let command = Command::new(&self.scope, argv).as_user(&self.user).within(run.limit).input(input);
        let masked = |text: &str| mask(text, &run.secrets);
        let finished = self.host.run(command).await.map_err(|error| match error {
            PortError::Lost(what) if !run.changes => PortError::Unavailable(what),
            // Ended because it took too long: what it did until then is there.
            PortError::Unavailable(what) if run.changes => PortError::Lost(what),
            other => other,
        })?;
        let what = &run.what;
        match answer(&finished.stdout, &frame) {
            Some(Answer::Good(value)) => serde_json::from_value(value).map_err(|error| {
                PortError::Refused(format!("{what}: PHP answered something unexpected: {error}"))
            }),
            Some(Answer::Bad { message, away: true }) => {
                Err(PortError::Unavailable(format!("{what}: {}", masked(&message))))
            }
            Some(Answer::Bad { message, away: false }) => {
                Err(PortError::Refused(format!("{what}: {}", masked(&message))))
            }
            None => {
                let (status, said) = (finished.status, masked(&finished.last_error()));
                let text = format!("{what}: PHP ended without an answer, status {status}: {said}");
                Err(match (status >= 128, run.changes) {
                    (true, true) => PortError::Lost(text),
                    (true, false) => PortError::Unavailable(text),
                    (false, _) => PortError::Refused(text),
                })
            }
        }
    }
}

/// 128 random bits in hex.
fn frame() -> PortResult<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| PortError::Unavailable(format!("the system has no random bytes: {error}")))?;
    Ok(format!("kedge-{}", hex::encode(bytes)))
}

fn input(frame: &str, script: &[&str], mut parameters: Map<String, Value>) -> PortResult<Vec<u8>> {
    let mut input = String::new();
    for part in [START].iter().chain(script) {
        input += part.strip_prefix("<?php").unwrap_or(part);
        input.push('\n');
    }
    if input.contains('\0') {
        return Err(PortError::Refused("a script of ours has a NUL character".to_owned()));
    }
    parameters.insert("frame".to_owned(), Value::from(frame));
    input.push('\0');
    input += &Value::Object(parameters).to_string();
    Ok(input.into_bytes())
}

#[derive(Debug, PartialEq)]
enum Answer {
    Good(Value),
    Bad { message: String, away: bool },
}

/// The answer between the last two frames.
fn answer(stdout: &[u8], frame: &str) -> Option<Answer> {
    let mut parts = memchr::memmem::rfind_iter(stdout, frame.as_bytes());
    let (end, start) = (parts.next()?, parts.next()? + frame.len());
    let value: Value = serde_json::from_slice(stdout.get(start..end)?).ok()?;
    Some(match value.get("error").and_then(Value::as_str) {
        None => Answer::Good(value),
        Some(message) => Answer::Bad {
            message: message.chars().take(500).collect(),
            away: value.get("away").and_then(Value::as_bool).unwrap_or(false),
        },
    })
}

fn mask(text: &str, secrets: &[Secret]) -> String {
    secrets
        .iter()
        .filter(|secret| !secret.expose().is_empty())
        .fold(text.to_owned(), |text, secret| text.replace(secret.expose(), "***"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_found_in_whatever_is_printed_around_it() {
        let frame = "kedge-0011";
        for (stdout, expected) in [
            (
                "Notice: x\n\nkedge-0011{\"a\":1}kedge-0011\nafter",
                Some(Answer::Good(serde_json::json!({ "a": 1 }))),
            ),
            (
                "kedge-0011{\"error\":\"no\",\"away\":true}kedge-0011",
                Some(Answer::Bad { message: "no".into(), away: true }),
            ),
            ("{\"a\":1}", None),
            ("kedge-0011{\"a\":1", None),
            ("kedge-0011{\"a\":kedge-0011", None),
            ("kedge-0022{\"a\":1}kedge-0022", None),
        ] {
            assert_eq!(answer(stdout.as_bytes(), frame), expected, "{stdout}");
        }
    }

    #[test]
    fn script_and_parameters_are_told_apart_by_nul() {
        let parameters = Map::from_iter([("x".to_owned(), Value::from("a\0b"))]);
        let input = input("f", &["<?php\necho 1;"], parameters).unwrap();
        let (script, rest) = input.split_at(input.iter().position(|byte| *byte == 0).unwrap());
        assert!(!String::from_utf8_lossy(script).contains("<?php"));
        let rest: Value = serde_json::from_slice(&rest[1..]).unwrap();
        assert_eq!(rest, serde_json::json!({ "x": "a\0b", "frame": "f" }));
    }

    #[test]
    fn secrets_are_masked() {
        assert_eq!(
            mask("denied for 'pw' (pw)", &[Secret::new("pw"), Secret::new("")]),
            "denied for '***' (***)"
        );
    }
}
