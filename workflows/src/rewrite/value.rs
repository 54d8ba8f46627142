//! Rewrites one value: decides whether it is serialised data or text, and goes into what is packed in each other. Never changes a value
//! that it does not understand to the last byte.

use memchr::memchr;

use super::matcher::Matches;
use super::php::{self, Counted, Event, Flaw, Layout, Reader, Units};
use super::php_forms;
use super::{Reason, Rewrite};

/// Most packings in each other (serialised data in a string of serialised data in JSON ...). Two are common, three were seen; every level
/// costs another pass over its bytes, so a bound keeps hostile data linear.
const MAX_LEVELS: u8 = 8;

/// What became of a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValueOutcome {
    /// The new value, when it changed.
    pub changed: Option<Vec<u8>>,
    /// Names rewritten in it.
    pub replacements: u64,
    /// Whether serialised data was rewritten.
    pub serialised: bool,
    /// Keys of arrays that hold an old name and keep it.
    pub keys_left: u64,
    /// Why something in it that holds an old name was left as it is (the first reason).
    pub left_alone: Option<Reason>,
}

/// The value would grow beyond its bound.
pub(super) struct TooLarge;

/// Counts while a value is rewritten.
#[derive(Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) replacements: u64,
    pub(super) serialised: bool,
    pub(super) keys_left: u64,
    pub(super) left_alone: Option<Reason>,
}

/// The rewrite of one value.
pub(super) struct Job<'r> {
    pub(super) rewrite: &'r Rewrite,
    pub(super) tally: Tally,
}

pub(super) fn rewrite(rewrite: &Rewrite, value: &[u8]) -> ValueOutcome {
    if !rewrite.anchors.in_text(value) {
        return ValueOutcome::default();
    }
    let mut job = Job { rewrite, tally: Tally::default() };
    let mut out = Vec::with_capacity(value.len() + 64);
    match job.value(value, 0, &mut out) {
        Ok(()) => ValueOutcome {
            changed: (job.tally.replacements > 0).then_some(out),
            replacements: job.tally.replacements,
            serialised: job.tally.serialised,
            keys_left: job.tally.keys_left,
            left_alone: job.tally.left_alone,
        },
        Err(TooLarge) => ValueOutcome { left_alone: Some(Reason::TooLarge), ..ValueOutcome::default() },
    }
}

impl Job<'_> {
    /// Appends the value, rewritten where it can be.
    pub(super) fn value(&mut self, value: &[u8], level: u8, out: &mut Vec<u8>) -> Result<(), TooLarge> {
        if level > MAX_LEVELS {
            self.leave(value, Reason::TooDeep, out);
            return Ok(());
        }
        // Applications store serialised data with a line break behind it and trim it before use (WordPress does).
        let trimmed = value.trim_ascii();
        let layout = if php_forms::looks_serialised(trimmed) {
            Layout::Single
        } else if php_forms::looks_like_session(trimmed) {
            Layout::Session
        } else {
            return self.text(value, level, out);
        };
        match units_of(trimmed, layout) {
            Ok(units) => {
                let start = value.len() - value.trim_ascii_start().len();
                out.extend_from_slice(&value[..start]);
                self.serialised(trimmed, units, layout, level, out)?;
                out.extend_from_slice(&value[start + trimmed.len()..]);
            }
            Err(Flaw::Invalid) => self.leave(value, Reason::InvalidSerialised, out),
            Err(Flaw::TooDeep) => self.leave(value, Reason::TooDeep, out),
        }
        Ok(())
    }

    /// Appends serialised data that was checked before, with the strings in it rewritten and their lengths corrected.
    fn serialised(
        &mut self,
        text: &[u8],
        units: Units,
        layout: Layout,
        level: u8,
        out: &mut Vec<u8>,
    ) -> Result<(), TooLarge> {
        let mut anchors = self.rewrite.anchors.cursor(text);
        let mut reader = Reader::new(text, units, layout);
        let mut copied = 0;
        let mut new = Vec::new();
        // The check went through, so the reader meets its end; were it to fail, the rest is copied and nothing is lost.
        while let Ok(event) = reader.next() {
            let (counted, escaped) = match event {
                Event::End => break,
                Event::Key(key) => {
                    let has_name = anchors.next(key.content.start) < key.content.end
                        && self.has_name(&text[key.content]);
                    self.tally.keys_left += u64::from(has_name);
                    continue;
                }
                Event::Escaped(counted) => (counted, true),
                Event::Text(counted) | Event::Custom(counted) => (counted, false),
            };
            if !escaped && anchors.next(counted.content.start) >= counted.content.end {
                continue;
            }
            let before = self.tally.replacements;
            new.clear();
            let content = &text[counted.content.clone()];
            if escaped {
                self.value(&php_forms::unescape(content), level + 1, &mut new)?;
            } else if text[counted.letter] == b'C' {
                self.custom(content, units, level + 1, &mut new)?;
            } else {
                self.value(content, level + 1, &mut new)?;
            }
            if self.tally.replacements == before {
                continue;
            }
            self.tally.serialised = true;
            copied = splice(text, copied, &counted, escaped, units, &new, out);
            self.check_size(out)?;
        }
        out.extend_from_slice(&text[copied..]);
        Ok(())
    }

    /// The inside of an object that serialises itself: rewritten when all of it reads as serialised data.
    fn custom(&mut self, content: &[u8], units: Units, level: u8, out: &mut Vec<u8>) -> Result<(), TooLarge> {
        if level > MAX_LEVELS {
            self.leave(content, Reason::TooDeep, out);
            return Ok(());
        }
        match php::check(content, units, Layout::Custom) {
            Ok(()) => self.serialised(content, units, Layout::Custom, level, out),
            Err(Flaw::Invalid) => {
                self.leave(content, Reason::Opaque, out);
                Ok(())
            }
            Err(Flaw::TooDeep) => {
                self.leave(content, Reason::TooDeep, out);
                Ok(())
            }
        }
    }

    /// Appends a text as it is; that is worth a note only when an old name is in it.
    pub(super) fn leave(&mut self, text: &[u8], reason: Reason, out: &mut Vec<u8>) {
        if self.has_name(text) {
            self.tally.left_alone.get_or_insert(reason);
        }
        out.extend_from_slice(text);
    }

    /// A value may come out twice as long as the longest that is taken in; more would be refused by the server it goes to anyway.
    pub(super) fn check_size(&self, out: &[u8]) -> Result<(), TooLarge> {
        if out.len() / 2 > self.rewrite.value_limit { Err(TooLarge) } else { Ok(()) }
    }

    fn has_name(&self, text: &[u8]) -> bool {
        let mut matches = Matches::new(&self.rewrite.patterns, text);
        std::iter::from_fn(|| matches.next()).any(|found| self.rewrite.patterns[found.pattern].changes())
    }
}

/// Which units the lengths in this text count, if they are right in any.
fn units_of(text: &[u8], layout: Layout) -> Result<Units, Flaw> {
    match php::check(text, Units::Bytes, layout) {
        Ok(()) => Ok(Units::Bytes),
        Err(Flaw::Invalid) if !text.is_ascii() => {
            php::check(text, Units::Chars, layout).map(|()| Units::Chars)
        }
        Err(flaw) => Err(flaw),
    }
}

/// Copies up to a counted stretch and writes its new content with its new length. Returns up to where `text` is dealt with.
fn splice(
    text: &[u8],
    copied: usize,
    counted: &Counted,
    escaped: bool,
    units: Units,
    new: &[u8],
    out: &mut Vec<u8>,
) -> usize {
    out.extend_from_slice(&text[copied..counted.letter]);
    let letter = if escaped { b's' } else { text[counted.letter] };
    out.push(letter);
    out.extend_from_slice(&text[counted.letter + 1..counted.digits.start]);
    out.extend_from_slice(units.count(new).to_string().as_bytes());
    out.extend_from_slice(&text[counted.digits.end..counted.content.start]);
    out.extend_from_slice(new);
    counted.content.end
}

/// Whether a text holds a NUL: binary data, whose own lengths and offsets nobody can correct.
pub(super) fn is_binary(text: &[u8]) -> bool {
    memchr(0, text).is_some()
}
