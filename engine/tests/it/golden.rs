//! The journal's encoding: one golden file for each story, byte for byte as it was stored. Whatever was written once has to replay
//! for ever, and to be written so again. `KEDGE_BLESS=1` writes the stories that have no file yet; those that have one are history.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kedge_engine::builder::PlanBuilder;
use kedge_engine::event::Event;
use kedge_engine::gate::{Before, Gate};
use kedge_engine::journal::{self, Record};
use kedge_engine::machine::Machine;
use kedge_engine::plan::Doors;
use kedge_engine::service::{ResolveVerb, Submission, Submitted};
use kedge_engine::step::StepKinds;
use kedge_engine::task::{TaskId, TaskState};
use kedge_engine::testing::runtime::EPOCH;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::rig::{Options, Rig, submission};
use crate::steps::{Act, Decide, Fill, Look, Make, Print, ProbeStyle, Tidy};
use crate::world::{Behave, Effect, End, Kind, World};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// A migrate in small, with everything that a plan can say.
fn plan(plan: &mut PlanBuilder) {
    plan.lock("site shop.test", false);
    plan.lock("platform wordpress-69", true);
    plan.hold(60_000);
    plan.note("visitors see 503 for a while");
    plan.fingerprint(&Print(vec!["t/".to_owned()]), vec!["files web1:/srv/shop".to_owned()]);
    let look = plan.step("look", Look::at("t/old"), &[]);
    let backup = plan.scope("backup", |plan| {
        let pack = plan.step("pack", Make(Act::on("b/pack").slot("db1 dump")), &[&look]);
        let keep = plan.step("keep", Decide::on(Act::on("b/keep").record("backup-1")), &[&pack]);
        plan.step("clean", Tidy(Act::on("b/clean")), &[&keep])
    });
    let stage = plan.step("stage", Make(Act::on("t/stage").before(&look)), &[&backup]);
    let fill = plan.step(
        "fill",
        Fill(Act::on("t/stage/index.php").needs(&[&stage]).probe(ProbeStyle::Resumes)),
        &[],
    );
    let close = plan.step("close", Make(Act::on("t/closed").doors(Doors::Close)), &[&fill]);
    let pivot = plan.step("switch", Decide::on(Act::on("site")), &[&close]);
    plan.step("open", Tidy(Act::on("u/open").doors(Doors::Open)), &[&pivot]);
}

fn rig() -> Rig {
    Rig::new(7, Options::default().plan("migrate", plan))
}

fn whole_request() -> Submission {
    Submission {
        params: json!({ "site": "shop.test", "target_platform": "wordpress-69" }),
        correlation_id: Some("build 4711".to_owned()),
        callback: Some(json!({ "url": "https://ci.test/hook" })),
        not_before: Some(EPOCH + 10),
        ..submission("migrate")
    }
}

fn submit(rig: &Rig) -> TaskId {
    match rig.try_submit(whole_request()).unwrap() {
        Submitted::Created(view) | Submitted::Duplicate(view) => view.id,
    }
}

fn without_tidy() -> StepKinds<World> {
    StepKinds::new().with::<Look>().with::<Make>().with::<Fill>().with::<Decide>().with::<Print>()
}

/// The stories, each with the state in which it ends.
fn stories() -> Vec<(&'static str, TaskState, Vec<Record>)> {
    vec![
        succeeded(),
        rolled_back(),
        canceled(),
        doubt(),
        stuck(),
        parked(),
        undo(),
        planned(),
        approved(),
        refused(),
        expired(),
    ]
}

fn told(
    name: &'static str,
    rig: &Rig,
    task: &TaskId,
    state: TaskState,
) -> (&'static str, TaskState, Vec<Record>) {
    rig.sound();
    assert_eq!(rig.state(task), state, "{name}: {:#?}", rig.story(task));
    (name, state, rig.watch.records(task).to_vec())
}

fn succeeded() -> (&'static str, TaskState, Vec<Record>) {
    let mut rig = rig();
    rig.world.runs("pack", [(Effect::None, End::Retryable)]);
    rig.world.script("close", Kind::Run, [Behave::slow(100)]);
    let task = submit(&rig);
    rig.until("it is closed", || rig.world.count("close", Kind::Run) == 1);
    rig.restart();
    rig.settle();
    told("succeeded", &rig, &task, TaskState::Succeeded)
}

fn rolled_back() -> (&'static str, TaskState, Vec<Record>) {
    let rig = rig();
    rig.world.script("fingerprint", Kind::Print, [Behave::new(Effect::None, End::Retryable)]);
    rig.world.runs("close", [(Effect::Half, End::Panic), (Effect::Half, End::Fatal)]);
    rig.world.undos("stage", [(Effect::Half, End::Retryable)]);
    let task = submit(&rig);
    rig.settle();
    told("rolled_back", &rig, &task, TaskState::RolledBack)
}

fn canceled() -> (&'static str, TaskState, Vec<Record>) {
    let rig = rig();
    rig.world.script("stage", Kind::Run, [Behave::new(Effect::Half, End::Hang)]);
    rig.world.undos("stage", [(Effect::None, End::Ok)]);
    let task = submit(&rig);
    rig.until("it stages", || rig.world.get("t/stage").is_some());
    rig.cancel(&task).unwrap();
    rig.settle();
    told("canceled_with_drift", &rig, &task, TaskState::Canceled)
}

fn doubt() -> (&'static str, TaskState, Vec<Record>) {
    let rig = rig();
    rig.world.runs("pack", [(Effect::None, End::InDoubt)]);
    rig.world.runs("stage", [(Effect::Half, End::InDoubt)]);
    rig.world.runs("fill", [(Effect::Half, End::InDoubt)]);
    rig.world.runs("close", [(Effect::Whole, End::InDoubt)]);
    rig.world.probes("close", [End::Retryable, End::Unknown]);
    rig.world.runs("switch", [(Effect::Whole, End::Hang)]);
    let task = submit(&rig);
    rig.settle();
    rig.resolve(&task, "close", ResolveVerb::Retry).unwrap();
    rig.settle();
    told("in_doubt", &rig, &task, TaskState::Succeeded)
}

fn stuck() -> (&'static str, TaskState, Vec<Record>) {
    let rig = rig();
    rig.world.runs("close", [(Effect::Whole, End::Fatal)]);
    rig.world.undos("close", [(Effect::None, End::Fatal), (Effect::None, End::Fatal)]);
    rig.world.undos("stage", [(Effect::None, End::Fatal)]);
    let task = submit(&rig);
    rig.settle();
    rig.retry(&task).unwrap();
    rig.settle();
    rig.world.remove("t/closed");
    rig.resolve(&task, "close", ResolveVerb::MarkUndone).unwrap();
    rig.settle();
    rig.resolve(&task, "stage", ResolveVerb::Abandon).unwrap();
    rig.settle();
    told("stuck_and_settled", &rig, &task, TaskState::RolledBack)
}

fn parked() -> (&'static str, TaskState, Vec<Record>) {
    let mut rig = rig();
    rig.world.script("pack", Kind::Run, [Behave::slow(100)]);
    let task = submit(&rig);
    rig.until("it packs", || rig.world.count("pack", Kind::Run) == 1);
    rig.kinds(without_tidy);
    rig.restart();
    rig.settle();
    told("parked", &rig, &task, TaskState::Stuck)
}

fn gated(before: Before) -> Rig {
    let gate =
        Gate { policy: "shops".to_owned(), before, approvers: vec!["anna".to_owned()], within_ms: 1000 };
    Rig::new(7, Options::default().plan("migrate", plan).gate(gate))
}

fn approved() -> (&'static str, TaskState, Vec<Record>) {
    let rig = gated(Before::Pivot);
    let task = submit(&rig);
    rig.until("somebody is asked", || rig.state(&task) == TaskState::Waiting);
    rig.decide(&task, true, "chat:anna").unwrap();
    rig.settle();
    told("approved", &rig, &task, TaskState::Succeeded)
}

fn refused() -> (&'static str, TaskState, Vec<Record>) {
    let rig = gated(Before::Close);
    let task = submit(&rig);
    rig.until("somebody is asked", || rig.state(&task) == TaskState::Waiting);
    rig.decide(&task, false, "token:bert").unwrap();
    rig.settle();
    told("refused", &rig, &task, TaskState::Canceled)
}

fn expired() -> (&'static str, TaskState, Vec<Record>) {
    let rig = gated(Before::Start);
    let task = submit(&rig);
    rig.settle();
    told("expired", &rig, &task, TaskState::Canceled)
}

fn undo() -> (&'static str, TaskState, Vec<Record>) {
    let options = Options::default().plan("migrate", plan).undone_by(|_| {
        let mut plan = PlanBuilder::new(Some("shop.test"));
        plan.step("back", Decide::on(Act::on("site").value("old")), &[]);
        plan.build().unwrap()
    });
    let rig = Rig::new(7, options);
    let task = submit(&rig);
    rig.settle();
    let undo = rig.undo(&task).unwrap().id;
    rig.settle();
    told("undo", &rig, &undo, TaskState::Succeeded)
}

/// It waits for a task that moves the site, and then goes where the site is.
fn planned() -> (&'static str, TaskState, Vec<Record>) {
    let options = Options::default()
        .plan("move", |plan| {
            plan.lock("site shop.test", false);
            plan.step("move", Decide::on(Act::on("site").value("69").record("shop.test")), &[]);
        })
        .workflow("visit", |_, cx| {
            let platform = cx
                .facts
                .record("site", "shop.test")?
                .map_or("68".to_owned(), |site| site.as_str().unwrap_or_default().to_owned());
            let mut plan = PlanBuilder::new(Some("shop.test"));
            plan.lock("site shop.test", false);
            plan.lock(format!("platform {platform}"), true);
            plan.step("look", Make(Act::on(format!("t/{platform}"))), &[]);
            Ok(plan.build()?)
        });
    let rig = Rig::new(7, options);
    rig.world.script("move", Kind::Run, [Behave::slow(100)]);
    rig.submit("move");
    let visit = rig.submit("visit");
    rig.settle();
    assert_eq!((rig.world.get("t/68"), rig.world.get("t/69").is_some()), (None, true));
    told("planned", &rig, &visit, TaskState::Succeeded)
}

fn encoded(record: &Record) -> String {
    serde_json::to_string(record).unwrap()
}

/// One record a line, each exactly as it is stored, but not packed.
fn text(records: &[Record]) -> String {
    let lines: Vec<String> = records.iter().map(encoded).collect();
    format!("[\n{}\n]\n", lines.join(",\n"))
}

#[test]
fn every_story_ends_as_it_should_and_has_its_golden_file() {
    let bless = std::env::var_os("KEDGE_BLESS").is_some();
    for (name, _, records) in stories() {
        let path = folder().join(format!("{name}.json"));
        if bless && !path.exists() {
            std::fs::write(&path, text(&records)).unwrap();
        }
        assert!(path.exists(), "{} is missing: KEDGE_BLESS=1 writes it", path.display());
    }
}

/// The golden files: path, and each record's line.
pub(crate) fn golden() -> Vec<(PathBuf, Vec<String>)> {
    let files = std::fs::read_dir(folder()).unwrap().map(|file| file.unwrap().path());
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().filter(|line| line.starts_with('{'));
        let lines = lines.map(|line| line.trim_end_matches(',').to_owned()).collect();
        (path, lines)
    };
    files.map(read).collect()
}

#[test]
fn every_journal_that_was_ever_written_replays_and_would_be_written_so_again() {
    for (path, lines) in golden() {
        let mut prev = String::new();
        let mut machine: Option<Machine> = None;
        for line in &lines {
            let record = journal::decode(line.as_bytes()).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            assert_eq!(record.prev, prev, "{path:?}: the chain is broken at {}", record.sequence);
            prev = hex::encode(&Sha256::digest(line.as_bytes())[..16]);
            match &mut machine {
                None => machine = Some(Machine::begin(&record).unwrap()),
                Some(machine) => machine.apply(&record).unwrap_or_else(|error| panic!("{path:?}: {error}")),
            }
            assert_eq!(&encoded(&record), line, "{path:?}: a field without a default, or another name?");
        }
        let machine = machine.unwrap();
        assert!(machine.outcome().is_some() || path.ends_with("parked.json"), "{path:?}");
    }
}

#[test]
fn the_golden_files_tell_of_everything_that_can_happen() {
    let mut told = BTreeSet::new();
    for (_, lines) in golden() {
        for line in lines {
            let record = journal::decode(line.as_bytes()).unwrap();
            told.insert(record.event.kind().to_owned());
            let value = serde_json::to_value(&record.event).unwrap();
            for field in ["then", "verdict", "verb", "outcome", "phase", "adopted", "verified"] {
                let value =
                    if value[field].is_object() { value[field][field].clone() } else { value[field].clone() };
                told.insert(format!("{field} {value}"));
            }
            if let Event::AttemptFailed { error, .. } = &record.event {
                told.insert(format!("class {:?}", error.class));
            }
        }
    }
    for wanted in [
        "accepted",
        "recovered",
        "planned",
        "locks_granted",
        "fingerprint_started",
        "fingerprint_taken",
        "fingerprint_failed",
        "attempt_started",
        "attempt_succeeded",
        "attempt_failed",
        "probed",
        "probe_failed",
        "undo_started",
        "undo_succeeded",
        "undo_failed",
        "parked",
        "cancel_requested",
        "resolved",
        "approval_asked",
        "approved",
        "approval_refused",
        "approval_expired",
        "finished",
        "then \"retry\"",
        "then \"probe\"",
        "then \"give_up\"",
        "verdict \"not_applied\"",
        "verdict \"partial\"",
        "verdict \"resumable\"",
        "verdict \"unknown\"",
        "verb \"retry\"",
        "verb \"mark_undone\"",
        "verb \"abandon\"",
        "outcome \"succeeded\"",
        "outcome \"rolled_back\"",
        "outcome \"canceled\"",
        "phase \"before\"",
        "phase \"after\"",
        "adopted true",
        "verified true",
        "verified false",
        "class Retryable",
        "class Fatal",
        "class InDoubt",
    ] {
        assert!(told.contains(wanted), "no golden file tells of {wanted}: {told:#?}");
    }
}
