//! kill -9 at random moments: what was acknowledged is there, no batch is there in part, no refused batch is there at all.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, BufReader, Write as _};
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use futures::executor::block_on;
use kedge_engine::store::{Batch, BlobId, CommitError, Store};
use kedge_stores::SledStore;

use crate::kit::{self, Dice};

const WRITERS: u64 = 8;
/// Batches of a writer whose pairs stay; older ones are deleted, so that sled also cleans up under fire.
const KEPT: u64 = 40;
/// Every so many batches name a blob.
const BLOB_EVERY: u64 = 8;

#[test]
fn no_acknowledged_batch_is_lost_to_kill_9() {
    let rounds = kit::scaled("KEDGE_CRASH_ROUNDS", 24);
    let mut dice = Dice(kit::seed("crash"));
    let folder = tempfile::tempdir().expect("folder");
    let mut acked: HashMap<u64, u64> = HashMap::new();
    for round in 0..rounds {
        let news = kill_a_writer(folder.path(), round, &mut dice);
        acked.extend(news);
        check(&kit::open(folder.path()), &acked, round);
    }
    println!("crash: {rounds} kills, {} acknowledged batches, none lost", acked.values().sum::<u64>());
    assert_eq!(acked.len() as u64, WRITERS, "every writer got through at least once");
}

/// Starts a writer, kills it at a moment that `dice` chooses, and returns the last batch it acknowledged for each thread.
fn kill_a_writer(folder: &Path, round: u64, dice: &mut Dice) -> HashMap<u64, u64> {
    let mut child = kit::child("crash::writer", folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("child");
    let mut lines =
        BufReader::new(child.stdout.take().expect("piped")).lines().map(|line| line.expect("text"));
    let mut acked = HashMap::new();
    let mut note = |line: &str| {
        let mut words =
            line.strip_prefix("ack ")?.split(' ').map(|word| word.parse::<u64>().expect("a number"));
        let (writer, batch) = (words.next().expect("writer"), words.next().expect("batch"));
        let before = acked.insert(writer, batch);
        assert!(before.is_none_or(|before| before < batch), "acknowledgements of a writer come in order");
        Some(())
    };
    assert!(lines.any(|line| line == "opening"), "round {round}: the child starts");
    // One round in four dies while it opens the store, the others after some batches, at any point of the next one.
    let wanted = if dice.below(4) == 0 { 0 } else { 1 + dice.below(400) };
    let seen = lines.by_ref().filter_map(|line| note(&line)).take(wanted as usize).count() as u64;
    for spin in 0..dice.below(300_000) {
        std::hint::black_box(spin);
    }
    child.kill().expect("kill");
    lines.for_each(|line| note(&line).unwrap_or_default());
    let output = child.wait_with_output().expect("child");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        seen == wanted && output.status.code().is_none(),
        "round {round}: it wrote until it was killed: {errors}"
    );
    acked
}

/// The child: writers that go on from where they were, each batch chained to the one before, until they are killed.
#[test]
#[ignore = "the child process of no_acknowledged_batch_is_lost_to_kill_9"]
fn writer() {
    let Some(folder) = kit::child_folder() else { return };
    println!("opening");
    let store = Arc::new(kit::open(&folder));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = Arc::clone(&store);
            std::thread::spawn(move || block_on(write_for_ever(&store, writer)))
        })
        .collect();
    for writer in writers {
        writer.join().expect("a writer ends only with its process");
    }
}

async fn write_for_ever(store: &SledStore, writer: u64) {
    let mut last = head(store, writer);
    loop {
        let number = last + 1;
        if number.is_multiple_of(BLOB_EVERY) {
            store.put_blob(blob(writer, number)).await.expect("blob");
        }
        store.commit(the_batch(writer, number)).await.expect("commit");
        // One line is one write, so a killed process leaves no half of it.
        writeln!(std::io::stdout(), "ack {writer} {number}").expect("the parent reads until we are dead");
        let mut refused = Batch::new();
        refused.require_equals(head_key(writer), last.to_be_bytes()).put(format!("refused/{writer}"), "x");
        assert!(matches!(store.commit(refused).await, Err(CommitError::Conflict(_))));
        if let Some(old) = number.checked_sub(KEPT).filter(|old| *old > 0 && old.is_multiple_of(BLOB_EVERY)) {
            store.delete_blob(&BlobId::of(&blob(writer, old))).await.expect("delete");
        }
        last = number;
    }
}

pub(crate) fn the_batch(writer: u64, number: u64) -> Batch {
    let mut batch = Batch::new();
    match number - 1 {
        0 => batch.require_absent(head_key(writer)),
        before => batch.require_equals(head_key(writer), before.to_be_bytes()),
    };
    batch.put(head_key(writer), number.to_be_bytes());
    for (key, value) in pairs(writer, number) {
        batch.put(key, value);
    }
    if let Some(old) = number.checked_sub(KEPT) {
        pairs(writer, old).into_keys().for_each(|key| _ = batch.delete(key));
    }
    batch
}

fn check(store: &SledStore, acked: &HashMap<u64, u64>, round: u64) {
    for writer in 0..WRITERS {
        let acked = acked.get(&writer).copied().unwrap_or(0);
        let head = check_batches(store, writer, acked, &format!("round {round}"));
        for number in kept(head).filter(|number| number.is_multiple_of(BLOB_EVERY)) {
            let bytes = blob(writer, number);
            let found = store.get_blob(&BlobId::of(&bytes));
            assert_eq!(found, Ok(Some(bytes)), "round {round}: blob {writer}/{number}");
        }
    }
    let refused = store.scan(b"refused/", None, 9);
    assert_eq!(refused, Ok(Vec::new()), "round {round}: a refused batch was written");
}

/// Checks that a writer's batches are there up to a last one, whole, and that this is at least `acked`; returns the last.
pub(crate) fn check_batches(store: &SledStore, writer: u64, acked: u64, when: &str) -> u64 {
    let head = head(store, writer);
    assert!(head >= acked, "{when}: writer {writer} lost batches {} to {acked}", head + 1);
    let wanted: BTreeMap<_, _> = kept(head).flat_map(|number| pairs(writer, number)).collect();
    let found = store.scan(format!("data/{writer}/").as_bytes(), None, usize::MAX).expect("scan");
    assert!(found.into_iter().eq(wanted), "{when}: writer {writer} has a batch in part, head {head}");
    head
}

fn kept(head: u64) -> RangeInclusive<u64> {
    head.saturating_sub(KEPT - 1).max(1)..=head
}

fn head_key(writer: u64) -> String {
    format!("head/{writer}")
}

fn head(store: &SledStore, writer: u64) -> u64 {
    let bytes = store.get(head_key(writer).as_bytes()).expect("get");
    bytes.map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().expect("eight bytes")))
}

/// What batch `number` of a writer holds, besides its head.
fn pairs(writer: u64, number: u64) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut dice = Dice(writer << 32 | number);
    (0..3)
        .map(|part| {
            let key = [format!("data/{writer}/").as_bytes(), &number.to_be_bytes(), &[part]].concat();
            let length = 20 + dice.below(600);
            (key, dice.bytes(length))
        })
        .collect()
}

fn blob(writer: u64, number: u64) -> Vec<u8> {
    let mut dice = Dice(number << 32 | writer);
    let length = 5000 + dice.below(20_000);
    dice.bytes(length)
}
