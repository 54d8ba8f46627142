//! What a host has of what a web server driver needs. Asked once per life where everything was found. Only looks.

use std::time::Duration;

use kedge_workflows::ports::{PortResult, Scope};

use crate::host::{Command, Host};

/// Prints where each program of its arguments is, and whether systemd runs the machine.
const LOOK: &str = r#"for program; do command -v "$program" || :; done; if test -d /run/systemd/system; then echo systemd; fi"#;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tools {
    /// The program that controls the server.
    pub(super) program: String,
    /// Whether systemd runs the machine.
    pub(super) systemd: bool,
}

/// Looks for one of the programs, best first; the first name where none is there, so that its absence is told when it is used.
pub(super) async fn look(
    host: &dyn Host,
    scope: &Scope,
    programs: &[&'static str],
) -> PortResult<(Tools, bool)> {
    let argv = ["sh", "-c", LOOK, "kedge-look"].iter().chain(programs).copied();
    let finished = host.run(Command::new(scope, argv).within(Duration::from_secs(30))).await?;
    let output = finished.success(&format!("looking for programs on {}", host.name()))?;
    Ok(found(&String::from_utf8_lossy(&output), programs))
}

fn found(output: &str, programs: &[&'static str]) -> (Tools, bool) {
    let there = |program: &&&str| output.lines().any(|line| line.rsplit('/').next() == Some(**program));
    let program = programs.iter().find(there);
    let name = program.or(programs.first()).copied().unwrap_or_default().to_owned();
    (Tools { program: name, systemd: output.lines().any(|line| line == "systemd") }, program.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_program_that_is_there() {
        let check = |output: &str| {
            let (tools, complete) = found(output, &["apache2ctl", "httpd"]);
            (tools.program, tools.systemd, complete)
        };
        assert_eq!(check("/usr/sbin/apache2ctl\n/usr/sbin/httpd\n"), ("apache2ctl".into(), false, true));
        assert_eq!(check("/usr/sbin/httpd\nsystemd\n"), ("httpd".into(), true, true));
        assert_eq!(check(""), ("apache2ctl".into(), false, false));
    }
}
