//! The copy of a database that is made while its site is open, and what is copied again behind the write fence, since it was written
//! meanwhile. In any doubt everything is copied again.

use kedge_engine::context::Cx;
use kedge_engine::retry::Policy;
use kedge_engine::step::{Covered, CoveredBy, Step, StepError};
use serde::{Deserialize, Serialize};

use super::copy_database::{Copied, CopyDatabase, MAX_NAMES, rewritten};
use crate::names::DatabaseName;
use crate::place::{mark, scope};
use crate::ports::{Database, DatabaseFingerprint, SAME_LIFE, TableTimes, VolatileRows, World};

/// Names of tables in one line of a step's log.
const NAMES_TOLD: usize = 20;

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
        let (times, definitions) = standing(&*source, &from).await?;
        let target_running_since = copy.target_running_since(cx, &times).await?;
        let inside = copy.can_copy_inside(&*source).await?.then_some(&[][..]);
        let (copied, _) = copy.all(cx, inside).await?;
        Ok(Ahead { times, definitions, target_running_since, copied })
    }

    fn policy(&self) -> Policy {
        self.copy.policy()
    }

    fn slot(&self) -> Option<String> {
        self.copy.slot()
    }
}

impl CoveredBy for CopyAhead {
    fn covered_by(&self) -> String {
        self.copy.covered_by()
    }
}

impl CopyDatabase {
    /// Tables that may have been written since they were copied, and the look that tells it; `None` when it has to be everything:
    /// something else has changed, or nothing can be told.
    pub(super) async fn touched(
        &self,
        cx: &Cx<'_, dyn World>,
        ahead: &Ahead,
    ) -> Result<Option<(Vec<String>, TableTimes)>, StepError> {
        let source = cx.ports.database(&self.from.server, &scope(cx))?;
        let (from, _) = self.from.known(cx)?;
        let (times, definitions) = standing(&*source, &from).await?;
        if definitions != ahead.definitions {
            return Ok(None);
        }
        if self.target_running_since(cx, &times).await?.abs_diff(ahead.target_running_since) > SAME_LIFE {
            return Ok(None);
        }
        let touched = times.touched_since(&ahead.times);
        let touched = touched.filter(|names| names.iter().map(String::len).sum::<usize>() <= MAX_NAMES);
        Ok(touched.map(|names| (names, times)))
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

    /// These tables anew, of those that were copied ahead, as `seen` when the others were still as copied. `None` when the schema's own
    /// events, which no fence stops, made something else of it meanwhile: what is copied is then not of one moment.
    pub(super) async fn again(
        &self,
        cx: &Cx<'_, dyn World>,
        touched: &[String],
        seen: &TableTimes,
        ahead: Ahead,
    ) -> Result<Option<Copied>, StepError> {
        let done = ahead.copied;
        if touched.is_empty() {
            return Ok(Some(done));
        }
        let scope = scope(cx);
        let source = cx.ports.database(&self.from.server, &scope)?;
        let target = cx.ports.database(&self.to.server, &scope)?;
        let ((from, _), (to, user)) = (self.from.known(cx)?, self.to.known(cx)?);
        let events = source.schema_facts(&from).await?.events_on > 0;
        // What may be written still has to be of the dump's moment.
        let busy = if events { seen.busy() } else { Vec::new() };
        let rewrite = self.rewrite()?;
        let (plain, without_rows) =
            self.plain(&*source, &from, (Some(touched), Some(&busy)), &rewrite).await?;
        let inside: Vec<String> = plain.iter().map(|table| table.name.clone()).collect();
        let total = ahead.times.tables.iter().filter(|(name, _)| touched.contains(name));
        let total: u64 = total.map(|(_, table)| table.bytes).sum();
        let left = total.saturating_sub(plain.iter().map(|table| table.bytes).sum());
        let dump = source.dump_tables(&from, touched, &without_rows).await?;
        let (mark, login) = (mark(cx, &self.site), self.to.login(user));
        let import = |sql| target.import_tables(&to, &mark, &login, touched, sql);
        let copied = rewritten(cx, dump, rewrite, left, import).await?;
        let rows_copied = self.copy_rows(cx, &*source, plain).await?;
        if events {
            let (now, definitions) = standing(&*source, &from).await?;
            let of_the_dump = |table: &String| touched.contains(table) && !inside.contains(table);
            let written = now.touched_since(seen);
            if definitions != ahead.definitions || !written.is_some_and(|all| all.iter().all(of_the_dump)) {
                return Ok(None);
            }
        }
        Ok(Some(Copied {
            sql_bytes: done.sql_bytes + copied.sql_bytes,
            rows_copied: done.rows_copied + rows_copied,
            tables: copied.tables,
            values_rewritten: done.values_rewritten + copied.values_rewritten,
            values_left_alone: done.values_left_alone + copied.values_left_alone,
        }))
    }
}

/// When a schema's tables were written last, and a hash of everything in it but their rows.
pub(super) async fn standing(
    server: &dyn Database,
    schema: &DatabaseName,
) -> Result<(TableTimes, String), StepError> {
    let rows = VolatileRows { table_suffix: "*".to_owned(), column: String::new(), like: Vec::new() };
    let request =
        DatabaseFingerprint { schema: schema.clone(), user: None, volatile: vec![rows], full: false };
    let (times, definitions) = futures::try_join!(server.table_times(schema), server.fingerprint(&request))?;
    Ok((times, definitions.digest))
}

pub(super) fn tell(cx: &Cx<'_, dyn World>, touched: &[String]) {
    let mut told = touched.iter().take(NAMES_TOLD).cloned().collect::<Vec<_>>().join(", ");
    if touched.len() > NAMES_TOLD {
        told += ", ...";
    }
    match touched.len() {
        0 => cx.log("no table was written meanwhile"),
        count => cx.log(format!("{count} tables may have been written meanwhile: {told}")),
    }
}
