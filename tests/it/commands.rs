//! Commands that need no service: a signature by hand and its check, in words and as JSON, and a reader that goes away. Needs the binary.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use support::kedge::binary;
use support::signing::new_secret;

const BODY: &str = r#"{"params":{"site":"shop.example.test"}}"#;
/// As of a process that SIGPIPE has ended.
const CLOSED_PIPE: i32 = 141;

fn kedge(args: &[&str], input: &str) -> Result<Output> {
    let mut child = Command::new(binary()?)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("no input")?.write_all(input.as_bytes())?;
    Ok(child.wait_with_output()?)
}

fn json(output: &Output) -> Result<Value> {
    serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))
}

#[test]
fn what_is_signed_by_hand_is_verified_by_hand() -> Result<()> {
    if std::env::var_os("KEDGE_BIN").is_none() {
        println!("skipped: needs the binary by KEDGE_BIN; scripts/test runs it");
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("secret");
    std::fs::write(&file, new_secret())?;
    let file = file.to_str().context("the path is no text")?;
    let lines = kedge(&["sign", "--secret-file", file], BODY)?;
    let lines = String::from_utf8(lines.stdout)?;
    ensure!(lines.lines().any(|line| line.starts_with("webhook-signature: v1,")), "{lines}");
    let signed = json(&kedge(&["--json", "sign", "--secret-file", file], BODY)?)?;
    let header =
        |name: &str| signed["headers"][name].as_str().with_context(|| format!("no {name}: {signed}"));
    let (id, time, signature) =
        (header("webhook-id")?, header("webhook-timestamp")?, header("webhook-signature")?);
    let verify = ["--secret-file", file, "--id", id, "--timestamp", time, "--signature", signature];
    let verify = |first: &[&str], body: &str| kedge(&[first, &verify[..]].concat(), body);
    let right = verify(&["verify"], BODY)?;
    ensure!(right.status.success(), "{right:?}");
    ensure!(json(&verify(&["--json", "verify"], BODY)?)?["valid"] == true, "not valid");
    let wrong = verify(&["--json", "verify"], "{}")?;
    ensure!(wrong.status.code() == Some(1) && json(&wrong)?["valid"] == false, "{wrong:?}");
    Ok(())
}

#[test]
fn a_reader_that_goes_away_is_no_failure() -> Result<()> {
    if std::env::var_os("KEDGE_BIN").is_none() {
        println!("skipped: needs the binary by KEDGE_BIN; scripts/test runs it");
        return Ok(());
    }
    for command in [&["completions", "bash"][..], &["man"]] {
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let output = Command::new(binary()?).args(command).stdout(writer).stderr(Stdio::piped()).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(CLOSED_PIPE) && said.is_empty(), "{command:?}: {output:?}");
    }
    Ok(())
}
