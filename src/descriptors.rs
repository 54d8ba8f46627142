//! File descriptors: as many as the system gives, and how many of them connections may have. Hosts, journal and blobs need theirs whatever
//! strangers do.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the service asks for: its most connections, files and commands together are far below it.
const WANTED: u64 = 16 * 1024;
/// What is never left to connections: the journal's and blobs' files, and three pipes for each command that steps run.
const RESERVED: u64 = 512;
/// Fewer connections are no service.
const FEWEST: u64 = 64;

/// Raises the soft limit as far as needed and allowed; then the most connections that leave the rest its descriptors, at most `most`.
pub(crate) fn connections(most: usize) -> usize {
    let before = getrlimit(Resource::Nofile);
    let wanted = before.maximum.map_or(WANTED, |hard| hard.min(WANTED));
    if before.current.is_some_and(|soft| soft < wanted) {
        let limit = Rlimit { current: Some(wanted), maximum: before.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit of open files cannot be raised");
        }
    }
    let connections = fitting(getrlimit(Resource::Nofile).current, most);
    if connections < most {
        tracing::warn!(connections, "few files may be open at once (ulimit -n): fewer connections are taken");
    }
    connections
}

fn fitting(limit: Option<u64>, most: usize) -> usize {
    let free = limit.map_or(u64::MAX, |limit| limit.saturating_sub(RESERVED).max(FEWEST));
    usize::try_from(free).map_or(most, |free| free.min(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_to_everything_else() {
        assert_eq!(fitting(None, 2048), 2048);
        assert_eq!(fitting(Some(WANTED), 2048), 2048);
        assert_eq!(fitting(Some(1024), 2048), 512);
        assert_eq!(fitting(Some(256), 2048), 64);
    }
}
