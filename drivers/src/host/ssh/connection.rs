//! Shared connections: one `ssh` process holds a connection, commands go through its socket. The process is a child of ours with
//! a pipe as input; it ends with us, however we end. Never knows what the commands are.

use std::collections::VecDeque;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use kedge_workflows::ports::{PortError, PortResult};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use super::address::Client;
use super::errors;
use crate::host::pipes::exit_status;

/// Commands at once on a connection: sshd allows ten sessions by default (MaxSessions), and one keeps the connection up.
const SESSIONS: usize = 8;
/// Connections at once to a host: with eight sessions each, more commands than all server slots together start.
const CONNECTIONS: usize = 8;
/// Most time for a connection to be ready: ssh gives up connecting after ten seconds by itself, the rest is authentication.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// Most bytes kept of what ssh says while it connects.
const MAX_SAID: u64 = 16 * 1024;
/// Longest path of a socket's directory: 108 bytes for a socket's path, less its name and the suffix that ssh adds for a moment.
const MAX_DIR: usize = 70;

/// The connections to one host.
#[derive(Debug)]
pub(super) struct Connections {
    name: String,
    client: Client,
    dir: PathBuf,
    open: Mutex<Vec<Connection>>,
}

/// A place on a connection, for one command.
#[derive(Debug)]
pub(super) struct Session {
    /// The connection's socket.
    pub(super) socket: PathBuf,
    /// Gives the place back when dropped.
    pub(super) _permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
struct Connection {
    child: Child,
    /// Its end is the connection's end.
    _stdin: ChildStdin,
    socket: PathBuf,
    sessions: Arc<Semaphore>,
}

impl Connections {
    /// Connections through sockets in `dir`, which is made private.
    pub(super) fn new(name: String, client: Client, dir: PathBuf) -> PortResult<Self> {
        if dir.as_os_str().len() > MAX_DIR {
            let dir = dir.display();
            return Err(PortError::Refused(format!(
                "{name}: {dir} is too long for sockets; use a directory such as /run/kedge"
            )));
        }
        Ok(Self { name, client, dir, open: Mutex::new(Vec::new()) })
    }

    /// A place on a connection; makes the connection if there is none with a free place.
    pub(super) async fn session(&self) -> PortResult<Session> {
        let mut open = self.open.lock().await;
        open.retain_mut(|connection| matches!(connection.child.try_wait(), Ok(None)));
        for connection in open.iter() {
            if let Ok(permit) = connection.sessions.clone().try_acquire_owned() {
                return Ok(Session { socket: connection.socket.clone(), _permit: permit });
            }
        }
        if open.len() >= CONNECTIONS {
            let most = CONNECTIONS * SESSIONS;
            return Err(PortError::Unavailable(format!("{}: more than {most} commands at once", self.name)));
        }
        let connection = self.connect().await?;
        let (socket, sessions) = (connection.socket.clone(), connection.sessions.clone());
        open.push(connection);
        let permit = sessions.try_acquire_owned();
        let permit =
            permit.map_err(|_| PortError::Unavailable(format!("{}: a new connection is full", self.name)))?;
        Ok(Session { socket, _permit: permit })
    }

    async fn connect(&self) -> PortResult<Connection> {
        prepare(&self.dir)
            .map_err(|why| PortError::Refused(format!("{}: {}: {why}", self.name, self.dir.display())))?;
        let mut id = [0u8; 8];
        getrandom::fill(&mut id).map_err(|error| self.unavailable(&error.to_string()))?;
        let (socket, ready) = (self.dir.join(hex::encode(id)), format!("kedge-{}", hex::encode(id)));
        let mut process = self.client.process(&socket, true);
        process.arg(format!("echo {ready}; exec cat >/dev/null"));
        process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = process.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                PortError::Refused(format!("{}: install ssh (openssh-client)", self.name))
            }
            _ => self.unavailable(&error.to_string()),
        })?;
        let (Some(stdin), Some(stdout), Some(mut stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(self.unavailable("ssh has no pipes"));
        };
        // Read to its end in the background, so that ssh never waits for us; only the first part is of interest.
        let said = tokio::spawn(async move {
            let mut said = Vec::new();
            let first = (&mut stderr).take(MAX_SAID).read_to_end(&mut said).await;
            let rest = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
            first.and(rest).map(|_| said).unwrap_or_default()
        });
        let up = tokio::time::timeout(READY_WITHIN, answers(stdout, &ready)).await;
        let up = up.map_err(|_| self.unavailable("no answer after 30 seconds"))?;
        if up {
            tracing::debug!(host = self.name, "connected");
            return Ok(Connection {
                child,
                _stdin: stdin,
                socket,
                sessions: Arc::new(Semaphore::new(SESSIONS)),
            });
        }
        let status = child.wait().await.map_err(|error| self.unavailable(&error.to_string()))?;
        let said = String::from_utf8_lossy(&said.await.unwrap_or_default()).into_owned();
        Err(errors::not_connected(&self.name, &self.client.shown(), exit_status(status), &said))
    }

    fn unavailable(&self, why: &str) -> PortError {
        PortError::Unavailable(format!("{}: cannot connect to {}: {why}", self.name, self.client.shown()))
    }
}

/// Reads until the line that says that commands run, past whatever the login scripts print.
async fn answers(stdout: ChildStdout, ready: &str) -> bool {
    let mut lines = BufReader::new(stdout.take(MAX_SAID)).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if line.trim() == ready {
            return true;
        }
    }
    false
}

/// Makes the directory of the sockets, ours alone, and removes the sockets of an earlier life, behind which nobody listens.
fn prepare(dir: &Path) -> Result<(), String> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| format!("cannot be made: {error}"))?;
    let meta = std::fs::symlink_metadata(dir).map_err(|error| error.to_string())?;
    if !meta.is_dir() || meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o077 != 0 {
        return Err("is not a directory of ours alone (owner and mode 0700)".to_owned());
    }
    let entries: VecDeque<_> = std::fs::read_dir(dir).map_err(|error| error.to_string())?.flatten().collect();
    for entry in entries {
        let dead = || std::os::unix::net::UnixStream::connect(entry.path()).is_err();
        if entry.file_type().is_ok_and(|kind| kind.is_socket()) && dead() {
            // Somebody else may have removed it first.
            std::fs::remove_file(entry.path()).ok();
        }
    }
    Ok(())
}

impl Drop for Connection {
    fn drop(&mut self) {
        // ssh removes its socket when it ends by itself, not when it is killed with the child handle.
        std::fs::remove_file(&self.socket).ok();
    }
}
