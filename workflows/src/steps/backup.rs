//! The steps of a backup: write, read back, catalogue. Nothing is written in the site's directory or database.

use std::future::ready;

use bytes::Bytes;
use futures::channel::oneshot;
use futures::{StreamExt, TryStreamExt, stream};
use kedge_engine::context::Cx;
use kedge_engine::retry::Policy;
use kedge_engine::step::{Compensable, Compensate, Pivot, Query, Ref, Step, StepError};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::copy_database::counted;
use crate::place::{Place, Store, scope};
use crate::ports::{
    BackupInfo, BackupRequest, ByteStream, Compression, Files, OWN_MEMBERS, PortError, World,
};
use crate::records::{BACKUP, BackupRecord};

/// Two hours: the longest that packing a site may take.
const PACK_LIMIT_MS: u64 = 7_200_000;

/// Bytes of a dump behind which its snapshot has been taken for sure: what tools write before it is shorter.
const HEADING: usize = 16 * 1024;

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
        let left_out = self.left_out(&*files).await?;
        for name in &left_out {
            cx.log(format!("{name} is left out: an archive has a file of its own of that name"));
        }
        let manifest = json!({
            "task": cx.task, "site": self.place.site, "aliases": self.place.aliases, "platform": self.place.platform,
            "root": self.place.root, "dir": self.place.dir, "app": self.place.app, "web_server": self.place.web_server,
            "description": self.description, "exclude": self.exclude,
            "left_out": left_out,
            "database": {
                "server": self.store.server, "schema": schema, "user": user, "flavour": facts.flavour,
                "version": facts.version, "charset": schema_facts.charset.charset,
                "collation": schema_facts.charset.collation, "not_in_the_snapshot": schema_facts.not_in_the_snapshot,
            },
            "created_at": cx.now,
        });
        let dump = counted(cx, server.dump(&schema).await?, schema_facts.bytes + usage.bytes);
        let (dump, begun) = telling_its_begin(dump);
        let (dir, exclude) = (self.place.dir.clone(), not_packed(&self.exclude));
        let files = stream::once(async move {
            // Told, or the dump has ended: it has begun, or nobody waits for the files.
            begun.await.ok();
            files.pack(&dir, &exclude).await
        });
        let request = BackupRequest {
            name: self.name.clone(),
            compression: self.compression,
            database: Some(dump),
            files: Some(Box::pin(files.try_flatten())),
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

/// What the packer passes over. The archive's own names are among it, instead of being taken out of the packed stream: where such a file
/// has a second name, that one has its content then, and is no link to something that is not there.
fn not_packed(exclude: &[String]) -> Vec<String> {
    exclude.iter().cloned().chain(OWN_MEMBERS.map(str::to_owned)).collect()
}

impl WriteBackup {
    /// What of the site has a name that is the archive's own.
    async fn left_out(&self, files: &dyn Files) -> Result<Vec<&'static str>, StepError> {
        let mut there = Vec::new();
        for name in OWN_MEMBERS {
            if files.stat(&format!("{}/{name}", self.place.dir)).await?.is_some() {
                there.push(name);
            }
        }
        Ok(there)
    }
}

/// A dump, and its word that its snapshot has been taken. The files are packed from then on: what a site's database names is among them,
/// since a site puts a file first and names it then.
fn telling_its_begin(dump: ByteStream) -> (ByteStream, oneshot::Receiver<()>) {
    let (sender, begun) = oneshot::channel();
    let (mut sender, mut seen) = (Some(sender), 0);
    let dump = dump.map(Some).chain(stream::iter([None])).filter_map(move |piece| {
        seen += piece.iter().flatten().map(Bytes::len).sum::<usize>();
        if (seen >= HEADING || piece.is_none())
            && let Some(sender) = sender.take()
        {
            // Nobody waits when there are no files.
            sender.send(()).ok();
        }
        ready(piece)
    });
    (Box::pin(dump), begun)
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
    /// Paths relative to the site's directory that it was made without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) exclude: Vec<String>,
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
            exclude: self.exclude.clone(),
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

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn dump(pieces: &[usize]) -> ByteStream {
        let pieces: Vec<_> = pieces.iter().map(|size| Ok(Bytes::from(vec![b'x'; *size]))).collect();
        Box::pin(stream::iter(pieces))
    }

    #[test]
    fn the_packer_passes_over_what_an_archive_has_for_itself() {
        let without = ["wp-content/cache".to_owned()];
        assert_eq!(not_packed(&without), ["wp-content/cache", "database.sql", ".kedge-manifest.json"]);
    }

    #[test]
    fn files_wait_for_the_snapshot_and_for_no_more() {
        let (mut told, mut begun) = telling_its_begin(dump(&[1000, HEADING, 70_000]));
        for expected in [false, true, true] {
            told.next().now_or_never().expect("ready").expect("a piece").expect("bytes");
            assert_eq!(
                begun.try_recv().is_ok_and(|word| word.is_some()) || begun.try_recv().is_err(),
                expected
            );
        }
        for short in [&[] as &[usize], &[10]] {
            let (told, begun) = telling_its_begin(dump(short));
            assert_eq!(told.count().now_or_never(), Some(short.len()));
            assert_eq!(begun.now_or_never(), Some(Ok(())));
        }
        let (told, begun) = telling_its_begin(dump(&[10]));
        drop(told);
        assert!(
            begun.now_or_never().is_some_and(|word| word.is_err()),
            "a dump that is given up holds nobody up"
        );
    }
}
