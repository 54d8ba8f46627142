//! Receivers of callbacks: who they are, which events they want, which addresses they may have. Sends nothing.

mod list;

use std::fmt;

use ipnet::IpNet;
use kedge_engine::task::Millis;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::config::{Mistake, check_name, matches_glob};
use crate::key::Key;
use crate::mail::{Mail, MailSpec};
use crate::secret::Secret;
use crate::status::{Forge, Writer};

pub use list::Endpoints;

/// What callbacks tell; `task.stuck` goes to every endpoint.
pub const EVENTS: [&str; 9] = [
    "task.running",
    "task.waiting",
    APPROVAL_REQUESTED,
    "task.compensating",
    "task.succeeded",
    "task.rolled_back",
    "task.stuck",
    "task.canceled",
    ENDPOINT_DISABLED,
];
/// Nothing is sent to an endpoint any more: for the others that ask for it.
pub(crate) const ENDPOINT_DISABLED: &str = "endpoint.disabled";
/// A task waits for a second person.
pub(crate) const APPROVAL_REQUESTED: &str = "task.approval_requested";
/// What an endpoint gets that does not say what it wants: how tasks end, and that somebody has to say yes.
const ENDS: [&str; 5] =
    [APPROVAL_REQUESTED, "task.succeeded", "task.rolled_back", "task.stuck", "task.canceled"];

/// Longest URL: it is part of stored callbacks.
const MAX_URL: usize = 500;
/// Longest name of commit statuses.
const MAX_CONTEXT: usize = 100;
/// Most secrets of an endpoint: each adds a signature to every callback, and receivers look at a few only.
const MAX_SECRETS: usize = 4;

/// The form of what an endpoint is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// The contract's JSON, signed as Standard Webhooks says.
    #[default]
    Standard,
    /// CloudEvents 1.0 in structured mode, signed in the same way.
    CloudEvents,
    /// A message for a Slack incoming webhook; unsigned, since its URL is the secret.
    Slack,
    /// The same for Mattermost.
    Mattermost,
    /// The same for Discord.
    Discord,
}

impl Form {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Standard, Self::CloudEvents, Self::Slack, Self::Mattermost, Self::Discord];

    /// The word in configurations.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::CloudEvents => "cloudevents",
            Self::Slack => "slack",
            Self::Mattermost => "mattermost",
            Self::Discord => "discord",
        }
    }

    /// Whether it is a message to people, which is not signed.
    pub(crate) fn is_chat(self) -> bool {
        match self {
            Self::Standard | Self::CloudEvents => false,
            Self::Slack | Self::Mattermost | Self::Discord => true,
        }
    }
}

/// An endpoint as configured.
#[derive(Clone, Debug, Default)]
pub struct EndpointSpec {
    /// Its name.
    pub name: String,
    /// Where callbacks are posted.
    pub url: String,
    /// Standard Webhooks secrets, already loaded; callbacks are signed with each of them.
    pub secrets: Vec<Secret>,
    /// The events it wants, `*` allowed. `None`: how tasks end. Empty: only what tasks send it by their own `callback`.
    pub events: Option<Vec<String>>,
    /// Networks that are not public and yet allowed, such as `10.0.0.0/8`.
    pub allow_private: Vec<String>,
    /// Whether the whole task is sent, instead of what is needed to decide.
    pub full: bool,
    /// The form of what is sent.
    pub form: Form,
    /// `github`, `gitlab`, `gitea`, `forgejo`, `bitbucket`: it gets commit statuses of hooks that name it, and nothing else. The secret is
    /// the token, the URL where the forge's interface is.
    pub forge: Option<String>,
    /// It gets mail. There is no URL then, and no secret.
    pub mail: Option<MailSpec>,
    /// The name of statuses; `kedge` by default.
    pub context: Option<String>,
}

/// What an endpoint is.
#[derive(Clone, Debug, Default)]
pub(crate) enum Kind {
    /// A receiver of callbacks.
    #[default]
    Web,
    /// A forge that gets commit statuses.
    Forge(Writer),
    /// People who get mail.
    Mail(Box<Mail>),
}

impl Kind {
    /// The word on faces.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Forge(_) => "forge",
            Self::Mail(_) => "mail",
        }
    }
}

/// A checked endpoint.
#[derive(Clone)]
pub struct Endpoint {
    pub(crate) name: String,
    pub(crate) url: Url,
    pub(crate) keys: Vec<Key>,
    pub(crate) events: Vec<String>,
    pub(crate) allow_private: Vec<IpNet>,
    pub(crate) full: bool,
    pub(crate) form: Form,
    pub(crate) kind: Kind,
    /// Until when each key counts; a key without an entry has no end.
    pub(crate) ends: Vec<Option<Millis>>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("name", &self.name)
            .field("origin", &origin(&self.url))
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Checks an endpoint.
    ///
    /// # Errors
    /// Every mistake.
    pub fn new(spec: EndpointSpec) -> Result<Self, Vec<Mistake>> {
        if spec.mail.is_some() {
            return Self::mail(spec);
        }
        if spec.forge.is_some() {
            return Self::forge(spec);
        }
        let mut mistakes = Vec::new();
        check_name(&spec.name, &mut mistakes);
        let url = check_url(&spec.url).map_err(|detail| mistakes.push(Mistake::new("url", detail))).ok();
        let unsigned = spec.form.is_chat();
        if spec.secrets.len() > MAX_SECRETS || (spec.secrets.is_empty() && !unsigned) {
            mistakes.push(Mistake::new("secret_file", format!("an endpoint has 1 to {MAX_SECRETS} secrets")));
        }
        let mut keys = Vec::new();
        for secret in &spec.secrets {
            match Key::standard(secret) {
                Ok(key) => keys.push(key),
                Err(error) => mistakes.push(Mistake::new("secret_file", error.to_string())),
            }
        }
        let events = events(spec.events, &mut mistakes);
        if spec.context.is_some() {
            mistakes
                .push(Mistake::new("context", "is the name of commit statuses: for endpoints with `forge`"));
        }
        let allow_private = networks(&spec.allow_private, &mut mistakes);
        match url {
            Some(url) if mistakes.is_empty() => {
                let (name, full, form) = (spec.name, spec.full, spec.form);
                Ok(Self {
                    name,
                    url,
                    keys,
                    events,
                    allow_private,
                    full,
                    form,
                    kind: Kind::Web,
                    ends: Vec::new(),
                })
            }
            _ => Err(mistakes),
        }
    }

    /// Checks one that gets mail.
    fn mail(spec: EndpointSpec) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        check_name(&spec.name, &mut mistakes);
        let others = [
            ("url", !spec.url.is_empty()),
            ("secret_file", !spec.secrets.is_empty()),
            ("forge", spec.forge.is_some()),
            ("payload", spec.full),
            ("form", spec.form != Form::Standard),
            ("allow_private", !spec.allow_private.is_empty()),
        ];
        for (field, _) in others.iter().filter(|(_, there)| *there) {
            mistakes.push(Mistake::new(*field, "is not for mail: leave it out"));
        }
        let events = events(spec.events, &mut mistakes);
        let mail = spec.mail.map(|mail| Mail::new(mail, &mut mistakes));
        match (mail, Url::parse("mailto:")) {
            (Some(mail), Ok(url)) if mistakes.is_empty() => Ok(Self {
                name: spec.name,
                url,
                keys: Vec::new(),
                events,
                allow_private: Vec::new(),
                full: false,
                form: Form::Standard,
                kind: Kind::Mail(Box::new(mail)),
                ends: Vec::new(),
            }),
            _ => Err(mistakes),
        }
    }

    /// Checks one that gets commit statuses.
    fn forge(spec: EndpointSpec) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        check_name(&spec.name, &mut mistakes);
        let word = spec.forge.unwrap_or_default();
        let forge = Forge::find(&word);
        if forge.is_none() {
            let detail =
                format!("{word:?} is not known; there are github, gitlab, gitea, forgejo and bitbucket");
            mistakes.push(Mistake::new("forge", detail));
        }
        let base =
            if spec.url.is_empty() { forge.and_then(Forge::usual_base) } else { Some(spec.url.as_str()) };
        let url = match base.map(check_url) {
            Some(Ok(url)) if url.query().is_none() => Some(url),
            Some(Ok(_)) => {
                mistakes.push(Mistake::new("url", "is the base of the forge's interface, without a query"));
                None
            }
            Some(Err(detail)) => {
                mistakes.push(Mistake::new("url", detail));
                None
            }
            None => {
                mistakes.push(Mistake::new(
                    "url",
                    "is missing: where the forge is, such as https://git.example.org",
                ));
                None
            }
        };
        if spec.secrets.len() != 1 {
            mistakes
                .push(Mistake::new("secret_file", "is one file: the token that may write commit statuses"));
        }
        if spec.events.is_some() || spec.full || spec.form != Form::Standard {
            mistakes.push(Mistake::new("forge", "decides what is sent: leave out events, payload and form"));
        }
        let context = spec.context.unwrap_or_else(|| "kedge".to_owned());
        if context.is_empty() || context.len() > MAX_CONTEXT || context.chars().any(char::is_control) {
            mistakes.push(Mistake::new("context", format!("has 1 to {MAX_CONTEXT} characters")));
        }
        let allow_private = networks(&spec.allow_private, &mut mistakes);
        match (url, forge, spec.secrets.into_iter().next()) {
            (Some(url), Some(forge), Some(token)) if mistakes.is_empty() => Ok(Self {
                name: spec.name,
                url,
                keys: Vec::new(),
                events: Vec::new(),
                allow_private,
                full: false,
                form: Form::Standard,
                kind: Kind::Forge(Writer { forge, token, context }),
                ends: Vec::new(),
            }),
            _ => Err(mistakes),
        }
    }

    /// Whether it can be the receiver of a task's callbacks.
    pub(crate) fn is_forge(&self) -> bool {
        matches!(self.kind, Kind::Forge(_))
    }

    /// The keys that count now.
    pub(crate) fn keys_at(&self, now: Millis) -> Vec<Key> {
        let counts = |index: usize| self.ends.get(index).is_none_or(|end| end.is_none_or(|end| now < end));
        let keys = self.keys.iter().enumerate().filter(|(index, _)| counts(*index));
        keys.map(|(_, key)| key.clone()).collect()
    }

    /// Whether it gets this event of every task.
    pub(crate) fn wants(&self, event: &str) -> bool {
        let all_hear = event == "task.stuck" && !self.is_forge();
        all_hear || self.events.iter().any(|pattern| matches_glob(pattern, event))
    }

    /// Whether it gets this event of a task that names it.
    pub(crate) fn wants_when_named(&self, event: &str) -> bool {
        if self.events.is_empty() { ENDS.contains(&event) && !self.is_forge() } else { self.wants(event) }
    }
}

/// Scheme, host and port: what may be shown, since paths of callback URLs can hold secrets.
pub(crate) fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

fn events(wanted: Option<Vec<String>>, mistakes: &mut Vec<Mistake>) -> Vec<String> {
    let events = wanted.unwrap_or_else(|| ENDS.map(str::to_owned).to_vec());
    for (index, pattern) in events.iter().enumerate() {
        if !EVENTS.iter().any(|event| matches_glob(pattern, event)) {
            let detail = format!("{pattern:?} is no event; there are {}", EVENTS.join(", "));
            mistakes.push(Mistake::new(format!("events[{index}]"), detail));
        }
    }
    events
}

fn networks(texts: &[String], mistakes: &mut Vec<Mistake>) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match text.parse() {
            Ok(net) => networks.push(net),
            Err(_) => {
                let detail = format!("{text:?} is no network, such as 10.0.0.0/8 or 192.168.1.7/32");
                mistakes.push(Mistake::new(format!("allow_private[{index}]"), detail));
            }
        }
    }
    networks
}

fn check_url(text: &str) -> Result<Url, String> {
    if text.len() > MAX_URL {
        return Err(format!("has at most {MAX_URL} characters"));
    }
    let url = Url::parse(text).map_err(|error| format!("is no URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err("has to begin with https:// or http:// and a host".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or a password: callbacks are signed".to_owned());
    }
    if url.fragment().is_some() {
        return Err("must not have a fragment (#...)".to_owned());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::SECRET;

    fn spec(name: &str, url: &str) -> EndpointSpec {
        EndpointSpec {
            name: name.to_owned(),
            url: url.to_owned(),
            secrets: vec![Secret::new(SECRET)],
            ..EndpointSpec::default()
        }
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let mistakes = Endpoint::new(EndpointSpec {
            url: "ftp://x/".to_owned(),
            secrets: vec![Secret::new("hunter2")],
            events: Some(vec!["task.succeeded".to_owned(), "task.done".to_owned()]),
            allow_private: vec!["10.0.0.0/99".to_owned()],
            ..spec("A", "")
        })
        .unwrap_err();
        let fields: Vec<&str> = mistakes.iter().map(|mistake| mistake.field.as_str()).collect();
        assert_eq!(fields, ["name", "url", "secret_file", "events[1]", "allow_private[0]"]);
        assert!(!format!("{mistakes:?}").contains("hunter2"));
        for url in
            ["", "x", "http://", "https://u:p@h/", "https://u@h/", "https://h/#f", "file:///etc/passwd"]
        {
            assert_eq!(Endpoint::new(spec("a", url)).unwrap_err()[0].field, "url", "{url}");
        }
    }

    #[test]
    fn events_are_filtered_but_for_stuck() {
        let of = |events: Option<&[&str]>| {
            let events = events.map(|list| list.iter().map(|text| (*text).to_owned()).collect());
            Endpoint::new(EndpointSpec { events, ..spec("a", "https://a.test/") }).unwrap()
        };
        let default = of(None);
        assert!(
            default.wants("task.succeeded") && default.wants("task.stuck") && !default.wants("task.running")
        );
        let one = of(Some(&["task.running"]));
        assert!(one.wants("task.running") && one.wants("task.stuck") && !one.wants("task.succeeded"));
        let none = of(Some(&[]));
        assert!(
            !none.wants("task.succeeded")
                && none.wants("task.stuck")
                && none.wants_when_named("task.succeeded")
        );
        assert!(of(Some(&["task.*"])).wants("task.compensating"));
    }

    #[test]
    fn a_tasks_own_callback_stays_within_the_endpoints_origins() {
        let list = vec![
            Endpoint::new(spec("ci", "https://ci.test/hook")).unwrap(),
            Endpoint::new(spec("other", "http://other.test:8080/")).unwrap(),
        ];
        let endpoints = Endpoints::new(list).unwrap();
        for good in [
            json!({"endpoint": "ci"}),
            json!({"url": "https://ci.test/jobs/7?x=1"}),
            json!({"url": "https://CI.test:443/"}),
            json!({"url": "http://other.test:8080/x"}),
        ] {
            assert_eq!(endpoints.check_callback(&good), Ok(()), "{good}");
        }
        for (bad, pointer) in [
            (json!({"endpoint": "x"}), "/endpoint"),
            (json!({"url": "http://ci.test/"}), "/url"),
            (json!({"url": "https://ci.test.evil.org/"}), "/url"),
            (json!({"url": "https://ci.test@evil.org/"}), "/url"),
            (json!({"url": "https://169.254.169.254/"}), "/url"),
            (json!({"url": 7}), "/url"),
            (json!({"url": "https://ci.test/", "endpoint": "ci"}), "/endpoint"),
            (json!({}), "/endpoint"),
            (json!({"endpoint": "ci", "x": 1}), "/x"),
            (json!("https://ci.test/"), ""),
        ] {
            assert_eq!(endpoints.check_callback(&bad).unwrap_err()[0].pointer, pointer, "{bad}");
        }
        assert_eq!(endpoints.target("https://ci.test/jobs/7").unwrap().0.name, "ci");
        assert_eq!(endpoints.label("https://ci.test/secret-path"), "https://ci.test");
        assert!(endpoints.target("gone").is_none());
    }

    #[tokio::test]
    async fn names_are_unique_and_a_bad_replacement_changes_nothing() {
        let one = || Endpoint::new(spec("a", "https://a.test/")).unwrap();
        let endpoints = Endpoints::new(vec![one()]).unwrap();
        endpoints.set_disabled("a", Some("gone")).await;
        assert!(endpoints.replace(vec![one(), one()]).is_err());
        assert_eq!(endpoints.disabled("a").as_deref(), Some("gone"));
        endpoints.replace(vec![one()]).unwrap();
        assert_eq!(endpoints.disabled("a"), None);
    }
}
