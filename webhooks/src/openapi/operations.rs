//! The table of operations: method, path, who may, what goes in and what comes out. `route.rs` decides; a test holds the two together.

use super::operation::{Auth, JSON, Operation, Part};

const TASK: &[Part] = &[Part(JSON, "Task")];
const LIST: &[&str] = &["limit", "cursor"];

/// Everything there is.
pub(super) const OPERATIONS: &[Operation] = &[
    Operation::post("/v1/tasks", "create_task", "tasks", "Ask for a task, or with dry_run for its plan")
        .with(&["dry_run", "idempotency_key", "prefer_wait", "if_plan", "traceparent"])
        .taking("NewTask")
        .gives(&[
            (
                202,
                "The task is durable; it runs when its locks are free",
                TASK,
                &["Location", "ETag", "Retry-After", "Idempotent-Replayed", "Preference-Applied"],
            ),
            (
                200,
                "The plan, or the task when it ended within the wait",
                &[Part(JSON, "TaskOrPlan")],
                &["Location", "ETag"],
            ),
        ])
        .refuses(&[409, 412]),
    Operation::get("/v1/tasks", "tasks", "tasks", "List tasks, newest first")
        .with(&["site", "workflow", "state", "since", "limit", "cursor.task"])
        .gives(&[(200, "A page of tasks, without their steps", &[Part(JSON, "TaskPage")], &["Link"])]),
    Operation::get("/v1/tasks/{id}", "task", "tasks", "A task with its steps, attempts and incident")
        .with(&["if_none_match", "prefer_wait"])
        .gives(&[
            (200, "The task", TASK, &["ETag", "Task-State", "Preference-Applied"]),
            (304, "It is as the caller knows it", &[], &["ETag"]),
        ]),
    Operation::get(
        "/v1/tasks/{id}/events",
        "events",
        "tasks",
        "The task's events, as a page or as a stream that goes on",
    )
    .with(&["after", "last_event_id"])
    .gives(&[
        (
            200,
            "The events after the one that was named",
            &[
                Part(JSON, "EventPage"),
                Part("text/event-stream", "text"),
                Part("application/x-ndjson", "text"),
            ],
            &["Link"],
        ),
        (204, "The task has ended and there are no more: do not connect again", &[], &[]),
    ])
    .refuses(&[406, 503]),
    Operation::get("/v1/tasks/{id}/graph", "graph", "tasks", "The plan's graph with the steps' states")
        .gives(&[(
            200,
            "The graph",
            &[
                Part("image/svg+xml", "text"),
                Part("text/vnd.graphviz", "text"),
                Part("text/vnd.mermaid", "text"),
            ],
            &[],
        )])
        .refuses(&[406]),
    Operation::get("/v1/tasks/{id}/steps/{step}/log", "log", "tasks", "A step's log, masked").gives(&[(
        200,
        "The log",
        &[Part("text/plain", "text")],
        &[],
    )]),
    Operation::get("/v1/tasks/{id}/login", "login", "tasks", "The link of a login task, while it is good")
        .gives(&[(200, "The link: whoever has it logs in", &[Part(JSON, "LoginLink")], &[])]),
    Operation::post("/v1/tasks/{id}/cancel", "cancel", "tasks", "Ask for rollback; refused after the pivot")
        .with(&["if_match"])
        .maybe_taking("Reason")
        .gives(&[(202, "The task", TASK, &["ETag", "Location"])])
        .refuses(&[409, 412]),
    Operation::post(
        "/v1/tasks/{id}/retry",
        "retry",
        "tasks",
        "Try stuck steps again, or a rolled back task anew",
    )
    .with(&["if_match"])
    .maybe_taking("Nothing")
    .gives(&[(202, "The task, a new one for a rolled back one", TASK, &["ETag", "Location"])])
    .refuses(&[409, 412]),
    Operation::post("/v1/tasks/{id}/undo", "undo", "tasks", "Take a finished task back within its hold")
        .with(&["if_match"])
        .maybe_taking("Nothing")
        .gives(&[(202, "The new task that takes it back", TASK, &["ETag", "Location"])])
        .refuses(&[409, 412]),
    Operation::post("/v1/tasks/{id}/resolve", "resolve", "tasks", "Settle a stuck step")
        .with(&["if_match"])
        .taking("Resolution")
        .gives(&[(202, "The task", TASK, &["ETag", "Location"])])
        .refuses(&[409, 412]),
    Operation::post(
        "/v1/tasks/{id}/approve",
        "approve",
        "tasks",
        "A second person's yes to a task that waits for it",
    )
    .with(&["if_match"])
    .maybe_taking("Reason")
    .gives(&[(202, "The task", TASK, &["ETag", "Location"])])
    .refuses(&[409, 412]),
    Operation::post("/v1/tasks/{id}/refuse", "refuse", "tasks", "A second person's no: the task is canceled")
        .with(&["if_match"])
        .maybe_taking("Reason")
        .gives(&[(202, "The task", TASK, &["ETag", "Location"])])
        .refuses(&[409, 412]),
    Operation::post("/v1/hooks/{hook}", "hook", "hooks", "A webhook of a configured sender")
        .by(Auth::Signature)
        .gives(&[
            (202, "The task that it starts", TASK, &["Location", "ETag", "Retry-After"]),
            (200, "Ignored, or there already", &[Part(JSON, "HookAnswer")], &[]),
        ])
        .refuses(&[400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 503]),
    Operation::post(
        "/v1/hooks/{hook}/explain",
        "explain",
        "hooks",
        "What a message would do; nothing is done",
    )
    .taking("Message")
    .gives(&[(200, "Step by step: signature, filters, parameters, plan", &[Part(JSON, "Explained")], &[])])
    .refuses(&[400, 403, 408, 413, 415, 422]),
    Operation::post("/v1/chat/{platform}", "chat", "hooks", "A command or a button of a chat")
        .by(Auth::Signature)
        .gives(&[(200, "A message in the platform's own form", &[Part(JSON, "ChatAnswer")], &[])])
        .refuses(&[400, 401, 404, 408, 413, 415, 422, 503]),
    Operation::get("/v1/inbox", "inbox", "hooks", "Messages that came to the hooks, newest first")
        .with(&["hook", "message_status", "limit", "cursor.message"])
        .gives(&[(200, "A page of messages", &[Part(JSON, "InboxPage")], &["Link"])]),
    Operation::get("/v1/inbox/{message}", "received", "hooks", "A message and what became of it").gives(&[(
        200,
        "The message, without secrets",
        &[Part(JSON, "Received")],
        &[],
    )]),
    Operation::post("/v1/inbox/{message}/replay", "replay_received", "hooks", "Try a message again")
        .gives(&[
            (202, "The task that it starts", TASK, &["Location", "ETag", "Retry-After"]),
            (200, "Ignored, or there already", &[Part(JSON, "HookAnswer")], &[]),
        ])
        .refuses(&[403, 409, 422, 503]),
    Operation::get("/v1/workflows", "workflows", "resources", "What can be asked for").gives(&[(
        200,
        "The workflows",
        &[Part(JSON, "WorkflowList")],
        &[],
    )]),
    Operation::get(
        "/v1/workflows/{workflow}",
        "workflow",
        "resources",
        "A workflow with the schema of its parameters",
    )
    .gives(&[(200, "The workflow", &[Part(JSON, "Workflow")], &[])]),
    Operation::get("/v1/sites", "sites", "resources", "The sites").with(LIST).gives(&[(
        200,
        "A page of sites",
        &[Part(JSON, "SitePage")],
        &["Link"],
    )]),
    Operation::get("/v1/sites/{record}", "site", "resources", "A site").gives(&[(
        200,
        "The site",
        &[Part(JSON, "Record")],
        &[],
    )]),
    Operation::get("/v1/platforms", "platforms", "resources", "The platforms").with(LIST).gives(&[(
        200,
        "A page of platforms",
        &[Part(JSON, "PlatformPage")],
        &["Link"],
    )]),
    Operation::post(
        "/v1/platforms",
        "make_platform",
        "resources",
        "Add a platform to those of the configuration",
    )
    .taking("NewPlatform")
    .gives(&[(201, "The platform", &[Part(JSON, "Record")], &["Location"])])
    .refuses(&[404, 409, 503]),
    Operation::get("/v1/platforms/{name}", "platform", "resources", "A platform").gives(&[(
        200,
        "The platform",
        &[Part(JSON, "Record")],
        &[],
    )]),
    Operation::other(
        "DELETE",
        "/v1/platforms/{name}",
        "remove_platform",
        "resources",
        "Take away a platform that was added by API and that nothing lives on",
    )
    .gives(&[(204, "It is gone", &[], &[])])
    .refuses(&[409, 503]),
    Operation::get(
        "/v1/platforms/{from}/compare/{to}",
        "compare",
        "resources",
        "What a move between two platforms means for a site's code, looked up now",
    )
    .with(&["site"])
    .gives(&[(200, "The table, what blocks a move first", &[Part(JSON, "Comparison")], &[])])
    .refuses(&[409, 503]),
    Operation::get("/v1/backups", "backups", "resources", "The backups").with(LIST).gives(&[(
        200,
        "A page of backups",
        &[Part(JSON, "BackupPage")],
        &["Link"],
    )]),
    Operation::get("/v1/backups/{record}", "backup", "resources", "A backup").gives(&[(
        200,
        "The backup",
        &[Part(JSON, "Record")],
        &[],
    )]),
    Operation::get(
        "/v1/backups/{record}/archive",
        "archive",
        "resources",
        "A backup's archive, for those who may restore it",
    )
    .gives(&[(
        200,
        "The archive",
        &[Part("application/zstd", "any"), Part("application/gzip", "any"), Part("application/x-tar", "any")],
        &["Repr-Digest"],
    )])
    .refuses(&[503]),
    Operation::get("/v1/trash", "trash", "resources", "Old sides and deleted sites within their hold")
        .with(LIST)
        .gives(&[(200, "A page of the trash", &[Part(JSON, "TrashPage")], &["Link"])]),
    Operation::get("/v1/trash/{record}", "trashed", "resources", "What a task has put into the trash")
        .gives(&[(200, "What is there of it", &[Part(JSON, "Trashed")], &[])]),
    Operation::get("/v1/locks", "locks", "resources", "Who holds what, and who waits for it").gives(&[(
        200,
        "The locks",
        &[Part(JSON, "LockList")],
        &[],
    )]),
    Operation::get("/v1/endpoints", "endpoints", "callbacks", "The receivers of callbacks").gives(&[(
        200,
        "The endpoints",
        &[Part(JSON, "EndpointList")],
        &[],
    )]),
    Operation::post(
        "/v1/endpoints",
        "make_endpoint",
        "callbacks",
        "Make an endpoint; its secret is shown this once",
    )
    .taking("NewEndpoint")
    .gives(&[(201, "The endpoint and its secret", &[Part(JSON, "EndpointWithSecret")], &["Location"])])
    .refuses(&[409]),
    Operation::get("/v1/endpoints/{endpoint}", "endpoint", "callbacks", "An endpoint").gives(&[(
        200,
        "The endpoint",
        &[Part(JSON, "Endpoint")],
        &[],
    )]),
    Operation::other(
        "PATCH",
        "/v1/endpoints/{endpoint}",
        "change_endpoint",
        "callbacks",
        "Change an endpoint; what is left out stays",
    )
    .taking("EndpointChange")
    .gives(&[(200, "The endpoint", &[Part(JSON, "Endpoint")], &[])])
    .refuses(&[409]),
    Operation::other(
        "DELETE",
        "/v1/endpoints/{endpoint}",
        "remove_endpoint",
        "callbacks",
        "Remove an endpoint that was made by API",
    )
    .gives(&[(204, "It gets nothing more", &[], &[])])
    .refuses(&[409, 503]),
    Operation::post(
        "/v1/endpoints/{endpoint}/rotate",
        "rotate_secret",
        "callbacks",
        "A new secret; the old one signs as well for a while",
    )
    .maybe_taking("Rotation")
    .gives(&[(200, "The endpoint and its new secret", &[Part(JSON, "EndpointWithSecret")], &[])])
    .refuses(&[409]),
    Operation::post("/v1/endpoints/{endpoint}/enable", "enable_endpoint", "callbacks", "Send to it again")
        .maybe_taking("Nothing")
        .gives(&[(200, "The endpoint", &[Part(JSON, "Endpoint")], &[])]),
    Operation::post(
        "/v1/endpoints/{endpoint}/disable",
        "disable_endpoint",
        "callbacks",
        "Send nothing more to it",
    )
    .maybe_taking("Reason")
    .gives(&[(200, "The endpoint", &[Part(JSON, "Endpoint")], &[])]),
    Operation::post(
        "/v1/endpoints/{endpoint}/test",
        "test_endpoint",
        "callbacks",
        "Send it a test message now, and tell what came of it",
    )
    .maybe_taking("Nothing")
    .gives(&[(200, "The attempt", &[Part(JSON, "TestResult")], &[])]),
    Operation::post(
        "/v1/endpoints/{endpoint}/recover",
        "recover_endpoint",
        "callbacks",
        "Send again what it did not take since a time",
    )
    .taking("Recovery")
    .gives(&[(202, "How many are due now", &[Part(JSON, "Recovered")], &[])]),
    Operation::get(
        "/.well-known/webhook-keys",
        "webhook_keys",
        "callbacks",
        "The public keys of asymmetric signatures",
    )
    .by(Auth::Nobody)
    .gives(&[(200, "The keys", &[Part(JSON, "KeyList")], &[])]),
    Operation::get("/v1/deliveries", "deliveries", "callbacks", "Callbacks, newest first")
        .with(&["limit", "cursor.delivery"])
        .gives(&[(200, "A page of callbacks", &[Part(JSON, "DeliveryPage")], &["Link"])]),
    Operation::get(
        "/v1/deliveries/{delivery}",
        "delivery",
        "callbacks",
        "A callback with its body and attempts",
    )
    .gives(&[(200, "The callback", &[Part(JSON, "DeliveryDetail")], &[])]),
    Operation::post("/v1/deliveries/{delivery}/replay", "replay", "callbacks", "Send a callback again")
        .gives(&[(202, "The callback, due now", &[Part(JSON, "Delivery")], &[])])
        .refuses(&[409, 503]),
    Operation::get("/v1/tokens", "tokens", "access", "The tokens, of the configuration and made by API")
        .gives(&[(200, "The tokens", &[Part(JSON, "TokenList")], &[])]),
    Operation::post("/v1/tokens", "make_token", "access", "Make a token; its secret is shown this once")
        .taking("NewToken")
        .gives(&[(201, "The token and its secret", &[Part(JSON, "TokenWithSecret")], &["Location"])])
        .refuses(&[409]),
    Operation::get("/v1/tokens/{token}", "token", "access", "A token").gives(&[(
        200,
        "The token",
        &[Part(JSON, "Token")],
        &[],
    )]),
    Operation::other(
        "DELETE",
        "/v1/tokens/{token}",
        "revoke_token",
        "access",
        "Revoke a token that was made by API",
    )
    .gives(&[(204, "It is not known any more", &[], &[])])
    .refuses(&[409, 503]),
    Operation::get(
        "/v1/audit",
        "audit",
        "access",
        "Who changed what, newest first; each record holds the hash of the one before",
    )
    .with(&["limit", "cursor.record"])
    .gives(&[(200, "A page of records", &[Part(JSON, "AuditPage")], &["Link"])]),
    Operation::get("/livez", "livez", "health", "Whether the process lives").by(Auth::Nobody).gives(&[(
        200,
        "It does",
        &[Part(JSON, "Status")],
        &[],
    )]),
    Operation::get("/readyz", "readyz", "health", "Whether new work is taken")
        .by(Auth::Nobody)
        .gives(&[(200, "It is", &[Part(JSON, "Status")], &[])])
        .refuses(&[503]),
    Operation::get("/metrics", "metrics", "health", "Counts for Prometheus").by(Auth::Nobody).gives(&[(
        200,
        "The counts",
        &[Part("text/plain", "text")],
        &[],
    )]),
    Operation::get("/openapi.json", "openapi", "health", "This document").by(Auth::Nobody).gives(&[(
        200,
        "The document",
        &[Part(JSON, "any")],
        &[],
    )]),
];
