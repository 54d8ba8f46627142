//! A hook: who may send to it, which of their events count, and which task they become. Decides; submits nothing.

use std::fmt;

use http::HeaderMap;
use serde_json::{Value, json};

use crate::config::{Mistake, Sites, check_name};
use crate::filter::Condition;
use crate::mapping::Mapping;
use crate::problem::Fault;
use crate::provider::{CustomSpec, Facts, Provider, Scheme, Verified};
use crate::secret::Secret;
use crate::signature::{Key, Refused};
use crate::status::{STATUS, StatusMap, StatusSpec};

/// Most secrets of a hook: two while rotating, and some room; each costs a MAC per request.
const MAX_SECRETS: usize = 8;

/// A hook as configured.
#[derive(Clone, Debug, Default)]
pub struct HookSpec {
    /// Its name: `POST /v1/hooks/<name>`.
    pub name: String,
    /// The provider's word.
    pub provider: String,
    /// How a sender without a preset signs.
    pub signature: Option<CustomSpec>,
    /// Its secrets, already loaded: several while rotating.
    pub secrets: Vec<Secret>,
    /// The workflow's name, or a mapping such as `{/workflow}`.
    pub workflow: String,
    /// Which workflows a mapping may name; empty: all.
    pub workflows: Vec<String>,
    /// Conditions that all have to hold.
    pub when: Vec<String>,
    /// The mapping to parameters: a table, or one text such as `{/params}`. `None`: the body is the parameters.
    pub params: Option<Value>,
    /// Patterns of the sites its tasks may be about; empty: all.
    pub sites: Vec<String>,
    /// A mapping to the correlation id; empty: the delivery's id.
    pub correlation_id: String,
    /// What its tasks' `callback` is.
    pub callback: Option<Value>,
    /// Whose commit statuses tell of its tasks.
    pub status: Option<StatusSpec>,
}

/// A checked hook.
#[derive(Clone)]
pub struct Hook {
    pub(crate) name: String,
    pub(crate) scheme: Scheme,
    keys: Vec<Key>,
    workflow: Mapping,
    workflows: Vec<String>,
    when: Vec<Condition>,
    params: Option<Mapping>,
    pub(crate) sites: Sites,
    correlation_id: Option<Mapping>,
    pub(crate) callback: Option<Value>,
    pub(crate) status: Option<StatusMap>,
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook")
            .field("name", &self.name)
            .field("provider", &self.scheme.provider)
            .finish_non_exhaustive()
    }
}

/// What a message to a hook means.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Nothing is to be done, for this reason.
    Ignored(String),
    /// A task.
    Task {
        /// Its workflow.
        workflow: String,
        /// Its parameters.
        params: Value,
        /// The sender's own id.
        correlation_id: Option<String>,
    },
}

/// A condition that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) condition: String,
    /// Why it does not hold, if it does not.
    pub(crate) reason: Option<String>,
}

impl Checked {
    pub(crate) fn json(&self) -> Value {
        json!({ "condition": self.condition, "holds": self.reason.is_none(), "reason": self.reason })
    }
}

/// A decision and how it came about: the conditions up to the first one that does not hold.
pub(crate) struct Examined {
    pub(crate) filter: Vec<Checked>,
    pub(crate) decision: Result<Decision, Vec<Fault>>,
}

impl Hook {
    /// Checks a hook.
    ///
    /// # Errors
    /// Every mistake.
    pub fn new(spec: HookSpec) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        check_name(&spec.name, &mut mistakes);
        let provider = Provider::find(&spec.provider);
        if provider.is_none() {
            let words: Vec<&str> = Provider::ALL.iter().map(|provider| provider.as_str()).collect();
            let detail = format!("{:?} is no provider; there are {}", spec.provider, words.join(", "));
            mistakes.push(Mistake::new("provider", detail));
        }
        let provider = provider.unwrap_or(Provider::Standard);
        let scheme = Scheme::new(provider, spec.signature).unwrap_or_else(|more| {
            mistakes.extend(more);
            Scheme::from(provider)
        });
        if spec.secrets.is_empty() || spec.secrets.len() > MAX_SECRETS {
            mistakes.push(Mistake::new("secret_files", format!("a hook has 1 to {MAX_SECRETS} secrets")));
        }
        let mut keys = Vec::new();
        for (index, secret) in spec.secrets.iter().enumerate() {
            match provider.key(secret) {
                Ok(key) => keys.push(key),
                Err(error) => {
                    mistakes.push(Mistake::new(format!("secret_files[{index}]"), error.to_string()))
                }
            }
        }
        let when = conditions(&spec.when, provider, &mut mistakes);
        if spec.workflow.is_empty() {
            mistakes.push(Mistake::new(
                "workflow",
                "is missing: a workflow's name, or a mapping such as \"{/workflow}\"",
            ));
        }
        let workflow = Mapping::parse(&Value::String(spec.workflow), "workflow", &mut mistakes);
        let params = spec.params.map(|params| Mapping::parse(&params, "params", &mut mistakes));
        if let Some(Some(constant)) = params.as_ref().map(Mapping::constant)
            && !constant.is_object()
        {
            mistakes.push(Mistake::new("params", "is a table of mappings, or one such as \"{/params}\""));
        }
        let correlation_id = (!spec.correlation_id.is_empty())
            .then(|| Mapping::parse(&Value::String(spec.correlation_id), "correlation_id", &mut mistakes));
        let status = spec.status.map(|status| StatusMap::new(status, provider, &mut mistakes));
        let everything = ["*".to_owned()];
        let patterns = if spec.sites.is_empty() { &everything[..] } else { &spec.sites[..] };
        let sites = Sites::new(patterns, &mut mistakes);
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let (name, workflows, callback) = (spec.name, spec.workflows, spec.callback);
        Ok(Self {
            name,
            scheme,
            keys,
            workflow,
            workflows,
            when,
            params,
            sites,
            correlation_id,
            callback,
            status,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the `callback` of a message's task is: the configured one, and the commit whose status tells of it.
    pub(crate) fn callback_for(&self, body: &Value) -> Option<Value> {
        let Some(status) = &self.status else { return self.callback.clone() };
        match status.commit(body) {
            Ok(commit) => {
                let mut callback = self.callback.clone().unwrap_or_else(|| json!({}));
                callback[STATUS] = json!(commit);
                Some(callback)
            }
            Err(why) => {
                tracing::warn!(target: "kedge::http", hook = self.name, why, "no commit status is written for a message");
                self.callback.clone()
            }
        }
    }

    /// The workflows that it names in its configuration, to be checked against those there are.
    pub(crate) fn named_workflows(&self) -> impl Iterator<Item = &str> {
        self.workflow
            .constant()
            .and_then(Value::as_str)
            .into_iter()
            .chain(self.workflows.iter().map(String::as_str))
    }

    /// Checks a message's signature.
    ///
    /// # Errors
    /// [`Refused`], for our log only.
    pub fn verify(&self, headers: &HeaderMap, body: &[u8], now_s: u64) -> Result<Verified, Refused> {
        self.scheme.verify(headers, body, &self.keys, now_s)
    }

    /// Decides what a verified message means.
    ///
    /// # Errors
    /// What the body lacks, with pointers into it.
    pub fn decide(&self, verified: &Verified, body: &Value) -> Result<Decision, Vec<Fault>> {
        self.examine(verified, body).decision
    }

    /// The same, and how it came to it.
    pub(crate) fn examine(&self, verified: &Verified, body: &Value) -> Examined {
        let provider = self.scheme.provider;
        let event = verified.event.as_deref();
        if provider.is_ping(event) {
            let reason = "a ping: the signature is right and the hook works".to_owned();
            return Examined { filter: Vec::new(), decision: Ok(Decision::Ignored(reason)) };
        }
        let facts = Facts { provider, event, body };
        let mut filter = Vec::new();
        for condition in &self.when {
            let checked = condition.check(&facts);
            filter.push(Checked { condition: condition.text().to_owned(), reason: checked.clone().err() });
            if let Err(reason) = checked {
                return Examined { filter, decision: Ok(Decision::Ignored(reason)) };
            }
        }
        Examined { filter, decision: self.map(verified, body) }
    }

    fn map(&self, verified: &Verified, body: &Value) -> Result<Decision, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut take = |mapping: &Mapping| {
            mapping.apply(body).unwrap_or_else(|more| {
                faults.extend(more);
                None
            })
        };
        let workflow = take(&self.workflow);
        let params = self.params.as_ref().map_or_else(|| Some(body.clone()), &mut take);
        let correlation_id =
            self.correlation_id.as_ref().map_or_else(|| verified.delivery.clone().map(Value::String), take);
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Decision::Task {
            workflow: self.check_workflow(workflow)?,
            params: params.unwrap_or(Value::Null),
            correlation_id: correlation_id.as_ref().and_then(plain).map(|text| {
                text.chars().filter(|c| !c.is_control()).take(crate::handlers::MAX_CORRELATION).collect()
            }),
        })
    }

    /// Where in the body a parameter came from.
    pub(crate) fn locate(&self, fault: Fault) -> Fault {
        match &self.params {
            None => fault,
            Some(mapping) => match mapping.source(&fault.pointer) {
                Some(pointer) => Fault { pointer, ..fault },
                None => Fault::new("", format!("the parameter {:?}: {}", fault.pointer, fault.detail)),
            },
        }
    }

    fn check_workflow(&self, workflow: Option<Value>) -> Result<String, Vec<Fault>> {
        let pointer = self.workflow.source("").unwrap_or_default();
        let Some(Value::String(workflow)) = workflow else {
            return Err(vec![Fault::new(pointer, "has to be the name of a workflow")]);
        };
        if !self.workflows.is_empty() && !self.workflows.contains(&workflow) {
            let detail = format!("the hook allows these workflows: {}", self.workflows.join(", "));
            return Err(vec![Fault::new(pointer, detail)]);
        }
        Ok(workflow)
    }
}

fn conditions(texts: &[String], provider: Provider, mistakes: &mut Vec<Mistake>) -> Vec<Condition> {
    let mut when = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let field = format!("when[{index}]");
        match Condition::parse(text) {
            Ok(condition) if condition.needs_paths() && !provider.tells_paths() => {
                let detail = format!("{} does not tell the files that a push changed", provider.as_str());
                mistakes.push(Mistake::new(field, detail));
            }
            Ok(condition) => when.push(condition),
            Err(detail) => mistakes.push(Mistake::new(field, detail)),
        }
    }
    when
}

/// A text, number or truth value as text.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Does the work of a signature check for a hook that does not exist, so that its absence cannot be timed.
pub(crate) fn verify_nothing(headers: &HeaderMap, body: &[u8], now_s: u64) -> Refused {
    let key = Provider::Github.key(&Secret::new("no hook has this key")).into_iter().collect::<Vec<_>>();
    // The result does not matter: there is no hook.
    let _ = Provider::Standard.verify(headers, body, &key, now_s);
    Refused::UnknownHook
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> HookSpec {
        HookSpec {
            name: "deploy".to_owned(),
            provider: "github".to_owned(),
            secrets: vec![Secret::new("It's a Secret to Everybody")],
            workflow: "migrate".to_owned(),
            ..HookSpec::default()
        }
    }

    fn push() -> Verified {
        Verified {
            delivery: Some("d-1".to_owned()),
            event: Some("push".to_owned()),
            id_is_signed: false,
            key: 0,
        }
    }

    #[test]
    fn a_push_becomes_a_task_or_is_ignored_with_a_reason() {
        let hook = Hook::new(HookSpec {
            when: vec!["event == push".to_owned(), "branch == main".to_owned()],
            params: Some(json!({"site": "{/repository/name}.test", "target_platform": "{/platform}"})),
            ..spec()
        })
        .unwrap();
        let body = json!({"ref": "refs/heads/main", "repository": {"name": "shop"}, "platform": "wp-68"});
        let want = Decision::Task {
            workflow: "migrate".to_owned(),
            params: json!({"site": "shop.test", "target_platform": "wp-68"}),
            correlation_id: Some("d-1".to_owned()),
        };
        assert_eq!(hook.decide(&push(), &body), Ok(want));
        let other = json!({"ref": "refs/heads/x"});
        assert!(
            matches!(hook.decide(&push(), &other), Ok(Decision::Ignored(reason)) if reason.contains("branch: x"))
        );
        let ping = Verified { event: Some("ping".to_owned()), ..push() };
        assert!(
            matches!(hook.decide(&ping, &json!({})), Ok(Decision::Ignored(reason)) if reason.contains("ping"))
        );
        let lacking = hook.decide(&push(), &json!({"ref": "refs/heads/main"})).unwrap_err();
        let pointers: Vec<&str> = lacking.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(pointers, ["/repository/name", "/platform"]);
    }

    #[test]
    fn the_workflow_may_come_from_the_body_within_its_list() {
        let hook = Hook::new(HookSpec {
            workflow: "{/do}".to_owned(),
            workflows: vec!["backup".to_owned()],
            params: Some(json!("{/with}")),
            correlation_id: "run-{/run}".to_owned(),
            ..spec()
        })
        .unwrap();
        let decided = hook.decide(&push(), &json!({"do": "backup", "with": {"site": "a"}, "run": 7}));
        let want = Decision::Task {
            workflow: "backup".to_owned(),
            params: json!({"site": "a"}),
            correlation_id: Some("run-7".to_owned()),
        };
        assert_eq!(decided, Ok(want));
        for wrong in [json!("delete"), json!(1)] {
            let faults = hook.decide(&push(), &json!({"do": wrong, "with": {}, "run": 1})).unwrap_err();
            assert_eq!(faults[0].pointer, "/do");
        }
        assert_eq!(hook.locate(Fault::new("/site", "x")).pointer, "/with/site");
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let mistakes = Hook::new(HookSpec {
            name: "A".to_owned(),
            provider: "standard".to_owned(),
            secrets: vec![Secret::new("hunter2hunter2")],
            workflow: String::new(),
            when: vec!["x".to_owned()],
            params: Some(json!({"a": "{b}"})),
            sites: vec!["/".to_owned()],
            ..HookSpec::default()
        })
        .unwrap_err();
        let fields: Vec<&str> = mistakes.iter().map(|mistake| mistake.field.as_str()).collect();
        assert_eq!(fields, ["name", "secret_files[0]", "when[0]", "workflow", "params.a", "sites[0]"]);
        assert!(!format!("{mistakes:?}").contains("hunter2"));
        let mistakes =
            Hook::new(HookSpec { provider: "svn".to_owned(), secrets: vec![], ..spec() }).unwrap_err();
        assert_eq!(
            mistakes[0].detail,
            "\"svn\" is no provider; there are standard, github, gitlab, gitea, forgejo, bitbucket, slack, mattermost, discord, hmac-sha256"
        );
        assert_eq!(mistakes[1].field, "secret_files");
    }
}
