//! People in chat rooms: which platforms and persons may ask for what, and what they are shown. It runs nothing itself.

pub(crate) mod approve;
pub(crate) mod confirm;
pub(crate) mod follow;
pub(crate) mod incoming;
pub(crate) mod message;
mod text;
pub(crate) mod words;

use http::HeaderMap;
use kedge_engine::task::{Actor, Millis};
use url::Url;

use crate::auth::{Token, TokenSpec};
use crate::config::{Mistake, check_name};
use crate::provider::{Provider, Scheme};
use crate::secret::Secret;
use crate::signature::{Key, Refused};

pub(crate) use text::slack_text;

/// Most secrets of a chat, while rotating; most persons of one.
const MAX_SECRETS: usize = 8;
const MAX_USERS: usize = 1000;
/// How the journal's name of somebody in a chat begins.
const ACTOR: &str = "chat:";
/// Workflows that change nothing of a site: they are not asked about.
const HARMLESS: [&str; 2] = ["backup", "verify"];

/// A chat platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// Slack.
    Slack,
    /// Mattermost.
    Mattermost,
    /// Discord.
    Discord,
}

impl Platform {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Slack, Self::Mattermost, Self::Discord];

    /// The word in the configuration and in the path.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::Mattermost => "mattermost",
            Self::Discord => "discord",
        }
    }

    pub(crate) fn find(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|platform| platform.as_str() == word)
    }

    pub(crate) fn provider(self) -> Provider {
        match self {
            Self::Slack => Provider::Slack,
            Self::Mattermost => Provider::Mattermost,
            Self::Discord => Provider::Discord,
        }
    }

    /// Where later words on a message are sent; Mattermost is wherever it was installed.
    fn base(self) -> Option<&'static str> {
        match self {
            Self::Slack => Some("https://hooks.slack.com"),
            Self::Mattermost => None,
            Self::Discord => Some("https://discord.com"),
        }
    }
}

/// A chat as configured.
#[derive(Clone, Debug, Default)]
pub struct ChatSpec {
    /// `slack`, `mattermost` or `discord`.
    pub platform: String,
    /// Its name; the platform's by default.
    pub name: Option<String>,
    /// Its secrets, already loaded: a signing secret, a token, a public key.
    pub secrets: Vec<Secret>,
    /// Where it is, for later words on a message.
    pub base_url: Option<String>,
    /// A channel's incoming webhook, for words that come too late for that.
    pub webhook: Option<Secret>,
    /// Workflows that run without a question; by default those that change nothing of a site.
    pub at_once: Option<Vec<String>>,
    /// Who may ask.
    pub users: Vec<ChatUserSpec>,
}

/// A person as configured.
#[derive(Clone, Debug, Default)]
pub struct ChatUserSpec {
    /// The platform's id, not the name that they chose.
    pub id: String,
    /// Our name for them, for the journal.
    pub name: String,
    /// What they may do, as a token's scopes.
    pub scopes: Vec<String>,
    /// Patterns of the sites they see.
    pub sites: Vec<String>,
}

/// A checked chat.
#[derive(Clone, Debug)]
pub struct Chat {
    pub(crate) platform: Platform,
    pub(crate) name: String,
    keys: Vec<Key>,
    pub(crate) base: Url,
    pub(crate) webhook: Option<Secret>,
    at_once: Vec<String>,
    users: Vec<(String, Token)>,
}

impl Chat {
    /// Checks a chat.
    ///
    /// # Errors
    /// Every mistake.
    pub fn new(spec: ChatSpec) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let platform = Platform::find(&spec.platform);
        if platform.is_none() {
            let detail =
                format!("{:?} is no platform; there are slack, mattermost and discord", spec.platform);
            mistakes.push(Mistake::new("platform", detail));
        }
        let platform = platform.unwrap_or(Platform::Slack);
        let name = spec.name.unwrap_or_else(|| platform.as_str().to_owned());
        check_name(&name, &mut mistakes);
        if spec.secrets.is_empty() || spec.secrets.len() > MAX_SECRETS {
            mistakes.push(Mistake::new("secret_files", format!("a chat has 1 to {MAX_SECRETS} secrets")));
        }
        let mut keys = Vec::new();
        for (index, secret) in spec.secrets.iter().enumerate() {
            match platform.provider().key(secret) {
                Ok(key) => keys.push(key),
                Err(error) => {
                    mistakes.push(Mistake::new(format!("secret_files[{index}]"), error.to_string()))
                }
            }
        }
        let base = spec.base_url.as_deref().or(platform.base());
        let base = base.and_then(|base| Url::parse(base).ok()).filter(|base| base.host().is_some());
        if base.is_none() {
            mistakes.push(Mistake::new(
                "base_url",
                "is the address of the chat, such as https://chat.example.org",
            ));
        }
        let webhook = spec.webhook.as_ref().map(|webhook| Url::parse(webhook.expose()));
        if webhook.is_some_and(|url| url.map_or(true, |url| !matches!(url.scheme(), "https" | "http"))) {
            mistakes.push(Mistake::new("webhook_file", "holds the URL of a channel's incoming webhook"));
        }
        let users = users(spec.users, &mut mistakes);
        let at_once = spec.at_once.unwrap_or_else(|| HARMLESS.map(str::to_owned).to_vec());
        match base {
            Some(base) if mistakes.is_empty() => {
                Ok(Self { platform, name, keys, base, webhook: spec.webhook, at_once, users })
            }
            _ => Err(mistakes),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Checks a message's signature or token.
    pub(crate) fn verify(&self, headers: &HeaderMap, body: &[u8], now_s: u64) -> Result<(), Refused> {
        Scheme::from(self.platform.provider()).verify(headers, body, &self.keys, now_s).map(|_| ())
    }

    /// What a person may do.
    pub(crate) fn user(&self, id: &str) -> Option<&Token> {
        self.users.iter().find(|(known, _)| known == id).map(|(_, grant)| grant)
    }

    /// How to mention the person who has a name of ours; Mattermost mentions by names that only its messages tell.
    fn mention(&self, name: &str) -> Option<String> {
        let (id, _) = self.users.iter().find(|(_, grant)| grant.name() == name)?;
        Some(if self.platform == Platform::Mattermost { format!("{name}:") } else { format!("<@{id}>") })
    }

    /// The person who asked for a task, if it was asked for here: how to mention them.
    pub(crate) fn asked_by(&self, actor: &Actor) -> Option<String> {
        let here = actor.via == self.platform.as_str();
        self.mention(actor.name.strip_prefix(ACTOR).filter(|_| here)?)
    }

    /// Somebody here, as the journal knows them.
    pub(crate) fn actor(&self, grant: &Token) -> Actor {
        Actor { name: format!("{ACTOR}{}", grant.name()), via: self.platform.as_str().to_owned() }
    }

    /// The workflows that run without a question.
    pub(crate) fn without_a_question(&self) -> impl Iterator<Item = &str> {
        self.at_once.iter().map(String::as_str)
    }

    /// Whether a workflow runs without a question.
    pub(crate) fn at_once(&self, workflow: &str) -> bool {
        self.at_once.iter().any(|name| name == workflow)
    }

    /// An address that a message named, if it is on the chat's own host: a stolen secret must not make us post elsewhere.
    pub(crate) fn pinned(&self, address: &str) -> Option<Url> {
        let url = Url::parse(address).ok()?;
        let alike = |a: &Url, b: &Url| {
            a.scheme() == b.scheme()
                && a.host() == b.host()
                && a.port_or_known_default() == b.port_or_known_default()
        };
        (alike(&url, &self.base) && url.username().is_empty() && url.password().is_none()).then_some(url)
    }
}

fn users(specs: Vec<ChatUserSpec>, mistakes: &mut Vec<Mistake>) -> Vec<(String, Token)> {
    if specs.is_empty() || specs.len() > MAX_USERS {
        let detail = format!("1 to {MAX_USERS} persons may ask; each with its id, name, scopes and sites");
        mistakes.push(Mistake::new("users", detail));
    }
    let mut users: Vec<(String, Token)> = Vec::new();
    for (index, spec) in specs.into_iter().enumerate() {
        let at = |field: &str| format!("users[{index}].{field}");
        if spec.id.is_empty() || !spec.id.bytes().all(|b| b.is_ascii_alphanumeric()) {
            let detail =
                "is the platform's id of a person (letters and digits), not a name that they can change";
            mistakes.push(Mistake::new(at("id"), detail));
        }
        if users.iter().any(|(id, _)| *id == spec.id) {
            mistakes.push(Mistake::new(at("id"), format!("{:?} is there twice", spec.id)));
        }
        // A grant of the same form as a token's. It is in no list of tokens, so its text opens nothing.
        let grant = Token::new(TokenSpec {
            name: spec.name,
            secret: Some(Secret::new("nobody-presents-this")),
            scopes: spec.scopes,
            sites: spec.sites,
            ..TokenSpec::default()
        });
        match grant {
            Ok(grant) => users.push((spec.id, grant)),
            Err(more) => {
                mistakes
                    .extend(more.into_iter().map(|mistake| Mistake::new(at(&mistake.field), mistake.detail)));
            }
        }
    }
    users
}

/// How often later words may be said: Slack and Mattermost take five in half an hour, Discord as many as one likes in a quarter. The last
/// one is for the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    platform: Platform,
    began: Millis,
    used: u32,
    last: Millis,
}

/// Slack and Mattermost: posts, and how long an address lives, with some seconds to spare.
const POSTS: u32 = 5;
const ADDRESS_MS: Millis = 30 * 60_000 - 15_000;
/// Discord: how long a token lives, with some seconds to spare.
const TOKEN_MS: Millis = 15 * 60_000 - 15_000;
/// Pauses before the first, second and third word on progress.
const PAUSES_MS: [Millis; 3] = [20_000, 120_000, 480_000];
const DISCORD_PAUSE_MS: Millis = 5000;

impl Budget {
    pub(crate) fn new(platform: Platform, now: Millis) -> Self {
        Self { platform, began: now, used: 0, last: now }
    }

    /// Whether a message can be edited: Mattermost would get a new one each time.
    pub(crate) fn edits(&self) -> bool {
        self.platform != Platform::Mattermost
    }

    /// Whether progress may be told now.
    pub(crate) fn for_progress(&self, now: Millis) -> bool {
        let pause = match self.platform {
            Platform::Mattermost => return false,
            Platform::Discord => Some(&DISCORD_PAUSE_MS),
            Platform::Slack => PAUSES_MS.get(self.used as usize),
        };
        self.for_end(now)
            && self.used + 1 < POSTS.max(self.most())
            && pause.is_some_and(|pause| now >= self.last + pause)
    }

    /// Whether the end may be told now.
    pub(crate) fn for_end(&self, now: Millis) -> bool {
        let life = if self.platform == Platform::Discord { TOKEN_MS } else { ADDRESS_MS };
        now < self.began + life && self.used < self.most()
    }

    fn most(&self) -> u32 {
        if self.platform == Platform::Discord { u32::MAX } else { POSTS }
    }

    pub(crate) fn spend(&mut self, now: Millis) {
        self.used += 1;
        self.last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(platform: &str) -> ChatSpec {
        ChatSpec {
            platform: platform.to_owned(),
            secrets: vec![Secret::new("hunter2-hunter2")],
            users: vec![ChatUserSpec {
                id: "U1".to_owned(),
                name: "anna".to_owned(),
                scopes: vec!["task:*:*".to_owned()],
                sites: vec!["*".to_owned()],
            }],
            ..ChatSpec::default()
        }
    }

    #[test]
    fn answers_go_to_the_chats_own_host_alone() {
        let slack = Chat::new(spec("slack")).unwrap();
        assert!(slack.pinned("https://hooks.slack.com/commands/T1/2/3").is_some());
        for elsewhere in [
            "http://hooks.slack.com/x",
            "https://hooks.slack.com.evil.test/x",
            "https://evil.test/hooks.slack.com",
            "https://hooks.slack.com@evil.test/x",
            "https://user@hooks.slack.com/x",
            "https://hooks.slack.com:8443/x",
            "https://127.0.0.1/x",
            "file:///etc/passwd",
            "",
        ] {
            assert!(slack.pinned(elsewhere).is_none(), "{elsewhere}");
        }
        let own = ChatSpec { base_url: Some("https://chat.test".to_owned()), ..spec("mattermost") };
        assert!(Chat::new(own).unwrap().pinned("https://chat.test/hooks/commands/x").is_some());
    }

    #[test]
    fn every_mistake_is_reported() {
        let fields = |spec: ChatSpec| -> Vec<String> {
            Chat::new(spec).unwrap_err().into_iter().map(|mistake| mistake.field).collect()
        };
        assert_eq!(fields(spec("mattermost")), ["base_url"]);
        assert_eq!(fields(spec("irc")), ["platform"]);
        assert_eq!(fields(spec("discord")), ["secret_files[0]"]);
        let twice = ChatSpec { users: [spec("slack").users, spec("slack").users].concat(), ..spec("slack") };
        assert_eq!(fields(twice), ["users[1].id"]);
        let named = ChatUserSpec {
            id: "@anna".to_owned(),
            scopes: vec!["all".to_owned()],
            ..spec("slack").users[0].clone()
        };
        assert_eq!(
            fields(ChatSpec { users: vec![named], ..spec("slack") }),
            ["users[0].id", "users[0].scopes[0]"]
        );
        assert_eq!(
            fields(ChatSpec { users: vec![], secrets: vec![], ..spec("slack") }),
            ["secret_files", "users"]
        );
    }

    #[test]
    fn the_end_always_has_a_place_left() {
        let mut slack = Budget::new(Platform::Slack, 0);
        let mut told = 0;
        for now in (0..ADDRESS_MS).step_by(1000) {
            if slack.for_progress(now) {
                slack.spend(now);
                told += 1;
            }
        }
        assert_eq!(told, 3);
        assert!(slack.for_end(ADDRESS_MS - 1) && !slack.for_end(ADDRESS_MS));
        let mut pressed = Budget::new(Platform::Slack, 0);
        (0..POSTS).for_each(|_| pressed.spend(0));
        assert!(!pressed.for_end(1), "five are five");
        let mattermost = Budget::new(Platform::Mattermost, 0);
        assert!(!mattermost.for_progress(100_000) && mattermost.for_end(100_000));
        let mut discord = Budget::new(Platform::Discord, 0);
        assert!(!discord.for_progress(4999) && discord.for_progress(5000));
        (0..100).for_each(|_| discord.spend(5000));
        assert!(discord.for_progress(10_000) && discord.for_end(TOKEN_MS - 1) && !discord.for_end(TOKEN_MS));
    }
}
