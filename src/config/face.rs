//! Checks the parts of a configuration that the HTTP face is made of: tokens, hooks, chats, endpoints, approvals. Pure, like `check.rs`.

use std::path::Path;
use std::time::Duration;

use kedge_webhooks::{
    ApprovalPolicy, CertificateSpec, Chat, ChatSpec, ClientCertificate, Endpoint, EndpointSpec, Endpoints,
    Hook, HookSpec, MailSpec, Secret, Smtp, SmtpSpec, Tls, TlsSpec, Token, TokenSpec, check_face,
};
use toml::Spanned;

use super::check::Check;
use super::{Config, raw};
use crate::serve::access;

/// How long handing over one mail may take.
const SMTP_PATIENCE: Duration = Duration::from_secs(20);

impl Check<'_> {
    pub(super) fn tokens(&mut self, parts: Vec<Spanned<toml::Value>>) -> Vec<Token> {
        let mut tokens: Vec<Token> = Vec::new();
        for (line, raw) in self.list::<raw::Token>("tokens", parts) {
            let part = self.at(line, format!("tokens.{}", raw.name));
            let files: Vec<String> = raw.secret_file.into_iter().collect();
            let envs: Vec<String> = raw.secret_env.into_iter().collect();
            let Some(secrets) = self.load(line, &part, &files, &envs) else { continue };
            let expires_at = raw.expires_at.map(|at| at.to_string().parse::<jiff::Timestamp>());
            if let Some(Err(_)) = expires_at {
                self.problem(
                    line,
                    &part,
                    "expires_at is a time with its offset, such as 2030-01-01T00:00:00Z",
                );
            }
            let expires_at = expires_at.and_then(Result::ok).map(|at| at.as_millisecond().unsigned_abs());
            let spec = TokenSpec {
                name: raw.name,
                secret: secrets.into_iter().next(),
                scopes: raw.scopes,
                sites: raw.sites,
                networks: raw.networks,
                expires_at,
            };
            if let Some(token) = self.built(line, &part, Token::new(spec)) {
                tokens.push(token);
            }
        }
        tokens
    }

    /// TLS of the listener; its files are read here, also at a reload.
    pub(super) fn tls(&mut self, line: usize, raw: raw::HttpTls) -> Option<Tls> {
        let key = self.load(line, "http.tls", std::slice::from_ref(&raw.key_file), &[]);
        let mut public = |file: &String| match (self.public)(Path::new(file)) {
            Ok(text) => Some(text.into_bytes()),
            Err(why) => {
                self.problem(line, "http.tls", why);
                None
            }
        };
        let certificate = public(&raw.certificate_file);
        let client_ca = raw.client_ca_file.as_ref().map(&mut public);
        let required = match raw.client_auth.as_deref() {
            None | Some("optional") => false,
            Some("required") => true,
            Some(other) => {
                let detail = format!("client_auth = {other:?} is not known; there are optional and required");
                self.problem(line, "http.tls", detail);
                false
            }
        };
        let spec = TlsSpec {
            certificate: certificate?,
            key: Some(key?.into_iter().next()?),
            client_ca: match client_ca {
                None => None,
                Some(read) => Some(read?),
            },
            required,
        };
        self.built(line, "http.tls", Tls::new(&spec))
    }

    pub(super) fn certificates(&mut self, parts: Vec<Spanned<toml::Value>>) -> Vec<ClientCertificate> {
        let mut certificates = Vec::new();
        for (line, raw) in self.list::<raw::Certificate>("certificates", parts) {
            let part = self.at(line, format!("certificates.{}", raw.name));
            let raw::Certificate { name, fingerprint, subject, dns_name, scopes, sites, networks } = raw;
            let grant = TokenSpec { name, scopes, sites, networks, ..TokenSpec::default() };
            let spec = CertificateSpec { grant, fingerprint, subject, dns_name };
            certificates.extend(self.built(line, &part, ClientCertificate::new(spec)));
        }
        certificates
    }

    /// What the parts say of each other.
    pub(super) fn face(&mut self, config: &Config) {
        let workflows = kedge_workflows::workflows();
        let known: Vec<&str> = workflows.iter().map(|workflow| workflow.name()).collect();
        let checked = Endpoints::new(config.endpoints.clone());
        let mut mistakes = checked.as_ref().err().cloned().unwrap_or_default();
        let endpoints = checked.unwrap_or_default();
        mistakes.extend(check_face(&access(config), &endpoints, &known).err().unwrap_or_default());
        // Who names an endpoint that has mistakes of its own has none.
        let named = self.lines.keys().filter(|part| part.starts_with("endpoints.")).count();
        let whole = config.endpoints.len() >= named;
        for mistake in mistakes.iter().filter(|mistake| whole || !mistake.field.contains(".status")) {
            // The part is what its field begins with.
            let mut part = mistake.field.as_str();
            while !self.lines.contains_key(part) {
                part = part.rsplit_once('.').map_or("", |(above, _)| above);
                if part.is_empty() {
                    break;
                }
            }
            let line = self.lines.get(part).copied().unwrap_or_default();
            let detail = match mistake.field[part.len()..].trim_start_matches('.') {
                "" => mistake.detail.clone(),
                field => format!("{field}: {}", mistake.detail),
            };
            self.problem(line, part, detail);
        }
    }

    /// Keeps where a part is.
    fn at(&mut self, line: usize, part: String) -> String {
        self.lines.insert(part.clone(), line);
        part
    }

    pub(super) fn networks(&mut self, line: usize, field: &str, texts: &[String]) -> Vec<ipnet::IpNet> {
        let mut networks = Vec::new();
        for text in texts {
            match text.parse() {
                Ok(net) => networks.push(net),
                Err(_) => {
                    let detail = format!("{field}: {text:?} is no network, such as 10.0.0.0/8");
                    self.problem(line, "http", detail);
                }
            }
        }
        networks
    }

    pub(super) fn hooks(&mut self, parts: Vec<Spanned<toml::Value>>) -> Vec<Hook> {
        let mut hooks = Vec::new();
        for (line, raw) in self.list::<raw::Hook>("hooks", parts) {
            let part = self.at(line, format!("hooks.{}", raw.name));
            let Some(secrets) = self.load(line, &part, &raw.secret_files, &raw.secret_envs) else { continue };
            let spec = HookSpec {
                name: raw.name,
                provider: raw.provider,
                signature: raw.signature.map(Into::into),
                secrets,
                workflow: raw.workflow,
                workflows: raw.workflows,
                when: raw.when,
                params: raw.params,
                sites: raw.sites,
                correlation_id: raw.correlation_id,
                callback: raw.callback,
                status: raw.status.map(Into::into),
            };
            if let Some(hook) = self.built(line, &part, Hook::new(spec)) {
                hooks.push(hook);
            }
        }
        hooks
    }

    pub(super) fn chats(&mut self, parts: Vec<Spanned<toml::Value>>) -> Vec<Chat> {
        let mut chats = Vec::new();
        for (line, raw) in self.list::<raw::Chat>("chat", parts) {
            let part = self.at(line, format!("chat.{}", raw.name.as_ref().unwrap_or(&raw.platform)));
            let Some(secrets) = self.load(line, &part, &raw.secret_files, &raw.secret_envs) else { continue };
            let webhook: Vec<String> = raw.webhook_file.into_iter().collect();
            let Some(webhook) = self.load(line, &part, &webhook, &[]) else { continue };
            let spec = ChatSpec {
                platform: raw.platform,
                name: raw.name,
                secrets,
                base_url: raw.base_url,
                webhook: webhook.into_iter().next(),
                at_once: raw.at_once,
                users: raw.users.into_iter().map(Into::into).collect(),
            };
            if let Some(chat) = self.built(line, &part, Chat::new(spec)) {
                chats.push(chat);
            }
        }
        chats
    }

    pub(super) fn smtp(&mut self, part: Spanned<toml::Value>) -> Option<Smtp> {
        let line = self.line(&part);
        let raw = self.part::<raw::Smtp>("smtp", part)?;
        let files: Vec<String> = raw.password_file.into_iter().collect();
        let password = self.load(line, "smtp", &files, &[])?.into_iter().next();
        let ca = match raw.ca_file.map(|file| (self.public)(Path::new(&file))) {
            None => None,
            Some(Ok(text)) => Some(text.into_bytes()),
            Some(Err(why)) => {
                self.problem(line, "smtp", why);
                return None;
            }
        };
        let spec = SmtpSpec { server: raw.server, user: raw.user, password, from: raw.from, ca };
        self.built(line, "smtp", Smtp::new(spec, SMTP_PATIENCE))
    }

    pub(super) fn endpoints(
        &mut self,
        parts: Vec<Spanned<toml::Value>>,
        mails: bool,
        smtp: Option<Smtp>,
    ) -> Vec<Endpoint> {
        let mut endpoints = Vec::new();
        for (line, raw) in self.list::<raw::Endpoint>("endpoints", parts) {
            let part = self.at(line, format!("endpoints.{}", raw.name));
            let files: Vec<String> = raw.secret_file.into_iter().chain(raw.secret_files).collect();
            let envs: Vec<String> = raw.secret_env.into_iter().collect();
            let Some(secrets) = self.load(line, &part, &files, &envs) else { continue };
            let url = match &raw.url_file {
                None => raw.url,
                Some(file) => match self.load(line, &part, std::slice::from_ref(file), &[]) {
                    Some(_) => self.secrets.last().cloned().unwrap_or_default(),
                    None => continue,
                },
            };
            let full = match raw.payload.as_deref() {
                None | Some("thin") => false,
                Some("full") => true,
                Some(other) => {
                    self.problem(
                        line,
                        &part,
                        format!("payload = {other:?} is not known; there are thin and full"),
                    );
                    continue;
                }
            };
            let is_mail = !raw.to.is_empty() || !raw.login_domains.is_empty();
            if is_mail && smtp.is_none() {
                // What is wrong with it is told where it stands.
                if !mails {
                    let none = "gets mail, but there is no [smtp] that says how it leaves the house";
                    self.problem(line, &part, none);
                }
                continue;
            }
            let (to, login_domains) = (raw.to, raw.login_domains);
            let mail = smtp.clone().filter(|_| is_mail).map(|smtp| MailSpec { smtp, to, login_domains });
            let spec = EndpointSpec {
                name: raw.name,
                url,
                full,
                form: raw.form,
                secrets,
                events: raw.events,
                allow_private: raw.allow_private,
                mail,
                forge: raw.forge,
                context: raw.context,
            };
            if let Some(endpoint) = self.built(line, &part, Endpoint::new(spec)) {
                endpoints.push(endpoint);
            }
        }
        endpoints
    }

    pub(super) fn approvals(&mut self, parts: Vec<Spanned<toml::Value>>) -> Vec<ApprovalPolicy> {
        let workflows = kedge_workflows::workflows();
        let known: Vec<&str> = workflows.iter().map(|workflow| workflow.name()).collect();
        let mut policies: Vec<ApprovalPolicy> = Vec::new();
        for (line, raw) in self.list::<raw::Approval>("approvals", parts) {
            let part = format!("approvals.{}", raw.name);
            if policies.iter().any(|policy| policy.name() == raw.name) {
                self.problem(line, &part, "two policies have this name");
            }
            if let Some(policy) = self.built(line, &part, ApprovalPolicy::new(raw.into())) {
                for pattern in policy.meaningless(&known) {
                    let detail =
                        format!("workflows: {pattern:?} stands for none; there are {}", known.join(", "));
                    self.problem(line, &part, detail);
                }
                policies.push(policy);
            }
        }
        policies
    }

    /// Loads secrets; `None` when one of them is wrong, which is reported.
    fn load(&mut self, line: usize, part: &str, files: &[String], envs: &[String]) -> Option<Vec<Secret>> {
        let mut loaded = Vec::new();
        let mut whole = true;
        for file in files {
            match (self.read)(Path::new(file)) {
                Ok(secret) => loaded.push(secret),
                Err(why) => {
                    self.problem(line, part, why);
                    whole = false;
                }
            }
        }
        for name in envs {
            match (self.env)(name) {
                Some(secret) if !secret.trim().is_empty() => loaded.push(secret.trim().to_owned()),
                _ => {
                    self.problem(line, part, format!("the environment variable {name} is not set"));
                    whole = false;
                }
            }
        }
        self.secrets.extend(loaded.iter().cloned());
        whole.then(|| loaded.iter().map(Secret::new).collect())
    }
}
