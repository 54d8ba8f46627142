//! What strangers send: every answer is a clear problem document, and no task comes of it.

use serde_json::{Value, json};

use super::*;
use crate::MAX_BODY;

async fn post(h: &Harness, kind: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
    let request = h.client.post(h.url("/v1/tasks")).bearer_auth(ADMIN).header("content-type", kind);
    ask(request.body(body)).await
}

#[tokio::test]
async fn bodies_that_are_no_request() {
    let h = start().await;
    let deep = format!(r#"{{"workflow":"migrate","params":{}1{}}}"#, "[".repeat(70), "]".repeat(70));
    let table: Vec<(&str, u16, Vec<&str>)> = vec![
        ("", 400, vec![]),
        (r#"{"workflow":"migrate","params":{"si"#, 400, vec![]),
        ("\u{feff}{}", 400, vec![]),
        ("[]", 422, vec!["#"]),
        ("7", 422, vec!["#"]),
        ("{}", 422, vec!["#/workflow"]),
        (r#"{"workflow":7}"#, 422, vec!["#/workflow"]),
        (r#"{"workflow":"fly"}"#, 422, vec!["#/workflow"]),
        (r#"{"workflow":"migrate"}"#, 422, vec!["#/params/site"]),
        (r#"{"workflow":"migrate","params":[]}"#, 422, vec!["#/params"]),
        (r#"{"workflow":"migrate","params":{"site":["a"]}}"#, 422, vec!["#/params/site"]),
        (r#"{"workflow":"migrate","params":{"site":"a.test","x":1}}"#, 422, vec!["#/params/x"]),
        (r#"{"workflow":"migrate","params":{"site":"a.test"},"priority":900}"#, 422, vec!["#/priority"]),
        (
            r#"{"workflow":"migrate","params":{"site":"a.test"},"not_before":"tomorrow"}"#,
            422,
            vec!["#/not_before"],
        ),
        (
            r#"{"workflow":"migrate","params":{"site":"a.test"},"not_before":"2030-01-01T00:00:00Z"}"#,
            422,
            vec!["#/not_before"],
        ),
        (
            r#"{"workflow":"migrate","params":{"site":"a.test"},"correlation_id":"a\nb"}"#,
            422,
            vec!["#/correlation_id"],
        ),
        (
            r#"{"workflow":"migrate","params":{"site":"a.test"},"callback":{"url":"http://169.254.169.254/"}}"#,
            422,
            vec!["#/callback/url"],
        ),
        (r#"{"workflow":"migrate","workflow":"backup"}"#, 422, vec!["#/workflow"]),
        (r#"{"workflow":"migrate","params":{"site":"a.test","hold":1e400}}"#, 400, vec![]),
        (&deep, 422, vec![]),
    ];
    for (body, status, want) in table {
        let (got, problem) = post(&h, "application/json", body.to_owned()).await;
        assert_eq!((got, pointers(&problem)), (status, want), "{body}: {problem}");
    }
    let (status, _) = post(&h, "application/json", b"{\"workflow\":\"\xff\"}".to_vec()).await;
    assert_eq!(status, 400);
    let secret = json!({"workflow": "migrate", "params": {"site": "a.test", "password": "hunter2"}, "extra": "hunter3"});
    let (status, problem) = post(&h, "application/json", secret.to_string()).await;
    assert_eq!(status, 422);
    assert!(!problem.to_string().contains("hunter"), "{problem}");
    assert!(h.tasks.submissions().is_empty());
    h.end().await;
}

#[tokio::test]
async fn headers_that_do_not_fit() {
    let h = start().await;
    let body = json!({"workflow": "migrate", "params": {"site": "a.test"}});
    for kind in ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"] {
        assert_eq!(post(&h, kind, body.to_string()).await.0, 415, "{kind:?}");
    }
    let packed = h.post("/v1/tasks", &body).header("content-encoding", "gzip");
    assert_eq!(ask(packed).await.0, 415);
    for key in ["", "\"\"", "\"a", &"x".repeat(256)] {
        assert_eq!(ask(h.post("/v1/tasks", &body).header("idempotency-key", key)).await.0, 400, "{key:?}");
    }
    assert_eq!(ask(h.post("/v1/tasks", &body).header("if-plan", "no hash!")).await.0, 400);
    for query in ["dry_run=maybe", "dryrun=true", "dry_run=true&dry_run=false"] {
        assert_eq!(ask(h.post(&format!("/v1/tasks?{query}"), &body)).await.0, 422, "{query}");
    }
    assert!(h.tasks.submissions().is_empty());
    let charset = "application/json; charset=utf-8";
    assert_eq!(post(&h, charset, body.to_string()).await.0, 202);
    h.end().await;
}

#[tokio::test]
async fn methods_and_paths_that_are_not_there() {
    let h = start().await;
    let put = h.client.put(h.url("/v1/tasks")).send().await.unwrap();
    assert_eq!((put.status().as_u16(), &put.headers()["allow"]), (405, &"GET, HEAD, POST".parse().unwrap()));
    document(put).await;
    let get = h.client.get(h.url("/v1/hooks/deploy")).send().await.unwrap();
    assert_eq!((get.status().as_u16(), &get.headers()["allow"]), (405, &"POST".parse().unwrap()));
    for path in ["/", "/v1/nothing", "/v1/tasks/task_x", "/v1/tasks/..%2f..%2fetc"] {
        assert_eq!(ask(h.get(path)).await.0, 404, "{path}");
    }
    let head = h.client.head(h.url("/livez")).send().await.unwrap();
    assert_eq!((head.status().as_u16(), head.text().await.unwrap().len()), (200, 0));
    h.end().await;
}

#[tokio::test]
async fn huge_bodies_are_refused_before_they_are_read() {
    let h = start().await;
    let (status, problem) = post(&h, "application/json", vec![b'['; MAX_BODY + 1]).await;
    assert_eq!(status, 413, "{problem}");
    let stream = futures::stream::iter((0..40).map(|_| Ok::<_, std::io::Error>(vec![b' '; 64 * 1024])));
    let (status, _) = post(&h, "application/json", reqwest::Body::wrap_stream(stream)).await;
    assert_eq!(status, 413, "without a length");
    let (status, _) = post(&h, "application/json", vec![b' '; MAX_BODY]).await;
    assert_eq!(status, 400, "exactly the limit is read, and is no JSON");
    let head = "POST /v1/hooks/deploy HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\nexpect: 100-continue\r\n\r\n";
    let answer = raw(h.address, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(h.tasks.submissions().is_empty());
    h.end().await;
}

#[tokio::test]
async fn huge_heads_are_refused() {
    let h = start().await;
    let long = h.get("/livez").header("x-filler", "x".repeat(17 * 1024));
    assert_eq!(ask(long).await.0, 431);
    let path = format!("/v1/tasks?site={}", "x".repeat(17 * 1024));
    assert_eq!(ask(h.get(&path)).await.0, 431);
    let endless = format!("GET /livez HTTP/1.1\r\nhost: x\r\nx-filler: {}", "x".repeat(40 * 1024));
    let answer = raw(h.address, endless.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let many = format!("GET /livez HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(200));
    let answer = raw(h.address, many.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    h.end().await;
}

#[tokio::test]
async fn what_is_no_http_is_answered_with_400_or_silence() {
    let h = start().await;
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET\r\n\r\n",
        b"GET /livez HTTP/9.9\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"POST /v1/tasks HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\nzz",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n garbage garbage garbage garbage garbage",
    ] {
        let answer = raw(h.address, bytes).await;
        assert!(!answer.contains("HTTP/1.1 2"), "{bytes:?}: {answer}");
    }
    assert_eq!(ask(h.get("/livez")).await.0, 200, "the server goes on");
    assert!(h.tasks.submissions().is_empty());
    h.end().await;
}
