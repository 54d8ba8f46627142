//! Rewrites text, with the two things in it that count bytes: serialised strings in the middle of text, and serialised data inside JSON.
//! Never changes text in which such data is packed in a way it cannot unpack.

use std::ops::Range;

use memchr::memmem;

use super::Reason;
use super::json;
use super::matcher::{Match, Matches};
use super::value::{Job, TooLarge, is_binary};

/// How often a text is gone over, on average, to find the ends of escaped strings in it: hostile text could ask for more.
const SEARCHES: usize = 16;

/// Most bytes that one byte is written with: a quote behind four levels of JSON.
const WIDEST: usize = 16;

/// A stretch of text that counts its bytes.
enum Island {
    /// `s:5:"hello";`, or (`json`) `s:5:\"hello\";`, where the length counts what the escapes stand for.
    Counted { digits: Range<usize>, content: Range<usize>, json: bool },
    /// The inside of a JSON string that is serialised data.
    Json { content: Range<usize> },
    /// The same as the first behind escapes that are not undone here.
    Escaped { area: Range<usize> },
}

impl Island {
    fn area(&self) -> &Range<usize> {
        match self {
            Self::Counted { content, .. } | Self::Json { content } => content,
            Self::Escaped { area } => area,
        }
    }
}

impl Job<'_> {
    /// Appends the text with all names in it rewritten.
    pub(super) fn text(&mut self, text: &[u8], level: u8, out: &mut Vec<u8>) -> Result<(), TooLarge> {
        let mut matches = Matches::new(&self.rewrite.patterns, text);
        let Some(first) = matches.next() else {
            out.extend_from_slice(text);
            return Ok(());
        };
        if is_binary(text) {
            self.leave(text, Reason::Binary, out);
            return Ok(());
        }
        let (start, tally) = (out.len(), self.tally);
        if !self.text_with_islands(text, level, first, matches, out)? {
            out.truncate(start);
            self.tally = tally;
            self.leave(text, Reason::EscapedSerialised, out);
        }
        Ok(())
    }

    /// `false`: a name is inside serialised data that cannot be unpacked.
    fn text_with_islands(
        &mut self,
        text: &[u8],
        level: u8,
        first: Match,
        mut matches: Matches<'_>,
        out: &mut Vec<u8>,
    ) -> Result<bool, TooLarge> {
        let mut islands = Islands::new(text);
        let mut island = islands.next();
        let mut next = Some(first);
        let mut copied = 0;
        while let Some(found) = next {
            while island.as_ref().is_some_and(|island| island.area().end <= found.start) {
                island = islands.next();
            }
            match &island {
                Some(Island::Escaped { area }) if area.start <= found.start => return Ok(false),
                Some(Island::Counted { digits, content, json }) if content.start <= found.start => {
                    if let Some((length, new)) = self.counted(&text[content.clone()], *json, level)? {
                        out.extend_from_slice(&text[copied..digits.start]);
                        out.extend_from_slice(length.to_string().as_bytes());
                        out.extend_from_slice(&text[digits.end..content.start]);
                        out.extend_from_slice(&new);
                    } else {
                        out.extend_from_slice(&text[copied..content.end]);
                    }
                    copied = content.end;
                }
                Some(Island::Json { content }) if content.start <= found.start => {
                    let new = self.counted(&text[content.clone()], true, level)?.map(|(_, new)| new);
                    out.extend_from_slice(&text[copied..content.start]);
                    out.extend_from_slice(new.as_deref().unwrap_or(&text[content.clone()]));
                    copied = content.end;
                }
                _ => {
                    out.extend_from_slice(&text[copied..found.start]);
                    self.tally.replacements += u64::from(matches.write(&found, out));
                    copied = found.end;
                }
            }
            self.check_size(out)?;
            matches.skip_to(copied);
            next = matches.next();
        }
        out.extend_from_slice(&text[copied..]);
        Ok(true)
    }

    /// The new content of an island and the length of what it stands for; `None` when it stays as it is.
    fn counted(
        &mut self,
        written: &[u8],
        json: bool,
        level: u8,
    ) -> Result<Option<(usize, Vec<u8>)>, TooLarge> {
        let before = self.tally.replacements;
        let mut new = Vec::with_capacity(written.len() + 64);
        if json {
            // What would not be written again as it was (`\u003c` for `<`, where HTML needs that) is not ours to write.
            let meant = json::decode(written).filter(|meant| json::encode(meant, written) == written);
            match meant {
                Some(meant) => self.value(&meant, level + 1, &mut new)?,
                None => self.leave(written, Reason::EscapedSerialised, &mut new),
            }
        } else {
            self.value(written, level + 1, &mut new)?;
        }
        if self.tally.replacements == before {
            return Ok(None);
        }
        self.tally.serialised = true;
        let length = new.len();
        Ok(Some((length, if json { json::encode(&new, written) } else { new })))
    }
}

/// Walks through the islands of a text, from left to right, none inside another.
struct Islands<'a> {
    text: &'a [u8],
    /// Where the search for tokens goes on.
    tokens_at: usize,
    token: Option<Island>,
    strings: json::PackedStrings<'a>,
    string: Option<Range<usize>>,
    /// Bytes that may still be spent on finding the ends of escaped strings.
    budget: usize,
}

impl<'a> Islands<'a> {
    fn new(text: &'a [u8]) -> Self {
        let mut strings = json::PackedStrings::new(text);
        let string = strings.next();
        let budget = text.len().saturating_mul(SEARCHES) + 4096;
        let mut islands = Self { text, tokens_at: 0, token: None, strings, string, budget };
        islands.token = islands.next_token();
        islands
    }

    /// The next `s:5:"` from `tokens_at` on that has to do with serialised data.
    fn next_token(&mut self) -> Option<Island> {
        while let Some(next) = memmem::find(&self.text[self.tokens_at..], b"s:") {
            let letter = self.tokens_at + next;
            self.tokens_at = letter + 2;
            let in_word = letter > 0
                && (self.text[letter - 1].is_ascii_alphanumeric() || self.text[letter - 1] == b'_');
            if !in_word && let Some(island) = token_at(self.text, letter + 2, &mut self.budget) {
                self.tokens_at = island.area().end;
                return Some(island);
            }
        }
        self.tokens_at = self.text.len();
        None
    }
}

impl Iterator for Islands<'_> {
    type Item = Island;

    fn next(&mut self) -> Option<Island> {
        let string_start = self.string.as_ref().map_or(usize::MAX, |content| content.start);
        if self.token.as_ref().is_some_and(|token| token.area().start < string_start) {
            let token = self.token.take()?;
            while self.string.as_ref().is_some_and(|content| content.start < token.area().end) {
                self.string = self.strings.next();
            }
            self.token = self.next_token();
            return Some(token);
        }
        let content = self.string.take()?;
        self.string = self.strings.next();
        if self.token.as_ref().is_some_and(|token| token.area().start < content.end) {
            self.tokens_at = content.end;
            self.token = self.next_token();
        }
        Some(Island::Json { content })
    }
}

/// What begins with these digits, behind `s:`.
fn token_at(text: &[u8], start: usize, budget: &mut usize) -> Option<Island> {
    /// More digits are no length.
    const MAX_DIGITS: usize = 10;
    let digits = text[start..].iter().take(MAX_DIGITS).take_while(|byte| byte.is_ascii_digit()).count();
    let digits = start..start + digits;
    let length: usize = std::str::from_utf8(&text[digits.clone()]).ok()?.parse().ok()?;
    let behind = text[digits.end..].strip_prefix(b":")?;
    let quote_at = digits.end + 1;
    if behind.first() == Some(&b'"') {
        let content = quote_at + 1..(quote_at + 1).checked_add(length)?;
        let closed = text.get(content.end..)?.starts_with(b"\";");
        return closed.then_some(Island::Counted { digits, content, json: false });
    }
    let slashes = behind.iter().take_while(|byte| **byte == b'\\').count();
    let quote = [&b"\""[..], b"u0022"]
        .into_iter()
        .find(|quote| slashes > 0 && behind[slashes..].starts_with(quote))?;
    let content_at = quote_at + slashes + quote.len();
    match escaped_end(text, content_at, length, slashes, quote, budget) {
        End::At(end) if slashes == 1 && quote == b"\"" => {
            Some(Island::Counted { digits, content: content_at..end, json: true })
        }
        End::At(end) => Some(Island::Escaped { area: content_at..end }),
        End::Nowhere => None,
        End::Unknown => Some(Island::Escaped {
            area: content_at..length.saturating_mul(WIDEST).saturating_add(content_at).min(text.len()),
        }),
    }
}

enum End {
    At(usize),
    /// It is no serialised string: nothing closes it where its length says.
    Nowhere,
    Unknown,
}

/// Where the string ends that stands for `length` bytes and was written as JSON as often as its quotes' backslashes tell.
fn escaped_end(
    text: &[u8],
    start: usize,
    length: usize,
    slashes: usize,
    quote: &[u8],
    budget: &mut usize,
) -> End {
    if !(slashes + 1).is_power_of_two() {
        return End::Unknown; // not JSON's escapes
    }
    let closing = [&vec![b'\\'; slashes], quote, b";"].concat();
    // Escapes only make it longer, so it cannot be closed before.
    let mut from = start.saturating_add(length);
    let limit = length.saturating_mul(WIDEST).saturating_add(start + closing.len()).min(text.len());
    while from < limit {
        let found = memmem::find(&text[from..limit], &closing).map(|found| from + found);
        *budget = budget.saturating_sub(found.unwrap_or(limit) - start);
        let Some(found) = found else { return End::Nowhere };
        if *budget == 0 {
            return End::Unknown;
        }
        from = found + 1;
        if found > start && text[found - 1] == b'\\' {
            continue; // a quote of something inside
        }
        let mut meant = Some(text[start..found].to_vec());
        for _ in 0..(slashes + 1).ilog2() {
            meant = meant.and_then(|written| json::decode(&written));
        }
        match meant {
            Some(meant) if meant.len() == length => return End::At(found),
            Some(meant) if meant.len() > length => return End::Nowhere,
            _ => {}
        }
    }
    End::Nowhere
}
