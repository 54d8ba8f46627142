//! Who owns a run: a process, named so that it cannot be mistaken for a later one with the same number.
//! Decides which leftovers may be removed.

use std::fmt;
use std::path::Path;

use crate::error::{Error, Result};

/// A process by number and start time, in the namespace of process numbers in which that number counts, of one boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pid: u32,
    start: u64,
    namespace: String,
    boot: String,
}

impl Owner {
    /// This process.
    pub(crate) fn this() -> Result<Self> {
        let pid = std::process::id();
        let proc = Path::new("/proc/self");
        let start =
            start_time(pid).ok_or_else(|| Error::Spec("this needs Linux with /proc mounted".into()))?;
        let namespace = std::fs::read_link(proc.join("ns/pid")).map_err(Error::io("/proc/self/ns/pid"))?;
        Ok(Self { pid, start, namespace: namespace.to_string_lossy().into_owned(), boot: boot()? })
    }

    /// Reads what `Display` wrote.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let owner = Self {
            pid: words.next()?.parse().ok()?,
            start: words.next()?.parse().ok()?,
            namespace: words.next()?.to_owned(),
            boot: words.next()?.to_owned(),
        };
        words.next().is_none().then_some(owner)
    }

    /// True when the process has certainly ended. `here` is the process that asks: it cannot see into other
    /// namespaces, so owners there count as alive until the next boot.
    pub(crate) fn is_gone(&self, here: &Self) -> bool {
        if self.boot != here.boot {
            return true;
        }
        self.namespace == here.namespace && start_time(self.pid) != Some(self.start)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.pid, self.start, self.namespace, self.boot)
    }
}

fn boot() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    Ok(std::fs::read_to_string(path).map_err(Error::io(path))?.trim().to_owned())
}

/// Start of a process in clock ticks since boot: field 22 of `/proc/PID/stat` (proc(5)). A zombie has ended.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?; // the name before may hold spaces and parentheses
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    let start = fields.nth(18)?.parse().ok()?;
    (state != "Z").then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_its_text_is_read_back() {
        let here = Owner::this().unwrap();
        assert!(!here.is_gone(&here));
        assert_eq!(Owner::parse(&here.to_string()), Some(here));
        assert_eq!(Owner::parse("1 2 x"), None);
        assert_eq!(Owner::parse(""), None);
    }

    #[test]
    fn an_ended_process_a_reused_number_and_an_earlier_boot_are_gone() {
        let here = Owner::this().unwrap();
        assert!(Owner { start: here.start + 1, ..here.clone() }.is_gone(&here));
        assert!(Owner { pid: u32::MAX, ..here.clone() }.is_gone(&here));
        assert!(Owner { boot: "another".into(), ..here.clone() }.is_gone(&here));
        assert!(!Owner { pid: u32::MAX, namespace: "another".into(), ..here.clone() }.is_gone(&here));
    }
}
