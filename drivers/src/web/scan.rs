//! Reads a host's vhost files in few commands, however many there are. Only reads, and nothing but text comes back.

use std::time::Duration;

use kedge_workflows::ports::{PortError, PortResult, Scope};

use super::served::looks_disabled;
use crate::host::{Command, Host};

/// Files read by one command: their names must fit into its arguments (2 MiB on Linux).
const BATCH: usize = 400;
/// Reading text files takes moments; a hanging network file system must not hang us.
const LIMIT: Duration = Duration::from_secs(60);

/// Paths of the vhost files in a directory, sorted, without what looks switched off. Links are followed; those that lead nowhere are left out.
pub(super) async fn vhost_files(host: &dyn Host, scope: &Scope, dir: &str) -> PortResult<Vec<String>> {
    let argv = ["find", "-L", dir, "-maxdepth", "1", "-type", "f", "-print0"];
    let finished = host.run(Command::new(scope, argv).within(LIMIT)).await?;
    if finished.status != 0 && finished.stdout.is_empty() {
        return Err(PortError::Refused(format!(
            "cannot list {dir} on {}: {}",
            host.name(),
            finished.last_error()
        )));
    }
    let names = String::from_utf8_lossy(&finished.stdout).into_owned();
    let mut paths: Vec<String> =
        names.split_terminator('\0').filter(|path| !looks_disabled(path)).map(str::to_owned).collect();
    paths.sort();
    Ok(paths)
}

/// Files with their texts. Files that vanished or cannot be read are left out: they serve nothing.
pub(super) async fn read_all(
    host: &dyn Host,
    scope: &Scope,
    paths: &[String],
) -> PortResult<Vec<(String, String)>> {
    let mut files = Vec::new();
    for batch in paths.chunks(BATCH) {
        // Every line of every file, each behind the file's name and a NUL.
        let argv = ["grep", "-aHZs", "", "--"].into_iter().map(str::to_owned).chain(batch.iter().cloned());
        let finished = host.run(Command::new(scope, argv).within(LIMIT)).await?;
        collect_lines(&String::from_utf8_lossy(&finished.stdout), &mut files);
    }
    Ok(files)
}

/// Puts `name NUL line` lines together.
fn collect_lines(output: &str, files: &mut Vec<(String, String)>) {
    for line in output.split_inclusive('\n') {
        let Some((name, line)) = line.split_once('\0') else { continue };
        match files.last_mut() {
            Some((last, text)) if last == name => text.push_str(line),
            _ => files.push((name.to_owned(), line.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_by_file() {
        let mut files = Vec::new();
        collect_lines("/a b\0one\n/a b\0\n/a b\0two\n/c\0x:y\0z\n", &mut files);
        assert_eq!(files, [("/a b".into(), "one\n\ntwo\n".into()), ("/c".into(), "x:y\0z\n".to_owned())]);
    }
}
