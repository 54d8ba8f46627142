//! A second person's yes and no, by API, by command and by button.

use kedge_engine::outbox::Composer as _;
use kedge_engine::task::{ApprovalState, TaskState};
use serde_json::{Value, json};

use super::chat::{Host, SLACK, press, said, start_with_chat, text};
use super::*;
use crate::api::Links;
use crate::testing::{asked_task, task_id};
use crate::{EndpointComposer, Form};

fn message(h: &Harness, form: Form) -> Value {
    let spec = EndpointSpec {
        name: "room".to_owned(),
        url: "https://hooks.slack.com/services/x".to_owned(),
        secrets: if form == Form::Standard { vec![Secret::new(SECRET)] } else { Vec::new() },
        form,
        ..EndpointSpec::default()
    };
    let endpoints = Endpoints::new(vec![Endpoint::new(spec).unwrap()]).unwrap();
    endpoints
        .open(Arc::new(MemoryStore::new()), crate::Master::new(Secret::new("the master secret of a test")))
        .unwrap();
    let links = Links::new(Some(&"https://kedge.test".parse().unwrap()));
    let composer = EndpointComposer::new(endpoints, links, h.clock.clone());
    let callbacks = composer.compose(&asked_task(7, "shop.a.test"), None);
    assert_eq!((callbacks.len(), callbacks[0].event.as_str()), (1, "task.approval_requested"));
    serde_json::from_str(&callbacks[0].body).unwrap()
}

#[tokio::test]
async fn by_api_with_the_scope_and_a_reason() {
    let h = start().await;
    h.tasks.add(asked_task(7, "shop.a.test"));
    let path = |verb: &str| format!("/v1/tasks/{}/{verb}", task_id(7));
    let (_, task) = ask(h.get(&format!("/v1/tasks/{}", task_id(7)))).await;
    assert_eq!((&task["state"], &task["approval"]["state"]), (&json!("waiting"), &json!("asked")));
    assert_eq!(task["approval"]["approvers"], json!(["anna", "bert"]));
    assert_eq!(task["approval"]["until"], "2026-11-23T16:00:00.000Z");
    let ci = h.client.post(h.url(&path("approve"))).bearer_auth(CI);
    let (status, body) = ask(ci).await;
    assert_eq!(status, 403, "who may create may not approve: {body}");
    let (status, task) = ask(h.post(&path("approve"), &json!({"reason": "looked at"}))).await;
    assert_eq!((status, &task["approval"]["state"]), (202, &json!("granted")));
    assert_eq!(task["approval"]["by"], json!({"name": "token:admin", "via": "http"}));
    assert_eq!(ask(h.post(&path("refuse"), &json!({}))).await.0, 409);
    let (_, log) = ask(h.get("/v1/audit?limit=3")).await;
    let actions: Vec<&str> =
        log["records"].as_array().unwrap().iter().map(|record| record["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["refuse", "approve", "approve"], "those that were refused too");
    h.end().await;
}

#[tokio::test]
async fn whoever_is_asked_hears_of_it_in_each_form() {
    let h = start().await;
    let standard = message(&h, Form::Standard);
    let (event, data) = (&standard["type"], &standard["data"]);
    assert_eq!((event, &data["state"]), (&json!("task.approval_requested"), &json!("waiting")));
    assert_eq!(
        (&data["approval"]["policy"], &data["approval"]["before"]),
        (&json!("shops"), &json!("pivot"))
    );
    for (form, buttons) in [(Form::Slack, "/blocks/1/elements"), (Form::Mattermost, "/attachments/0/actions")]
    {
        let message = message(&h, form);
        let text = message["text"].as_str().unwrap();
        for words in
            ["waits for an approval", "asked for by token:ci; anna or bert has to", "/kedge approve 00000007"]
        {
            assert!(text.contains(words), "{words:?} is not in {text}");
        }
        assert_eq!(message.pointer(buttons).unwrap().as_array().unwrap().len(), 2);
    }
    assert!(message(&h, Form::Discord)["content"].as_str().unwrap().contains("/kedge refuse 00000007"));
    h.end().await;
}

#[tokio::test]
async fn a_command_in_a_chat_decides_and_is_audited() {
    let h = start_with_chat("slack", SLACK, "https://hooks.slack.com").await;
    let reply = "https://hooks.slack.com/x";
    h.tasks.add(asked_task(7, "shop.a.test"));
    let why = text(said(&h, "U1", "why 00000007", reply)).await;
    assert!(why.contains("anna or bert has to approve it: approve 00000007"), "{why}");
    assert!(text(said(&h, "U2", "approve 00000007", reply)).await.contains("not listed"));
    assert!(text(said(&h, "U1", "approve", reply)).await.contains("write `approve TASK`"));
    assert!(text(said(&h, "U1", "refuse 00000007 not now", reply)).await.contains("compensating"));
    h.tasks.change(&task_id(7), |task| {
        let approval = task.approval.as_ref().unwrap();
        assert_eq!((approval.state, approval.reason.as_deref()), (ApprovalState::Refused, Some("not now")));
        assert_eq!(approval.by.as_ref().unwrap().name, "chat:anna");
    });
    assert!(text(said(&h, "U1", "approve 00000007", reply)).await.contains("asks nobody"));
    let (_, log) = ask(h.get("/v1/audit?limit=10")).await;
    let records = log["records"].as_array().unwrap();
    let seen: Vec<(&str, &str, &str)> = records
        .iter()
        .map(|record| {
            let text = |field: &str| record[field].as_str().unwrap();
            (text("by"), text("action"), text("task_id"))
        })
        .collect();
    let id = task_id(7);
    let wanted = [("chat:slack/anna", "approve", id.as_str()), ("chat:slack/anna", "refuse", id.as_str())];
    assert_eq!(seen, wanted, "what only looks is not kept");
    h.end().await;
}

#[tokio::test]
async fn a_button_decides_once_for_everybody_who_may() {
    let host = Host::start().await;
    let h = start_with_chat("slack", SLACK, &host.url).await;
    h.tasks.add(asked_task(7, "shop.a.test"));
    let value =
        |n: usize| message(&h, Form::Slack)["blocks"][1]["elements"][n]["value"].as_str().unwrap().to_owned();
    let reply = format!("{}/x", host.url);
    ask(press(&h, "U2", &value(0), &reply)).await;
    let aside = host.posts(1).await[0].1.clone();
    assert_eq!(
        aside["replace_original"], false,
        "a stranger's press does not take the question away: {aside}"
    );
    assert!(aside["text"].as_str().unwrap().contains("not listed"));
    let forged = value(0).replace("ka1.y.", "ka1.n.");
    ask(press(&h, "U1", &forged, &reply)).await;
    assert!(host.posts(2).await[1].1["text"].as_str().unwrap().contains("not one of mine"));
    ask(press(&h, "U1", &value(0), &reply)).await;
    let done = host.posts(3).await[2].1.clone();
    assert_eq!(done["replace_original"], true);
    assert!(done["text"].as_str().unwrap().contains("approved by anna"), "{done}");
    ask(press(&h, "U1", &value(1), &reply)).await;
    assert!(host.posts(4).await[3].1["text"].as_str().unwrap().contains("asks nobody"));
    h.end().await;
}

#[tokio::test]
async fn mattermosts_button_is_known_by_its_mark() {
    let h = start_with_chat("mattermost", "hunter2-token", "https://chat.test").await;
    h.tasks.add(asked_task(7, "shop.a.test"));
    let value = message(&h, Form::Mattermost)
        .pointer("/attachments/0/actions/0/integration/context/kedge")
        .unwrap()
        .clone();
    let press = |user: &str, value: &Value| {
        let body = json!({"user_id": user, "post_id": "p", "context": {"kedge": value}});
        h.client.post(h.url("/v1/chat/mattermost")).json(&body)
    };
    let (_, stranger) = ask(press("U2", &value)).await;
    assert!(stranger["ephemeral_text"].as_str().unwrap().contains("not listed"), "{stranger}");
    let forged = json!(value.as_str().unwrap().replace("ka1.y.", "ka1.n."));
    let (_, answer) = ask(press("U1", &forged)).await;
    assert!(answer["update"].is_null(), "the question stays for those who may answer it: {answer}");
    assert!(answer["ephemeral_text"].as_str().unwrap().contains("not one of mine"), "{answer}");
    let (_, done) = ask(press("U1", &value)).await;
    assert!(done["update"]["message"].as_str().unwrap().contains("approved by anna"), "{done}");
    h.tasks.change(&task_id(7), |task| assert_eq!(task.state, TaskState::Running));
    h.end().await;
}
