//! Event streams: live, resumed, in each form.

use kedge_engine::task::{Progress, TaskState};
use serde_json::{Value, json};

use super::*;
use crate::testing::{sample_task, task_id};

async fn open(h: &Harness, n: u64, accept: &str, last: Option<&str>) -> Response {
    let request = h.get(&format!("/v1/tasks/{}/events", task_id(n))).header("accept", accept);
    let request = last.into_iter().fold(request, |request, last| request.header("last-event-id", last));
    request.send().await.unwrap()
}

#[tokio::test]
async fn a_stream_goes_on_until_the_task_ends_and_can_be_resumed() {
    let h = start().await;
    h.tasks.add(sample_task(1, "shop.a.test"));
    let id = task_id(1);
    let mut stream = open(&h, 1, "text/event-stream", None).await;
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let begin = until(&mut stream, "task_accepted").await;
    assert!(begin.starts_with("retry: 2000\n\nid: 1\nevent: task_accepted\ndata: {"), "{begin}");
    h.tasks.happen(&id, "step_started", TaskState::Running);
    let piece = until(&mut stream, "\n\n").await;
    assert!(piece.starts_with("id: 2\nevent: step_started\ndata: "), "{piece}");
    h.tasks.change(&id, |task| {
        task.progress_version += 1;
        task.steps[2].progress = Some(Progress { done: 3, total: Some(9), unit: "tables".to_owned() });
    });
    let piece = until(&mut stream, "\n\n").await;
    let (head, data) = piece.trim_end().split_once("\ndata: ").unwrap();
    assert_eq!(head, "event: progress", "progress has no id: it cannot be asked for again");
    let data: Value = serde_json::from_str(data).unwrap();
    let want =
        json!({"type": "progress", "step": "update", "progress": {"done": 3, "total": 9, "unit": "tables"}});
    assert_eq!(data, want);
    h.tasks.happen(&id, "task_ended", TaskState::RolledBack);
    let last = until(&mut stream, "never").await;
    assert!(last.starts_with("id: 3\nevent: task_ended\n"), "ends after the terminal event: {last}");

    let mut resumed = open(&h, 1, "text/event-stream", Some("1")).await;
    let events = until(&mut resumed, "never").await;
    let ids: Vec<&str> = events.lines().filter(|line| line.starts_with("id: ")).collect();
    assert_eq!(ids, ["id: 2", "id: 3"]);
    assert_eq!(open(&h, 1, "text/event-stream", Some("3")).await.status(), 204, "browsers stop asking");
    h.end().await;
}

#[tokio::test]
async fn ndjson_and_json_tell_the_same() {
    let h = start().await;
    h.tasks.add(sample_task(1, "shop.a.test"));
    h.tasks.happen(&task_id(1), "a", TaskState::Running);
    h.tasks.happen(&task_id(1), "b", TaskState::Succeeded);
    let mut lines = open(&h, 1, "application/x-ndjson", None).await;
    let lines = until(&mut lines, "never").await;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (_, page) = ask(h.get(&format!("/v1/tasks/{}/events", task_id(1)))).await;
    assert_eq!(page["events"], Value::Array(lines));
    assert_eq!((&page["last"], &page["more"]), (&json!(3), &json!(false)));
    assert_eq!(page["events"][0]["at"], "2026-11-22T16:00:00.001Z");
    let (_, page) = ask(h.get(&format!("/v1/tasks/{}/events?after=2", task_id(1)))).await;
    assert_eq!(page["events"].as_array().unwrap().len(), 1);
    h.end().await;
}

#[tokio::test]
async fn long_histories_come_in_pages_and_whole_in_streams() {
    let h = start().await;
    h.tasks.add(sample_task(1, "shop.a.test"));
    for _ in 0..1200 {
        h.tasks.happen(&task_id(1), "x", TaskState::Running);
    }
    h.tasks.happen(&task_id(1), "end", TaskState::Succeeded);
    let first = h.get(&format!("/v1/tasks/{}/events", task_id(1))).send().await.unwrap();
    assert!(first.headers()["link"].to_str().unwrap().ends_with("?after=500>; rel=\"next\""));
    assert_eq!(document(first).await["more"], true);
    let mut stream = open(&h, 1, "application/x-ndjson", None).await;
    let all = until(&mut stream, "never").await;
    let sequences: Vec<u64> = all
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["sequence"].as_u64().unwrap())
        .collect();
    assert_eq!(sequences, (1..=1202).collect::<Vec<u64>>());
    h.end().await;
}

#[tokio::test]
async fn cursors_that_are_none_are_refused_and_the_number_of_streams_is_bounded() {
    let h = start_with(HttpConfig { max_streams: 1, ..HttpConfig::default() }).await;
    h.tasks.add(sample_task(1, "shop.a.test"));
    let path = format!("/v1/tasks/{}/events", task_id(1));
    assert_eq!(ask(h.get(&path).header("last-event-id", "x")).await.0, 400);
    assert_eq!(ask(h.get(&format!("{path}?after=-1"))).await.0, 422);
    assert_eq!(ask(h.get(&path).header("accept", "text/html")).await.0, 406);
    let mut held = open(&h, 1, "text/event-stream", Some("99")).await;
    until(&mut held, "retry").await;
    let refused = open(&h, 1, "text/event-stream", None).await;
    assert_eq!(refused.headers()["retry-after"], "5");
    assert_eq!(document(refused).await["status"], 503);
    drop(held);
    let again = async {
        while open(&h, 1, "text/event-stream", None).await.status() != 200 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, again).await.expect("room again once the first is gone");
    h.end().await;
}
