//! What a reader of a dump passes over: quotes, comments, and the client's own `DELIMITER` line. Every step makes progress or waits for
//! more bytes; never looks at what it passes.

use memchr::{memchr, memchr2, memmem};

use super::sql_state::{Inside, Lexer, Mode, Step};

/// Longest line behind the word `DELIMITER`; the client's own bound for the delimiter itself is 15 bytes.
const MAX_DELIMITER_LINE: usize = 256;

impl Lexer {
    pub(super) fn comment_or_quote(&mut self, buf: &[u8], at: usize, last: bool) -> Step {
        let rest = &buf[at..];
        match rest {
            [quote @ (b'\'' | b'"' | b'`'), ..] => {
                self.inside = Inside::Quotes(*quote);
                Step::To(at + 1)
            }
            [b'#', ..] => self.comment(Inside::LineComment, at + 1),
            [b'-', b'-', space, ..] if *space <= b' ' => self.comment(Inside::LineComment, at + 2),
            [b'-', b'-'] if last => self.comment(Inside::LineComment, at + 2),
            [b'/', b'*', b'!', ..] => self.versioned_comment(at + 3),
            [b'/', b'*', b'M', b'!', ..] => self.versioned_comment(at + 4),
            [b'-'] | [b'-', b'-'] | [b'/'] | [b'/', b'*'] | [b'/', b'*', b'M'] | [b'*'] if !last => {
                Step::Wait
            }
            [b'/', b'*', ..] => self.comment(Inside::BlockComment, at + 2),
            [b'*', b'/', ..] if self.versioned > 0 => {
                self.versioned -= 1;
                Step::To(at + 2)
            }
            _ => Step::To(at + 1),
        }
    }

    fn comment(&mut self, kind: Inside, behind: usize) -> Step {
        self.inside = kind;
        Step::To(behind)
    }

    fn versioned_comment(&mut self, behind: usize) -> Step {
        self.versioned = self.versioned.saturating_add(1);
        Step::To(behind)
    }

    pub(super) fn quotes(&mut self, quote: u8, buf: &[u8], start: usize, last: bool) -> Step {
        let mut at = start;
        loop {
            let rest = &buf[at..];
            let next = if quote == b'`' { memchr(quote, rest) } else { memchr2(quote, b'\\', rest) };
            let Some(next) = next else { return Step::To(buf.len()) };
            at += next;
            if buf[at] == quote {
                self.inside = Inside::Nothing; // a doubled quote opens it again at once
                return Step::To(at + 1);
            }
            if at + 1 == buf.len() {
                return if last { Step::To(buf.len()) } else { wait_or_go(start, at) };
            }
            at += 2;
        }
    }

    pub(super) fn line_comment(&mut self, buf: &[u8], at: usize) -> Step {
        let Some(end) = memchr(b'\n', &buf[at..]) else { return Step::To(buf.len()) };
        self.inside = Inside::Nothing;
        Step::To(at + end + 1)
    }

    pub(super) fn block_comment(&mut self, buf: &[u8], at: usize, last: bool) -> Step {
        if let Some(end) = memmem::find(&buf[at..], b"*/") {
            self.inside = Inside::Nothing;
            return Step::To(at + end + 2);
        }
        if !last && buf.ends_with(b"*") { wait_or_go(at, buf.len() - 1) } else { Step::To(buf.len()) }
    }

    /// `DELIMITER ;;`: the client's own command, a line of its own.
    pub(super) fn delimiter_line(&mut self, buf: &[u8], at: usize, last: bool) -> Step {
        let end = match memchr(b'\n', &buf[at..]) {
            Some(end) if end <= MAX_DELIMITER_LINE => at + end,
            None if last && buf.len() - at <= MAX_DELIMITER_LINE => buf.len(),
            None if !last && buf.len() - at <= MAX_DELIMITER_LINE => return Step::Wait,
            _ => {
                self.mode = Mode::Other;
                return Step::To(at);
            }
        };
        if let Some(word) = buf[at..end].split(u8::is_ascii_whitespace).find(|word| !word.is_empty()) {
            self.set_delimiter(&word[..word.len().min(15)]);
        }
        self.mode = Mode::Start;
        Step::To(end)
    }
}

/// Passes what is clear, or waits when nothing is.
pub(super) fn wait_or_go(start: usize, at: usize) -> Step {
    if at > start { Step::To(at) } else { Step::Wait }
}
