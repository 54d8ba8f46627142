//! What the log holds: method, route, status, time and request id, and never a secret, a query or a body.

use std::io::Write;
use std::sync::{Arc, Mutex};

use serde_json::json;
use tracing_subscriber::filter::LevelFilter;

use super::*;
use crate::Provider;
use crate::testing::{sample_task, task_id};

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn requests_are_logged_without_secrets() {
    let sink = Sink::default();
    let writer = sink.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // The runtime of this test has one thread, so this holds for the server too.
    // As long as there is but one subscriber, whoever meets a place in the code first, on another thread and without one, decides that
    // nobody is interested in it. With a second one, all are asked.
    let _second = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(std::io::sink).finish());
    let guard = tracing::subscriber::set_default(subscriber);
    let h = start().await;
    h.tasks.add(sample_task(1, "shop.a.test"));
    let path = format!("/v1/tasks/{}?after=query-value", task_id(1));
    assert_eq!(ask(h.get(&path).header("x-request-id", "trace-7")).await.0, 422);
    let body = json!({"workflow": "migrate", "params": {"site": "shop.a.test", "password": "hunter2"}});
    assert_eq!(ask(h.post("/v1/tasks", &body).header("idempotency-key", "my-key")).await.0, 422);
    let wrong = h.client.get(h.url("/v1/tasks")).bearer_auth("wrong-token-secret");
    assert_eq!(ask(wrong).await.0, 401);
    let keys = [Provider::Standard.key(&Secret::new(SECRET)).unwrap()];
    let hook = br#"{"site":"shop.a.test","password":"hunter3"}"#;
    let signature = crate::signature::sign_standard(&keys, "msg_1", NOW / 1000, hook);
    let mut forged = h.client.post(h.url("/v1/hooks/deploy")).header("content-type", "application/json");
    for (name, value) in Provider::Standard.sign(&keys, "msg_1", NOW / 1000, b"{}") {
        forged = forged.header(name, value);
    }
    assert_eq!(ask(forged.body(hook.to_vec())).await.0, 401);
    h.end().await;
    drop(guard);
    let log = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    assert!(
        log.contains("method=GET route=\"task\" status=422") && log.contains("request=\"trace-7\""),
        "{log}"
    );
    assert!(log.contains("no key of the hook gives this signature"), "{log}");
    let secrets =
        [ADMIN, SECRET, GITHUB, "wrong-token-secret", "hunter", "my-key", "query-value", &signature[3..20]];
    for secret in secrets {
        assert!(!log.contains(secret), "{secret:?} is in the log:\n{log}");
    }
}

#[test]
fn configured_things_show_no_secret() {
    let all = format!("{:?} {:?}", access(), endpoint("ci", "https://ci.test/secret-path", &[]));
    for secret in [CI, ADMIN, GITHUB, SECRET, &SECRET[6..], "secret-path"] {
        assert!(!all.contains(secret), "{secret:?} is in {all}");
    }
}
