//! The inbox: whatever came, with what became of it, and once more if somebody wants; and what a message would do.

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use super::*;
use crate::Provider;

fn push(h: &Harness, delivery: &str, body: &Value) -> RequestBuilder {
    let key = Provider::Github.key(&Secret::new(GITHUB)).unwrap();
    let body = body.to_string();
    let mut request = h.client.post(h.url("/v1/hooks/push")).header("content-type", "application/json");
    for (name, value) in Provider::Github.sign(&[key], delivery, NOW / 1000, body.as_bytes()) {
        request = request.header(name, value);
    }
    request.body(body)
}

fn main_push(name: &str) -> Value {
    json!({"ref": "refs/heads/main", "repository": {"name": name}, "admin_password": "hunter2"})
}

#[tokio::test]
async fn whatever_comes_is_kept_with_what_became_of_it() {
    let h = start().await;
    assert_eq!(ask(push(&h, "d-1", &main_push("shop"))).await.0, 202);
    assert_eq!(ask(push(&h, "d-1", &main_push("shop"))).await.0, 200);
    assert_eq!(ask(push(&h, "d-2", &json!({"ref": "refs/heads/dev"}))).await.0, 200);
    assert_eq!(ask(push(&h, "d-3", &json!({"ref": "refs/heads/main"}))).await.0, 422);
    let forged = push(&h, "d-4", &main_push("shop")).body(r#"{"token":"hunter2","a":1}"#);
    assert_eq!(ask(forged).await.0, 401);
    let unknown = h.client.post(h.url("/v1/hooks/nope")).json(&json!({"a": 1}));
    assert_eq!(ask(unknown).await.0, 401);
    let ping =
        h.client.post(h.url("/v1/hooks/nope")).header("x-event-key", "diagnostics:ping").json(&json!({}));
    assert_eq!(ask(ping).await.0, 200, "Bitbucket's test says nothing about hooks");
    let (status, page) = ask(h.get("/v1/inbox")).await;
    assert_eq!(status, 200);
    let got: Vec<(&str, &str)> = page["inbox"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (line["hook"].as_str().unwrap(), line["status"].as_str().unwrap()))
        .collect();
    let want = [
        ("nope", "rejected"),
        ("nope", "rejected"),
        ("push", "rejected"),
        ("push", "invalid"),
        ("push", "ignored"),
        ("push", "duplicate"),
        ("push", "accepted"),
    ];
    assert_eq!(got, want);
    let accepted = &page["inbox"][6];
    let task = h.tasks.submissions().len();
    assert_eq!((task, accepted["site"].as_str()), (1, Some("shop.a.test")));
    assert_eq!(page["inbox"][5]["task_id"], accepted["task_id"], "a duplicate names its task");
    let (_, whole) = ask(h.get(accepted["links"]["self"].as_str().unwrap())).await;
    assert_eq!(whole["filter"][1], json!({"condition": "branch == main", "holds": true, "reason": null}));
    assert_eq!((&whole["signature"]["key"], &whole["replayable"]), (&json!(0), &json!(true)));
    let (_, rejected) = ask(h.get(page["inbox"][2]["links"]["self"].as_str().unwrap())).await;
    assert_eq!(rejected["reason"], "no key of the hook gives this signature");
    assert_eq!(
        (&rejected["payload"], &rejected["replayable"]),
        (&json!({"token": "***", "a": 1}), &json!(false))
    );
    let (_, invalid) = ask(h.get(page["inbox"][3]["links"]["self"].as_str().unwrap())).await;
    assert_eq!(invalid["errors"][0]["pointer"], "#/repository/name");
    for shown in [whole, rejected, invalid, page] {
        assert!(!shown.to_string().contains("hunter2") && !shown.to_string().contains("sha256="), "{shown}");
    }
    let ignored = ask(h.get("/v1/inbox?status=ignored&hook=push")).await.1;
    assert_eq!(ignored["inbox"].as_array().map(Vec::len), Some(1));
    assert_eq!(ask(h.get("/v1/inbox?status=lost")).await.0, 422);
    h.end().await;
}

#[tokio::test]
async fn pages_follow_each_other_and_tokens_see_their_sites() {
    let h = start().await;
    for n in 0..5 {
        assert_eq!(ask(push(&h, &format!("d-{n}"), &main_push(&format!("s{n}")))).await.0, 202);
    }
    let (mut path, mut seen) = ("/v1/inbox?limit=2".to_owned(), Vec::new());
    loop {
        let page = ask(h.get(&path)).await.1;
        seen.extend(page["inbox"].as_array().unwrap().iter().map(|line| line["site"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/inbox?limit=2&cursor={next}");
    }
    let want: Vec<Value> = (0..5).rev().map(|n| json!(format!("s{n}.a.test"))).collect();
    assert_eq!(seen, want);
    assert_eq!(ask(push(&h, "x", &json!({"ref": "refs/heads/dev"}))).await.0, 200);
    let ci = |path: &str| h.client.get(h.url(path)).bearer_auth(CI);
    let page = ask(ci("/v1/inbox")).await.1;
    assert_eq!(page["inbox"].as_array().map(Vec::len), Some(5), "what is about no site, it does not see");
    let id = h.tasks.inbox.all()[0].id.clone();
    assert_eq!(ask(ci(&format!("/v1/inbox/{id}"))).await.0, 404);
    assert_eq!(ask(h.client.get(h.url("/v1/inbox"))).await.0, 401);
    h.end().await;
}

#[tokio::test]
async fn a_message_can_be_tried_again() {
    let h = start().await;
    h.tasks.refuse(Some(kedge_engine::service::SubmitError::Unavailable("disk low".to_owned())));
    assert_eq!(ask(push(&h, "d-1", &main_push("shop"))).await.0, 503);
    h.tasks.refuse(None);
    let failed = h.tasks.inbox.all()[0].clone();
    assert_eq!(failed.line["status"], "refused");
    let replay = |id: &str| h.post(&format!("/v1/inbox/{id}/replay"), &json!({}));
    let (status, task) = ask(replay(&failed.id)).await;
    assert_eq!((status, &task["params"]), (202, &json!({"site": "shop.a.test"})));
    assert_eq!(h.tasks.submissions()[0].actor.name, "token:admin");
    assert_eq!(
        ask(replay(&failed.id)).await.1["status"],
        "duplicate",
        "its sender may have sent it again too"
    );
    assert_eq!(ask(push(&h, "d-1", &main_push("shop"))).await.1["status"], "duplicate");
    let done = h.tasks.inbox.all().into_iter().find(|message| message.line["status"] == "accepted").unwrap();
    assert_eq!(done.line["replay_of"], json!(failed.id));
    let (status, anew) = ask(replay(&done.id)).await;
    assert_eq!(status, 202, "what has become a task becomes another one");
    assert_ne!(anew["id"], task["id"]);
    let forged = push(&h, "d-9", &main_push("shop")).body("{}");
    assert_eq!(ask(forged).await.0, 401);
    assert_eq!(ask(replay(&h.tasks.inbox.all()[0].id)).await.0, 409, "nobody knows who sent it");
    assert_eq!(ask(replay("in_nothing")).await.0, 404);
    let ci = h.client.post(h.url(&format!("/v1/inbox/{}/replay", done.id))).bearer_auth(CI);
    assert_eq!(ask(ci).await.0, 403);
    h.end().await;
}

#[tokio::test]
async fn what_a_message_would_do_is_explained_and_not_done() {
    let h = start().await;
    let explain = |body: Value| h.post("/v1/hooks/push/explain", &body);
    let headers = json!({"x-github-event": "push", "x-github-delivery": "d-1"});
    let (status, told) = ask(explain(json!({"payload": main_push("shop"), "headers": headers}))).await;
    assert_eq!((status, &told["decision"]), (200, &json!("task")), "{told}");
    assert_eq!(told["signature"]["holds"], false, "it was not signed; the rest is explained all the same");
    assert_eq!((&told["params"], &told["workflow"]), (&json!({"site": "shop.a.test"}), &json!("migrate")));
    assert_eq!(told["plan"]["plan_hash"], "ab12");
    let key = Provider::Github.key(&Secret::new(GITHUB)).unwrap();
    let body = json!({"ref": "refs/heads/dev"}).to_string();
    let mut signed = headers.clone();
    signed["x-hub-signature-256"] = crate::signature::sign_github(&key, body.as_bytes()).into();
    let (_, told) = ask(explain(json!({"body": body, "headers": signed}))).await;
    assert_eq!(
        (&told["signature"], &told["decision"]),
        (&json!({"holds": true, "key": 0}), &json!("ignored"))
    );
    assert_eq!(told["filter"][1]["reason"], "this does not hold: branch == main (branch: dev)");
    let (_, told) = ask(explain(json!({"payload": {"ref": "refs/heads/main"}, "headers": headers}))).await;
    assert_eq!(
        (&told["decision"], &told["errors"][0]["pointer"]),
        (&json!("invalid"), &json!("#/repository/name"))
    );
    assert_eq!(ask(explain(json!({"body": "x", "payload": {}}))).await.0, 422);
    assert_eq!(ask(h.post("/v1/hooks/nope/explain", &json!({"payload": {}}))).await.0, 404);
    assert!(h.tasks.submissions().is_empty() && h.tasks.inbox.all().is_empty());
    h.end().await;
}
