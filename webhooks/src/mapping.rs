//! From a hook's body to a task's parameters: JSON pointers in braces. Parsed when the configuration is loaded; runs no code.
//!
//! `"{/site}"` alone is the value at that pointer with its type; with text around it, it is put into the text. `?` before the
//! closing brace makes it optional: the parameter is left out (or nothing put into the text) when there is nothing or null.
//! `{{` and `}}` stand for braces. Numbers, true and false in the configuration are constants.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::config::Mistake;
use crate::filter::check_pointer;
use crate::json;
use crate::problem::Fault;

/// A parsed mapping.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapping(Node);

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Constant(Value),
    Whole(Hole),
    Text(Vec<Part>),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Hole(Hole),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Hole {
    pointer: String,
    optional: bool,
}

impl Mapping {
    /// Parses a mapping as the configuration holds it. `field` is its name there.
    pub(crate) fn parse(value: &Value, field: &str, mistakes: &mut Vec<Mistake>) -> Self {
        Self(Node::parse(value, field, mistakes))
    }

    /// Whether nothing of it comes from the body.
    pub(crate) fn constant(&self) -> Option<&Value> {
        if let Node::Constant(value) = &self.0 { Some(value) } else { None }
    }

    /// Makes the value that a body asks for; `None` when it is optional and not there.
    ///
    /// # Errors
    /// What the body lacks, with pointers into it.
    pub fn apply(&self, body: &Value) -> Result<Option<Value>, Vec<Fault>> {
        let mut faults = Vec::new();
        let value = self.0.apply(body, "", &mut faults);
        if faults.is_empty() { Ok(value) } else { Err(faults) }
    }

    /// Where in the body a part of the result came from, if it was taken over whole.
    #[must_use]
    pub fn source(&self, pointer: &str) -> Option<String> {
        let mut node = &self.0;
        let mut rest = pointer;
        loop {
            match node {
                Node::Whole(hole) => return Some(format!("{}{rest}", hole.pointer)),
                Node::Object(entries) => {
                    let (key, after) = head(rest)?;
                    node = entries.iter().find(|(name, _)| json::token(name) == key).map(|(_, node)| node)?;
                    rest = after;
                }
                Node::List(nodes) => {
                    let (index, after) = head(rest)?;
                    node = nodes.get(index.parse::<usize>().ok()?)?;
                    rest = after;
                }
                Node::Constant(_) | Node::Text(_) => return None,
            }
        }
    }
}

fn head(pointer: &str) -> Option<(&str, &str)> {
    let rest = pointer.strip_prefix('/')?;
    let end = rest.find('/').unwrap_or(rest.len());
    Some((&rest[..end], &rest[end..]))
}

impl Node {
    fn parse(value: &Value, field: &str, mistakes: &mut Vec<Mistake>) -> Self {
        match value {
            Value::String(text) => match parts(text) {
                Ok(mut parts) => match (parts.pop(), parts.is_empty()) {
                    (None, _) => Self::Constant(Value::String(String::new())),
                    (Some(Part::Literal(text)), true) => Self::Constant(Value::String(text)),
                    (Some(Part::Hole(hole)), true) => Self::Whole(hole),
                    (Some(last), false) => Self::Text(parts.into_iter().chain([last]).collect()),
                },
                Err(detail) => {
                    mistakes.push(Mistake::new(field, detail));
                    Self::Constant(Value::Null)
                }
            },
            Value::Array(items) => Self::List(
                items
                    .iter()
                    .enumerate()
                    .map(|(i, v)| Self::parse(v, &format!("{field}[{i}]"), mistakes))
                    .collect(),
            ),
            Value::Object(map) => Self::Object(
                map.iter()
                    .map(|(k, v)| (k.clone(), Self::parse(v, &format!("{field}.{k}"), mistakes)))
                    .collect(),
            ),
            Value::Null | Value::Bool(_) | Value::Number(_) => Self::Constant(value.clone()),
        }
    }

    fn apply(&self, body: &Value, place: &str, faults: &mut Vec<Fault>) -> Option<Value> {
        match self {
            Self::Constant(value) => Some(value.clone()),
            Self::Whole(hole) => {
                let value = hole.find(body);
                if value.is_none() && !hole.optional {
                    faults.push(hole.missing(place));
                }
                value.cloned()
            }
            Self::Text(parts) => Some(Value::String(text(parts, body, place, faults))),
            Self::List(nodes) => {
                let item = |(i, node): (usize, &Self)| node.apply(body, &format!("{place}/{i}"), faults);
                Some(Value::Array(nodes.iter().enumerate().filter_map(item).collect()))
            }
            Self::Object(entries) => {
                let mut map = Map::new();
                for (key, node) in entries {
                    if let Some(value) = node.apply(body, &format!("{place}/{}", json::token(key)), faults) {
                        map.insert(key.clone(), value);
                    }
                }
                Some(Value::Object(map))
            }
        }
    }
}

impl Hole {
    /// The value; null counts as missing where it may be missing.
    fn find<'a>(&self, body: &'a Value) -> Option<&'a Value> {
        body.pointer(&self.pointer).filter(|value| !(self.optional && value.is_null()))
    }

    fn missing(&self, place: &str) -> Fault {
        Fault::new(self.pointer.clone(), format!("is missing; the hook makes {} of it", named(place)))
    }
}

fn named(place: &str) -> String {
    if place.is_empty() { "the parameters".to_owned() } else { format!("the parameter {}", &place[1..]) }
}

fn text(parts: &[Part], body: &Value, place: &str, faults: &mut Vec<Fault>) -> String {
    let mut text = String::new();
    for part in parts {
        match part {
            Part::Literal(literal) => text.push_str(literal),
            Part::Hole(hole) => match hole.find(body) {
                Some(Value::String(value)) => text.push_str(value),
                Some(value @ (Value::Number(_) | Value::Bool(_))) => {
                    // Writing into a String does not fail.
                    let _ = write!(text, "{value}");
                }
                Some(Value::Null | Value::Array(_) | Value::Object(_)) => {
                    let detail =
                        format!("has to be text, a number, true or false to be put into {}", named(place));
                    faults.push(Fault::new(hole.pointer.clone(), detail));
                }
                None if hole.optional => {}
                None => faults.push(hole.missing(place)),
            },
        }
    }
    text
}

fn parts(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        literal.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            literal.push_str(brace);
            rest = after;
        } else if brace == "{" {
            let end = rest.find('}').ok_or("a { has no }; write {{ for a brace")?;
            let inner = &rest[..end];
            let pointer = inner.strip_suffix('?').unwrap_or(inner);
            let hole =
                Hole { pointer: check_pointer(pointer)?.to_owned(), optional: pointer.len() < inner.len() };
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(Part::Hole(hole));
            rest = &rest[end + 1..];
        } else {
            return Err("a } has no {; write }} for a brace".to_owned());
        }
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mapping(value: &Value) -> Mapping {
        let mut mistakes = Vec::new();
        let mapping = Mapping::parse(value, "params", &mut mistakes);
        assert_eq!(mistakes, []);
        mapping
    }

    #[test]
    fn values_keep_their_type_alone_and_become_text_within_text() {
        let body = json!({"site": "a.test", "n": 7, "list": [1, {"x": true}], "null": null});
        for (template, want) in [
            (json!("{/site}"), json!("a.test")),
            (json!("{/n}"), json!(7)),
            (json!("{/list}"), json!([1, {"x": true}])),
            (json!("{/null}"), json!(null)),
            (json!("www.{/site}"), json!("www.a.test")),
            (json!("{/n}{/n}"), json!("77")),
            (json!("v{/n}-{/list/1/x}"), json!("v7-true")),
            (json!("{{{/n}}}"), json!("{7}")),
            (json!("no holes"), json!("no holes")),
            (json!(""), json!("")),
            (json!(true), json!(true)),
            (
                json!({"a": "{/n}", "b": ["{/site}", 1, "{/gone?}"], "c": "{/gone?}", "d": "x{/gone?}"}),
                json!({"a": 7, "b": ["a.test", 1], "d": "x"}),
            ),
        ] {
            assert_eq!(mapping(&template).apply(&body), Ok(Some(want)), "{template}");
        }
        assert_eq!(mapping(&json!("{/null?}")).apply(&body), Ok(None));
    }

    #[test]
    fn what_the_body_lacks_is_said_with_its_pointer_and_all_at_once() {
        let template = mapping(&json!({"site": "{/s}", "alias": "www.{/list}", "deep": {"x": "a{/t}"}}));
        let faults = template.apply(&json!({"list": []})).unwrap_err();
        let want = [
            Fault::new("/list", "has to be text, a number, true or false to be put into the parameter alias"),
            Fault::new("/t", "is missing; the hook makes the parameter deep/x of it"),
            Fault::new("/s", "is missing; the hook makes the parameter site of it"),
        ];
        assert_eq!(faults, want);
    }

    #[test]
    fn a_parameter_is_traced_back_to_the_body() {
        let template = mapping(&json!({"site": "{/repo/site}", "x": ["a", "{/y}"], "t": "a{/z}"}));
        assert_eq!(template.source("/site").as_deref(), Some("/repo/site"));
        assert_eq!(template.source("/site/0/b").as_deref(), Some("/repo/site/0/b"));
        assert_eq!(template.source("/x/1").as_deref(), Some("/y"));
        for pointer in ["", "/t", "/x", "/x/0", "/x/7", "/gone"] {
            assert_eq!(template.source(pointer), None, "{pointer}");
        }
        assert_eq!(mapping(&json!("{/params}")).source("/site").as_deref(), Some("/params/site"));
    }

    #[test]
    fn mistakes_are_reported_with_their_place() {
        let mut mistakes = Vec::new();
        Mapping::parse(&json!({"a": "{site}", "b": ["{/x", "}"], "c": "{/a~}"}), "params", &mut mistakes);
        let fields: Vec<&str> = mistakes.iter().map(|m| m.field.as_str()).collect();
        assert_eq!(fields, ["params.a", "params.b[0]", "params.b[1]", "params.c"]);
        assert!(mistakes[0].detail.contains("is no JSON pointer"), "{}", mistakes[0]);
    }
}
