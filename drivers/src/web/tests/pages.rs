//! What visitors of a site get, request by request, from both servers: the rules by what they do, not by their text.

use kedge_workflows::names::SiteName;
use kedge_workflows::ports::{AppKind, Reach, Vhost, VhostMode, VhostTarget};
use kedge_workflows::testing::WebServerBench;

use super::real::{Bench, bench};
use super::visitor::{Page, Visit, visit};
use crate::web::WebServerKind;

const ROOT: &str = "/srv/rules";
const SITE: &str = "shop.rules.test";
const TOKEN: &str = "0123456789-abcdefghij";

/// A platform and a site whose scripts say which of them runs, and how.
const MAKE: &str = r#"
root=$1 site=$1/sites/$2
mkdir -p "$root"/wp-admin "$root"/wp-includes "$root"/wp-content/plugins "$root"/.git "$root"/sites/other.test
mkdir -p "$site"/wp-content/uploads/2024 "$site"/wp-content/uploads/closed "$site"/wp-content/uploads/open
mkdir -p "$site"/wp-content/plugins/p "$site"/wp-content/themes/t /var/www/html/.well-known/acme-challenge
script() {
    printf '<?php header("X-Asked: " . $_SERVER["REQUEST_URI"]); printf("%%s|%%s|%%s|%%s|%%s", "%s", $_SERVER["KEDGE_SITE"] ?? "", $_SERVER["PATH_INFO"] ?? "", getenv("HTTP_PROXY"), $_SERVER["DOCUMENT_ROOT"]);' "$1"
}
for name in index wp-login wp-config wp-admin/index wp-admin/install wp-admin/setup-config; do script "$name" >"$root/$name.php"; done
printf '<?php echo $_SERVER["HTTP_AUTHORIZATION"] ?? "none";' >"$root/wp-who.php"
script foreign >"$root/sites/other.test/wp-config.php"
script platform >"$root/wp-content/plugins/only-here.php"
script plugin >"$site/wp-content/plugins/p/endpoint.php"
for name in x.php x.phtml x.php.jpg index.php open/x.php; do script upload >"$site/wp-content/uploads/$name"; done
printf 'deny from all\n' >"$site/wp-content/uploads/closed/.htaccess"
printf 'SetHandler "proxy:unix:/run/php/php-fpm.sock|fcgi://localhost"\nRequire all granted\nOptions +Indexes\n' >"$site/wp-content/uploads/open/.htaccess"
script upload >"$site/wp-content/uploads/open/x.txt"
for name in closed/file.txt 2024/a.jpg readme.txt; do echo file >"$site/wp-content/uploads/$name"; done
for name in debug.log plugins/p/readme.txt plugins/p/dump.sql themes/t/style.css; do echo file >"$site/wp-content/$name"; done
for name in .env .git/config dump.sql dump.sql.gz readme.html wp-config.php.bak wp-includes/a.js; do echo file >"$root/$name"; done
echo "$site" >"$site/secret.txt"
echo proof >/var/www/html/.well-known/acme-challenge/token
chown -R www-data:www-data "$site"
chmod -R a+rX /srv/rules
"#;

async fn publish(bench: &Bench, mode: VhostMode) -> String {
    publish_site(bench, mode, (SITE, ROOT, AppKind::Wordpress)).await
}

async fn publish_site(bench: &Bench, mode: VhostMode, (site, root, app): (&str, &str, AppKind)) -> String {
    let site_dir = format!("{root}/sites/{site}");
    let site = SiteName::parse(site).unwrap();
    let target = VhostTarget { platform_root: root.into(), site_dir, app };
    let target = (!matches!(mode, VhostMode::Redirect { .. })).then_some(target);
    let vhost = Vhost { site: site.clone(), aliases: vec![], mode, target, reach: Reach::default() };
    let server = bench.server();
    let before = server.vhost(&site).await.unwrap().map(|file| file.sha256);
    let rendered = server.put_vhost(&site, &vhost, before.as_deref()).await.unwrap();
    server.reload(&site, Some(&rendered.revision)).await.unwrap();
    rendered.revision
}

async fn ask(bench: &Bench, path: &str) -> Page {
    visit(bench.port(), &Visit::to(SITE, path)).await
}

async fn scripts_and_files_come_from_where_they_belong(bench: &Bench) {
    let says = |name: &str, path_info: &str| format!("{name}|{SITE}|{path_info}||{ROOT}");
    for (path, expected) in [
        ("/", says("index", "")),
        ("/a/pretty/link/?page=2", says("index", "")),
        ("/index.php/almost/pretty", says("index", "/almost/pretty")),
        ("/wp-login.php", says("wp-login", "")),
        ("/wp-admin/", says("wp-admin/index", "")),
        ("/wp-content/plugins/p/endpoint.php/more?x=y", says("plugin", "/more")),
        ("/wp-content/plugins/only-here.php", says("index", "")),
        ("/wp-content/uploads/gone.jpg", says("index", "")),
        ("/no-such-script.php", says("index", "")),
        ("/.well-known/security.txt", says("index", "")),
        ("/wp-content/uploads/2024/a.jpg", "file\n".into()),
        ("/wp-content/uploads/readme.txt", "file\n".into()),
        ("/wp-content/themes/t/style.css", "file\n".into()),
        ("/wp-includes/a.js", "file\n".into()),
        ("/.well-known/acme-challenge/token", "proof\n".into()),
    ] {
        let page = visit(bench.port(), &Visit::to(SITE, path).header("Proxy", "http://evil.test/")).await;
        assert_eq!((page.status, page.text()), (200, expected), "{path}");
    }
    for path in [
        "/sites",
        "/sites/?page=2",
        "/SITES/",
        "/sites/team/",
        "/sites/other.test/",
        "/sites/other.test/wp-config.php",
        "//sites/other.test/wp-config.php",
        "/%73ites/other.test/wp-config.php",
        "/x/../sites/other.test/wp-config.php",
        "/sites/shop.rules.test/secret.txt",
        "/sites/shop.rules.test/wp-content/uploads/2024/a.jpg",
    ] {
        let page = ask(bench, path).await;
        assert_eq!((page.status, page.text()), (200, says("index", "")), "{path}: only a page can be there");
    }
    let asked = ask(bench, "/sites/team/?page=2").await;
    assert_eq!(asked.header("x-asked"), Some("/sites/team/?page=2"), "which one, the application sees");
    let who = visit(bench.port(), &Visit::to(SITE, "/wp-who.php").header("Authorization", "Bearer x")).await;
    assert_eq!((who.status, who.text()), (200, "Bearer x".into()), "an application sees who asks");
    let directory = ask(bench, "/wp-admin").await;
    assert_eq!(directory.status, 301);
    assert!(directory.header("location").unwrap().ends_with("/wp-admin/"));
}

async fn what_is_nobodys_business_is_denied(bench: &Bench) {
    for path in [
        "/.env",
        "/.git/config",
        "/.well-known/.git",
        "/dump.sql",
        "/DUMP.SQL",
        "/dump.sql.gz",
        "/wp-content/plugins/p/dump.sql",
        "/readme.html",
        "/wp-content/plugins/p/readme.txt",
        "/wp-content/debug.log",
        "/wp-config.php",
        "/wp-config.php/x",
        "/wp-config.php.bak",
        "/wp-admin/install.php",
        "/wp-admin/setup-config.php",
        "/wp-content/uploads/x.php",
        "/wp-content/uploads/x.PHP",
        "/wp-content/uploads/x%2ephp",
        "/wp-content//uploads/x.php",
        "/wp-content/uploads/x.phtml",
        "/wp-content/uploads/x.php.jpg",
        "/wp-content/uploads/2024/a.jpg/x.php",
        "/wp-content/uploads/open/x.php",
        "/wp-content/uploads/",
        "/wp-content/uploads/2024/",
    ] {
        let page = ask(bench, path).await;
        assert_eq!(page.status, 403, "{path}: {}", page.text());
        assert!(!page.text().contains(['|']) && !page.text().contains("file\n"), "{path}: {}", page.text());
    }
    let text = ask(bench, "/wp-content/uploads/open/x.txt").await;
    assert!(text.text().starts_with("<?php"), "a .htaccess makes no script of a file: {}", text.text());
    if bench.kind == WebServerKind::Apache {
        assert_eq!(
            ask(bench, "/wp-content/uploads/closed/file.txt").await.status,
            403,
            "denials in .htaccess count"
        );
    }
}

async fn maintenance_lets_only_the_token_pass(bench: &Bench) {
    let revision = publish(bench, VhostMode::Maintenance { bypass: Some(TOKEN.into()) }).await;
    let with = |path: &str, cookie: String| {
        let request = Visit::to(SITE, path).header("Cookie", &cookie);
        async move { visit(bench.port(), &request).await }
    };
    for path in
        ["/", "/wp-login.php", "/wp-content/themes/t/style.css", "/.well-known/kedge-revisions", "/sites/"]
    {
        for cookie in [
            "a=b".to_owned(),
            format!("kedge_bypass={TOKEN}x"),
            format!("xkedge_bypass={TOKEN}"),
            "kedge_bypass=".to_owned(),
        ] {
            let page = with(path, cookie.clone()).await;
            assert_eq!(page.status, 503, "{path} with {cookie}");
            assert_eq!(
                (page.header("retry-after"), page.header("cache-control")),
                (Some("120"), Some("no-store"))
            );
            assert!(page.header("content-type").unwrap().starts_with("text/html"), "{path}");
            assert!(page.text().contains("Back in a few minutes"));
        }
    }
    let cookie = format!("a=b; kedge_bypass={TOKEN}; c=d");
    assert!(with("/pretty", cookie.clone()).await.text().starts_with("index|shop"));
    assert_eq!(with("/wp-content/themes/t/style.css", cookie.clone()).await.text(), "file\n");
    assert_eq!(with("/.git/config", cookie.clone()).await.status, 403, "who passes is still a visitor");
    always_open(bench, &revision).await;
}

async fn always_open(bench: &Bench, revision: &str) {
    let page = ask(bench, "/.well-known/kedge-revision").await;
    assert_eq!(
        (page.status, page.text().trim(), page.header("cache-control")),
        (200, revision, Some("no-store"))
    );
    assert_eq!(ask(bench, "/.well-known/acme-challenge/token").await.text(), "proof\n");
    assert_eq!(ask(bench, "/.well-known/acme-challenge/none").await.status, 404);
}

async fn away_pages_say_so(bench: &Bench) {
    for (mode, words, retry) in [
        (VhostMode::Maintenance { bypass: None }, "Back in a few minutes", Some("120")),
        (VhostMode::Disabled, "This site is disabled", None),
    ] {
        let revision = publish(bench, mode).await;
        for path in ["/", "/style.css", "/wp-content/uploads/2024/a.jpg", "/wp-login.php", "/sites/"] {
            let page = visit(
                bench.port(),
                &Visit::to(SITE, path).header("Cookie", &format!("kedge_bypass={TOKEN}")),
            )
            .await;
            assert_eq!((page.status, page.header("retry-after")), (503, retry), "{path}");
            assert!(
                page.text().contains(words) && page.header("content-type").unwrap().starts_with("text/html"),
                "{path}"
            );
        }
        always_open(bench, &revision).await;
    }
    let revision =
        publish(bench, VhostMode::Redirect { to: SiteName::parse("new.rules.test").unwrap() }).await;
    for path in ["/", "/a%20b/%e3%81%82?q=%41&b=http://c/", "//x.test/y"] {
        let page = ask(bench, path).await;
        assert_eq!(
            (page.status, page.header("location")),
            (301, Some(format!("http://new.rules.test{path}").as_str()))
        );
    }
    always_open(bench, &revision).await;
}

/// A Drupal site with files, one of them a script.
const MAKE_DRUPAL: &str = r#"
files=$1/sites/$2/files
mkdir -p "$files/inline" "$1/sites/default/files" "$1/sites/default/private"
echo file >"$files/inline/a b.txt"
echo private >"$1/sites/default/private/file.txt"
printf '<?php echo "upload";' >"$files/x.php"
printf '<?php echo "index|", $_SERVER["REQUEST_URI"];' >"$1/index.php"
chmod -R a+rX "$1"
"#;

/// Links to where the files of a site that was alone on its Drupal were.
async fn urls_of_before_lead_to_a_drupals_files(bench: &Bench) {
    let (site, root) = ("drupal.rules.test", "/srv/rules-drupal");
    bench.sh(MAKE_DRUPAL, &[root, site], b"").await;
    publish_site(bench, VhostMode::Live, (site, root, AppKind::Drupal)).await;
    for (path, status, text) in [
        ("/sites/drupal.rules.test/files/inline/a%20b.txt", 200, "file\n"),
        ("/sites/default/files/inline/a%20b.txt?x=y", 200, "file\n"),
        ("/sites/default/files/gone.txt?x=y", 200, "index|/sites/default/files/gone.txt?x=y"),
        ("/files/inline/a%20b.txt", 200, "file\n"),
        ("/files/gone.txt", 200, "index|/files/gone.txt"),
        ("/files/inline", 200, "index|/files/inline"),
        ("/files/x.php", 403, ""),
        ("/sites/default/files/x.php", 403, ""),
        ("/sites/default/files/../private/file.txt", 403, ""),
        ("/sites/default/private/file.txt", 403, ""),
        ("/sites/default/settings.php", 403, ""),
    ] {
        let page = visit(bench.port(), &Visit::to(site, path)).await;
        assert_eq!(page.status, status, "{path}: {}", page.text());
        assert!(status == 403 || page.text() == text, "{path}: {}", page.text());
    }
}

async fn pages(kind: WebServerKind) {
    let Some(bench) = bench(kind).await else { return };
    bench.sh(MAKE, &[ROOT, SITE], b"").await;
    let revision = publish(&bench, VhostMode::Live).await;
    always_open(&bench, &revision).await;
    scripts_and_files_come_from_where_they_belong(&bench).await;
    what_is_nobodys_business_is_denied(&bench).await;
    maintenance_lets_only_the_token_pass(&bench).await;
    away_pages_say_so(&bench).await;
    urls_of_before_lead_to_a_drupals_files(&bench).await;
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_gives_visitors_what_is_theirs() {
    pages(WebServerKind::Nginx).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apache_gives_visitors_what_is_theirs() {
    pages(WebServerKind::Apache).await;
}
