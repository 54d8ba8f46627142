//! Tasks that go by a plan of before: what it is about was changed while they waited, and no other plan could be made. Whatever they
//! find, what others have done meanwhile stays.

use kedge_engine::task::{TaskState, TaskView};
use kedge_workflows::testing::{FakeWebServer, FakeWorld};
use serde_json::{Value, json};

use crate::rig::{Ask, Case, Rig, both, play, quietly, refusal};
use crate::scene::usual;
use crate::tales::status;

const SHOP: &str = "shop.example.test";

fn ask(workflow: &'static str, params: Value) -> Ask {
    Ask::Task { workflow, params }
}

/// Why a task has changed nothing.
fn gave_up(task: &TaskView) -> String {
    assert_eq!(task.state, TaskState::RolledBack, "{task:?}");
    task.error.as_ref().expect("an error").detail.clone()
}

/// A record of the registry.
fn record(rig: &Rig, key: &str) -> Option<Value> {
    rig.records().into_iter().find(|(name, _)| name == key).map(|(_, record)| record)
}

#[test]
fn a_purge_leaves_what_was_brought_back_before_it() {
    let base = usual();
    let site = "old.example.test";
    let back = ask("undelete", json!({ "site": site }));
    let (rig, [undeleted, purged]) = both(&base, [&back, &ask("purge", json!({ "site": site }))]);
    assert_eq!((undeleted.state, purged.state), (TaskState::Succeeded, TaskState::Succeeded));
    assert_eq!(purged.result["sides"], 0, "{:?}", purged.result);
    let (alone, _) = quietly(&base, &back);
    let databases = |state: kedge_workflows::testing::WorldState| -> Vec<_> {
        state.into_iter().filter(|(key, _)| key.starts_with("database ")).collect()
    };
    assert_eq!(databases(rig.world.state()), databases(alone.world.state()), "its database and user stay");
    let enabled = quietly(&rig.base(), &ask("enable", json!({ "site": site })));
    assert_eq!(status(&enabled.0.world, "web1", site), 200);
}

#[test]
fn a_name_that_another_site_has_got_is_not_taken_from_it() {
    let base = usual();
    let name = "new.example.test";
    let install = |site: &str, platform: &str, aliases: &[&str]| {
        ask(
            "install",
            json!({ "site": site, "platform": platform, "database_server": "db1", "aliases": aliases }),
        )
    };
    // On another web server nothing but the registry knows of it.
    let (rig, [first, second]) =
        both(&base, [&install(name, "wordpress-61", &[]), &install(name, "wordpress-far", &[])]);
    assert_eq!(first.state, TaskState::Succeeded, "{:?}", first.error);
    assert!(gave_up(&second).contains("is a name of the site new.example.test by now"));
    assert_eq!(record(&rig, "site/new.example.test").unwrap()["platform"], "wordpress-61");

    let renamed = ask("migrate", json!({ "site": SHOP, "new_site": "store.example.test" }));
    let (base, renamed) = quietly(&base, &renamed);
    let (takes, undo) = (install(SHOP, "wordpress-far", &[]), Ask::Undo(renamed.id));
    let (rig, [taken, undone]) = both(&base, [&takes, &undo]);
    assert_eq!(taken.state, TaskState::Succeeded, "{:?}", taken.error);
    assert!(gave_up(&undone).contains("is a name of the site shop.example.test by now"));
    assert_eq!(record(&rig, "site/shop.example.test").unwrap()["task"], taken.id.as_str());
    assert_eq!(status(&rig.world, "web1", "store.example.test"), 200);
    assert!(refusal(&quietly(&base, &takes).0, &undo).contains("is a name of the site"));

    let (base, _) = quietly(&usual(), &ask("delete", json!({ "site": SHOP })));
    let (base, _) = quietly(&base, &install(name, "wordpress-far", &["alias.example.test"]));
    let told = refusal(&base, &ask("undelete", json!({ "site": SHOP })));
    assert!(told.contains("alias.example.test is a name of the site new.example.test by now"), "{told}");
}

/// A configure gets a name as others do.
#[test]
fn a_name_that_was_given_up_is_another_ones_when_that_is_taken_back() {
    let alias = "alias.example.test";
    let (base, configured) =
        quietly(&usual(), &ask("configure", json!({ "site": SHOP, "aliases": ["www.shop.example.test"] })));
    // On another web server nothing but the registry knows of it.
    let takes =
        ask("install", json!({ "site": alias, "platform": "wordpress-far", "database_server": "db1" }));
    let (rig, [taken, undone]) = both(&base, [&takes, &Ask::Undo(configured.id.clone())]);
    assert_eq!(taken.state, TaskState::Succeeded, "{:?}", taken.error);
    assert!(gave_up(&undone).contains("alias.example.test is a name of the site alias.example.test by now"));
    assert_eq!(record(&rig, "site/shop.example.test").unwrap()["aliases"], json!(["www.shop.example.test"]));
    assert_eq!(status(&rig.world, "web1", "www.shop.example.test"), 200);
    let free = ask(
        "install",
        json!({ "site": "new.example.test", "platform": "wordpress-far", "database_server": "db1" }),
    );
    let (_, [_, undone]) = both(&base, [&free, &Ask::Undo(configured.id)]);
    assert_eq!(undone.state, TaskState::Succeeded, "nobody has taken it: {:?}", undone.error);
}

#[test]
fn who_closes_or_opens_a_site_meanwhile_has_the_last_word() {
    let (base, moved) =
        quietly(&usual(), &ask("migrate", json!({ "site": SHOP, "target_platform": "wordpress-68" })));
    let disable = ask("disable", json!({ "site": SHOP }));
    let (rig, [disabled, undone]) = both(&base, [&disable, &Ask::Undo(moved.id)]);
    assert_eq!(disabled.state, TaskState::Succeeded, "{:?}", disabled.error);
    assert!(gave_up(&undone).contains("another task has changed shop.example.test"));
    assert_eq!(status(&rig.world, "web1", SHOP), 503);

    let (base, disabled) = quietly(&usual(), &disable);
    let enable = ask("enable", json!({ "site": SHOP }));
    let (rig, [enabled, undone]) = both(&base, [&enable, &Ask::Undo(disabled.id)]);
    assert_eq!(enabled.state, TaskState::Succeeded, "{:?}", enabled.error);
    assert!(gave_up(&undone).contains("another task has changed shop.example.test"));
    assert_eq!(status(&rig.world, "web1", SHOP), 200);
}

/// What is done to a site whatever is missing of it asks the registry at least.
#[test]
fn a_site_that_has_moved_is_not_where_it_was() {
    let base = usual();
    let closed = "closed.example.test";
    let moves = |site: &str| ask("migrate", json!({ "site": site, "target_platform": "wordpress-68" }));
    let (opened, enabled) = quietly(&base, &ask("enable", json!({ "site": closed })));
    let (logged_in, login) = quietly(&base, &ask("login", json!({ "site": SHOP })));
    for (base, site, undo) in [(&opened, closed, enabled.id), (&logged_in, SHOP, login.id)] {
        let (rig, [moved, undone]) = both(base, [&moves(site), &Ask::Undo(undo)]);
        assert_eq!(moved.state, TaskState::Succeeded, "{:?}", moved.error);
        assert!(gave_up(&undone).contains(&format!("another task has changed {site}")));
        let record = record(&rig, &format!("site/{site}")).unwrap();
        assert_eq!((&record["platform"], &record["state"]), (&json!("wordpress-68"), &json!("enabled")));
        assert_eq!(status(&rig.world, "web1", site), 200);
    }
}

#[test]
fn what_is_taken_back_leaves_what_came_before_it_to_be_taken_back() {
    let base = usual();
    let before = record(&Rig::new(&base, &Case::default()), "site/shop.example.test").unwrap();
    let (base, moved) =
        quietly(&base, &ask("migrate", json!({ "site": SHOP, "target_platform": "wordpress-68" })));
    let (base, away) =
        quietly(&base, &ask("migrate", json!({ "site": SHOP, "target_platform": "wordpress-far" })));
    assert!(refusal(&base, &Ask::Undo(moved.id.clone())).contains("was changed since"));
    let (base, _) = quietly(&base, &Ask::Undo(away.id));
    let (base, _) = quietly(&base, &Ask::Undo(moved.id));
    let mut after = record(&Rig::new(&base, &Case::default()), "site/shop.example.test").unwrap();
    after["changed_at"] = before["changed_at"].clone();
    assert_eq!(after, before);
    assert_eq!(status(&base.world, "web1", SHOP), 200);
}

#[test]
fn what_was_configured_since_is_not_lost_when_a_move_is_taken_back() {
    let moves = ask("migrate", json!({ "site": SHOP, "target_platform": "wordpress-68" }));
    let (base, moved) = quietly(&usual(), &moves);
    let undo = Ask::Undo(moved.id);
    let secured =
        ask("configure", json!({ "site": SHOP, "aliases": ["www.shop.example.test"], "tls": "self_signed" }));
    let (changed, configured) = quietly(&base, &secured);
    let told = refusal(&changed, &undo);
    assert!(told.contains("were changed since, and would be lost; undo the configure first"), "{told}");
    let (base, _) = quietly(&changed, &Ask::Undo(configured.id));
    assert_eq!(quietly(&base, &undo).1.state, TaskState::Succeeded);
}

/// Somebody's block for HTTPS would only be met by the put, with the old side closed.
#[test]
fn a_name_that_has_https_elsewhere_is_found_before_the_site_is_closed() {
    let (base, _) = quietly(&usual(), &ask("configure", json!({ "site": SHOP, "tls": "self_signed" })));
    let theirs = FakeWebServer::foreign_vhost(&["store.example.test:443"], "theirs");
    base.world.web("web1").write("/etc/web1/theirs.conf", Some(&theirs), None);
    let open =
        |world: &FakeWorld| (status(world, "web1", SHOP) != 200).then(|| "the site was closed".to_owned());
    let rename = ask("migrate", json!({ "site": SHOP, "new_site": "store.example.test" }));
    let end = play(&base, &rename, &Case::default(), &open);
    assert_eq!((end.view.state, end.scandal), (TaskState::RolledBack, None));
    let why = end.view.error.expect("an error").detail;
    assert!(why.contains("store.example.test is served on web1 already, by /etc/web1/theirs.conf"), "{why}");
}

/// An undo cannot do without the names that it gives back.
#[test]
fn names_that_somebody_else_serves_by_now_come_back_all_the_same() {
    let (base, _) = quietly(&usual(), &ask("configure", json!({ "site": SHOP, "tls": "self_signed" })));
    let theirs = FakeWebServer::foreign_vhost(&["alias.example.test:443"], "theirs");
    base.world.web("web1").write("/etc/web1/theirs.conf", Some(&theirs), None);
    base.world.web("web1").set_stopped(false);
    let end = play(
        &base,
        &ask("migrate", json!({ "site": SHOP, "new_site": "alias.example.test" })),
        &Case::default(),
        &|_| None,
    );
    assert_eq!(end.view.state, TaskState::RolledBack, "{:?}", end.view.incident);
    let why = end.view.error.expect("an error").detail;
    assert!(why.contains("alias.example.test is served by /etc/web1/theirs.conf already"), "{why}");
    assert_eq!(end.view.outcome.expect("an outcome").verified, Some(true));
    assert_eq!(end.rig.world.web("web1").files(), base.world.web("web1").files());
    assert_eq!(status(&end.rig.world, "web1", SHOP), 200);
}
