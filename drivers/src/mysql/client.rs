//! The client tools of MySQL and MariaDB: found once, fed with SQL on standard input, answers read as hex. SQL and secrets are
//! never arguments. Knows nothing of schemas or users.

use std::sync::Arc;
use std::time::Duration;

use kedge_workflows::ports::{PortError, PortResult, Scope};
use tokio::sync::OnceCell;

use super::errors::{Effect, Failure, classify, classify_secret};
use super::tools::Tools;
use crate::host::{Command, Finished, Host, Stdin};

/// How long a metadata lock is waited for: longer than a page takes, shorter than anybody waits for a site.
const LOCK_WAIT_SECONDS: u16 = 60;
/// Time limit of what only looks, or changes little.
const LOOK_LIMIT: Duration = Duration::from_secs(600);
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

/// Runs the client tools on a host.
#[derive(Clone)]
pub(super) struct Client {
    host: Arc<dyn Host>,
    scope: Scope,
    defaults_file: Option<String>,
    /// Seconds that a statement waits for a metadata lock.
    pub(super) lock_wait: u16,
    /// How long a command of the client may take.
    limit: Duration,
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
        let tools = Arc::new(OnceCell::new());
        Self { host, scope, defaults_file, lock_wait: LOCK_WAIT_SECONDS, limit: LOOK_LIMIT, tools }
    }

    /// The same tools for what reads or writes whole tables.
    pub(super) fn patient(&self) -> Self {
        Self { limit: TRANSFER_LIMIT, ..self.clone() }
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

    /// The lines that statements answer which only look; columns are apart by tabs.
    pub(super) async fn show(&self, what: &str, sql: &str) -> PortResult<Vec<String>> {
        let finished = self.run(sql, Effect::None).await?;
        finished_well(&finished).map_err(|failure| classify(what, failure, Effect::None))?;
        Ok(lines(&finished.stdout))
    }

    /// Runs statements that change something, with the lines that they answer.
    pub(super) async fn change(&self, what: &str, sql: &str) -> PortResult<Vec<String>> {
        let finished = self.run(sql, Effect::Change).await?;
        finished_well(&finished).map_err(|failure| classify(what, failure, Effect::Change))?;
        Ok(lines(&finished.stdout))
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
        let command =
            Command::new(&self.scope, self.client_argv(client)).input(sql.as_bytes()).within(self.limit);
        self.host.run(command).await.map_err(|error| match error {
            // What only reads can be asked again.
            PortError::Lost(what) if effect == Effect::None => PortError::Unavailable(what),
            other => other,
        })
    }

    pub(super) async fn select_with(
        &self,
        client: &str,
        what: &str,
        queries: &[Select],
    ) -> PortResult<Vec<Vec<Row>>> {
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

fn finished_well(finished: &Finished) -> Result<(), Failure<'_>> {
    if finished.status == 0 {
        return Ok(());
    }
    Err(Failure { status: finished.status, stderr: str::from_utf8(&finished.stderr).unwrap_or("(no text)") })
}

/// The lines of an answer in batch mode.
fn lines(stdout: &[u8]) -> Vec<String> {
    let lines = stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| String::from_utf8_lossy(&unescape(line)).into_owned()).collect()
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
}
