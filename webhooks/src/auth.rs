//! Bearer tokens: who asks, what they may do and which sites they see. Holds only digests of the secrets.

use std::fmt;

use http::{HeaderMap, StatusCode, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::{Mistake, Sites, check_name};
use crate::problem::Problem;
use crate::secret::Secret;

/// Shortest secret of a token, in characters: shorter ones can be guessed.
const MIN_SECRET: usize = 8;

/// A token as configured.
#[derive(Clone, Debug, Default)]
pub struct TokenSpec {
    /// Its name, for logs and as the tasks' actor.
    pub name: String,
    /// Its secret, already loaded.
    pub secret: Option<Secret>,
    /// `task:<workflow or *>:<verb or *>`; the verbs are those of [`Verb`].
    pub scopes: Vec<String>,
    /// Patterns of the sites it sees; `*` is all of them, and what is about no single site.
    pub sites: Vec<String>,
}

/// What a token may do with tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Submit and plan tasks.
    Create,
    /// See tasks, their events and callbacks; any such scope also shows sites, platforms, backups and locks.
    Read,
    /// Cancel tasks.
    Cancel,
    /// Retry tasks.
    Retry,
    /// Take back finished tasks.
    Undo,
    /// Settle stuck steps.
    Resolve,
    /// Send callbacks again.
    Replay,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Create, Self::Read, Self::Cancel, Self::Retry, Self::Undo, Self::Resolve, Self::Replay];

    /// The word in a scope.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Read => "read",
            Self::Cancel => "cancel",
            Self::Retry => "retry",
            Self::Undo => "undo",
            Self::Resolve => "resolve",
            Self::Replay => "replay",
        }
    }
}

/// `None` stands for `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Scope {
    workflow: Option<String>,
    verb: Option<Verb>,
}

impl Scope {
    fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let ["task", workflow, verb] = parts[..] else {
            return Err(format!(
                "{text:?} is no scope: task:<workflow or *>:<verb or *>, such as task:migrate:create"
            ));
        };
        if workflow.is_empty() {
            return Err(format!("{text:?} names no workflow; * means all"));
        }
        let known = Verb::ALL.into_iter().find(|known| known.as_str() == verb);
        if known.is_none() && verb != "*" {
            let verbs: Vec<&str> = Verb::ALL.iter().map(|verb| verb.as_str()).collect();
            return Err(format!("{verb:?} is no verb; there are {} and *", verbs.join(", ")));
        }
        Ok(Self { workflow: (workflow != "*").then(|| workflow.to_owned()), verb: known })
    }
}

/// A checked token.
#[derive(Clone)]
pub struct Token {
    name: String,
    digest: [u8; 32],
    scopes: Vec<Scope>,
    sites: Sites,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Token {
    /// Checks a token.
    ///
    /// # Errors
    /// Every mistake.
    pub fn new(spec: TokenSpec) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        check_name(&spec.name, &mut mistakes);
        let secret = spec.secret.as_ref().map_or("", Secret::expose);
        if secret.len() < MIN_SECRET || !secret.bytes().all(|b| b.is_ascii_graphic()) {
            let detail = format!(
                "has at least {MIN_SECRET} visible ASCII characters without spaces; make one with: openssl rand -hex 32"
            );
            mistakes.push(Mistake::new("secret", detail));
        }
        let mut scopes = Vec::new();
        for (index, text) in spec.scopes.iter().enumerate() {
            match Scope::parse(text) {
                Ok(scope) => scopes.push(scope),
                Err(detail) => mistakes.push(Mistake::new(format!("scopes[{index}]"), detail)),
            }
        }
        if spec.scopes.is_empty() {
            mistakes.push(Mistake::new(
                "scopes",
                "is empty: the token could do nothing; such as [\"task:*:read\"]",
            ));
        }
        if spec.sites.is_empty() {
            mistakes.push(Mistake::new(
                "sites",
                "is empty: the token would see nothing; [\"*\"] means every site",
            ));
        }
        let sites = Sites::new(&spec.sites, &mut mistakes);
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        Ok(Self { name: spec.name, digest: Sha256::digest(secret).into(), scopes, sites })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it may do something with tasks of a workflow.
    pub(crate) fn may(&self, verb: Verb, workflow: &str) -> bool {
        self.scopes.iter().any(|scope| {
            scope.verb.is_none_or(|has| has == verb)
                && scope.workflow.as_deref().is_none_or(|has| has == workflow)
        })
    }

    /// Whether it may do something with tasks of at least one workflow.
    pub(crate) fn may_some(&self, verb: Verb) -> bool {
        self.scopes.iter().any(|scope| scope.verb.is_none_or(|has| has == verb))
    }

    /// Demands a scope.
    pub(crate) fn demand(&self, verb: Verb, workflow: &str) -> Result<(), Problem> {
        if self.may(verb, workflow) { Ok(()) } else { Err(insufficient(verb, workflow)) }
    }

    /// Demands a scope for at least one workflow.
    pub(crate) fn demand_some(&self, verb: Verb) -> Result<(), Problem> {
        if self.may_some(verb) { Ok(()) } else { Err(insufficient(verb, "*")) }
    }

    /// The sites it sees.
    pub(crate) fn sites(&self) -> &Sites {
        &self.sites
    }

    /// Whether it sees a task.
    pub(crate) fn sees(&self, workflow: &str, site: Option<&str>) -> bool {
        self.may(Verb::Read, workflow) && self.sites.covers(site)
    }
}

fn insufficient(verb: Verb, workflow: &str) -> Problem {
    let scope = format!("task:{workflow}:{}", verb.as_str());
    let detail = format!("the token lacks the scope {scope}");
    Problem::new(StatusCode::FORBIDDEN, "insufficient-scope", "The token may not do this", detail).header(
        header::WWW_AUTHENTICATE,
        &format!("Bearer realm=\"kedge\", error=\"insufficient_scope\", scope=\"{scope}\""),
    )
}

/// The token of a request.
///
/// # Errors
/// 401, the same for every wrong token.
pub(crate) fn authenticate<'a>(tokens: &'a [Token], headers: &HeaderMap) -> Result<&'a Token, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (first, second) = (values.next(), values.next());
    let Some(value) = first else {
        return Err(unauthorized(
            "send the token as `Authorization: Bearer <token>`",
            "Bearer realm=\"kedge\"",
        ));
    };
    let presented = value.to_str().ok().and_then(bearer).filter(|_| second.is_none());
    let digest: [u8; 32] = Sha256::digest(presented.unwrap_or_default()).into();
    let mut found = None;
    for token in tokens {
        // All of them are compared, each in constant time.
        if bool::from(token.digest.ct_eq(&digest)) {
            found = Some(token);
        }
    }
    found.filter(|_| presented.is_some()).ok_or_else(|| {
        unauthorized("the bearer token is not known here", "Bearer realm=\"kedge\", error=\"invalid_token\"")
    })
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

fn unauthorized(detail: &str, challenge: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "Who are you?", detail)
        .header(header::WWW_AUTHENTICATE, challenge)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, secret: &str, scopes: &[&str], sites: &[&str]) -> TokenSpec {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        TokenSpec {
            name: name.to_owned(),
            secret: Some(Secret::new(secret)),
            scopes: texts(scopes),
            sites: texts(sites),
        }
    }

    fn asking(value: &str) -> HeaderMap {
        [(header::AUTHORIZATION, value.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn only_the_right_token_is_found() {
        let tokens = [
            Token::new(spec("a", "first-secret", &["task:*:*"], &["*"])).unwrap(),
            Token::new(spec("b", "second-secret", &["task:*:read"], &["*"])).unwrap(),
        ];
        let name =
            |headers: &HeaderMap| authenticate(&tokens, headers).map(Token::name).map_err(|p| p.status);
        assert_eq!(name(&asking("Bearer second-secret")), Ok("b"));
        assert_eq!(name(&asking("bearer first-secret")), Ok("a"));
        for wrong in [
            "Bearer",
            "Bearer ",
            "Bearer x",
            "Basic Zmlyc3Qtc2VjcmV0",
            "first-secret",
            "Bearer first-secret2",
        ] {
            assert_eq!(name(&asking(wrong)), Err(StatusCode::UNAUTHORIZED), "{wrong}");
        }
        assert_eq!(name(&HeaderMap::new()), Err(StatusCode::UNAUTHORIZED));
        let mut twice = asking("Bearer first-secret");
        twice.append(header::AUTHORIZATION, "Bearer second-secret".parse().unwrap());
        assert_eq!(name(&twice), Err(StatusCode::UNAUTHORIZED));
    }

    #[test]
    fn scopes_bound_workflow_and_verb() {
        let token =
            Token::new(spec("a", "long-enough", &["task:migrate:create", "task:*:read"], &["*.a.test"]))
                .unwrap();
        assert!(token.may(Verb::Create, "migrate") && !token.may(Verb::Create, "delete"));
        assert!(token.may(Verb::Read, "delete") && !token.may(Verb::Cancel, "migrate"));
        assert!(token.may_some(Verb::Create) && !token.may_some(Verb::Undo));
        assert!(token.sees("migrate", Some("x.a.test")) && !token.sees("migrate", Some("b.test")));
        assert!(!token.sees("purge", None), "what is about no site is for tokens with `*` alone");
        let everything = Token::new(spec("a", "long-enough", &["task:*:*"], &["*"])).unwrap();
        assert!(Verb::ALL.into_iter().all(|verb| everything.may(verb, "anything")));
        assert!(everything.sees("purge", None));
    }

    #[test]
    fn all_mistakes_are_reported_and_no_secret() {
        let bad = spec("A b", "s3cret", &["task:*:fly", "read", "task::read"], &["a/b"]);
        let mistakes = Token::new(bad).unwrap_err();
        let fields: Vec<&str> = mistakes.iter().map(|m| m.field.as_str()).collect();
        assert_eq!(fields, ["name", "secret", "scopes[0]", "scopes[1]", "scopes[2]", "sites[0]"]);
        assert!(!format!("{mistakes:?}").contains("s3cret"));
        assert_eq!(Token::new(TokenSpec { name: "a".into(), ..TokenSpec::default() }).unwrap_err().len(), 3);
    }
}
