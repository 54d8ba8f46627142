//! Reads PHP-serialised data strictly, as PHP's own `unserialize` would, and reports the strings in it one by one. Never writes, never
//! recurses, never allocates more than its stack of open containers.
//! Source of the format: `ext/standard/var_unserializer.re` of PHP 8.

use std::ops::Range;

use super::php_forms::{char_width, escaped_width, scalar_width, session_name};

/// Deepest nesting of arrays and objects: PHP's default `unserialize_max_depth`; deeper data does not load there either.
pub(super) const MAX_DEPTH: usize = 4096;

/// Why data is not what it seemed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Not serialised data, cut off, or with wrong lengths.
    Invalid,
    /// More than [`MAX_DEPTH`] containers in each other.
    TooDeep,
}

/// What the lengths count. A column in a single-byte character set (latin1) comes out of a dump as UTF-8: one character is one byte there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Units {
    Bytes,
    /// The text must be UTF-8.
    Chars,
}

impl Units {
    /// The length of a text in these units.
    pub(super) fn count(self, text: &[u8]) -> usize {
        match self {
            Self::Bytes => text.len(),
            Self::Chars => text.iter().filter(|byte| **byte & 0xc0 != 0x80).count(),
        }
    }
}

/// How values follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// One value, nothing else: `serialize()`.
    Single,
    /// `name|value` again and again: PHP's session format.
    Session,
    /// Values with `x:`, `m:`, `;`, `:` and `,` around them: the inside of `C:` as PHP's own classes write it, or one value.
    Custom,
}

/// A stretch with its length written before it.
#[derive(Clone, Debug)]
pub(super) struct Counted {
    /// The type letter.
    pub(super) letter: usize,
    /// The digits of the length.
    pub(super) digits: Range<usize>,
    /// What is counted.
    pub(super) content: Range<usize>,
}

/// What a reader meets.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A string that is a value.
    Text(Counted),
    /// The same in the form `S:`, with `\41` for bytes.
    Escaped(Counted),
    /// A string that is a key of an array.
    Key(Counted),
    /// The inside of an object that serialises itself (`C:`).
    Custom(Counted),
    /// The whole text was read.
    End,
}

struct Frame {
    /// Entries still to come.
    left: u64,
    object: bool,
}

enum Expect {
    Start,
    Value,
    Entry,
}

/// Reads one text.
pub(super) struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    units: Units,
    layout: Layout,
    stack: Vec<Frame>,
    expect: Expect,
    values: u64,
}

/// Whether a text is what it claims, to the last byte.
pub(super) fn check(text: &[u8], units: Units, layout: Layout) -> Result<(), Flaw> {
    if units == Units::Chars && std::str::from_utf8(text).is_err() {
        return Err(Flaw::Invalid);
    }
    let mut reader = Reader::new(text, units, layout);
    loop {
        match reader.next()? {
            Event::End => return Ok(()),
            Event::Text(_) | Event::Escaped(_) | Event::Key(_) | Event::Custom(_) => {}
        }
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a [u8], units: Units, layout: Layout) -> Self {
        Self { text, at: 0, units, layout, stack: Vec::new(), expect: Expect::Start, values: 0 }
    }

    /// The next string or custom object.
    pub(super) fn next(&mut self) -> Result<Event, Flaw> {
        loop {
            match self.expect {
                Expect::Start => {
                    if self.at_end()? {
                        return Ok(Event::End);
                    }
                    self.values += 1;
                    self.expect = Expect::Value;
                }
                Expect::Value => {
                    self.expect = Expect::Entry;
                    if let Some(event) = self.value()? {
                        return Ok(event);
                    }
                }
                Expect::Entry => {
                    if let Some(event) = self.entry()? {
                        return Ok(event);
                    }
                }
            }
        }
    }

    /// Between whole values: goes to the next one, or tells that there is none.
    fn at_end(&mut self) -> Result<bool, Flaw> {
        let done = |reader: &Self| reader.values > 0 && reader.at == reader.text.len();
        match self.layout {
            Layout::Single if self.values == 0 => Ok(false),
            Layout::Single => done(self).then_some(true).ok_or(Flaw::Invalid),
            Layout::Session => {
                if done(self) {
                    return Ok(true);
                }
                self.at += session_name(&self.text[self.at..]).ok_or(Flaw::Invalid)? + 1;
                Ok(false)
            }
            Layout::Custom => loop {
                match &self.text[self.at..] {
                    [b'x' | b'm', b':', ..] => self.at += 2,
                    [b';' | b':' | b',', ..] => self.at += 1,
                    _ => return Ok(done(self)),
                }
            },
        }
    }

    /// After a value: the next key, or the end of the container.
    fn entry(&mut self) -> Result<Option<Event>, Flaw> {
        let Some(frame) = self.stack.last_mut() else {
            self.expect = Expect::Start;
            return Ok(None);
        };
        if frame.left == 0 {
            self.stack.pop();
            self.literal(b"}")?;
            return Ok(None);
        }
        frame.left -= 1;
        let object = frame.object;
        self.expect = Expect::Value;
        match self.peek()? {
            b'i' => self.scalar().map(|()| None),
            b's' | b'S' => {
                let key = self.string()?;
                Ok((!object).then_some(Event::Key(key)))
            }
            _ => Err(Flaw::Invalid),
        }
    }

    fn value(&mut self) -> Result<Option<Event>, Flaw> {
        match self.peek()? {
            b's' => Ok(Some(Event::Text(self.string()?))),
            b'S' => Ok(Some(Event::Escaped(self.string()?))),
            b'a' => {
                self.literal(b"a:")?;
                self.open(false)?;
                Ok(None)
            }
            b'O' => {
                self.class_name()?;
                self.literal(b":")?;
                self.open(true)?;
                Ok(None)
            }
            b'C' => self.custom().map(Some),
            b'E' => self.case_of_enum().map(|()| None),
            _ => self.scalar().map(|()| None),
        }
    }

    /// `2:{`
    fn open(&mut self, object: bool) -> Result<(), Flaw> {
        let left = self.number()?;
        self.literal(b":{")?;
        if self.stack.len() >= MAX_DEPTH {
            return Err(Flaw::TooDeep);
        }
        self.stack.push(Frame { left, object });
        Ok(())
    }

    fn scalar(&mut self) -> Result<(), Flaw> {
        self.at += scalar_width(&self.text[self.at..]).ok_or(Flaw::Invalid)?;
        Ok(())
    }

    /// `s:5:"hello";`
    fn string(&mut self) -> Result<Counted, Flaw> {
        let counted = self.counted()?;
        self.literal(b"\";")?;
        Ok(counted)
    }

    /// `O:8:"stdClass"`
    fn class_name(&mut self) -> Result<(), Flaw> {
        let name = self.counted()?;
        self.literal(b"\"")?;
        let name = &self.text[name.content];
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'\\' | 0x7f..);
        if name.is_empty() || !name.iter().all(plain) { Err(Flaw::Invalid) } else { Ok(()) }
    }

    /// `C:11:"ArrayObject":21:{...}`
    fn custom(&mut self) -> Result<Event, Flaw> {
        let letter = self.at;
        self.class_name()?;
        self.literal(b":")?;
        let start = self.at;
        let length = self.number()?;
        let digits = start..self.at;
        self.literal(b":{")?;
        let content = self.take(length, false)?;
        self.literal(b"}")?;
        Ok(Event::Custom(Counted { letter, digits, content }))
    }

    /// `E:11:"Suit:Hearts";`
    fn case_of_enum(&mut self) -> Result<(), Flaw> {
        let name = self.counted()?;
        self.literal(b"\";")?;
        if memchr::memchr(b':', &self.text[name.content]).is_some() { Ok(()) } else { Err(Flaw::Invalid) }
    }

    /// A letter, a length and a quoted stretch of that length, without the closing quote.
    fn counted(&mut self) -> Result<Counted, Flaw> {
        let letter = self.at;
        let escaped = self.peek()? == b'S';
        self.at += 1;
        self.literal(b":")?;
        let start = self.at;
        let length = self.number()?;
        let digits = start..self.at;
        self.literal(b":\"")?;
        let content = self.take(length, escaped)?;
        Ok(Counted { letter, digits, content })
    }

    /// The next `length` units.
    fn take(&mut self, length: u64, escaped: bool) -> Result<Range<usize>, Flaw> {
        let start = self.at;
        let rest = &self.text[start..];
        let length = usize::try_from(length).map_err(|_| Flaw::Invalid)?;
        let width = match (self.units, escaped) {
            (Units::Bytes, false) => (length <= rest.len()).then_some(length),
            (Units::Bytes, true) => escaped_width(rest, length),
            (Units::Chars, true) => None, // never written together
            (Units::Chars, false) => char_width(rest, length),
        };
        self.at = start + width.ok_or(Flaw::Invalid)?;
        Ok(start..self.at)
    }

    fn number(&mut self) -> Result<u64, Flaw> {
        let start = self.at;
        let mut number = 0u64;
        while let Some(digit) = self.text.get(self.at).filter(|byte| byte.is_ascii_digit()) {
            number = number
                .checked_mul(10)
                .and_then(|n| n.checked_add(u64::from(digit - b'0')))
                .ok_or(Flaw::Invalid)?;
            self.at += 1;
        }
        if self.at == start { Err(Flaw::Invalid) } else { Ok(number) }
    }

    fn literal(&mut self, expected: &[u8]) -> Result<(), Flaw> {
        if !self.text[self.at..].starts_with(expected) {
            return Err(Flaw::Invalid);
        }
        self.at += expected.len();
        Ok(())
    }

    fn peek(&self) -> Result<u8, Flaw> {
        self.text.get(self.at).copied().ok_or(Flaw::Invalid)
    }
}
