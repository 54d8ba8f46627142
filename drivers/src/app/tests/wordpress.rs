//! What only WordPress has.

use kedge_workflows::names::{DatabaseName, SiteName};
use kedge_workflows::ports::{
    Access, AppDatabase, AppSite, DatabaseFingerprint, InstallRequest, Mark, PortError, Reach, SecretRef,
    Secrets,
};
use kedge_workflows::testing::AppBench;

use super::real::Bench;

/// A published site with its database.
struct Site {
    site: AppSite,
    mark: Mark,
    request: InstallRequest,
}

impl Site {
    async fn install(bench: &Bench, root: &str, label: &str) -> Self {
        let name = SiteName::parse(&format!("{label}.example.test")).unwrap();
        let schema = DatabaseName::parse(&format!("kt_{label}")).unwrap();
        let (mark, password) =
            (Mark { task: "t1".into(), site: name.to_string() }, SecretRef(format!("tests/{label}")));
        let (app, files, database) = (bench.app(), bench.files(), bench.database());
        app.prepare_platform(root).await.unwrap();
        database.create_schema(&schema, &mark, None).await.unwrap();
        database.create_user(&schema, &schema, &password, &mark).await.unwrap();
        let dir = format!("{root}/sites/{name}");
        let site = AppSite {
            live_dir: dir.clone(),
            dir: dir.clone(),
            platform_root: root.to_owned(),
            name,
            aliases: Vec::new(),
            database: AppDatabase {
                server: "db1".into(),
                address: database.address_for_sites(),
                name: schema.clone(),
                user: schema,
                password: password.clone(),
            },
            reach: Reach::default(),
            quiet: false,
        };
        files.make_dir(&dir, &Access { mode: 0o755, user: None, group: None }, true).await.unwrap();
        app.fill_skeleton(root, &dir).await.unwrap();
        app.write_settings(&site).await.unwrap();
        files.fix_access(&dir, &app.access_rules()).await.unwrap();
        let request = InstallRequest {
            title: label.to_owned(),
            admin_email: "a@b.test".into(),
            admin_user: "chief".into(),
            admin_password: SecretRef(format!("tests/{label}-admin")),
            language: None,
            profile: None,
        };
        bench.secrets.ensure(&request.admin_password).await.unwrap();
        app.install(&site, &request).await.unwrap();
        let made = Self { site, mark, request };
        // The test host has no way out; waiting for that at every visit is not what is tested.
        made.settings(bench, "define( 'WP_HTTP_BLOCK_EXTERNAL', true );\n").await;
        made
    }

    /// Adds a line to the site's own settings.
    async fn settings(&self, bench: &Bench, line: &str) {
        let files = bench.files();
        let path = format!("{}/wp-config.php", self.site.dir);
        let file = files.read(&path).await.unwrap().unwrap();
        let text = String::from_utf8(file.bytes).unwrap().replacen(
            "// END kedge\n",
            &format!("// END kedge\n{line}"),
            1,
        );
        let access = Access { mode: 0o440, user: Some("root".into()), group: Some("www-data".into()) };
        files.put(&path, text.as_bytes(), &access, Some(&file.sha256)).await.unwrap();
    }

    /// Puts a file of PHP where it is loaded whatever happens.
    async fn must_use(&self, bench: &Bench, code: &str) {
        let script = r#"mkdir -p "$1/wp-content/mu-plugins"; cat >"$1/wp-content/mu-plugins/test.php""#;
        bench.sh_ok(script, &[&self.site.dir], format!("<?php\n{code}\n").as_bytes()).await;
    }

    async fn remove(self, bench: &Bench) {
        let (files, database, app) = (bench.files(), bench.database(), bench.app());
        files.remove_tree(&self.site.dir, &self.site.platform_root).await.unwrap();
        app.unprepare_platform(&self.site.platform_root).await.unwrap();
        database.drop_schema(&self.site.database.name, &self.mark).await.unwrap();
        database.drop_user(&self.site.database.user, &self.site.database.password, &self.mark).await.unwrap();
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, PortError>) -> String {
    match result {
        Err(PortError::Refused(message)) => message,
        other => panic!("{other:?}"),
    }
}

pub(super) async fn a_site_survives_what_its_code_does(bench: &Bench) {
    let [root, _] = bench.platforms();
    let site = Site::install(bench, &root, "noisy").await;
    let app = bench.app();
    // Prints, notices, and a great deal of them.
    site.must_use(
        bench,
        "echo 'hello'; echo $undefined; for ($i = 0; $i < 40000; $i++) { echo str_repeat('x', 1000); }",
    )
    .await;
    app.update_database(&site.site).await.expect("noise is no harm");
    app.install(&site.site, &site.request).await.expect("noise is no harm");
    for (code, expected) in [
        ("throw new RuntimeException('broken on purpose');", "broken on purpose"),
        (
            "add_action('init', function () { undefined_function_of_a_plugin(); });",
            "undefined_function_of_a_plugin",
        ),
        ("wp_die('The plugin <b>says</b> no');", "The plugin says no"),
        ("exit('plain text');", "plain text"),
    ] {
        site.must_use(bench, code).await;
        let message = refused(app.update_database(&site.site).await);
        assert!(message.contains(expected) && message.contains("noisy.example.test"), "{message}");
    }
    site.must_use(bench, "").await;
    let secret = bench.secrets.get(&site.site.database.password).await.unwrap().unwrap();
    site.must_use(bench, "throw new Exception('connecting with ' . DB_PASSWORD);").await;
    let message = refused(app.update_database(&site.site).await);
    assert!(message.contains("connecting with ***") && !message.contains(secret.expose()), "{message}");
    site.must_use(bench, "").await;
    site.settings(bench, "define( 'WP_ALLOW_MULTISITE', true );\ndefine( 'MULTISITE', true );\n").await;
    let message = refused(app.site_facts(&site.site).await);
    assert!(message.contains("multisite"), "{message}");
    site.remove(bench).await;
}

/// Serves a platform with PHP's own server and runs a script of visits against it.
async fn visit(bench: &Bench, root: &str, script: &str, host: &str, password: &str) -> String {
    let around = format!(
        r#"cd "$1"
setpriv --reuid=www-data --regid=www-data --clear-groups php -d display_errors=0 -S 127.0.0.1:8099 -t "$1" >/tmp/kedge-visits.log 2>&1 &
server=$!
trap 'kill $server' EXIT
jar=$(mktemp)
get() {{ curl -sS --retry 20 --retry-connrefused --retry-delay 0 --max-time 60 -b "$jar" -c "$jar" -H "Host: $2" "http://127.0.0.1:8099$1"; }}
get /readme.html "$2" >/dev/null
{script}
rm -f "$jar"
"#
    );
    bench.sh_ok(&around, &[root, host], password.as_bytes()).await
}

pub(super) async fn visits_change_volatile_rows_only(bench: &Bench) {
    for root in bench.platforms() {
        let site = Site::install(bench, &root, "visited").await;
        let app = bench.app();
        let print = DatabaseFingerprint {
            schema: site.site.database.name.clone(),
            user: Some(site.site.database.user.clone()),
            volatile: app.volatile_rows(),
            full: true,
        };
        let everything = DatabaseFingerprint { volatile: Vec::new(), ..print.clone() };
        let password = bench.secrets.get(&site.request.admin_password).await.unwrap().unwrap();
        let script = r#"
password=$(cat)
for path in / '/?p=1' '/?feed=rss2' '/?s=hello' '/?rest_route=/wp/v2/posts' /nowhere /wp-cron.php /wp-login.php; do get "$path" "$2" >/dev/null; done
curl -sS -b "$jar" -c "$jar" -H "Host: $2" -o /dev/null --data-urlencode log=chief --data-urlencode "pwd@-" -d testcookie=1 http://127.0.0.1:8099/wp-login.php <<END
$password
END
for path in /wp-admin/ /wp-admin/plugins.php /wp-admin/edit.php /wp-admin/post-new.php /wp-admin/options-general.php /wp-admin/site-health.php /wp-cron.php /; do get "$path" "$2" >/dev/null; done
get /wp-admin/index.php "$2"
"#;
        // The very first visits make things that stay: the theme's settings, the record of its styles.
        visit(bench, &root, script, site.site.name.as_str(), password.expose()).await;
        let before = bench.database().fingerprint(&print).await.unwrap();
        let all_before = bench.database().fingerprint(&everything).await.unwrap();
        let dashboard = visit(bench, &root, script, site.site.name.as_str(), password.expose()).await;
        assert!(
            dashboard.contains("wp-admin-bar-logout"),
            "not logged in: {}",
            &dashboard[..dashboard.len().min(500)]
        );
        let after = bench.database().fingerprint(&print).await.unwrap();
        let different: Vec<_> =
            after.entries.iter().filter(|entry| !before.entries.contains(entry)).collect();
        if !different.is_empty() {
            let names = bench
                .sh_ok("mariadb -N", &[], format!("SELECT option_name FROM {0}.wp_options ORDER BY option_id DESC LIMIT 30; SELECT meta_key FROM {0}.wp_usermeta ORDER BY umeta_id DESC LIMIT 12; SELECT post_type, post_status FROM {0}.wp_posts; SELECT meta_key FROM {0}.wp_postmeta", site.site.database.name).as_bytes())
                .await;
            panic!("{root}: visits changed {different:?}; the latest rows: {names}");
        }
        assert_ne!(
            bench.database().fingerprint(&everything).await.unwrap(),
            all_before,
            "the visits did nothing at all"
        );
        site.remove(bench).await;
    }
}

pub(super) async fn the_dispatcher_picks_by_host_and_nothing_else(bench: &Bench) {
    let [root, _] = bench.platforms();
    let site = Site::install(bench, &root, "picked").await;
    let script = r#"
for host in picked.example.test PICKED.example.test:8099 picked.example.test. other.example.test ../picked.example.test '' localhost .picked.example.test; do
    curl -sS -o /tmp/kedge-page -w '%{http_code} ' -H "Host: $host" "http://127.0.0.1:8099/"
    if grep -q '<title>picked' /tmp/kedge-page; then echo site; else tr -d '\n' </tmp/kedge-page; echo; fi
done
rm -f /tmp/kedge-page
"#;
    let seen = visit(bench, &root, script, "picked.example.test", "").await;
    let lines: Vec<&str> = seen.lines().collect();
    for (i, line) in lines.iter().enumerate() {
        // In capitals or with a port, WordPress sends visitors to its own address.
        let fine = match i {
            0 => *line == "200 site",
            1 | 2 => line.starts_with("200 site") || line.starts_with("301"),
            _ => *line == "404 There is no such site here." || line.starts_with("400"),
        };
        assert!(fine, "visit {i}: {line}");
    }
    assert_eq!(lines.len(), 8, "{lines:?}");
    // What the web server says counts more than what the visitor says.
    for (server, expected) in
        [("picked.example.test", "<title>picked"), (".hidden", "no such site"), ("../../etc", "no such site")]
    {
        let page = bench.sh("cd \"$1\"; exec env KEDGE_SITE=\"$2\" HTTP_HOST=picked.example.test REQUEST_METHOD=GET REQUEST_URI=/ SERVER_PROTOCOL=HTTP/1.1 SERVER_PORT=80 setpriv --reuid=www-data --regid=www-data --clear-groups php index.php", &[&root, server], b"").await;
        let (status, said) = (page.status, page.last_error());
        let page = String::from_utf8_lossy(&page.stdout).into_owned();
        assert!(page.contains(expected), "{server}: {status} {said} {}", &page[..page.len().min(300)]);
    }
    site.remove(bench).await;
}

pub(super) async fn no_secret_is_an_argument(bench: &Bench) {
    let [root, _] = bench.platforms();
    let site = Site::install(bench, &root, "quiet").await;
    // Holds the run until it was looked at.
    site.must_use(bench, "touch('/tmp/kedge-runs'); for ($i = 0; $i < 600 && !is_file('/tmp/kedge-seen'); $i++) { usleep(100000); clearstatcache(); }").await;
    let app = bench.app();
    let install = app.install(&site.site, &site.request);
    let look = async {
        let script = "until [ -e /tmp/kedge-runs ]; do sleep 0.1; done; cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null || true; touch /tmp/kedge-seen; chmod 644 /tmp/kedge-seen";
        bench.sh_ok(script, &[], b"").await
    };
    let (installed, seen) = tokio::join!(install, look);
    installed.unwrap();
    assert!(seen.contains("stream_get_line"), "the run was not seen");
    for secret in [&site.site.database.password, &site.request.admin_password] {
        let secret = bench.secrets.get(secret).await.unwrap().unwrap();
        assert!(!seen.contains(secret.expose()), "a secret is in an argument or environment");
    }
    bench.sh_ok("rm -f /tmp/kedge-runs /tmp/kedge-seen", &[], b"").await;
    site.remove(bench).await;
}

/// What an update of somebody's that broke off has left in the platform keeps visitors out, and nobody from looking.
pub(super) async fn a_platform_in_maintenance_is_looked_at(bench: &Bench) {
    let [root, _] = bench.platforms();
    let site = Site::install(bench, &root, "kept").await;
    bench.sh_ok("echo '<?php $upgrading = time();' >\"$1/.maintenance\"", &[&root], b"").await;
    let (app, seen) = (bench.app(), bench.app().site_facts(&site.site).await);
    let packages = app.packages(&site.site).await;
    bench.sh_ok("rm \"$1/.maintenance\"", &[&root], b"").await;
    assert!(seen.unwrap().installed && !packages.unwrap().is_empty());
    site.remove(bench).await;
}

pub(super) async fn a_login_link_lets_in_once(bench: &Bench) {
    let [root, _] = bench.platforms();
    let (site, other) =
        (Site::install(bench, &root, "entered").await, Site::install(bench, &root, "strange").await);
    let (app, link) = (bench.app(), SecretRef("tests/link".into()));
    let ask = async |until: u64| {
        app.login_link(&site.site, Some("chief"), &link, until).await.unwrap();
        let url = bench.secrets.get(&link).await.unwrap().unwrap();
        url.expose().strip_prefix("http://entered.example.test").unwrap().to_owned()
    };
    let script = r#"
link=$(cat)
look() { curl -sS -o /tmp/kedge-page -w '%{http_code} ' -H "Host: $2" "http://127.0.0.1:8099$1"; grep -c '<form method="post">' /tmp/kedge-page || true; }
enter() { curl -sS -b "$jar" -c "$jar" -o /dev/null -w '%{http_code} %{redirect_url}\n' -X POST -H "Host: $2" "http://127.0.0.1:8099$1"; }
look "$link" "$2"
look "$link" "$2"
enter "$link" "$2"
get /wp-admin/ "$2" | grep -o 'wp-admin-bar-logout' | head -1
enter "$link" "$2"
look "$link" "$2"
rm -f /tmp/kedge-page
"#;
    let host = site.site.name.as_str();
    let good = ask(u64::MAX / 2).await;
    let seen = visit(bench, &root, script, host, &good).await;
    let admin = "302 http://entered.example.test/wp-admin/";
    assert_eq!(
        seen.lines().collect::<Vec<_>>(),
        ["200 1", "200 1", admin, "wp-admin-bar-logout", "403 ", "403 0"]
    );
    let refused = ["403 0", "403 0", "403 ", "403 ", "403 0"];
    // Over, taken back, of another token, and of another site that has a copy of the row.
    let over = ask(1_000_000).await;
    assert_eq!(visit(bench, &root, script, host, &over).await.lines().collect::<Vec<_>>(), refused);
    let gone = ask(u64::MAX / 2).await;
    app.revoke_login(&site.site, &link).await.unwrap();
    assert_eq!(visit(bench, &root, script, host, &gone).await.lines().collect::<Vec<_>>(), refused);
    let real = ask(u64::MAX / 2).await;
    let forged = format!("{}{}", &real[..real.len() - 64], "0".repeat(64));
    assert_eq!(visit(bench, &root, script, host, &forged).await.lines().collect::<Vec<_>>(), refused);
    let copy = format!(
        "INSERT INTO {1}.wp_options (option_name, option_value) SELECT option_name, option_value FROM {0}.wp_options WHERE option_name LIKE '%kedge\\_login%'; SELECT COUNT(*) FROM {1}.wp_options WHERE option_name LIKE '%kedge\\_login%'",
        site.site.database.name, other.site.database.name
    );
    assert_eq!(bench.sh_ok("mariadb -N", &[], copy.as_bytes()).await, "2\n");
    let strange = visit(bench, &root, script, other.site.name.as_str(), &real).await;
    assert_eq!(strange.lines().collect::<Vec<_>>(), refused);
    // The hash is there, the link is not.
    let rows = "SELECT option_value FROM kt_entered.wp_options WHERE option_name LIKE '%kedge\\_login%'";
    let rows = bench.sh_ok("mariadb -N", &[], rows.as_bytes()).await;
    let token = real.rsplit('.').next().unwrap();
    assert!(rows.lines().count() == 2 && !rows.contains(token), "{rows}");
    site.remove(bench).await;
    other.remove(bench).await;
}
