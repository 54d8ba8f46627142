//! Steps on databases: the new schema and user, the copy into it, the write fence on the old.

use std::sync::Arc;

use futures::StreamExt as _;
use kedge_engine::context::Cx;
use kedge_engine::retry::Policy;
use kedge_engine::step::{Compensable, Compensate, Covered, CoveredBy, Ref, Retriable, Step, StepError};
use serde::{Deserialize, Serialize};

use super::preflight::Found;
use crate::names::SiteName;
use crate::place::{Store, mark, scope};
use crate::ports::{ByteStream, Charset, Database, EventsReport, PlainTable, PortError, World};
use crate::rewrite::{Pair, Rewrite, SqlRewriter, rewrite_stream};

/// An hour: the longest that a dump and import of a site may take.
const COPY_LIMIT_MS: u64 = 3_600_000;
/// A table of this size, in bytes, is copied by itself: more than a command costs.
const LARGE_TABLE: u64 = 4 * 1024 * 1024;
/// Tables copied at once: more only fight for the same disk.
const COPIES_AT_ONCE: usize = 2;
/// Bytes between two reports of progress.
const PROGRESS_EVERY: u64 = 1024 * 1024;

/// Columns of the tables in which Drupal, since 6, keeps what it computes again (`DatabaseBackend::schemaDefinition()`, `system_schema()`).
const CACHE: [&str; 5] = ["cid", "data", "expire", "created", "serialized"];

/// Creates the new schema, with the character set of the old one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CreateSchema {
    /// For this site.
    pub(crate) site: SiteName,
    /// What to create.
    pub(crate) store: Store,
    /// Facts of the old side, if there is one.
    pub(crate) found: Option<Ref<Found>>,
}

impl Step for CreateSchema {
    type Ports = dyn World;
    type Output = ();
    type Mode = Compensable;
    const KIND: &'static str = "create_schema";

    fn title(&self) -> String {
        format!("create the new database of {} on {}", self.site, self.store.server)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let server = cx.ports.database(&self.store.server, &scope(cx))?;
        let (schema, _) = self.store.known(cx)?;
        let like: Option<Charset> = match &self.found {
            Some(found) => cx.output(found)?.charset,
            None => None,
        };
        Ok(server.create_schema(&schema, &mark(cx, &self.site), like.as_ref()).await?)
    }
}

impl Compensate for CreateSchema {
    fn undo_title(&self) -> String {
        "drop the new database, if it carries this task's mark".to_owned()
    }

    async fn undo(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let Some((schema, _)) = self.store.names(cx)? else { return Ok(()) };
        let server = cx.ports.database(&self.store.server, &scope(cx))?;
        Ok(server.drop_schema(&schema, &mark(cx, &self.site)).await?)
    }
}

/// Creates the new database user, with a password of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CreateUser {
    /// For this site.
    pub(crate) site: SiteName,
    /// What to create.
    pub(crate) store: Store,
}

impl Step for CreateUser {
    type Ports = dyn World;
    type Output = ();
    type Mode = Compensable;
    const KIND: &'static str = "create_user";

    fn title(&self) -> String {
        format!("create a database user for {} with a new password", self.site)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let (schema, user) = self.store.known(cx)?;
        cx.ports.secrets().ensure(&self.store.password).await?;
        let server = cx.ports.database(&self.store.server, &scope(cx))?;
        Ok(server.create_user(&user, &schema, &self.store.password, &mark(cx, &self.site)).await?)
    }
}

impl Compensate for CreateUser {
    fn undo_title(&self) -> String {
        "drop the new database user, if it is this task's".to_owned()
    }

    async fn undo(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        if let Some((_, user)) = self.store.names(cx)? {
            let server = cx.ports.database(&self.store.server, &scope(cx))?;
            server.drop_user(&user, &self.store.password, &mark(cx, &self.site)).await?;
        }
        // Last: as long as the user may be there, its password proves that it is ours.
        Ok(cx.ports.secrets().remove(&self.store.password).await?)
    }
}

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
    let (sql, report) = rewrite_stream(dump.await?, SqlRewriter::new(rewrite));
    let imported = target.import(&schema, &mark, &store.login(user), counted(cx, sql, total)).await?;
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
        match &self.rename {
            Some((from, to)) => format!("copy the database into the new one, rewriting {from} to {to}"),
            None => "copy the database into the new one".to_owned(),
        }
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<Copied, StepError> {
        let scope = scope(cx);
        let source = cx.ports.database(&self.from.server, &scope)?;
        let (from, _) = self.from.known(cx)?;
        let total = source.schema_facts(&from).await?.bytes;
        let rewrite = rewrite(self.rename.iter().chain(&self.also), &self.moves)?;
        let plain = if self.fenced && self.from.server == self.to.server {
            source.plain_tables(&from, rewrite.telltales()).await?
        } else {
            Vec::new()
        };
        // Pages that were kept under two names of the site would have one and the same key under the new name.
        let caches =
            if self.rename.is_some() { source.tables_with(&from, &CACHE).await? } else { Vec::new() };
        let plain: Vec<PlainTable> =
            plain.into_iter().filter(|table| !caches.contains(&table.name)).collect();
        let left = total.saturating_sub(plain.iter().map(|table| table.bytes).sum());
        let names: Vec<String> = plain.iter().map(|table| table.name.clone()).chain(caches).collect();
        // The dump is opened when the schema is empty: what is open and not read ties up the server.
        let dump = async { Ok(source.dump_without_rows(&from, &names).await?) };
        let copied = import_rewritten(cx, (&self.site, &self.to), dump, rewrite, left).await?;
        let rows_copied = self.copy_rows(cx, &*source, plain).await?;
        Ok(Copied { rows_copied, ..copied })
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

/// Switches on the new side's events, now that the old side serves nobody any more: until then they would have run twice.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StartEvents {
    /// The site.
    pub(crate) site: SiteName,
    /// Its database.
    pub(crate) store: Store,
}

impl Step for StartEvents {
    type Ports = dyn World;
    type Output = EventsReport;
    type Mode = Retriable;
    const KIND: &'static str = "start_events";

    fn title(&self) -> String {
        "switch on the scheduled events of the new database".to_owned()
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<EventsReport, StepError> {
        let (schema, user) = self.store.known(cx)?;
        let server = cx.ports.database(&self.store.server, &scope(cx))?;
        let report = server.start_events(&schema, &mark(cx, &self.site), &self.store.login(user)).await?;
        for event in &report.passed {
            cx.log(format!("the event {event} stays off: its only time has passed"));
        }
        Ok(report)
    }

    fn policy(&self) -> Policy {
        Policy::PERSISTENT
    }

    fn by_hand(&self) -> Vec<String> {
        vec![
            "ALTER EVENT <name> ENABLE, for each event of the site's database that is disabled on replicas"
                .to_owned(),
        ]
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

/// Locks the account of the side that is left, so that nothing writes to it any more: a 503 stops neither cron nor old workers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Fence {
    /// Whose account.
    pub(crate) store: Store,
    /// How it was before.
    pub(crate) found: Ref<Found>,
}

impl Step for Fence {
    type Ports = dyn World;
    type Output = ();
    type Mode = Compensable;
    const KIND: &'static str = "fence";

    fn title(&self) -> String {
        "stop all writes: lock the site's database account and end its sessions".to_owned()
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let (_, user) = self.store.known(cx)?;
        let server = cx.ports.database(&self.store.server, &scope(cx))?;
        Ok(server.set_account_locked(&user, true).await?)
    }
}

impl Compensate for Fence {
    fn undo_title(&self) -> String {
        "unlock the account, unless it was locked before".to_owned()
    }

    async fn undo(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        if cx.maybe(&self.found)?.is_some_and(|found| found.account_locked) {
            return Ok(());
        }
        let Some((_, user)) = self.store.names(cx)? else { return Ok(()) };
        let server = cx.ports.database(&self.store.server, &scope(cx))?;
        Ok(server.set_account_locked(&user, false).await?)
    }
}

/// Unlocks the account of a side that comes back from the trash.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Unfence {
    /// Whose account.
    pub(crate) store: Store,
}

impl Step for Unfence {
    type Ports = dyn World;
    type Output = ();
    type Mode = Compensable;
    const KIND: &'static str = "unfence";

    fn title(&self) -> String {
        "unlock the database account of the old side".to_owned()
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let (_, user) = self.store.known(cx)?;
        let server = cx.ports.database(&self.store.server, &scope(cx))?;
        Ok(server.set_account_locked(&user, false).await?)
    }
}

impl Compensate for Unfence {
    fn undo_title(&self) -> String {
        "lock it again".to_owned()
    }

    async fn undo(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let (_, user) = self.store.known(cx)?;
        let server = cx.ports.database(&self.store.server, &scope(cx))?;
        Ok(server.set_account_locked(&user, true).await?)
    }
}
