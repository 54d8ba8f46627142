//! Apache: its commands and what it says. Rendering and reading of its language are in the modules below. Pure.

mod config;
mod render;

use kedge_workflows::ports::Vhost;

use super::config::WebServerConfig;
use super::dialect::{Dialect, Survey, Suspect, Verdict, bounded, file_of_place};
use super::served::Served;

/// The dialect of Apache.
pub(super) struct Apache;

impl Dialect for Apache {
    fn render(&self, config: &WebServerConfig, vhost: &Vhost, revision: &str) -> String {
        render::virtual_hosts(config, vhost, revision)
    }

    /// Debian's wrapper sets the environment that its configuration needs; elsewhere the server itself takes the arguments.
    fn programs(&self) -> &'static [&'static str] {
        &["apache2ctl", "httpd"]
    }

    fn units(&self) -> &'static [&'static str] {
        &["apache2.service", "httpd.service"]
    }

    fn counts_htaccess(&self) -> bool {
        true
    }

    fn tests_keys(&self) -> bool {
        false
    }

    fn test(&self) -> &'static [&'static str] {
        &["-t"]
    }

    fn dump(&self) -> &'static [&'static str] {
        &["-t", "-D", "DUMP_VHOSTS", "-D", "DUMP_INCLUDES", "-D", "DUMP_RUN_CFG"]
    }

    fn reload(&self) -> &'static [&'static str] {
        &["-k", "graceful"]
    }

    fn pid_file(&self, dump: &str) -> Option<String> {
        let line = dump.lines().find_map(|line| line.strip_prefix("PidFile: \""))?;
        line.strip_suffix('"').map(str::to_owned)
    }

    fn processes(&self) -> &'static [&'static str] {
        &["apache2", "httpd"]
    }

    fn modules(&self) -> Option<(&'static [&'static str], &'static [&'static str])> {
        let needed = &["alias", "authz_core", "dir", "env", "headers", "proxy_fcgi", "rewrite"];
        Some((&["-M"], needed))
    }

    /// Places as `Syntax error on line 3 of /etc/apache2/sites-enabled/x.conf:`, nested from the outermost file to the culprit, or
    /// `... vhost defined at /etc/apache2/sites-enabled/x.conf:1`.
    fn verdict(&self, _vhost_dir: &str, output: &str) -> Verdict {
        let noise = ["AH00558", "Action '", "The Apache error log may", "Warning: DocumentRoot"];
        let lines = output.lines().filter(|line| !noise.iter().any(|text| line.contains(text)));
        let message = lines.map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
        let nested = message.rsplit("Syntax error on line ").next().filter(|rest| rest.len() < message.len());
        let file = nested.and_then(|rest| rest.split_once(" of ")).map(|(_, place)| {
            let end = [": ", ":\n"].iter().filter_map(|end| place.find(end)).min();
            place[..end.unwrap_or(place.len())].trim_end_matches(':')
        });
        let defined = || {
            message
                .lines()
                .find_map(|line| line.split_once("defined at ").and_then(|(_, place)| file_of_place(place)))
        };
        let suspect = match file.or_else(defined) {
            Some(file) => Suspect::File(file.to_owned()),
            None => Suspect::Unknown,
        };
        Verdict { suspect, message: bounded(&message) }
    }

    fn survey(&self, dump: &str) -> Survey {
        let files = config::included_files(dump);
        // Modules' own files have no vhosts, and there are many.
        let unread = files.iter().filter(|file| !file.contains("/mods-enabled/")).cloned().collect();
        Survey { served: config::listed(dump), files, unread, addresses: config::addresses(dump) }
    }

    fn served(&self, file: &str, text: &str) -> Vec<Served> {
        config::served(file, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HINT: &str = "AH00558: apache2: Could not reliably determine the server's fully qualified domain name, using 172.17.0.2. Set the 'ServerName' directive globally to suppress this message\n";

    /// Outputs of Apache 2.4.68 for one broken file each.
    #[test]
    fn the_culprit_is_named_where_apache_tells() {
        for (said, expected) in [
            (
                "AH00526: Syntax error on line 3 of /etc/apache2/sites-enabled/broken.conf:\nInvalid command 'Foo', perhaps misspelled or defined by a module not included in the server configuration",
                Some("/etc/apache2/sites-enabled/broken.conf"),
            ),
            (
                "apache2: Syntax error on line 225 of /etc/apache2/apache2.conf: Syntax error on line 3 of /etc/apache2/sites-enabled/broken.conf: Could not open configuration file /etc/apache2/missing.conf: No such file or directory",
                Some("/etc/apache2/sites-enabled/broken.conf"),
            ),
            (
                "AH00526: Syntax error on line 1 of /etc/apache2/sub.inc:\nInvalid command 'Bar', perhaps misspelled",
                Some("/etc/apache2/sub.inc"),
            ),
            (
                "(2)No such file or directory: AH02291: Cannot access directory '/var/log/none/' for error log of vhost defined at /etc/apache2/sites-enabled/broken.conf:1\nAH00014: Configuration check failed",
                Some("/etc/apache2/sites-enabled/broken.conf"),
            ),
            (
                "apache2: Syntax error on line 225 of /etc/apache2/apache2.conf: Syntax error on line 1 of /etc/apache2/sites-enabled/broken.conf: /etc/apache2/sites-enabled/broken.conf:1: <VirtualHost> was not closed.",
                Some("/etc/apache2/sites-enabled/broken.conf"),
            ),
            (
                "AH00526: Syntax error on line 4 of /etc/apache2/sites-enabled/broken.conf:\nSSLCertificateFile: file '/etc/ssl/none.pem' does not exist or is empty",
                Some("/etc/apache2/sites-enabled/broken.conf"),
            ),
            ("something else", None),
        ] {
            let output = format!(
                "{HINT}{said}\nAction 'configtest' failed.\nThe Apache error log may have more information.\n"
            );
            let verdict = Apache.verdict("/etc/apache2/sites-enabled", &output);
            assert_eq!(
                verdict.suspect,
                expected.map_or(Suspect::Unknown, |file| Suspect::File(file.into())),
                "{said}"
            );
            assert_eq!(verdict.message, said);
        }
    }

    #[test]
    fn the_pid_file_is_read_from_the_dump() {
        let dump = "ServerRoot: \"/etc/apache2\"\nPidFile: \"/var/run/apache2/apache2.pid\"\nDefine: X\n";
        assert_eq!(Apache.pid_file(dump).as_deref(), Some("/var/run/apache2/apache2.pid"));
    }
}
