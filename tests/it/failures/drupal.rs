//! Cases about Drupal: played on real Drupal 7 sites where `KEDGE_DRUPAL7_DIR` names the code, and skipped, saying so, where it does not; what
//! carries the claim then stands in the table. The packages of platforms are read from small trees everywhere: no Drupal runs for that.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use support::outside::Outside;

use super::{done, gone, rolled_back};
use crate::drupal::Drupal;
use crate::scene::{LIMIT, SITE, Scene, as_before};

/// The Drupal site that things happen to.
const D7: &str = "drupal.example.test";
const PLATFORMS: [&str; 2] = ["d7-old", "d7-new"];
const DRUSH: &str = "/srv/platforms/drush8/drush";

/// Adds platforms to the configuration of the scene's Kedge, once.
async fn platforms(scene: &mut Scene, parts: &str) -> Result<()> {
    if !std::fs::read_to_string(scene.kedge.config())?.contains(parts) {
        scene.kedge.stop().await?;
        scene.kedge.configure(parts)?;
        scene.kedge.start().await?;
    }
    Ok(())
}

/// Two versions of Drupal 7 on the scene's host; `false` where the code is not at hand.
async fn code(scene: &mut Scene) -> Result<bool> {
    let Some(code) = Drupal::Seven.code() else { return Ok(false) };
    if scene.shell("test -d /srv/platforms/drupal-7.98 && echo there; true").await?.is_empty() {
        Drupal::Seven.copy_in(&scene.host, &code).await?;
    }
    let parts = Drupal::Seven.platforms(scene.server, PLATFORMS);
    platforms(scene, &parts).await?;
    Ok(true)
}

/// A site on the old one, with a module of the platform's that has a class.
async fn site(scene: &mut Scene) -> Result<bool> {
    if !code(scene).await? {
        return Ok(false);
    }
    let params = json!({ "site": D7, "aliases": [format!("www.{D7}")], "platform": PLATFORMS[0], "database_server": "db1" });
    done(scene, "install", &params).await?;
    let module = format!("{}/sites/all/modules/crane", Drupal::Seven.root(false));
    scene.shell(&crane(&module, 7003)).await?;
    drush(scene, "en crane").await?;
    scene.look().await?;
    Ok(true)
}

/// The site and everything that was made for it go; the code stays for the next case.
async fn clean(scene: &Scene) -> Result<()> {
    gone(scene, D7).await?;
    scene.shell("rm -rf /srv/platforms/drupal-7.*/sites/all/modules/crane /srv/platforms/drupal-7.*/sites/all/modules/contrib").await?;
    Ok(())
}

/// A module whose page needs a class that Drupal finds by its registry.
fn crane(dir: &str, update: u32) -> String {
    format!(
        r#"rm -rf {dir} && mkdir -p {dir} && cd {dir}
printf 'name = Crane\ncore = 7.x\nversion = "7.x-1.2"\nfiles[] = crane.class.inc\n' >crane.info
printf '<?php\nfunction crane_update_{update}() {{}}\n' >crane.install
printf '<?php\nclass Crane {{ function says() {{ return "crane of " . VERSION; }} }}\n' >crane.class.inc
cat >crane.module <<'X'
<?php
function crane_menu() {{
  return array('crane' => array('page callback' => 'crane_page', 'access callback' => TRUE));
}}
function crane_page() {{ $crane = new Crane(); return $crane->says(); }}
X
"#
    )
}

async fn drush(scene: &Scene, words: &str) -> Result<String> {
    let root = Drupal::Seven.root(false);
    scene
        .shell(&format!(
            "mkdir -p -m 777 /tmp/case-home; cd {root}; KEDGE_SITE={D7} HOME=/tmp/case-home setpriv --reuid=www-data --regid=www-data \
             --clear-groups {DRUSH} --root={root} --uri=http://{D7} -y {words} </dev/null; status=$?; rm -rf /tmp/case-home; exit $status"
        ))
        .await
}

async fn look(scene: &Scene) -> Result<Outside> {
    Outside::look(&scene.host, scene.server, D7).await
}

/// A move that preflight has to refuse with these words, whatever is acknowledged; everything is as before.
async fn refused(scene: &Scene, acknowledged: bool, words: &str) -> Result<()> {
    let before = look(scene).await?;
    let params = json!({ "site": D7, "target_platform": PLATFORMS[1], "acknowledge_warnings": acknowledged });
    let task = scene.run("migrate", &params).await?;
    ensure!(task["state"] == "rolled_back" && task["error"]["step"] == "preflight", "{task}");
    ensure!(task["error"]["detail"].as_str().is_some_and(|told| told.contains(words)), "{words:?}: {task}");
    as_before(&before, &look(scene).await?, "after a refusal")
}

/// The verdict on a package, as the table tells it at this moment.
async fn verdict(scene: &Scene, [from, to]: [&str; 2], query: &str, kind: &str, name: &str) -> Result<Value> {
    let (status, table) = scene.face.get(&format!("/v1/platforms/{from}/compare/{to}{query}")).await?;
    ensure!(status == 200, "{status} {table}");
    let rows = table["rows"].as_array().context("rows")?;
    let row = rows.iter().find(|row| row["kind"] == kind && row["name"] == name);
    Ok(row.map_or(Value::Null, |row| row["verdict"].clone()))
}

async fn shows(scene: &Scene, name: &str, path: &str, words: &str) -> Result<()> {
    let page = scene.host.get(scene.server, name, path).await?;
    ensure!(
        page.status == 200 && page.text().contains(words),
        "{name}{path}: {} without {words:?}",
        page.status
    );
    Ok(())
}

/// Sites come to a platform and go from it at once, and its owner has aliases in `sites.php` too: none is lost, and the lines of Kedge's are
/// there once.
pub(super) async fn aliases_at_once(scene: &mut Scene) -> Result<()> {
    if !code(scene).await? {
        return Ok(());
    }
    let file = format!("{}/sites/sites.php", Drupal::Seven.root(false));
    let owners = "$sites['legacy.example.test'] = 'default';";
    scene.shell(&format!("test -e {file} || echo '<?php' >{file}; sed -i \"1a \\{owners}\" {file}")).await?;
    let sites = ["one.example.test", "two.example.test", "three.example.test"];
    let install = |site: &str| json!({ "site": site, "title": format!("This is {site}"), "aliases": [format!("www.{site}")], "platform": PLATFORMS[0], "database_server": "db1" });
    let both = [
        scene.face.submit("install", &install(sites[0])).await?,
        scene.face.submit("install", &install(sites[1])).await?,
    ];
    for id in both {
        let task = scene.face.settled(&id, LIMIT, |_| ()).await?;
        ensure!(task["state"] == "succeeded", "{task}");
    }
    // One goes while another comes.
    let coming = scene.face.submit("install", &install(sites[2])).await?;
    gone(scene, sites[0]).await?;
    let task = scene.face.settled(&coming, LIMIT, |_| ()).await?;
    ensure!(task["state"] == "succeeded", "{task}");
    for site in &sites[1..] {
        for name in [(*site).to_owned(), format!("www.{site}")] {
            shows(scene, &name, "/", &format!("This is {site}")).await?;
        }
    }
    let there = scene.shell(&format!("cat {file}")).await?;
    let blocks = there.matches("// BEGIN kedge").count();
    ensure!(
        there.contains(&format!("<?php\n{owners}\n")) && blocks == 1,
        "{blocks} blocks of Kedge's: {there}"
    );
    for site in &sites[1..] {
        gone(scene, site).await?;
    }
    // A prepared platform stays so for the next site.
    let left = scene.shell(&format!("cat {file}; sed -i /legacy/d {file}")).await?;
    ensure!(left == there, "the file has changed: {left}");
    Ok(())
}

/// A module that the other platform lacks has to be acknowledged; where it is in another directory there, its classes are found, and the
/// way back leads to where they were.
pub(super) async fn module_missing(scene: &mut Scene) -> Result<()> {
    if !site(scene).await? {
        return Ok(());
    }
    shows(scene, D7, "/crane", "crane of 7.98").await?;
    refused(scene, false, "module crane: missing on the platform; if that is meant").await?;
    let before = look(scene).await?;
    let params = json!({ "site": D7, "target_platform": PLATFORMS[1], "acknowledge_warnings": true });
    let task = done(scene, "migrate", &params).await?;
    ensure!(task["result"]["warnings"] == json!(["module crane: missing on the platform"]), "{task}");
    shows(scene, D7, "/user/login", "</html>").await?;
    back(scene, &before, &task).await?;
    let elsewhere = format!("{}/sites/all/modules/contrib/cranes/crane", Drupal::Seven.root(true));
    scene.shell(&crane(&elsewhere, 7003)).await?;
    let before = look(scene).await?;
    let params = json!({ "site": D7, "target_platform": PLATFORMS[1] });
    let task = done(scene, "migrate", &params).await?;
    shows(scene, D7, "/crane", "crane of 7.105").await?;
    back(scene, &before, &task).await?;
    shows(scene, D7, "/crane", "crane of 7.98").await?;
    clean(scene).await
}

async fn back(scene: &Scene, before: &Outside, task: &Value) -> Result<()> {
    crate::scene::take_back(scene, &support::face::id_of(task)?).await?;
    as_before(&before.without_trash(before), &look(scene).await?.without_trash(before), "after the undo")
}

/// What the table said a moment ago, and what Drupal wrote down of its files, count for nothing: the task reads the code that is there.
pub(super) async fn stale_packages(scene: &mut Scene) -> Result<()> {
    if !site(scene).await? {
        return Ok(());
    }
    let query = format!("?site={D7}");
    let there = format!("{}/sites/all/modules/crane", Drupal::Seven.root(true));
    scene.shell(&crane(&there, 7003)).await?;
    let told = verdict(scene, PLATFORMS, &query, "module", "crane").await?;
    ensure!(told == "same", "before: {told}");
    scene.shell(&crane(&there, 7002)).await?;
    refused(scene, true, "module crane: schema 7003 in the database, the platform's is 7002").await?;
    // Where the database says that a module is, nothing is any more.
    let root = Drupal::Seven.root(false);
    scene.shell(&format!("cd {root}/sites/all/modules && mkdir contrib && mv crane contrib/crane")).await?;
    scene.shell(&crane(&there, 7004)).await?;
    let told = verdict(scene, PLATFORMS, &query, "module", "crane").await?;
    ensure!(told == "upgrade", "after: {told}");
    clean(scene).await
}

/// A platform without the profile that the site was installed with is refused, and says which it has.
pub(super) async fn no_profile(scene: &mut Scene) -> Result<()> {
    if !site(scene).await? {
        return Ok(());
    }
    let profiles = format!("{}/profiles", Drupal::Seven.root(true));
    scene.shell(&crane(&format!("{}/sites/all/modules/crane", Drupal::Seven.root(true)), 7003)).await?;
    scene.shell(&format!("mv {profiles}/standard /srv/platforms/kept-profile")).await?;
    let asked = refused(scene, true, "the platform does not have it; the platform's profiles: minimal").await;
    scene.shell(&format!("mv /srv/platforms/kept-profile {profiles}/standard")).await?;
    asked?;
    clean(scene).await
}

/// The other platform changes between the table and the task: the task goes by what is there when it looks.
pub(super) async fn changed_meanwhile(scene: &mut Scene) -> Result<()> {
    const VERSION: &str = "/srv/platforms/wordpress-6.8/wp-includes/version.php";
    let (before, query) = (scene.look().await?, format!("?site={SITE}"));
    let told = verdict(scene, scene.platforms, &query, "core", "wordpress").await?;
    ensure!(told == "upgrade", "{told}");
    scene.shell(&format!("cp -p {VERSION} /root/version.kept && sed -i 's/^\\$wp_db_version = .*/$wp_db_version = 50000;/' {VERSION}")).await?;
    let task = scene.run("migrate", &super::to_the_other_platform(scene)).await?;
    let told = verdict(scene, scene.platforms, &query, "core", "wordpress").await?;
    scene.shell(&format!("cp -p /root/version.kept {VERSION} && rm /root/version.kept")).await?;
    ensure!(task["error"]["step"] == "preflight" && told == "older_schema", "{told} {task}");
    rolled_back(scene, &before, &task, "newer than version 50000").await
}

/// Small trees in the form of Drupal 7 and of newer ones: what a platform gives its sites is read from its files, as they are now.
pub(super) async fn trees(scene: &mut Scene) -> Result<()> {
    let web = if scene.server == kedge_testenv::Service::Apache { "apache1" } else { "nginx1" };
    let names = ["old7", "new7", "old10", "new10"];
    let part = |name: &&str| {
        format!(
            "[platforms.tree-{name}]\nweb_server = \"{web}\"\nroot = \"/srv/trees/{name}\"\napp = \"drupal\"\n"
        )
    };
    platforms(scene, &names.iter().map(part).collect::<String>()).await?;
    scene.shell(TREES).await?;
    let seven = ["tree-old7", "tree-new7"];
    for (kind, name, expected) in [
        ("core", "drupal", "upgrade"),
        ("module", "system", "upgrade"),
        ("module", "views", "upgrade"),
        ("module", "libraries", "same"),
        ("module", "maps", "missing"),
        ("profile", "standard", "upgrade"),
        ("profile", "news", "no_profile"),
        ("theme", "bartik", "upgrade"),
    ] {
        let told = verdict(scene, seven, "", kind, name).await?;
        ensure!(told == expected, "{kind} {name}: {told} instead of {expected}");
    }
    for (kind, name, expected) in [
        ("core", "drupal", "upgrade"),
        ("module", "config", "upgrade"),
        ("module", "token", "downgrade"),
        ("profile", "standard", "upgrade"),
    ] {
        let told = verdict(scene, ["tree-old10", "tree-new10"], "", kind, name).await?;
        ensure!(told == expected, "{kind} {name}: {told} instead of {expected}");
    }
    let told = verdict(scene, seven, "", "module", "ticker").await?;
    ensure!(told == "missing", "a module that comes with a profile of others: {told}");
    scene.shell("cd /srv/trees/new7/sites/all/modules/views && sed -i s/7302/7300/ views.install").await?;
    let told = verdict(scene, seven, "", "module", "views").await?;
    ensure!(told == "older_schema", "what was there before: {told}");
    scene.shell("rm -r /srv/trees").await?;
    Ok(())
}

/// A `.info` of a release ends with its version; `VERSION` is the core's.
const TREES: &str = r#"set -e
mkdir -p /srv/trees && cd /srv/trees
seven() { mkdir -p $1 && printf 'name = X\ncore = 7.x\nversion = VERSION\n%s' "$4" >$1/$2.info && printf '<?php\n' >$1/$2.$3; }
update() { printf '<?php\nfunction %s_update_%s() {}\n' $2 $3 >$1/$2.install; }
for one in old7:7.98:7086:7301:7.x-3.20 new7:7.105:7088:7302:7.x-3.28; do
    IFS=: read root version system views release <<X
$one
X
    mkdir -p $root/includes $root/sites/all/modules && printf "<?php\ndefine('VERSION', '%s');\n" $version >$root/includes/bootstrap.inc
    seven $root/modules/system system module; update $root/modules/system system $system
    seven $root/themes/bartik bartik php
    seven $root/profiles/standard standard profile
    seven $root/sites/all/modules/views views module "version = \"$release\""; update $root/sites/all/modules/views views $views
    seven $root/sites/all/modules/libraries libraries module 'version = "7.x-2.5"'
    mkdir -p $root/sites/all/modules/views/tests && seven $root/sites/all/modules/views/tests/views_test views_test module
done
seven old7/sites/all/modules/maps maps module
seven old7/profiles/news news profile
seven old7/profiles/news/modules/ticker ticker module
seven new7/profiles/sports sports profile
seven new7/profiles/sports/modules/ticker ticker module
newer() { mkdir -p $1 && printf 'name: X\ntype: %s\nversion: %s\n' $3 "$4" >$1/$2.info.yml; }
for one in old10:10.5.9:1.15.0 new10:10.6.12:1.9.0; do
    IFS=: read root version token <<X
$one
X
    mkdir -p $root/core/lib && printf "<?php\nclass Drupal {\n  const VERSION = '%s';\n}\n" $version >$root/core/lib/Drupal.php
    newer $root/core/modules/system system module VERSION; newer $root/core/modules/config config module VERSION
    newer $root/core/profiles/standard standard profile VERSION
    newer $root/modules/contrib/token token module "'$token'"
done
chmod -R go=rX /srv/trees
"#;
