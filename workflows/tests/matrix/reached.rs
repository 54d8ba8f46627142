//! Single runs about the names that a site is reached by: in its vhost, and in the content of what is made from it.

use kedge_engine::task::TaskState;
use serde_json::{Value, json};

use crate::judge::whole;
use crate::rig::{Ask, Base, Case, End, Rig, play};
use crate::scene::{EDITED, usual};

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
