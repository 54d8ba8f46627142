//! The contract suite and the rules for visitors on real servers, in a test host. Runs with `KEDGE_DOCKER_TESTS=1`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kedge_testenv::{Exec, HostSpec, Progress, Service, Testenv};
use kedge_workflows::names::SiteName;
use kedge_workflows::ports::{
    Answer, AppKind, Get, PortError, PortResult, Reach, Scope, Vhost, VhostMode, VhostTarget, WebServer,
};
use kedge_workflows::testing::{WebServerBench, web_server_contract};

use super::visitor::{Visit, visit};
use crate::files::HostFiles;
use crate::host::{Command, Custody, DockerHost, Finished, Host, Output};
use crate::web::{PhpFpm, VhostServer, WebServerConfig, WebServerKind, WebServerShared};

/// A test host with one of its web servers as the subject.
pub(super) struct Bench {
    pub(super) kind: WebServerKind,
    pub(super) machine: kedge_testenv::Host,
    pub(super) host: Arc<Counting>,
    pub(super) shared: Arc<WebServerShared>,
    attempts: AtomicUsize,
    env: Testenv,
}

/// A host that counts how often a web server is told to take its files.
pub(super) struct Counting {
    inner: DockerHost,
    reloads: AtomicUsize,
}

#[async_trait]
impl Host for Counting {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn run(&self, command: Command) -> PortResult<Finished> {
        let words = command.argv.join(" ");
        if words.ends_with("-s reload")
            || words.ends_with("-k graceful")
            || words.starts_with("systemctl reload")
        {
            self.reloads.fetch_add(1, Ordering::SeqCst);
        }
        self.inner.run(command).await
    }

    async fn stream(&self, command: Command) -> PortResult<Output> {
        self.inner.stream(command).await
    }

    async fn clear(&self, scope: &Scope) -> PortResult<()> {
        self.inner.clear(scope).await
    }
}

/// `None`: the tests with containers are not asked for.
pub(super) async fn bench(kind: WebServerKind) -> Option<Bench> {
    if std::env::var_os("KEDGE_DOCKER_TESTS").is_none() {
        println!("skipped: KEDGE_DOCKER_TESTS=1 runs the web servers in containers");
        return None;
    }
    let env = Testenv::open(&Progress::stderr()).await.expect("a test environment");
    let machine = kedge_testenv::Host::start(&env, &HostSpec::web("web1")).await.expect("a test host");
    let inner = DockerHost::new("web1", machine.container_name(), Custody::new("web-tests"));
    let (dir, port, tls_port) = match kind {
        WebServerKind::Nginx => ("/etc/nginx/sites-enabled", 80, 443),
        WebServerKind::Apache => ("/etc/apache2/sites-enabled", 8080, 8443),
    };
    if kind == WebServerKind::Apache {
        let script = "a2enmod -q ssl && echo 'Listen 8443' >>/etc/apache2/ports.conf && apachectl graceful";
        machine.run_ok(Exec::new(["sh", "-c", script])).await.expect("Apache with TLS");
    }
    let php_fpm = PhpFpm::parse("unix:/run/php/php-fpm.sock").expect("a socket");
    let mut config = WebServerConfig::new("web1", kind, dir, php_fpm);
    config.listen_port = port;
    config.tls_port = tls_port;
    config.revision_limit = Duration::from_secs(20);
    let shared = WebServerShared::new(config).expect("a usable configuration");
    let host = Arc::new(Counting { inner, reloads: AtomicUsize::new(0) });
    Some(Bench { kind, machine, host, shared, attempts: AtomicUsize::new(0), env })
}

impl Bench {
    /// The server, on behalf of a new attempt.
    fn handle(&self) -> VhostServer {
        let attempt = self.attempts.fetch_add(1, Ordering::SeqCst);
        let scope = Scope { task: format!("web-contract-{attempt}"), step: "step".into() };
        let files = Arc::new(HostFiles::new(self.host.clone(), scope.clone()));
        self.shared.handle(self.host.clone(), files, &scope)
    }

    fn service(&self) -> Service {
        match self.kind {
            WebServerKind::Nginx => Service::Nginx,
            WebServerKind::Apache => Service::Apache,
        }
    }

    pub(super) fn port(&self) -> u16 {
        self.machine.port(self.service())
    }

    /// Runs a shell script of a test on the machine.
    pub(super) async fn sh(&self, script: &str, arguments: &[&str], stdin: &[u8]) {
        let shell = ["sh", "-eu", "-c", script, "sh"];
        let argv = shell.iter().chain(arguments).copied();
        self.machine.run_ok(Exec::new(argv).stdin(stdin)).await.expect("a script of the test");
    }

    pub(super) async fn end(self) {
        self.machine.shutdown().await.expect("removed");
        self.env.shutdown().await.expect("removed");
    }
}

#[async_trait]
impl WebServerBench for Bench {
    fn server(&self) -> Arc<dyn WebServer> {
        Arc::new(self.handle())
    }

    fn vhost_dir(&self) -> String {
        self.shared.config.vhost_dir.clone()
    }

    async fn make_site(&self, site: &SiteName, page: &str) -> VhostTarget {
        let platform_root = "/srv/kedge-contract".to_owned();
        let site_dir = format!("{platform_root}/sites/{site}");
        let script =
            r#"mkdir -p "$1/docroot" && cat >"$1/docroot/index.html" && chmod -R a+rX /srv/kedge-contract"#;
        self.sh(script, &[&site_dir], page.as_bytes()).await;
        VhostTarget { platform_root, site_dir, app: AppKind::Plain }
    }

    fn foreign_vhost(&self, names: &[&str], body: &str) -> Vec<u8> {
        let (names, port) = (names.join(" "), self.shared.config.listen_port);
        match self.kind {
            WebServerKind::Nginx => {
                format!("server {{ listen {port}; server_name {names}; location / {{ default_type text/html; return 200 \"{body}\"; }} }}\n")
            }
            WebServerKind::Apache => format!(
                "<VirtualHost *:{port}>\nServerName {}\nServerAlias {names}\nRewriteEngine On\nRewriteRule ^ - [R=200,L]\nErrorDocument 200 \"{body}\"\n\
                 </VirtualHost>\n",
                names.split(' ').next().unwrap_or_default()
            ),
        }
        .into_bytes()
    }

    fn broken_vhost(&self) -> Vec<u8> {
        b"kedge_has_no_such_directive on;\n".to_vec()
    }

    async fn write(&self, path: &str, bytes: Option<&[u8]>, symlink: Option<&str>) {
        let target = symlink.unwrap_or(path);
        match bytes {
            Some(bytes) => {
                let script =
                    r#"cat >"$2"; chown 0:33 "$2"; chmod 640 "$2"; [ "$1" = "$2" ] || ln -sfn "$2" "$1""#;
                self.sh(script, &[path, target], bytes).await;
            }
            None => self.sh(r#"rm -f "$1" "$2""#, &[path, target], b"").await,
        }
    }

    async fn visit(&self, host: &SiteName, path: &str) -> Answer {
        // A hundred visits a second are enough, and leave the machine to the servers.
        tokio::time::sleep(Duration::from_millis(10)).await;
        let page = visit(self.port(), &Visit::to(host.as_str(), path)).await;
        Answer {
            status: page.status,
            location: page.header("location").map(str::to_owned),
            content_type: page.header("content-type").map(str::to_owned),
            body: page.body,
        }
    }

    fn reloads(&self) -> usize {
        self.host.reloads.load(Ordering::SeqCst)
    }
}

async fn keeps_the_contract(kind: WebServerKind) {
    let Some(bench) = bench(kind).await else { return };
    assert_eq!(bench.handle().problems().await, Ok(vec![]), "a healthy server");
    web_server_contract(&bench).await;
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_keeps_the_contract() {
    keeps_the_contract(WebServerKind::Nginx).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apache_keeps_the_contract() {
    keeps_the_contract(WebServerKind::Apache).await;
}

/// A server that is down is told as such, is not started, and works again once somebody has started it.
async fn survives_its_absence(kind: WebServerKind) {
    let Some(bench) = bench(kind).await else { return };
    let site = SiteName::parse("absent.test").expect("a host name");
    let (server, service) = (bench.handle(), bench.service());
    let vhost = Vhost {
        site: site.clone(),
        aliases: vec![],
        mode: VhostMode::Disabled,
        target: None,
        reach: Reach::default(),
    };
    let rendered = server.put_vhost(&site, &vhost, None).await.expect("written");
    let revision = Some(rendered.revision.as_str());
    for kill in [false, true] {
        if kill {
            bench.machine.kill_service(service).await.expect("killed");
        } else {
            bench.machine.stop_service(service).await.expect("stopped");
        }
        let result = server.reload(&site, revision).await;
        assert!(matches!(result, Err(PortError::Unavailable(_))), "{result:?}");
        let get = Get { host: site.clone(), path: "/".into(), bypass: None };
        let result = server.get(&get).await;
        assert!(matches!(result, Err(PortError::Unavailable(_))), "nobody has started it: {result:?}");
        let problems = server.problems().await.expect("the host is there");
        assert!(problems.iter().any(|problem| problem.contains("nothing listens")), "{problems:?}");
        bench.machine.start_service(service).await.expect("started");
        server.reload(&site, revision).await.expect("reloaded");
    }
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_survives_its_absence() {
    survives_its_absence(WebServerKind::Nginx).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apache_survives_its_absence() {
    survives_its_absence(WebServerKind::Apache).await;
}
