//! Custody of processes: how a command is marked as ours, and how everything that carries a mark is found and ended, whichever
//! group, session or parent it has by now. Never ends a process that does not carry a mark of this installation.

use std::time::Duration;

use kedge_workflows::ports::{PortError, PortResult, Scope};

use super::running::End;

/// The variable that carries the mark. Children inherit it, and root can read it in `/proc/<pid>/environ`.
pub(super) const VARIABLE: &str = "KEDGE_ATTEMPT";
/// How long the sweep may take: two seconds for a polite end, ten for the kernel to end what was killed, and slow machines.
pub(super) const SWEEP_LIMIT: Duration = Duration::from_secs(60);

/// Finds the processes whose mark matches, ends them (TERM, after two seconds KILL) and polls until two scans find none: one
/// scan alone can miss a process in the middle of exec, whose environment is not readable for a moment.
/// `$1`: extended regular expression of a whole environment entry. `$2`: polls before KILL. Exit 3 with the process ids if some stay.
const SWEEP: &str = r#"
rounds=0 clean=0
while :; do
    left=
    for file in $(grep -lzE -e "$1" /proc/[0-9]*/environ 2>/dev/null); do
        pid=${file#/proc/}
        left="$left ${pid%/environ}"
    done
    if [ -z "$left" ]; then
        clean=$((clean + 1))
        [ "$clean" -ge 2 ] && exit 0
    else
        clean=0
        if [ "$rounds" -ge "$2" ]; then
            kill -s KILL $left 2>/dev/null
        elif [ "$rounds" -eq 0 ]; then
            kill -s TERM $left 2>/dev/null
            kill -s CONT $left 2>/dev/null
        fi
        if [ "$rounds" -ge $(($2 + 100)) ]; then
            echo "$left"
            exit 3
        fi
    fi
    rounds=$((rounds + 1))
    sleep 0.1
done
"#;

/// An installation of Kedge, as the owner of processes on hosts.
#[derive(Clone, Debug)]
pub struct Custody {
    instance: String,
}

/// The mark of one command: instance, task, step and a token of its own, each escaped, separated by slashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark(String);

impl Custody {
    /// Custody for an installation. Its id must stay the same over restarts, so that a new life finds the processes of the last,
    /// and differ from that of every other installation that reaches the same hosts.
    pub fn new(instance: impl Into<String>) -> Self {
        Self { instance: instance.into() }
    }

    /// A new mark for a command of this scope.
    pub(super) fn mark(&self, scope: &Scope) -> PortResult<Mark> {
        let mut token = [0u8; 16];
        getrandom::fill(&mut token).map_err(|error| {
            PortError::Unavailable(format!("the system's random generator failed: {error}"))
        })?;
        Ok(Mark(format!("{}/{}", self.path(scope, true), hex::encode(token))))
    }

    /// Everything of a scope: of the whole task when its step is empty.
    pub(super) fn everything_of(&self, scope: &Scope) -> Mark {
        Mark(self.path(scope, !scope.step.is_empty()))
    }

    fn path(&self, scope: &Scope, with_step: bool) -> String {
        let mut parts = vec![escape(&self.instance), escape(&scope.task)];
        if with_step {
            parts.push(escape(&scope.step));
        }
        parts.join("/")
    }
}

impl Mark {
    /// The last part: unlike that of any other command.
    pub(super) fn token(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The value of the variable.
    pub(super) fn value(&self) -> &str {
        &self.0
    }

    /// The argument vector that ends every process with this mark, or with one below it.
    pub(super) fn sweep(&self, end: End) -> Vec<String> {
        let polls = match end {
            End::AtOnce => "0",
            End::Politely => "20",
        };
        ["sh", "-c", SWEEP, "kedge-sweep", &self.pattern(), polls].map(str::to_owned).into()
    }

    /// Matches whole parts only: `t1` is not `t10`.
    fn pattern(&self) -> String {
        format!("^{VARIABLE}={}(/|$)", self.0.replace('.', "[.]"))
    }
}

/// Keeps letters, digits, `.`, `_` and `-`; every other byte becomes `%XX`, so that parts never hold a slash or an operator of
/// regular expressions other than the dot.
fn escape(part: &str) -> String {
    part.bytes()
        .map(|byte| match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'.' | b'_' | b'-' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(task: &str, step: &str) -> Scope {
        Scope { task: task.into(), step: step.into() }
    }

    #[test]
    fn a_mark_has_four_parts_whatever_the_names() {
        let mark = Custody::new("in/st").mark(&scope("t 1", "backup/dump$")).unwrap();
        assert!(mark.value().starts_with("in%2Fst/t%201/backup%2Fdump%24/"), "{mark:?}");
        assert_eq!(mark.value().split('/').count(), 4);
        assert_eq!(mark.token().len(), 32);
    }

    #[test]
    fn a_task_is_above_its_steps() {
        let custody = Custody::new("i.1");
        assert_eq!(custody.everything_of(&scope("t", "")).pattern(), "^KEDGE_ATTEMPT=i[.]1/t(/|$)");
        assert_eq!(custody.everything_of(&scope("t", "s")).pattern(), "^KEDGE_ATTEMPT=i[.]1/t/s(/|$)");
    }
}
