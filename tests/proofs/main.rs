//! Writes `PROOFS.md`: runs what proves something, and notes what was run, on how many cases, with which end. `kedge-proofs` runs all of it,
//! `kedge-proofs NAME ...` some; the sections of the others stay as their last run left them. Never writes a figure that no run has printed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

/// The report.
const REPORT: &str = "PROOFS.md";
/// Lines of figures that a section shows at most.
const MAX_FIGURES: usize = 200;

/// Something that is proven.
struct Proof {
    name: &'static str,
    /// What, in a sentence.
    shows: &'static str,
    /// By this command of a shell.
    command: &'static str,
    /// Lines of its output with one of these words in them are figures.
    figures: &'static [&'static str],
}

const PROOFS: &[Proof] = &[
    Proof {
        name: "simulation",
        shows: "Random plans, behaviour of steps, faults of the store, deaths and restarts: after every durable batch the guarantees hold, and each run ends done, as before, or stuck with an incident that names the cause.",
        command: "scripts/sim-ci",
        figures: &[" runs in "],
    },
    Proof {
        name: "mutants",
        shows: "Deliberate bugs in machine, executor and store are each found: the tests see what they are there to see.",
        command: "scripts/mutants",
        figures: &["the simulation:", "the engine's tests:", "the store's tests:", "MISSED"],
    },
    Proof {
        name: "matrix",
        shows: "Every registered workflow on fakes: each call, step and undo fails or runs twice, the process dies at every place, and at every place of the recovery; the world ends as of an undisturbed run, or byte for byte as before.",
        command: "cargo test --release -p kedge-workflows --test matrix -- --nocapture",
        figures: &[" cases, {", " cases in ", "seed "],
    },
    Proof {
        name: "store",
        shows: "The journal survives kill -9, power cuts between and within writes (block-level replay of what was written and synced), full disks; no acknowledged batch is lost.",
        command: "cargo test -p kedge-stores --test it -- --nocapture",
        figures: &["crash: ", "power, ", "full after ", "readers: ", "SKIPPED"],
    },
    Proof {
        name: "fuzz",
        shows: "Requests, signatures, mappings, parameters, configurations and events at random: an answer with words, never a panic; hostile archives: nothing outside of their directory changes.",
        command: "scripts/fuzz 2",
        figures: &["fuzz: "],
    },
    Proof {
        name: "overload",
        shows: "A thousand webhooks at once on one site, a thousand open tasks at a start, hundreds of half-open connections and endless bodies: nothing is lost, and the process stays below 256 MiB.",
        command: "KEDGE_BIN=\"$PWD/target/debug/kedge\" cargo test --workspace --test whole overload -- --nocapture",
        figures: &["webhooks on one site", "endless bodies", "at most "],
    },
    Proof {
        name: "failures-nginx",
        shows: "The failure cases of hosting teams on real servers: all of them on nginx, over docker exec.",
        command: "KEDGE_DOCKER_TESTS=1 KEDGE_CASES=all cargo test --workspace --test whole failure_cases_on_nginx -- --test-threads 1 --nocapture",
        figures: &["✓", "✗", "failure cases:"],
    },
    Proof {
        name: "failures-apache",
        shows: "The failure cases of hosting teams on real servers: all of them on Apache, over SSH.",
        command: "KEDGE_DOCKER_TESTS=1 KEDGE_CASES=all cargo test --workspace --test whole failure_cases_on_apache -- --test-threads 1 --nocapture",
        figures: &["✓", "✗", "failure cases:"],
    },
    Proof {
        name: "kills",
        shows: "kill -9 of the real process at random moments of migrates, renames and rollbacks on real servers; the neighbour answers every request, and no secret is seen.",
        command: "KEDGE_DOCKER_TESTS=1 KEDGE_ROUNDS=20 cargo test --workspace --test whole kill_dash_nine -- --test-threads 1 --nocapture",
        figures: &["KEDGE_SEED", "kills, verified", "neighbour answered", "secrets are in none"],
    },
    Proof {
        name: "hour",
        shows: "A hosting team's hour: two hundred tasks of every common kind on twenty sites in random order, several at once, some broken on purpose, some canceled, the process killed and restarted in between; each ends done or as before, and when everything was deleted and purged, the host is as it was.",
        command: "KEDGE_DOCKER_TESTS=1 KEDGE_TASKS=200 KEDGE_SITES=20 cargo test --workspace --test whole a_teams_hour -- --test-threads 1 --nocapture",
        figures: &["KEDGE_SEED", "deaths and restarts", "tasks on 20 sites"],
    },
    Proof {
        name: "drills",
        shows: "The matrix of crashes and failures with the real binary on real servers: each step of each workflow fails, and each undo once (`just drill sample:40`: deaths; `just drill all`: all of it).",
        command: "KEDGE_DOCKER_TESTS=1 KEDGE_DRILL_POINTS=failures cargo test --workspace --test whole drill -- --test-threads 1 --nocapture",
        figures: &["drill of ", "held", "KEDGE_SEED"],
    },
];

fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    for name in &wanted {
        let names: Vec<&str> = PROOFS.iter().map(|proof| proof.name).collect();
        ensure!(names.contains(&name.as_str()), "there is no proof {name}; there are: {}", names.join(", "));
    }
    let path = Path::new(REPORT);
    ensure!(Path::new("justfile").exists(), "run it where the justfile is");
    let mut broken = Vec::new();
    for proof in
        PROOFS.iter().filter(|proof| wanted.is_empty() || wanted.iter().any(|name| name == proof.name))
    {
        println!("== {}: {}", proof.name, proof.command);
        let (held, section) = run(proof)?;
        // Read only now: another run may have written its section meanwhile.
        let mut sections = sections(&std::fs::read_to_string(path).unwrap_or_default());
        sections.insert(proof.name.to_owned(), section);
        if !held {
            broken.push(proof.name);
        }
        std::fs::write(path, report(&sections)).with_context(|| REPORT.to_owned())?;
    }
    ensure!(broken.is_empty(), "these do not hold: {}", broken.join(", "));
    Ok(())
}

/// Runs one; whether it held, and its section.
fn run(proof: &Proof) -> Result<(bool, String)> {
    let began = Instant::now();
    let shell = format!("( {} ) 2>&1", proof.command);
    let mut child = Command::new("sh").args(["-c", &shell]).stdout(Stdio::piped()).spawn()?;
    let mut figures = Vec::new();
    for line in BufReader::new(child.stdout.take().context("no output")?).lines() {
        // A byte that is no text is no figure.
        let Ok(line) = line else { continue };
        println!("{line}");
        if proof.figures.iter().any(|word| line.contains(word)) && figures.len() < MAX_FIGURES {
            figures.push(elsewhere(&line).chars().take(200).collect::<String>().trim().to_owned());
        }
    }
    let held = child.wait()?.success();
    let said = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    };
    // The report itself may have changed: other proofs write into it.
    let changed = said("git", &["diff", "--name-only", "HEAD", "--", ".", &format!(":!{REPORT}")]);
    let mut section = String::new();
    writeln!(
        section,
        "{}, at {}{}, in {} s: {}.\n",
        said("date", &["-u", "+%Y-%m-%d"]),
        said("git", &["describe", "--always"]),
        if changed.is_empty() { "" } else { "-dirty" },
        began.elapsed().as_secs(),
        if held { "**held**" } else { "**does not hold**" }
    )?;
    ensure!(!figures.is_empty(), "{} printed no figure: nothing was run", proof.name);
    writeln!(section, "```\n{}\n```", figures.join("\n"))?;
    Ok((held, section))
}

/// A line without the paths of temporary directories, which say something of one machine only.
fn elsewhere(line: &str) -> String {
    let temporary = std::env::temp_dir();
    let of_here = |word: &&str| word.starts_with(&*temporary.to_string_lossy());
    line.split(' ')
        .map(|word| if of_here(&word) { "(a directory)" } else { word })
        .collect::<Vec<_>>()
        .join(" ")
}

/// What the last run of each proof left in a report.
fn sections(report: &str) -> BTreeMap<String, String> {
    let mut sections = BTreeMap::new();
    for part in report.split("\n## ").skip(1) {
        let (name, rest) = part.split_once('\n').unwrap_or((part, ""));
        if let Some(last) = rest.split_once("Last run: ") {
            sections.insert(name.to_owned(), last.1.to_owned());
        }
    }
    sections
}

fn report(sections: &BTreeMap<String, String>) -> String {
    let mut report = "# Proofs\n\nWhat is proven, by which command, on how many cases, and how its last run ended. Written by `just proofs`, which runs all of it \
                      (`just proofs NAME ...`: some); figures are those that the runs have printed.\n"
        .to_owned();
    for proof in PROOFS {
        let last = sections.get(proof.name).map_or("none on record.", |section| section.trim());
        report +=
            &format!("\n## {}\n\n{}\n\n`{}`\n\nLast run: {last}\n", proof.name, proof.shows, proof.command);
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_keeps_what_other_runs_have_left() {
        let mut known = BTreeMap::new();
        known.insert(
            "matrix".to_owned(),
            "2026-11-28, at abc, in 3 s: **held**.\n\n```\n7 cases in 1 s\n```\n".to_owned(),
        );
        let text = report(&known);
        assert_eq!(sections(&text)["matrix"].trim(), known["matrix"].trim());
        assert_eq!(report(&sections(&text)), text);
        assert!(text.contains("## kills") && text.contains("none on record"));
    }

    #[test]
    fn paths_of_one_machine_are_no_figures() {
        let line = format!("cannot read from {}/x/journal: no room", std::env::temp_dir().display());
        assert_eq!(elsewhere(&line), "cannot read from (a directory) no room");
        assert_eq!(elsewhere("7 cases in  1 s"), "7 cases in  1 s");
    }

    #[test]
    fn a_proof_that_prints_nothing_proves_nothing() {
        let proof = Proof { name: "x", shows: "x", command: "echo 7 cases; exit 1", figures: &["cases"] };
        let (held, section) = run(&proof).unwrap();
        assert!(!held && section.contains("does not hold") && section.contains("7 cases"));
        assert!(run(&Proof { command: "true", ..proof }).is_err());
    }
}
