//! The client tools of MySQL and MariaDB: found once, fed with SQL on standard input, answers read as hex. SQL and secrets are
//! never arguments. Knows nothing of schemas or users.

use std::sync::Arc;
use std::time::Duration;

use kedge_workflows::ports::{PortError, PortResult, Scope};
use tokio::sync::OnceCell;

use super::errors::{Effect, Failure, classify, classify_secret};
use crate::host::{Command, Finished, Host, Stdin};

/// How long a metadata lock is waited for: longer than a page takes, shorter than anybody waits for a site.
const LOCK_WAIT_SECONDS: u16 = 60;
/// Time limit of what reads or writes whole schemas. The step's own limit is what counts; this one only ends what nobody awaits.
pub(super) const TRANSFER_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// Settings of every session of ours. Executable comments: 80000 is read by MySQL 8 only, M!100200 by MariaDB only.
/// `sql_mode` without NO_BACKSLASH_ESCAPES and ANSI_QUOTES is what `quote` relies on.
fn session(lock_wait: u16) -> String {
    format!(
        "SET SESSION sql_mode='NO_AUTO_VALUE_ON_ZERO', time_zone='+00:00', lock_wait_timeout={lock_wait}\
         /*!80000 , information_schema_stats_expiry=0 *//*M!100200 , max_statement_time=0 */"
    )
}

/// MySQL or MariaDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    Mysql,
    Mariadb,
}

/// A server as it says of itself.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) flavour: Flavour,
    pub(super) version: String,
    /// Whether `_` and `%` are wildcards in the schema of a grant.
    pub(super) grant_wildcards: bool,
    /// The host part of our own account as the server sees us.
    pub(super) our_host: String,
}

/// The client tools and what they can do, and the server they reach.
#[derive(Debug)]
pub(super) struct Tools {
    client: String,
    pub(super) dump: String,
    dump_help: String,
    client_help: String,
    pub(super) server: Server,
}

impl Tools {
    /// Whether the dump tool knows an option.
    pub(super) fn dump_knows(&self, option: &str) -> bool {
        self.dump_help.contains(option)
    }
}

/// Runs the client tools on a host.
#[derive(Clone)]
pub(super) struct Client {
    host: Arc<dyn Host>,
    scope: Scope,
    defaults_file: Option<String>,
    /// Seconds that a statement waits for a metadata lock.
    pub(super) lock_wait: u16,
    tools: Arc<OnceCell<Tools>>,
}

/// A query whose columns come back as hex, so that any value passes.
pub(super) struct Select {
    columns: Vec<String>,
    rest: String,
}

/// One row: `None` is NULL.
pub(super) type Row = Vec<Option<String>>;

impl Select {
    /// `SELECT <columns> <rest>`; `rest` begins with FROM.
    pub(super) fn new<'a>(columns: impl IntoIterator<Item = &'a str>, rest: impl Into<String>) -> Self {
        Self { columns: columns.into_iter().map(str::to_owned).collect(), rest: rest.into() }
    }
}

impl Client {
    pub(super) fn new(host: Arc<dyn Host>, scope: Scope, defaults_file: Option<String>) -> Self {
        Self { host, scope, defaults_file, lock_wait: LOCK_WAIT_SECONDS, tools: Arc::new(OnceCell::new()) }
    }

    /// The same tools on behalf of another attempt.
    pub(super) fn scoped(&self, scope: &Scope) -> Self {
        Self { scope: scope.clone(), ..self.clone() }
    }

    /// The host that the tools run on.
    pub(super) fn host(&self) -> &Arc<dyn Host> {
        &self.host
    }

    /// Runs another program beside the tools.
    pub(super) async fn run_other(&self, argv: impl IntoIterator<Item = &str>) -> PortResult<Finished> {
        self.host.run(Command::new(&self.scope, argv)).await
    }

    /// The tools; looked for at the first call.
    pub(super) async fn tools(&self) -> PortResult<&Tools> {
        self.tools.get_or_try_init(|| self.find_tools()).await
    }

    /// Answers of several queries, in their order.
    pub(super) async fn select(&self, what: &str, queries: &[Select]) -> PortResult<Vec<Vec<Row>>> {
        let tools = self.tools().await?;
        self.select_with(&tools.client, what, queries).await
    }

    /// Answer of one query.
    pub(super) async fn select_one(&self, what: &str, query: Select) -> PortResult<Vec<Row>> {
        Ok(self.select(what, &[query]).await?.pop().unwrap_or_default())
    }

    /// The lines of a SHOW statement with one column.
    pub(super) async fn show(&self, what: &str, sql: &str) -> PortResult<Vec<String>> {
        let finished = self.run(sql, Effect::None).await?;
        finished_well(&finished).map_err(|failure| classify(what, failure, Effect::None))?;
        let lines = finished.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        Ok(lines.map(|line| String::from_utf8_lossy(&unescape(line)).into_owned()).collect())
    }

    /// Runs statements that change something. `what` names the action and its object.
    pub(super) async fn execute(&self, what: &str, sql: &str) -> PortResult<()> {
        let finished = self.run(sql, Effect::Change).await?;
        finished_well(&finished).map_err(|failure| classify(what, failure, Effect::Change))
    }

    /// The same for statements that hold a secret: the server's words are kept out of the error.
    pub(super) async fn execute_secret(&self, what: &str, sql: &str) -> PortResult<()> {
        let finished = self.run(sql, Effect::Change).await?;
        finished_well(&finished).map_err(|failure| classify_secret(what, failure, Effect::Change))
    }

    /// Runs every statement, also after one failed; returns what was said of those that did.
    pub(super) async fn execute_all(&self, sql: &str) -> PortResult<String> {
        let tools = self.tools().await?;
        let mut argv = self.client_argv(&tools.client);
        argv.push("--force".to_owned());
        let finished = self.host.run(Command::new(&self.scope, argv).input(sql.as_bytes())).await?;
        Ok(finished.last_error())
    }

    /// A command of the client as administrator, to be fed with `stdin`.
    pub(super) async fn command(&self, stdin: Stdin) -> PortResult<Command> {
        let tools = self.tools().await?;
        let mut command = Command::new(&self.scope, self.client_argv(&tools.client)).within(TRANSFER_LIMIT);
        command.stdin = stdin;
        Ok(command)
    }

    /// A command of the dump tool as administrator.
    pub(super) async fn dump_command(
        &self,
        options: impl IntoIterator<Item = String>,
    ) -> PortResult<Command> {
        let tools = self.tools().await?;
        let mut argv = vec![tools.dump.clone()];
        argv.extend(self.defaults());
        argv.extend(options);
        Ok(Command::new(&self.scope, argv).within(TRANSFER_LIMIT))
    }

    /// A command of the client that logs in as somebody else, to the same server. The option file with the login is the first
    /// lines of standard input (see [`LOGIN`]); `sql` follows.
    pub(super) async fn login_command(
        &self,
        login: &str,
        schema: &str,
        sql: crate::host::Input,
    ) -> PortResult<Command> {
        let tools = self.tools().await?;
        let mut argv: Vec<String> = ["sh", "-c", LOGIN, "kedge-login"].map(str::to_owned).into();
        argv.push(tools.client.clone());
        let option = if self.defaults_file.is_some() { "--defaults-file" } else { "--defaults-extra-file" };
        argv.push(format!("{option}=/dev/fd/3"));
        argv.extend(client_options(session(self.lock_wait)));
        if tools.client_help.contains("--sandbox") {
            argv.push("--sandbox".to_owned());
        }
        argv.push(format!("--database={schema}"));
        let include = self.defaults_file.as_ref().map_or(String::new(), |file| format!("!include {file}\n"));
        let head = format!("{include}{login}.\n");
        let head = futures::stream::once(async move { Ok(bytes::Bytes::from(head)) });
        let input = futures::StreamExt::chain(head, sql);
        Ok(Command::new(&self.scope, argv).within(TRANSFER_LIMIT).input_stream(Box::pin(input)))
    }

    async fn run(&self, sql: &str, effect: Effect) -> PortResult<Finished> {
        let tools = self.tools().await?;
        self.run_with(&tools.client, sql, effect).await
    }

    async fn run_with(&self, client: &str, sql: &str, effect: Effect) -> PortResult<Finished> {
        let command = Command::new(&self.scope, self.client_argv(client)).input(sql.as_bytes());
        self.host.run(command).await.map_err(|error| match error {
            // What only reads can be asked again.
            PortError::Lost(what) if effect == Effect::None => PortError::Unavailable(what),
            other => other,
        })
    }

    async fn select_with(&self, client: &str, what: &str, queries: &[Select]) -> PortResult<Vec<Vec<Row>>> {
        let sql: String = queries.iter().enumerate().map(|(i, query)| statement(i, query)).collect();
        let finished = self.run_with(client, &sql, Effect::None).await?;
        finished_well(&finished).map_err(|failure| classify(what, failure, Effect::None))?;
        rows(&finished.stdout, queries.len())
            .ok_or_else(|| PortError::Refused(format!("{what}: the client's answer cannot be read")))
    }

    fn client_argv(&self, client: &str) -> Vec<String> {
        let mut argv = vec![client.to_owned()];
        argv.extend(self.defaults());
        argv.extend(client_options(session(self.lock_wait)));
        argv
    }

    fn defaults(&self) -> Option<String> {
        self.defaults_file.as_ref().map(|file| format!("--defaults-file={file}"))
    }

    async fn find_tools(&self) -> PortResult<Tools> {
        let client = self.find("mariadb", "mysql").await?;
        let dump = self.find("mariadb-dump", "mysqldump").await?;
        let (client_help, dump_help) = (self.help(&client).await?, self.help(&dump).await?);
        let query = Select::new(["VERSION()", "SUBSTRING_INDEX(USER(), '@', -1)"], "");
        let variable = Select::new(
            ["VARIABLE_VALUE"],
            "FROM performance_schema.global_variables WHERE VARIABLE_NAME = 'partial_revokes'",
        );
        let what = format!("reaching the database server from {}", self.host.name());
        let answer = self.select_with(&client, &what, &[query]).await?;
        let row = answer.into_iter().flatten().next().unwrap_or_default();
        let [Some(version), Some(our_host)] = row.as_slice() else {
            return Err(PortError::Refused(format!("{what}: the server does not say its version")));
        };
        let flavour = if version.contains("MariaDB") { Flavour::Mariadb } else { Flavour::Mysql };
        let grant_wildcards = match flavour {
            Flavour::Mariadb => true,
            Flavour::Mysql => {
                let rows = self.select_with(&client, &what, &[variable]).await?;
                rows.into_iter().flatten().flatten().flatten().next().as_deref() != Some("ON")
            }
        };
        let server =
            Server { flavour, version: version.clone(), grant_wildcards, our_host: our_host.clone() };
        check_version(&server)?;
        Ok(Tools { client, dump, dump_help, client_help, server })
    }

    async fn find(&self, first: &str, second: &str) -> PortResult<String> {
        let argv = ["sh", "-c", "command -v \"$1\" || command -v \"$2\"", "kedge-find", first, second];
        let finished = self.host.run(Command::new(&self.scope, argv)).await?;
        let path = String::from_utf8_lossy(&finished.stdout).trim().to_owned();
        if finished.status != 0 || !path.starts_with('/') {
            let host = self.host.name();
            return Err(PortError::Refused(format!(
                "{host} has neither {first} nor {second}: install the client tools of the database there"
            )));
        }
        Ok(path)
    }

    async fn help(&self, tool: &str) -> PortResult<String> {
        let finished = self.host.run(Command::new(&self.scope, [tool, "--no-defaults", "--help"])).await?;
        Ok(String::from_utf8_lossy(&finished.success(&format!("{tool} --help"))?).into_owned())
    }
}

/// Reads an option file from the first lines of standard input, up to a line with a dot, hands it to a program on descriptor 3,
/// and leaves the rest of the input to the program. `read` takes single bytes, so nothing of the rest is lost. The arguments are
/// the program and its options.
const LOGIN: &str = r#"
options=
while IFS= read -r line && [ "$line" != . ]; do
    options="$options$line
"
done
exec "$@" 3<<END
$options
END
"#;

/// Options of the client in every use. `--binary-mode`: no client commands but DELIMITER, NUL and CR pass.
fn client_options(session: String) -> Vec<String> {
    let mut options: Vec<String> = [
        "--batch",
        "--skip-column-names",
        "--quick",
        "--binary-mode",
        "--skip-reconnect",
        "--connect-timeout=10",
        "--default-character-set=utf8mb4",
        "--max-allowed-packet=1G",
    ]
    .map(str::to_owned)
    .into();
    options.push(format!("--init-command={session}"));
    options
}

fn check_version(server: &Server) -> PortResult<()> {
    let mut parts =
        server.version.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    let number = [(); 3].map(|()| parts.next().unwrap_or(0));
    let (least, name) = match server.flavour {
        Flavour::Mariadb => ([10, 5, 0], "MariaDB 10.5"),
        Flavour::Mysql => ([8, 0, 21], "MySQL 8.0.21"),
    };
    if number < least {
        let version = &server.version;
        return Err(PortError::Refused(format!(
            "the database server is {version}; {name} is the oldest that can carry our marks"
        )));
    }
    Ok(())
}

fn finished_well(finished: &Finished) -> Result<(), Failure<'_>> {
    if finished.status == 0 {
        return Ok(());
    }
    Err(Failure { status: finished.status, stderr: str::from_utf8(&finished.stderr).unwrap_or("(no text)") })
}

/// A field as the client prints it in batch mode, without its escapes.
pub(super) fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = field.iter();
    let mut out = Vec::with_capacity(field.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'n') => b'\n',
                Some(b't') => b'\t',
                Some(b'0') => 0,
                Some(other) => *other,
                None => b'\\',
            },
            byte => *byte,
        });
    }
    out
}

fn statement(number: usize, query: &Select) -> String {
    let columns: String =
        query.columns.iter().map(|column| format!(", HEX(CAST({column} AS CHAR))")).collect();
    format!("SELECT {number}{columns} {};\n", query.rest)
}

/// Reads lines of a query's number and hex values; `NULL` is not hex. `None` for anything else.
fn rows(stdout: &[u8], queries: usize) -> Option<Vec<Vec<Row>>> {
    let mut answers = vec![Vec::new(); queries];
    for line in str::from_utf8(stdout).ok()?.lines() {
        let mut fields = line.split('\t');
        let number: usize = fields.next()?.parse().ok()?;
        let row = fields
            .map(|field| match field {
                "NULL" => Some(None),
                hex => String::from_utf8(hex::decode(hex).ok()?).ok().map(Some),
            })
            .collect::<Option<Row>>()?;
        answers.get_mut(number)?.push(row);
    }
    Some(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_numbered_rows_of_hex() {
        let answers = rows(b"0\t61\tNULL\n1\t\n0\tC3A4\t6109\n", 3).unwrap();
        assert_eq!(
            answers[0],
            vec![vec![Some("a".into()), None], vec![Some("ä".into()), Some("a\t".into())]]
        );
        assert_eq!(answers[1], vec![vec![Some(String::new())]]);
        assert!(answers[2].is_empty());
        for bad in [&b"x\t61\n"[..], b"0\tzz\n", b"5\t61\n", b"0\tFF\n", b"\xff"] {
            assert!(rows(bad, 1).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn escapes_of_batch_mode_are_undone() {
        assert_eq!(unescape(br"a\tb\n\\n\0\\"), b"a\tb\n\\n\0\\");
    }

    #[test]
    fn old_servers_are_refused_by_name() {
        let server = |flavour, version: &str| Server {
            flavour,
            version: version.into(),
            grant_wildcards: true,
            our_host: "localhost".into(),
        };
        for (flavour, version, fine) in [
            (Flavour::Mariadb, "10.11.19-MariaDB-0+deb12u1", true),
            (Flavour::Mariadb, "11.8.6-MariaDB-0+deb13u1 from Debian", true),
            (Flavour::Mariadb, "10.3.39-MariaDB", false),
            (Flavour::Mysql, "8.0.21", true),
            (Flavour::Mysql, "9.7.4-2", true),
            (Flavour::Mysql, "5.7.44-log", false),
        ] {
            assert_eq!(check_version(&server(flavour, version)).is_ok(), fine, "{version}");
        }
    }
}
