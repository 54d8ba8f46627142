//! Bearer tokens: who asks, what they may do and which sites they see. Holds only digests of the secrets.

use std::fmt;
use std::net::IpAddr;

use http::{HeaderMap, StatusCode, header};
use ipnet::IpNet;
use kedge_engine::task::{Millis, TaskView};
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
    /// `task:<workflow or *>:<verb or *>`, with the verbs of [`Verb`]; or `admin`: tokens, endpoints and the audit log.
    pub scopes: Vec<String>,
    /// Patterns of the sites it sees; `*` is all of them, and what is about no single site.
    pub sites: Vec<String>,
    /// Networks that it may come from; empty: from everywhere.
    pub networks: Vec<String>,
    /// When it ends, in milliseconds since 1970.
    pub expires_at: Option<Millis>,
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
    /// Say yes or no to tasks that ask for a second person.
    Approve,
    /// Send callbacks again.
    Replay,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Create,
        Self::Read,
        Self::Cancel,
        Self::Retry,
        Self::Undo,
        Self::Resolve,
        Self::Approve,
        Self::Replay,
    ];

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
            Self::Approve => "approve",
            Self::Replay => "replay",
        }
    }
}

/// What a token may do.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Scope {
    /// `None` stands for `*`.
    Tasks { workflow: Option<String>, verb: Option<Verb> },
    /// Tokens, endpoints, the audit log.
    Admin,
}

impl Scope {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "admin" {
            return Ok(Self::Admin);
        }
        let parts: Vec<&str> = text.split(':').collect();
        let ["task", workflow, verb] = parts[..] else {
            return Err(format!(
                "{text:?} is no scope: task:<workflow or *>:<verb or *>, such as task:migrate:create, or admin"
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
        Ok(Self::Tasks { workflow: (workflow != "*").then(|| workflow.to_owned()), verb: known })
    }

    /// Whether it allows something with tasks of a workflow; `None`: of any at least.
    fn allows(&self, wanted: Verb, of: Option<&str>) -> bool {
        match self {
            Self::Admin => false,
            Self::Tasks { workflow, verb } => {
                verb.is_none_or(|has| has == wanted)
                    && of.is_none_or(|of| workflow.as_deref().is_none_or(|has| has == of))
            }
        }
    }
}

/// A checked token.
#[derive(Clone)]
pub struct Token {
    name: String,
    digest: [u8; 32],
    scopes: Vec<Scope>,
    sites: Sites,
    networks: Vec<IpNet>,
    expires_at: Option<Millis>,
    spec: Spec,
    /// Whether a certificate proves it, instead of a secret.
    certificate: bool,
}

/// The parts of a token that are shown, as they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) scopes: Vec<String>,
    pub(crate) sites: Vec<String>,
    pub(crate) networks: Vec<String>,
    pub(crate) expires_at: Option<Millis>,
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
        let secret = spec.secret.as_ref().map_or("", Secret::expose);
        if secret.len() < MIN_SECRET || !secret.bytes().all(|b| b.is_ascii_graphic()) {
            let detail = format!(
                "has at least {MIN_SECRET} visible ASCII characters without spaces; make one with: openssl rand -hex 32"
            );
            mistakes.push(Mistake::new("secret", detail));
        }
        let digest = Sha256::digest(secret).into();
        let built = Self::with_digest(spec, digest);
        match built {
            Ok(token) if mistakes.is_empty() => Ok(token),
            Ok(_) => Err(mistakes),
            Err(others) => Err(others.into_iter().chain(mistakes).collect()),
        }
    }

    /// Checks a token of whose secret only the SHA-256 is known.
    ///
    /// # Errors
    /// Every mistake.
    pub(crate) fn with_digest(spec: TokenSpec, digest: [u8; 32]) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        check_name(&spec.name, &mut mistakes);
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
        let mut networks = Vec::new();
        for (index, text) in spec.networks.iter().enumerate() {
            match text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) {
                Ok(net) => networks.push(net),
                Err(_) => {
                    let detail = "is no network, such as 10.0.0.0/8 or 192.0.2.7";
                    mistakes.push(Mistake::new(format!("networks[{index}]"), detail));
                }
            }
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let TokenSpec { name, expires_at, .. } = spec;
        let spec = Spec { scopes: spec.scopes, sites: spec.sites, networks: spec.networks, expires_at };
        Ok(Self { name, digest, scopes, sites, networks, expires_at, spec, certificate: false })
    }

    /// Checks what the certificate of a client stands for. It is in no list of tokens, so no secret opens it.
    ///
    /// # Errors
    /// Every mistake.
    pub(crate) fn of_certificate(spec: TokenSpec) -> Result<Self, Vec<Mistake>> {
        Self::with_digest(spec, [0; 32]).map(|token| Self { certificate: true, ..token })
    }

    /// Who it is, in the journal and the audit log: `token:ci` or `cert:ci`.
    #[must_use]
    pub fn principal(&self) -> String {
        format!("{}:{}", self.kind(), self.name)
    }

    /// `token` or `cert`.
    pub(crate) fn kind(&self) -> &'static str {
        if self.certificate { "cert" } else { "token" }
    }

    /// What is shown of it.
    pub(crate) fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Whether it counts now, for somebody who comes from there.
    pub(crate) fn counts(&self, now: Millis, from: Option<IpAddr>) -> bool {
        let here = |net: &IpNet| from.is_some_and(|from| net.contains(&from.to_canonical()));
        self.expires_at.is_none_or(|end| now < end)
            && (self.networks.is_empty() || self.networks.iter().any(here))
    }

    /// The workflows that its scopes name.
    pub(crate) fn named_workflows(&self) -> Vec<String> {
        let named = |scope: &Scope| match scope {
            Scope::Tasks { workflow, .. } => workflow.clone(),
            Scope::Admin => None,
        };
        self.scopes.iter().filter_map(named).collect()
    }

    /// Demands the scope `admin`.
    pub(crate) fn demand_admin(&self) -> Result<(), Problem> {
        if self.scopes.contains(&Scope::Admin) { Ok(()) } else { Err(lacking("admin")) }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it may do something with tasks of a workflow.
    pub(crate) fn may(&self, verb: Verb, workflow: &str) -> bool {
        self.scopes.iter().any(|scope| scope.allows(verb, Some(workflow)))
    }

    /// Whether it may do something with tasks of at least one workflow.
    pub(crate) fn may_some(&self, verb: Verb) -> bool {
        self.scopes.iter().any(|scope| scope.allows(verb, None))
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

    /// Whether it may do something with a task: by its workflow, or by that of the task that it takes back.
    pub(crate) fn may_with(&self, verb: Verb, task: &TaskView) -> bool {
        self.may(verb, &task.workflow) || task.takes_back().is_some_and(|workflow| self.may(verb, workflow))
    }

    /// Demands a scope for something with a task.
    pub(crate) fn demand_with(&self, verb: Verb, task: &TaskView) -> Result<(), Problem> {
        if self.may_with(verb, task) { Ok(()) } else { Err(insufficient(verb, &task.workflow)) }
    }

    /// Whether it sees a task.
    pub(crate) fn sees(&self, task: &TaskView) -> bool {
        self.may_with(Verb::Read, task) && self.sites.covers(task.site.as_deref())
    }
}

fn insufficient(verb: Verb, workflow: &str) -> Problem {
    lacking(&format!("task:{workflow}:{}", verb.as_str()))
}

fn lacking(scope: &str) -> Problem {
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
pub(crate) fn authenticate<'a>(
    tokens: impl IntoIterator<Item = &'a Token>,
    headers: &HeaderMap,
    now: Millis,
    from: Option<IpAddr>,
) -> Result<&'a Token, Problem> {
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
    found.filter(|token| presented.is_some() && token.counts(now, from)).ok_or_else(|| {
        unauthorized(
            "the bearer token is not known here, or not any more, or not for where you are",
            "Bearer realm=\"kedge\", error=\"invalid_token\"",
        )
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
    use crate::testing::sample_task;

    fn spec(name: &str, secret: &str, scopes: &[&str], sites: &[&str]) -> TokenSpec {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        TokenSpec {
            name: name.to_owned(),
            secret: Some(Secret::new(secret)),
            scopes: texts(scopes),
            sites: texts(sites),
            ..TokenSpec::default()
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
        let name = |headers: &HeaderMap| {
            authenticate(&tokens, headers, 0, None).map(Token::name).map_err(|p| p.status)
        };
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
    fn a_token_ends_and_is_bound_to_networks() {
        let bound = TokenSpec {
            networks: vec!["10.0.0.0/8".to_owned(), "192.0.2.7".to_owned()],
            expires_at: Some(1000),
            ..spec("a", "first-secret", &["task:*:*"], &["*"])
        };
        let tokens = [Token::new(bound).unwrap()];
        let ask = |now, from: &str| {
            authenticate(&tokens, &asking("Bearer first-secret"), now, from.parse().ok())
                .map(Token::name)
                .is_ok()
        };
        assert!(ask(999, "10.1.2.3") && ask(999, "192.0.2.7") && ask(0, "::ffff:10.1.2.3"));
        assert!(!ask(1000, "10.1.2.3"), "over");
        assert!(!ask(0, "192.0.2.8") && !ask(0, "nowhere"));
        assert_eq!(
            Token::new(TokenSpec {
                networks: vec!["x".to_owned()],
                ..spec("a", "first-secret", &["admin"], &["*"])
            })
            .unwrap_err()[0]
                .field,
            "networks[0]"
        );
    }

    #[test]
    fn administration_is_a_scope_of_its_own() {
        let all = Token::new(spec("a", "long-enough", &["task:*:*"], &["*"])).unwrap();
        assert_eq!(all.demand_admin().unwrap_err().status, StatusCode::FORBIDDEN);
        let admin = Token::new(spec("a", "long-enough", &["admin"], &["*"])).unwrap();
        assert!(admin.demand_admin().is_ok() && !admin.may_some(Verb::Read));
    }

    #[test]
    fn scopes_bound_workflow_and_verb() {
        let token =
            Token::new(spec("a", "long-enough", &["task:migrate:create", "task:*:read"], &["*.a.test"]))
                .unwrap();
        assert!(token.may(Verb::Create, "migrate") && !token.may(Verb::Create, "delete"));
        assert!(token.may(Verb::Read, "delete") && !token.may(Verb::Cancel, "migrate"));
        assert!(token.may_some(Verb::Create) && !token.may_some(Verb::Undo));
        let (seen, other) = (sample_task(1, "x.a.test"), sample_task(2, "b.test"));
        assert!(token.sees(&seen) && !token.sees(&other));
        let purge = TaskView { workflow: "purge".to_owned(), site: None, ..seen };
        assert!(!token.sees(&purge), "what is about no site is for tokens with `*` alone");
        let everything = Token::new(spec("a", "long-enough", &["task:*:*"], &["*"])).unwrap();
        assert!(Verb::ALL.into_iter().all(|verb| everything.may(verb, "anything")));
        assert!(everything.sees(&purge));
    }

    #[test]
    fn what_takes_a_task_back_is_seen_by_whoever_sees_that_task() {
        let token = |scopes: &[&str]| Token::new(spec("a", "long-enough", scopes, &["*"])).unwrap();
        let undo = |params: serde_json::Value| TaskView {
            workflow: "undo".to_owned(),
            params,
            ..sample_task(1, "x.a.test")
        };
        let (of_migrate, older) =
            (undo(serde_json::json!({ "workflow": "migrate" })), undo(serde_json::Value::Null));
        let migrates = token(&["task:migrate:read"]);
        assert!(
            migrates.sees(&of_migrate)
                && !migrates.sees(&older)
                && !migrates.may_with(Verb::Cancel, &of_migrate)
        );
        assert!(!token(&["task:backup:read"]).sees(&of_migrate));
        assert!(token(&["task:undo:read"]).sees(&older));
    }

    #[test]
    fn all_mistakes_are_reported_and_no_secret() {
        let bad = spec("A b", "s3cret", &["task:*:fly", "read", "task::read"], &["a/b"]);
        let mistakes = Token::new(bad).unwrap_err();
        let fields: Vec<&str> = mistakes.iter().map(|m| m.field.as_str()).collect();
        assert_eq!(fields, ["name", "scopes[0]", "scopes[1]", "scopes[2]", "sites[0]", "secret"]);
        assert!(!format!("{mistakes:?}").contains("s3cret"));
        assert_eq!(Token::new(TokenSpec { name: "a".into(), ..TokenSpec::default() }).unwrap_err().len(), 3);
    }
}
