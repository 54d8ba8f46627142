//! A Drupal site that Kedge did not make, found by its own settings, with the code that is beside it. Changes nothing and keeps no password.

use kedge_workflows::names::{BadName, DatabaseName, SiteName};
use kedge_workflows::ports::{FoundSite, Package, PortError, PortResult};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::drupal::{CODE, FACTS_LIMIT, LOAD};
use super::php::{Php, Run};

#[derive(Deserialize)]
struct Found {
    version: String,
    schema_version: Option<u64>,
    database_host: String,
    database: String,
    user: String,
    tables: u64,
    members: Vec<String>,
    packages: Vec<Package>,
}

/// Looks at the site in a directory `<root of the code>/sites/<site>`.
pub(super) async fn find(php: &Php, dir: &str, name: &SiteName) -> PortResult<FoundSite> {
    let parts = dir.rsplit_once("/sites/").filter(|(root, site)| !root.is_empty() && !site.contains('/'));
    let Some((root, _)) = parts else {
        return Err(PortError::Refused(format!(
            "{dir}: name the site's own directory, below sites of its Drupal: /var/www/drupal/sites/{name}"
        )));
    };
    let mut parameters = Map::new();
    for (key, value) in [("platform_root", root), ("dir", dir), ("site", name.as_str()), ("mode", "find")] {
        parameters.insert(key.to_owned(), Value::from(value));
    }
    let found: Found = php
        .run(Run {
            what: format!("looking at the site in {dir}"),
            script: &[CODE, LOAD, include_str!("php/drupal_find.php")],
            parameters,
            // PHP tells no arguments of functions, and the script tells no password: there is none to be masked.
            secrets: Vec::new(),
            limit: FACTS_LIMIT,
            changes: false,
        })
        .await?;
    let bad = |what: &str, error: BadName| {
        PortError::Refused(format!("{dir}/settings.php, the name of the {what}: {error}"))
    };
    Ok(FoundSite {
        // Drupal keeps no name of its own.
        name: None,
        version: found.version,
        schema_version: found.schema_version,
        database_host: found.database_host,
        database: DatabaseName::parse(&found.database).map_err(|error| bad("database", error))?,
        user: DatabaseName::parse(&found.user).map_err(|error| bad("user", error))?,
        tables: Some(found.tables),
        members: found.members,
        packages: found.packages,
        https: false,
        notes: Vec::new(),
    })
}
