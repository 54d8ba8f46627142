//! The small forms of PHP-serialised data: how it begins, its numbers, the widths of its strings. Knows nothing of what contains what.

use super::php::Units;

/// Whether a text claims to be serialised data that can hold strings.
pub(super) fn looks_serialised(text: &[u8]) -> bool {
    let [b'a' | b's' | b'S' | b'O' | b'C' | b'E', b':', rest @ ..] = text else { return false };
    let rest = rest.strip_prefix(b"+").unwrap_or(rest);
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    digits > 0 && matches!(rest[digits..], [b':', b'"' | b'{', ..])
}

/// Whether a text claims to be a PHP session: a name, `|`, and a serialised value.
pub(super) fn looks_like_session(text: &[u8]) -> bool {
    let Some(bar) = session_name(text) else { return false };
    let value = &text[bar + 1..];
    looks_serialised(value) || scalar_width(value).is_some()
}

/// Length of the session variable's name at the beginning of `text`, if there is one. Names are identifiers in practice.
pub(super) fn session_name(text: &[u8]) -> Option<usize> {
    const LONGEST: usize = 128;
    let bar = memchr::memchr(b'|', &text[..text.len().min(LONGEST)])?;
    let name = &text[..bar];
    let plain =
        name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':'));
    (bar > 0 && plain).then_some(bar)
}

/// Length of the `N;`, `b:1;`, `i:-5;`, `d:0.5;`, `r:3;` or `R:3;` that a text begins with, if it does.
pub(super) fn scalar_width(text: &[u8]) -> Option<usize> {
    /// No number that PHP writes is longer (309 digits before the point at most).
    const LONGEST: usize = 400;
    if text.starts_with(b"N;") {
        return Some(2);
    }
    let [letter, b':', rest @ ..] = text else { return None };
    let end = memchr::memchr(b';', &rest[..rest.len().min(LONGEST)])?;
    let number = &rest[..end];
    let fits = match letter {
        b'b' => matches!(number, b"0" | b"1"),
        b'i' => is_integer(number),
        b'd' => is_float(number),
        b'r' | b'R' => !number.is_empty() && number.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    fits.then_some(2 + end + 1)
}

/// Bytes that the first `length` characters take.
pub(super) fn char_width(text: &[u8], length: usize) -> Option<usize> {
    let mut starts = text.iter().enumerate().filter(|(_, byte)| **byte & 0xc0 != 0x80).map(|(at, _)| at);
    match starts.nth(length) {
        Some(at) => Some(at),
        None => (Units::Chars.count(text) == length).then_some(text.len()),
    }
}

/// Bytes that the first `length` bytes of an `S:` string take as written.
pub(super) fn escaped_width(text: &[u8], length: usize) -> Option<usize> {
    let mut at = 0;
    for _ in 0..length {
        at += match text.get(at..)? {
            [b'\\', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => 3,
            [b'\\', ..] | [] => return None,
            _ => 1,
        };
    }
    Some(at)
}

/// The bytes that an `S:` string stands for.
pub(super) fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        if let (b'\\', [high, low, tail @ ..]) = (first, tail)
            && let (Some(high), Some(low)) = (digit(high), digit(low))
        {
            out.push(high * 16 + low);
            rest = tail;
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

fn is_integer(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

fn is_float(text: &[u8]) -> bool {
    if matches!(text, b"NAN" | b"INF" | b"-INF") {
        return true;
    }
    let (mantissa, exponent) = match memchr::memchr2(b'e', b'E', text) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let mantissa = mantissa.strip_prefix(b"-").or(mantissa.strip_prefix(b"+")).unwrap_or(mantissa);
    let (whole, part) = match memchr::memchr(b'.', mantissa) {
        Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
        None => (mantissa, &[][..]),
    };
    let digits = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
    digits(whole) && digits(part) && !(whole.is_empty() && part.is_empty()) && exponent.is_none_or(is_integer)
}
