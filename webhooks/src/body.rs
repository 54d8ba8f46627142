//! Bodies: what we answer, and how a request's body is read within its bounds of size and time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
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
/// Bytes that a growing body is given at most beyond what it needs.
const MAX_SPARE: usize = 64 * 1024;
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

/// Room for what has arrived of the bodies that are read at the same time, of all connections and streams. What is only announced costs
/// nothing, and nobody waits for room: a body that waited would hold up its HTTP/2 connection, and be waited for by the next one.
pub(crate) struct Room {
    /// KiB of all bodies.
    total: u32,
    /// KiB of all bodies that come from one place.
    share: u32,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    all: u32,
    by: HashMap<IpAddr, u32>,
}

/// KiB of bodies of strangers, whose signature can be checked only when all of a body is there; with [`CALLERS_KIB`] a part of the
/// 256 MiB that the process stays under.
const STRANGERS_KIB: u32 = 64 * 1024;
/// KiB of bodies of callers whose token is known before.
const CALLERS_KIB: u32 = 32 * 1024;

impl Room {
    /// Room for the bodies of strangers: a quarter of it for one of them.
    pub(crate) fn for_strangers() -> Self {
        Self::new(STRANGERS_KIB, STRANGERS_KIB / 4)
    }

    /// Room for the bodies of callers who have told who they are, which no stranger can take.
    pub(crate) fn for_callers() -> Self {
        Self::new(CALLERS_KIB, CALLERS_KIB)
    }

    fn new(total: u32, share: u32) -> Self {
        Self { total, share, held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one body has of a room, until it is dropped.
struct Place<'a> {
    room: &'a Room,
    from: IpAddr,
    kib: u32,
}

impl<'a> Place<'a> {
    fn new(room: &'a Room, from: IpAddr) -> Self {
        Self { room, from: household(from), kib: 0 }
    }

    /// Whether there is room for so many bytes of this body.
    fn reach(&mut self, bytes: usize) -> bool {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let Some(more) = kib.checked_sub(self.kib).filter(|more| *more > 0) else { return true };
        let held = &mut *self.room.held();
        let mine = held.by.get(&self.from).copied().unwrap_or_default();
        let fits = |has: u32, most: u32| has.checked_add(more).is_some_and(|has| has <= most);
        if !fits(held.all, self.room.total) || !fits(mine, self.room.share) {
            return false;
        }
        held.all += more;
        held.by.insert(self.from, mine + more);
        self.kib = kib;
        true
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.kib == 0 {
            return;
        }
        let held = &mut *self.room.held();
        held.all -= self.kib;
        if let Entry::Occupied(mut mine) = held.by.entry(self.from) {
            *mine.get_mut() -= self.kib;
            if *mine.get() == 0 {
                mine.remove();
            }
        }
    }
}

/// Whom an address stands for: with IPv6 everybody has a network of 64 bits.
fn household(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) if address.to_ipv4_mapped().is_none() => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        other => other.to_canonical(),
    }
}

/// What a body may cost.
#[derive(Clone, Copy)]
pub(crate) struct Bounds<'a> {
    /// The most bytes.
    pub(crate) size: usize,
    /// The longest time.
    pub(crate) time: Duration,
    /// Where there has to be room for it.
    pub(crate) room: &'a Room,
    /// Where it comes from.
    pub(crate) from: IpAddr,
}

/// Reads a request's body whole.
///
/// # Errors
/// 413 over its size, 408 over its time, 503 when there is no room for it, 400 when it breaks off, 415 when it is compressed.
pub(crate) async fn read<B>(headers: &HeaderMap, body: B, bounds: Bounds<'_>) -> Result<Bytes, Problem>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let Bounds { size: most, time, room, from } = bounds;
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
    match tokio::time::timeout(time, collect(body, most, Place::new(room, from))).await {
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
        let size = first.len().max(all.len()) + data.len();
        if size > most {
            return Err(Broken::TooLarge(body));
        }
        if !place.reach(size) {
            return Err(Broken::NoRoom(body));
        }
        if first.is_empty() {
            first = data;
        } else {
            if all.is_empty() {
                append(&mut all, &first);
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
    use std::net::Ipv4Addr;

    use futures::future::{Either, join_all, select};
    use http_body_util::Full;

    use super::*;

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
        let from = IpAddr::V4(Ipv4Addr::new(192, 0, 2, host));
        Bounds { size: MAX_BODY, time: Duration::from_secs(600), room, from }
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
        let room = Room::for_strangers();
        let full = (room.share as usize * 1024) / PIECE;
        assert_eq!(beside(&room, full, Some(PIECE), 1, 1).await, Err(503));
        assert_eq!(beside(&room, full, Some(PIECE), 2, MAX_BODY).await, Ok(MAX_BODY));
        assert_eq!(beside(&room, 1, None, 1, MAX_BODY).await, Ok(MAX_BODY), "the room is free again");
        assert!(room.held().by.is_empty() && room.held().all == 0);
    }

    #[tokio::test]
    async fn all_together_have_no_more_than_the_room() {
        let room = Room::new(1024, 1024);
        assert_eq!(beside(&room, 1, Some(PIECE), 2, PIECE).await, Ok(PIECE));
        assert_eq!(beside(&room, 2, Some(PIECE), 2, 1).await, Err(503));
    }

    #[test]
    fn a_network_of_64_bits_is_one_household() {
        let of = |text: &str| household(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3::4"), of("2001:db8:1:2::9"));
        assert_ne!(of("2001:db8:1:2::4"), of("2001:db8:1:3::4"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
