//! Backups that are not what they were taken for, or not all of a site: what is said of them, and that nothing is made of the wrong one.

use std::cell::Cell;
use std::collections::BTreeSet;

use kedge_engine::service::Tasks as _;
use kedge_engine::task::TaskState;
use kedge_workflows::names::DatabaseName;
use kedge_workflows::testing::FakeWorld;
use serde_json::{Value, json};

use crate::rig::{Ask, Base, Case, Rig, play, quietly};
use crate::scene::usual;

const SHOP: &str = "shop.example.test";

/// A backup that is made now: its name.
fn backup(base: &Base, params: Value) -> (Base, String) {
    let (base, view) = quietly(base, &Ask::Task { workflow: "backup", params });
    let name = view.result["backup"].as_str().unwrap().to_owned();
    (base, name)
}

#[test]
fn nothing_is_made_of_a_backup_that_is_another_file_by_now() {
    let (base, other) = backup(&usual(), json!({ "site": "neighbour.example.test" }));
    let (base, name) = backup(&base, json!({ "site": SHOP }));
    let asks =
        [("restore", json!({ "site": SHOP, "backup": name })), ("rehearse", json!({ "backup": name }))];
    for replaced in [false, true] {
        if replaced {
            base.world.backup_dir().copy(&other, &name);
        }
        for (workflow, params) in asks.clone() {
            let end = play(&base, &Ask::Task { workflow, params }, &Case::default(), &|_| None);
            let told = end.view.error.map(|error| error.detail).unwrap_or_default();
            if replaced {
                assert_eq!(end.view.state, TaskState::RolledBack, "{workflow}: {told}");
                assert!(told.contains("is not the file that was made"), "{workflow}: {told}");
            } else {
                assert_eq!(end.view.state, TaskState::Succeeded, "{workflow}: {told}");
            }
        }
    }
}

#[test]
fn what_a_backup_was_made_without_is_known_and_told() {
    let (base, part) = backup(&usual(), json!({ "site": SHOP, "exclude": ["./wp-content//uploads/"] }));
    let (base, whole) = backup(&base, json!({ "site": SHOP }));
    let rig = Rig::new(&base, &Case::default());
    let records: std::collections::BTreeMap<_, _> = rig.records().into_iter().collect();
    let notes = |backup: &str, parts: &str| {
        let params = json!({ "site": SHOP, "backup": backup, "parts": parts });
        rig.engine.preview("restore", &params).unwrap().notes.join("\n")
    };
    assert_eq!(records[&format!("backup/{part}")]["exclude"], json!(["wp-content/uploads"]));
    assert_eq!(records[&format!("backup/{whole}")].get("exclude"), None);
    let archive = base.world.backup_dir().archive(&part).unwrap();
    assert_eq!(archive.manifest["exclude"], json!(["wp-content/uploads"]));
    let files = archive.files.unwrap();
    assert!(files.iter().all(|member| !member.path.contains("uploads")), "{files:?}");
    assert!(notes(&part, "files").contains("without wp-content/uploads"), "{}", notes(&part, "files"));
    assert_eq!([notes(&part, "database"), notes(&whole, "all")], ["", ""]);
}

#[test]
fn what_has_a_name_of_the_archives_own_is_left_out_and_told() {
    let base = usual();
    let dir = format!("/srv/platforms/61/sites/{SHOP}");
    for name in ["database.sql", "wp-content/database.sql"] {
        base.world.disk("host1").write(&format!("{dir}/{name}"), "left over");
    }
    let end = play(
        &base,
        &Ask::Task { workflow: "backup", params: json!({ "site": SHOP }) },
        &Case::default(),
        &|_| None,
    );
    assert_eq!(end.view.state, TaskState::Succeeded, "{:?}", end.view.error);
    let archive = end.rig.world.backup_dir().archive(end.view.result["backup"].as_str().unwrap()).unwrap();
    assert_eq!(archive.manifest["left_out"], json!(["database.sql"]));
    let paths: Vec<String> = archive.files.unwrap().into_iter().map(|member| member.path).collect();
    let of_that_name: Vec<&String> = paths.iter().filter(|path| path.ends_with("database.sql")).collect();
    assert_eq!(of_that_name, ["./wp-content/database.sql"]);
}

/// What the import and the look at it have in common may both be wrong: the archive itself tells how many tables there have to be.
#[test]
fn a_rehearsal_finds_a_table_that_did_not_come() {
    let (base, name) = backup(&usual(), json!({ "site": SHOP }));
    let schemas = |world: &FakeWorld| -> BTreeSet<String> {
        let entries = world.database_server("db1").state().entries.into_iter();
        entries.filter_map(|(key, _)| Some(key.strip_prefix("schema:")?.to_owned())).collect()
    };
    let known = schemas(&base.world);
    let ready = Cell::new(false);
    let watch = |world: &FakeWorld| {
        if !ready.replace(true) {
            let (server, known, whole) = (world.database_server("db1").clone(), known.clone(), world.clone());
            world.faults().meanwhile("database.fingerprint", move || {
                let tried = schemas(&whole).into_iter().find(|schema| !known.contains(schema)).unwrap();
                let tried = DatabaseName::parse(&tried).unwrap();
                server.with_tables(&tried, |tables| tables.remove("wp_orders")).flatten().unwrap();
            });
        }
        None
    };
    let ask = Ask::Task { workflow: "rehearse", params: json!({ "backup": name }) };
    let end = play(&base, &ask, &Case::default(), &watch);
    let told = end.view.error.map(|error| error.detail).unwrap_or_default();
    assert_eq!(end.view.state, TaskState::RolledBack, "{told}");
    assert!(told.contains("does not restore: its dump makes"), "{told}");
}
