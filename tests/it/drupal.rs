//! Whole tasks on real Drupal sites, where the code is at hand: `KEDGE_DRUPAL7_DIR` has `drupal-7.98`, `drupal-7.105` and `drush8`,
//! `KEDGE_DRUPAL10_DIR` has `drupal-10.5` and `drupal-10.6` (projects with `web` and `vendor`). Skipped, saying so, where it is not.

mod import;
mod login;
mod packages;
mod quiet;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kedge_testenv::{Exec, Host, HostSpec, Progress, Service, Testenv};
use serde_json::{Value, json};
use support::face::{Face, id_of};
use support::kedge::{Kedge, Transport};
use support::outside::Outside;
use support::receiver::Receiver;

use crate::scene::{LIMIT, SITE, as_before, wanted};

const NEW: &str = "store.example.test";

/// A generation of Drupal: two versions of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drupal {
    Seven,
    Ten,
}

impl Drupal {
    /// The directory with its code, or why there is nothing to do.
    pub(crate) fn code(self) -> Option<PathBuf> {
        let variable = if self == Self::Seven { "KEDGE_DRUPAL7_DIR" } else { "KEDGE_DRUPAL10_DIR" };
        let dir = std::env::var_os(variable).map(PathBuf::from);
        if dir.is_none() {
            println!("skipped: {variable} names no directory with the code");
        }
        dir
    }

    fn names(self) -> [&'static str; 2] {
        if self == Self::Seven { ["drupal-7.98", "drupal-7.105"] } else { ["drupal-10.5", "drupal-10.6"] }
    }

    pub(crate) fn root(self, new: bool) -> String {
        let below = if self == Self::Seven { "" } else { "/web" };
        format!("/srv/platforms/{}{below}", self.names()[usize::from(new)])
    }

    /// Brings the code onto a host.
    pub(crate) async fn copy_in(self, host: &Host, code: &Path) -> Result<()> {
        let drush = (self == Self::Seven).then_some("drush8");
        for name in self.names().into_iter().chain(drush) {
            let to = format!("{}:/srv/platforms/", host.container_name());
            let copy = std::process::Command::new("docker")
                .args(["cp", "-q"])
                .arg(code.join(name))
                .arg(to)
                .status()?;
            ensure!(copy.success(), "docker cp of {name} failed");
        }
        let script =
            "cd /srv/platforms; chown -R root:root drupal-* drush*; chmod -R go=rX drupal-* drush*; true";
        host.run_ok(Exec::new(["sh", "-c", script])).await?;
        Ok(())
    }

    /// Its platforms, under these names, in Kedge's configuration.
    pub(crate) fn platforms(self, server: Service, names: [&str; 2]) -> String {
        let web = if server == Service::Apache { "apache1" } else { "nginx1" };
        let drush = if self == Self::Seven { "drush = \"/srv/platforms/drush8/drush\"\n" } else { "" };
        let part = |name: &str, new: bool| {
            let root = self.root(new);
            format!(
                "[platforms.{name}]\nweb_server = \"{web}\"\nroot = \"{root}\"\napp = \"drupal\"\n{drush}"
            )
        };
        format!("{}{}", part(names[0], false), part(names[1], true))
    }
}

/// A host with a Drupal site and a neighbour.
struct Sites {
    face: Face,
    kedge: Kedge,
    _receiver: Receiver,
    host: Host,
    server: Service,
    drupal: Drupal,
}

impl Sites {
    async fn start(env: &Testenv, drupal: Drupal, server: Service, code: PathBuf) -> Result<Self> {
        let host = Host::start(env, &HostSpec::web_and_database("web1").srv_on_volume()).await?;
        drupal.copy_in(&host, &code).await?;
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let mut kedge = Kedge::prepare(&host, Transport::Docker, port)?;
        kedge.configure(&drupal.platforms(server, ["old", "new"]))?;
        let receiver = Receiver::start_on(port, &kedge.callback_secret).await?;
        kedge.start().await?;
        let face = kedge.face()?;
        Ok(Self { face, kedge, _receiver: receiver, host, server, drupal })
    }

    async fn run(&self, workflow: &str, params: Value) -> Result<Value> {
        let id = self.face.submit(workflow, &params).await?;
        self.face.settled(&id, LIMIT, |_| ()).await
    }

    async fn done(&self, workflow: &str, params: Value) -> Result<Value> {
        let began = std::time::Instant::now();
        let task = self.run(workflow, params.clone()).await?;
        ensure!(task["state"] == "succeeded", "{workflow} {params}: {task}\n{}", self.kedge.log_end(20));
        println!("  {workflow} {params}: {:.1} s, {}", began.elapsed().as_secs_f32(), task["result"]);
        Ok(task)
    }

    async fn shell(&self, script: &str) -> Result<String> {
        Ok(self.host.run_ok(Exec::new(["sh", "-c", script])).await?.text())
    }

    async fn look(&self) -> Result<Outside> {
        Outside::look(&self.host, self.server, SITE).await
    }

    /// Runs drush on the site, on the old platform.
    async fn drush(&self, args: &[&str]) -> Result<String> {
        let root = self.drupal.root(false);
        let drush = match self.drupal {
            Drupal::Seven => "/srv/platforms/drush8/drush".to_owned(),
            Drupal::Ten => format!("{root}/../vendor/bin/drush"),
        };
        let said = self
            .shell(&format!(
                "mkdir -p -m 777 /tmp/seed-home; cd {root}; KEDGE_SITE={SITE} HOME=/tmp/seed-home setpriv --reuid=www-data --regid=www-data \
                 --clear-groups {drush} --root={root} --uri=http://{SITE} -y {} </dev/null; status=$?; rm -rf /tmp/seed-home; exit $status",
                args.join(" ")
            ))
            .await;
        said.with_context(|| format!("drush {args:?}"))
    }

    /// The site's database, as its settings name it.
    async fn database(&self, dir: &str) -> Result<String> {
        let name = self
            .shell(&format!("sed -nE \"s/^ *'database' => '([^']+)',/\\1/p\" {dir}/settings.php"))
            .await?;
        ensure!(!name.trim().is_empty(), "{dir}/settings.php names no database");
        Ok(name.trim().to_owned())
    }

    /// The site works under a name: front page, its own module's page, its picture, its login.
    async fn works(&self, name: &str, dir_name: &str, version: &str) -> Result<()> {
        for (path, words) in [
            ("/user/login", "</html>"),
            ("/harbour", "harbour of cranes"),
            (&format!("/sites/{dir_name}/files/pier.txt") as &str, "a pier"),
            ("/harbour", version),
        ] {
            let page = self.host.get(self.server, name, path).await?;
            ensure!(
                page.status == 200 && page.text().contains(words),
                "{name}{path}: {} without {words:?}: {}",
                page.status,
                page.text().chars().take(2000).collect::<String>()
            );
        }
        let front = self.host.get(self.server, name, "/").await?.text();
        for sheet in front.split('"').filter(|part| part.contains("/css/css_")).take(2) {
            let sheet = sheet.replace("&amp;", "&");
            let path = sheet.strip_prefix(&format!("http://{name}")).unwrap_or(&sheet);
            let here = format!("/sites/{dir_name}/files/css/");
            ensure!(path.starts_with(&here), "a style sheet is elsewhere: {path}");
            let page = self.host.get(self.server, name, path).await?;
            ensure!(page.status == 200, "the style sheet {path} answers {}", page.status);
        }
        let private =
            self.host.get(self.server, name, &format!("/sites/{dir_name}/private/files/secret.txt")).await?;
        ensure!(private.status == 403, "private files answer {}", private.status);
        Ok(())
    }

    /// Content that names the site in every way, and a module of the site's own.
    async fn seed(&self) -> Result<()> {
        let dir = format!("{}/sites/{SITE}", self.drupal.root(false));
        let (module, code) = match self.drupal {
            Drupal::Seven => (MODULE_7, SEED_7),
            Drupal::Ten => (MODULE_10, SEED_10),
        };
        self.shell(&format!(
            "mkdir -p {dir}/modules/harbour/src/Controller && cd {dir}/modules/harbour\n{module}"
        ))
        .await?;
        self.shell(&format!("cat > /tmp/seed.php <<'X'\n<?php\n{code}\nX\nchmod 644 /tmp/seed.php")).await?;
        self.drush(&["en", "harbour"]).await?;
        self.drush(&["php-script", "/tmp/seed.php"]).await?;
        let run = format!(
            "rm /tmp/seed.php\n\
             printf 'a pier' > {dir}/files/pier.txt; printf secret > {dir}/private/files/secret.txt; chown www-data:www-data {dir}/files/pier.txt {dir}/private/files/secret.txt"
        );
        self.shell(&run).await?;
        Ok(())
    }
}

/// A module with a class of its own, and an update that fails when it is told to.
const MODULE_7: &str = r#"cat > harbour.info <<'X'
name = Harbour
core = 7.x
files[] = src/HarbourCrane.inc
X
cat > src/HarbourCrane.inc <<'X'
<?php
class HarbourCrane { function name() { return 'cranes ' . VERSION; } }
X
cat > harbour.module <<'X'
<?php
function harbour_menu() {
  return array(
    'harbour' => array('page callback' => 'harbour_page', 'access callback' => TRUE, 'file' => 'harbour.pages.inc'),
    'harbour/reach' => array('page callback' => 'harbour_reach', 'access callback' => TRUE, 'file' => 'harbour.pages.inc'),
  );
}
function harbour_mail($key, &$message, $params) { $message['subject'] = 'a bill'; $message['body'][] = 'paid'; }
function harbour_cron() { variable_set('harbour_cron_ran', 1); }
X
cat > harbour.pages.inc <<'X'
<?php
function harbour_page() { $crane = new HarbourCrane(); return 'harbour of ' . $crane->name(); }
function harbour_reach() {
  $mail = drupal_mail('harbour', 'note', 'customer@example.test', language_default());
  $asks = function ($url) { $answer = drupal_http_request($url, array('timeout' => 5)); return $answer->code . ' ' . (isset($answer->error) ? $answer->error : ''); };
  drupal_json_output(array('mailed' => (bool) $mail['result'], 'others' => $asks('http://127.0.0.2:9/paid'), 'itself' => $asks('http://' . $_SERVER['HTTP_HOST'] . '/harbour')));
}
X
cat > harbour.install <<'X'
<?php
X
"#;

const MODULE_10: &str = r#"cat > harbour.info.yml <<'X'
name: Harbour
type: module
core_version_requirement: ^10 || ^11
X
cat > harbour.routing.yml <<'X'
harbour.page:
  path: '/harbour'
  defaults: { _controller: '\Drupal\harbour\Controller\Harbour::page' }
  requirements: { _access: 'TRUE' }
harbour.reach:
  path: '/harbour/reach'
  defaults: { _controller: '\Drupal\harbour\Controller\Harbour::reach' }
  requirements: { _access: 'TRUE' }
  options: { no_cache: 'TRUE' }
X
cat > src/Controller/Harbour.php <<'X'
<?php
namespace Drupal\harbour\Controller;
class Harbour {
  public function reach() {
    $mail = \Drupal::service('plugin.manager.mail')->mail('harbour', 'note', 'customer@example.test', 'en');
    $asks = function ($url) { try { return \Drupal::httpClient()->get($url, ['timeout' => 5, 'http_errors' => FALSE])->getStatusCode(); } catch (\Exception $error) { return $error->getMessage(); } };
    return new \Symfony\Component\HttpFoundation\JsonResponse(['mailed' => (bool) $mail['result'], 'others' => $asks('http://127.0.0.2:9/paid'), 'itself' => $asks('http://' . $_SERVER['HTTP_HOST'] . '/harbour')]);
  }
  public function page() { return ['#markup' => 'harbour of cranes ' . \Drupal::VERSION, '#cache' => ['max-age' => 0]]; }
}
X
cat > harbour.module <<'X'
<?php
function harbour_mail($key, &$message, $params) { $message['subject'] = 'a bill'; $message['body'][] = 'paid'; }
function harbour_cron() { \Drupal::state()->set('harbour_cron_ran', 1); }
X
cat > harbour.install <<'X'
<?php
X
"#;

/// Links and paths in text, in serialised values, and beside names that only look alike.
const SEED_7: &str = r#"
for ($i = 0; $i < 20; $i++) {
  $node = (object) array('type' => 'page', 'title' => "Pier $i", 'language' => LANGUAGE_NONE, 'uid' => 1, 'status' => 1, 'promote' => 1);
  node_object_prepare($node);
  $node->body[LANGUAGE_NONE][0] = array('format' => 'full_html', 'value' => "<img src=\"/sites/shop.example.test/files/p$i.png\"> <a href=\"http://shop.example.test/node/$i\">x</a> sites/shop.example.testx/files sites/shop.example.test.au/files");
  node_save($node);
}
variable_set('harbour_paths', array('dir' => 'sites/shop.example.test/files', 'deep' => array('url' => 'http://shop.example.test/', 'other' => 'shop.example.test.au')));
"#;

const SEED_10: &str = r#"
for ($i = 0; $i < 20; $i++) {
  \Drupal\node\Entity\Node::create(['type' => 'page', 'title' => "Pier $i", 'uid' => 1, 'status' => 1, 'promote' => 1, 'body' => ['format' => 'full_html', 'value' => "<img src=\"/sites/shop.example.test/files/p$i.png\"> <a href=\"http://shop.example.test/node/$i\">x</a> sites/shop.example.testx/files sites/shop.example.test.au/files"]])->save();
}
\Drupal::state()->set('harbour_paths', ['dir' => 'sites/shop.example.test/files', 'deep' => ['url' => 'http://shop.example.test/', 'other' => 'shop.example.test.au']]);
"#;

#[tokio::test(flavor = "multi_thread")]
async fn drupal_7_on_nginx() -> Result<()> {
    play(Drupal::Seven, Service::Nginx).await
}

#[tokio::test(flavor = "multi_thread")]
async fn drupal_7_on_apache() -> Result<()> {
    play(Drupal::Seven, Service::Apache).await
}

#[tokio::test(flavor = "multi_thread")]
async fn drupal_10_on_nginx() -> Result<()> {
    play(Drupal::Ten, Service::Nginx).await
}

#[tokio::test(flavor = "multi_thread")]
async fn drupal_10_on_apache() -> Result<()> {
    play(Drupal::Ten, Service::Apache).await
}

async fn play(drupal: Drupal, server: Service) -> Result<()> {
    if !wanted() {
        return Ok(());
    }
    let Some(code) = drupal.code() else { return Ok(()) };
    let env = Testenv::open(&Progress::stderr()).await?;
    let mut sites = Sites::start(&env, drupal, server, code).await?;
    for site in [SITE, "neighbour.example.test"] {
        let alias = format!("www.{site}");
        let params = json!({ "site": site, "aliases": [alias], "platform": "old", "database_server": "db1" });
        sites.done("install", params).await?;
    }
    sites.seed().await?;
    let old = if drupal == Drupal::Seven { "7.98" } else { "10.5" };
    sites.works(SITE, SITE, old).await?;
    sites.works(&format!("www.{SITE}"), SITE, old).await?;

    login::lets_in_once(&sites).await?;
    import::a_site_made_by_hand(&sites).await?;
    quiet::a_copy_is_quiet_and_clean(&sites).await?;
    packages::are_compared(&sites).await?;
    an_update_that_fails(&sites).await?;
    to_the_new_version_and_back(&sites).await?;
    a_rename_and_back(&sites).await?;
    copies_and_restores(&sites).await?;
    kills(&mut sites).await?;
    off_and_away(&sites).await?;

    let page = sites.host.get(server, "neighbour.example.test", "/").await?;
    ensure!(page.status == 200, "the neighbour answers {}", page.status);
    sites.kedge.stop().await?;
    let (sound, fsck) = sites.kedge.command(&["journal", "fsck"])?;
    ensure!(sound, "{fsck}");
    sites.host.shutdown().await?;
    env.shutdown().await?;
    Ok(())
}

async fn undo(sites: &Sites, task: &Value) -> Result<()> {
    let (status, undo) = sites.face.post(&format!("/v1/tasks/{}/undo", id_of(task)?), &json!({})).await?;
    ensure!(status == 202, "undo: {status} {undo}");
    let task = sites.face.settled(&id_of(&undo)?, LIMIT, |_| ()).await?;
    ensure!(task["state"] == "succeeded", "undo: {task}");
    Ok(())
}

/// The site's own module refuses its update: everything is as before, and the reason is told.
async fn an_update_that_fails(sites: &Sites) -> Result<()> {
    let install = format!("{}/sites/{SITE}/modules/harbour/harbour.install", sites.drupal.root(false));
    let number = if sites.drupal == Drupal::Seven { "7001" } else { "10001" };
    sites.shell(&format!("echo 'function harbour_update_{number}() {{ throw new Exception(\"broken on purpose\"); }}' >> {install}")).await?;
    let before = sites.look().await?;
    let task = sites.run("migrate", json!({ "site": SITE, "target_platform": "new" })).await?;
    ensure!(task["state"] == "rolled_back" && task["outcome"]["verified"] != json!(false), "{task}");
    let error = task["error"].to_string();
    ensure!(error.contains("broken on purpose"), "{error}");
    as_before(&before, &sites.look().await?, "after a failed update")?;
    println!("  a failed update: {error}");
    sites.shell(&format!("echo '<?php' > {install}")).await?;
    Ok(())
}

async fn to_the_new_version_and_back(sites: &Sites) -> Result<()> {
    let before = sites.look().await?;
    let task = sites.done("migrate", json!({ "site": SITE, "target_platform": "new" })).await?;
    let version = if sites.drupal == Drupal::Seven { "7.105" } else { "10.6" };
    sites.works(SITE, SITE, version).await?;
    sites.works(&format!("www.{SITE}"), SITE, version).await?;
    undo(sites, &task).await?;
    let after = sites.look().await?;
    as_before(&before.without_trash(&before), &after.without_trash(&before), "after the way back")
}

async fn a_rename_and_back(sites: &Sites) -> Result<()> {
    let before = sites.look().await?;
    let task =
        sites.done("migrate", json!({ "site": SITE, "new_site": NEW, "target_platform": "new" })).await?;
    let version = if sites.drupal == Drupal::Seven { "7.105" } else { "10.6" };
    sites.works(NEW, NEW, version).await?;
    sites.works(&format!("www.{NEW}"), NEW, version).await?;
    let database = sites.database(&format!("{}/sites/{NEW}", sites.drupal.root(true))).await?;
    let (body, paths) = match sites.drupal {
        Drupal::Seven => (
            "SELECT body_value FROM field_data_body",
            "SELECT value FROM variable WHERE name = 'harbour_paths'",
        ),
        Drupal::Ten => {
            ("SELECT body_value FROM node__body", "SELECT value FROM key_value WHERE name = 'harbour_paths'")
        }
    };
    let text = sites.shell(&format!("mariadb -N {database} -e \"{body} LIMIT 1; {paths}\"")).await?;
    for words in [
        "/sites/store.example.test/files/p",
        "http://store.example.test/node/",
        "sites/shop.example.testx/files",
        "sites/shop.example.test.au/files",
        "s:30:\"sites/store.example.test/files\"",
        "s:26:\"http://store.example.test/\"",
        "s:20:\"shop.example.test.au\"",
    ] {
        ensure!(text.contains(words), "{words:?} is not in {text}");
    }
    let dump = format!(
        "mariadb-dump --skip-extended-insert {database} | grep -v '^INSERT INTO .\\(watchdog\\|sessions\\|cache\\)' | grep -cE 'sites/(shop[.]example[.]test/|[.]kedge)'; true"
    );
    let left = sites.shell(&dump).await?;
    ensure!(left.trim() == "0", "{} rows still name the old directory or the stage", left.trim());
    undo(sites, &task).await?;
    let after = sites.look().await?;
    as_before(&before.without_trash(&before), &after.without_trash(&before), "after the rename and back")
}

async fn copies_and_restores(sites: &Sites) -> Result<()> {
    let old = if sites.drupal == Drupal::Seven { "7.98" } else { "10.5" };
    let backup = sites.done("backup", json!({ "site": SITE })).await?;
    sites.done("clone", json!({ "site": SITE, "new_site": "copy.example.test" })).await?;
    sites.works("copy.example.test", "copy.example.test", old).await?;
    let name = backup["result"]["backup"].as_str().context("a backup")?;
    sites.shell(&format!("rm {}/sites/{SITE}/files/pier.txt", sites.drupal.root(false))).await?;
    sites.done("restore", json!({ "site": SITE, "backup": name })).await?;
    sites.works(SITE, SITE, old).await
}

/// kill -9 while a migrate is at work: done or as before.
async fn kills(sites: &mut Sites) -> Result<()> {
    for ms in [2000, 6000, 11_000] {
        let before = sites.look().await?;
        let id = sites.face.submit("migrate", &json!({ "site": SITE, "target_platform": "new" })).await?;
        tokio::time::sleep(Duration::from_millis(ms)).await;
        sites.kedge.kill()?;
        sites.kedge.start().await?;
        let task = sites.face.settled(&id, LIMIT, |_| ()).await?;
        println!("  kill -9 after {ms} ms: {}", task["state"]);
        if task["state"] == "succeeded" {
            undo(sites, &task).await?;
            let after = sites.look().await?;
            as_before(
                &before.without_trash(&before),
                &after.without_trash(&before),
                "after a kill and the way back",
            )?;
        } else {
            ensure!(task["state"] == "rolled_back" && task["outcome"]["verified"] != json!(false), "{task}");
            as_before(&before, &sites.look().await?, "after a kill")?;
        }
    }
    Ok(())
}

async fn off_and_away(sites: &Sites) -> Result<()> {
    let copy = "copy.example.test";
    sites.done("disable", json!({ "site": copy })).await?;
    let page = sites.host.get(sites.server, copy, "/").await?;
    ensure!(page.status == 503, "a disabled site answers {}", page.status);
    sites.done("enable", json!({ "site": copy })).await?;
    sites.works(copy, copy, "harbour").await?;
    sites.done("disable", json!({ "site": copy })).await?;
    sites.done("delete", json!({ "site": copy })).await?;
    let there = sites.shell(&format!("ls -A {}/sites", sites.drupal.root(false))).await?;
    ensure!(!there.lines().any(|name| name == copy), "its directory is still there: {there}");
    Ok(())
}
