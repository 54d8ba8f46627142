//! `kedge.toml` as written: one struct a table, unknown fields refused. Nothing is checked against anything else here.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

/// The file: every table by itself, so that each can be wrong on its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) data_dir: Option<Spanned<String>>,
    pub(crate) backup_dir: Option<Spanned<String>>,
    pub(crate) store: Option<Spanned<toml::Value>>,
    pub(crate) http: Option<Spanned<toml::Value>>,
    pub(crate) policies: Option<Spanned<toml::Value>>,
    #[serde(default)]
    pub(crate) hosts: BTreeMap<String, Spanned<toml::Value>>,
    #[serde(default)]
    pub(crate) web_servers: BTreeMap<String, Spanned<toml::Value>>,
    #[serde(default)]
    pub(crate) database_servers: BTreeMap<String, Spanned<toml::Value>>,
    #[serde(default)]
    pub(crate) platforms: BTreeMap<String, Spanned<toml::Value>>,
    #[serde(default)]
    pub(crate) tokens: Vec<Spanned<toml::Value>>,
    #[serde(default)]
    pub(crate) certificates: Vec<Spanned<toml::Value>>,
    #[serde(default)]
    pub(crate) hooks: Vec<Spanned<toml::Value>>,
    #[serde(default)]
    pub(crate) chat: Vec<Spanned<toml::Value>>,
    #[serde(default)]
    pub(crate) endpoints: Vec<Spanned<toml::Value>>,
    #[serde(default)]
    pub(crate) approvals: Vec<Spanned<toml::Value>>,
    pub(crate) smtp: Option<Spanned<toml::Value>>,
    #[serde(default)]
    pub(crate) schedules: Vec<Spanned<toml::Value>>,
    #[serde(default)]
    pub(crate) commands: Vec<Spanned<toml::Value>>,
}

/// A command of the operator's own around tasks.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Command {
    pub(crate) name: String,
    /// A host's name.
    pub(crate) host: String,
    /// Program and arguments.
    pub(crate) run: Vec<String>,
    pub(crate) workflows: Vec<String>,
    /// Patterns of sites; all by default.
    #[serde(default)]
    pub(crate) sites: Vec<String>,
    /// `before` or `after`.
    pub(crate) at: kedge_workflows::commands::At,
    /// Whom it runs as; root by default.
    pub(crate) user: Option<String>,
    /// `5m`.
    pub(crate) time_limit: Option<String>,
}

/// What tasks may do.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Policies {
    /// Only disabled sites can be deleted.
    #[serde(default = "yes")]
    pub(crate) delete_only_disabled: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Schedule {
    pub(crate) name: String,
    #[serde(default = "backup")]
    pub(crate) workflow: String,
    #[serde(default)]
    pub(crate) params: toml::Table,
    /// Patterns of sites, for workflows that are about one.
    #[serde(default)]
    pub(crate) sites: Vec<String>,
    /// `6h`; or `at`.
    pub(crate) every: Option<String>,
    /// Times of the day: `02:30`.
    #[serde(default)]
    pub(crate) at: Vec<String>,
    /// `mon` ...; all by default.
    #[serde(default)]
    pub(crate) days: Vec<String>,
    /// Such as `Europe/Berlin`; UTC by default.
    pub(crate) time_zone: Option<String>,
    /// How late it may begin.
    pub(crate) window: Option<String>,
    /// The sites are spread over so much time.
    pub(crate) jitter: Option<String>,
    /// Whether a slot that was missed is made up for, once.
    #[serde(default = "yes")]
    pub(crate) catch_up: bool,
}

fn backup() -> String {
    "backup".to_owned()
}

fn yes() -> bool {
    true
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Store {
    #[serde(default = "sled")]
    pub(crate) kind: String,
    /// Days after which the events of a finished task are packed.
    pub(crate) archive_after_days: Option<u32>,
    /// Days after which a finished task is forgotten; 0: never.
    pub(crate) forget_after_days: Option<u32>,
    /// The same for those that were rolled back or canceled.
    pub(crate) forget_rolled_back_after_days: Option<u32>,
    /// Of each site, so many of its newest tasks are never forgotten.
    pub(crate) keep_per_site: Option<usize>,
}

fn sled() -> String {
    "sled".to_owned()
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Http {
    pub(crate) listen: Option<String>,
    pub(crate) public_url: Option<String>,
    /// Networks that are not public and that endpoints made by API may use.
    #[serde(default)]
    pub(crate) endpoint_networks: Vec<String>,
    /// Proxies before us, whose `X-Forwarded-For` is believed.
    #[serde(default)]
    pub(crate) trusted_proxies: Vec<String>,
    /// TLS of the listener; plain HTTP without it.
    pub(crate) tls: Option<HttpTls>,
    /// How often each token may ask, such as `600/m`.
    pub(crate) token_rate: Option<String>,
    /// How often each hook may be called.
    pub(crate) hook_rate: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpTls {
    /// The certificate, and those that lead to its root.
    pub(crate) certificate_file: String,
    pub(crate) key_file: String,
    /// Who signs certificates of clients.
    pub(crate) client_ca_file: Option<String>,
    /// `optional` (the default) or `required`.
    pub(crate) client_auth: Option<String>,
}

/// Whom the certificate of a client stands for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Certificate {
    pub(crate) name: String,
    pub(crate) fingerprint: Option<String>,
    pub(crate) subject: Option<String>,
    pub(crate) dns_name: Option<String>,
    #[serde(default)]
    pub(crate) scopes: Vec<String>,
    #[serde(default)]
    pub(crate) sites: Vec<String>,
    #[serde(default)]
    pub(crate) networks: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "transport", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Host {
    Local {},
    Docker {
        container: String,
    },
    Ssh {
        address: String,
        identity_file: Option<String>,
        known_hosts: Option<String>,
        #[serde(default)]
        sudo: bool,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebServer {
    pub(crate) host: String,
    /// More hosts with the same web server, directories and platforms: a cluster, which the first host leads.
    #[serde(default)]
    pub(crate) also_on: Vec<String>,
    /// Whether the hosts share a file system with the platforms: then there is nothing to copy between them.
    #[serde(default)]
    pub(crate) shared_files: bool,
    pub(crate) kind: kedge_drivers::web::WebServerKind,
    pub(crate) vhost_dir: String,
    pub(crate) php_fpm: String,
    #[serde(default = "http_port")]
    pub(crate) port: u16,
    /// The port of HTTPS, for sites with a certificate.
    #[serde(default = "https_port")]
    pub(crate) tls_port: u16,
    #[serde(default)]
    pub(crate) listen_addresses: Vec<std::net::IpAddr>,
    pub(crate) acme_root: Option<String>,
    pub(crate) test_command: Option<Vec<String>>,
    pub(crate) reload_command: Option<Vec<String>>,
    /// Runs the application's code on the command line: what php-fpm runs as.
    #[serde(default = "web_user")]
    pub(crate) user: String,
}

fn https_port() -> u16 {
    443
}

fn http_port() -> u16 {
    80
}

fn web_user() -> String {
    "www-data".to_owned()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DatabaseServer {
    pub(crate) host: String,
    #[serde(default = "mysql")]
    pub(crate) kind: String,
    pub(crate) admin_defaults_file: Option<String>,
    pub(crate) grant_hosts: Option<Vec<String>>,
    pub(crate) address: Option<String>,
}

fn mysql() -> String {
    "mysql".to_owned()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Platform {
    pub(crate) web_server: String,
    pub(crate) root: String,
    pub(crate) app: kedge_workflows::ports::AppKind,
    /// For `drupal`: the drush to use where the platform has none of its own.
    pub(crate) drush: Option<String>,
    /// For `plain` applications.
    pub(crate) plain: Option<kedge_drivers::app::PlainConfig>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Token {
    pub(crate) name: String,
    pub(crate) secret_file: Option<String>,
    pub(crate) secret_env: Option<String>,
    #[serde(default)]
    pub(crate) scopes: Vec<String>,
    #[serde(default)]
    pub(crate) sites: Vec<String>,
    /// Networks that it may come from.
    #[serde(default)]
    pub(crate) networks: Vec<String>,
    pub(crate) expires_at: Option<toml::value::Datetime>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hook {
    pub(crate) name: String,
    pub(crate) provider: String,
    /// How a sender without a preset signs.
    pub(crate) signature: Option<HookSignature>,
    #[serde(default)]
    pub(crate) secret_files: Vec<String>,
    #[serde(default)]
    pub(crate) secret_envs: Vec<String>,
    #[serde(default)]
    pub(crate) workflow: String,
    #[serde(default)]
    pub(crate) workflows: Vec<String>,
    #[serde(default)]
    pub(crate) when: Vec<String>,
    pub(crate) params: Option<serde_json::Value>,
    #[serde(default)]
    pub(crate) sites: Vec<String>,
    #[serde(default)]
    pub(crate) correlation_id: String,
    pub(crate) callback: Option<serde_json::Value>,
    pub(crate) status: Option<HookStatus>,
}

/// Where a hook's messages name their commit.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HookStatus {
    pub(crate) endpoint: String,
    pub(crate) repository: Option<String>,
    pub(crate) commit: Option<String>,
}

impl From<HookStatus> for kedge_webhooks::StatusSpec {
    fn from(raw: HookStatus) -> Self {
        let HookStatus { endpoint, repository, commit } = raw;
        Self { endpoint, repository, commit }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HookSignature {
    pub(crate) header: Option<String>,
    pub(crate) encoding: Option<String>,
    pub(crate) prefix: Option<String>,
    pub(crate) id_header: Option<String>,
    pub(crate) event_header: Option<String>,
}

impl From<HookSignature> for kedge_webhooks::CustomSpec {
    fn from(raw: HookSignature) -> Self {
        let HookSignature { header, encoding, prefix, id_header, event_header } = raw;
        Self { header, encoding, prefix, id_header, event_header }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Chat {
    pub(crate) platform: String,
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) secret_files: Vec<String>,
    #[serde(default)]
    pub(crate) secret_envs: Vec<String>,
    pub(crate) base_url: Option<String>,
    /// The file with the URL of a channel's incoming webhook.
    pub(crate) webhook_file: Option<String>,
    pub(crate) at_once: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) users: Vec<ChatUser>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChatUser {
    pub(crate) id: String,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) scopes: Vec<String>,
    #[serde(default)]
    pub(crate) sites: Vec<String>,
}

impl From<ChatUser> for kedge_webhooks::ChatUserSpec {
    fn from(raw: ChatUser) -> Self {
        let ChatUser { id, name, scopes, sites } = raw;
        Self { id, name, scopes, sites }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Endpoint {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) url: String,
    /// The file that holds the URL, where it is a secret: those of chat webhooks are.
    pub(crate) url_file: Option<String>,
    pub(crate) secret_file: Option<String>,
    #[serde(default)]
    pub(crate) secret_files: Vec<String>,
    pub(crate) secret_env: Option<String>,
    pub(crate) events: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) allow_private: Vec<String>,
    /// Mail: who gets it, and at which domains a `login` may name who gets its link.
    #[serde(default)]
    pub(crate) to: Vec<String>,
    #[serde(default)]
    pub(crate) login_domains: Vec<String>,
    /// Commit statuses: `github`, `gitlab`, `gitea`, `forgejo`, `bitbucket`.
    pub(crate) forge: Option<String>,
    pub(crate) context: Option<String>,
    /// `thin` or `full`.
    pub(crate) payload: Option<String>,
    #[serde(default)]
    pub(crate) form: kedge_webhooks::Form,
}

/// A policy that asks for a second person.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Approval {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) workflows: Vec<String>,
    #[serde(default)]
    pub(crate) sites: Vec<String>,
    #[serde(default)]
    pub(crate) when: Vec<String>,
    pub(crate) before: Option<String>,
    #[serde(default)]
    pub(crate) approvers: Vec<String>,
    pub(crate) within: Option<String>,
}

impl From<Approval> for kedge_webhooks::ApprovalSpec {
    fn from(raw: Approval) -> Self {
        let Approval { name, workflows, sites, when, before, approvers, within } = raw;
        Self { name, workflows, sites, when, before, approvers, within }
    }
}

/// How mail leaves the house.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Smtp {
    pub(crate) server: String,
    pub(crate) from: String,
    pub(crate) user: Option<String>,
    pub(crate) password_file: Option<String>,
    pub(crate) ca_file: Option<String>,
}
