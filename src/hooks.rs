//! `kedge hooks explain` and `kedge inbox`: what a message to a hook would do, and what came of those that were sent. The first reads the
//! configuration and asks nobody.

use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use http::{HeaderMap, HeaderName, HeaderValue};
use kedge_engine::ports::Clock as _;
use kedge_engine::service::WorkflowInfo;
use serde_json::{Value, json};

use crate::cli::{ExplainArgs, InboxCommand};
use crate::client::{Api, Out};
use crate::config;
use crate::runtime::SystemClock;
use crate::sign::read_body;

/// `kedge hooks explain`: exit code 0 when a task would be asked for, 1 when not.
pub(crate) fn explain(args: &ExplainArgs, out: Out) -> Result<ExitCode> {
    let config = config::load(&args.config.config)?;
    let hook = config.hooks.iter().find(|hook| hook.name() == args.name).ok_or_else(|| {
        let names: Vec<&str> = config.hooks.iter().map(|hook| hook.name()).collect();
        anyhow!(
            "there is no hook {:?} in {}; there are: {}",
            args.name,
            args.config.config.display(),
            names.join(", ")
        )
    })?;
    let body = read_body(&args.body)?;
    let mut headers = HeaderMap::new();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for line in &args.header {
        let (name, value) =
            line.split_once(['=', ':']).with_context(|| format!("{line:?}: write Name=value"))?;
        let name =
            HeaderName::try_from(name.trim()).with_context(|| format!("{name:?} is no header's name"))?;
        headers.insert(name, HeaderValue::try_from(value.trim()).context("a header's value")?);
    }
    let workflows: Vec<WorkflowInfo> = kedge_workflows::workflows()
        .iter()
        .map(|workflow| WorkflowInfo {
            name: workflow.name().to_owned(),
            title: workflow.title().to_owned(),
            schema: workflow.schema(),
            example: workflow.example(),
        })
        .collect();
    let explained = kedge_webhooks::explain(hook, &workflows, &headers, &body, SystemClock.now() / 1000)
        .map_err(|mistakes| {
            anyhow!("{}", mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        })?;
    out.value(&explained.report, |report, _| lines(report))?;
    Ok(if explained.task.is_some() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn lines(report: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let list = |value: &Value| {
        let all: Vec<String> = value.as_array().into_iter().flatten().map(text).collect();
        if all.is_empty() { "none".to_owned() } else { all.join(", ") }
    };
    let mut lines = vec![format!("hook       {} ({})", text(&report["hook"]), text(&report["provider"]))];
    let signature = &report["signature"];
    lines.push(if signature["holds"] == true {
        format!("signature  holds: secret number {}", signature["key"].as_u64().unwrap_or_default() + 1)
    } else {
        format!("signature  does not hold: {} (the rest is told all the same)", text(&signature["reason"]))
    });
    if report.get("event").is_some() {
        lines.push(format!("event      {}", list(&report["event"]["words"])));
        lines.push(format!("branch     {}", list(&report["branches"])));
        lines.push(format!("tag        {}", list(&report["tags"])));
        let files = &report["changed_files"];
        let all = if files["all_told"] == true { "" } else { ", not all of them told" };
        lines.push(format!("files      {}{all}", files["count"]));
    }
    for checked in report["filter"].as_array().into_iter().flatten() {
        let mark = if checked["holds"] == true { "holds" } else { "does not hold" };
        lines.push(format!("filter     {}: {mark}", text(&checked["condition"])));
    }
    if report.get("params").is_some() {
        lines.push(format!("workflow   {}", text(&report["workflow"])));
        lines.push(format!("params     {}", report["params"]));
    }
    for error in report["errors"].as_array().into_iter().flatten() {
        lines.push(format!("error      {} {}", text(&error["pointer"]), text(&error["detail"])));
    }
    let reason = report["reason"].as_str().map_or_else(String::new, |reason| format!(": {reason}"));
    lines.push(format!("decision   {}{reason}", text(&report["decision"])));
    lines
}

/// `kedge inbox list`, `show` and `replay`.
pub(crate) async fn inbox(command: &InboxCommand, out: Out) -> Result<ExitCode> {
    let api = Api::from_env()?;
    let pretty = |value: &Value, _| vec![serde_json::to_string_pretty(value).unwrap_or_default()];
    match command {
        InboxCommand::List { hook, status, limit } => {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            query.append_pair("limit", &limit.to_string());
            for (name, value) in [("hook", hook), ("status", status)] {
                if let Some(value) = value {
                    query.append_pair(name, value);
                }
            }
            let page = api.get(&format!("/v1/inbox?{}", query.finish())).await?;
            out.table(&page, "inbox", &["id", "at", "hook", "status", "event", "site", "reason"])?;
        }
        InboxCommand::Show { id } => out.value(&api.get(&format!("/v1/inbox/{id}")).await?, pretty)?,
        InboxCommand::Replay { id } => {
            let done = api.post(&format!("/v1/inbox/{id}/replay"), &json!({}), &[]).await?;
            out.value(&done, pretty)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
