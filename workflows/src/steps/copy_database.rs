//! Copies a site's database into a schema of its own, rewriting names and paths on the way: behind the write fence, as of one moment
//! while the site is open, or what is left of a copy that was made ahead. Never writes to the schema that it copies from.

use std::sync::Arc;

use futures::StreamExt as _;
use kedge_engine::context::Cx;
use kedge_engine::retry::Policy;
use kedge_engine::step::{Covered, CoveredBy, Ref, Step, StepError};
use serde::{Deserialize, Serialize};

use super::copy_ahead::{Ahead, standing, tell};
use super::taken::demand_unnamed;
use crate::names::{DatabaseName, SiteName};
use crate::place::{Store, mark, scope};
use crate::ports::{ByteStream, Database, ImportReport, PlainTable, PortError, World};
use crate::rewrite::{Pair, Rewrite, SqlRewriter, rewrite_stream};

/// An hour: the longest that a dump and import of a site may take.
const COPY_LIMIT_MS: u64 = 3_600_000;
/// A table of this size, in bytes, is copied by itself: more than a command costs.
const LARGE_TABLE: u64 = 4 * 1024 * 1024;
/// Tables copied at once: more only fight for the same disk.
const COPIES_AT_ONCE: usize = 2;
/// Bytes between two reports of progress.
const PROGRESS_EVERY: u64 = 1024 * 1024;
/// Bytes of table names that a command is given: half of what one argument may have.
pub(super) const MAX_NAMES: usize = 64 * 1024;
/// Bytes that a name costs besides, with the schema's and an option's.
const NAME_COSTS: usize = 96;
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
pub(super) async fn rewritten<F>(
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
        let Some(ahead) = &self.ahead else {
            return if self.fenced { self.behind_the_fence(cx).await } else { self.of_one_moment(cx).await };
        };
        let ahead = cx.output(ahead)?;
        // An attempt that did not end may have left less than what was copied ahead.
        let touched = if cx.attempt == 1 { self.touched(cx, &ahead).await? } else { None };
        let Some((touched, times)) = touched else {
            cx.log("everything is copied again");
            return self.behind_the_fence(cx).await;
        };
        tell(cx, &touched);
        let copied = self.again(cx, &touched, &times, ahead).await?;
        let Some(copied) = copied else {
            cx.log(
                "events of the database wrote to it meanwhile: everything is copied again, as of one moment",
            );
            return self.of_one_moment(cx).await;
        };
        Ok(copied)
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

impl CopyDatabase {
    pub(super) fn rewrite(&self) -> Result<Arc<Rewrite>, StepError> {
        rewrite(self.rename.iter().chain(&self.also), &self.moves)
    }

    /// Whether the server can copy rows by itself while the site is open. One that logs statements locks what it copies: visitors would
    /// wait.
    pub(super) async fn can_copy_inside(&self, source: &dyn Database) -> Result<bool, StepError> {
        Ok(self.from.server == self.to.server && !source.facts().await?.logs_statements)
    }

    /// Everything behind the write fence, where nobody writes but the schema's own events.
    async fn behind_the_fence(&self, cx: &Cx<'_, dyn World>) -> Result<Copied, StepError> {
        let source = cx.ports.database(&self.from.server, &scope(cx))?;
        if source.schema_facts(&self.from.known(cx)?.0).await?.events_on > 0 {
            return self.of_one_moment(cx).await;
        }
        Ok(self.all(cx, Some(&[])).await?.0)
    }

    /// Everything as it is at one moment, while somebody may write: that of the dump's snapshot, since what the server copies by itself is
    /// written neither before it nor behind it.
    async fn of_one_moment(&self, cx: &Cx<'_, dyn World>) -> Result<Copied, StepError> {
        let source = cx.ports.database(&self.from.server, &scope(cx))?;
        let (from, _) = self.from.known(cx)?;
        if !self.can_copy_inside(&*source).await? {
            return Ok(self.all(cx, None).await?.0);
        }
        let before = standing(&*source, &from).await?;
        let (copied, inside) = self.all(cx, Some(&before.0.busy())).await?;
        let after = standing(&*source, &from).await?;
        let written = after.0.touched_since(&before.0);
        let calm = written.is_some_and(|tables| !tables.iter().any(|table| inside.contains(table)));
        if calm && after.1 == before.1 {
            return Ok(copied);
        }
        cx.log("what the server has copied was written meanwhile: everything comes from one dump instead");
        Ok(self.all(cx, None).await?.0)
    }

    /// Everything anew, and which tables the server itself has copied: what it can, but those; `None`: nothing.
    pub(super) async fn all(
        &self,
        cx: &Cx<'_, dyn World>,
        inside_but: Option<&[String]>,
    ) -> Result<(Copied, Vec<String>), StepError> {
        let source = cx.ports.database(&self.from.server, &scope(cx))?;
        let (from, _) = self.from.known(cx)?;
        let facts = source.schema_facts(&from).await?;
        demand_unnamed(&from, &self.to.known(cx)?.0, &facts)?;
        let rewrite = self.rewrite()?;
        let (plain, without_rows) = self.plain(&*source, &from, (None, inside_but), &rewrite).await?;
        let left = facts.bytes.saturating_sub(plain.iter().map(|table| table.bytes).sum());
        let inside = plain.iter().map(|table| table.name.clone()).collect();
        // The dump is opened when the schema is empty: what is open and not read ties up the server.
        let dump = async { Ok(source.dump_without_rows(&from, &without_rows).await?) };
        let copied = import_rewritten(cx, (&self.site, &self.to), dump, rewrite, left).await?;
        let rows_copied = self.copy_rows(cx, &*source, plain).await?;
        Ok((Copied { rows_copied, ..copied }, inside))
    }

    /// Tables whose rows the server can copy by itself, and all whose rows are left out of a dump.
    pub(super) async fn plain(
        &self,
        source: &dyn Database,
        from: &DatabaseName,
        (among, inside_but): (Option<&[String]>, Option<&[String]>),
        rewrite: &Rewrite,
    ) -> Result<(Vec<PlainTable>, Vec<String>), StepError> {
        let mut plain = Vec::new();
        if let Some(but) = inside_but.filter(|_| self.from.server == self.to.server) {
            plain = source.plain_tables(from, among, rewrite.telltales()).await?;
            plain.retain(|table| !but.contains(&table.name));
            plain = nameable(plain);
        }
        // Pages that were kept under two names of the site would have one and the same key under the new name.
        let mut caches =
            if self.rename.is_some() { source.tables_with(from, &CACHE).await? } else { Vec::new() };
        caches.retain(|table| among.is_none_or(|among| among.contains(table)));
        let plain: Vec<PlainTable> =
            plain.into_iter().filter(|table| !caches.contains(&table.name)).collect();
        let without_rows = plain.iter().map(|table| table.name.clone()).chain(caches).collect();
        Ok((plain, without_rows))
    }

    /// Large tables one by one, the small ones together.
    pub(super) async fn copy_rows(
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

/// The largest of these tables, as many as a command can name.
fn nameable(mut tables: Vec<PlainTable>) -> Vec<PlainTable> {
    tables.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    let mut room = MAX_NAMES;
    let fits = tables.iter().take_while(|table| {
        let rest = room.checked_sub(table.name.len() + NAME_COSTS);
        room = rest.unwrap_or(0);
        rest.is_some()
    });
    let count = fits.count();
    tables.truncate(count);
    tables
}

impl CoveredBy for CopyDatabase {
    fn covered_by(&self) -> String {
        "goes with the new database".to_owned()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_names_the_largest_tables_and_no_more_than_it_can() {
        let table = |n: u64| PlainTable { name: format!("wp_{n:04}"), bytes: n };
        let few = nameable((0..3).map(table).collect());
        assert_eq!(few, [table(2), table(1), table(0)]);
        let many = nameable((0..5000).map(table).collect());
        assert_eq!((many.len(), many[0].bytes), (MAX_NAMES / (7 + NAME_COSTS), 4999));
    }
}
