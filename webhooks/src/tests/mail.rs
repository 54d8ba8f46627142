//! Mail: what a server gets, and where a login link stands and where it does not.

use std::sync::Mutex;

use kedge_engine::outbox::{Callback, CallbackStatus, Composer as _, NewCallback, Outbox as _};
use kedge_engine::task::TaskState;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;

use super::*;
use crate::api::Links;
use crate::testing::{FakeDesk, LINK, sample_task, task_id};
use crate::{Deliverer, EndpointComposer, MailSpec, Smtp, SmtpSpec};

type Mails = Arc<Mutex<Vec<String>>>;

/// A mail server on this machine; it refuses recipients at `gone.test`, and `busy.test` for the moment.
async fn server() -> (String, Mails) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtp://{}", listener.local_addr().unwrap());
    let mails = Mails::default();
    let all = mails.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(converse(stream, all.clone()));
        }
    });
    (url, mails)
}

async fn converse(stream: TcpStream, mails: Mails) {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    let mut data: Option<String> = None;
    // A client may go at any time.
    let _ = writer.write_all(b"220 here\r\n").await;
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(mut mail) = data.take() {
            if line == "." {
                mails.lock().unwrap().push(mail);
                let _ = writer.write_all(b"250 taken\r\n").await;
            } else {
                mail.push_str(&line);
                mail.push('\n');
                data = Some(mail);
            }
            continue;
        }
        let answer = match line.split([' ', ':']).next().unwrap_or_default() {
            "RCPT" if line.contains("gone.test") => "550 5.1.1 nobody of this name",
            "RCPT" if line.contains("busy.test") => "451 later",
            "DATA" => {
                data = Some(String::new());
                "354 go on"
            }
            "QUIT" => "221 bye",
            _ => "250 fine",
        };
        let _ = writer.write_all(format!("{answer}\r\n").as_bytes()).await;
    }
}

fn smtp(server: &str) -> Smtp {
    let spec = SmtpSpec {
        server: server.to_owned(),
        from: "Kedge <kedge@a.test>".to_owned(),
        ..SmtpSpec::default()
    };
    Smtp::new(spec, PATIENCE).unwrap()
}

fn mail(server: &str, name: &str, to: &[&str], domains: &[&str]) -> Endpoint {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    let mail = MailSpec { smtp: smtp(server), to: texts(to), login_domains: texts(domains) };
    Endpoint::new(EndpointSpec { name: name.to_owned(), mail: Some(mail), ..EndpointSpec::default() })
        .unwrap()
}

struct Post {
    outbox: Arc<FakeOutbox>,
    endpoints: Endpoints,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

fn post(list: Vec<Endpoint>) -> Post {
    let (outbox, endpoints, stop) =
        (FakeOutbox::new(), Endpoints::new(list).unwrap(), CancellationToken::new());
    let (clock, random) = (FakeClock::at(NOW), Arc::new(FakeRandom::default()));
    let deliverer = Deliverer::new(
        outbox.clone(),
        (endpoints.clone(), Links::default()),
        clock,
        random,
        Metrics::default(),
    );
    let running = tokio::spawn(deliverer.with_desk(Arc::new(FakeDesk)).run(stop.clone().cancelled_owned()));
    Post { outbox, endpoints, stop, running }
}

impl Post {
    fn compose(&self, task: &kedge_engine::task::TaskView) -> Vec<NewCallback> {
        let links = Links::new(Some(&"https://kedge.test".parse().unwrap()));
        EndpointComposer::new(self.endpoints.clone(), links, FakeClock::at(NOW)).compose(task, None)
    }

    /// Queues a callback and waits for so many attempts in all.
    async fn send(&self, id: &str, task: u64, new: NewCallback, attempts: usize) -> CallbackStatus {
        let callback = Callback {
            id: id.to_owned(),
            task: task_id(task),
            sequence: 1,
            endpoint: new.endpoint,
            event: new.event,
            state: TaskState::Succeeded,
            body: new.body,
            created_at: NOW,
            attempts: 0,
            trace: None,
            status: CallbackStatus::Due { at: 0 },
        };
        kedge_engine::outbox::Outbox::queue(&*self.outbox, callback).await.unwrap();
        timeout(PATIENCE, self.outbox.attempts(attempts)).await.unwrap();
        self.outbox.status(id)
    }

    async fn end(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.running).await.unwrap().unwrap();
    }
}

/// A mail's text without the folding of its transport.
fn unfolded(mail: &str) -> String {
    mail.replace("=\n", "").replace("=3D", "=")
}

#[tokio::test]
async fn people_are_told_and_a_server_s_no_is_told_apart() {
    let (url, mails) = server().await;
    let post = post(vec![
        mail(&url, "ops", &["Ops <ops@a.test>", "night@a.test"], &[]),
        mail(&url, "gone", &["x@gone.test"], &[]),
        mail(&url, "busy", &["x@busy.test"], &[]),
    ]);
    let mut task = sample_task(7, "shop.a.test");
    task.state = TaskState::Stuck;
    let mut composed = post.compose(&task);
    assert_eq!(composed.iter().map(|new| new.endpoint.as_str()).collect::<Vec<_>>(), ["ops", "gone", "busy"]);
    let (busy, gone, ops) = (composed.pop().unwrap(), composed.pop().unwrap(), composed.pop().unwrap());
    assert_eq!(post.send("msg_1", 7, ops, 1).await, CallbackStatus::Delivered { at: NOW });
    assert_eq!(post.send("msg_2", 7, gone, 2).await, CallbackStatus::Dead { at: NOW });
    assert_eq!(post.send("msg_3", 7, busy, 3).await, CallbackStatus::Due { at: NOW + 5000 });
    let mail = mails.lock().unwrap()[0].clone();
    for words in [
        "From: Kedge <kedge@a.test>",
        "Subject: migrate shop.a.test: is stuck",
        "Message-ID: <msg_1@a.test>",
        "night@a.test",
        "a person is needed",
    ] {
        assert!(mail.contains(words), "{words:?} is not in {mail}");
    }
    let errors: Vec<String> =
        post.outbox.attempts(3).await.into_iter().filter_map(|attempt| attempt.error).collect();
    assert!(errors[0].contains("550") && errors[1].contains("451"), "{errors:?}");
    post.end().await;
}

#[tokio::test]
async fn a_login_link_is_in_the_mail_and_nowhere_else() {
    let (url, mails) = server().await;
    let post =
        post(vec![mail(&url, "ops", &["ops@a.test"], &[]), mail(&url, "welcome", &[], &["customer.test"])]);
    let mut task = sample_task(1, "shop.a.test");
    (task.workflow, task.state) = ("login".to_owned(), TaskState::Succeeded);
    assert_eq!(post.compose(&task).len(), 1, "it names nobody");
    task.params["mail_to"] = json!("chief@elsewhere.test");
    assert_eq!(post.compose(&task).len(), 1, "not at that domain");
    task.params["mail_to"] = json!("chief@customer.test");
    let composed = post.compose(&task);
    let welcome = composed.into_iter().find(|new| new.endpoint == "welcome").unwrap();
    assert!(!welcome.body.contains("kedge_login"), "what is queued is in the journal: {}", welcome.body);
    assert_eq!(post.send("msg_1", 1, welcome.clone(), 1).await, CallbackStatus::Delivered { at: NOW });
    let mail = unfolded(&mails.lock().unwrap()[0]);
    assert!(mail.contains("To: chief@customer.test") && mail.contains(LINK), "{mail}");
    let seen = format!("{:?} {:?}", post.outbox.callback("msg_1").unwrap(), post.outbox.attempts(1).await);
    assert!(!seen.contains("kedge_login"), "{seen}");
    // Another task has no link any more: trying again would make none.
    assert_eq!(post.send("msg_2", 2, welcome, 2).await, CallbackStatus::Dead { at: NOW });
    post.end().await;
}

#[test]
fn mistakes_are_told() {
    let fields = |spec: SmtpSpec| -> Vec<String> {
        Smtp::new(spec, PATIENCE).unwrap_err().into_iter().map(|mistake| mistake.field).collect()
    };
    let good = || SmtpSpec {
        server: "smtps://mail.a.test".to_owned(),
        from: "kedge@a.test".to_owned(),
        ..SmtpSpec::default()
    };
    assert!(Smtp::new(good(), PATIENCE).is_ok());
    assert_eq!(
        fields(SmtpSpec { from: "nobody".to_owned(), server: "mail.a.test".to_owned(), ..good() }),
        ["from", "server"]
    );
    assert_eq!(fields(SmtpSpec { user: Some("kedge".to_owned()), ..good() }), ["user"]);
    assert_eq!(fields(SmtpSpec { server: "smtp://u:p@mail.a.test".to_owned(), ..good() }), ["server"]);
    let mail = MailSpec {
        smtp: Smtp::new(good(), PATIENCE).unwrap(),
        to: vec!["x".to_owned()],
        login_domains: Vec::new(),
    };
    let endpoint = EndpointSpec {
        name: "ops".to_owned(),
        url: "https://a.test".to_owned(),
        mail: Some(mail),
        ..EndpointSpec::default()
    };
    let told: Vec<String> =
        Endpoint::new(endpoint).unwrap_err().into_iter().map(|mistake| mistake.field).collect();
    assert_eq!(told, ["url", "to[0]"]);
}
