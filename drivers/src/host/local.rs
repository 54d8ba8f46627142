//! The machine that Kedge runs on. Commands get a session of their own: no controlling terminal, no shared process group.

use std::io;
use std::process::Stdio;

use async_trait::async_trait;
use kedge_workflows::ports::{PortError, PortResult};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command as Process};

use super::custody::{Custody, VARIABLE};
use super::machine::{Launch, Machine, Transport, host_on_machine};
use super::pipes::{exit_status, outputs};
use super::running::{End, Started, Writer};

/// The machine that Kedge runs on. Root is needed for whatever acts as root or as another user.
#[derive(Clone, Debug)]
pub struct LocalHost(Machine);

/// Starts processes as children of this one.
#[derive(Debug)]
struct Local {
    name: String,
}

impl LocalHost {
    /// The machine that Kedge runs on, under its name in the configuration.
    pub fn new(name: impl Into<String>, custody: Custody) -> Self {
        Self(Machine::on(Local { name: name.into() }, custody))
    }
}

host_on_machine!(LocalHost);

#[async_trait]
impl Transport for Local {
    fn name(&self) -> &str {
        &self.name
    }

    async fn start(&self, launch: Launch<'_>) -> PortResult<Started> {
        // `setsid` execs in place: the child is no group leader. Its process id is then that of its group, too.
        let mut child = Process::new("setsid")
            .args(&launch.argv)
            .env_remove(VARIABLE)
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(if launch.stdin { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| self.not_started(&error))?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Started {
            stdin: child.stdin.take().map(|stdin| Box::pin(stdin) as Writer),
            output: outputs(&mut child),
            status: Box::pin(end_of(child)),
            strike: group.map(|group| {
                Box::new(move |end| {
                    if end == End::AtOnce {
                        // Fails when the group is gone or not made yet; the sweep that follows finds what is left.
                        kill_process_group(group, Signal::KILL).ok();
                    }
                }) as Box<dyn FnOnce(End) + Send>
            }),
        })
    }
}

impl Local {
    fn not_started(&self, error: &io::Error) -> PortError {
        let name = &self.name;
        match error.kind() {
            io::ErrorKind::NotFound => {
                PortError::Refused(format!("setsid is missing: install util-linux on {name}"))
            }
            io::ErrorKind::ArgumentListTooLong => {
                PortError::Refused(format!("{name}: the arguments are too long"))
            }
            _ => PortError::Unavailable(format!("{name}: cannot start a process: {error}")),
        }
    }
}

async fn end_of(mut child: Child) -> PortResult<i32> {
    let status =
        child.wait().await.map_err(|error| PortError::Lost(format!("waiting for a process: {error}")))?;
    Ok(exit_status(status))
}
