//! The scripts that run on a WordPress site, what they answer, and what is told of it. Runs nothing.

use std::time::Duration;

use kedge_workflows::ports::Secret;
use serde::Deserialize;
use serde_json::{Map, Value};

/// How long a script that only looks may take: a step's own limit ends it before, where it is shorter.
pub(super) const FACTS_LIMIT: Duration = Duration::from_secs(120);
/// Most names told of what an import leaves behind: more are no text that somebody reads.
const MAX_TOLD: usize = 30;

#[derive(Deserialize)]
pub(super) struct Platform {
    pub(super) version: String,
    pub(super) schema_version: u64,
}

#[derive(Deserialize)]
pub(super) struct Site {
    pub(super) installed: bool,
    pub(super) version: String,
    pub(super) schema_version: Option<u64>,
    pub(super) update_pending: bool,
}

#[derive(Deserialize)]
pub(super) struct Found {
    pub(super) host: String,
    pub(super) version: String,
    pub(super) schema_version: u64,
    pub(super) database_host: String,
    pub(super) database: String,
    pub(super) user: String,
    pub(super) tables: u64,
    pub(super) https: bool,
    /// What in its directory is neither WordPress's own nor comes along.
    pub(super) left: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct Updated {
    pub(super) from: u64,
    pub(super) to: u64,
}

/// A script and how it is run.
pub(super) struct OnSite<'a> {
    pub(super) doing: &'static str,
    /// Functions that the script uses.
    pub(super) before: &'a str,
    pub(super) script: &'a str,
    pub(super) parameters: Map<String, Value>,
    pub(super) secrets: Vec<Secret>,
    /// Only WordPress's base is loaded, nothing of the site's.
    pub(super) short: bool,
    pub(super) limit: Duration,
    pub(super) changes: bool,
}

impl<'a> OnSite<'a> {
    pub(super) fn new(doing: &'static str, script: &'a str) -> Self {
        let (parameters, secrets) = (Map::new(), Vec::new());
        Self {
            doing,
            before: "",
            script,
            parameters,
            secrets,
            short: true,
            limit: FACTS_LIMIT,
            changes: false,
        }
    }

    pub(super) fn changing(self, limit: Duration) -> Self {
        Self { short: false, limit, changes: true, ..self }
    }
}

/// What an import says of files that it does not take along.
pub(super) fn left_behind(names: &[String]) -> Option<String> {
    let told: Vec<&str> = names.iter().take(MAX_TOLD).map(String::as_str).collect();
    let more = if names.len() > told.len() { " and more" } else { "" };
    (!told.is_empty()).then(|| {
        format!(
            "beside wp-config.php and wp-content these are not WordPress's own and do not come along: {}{more}; what is served from \
             them has to be served in another way",
            told.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_behind_is_told() {
        assert_eq!(left_behind(&[]), None);
        let told = left_behind(&["robots.txt".to_owned(), "ads.txt".to_owned()]).unwrap();
        assert!(told.contains(": robots.txt, ads.txt; "), "{told}");
        let many = left_behind(&vec!["x".repeat(3); 100]).unwrap();
        assert!(many.matches("xxx").count() == MAX_TOLD && many.contains("xxx and more;"), "{many}");
    }
}
