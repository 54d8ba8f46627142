//! The driver on the application's contract, with what drush said in real runs (`drush/*.txt`) and a model of what Drupal's own code
//! answers to our scripts: a database in memory has its `system` table and variables. Runs everywhere.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::FutureExt as _;
use kedge_workflows::names::SiteName;
use kedge_workflows::ports::{App, AppSite, Database, Files, PortError, PortResult, Scope, Secrets};
use kedge_workflows::testing::{
    AppBench, FakeDatabase, FakeDisk, FakeFiles, FakeSecrets, FakeTable, FakeTables, Faults, app_contract,
};
use serde_json::{Value, json};

use crate::app::Drupal;
use crate::host::{Command, Finished, Host, Output, Stdin};

/// A generation: what its drush said.
struct Recordings {
    version: &'static str,
    update: &'static str,
    update_fails: &'static str,
    caches: &'static str,
    /// Drupal 7 is not asked: its own function tells.
    login: &'static str,
}

const SEVEN: Recordings = Recordings {
    version: include_str!("drush/drupal-7-version.txt"),
    update: include_str!("drush/drupal-7-update.txt"),
    update_fails: include_str!("drush/drupal-7-update-fails.txt"),
    caches: include_str!("drush/drupal-7-caches.txt"),
    login: "",
};
const TEN: Recordings = Recordings {
    version: include_str!("drush/drupal-10-version.txt"),
    update: include_str!("drush/drupal-10-update.txt"),
    update_fails: include_str!("drush/drupal-10-update-fails.txt"),
    caches: include_str!("drush/drupal-10-caches.txt"),
    login: include_str!("drush/drupal-10-login.txt"),
};

/// A machine with two platforms, whose PHP is a model and whose drush is a recording.
struct Machine {
    seven: bool,
    drush: Recordings,
    /// Versions and schemas of the platforms, by their roots.
    platforms: [(&'static str, &'static str, u64); 2],
    disk: FakeDisk,
    database: FakeDatabase,
    broken: AtomicBool,
    commands: Mutex<Vec<String>>,
}

fn value<'a>(settings: &'a str, name: &str) -> &'a str {
    let line = settings.lines().find_map(|line| line.trim().strip_prefix(&format!("'{name}' => '")));
    line.and_then(|line| line.strip_suffix("',")).unwrap_or("")
}

fn system_of(tables: &FakeTables) -> Option<u64> {
    let row = tables.get("system")?.rows.values().next()?;
    row[1].as_deref()?.parse().ok()
}

impl Machine {
    /// What a script of ours answers. Which one it is, is told by a line that it alone has.
    fn php(&self, script: &str, input: &Value) -> Value {
        let root = input["platform_root"].as_str().unwrap_or_default();
        let Some((_, version, wanted)) = self.platforms.iter().find(|(at, _, _)| *at == root) else {
            return json!({ "error": format!("{root} is not a Drupal platform") });
        };
        if script.contains("'packages' => kedge_platform_packages(") {
            return json!({ "packages": packages(version, Some(*wanted), None) });
        }
        if !script.contains("$kedge_site_dir") {
            return json!({ "version": version, "schema_version": wanted, "seven": self.seven });
        }
        let dir = input["dir"].as_str().unwrap_or_default();
        let Some(settings) = self.disk.bytes(&format!("{dir}/settings.php")) else {
            return json!({ "error": "the site has no settings file that PHP can read" });
        };
        let settings = String::from_utf8(settings).expect("text");
        let access =
            [value(&settings, "username"), value(&settings, "password"), value(&settings, "database")];
        let answered = self.database.as_site(access[0], access[1], access[2], |tables| {
            if script.contains("install_drupal(") {
                installed(tables, input, *wanted)
            } else if script.contains("'sanitized_users'") {
                sanitized(tables)
            } else if script.contains("kedge_login_") {
                login(tables, input, self.seven)
            } else {
                self.facts(tables, version, *wanted, script)
            }
        });
        answered.unwrap_or_else(|error| json!({ "error": error.to_string() }))
    }

    fn facts(&self, tables: &FakeTables, version: &str, wanted: u64, script: &str) -> Value {
        let schema = system_of(tables);
        if script.contains("'packages' => kedge_site_packages(") {
            return json!({ "packages": packages(version, schema, Some(true)) });
        }
        if !script.contains("'pending'") {
            return json!({ "done": true });
        }
        let pending = schema.filter(|schema| *schema < wanted).map(|_| format!("system_update_{wanted}"));
        json!({
            "installed": schema.is_some(), "version": version, "schema_version": schema, "wanted": wanted,
            "pending": pending.into_iter().collect::<Vec<_>>(), "maintenance": false, "seven": self.seven,
        })
    }

    /// What drush says, and does to the database.
    fn drush(&self, command: &Command) -> (&'static str, i32) {
        let has = |word: &str| command.argv.iter().any(|arg| arg == word);
        if has("--version") {
            return (self.drush.version, 0);
        }
        if has(if self.seven { "cache-clear" } else { "cache:rebuild" }) {
            return (self.drush.caches, 0);
        }
        if has("user:login") {
            assert!(!self.seven && has("--name=chief"), "{:?}", command.argv);
            return (self.drush.login, 0);
        }
        assert!(has("updatedb"), "drush does not know {:?}", command.argv);
        let root = command.argv.iter().find_map(|arg| arg.strip_prefix("--root=")).expect("a root");
        let site = command.env.iter().find(|(name, _)| name == "KEDGE_SITE").expect("a site directory");
        let settings = self.disk.bytes(&format!("{root}/sites/{}/settings.php", site.1)).expect("settings");
        let settings = String::from_utf8(settings).expect("text");
        if self.broken.load(Ordering::SeqCst) {
            return (self.drush.update_fails, 1);
        }
        let wanted = self.platforms.iter().find(|(at, _, _)| *at == root).map_or(0, |(_, _, wanted)| *wanted);
        let updated = self.database.as_site(
            value(&settings, "username"),
            value(&settings, "password"),
            value(&settings, "database"),
            |tables| {
                let rows = &mut tables.get_mut("system").expect("a system table").rows;
                rows.values_mut().next().expect("a row")[1] = Some(wanted.to_string());
            },
        );
        updated.expect("the site's own access works");
        (self.drush.update, 0)
    }
}

/// Who is meant, or the row of a link, written or taken away.
fn login(tables: &mut FakeTables, input: &Value, seven: bool) -> Value {
    if input["what"] == "find" {
        let given = input["user"].as_str().filter(|given| !given.is_empty());
        let is = |cell: &Option<String>| given.is_none() || cell.as_deref() == given;
        let users = tables.get("users").map(|users| users.rows.iter()).into_iter().flatten();
        let Some((uid, row)) = users.into_iter().find(|(_, row)| is(&row[0]) || is(&row[2])) else {
            return json!({ "error": "the site has no such user" });
        };
        let path = seven.then_some("/?q=user/reset/1/1700000000/a-hash/login");
        return json!({ "uid": uid, "user": row[0], "path": path, "now": 1_700_000_000_u64, "limit": 86_400 });
    }
    let rows = &mut tables.get_mut("key_value_expire").expect("installed").rows;
    rows.retain(|_, row| row[0].as_deref() != input["id"].as_str());
    if let Some(row) = input["row"].as_str() {
        let id = input["id"].as_str().map(str::to_owned);
        // Behind all others: the table's counter stays as it is.
        rows.insert(u64::MAX, vec![id, Some(row.to_owned())]);
    }
    json!({ "done": true })
}

fn sanitized(tables: &mut FakeTables) -> Value {
    let users = &mut tables.get_mut("users").expect("a table of users").rows;
    for (id, row) in users.iter_mut() {
        row[1] = Some("!".to_owned());
        row[2] = Some(format!("user{id}@example.invalid"));
    }
    json!({ "sanitized_users": users.len() })
}

/// A Drupal in small, out of the port's order: of a platform, or of a site that uses all of it.
fn packages(version: &str, schema: Option<u64>, enabled: Option<bool>) -> Vec<Value> {
    let package = |kind: &str, name: &str, schema: Option<u64>| json!({ "kind": kind, "name": name, "version": version, "schema_version": schema, "enabled": enabled.unwrap_or(false) });
    let mut all = vec![
        package("theme", "bartik", None),
        package("module", "system", schema),
        package("core", "drupal", schema),
        package("profile", "standard", None),
    ];
    if enabled.is_none() {
        // Of another profile, and so none of the site's.
        let mut views = package("module", "views", Some(7301));
        views["profile"] = json!("news");
        all.push(views);
    }
    all
}

fn installed(tables: &mut FakeTables, input: &Value, wanted: u64) -> Value {
    let password = input["admin_password"].as_str().unwrap_or_default();
    if let Some(users) = tables.get("users") {
        let ours = users.rows.values().any(|row| {
            row[0].as_deref() == input["admin_user"].as_str() && row[1].as_deref() == Some(password)
        });
        return if ours {
            json!({ "installed": true })
        } else {
            json!({ "error": "another Drupal is installed" })
        };
    }
    let mut system = FakeTable::new(&["name", "schema_version"]);
    system.insert(&["system", &wanted.to_string()]);
    let mut users = FakeTable::new(&["name", "pass", "mail"]);
    let given = |name: &str| input[name].as_str().unwrap_or_default();
    users.insert(&[given("admin_user"), password, given("admin_email")]);
    tables.insert("key_value_expire".to_owned(), FakeTable::new(&["name", "value"]));
    tables.insert("system".to_owned(), system);
    tables.insert("users".to_owned(), users);
    json!({ "installed": true })
}

#[async_trait]
impl Host for Machine {
    fn name(&self) -> &str {
        "replayed"
    }

    async fn run(&self, command: Command) -> PortResult<Finished> {
        self.commands.lock().expect("not poisoned").push(command.argv.join(" "));
        if command.program() == "php" {
            let Stdin::Bytes(input) = &command.stdin else { panic!("a script comes on standard input") };
            let at = input.iter().position(|byte| *byte == 0).expect("a script and its parameters");
            let (script, input): (String, Value) = (
                String::from_utf8_lossy(&input[..at]).into_owned(),
                serde_json::from_slice(&input[at + 1..]).expect("parameters"),
            );
            let frame = input["frame"].as_str().unwrap_or_default();
            let stdout = format!("Deprecated: noise\n{frame}{}{frame}\n", self.php(&script, &input));
            return Ok(Finished { status: 0, stdout: stdout.into_bytes(), stderr: Vec::new() });
        }
        assert_eq!(command.argv.get(3).map(String::as_str), Some("kedge-drush"), "{:?}", command.argv);
        assert_eq!(command.user.as_deref(), Some("www-data"), "the site's code never runs as root");
        let (recorded, status) = self.drush(&command);
        let (stdout, stderr) = recorded
            .split_once("\n# stdout\n")
            .and_then(|(_, said)| said.split_once("\n# stderr\n"))
            .expect("a recording");
        let stdout = format!("{stdout}\nkedge-drush {status} /opt/drush\n");
        Ok(Finished { status: 0, stdout: stdout.into_bytes(), stderr: stderr.as_bytes().to_vec() })
    }

    async fn stream(&self, command: Command) -> PortResult<Output> {
        Err(PortError::Refused(format!("nobody streams here: {:?}", command.argv)))
    }

    async fn clear(&self, _: &Scope) -> PortResult<()> {
        Ok(())
    }
}

struct Bench {
    machine: Arc<Machine>,
    files: FakeFiles,
    secrets: FakeSecrets,
}

impl Bench {
    fn new(seven: bool) -> Self {
        Self::on(seven, Faults::new())
    }

    fn on(seven: bool, faults: Faults) -> Self {
        let disk = FakeDisk::new();
        let secrets = FakeSecrets::new(faults.clone());
        let database = FakeDatabase::new(faults.clone(), Arc::new(secrets.clone()));
        let (drush, platforms) = if seven {
            (SEVEN, [("/srv/old", "7.98", 7086), ("/srv/new", "7.105", 7088)])
        } else {
            (TEN, [("/srv/old", "10.5.9", 10400), ("/srv/new", "10.6.12", 10600)])
        };
        for (root, _, _) in platforms {
            for dir in ["sites/all/modules", "sites/default"] {
                disk.make_dir(&format!("{root}/{dir}"));
            }
        }
        let files = FakeFiles::new(disk.clone(), faults);
        let (broken, commands) = (AtomicBool::new(false), Mutex::default());
        let machine = Arc::new(Machine { seven, drush, platforms, disk, database, broken, commands });
        Self { machine, files, secrets }
    }
}

#[async_trait]
impl AppBench for Bench {
    fn app(&self) -> Arc<dyn App> {
        let scope = Scope { task: "t".into(), step: "s".into() };
        Arc::new(Drupal::new(self.machine.clone(), self.files(), self.secrets(), scope, "www-data", None))
    }

    fn files(&self) -> Arc<dyn Files> {
        Arc::new(self.files.clone())
    }

    fn database(&self) -> Arc<dyn Database> {
        Arc::new(self.machine.database.clone())
    }

    fn secrets(&self) -> Arc<dyn Secrets> {
        Arc::new(self.secrets.clone())
    }

    fn platforms(&self) -> [String; 2] {
        self.machine.platforms.map(|(root, _, _)| root.to_owned())
    }

    async fn break_update(&self, _: &AppSite, broken: bool) {
        self.machine.broken.store(broken, Ordering::SeqCst);
    }
}

#[test]
fn the_driver_keeps_the_contract_with_recorded_dialogues() {
    for seven in [true, false] {
        let bench = Bench::new(seven);
        let before = bench.machine.disk.snapshot("/srv");
        app_contract(&bench).now_or_never().expect("a recording never waits");
        assert_eq!(
            bench.machine.disk.snapshot("/srv").keys().collect::<Vec<_>>(),
            before.keys().collect::<Vec<_>>()
        );
        let commands = bench.machine.commands.lock().expect("not poisoned");
        let updates = commands.iter().filter(|command| command.ends_with("updatedb")).count();
        assert_eq!(updates, 3, "a failed one, a good one, one with nothing to do");
        assert!(
            commands.iter().all(|command| !command.contains("contract/")),
            "a secret's name is an argument"
        );
    }
}

/// Between the look at `sites.php` and the writing to it somebody else writes an alias: both are there afterwards, and only ours goes.
#[test]
fn an_alias_that_is_written_at_the_same_time_is_not_lost() {
    const FILE: &str = "/srv/old/sites/sites.php";
    let faults = Faults::new();
    let bench = Bench::on(true, faults.clone());
    let text = || String::from_utf8(bench.machine.disk.bytes(FILE).expect("there")).expect("text");
    let alias = |number: usize| format!("$sites['alias{number}.test'] = 'default';\n");
    let (app, owners) = (bench.app(), |n: usize| format!("<?php\n{}", (0..n).map(alias).collect::<String>()));
    bench.machine.disk.write(FILE, owners(1));
    let somebody = |call: &str, number: usize| {
        let disk = bench.machine.disk.clone();
        let line = format!("<?php\n{}", alias(number));
        faults.meanwhile(call, move || {
            let there = String::from_utf8(disk.bytes(FILE).expect("there")).expect("text");
            disk.write(FILE, there.replacen("<?php\n", &line, 1));
        });
    };
    somebody("files.put", 1);
    assert!(app.prepare_platform("/srv/old").now_or_never().expect("never waits").expect("prepared"));
    let (block, both) = ("// BEGIN kedge", |text: &str| (0..2).all(|n| text.contains(&alias(n))));
    assert!(both(&text()) && text().matches(block).count() == 1, "{}", text());
    // Another task on the same platform finds it done.
    assert!(!app.prepare_platform("/srv/old").now_or_never().expect("never waits").expect("prepared"));
    somebody("files.put", 2);
    app.unprepare_platform("/srv/old").now_or_never().expect("never waits").expect("taken back");
    assert!(both(&text()) && text().contains(&alias(2)) && !text().contains(block), "{}", text());
    assert_eq!(text().lines().count(), 4, "{}", text());
}

#[test]
fn a_site_to_be_imported_is_named_by_its_own_directory() {
    let bench = Bench::new(true);
    let name = SiteName::parse("shop.example.test").expect("a name");
    for dir in ["/var/www/drupal", "/var/www/sites", "/var/www/drupal/sites/a/b"] {
        let found = bench.app().find_site(dir, &name).now_or_never().expect("never waits");
        assert!(format!("{found:?}").contains("below sites"), "{dir}: {found:?}");
    }
}
