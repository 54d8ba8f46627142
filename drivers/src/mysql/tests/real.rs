//! The contract suite on real servers: with `KEDGE_DOCKER_TESTS=1` on a test host with MariaDB, with `KEDGE_MYSQL_TESTS=1` also on one with
//! Oracle's MySQL, with `KEDGE_DATABASE_CONTAINERS=a,b` also on running containers of the developer's (other versions), whose root
//! logs in by socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use kedge_testenv::{HostSpec, Progress, Testenv};
use kedge_workflows::names::DatabaseName;
use kedge_workflows::ports::{
    Database, DatabaseFingerprint, Login, Mark, PortError, Scope, Secret, SecretRef, Secrets,
};
use kedge_workflows::testing::{DatabaseBench, FakeSecrets, Faults, database_contract};

use crate::host::{Command, Custody, DockerHost, Finished, Host};
use crate::mysql::{DatabaseConfig, Mysql};

/// A real server.
pub(super) struct Bench {
    pub(super) container: String,
    pub(super) host: Arc<DockerHost>,
    pub(super) secrets: FakeSecrets,
    mysql: Mysql,
    attempts: AtomicUsize,
}

/// The servers that this run is asked to use, and what must be shut down behind.
pub(super) struct Benches {
    pub(super) all: Vec<Bench>,
    started: Option<(Vec<kedge_testenv::Host>, Testenv)>,
}

impl Benches {
    pub(super) async fn open() -> Self {
        let mut benches = Self { all: Vec::new(), started: None };
        let containers = std::env::var("KEDGE_DATABASE_CONTAINERS").unwrap_or_default();
        for name in containers.split(',').filter(|name| !name.is_empty()) {
            let bench = Bench::new(name);
            bench.clean().await;
            benches.all.push(bench);
        }
        if std::env::var_os("KEDGE_DOCKER_TESTS").is_some() {
            let env = Testenv::open(&Progress::stderr()).await.expect("a test environment");
            let mut specs = vec![HostSpec::database("db1")];
            if std::env::var_os("KEDGE_MYSQL_TESTS").is_some() {
                specs.push(HostSpec::mysql("db2"));
            } else {
                println!(
                    "skipped on MySQL: it needs an image of its own; `just mysql` makes it and runs this there"
                );
            }
            let mut machines = Vec::new();
            for spec in &specs {
                let machine = kedge_testenv::Host::start(&env, spec).await.expect("a test host");
                benches.all.push(Bench::new(machine.container_name()));
                machines.push(machine);
            }
            benches.started = Some((machines, env));
        }
        if benches.all.is_empty() {
            println!("skipped: KEDGE_DOCKER_TESTS=1 runs the database driver in containers");
        }
        benches
    }

    pub(super) async fn close(self) {
        if let Some((machines, env)) = self.started {
            for machine in machines {
                machine.shutdown().await.expect("removed");
            }
            env.shutdown().await.expect("removed");
        }
    }
}

pub(super) fn name(text: &str) -> DatabaseName {
    DatabaseName::parse(text).unwrap()
}

pub(super) fn mark() -> Mark {
    Mark { task: "0197-test".into(), site: "a.example.test".into() }
}

impl Bench {
    fn new(container: &str) -> Self {
        let host = Arc::new(DockerHost::new("db1", container, Custody::new("mysql-tests")));
        let secrets = FakeSecrets::new(Faults::new());
        let scope = Scope { task: "mysql-tests".into(), step: "first".into() };
        let mysql = Mysql::new(DatabaseConfig::local("db1"), host.clone(), scope, Arc::new(secrets.clone()));
        Self { container: container.to_owned(), host, secrets, mysql, attempts: AtomicUsize::new(0) }
    }

    pub(super) fn mysql(&self) -> Mysql {
        let attempt = self.attempts.fetch_add(1, Ordering::SeqCst);
        self.mysql.scoped(&Scope { task: format!("mysql-tests-{attempt}"), step: "step".into() })
    }

    /// Removes what a test that failed has left: a container of the developer's lives on.
    async fn clean(&self) {
        let list = "SELECT CONCAT('DROP DATABASE `', SCHEMA_NAME, '`;') FROM information_schema.SCHEMATA WHERE SCHEMA_NAME REGEXP '^k[ct]';\
                    SELECT CONCAT('DROP USER `', User, '`@`', Host, '`;') FROM mysql.user WHERE User REGEXP '^k[ct]|^kedge-|^gone$';";
        let sql = self.root(list).await;
        self.root(&sql).await;
    }

    fn command(&self, argv: &[&str]) -> Command {
        Command::new(&Scope { task: "bystander".into(), step: "sql".into() }, argv.iter().copied())
    }

    /// Runs SQL as a bystander: as root, or as a user with its password.
    pub(super) async fn sql(&self, login: Option<(&DatabaseName, &Secret)>, sql: &[u8]) -> Finished {
        let script = r#"client=$(command -v mariadb || command -v mysql); exec $client "$@""#;
        let mut argv = vec![
            "sh",
            "-c",
            script,
            "sh",
            "--batch",
            "--skip-column-names",
            "--default-character-set=utf8mb4",
        ];
        argv.extend(["--binary-mode", "--max-allowed-packet=1G"]);
        let user = login.map(|(user, _)| format!("--user={user}"));
        argv.extend(user.as_deref());
        let mut command = self.command(&argv).input(sql);
        if let Some((_, password)) = login {
            command = command.env("MYSQL_PWD", password.expose());
        }
        self.host.run(command).await.expect("the client runs")
    }

    pub(super) async fn root(&self, sql: &str) -> String {
        let finished = self.sql(None, sql.as_bytes()).await;
        assert_eq!(finished.status, 0, "{sql}: {}", finished.last_error());
        String::from_utf8(finished.stdout).unwrap()
    }

    /// A schema and its user, ours.
    pub(super) async fn make(&self, label: &str) -> Login {
        let login = Login { user: name(label), password: SecretRef(format!("tests/{label}")) };
        self.mysql().create_schema(&login.user, &mark(), None).await.unwrap();
        self.mysql().create_user(&login.user, &login.user, &login.password, &mark()).await.unwrap();
        login
    }

    pub(super) async fn remove(&self, login: &Login) {
        self.mysql().drop_schema(&login.user, &mark()).await.unwrap();
        self.mysql().drop_user(&login.user, &login.password, &mark()).await.unwrap();
    }

    pub(super) async fn version(&self) -> String {
        let facts = self.mysql().facts().await.unwrap();
        format!("{} {}", facts.flavour, facts.version)
    }

    pub(super) async fn is_mysql(&self) -> bool {
        self.mysql().facts().await.unwrap().flavour == "mysql"
    }
}

fn literal(text: &str) -> String {
    format!("_utf8mb4 X'{}'", hex::encode(text))
}

#[async_trait]
impl DatabaseBench for Bench {
    fn database(&self) -> Arc<dyn Database> {
        Arc::new(self.mysql())
    }

    fn secrets(&self) -> Arc<dyn Secrets> {
        Arc::new(self.secrets.clone())
    }

    async fn add_foreign(&self, name: &DatabaseName) {
        self.root(&format!(
            "CREATE DATABASE `{name}`; CREATE TABLE `{name}`.notes (id int); INSERT INTO `{name}`.notes VALUES (1); \
             CREATE USER '{name}'@'localhost' IDENTIFIED BY 'foreign'; GRANT ALL ON `{name}`.* TO '{name}'@'localhost';"
        ))
        .await;
    }

    async fn remove_foreign(&self, name: &DatabaseName) {
        self.root(&format!("DROP DATABASE `{name}`; DROP USER '{name}'@'localhost';")).await;
    }

    async fn make_table(&self, schema: &DatabaseName, user: &DatabaseName, password: &Secret) {
        let sql = format!(
            "CREATE TABLE `{schema}`.kc_options (id int AUTO_INCREMENT PRIMARY KEY, name varchar(191), value longtext);"
        );
        let finished = self.sql(Some((user, password)), sql.as_bytes()).await;
        assert_eq!(finished.status, 0, "{}", finished.last_error());
    }

    async fn add_option(
        &self,
        schema: &DatabaseName,
        login: (&DatabaseName, &Secret),
        name: &str,
        value: &str,
    ) -> bool {
        let (name, value) = (literal(name), literal(value));
        let sql = format!("INSERT INTO `{schema}`.kc_options (name, value) VALUES ({name}, {value});");
        let finished = self.sql(Some(login), sql.as_bytes()).await;
        let said = finished.last_error();
        assert!(
            finished.status == 0
                || ["1045", "1044", "1142", "3118", "4151"].iter().any(|code| said.contains(code)),
            "{said}"
        );
        finished.status == 0
    }

    async fn options(&self, schema: &DatabaseName) -> Vec<(String, String)> {
        let rows =
            self.root(&format!("SELECT HEX(name), HEX(value) FROM `{schema}`.kc_options ORDER BY id")).await;
        let text = |hex: &str| String::from_utf8(hex::decode(hex).unwrap()).unwrap();
        rows.lines()
            .map(|line| line.split_once('\t').map(|(name, value)| (text(name), text(value))).unwrap())
            .collect()
    }

    async fn open_session(&self, user: &DatabaseName, password: &Secret) -> BoxFuture<'static, ()> {
        let script = r#"client=$(command -v mariadb || command -v mysql); exec $client --user="$1" -e 'SELECT SLEEP(600)'"#;
        let command =
            self.command(&["sh", "-c", script, "sh", user.as_str()]).env("MYSQL_PWD", password.expose());
        let host = self.host.clone();
        let session = tokio::spawn(async move { host.run(command).await });
        while self
            .root(&format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER='{user}'"))
            .await
            .trim()
            != "1"
        {
            tokio::task::yield_now().await;
        }
        async move {
            let finished = session.await.unwrap().unwrap();
            assert_ne!(finished.status, 0, "the session was not ended by the server");
        }
        .boxed()
    }
}

pub(super) async fn the_contract_is_kept(bench: &Bench) {
    let before =
        bench.root("SELECT CONCAT(User, '@', Host) FROM mysql.user ORDER BY 1; SHOW DATABASES;").await;
    database_contract(bench).await;
    let after =
        bench.root("SELECT CONCAT(User, '@', Host) FROM mysql.user ORDER BY 1; SHOW DATABASES;").await;
    assert_eq!(after, before, "something of ours remains");
}

pub(super) async fn secrets_are_in_no_argument_error_or_fingerprint(bench: &Bench) {
    let login = bench.make("kt_secret").await;
    let secret = bench.secrets.get(&login.password).await.unwrap().unwrap();
    // While the import waits in a statement, the arguments and environments of everything on the machine are read.
    let pause = futures::stream::iter([
        Ok("CREATE TABLE a (b int);\n".into()),
        Ok("SELECT SLEEP(3);\nCREATE TABLE c (d int);\n".into()),
    ]);
    let (mysql, name) = (bench.mysql(), login.user.clone());
    let import = tokio::spawn({
        let (login, mark) = (login.clone(), mark());
        async move { mysql.import(&name, &mark, &login, Box::pin(pause)).await }
    });
    let query = format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER='{}'", login.user);
    while bench.root(&query).await.trim() == "0" {
        assert!(!import.is_finished(), "{:?}", import.await);
    }
    let seen = bench.host.run(bench.command(&[
        "sh",
        "-c",
        "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null; true",
    ]));
    let seen = String::from_utf8_lossy(&seen.await.unwrap().stdout).into_owned();
    assert!(seen.contains("kedge-login") || seen.contains("/dev/fd/3"), "the import was not seen");
    assert!(!seen.contains(secret.expose()), "a secret is in an argument or environment");
    import.await.unwrap().unwrap();
    let wrong = SecretRef("tests/wrong".into());
    bench.secrets.ensure(&wrong).await.unwrap();
    bench.mysql().empty_schema(&login.user, &mark()).await.unwrap();
    let bad = Login { password: wrong, ..login.clone() };
    let sql = Box::pin(futures::stream::iter([Ok("SELECT 1;\n".into())]));
    let error = bench.mysql().import(&login.user, &mark(), &bad, sql).await.unwrap_err();
    assert!(
        matches!(&error, PortError::Refused(what) if what.contains("1045") && !what.contains("fakesecret")),
        "{error:?}"
    );
    bench.remove(&login).await;
}

pub(super) async fn an_interrupted_creation_can_be_repeated_and_undone(bench: &Bench) {
    let (name, mysql) = (name("kt_half"), bench.mysql());
    if bench.is_mysql().await {
        // Every prefix of the statements that create a schema.
        let sql = super::super::marks::create(
            super::super::tools::Flavour::Mysql,
            &name,
            &mark(),
            "CHARACTER SET utf8mb4",
        );
        let sql = sql.unwrap();
        let statements: Vec<&str> = sql.split_inclusive(";\n").collect();
        for done in 0..=statements.len() {
            for undo in [false, true] {
                bench.root(&statements[..done].concat()).await;
                if !undo {
                    mysql.create_schema(&name, &mark(), None).await.unwrap();
                }
                mysql.drop_schema(&name, &mark()).await.unwrap();
                let left = bench
                    .root("SELECT User FROM mysql.user WHERE User LIKE 'kedge%'; SHOW DATABASES LIKE 'kt%';")
                    .await;
                assert_eq!(left, "", "after {done} statements, undo {undo}");
            }
        }
    }
    // A user without its rights: created, and the process died.
    let login = bench.make("kt_half_user").await;
    bench.root("REVOKE ALL ON `kt\\_half\\_user`.* FROM 'kt_half_user'@'localhost';").await;
    mysql.create_user(&login.user, &login.user, &login.password, &mark()).await.unwrap();
    let grants = bench.root("SHOW GRANTS FOR 'kt_half_user'@'localhost'").await;
    assert!(grants.contains("GRANT ALL PRIVILEGES ON"), "{grants}");
    bench.remove(&login).await;
}

pub(super) async fn a_user_keeps_the_rights_that_others_gave_it(bench: &Bench) {
    let login = bench.make("kt_shared").await;
    bench.root("CREATE DATABASE kt_other; GRANT SELECT ON kt_other.* TO 'kt_shared'@'localhost';").await;
    for _ in 0..2 {
        bench.mysql().drop_user(&login.user, &login.password, &mark()).await.unwrap();
        let grants = bench.root("SHOW GRANTS FOR 'kt_shared'@'localhost'").await;
        assert!(grants.contains("ON `kt_other`.*") && !grants.contains("kt\\\\_shared`.*"), "{grants}");
    }
    bench.root("DROP DATABASE kt_other;").await;
    bench.remove(&login).await;
}

pub(super) async fn a_server_that_is_away_is_unavailable(bench: &Bench) {
    let config = DatabaseConfig {
        admin_defaults_file: Some("/tmp/kedge-away.cnf".into()),
        ..DatabaseConfig::local("away")
    };
    let write = "printf '[client]\\nsocket=/nonexistent/socket\\n' >/tmp/kedge-away.cnf";
    bench.host.run(bench.command(&["sh", "-c", write])).await.unwrap();
    let scope = Scope { task: "away".into(), step: "s".into() };
    let away = Mysql::new(config, bench.host.clone(), scope, Arc::new(bench.secrets.clone()));
    assert!(matches!(away.facts().await, Err(PortError::Unavailable(_))), "{:?}", away.facts().await);
    let request = DatabaseFingerprint { schema: name("x"), user: None, volatile: vec![], full: true };
    assert!(matches!(away.fingerprint(&request).await, Err(PortError::Unavailable(_))));
    bench.host.run(bench.command(&["rm", "/tmp/kedge-away.cnf"])).await.unwrap();
}

pub(super) async fn a_blocked_change_gives_up(bench: &Bench) {
    let login = bench.make("kt_blocked").await;
    bench.root("CREATE TABLE kt_blocked.t (a int); INSERT INTO kt_blocked.t VALUES (1);").await;
    // A long query of somebody holds the table's metadata lock; ours waits as long as it says and no longer.
    let holder =
        bench.command(&["sh", "-c", r#"client=$(command -v mariadb || command -v mysql); exec $client"#]);
    let holder = holder.input("START TRANSACTION; SELECT SLEEP(600) FROM kt_blocked.t;");
    let host = bench.host.clone();
    let query = tokio::spawn(async move { host.run(holder).await });
    while bench
        .root("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SELECT SLEEP(600)%';")
        .await
        .trim()
        != "1"
    {
        assert!(!query.is_finished(), "{:?}", query.await);
    }
    let quick = bench.mysql().with_lock_wait(1);
    let error = quick.drop_schema(&login.user, &mark()).await.unwrap_err();
    assert!(matches!(&error, PortError::Unavailable(what) if what.contains("1205")), "{error:?}");
    query.abort();
    let id = bench.root("SELECT CONCAT('KILL ', ID, ';') FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SELECT SLEEP(600)%';").await;
    if !id.is_empty() {
        bench.sql(None, id.as_bytes()).await;
    }
    bench.remove(&login).await;
}
