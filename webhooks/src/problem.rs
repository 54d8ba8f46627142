//! Errors as problem documents (RFC 9457). Their texts say what to do and never hold a value that was sent.

use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};

use crate::body::Body;
use crate::json::{JsonError, MAX_DEPTH};

/// Most entries of `errors`: a person repairs a few and asks again.
pub(crate) const MAX_ERRORS: usize = 20;

/// Something wrong at one place of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// JSON pointer into the body, such as `/params/site`.
    pub pointer: String,
    /// What is wrong and what would be right.
    pub detail: String,
}

impl Fault {
    pub(crate) fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }

    /// The same fault, with its pointer below `place`.
    pub(crate) fn below(mut self, place: &str) -> Self {
        self.pointer.insert_str(0, place);
        self
    }
}

/// A problem document in the making.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    /// On the heap, since results carry problems everywhere.
    rest: Box<Rest>,
}

#[derive(Clone, Debug)]
struct Rest {
    slug: &'static str,
    title: &'static str,
    detail: String,
    errors: Vec<Value>,
    extra: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    pub(crate) fn new(
        status: StatusCode,
        slug: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        let (errors, extra, headers) = (Vec::new(), Map::new(), Vec::new());
        Self { status, rest: Box::new(Rest { slug, title, detail: detail.into(), errors, extra, headers }) }
    }

    /// Adds faults with pointers into the body, in the URI fragment form that RFC 9457 shows.
    pub(crate) fn faults(mut self, faults: impl IntoIterator<Item = Fault>) -> Self {
        let entries = faults
            .into_iter()
            .map(|fault| json!({ "pointer": format!("#{}", fault.pointer), "detail": fault.detail }));
        self.rest.errors.extend(entries.take(MAX_ERRORS));
        self
    }

    /// Adds a member of its own.
    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.rest.extra.insert(key.to_owned(), value.into());
        self
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.rest.headers.push((name, value));
        }
        self
    }

    /// What is wrong, in a few lines, for people who see no document.
    pub(crate) fn in_words(&self) -> String {
        let mut text = format!("{}: {}", self.rest.title, self.rest.detail);
        for error in &self.rest.errors {
            let member = |name: &str| error[name].as_str().unwrap_or_default();
            text.push_str(&format!("\n{} {}", member("pointer").trim_start_matches('#'), member("detail")));
        }
        text
    }

    /// The response; `request` is the id of the request.
    pub(crate) fn into_response(self, request: &str) -> Response<Body> {
        let rest = *self.rest;
        let mut body = json!({
            "type": format!("urn:kedge:problem:{}", rest.slug),
            "title": rest.title,
            "status": self.status.as_u16(),
            "detail": rest.detail,
            "instance": request,
        });
        if let Value::Object(map) = &mut body {
            map.extend(rest.extra);
            if !rest.errors.is_empty() {
                map.insert("errors".to_owned(), Value::Array(rest.errors));
            }
        }
        let mut response = Response::new(Body::full(body.to_string()));
        *response.status_mut() = self.status;
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response.headers_mut().extend(rest.headers);
        response
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "There is nothing here", detail)
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "The request is malformed", detail)
    }

    pub(crate) fn invalid(detail: impl Into<String>, faults: impl IntoIterator<Item = Fault>) -> Self {
        let title = "The request does not fit";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", title, detail).faults(faults)
    }

    /// A wrong query parameter.
    pub(crate) fn query(name: &str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let mut problem = Self::invalid(format!("the query parameter {name:?}: {detail}"), []);
        problem.rest.errors.push(json!({ "parameter": name, "detail": detail }));
        problem
    }

    pub(crate) fn json(error: &JsonError) -> Self {
        match error {
            JsonError::Syntax { .. } => {
                Self::new(StatusCode::BAD_REQUEST, "not-json", "The body is not JSON", error.to_string())
            }
            JsonError::TooDeep => Self::invalid(format!("{error}; send at most {MAX_DEPTH}"), []),
            JsonError::Doubled(pointer) => {
                let fault = Fault::new(pointer.clone(), "this key is there twice: send it once");
                Self::invalid("an object of the body has a key twice", [fault])
            }
        }
    }

    pub(crate) fn unavailable(detail: impl Into<String>, retry_after_s: u32) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Not at the moment", detail)
            .header(header::RETRY_AFTER, &retry_after_s.to_string())
    }

    /// Something of ours failed: the log knows what.
    pub(crate) fn internal() -> Self {
        let detail = "something failed on our side; the server's log has it under this request's id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "An error of the server", detail)
    }

    pub(crate) fn media_type(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", "This kind of body is not taken", detail)
            .header(HeaderName::from_static("accept-post"), "application/json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_has_the_members_of_rfc_9457() {
        let problem = Problem::invalid("two things", [Fault::new("/site", "is missing").below("/params")])
            .with("plan_hash", "abc")
            .header(header::RETRY_AFTER, "3");
        let response = problem.into_response("req_1");
        assert_eq!(response.status(), 422);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.headers()["retry-after"], "3");
        let body: Value = serde_json::from_slice(&response.into_body().into_full().unwrap()).unwrap();
        let want = json!({
            "type": "urn:kedge:problem:invalid", "title": "The request does not fit", "status": 422,
            "detail": "two things", "instance": "req_1", "plan_hash": "abc",
            "errors": [{"pointer": "#/params/site", "detail": "is missing"}],
        });
        assert_eq!(body, want);
    }

    #[test]
    fn the_list_of_errors_is_bounded() {
        let faults = (0..100).map(|n| Fault::new(format!("/{n}"), "no"));
        let body = Problem::invalid("many", faults).into_response("r").into_body().into_full().unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["errors"].as_array().unwrap().len(), MAX_ERRORS);
    }
}
