//! Drupal on a real host: where its code is at hand. `KEDGE_DRUPAL7_DIR` has `drupal-7.98`, `drupal-7.105` and `drush8`;
//! `KEDGE_DRUPAL10_DIR` has `drupal-10.5` and `drupal-10.6`, whole projects with `web` and `vendor`.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use kedge_workflows::names::SiteName;
use kedge_workflows::ports::{Access, App, AppSite, Database, Files, PortError, Secrets};
use kedge_workflows::testing::AppBench;

use super::real::Bench;
use crate::app::Drupal;

/// Two versions of a Drupal on the test host.
pub(super) struct DrupalBench<'a> {
    bench: &'a Bench,
    roots: [String; 2],
    drush: Option<String>,
    seven: bool,
}

impl<'a> DrupalBench<'a> {
    /// Those whose code is at hand; says which ones are not.
    pub(super) async fn open(bench: &'a Bench) -> Vec<Self> {
        let mut found = Vec::new();
        for (variable, names, drush) in [
            ("KEDGE_DRUPAL7_DIR", ["drupal-7.98", "drupal-7.105"], Some("drush8")),
            ("KEDGE_DRUPAL10_DIR", ["drupal-10.5", "drupal-10.6"], None),
        ] {
            let Some(dir) = std::env::var_os(variable).map(PathBuf::from) else {
                println!(
                    "skipped: {variable} names no directory with {names:?}, so that Drupal is not tested for real"
                );
                continue;
            };
            for name in names.into_iter().chain(drush) {
                bench.copy_in(&dir.join(name), "/srv/platforms/");
            }
            bench.sh_ok("chown -R root:root /srv/platforms; chmod -R go=rX /srv/platforms", &[], b"").await;
            let seven = drush.is_some();
            let below = if seven { "" } else { "/web" };
            found.push(Self {
                bench,
                roots: names.map(|name| format!("/srv/platforms/{name}{below}")),
                drush: drush.map(|name| format!("/srv/platforms/{name}/drush")),
                seven,
            });
        }
        found
    }
}

#[async_trait]
impl AppBench for DrupalBench<'_> {
    fn left_by_a_killed_prepare(&self, root: &str) -> Option<String> {
        Some(format!("{root}/sites/{}", crate::files::temporary("sites.php")))
    }

    fn app(&self) -> Arc<dyn App> {
        let (host, drush) = (self.bench.host.clone(), self.drush.clone());
        Arc::new(Drupal::new(host, self.files(), self.secrets(), self.bench.scope(), "www-data", drush))
    }

    fn files(&self) -> Arc<dyn Files> {
        self.bench.files()
    }

    fn database(&self) -> Arc<dyn Database> {
        self.bench.database()
    }

    fn secrets(&self) -> Arc<dyn Secrets> {
        self.bench.secrets()
    }

    fn platforms(&self) -> [String; 2] {
        self.roots.clone()
    }

    async fn break_update(&self, site: &AppSite, broken: bool) {
        // The database refuses to write down that an update was done.
        let (table, when) = if self.seven {
            ("system", "NEW.schema_version <> OLD.schema_version")
        } else {
            ("key_value", "NEW.collection = 'system.schema' AND NEW.value <> OLD.value")
        };
        let sql = if broken {
            format!(
                "DELIMITER //\nCREATE TRIGGER kedge_breaks BEFORE UPDATE ON {table} FOR EACH ROW IF {when} THEN SIGNAL SQLSTATE '45000' \
                 SET MESSAGE_TEXT = 'broken on purpose'; END IF//\n"
            )
        } else {
            "DROP TRIGGER kedge_breaks;".to_owned()
        };
        self.bench.sh_ok("mariadb \"$1\"", &[site.database.name.as_str()], sql.as_bytes()).await;
    }
}

/// `sites.php` of somebody else keeps every byte, and a platform that is not one is refused with what is wrong.
pub(super) async fn foreign_lines_of_a_platform_stay(drupal: &DrupalBench<'_>) {
    let (app, files, root) = (drupal.app(), drupal.files(), &drupal.roots[0]);
    let path = format!("{root}/sites/sites.php");
    for theirs in ["<?php\n$sites['alias.test'] = 'default';\n", "<?php\n$sites['alias.test'] = 'default';"] {
        let access = Access { mode: 0o640, user: None, group: None };
        let there = files.read(&path).await.unwrap().map(|file| file.sha256);
        files.put(&path, theirs.as_bytes(), &access, there.as_deref()).await.unwrap();
        assert!(app.prepare_platform(root).await.unwrap());
        assert!(files.read(&path).await.unwrap().unwrap().bytes.starts_with(theirs.as_bytes()));
        app.unprepare_platform(root).await.unwrap();
        let after = files.read(&path).await.unwrap().unwrap();
        assert_eq!((after.bytes.as_slice(), after.mode), (theirs.as_bytes(), 0o640));
    }
    let there = files.read(&path).await.unwrap().unwrap();
    files.restore(&path, None, &[there.sha256]).await.unwrap();
    let elsewhere = if drupal.seven { "/srv/platforms" } else { root.trim_end_matches("/web") };
    match app.platform_facts(elsewhere).await {
        Err(PortError::Refused(message)) => {
            assert!(message.contains("no Drupal") || message.contains("not a Drupal"), "{message}");
            assert!(drupal.seven || message.contains("its docroot is"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

/// Without drush a platform is refused, and the message says what to do.
pub(super) async fn a_platform_without_drush_is_refused(drupal: &DrupalBench<'_>) {
    if !drupal.seven {
        return;
    }
    let (bench, files) = (drupal.bench, drupal.files());
    let without = Drupal::new(bench.host.clone(), files, bench.secrets(), bench.scope(), "www-data", None);
    match without.platform_facts(&drupal.roots[0]).await {
        Err(PortError::Refused(message)) => assert!(message.contains("drush = "), "{message}"),
        other => panic!("{other:?}"),
    }
    let site = SiteName::parse("a.example.test").unwrap();
    assert!(!without.smoke_checks(&site).is_empty());
}
