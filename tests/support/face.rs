//! Kedge's HTTP face as a caller uses it: signed webhooks, bearer requests, waiting for a task.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::signing;

/// A caller of a running Kedge.
#[derive(Clone)]
pub struct Face {
    /// Base URL.
    pub url: String,
    token: String,
    hook_secret: String,
    http: reqwest::Client,
}

impl Face {
    /// A caller with a token and the secret of the hooks.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new(url: &str, token: &str, hook_secret: &str) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build()?;
        Ok(Self { url: url.to_owned(), token: token.to_owned(), hook_secret: hook_secret.to_owned(), http })
    }

    /// Posts a signed webhook; status and body.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn hook(&self, hook: &str, id: &str, body: &Value) -> Result<(u16, Value)> {
        let bytes = serde_json::to_vec(body)?;
        let timestamp = signing::now_s().to_string();
        let signature = signing::sign(&self.hook_secret, id, &timestamp, &bytes)?;
        let request = self
            .http
            .post(format!("{}/v1/hooks/{hook}", self.url))
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(bytes);
        answer(request).await
    }

    /// A GET.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn get(&self, path: &str) -> Result<(u16, Value)> {
        answer(self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.token)).await
    }

    /// A POST.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn post(&self, path: &str, body: &Value) -> Result<(u16, Value)> {
        answer(self.http.post(format!("{}{path}", self.url)).bearer_auth(&self.token).json(body)).await
    }

    /// Submits a task; its id.
    ///
    /// # Errors
    /// When it is not accepted.
    pub async fn submit(&self, workflow: &str, params: &Value) -> Result<String> {
        let (status, body) =
            self.post("/v1/tasks", &json!({ "workflow": workflow, "params": params })).await?;
        ensure!(status == 202, "{workflow} was not accepted: {status} {body}");
        id_of(&body)
    }

    /// A task's page.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn task(&self, id: &str) -> Result<Value> {
        let (status, body) = self.get(&format!("/v1/tasks/{id}")).await?;
        ensure!(status == 200, "{id}: {status} {body}");
        Ok(body)
    }

    /// Waits until a task has ended or is stuck; `see` gets every page on the way.
    ///
    /// # Errors
    /// When it takes longer than `limit`.
    pub async fn settled(&self, id: &str, limit: Duration, mut see: impl FnMut(&Value)) -> Result<Value> {
        let end = tokio::time::Instant::now() + limit;
        loop {
            let task = self.task(id).await?;
            see(&task);
            if matches!(task["state"].as_str(), Some("succeeded" | "rolled_back" | "canceled" | "stuck")) {
                return Ok(task);
            }
            ensure!(
                tokio::time::Instant::now() < end,
                "{id} did not end within {} s: {task}",
                limit.as_secs()
            );
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    }
}

/// The id in a task's page.
///
/// # Errors
/// When there is none.
pub fn id_of(task: &Value) -> Result<String> {
    task["id"].as_str().map(str::to_owned).with_context(|| format!("no task: {task}"))
}

async fn answer(request: reqwest::RequestBuilder) -> Result<(u16, Value)> {
    let response = request.send().await?;
    let status = response.status().as_u16();
    let text = response.text().await?;
    Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
}
