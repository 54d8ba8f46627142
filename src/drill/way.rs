//! What is drilled at each point, and how the world comes back from there to the start. Pure.

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

/// What is broken at each point.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Way {
    /// The task itself; when it has succeeded, it is taken back.
    There(Inverse),
    /// The undo of the task, which comes first and is not disturbed.
    Undo,
    /// A task that brings back to the start what these have done, which come first and are not disturbed.
    Back(Vec<First>),
}

/// A task that comes before the drilled one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct First {
    pub(crate) workflow: &'static str,
    pub(crate) params: Value,
}

/// How a workflow that has succeeded is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inverse {
    /// It has changed nothing.
    Nothing,
    /// By its own undo.
    Undo,
    /// By the undo of each task that it has started, as far as these have succeeded. Also when it has rolled back: they stay done.
    Each,
    /// By another task on the same site.
    Task(&'static str),
    /// What it has made is removed.
    Remove,
}

/// What is drilled.
///
/// # Errors
/// When a drill could not come back to its start: says why.
pub(crate) fn way(workflow: &str, params: &Value, undo: bool) -> Result<Way> {
    let way = Way::There(match workflow {
        "backup" | "verify" | "rehearse" | "pin" => Inverse::Nothing,
        "migrate" | "restore" | "delete" | "configure" | "login" | "import" => Inverse::Undo,
        "migrate_platform" => Inverse::Each,
        "disable" => Inverse::Task("enable"),
        "enable" => Inverse::Task("disable"),
        // What it replaces waits in the trash.
        "clone" if params["over_existing"] == true => Inverse::Undo,
        "install" | "clone" => Inverse::Remove,
        "undelete" => {
            ensure!(!undo, "an undelete has no undo of its own: delete the site again");
            return Ok(Way::Back(vec![First {
                workflow: "delete",
                params: json!({ "site": params["site"] }),
            }]));
        }
        "purge" => {
            ensure!(!undo, "a purge has no undo");
            return thrown_away(params);
        }
        other => bail!("a drill of {other} is refused: nobody has said yet how it comes back to its start"),
    });
    match (undo, &way) {
        (false, _) => Ok(way),
        (true, Way::There(Inverse::Undo)) => Ok(Way::Undo),
        (true, Way::There(Inverse::Each)) => {
            bail!("its undo is one of each site's migrate: drill `migrate --undo`")
        }
        (true, _) => bail!("a {workflow} has no undo of its own"),
    }
}

/// The name of the copy that a drilled purge gives up: nobody's site.
pub(crate) fn copy_of(site: &str) -> String {
    format!("kedge-drill.{site}")
}

/// What a purge gives up has to be there before, and its loss nobody's: a copy of the site, deleted at once.
fn thrown_away(params: &Value) -> Result<Way> {
    let Some(site) = params["site"].as_str() else {
        bail!("name the site that is copied, deleted and purged: --site shop.example.org")
    };
    let copy = copy_of(site);
    let first = |workflow, params| First { workflow, params };
    Ok(Way::Back(vec![
        first("clone", json!({ "site": site, "new_site": copy })),
        // It and the delete make a backup each: one of them may go, the newest stays.
        first("disable", json!({ "site": copy })),
        first("delete", json!({ "site": copy, "hold": "0h" })),
    ]))
}

/// What the drilled task is given: the parameters, but of a purge the site is the copy's, and a backup of it goes as well.
pub(crate) fn given(workflow: &str, params: &Value) -> Value {
    let mut given = params.clone();
    if let ("purge", Some(site)) = (workflow, params["site"].as_str()) {
        given["site"] = copy_of(site).into();
        if given.get("older_than").is_none() && given.get("keep").is_none() {
            given["keep"] = 1.into();
        }
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workflow_has_a_way_back() {
        for workflow in kedge_workflows::workflows() {
            let params = json!({ "site": "shop.example.test" });
            let way = way(workflow.name(), &params, false);
            assert!(way.is_ok(), "{}: {way:?}", workflow.name());
        }
    }

    #[test]
    fn a_way_back_takes_back_what_was_done() {
        let there = |workflow: &str, params: Value| way(workflow, &params, false).unwrap();
        assert_eq!(there("migrate", Value::Null), Way::There(Inverse::Undo));
        assert_eq!(there("clone", json!({ "over_existing": true })), Way::There(Inverse::Undo));
        assert_eq!(there("clone", Value::Null), Way::There(Inverse::Remove));
        let Way::Back(first) = there("purge", json!({ "site": "shop.example.test" })) else {
            panic!("a purge needs something to purge")
        };
        let order: Vec<&str> = first.iter().map(|first| first.workflow).collect();
        assert_eq!(order, ["clone", "disable", "delete"]);
        assert!(first[1..].iter().all(|first| first.params["site"] == "kedge-drill.shop.example.test"));
        let given = given("purge", &json!({ "site": "shop.example.test" }));
        assert_eq!(given, json!({ "site": "kedge-drill.shop.example.test", "keep": 1 }));
    }

    #[test]
    fn an_undo_is_drilled_only_where_there_is_one() {
        assert_eq!(way("migrate", &Value::Null, true).unwrap(), Way::Undo);
        for workflow in ["backup", "install", "undelete", "purge", "migrate_platform", "disable"] {
            let refused =
                way(workflow, &json!({ "site": "shop.example.test" }), true).unwrap_err().to_string();
            assert!(refused.contains("undo"), "{workflow}: {refused}");
        }
        let refused = way("purge", &Value::Null, false).unwrap_err().to_string();
        assert!(refused.contains("--site"), "{refused}");
        assert!(way("explode", &Value::Null, false).is_err());
    }
}
