//! The operator's own commands on a host: run as they are, without a shell's eyes on their arguments, their output bounded. Never believes
//! anything but the status.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kedge_workflows::ports::{CommandEnd, Commands, OwnCommand, PortError, PortResult, Scope};

use crate::host::{Command, Host};

/// Most bytes of what a command says that are kept, from its end.
const KEPT: &str = "4096";
/// Runs its arguments; their status comes behind their output, whose beginning is thrown away where it is long. What they leave running with
/// their output open is not waited for longer than the limit.
const RUN: &str = r#"
kept=$1
shift
{ "$@" </dev/null 2>&1; printf '\nkedge-command %s\n' "$?"; } | tail -c "$kept"
"#;

/// Commands on a host, on behalf of one attempt.
pub struct HostCommands {
    host: Arc<dyn Host>,
    scope: Scope,
}

impl HostCommands {
    /// On this host.
    pub fn new(host: Arc<dyn Host>, scope: Scope) -> Self {
        Self { host, scope }
    }
}

#[async_trait]
impl Commands for HostCommands {
    async fn run(&self, own: &OwnCommand, env: &[(&str, &str)]) -> PortResult<CommandEnd> {
        let argv = ["sh", "-c", RUN, "kedge-command", KEPT].into_iter().map(str::to_owned);
        let mut command = Command::new(&self.scope, argv.chain(own.run.iter().cloned()))
            .within(Duration::from_millis(own.limit_ms));
        command.user.clone_from(&own.user);
        for (name, value) in env {
            command = command.env(*name, *value);
        }
        let finished = self.host.run(command).await?;
        ended(&finished.stdout).ok_or_else(|| {
            PortError::Unavailable(format!(
                "the command {} was ended on {}: status {}: {}",
                own.name,
                self.host.name(),
                finished.status,
                finished.last_error()
            ))
        })
    }
}

/// Output taken apart: what was said, and the line of ours behind it.
fn ended(stdout: &[u8]) -> Option<CommandEnd> {
    let mark = b"\nkedge-command ";
    let at = memchr::memmem::rfind(stdout, mark)?;
    let status = std::str::from_utf8(stdout.get(at + mark.len()..)?).ok()?.trim_end().parse().ok()?;
    Some(CommandEnd { status, said: String::from_utf8_lossy(&stdout[..at]).into_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Custody, LocalHost};

    fn own(run: &[&str], limit_ms: u64) -> OwnCommand {
        let run = run.iter().map(ToString::to_string).collect();
        OwnCommand { name: "own".to_owned(), host: "here".to_owned(), run, user: None, limit_ms }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_command_is_run_as_it_is_and_tells_its_status_and_its_end() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: a host's commands run as root");
            return;
        }
        let host = Arc::new(LocalHost::new("here", Custody::new("commands-tests")));
        let scope = Scope { task: "task_c".to_owned(), step: "command".to_owned() };
        let commands = HostCommands::new(host, scope);
        let run = async |argv: &[&str]| {
            commands.run(&own(argv, 60_000), &[("KEDGE_SITE", "a b.test")]).await.unwrap()
        };
        let told =
            run(&["sh", "-c", "echo \"$KEDGE_SITE|$1\"; cat; echo away >&2; exit 7", "x", "$(id) 'quoted'"])
                .await;
        assert_eq!(told, CommandEnd { status: 7, said: "a b.test|$(id) 'quoted'\naway\n".to_owned() });
        assert_eq!(run(&["true"]).await, CommandEnd { status: 0, said: String::new() });
        assert_eq!(run(&["/no/such/command"]).await.status, 127);
        let long = run(&["sh", "-c", "yes | head -c 50000000; echo end"]).await;
        assert!(
            long.status == 0 && long.said.ends_with("y\nend\n") && long.said.len() <= 4096,
            "{}",
            long.said.len()
        );
        let ended = commands.run(&own(&["sleep", "600"], 200), &[]).await.unwrap_err();
        assert!(matches!(ended, PortError::Unavailable(_)), "{ended:?}");
    }

    #[test]
    fn the_last_line_of_ours_counts() {
        assert_eq!(ended(b"a\nkedge-command 1\n\nkedge-command 0\n").unwrap().status, 0);
        assert_eq!(ended(b"killed in the middle"), None);
    }
}
