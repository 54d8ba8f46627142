//! The steps of a backup: write, read back, catalogue. Nothing is written in the site's directory or database.

use kedge_engine::context::Cx;
use kedge_engine::retry::Policy;
use kedge_engine::step::{Compensable, Compensate, Pivot, Query, Ref, Step, StepError};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::database::counted;
use crate::place::{Place, Store, scope};
use crate::ports::{BackupInfo, BackupRequest, Compression, PortError, World};
use crate::records::{BACKUP, BackupRecord};

/// Two hours: the longest that packing a site may take.
const PACK_LIMIT_MS: u64 = 7_200_000;

/// Writes the archive.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WriteBackup {
    /// The site's files.
    pub(crate) place: Place,
    /// Its database.
    pub(crate) store: Store,
    /// The archive's name.
    pub(crate) name: String,
    /// Its compression.
    pub(crate) compression: Compression,
    /// Why it is made.
    pub(crate) description: String,
    /// Paths relative to the site's directory that are left out.
    pub(crate) exclude: Vec<String>,
}

impl Step for WriteBackup {
    type Ports = dyn World;
    type Output = BackupInfo;
    type Mode = Compensable;
    const KIND: &'static str = "write_backup";

    fn title(&self) -> String {
        // Without the archive's name: it has the time in it, and a plan that is only looked at has none yet.
        "pack files and database into an archive".to_owned()
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<BackupInfo, StepError> {
        let scope = scope(cx);
        let server = cx.ports.database(&self.store.server, &scope)?;
        let files = cx.ports.files(&self.place.web_server, &scope)?;
        let (schema, user) = self.store.known(cx)?;
        let facts = server.facts().await?;
        let schema_facts = server.schema_facts(&schema).await?;
        let usage = files.usage(&self.place.dir).await?;
        let manifest = json!({
            "task": cx.task, "site": self.place.site, "platform": self.place.platform, "root": self.place.root,
            "dir": self.place.dir, "app": self.place.app, "web_server": self.place.web_server,
            "description": self.description,
            "database": {
                "server": self.store.server, "schema": schema, "user": user, "flavour": facts.flavour,
                "version": facts.version, "charset": schema_facts.charset.charset,
                "collation": schema_facts.charset.collation, "not_in_the_snapshot": schema_facts.not_in_the_snapshot,
            },
            "created_at": cx.now,
        });
        let dump = counted(cx, server.dump(&schema).await?, schema_facts.bytes + usage.bytes);
        let request = BackupRequest {
            name: self.name.clone(),
            compression: self.compression,
            database: Some(dump),
            files: Some(files.pack(&self.place.dir, &self.exclude).await?),
            manifest,
        };
        Ok(cx.ports.backups(&scope).write(request).await?)
    }

    fn policy(&self) -> Policy {
        Policy::RUN.limit(PACK_LIMIT_MS)
    }

    fn slot(&self) -> Option<String> {
        Some(format!("{} dump", self.store.server))
    }
}

impl Compensate for WriteBackup {
    fn undo_title(&self) -> String {
        "remove the unfinished archive".to_owned()
    }

    async fn undo(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        match cx.ports.backups(&scope(cx)).remove(&self.name, cx.task.as_str()).await {
            // Ours was never written: it would not have replaced that one.
            Err(PortError::NotOurs(_)) => Ok(()),
            removed => Ok(removed?),
        }
    }
}

/// Reads the archive through.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct VerifyBackup {
    /// The archive.
    pub(crate) name: String,
    /// As it was written.
    pub(crate) written: Ref<BackupInfo>,
}

impl Step for VerifyBackup {
    type Ports = dyn World;
    type Output = BackupInfo;
    type Mode = Query;
    const KIND: &'static str = "verify_backup";

    fn title(&self) -> String {
        "read the backup back and check it".to_owned()
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<BackupInfo, StepError> {
        let written = cx.output(&self.written)?;
        let read = cx.ports.backups(&scope(cx)).verify(&self.name).await?;
        if read == written {
            return Ok(read);
        }
        Err(StepError::fatal(format!(
            "the backup {} reads back differently from how it was written",
            self.name
        )))
    }

    fn policy(&self) -> Policy {
        Policy::RUN.limit(PACK_LIMIT_MS)
    }
}

/// Enters the backup into the registry: from here on it stays, whatever happens to the task.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CatalogBackup {
    /// The site's place.
    pub(crate) place: Place,
    /// Its database server.
    pub(crate) database_server: String,
    /// Why it was made.
    pub(crate) description: String,
    /// As it was read back.
    pub(crate) verified: Ref<BackupInfo>,
}

/// What a task reports of its backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Catalogued {
    /// File name.
    pub(crate) backup: String,
    /// Bytes on disk.
    pub(crate) backup_bytes: u64,
}

impl Step for CatalogBackup {
    type Ports = dyn World;
    type Output = Catalogued;
    type Mode = Pivot;
    const KIND: &'static str = "catalog_backup";

    fn title(&self) -> String {
        "enter the backup into the registry".to_owned()
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<Catalogued, StepError> {
        let info = cx.output(&self.verified)?;
        let record = BackupRecord {
            name: info.name.clone(),
            site: self.place.site.clone(),
            platform: self.place.platform.clone(),
            database_server: self.database_server.clone(),
            description: self.description.clone(),
            bytes: info.bytes,
            sha256: info.sha256,
            task: cx.task.to_string(),
            created_at: cx.now,
            pinned: false,
            rehearsed_at: None,
        };
        cx.put_record(BACKUP, info.name.clone(), &record)?;
        Ok(Catalogued { backup: info.name, backup_bytes: info.bytes })
    }

    fn reports(&self) -> bool {
        true
    }
}
