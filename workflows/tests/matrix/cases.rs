//! Everything that can go wrong with one task, as cases: made of a run that nothing happened to, without a word about any workflow.

use kedge_engine::plan::Class;
use kedge_engine::step::StepError;
use kedge_engine::testing::meddle::{Call, Trouble};
use kedge_engine::testing::memory_store::Crash;
use kedge_engine::testing::runtime::Dice;
use kedge_workflows::ports::PortError;
use kedge_workflows::testing::{Moment, Point};

use crate::rig::{Case, Death, End, StepTrouble};

/// Ports, by the beginning of their calls' names.
const PORTS: [&str; 7] = ["app.", "backups.", "commands.", "database.", "files.", "secrets.", "web_server."];

/// What a run passed.
pub(crate) struct Course {
    points: Vec<Point>,
    commits: u64,
}

impl Course {
    pub(crate) fn of(end: &End) -> Self {
        let commits = end.lives.iter().map(|(_, commits)| commits).sum();
        Self { points: end.rig.points(), commits }
    }

    /// Of the life after the last death.
    pub(crate) fn of_last_life(end: &End) -> Self {
        let (count, commits) = end.lives.last().copied().unwrap_or_default();
        let mut points = end.rig.points();
        points.drain(..points.len().saturating_sub(count));
        for (number, point) in points.iter_mut().enumerate() {
            point.number = number;
        }
        Self { points, commits }
    }

    pub(crate) fn points(&self) -> usize {
        self.points.len()
    }

    /// Every place to die at from point `first` on: at each point of the ports, at each write of the journal before and after it is
    /// durable. A result that is not durable is an effect without a result: the same step runs, or is undone, again.
    pub(crate) fn deaths(&self, first: usize) -> Vec<Death> {
        let at_point = self.points.iter().filter(|point| point.number >= first);
        let at_point = at_point.map(|point| Death::Point(point.number));
        let at_write = (1..=self.commits)
            .flat_map(|n| [Crash::Before, Crash::AfterWriteBeforeAck].map(|how| Death::Commit(n, how)));
        at_point.chain(at_write).collect()
    }

    /// The places at which the world or the journal is another one than at the place before: half of an effect, a whole one, a write.
    pub(crate) fn distinct_deaths(&self) -> Vec<Death> {
        let distinct = |death: &Death| match death {
            Death::Commit(..) => true,
            Death::Point(number) => {
                let point = &self.points[*number];
                point.moment == Moment::After || point.op.contains(".half") || point.op.contains("_rest")
            }
        };
        self.deaths(0).into_iter().filter(distinct).collect()
    }
}

fn trouble(step: &str, call: Call, attempts: u32, trouble: Trouble) -> StepTrouble {
    StepTrouble { step: step.to_owned(), call, attempts: 1..=attempts, trouble }
}

/// The last step before which everything can be taken back, told to fail: so everything is.
pub(crate) fn rollback(quiet: &End) -> Case {
    let steps = &quiet.view.steps;
    let pivot = steps.iter().rfind(|step| step.class == Class::Pivot);
    // Without a decision, everything can be taken back up to the very end.
    let pivot = pivot.or(steps.last()).expect("a plan has steps");
    let error = StepError::fatal("no decision");
    Case { steps: vec![trouble(&pivot.name, Call::Run, u32::MAX, Trouble::Before(error))], ..Case::default() }
}

/// Each call of a port fails once in each way, ahead of its effect or behind it, from point `first` on.
pub(crate) fn calls_fail(base: &Case, course: &Course, first: usize) -> Vec<Case> {
    let errors = [
        PortError::Refused("refused on purpose".to_owned()),
        PortError::Unavailable("not there on purpose".to_owned()),
        PortError::Lost("cut on purpose".to_owned()),
    ];
    let fail = |at: usize| errors.clone().map(|error| Case { fail: Some((at, error)), ..base.clone() });
    (first..course.points()).flat_map(fail).collect()
}

/// From some moment on, a whole port does not answer any more: for as long as it takes until nothing is tried any more.
pub(crate) fn ports_go_down(base: &Case, course: &Course) -> Vec<Case> {
    let down = |point: &Point| {
        let port = PORTS.into_iter().find(|port| point.op.starts_with(port))?;
        Some(Case { down: Some((point.number, port)), ..base.clone() })
    };
    course.points.iter().filter(|point| point.moment == Moment::Before).filter_map(down).collect()
}

/// Each step fails before it does anything and after it has done everything, for good and once; runs twice; never ends.
pub(crate) fn steps_fail(quiet: &End) -> Vec<Case> {
    let troubles = [
        (u32::MAX, Trouble::Before(StepError::fatal("fatal, before anything"))),
        (u32::MAX, Trouble::After(StepError::fatal("fatal, after everything"))),
        (u32::MAX, Trouble::After(StepError::retryable("never works"))),
        (1, Trouble::After(StepError::in_doubt("in doubt"))),
        (1, Trouble::After(StepError::retryable("did it, and does not know"))),
        (1, Trouble::Hang),
    ];
    let case = |(step, (attempts, what)): (&str, (u32, Trouble))| Case {
        steps: vec![trouble(step, Call::Run, attempts, what)],
        ..Case::default()
    };
    let steps = quiet.view.steps.iter().map(|step| step.name.as_str());
    steps.flat_map(|step| troubles.clone().map(|what| (step, what))).map(case).collect()
}

/// In a whole rollback, each undo is done twice, hangs after its work, and fails for ever.
pub(crate) fn undos_fail(quiet: &End) -> Vec<Case> {
    let troubles = [
        (1, Trouble::After(StepError::retryable("did it, and does not know"))),
        (1, Trouble::Hang),
        (u32::MAX, Trouble::Before(StepError::fatal("it cannot be undone"))),
        (u32::MAX, Trouble::After(StepError::retryable("undone, and says that it is not"))),
    ];
    let base = rollback(quiet);
    let case = |(step, (attempts, what)): (&str, (u32, Trouble))| {
        let mut case = base.clone();
        case.steps.push(trouble(step, Call::Undo, attempts, what));
        case
    };
    let steps = quiet.view.steps.iter().filter(|step| step.class == Class::Compensable);
    let steps = steps.map(|step| step.name.as_str());
    steps.flat_map(|step| troubles.clone().map(|what| (step, what))).map(case).collect()
}

/// Somebody cancels after each write.
pub(crate) fn cancels(course: &Course) -> Vec<Case> {
    (1..=course.commits).map(|n| Case { cancel: Some(n), ..Case::default() }).collect()
}

/// The process dies at each place.
pub(crate) fn deaths(base: &Case, course: &Course, first: usize) -> Vec<Case> {
    course.deaths(first).into_iter().map(|death| Case { deaths: vec![death], ..base.clone() }).collect()
}

/// It dies at each place, and once more somewhere in what is left, as the dice will.
pub(crate) fn second_deaths(base: &Case, course: &Course, dice: &mut Dice) -> Vec<Case> {
    let all = course.distinct_deaths();
    let place = |dice: &mut Dice, all: &[Death]| {
        all[usize::try_from(dice.below(all.len() as u64)).expect("an index")]
    };
    let twice = |first: &Death| Case { deaths: vec![*first, place(dice, &all)], ..base.clone() };
    all.iter().map(twice).collect()
}
