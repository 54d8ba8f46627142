//! The backups port: the one place where archives are kept, on the machine that runs Kedge.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{ByteStream, PortResult};

/// Longest name of an archive: a file name has 255 bytes, and archives that are being written have a longer one.
pub const MAX_BACKUP_NAME: usize = 230;

/// Names that an archive has for itself: its dump and its manifest. What a site's directory has of these names is in no archive.
pub const OWN_MEMBERS: [&str; 2] = ["database.sql", ".kedge-manifest.json"];

/// The backup directory.
#[async_trait]
pub trait Backups: Send + Sync {
    /// Writes an archive under a name: the members of `files` (a tar stream) and `./database.sql` (0600) from `database`, then
    /// `./.kedge-manifest.json` with `manifest`, counts, checksums and what the packer of the files had to say. Both streams are read at
    /// once, or the dump first: files may wait for it to begin. Written as `.partial`, synced, renamed. When it fails the partial file is
    /// removed. An archive of that name there already is replaced only if it is a leftover of the same task.
    async fn write(&self, request: BackupRequest) -> PortResult<BackupInfo>;
    /// Reads an archive through: decompresses, checks the manifest's checksums and the dump's trailer.
    async fn verify(&self, name: &str) -> PortResult<BackupInfo>;
    /// Removes an archive of this task (by its manifest; a damaged one is nobody's) and what was left of writing it.
    /// Absent: fine. Of another task: `NotOurs`, and it stays.
    async fn remove(&self, name: &str, task: &str) -> PortResult<()>;
    /// The archive, if it is complete.
    async fn stat(&self, name: &str) -> PortResult<Option<BackupInfo>>;
    /// Bytes of an archive's file, which is not read; `None` where there is none.
    async fn size(&self, name: &str) -> PortResult<Option<u64>>;
    /// Reads an archive of ours or of Aegir through, as `verify` does, and tells what is in it. Refuses what is damaged, cut off or no
    /// backup of a site.
    async fn contents(&self, name: &str) -> PortResult<Contents>;
    /// The dump in an archive. Ends with an error if it is cut off.
    async fn database(&self, name: &str) -> PortResult<ByteStream>;
    /// The site's members of an archive as a tar stream, without the dump and the manifest.
    async fn files(&self, name: &str) -> PortResult<ByteStream>;
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

/// What an archive holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// The archive.
    pub info: BackupInfo,
    /// Whether it has a dump.
    pub database: bool,
    /// Whether it has files of a site.
    pub files: bool,
    /// Tables that its dump makes; `None` where the archive does not tell (older ones, Aegir's).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tables: Option<u64>,
    /// Where its site was; `None` where the archive does not tell (Aegir's do not).
    pub origin: Option<Origin>,
}

/// Where a site was when it was backed up: what its content names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Its name.
    pub site: String,
    /// Other names that it answered to; `None` where the archive does not tell (older ones).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aliases: Option<Vec<String>>,
    /// Its directory.
    pub dir: String,
    /// Its platform's root.
    pub root: String,
    /// The application.
    pub app: String,
}

impl Origin {
    /// What the manifest of an archive tells.
    #[must_use]
    pub fn of(manifest: &serde_json::Value) -> Option<Self> {
        let text = |field: &str| manifest[field].as_str().map(str::to_owned);
        let aliases = serde_json::from_value(manifest["aliases"].clone()).ok().flatten();
        Some(Self { site: text("site")?, aliases, dir: text("dir")?, root: text("root")?, app: text("app")? })
    }
}
