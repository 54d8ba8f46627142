//! The accept loop: connections within their bounds of number and time, and an end that loses nothing. It knows no routes.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::body::Body;
use crate::limits::Rates;
use crate::tls::{Presented, SharedTls};

/// What hyper buffers of a request's head before it gives up with a bare 431; from 16 KiB on we answer with a document of our own.
const HARD_HEAD: usize = 32 * 1024;
/// Streams at once on an HTTP/2 connection.
const MAX_H2_STREAMS: u32 = 100;
/// Bytes that an HTTP/2 connection may send before we have read them: the protocol's own default. hyper's is 16 times that, for each of
/// [`HttpConfig::max_connections`].
const H2_WINDOW: u32 = 65_535;
/// How often a silent HTTP/2 peer is asked whether it lives, and how long it has to answer.
const H2_PING: Duration = Duration::from_secs(20);
/// How long an idle connection gets to take its goodbye.
const GOODBYE: Duration = Duration::from_secs(1);
/// Pause after a failed accept (no file descriptors left): at once it would fail again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How the server listens, and its bounds.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Where it listens; port 0 takes any.
    pub listen: SocketAddr,
    /// Where others reach it: the base of links in tasks and callbacks.
    pub public_url: Option<url::Url>,
    /// Most connections at once; others wait in the listener's queue.
    pub max_connections: usize,
    /// Most event streams at once.
    pub max_streams: usize,
    /// TLS; without it, plain HTTP.
    pub tls: Option<SharedTls>,
    /// How often callers may ask.
    pub rates: Rates,
    /// How long a request's head may take, and how long a connection may be idle.
    pub header_timeout: Duration,
    /// How long a request's body may take.
    pub body_timeout: Duration,
    /// How long connections are still accepted after the shutdown began, so that balancers see `readyz` turn.
    pub drain_notice: Duration,
    /// How long requests in flight get to end after that.
    pub drain_timeout: Duration,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7480)),
            public_url: None,
            max_connections: 2048,
            max_streams: 1024,
            tls: None,
            rates: Rates::default(),
            header_timeout: Duration::from_secs(20),
            body_timeout: Duration::from_secs(30),
            drain_notice: Duration::ZERO,
            drain_timeout: Duration::from_secs(20),
        }
    }
}

/// A bound server.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    app: App,
    config: HttpConfig,
}

impl Server {
    /// Binds the address; connections queue from now on and are served by [`Server::run`].
    ///
    /// # Errors
    /// The address is in use, not ours, or not allowed.
    pub async fn bind(config: HttpConfig, app: App) -> io::Result<Self> {
        let listener = TcpListener::bind(config.listen).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, app, config })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` resolves, then ends what has begun: requests are answered, streams are told, connections closed.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let tracker = TaskTracker::new();
        let line = Line {
            app: self.app.clone(),
            room: Arc::new(Semaphore::new(self.config.max_connections)),
            config: Arc::new(self.config),
            close: CancellationToken::new(),
            abort: CancellationToken::new(),
        };
        accept(&self.listener, &line, &tracker, shutdown).await;
        self.app.drain();
        accept(&self.listener, &line, &tracker, tokio::time::sleep(line.config.drain_notice)).await;
        drop(self.listener);
        line.close.cancel();
        tracker.close();
        if timeout(line.config.drain_timeout, tracker.wait()).await.is_err() {
            tracing::warn!(target: "kedge::http", connections = tracker.len(), "connections were cut off");
            line.abort.cancel();
            tracker.wait().await;
        }
        self.app.flushed().await;
    }
}

/// Who is at the other end of a request's connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// The certificate that it proved to have.
    pub(crate) certificate: Option<Arc<Presented>>,
}

/// What every connection shares.
#[derive(Clone)]
struct Line {
    app: App,
    room: Arc<Semaphore>,
    config: Arc<HttpConfig>,
    close: CancellationToken,
    abort: CancellationToken,
}

async fn accept(listener: &TcpListener, line: &Line, tracker: &TaskTracker, until: impl Future<Output = ()>) {
    let mut until = pin!(until);
    loop {
        let next = async {
            let permit = Arc::clone(&line.room).acquire_owned().await;
            (permit, listener.accept().await)
        };
        tokio::select! {
            biased;
            () = &mut until => return,
            (permit, accepted) = next => match (permit, accepted) {
                (Ok(permit), Ok((stream, peer))) => {
                    tracker.spawn(connection(stream, peer, line.clone(), permit));
                }
                (_, Err(error)) => {
                    tracing::warn!(target: "kedge::http", %error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                (Err(_), Ok(_)) => return, // the semaphore is never closed
            },
        }
    }
}

async fn connection(stream: TcpStream, address: SocketAddr, line: Line, permit: OwnedSemaphorePermit) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(target: "kedge::http", %error, "no TCP_NODELAY");
    }
    let connected = line.app.0.metrics.connection();
    match &line.config.tls {
        None => serve(stream, Peer { address, certificate: None }, &line).await,
        Some(tls) => {
            if let Some((stream, peer)) = shake_hands(stream, address, tls, &line).await {
                serve(stream, peer, &line).await;
            }
        }
    }
    drop((connected, permit));
}

/// The TLS handshake, within the time that a request's head has.
async fn shake_hands(
    stream: TcpStream,
    address: SocketAddr,
    tls: &SharedTls,
    line: &Line,
) -> Option<(TlsStream<TcpStream>, Peer)> {
    let shaking = timeout(line.config.header_timeout, TlsAcceptor::from(tls.now()).accept(stream));
    let shaken = tokio::select! {
        shaken = shaking => shaken,
        () = line.close.cancelled() => return None,
    };
    match shaken {
        Ok(Ok(stream)) => {
            let presented = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let certificate = presented.and_then(Presented::read).map(Arc::new);
            Some((stream, Peer { address, certificate }))
        }
        // Strangers' daily business, and what a person looks for whose client does not get in.
        Ok(Err(error)) => {
            tracing::info!(target: "kedge::http", %error, from = %address.ip(), "no TLS handshake");
            None
        }
        Err(_) => None,
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, peer: Peer, line: &Line) {
    let activity = Arc::new(Activity::new());
    let service = service_fn(|mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        let (app, busy) = (line.app.clone(), Busy::new(&activity));
        async move { Ok::<_, Infallible>(app.handle(request).await.map(|body| Guarded { body, _busy: busy })) }
    });
    let builder = builder(&line.config);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let idle = activity.idle_for(line.config.header_timeout);
    tokio::select! {
        result = connection.as_mut() => return ended(result),
        () = line.abort.cancelled() => return,
        () = line.close.cancelled() => {}
        // The head of its next request is not there in time: this also covers the wait for the first bytes and for HTTP/2.
        () = idle => {
            connection.as_mut().graceful_shutdown();
            // Cut off after that, with or without a goodbye.
            timeout(GOODBYE, connection).await.map_or_else(|_| (), ended);
            return;
        }
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        result = connection.as_mut() => ended(result),
        () = line.abort.cancelled() => {}
        () = activity.idle_for(GOODBYE) => {}
    }
}

fn builder(config: &HttpConfig) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
        .max_buf_size(HARD_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_H2_STREAMS)
        .initial_stream_window_size(H2_WINDOW)
        .initial_connection_window_size(H2_WINDOW)
        .max_header_list_size(u32::try_from(HARD_HEAD).unwrap_or(u32::MAX))
        .keep_alive_interval(H2_PING)
        .keep_alive_timeout(H2_PING);
    builder
}

fn ended(result: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = result {
        // Broken connections are the peers' daily business.
        tracing::debug!(target: "kedge::http", error, "a connection broke off");
    }
}

/// Whether a connection has requests in flight, and since when it has none.
struct Activity {
    open: AtomicUsize,
    since: Mutex<Instant>,
}

impl Activity {
    fn new() -> Self {
        Self { open: AtomicUsize::new(0), since: Mutex::new(Instant::now()) }
    }

    /// Resolves when nothing has been in flight for a time.
    async fn idle_for(&self, time: Duration) {
        loop {
            let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner);
            let busy = self.open.load(Ordering::Acquire) > 0;
            let due = if busy { Instant::now() + time } else { since + time };
            if !busy && due <= Instant::now() {
                return;
            }
            sleep_until(due).await;
        }
    }
}

/// A request in flight, until its answer is sent or given up.
struct Busy(Arc<Activity>);

impl Busy {
    fn new(activity: &Arc<Activity>) -> Self {
        activity.open.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(activity))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        *self.0.since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A body that keeps its connection busy.
struct Guarded {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
