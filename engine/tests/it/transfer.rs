//! Export and import: everything comes over and goes on; what is cut off, changed or too new is refused; nothing is overwritten.

use std::sync::Arc;

use kedge_engine::executor::fsck;
use kedge_engine::journal::Journal;
use kedge_engine::journal::transfer::TransferError;
use kedge_engine::task::{TaskId, TaskState};
use kedge_engine::testing::memory_store::MemoryStore;

use crate::rig::Rig;
use crate::steps::{Act, Make, Print};
use crate::world::{Effect, End};

/// One task that has ended and is archived, one rolled back with its fingerprints, one under way.
fn busy() -> (Rig, [TaskId; 3]) {
    let rig = Rig::of(|plan| {
        let a = plan.step("a", Make(Act::on("t/a")), &[]);
        plan.step("b", Make(Act::on("t/b")), &[&a]);
        plan.fingerprint(&Print(vec!["t/".to_owned()]), vec!["t".to_owned()]);
    });
    let good = rig.run();
    let engine = rig.engine.clone();
    assert_eq!(rig.runtime.block_on(async move { engine.archive(u64::MAX, 10).await.unwrap() }), Some(1));
    rig.world.runs("b", [(Effect::Half, End::Fatal)]);
    let bad = rig.run();
    rig.world.runs("b", [(Effect::None, End::Hang)]);
    let open = rig.submit("plan");
    rig.until("b runs", || rig.story(&open).contains(&"attempt_started b 1".to_owned()));
    (rig, [good, bad, open])
}

fn export(rig: &Rig) -> Vec<u8> {
    let mut out = Vec::new();
    let done = Journal::new(Arc::new(rig.store.clone())).export(&mut out).unwrap();
    assert!(done.pairs > 20 && done.blobs >= 2, "{done:?}");
    out
}

fn import(rig: &Rig, store: &MemoryStore, bytes: &[u8]) -> Result<(), TransferError> {
    let (journal, bytes) = (Journal::new(Arc::new(store.clone())), bytes.to_vec());
    let done = rig.runtime.block_on(async move { journal.import(&mut bytes.as_slice()).await.map(|_| ()) });
    done.expect("an import ends")
}

#[test]
fn everything_comes_over_and_goes_on() {
    let (mut rig, tasks) = busy();
    let before = tasks.clone().map(|task| (rig.view(&task), rig.events(&task)));
    rig.crash();
    let bytes = export(&rig);
    let copy = MemoryStore::new();
    import(&rig, &copy, &bytes).unwrap();
    assert_eq!(fsck(Arc::new(copy.clone())).unwrap(), fsck(Arc::new(rig.store.clone())).unwrap());
    rig.store = copy;
    rig.boot().unwrap();
    let [good, bad, open] = &tasks;
    assert_eq!((rig.view(good), rig.events(good)), before[0]);
    assert_eq!((rig.view(bad), rig.events(bad)), before[1]);
    rig.settle();
    assert_eq!(rig.state(open), TaskState::Succeeded, "what was under way is taken up");
}

#[test]
fn what_is_not_whole_is_refused_with_its_line() {
    let (rig, _) = busy();
    let bytes = export(&rig);
    let text = String::from_utf8(bytes.clone()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let without = |left_out: usize| {
        let kept = lines.iter().enumerate().filter(|(index, _)| *index != left_out);
        kept.map(|(_, line)| format!("{line}\n")).collect::<String>()
    };
    let whole_lines = |count: usize| format!("{}\n", lines[..count].join("\n"));
    for (what, text, words) in [
        ("nothing", String::new(), "line 1: the export is cut off"),
        ("something else", "{\"a\":1}\n".to_owned(), "line 1:"),
        ("a newer form", text.replace("\"format\":1", "\"format\":2"), "newer"),
        ("no beginning", without(0), "no exported journal"),
        ("a lost line", without(5), "not what was exported"),
        ("no end", whole_lines(lines.len() - 1), "cut off"),
        ("half a line", text[..text.len() / 2].to_owned(), "line "),
        ("two beginnings", format!("{}\n{text}", lines[0]), "line 2: a second beginning"),
    ] {
        let told = import(&rig, &MemoryStore::new(), text.as_bytes()).expect_err(what).to_string();
        assert!(told.contains(words), "{what}: {told}");
    }
    let told = import(&rig, &rig.store, &bytes).expect_err("not empty").to_string();
    assert!(told.contains("empty data_dir"), "{told}");
}

#[test]
fn a_broken_import_leaves_no_task_that_looks_whole() {
    let (rig, _) = busy();
    let text = String::from_utf8(export(&rig)).unwrap();
    let cut: String = text.lines().take(text.lines().count() - 1).map(|line| format!("{line}\n")).collect();
    let store = MemoryStore::new();
    import(&rig, &store, cut.as_bytes()).expect_err("no end");
    assert_eq!(fsck(Arc::new(store)).unwrap().tasks, 0);
}
