//! Rewrites the values in an SQL dump, piece by piece. Passes on every other byte as it came, also of input that is no SQL at all.

use std::sync::Arc;

use thiserror::Error;

use super::anchors::{AnchorCursor, NOWHERE};
use super::literal::{escape, hex_end, push_hex, string_end, unescape};
use super::sql_state::{Lexer, Step};
use super::value::{self, ValueOutcome};
use super::{LeftAlone, Reason, Report, Rewrite};

/// Room that is kept for the next piece's beginning; more is given back after a long value.
const KEPT_CAPACITY: usize = 1 << 20;

/// Longest name of a table in MySQL, in characters; a report must stay small whatever a dump says.
const MAX_TABLE_NAME: usize = 64;

/// Why a rewritten dump cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RewriteError {
    /// The dump is cut off.
    #[error(
        "the SQL dump ends inside {inside} (table {table:?}): it is cut off or is no dump of mysqldump or mariadb-dump; take it again"
    )]
    CutOff {
        /// In the middle of what.
        inside: &'static str,
        /// The last table whose rows were read.
        table: String,
    },
}

/// Takes a dump in pieces of any size and gives it back rewritten. The pieces' borders do not matter.
pub struct SqlRewriter {
    rewrite: Arc<Rewrite>,
    lexer: Lexer,
    open: Option<Open>,
    /// What was taken and not passed on: less than a statement's head, or one value within its bound.
    carry: Vec<u8>,
    /// Where in the dump the carry begins.
    base: u64,
    report: Report,
}

/// A value whose end was not seen yet. `scanned` counts from where it (or the rest of it) begins in the carry.
#[derive(Clone, Copy)]
enum Open {
    Text {
        scanned: usize,
        searched: usize,
        hit: bool,
    },
    Hex {
        scanned: usize,
    },
    /// Beyond the bound: passed on as it comes, only watched for anchors.
    LongText {
        quote: u8,
        scanned: usize,
        hit: bool,
        offset: u64,
    },
}

/// One run over a buffer.
struct Pass<'a> {
    buf: &'a [u8],
    at: usize,
    /// What lies before was written.
    copied: usize,
    last: bool,
    anchors: AnchorCursor<'a>,
    out: &'a mut Vec<u8>,
}

impl SqlRewriter {
    /// A rewriter at the beginning of a dump.
    #[must_use]
    pub fn new(rewrite: Arc<Rewrite>) -> Self {
        Self {
            rewrite,
            lexer: Lexer::new(),
            open: None,
            carry: Vec::new(),
            base: 0,
            report: Report::default(),
        }
    }

    /// Takes the next piece and appends what can be passed on.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        self.report.bytes_in += chunk.len() as u64;
        let before = out.len();
        if self.carry.is_empty() {
            let passed = self.run(chunk, false, out);
            self.carry.extend_from_slice(&chunk[passed..]);
        } else {
            let mut buf = std::mem::take(&mut self.carry);
            buf.extend_from_slice(chunk);
            let passed = self.run(&buf, false, out);
            buf.drain(..passed);
            if buf.len() < KEPT_CAPACITY {
                buf.shrink_to(KEPT_CAPACITY);
            }
            self.carry = buf;
        }
        self.report.bytes_out += (out.len() - before) as u64;
    }

    /// Appends what is left and tells what was done.
    ///
    /// # Errors
    /// When the dump ends in the middle of something. Everything was passed on nevertheless.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<Report, RewriteError> {
        let before = out.len();
        let buf = std::mem::take(&mut self.carry);
        self.run(&buf, true, out);
        self.report.bytes_out += (out.len() - before) as u64;
        let inside = if self.open.is_some() { Some("a value") } else { self.lexer.unfinished() };
        match inside {
            Some(inside) => {
                let table = self.lexer.place().table.chars().take(MAX_TABLE_NAME).collect();
                Err(RewriteError::CutOff { inside, table })
            }
            None => Ok(self.report),
        }
    }

    /// Reads `buf`; returns how much of it was dealt with (all of it when it is the last).
    fn run(&mut self, buf: &[u8], last: bool, out: &mut Vec<u8>) -> usize {
        let rewrite = Arc::clone(&self.rewrite);
        let anchors = rewrite.anchors.cursor(buf);
        let mut pass = Pass { buf, at: 0, copied: 0, last, anchors, out };
        while pass.at < buf.len() {
            if let Some(open) = self.open {
                match self.go_on(open, &mut pass) {
                    Some(next) => pass.at = next,
                    None => break,
                }
                continue;
            }
            match self.lexer.step(buf, pass.at, last) {
                Step::Wait => break,
                Step::To(next) => pass.at = next,
                Step::Rows(next) => {
                    pass.at = next;
                    if rewrite.skips(&self.lexer.place().table) {
                        self.lexer.pass_statement();
                    }
                }
                Step::Text(start) => {
                    pass.at = start;
                    self.open = Some(Open::Text { scanned: 1, searched: 0, hit: false });
                }
                Step::Hex(start) => {
                    pass.at = start;
                    self.open = Some(Open::Hex { scanned: 2 });
                }
            }
        }
        pass.out.extend_from_slice(&buf[pass.copied..pass.at]);
        if let Some(byte) = buf[..pass.at].last() {
            self.lexer.passed(*byte);
        }
        self.base += pass.at as u64;
        pass.at
    }

    /// Goes on with a value; returns up to where it is dealt with, or `None` when more bytes are needed.
    fn go_on(&mut self, open: Open, pass: &mut Pass<'_>) -> Option<usize> {
        match open {
            Open::Text { scanned, searched, hit } => self.text(scanned, searched, hit, pass),
            Open::Hex { scanned } => self.hex(scanned, pass),
            Open::LongText { quote, scanned, hit, offset } => {
                self.long_text(quote, scanned, hit, offset, pass)
            }
        }
    }

    fn text(&mut self, scanned: usize, searched: usize, hit: bool, pass: &mut Pass<'_>) -> Option<usize> {
        let (at, len) = (pass.at, pass.buf.len());
        let quote = pass.buf[at];
        let longest = self.rewrite.value_limit.saturating_add(2);
        match string_end(quote, pass.buf, at + scanned, pass.last) {
            Ok(end) => {
                self.open = None;
                self.report.values_seen += 1;
                if hit || pass.anchors.next(at + searched) < end {
                    if end - at > longest {
                        self.leave(Reason::TooLarge, self.base + at as u64);
                    } else {
                        self.rewrite_text(end, pass);
                    }
                }
                Some(end)
            }
            Err(_) if pass.last => Some(len),
            Err(resume) => {
                let hit = hit || pass.anchors.next(at + searched) != NOWHERE;
                let searched = (len - at).saturating_sub(self.rewrite.anchors.overlap()).max(searched);
                if len - at > longest {
                    self.open = Some(Open::LongText {
                        quote,
                        scanned: resume - at,
                        hit,
                        offset: self.base + at as u64,
                    });
                    return Some(at);
                }
                self.open = Some(Open::Text { scanned: resume - at, searched, hit });
                None
            }
        }
    }

    fn long_text(
        &mut self,
        quote: u8,
        scanned: usize,
        hit: bool,
        offset: u64,
        pass: &mut Pass<'_>,
    ) -> Option<usize> {
        let (at, len) = (pass.at, pass.buf.len());
        match string_end(quote, pass.buf, at + scanned, pass.last) {
            Ok(end) => {
                self.open = None;
                self.report.values_seen += 1;
                if hit || pass.anchors.next(at) < end {
                    self.leave(Reason::TooLarge, offset);
                }
                Some(end)
            }
            Err(_) if pass.last => Some(len),
            Err(resume) => {
                let hit = hit || pass.anchors.next(at) != NOWHERE;
                let passed = resume.min(len - self.rewrite.anchors.overlap().min(len - at));
                self.open = Some(Open::LongText { quote, scanned: resume - passed, hit, offset });
                (passed > at).then_some(passed)
            }
        }
    }

    fn hex(&mut self, scanned: usize, pass: &mut Pass<'_>) -> Option<usize> {
        let at = pass.at;
        let longest = self.rewrite.value_limit.saturating_mul(2).saturating_add(2);
        let end = hex_end(pass.buf, at + scanned, pass.last);
        if end.unwrap_or_else(|end| end) - at > longest {
            self.open = None; // the rest reads like a number
            self.report.values_seen += 1;
            self.leave(Reason::TooLarge, self.base + at as u64);
            return Some(at + 2);
        }
        match end {
            Ok(end) => {
                self.open = None;
                self.report.values_seen += 1;
                self.rewrite_hex(end, pass);
                Some(end)
            }
            Err(end) => {
                self.open = Some(Open::Hex { scanned: end - at });
                None
            }
        }
    }

    fn rewrite_text(&mut self, end: usize, pass: &mut Pass<'_>) {
        let quote = pass.buf[pass.at];
        let outcome = value::rewrite(&self.rewrite, &unescape(quote, &pass.buf[pass.at + 1..end - 1]));
        if let Some(new) = self.note(outcome, pass.at) {
            pass.out.extend_from_slice(&pass.buf[pass.copied..=pass.at]);
            escape(&new, pass.out);
            pass.out.push(quote);
            pass.copied = end;
        }
    }

    /// `--hex-blob` writes what a column holds in hexadecimal, serialised data in blobs too: the same rules hold for what it stands for.
    fn rewrite_hex(&mut self, end: usize, pass: &mut Pass<'_>) {
        let digits = &pass.buf[pass.at + 2..end];
        let shortest = self.rewrite.anchors.shortest();
        if shortest == 0 || digits.len() / 2 < shortest {
            return;
        }
        let Ok(bytes) = hex::decode(digits) else { return }; // half a byte: a number
        let outcome = value::rewrite(&self.rewrite, &bytes);
        if let Some(new) = self.note(outcome, pass.at) {
            pass.out.extend_from_slice(&pass.buf[pass.copied..pass.at + 2]);
            push_hex(&new, pass.out);
            pass.copied = end;
        }
    }

    fn note(&mut self, outcome: ValueOutcome, at: usize) -> Option<Vec<u8>> {
        self.report.replacements += outcome.replacements;
        self.report.keys_left += outcome.keys_left;
        self.report.values_changed += u64::from(outcome.changed.is_some());
        self.report.serialised_changed += u64::from(outcome.serialised);
        if let Some(reason) = outcome.left_alone {
            self.leave(reason, self.base + at as u64);
        }
        outcome.changed
    }

    fn leave(&mut self, reason: Reason, offset: u64) {
        let place = self.lexer.place();
        self.report.leave(|| LeftAlone {
            table: place.table.chars().take(MAX_TABLE_NAME).collect(),
            row: place.row,
            column: place.column,
            offset,
            reason,
        });
    }
}
