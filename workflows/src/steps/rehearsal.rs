//! Steps on a backup that is tried: what came out of it, the note that it restores, the end of the database it was tried in; and the note
//! that it is to be kept.

use kedge_engine::context::Cx;
use kedge_engine::retry::Policy;
use kedge_engine::step::{Pivot, Query, Ref, Retriable, Step, StepError};
use kedge_engine::task::Millis;
use serde::{Deserialize, Serialize};

use super::copy_database::Copied;
use crate::names::SiteName;
use crate::place::{Place, Store, mark, scope};
use crate::ports::{Contents, DatabaseFingerprint, World};
use crate::records::{BACKUP, BackupRecord, DATABASE_NAME};

/// Half an hour: counting every row of a large site.
const COUNT_LIMIT_MS: u64 = 1_800_000;

/// Compares what is in the database with what was in the backup.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CheckRehearsal {
    /// Where the site is, or was.
    pub(crate) place: Place,
    /// The database that is thrown away.
    pub(crate) store: Store,
    /// What the archive told of itself.
    pub(crate) contents: Ref<Contents>,
    /// What the import did.
    pub(crate) imported: Ref<Copied>,
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rehearsed {
    /// The backup.
    pub(crate) backup: String,
    /// Tables and views.
    pub(crate) tables: u64,
    /// Members of the archive, each with its checksum.
    pub(crate) members: u64,
}

impl Step for CheckRehearsal {
    type Ports = dyn World;
    type Output = Rehearsed;
    type Mode = Query;
    const KIND: &'static str = "check_rehearsal";

    fn title(&self) -> String {
        "compare what was restored with what the backup holds".to_owned()
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<Rehearsed, StepError> {
        let (contents, imported) = (cx.output(&self.contents)?, cx.output(&self.imported)?);
        let info = contents.info;
        let failed =
            |why: String| Err(StepError::fatal(format!("the backup {} does not restore: {why}", info.name)));
        let (scope, place) = (scope(cx), &self.place);
        let (schema, _) = self.store.known(cx)?;
        let server = cx.ports.database(&self.store.server, &scope)?;
        let there = server.schema_facts(&schema).await?.tables;
        if there == 0 || there != imported.tables {
            return failed(format!("{there} tables are there, {} were imported", imported.tables));
        }
        // Every table is read through and its rows are counted: one that cannot be read fails here.
        let app = cx.ports.app(&place.web_server, &place.platform, place.app, &scope)?;
        let request = DatabaseFingerprint { schema, user: None, volatile: app.volatile_rows(), full: false };
        let seen = server.fingerprint(&request).await?;
        cx.log(format!("{} entries: {}", seen.entries.len(), seen.digest));
        let found = seen.entries.iter().filter(|(key, _)| is_table(key)).count() as u64;
        if let Some(made) = contents.tables.filter(|made| found < *made) {
            return failed(format!("its dump makes {made} tables, {found} are there"));
        }
        Ok(Rehearsed { backup: info.name, tables: there, members: info.members })
    }

    fn policy(&self) -> Policy {
        Policy::RUN.limit(COUNT_LIMIT_MS)
    }

    fn reports(&self) -> bool {
        true
    }
}

/// Whether an entry of a fingerprint stands for a table that a dump makes: views and sequences are others.
fn is_table(entry: &str) -> bool {
    ["base table:", "system versioned:"].iter().any(|kind| entry.starts_with(kind))
}

/// Notes that a backup restores.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CommitRehearsal {
    /// The backup.
    pub(crate) backup: String,
}

/// When it was found to restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RehearsedAt {
    /// In milliseconds since 1970.
    pub(crate) rehearsed_at: Millis,
}

async fn change(
    cx: &Cx<'_, dyn World>,
    name: &str,
    change: impl FnOnce(&mut BackupRecord),
) -> Result<(), StepError> {
    let record: Option<BackupRecord> = cx.record(BACKUP, name)?;
    let mut record = record
        .ok_or_else(|| StepError::fatal(format!("the backup {name} is not in the registry any more")))?;
    change(&mut record);
    cx.put_record(BACKUP, name, &record)
}

impl Step for CommitRehearsal {
    type Ports = dyn World;
    type Output = RehearsedAt;
    type Mode = Pivot;
    const KIND: &'static str = "commit_rehearsal";

    fn title(&self) -> String {
        format!("note that {} restores", self.backup)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<RehearsedAt, StepError> {
        change(cx, &self.backup, |record| record.rehearsed_at = Some(cx.now)).await?;
        Ok(RehearsedAt { rehearsed_at: cx.now })
    }

    fn reports(&self) -> bool {
        true
    }
}

/// Drops the database that a backup was tried in, and its user.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DropRehearsal {
    /// The backup's site.
    pub(crate) site: SiteName,
    /// The database.
    pub(crate) store: Store,
}

impl Step for DropRehearsal {
    type Ports = dyn World;
    type Output = ();
    type Mode = Retriable;
    const KIND: &'static str = "drop_rehearsal";

    fn title(&self) -> String {
        format!("drop the database on {} that it was tried in", self.store.server)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let (schema, user) = self.store.known(cx)?;
        let (server, mark) = (cx.ports.database(&self.store.server, &scope(cx))?, mark(cx, &self.site));
        server.drop_schema(&schema, &mark).await?;
        server.drop_user(&user, &self.store.password, &mark).await?;
        // Last: without the password the user could not be recognised as ours.
        cx.ports.secrets().remove(&self.store.password).await?;
        cx.delete_record(DATABASE_NAME, format!("{}/{schema}", self.store.server));
        Ok(())
    }

    fn policy(&self) -> Policy {
        Policy::PERSISTENT
    }
}

/// Notes that a backup is to be kept, or no longer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CommitPin {
    /// The backup.
    pub(crate) backup: String,
    /// Whether it is.
    pub(crate) pinned: bool,
}

impl Step for CommitPin {
    type Ports = dyn World;
    type Output = ();
    type Mode = Pivot;
    const KIND: &'static str = "commit_pin";

    fn title(&self) -> String {
        let what = if self.pinned { "is kept whatever a purge is told" } else { "may be purged again" };
        format!("decide: the backup {} {what}", self.backup)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        change(cx, &self.backup, |record| record.pinned = self.pinned).await
    }
}
