//! Apache's words for a vhost. Pure text: never touches a host, never decides what visitors may reach.

use kedge_workflows::ports::{Tls, Vhost, VhostMode};

use crate::web::config::{PhpFpm, WebServerConfig};
use crate::web::rules::{SiteRules, escape};
use crate::web::text::{DISABLED_PAGE, MAINTENANCE_PAGE, REDIRECT_BY, REDIRECT_CACHE, RETRY_AFTER, Text};
use crate::web::vhost::{ACME_PATH, Part, REVISION_PATH, SentTo, parts, served_target};

/// Largest request body in bytes: as much as a media library or an import asks for; PHP's own limit is usually lower.
const MAX_BODY: u32 = 128 * 1024 * 1024;

/// The `<VirtualHost>`s of a vhost that answers `revision`: TLS is a matter of the whole of one.
pub(super) fn virtual_hosts(config: &WebServerConfig, vhost: &Vhost, revision: &str) -> String {
    let mut text = Text::default();
    for part in parts(vhost) {
        if part.plain {
            virtual_host(&mut text, config, vhost, (&part, None), revision);
        }
        if part.tls {
            virtual_host(&mut text, config, vhost, (&part, vhost.reach.tls.as_ref()), revision);
        }
    }
    text.finish()
}

fn virtual_host(
    text: &mut Text,
    config: &WebServerConfig,
    vhost: &Vhost,
    (part, tls): (&Part<'_>, Option<&Tls>),
    revision: &str,
) {
    let (port, listen) = match tls {
        Some(_) => (config.tls_port, config.listen_tls()),
        None => (config.listen_port, config.listen()),
    };
    let addresses = match config.listen_addresses.is_empty() {
        true => format!("*:{port}"),
        false => listen.join(" "),
    };
    text.block(format!("<VirtualHost {addresses}>"), "</VirtualHost>", |t| {
        let mut names = part.names.iter();
        names.next().into_iter().for_each(|name| t.line(format!("ServerName {name}")));
        names.for_each(|alias| t.line(format!("ServerAlias {alias}")));
        if let Some(tls) = tls {
            t.line("SSLEngine on");
            t.line(format!("SSLCertificateFile \"{}\"", tls.certificate));
            t.line(format!("SSLCertificateKeyFile \"{}\"", tls.key));
        }
        // A header `Proxy:` must not become PHP's HTTP_PROXY (httpoxy).
        t.line("RequestHeader unset Proxy early");
        t.line("RewriteEngine On");
        t.line("");
        always_open(t, config, revision);
        t.line("");
        if let Some(sent_to) = part.sent_to {
            let scheme = if tls.is_some() { "https" } else { "http" };
            let to = match sent_to {
                SentTo::Name(name) => format!("{scheme}://{name}"),
                SentTo::Secure(name) => format!("https://{name}"),
                SentTo::Same => "https://%{SERVER_NAME}".to_owned(),
            };
            redirect(t, &to);
            let (name, value) = REDIRECT_BY.split_once(' ').unwrap_or((REDIRECT_BY, ""));
            t.line(format!(r#"Header always set {name} "{value}" "expr=%{{REQUEST_STATUS}} == 301""#));
            return;
        }
        match &vhost.mode {
            VhostMode::Live => site(t, config, vhost),
            VhostMode::Maintenance { bypass } => {
                maintenance(t, bypass.as_deref());
                site(t, config, vhost);
            }
            VhostMode::Disabled => away(t, DISABLED_PAGE, None),
            VhostMode::Redirect { to } => redirect(t, &format!("http://{to}")),
        }
    });
}

/// Sends visitors on to `to`, a scheme and a name. The request line keeps the path as the client wrote it; the query follows by itself.
fn redirect(t: &mut Text, to: &str) {
    t.line(r#"RewriteCond %{THE_REQUEST} "^\S+\s+(?:[a-zA-Z]+://[^/?\s]*)?(/[^?\s]*)""#);
    t.line(format!(r#"RewriteRule "^" "{to}%1" [R=301,NE,L]"#));
    t.line(format!(
        r#"Header always set Cache-Control "{REDIRECT_CACHE}" "expr=%{{REQUEST_STATUS}} == 301""#
    ));
}

/// What answers in every mode: rules that end the rewriting before a mode's own.
fn always_open(t: &mut Text, config: &WebServerConfig, revision: &str) {
    let dir = format!("{}{}", config.acme_root, ACME_PATH.trim_end_matches('/'));
    t.line("# The revision: Apache answers a text of its configuration by the error document of status 200.");
    t.line(format!(r#"RewriteRule "^{}$" "-" [R=200,L]"#, escape(REVISION_PATH)));
    t.block(format!(r#"<Location "{REVISION_PATH}">"#), "</Location>", |t| {
        t.line(format!(r#"ErrorDocument 200 "{revision}""#));
        t.line(r#"Header always set Cache-Control "no-store""#);
    });
    t.line(format!(r#"RewriteRule "^{}" "-" [L]"#, escape(ACME_PATH)));
    t.line(format!(r#"Alias "{}" "{dir}""#, ACME_PATH.trim_end_matches('/')));
    t.block(format!(r#"<Directory "{dir}">"#), "</Directory>", |t| {
        t.line("Options None");
        t.line("AllowOverride None");
        t.line("Require all granted");
        t.line("RewriteEngine Off");
        t.line("SetHandler None");
    });
}

fn maintenance(t: &mut Text, bypass: Option<&str>) {
    if let Some(token) = bypass {
        t.line(format!(r#"RewriteCond %{{HTTP:Cookie}} "!(?:^|;\s*)kedge_bypass={token}(?:;|$)""#));
    }
    away(t, MAINTENANCE_PAGE, Some(RETRY_AFTER));
    t.line("");
}

/// 503 with a page, whatever the path.
fn away(t: &mut Text, page: &str, retry_after: Option<u32>) {
    t.line(r#"RewriteRule "^" "-" [R=503,L]"#);
    t.line(format!(r#"ErrorDocument 503 "{page}""#));
    if let Some(seconds) = retry_after {
        t.line(format!(r#"Header always set Retry-After "{seconds}" "expr=%{{REQUEST_STATUS}} == 503""#));
    }
    t.line(r#"Header always set Cache-Control "no-store" "expr=%{REQUEST_STATUS} == 503""#);
}

/// The site itself.
fn site(t: &mut Text, config: &WebServerConfig, vhost: &Vhost) {
    let Some(rules) = served_target(vhost).map(SiteRules::of) else { return };
    t.line(format!(r#"DocumentRoot "{}""#, rules.root));
    t.line(format!("DirectoryIndex {}", rules.index));
    t.line(format!("LimitRequestBody {MAX_BODY}"));
    t.line(format!(r#"SetEnv KEDGE_SITE "{}""#, rules.site));
    if vhost.reach.https_only() {
        // Who sees through a closed vhost comes by plain HTTP, and is not to be sent away by the application.
        t.line("SetEnv HTTPS on");
    }
    t.line("");
    if let Some((pattern, to)) = &rules.rewritten {
        t.line(format!(r#"RewriteRule "{pattern}" "{to}" [PT,L]"#));
        t.line("");
    }
    directory(t, config, &rules.root, "/", rules.front, "None");
    if let Some(mount) = &rules.mount {
        t.line(format!(r#"Alias "{}" "{}""#, mount.url, mount.dir()));
        // Plugins guard their directories with .htaccess files: denials in them count, everything else in them does not.
        directory(
            t,
            config,
            &mount.dir(),
            &format!("{}/", mount.url),
            rules.front,
            "AuthConfig Limit Nonfatal=All",
        );
    }
    t.line("");
    for denied in &rules.denied {
        t.line(format!("# Denied: {}", denied.what));
        t.block(format!(r#"<LocationMatch "(?i){}">"#, denied.pattern), "</LocationMatch>", |t| {
            t.line("Require all denied")
        });
    }
}

/// A directory that is served: its files, its scripts through php-fpm, everything else to the front script.
fn directory(
    t: &mut Text,
    config: &WebServerConfig,
    dir: &str,
    url: &str,
    front: Option<&str>,
    overrides: &str,
) {
    t.block(format!(r#"<Directory "{dir}">"#), "</Directory>", |t| {
        t.line("Options FollowSymLinks");
        t.line(format!("AllowOverride {overrides}"));
        t.line("Require all granted");
        // Application passwords and keys of APIs: WordPress's own .htaccess, which passes them on, does not count here.
        t.line("CGIPassAuth On");
        t.block(r#"<FilesMatch "\.php$">"#, "</FilesMatch>", |t| {
            t.line(match &config.php_fpm {
                PhpFpm::Socket(path) => format!(r#"SetHandler "proxy:unix:{path}|fcgi://localhost""#),
                PhpFpm::Address(address) => format!(r#"SetHandler "proxy:fcgi://{address}""#),
            });
        });
        if let Some(front) = front {
            t.line("RewriteEngine On");
            t.line(format!(r#"RewriteBase "{url}""#));
            t.line(r#"RewriteCond %{REQUEST_FILENAME} !-f"#);
            t.line(r#"RewriteCond %{REQUEST_FILENAME} !-d"#);
            t.line(format!(r#"RewriteRule "^" "{front}" [L]"#));
        }
    });
}
