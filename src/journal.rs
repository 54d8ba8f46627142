//! `kedge journal`: fsck, export and import. The service must not run meanwhile: the journal's lock sees to it.

use std::fs::File;
use std::io::{BufReader, BufWriter, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use kedge_engine::executor::fsck as fsck_journal;
use kedge_engine::journal::Journal;
use kedge_engine::journal::transfer::Transferred;
use kedge_stores::{Options, SledStore};

use crate::config;
use crate::serve::make_dir;

fn open(file: &Path) -> Result<Arc<SledStore>> {
    let config = config::load(file)?;
    make_dir(&config.data_dir)?;
    Ok(Arc::new(SledStore::open(&config.data_dir.join("journal"), Options::default())?))
}

/// `kedge journal fsck`.
///
/// # Errors
/// When the journal cannot be opened or read.
pub(crate) fn fsck(file: &Path, json: bool) -> Result<ExitCode> {
    let report = fsck_journal(open(file)?)?;
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        for problem in &report.problems {
            writeln!(out, "  ✗ {problem}")?;
        }
        writeln!(
            out,
            "{} tasks ({} unfinished), {} events replayed, {} problems",
            report.tasks,
            report.open,
            report.events,
            report.problems.len()
        )?;
    }
    Ok(ExitCode::from(u8::from(!report.problems.is_empty())))
}

/// `kedge journal export`: to a file of its own, or `-` for standard output. Journals hold names, addresses and what was asked for,
/// never secrets; the file is for its owner alone all the same.
///
/// # Errors
/// When the journal cannot be read or the file not be written; a file that is there is never written over.
pub(crate) fn export(file: &Path, to: &Path, json: bool) -> Result<ExitCode> {
    let journal = Journal::new(open(file)?);
    let done = if to == Path::new("-") {
        if std::io::stdout().is_terminal() {
            bail!("a terminal is no place for an export; name a file");
        }
        journal.export(&mut BufWriter::new(std::io::stdout().lock()))?
    } else {
        let out = File::options().write(true).create_new(true).mode(0o600).open(to);
        let mut out = BufWriter::new(out.with_context(|| format!("{} cannot be made", to.display()))?);
        let done = journal.export(&mut out)?;
        out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
        done
    };
    told(done, "exported", json)
}

/// `kedge journal import`: into an empty journal; `-` for standard input. What came is checked at once.
///
/// # Errors
/// When the journal is not empty, or the file is no whole export.
pub(crate) async fn import(file: &Path, from: &Path, json: bool) -> Result<ExitCode> {
    let store = open(file)?;
    let journal = Journal::new(store.clone());
    let done = if from == Path::new("-") {
        journal.import(&mut BufReader::new(std::io::stdin())).await?
    } else {
        let input = File::open(from).with_context(|| format!("{} cannot be read", from.display()))?;
        journal.import(&mut BufReader::new(input)).await?
    };
    let report = fsck_journal(store)?;
    if !report.problems.is_empty() {
        bail!("the journal is there, and has these problems:\n{}", report.problems.join("\n"));
    }
    told(done, "imported and checked", json)
}

fn told(done: Transferred, what: &str, json: bool) -> Result<ExitCode> {
    // To standard error: an export may be on standard output.
    let mut err = std::io::stderr().lock();
    if json {
        writeln!(err, "{}", serde_json::to_string(&done)?)?;
    } else {
        writeln!(err, "{} pairs and {} blobs {what}", done.pairs, done.blobs)?;
        writeln!(
            err,
            "secrets, step logs and backups are files of their own: <data_dir>/secrets, <data_dir>/logs, backup_dir"
        )?;
    }
    Ok(ExitCode::SUCCESS)
}
