//! A site that answers for a page otherwise than its application usually does: it is told so once, and every check goes by it.

use kedge_engine::task::{TaskState, TaskView};
use kedge_workflows::testing::HIDES_LOGIN;
use serde_json::{Value, json};

use crate::rig::{Ask, Base, Case, play, quietly};
use crate::scene::usual;
use crate::tales::status;

const SHOP: &str = "shop.example.test";

fn ask(workflow: &'static str, params: Value) -> Ask {
    Ask::Task { workflow, params }
}

/// Why a task was rolled back.
fn refused(base: &Base, workflow: &'static str, params: Value) -> String {
    let view = play(base, &ask(workflow, params), &Case::default(), &|_| None).view;
    assert_eq!(view.state, TaskState::RolledBack, "{workflow}: {view:?}");
    view.error.unwrap().detail
}

fn done(base: &Base, workflow: &'static str, params: Value) -> (Base, TaskView) {
    let (base, view) = quietly(base, &ask(workflow, params));
    assert_eq!(view.state, TaskState::Succeeded, "{workflow}: {:?}", view.error);
    (base, view)
}

#[test]
fn a_site_that_hides_its_login_moves_closes_and_opens_once_that_is_known() {
    let base = usual();
    base.world
        .disk("host1")
        .write(&format!("/srv/platforms/61/sites/{SHOP}/{HIDES_LOGIN}"), b"<?php".to_vec());
    let to = json!({ "site": SHOP, "target_platform": "wordpress-68" });
    let page = json!({ "path": "/wp-login.php", "status": 404 });
    for (workflow, params) in [("migrate", to.clone()), ("verify", json!({ "site": SHOP }))] {
        let why = refused(&base, workflow, params);
        assert!(
            why.contains(r#"tell it to `configure`: pages=[{"path":"/wp-login.php","status":404}]"#),
            "{why}"
        );
    }
    let other = json!({ "site": SHOP, "pages": [page, { "path": "/basket", "status": 302 }] });
    assert!(refused(&base, "configure", other).contains("/basket answers 200, expected [302]"));

    let (base, _) = done(&base, "configure", json!({ "site": SHOP, "pages": [page] }));
    let (base, _) = done(&base, "migrate", to);
    let (base, _) = done(&base, "clone", json!({ "site": SHOP, "new_site": "copy.example.test" }));
    let (base, _) = done(&base, "disable", json!({ "site": SHOP }));
    let (base, _) = done(&base, "enable", json!({ "site": SHOP }));
    for site in [SHOP, "copy.example.test"] {
        assert_eq!(status(&base.world, "web1", site), 200);
    }
    assert!(
        refused(&base, "configure", json!({ "site": SHOP, "pages": [] }))
            .contains("/wp-login.php answers 404")
    );
}

/// A side from before the page was so answers as usual: a restore and an undo bring it back all the same.
#[test]
fn a_side_that_answers_as_usual_comes_back_where_the_page_is_known_to_be_otherwise() {
    let (base, backup) = done(&usual(), "backup", json!({ "site": SHOP }));
    let name = backup.result["backup"].as_str().unwrap().to_owned();
    let (base, moved) = done(&base, "migrate", json!({ "site": SHOP, "target_platform": "wordpress-68" }));
    base.world
        .disk("host1")
        .write(&format!("/srv/platforms/68/sites/{SHOP}/{HIDES_LOGIN}"), b"<?php".to_vec());
    let page = json!({ "path": "/wp-login.php", "status": 404 });
    let (base, _) = done(&base, "configure", json!({ "site": SHOP, "pages": [page] }));
    done(&base, "restore", json!({ "site": SHOP, "backup": name }));
    let (_, undone) = quietly(&base, &Ask::Undo(moved.id));
    assert_eq!(undone.state, TaskState::Succeeded, "{:?}", undone.error);
}
