//! Real WordPress sites on a test host: a by-hand installation in the layout that Kedge makes, and content with the
//! oddities of real sites. WordPress itself does the work; this only hands scripts to PHP, secrets on standard input only.

mod seed;
mod site;

pub use seed::{SeedReport, SeedSpec, seed};
pub use site::{Site, SiteSpec, install};

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::exec::Exec;
use crate::host::Host;

/// Runs a script as www-data with `spec` as its `$spec`, and reads the JSON line that it prints last.
async fn php<T: DeserializeOwned>(
    host: &Host,
    spec: &impl Serialize,
    script: &str,
    limit: Duration,
) -> Result<T> {
    let spec = serde_json::to_string(spec).map_err(|error| Error::Spec(error.to_string()))?;
    // A nowdoc takes any text that has no line like its end mark, and JSON is one line.
    let input = format!("<?php $spec = json_decode(<<<'END_OF_SPEC'\n{spec}\nEND_OF_SPEC, true);\n{script}");
    let exec = Exec::new(["php", "-d", "display_errors=stderr"]).user("www-data").stdin(input).limit(limit);
    let output = host.run_ok(exec.clone()).await?;
    let text = output.text();
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).map_err(|error| {
        exec.error(host.container_name(), format!("printed no JSON ({error}): {}", output.describe()))
    })
}
