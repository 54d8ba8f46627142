//! Single runs told in full: what has to be true at the end of a rename, and what is found out before a site is closed.

use kedge_engine::task::{TaskState, TaskView};
use kedge_workflows::names::SiteName;
use kedge_workflows::ports::DatabaseFacts;
use kedge_workflows::testing::FakeWorld;
use serde_json::{Value, json};

use crate::judge::whole;
use crate::rig::{Ask, Base, Case, End, play};
use crate::scene::usual;

fn migrate(base: &Base, params: Value, watch: &dyn Fn(&FakeWorld) -> Option<String>) -> End {
    play(base, &Ask::Task { workflow: "migrate", params }, &Case::default(), watch)
}

fn status(world: &FakeWorld, web_server: &str, name: &str) -> u16 {
    let answers = world.visit(&SiteName::parse(name).unwrap(), "/");
    answers.into_iter().find(|(web, ..)| *web == web_server).map_or(0, |(_, status, _)| status)
}

/// A migrate to db2 that cannot be: the reason, in the words of its error.
fn refused(change: impl FnOnce(&mut DatabaseFacts), triggers: u64) -> String {
    let base = usual();
    base.world.database_server("db2").change_facts(change);
    let schema = kedge_workflows::names::DatabaseName::parse("shopexampletest").unwrap();
    base.world.database_server("db1").set_triggers(&schema, triggers);
    let open = |world: &FakeWorld| {
        (status(world, "web1", "shop.example.test") != 200).then(|| "the site was closed".to_owned())
    };
    let params = json!({ "site": "shop.example.test", "target_database_server": "db2" });
    let end = migrate(&base, params, &open);
    assert_eq!((end.view.state, end.scandal), (TaskState::RolledBack, None));
    end.view.error.unwrap().detail
}

#[test]
fn what_a_database_server_cannot_take_is_found_before_the_doors_close() {
    let told = refused(|facts| facts.collations.retain(|name| name != "utf8mb4_unicode_520_ci"), 0);
    assert!(
        told.contains("db2 (10.11.0-fake) lacks collations") && told.contains(": utf8mb4_unicode_520_ci;"),
        "{told}"
    );
    let told = refused(|facts| facts.refuses_triggers = true, 3);
    assert!(told.contains("error 1419") && told.contains("the site has 3"), "{told}");
}

#[test]
fn an_older_version_is_a_warning_that_can_be_acknowledged() {
    let mut base = usual();
    base.world.add_platform("wordpress-60", "web1", "/srv/platforms/60", "6.0.9", 1);
    let mut params = json!({ "site": "shop.example.test", "target_platform": "wordpress-60" });
    let end = migrate(&base, params.clone(), &|_| None);
    let told = end.view.error.unwrap().detail;
    assert!(
        told.contains("version 6.0.9, older than the site's 6.1; ") && told.contains("acknowledge_warnings"),
        "{told}"
    );
    params["acknowledge_warnings"] = json!(true);
    assert_eq!(migrate(&base, params, &|_| None).view.state, TaskState::Succeeded);
}

#[test]
fn a_server_that_refuses_triggers_takes_a_site_without_any() {
    let base = usual();
    base.world.database_server("db2").change_facts(|facts| facts.refuses_triggers = true);
    let params = json!({ "site": "shop.example.test", "target_database_server": "db2" });
    assert_eq!(migrate(&base, params, &|_| None).view.state, TaskState::Succeeded);
}

#[test]
fn a_rename_reaches_names_content_and_events() {
    let params = json!({ "site": "shop.example.test", "new_site": "store.example.test", "redirect_old": true,
                         "target_database_server": "db2" });
    let end = migrate(&usual(), params, &|world| {
        // The copy's events run only when the old side serves nobody any more.
        let runs =
            world.state().iter().any(|(key, told)| key.contains("database db2 event:") && told == "On");
        let closed = status(world, "web1", "store.example.test") != 200;
        (runs && closed).then(|| "an event runs in the copy".to_owned())
    });
    let TaskView { state, downtime_ms, undo_until, .. } = &end.view;
    assert_eq!((*state, end.scandal.clone()), (TaskState::Succeeded, None));
    assert!(downtime_ms.is_some() && undo_until.is_some(), "{:?}", end.view);
    let world = &end.rig.world;
    for (name, expected) in [
        ("store.example.test", 200),
        ("www.store.example.test", 200),
        ("alias.example.test", 200),
        ("shop.example.test", 301),
        ("www.shop.example.test", 301),
        ("neighbour.example.test", 200),
    ] {
        assert_eq!(status(world, "web1", name), expected, "{name}");
    }
    let state = whole(&end.rig);
    let new = |what: &str| {
        state
            .iter()
            .filter(move |(key, _)| key.starts_with("database db2") && key.contains(what.to_owned().as_str()))
            .map(|(_, told)| told.clone())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let orders = new(".wp_orders");
    assert!(orders.contains("http://store.example.test/order/1"), "{orders}");
    assert!(orders.contains("http://www.store.example.test/order/2"), "{orders}");
    assert!(!orders.contains("shop.example.test/"), "{orders}");
    assert!(new("event:").contains("On") && new("event:").contains("Off"), "{state:?}");
    assert!(
        end.view.result["kept_until"].is_u64() && end.view.result["backup"].is_string(),
        "{:?}",
        end.view.result
    );
}
