//! What does not hold at the end of a point: pure comparisons of what was seen with what was to be expected.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, anyhow};
use kedge_engine::proof::Listing;
use kedge_engine::task::{TaskId, TaskState, TaskView};
use kedge_workflows::records::{BackupRecord, SiteRecord, TrashRecord};

use super::back::{Records, new_records};
use super::life::End;
use super::look::Scene;
use super::point::Point;

/// Families of the registry that are as before after a rollback. Not the backups: those of a sub-task stay.
const KEPT: [&str; 4] = ["site", "trash", "prepared", "database_name"];

/// The records of a scene's sites.
pub(super) fn site_records(records: &Records, scene: &Scene) -> Result<Vec<SiteRecord>> {
    let of_scene = |name: &&String| scene.sites.iter().any(|site| site.as_str() == name.as_str());
    let all = records.get("site").into_iter().flatten().filter(|(name, _)| of_scene(name));
    all.map(|(_, value)| Ok(serde_json::from_value(value.clone())?)).collect()
}

pub(super) fn without_secrets(look: &Listing) -> Listing {
    let kept = look.0.iter().filter(|(resource, _)| *resource != "secrets");
    Listing(kept.map(|(resource, items)| (resource.clone(), items.clone())).collect())
}

pub(super) fn differences(when: &str, expected: &Listing, seen: &Listing) -> Vec<String> {
    let told = |seen: Option<String>| seen.unwrap_or_else(|| "absent".to_owned());
    Listing::drift(expected, seen)
        .into_iter()
        .map(|d| {
            format!("{when}: {} {}: expected {}, found {}", d.resource, d.item, told(d.before), told(d.after))
        })
        .collect()
}

/// Kedge itself says that its rollback was none.
pub(super) fn disproved(task: &TaskView) -> Option<String> {
    let outcome = task.outcome.as_ref().filter(|outcome| outcome.verified == Some(false))?;
    Some(format!("its own proof failed: {:?}", outcome.drift))
}

/// What is wrong with the journal and its locks after the end.
pub(super) fn unsound(end: &End) -> Vec<String> {
    let mut wrong: Vec<String> =
        end.fsck.problems.iter().map(|problem| format!("journal: {problem}")).collect();
    wrong.extend(end.quarantined.iter().map(|task| format!("quarantined: {task}")));
    let stuck = end.task.as_ref().is_some_and(|task| task.state == TaskState::Stuck);
    if !stuck {
        wrong.extend(end.locks.iter().map(|lock| format!("the lock {:?} is still held", lock.resource)));
    }
    wrong
}

/// An end that the point does not allow: what fails for good must not succeed, what does not must not roll back.
pub(super) fn unexpected(point: &Point, task: &TaskView) -> Option<String> {
    match (point.lasting(), task.state) {
        (Some(failure), TaskState::Succeeded) if point.kills.is_empty() => {
            Some(format!("it succeeded although {failure}"))
        }
        (None, TaskState::RolledBack | TaskState::Canceled) => {
            Some(format!("it rolled back although nothing fails for good: {:?}", task.error))
        }
        _ => None,
    }
}

/// The tasks that have put a side of the start into the trash, where it still is.
pub(super) fn put_aside(start: &Records, now: &Records) -> Result<Vec<TaskId>> {
    let sites = new_records::<SiteRecord>("site", &Records::new(), start)?;
    let of_start = |side: &SiteRecord| {
        sites
            .iter()
            .any(|(_, site)| (&site.database_server, &site.schema) == (&side.database_server, &side.schema))
    };
    let trash = new_records::<TrashRecord>("trash", start, now)?;
    let aside = trash.into_iter().filter(|(_, trash)| of_start(&trash.site));
    aside.map(|(task, _)| TaskId::try_from(task).map_err(|error| anyhow!("{error}"))).collect()
}

/// Records that a rollback has not taken back.
pub(super) fn registry_changes(start: &Records, now: &Records) -> Vec<String> {
    let mut changes = Vec::new();
    for family in KEPT {
        let of = |records: &Records| records.get(family).cloned().unwrap_or_default();
        let (before, after) = (of(start), of(now));
        let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let changed = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
        changes.extend(changed.map(|name| format!("registry: the {family} record {name} is not as before")));
    }
    changes
}

/// Archives without a record but for the one that the task reads, or records without an archive.
pub(super) fn stray_backups(
    dir: &Path,
    brought: Option<&str>,
    start: &Records,
    now: &Records,
) -> Result<Vec<String>> {
    // A rehearsal notes on the very archive that was brought when it was rehearsed.
    let names = new_records::<BackupRecord>("backup", start, now)?.into_iter().map(|(name, _)| name);
    let known: BTreeSet<String> = names.filter(|name| brought != Some(name.as_str())).collect();
    let mut there = BTreeSet::new();
    if dir.exists() {
        for entry in std::fs::read_dir(dir)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if brought != Some(&*name) {
                there.insert(name);
            }
        }
    }
    let strays = there.difference(&known).map(|name| format!("backups: {name} is in no record"));
    Ok(strays.chain(known.difference(&there).map(|name| format!("backups: {name} is not there"))).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;

    fn records(all: &[(&str, &str, Value)]) -> Records {
        let mut records: Records = BTreeMap::new();
        for (family, name, value) in all {
            records.entry((*family).to_owned()).or_default().insert((*name).to_owned(), value.clone());
        }
        records
    }

    #[test]
    fn a_rollback_leaves_nothing_in_the_registry_but_backups() {
        let start = records(&[("site", "a", json!(1))]);
        assert!(registry_changes(&start, &start).is_empty());
        let more = records(&[("site", "a", json!(1)), ("backup", "b", json!(2))]);
        assert!(registry_changes(&start, &more).is_empty());
        for worse in [
            records(&[("site", "a", json!(2))]),
            records(&[]),
            records(&[("site", "a", json!(1)), ("database_name", "db1/a", json!({}))]),
        ] {
            assert_eq!(registry_changes(&start, &worse).len(), 1, "{worse:?}");
        }
    }

    #[test]
    fn an_archive_without_a_record_is_found_and_a_record_without_an_archive() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        assert!(stray_backups(&missing, None, &records(&[]), &records(&[])).unwrap().is_empty());
        std::fs::write(dir.path().join("a.tar.zst"), "").unwrap();
        let stray = stray_backups(dir.path(), None, &records(&[]), &records(&[])).unwrap();
        assert_eq!(stray, ["backups: a.tar.zst is in no record"]);
        let brought = stray_backups(dir.path(), Some("a.tar.zst"), &records(&[]), &records(&[])).unwrap();
        assert!(brought.is_empty(), "{brought:?}");
        let record = json!({
            "name": "b.tar.zst", "site": "a.test", "platform": "p", "database_server": "d", "description": "",
            "bytes": 1, "sha256": "", "task": "t", "created_at": 1
        });
        let known = records(&[("backup", "b.tar.zst", record)]);
        assert_eq!(stray_backups(dir.path(), None, &records(&[]), &known).unwrap().len(), 2);
        assert_eq!(
            stray_backups(dir.path(), None, &known, &known).unwrap().len(),
            1,
            "an old record is not looked for"
        );
    }

    #[test]
    fn what_was_at_the_start_and_lies_in_the_trash_is_found() {
        let task = "task_01a20580356b70d1a35f522b5066fae9";
        let site = |schema: &str| {
            json!({
                "name": "a.test", "platform": "p", "dir": "/p/sites/a.test", "database_server": "d", "schema": schema,
                "user": schema, "password": "x/y", "state": "enabled", "task": "t", "changed_at": 1
            })
        };
        let start = records(&[("site", "a.test", site("old"))]);
        assert!(put_aside(&start, &start).unwrap().is_empty());
        let trash = |schema: &str| records(&[("trash", task, json!({ "site": site(schema), "until": 1 }))]);
        let aside = put_aside(&start, &trash("old")).unwrap();
        assert_eq!(aside.iter().map(TaskId::as_str).collect::<Vec<_>>(), [task]);
        assert!(put_aside(&start, &trash("new")).unwrap().is_empty(), "the new side may go");
    }

    #[test]
    fn a_drift_says_what_was_expected_and_what_was_found() {
        let look = |seen: &str| {
            Listing(BTreeMap::from([(
                "host web1".to_owned(),
                BTreeMap::from([("/a".to_owned(), seen.to_owned())]),
            )]))
        };
        assert!(differences("rolled back", &look("1"), &look("1")).is_empty());
        assert_eq!(
            differences("rolled back", &look("1"), &look("2")),
            ["rolled back: host web1 /a: expected 1, found 2"]
        );
        assert_eq!(differences("done", &look("1"), &Listing::default()).len(), 1);
    }
}
