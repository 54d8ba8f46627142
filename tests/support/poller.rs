//! A client that asks a site for a page all along, as a visitor would, and keeps what it got and when.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Pause between two requests.
const PAUSE: Duration = Duration::from_millis(25);
/// A request that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(20);

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// When it was sent.
    pub at: Instant,
    /// Its status; 0 when there was no answer.
    pub status: u16,
}

/// A running client.
pub struct Poller {
    seen: Arc<Mutex<Vec<Seen>>>,
    polling: tokio::task::JoinHandle<()>,
}

impl Poller {
    /// Polls a path of a site on a port of this machine.
    #[must_use]
    pub fn start(port: u16, site: &str, path: &str) -> Self {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let kept = seen.clone();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {site}\r\nConnection: close\r\nUser-Agent: visitor\r\n\r\n"
        );
        let polling = tokio::spawn(async move {
            loop {
                let at = Instant::now();
                let asked = tokio::time::timeout(LIMIT, ask(port, &request)).await;
                let status = asked.ok().and_then(Result::ok).unwrap_or(0);
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(Seen { at, status });
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self { seen, polling }
    }

    /// What was seen since an instant.
    #[must_use]
    pub fn since(&self, from: Instant) -> Vec<Seen> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .filter(|seen| seen.at >= from)
            .copied()
            .collect()
    }

    /// How long 503 was seen: from the first one to the first other answer after it, summed up.
    #[must_use]
    pub fn downtime(&self, from: Instant) -> Duration {
        let (mut total, mut closed) = (Duration::ZERO, None);
        for seen in self.since(from) {
            match (seen.status, closed) {
                (503, None) => closed = Some(seen.at),
                (503, Some(_)) | (_, None) => {}
                (_, Some(since)) => {
                    total += seen.at - since;
                    closed = None;
                }
            }
        }
        total
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.polling.abort();
    }
}

async fn ask(port: u16, request: &str) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let line = String::from_utf8_lossy(answer.get(..16).unwrap_or(&answer)).into_owned();
    Ok(line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0))
}
