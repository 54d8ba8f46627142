//! The deliverer against a receiver of our own that misbehaves on demand.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::HeaderMap;
use kedge_engine::outbox::{CallbackStatus, Outbox};
use kedge_engine::store::ReadError;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Deliverer, Patience};
use crate::api::Links;
use crate::endpoint::{Endpoint, EndpointSpec, Endpoints, Form};
use crate::metrics::Metrics;
use crate::provider::Provider;
use crate::secret::Secret;
use crate::testing::{FakeClock, FakeOutbox, FakeRandom, SECRET};

const NOW: u64 = 1_795_363_200_000;
const OTHER: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const WAIT: Duration = Duration::from_secs(20);

/// What the receiver does with the next request.
#[derive(Clone)]
enum Act {
    Answer(&'static str),
    Hang,
    Endless,
}

type Acts = Arc<Mutex<VecDeque<Act>>>;
type Got = Arc<Mutex<Vec<(HeaderMap, Vec<u8>)>>>;

/// A receiver that keeps what it gets: headers and body.
struct Receiver {
    address: SocketAddr,
    acts: Acts,
    got: Got,
}

impl Receiver {
    async fn start(acts: &[Act]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (acts, got) = (Arc::new(Mutex::new(acts.iter().cloned().collect())), Arc::default());
        let receiver = Self { address, acts, got };
        let (acts, got) = (receiver.acts.clone(), receiver.got.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, acts.clone(), got.clone()));
            }
        });
        receiver
    }

    fn got(&self) -> Vec<(HeaderMap, Vec<u8>)> {
        self.got.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, acts: Acts, got: Got) {
    let Some(request) = read_request(&mut stream).await else { return };
    got.lock().unwrap().push(request);
    let act = acts.lock().unwrap().pop_front().unwrap_or(Act::Answer("200 OK"));
    // The deliverer may hang up at any time: that is what is tested.
    let _ = match act {
        Act::Answer(head) => {
            let answer = format!("HTTP/1.1 {head}\r\ncontent-length: 3\r\nconnection: close\r\n\r\nhi\x07");
            stream.write_all(answer.as_bytes()).await
        }
        Act::Hang => stream.read_u8().await.map(drop),
        Act::Endless => {
            let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            while sent.is_ok() {
                sent = stream.write_all(&[b'x'; 4096]).await;
            }
            sent
        }
    };
}

async fn read_request(stream: &mut TcpStream) -> Option<(HeaderMap, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        let mut chunk = [0; 4096];
        let n = stream.read(&mut chunk).await.ok().filter(|n| *n > 0)?;
        bytes.extend_from_slice(&chunk[..n]);
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut headers = HeaderMap::new();
    for (name, value) in head.lines().skip(1).filter_map(|line| line.split_once(": ")) {
        headers.append(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
    }
    let length: usize = headers["content-length"].to_str().unwrap().parse().unwrap();
    let mut body = bytes[end..].to_vec();
    body.resize(length, 0);
    let have = bytes.len() - end;
    stream.read_exact(&mut body[have..]).await.ok()?;
    Some((headers, body))
}

struct Harness {
    outbox: Arc<FakeOutbox>,
    clock: Arc<FakeClock>,
    endpoints: Endpoints,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

fn start(endpoints: &[(&str, String, &[&str])]) -> Harness {
    let endpoint = |(name, url, allowed): &(&str, String, &[&str])| {
        Endpoint::new(EndpointSpec {
            name: (*name).to_owned(),
            url: url.clone(),
            secrets: vec![Secret::new(SECRET), Secret::new(OTHER)],
            events: None,
            allow_private: allowed.iter().map(|net| (*net).to_owned()).collect(),
            ..EndpointSpec::default()
        })
        .unwrap()
    };
    let endpoints = Endpoints::new(endpoints.iter().map(endpoint).collect()).unwrap();
    run(FakeOutbox::new(), endpoints)
}

fn run(outbox: Arc<FakeOutbox>, endpoints: Endpoints) -> Harness {
    let (clock, stop) = (FakeClock::at(NOW), CancellationToken::new());
    let patience = Patience { connect: Duration::from_millis(500), total: Duration::from_secs(1) };
    let random = Arc::new(FakeRandom::default());
    let metrics = Metrics::default();
    let deliverer = Deliverer::with_patience(
        outbox.clone(),
        (endpoints.clone(), Links::default()),
        clock.clone(),
        random,
        metrics,
        patience,
    );
    let running = tokio::spawn(deliverer.run(stop.clone().cancelled_owned()));
    Harness { outbox, clock, endpoints, stop, running }
}

impl Harness {
    async fn attempts(&self, count: usize) -> Vec<kedge_engine::outbox::Delivery> {
        timeout(WAIT, self.outbox.attempts(count)).await.expect("attempts are made")
    }

    async fn end(self) {
        self.stop.cancel();
        timeout(WAIT, self.running).await.unwrap().unwrap();
    }
}

const LOCAL: &[&str] = &["127.0.0.0/8", "::1/128"];

fn url(receiver: &Receiver) -> String {
    format!("http://{}/hook", receiver.address)
}

#[tokio::test]
async fn a_failed_callback_comes_again_with_the_same_id_and_a_fresh_signature() {
    let receiver = Receiver::start(&[Act::Answer("500 Oops"), Act::Answer("204 No Content")]).await;
    let h = start(&[("ci", url(&receiver), LOCAL)]);
    h.outbox.queue("msg_1", "ci", 1, 7);
    let first = &h.attempts(1).await[0];
    assert_eq!(
        (first.attempt, first.status, first.error.as_deref()),
        (1, Some(500), Some("it answered 500"))
    );
    assert_eq!(first.answer, "hi ", "control characters are taken out");
    assert_eq!(h.outbox.status("msg_1"), CallbackStatus::Due { at: NOW + 5000 });
    h.clock.set(NOW + 5000);
    let second = &h.attempts(2).await[1];
    assert_eq!((second.attempt, second.status, second.error.as_deref()), (2, Some(204), None));
    assert_eq!(h.outbox.status("msg_1"), CallbackStatus::Delivered { at: NOW + 5000 });
    let got = receiver.got();
    assert_eq!(got[0].1, got[1].1, "the same bytes");
    for (n, (headers, body)) in got.iter().enumerate() {
        assert_eq!(
            (&headers["webhook-id"], &headers["content-type"]),
            (&"msg_1".parse().unwrap(), &"application/json".parse().unwrap())
        );
        assert_eq!(headers["webhook-attempt"], (n + 1).to_string().as_str());
        assert!(headers["user-agent"].to_str().unwrap().starts_with("kedge/"));
        for secret in [SECRET, OTHER] {
            let key = Provider::Standard.key(&Secret::new(secret)).unwrap();
            let at = NOW / 1000 + 5 * n as u64;
            assert!(Provider::Standard.verify(headers, body, &[key], at).is_ok(), "attempt {n}");
        }
    }
    assert_ne!(got[0].0["webhook-signature"], got[1].0["webhook-signature"]);
    h.end().await;
}

#[tokio::test]
async fn redirects_are_not_followed_and_retry_after_is_honoured() {
    let elsewhere = Receiver::start(&[]).await;
    let location: &'static str = format!("302 Found\r\nlocation: {}", url(&elsewhere)).leak();
    let busy = "429 Too Many Requests\r\nretry-after: 120";
    let receiver = Receiver::start(&[Act::Answer(location), Act::Answer(busy)]).await;
    let h = start(&[("ci", url(&receiver), LOCAL)]);
    h.outbox.queue("msg_1", "ci", 1, 7);
    let first = &h.attempts(1).await[0];
    assert_eq!(first.status, Some(302));
    assert!(first.error.as_ref().unwrap().contains("redirects are not followed"));
    h.clock.set(NOW + 5000);
    h.attempts(2).await;
    let CallbackStatus::Due { at } = h.outbox.status("msg_1") else { panic!("still due") };
    assert_eq!(at, NOW + 5000 + 300_000, "the schedule's five minutes are longer than the 120 s asked for");
    assert!(elsewhere.got().is_empty());
    h.end().await;
}

#[tokio::test]
async fn hanging_and_endless_receivers_hold_up_nobody_else() {
    let hanging = Receiver::start(&vec![Act::Hang; 20]).await;
    let endless = Receiver::start(&[Act::Endless]).await;
    let good = Receiver::start(&[]).await;
    let h = start(&[
        ("hang", url(&hanging), LOCAL),
        ("endless", url(&endless), LOCAL),
        ("good", url(&good), LOCAL),
    ]);
    for n in 0..10 {
        h.outbox.queue(&format!("msg_h{n}"), "hang", n, 1);
    }
    h.outbox.queue("msg_e", "endless", 1, 1);
    for n in 0..10 {
        h.outbox.queue(&format!("msg_z{n}"), "good", n, 1);
    }
    let log = h.attempts(11).await;
    assert!(
        log.iter().take(11).all(|delivery| !delivery.callback.starts_with("msg_h")),
        "the others came first"
    );
    let endless = log.iter().find(|delivery| delivery.callback == "msg_e").unwrap();
    assert_eq!((endless.status, endless.error.as_deref(), endless.answer.len()), (Some(200), None, 500));
    // Four at once, then four more before the fifth failure in a row is known; then it is left alone.
    let log = h.attempts(19).await;
    h.clock.set(NOW + 239_000);
    h.clock.set(NOW + 240_000);
    let later = h.attempts(20).await;
    assert_eq!(later.iter().filter(|delivery| delivery.at == NOW + 240_000).count(), 1, "one is let through");
    let hung = log.iter().find(|delivery| delivery.callback == "msg_h0").unwrap();
    assert_eq!((hung.status, hung.error.as_deref()), (None, Some("no answer within 1 s")));
    h.end().await;
}

#[tokio::test]
async fn gone_disables_the_endpoint_until_a_replay() {
    let receiver = Receiver::start(&[Act::Answer("410 Gone")]).await;
    let h = start(&[("ci", url(&receiver), LOCAL)]);
    h.outbox.queue("msg_1", "ci", 1, 7);
    h.attempts(1).await;
    assert_eq!(h.outbox.status("msg_1"), CallbackStatus::Dead { at: NOW });
    assert!(h.endpoints.disabled("ci").unwrap().contains("410"));
    h.outbox.queue("msg_2", "ci", 2, 7);
    let second = &h.attempts(2).await[1];
    assert_eq!((second.status, h.outbox.status("msg_2")), (None, CallbackStatus::Dead { at: NOW }));
    assert!(second.error.as_ref().unwrap().contains("disabled"));
    assert_eq!(receiver.got().len(), 1);
    h.endpoints.set_disabled("ci", None).await;
    assert!(h.outbox.replay("msg_2", NOW).await.unwrap());
    h.attempts(3).await;
    assert_eq!(h.outbox.status("msg_2"), CallbackStatus::Delivered { at: NOW });
    h.end().await;
}

#[tokio::test]
async fn that_an_endpoint_is_disabled_is_told_in_the_form_of_whoever_asks_for_it() {
    let gone = Receiver::start(&[Act::Answer("410 Gone")]).await;
    let others = Receiver::start(&[]).await;
    let endpoint = |name: &str, to: &Receiver, form: Form, event: &str| {
        let secrets = if form == Form::Slack { Vec::new() } else { vec![Secret::new(SECRET)] };
        Endpoint::new(EndpointSpec {
            name: name.to_owned(),
            url: url(to),
            secrets,
            events: Some(vec![event.to_owned()]),
            allow_private: LOCAL.iter().map(|net| (*net).to_owned()).collect(),
            form,
            ..EndpointSpec::default()
        })
        .unwrap()
    };
    let list = vec![
        endpoint("ci", &gone, Form::Standard, "task.*"),
        endpoint("cloud", &others, Form::CloudEvents, "endpoint.disabled"),
        endpoint("room", &others, Form::Slack, "*"),
        endpoint("plain", &others, Form::Standard, "endpoint.*"),
        endpoint("deaf", &others, Form::Standard, "task.succeeded"),
    ];
    let h = run(FakeOutbox::new(), Endpoints::new(list).unwrap());
    h.outbox.queue("msg_1", "ci", 1, 7);
    h.attempts(4).await;
    let bodies: Vec<Value> =
        others.got().iter().map(|(_, body)| serde_json::from_slice(body).unwrap()).collect();
    let told = |fits: &dyn Fn(&Value) -> bool| bodies.iter().filter(|body| fits(body)).count();
    assert_eq!(bodies.len(), 3, "{bodies:?}");
    assert_eq!(told(&|body| body["type"] == "endpoint.disabled" && body["data"]["endpoint"] == "ci"), 1);
    let cloud = |body: &Value| body["type"] == "kedge.endpoint.disabled" && body["source"] == "urn:kedge";
    assert_eq!(told(&|body| cloud(body) && body["data"]["delivery"] == "msg_1"), 1, "{bodies:?}");
    let words = "Kedge sends no more to the endpoint ci: it answered 410 Gone";
    assert_eq!(told(&|body| body["text"].as_str().is_some_and(|text| text.starts_with(words))), 1);
    h.end().await;
}

#[tokio::test]
async fn what_a_task_has_named_beside_an_endpoint_never_harms_it() {
    let mut acts = vec![Act::Answer("410 Gone")];
    acts.extend(vec![Act::Answer("500 Oops"); 4]);
    let receiver = Receiver::start(&acts).await;
    let h = start(&[("ci", url(&receiver), LOCAL)]);
    let beside = format!("http://{}/build/7", receiver.address);
    h.outbox.queue("msg_0", &beside, 1, 1);
    let first = &h.attempts(1).await[0];
    assert_eq!((first.status, h.outbox.status("msg_0")), (Some(410), CallbackStatus::Dead { at: NOW }));
    assert!(first.error.as_ref().unwrap().contains("this callback is given up"), "{first:?}");
    assert_eq!(h.endpoints.disabled("ci"), None);
    for n in 1..=4 {
        h.outbox.queue(&format!("msg_{n}"), &beside, 1 + n as u64, 1);
        h.attempts(1 + n).await;
    }
    h.outbox.queue("msg_5", "ci", 9, 1);
    h.attempts(6).await;
    assert_eq!(h.outbox.status("msg_5"), CallbackStatus::Delivered { at: NOW });
    h.end().await;
}

#[tokio::test]
async fn private_addresses_are_refused_as_literals_and_as_names() {
    let receiver = Receiver::start(&[]).await;
    let named = format!("http://localhost:{}/hook", receiver.address.port());
    let h = start(&[
        ("literal", url(&receiver), &["10.0.0.0/8"]),
        ("named", named.clone(), &[]),
        ("allowed", format!("http://localhost:{}/other", receiver.address.port()), LOCAL),
    ]);
    h.outbox.queue("msg_1", "literal", 1, 1);
    h.outbox.queue("msg_2", "named", 1, 1);
    for delivery in h.attempts(2).await {
        let error = delivery.error.unwrap();
        assert!(error.contains("not public") && error.contains("allow_private"), "{error}");
    }
    assert!(receiver.got().is_empty());
    h.outbox.queue("msg_3", "allowed", 1, 1);
    h.attempts(3).await;
    assert_eq!(h.outbox.status("msg_3"), CallbackStatus::Delivered { at: NOW });
    h.end().await;
}

#[tokio::test]
async fn errors_tell_what_failed_but_not_the_url() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = format!("http://{}/secret-path?token=hunter2", closed.local_addr().unwrap());
    drop(closed);
    let h = start(&[("ci", gone, LOCAL), ("nowhere", "http://nowhere.invalid/secret-path".to_owned(), &[])]);
    h.outbox.queue("msg_1", "ci", 1, 1);
    h.outbox.queue("msg_2", "nowhere", 1, 1);
    h.outbox.queue("msg_3", "no-such-endpoint", 1, 1);
    for delivery in h.attempts(3).await {
        let error = delivery.error.unwrap();
        assert!(!error.contains("secret-path") && !error.contains("hunter2"), "{error}");
        let (words, dead) = match delivery.callback.as_str() {
            "msg_1" => ("cannot connect: ", false),
            "msg_2" => ("cannot connect: ", false),
            _ => ("no endpoint of this name", true),
        };
        assert!(error.starts_with(words), "{error}");
        assert_eq!(matches!(h.outbox.status(&delivery.callback), CallbackStatus::Dead { .. }), dead);
    }
    h.end().await;
}

#[tokio::test]
async fn callbacks_of_a_task_come_in_order_also_after_a_restart() {
    let receiver = Receiver::start(&[Act::Answer("500 Oops")]).await;
    let h = start(&[("ci", url(&receiver), LOCAL)]);
    h.outbox.queue("msg_1", "ci", 1, 3);
    h.attempts(1).await;
    let (outbox, endpoints) = (h.outbox.clone(), h.endpoints.clone());
    h.end().await;
    // The second life knows that msg_1 waits: msg_2 comes behind it, and hastens it.
    outbox.queue("msg_2", "ci", 1, 5);
    let h = run(outbox, endpoints);
    let log = h.attempts(3).await;
    let order: Vec<&str> = log.iter().map(|delivery| delivery.callback.as_str()).collect();
    assert_eq!(order, ["msg_1", "msg_1", "msg_2"]);
    assert_eq!(receiver.got().len(), 3);
    h.end().await;
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_sent_in_a_loop() {
    let receiver = Receiver::start(&[]).await;
    let h = start(&[("ci", url(&receiver), LOCAL)]);
    h.outbox.refused.send_replace(Some(0));
    let refused = async |many: usize| {
        let mut count = h.outbox.refused.subscribe();
        timeout(WAIT, count.wait_for(|count| count.is_some_and(|count| count >= many)))
            .await
            .unwrap()
            .unwrap();
    };
    for n in 1..=3 {
        h.outbox.queue(&format!("msg_{n}"), "ci", n as u64, 1);
        refused(n).await;
    }
    assert_eq!(*h.outbox.refused.borrow(), Some(3));
    assert_eq!(receiver.got().len(), 3, "each of them once");
    h.outbox.refused.send_replace(None);
    h.clock.set(NOW + 5000);
    h.attempts(3).await;
    assert_eq!(receiver.got().len(), 6);
    h.end().await;
}

#[tokio::test]
async fn one_that_cannot_be_read_keeps_no_other_from_being_sent() {
    let receiver = Receiver::start(&[Act::Answer("500 Oops")]).await;
    let h = start(&[("ci", url(&receiver), LOCAL)]);
    h.outbox.queue("msg_1", "ci", 1, 3);
    h.attempts(1).await;
    *h.outbox.unreadable.lock().unwrap() = Some(("msg_1".to_owned(), ReadError::Io));
    // In one look: msg_2 has to wait for msg_1, which is read for its sake.
    h.outbox.queue("msg_2", "ci", 1, 5);
    h.outbox.queue("msg_3", "ci", 2, 1);
    assert_eq!(h.attempts(2).await[1].callback, "msg_3");
    h.end().await;
}

#[tokio::test]
async fn one_that_is_damaged_is_left_out_and_nothing_waits_for_it() {
    let receiver = Receiver::start(&[Act::Answer("500 Oops")]).await;
    let h = start(&[("ci", url(&receiver), LOCAL)]);
    h.outbox.queue("msg_1", "ci", 1, 3);
    h.attempts(1).await;
    *h.outbox.unreadable.lock().unwrap() = Some(("msg_1".to_owned(), ReadError::Damaged));
    h.outbox.queue("msg_2", "ci", 1, 5);
    assert_eq!(h.attempts(2).await[1].callback, "msg_2");
    h.end().await;
}

#[tokio::test]
async fn an_end_records_what_is_under_way() {
    let receiver = Receiver::start(&[Act::Hang]).await;
    let h = start(&[("ci", url(&receiver), LOCAL)]);
    h.outbox.queue("msg_1", "ci", 1, 3);
    let begun = async {
        while receiver.got().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(WAIT, begun).await.unwrap();
    let outbox = h.outbox.clone();
    h.end().await;
    assert_eq!(outbox.log.lock().unwrap().len(), 1);
    assert_eq!(outbox.status("msg_1"), CallbackStatus::Due { at: NOW + 5000 });
}
