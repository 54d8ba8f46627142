//! Takes a JSON object apart, field by field, and collects everything that is wrong with it. It knows no task.

use serde_json::{Map, Value};

use crate::json;
use crate::problem::Fault;

/// The fields of an object that are not taken yet.
pub(crate) struct Fields {
    map: Map<String, Value>,
    known: Vec<&'static str>,
    faults: Vec<Fault>,
}

impl Fields {
    pub(crate) fn new(value: Value) -> Self {
        let mut fields = Self { map: Map::new(), known: Vec::new(), faults: Vec::new() };
        match value {
            Value::Object(map) => fields.map = map,
            other => fields.faults.push(Fault::new("", format!("has to be an object, not {}", kind(&other)))),
        }
        fields
    }

    /// Takes a field of any kind; null counts as absent.
    pub(crate) fn any(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// Takes a text of 1 to `max` characters without control characters.
    pub(crate) fn text(&mut self, name: &'static str, max: usize) -> Option<String> {
        match self.any(name)? {
            Value::String(text) => {
                if text.is_empty() || text.chars().count() > max || text.chars().any(char::is_control) {
                    self.fault(name, format!("has 1 to {max} characters and no control characters"));
                }
                Some(text)
            }
            other => {
                self.fault(name, format!("has to be text, not {}", kind(&other)));
                None
            }
        }
    }

    /// Takes a whole number of at most `max`.
    pub(crate) fn whole(&mut self, name: &'static str, max: u64) -> Option<u64> {
        let value = self.any(name)?;
        // JSON knows one kind of number: 5.0 is whole.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be whole and small"
        )]
        let number = match value.as_u64() {
            Some(number) => Some(number),
            None => value.as_f64().filter(|n| n.fract() == 0.0 && (0.0..1e15).contains(n)).map(|n| n as u64),
        };
        let number = number.filter(|number| *number <= max);
        if number.is_none() {
            self.fault(name, format!("is a whole number from 0 to {max}"));
        }
        number
    }

    /// Takes a list of at most `count` texts as [`Fields::text`] takes one.
    pub(crate) fn texts(&mut self, name: &'static str, count: usize, max: usize) -> Option<Vec<String>> {
        let list = match self.any(name)? {
            Value::Array(list) if list.len() <= count => list,
            Value::Array(_) => {
                self.fault(name, format!("has at most {count} entries"));
                return None;
            }
            other => {
                self.fault(name, format!("has to be a list, not {}", kind(&other)));
                return None;
            }
        };
        let fits = |text: &str| {
            !text.is_empty() && text.chars().count() <= max && !text.chars().any(char::is_control)
        };
        let texts: Vec<String> = list
            .iter()
            .filter_map(|entry| entry.as_str().filter(|text| fits(text)).map(str::to_owned))
            .collect();
        if texts.len() < list.len() {
            self.fault(
                name,
                format!("is a list of texts of 1 to {max} characters without control characters"),
            );
            return None;
        }
        Some(texts)
    }

    /// Notes that something is wrong with a field.
    pub(crate) fn fault(&mut self, name: &str, detail: impl Into<String>) {
        self.faults.push(Fault::new(format!("/{}", json::token(name)), detail));
    }

    /// Notes that a field is missing, unless something is wrong with it already.
    pub(crate) fn require<T>(&mut self, name: &str, value: Option<&T>) {
        let pointer = format!("/{name}");
        let whole = |fault: &Fault| fault.pointer.is_empty() || fault.pointer == pointer;
        if value.is_none() && !self.faults.iter().any(whole) {
            self.fault(name, "is required");
        }
    }

    pub(crate) fn finish(mut self) -> Result<(), Vec<Fault>> {
        let unknown: Vec<String> = self.map.keys().map(|key| key.chars().take(80).collect()).collect();
        for name in unknown {
            let detail = format!("is not known here; there are: {}", self.known.join(", "));
            self.fault(&name, detail);
        }
        if self.faults.is_empty() { Ok(()) } else { Err(self.faults) }
    }
}

/// The kind of a value, in words.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn everything_wrong_is_collected() {
        let mut fields = Fields::new(json!({"a": 1, "b": "", "c": null, "zz/": 1, "ok": "fine"}));
        let a = fields.text("a", 10);
        fields.require("a", a.as_ref());
        fields.text("b", 10);
        let c = fields.text("c", 10);
        fields.require("c", c.as_ref());
        assert_eq!(fields.text("ok", 4).as_deref(), Some("fine"));
        let faults = fields.finish().unwrap_err();
        let want = [
            Fault::new("/a", "has to be text, not a number"),
            Fault::new("/b", "has 1 to 10 characters and no control characters"),
            Fault::new("/c", "is required"),
            Fault::new("/zz~1", "is not known here; there are: a, b, c, ok"),
        ];
        assert_eq!(faults, want);
    }

    #[test]
    fn something_else_than_an_object_is_said_once() {
        let mut fields = Fields::new(json!([1]));
        let a = fields.text("a", 10);
        fields.require("a", a.as_ref());
        assert_eq!(fields.finish().unwrap_err(), [Fault::new("", "has to be an object, not a list")]);
    }
}
