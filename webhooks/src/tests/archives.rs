//! Archives as files: whole, or seen to be broken off, and only for those who may restore them.

use super::*;

#[tokio::test]
async fn an_archive_is_a_file_for_those_who_may_restore_it() {
    let h = start().await;
    let sha256 = "ab".repeat(32);
    for name in ["x.tar.zst", "gone.tar.zst", "broken.tar.zst"] {
        h.tasks.record("backup", name, json!({ "site": "shop.a.test", "sha256": sha256 }));
    }
    let path = |name: &str| format!("/v1/backups/{name}/archive");
    let response = h.get(&path("x.tar.zst")).send().await.unwrap();
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!((response.status().as_u16(), header("content-length")), (200, "11".to_owned()));
    assert_eq!(header("content-type"), "application/zstd");
    assert_eq!(header("content-disposition"), "attachment; filename=\"x.tar.zst\"");
    assert_eq!(header("repr-digest"), "sha-256=:q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=:");
    assert_eq!(response.bytes().await.unwrap(), "archive....");
    let head = h.client.head(h.url(&path("x.tar.zst"))).bearer_auth(ADMIN).send().await.unwrap();
    assert_eq!((head.status().as_u16(), &head.headers()["content-length"]), (200, &"11".parse().unwrap()));

    let broken = async { h.get(&path("broken.tar.zst")).send().await?.bytes().await };
    assert!(broken.await.is_err(), "what is broken off does not look whole");
    assert_eq!(ask(h.get(&path("gone.tar.zst"))).await.0, 404);
    assert_eq!(ask(h.get(&path("never.tar.zst"))).await.0, 404);
    let looker = h.client.get(h.url(&path("x.tar.zst"))).bearer_auth(LOOKER);
    let (status, problem) = ask(looker).await;
    assert_eq!(status, 403, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("task:restore:create"), "{problem}");
    h.tasks.record("backup", "other.tar.zst", json!({ "site": "other.test" }));
    let unseen = h.client.get(h.url(&path("other.tar.zst"))).bearer_auth(CI);
    assert_eq!(ask(unseen).await.0, 404);
    h.end().await;
}
