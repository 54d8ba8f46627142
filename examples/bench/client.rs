//! A client that posts prepared requests over kept connections, one after another on each, and times every answer. On a thread of its
//! own, so that what it measures is what a client sees.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long posting took in all, and how long each answer took.
pub(crate) struct Posted {
    pub(crate) seconds: f64,
    pub(crate) answers: Vec<Duration>,
    /// The bodies of the answers.
    pub(crate) bodies: Vec<Vec<u8>>,
}

/// Posts all requests, as many at once as there are connections; every answer has to be a 202.
pub(crate) fn post(address: SocketAddr, connections: usize, requests: Vec<Vec<u8>>) -> Posted {
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(post_all(address, connections, requests)).expect("a server that answers")
    });
    thread.join().expect("the client's thread")
}

async fn post_all(
    address: SocketAddr,
    connections: usize,
    requests: Vec<Vec<u8>>,
) -> std::io::Result<Posted> {
    let streams = try_join_all((0..connections).map(|_| TcpStream::connect(address))).await?;
    let requests = Arc::new(requests);
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let workers = streams.into_iter().map(|stream| {
        let (requests, next) = (requests.clone(), next.clone());
        tokio::spawn(async move {
            let mut connection = Connection { stream, buffer: Vec::new() };
            let mut answers = Vec::new();
            while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                let asked = Instant::now();
                let body = connection.ask(request).await?;
                answers.push((asked.elapsed(), body));
            }
            Ok::<_, std::io::Error>(answers)
        })
    });
    let mut posted = Posted { seconds: 0.0, answers: Vec::new(), bodies: Vec::new() };
    let all = try_join_all(workers).await.map_err(std::io::Error::other)?;
    posted.seconds = began.elapsed().as_secs_f64();
    for answers in all {
        for (time, body) in answers? {
            posted.answers.push(time);
            posted.bodies.push(body);
        }
    }
    Ok(posted)
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Sends a request and reads the whole answer; its body.
    async fn ask(&mut self, request: &[u8]) -> std::io::Result<Vec<u8>> {
        self.stream.write_all(request).await?;
        loop {
            if let Some(head) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                let text = String::from_utf8_lossy(&self.buffer[..head]).to_lowercase();
                let wrong = || std::io::Error::other(format!("not a 202 with its length: {text}"));
                let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length: usize = length.and_then(|length| length.parse().ok()).ok_or_else(wrong)?;
                if !text.starts_with("http/1.1 202 ") {
                    return Err(wrong());
                }
                let whole = head + 4 + length;
                if self.buffer.len() >= whole {
                    let body = self.buffer[head + 4..whole].to_vec();
                    self.buffer.drain(..whole);
                    return Ok(body);
                }
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(std::io::Error::other("the server hung up"));
            }
        }
    }
}
