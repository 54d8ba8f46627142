//! One attempt to hand a callback over: signs it, posts it, reads a bounded answer, and says in words what went wrong.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use kedge_engine::outbox::Callback;
use kedge_engine::task::Millis;
use reqwest::{Client, Response, StatusCode, header};
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::deliver::guard::{Forbidden, GuardedResolver, check_literal};
use crate::desk::Desk;
use crate::endpoint::{Endpoint, Kind};
use crate::key::Key;
use crate::provider::Provider;
use crate::status::Writer;
use crate::trace;

/// What is read of an answer: it is shown to people, and endless ones exist.
const MAX_READ: usize = 16 * 1024;
/// Characters kept of an answer.
const MAX_KEPT: usize = 500;
/// Longest error text kept.
const MAX_ERROR: usize = 300;
/// How long an idle connection to a receiver is kept.
const IDLE: Duration = Duration::from_secs(30);

/// How long an attempt may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// To connect.
    pub connect: Duration,
    /// In all.
    pub total: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), total: Duration::from_secs(15) }
    }
}

/// What came of an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) status: Option<u16>,
    pub(crate) error: Option<String>,
    pub(crate) answer: String,
    pub(crate) retry_after_s: Option<u64>,
    /// Trying again makes no sense.
    pub(crate) for_good: bool,
}

impl Outcome {
    pub(crate) fn failed(error: impl Into<String>) -> Self {
        let error: String = error.into();
        Self { error: Some(error.chars().take(MAX_ERROR).collect()), ..Self::default() }
    }

    pub(crate) fn is_delivered(&self) -> bool {
        self.error.is_none()
    }

    /// The receiver wants nothing more, ever.
    pub(crate) fn is_gone(&self) -> bool {
        self.status == Some(410)
    }
}

/// Posts callbacks. Keeps a client for each endpoint, whose resolver knows that endpoint's networks.
pub(crate) struct Sender {
    patience: Patience,
    clients: Mutex<HashMap<String, (Vec<IpNet>, Client)>>,
    /// Who knows login links, for mail.
    desk: OnceLock<Arc<dyn Desk>>,
}

impl Sender {
    pub(crate) fn new(patience: Patience) -> Self {
        Self { patience, clients: Mutex::default(), desk: OnceLock::new() }
    }

    /// Login links are asked for here.
    pub(crate) fn ask(&self, desk: Arc<dyn Desk>) {
        self.desk.get_or_init(|| desk);
    }

    /// Posts a callback once.
    pub(crate) async fn send(
        &self,
        endpoint: &Endpoint,
        signing: Option<&Key>,
        url: &Url,
        callback: &Callback,
        now: Millis,
    ) -> Outcome {
        if let Kind::Mail(mail) = &endpoint.kind {
            return match mail.smtp.send(callback, self.desk.get().map(|desk| &**desk)).await {
                Ok(answer) => Outcome { answer, ..Outcome::default() },
                Err(failed) => Outcome { for_good: failed.for_good, ..Outcome::failed(failed.why) },
            };
        }
        if let Err(forbidden) = check_literal(url, &endpoint.allow_private) {
            return Outcome::failed(forbidden.to_string());
        }
        let client = match self.client(endpoint) {
            Ok(client) => client,
            Err(error) => return Outcome::failed(format!("no HTTP client: {}", root(&error))),
        };
        let body = callback.body.clone();
        let mut request = client.post(url.clone()).header(header::CONTENT_TYPE, content_type(&body));
        if let Kind::Forge(writer) = &endpoint.kind {
            let (name, value) = writer.header();
            request = request.header(name, value).header(header::ACCEPT, "application/json");
        } else if !endpoint.form.is_chat() {
            let mut keys = endpoint.keys_at(now);
            keys.extend(signing.cloned());
            for (name, value) in Provider::Standard.sign(&keys, &callback.id, now / 1000, body.as_bytes()) {
                request = request.header(name, value);
            }
        }
        let attempt = callback.attempts + 1;
        request = request.header("webhook-attempt", attempt);
        let span = |trace: &String| trace::child(trace, &format!("{} {attempt}", callback.id));
        if let Some(trace) = callback.trace.as_ref().and_then(span) {
            request = request.header("traceparent", trace);
        }
        let deadline = Instant::now() + self.patience.total;
        match timeout_at(deadline, request.body(body).send()).await {
            Ok(Ok(response)) => {
                let outcome = read(response, deadline, now).await;
                let has_it = |writer: &Writer| writer.has_it(outcome.status, &outcome.answer);
                let done = matches!(&endpoint.kind, Kind::Forge(writer) if has_it(writer));
                if done { Outcome { error: None, ..outcome } } else { outcome }
            }
            Ok(Err(error)) => Outcome::failed(self.words(&error)),
            Err(_) => Outcome::failed(format!("no answer within {} s", self.patience.total.as_secs_f32())),
        }
    }

    fn client(&self, endpoint: &Endpoint) -> Result<Client, reqwest::Error> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((allowed, client)) = clients.get(&endpoint.name)
            && *allowed == endpoint.allow_private
        {
            return Ok(client.clone());
        }
        let client = Client::builder()
            .user_agent(concat!("kedge/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .connect_timeout(self.patience.connect)
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(IDLE)
            .dns_resolver(Arc::new(GuardedResolver { allowed: endpoint.allow_private.clone() }))
            .build()?;
        clients.insert(endpoint.name.clone(), (endpoint.allow_private.clone(), client.clone()));
        Ok(client)
    }

    /// What went wrong, without the URL: its path may be secret.
    fn words(&self, error: &reqwest::Error) -> String {
        if let Some(forbidden) = causes(error).find_map(|cause| cause.downcast_ref::<Forbidden>()) {
            return forbidden.to_string();
        }
        if error.is_timeout() && error.is_connect() {
            return format!("no connection within {} s", self.patience.connect.as_secs_f32());
        }
        let what = if error.is_connect() { "cannot connect" } else { "the exchange broke off" };
        format!("{what}: {}", root(error))
    }
}

/// A CloudEvent says so; the bytes decide, since they are as they were when the callback was queued.
fn content_type(body: &str) -> &'static str {
    #[derive(serde::Deserialize)]
    struct Head {
        specversion: Option<String>,
    }
    let head: Option<Head> = serde_json::from_str(body).ok();
    if head.is_some_and(|head| head.specversion.is_some()) {
        "application/cloudevents+json; charset=utf-8"
    } else {
        "application/json"
    }
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause| (*cause).source())
}

/// The innermost cause: reqwest's own text holds the URL.
fn root(error: &reqwest::Error) -> String {
    causes(error).last().map_or_else(|| "the request could not be made".to_owned(), ToString::to_string)
}

/// Reads what is needed of an answer. A receiver that says 2xx has the callback, however its answer ends.
async fn read(mut response: Response, deadline: Instant, now: Millis) -> Outcome {
    let status = response.status();
    let retry_after_s =
        response.headers().get(header::RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?, now));
    let mut bytes: Vec<u8> = Vec::new();
    while bytes.len() < MAX_READ {
        match timeout_at(deadline, response.chunk()).await {
            Ok(Ok(Some(chunk))) => bytes.extend_from_slice(&chunk[..chunk.len().min(MAX_READ - bytes.len())]),
            Ok(Ok(None) | Err(_)) | Err(_) => break,
        }
    }
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let answer = String::from_utf8_lossy(&bytes).chars().take(MAX_KEPT).map(printable).collect();
    Outcome {
        status: Some(status.as_u16()),
        error: complaint(status),
        answer,
        retry_after_s,
        for_good: false,
    }
}

fn complaint(status: StatusCode) -> Option<String> {
    if status.is_success() {
        return None;
    }
    let number = status.as_u16();
    Some(match number {
        300..=399 => format!("it answered {number}: redirects are not followed; configure the URL they lead to"),
        410 => "it answered 410 Gone: nothing more is sent to it until it is enabled again, a delivery is replayed or the configuration is loaded anew".to_owned(),
        _ => format!("it answered {number}"),
    })
}

/// Seconds, from a number or an HTTP date.
fn retry_after(text: &str, now: Millis) -> Option<u64> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(seconds);
    }
    let at: Timestamp = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp();
    let at = u64::try_from(at.as_millisecond()).ok()?;
    Some(at.saturating_sub(now).div_ceil(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_a_number_or_a_date() {
        let now = 784_111_777_000; // Sun, 06 Nov 1994 08:49:37 GMT
        assert_eq!(retry_after("120", now), Some(120));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:50:00 GMT", now), Some(23));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(0));
        assert_eq!(retry_after("soon", now), None);
    }

    #[test]
    fn answers_are_explained() {
        assert_eq!(complaint(StatusCode::NO_CONTENT), None);
        assert!(complaint(StatusCode::FOUND).unwrap().contains("redirects are not followed"));
        assert!(complaint(StatusCode::GONE).unwrap().contains("nothing more is sent"));
        assert_eq!(complaint(StatusCode::IM_A_TEAPOT).unwrap(), "it answered 418");
    }
}
