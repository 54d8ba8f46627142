//! A real server on a port of its own, over the fake engine. The tests speak HTTP to it, well or badly.

mod access;
mod api;
mod approvals;
mod archives;
mod bad_input;
mod bounds;
mod chat;
mod compare;
mod deliveries;
mod docs;
mod endpoints;
mod fuzz;
mod hooks;
mod inbox;
mod login;
mod logs;
mod mail;
mod receivers;
mod streams;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use kedge_engine::testing::memory_store::MemoryStore;

use crate::testing::{FakeClock, FakeDesk, FakeOutbox, FakeRandom, FakeTasks, SECRET};
use crate::{
    Access, App, Endpoint, EndpointSpec, Endpoints, Hook, HookSpec, HttpConfig, Metrics, Ports, Secret,
    Server, Token, TokenSpec,
};

/// 2026-11-22T16:00:00Z.
const NOW: u64 = 1_795_363_200_000;
const CI: &str = "ci-token-secret";
const ADMIN: &str = "admin-token-secret";
const LOOKER: &str = "looker-token-secret";
const GITHUB: &str = "It's a Secret to Everybody";
/// Longest time a test waits for something that has to happen.
const PATIENCE: Duration = Duration::from_secs(20);

struct Harness {
    address: SocketAddr,
    tasks: Arc<FakeTasks>,
    outbox: Arc<FakeOutbox>,
    clock: Arc<FakeClock>,
    app: App,
    client: Client,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

async fn start() -> Harness {
    start_with(HttpConfig::default()).await
}

async fn start_with(config: HttpConfig) -> Harness {
    let (tasks, outbox, clock) = (FakeTasks::new(), FakeOutbox::new(), FakeClock::at(NOW));
    let ports = Ports {
        store: Arc::new(MemoryStore::new()),
        tasks: tasks.clone(),
        outbox: outbox.clone(),
        inbox: tasks.inbox.clone(),
        clock: clock.clone(),
        random: Arc::new(FakeRandom::default()),
        desk: Arc::new(FakeDesk),
    };
    let config = HttpConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..config };
    let endpoints = Endpoints::new(vec![endpoint("ci", "https://ci.test/hook", &[])]).unwrap();
    endpoints
        .open(ports.store.clone(), crate::Master::new(Secret::new("the master secret of a test")))
        .unwrap();
    let app = App::new(ports, access(), endpoints, &config, Metrics::default()).unwrap();
    let server = Server::bind(config, app.clone()).await.unwrap();
    let (address, stop) = (server.address(), CancellationToken::new());
    let running = tokio::spawn(server.run(stop.clone().cancelled_owned()));
    let client = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    Harness { address, tasks, outbox, clock, app, client, stop, running }
}

fn endpoint(name: &str, url: &str, allow_private: &[&str]) -> Endpoint {
    Endpoint::new(EndpointSpec {
        name: name.to_owned(),
        url: url.to_owned(),
        secrets: vec![Secret::new(SECRET)],
        events: None,
        allow_private: allow_private.iter().map(|net| (*net).to_owned()).collect(),
        ..EndpointSpec::default()
    })
    .unwrap()
}

fn access() -> Access {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let token = |name: &str, secret: &str, scopes: &[&str], sites: &[&str]| {
        Token::new(TokenSpec {
            name: name.to_owned(),
            secret: Some(Secret::new(secret)),
            scopes: texts(scopes),
            sites: texts(sites),
            ..TokenSpec::default()
        })
        .unwrap()
    };
    let hook = HookSpec {
        name: "deploy".to_owned(),
        provider: "standard".to_owned(),
        secrets: vec![Secret::new(SECRET)],
        workflow: "migrate".to_owned(),
        ..HookSpec::default()
    };
    let push = HookSpec {
        name: "push".to_owned(),
        provider: "github".to_owned(),
        secrets: vec![Secret::new(GITHUB)],
        when: texts(&["event == push", "branch == main"]),
        params: Some(json!({ "site": "{/repository/name}.a.test", "target_platform": "{/platform?}" })),
        sites: texts(&["*.a.test"]),
        ..hook.clone()
    };
    Access {
        tokens: vec![
            token("ci", CI, &["task:*:create", "task:*:read"], &["*.a.test"]),
            token("admin", ADMIN, &["task:*:*", "admin"], &["*"]),
            token("looker", LOOKER, &["task:*:read"], &["*"]),
        ],
        hooks: vec![Hook::new(hook).unwrap(), Hook::new(push).unwrap()],
        ..Access::default()
    }
}

impl Harness {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(self.url(path)).bearer_auth(ADMIN)
    }

    fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.client.post(self.url(path)).bearer_auth(ADMIN).json(body)
    }

    async fn end(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.running).await.unwrap().unwrap();
    }
}

async fn ask(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    (response.status().as_u16(), document(response).await)
}

/// The body; every error has to be a whole problem document.
async fn document(response: Response) -> Value {
    let status = response.status();
    let kind = response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    if status.is_client_error() || status.is_server_error() {
        assert_eq!(kind.as_deref(), Some("application/problem+json"), "{body}");
        assert_eq!((&body["status"], &body["instance"]), (&json!(status.as_u16()), &json!(id)));
        for member in ["type", "title", "detail"] {
            assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{member} of {body}");
        }
    }
    body
}

fn pointers(body: &Value) -> Vec<&str> {
    let errors = body["errors"].as_array().map_or(&[][..], Vec::as_slice);
    errors.iter().filter_map(|error| error["pointer"].as_str()).collect()
}

/// Sends bytes as they are and gives everything that comes back until the server closes.
async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    rest(&mut stream).await
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset after the answer is an end like any other; what came before it counts.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the server closes");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads a stream up to a text in it.
async fn until(response: &mut Response, text: &str) -> String {
    let mut got = String::new();
    let reading = async {
        while !got.contains(text) {
            match response.chunk().await.unwrap() {
                Some(chunk) => got.push_str(std::str::from_utf8(&chunk).unwrap()),
                None => break,
            }
        }
    };
    timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("{text:?} did not come"));
    got
}
