//! Writes an archive: the members of the site, the dump, the manifest. Site and dump come at once, each to a thread of its own; when
//! one of them ends before its last word, everything is removed.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kedge_workflows::ports::{BackupInfo, Compression, OWN_MEMBERS, PortError, PortResult};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::Receiver;

use super::pack::{Output, Packer, Signpost};
use super::spool::{Owned, Spooled};
use super::{DATABASE, MANIFEST, failed, given_up, make_dir, partial, read, refused, sync_dir};
use crate::tar::{END, Member, Reader, TarError, file_header, padding_of};

/// Version of the manifest.
const FORMAT_VERSION: u32 = 1;
/// Most names of members that were left out which a manifest lists.
const MAX_LEFT_OUT: usize = 100;
/// Most remarks of the packer that a manifest lists.
const MAX_WARNINGS: usize = 100;

/// What a worker is told.
pub(super) enum Piece {
    /// The next bytes.
    Bytes(Bytes),
    /// That was all. Without this word, what was written is thrown away.
    Whole,
}

/// An archive to be written.
pub(super) struct Archive {
    pub(super) dir: PathBuf,
    pub(super) name: String,
    pub(super) compression: Compression,
    pub(super) manifest: Map<String, Value>,
}

/// An archive that has the members of the site so far.
pub(super) struct Begun {
    output: Output,
    owned: Owned,
    files: Option<Written>,
}

/// What there is to tell of the members of a site.
#[derive(Default)]
struct Written {
    members: u64,
    left_out: Vec<String>,
    warnings: Vec<String>,
}

/// What there is to tell of a dump.
struct Dumped {
    bytes: u64,
    sha256: String,
    tables: u64,
}

impl Archive {
    /// Writes the members of the site, as far as there are any, to the end of their stream (`pieces`), or to where they are given up.
    pub(super) fn begin(&self, pieces: Option<Receiver<Piece>>) -> PortResult<Begun> {
        make_dir(&self.dir)?;
        self.must_be_free_or_ours(&self.dir.join(&self.name))?;
        let (file, owned) = Owned::create(partial(&self.dir, &self.name))?;
        let mut output = Output::new(file);
        let Some(mut pieces) = pieces else { return Ok(Begun { output, owned, files: None }) };
        let on_disk = |error: &io::Error| failed(owned.path(), error);
        let bad = |why: TarError| refused(&self.name, &format!("its files: {why}"));
        let mut packer = Packer::new(output, self.compression).map_err(|error| on_disk(&error))?;
        let (mut reader, mut out, mut written) = (Reader::default(), Vec::new(), Written::default());
        loop {
            let bytes = match pieces.blocking_recv() {
                None => return Err(given_up()),
                Some(Piece::Whole) => break,
                Some(Piece::Bytes(bytes)) => bytes,
            };
            let wanted = |member: &Member| Ok::<_, TarError>(!self.left_out(member, &mut written.left_out));
            reader.push(&bytes, &mut out, wanted).map_err(bad)?;
            packer.write_all(&out).map_err(|error| on_disk(&error))?;
            out.clear();
        }
        written.members = reader.finish().map_err(bad)?;
        written.warnings = reader.remarks();
        written.warnings.truncate(MAX_WARNINGS);
        for warning in &written.warnings {
            tracing::warn!(backup = self.name, warning, "a file was not still while it was packed");
        }
        output = packer.end().map_err(|error| on_disk(&error))?;
        Ok(Begun { output, owned, files: Some(written) })
    }

    /// Adds the dump and the manifest, and gives the archive its name.
    pub(super) fn finish(self, begun: Begun, dump: Option<Spooled>) -> PortResult<BackupInfo> {
        let Begun { mut output, owned, files } = begun;
        let on_disk = |error: &io::Error| failed(owned.path(), error);
        let put = |output, bytes: &[u8]| {
            let mut packer = Packer::new(output, self.compression)?;
            packer.write_all(bytes)?;
            packer.end()
        };
        let signpost = dump.as_ref().map(|_| Signpost { dump_at: output.bytes() });
        let database = dump.as_ref().map(|dump| Dumped {
            bytes: dump.bytes,
            sha256: dump.sha256.clone(),
            tables: dump.tables,
        });
        let mut members = 1 + files.as_ref().map_or(0, |files| files.members);
        let mut ending = Vec::new();
        if let Some(dump) = dump {
            members += 1;
            ending.extend_from_slice(padding_of(dump.bytes));
            output =
                put(output, &file_header(DATABASE, dump.bytes, now())).map_err(|error| on_disk(&error))?;
            dump.copy_to(&mut output)?.map_err(|error| on_disk(&error))?;
        }
        let database_bytes = database.as_ref().map_or(0, |dump| dump.bytes);
        let manifest = self.manifest(members, database, files)?;
        let length = manifest.len() as u64;
        for part in [file_header(MANIFEST, length, now()).as_slice(), &manifest, padding_of(length), &END] {
            ending.extend_from_slice(part);
        }
        output = put(output, &ending).map_err(|error| on_disk(&error))?;
        if let Some(signpost) = signpost.filter(|_| self.compression == Compression::Zstd) {
            output.write_all(&signpost.frame()).map_err(|error| on_disk(&error))?;
        }
        let (bytes, sha256) = output.finish().map_err(|error| on_disk(&error))?;
        let path = self.dir.join(&self.name);
        owned.publish(&path)?;
        sync_dir(&self.dir)?;
        Ok(BackupInfo { name: self.name, bytes, sha256, members, database_bytes })
    }

    /// An archive of that name may be replaced if it is of the same task.
    fn must_be_free_or_ours(&self, path: &Path) -> PortResult<()> {
        if fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return Ok(());
        }
        let theirs =
            || PortError::NotOurs(format!("backup {}: it is there already, and not of this task", self.name));
        let task = self.manifest.get("task").ok_or_else(theirs)?;
        // What cannot be read is not known to be ours.
        let there = read::read(&self.dir, &self.name).ok().flatten().ok_or_else(theirs)?;
        if there.manifest.as_ref().and_then(|manifest| manifest.get("task")) == Some(task) {
            Ok(())
        } else {
            Err(theirs())
        }
    }

    /// Whether a member of the site has a name that is the writer's own: left over from a crash of another tool, or worse. It would
    /// take the place of the dump when the archive is unpacked.
    fn left_out(&self, member: &Member, left_out: &mut Vec<String>) -> bool {
        let ours = is_ours(member);
        if ours && left_out.len() < MAX_LEFT_OUT {
            let path = String::from_utf8_lossy(&member.path).into_owned();
            tracing::warn!(backup = self.name, path, "a file of the site was left out of its backup");
            left_out.push(path);
        }
        ours
    }

    fn manifest(
        &self,
        members: u64,
        database: Option<Dumped>,
        files: Option<Written>,
    ) -> PortResult<Vec<u8>> {
        let mut manifest = self.manifest.clone();
        let dump = database.as_ref();
        let has_files = files.is_some();
        let Written { left_out, warnings, .. } = files.unwrap_or_default();
        manifest.insert("format_version".to_owned(), json!(FORMAT_VERSION));
        manifest.insert("created_by".to_owned(), json!(concat!("kedge ", env!("CARGO_PKG_VERSION"))));
        manifest.insert(
            "contents".to_owned(),
            json!({
                "members": members, "database_bytes": dump.map(|dump| dump.bytes),
                "database_sha256": dump.map(|dump| &dump.sha256), "tables": dump.map(|dump| dump.tables),
                "files": has_files, "left_out": left_out, "warnings": warnings,
            }),
        );
        let text = serde_json::to_vec_pretty(&manifest);
        text.map_err(|error| refused(&self.name, &format!("its manifest cannot be written: {error}")))
    }
}

/// Whether a member is the dump or the manifest, however its path is written.
pub(super) fn is_ours(member: &Member) -> bool {
    let plain: Vec<&[u8]> =
        member.path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    OWN_MEMBERS.iter().any(|name| plain == [name.as_bytes()])
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
