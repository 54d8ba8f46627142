//! `kedge tokens` and `kedge audit`: who may ask, and who did what. They ask a running Kedge and print its answers.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Value, json};

use super::{Api, Out, cells, render};
use crate::cli::{AuditArgs, TokensCommand};

/// `kedge tokens list|create|revoke`.
pub(crate) async fn tokens(api: &Api, out: Out, command: &TokensCommand) -> Result<ExitCode> {
    match command {
        TokensCommand::List => {
            let list = api.get("/v1/tokens").await?;
            out.value(&list, |list, _| {
                let rows = list["tokens"].as_array().into_iter().flatten();
                let joined = |token: &Value, field: &str| {
                    let texts = token[field].as_array().into_iter().flatten().filter_map(Value::as_str);
                    texts.collect::<Vec<_>>().join(" ")
                };
                let rows: Vec<Vec<String>> = rows
                    .map(|token| {
                        let mut row = cells(token, &["name", "source"]);
                        row.extend([joined(token, "scopes"), joined(token, "sites")]);
                        row.extend(cells(token, &["expires_at"]));
                        row
                    })
                    .collect();
                render::table(&["token", "source", "scopes", "sites", "expires"], &rows)
            })?;
        }
        TokensCommand::Create(args) => {
            let mut body = json!({ "name": args.name, "scopes": args.scopes, "sites": args.sites, "networks": args.networks });
            if let Some(at) = &args.expires_at {
                body["expires_at"] = json!(at);
            }
            let token = api.post("/v1/tokens", &body, &[]).await?;
            out.value(&token, |token, _| {
                let secret = token["secret"].as_str().unwrap_or_default();
                vec![secret.to_owned(), "keep it: it is not shown again (KEDGE_TOKEN takes it)".to_owned()]
            })?;
        }
        TokensCommand::Revoke { name } => {
            api.delete(&format!("/v1/tokens/{name}")).await?;
            out.value(&json!({ "revoked": name }), |_, _| vec![format!("{name} is revoked")])?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `kedge audit`.
pub(crate) async fn audit(api: &Api, out: Out, args: &AuditArgs) -> Result<ExitCode> {
    let page = api.get(&format!("/v1/audit?limit={}", args.limit)).await?;
    out.value(&page, |page, _| {
        let fields = ["sequence", "at", "by", "from", "action", "target", "status"];
        let rows = page["records"].as_array().into_iter().flatten();
        let rows: Vec<Vec<String>> = rows.map(|record| cells(record, &fields)).collect();
        render::table(&fields, &rows)
    })?;
    Ok(ExitCode::SUCCESS)
}
