//! The document against the route table and against real answers.

use std::collections::{BTreeSet, HashMap};
use std::sync::{LazyLock, Mutex, PoisonError};

use bytes::Bytes;
use http::{Method, Response};
use jsonschema::Validator;
use kedge_engine::service::Tasks as _;
use serde_json::{Value, json};

use super::*;
use crate::body::Body;
use crate::route::{Routed, route};
use crate::testing::FakeTasks;

fn sample() -> Value {
    document(&FakeTasks::new().workflows(), None)
}

/// A path with values in place of its parameters.
fn filled(path: &str) -> String {
    let value = |segment: &str| match segment {
        "{id}" => "task_0193f1c20000700080000000000000aa".to_owned(),
        "{delivery}" => format!("msg_{}", "0".repeat(32)),
        "{platform}" => "slack".to_owned(),
        segment if segment.starts_with('{') => "x".to_owned(),
        segment => segment.to_owned(),
    };
    path.split('/').map(value).collect::<Vec<_>>().join("/")
}

#[test]
fn every_route_is_in_the_document_and_nothing_else() {
    for operation in OPERATIONS {
        let method: Method = operation.method.parse().unwrap();
        match route(&method, &filled(operation.path)) {
            Routed::Found(route) => {
                assert_eq!(route.name(), operation.id, "{} {}", operation.method, operation.path)
            }
            other => panic!("{} {}: {other:?}", operation.method, operation.path),
        }
    }
    // The names of all routes, from the one match that has to list them.
    let source = include_str!("../route.rs");
    let names = source.split("fn name(&self)").nth(1).unwrap().split("\n    }\n").next().unwrap();
    let names: BTreeSet<&str> =
        names.lines().filter_map(|line| line.split("=> \"").nth(1)?.split('"').next()).collect();
    let documented: BTreeSet<&str> = OPERATIONS.iter().map(|operation| operation.id).collect();
    assert!(names.len() > 20, "{names:?}");
    assert_eq!(names, documented);
}

#[test]
fn every_reference_leads_somewhere_and_everything_is_referred_to() {
    let document = sample();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    for reference in &found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    for kind in ["schemas", "parameters", "headers", "responses"] {
        for name in document["components"][kind].as_object().unwrap().keys() {
            assert!(found.contains(&format!("#/components/{kind}/{name}")), "{kind}/{name} is not used");
        }
    }
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(target)) = map.get("$ref") {
                found.insert(target.clone());
            }
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn a_workflows_own_definitions_are_turned_to_where_they_are() {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
        "properties": { "site": { "$ref": "#/$defs/Site" } }, "$defs": { "Site": { "type": "string", "not": { "$ref": "#/$defs/Site" } } },
    });
    let workflow = WorkflowInfo {
        name: "w".to_owned(),
        title: "W".to_owned(),
        schema,
        example: json!({ "site": "a.test" }),
    };
    let document = document(&[workflow], Some("https://kedge.test"));
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["params.w"]["properties"]["site"]["$ref"], "#/components/schemas/params.w.Site");
    assert_eq!(schemas["params.w.Site"]["not"]["$ref"], "#/components/schemas/params.w.Site");
    assert_eq!(schemas["params.w"].get("$defs"), None);
    assert_eq!(document["servers"][0]["url"], "https://kedge.test");
}

/// Checks an answer of the server against what the document says of its route: status, content type, schema. Objects are closed, so
/// that what is answered but not documented is found. Every answer in every test of this crate comes through here.
pub(crate) fn conforms(route: &str, method: &Method, response: &Response<Body>) {
    let Some(operation) = OPERATIONS.iter().find(|operation| operation.id == route) else { return };
    if *method == Method::OPTIONS {
        return;
    }
    let body = match response.body() {
        Body::Full(bytes) => bytes.clone().unwrap_or_default(),
        Body::Stream(_) => Bytes::new(),
    };
    let kind = response.headers().get("content-type").map_or("", |kind| kind.to_str().unwrap());
    let kind = kind.split(';').next().unwrap_or_default();
    let status = response.status().as_u16();
    let key = (operation.id, status, kind.to_owned());
    let mut known = VALIDATORS.lock().unwrap_or_else(PoisonError::into_inner);
    let validator = known.entry(key).or_insert_with(|| validator(operation, status, kind));
    if let Some(validator) = validator {
        let body: Value = serde_json::from_slice(&body).unwrap();
        let errors: Vec<String> =
            validator.iter_errors(&body).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(errors.is_empty(), "{route} {status}: {errors:?}\n{body}");
    }
}

type Known = HashMap<(&'static str, u16, String), Option<Validator>>;
static VALIDATORS: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);
static SAMPLE: LazyLock<Value> = LazyLock::new(sample);

/// The validator of an answer in JSON; `None` for other content, which is documented all the same.
fn validator(operation: &Operation, status: u16, kind: &str) -> Option<Validator> {
    let (method, path) = (operation.method, operation.path);
    let answer = &SAMPLE["paths"][path][method.to_lowercase()]["responses"][status.to_string()];
    let answer = match answer["$ref"].as_str() {
        Some(target) => SAMPLE.pointer(&target[1..]).unwrap(),
        None => answer,
    };
    assert!(answer.is_object(), "{method} {path}: {status} is not documented");
    let Some(content) = answer["content"].as_object() else {
        assert_eq!(kind, "", "{method} {path}: {status} has a body");
        return None;
    };
    let schema = &content
        .get(kind)
        .unwrap_or_else(|| panic!("{method} {path}: {status} as {kind:?} is not documented"))["schema"];
    if !kind.ends_with("json") || kind.ends_with("ndjson") {
        return None;
    }
    let mut whole = json!({ "allOf": [schema], "components": SAMPLE["components"] });
    close(&mut whole);
    Some(jsonschema::draft202012::options().should_validate_formats(true).build(&whole).unwrap())
}

/// Closes every object that names its properties and does not say that it is open.
fn close(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.get("type") == Some(&json!("object"))
                && map.contains_key("properties")
                && !map.contains_key("additionalProperties")
            {
                map.insert("additionalProperties".to_owned(), json!(false));
            }
            map.values_mut().for_each(close);
        }
        Value::Array(list) => list.iter_mut().for_each(close),
        _ => {}
    }
}
