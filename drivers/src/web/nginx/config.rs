//! Reads nginx's configuration language as far as host names and ports go. Pure, and never fails: what it cannot read it passes over.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::web::served::{Claim, Served};

/// Begins each file in the output of `nginx -T`.
const DUMP_MARK: &str = "# configuration file ";

/// The files in the output of `nginx -T`, in order, with their texts.
pub(super) fn dumped_files(dump: &str) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = Vec::new();
    for line in dump.split_inclusive('\n') {
        let marked = line.trim_end().strip_prefix(DUMP_MARK).and_then(|rest| rest.strip_suffix(':'));
        match (marked, files.last_mut()) {
            (Some(path), _) => files.push((path.to_owned(), String::new())),
            (None, Some((_, text))) => text.push_str(line),
            (None, None) => {} // before the first file: what a wrapper may have printed
        }
    }
    files
}

/// What one file serves.
pub(super) fn served(file: &str, text: &str) -> Vec<Served> {
    let mut found = Vec::new();
    // A file may be included within a server block: its names then stand outside any block of its own, with unknown ports.
    let mut blocks = vec![Block::default()];
    for statement in statements(text) {
        let word = statement.words.first().map_or("", String::as_str);
        let arguments = statement.words.get(1..).unwrap_or_default();
        match statement.end {
            End::Open => blocks.push(Block { server: word == "server", ..Block::default() }),
            End::Close => {
                if blocks.len() > 1
                    && let Some(block) = blocks.pop()
                {
                    block.finish(file, &mut found);
                }
            }
            End::Simple => {
                // `location` and others within a server have no names or listens: the innermost block takes them.
                let Some(block) = blocks.last_mut() else { continue };
                match word {
                    "server_name" => block.names.extend(arguments.iter().flat_map(|name| claims(name))),
                    "listen" => block.ports.extend(arguments.first().and_then(|address| port_of(address))),
                    "include" => block.includes = true,
                    _ => {}
                }
            }
        }
    }
    while let Some(block) = blocks.pop() {
        block.finish(file, &mut found);
    }
    found
}

/// The addresses in one file's `listen`s; those by name or on Unix sockets are passed over.
pub(super) fn addresses(text: &str) -> Vec<SocketAddr> {
    let listens = statements(text)
        .into_iter()
        .filter(|statement| statement.words.first().is_some_and(|word| word == "listen"));
    let address = |statement: Statement| {
        let given = statement.words.get(1)?;
        let port = port_of(given)?;
        let host = given.strip_suffix(&format!(":{port}")).unwrap_or(given).trim_matches(['[', ']']);
        let any = host == "*" || host.parse::<u16>().is_ok();
        let ip = if any { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { host.parse().ok()? };
        Some(SocketAddr::new(ip, port))
    };
    listens.filter_map(address).collect()
}

#[derive(Default)]
struct Block {
    server: bool,
    includes: bool,
    names: Vec<Claim>,
    ports: Vec<u16>,
}

impl Block {
    fn finish(self, file: &str, found: &mut Vec<Served>) {
        let ports = match (self.server, self.ports.is_empty(), self.includes) {
            (false, ..) | (true, true, true) => None,
            (true, true, false) => Some(vec![80]), // nginx's default, as root
            (true, false, _) => Some(self.ports),
        };
        found.extend(self.names.into_iter().map(|claim| Served {
            file: file.to_owned(),
            claim,
            ports: ports.clone(),
        }));
    }
}

/// What an argument of `server_name` claims. Regular expressions are passed over: names and wildcards win over them anyway.
fn claims(name: &str) -> Vec<Claim> {
    let name = name.to_ascii_lowercase();
    if name.starts_with('~') || name.is_empty() || name == "_" {
        return Vec::new();
    }
    if let Some(bare) = name.strip_prefix('.') {
        return vec![Claim::Name(bare.to_owned()), Claim::Pattern(format!("*.{bare}"))];
    }
    if name.contains('*') { vec![Claim::Pattern(name)] } else { vec![Claim::Name(name)] }
}

/// The port of a `listen` argument; `None` for a Unix socket.
fn port_of(address: &str) -> Option<u16> {
    if address.starts_with("unix:") {
        return None;
    }
    if let Ok(port) = address.parse() {
        return Some(port);
    }
    let after = address.rsplit(']').next().unwrap_or(address);
    after.rsplit_once(':').map_or(Some(80), |(_, port)| port.parse().ok())
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Simple,
    Open,
    Close,
}

#[derive(Debug, PartialEq, Eq)]
struct Statement {
    words: Vec<String>,
    end: End,
}

/// Splits a text into statements by nginx's rules for blanks, comments, quotes and escapes.
fn statements(text: &str) -> Vec<Statement> {
    let (mut out, mut words) = (Vec::new(), Vec::new());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let end = match c {
            c if c.is_whitespace() => continue,
            '#' => {
                while rest.next_if(|&c| c != '\n').is_some() {}
                continue;
            }
            ';' => End::Simple,
            '{' => End::Open,
            '}' => End::Close,
            '"' | '\'' => {
                words.push(quoted(&mut rest, c));
                continue;
            }
            first => {
                words.push(bare(&mut rest, first));
                continue;
            }
        };
        let script =
            end == End::Open && words.first().is_some_and(|word: &String| word.ends_with("_by_lua_block"));
        out.push(Statement { words: std::mem::take(&mut words), end });
        if script {
            skip_block(&mut rest);
            out.push(Statement { words: Vec::new(), end: End::Close });
        }
    }
    out
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn quoted(rest: &mut Chars<'_>, quote: char) -> String {
    let mut word = String::new();
    while let Some(c) = rest.next() {
        match c {
            '\\' => word.extend(rest.next().map(unescaped).into_iter().flatten()),
            c if c == quote => break,
            c => word.push(c),
        }
    }
    word
}

fn bare(rest: &mut Chars<'_>, first: char) -> String {
    let mut word = String::new();
    let mut next = Some(first);
    while let Some(c) = next {
        match c {
            '\\' => word.extend(rest.next().map(unescaped).into_iter().flatten()),
            // A variable in braces is part of the word.
            '$' if rest.peek() == Some(&'{') => {
                word.push(c);
                for c in rest.by_ref() {
                    word.push(c);
                    if c == '}' {
                        break;
                    }
                }
            }
            c => word.push(c),
        }
        next = rest.next_if(|&c| !c.is_whitespace() && !matches!(c, ';' | '{'));
    }
    word
}

/// The characters after a backslash: quotes and blanks stand for themselves, of others the backslash stays.
fn unescaped(c: char) -> impl Iterator<Item = char> {
    let backslash = (!matches!(c, '"' | '\'' | '\\' | ' ' | ';' | '{' | '}')).then_some('\\');
    backslash.into_iter().chain(std::iter::once(c))
}

/// Passes over a Lua block: balanced braces are all that is sure about it.
fn skip_block(rest: &mut Chars<'_>) {
    let mut depth = 1;
    for c in rest.by_ref() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Vec<(String, Option<Vec<u16>>)> {
        served("/f", text)
            .into_iter()
            .map(|served| match served.claim {
                Claim::Name(name) | Claim::Pattern(name) => (name, served.ports),
            })
            .collect()
    }

    #[test]
    fn names_and_ports_are_read_as_nginx_reads_them() {
        let found = check(
            r#"
            # server_name comment.test;
            server { listen 80; listen [::]:8080 ssl; listen unix:/run/x; server_name A.test *.wild.test .dot.test "~^re(\d{1,3})\.test$" 'q.test'
                multi.test; # server_name no.test;
                location / { return 200 "} server_name bad.test; {\n"; set $x "a\"; server_name worse.test;"; }
                location ~ "^/a{2}$" { }
                set $y ${z}; }
            server { server_name default.test _ ""; }
            server { include listen.inc; server_name unknown.test; }
            server { listen 127.0.0.1; listen localhost:81; server_name address.test; }
            "#,
        );
        let on = |name: &str, ports: &[u16]| (name.to_owned(), Some(ports.to_vec()));
        assert_eq!(
            found,
            [
                on("a.test", &[80, 8080]),
                on("*.wild.test", &[80, 8080]),
                on("dot.test", &[80, 8080]),
                on("*.dot.test", &[80, 8080]),
                on("q.test", &[80, 8080]),
                on("multi.test", &[80, 8080]),
                on("default.test", &[80]),
                ("unknown.test".to_owned(), None),
                on("address.test", &[80, 81]),
            ]
        );
    }

    #[test]
    fn an_included_file_has_names_without_ports() {
        assert_eq!(
            check("server_name a.test b.test;"),
            [("a.test".to_owned(), None), ("b.test".to_owned(), None)]
        );
    }

    #[test]
    fn broken_files_are_read_as_far_as_they_go() {
        assert_eq!(
            check("server { listen 80; server_name a.test; location / {"),
            [("a.test".to_owned(), Some(vec![80]))]
        );
        assert_eq!(
            check("} } server { lisen 80; server_name a.test; }"),
            [("a.test".to_owned(), Some(vec![80]))]
        );
        for text in [
            "server { server_name \"a.test; }",
            "\\",
            "${",
            "server_name a.test",
            "\u{0}\u{1}",
            "{{{{",
            "}}}}",
            "x_by_lua_block {",
        ] {
            served("/f", text);
        }
    }

    #[test]
    fn lua_does_not_confuse() {
        let text = "server { content_by_lua_block { if a == \"'\" then { } end } server_name a.test; }";
        assert_eq!(check(text), [("a.test".to_owned(), Some(vec![80]))]);
    }

    #[test]
    fn addresses_are_read() {
        let text = "server { listen 80 default_server; listen *:81; listen 192.0.2.1; listen 192.0.2.2:82 ssl; listen [::]:83; listen [::1]; \
                    listen unix:/x; listen localhost:84; }";
        let found: Vec<String> = addresses(text).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            ["0.0.0.0:80", "0.0.0.0:81", "192.0.2.1:80", "192.0.2.2:82", "[::]:83", "[::1]:80"]
        );
    }

    #[test]
    fn a_dump_is_split_into_its_files() {
        let dump = "# configuration file /etc/nginx/nginx.conf:\nhttp {\n include x; }\n\n# configuration file /etc/nginx/a b:\nserver { }\n";
        let files = dumped_files(dump);
        assert_eq!(files.len(), 2);
        assert_eq!(files[1], ("/etc/nginx/a b".to_owned(), "server { }\n".to_owned()));
    }
}
