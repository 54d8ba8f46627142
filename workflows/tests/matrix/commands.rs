//! Single runs with the operator's own commands around them.

use kedge_engine::task::TaskState;
use kedge_workflows::commands::At;
use kedge_workflows::testing::Moment;
use serde_json::{Value, json};

use crate::judge::whole;
use crate::rig::{Ask, Base, Case, End, Rig, play, quietly};
use crate::scene::{command, usual};

const SHOP: &str = "shop.example.test";

fn around() -> Base {
    let mut base = usual();
    base.world.set_commands(vec![
        command("announce", At::Before, &["migrate"]),
        command("warm-up", At::After, &["migrate", "backup"]),
        command("freeze", At::Before, &["migrate", "undo"]),
        command("report", At::After, &["*"]),
    ]);
    base
}

fn task(base: &Base, workflow: &'static str, params: Value) -> End {
    play(base, &Ask::Task { workflow, params }, &Case::default(), &|_| None)
}

fn migrate(base: &Base) -> End {
    task(base, "migrate", json!({ "site": SHOP, "target_platform": "wordpress-68" }))
}

#[test]
fn they_run_in_their_order_before_and_after_everything_else() {
    let base = around();
    let end = migrate(&base);
    assert_eq!(end.view.state, TaskState::Succeeded, "{:?}", end.view.error);
    assert_eq!(
        end.rig.world.own_commands().runs(),
        [
            "announce on host1: migrate shop.example.test before",
            "freeze on host1: migrate shop.example.test before",
            "warm-up on host1: migrate shop.example.test after",
            "report on host1: migrate shop.example.test after",
        ]
    );
    let names: Vec<&str> = end.view.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names[..2], ["command_announce", "command_freeze"], "{names:?}");
    assert_eq!(names[names.len() - 2..], ["command_warm-up", "command_report"], "{names:?}");
    assert_eq!(end.view.result["command_report"], "done");
    let backup = task(&base, "backup", json!({ "site": SHOP }));
    let ran = backup.rig.world.own_commands().runs();
    assert_eq!((backup.view.state, ran.len()), (TaskState::Succeeded, 2), "{ran:?}");

    let (after, view) = quietly(
        &base,
        &Ask::Task {
            workflow: "migrate",
            params: json!({ "site": SHOP, "target_platform": "wordpress-68" }),
        },
    );
    let undone = play(&after, &Ask::Undo(view.id), &Case::default(), &|_| None);
    assert_eq!(undone.view.state, TaskState::Succeeded, "{:?}", undone.view.error);
    let ran = undone.rig.world.own_commands().runs();
    assert_eq!(
        ran,
        ["freeze on host1: undo shop.example.test before", "report on host1: undo shop.example.test after"]
    );
}

#[test]
fn one_that_fails_before_lets_nothing_be_done_and_one_that_fails_after_is_told() {
    let base = around();
    base.world.own_commands().fail("freeze");
    let before = whole(&Rig::new(&base, &Case::default()));
    let end = migrate(&base);
    assert_eq!((end.view.state, end.rig.world.own_commands().runs().len()), (TaskState::RolledBack, 2));
    let error = end.view.error.as_ref().expect("a reason");
    assert!(
        error.detail.contains("the command freeze does not let the task begin: status 3: nothing to do"),
        "{error:?}"
    );
    let after = whole(&end.rig);
    let changed = before.iter().filter(|(key, told)| after.get(*key) != Some(told));
    assert_eq!(changed.collect::<Vec<_>>(), Vec::<(&String, &String)>::new());

    let base = around();
    base.world.own_commands().fail("warm-up");
    let end = migrate(&base);
    assert_eq!(end.view.state, TaskState::Succeeded, "{:?}", end.view.error);
    assert_eq!(end.view.result["command_warm-up"], "failed: status 3: nothing to do");
    assert_eq!(end.view.result["command_report"], "done", "the others run all the same");
}

/// A host that stays away keeps no task from being done once it has decided, and lets none begin.
#[test]
fn a_host_that_is_away_is_told_after_and_waited_for_before() {
    let base = around();
    let points = migrate(&base).rig.points();
    let runs: Vec<usize> = points
        .iter()
        .filter(|point| point.op == "commands.run" && point.moment == Moment::Before)
        .map(|point| point.number)
        .collect();
    let away = |run: usize| {
        let case = Case { down: Some((runs[run], "commands.")), ..Case::default() };
        let params = json!({ "site": SHOP, "target_platform": "wordpress-68" });
        play(&base, &Ask::Task { workflow: "migrate", params }, &case, &|_| None)
    };
    let end = away(2);
    assert_eq!(end.view.state, TaskState::Succeeded, "{:?}", end.view.error);
    assert!(
        end.view.result["command_warm-up"].to_string().contains("failed: commands. is down"),
        "{}",
        end.view.result
    );
    let tries = end.view.steps.iter().find(|step| step.name == "command_warm-up").map(|step| step.attempts);
    assert_eq!(tries, Some(3));
    assert_eq!(away(0).view.state, TaskState::RolledBack);
}
