//! The disk under the data folder: free space, the ballast that is given back when it is full, and what kind it is.
//! It never touches the journal or the blobs.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FallocateFlags, IFlags};
use rustix::io::Errno;

#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    /// Less than this is a shortage.
    floor: u64,
    ballast_bytes: u64,
    /// The ballast is missing and nobody has been asked yet to make it.
    ballast_wanted: AtomicBool,
}

impl Disk {
    pub(super) fn new(folder: &Path, floor: u64, ballast_bytes: u64) -> Self {
        let disk =
            Self { folder: folder.to_owned(), floor, ballast_bytes, ballast_wanted: AtomicBool::new(false) };
        let there = fs::metadata(disk.ballast()).is_ok_and(|file| file.len() == ballast_bytes);
        disk.ballast_wanted.store(ballast_bytes > 0 && !there, Ordering::Release);
        disk
    }

    /// Free bytes that we may use.
    pub(super) fn free(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.folder)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Why no new work should be taken on, if so.
    pub(super) fn shortage(&self) -> Option<String> {
        let folder = self.folder.display();
        match self.free() {
            Ok(free) if free >= self.floor => None,
            Ok(free) => Some(format!(
                "only {} free on the disk of {folder}, {} are wanted: make room there",
                size(free),
                size(self.floor)
            )),
            Err(error) => Some(format!("cannot see how much room is on the disk of {folder}: {error}")),
        }
    }

    /// What a person should do about an error of this disk. On a full one, the ballast goes, so that the next start finds room.
    pub(super) fn advice(&self, error: &io::Error) -> String {
        match error.kind() {
            _ if is_full(error) => {
                let ballast = self.ballast_bytes;
                let released = match self.release_ballast() {
                    true => format!(" ({} of ballast were released so that it can start)", size(ballast)),
                    false => String::new(),
                };
                format!("the disk is full: make room on it, then restart Kedge{released}")
            }
            io::ErrorKind::ReadOnlyFilesystem => {
                "the file system is read-only: see the kernel log, repair and remount it, then restart Kedge"
                    .to_owned()
            }
            _ => "see the kernel log for errors of the disk, then restart Kedge".to_owned(),
        }
    }

    /// Gives the ballast back before something is opened that needs room, when there is less than the ballast's size.
    pub(super) fn release_ballast_if_tight(&self) -> io::Result<()> {
        if self.free()? < self.ballast_bytes && self.release_ballast() {
            let folder = self.folder.display();
            tracing::warn!(
                "the disk of {folder} is full; {} of ballast were released to open the journal",
                size(self.ballast_bytes)
            );
        }
        Ok(())
    }

    /// Removes the ballast; false when there was none to remove.
    pub(super) fn release_ballast(&self) -> bool {
        match fs::remove_file(self.ballast()) {
            Ok(()) => {
                self.ballast_wanted.store(self.ballast_bytes > 0, Ordering::Release);
                true
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => {
                tracing::error!(%error, path = %self.ballast().display(), "cannot release the ballast");
                false
            }
        }
    }

    /// Whether the ballast should be made now: it is missing, there is room for it above the floor, and nobody was asked yet.
    /// The one who hears yes has to see to it.
    pub(super) fn wants_ballast(&self) -> bool {
        let room = || self.free().is_ok_and(|free| free >= self.floor.saturating_add(self.ballast_bytes));
        self.ballast_wanted.load(Ordering::Acquire)
            && room()
            && self.ballast_wanted.swap(false, Ordering::AcqRel)
    }

    /// Whoever was asked for the ballast could not even start.
    pub(super) fn ballast_not_made(&self) {
        self.ballast_wanted.store(true, Ordering::Release);
    }

    /// Makes the ballast, in whole or not at all.
    pub(super) fn make_ballast(&self) {
        let temp = self.folder.join("ballast.new");
        let made = allocate(&temp, self.ballast_bytes).and_then(|()| fs::rename(&temp, self.ballast()));
        if let Err(error) = made {
            tracing::warn!(%error, path = %temp.display(), "cannot make the ballast; without it a full disk is harder to leave");
            // Should it stay, the next attempt writes over it.
            let _ = fs::remove_file(&temp);
            // Anything but a lack of room would fail again at once: then the next start is the next attempt.
            if is_full(&error) {
                self.ballast_not_made();
            }
        }
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }
}

/// No room, or none that we may use.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Warns when a data folder is on a file system where sled has lost data: kinds that pass syncs on to somewhere else. Not
/// refused, since containers run on overlay, where a sync reaches the disk of the upper layer.
pub(super) fn warn_about_file_system(folder: &Path) -> io::Result<()> {
    let kind = rustix::fs::statfs(folder)?.f_type;
    // From linux/magic.h and the file systems' own headers.
    let name = match u32::try_from(kind).unwrap_or(0) {
        0x794c_7630 => "overlay",
        0x6573_5546 => "FUSE",
        0x6969 => "NFS",
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => "SMB",
        0x0102_1997 => "9p",
        0x00c3_6400 => "Ceph",
        0x0102_1994 => "tmpfs, which is gone after a reboot",
        _ => return Ok(()),
    };
    tracing::warn!(
        folder = %folder.display(),
        "the data folder is on {name}: the journal survives a power cut only on a local disk; put it on one (in a container: a volume)"
    );
    Ok(())
}

/// Asks the file system to make every write to this file (every name in this folder) durable before it returns, whoever writes.
/// False when it cannot.
pub(super) fn write_through(path: &Path) -> io::Result<bool> {
    let file = File::open(path)?;
    let set = rustix::fs::ioctl_getflags(&file)
        .and_then(|flags| rustix::fs::ioctl_setflags(&file, flags | IFlags::SYNC));
    match set {
        Ok(()) => Ok(true),
        Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A file of really allocated blocks.
fn allocate(path: &Path, bytes: u64) -> io::Result<()> {
    let mut file = File::create(path)?;
    match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP) => {
            let block = vec![0; 1024 * 1024];
            let mut left = bytes;
            while left > 0 {
                let part = left.min(block.len() as u64);
                // At most the length of the block, so it fits.
                file.write_all(&block[..part as usize])?;
                left -= part;
            }
            file.sync_all()
        }
        Err(error) => Err(error.into()),
    }
}

fn size(bytes: u64) -> String {
    format!("{} MiB", bytes / (1024 * 1024))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn the_ballast_takes_real_room_and_gives_it_back() {
        let folder = tempfile::tempdir().expect("folder");
        let disk = Disk::new(folder.path(), 0, 3 * 1024 * 1024);
        assert!(disk.wants_ballast());
        assert!(!disk.wants_ballast(), "only one is asked");
        disk.make_ballast();
        let file = fs::metadata(disk.ballast()).expect("ballast");
        assert!(file.blocks() * 512 >= 3 * 1024 * 1024, "{} blocks", file.blocks());
        assert!(!disk.wants_ballast());
        assert!(!Disk::new(folder.path(), 0, 3 * 1024 * 1024).wants_ballast(), "it is there after a restart");
        assert!(Disk::new(folder.path(), 0, 4 * 1024 * 1024).wants_ballast(), "the size was changed");
        assert!(disk.release_ballast());
        assert!(!disk.release_ballast(), "it is gone");
        assert!(disk.wants_ballast());
        assert!(!Disk::new(folder.path(), 0, 0).wants_ballast(), "none is wanted");
        assert!(!Disk::new(folder.path(), u64::MAX, 1).wants_ballast(), "no room above the floor");
    }

    #[test]
    fn a_shortage_names_figures_and_folder() {
        let folder = tempfile::tempdir().expect("folder");
        assert_eq!(Disk::new(folder.path(), 0, 0).shortage(), None);
        let text = Disk::new(folder.path(), u64::MAX, 0).shortage().expect("there is never that much room");
        assert!(text.contains("MiB free") && text.contains(&*folder.path().to_string_lossy()), "{text}");
        let gone = folder.path().join("gone");
        assert!(Disk::new(&gone, 0, 0).shortage().expect("no such folder").contains("cannot see"));
    }

    #[test]
    fn advice_fits_the_error() {
        let folder = tempfile::tempdir().expect("folder");
        let disk = Disk::new(folder.path(), 0, 1024 * 1024);
        disk.make_ballast();
        let advice = |errno: Errno| disk.advice(&io::Error::from(errno));
        assert!(advice(Errno::ROFS).contains("read-only"));
        assert!(advice(Errno::IO).contains("kernel log"));
        let full = advice(Errno::NOSPC);
        assert!(full.contains("make room") && full.contains("1 MiB of ballast were released"), "{full}");
        assert!(!advice(Errno::DQUOT).contains("ballast"), "there is none left to release");
    }
}
