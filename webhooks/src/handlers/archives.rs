//! `GET /v1/backups/{name}/archive`: a backup as a file, for those who may restore it: it has everything of its site.

use std::future::ready;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt as _;
use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue,
};
use http::{Response, StatusCode};

use crate::app::Answer;
use crate::auth::Verb;
use crate::body::Body;
use crate::cx::Cx;
use crate::desk::DeskError;
use crate::handlers::Query;
use crate::handlers::resources::find_record;
use crate::problem::Problem;
use crate::route::Family;

/// SHA-256 of what is sent. Source: RFC 9530.
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

pub(crate) async fn download(cx: &Cx<'_>, name: &str) -> Answer {
    let token = cx.token()?;
    Query::new(cx, &[])?;
    let record = find_record(cx, Family::Backups, name)?;
    token.demand(Verb::Create, "restore")?;
    let archive = cx.app.ports.desk.archive(name).await.map_err(refusal)?;
    tracing::info!(target: "kedge::audit", backup = name, token = token.name(), bytes = archive.bytes, "the archive is sent");
    // Whoever has got fewer bytes than were announced knows that something is missing.
    let whole = archive.stream.scan((), |(), piece| {
        let told = |error| tracing::error!(target: "kedge::http", %error, "an archive does not read on");
        ready(piece.map_err(told).ok())
    });
    let mut response = Response::new(Body::stream(whole));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind(name)));
    headers.insert(CONTENT_LENGTH, archive.bytes.into());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let named = HeaderValue::from_str(&format!("attachment; filename=\"{name}\""));
    headers.extend(named.ok().map(|named| (CONTENT_DISPOSITION, named)));
    let digest = record["sha256"].as_str().and_then(|hash| hex::decode(hash).ok());
    let digest =
        digest.and_then(|hash| HeaderValue::from_str(&format!("sha-256=:{}:", STANDARD.encode(hash))).ok());
    headers.extend(digest.map(|digest| (REPR_DIGEST, digest)));
    Ok(response)
}

fn kind(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("zst") => "application/zstd",
        Some("gz") => "application/gzip",
        _ => "application/x-tar",
    }
}

fn refusal(error: DeskError) -> Problem {
    match error {
        DeskError::Unknown(detail) | DeskError::Refused(detail) => Problem::not_found(detail),
        DeskError::Unfit(_) => Problem::internal(),
        DeskError::Failed(why) => {
            tracing::error!(target: "kedge::http", why, "an archive cannot be read");
            Problem::unavailable("the archive cannot be read at the moment", 30)
        }
    }
}
