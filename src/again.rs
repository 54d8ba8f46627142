//! A service whose disk gives out: it waits until there is room, says so to everybody who asks meanwhile, and starts anew in its own place
//! when the journal failed. Never tries again in the same life what the journal could not write.

use std::convert::Infallible;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use kedge_engine::store::Health;
use kedge_webhooks::Tls;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::between::Nothing;
use crate::config::Config;
use crate::serve::Service;

/// Pause between two looks whether there is room, or whether the journal has failed.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Callers at once that are told to wait; others wait in the listener's queue.
const MAX_CALLERS: usize = 64;
/// A caller's request: how long it may take, and what of it is read.
const CALL_LIMIT: Duration = Duration::from_secs(5);
const MAX_CALL: usize = 16 * 1024;
/// Where a life tells the next one of its restarts: how many, and since when in seconds.
const RESTARTS: &str = "KEDGE_RESTARTS";
/// This many restarts within this many seconds are no shortage that passes: then the process ends, and its supervisor decides.
const MAX_RESTARTS: u64 = 5;
const WITHIN_S: u64 = 600;

/// Resolves when the journal has failed, with the reason, whoever found that out: without an unfinished task there is no driver that would.
pub(crate) async fn failed(health: impl Fn() -> Health) -> String {
    loop {
        if let Health::Failed(why) = health() {
            return why;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Opens the service; waits as long as its disk is full or read-only.
///
/// # Errors
/// Everything else that keeps it from opening.
pub(crate) async fn open(config: &Arc<Config>) -> Result<Service> {
    let mut telling = None;
    loop {
        let error = match Service::open(config, &Nothing) {
            Err(error) if is_shortage(&error) => error,
            opened => {
                if let Some(telling) = telling {
                    end(telling).await;
                    tracing::info!("there is room again");
                }
                return opened;
            }
        };
        if telling.is_none() {
            tracing::error!("waiting, and going on when it is repaired: {error:#}");
            let listener = TcpListener::bind(config.listen);
            let listener = listener.await.with_context(|| format!("cannot listen on {}", config.listen))?;
            telling = Some(tokio::spawn(tell(listener, config.tls.clone(), format!("{error:#}"))));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn end(telling: tokio::task::JoinHandle<Infallible>) {
    telling.abort();
    // Ended by us: that it is canceled is no news.
    let _ = telling.await;
}

/// Whether a disk is full or read-only: that can pass without anybody touching Kedge.
fn is_shortage(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|error| {
        matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem
        )
    })
}

/// Answers everybody: alive, and not ready.
async fn tell(listener: TcpListener, tls: Option<Tls>, why: String) -> Infallible {
    let (room, why) = (Arc::new(Semaphore::new(MAX_CALLERS)), Arc::new(why));
    loop {
        let permit = room.clone().acquire_owned().await;
        match listener.accept().await {
            Ok((caller, _)) => {
                let (tls, why) = (tls.clone(), why.clone());
                tokio::spawn(async move {
                    let answered = async {
                        let near = caller.peer_addr()?.ip().is_loopback();
                        match tls {
                            Some(tls) => answer(tls.accept_http1(caller).await?, near, &why).await,
                            None => answer(caller, near, &why).await,
                        }
                    };
                    // A caller that leaves has heard enough.
                    let _: Result<io::Result<()>, _> = timeout(CALL_LIMIT, answered).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }
}

/// Answers one caller; who is near is told where the disk is.
async fn answer(mut caller: impl AsyncRead + AsyncWrite + Unpin, near: bool, why: &str) -> io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < MAX_CALL {
        match caller.read(&mut buffer).await? {
            0 => break,
            read => request.extend_from_slice(&buffer[..read]),
        }
    }
    let (status, body) = if request.starts_with(b"GET /livez ") {
        ("200 OK", serde_json::json!({ "status": "alive" }))
    } else {
        // The words name a path of this machine: for the log, and for whoever sits at it.
        let detail = if near { why } else { "the disk of its journal has no room" };
        let title = "The service waits for its disk";
        (
            "503 Service Unavailable",
            serde_json::json!({ "type": "about:blank", "title": title, "status": 503, "detail": detail }),
        )
    };
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\nretry-after: 30\r\nconnection: close\r\n\r\n",
        body.len()
    );
    caller.write_all(format!("{head}{body}").as_bytes()).await?;
    caller.shutdown().await
}

/// Becomes a new process of the same command in the place of this one, if that did not happen too often.
///
/// # Errors
/// When it happened too often, or the program is not there any more: the supervisor has to decide.
pub(crate) fn start_anew() -> Result<Infallible> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let told = std::env::var(RESTARTS).unwrap_or_default();
    let restarts = next(&told, now).context("the journal failed again and again")?;
    let program = std::env::current_exe().context("the program cannot be found")?;
    tracing::warn!("starting anew in the same place");
    let error = Command::new(&program).args(std::env::args_os().skip(1)).env(RESTARTS, restarts).exec();
    Err(error).with_context(|| program.display().to_string())
}

/// What the next life is told; `None` when there were too many.
fn next(told: &str, now: u64) -> Option<String> {
    let (count, since) = told
        .split_once(' ')
        .and_then(|(count, since)| Some((count.parse::<u64>().ok()?, since.parse::<u64>().ok()?)))
        .filter(|(_, since)| now.saturating_sub(*since) < WITHIN_S)
        .unwrap_or((0, now));
    (count < MAX_RESTARTS).then(|| format!("{} {since}", count + 1))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use futures::FutureExt as _;
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn a_journal_that_fails_ends_the_life_whatever_else_there_is_to_do() {
        let all_is_well = [Health::Ready, Health::Low("no room".to_owned())];
        for health in all_is_well {
            assert_eq!(failed(|| health.clone()).now_or_never(), None);
        }
        let why = failed(|| Health::Failed("bad sector".to_owned())).now_or_never();
        assert_eq!(why.as_deref(), Some("bad sector"));
    }

    #[test]
    fn restarts_are_counted_for_a_while() {
        let mut told = String::new();
        for n in 1..=MAX_RESTARTS {
            told = next(&told, 1000 + n).unwrap();
            assert_eq!(told, format!("{n} 1001"));
        }
        assert_eq!(next(&told, 1020), None);
        assert_eq!(next(&told, 1001 + WITHIN_S).as_deref(), Some("1 1601"));
        assert_eq!(next("nonsense", 7).as_deref(), Some("1 7"));
    }

    #[test]
    fn a_shortage_is_known_by_its_cause() {
        let error = |kind| anyhow::Error::new(io::Error::from(kind)).context("above");
        assert!(is_shortage(&error(io::ErrorKind::StorageFull)));
        assert!(is_shortage(&error(io::ErrorKind::ReadOnlyFilesystem)));
        assert!(!is_shortage(&error(io::ErrorKind::PermissionDenied)));
    }

    #[tokio::test]
    async fn everybody_is_told() {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = listener.local_addr().unwrap();
        let telling = tokio::spawn(tell(listener, None, "the disk of /x is full".to_owned()));
        for (request, expected) in [
            ("GET /livez HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK"),
            ("GET /readyz HTTP/1.1\r\n\r\n", "HTTP/1.1 503 Service"),
            ("POST /v1/tasks HTTP/1.1\r\ncontent-length: 9\r\n\r\n", "the disk of /x is full"),
            ("nonsense\r\n\r\n", "HTTP/1.1 503"),
        ] {
            let mut caller = TcpStream::connect(address).await.unwrap();
            caller.write_all(request.as_bytes()).await.unwrap();
            let mut said = String::new();
            caller.read_to_string(&mut said).await.unwrap();
            assert!(said.contains(expected), "{request}: {said}");
        }
        end(telling).await;
    }

    #[tokio::test]
    async fn who_comes_by_https_is_told_by_https() {
        let made = rcgen::generate_simple_self_signed(vec!["kedge.test".to_owned()]).unwrap();
        let key = kedge_webhooks::Secret::new(made.signing_key.serialize_pem());
        let pem = made.cert.pem();
        let spec =
            kedge_webhooks::TlsSpec { certificate: pem.clone().into(), key: Some(key), ..Default::default() };
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = Tls::new(&spec).unwrap();
        let telling = tokio::spawn(tell(listener, Some(tls), "the disk of /x is full".to_owned()));
        let trusted = reqwest::Certificate::from_pem(pem.as_bytes()).unwrap();
        let client = reqwest::Client::builder().no_proxy().add_root_certificate(trusted);
        let client = client.resolve("kedge.test", address).build().unwrap();
        let asked = client.get(format!("https://kedge.test:{}/readyz", address.port())).send().await.unwrap();
        assert_eq!(asked.status(), 503);
        assert!(asked.text().await.unwrap().contains("the disk of /x is full"));
        end(telling).await;
    }
}
