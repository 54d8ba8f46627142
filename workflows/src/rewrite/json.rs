//! JSON strings that hold serialised data: found, unpacked, and packed again in the style they were written in. Knows nothing else of JSON.

use std::fmt::Write as _;
use std::ops::Range;

use memchr::memchr2;

use super::php_forms::looks_serialised;

/// Walks through the strings of a JSON text whose content claims to be serialised data. Yields where their content is.
pub(super) struct PackedStrings<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> PackedStrings<'a> {
    /// Yields nothing for text that does not begin like JSON.
    pub(super) fn new(text: &'a [u8]) -> Self {
        let is_json = matches!(text.trim_ascii_start().first(), Some(b'{' | b'[' | b'"'));
        Self { text, at: if is_json { 0 } else { text.len() } }
    }
}

impl Iterator for PackedStrings<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        loop {
            let start = self.at + memchr::memchr(b'"', &self.text[self.at..])? + 1;
            let mut end = start;
            loop {
                end += memchr2(b'"', b'\\', &self.text[end..])?;
                if self.text[end] == b'"' {
                    break;
                }
                end = (end + 2).min(self.text.len());
            }
            self.at = end + 1;
            if claims(&self.text[start..end]) {
                return Some(start..end);
            }
        }
    }
}

/// `a:1:{`, `s:5:\"`
fn claims(content: &[u8]) -> bool {
    if content.get(1) != Some(&b':') {
        return false;
    }
    let head: Vec<u8> = content.iter().take(32).copied().filter(|byte| *byte != b'\\').collect();
    looks_serialised(&head)
        || (matches!(head.first(), Some(b's' | b'O' | b'C'))
            && memchr::memmem::find(&head, b":u0022").is_some())
}

/// What a JSON string stands for; `None` when an escape is none.
pub(super) fn decode(written: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(written.len());
    let mut rest = written;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let escape = &rest[at + 1..];
        let mut width = 1;
        match escape.first()? {
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'b' => out.push(0x08),
            b'f' => out.push(0x0c),
            same @ (b'"' | b'\\' | b'/') => out.push(*same),
            b'u' => {
                let first = unit(&escape[1..])?;
                width = 5;
                let second = escape[5..].strip_prefix(b"\\u").and_then(unit);
                let decoded = match (char::from_u32(first), second) {
                    (Some(one), _) => one,
                    (None, Some(second @ 0xdc00..0xe000)) => {
                        width = 11;
                        char::from_u32(0x1_0000 + ((first & 0x3ff) << 10) + (second & 0x3ff))?
                    }
                    (None, _) => return None,
                };
                out.extend_from_slice(decoded.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => return None,
        }
        rest = &escape[width..];
    }
    out.extend_from_slice(rest);
    Some(out)
}

fn unit(text: &[u8]) -> Option<u32> {
    let digits = text.get(..4).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Whether slashes are written as `\/` (not `\\/`, which is a backslash and a slash).
fn escapes_slashes(written: &[u8]) -> bool {
    let mut rest = written;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        if rest.get(at + 1) == Some(&b'/') {
            return true;
        }
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    false
}

/// Writes a JSON string's content, with slashes and characters outside ASCII escaped when `like` has them so.
pub(super) fn encode(text: &[u8], like: &[u8]) -> Vec<u8> {
    let slashes = escapes_slashes(like);
    let wide = like.is_ascii();
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    let mut raw = Vec::with_capacity(text.len() + text.len() / 8);
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '/' if slashes => out.push_str("\\/"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                escaped if escaped < ' ' || (wide && !escaped.is_ascii()) => {
                    for unit in escaped.encode_utf16(&mut [0; 2]) {
                        write!(out, "\\u{unit:04x}").unwrap_or_default(); // writing to a String cannot fail
                    }
                }
                plain => out.push(plain),
            }
        }
        raw.extend_from_slice(out.as_bytes());
        raw.extend_from_slice(chunk.invalid());
        out.clear();
    }
    raw
}
