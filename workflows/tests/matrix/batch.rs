//! `migrate_platform` on several sites: who goes first, when nothing new is begun, what is told, and what an undo and a cancel do. One
//! site and every place to die is in the matrix.

use std::collections::BTreeMap;

use kedge_engine::service::{TaskFilter, Tasks as _};
use kedge_engine::task::{TaskState, TaskView};
use serde_json::{Value, json};

use crate::rig::{Ask, Base, Case, Death, End, play, quietly};
use crate::scene::usual;

const SITES: [&str; 5] = ["a", "b", "c", "d", "lonely"];

fn name(site: &str) -> String {
    format!("{site}.example.test")
}

/// Five sites on a platform; those that are named have no vhost any more, and so cannot move.
fn base(broken: &[&str]) -> Base {
    let mut base = usual();
    for site in &SITES[..4] {
        let params = json!({ "site": name(site), "platform": "wordpress-one", "database_server": "db1" });
        base = quietly(&base, &Ask::Task { workflow: "install", params }).0;
    }
    for site in broken {
        base.world.web("web1").write(&format!("/etc/web1/{}.conf", name(site)), None, None);
    }
    base
}

fn ask(more: Value) -> Ask {
    let mut params = json!({ "platform": "wordpress-one", "target_platform": "wordpress-68" });
    params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Ask::Task { workflow: "migrate_platform", params }
}

/// How each site ended, by what the task tells.
fn ends(view: &TaskView) -> BTreeMap<String, String> {
    let sites = view.result["sites"].as_array().unwrap();
    let end = |site: &Value| {
        let name = site["site"].as_str().unwrap().split('.').next().unwrap().to_owned();
        (name, site["end"].as_str().unwrap().to_owned())
    };
    sites.iter().map(end).collect()
}

/// The sites that are on the new platform, and how many tasks each had.
fn moved(end: &End) -> Vec<(String, usize)> {
    let tasks = end.rig.engine.tasks(&TaskFilter { limit: 200, ..Default::default() }).unwrap().tasks;
    let count = |site: &str| {
        let own = |task: &&TaskView| task.workflow == "migrate" && task.params["site"] == site;
        tasks.iter().filter(own).count()
    };
    let records = end.rig.records();
    let there = |site: &str| {
        records
            .iter()
            .any(|(key, record)| key == &format!("site/{site}") && record["platform"] == "wordpress-68")
    };
    SITES
        .iter()
        .filter(|site| there(&name(site)))
        .map(|site| ((*site).to_owned(), count(&name(site))))
        .collect()
}

fn once(sites: &[&str]) -> Vec<(String, usize)> {
    sites.iter().map(|site| ((*site).to_owned(), 1)).collect()
}

#[test]
fn all_sites_move_and_all_come_back() {
    let (after, view) = quietly(&base(&[]), &ask(json!({ "max_parallel": 3 })));
    assert_eq!(ends(&view).values().filter(|end| *end == "done").count(), 5, "{:?}", view.result);
    assert!(view.undo_until.is_some(), "{view:?}");
    let end = play(&after, &Ask::Undo(view.id), &Case::default(), &|_| None);
    assert_eq!(end.view.state, TaskState::Succeeded, "{:?}", end.view.error);
    assert_eq!(moved(&end), Vec::new());
    assert_eq!(end.view.result["done"], 5, "{:?}", end.view.result);
}

#[test]
fn a_failure_stops_what_is_not_begun_and_leaves_what_is_done() {
    let end = play(&base(&["b"]), &ask(json!({ "max_parallel": 1 })), &Case::default(), &|_| None);
    assert_eq!(end.view.state, TaskState::Succeeded, "{:?}", end.view.error);
    let told = ends(&end.view);
    let expected =
        [("a", "done"), ("b", "rolled_back"), ("c", "skipped"), ("d", "skipped"), ("lonely", "skipped")];
    assert_eq!(told, expected.map(|(site, end)| (site.to_owned(), end.to_owned())).into());
    let why = end.view.result["sites"][1]["why"].as_str().unwrap();
    assert!(why.contains("has no vhost"), "{why}");
    assert_eq!(moved(&end), once(&["a"]));
}

#[test]
fn more_failures_are_borne_where_that_is_asked_for() {
    let more = json!({ "max_parallel": 2, "stop_after_failures": 2 });
    let end = play(&base(&["b"]), &ask(more), &Case::default(), &|_| None);
    assert_eq!(moved(&end), once(&["a", "c", "d", "lonely"]));
    assert_eq!((&end.view.result["done"], &end.view.result["failed"]), (&json!(4), &json!(1)));
}

#[test]
fn when_the_first_one_fails_nobody_follows_and_all_is_as_before() {
    let more = json!({ "canary": name("c"), "stop_after_failures": 5, "max_parallel": 4 });
    let end = play(&base(&["c"]), &ask(more), &Case::default(), &|_| None);
    assert_eq!(end.view.state, TaskState::RolledBack, "{:?}", end.view.result);
    assert!(
        end.view.error.as_ref().is_some_and(|error| error.detail.contains("c.example.test")),
        "{:?}",
        end.view.error
    );
    assert_eq!(moved(&end), Vec::new());
}

#[test]
fn a_cancel_lets_what_is_under_way_end_and_begins_nothing_more() {
    let base = base(&[]);
    let quiet = play(&base, &ask(json!({ "max_parallel": 2 })), &Case::default(), &|_| None);
    let commits = quiet.lives[0].1;
    // One goes first, then two and two: the last two begin when more than half is done.
    for part in 1..4 {
        let case = Case { cancel: Some(commits * part / 6), ..Case::default() };
        let end = play(&base, &ask(json!({ "max_parallel": 2 })), &case, &|_| None);
        assert_eq!(end.view.state, TaskState::Canceled);
        let moved = moved(&end);
        assert!(moved.iter().all(|(_, tasks)| *tasks == 1) && moved.len() < 5, "{moved:?}");
        assert!(end.rig.engine.locks().is_empty(), "{:?}", end.rig.engine.locks());
    }
}

#[test]
fn no_site_is_begun_twice_wherever_the_process_dies() {
    let base = base(&["d"]);
    let more = || ask(json!({ "max_parallel": 2, "stop_after_failures": 3 }));
    let quiet = play(&base, &more(), &Case::default(), &|_| None);
    let (points, commits) = quiet.lives[0];
    let expected = once(&["a", "b", "c", "lonely"]);
    assert_eq!(moved(&quiet), expected);
    let how = kedge_engine::testing::memory_store::Crash::AfterWriteBeforeAck;
    for part in 0..24 {
        let first = Death::Commit(1 + commits * part / 24, how);
        let second = Death::Point(points * usize::try_from(part).unwrap() / 40);
        let case = Case { deaths: vec![first, second], ..Case::default() };
        let end = play(&base, &more(), &case, &|_| None);
        assert!(end.died > 0, "{case:?}");
        assert_eq!(end.view.state, TaskState::Succeeded, "{case:?}: {:?}", end.view.error);
        assert_eq!(moved(&end), expected, "{case:?}");
    }
}
