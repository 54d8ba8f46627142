//! The `when` filters of a hook: small conditions on the event, the branch, the changed files and the fields of a body, parsed when
//! the configuration is loaded. They change nothing; what a provider calls an event or a branch, [`Facts`] knows.
//!
//! ```text
//! condition = term { "or" term }              all conditions of a hook have to hold
//! term      = operand "==" value | operand "!=" value | operand "in" "[" value { "," value } "]"
//!           | operand "not" "in" "[" ... "]"    | operand "not" "matches" pattern
//!           | operand "matches" pattern       `*` stands for any characters
//!           | operand "exists" | operand "missing"
//! operand   = "event" | "branch" | "tag" | "path" | JSON pointer such as /repository/full_name
//! value     = JSON string, number, true, false, null, or a bare word
//! ```
//! `path` stands for the files that a push added, changed or removed. Of several paths (or branches, with Bitbucket) one has to fit; for
//! `!=` and `not`, none may. Where a sender does not name all files of a push, a condition on them holds: better once too often. A missing
//! field equals nothing, so `!=` and `not` hold.

use std::borrow::Cow;

use serde_json::Value;

use crate::config::matches_glob;
use crate::provider::{Facts, short};

/// Longest condition, in bytes: it is shown as the reason when it does not hold.
const MAX_CONDITION: usize = 500;

/// A parsed condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    text: String,
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq)]
struct Term {
    operand: Operand,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Operand {
    Event,
    Branch,
    Tag,
    Path,
    Field(String),
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    Equals(Value),
    Differs(Value),
    In(Vec<Value>),
    NotIn(Vec<Value>),
    Matches(String),
    NotMatches(String),
    Exists,
    Missing,
}

impl Condition {
    /// Parses a condition.
    ///
    /// # Errors
    /// Says what was expected, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_CONDITION {
            return Err(format!("a condition has at most {MAX_CONDITION} bytes"));
        }
        let mut rest = Words { text, at: 0 };
        let mut terms = vec![term(&mut rest)?];
        while let Some(word) = rest.next()? {
            if word != "or" {
                return Err(format!(
                    "expected `or` or the end instead of {word:?}; use one condition per line for `and`"
                ));
            }
            terms.push(term(&mut rest)?);
        }
        Ok(Self { text: text.trim().to_owned(), terms })
    }

    /// The text as configured.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it looks at the changed files.
    pub(crate) fn needs_paths(&self) -> bool {
        self.terms.iter().any(|term| term.operand == Operand::Path)
    }

    /// Whether it looks at fields alone, so that it can be asked of any JSON.
    pub(crate) fn only_fields(&self) -> bool {
        self.terms.iter().all(|term| matches!(term.operand, Operand::Field(_)))
    }

    /// Whether it holds for the fields of a value.
    pub(crate) fn holds_for(&self, value: &Value) -> bool {
        self.terms.iter().any(|term| match &term.operand {
            Operand::Field(pointer) => term.test.one(value.pointer(pointer)),
            Operand::Event | Operand::Branch | Operand::Tag | Operand::Path => false,
        })
    }

    /// Whether it holds.
    ///
    /// # Errors
    /// Why it does not, in words for the sender.
    pub fn check(&self, facts: &Facts<'_>) -> Result<(), String> {
        if self.terms.iter().any(|term| term.holds(facts)) {
            return Ok(());
        }
        let mut reason = format!("this does not hold: {}", self.text);
        let uses = |operand: Operand| self.terms.iter().any(|term| term.operand == operand);
        let first = |words: &[&str]| short(words.first().unwrap_or(&"none"));
        if uses(Operand::Event) {
            let events = facts.events();
            reason.push_str(&format!(" (event: {})", first(&[events.first().map_or("none", |event| event)])));
        }
        if uses(Operand::Branch) {
            reason.push_str(&format!(" (branch: {})", first(&facts.branches())));
        }
        if uses(Operand::Tag) {
            reason.push_str(&format!(" (tag: {})", first(&facts.tags())));
        }
        if uses(Operand::Path) {
            reason.push_str(&format!(" (changed files: {})", facts.paths().names.len()));
        }
        Err(reason)
    }
}

impl Term {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        let borrowed = |words: Vec<&str>| -> bool { self.test.any(words.iter().copied()) };
        match &self.operand {
            Operand::Event => self.test.any(facts.events().iter().map(Cow::as_ref)),
            Operand::Branch => borrowed(facts.branches()),
            Operand::Tag => borrowed(facts.tags()),
            Operand::Path => {
                let paths = facts.paths();
                !paths.complete || borrowed(paths.names)
            }
            Operand::Field(pointer) => self.test.one(facts.body.pointer(pointer)),
        }
    }
}

impl Test {
    /// Whether it holds for a field.
    fn one(&self, value: Option<&Value>) -> bool {
        match self {
            Self::Equals(want) => value == Some(want),
            Self::Differs(want) => value != Some(want),
            Self::In(list) => value.is_some_and(|value| list.contains(value)),
            Self::NotIn(list) => !value.is_some_and(|value| list.contains(value)),
            Self::NotMatches(pattern) => {
                !value.and_then(Value::as_str).is_some_and(|text| matches_glob(pattern, text))
            }
            Self::Matches(pattern) => {
                value.and_then(Value::as_str).is_some_and(|text| matches_glob(pattern, text))
            }
            Self::Exists => value.is_some(),
            Self::Missing => value.is_none(),
        }
    }

    /// Whether it holds for words of which there may be none or several.
    fn any<'a>(&self, mut words: impl Iterator<Item = &'a str>) -> bool {
        match self {
            Self::Equals(want) => words.any(|word| want == word),
            Self::Differs(want) => !words.any(|word| want == word),
            Self::In(list) => words.any(|word| list.iter().any(|want| want == word)),
            Self::NotIn(list) => !words.any(|word| list.iter().any(|want| want == word)),
            Self::NotMatches(pattern) => !words.any(|word| matches_glob(pattern, word)),
            Self::Matches(pattern) => words.any(|word| matches_glob(pattern, word)),
            Self::Exists => words.next().is_some(),
            Self::Missing => words.next().is_none(),
        }
    }
}

fn term(words: &mut Words<'_>) -> Result<Term, String> {
    let operand = match words.next()? {
        Some("event") => Operand::Event,
        Some("branch") => Operand::Branch,
        Some("tag") => Operand::Tag,
        Some("path") => Operand::Path,
        Some(pointer) if pointer.starts_with('/') => Operand::Field(check_pointer(pointer)?.to_owned()),
        other => return Err(expected("event, branch, tag, path or a JSON pointer such as /ref", other)),
    };
    let test = match words.next()? {
        Some("==") => Test::Equals(value(words.next()?)?),
        Some("!=") => Test::Differs(value(words.next()?)?),
        Some("matches") => Test::Matches(pattern(words)?),
        Some("not") => match words.next()? {
            Some("in") => Test::NotIn(list(words)?),
            Some("matches") => Test::NotMatches(pattern(words)?),
            other => return Err(expected("`in` or `matches` after `not`", other)),
        },
        Some("exists") => Test::Exists,
        Some("missing") => Test::Missing,
        Some("in") => Test::In(list(words)?),
        other => return Err(expected("==, !=, in, matches, not in, not matches, exists or missing", other)),
    };
    Ok(Term { operand, test })
}

fn pattern(words: &mut Words<'_>) -> Result<String, String> {
    match value(words.next()?)? {
        Value::String(pattern) => Ok(pattern),
        _ => Err("`matches` takes a pattern such as release/*".to_owned()),
    }
}

fn list(words: &mut Words<'_>) -> Result<Vec<Value>, String> {
    if words.next()? != Some("[") {
        return Err("`in` takes a list: in [main, develop]".to_owned());
    }
    let mut items = Vec::new();
    loop {
        items.push(value(words.next()?)?);
        match words.next()? {
            Some(",") => {}
            Some("]") => return Ok(items),
            other => return Err(expected("`,` or `]`", other)),
        }
    }
}

fn value(word: Option<&str>) -> Result<Value, String> {
    match word {
        None | Some("[" | "]" | ",") => Err(expected("a value", word)),
        Some(word) if word.starts_with('"') => {
            serde_json::from_str(word).map_err(|_| format!("{word} is no JSON string"))
        }
        Some(word) => Ok(serde_json::from_str(word).unwrap_or_else(|_| Value::String(word.to_owned()))),
    }
}

fn expected(what: &str, got: Option<&str>) -> String {
    got.map_or_else(
        || format!("expected {what} at the end"),
        |got| format!("expected {what} instead of {got:?}"),
    )
}

/// Checks the form of a JSON pointer that is not empty.
pub(crate) fn check_pointer(pointer: &str) -> Result<&str, String> {
    let bad_tilde = pointer.split('~').skip(1).any(|part| !part.starts_with(['0', '1']));
    if !pointer.starts_with('/') || bad_tilde {
        return Err(format!(
            "{pointer:?} is no JSON pointer: it begins with / and writes ~ as ~0 and / in a key as ~1"
        ));
    }
    Ok(pointer)
}

struct Words<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Result<Option<&'a str>, String> {
        let rest = &self.text[self.at..];
        let trimmed = rest.trim_start();
        let start = self.at + rest.len() - trimmed.len();
        let length = match trimmed.chars().next() {
            None => return Ok(None),
            Some('[' | ']' | ',') => 1,
            Some('"') => quoted(trimmed).ok_or("a string does not end: a \" is missing")?,
            Some(_) => {
                trimmed.find(|c: char| c.is_whitespace() || "[],\"".contains(c)).unwrap_or(trimmed.len())
            }
        };
        self.at = start + length;
        Ok(Some(&self.text[start..self.at]))
    }
}

/// Length of the quoted string that a text begins with.
fn quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (index, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return Some(index + 1),
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::provider::Provider;

    #[test]
    fn conditions_hold_or_not() {
        let body =
            json!({"ref": "refs/heads/release/2", "n": 3, "ok": true, "none": null, "a b": "x y", "s": "3"});
        let facts = Facts { provider: Provider::Github, event: Some("push"), body: &body };
        for (text, want) in [
            ("event == push", true),
            ("event == \"push\"", true),
            ("event != push", false),
            ("event in [ping, push]", true),
            ("event in [ping,pull_request]", false),
            ("branch == release/2", true),
            ("branch matches release/*", true),
            ("branch matches main", false),
            ("tag missing", true),
            ("tag == v1", false),
            ("/ref == \"refs/heads/release/2\"", true),
            ("/n == 3", true),
            ("/n == \"3\"", false),
            ("/s == 3", false),
            ("/s == \"3\"", true),
            ("/ok == true", true),
            ("/none == null", true),
            ("/none exists", true),
            ("/gone exists", false),
            ("/gone != x", true),
            ("/gone == null", false),
            ("/a b == x", false),
            ("/n matches 3", false),
            ("event == ping or /n == 3", true),
            ("event == ping or /n == 4", false),
            ("/ref in [\"a,b\", \"refs/heads/release/2\"]", true),
        ] {
            match Condition::parse(text) {
                Ok(condition) => assert_eq!(condition.check(&facts).is_ok(), want, "{text}"),
                Err(error) => assert!(!want, "{text}: {error}"),
            }
        }
    }

    #[test]
    fn the_reason_names_event_and_branch_but_no_field() {
        let body = json!({"ref": "refs/heads/x", "token": "hunter2"});
        let facts = Facts { provider: Provider::Github, event: None, body: &body };
        let reason = |text: &str| Condition::parse(text).unwrap().check(&facts).unwrap_err();
        assert_eq!(reason("branch == main"), "this does not hold: branch == main (branch: x)");
        assert_eq!(reason("event == push"), "this does not hold: event == push (event: none)");
        assert_eq!(reason("/token == a"), "this does not hold: /token == a");
    }

    #[test]
    fn not_is_the_opposite_and_holds_where_there_is_nothing() {
        let body = json!({ "ref": "refs/heads/main", "site": "shop.test" });
        let facts = |body| Facts { provider: crate::provider::Provider::Github, event: Some("push"), body };
        for (text, want) in [
            ("branch not in [main, develop]", false),
            ("branch not in [develop]", true),
            ("branch not matches ma*", false),
            ("branch not matches rel*", true),
            ("tag not in [v1]", true),
            ("/site not in [shop.test]", false),
            ("/site not matches *.example", true),
            ("/missing not in [x]", true),
            ("/missing not matches *", true),
        ] {
            assert_eq!(Condition::parse(text).unwrap().check(&facts(&body)).is_ok(), want, "{text}");
        }
        let policy = Condition::parse("/site not matches *.test").unwrap();
        assert!(policy.only_fields() && !policy.holds_for(&body) && policy.holds_for(&json!({})));
    }

    #[test]
    fn mistakes_are_explained() {
        for (text, want) in [
            ("", "expected event, branch, tag, path or a JSON pointer such as /ref at the end"),
            ("Event == push", "instead of \"Event\""),
            (
                "event = push",
                "expected ==, !=, in, matches, not in, not matches, exists or missing instead of \"=\"",
            ),
            ("event ==", "expected a value at the end"),
            ("event == push and branch == x", "one condition per line"),
            ("event in push", "`in` takes a list"),
            ("event in [a b]", "expected `,` or `]` instead of \"b\""),
            ("event in [a", "expected `,` or `]` at the end"),
            ("event == \"push", "a string does not end"),
            ("/a~2 == 1", "is no JSON pointer"),
            ("branch matches 3", "takes a pattern"),
            ("branch not main", "expected `in` or `matches` after `not` instead of \"main\""),
            ("branch not in main", "takes a list"),
        ] {
            let error = Condition::parse(text).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
        assert!(Condition::parse(&format!("event == {}", "x".repeat(500))).is_err());
    }
}
