//! The rewrite as a member of a stream of bytes, between a dump and an import. Takes no more from its producer than its consumer asks for.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::StreamExt as _;

use super::{Report, SqlRewriter};
use crate::ports::{ByteStream, PortError};

/// The report of a stream, there once the stream has come to its clean end.
#[derive(Clone, Debug)]
pub struct ReportHandle(Arc<OnceLock<Report>>);

impl ReportHandle {
    /// The report, or `None` while the stream is under way, and for ever when it failed or was dropped.
    #[must_use]
    pub fn report(&self) -> Option<&Report> {
        self.0.get()
    }
}

/// Rewrites what comes through. An error of the producer is passed on; a dump that ends in the middle of a statement ends in an error.
#[must_use]
pub fn rewrite_stream(stream: ByteStream, rewriter: SqlRewriter) -> (ByteStream, ReportHandle) {
    let handle = ReportHandle(Arc::new(OnceLock::new()));
    let state = State::Open { stream, rewriter: Box::new(rewriter), report: Arc::clone(&handle.0) };
    (Box::pin(futures::stream::unfold(state, State::next)), handle)
}

enum State {
    Open { stream: ByteStream, rewriter: Box<SqlRewriter>, report: Arc<OnceLock<Report>> },
    Failed(PortError),
    Done,
}

impl State {
    async fn next(mut self) -> Option<(Result<Bytes, PortError>, Self)> {
        loop {
            let (mut stream, mut rewriter, report) = match self {
                Self::Open { stream, rewriter, report } => (stream, rewriter, report),
                Self::Failed(error) => return Some((Err(error), Self::Done)),
                Self::Done => return None,
            };
            let mut out = Vec::new();
            self = match stream.next().await {
                Some(Ok(chunk)) => {
                    out.reserve(chunk.len() + chunk.len() / 16);
                    rewriter.push(&chunk, &mut out);
                    Self::Open { stream, rewriter, report }
                }
                Some(Err(error)) => Self::Failed(error),
                None => match rewriter.finish(&mut out) {
                    Ok(done) => {
                        report.get_or_init(|| done);
                        Self::Done
                    }
                    Err(error) => Self::Failed(PortError::Refused(error.to_string())),
                },
            };
            if !out.is_empty() {
                return Some((Ok(Bytes::from(out)), self));
            }
        }
    }
}
