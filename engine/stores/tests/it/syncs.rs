//! Syncs come before acknowledgements, in the right order, one for many; a failed one is the end.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use futures::executor::block_on;
use futures::future::join_all;
use futures::poll;
use kedge_engine::store::{Batch, BlobId, CommitError, Health, Store};
use kedge_stores::{Options, SledStore};

use crate::kit::{self, TestDisk, batch};

fn opened() -> (tempfile::TempDir, Arc<TestDisk>, SledStore) {
    let folder = tempfile::tempdir().expect("folder");
    let disk = Arc::new(TestDisk::default());
    let store = SledStore::open(folder.path(), disk.options()).expect("open");
    (folder, disk, store)
}

#[test]
fn every_lone_batch_has_a_sync_and_many_share_one() {
    let (_folder, disk, store) = opened();
    block_on(async {
        for n in 1..=20 {
            store.commit(batch(&[("lone", "x")])).await.expect("commit");
            assert_eq!(disk.count("journal"), n);
        }
        disk.shut();
        let mut first = store.commit(batch(&[("first", "x")]));
        assert!(poll!(&mut first).is_pending());
        disk.wait_until_holding();
        let mut others: Vec<_> = (0..300_u32)
            .map(|n| {
                let mut batch = Batch::new();
                batch.put(n.to_be_bytes(), "x");
                store.commit(batch)
            })
            .collect();
        for commit in &mut others {
            assert!(poll!(commit).is_pending(), "nothing is acknowledged before its sync");
        }
        disk.open_gate();
        first.await.expect("commit");
        assert!(join_all(others).await.iter().all(Result::is_ok));
        assert_eq!(disk.count("journal"), 22, "300 batches that waited share one sync");
        let stats = store.stats();
        assert_eq!((stats.commits, stats.groups, stats.conflicts), (321, 22, 0));
        let refused = batch(&[("lone", "y")]);
        let refused =
            Batch { preconditions: Batch::new().require_absent("lone").preconditions.clone(), ..refused };
        assert_eq!(store.commit(refused).await, Err(CommitError::Conflict("lone".to_owned())));
        assert_eq!(disk.count("journal"), 22, "a refused batch writes nothing");
        assert_eq!(store.stats().conflicts, 1);
    });
}

#[test]
fn a_failed_sync_ends_the_store_and_is_never_repeated() {
    let (folder, disk, store) = opened();
    block_on(async {
        store.commit(batch(&[("a", "1")])).await.expect("commit");
        disk.state().broken = Some("journal");
        let together = join_all((0..5).map(|_| store.commit(batch(&[("a", "2")])))).await;
        assert!(together.iter().all(|result| matches!(result, Err(CommitError::Failed(_)))), "{together:?}");
        disk.state().broken = None;
        let calls = disk.state().calls.len();
        let Err(CommitError::Failed(why)) = store.commit(batch(&[("a", "3")])).await else {
            panic!("it goes on")
        };
        assert!(why.contains("cannot sync the journal") && why.contains("restart Kedge"), "{why}");
        assert!(matches!(store.put_blob(vec![1]).await, Err(CommitError::Failed(_))));
        assert_eq!(store.health(), Health::Failed(why));
        assert_eq!(store.get(b"a"), Ok(Some(b"1".to_vec())), "readers see what is surely durable");
        assert_eq!(disk.state().calls.len(), calls, "nothing is synced any more");
    });
    drop(store);
    let store = kit::open(folder.path());
    let found = store.get(b"a").expect("get").expect("a value");
    assert!(found == b"1" || found == b"2", "{found:?}");
}

#[test]
fn a_failed_sync_of_a_blob_ends_the_store_too() {
    for kind in ["file", "folder"] {
        let (_folder, disk, store) = opened();
        disk.state().broken = Some(kind);
        let Err(CommitError::Failed(why)) = block_on(store.put_blob(b"x".to_vec())) else {
            panic!("it goes on")
        };
        assert!(why.contains("cannot store a blob"), "{why}");
        assert!(
            matches!(block_on(store.commit(batch(&[("a", "1")]))), Err(CommitError::Failed(_))),
            "{kind}"
        );
        assert_eq!(store.get_blob(&BlobId::of(b"x")), Ok(None), "{kind}");
    }
}

#[test]
fn a_panic_below_the_store_leaves_nobody_waiting() {
    for kind in ["journal", "file"] {
        let (_folder, disk, store) = opened();
        disk.state().explosive = Some(kind);
        let work = async |n: usize| match kind {
            "journal" => store.commit(batch(&[("a", "1")])).await,
            _ => store.put_blob(vec![n as u8]).await.map(drop),
        };
        let results = block_on(join_all((0..10).map(work)));
        for result in results {
            assert!(
                matches!(&result, Err(CommitError::Failed(why)) if why.contains("panicked")),
                "{result:?}"
            );
        }
        assert!(matches!(store.health(), Health::Failed(_)));
    }
}

#[test]
fn a_blob_is_synced_before_it_has_its_name_and_its_folder_after() {
    let (folder, disk, store) = opened();
    disk.state().calls.clear();
    let id = block_on(store.put_blob(b"bytes".to_vec())).expect("blob");
    let path = kit::blob_path(folder.path(), &id);
    let home = path.parent().expect("folder").to_owned();
    let blobs = home.parent().expect("folder").to_owned();
    let temp = blobs.join("tmp").join(id.as_str());
    assert_eq!(disk.state().calls, [("folder", blobs), ("file", temp), ("folder", home.clone())]);
    disk.state().calls.clear();
    block_on(store.put_blob(b"bytes".to_vec())).expect("blob");
    assert_eq!(disk.state().calls, [("folder", home.clone())], "a copy that is there may lack the last sync");
    disk.state().calls.clear();
    block_on(store.delete_blob(&id)).expect("delete");
    assert_eq!(disk.state().calls, [("folder", home)]);
    assert!(!path.exists());
}

/// sled puts an oversized page into a file of its own there and never syncs it; ours to do, before the acknowledgement.
#[test]
fn files_that_sled_leaves_unsynced_are_synced_with_the_batch() {
    let (folder, disk, store) = opened();
    let folder = folder.path().join("journal/blobs");
    let page = folder.join("123456");
    let commit = |value: &str| {
        disk.state().calls.clear();
        block_on(store.commit(batch(&[("a", value)]))).expect("commit");
        std::mem::take(&mut disk.state().calls)
    };
    let journal = ("journal", "".into());
    let only_journal = std::slice::from_ref(&journal);
    assert_eq!(commit("1"), only_journal);
    std::fs::write(&page, "half a page").expect("write");
    let with_page = [("file", page.clone()), ("folder", folder), journal.clone()];
    assert_eq!(commit("2"), with_page);
    assert_eq!(commit("3"), only_journal, "once is enough");
    std::fs::write(&page, "a page that was still being written").expect("write");
    assert_eq!(commit("4"), with_page);
    std::fs::remove_file(&page).expect("remove");
    assert_eq!(commit("5"), only_journal);
    assert_eq!(store.stats().spilled_pages, 2);
}

#[test]
fn a_slow_disk_is_told() {
    let folder = tempfile::tempdir().expect("folder");
    let disk = Arc::new(TestDisk::default());
    let options = Options { stall_after: Duration::ZERO, ..disk.options() };
    let store = SledStore::open(folder.path(), options).expect("open");
    assert_eq!(store.health(), Health::Ready);
    disk.shut();
    block_on(async {
        let mut commit = store.commit(batch(&[("a", "1")]));
        assert!(poll!(&mut commit).is_pending());
        disk.wait_until_holding();
        assert!(matches!(store.health(), Health::Low(why) if why.contains("slow")));
        disk.open_gate();
        commit.await.expect("commit");
    });
}

/// A journal with nothing to write learns of a broken disk all the same, from whoever asks how it is.
#[test]
fn a_quiet_disk_is_tried() {
    let folder = tempfile::tempdir().expect("folder");
    let disk = Arc::new(TestDisk::default());
    let probe = ("file", folder.path().join("blobs/tmp/probe"));
    let probed = |probe_after| {
        let store = SledStore::open(folder.path(), Options { probe_after, ..disk.options() }).expect("open");
        disk.state().calls.clear();
        assert_eq!(store.health(), Health::Ready);
        // Jobs are done in order: behind this one, a probe is through.
        block_on(store.census()).expect("census");
        let calls = disk.state().calls.clone();
        (store, calls.into_iter().filter(|call| *call == probe).count())
    };
    assert_eq!(probed(Duration::from_secs(3600)).1, 0, "it has not been quiet for long");
    let (store, times) = probed(Duration::ZERO);
    assert_eq!((times, probe.1.exists()), (1, false));
    disk.state().broken = Some("file");
    assert_eq!(store.health(), Health::Ready, "asked for");
    assert!(block_on(store.census()).is_err());
    let Health::Failed(why) = store.health() else { panic!("a disk that takes nothing") };
    assert!(why.contains("cannot write a test file in") && why.contains("blobs"), "{why}");
}

/// The system calls themselves, where strace is there: between two acknowledgements lies a finished fdatasync.
#[test]
fn strace_sees_a_sync_before_each_acknowledgement() {
    let folder = tempfile::tempdir().expect("folder");
    let trace = folder.path().join("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-s", "16", "-e", "trace=fdatasync,fsync,sync_file_range,write", "-o"]).arg(&trace);
    strace.arg(std::env::current_exe().expect("this binary"));
    kit::in_child(&mut strace, "syncs::acknowledging", folder.path());
    match strace.output() {
        Ok(output) if output.status.success() => {
            check_trace(&std::fs::read_to_string(&trace).expect("trace"))
        }
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains("ptrace") => {
            println!("SKIPPED: strace may not trace here: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(output) => panic!("the child failed: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => {
            println!("SKIPPED: no strace here ({error}); the other tests of this file watch the same calls")
        }
    }
}

const TRACED: usize = 100;

fn check_trace(trace: &str) {
    let (mut syncs, mut acks, mut since_ack) = (0, 0, 0);
    for line in trace.lines() {
        let done = line.contains("fdatasync(") || line.contains("<... fdatasync resumed>");
        if done && line.trim_end().ends_with("= 0") {
            syncs += 1;
            since_ack += 1;
        } else if line.contains("write(1, \"ack ") {
            assert!(since_ack > 0, "acknowledgement {acks} without a sync before it: {line}");
            acks += 1;
            since_ack = 0;
        }
    }
    let calls = |name: &str| trace.lines().filter(|line| line.contains(&format!("{name}("))).count();
    let (fsyncs, ranges) = (calls("fsync"), calls("sync_file_range"));
    println!(
        "strace: {acks} acknowledged batches, {syncs} fdatasync, {fsyncs} fsync, {ranges} sync_file_range"
    );
    assert_eq!(acks, TRACED);
}

#[test]
#[ignore = "the child process of strace_sees_a_sync_before_each_acknowledgement"]
fn acknowledging() {
    let Some(folder) = kit::child_folder() else { return };
    let store = kit::open(Path::new(&folder));
    for n in 0..TRACED {
        block_on(store.commit(batch(&[("key", &n.to_string())]))).expect("commit");
        println!("ack {n}");
    }
}
