//! Bodies: what we answer, and how a request's body is read within its bounds of size and time.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use crate::problem::Problem;

/// Largest body of a request: forges' payloads are far smaller; 25 MB, GitHub's own limit, would be 25 times the memory.
pub const MAX_BODY: usize = 1024 * 1024;
/// What is read and thrown away after that, so that the sender sees the 413 instead of a broken connection.
const MAX_DISCARD: u64 = 8 * 1024 * 1024;
/// How long that may take.
const DISCARD_TIME: Duration = Duration::from_secs(3);

/// The body of a response.
pub(crate) enum Body {
    /// All there at once.
    Full(Option<Bytes>),
    /// Made while it is sent: the next piece is asked for when there is room for it.
    Stream(BoxStream<'static, Bytes>),
}

impl Body {
    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::Full((!bytes.is_empty()).then_some(bytes))
    }

    pub(crate) fn empty() -> Self {
        Self::Full(None)
    }

    pub(crate) fn stream(stream: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self::Stream(stream.boxed())
    }

    #[cfg(test)]
    pub(crate) fn into_full(self) -> Option<Bytes> {
        match self {
            Self::Full(bytes) => Some(bytes.unwrap_or_default()),
            Self::Stream(_) => None,
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(stream) => {
                stream.poll_next_unpin(cx).map(|next| next.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// Reads a request's body whole.
///
/// # Errors
/// 413 over [`MAX_BODY`], 408 over `time`, 400 when it breaks off, 415 when it is compressed.
pub(crate) async fn read<B>(headers: &HeaderMap, body: B, time: Duration) -> Result<Bytes, Problem>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    // Unpacking would come before the signature check and could blow up a small body.
    if headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(Problem::media_type("compressed bodies are not taken: send it without Content-Encoding"));
    }
    if let Some(size) = body.size_hint().exact().filter(|size| *size > MAX_BODY as u64) {
        if size <= MAX_DISCARD {
            discard(body).await;
        }
        return Err(too_large());
    }
    match tokio::time::timeout(time, collect(body)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(Broken::TooLarge(rest))) => {
            discard(rest).await;
            Err(too_large())
        }
        Ok(Err(Broken::Off)) => Err(Problem::bad_request("the body broke off before its end")),
        Err(_) => {
            let detail = format!("the body was not there within {} s", time.as_secs_f32());
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", "The body came too slowly", detail)
                .header(header::CONNECTION, "close"))
        }
    }
}

enum Broken<B> {
    TooLarge(B),
    Off,
}

async fn collect<B: HttpBody<Data = Bytes> + Unpin>(mut body: B) -> Result<Bytes, Broken<B>> {
    let mut first = Bytes::new(); // most bodies come in one piece: no copy
    let mut all: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Err(Broken::Off) };
        let Ok(data) = frame.into_data() else { continue }; // trailers
        if first.len().max(all.len()) + data.len() > MAX_BODY {
            return Err(Broken::TooLarge(body));
        }
        if first.is_empty() {
            first = data;
        } else {
            if all.is_empty() {
                all.extend_from_slice(&first);
            }
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.into() })
}

async fn discard<B: HttpBody<Data = Bytes> + Unpin>(mut body: B) {
    let reading = async {
        let mut seen = 0;
        while let Some(Ok(frame)) = body.frame().await {
            seen += frame.data_ref().map_or(0, |data| data.len() as u64);
            if seen > MAX_DISCARD {
                return;
            }
        }
    };
    // Either way the answer is 413; a sender that is slower than this may lose it.
    tokio::time::timeout(DISCARD_TIME, reading).await.unwrap_or_default();
}

fn too_large() -> Problem {
    let detail = format!("a body may have {MAX_BODY} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large", detail)
        .header(header::CONNECTION, "close")
}
