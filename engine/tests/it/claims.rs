//! Registry records: staged by steps, committed with their results or never; a claim is given to one task only.

use kedge_engine::builder::PlanBuilder;
use kedge_engine::context::Cx;
use kedge_engine::journal::keys;
use kedge_engine::step::{Compensable, Compensate, Pivot, Probe, Query, Step, StepError, StepKinds};
use kedge_engine::store::Store as _;
use kedge_engine::task::{TaskId, TaskState};
use serde::{Deserialize, Serialize};

use crate::rig::{Options, Rig};
use crate::steps::{Act, Make, kinds};
use crate::world::{Behave, Effect, End, Kind, World};

fn registered(rig: &Rig, family: &str, name: &str) -> Option<serde_json::Value> {
    let bytes = rig.store.get(&keys::record(family, name)).unwrap();
    bytes.map(|bytes| serde_json::from_slice(&bytes).unwrap())
}

/// Takes a name; everybody begins with the same one, and who comes again takes the next.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Choose;

impl Step for Choose {
    type Ports = World;
    type Output = String;
    type Mode = Query;
    const KIND: &'static str = "choose";

    fn title(&self) -> String {
        "choose a name".to_owned()
    }
    async fn run(&self, cx: &Cx<'_, World>) -> Result<String, StepError> {
        cx.ports.runtime.pause().await;
        let name = format!("db{}", cx.attempt - 1);
        cx.claim_record("name", name.clone(), cx.task)?;
        Ok(name)
    }
}

#[test]
fn a_claim_raced_by_two_tasks_is_given_to_one_and_the_other_comes_again() {
    let mut lost = 0;
    for seed in 0..40 {
        let mut options = Options::default().plan("plan", |plan| {
            plan.step("a", Make(Act::on("t/a").claim("the-name")), &[]);
        });
        options.pauses = true;
        let rig = Rig::new(seed, options);
        rig.world.script("a", Kind::Run, vec![Behave::slow(50); 10]);
        let tasks = [rig.submit("plan"), rig.submit("plan")];
        rig.settle();
        let won: Vec<&TaskId> = tasks.iter().filter(|task| rig.state(task) == TaskState::Succeeded).collect();
        assert_eq!(won.len(), 1, "seed {seed}");
        assert_eq!(registered(&rig, "slot", "the-name"), Some(serde_json::to_value(won[0]).unwrap()));
        let loser = tasks.iter().find(|task| *task != won[0]).unwrap();
        let view = rig.view(loser);
        assert_eq!(view.state, TaskState::RolledBack);
        assert!(view.error.unwrap().detail.contains("slot \"the-name\" was claimed by somebody else"));
        assert_eq!(view.steps[0].attempts, 3, "it came again, as its policy says");
        lost += 1;
    }
    assert_eq!(lost, 40);
}

#[test]
fn a_loser_that_chooses_again_gets_another_name() {
    let options = Options::default().plan("plan", |plan| {
        plan.step("name", Choose, &[]);
    });
    let mut rig = Rig::new(5, options);
    rig.kinds(|| kinds().with::<Choose>());
    rig.restart();
    let tasks: Vec<TaskId> = (0..2).map(|_| rig.submit("plan")).collect();
    rig.settle();
    assert!(
        tasks.iter().all(|task| rig.state(task) == TaskState::Succeeded),
        "{:?}",
        rig.view(&tasks[1]).error
    );
    let of = |name: &str| registered(&rig, "name", name).map(|task| task.as_str().unwrap().to_owned());
    let mut holders = vec![of("db0").unwrap(), of("db1").unwrap()];
    holders.sort();
    assert_eq!(holders, [tasks[0].to_string(), tasks[1].to_string()]);
}

#[test]
fn a_task_keeps_its_claim_when_its_step_runs_again() {
    let mut rig = Rig::new(
        1,
        Options::default().plan("plan", |plan| {
            let a = plan.step("a", Make(Act::on("t/a").claim("n")), &[]);
            plan.step("b", Make(Act::on("t/b").claim("n")), &[&a]);
        }),
    );
    rig.world.runs("a", [(Effect::Half, End::InDoubt)]);
    let task = rig.run();
    assert_eq!(rig.state(&task), TaskState::Succeeded);
    rig.restart();
    assert_eq!(registered(&rig, "slot", "n"), Some(serde_json::to_value(&task).unwrap()));
}

#[test]
fn records_come_with_the_result_or_never() {
    let make = |plan: &mut PlanBuilder| {
        plan.step("a", Make(Act::on("t/a").record("shop")), &[]);
    };
    let rig = Rig::of(make);
    rig.world.runs(
        "a",
        [(Effect::Whole, End::Retryable), (Effect::Whole, End::Panic), (Effect::Whole, End::Fatal)],
    );
    rig.world.probes("a", [End::Retryable]);
    rig.submit("plan");
    rig.store.hold();
    rig.settle();
    rig.store.release_all();
    rig.settle();
    let rig = Rig::of(make);
    rig.submit("plan");
    rig.until("a runs", || rig.world.count("a", Kind::Run) == 1);
    rig.store.hold();
    rig.settle();
    assert_eq!(registered(&rig, "site", "shop"), None, "not before the result is durable");
    rig.store.release_all();
    assert_eq!(registered(&rig, "site", "shop"), Some("made".into()), "in the same write");

    let rig = Rig::of(make);
    rig.world.runs("a", [(Effect::Whole, End::Fatal)]);
    rig.run();
    assert_eq!(registered(&rig, "site", "shop"), None);
}

/// Stages what no store takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Greedy {
    name: usize,
    value: usize,
    count: usize,
    output: usize,
}

macro_rules! greedy {
    ($name:ident, $mode:ty, $kind:literal) => {
        #[derive(Clone, Debug, Serialize, Deserialize)]
        struct $name(Greedy);

        impl Step for $name {
            type Ports = World;
            type Output = String;
            type Mode = $mode;
            const KIND: &'static str = $kind;

            fn title(&self) -> String {
                "take too much".to_owned()
            }
            async fn run(&self, cx: &Cx<'_, World>) -> Result<String, StepError> {
                for n in 0..self.0.count {
                    cx.put_record(
                        "site",
                        format!("{n}{}", "n".repeat(self.0.name)),
                        &"v".repeat(self.0.value),
                    )?;
                }
                Ok("o".repeat(self.0.output))
            }
            async fn probe(&self, cx: &Cx<'_, World>) -> Result<Probe<String>, StepError> {
                self.run(cx).await.map(Probe::Applied)
            }
        }
    };
}

greedy!(GreedyStep, Compensable, "greedy");
greedy!(GreedyPivot, Pivot, "greedy_pivot");

impl Compensate for GreedyStep {
    fn undo_title(&self) -> String {
        "nothing".to_owned()
    }
    async fn undo(&self, _: &Cx<'_, World>) -> Result<(), StepError> {
        Ok(())
    }
}

fn greedy_kinds() -> StepKinds<World> {
    kinds().with::<GreedyStep>().with::<GreedyPivot>()
}

#[test]
fn a_step_that_stages_too_much_fails_alone() {
    let small = Greedy { name: 1, value: 1, count: 1, output: 1 };
    for (greedy, why) in [
        (Greedy { name: 600, ..small.clone() }, "name of its record is too long"),
        (Greedy { value: 5000, ..small.clone() }, "4096 fit"),
        (Greedy { count: 65, ..small.clone() }, "64 are allowed"),
        (Greedy { output: 2 << 20, ..small.clone() }, "its output is larger"),
    ] {
        let with = greedy.clone();
        let options = Options {
            kinds: greedy_kinds,
            ..Options::default()
                .plan("greedy", move |plan| {
                    plan.step("g", GreedyStep(with.clone()), &[]);
                })
                .plan("pivot", move |plan| {
                    plan.step("g", GreedyPivot(greedy.clone()), &[]);
                })
                .plan("modest", |plan| {
                    plan.step("a", Make(Act::on("t/a").record("shop")), &[]);
                })
        };
        let rig = Rig::new(1, options);
        let (bad, pivot, good) = (rig.submit("greedy"), rig.submit("pivot"), rig.submit("modest"));
        rig.settle();
        let view = rig.view(&bad);
        assert_eq!(view.state, TaskState::RolledBack);
        assert!(view.error.as_ref().unwrap().detail.contains(why), "{:?}", view.error);
        // What has decided is not taken for failed: a person has to look.
        let view = rig.view(&pivot);
        assert_eq!(view.state, TaskState::Stuck);
        assert!(view.incident.unwrap().steps[0].probe.as_deref().unwrap().contains(why));
        assert_eq!(rig.state(&good), TaskState::Succeeded, "nobody else suffers");
        assert!(!rig.failed());
    }
}
