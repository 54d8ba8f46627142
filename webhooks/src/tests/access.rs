//! Who may ask, how often, and what is kept of it: tokens by API, rates, the audit log.

use serde_json::json;

use super::*;
use crate::testing::{sample_task, task_id};
use crate::{Rate, Rates};

#[tokio::test]
async fn tokens_are_made_used_and_revoked() {
    let h = start().await;
    let new = json!({"name": "bot", "scopes": ["task:*:read"], "sites": ["*.a.test"], "expires_at": "2026-11-23T00:00:00Z"});
    let response = h.post("/v1/tokens", &new).send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["location"]),
        (201, &"/v1/tokens/bot".parse().unwrap())
    );
    let made = document(response).await;
    let secret = made["secret"].as_str().unwrap().to_owned();
    assert_eq!((&made["source"], &made["created_by"]), (&json!("api"), &json!("token:admin")));
    let bot = async |path: &str| ask(h.client.get(h.url(path)).bearer_auth(&secret)).await.0;
    assert_eq!((bot("/v1/tasks").await, bot("/v1/tokens").await, bot("/v1/audit").await), (200, 403, 403));
    let (_, list) = ask(h.get("/v1/tokens")).await;
    let names: Vec<&str> =
        list["tokens"].as_array().unwrap().iter().map(|token| token["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["ci", "admin", "looker", "bot"]);
    let (_, shown) = ask(h.get("/v1/tokens/bot")).await;
    assert_eq!((shown.get("secret"), &shown["expires_at"]), (None, &json!("2026-11-23T00:00:00.000Z")));
    for (name, want) in [("bot", 409), ("ci", 409)] {
        let again = json!({"name": name, "scopes": ["task:*:read"]});
        assert_eq!(ask(h.post("/v1/tokens", &again)).await.0, want, "{name}");
    }
    h.clock.set(NOW + 86_400_000);
    assert_eq!(bot("/v1/tasks").await, 401, "expired");
    h.clock.set(NOW);
    let revoke = |name: &str| h.client.delete(h.url(&format!("/v1/tokens/{name}"))).bearer_auth(ADMIN);
    assert_eq!(ask(revoke("ci")).await.0, 409, "it is in the configuration");
    assert_eq!(ask(revoke("bot")).await.0, 204);
    assert_eq!((ask(revoke("bot")).await.0, bot("/v1/tasks").await), (404, 401));
    h.end().await;
}

#[tokio::test]
async fn a_token_that_could_do_nothing_is_not_made() {
    let h = start().await;
    for (body, wrong) in [
        (json!({}), vec!["#/name", "#/scopes"]),
        (
            json!({"name": "A b", "scopes": ["fly"], "sites": ["a/b"], "networks": ["x"]}),
            vec!["#/name", "#/scopes/0", "#/sites/0", "#/networks/0"],
        ),
        (json!({"name": "a", "scopes": []}), vec!["#/scopes"]),
        (json!({"name": "a", "scopes": "task:*:read"}), vec!["#/scopes"]),
        (json!({"name": "a", "scopes": [7]}), vec!["#/scopes"]),
        (
            json!({"name": "a", "scopes": ["admin"], "expires_at": "2020-01-01T00:00:00Z"}),
            vec!["#/expires_at"],
        ),
    ] {
        let (status, problem) = ask(h.post("/v1/tokens", &body)).await;
        assert_eq!((status, pointers(&problem)), (422, wrong), "{body}");
    }
    h.end().await;
}

#[tokio::test]
async fn who_changed_what_is_kept() {
    let h = start().await;
    h.tasks.add(sample_task(1, "shop.a.test"));
    let body = json!({"workflow": "migrate", "params": {"site": "shop.a.test"}});
    ask(h.get("/v1/tasks")).await;
    ask(h.client.post(h.url("/v1/tasks")).json(&body)).await; // nobody
    ask(h.client.post(h.url("/v1/tasks")).bearer_auth(CI).json(&body)).await;
    let cancel = format!("/v1/tasks/{}/cancel", task_id(1));
    ask(h.client.post(h.url(&cancel)).bearer_auth(CI)).await;
    ask(h.client.post(h.url(&cancel)).bearer_auth(ADMIN).header("x-request-id", "mine")).await;
    h.app.flushed().await;
    let (_, page) = ask(h.get("/v1/audit?limit=2")).await;
    let seen = |page: &Value| -> Vec<(String, String, u64)> {
        let text = |record: &Value, field: &str| record[field].as_str().unwrap().to_owned();
        let records = page["records"].as_array().unwrap().iter();
        records
            .map(|record| (text(record, "by"), text(record, "action"), record["status"].as_u64().unwrap()))
            .collect()
    };
    let row = |by: &str, action: &str, status| (by.to_owned(), action.to_owned(), status);
    assert_eq!(seen(&page), [row("token:admin", "cancel", 202), row("token:ci", "cancel", 403)]);
    assert_eq!(
        (&page["records"][0]["request"], &page["records"][0]["target"]),
        (&json!("mine"), &json!(cancel))
    );
    assert_eq!(page["records"][0]["from"], "127.0.0.1");
    let next = page["next"].as_str().unwrap();
    let (_, rest) = ask(h.get(&format!("/v1/audit?cursor={next}"))).await;
    assert_eq!(seen(&rest), [row("token:ci", "create_task", 202)], "looks and strangers are not changes");
    assert_eq!(rest["records"][0]["task_id"], task_id(1000).as_str());
    h.end().await;
}

#[tokio::test]
async fn callers_are_held_to_their_rate_each_by_itself() {
    let rates = Rates { token: Some(Rate::parse("2/m").unwrap()), hook: Some(Rate::parse("1/m").unwrap()) };
    let h = start_with(HttpConfig { rates, ..HttpConfig::default() }).await;
    let first = h.get("/v1/tasks").send().await.unwrap();
    assert_eq!(first.headers()["ratelimit-policy"], "\"token\";q=2;w=60");
    assert_eq!(first.headers()["ratelimit"], "\"token\";r=1;t=30");
    assert_eq!(
        ask(h.get("/v1/tasks/task_00000000000000000000000000000001")).await.0,
        404,
        "counts too, once"
    );
    let third = h.get("/v1/tasks").send().await.unwrap();
    assert_eq!((third.status().as_u16(), &third.headers()["retry-after"]), (429, &"30".parse().unwrap()));
    let problem = document(third).await;
    assert_eq!(problem["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
    assert_eq!(ask(h.client.get(h.url("/v1/tasks")).bearer_auth(CI)).await.0, 200, "another caller");
    assert_eq!(ask(h.client.get(h.url("/livez"))).await.0, 200);
    h.clock.set(NOW + 30_000);
    assert_eq!(ask(h.get("/v1/tasks")).await.0, 200);
    let hook = |signature: &str| {
        h.client
            .post(h.url("/v1/hooks/push"))
            .header("x-hub-signature-256", signature.to_owned())
            .header("content-type", "application/json")
            .body("{}")
    };
    let key = crate::signature::Key::raw(&Secret::new(GITHUB)).unwrap();
    let right = crate::signature::sign_github(&key, b"{}");
    assert_eq!(ask(hook("sha256=00")).await.0, 401, "strangers use nothing up");
    assert_ne!(ask(hook(&right)).await.0, 429);
    assert_eq!(ask(hook(&right)).await.0, 429);
    h.end().await;
}

#[tokio::test]
async fn paths_say_what_may_be_asked() {
    let h = start().await;
    let options = |path: &str| h.client.request(reqwest::Method::OPTIONS, h.url(path)).send();
    let response = options("/v1/tasks").await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["allow"]),
        (204, &"GET, HEAD, POST".parse().unwrap())
    );
    assert_eq!(options("/nothing").await.unwrap().status(), 404);
    let wrong = h.client.put(h.url("/v1/tasks")).send().await.unwrap();
    assert_eq!(
        (wrong.status().as_u16(), &wrong.headers()["allow"]),
        (405, &"GET, HEAD, POST".parse().unwrap())
    );
    let head = h.client.head(h.url("/openapi.json")).send().await.unwrap();
    assert_eq!(head.status(), 200);
    let length: usize = head.headers()["content-length"].to_str().unwrap().parse().unwrap();
    let whole = h.client.get(h.url("/openapi.json")).send().await.unwrap();
    assert_eq!(document(whole).await.to_string().len(), length);
    h.end().await;
}

#[tokio::test]
async fn a_verb_can_demand_that_the_state_was_seen() {
    let h = start().await;
    h.tasks.add(sample_task(1, "shop.a.test"));
    let cancel = |tag: &str| {
        h.post(&format!("/v1/tasks/{}/cancel", task_id(1)), &json!({})).header("if-match", tag.to_owned())
    };
    for stale in ["\"7\"", "1", "W/\"1\"", "\"x\""] {
        let response = cancel(stale).send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["etag"]),
            (412, &"\"1\"".parse().unwrap()),
            "{stale}"
        );
    }
    assert_eq!(ask(cancel("\"7\", \"1\"")).await.0, 202);
    h.end().await;
}

#[tokio::test]
async fn priority_and_trace_go_with_the_task() {
    let h = start().await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (priority, want) in [(json!("high"), 50), (json!("low"), -50), (json!(7), 7), (json!(null), 0)] {
        let body = json!({"workflow": "migrate", "params": {"site": "shop.a.test"}, "priority": priority});
        let (status, task) = ask(h.post("/v1/tasks", &body).header("traceparent", trace)).await;
        assert_eq!((status, &task["priority"], &task["traceparent"]), (202, &json!(want), &json!(trace)));
        let submission = h.tasks.submissions().pop().unwrap();
        assert_eq!((submission.priority, submission.trace.as_deref()), (want, Some(trace)));
    }
    for wrong in [json!("urgent"), json!(101), json!(1.5), json!([])] {
        let body = json!({"workflow": "migrate", "params": {"site": "shop.a.test"}, "priority": wrong});
        let (status, problem) = ask(h.post("/v1/tasks", &body)).await;
        assert_eq!((status, pointers(&problem)), (422, vec!["#/priority"]), "{wrong}");
    }
    h.end().await;
}
