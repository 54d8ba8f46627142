//! The plans of the workflows, looked at as data: what waits for what, what is undone, what is refused. Nothing runs.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a failure is a failed test")]

use std::collections::BTreeMap;

use kedge_engine::plan::{Class, Plan, UndoSpec};
use kedge_engine::store::ReadError;
use kedge_engine::task::TaskId;
use kedge_engine::workflow::{Facts, PlanCx, PlanRefusal, Workflow};
use kedge_workflows::workflows;
use proptest::prelude::*;
use serde_json::{Value, json};

#[derive(Default)]
struct Known(BTreeMap<(String, String), Value>);

impl Known {
    fn with(mut self, family: &str, name: &str, value: Value) -> Self {
        self.0.insert((family.to_owned(), name.to_owned()), value);
        self
    }

    fn named(site: &Value, name: &str, state: &str) -> Value {
        let mut site = site.clone();
        site["name"] = json!(name);
        site["state"] = json!(state);
        site
    }

    fn usual() -> Self {
        let site = json!({
            "name": "shop.example.test", "platform": "wordpress-61", "dir": "/srv/61/sites/shop.example.test",
            "database_server": "db1", "schema": "shopexampletest", "user": "shopexampletest",
            "password": "database/task_1", "state": "enabled", "task": "task_1", "changed_at": 1
        });
        Self::default()
            .with(
                "platform",
                "wordpress-61",
                json!({ "web_server": "web1", "root": "/srv/61", "app": "wordpress" }),
            )
            .with(
                "platform",
                "wordpress-68",
                json!({ "web_server": "web1", "root": "/srv/68", "app": "wordpress" }),
            )
            .with("platform", "files", json!({ "web_server": "web1", "root": "/srv/files", "app": "plain" }))
            .with("web_server", "web1", json!({ "host": "host1" }))
            .with("database_server", "db1", json!({}))
            .with("database_server", "db2", json!({}))
            .with("prepared", "wordpress-61", json!({}))
            .with("site", "shop.example.test", site.clone())
            .with("site", "closed.example.test", Self::named(&site, "closed.example.test", "disabled"))
            .with("site", "files.example.test", {
                let mut files = Self::named(&site, "files.example.test", "enabled");
                files["platform"] = json!("files");
                files
            })
            .with(
                "platform",
                "wordpress-one",
                json!({ "web_server": "web1", "root": "/srv/one", "app": "wordpress" }),
            )
            .with("site", "lonely.example.test", {
                let mut lonely = Self::named(&site, "lonely.example.test", "enabled");
                lonely["platform"] = json!("wordpress-one");
                lonely
            })
            .with(
                "backup",
                "deleted.example.test-1.tar.zst",
                json!({ "name": "deleted.example.test-1.tar.zst", "site": "deleted.example.test", "platform": "wordpress-61",
                        "database_server": "db1", "description": "", "bytes": 1, "sha256": "", "task": "task_2", "created_at": 1 }),
            )
            .with(
                "trash",
                "task_2",
                json!({ "site": Self::named(&site, "deleted.example.test", "disabled"), "until": 1_895_363_200_000_u64, "why": "delete" }),
            )
            .with(
                "trash",
                "task_3",
                json!({ "site": Self::named(&site, "old.example.test", "enabled"), "until": 1_795_363_200_000_u64 }),
            )
    }
}

impl Facts for Known {
    fn record(&self, family: &str, name: &str) -> Result<Option<Value>, ReadError> {
        Ok(self.0.get(&(family.to_owned(), name.to_owned())).cloned())
    }

    fn records(&self, family: &str) -> Result<Vec<(String, Value)>, ReadError> {
        let of_family = self.0.iter().filter(|((of, _), _)| of == family);
        Ok(of_family.map(|((_, name), value)| (name.clone(), value.clone())).collect())
    }
}

fn workflow(name: &str) -> Box<dyn Workflow> {
    workflows().into_iter().find(|workflow| workflow.name() == name).unwrap()
}

fn plan(name: &str, params: Value, facts: &Known) -> Result<Plan, PlanRefusal> {
    let task = TaskId::from_bytes([7; 16]);
    workflow(name)
        .plan(&params, &PlanCx { task: &task, now: 1_795_363_200_000, named_at: 1_795_363_200_000, facts })
}

/// Whether `before` is done before `after` begins, directly or not.
fn comes_before(plan: &Plan, before: &str, after: &str) -> bool {
    let (before, after) = (plan.find(before).unwrap(), plan.find(after).unwrap());
    let mut open = vec![after];
    while let Some(step) = open.pop() {
        if step == before {
            return true;
        }
        open.extend(plan.before(step));
    }
    false
}

#[test]
fn every_example_makes_a_plan_and_fits_its_schema() {
    for workflow in workflows() {
        let made = plan(workflow.name(), workflow.example(), &Known::usual());
        assert!(made.is_ok(), "{}: {:?}", workflow.name(), made.err());
        let schema = workflow.schema();
        assert_eq!(schema["additionalProperties"], json!(false), "{}", workflow.name());
        assert!(schema["$schema"].as_str().unwrap().contains("2020-12"));
    }
}

#[test]
fn a_migrate_touches_nothing_live_before_everything_slow_is_done() {
    let plan = plan(
        "migrate",
        json!({ "site": "shop.example.test", "target_platform": "wordpress-68" }),
        &Known::usual(),
    )
    .unwrap();
    for slow in ["catalog_backup", "copy_files", "copy_ahead", "prepare_platform"] {
        assert!(comes_before(&plan, slow, "close"), "{slow} has to be done before the doors close");
    }
    assert!(comes_before(&plan, "close", "fence") && comes_before(&plan, "fence", "copy_database"));
    assert!(comes_before(&plan, "fence", "sync_files"));
    assert!(
        !comes_before(&plan, "sync_files", "copy_database"),
        "files and database are copied beside each other"
    );
    assert!(comes_before(&plan, "check_hidden", "commit") && comes_before(&plan, "commit", "go_live"));
    assert_eq!(plan.step(plan.pivot(None).unwrap()).name, "commit");
    assert_eq!(plan.step(plan.pivot(Some("backup")).unwrap()).name, "catalog_backup");
    assert!(plan.rest().fingerprint.is_some());
    assert!(plan.find("set_aside").is_none() && plan.find("retire_vhost").is_none());
    assert_eq!(plan.rest().hold_ms, Some(86_400_000));
}

#[test]
fn everything_that_acts_says_how_it_is_taken_back() {
    for (name, params) in [
        ("install", workflow("install").example()),
        (
            "migrate",
            json!({ "site": "shop.example.test", "new_site": "new.example.test", "target_platform": "wordpress-68" }),
        ),
    ] {
        let plan = plan(name, params, &Known::usual()).unwrap();
        for (_, step) in plan.steps().filter(|(_, step)| step.class == Class::Compensable) {
            let words = match &step.undo {
                UndoSpec::Own { title } => title,
                UndoSpec::None { why } => why,
            };
            assert!(words.len() > 10, "{name}: {} says nothing of its undo", step.name);
        }
    }
}

#[test]
fn a_rename_rewrites_and_retires_the_old_name() {
    let params =
        json!({ "site": "shop.example.test", "new_site": "store.example.test", "redirect_old": true });
    let plan = plan("migrate", params, &Known::usual()).unwrap();
    let copy = &plan.step(plan.find("copy_database").unwrap()).params;
    let ahead = &plan.step(plan.find("copy_ahead").unwrap()).params["copy"];
    for part in ["rename", "also", "moves", "from", "to"] {
        assert_eq!(copy[part], ahead[part], "{part}: what is copied again is copied as it was ahead");
    }
    assert_eq!(copy["rename"], json!(["shop.example.test", "store.example.test"]));
    assert_eq!(
        copy["moves"],
        json!([["/srv/61/sites/shop.example.test", "/srv/61/sites/store.example.test"]])
    );
    assert_eq!(plan.step(plan.find("retire_vhost").unwrap()).params["redirect"], "store.example.test");
    let locks: Vec<&str> = plan.rest().locks.iter().map(|lock| lock.resource.as_str()).collect();
    assert_eq!(locks, ["platform wordpress-61", "site shop.example.test", "site store.example.test"]);
}

#[test]
fn every_name_that_a_site_will_get_is_locked() {
    let usual = Known::usual();
    let mut shop = usual.0[&("site".to_owned(), "shop.example.test".to_owned())].clone();
    shop["aliases"] = json!(["www.shop.example.test", "stays.example.test"]);
    let mut deleted = usual.0[&("trash".to_owned(), "task_2".to_owned())].clone();
    deleted["site"]["aliases"] = json!(["alias.example.test"]);
    let known = usual.with("site", "shop.example.test", shop).with("trash", "task_2", deleted);
    let aliases = json!(["alias.example.test"]);
    for (name, params, locked) in [
        (
            "install",
            json!({ "site": "new.example.test", "platform": "wordpress-61", "database_server": "db1", "aliases": aliases }),
            vec!["alias.example.test", "new.example.test"],
        ),
        (
            "clone",
            json!({ "site": "shop.example.test", "new_site": "new.example.test", "aliases": aliases }),
            vec!["alias.example.test", "new.example.test"],
        ),
        (
            "import",
            json!({ "platform": "wordpress-61", "path": "/var/www/found.example.test", "database_server": "db1", "aliases": aliases }),
            vec!["alias.example.test", "found.example.test"],
        ),
        (
            "migrate",
            json!({ "site": "shop.example.test", "new_site": "store.example.test" }),
            vec!["shop.example.test", "store.example.test", "www.store.example.test"],
        ),
        (
            "undelete",
            json!({ "site": "deleted.example.test" }),
            vec!["alias.example.test", "deleted.example.test"],
        ),
    ] {
        let plan = plan(name, params, &known).unwrap();
        let locks = plan.rest().locks.iter().filter(|lock| !lock.shared);
        let mut names: Vec<&str> = locks.filter_map(|lock| lock.resource.strip_prefix("site ")).collect();
        names.sort_unstable();
        assert_eq!(names, locked, "{name}");
    }
}

#[test]
fn a_move_to_another_database_server_takes_the_place_of_the_old_directory() {
    let params = json!({ "site": "shop.example.test", "target_database_server": "db2" });
    let plan = plan("migrate", params, &Known::usual()).unwrap();
    assert!(comes_before(&plan, "set_aside", "publish"));
    assert!(plan.find("trash_dir").is_none());
}

/// What is asked for is refused, in words that have these in them.
fn refused(name: &str, params: Value, words: &str) {
    let told = match plan(name, params, &Known::usual()) {
        Err(PlanRefusal::BadParams(problems)) => {
            problems.into_iter().map(|p| format!("{} {}", p.pointer, p.detail)).collect()
        }
        Err(other) => other.to_string(),
        Ok(_) => String::from("a plan"),
    };
    assert!(told.contains(words), "{told:?} does not say {words:?}");
}

#[test]
fn what_cannot_be_is_refused_in_words() {
    refused("migrate", json!({ "site": "shop.example.test" }), "nothing would change");
    refused(
        "migrate",
        json!({ "site": "none.example.test", "target_platform": "wordpress-68" }),
        "/site there is no site",
    );
    refused(
        "migrate",
        json!({ "site": "shop.example.test", "target_platform": "x" }),
        "there are: files, wordpress-61",
    );
    refused(
        "migrate",
        json!({ "site": "shop.example.test", "target_platform": "files" }),
        "another application",
    );
    refused(
        "migrate",
        json!({ "site": "shop.example.test", "hold": "ever", "new_site": "a.test" }),
        "no duration",
    );
    refused(
        "install",
        json!({ "site": "shop.example.test", "platform": "wordpress-61", "database_server": "db1" }),
        "exists already",
    );
    refused(
        "install",
        json!({ "site": "../etc", "platform": "wordpress-61", "database_server": "db1" }),
        "has a path",
    );
    refused(
        "migrate",
        json!({ "site": "shop.example.test", "target_platform": "wordpress-68", "redirect_old": true }),
        "/redirect_old there is no old name",
    );
    refused(
        "install",
        json!({ "site": "a.example.test", "platform": "wordpress-61", "database_server": "db1", "admin_email": "a@b" }),
        "/admin_email write one mail address",
    );
    refused("backup", json!({ "site": "shop.example.test", "exclude": ["../x"] }), "/exclude/0");
}

#[test]
fn a_copy_is_quiet_on_demand_and_stays_so_until_it_is_let_go() {
    let copy = json!({ "site": "shop.example.test", "new_site": "staging.example.test" });
    let quiet = |params: &Value, step: &str| {
        let plan = plan("clone", params.clone(), &Known::usual()).unwrap();
        plan.step(plan.find(step).unwrap()).params["to"]["quiet"].clone()
    };
    let mut asked = copy.clone();
    asked["quiet"] = json!(true);
    for step in ["write_settings", "commit"] {
        assert_eq!((quiet(&copy, step), quiet(&asked, step)), (Value::Null, json!(true)), "{step}");
    }
    let mut site = Known::usual().0[&("site".to_owned(), "shop.example.test".to_owned())].clone();
    site["quiet"] = json!(true);
    let known = Known::usual().with("site", "shop.example.test", site);
    let (moved, step) =
        (json!({ "site": "shop.example.test", "target_platform": "wordpress-68" }), "write_settings");
    let moved = plan("migrate", moved, &known).unwrap();
    assert_eq!(
        moved.step(moved.find(step).unwrap()).params["to"]["quiet"],
        json!(true),
        "a move changes nothing of it"
    );
    let look = |params: Value| {
        let plan = plan("configure", params, &known).unwrap();
        let look = plan.step(plan.find("look").unwrap()).params.clone();
        (look["place"]["quiet"].clone(), look["was"]["quiet"].clone())
    };
    assert_eq!(look(json!({ "site": "shop.example.test", "www": true })), (json!(true), json!(true)));
    assert_eq!(look(json!({ "site": "shop.example.test", "quiet": false })), (Value::Null, json!(true)));
}

#[test]
fn a_copy_begins_without_the_names_and_the_certificate_of_its_original() {
    let usual = Known::usual();
    let mut shop = usual.0[&("site".to_owned(), "shop.example.test".to_owned())].clone();
    shop["aliases"] = json!(["www.shop.example.test"]);
    shop["reach"] = json!({
        "tls": { "certificate": "/etc/ssl/shop.pem", "key": "/etc/ssl/shop.key", "self_signed": false, "only": true },
        "canonical": "www.shop.example.test"
    });
    let facts = usual.with("site", "shop.example.test", shop);
    let params = json!({ "site": "shop.example.test", "new_site": "copy.example.test" });
    let plan = plan("clone", params, &facts).unwrap();
    assert!(plan.find("ensure_certificate").is_none());
    for step in ["open_hidden", "commit", "go_live"] {
        let to = &plan.step(plan.find(step).unwrap()).params["to"];
        assert_eq!(to["site"], "copy.example.test", "{step}");
        let told = to.to_string();
        assert!(!told.contains("www.") && !told.contains("/etc/ssl"), "{step}: {told}");
    }
}

#[test]
fn what_no_copy_can_be_is_refused_in_words() {
    refused(
        "clone",
        json!({ "site": "files.example.test", "new_site": "a.example.test", "quiet": true }),
        "/quiet Kedge holds back mail, cron and requests of WordPress and Drupal sites only",
    );
    refused("configure", json!({ "site": "files.example.test", "quiet": true }), "/quiet");
    refused(
        "clone",
        json!({ "site": "files.example.test", "new_site": "a.example.test", "sanitize": true }),
        "/sanitize Kedge knows where WordPress and Drupal keep",
    );
    let over = |new_site: &str, more: &str, value: Value| json!({ "site": "shop.example.test", "new_site": new_site, "over_existing": true, more: value });
    let nothing = || ("hold", json!("1h"));
    for (new_site, (more, value), words) in [
        ("shop.example.test", nothing(), "/new_site a site cannot be cloned over itself"),
        ("closed.example.test", nothing(), "enable it first"),
        ("files.example.test", nothing(), "another application"),
        ("lonely.example.test", ("aliases", json!(["a.example.test"])), "/aliases the site that is replaced"),
        ("lonely.example.test", ("over_existing", json!(false)), "with over_existing the copy replaces it"),
    ] {
        refused("clone", over(new_site, more, value), words);
    }
}

#[test]
fn a_clone_over_a_site_keeps_its_names_and_takes_its_place_when_everything_slow_is_done() {
    let mut there = Known::usual().0[&("site".to_owned(), "lonely.example.test".to_owned())].clone();
    there["aliases"] = json!(["www.lonely.example.test"]);
    there["quiet"] = json!(true);
    there["dir"] = json!("/srv/one/sites/lonely.example.test");
    there["reach"] =
        json!({ "tls": { "certificate": "/c.pem", "key": "/k.pem", "self_signed": false, "only": true } });
    let known = Known::usual().with("site", "lonely.example.test", there.clone());
    let params = json!({ "site": "shop.example.test", "new_site": "lonely.example.test", "over_existing": true, "hold": "7d" });
    let plan = plan("clone", params, &known).unwrap();
    for slow in ["catalog_backup", "look_at_original", "copy_database", "copy_files", "clear_caches"] {
        assert!(comes_before(&plan, slow, "close"), "{slow} has to be done before the doors close");
    }
    assert!(comes_before(&plan, "fence", "set_aside") && comes_before(&plan, "check_hidden", "commit"));
    let step = |name: &str| &plan.step(plan.find(name).unwrap()).params;
    let commit = step("commit");
    assert_eq!(
        (&commit["cloned_from"], &commit["old"]["name"]),
        (&json!("shop.example.test"), &there["name"])
    );
    for what in ["aliases", "reach", "quiet"] {
        assert_eq!(commit["to"][what], there[what], "{what} of the site that is replaced");
    }
    assert_eq!(step("copy_database")["from"]["names"]["known"]["schema"], "shopexampletest");
    assert_eq!(step("write_settings")["renews"], json!(true));
    assert_eq!(plan.rest().hold_ms, Some(7 * 86_400_000));
    let locks: Vec<_> = plan.rest().locks.iter().map(|lock| (lock.resource.as_str(), lock.shared)).collect();
    assert!(locks.contains(&("site shop.example.test", true)), "the original is only read: {locks:?}");
    assert!(locks.contains(&("site lonely.example.test", false)), "{locks:?}");
}

#[test]
fn a_plan_is_the_same_for_the_same_input() {
    let params = json!({ "site": "shop.example.test", "target_platform": "wordpress-68" });
    let one = plan("migrate", params.clone(), &Known::usual()).unwrap();
    let two = plan("migrate", params, &Known::usual()).unwrap();
    assert_eq!(one.hash(), two.hash());
    let stored = serde_json::to_vec(&one).unwrap();
    assert_eq!(serde_json::from_slice::<Plan>(&stored).unwrap(), one);
}

#[test]
fn a_site_is_deleted_only_when_it_is_disabled_and_comes_back_within_its_hold() {
    let known = Known::usual();
    let refused = plan("delete", json!({ "site": "shop.example.test" }), &known).unwrap_err();
    assert!(refused.to_string().contains("disable it first"), "{refused}");
    let delete = plan("delete", json!({ "site": "closed.example.test", "hold": "7d" }), &known).unwrap();
    assert!(
        comes_before(&delete, "catalog_backup", "commit") && comes_before(&delete, "commit", "trash_dir")
    );
    assert_eq!(delete.rest().hold_ms, Some(7 * 86_400_000));
    let forced = plan("delete", json!({ "site": "closed.example.test", "force": true }), &known).unwrap();
    assert!(forced.find("write_backup").is_none() && comes_before(&forced, "ask_registry", "survey"));
    for site in ["shop.example.test", "old.example.test"] {
        let refused = plan("undelete", json!({ "site": site }), &known).unwrap_err();
        assert!(matches!(refused, PlanRefusal::BadParams(_)), "{site}: {refused}");
    }
    let there = known.with("site", "deleted.example.test", json!({}));
    assert!(plan("undelete", json!({ "site": "deleted.example.test" }), &there).is_err());
}

#[test]
fn a_purge_takes_what_is_due_and_never_the_newest_backup() {
    let backup = |at: u64| {
        json!({ "name": format!("b{at}"), "site": "shop.example.test", "platform": "wordpress-61", "database_server": "db1",
                "description": "", "bytes": 1, "sha256": "", "task": "task_1", "created_at": at })
    };
    let known = Known::usual().with("backup", "b1", backup(1)).with("backup", "b2", backup(2));
    let purge = plan("purge", json!({ "older_than": "1d" }), &known).unwrap();
    let titles: Vec<String> = purge.steps().map(|(_, step)| step.title.clone()).collect();
    let text = titles.join("; ");
    assert!(text.contains("remove the backup b1") && !text.contains("b2"), "{text}");
    assert!(text.contains("shopexampletest") && titles.len() == 4, "{text}");
    let kept = |params: Value, known: &Known| {
        let purge = plan("purge", params, known).unwrap();
        let text: Vec<String> = purge.steps().map(|(_, step)| step.title.clone()).collect();
        ["b1", "b2", "b3", "b4"]
            .map(|name| !text.iter().any(|title| title.ends_with(&format!("the backup {name}"))))
    };
    let mut pinned = backup(1);
    pinned["pinned"] = json!(true);
    let more = known.with("backup", "b1", pinned).with("backup", "b3", backup(3)).with(
        "backup",
        "b4",
        backup(1_795_363_199_999),
    );
    assert_eq!(
        kept(json!({ "keep": 2 }), &more),
        [true, false, true, true],
        "the pinned one and the two newest"
    );
    assert_eq!(kept(json!({ "keep": 1, "older_than": "1d" }), &more), [true, false, false, true]);
    assert_eq!(kept(json!({ "keep": 3, "older_than": "1d" }), &more), [true, true, true, true]);
    let mut partial = backup(1_795_363_199_999);
    partial["exclude"] = json!(["files"]);
    let known = more.with("backup", "b4", partial);
    assert_eq!(
        kept(json!({ "keep": 1, "older_than": "1d" }), &known),
        [true, false, true, true],
        "the newest that holds the whole site stays as well"
    );
    let later = plan("purge", json!({ "site": "deleted.example.test" }), &known).unwrap_err();
    assert!(later.to_string().contains("nothing to purge"), "{later}");
    // By name: what may go goes at once, whatever its age.
    assert_eq!(kept(json!({ "backup": "b2" }), &known), [true, false, true, true]);
    let early = plan("purge", json!({ "trash": "task_2" }), &known).unwrap();
    let titles: Vec<String> = early.steps().map(|(_, step)| step.title.clone()).collect();
    assert!(titles.len() == 3 && titles[0].contains("1 old sides and 0 backups"), "{titles:?}");
    for (params, why) in [
        (json!({ "backup": "b1" }), "pinned"),
        (json!({ "backup": "b4" }), "the newest"),
        (json!({ "backup": "b9" }), "no backup of this name"),
        (json!({ "backup": "b3" }), "the newest"),
        (json!({ "backup": "b2", "keep": 1 }), "named already"),
        (json!({ "trash": "task_x" }), "nothing in the trash"),
    ] {
        let refused = format!("{:?}", plan("purge", params, &known).unwrap_err());
        assert!(refused.contains(why), "{why}: {refused}");
    }
}

/// Fifty backups are of the first sites: what stays of others is nothing that their purge is about.
#[test]
fn a_purge_asks_after_what_stays_of_its_own_sites_only() {
    let mut known = Known::default();
    for (site, count) in [("a.example.test", 30), ("b.example.test", 30), ("c.example.test", 2)] {
        for at in 0..count {
            let name = format!("{site}-{at:02}");
            let backup = json!({ "name": name, "site": site, "platform": "wordpress-61", "database_server": "db1",
                                 "description": "", "bytes": 1, "sha256": "", "task": "task_1", "created_at": at });
            known = known.with("backup", &name, backup);
        }
    }
    let purge = plan("purge", json!({ "keep": 1 }), &known).unwrap();
    let commit = &purge.step(purge.find("commit").unwrap()).params;
    let stay: Vec<&str> =
        commit["staying"].as_array().unwrap().iter().filter_map(|stays| stays["name"].as_str()).collect();
    assert_eq!(commit["backups"].as_array().unwrap().len(), 50);
    assert_eq!(stay, ["a.example.test-29", "b.example.test-29"]);
}

/// A value for a parameter: what the example has, what others have, and what nobody means.
fn value() -> impl Strategy<Value = Value> {
    let texts = prop::sample::select(vec![
        "shop.example.test",
        "closed.example.test",
        "deleted.example.test",
        "new.example.test",
        "wordpress-61",
        "wordpress-68",
        "files",
        "db1",
        "db2",
        "0m",
        "24h",
        "999999d",
        "",
        ".",
        "..",
        "../x",
        "/etc/passwd",
        "a/b",
        "*",
        "x".repeat(300).leak(),
        "xn--",
        "b\u{fc}cher.test",
        "\0",
        "a\nb",
        "shop.example.test-1.tar.zst",
        "all",
        "files",
        "zstd",
        "empty",
        "-rf",
        "'; DROP",
        "task_0193f1c20000700080000000000000aa",
    ]);
    let leaf = prop_oneof![
        texts.prop_map(|text| json!(text)),
        any::<bool>().prop_map(|b| json!(b)),
        any::<i64>().prop_map(|n| json!(n)),
        Just(Value::Null)
    ];
    leaf.prop_recursive(2, 8, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map("[a-z_]{1,6}", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever is asked for: a plan that holds together, or a refusal with words.
    #[test]
    fn fuzz_of_parameters(which in any::<prop::sample::Index>(), changes in prop::collection::vec((any::<prop::sample::Index>(), value()), 0..4), more in prop::option::weighted(0.2, ("[a-z_]{1,8}", value()))) {
        let all = workflows();
        let workflow = &all[which.index(all.len())];
        let mut params = workflow.example();
        let names: Vec<String> = workflow.schema()["properties"].as_object().unwrap().keys().cloned().collect();
        for (place, value) in changes {
            params[&names[place.index(names.len())]] = value;
        }
        if let Some((name, value)) = more {
            params[name] = value;
        }
        match plan(workflow.name(), params.clone(), &Known::usual()) {
            Ok(plan) => {
                prop_assert!(plan.steps().count() > 0);
                for (_, step) in plan.steps() {
                    prop_assert!(!step.title.is_empty() && step.title.len() < 2000 && !step.title.contains('\0'), "{}: {:?}", params, step.title);
                }
            }
            Err(PlanRefusal::BadParams(list)) => prop_assert!(list.iter().all(|error| !error.detail.is_empty())),
            Err(refusal) => prop_assert!(!refusal.to_string().is_empty()),
        }
    }
}
