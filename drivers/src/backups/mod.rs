//! Backups in a directory of this machine: one archive a file, readable by tar, in Aegir's layout with a manifest at its end.
//! Archives appear under their name only when they are whole and on disk. All disk work happens off the async threads.

mod pack;
mod read;
mod spool;
mod tables;
mod unpack;
mod write;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use futures::StreamExt;
use kedge_workflows::ports::{
    BackupInfo, BackupRequest, Backups, ByteStream, Compression, Contents, MAX_BACKUP_NAME, PortError,
    PortResult,
};
use tokio::sync::mpsc;

use spool::Spooled;
use write::{Archive, Piece};

/// Name of the dump in an archive.
const DATABASE: &str = "./database.sql";
/// Name of the manifest in an archive.
const MANIFEST: &str = "./.kedge-manifest.json";
/// Pieces on their way to the disk: with pieces of up to 64 KiB, about a megabyte.
const PIECES: usize = 16;

/// Where pieces of an archive go that is read.
type Sent = mpsc::Sender<PortResult<bytes::Bytes>>;

/// The backup directory.
#[derive(Clone, Debug)]
pub struct LocalBackups {
    dir: PathBuf,
}

impl LocalBackups {
    /// Backups in this directory, which is made (0700) when the first one is written.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// What a worker on a thread of its own reads, piece by piece; its first word is an error or a piece.
    async fn stream(
        &self,
        work: impl FnOnce(&Path, &Sent) -> PortResult<()> + Send + 'static,
    ) -> PortResult<ByteStream> {
        let dir = self.dir.clone();
        let (sender, mut pieces) = mpsc::channel(PIECES);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = work(&dir, &sender) {
                // A reader that is gone does not want to know.
                sender.blocking_send(Err(error)).ok();
            }
        });
        let first = pieces.recv().await.transpose()?;
        let rest = futures::stream::poll_fn(move |cx| pieces.poll_recv(cx));
        Ok(Box::pin(futures::stream::iter(first.map(Ok)).chain(rest)))
    }

    /// Does disk work on a thread of its own.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> PortResult<T> + Send + 'static,
    ) -> PortResult<T> {
        let dir = self.dir.clone();
        let done = tokio::task::spawn_blocking(move || work(&dir)).await;
        done.map_err(|error| PortError::Lost(format!("backups: the work on disk ended early: {error}")))?
    }
}

#[async_trait]
impl Backups for LocalBackups {
    async fn write(&self, request: BackupRequest) -> PortResult<BackupInfo> {
        checked(&request.name)?;
        let BackupRequest { name, compression, database, files, manifest } = request;
        if Packing::of(&name) != Some(Packing::Ours(compression)) {
            return Err(refused(&name, &format!("an archive of this kind ends in {}", compression.suffix())));
        }
        let serde_json::Value::Object(manifest) = manifest else {
            return Err(refused(&name, "its manifest is not a JSON object"));
        };
        let archive = Archive { dir: self.dir.clone(), name: name.clone(), compression, manifest };
        let (dump, dump_pieces) = feed(database);
        let (site, site_pieces) = feed(files);
        // Both at once: one waits mostly for the server, the other for disks and network.
        let (fed, spooled, begun) = futures::join!(
            // When one fails, the other's worker misses its last word, and ends too.
            async move { futures::try_join!(dump, site) },
            self.on_disk(move |dir| {
                let receive = |pieces| Spooled::receive(spooled(dir, &name), compression, pieces);
                dump_pieces.map(receive).transpose()
            }),
            self.on_disk(move |_| archive.begin(site_pieces).map(|begun| (archive, begun))),
        );
        if let Err(Stopped::Stream(error)) = fed {
            return Err(error);
        }
        let (dump, (archive, begun)) = match (spooled, begun) {
            (Ok(dump), Ok(begun)) => (dump, begun),
            // One that was given up was so because of the other.
            (Err(PortError::Lost(_)), Err(error)) | (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        self.on_disk(move |_| archive.finish(begun, dump)).await
    }

    async fn verify(&self, name: &str) -> PortResult<BackupInfo> {
        let name = checked(name)?.to_owned();
        self.on_disk(move |dir| {
            let seen = read::read(dir, &name)?.ok_or_else(|| refused(&name, "there is no such archive"))?;
            seen.check(&name)?;
            Ok(seen.info)
        })
        .await
    }

    async fn remove(&self, name: &str, task: &str) -> PortResult<()> {
        let (name, task) = (checked(name)?.to_owned(), task.to_owned());
        self.on_disk(move |dir| {
            // What is damaged tells nothing, and is no backup of anybody's.
            if let Ok(Some(there)) = read::read(dir, &name)
                && there.task() != Some(task.as_str())
            {
                return Err(PortError::NotOurs(format!("backup {name}: it is not of {task}")));
            }
            // What is unfinished first: an attempt that goes on unseen has nothing then to give the name to.
            spool::remove(&[partial(dir, &name), spooled(dir, &name), dir.join(&name)])?;
            if dir.exists() { sync_dir(dir) } else { Ok(()) }
        })
        .await
    }

    async fn stat(&self, name: &str) -> PortResult<Option<BackupInfo>> {
        let name = checked(name)?.to_owned();
        self.on_disk(move |dir| Ok(read::read(dir, &name)?.map(|seen| seen.info))).await
    }

    async fn size(&self, name: &str) -> PortResult<Option<u64>> {
        let name = checked(name)?.to_owned();
        self.on_disk(move |dir| {
            let file = dir.join(&name);
            match std::fs::symlink_metadata(&file) {
                Ok(meta) => Ok(meta.is_file().then_some(meta.len())),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(failed(&file, &error)),
            }
        })
        .await
    }

    async fn contents(&self, name: &str) -> PortResult<Contents> {
        let name = checked(name)?.to_owned();
        self.on_disk(move |dir| unpack::contents(dir, &name)).await
    }

    async fn database(&self, name: &str) -> PortResult<ByteStream> {
        let name = checked(name)?.to_owned();
        self.stream(move |dir, sender| unpack::database(dir, &name, sender)).await
    }

    async fn files(&self, name: &str) -> PortResult<ByteStream> {
        let name = checked(name)?.to_owned();
        self.stream(move |dir, sender| unpack::files(dir, &name, sender)).await
    }

    async fn free_bytes(&self) -> PortResult<u64> {
        self.on_disk(|dir| {
            make_dir(dir)?;
            let room = rustix::fs::statvfs(dir).map_err(|error| failed(dir, &error.into()))?;
            Ok(room.f_bavail.saturating_mul(room.f_frsize))
        })
        .await
    }
}

/// Why a stream was not handed over whole.
enum Stopped {
    /// It ended with an error.
    Stream(PortError),
    /// Its worker is gone, and tells why itself.
    Worker,
}

/// Hands a stream over to a worker, piece by piece, up to the last word.
fn feed(
    stream: Option<ByteStream>,
) -> (impl Future<Output = Result<(), Stopped>> + Send, Option<mpsc::Receiver<Piece>>) {
    let (sender, pieces) = mpsc::channel(PIECES);
    let pieces = stream.is_some().then_some(pieces);
    let feeding = async move {
        let Some(mut stream) = stream else { return Ok(()) };
        loop {
            let next = tokio::select! {
                next = stream.next() => next,
                () = sender.closed() => return Err(Stopped::Worker),
            };
            let piece = match next {
                Some(bytes) => Piece::Bytes(bytes.map_err(Stopped::Stream)?),
                None => Piece::Whole,
            };
            let last = matches!(piece, Piece::Whole);
            sender.send(piece).await.map_err(|_| Stopped::Worker)?;
            if last {
                return Ok(());
            }
        }
    };
    (feeding, pieces)
}

/// What a worker says that missed its last word.
fn given_up() -> PortError {
    PortError::Lost("the backup was given up before its end".to_owned())
}

/// Refuses what is not the plain name of an archive.
fn checked(name: &str) -> PortResult<&str> {
    let plain = !name.starts_with('.') && !name.contains(['/', '\0']) && name.len() <= MAX_BACKUP_NAME;
    if plain && Packing::of(name).is_some() {
        return Ok(name);
    }
    Err(PortError::Refused(format!(
        "{name:?} is not the name of an archive (such as a.test-20260102.030405.tar.zst)"
    )))
}

/// How an archive that is there is packed: more ways than we write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    /// As we write it.
    Ours(Compression),
    /// By bzip2: Aegir's other way.
    Bzip2,
}

impl Packing {
    /// By the end of an archive's name.
    fn of(name: &str) -> Option<Self> {
        if name.ends_with(".tar.bz2") {
            return Some(Self::Bzip2);
        }
        let all = [Compression::Zstd, Compression::Gzip, Compression::None];
        all.into_iter().find(|kind| name.ends_with(kind.suffix())).map(Self::Ours)
    }
}

/// An archive that is being written.
fn partial(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.partial"))
}

/// The dump of an archive that is being written.
fn spooled(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.sql.partial"))
}

fn make_dir(dir: &Path) -> PortResult<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| failed(dir, &error))
}

fn sync_dir(dir: &Path) -> PortResult<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| failed(dir, &error))
}

fn refused(name: &str, why: &str) -> PortError {
    PortError::Refused(format!("backup {name}: {why}"))
}

/// A failure of the disk.
fn failed(path: &Path, error: &io::Error) -> PortError {
    let what = format!("{}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => PortError::NoSpace(what),
        // Whoever repairs the disk makes it right: what is to be taken back waits for that.
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::StaleNetworkFileHandle => {
            PortError::Unavailable(what)
        }
        _ if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
            PortError::Unavailable(what)
        }
        _ => PortError::Refused(what),
    }
}

#[cfg(test)]
mod tests;
