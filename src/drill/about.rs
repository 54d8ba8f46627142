//! What a drilled task is about, by its parameters and the registry. Asks no host.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use kedge_workflows::names::SiteName;
use serde_json::Value;

use super::back::Records;
use super::look::Scene;
use super::state::State;
use super::way::copy_of;
use crate::between::Nothing;
use crate::cli::DrillArgs;
use crate::config::{self, Config};
use crate::serve::instance;
use crate::world::LiveWorld;

/// What the task is about, by its parameters and the registry.
pub(super) fn scene(
    args: &DrillArgs,
    config: &Config,
    state: &State,
    (workflow, params): (&str, &Value),
    records: &Records,
) -> Result<Scene> {
    let text = |name: &str| params[name].as_str();
    let mut platforms: BTreeSet<String> =
        ["platform", "target_platform"].into_iter().filter_map(text).map(str::to_owned).collect();
    let mut servers: BTreeSet<String> = ["database_server", "target_database_server"]
        .into_iter()
        .filter_map(text)
        .map(str::to_owned)
        .collect();
    let mut sites = Vec::new();
    for name in names(workflow, params, records) {
        sites.push(SiteName::parse(&name).with_context(|| format!("{name:?} is no site name"))?);
        if let Some(record) = records.get("site").and_then(|sites| sites.get(&name)) {
            platforms.extend(record["platform"].as_str().map(str::to_owned));
            servers.extend(record["database_server"].as_str().map(str::to_owned));
        }
    }
    ensure!(!sites.is_empty(), "name the site: --site shop.example.org");
    if servers.is_empty() && config.database_servers.len() == 1 {
        servers.extend(config.database_servers.keys().cloned());
    }
    let dirs: Vec<String> = text("path").into_iter().map(str::to_owned).collect();
    let blank = dirs.iter().any(|dir| dir.contains(char::is_whitespace));
    ensure!(!blank, "a drill looks at no directory with blanks in its name: import from one without");
    // Of its own: the hosts are looked at through other eyes than the lives' processes have.
    let mut own = config::load(&args.config.config)?;
    own.data_dir = state.data();
    let own = Arc::new(own);
    let world = LiveWorld::new(own.clone(), "drill", &Nothing)?;
    let instance = instance(&config.data_dir)?;
    Ok(Scene { config: own, world, instance, sites, dirs, platforms, database_servers: servers })
}

/// The names of the sites that the task is about.
fn names(workflow: &str, params: &Value, records: &Records) -> Vec<String> {
    let mut names: Vec<String> =
        ["site", "new_site"].iter().filter_map(|name| params[*name].as_str()).map(str::to_owned).collect();
    match workflow {
        "purge" => names.extend(params["site"].as_str().map(copy_of)),
        "import" if names.is_empty() => {
            let path = params["path"].as_str().unwrap_or_default();
            names.extend(path.trim_end_matches('/').rsplit('/').next().map(str::to_owned));
        }
        "migrate_platform" => match params["sites"].as_array() {
            Some(sites) if !sites.is_empty() => {
                names.extend(sites.iter().filter_map(Value::as_str).map(str::to_owned));
            }
            _ => {
                let all = records.get("site").into_iter().flatten();
                let here = all.filter(|(_, site)| site["platform"] == params["platform"]);
                names.extend(here.map(|(name, _)| name.clone()));
            }
        },
        _ => {}
    }
    names
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_drill_knows_the_sites_that_a_task_is_about() {
        let site = |platform: &str| json!({ "platform": platform });
        let sites = [("a.test", "old"), ("b.test", "old"), ("c.test", "new")];
        let sites = sites.iter().map(|(name, platform)| ((*name).to_owned(), site(platform))).collect();
        let records = Records::from([("site".to_owned(), sites)]);
        for (workflow, params, expected) in [
            ("migrate", json!({ "site": "a.test", "new_site": "d.test" }), vec!["a.test", "d.test"]),
            ("purge", json!({ "site": "a.test" }), vec!["a.test", "kedge-drill.a.test"]),
            ("import", json!({ "path": "/var/www/e.test/" }), vec!["e.test"]),
            ("import", json!({ "path": "/var/www/e", "site": "e.test" }), vec!["e.test"]),
            ("migrate_platform", json!({ "platform": "old" }), vec!["a.test", "b.test"]),
            ("migrate_platform", json!({ "platform": "old", "sites": ["b.test"] }), vec!["b.test"]),
        ] {
            assert_eq!(names(workflow, &params, &records), expected, "{workflow} {params}");
        }
    }
}
