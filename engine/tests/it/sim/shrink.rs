//! Makes a failing run small: leaves out one thing after another, and looks for a seed that fails without it. Then tells its story.

use std::any::Any;
use std::panic::{catch_unwind, set_hook, take_hook};

use super::cuts::{ALL, Cuts};
use super::run::run;
use crate::story;

/// Seeds tried for each thing that might be left out.
const SEEDS: u64 = 2000;

/// Why a run fails; `None`: it does not.
fn failure(seed: u64, cuts: Cuts) -> Option<String> {
    catch_unwind(|| run(seed, cuts)).err().map(|panic| text(&*panic))
}

pub fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// The kind of a failure: its first words, without numbers and names of tasks.
fn kind(failure: &str) -> String {
    let words = failure.lines().take(2).flat_map(str::split_whitespace);
    let words = words.filter(|word| !word.bytes().any(|byte| byte.is_ascii_digit() || byte == b'_'));
    words.take(12).collect::<Vec<_>>().join(" ")
}

/// The smallest run found that fails in the same way, and its story.
pub fn shrink(seed: u64, cuts: Cuts) -> String {
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let story = quietly(seed, cuts);
    set_hook(hook);
    story
}

fn quietly(found: u64, cuts: Cuts) -> String {
    let Some(first) = failure(found, cuts) else {
        return format!("seed {found} does not fail when it is repeated: something is not deterministic");
    };
    let same = |failure: &String| kind(failure) == kind(&first);
    let (mut seed, mut cuts) = (found, cuts);
    for cut in ALL {
        let fewer = cuts.with(cut);
        let seeds = std::iter::once(seed).chain(1..=SEEDS);
        let fails = |seed: &u64| failure(*seed, fewer).as_ref().is_some_and(same);
        if let Some(smaller) = seeds.into_iter().find(fails) {
            (seed, cuts) = (smaller, fewer);
        }
    }
    // With what is left, the seed with the shortest story.
    let length = |seed: u64| story::told(|| run(seed, cuts)).1.len();
    let fails = |seed: &u64| failure(*seed, cuts).as_ref().is_some_and(same);
    let shortest = std::iter::once(seed).chain(1..=SEEDS).filter(fails).min_by_key(|seed| length(*seed));
    seed = shortest.unwrap_or(seed);
    let (result, story) = story::told(|| run(seed, cuts));
    let why = result.err().map(|panic| text(&*panic)).unwrap_or_default();
    format!(
        "\nIt fails, first seen with seed {found}. The smallest that fails in the same way:\n\n{}\n\n{why}\n\n\
         again: KEDGE_SEED={seed} KEDGE_CUTS={} just sim\n",
        story.join("\n"),
        cuts.text()
    )
}
