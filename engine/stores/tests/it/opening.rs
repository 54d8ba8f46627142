//! Opening: one process at a time, leftovers of killed ones, folders that are not ours to read.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use futures::executor::block_on;
use kedge_engine::store::{Health, Store};
use kedge_stores::{OpenError, SledStore};

use crate::kit::{self, batch};

#[test]
fn a_second_process_is_told_who_holds_the_folder() {
    let folder = tempfile::tempdir().expect("folder");
    let store = kit::open(folder.path());
    let output = kit::child("opening::second_process", folder.path()).output().expect("child");
    let said = String::from_utf8_lossy(&output.stdout);
    let wanted = format!(
        "refused: the data folder {} is in use by process {}; stop that one first, or use another folder",
        folder.path().display(),
        std::process::id()
    );
    assert!(said.lines().any(|line| line == wanted), "{said}");
    assert!(
        matches!(SledStore::open(folder.path(), kit::options()), Err(OpenError::InUse { .. })),
        "nor we again"
    );
    block_on(store.commit(batch(&[("a", "1")]))).expect("the first one goes on");
    drop(store);
    let output = kit::child("opening::second_process", folder.path()).output().expect("child");
    assert!(String::from_utf8_lossy(&output.stdout).contains("opened: 1"), "the lock went with the store");
}

/// A child that a killed process was just starting has a copy of its lock until it runs its program.
#[test]
fn a_lock_that_outlives_its_holder_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    drop(SledStore::open(folder.path(), kit::options()).unwrap());
    let lock = std::fs::OpenOptions::new().write(true).open(folder.path().join("lock")).unwrap();
    let mut gone = std::process::Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    std::fs::write(folder.path().join("lock"), format!("{}\n", gone.id())).unwrap();
    lock.lock().unwrap();
    std::thread::scope(|scope| {
        let opening = scope.spawn(|| SledStore::open(folder.path(), kit::options()).map(drop));
        while !waits_for_a_lock() {
            assert!(!opening.is_finished(), "it does not wait");
            std::thread::yield_now();
        }
        lock.unlock().unwrap();
        opening.join().unwrap().expect("it opens when the lock is free");
    });
}

/// Whether a thread of this process waits for a lock.
fn waits_for_a_lock() -> bool {
    let threads = std::fs::read_dir("/proc/self/task").expect("the threads");
    let name = |thread: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(thread.ok()?.path().join("comm")).ok()
    };
    threads.filter_map(name).any(|name| name.trim() == "kedge-lock")
}

#[test]
#[ignore = "the child process of a_second_process_is_told_who_holds_the_folder"]
fn second_process() {
    let Some(folder) = kit::child_folder() else { return };
    match SledStore::open(&folder, kit::options()) {
        Ok(store) => println!("opened: {}", store.scan(b"", None, 9).expect("scan").len()),
        Err(error) => println!("refused: {error}"),
    }
}

#[test]
fn settings_that_were_cut_off_do_not_keep_a_new_journal_shut() {
    let whole = tempfile::tempdir().expect("folder");
    drop(kit::open(whole.path()));
    let settings = fs::read(whole.path().join("journal/conf")).expect("settings");
    let mut refused = 0;
    for cut in 0..=settings.len() {
        let folder = tempfile::tempdir().expect("folder");
        let journal = folder.path().join("journal");
        fs::create_dir(&journal).expect("made");
        fs::write(journal.join("conf"), &settings[..cut]).expect("write");
        // That it matters: sled alone does not open it.
        refused += usize::from(sled::Config::new().path(&journal).open().is_err());
        for name in ["db", "conf", "blobs"] {
            let path = journal.join(name);
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path).or(Ok(())) }
                .expect("removed");
        }
        fs::write(journal.join("conf"), &settings[..cut]).expect("write");
        if cut % 2 == 0 {
            fs::write(journal.join("db"), "").expect("write");
        }
        let store = kit::open(folder.path());
        block_on(store.commit(batch(&[("a", "1")]))).expect("commit");
        drop(store);
        assert_eq!(kit::open(folder.path()).scan(b"", None, 9).expect("scan").len(), 1, "cut at {cut}");
        assert_eq!(fs::read(journal.join("conf")).expect("settings"), settings);
    }
    assert!(refused > 0, "sled has learned to open them by itself");
}

#[test]
fn a_torn_snapshot_does_not_keep_the_journal_shut() {
    let folder = tempfile::tempdir().expect("folder");
    let journal = folder.path().join("journal");
    let torn = journal.join("snap.FFFFFFFFFFFFFFFF.generating");
    for garbage in [b"".as_slice(), b"\x01\x02\x03 garbage", &[0xff; 5000]] {
        let store = kit::open(folder.path());
        block_on(store.commit(batch(&[("a", "1"), ("b", "2")]))).expect("commit");
        drop(store);
        fs::write(&torn, garbage).expect("write");
        // That it matters: sled alone does not open the journal any more.
        assert!(sled::Config::new().path(&journal).open().is_err());
        let store = kit::open(folder.path());
        assert_eq!(store.scan(b"", None, 9).expect("scan").len(), 2);
        assert!(!torn.exists());
    }
}

#[test]
fn what_a_killed_process_was_writing_is_swept() {
    let folder = tempfile::tempdir().expect("folder");
    drop(kit::open(folder.path()));
    let stray = folder.path().join("blobs/tmp/0123");
    fs::write(&stray, "half a blob").expect("write");
    let store = kit::open(folder.path());
    assert!(!stray.exists());
    assert_eq!(store.health(), Health::Ready);
}

#[test]
fn a_damaged_blob_is_mended_by_storing_it_again() {
    let folder = tempfile::tempdir().expect("folder");
    let store = kit::open(folder.path());
    let id = block_on(store.put_blob(b"content".to_vec())).expect("blob");
    kit::flip_a_bit(&kit::blob_path(folder.path(), &id));
    assert!(store.get_blob(&id).is_err());
    block_on(store.put_blob(b"content".to_vec())).expect("blob");
    assert_eq!(store.get_blob(&id), Ok(Some(b"content".to_vec())));
}

#[test]
fn a_store_can_be_closed_and_opened_at_once_many_times() {
    let folder = tempfile::tempdir().expect("folder");
    for n in 0..40 {
        let store = kit::open(folder.path());
        assert_eq!(store.scan(b"", None, usize::MAX).expect("scan").len(), n);
        block_on(store.commit(batch(&[(&format!("{n}"), &"x".repeat(300))]))).expect("commit");
        let stats = store.stats();
        assert!(stats.size_on_disk.is_some_and(|bytes| bytes > 0) && stats.open_ms < 60_000, "{stats:?}");
    }
}

/// Dropping a store finishes what is in line: nobody who was polled once is left without an answer.
#[test]
fn dropping_the_store_drains_it() {
    let folder = tempfile::tempdir().expect("folder");
    let store = kit::open(folder.path());
    let mut commits: Vec<_> = (0..200).map(|n| store.commit(batch(&[(&format!("{n}"), "x")]))).collect();
    let never_polled = store.commit(batch(&[("never", "x")]));
    block_on(async {
        for commit in &mut commits {
            // Enqueues it; whether it is already done does not matter.
            let _ = futures::poll!(commit);
        }
    });
    // Half of the callers do not even wait for their answer.
    commits.truncate(100);
    drop(store);
    // `poll!` may have taken some answers already; those that are left say that they were committed.
    drop(commits);
    assert!(block_on(never_polled).is_err(), "the store is closed");
    let store = kit::open(folder.path());
    assert_eq!(store.scan(b"", None, usize::MAX).expect("scan").len(), 200);
}

#[test]
fn writes_go_through_to_the_disk() {
    let folder = tempfile::tempdir().expect("folder");
    let flags = |name: &str| {
        let file = fs::File::open(folder.path().join(name)).expect("open");
        rustix::fs::ioctl_getflags(&file)
    };
    if let Err(error) = flags("") {
        println!("SKIPPED: this file system has no flags ({error})");
        return;
    }
    for _ in 0..2 {
        let _store = kit::open(folder.path());
        for name in ["journal", "journal/db", "journal/blobs"] {
            assert!(flags(name).expect("flags").contains(rustix::fs::IFlags::SYNC), "{name}");
        }
    }
}

#[test]
fn only_the_owner_may_read_the_data() {
    let folder = tempfile::tempdir().expect("folder");
    let data = folder.path().join("some/where");
    let _store = kit::open(&data);
    for name in ["", "journal", "blobs"] {
        let mode = fs::metadata(data.join(name)).expect("folder").permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{name:?}");
    }
}

#[test]
fn a_broken_journal_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().expect("folder");
    let store = kit::open(folder.path());
    block_on(store.commit(batch(&[("a", "1")]))).expect("commit");
    drop(store);
    let journal = folder.path().join("journal");
    fs::write(journal.join("conf"), [0xff; 70]).expect("write");
    let error = SledStore::open(folder.path(), kit::options()).expect_err("that is no journal");
    assert!(matches!(error, OpenError::Journal { .. }), "{error:?}");
    assert!(error.to_string().contains("journal") && error.to_string().contains("keep a copy"), "{error}");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("write");
    assert!(matches!(SledStore::open(&file, kit::options()), Err(OpenError::Io { .. })));
}
