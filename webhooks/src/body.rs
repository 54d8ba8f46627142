//! Bodies: what we answer, and how a request's body is read within its bounds of size and time.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};

use crate::problem::Problem;

/// Largest body of a request: forges' payloads are far smaller; 25 MB, GitHub's own limit, would be 25 times the memory.
pub const MAX_BODY: usize = 1024 * 1024;
/// What is read and thrown away after that, so that the sender sees the 413 instead of a broken connection.
const MAX_DISCARD: u64 = 8 * 1024 * 1024;
/// How long that may take.
const DISCARD_TIME: Duration = Duration::from_secs(3);
/// Seconds after which whoever found no room may come again.
const BUSY_S: u32 = 5;

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

/// Room for the bodies that are read at the same time, of all connections and streams: most come from whoever likes to connect, and their
/// signature can be checked only when they are there. Others wait for their turn as long as their body may take.
pub(crate) struct Room {
    /// One for each body.
    bodies: Semaphore,
    /// One for each KiB of a body above [`SMALL`].
    large: Semaphore,
}

/// Bodies read at once: one for each connection of HTTP/1.
const BODIES: usize = 2048;
/// What a body has without asking for more room: nearly every hook and every task. With [`BODIES`] it makes 32 MiB.
const SMALL: usize = 16 * 1024;
/// KiB for what is larger: 64 of the largest at once. Together with the small ones a part of the 256 MiB that the process stays under.
const LARGE_KIB: usize = 64 * 1024;

impl Default for Room {
    fn default() -> Self {
        Self { bodies: Semaphore::new(BODIES), large: Semaphore::new(LARGE_KIB) }
    }
}

impl Room {
    /// Room for a body of a size; all at once, so that no two wait for each other.
    async fn take(&self, size: usize) -> Result<[SemaphorePermit<'_>; 2], AcquireError> {
        let kib = u32::try_from(size.saturating_sub(SMALL).div_ceil(1024)).unwrap_or(u32::MAX);
        Ok([self.bodies.acquire().await?, self.large.acquire_many(kib).await?])
    }
}

/// What a body may cost.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    /// The most bytes.
    pub(crate) size: usize,
    /// The longest time, with the wait for room.
    pub(crate) time: Duration,
}

/// Reads a request's body whole.
///
/// # Errors
/// 413 over its size, 408 over its time, 503 when there is no room within that time, 400 when it breaks off, 415 when it is compressed.
pub(crate) async fn read<B>(
    headers: &HeaderMap,
    body: B,
    room: &Room,
    bounds: Bounds,
) -> Result<Bytes, Problem>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let Bounds { size: most, time } = bounds;
    // Unpacking would come before the signature check and could blow up a small body.
    if headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(Problem::media_type("compressed bodies are not taken: send it without Content-Encoding"));
    }
    if let Some(size) = body.size_hint().exact().filter(|size| *size > most as u64) {
        if size <= MAX_DISCARD {
            discard(body).await;
        }
        return Err(too_large(most));
    }
    let size = body.size_hint().exact().and_then(|size| usize::try_from(size).ok()).unwrap_or(most);
    let has_room = AtomicBool::new(false);
    let reading = async {
        let Ok(_room) = room.take(size).await else { return Err(Broken::Off) };
        has_room.store(true, Ordering::Relaxed);
        collect(body, most).await
    };
    match tokio::time::timeout(time, reading).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(Broken::TooLarge(rest))) => {
            discard(rest).await;
            Err(too_large(most))
        }
        Err(_) if !has_room.load(Ordering::Relaxed) => {
            let detail = "too many bodies are sent at the same time; nothing was done";
            Err(Problem::unavailable(detail, BUSY_S).header(header::CONNECTION, "close"))
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

async fn collect<B: HttpBody<Data = Bytes> + Unpin>(mut body: B, most: usize) -> Result<Bytes, Broken<B>> {
    let mut first = Bytes::new(); // most bodies come in one piece: no copy
    let mut all: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Err(Broken::Off) };
        let Ok(data) = frame.into_data() else { continue }; // trailers
        if first.len().max(all.len()) + data.len() > most {
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

fn too_large(most: usize) -> Problem {
    let detail = format!("a body may have {most} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large", detail)
        .header(header::CONNECTION, "close")
}

#[cfg(test)]
mod tests {
    use futures::future::{Either, select};
    use http_body_util::Full;

    use super::*;

    /// A body that says nothing of its size and never ends.
    struct Endless;

    impl HttpBody for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn large_bodies_share_their_room_and_small_ones_pass_by() {
        let (room, headers) = (Room::default(), HeaderMap::new());
        let within = |time: u64| Bounds { size: MAX_BODY, time: Duration::from_millis(time) };
        let of = |size: usize| Full::new(Bytes::from(vec![b'x'; size]));
        let many = LARGE_KIB * 1024 / (MAX_BODY - SMALL);
        let slow =
            futures::future::join_all((0..many).map(|_| read(&headers, Endless, &room, within(600_000))));
        let others = async {
            let small = read(&headers, of(SMALL), &room, within(600_000)).await;
            assert_eq!(small.ok().map(|body| body.len()), Some(SMALL));
            let large = read(&headers, of(MAX_BODY), &room, within(20)).await;
            assert_eq!(large.err().map(|problem| problem.into_response("r").status().as_u16()), Some(503));
        };
        // The slow ones are polled first, and never end.
        assert!(matches!(select(slow, std::pin::pin!(others)).await, Either::Right(_)));
        let large = read(&headers, of(MAX_BODY), &room, within(600_000)).await;
        assert_eq!(large.ok().map(|body| body.len()), Some(MAX_BODY), "the room is free again");
    }
}
