//! The rules of the house as tests: who may know whom, what stays pure, what a file looks like, where dependencies come from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Who may depend on whom, of ours. `kedge` may know all.
const ARROWS: [(&str, &[&str]); 7] = [
    ("kedge-engine", &[]),
    ("kedge-stores", &["kedge-engine"]),
    ("kedge-workflows", &["kedge-engine"]),
    ("kedge-drivers", &["kedge-engine", "kedge-workflows"]),
    ("kedge-webhooks", &["kedge-engine"]),
    ("kedge-testenv", &[]),
    ("kedge-it", &["kedge-testenv"]),
];

/// Crates that do I/O: not for pure crates.
const IMPURE_CRATES: [&str; 10] =
    ["tokio", "tokio-util", "sled", "hyper", "hyper-util", "reqwest", "bollard", "tempfile", "rand", "uuid"];

/// Code that does I/O, reads the clock or rolls dice: not in pure crates.
const IMPURE_CODE: [&str; 9] = [
    "std::fs",
    "std::process",
    "std::net",
    "std::env",
    "std::thread",
    "std::io::std",
    "SystemTime::now",
    "Instant::now",
    "tokio::",
];

/// Licences that may be linked into a binary that people run in production.
const LICENCES: [&str; 16] = [
    "0BSD",
    "MIT-0",
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unlicense",
    "Unicode-3.0",
    "CC0-1.0",
    "MPL-2.0",
    "OpenSSL",
    "CDLA-Permissive-2.0",
    "bzip2-1.0.6",
];

/// Longest source file: beyond it a file rarely tells one story.
const MAX_LINES: usize = 450;

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// What cargo knows of the workspace and of everything that is built into it on this machine's kind.
fn metadata() -> Result<Value> {
    let version = Command::new("rustc").arg("-vV").output().context("rustc -vV")?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host])
        .current_dir(root())
        .output()
        .context("cargo metadata")?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Rust files of a folder, recursively, with their text.
fn sources(folder: &Path) -> Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push((path.clone(), std::fs::read_to_string(&path)?));
            }
        }
    }
    Ok(found)
}

/// A file's text without its tests, which stand at its end.
fn production(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

/// Whether a file is for tests only; what it is below of says nothing.
fn is_test(path: &Path) -> bool {
    path.strip_prefix(root()).unwrap_or(path).components().any(|part| {
        matches!(part.as_os_str().to_str(), Some("tests" | "testing" | "testing.rs" | "tests.rs" | "fuzz.rs"))
    })
}

/// A rule that looks at nothing is kept by everybody.
#[test]
fn rules_look_at_what_is_no_test() {
    for (path, expected) in [
        ("engine/src/machine/mod.rs", false),
        ("workflows/src/steps/verify.rs", false),
        ("engine/src/testing/mod.rs", true),
        ("tests/it/tidy.rs", true),
    ] {
        let path = root().join(path);
        assert!(path.is_file(), "{} is no example any more", path.display());
        assert_eq!(is_test(&path), expected, "{}", path.display());
    }
}

fn all_sources() -> Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    for folder in ["src", "examples", "engine", "workflows", "drivers", "webhooks", "testenv", "tests"] {
        found.extend(sources(&root().join(folder))?);
    }
    Ok(found)
}

#[test]
fn arrows_point_one_way() -> Result<()> {
    let metadata = metadata()?;
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    let mut seen = BTreeSet::new();
    for package in
        metadata["packages"].as_array().into_iter().flatten().filter(|package| package["source"].is_null())
    {
        let name = package["name"].as_str().unwrap_or_default().to_owned();
        let depends = |kind: Option<&str>| -> Vec<String> {
            let all = package["dependencies"].as_array().into_iter().flatten();
            let of_kind = all.filter(|dependency| dependency["kind"].as_str() == kind);
            of_kind.filter_map(|dependency| dependency["name"].as_str().map(str::to_owned)).collect()
        };
        seen.insert(name.clone());
        if name == "kedge" {
            continue;
        }
        let may = allowed.get(name.as_str()).with_context(|| format!("{name} has no place in the design"))?;
        for dependency in depends(None) {
            let ours = dependency.starts_with("kedge");
            assert!(!ours || may.contains(&dependency.as_str()), "{name} must not know {dependency}");
            let pure = matches!(name.as_str(), "kedge-engine" | "kedge-workflows");
            assert!(
                !(pure && IMPURE_CRATES.contains(&dependency.as_str())),
                "{name} is pure and must not know {dependency}"
            );
        }
    }
    for (name, _) in ARROWS {
        assert!(seen.contains(name), "{name} is missing from the workspace");
    }
    Ok(())
}

#[test]
fn engine_and_workflows_are_pure() -> Result<()> {
    for folder in ["engine/src", "workflows/src"] {
        for (path, text) in sources(&root().join(folder))? {
            let code = production(&text).lines().enumerate();
            for (number, line) in code.filter(|(_, line)| !line.trim_start().starts_with("//")) {
                let found = IMPURE_CODE.iter().find(|code| line.contains(**code));
                let place = format!("{}:{}", path.display(), number + 1);
                assert!(found.is_none() || is_test(&path), "{place} does I/O in a pure crate: {found:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn only_hosts_start_processes_and_only_webhooks_speak_http() -> Result<()> {
    for (path, text) in sources(&root().join("drivers/src"))? {
        let at_home = path.starts_with(root().join("drivers/src/host"));
        let starts = production(&text).contains("process::Command");
        assert!(
            at_home || is_test(&path) || !starts,
            "{} starts processes; go through a Host",
            path.display()
        );
        assert!(!text.contains("reqwest::"), "{} speaks HTTP", path.display());
    }
    for (path, text) in sources(&root().join("webhooks/src"))? {
        let starts = production(&text).contains("process::Command");
        assert!(is_test(&path) || !starts, "{} starts processes", path.display());
    }
    Ok(())
}

#[test]
fn every_file_tells_one_story_and_says_which() -> Result<()> {
    for (path, text) in all_sources()? {
        let name = path.display();
        assert!(text.starts_with("//!"), "{name} does not begin with //! and what it is");
        let lines = production(&text).lines().count();
        assert!(
            lines <= MAX_LINES || is_test(&path),
            "{name} has more than {MAX_LINES} lines; split it by concept"
        );
        for mark in [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")] {
            assert!(!text.contains(mark), "{name} has an unfinished mark");
        }
    }
    Ok(())
}

#[test]
fn dependencies_are_known_and_may_be_used() -> Result<()> {
    let metadata = metadata()?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    for package in packages.filter(|package| !package["source"].is_null()) {
        let name = package["name"].as_str().unwrap_or_default();
        let source = package["source"].as_str().unwrap_or_default();
        assert!(source.starts_with("registry+"), "{name} does not come from a registry");
        let licence = package["license"].as_str().unwrap_or_default();
        let alternatives = licence.split(" OR ").flat_map(|part| part.split('/'));
        let usable = alternatives.map(|part| part.trim_matches(['(', ')', ' '])).any(|alternative| {
            alternative.split(" AND ").all(|one| LICENCES.contains(&one.trim_matches(['(', ')', ' '])))
        });
        assert!(usable, "{name} has the licence {licence:?}, which is not on the list");
        if name == "sled" {
            assert_eq!(package["version"], "0.34.7", "the journal's format is that of sled 0.34.7");
        }
    }
    Ok(())
}

#[test]
fn no_test_file_is_forgotten() -> Result<()> {
    let main = std::fs::read_to_string(root().join("tests/it/main.rs"))?;
    for entry in std::fs::read_dir(root().join("tests/it"))? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let listed = name == "main" || main.contains(&format!("mod {name};"));
        assert!(listed, "tests/it/main.rs does not name {name}");
    }
    Ok(())
}
