//! `POST /v1/platforms` and `DELETE /v1/platforms/{name}`: platforms beside those of the configuration, by those with the scope `admin`.

use bytes::Bytes;
use http::header::{HeaderValue, LOCATION};
use http::{Response, StatusCode};
use hyper::body::Body as HttpBody;

use crate::app::Answer;
use crate::body::Body;
use crate::cx::Cx;
use crate::desk::{DeskError, NewPlatform};
use crate::fields::Fields;
use crate::handlers::{self, Query};
use crate::problem::{Fault, Problem};

/// Longest name of a platform or a web server.
const MAX_NAME: usize = 64;
/// Longest path.
const MAX_PATH: usize = 500;

pub(crate) async fn make<B: HttpBody<Data = Bytes> + Unpin>(cx: &Cx<'_>, body: B) -> Answer {
    cx.token()?.demand_admin()?;
    Query::new(cx, &[])?;
    let platform = read(handlers::fields(cx, body, true).await?)?;
    let path = HeaderValue::from_str(&format!("/v1/platforms/{}", platform.name));
    let record = cx.app.ports.desk.add_platform(platform).await.map_err(refusal)?;
    let mut response = handlers::json(StatusCode::CREATED, &record);
    response.headers_mut().extend(path.ok().map(|path| (LOCATION, path)));
    Ok(response)
}

pub(crate) async fn remove(cx: &Cx<'_>, name: &str) -> Answer {
    cx.token()?.demand_admin()?;
    Query::new(cx, &[])?;
    cx.app.ports.desk.remove_platform(name).await.map_err(refusal)?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

fn read(mut fields: Fields) -> Result<NewPlatform, Problem> {
    let name = fields.text("name", MAX_NAME);
    fields.require("name", name.as_ref());
    let plain = |name: &str| {
        let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        name.chars().all(inside) && name.starts_with(|c: char| c.is_ascii_alphanumeric())
    };
    if name.as_ref().is_some_and(|name| !plain(name)) {
        fields.fault("name", "has letters, digits, - _ and ., and begins with a letter or digit");
    }
    let web_server = fields.text("web_server", MAX_NAME);
    fields.require("web_server", web_server.as_ref());
    let root = fields.text("root", MAX_PATH);
    fields.require("root", root.as_ref());
    let app = fields.text("app", MAX_NAME);
    fields.require("app", app.as_ref());
    let drush = fields.text("drush", MAX_PATH);
    fields.finish().map_err(unfit)?;
    Ok(NewPlatform {
        name: name.unwrap_or_default(),
        web_server: web_server.unwrap_or_default(),
        root: root.unwrap_or_default(),
        app: app.unwrap_or_default(),
        drush,
    })
}

fn unfit(faults: Vec<Fault>) -> Problem {
    Problem::invalid("the body is no platform that could be added", faults)
}

fn refusal(error: DeskError) -> Problem {
    match error {
        DeskError::Unknown(detail) => Problem::not_found(detail),
        DeskError::Refused(detail) => Problem::new(
            StatusCode::CONFLICT,
            "platform-in-use",
            "That cannot be done with this platform",
            detail,
        ),
        DeskError::Unfit(faults) => {
            unfit(faults.into_iter().map(|(field, detail)| Fault::new(format!("/{field}"), detail)).collect())
        }
        DeskError::Failed(why) => {
            tracing::error!(target: "kedge::http", why, "a platform could not be kept");
            Problem::unavailable("it could not be stored; nothing was changed", 30)
        }
    }
}
