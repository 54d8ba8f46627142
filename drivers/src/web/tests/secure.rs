//! Files that somebody else wrote for visitors with HTTPS, as they usually are: in the site's own file, and in one beside it.

use std::sync::Arc;

use kedge_workflows::ports::{Files, PortError, Reach, Tls, Vhost, VhostMode, WebServer};
use kedge_workflows::testing::{FakeDisk, FakeFiles, Faults};

use super::scripted::{Scripted, scope, shared, site};
use crate::web::{VhostServer, WebServerKind};

const OWN: &str = "/etc/vhosts/a.test.conf";
const PLAIN: &str = "/etc/vhosts/a.conf";
const SECURE: &str = "/etc/vhosts/a-le-ssl.conf";

/// The blocks of a site for plain HTTP and for HTTPS, as certbot leaves them.
fn blocks(kind: WebServerKind) -> [&'static str; 2] {
    match kind {
        WebServerKind::Nginx => [
            "server {\n    listen 80;\n    listen [::]:80;\n    server_name a.test;\n    return 301 https://$host$request_uri;\n}\n",
            "server {\n    server_name a.test;\n    listen [::]:443 ssl;\n    listen 443 ssl; # managed by Certbot\n}\n",
        ],
        WebServerKind::Apache => [
            "<VirtualHost *:80>\nServerName a.test\nRewriteEngine on\nRewriteRule ^ https://%{SERVER_NAME}%{REQUEST_URI} [END,NE,R=permanent]\n</VirtualHost>\n",
            "<IfModule mod_ssl.c>\n<VirtualHost *:443>\nServerName a.test\nSSLEngine on\n</VirtualHost>\n</IfModule>\n",
        ],
    }
}

/// A server with these vhost files.
fn with(kind: WebServerKind, there: &[(&'static str, String)]) -> VhostServer {
    let disk = FakeDisk::new();
    disk.make_dir("/etc/vhosts");
    there.iter().for_each(|(path, text)| disk.write(path, text.clone()));
    let files: Arc<dyn Files> = Arc::new(FakeFiles::new(disk, Faults::new()));
    let there = there.to_vec();
    let host = Scripted::new(move |words, _| match words {
        words if words.starts_with("sh -c for program") => {
            (0, "/usr/sbin/nginx\n/usr/sbin/apache2ctl\n".into())
        }
        "nginx -t" | "apache2ctl -t" => (0, String::new()),
        "nginx -T" => {
            let file = |(path, text): &(&str, String)| format!("# configuration file {path}:\n{text}");
            (0, there.iter().map(file).collect())
        }
        words if words.starts_with("apache2ctl -t -D") => {
            let file = |(path, _): &(&str, String)| format!("  (1) {path}\n");
            (0, format!("Included configuration files:\n{}", there.iter().map(file).collect::<String>()))
        }
        words if words.starts_with("grep -aHZs") => {
            let asked = there.iter().filter(|(path, _)| words.split(' ').any(|word| word == *path));
            let lines =
                asked.flat_map(|(path, text)| text.lines().map(move |line| format!("{path}\0{line}\n")));
            (0, lines.collect())
        }
        other => panic!("nobody said that {other:?} would be run"),
    });
    shared(kind, |_| ()).handle(host, files, &scope())
}

fn vhost(tls: bool) -> Vhost {
    let certificate = Tls {
        certificate: "/etc/ssl/a.pem".into(),
        key: "/etc/ssl/a.key".into(),
        self_signed: false,
        only: true,
    };
    Vhost {
        site: site(),
        aliases: vec![],
        mode: VhostMode::Maintenance { bypass: None },
        target: None,
        reach: Reach { tls: tls.then_some(certificate), ..Reach::default() },
    }
}

#[tokio::test]
async fn one_file_with_both_ports_is_the_sites_where_it_has_a_certificate() {
    for kind in [WebServerKind::Nginx, WebServerKind::Apache] {
        let text = blocks(kind).concat();
        let server = with(kind, &[(PLAIN, text.clone())]);
        let there = server.vhost(&site()).await.unwrap().expect("by port 80");
        assert_eq!(there.path, PLAIN);
        assert_eq!(server.names_in(PLAIN).await.unwrap(), ["a.test", "a.test:443"]);
        assert_eq!(server.tls_port(), 443);
        assert_eq!(server.tls_server_of(&site()).await.unwrap().as_deref(), Some(PLAIN));

        let server = with(kind, &[(OWN, text)]);
        let there = server.vhost(&site()).await.unwrap().unwrap().sha256;
        let plain = server.put_vhost(&site(), &vhost(false), Some(&there)).await;
        assert!(matches!(plain, Err(PortError::NotOurs(_))), "{kind}: {plain:?}");
        server.put_vhost(&site(), &vhost(true), Some(&there)).await.unwrap();
    }
}

#[tokio::test]
async fn a_pattern_serves_a_name_and_does_not_have_it() {
    for (kind, text) in [
        (WebServerKind::Nginx, "server {\n    listen 443 ssl;\n    server_name *.test;\n}\n"),
        (
            WebServerKind::Apache,
            "<VirtualHost *:443>\nServerName b.test\nServerAlias *.test\nSSLEngine on\n</VirtualHost>\n",
        ),
    ] {
        let server = with(kind, &[(SECURE, text.to_owned())]);
        assert_eq!(server.tls_server_of(&site()).await.unwrap().as_deref(), Some(SECURE), "{kind}");
        assert_eq!(server.tls_named_in(&site()).await.unwrap(), None, "{kind}");
        server.put_vhost(&site(), &vhost(true), None).await.unwrap();
    }
    let [_, secure] = blocks(WebServerKind::Nginx);
    let server = with(WebServerKind::Nginx, &[(SECURE, secure.to_owned())]);
    assert_eq!(server.tls_named_in(&site()).await.unwrap().as_deref(), Some(SECURE));
}

#[tokio::test]
async fn https_in_a_file_of_its_own_is_seen_before_it_is_in_front() {
    for kind in [WebServerKind::Nginx, WebServerKind::Apache] {
        let [plain, secure] = blocks(kind).map(str::to_owned);
        let server = with(kind, &[(PLAIN, plain.clone()), (SECURE, secure.clone())]);
        assert_eq!(server.server_of(&site()).await.unwrap().as_deref(), Some(PLAIN));
        assert_eq!(server.tls_server_of(&site()).await.unwrap().as_deref(), Some(SECURE));
        assert_eq!(server.names_in(PLAIN).await.unwrap(), ["a.test"]);

        // The first file has made way, or is the site's own already.
        for there in [vec![(SECURE, secure.clone())], vec![(OWN, plain), (SECURE, secure)]] {
            let server = with(kind, &there);
            let expected = server.vhost(&site()).await.unwrap().map(|file| file.sha256);
            let put = server.put_vhost(&site(), &vhost(true), expected.as_deref()).await;
            let told = format!("a.test is served by {SECURE} already, on port 443");
            assert!(matches!(&put, Err(PortError::Refused(why)) if why.contains(&told)), "{kind}: {put:?}");
            server.put_vhost(&site(), &vhost(false), expected.as_deref()).await.unwrap();
            let put_back =
                with(kind, &there).put_back_vhost(&site(), &vhost(true), expected.as_deref()).await;
            assert!(put_back.is_ok(), "{kind}: what is put back asks nobody: {put_back:?}");
        }
    }
}
