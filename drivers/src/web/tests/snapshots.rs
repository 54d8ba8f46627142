//! What is rendered for each mode and application, byte for byte. `KEDGE_BLESS=1` writes the snapshots anew.

use std::path::PathBuf;

use kedge_workflows::names::SiteName;
use kedge_workflows::ports::{AppKind, Reach, Tls, Vhost, VhostMode, VhostTarget};

use crate::web::dialect;
use crate::web::vhost::{Origin, origin, rendered, validate};
use crate::web::{PhpFpm, WebServerConfig, WebServerKind};

fn name(text: &str) -> SiteName {
    SiteName::parse(text).unwrap()
}

fn vhost(mode: VhostMode, app: Option<AppKind>) -> Vhost {
    let target = app.map(|app| VhostTarget {
        platform_root: "/srv/platforms/wordpress-6.1".into(),
        site_dir: "/srv/platforms/wordpress-6.1/sites/shop.example.test".into(),
        app,
    });
    let aliases = ["www.shop.example.test", "shop.example.test", "old.example.test", "www.shop.example.test"];
    Vhost {
        site: name("shop.example.test"),
        aliases: aliases.map(name).to_vec(),
        mode,
        target,
        reach: Reach::default(),
    }
}

fn reached(vhost: Vhost, only: bool, canonical: Option<&str>) -> Vhost {
    let (certificate, key) = ("/etc/ssl/shop/chain.pem".to_owned(), "/etc/ssl/shop/key.pem".to_owned());
    let tls = Some(Tls { certificate, key, self_signed: false, only });
    Vhost { reach: Reach { tls, canonical: canonical.map(name), ..Reach::default() }, ..vhost }
}

fn cases() -> Vec<(&'static str, Vhost)> {
    let wordpress = Some(AppKind::Wordpress);
    let bypass = Some("t0k3n-0123456789abcdef".to_owned());
    vec![
        ("live-wordpress", vhost(VhostMode::Live, wordpress)),
        ("live-drupal", vhost(VhostMode::Live, Some(AppKind::Drupal))),
        ("live-plain", vhost(VhostMode::Live, Some(AppKind::Plain))),
        ("maintenance-bypass", vhost(VhostMode::Maintenance { bypass }, wordpress)),
        ("maintenance", vhost(VhostMode::Maintenance { bypass: None }, wordpress)),
        ("disabled", vhost(VhostMode::Disabled, wordpress)),
        (
            "live-secure",
            reached(vhost(VhostMode::Live, Some(AppKind::Plain)), false, Some("www.shop.example.test")),
        ),
        ("live-only-secure", reached(vhost(VhostMode::Live, wordpress), true, Some("shop.example.test"))),
        ("live-only-secure-same-name", reached(vhost(VhostMode::Live, Some(AppKind::Plain)), true, None)),
        (
            "maintenance-secure",
            reached(
                vhost(VhostMode::Maintenance { bypass: None }, wordpress),
                true,
                Some("old.example.test"),
            ),
        ),
        ("redirect", vhost(VhostMode::Redirect { to: name("new.example.test") }, None)),
    ]
}

fn config(kind: WebServerKind) -> WebServerConfig {
    let php_fpm = PhpFpm::parse("unix:/run/php/php-fpm.sock").unwrap();
    WebServerConfig::new("web1", kind, "/etc/vhosts", php_fpm)
}

fn check(kind: WebServerKind, prefix: &str) {
    let config = config(kind);
    for (case, vhost) in cases() {
        validate(&vhost.site, &vhost).unwrap();
        let render = || rendered(&vhost.site, |revision| dialect::of(kind).render(&config, &vhost, revision));
        let seen = render();
        assert_eq!(seen, render(), "{case}: the same vhost, the same bytes");
        assert_eq!(origin(seen.text.as_bytes()), Origin::Ours(seen.revision.clone()), "{case}");
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join(format!("src/web/tests/snapshots/{prefix}-{case}.conf"));
        if std::env::var_os("KEDGE_BLESS").is_some() {
            std::fs::write(&path, &seen.text).unwrap();
        }
        let expected =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(
            seen.text == expected,
            "{} differs; KEDGE_BLESS=1 writes it anew. Now:\n{}",
            path.display(),
            seen.text
        );
    }
}

#[test]
fn nginx_renders_every_mode() {
    check(WebServerKind::Nginx, "nginx");
}

#[test]
fn apache_renders_every_mode() {
    check(WebServerKind::Apache, "apache");
}

#[test]
fn addresses_and_ports_are_rendered() {
    for (kind, listen) in [
        (WebServerKind::Nginx, "    listen 192.0.2.7:8081;\n    listen [::]:8081;\n"),
        (WebServerKind::Apache, "<VirtualHost 192.0.2.7:8081 [::]:8081>\n"),
    ] {
        let mut config = config(kind);
        config.listen_port = 8081;
        config.listen_addresses = vec!["192.0.2.7".parse().unwrap(), "::".parse().unwrap()];
        config.php_fpm = PhpFpm::parse("[::1]:9000").unwrap();
        let text = dialect::of(kind).render(&config, &cases()[0].1, "r");
        assert!(text.contains(listen) && text.contains("[::1]:9000"), "{text}");
    }
}
