//! Reads an archive through: every byte is decompressed, every member counted, the dump hashed. Knows archives of ours only.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use kedge_workflows::ports::{BackupInfo, Compression, PortResult};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::pack::Unpacker;
use super::{DATABASE, MANIFEST, Packing, failed, refused};

/// Largest manifest: it lists names of the configuration and some numbers.
const MAX_MANIFEST: u64 = 1024 * 1024;
/// Bytes at the end of a dump in which its trailer is.
const END_OF_DUMP: usize = 512;
/// How the last line of a dump begins, in MySQL and MariaDB.
const TRAILER: &[u8] = b"-- Dump completed";

/// What an archive holds.
pub(super) struct Seen {
    pub(super) info: BackupInfo,
    /// What it says of itself; Aegir's archives say nothing.
    pub(super) manifest: Option<Value>,
    database: Option<Dump>,
}

struct Dump {
    bytes: u64,
    sha256: String,
    complete: bool,
}

/// Reads an archive; `None` if there is none.
pub(super) fn read(dir: &Path, name: &str) -> PortResult<Option<Seen>> {
    let path = dir.join(name);
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|error| failed(&path, &error))?,
    };
    let broken = |error: io::Error| refused(name, &format!("it is damaged: {error}"));
    let packing = Packing::of(name).unwrap_or(Packing::Ours(Compression::None));
    let mut archive = tar::Archive::new(Unpacker::new(file, packing).map_err(broken)?);
    let (mut members, mut database, mut manifest) = (0, None, None);
    for member in archive.entries().map_err(broken)? {
        let mut member = member.map_err(broken)?;
        members += 1;
        if *member.path_bytes() == *DATABASE.as_bytes() {
            database = Some(dump(&mut member).map_err(broken)?);
        } else if *member.path_bytes() == *MANIFEST.as_bytes() {
            let mut text = Vec::new();
            member.take(MAX_MANIFEST).read_to_end(&mut text).map_err(broken)?;
            manifest = Some(serde_json::from_slice(&text).map_err(io::Error::from).map_err(broken)?);
        }
    }
    let (bytes, sha256) = archive.into_inner().finish().map_err(broken)?;
    let database_bytes = database.as_ref().map_or(0, |dump: &Dump| dump.bytes);
    let info = BackupInfo { name: name.to_owned(), bytes, sha256, members, database_bytes };
    Ok(Some(Seen { info, manifest, database }))
}

impl Seen {
    /// The task that made it, if it tells.
    pub(super) fn task(&self) -> Option<&str> {
        self.manifest.as_ref()?.get("task")?.as_str()
    }

    /// Whether it has a dump, and whether it has members of a site.
    pub(super) fn parts(&self) -> (bool, bool) {
        let own = u64::from(self.database.is_some()) + u64::from(self.manifest.is_some());
        (self.database.is_some(), self.info.members > own)
    }

    /// Whether the dump is there and whole: of an archive without a manifest nothing else can be told.
    pub(super) fn has_whole_dump(&self) -> bool {
        self.database.as_ref().is_some_and(|dump| dump.complete)
    }

    /// Compares what is there with what the manifest says.
    pub(super) fn check(&self, name: &str) -> PortResult<()> {
        let no_manifest = || refused(name, "it is cut off, or not an archive of ours: no manifest");
        let manifest = self.manifest.as_ref().ok_or_else(no_manifest)?;
        let says = |key: &str| manifest.get("contents").and_then(|contents| contents.get(key));
        if says("members").and_then(Value::as_u64) != Some(self.info.members) {
            return Err(refused(name, "it has not as many members as its manifest says"));
        }
        let sha256 = says("database_sha256").and_then(Value::as_str);
        if sha256 != self.database.as_ref().map(|dump| dump.sha256.as_str()) {
            return Err(refused(name, "its dump is not the one that its manifest tells of"));
        }
        if self.database.as_ref().is_some_and(|dump| !dump.complete) {
            return Err(refused(
                name,
                "its dump is cut off: the line \"-- Dump completed\" is missing at its end",
            ));
        }
        Ok(())
    }
}

fn dump(member: &mut impl Read) -> io::Result<Dump> {
    let (mut hash, mut bytes, mut end) = (Sha256::new(), 0, Vec::new());
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = member.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        bytes += read as u64;
        end.extend_from_slice(&buffer[..read]);
        end.drain(..end.len().saturating_sub(END_OF_DUMP));
    }
    let last = end.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(Dump { bytes, sha256: hex::encode(hash.finalize()), complete: last.starts_with(TRAILER) })
}
