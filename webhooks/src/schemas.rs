//! The workflows' parameter schemas, compiled once, and their errors in words. Fetches nothing: a reference to elsewhere is a mistake.

use std::collections::BTreeMap;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{JsonType, PatternOptions, ValidationError, Validator};
use kedge_engine::service::WorkflowInfo;
use serde_json::Value;

use crate::config::Mistake;
use crate::json;
use crate::problem::{Fault, MAX_ERRORS};

/// The schemas of all workflows.
pub(crate) struct Schemas(BTreeMap<String, Entry>);

struct Entry {
    validator: Validator,
    /// The parameters, and what each has to be in the words of the type that it refers to.
    properties: BTreeMap<String, Option<String>>,
}

impl Schemas {
    pub(crate) fn new(workflows: &[WorkflowInfo]) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let mut entries = BTreeMap::new();
        for info in workflows {
            let options = jsonschema::draft202012::options()
                .should_validate_formats(true)
                .with_pattern_options(PatternOptions::regex())
                .offline();
            match options.build(&info.schema) {
                Ok(validator) => {
                    let named = info.schema["properties"].as_object().into_iter().flatten();
                    let told = named.map(|(name, property)| (name.clone(), meant(property, &info.schema)));
                    entries.insert(info.name.clone(), Entry { validator, properties: told.collect() });
                }
                Err(error) => {
                    let detail = format!("its parameter schema is not usable: {error}");
                    mistakes.push(Mistake::new(format!("workflow {}", info.name), detail));
                }
            }
        }
        if mistakes.is_empty() { Ok(Self(entries)) } else { Err(mistakes) }
    }

    pub(crate) fn knows(&self, workflow: &str) -> bool {
        self.0.contains_key(workflow)
    }

    pub(crate) fn list(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    pub(crate) fn names(&self) -> String {
        self.0.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    /// Checks parameters; the pointers go into them. An unknown workflow has nothing to check: the engine refuses it.
    pub(crate) fn check(&self, workflow: &str, params: &Value) -> Result<(), Vec<Fault>> {
        let Some(entry) = self.0.get(workflow) else { return Ok(()) };
        if entry.validator.is_valid(params) {
            return Ok(());
        }
        let errors = entry.validator.iter_errors(params).take(MAX_ERRORS);
        Err(errors.flat_map(|error| in_words(&error, &entry.properties)).collect())
    }
}

/// What a parameter has to be, if it refers to a type that says so: alone, as a choice beside nothing, or as the items of a list.
fn meant(property: &Value, schema: &Value) -> Option<String> {
    let ways = property["anyOf"].as_array().into_iter().flatten();
    let mut places = std::iter::once(property).chain(ways).chain([&property["items"]]);
    let type_name = places.find_map(|place| place["$ref"].as_str()?.strip_prefix("#/$defs/"))?;
    schema["$defs"][type_name]["description"].as_str().map(str::to_owned)
}

/// The values themselves are masked: they may be secret.
fn in_words(error: &ValidationError<'_>, properties: &BTreeMap<String, Option<String>>) -> Vec<Fault> {
    let place = error.instance_path().as_str().to_owned();
    let inside = |name: &str| format!("{place}/{}", json::token(&name.chars().take(80).collect::<String>()));
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            vec![Fault::new(inside(property.as_str().unwrap_or_default()), "is required")]
        }
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let mut detail = "is not known here".to_owned();
            if place.is_empty() {
                let names: Vec<&str> = properties.keys().map(String::as_str).collect();
                detail.push_str(&format!("; there are: {}", names.join(", ")));
            }
            unexpected.iter().take(MAX_ERRORS).map(|name| Fault::new(inside(name), detail.clone())).collect()
        }
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            let detail = match (lacking(context), described(&place, properties)) {
                (Some(names), _) => format!("needs one of these: {names}"),
                (None, Some(words)) => words,
                (None, None) => error.masked_with("this").to_string(),
            };
            vec![Fault::new(place, detail)]
        }
        ValidationErrorKind::Pattern { .. } => {
            let words =
                described(&place, properties).unwrap_or_else(|| error.masked_with("this").to_string());
            vec![Fault::new(place, words)]
        }
        ValidationErrorKind::Type { kind } => {
            vec![Fault::new(place, format!("has to be {}", types_in_words(kind)))]
        }
        _ => vec![Fault::new(place.clone(), error.masked_with("this").to_string())],
    }
}

/// What is expected at a place in the parameters, where its type says so.
fn described(place: &str, properties: &BTreeMap<String, Option<String>>) -> Option<String> {
    let name = place.strip_prefix('/')?.split('/').next()?;
    let words = properties.get(name)?.as_ref()?;
    Some(format!("does not fit: {words}"))
}

/// Nothing at all (`null`) is left out where something else may stand as well: nobody writes it.
fn types_in_words(kind: &TypeKind) -> String {
    let types: Vec<JsonType> = match kind {
        TypeKind::Single(one) => vec![*one],
        TypeKind::Multiple(many) => many.iter().collect(),
    };
    let several = types.len() > 1;
    let words = types.into_iter().filter(|one| !several || *one != JsonType::Null).map(|one| match one {
        JsonType::Null => "null",
        JsonType::Boolean => "true or false",
        JsonType::Integer => "a whole number",
        JsonType::Number => "a number",
        JsonType::String => "text",
        JsonType::Array => "a list",
        JsonType::Object => "an object",
    });
    words.collect::<Vec<_>>().join(" or ")
}

/// When every way out only lacks properties: their names.
fn lacking(ways: &[Vec<ValidationError<'static>>]) -> Option<String> {
    let mut names = Vec::new();
    for way in ways {
        let mut together = Vec::new();
        for error in way {
            let ValidationErrorKind::Required { property } = error.kind() else { return None };
            together.push(property.as_str()?.to_owned());
        }
        names.push(together.join(" with "));
    }
    Some(names.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn info(schema: Value) -> WorkflowInfo {
        WorkflowInfo { name: "w".to_owned(), title: String::new(), schema, example: json!({}) }
    }

    fn schema() -> Value {
        json!({
            "type": "object", "additionalProperties": false, "required": ["site"],
            "properties": {
                "site": {"type": "string", "format": "hostname", "maxLength": 253},
                "mode": {"enum": ["a", "b"]},
                "password": {"type": "string", "pattern": "^[a-z]+$"},
                "count": {"type": "integer", "minimum": 1},
                "x": {}, "y": {}
            },
            "anyOf": [{"required": ["x"]}, {"required": ["y"]}]
        })
    }

    #[test]
    fn errors_are_in_words_with_pointers_and_without_values() {
        let schemas = Schemas::new(&[info(schema())]).unwrap();
        assert_eq!(schemas.check("w", &json!({"site": "a.test", "x": 1})), Ok(()));
        let params =
            json!({"site": "not a host", "mode": "hunter2", "password": "Hunter3", "count": 0, "zz": 1});
        let mut faults = schemas.check("w", &params).unwrap_err();
        faults.sort_by(|a, b| a.pointer.cmp(&b.pointer));
        let want = [
            Fault::new("", "needs one of these: x, y"),
            Fault::new("/count", "this is less than the minimum of 1"),
            Fault::new("/mode", "this is not one of \"a\" or \"b\""),
            Fault::new("/password", "this does not match \"^[a-z]+$\""),
            Fault::new("/site", "this is not a \"hostname\""),
            Fault::new("/zz", "is not known here; there are: count, mode, password, site, x, y"),
        ];
        assert_eq!(faults, want);
        assert!(!format!("{faults:?}").to_lowercase().contains("hunter"));
        let missing = schemas.check("w", &json!({"x": 1})).unwrap_err();
        assert_eq!(missing, [Fault::new("/site", "is required")]);
        assert_eq!(schemas.check("w", &json!([])).unwrap_err()[0].pointer, "");
    }

    #[test]
    fn what_a_type_is_meant_to_be_is_told_in_its_own_words() {
        let reference = json!({"$ref": "#/$defs/Name"});
        let schemas = Schemas::new(&[info(json!({
            "type": "object",
            "properties": {"one": reference, "maybe": {"anyOf": [reference, {"type": "null"}]}, "many": {"type": "array", "items": reference}},
            "$defs": {"Name": {"type": "string", "pattern": "^[a-z]+$", "description": "A name of small letters"}}
        }))]);
        let faults =
            schemas.unwrap().check("w", &json!({"one": "1", "maybe": "2", "many": ["a", "3"]})).unwrap_err();
        let mut told: Vec<(&str, &str)> =
            faults.iter().map(|fault| (fault.pointer.as_str(), fault.detail.as_str())).collect();
        told.sort_unstable();
        let words = "does not fit: A name of small letters";
        assert_eq!(told, [("/many/1", words), ("/maybe", words), ("/one", words)]);
    }

    #[test]
    fn references_to_elsewhere_are_refused_when_loading() {
        for elsewhere in ["https://example.com/s.json", "file:///etc/passwd"] {
            let schemas = Schemas::new(&[info(json!({"$ref": elsewhere}))]);
            assert_eq!(schemas.err().unwrap()[0].field, "workflow w", "{elsewhere}");
        }
    }
}
