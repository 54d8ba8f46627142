//! The schemas of what goes in and out. The tests validate real answers against them, with every object closed, so that a field cannot
//! be answered without standing here. They describe; they validate nothing at run time.

use kedge_engine::task::TaskState;
use serde_json::{Map, Value, json};

use crate::endpoint::{EVENTS, Form};

/// Adds `null` to the type of a schema.
fn or_null(mut schema: Value) -> Value {
    if schema.get("$ref").is_some() {
        return json!({ "anyOf": [schema, { "type": "null" }] });
    }
    schema["type"] = json!([schema["type"], "null"]);
    schema
}

fn of(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn list(items: &Value) -> Value {
    json!({ "type": "array", "items": items })
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn whole() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

fn time() -> Value {
    json!({ "type": "string", "format": "date-time" })
}

pub(super) fn task_id() -> Value {
    json!({ "type": "string", "pattern": "^task_[0-9a-f]{32}$" })
}

pub(super) fn task_state() -> Value {
    json!({ "type": "string", "enum": TaskState::ALL.map(TaskState::as_str) })
}

/// An object all of whose properties are always there.
fn object(properties: Value) -> Value {
    let required: Vec<String> =
        properties.as_object().into_iter().flat_map(|map| map.keys().cloned()).collect();
    json!({ "type": "object", "required": required, "properties": properties })
}

/// The same, closed and with properties that may be left out: for requests.
fn request(required: &[&str], mut properties: Value) -> Value {
    for (name, schema) in properties.as_object_mut().into_iter().flatten() {
        if !required.contains(&name.as_str()) {
            *schema = or_left_out(schema.take());
        }
    }
    json!({ "type": "object", "additionalProperties": false, "required": required, "properties": properties })
}

/// `null` in a request is the same as nothing.
fn or_left_out(mut schema: Value) -> Value {
    if schema.get("type").is_none() {
        return json!({ "anyOf": [schema, { "type": "null" }] });
    }
    if let Some(Value::Array(words)) = schema.get_mut("enum") {
        words.push(Value::Null);
    }
    or_null(schema)
}

fn page(name: &str, items: &Value) -> Value {
    let mut page = object(json!({ "next": or_null(text()) }));
    page["properties"][name] = list(items);
    page["required"] = json!(["next", name]);
    page
}

/// What a request for a task has beside its workflow and parameters.
pub(super) fn task_request() -> Map<String, Value> {
    let fields = json!({
        "callback": { "oneOf": [
            request(&["endpoint"], json!({ "endpoint": text() })),
            request(&["url"], json!({ "url": { "type": "string", "format": "iri", "maxLength": 500 } })),
        ], "description": "A receiver of this task's callbacks: an endpoint's name, or a URL of an endpoint's origin." },
        "correlation_id": { "type": "string", "minLength": 1, "maxLength": 128, "description": "Your own id, given back in callbacks." },
        "priority": { "oneOf": [
            { "type": "string", "enum": ["low", "normal", "high"] },
            { "type": "integer", "minimum": -100, "maximum": 100 },
        ], "description": "Who goes first when several wait for the same lock." },
        "not_before": { "type": "string", "format": "date-time", "description": "Not before this time; within a year." },
    });
    match fields {
        Value::Object(map) => map.into_iter().map(|(name, schema)| (name, or_left_out(schema))).collect(),
        _ => Map::new(),
    }
}

/// All components but those that the workflows bring.
pub(super) fn schemas() -> Map<String, Value> {
    let mut all = Map::new();
    for part in [tasks(), requests(), resources(), callbacks(), others()] {
        if let Value::Object(part) = part {
            all.extend(part);
        }
    }
    all
}

fn tasks() -> Value {
    let mut line = task_fields();
    if let Value::Object(map) = &mut line {
        map.remove("steps");
    }
    json!({
        "Task": object(task_fields()),
        "TaskLine": object(line),
        "TaskPage": page("tasks", &of("TaskLine")),
        "TaskOrPlan": { "anyOf": [of("Task"), of("Plan")] },
        "Links": { "type": "object", "required": ["self", "events", "graph"], "properties": {
            "self": text(), "events": text(), "graph": text(), "login": text(), "undo": text(),
        } },
        "Actor": object(json!({ "name": text(), "via": text() })),
        "Step": object(json!({
            "name": text(), "title": text(),
            "class": { "type": "string", "enum": ["query", "compensable", "pivot", "retriable"] },
            "state": { "type": "string", "enum": [
                "pending", "running", "waiting", "in_doubt", "succeeded", "failed", "undoing", "undone", "stuck", "abandoned", "skipped",
            ] },
            "attempts": whole(),
            "started_at": or_null(time()), "finished_at": or_null(time()),
            "progress": or_null(of("Progress")), "error": or_null(of("StepError")),
            "undo": object(json!({
                "title": text(), "attempts": whole(), "error": or_null(of("StepError")), "finished_at": or_null(time()),
            })),
            "after": list(&text()),
        })),
        "Progress": object(json!({ "done": whole(), "total": or_null(whole()), "unit": text() })),
        "StepError": object(json!({
            "class": { "type": "string", "enum": ["retryable", "fatal", "in_doubt"] }, "message": text(),
        })),
        "Outcome": object(json!({ "verified": or_null(json!({ "type": "boolean" })), "drift": list(&of("Drift")) })),
        "Drift": object(json!({ "resource": text(), "item": text(), "before": or_null(text()), "after": or_null(text()) })),
        "BlockedOn": object(json!({
            "kind": text(), "what": text(), "holder": or_null(task_id()), "since": time(), "until": or_null(time()),
        })),
        "Approval": object(json!({
            "state": { "type": "string", "enum": ["not_yet", "asked", "granted", "refused", "expired", "withdrawn"] },
            "policy": text(), "before": { "type": "string", "enum": ["start", "close", "pivot"] }, "approvers": list(&text()),
            "asked_at": or_null(time()), "until": or_null(time()), "by": or_null(of("Actor")), "reason": or_null(text()),
            "decided_at": or_null(time()),
        })),
        "Incident": object(json!({
            "steps": list(&object(json!({
                "step": text(), "phase": { "type": "string", "enum": ["run", "undo"] }, "reason": text(),
                "probe": or_null(text()), "by_hand": list(&text()), "since": time(),
            }))),
            "verbs": list(&text()),
        })),
        "Failure": object(json!({ "step": text(), "title": text(), "detail": text() })),
        "Plan": object(json!({
            "workflow": text(), "site": or_null(text()), "steps": list(&of("Step")), "pivot": or_null(text()),
            "locks": list(&of("Lock")), "resources": list(&text()), "notes": list(&text()), "plan_hash": text(),
            "estimate": or_null(of("Estimate")),
        })),
        "Estimate": object(json!({
            "duration_ms": whole(), "downtime_ms": or_null(whole()), "steps": { "type": "object", "additionalProperties": whole() },
            "based_on": task_id(), "same_site": { "type": "boolean" },
        })),
        "Event": object(json!({ "sequence": whole(), "at": time(), "type": text(), "state": task_state(), "data": true })),
        "EventPage": object(json!({ "events": list(&of("Event")), "last": whole(), "more": { "type": "boolean" } })),
    })
}

fn task_fields() -> Value {
    json!({
        "id": task_id(), "workflow": text(), "site": or_null(text()), "state": task_state(),
        "params": true, "steps": list(&of("Step")), "outcome": or_null(of("Outcome")), "result": true,
        "downtime_ms": or_null(whole()), "blocked_on": or_null(of("BlockedOn")), "approval": or_null(of("Approval")), "incident": or_null(of("Incident")),
        "error": or_null(of("Failure")), "correlation_id": or_null(text()),
        "priority": { "type": "integer", "minimum": -128, "maximum": 127 }, "traceparent": or_null(text()),
        "actor": of("Actor"), "plan_hash": or_null(text()),
        "created_at": time(), "started_at": or_null(time()), "finished_at": or_null(time()), "undo_until": or_null(time()),
        "sequence": whole(), "links": of("Links"),
    })
}

fn requests() -> Value {
    let list_of = |pattern: &str| json!({ "type": "array", "maxItems": 20, "items": { "type": "string", "pattern": pattern } });
    let sites = list_of("^[A-Za-z0-9._*-]{1,100}$");
    let byte = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
    let networks = list_of(&format!(
        "^({byte}(\\.{byte}){{3}}/(3[0-2]|[12]?[0-9])|[0-9a-f]{{1,4}}(:[0-9a-f]{{1,4}}){{7}}/(12[0-8]|[1-9]?[0-9]))$"
    ));
    let scope = json!({ "type": "array", "minItems": 1, "maxItems": 20, "items": {
        "type": "string", "pattern": "^(admin|task:[a-z_*]{1,64}:(create|read|cancel|retry|undo|resolve|approve|replay|\\*))$",
    } });
    let endpoint_change = json!({
        "url": { "type": "string", "format": "iri", "pattern": "^https?://", "maxLength": 500 },
        "events": { "type": "array", "maxItems": 20, "items": { "type": "string", "enum": EVENTS } },
        "allow_private": networks,
        "payload": { "type": "string", "enum": ["thin", "full"] }, "form": form(),
    });
    let mut new_endpoint = endpoint_change.clone();
    new_endpoint["name"] = json!({ "type": "string", "pattern": "^[a-z0-9._-]{1,64}$" });
    let reason = json!({ "type": "string", "minLength": 1, "maxLength": 1000, "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]+$" });
    json!({
        "NewToken": request(&["name", "scopes"], json!({
            "name": { "type": "string", "pattern": "^[a-z0-9._-]{1,64}$" }, "scopes": scope, "sites": sites, "networks": networks,
            "expires_at": time(),
        })),
        "NewPlatform": request(&["name", "web_server", "root", "app"], json!({
            "name": { "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$" },
            "web_server": { "type": "string", "minLength": 1, "maxLength": 64 },
            "root": { "type": "string", "minLength": 2, "maxLength": 500, "pattern": "^/[^\\u0000-\\u001f\"';{}$\\\\ ]*$" },
            "app": { "enum": ["wordpress", "drupal", "plain"] },
            "drush": { "type": "string", "minLength": 1, "maxLength": 500 },
        })),
        "NewEndpoint": request(&["name", "url"], new_endpoint),
        "EndpointChange": request(&[], endpoint_change),
        "Rotation": request(&[], json!({ "grace_seconds": { "type": "integer", "minimum": 0, "maximum": 604_800, "default": 86_400 } })),
        "Recovery": request(&["since"], json!({ "since": time() })),
        "Nothing": request(&[], json!({})),
        "Reason": request(&[], json!({ "reason": reason })),
        "Resolution": { "oneOf": [
            request(&["step", "verb"], json!({ "step": { "type": "string", "minLength": 1, "maxLength": 64 }, "verb": { "const": "retry" }, "reason": reason })),
            request(&["step", "verb", "reason"], json!({
                "step": { "type": "string", "minLength": 1, "maxLength": 64 }, "verb": { "enum": ["mark_undone", "abandon"] }, "reason": reason,
            })),
        ] },
    })
}

fn resources() -> Value {
    let named = json!({ "type": "object", "required": ["name"], "properties": { "name": text() }, "additionalProperties": true });
    json!({
        "Workflow": object(json!({ "name": text(), "title": text(), "schema": { "type": "object", "additionalProperties": true }, "example": true })),
        "WorkflowList": object(json!({ "workflows": list(&of("Workflow")) })),
        "Record": named,
        "SitePage": page("sites", &of("Record")),
        "PlatformPage": page("platforms", &of("Record")),
        "BackupPage": page("backups", &of("Record")),
        "Trashed": object(json!({
            "name": text(), "task": task_id(), "site": text(), "platform": text(), "database_server": text(), "dir": text(),
            "why": { "type": "string", "enum": ["move", "delete", "import"] }, "until": time(),
        })),
        "TrashPage": page("trash", &of("Trashed")),
        "LoginLink": object(json!({
            "url": { "type": "string", "description": "Logs in once: as secret as a password." },
            "result": { "description": "Whom it logs in, and until when.", "type": ["object", "null"], "additionalProperties": true },
        })),
        "Comparison": object(json!({
            "from": text(), "to": text(), "site": or_null(text()), "errors": whole(), "warnings": whole(), "rows": list(&of("ComparisonRow")),
        })),
        "ComparisonRow": object(json!({
            "kind": { "type": "string", "enum": ["core", "profile", "module", "plugin", "theme", "library"] },
            "name": text(), "enabled": { "type": "boolean" }, "site_version": or_null(text()), "target_version": or_null(text()),
            "site_schema": or_null(whole()), "target_schema": or_null(whole()),
            "verdict": { "type": "string", "enum": ["no_profile", "older_schema", "missing", "downgrade", "upgrade", "same", "comes_along"] },
        })),
        "Lock": object(json!({
            "resource": text(), "shared": { "type": "boolean" }, "holders": list(&task_id()), "waiting": list(&task_id()),
        })),
        "LockList": object(json!({ "locks": list(&of("Lock")) })),
    })
}

fn endpoint() -> Value {
    json!({
        "name": text(), "source": { "type": "string", "enum": ["api", "configuration"] }, "origin": text(), "kind": { "type": "string", "enum": ["web", "forge", "mail"] }, "events": list(&text()),
        "payload": { "type": "string", "enum": ["thin", "full"] }, "form": form(), "keys": whole(), "disabled": or_null(text()),
        "created_at": or_null(time()), "created_by": or_null(text()),
    })
}

fn form() -> Value {
    json!({ "type": "string", "enum": Form::ALL.map(Form::as_str) })
}

fn callbacks() -> Value {
    let endpoint = endpoint();
    let mut with_secret = endpoint.clone();
    with_secret["secret"] = json!({ "type": "string", "pattern": "^whsec_" });
    let delivery = json!({
        "id": text(), "task_id": task_id(), "sequence": whole(), "endpoint": text(), "type": text(), "state": task_state(),
        "status": { "type": "string", "enum": ["due", "delivered", "dead"] }, "at": time(), "attempts": whole(), "created_at": time(),
        "links": object(json!({ "self": text(), "task": text() })),
    });
    let mut detail = delivery.clone();
    detail["body"] = json!(true);
    detail["deliveries"] = list(&of("Attempt"));
    json!({
        "Delivery": object(delivery),
        "DeliveryDetail": object(detail),
        "DeliveryPage": page("deliveries", &of("Delivery")),
        "Attempt": object(json!({
            "attempt": whole(), "at": time(), "duration_ms": whole(), "status": or_null(whole()), "error": or_null(text()), "answer": text(),
        })),
        "Endpoint": object(endpoint.clone()),
        "EndpointWithSecret": object(with_secret),
        "TestResult": object(json!({
            "delivered": { "type": "boolean" }, "duration_ms": whole(), "status": or_null(whole()), "error": or_null(text()), "answer": text(),
        })),
        "Recovered": object(json!({ "replayed": whole(), "more": { "type": "boolean" } })),
        "KeyList": object(json!({ "keys": list(&object(json!({
            "kty": text(), "crv": text(), "use": text(), "alg": text(), "x": text(), "whpk": text(),
        }))) })),
        "EndpointList": object(json!({ "endpoints": list(&of("Endpoint")) })),
        "Callback": object(json!({
            "type": text(), "timestamp": time(),
            "data": object(json!({
                "task_id": task_id(), "sequence": whole(), "workflow": text(), "site": or_null(text()), "state": task_state(),
                "correlation_id": or_null(text()), "result": { "type": "object", "additionalProperties": true },
                "error": or_null(of("CallbackError")), "links": of("Links"),
            })),
        })),
        "CallbackError": object(json!({
            "step": or_null(text()), "title": or_null(text()), "detail": text(),
            "compensated": { "type": "string", "enum": ["verified", "drift", "partial", "no"] },
        })),
    })
}

fn token() -> Value {
    json!({
        "name": text(), "source": { "type": "string", "enum": ["api", "configuration"] }, "scopes": list(&text()),
        "sites": list(&text()), "networks": list(&text()), "expires_at": or_null(time()), "created_at": or_null(time()),
        "created_by": or_null(text()),
    })
}

fn others() -> Value {
    let mut with_secret = token();
    with_secret["secret"] = text();
    json!({
        "Token": object(token()),
        "TokenWithSecret": object(with_secret),
        "TokenList": object(json!({ "tokens": list(&of("Token")) })),
        "AuditRecord": object(json!({
            "sequence": whole(), "at": time(), "by": text(), "from": or_null(text()), "action": text(), "target": text(),
            "status": whole(), "request": text(), "task_id": or_null(task_id()), "previous": text(), "hash": text(),
            "intact": { "type": "boolean", "description": "Whether the record fits its hash." },
        })),
        "AuditPage": page("records", &of("AuditRecord")),
        "Status": object(json!({ "status": text() })),
        "Message": { "type": "object", "additionalProperties": false, "properties": {
            "body": { "type": "string", "description": "The message's body as it is." },
            "payload": { "description": "Or its value.", "type": ["object", "array"] },
            "headers": {
                "type": "object",
                "maxProperties": crate::handlers::inbox::MAX_HEADERS,
                // RFC 9110, 5.1 and 5.5.
                "propertyNames": { "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}$" },
                "additionalProperties": { "type": "string", "pattern": "^[^\\u0000-\\u0008\\u000a-\\u001f\\u007f]*$" },
            },
        }, "oneOf": [{ "required": ["body"] }, { "required": ["payload"] }] },
        "Explained": { "type": "object", "additionalProperties": true, "required": ["hook", "provider", "signature", "decision"], "properties": {
            "hook": text(), "provider": text(), "decision": { "type": "string", "enum": ["task", "ignored", "invalid", "refused"] },
        } },
        "ChatAnswer": { "type": "object", "additionalProperties": true },
        "Received": { "type": "object", "additionalProperties": true, "required": ["id", "at", "hook", "status"], "properties": {
            "id": text(), "at": time(), "hook": text(), "task_id": or_null(task_id()), "reason": or_null(text()),
            "status": { "type": "string", "enum": ["accepted", "duplicate", "ignored", "invalid", "refused", "rejected"] },
        } },
        "InboxPage": page("inbox", &of("Received")),
        // Chats and greetings have answers of the provider's own form.
        "HookAnswer": { "type": "object", "additionalProperties": true, "properties": {
            "status": { "type": "string", "enum": ["ignored", "duplicate"] }, "reason": text(), "task_id": task_id(), "task": of("TaskLine"),
        } },
        "Problem": {
            "type": "object", "required": ["type", "title", "status", "detail", "instance"], "additionalProperties": true,
            "properties": {
                "type": text(), "title": text(), "status": { "type": "integer", "minimum": 400, "maximum": 599 }, "detail": text(),
                "instance": { "type": "string", "description": "The request's id, as in X-Request-Id and in the log." },
                "errors": list(&json!({ "type": "object", "required": ["detail"], "properties": {
                    "pointer": { "type": "string", "description": "Into the body." },
                    "parameter": { "type": "string", "description": "Of the query." },
                    "detail": text(),
                } })),
                "plan_hash": text(),
            },
        },
    })
}
