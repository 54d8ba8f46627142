//! One HTTP request to a port of this machine, for readiness and for looking at sites. Not a client for anything else.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What a server may take for a page; PHP without a warm cache on a loaded machine is slow.
const LIMIT: Duration = Duration::from_secs(30);
/// Size of an answer: a page with its images inlined fits.
const BOUND: u64 = 32 * 1024 * 1024;

/// An answer of a web server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Status code.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// Body.
    pub body: Vec<u8>,
}

impl Page {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's first value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

/// Asks 127.0.0.1 for a path. HTTP/1.0, so that the answer ends with the connection and is not chunked.
pub(crate) async fn get(port: u16, host: &str, path: &str) -> std::io::Result<Page> {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: kedge-testenv\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(BOUND).read_to_end(&mut answer).await?;
        parse(&answer).ok_or_else(|| std::io::Error::other("no HTTP answer"))
    };
    timeout(LIMIT, exchange).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
}

fn parse(answer: &[u8]) -> Option<Page> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some(Page { status, head, body: answer[end + 4..].to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart() {
        let page =
            parse(b"HTTP/1.1 503 Gone Fishing\r\nRetry-After: 30\r\nX: y: z\r\n\r\nlater\r\n\r\n").unwrap();
        assert_eq!((page.status, page.text().as_str()), (503, "later\r\n\r\n"));
        assert_eq!(
            (page.header("retry-after"), page.header("x"), page.header("z")),
            (Some("30"), Some("y: z"), None)
        );
        assert_eq!(parse(b"SSH-2.0-x\r\n\r\n"), None);
        assert_eq!(parse(b""), None);
    }
}
