//! The lock on a data folder: one process at a time, and the second one is told who the first is.
//! The kernel lets go of it with the process, however that ends; the file stays.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use super::open::OpenError;

/// How long a lock may outlive the process or the store that held it: as long as a child of that one takes to start.
const LINGERING: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct DataLock {
    file: File,
}

impl Drop for DataLock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child that is just being started has a copy of it until it runs its program.
        if let Err(error) = self.file.unlock() {
            tracing::warn!(%error, "cannot unlock the data folder; the end of this process will");
        }
    }
}

impl DataLock {
    pub(super) fn take(folder: &Path) -> Result<Self, OpenError> {
        let path = folder.join("lock");
        let io = |doing| OpenError::io(doing, &path);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io("open"))?;
        if let Some(holder) = held(&mut file).map_err(io("lock"))? {
            let gone = holder.is_some_and(|holder| !Path::new(&format!("/proc/{holder}")).exists());
            // Of one that was killed, a child that was just being started may have it for a moment more.
            if !gone || !is_free_soon(&path)? {
                return Err(OpenError::InUse { folder: folder.to_owned(), holder });
            }
            if let Some(holder) = held(&mut file).map_err(io("lock"))? {
                return Err(OpenError::InUse { folder: folder.to_owned(), holder });
            }
        }
        file.set_len(0).map_err(io("write"))?;
        file.rewind().map_err(io("write"))?;
        writeln!(file, "{}", std::process::id()).map_err(io("write"))?;
        Ok(Self { file })
    }
}

/// Takes the lock, or tells whose it is, as far as they have written it.
fn held(file: &mut File) -> io::Result<Option<Option<u32>>> {
    match file.try_lock() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.rewind()?;
            // Only for the message: a holder that has not written its number yet is still a holder.
            let _ = file.take(20).read_to_string(&mut holder);
            Ok(Some(holder.trim().parse().ok()))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Waits until nobody has sled's data file locked. sled does not unlock it but only closes it, and so leaves the lock to its own
/// threads' last work and to children that are just being started; opening at that moment would fail.
pub(super) fn wait_for_sled(journal: &Path) -> Result<(), OpenError> {
    let path = journal.join("db");
    if path.exists() && !is_free_soon(&path)? {
        return Err(OpenError::InUse { folder: journal.to_owned(), holder: None });
    }
    Ok(())
}

/// Waits until nobody has a file locked, for as long as a lock may outlive its holder.
fn is_free_soon(path: &Path) -> Result<bool, OpenError> {
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(OpenError::io("open", path))?;
    let (done, waiting) = mpsc::channel();
    std::thread::Builder::new()
        .name("kedge-lock".to_owned())
        .spawn(move || {
            let result = file.lock().and_then(|()| file.unlock());
            // When nobody listens any more, opening has been given up.
            let _ = done.send(result);
        })
        .map_err(OpenError::io("start a thread for", path))?;
    match waiting.recv_timeout(LINGERING) {
        Ok(result) => result.map(|()| true).map_err(OpenError::io("lock", path)),
        Err(_) => Ok(false),
    }
}
