//! `kedge platforms`: lists them, compares two, adds one and takes one away. It asks a running Kedge and prints its answers.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use super::{Api, Out, compare, records};
use crate::cli::{AddPlatformArgs, PlatformsArgs, PlatformsCommand};

/// `kedge platforms`.
pub(crate) async fn platforms(api: &Api, out: Out, args: &PlatformsArgs) -> Result<ExitCode> {
    match &args.command {
        None => records(api, out, "platforms", &["name", "app", "web_server", "root", "source"]).await,
        Some(PlatformsCommand::Compare(args)) => compare(api, out, args).await,
        Some(PlatformsCommand::Add(args)) => add(api, out, args).await,
        Some(PlatformsCommand::Remove { name }) => remove(api, out, name).await,
    }
}

async fn add(api: &Api, out: Out, args: &AddPlatformArgs) -> Result<ExitCode> {
    let AddPlatformArgs { name, web_server, root, app, drush } = args;
    let mut body = json!({ "name": name, "web_server": web_server, "root": root, "app": app });
    if let Some(drush) = drush {
        body["drush"] = json!(drush);
    }
    let platform = api.post("/v1/platforms", &body, &[]).await?;
    let told = format!("{name} can be used; `kedge task verify -p platform={name}` looks at it");
    out.value(&platform, |_, _| vec![told])?;
    Ok(ExitCode::SUCCESS)
}

async fn remove(api: &Api, out: Out, name: &str) -> Result<ExitCode> {
    api.delete(&format!("/v1/platforms/{name}")).await?;
    out.value(&json!({ "removed": name }), |_, _| {
        vec![format!("{name} is no platform any more; its files stay")]
    })?;
    Ok(ExitCode::SUCCESS)
}
