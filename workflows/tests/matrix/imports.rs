//! Imports of a site that is served by HTTPS: what visitors with HTTPS meet is taken over as well, or nothing is.

use std::ops::RangeInclusive;

use kedge_engine::step::StepError;
use kedge_engine::task::TaskState;
use kedge_engine::testing::meddle::{Call, Trouble};
use kedge_workflows::names::SiteName;
use kedge_workflows::testing::FakeWebServer;
use serde_json::{Value, json};

use crate::rig::{Ask, Base, Case, End, StepTrouble, play, quietly};
use crate::scene::usual;
use crate::tales::of_https;

const FOUND: &str = "found.example.test";
const WWW: &str = "www.found.example.test";
const FILE: &str = "/etc/web1/by-hand.conf";
const SECOND: &str = "/etc/web1/by-hand-le-ssl.conf";

fn import(base: &Base, more: Value, case: &Case) -> End {
    let mut params = json!({ "platform": "wordpress-68", "path": "/var/www/found.example.test",
                             "database_server": "db1", "aliases": [WWW] });
    params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    play(base, &Ask::Task { workflow: "import", params }, case, &|_| None)
}

/// The found site, with a file of somebody else's that serves these names.
fn served(files: &[(&str, &[&str])]) -> Base {
    let base = usual();
    let web = base.world.web("web1");
    for (file, names) in files {
        web.write(file, Some(&FakeWebServer::foreign_vhost(names, "made by hand")), None);
    }
    web.set_stopped(false);
    base
}

/// Why nothing was touched.
fn told(base: &Base, end: End) -> String {
    assert_eq!(end.view.state, TaskState::RolledBack);
    let files = |base: &Base| base.world.web("web1").files();
    assert_eq!(files(&end.rig.base()), files(base));
    assert_eq!(end.rig.world.state(), base.world.state());
    end.view.error.expect("an error").detail
}

#[test]
fn a_file_with_both_ports_makes_way_and_comes_back() {
    let both = [FOUND, WWW, "found.example.test:443", "www.found.example.test:443"];
    let base = served(&[(FILE, &both)]);
    let certificate = json!({ "tls": "self_signed", "https_only": true });
    let end = import(&base, certificate.clone(), &Case::default());
    assert_eq!(end.view.state, TaskState::Succeeded, "{:?}", end.view.error);
    let web = end.rig.world.web("web1");
    assert!(!web.files().contains_key(FILE));
    let vhost = web.running(&SiteName::parse(FOUND).unwrap()).expect("it is served");
    assert!(vhost.reach.https_only());
    let (given_back, _) = quietly(&end.rig.base(), &Ask::Undo(end.view.id));
    let before = base.world.web("web1").files();
    assert_eq!(given_back.world.web("web1").files()[FILE], before[FILE]);

    let attempts: RangeInclusive<u32> = 1..=u32::MAX;
    let fails = StepTrouble {
        step: "commit".to_owned(),
        call: Call::Run,
        attempts,
        trouble: Trouble::Before(StepError::fatal("no decision")),
    };
    let end = import(&base, certificate.clone(), &Case { steps: vec![fails], ..Case::default() });
    assert_eq!(end.view.state, TaskState::RolledBack);
    assert_eq!(end.rig.world.web("web1").files(), before);

    let plain = told(&base, import(&base, json!({}), &Case::default()));
    assert!(
        plain.contains("serves found.example.test by HTTPS as well: say where its certificate"),
        "{plain}"
    );
    let base = served(&[(FILE, &[FOUND, WWW, "other.example.test:443"])]);
    let other = told(&base, import(&base, certificate, &Case::default()));
    assert!(other.contains("serves more than found.example.test: other.example.test:443"), "{other}");
}

/// Nobody knows what a site needs before it is looked at.
#[test]
fn a_look_at_a_site_of_https_tells_what_is_to_be_said() {
    let both = [FOUND, WWW, "found.example.test:443", "www.found.example.test:443"];
    let base = served(&[(FILE, &both)]);
    of_https(&base.world);
    let look = |more: Value| {
        let mut params = more;
        params["check_only"] = json!(true);
        let end = import(&base, params, &Case::default());
        assert_eq!(end.view.state, TaskState::Succeeded, "{:?}", end.view.error);
        assert_eq!(end.rig.world.state(), base.world.state());
        assert_eq!(end.view.result["to_version"], "6.8", "it is looked at everything: {}", end.view.result);
        end.view.result["warnings"].clone()
    };
    let warned = |warnings: &Value, words: &str| {
        warnings.as_array().is_some_and(|all| all.len() == 1 && all[0].as_str().unwrap().contains(words))
    };
    let warnings = look(json!({}));
    assert!(warned(&warnings, "nothing says where its certificate comes from"), "{warnings}");
    let warnings = look(json!({ "tls": "self_signed" }));
    assert!(warned(&warnings, "give https_only"), "{warnings}");
    assert_eq!(look(json!({ "tls": "self_signed", "https_only": true })), Value::Null);
}

#[test]
fn https_in_a_file_of_its_own_is_not_left_in_front_of_the_site() {
    for name in [FOUND, WWW] {
        let base = served(&[(SECOND, &[&format!("{name}:443")])]);
        let certificate = json!({ "tls": "self_signed" });
        let why = told(&base, import(&base, certificate.clone(), &Case::default()));
        let words = format!("{name} is served by HTTPS on web1 already, by {SECOND}");
        assert!(why.contains(&words) && why.contains(&format!("or move it into {FILE}")), "{why}");
        // Also where nobody has said anything of HTTPS: whoever asks for none leaves it to whom it is.
        let why = told(&base, import(&base, json!({}), &Case::default()));
        assert!(why.contains(&words) && why.contains("or say tls=none"), "{why}");
        let looked = import(&base, json!({ "check_only": true }), &Case::default());
        assert!(
            looked.view.result["warnings"][0].as_str().unwrap().contains(&words),
            "{}",
            looked.view.result
        );
        let plain = import(&base, json!({ "tls": "none" }), &Case::default());
        assert_eq!(plain.view.state, TaskState::Succeeded, "{:?}", plain.view.error);
        base.world.web("web1").write(SECOND, None, None);
        let end = import(&base, certificate, &Case::default());
        assert_eq!(end.view.state, TaskState::Succeeded, "{:?}", end.view.error);
    }
}
