//! What operations share: parameters, headers, and the answers of refusals. Names no operation.

use serde_json::{Map, Value, json};

/// Parameters that operations name.
pub(super) fn parameters() -> Value {
    let place = |name: &str, place: &str, words: &str, schema: Value| json!({ "name": name, "in": place, "required": place == "path", "description": words, "schema": schema });
    let query = |name: &str, words: &str, schema: Value| place(name, "query", words, schema);
    let header = |name: &str, words: &str, schema: Value| place(name, "header", words, schema);
    let path = |name: &str, words: &str, schema: Value| place(name, "path", words, schema);
    let word =
        || json!({ "type": "string", "minLength": 1, "maxLength": 80, "pattern": "^[A-Za-z0-9_.-]+$" });
    let begins = "Where the page begins: `next` of the one before, as it is";
    let tag = || json!({ "type": "string", "pattern": "^\"[0-9]{1,19}\"$" });
    json!({
        "path.id": path("id", "A task's id", super::types::task_id()),
        "path.step": path("step", "A step's name", word()),
        "path.hook": path("hook", "A hook's name", word()),
        "path.platform": path("platform", "A chat platform", json!({ "type": "string", "enum": ["slack", "mattermost", "discord"] })),
        "path.name": path("name", "A platform's name", word()),
        "path.record": path("record", "The name of a site or a backup, or a task's id", json!({ "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[A-Za-z0-9_.-]+$" })),
        "path.from": path("from", "The platform that the site is on", word()),
        "path.to": path("to", "The platform that it may move to", word()),
        "path.message": path("message", "A message's id", json!({ "type": "string", "pattern": "^in_[0-9a-f]{32}$" })),
        "hook": query("hook", "To this hook", json!({ "type": "string" })),
        "message_status": query("status", "With this end", json!({ "type": "string", "enum": ["accepted", "duplicate", "ignored", "invalid", "refused", "rejected"] })),
        "path.endpoint": path("endpoint", "An endpoint's name", word()),
        "path.token": path("token", "A token's name", word()),
        "path.workflow": path("workflow", "A workflow's name", word()),
        "path.delivery": path("delivery", "A callback's id", json!({ "type": "string", "pattern": "^msg_[0-9a-f]{32}$" })),
        "site": query("site", "Of this site", json!({ "type": "string" })),
        "workflow": query("workflow", "Of this workflow", json!({ "type": "string" })),
        "state": query("state", "In this state", super::types::task_state()),
        "since": query("since", "Accepted since", json!({ "type": "string", "format": "date-time" })),
        "limit": query("limit", "Entries of a page", json!({ "type": "integer", "minimum": 1, "maximum": 200, "default": 50 })),
        "cursor": query("cursor", begins, json!({ "type": "string" })),
        "cursor.message": query("cursor", begins, json!({ "type": "string", "pattern": "^in_[0-9a-f]{32}$" })),
        "cursor.task": query("cursor", begins, super::types::task_id()),
        "cursor.delivery": query("cursor", begins, json!({ "type": "string", "pattern": "^msg_[0-9a-f]{32}$" })),
        "cursor.record": query("cursor", begins, json!({ "type": "string", "pattern": "^[0-9]{1,18}$" })),
        "after": query("after", "Sequence of the last event that is known", json!({ "type": "integer", "minimum": 0, "maximum": i64::MAX })),
        "dry_run": query("dry_run", "Answer the plan and do nothing", json!({ "type": "boolean", "default": false })),
        "last_event_id": header("Last-Event-ID", "As browsers send it when they connect again", json!({ "type": "string", "pattern": "^[0-9]{1,18}$" })),
        "if_none_match": header("If-None-Match", "The ETag that is known: 304 while it holds, and with `Prefer: wait` the wait for another", tag()),
        "if_match": header("If-Match", "Refuse with 412 unless the task is as it was seen", tag()),
        "if_plan": header("If-Plan", "Refuse with 412 unless the plan has this hash", json!({ "type": "string", "pattern": "^[0-9a-z]{1,128}$" })),
        "idempotency_key": header("Idempotency-Key", "The same key with the same body is the same task", json!({ "type": "string", "pattern": "^\"[A-Za-z0-9_.:-]{1,200}\"$" })),
        "prefer_wait": header("Prefer", "`wait=N`: answer when the task has ended, after N seconds at the latest (25 at most)", json!({ "type": "string", "pattern": "^wait=[0-9]{1,2}$" })),
        "traceparent": header("traceparent", "W3C trace context, given on in callbacks", json!({ "type": "string", "pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$" })),
    })
}

/// Headers that answers have.
pub(super) fn headers() -> Value {
    let header = |words: &str| json!({ "description": words, "schema": { "type": "string" } });
    json!({
        "Location": header("Where the task is"),
        "ETag": header("The sequence of the task's last event, in quotes"),
        "Link": header("`rel=\"next\"`: the next page, when there is one"),
        "Repr-Digest": header("SHA-256 of what is sent, as RFC 9530 writes it"),
        "Retry-After": header("Seconds after which it makes sense to ask again"),
        "Idempotent-Replayed": header("`true` when the key was used before"),
        "Preference-Applied": header("`wait=N` when it was honoured"),
        "Task-State": header("The task's state, for shell scripts"),
        "WWW-Authenticate": header("What is missing"),
    })
}

/// Refusals: one problem document each.
pub(super) fn responses() -> Value {
    let words = [
        (400, "The request is malformed"),
        (401, "Nobody known asks"),
        (403, "The token or hook may not do this"),
        (404, "There is no such thing, or the token does not see it"),
        (406, "Not to be had in a form that is accepted"),
        (408, "The body came too slowly"),
        (409, "The state does not allow it"),
        (412, "A precondition does not hold"),
        (413, "The body is too large: a MiB at most"),
        (415, "The body's type is not taken"),
        (422, "The body does not fit; `errors` says where"),
        (429, "Too many requests; `Retry-After` says when"),
        (431, "The head is too large: 16 KiB at most"),
        (500, "Our mistake; the log knows more by the request's id"),
        (503, "No new work at the moment; `Retry-After` says when"),
    ];
    let answer = |(status, words): (u16, &str)| {
        let mut answer = json!({
            "description": words,
            "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
        });
        if matches!(status, 429 | 503) {
            answer["headers"] = json!({ "Retry-After": { "$ref": "#/components/headers/Retry-After" } });
        }
        if matches!(status, 401 | 403) {
            answer["headers"] =
                json!({ "WWW-Authenticate": { "$ref": "#/components/headers/WWW-Authenticate" } });
        }
        (status.to_string(), answer)
    };
    Value::Object(words.into_iter().map(answer).collect::<Map<_, _>>())
}
