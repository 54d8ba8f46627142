//! Copies of trees: the first by reflinks where the file system can, what differs by rsync, which has the last word.

use kedge_workflows::ports::{CopyOptions, CopyReport, PortError, PortResult};

use super::{HostFiles, paths};

/// Hard links, ACLs, extended attributes, sparse files, numbers of owners. Negative window: times are compared to the nanosecond;
/// by default whole seconds would do, and a file that changes twice in a second would be missed.
const RSYNC: &[&str] = &["-aHAXS", "--numeric-ids", "--modify-window=-1", "--force"];
/// Status of rsync when files vanished while it copied.
const VANISHED: i32 = 24;

impl HostFiles {
    pub(super) async fn copy(&self, from: &str, to: &str, options: &CopyOptions) -> PortResult<CopyReport> {
        paths::absolute(from)?;
        let (above, _) = paths::split(to)?;
        let what = format!("copying {from} to {to} on {}", self.host.name());
        if paths::overlap(from, to) {
            return Err(PortError::Refused(format!("{what}: one is inside the other")));
        }
        let mut rsync: Vec<String> = RSYNC.iter().map(|word| (*word).to_owned()).collect();
        if options.exact {
            rsync.push("--delete".to_owned());
        }
        for path in &options.exclude {
            rsync.push(format!("--exclude=/{}", pattern(paths::relative(path)?)));
        }
        // A copy by reflinks has no exceptions.
        let reflink = if options.exclude.is_empty() { "yes" } else { "no" };
        let probe = format!(".kedge-reflink-{}", &self.scope.task.replace('/', "_"));
        let mut arguments = vec![from, to, above, &probe, reflink];
        arguments.extend(rsync.iter().map(String::as_str));
        let finished =
            self.finish(&what, self.script(include_str!("scripts/copy_tree.sh"), &arguments)).await?;
        let mut vanished = 0;
        if finished.status == VANISHED {
            let said = String::from_utf8_lossy(&finished.stderr).into_owned();
            vanished = said.lines().filter(|line| line.contains("has vanished: ")).count() as u64;
        } else {
            let fresh = finished.stdout.starts_with(b"fresh");
            match finished.success(&what) {
                Err(error @ PortError::NoSpace(_)) if fresh => return Err(self.emptied(to, error).await),
                result => drop(result?),
            }
        }
        let usage = self.usage_of(to).await?;
        Ok(CopyReport { bytes: usage.bytes, entries: usage.entries, vanished })
    }

    /// Gives back the room that half a copy took.
    pub(super) async fn emptied(&self, dir: &str, error: PortError) -> PortError {
        let what = self.what("emptying", dir);
        match self.run(&what, self.script(include_str!("scripts/empty.sh"), &[dir])).await {
            Ok(_) => error,
            Err(also) => PortError::NoSpace(format!("{error}; what was half written is still there: {also}")),
        }
    }
}

/// A path as a pattern that matches nothing else. rsync reads a backslash as an escape only where there is a wildcard.
fn pattern(path: &str) -> String {
    if !path.contains(['*', '?', '[']) {
        return path.to_owned();
    }
    path.chars()
        .flat_map(|c| matches!(c, '*' | '?' | '[' | '\\').then_some('\\').into_iter().chain([c]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_only_their_path() {
        assert_eq!(pattern("a/b\\c ]"), "a/b\\c ]");
        assert_eq!(pattern("a*[b]\\?"), "a\\*\\[b]\\\\\\?");
    }
}
