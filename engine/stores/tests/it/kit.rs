//! What the tests share: a disk that can be held, watched and broken; children of this binary; chance from a seed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use kedge_engine::store::{Batch, BlobId};
use kedge_stores::{Durability, Options, SledStore};

/// Small ballast and no floor, so that tests do not depend on the machine's disk.
pub(crate) fn options() -> Options {
    Options { ballast_bytes: 0, free_floor_bytes: 0, ..Options::default() }
}

pub(crate) fn open(folder: &Path) -> SledStore {
    SledStore::open(folder, options()).expect("open")
}

pub(crate) fn batch(pairs: &[(&str, &str)]) -> Batch {
    let mut batch = Batch::new();
    for (key, value) in pairs {
        batch.put(*key, *value);
    }
    batch
}

pub(crate) fn blob_path(folder: &Path, id: &BlobId) -> PathBuf {
    folder.join("blobs").join(&id.as_str()[..2]).join(id.as_str())
}

pub(crate) fn flip_a_bit(path: &Path) {
    let mut bytes = fs::read(path).expect("read");
    let last = bytes.last_mut().expect("a byte");
    *last ^= 1;
    fs::write(path, bytes).expect("write");
}

/// When a condition that has to come has not come by now, it will not: far more than a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(30);

/// The real disk behind a gate.
#[derive(Debug, Default)]
pub(crate) struct TestDisk {
    state: Mutex<DiskState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(crate) struct DiskState {
    shut: bool,
    holding: bool,
    /// Calls of this kind fail.
    pub(crate) broken: Option<&'static str>,
    /// Calls of this kind panic.
    pub(crate) explosive: Option<&'static str>,
    /// Every call so far, with the name of its file or folder where it has one.
    pub(crate) calls: Vec<(&'static str, PathBuf)>,
}

impl TestDisk {
    pub(crate) fn options(self: &Arc<Self>) -> Options {
        Options { durability: Arc::clone(self) as _, ..options() }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, DiskState> {
        self.state.lock().expect("disk state")
    }

    pub(crate) fn shut(&self) {
        self.state().shut = true;
    }

    /// Lets calls pass again.
    pub(crate) fn open_gate(&self) {
        self.state().shut = false;
        self.changed.notify_all();
    }

    pub(crate) fn wait_until_holding(&self) {
        let waited = self.changed.wait_timeout_while(self.state(), PATIENCE, |state| !state.holding);
        let timeout = waited.expect("disk state").1;
        assert!(!timeout.timed_out(), "no sync of the journal came");
    }

    pub(crate) fn count(&self, kind: &str) -> usize {
        self.state().calls.iter().filter(|(called, _)| *called == kind).count()
    }

    fn call(&self, kind: &'static str, path: &Path, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut state = self.state();
        state.calls.push((kind, path.to_owned()));
        if state.broken == Some(kind) {
            return Err(io::Error::from_raw_os_error(5));
        }
        if state.explosive == Some(kind) {
            drop(state);
            panic!("explosive {kind}");
        }
        if kind == "journal" && state.shut {
            state.holding = true;
            self.changed.notify_all();
            state = self.changed.wait_while(state, |state| state.shut).expect("disk state");
            state.holding = false;
        }
        drop(state);
        work()
    }
}

impl Durability for TestDisk {
    fn sync_journal(&self, file: &File) -> io::Result<()> {
        self.call("journal", Path::new(""), || file.sync_data())
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        self.call("file", &path_of(file), || file.sync_all())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.call("folder", folder, || File::open(folder)?.sync_all())
    }
}

fn path_of(file: &File) -> PathBuf {
    use std::os::fd::AsRawFd as _;
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("an open file has a path")
}

/// This test binary again, running one ignored test as a child process.
pub(crate) fn child(test: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    in_child(&mut command, test, folder);
    command
}

/// The arguments of [`child`], for a command that runs it in its turn.
pub(crate) fn in_child(command: &mut Command, test: &str, folder: &Path) {
    command.args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(CHILD_FOLDER, folder).stdin(Stdio::null());
}

const CHILD_FOLDER: &str = "KEDGE_STORES_CHILD";

/// The folder a child works in; none when somebody runs the ignored tests by hand.
pub(crate) fn child_folder() -> Option<PathBuf> {
    // libtest has written the test's name without a newline.
    println!();
    std::env::var_os(CHILD_FOLDER).map(PathBuf::from)
}

/// SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn bytes(&mut self, length: u64) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(length as usize);
        bytes
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A seed from the environment, else from the clock; printed, so that a failure can be repeated.
pub(crate) fn seed(test: &str) -> u64 {
    let given = std::env::var("KEDGE_SEED").ok().map(|text| text.parse().expect("KEDGE_SEED is a number"));
    let seed = given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        now.as_nanos() as u64 % 1_000_000
    });
    println!("{test}: KEDGE_SEED={seed}");
    seed
}

/// How often to repeat something: `usual`, times the factor that the environment names.
pub(crate) fn scaled(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| usual * text.parse::<u64>().expect("a whole factor"))
}
