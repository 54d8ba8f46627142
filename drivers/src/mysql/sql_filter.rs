//! Takes out of a dump, as it streams by, what belongs to the server it came from: DEFINER clauses, the schema's name in
//! ALTER DATABASE, views and triggers, the sandbox line of new clients, and comments between statements (they name schemas; the last line, which
//! says that the dump is whole, stays). Reads SQL as tokens, so that text inside literals and comments is never
//! touched, wherever the chunks are cut. On the way in, events are left off too. Never judges whether the SQL is right.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use kedge_workflows::ports::{PortError, PortResult};

use super::sql_event::EventStatus;
use super::sql_head::{After, Head, Token};
use super::sql_unqualify::{Kind, MAX_HELD, Unqualify};

/// Most bytes of a CREATE statement up to its object (`VIEW`, `TRIGGER` ..): tools write some hundred.
const MAX_HEAD: usize = 64 * 1024;
/// Longest delimiter that a DELIMITER line may set.
const MAX_DELIMITER: usize = 16;
/// Longest word: longer ones are cut, which is harmless because no word that matters is long.
const MAX_WORD: usize = 256;
/// Bytes that must be at hand before a token is begun, so that its kind can be told: the trailer's beginning is the longest.
const LOOKAHEAD: usize = 32;
/// First line that clients since MariaDB 10.5.25 write, and older ones cannot read.
const SANDBOX: [&[u8]; 2] = [b"/*M!999999\\- ", b"/*!999999\\- "];
/// The last line that mysqldump and mariadb-dump write when they got to the end.
const TRAILER: &[u8] = b"-- Dump completed";

/// The filter. Feed it with [`SqlFilter::push`], end with [`SqlFilter::finish`].
#[derive(Debug)]
pub(super) struct SqlFilter {
    /// The schema that the dump is of, if that is known.
    schema: Option<String>,
    /// Whether events are left off.
    events_off: bool,
    /// Bytes not yet understood: the end of the last chunk.
    pending: Vec<u8>,
    out: Vec<u8>,
    mode: Mode,
    /// How many `/*! .. */` we are in.
    executable: u32,
    statement: Statement,
    delimiter: Vec<u8>,
    at_start: bool,
    trailer: bool,
    statement_bytes: u64,
    largest_statement: Arc<AtomicU64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Code,
    /// In a literal or quoted name that ends with this byte.
    Quoted(u8),
    LineComment,
    /// In a comment that is left out, but for its line break: line numbers in messages hold.
    DroppedComment,
    BlockComment,
    /// In the line that a client's DELIMITER command takes.
    Delimiter,
}

/// How far the statement is known.
#[derive(Debug)]
enum Statement {
    /// Nothing of it was seen.
    Start,
    /// It begins like one whose head we change; held back until decided.
    Head(Head),
    /// It may name its schema.
    Unqualify(Unqualify),
    /// An event whose status has not come yet.
    Event(EventStatus),
    /// It passes unchanged.
    Body,
}

impl SqlFilter {
    /// A filter for SQL from anywhere.
    pub(super) fn new() -> Self {
        Self {
            schema: None,
            events_off: false,
            pending: Vec::new(),
            out: Vec::new(),
            mode: Mode::Code,
            executable: 0,
            statement: Statement::Start,
            delimiter: b";".to_vec(),
            at_start: true,
            trailer: false,
            statement_bytes: 0,
            largest_statement: Arc::default(),
        }
    }

    /// A filter for a dump of this schema.
    pub(super) fn of_schema(schema: &str) -> Self {
        Self { schema: Some(schema.to_owned()), ..Self::new() }
    }

    /// The same, and events are left off, so that [`super::transfer::start_events`] finds those that were on.
    pub(super) fn events_off(mut self) -> Self {
        self.events_off = true;
        self
    }

    /// Takes a chunk; returns what can be passed on.
    ///
    /// # Errors
    /// `Refused` for a statement head or delimiter beyond the bounds.
    pub(super) fn push(&mut self, chunk: &[u8]) -> PortResult<Bytes> {
        self.pending.extend_from_slice(chunk);
        self.work(false)?;
        Ok(Bytes::from(std::mem::take(&mut self.out)))
    }

    /// Ends the stream; returns the rest.
    ///
    /// # Errors
    /// As [`SqlFilter::push`].
    pub(super) fn finish(&mut self) -> PortResult<Bytes> {
        self.work(true)?;
        self.flush();
        Ok(Bytes::from(std::mem::take(&mut self.out)))
    }

    /// Whether what was seen so far ends with the trailer of a whole dump.
    pub(super) fn complete(&self) -> bool {
        self.trailer
            && self.pending.is_empty()
            && self.executable == 0
            && matches!(self.statement, Statement::Start)
            && matches!(self.mode, Mode::Code | Mode::LineComment | Mode::DroppedComment)
    }

    /// Keeps the bytes of the largest statement so far here, where they are seen while the stream is under way.
    pub(super) fn report_largest(mut self, largest: Arc<AtomicU64>) -> Self {
        self.largest_statement = largest;
        self
    }

    fn work(&mut self, end: bool) -> PortResult<()> {
        let input = std::mem::take(&mut self.pending);
        let mut at = 0;
        while at < input.len() {
            let rest = &input[at..];
            let used = self.step(rest, end)?;
            if used == 0 {
                break;
            }
            at += used;
        }
        self.pending = input[at..].to_vec();
        match &self.statement {
            Statement::Head(head) if head.len() > MAX_HEAD => {
                Err(refused("a CREATE statement in the SQL does not come to its object within 64 KiB"))
            }
            Statement::Unqualify(statement) if statement.held() > MAX_HELD => {
                Err(refused("a view or trigger in the SQL has a literal of more than 16 MiB"))
            }
            Statement::Event(event) if event.held() > MAX_HEAD => {
                Err(refused("an event in the SQL has a schedule of more than 64 KiB"))
            }
            _ => Ok(()),
        }
    }

    /// Understands the next piece of `rest`; 0 when more bytes are needed.
    fn step(&mut self, rest: &[u8], end: bool) -> PortResult<usize> {
        match self.mode {
            Mode::Quoted(quote) => Ok(self.quoted(rest, quote, end)),
            Mode::LineComment | Mode::DroppedComment => {
                let used = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
                if self.mode == Mode::LineComment {
                    self.emit(&rest[..used]);
                }
                if used < rest.len() {
                    self.mode = Mode::Code;
                    self.emit(b"\n");
                    return Ok(used + 1);
                }
                Ok(used)
            }
            Mode::BlockComment => Ok(self.block_comment(rest, end)),
            Mode::Delimiter => self.delimiter_line(rest, end),
            Mode::Code => {
                if rest.len() < LOOKAHEAD && !end {
                    return Ok(0);
                }
                self.code(rest, end)
            }
        }
    }

    fn quoted(&mut self, rest: &[u8], quote: u8, end: bool) -> usize {
        let found =
            if quote == b'`' { memchr::memchr(quote, rest) } else { memchr::memchr2(quote, b'\\', rest) };
        let Some(i) = found else {
            self.emit(rest);
            return rest.len();
        };
        if i + 1 == rest.len() && !end {
            // What follows decides: an escaped byte, a doubled quote, or the end.
            self.emit(&rest[..i]);
            return i;
        }
        if rest[i] == b'\\' || rest.get(i + 1) == Some(&quote) {
            let used = (i + 2).min(rest.len());
            self.emit(&rest[..used]);
            return used;
        }
        self.mode = Mode::Code;
        self.emit(&rest[..=i]);
        self.token_ends(Token::Quoted);
        i + 1
    }

    fn block_comment(&mut self, rest: &[u8], end: bool) -> usize {
        let mut from = 0;
        while let Some(i) = memchr::memchr(b'*', &rest[from..]).map(|i| from + i) {
            match rest.get(i + 1) {
                Some(b'/') => {
                    self.mode = Mode::Code;
                    self.emit(&rest[..i + 2]);
                    return i + 2;
                }
                Some(_) => from = i + 1,
                None if end => break,
                None => {
                    self.emit(&rest[..i]);
                    return i;
                }
            }
        }
        self.emit(rest);
        rest.len()
    }

    fn delimiter_line(&mut self, rest: &[u8], end: bool) -> PortResult<usize> {
        let Some(line_end) = memchr::memchr(b'\n', rest).or(end.then_some(rest.len())) else {
            if rest.len() > MAX_WORD {
                return Err(refused("a DELIMITER line in the SQL does not end"));
            }
            return Ok(0);
        };
        let word = rest[..line_end].trim_ascii();
        if word.is_empty() || word.len() > MAX_DELIMITER {
            return Err(refused("a DELIMITER line in the SQL names no delimiter of 1 to 16 characters"));
        }
        self.delimiter = word.to_vec();
        self.mode = Mode::Code;
        self.end_statement();
        self.emit(&rest[..line_end]);
        Ok(line_end.max(1).min(rest.len()))
    }

    fn code(&mut self, rest: &[u8], end: bool) -> PortResult<usize> {
        if self.at_start {
            self.at_start = false;
            if SANDBOX.iter().any(|line| rest.starts_with(line)) {
                // Its line stays, empty, so that line numbers in messages hold.
                return match memchr::memchr(b'\n', rest) {
                    Some(i) => Ok(i),
                    None if end => Ok(rest.len()),
                    None if rest.len() > MAX_WORD => Err(refused("the SQL's first line does not end")),
                    None => {
                        self.at_start = true;
                        Ok(0)
                    }
                };
            }
        }
        let first = rest[0];
        if self.executable == 0 && rest.starts_with(&self.delimiter) {
            let used = self.delimiter.len();
            self.flush();
            self.emit(&rest[..used]);
            self.end_statement();
            return Ok(used);
        }
        if first.is_ascii_whitespace() {
            let used = rest.iter().position(|b| !b.is_ascii_whitespace()).unwrap_or(rest.len());
            self.emit(&rest[..used]);
            return Ok(used);
        }
        if is_word(first) {
            return self.word(rest, end);
        }
        Ok(self.symbol(rest))
    }

    fn word(&mut self, rest: &[u8], end: bool) -> PortResult<usize> {
        let used = rest.iter().position(|b| !is_word(*b)).unwrap_or(rest.len()).min(MAX_WORD);
        if used == rest.len() && used < MAX_WORD && !end {
            return Ok(0);
        }
        let word = &rest[..used];
        if matches!(self.statement, Statement::Start) {
            self.trailer = false;
            if self.executable == 0 && word.eq_ignore_ascii_case(b"delimiter") {
                self.mode = Mode::Delimiter;
                self.emit(word);
                return Ok(used);
            }
            self.statement = Head::begin(word).map_or(Statement::Body, Statement::Head);
        }
        self.token_begins();
        self.emit(word);
        self.token_ends(Token::Word(word));
        Ok(used)
    }

    /// Comments, quotes and single characters.
    fn symbol(&mut self, rest: &[u8]) -> usize {
        let dashes = rest.starts_with(b"--")
            && rest.get(2).is_none_or(|b| b.is_ascii_whitespace() || b.is_ascii_control());
        if rest[0] == b'#' || dashes {
            let trailer = rest.starts_with(TRAILER);
            if matches!(self.statement, Statement::Start) {
                self.trailer |= trailer;
                if !trailer {
                    self.mode = Mode::DroppedComment;
                    return 1;
                }
            }
            self.mode = Mode::LineComment;
            return self.pass(&rest[..1]);
        }
        if let Some(used) = executable_comment(rest) {
            self.executable += 1;
            return self.pass(&rest[..used]);
        }
        if rest.starts_with(b"/*") {
            self.mode = Mode::BlockComment;
            return self.pass(&rest[..2]);
        }
        if self.executable > 0 && rest.starts_with(b"*/") {
            self.executable -= 1;
            return self.pass(&rest[..2]);
        }
        if matches!(self.statement, Statement::Start) {
            self.trailer = false;
            self.statement = Statement::Body;
        }
        self.token_begins();
        self.emit(&rest[..1]);
        if matches!(rest[0], b'\'' | b'"' | b'`') {
            self.mode = Mode::Quoted(rest[0]);
        } else {
            self.token_ends(Token::Symbol(rest[0]));
        }
        1
    }

    fn pass(&mut self, bytes: &[u8]) -> usize {
        self.emit(bytes);
        bytes.len()
    }

    fn emit(&mut self, bytes: &[u8]) {
        self.statement_bytes += bytes.len() as u64;
        self.largest_statement.fetch_max(self.statement_bytes, Ordering::Relaxed);
        match &mut self.statement {
            Statement::Head(head) => head.add(bytes),
            Statement::Unqualify(statement) => statement.add(bytes),
            Statement::Event(event) => event.add(bytes),
            Statement::Start | Statement::Body => self.out.extend_from_slice(bytes),
        }
    }

    fn token_begins(&mut self) {
        match &mut self.statement {
            Statement::Head(head) => head.token_begins(),
            Statement::Unqualify(statement) => statement.token_begins(),
            Statement::Event(event) => event.token_begins(&mut self.out),
            Statement::Start | Statement::Body => {}
        }
    }

    fn token_ends(&mut self, token: Token<'_>) {
        match &mut self.statement {
            Statement::Head(head) => {
                if let Some(after) = head.token_ends(token) {
                    self.flush();
                    self.statement = match (after, &self.schema) {
                        (After::View, Some(schema)) => {
                            Statement::Unqualify(Unqualify::new(Kind::View, schema))
                        }
                        (After::Trigger, Some(schema)) => {
                            Statement::Unqualify(Unqualify::new(Kind::Trigger, schema))
                        }
                        (After::Event, _) if self.events_off => Statement::Event(EventStatus::default()),
                        (After::View | After::Trigger | After::Event | After::Other, _) => Statement::Body,
                    };
                }
            }
            Statement::Unqualify(statement) => {
                if statement.token_ends(token, &mut self.out) {
                    self.flush();
                }
            }
            Statement::Event(event) => {
                if event.token_ends(token, &mut self.out) {
                    self.flush();
                }
            }
            Statement::Start | Statement::Body => {}
        }
    }

    /// Passes on what is held back of the statement; the rest of it passes unchanged.
    fn flush(&mut self) {
        match std::mem::replace(&mut self.statement, Statement::Body) {
            Statement::Head(head) => self.out.extend_from_slice(&head.into_bytes()),
            Statement::Unqualify(statement) => self.out.extend_from_slice(&statement.into_bytes()),
            Statement::Event(event) => self.out.extend_from_slice(&event.into_bytes()),
            other @ (Statement::Start | Statement::Body) => self.statement = other,
        }
    }

    fn end_statement(&mut self) {
        self.statement_bytes = 0;
        self.statement = Statement::Start;
    }
}

fn refused(what: &str) -> PortError {
    PortError::Refused(what.to_owned())
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// Length of `/*!50013` or `/*M!100100`, if that is what comes.
fn executable_comment(rest: &[u8]) -> Option<usize> {
    let open = [&b"/*!"[..], b"/*M!"].into_iter().find(|open| rest.starts_with(open))?.len();
    Some(open + rest[open..].iter().take(6).take_while(|b| b.is_ascii_digit()).count())
}

#[cfg(test)]
mod tests;
