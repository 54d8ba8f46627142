//! What a drill breaks: points, as text that one can type again, and the choice among them. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail, ensure};
use kedge_engine::plan::Class;
use kedge_engine::sabotage::Phase;
use kedge_engine::task::StepView;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

/// Where the process is killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    /// At the n-th write to the journal in a life.
    Write { n: u64, moment: Moment },
    /// At an attempt of a step.
    Act { phase: Phase, step: String, side: Side },
    /// At the n-th command that a step runs on a host.
    Command { phase: Phase, step: String, n: u64, side: CommandSide },
}

/// Where in a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Nothing is written yet.
    Before,
    /// It is handed to the journal, and nobody knows how far it came.
    During,
    /// It is durable, and nobody was told.
    After,
}

/// On which side of an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Before it.
    Before,
    /// After it, before its result is reported.
    After,
}

/// Where in a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommandSide {
    /// So many milliseconds after its start, if it still runs then, else at its end.
    Within(u64),
    /// At its end.
    After,
}

/// How attempts of a step fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Run or undo.
    pub(crate) phase: Phase,
    /// The step; `*`: every step.
    pub(crate) step: String,
    /// Before it acts, or after.
    pub(crate) side: Side,
    /// Every attempt for good, or the first one only, retryably.
    pub(crate) lasting: bool,
}

/// A point: attempts that fail, and a kill for each of the first lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) failures: Vec<Failure>,
    pub(crate) kills: Vec<Spot>,
}

/// Something that a life passed by, where a kill is possible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "at", rename_all = "snake_case")]
pub(crate) enum Passed {
    /// A write to the journal.
    Write { n: u64 },
    /// An attempt that began.
    Act { phase: Phase, step: String },
    /// A command that ended.
    Command { phase: Phase, step: String, n: u64, ms: u64 },
}

fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Run => "run",
        Phase::Probe => "probe",
        Phase::Undo => "undo",
    }
}

fn phase(word: &str) -> Result<Phase> {
    Ok(match word {
        "run" => Phase::Run,
        "probe" => Phase::Probe,
        "undo" => Phase::Undo,
        _ => bail!("{word:?}: write run, probe or undo"),
    })
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "before",
            Self::After => "after",
        })
    }
}

impl FromStr for Side {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "before" => Self::Before,
            "after" => Self::After,
            _ => bail!("{text:?}: write before or after"),
        })
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { n, moment } => {
                let moment = match moment {
                    Moment::Before => "before",
                    Moment::During => "during",
                    Moment::After => "after",
                };
                write!(f, "kill:write:{n}:{moment}")
            }
            Self::Act { phase, step, side } => write!(f, "kill:{}:{step}:{side}", word(*phase)),
            Self::Command { phase, step, n, side } => {
                write!(f, "kill:command:{}:{step}:{n}:", word(*phase))?;
                match side {
                    CommandSide::Within(ms) => write!(f, "{ms}ms"),
                    CommandSide::After => f.write_str("after"),
                }
            }
        }
    }
}

impl FromStr for Spot {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        Ok(match parts[..] {
            ["kill", "write", n, moment] => {
                let moment = match moment {
                    "before" => Moment::Before,
                    "during" => Moment::During,
                    "after" => Moment::After,
                    _ => bail!("{moment:?}: write before, during or after"),
                };
                Self::Write { n: n.parse()?, moment }
            }
            ["kill", "command", word, step, n, side] => {
                let side = match side.strip_suffix("ms") {
                    Some(ms) => CommandSide::Within(ms.parse()?),
                    None if side == "after" => CommandSide::After,
                    None => bail!("{side:?}: write after, or milliseconds such as 120ms"),
                };
                Self::Command { phase: phase(word)?, step: step.to_owned(), n: n.parse()?, side }
            }
            ["kill", word, step, side] => {
                Self::Act { phase: phase(word)?, step: step.to_owned(), side: side.parse()? }
            }
            _ => bail!("{text:?} is no point; such as kill:write:7:before or kill:run:copy_files:after"),
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.lasting { "fail" } else { "flaky" };
        write!(f, "{kind}:{}:{}:{}", word(self.phase), self.step, self.side)
    }
}

impl FromStr for Failure {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let [kind @ ("fail" | "flaky"), word, step, side] = parts[..] else {
            bail!("{text:?} is no failure; such as fail:run:copy_files:before or flaky:undo:*:after");
        };
        Ok(Self { phase: phase(word)?, step: step.to_owned(), side: side.parse()?, lasting: kind == "fail" })
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failures = self.failures.iter().map(ToString::to_string);
        let all: Vec<String> = failures.chain(self.kills.iter().map(ToString::to_string)).collect();
        f.write_str(&if all.is_empty() { "none".to_owned() } else { all.join(",") })
    }
}

impl FromStr for Point {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut point = Self::default();
        for part in text.split(',').filter(|part| *part != "none") {
            if part.starts_with("kill:") {
                point.kills.push(part.parse()?);
            } else {
                point.failures.push(part.parse()?);
            }
        }
        Ok(point)
    }
}

impl Point {
    /// Which of the matrix's parts it belongs to.
    pub(crate) fn part(&self) -> &'static str {
        match (&self.failures[..], &self.kills[..]) {
            (_, [_, _, ..]) => "second crash",
            ([], [Spot::Write { .. }]) => "journal write",
            ([], [Spot::Act { .. }]) => "effect",
            ([], [Spot::Command { .. }]) => "command",
            ([], []) => "undisturbed",
            (_, []) => "failing step",
            (_, [_]) => "rollback",
        }
    }

    /// Whether the task may only end done, in time: nothing in it fails for good.
    pub(crate) fn lasting(&self) -> Option<&Failure> {
        self.failures.iter().find(|failure| failure.lasting)
    }
}

/// What two undisturbed looks at a task have shown: the way forward, and the longest way back.
pub(crate) struct Course<'a> {
    /// The steps in order.
    pub(crate) steps: &'a [StepView],
    /// What the way forward passed by.
    pub(crate) forward: &'a [Passed],
    /// The failure that makes the way back as long as it can be.
    pub(crate) failure: Option<&'a Failure>,
    /// What passed by with that failure.
    pub(crate) back: &'a [Passed],
}

/// Every point of a task's matrix.
pub(crate) fn matrix(course: &Course<'_>, random: &mut StdRng) -> Vec<Point> {
    let mut points = Vec::new();
    let kill = |spot| Point { failures: Vec::new(), kills: vec![spot] };
    for passed in course.forward {
        points.extend(spots(passed, random).into_iter().map(kill));
    }
    for step in course.steps {
        points.extend(failures(step));
    }
    if let Some(failure) = course.failure {
        // Up to the failure it is the way forward again.
        let turn = Passed::Act { phase: Phase::Run, step: failure.step.clone() };
        let back = course.back.iter().skip_while(|passed| **passed != turn).skip(1);
        for spot in back.flat_map(|passed| spots(passed, random)).collect::<Vec<_>>() {
            points.push(Point { failures: vec![failure.clone()], kills: vec![spot] });
        }
    }
    let firsts: Vec<Point> = points.iter().filter(|point| point.kills.len() == 1).cloned().collect();
    for mut point in firsts {
        // The next life writes a few events at least: that it took over, what the probe saw, what begins.
        let n = random.random_range(1..=4);
        let moment = [Moment::Before, Moment::During, Moment::After][random.random_range(0..3)];
        point.kills.push(Spot::Write { n, moment });
        points.push(point);
    }
    points
}

fn spots(passed: &Passed, random: &mut StdRng) -> Vec<Spot> {
    match passed {
        Passed::Write { n } => [Moment::Before, Moment::During, Moment::After]
            .into_iter()
            .map(|moment| Spot::Write { n: *n, moment })
            .collect(),
        Passed::Act { phase, step } => [Side::Before, Side::After]
            .into_iter()
            .map(|side| Spot::Act { phase: *phase, step: step.clone(), side })
            .collect(),
        Passed::Command { phase, step, n, ms } => {
            let within = CommandSide::Within(random.random_range(0..=*ms));
            [within, CommandSide::After]
                .into_iter()
                .map(|side| Spot::Command { phase: *phase, step: step.clone(), n: *n, side })
                .collect()
        }
    }
}

/// A step fails before and after its effect, and every undo fails once; after the point of no return a step fails once only.
fn failures(step: &StepView) -> Vec<Point> {
    let lasting = match step.class {
        Class::Query | Class::Compensable | Class::Pivot => true,
        Class::Retriable => false,
    };
    let point = |side| {
        let run = Failure { phase: Phase::Run, step: step.name.clone(), side, lasting };
        let undo = Failure { phase: Phase::Undo, step: "*".to_owned(), side, lasting: false };
        Point { failures: vec![run, undo], kills: Vec::new() }
    };
    vec![point(Side::Before), point(Side::After)]
}

/// Up to `count` points, of every part about as many.
pub(crate) fn sample(points: Vec<Point>, count: usize, random: &mut StdRng) -> Vec<Point> {
    let mut parts: BTreeMap<&'static str, Vec<Point>> = BTreeMap::new();
    for point in points {
        parts.entry(point.part()).or_default().push(point);
    }
    parts.values_mut().for_each(|points| points.shuffle(random));
    let mut chosen = Vec::new();
    while chosen.len() < count && parts.values().any(|points| !points.is_empty()) {
        for points in parts.values_mut() {
            if chosen.len() < count
                && let Some(point) = points.pop()
            {
                chosen.push(point);
            }
        }
    }
    chosen
}

/// How many points are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Take {
    /// Every one.
    All,
    /// Each step fails, before and after its effect; nothing is killed.
    Failures,
    /// So many, chosen by the seed.
    Sample(usize),
}

impl FromStr for Take {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "all" => return Ok(Self::All),
            "failures" => return Ok(Self::Failures),
            _ => {}
        }
        let Some(Ok(count)) = text.strip_prefix("sample:").map(str::parse) else {
            bail!("write all, failures, or sample:N such as sample:20");
        };
        ensure!(count > 0, "a sample of 0 points shows nothing");
        Ok(Self::Sample(count))
    }
}

/// The dice of a seed.
pub(crate) fn dice(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_the_text_that_repeats_it() {
        for text in [
            "kill:write:7:before",
            "kill:write:7:during,kill:write:2:after",
            "kill:run:copy_files:after",
            "kill:command:undo:fence:3:120ms",
            "fail:run:backup.write_backup:after,flaky:undo:*:after,kill:undo:close:before",
            "none",
        ] {
            let point: Point = text.parse().unwrap();
            assert_eq!(point.to_string(), text);
        }
        for text in
            ["", "kill", "kill:write:x:before", "kill:run:a:during", "fail:run:a", "kill:command:run:a:1:5"]
        {
            assert!(text.parse::<Point>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn what_is_taken_is_said_in_a_word() {
        let taken: Vec<Take> =
            ["all", "failures", "sample:7"].iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(taken, [Take::All, Take::Failures, Take::Sample(7)]);
        for text in ["", "fail", "sample", "sample:0", "sample:-1", "7"] {
            assert!(text.parse::<Take>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_sample_has_something_of_every_part_and_its_seed_repeats_it() {
        let points = || -> Vec<Point> {
            let mut points: Vec<Point> =
                (1..50).map(|n| format!("kill:write:{n}:after").parse().unwrap()).collect();
            points.push("kill:run:a:after".parse().unwrap());
            points.push("fail:run:a:after".parse().unwrap());
            points.push("kill:write:1:after,kill:write:1:after".parse().unwrap());
            points
        };
        let taken = sample(points(), 5, &mut dice(3));
        assert_eq!(taken.len(), 5);
        for part in ["journal write", "effect", "failing step", "second crash"] {
            assert!(taken.iter().any(|point| point.part() == part), "nothing of {part}: {taken:?}");
        }
        assert_eq!(taken, sample(points(), 5, &mut dice(3)));
        assert_eq!(sample(points(), 1000, &mut dice(3)).len(), points().len());
    }
}
