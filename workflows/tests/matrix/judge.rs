//! Judges how a run has ended, from outside: by everything there is in the world and in the registry, and not by the fingerprints
//! that the workflows take themselves.

use std::collections::BTreeSet;

use kedge_engine::service::{TaskFilter, Tasks as _};
use kedge_engine::task::{TaskId, TaskState};
use kedge_workflows::names::SiteName;
use kedge_workflows::testing::{FakeWorld, WorldState};
use serde_json::Value;

use crate::rig::{End, Rig};

/// Host names that visitors ask for.
pub(crate) const NAMES: [&str; 17] = [
    "shop.example.test",
    "www.shop.example.test",
    "alias.example.test",
    "store.example.test",
    "www.store.example.test",
    "new.example.test",
    "www.new.example.test",
    "neighbour.example.test",
    "closed.example.test",
    "deleted.example.test",
    "staging.example.test",
    "found.example.test",
    "www.found.example.test",
    "lonely.example.test",
    "pair.example.test",
    "twin.example.test",
    "joined.example.test",
];

/// The site that no task is about.
const NEIGHBOUR: &str = "neighbour.example.test";

/// Everything: the world, the registry, and what visitors see.
pub(crate) fn whole(rig: &Rig) -> WorldState {
    let mut state = rig.world.state();
    state.extend(rig.records().into_iter().map(|(key, value)| (format!("record {key}"), value.to_string())));
    for name in NAMES {
        let host = SiteName::parse(name).unwrap();
        for (web, status, page) in rig.world.visit(&host, "/") {
            state.insert(format!("visit {web} {name}"), format!("{status} {page}"));
        }
    }
    state
}

/// What no visitor may ever see: the neighbour disturbed, or an error of a site itself.
pub(crate) fn scandal(world: &FakeWorld) -> Option<String> {
    // A site that is being installed may be without an application on purpose.
    NAMES.iter().filter(|name| !name.contains("new.")).find_map(|name| {
        let host = SiteName::parse(name).unwrap();
        let answers = world.visit(&host, "/");
        let bad = |status: u16| status >= 500 && status != 503;
        if *name == NEIGHBOUR && !answers.iter().any(|(_, status, _)| *status == 200) {
            return Some(format!("visitors of {name} get {answers:?}"));
        }
        answers
            .iter()
            .find(|(_, status, _)| bad(*status))
            .map(|answer| format!("visitors of {name} get {answer:?}"))
    })
}

/// What differs between two states, a line for each.
fn differences(before: &WorldState, after: &WorldState) -> Vec<String> {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differs = keys.into_iter().filter(|key| before.get(*key) != after.get(*key));
    let told = |state: &WorldState, key| {
        state
            .get(key)
            .map_or("nothing".to_owned(), |told| format!("{:?}", told.chars().take(300).collect::<String>()))
    };
    differs.map(|key| format!("{key}: {} -> {}", told(before, key), told(after, key))).collect()
}

/// What a rollback may leave different. Nothing else may differ, not even an inode number or a file's time.
/// - the times of a platform's root and of its `sites`, in which a stage, a trash or the dispatcher came and went;
/// - the inode of a settings file that was written and put back, and the time of its directory;
/// - backups of this task, if they are whole and in the registry: they stay, whatever happens.
fn without_the_allowed(mut state: WorldState, before: &WorldState, end: &End) -> WorldState {
    for (host, root) in end.rig.world.roots() {
        for dir in [root.clone(), format!("{root}/sites")] {
            state.remove(&format!("time {host} {dir}"));
        }
    }
    if end.view.steps.iter().any(|step| step.name == "repair_settings") {
        state.retain(|key, _| {
            let settings = key.starts_with("inode ") && key.ends_with("/wp-config.php");
            let around =
                key.starts_with("time host") && key.contains("/sites/") && key.matches('/').count() == 5;
            !settings && !around
        });
    }
    let tasks = tasks_of(end);
    for (key, record) in end.rig.records() {
        let Some(name) = key.strip_prefix("backup/") else { continue };
        let whole = end.rig.world.backup_dir().archive(name).is_some_and(|archive| {
            archive.info.sha256 == record["sha256"] && archive.database.is_some() && archive.files.is_some()
        });
        if tasks.iter().any(|task| record["task"] == task.as_str())
            && whole
            && !before.contains_key(&format!("backup {name}"))
        {
            state.remove(&format!("record {key}"));
            state.remove(&format!("backup {name}"));
        }
    }
    state
}

/// The task, and those that its steps have started: each is a saga of its own.
fn tasks_of(end: &End) -> Vec<TaskId> {
    let filter = TaskFilter { since: Some(end.view.created_at), limit: 200, ..Default::default() };
    let newer = end.rig.engine.tasks(&filter).unwrap().tasks;
    newer.into_iter().map(|task| task.id).chain([end.view.id.clone()]).collect()
}

/// A state without what differs from run to run: inodes, times, random secrets, the task's id, and which of the free names a database
/// got.
pub(crate) fn in_general(end: &End) -> WorldState {
    let (rig, tasks) = (&end.rig, tasks_of(end));
    let mut words: Vec<(String, String)> = Vec::new();
    let state = whole(rig);
    for (name, secret) in rig.world.secret_store().all() {
        words.push((secret.expose().to_owned(), format!("<{}>", name.0)));
        words.push((state[&format!("secret {}", name.0)].clone(), format!("<{}>", name.0)));
    }
    let sites = rig.records().into_iter().filter_map(|(key, record)| match key.split_once('/') {
        Some(("site", _)) => Some(record),
        Some(("trash", _)) => Some(record["site"].clone()),
        _ => None,
    });
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let schema = |site: Value| {
        let name = format!("<database by {}>", text(&site["password"]));
        (text(&site["schema"]), text(&site["database_server"]), name)
    };
    let mut schemas: Vec<(String, String, String)> = sites.map(schema).collect();
    schemas.sort_by_key(|(name, ..)| std::cmp::Reverse(name.len()));
    let of_ours = |record: &Value| tasks.iter().any(|task| record["task"] == task.as_str());
    let records = rig.records().into_iter().filter(|(_, record)| of_ours(record));
    let backups = records.filter(|(key, _)| key.starts_with("backup/"));
    words.extend(backups.map(|(_, record)| (text(&record["name"]), "<backup>".to_owned())));
    words.extend(tasks.iter().map(|task| (task.to_string(), "<task>".to_owned())));
    let plain = |key: &str, told: &str| {
        let server = key.strip_prefix("database ").and_then(|key| key.split(' ').next());
        let mut told = told.to_owned();
        for (schema, of, name) in schemas.iter().filter(|(_, of, _)| server.is_none_or(|server| of == server))
        {
            // Where the server is not known, two of them may have a database of one name.
            told = told.replace(schema.as_str(), if server == Some(of) { name } else { "<some database>" });
        }
        words.iter().fold(told, |told, (from, to)| told.replace(from.as_str(), to))
    };
    let timeless = |key: &str| !key.starts_with("time ") && !key.starts_with("inode ");
    let told = state.iter().filter(|(key, _)| timeless(key)).map(|(key, told)| {
        let told = match key.split_once(' ') {
            Some(("record", _)) => without_times(told),
            Some(("backup", name)) => {
                let archive = rig.world.backup_dir().archive(name);
                archive.map(|archive| format!("{} members", archive.info.members)).unwrap_or_default()
            }
            _ => told.clone(),
        };
        (plain(key, key), plain(key, &told))
    });
    told.collect()
}

fn without_times(record: &str) -> String {
    let mut record: Value = serde_json::from_str(record).unwrap();
    let mut open = vec![&mut record];
    while let Some(value) = open.pop() {
        if let Value::Object(fields) = value {
            for field in [
                "changed_at",
                "verified_at",
                "rehearsed_at",
                "created_at",
                "until",
                "kept_until",
                "bytes",
                "sha256",
            ] {
                fields.remove(field);
            }
            open.extend(fields.values_mut());
        }
    }
    record.to_string()
}

/// What an undo has left different from how everything was before the task that it took back. Allowed is, and nothing else:
/// - what was added: the new side in the trash within its hold, the names and secrets of its database, the backups;
/// - in the site's record: which task has changed it, and when;
/// - the times of vhosts, and of a platform's root and `sites`; that a platform is prepared now;
/// - that settings with the same bytes were written anew.
pub(crate) fn not_as_in(origin: &WorldState, end: &End) -> Vec<String> {
    let now = whole(&end.rig);
    let roots = end.rig.world.roots();
    let may_differ = |key: &str| {
        let dir = |(host, root): &(String, String)| {
            key == format!("time {host} {root}") || key == format!("time {host} {root}/sites")
        };
        let settings =
            |dir: &str| origin.keys().any(|other| other.ends_with(&format!("{dir}/wp-config.php")));
        let anew = key.ends_with("/wp-config.php") && (key.starts_with("inode ") || key.starts_with("time "))
            || key
                .strip_prefix("time ")
                .and_then(|key| key.split_once(' '))
                .is_some_and(|(_, dir)| settings(dir));
        roots.iter().any(dir) || (key.starts_with("time web") && key.ends_with(".conf")) || anew
    };
    let plain = |key: &str, told: Option<&String>| {
        let told = told.cloned().unwrap_or_default();
        if !key.starts_with("record site/") {
            return told;
        }
        let mut record: Value = serde_json::from_str(&told).unwrap();
        record["task"].take();
        without_times(&record.to_string())
    };
    let kept = origin.keys().filter(|key| !may_differ(key));
    let differs = kept.filter(|key| plain(key, origin.get(*key)) != plain(key, now.get(*key)));
    differs.map(|key| format!("{key}: {:?} -> {:?}", origin.get(key), now.get(key))).collect()
}

/// What is wrong with an end; empty: nothing. `done` is the world in general after a run that nothing happened to;
/// `looks_fail` says that a port was down for as long as anybody asked.
pub(crate) fn judge(before: &WorldState, done: &WorldState, end: &End, looks_fail: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    match end.view.state {
        TaskState::Succeeded => wrong.extend(differences(done, &in_general(end))),
        TaskState::RolledBack | TaskState::Canceled => {
            let then = without_the_allowed(before.clone(), before, end);
            let now = without_the_allowed(whole(&end.rig), before, end);
            let differs = differences(&then, &now);
            // What was begun in a task of its own is done, or as before, by itself.
            let by_itself = end.view.steps.iter().any(|step| step.name == "count");
            if !(by_itself && differences(done, &in_general(end)).is_empty()) {
                wrong.extend(differs);
            }
            let outcome = end.view.outcome.as_ref().expect("an end has an outcome");
            let unseen = outcome.drift.iter().all(|drift| drift.resource == "fingerprint");
            // What is down to the very end cannot be looked at: then it says that, and nothing else.
            if outcome.verified == Some(false) && !(unseen && looks_fail) {
                wrong.push(format!("it says itself that the rollback left something: {outcome:?}"));
            }
        }
        state => wrong.push(format!("it has not ended: {state:?}")),
    }
    if let Some(incident) = &end.incident
        && (incident.steps.is_empty() || incident.steps.iter().any(|step| step.reason.is_empty()))
    {
        wrong.push(format!("the incident does not say why: {incident:?}"));
    }
    if !end.rig.engine.locks().is_empty() {
        wrong.push(format!("locks are left: {:?}", end.rig.engine.locks()));
    }
    if !end.rig.world.backup_dir().partial().is_empty() {
        wrong.push(format!("partial archives are left: {:?}", end.rig.world.backup_dir().partial()));
    }
    wrong.extend(end.scandal.clone());
    wrong
}
