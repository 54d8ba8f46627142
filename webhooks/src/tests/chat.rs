//! Chats: what people type and press, as the platforms send it, and what they see.

use std::sync::Mutex;

use kedge_engine::task::{Actor, TaskState};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::*;
use crate::testing::{sample_task, task_id};
use crate::{Chat, ChatSpec, ChatUserSpec, Provider};

pub(super) const SLACK: &str = "8f742231b10e8888abcd99yyyzzz85a5";
const FORM: &str = "application/x-www-form-urlencoded";

/// A chat's host: takes what is posted to it.
pub(super) struct Host {
    pub(super) url: String,
    got: Arc<Mutex<Vec<(String, Value)>>>,
    count: watch::Receiver<usize>,
}

impl Host {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (got, (told, count)) = (Arc::new(Mutex::new(Vec::new())), watch::channel(0));
        let all = Arc::clone(&got);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut text = String::new();
                let mut buffer = [0; 8192];
                // Our client sends head and body; the body's length is in the head.
                loop {
                    let read = stream.read(&mut buffer).await.unwrap();
                    text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    let length = head.lines().find_map(|line| {
                        line.to_ascii_lowercase()
                            .strip_prefix("content-length: ")
                            .map(|n| n.parse::<usize>().unwrap())
                    });
                    if read == 0 || length.is_some_and(|length| body.len() >= length) {
                        break;
                    }
                }
                let (head, body) = text.split_once("\r\n\r\n").unwrap();
                let line = head.lines().next().unwrap().to_owned();
                all.lock().unwrap().push((line, serde_json::from_str(body).unwrap()));
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                    .await
                    .unwrap();
                told.send_modify(|n| *n += 1);
            }
        });
        Self { url, got, count }
    }

    pub(super) async fn posts(&self, count: usize) -> Vec<(String, Value)> {
        let mut seen = self.count.clone();
        timeout(PATIENCE, seen.wait_for(|have| *have >= count)).await.unwrap().unwrap();
        self.got.lock().unwrap().clone()
    }
}

pub(super) async fn start_with_chat(platform: &str, secret: &str, base: &str) -> Harness {
    let h = start().await;
    let chat = Chat::new(ChatSpec {
        platform: platform.to_owned(),
        secrets: vec![Secret::new(secret)],
        base_url: Some(base.to_owned()),
        webhook: Some(Secret::new(format!("{base}/channel"))),
        users: vec![ChatUserSpec {
            id: "U1".to_owned(),
            name: "anna".to_owned(),
            scopes: ["create", "read", "undo", "approve"].map(|verb| format!("task:*:{verb}")).to_vec(),
            sites: vec!["*.a.test".to_owned()],
        }],
        ..ChatSpec::default()
    });
    h.app.replace(Access { chats: vec![chat.unwrap()], ..access() }).unwrap();
    h
}

fn slack(h: &Harness, fields: &[(&str, &str)]) -> RequestBuilder {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let key = Provider::Slack.key(&Secret::new(SLACK)).unwrap();
    let mut request = h.client.post(h.url("/v1/chat/slack")).header("content-type", FORM);
    for (name, value) in Provider::Slack.sign(&[key], "", NOW / 1000, body.as_bytes()) {
        request = request.header(name, value);
    }
    request.body(body)
}

pub(super) fn said(h: &Harness, user: &str, text: &str, reply: &str) -> RequestBuilder {
    let id = format!("{user}-{text}");
    slack(
        h,
        &[
            ("command", "/kedge"),
            ("user_id", user),
            ("text", text),
            ("response_url", reply),
            ("trigger_id", &id),
        ],
    )
}

pub(super) fn press(h: &Harness, user: &str, value: &str, reply: &str) -> RequestBuilder {
    let payload = json!({"type": "block_actions", "user": {"id": user}, "response_url": reply,
        "actions": [{"action_id": "kedge_confirm", "value": value}]});
    slack(h, &[("payload", &payload.to_string())])
}

pub(super) async fn text(request: RequestBuilder) -> String {
    let (status, body) = ask(request).await;
    assert_eq!(status, 200, "a chat shows nothing of other answers: {body}");
    body["text"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned()
}

#[tokio::test]
async fn a_command_asks_and_a_button_runs_once() {
    let host = Host::start().await;
    let h = start_with_chat("slack", SLACK, &host.url).await;
    let reply = format!("{}/commands/1", host.url);
    let (status, question) = ask(said(&h, "U1", "migrate shop.a.test to wp-69", &reply)).await;
    assert_eq!((status, &question["response_type"]), (200, &json!("ephemeral")));
    assert!(question["text"].as_str().unwrap().contains("no rollback"), "the plan is shown: {question}");
    assert!(h.tasks.submissions().is_empty(), "a question runs nothing");
    let value = question["blocks"][1]["elements"][0]["value"].as_str().unwrap();
    let stranger = ask(press(&h, "U2", value, &reply)).await;
    assert_eq!(stranger, (200, json!({})));
    assert!(host.posts(1).await[0].1["text"].as_str().unwrap().contains("for the person"));
    assert_eq!(ask(press(&h, "U1", value, &reply)).await, (200, json!({})));
    let done = host.posts(2).await[1].1.clone();
    assert_eq!(done["replace_original"], true);
    let submission = h.tasks.submissions()[0].clone();
    assert_eq!((submission.actor.name.as_str(), submission.actor.via.as_str()), ("chat:anna", "slack"));
    assert_eq!(submission.params, json!({"site": "shop.a.test", "target_platform": "wp-69"}));
    assert_eq!(submission.if_plan.as_deref(), Some("ab12"), "bound to the plan that was shown");
    ask(press(&h, "U1", value, &reply)).await;
    assert!(host.posts(3).await[2].1["text"].as_str().unwrap().contains("not work any more"));
    assert_eq!(h.tasks.submissions().len(), 1, "once");
    h.tasks.happen(&task_id(1000), "ended", TaskState::Succeeded);
    let end = host.posts(4).await[3].1["text"].as_str().unwrap().to_owned();
    assert!(end.starts_with("<@U1> migrate of shop.a.test: succeeded"), "{end}");
    h.end().await;
}

#[tokio::test]
async fn what_was_asked_for_before_a_restart_is_told_in_the_channel() {
    let host = Host::start().await;
    let h = start_with_chat("slack", SLACK, &host.url).await;
    for (n, name, via) in [
        (7, "chat:anna", "slack"),
        (8, "chat:anna", "discord"),
        (9, "chat:otto", "slack"),
        (10, "token:anna", "api"),
    ] {
        let mut task = sample_task(n, "shop.a.test");
        task.actor = Actor { name: name.to_owned(), via: via.to_owned() };
        h.tasks.add(task);
    }
    h.app.tell_chats().unwrap();
    for n in 7..=10 {
        h.tasks.happen(&task_id(n), "ended", TaskState::Succeeded);
    }
    let mut ended = sample_task(11, "shop.a.test");
    ended.actor = Actor { name: "chat:anna".to_owned(), via: "slack".to_owned() };
    h.tasks.add(ended);
    h.tasks.happen(&task_id(11), "ended", TaskState::RolledBack);
    h.app.tell_chats().unwrap();
    let mut last = sample_task(12, "blog.a.test");
    last.actor = Actor { name: "chat:anna".to_owned(), via: "slack".to_owned() };
    h.tasks.add(last);
    h.app.tell_chats().unwrap();
    let first = host.posts(1).await[0].clone();
    assert_eq!(first.0, "POST /channel HTTP/1.1");
    assert!(
        first.1["text"].as_str().unwrap().starts_with("<@U1> migrate of shop.a.test: succeeded"),
        "{first:?}"
    );
    h.tasks.happen(&task_id(12), "ended", TaskState::Canceled);
    let second = host.posts(2).await[1].1["text"].as_str().unwrap().to_owned();
    assert!(second.starts_with("<@U1> migrate of blog.a.test: canceled"), "nothing between: {second}");
    h.end().await;
}

#[tokio::test]
async fn people_are_told_what_they_may_not_do() {
    let h = start_with_chat("slack", SLACK, "https://hooks.slack.com").await;
    let reply = "https://hooks.slack.com/x";
    assert!(text(said(&h, "U2", "status", reply)).await.contains("Your id here is U2"));
    assert!(text(said(&h, "U1", "migrate shop.b.test to wp", reply)).await.contains("Not for this site"));
    assert!(text(said(&h, "U1", "backup shop.a.test colour=red", reply)).await.contains("colour"));
    assert!(text(said(&h, "U1", "frobnicate", reply)).await.contains("help"));
    assert!(text(said(&h, "U1", "undo 12345678", reply)).await.contains("None of the last tasks"));
    let echoed = text(said(&h, "U1", "<!channel> @here", reply)).await;
    assert!(!echoed.contains("<!") && !echoed.contains("@here"), "{echoed}");
    assert!(text(said(&h, "U1", "help", reply)).await.contains("migrate SITE to PLATFORM"));
    let forged = said(&h, "U1", "help", reply).header("x-slack-signature", "v0=00");
    assert_eq!(ask(forged).await.0, 401);
    assert_eq!(ask(h.client.post(h.url("/v1/chat/discord")).json(&json!({"type": 1}))).await.0, 401);
    h.end().await;
}

#[tokio::test]
async fn what_is_harmless_runs_at_once_and_is_told_to_its_end() {
    let host = Host::start().await;
    let h = start_with_chat("slack", SLACK, &host.url).await;
    let reply = format!("{}/commands/1", host.url);
    assert!(
        text(said(&h, "U1", "backup shop.a.test", &reply)).await.contains("backup of shop.a.test: queued")
    );
    assert!(
        text(said(&h, "U1", "backup shop.a.test", &reply)).await.contains("queued"),
        "sent twice, run once"
    );
    assert_eq!(h.tasks.submissions().len(), 1);
    let status = text(said(&h, "U1", "status shop.a.test", &reply)).await;
    assert!(status.contains("2 of 4 steps"), "{status}");
    h.tasks.happen(&task_id(1000), "ended", TaskState::RolledBack);
    let posts = host.posts(1).await;
    assert!(posts[0].1["text"].as_str().unwrap().contains("rolled back"), "{posts:?}");
    assert!(text(said(&h, "U1", &format!("why {}", task_id(1000)), &reply)).await.contains("rolled back"));
    h.end().await;
}

#[tokio::test]
async fn discord_is_greeted_and_edits_its_message() {
    let host = Host::start().await;
    let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let private = Secret::new("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
    let h = start_with_chat("discord", public, &host.url).await;
    let send = |body: Value| {
        let (body, key) = (body.to_string(), Provider::Discord.signing_key(&private).unwrap());
        let mut request = h.client.post(h.url("/v1/chat/discord")).header("content-type", "application/json");
        for (name, value) in Provider::Discord.sign(&[key], "", NOW / 1000, body.as_bytes()) {
            request = request.header(name, value);
        }
        request.body(body)
    };
    assert_eq!(ask(send(json!({"type": 1}))).await, (200, json!({"type": 1})));
    let forged = send(json!({"type": 1})).header("x-signature-ed25519", "00");
    assert_eq!(ask(forged).await.0, 401, "Discord tries this, and takes the address away otherwise");
    let command = |text: &str| {
        json!({"type": 2, "id": "i1", "application_id": "7", "token": "tok", "member": {"user": {"id": "U1"}},
            "data": {"name": "kedge", "options": [{"type": 3, "name": "command", "value": text}]}})
    };
    let (_, question) = ask(send(command("migrate shop.a.test to wp-69"))).await;
    assert_eq!((&question["type"], &question["data"]["flags"]), (&json!(4), &json!(64)));
    assert_eq!(question["data"]["allowed_mentions"], json!({"parse": []}));
    let value = question["data"]["components"][0]["components"][0]["custom_id"].clone();
    let button = json!({"type": 3, "id": "i2", "application_id": "7", "token": "tok2", "user": {"id": "U1"},
        "data": {"custom_id": value}});
    let (_, done) = ask(send(button)).await;
    assert_eq!((&done["type"], &done["data"]["components"]), (&json!(7), &json!([])));
    h.tasks.happen(&task_id(1000), "ended", TaskState::Succeeded);
    let (line, end) = host.posts(1).await[0].clone();
    assert!(line.starts_with("PATCH /api/v10/webhooks/7/tok2/messages/@original"), "{line}");
    assert_eq!(end["allowed_mentions"], json!({"parse": [], "users": ["U1"]}));
    h.end().await;
}

#[tokio::test]
async fn mattermosts_buttons_prove_themselves() {
    let host = Host::start().await;
    let h = start_with_chat("mattermost", "hunter2-token", &host.url).await;
    let form = "command=%2Fkedge&text=migrate+shop.a.test+to+wp-69&user_id=U1&user_name=anna&trigger_id=t";
    let command = h.client.post(h.url("/v1/chat/mattermost")).header("content-type", FORM);
    let (status, question) = ask(command.header("authorization", "Token hunter2-token").body(form)).await;
    assert_eq!(status, 200, "{question}");
    let value = question["attachments"][0]["actions"][0]["integration"]["context"]["kedge"].clone();
    let press = |user: &str, value: &Value| {
        let body = json!({"user_id": user, "post_id": "p", "context": {"kedge": value}});
        h.client.post(h.url("/v1/chat/mattermost")).json(&body)
    };
    let (_, other) = ask(press("U2", &value)).await;
    assert!(other["update"]["message"].as_str().unwrap().contains("for the person"), "{other}");
    let (_, forged) = ask(press("U1", &json!("kc1.00.00.00"))).await;
    assert!(forged["update"]["message"].is_string() && h.tasks.submissions().is_empty());
    let (_, done) = ask(press("U1", &value)).await;
    assert!(done["update"]["message"].as_str().unwrap().contains("queued"), "{done}");
    assert_eq!(h.tasks.submissions().len(), 1);
    assert_eq!(ask(h.client.post(h.url("/v1/chat/mattermost")).json(&json!({"a": 1}))).await.0, 401);
    h.end().await;
}
