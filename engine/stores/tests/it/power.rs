//! Power cuts, imitated on the journal's data file. After each, every acknowledged batch is there, and of those under way each is
//! there whole or not at all.
//!
//! Two disks: one that keeps what sled wrote in the order of the writes, torn only where one was under way (what a file system
//! gives that writes through); and one that keeps only what was synced, and of all that was written since any part.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use futures::executor::block_on;
use futures::future::join_all;
use kedge_engine::store::Store as _;
use kedge_stores::{Durability, Options, SledStore};

use crate::crash::{check_batches, the_batch};
use crate::kit::{self, Dice};

/// Every writer commits its batch of this round, all at once.
fn commit_round(store: &SledStore, writers: u64, round: u64) {
    let commits = join_all((0..writers).map(|writer| store.commit(the_batch(writer, round))));
    let failed = block_on(commits).into_iter().find_map(Result::err);
    assert_eq!(failed, None, "round {round} of {writers} writers");
}

/// Opens a store on this data file, and the other files of the journal in `live`. Checks that of each writer all batches up to
/// `acked` are there, and at most one more.
fn check_after_cut(live: &Path, data: &[u8], writers: u64, acked: u64, when: &str) {
    let copy = tempfile::tempdir().expect("folder");
    let journal = copy.path().join("journal");
    fs::create_dir_all(&journal).expect("folder");
    for entry in live.join("journal").read_dir().expect("journal") {
        let entry = entry.expect("journal");
        let name = entry.file_name();
        if entry.file_type().expect("type").is_file() && name != "db" {
            fs::copy(entry.path(), journal.join(name)).expect("copy");
        }
    }
    fs::write(journal.join("db"), data).expect("write");
    let store = kit::open(copy.path());
    for writer in 0..writers {
        let last = check_batches(&store, writer, acked, when);
        assert!(
            last <= acked + 1,
            "{when}: writer {writer} is at {last}, beyond {acked} and what was under way"
        );
    }
    drop(store);
}

/// Writes some of the sectors of `new` over `image`, at `offset`.
fn write_part(image: &mut Vec<u8>, new: &[u8], offset: usize, dice: &mut Dice) {
    let sector = if dice.below(2) == 0 { 512 } else { 4096 };
    // From nearly none to nearly all.
    let share = dice.below(101);
    for (nth, part) in new.chunks(sector).enumerate() {
        let start = offset + nth * sector;
        if image.get(start..start + part.len()) != Some(part) && dice.below(100) < share {
            write_at(image, part, start);
        }
    }
}

fn write_at(image: &mut Vec<u8>, bytes: &[u8], offset: usize) {
    if image.len() < offset + bytes.len() {
        image.resize(offset + bytes.len(), 0);
    }
    image[offset..offset + bytes.len()].copy_from_slice(bytes);
}

// === a disk that keeps the order of writes: every write of a child, seen by strace, replayed up to a moment ===

const REPLAYED_WRITERS: u64 = 100;

#[test]
fn a_cut_between_or_during_writes_loses_nothing() {
    let mut dice = Dice(kit::seed("power, in order"));
    let folder = tempfile::tempdir().expect("folder");
    let (live, trace) = (folder.path().join("live"), folder.path().join("trace"));
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-y", "-xx", "-s", "16777216", "-e", "trace=pwrite64,ftruncate,write", "-o"])
        .arg(&trace);
    strace.arg(std::env::current_exe().expect("this binary"));
    kit::in_child(&mut strace, "power::rounds", &live);
    strace.env("KEDGE_ROUNDS", kit::scaled("KEDGE_POWER_ROUNDS", 12).to_string());
    match strace.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains("ptrace") => {
            println!("SKIPPED: strace may not trace here");
            return;
        }
        Ok(output) => panic!("the child failed: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => {
            println!("SKIPPED: no strace here ({error})");
            return;
        }
    }
    let events = read_trace(&trace);
    let cuts = kit::scaled("KEDGE_POWER_ROUNDS", 40);
    let writes = events.iter().filter(|event| matches!(event, Event::Ends { .. })).count();
    replay(&live, &events, cuts, &mut dice);
    println!("power, in order: {cuts} cuts among {writes} writes of {REPLAYED_WRITERS} writers");
}

#[test]
#[ignore = "the child process of a_cut_between_or_during_writes_loses_nothing"]
fn rounds() {
    let Some(folder) = kit::child_folder() else { return };
    let rounds: u64 = std::env::var("KEDGE_ROUNDS").map_or(1, |text| text.parse().expect("a number"));
    let store = kit::open(&folder);
    for round in 1..=rounds {
        commit_round(&store, REPLAYED_WRITERS, round);
        writeln!(io::stdout(), "ack {round}").expect("stdout");
    }
}

/// What happened to the data file, in its order.
enum Event {
    Begins { thread: u32, offset: usize, bytes: Vec<u8> },
    Ends { thread: u32 },
    Resized { length: usize },
    Acked { round: u64 },
}

fn replay(live: &Path, events: &[Event], cuts: u64, dice: &mut Dice) {
    let moments: Vec<usize> = {
        // Not before the file is a journal at all: opening is another story.
        let first =
            events.iter().position(|event| matches!(event, Event::Acked { .. })).expect("acknowledged");
        let later = (events.len() - first) as u64;
        (0..cuts).map(|_| first + dice.below(later) as usize).collect()
    };
    let (mut image, mut acked) = (Vec::new(), 0);
    let mut under_way: HashMap<u32, (usize, &[u8])> = HashMap::new();
    for (moment, event) in events.iter().enumerate() {
        match event {
            Event::Begins { thread, offset, bytes } => drop(under_way.insert(*thread, (*offset, bytes))),
            Event::Ends { thread } => {
                let (offset, bytes) = under_way.remove(thread).expect("what ends has begun");
                write_at(&mut image, bytes, offset);
            }
            Event::Resized { length } => image.resize(*length, 0),
            Event::Acked { round } => acked = *round,
        }
        for _ in moments.iter().filter(|cut| **cut == moment) {
            let mut torn = image.clone();
            for (offset, bytes) in under_way.values() {
                write_part(&mut torn, bytes, *offset, dice);
            }
            let when = format!("cut at event {moment}, {} writes under way", under_way.len());
            check_after_cut(live, &torn, REPLAYED_WRITERS, acked, &when);
        }
    }
}

/// Reads what strace wrote: `PID call(FD<path>, "\x..", ...) = n`, or in two lines when another thread came between.
fn read_trace(path: &Path) -> Vec<Event> {
    let lines = BufReader::new(File::open(path).expect("trace")).lines().map(|line| line.expect("text"));
    let mut events = Vec::new();
    for line in lines {
        let (thread, call) = line.split_once(' ').expect("a thread and a call");
        let (thread, call) = (thread.parse().expect("a number"), call.trim_start());
        if call.starts_with("<... pwrite64 resumed>") {
            events.push(Event::Ends { thread });
            continue;
        }
        let Some((name, arguments)) = call.split_once('(') else { continue };
        let Some((file, arguments)) = arguments.split_once(">, ") else { continue };
        match name {
            "pwrite64" => {
                let (bytes, numbers) = text_argument(arguments);
                let mut numbers =
                    numbers.split([',', ')', ' ']).filter_map(|number| number.parse::<usize>().ok());
                let (length, offset) = (numbers.next().expect("length"), numbers.next().expect("offset"));
                assert_eq!(bytes.len(), length, "strace shows whole writes");
                events.push(Event::Begins { thread, offset, bytes });
                if !call.ends_with("<unfinished ...>") {
                    events.push(Event::Ends { thread });
                }
            }
            "ftruncate" => {
                let length = arguments.split(')').next().and_then(|length| length.trim().parse().ok());
                events.push(Event::Resized { length: length.expect("a length") });
            }
            "write" if file.starts_with("1<") => {
                let text = String::from_utf8_lossy(&text_argument(arguments).0).into_owned();
                let round = text.strip_prefix("ack ").and_then(|round| round.trim().parse().ok());
                events.extend(round.map(|round| Event::Acked { round }));
            }
            _ => {}
        }
    }
    events
}

/// A string of strace, all of it in hex, and what follows.
fn text_argument(arguments: &str) -> (Vec<u8>, &str) {
    let (text, rest) = arguments.strip_prefix('"').and_then(|text| text.split_once('"')).expect("a string");
    let digits = |pair: &str| u8::from_str_radix(pair, 16).expect("hex");
    (text.split("\\x").skip(1).map(digits).collect(), rest)
}

// === a disk that keeps what was synced, and anything of the rest ===

/// The real disk, of which the journal's data file is photographed just before each sync.
#[derive(Debug, Default)]
struct Camera {
    last: Mutex<Option<Vec<u8>>>,
}

impl Durability for Camera {
    fn sync_journal(&self, file: &File) -> io::Result<()> {
        use std::os::fd::AsRawFd as _;
        let mut bytes = Vec::new();
        // A position of its own, and to the end wherever that is by now.
        File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?.read_to_end(&mut bytes)?;
        *self.last.lock().expect("camera") = Some(bytes);
        file.sync_data()
    }
}

#[test]
fn a_cut_before_the_sync_loses_nothing() {
    let mut dice = Dice(kit::seed("power, in no order"));
    for (writers, rounds) in [(1, 100), (8, 50), (200, 12)] {
        cut_before_syncs(writers, kit::scaled("KEDGE_POWER_ROUNDS", rounds), &mut dice);
    }
}

fn cut_before_syncs(writers: u64, rounds: u64, dice: &mut Dice) {
    let folder = tempfile::tempdir().expect("folder");
    let camera = Arc::new(Camera::default());
    let options = Options { durability: Arc::clone(&camera) as _, ..kit::options() };
    let store = SledStore::open(folder.path(), options).expect("open");
    let (mut cuts, mut synced) = (0, None);
    for round in 1..=rounds {
        commit_round(&store, writers, round);
        let written = camera.last.lock().expect("camera").take().expect("a batch is synced");
        let before: Option<Vec<u8>> = synced.replace(written);
        if let (Some(mut torn), Some(written), 0) = (before, &synced, dice.below(3)) {
            if dice.below(4) > 0 {
                torn.resize(written.len().max(torn.len()), 0);
            }
            write_part(&mut torn, written, 0, dice);
            let when = format!("{writers} writers, cut in round {round}");
            check_after_cut(folder.path(), &torn, writers, round - 1, &when);
            cuts += 1;
        }
    }
    println!("power, in no order: {cuts} cuts in {rounds} rounds of {writers} writers");
}
