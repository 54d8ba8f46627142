//! nginx's words for a vhost. Pure text: never touches a host, never decides what visitors may reach.

use kedge_workflows::ports::{Vhost, VhostMode};

use crate::web::config::{PhpFpm, WebServerConfig};
use crate::web::rules::{SiteRules, escape};
use crate::web::text::{DISABLED_PAGE, MAINTENANCE_PAGE, REDIRECT_BY, REDIRECT_CACHE, RETRY_AFTER, Text};
use crate::web::vhost::{ACME_PATH, Part, REVISION_PATH, SentTo, parts, served_target};

/// Largest request body: as much as a media library or an import asks for; PHP's own limit is usually lower.
const MAX_BODY: &str = "128m";
/// Seconds that PHP may think: administration pages that update something are slow.
const PHP_SECONDS: u32 = 300;

/// What PHP is told about a request: nginx's usual list written out, so that it does not depend on files of the host.
const PHP_PARAMS: [(&str, &str); 21] = [
    ("GATEWAY_INTERFACE", "CGI/1.1"),
    ("SERVER_SOFTWARE", "nginx/$nginx_version"),
    ("SERVER_PROTOCOL", "$server_protocol"),
    ("SERVER_NAME", "$server_name"),
    ("SERVER_ADDR", "$server_addr"),
    ("SERVER_PORT", "$server_port"),
    ("REMOTE_ADDR", "$remote_addr"),
    ("REMOTE_PORT", "$remote_port"),
    ("REQUEST_SCHEME", "$scheme"),
    ("REQUEST_METHOD", "$request_method"),
    ("REQUEST_URI", "$request_uri"),
    ("QUERY_STRING", "$query_string"),
    ("CONTENT_TYPE", "$content_type"),
    ("CONTENT_LENGTH", "$content_length"),
    ("DOCUMENT_URI", "$document_uri"),
    ("SCRIPT_NAME", "$fastcgi_script_name"),
    ("SCRIPT_FILENAME", "$document_root$fastcgi_script_name"),
    ("PATH_INFO", "$kedge_path_info"),
    ("REDIRECT_STATUS", "200"),
    // A header `Proxy:` must not become PHP's HTTP_PROXY (httpoxy).
    ("HTTP_PROXY", ""),
    ("HTTPS", "$https if_not_empty"),
];

/// The server blocks of a vhost that answers `revision`.
pub(super) fn server_blocks(config: &WebServerConfig, vhost: &Vhost, revision: &str) -> String {
    let mut text = Text::default();
    for part in parts(vhost) {
        server_block(&mut text, config, vhost, &part, revision);
    }
    text.finish()
}

fn server_block(text: &mut Text, config: &WebServerConfig, vhost: &Vhost, part: &Part<'_>, revision: &str) {
    text.block("server {", "}", |t| {
        if part.plain {
            config.listen().iter().for_each(|address| t.line(format!("listen {address};")));
        }
        if let Some(tls) = vhost.reach.tls.as_ref().filter(|_| part.tls) {
            config.listen_tls().iter().for_each(|address| t.line(format!("listen {address} ssl;")));
            t.line(format!("ssl_certificate \"{}\";", tls.certificate));
            t.line(format!("ssl_certificate_key \"{}\";", tls.key));
        }
        let names: Vec<&str> = part.names.iter().map(|name| name.as_str()).collect();
        t.line(format!("server_name {};", names.join(" ")));
        // Redirects of directories stay right behind a proxy and on any port.
        t.line("absolute_redirect off;");
        t.line("");
        always_open(t, config, revision);
        t.line("");
        if let Some(sent_to) = part.sent_to {
            let to = match sent_to {
                SentTo::Name(name) => format!("$scheme://{name}"),
                SentTo::Secure(name) => format!("https://{name}"),
                SentTo::Same => "https://$host".to_owned(),
            };
            return redirect(t, &to);
        }
        match &vhost.mode {
            VhostMode::Live => site(t, config, vhost),
            VhostMode::Maintenance { bypass: Some(token) } => {
                gate(t, token);
                site(t, config, vhost);
            }
            VhostMode::Maintenance { bypass: None } => {
                t.block("location / {", "}", |t| away(t, MAINTENANCE_PAGE, Some(RETRY_AFTER)));
            }
            VhostMode::Disabled => t.block("location / {", "}", |t| away(t, DISABLED_PAGE, None)),
            VhostMode::Redirect { to } => {
                t.block("location / {", "}", |t| {
                    t.line(format!("add_header Cache-Control \"{REDIRECT_CACHE}\" always;"));
                    t.line(format!("return 301 http://{to}$request_uri;"));
                });
            }
        }
    });
}

/// Sends visitors on to `to`, a scheme and a name.
fn redirect(t: &mut Text, to: &str) {
    t.block("location / {", "}", |t| {
        t.line(format!("add_header Cache-Control \"{REDIRECT_CACHE}\" always;"));
        t.line(format!("add_header {REDIRECT_BY} always;"));
        t.line(format!("return 301 {to}$request_uri;"));
    });
}

/// What answers in every mode.
fn always_open(t: &mut Text, config: &WebServerConfig, revision: &str) {
    t.block(format!("location = {REVISION_PATH} {{"), "}", |t| {
        t.line("access_log off;");
        t.line("default_type text/plain;");
        t.line("add_header Cache-Control \"no-store\" always;");
        t.line(format!("return 200 \"{revision}\";"));
    });
    t.block(format!("location ^~ {ACME_PATH} {{"), "}", |t| {
        t.line(format!("root \"{}\";", config.acme_root));
        t.line("default_type text/plain;");
        t.line("try_files $uri =404;");
    });
}

/// Lets nobody pass but who has the token. Server-level conditions with nothing but `set` and `return` in them.
fn gate(t: &mut Text, token: &str) {
    t.line("# In maintenance for everybody without the token");
    t.line("set $kedge_closed 1;");
    t.block(format!("if ($cookie_kedge_bypass = \"{token}\") {{"), "}", |t| {
        t.line("set $kedge_closed \"\";")
    });
    let open = format!("^(?:{}|{}$)", escape(ACME_PATH), escape(REVISION_PATH));
    t.block(format!("if ($uri ~ \"{open}\") {{"), "}", |t| t.line("set $kedge_closed \"\";"));
    t.block("if ($kedge_closed) {", "}", |t| t.line("return 503;"));
    t.line("error_page 503 @kedge_maintenance;");
    t.block("location @kedge_maintenance {", "}", |t| away(t, MAINTENANCE_PAGE, Some(RETRY_AFTER)));
    t.line("");
}

/// 503 with a page. `types {}`: the page is HTML, whatever the path's suffix.
fn away(t: &mut Text, page: &str, retry_after: Option<u32>) {
    t.line("types { }");
    t.line("default_type text/html;");
    if let Some(seconds) = retry_after {
        t.line(format!("add_header Retry-After \"{seconds}\" always;"));
    }
    t.line("add_header Cache-Control \"no-store\" always;");
    t.line(format!("return 503 \"{page}\";"));
}

/// The site itself.
fn site(t: &mut Text, config: &WebServerConfig, vhost: &Vhost) {
    let Some(rules) = served_target(vhost).map(SiteRules::of) else { return };
    t.line(format!("root \"{}\";", rules.root));
    t.line(format!("index {};", rules.index));
    t.line(format!("client_max_body_size {MAX_BODY};"));
    t.line("");
    php_params(t, &rules, vhost.reach.https_only());
    t.line("");
    if let Some((pattern, to)) = &rules.rewritten {
        t.line(format!("rewrite \"{pattern}\" \"{to}\" last;"));
        t.line("");
    }
    for denied in &rules.denied {
        t.line(format!("# Denied: {}", denied.what));
        t.block(format!("location ~* \"{}\" {{", denied.pattern), "}", |t| t.line("return 403;"));
    }
    t.line("");
    let fallback = rules.front.map_or("=404".to_owned(), |front| format!("{front}$is_args$args"));
    if let Some(mount) = &rules.mount {
        let root = format!("root \"{}\";", mount.parent);
        t.block(format!("location ~ \"^{}/.*\\.php(?:/|$)\" {{", mount.url), "}", |t| {
            t.line(&root);
            php(t, &config.php_fpm, &fallback);
        });
        t.block(format!("location {}/ {{", mount.url), "}", |t| {
            t.line(&root);
            t.line(format!("try_files $uri $uri/ {fallback};"));
        });
    }
    t.block("location ~ \"\\.php(?:/|$)\" {", "}", |t| php(t, &config.php_fpm, &fallback));
    t.block("location / {", "}", |t| t.line(format!("try_files $uri $uri/ {fallback};")));
}

fn php_params(t: &mut Text, rules: &SiteRules, https_only: bool) {
    t.line("set $kedge_path_info \"\";");
    for (name, value) in PHP_PARAMS {
        // Who sees through a closed vhost comes by plain HTTP, and is not to be sent away by the application.
        let value = if https_only && name == "HTTPS" { "on" } else { value };
        let value = if value.is_empty() { "\"\"" } else { value };
        t.line(format!("fastcgi_param {name} {value};"));
    }
    // Everywhere the same, also for scripts below a directory of their own: they look for the platform there.
    t.line(format!("fastcgi_param DOCUMENT_ROOT \"{}\";", rules.root));
    t.line(format!("fastcgi_param KEDGE_SITE \"{}\";", rules.site));
    t.line(format!("fastcgi_read_timeout {PHP_SECONDS}s;"));
    // Headers of applications with many cookies and links outgrow the default of one page.
    t.line("fastcgi_buffer_size 32k;");
    t.line("fastcgi_buffers 16 16k;");
}

/// Runs an existing script. `try_files` forgets the path info, so it is kept in a variable before.
fn php(t: &mut Text, fpm: &PhpFpm, fallback: &str) {
    t.line("fastcgi_split_path_info \"^(.+?\\.php)(/.*)$\";");
    t.line("set $kedge_path_info $fastcgi_path_info;");
    t.line(format!("try_files $fastcgi_script_name {fallback};"));
    t.line(match fpm {
        PhpFpm::Socket(path) => format!("fastcgi_pass unix:{path};"),
        PhpFpm::Address(address) => format!("fastcgi_pass {address};"),
    });
}
