//! E-mail: what is told about a task, and the welcome mail with a login link. The link is read when the mail is sent and stands nowhere but in
//! the mail: not in the queued callback, not in an error, not in a log.

use std::time::Duration;

use kedge_engine::outbox::Callback;
use kedge_engine::task::TaskView;
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, MessageBuilder};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::api::Links;
use crate::config::Mistake;
use crate::desk::Desk;
use crate::message;
use crate::secret::Secret;

/// Most recipients of an endpoint.
const MAX_RECIPIENTS: usize = 20;
/// Longest subject.
const MAX_SUBJECT: usize = 150;
/// What stands in a queued mail where the link will be: made of signs that no text of ours has.
const LINK: &str = "\u{e000}link\u{e000}";
/// The parameter of `login` that names who gets the link.
const MAIL_TO: &str = "mail_to";

/// How mail leaves the house, as configured.
#[derive(Clone, Debug, Default)]
pub struct SmtpSpec {
    /// `smtps://host:465` (TLS from the start) or `smtp://host:587` (STARTTLS, demanded); `smtp://` to this machine goes without TLS.
    pub server: String,
    /// The account, if one is needed.
    pub user: Option<String>,
    /// Its password, already loaded.
    pub password: Option<Secret>,
    /// The sender: `Kedge <kedge@example.org>`.
    pub from: String,
    /// Another authority than those of the system, as PEM.
    pub ca: Option<Vec<u8>>,
}

/// Checked.
#[derive(Clone)]
pub struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl std::fmt::Debug for Smtp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Smtp")
    }
}

impl Smtp {
    /// Checks it. Nothing is connected to.
    ///
    /// # Errors
    /// Every mistake.
    pub fn new(spec: SmtpSpec, patience: Duration) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let from: Result<Mailbox, _> = spec.from.parse();
        if from.is_err() {
            mistakes.push(Mistake::new("from", "is an address, such as Kedge <kedge@example.org>"));
        }
        let url = Url::parse(&spec.server).ok().filter(|url| matches!(url.scheme(), "smtp" | "smtps"));
        let host =
            url.as_ref().and_then(|url| url.host_str()).map(|host| host.trim_matches(['[', ']']).to_owned());
        let (Some(url), Some(host)) = (url, host) else {
            mistakes.push(Mistake::new(
                "server",
                "is such as smtps://mail.example.org or smtp://mail.example.org:587",
            ));
            return Err(mistakes);
        };
        if !url.username().is_empty() || url.password().is_some() {
            mistakes
                .push(Mistake::new("server", "holds no user and no password: write user and password_file"));
        }
        // The scheme is none of those that are parsed specially: a literal address is a domain to it.
        let here = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        let tls = tls(&url, &host, here, spec.ca.as_deref())
            .map_err(|why| mistakes.push(Mistake::new("ca_file", why)));
        let credentials = match (spec.user, spec.password) {
            (None, None) => None,
            (Some(user), Some(password)) => Some(Credentials::new(user, password.expose().to_owned())),
            _ => {
                mistakes.push(Mistake::new("user", "and password_file belong together"));
                None
            }
        };
        let (Ok(from), Ok(tls), true) = (from, tls, mistakes.is_empty()) else { return Err(mistakes) };
        let usual = if url.scheme() == "smtps" { 465 } else { 587 };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&host)
            .port(url.port().unwrap_or(usual))
            .tls(tls)
            .timeout(Some(patience));
        if let Some(credentials) = credentials {
            builder = builder.credentials(credentials);
        }
        Ok(Self { transport: builder.build(), from })
    }

    /// Connects and logs in, as for a mail, and sends none.
    ///
    /// # Errors
    /// In words.
    pub(crate) async fn reach(&self) -> Result<(), String> {
        match self.transport.test_connection().await {
            Ok(true) => Ok(()),
            Ok(false) => Err("the mail server does not answer as one".to_owned()),
            Err(error) => Err(words(&error)),
        }
    }

    /// Hands one mail over.
    ///
    /// # Errors
    /// In words, and whether trying again makes no sense. The server's words may repeat an address, never the mail's text.
    pub(crate) async fn send(&self, callback: &Callback, desk: Option<&dyn Desk>) -> Result<String, Failed> {
        let queued: Queued = serde_json::from_str(&callback.body)
            .map_err(|_| Failed::for_good("the queued mail is damaged"))?;
        let mut text = queued.text;
        if text.contains(LINK) {
            let desk = desk.ok_or_else(|| Failed::for_good("there are no login links here"))?;
            let link = desk
                .login_link(&callback.task)
                .await
                .map_err(|_| Failed::later("the login link cannot be read"))?;
            let link =
                link.ok_or_else(|| Failed::for_good("the login link is not good any more: make a new one"))?;
            text = text.replace(LINK, &link);
        }
        let domain = self.from.email.domain();
        let mut mail: MessageBuilder = Message::builder()
            .from(self.from.clone())
            .subject(queued.subject)
            // The same at every attempt: who gets it twice sees one.
            .message_id(Some(format!("<{}@{domain}>", callback.id)))
            .header(ContentType::TEXT_PLAIN);
        for to in &queued.to {
            let to: Mailbox = to.parse().map_err(|_| Failed::for_good("a recipient is no address"))?;
            mail = mail.to(to);
        }
        let mail = mail.body(text).map_err(|_| Failed::for_good("the mail cannot be put together"))?;
        match self.transport.send(mail).await {
            Ok(answer) => Ok(answer.code().to_string()),
            Err(error) => Err(Failed { why: words(&error), for_good: error.is_permanent() }),
        }
    }
}

fn tls(url: &Url, host: &str, here: bool, ca: Option<&[u8]>) -> Result<Tls, String> {
    if here && url.scheme() == "smtp" {
        return Ok(Tls::None);
    }
    let mut parameters = TlsParameters::builder(host.to_owned());
    if let Some(ca) = ca {
        let ca = lettre::transport::smtp::client::Certificate::from_pem(ca);
        parameters = parameters.add_root_certificate(ca.map_err(|_| "holds no certificate as PEM")?);
    }
    let parameters = parameters.build_rustls().map_err(|error| error.to_string())?;
    Ok(if url.scheme() == "smtps" { Tls::Wrapper(parameters) } else { Tls::Required(parameters) })
}

fn words(error: &lettre::transport::smtp::Error) -> String {
    let kind = match error.status() {
        Some(code) => format!("the mail server answered {code}"),
        None if error.is_timeout() => "the mail server did not answer in time".to_owned(),
        None if error.is_tls() => "no TLS with the mail server".to_owned(),
        None => "the mail server cannot be reached".to_owned(),
    };
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    kind + &cause.unwrap_or_default()
}

/// Why a mail was not handed over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    pub(crate) why: String,
    pub(crate) for_good: bool,
}

impl Failed {
    fn for_good(why: &str) -> Self {
        Self { why: why.to_owned(), for_good: true }
    }

    fn later(why: &str) -> Self {
        Self { why: why.to_owned(), for_good: false }
    }
}

/// A mail as it is queued.
#[derive(Serialize, Deserialize)]
struct Queued {
    to: Vec<String>,
    subject: String,
    text: String,
}

/// An endpoint that gets mail, as configured.
#[derive(Clone, Debug)]
pub struct MailSpec {
    /// How it leaves the house.
    pub smtp: Smtp,
    /// Who gets what is told about tasks.
    pub to: Vec<String>,
    /// The domains at which the tasks of `login` may name somebody who gets their link; `*`: all.
    pub login_domains: Vec<String>,
}

/// An endpoint that gets mail.
#[derive(Clone, Debug)]
pub(crate) struct Mail {
    pub(crate) smtp: Smtp,
    to: Vec<String>,
    /// Whether it sends login links to whom their tasks name, at these domains; `*` is every one.
    domains: Vec<String>,
}

impl Mail {
    pub(crate) fn new(spec: MailSpec, mistakes: &mut Vec<Mistake>) -> Self {
        let MailSpec { smtp, to, login_domains: domains } = spec;
        if to.len() > MAX_RECIPIENTS || (to.is_empty() && domains.is_empty()) {
            mistakes.push(Mistake::new("to", format!("has 1 to {MAX_RECIPIENTS} addresses")));
        }
        for (index, text) in to.iter().enumerate() {
            if text.parse::<Mailbox>().is_err() {
                mistakes.push(Mistake::new(format!("to[{index}]"), "is no address, such as ops@example.org"));
            }
        }
        let domains = domains.into_iter().map(|domain| domain.to_ascii_lowercase()).collect();
        Self { smtp, to, domains }
    }

    /// What is queued about a change of state.
    pub(crate) fn body(&self, task: &TaskView, links: &Links) -> Option<String> {
        if self.to.is_empty() {
            return None;
        }
        let site = task.site.as_deref().map(|site| format!(" {site}")).unwrap_or_default();
        let subject = format!("{}{site}: {}", task.workflow, message::words(task));
        queued(self.to.clone(), &subject, message::plain(task, links))
    }

    /// What is queued about no task.
    pub(crate) fn notice(&self, subject: &str, text: &str) -> Option<String> {
        queued(self.to.clone(), subject, format!("{text}\n")).filter(|_| !self.to.is_empty())
    }

    /// The welcome mail of a finished `login`, with a place for the link.
    pub(crate) fn welcome(&self, task: &TaskView) -> Option<String> {
        let to = task.params.get(MAIL_TO).and_then(serde_json::Value::as_str)?;
        let address: Mailbox = to.parse().ok()?;
        let domain = address.email.domain().to_ascii_lowercase();
        if !self.domains.iter().any(|allowed| *allowed == "*" || *allowed == domain) {
            return None;
        }
        let site = task.site.as_deref().unwrap_or("your site");
        let text = format!(
            "This link logs you in to {site}, once:\n\n{LINK}\n\nIt is good for a short time, and for whoever has it: keep it to yourself.\n"
        );
        queued(vec![to.to_owned()], &format!("Your login at {site}"), text)
    }
}

fn queued(to: Vec<String>, subject: &str, text: String) -> Option<String> {
    let subject = subject.chars().filter(|c| !c.is_control()).take(MAX_SUBJECT).collect();
    serde_json::to_string(&Queued { to, subject, text }).ok()
}
