//! A visitor's browser, as small as it goes: one request, one connection, raw headers.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A request.
pub(super) struct Visit {
    host: String,
    path: String,
    headers: String,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) status: u16,
    head: String,
    pub(super) body: Vec<u8>,
}

impl Visit {
    pub(super) fn to(host: &str, path: &str) -> Self {
        Self { host: host.to_owned(), path: path.to_owned(), headers: String::new() }
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers += &format!("{name}: {value}\r\n");
        self
    }
}

impl Page {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Asks 127.0.0.1. HTTP/1.0: the answer ends with the connection and is not chunked.
pub(super) async fn visit(port: u16, visit: &Visit) -> Page {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("something listens");
        let Visit { host, path, headers } = visit;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("it answers");
        answer
    };
    let answer =
        tokio::time::timeout(Duration::from_secs(30), exchange).await.expect("an answer within 30 s");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("headers");
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Page { status, head, body: answer[end + 4..].to_vec() }
}
