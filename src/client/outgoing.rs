//! `kedge endpoints` and `kedge deliveries`: who gets callbacks, and what became of them. They ask a running Kedge and print its answers.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Value, json};

use super::{Api, Out, cells, render};
use crate::cli::{DeliveriesCommand, EndpointsCommand};

/// `kedge endpoints list|test|rotate|recover|enable|disable`.
pub(crate) async fn endpoints(api: &Api, out: Out, command: &EndpointsCommand) -> Result<ExitCode> {
    let path = |name: &str, verb: &str| format!("/v1/endpoints/{name}/{verb}");
    match command {
        EndpointsCommand::List => {
            let fields = ["name", "source", "kind", "origin", "form", "disabled"];
            out.table(&api.get("/v1/endpoints").await?, "endpoints", &fields)?;
        }
        EndpointsCommand::Test { name } => {
            let done = api.post(&path(name, "test"), &json!({}), &[]).await?;
            out.value(&done, |done, _| vec![attempt(done)])?;
            return Ok(ExitCode::from(u8::from(done["delivered"] != true)));
        }
        EndpointsCommand::Rotate { name, grace_seconds } => {
            let body = json!({ "grace_seconds": grace_seconds });
            let endpoint = api.post(&path(name, "rotate"), &body, &[]).await?;
            out.value(&endpoint, |endpoint, _| {
                let secret = endpoint["secret"].as_str().unwrap_or_default();
                vec![secret.to_owned(), "keep it: it is not shown again".to_owned()]
            })?;
        }
        EndpointsCommand::Recover { name, since } => {
            let done = api.post(&path(name, "recover"), &json!({ "since": since }), &[]).await?;
            out.value(&done, |done, _| {
                let more = if done["more"] == true { "; there are more: say it again" } else { "" };
                vec![format!("{} are sent again{more}", done["replayed"])]
            })?;
        }
        EndpointsCommand::Enable { name } | EndpointsCommand::Disable { name } => {
            let verb = if matches!(command, EndpointsCommand::Enable { .. }) { "enable" } else { "disable" };
            let endpoint = api.post(&path(name, verb), &json!({}), &[]).await?;
            out.value(&endpoint, |_, _| vec![format!("{name} is {verb}d")])?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `kedge deliveries list|show|replay`.
pub(crate) async fn deliveries(api: &Api, out: Out, command: &DeliveriesCommand) -> Result<ExitCode> {
    match command {
        DeliveriesCommand::List { limit } => {
            let fields = ["id", "endpoint", "type", "task_id", "status", "attempts", "created_at"];
            out.table(&api.get(&format!("/v1/deliveries?limit={limit}")).await?, "deliveries", &fields)?;
        }
        DeliveriesCommand::Show { id } => {
            let delivery = api.get(&format!("/v1/deliveries/{id}")).await?;
            out.value(&delivery, |delivery, _| {
                let fields = ["id", "endpoint", "type", "task_id", "status"];
                let mut lines = render::table(&fields, &[cells(delivery, &fields)]);
                lines.extend(delivery["deliveries"].as_array().into_iter().flatten().map(attempt));
                lines
            })?;
        }
        DeliveriesCommand::Replay { id } => {
            let delivery = api.post(&format!("/v1/deliveries/{id}/replay"), &json!({}), &[]).await?;
            out.value(&delivery, |_, _| vec![format!("{id} is sent again")])?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// An attempt in a line.
fn attempt(attempt: &Value) -> String {
    let at = attempt["at"].as_str().map(|at| format!("{at}  ")).unwrap_or_default();
    let status = attempt["status"].as_u64().map(|status| format!("answered {status} ")).unwrap_or_default();
    let error = attempt["error"].as_str().map(|error| format!(", {error}")).unwrap_or_default();
    format!("  {at}{status}in {} ms{error}", attempt["duration_ms"])
}
