//! A receiver of callbacks on 127.0.0.1: keeps every one with its headers and whether its signature is right.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::signing;

/// A received callback.
#[derive(Clone, Debug)]
pub struct Received {
    /// `webhook-id`.
    pub id: String,
    /// Whether the signature is right.
    pub signed: bool,
    /// The body.
    pub body: Value,
    /// The body as it came.
    pub raw: String,
}

/// A running receiver.
pub struct Receiver {
    /// Where it listens.
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Receiver {
    /// Listens on a free port; answers 204 to everything.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(secret: &str) -> Result<Self> {
        Self::start_on(0, secret).await
    }

    /// Listens on this port.
    ///
    /// # Errors
    /// When it is taken.
    pub async fn start_on(port: u16, secret: &str) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let (kept, secret) = (received.clone(), secret.to_owned());
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, secret) = (kept.clone(), secret.clone());
                tokio::spawn(async move {
                    let service = service_fn(|request| take(request, &kept, &secret));
                    let served = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service);
                    if let Err(error) = served.await {
                        eprintln!("receiver: {error}");
                    }
                });
            }
        });
        Ok(Self { address, received, serving })
    }

    /// Everything that came so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The callback of this type about a task, if it came.
    #[must_use]
    pub fn find(&self, kind: &str, task: &str) -> Option<Received> {
        let about = |one: &Received| one.body["type"] == kind && one.body["data"]["task_id"] == task;
        self.received().into_iter().find(about)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn take(
    request: Request<Incoming>,
    kept: &Mutex<Vec<Received>>,
    secret: &str,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let header = |name: &str| {
        request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let (id, timestamp, signature) =
        (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"));
    let body = match request.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => Bytes::new(),
    };
    let right = signing::sign(secret, &id, &timestamp, &body).unwrap_or_default();
    let signed = signature.split(' ').any(|one| one == right);
    let raw = String::from_utf8_lossy(&body).into_owned();
    let body = serde_json::from_str(&raw).unwrap_or(Value::Null);
    kept.lock().unwrap_or_else(PoisonError::into_inner).push(Received { id, signed, body, raw });
    let mut response = Response::new(Full::default());
    *response.status_mut() = hyper::StatusCode::NO_CONTENT;
    Ok(response)
}
