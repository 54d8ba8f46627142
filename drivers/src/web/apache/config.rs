//! Reads Apache's configuration language, and what `-S` prints, as far as host names and ports go. Pure, and never fails: what it cannot
//! read it passes over.

use std::net::SocketAddr;

use crate::web::served::{Claim, Served};

/// What one file serves.
pub(super) fn served(file: &str, text: &str) -> Vec<Served> {
    let mut found = Vec::new();
    let (mut ports, mut inside) = (None, false);
    for line in logical_lines(text) {
        let words = words(&line);
        let Some(directive) = words.first().map(|word| word.to_ascii_lowercase()) else { continue };
        let arguments = words.get(1..).unwrap_or_default();
        match directive.as_str() {
            "<virtualhost" => (ports, inside) = (ports_of(arguments), true),
            "</virtualhost>" => (ports, inside) = (None, false),
            // The main server's, over which any vhost wins. One that a vhost includes is listed with that vhost.
            "servername" if !inside => {}
            "servername" | "serveralias" => {
                let claims = arguments.iter().filter_map(|name| claim(name));
                found.extend(claims.map(|claim| Served {
                    file: file.to_owned(),
                    claim,
                    ports: ports.clone(),
                }));
            }
            _ => {}
        }
    }
    found
}

/// What the output of `apache2ctl -S` lists. It leaves out the aliases of a vhost that is alone on its address, so the files count too.
pub(super) fn listed(output: &str) -> Vec<Served> {
    let mut found: Vec<Served> = Vec::new();
    let mut current: Option<(String, Option<Vec<u16>>)> = None;
    for line in output.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let claimed = match words.as_slice() {
            ["alias", name] | ["wild", "alias", name] => claim(name),
            ["port", port, "namevhost", name, ..] => {
                current = place(line).map(|file| (file, port.parse().ok().map(|port| vec![port])));
                claim(name)
            }
            ["default", "server", ..] => continue, // listed again as a namevhost
            [address, name, ..] if !line.starts_with(' ') => {
                let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
                current = place(line).map(|file| (file, port.map(|port| vec![port])));
                claim(name)
            }
            _ => None,
        };
        if let (Some(claim), Some((file, ports))) = (claimed, &current) {
            found.push(Served { file: file.clone(), claim, ports: ports.clone() });
        }
    }
    found
}

/// The addresses that the output of `apache2ctl -S` lists; `*` is none.
pub(super) fn addresses(output: &str) -> Vec<SocketAddr> {
    let vhosts = output.lines().skip_while(|line| !line.starts_with("VirtualHost configuration"));
    vhosts.filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect()
}

/// The files that `-D DUMP_INCLUDES` lists: `(146) /etc/apache2/mods-enabled/x.load`.
pub(super) fn included_files(output: &str) -> Vec<String> {
    let lines = output.lines().skip_while(|line| !line.starts_with("Included configuration files"));
    let file = |line: &str| {
        let (mark, path) = line.trim_start().strip_prefix('(')?.split_once(") ")?;
        let numbered = mark == "*" || mark.bytes().all(|b| b.is_ascii_digit());
        (numbered && path.starts_with('/')).then(|| path.to_owned())
    };
    lines.filter_map(file).collect()
}

/// The file in `... (/path/of/file:12)` at a line's end.
fn place(line: &str) -> Option<String> {
    let (_, place) = line.trim_end().strip_suffix(')')?.split_once(" (/")?;
    let (file, number) = place.rsplit_once(':')?;
    number.bytes().all(|b| b.is_ascii_digit()).then(|| format!("/{file}"))
}

/// What an argument of `ServerName` or `ServerAlias` claims: without a scheme and a port.
fn claim(name: &str) -> Option<Claim> {
    let name = name.to_ascii_lowercase();
    let name = name.split_once("://").map_or(name.as_str(), |(_, rest)| rest);
    let name = name.split(':').next().unwrap_or(name).trim_end_matches('.');
    if name.is_empty() || name.contains('$') {
        return None;
    }
    Some(if name.contains(['*', '?']) {
        Claim::Pattern(name.to_owned())
    } else {
        Claim::Name(name.to_owned())
    })
}

/// The ports in `<VirtualHost *:80 [::1]:8080>`; `None` as soon as one is not given.
fn ports_of(addresses: &[String]) -> Option<Vec<u16>> {
    let port = |address: &String| {
        let after = address.trim_end_matches('>').rsplit(']').next().unwrap_or_default();
        after.rsplit_once(':').and_then(|(_, port)| port.parse().ok())
    };
    let given: Vec<&String> = addresses.iter().filter(|address| *address != ">").collect();
    if given.is_empty() { None } else { given.into_iter().map(port).collect() }
}

/// Lines without comments, those with a backslash at their end joined.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = String::new();
    for line in text.lines() {
        let line = line.trim_end_matches('\r');
        if let Some(begun) = line.strip_suffix('\\') {
            open.push_str(begun);
            continue;
        }
        let whole = std::mem::take(&mut open) + line;
        if !whole.trim_start().starts_with('#') {
            lines.push(whole);
        }
    }
    lines
}

/// Words of a line: blanks part them, quotes keep blanks.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while let Some(first) = rest.chars().next() {
        let (word, after) = match first {
            '"' | '\'' => rest[1..].split_once(first).unwrap_or((&rest[1..], "")),
            _ => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(served: Vec<Served>) -> Vec<String> {
        let show = |served: Served| {
            let (Claim::Name(name) | Claim::Pattern(name)) = served.claim;
            format!("{name} {} {:?}", served.file, served.ports)
        };
        served.into_iter().map(show).collect()
    }

    #[test]
    fn names_and_ports_are_read_as_apache_reads_them() {
        let found = show(served(
            "/f",
            "# ServerName comment.test\n<VirtualHost *:8080 [::1]:81>\n  servername http://W.test:8080\n  ServerAlias a.test \"b.test\" *.wild.test \\\n     cont.test\r\n\
             </VirtualHost>\n<VirtualHost *>\nServerName 'q.test'\n</VirtualHost>\nServerName global.test\nServerAlias ${X}.test\n<VirtualHost *:80 >\nServerName s.test",
        ));
        assert_eq!(
            found,
            [
                "w.test /f Some([8080, 81])",
                "a.test /f Some([8080, 81])",
                "b.test /f Some([8080, 81])",
                "*.wild.test /f Some([8080, 81])",
                "cont.test /f Some([8080, 81])",
                "q.test /f None",
                "s.test /f Some([80])",
            ]
        );
    }

    #[test]
    fn broken_files_are_read_as_far_as_they_go() {
        for text in [
            "<VirtualHost",
            "ServerName \"a.test",
            "\\",
            "ServerName",
            "\u{0}",
            "'",
            "<VirtualHost *:x>\nServerName é",
        ] {
            served("/f", text);
        }
    }

    /// As Apache 2.4.68 prints it.
    const LISTING: &str = "VirtualHost configuration:
127.0.0.6:8080         bogus_host_without_reverse_dns (/etc/apache2/sites-enabled/w.conf:6)
127.0.0.5:8080         W.test (/etc/apache2/sites-enabled/w (1).conf:1)
*:8080                 is a NameVirtualHost
         default server s.test (/etc/apache2/sites-enabled/s.test.conf:1)
         port 8080 namevhost s.test (/etc/apache2/sites-enabled/s.test.conf:1)
         port 8080 namevhost x.test (/etc/apache2/sites-enabled/w.conf:1)
                 alias a.test
                 wild alias *.wild.test
ServerRoot: \"/etc/apache2\"
Main DocumentRoot: \"/var/www/html\"
PidFile: \"/var/run/apache2/apache2.pid\"
Included configuration files:
  (*) /etc/apache2/apache2.conf
    (146) /etc/apache2/mods-enabled/alias.load
    (225) /etc/apache2/sites-enabled/w (1).conf
";

    #[test]
    fn listings_are_read() {
        assert_eq!(
            show(listed(LISTING)),
            [
                "bogus_host_without_reverse_dns /etc/apache2/sites-enabled/w.conf Some([8080])",
                "w.test /etc/apache2/sites-enabled/w (1).conf Some([8080])",
                "s.test /etc/apache2/sites-enabled/s.test.conf Some([8080])",
                "x.test /etc/apache2/sites-enabled/w.conf Some([8080])",
                "a.test /etc/apache2/sites-enabled/w.conf Some([8080])",
                "*.wild.test /etc/apache2/sites-enabled/w.conf Some([8080])",
            ]
        );
        let addresses: Vec<String> = addresses(LISTING).iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["127.0.0.6:8080", "127.0.0.5:8080"]);
        assert_eq!(
            included_files(LISTING),
            [
                "/etc/apache2/apache2.conf",
                "/etc/apache2/mods-enabled/alias.load",
                "/etc/apache2/sites-enabled/w (1).conf"
            ]
        );
    }
}
