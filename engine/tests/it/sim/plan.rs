//! Random plans: width, depth, classes, a sub-task, shared locks, slots, policies. One seed and one task id give one plan.

use kedge_engine::builder::{Named, PlanBuilder};
use kedge_engine::plan::{Plan, PlanError};
use kedge_engine::retry::Policy;
use kedge_engine::step::Ref;
use kedge_engine::testing::runtime::Dice;

use super::cuts::{Cut, Cuts};
use crate::steps::{Act, Decide, Fill, Look, Made, Make, Print, ProbeStyle, Tidy};

/// Keys of a task's own resources.
pub fn own(task: &str) -> String {
    format!("t/{task}/")
}

/// Keys of what its sub-task makes.
pub fn kept(task: &str) -> String {
    format!("b/{task}/")
}

struct Draw<'a> {
    dice: &'a mut Dice,
    plan: PlanBuilder,
    task: String,
    /// Steps of the task so far, and whether they have a folder.
    steps: Vec<(Ref<Made>, Option<String>)>,
    number: usize,
    cuts: Cuts,
}

/// The plan of a seed.
pub fn plan(seed: u64, task: &str, cuts: Cuts) -> Result<Plan, PlanError> {
    let mut dice = Dice::new(seed);
    let mut draw = Draw {
        dice: &mut dice,
        plan: PlanBuilder::new(Some("site")),
        task: task.to_owned(),
        steps: Vec::new(),
        number: 0,
        cuts,
    };
    if cuts.keep(Cut::Locks) {
        draw.locks();
    }
    if draw.dice.percent(70) && cuts.keep(Cut::Fingerprints) {
        let prefixes = vec![own(task), "lock/".to_owned()];
        draw.plan.fingerprint(&Print(prefixes), vec!["what is the task's own".to_owned()]);
    }
    let most = if draw.dice.percent(85) { 3 } else { 8 };
    let bound = [(Cut::SecondStep, 0), (Cut::ThirdStep, 1), (Cut::MoreSteps, 2)];
    let bound = bound.into_iter().find(|(cut, _)| !cuts.keep(*cut)).map_or(most, |(_, bound)| bound);
    for _ in 0..=draw.dice.below(most).min(bound) {
        draw.step();
    }
    if draw.dice.percent(30) && cuts.keep(Cut::SubTask) {
        draw.sub_task();
        for _ in 0..draw.dice.below(2) {
            draw.step();
        }
    }
    if draw.dice.percent(60) && cuts.keep(Cut::Pivot) {
        draw.pivot();
    }
    draw.plan.build()
}

impl Draw<'_> {
    fn name(&mut self, word: &str) -> String {
        self.number += 1;
        format!("{word}{}", self.number)
    }

    fn policy(&mut self) -> Policy {
        Policy {
            limit_ms: 50 + self.dice.below(100),
            attempts: 1 + u32::try_from(self.dice.below(4)).unwrap()
                * u32::from(self.cuts.keep(Cut::Retries)),
            first_ms: 10,
            cap_ms: 100,
            budget_ms: 200 + self.dice.below(2000),
        }
    }

    fn act(&mut self, key: String) -> Act {
        let mut act = Act::on(key);
        act.planned.policy = self.policy();
        act.planned.undo_policy = self.policy();
        act.probe = match self.dice.below(4) {
            0 => ProbeStyle::Repeat,
            1 => ProbeStyle::Resumes,
            _ => ProbeStyle::Honest,
        };
        if self.dice.percent(30) && self.cuts.keep(Cut::Slots) {
            act.planned.slot = Some("dump".to_owned());
        }
        act
    }

    /// One to three of the earlier steps.
    fn some(&mut self) -> Vec<Ref<Made>> {
        let count = self.dice.below(3) + u64::from(self.dice.percent(50));
        let mut some = Vec::new();
        for _ in 0..count {
            let place = usize::try_from(self.dice.below(self.steps.len() as u64)).unwrap();
            if self.cuts.keep(Cut::Edges) {
                some.extend(self.steps.get(place).map(|(step, _)| step.clone()));
            }
        }
        some
    }

    fn step(&mut self) {
        let after = self.some();
        let after: Vec<&dyn Named> = after.iter().map(|step| step as &dyn Named).collect();
        let folders: Vec<(Ref<Made>, String)> = self
            .steps
            .iter()
            .filter_map(|(step, folder)| folder.clone().map(|folder| (step.clone(), folder)))
            .collect();
        let draw = self.dice.below(10);
        if draw < 2 {
            let name = self.name("look");
            let mut act = self.act(format!("lock/{}", ["x", "y"][usize::from(draw == 0)]));
            act.acts = false;
            let step = self.plan.step(&name, Look(act), &after);
            self.steps.push((step, None));
        } else if draw < 4 && !folders.is_empty() {
            let place = usize::try_from(self.dice.below(folders.len() as u64)).unwrap();
            let (folder, path) = &folders[place];
            let name = self.name("fill");
            let act = self.act(format!("{path}/{name}")).needs(&[folder]);
            let step = self.plan.step(&name, Fill(act), &after);
            self.steps.push((step, None));
        } else {
            let name = self.name("make");
            let key = format!("{}{name}", own(&self.task));
            let needs =
                if self.dice.percent(40) { folders.first().map(|(step, _)| step.clone()) } else { None };
            let mut act = self.act(key.clone()).needs(&needs.iter().collect::<Vec<_>>());
            if self.dice.percent(10) && self.cuts.keep(Cut::Records) {
                act = act.claim(["n1", "n2"][usize::from(self.dice.percent(50))]);
            }
            if self.dice.percent(20) && self.cuts.keep(Cut::Records) {
                act = act.record(&format!("{name}-{}", self.task));
            }
            let step = self.plan.step(&name, Make(act), &after);
            self.steps.push((step, Some(key)));
        }
    }

    /// Locks, and something that is changed under an exclusive one.
    fn locks(&mut self) {
        for resource in ["x", "y"] {
            match self.dice.below(4) {
                0 => self.plan.lock(resource, true),
                1 => self.plan.lock(resource, false),
                2 => {
                    self.plan.lock(resource, false);
                    let key = format!("lock/{resource}");
                    let seen = self.plan.step(&format!("see_{resource}"), Look::at(key.clone()), &[]);
                    let value = format!("closed by {}", self.task);
                    let act = self.act(key).value(&value).before(&seen);
                    let step = self.plan.step(&format!("close_{resource}"), Make(act), &[]);
                    self.steps.push((step, None));
                }
                _ => {}
            }
        }
    }

    fn sub_task(&mut self) {
        let after = self.some();
        let task = self.task.clone();
        let acts: Vec<Act> =
            (0..=self.dice.below(2)).map(|n| self.act(format!("{}{n}", kept(&task)))).collect();
        let pivot = self.act(format!("{}done", kept(&task)));
        let tidy: Vec<Act> =
            (0..self.dice.below(3)).map(|n| self.act(format!("{}tidy{n}", kept(&task)))).collect();
        let last = self.plan.scope("sub", |plan| {
            let after: Vec<&dyn Named> = after.iter().map(|step| step as &dyn Named).collect();
            let made: Vec<Ref<Made>> = acts
                .into_iter()
                .enumerate()
                .map(|(n, act)| plan.step(&format!("keep{n}"), Make(act), &after))
                .collect();
            let made: Vec<&dyn Named> = made.iter().map(|step| step as &dyn Named).collect();
            let pivot = plan.step("kept", Decide::on(pivot), &made);
            let mut last = vec![pivot.clone()];
            for (n, act) in tidy.into_iter().enumerate() {
                last.push(plan.step(&format!("kept_tidy{n}"), Tidy(act), &[&pivot]));
            }
            last
        });
        self.steps.extend(last.into_iter().map(|step| (step, None)));
    }

    fn pivot(&mut self) {
        let all: Vec<Ref<Made>> = self.steps.iter().map(|(step, _)| step.clone()).collect();
        let all: Vec<&dyn Named> = all.iter().map(|step| step as &dyn Named).collect();
        let act = self.act(format!("p/{}", self.task));
        let pivot = self.plan.step("pivot", Decide::on(act), &all);
        let mut before = pivot.clone();
        for n in 0..self.dice.below(3) {
            let act = self.act(format!("u/{}/{n}", self.task));
            let tidy = self.plan.step(&format!("tidy{n}"), Tidy(act), &[&before]);
            if self.dice.percent(50) {
                before = tidy;
            }
        }
    }
}
