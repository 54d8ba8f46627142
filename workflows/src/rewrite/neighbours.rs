//! What stands directly before and after a place in text, as a reader would see it: percent-encoding, JSON escapes and the HTML entity of
//! `@` are read as the character they stand for. Only looks, never changes.

/// Deepest repeated percent-encoding that is read (`%2F`, `%252F`, `%25252F`): a URL inside a URL inside a URL.
pub(super) const MAX_PERCENT_LEVELS: usize = 3;

/// Stands for any character that is not ASCII.
const WIDE: u8 = 0xff;

/// The character before `at`; `None` at the beginning. Characters outside ASCII are some byte of 0x80 or more.
pub(super) fn before(text: &[u8], at: usize) -> Option<u8> {
    let head = &text[..at];
    let last = *head.last()?;
    match head {
        [.., b'\\', b'n' | b'r' | b't' | b'b' | b'f'] => return Some(b'\n'),
        [.., b'\\', b'u', a, b, c, d] => {
            if let Some(seen) = code_unit([*a, *b, *c, *d]) {
                return Some(seen);
            }
        }
        _ => {}
    }
    if last == b';' && ends_with_at_entity(head) {
        return Some(b'@');
    }
    Some(percent_before(head).unwrap_or(last))
}

/// The character at `at` and the bytes it takes; `None` at the end.
pub(super) fn after(text: &[u8], at: usize) -> Option<(u8, usize)> {
    let rest = &text[at..];
    let first = *rest.first()?;
    match first {
        b'%' => {
            let mut skipped = 1;
            for _ in 0..MAX_PERCENT_LEVELS {
                if let [high, low, ..] = rest[skipped..]
                    && (high, low) != (b'2', b'5')
                {
                    return Some(ascii_of(high, low).map_or((first, 1), |byte| (byte, skipped + 2)));
                }
                skipped += 2;
                if skipped > rest.len() {
                    break;
                }
            }
            Some((first, 1))
        }
        b'\\' => {
            let slashes = rest.iter().take_while(|byte| **byte == b'\\').count();
            if let [b'u', a, b, c, d, ..] = rest[slashes..]
                && let Some(seen) = code_unit([a, b, c, d])
            {
                return Some((seen, slashes + 5));
            }
            Some((first, 1))
        }
        _ => Some((first, 1)),
    }
}

/// Whether an odd number of backslashes stands before `at`: its character is the second half of an escape.
pub(super) fn is_escaped(text: &[u8], at: usize) -> bool {
    text[..at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// `%2F`, `%252F` at the end of `head`, as the ASCII character meant. Bytes of 0x80 or more are no separators: `%be` may be text.
fn percent_before(head: &[u8]) -> Option<u8> {
    let [front @ .., high, low] = head else { return None };
    let byte = ascii_of(*high, *low)?;
    let mut front = front;
    for _ in 0..MAX_PERCENT_LEVELS {
        match front {
            [.., b'%'] => return Some(byte),
            [rest @ .., b'2', b'5'] => front = rest,
            _ => return None,
        }
    }
    None
}

fn ascii_of(high: u8, low: u8) -> Option<u8> {
    let byte = hex(high)? * 16 + hex(low)?;
    byte.is_ascii().then_some(byte)
}

fn code_unit(digits: [u8; 4]) -> Option<u8> {
    let mut code = 0u16;
    for digit in digits {
        code = code * 16 + u16::from(hex(digit)?);
    }
    Some(u8::try_from(code).ok().filter(u8::is_ascii).unwrap_or(WIDE))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// `&#64;`, `&#064;`, `&#x40;`, `&commat;`: how applications hide mail addresses from robots.
fn ends_with_at_entity(head: &[u8]) -> bool {
    const LONGEST: usize = "&#x00040;".len();
    let tail = &head[head.len().saturating_sub(LONGEST)..head.len() - 1];
    let Some(start) = memchr::memrchr(b'&', tail) else { return false };
    let name = &tail[start + 1..];
    if name == b"commat" {
        return true;
    }
    let zeros = |digits: &[u8], value: &[u8]| {
        digits.strip_suffix(value).is_some_and(|front| front.iter().all(|byte| *byte == b'0'))
    };
    match name {
        [b'#', b'x' | b'X', digits @ ..] => zeros(digits, b"40"),
        [b'#', digits @ ..] => zeros(digits, b"64"),
        _ => false,
    }
}
