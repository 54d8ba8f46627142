//! The backups port: the one place where archives are kept, on the machine that runs Kedge.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{ByteStream, PortResult};

/// The backup directory.
#[async_trait]
pub trait Backups: Send + Sync {
    /// Writes an archive under a name: `./database.sql` (0600) from `database`, then the members of `files` (a tar stream), then
    /// `./.kedge-manifest.json` with `manifest`, counts and checksums. Written as `.partial`, synced, renamed. When it fails the
    /// partial file is removed. An archive of that name there already is replaced only if it is a leftover of the same task.
    async fn write(&self, request: BackupRequest) -> PortResult<BackupInfo>;
    /// Reads an archive through: decompresses, checks the manifest's checksums and the dump's trailer.
    async fn verify(&self, name: &str) -> PortResult<BackupInfo>;
    /// Removes an archive of this task (by its manifest; a damaged one is nobody's) and what was left of writing it.
    /// Absent: fine. Of another task: `NotOurs`, and it stays.
    async fn remove(&self, name: &str, task: &str) -> PortResult<()>;
    /// The archive, if it is complete.
    async fn stat(&self, name: &str) -> PortResult<Option<BackupInfo>>;
    /// Room in the backup directory, in bytes.
    async fn free_bytes(&self) -> PortResult<u64>;
}

/// An archive to be written.
pub struct BackupRequest {
    /// File name, `<site>-YYYYMMDD.HHMMSS.tar.zst`: no path parts.
    pub name: String,
    /// Compression by the name's ending.
    pub compression: Compression,
    /// The dump.
    pub database: Option<ByteStream>,
    /// The site directory as a tar stream.
    pub files: Option<ByteStream>,
    /// What the manifest says besides what the writer finds out (a JSON object).
    pub manifest: serde_json::Value,
}

/// Compression of an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Zstandard, level 3.
    #[default]
    Zstd,
    /// Gzip: readable by Aegir.
    Gzip,
    /// None.
    None,
}

impl Compression {
    /// End of an archive's name.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Zstd => ".tar.zst",
            Self::Gzip => ".tar.gz",
            Self::None => ".tar",
        }
    }
}

/// A finished archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupInfo {
    /// File name.
    pub name: String,
    /// Bytes on disk.
    pub bytes: u64,
    /// SHA-256 of the file in hex.
    pub sha256: String,
    /// Members of the archive.
    pub members: u64,
    /// Bytes of SQL.
    pub database_bytes: u64,
}
