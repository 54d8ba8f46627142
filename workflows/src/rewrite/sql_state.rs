//! Where in an SQL dump a reader stands: statement, comment, quotes, row and column. Follows the `mysql` client's own reading (delimiters
//! too), and finds the values of rows. Never looks into a value, never writes.

use super::literal::quoted_name;
use super::sql_skip::wait_or_go;

/// Longest name or word that may stand in the head of an `INSERT` (64 characters of four bytes, with room for doubled quotes). Something
/// longer is no dump's statement and passes on untouched.
const MAX_NAME: usize = 1024;

/// Where a value stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    pub(super) table: String,
    pub(super) row: u64,
    pub(super) column: u64,
}

/// What to do next.
pub(super) enum Step {
    /// More bytes are needed to tell what stands here.
    Wait,
    /// Pass on to there.
    To(usize),
    /// The rows of an `INSERT` begin there.
    Rows(usize),
    /// A quoted value begins there.
    Text(usize),
    /// A hexadecimal value begins there.
    Hex(usize),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Before a statement.
    Start,
    /// In `INSERT INTO name (columns)`.
    Head,
    /// Behind `VALUES`.
    Rows,
    /// In any other statement.
    Other,
    /// Behind the word `DELIMITER`.
    Delimiter,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Inside {
    Nothing,
    Quotes(u8),
    LineComment,
    BlockComment,
}

/// The reader's place. Survives from piece to piece.
pub(super) struct Lexer {
    pub(super) mode: Mode,
    pub(super) inside: Inside,
    /// Open `/*!` comments: their content is SQL for the server, but never a row of a dump.
    pub(super) versioned: u32,
    delimiter: Vec<u8>,
    /// Bytes at which something may begin.
    special: [bool; 256],
    /// The byte before the piece.
    previous: u8,
    depth: u32,
    head_table: String,
    place: Place,
}

impl Lexer {
    pub(super) fn new() -> Self {
        let mut lexer = Self {
            mode: Mode::Start,
            inside: Inside::Nothing,
            versioned: 0,
            delimiter: Vec::new(),
            special: [false; 256],
            previous: b'\n',
            depth: 0,
            head_table: String::new(),
            place: Place::default(),
        };
        lexer.set_delimiter(b";");
        lexer
    }

    /// Where the value stands that begins here.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// The piece was read up to behind this byte.
    pub(super) fn passed(&mut self, byte: u8) {
        self.previous = byte;
    }

    /// The rest of the statement has no values for us.
    pub(super) fn pass_statement(&mut self) {
        self.mode = Mode::Other;
    }

    /// What is not finished, if the input ends here.
    pub(super) fn unfinished(&self) -> Option<&'static str> {
        match (self.inside, self.mode) {
            (Inside::Quotes(_), _) => Some("a quoted text"),
            (Inside::BlockComment, _) => Some("a comment"),
            (_, Mode::Head | Mode::Rows) => Some("an INSERT statement"),
            _ => None,
        }
    }

    /// One step at `buf[at]`. `last`: nothing follows `buf`.
    pub(super) fn step(&mut self, buf: &[u8], at: usize, last: bool) -> Step {
        match self.inside {
            Inside::Quotes(quote) => return self.quotes(quote, buf, at, last),
            Inside::LineComment => return self.line_comment(buf, at),
            Inside::BlockComment => return self.block_comment(buf, at, last),
            Inside::Nothing => {}
        }
        if self.mode == Mode::Delimiter {
            return self.delimiter_line(buf, at, last);
        }
        if buf[at] == self.delimiter[0] {
            let rest = &buf[at..];
            if rest.starts_with(&self.delimiter) {
                (self.mode, self.versioned) = (Mode::Start, 0);
                return Step::To(at + self.delimiter.len());
            }
            if !last && self.delimiter.starts_with(rest) {
                return Step::Wait;
            }
        }
        match self.mode {
            Mode::Start if self.versioned == 0 => self.start(buf, at, last),
            Mode::Head if self.versioned == 0 => self.head(buf, at, last),
            Mode::Rows if self.versioned == 0 => self.rows(buf, at, last),
            _ => self.other(buf, at, last),
        }
    }

    /// Before a statement: its first word tells what it is.
    fn start(&mut self, buf: &[u8], at: usize, last: bool) -> Step {
        const LONGEST: usize = "DELIMITER".len();
        if buf[at].is_ascii_whitespace() {
            return Step::To(at + spaces(&buf[at..]));
        }
        if buf[at].is_ascii_alphabetic() {
            let end = word_end(buf, at);
            if end == buf.len() && !last && end - at <= LONGEST {
                return Step::Wait;
            }
            let word = &buf[at..end];
            self.mode = if word.eq_ignore_ascii_case(b"INSERT") || word.eq_ignore_ascii_case(b"REPLACE") {
                self.depth = 0;
                self.head_table.clear();
                Mode::Head
            } else if word.eq_ignore_ascii_case(b"DELIMITER") {
                Mode::Delimiter
            } else {
                Mode::Other
            };
            // A long word is passed on in part only, so that pieces of any size give the same.
            return Step::To(if self.mode == Mode::Other { at + 1 } else { end });
        }
        let step = self.comment_or_quote(buf, at, last);
        let is_comment =
            self.versioned > 0 || matches!(self.inside, Inside::LineComment | Inside::BlockComment);
        if matches!(step, Step::To(_)) && !is_comment {
            self.mode = Mode::Other;
        }
        step
    }

    /// From `INSERT` to `VALUES`.
    fn head(&mut self, buf: &[u8], at: usize, last: bool) -> Step {
        match buf[at] {
            b'`' | b'"' => match quoted_name(buf, at) {
                Some((end, name)) if end - at <= MAX_NAME => {
                    if self.depth == 0 {
                        self.head_table = name;
                    }
                    Step::To(end)
                }
                None if !last && buf.len() - at <= MAX_NAME => Step::Wait,
                _ => {
                    self.mode = Mode::Other;
                    Step::To(at)
                }
            },
            b'(' => {
                self.depth = self.depth.saturating_add(1);
                Step::To(at + 1)
            }
            b')' => {
                self.depth = self.depth.saturating_sub(1);
                Step::To(at + 1)
            }
            byte if is_word(byte) => {
                let end = word_end(buf, at);
                if end - at > MAX_NAME {
                    self.mode = Mode::Other;
                    return Step::To(at);
                }
                if end == buf.len() && !last { Step::Wait } else { self.head_word(&buf[at..end], end) }
            }
            b'\'' => {
                self.mode = Mode::Other; // no dump writes a text before its rows
                Step::To(at)
            }
            _ => self.comment_or_quote(buf, at, last),
        }
    }

    fn head_word(&mut self, word: &[u8], end: usize) -> Step {
        let is =
            |keywords: &[&str]| keywords.iter().any(|keyword| word.eq_ignore_ascii_case(keyword.as_bytes()));
        if self.depth > 0 || is(&["INTO", "IGNORE", "LOW_PRIORITY", "HIGH_PRIORITY", "DELAYED", "PARTITION"])
        {
            return Step::To(end);
        }
        if is(&["VALUES", "VALUE"]) {
            self.mode = Mode::Rows;
            if self.place.table != self.head_table {
                self.place = Place { table: self.head_table.clone(), row: 0, column: 0 };
            }
            return Step::Rows(end);
        }
        if is(&["SELECT", "SET", "WITH", "TABLE"]) {
            self.mode = Mode::Other;
        } else {
            self.head_table = String::from_utf8_lossy(word).into_owned();
        }
        Step::To(end)
    }

    /// Among rows: the way from value to value is the hot path of a dump.
    fn rows(&mut self, buf: &[u8], start: usize, last: bool) -> Step {
        let mut at = start;
        while let Some(byte) = buf.get(at) {
            if !self.special[usize::from(*byte)] {
                at += 1;
                continue;
            }
            if at > start && *byte == self.delimiter[0] {
                break;
            }
            match byte {
                b'\'' | b'"' => return Step::Text(at), // no row of a dump names a column, so `"` quotes a text
                b',' => self.place.column += u64::from(self.depth == 1),
                b'(' => {
                    self.depth += 1;
                    if self.depth == 1 {
                        self.place.row += 1;
                        self.place.column = 1;
                    }
                }
                b')' => self.depth = self.depth.saturating_sub(1),
                b'0' => match buf.get(at + 1) {
                    None if !last => return wait_or_go(start, at),
                    Some(b'x') if !is_word(if at == 0 { self.previous } else { buf[at - 1] }) => {
                        return Step::Hex(at);
                    }
                    _ => {}
                },
                _ if at > start => break,
                _ => return self.comment_or_quote(buf, at, last),
            }
            at += 1;
        }
        Step::To(at)
    }

    /// Anywhere else: only quotes, comments and the delimiter matter.
    fn other(&mut self, buf: &[u8], at: usize, last: bool) -> Step {
        match buf[at..].iter().position(|byte| self.special[usize::from(*byte)]) {
            Some(0) => self.comment_or_quote(buf, at, last),
            Some(plain) => Step::To(at + plain),
            None => Step::To(buf.len()),
        }
    }

    pub(super) fn set_delimiter(&mut self, delimiter: &[u8]) {
        self.delimiter = delimiter.to_vec();
        self.special = [false; 256];
        for byte in b"'\"`#-/*(),0".iter().chain(&delimiter[..1]) {
            self.special[usize::from(*byte)] = true;
        }
    }
}

fn spaces(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

fn word_end(buf: &[u8], at: usize) -> usize {
    at + buf[at..].iter().take_while(|byte| is_word(**byte)).count()
}
