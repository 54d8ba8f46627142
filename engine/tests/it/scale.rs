//! The largest plans and many tasks: they work, and cost no more than their size.

use kedge_engine::builder::PlanBuilder;
use kedge_engine::plan::MAX_STEPS;
use kedge_engine::step::Ref;
use kedge_engine::task::{TaskId, TaskState};

use crate::rig::{Options, Rig};
use crate::steps::{Act, Made, Make};
use crate::world::{Effect, End, Kind};

fn wide(plan: &mut PlanBuilder) {
    let first = plan.step("first", Make(Act::on("t/first")), &[]);
    let middle: Vec<Ref<Made>> = (0..MAX_STEPS - 2)
        .map(|n| plan.step(&format!("n{n}"), Make(Act::on(format!("t/{n}"))), &[&first]))
        .collect();
    let middle: Vec<&dyn kedge_engine::builder::Named> = middle.iter().map(|step| step as _).collect();
    plan.step("last", Make(Act::on("t/last")), &middle);
}

fn long(plan: &mut PlanBuilder) {
    let mut before = plan.step("n0", Make(Act::on("t/0")), &[]);
    for n in 1..MAX_STEPS - 1 {
        before = plan.step(&format!("n{n}"), Make(Act::on(format!("t/{n}")).needs(&[&before])), &[]);
    }
    plan.step("last", Make(Act::on("t/last")), &[&before]);
}

#[test]
fn the_largest_plans_run_and_roll_back() {
    for make in [wide as fn(&mut PlanBuilder), long] {
        let mut rig = Rig::new(1, Options::default().plan("plan", make));
        let good = rig.run();
        assert_eq!(rig.state(&good), TaskState::Succeeded);
        rig.world.runs("last", [(Effect::Half, End::Fatal)]);
        let bad = rig.submit("plan");
        rig.until("half is undone", || rig.world.count("n255", Kind::Undo) == 1);
        rig.restart();
        rig.settle();
        assert_eq!(rig.state(&bad), TaskState::RolledBack);
        assert!(rig.world.resources().is_empty());
    }
}

#[test]
fn a_thousand_tasks_on_one_site_run_one_after_another_and_none_is_lost() {
    let options = Options::default().plan("plan", |plan| {
        plan.lock("site shop.test", false);
        plan.step("a", Make(Act::on("t/a")), &[]);
    });
    let mut rig = Rig::new(1, options);
    let tasks: Vec<TaskId> = (0..1000).map(|_| rig.submit("plan")).collect();
    rig.until("some are done", || rig.watch.ends().len() > 300);
    rig.restart();
    rig.settle();
    assert_eq!(rig.watch.ends(), tasks, "in the order in which they came");
}
