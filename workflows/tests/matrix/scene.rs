//! What the matrix is played on. Every workflow takes part by its own example, in a world that has what examples speak of; the table
//! below only adds other ways of using one. What can be taken back is, as a scene of its own.

use kedge_workflows::commands::{At, CommandRule};
use kedge_workflows::names::DatabaseName;
use kedge_workflows::ports::OwnCommand;
use kedge_workflows::testing::{FakeEvent, FakeTable, FakeWebServer, FakeWorld, WorldState};
use kedge_workflows::workflows;
use serde_json::{Value, json};

use crate::judge::whole;
use crate::rig::{Ask, Base, Case, Rig, quietly};

/// A task in a world.
pub(crate) struct Scene {
    pub(crate) name: String,
    pub(crate) base: Base,
    pub(crate) ask: Ask,
    /// One case in so many is played when not all are.
    pub(crate) share: u64,
    /// What an undo has to bring back: everything as it was before the task that it takes back.
    pub(crate) origin: Option<WorldState>,
}

const EXAMPLE: &str = "as in its example";
const SHOP: &str = "shop.example.test";
pub(crate) const BENT: &str = "bent.example.test";
pub(crate) const EDITED: &str = "edited.example.test";
pub(crate) const PAIR: &str = "pair.example.test";
/// On a cluster to which a host was added later.
pub(crate) const JOINED: &str = "joined.example.test";
const CROOKED: &str = "crooked.example.test";
const BACKUP: &str = "shop.example.test-20261122.100000_abcdef.tar.zst";

/// Other ways of using a workflow: its name, what is special, the parameters.
fn variations() -> Vec<(&'static str, &'static str, Value)> {
    let migrate = |what: &'static str, more: Value| {
        let mut params = json!({ "site": SHOP });
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ("migrate", what, params)
    };
    vec![
        (
            "install",
            "on a platform that no site was on, with aliases",
            json!({ "site": "new.example.test", "platform": "wordpress-68", "database_server": "db2",
                    "aliases": ["www.new.example.test"], "client": "somebody" }),
        ),
        (
            "install",
            "empty",
            json!({ "site": "new.example.test", "platform": "wordpress-61", "database_server": "db1", "method": "empty" }),
        ),
        (
            "install",
            "with a certificate, all names leading to one",
            json!({ "site": "new.example.test", "platform": "wordpress-61", "database_server": "db1", "www": true,
                    "redirect_to": "www.new.example.test", "tls": "self_signed", "https_only": true }),
        ),
        (
            "backup",
            "for Aegir, without uploads",
            json!({ "site": SHOP, "compression": "gzip", "exclude": ["wp-content/uploads"] }),
        ),
        (
            "restore",
            "of the files, on another platform",
            json!({ "site": SHOP, "backup": BACKUP, "parts": "files", "target_platform": "wordpress-68" }),
        ),
        ("restore", "of a disabled site", json!({ "site": "closed.example.test", "backup": BACKUP })),
        ("restore", "of the database", json!({ "site": SHOP, "backup": BACKUP, "parts": "database" })),
        (
            "restore",
            "on another host",
            json!({ "site": SHOP, "backup": BACKUP, "target_platform": "wordpress-far" }),
        ),
        ("delete", "by force", json!({ "site": "closed.example.test", "force": true })),
        ("delete", "of an open site, as the policy lets it", json!({ "site": SHOP })),
        ("purge", "of one site", json!({ "site": "old.example.test" })),
        migrate("to another name", json!({ "new_site": "store.example.test" })),
        migrate(
            "to another name, with a redirect",
            json!({ "new_site": "store.example.test", "redirect_old": true }),
        ),
        migrate(
            "to an alias of its own, with a redirect",
            json!({ "new_site": "alias.example.test", "redirect_old": true }),
        ),
        migrate("to another database server", json!({ "target_database_server": "db2" })),
        migrate("to another host", json!({ "target_platform": "wordpress-far" })),
        (
            "migrate",
            "of a disabled site",
            json!({ "site": "closed.example.test", "target_platform": "wordpress-68" }),
        ),
        migrate("to another web server on its host", json!({ "target_platform": "wordpress-beside" })),
        migrate(
            "to everything else at once",
            json!({ "target_platform": "wordpress-far", "new_site": "store.example.test",
                    "target_database_server": "db2", "redirect_old": true }),
        ),
    ]
}

/// Other ways of using `clone`, and `configure` on what comes of it.
fn clones() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        (
            "clone",
            "beside the original",
            json!({ "site": SHOP, "new_site": "staging.example.test", "aliases": ["www.staging.example.test"] }),
        ),
        (
            "clone",
            "that reaches nobody",
            json!({ "site": SHOP, "new_site": "staging.example.test", "quiet": true }),
        ),
        (
            "clone",
            "over a site that is there",
            json!({ "site": "lonely.example.test", "new_site": SHOP, "over_existing": true, "quiet": true }),
        ),
        (
            "clone",
            "over a site that is not there yet",
            json!({ "site": SHOP, "new_site": "staging.example.test", "over_existing": true, "sanitize": true }),
        ),
        (
            "clone",
            "of a disabled site, to another host",
            json!({ "site": "closed.example.test", "new_site": "staging.example.test",
                    "target_platform": "wordpress-far", "target_database_server": "db2" }),
        ),
        ("configure", "so that it reaches nobody", json!({ "site": SHOP, "quiet": true })),
    ]
}

/// Other ways of using `verify`.
fn looks() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("verify", "of a bent site", json!({ "site": BENT })),
        ("verify", "of a site whose vhost was edited, over it", json!({ "site": EDITED, "overwrite": true })),
        ("verify", "of a site whose vhost was edited", json!({ "site": EDITED })),
        ("verify", "of a disabled site", json!({ "site": "closed.example.test" })),
        ("verify", "only looking", json!({ "site": BENT, "check_only": true })),
        ("verify", "of a platform", json!({ "platform": "wordpress-68" })),
        ("verify", "of a server", json!({ "server": "db1" })),
    ]
}

/// Sites on several web hosts.
fn clusters() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        (
            "install",
            "on a cluster",
            json!({ "site": "new.example.test", "platform": "wordpress-pair-68", "database_server": "db1" }),
        ),
        ("migrate", "to a cluster", json!({ "site": SHOP, "target_platform": "wordpress-pair-68" })),
        ("migrate", "from a cluster", json!({ "site": PAIR, "target_platform": "wordpress-68" })),
        (
            "migrate",
            "to another platform of a cluster",
            json!({ "site": PAIR, "target_platform": "wordpress-pair-68" }),
        ),
        (
            "migrate",
            "to another name on a cluster, with a redirect",
            json!({ "site": PAIR, "new_site": "twin.example.test", "redirect_old": true }),
        ),
        (
            "migrate",
            "to another database server, on a cluster",
            json!({ "site": PAIR, "target_database_server": "db2" }),
        ),
        (
            "restore",
            "on a cluster",
            json!({ "site": SHOP, "backup": BACKUP, "target_platform": "wordpress-pair" }),
        ),
        ("clone", "on a cluster", json!({ "site": PAIR, "new_site": "twin.example.test" })),
        ("disable", "on a cluster", json!({ "site": PAIR })),
        ("verify", "on a cluster", json!({ "site": PAIR })),
        ("verify", "of a bent site on a cluster", json!({ "site": CROOKED })),
        ("backup", "of a site on a cluster", json!({ "site": PAIR })),
        (
            "configure",
            "on a cluster",
            json!({ "site": PAIR, "aliases": ["alias.pair.example.test"], "tls": "self_signed" }),
        ),
    ]
}

/// Other ways of using `import`.
fn imports() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        (
            "import",
            "only looking",
            json!({ "platform": "wordpress-68", "path": "/var/www/found.example.test", "database_server": "db1",
                    "aliases": ["www.found.example.test"], "check_only": true }),
        ),
        (
            "import",
            "with a certificate",
            json!({ "platform": "wordpress-68", "path": "/var/www/found.example.test", "database_server": "db1",
                    "aliases": ["www.found.example.test"], "redirect_to": "www.found.example.test", "tls": "self_signed" }),
        ),
        (
            "import",
            "to a platform that no site was on",
            json!({ "platform": "wordpress-68", "path": "/var/www/found.example.test/", "database_server": "db1",
                    "aliases": ["www.found.example.test"] }),
        ),
    ]
}

/// A command of the operator's own, around these workflows.
pub(crate) fn command(name: &str, at: At, workflows: &[&str]) -> CommandRule {
    let workflows = workflows.iter().map(ToString::to_string).collect();
    let run = vec![format!("/usr/local/bin/{name}")];
    let command =
        OwnCommand { name: name.to_owned(), host: "host1".to_owned(), run, user: None, limit_ms: 60_000 };
    CommandRule { command, workflows, sites: Vec::new(), at }
}

/// A world with two sites on one platform: the shop, and a neighbour that nothing may happen to.
pub(crate) fn usual() -> Base {
    let servers =
        [("web1", "host1"), ("web2", "host2"), ("web3", "host1"), ("web4", "host3"), ("web5", "host5")];
    let mut world = FakeWorld::new(&["db1", "db2"], &servers);
    world.add_platform("wordpress-61", "web1", "/srv/platforms/61", "6.1", 1);
    world.add_platform("wordpress-68", "web1", "/srv/platforms/68", "6.8", 2);
    world.add_platform("wordpress-far", "web2", "/srv/platforms/far", "6.8", 2);
    world.add_platform("wordpress-beside", "web3", "/srv/platforms/beside", "6.8", 2);
    world.add_platform("wordpress-one", "web1", "/srv/platforms/one", "6.1", 1);
    world.let_open_sites_be_deleted();
    // A cluster: each site of these platforms is on both hosts.
    world.add_host("web4", "host4");
    world.add_platform("wordpress-pair", "web4", "/srv/platforms/pair", "6.1", 1);
    world.add_platform("wordpress-pair-68", "web4", "/srv/platforms/pair68", "6.8", 2);
    world.add_platform("wordpress-joined", "web5", "/srv/platforms/joined", "6.1", 1);
    let empty = Base { world, journal: Default::default(), now: 1_795_363_200_000 };
    let install = |base: &Base, site: &str, aliases: &[&str]| {
        let params =
            json!({ "site": site, "platform": "wordpress-61", "database_server": "db1", "aliases": aliases });
        quietly(base, &Ask::Task { workflow: "install", params }).0
    };
    let base = install(&empty, "neighbour.example.test", &[]);
    let base = install(&base, SHOP, &["www.shop.example.test", "alias.example.test"]);
    furnish(&base.world);
    let task =
        |base: &Base, workflow: &'static str, params: Value| quietly(base, &Ask::Task { workflow, params }).0;
    // A disabled site, one in the trash, and trash whose hold is over.
    let mut base = base;
    for (site, hold) in [
        ("closed.example.test", None),
        ("deleted.example.test", Some("30d")),
        ("old.example.test", Some("1m")),
    ] {
        base = install(&base, site, &[]);
        base = task(&base, "disable", json!({ "site": site }));
        if let Some(hold) = hold {
            base = task(&base, "delete", json!({ "site": site, "hold": hold }));
        }
    }
    base.now += 3_600_000;
    // A backup under the name that the example of a restore has; the shop has changed since.
    base = task(&base, "backup", json!({ "site": SHOP }));
    let backups = base.world.backup_dir();
    let made = backups.names().into_iter().rfind(|name| name.starts_with(SHOP)).expect("the shop's backup");
    backups.copy(&made, BACKUP);
    change(&base.world);
    find(&base.world);
    let lonely =
        json!({ "site": "lonely.example.test", "platform": "wordpress-one", "database_server": "db1" });
    base = task(&base, "install", lonely);
    let pair = json!({ "site": PAIR, "platform": "wordpress-pair", "database_server": "db1",
                       "aliases": ["www.pair.example.test"] });
    base = task(&base, "install", pair);
    let crooked = json!({ "site": CROOKED, "platform": "wordpress-pair", "database_server": "db1" });
    base = task(&base, "install", crooked);
    let joined = json!({ "site": JOINED, "platform": "wordpress-joined", "database_server": "db1" });
    base = task(&base, "install", joined);
    base.world.add_host("web5", "host6");
    for (name, root, version, schema) in
        [("wordpress-joined", "joined", "6.1", 1), ("wordpress-joined-68", "joined68", "6.8", 2)]
    {
        base.world.add_platform(name, "web5", &format!("/srv/platforms/{root}"), version, schema);
    }
    base = install(&base, BENT, &["www.bent.example.test"]);
    base = install(&base, EDITED, &[]);
    bend(&base.world);
    base
}

/// A site that somebody made by hand, with code, database and vhost of its own.
fn find(world: &FakeWorld) {
    let (disk, name, dir) = (world.disk("host1"), "found.example.test", "/var/www/found.example.test");
    disk.write(&format!("{dir}/version"), "6.0\n1\n");
    disk.write(
        &format!("{dir}/wp-config.php"),
        "server=db1\nschema=found\nuser=found\npassword=foreign\nown=line\n",
    );
    disk.write(&format!("{dir}/wp-content/uploads/a picture.jpg"), vec![0, 159, 146, 150]);
    disk.write(&format!("{dir}/wp-includes/core.php"), "<?php\n");
    let mut options = FakeTable::new(&["option_name", "option_value"]);
    let (url, path) = (format!("http://{name}"), format!("{dir}/wp-content/uploads"));
    for (name, value) in [
        ("siteurl", url.as_str()),
        ("home", &url),
        ("blogname", "Found"),
        ("upload_path", &path),
        ("db_version", "1"),
    ] {
        options.insert(&[name, value]);
    }
    let mut posts = FakeTable::new(&["post_title", "post_content", "guid"]);
    posts.insert(&["Made by hand", &format!("<a href=\"{url}/about\">{path}</a>"), &format!("{url}/?p=1")]);
    let tables = [("wp_options".to_owned(), options), ("wp_posts".to_owned(), posts)].into();
    world.database_server("db1").add_foreign(&DatabaseName::parse("found").unwrap(), tables);
    let web = world.web("web1");
    let vhost = FakeWebServer::foreign_vhost(&[name, "www.found.example.test"], "made by hand");
    web.write("/etc/web1/by-hand.conf", Some(&vhost), Some("../sites-available/by-hand"));
    web.set_stopped(false);
}

/// One site gets wrong settings, modes and owners, and has no vhost any more; another one's vhost gets a line of somebody's own.
fn bend(world: &FakeWorld) {
    let (disk, settings) = (world.disk("host1"), format!("/srv/platforms/61/sites/{BENT}/wp-config.php"));
    let text = String::from_utf8(disk.bytes(&settings).expect("settings")).unwrap();
    disk.write(
        &settings,
        text.replace(&format!("url=http://{BENT}"), "url=http://wrong.example.test") + "own=line\n",
    );
    disk.write(&format!("/srv/platforms/61/sites/{BENT}/wp-content/uploads/a.txt"), b"a".to_vec());
    // On a cluster: settings on the first host, an owner on the other one.
    let (disk, settings) =
        (world.disk("host3"), format!("/srv/platforms/pair/sites/{CROOKED}/wp-config.php"));
    let text = String::from_utf8(disk.bytes(&settings).expect("settings")).unwrap();
    disk.write(&settings, text.replace(&format!("url=http://{CROOKED}"), "url=http://wrong.example.test"));
    let upload = format!("/srv/platforms/pair/sites/{CROOKED}/wp-content/uploads/a.txt");
    world.disk("host4").write(&upload, b"a".to_vec());
    let web = world.web("web1");
    web.write(&format!("/etc/web1/{BENT}.conf"), None, None);
    let path = format!("/etc/web1/{EDITED}.conf");
    let vhost = String::from_utf8(web.files()[&path].bytes.clone()).unwrap();
    web.write(&path, Some(format!("# mine\n{vhost}").as_bytes()), None);
    web.set_stopped(false);
}

/// What visitors have done since the backup.
fn change(world: &FakeWorld) {
    world
        .disk("host1")
        .write(&format!("/srv/platforms/61/sites/{SHOP}/wp-content/uploads/new.txt"), b"new".to_vec());
    let schema = DatabaseName::parse("shopexampletest").unwrap();
    let changed = world.database_server("db1").with_tables(&schema, |tables| {
        tables.get_mut("wp_orders").expect("orders").insert(&["Late", "http://elsewhere.example.test/"]);
    });
    changed.expect("the shop's schema");
}

/// The shop gets content.
fn furnish(world: &FakeWorld) {
    let dir = format!("/srv/platforms/61/sites/{SHOP}/wp-content/uploads");
    let disk = world.disk("host1");
    disk.write(&format!("{dir}/2026/a picture.jpg"), vec![0, 159, 146, 150]);
    disk.write(&format!("{dir}/notes.txt"), format!("http://{SHOP}/ stays as it is in files\n"));
    disk.link(&format!("{dir}/latest"), "2026/a picture.jpg");
    let schema = DatabaseName::parse("shopexampletest").unwrap();
    let filled = world.database_server("db1").with_tables(&schema, |tables| {
        let mut orders = FakeTable::new(&["customer", "link"]);
        orders.insert(&["O'Neil", &format!("http://{SHOP}/order/1")]);
        orders.insert(&["Müller", &format!("http://www.{SHOP}/order/2 at {dir}")]);
        orders.next = 17;
        tables.insert("wp_orders".to_owned(), orders);
    });
    filled.expect("the shop's schema");
    let scheduled = world.database_server("db1").with_events(&schema, |events| {
        events.insert("daily".to_owned(), FakeEvent::On);
        events.insert("never".to_owned(), FakeEvent::Off);
    });
    scheduled.expect("the shop's schema");
}

/// All scenes.
pub(crate) fn scenes() -> Vec<Scene> {
    let base = usual();
    let origin = whole(&Rig::new(&base, &Case::default()));
    let examples = workflows().into_iter().map(|workflow| (workflow.name(), EXAMPLE, workflow.example()));
    let mut scenes = Vec::new();
    let ready = Ask::Task { workflow: "verify", params: json!({ "platform": "wordpress-joined" }) };
    scenes.push(Scene {
        name: "verify of a site of which a host of its cluster has nothing".to_owned(),
        base: quietly(&base, &ready).0,
        ask: Ask::Task { workflow: "verify", params: json!({ "site": JOINED }) },
        share: 20,
        origin: None,
    });
    let mut around = base.clone();
    around
        .world
        .set_commands(vec![command("announce", At::Before, &["*"]), command("warm-up", At::After, &["*"])]);
    for (workflow, params) in [
        ("migrate", json!({ "site": SHOP, "target_platform": "wordpress-68" })),
        ("backup", json!({ "site": SHOP })),
    ] {
        scenes.push(Scene {
            name: format!("{workflow} with commands of the operator's own"),
            base: around.clone(),
            ask: Ask::Task { workflow, params },
            share: 20,
            origin: None,
        });
    }
    for (workflow, what, params) in
        examples.chain(variations()).chain(clones()).chain(looks()).chain(imports()).chain(clusters())
    {
        let (name, share) = (format!("{workflow} {what}"), if what == EXAMPLE { 5 } else { 20 });
        let ask = Ask::Task { workflow, params };
        let (after, view) = quietly(&base, &ask);
        if view.undo_until.is_some() {
            let (name, ask) = (format!("undo of {name}"), Ask::Undo(view.id));
            scenes.push(Scene { name, base: after, ask, share, origin: Some(origin.clone()) });
        }
        scenes.push(Scene { name, base: base.clone(), ask, share, origin: None });
    }
    scenes
}
