//! What event, branch, tag and changed files mean at each provider, so that a filter says the same everywhere. Pure.
//!
//! The event is GitHub's word for it (`push` also of tags, `pull_request`, `release`), or the sender's own. A push that removes a branch is
//! the event `delete` and no `push`: nothing is there to be deployed. The branch is the one pushed to; of a pull request, the one it
//! would go into.

use std::borrow::Cow;

use serde_json::Value;

use super::Provider;

/// Most commits that GitHub tells of one push.
const GITHUB_COMMITS: usize = 2048;

/// What conditions look at.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Whose words the event and the body have.
    pub provider: Provider,
    /// The provider's event, such as `push`.
    pub event: Option<&'a str>,
    /// The body.
    pub body: &'a Value,
}

/// The files that a push changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Paths<'a> {
    pub(crate) names: Vec<&'a str>,
    /// Whether these are all of them: senders name the files of so many commits only.
    pub(crate) complete: bool,
}

impl Provider {
    /// Whether it tells the files that a push changed.
    pub(crate) fn tells_paths(self) -> bool {
        matches!(self, Self::Github | Self::Gitlab | Self::Gitea | Self::Forgejo)
    }
}

impl<'a> Facts<'a> {
    /// The event's words: the common one, and the sender's own.
    pub(crate) fn events(&self) -> Vec<Cow<'a, str>> {
        let Some(own) = self.event else { return Vec::new() };
        let common: Cow<'a, str> = match self.provider {
            Provider::Gitlab => gitlab(own, self.body),
            Provider::Bitbucket => match own {
                "repo:push" | "repo:refs_changed" => "push".into(),
                pull if pull.starts_with("pullrequest:") || pull.starts_with("pr:") => "pull_request".into(),
                other => other.into(),
            },
            _ => own.into(),
        };
        if common == "push" && self.deletes() {
            return vec!["delete".into()];
        }
        if common == own { vec![common] } else { vec![common, own.into()] }
    }

    /// The branches that it is about.
    pub(crate) fn branches(&self) -> Vec<&'a str> {
        let text = |pointer: &str| self.body.pointer(pointer)?.as_str();
        let pulled = match self.provider {
            Provider::Github | Provider::Gitea | Provider::Forgejo => {
                text("/pull_request/base/ref").or_else(|| text("/workflow_run/head_branch"))
            }
            Provider::Gitlab => text("/object_attributes/target_branch"),
            Provider::Bitbucket => {
                text("/pullrequest/destination/branch/name").or_else(|| text("/pullRequest/toRef/displayId"))
            }
            _ => None,
        };
        match pulled {
            Some(branch) => vec![branch],
            None => self.references("branch", "refs/heads/"),
        }
    }

    /// The tags that it is about.
    pub(crate) fn tags(&self) -> Vec<&'a str> {
        let text = |pointer: &str| self.body.pointer(pointer)?.as_str();
        let released = match self.provider {
            Provider::Github | Provider::Gitea | Provider::Forgejo => text("/release/tag_name"),
            Provider::Gitlab if self.body["object_kind"] == "release" => text("/tag"),
            _ => None,
        };
        match released {
            Some(tag) => vec![tag],
            None => self.references("tag", "refs/tags/"),
        }
    }

    /// The files that a push added, changed or removed.
    pub(crate) fn paths(&self) -> Paths<'a> {
        let Some(commits) = self.body.get("commits").and_then(Value::as_array) else {
            return Paths { names: Vec::new(), complete: true };
        };
        let mut names: Vec<&str> = commits
            .iter()
            .flat_map(|commit| {
                ["added", "modified", "removed"].into_iter().filter_map(|kind| commit.get(kind))
            })
            .filter_map(Value::as_array)
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        names.sort_unstable();
        names.dedup();
        let told =
            ["total_commits_count", "total_commits"].into_iter().find_map(|key| self.body[key].as_u64());
        let all = told.map_or(commits.len() < GITHUB_COMMITS, |told| told <= commits.len() as u64);
        // After a forced push, the difference between before and after is not what the commits say.
        Paths { names, complete: all && self.body["forced"] != true }
    }

    fn references(&self, kind: &str, prefix: &str) -> Vec<&'a str> {
        match self.provider {
            Provider::Bitbucket => self.changes().filter_map(|change| reference(change, kind)).collect(),
            Provider::Gitlab if self.body.pointer("/object_attributes/ref").is_some() => {
                let tag = self.body.pointer("/object_attributes/tag") == Some(&Value::Bool(true));
                let name = self.body.pointer("/object_attributes/ref").and_then(Value::as_str);
                name.filter(|_| tag == (kind == "tag")).into_iter().collect()
            }
            _ => {
                let Some(name) = self.body.get("ref").and_then(Value::as_str) else { return Vec::new() };
                let bare = self.body.get("ref_type").and_then(Value::as_str).is_some_and(|is| is == kind);
                name.strip_prefix(prefix).or(bare.then_some(name)).into_iter().collect()
            }
        }
    }

    fn changes(&self) -> impl Iterator<Item = &'a Value> {
        let cloud = self.body.pointer("/push/changes").and_then(Value::as_array);
        let server = self.body.get("changes").and_then(Value::as_array);
        cloud.into_iter().chain(server).flatten()
    }

    fn deletes(&self) -> bool {
        if self.provider == Provider::Bitbucket {
            let mut changes = self.changes().peekable();
            let gone = |change: &Value| change["type"] == "DELETE" || change.get("new") == Some(&Value::Null);
            return changes.peek().is_some() && changes.all(gone);
        }
        let after = self.body["after"].as_str();
        self.body["deleted"] == true
            || after.is_some_and(|after| !after.is_empty() && after.bytes().all(|b| b == b'0'))
    }
}

/// The name of a reference that a change of Bitbucket made: Cloud has `new`, and `old` where nothing is left; Data Center has `ref`.
fn reference<'a>(change: &'a Value, kind: &str) -> Option<&'a str> {
    let object = |key: &str| change.get(key).filter(|value| value.is_object());
    let (reference, name) = match object("ref") {
        Some(reference) => (reference, reference.get("displayId")),
        None => {
            let reference = object("new").or_else(|| object("old"))?;
            (reference, reference.get("name"))
        }
    };
    let is = reference.get("type")?.as_str()?.eq_ignore_ascii_case(kind);
    name?.as_str().filter(|_| is)
}

fn gitlab<'a>(own: &'a str, body: &'a Value) -> Cow<'a, str> {
    match own {
        "Push Hook" | "Tag Push Hook" => "push".into(),
        "Merge Request Hook" => "pull_request".into(),
        "Issue Hook" => "issues".into(),
        // It says in the body what it is.
        "System Hook" => match body["event_name"].as_str().or_else(|| body["object_kind"].as_str()) {
            Some("push" | "tag_push") => "push".into(),
            Some("merge_request") => "pull_request".into(),
            Some(other) => other.into(),
            None => own.into(),
        },
        other => match other.strip_suffix(" Hook") {
            Some(name) => name.to_ascii_lowercase().replace(' ', "_").into(),
            None => other.into(),
        },
    }
}

/// A text of the sender as it is shown: short, on one line.
pub(crate) fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}
