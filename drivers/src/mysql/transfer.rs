//! Dumps and imports: the real tools, streamed, with everything that belongs to the old server filtered out on the way. Never
//! keeps a dump in a file or in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use kedge_workflows::names::DatabaseName;
use kedge_workflows::ports::{ByteStream, EventsReport, ImportReport, Mark, PortError, PortResult, Secret};

use super::client::{Client, Row, Select};
use super::errors::{self, Effect, Failure, classify};
use super::marks::MARK_TABLE;
use super::quote;
use super::schema::{self, field};
use super::sql_filter::SqlFilter;
use super::sql_heading::Heading;
use super::tools::Flavour;
use super::within::WITHOUT_ROWS;
use crate::host::Input;

/// Options of every dump.
///
/// No `--hex-blob`: it doubles blobs, and a row that fits max_allowed_packet as it is would not fit any more; escaped bytes
/// survive. `--no-autocommit` is for schemas of InnoDB only: with global transaction ids, a server takes no second statement on another
/// engine in one transaction (1785). `--single-transaction` reads InnoDB from one snapshot without locks; other engines are consistent under the write
/// fence only. The defaults give DROP TABLE IF EXISTS, LOCK TABLES and keys added last.
const OPTIONS: [&str; 8] = [
    "--single-transaction",
    "--quick",
    "--skip-lock-tables",
    "--triggers",
    "--no-tablespaces",
    "--skip-dump-date",
    "--default-character-set=utf8mb4",
    "--max-allowed-packet=1G",
];

/// Options of a dump that is not of some tables only.
const SCHEMA_WIDE: [&str; 2] = ["--routines", "--events"];

/// Error: the event's time is in the past, and it was not to be preserved: nothing was changed.
const TIME_HAS_PASSED: u32 = 1589;

/// A dump of a schema as SQL, without the rows of these tables.
pub(super) async fn dump(
    client: &Client,
    name: &DatabaseName,
    without_rows: &[String],
) -> PortResult<ByteStream> {
    let what = format!("dumping schema {name}");
    let mut options = options(client, name, &what).await?;
    let tools = client.tools().await?;
    options.extend(SCHEMA_WIDE.map(str::to_owned));
    if without_rows.is_empty() || tools.dump_knows(WITHOUT_ROWS) {
        options.extend(left_out(tools.server.flavour, name, &[]));
        options.extend(without_rows.iter().map(|table| format!("{WITHOUT_ROWS}={name}.{table}")));
        options.extend(["--".to_owned(), name.to_string()]);
        return one_dump(client, name, &what, options).await;
    }
    // MySQL's tool leaves out a table as a whole: the definitions come first, by a run of their own. Two snapshots are as good as one
    // here, since a plan that copies rows makes sure that nobody has changed anything.
    let definitions = definitions(client, name, &what, without_rows).await?;
    options.extend(left_out(tools.server.flavour, name, without_rows));
    options.extend(["--".to_owned(), name.to_string()]);
    let (client, name) = (client.clone(), name.clone());
    let rest = futures::stream::once(async move { one_dump(&client, &name, &what, options).await });
    Ok(Box::pin(definitions.chain(rest.try_flatten())))
}

/// A dump of these tables alone.
pub(super) async fn dump_tables(
    client: &Client,
    name: &DatabaseName,
    tables: &[String],
    without_rows: &[String],
) -> PortResult<ByteStream> {
    let what = format!("dumping tables of schema {name}");
    let with_rows: Vec<String> =
        tables.iter().filter(|table| !without_rows.contains(table)).cloned().collect();
    if with_rows.is_empty() {
        return definitions(client, name, &what, without_rows).await;
    }
    let mut options = options(client, name, &what).await?;
    options.extend(["--".to_owned(), name.to_string()].into_iter().chain(with_rows));
    if without_rows.is_empty() {
        return one_dump(client, name, &what, options).await;
    }
    // The rows come first: what is done about a heading (`sql_heading`) is done about theirs.
    let rows = one_dump(client, name, &what, options).await?;
    let (client, name, tables) = (client.clone(), name.clone(), without_rows.to_vec());
    let rest = futures::stream::once(async move { definitions(&client, &name, &what, &tables).await });
    Ok(Box::pin(rows.chain(rest.try_flatten())))
}

/// A dump of the definitions of tables.
async fn definitions(
    client: &Client,
    name: &DatabaseName,
    what: &str,
    tables: &[String],
) -> PortResult<ByteStream> {
    let mut options = options(client, name, what).await?;
    options.extend(["--no-data".to_owned(), "--".to_owned(), name.to_string()]);
    options.extend(tables.iter().cloned());
    one_dump(client, name, what, options).await
}

/// Options of a dump of this schema or of a part of it.
async fn options(client: &Client, name: &DatabaseName, what: &str) -> PortResult<Vec<String>> {
    let tools = client.tools().await?;
    let outside_transactions = schema::open_tables(client, name).await?;
    let objects = schema::objects(client, name).await?;
    let mut options: Vec<String> = OPTIONS.map(str::to_owned).into();
    for option in ["--column-statistics=0", "--set-gtid-purged=OFF"] {
        if tools.dump_knows(option.split('=').next().unwrap_or(option)) {
            options.push(option.to_owned());
        }
    }
    if !outside_transactions {
        options.push("--no-autocommit".to_owned());
    }
    if objects.iter().any(|object| object.kind == "SYSTEM VERSIONED") {
        if !tools.dump_knows("--dump-history") {
            let tool = &tools.dump;
            return Err(PortError::Refused(format!(
                "{what}: it has system-versioned tables, whose history {tool} cannot dump; install client tools of MariaDB 10.11 or newer"
            )));
        }
        options.push("--dump-history".to_owned());
    }
    Ok(options)
}

/// What the dump shall not have at all: our mark, and these tables.
fn left_out(flavour: Flavour, name: &DatabaseName, tables: &[String]) -> Vec<String> {
    let mark = (flavour == Flavour::Mysql).then_some(MARK_TABLE);
    let tables = mark.into_iter().chain(tables.iter().map(String::as_str));
    tables.map(|table| format!("--ignore-table={name}.{table}")).collect()
}

/// One run of the dump tool, filtered, which has to come to its last line.
async fn one_dump(
    client: &Client,
    name: &DatabaseName,
    what: &str,
    options: Vec<String>,
) -> PortResult<ByteStream> {
    let output = client.host().stream(client.dump_command(options).await?).await?;
    let (what, broken) = (what.to_owned(), what.to_owned());
    let output =
        output.map(move |chunk| chunk.map_err(|error| super::stream_error(&what, error, Effect::None)));
    Ok(Box::pin(filtered(output, SqlFilter::of_schema(name.as_str()), move |filter| {
        if filter.complete() {
            return Ok(());
        }
        Err(PortError::Unavailable(format!("{broken}: it broke off: its last line is missing")))
    })))
}

/// Feeds SQL into an empty schema of ours, as the site's user.
pub(super) async fn import(
    client: &Client,
    name: &DatabaseName,
    mark: &Mark,
    (user, password): (&DatabaseName, &Secret),
    sql: ByteStream,
) -> PortResult<ImportReport> {
    let what = format!("importing into schema {name}");
    if !schema::owned(client, name, mark).await? {
        return Err(PortError::Refused(format!("{what}: the schema does not exist")));
    }
    if let Some(object) = schema::objects(client, name).await?.first() {
        return Err(PortError::Refused(format!(
            "{what}: it is not empty, it has {} {}",
            object.kind, object.name
        )));
    }
    feed(client, name, (user, password), sql).await
}

/// Feeds SQL into a schema that is ours for sure, as the site's user.
pub(super) async fn feed(
    client: &Client,
    name: &DatabaseName,
    (user, password): (&DatabaseName, &Secret),
    sql: ByteStream,
) -> PortResult<ImportReport> {
    let what = format!("importing into schema {name}");
    let (bytes, largest) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let counted = sql.inspect({
        let bytes = bytes.clone();
        move |chunk| {
            bytes.fetch_add(chunk.as_ref().map_or(0, |chunk| chunk.len() as u64), Ordering::Relaxed);
        }
    });
    let filter = SqlFilter::new().events_off().report_largest(largest.clone());
    let input = with_unique_checks(filtered(counted, filter, |_| Ok(())));
    let login = login(user, password)?;
    // The dump's own header says the same; SQL from elsewhere may not.
    let order = Bytes::from_static(b"SET SESSION foreign_key_checks=0; ");
    let input: Input = Box::pin(futures::stream::once(async { Ok(order) }).chain(input));
    let finished = client.host().run(client.login_command(&login, name.as_str(), input).await?).await?;
    if finished.status != 0 {
        let stderr = String::from_utf8_lossy(&finished.stderr).replace(password.expose(), "***");
        // Some servers hang up on a statement that is too large instead of saying so.
        let (largest, limit) =
            (largest.load(Ordering::Relaxed), schema::facts(client).await?.max_allowed_packet);
        if largest >= limit && matches!(errors::code(&stderr), Some(2006 | 2013 | 1153)) {
            return Err(PortError::Refused(format!(
                "{what}: a statement of {largest} bytes is larger than the server's max_allowed_packet of {limit}: raise it"
            )));
        }
        return Err(classify(&what, Failure { status: finished.status, stderr: &stderr }, Effect::Change));
    }
    let tables = schema::schema_facts(client, name).await?.tables;
    Ok(ImportReport { bytes: bytes.load(Ordering::Relaxed), tables })
}

/// Switches on the events that an import has left off.
pub(super) async fn start_events(
    client: &Client,
    name: &DatabaseName,
    mark: &Mark,
    (user, password): (&DatabaseName, &Secret),
) -> PortResult<EventsReport> {
    let what = format!("switching on the events of schema {name}");
    if !schema::owned(client, name, mark).await? {
        return Err(PortError::Refused(format!("{what}: the schema does not exist")));
    }
    let query = Select::new(
        ["EVENT_NAME", "SQL_MODE", "TIME_ZONE", "CHARACTER_SET_CLIENT", "COLLATION_CONNECTION"],
        format!(
            "FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {} \
             AND STATUS IN ('SLAVESIDE_DISABLED', 'REPLICA_SIDE_DISABLED') ORDER BY EVENT_NAME",
            quote::text(name.as_str())?
        ),
    );
    let login = login(user, password)?;
    let mut report = EventsReport::default();
    for event in client.select_one(&what, query).await? {
        let sql = Bytes::from(start_event(&event)?);
        let input: Input = Box::pin(futures::stream::once(async { Ok(sql) }));
        let finished = client.host().run(client.login_command(&login, name.as_str(), input).await?).await?;
        let stderr = String::from_utf8_lossy(&finished.stderr).replace(password.expose(), "***");
        match (finished.status, errors::code(&stderr)) {
            (0, _) => report.started += 1,
            (_, Some(TIME_HAS_PASSED)) => report.passed.push(field(&event, 0).to_owned()),
            (status, _) => {
                return Err(classify(&what, Failure { status, stderr: &stderr }, Effect::Change));
            }
        }
    }
    Ok(report)
}

/// A change of an event takes over the session's modes, so the session takes the event's first.
fn start_event(event: &Row) -> PortResult<String> {
    let event_name = field(event, 0);
    let mut sql = format!(
        "SET SESSION sql_mode={}, time_zone={}; ",
        quote::text(field(event, 1))?,
        quote::text(field(event, 2))?
    );
    // The name is sent as UTF-8: under another character set only ASCII means the same.
    if event_name.is_ascii() {
        sql += &format!(
            "SET SESSION character_set_client={}, collation_connection={}; ",
            quote::text(field(event, 3))?,
            quote::text(field(event, 4))?
        );
    }
    Ok(sql + &format!("ALTER EVENT {} ENABLE;", quote::identifier(event_name)?))
}

/// The option group that logs in as a user.
fn login(user: &DatabaseName, password: &Secret) -> PortResult<String> {
    Ok(format!(
        "[client]\nuser={}\npassword={}\n",
        quote::option(user.as_str())?,
        quote::option(password.expose())?
    ))
}

/// A dump whose heading leaves the checks of unique keys on.
fn with_unique_checks(
    dump: impl Stream<Item = PortResult<Bytes>> + Send + 'static,
) -> impl Stream<Item = PortResult<Bytes>> + Send {
    let mut heading = Heading::default();
    let pieces = dump.map(Some).chain(futures::stream::iter([None])).map(move |piece| match piece {
        Some(piece) => piece.map(|piece| heading.push(piece)),
        None => Ok(heading.finish()),
    });
    pieces.filter(|piece| std::future::ready(piece.as_ref().map_or(true, |piece| !piece.is_empty())))
}

/// A stream through the filter; `end` judges the whole.
fn filtered(
    input: impl Stream<Item = PortResult<Bytes>> + Send + 'static,
    filter: SqlFilter,
    end: impl FnOnce(&SqlFilter) -> PortResult<()> + Send + 'static,
) -> impl Stream<Item = PortResult<Bytes>> + Send {
    struct State<F> {
        input: futures::stream::BoxStream<'static, PortResult<Bytes>>,
        filter: SqlFilter,
        end: F,
    }
    let state = State { input: input.boxed(), filter, end };
    futures::stream::unfold(Some(state), |state| async move {
        let mut state = state?;
        loop {
            match state.input.next().await {
                Some(Ok(chunk)) => match state.filter.push(&chunk) {
                    Ok(bytes) if bytes.is_empty() => {}
                    Ok(bytes) => return Some((Ok(bytes), Some(state))),
                    Err(error) => return Some((Err(error), None)),
                },
                Some(Err(error)) => return Some((Err(error), None)),
                None => {
                    let rest =
                        state.filter.finish().and_then(|rest| (state.end)(&state.filter).map(|()| rest));
                    return Some((rest, None));
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run(chunks: Vec<PortResult<Bytes>>) -> Vec<PortResult<Bytes>> {
        let end = |filter: &SqlFilter| {
            if filter.complete() { Ok(()) } else { Err(PortError::Unavailable("broke off".into())) }
        };
        filtered(futures::stream::iter(chunks), SqlFilter::new(), end).collect().await
    }

    #[tokio::test]
    async fn a_dump_without_its_last_line_ends_with_an_error() {
        let whole = run(vec![Ok("SELECT 1;\n-- Dump comp".into()), Ok("leted\n".into())]).await;
        assert!(whole.iter().all(Result::is_ok), "{whole:?}");
        let cut = run(vec![Ok("SELECT 1;\n-- Dump comp".into())]).await;
        assert!(cut.last().is_some_and(Result::is_err), "{cut:?}");
    }

    #[tokio::test]
    async fn an_error_on_the_way_is_the_last_word() {
        let lost = PortError::Lost("gone".into());
        let seen =
            run(vec![Ok("SELECT 1;\n".into()), Err(lost.clone()), Ok("-- Dump completed\n".into())]).await;
        assert_eq!(seen.last(), Some(&Err(lost)));
    }

    #[test]
    fn a_login_is_one_option_group() {
        let user = DatabaseName::parse("shop").unwrap();
        assert_eq!(
            login(&user, &Secret::new("a\"b")).unwrap(),
            "[client]\nuser=\"shop\"\npassword=\"a\\\"b\"\n"
        );
        assert!(login(&user, &Secret::new("x\n[mysqld]")).is_err());
    }
}
