//! Checks what the parts of a face say of each other: names that are there twice, workflows and endpoints that are not there. Pure.

use kedge_engine::task::UNDO;

use crate::app::Access;
use crate::config::Mistake;
use crate::endpoint::Endpoints;
use crate::tokens::OwnToken;

/// Checks tokens, hooks, chats and certificates as a whole; `own` are the tokens made by API. A mistake's field begins with the part, such as
/// `hooks.deploy.workflow`.
///
/// # Errors
/// Every mistake.
pub(crate) fn check(
    access: &Access,
    own: &[OwnToken],
    workflows: &[&str],
    endpoints: &Endpoints,
) -> Result<(), Vec<Mistake>> {
    let mut mistakes = doubled(access, own);
    let knows = |name: &str| workflows.contains(&name);
    for hook in &access.hooks {
        for workflow in hook.named_workflows().filter(|workflow| !knows(workflow)) {
            mistakes.push(unknown(format!("hooks.{}.workflow", hook.name()), workflow, workflows));
        }
        if let Some(status) = &hook.status {
            let all = endpoints.all();
            if !all.iter().any(|endpoint| endpoint.is_forge() && endpoint.name == status.endpoint) {
                let detail = format!("{:?} is no endpoint with `forge`", status.endpoint);
                mistakes.push(Mistake::new(format!("hooks.{}.status.endpoint", hook.name()), detail));
            }
        }
        if let Some(Err(faults)) = hook.callback.as_ref().map(|callback| endpoints.check_callback(callback)) {
            let field =
                |pointer: &str| format!("hooks.{}.callback{}", hook.name(), pointer.replace('/', "."));
            mistakes
                .extend(faults.into_iter().map(|fault| Mistake::new(field(&fault.pointer), fault.detail)));
        }
    }
    if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
}

/// The same for a configuration, before anything of it is opened: whether the endpoint of a callback is there, only the service knows, since
/// it may have been made by API.
///
/// # Errors
/// Every mistake.
pub fn check_face(access: &Access, endpoints: &Endpoints, workflows: &[&str]) -> Result<(), Vec<Mistake>> {
    let mut mistakes = check(access, &[], workflows, endpoints).err().unwrap_or_default();
    mistakes.retain(|mistake| !mistake.field.contains(".callback"));
    let tokens = access.tokens.iter().map(|token| ("tokens", token.name(), token.named_workflows()));
    let certificates = access.certificates.iter();
    let certificates = certificates.map(|one| ("certificates", one.name(), one.named_workflows()));
    for (kind, name, named) in tokens.chain(certificates) {
        // In scopes it stands beside those that can be asked for.
        for workflow in named.iter().filter(|name| !workflows.contains(&name.as_str()) && *name != UNDO) {
            mistakes.push(unknown(format!("{kind}.{name}.scopes"), workflow, workflows));
        }
    }
    for chat in &access.chats {
        for workflow in chat.without_a_question().filter(|name| !workflows.contains(name)) {
            mistakes.push(unknown(format!("chat.{}.at_once", chat.name()), workflow, workflows));
        }
    }
    if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
}

fn unknown(field: String, name: &str, workflows: &[&str]) -> Mistake {
    Mistake::new(field, format!("there is no workflow {name:?}; there are {}", workflows.join(", ")))
}

fn doubled(access: &Access, own: &[OwnToken]) -> Vec<Mistake> {
    let tokens = access.tokens.iter().chain(own.iter().map(|own| &own.token));
    let names: Vec<(&str, &str)> = tokens
        .map(|token| ("tokens", token.name()))
        .chain(access.hooks.iter().map(|hook| ("hooks", hook.name())))
        .chain(access.chats.iter().map(|chat| ("chat", chat.name())))
        .chain(access.certificates.iter().map(|certificate| ("certificates", certificate.name())))
        .collect();
    let twice = names.iter().enumerate().filter(|(index, name)| names[..*index].contains(name));
    twice
        .map(|(_, (kind, name))| Mistake::new(format!("{kind}.{name}"), "another one has the same name"))
        .collect()
}
