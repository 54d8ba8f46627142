//! Plain sites on a real host.

use std::sync::Arc;

use kedge_workflows::names::{DatabaseName, SiteName};
use kedge_workflows::ports::{
    Access, App, AppDatabase, AppSite, InstallRequest, PortError, Reach, SecretRef, Secrets,
};
use kedge_workflows::testing::AppBench;

use super::real::Bench;
use crate::app::{Plain, PlainConfig};

pub(super) async fn a_plain_site_is_what_its_configuration_says(bench: &Bench) {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let config = PlainConfig {
        install_command: words("cp site.env data/installed"),
        update_command: vec![
            "sh".into(),
            "-c".into(),
            "echo \"$KEDGE_SITE $(id -un) $PWD\" >data/updated".into(),
        ],
        cache_command: vec![
            "sh".into(),
            "-c".into(),
            ". ./site.env; echo \"no: $DB_PASSWORD\" >&2; exit 3".into(),
        ],
        writable: vec!["data".into()],
        front_page_contains: vec!["welcome".into()],
        ..PlainConfig::default()
    };
    let secrets = Arc::new(bench.secrets.clone());
    let app =
        Plain::new(config, bench.host.clone(), bench.files(), secrets, bench.scope(), "www-data").unwrap();
    let root = "/srv/kedge-plain";
    let make = "mkdir -p /srv/kedge-plain/skeleton/docroot; echo welcome >/srv/kedge-plain/skeleton/docroot/index.html; echo 1.2 >/srv/kedge-plain/VERSION; mkdir -p /srv/kedge-plain/sites/.stage";
    bench.sh_ok(make, &[], b"").await;
    let site = staged(root);
    let secret = bench.secrets.ensure(&site.database.password).await.unwrap();
    let facts = app.platform_facts(root).await.unwrap();
    assert_eq!((facts.version.as_str(), facts.prepared), ("1.2", true));
    assert!(app.platform_facts("/srv/nowhere").await.is_err());
    assert!(!app.prepare_platform(root).await.unwrap());
    for _ in 0..2 {
        app.fill_skeleton(root, &site.dir).await.unwrap();
        app.write_settings(&site).await.unwrap();
    }
    bench.files().fix_access(&site.dir, &app.access_rules()).await.unwrap();
    let request = InstallRequest {
        title: "x".into(),
        admin_email: "a@b.test".into(),
        admin_user: "a".into(),
        admin_password: SecretRef("tests/plain-admin".into()),
        language: None,
        profile: None,
    };
    app.install(&site, &request).await.unwrap();
    assert!(app.site_facts(&site).await.unwrap().installed);
    app.update_database(&site).await.unwrap();
    let seen = bench.sh_ok("cat /srv/kedge-plain/sites/.stage/data/updated; stat -c '%a %U' /srv/kedge-plain/sites/.stage/site.env /srv/kedge-plain/sites/.stage/data/installed", &[], b"").await;
    assert_eq!(seen, "plain.example.test www-data /srv/kedge-plain/sites/.stage\n440 root\n440 www-data\n");
    let error = app.clear_caches(&site).await.unwrap_err();
    assert!(
        matches!(&error, PortError::Refused(what) if what.contains("no: ***") && !what.contains(secret.expose())),
        "{error:?}"
    );
    let file = bench.files().read(&format!("{}/site.env", site.dir)).await.unwrap().unwrap();
    let own = [file.bytes.as_slice(), b"OWN=1\n"].concat();
    let access = Access { mode: 0o440, user: Some("root".into()), group: Some("www-data".into()) };
    bench.files().put(&format!("{}/site.env", site.dir), &own, &access, Some(&file.sha256)).await.unwrap();
    app.write_settings(&site).await.unwrap();
    assert_eq!(bench.files().read(&format!("{}/site.env", site.dir)).await.unwrap().unwrap().bytes, own);
    bench.sh_ok("rm -r /srv/kedge-plain", &[], b"").await;
}

fn staged(root: &str) -> AppSite {
    let schema = DatabaseName::parse("plain").unwrap();
    AppSite {
        name: SiteName::parse("plain.example.test").unwrap(),
        aliases: Vec::new(),
        platform_root: root.into(),
        live_dir: format!("{root}/sites/plain.example.test"),
        dir: format!("{root}/sites/.stage"),
        database: AppDatabase {
            server: "db1".into(),
            address: "localhost".into(),
            name: schema.clone(),
            user: schema,
            password: SecretRef("tests/plain".into()),
        },
        reach: Reach::default(),
        quiet: false,
    }
}
