//! When a host counts as ready: its init says so from inside, and its ports answer from outside. Conditions only, no naps.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::docker::POLL;
use crate::error::{Error, Result, tail};
use crate::exec::{Exec, Output};
use crate::host::Host;
use crate::http;
use crate::spec::Service;

/// A start takes two seconds; on a machine that compiles on all cores at once it took ten.
const LIMIT: Duration = Duration::from_secs(90);
/// What a greeting may take once the port is open.
const GREETING_LIMIT: Duration = Duration::from_secs(5);

/// Waits until the services answer, inside and outside. Ends at once when one of them has ended.
pub(crate) async fn wait(host: &Host, services: &[Service]) -> Result<()> {
    let begin = Instant::now();
    let mut pending: Vec<Service> = services.to_vec();
    loop {
        let check = first_unready(host, &mut pending).await;
        let Some(unready) = check else { return Ok(()) };
        let hopeless = matches!(unready, Unready::Ended(_));
        if hopeless || begin.elapsed() > LIMIT {
            let (Unready::Ended(reason) | Unready::NotYet(reason)) = unready;
            let log = host.logs().await.unwrap_or_default();
            let processes = host.exec_ok(["ps", "axfo", "pid,stat,wchan:20,args"]).await;
            let processes = processes.unwrap_or_else(|error| error.to_string());
            return Err(Error::NotReady {
                what: format!("{} is not ready", host.container_name()),
                waited: begin.elapsed(),
                detail: format!(
                    "{reason}; its log ends with: {}\nits processes: {processes}",
                    tail(log.as_bytes())
                ),
            });
        }
        sleep(POLL).await;
    }
}

enum Unready {
    NotYet(String),
    Ended(String),
}

/// Drops the services that answer from `pending`; gives the reason of the first that does not.
async fn first_unready(host: &Host, pending: &mut Vec<Service>) -> Option<Unready> {
    while let Some(service) = pending.last().copied() {
        let probe =
            Exec::new(["kedge-service", "ready", &service.to_string()]).limit(Duration::from_secs(10));
        match host.run(probe).await {
            Ok(Output { code: 0, .. }) => (),
            Ok(Output { code: 3, stderr, .. }) => return Some(Unready::Ended(tail(&stderr))),
            Ok(output) => {
                return Some(Unready::NotYet(format!("{service} does not answer ({})", output.describe())));
            }
            // Docker refuses commands in a container that has ended; its log says why it did.
            Err(Error::Docker { source, .. }) => return Some(Unready::Ended(source.to_string())),
            Err(error) => return Some(Unready::NotYet(error.to_string())),
        }
        if let Err(error) = answers_outside(host, service).await {
            return Some(Unready::NotYet(format!(
                "{service} does not answer on its published port ({error})"
            )));
        }
        pending.pop();
    }
    None
}

async fn answers_outside(host: &Host, service: Service) -> std::io::Result<()> {
    match service {
        Service::Php => Ok(()), // its socket is inside
        Service::Nginx | Service::Apache => {
            http::get(host.port(service), "readiness.invalid", "/").await.map(drop)
        }
        // Docker's proxy accepts before the service does: only a greeting counts. SSH's begins with its name; a database's
        // with a length, a sequence of 0, and protocol version 10, or 255 when no account may log in from here.
        Service::Ssh => greeting(host.port(service), |bytes| bytes.starts_with(b"SSH-2")).await,
        Service::Mariadb | Service::Mysql => {
            greeting(host.port(service), |bytes| matches!(bytes.get(3..5), Some(&[0, 10 | 255]))).await
        }
    }
}

async fn greeting(port: u16, expected: fn(&[u8]) -> bool) -> std::io::Result<()> {
    let read = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let mut bytes = [0; 5];
        stream.read_exact(&mut bytes).await?;
        if expected(&bytes) {
            Ok(())
        } else {
            Err(std::io::Error::other(format!("unknown greeting {bytes:?}")))
        }
    };
    timeout(GREETING_LIMIT, read).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
}
