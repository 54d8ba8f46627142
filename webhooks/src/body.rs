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
use crate::room::{Place, Room, Sender};

/// Largest body of a request: forges' payloads are far smaller; 25 MB, GitHub's own limit, would be 25 times the memory.
pub const MAX_BODY: usize = 1024 * 1024;
/// What is read and thrown away after that, so that the sender sees the 413 instead of a broken connection.
const MAX_DISCARD: u64 = 8 * 1024 * 1024;
/// How long that may take.
const DISCARD_TIME: Duration = Duration::from_secs(3);
/// Bytes that a growing body is given at most beyond what it needs.
const MAX_SPARE: usize = 64 * 1024;
/// A piece below this is copied: as it came, it would hold on to the whole buffer that it was read into.
const MIN_KEPT: usize = 4 * 1024;
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

/// What a body may cost.
pub(crate) struct Bounds<'a> {
    /// The most bytes.
    pub(crate) size: usize,
    /// The longest time.
    pub(crate) time: Duration,
    /// Where there has to be room for it.
    pub(crate) room: &'a Room,
    /// Whose it is.
    pub(crate) of: Sender,
}

/// Reads a request's body whole.
///
/// # Errors
/// 413 over its size, 408 over its time, 503 when there is no room for it, 400 when it breaks off, 415 when it is compressed.
pub(crate) async fn read<B>(headers: &HeaderMap, body: B, bounds: Bounds<'_>) -> Result<Bytes, Problem>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let Bounds { size: most, time, room, of } = bounds;
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
    match tokio::time::timeout(time, collect(body, most, Place::new(room, of))).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(Broken::TooLarge(rest))) => {
            discard(rest).await;
            Err(too_large(most))
        }
        Ok(Err(Broken::NoRoom(rest))) => {
            discard(rest).await;
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
    NoRoom(B),
    Off,
}

async fn collect<B: HttpBody<Data = Bytes> + Unpin>(
    mut body: B,
    most: usize,
    mut place: Place<'_>,
) -> Result<Bytes, Broken<B>> {
    let mut first = Bytes::new(); // most bodies come in one piece: no copy
    let mut all: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Err(Broken::Off) };
        let Ok(data) = frame.into_data() else { continue }; // trailers
        let size = first.len() + all.len() + data.len();
        if size > most {
            return Err(Broken::TooLarge(body));
        }
        if !place.reach(size) {
            return Err(Broken::NoRoom(body));
        }
        if first.is_empty() && all.is_empty() && data.len() >= MIN_KEPT {
            first = data;
        } else {
            if all.is_empty() {
                append(&mut all, &first);
                first = Bytes::new();
            }
            append(&mut all, &data);
        }
    }
    Ok(if all.is_empty() { first } else { all.into() })
}

/// Appends without doubling: a large body would take twice the room that it was given.
fn append(all: &mut Vec<u8>, data: &[u8]) {
    if all.capacity() - all.len() < data.len() {
        all.reserve_exact(data.len().max(all.len().min(MAX_SPARE)));
    }
    all.extend_from_slice(data);
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
    use std::net::{IpAddr, Ipv4Addr};

    use futures::future::{Either, join_all, select};
    use http_body_util::Full;

    use super::*;
    use crate::room::SMALL_KIB;

    /// A body that says nothing of its size, gives a piece, and then neither goes on nor ends.
    struct Stalled(Option<Bytes>);

    impl HttpBody for Stalled {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.take().map_or(Poll::Pending, |piece| Poll::Ready(Some(Ok(Frame::data(piece)))))
        }
    }

    const PIECE: usize = MAX_BODY / 2;

    fn bounds(room: &Room, host: u8) -> Bounds<'_> {
        let of = Sender::at(IpAddr::V4(Ipv4Addr::new(192, 0, 2, host)));
        Bounds { size: MAX_BODY, time: Duration::from_secs(600), room, of }
    }

    fn piece(size: usize) -> Bytes {
        vec![b'x'; size].into()
    }

    /// Beside so many bodies of one host of which a piece is there: what another request's body ends with.
    async fn beside(
        room: &Room,
        count: usize,
        there: Option<usize>,
        host: u8,
        size: usize,
    ) -> Result<usize, u16> {
        let headers = HeaderMap::new();
        let slow = join_all((0..count).map(|_| read(&headers, Stalled(there.map(piece)), bounds(room, 1))));
        let other = std::pin::pin!(read(&headers, Full::new(piece(size)), bounds(room, host)));
        // The slow ones are polled first, and never end.
        match select(slow, other).await {
            Either::Left((ended, _)) => panic!("{} bodies without an end have ended", ended.len()),
            Either::Right((Ok(body), _)) => Ok(body.len()),
            Either::Right((Err(problem), _)) => Err(problem.into_response("r").status().as_u16()),
        }
    }

    #[tokio::test]
    async fn a_body_that_is_only_announced_takes_no_room() {
        let room = Room::for_strangers();
        for host in [1, 2] {
            assert_eq!(beside(&room, 5000, None, host, MAX_BODY).await, Ok(MAX_BODY));
        }
    }

    #[tokio::test]
    async fn whoever_fills_a_share_is_refused_more_and_nobody_else() {
        let room = Room::new([(8 * 1024, 8 * 1024), (4 * 1024, 1024)]);
        let full = 1024 / (PIECE / 1024 - SMALL_KIB as usize);
        assert_eq!(beside(&room, full, Some(PIECE), 1, MAX_BODY).await, Err(503));
        assert_eq!(
            beside(&room, full, Some(PIECE), 1, 16 * 1024).await,
            Ok(16 * 1024),
            "a small one of theirs"
        );
        assert_eq!(beside(&room, full, Some(PIECE), 2, MAX_BODY).await, Ok(MAX_BODY));
        assert_eq!(beside(&room, 1, None, 1, MAX_BODY).await, Ok(MAX_BODY), "the room is free again");
        assert!(room.is_empty());
    }

    #[tokio::test]
    async fn all_together_have_no_more_than_the_room_and_small_ones_have_their_own() {
        let room = Room::new([(1024, 1024); 2]);
        assert_eq!(beside(&room, 1, Some(PIECE), 2, PIECE).await, Ok(PIECE));
        assert_eq!(beside(&room, 2, Some(PIECE), 2, PIECE).await, Err(503));
        assert_eq!(beside(&room, 2, Some(PIECE), 2, 16 * 1024).await, Ok(16 * 1024));
        assert_eq!(beside(&room, 64, Some(16 * 1024), 2, 1).await, Err(503), "so many small ones");
        assert_eq!(beside(&room, 63, Some(16 * 1024), 2, 1).await, Ok(1));
    }

    #[tokio::test]
    async fn pieces_of_every_size_become_the_body_that_was_sent() {
        let room = Room::for_strangers();
        for sizes in [&[1, 1, 5000, 3][..], &[5000, 1, 1], &[MIN_KEPT], &[MIN_KEPT - 1], &[0, 7], &[]] {
            let sent: Vec<Bytes> =
                sizes.iter().enumerate().map(|(n, size)| vec![n as u8; *size].into()).collect();
            let frames = sent.iter().cloned().map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
            let body = http_body_util::StreamBody::new(futures::stream::iter(frames.collect::<Vec<_>>()));
            let read = read(&HeaderMap::new(), body, bounds(&room, 1)).await.expect("body");
            assert_eq!(read, sent.concat(), "{sizes:?}");
        }
    }
}
