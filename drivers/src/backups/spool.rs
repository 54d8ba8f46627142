//! The dump on its way into an archive, where its size comes first: packed as it will be there, in a file beside the archive, which
//! is removed in the end, however it ends.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kedge_workflows::ports::{Compression, PortResult};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::Receiver;

use super::pack::{Output, Packer};
use super::tables::Tables;
use super::write::Piece;
use super::{failed, given_up, make_dir};

/// Bytes copied at once.
const CHUNK: usize = 256 * 1024;

/// A whole dump.
pub(super) struct Spooled {
    file: File,
    owned: Owned,
    /// Bytes of SQL.
    pub(super) bytes: u64,
    /// Their SHA-256 in hex.
    pub(super) sha256: String,
    /// Tables that they make.
    pub(super) tables: u64,
}

impl Spooled {
    /// Receives a dump to its end, or to where it is given up.
    pub(super) fn receive(
        path: PathBuf,
        compression: Compression,
        mut pieces: Receiver<Piece>,
    ) -> PortResult<Self> {
        if let Some(dir) = path.parent() {
            make_dir(dir)?;
        }
        let (file, owned) = Owned::create(path)?;
        let on_disk = |error: &io::Error| failed(owned.path(), error);
        let mut packer = Packer::new(Output::new(file), compression).map_err(|error| on_disk(&error))?;
        let (mut hash, mut bytes, mut tables) = (Sha256::new(), 0, Tables::default());
        loop {
            match pieces.blocking_recv() {
                None => return Err(given_up()),
                Some(Piece::Whole) => break,
                Some(Piece::Bytes(piece)) => {
                    hash.update(&piece);
                    tables.push(&piece);
                    bytes += piece.len() as u64;
                    packer.write_all(&piece).map_err(|error| on_disk(&error))?;
                }
            }
        }
        let file = packer.end().and_then(Output::into_file).map_err(|error| on_disk(&error))?;
        Ok(Self { file, owned, bytes, sha256: hex::encode(hash.finalize()), tables: tables.count() })
    }

    /// Copies the packed dump. Errors of reading carry the spool's path, those of writing are the writer's.
    pub(super) fn copy_to(mut self, writer: &mut impl Write) -> PortResult<io::Result<()>> {
        let unread = |error: &io::Error| failed(self.owned.path(), error);
        self.file.rewind().map_err(|error| unread(&error))?;
        let mut buffer = vec![0; CHUNK];
        loop {
            let read = self.file.read(&mut buffer).map_err(|error| unread(&error))?;
            if read == 0 {
                return Ok(Ok(()));
            }
            if let Err(error) = writer.write_all(&buffer[..read]) {
                return Ok(Err(error));
            }
        }
    }
}

/// Held while what has the name of a file is looked at and changed: an attempt whose task has given it up goes on beside the next one
/// until it notices.
static NAMING: Mutex<()> = Mutex::new(());

fn naming() -> MutexGuard<'static, ()> {
    // It guards nothing that a panic could leave half done.
    NAMING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file of ours that is removed when this is dropped, unless it was renamed by then or another one has its name.
pub(super) struct Owned {
    path: PathBuf,
    inode: u64,
    /// Open as long as this lives: no other file gets the inode.
    _open: File,
}

impl Owned {
    /// A new file, 0600, in place of what a crash left there.
    pub(super) fn create(path: PathBuf) -> PortResult<(File, Self)> {
        use std::os::unix::fs::MetadataExt;
        let create = || -> io::Result<(File, File, u64)> {
            let _alone = naming();
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let file =
                fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
            let inode = file.metadata()?.ino();
            Ok((file.try_clone()?, file, inode))
        };
        let (file, open, inode) = create().map_err(|error| failed(&path, &error))?;
        Ok((file, Self { path, inode, _open: open }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its name for good, unless another attempt has begun meanwhile: what has the path then is its half archive.
    pub(super) fn publish(&self, to: &Path) -> PortResult<()> {
        let _alone = naming();
        if !self.is_there() {
            return Err(given_up());
        }
        fs::rename(&self.path, to).map_err(|error| failed(to, &error))
    }

    fn is_there(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        fs::symlink_metadata(&self.path).is_ok_and(|there| there.ino() == self.inode)
    }
}

/// Removes files, in this order. Absent: fine.
pub(super) fn remove(paths: &[PathBuf]) -> PortResult<()> {
    let _alone = naming();
    for path in paths {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(path, &error)),
            _ => {}
        }
    }
    Ok(())
}

impl Drop for Owned {
    fn drop(&mut self) {
        let _alone = naming();
        if self.is_there()
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "a partial backup could not be removed");
        }
    }
}
