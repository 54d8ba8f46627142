//! Time and number: slow peers are cut off, many are queued, and an end loses nothing.

use std::time::Instant;

use kedge_engine::task::TaskState;
use serde_json::json;
use tokio::io::AsyncReadExt;

use super::*;
use crate::testing::{sample_task, task_id};

fn hasty() -> HttpConfig {
    let time = Duration::from_millis(300);
    HttpConfig { header_timeout: time, body_timeout: time, drain_timeout: time, ..HttpConfig::default() }
}

#[tokio::test]
async fn slow_heads_are_cut_off_however_they_begin() {
    let h = start_with(hasty()).await;
    for begin in
        [&b""[..], b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET /livez HTTP/1.1\r\nhost: x\r\nx-slow: "]
    {
        let began = Instant::now();
        raw(h.address, begin).await;
        assert!(began.elapsed() < Duration::from_secs(10), "{begin:?}");
    }
    let mut stream = TcpStream::connect(h.address).await.unwrap();
    let dripping = async {
        // A byte now and then resets no deadline; writing fails once the server has closed.
        while stream.write_all(b"G").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, dripping).await.expect("the server closes");
    h.end().await;
}

#[tokio::test]
async fn slow_bodies_are_answered_with_408() {
    let h = start_with(hasty()).await;
    let head = format!(
        "POST /v1/tasks HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN}\r\ncontent-type: application/json\r\n\
         content-length: 100\r\n\r\n{{"
    );
    let answer = raw(h.address, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
    let cut = format!("{head}\"workflow\"");
    let mut stream = TcpStream::connect(h.address).await.unwrap();
    stream.write_all(cut.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    assert!(h.tasks.submissions().is_empty());
    h.end().await;
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let h = start_with(hasty()).await;
    let answer = raw(h.address, b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    h.end().await;
}

#[tokio::test]
async fn more_connections_wait_for_room() {
    let h = start_with(HttpConfig { max_connections: 1, ..HttpConfig::default() }).await;
    let first = TcpStream::connect(h.address).await.unwrap();
    let mut second = TcpStream::connect(h.address).await.unwrap();
    second.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut byte = [0];
    let early = timeout(Duration::from_millis(100), second.read(&mut byte)).await;
    assert!(early.is_err(), "served beyond the bound");
    drop(first);
    let answer = rest(&mut second).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    h.end().await;
}

#[tokio::test]
async fn http_2_is_spoken_too() {
    let h = start().await;
    let client = Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let response = client.get(h.url("/livez")).send().await.unwrap();
    assert_eq!((response.version(), response.status().as_u16()), (http::Version::HTTP_2, 200));
    let long = client.get(h.url("/livez")).header("x-filler", "x".repeat(17 * 1024)).send().await.unwrap();
    assert_eq!(long.status(), 431);
    h.end().await;
}

#[tokio::test]
async fn a_drain_answers_what_has_begun_and_ends_streams() {
    let h = start_with(HttpConfig { drain_timeout: PATIENCE, ..HttpConfig::default() }).await;
    h.tasks.add(sample_task(1, "shop.a.test"));
    let path = format!("/v1/tasks/{}", task_id(1));
    let mut stream =
        h.get(&format!("{path}/events")).header("accept", "text/event-stream").send().await.unwrap();
    until(&mut stream, "id: 1\n").await;
    let polling = tokio::spawn(h.get(&path).header("prefer", "wait=25").send());
    let half = format!(
        "POST /v1/tasks HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN}\r\ncontent-type: application/json\r\n"
    );
    let body = json!({"workflow": "migrate", "params": {"site": "shop.a.test"}}).to_string();
    let mut posting = TcpStream::connect(h.address).await.unwrap();
    posting.write_all(format!("{half}content-length: {}\r\n\r\n", body.len()).as_bytes()).await.unwrap();
    let both = "kedge_http_requests_in_flight 2";
    while h.app.0.metrics.text(&[], 0).lines().all(|line| line != both) {
        tokio::task::yield_now().await;
    }
    h.stop.cancel();
    let last = until(&mut stream, "never").await;
    assert!(last.contains("event: shutdown\ndata: {\"last\":1"), "{last}");
    assert_eq!(polling.await.unwrap().unwrap().status(), 200);
    posting.write_all(body.as_bytes()).await.unwrap();
    let answer = rest(&mut posting).await;
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    assert_eq!(h.tasks.submissions().len(), 1);
    timeout(PATIENCE, h.running).await.unwrap().unwrap();
    assert!(TcpStream::connect(h.address).await.is_err(), "nothing listens any more");
}

#[tokio::test]
async fn readyz_turns_before_the_doors_close() {
    let config = HttpConfig { drain_notice: Duration::from_secs(2), ..HttpConfig::default() };
    let h = start_with(config).await;
    assert_eq!(ask(h.get("/readyz")).await.0, 200);
    h.stop.cancel();
    while !h.app.0.draining.is_cancelled() {
        tokio::task::yield_now().await;
    }
    let (status, problem) = ask(h.get("/readyz")).await;
    assert_eq!(status, 503, "{problem}");
    h.end().await;
}

#[tokio::test]
async fn a_hanging_peer_does_not_hold_up_the_end() {
    let h = start_with(hasty()).await;
    h.tasks.add(sample_task(1, "shop.a.test"));
    h.tasks.happen(&task_id(1), "x", TaskState::Running);
    let mut stream = TcpStream::connect(h.address).await.unwrap();
    let head = format!("POST /v1/tasks HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    h.end().await;
}
