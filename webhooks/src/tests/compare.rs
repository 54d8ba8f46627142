//! The comparison of platforms: who may ask, and what is answered when there is none.

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
