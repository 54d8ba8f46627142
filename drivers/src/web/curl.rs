//! Requests from a host to its own web server, by curl there: its options come on standard input, so that a bypass token is in nobody's
//! argument list. Follows no redirect and uses no proxy.

use std::time::Duration;

use futures::StreamExt;
use kedge_workflows::names::SiteName;
use kedge_workflows::ports::{Answer, Get, PortError, PortResult, Scope};

use super::text::REDIRECT_BY;
use super::vhost::{REVISION_PATH, safe_token};
use crate::host::{Command, Host};

/// Most bytes of a body that are kept, as the port promises.
const MAX_BODY: usize = 1024 * 1024;
/// Most bytes of headers: more than servers and browsers accept.
const MAX_HEADERS: usize = 64 * 1024;
/// Longest path and query: what servers accept in a request line.
const MAX_PATH: usize = 8000;
/// Seconds that a page may take: first visits fill caches.
const PAGE_SECONDS: u64 = 60;
/// Seconds that the revision may take: it comes from the server's memory.
const REVISION_SECONDS: u64 = 5;
/// What a host needs a moment longer for than curl itself.
const GRACE: Duration = Duration::from_secs(10);
/// Stand before and after the status of each answer in a series.
const STATUS: char = '\u{1f}';
const END: char = '\u{1e}';

/// curl on a host, bound to the address of a web server there.
pub(super) struct Curl<'a> {
    pub(super) host: &'a dyn Host,
    pub(super) scope: &'a Scope,
    /// `address:port`.
    pub(super) address: String,
}

/// A page as it was answered.
pub(super) struct Page {
    /// The answer.
    pub(super) answer: Answer,
    /// Whether a vhost of ours sends on to another of the site's names or to HTTPS.
    redirect: bool,
}

impl Page {
    /// Where the visitor is sent on to, if a vhost of ours does: by HTTPS or not, and what to ask there.
    pub(super) fn sent_on(&self) -> Option<(bool, Get)> {
        let location = self.answer.location.as_deref().filter(|_| self.redirect)?;
        let (scheme, rest) = location.split_once("://")?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let path = if path.is_empty() { "/" } else { path }.to_owned();
        Some((scheme == "https", Get { host: SiteName::parse(host).ok()?, path, bypass: None }))
    }
}

/// An answer to a question for the revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// HTTP status; 0 when there was no answer.
    pub(super) status: u16,
    /// The body without blanks around it; empty unless the status was 2xx or 3xx.
    pub(super) body: String,
    /// Nothing listens there at all.
    pub(super) refused: bool,
}

impl Curl<'_> {
    /// A page; `secure`: by HTTPS, whoever signed the certificate.
    ///
    /// # Errors
    /// `Refused` for a bad request or when curl is missing; `Unavailable` when the server does not answer.
    pub(super) async fn get(&self, get: &Get, secure: bool) -> PortResult<Page> {
        let options = page_options(get, &self.address, secure)?;
        let mut output = self.host.stream(self.command(options, PAGE_SECONDS, 1)).await?;
        let mut response = Response::default();
        while let Some(piece) = output.next().await {
            match piece {
                Ok(bytes) => response.push(&bytes),
                Err(error) => return Err(self.explain(error)),
            }
            if response.enough() {
                break; // dropping the stream ends curl
            }
        }
        response.answer().map_err(|why| {
            PortError::Refused(format!("http://{}{} on {}: {why}", get.host, get.path, self.host.name()))
        })
    }

    /// Asks for the revision `times` times, each on a connection of its own.
    ///
    /// # Errors
    /// `Refused` when curl is missing, and what the host says. No answer is no error.
    pub(super) async fn revisions(&self, site: &SiteName, times: usize) -> PortResult<Vec<Said>> {
        let command = self.command(revision_options(site, &self.address, times), REVISION_SECONDS, times);
        let finished = self.host.run(command).await?;
        if finished.status == MISSING {
            return Err(self.missing());
        }
        Ok(said(&String::from_utf8_lossy(&finished.stdout), finished.status == COULD_NOT_CONNECT))
    }

    fn command(&self, options: String, seconds: u64, times: usize) -> Command {
        let limit = Duration::from_secs(seconds) * u32::try_from(times).unwrap_or(u32::MAX) + GRACE;
        // `--disable` must come first: nobody's ~/.curlrc counts.
        Command::new(self.scope, ["curl", "--disable", "--config", "-"]).input(options).within(limit)
    }

    fn missing(&self) -> PortError {
        PortError::Refused(format!(
            "install curl on {}: Kedge asks the web server there for pages with it",
            self.host.name()
        ))
    }

    /// What curl's exit status means. The host tells it in the text of the stream's last error.
    fn explain(&self, error: PortError) -> PortError {
        let PortError::Refused(text) = error else { return error };
        let digits = |rest: &str| rest.chars().take_while(char::is_ascii_digit).collect::<String>();
        let status: i32 = text
            .split_once("exit status ")
            .and_then(|(_, rest)| digits(rest).parse().ok())
            .unwrap_or_default();
        if status == MISSING {
            return self.missing();
        }
        let words = text.split_once("curl: ").map_or(text.as_str(), |(_, words)| words);
        let what = format!("the web server on {} at {}: {words}", self.host.name(), self.address);
        if PASSING.contains(&status) { PortError::Unavailable(what) } else { PortError::Refused(what) }
    }
}

/// The shell's and the hosts' status for a program that is not there.
const MISSING: i32 = 127;
/// curl's exit status when nothing listens.
const COULD_NOT_CONNECT: i32 = 7;
/// curl's exit statuses that may go away: could not connect, partial file, time-out, empty reply, send and receive errors.
const PASSING: [i32; 6] = [COULD_NOT_CONNECT, 18, 28, 52, 55, 56];

/// curl's options for a page: headers and body on standard output.
fn page_options(get: &Get, address: &str, secure: bool) -> PortResult<String> {
    let refuse = |why: &str| {
        Err(PortError::Refused(format!("cannot ask http://{} for {:?}: {why}", get.host, get.path)))
    };
    if !get.path.starts_with('/') || get.path.len() > MAX_PATH {
        return refuse("a path begins with a slash and has at most 8000 bytes");
    }
    if get.path.chars().any(|c| c.is_control() || c.is_whitespace() || c == '#') {
        return refuse("a path has no blanks, control characters or #; write them percent-encoded");
    }
    let mut options = common_options(address, PAGE_SECONDS);
    options += "include\n";
    let scheme = if secure { "https" } else { "http" };
    if secure {
        // The server on this very host is asked whether it serves the site, not who it is.
        options += "insecure\n";
    }
    options += &option("url", &format!("{scheme}://{}{}", get.host, get.path));
    if let Some(token) = &get.bypass {
        if !safe_token(token) {
            return refuse("the bypass token is not 16 to 128 letters, digits, - or _");
        }
        options += &option("cookie", &format!("kedge_bypass={token}"));
    }
    Ok(options)
}

/// curl's options for a series of questions for the revision: the body of each answer and its status.
fn revision_options(site: &SiteName, address: &str, times: usize) -> String {
    let mut options = common_options(address, REVISION_SECONDS);
    // An error page is of no interest, nor is a body that is too long for a revision.
    options += "fail\nmax-filesize = 1024\n";
    options += &option("header", "Connection: close");
    options += &option("write-out", &format!("{STATUS}%{{http_code}}{END}"));
    options += &option("url", &format!("http://{site}{REVISION_PATH}")).repeat(times);
    options
}

fn common_options(address: &str, seconds: u64) -> String {
    let mut options = "silent\nshow-error\nhttp1.1\ngloboff\npath-as-is\nconnect-timeout = 5\n".to_owned();
    options += &format!("max-time = {seconds}\n");
    options += &option("noproxy", "*");
    options += &option("user-agent", "kedge");
    // Whatever the name, to this address; the Host header stays the name alone, as visitors send it.
    options += &option("connect-to", &format!("::{address}"));
    options
}

/// A line of a curl configuration.
fn option(name: &str, value: &str) -> String {
    format!("{name} = \"{}\"\n", value.replace('\\', "\\\\").replace('"', "\\\""))
}

fn said(output: &str, refused: bool) -> Vec<Said> {
    let answer = |text: &str| {
        let (body, status) = text.rsplit_once(STATUS)?;
        Some(Said { status: status.parse().ok()?, body: body.trim().to_owned(), refused })
    };
    output.split_terminator(END).filter_map(answer).collect()
}

/// A response as curl prints it: header blocks, of which interim ones (1xx) are passed over, then the body.
#[derive(Default)]
struct Response {
    bytes: Vec<u8>,
    /// Where the body begins, once the final header block has come.
    body_at: Option<usize>,
    searched: usize,
}

impl Response {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        while self.body_at.is_none() {
            let rest = &self.bytes[self.searched..];
            let Some(end) = rest.windows(4).position(|four| four == b"\r\n\r\n") else { return };
            let interim = rest.starts_with(b"HTTP/1.1 1") || rest.starts_with(b"HTTP/1.0 1");
            if !interim {
                self.body_at = Some(self.searched + end + 4);
                return;
            }
            self.searched += end + 4;
        }
    }

    fn enough(&self) -> bool {
        match self.body_at {
            Some(at) => self.bytes.len() - at >= MAX_BODY,
            None => self.bytes.len() > MAX_HEADERS,
        }
    }

    fn answer(mut self) -> Result<Page, &'static str> {
        let at = self.body_at.ok_or("the answer has no end of its headers")?;
        let mut body = self.bytes.split_off(at);
        body.truncate(MAX_BODY);
        let head = String::from_utf8_lossy(&self.bytes[self.searched..]).into_owned();
        let mut lines = head.lines();
        let status =
            lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let header = |wanted: &str| {
            head.lines().skip(1).find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned())
            })
        };
        let redirect =
            REDIRECT_BY.split_once(' ').is_some_and(|(name, by)| header(name).as_deref() == Some(by));
        let status = status.ok_or("the answer has no status")?;
        let (location, content_type) = (header("location"), header("content-type"));
        Ok(Page { answer: Answer { status, location, content_type, body }, redirect })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> SiteName {
        SiteName::parse("a.test").unwrap()
    }

    fn get(path: &str, bypass: Option<&str>) -> Get {
        Get { host: site(), path: path.into(), bypass: bypass.map(str::to_owned) }
    }

    fn page(text: &str) -> Result<Page, &'static str> {
        let mut response = Response::default();
        for piece in text.as_bytes().chunks(3) {
            response.push(piece);
        }
        response.answer()
    }

    fn answer(text: &str) -> Result<Answer, &'static str> {
        page(text).map(|page| page.answer)
    }

    #[test]
    fn only_redirects_of_our_own_are_followed() {
        let sent = |headers: &str| page(&format!("HTTP/1.1 301 x\r\n{headers}\r\n\r\n")).unwrap().sent_on();
        let get = |path: &str| Get { host: site(), path: path.into(), bypass: None };
        let ours = "X-Redirect-By: Kedge\r\nLocation: ";
        assert_eq!(sent(&format!("{ours}https://a.test/b?c=d")), Some((true, get("/b?c=d"))));
        assert_eq!(sent(&format!("{ours}http://a.test")), Some((false, get("/"))));
        assert_eq!(sent("Location: https://a.test/b"), None);
        assert_eq!(sent("X-Redirect-By: WordPress\r\nLocation: https://a.test/b"), None);
        assert_eq!(sent(&format!("{ours}/b")), None);
    }

    #[test]
    fn options_are_quoted_and_the_host_is_the_name_alone() {
        let options =
            page_options(&get("/a?q=\"x\"\\", Some("0123456789abcdef")), "127.0.0.1:8080", false).unwrap();
        assert!(options.contains("url = \"http://a.test/a?q=\\\"x\\\"\\\\\"\n"), "{options}");
        assert!(options.contains("connect-to = \"::127.0.0.1:8080\"\n"));
        assert!(options.contains("cookie = \"kedge_bypass=0123456789abcdef\"\n"));
        assert_eq!(revision_options(&site(), "[::1]:80", 3).matches("url = ").count(), 3);
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for path in ["", "a", "/a b", "/a\nurl = x", "/a#b", &format!("/{}", "a".repeat(MAX_PATH))] {
            assert!(
                matches!(page_options(&get(path, None), "x", false), Err(PortError::Refused(_))),
                "{path:?}"
            );
        }
        assert!(page_options(&get("/", Some("short")), "x", false).is_err());
        assert!(page_options(&get("/", Some("0123456789abcdef\n")), "x", true).is_err());
    }

    #[test]
    fn answers_are_read() {
        let text = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 301 Moved Permanently\r\nlocation:  http://b.test/ \r\nContent-Type: text/html\r\n\r\nbody\r\n\r\nmore";
        let answer_of_text = answer(text).unwrap();
        assert_eq!(
            (answer_of_text.status, answer_of_text.location.as_deref()),
            (301, Some("http://b.test/"))
        );
        assert_eq!(answer_of_text.content_type.as_deref(), Some("text/html"));
        assert_eq!(answer_of_text.body, b"body\r\n\r\nmore");
        assert_eq!(answer("HTTP/1.1 204\r\n\r\n").unwrap().status, 204);
        assert!(answer("HTTP/1.1 200 OK\r\n").is_err());
        assert!(answer("nonsense\r\n\r\n").is_err());
    }

    #[test]
    fn a_body_is_cut_at_its_bound() {
        let mut response = Response::default();
        response.push(b"HTTP/1.1 200 OK\r\n\r\n");
        while !response.enough() {
            response.push(&[b'x'; 100_000]);
        }
        assert_eq!(response.answer().unwrap().answer.body.len(), MAX_BODY);
        let mut response = Response::default();
        while !response.enough() {
            response.push(b"header: without end\r\n");
        }
        assert!(response.bytes.len() < 2 * MAX_HEADERS);
    }

    #[test]
    fn a_series_of_answers_is_read() {
        let one = |status, body: &str, refused| Said { status, body: body.into(), refused };
        assert_eq!(
            said("abc@a.test\n\u{1f}200\u{1e}\u{1f}404\u{1e}", false),
            [one(200, "abc@a.test", false), one(404, "", false)]
        );
        assert_eq!(said("\u{1f}000\u{1e}", true), [one(0, "", true)]);
        assert_eq!(said("nonsense", false), []);
    }
}
