//! A machine reached over SSH, through the system's `ssh`: users' configuration, agents, jump hosts and known hosts just work.
//! Never asks a question, never sends a shell line that was not quoted in `quote`.

mod address;
mod connection;
mod errors;
mod markers;
mod quote;

use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use kedge_workflows::ports::{PortError, PortResult};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Child;

use address::Client;
pub use address::SshOptions;
use connection::{Connections, Session};
use markers::{BETWEEN_MARKERS, Greeting, Markers};

use super::custody::{Custody, VARIABLE};
use super::machine::{Launch, Machine, Transport, host_on_machine};
use super::pipes::{exit_status, outputs};
use super::running::{Chunk, Chunks, End, Started, Writer};

/// Longest command line: the remote shell gets it as one argument, of which the kernel takes 128 KiB.
const MAX_LINE: usize = 128 * 1024 - 1;

/// A machine reached over SSH.
#[derive(Clone, Debug)]
pub struct SshHost(Machine);

host_on_machine!(SshHost);

/// Starts processes over shared connections.
#[derive(Debug)]
struct Ssh {
    name: String,
    address: String,
    sudo: bool,
    client: Client,
    connections: Connections,
}

impl SshHost {
    /// A machine, under its name in the configuration. Connects when the first command runs. Its users' login shell must be one
    /// of the POSIX family.
    ///
    /// # Errors
    /// `Refused` for an address that is none, or a runtime directory that is too long for sockets.
    pub fn new(name: impl Into<String>, options: &SshOptions, custody: Custody) -> PortResult<Self> {
        let name = name.into();
        let client = Client::new(&name, options)?;
        let connections = Connections::new(name.clone(), client.clone(), options.runtime_dir.clone())?;
        let (address, sudo) = (client.shown(), options.sudo);
        Ok(Self(Machine::on(Ssh { name, address, sudo, client, connections }, custody)))
    }
}

#[async_trait]
impl Transport for Ssh {
    fn name(&self) -> &str {
        &self.name
    }

    async fn start(&self, launch: Launch<'_>) -> PortResult<Started> {
        let line = self.line(&launch);
        if line.len() > MAX_LINE {
            return Err(PortError::Refused(format!(
                "{}: the arguments are too long for a command over SSH",
                self.name
            )));
        }
        let session = self.connections.session().await?;
        let mut process = self.client.process(&session.socket, false);
        process.arg(line).stdout(Stdio::piped()).stderr(Stdio::piped());
        process.stdin(if launch.stdin { Stdio::piped() } else { Stdio::null() });
        let spawned = process.spawn();
        let mut child = spawned
            .map_err(|error| PortError::Unavailable(format!("{}: cannot start ssh: {error}", self.name)))?;
        let markers = Arc::new(Mutex::new(Markers::new(launch.token)));
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let seen = markers.clone();
        Ok(Started {
            stdin: child.stdin.take().map(|stdin| Box::pin(stdin) as Writer),
            output: filtered(outputs(&mut child), Greeting::new(launch.token), markers.clone()),
            status: Box::pin(end_of(child, session, markers, self.name.clone(), self.address.clone())),
            strike: group.map(|group| {
                Box::new(move |_: End| {
                    // A command that has not begun yet must not begin behind the sweep. Once it has begun, closing the
                    // connection would only close its input, as if that were complete.
                    if !lock(&seen).began() {
                        kill_process_group(group, Signal::KILL).ok();
                    }
                }) as Box<dyn FnOnce(End) + Send>
            }),
        })
    }

    fn check(&self, status: i32, stderr: &[u8]) -> PortResult<()> {
        let refused = || errors::sudo_refused(&self.name, &self.address, stderr);
        if self.sudo && status == 1 { refused().map_or(Ok(()), Err) } else { Ok(()) }
    }
}

impl Ssh {
    /// The remote command: markers around (sudo and) the wrapped command. All of it carries the mark, so that the sweep ends sudo
    /// and the shell too.
    fn line(&self, launch: &Launch<'_>) -> String {
        let mark = launch.mark.map(|mark| format!("{VARIABLE}={}", mark.value()));
        let around = ["sh", "-c", BETWEEN_MARKERS, "kedge", launch.token].map(str::to_owned);
        let sudo: &[&str] = if self.sudo { &["sudo", "-n", "--"] } else { &[] };
        let whole = ["env", "LC_ALL=C"].map(str::to_owned).into_iter().chain(mark).chain(around);
        quote::shell_line(
            whole.chain(sudo.iter().map(|word| (*word).to_owned())).chain(launch.argv.iter().cloned()),
        )
    }
}

/// The outputs without the markers.
fn filtered(output: Chunks, mut greeting: Greeting, markers: Arc<Mutex<Markers>>) -> Chunks {
    let rest = markers.clone();
    let own = output.map(move |chunk| match chunk {
        Ok(Chunk::Err(bytes)) => Ok(Chunk::Err(lock(&markers).push(&bytes))),
        Ok(Chunk::Out(bytes)) => Ok(Chunk::Out(greeting.push(bytes))),
        Err(error) => Err(error),
    });
    Box::pin(own.chain(stream::once(async move { Ok(Chunk::Err(lock(&rest).flush())) })))
}

/// The status of the remote command; the status of `ssh` itself says too little.
async fn end_of(
    mut child: Child,
    session: Session,
    markers: Arc<Mutex<Markers>>,
    name: String,
    address: String,
) -> PortResult<i32> {
    let waited = child.wait().await;
    drop(session);
    let status =
        exit_status(waited.map_err(|error| PortError::Lost(format!("{name}: waiting for ssh: {error}")))?);
    let markers = lock(&markers);
    match markers.status() {
        Some(status) => Ok(status),
        None if markers.began() => {
            Err(PortError::Lost(format!("{name}: the connection to {address} was lost while a command ran")))
        }
        None => Err(errors::not_begun(&name, &address, status, &markers.noise())),
    }
}

fn lock(markers: &Mutex<Markers>) -> MutexGuard<'_, Markers> {
    markers.lock().unwrap_or_else(PoisonError::into_inner)
}
