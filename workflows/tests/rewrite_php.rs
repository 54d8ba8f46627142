//! The rewrite against PHP's own `unserialize`: PHP makes values, we rewrite what it serialised, PHP reads it and compares. Needs `php`
//! on the path and is skipped, with a line that says so, where there is none. Writes no files.

#![expect(clippy::unwrap_used, reason = "a test stops where something is wrong")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kedge_workflows::names::SiteName;
use kedge_workflows::rewrite::{Pair, Rewrite};

const SCRIPT: &str = include_str!("rewrite_php.php");

/// Values per run, unless `KEDGE_PHP_CASES` says otherwise.
const CASES: &str = "3000";

fn rewrite() -> Rewrite {
    let name = |text| SiteName::parse(text).unwrap();
    let host = Pair::host(&name("old.test"), &name("a.brand-new.test"));
    Rewrite::new(vec![host, Pair::path("/srv/sites/old", "/mnt/x/brand-new").unwrap()]).unwrap()
}

/// Runs the script; `None` where PHP is not installed.
fn php(arguments: &[&str], input: String) -> Option<String> {
    let mut child = Command::new("php")
        .args([
            "-d",
            "memory_limit=1G",
            "-d",
            "error_reporting=E_ALL",
            "-r",
            SCRIPT.strip_prefix("<?php").unwrap(),
            "--",
        ])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "php {arguments:?} failed:\n{}",
        &text[text.len().saturating_sub(4000)..]
    );
    Some(text)
}

/// Lets PHP make values in some way, rewrites each, and lets PHP judge each pair.
fn php_judges(way: &str) {
    let seed = std::env::var("KEDGE_PHP_SEED").unwrap_or_else(|_| std::process::id().to_string());
    let cases = std::env::var("KEDGE_PHP_CASES").unwrap_or_else(|_| CASES.to_owned());
    println!("KEDGE_PHP_SEED={seed} KEDGE_PHP_CASES={cases}");
    let Some(made) = php(&["make", way, &seed, &cases], String::new()) else {
        println!("skipped: php is not installed");
        return;
    };
    let rewrite = rewrite();
    let mut pairs = String::new();
    let (mut changed, mut left) = (0, 0);
    for line in made.lines() {
        let old = STANDARD.decode(line).unwrap();
        let outcome = rewrite.value(&old);
        changed += u64::from(outcome.changed.is_some());
        left += u64::from(outcome.left_alone.is_some());
        let new = outcome.changed.unwrap_or(old);
        writeln!(pairs, "{line} {} {}", STANDARD.encode(new), u8::from(outcome.left_alone.is_some()))
            .unwrap();
    }
    println!("{} values, {changed} changed, {left} left alone", made.lines().count());
    assert!(changed > 0, "nothing was rewritten: the test tests nothing");
    let verdict = php(&["judge", way], pairs).unwrap();
    println!("{}", verdict.trim_end());
    assert!(verdict.ends_with("all right\n"));
}

#[test]
fn php_reads_every_rewritten_value_as_the_rewritten_tree() {
    php_judges("values");
}

#[test]
fn php_reads_damaged_values_no_worse_than_before() {
    php_judges("damaged");
}
