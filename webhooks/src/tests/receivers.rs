//! What the documentation gives to those who receive callbacks and to CI jobs, run as it stands there: the verification snippets and the
//! waiting script. A language that this machine lacks is left out, and said so.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use kedge_engine::task::TaskState;

use super::*;
use crate::signature::{Key, sign_standard};
use crate::testing::task_id;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn run(command: &mut Command, input: &[u8]) -> Option<Output> {
    let mut child = match command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    {
        Ok(child) => child,
        Err(error) => {
            eprintln!("left out: {command:?}: {error}");
            return None;
        }
    };
    // A program that refuses by its arguments does not read on.
    let _ = child.stdin.take().unwrap().write_all(input);
    Some(child.wait_with_output().unwrap())
}

#[test]
fn the_snippets_verify_what_kedge_signs_and_nothing_else() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let (secret, other) = (SECRET, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let key = |text: &str| Key::standard(&Secret::new(text)).unwrap();
    let body = "{\"type\":\"task.succeeded\",\"ü\":\"x\ny\"}".as_bytes();
    let mut seen = 0;
    for (program, file) in
        [("python3", "verify.py"), ("node", "verify.mjs"), ("php", "verify.php"), ("sh", "verify.sh")]
    {
        let verify = |signature: &str, time: u64, body: &[u8]| {
            let mut command = Command::new(program);
            command
                .arg(format!("{ROOT}/docs/receivers/{file}"))
                .env("KEDGE_SECRET", secret)
                .env("WEBHOOK_ID", "msg_7")
                .env("WEBHOOK_TIMESTAMP", time.to_string())
                .env("WEBHOOK_SIGNATURE", signature);
            run(&mut command, body)
        };
        let sign = |keys: &[Key], time| sign_standard(keys, "msg_7", time, body);
        let rotating = sign(&[key(other), key(secret)], now);
        let Some(good) = verify(&rotating, now, body) else { continue };
        seen += 1;
        let told = String::from_utf8_lossy(&good.stderr);
        assert!(good.status.success(), "{file}: {told}");
        assert_eq!(good.stdout, b"msg_7\n", "{file}");
        let alone = sign(&[key(secret)], now);
        for (why, outcome) in [
            ("another body", verify(&alone, now, b"{}")),
            ("another secret", verify(&sign(&[key(other)], now), now, body)),
            ("another time", verify(&alone, now - 1, body)),
            ("too old", verify(&sign(&[key(secret)], now - 400), now - 400, body)),
            ("from the future", verify(&sign(&[key(secret)], now + 400), now + 400, body)),
            ("nothing", verify("", now, body)),
        ] {
            let outcome = outcome.unwrap();
            assert_eq!(
                outcome.status.code(),
                Some(1),
                "{file}: {why}: {}",
                String::from_utf8_lossy(&outcome.stderr)
            );
        }
    }
    assert!(seen > 0, "none of the languages is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_script_for_ci_jobs_waits_and_fails_with_the_reason() {
    let h = start().await;
    let url = h.url("");
    let script = |body: &'static str, token: &'static str, url: String| {
        tokio::task::spawn_blocking(move || {
            let mut command = Command::new("sh");
            command
                .arg(format!("{ROOT}/scripts/kedge-task"))
                .arg(body)
                .env("KEDGE_URL", url)
                .env("KEDGE_TOKEN", token);
            run(&mut command, b"").unwrap()
        })
    };
    const BODY: &str = r#"{"workflow":"migrate","params":{"site":"shop.a.test"}}"#;
    for (n, state, code) in [
        (0, TaskState::Succeeded, 0),
        (1, TaskState::RolledBack, 2),
        (2, TaskState::Stuck, 3),
        (3, TaskState::Canceled, 4),
    ] {
        let running = script(BODY, CI, url.clone());
        let id = task_id(1000 + n);
        while h.tasks.submissions().len() as u64 <= n {
            tokio::task::yield_now().await;
        }
        h.tasks.happen(&id, "started", TaskState::Running);
        h.tasks.change(&id, |task| {
            task.error = Some(kedge_engine::task::FailureView {
                step: "update".to_owned(),
                title: "Update the database".to_owned(),
                detail: "PHP died".to_owned(),
            });
        });
        h.tasks.happen(&id, "ended", state);
        let output = running.await.unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{state:?}: {told}");
        assert!(String::from_utf8_lossy(&output.stdout).contains(id.as_str()));
        assert_eq!(told.contains("PHP died"), code != 0, "{told}");
    }
    let refused = script(r#"{"workflow":"migrate","params":{}}"#, CI, url.clone()).await.unwrap();
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1));
    assert!(told.contains("/params/site"), "{told}");
    assert_eq!(script(BODY, "wrong-token", url).await.unwrap().status.code(), Some(1));
    let gone = script(BODY, CI, "http://127.0.0.1:1".to_owned()).await.unwrap();
    assert_eq!(gone.status.code(), Some(5));
    h.end().await;
}
