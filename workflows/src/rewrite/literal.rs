//! SQL literals as `mysqldump` and `mariadb-dump` write them: quoted strings with backslash escapes, and hexadecimal ones.
//! Source: "String Literals" in MySQL's manual; the escapes written are those of `mysql_real_escape_string`.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

/// Where the string ends that goes on at `from` (behind its opening quote): `Ok` with the place behind its closing quote, `Err` with the
/// place where to go on when more bytes are there. `last`: there are none.
pub(super) fn string_end(quote: u8, buf: &[u8], from: usize, last: bool) -> Result<usize, usize> {
    let mut at = from;
    while let Some(next) = memchr2(quote, b'\\', &buf[at..]) {
        let mark = at + next;
        match (buf[mark], buf.get(mark + 1)) {
            (b'\\', Some(_)) => at = mark + 2,
            (b'\\', None) => return Err(mark),
            (_, Some(again)) if *again == quote => at = mark + 2,
            (_, None) if !last => return Err(mark),
            _ => return Ok(mark + 1),
        }
    }
    Err(buf.len())
}

/// What stands between the quotes, as the server reads it.
pub(super) fn unescape(quote: u8, raw: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr2(quote, b'\\', raw) else { return Cow::Borrowed(raw) };
    let mut out = Vec::with_capacity(raw.len());
    out.extend_from_slice(&raw[..first]);
    let mut at = first;
    while at < raw.len() {
        if let (b'\\', Some(escaped)) = (raw[at], raw.get(at + 1)) {
            match escaped {
                b'0' => out.push(0),
                b'b' => out.push(0x08),
                b'n' => out.push(b'\n'),
                b'r' => out.push(b'\r'),
                b't' => out.push(b'\t'),
                b'Z' => out.push(0x1a),
                b'%' | b'_' => out.extend_from_slice(&[b'\\', *escaped]), // kept with their backslash, for LIKE
                other => out.push(*other),
            }
        } else {
            out.push(raw[at]); // a quote, written twice
        }
        at = (at + 2).min(raw.len());
        let plain = memchr2(quote, b'\\', &raw[at..]).unwrap_or(raw.len() - at);
        out.extend_from_slice(&raw[at..at + plain]);
        at += plain;
    }
    Cow::Owned(out)
}

/// For each byte the letter behind the backslash that it is written with; 0 for those that stand for themselves.
const ESCAPES: [u8; 256] = {
    let mut letters = [0; 256];
    letters[0] = b'0';
    letters[b'\n' as usize] = b'n';
    letters[b'\r' as usize] = b'r';
    letters[0x1a] = b'Z';
    letters[b'\\' as usize] = b'\\';
    letters[b'\'' as usize] = b'\'';
    letters[b'"' as usize] = b'"';
    letters
};

/// Appends a text as it stands between quotes.
pub(super) fn escape(text: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len() + text.len() / 16);
    let mut rest = text;
    while let Some(plain) = rest.iter().position(|byte| ESCAPES[usize::from(*byte)] != 0) {
        out.extend_from_slice(&rest[..plain]);
        out.extend_from_slice(&[b'\\', ESCAPES[usize::from(rest[plain])]]);
        rest = &rest[plain + 1..];
    }
    out.extend_from_slice(rest);
}

/// Where the hexadecimal literal ends whose digits go on at `from`; `Err` as in [`string_end`].
pub(super) fn hex_end(buf: &[u8], from: usize, last: bool) -> Result<usize, usize> {
    match buf[from..].iter().position(|byte| !byte.is_ascii_hexdigit()) {
        Some(digits) => Ok(from + digits),
        None if last => Ok(buf.len()),
        None => Err(buf.len()),
    }
}

/// Appends bytes as the digits that dumps write.
pub(super) fn push_hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

/// Where a quoted name ends that begins at `start` with its quote: the place behind it, and the name.
pub(super) fn quoted_name(buf: &[u8], start: usize) -> Option<(usize, String)> {
    let quote = buf[start];
    let mut name = Vec::new();
    let mut at = start + 1;
    loop {
        let next = memchr(quote, &buf[at..])?;
        name.extend_from_slice(&buf[at..at + next]);
        at += next + 1;
        if *buf.get(at)? != quote {
            return Some((at, String::from_utf8_lossy(&name).into_owned()));
        }
        name.push(quote);
        at += 1;
    }
}
