//! Platforms: who may compare them, add one and take it away, and what is answered when that cannot be.

use super::*;

#[tokio::test]
async fn platforms_are_compared_for_those_who_see_the_site() {
    let h = start().await;
    let asked = |to: &str, query: &str, secret: &str| {
        ask(h.client.get(h.url(&format!("/v1/platforms/old/compare/{to}{query}"))).bearer_auth(secret))
    };
    let (status, body) = asked("new", "?site=shop.a.test", CI).await;
    assert_eq!((status, &body["rows"][0]["verdict"]), (200, &json!("missing")), "{body}");
    assert_eq!([&body["from"], &body["to"], &body["site"]], ["old", "new", "shop.a.test"]);
    assert_eq!(asked("new", "", ADMIN).await.0, 200);
    assert_eq!(asked("new", "?site=shop.b.test", CI).await.0, 404, "the token does not see the site");
    assert_eq!(asked("nowhere", "", ADMIN).await.0, 404);
    assert_eq!(asked("other", "", ADMIN).await.0, 409);
    assert_eq!(asked("away", "", ADMIN).await.0, 503);
    assert_eq!(asked("new", "?what=else", ADMIN).await.0, 422);
    h.end().await;
}

#[tokio::test]
async fn platforms_are_added_and_taken_away_by_administrators() {
    let h = start().await;
    let new = |name: &str, web_server: &str| json!({ "name": name, "web_server": web_server, "root": "/srv/platforms/7.0", "app": "wordpress" });
    let response = h.post("/v1/platforms", &new("new", "web1")).send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["location"]),
        (201, &"/v1/platforms/new".parse().unwrap())
    );
    assert_eq!(document(response).await["source"], "api");
    let as_ci = h.client.post(h.url("/v1/platforms")).bearer_auth(CI).json(&new("new", "web1"));
    assert_eq!(ask(as_ci).await.0, 403, "not by a token without admin");
    for (body, status, wrong) in [
        (new("taken", "web1"), 409, vec![]),
        (new("lost", "web1"), 503, vec![]),
        (new("new", "web9"), 422, vec!["#/web_server"]),
        (new("../new", "web1"), 422, vec!["#/name"]),
        (json!({ "name": 7, "root": "" }), 422, vec!["#/name", "#/web_server", "#/root", "#/app"]),
        (json!([]), 422, vec!["#"]),
    ] {
        let (is, problem) = ask(h.post("/v1/platforms", &body)).await;
        assert_eq!(is, status, "{body}: {problem}");
        if !wrong.is_empty() {
            let mut pointers = pointers(&problem);
            pointers.sort_unstable();
            let mut wrong = wrong;
            wrong.sort_unstable();
            assert_eq!(pointers, wrong, "{body}");
        }
    }
    let remove = |name: &str| h.client.delete(h.url(&format!("/v1/platforms/{name}"))).bearer_auth(ADMIN);
    assert_eq!(ask(remove("used")).await.0, 409);
    assert_eq!(ask(remove("nowhere")).await.0, 404);
    assert_eq!(ask(remove("new")).await.0, 204);
    let (_, audit) = ask(h.get("/v1/audit")).await;
    let told = audit.to_string();
    assert!(told.contains("make_platform") && told.contains("remove_platform"), "{told}");
    h.end().await;
}
