//! What the write fence does not hold, and what it leaves as it was.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kedge_engine::task::TaskState;
use kedge_workflows::names::DatabaseName;
use kedge_workflows::ports::{Database as _, PortError};
use kedge_workflows::testing::{FakeEvent, FakeEvents, FakeTable, FakeTables, FakeWorld, Moment};
use serde_json::json;

use crate::rig::{Ask, Base, quietly};
use crate::scene::usual;
use crate::tales::migrate;

/// The schema of the shop, and its user.
fn old() -> DatabaseName {
    DatabaseName::parse("shopexampletest").unwrap()
}

/// No fence stops the events of a database: what one moves from a table to another while both are copied behind it is in the new side's
/// copy once, ahead of whatever call it does so, whether the copy comes from one ahead or from the start.
#[test]
fn what_an_event_moves_behind_the_fence_is_not_lost() {
    const TABLES: [&str; 2] = ["wp_a_archive", "wp_b_queue"];
    let base = usual();
    base.world.database_server("db1").with_tables(&old(), |tables| {
        for name in TABLES {
            tables.insert(name.to_owned(), FakeTable::new(&["words"]));
        }
        tables.get_mut(TABLES[1]).unwrap().insert(&["moved"]);
    });
    let on = |events: &mut FakeEvents| events.insert("archive".to_owned(), FakeEvent::On);
    base.world.database_server("db1").with_events(&old(), on).unwrap();
    let tables = |world: &FakeWorld| world.database_server("db1").state().entries;
    let known: BTreeSet<String> = tables(&base.world).into_iter().map(|(key, _)| key).collect();
    let ops = ["table_times", "fingerprint", "plain_tables", "dump", "import", "import_rest", "copy_rows"];
    let mut moved = 0;
    for (op, nth) in ops.iter().flat_map(|op| (0..3).map(move |nth| (format!("database.{op}"), nth))) {
        let ready = Cell::new(false);
        let done = Arc::new(AtomicBool::new(false));
        let watch = |world: &FakeWorld| {
            if !ready.replace(true) {
                let (server, faults) = (world.database_server("db1").clone(), world.faults().clone());
                let (op, done) = (op.clone(), done.clone());
                world.faults().meanwhile("database.set_account_locked", move || {
                    // The site's last write: something is left to be copied behind the fence.
                    let last = |tables: &mut FakeTables| tables.get_mut(TABLES[0]).unwrap().insert(&["last"]);
                    server.with_tables(&old(), last).unwrap();
                    (0..nth).for_each(|_| faults.meanwhile(&op, || ()));
                    faults.meanwhile(&op, move || {
                        let run = |tables: &mut FakeTables| {
                            tables.get_mut(TABLES[1]).unwrap().rows.clear();
                            tables.get_mut(TABLES[0]).unwrap().insert(&["moved"]);
                        };
                        server.with_tables(&old(), run).unwrap();
                        done.store(true, Ordering::Relaxed);
                    });
                });
            }
            None
        };
        let end =
            migrate(&base, json!({ "site": "shop.example.test", "target_platform": "wordpress-68" }), &watch);
        assert_eq!(end.view.state, TaskState::Succeeded, "{op}: {:?}", end.view.error);
        let new = tables(&end.rig.world).into_iter().filter(|(key, _)| {
            TABLES.iter().any(|table| key.ends_with(&format!(".{table}"))) && !known.contains(key)
        });
        let content: String = new.map(|(_, content)| content).collect();
        let there = (content.matches("moved").count(), content.matches("last").count());
        assert_eq!(there, (1, 1), "ahead of {op} {nth}: {content}");
        moved += usize::from(done.load(Ordering::Relaxed));
    }
    assert!(moved >= ops.len(), "the event ran only {moved} times in between");
}

/// An administrator has locked the user's account for one host on purpose: a fence that is undone unlocks the others only.
#[test]
fn a_fence_that_is_undone_leaves_locked_what_was() {
    let base = usual();
    let server = base.world.database_server("db1");
    server.add_account(&old(), "192.0.2.7", true);
    server.add_account(&old(), "192.0.2.8", false);
    let before = server.state();
    let (ready, fenced) = (Cell::new(false), Arc::new(AtomicBool::new(false)));
    let watch = |world: &FakeWorld| {
        if !ready.replace(true) {
            let (faults, fenced) = (world.faults().clone(), fenced.clone());
            world.faults().meanwhile("database.set_account_locked", move || {
                faults.fail_next(Moment::Before, "database.table_times", PortError::Refused("no".to_owned()));
                fenced.store(true, Ordering::Relaxed);
            });
        }
        None
    };
    let end =
        migrate(&base, json!({ "site": "shop.example.test", "target_platform": "wordpress-68" }), &watch);
    assert_eq!((end.view.state, fenced.load(Ordering::Relaxed)), (TaskState::RolledBack, true));
    assert_eq!(end.rig.world.database_server("db1").state(), before);
}

/// The same where the fence was meant to stay, and the old side comes back later.
#[test]
fn a_side_that_comes_back_leaves_locked_what_was() {
    let (shop, closed) = ("shop.example.test", "closed.example.test");
    let locked = |base: &Base, name: &str| {
        let users = base.world.database_server("db1");
        futures::executor::block_on(users.locked_at(&DatabaseName::parse(name).unwrap())).unwrap()
    };
    let base = usual();
    for name in ["shopexampletest", "closedexampletes"] {
        base.world.database_server("db1").add_account(&DatabaseName::parse(name).unwrap(), "192.0.2.7", true);
    }
    let task = |workflow, params| Ask::Task { workflow, params };
    let (away, moved) =
        quietly(&base, &task("migrate", json!({ "site": shop, "target_platform": "wordpress-68" })));
    assert_eq!(locked(&away, "shopexampletest").len(), 2, "behind the fence");
    let (back, _) = quietly(&away, &Ask::Undo(moved.id));
    assert_eq!(locked(&back, "shopexampletest"), ["192.0.2.7"]);
    for force in [false, true] {
        let (away, _) = quietly(&base, &task("delete", json!({ "site": closed, "force": force })));
        assert_eq!(locked(&away, "closedexampletes").len(), 2, "in the trash");
        let (back, _) = quietly(&away, &task("undelete", json!({ "site": closed })));
        assert_eq!(locked(&back, "closedexampletes"), ["192.0.2.7"]);
    }
}

/// Somebody has given the site's account rights on a database of theirs: a move would lock them out, a delete leaves them in.
#[test]
fn an_account_that_others_use_is_not_locked() {
    let base = usual();
    let server = base.world.database_server("db1");
    server.give_rights(&old(), "theirs");
    let closed = DatabaseName::parse("closedexampletes").unwrap();
    server.give_rights(&closed, "theirs");
    let before = server.state();
    let end =
        migrate(&base, json!({ "site": "shop.example.test", "target_platform": "wordpress-68" }), &|_| None);
    let error = end.view.error.clone().unwrap();
    assert_eq!((end.view.state, error.step.as_str()), (TaskState::RolledBack, "preflight"));
    assert!(error.detail.contains("rights on more than shopexampletest (theirs)"), "{}", error.detail);
    assert_eq!(end.rig.world.database_server("db1").state(), before);
    for force in [false, true] {
        let params = json!({ "site": "closed.example.test", "force": force });
        let (away, view) = quietly(&base, &Ask::Task { workflow: "delete", params });
        let server = away.world.database_server("db1");
        let locked = futures::executor::block_on(server.locked_at(&closed)).unwrap();
        assert_eq!((view.state, locked), (TaskState::Succeeded, Vec::new()));
    }
}
