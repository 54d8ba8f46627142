//! Login links: who gets to see one, and where none is ever.

use super::*;
use crate::testing::{LINK, sample_task, task_id};

#[tokio::test]
async fn a_link_is_for_those_who_may_make_one() {
    let h = start().await;
    for (number, site, workflow) in [
        (1, "shop.a.test", "login"),
        (2, "shop.a.test", "login"),
        (3, "shop.a.test", "migrate"),
        (4, "b.test", "login"),
    ] {
        h.tasks
            .add(kedge_engine::task::TaskView { workflow: workflow.to_owned(), ..sample_task(number, site) });
    }
    let path = |number| format!("/v1/tasks/{}/login", task_id(number));
    let asked = |number, secret: &str| ask(h.client.get(h.url(&path(number))).bearer_auth(secret));
    for secret in [ADMIN, CI] {
        let (status, body) = asked(1, secret).await;
        assert_eq!((status, &body["url"]), (200, &json!(LINK)), "{body}");
    }
    // Who reads tasks only does not get to log in.
    assert_eq!(asked(1, LOOKER).await.0, 403);
    assert_eq!(ask(h.client.get(h.url(&path(1)))).await.0, 401);
    let (status, body) = asked(2, ADMIN).await;
    assert!(status == 404 && body["detail"].as_str().unwrap().contains("its time is over"), "{body}");
    assert_eq!(asked(3, ADMIN).await.0, 404);
    assert_eq!(asked(4, CI).await.0, 404, "the token does not see the site");
    let (_, task) = ask(h.get(&format!("/v1/tasks/{}", task_id(1)))).await;
    assert_eq!(task["links"]["login"], path(1));
    assert!(!task.to_string().contains(LINK), "{task}");
    h.end().await;
}
