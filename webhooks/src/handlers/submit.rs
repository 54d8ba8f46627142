//! From a checked request to a task: the last steps that API calls, hooks and verbs share. It checks which sites are meant and
//! turns the engine's refusals into problem documents.

use http::StatusCode;
use kedge_engine::inbox::Received;
use kedge_engine::service::{Submission, SubmitError, Submitted};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::app::Inner;
use crate::config::Sites;
use crate::handlers::{to_its_end, unreadable};
use crate::problem::{Fault, Problem};

/// Seconds after which it makes sense to ask again when no new work is taken.
const RETRY_AFTER_S: u32 = 30;

/// Hands a submission to the engine; it runs to its end even if the caller hangs up, so that nothing is done by halves.
pub(crate) async fn submit(
    app: &Inner,
    submission: Submission,
) -> Result<Result<Submitted, SubmitError>, Problem> {
    to_its_end(&app.ports.tasks, |tasks| async move { tasks.submit(submission).await }).await
}

/// Demands that every name that the task is about, or gives to a site, is among these, and whatever else holds a site's content too.
pub(crate) fn check_sites(app: &Inner, sites: &Sites, workflow: &str, params: &Value) -> Result<(), Problem> {
    if sites.is_all() {
        return Ok(());
    }
    let record = |family: &str, parameter: &str| {
        let name = params.get(parameter).and_then(Value::as_str);
        let found = name.map(|name| app.ports.tasks.record(family, name).map_err(|error| unreadable(&error)));
        found.transpose().map(Option::flatten)
    };
    let mut wrong = outside(sites, params);
    wrong.extend(contents(sites, params, record("backup", "backup")?.as_ref()));
    if workflow == "migrate" {
        wrong.extend(goes_along(sites, params, record("site", "site")?.as_ref()));
    }
    refused(wrong)
}

/// The same name with `www.`, or without.
fn twin(name: &str) -> String {
    name.strip_prefix("www.").map_or_else(|| format!("www.{name}"), str::to_owned)
}

/// The name with (or without) `www.` that a rename takes along, since the site has it now.
fn goes_along(sites: &Sites, params: &Value, site: Option<&Value>) -> Option<Fault> {
    let text = |name: &str| params.get(name).and_then(Value::as_str);
    let (old, new) = (twin(text("site")?), twin(text("new_site")?));
    let has_it = site?["aliases"].as_array()?.iter().any(|alias| *alias == old.as_str());
    (has_it && !sites.covers(Some(&new))).then(|| {
        let detail = format!("takes the alias along as {new}, which is not among the sites allowed here");
        Fault::new("/params/new_site", detail)
    })
}

/// Whether a parameter is given: null is the same as leaving it out.
fn named(params: &Value, name: &str) -> bool {
    params.get(name).is_some_and(|value| !value.is_null())
}

/// A backup named in the parameters that is not of these sites: its record says of which it is.
fn contents(sites: &Sites, params: &Value, backup: Option<&Value>) -> Vec<Fault> {
    if sites.is_all() {
        return Vec::new();
    }
    let mut wrong = Vec::new();
    let of = backup.and_then(|backup| backup["site"].as_str());
    if named(params, "backup") && !of.is_some_and(|site| sites.covers(Some(site))) {
        wrong.push(Fault::new("/params/backup", "is not known to be of a site allowed here"));
    }
    wrong
}

fn refused(wrong: Vec<Fault>) -> Result<(), Problem> {
    if wrong.is_empty() {
        return Ok(());
    }
    let detail = "this token or hook is bound to certain sites, and the task is about others";
    Err(Problem::new(StatusCode::FORBIDDEN, "site-not-allowed", "Not for this site", detail).faults(wrong))
}

/// The sites named in the parameters that are not among these, and a directory of a host, in which may be anybody's.
pub(crate) fn outside(sites: &Sites, params: &Value) -> Vec<Fault> {
    if sites.is_all() {
        return Vec::new();
    }
    let text = |name: &str| params.get(name).and_then(Value::as_str);
    let mut wrong = Vec::new();
    if !sites.covers(text("site")) {
        wrong.push(Fault::new("/params/site", "is not among the sites allowed here"));
    }
    if text("new_site").is_some_and(|site| !sites.covers(Some(site))) {
        wrong.push(Fault::new("/params/new_site", "is not among the sites allowed here"));
    }
    let with_www = text("site").filter(|_| params.get("www") == Some(&Value::Bool(true))).map(twin);
    if let Some(name) = with_www.filter(|name| !sites.covers(Some(name))) {
        let detail = format!("gives the site the name {name}, which is not among the sites allowed here");
        wrong.push(Fault::new("/params/www", detail));
    }
    for (index, alias) in params.get("aliases").and_then(Value::as_array).into_iter().flatten().enumerate() {
        if !sites.covers(alias.as_str()) {
            wrong.push(Fault::new(format!("/params/aliases/{index}"), "is not among the sites allowed here"));
        }
    }
    if named(params, "path") {
        wrong.push(Fault::new("/params/path", "may only be named by those to whom every site is allowed"));
    }
    wrong
}

/// SHA-256 in hex of several parts, each with its length, so that no two lists of parts look the same.
pub(crate) fn fingerprint(parts: &[&[u8]]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    hex::encode(digest.finalize())
}

/// The same for a message that came in: it is kept with its task.
pub(crate) async fn submit_received(
    app: &Inner,
    submission: Submission,
    received: Received,
) -> Result<Result<Submitted, SubmitError>, Problem> {
    to_its_end(&app.ports.tasks, |tasks| async move { tasks.submit_received(submission, received).await })
        .await
}

/// A refusal as a problem document. `locate` puts a parameter's pointer where the caller wrote it.
pub(crate) fn refusal(app: &Inner, error: SubmitError, locate: impl Fn(Fault) -> Fault) -> Problem {
    match error {
        SubmitError::UnknownWorkflow(_) => unknown_workflow(app),
        SubmitError::BadParams(params) => {
            let faults = params.into_iter().map(|param| locate(Fault::new(param.pointer, param.detail)));
            bad_params(faults)
        }
        SubmitError::Nothing(why) => bad_params([locate(Fault::new("", why))]),
        SubmitError::Refused(why) => {
            Problem::new(StatusCode::CONFLICT, "refused", "This cannot be done as things are", why)
        }
        SubmitError::KeyReused(_) => {
            let detail = "this key was used for another request; use a new key for a new request, or send the same body again";
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "key-reused", "The key was used before", detail)
        }
        SubmitError::PlanChanged { now } => {
            let detail = "the plan is not the one that was seen; look at it again with ?dry_run=true and send its hash";
            Problem::new(StatusCode::PRECONDITION_FAILED, "plan-changed", "The plan has changed", detail)
                .with("plan_hash", now)
        }
        SubmitError::Unavailable(why) => {
            Problem::unavailable(format!("no new tasks at the moment: {why}"), RETRY_AFTER_S)
        }
        SubmitError::Store(error) => {
            tracing::error!(target: "kedge::http", error, "a task could not be stored");
            Problem::unavailable("the task could not be stored; nothing was done", RETRY_AFTER_S)
        }
    }
}

pub(crate) fn unknown_workflow(app: &Inner) -> Problem {
    let names = app.schemas.names();
    Problem::invalid("there is no such workflow", [Fault::new("/workflow", format!("is one of: {names}"))])
}

pub(crate) fn bad_params(faults: impl IntoIterator<Item = Fault>) -> Problem {
    Problem::invalid(
        "the parameters do not fit the workflow; GET /v1/workflows/{name} shows its schema",
        faults,
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_site_of_a_task_has_to_be_allowed() {
        let sites = Sites::new(&["*.a.test".to_owned()], &mut Vec::new());
        let pointers = |params: Value| match refused(outside(&sites, &params)) {
            Ok(()) => Vec::new(),
            Err(problem) => {
                let body = problem.into_response("r").into_body().into_full().unwrap();
                let body: Value = serde_json::from_slice(&body).unwrap();
                let errors = body["errors"].as_array().unwrap().clone();
                errors.iter().map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
            }
        };
        assert!(
            pointers(json!({"site": "x.a.test", "new_site": "y.a.test", "aliases": ["z.a.test"]})).is_empty()
        );
        assert_eq!(pointers(json!({"site": "b.test"})), ["#/params/site"]);
        assert_eq!(pointers(json!({})), ["#/params/site"], "a task about no site needs `*`");
        let all =
            pointers(json!({"site": "x.a.test", "new_site": "b.test", "aliases": ["x.a.test", "b.test", 7]}));
        assert_eq!(all, ["#/params/new_site", "#/params/aliases/1", "#/params/aliases/2"]);
        assert!(outside(&Sites::new(&["*".to_owned()], &mut Vec::new()), &json!({})).is_empty());
    }

    #[test]
    fn names_with_and_without_www_have_to_be_allowed_too() {
        let sites = Sites::new(&["*.a.test".to_owned()], &mut Vec::new());
        let count = |params: Value| outside(&sites, &params).len();
        assert_eq!(count(json!({"site": "x.a.test", "www": true})), 0);
        assert_eq!(count(json!({"site": "www.a.test", "www": true})), 1, "a.test is somebody else's");
        assert_eq!(count(json!({"site": "www.a.test", "www": false})), 0);
        let along = |new: &str, aliases: Value| {
            let params = json!({"site": "www.x.a.test", "new_site": new});
            goes_along(&sites, &params, Some(&json!({ "aliases": aliases }))).is_some()
        };
        assert!(along("www.a.test", json!(["y.a.test", "x.a.test"])));
        assert!(!along("www.a.test", json!(["y.a.test"])), "nothing goes along");
        assert!(!along("www.y.a.test", json!(["x.a.test"])));
    }

    #[test]
    fn contents_of_other_sites_are_not_brought_in() {
        let sites = Sites::new(&["*.a.test".to_owned()], &mut Vec::new());
        let all = Sites::new(&["*".to_owned()], &mut Vec::new());
        let restore = json!({"site": "x.a.test", "backup": "some.tar.zst"});
        let of = |site: &str| Some(json!({ "site": site }));
        let count = |sites: &Sites, params: &Value, backup: Option<Value>| {
            contents(sites, params, backup.as_ref()).len()
        };
        assert_eq!(count(&sites, &restore, of("y.a.test")), 0);
        assert_eq!(count(&sites, &restore, of("b.test")), 1, "of somebody else");
        assert_eq!(count(&sites, &restore, None), 1, "of nobody knows whom");
        assert_eq!(count(&all, &restore, None), 0);
        let newest = json!({"site": "x.a.test", "backup": null});
        assert_eq!(count(&sites, &newest, None), 0, "no backup is named");
        let import = json!({"site": "x.a.test", "path": "/srv/b.test"});
        assert_eq!((outside(&sites, &import).len(), outside(&all, &import).len()), (1, 0));
        assert_eq!(count(&sites, &json!({"site": "x.a.test"}), None), 0);
    }

    #[test]
    fn fingerprints_tell_the_parts_apart() {
        assert_ne!(fingerprint(&[b"a", b"b"]), fingerprint(&[b"ab", b""]));
        assert_eq!(fingerprint(&[b"a", b"b"]), fingerprint(&[b"a", b"b"]));
    }
}
