//! What all hosts share: the checked and wrapped argument vector, marks, limits, the sweep. A transport only starts processes.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use kedge_workflows::ports::{PortError, PortResult, Scope};

use super::custody::{Custody, Mark, SWEEP_LIMIT, VARIABLE};
use super::running::{Chunk, End, Running, Started, abandon};
use super::{Command, Finished, Output, Stdin};

/// The search path of every command.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Becomes the user `$1` and the rest of the arguments, in place: no process in between, environment kept. As the user that we
/// are already it needs no privilege.
const BECOME: &str = r#"
user=$1
shift
[ "$(id -un)" = "$user" ] && exec "$@"
group=$(id -g -- "$user") || exit 126
exec setpriv --reuid="$user" --regid="$group" --init-groups -- "$@"
"#;

/// A process to be started.
pub(super) struct Launch<'a> {
    /// The complete argument vector.
    pub(super) argv: Vec<String>,
    /// Unlike that of any other process.
    pub(super) token: &'a str,
    /// The mark that helpers of the transport must carry, too. (`argv` sets it for the command itself.)
    pub(super) mark: Option<&'a Mark>,
    /// Whether it reads anything.
    pub(super) stdin: bool,
}

/// Starts processes on a machine.
#[async_trait]
pub(super) trait Transport: fmt::Debug + Send + Sync + 'static {
    /// The machine's name in the configuration.
    fn name(&self) -> &str;

    /// Starts a process as root (or as the only user the transport can be).
    async fn start(&self, launch: Launch<'_>) -> PortResult<Started>;

    /// A last look at how a command ended: an error when it was not the command itself that failed.
    fn check(&self, _status: i32, _stderr: &[u8]) -> PortResult<()> {
        Ok(())
    }
}

/// A host on a transport.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    transport: Arc<dyn Transport>,
    custody: Custody,
}

impl Machine {
    pub(super) fn on(transport: impl Transport, custody: Custody) -> Self {
        Self { transport: Arc::new(transport), custody }
    }

    pub(super) fn name(&self) -> &str {
        self.transport.name()
    }

    pub(super) async fn run(&self, command: Command) -> PortResult<Finished> {
        self.start(command).await?.collect().await
    }

    pub(super) async fn stream(&self, command: Command) -> PortResult<Output> {
        Ok(self.start(command).await?.into_output())
    }

    pub(super) async fn clear(&self, scope: &Scope) -> PortResult<()> {
        sweep(&*self.transport, &self.custody.everything_of(scope), End::Politely).await
    }

    async fn start(&self, command: Command) -> PortResult<Running> {
        let mark = self.custody.mark(&command.scope)?;
        let argv = wrap(&command, &mark)?;
        let what = format!("{} on {}", command.program(), self.transport.name());
        let stdin = !matches!(command.stdin, Stdin::Empty);
        let launch = Launch { argv, token: mark.token(), mark: Some(&mark), stdin };
        let mut starting = Starting { transport: &self.transport, mark: &mark, what: &what, settled: false };
        match tokio::time::timeout(command.limit, self.transport.start(launch)).await {
            Ok(started) => {
                starting.settled = !matches!(started, Err(PortError::Lost(_)));
                drop(starting);
                let program = command.program().to_owned();
                Ok(Running::new(
                    self.transport.clone(),
                    mark,
                    program,
                    command.limit,
                    command.stdin,
                    started?,
                ))
            }
            Err(_) => {
                sweep(&*self.transport, &mark, End::AtOnce)
                    .await
                    .map_err(|error| PortError::Lost(format!("{what} may have been started: {error}")))?;
                starting.settled = true;
                Err(PortError::Unavailable(format!("{what} could not be started within {:?}", command.limit)))
            }
        }
    }
}

/// A command of which nobody knows yet whether it runs: given up now, it is ended in the background.
struct Starting<'a> {
    transport: &'a Arc<dyn Transport>,
    mark: &'a Mark,
    what: &'a str,
    settled: bool,
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        if !self.settled {
            abandon(self.transport.clone(), self.mark.clone(), self.what.to_owned(), None, ());
        }
    }
}

/// Makes a public host of a wrapped machine, so that transports stay private.
macro_rules! host_on_machine {
    ($host:ident) => {
        #[async_trait::async_trait]
        impl super::Host for $host {
            fn name(&self) -> &str {
                self.0.name()
            }

            async fn run(&self, command: super::Command) -> PortResult<super::Finished> {
                self.0.run(command).await
            }

            async fn stream(&self, command: super::Command) -> PortResult<super::Output> {
                self.0.stream(command).await
            }

            async fn clear(&self, scope: &kedge_workflows::ports::Scope) -> PortResult<()> {
                self.0.clear(scope).await
            }
        }
    };
}
pub(super) use host_on_machine;

/// Ends every process that carries the mark or one below it; returns when none is left.
pub(super) async fn sweep(transport: &dyn Transport, mark: &Mark, end: End) -> PortResult<()> {
    let name = transport.name();
    let launch = Launch { argv: mark.sweep(end), token: mark.token(), mark: None, stdin: false };
    let work = async {
        let mut started = transport.start(launch).await?;
        let (mut said, mut errors) = (Vec::new(), Vec::new());
        while let Some(chunk) = futures::StreamExt::next(&mut started.output).await {
            match chunk {
                Ok(Chunk::Out(bytes)) => said.extend_from_slice(&bytes),
                Ok(Chunk::Err(bytes)) => errors.extend_from_slice(&bytes),
                Err(error) => return Err(PortError::Unavailable(format!("{name}: {error}"))),
            }
        }
        let status = started.status.await?;
        transport.check(status, &errors)?;
        match status {
            0 => Ok(()),
            3 => {
                let pids = String::from_utf8_lossy(&said).trim().to_owned();
                Err(PortError::Unavailable(format!(
                    "processes {pids} on {name} do not end, even when killed"
                )))
            }
            _ => {
                let finished = Finished { status, stdout: said, stderr: errors };
                Err(finished
                    .success(&format!("ending processes on {name}"))
                    .err()
                    .unwrap_or_else(|| PortError::Unavailable(format!("ending processes on {name} failed"))))
            }
        }
    };
    tokio::time::timeout(SWEEP_LIMIT, work).await.map_err(|_| {
        PortError::Unavailable(format!("ending processes on {name} took longer than {SWEEP_LIMIT:?}"))
    })?
}

/// The argument vector that is really started: an empty environment with our few variables, then the change of user.
fn wrap(command: &Command, mark: &Mark) -> PortResult<Vec<String>> {
    let refused = |what: &str| Err(PortError::Refused(format!("cannot run {:?}: {what}", command.program())));
    let Some(program) = command.argv.first().filter(|program| !program.is_empty()) else {
        return refused("no program is named");
    };
    if program.contains('=') {
        return refused("a program's name cannot contain '='");
    }
    let values = command.env.iter().map(|(_, value)| value);
    if command.argv.iter().chain(values).chain(&command.user).any(|text| text.contains('\0')) {
        return refused("an argument contains a NUL character");
    }
    let mut argv = vec!["env".to_owned(), "-i".to_owned(), "LC_ALL=C".to_owned(), PATH.to_owned()];
    for (name, value) in &command.env {
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !plain || name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || name == VARIABLE {
            return refused("a variable's name is not a plain one");
        }
        argv.push(format!("{name}={value}"));
    }
    argv.push(format!("{VARIABLE}={}", mark.value()));
    if let Some(user) = &command.user {
        argv.extend(["sh", "-c", BECOME, "kedge-become", user].map(str::to_owned));
    }
    argv.extend(command.argv.iter().cloned());
    Ok(argv)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(command: &Command) -> PortResult<Vec<String>> {
        wrap(command, &Custody::new("i").mark(&command.scope).unwrap())
    }

    #[test]
    fn the_mark_and_the_environment_come_before_the_program() {
        let scope = Scope { task: "t".into(), step: "s".into() };
        let argv = wrapped(&Command::new(&scope, ["-odd", ""]).env("A", "b c").as_user("www-data")).unwrap();
        assert_eq!(argv[..2], ["env", "-i"]);
        assert_eq!(argv[4], "A=b c");
        assert!(argv[5].starts_with("KEDGE_ATTEMPT=i/t/s/"));
        assert_eq!(argv[argv.len() - 4..], ["kedge-become", "www-data", "-odd", ""]);
    }

    #[test]
    fn what_env_or_the_kernel_would_misread_is_refused() {
        let scope = Scope { task: "t".into(), step: "s".into() };
        let bad = [
            Command::new(&scope, Vec::<String>::new()),
            Command::new(&scope, ["", "x"]),
            Command::new(&scope, ["A=b"]),
            Command::new(&scope, ["cat", "a\0b"]),
            Command::new(&scope, ["cat"]).env("A=B", "c"),
            Command::new(&scope, ["cat"]).env("KEDGE_ATTEMPT", "c"),
            Command::new(&scope, ["cat"]).as_user("a\0"),
        ];
        for command in bad {
            assert!(matches!(wrapped(&command), Err(PortError::Refused(_))), "{command:?}");
        }
    }
}
