//! The client commands: they ask a running Kedge over HTTP and print its answers. They touch no site, host or journal.

mod access;
mod api;
mod archives;
mod live;
mod outgoing;
mod platforms;
mod render;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use serde_json::{Map, Value, json};

use crate::cli::{CompareArgs, ReasonArgs, ResolveArgs, TaskArgs, TasksArgs, VerbArgs};
pub(crate) use access::{audit, tokens};
pub(crate) use api::{Api, ApiError};
pub(crate) use archives::backups;
pub(crate) use outgoing::{deliveries, endpoints};
pub(crate) use platforms::platforms;
pub(crate) use render::Style;

/// How a command prints.
#[derive(Clone, Copy)]
pub(crate) struct Out {
    json: bool,
    style: Style,
}

impl Out {
    /// By the `--json` flag and what standard output is.
    pub(crate) fn new(json: bool) -> Self {
        let color = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { json, style: Style { color } }
    }

    fn lines(self, lines: &[String]) -> Result<()> {
        let mut out = std::io::stdout().lock();
        for line in lines {
            writeln!(out, "{line}")?;
        }
        out.flush().context("standard output is closed")
    }

    /// A page of a list as a table of some fields.
    pub(crate) fn table(self, page: &Value, list: &str, fields: &[&str]) -> Result<()> {
        self.value(page, |page, _| {
            let rows = page[list].as_array().into_iter().flatten();
            let rows: Vec<Vec<String>> = rows.map(|row| cells(row, fields)).collect();
            render::table(fields, &rows)
        })
    }

    pub(crate) fn value(self, value: &Value, lines: impl FnOnce(&Value, Style) -> Vec<String>) -> Result<()> {
        if self.json {
            self.lines(&[serde_json::to_string_pretty(value)?])
        } else {
            self.lines(&lines(value, self.style))
        }
    }
}

/// The exit code that tells a task's state: 0 succeeded, 2 rolled back, 3 stuck, 4 canceled; 0 for one that goes on.
fn exit_of(task: &Value) -> ExitCode {
    ExitCode::from(match task["state"].as_str() {
        Some("rolled_back") => 2,
        Some("stuck") => 3,
        Some("canceled") => 4,
        _ => 0,
    })
}

/// `kedge task`.
pub(crate) async fn task(api: &Api, out: Out, args: &TaskArgs) -> Result<ExitCode> {
    let params = params(&args.workflow, args.site.as_deref(), &args.params)?;
    let mut body = json!({ "workflow": args.workflow, "params": params });
    if let Some(url) = &args.callback {
        body["callback"] = json!({ "url": url });
    }
    if let Some(id) = &args.correlation_id {
        body["correlation_id"] = json!(id);
    }
    if args.dry_run {
        let plan = api.post("/v1/tasks?dry_run=true", &body, &[]).await?;
        out.value(&plan, render::plan)?;
        return Ok(ExitCode::SUCCESS);
    }
    let key = args.idempotency_key.as_ref().map(|key| format!("{key:?}"));
    let mut headers: Vec<(&str, &str)> = Vec::new();
    headers.extend(key.as_deref().map(|key| ("idempotency-key", key)));
    headers.extend(args.if_plan.as_deref().map(|hash| ("if-plan", hash)));
    let task = api.post("/v1/tasks", &body, &headers).await?;
    if args.wait {
        let task = live::watch(api, out, task).await?;
        if task["state"] == "succeeded" && task["workflow"] == "login" {
            return login_link(api, out, task["id"].as_str().unwrap_or_default()).await;
        }
        return Ok(exit_of(&task));
    }
    out.value(&task, render::task)?;
    Ok(ExitCode::SUCCESS)
}

/// `kedge login-link`: prints the link that a login task made.
pub(crate) async fn login_link(api: &Api, out: Out, id: &str) -> Result<ExitCode> {
    let task = api.find(id).await?;
    let id = task["id"].as_str().unwrap_or_default();
    let link = api.get(&format!("/v1/tasks/{id}/login")).await?;
    out.value(&link, |link, _| vec![link["url"].as_str().unwrap_or_default().to_owned()])?;
    Ok(ExitCode::SUCCESS)
}

/// The parameters of a task as they are typed: JSON where it is some, but text where the workflow takes text only.
///
/// # Errors
/// When one is not `name=value`.
pub(crate) fn params(workflow: &str, site: Option<&str>, typed: &[String]) -> Result<Value> {
    let workflows = kedge_workflows::workflows();
    let known = workflows.iter().find(|known| known.name() == workflow);
    params_by(&known.map_or(Value::Null, |known| known.schema()), site, typed)
}

fn params_by(schema: &Value, site: Option<&str>, typed: &[String]) -> Result<Value> {
    let mut params = Map::new();
    if let Some(site) = site {
        params.insert("site".to_owned(), json!(site));
    }
    for param in typed {
        let (name, text) =
            param.split_once('=').ok_or_else(|| anyhow!("--param {param:?}: write name=value"))?;
        let value = match takes_text_only(schema, &schema["properties"][name]) {
            // `user=1`, `title=2026`: in quotes it is JSON all the same.
            true if !text.starts_with('"') => json!(text),
            _ => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
        };
        params.insert(name.to_owned(), value);
    }
    Ok(Value::Object(params))
}

/// Whether a part of a schema takes text, or nothing, and no other value.
fn takes_text_only(schema: &Value, part: &Value) -> bool {
    let kinds: Vec<&str> = match &part["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let refers = part["$ref"].as_str().and_then(|target| schema.pointer(target.strip_prefix('#')?));
    let ways = part["anyOf"].as_array().into_iter().flatten();
    let mut ways = ways.filter(|way| way["type"] != "null").peekable();
    kinds.contains(&"string") && kinds.iter().all(|kind| matches!(*kind, "string" | "null"))
        || refers.is_some_and(|part| part["$ref"].is_null() && takes_text_only(schema, part))
        || ways.peek().is_some() && ways.all(|way| takes_text_only(schema, way))
}

/// `kedge tasks`.
pub(crate) async fn tasks(api: &Api, out: Out, args: &TasksArgs) -> Result<ExitCode> {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", &args.limit.to_string());
    for (name, value) in [("site", &args.site), ("workflow", &args.workflow), ("state", &args.state)] {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let page = api.get(&format!("/v1/tasks?{}", query.finish())).await?;
    out.value(&page, |page, _| {
        let rows = page["tasks"].as_array().into_iter().flatten();
        let rows: Vec<Vec<String>> =
            rows.map(|task| cells(task, &["id", "workflow", "site", "state", "created_at"])).collect();
        render::table(&["task", "workflow", "site", "state", "created"], &rows)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn cells(row: &Value, fields: &[&str]) -> Vec<String> {
    fields
        .iter()
        .map(|field| match &row[*field] {
            Value::String(text) => text.clone(),
            Value::Null => "-".to_owned(),
            other => other.to_string(),
        })
        .collect()
}

/// `kedge show`.
pub(crate) async fn show(api: &Api, out: Out, id: &str) -> Result<ExitCode> {
    let task = api.find(id).await?;
    out.value(&task, render::task)?;
    Ok(exit_of(&task))
}

/// `kedge watch`: follows the task until it ends or gets stuck.
pub(crate) async fn watch(api: &Api, out: Out, id: &str) -> Result<ExitCode> {
    let task = api.find(id).await?;
    let task = live::watch(api, out, task).await?;
    Ok(exit_of(&task))
}

/// `kedge retry`, `undo`.
pub(crate) async fn verb(api: &Api, out: Out, args: &VerbArgs, verb: &str, body: &Value) -> Result<ExitCode> {
    let task = api.find(&args.id).await?;
    let id = task["id"].as_str().unwrap_or_default();
    let task = api.post(&format!("/v1/tasks/{id}/{verb}"), body, &[]).await?;
    if args.wait {
        return Ok(exit_of(&live::watch(api, out, task).await?));
    }
    out.value(&task, render::task)?;
    Ok(ExitCode::SUCCESS)
}

/// A body with the reason, if one was given: the API takes no empty one.
fn with_reason(mut body: Value, reason: &str) -> Value {
    if !reason.is_empty() {
        body["reason"] = reason.into();
    }
    body
}

/// `kedge approve`, `refuse`, `cancel`.
pub(crate) async fn decide(api: &Api, out: Out, args: &ReasonArgs, answer: &str) -> Result<ExitCode> {
    verb(api, out, &args.task, answer, &with_reason(json!({}), &args.reason)).await
}

/// `kedge resolve`.
pub(crate) async fn resolve(api: &Api, out: Out, args: &ResolveArgs) -> Result<ExitCode> {
    let body = with_reason(json!({ "step": args.step, "verb": args.verb.word() }), &args.reason);
    verb(api, out, &args.task, "resolve", &body).await
}

/// `kedge platforms compare`: the table, and exit code 1 when the move would be refused.
pub(crate) async fn compare(api: &Api, out: Out, args: &CompareArgs) -> Result<ExitCode> {
    let query = args.site.as_ref().map(|site| {
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("site", site).finish();
        format!("?{query}")
    });
    let path = format!("/v1/platforms/{}/compare/{}{}", args.from, args.to, query.unwrap_or_default());
    let table = api.get(&path).await?;
    out.value(&table, |table, _| {
        let fields = [
            "kind",
            "name",
            "enabled",
            "site_version",
            "target_version",
            "site_schema",
            "target_schema",
            "verdict",
        ];
        let rows =
            table["rows"].as_array().into_iter().flatten().map(|row| cells(row, &fields)).collect::<Vec<_>>();
        let heads = ["kind", "name", "used", "here", "there", "schema here", "schema there", "a move means"];
        let mut lines = render::table(&heads, &rows);
        lines.push(format!("{} errors, {} warnings", table["errors"], table["warnings"]));
        lines
    })?;
    Ok(ExitCode::from(u8::from(table["errors"].as_u64().is_some_and(|errors| errors > 0))))
}

/// `kedge sites`, `platforms`, `backups`, `trash`.
pub(crate) async fn records(api: &Api, out: Out, path: &str, fields: &[&str]) -> Result<ExitCode> {
    let page = api.all(&format!("/v1/{path}"), path).await?;
    out.table(&page, path, fields)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_schema_wants_as_text_is_text() {
        let schema = json!({
            "properties": {
                "user": { "type": ["string", "null"] }, "title": { "type": "string" }, "force": { "type": "boolean" },
                "hold": { "$ref": "#/$defs/Hold" }, "new_site": { "anyOf": [{ "$ref": "#/$defs/Hold" }, { "type": "null" }] },
                "either": { "anyOf": [{ "type": "string" }, { "type": "integer" }] }, "aliases": { "type": "array" },
            },
            "$defs": { "Hold": { "type": "string" } },
        });
        let typed = [
            "user=1",
            "title=\"2026\"",
            "force=true",
            "hold=7",
            "new_site=8",
            "either=9",
            "aliases=[\"a.test\"]",
            "other=2",
            "x=a=b",
        ];
        let params = params_by(&schema, Some("s.test"), &typed.map(str::to_owned)).unwrap();
        assert_eq!(
            params,
            json!({
                "site": "s.test", "user": "1", "title": "2026", "force": true, "hold": "7", "new_site": "8", "either": 9,
                "aliases": ["a.test"], "other": 2, "x": "a=b",
            })
        );
        assert!(params_by(&Value::Null, None, &["x".to_owned()]).is_err());
        let login = super::params("login", Some("s.test"), &["user=1".to_owned()]).unwrap();
        assert_eq!(login, json!({ "site": "s.test", "user": "1" }));
    }
}
