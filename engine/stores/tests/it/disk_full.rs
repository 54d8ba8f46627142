//! A disk that runs full, on a small tmpfs: what is told, what is kept, and how it goes on. Needs root.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use futures::executor::block_on;
use kedge_engine::store::{Batch, CommitError, Health, Store};
use kedge_stores::{OpenError, Options, SledStore};

use crate::kit::{self, batch};

const MIB: u64 = 1024 * 1024;

/// A small file system of its own, gone with the test.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(mib: u64) -> Option<Self> {
        let folder = tempfile::tempdir().expect("folder");
        match mount(folder.path(), &format!("size={mib}m,mode=700")) {
            Ok(()) => Some(Self { folder }),
            Err(why) => {
                println!("SKIPPED: cannot mount a small tmpfs here: {why}");
                None
            }
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn resize(&self, mib: u64) {
        mount(self.folder.path(), &format!("remount,size={mib}m")).expect("remount");
    }

    /// Takes all room that is left.
    fn fill(&self) {
        let mut file = File::create(self.folder.path().join("filler")).expect("create");
        let mut block = vec![0xaa_u8; 1024 * 1024];
        while !block.is_empty() {
            if file.write_all(&block).is_err() {
                block.truncate(block.len() / 2);
            }
        }
    }

    fn unfill(&self) {
        // Emptied, not removed: a child that another test is just starting may hold a copy of the file.
        File::create(self.folder.path().join("filler")).expect("empty");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("--lazy").arg(self.folder.path()).status();
        assert!(done.is_ok_and(|status| status.success()) || std::thread::panicking(), "umount");
    }
}

fn mount(folder: &Path, options: &str) -> Result<(), String> {
    let output =
        Command::new("mount").args(["-t", "tmpfs", "-o", options, "kedge-test"]).arg(folder).output();
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn options() -> Options {
    Options { ballast_bytes: 8 * MIB, free_floor_bytes: 4 * MIB, ..kit::options() }
}

fn open(disk: &SmallDisk) -> SledStore {
    let store = SledStore::open(&disk.data(), options()).expect("open");
    // Blob jobs are done in order: when this one is, the ballast is made, if there was room.
    block_on(store.put_blob(Vec::new())).expect("blob");
    store
}

/// Commits until the disk is full; the number of acknowledged batches, and what the failure said.
fn commit_until_full(store: &SledStore) -> (u32, String) {
    for n in 0_u32.. {
        let mut batch = Batch::new();
        batch.put(n.to_be_bytes(), vec![n as u8; 4000]);
        match block_on(store.commit(batch)) {
            Ok(()) => {}
            Err(CommitError::Failed(why)) => return (n, why),
            Err(other) => panic!("{other}"),
        }
    }
    panic!("the disk is never full");
}

#[test]
fn a_full_disk_stops_the_journal_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount(32) else { return };
    let ballast = disk.data().join("ballast");
    let store = open(&disk);
    assert_eq!((store.health(), ballast.exists()), (Health::Ready, true));
    let (acked, why) = commit_until_full(&store);
    println!("full after {acked} batches of 4000 bytes on 32 MiB: {why}");
    assert!(acked > 500, "{acked}");
    for words in ["the disk is full", "make room", "restart Kedge", "8 MiB of ballast were released"] {
        assert!(why.contains(words), "{words:?} in {why:?}");
    }
    assert_eq!(store.health(), Health::Failed(why));
    assert!(!ballast.exists());
    drop(store);

    let store = open(&disk);
    let found = store.scan(b"", None, usize::MAX).expect("scan");
    assert!(found.len() as u32 >= acked, "{} of {acked} batches are there", found.len());
    for (n, (key, value)) in found.iter().enumerate() {
        assert_eq!((key.as_slice(), value), ((n as u32).to_be_bytes().as_slice(), &vec![n as u8; 4000]));
    }
    block_on(store.commit(batch(&[("one more", "x")]))).expect("the ballast's room lets open tasks go on");
    assert!(!ballast.exists(), "no room for it yet");

    disk.resize(64);
    assert_eq!(store.health(), Health::Ready);
    block_on(store.put_blob(Vec::new())).expect("blob");
    assert!(ballast.exists(), "made again once there is room");
}

#[test]
fn little_room_is_told_before_it_is_too_late() {
    let Some(disk) = SmallDisk::mount(32) else { return };
    let store = open(&disk);
    assert_eq!(store.health(), Health::Ready);
    disk.fill();
    let Health::Low(why) = store.health() else { panic!("there is no room left") };
    assert!(why.contains("0 MiB free") && why.contains("4 MiB are wanted"), "{why}");
    disk.unfill();
    assert_eq!(store.health(), Health::Ready);
}

#[test]
fn a_full_disk_does_not_keep_the_journal_shut_while_there_is_ballast() {
    let Some(disk) = SmallDisk::mount(32) else { return };
    let store = open(&disk);
    block_on(store.commit(batch(&[("a", "1")]))).expect("commit");
    drop(store);
    disk.fill();
    let store = SledStore::open(&disk.data(), options()).expect("the ballast gives way");
    assert!(!disk.data().join("ballast").exists());
    assert_eq!(store.get(b"a"), Ok(Some(b"1".to_vec())));
    drop(store);
}

#[test]
fn a_full_disk_without_ballast_is_an_error_until_there_is_room() {
    let Some(disk) = SmallDisk::mount(32) else { return };
    let without_ballast = || SledStore::open(&disk.data(), Options { ballast_bytes: 0, ..options() });
    let store = without_ballast().expect("open");
    let (acked, why) = commit_until_full(&store);
    assert!(why.contains("the disk is full") && !why.contains("ballast"), "{why}");
    drop(store);
    disk.fill();
    for _ in 0..3 {
        let error = without_ballast().expect_err("sled writes when it opens");
        assert!(matches!(error, OpenError::DiskFull { .. }), "{error:?}");
        assert!(error.to_string().contains("make room there, then start Kedge again"), "{error}");
    }
    disk.resize(64);
    let store = without_ballast().expect("there is room again, in the same process");
    assert!(store.scan(b"", None, usize::MAX).expect("scan").len() as u32 >= acked);
    block_on(store.commit(batch(&[("one more", "x")]))).expect("commit");
}

#[test]
fn a_blob_that_finds_no_room_gets_the_ballasts() {
    let Some(disk) = SmallDisk::mount(32) else { return };
    let store = open(&disk);
    disk.fill();
    let bytes = vec![0x5a; 3 * MIB as usize];
    let id = block_on(store.put_blob(bytes.clone())).expect("the ballast gives way");
    assert_eq!(store.get_blob(&id), Ok(Some(bytes)));
    assert!(!disk.data().join("ballast").exists());
    let Err(CommitError::Failed(why)) = block_on(store.put_blob(vec![1; 9 * MIB as usize])) else {
        panic!("there is no such room")
    };
    assert!(why.contains("the disk is full") && !why.contains("released"), "{why}");
    assert_eq!(fs::read_dir(disk.data().join("blobs/tmp")).expect("folder").count(), 0, "nothing half stays");
}
