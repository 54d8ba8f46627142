//! What a site is made of against what a platform gives, as it is when the task looks: what stops it, what has to be acknowledged.

use std::cell::Cell;

use kedge_engine::task::TaskState;
use kedge_workflows::names::DatabaseName;
use kedge_workflows::testing::FakeWorld;
use serde_json::{Value, json};

use crate::rig::{Ask, Base, Case, End, play, quietly};
use crate::scene::usual;
use crate::tales::{migrate, status};

/// A site that uses these modules, and a newer platform that has others.
fn with_modules(used: &str, given: &[(&str, &str)]) -> Base {
    let base = usual();
    let disk = base.world.disk("host1");
    for module in used.split(' ').filter_map(|module| module.split('=').next()) {
        disk.write(&format!("/srv/platforms/61/modules/{module}"), "2.0 7");
    }
    for (module, text) in given {
        disk.write(&format!("/srv/platforms/68/modules/{module}"), (*text).to_owned());
    }
    options(&base, &[("modules", used)]);
    base
}

/// Rows of the site's options.
fn options(base: &Base, rows: &[(&str, &str)]) {
    let schema = DatabaseName::parse("shopexampletest").unwrap();
    let set = base.world.database_server("db1").with_tables(&schema, |tables| {
        for (name, value) in rows {
            tables.get_mut("wp_options").unwrap().insert(&[*name, *value]);
        }
    });
    set.expect("the shop's schema");
}

/// A move there, during which the site is never gone.
fn moved(base: &Base, acknowledge: bool) -> End {
    let open = |world: &FakeWorld| {
        (status(world, "web1", "shop.example.test") == 0).then(|| "the site was gone".to_owned())
    };
    migrate(base, params(acknowledge), &open)
}

fn params(acknowledge: bool) -> Value {
    json!({ "site": "shop.example.test", "target_platform": "wordpress-68", "acknowledge_warnings": acknowledge })
}

fn refused(end: End, words: &str) {
    assert_eq!((end.view.state, end.scandal), (TaskState::RolledBack, None));
    let told = end.view.error.expect("a reason").detail;
    assert!(told.contains(words), "{words:?} is not in {told}");
}

#[test]
fn a_platform_with_an_older_schema_of_a_module_is_refused_whatever_is_acknowledged() {
    let words = "module forms: schema 9 in the database, the platform's is 8";
    refused(moved(&with_modules("forms=9", &[("forms", "3.0 8")]), true), words);
    let end = moved(&with_modules("forms=8", &[("forms", "3.0 8")]), false);
    assert_eq!(end.view.state, TaskState::Succeeded);
}

#[test]
fn a_module_that_the_platform_lacks_has_to_be_acknowledged() {
    let base = with_modules("forms=9 maps=1", &[("forms", "2.0 9")]);
    refused(moved(&base, false), "module maps: missing on the platform; if that is meant");
    let end = moved(&base, true);
    assert_eq!(end.view.state, TaskState::Succeeded);
    assert_eq!(end.view.result["warnings"], json!(["module maps: missing on the platform"]));
}

#[test]
fn a_platform_without_the_profile_of_the_site_is_refused_and_says_which_it_has() {
    let base = usual();
    let disk = base.world.disk("host1");
    disk.write("/srv/platforms/61/profiles/harbour", "1.0");
    for profile in ["news", "plain"] {
        disk.write(&format!("/srv/platforms/68/profiles/{profile}"), "1.0");
    }
    options(&base, &[("profile", "harbour")]);
    let words = "profile harbour: the site was installed with it and runs on it, and the platform does not have it; the \
                 platform's profiles: news, plain";
    refused(moved(&base, true), words);
    disk.write("/srv/platforms/68/profiles/harbour", "1.1");
    assert_eq!(moved(&base, false).view.state, TaskState::Succeeded);
}

/// What was true when the task was accepted counts for nothing.
#[test]
fn a_task_compares_what_there_is_when_it_looks() {
    let base = with_modules("forms=9", &[("forms", "3.0 9")]);
    assert_eq!(moved(&base, false).view.state, TaskState::Succeeded);
    let changed = Cell::new(false);
    let meanwhile = |world: &FakeWorld| {
        if !changed.replace(true) {
            world.disk("host1").write("/srv/platforms/68/modules/forms", "3.0 8");
        }
        None
    };
    let end = migrate(&base, params(true), &meanwhile);
    refused(end, "module forms: schema 9 in the database, the platform's is 8");
}

/// What a backup holds is known when it is restored, and compared then: before the live side is closed.
#[test]
fn a_restored_database_is_compared_with_the_platform_before_the_doors_close() {
    let base = with_modules("forms=9", &[("forms", "3.0 9")]);
    let ask = |workflow, params| Ask::Task { workflow, params };
    let backup = ask("backup", json!({ "site": "shop.example.test" }));
    let (base, made) = quietly(&base, &backup);
    let name = made.result["backup"].clone();
    // The live site does not use the module any more, and the platform has an older one.
    base.world.disk("host1").write("/srv/platforms/61/modules/forms", "1.0 3");
    let schema = DatabaseName::parse("shopexampletest").unwrap();
    let unused = base.world.database_server("db1").with_tables(&schema, |tables| {
        tables.get_mut("wp_options").unwrap().rows.retain(|_, row| row[0].as_deref() != Some("modules"));
    });
    unused.expect("the shop's schema");
    let open = |world: &FakeWorld| {
        (status(world, "web1", "shop.example.test") != 200).then(|| "the site was closed".to_owned())
    };
    let restore = ask("restore", json!({ "site": "shop.example.test", "backup": name }));
    let end = play(&base, &restore, &Case::default(), &open);
    assert_eq!(end.view.error.as_ref().map(|error| error.step.as_str()), Some("compare"));
    refused(end, "module forms: schema 9 in the database, the platform's is 3");
}
