//! The head of a CREATE or ALTER DATABASE statement: which bytes of it belong to the server the dump came from. Pure.

/// A token of SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A bare word.
    Word(&'a [u8]),
    /// A literal or quoted name.
    Quoted,
    /// One other character.
    Symbol(u8),
}

/// Words between CREATE and its object that are not the object.
const BETWEEN: [&[u8]; 9] =
    [b"or", b"replace", b"algorithm", b"undefined", b"merge", b"temptable", b"sql", b"invoker", b"aggregate"];

/// A head as far as it was read.
#[derive(Debug)]
pub(super) struct Head {
    bytes: Vec<u8>,
    token_start: usize,
    expect: Expect,
    /// What to leave out.
    cuts: Vec<(usize, usize)>,
}

/// What the next token may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// The first word itself.
    First,
    /// A word on the way to the object.
    Object,
    /// What follows SECURITY: its DEFINER names nobody.
    Security,
    /// `=` after DEFINER, whose clause starts here.
    Equals(usize),
    /// The definer.
    User(usize),
    /// `@`, a bracket, or what follows the clause, which ends at the second place.
    AfterUser(usize, usize),
    /// The host after `@`.
    Host(usize),
    /// `)` of `CURRENT_USER()`.
    Bracket(usize),
    /// DATABASE or SCHEMA after ALTER.
    Database,
    /// The schema's name or its first option.
    Schema,
}

/// What comes after a decided head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// A view.
    View,
    /// A trigger.
    Trigger,
    /// An event.
    Event,
    /// Anything else.
    Other,
}

impl After {
    fn of(token: Token<'_>) -> Self {
        match token {
            Token::Word(word) if word.eq_ignore_ascii_case(b"view") => Self::View,
            Token::Word(word) if word.eq_ignore_ascii_case(b"trigger") => Self::Trigger,
            Token::Word(word) if word.eq_ignore_ascii_case(b"event") => Self::Event,
            _ => Self::Other,
        }
    }
}

impl Head {
    /// A head, if a statement that begins with this word has one that matters.
    pub(super) fn begin(word: &[u8]) -> Option<Self> {
        let relevant = word.eq_ignore_ascii_case(b"create") || word.eq_ignore_ascii_case(b"alter");
        relevant.then(|| Self { bytes: Vec::new(), token_start: 0, expect: Expect::First, cuts: Vec::new() })
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes bytes as they come.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// A token begins with the next byte.
    pub(super) fn token_begins(&mut self) {
        self.token_start = self.bytes.len();
    }

    /// A token ended with the last byte. `Some`: the head is decided, and this is what comes after it.
    pub(super) fn token_ends(&mut self, token: Token<'_>) -> Option<After> {
        let (start, end) = (self.token_start, self.bytes.len());
        let is = |word: &[u8]| matches!(token, Token::Word(w) if w.eq_ignore_ascii_case(word));
        self.expect = match self.expect {
            Expect::First if is(b"alter") => Expect::Database,
            Expect::First => Expect::Object,
            Expect::Object if is(b"definer") => Expect::Equals(start),
            Expect::Object if is(b"security") => Expect::Security,
            Expect::Object if token == Token::Symbol(b'=') || BETWEEN.iter().any(|word| is(word)) => {
                Expect::Object
            }
            Expect::Object => return Some(After::of(token)),
            Expect::Security => Expect::Object,
            Expect::Equals(from) if token == Token::Symbol(b'=') => Expect::User(from),
            Expect::Equals(_) => return Some(After::of(token)),
            Expect::User(from) => match token {
                Token::Word(_) | Token::Quoted => Expect::AfterUser(from, end),
                Token::Symbol(_) => return Some(After::of(token)),
            },
            Expect::AfterUser(from, _) if token == Token::Symbol(b'@') => Expect::Host(from),
            Expect::AfterUser(from, _) if token == Token::Symbol(b'(') => Expect::Bracket(from),
            Expect::AfterUser(from, to) => {
                self.cuts.push((from, to));
                self.expect = Expect::Object;
                return self.token_ends(token);
            }
            Expect::Host(from) | Expect::Bracket(from) => {
                self.cuts.push((from, end));
                Expect::Object
            }
            Expect::Database if is(b"database") || is(b"schema") => Expect::Schema,
            Expect::Database => return Some(After::of(token)),
            Expect::Schema => {
                let options: [&[u8]; 7] =
                    [b"character", b"charset", b"collate", b"default", b"comment", b"encryption", b"read"];
                if token == Token::Quoted
                    || matches!(token, Token::Word(_)) && !options.iter().any(|word| is(word))
                {
                    self.cuts.push((start, end));
                }
                return Some(After::of(token));
            }
        };
        None
    }

    /// The bytes without what is left out.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        let mut bytes = self.bytes;
        for (from, to) in self.cuts.into_iter().rev() {
            bytes.drain(from..to);
        }
        bytes
    }
}
