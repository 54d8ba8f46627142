//! Tasks that go by a plan of before: what it is about was changed while they waited, and no other plan could be made. Whatever they
//! find, what others have done meanwhile stays.

use kedge_engine::task::TaskState;
use serde_json::{Value, json};

use crate::rig::{Ask, both, quietly};
use crate::scene::usual;
use crate::tales::status;

fn ask(workflow: &'static str, params: Value) -> Ask {
    Ask::Task { workflow, params }
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
