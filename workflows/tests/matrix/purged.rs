//! A purge where somebody has taken an archive away: the record of the newest backup says nothing any more, and the one before it is the last.

use kedge_engine::task::TaskState;
use serde_json::{Value, json};

use crate::rig::{Ask, quietly};
use crate::scene::usual;

const SHOP: &str = "shop.example.test";

fn ask(workflow: &'static str, params: Value) -> Ask {
    Ask::Task { workflow, params }
}

#[test]
fn the_last_archive_that_is_there_stays() {
    let (mut base, mut names) = (usual(), Vec::new());
    for _ in 0..3 {
        let (with, made) = quietly(&base, &ask("backup", json!({ "site": SHOP })));
        names.push(made.result["backup"].as_str().unwrap().to_owned());
        base = with;
    }
    let purge = ask("purge", json!({ "keep": 1, "site": SHOP }));
    let left = |base: &crate::rig::Base| {
        let (after, purged) = quietly(base, &purge);
        assert_eq!(purged.state, TaskState::Succeeded, "{:?}", purged.error);
        let there = |name: &&String| after.world.backup_dir().archive(name).is_some();
        (purged.result["backups"].clone(), names.iter().filter(there).cloned().collect::<Vec<_>>())
    };
    // One more is in the scene.
    assert_eq!(left(&base), (json!(3), names[2..].to_vec()));
    base.world.backup_dir().lose(&names[2]);
    assert_eq!(left(&base), (json!(2), names[1..2].to_vec()));
}
