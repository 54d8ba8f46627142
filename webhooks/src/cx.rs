//! A request as handlers see it: who asks, from where, and its body within its bounds. Knows no routes.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::OnceLock;

use bytes::Bytes;
use http::header;
use http::request::Parts;
use hyper::body::Body as HttpBody;
use kedge_engine::task::TaskId;

use crate::app::{Access, Inner};
use crate::auth::{Token, authenticate};
use crate::body::{Bounds, MAX_BODY};
use crate::limits::{Limiter, Standing};
use crate::problem::Problem;
use crate::proxy;
use crate::room::Sender;
use crate::server::Peer;
use crate::tokens::OwnToken;
use crate::trace;

/// A request as handlers see it.
pub(crate) struct Cx<'a> {
    pub(crate) app: &'a Inner,
    pub(crate) parts: &'a Parts,
    pub(crate) access: &'a Access,
    /// The tokens made by API.
    pub(crate) own: &'a [OwnToken],
    /// Who asks, once it is known, and where that leaves their rate.
    pub(super) seen: OnceLock<(String, Option<Standing>)>,
    /// What a chat message did, and with which task: its path says neither.
    pub(super) did: OnceLock<(&'static str, Option<String>)>,
}

impl Cx<'_> {
    /// The token that asks.
    ///
    /// # Errors
    /// 401, or 429 when it asks too often.
    pub(crate) fn token(&self) -> Result<&Token, Problem> {
        let own = self.own.iter().map(|own| &own.token);
        let all = self.access.tokens.iter().chain(own);
        let (now, from) = (self.app.ports.clock.now(), self.from());
        // A token that is sent counts; a certificate speaks for who sends none.
        let by_certificate = || {
            let peer = self.parts.extensions.get::<Peer>()?;
            let presented = peer.certificate.as_deref()?;
            let mut grants = self.access.certificates.iter().filter_map(|known| known.grant(presented));
            grants.find(|grant| grant.counts(now, from))
        };
        let silent = !self.parts.headers.contains_key(header::AUTHORIZATION);
        let token = match by_certificate().filter(|_| silent) {
            Some(token) => token,
            None => authenticate(all, &self.parts.headers, now, from)?,
        };
        self.admit(token.kind(), token.name(), self.app.token_limit.as_ref())?;
        Ok(token)
    }

    /// Notes that a hook's message is verified.
    ///
    /// # Errors
    /// 429 when there are too many of them.
    pub(crate) fn hook(&self, name: &str) -> Result<(), Problem> {
        self.admit("hook", name, self.app.hook_limit.as_ref())
    }

    /// Notes who it is that writes or presses something in a chat.
    ///
    /// # Errors
    /// 429 when they do so too often: counted as a token's requests are.
    pub(crate) fn person(&self, chat: &str, name: &str) -> Result<(), Problem> {
        self.admit("chat", &format!("{chat}/{name}"), self.app.token_limit.as_ref())
    }

    /// Notes what a person in a chat changed, for the audit log.
    pub(crate) fn did(&self, what: &'static str, task: Option<&TaskId>) {
        self.did.get_or_init(|| (what, task.map(ToString::to_string)));
    }

    /// Counts a request once, however often its handler asks who it is.
    fn admit(&self, kind: &str, name: &str, limit: Option<&Limiter>) -> Result<(), Problem> {
        if self.seen.get().is_some() {
            return Ok(());
        }
        let standing = limit.map(|limit| limit.charge(name)).transpose()?;
        self.seen.get_or_init(|| (format!("{kind}:{name}"), standing));
        Ok(())
    }

    /// The address of whoever asks: who connected, or whom a trusted proxy names.
    pub(crate) fn from(&self) -> Option<IpAddr> {
        let peer = self.parts.extensions.get::<Peer>()?.address.ip();
        Some(proxy::client(peer, &self.parts.headers, &self.access.trusted_proxies))
    }

    /// The caller's trace context.
    pub(crate) fn trace(&self) -> Option<String> {
        trace::incoming(&self.parts.headers)
    }

    pub(crate) async fn body<B: HttpBody<Data = Bytes> + Unpin>(&self, body: B) -> Result<Bytes, Problem> {
        self.body_within(body, MAX_BODY).await
    }

    /// The body, of at most so many bytes.
    pub(crate) async fn body_within<B: HttpBody<Data = Bytes> + Unpin>(
        &self,
        body: B,
        size: usize,
    ) -> Result<Bytes, Problem> {
        let stranger = || Sender::at(self.from().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
        let (room, of) = match self.seen.get() {
            Some((name, _)) => (&self.app.callers, Sender::Known(name.clone())),
            None => (&self.app.strangers, stranger()),
        };
        let bounds = Bounds { size, time: self.app.body_time, room, of };
        crate::body::read(&self.parts.headers, body, bounds).await
    }
}
