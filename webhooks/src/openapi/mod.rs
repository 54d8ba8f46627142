//! `GET /openapi.json`: the interface as OpenAPI 3.1, put together once at the start. The workflows' parameters are the very schemas that
//! validate requests; what is answered is held to `types.rs` by the tests. It serves nothing.

mod operation;
mod operations;
mod shared;
#[cfg(test)]
pub(crate) mod tests;
mod types;

use std::collections::BTreeMap;

use kedge_engine::service::WorkflowInfo;
use serde_json::{Map, Value, json};

use operation::{Auth, Operation, Part};
use operations::OPERATIONS;

/// The document. `server` is where others reach it, if that is configured.
pub(crate) fn document(workflows: &[WorkflowInfo], server: Option<&str>) -> Value {
    let mut schemas = types::schemas();
    for workflow in workflows {
        add_params(&mut schemas, workflow);
    }
    schemas.insert("NewTask".to_owned(), new_task(workflows));
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for operation in OPERATIONS {
        let item = paths.entry(operation.path).or_default();
        item.insert(operation.method.to_lowercase(), describe(operation));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Kedge",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Durable sagas for the risky operations of website hosting",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "servers": [{ "url": server.unwrap_or("/") }],
        "security": [{ "token": [] }],
        "tags": tags(),
        "paths": paths,
        "webhooks": { "task": callback() },
        "components": {
            "schemas": schemas,
            "parameters": shared::parameters(),
            "headers": shared::headers(),
            "responses": shared::responses(),
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "A token of the configuration or of /v1/tokens." },
            },
        },
    })
}

fn tags() -> Value {
    let mut names: Vec<&str> = OPERATIONS.iter().map(|operation| operation.tag).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(|name| json!({ "name": name })).collect()
}

/// A workflow's parameters as components of their own; references within them are turned to where they are now.
fn add_params(schemas: &mut Map<String, Value>, workflow: &WorkflowInfo) {
    let name = params_name(&workflow.name);
    let mut schema = workflow.schema.clone();
    let Value::Object(map) = &mut schema else { return };
    map.remove("$schema");
    let parts = map.remove("$defs");
    if let Some(Value::Object(parts)) = parts {
        for (part, mut value) in parts {
            turn(&mut value, &name);
            schemas.insert(format!("{name}.{part}"), value);
        }
    }
    turn(&mut schema, &name);
    schema["title"] = json!(workflow.title);
    schema["examples"] = json!([workflow.example]);
    schemas.insert(name, schema);
}

fn params_name(workflow: &str) -> String {
    format!("params.{workflow}")
}

fn turn(value: &mut Value, owner: &str) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(target)) = map.get_mut("$ref")
                && let Some(part) = target.strip_prefix("#/$defs/")
            {
                *target = format!("#/components/schemas/{owner}.{part}");
            }
            map.values_mut().for_each(|value| turn(value, owner));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| turn(value, owner)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A request for a task: one way for each workflow.
fn new_task(workflows: &[WorkflowInfo]) -> Value {
    let ways = workflows.iter().map(|workflow| {
        let mut properties = types::task_request();
        properties.insert("workflow".to_owned(), json!({ "type": "string", "const": workflow.name }));
        properties.insert(
            "params".to_owned(),
            json!({ "$ref": format!("#/components/schemas/{}", params_name(&workflow.name)) }),
        );
        json!({
            "type": "object", "title": workflow.title, "additionalProperties": false,
            "required": ["workflow", "params"], "properties": properties,
        })
    });
    json!({ "oneOf": ways.collect::<Vec<_>>() })
}

fn describe(operation: &Operation) -> Value {
    let mut value = json!({
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
    });
    let mut parameters: Vec<Value> = Vec::new();
    for segment in operation.path.split('/') {
        if let Some(name) = segment.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            parameters.push(json!({ "$ref": format!("#/components/parameters/path.{name}") }));
        }
    }
    for name in operation.parameters {
        parameters.push(json!({ "$ref": format!("#/components/parameters/{name}") }));
    }
    if !parameters.is_empty() {
        value["parameters"] = json!(parameters);
    }
    match operation.auth {
        Auth::Token => {}
        Auth::Nobody => value["security"] = json!([]),
        Auth::Signature => {
            value["security"] = json!([]);
            value["description"] = json!(
                "Signed as the hook's provider signs. The body and the headers are the provider's; what is not verified is answered 401, \
                 whether the hook exists or not."
            );
        }
    }
    if let Some((needed, kind, schema)) = operation.body {
        value["requestBody"] =
            json!({ "required": needed, "content": { kind: { "schema": schema_of(schema) } } });
    }
    value["responses"] = responses(operation);
    value
}

fn responses(operation: &Operation) -> Value {
    let mut all = Map::new();
    for (status, words, parts, headers) in operation.answers {
        let mut answer = json!({ "description": words });
        if !parts.is_empty() {
            let content = parts
                .iter()
                .map(|Part(kind, schema)| ((*kind).to_owned(), json!({ "schema": schema_of(schema) })));
            answer["content"] = Value::Object(content.collect());
        }
        if !headers.is_empty() {
            let named = headers
                .iter()
                .map(|name| ((*name).to_owned(), json!({ "$ref": format!("#/components/headers/{name}") })));
            answer["headers"] = Value::Object(named.collect());
        }
        all.insert(status.to_string(), answer);
    }
    for status in operation.problems() {
        all.insert(status.to_string(), json!({ "$ref": format!("#/components/responses/{status}") }));
    }
    Value::Object(all)
}

/// A component by its name; `text` and `any` are what they say.
fn schema_of(name: &str) -> Value {
    match name {
        "text" => json!({ "type": "string" }),
        "any" => json!(true),
        name => json!({ "$ref": format!("#/components/schemas/{name}") }),
    }
}

/// What endpoints are sent.
fn callback() -> Value {
    let header = |name: &str, words: &str| json!({ "name": name, "in": "header", "required": true, "description": words, "schema": { "type": "string" } });
    json!({ "post": {
        "operationId": "callback",
        "tags": ["callbacks"],
        "summary": "A task's change of state, signed as Standard Webhooks says",
        "parameters": [
            header("webhook-id", "The same at every attempt: keep it to tell a repetition."),
            header("webhook-timestamp", "Seconds since 1970, of this attempt."),
            header("webhook-signature", "`v1,` and base64, one for each active secret, separated by spaces."),
        ],
        "requestBody": { "required": true, "content": { "application/json": { "schema": schema_of("Callback") } } },
        "responses": {
            "2XX": { "description": "Taken." },
            "410": { "description": "Nothing more is wanted: the endpoint is disabled." },
            "default": { "description": "Tried again, over three days; `Retry-After` is honoured." },
        },
    } })
}
