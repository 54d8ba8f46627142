//! The lock on a data folder: one process at a time, and the second one is told who the first is.
//! The kernel lets go of it with the process, however that ends; the file stays.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use super::open::OpenError;

/// How long sled's own lock may outlive the process or the store that held it: as long as a child of that one takes to start.
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
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Only for the message: a holder that has not written its number yet is still a holder.
                let _ = file.take(20).read_to_string(&mut holder);
                let holder = holder.trim().parse().ok();
                return Err(OpenError::InUse { folder: folder.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(io("lock")(error)),
        }
        file.set_len(0).map_err(io("write"))?;
        file.rewind().map_err(io("write"))?;
        writeln!(file, "{}", std::process::id()).map_err(io("write"))?;
        Ok(Self { file })
    }
}

/// Waits until nobody has sled's data file locked. sled does not unlock it but only closes it, and so leaves the lock to its own
/// threads' last work and to children that are just being started; opening at that moment would fail.
pub(super) fn wait_for_sled(journal: &Path) -> Result<(), OpenError> {
    let path = journal.join("db");
    let file = match OpenOptions::new().read(true).write(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(OpenError::io("open", &path)(error)),
    };
    let (done, waiting) = mpsc::channel();
    std::thread::Builder::new()
        .name("kedge-lock".to_owned())
        .spawn(move || {
            let result = file.lock().and_then(|()| file.unlock());
            // When nobody listens any more, opening has been given up.
            let _ = done.send(result);
        })
        .map_err(OpenError::io("start a thread for", &path))?;
    match waiting.recv_timeout(LINGERING) {
        Ok(result) => result.map_err(OpenError::io("lock", &path)),
        Err(_) => Err(OpenError::InUse { folder: journal.to_owned(), holder: None }),
    }
}
