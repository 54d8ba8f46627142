//! A test host with the drivers on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use kedge_testenv::{HostSpec, Progress, Testenv};
use kedge_workflows::ports::{App, AppSite, Database, Files, Scope, Secrets};
use kedge_workflows::testing::{AppBench, FakeSecrets, Faults};

use crate::app::WordPress;
use crate::files::HostFiles;
use crate::host::{Command, Custody, DockerHost, Finished, Host};
use crate::mysql::{DatabaseConfig, Mysql};

pub(super) struct Bench {
    pub(super) host: Arc<DockerHost>,
    pub(super) secrets: FakeSecrets,
    mysql: Mysql,
    attempts: AtomicUsize,
    started: (kedge_testenv::Host, Testenv),
}

impl Bench {
    /// `None`: the tests with containers are not asked for.
    pub(super) async fn open() -> Option<Self> {
        if std::env::var_os("KEDGE_DOCKER_TESTS").is_none() {
            println!("skipped: KEDGE_DOCKER_TESTS=1 runs the applications in containers");
            return None;
        }
        let env = Testenv::open(&Progress::stderr()).await.expect("a test environment");
        let machine =
            kedge_testenv::Host::start(&env, &HostSpec::web_and_database("app1")).await.expect("a test host");
        let host = Arc::new(DockerHost::new("app1", machine.container_name(), Custody::new("app-tests")));
        let secrets = FakeSecrets::new(Faults::new());
        let scope = Scope { task: "app-tests".into(), step: "first".into() };
        let mysql = Mysql::new(DatabaseConfig::local("db1"), host.clone(), scope, Arc::new(secrets.clone()));
        Some(Self { host, secrets, mysql, attempts: AtomicUsize::new(0), started: (machine, env) })
    }

    pub(super) async fn close(self) {
        self.started.0.shutdown().await.expect("removed");
        self.started.1.shutdown().await.expect("removed");
    }

    /// Copies a directory of this machine into one of the test host.
    pub(super) fn copy_in(&self, from: &std::path::Path, into: &str) {
        let into = format!("{}:{into}", self.started.0.container_name());
        let copied = std::process::Command::new("docker").arg("cp").arg("-q").arg(from).arg(into).status();
        assert!(copied.is_ok_and(|status| status.success()), "docker cp {} failed", from.display());
    }

    pub(super) fn scope(&self) -> Scope {
        let attempt = self.attempts.fetch_add(1, Ordering::SeqCst);
        Scope { task: format!("app-tests-{attempt}"), step: "step".into() }
    }

    /// Runs a shell script of a test on the machine.
    pub(super) async fn sh(&self, script: &str, arguments: &[&str], stdin: &[u8]) -> Finished {
        let start = ["sh", "-eu", "-c", script, "sh"];
        let scope = Scope { task: "bystander".into(), step: "sh".into() };
        let command = Command::new(&scope, start.iter().chain(arguments).copied()).input(stdin);
        self.host.run(command).await.expect("the shell runs")
    }

    pub(super) async fn sh_ok(&self, script: &str, arguments: &[&str], stdin: &[u8]) -> String {
        let finished = self.sh(script, arguments, stdin).await;
        assert_eq!(finished.status, 0, "{script}: {}", finished.last_error());
        String::from_utf8_lossy(&finished.stdout).into_owned()
    }
}

#[async_trait]
impl AppBench for Bench {
    fn left_by_a_killed_prepare(&self, root: &str) -> Option<String> {
        Some(format!("{root}/{}", crate::files::temporary("wp-config.php")))
    }

    fn app(&self) -> Arc<dyn App> {
        let secrets = Arc::new(self.secrets.clone());
        Arc::new(WordPress::new(self.host.clone(), self.files(), secrets, self.scope(), "www-data"))
    }

    fn files(&self) -> Arc<dyn Files> {
        Arc::new(HostFiles::new(self.host.clone(), self.scope()))
    }

    fn database(&self) -> Arc<dyn Database> {
        Arc::new(self.mysql.scoped(&self.scope()))
    }

    fn secrets(&self) -> Arc<dyn Secrets> {
        Arc::new(self.secrets.clone())
    }

    fn platforms(&self) -> [String; 2] {
        ["/srv/platforms/wordpress-6.1".to_owned(), "/srv/platforms/wordpress-6.8".to_owned()]
    }

    async fn break_update(&self, site: &AppSite, broken: bool) {
        // A right that the update needs: WordPress itself would go on and say that all is well.
        let user = &site.database.user;
        let word = if broken { "REVOKE UPDATE ON" } else { "GRANT ALL ON" };
        let to = if broken { "FROM" } else { "TO" };
        let schema = site.database.name.as_str().replace('_', "\\_");
        let sql = format!("{word} `{schema}`.* {to} '{user}'@'localhost';");
        self.sh_ok("mariadb", &[], sql.as_bytes()).await;
    }
}
