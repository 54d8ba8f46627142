//! Copies a site's database into a schema of its own, rewriting names and paths on the way: as a whole; or ahead, while the site is open,
//! and then behind the write fence again what was written meanwhile. Never writes to the schema that it copies from.

use std::sync::Arc;

use futures::StreamExt as _;
use kedge_engine::context::Cx;
use kedge_engine::retry::Policy;
use kedge_engine::step::{Covered, CoveredBy, Ref, Step, StepError};
use serde::{Deserialize, Serialize};

use crate::names::{DatabaseName, SiteName};
use crate::place::{Store, mark, scope};
use crate::ports::{
    ByteStream, Database, DatabaseFingerprint, ImportReport, PlainTable, PortError, SAME_LIFE, TableTimes,
    VolatileRows, World,
};
use crate::rewrite::{Pair, Rewrite, SqlRewriter, rewrite_stream};

/// An hour: the longest that a dump and import of a site may take.
const COPY_LIMIT_MS: u64 = 3_600_000;
/// A table of this size, in bytes, is copied by itself: more than a command costs.
const LARGE_TABLE: u64 = 4 * 1024 * 1024;
/// Tables copied at once: more only fight for the same disk.
const COPIES_AT_ONCE: usize = 2;
/// Bytes between two reports of progress.
const PROGRESS_EVERY: u64 = 1024 * 1024;
/// Bytes of table names that a command is given: half of what one argument may have. With more, everything is copied again.
const MAX_NAMES: usize = 64 * 1024;
/// Names of tables in one line of a step's log.
const NAMES_TOLD: usize = 20;

/// Columns of the tables in which Drupal, since 6, keeps what it computes again (`DatabaseBackend::schemaDefinition()`, `system_schema()`).
const CACHE: [&str; 5] = ["cid", "data", "expire", "created", "serialized"];

/// What a copy did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Copied {
    /// Bytes of SQL.
    pub(crate) sql_bytes: u64,
    /// Rows that the server copied by itself, without SQL text.
    #[serde(default)]
    pub(crate) rows_copied: u64,
    /// Tables in the new schema.
    pub(crate) tables: u64,
    /// Values in which a host name or path was rewritten.
    pub(crate) values_rewritten: u64,
    /// Values that hold one and could not be rewritten safely.
    pub(crate) values_left_alone: u64,
}

/// Streams the old database into the new one, rewriting host names and paths on the way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CopyDatabase {
    /// The new side's name.
    pub(crate) site: SiteName,
    /// From here.
    pub(crate) from: Store,
    /// To there.
    pub(crate) to: Store,
    /// The host name's change, if there is one.
    pub(crate) rename: Option<(SiteName, SiteName)>,
    /// Other host names that change with it.
    #[serde(default)]
    pub(crate) also: Vec<(SiteName, SiteName)>,
    /// Paths that change.
    pub(crate) moves: Vec<(String, String)>,
    /// Nobody writes to the old database: rows in which nothing changes need no SQL text where both are on one server.
    #[serde(default)]
    pub(crate) fenced: bool,
    /// What was copied while the site was open: only what was written since has to be copied again.
    #[serde(default)]
    pub(crate) ahead: Option<Ref<Ahead>>,
}

/// Copies the old database while the site is open, so that little is left to be done behind the fence. What is copied need not be of one
/// moment: whatever is written meanwhile is copied again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CopyAhead {
    /// What is copied.
    pub(crate) copy: CopyDatabase,
}

/// What has been copied while the site was open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ahead {
    /// When the tables were written last, before any was read.
    pub(crate) times: TableTimes,
    /// Hash of everything else in the old schema, before any table was read.
    pub(crate) definitions: String,
    /// Since when the new side's server runs, in seconds of its clock.
    pub(crate) target_running_since: u64,
    /// What was done.
    pub(crate) copied: Copied,
}

/// What is rewritten: host names, and paths.
pub(super) fn rewrite<'n>(
    names: impl IntoIterator<Item = &'n (SiteName, SiteName)>,
    moves: &[(String, String)],
) -> Result<Arc<Rewrite>, StepError> {
    let bad = |error: crate::rewrite::BadPair| StepError::fatal(format!("the rewrite: {error}"));
    let mut pairs: Vec<Pair> = names.into_iter().map(|(from, to)| Pair::host(from, to)).collect();
    for (from, to) in moves {
        pairs.push(Pair::path(from, to).map_err(bad)?);
    }
    Ok(Arc::new(Rewrite::new(pairs).map_err(bad)?))
}

/// Imports a dump of `total` bytes into a side's schema, rewritten on its way, from the start, whatever an earlier attempt left.
pub(super) async fn import_rewritten(
    cx: &Cx<'_, dyn World>,
    (site, store): (&SiteName, &Store),
    dump: impl Future<Output = Result<ByteStream, StepError>>,
    rewrite: Arc<Rewrite>,
    total: u64,
) -> Result<Copied, StepError> {
    let target = cx.ports.database(&store.server, &scope(cx))?;
    let (schema, user) = store.known(cx)?;
    let mark = mark(cx, site);
    target.empty_schema(&schema, &mark).await?;
    let login = store.login(user);
    rewritten(cx, dump.await?, rewrite, total, |sql| target.import(&schema, &mark, &login, sql)).await
}

/// Rewrites a dump on its way into an import.
async fn rewritten<F>(
    cx: &Cx<'_, dyn World>,
    dump: ByteStream,
    rewrite: Arc<Rewrite>,
    total: u64,
    import: impl FnOnce(ByteStream) -> F,
) -> Result<Copied, StepError>
where
    F: Future<Output = Result<ImportReport, PortError>>,
{
    let (sql, report) = rewrite_stream(dump, SqlRewriter::new(rewrite));
    let imported = import(counted(cx, sql, total)).await?;
    let report =
        report.report().ok_or_else(|| StepError::retryable("the import ended before the dump did"))?;
    for left in &report.left_alone_list {
        cx.log(format!("left as it is: {left:?}"));
    }
    Ok(Copied {
        sql_bytes: imported.bytes,
        rows_copied: 0,
        tables: imported.tables,
        values_rewritten: report.values_changed,
        values_left_alone: report.left_alone,
    })
}

impl Step for CopyDatabase {
    type Ports = dyn World;
    type Output = Copied;
    type Mode = Covered;
    const KIND: &'static str = "copy_database";

    fn title(&self) -> String {
        match (&self.ahead, &self.rename) {
            (Some(_), _) => "copy what was written to the database meanwhile".to_owned(),
            (None, Some((from, to))) => {
                format!("copy the database into the new one, rewriting {from} to {to}")
            }
            (None, None) => "copy the database into the new one".to_owned(),
        }
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<Copied, StepError> {
        let Some(ahead) = &self.ahead else { return self.all(cx, self.fenced).await };
        let ahead = cx.output(ahead)?;
        // An attempt that did not end may have left less than what was copied ahead.
        let touched = if cx.attempt == 1 { self.touched(cx, &ahead).await? } else { None };
        let Some(touched) = touched else {
            cx.log("everything is copied again");
            return self.all(cx, true).await;
        };
        tell(cx, &touched);
        self.again(cx, &touched, ahead).await
    }

    fn policy(&self) -> Policy {
        Policy::RUN.limit(COPY_LIMIT_MS)
    }

    fn slot(&self) -> Option<String> {
        Some(format!("{} import", self.to.server))
    }

    fn reports(&self) -> bool {
        true
    }
}

impl Step for CopyAhead {
    type Ports = dyn World;
    type Output = Ahead;
    type Mode = Covered;
    const KIND: &'static str = "copy_ahead";

    fn title(&self) -> String {
        format!("{}, while the site is open", self.copy.title())
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<Ahead, StepError> {
        let copy = &self.copy;
        let source = cx.ports.database(&copy.from.server, &scope(cx))?;
        let (from, _) = copy.from.known(cx)?;
        let times = source.table_times(&from).await?;
        let definitions = definitions(&*source, &from).await?;
        let target_running_since = copy.target_running_since(cx, &times).await?;
        // A server that logs statements locks the rows that it copies: its visitors would wait.
        let inside = !source.facts().await?.logs_statements;
        let copied = copy.all(cx, inside).await?;
        Ok(Ahead { times, definitions, target_running_since, copied })
    }

    fn policy(&self) -> Policy {
        self.copy.policy()
    }

    fn slot(&self) -> Option<String> {
        self.copy.slot()
    }
}

/// A hash of everything in a schema but its tables' rows.
async fn definitions(server: &dyn Database, schema: &DatabaseName) -> Result<String, StepError> {
    let rows = VolatileRows { table_suffix: "*".to_owned(), column: String::new(), like: Vec::new() };
    let request =
        DatabaseFingerprint { schema: schema.clone(), user: None, volatile: vec![rows], full: false };
    Ok(server.fingerprint(&request).await?.digest)
}

fn tell(cx: &Cx<'_, dyn World>, touched: &[String]) {
    let mut told = touched.iter().take(NAMES_TOLD).cloned().collect::<Vec<_>>().join(", ");
    if touched.len() > NAMES_TOLD {
        told += ", ...";
    }
    match touched.len() {
        0 => cx.log("no table was written meanwhile"),
        count => cx.log(format!("{count} tables may have been written meanwhile: {told}")),
    }
}

impl CopyDatabase {
    fn rewrite(&self) -> Result<Arc<Rewrite>, StepError> {
        rewrite(self.rename.iter().chain(&self.also), &self.moves)
    }

    /// Everything anew. With `inside`, the server itself copies what it can.
    async fn all(&self, cx: &Cx<'_, dyn World>, inside: bool) -> Result<Copied, StepError> {
        let source = cx.ports.database(&self.from.server, &scope(cx))?;
        let (from, _) = self.from.known(cx)?;
        let total = source.schema_facts(&from).await?.bytes;
        let rewrite = self.rewrite()?;
        let (plain, without_rows) = self.plain(&*source, &from, None, inside, &rewrite).await?;
        let left = total.saturating_sub(plain.iter().map(|table| table.bytes).sum());
        // The dump is opened when the schema is empty: what is open and not read ties up the server.
        let dump = async { Ok(source.dump_without_rows(&from, &without_rows).await?) };
        let copied = import_rewritten(cx, (&self.site, &self.to), dump, rewrite, left).await?;
        let rows_copied = self.copy_rows(cx, &*source, plain).await?;
        Ok(Copied { rows_copied, ..copied })
    }

    /// These tables anew, of those that were copied ahead.
    async fn again(
        &self,
        cx: &Cx<'_, dyn World>,
        touched: &[String],
        ahead: Ahead,
    ) -> Result<Copied, StepError> {
        let done = ahead.copied;
        if touched.is_empty() {
            return Ok(done);
        }
        let scope = scope(cx);
        let source = cx.ports.database(&self.from.server, &scope)?;
        let target = cx.ports.database(&self.to.server, &scope)?;
        let ((from, _), (to, user)) = (self.from.known(cx)?, self.to.known(cx)?);
        let rewrite = self.rewrite()?;
        let (plain, without_rows) = self.plain(&*source, &from, Some(touched), true, &rewrite).await?;
        let total = ahead.times.tables.iter().filter(|(name, _)| touched.contains(name));
        let total: u64 = total.map(|(_, table)| table.bytes).sum();
        let left = total.saturating_sub(plain.iter().map(|table| table.bytes).sum());
        let dump = source.dump_tables(&from, touched, &without_rows).await?;
        let (mark, login) = (mark(cx, &self.site), self.to.login(user));
        let import = |sql| target.import_tables(&to, &mark, &login, touched, sql);
        let copied = rewritten(cx, dump, rewrite, left, import).await?;
        let rows_copied = self.copy_rows(cx, &*source, plain).await?;
        Ok(Copied {
            sql_bytes: done.sql_bytes + copied.sql_bytes,
            rows_copied: done.rows_copied + rows_copied,
            tables: copied.tables,
            values_rewritten: done.values_rewritten + copied.values_rewritten,
            values_left_alone: done.values_left_alone + copied.values_left_alone,
        })
    }

    /// Tables whose rows the server can copy by itself, and all whose rows are left out of a dump.
    async fn plain(
        &self,
        source: &dyn Database,
        from: &DatabaseName,
        among: Option<&[String]>,
        inside: bool,
        rewrite: &Rewrite,
    ) -> Result<(Vec<PlainTable>, Vec<String>), StepError> {
        let plain = if inside && self.from.server == self.to.server {
            source.plain_tables(from, among, rewrite.telltales()).await?
        } else {
            Vec::new()
        };
        // Pages that were kept under two names of the site would have one and the same key under the new name.
        let mut caches =
            if self.rename.is_some() { source.tables_with(from, &CACHE).await? } else { Vec::new() };
        caches.retain(|table| among.is_none_or(|among| among.contains(table)));
        let plain: Vec<PlainTable> =
            plain.into_iter().filter(|table| !caches.contains(&table.name)).collect();
        let without_rows = plain.iter().map(|table| table.name.clone()).chain(caches).collect();
        Ok((plain, without_rows))
    }

    /// Tables that may have been written since they were copied; `None` when it has to be everything: something else has changed, or
    /// nothing can be told.
    async fn touched(&self, cx: &Cx<'_, dyn World>, ahead: &Ahead) -> Result<Option<Vec<String>>, StepError> {
        let source = cx.ports.database(&self.from.server, &scope(cx))?;
        let (from, _) = self.from.known(cx)?;
        let (times, definitions) =
            futures::try_join!(async { Ok(source.table_times(&from).await?) }, definitions(&*source, &from))?;
        if definitions != ahead.definitions {
            return Ok(None);
        }
        if self.target_running_since(cx, &times).await?.abs_diff(ahead.target_running_since) > SAME_LIFE {
            return Ok(None);
        }
        let touched = times.touched_since(&ahead.times);
        Ok(touched.filter(|names| names.iter().map(String::len).sum::<usize>() <= MAX_NAMES))
    }

    /// Since when the server of the new side runs: one that was started anew may have lost what it wrote last.
    async fn target_running_since(
        &self,
        cx: &Cx<'_, dyn World>,
        source: &TableTimes,
    ) -> Result<u64, StepError> {
        if self.from.server == self.to.server {
            return Ok(source.running_since);
        }
        let target = cx.ports.database(&self.to.server, &scope(cx))?;
        Ok(target.table_times(&self.to.known(cx)?.0).await?.running_since)
    }

    /// Large tables one by one, the small ones together.
    async fn copy_rows(
        &self,
        cx: &Cx<'_, dyn World>,
        server: &dyn Database,
        tables: Vec<PlainTable>,
    ) -> Result<u64, StepError> {
        let ((from, _), (to, _)) = (self.from.known(cx)?, self.to.known(cx)?);
        let total = tables.iter().map(|table| table.bytes).sum();
        let (mut large, small): (Vec<_>, Vec<_>) =
            tables.into_iter().partition(|table| table.bytes >= LARGE_TABLE);
        large.sort_by_key(|table| std::cmp::Reverse(table.bytes));
        let mut jobs: Vec<Vec<PlainTable>> = large.into_iter().map(|table| vec![table]).collect();
        jobs.extend((!small.is_empty()).then_some(small));
        let mark = mark(cx, &self.site);
        let copies = jobs.into_iter().map(|job| {
            let (from, to, mark) = (&from, &to, &mark);
            async move {
                let bytes: u64 = job.iter().map(|table| table.bytes).sum();
                let names: Vec<String> = job.into_iter().map(|table| table.name).collect();
                Ok::<_, PortError>((server.copy_rows(from, to, mark, &names).await?, bytes))
            }
        });
        let mut copies = futures::stream::iter(copies).buffer_unordered(COPIES_AT_ONCE);
        let (mut rows, mut done) = (0, 0);
        while let Some(copied) = copies.next().await {
            let (more, bytes) = copied?;
            rows += more;
            done += bytes;
            cx.progress(done, Some(total), "bytes");
        }
        Ok(rows)
    }
}

impl CoveredBy for CopyDatabase {
    fn covered_by(&self) -> String {
        "goes with the new database".to_owned()
    }
}

impl CoveredBy for CopyAhead {
    fn covered_by(&self) -> String {
        self.copy.covered_by()
    }
}

/// Counts the bytes that pass, as progress.
pub(super) fn counted(cx: &Cx<'_, dyn World>, stream: ByteStream, total: u64) -> ByteStream {
    let (mut done, mut told) = (0u64, 0u64);
    let progress = cx.progress_handle();
    Box::pin(stream.inspect(move |chunk| {
        done += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        if done - told >= PROGRESS_EVERY {
            told = done;
            progress.tell(done, Some(total), "bytes");
        }
    }))
}
