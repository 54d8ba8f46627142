//! Webhooks: who is let in, what becomes of a body, and what happens when it comes again.

use kedge_engine::service::SubmitError;
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use super::*;
use crate::Provider;
use crate::signature::Key;

fn standard_key() -> Vec<Key> {
    vec![Provider::Standard.key(&Secret::new(SECRET)).unwrap()]
}

fn signed(h: &Harness, hook: &str, id: &str, at_s: u64, body: &str) -> RequestBuilder {
    let mut request =
        h.client.post(h.url(&format!("/v1/hooks/{hook}"))).header("content-type", "application/json");
    for (name, value) in Provider::Standard.sign(&standard_key(), id, at_s, body.as_bytes()) {
        request = request.header(name, value);
    }
    request.body(body.to_owned())
}

fn github(h: &Harness, event: &str, delivery: &str, kind: &str, body: &str) -> RequestBuilder {
    let key = Provider::Github.key(&Secret::new(GITHUB)).unwrap();
    let signature = crate::signature::sign_github(&key, body.as_bytes());
    let request =
        h.client.post(h.url("/v1/hooks/push")).header("content-type", kind).header("x-github-event", event);
    request
        .header("x-github-delivery", delivery)
        .header("x-hub-signature-256", signature)
        .body(body.to_owned())
}

#[tokio::test]
async fn a_signed_webhook_becomes_a_task_once() {
    let h = start().await;
    let body = r#"{"site":"shop.a.test","target_platform":"wp-68"}"#;
    let response = signed(&h, "deploy", "msg_1", NOW / 1000, body).send().await.unwrap();
    assert_eq!(response.status(), 202);
    assert!(response.headers().contains_key("location"));
    let task = document(response).await;
    assert_eq!(task["correlation_id"], "msg_1");
    let (status, again) = ask(signed(&h, "deploy", "msg_1", NOW / 1000 + 7, body)).await;
    assert_eq!((status, &again["status"], &again["task_id"]), (200, &json!("duplicate"), &task["id"]));
    let (status, problem) = ask(signed(&h, "deploy", "msg_1", NOW / 1000, r#"{"site":"b.a.test"}"#)).await;
    assert_eq!(status, 422, "the same id with another body: {problem}");
    let (status, _) = ask(signed(&h, "deploy", "msg_2", NOW / 1000, body)).await;
    assert_eq!(status, 202, "the same body under another signed id is meant");
    let submissions = h.tasks.submissions();
    assert_eq!((submissions.len(), submissions[0].actor.name.as_str()), (2, "hook:deploy"));
    h.end().await;
}

#[tokio::test]
async fn whoever_has_no_key_learns_nothing() {
    let h = start().await;
    let body = r#"{"site":"shop.a.test"}"#;
    let now = NOW / 1000;
    let forged = signed(&h, "deploy", "msg_1", now, body).body(r#"{"site":"evil.a.test"}"#);
    let unsigned = h.client.post(h.url("/v1/hooks/deploy")).json(&json!({}));
    let mut answers = Vec::new();
    for request in [
        forged,
        unsigned,
        signed(&h, "deploy", "msg_1", now - 301, body),
        signed(&h, "deploy", "msg_1", now + 301, body),
        signed(&h, "nope", "msg_1", now, body),
        signed(&h, "deploy", "msg_1", now, body).header("webhook-id", "msg_2"),
        signed(&h, "push", "msg_1", now, body),
        signed(&h, "%00", "msg_1", now, "not json"),
    ] {
        let response = request.send().await.unwrap();
        let challenge = response.headers()["www-authenticate"].clone();
        let mut problem = document(response).await;
        problem.as_object_mut().unwrap().remove("instance");
        answers.push((problem, challenge));
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    assert_eq!(answers[0].0["status"], 401);
    assert!(h.tasks.submissions().is_empty());
    h.clock.set(NOW + 301_000);
    let (status, _) = ask(signed(&h, "deploy", "msg_1", now, body)).await;
    assert_eq!(status, 401, "a replay after the window");
    h.end().await;
}

#[tokio::test]
async fn github_pushes_are_filtered_mapped_and_deduplicated() {
    let h = start().await;
    let json = "application/json";
    let body = r#"{"ref":"refs/heads/main","repository":{"name":"shop"},"platform":"wp-68"}"#;
    let (status, task) = ask(github(&h, "push", "d-1", json, body)).await;
    assert_eq!((status, &task["params"]), (202, &json!({"site": "shop.a.test", "target_platform": "wp-68"})));
    let (status, again) = ask(github(&h, "push", "d-1", json, body)).await;
    assert_eq!((status, &again["status"]), (200, &json!("duplicate")), "redelivered");
    let (status, again) = ask(github(&h, "push", "d-2", json, body)).await;
    assert_eq!((status, &again["status"]), (200, &json!("duplicate")), "the delivery's id is not signed");
    let (status, ping) = ask(github(&h, "ping", "d-3", json, r#"{"zen":"x"}"#)).await;
    assert_eq!((status, &ping["status"]), (200, &json!("ignored")));
    let (status, other) = ask(github(&h, "push", "d-4", json, r#"{"ref":"refs/heads/dev"}"#)).await;
    assert_eq!((status, &other["status"]), (200, &json!("ignored")));
    assert_eq!(other["reason"], "this does not hold: branch == main (branch: dev)");
    let form: String = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("payload", r#"{"ref":"refs/heads/main","repository":{"name":"blog"}}"#)
        .finish();
    let (status, task) = ask(github(&h, "push", "d-5", "application/x-www-form-urlencoded", &form)).await;
    assert_eq!((status, &task["params"]), (202, &json!({"site": "blog.a.test"})));
    assert_eq!(h.tasks.submissions().len(), 2);
    h.end().await;
}

#[tokio::test]
async fn bodies_that_do_not_fit_are_explained_where_the_sender_wrote_them() {
    let h = start().await;
    let json = "application/json";
    let main = |rest: Value| {
        let mut body = json!({"ref": "refs/heads/main"});
        body.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        body.to_string()
    };
    let (status, problem) = ask(github(&h, "push", "1", json, &main(json!({})))).await;
    assert_eq!((status, pointers(&problem)), (422, vec!["#/repository/name"]));
    let wrong = main(json!({"repository": {"name": "shop"}, "platform": 7}));
    let (status, problem) = ask(github(&h, "push", "2", json, &wrong)).await;
    assert_eq!((status, pointers(&problem)), (422, vec!["#/platform"]));
    let elsewhere = main(json!({"repository": {"name": "x.evil.test/"}}));
    let (status, problem) = ask(github(&h, "push", "3", json, &elsewhere)).await;
    assert_eq!(status, 422, "{problem}");
    let (status, problem) = ask(github(&h, "push", "4", "text/plain", "x")).await;
    assert_eq!(status, 415, "{problem}");
    let (status, problem) = ask(github(&h, "push", "5", json, "{\"ref\":")).await;
    assert_eq!(status, 400, "{problem}");
    let now = NOW / 1000;
    let (status, problem) =
        ask(signed(&h, "deploy", "m1", now, r#"{"site":"a.test","password":"hunter2"}"#)).await;
    assert_eq!((status, pointers(&problem)), (422, vec!["#/password"]));
    assert!(!problem.to_string().contains("hunter2"), "{problem}");
    let (status, _) = ask(signed(&h, "deploy", "m2", now, r#"{"site":"a.test","site":"b.test"}"#)).await;
    assert_eq!(status, 422);
    assert!(h.tasks.submissions().is_empty());
    h.tasks.refuse(Some(SubmitError::Unavailable("disk low".to_owned())));
    let response = signed(&h, "deploy", "m3", now, r#"{"site":"a.test"}"#).send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (503, &"30".parse().unwrap())
    );
    // A pipeline deploys what is deployed already: no mistake, and no reason for a forge to switch the hook off.
    h.tasks.refuse(Some(SubmitError::Nothing("nothing would change".to_owned())));
    let (status, nothing) = ask(signed(&h, "deploy", "m3", now, r#"{"site":"a.test"}"#)).await;
    assert_eq!((status, &nothing["status"]), (200, &json!("ignored")));
    assert_eq!(nothing["reason"], "nothing would change");
    h.tasks.refuse(None);
    let (status, _) = ask(signed(&h, "deploy", "m3", now, r#"{"site":"a.test"}"#)).await;
    assert_eq!(status, 202, "what was refused can be sent again");
    h.end().await;
}

#[tokio::test]
async fn a_push_is_told_beside_its_commit_at_the_configured_forge_alone() {
    use kedge_engine::outbox::Composer as _;

    let h = start().await;
    let forge = Endpoint::new(EndpointSpec {
        name: "statuses".to_owned(),
        forge: Some("github".to_owned()),
        secrets: vec![Secret::new("t0ken")],
        ..EndpointSpec::default()
    });
    let endpoints = vec![endpoint("ci", "https://ci.test/hook", &[]), forge.unwrap()];
    let hook = |endpoint: &str| {
        Hook::new(HookSpec {
            name: "push".to_owned(),
            provider: "github".to_owned(),
            secrets: vec![Secret::new(GITHUB)],
            workflow: "migrate".to_owned(),
            params: Some(json!({ "site": "{/repository/name}.a.test" })),
            status: Some(crate::StatusSpec { endpoint: endpoint.to_owned(), ..Default::default() }),
            ..HookSpec::default()
        })
        .unwrap()
    };
    let with = |endpoint: &str| Access { hooks: vec![hook(endpoint)], ..access() };
    let mistakes = h.app.reload(with("ci"), endpoints.clone()).unwrap_err();
    assert_eq!(mistakes[0].field, "hooks.push.status.endpoint", "{mistakes:?}");
    h.app.reload(with("statuses"), endpoints.clone()).unwrap();
    let sha = "6dcb09b5b57875f334f61aebed695e2e4193db5e";
    let body = json!({ "after": sha, "repository": { "name": "shop", "full_name": "acme/shop",
        "statuses_url": "https://evil.test/steal/{sha}" } });
    let push = github(&h, "push", "d1", "application/json", &body.to_string());
    assert_eq!(ask(push).await.0, 202);
    let callback = h.tasks.submissions()[0].callback.clone().unwrap();
    assert_eq!(
        callback,
        json!({ "status": { "endpoint": "statuses", "repository": "acme/shop", "commit": sha } })
    );
    let endpoints = Endpoints::new(endpoints).unwrap();
    let links = crate::api::Links::new(Some(&"https://kedge.test".parse().unwrap()));
    let composer = crate::EndpointComposer::new(endpoints.clone(), links, h.clock.clone());
    let mut task = crate::testing::sample_task(7, "shop.a.test");
    task.state = kedge_engine::task::TaskState::Running;
    let told = composer.compose(&task, Some(&callback));
    let [status] = &told[..] else { panic!("{told:?}") };
    let (_, url) = endpoints.target(&status.endpoint).unwrap();
    assert_eq!(url.as_str(), format!("https://api.github.com/repos/acme/shop/statuses/{sha}"));
    assert_eq!(serde_json::from_str::<Value>(&status.body).unwrap()["state"], "pending");
    // A body without a commit starts its task all the same; and no caller of the API gets at the token.
    let branch_gone =
        json!({ "after": "0".repeat(40), "repository": { "name": "shop", "full_name": "acme/shop" } });
    assert_eq!(ask(github(&h, "push", "d2", "application/json", &branch_gone.to_string())).await.0, 202);
    assert_eq!(h.tasks.submissions()[1].callback, None);
    for callback in
        [json!({"endpoint": "statuses"}), json!({"url": "https://api.github.com/gists"}), callback]
    {
        let body = json!({ "workflow": "backup", "params": { "site": "shop.a.test" }, "callback": callback });
        assert_eq!(ask(h.post("/v1/tasks", &body)).await.0, 422, "{callback}");
    }
    h.end().await;
}
