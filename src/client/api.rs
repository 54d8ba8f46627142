//! Talks to a running Kedge over HTTP. Knows paths and problem documents, prints nothing.

use anyhow::{Context as _, Result, anyhow};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// Where Kedge listens when nobody says otherwise.
const DEFAULT_URL: &str = "http://127.0.0.1:7480";

/// A client of one server.
pub(crate) struct Api {
    base: String,
    token: Option<String>,
    http: reqwest::Client,
}

/// Why a request brought nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// Nobody answers.
    #[error("Kedge does not answer at {url}: {why}; is `kedge serve` running, and is KEDGE_URL right?")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        why: String,
    },
    /// It answers that it cannot at the moment, or somebody in front of it does.
    #[error("{0}")]
    Busy(String),
    /// It answered with a problem.
    #[error("{0}")]
    Refused(String),
}

impl Api {
    /// A client by `KEDGE_URL` and `KEDGE_TOKEN`; `KEDGE_CA_FILE` is another authority to trust, `KEDGE_CERTIFICATE_FILE` our own certificate with its key.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub(crate) fn from_env() -> Result<Self> {
        let base = std::env::var("KEDGE_URL").unwrap_or_else(|_| DEFAULT_URL.to_owned());
        let token = std::env::var("KEDGE_TOKEN").ok().filter(|token| !token.is_empty());
        Self::new(&base, token)
    }

    /// A client of a base URL.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub(crate) fn new(base: &str, token: Option<String>) -> Result<Self> {
        let mut http = reqwest::Client::builder();
        if let Some(file) = std::env::var_os("KEDGE_CA_FILE") {
            let pem = std::fs::read(&file).with_context(|| format!("KEDGE_CA_FILE {}", file.display()))?;
            let roots =
                reqwest::Certificate::from_pem_bundle(&pem).context("KEDGE_CA_FILE holds no certificate")?;
            http = http.tls_certs_merge(roots);
        }
        if let Some(file) = std::env::var_os("KEDGE_CERTIFICATE_FILE") {
            let pem =
                std::fs::read(&file).with_context(|| format!("KEDGE_CERTIFICATE_FILE {}", file.display()))?;
            let identity = reqwest::Identity::from_pem(&pem);
            let identity = identity
                .map_err(|_| anyhow!("KEDGE_CERTIFICATE_FILE holds no certificate and key as PEM"))?;
            http = http.identity(identity);
        }
        let http = http
            .connect_timeout(std::time::Duration::from_secs(5))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .context("the HTTP client cannot be made")?;
        Ok(Self { base: base.trim_end_matches('/').to_owned(), token, http })
    }

    /// A GET.
    ///
    /// # Errors
    /// [`ApiError`].
    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        self.send(Method::GET, path, None, &[]).await
    }

    /// A POST.
    ///
    /// # Errors
    /// [`ApiError`].
    pub(crate) async fn post(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> Result<Value> {
        self.send(Method::POST, path, Some(body), headers).await
    }

    /// A DELETE.
    ///
    /// # Errors
    /// [`ApiError`].
    pub(crate) async fn delete(&self, path: &str) -> Result<Value> {
        self.send(Method::DELETE, path, None, &[]).await
    }

    /// A list whole, page after page, as one page.
    ///
    /// # Errors
    /// [`ApiError`], and when the pages have no end.
    pub(crate) async fn all(&self, path: &str, list: &str) -> Result<Value> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            query.append_pair("limit", "200");
            query.extend_pairs(cursor.iter().map(|cursor| ("cursor", cursor)));
            let mut page = self.get(&format!("{path}?{}", query.finish())).await?;
            let more = page.get_mut(list).and_then(Value::as_array_mut);
            items.append(
                more.with_context(|| format!("the answer to {path} has no list {list:?}: is this Kedge?"))?,
            );
            let next = page["next"].as_str().map(str::to_owned);
            if next.is_some() && next == cursor {
                return Err(anyhow!("{path} gives the same page again and again"));
            }
            if next.is_none() {
                return Ok(json!({ list: items, "next": null }));
            }
            cursor = next;
        }
    }

    /// A task by its id or the end of it.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub(crate) async fn find(&self, id: &str) -> Result<Value> {
        if id.starts_with("task_") && id.len() == 37 {
            return self.get(&format!("/v1/tasks/{id}")).await;
        }
        let page = self.get("/v1/tasks?limit=200").await?;
        let tasks = page["tasks"].as_array().cloned().unwrap_or_default();
        let mut fits = tasks.iter().filter_map(|task| task["id"].as_str()).filter(|task| task.ends_with(id));
        match (fits.next(), fits.next()) {
            (Some(task), None) => self.get(&format!("/v1/tasks/{task}")).await,
            (Some(_), Some(_)) => Err(anyhow!("more than one of the last 200 tasks ends with {id:?}")),
            (None, _) => {
                Err(anyhow!("none of the last 200 tasks ends with {id:?}; `kedge tasks` lists them"))
            }
        }
    }

    /// A GET of something that is no JSON, as it comes.
    ///
    /// # Errors
    /// [`ApiError`].
    pub(crate) async fn download(&self, path: &str) -> Result<reqwest::Response> {
        let response = self.ask(Method::GET, path, None, &[]).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.unwrap_or_default();
        Err(refused(status, &serde_json::from_str(&text).unwrap_or(Value::String(text))).into())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<Value> {
        let response = self.ask(method, path, body, headers).await?;
        let status = response.status();
        let text = response.text().await.map_err(|error| self.unreachable(&error))?;
        let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        if status.is_success() {
            return Ok(value);
        }
        Err(refused(status, &value).into())
    }

    fn unreachable(&self, error: &reqwest::Error) -> ApiError {
        let why = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source()).last();
        let why = why.map(ToString::to_string).unwrap_or_default();
        ApiError::Unreachable { url: self.base.clone(), why }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<reqwest::Response, ApiError> {
        let url = format!("{}{path}", self.base);
        let mut request = self.http.request(method, &url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.map_err(|error| self.unreachable(&error))
    }
}

fn refused(status: StatusCode, answer: &Value) -> ApiError {
    let told = problem(status, answer);
    if is_busy(status) { ApiError::Busy(told) } else { ApiError::Refused(told) }
}

/// Whether the same question may be answered later: too many of them, a full disk, a proxy without the server behind it.
fn is_busy(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// A problem document in words.
fn problem(status: StatusCode, body: &Value) -> String {
    let title = body["title"].as_str().unwrap_or_else(|| status.canonical_reason().unwrap_or("refused"));
    let mut text = format!("{} {title}", status.as_u16());
    if let Some(detail) = body["detail"].as_str() {
        text.push_str(": ");
        text.push_str(detail);
    }
    for error in body["errors"].as_array().into_iter().flatten() {
        let pointer = error["pointer"].as_str().unwrap_or_default();
        let detail = error["detail"].as_str().unwrap_or_default();
        text.push_str(&format!("\n  {pointer}: {detail}"));
    }
    if status == StatusCode::UNAUTHORIZED {
        text.push_str("\nset KEDGE_TOKEN to the secret of one of the server's tokens");
    }
    text
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Answers each request by its cursor.
    async fn answering(answer: fn(&str) -> Value) -> Api {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = vec![0; 4096];
                let read = stream.read(&mut head).await.unwrap();
                let head = String::from_utf8_lossy(&head[..read]).into_owned();
                let cursor = head.split("cursor=").nth(1).and_then(|rest| rest.split([' ', '&']).next());
                let body = answer(cursor.unwrap_or_default()).to_string();
                let size = body.len();
                let answer =
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\nconnection: close\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Api::new(&base, None).unwrap()
    }

    #[tokio::test]
    async fn a_list_is_read_to_its_end() {
        let api = answering(|cursor| match cursor {
            "" => json!({ "backups": ["a", "b"], "next": "b" }),
            _ => json!({ "backups": ["c"], "next": null }),
        });
        let all = api.await.all("/v1/backups", "backups").await.unwrap();
        assert_eq!(all["backups"], json!(["a", "b", "c"]));
        let endless = answering(|_| json!({ "backups": ["a"], "next": "a" }));
        assert!(endless.await.all("/v1/backups", "backups").await.is_err());
    }
}
