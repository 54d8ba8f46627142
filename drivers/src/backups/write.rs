//! Writes an archive: the dump, the members of the site, the manifest. Runs on a thread of its own, fed through a channel; when
//! that ends before the last word, everything is removed.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kedge_workflows::ports::{BackupInfo, Compression, PortError, PortResult};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::Receiver;

use super::pack::Packer;
use super::spool::{Owned, Spool};
use super::{DATABASE, MANIFEST, failed, make_dir, partial, read, refused, spooled, sync_dir};
use crate::tar::{END, Member, Reader, TarError, file_header, padding_of};

/// Version of the manifest.
const FORMAT_VERSION: u32 = 1;
/// Most names of members that were left out which a manifest lists.
const MAX_LEFT_OUT: usize = 100;
/// Most remarks of the packer that a manifest lists.
const MAX_WARNINGS: usize = 100;

/// What the worker is told.
pub(super) enum Piece {
    /// Bytes of the dump; all of them come first.
    Database(Bytes),
    /// Bytes of the site's tar stream.
    Files(Bytes),
    /// That was all.
    Whole,
}

/// An archive to be written.
pub(super) struct Archive<'a> {
    pub(super) dir: &'a Path,
    pub(super) name: &'a str,
    pub(super) compression: Compression,
    pub(super) manifest: Map<String, Value>,
    pub(super) has_files: bool,
}

/// What is written so far.
#[derive(Default)]
struct Written {
    members: u64,
    database: Option<(u64, String)>,
    left_out: Vec<String>,
    warnings: Vec<String>,
}

impl Archive<'_> {
    /// Writes the archive to its end and gives it its name.
    pub(super) fn write(self, mut pieces: Receiver<Piece>) -> PortResult<BackupInfo> {
        make_dir(self.dir)?;
        let path = self.dir.join(self.name);
        self.must_be_free_or_ours(&path)?;
        let (file, owned) = Owned::create(partial(self.dir, self.name))?;
        let on_disk = |error: &io::Error| failed(owned.path(), error);
        let mut packer = Packer::new(file, self.compression).map_err(|error| on_disk(&error))?;
        let mut written = Written::default();

        let mut piece = next(&mut pieces)?;
        if let Piece::Database(_) = piece {
            let mut spool = Spool::new(spooled(self.dir, self.name))?;
            while let Piece::Database(bytes) = piece {
                spool.push(&bytes)?;
                piece = next(&mut pieces)?;
            }
            let spool = spool.finish()?;
            let (bytes, sha256) = (spool.bytes, spool.sha256.clone());
            let put =
                |packer: &mut Packer, bytes: &[u8]| packer.write_all(bytes).map_err(|error| on_disk(&error));
            put(&mut packer, &file_header(DATABASE, bytes, now()))?;
            spool.copy_to(&mut packer)?.map_err(|error| on_disk(&error))?;
            put(&mut packer, padding_of(bytes))?;
            written.members += 1;
            written.database = Some((bytes, sha256));
        }

        let (mut reader, mut out) = (Reader::default(), Vec::new());
        while let Piece::Files(bytes) = piece {
            let wanted = |member: &Member| Ok::<_, TarError>(!self.left_out(member, &mut written.left_out));
            reader
                .push(&bytes, &mut out, wanted)
                .map_err(|why| refused(self.name, &format!("its files: {why}")))?;
            packer.write_all(&out).map_err(|error| on_disk(&error))?;
            out.clear();
            piece = next(&mut pieces)?;
        }
        if self.has_files {
            let members = reader.finish().map_err(|why| refused(self.name, &format!("its files: {why}")))?;
            written.members += members;
            written.warnings = reader.remarks();
            written.warnings.truncate(MAX_WARNINGS);
            for warning in &written.warnings {
                tracing::warn!(backup = self.name, warning, "a file was not still while it was packed");
            }
        }

        written.members += 1;
        let database_bytes = written.database.as_ref().map_or(0, |(bytes, _)| *bytes);
        let members = written.members;
        let manifest = self.manifest(written)?;
        let length = manifest.len() as u64;
        let ending =
            [&file_header(MANIFEST, length, now()), manifest.as_slice(), padding_of(length), &END].concat();
        packer.write_all(&ending).map_err(|error| on_disk(&error))?;
        let (bytes, sha256) = packer.finish().map_err(|error| on_disk(&error))?;
        fs::rename(owned.path(), &path).map_err(|error| failed(&path, &error))?;
        sync_dir(self.dir)?;
        Ok(BackupInfo { name: self.name.to_owned(), bytes, sha256, members, database_bytes })
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
        let there = read::read(self.dir, self.name).ok().flatten().ok_or_else(theirs)?;
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

    fn manifest(&self, written: Written) -> PortResult<Vec<u8>> {
        let mut manifest = self.manifest.clone();
        let (bytes, sha256) = written.database.unzip();
        manifest.insert("format_version".to_owned(), json!(FORMAT_VERSION));
        manifest.insert("created_by".to_owned(), json!(concat!("kedge ", env!("CARGO_PKG_VERSION"))));
        manifest.insert(
            "contents".to_owned(),
            json!({
                "members": written.members, "database_bytes": bytes, "database_sha256": sha256,
                "files": self.has_files, "left_out": written.left_out, "warnings": written.warnings,
            }),
        );
        let text = serde_json::to_vec_pretty(&manifest);
        text.map_err(|error| refused(self.name, &format!("its manifest cannot be written: {error}")))
    }
}

/// Whether a member is the dump or the manifest, however its path is written.
pub(super) fn is_ours(member: &Member) -> bool {
    let plain: Vec<&[u8]> =
        member.path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    [DATABASE, MANIFEST].iter().any(|name| plain == [name.trim_start_matches("./").as_bytes()])
}

/// The next piece; a channel that ends without the last word means that the archive is not wanted any more.
fn next(pieces: &mut Receiver<Piece>) -> PortResult<Piece> {
    pieces.blocking_recv().ok_or_else(|| PortError::Lost("the backup was given up before its end".to_owned()))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
