//! Two lines that the remote side writes to standard error, before a command and after it: they tell a command's own failure
//! from that of the connection, for which `ssh` has only the status 255. The first one comes on standard output too, behind what
//! login scripts print there. Filters them out.

use bytes::Bytes;
use memchr::memmem;

/// Runs `$2...` between the two lines; `$1` is a token that nothing else prints.
pub(super) const BETWEEN_MARKERS: &str = r#"
token=$1
shift
printf '%s begin\n' "$token"
printf '%s begin\n' "$token" >&2
"$@"
status=$?
printf '\n%s end %s\n' "$token" "$status" >&2
exit "$status"
"#;

/// Most bytes kept of what comes before the first line: greetings and complaints of `ssh` and of login scripts.
const MAX_NOISE: usize = 16 * 1024;
/// Longest last line: its token, words and a status.
const MAX_END: usize = 128;

/// Reads the lines out of a standard error stream that comes in pieces.
#[derive(Debug)]
pub(super) struct Markers {
    begin: Vec<u8>,
    end: Vec<u8>,
    held: Vec<u8>,
    noise: Vec<u8>,
    began: bool,
    status: Option<i32>,
}

impl Markers {
    pub(super) fn new(token: &str) -> Self {
        Self {
            begin: format!("{token} begin\n").into_bytes(),
            end: format!("\n{token} end ").into_bytes(),
            held: Vec::new(),
            noise: Vec::new(),
            began: false,
            status: None,
        }
    }

    /// Whether the command was begun.
    pub(super) fn began(&self) -> bool {
        self.began
    }

    /// How the command ended, if it was seen to.
    pub(super) fn status(&self) -> Option<i32> {
        self.status
    }

    /// What was said before the command began.
    pub(super) fn noise(&self) -> String {
        let all = if self.began { &self.noise } else { &self.held };
        String::from_utf8_lossy(all).trim().to_owned()
    }

    /// Takes a piece and returns what of it (and of what was held back) is the command's own.
    pub(super) fn push(&mut self, piece: &[u8]) -> Bytes {
        self.held.extend_from_slice(piece);
        if !self.began && !self.look_for_begin() {
            return Bytes::new();
        }
        if self.status.is_none() {
            self.look_for_end();
        }
        let keep = if self.status.is_some() { 0 } else { self.to_hold() };
        self.held.drain(..self.held.len() - keep).collect()
    }

    /// What is still held back, at the end of the stream.
    pub(super) fn flush(&mut self) -> Bytes {
        if self.began { std::mem::take(&mut self.held).into() } else { Bytes::new() }
    }

    fn look_for_begin(&mut self) -> bool {
        let Some(at) = memmem::find(&self.held, &self.begin) else {
            let excess = self.held.len().saturating_sub(MAX_NOISE);
            self.held.drain(..excess);
            return false;
        };
        self.noise = self.held.drain(..at).collect();
        self.held.drain(..self.begin.len());
        self.began = true;
        true
    }

    fn look_for_end(&mut self) {
        let Some(at) = memmem::find(&self.held, &self.end) else { return };
        let rest = &self.held[at + self.end.len()..];
        let Some(length) = memchr::memchr(b'\n', rest) else { return };
        if let Some(status) = std::str::from_utf8(&rest[..length]).ok().and_then(|text| text.parse().ok()) {
            self.status = Some(status);
            self.held.drain(at..=at + self.end.len() + length);
        }
    }

    /// How many of the last bytes may be the beginning of the last line.
    fn to_hold(&self) -> usize {
        let tail = self.held.len().saturating_sub(MAX_END);
        let first = self.held[tail..].iter().position(|byte| *byte == b'\n');
        first.map_or(0, |at| self.held.len() - tail - at)
    }
}

/// Throws away what comes on standard output before the command's own.
#[derive(Debug)]
pub(super) struct Greeting {
    begin: Vec<u8>,
    held: Vec<u8>,
    over: bool,
}

impl Greeting {
    pub(super) fn new(token: &str) -> Self {
        Self { begin: format!("{token} begin\n").into_bytes(), held: Vec::new(), over: false }
    }

    /// Takes a piece and returns what of it is the command's own.
    pub(super) fn push(&mut self, piece: Bytes) -> Bytes {
        if self.over {
            return piece;
        }
        self.held.extend_from_slice(&piece);
        if let Some(at) = memmem::find(&self.held, &self.begin) {
            self.over = true;
            return self.held.split_off(at + self.begin.len()).into();
        }
        let excess = self.held.len().saturating_sub(MAX_NOISE);
        self.held.drain(..excess);
        Bytes::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn read(text: &[u8], piece: usize) -> (Vec<u8>, Markers) {
        let mut markers = Markers::new(TOKEN);
        let mut own = Vec::new();
        text.chunks(piece).for_each(|piece| own.extend_from_slice(&markers.push(piece)));
        own.extend_from_slice(&markers.flush());
        (own, markers)
    }

    #[test]
    fn the_lines_are_found_however_the_stream_is_cut() {
        let text = format!("hello\nmux\n{TOKEN} begin\nwhy\n\nand so\n\n{TOKEN} end 42\nConnection closed\n");
        for piece in 1..text.len() {
            let (own, markers) = read(text.as_bytes(), piece);
            assert_eq!(
                String::from_utf8(own).unwrap(),
                "why\n\nand so\nConnection closed\n",
                "pieces of {piece}"
            );
            assert_eq!((markers.status(), markers.noise().as_str()), (Some(42), "hello\nmux"));
        }
    }

    #[test]
    fn nothing_is_the_commands_before_it_began() {
        let (own, markers) = read(b"ssh: connect to host x port 22: Connection refused\r\n", 7);
        assert_eq!((own.len(), markers.began(), markers.status()), (0, false, None));
        assert_eq!(markers.noise(), "ssh: connect to host x port 22: Connection refused");
        let (_, markers) = read(&vec![b'x'; 10 * MAX_NOISE], 4096);
        assert_eq!(markers.noise().len(), MAX_NOISE);
    }

    #[test]
    fn a_lost_command_has_no_status() {
        let (own, markers) = read(format!("{TOKEN} begin\nworking\n{TOKEN} en").as_bytes(), 5);
        assert_eq!(String::from_utf8(own).unwrap(), format!("working\n{TOKEN} en"));
        assert_eq!((markers.began(), markers.status()), (true, None));
    }

    #[test]
    fn a_flood_passes_through() {
        let mut text = format!("{TOKEN} begin\n").into_bytes();
        text.extend(b"\n".repeat(300_000));
        text.extend(format!("\n{TOKEN} end 0\n").as_bytes());
        let (own, markers) = read(&text, 8192);
        assert_eq!((own.len(), markers.status()), (300_000, Some(0)));
    }

    #[test]
    fn a_greeting_is_thrown_away() {
        let text = format!("hello\n{TOKEN} begin\nown {TOKEN} begin\n");
        for size in 1..=text.len() {
            let mut greeting = Greeting::new(TOKEN);
            let own: Vec<u8> = text
                .as_bytes()
                .chunks(size)
                .flat_map(|piece| greeting.push(Bytes::copy_from_slice(piece)))
                .collect();
            assert_eq!(String::from_utf8(own).unwrap(), format!("own {TOKEN} begin\n"));
        }
    }
}
