//! Commit statuses: what a forge shows beside a commit about the task that came of it. An address is made of the configured base and of names
//! that were checked, never taken from a message; the token goes nowhere else. Pure.

use kedge_engine::task::{TaskState, TaskView};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use crate::api::Links;
use crate::config::Mistake;
use crate::mapping::Mapping;
use crate::message;
use crate::provider::Provider;
use crate::secret::Secret;

/// Longest description: GitHub takes 140 characters, the others more.
const MAX_DESCRIPTION: usize = 140;
/// Longest name of a repository: it is part of stored callbacks.
const MAX_REPOSITORY: usize = 200;
/// Where the commit stands in what a hook's tasks have as their `callback`; a caller of the API cannot write it.
pub(crate) const STATUS: &str = "status";
/// What stands before the receivers of statuses in stored callbacks.
const MARK: &str = "status:";

/// A kind of forge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forge {
    /// GitHub, also Enterprise.
    Github,
    /// GitLab.
    Gitlab,
    /// Gitea and Forgejo: the same interface.
    Gitea,
    /// Bitbucket Cloud.
    Bitbucket,
}

impl Forge {
    /// By the word of the configuration.
    pub(crate) fn find(word: &str) -> Option<Self> {
        match word {
            "github" => Some(Self::Github),
            "gitlab" => Some(Self::Gitlab),
            "gitea" | "forgejo" => Some(Self::Gitea),
            "bitbucket" => Some(Self::Bitbucket),
            _ => None,
        }
    }

    /// Where its interface is when the configuration does not say.
    pub(crate) fn usual_base(self) -> Option<&'static str> {
        match self {
            Self::Github => Some("https://api.github.com"),
            Self::Gitlab => Some("https://gitlab.com"),
            Self::Gitea => None,
            Self::Bitbucket => Some("https://api.bitbucket.org"),
        }
    }
}

/// How an endpoint writes statuses.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    pub(crate) forge: Forge,
    pub(crate) token: Secret,
    /// The name under which the forge shows it.
    pub(crate) context: String,
}

impl Writer {
    /// The header by which the forge knows us.
    pub(crate) fn header(&self) -> (&'static str, String) {
        let token = self.token.expose();
        match self.forge {
            Forge::Github | Forge::Bitbucket => ("authorization", format!("Bearer {token}")),
            Forge::Gitlab => ("private-token", token.to_owned()),
            Forge::Gitea => ("authorization", format!("token {token}")),
        }
    }

    /// Where a commit's statuses are, below a base.
    pub(crate) fn url(&self, base: &Url, commit: &Commit) -> Option<Url> {
        let (repository, sha) = (&commit.repository, &commit.commit);
        let mut url = base.clone();
        let whole = [repository.as_str()];
        let names: Vec<&str> = repository.split('/').collect();
        let (before, names, after): (&[&str], &[&str], &[&str]) = match self.forge {
            Forge::Github => (&["repos"], &names, &["statuses"]),
            Forge::Gitlab => (&["api", "v4", "projects"], &whole, &["statuses"]),
            Forge::Gitea => (&["api", "v1", "repos"], &names, &["statuses"]),
            Forge::Bitbucket => (&["2.0", "repositories"], &names, &["commit"]),
        };
        {
            let mut path = url.path_segments_mut().ok()?;
            path.pop_if_empty().extend(before).extend(names).extend(after).push(sha);
            if self.forge == Forge::Bitbucket {
                path.extend(["statuses", "build"]);
            }
        }
        Some(url)
    }

    /// What is written there about a task; `None`: nothing new that a forge has a word for.
    pub(crate) fn body(&self, task: &TaskView, links: &Links) -> Option<Value> {
        let word = self.word(task.state)?;
        let site = task.site.as_deref().map(|site| format!(" {site}")).unwrap_or_default();
        let text = format!("{}{site} {}", task.workflow, message::words(task));
        let description: String = text.chars().filter(|c| !c.is_control()).take(MAX_DESCRIPTION).collect();
        let link =
            links.task(task)["self"].as_str().filter(|link| link.starts_with("http")).map(str::to_owned);
        let context = &self.context;
        let mut body = match self.forge {
            Forge::Github | Forge::Gitea => {
                json!({ "state": word, "description": description, "context": context })
            }
            Forge::Gitlab => json!({ "state": word, "description": description, "name": context }),
            Forge::Bitbucket => {
                json!({ "state": word, "description": description, "key": context, "name": context })
            }
        };
        if let Some(link) = link {
            let field = if self.forge == Forge::Bitbucket { "url" } else { "target_url" };
            body[field] = link.into();
        }
        Some(body)
    }

    fn word(&self, state: TaskState) -> Option<&'static str> {
        let [pending, success, failure, canceled] = match self.forge {
            Forge::Github | Forge::Gitea => ["pending", "success", "failure", "error"],
            Forge::Gitlab => ["running", "success", "failed", "canceled"],
            Forge::Bitbucket => ["INPROGRESS", "SUCCESSFUL", "FAILED", "STOPPED"],
        };
        match state {
            TaskState::Queued | TaskState::Compensating => None,
            TaskState::Running | TaskState::Waiting => Some(pending),
            TaskState::Succeeded => Some(success),
            TaskState::RolledBack | TaskState::Stuck => Some(failure),
            TaskState::Canceled => Some(canceled),
        }
    }

    /// Whether an answer says that the status was there already: GitLab refuses to set it twice.
    pub(crate) fn has_it(&self, status: Option<u16>, answer: &str) -> bool {
        self.forge == Forge::Gitlab && status == Some(400) && answer.contains("Cannot transition status")
    }
}

/// A commit of a repository, at the forge of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Commit {
    pub(crate) endpoint: String,
    pub(crate) repository: String,
    pub(crate) commit: String,
}

impl Commit {
    /// Checks what a message names.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn new(endpoint: &str, repository: &str, commit: &str) -> Result<Self, String> {
        let part = |part: &str| {
            let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            !part.is_empty() && part != "." && part != ".." && part.bytes().all(ok)
        };
        let parts = repository.split('/').count();
        if parts < 2 || repository.len() > MAX_REPOSITORY || !repository.split('/').all(part) {
            return Err("the repository is not such as owner/name".to_owned());
        }
        // A deleted branch's commit is all zeros.
        let hex = commit.bytes().all(|b| b.is_ascii_hexdigit()) && commit.bytes().any(|b| b != b'0');
        if !hex || !matches!(commit.len(), 12 | 40 | 64) {
            return Err("the commit is no whole hash".to_owned());
        }
        Ok(Self {
            endpoint: endpoint.to_owned(),
            repository: repository.to_owned(),
            commit: commit.to_owned(),
        })
    }

    /// The receiver as stored callbacks have it.
    pub(crate) fn receiver(&self) -> String {
        format!("{MARK}{}:{}@{}", self.endpoint, self.repository, self.commit)
    }

    /// Reads what [`Commit::receiver`] writes.
    pub(crate) fn read(stored: &str) -> Option<Self> {
        let (endpoint, rest) = stored.strip_prefix(MARK)?.split_once(':')?;
        let (repository, commit) = rest.split_once('@')?;
        Self::new(endpoint, repository, commit).ok()
    }
}

/// Where a hook's messages name their commit, as configured.
#[derive(Clone, Debug, Default)]
pub struct StatusSpec {
    /// The endpoint that writes the statuses.
    pub endpoint: String,
    /// A mapping such as `{/repository/full_name}`; by default what the provider's messages have.
    pub repository: Option<String>,
    /// The same of the commit.
    pub commit: Option<String>,
}

/// The same, checked.
#[derive(Clone)]
pub(crate) struct StatusMap {
    pub(crate) endpoint: String,
    repository: Names,
    commit: Names,
}

#[derive(Clone)]
enum Names {
    Mapped(Mapping),
    /// The first of these pointers at which there is a text.
    First(&'static [&'static str]),
}

impl StatusMap {
    pub(crate) fn new(spec: StatusSpec, provider: Provider, mistakes: &mut Vec<Mistake>) -> Self {
        let (repository, commit): (&[&str], &[&str]) = match provider {
            Provider::Github | Provider::Gitea | Provider::Forgejo => (
                &["/repository/full_name"],
                &["/after", "/pull_request/head/sha", "/deployment/sha", "/workflow_run/head_sha"],
            ),
            Provider::Gitlab => (
                &["/project/path_with_namespace"],
                &["/checkout_sha", "/object_attributes/last_commit/id", "/object_attributes/sha", "/sha"],
            ),
            Provider::Bitbucket => (
                &["/repository/full_name"],
                &["/push/changes/0/new/target/hash", "/pullrequest/source/commit/hash"],
            ),
            _ => (&[], &[]),
        };
        let mut names = |field: &str, text: Option<String>, usual: &'static [&'static str]| match text {
            Some(text) => {
                Names::Mapped(Mapping::parse(&Value::String(text), &format!("status.{field}"), mistakes))
            }
            None => {
                if usual.is_empty() {
                    let detail =
                        format!("is missing: where a message names its {field}, such as \"{{/{field}}}\"");
                    mistakes.push(Mistake::new(format!("status.{field}"), detail));
                }
                Names::First(usual)
            }
        };
        let repository = names("repository", spec.repository, repository);
        let commit = names("commit", spec.commit, commit);
        Self { endpoint: spec.endpoint, repository, commit }
    }

    /// The commit that a message names.
    ///
    /// # Errors
    /// In words, what it lacks.
    pub(crate) fn commit(&self, body: &Value) -> Result<Commit, String> {
        let repository = self.repository.of(body).ok_or("the message names no repository")?;
        let commit = self.commit.of(body).ok_or("the message names no commit")?;
        Commit::new(&self.endpoint, &repository, &commit)
    }
}

impl Names {
    fn of(&self, body: &Value) -> Option<String> {
        match self {
            Self::Mapped(mapping) => mapping.apply(body).ok()??.as_str().map(str::to_owned),
            Self::First(pointers) => {
                pointers.iter().find_map(|pointer| body.pointer(pointer)?.as_str()).map(str::to_owned)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::sample_task;

    const SHA: &str = "6dcb09b5b57875f334f61aebed695e2e4193db5e";

    fn writer(forge: Forge) -> Writer {
        Writer { forge, token: Secret::new("t0ken"), context: "kedge".to_owned() }
    }

    #[test]
    fn addresses_are_those_of_the_forges() {
        let commit = Commit::new("x", "acme/shop", SHA).unwrap();
        for (forge, base, want) in [
            (Forge::Github, "https://api.github.com", "https://api.github.com/repos/acme/shop/statuses/SHA"),
            (
                Forge::Github,
                "https://ghe.test/api/v3/",
                "https://ghe.test/api/v3/repos/acme/shop/statuses/SHA",
            ),
            (
                Forge::Gitlab,
                "https://gitlab.test",
                "https://gitlab.test/api/v4/projects/acme%2Fshop/statuses/SHA",
            ),
            (
                Forge::Gitea,
                "https://git.test/sub",
                "https://git.test/sub/api/v1/repos/acme/shop/statuses/SHA",
            ),
            (
                Forge::Bitbucket,
                "https://api.bitbucket.org",
                "https://api.bitbucket.org/2.0/repositories/acme/shop/commit/SHA/statuses/build",
            ),
        ] {
            let url = writer(forge).url(&base.parse().unwrap(), &commit).unwrap();
            assert_eq!(url.as_str(), want.replace("SHA", SHA));
        }
    }

    #[test]
    fn nothing_but_names_gets_into_an_address() {
        for repository in [
            "", "acme", "acme/", "/acme", "../x", "acme/..", "a/b?c", "a/b#c", "a/b c", "a/%2e%2e", "a//b",
            "a@b/c",
        ] {
            assert!(Commit::new("x", repository, SHA).is_err(), "{repository:?}");
        }
        for commit in ["", "main", "6dcb", &"0".repeat(40), &format!("{SHA}/x"), &"g".repeat(40)] {
            assert!(Commit::new("x", "a/b", commit).is_err(), "{commit:?}");
        }
        let commit = Commit::new("git.hub", "group/sub/project", SHA).unwrap();
        assert_eq!(Commit::read(&commit.receiver()), Some(commit));
        assert_eq!(Commit::read("ci"), None);
        assert_eq!(Commit::read("status:x:a/../b@6dcb"), None);
    }

    #[test]
    fn states_are_told_in_each_forge_s_words() {
        let links = Links::new(Some(&"https://kedge.test".parse().unwrap()));
        let mut task = sample_task(7, "a.test");
        let mut told = |forge, state| {
            task.state = state;
            writer(forge).body(&task, &links)
        };
        let github = told(Forge::Github, TaskState::RolledBack).unwrap();
        assert_eq!((&github["state"], &github["context"]), (&json!("failure"), &json!("kedge")));
        assert_eq!(github["description"], "migrate a.test failed and is rolled back");
        assert!(github["target_url"].as_str().unwrap().starts_with("https://kedge.test/v1/tasks/"));
        assert_eq!(told(Forge::Gitlab, TaskState::Running).unwrap()["state"], "running");
        assert_eq!(told(Forge::Gitea, TaskState::Waiting).unwrap()["state"], "pending");
        let bitbucket = told(Forge::Bitbucket, TaskState::Succeeded).unwrap();
        assert_eq!((&bitbucket["state"], &bitbucket["key"]), (&json!("SUCCESSFUL"), &json!("kedge")));
        assert!(bitbucket["url"].is_string());
        assert_eq!(told(Forge::Github, TaskState::Queued), None);
        assert_eq!(told(Forge::Github, TaskState::Compensating), None);
    }

    #[test]
    fn commits_are_where_the_providers_have_them() {
        let mut mistakes = Vec::new();
        let mut map = |provider| {
            StatusMap::new(
                StatusSpec { endpoint: "x".to_owned(), ..StatusSpec::default() },
                provider,
                &mut mistakes,
            )
        };
        let push = json!({"repository": {"full_name": "acme/shop"}, "after": SHA});
        let pull = json!({"repository": {"full_name": "acme/shop"}, "pull_request": {"head": {"sha": SHA}}});
        let gitlab = json!({"project": {"path_with_namespace": "a/b/c"}, "checkout_sha": SHA, "after": "x"});
        let bucket = json!({"repository": {"full_name": "acme/shop"}, "push": {"changes": [{"new": {"target": {"hash": SHA}}}]}});
        assert_eq!(map(Provider::Github).commit(&push).unwrap().repository, "acme/shop");
        assert_eq!(map(Provider::Gitea).commit(&pull).unwrap().commit, SHA);
        assert_eq!(map(Provider::Gitlab).commit(&gitlab).unwrap().repository, "a/b/c");
        assert_eq!(map(Provider::Bitbucket).commit(&bucket).unwrap().commit, SHA);
        assert!(map(Provider::Github).commit(&json!({})).unwrap_err().contains("no repository"));
        assert!(mistakes.is_empty());
        let standard =
            StatusSpec { endpoint: "x".to_owned(), commit: Some("{/sha}".to_owned()), repository: None };
        StatusMap::new(standard, Provider::Standard, &mut mistakes);
        assert_eq!(mistakes[0].field, "status.repository");
    }
}
