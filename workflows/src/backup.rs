//! `backup`: one archive of a site's files and database, made while the site is up. Also the sub-task of that name in others.

use std::borrow::Cow;

use kedge_engine::builder::{Named, PlanBuilder};
use kedge_engine::plan::Plan;
use kedge_engine::step::Ref;
use kedge_engine::workflow::{PlanCx, PlanRefusal, Workflow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::names::SiteName;
use crate::params::{parse, schema, stamp};
use crate::place::{Place, Store};
use crate::ports::{Compression, MAX_BACKUP_NAME};
use crate::records;
use crate::steps::backup::{CatalogBackup, Catalogued, VerifyBackup, WriteBackup};
use crate::steps::preflight::{Becomes, Preflight};

/// Most paths that a backup leaves out.
const MAX_EXCLUDES: usize = 100;
/// Longest beginning of an archive's name: 31 characters at most come behind it (`-20261122.100000_abcdef.tar.zst`).
const MAX_STEM: usize = MAX_BACKUP_NAME - 31;
/// Digits of the hash in a name that was cut: 64 bits, which no two sites of one service share by accident.
const STEM_HASH: usize = 16;

/// The workflow.
pub(crate) struct Backup;

/// Parameters of `backup`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// The site.
    site: SiteName,
    /// Why it is made, for the list of backups.
    #[serde(default)]
    #[schemars(length(max = 200))]
    description: Option<String>,
    /// Compression of the archive.
    #[serde(default)]
    compression: Compression,
    /// Paths below the site's directory that are left out.
    #[serde(default)]
    #[schemars(length(max = 100))]
    exclude: Vec<String>,
}

impl Workflow for Backup {
    fn name(&self) -> &'static str {
        "backup"
    }

    fn title(&self) -> &'static str {
        "Make one archive of a site's files and database, while the site is up."
    }

    fn schema(&self) -> Value {
        schema::<Params>()
    }

    fn example(&self) -> Value {
        json!({ "site": "shop.example.test", "description": "before the sale" })
    }

    fn plan(&self, params: &Value, cx: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        let params: Params = parse(params)?;
        let exclude = excludes(&params.exclude)?;
        let record = records::site(cx.facts, &params.site, "/site")?;
        let platform = records::platform(cx.facts, &record.platform, "/site")?;
        let place = Place::of(&record, &platform, records::host_of(cx.facts, &platform.web_server)?);
        let store = Store::of(&record);
        let mut plan = PlanBuilder::new(Some(params.site.as_str()));
        plan.lock(format!("site {}", params.site), true);
        let found = plan.step(
            "preflight",
            Preflight {
                from: Some((place.clone(), store.clone())),
                to: None,
                to_server: None,
                backup: true,
                expects: None,
                warnings_stop: false,
                may_be_broken: false,
                replaces: None,
                state: None,
                becomes: Becomes::Kept,
            },
            &[],
        );
        let description = params.description.unwrap_or_else(|| "Generated on request".to_owned());
        let request = Request { description, compression: params.compression, exclude };
        steps(&mut plan, cx, &place, &store, request, &found);
        Ok(plan.build()?)
    }
}

/// What distinguishes one backup from another.
pub(crate) struct Request {
    /// Why it is made.
    pub(crate) description: String,
    /// Its compression.
    pub(crate) compression: Compression,
    /// What it leaves out.
    pub(crate) exclude: Vec<String>,
}

/// Adds the steps of a backup after one step.
pub(crate) fn steps(
    plan: &mut PlanBuilder,
    cx: &PlanCx<'_>,
    place: &Place,
    store: &Store,
    request: Request,
    after: &dyn Named,
) -> Ref<Catalogued> {
    // The stamp alone may come twice within a second; the task's id makes the name its own.
    let id: String = cx.task.as_str().chars().rev().take(6).collect::<Vec<_>>().into_iter().rev().collect();
    let name = format!("{}-{}_{id}{}", stem(&place.site), stamp(cx.named_at), request.compression.suffix());
    let written = plan.step(
        "write_backup",
        WriteBackup {
            place: place.clone(),
            store: store.clone(),
            name: name.clone(),
            compression: request.compression,
            description: request.description.clone(),
            exclude: request.exclude.clone(),
        },
        &[after],
    );
    let verified = plan.step("verify_backup", VerifyBackup { name, written }, &[]);
    plan.step(
        "catalog_backup",
        CatalogBackup {
            place: place.clone(),
            database_server: store.server.clone(),
            description: request.description,
            exclude: request.exclude,
            verified,
        },
        &[],
    )
}

/// The paths as drivers take them: without `.` and empty parts.
fn excludes(paths: &[String]) -> Result<Vec<String>, PlanRefusal> {
    if paths.len() > MAX_EXCLUDES {
        return Err(PlanRefusal::param("/exclude", format!("at most {MAX_EXCLUDES} paths")));
    }
    let plain = |(index, path): (usize, &String)| {
        let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        if parts.is_empty() || path.starts_with('/') || path.contains('\0') || parts.contains(&"..") {
            return Err(PlanRefusal::param(
                format!("/exclude/{index}"),
                "write a path below the site's directory, without .. and a leading slash",
            ));
        }
        Ok(parts.join("/"))
    };
    paths.iter().enumerate().map(plain).collect()
}

/// The beginning of the names of a site's archives: its own name, which is cut where it is too long for a file's, and told apart from
/// others that begin alike by a hash.
fn stem(site: &SiteName) -> Cow<'_, str> {
    let site = site.as_str();
    if site.len() <= MAX_STEM {
        return Cow::Borrowed(site);
    }
    // No host name has an underscore: this is no other site's stem.
    let hash = hex::encode(Sha256::digest(site));
    let hash = &hash[..STEM_HASH];
    let head: String = site.chars().take(MAX_STEM - STEM_HASH - 1).collect();
    Cow::Owned(format!("{head}_{hash}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_a_plain_path_or_refused() {
        let read = |path: &str| excludes(&[path.to_owned()]).ok().and_then(|mut paths| paths.pop());
        for (written, plain) in [
            ("wp-content/cache/", "wp-content/cache"),
            ("./x", "x"),
            ("a//b", "a/b"),
            ("a/./b/.", "a/b"),
            ("...", "..."),
        ] {
            assert_eq!(read(written).as_deref(), Some(plain), "{written}");
        }
        for bad in ["", ".", "./", "/a", "a/..", "../a", "a\0"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_archive_of_every_site_has_a_name_that_a_file_can_have() {
        let site = |length: usize, end: &str| {
            let label = format!("{}.", "a".repeat(60));
            let name: String = label.chars().cycle().take(length - end.len()).collect();
            SiteName::parse(&format!("{name}{end}")).unwrap()
        };
        let ending = "-20261122.100000_abcdef.tar.zst";
        for length in [20, MAX_STEM, MAX_STEM + 1, 235] {
            let (one, other) = (site(length, "x.test"), site(length, "y.test"));
            assert_ne!(stem(&one), stem(&other));
            assert_eq!(stem(&one) == one.as_str(), length <= MAX_STEM, "{length}");
            assert!(stem(&one).len() + ending.len() <= MAX_BACKUP_NAME, "{length}: {}", stem(&one));
        }
        assert_eq!(MAX_STEM + ending.len(), MAX_BACKUP_NAME);
    }
}
