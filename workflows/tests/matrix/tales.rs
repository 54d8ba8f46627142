//! Single runs told in full: what has to be true at the end of a rename, and what is found out before a site is closed.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kedge_engine::task::{TaskState, TaskView};
use kedge_workflows::names::SiteName;
use kedge_workflows::ports::DatabaseFacts;
use kedge_workflows::testing::{FakeDatabase, FakeTable, FakeTables, FakeWorld, Moment, Point};
use serde_json::{Value, json};

use crate::cases::rollback;
use crate::judge::{judge, whole};
use crate::rig::{Ask, Base, Case, End, Rig, both, play, quietly};
use crate::scene::{BENT, EDITED, JOINED, PAIR, usual};

pub(crate) fn migrate(base: &Base, params: Value, watch: &dyn Fn(&FakeWorld) -> Option<String>) -> End {
    play(base, &Ask::Task { workflow: "migrate", params }, &Case::default(), watch)
}

pub(crate) fn status(world: &FakeWorld, web_server: &str, name: &str) -> u16 {
    let answers = world.visit(&SiteName::parse(name).unwrap(), "/");
    answers.into_iter().find(|(web, ..)| web == web_server).map_or(0, |(_, status, _)| status)
}

/// A migrate to db2 that cannot be: the reason, in the words of its error.
fn refused(change: impl FnOnce(&mut DatabaseFacts), triggers: u64) -> String {
    let base = usual();
    base.world.database_server("db2").change_facts(change);
    let schema = kedge_workflows::names::DatabaseName::parse("shopexampletest").unwrap();
    base.world.database_server("db1").set_triggers(&schema, triggers);
    let open = |world: &FakeWorld| {
        (status(world, "web1", "shop.example.test") != 200).then(|| "the site was closed".to_owned())
    };
    let params = json!({ "site": "shop.example.test", "target_database_server": "db2" });
    let end = migrate(&base, params, &open);
    assert_eq!((end.view.state, end.scandal), (TaskState::RolledBack, None));
    end.view.error.unwrap().detail
}

#[test]
fn what_a_database_server_cannot_take_is_found_before_the_doors_close() {
    let told = refused(|facts| facts.collations.retain(|name| name != "utf8mb4_unicode_520_ci"), 0);
    assert!(
        told.contains("db2 (10.11.0-fake) lacks collations") && told.contains(": utf8mb4_unicode_520_ci;"),
        "{told}"
    );
    let told = refused(|facts| facts.refuses_triggers = true, 3);
    assert!(told.contains("error 1419") && told.contains("the site has 3"), "{told}");
}

#[test]
fn an_older_version_is_a_warning_that_can_be_acknowledged() {
    let mut base = usual();
    base.world.add_platform("wordpress-60", "web1", "/srv/platforms/60", "6.0.9", 1);
    let mut params = json!({ "site": "shop.example.test", "target_platform": "wordpress-60" });
    let end = migrate(&base, params.clone(), &|_| None);
    let told = end.view.error.unwrap().detail;
    assert!(
        told.contains("version 6.0.9, older than the site's 6.1; ") && told.contains("acknowledge_warnings"),
        "{told}"
    );
    params["acknowledge_warnings"] = json!(true);
    assert_eq!(migrate(&base, params, &|_| None).view.state, TaskState::Succeeded);
}

/// Nothing rewrites what an owner wrote into the settings, and a domain of cookies that is another one logs nobody in.
#[test]
fn a_rename_tells_of_old_names_in_the_owners_settings() {
    let base = usual();
    let path = "/srv/platforms/61/sites/shop.example.test/wp-config.php";
    let disk = base.world.disk("host1");
    let mut bytes = disk.bytes(path).expect("the shop's settings");
    let line = bytes.split(|byte| *byte == b'\n').count();
    bytes.extend_from_slice(b"cookie_domain=.shop.example.test\n");
    disk.write(path, bytes);
    let params = json!({ "site": "shop.example.test", "new_site": "store.example.test" });
    let end = migrate(&base, params, &|_| None);
    assert_eq!(end.view.state, TaskState::Succeeded);
    let told = end.view.result["warnings"][0].as_str().unwrap_or_default();
    // The line before has the salt that the fake makes of the name.
    assert!(told.starts_with(&format!("wp-config.php, lines {}, {line}:", line - 1)), "{told}");
    let params = json!({ "site": "shop.example.test", "target_platform": "wordpress-68" });
    assert_eq!(migrate(&base, params, &|_| None).view.result.get("warnings"), None);
}

/// A copy of a tree has its links, not what they lead to.
#[test]
fn links_that_a_copy_does_not_take_along_are_told() {
    let base = usual();
    let disk = base.world.disk("host1");
    let dir = "/srv/platforms/61/sites/shop.example.test";
    disk.link(&format!("{dir}/media"), "/mnt/media");
    disk.link(&format!("{dir}/inside"), "wp-config.php");
    let warnings = |workflow: &'static str, params| {
        let end = play(&base, &Ask::Task { workflow, params }, &Case::default(), &|_| None);
        assert_eq!(end.view.state, TaskState::Succeeded, "{workflow}");
        end.view.result["warnings"].clone()
    };
    let shop = json!({ "site": "shop.example.test" });
    let told = format!("media -> /mnt/media leads out of {dir}: what is there is in no backup");
    assert_eq!(warnings("backup", shop.clone()), json!([told]));
    let copy = json!({ "site": "shop.example.test", "new_site": "copy.example.test" });
    let told = format!("media -> /mnt/media leads out of {dir}: both sides will use what is there");
    assert_eq!(warnings("clone", copy)[0], json!(told));

    let move_params = json!({ "site": "shop.example.test", "target_platform": "wordpress-68" });
    let told = format!(
        "media -> /mnt/media leads out of {dir}: what is there is in no backup, and the new side will use it as it is"
    );
    assert_eq!(warnings("migrate", move_params.clone()), json!([told]));
    disk.link(&format!("{dir}/again"), &format!("{dir}/wp-config.php"));
    let own = format!(
        "again -> {dir}/wp-config.php leads to where the site is now, by the full path, and nowhere once the old side is given up: make a relative one of it"
    );
    assert_eq!(warnings("migrate", move_params), json!([told, own]));
}

/// Files that were sold, behind a `.htaccess` that the new side's server does not read.
#[test]
fn what_only_htaccess_keeps_from_visitors_stops_a_move_to_a_server_that_reads_none() {
    let base = usual();
    let content = "/srv/platforms/61/sites/shop.example.test/wp-content";
    let disk = base.world.disk("host1");
    disk.write(&format!("{content}/plugins/akismet/.htaccess"), b"Require all denied\n".to_vec());
    disk.write(&format!("{content}/uploads/.htaccess"), b"<Files *.php>\ndeny from all\n</Files>\n".to_vec());
    let mut params = json!({ "site": "shop.example.test", "target_platform": "wordpress-far" });
    base.world.web("web1").set_counts_htaccess(true);
    assert_eq!(
        migrate(&base, params.clone(), &|_| None).view.state,
        TaskState::Succeeded,
        "only code is guarded"
    );
    disk.write(&format!("{content}/uploads/sold/.htaccess"), b"deny from all\n".to_vec());
    let end = migrate(&base, params.clone(), &|_| None);
    let told = end.view.error.expect("it was stopped").detail;
    assert!(
        told.starts_with("wp-content/uploads/sold/: a .htaccess there keeps visitors out, which web2"),
        "{told}"
    );
    params["acknowledge_warnings"] = json!(true);
    assert_eq!(migrate(&base, params.clone(), &|_| None).view.state, TaskState::Succeeded);
    params.as_object_mut().unwrap().remove("acknowledge_warnings");
    base.world.web("web2").set_counts_htaccess(true);
    assert_eq!(migrate(&base, params, &|_| None).view.state, TaskState::Succeeded);
}

#[test]
fn an_import_says_what_it_leaves_behind() {
    let base = usual();
    base.world.disk("host1").write("/var/www/found.example.test/robots.txt", b"User-agent: *\n".to_vec());
    let params = json!({
        "platform": "wordpress-68", "path": "/var/www/found.example.test", "database_server": "db1",
        "aliases": ["www.found.example.test"],
    });
    let end = play(&base, &Ask::Task { workflow: "import", params }, &Case::default(), &|_| None);
    assert_eq!(end.view.state, TaskState::Succeeded);
    assert_eq!(end.view.result["warnings"], json!(["robots.txt does not come along"]));
}

/// The found site calls itself by HTTPS.
pub(crate) fn of_https(world: &FakeWorld) {
    let schema = kedge_workflows::names::DatabaseName::parse("found").unwrap();
    let moved = world.database_server("db1").with_tables(&schema, |tables| {
        for table in tables.values_mut() {
            for cell in table.rows.values_mut().flatten() {
                *cell = cell.take().map(|text| text.replace("http://", "https://"));
            }
        }
    });
    moved.expect("the found site's schema");
}

/// Its visitors' addresses would lead nowhere, and HSTS keeps browsers from asking in plain HTTP.
#[test]
fn a_site_of_https_is_not_taken_to_plain_http_unasked() {
    let base = usual();
    of_https(&base.world);
    for (tls, only, expected) in [
        (json!(null), json!(null), Err("give certificate and key")),
        (json!("none"), json!(null), Ok("http")),
        (json!("self_signed"), json!(null), Err("give https_only")),
        (json!("self_signed"), json!(true), Ok("https")),
        (json!("self_signed"), json!(false), Ok("http")),
    ] {
        let params = json!({
            "platform": "wordpress-68", "path": "/var/www/found.example.test", "database_server": "db1",
            "aliases": ["www.found.example.test"], "tls": tls, "https_only": only,
        });
        let end = play(&base, &Ask::Task { workflow: "import", params }, &Case::default(), &|_| None);
        match expected {
            Ok(scheme) => {
                assert_eq!(end.view.state, TaskState::Succeeded, "{tls} {only}: {:?}", end.view.error);
                let settings = "/srv/platforms/68/sites/found.example.test/wp-config.php";
                let settings = end.rig.world.disk("host1").bytes(settings).expect("settings");
                let url = format!("url={scheme}://found.example.test\n");
                assert!(String::from_utf8(settings).unwrap().contains(&url), "{tls} {only}");
            }
            Err(words) => {
                assert_eq!(end.view.state, TaskState::RolledBack, "{tls} {only}");
                let told = end.view.error.expect("an error").detail;
                assert!(told.contains(words), "{told}");
            }
        }
    }
}

#[test]
fn a_server_that_refuses_triggers_takes_a_site_without_any() {
    let base = usual();
    base.world.database_server("db2").change_facts(|facts| facts.refuses_triggers = true);
    let params = json!({ "site": "shop.example.test", "target_database_server": "db2" });
    assert_eq!(migrate(&base, params, &|_| None).view.state, TaskState::Succeeded);
}

/// Pages that Drupal keeps under each name of a site would have one and the same key in a copy.
#[test]
fn a_rename_leaves_caches_behind() {
    let base = usual();
    let schema = kedge_workflows::names::DatabaseName::parse("shopexampletest").unwrap();
    let filled = base.world.database_server("db1").with_tables(&schema, |tables| {
        let mut pages = FakeTable::new(&["cid", "data", "expire", "created", "serialized"]);
        for name in ["shop", "www.shop"] {
            pages.insert(&[&format!("http://{name}.example.test/:"), "a kept page", "-1", "0", "1"]);
        }
        tables.insert("wp_cache_page".to_owned(), pages);
    });
    filled.expect("the shop's schema");
    for (params, kept) in [
        (json!({ "site": "shop.example.test", "new_site": "store.example.test" }), false),
        (json!({ "site": "shop.example.test", "target_platform": "wordpress-68" }), true),
    ] {
        let end = migrate(&base, params.clone(), &|_| None);
        assert_eq!((end.view.state, end.scandal), (TaskState::Succeeded, None));
        let state = whole(&end.rig);
        let new = state.iter().filter(|(key, _)| {
            key.starts_with("database db1")
                && key.contains(".wp_cache_page")
                && !key.contains("shopexampletest.")
        });
        let new: Vec<_> = new.collect();
        assert_eq!(new.len(), 1, "{params}: {state:#?}");
        assert_eq!(new[0].1.contains("a kept page"), kept, "{params}: {new:?}");
    }
}

/// The new side is made of what the first host of a cluster has.
#[test]
fn what_only_another_host_has_is_told_before_anything_is_done() {
    let base = usual();
    let uploads = format!("/srv/platforms/pair/sites/{PAIR}/wp-content/uploads");
    base.world.disk("host4").write(&format!("{uploads}/theirs.png"), b"png".to_vec());
    base.world.disk("host3").write(&format!("{uploads}/ours.png"), b"png".to_vec());
    let (_, made) = quietly(&base, &Ask::Task { workflow: "backup", params: json!({ "site": PAIR }) });
    let told = made.result["warnings"].to_string();
    assert!(told.contains("a file would be in no backup") && told.contains("theirs.png"), "{}", made.result);
    let mut params = json!({ "site": PAIR, "target_platform": "wordpress-pair-68" });
    let end = migrate(&base, params.clone(), &|_| None);
    let told = end.view.error.unwrap().detail;
    assert!(told.contains("a file would stay behind, as host3 has") && told.contains("theirs.png"), "{told}");
    params["acknowledge_warnings"] = json!(true);
    let end = migrate(&base, params, &|_| None);
    assert_eq!(end.view.state, TaskState::Succeeded);
    let site = format!("/srv/platforms/pair68/sites/{PAIR}");
    let [first, other] = ["host3", "host4"].map(|host| end.rig.world.disk(host).snapshot(&site));
    let bare = |(path, node): (&String, &kedge_workflows::testing::Node)| {
        (path.clone(), node.body.clone(), node.mode, node.uid, node.gid, node.mtime_ns)
    };
    assert_eq!(first.iter().map(bare).collect::<Vec<_>>(), other.iter().map(bare).collect::<Vec<_>>());
    assert!(first.contains_key("wp-content/uploads/ours.png"), "{:?}", first.keys());
}

/// Where nothing is moved no file is read for a warning, and nobody waits for it.
#[test]
fn a_backup_on_a_cluster_does_not_depend_on_what_other_hosts_have() {
    let base = usual();
    let upload = format!("/srv/platforms/pair/sites/{PAIR}/wp-content/uploads/a.png");
    base.world.disk("host3").write(&upload, b"png".to_vec());
    base.world.disk("host4").write(&upload, b"gif".to_vec());
    let ask = Ask::Task { workflow: "backup", params: json!({ "site": PAIR }) };
    let (_, made) = quietly(&base, &ask);
    assert!(!made.result.to_string().contains("a.png"), "of one size: {}", made.result);
    base.world.disk("host4").write(&upload, b"longer".to_vec());
    let (_, made) = quietly(&base, &ask);
    assert!(made.result.to_string().contains("a.png"), "{}", made.result);
    let case = Case { down: Some((0, "files.fingerprint")), ..Case::default() };
    let end = play(&base, &ask, &case, &|_| None);
    assert_eq!((end.view.state, end.incident), (TaskState::Succeeded, None), "{:?}", end.view.error);
    assert!(!end.view.result.to_string().contains("a.png"), "{}", end.view.result);
    // What is moved is looked at in earnest.
    let ask = Ask::Task {
        workflow: "migrate",
        params: json!({ "site": PAIR, "target_platform": "wordpress-pair-68" }),
    };
    let end = play(&base, &ask, &case, &|_| None);
    assert_eq!(end.view.state, TaskState::RolledBack);
    assert_eq!(end.view.error.map(|error| error.step), Some("preflight".to_owned()));
}

/// A host that was added to a cluster has nothing of a site: a move brings it all, and nothing of it stays when that fails.
#[test]
fn a_host_that_was_added_gets_a_site_with_its_next_move() {
    let base = usual();
    let ask = Ask::Task {
        workflow: "migrate",
        params: json!({ "site": JOINED, "target_platform": "wordpress-joined-68" }),
    };
    // The platform that it is on was ready before the host came.
    let new = json!({ "site": "new.example.test", "platform": "wordpress-joined", "database_server": "db1" });
    let new = Ask::Task { workflow: "install", params: new };
    let told = play(&base, &new, &Case::default(), &|_| None).view.error.unwrap().detail;
    assert!(told.contains("wordpress-joined is not ready on host6: ask for a verify"), "{told}");
    let params = json!({ "platform": "wordpress-joined" });
    let (verified, _) = quietly(&base, &Ask::Task { workflow: "verify", params });
    assert_eq!(play(&verified, &new, &Case::default(), &|_| None).view.state, TaskState::Succeeded);
    let there = |world: &FakeWorld, host: &str| {
        world.disk(host).snapshot(&format!("/srv/platforms/joined68/sites/{JOINED}"))
    };
    let before = whole(&Rig::new(&base, &Case::default()));
    let quiet = play(&base, &ask, &Case::default(), &|_| None);
    assert_eq!(quiet.view.state, TaskState::Succeeded, "{:?}", quiet.view.error);
    let [first, added] = ["host5", "host6"].map(|host| there(&quiet.rig.world, host));
    assert!(first.len() > 3 && first.keys().eq(added.keys()), "{:?} {:?}", first.keys(), added.keys());
    assert_eq!(status(&quiet.rig.world, "web5 on host6", JOINED), 200);
    let back = play(&base, &ask, &rollback(&quiet), &|_| None);
    assert_eq!(back.view.state, TaskState::RolledBack);
    assert_eq!(judge(&before, &before, &back, false), Vec::<String>::new());
}

/// A verify brings it as well, where the site is.
#[test]
fn a_verify_gives_a_site_to_a_host_that_was_added() {
    let verify = |params: Value| Ask::Task { workflow: "verify", params };
    let (site, dir) = (json!({ "site": JOINED }), format!("/srv/platforms/joined/sites/{JOINED}"));
    let told = play(&usual(), &verify(site.clone()), &Case::default(), &|_| None).view.error.unwrap().detail;
    assert!(told.contains("wordpress-joined is not ready on host6: ask for a verify"), "{told}");
    let (base, _) = quietly(&usual(), &verify(json!({ "platform": "wordpress-joined" })));
    let look = json!({ "site": JOINED, "check_only": true });
    let seen = quietly(&base, &verify(look)).1.result["drift"].clone();
    assert_eq!(seen[0], "files: - host6 has none of them");
    assert_eq!(seen[1], "vhost: - (there is none on host6)");
    let (given, view) = quietly(&base, &verify(site.clone()));
    assert_eq!(view.state, TaskState::Succeeded);
    let [first, added] = ["host5", "host6"].map(|host| given.world.disk(host).snapshot(&dir));
    assert!(first.len() > 3 && first.keys().eq(added.keys()), "{:?} {:?}", first.keys(), added.keys());
    assert_eq!(status(&given.world, "web5 on host6", JOINED), 200);
    assert_eq!(quietly(&given, &verify(site)).1.result["drift"], json!([]));
}

#[test]
fn a_rename_reaches_names_content_and_events() {
    let params = json!({ "site": "shop.example.test", "new_site": "store.example.test", "redirect_old": true,
                         "target_database_server": "db2" });
    let end = migrate(&usual(), params, &|world| {
        // The copy's events run only when the old side serves nobody any more.
        let runs =
            world.state().iter().any(|(key, told)| key.contains("database db2 event:") && told == "On");
        let closed = status(world, "web1", "store.example.test") != 200;
        (runs && closed).then(|| "an event runs in the copy".to_owned())
    });
    let TaskView { state, downtime_ms, undo_until, .. } = &end.view;
    assert_eq!((*state, end.scandal.clone()), (TaskState::Succeeded, None));
    assert!(downtime_ms.is_some() && undo_until.is_some(), "{:?}", end.view);
    let world = &end.rig.world;
    for (name, expected) in [
        ("store.example.test", 200),
        ("www.store.example.test", 200),
        ("alias.example.test", 200),
        ("shop.example.test", 301),
        ("www.shop.example.test", 301),
        ("neighbour.example.test", 200),
    ] {
        assert_eq!(status(world, "web1", name), expected, "{name}");
    }
    let state = whole(&end.rig);
    let new = |what: &str| {
        state
            .iter()
            .filter(move |(key, _)| key.starts_with("database db2") && key.contains(what.to_owned().as_str()))
            .map(|(_, told)| told.clone())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let orders = new(".wp_orders");
    assert!(orders.contains("http://store.example.test/order/1"), "{orders}");
    assert!(orders.contains("http://www.store.example.test/order/2"), "{orders}");
    assert!(!orders.contains("shop.example.test/"), "{orders}");
    assert!(new("event:").contains("On") && new("event:").contains("Off"), "{state:?}");
    assert!(
        end.view.result["kept_until"].is_u64() && end.view.result["backup"].is_string(),
        "{:?}",
        end.view.result
    );
}

fn verify(base: &Base, params: Value) -> End {
    let end = play(base, &Ask::Task { workflow: "verify", params }, &Case::default(), &|_| None);
    assert_eq!(end.view.state, TaskState::Succeeded, "{:?}", end.view.error);
    end
}

fn drift(end: &End) -> String {
    end.view.result["drift"]
        .as_array()
        .expect("drift")
        .iter()
        .map(|line| format!("{}\n", line.as_str().unwrap()))
        .collect()
}

#[test]
fn a_verify_tells_what_differs_and_puts_only_that_right() {
    let base = usual();
    let before = base.world.state();
    let look = verify(&base, json!({ "site": BENT, "check_only": true }));
    assert_eq!(look.rig.world.state(), before, "a look changes nothing");
    let told = drift(&look);
    for line in [
        "settings: - url=http://wrong.example.test",
        "settings: + url=http://bent.example.test",
        "vhost: - (there is none)",
        "access: wp-content/uploads/a.txt is 0644 0:0, should be 0664 www-data:www-data",
    ] {
        assert!(told.contains(line), "{line} is missing in {told}");
    }
    let mended = verify(&base, json!({ "site": BENT }));
    assert_eq!(drift(&mended), told);
    let (path, world) = (format!("/srv/platforms/61/sites/{BENT}/wp-config.php"), &mended.rig.world);
    let settings = String::from_utf8(world.disk("host1").bytes(&path).unwrap()).unwrap();
    assert!(
        settings.contains("url=http://bent.example.test") && settings.ends_with("own=line\n"),
        "{settings}"
    );
    assert_eq!((status(world, "web1", BENT), status(world, "web1", "www.bent.example.test")), (200, 200));
    let (is, was) = (world.state(), &before);
    let salt = |state: &kedge_workflows::testing::WorldState| {
        state[&format!("disk host1 {path}")].contains("salt=made for")
    };
    assert!(salt(&is) && salt(was), "salts stay");
    let (after, _) = quietly(&base, &Ask::Task { workflow: "verify", params: json!({ "site": BENT }) });
    let again = verify(&after, json!({ "site": BENT, "check_only": true }));
    assert_eq!(drift(&again), "", "nothing is left to do");
    let record = whole(&mended.rig)[&format!("record site/{BENT}")].clone();
    assert!(record.contains("verified_at"), "{record}");
}

/// What the old settings name in an object cache has not been kept true while the new ones were there.
#[test]
fn settings_that_are_put_back_find_empty_caches() {
    let base = usual();
    let ask = Ask::Task { workflow: "verify", params: json!({ "site": BENT }) };
    let case = rollback(&play(&base, &ask, &Case::default(), &|_| None));
    let run = |case: &Case| {
        let end = play(&base, &ask, case, &|_| None);
        assert_eq!((end.view.state, end.incident), (TaskState::RolledBack, None));
        let points: Vec<_> = end.rig.points();
        let at = |op: &str, what: &str| {
            let met = |point: &&Point| {
                point.op == op && point.detail.ends_with(what) && point.moment == Moment::Before
            };
            points.iter().filter(met).map(|point| point.number).collect::<Vec<_>>()
        };
        (at("files.restore", "/wp-config.php"), at("app.clear_caches", BENT))
    };
    let (restored, cleared) = run(&case);
    assert!(cleared.len() == 1 && restored.last() < cleared.first(), "{restored:?} {cleared:?}");
    // A site whose old settings are what was wrong cannot be asked to.
    let (_, cleared) = run(&Case { down: Some((0, "app.clear_caches")), ..case });
    assert_eq!(cleared.len(), 10, "some minutes of attempts, and no more");
}

#[test]
fn what_a_person_wrote_into_a_vhost_is_told_and_left_unless_it_is_to_go() {
    let base = usual();
    let path = format!("/etc/web1/{EDITED}.conf");
    let theirs = base.world.web("web1").files()[&path].sha256.clone();
    let left = verify(&base, json!({ "site": EDITED }));
    let told = drift(&left);
    assert!(told.contains("vhost: - # mine") && told.contains("changed by hand"), "{told}");
    assert_eq!(left.rig.world.web("web1").files()[&path].sha256, theirs);
    let gone = verify(&base, json!({ "site": EDITED, "overwrite": true }));
    assert!(drift(&gone).contains("vhost: - # mine"));
    assert!(!String::from_utf8_lossy(&gone.rig.world.web("web1").files()[&path].bytes).contains("# mine"));
}

/// Both are asked for at once; the second one waits for the first.
#[test]
fn a_task_that_waited_goes_where_the_site_is_then() {
    let site = "shop.example.test";
    let ask = |workflow, params| Ask::Task { workflow, params };
    let restore =
        ask("restore", json!({ "site": site, "backup": "shop.example.test-20261122.100000_abcdef.tar.zst" }));
    let migrate = ask("migrate", json!({ "site": site, "target_platform": "wordpress-68" }));
    let rename = ask("migrate", json!({ "site": site, "new_site": "store.example.test" }));
    let disable = ask("disable", json!({ "site": site }));
    let backup = ask("backup", json!({ "site": site }));
    let base = usual();

    let (rig, [restored, disabled]) = both(&base, [&restore, &disable]);
    assert_eq!((restored.state, disabled.state), (TaskState::Succeeded, TaskState::Succeeded));
    let record = whole(&rig)["record site/shop.example.test"].clone();
    assert!(record.contains(restored.id.as_str()) && record.contains("disabled"), "{record}");

    let (rig, [migrated, backed_up]) = both(&base, [&migrate, &backup]);
    assert_eq!((migrated.state, backed_up.state), (TaskState::Succeeded, TaskState::Succeeded));
    let made = |(_, value): &(String, Value)| value["task"] == backed_up.id.as_str();
    let (_, record) = rig.records().into_iter().find(made).expect("a backup");
    assert_eq!(record["platform"], "wordpress-68", "{record}");

    let (_, [renamed, backed_up]) = both(&base, [&rename, &backup]);
    assert_eq!((renamed.state, backed_up.state), (TaskState::Succeeded, TaskState::RolledBack));
    let told = backed_up.error.expect("an error").detail;
    assert!(told.contains("another task has changed shop.example.test"), "{told}");
}

/// A copy of the database that is made while the site is open is as old as its first table: what was written, made or removed since
/// comes along.
#[test]
fn what_is_written_while_a_copy_is_made_ahead_comes_along() {
    let old = kedge_workflows::names::DatabaseName::parse("shopexampletest").unwrap();
    let base = usual();
    let there = |server: &str| -> BTreeSet<String> {
        let entries = base.world.database_server(server).state().entries.into_iter();
        entries.filter_map(|(key, _)| Some(key.strip_prefix("schema:")?.to_owned())).collect()
    };
    let copies = |world: &FakeWorld, server: &str| -> Vec<(String, String)> {
        let (tables, known) = (world.database_server(server).state().entries.into_iter(), there(server));
        tables
            .filter_map(|(key, content)| {
                let (schema, table) = key.strip_prefix("table:")?.split_once('.')?;
                (!known.contains(schema)).then(|| (table.to_owned(), content))
            })
            .collect()
    };
    let row = |tables: &mut FakeTables| {
        tables.get_mut("wp_options").unwrap().insert(&["late", "a late row"]);
    };
    let table = |tables: &mut FakeTables| {
        tables.insert("wp_late".to_owned(), FakeTable::new(&["a late column"]));
    };
    let gone = |tables: &mut FakeTables| {
        tables.remove("wp_late_not");
    };
    type Change<'a> = &'a dyn Fn(&mut FakeTables);
    let changes: [(Change<'_>, &str, bool); 3] =
        [(&row, "a late row", true), (&table, "a late column", true), (&gone, "an early column", false)];
    for (change, words, there) in changes {
        for (params, server) in [
            (json!({ "site": "shop.example.test", "target_platform": "wordpress-68" }), "db1"),
            (json!({ "site": "shop.example.test", "target_database_server": "db2" }), "db2"),
        ] {
            let base = usual();
            let early = |tables: &mut FakeTables| {
                tables.insert("wp_late_not".to_owned(), FakeTable::new(&["an early column"]));
            };
            base.world.database_server("db1").with_tables(&old, early).unwrap();
            let changed = Cell::new(0);
            // Behind the fence nobody writes: the account is locked by then.
            let watch = |world: &FakeWorld| {
                let copied = copies(world, server).iter().any(|(table, _)| table == "wp_late_not");
                if copied && changed.get() == 0 && status(world, "web1", "shop.example.test") == 200 {
                    world.database_server("db1").with_tables(&old, change).unwrap();
                    changed.set(1);
                }
                None
            };
            let end = migrate(&base, params.clone(), &watch);
            let error = &end.view.error;
            assert_eq!(
                (end.view.state, changed.get()),
                (TaskState::Succeeded, 1),
                "{params} {words}: {error:?}"
            );
            let copied = copies(&end.rig.world, server);
            assert!(copied.len() > 2, "{copied:?}");
            let found = copied.iter().any(|(_, content)| content.contains(words));
            assert_eq!(found, there, "{params} {words}: {copied:#?}");
        }
    }
}

/// A clone is of one moment, though the server itself copies what it can: what a site writes to two tables at once is in the copy of
/// both or of neither, ahead of whatever call it does so.
#[test]
fn a_clone_is_of_one_moment() {
    const TABLES: [(&str, &str); 2] = [("wp_a_text", "of shop.example.test"), ("wp_b_plain", "plain")];
    let old = || kedge_workflows::names::DatabaseName::parse("shopexampletest").unwrap();
    let write = move |server: &FakeDatabase| {
        let written = server.with_tables(&old(), |tables| {
            for (name, words) in TABLES {
                tables.get_mut(name).unwrap().insert(&[words]);
            }
        });
        written.unwrap();
    };
    let base = usual();
    base.world.database_server("db1").with_tables(&old(), |tables| {
        for (name, _) in TABLES {
            tables.insert(name.to_owned(), FakeTable::new(&["words"]));
        }
    });
    write(base.world.database_server("db1"));
    let tables = |world: &FakeWorld| world.database_server("db1").state().entries;
    let known: BTreeSet<String> = tables(&base.world).into_iter().map(|(key, _)| key).collect();
    let ops = ["table_times", "fingerprint", "plain_tables", "dump", "import", "import_rest", "copy_rows"];
    let mut written = 0;
    for (op, nth) in ops.iter().flat_map(|op| (0..3).map(move |nth| (format!("database.{op}"), nth))) {
        let ready = Cell::new(false);
        let done = Arc::new(AtomicBool::new(false));
        let watch = |world: &FakeWorld| {
            if !ready.replace(true) {
                (0..nth).for_each(|_| world.faults().meanwhile(&op, || ()));
                let (server, done) = (world.database_server("db1").clone(), done.clone());
                world.faults().meanwhile(&op, move || {
                    write(&server);
                    done.store(true, Ordering::Relaxed);
                });
            }
            None
        };
        let params = json!({ "site": "shop.example.test", "new_site": "copy.example.test" });
        let end = play(&base, &Ask::Task { workflow: "clone", params }, &Case::default(), &watch);
        assert_eq!(end.view.state, TaskState::Succeeded, "{op}: {:?}", end.view.error);
        let rows = |table: &str| {
            let all = tables(&end.rig.world);
            let new = all.into_iter().filter(|(key, _)| key.ends_with(table) && !known.contains(key));
            new.map(|(_, content)| content.matches("Some(").count()).collect::<Vec<_>>()
        };
        let (text, plain) = (rows(".wp_a_text"), rows(".wp_b_plain"));
        assert!(text == plain && matches!(text[..], [1 | 2]), "ahead of {op} {nth}: {text:?} {plain:?}");
        written += usize::from(done.load(Ordering::Relaxed));
    }
    assert!(written >= ops.len(), "only {written} writes came in between");
}
