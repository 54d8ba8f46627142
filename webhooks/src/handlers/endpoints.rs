//! `/v1/endpoints`: receivers of callbacks. Those of the configuration are shown; those made by API are made, changed, rotated, tried and
//! removed here by those with the scope `admin`. A secret is shown once.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Response, StatusCode, header};
use hyper::body::Body as HttpBody;
use ipnet::IpNet;
use kedge_engine::outbox::{Callback, CallbackStatus};
use kedge_engine::task::{Millis, TaskId, TaskState};
use serde_json::{Value, json};

use crate::api;
use crate::app::Answer;
use crate::auth::Verb;
use crate::body::Body;
use crate::cx::Cx;
use crate::endpoint::{Endpoint, Form, Kind, origin};
use crate::fields::Fields;
use crate::handlers::{self, MAX_LIMIT, Query, unreadable};
use crate::notice::Notice;
use crate::own::{NotChanged, Stored};
use crate::problem::{Fault, Problem};
use crate::route::EndpointVerb;

const MAX_NAME: usize = 64;
const MAX_URL: usize = 500;
const MAX_ENTRIES: usize = 20;
const MAX_ENTRY: usize = 100;
const MAX_REASON: usize = 1000;
/// How long an old secret signs beside the new one when nobody says: a day to deploy it.
const GRACE_S: u64 = 86_400;
/// A week, at most.
const MAX_GRACE_S: u64 = 604_800;
/// Callbacks that one call makes due again; the answer says when there are more.
const MAX_RECOVERED: usize = 1000;

pub(crate) fn list(cx: &Cx<'_>) -> Answer {
    cx.token()?.demand_some(Verb::Read)?;
    Query::new(cx, &[])?;
    let all = cx.app.endpoints.all();
    let items: Vec<Value> = all.iter().map(|endpoint| shown(cx, endpoint)).collect();
    Ok(handlers::json(StatusCode::OK, &json!({ "endpoints": items })))
}

pub(crate) fn show(cx: &Cx<'_>, name: &str) -> Answer {
    cx.token()?.demand_some(Verb::Read)?;
    Query::new(cx, &[])?;
    Ok(handlers::json(StatusCode::OK, &shown(cx, &find(cx, name)?)))
}

pub(crate) async fn make<B: HttpBody<Data = Bytes> + Unpin>(cx: &Cx<'_>, body: B) -> Answer {
    let by = admin(cx)?;
    let mut fields = handlers::fields(cx, body, true).await?;
    let name = fields.text("name", MAX_NAME);
    fields.require("name", name.as_ref());
    let change = Change::read(cx, &mut fields);
    fields.require("url", change.url.as_ref());
    fields.finish().map_err(unfit)?;
    let (now, name) = (cx.app.ports.clock.now(), name.unwrap_or_default());
    let mut new = Stored {
        url: String::new(),
        events: None,
        allow_private: Vec::new(),
        full: false,
        form: Form::Standard,
        keys: Vec::new(),
        disabled: None,
        created_at: now,
        created_by: by,
    };
    change.apply(&mut new);
    let secret = with_new_secret(cx, &name, Some(new), now, 0).await?;
    let mut response = secret_of(cx, StatusCode::CREATED, &name, &secret)?;
    let path = header::HeaderValue::from_str(&format!("/v1/endpoints/{name}"));
    response.headers_mut().extend(path.ok().map(|path| (header::LOCATION, path)));
    Ok(response)
}

pub(crate) async fn change<B: HttpBody<Data = Bytes> + Unpin>(cx: &Cx<'_>, name: &str, body: B) -> Answer {
    admin(cx)?;
    let mut fields = handlers::fields(cx, body, true).await?;
    let change = Change::read(cx, &mut fields);
    fields.finish().map_err(unfit)?;
    let done = cx.app.endpoints.change(name, None, |stored, _| {
        change.apply(stored);
        true
    });
    done.await.map_err(refusal)?;
    Ok(handlers::json(StatusCode::OK, &shown(cx, &find(cx, name)?)))
}

pub(crate) async fn remove(cx: &Cx<'_>, name: &str) -> Answer {
    admin(cx)?;
    cx.app.endpoints.change(name, None, |_, _| false).await.map_err(refusal)?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

pub(crate) async fn verb<B: HttpBody<Data = Bytes> + Unpin>(
    cx: &Cx<'_>,
    name: &str,
    verb: EndpointVerb,
    body: B,
) -> Answer {
    admin(cx)?;
    let endpoint = find(cx, name)?;
    let needed = verb == EndpointVerb::Recover;
    let mut fields = handlers::fields(cx, body, needed).await?;
    match verb {
        EndpointVerb::Rotate => {
            let grace_s = fields.whole("grace_seconds", MAX_GRACE_S).unwrap_or(GRACE_S);
            fields.finish().map_err(unfit)?;
            let now = cx.app.ports.clock.now();
            let secret = with_new_secret(cx, name, None, now, grace_s * 1000).await?;
            secret_of(cx, StatusCode::OK, name, &secret)
        }
        EndpointVerb::Enable => {
            fields.finish().map_err(unfit)?;
            cx.app.endpoints.set_disabled(name, None).await;
            Ok(handlers::json(StatusCode::OK, &shown(cx, &endpoint)))
        }
        EndpointVerb::Disable => {
            let reason = fields.text("reason", MAX_REASON);
            fields.finish().map_err(unfit)?;
            let reason = reason.unwrap_or_else(|| "somebody disabled it".to_owned());
            cx.app.endpoints.set_disabled(name, Some(&reason)).await;
            Ok(handlers::json(StatusCode::OK, &shown(cx, &endpoint)))
        }
        EndpointVerb::Test => {
            fields.finish().map_err(unfit)?;
            test(cx, &endpoint).await
        }
        EndpointVerb::Recover => {
            let since = fields.text("since", MAX_NAME);
            fields.require("since", since.as_ref());
            let since = since.and_then(|text| {
                let at = handlers::moment(&text);
                if at.is_none() {
                    fields.fault("since", "is a time such as 2026-11-22T16:00:00Z");
                }
                at
            });
            fields.finish().map_err(unfit)?;
            recover(cx, name, since.unwrap_or(0)).await
        }
    }
}

/// The public keys of asymmetric signatures, as a JWK set; `whpk` is the same as Standard Webhooks writes it.
pub(crate) fn keys(cx: &Cx<'_>) -> Response<Body> {
    let keys = cx.app.endpoints.signing().and_then(crate::key::Key::public_bytes).map(|public| {
        json!({
            "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "x": URL_SAFE_NO_PAD.encode(public),
            "whpk": format!("whpk_{}", STANDARD.encode(public)),
        })
    });
    handlers::json(StatusCode::OK, &json!({ "keys": keys.into_iter().collect::<Vec<_>>() }))
}

/// Sends a test message at once, outside of the queue: whoever asks wants to see what comes of it.
async fn test(cx: &Cx<'_>, endpoint: &Endpoint) -> Answer {
    if endpoint.is_forge() {
        let detail = "a status is written about a commit: send a message to a hook that names this endpoint";
        return Err(Problem::new(StatusCode::CONFLICT, "kind", "There is nothing to test it with", detail));
    }
    let now = cx.app.ports.clock.now();
    let id = format!("msg_{}", hex::encode(cx.app.ports.random.id()));
    let test = Notice {
        event: "endpoint.test",
        subject: "A test",
        text: "This is a test: Kedge reaches you.".to_owned(),
        data: json!({ "endpoint": endpoint.name }),
    };
    let body = test.body(endpoint, &id, &cx.app.links, now).ok_or_else(|| {
        let nobody =
            "it sends login links to whom their tasks name, and has nobody of its own to send a test to";
        Problem::new(StatusCode::CONFLICT, "kind", "There is nobody to send a test to", nobody)
    })?;
    let callback = Callback {
        id,
        task: TaskId::from_bytes([0; 16]),
        sequence: 0,
        endpoint: endpoint.name.clone(),
        event: test.event.to_owned(),
        state: TaskState::Queued,
        body,
        created_at: now,
        attempts: 0,
        trace: cx.trace(),
        status: CallbackStatus::Due { at: now },
    };
    let signing = cx.app.endpoints.signing();
    let outcome = cx.app.sender.send(endpoint, signing, &endpoint.url, &callback, now).await;
    let took = cx.app.ports.clock.now().saturating_sub(now);
    let value = json!({
        "delivered": outcome.is_delivered(), "duration_ms": took, "status": outcome.status, "error": outcome.error,
        "answer": outcome.answer,
    });
    Ok(handlers::json(StatusCode::OK, &value))
}

/// Makes due what the endpoint did not take since a time: what is dead, or waits for a later attempt. Also what went by it to a task's own
/// URL, or to a commit.
async fn recover(cx: &Cx<'_>, name: &str, since: Millis) -> Answer {
    cx.app.endpoints.set_disabled(name, None).await;
    let (outbox, now) = (cx.app.ports.outbox.clone(), cx.app.ports.clock.now());
    let mut before: Option<String> = None;
    let mut replayed = 0;
    loop {
        let page = outbox.callbacks(before.as_deref(), MAX_LIMIT).map_err(|error| unreadable(&error))?;
        let Some(last) = page.last() else { break };
        before = Some(last.id.clone());
        let old = last.created_at < since;
        let by_it = |callback: &Callback| {
            callback.created_at >= since
                && cx
                    .app
                    .endpoints
                    .target(&callback.endpoint)
                    .is_some_and(|(endpoint, _)| endpoint.name == name)
        };
        for callback in page.into_iter().filter(by_it) {
            let wanted = match callback.status {
                CallbackStatus::Dead { .. } => true,
                CallbackStatus::Due { at } => at > now,
                CallbackStatus::Delivered { .. } => false,
            };
            if wanted && replayed >= MAX_RECOVERED {
                return Ok(handlers::json(
                    StatusCode::ACCEPTED,
                    &json!({ "replayed": replayed, "more": true }),
                ));
            }
            if wanted {
                let done =
                    outbox.replay(&callback.id, now).await.map_err(|error| handlers::unstored(&error))?;
                replayed += usize::from(done);
            }
        }
        if old {
            break;
        }
    }
    Ok(handlers::json(StatusCode::ACCEPTED, &json!({ "replayed": replayed, "more": false })))
}

async fn with_new_secret(
    cx: &Cx<'_>,
    name: &str,
    new: Option<Stored>,
    now: Millis,
    grace_ms: u64,
) -> Result<String, Problem> {
    let mut number = [0; 16];
    getrandom::fill(&mut number).map_err(|error| {
        tracing::error!(target: "kedge::http", %error, "the system's generator failed");
        Problem::internal()
    })?;
    let mut secret = None;
    let done = cx.app.endpoints.change(name, new, |stored, master| {
        secret = Some(stored.rotate(master, hex::encode(number), now, grace_ms));
        true
    });
    done.await.map_err(refusal)?;
    Ok(secret.map(|secret| secret.expose().to_owned()).unwrap_or_default())
}

fn secret_of(cx: &Cx<'_>, status: StatusCode, name: &str, secret: &str) -> Answer {
    let mut value = shown(cx, &find(cx, name)?);
    value["secret"] = json!(secret);
    Ok(handlers::json(status, &value))
}

/// What a request says of an endpoint; what it leaves out stays as it is.
#[derive(Default)]
struct Change {
    url: Option<String>,
    events: Option<Vec<String>>,
    allow_private: Option<Vec<String>>,
    full: Option<bool>,
    form: Option<Form>,
}

impl Change {
    fn read(cx: &Cx<'_>, fields: &mut Fields) -> Self {
        let url = fields.text("url", MAX_URL);
        let events = fields.texts("events", MAX_ENTRIES, MAX_ENTRY);
        let allow_private = fields.texts("allow_private", MAX_ENTRIES, MAX_ENTRY);
        let allowed = &cx.access.endpoint_networks;
        let within = |text: &String| {
            let net: Option<IpNet> = text.parse().ok();
            net.is_none_or(|net| allowed.iter().any(|allowed| allowed.contains(&net)))
        };
        if allow_private.as_ref().is_some_and(|list| !list.iter().all(within)) {
            let detail = "names a network that the configuration does not allow for endpoints made by API: http.endpoint_networks";
            fields.fault("allow_private", detail);
        }
        let full = fields.text("payload", MAX_NAME).and_then(|word| match word.as_str() {
            "thin" => Some(false),
            "full" => Some(true),
            _ => {
                fields.fault("payload", "is thin or full");
                None
            }
        });
        let form = fields.text("form", MAX_NAME).and_then(|word| {
            let form = Form::ALL.into_iter().find(|form| form.as_str() == word);
            if form.is_none() {
                let words = Form::ALL.map(Form::as_str).join(", ");
                fields.fault("form", format!("is one of {words}"));
            }
            form
        });
        Self { url, events, allow_private, full, form }
    }

    fn apply(self, stored: &mut Stored) {
        let Self { url, events, allow_private, full, form } = self;
        stored.url = url.unwrap_or_else(|| stored.url.clone());
        stored.events = events.or_else(|| stored.events.clone());
        stored.allow_private = allow_private.unwrap_or_else(|| stored.allow_private.clone());
        stored.full = full.unwrap_or(stored.full);
        stored.form = form.unwrap_or(stored.form);
    }
}

fn admin(cx: &Cx<'_>) -> Result<String, Problem> {
    let token = cx.token()?;
    token.demand_admin()?;
    Query::new(cx, &[])?;
    Ok(token.principal())
}

fn find(cx: &Cx<'_>, name: &str) -> Result<Endpoint, Problem> {
    cx.app.endpoints.all().iter().find(|endpoint| endpoint.name == name).cloned().ok_or_else(nothing)
}

fn shown(cx: &Cx<'_>, endpoint: &Endpoint) -> Value {
    let own = cx.app.endpoints.own();
    let own = own.get(&endpoint.name);
    json!({
        "name": endpoint.name,
        "source": if own.is_some() { "api" } else { "configuration" },
        "origin": if matches!(endpoint.kind, Kind::Mail(_)) { "mail".to_owned() } else { origin(&endpoint.url) },
        "kind": endpoint.kind.as_str(),
        "events": endpoint.events,
        "payload": if endpoint.full { "full" } else { "thin" },
        "form": endpoint.form,
        "keys": endpoint.keys_at(cx.app.ports.clock.now()).len(),
        "disabled": cx.app.endpoints.disabled(&endpoint.name),
        "created_at": own.map(|own| api::time(own.created_at)),
        "created_by": own.map(|own| own.created_by.as_str()),
    })
}

fn refusal(error: NotChanged) -> Problem {
    let conflict = |slug, title, detail: &str| Problem::new(StatusCode::CONFLICT, slug, title, detail);
    match error {
        NotChanged::Mistakes(mistakes) => unfit(mistakes.iter().map(handlers::fault_of).collect()),
        NotChanged::Taken => {
            conflict("taken", "The name is taken", "there is an endpoint of this name; take another name")
        }
        NotChanged::Unknown => nothing(),
        NotChanged::Configured => conflict(
            "configured",
            "Not to be changed here",
            "the endpoint is in the configuration: change it there, and send the process a SIGHUP",
        ),
        NotChanged::Full => {
            conflict("full", "There are too many endpoints", "remove endpoints that nobody uses any more")
        }
        NotChanged::Store(error) => handlers::unstored(&error),
    }
}

fn unfit(faults: Vec<Fault>) -> Problem {
    Problem::invalid("the body does not fit an endpoint", faults)
}

fn nothing() -> Problem {
    Problem::not_found("there is no endpoint of this name; GET /v1/endpoints lists them")
}
