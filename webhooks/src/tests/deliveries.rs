//! Callbacks as the API shows them.

use kedge_engine::outbox::{CallbackStatus, Delivery};
use serde_json::json;

use super::*;

#[tokio::test]
async fn deliveries_are_listed_shown_and_replayed() {
    let h = start().await;
    for n in 1..=3 {
        h.outbox.queue(&format!("msg_{n:032}"), "ci", n, 4);
    }
    h.outbox.queue("msg_x", "https://ci.test/job/secret-path", 1, 5);
    let delivery = Delivery {
        callback: "msg_x".to_owned(),
        attempt: 1,
        at: NOW,
        duration_ms: 12,
        status: Some(500),
        error: Some("it answered 500".to_owned()),
        answer: "oops".to_owned(),
    };
    kedge_engine::outbox::Outbox::record(&*h.outbox, delivery, CallbackStatus::Dead { at: NOW })
        .await
        .unwrap();
    let (_, page) = ask(h.get("/v1/deliveries?limit=2")).await;
    let items = page["deliveries"].as_array().unwrap();
    assert_eq!((items.len(), &items[0]["id"], &items[0]["status"]), (2, &json!("msg_x"), &json!("dead")));
    assert_eq!(items[0]["endpoint"], "https://ci.test", "a URL's path may be secret");
    let next = page["next"].as_str().unwrap();
    let (_, page) = ask(h.get(&format!("/v1/deliveries?limit=2&cursor={next}"))).await;
    assert_eq!(page["deliveries"].as_array().unwrap().len(), 2);
    let (_, shown) = ask(h.get("/v1/deliveries/msg_x")).await;
    assert_eq!(
        (&shown["deliveries"][0]["status"], &shown["body"]["data"]["site"]),
        (&json!(500), &json!("a.test"))
    );
    assert_eq!(ask(h.get("/v1/deliveries/msg_gone")).await.0, 404);
    assert_eq!(ask(h.get("/v1/deliveries/nope")).await.0, 404);
    assert_eq!(ask(h.get("/v1/deliveries?cursor=%00")).await.0, 422);
    let ci = h.client.get(h.url("/v1/deliveries/msg_x")).bearer_auth(CI);
    assert_eq!(ask(ci).await.0, 404, "a.test is not among its sites");
    let ci = h.client.post(h.url("/v1/deliveries/msg_x/replay")).bearer_auth(CI);
    assert_eq!(ask(ci).await.0, 403);
    let replay = h.client.post(h.url("/v1/deliveries/msg_x/replay")).bearer_auth(ADMIN);
    let (status, shown) = ask(replay).await;
    assert_eq!((status, &shown["status"]), (202, &json!("due")));
    assert_eq!(h.outbox.status("msg_x"), CallbackStatus::Due { at: NOW });
    h.end().await;
}
