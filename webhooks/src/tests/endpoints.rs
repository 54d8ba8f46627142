//! Endpoints by API: made, changed, rotated, tried, disabled, recovered and removed.

use kedge_engine::outbox::{CallbackStatus, Outbox as _};
use kedge_engine::task::TaskState;
use serde_json::json;

use super::*;
use crate::signature::{Key, verify_standard};

/// A receiver that answers everything with one status and keeps what it gets.
async fn receiver(status: &'static str) -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, got) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = vec![0; 65536];
            let mut have = 0;
            loop {
                have += stream.read(&mut bytes[have..]).await.unwrap_or(0);
                let text = String::from_utf8_lossy(&bytes[..have]).into_owned();
                if text.split_once("\r\n\r\n").is_some_and(|(_, body)| body.ends_with('}')) {
                    sender.send(text).unwrap();
                    break;
                }
            }
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi");
            // The sender may have hung up; what it sent is kept.
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (address, got)
}

async fn local() -> Harness {
    let h = start_with(HttpConfig::default()).await;
    let endpoint_networks = vec!["127.0.0.0/8".parse().unwrap()];
    h.app.replace(Access { endpoint_networks, ..access() }).unwrap();
    h
}

fn header<'a>(request: &'a str, name: &str) -> &'a str {
    let line = request.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no {name} in {request}"))
}

#[tokio::test]
async fn an_endpoint_is_made_tried_rotated_and_removed() {
    let h = local().await;
    let (address, mut got) = receiver("200 OK").await;
    let new = json!({
        "name": "bot", "url": format!("http://{address}/secret-path"), "events": ["task.succeeded"], "allow_private": ["127.0.0.0/8"],
    });
    let response = h.post("/v1/endpoints", &new).send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["location"]),
        (201, &"/v1/endpoints/bot".parse().unwrap())
    );
    let made = document(response).await;
    let first = made["secret"].as_str().unwrap().to_owned();
    assert!(!made.to_string().contains("secret-path"), "paths of receivers can be secret");
    assert_eq!(ask(h.post("/v1/endpoints", &new)).await.0, 409);
    let (status, result) = ask(h.post("/v1/endpoints/bot/test", &json!({}))).await;
    assert_eq!(
        (status, &result["delivered"], &result["answer"]),
        (200, &json!(true), &json!("hi")),
        "{result}"
    );
    let (_, rotated) = ask(h.post("/v1/endpoints/bot/rotate", &json!({"grace_seconds": 60}))).await;
    let second = rotated["secret"].as_str().unwrap().to_owned();
    assert_eq!((first == second, &rotated["keys"]), (false, &json!(2)));
    ask(h.post("/v1/endpoints/bot/test", &json!({}))).await;
    got.recv().await.unwrap();
    let request = got.recv().await.unwrap();
    let (id, time, signature) = (
        header(&request, "webhook-id"),
        header(&request, "webhook-timestamp"),
        header(&request, "webhook-signature"),
    );
    let body = request.split_once("\r\n\r\n").unwrap().1;
    for secret in [&first, &second] {
        let key = Key::standard(&Secret::new(secret)).unwrap();
        assert_eq!(verify_standard(&[key], id, time, signature, body.as_bytes(), NOW / 1000), Ok(()));
    }
    let (_, keys) = ask(h.client.get(h.url("/.well-known/webhook-keys"))).await;
    let decode = |text: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.decode(text).unwrap()
    };
    let public = decode(keys["keys"][0]["whpk"].as_str().unwrap().strip_prefix("whpk_").unwrap());
    let public = ed25519_dalek::VerifyingKey::from_bytes(&public.try_into().unwrap()).unwrap();
    let asymmetric = signature.split(' ').find_map(|one| one.strip_prefix("v1a,")).unwrap();
    let asymmetric = ed25519_dalek::Signature::from_slice(&decode(asymmetric)).unwrap();
    public.verify_strict(format!("{id}.{time}.{body}").as_bytes(), &asymmetric).unwrap();
    h.clock.set(NOW + 60_000);
    assert_eq!(ask(h.get("/v1/endpoints/bot")).await.1["keys"], 1, "the grace is over");
    let remove = |name: &str| h.client.delete(h.url(&format!("/v1/endpoints/{name}"))).bearer_auth(ADMIN);
    assert_eq!(
        (ask(remove("ci")).await.0, ask(remove("bot")).await.0, ask(remove("bot")).await.0),
        (409, 204, 404)
    );
    h.end().await;
}

#[tokio::test]
async fn an_endpoint_is_changed_within_what_is_allowed() {
    let h = local().await;
    let wrong = json!({
        "name": "A", "url": "ftp://x", "events": ["task.flown"], "allow_private": ["10.0.0.0/8"], "payload": "fat", "form": "fax",
    });
    let (status, problem) = ask(h.post("/v1/endpoints", &wrong)).await;
    assert_eq!((status, pointers(&problem)), (422, vec!["#/allow_private", "#/payload", "#/form"]));
    let (status, problem) =
        ask(h.post("/v1/endpoints", &json!({"name": "A", "url": "ftp://x", "events": ["task.flown"]}))).await;
    assert_eq!((status, pointers(&problem)), (422, vec!["#/name", "#/url", "#/events/0"]));
    assert_eq!(ask(h.post("/v1/endpoints", &json!({"name": "a", "url": "https://a.test/x"}))).await.0, 201);
    let patch = |name: &str, body: Value| {
        h.client.patch(h.url(&format!("/v1/endpoints/{name}"))).bearer_auth(ADMIN).json(&body)
    };
    let (status, changed) =
        ask(patch("a", json!({"url": "https://b.test/x", "payload": "full", "form": "cloudevents"}))).await;
    assert_eq!(
        (status, &changed["origin"], &changed["payload"], &changed["form"]),
        (200, &json!("https://b.test"), &json!("full"), &json!("cloudevents"))
    );
    assert_eq!(changed["keys"], 1, "the secret stays");
    // A hook of the configuration may name what was made by API, at a reload as at the start.
    let mut again = access();
    again.hooks[0] = Hook::new(HookSpec {
        name: "deploy".to_owned(),
        provider: "standard".to_owned(),
        secrets: vec![Secret::new(SECRET)],
        workflow: "migrate".to_owned(),
        callback: Some(json!({"endpoint": "a"})),
        ..HookSpec::default()
    })
    .unwrap();
    h.app.reload(again, vec![endpoint("ci", "https://ci.test/", &[])]).unwrap();
    assert_eq!((ask(patch("ci", json!({}))).await.0, ask(patch("x", json!({}))).await.0), (409, 404));
    let disable = json!({"reason": "moving house"});
    assert_eq!(ask(h.post("/v1/endpoints/a/disable", &disable)).await.1["disabled"], "moving house");
    assert_eq!(ask(h.post("/v1/endpoints/a/enable", &json!({}))).await.1["disabled"], json!(null));
    assert_eq!(ask(h.client.post(h.url("/v1/endpoints")).bearer_auth(CI).json(&json!({}))).await.0, 403);
    assert_eq!(ask(h.client.get(h.url("/v1/endpoints")).bearer_auth(CI)).await.0, 200);
    h.end().await;
}

#[tokio::test]
async fn what_was_not_taken_since_a_time_is_sent_again() {
    let h = start().await;
    let own_url = "https://ci.test/hook/jobs/7";
    for (n, receiver, status) in [
        (1, "ci", CallbackStatus::Dead { at: 1 }),
        (2, "ci", CallbackStatus::Delivered { at: 1 }),
        (3, "ci", CallbackStatus::Due { at: NOW + 9_000_000 }),
        (4, "ci", CallbackStatus::Dead { at: 1 }),
        (5, own_url, CallbackStatus::Dead { at: 1 }),
        (6, "https://elsewhere.example/x", CallbackStatus::Dead { at: 1 }),
    ] {
        let id = format!("msg_{n}");
        h.outbox.queue(&id, receiver, 1, n);
        let mut callbacks = h.outbox.callbacks.lock().unwrap();
        let callback = callbacks.get_mut(&id).unwrap();
        callback.status = status;
        callback.state = TaskState::Succeeded;
        callback.created_at = if n == 4 { NOW - 10_000 } else { NOW };
    }
    let (status, _) = ask(h.post("/v1/endpoints/ci/recover", &json!({}))).await;
    assert_eq!(status, 422);
    let (status, answer) =
        ask(h.post("/v1/endpoints/ci/recover", &json!({"since": "2026-11-22T15:59:59Z"}))).await;
    assert_eq!((status, &answer), (202, &json!({"replayed": 3, "more": false})));
    assert_eq!(h.outbox.due(NOW, 10).unwrap().len(), 3);
    assert_eq!(
        h.outbox.status("msg_5"),
        CallbackStatus::Due { at: NOW },
        "a task's own URL at the same receiver"
    );
    assert_eq!(h.outbox.status("msg_6"), CallbackStatus::Dead { at: 1 }, "another receiver's");
    assert_eq!(h.outbox.status("msg_4"), CallbackStatus::Dead { at: 1 }, "older than asked for");
    h.end().await;
}
