//! What a message to a hook would do, told step by step: which secret fits, what the event is, which filters hold, what it maps to and what
//! the workflow's schema says. Runs nothing and changes nothing.

use http::{HeaderMap, header};
use kedge_engine::service::WorkflowInfo;
use serde_json::{Value, json};

use crate::config::Mistake;
use crate::handlers::submit::outside;
use crate::hook::{Checked, Decision, Hook};
use crate::inbox::mask;
use crate::problem::Fault;
use crate::provider::Facts;
use crate::schemas::Schemas;

/// What a message would do.
pub struct Explained {
    /// Everything, step by step.
    pub report: Value,
    /// The task that would be asked for: workflow and parameters that fit its schema.
    pub task: Option<(String, Value)>,
}

/// Explains a message to a hook. What is secret in it by its names is masked in the report.
///
/// # Errors
/// Schemas of workflows that do not compile.
pub fn explain(
    hook: &Hook,
    workflows: &[WorkflowInfo],
    headers: &HeaderMap,
    body: &[u8],
    now_s: u64,
) -> Result<Explained, Vec<Mistake>> {
    Ok(with(hook, &Schemas::new(workflows)?, headers, body, now_s))
}

pub(crate) fn with(
    hook: &Hook,
    schemas: &Schemas,
    headers: &HeaderMap,
    body: &[u8],
    now_s: u64,
) -> Explained {
    let provider = hook.scheme.provider;
    let mut report = json!({ "hook": hook.name, "provider": provider.as_str() });
    let checked = hook.verify(headers, body, now_s);
    report["signature"] = match &checked {
        Ok(verified) => json!({ "holds": true, "key": verified.key }),
        Err(refused) => json!({ "holds": false, "reason": refused.to_string() }),
    };
    let mut told = checked.unwrap_or_else(|_| hook.scheme.claimed(headers));
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let payload = match provider.payload(content_type.unwrap_or("application/json"), body) {
        Some(Ok(payload)) => payload,
        Some(Err(error)) => return ended(report, "invalid", &error.to_string()),
        None => return ended(report, "invalid", "the content type is none that this provider sends"),
    };
    told.delivery = told.delivery.or(payload.delivery);
    told.event = told.event.or(payload.event);
    let facts = Facts { provider, event: told.event.as_deref(), body: &payload.value };
    report["event"] = json!({ "own": told.event, "words": facts.events() });
    report["delivery"] = json!(told.delivery);
    report["branches"] = json!(facts.branches());
    report["tags"] = json!(facts.tags());
    let paths = facts.paths();
    report["changed_files"] = json!({ "count": paths.names.len(), "all_told": paths.complete });
    if provider.greeting(&payload.value).is_some() {
        return ended(report, "ignored", "a greeting: it is answered, and nothing is done");
    }
    let examined = hook.examine(&told, &payload.value);
    report["filter"] = examined.filter.iter().map(Checked::json).collect();
    match examined.decision {
        Ok(Decision::Ignored(reason)) => ended(report, "ignored", &reason),
        Ok(Decision::Task { workflow, params, correlation_id }) => {
            report["workflow"] = workflow.clone().into();
            report["params"] = mask(&params);
            report["correlation_id"] = json!(correlation_id);
            if !schemas.knows(&workflow) {
                let reason = format!("there is no workflow {workflow:?}; there are {}", schemas.names());
                return ended(report, "invalid", &reason);
            }
            let faults = schemas.check(&workflow, &params).err().unwrap_or_default();
            let located = faults.into_iter().map(|fault| hook.locate(fault));
            let faults: Vec<Fault> = located.chain(outside(&hook.sites, &params)).collect();
            if !faults.is_empty() {
                return wrong(report, &faults);
            }
            report["decision"] = "task".into();
            Explained { report, task: Some((workflow, params)) }
        }
        Err(faults) => wrong(report, &faults),
    }
}

fn ended(mut report: Value, decision: &str, reason: &str) -> Explained {
    report["decision"] = decision.into();
    report["reason"] = reason.into();
    Explained { report, task: None }
}

fn wrong(mut report: Value, faults: &[Fault]) -> Explained {
    let error = |fault: &Fault| json!({ "pointer": format!("#{}", fault.pointer), "detail": fault.detail });
    report["decision"] = "invalid".into();
    report["errors"] = faults.iter().map(error).collect();
    Explained { report, task: None }
}
