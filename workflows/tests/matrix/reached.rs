//! Single runs about the names that a site is reached by: in its vhost, and in the content of what is made from it.

use kedge_engine::task::TaskState;
use kedge_workflows::names::DatabaseName;
use kedge_workflows::testing::FakeTable;
use serde_json::{Value, json};

use crate::judge::whole;
use crate::rig::{Ask, Base, Case, End, Rig, play, quietly};
use crate::scene::{BENT, EDITED, usual};
use crate::tales::status;

fn task(base: &Base, workflow: &'static str, params: Value) -> End {
    play(base, &Ask::Task { workflow, params }, &Case::default(), &|_| None)
}

/// What is asked for would not be in the vhost, and the registry would say that it is.
#[test]
fn a_vhost_that_was_changed_by_hand_is_not_passed_over_by_a_configure() {
    let base = usual();
    let before = whole(&Rig::new(&base, &Case::default()));
    for params in [
        json!({ "site": EDITED, "aliases": ["www.edited.example.test"] }),
        json!({ "site": EDITED, "tls": "self_signed", "https_only": true }),
    ] {
        let end = task(&base, "configure", params.clone());
        assert_eq!(end.view.state, TaskState::RolledBack, "{params}");
        let told = end.view.error.as_ref().unwrap().detail.clone();
        assert!(told.contains("was changed by hand") && told.contains("overwrite=true"), "{told}");
        let after = whole(&end.rig);
        let changed = before.iter().filter(|(key, told)| after.get(*key) != Some(told));
        assert_eq!(changed.collect::<Vec<_>>(), Vec::<(&String, &String)>::new(), "{params}");
    }
    // The vhost says nothing of this.
    let end = task(&base, "configure", json!({ "site": EDITED, "quiet": true }));
    assert_eq!(end.view.state, TaskState::Succeeded, "{:?}", end.view.error);
}

/// A shop whose visitors end up with an alias, which its content names.
fn with_a_front() -> Base {
    let front = json!({ "site": "shop.example.test", "redirect_to": "alias.example.test" });
    let (base, _) = quietly(&usual(), &Ask::Task { workflow: "configure", params: front });
    let schema = DatabaseName::parse("shopexampletest").unwrap();
    let filled = base.world.database_server("db1").with_tables(&schema, |tables| {
        let mut links = FakeTable::new(&["link"]);
        for name in ["shop", "www.shop", "alias"] {
            links.insert(&[&format!("http://{name}.example.test/pay")]);
        }
        tables.insert("wp_links".to_owned(), links);
    });
    filled.expect("the shop's schema");
    base
}

/// What is in the links of a schema that was not there before.
fn new_links(base: &Base, end: &End) -> String {
    let before = whole(&Rig::new(base, &Case::default()));
    let of_new = |key: &String| key.contains(".wp_links") && !before.contains_key(key);
    let found: Vec<String> =
        whole(&end.rig).into_iter().filter(|(key, _)| of_new(key)).map(|(_, told)| told).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.concat()
}

/// Forms and links of a copy lead to the copy, whichever name of the original they had.
#[test]
fn a_copy_leads_nobody_to_its_original() {
    let base = with_a_front();
    for (to, over) in [("staging.example.test", false), ("lonely.example.test", true)] {
        let params = json!({ "site": "shop.example.test", "new_site": to, "over_existing": over });
        let end = task(&base, "clone", params);
        assert_eq!(end.view.state, TaskState::Succeeded, "{:?}", end.view.error);
        let links = new_links(&base, &end);
        assert_eq!(links.matches(&format!("http://{to}/pay")).count(), 3, "{links}");
    }
}

/// What was made from a backup of another site, which is there still.
#[test]
fn a_backup_of_another_site_leads_nobody_there() {
    let base = with_a_front();
    let (mut base, made) =
        quietly(&base, &Ask::Task { workflow: "backup", params: json!({ "site": "shop.example.test" }) });
    base.now += 1000;
    let backup = made.result["backup"].as_str().unwrap().to_owned();
    let end = task(&base, "restore", json!({ "site": "lonely.example.test", "backup": backup }));
    assert_eq!(end.view.state, TaskState::Succeeded, "{:?}", end.view.error);
    let links = new_links(&base, &end);
    assert_eq!(links.matches("http://lonely.example.test/pay").count(), 3, "{links}");
}

/// A site that was renamed since: its `www.` name went with the name, others stayed its own.
#[test]
fn a_backup_from_before_a_rename_comes_back_under_the_new_names() {
    let base = with_a_front();
    let ask = |workflow, params| Ask::Task { workflow, params };
    let (mut base, made) = quietly(&base, &ask("backup", json!({ "site": "shop.example.test" })));
    base.now += 1000;
    let backup = made.result["backup"].as_str().unwrap().to_owned();
    let rename = json!({ "site": "shop.example.test", "new_site": "store.example.test" });
    let (base, _) = quietly(&base, &ask("migrate", rename));
    let end = task(&base, "restore", json!({ "site": "store.example.test", "backup": backup }));
    assert_eq!(end.view.state, TaskState::Succeeded, "{:?}", end.view.error);
    let links = new_links(&base, &end);
    for name in ["http://store.", "http://www.store.", "http://alias."] {
        assert!(links.contains(name), "{name} is missing in {links}");
    }
}

/// A `www.` name that was never the site's, and is another one's.
#[test]
fn a_backup_under_another_name_leaves_the_names_of_others_alone() {
    let base = usual();
    let schema = DatabaseName::parse("lonelyexampletes").unwrap();
    let filled = base.world.database_server("db1").with_tables(&schema, |tables| {
        let mut links = FakeTable::new(&["link"]);
        links.insert(&["http://lonely.example.test/ http://www.lonely.example.test/"]);
        tables.insert("wp_links".to_owned(), links);
    });
    filled.expect("the schema");
    let ask = |workflow, params| Ask::Task { workflow, params };
    for (owner, expected) in [
        (None, "http://shop.example.test/ http://www.shop.example.test/"),
        (Some("www.lonely.example.test"), "http://shop.example.test/ http://www.lonely.example.test/"),
    ] {
        let mut base = match owner {
            Some(alias) => {
                let params = json!({ "site": "neighbour.example.test", "aliases": [alias] });
                quietly(&base, &ask("configure", params)).0
            }
            None => base.clone(),
        };
        let made;
        (base, made) = quietly(&base, &ask("backup", json!({ "site": "lonely.example.test" })));
        base.now += 1000;
        let params = json!({ "site": "shop.example.test", "backup": made.result["backup"] });
        let end = task(&base, "restore", params);
        assert_eq!(end.view.state, TaskState::Succeeded, "{:?}", end.view.error);
        let links = new_links(&base, &end);
        assert!(links.contains(expected), "{links}");
    }
}

/// What an error tells a person to do works.
#[test]
fn a_site_whose_directory_is_lost_gets_its_backup() {
    let base = usual();
    let (site, dir) = ("shop.example.test", "/srv/platforms/61/sites/shop.example.test");
    base.world.disk("host1").lose(dir);
    let backup = "shop.example.test-20261122.100000_abcdef.tar.zst";
    let restore = json!({ "site": site, "backup": backup });
    for (workflow, params) in [("verify", json!({ "site": site })), ("restore", restore.clone())] {
        let told = task(&base, workflow, params).view.error.unwrap().detail;
        assert!(told.contains("is missing; make an empty one") && told.contains(dir), "{told}");
    }
    base.world.disk("host1").make_dir(dir);
    let (base, _) = quietly(&base, &Ask::Task { workflow: "restore", params: restore });
    assert_eq!(status(&base.world, "web1", site), 200);
    let told = task(&base, "backup", json!({ "site": BENT })).view.error.unwrap().detail;
    assert!(told.contains("a verify of the site writes it anew"), "{told}");
}
