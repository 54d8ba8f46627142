//! The API as its table says: tasks, lists, plans, verbs, resources, tokens.

use kedge_engine::service::{ParamError, SubmitError};
use kedge_engine::store::Health;
use kedge_engine::task::{Progress, TaskState};
use serde_json::{Value, json};

use super::*;
use crate::testing::{sample_task, task_id};

#[tokio::test]
async fn a_task_is_created_and_shown() {
    let h = start().await;
    let body = json!({
        "workflow": "migrate", "params": {"site": "shop.a.test", "target_platform": "wp-68"},
        "correlation_id": "gha-1", "callback": {"endpoint": "ci"}, "not_before": "2026-11-22T17:00:00+01:00",
        "priority": "normal"
    });
    let response = h.client.post(h.url("/v1/tasks")).bearer_auth(CI).json(&body).send().await.unwrap();
    assert_eq!(response.status(), 202);
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(response.headers()["cache-control"], "no-store");
    let task = document(response).await;
    assert_eq!(task["links"]["self"], location.as_str());
    assert_eq!((&task["state"], &task["correlation_id"]), (&json!("queued"), &json!("gha-1")));
    let submission = &h.tasks.submissions()[0];
    assert_eq!((submission.actor.name.as_str(), submission.actor.via.as_str()), ("token:ci", "http"));
    assert_eq!(submission.not_before, Some(NOW));
    assert_eq!(submission.callback, Some(json!({"endpoint": "ci"})));
    let shown = h.client.get(h.url(&location)).bearer_auth(CI).send().await.unwrap();
    assert_eq!((shown.status().as_u16(), shown.headers()["etag"].to_str().unwrap()), (200, "\"1\""));
    assert_eq!(document(shown).await, task);
    let same = h.get(&location).header("if-none-match", "\"1\"").send().await.unwrap();
    assert_eq!(same.status(), 304);
    assert_eq!(h.get(&location).header("if-none-match", "\"0\"").send().await.unwrap().status(), 200);
    h.end().await;
}

#[tokio::test]
async fn a_dry_run_shows_the_plan_and_if_plan_holds_to_it() {
    let h = start().await;
    let body = json!({"workflow": "migrate", "params": {"site": "shop.a.test"}});
    let (status, plan) = ask(h.post("/v1/tasks?dry_run=true", &body)).await;
    assert_eq!((status, &plan["pivot"], &plan["plan_hash"]), (200, &json!("switch"), &json!("ab12")));
    assert!(h.tasks.submissions().is_empty(), "nothing is done");
    let (status, problem) = ask(h.post("/v1/tasks", &body).header("if-plan", "ffff")).await;
    assert_eq!((status, &problem["plan_hash"]), (412, &json!("ab12")));
    let (status, _) = ask(h.post("/v1/tasks", &body).header("if-plan", "ab12")).await;
    assert_eq!(status, 202);
    h.end().await;
}

#[tokio::test]
async fn an_idempotency_key_gives_the_same_task_again_and_refuses_another_body() {
    let h = start().await;
    let body = json!({"workflow": "migrate", "params": {"site": "shop.a.test"}});
    let send = |body: &Value, token: &str| {
        h.client
            .post(h.url("/v1/tasks"))
            .bearer_auth(token)
            .header("idempotency-key", "\"k-1\"")
            .json(body)
            .send()
    };
    let first = send(&body, ADMIN).await.unwrap();
    assert_eq!((first.status().as_u16(), first.headers().get("idempotent-replayed")), (202, None));
    let location = first.headers()["location"].clone();
    let first = document(first).await;
    let again = send(&body, ADMIN).await.unwrap();
    assert_eq!(
        (again.status().as_u16(), &again.headers()["idempotent-replayed"]),
        (202, &"true".parse().unwrap())
    );
    assert_eq!(again.headers()["location"], location);
    assert_eq!(document(again).await, first);
    let other = send(&json!({"workflow": "backup", "params": {"site": "shop.a.test"}}), ADMIN).await.unwrap();
    assert_eq!(other.status(), 422);
    assert!(document(other).await["type"].as_str().unwrap().ends_with("key-reused"));
    assert_eq!(
        send(&body, CI).await.unwrap().headers().get("idempotent-replayed"),
        None,
        "another caller's key"
    );
    assert_eq!(h.tasks.submissions().len(), 2);
    h.end().await;
}

#[tokio::test]
async fn prefer_wait_answers_when_the_task_ends() {
    let h = start().await;
    let body = json!({"workflow": "migrate", "params": {"site": "shop.a.test"}});
    let waiting = h.post("/v1/tasks", &body).header("prefer", "wait=20").send();
    let id = task_id(1000);
    let (response, ()) = tokio::join!(waiting, async {
        while h.tasks.submissions().is_empty() {
            tokio::task::yield_now().await;
        }
        h.tasks.happen(&id, "started", TaskState::Running);
        h.tasks.happen(&id, "ended", TaskState::RolledBack);
    });
    let response = response.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["preference-applied"], "wait=20");
    assert_eq!(document(response).await["state"], "rolled_back");

    h.tasks.add(sample_task(5, "shop.a.test"));
    let path = format!("/v1/tasks/{}", task_id(5));
    let changed = h.get(&path).header("prefer", "wait=20").header("if-none-match", "\"1\"").send();
    let (response, ()) = tokio::join!(changed, async {
        h.tasks.happen(&task_id(5), "started", TaskState::Running);
    });
    assert_eq!(
        document(response.unwrap()).await["sequence"],
        2,
        "any event ends the wait of one who knows the state"
    );
    let short = h.get(&path).header("prefer", "wait=0").send().await.unwrap();
    assert_eq!(document(short).await["state"], "running");
    h.end().await;
}

#[tokio::test]
async fn lists_are_filtered_paged_and_bound_to_the_tokens_sites() {
    let h = start().await;
    for n in 1..=9 {
        let mut task = sample_task(n, if n % 3 == 0 { "other.test" } else { "shop.a.test" });
        task.state = if n == 1 { TaskState::Stuck } else { TaskState::Succeeded };
        h.tasks.add(task);
    }
    let list = async |token: &str, path: &str| {
        let response = h.client.get(h.url(path)).bearer_auth(token).send().await.unwrap();
        let link = response.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        let body = document(response).await;
        let ids: Vec<u64> = body["tasks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|task| u64::from_str_radix(&task["id"].as_str().unwrap()[21..], 16).unwrap())
            .collect();
        (ids, link)
    };
    assert_eq!(list(ADMIN, "/v1/tasks").await, (vec![9, 8, 7, 6, 5, 4, 3, 2, 1], None));
    assert_eq!(list(CI, "/v1/tasks").await.0, [8, 7, 5, 4, 2, 1], "only its sites");
    assert_eq!(list(ADMIN, "/v1/tasks?site=other.test&state=succeeded").await.0, [9, 6, 3]);
    assert_eq!(
        list(ADMIN, "/v1/tasks?state=stuck&workflow=migrate&since=2026-11-22T16:00:00%2B00:00").await.0,
        [1]
    );
    let mut path = "/v1/tasks?limit=2".to_owned();
    let mut seen = Vec::new();
    loop {
        let (ids, link) = list(CI, &path).await;
        seen.extend(ids);
        let Some(link) = link else { break };
        assert!(link.ends_with(">; rel=\"next\""), "{link}");
        path = link[1..link.find('>').unwrap()].to_owned();
    }
    assert_eq!(seen, [8, 7, 5, 4, 2, 1]);
    for (query, name) in [
        ("state=done", "state"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("since=now", "since"),
        ("cursor=x", "cursor"),
        ("Site=x", "Site"),
        ("site=a&site=b", "site"),
    ] {
        let (status, problem) = ask(h.get(&format!("/v1/tasks?{query}"))).await;
        assert_eq!((status, &problem["errors"][0]["parameter"]), (422, &json!(name)), "{query}");
    }
    h.end().await;
}

#[tokio::test]
async fn tokens_are_held_to_scopes_and_sites() {
    let h = start().await;
    h.tasks.add(sample_task(1, "shop.a.test"));
    h.tasks.add(sample_task(2, "other.test"));
    let own = format!("/v1/tasks/{}", task_id(1));
    let other = format!("/v1/tasks/{}", task_id(2));
    let none = h.client.get(h.url(&own)).send().await.unwrap();
    assert_eq!(none.headers()["www-authenticate"], "Bearer realm=\"kedge\"");
    assert_eq!(document(none).await["status"], 401);
    let wrong = h.client.get(h.url(&own)).bearer_auth("nobody-has-this").send().await.unwrap();
    assert_eq!(wrong.headers()["www-authenticate"], "Bearer realm=\"kedge\", error=\"invalid_token\"");
    let ci =
        async |path: &str| h.client.get(h.url(path)).bearer_auth(CI).send().await.unwrap().status().as_u16();
    assert_eq!((ci(&own).await, ci(&other).await, ci(&format!("{other}/events")).await), (200, 404, 404));
    let cancel = h.client.post(h.url(&format!("{own}/cancel"))).bearer_auth(CI).send().await.unwrap();
    assert_eq!(cancel.status(), 403);
    let challenge = cancel.headers()["www-authenticate"].to_str().unwrap().to_owned();
    assert!(challenge.contains("error=\"insufficient_scope\", scope=\"task:migrate:cancel\""), "{challenge}");
    let create = async |params: Value| {
        let body = json!({"workflow": "migrate", "params": params});
        ask(h.client.post(h.url("/v1/tasks")).bearer_auth(CI).json(&body)).await
    };
    let (status, problem) = create(json!({"site": "other.test"})).await;
    assert_eq!((status, pointers(&problem)), (403, vec!["#/params/site"]));
    let (status, problem) = create(json!({"site": "shop.a.test", "new_site": "other.test"})).await;
    assert_eq!((status, pointers(&problem)), (403, vec!["#/params/new_site"]));
    assert!(h.tasks.submissions().is_empty());
    h.end().await;
}

#[tokio::test]
async fn verbs_do_what_the_state_allows() {
    let h = start().await;
    for (n, state) in [(1, TaskState::Running), (2, TaskState::Stuck), (3, TaskState::Succeeded)] {
        h.tasks.add(sample_task(n, "shop.a.test"));
        h.tasks.happen(&task_id(n), "x", state);
    }
    let path = |n, verb: &str| format!("/v1/tasks/{}/{verb}", task_id(n));
    let plain = |path: &str| h.client.post(h.url(path)).bearer_auth(ADMIN);
    assert_eq!(ask(plain(&path(1, "cancel"))).await.0, 202);
    let (status, problem) = ask(h.post(&path(1, "cancel"), &json!({"reason": "changed my mind"}))).await;
    assert_eq!((status, &problem["detail"]), (409, &json!("the task is compensating")));
    assert_eq!(ask(plain(&path(3, "undo"))).await.0, 202);
    assert_eq!(ask(plain(&path(1, "retry"))).await.0, 409);
    let how = json!({"step": "copy", "verb": "mark_undone", "reason": "did it by hand"});
    assert_eq!(ask(h.post(&path(2, "resolve"), &how)).await.0, 202);
    assert_eq!(serde_json::to_value(&h.tasks.resolutions()[0]).unwrap(), how);
    for (body, wrong) in [
        (json!({}), vec!["#/step", "#/verb"]),
        (json!({"step": "copy", "verb": "fix"}), vec!["#/verb"]),
        (json!({"step": "copy", "verb": "abandon"}), vec!["#/reason"]),
        (json!({"step": "copy", "verb": "retry", "why": 1}), vec!["#/why"]),
    ] {
        let (status, problem) = ask(h.post(&path(2, "resolve"), &body)).await;
        assert_eq!((status, pointers(&problem)), (422, wrong), "{body}");
    }
    let (status, _) = ask(plain(&path(77, "cancel"))).await;
    assert_eq!(status, 404);
    h.end().await;
}

#[tokio::test]
async fn the_engines_refusals_are_problem_documents() {
    let h = start().await;
    let body = json!({"workflow": "migrate", "params": {"site": "shop.a.test"}});
    let param = ParamError { pointer: "/site".to_owned(), detail: "there is no such site".to_owned() };
    for (error, want) in [
        (SubmitError::BadParams(vec![param]), 422),
        (SubmitError::UnknownWorkflow("migrate".to_owned()), 422),
        (SubmitError::Refused("unknown platform".to_owned()), 409),
        (SubmitError::Nothing("nothing would change".to_owned()), 422),
        (SubmitError::Unavailable("draining".to_owned()), 503),
        (SubmitError::Store("disk".to_owned()), 503),
    ] {
        h.tasks.refuse(Some(error.clone()));
        let (status, problem) = ask(h.post("/v1/tasks", &body)).await;
        assert_eq!(status, want, "{error:?}");
        match error {
            SubmitError::BadParams(_) => assert_eq!(pointers(&problem), ["#/params/site"]),
            SubmitError::Refused(ref why) => assert_eq!(problem["detail"], why.as_str()),
            _ => {}
        }
        let (status, _) = ask(h.post("/v1/tasks?dry_run=true", &body)).await;
        assert_eq!(status, want, "{error:?} of a dry run");
    }
    h.end().await;
}

#[tokio::test]
async fn a_panic_is_an_answer_and_the_server_goes_on() {
    let h = start().await;
    let body = |site: &str| json!({"workflow": "migrate", "params": {"site": site}});
    let (status, problem) = ask(h.post("/v1/tasks?dry_run=true", &body("panic.a.test"))).await;
    assert_eq!(status, 500);
    assert!(!problem.to_string().contains("on demand"), "{problem}");
    assert_eq!(ask(h.post("/v1/tasks?dry_run=true", &body("shop.a.test"))).await.0, 200);
    h.end().await;
}

#[tokio::test]
async fn resources_are_listed() {
    let h = start().await;
    h.tasks.add(sample_task(1, "shop.a.test"));
    for n in 0..5 {
        h.tasks.record("site", &format!("s{n}.a.test"), json!({"platform": "wp"}));
    }
    h.tasks.record("site", "other.test", json!({"platform": "wp"}));
    h.tasks.record("platform", "wp", json!({"app": "wordpress"}));
    h.tasks.record("backup", "x", json!({"site": "other.test"}));
    h.tasks.lock("site other.test");
    h.tasks.lock("platform wp");
    let ci = async |path: &str| ask(h.client.get(h.url(path)).bearer_auth(CI)).await.1;
    let names = |body: &Value, list: &str| -> Vec<String> {
        body[list].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    let page = ci("/v1/sites?limit=3").await;
    assert_eq!(names(&page, "sites"), ["s0.a.test", "s1.a.test", "s2.a.test"]);
    assert_eq!(page["sites"][0]["platform"], "wp");
    let page = ci(&format!("/v1/sites?limit=3&cursor={}", page["next"].as_str().unwrap())).await;
    assert_eq!(
        (names(&page, "sites"), &page["next"]),
        (vec!["s3.a.test".to_owned(), "s4.a.test".to_owned()], &Value::Null)
    );
    assert_eq!(names(&ci("/v1/platforms").await, "platforms"), ["wp"]);
    assert!(names(&ci("/v1/backups").await, "backups").is_empty());
    let one = async |path: &str| ask(h.client.get(h.url(path)).bearer_auth(CI)).await;
    assert_eq!(one("/v1/sites/s3.a.test").await, (200, json!({ "name": "s3.a.test", "platform": "wp" })));
    assert_eq!(one("/v1/platforms/wp").await, (200, json!({ "name": "wp", "app": "wordpress" })));
    for unseen in ["/v1/sites/other.test", "/v1/sites/nobody.test", "/v1/backups/x", "/v1/platforms/x"] {
        assert_eq!(one(unseen).await.0, 404, "{unseen}");
    }
    let old = json!({ "name": "s1.a.test", "platform": "wp", "database_server": "db1", "dir": "/srv/wp/sites/.kedge-trash-1" });
    h.tasks.record(
        "trash",
        task_id(7).as_str(),
        json!({ "site": old, "until": 1_790_000_000_000_u64, "why": "delete" }),
    );
    let (status, trash) = one("/v1/trash").await;
    assert_eq!((status, &trash["trash"][0]["site"]), (200, &json!("s1.a.test")), "{trash}");
    assert_eq!(one(&format!("/v1/trash/{}", task_id(7))).await.1, trash["trash"][0]);
    assert_eq!(trash["trash"][0]["until"], "2026-09-21T14:13:20.000Z", "{trash}");
    assert_eq!(ask(h.get("/v1/backups/x")).await, (200, json!({ "name": "x", "site": "other.test" })));
    assert_eq!(ci("/v1/locks").await["locks"].as_array().unwrap().len(), 1);
    let (_, all) = ask(h.get("/v1/locks")).await;
    assert_eq!(all["locks"].as_array().unwrap().len(), 2);
    assert_eq!(names(&ci("/v1/workflows").await, "workflows"), ["migrate", "backup"]);
    assert_eq!(ci("/v1/workflows/migrate").await["schema"]["required"], json!(["site"]));
    assert_eq!(ask(h.get("/v1/workflows/fly")).await.0, 404);
    assert_eq!(names(&ci("/v1/endpoints").await, "endpoints"), ["ci"]);
    let own = format!("/v1/tasks/{}", task_id(1));
    let log = h.get(&format!("{own}/steps/copy/log")).send().await.unwrap();
    assert_eq!(log.text().await.unwrap(), "copied 3 files\n");
    assert_eq!(ask(h.get(&format!("{own}/steps/nope/log"))).await.0, 404);
    for (accept, begin) in
        [("text/vnd.mermaid", "flowchart"), ("text/vnd.graphviz", "digraph"), ("*/*", "<svg ")]
    {
        let graph = h.get(&format!("{own}/graph")).header("accept", accept).send().await.unwrap();
        assert!(graph.text().await.unwrap().starts_with(begin), "{accept}");
    }
    assert_eq!(ask(h.get(&format!("{own}/graph")).header("accept", "image/png")).await.0, 406);
    h.end().await;
}

#[tokio::test]
async fn health_and_counts() {
    let h = start().await;
    h.tasks.add(sample_task(1, "shop.a.test"));
    h.tasks.change(&task_id(1), |task| task.steps[0].progress = Some(Progress::default()));
    let open = async |path: &str| ask(h.client.get(h.url(path))).await;
    assert_eq!(open("/livez").await, (200, json!({"status": "alive"})));
    assert_eq!(open("/readyz").await.0, 200);
    h.tasks.set_health(Health::Low("3 MB left in /var/lib/kedge".to_owned()));
    let (status, problem) = open("/readyz").await;
    assert_eq!(status, 503);
    assert!(!problem.to_string().contains("/var/lib"), "paths are for those with a token: {problem}");
    let (_, problem) = ask(h.get("/readyz")).await;
    assert!(problem["detail"].as_str().unwrap().contains("3 MB left in /var/lib/kedge"));
    let (_, text) = open("/metrics").await;
    let text = text.as_str().unwrap();
    assert!(text.contains("kedge_tasks{state=\"queued\"} 1\n"), "{text}");
    assert!(text.contains("kedge_http_requests_total{route=\"readyz\",status=\"503\"} 2\n"), "{text}");
    h.end().await;
}

#[tokio::test]
async fn request_ids_are_kept_when_harmless() {
    let h = start().await;
    let id = async |given: &str| {
        let response = h.client.get(h.url("/livez")).header("x-request-id", given).send().await.unwrap();
        response.headers()["x-request-id"].to_str().unwrap().to_owned()
    };
    assert_eq!(id("trace-1.a_b").await, "trace-1.a_b");
    for given in ["a b", "<script>", &"x".repeat(129)] {
        assert!(id(given).await.starts_with("req_"), "{given}");
    }
    h.end().await;
}

#[tokio::test]
async fn access_is_replaced_while_serving_and_a_bad_one_changes_nothing() {
    let h = start().await;
    let status = async || h.get("/v1/workflows").send().await.unwrap().status().as_u16();
    assert_eq!(status().await, 200);
    let mut bad = access();
    bad.tokens.push(bad.tokens[0].clone());
    bad.hooks[0] = Hook::new(HookSpec {
        name: "x".to_owned(),
        provider: "github".to_owned(),
        secrets: vec![Secret::new("s")],
        workflow: "fly".to_owned(),
        callback: Some(json!({"endpoint": "gone"})),
        ..HookSpec::default()
    })
    .unwrap();
    let mistakes = h.app.replace(bad).unwrap_err();
    let fields: Vec<&str> = mistakes.iter().map(|mistake| mistake.field.as_str()).collect();
    assert_eq!(fields, ["tokens.ci", "hooks.x.workflow", "hooks.x.callback.endpoint"]);
    assert_eq!(status().await, 200);
    let mut new = access();
    new.tokens.truncate(0);
    new.hooks[0] = Hook::new(HookSpec {
        name: "x".to_owned(),
        provider: "github".to_owned(),
        secrets: vec![Secret::new("s")],
        workflow: "migrate".to_owned(),
        callback: Some(json!({"endpoint": "later"})),
        ..HookSpec::default()
    })
    .unwrap();
    assert!(h.app.reload(new.clone(), Vec::new()).is_err());
    assert_eq!(status().await, 200);
    h.app.reload(new, vec![endpoint("later", "https://later.test/", &[])]).unwrap();
    assert_eq!(status().await, 401);
    h.end().await;
}
