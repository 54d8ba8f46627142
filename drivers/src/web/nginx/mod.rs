//! nginx: its commands and what it says. Rendering and reading of its language are in the modules below. Pure.

mod config;
mod render;

use kedge_workflows::ports::Vhost;

use super::config::WebServerConfig;
use super::dialect::{Dialect, Survey, Suspect, Verdict, bounded, file_of_place};
use super::served::Served;

/// The dialect of nginx.
pub(super) struct Nginx;

impl Dialect for Nginx {
    fn render(&self, config: &WebServerConfig, vhost: &Vhost, revision: &str) -> String {
        render::server_blocks(config, vhost, revision)
    }

    fn programs(&self) -> &'static [&'static str] {
        &["nginx"]
    }

    fn units(&self) -> &'static [&'static str] {
        &["nginx.service"]
    }

    fn counts_htaccess(&self) -> bool {
        false
    }

    fn tests_keys(&self) -> bool {
        true
    }

    fn test(&self) -> &'static [&'static str] {
        &["-t"]
    }

    fn dump(&self) -> &'static [&'static str] {
        &["-T"]
    }

    fn reload(&self) -> &'static [&'static str] {
        &["-s", "reload"]
    }

    fn pid_file(&self, _dump: &str) -> Option<String> {
        None // `-s reload` only sends a signal
    }

    fn processes(&self) -> &'static [&'static str] {
        &["nginx"]
    }

    fn modules(&self) -> Option<(&'static [&'static str], &'static [&'static str])> {
        None // all that the vhosts use is in every build
    }

    /// Lines as `2026/11/22 19:23:32 [emerg] 169#169: unknown directive "lisen" in /etc/nginx/sites-enabled/x.conf:1` or, without a
    /// log, `nginx: [emerg] ...`.
    fn verdict(&self, vhost_dir: &str, output: &str) -> Verdict {
        let faults = ["[emerg]", "[alert]", "[crit]"];
        let said = output.lines().find_map(|line| faults.iter().find_map(|fault| line.split_once(fault)));
        let Some((_, said)) = said else {
            return Verdict { suspect: Suspect::Unknown, message: bounded(output.trim()) };
        };
        let said = said.trim_start();
        let message = match said.split_once(": ") {
            Some((process, rest)) if process.bytes().all(|b| b.is_ascii_digit() || b == b'#') => rest,
            _ => said,
        };
        Verdict { suspect: suspect(vhost_dir, message), message: bounded(message) }
    }

    fn survey(&self, dump: &str) -> Survey {
        let files = config::dumped_files(dump);
        let served = files.iter().flat_map(|(file, text)| config::served(file, text)).collect();
        let addresses = files.iter().flat_map(|(_, text)| config::addresses(text)).collect();
        Survey {
            served,
            files: files.into_iter().map(|(file, _)| file).collect(),
            unread: Vec::new(),
            addresses,
        }
    }

    fn served(&self, file: &str, text: &str) -> Vec<Served> {
        config::served(file, text)
    }
}

fn suspect(vhost_dir: &str, message: &str) -> Suspect {
    let quoted = message.split('"').skip(1).step_by(2).find(|text| text.starts_with('/'));
    // A vhost that cannot be opened: the place is the include of it, which is not at fault.
    if let Some(path) = quoted
        && path.strip_prefix(vhost_dir).is_some_and(|rest| rest.starts_with('/'))
        && ["open()", "pread()", "read()"].iter().any(|call| message.starts_with(call))
    {
        return Suspect::File(path.to_owned());
    }
    match (message.rsplit_once(" in /"), quoted) {
        (Some((before, _)), _) if let Some(file) = file_of_place(&message[before.len() + " in ".len()..]) => {
            Suspect::File(file.to_owned())
        }
        (_, Some(path)) => Suspect::Mentions(path.to_owned()),
        _ => Suspect::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Outputs of nginx 1.22.1 for one broken file each.
    #[test]
    fn the_culprit_is_named_where_nginx_tells() {
        let file = |path: &str| Suspect::File(path.to_owned());
        let broken = "/etc/nginx/sites-enabled/broken.conf";
        for (said, expected) in [
            (
                r#"[emerg] 169#169: unknown directive "lisen" in /etc/nginx/sites-enabled/broken.conf:1"#,
                file(broken),
            ),
            (
                r#"[emerg] 174#174: open() "/etc/nginx/missing.conf" failed (2: No such file or directory) in /etc/nginx/sites-enabled/broken.conf:2"#,
                file(broken),
            ),
            (
                "[emerg] 179#179: a duplicate default server for 0.0.0.0:80 in /etc/nginx/sites-enabled/default:22",
                file("/etc/nginx/sites-enabled/default"),
            ),
            (
                r#"[emerg] 189#189: unexpected end of file, expecting "}" in /etc/nginx/sites-enabled/broken.conf:3"#,
                file(broken),
            ),
            (
                r#"[emerg] 199#199: host not found in upstream "nowhere.invalid" in /etc/nginx/sites-enabled/broken.conf:1"#,
                file(broken),
            ),
            (
                r#"[emerg] 184#184: cannot load certificate "/etc/ssl/none.pem": BIO_new_file() failed (SSL: error:80000002:system library::No such file or directory:calling fopen(/etc/ssl/none.pem, r) error:10000080:BIO routines::no such file)"#,
                Suspect::Mentions("/etc/ssl/none.pem".into()),
            ),
            (
                r#"[emerg] 194#194: open() "/var/log/none/x.log" failed (2: No such file or directory)"#,
                Suspect::Mentions("/var/log/none/x.log".into()),
            ),
            (
                "[emerg] 216#216: could not build server_names_hash, you should increase server_names_hash_bucket_size: 64",
                Suspect::Unknown,
            ),
            (
                r#"[emerg] 224#224: open() "/etc/nginx/sites-enabled/dangling" failed (2: No such file or directory) in /etc/nginx/nginx.conf:60"#,
                file("/etc/nginx/sites-enabled/dangling"),
            ),
            (
                r#"[crit] 227#227: pread() "/etc/nginx/sites-enabled/dir" failed (21: Is a directory)"#,
                file("/etc/nginx/sites-enabled/dir"),
            ),
        ] {
            let output = format!(
                "2026/11/22 19:23:33 [warn] 1#1: conflicting server name \"a\" on 0.0.0.0:80, ignored\n2026/11/22 19:23:33 {said}\n\
                 nginx: configuration file /etc/nginx/nginx.conf test failed\n"
            );
            let verdict = Nginx.verdict("/etc/nginx/sites-enabled", &output);
            assert_eq!(verdict.suspect, expected, "{said}");
            assert!(
                said.ends_with(&verdict.message) && !verdict.message.contains('#'),
                "{}",
                verdict.message
            );
        }
    }

    #[test]
    fn without_a_log_the_message_has_no_process_number() {
        let verdict = Nginx.verdict(
            "/v",
            "nginx: [emerg] unexpected \"}\" in /etc/nginx/a b:7\nnginx: configuration file x test failed",
        );
        assert_eq!(
            verdict,
            Verdict {
                suspect: Suspect::File("/etc/nginx/a b".into()),
                message: "unexpected \"}\" in /etc/nginx/a b:7".into()
            }
        );
        assert_eq!(Nginx.verdict("/v", "words\n").message, "words");
    }
}
