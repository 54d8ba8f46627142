//! `kedge check`: looks, and says what is wrong and what to do. Changes nothing.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use kedge_drivers::host::{Command, Host};
use kedge_workflows::ports::{ConfigTest, PortResult, Scope, World as _};
use serde_json::json;

use crate::between::Nothing;
use crate::config::{self, Config, Platform, WebServer};
use crate::world::LiveWorld;

/// Tools that the drivers use on a host, and the Debian package each comes in.
const HOST_TOOLS: [(&str, &str); 6] = [
    ("rsync", "rsync"),
    ("tar", "tar"),
    ("find", "findutils"),
    ("sync", "coreutils"),
    ("setsid", "util-linux"),
    ("sh", "dash"),
];
/// More of them on hosts with a web server.
const WEB_TOOLS: [(&str, &str); 2] = [("curl", "curl"), ("php", "php-cli")];

/// What is asked of a host first.
const REACHED: &str = "reached, as root";

/// One thing looked at.
struct Finding {
    what: String,
    /// What is wrong; `None`: nothing.
    wrong: Option<String>,
}

/// `kedge check`: configuration, hosts, tools, privileges, servers, platforms, endpoints.
///
/// # Errors
/// When the configuration itself does not hold together.
pub(crate) async fn check(file: &Path, json: bool) -> Result<ExitCode> {
    let config = Arc::new(config::load(file)?);
    let world = LiveWorld::new(config.clone(), "check", &Nothing)?;
    let mut findings = vec![Finding { what: format!("configuration {}", file.display()), wrong: None }];
    let scope = Scope { task: "check".to_owned(), step: "check".to_owned() };
    // What lives on a host that cannot be reached is not looked at: the host's own line says what to do.
    let mut unreached = Vec::new();
    for (name, host) in world.hosts() {
        let found = check_host(&config, &*host, &scope).await;
        if found.iter().any(|finding| finding.wrong.is_some() && finding.what.ends_with(REACHED)) {
            unreached.push(name.clone());
        }
        findings.extend(found);
    }
    let reached = |host: &String| !unreached.contains(host);
    let all_reached = |server: &WebServer| server.hosts().all(reached);
    for name in config.web_servers.iter().filter(|(_, server)| all_reached(server)).map(|(name, _)| name) {
        let tested = async { world.web_server(name, &scope)?.test().await }.await;
        findings.push(finding(
            format!("web server {name}: its configuration"),
            tested.map(|test| match test {
                ConfigTest::Valid => None,
                ConfigTest::Invalid { culprit, message } => {
                    Some(format!("{}: {message}", culprit.unwrap_or_default()))
                }
            }),
        ));
    }
    let servers = config.database_servers.iter().filter(|(_, server)| reached(&server.host));
    for (name, _) in servers {
        let facts = async { world.database(name, &scope)?.facts().await }.await;
        let read_only = "it refuses writes (read_only)".to_owned();
        findings.push(finding(
            format!("database server {name}"),
            facts.map(|facts| facts.read_only.then_some(read_only)),
        ));
    }
    let on_reached =
        |platform: &Platform| config.web_servers.get(&platform.web_server).is_some_and(all_reached);
    for (name, platform) in config.platforms.iter().filter(|(_, platform)| on_reached(platform)) {
        let facts = async {
            world.app(&platform.web_server, name, platform.app, &scope)?.platform_facts(&platform.root).await
        };
        findings.push(finding(format!("platform {name}"), facts.await.map(|_| None)));
    }
    for endpoint in &config.endpoints {
        let reached = endpoint.reach().await;
        findings.push(Finding { what: format!("endpoint {}", endpoint.name()), wrong: reached.err() });
    }
    report(&findings, json)
}

fn finding(what: String, looked: PortResult<Option<String>>) -> Finding {
    match looked {
        Ok(wrong) => Finding { what, wrong },
        Err(error) => Finding { what, wrong: Some(error.to_string()) },
    }
}

async fn check_host(config: &Config, host: &dyn Host, scope: &Scope) -> Vec<Finding> {
    let name = host.name();
    let user = host.run(Command::new(scope, ["id", "-u"])).await.and_then(|done| done.success("id"));
    let root = user.map(|uid| {
        let root = uid.trim_ascii() == b"0";
        (!root).then(|| "commands do not run as root; log in as root or set sudo = true".to_owned())
    });
    let reached = root.is_ok();
    let mut findings = vec![finding(format!("host {name}: {REACHED}"), root)];
    if !reached {
        return findings;
    }
    let has_web = config.web_servers.values().any(|server| server.hosts().any(|host| host == name));
    let web_tools = if has_web { &WEB_TOOLS[..] } else { &[] };
    for (tool, package) in HOST_TOOLS.iter().chain(web_tools) {
        let looked = host.run(Command::new(scope, ["sh", "-c", "command -v \"$1\"", "sh", tool])).await;
        let missing = || format!("install it: apt-get install {package}");
        findings.push(finding(
            format!("host {name}: {tool}"),
            looked.map(|done| (done.status != 0).then(missing)),
        ));
    }
    findings
}

fn report(findings: &[Finding], json: bool) -> Result<ExitCode> {
    let wrong = findings.iter().filter(|finding| finding.wrong.is_some()).count();
    let mut out = std::io::stdout().lock();
    if json {
        let list: Vec<_> = findings
            .iter()
            .map(|f| json!({ "what": f.what, "ok": f.wrong.is_none(), "detail": f.wrong }))
            .collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&list)?)?;
    } else {
        for finding in findings {
            match &finding.wrong {
                None => writeln!(out, "  ✓ {}", finding.what)?,
                Some(wrong) => writeln!(out, "  ✗ {}: {wrong}", finding.what)?,
            }
        }
        writeln!(out, "{} looked at, {wrong} wrong", findings.len())?;
    }
    Ok(ExitCode::from(u8::from(wrong > 0)))
}
