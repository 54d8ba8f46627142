//! JSON from strangers: no doubled keys, a bound on the depth, and errors that say where. Never shows a value.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use thiserror::Error;

/// Deepest nesting of arrays and objects: far above any forge's payload, far below what a stack bears.
pub const MAX_DEPTH: usize = 64;

/// Why bytes are not JSON that we take.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum JsonError {
    /// Not JSON at all.
    #[error("this is not JSON: line {line}, column {column}: {what}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What was expected.
        what: String,
    },
    /// Deeper than [`MAX_DEPTH`].
    #[error("arrays and objects are nested more than {MAX_DEPTH} levels deep")]
    TooDeep,
    /// A key is there twice: readers would not agree on which one counts.
    #[error("a key is there twice: {0}")]
    Doubled(String),
}

/// Parses a whole text.
///
/// # Errors
/// [`JsonError`]; its texts hold no values.
pub fn parse(bytes: &[u8]) -> Result<Value, JsonError> {
    let fault = RefCell::new(None);
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Seed { depth: 0, fault: &fault }.deserialize(&mut reader).and_then(|value| {
        reader.end()?;
        Ok(value)
    });
    value.map_err(|error| fault.into_inner().unwrap_or_else(|| syntax(&error)))
}

fn syntax(error: &serde_json::Error) -> JsonError {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or("malformed").to_owned();
    JsonError::Syntax { line: error.line(), column: error.column(), what }
}

/// One token of a JSON pointer, escaped.
pub(crate) fn token(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

struct Seed<'a> {
    depth: usize,
    fault: &'a RefCell<Option<JsonError>>,
}

impl Seed<'_> {
    fn deeper<E: serde::de::Error>(&self) -> Result<Seed<'_>, E> {
        if self.depth >= MAX_DEPTH {
            *self.fault.borrow_mut() = Some(JsonError::TooDeep);
            return Err(E::custom("too deep"));
        }
        Ok(Seed { depth: self.depth + 1, fault: self.fault })
    }

    /// On the way out of an error, puts the place in front of a doubled key's pointer.
    fn within<E>(&self, place: &str, error: E) -> E {
        if let Some(JsonError::Doubled(pointer)) = self.fault.borrow_mut().as_mut() {
            *pointer = format!("/{}{pointer}", token(place));
        }
        error
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let next = seq.next_element_seed(self.deeper()?);
            match next.map_err(|error| self.within(&items.len().to_string(), error))? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if object.contains_key(&key) {
                let shown: String = key.chars().take(80).collect();
                *self.fault.borrow_mut() = Some(JsonError::Doubled(format!("/{}", token(&shown))));
                return Err(A::Error::custom("doubled key"));
            }
            let value = map.next_value_seed(self.deeper()?).map_err(|error| self.within(&key, error))?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_of_value_comes_through() {
        let text = r#" {"a":[1,-2,3.5,true,false,null,"é\n"],"b":{"c":{}},"big":18446744073709551615} "#;
        let want =
            json!({"a":[1,-2,3.5,true,false,null,"é\n"],"b":{"c":{}},"big":18_446_744_073_709_551_615_u64});
        assert_eq!(parse(text.as_bytes()), Ok(want));
    }

    #[test]
    fn a_doubled_key_is_named_by_its_pointer() {
        let doubled = |pointer: &str| Err(JsonError::Doubled(pointer.to_owned()));
        assert_eq!(parse(br#"{"a":1,"a":1}"#), doubled("/a"));
        assert_eq!(parse(br#"{"x/y":[{}, {"z~":{"a":1,"b":2,"a":3}}]}"#), doubled("/x~1y/1/z~0/a"));
        assert_eq!(parse(br#"{"a":1,"\u0061":2}"#), doubled("/a"), "the same key, written otherwise");
    }

    #[test]
    fn depth_is_bounded_at_64() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(parse(nested(64).as_bytes()).is_ok());
        assert_eq!(parse(nested(65).as_bytes()), Err(JsonError::TooDeep));
        assert_eq!(parse("[".repeat(500_000).as_bytes()), Err(JsonError::TooDeep));
        assert_eq!(parse(r#"{"a":"#.repeat(100_000).as_bytes()), Err(JsonError::TooDeep));
    }

    #[test]
    fn truncated_and_malformed_texts_say_where_and_not_what() {
        for text in
            ["", "{", r#"{"secret":"hunter2"#, "[1,]", "{} {}", "nul", "\u{feff}{}", "1e999", "NaN", "'a'"]
        {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(matches!(error, JsonError::Syntax { .. }), "{text:?}: {error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        assert!(matches!(parse(b"\"\xff\xfe\""), Err(JsonError::Syntax { .. })));
        let at = parse(b"{\n  \"a\": }").unwrap_err();
        assert_eq!(at.to_string(), "this is not JSON: line 2, column 8: expected value");
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_value_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(value) = parse(&bytes) {
                prop_assert_eq!(Some(value), serde_json::from_slice::<Value>(&bytes).ok());
            }
        }
    }
}
