//! Policies of the configuration that ask for a second person: which tasks, before what, whom, and for how long. Decides nothing about a
//! task that was accepted already.

use std::sync::{Arc, PoisonError, RwLock};

use kedge_engine::gate::{Before, Gate, Gatekeeper, Wanted};
use kedge_engine::task::Millis;

use crate::config::{Mistake, Sites, check_name, matches_glob};
use crate::filter::Condition;

/// How long somebody has who is asked, where the policy does not say.
const USUAL_MS: Millis = 24 * 3_600_000;
/// Shortest and longest: nobody looks within seconds, and a task that waits keeps its place for weeks at most.
const WITHIN_MS: (Millis, Millis) = (60_000, 30 * 24 * 3_600_000);
/// Most persons that a policy names.
const MAX_APPROVERS: usize = 50;

/// A policy as configured.
#[derive(Clone, Debug, Default)]
pub struct ApprovalSpec {
    /// Its name: shown to whoever is asked.
    pub name: String,
    /// Patterns of workflows; empty: all.
    pub workflows: Vec<String>,
    /// Patterns of sites; empty: all, and what is about no site.
    pub sites: Vec<String>,
    /// Conditions on the parameters, such as `/force == true`; all have to hold.
    pub when: Vec<String>,
    /// `start`, `close` or `pivot`; `start` by default.
    pub before: Option<String>,
    /// Names of persons, as tokens and chat users have them; empty: whoever has the scope.
    pub approvers: Vec<String>,
    /// How long they have: `30m`, `24h`, `7d`.
    pub within: Option<String>,
}

/// A checked policy.
#[derive(Clone, Debug)]
pub struct ApprovalPolicy {
    name: String,
    workflows: Vec<String>,
    sites: Sites,
    when: Vec<Condition>,
    before: Before,
    approvers: Vec<String>,
    within_ms: Millis,
}

impl ApprovalPolicy {
    /// Checks a policy.
    ///
    /// # Errors
    /// Every mistake.
    pub fn new(spec: ApprovalSpec) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        check_name(&spec.name, &mut mistakes);
        let all = || vec!["*".to_owned()];
        let sites = if spec.sites.is_empty() { all() } else { spec.sites };
        let sites = Sites::new(&sites, &mut mistakes);
        let mut when = Vec::new();
        for (index, text) in spec.when.iter().enumerate() {
            match Condition::parse(text) {
                Ok(condition) if condition.only_fields() => when.push(condition),
                Ok(_) => {
                    let detail = "looks at parameters alone, by JSON pointers such as /force == true";
                    mistakes.push(Mistake::new(format!("when[{index}]"), detail));
                }
                Err(why) => mistakes.push(Mistake::new(format!("when[{index}]"), why)),
            }
        }
        let before = match spec.before.as_deref() {
            None | Some("start") => Before::Start,
            Some("close") => Before::Close,
            Some("pivot") => Before::Pivot,
            Some(other) => {
                let detail = format!("{other:?} is not known; there are start, close and pivot");
                mistakes.push(Mistake::new("before", detail));
                Before::Start
            }
        };
        if spec.approvers.len() > MAX_APPROVERS {
            mistakes.push(Mistake::new("approvers", format!("names at most {MAX_APPROVERS} persons")));
        }
        for (index, name) in spec.approvers.iter().enumerate() {
            let mut wrong = Vec::new();
            check_name(name, &mut wrong);
            mistakes.extend(
                wrong.into_iter().map(|wrong| Mistake::new(format!("approvers[{index}]"), wrong.detail)),
            );
        }
        let within_ms = spec.within.as_deref().map_or(Some(USUAL_MS), span);
        let within_ms = within_ms.filter(|within| (WITHIN_MS.0..=WITHIN_MS.1).contains(within));
        if within_ms.is_none() {
            mistakes.push(Mistake::new("within", "is a time from 1m to 30d, such as 30m, 24h or 7d"));
        }
        let workflows = if spec.workflows.is_empty() { all() } else { spec.workflows };
        match within_ms {
            Some(within_ms) if mistakes.is_empty() => {
                let (name, approvers) = (spec.name, spec.approvers);
                Ok(Self { name, workflows, sites, when, before, approvers, within_ms })
            }
            _ => Err(mistakes),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Patterns that stand for none of these workflows: a mistake, since nobody would ever be asked.
    pub fn meaningless<'a>(&'a self, known: &'a [&str]) -> impl Iterator<Item = &'a str> {
        let stands_for_some = |pattern: &str| {
            matches_glob(pattern, "undo") || known.iter().any(|name| matches_glob(pattern, name))
        };
        self.workflows.iter().map(String::as_str).filter(move |pattern| !stands_for_some(pattern))
    }

    fn covers(&self, wanted: Wanted<'_>) -> bool {
        self.workflows.iter().any(|pattern| matches_glob(pattern, wanted.workflow))
            && self.sites.covers(wanted.site)
            && self.when.iter().all(|condition| condition.holds_for(wanted.params))
    }
}

/// A time such as `30m`, in milliseconds.
fn span(text: &str) -> Option<Millis> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 24 * 3_600_000,
        _ => return None,
    };
    number.parse::<Millis>().ok()?.checked_mul(unit)
}

/// All policies. Clones are the same; they can be replaced while serving.
#[derive(Clone, Debug, Default)]
pub struct Approvals(Arc<RwLock<Vec<ApprovalPolicy>>>);

impl Approvals {
    /// These policies.
    #[must_use]
    pub fn new(policies: Vec<ApprovalPolicy>) -> Self {
        Self(Arc::new(RwLock::new(policies)))
    }

    /// Others, for tasks that are accepted from now on.
    pub fn replace(&self, policies: Vec<ApprovalPolicy>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = policies;
    }
}

impl Gatekeeper for Approvals {
    /// The first policy that covers the task.
    fn gate(&self, wanted: Wanted<'_>) -> Option<Gate> {
        let policies = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let policy = policies.iter().find(|policy| policy.covers(wanted))?;
        Some(Gate {
            policy: policy.name.clone(),
            before: policy.before,
            approvers: policy.approvers.clone(),
            within_ms: policy.within_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec() -> ApprovalSpec {
        ApprovalSpec { name: "shops".to_owned(), ..ApprovalSpec::default() }
    }

    #[test]
    fn the_first_policy_that_covers_a_task_counts() {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let forced = ApprovalSpec {
            name: "forced".to_owned(),
            workflows: texts(&["delete"]),
            when: texts(&["/force == true"]),
            before: Some("pivot".to_owned()),
            approvers: texts(&["anna"]),
            within: Some("30m".to_owned()),
            ..spec()
        };
        let shops =
            ApprovalSpec { workflows: texts(&["mig*", "delete"]), sites: texts(&["*.shop.test"]), ..spec() };
        let approvals =
            Approvals::new(vec![ApprovalPolicy::new(forced).unwrap(), ApprovalPolicy::new(shops).unwrap()]);
        let gate = |workflow: &str, site: Option<&str>, force: bool| {
            let params = json!({"force": force});
            approvals
                .gate(Wanted { workflow, site, params: &params })
                .map(|gate| (gate.policy, gate.before, gate.within_ms))
        };
        assert_eq!(
            gate("delete", Some("a.shop.test"), true),
            Some(("forced".to_owned(), Before::Pivot, 1_800_000))
        );
        assert_eq!(
            gate("delete", Some("a.shop.test"), false),
            Some(("shops".to_owned(), Before::Start, USUAL_MS))
        );
        assert_eq!(gate("migrate", Some("A.SHOP.test"), false).unwrap().0, "shops");
        assert_eq!(gate("migrate", Some("a.test"), true), None);
        assert_eq!(gate("backup", Some("a.shop.test"), true), None);
        assert_eq!(gate("migrate", None, true), None, "about no site: only a policy for all sites is meant");
        approvals.replace(vec![ApprovalPolicy::new(spec()).unwrap()]);
        assert!(gate("purge", None, false).is_some());
    }

    #[test]
    fn every_mistake_is_reported() {
        let wrong = ApprovalSpec {
            name: "A b".to_owned(),
            sites: vec!["a b".to_owned()],
            when: vec!["branch == main".to_owned(), "/x ==".to_owned()],
            before: Some("end".to_owned()),
            approvers: vec!["token:anna".to_owned()],
            within: Some("5s".to_owned()),
            ..spec()
        };
        let fields: Vec<String> =
            ApprovalPolicy::new(wrong).unwrap_err().into_iter().map(|mistake| mistake.field).collect();
        assert_eq!(fields, ["name", "sites[0]", "when[0]", "when[1]", "before", "approvers[0]", "within"]);
        for within in ["", "h", "-1h", "59s", "31d", "99999999999999999999d", "ü"] {
            let spec = ApprovalSpec { within: Some(within.to_owned()), ..spec() };
            assert!(ApprovalPolicy::new(spec).is_err(), "{within:?}");
        }
    }
}
