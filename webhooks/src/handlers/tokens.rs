//! `/v1/tokens`: made, listed and revoked by those with the scope `admin`. A secret is shown once, when its token is made.

use bytes::Bytes;
use http::{Response, StatusCode, header};
use hyper::body::Body as HttpBody;
use kedge_engine::task::Millis;
use serde_json::{Value, json};

use crate::api;
use crate::app::Answer;
use crate::auth::{Token, TokenSpec};
use crate::body::Body;
use crate::cx::Cx;
use crate::fields::Fields;
use crate::handlers::{self, Query, create};
use crate::json;
use crate::problem::{Fault, Problem};
use crate::tokens::{NotMade, OwnToken};

/// Longest name.
const MAX_NAME: usize = 64;
/// Most scopes, sites or networks of a token, and the longest of them: a stored token has to fit a value of the store.
const MAX_ENTRIES: usize = 20;
const MAX_ENTRY: usize = 100;

pub(crate) fn list(cx: &Cx<'_>) -> Answer {
    cx.token()?.demand_admin()?;
    Query::new(cx, &[])?;
    let configured = cx.access.tokens.iter().map(|token| shown(token, None));
    let own = cx.own.iter().map(|own| shown(&own.token, Some(own)));
    Ok(handlers::json(StatusCode::OK, &json!({ "tokens": configured.chain(own).collect::<Vec<_>>() })))
}

pub(crate) fn show(cx: &Cx<'_>, name: &str) -> Answer {
    cx.token()?.demand_admin()?;
    Query::new(cx, &[])?;
    let configured =
        cx.access.tokens.iter().find(|token| token.name() == name).map(|token| shown(token, None));
    let own = || cx.own.iter().find(|own| own.token.name() == name).map(|own| shown(&own.token, Some(own)));
    let found = configured.or_else(own).ok_or_else(nothing)?;
    Ok(handlers::json(StatusCode::OK, &found))
}

pub(crate) async fn make<B: HttpBody<Data = Bytes> + Unpin>(cx: &Cx<'_>, body: B) -> Answer {
    let by = cx.token()?;
    by.demand_admin()?;
    Query::new(cx, &[])?;
    create::content_type(&cx.parts.headers)?;
    let body = cx.body(body).await?;
    let now = cx.app.ports.clock.now();
    let spec = read(json::parse(&body).map_err(|error| Problem::json(&error))?, now)?;
    if cx.access.tokens.iter().any(|token| token.name() == spec.name) {
        return Err(taken());
    }
    let by = by.principal();
    let (own, secret) = cx.app.tokens.make(spec, now, &by).await.map_err(refusal)?;
    let mut value = shown(&own.token, Some(&own));
    value["secret"] = json!(secret);
    let mut response = handlers::json(StatusCode::CREATED, &value);
    let path = header::HeaderValue::from_str(&format!("/v1/tokens/{}", own.token.name()));
    response.headers_mut().extend(path.ok().map(|path| (header::LOCATION, path)));
    Ok(response)
}

pub(crate) async fn revoke(cx: &Cx<'_>, name: &str) -> Answer {
    cx.token()?.demand_admin()?;
    Query::new(cx, &[])?;
    if cx.access.tokens.iter().any(|token| token.name() == name) {
        let detail = "the token is in the configuration: take it out there, and send the process a SIGHUP";
        return Err(Problem::new(StatusCode::CONFLICT, "configured", "Not to be revoked here", detail));
    }
    match cx.app.tokens.revoke(name).await {
        Ok(true) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(response)
        }
        Ok(false) => Err(nothing()),
        Err(error) => Err(handlers::unstored(&error)),
    }
}

fn read(body: Value, now: Millis) -> Result<TokenSpec, Problem> {
    let mut fields = Fields::new(body);
    let name = fields.text("name", MAX_NAME);
    fields.require("name", name.as_ref());
    let scopes = fields.texts("scopes", MAX_ENTRIES, MAX_ENTRY);
    fields.require("scopes", scopes.as_ref());
    let sites = fields.texts("sites", MAX_ENTRIES, MAX_ENTRY);
    let networks = fields.texts("networks", MAX_ENTRIES, MAX_ENTRY);
    let expires_at = fields.text("expires_at", MAX_NAME).and_then(|text| match handlers::moment(&text) {
        Some(at) if at > now => Some(at),
        _ => {
            fields.fault("expires_at", "is a time to come, such as 2030-01-01T00:00:00Z");
            None
        }
    });
    fields.finish().map_err(unfit)?;
    Ok(TokenSpec {
        name: name.unwrap_or_default(),
        secret: None,
        scopes: scopes.unwrap_or_default(),
        sites: sites.unwrap_or_else(|| vec!["*".to_owned()]),
        networks: networks.unwrap_or_default(),
        expires_at,
    })
}

fn refusal(error: NotMade) -> Problem {
    match error {
        NotMade::Mistakes(mistakes) => unfit(mistakes.iter().map(handlers::fault_of).collect()),
        NotMade::Taken => taken(),
        NotMade::Full => Problem::new(
            StatusCode::CONFLICT,
            "full",
            "There are too many tokens",
            "revoke tokens that nobody uses any more",
        ),
        NotMade::Failed(why) => {
            tracing::error!(target: "kedge::http", why, "a token could not be made");
            Problem::unavailable("it could not be stored; there is no new token", 30)
        }
    }
}

fn unfit(faults: Vec<Fault>) -> Problem {
    Problem::invalid("the body is no token that could be made", faults)
}

fn taken() -> Problem {
    let detail = "there is a token of this name; take another name, or revoke that one first";
    Problem::new(StatusCode::CONFLICT, "taken", "The name is taken", detail)
}

fn nothing() -> Problem {
    Problem::not_found("there is no token of this name; GET /v1/tokens lists them")
}

fn shown(token: &Token, own: Option<&OwnToken>) -> Value {
    let spec = token.spec();
    json!({
        "name": token.name(),
        "source": if own.is_some() { "api" } else { "configuration" },
        "scopes": spec.scopes,
        "sites": spec.sites,
        "networks": spec.networks,
        "expires_at": spec.expires_at.map(api::time),
        "created_at": own.map(|own| api::time(own.created_at)),
        "created_by": own.map(|own| own.created_by.as_str()),
    })
}
