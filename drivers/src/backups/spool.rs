//! The dump on its way into an archive, where its size comes first: kept compressed in a file beside the archive, which is
//! removed in the end, however it ends.

use std::fs::{self, File};
use std::io::{self, BufReader, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use kedge_workflows::ports::PortResult;
use sha2::{Digest, Sha256};

use super::failed;

/// Level of zstd: the fastest, as the file lives for minutes.
const LEVEL: i32 = 1;

/// A dump that is being received.
pub(super) struct Spool {
    encoder: zstd::Encoder<'static, File>,
    owned: Owned,
    hash: Sha256,
    bytes: u64,
}

/// A whole dump.
pub(super) struct Spooled {
    file: File,
    owned: Owned,
    /// Bytes of SQL.
    pub(super) bytes: u64,
    /// Their SHA-256 in hex.
    pub(super) sha256: String,
}

impl Spool {
    pub(super) fn new(path: PathBuf) -> PortResult<Self> {
        let (file, owned) = Owned::create(path)?;
        let encoder = zstd::Encoder::new(file, LEVEL).map_err(|error| failed(owned.path(), &error))?;
        Ok(Self { encoder, owned, hash: Sha256::new(), bytes: 0 })
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> PortResult<()> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        self.encoder.write_all(bytes).map_err(|error| failed(self.owned.path(), &error))
    }

    pub(super) fn finish(self) -> PortResult<Spooled> {
        let Self { encoder, owned, hash, bytes } = self;
        let file = encoder.finish().map_err(|error| failed(owned.path(), &error))?;
        Ok(Spooled { file, owned, bytes, sha256: hex::encode(hash.finalize()) })
    }
}

impl Spooled {
    /// Writes the SQL. Errors of reading carry the spool's path, those of writing are the writer's.
    pub(super) fn copy_to(mut self, writer: &mut impl Write) -> PortResult<io::Result<()>> {
        let unread = |error: &io::Error| failed(self.owned.path(), error);
        self.file.rewind().map_err(|error| unread(&error))?;
        let mut decoder =
            zstd::Decoder::with_buffer(BufReader::new(&self.file)).map_err(|error| unread(&error))?;
        let copied = io::copy(&mut decoder, writer);
        Ok(copied.and_then(|copied| {
            if copied == self.bytes { Ok(()) } else { Err(io::Error::other("the spooled dump is cut off")) }
        }))
    }
}

/// A file of ours that is removed when this is dropped, unless it was renamed by then or another one has its name.
pub(super) struct Owned {
    path: PathBuf,
    inode: u64,
}

impl Owned {
    /// A new file, 0600, in place of what a crash left there.
    pub(super) fn create(path: PathBuf) -> PortResult<(File, Self)> {
        use std::os::unix::fs::MetadataExt;
        let create = || -> io::Result<(File, u64)> {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let file =
                fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
            let inode = file.metadata()?.ino();
            Ok((file, inode))
        };
        let (file, inode) = create().map_err(|error| failed(&path, &error))?;
        Ok((file, Self { path, inode }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        use std::os::unix::fs::MetadataExt;
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|there| there.ino() == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a partial backup could not be removed");
        }
    }
}
