//! A container as a machine, through Docker's exec. Made for test environments: no secret of Docker's is handled here.
//! An exec'd process does not die with its client, so every end goes through the sweep.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use futures::StreamExt;
use kedge_workflows::ports::{PortError, PortResult};
use tokio::sync::OnceCell;

use super::custody::Custody;
use super::machine::{Launch, Machine, Transport, host_on_machine};
use super::running::{Chunk, Started, Writer};

/// A container as a machine.
#[derive(Clone, Debug)]
pub struct DockerHost(Machine);

/// Bytes of Docker's stream that are buffered at once: a whole frame of the daemon.
const BUFFER: usize = 64 * 1024;
/// How often an exec is inspected until it is over (it is nearly always the first time: its output has ended).
const INSPECT_EVERY: Duration = Duration::from_millis(20);
/// Exit status of a process that was killed: also that of every process in a container that stops.
const KILLED: i32 = 137;

/// Starts processes in a container, as root.
#[derive(Debug)]
struct Container {
    name: String,
    container: String,
    docker: OnceCell<Docker>,
}

impl DockerHost {
    /// The container of that name or id as a machine, under its own name in the configuration. Docker is found as its own client
    /// finds it (`DOCKER_HOST`, else the local socket) when the first command runs.
    pub fn new(name: impl Into<String>, container: impl Into<String>, custody: Custody) -> Self {
        let transport = Container { name: name.into(), container: container.into(), docker: OnceCell::new() };
        Self(Machine::on(transport, custody))
    }
}

host_on_machine!(DockerHost);

#[async_trait]
impl Transport for Container {
    fn name(&self) -> &str {
        &self.name
    }

    async fn start(&self, launch: Launch<'_>) -> PortResult<Started> {
        let docker = self.docker().await?;
        let options = CreateExecOptions {
            attach_stdin: Some(launch.stdin),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(launch.argv),
            env: Some(vec!["LC_ALL=C".to_owned()]),
            user: Some("0".to_owned()),
            working_dir: Some("/".to_owned()),
            ..CreateExecOptions::default()
        };
        let exec =
            docker.create_exec(&self.container, options).await.map_err(|error| self.not_begun(&error))?.id;
        let options = StartExecOptions { output_capacity: Some(BUFFER), ..StartExecOptions::default() };
        match docker.start_exec(&exec, Some(options)).await {
            Ok(StartExecResults::Attached { output, input }) => Ok(Started {
                stdin: launch.stdin.then_some(input as Writer),
                output: Box::pin(output.map(chunk)),
                status: Box::pin(end_of(docker.clone(), self.name.clone(), self.container.clone(), exec)),
                strike: None,
            }),
            Ok(StartExecResults::Detached) => {
                Err(PortError::Lost(format!("{}: Docker did not attach", self.name)))
            }
            Err(error @ Error::DockerResponseServerError { .. }) => Err(self.not_begun(&error)),
            Err(error) => Err(PortError::Lost(format!(
                "{}: Docker was lost at the start of a command: {error}",
                self.name
            ))),
        }
    }
}

impl Container {
    async fn docker(&self) -> PortResult<&Docker> {
        let connect = async || Docker::connect_with_defaults()?.negotiate_version().await;
        self.docker.get_or_try_init(connect).await.map_err(|error| {
            PortError::Unavailable(format!("{}: Docker does not answer: {error}", self.name))
        })
    }

    fn not_begun(&self, error: &Error) -> PortError {
        PortError::Unavailable(format!("{}: container {:?}: {error}", self.name, self.container))
    }
}

fn chunk(output: Result<LogOutput, Error>) -> io::Result<Chunk> {
    match output {
        Ok(LogOutput::StdOut { message }) => Ok(Chunk::Out(message)),
        // Without a terminal, unframed text comes from Docker itself: its own words about a failed start.
        Ok(LogOutput::StdErr { message } | LogOutput::Console { message } | LogOutput::StdIn { message }) => {
            Ok(Chunk::Err(message))
        }
        Err(error) => Err(io::Error::other(error)),
    }
}

/// The exit status, once Docker says that the process is over. Killed along with its container: lost.
async fn end_of(docker: Docker, name: String, container: String, exec: String) -> PortResult<i32> {
    let lost = |why: String| PortError::Lost(format!("{name}: the end of a command is unknown: {why}"));
    let status = loop {
        let state = docker.inspect_exec(&exec).await.map_err(|error| lost(error.to_string()))?;
        match (state.running, state.exit_code) {
            (Some(false), Some(status)) => {
                break i32::try_from(status).map_err(|error| lost(error.to_string()))?;
            }
            _ => tokio::time::sleep(INSPECT_EVERY).await,
        }
    };
    if status == KILLED && !lives(&docker, &container).await {
        return Err(lost("the container stopped".to_owned()));
    }
    Ok(status)
}

/// Whether a container can still run anything. Its state in Docker's books lags behind: processes are gone earlier.
async fn lives(docker: &Docker, container: &str) -> bool {
    let tried = async {
        let options = CreateExecOptions { cmd: Some(vec!["true"]), ..CreateExecOptions::default() };
        let exec = docker.create_exec(container, options).await?.id;
        docker.start_exec(&exec, Some(StartExecOptions { detach: true, ..StartExecOptions::default() })).await
    };
    tried.await.is_ok()
}
