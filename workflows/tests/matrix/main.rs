//! The matrix on fakes, for every workflow without a line for any: each call of a port fails, each step fails, each runs twice, each
//! undo runs twice, the process dies around each effect and each write, and dies again while the next one recovers. The end is done,
//! or as before, or stuck where an undo was made to fail for ever, and as before once that is over.
//!
//! `KEDGE_MATRIX=whole` plays every case (`just matrix`), otherwise those that `KEDGE_SEED` (1) samples. `KEDGE_SCENE` and `KEDGE_CASE`
//! repeat what a failure prints, and tell its story.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests: a failure is a failed test"
)]

mod archives;
mod batch;
mod cases;
mod commands;
mod fence;
mod imports;
mod judge;
mod overtaken;
mod packages;
mod purged;
mod reached;
mod rig;
mod scene;
mod tales;
mod usual_pages;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use kedge_engine::task::TaskState;
use kedge_engine::testing::runtime::Dice;
use kedge_workflows::testing::WorldState;

use cases::Course;
use judge::{in_general, judge, not_as_in, scandal, whole};
use rig::{Case, End, Rig, play};
use scene::{Scene, scenes};

/// One case in so many is watched by visitors between any two things that happen: that costs more than the case itself.
const WATCHED: usize = 8;
/// Failures told in full.
const TOLD: usize = 5;

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// What a case is measured by.
struct Measure {
    before: WorldState,
    done: WorldState,
}

impl Measure {
    /// Plays a case; what is wrong with its end, if anything is.
    fn play(&self, scene: &Scene, number: usize, case: &Case) -> Result<End, String> {
        let watched = number.is_multiple_of(WATCHED);
        let end = play(&scene.base, &scene.ask, case, &|world| if watched { scandal(world) } else { None });
        let mut wrong = judge(&self.before, &self.done, &end, case.down.is_some());
        let may_be_stuck = !case.steps.is_empty() || case.down.is_some() || case.fail.is_some();
        if end.incident.is_some() && !may_be_stuck {
            wrong.push("it was stuck, although nothing was made to fail for ever".to_owned());
        }
        if end.died == 0 && !case.deaths.is_empty() {
            wrong.push("the process did not die".to_owned());
        }
        if wrong.is_empty() {
            return Ok(end);
        }
        let story = end.rig.story(&end.view.id);
        let told = wrong.iter().take(12).cloned().collect::<Vec<_>>().join("\n  ");
        Err(format!(
            "{case:?}\nended {:?}, and wrong is:\n  {told}\nrepeat with KEDGE_SCENE='{}' KEDGE_CASE={number}; its story:\n  {}",
            end.view.state,
            scene.name,
            story.join("\n  ")
        ))
    }
}

/// All cases of a scene, always in the same order.
fn all_cases(scene: &Scene, quiet: &End, whole: bool) -> Vec<Case> {
    let plain = Case::default();
    let course = Course::of(quiet);
    let back = cases::rollback(quiet);
    let gone_back = play(&scene.base, &scene.ask, &back, &|_| None);
    let way_back = Course::of(&gone_back);
    let turn = common(quiet, &gone_back);
    let mut dice = Dice::new(seed());
    let mut all = vec![plain.clone(), back.clone()];
    all.extend(cases::calls_fail(&plain, &course, 0));
    all.extend(cases::calls_fail(&back, &way_back, turn));
    all.extend(cases::ports_go_down(&plain, &course));
    all.extend(cases::ports_go_down(&back, &way_back));
    all.extend(cases::steps_fail(quiet));
    all.extend(cases::undos_fail(quiet));
    all.extend(cases::cancels(&course));
    all.extend(cases::deaths(&plain, &course, 0));
    all.extend(cases::deaths(&back, &way_back, turn));
    if whole {
        all.extend(every_second_death(scene, &plain, &course));
        all.extend(every_second_death(scene, &back, &way_back));
    } else {
        all.extend(cases::second_deaths(&plain, &course, &mut dice));
        all.extend(cases::second_deaths(&back, &way_back, &mut dice));
    }
    for (number, case) in all.iter_mut().enumerate() {
        // Another order of what is ready for each, but the first one: it is what the others are measured by.
        case.seed = if case.deaths.is_empty() && case.fail.is_none() { number as u64 } else { 0 };
    }
    all
}

/// The point at which two runs part.
fn common(one: &End, other: &End) -> usize {
    let (one, other) = (one.rig.points(), other.rig.points());
    one.iter().zip(&other).take_while(|(a, b)| a == b).count()
}

/// It dies at each place, and once more at each place of what follows.
fn every_second_death(scene: &Scene, base: &Case, course: &Course) -> Vec<Case> {
    let mut all = Vec::new();
    for first in course.distinct_deaths() {
        let once = Case { deaths: vec![first], ..base.clone() };
        let end = play(&scene.base, &scene.ask, &once, &|_| None);
        let second = Course::of_last_life(&end).distinct_deaths();
        all.extend(second.into_iter().map(|second| Case { deaths: vec![first, second], ..base.clone() }));
    }
    all
}

fn seed() -> u64 {
    env("KEDGE_SEED").map_or(1, |text| text.parse().expect("KEDGE_SEED is a number"))
}

/// The cases that are played now: all, or those that the seed picks; the first two always.
fn picked(count: usize, share: u64) -> Vec<usize> {
    let mut dice = Dice::new(seed());
    (0..count).filter(|number| *number < 2 || dice.below(share) == 0).collect()
}

#[test]
fn what_is_taken_back_is_as_it_was() {
    let mut count = 0;
    for scene in scenes() {
        let Some(origin) = &scene.origin else { continue };
        let end = play(&scene.base, &scene.ask, &Case::default(), &scandal);
        assert_eq!(not_as_in(origin, &end), Vec::<String>::new(), "{}", scene.name);
        count += 1;
    }
    assert!(count > 0, "nothing can be taken back any more");
}

#[test]
fn whatever_fails_and_whenever_it_dies_it_is_done_or_as_before() {
    let whole_matrix = env("KEDGE_MATRIX").is_some_and(|text| text == "whole");
    let (only, single) = (env("KEDGE_SCENE"), env("KEDGE_CASE"));
    let began = Instant::now();
    let (mut count, mut bad) = (0, Vec::new());
    println!("seed {}", seed());
    for scene in scenes() {
        if only.as_ref().is_some_and(|only| *only != scene.name) {
            continue;
        }
        let before = whole(&Rig::new(&scene.base, &Case::default()));
        let quiet = play(&scene.base, &scene.ask, &Case::default(), &scandal);
        assert_eq!(
            quiet.view.state,
            TaskState::Succeeded,
            "{}: {:#?}",
            scene.name,
            quiet.rig.story(&quiet.view.id)
        );
        let measure = Measure { done: in_general(&quiet), before };
        let all = all_cases(&scene, &quiet, whole_matrix);
        let numbers = match &single {
            Some(number) => vec![number.parse().expect("KEDGE_CASE is a number")],
            None if whole_matrix || only.is_some() => (0..all.len()).collect(),
            None => picked(all.len(), scene.share),
        };
        let (ends, failures) = play_all(&scene, &measure, &all, &numbers);
        count += numbers.len();
        println!("{}: {} of {} cases, {ends:?}", scene.name, numbers.len(), all.len());
        let told: Vec<String> = failures.values().take(TOLD).cloned().collect();
        if !told.is_empty() {
            let wrong = format!("{} cases of {:?} end wrong:\n\n", failures.len(), scene.name);
            bad.push(wrong + &told.join("\n\n"));
        }
        if single.is_none() && told.is_empty() {
            assert!(ends.values().sum::<usize>() == numbers.len() && ends.len() > 1, "{ends:?}");
        }
    }
    println!("{count} cases in {:.1} s", began.elapsed().as_secs_f64());
    assert!(bad.is_empty(), "{}", bad.join("\n\n"));
}

/// Plays cases on all cores: how they ended, and which ended wrong.
fn play_all(
    scene: &Scene,
    measure: &Measure,
    all: &[Case],
    numbers: &[usize],
) -> (BTreeMap<String, usize>, BTreeMap<usize, String>) {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = AtomicUsize::new(0);
    let (ends, failures) = (Mutex::new(BTreeMap::new()), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(number) = numbers.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match measure.play(scene, *number, &all[*number]) {
                        Ok(end) => {
                            let stuck = if end.incident.is_some() { " after a person helped" } else { "" };
                            let told = format!("{}{stuck}", end.view.state.as_str());
                            *ends.lock().unwrap().entry(told).or_insert(0) += 1;
                        }
                        Err(told) => drop(failures.lock().unwrap().insert(*number, told)),
                    }
                }
            });
        }
    });
    (ends.into_inner().unwrap(), failures.into_inner().unwrap())
}
