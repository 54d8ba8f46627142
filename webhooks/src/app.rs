//! The application behind the server: finds the route, asks the handler, and gives every answer its request id, its log line and
//! its count. It reads no sockets.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Body as HttpBody;
use ipnet::IpNet;
use kedge_engine::inbox::Inbox;
use kedge_engine::outbox::Outbox;
use kedge_engine::ports::{Clock, Random};
use kedge_engine::service::Tasks;
use kedge_engine::store::{ReadError, Store};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::Links;
use crate::audit::{Audit, Entry};
use crate::auth::Token;
use crate::body::Body;
use crate::chat::Chat;
use crate::chat::follow;
use crate::config::Mistake;
use crate::cx::Cx;
use crate::deliver::{Patience, Sender};
use crate::desk::Desk;
use crate::endpoint::{Endpoint, Endpoints};
use crate::handlers;
use crate::hook::Hook;
use crate::limits::Limiter;
use crate::metrics::Metrics;
use crate::openapi;
use crate::problem::Problem;
use crate::room::Room;
use crate::route::{Route, Routed, route};
use crate::schemas::Schemas;
use crate::server::HttpConfig;
use crate::tls::ClientCertificate;
use crate::tokens::Tokens;
use crate::whole;

/// Largest head of a request: line and headers.
const MAX_HEAD: usize = 16 * 1024;
/// Longest `X-Request-Id` that is taken over.
const MAX_REQUEST_ID: usize = 128;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What a handler answers.
pub(crate) type Answer = Result<Response<Body>, Problem>;

/// What the application needs.
#[derive(Clone)]
pub struct Ports {
    /// The engine.
    pub tasks: Arc<dyn Tasks>,
    /// The queued callbacks.
    pub outbox: Arc<dyn Outbox>,
    /// Where the face's own rows are kept: tokens, endpoints, the audit log.
    pub store: Arc<dyn Store>,
    /// The messages that came in.
    pub inbox: Arc<dyn Inbox>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance, for request ids.
    pub random: Arc<dyn Random>,
    /// What the engine does not know.
    pub desk: Arc<dyn Desk>,
}

/// Who may come in. Can be replaced while serving.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Bearer tokens.
    pub tokens: Vec<Token>,
    /// Hooks.
    pub hooks: Vec<Hook>,
    /// Chats.
    pub chats: Vec<Chat>,
    /// Certificates of clients.
    pub certificates: Vec<ClientCertificate>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Networks that are not public and that endpoints made by API may name in `allow_private`.
    pub endpoint_networks: Vec<IpNet>,
}

/// The application. Clones are the same.
#[derive(Clone)]
pub struct App(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) ports: Ports,
    pub(crate) endpoints: Endpoints,
    pub(crate) schemas: Schemas,
    pub(crate) links: Links,
    pub(crate) metrics: Metrics,
    pub(crate) tokens: Tokens,
    pub(crate) audit: Audit,
    pub(crate) draining: CancellationToken,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) body_time: Duration,
    pub(crate) strangers: Room,
    pub(crate) callers: Room,
    pub(crate) sender: Sender,
    /// The text of `/openapi.json`.
    pub(crate) openapi: Bytes,
    pub(crate) token_limit: Option<Limiter>,
    pub(crate) hook_limit: Option<Limiter>,
    /// What all chats share.
    pub(crate) desk: follow::Desk,
    /// Where Mattermost's buttons post to.
    pub(crate) chat_url: Option<String>,
    access: RwLock<Arc<Access>>,
}

impl App {
    /// Puts the application together.
    ///
    /// # Errors
    /// Every mistake: doubled names, hooks that name no workflow, schemas that do not compile; and rows that cannot be read.
    pub fn new(
        ports: Ports,
        access: Access,
        endpoints: Endpoints,
        config: &HttpConfig,
        metrics: Metrics,
    ) -> Result<Self, Vec<Mistake>> {
        let schemas = Schemas::new(&ports.tasks.workflows())?;
        let unread = |error: ReadError| vec![Mistake::new("store", error.to_string())];
        let tokens = Tokens::open(ports.store.clone()).map_err(unread)?;
        let audit = Audit::open(ports.store.clone()).map_err(unread)?;
        whole::check(&access, &tokens.all(), &schemas.list(), &endpoints)?;
        let limiter = |kind, rate: Option<_>| rate.map(|rate| Limiter::new(kind, rate, ports.clock.clone()));
        let chat_url = config
            .public_url
            .as_ref()
            .map(|base| format!("{}/v1/chat/mattermost", base.as_str().trim_end_matches('/')));
        let inner = Inner {
            desk: follow::Desk::new(&*ports.random),
            chat_url,
            openapi: openapi::document(
                &ports.tasks.workflows(),
                config.public_url.as_ref().map(url::Url::as_str),
            )
            .to_string()
            .into(),
            token_limit: limiter("token", config.rates.token),
            hook_limit: limiter("hook", config.rates.hook),
            ports,
            endpoints,
            schemas,
            tokens,
            audit,
            links: Links::new(config.public_url.as_ref()),
            metrics,
            draining: CancellationToken::new(),
            sender: Sender::new(Patience::default()),
            streams: Arc::new(Semaphore::new(config.max_streams)),
            body_time: config.body_timeout,
            strangers: Room::for_strangers(),
            callers: Room::for_callers(),
            access: RwLock::new(Arc::new(access)),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Puts other tokens and hooks in place; requests that have begun keep the old ones.
    ///
    /// # Errors
    /// Every mistake; then nothing has changed.
    pub fn replace(&self, access: Access) -> Result<(), Vec<Mistake>> {
        whole::check(&access, &self.0.tokens.all(), &self.0.schemas.list(), &self.0.endpoints)?;
        self.put(access);
        Ok(())
    }

    /// Puts other tokens, hooks and endpoints in place, all or nothing; hooks may name the new endpoints.
    ///
    /// # Errors
    /// Every mistake; then nothing has changed.
    pub fn reload(&self, access: Access, endpoints: Vec<Endpoint>) -> Result<(), Vec<Mistake>> {
        let made_by_api = self.0.endpoints.made_by_api();
        let fresh = Endpoints::new(endpoints.iter().cloned().chain(made_by_api).collect())?;
        whole::check(&access, &self.0.tokens.all(), &self.0.schemas.list(), &fresh)?;
        self.0.endpoints.replace(endpoints)?;
        self.put(access);
        Ok(())
    }

    fn access(&self) -> Arc<Access> {
        Arc::clone(&self.0.access.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, access: Access) {
        *self.0.access.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(access);
    }

    /// Tells the ends of tasks that people in chats asked for before this life began. Once, when the unfinished tasks are known again.
    ///
    /// # Errors
    /// When the tasks cannot be read.
    pub fn tell_chats(&self) -> Result<(), ReadError> {
        follow::resume(&self.0, &self.access().chats)
    }

    /// From now on `readyz` says no, long polls answer and streams end.
    pub(crate) fn drain(&self) {
        self.0.draining.cancel();
    }

    /// Resolves when nothing of the audit log waits to be written.
    pub(crate) async fn flushed(&self) {
        self.0.audit.flush().await;
    }

    /// Answers a request.
    pub(crate) async fn handle<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Unpin + Send,
    {
        let (began, _in_flight) = (Instant::now(), self.0.metrics.in_flight());
        let (parts, body) = request.into_parts();
        let id = request_id(&parts.headers, &*self.0.ports.random);
        let routed = route(&parts.method, parts.uri.path());
        let name = if let Routed::Found(found) = &routed { found.name() } else { "none" };
        let access = self.access();
        let own = self.0.tokens.all();
        let cx = Cx {
            app: &self.0,
            parts: &parts,
            access: &access,
            own: &own,
            seen: OnceLock::new(),
            did: OnceLock::new(),
        };
        let answer = AssertUnwindSafe(self.answer(routed, &cx, body)).catch_unwind().await;
        let answer = answer.unwrap_or_else(|_| {
            tracing::error!(target: "kedge::http", route = name, request = id, "a handler panicked");
            Err(Problem::internal())
        });
        let mut response = answer.unwrap_or_else(|problem| problem.into_response(&id));
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::from_str(&id) {
            headers.insert(REQUEST_ID, id);
        }
        let by = cx.seen.get().map(|(by, standing)| {
            standing.iter().for_each(|standing| standing.tell(headers));
            by.as_str()
        });
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        let location = response.headers().get(header::LOCATION).and_then(|path| path.to_str().ok());
        let task = location.and_then(|path| path.strip_prefix("/v1/tasks/")).map(str::to_owned);
        self.note(&cx, name, &id, response.status(), task).await;
        #[cfg(test)]
        openapi::tests::conforms(name, &parts.method, &response);
        let (status, time) = (response.status().as_u16(), began.elapsed());
        self.0.metrics.request(name, status, time);
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(target: "kedge::http", method = %parts.method, route = name, status, ms, by, request = id, "request");
        response
    }

    /// Keeps who changed what, or was refused it.
    async fn note(&self, cx: &Cx<'_>, action: &str, request: &str, status: StatusCode, task: Option<String>) {
        let changes = !matches!(cx.parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
        let Some((by, _)) = cx.seen.get().filter(|_| changes) else { return };
        // Most of what is written in a chat changes nothing.
        let (action, task) = match (action, cx.did.get()) {
            ("chat", None) => return,
            ("chat", Some((did, of))) => (*did, of.clone()),
            _ => (action, task),
        };
        let entry = Entry {
            at: self.0.ports.clock.now(),
            by: by.clone(),
            from: cx.from().map(|from| from.to_string()),
            action: action.to_owned(),
            target: cx.parts.uri.path().to_owned(),
            status: status.as_u16(),
            request: request.to_owned(),
            task,
        };
        // New tasks name who asked in the journal already: their answer need not wait for this too.
        let durable = !matches!(action, "hook" | "create_task");
        self.0.audit.append(entry, durable).await;
    }

    async fn answer<B>(&self, routed: Routed, cx: &Cx<'_>, body: B) -> Answer
    where
        B: HttpBody<Data = Bytes> + Unpin + Send,
    {
        check_head(cx.parts)?;
        let route = match routed {
            Routed::Found(route) => route,
            Routed::Nothing(detail) => return Err(Problem::not_found(detail)),
            Routed::Options(allow) => return Ok(options(allow)),
            Routed::OtherMethod(allow) => {
                let detail = format!("only {allow} can be used here");
                let title = "This method is not for this path";
                return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", title, detail)
                    .header(header::ALLOW, allow));
            }
        };
        match route {
            Route::Hook(name) => handlers::hooks::receive(cx, &name, body).await,
            Route::Explain(name) => handlers::inbox::explain(cx, &name, body).await,
            Route::Chat(platform) => handlers::chat::receive(cx, platform, body).await,
            Route::Inbox => handlers::inbox::list(cx),
            Route::Received(id) => handlers::inbox::show(cx, &id),
            Route::ReplayReceived(id) => handlers::inbox::replay(cx, &id).await,
            Route::CreateTask => handlers::create::create(cx, body).await,
            Route::Tasks => handlers::tasks::list(cx),
            Route::Task(id) => handlers::tasks::show(cx, &id).await,
            Route::Events(id) => handlers::events::events(cx, &id),
            Route::Graph(id) => handlers::tasks::graph(cx, &id),
            Route::Log(id, step) => handlers::tasks::log(cx, &id, &step),
            Route::Login(id) => handlers::login::show(cx, &id).await,
            Route::Cancel(id) => handlers::verbs::cancel(cx, &id, body).await,
            Route::Retry(id) => handlers::verbs::retry(cx, &id, body).await,
            Route::Undo(id) => handlers::verbs::undo(cx, &id, body).await,
            Route::Approve(id) => handlers::verbs::decide(cx, &id, true, body).await,
            Route::Refuse(id) => handlers::verbs::decide(cx, &id, false, body).await,
            Route::Resolve(id) => handlers::verbs::resolve(cx, &id, body).await,
            Route::Workflows => handlers::resources::workflows(cx),
            Route::Workflow(name) => handlers::resources::workflow(cx, &name),
            Route::Records(family) => handlers::resources::records(cx, family),
            Route::Record(family, name) => handlers::resources::record(cx, family, &name),
            Route::Archive(name) => handlers::archives::download(cx, &name).await,
            Route::MakePlatform => handlers::platforms::make(cx, body).await,
            Route::RemovePlatform(name) => handlers::platforms::remove(cx, &name).await,
            Route::Compare(from, to) => handlers::compare::platforms(cx, &from, &to).await,
            Route::Locks => handlers::resources::locks(cx),
            Route::Endpoints => handlers::endpoints::list(cx),
            Route::MakeEndpoint => handlers::endpoints::make(cx, body).await,
            Route::Endpoint(name) => handlers::endpoints::show(cx, &name),
            Route::ChangeEndpoint(name) => handlers::endpoints::change(cx, &name, body).await,
            Route::RemoveEndpoint(name) => handlers::endpoints::remove(cx, &name).await,
            Route::EndpointVerb(name, verb) => handlers::endpoints::verb(cx, &name, verb, body).await,
            Route::Keys => Ok(handlers::endpoints::keys(cx)),
            Route::Deliveries => handlers::deliveries::list(cx),
            Route::Delivery(id) => handlers::deliveries::show(cx, &id),
            Route::Replay(id) => handlers::deliveries::replay(cx, &id).await,
            Route::Tokens => handlers::tokens::list(cx),
            Route::MakeToken => handlers::tokens::make(cx, body).await,
            Route::Token(name) => handlers::tokens::show(cx, &name),
            Route::RevokeToken(name) => handlers::tokens::revoke(cx, &name).await,
            Route::Audit => handlers::audit::list(cx),
            Route::Live => Ok(handlers::health::live()),
            Route::Ready => handlers::health::ready(cx),
            Route::Metrics => handlers::health::metrics(cx),
            Route::OpenApi => Ok(handlers::health::openapi(cx)),
        }
    }
}

/// What may be asked of a path: told to everybody, since it says nothing but the route table.
fn options(allow: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().extend(HeaderValue::from_str(allow).ok().map(|allow| (header::ALLOW, allow)));
    response
}

fn check_head(parts: &Parts) -> Result<(), Problem> {
    let path = parts.uri.path_and_query().map_or(0, |path| path.as_str().len());
    let headers: usize =
        parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if path + headers <= MAX_HEAD {
        return Ok(());
    }
    let detail = format!("the request line and the headers may have {MAX_HEAD} bytes together");
    let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    Err(Problem::new(status, "head-too-large", "The headers are too large", detail)
        .header(header::CONNECTION, "close"))
}

/// The caller's `X-Request-Id` if it is a harmless word, else one of ours.
fn request_id(headers: &HeaderMap, random: &dyn Random) -> String {
    let ok = |id: &&str| {
        let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        !id.is_empty() && id.len() <= MAX_REQUEST_ID && id.bytes().all(word)
    };
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(ok);
    given.map_or_else(|| format!("req_{}", hex::encode(random.id())), str::to_owned)
}
