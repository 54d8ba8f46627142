//! Takes the schema's own name out of a view or trigger, where servers print it: `` `shop`.`t`.`c` `` of a view whose definer is
//! gone, `` `shop`.`f`(..) `` of a view that calls a function, `` `shop`.`t` `` where a trigger was made under its full name.
//! Otherwise the copy would read from the schema that it was made of. Never touches names that may be an alias.

use super::sql_head::Token;

/// Most bytes held back: three names, or one literal.
pub(super) const MAX_HELD: usize = 16 << 20;

/// The kind of statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The rest of a view: canonical text of the server.
    View,
    /// A trigger up to FOR EACH ROW: text as somebody wrote it.
    Trigger,
}

/// A statement in which the schema's name is looked for.
#[derive(Debug)]
pub(super) struct Unqualify {
    kind: Kind,
    schema: Vec<u8>,
    held: Vec<u8>,
    token_start: usize,
    stage: Stage,
}

/// How much of a qualified name is held. Numbers are places in `held`.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Nothing,
    Schema { start: usize },
    Dot { start: usize, end: usize },
    Name { start: usize, end: usize },
}

impl Unqualify {
    pub(super) fn new(kind: Kind, schema: &str) -> Self {
        Self {
            kind,
            schema: schema.as_bytes().to_vec(),
            held: Vec::new(),
            token_start: 0,
            stage: Stage::Nothing,
        }
    }

    /// Takes bytes as they come.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// Bytes held back.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// A token begins with the next byte.
    pub(super) fn token_begins(&mut self) {
        self.token_start = self.held.len();
    }

    /// A token ended with the last byte; passes on what is decided. `true`: nothing more is to be looked for.
    pub(super) fn token_ends(&mut self, token: Token<'_>, out: &mut Vec<u8>) -> bool {
        let end = self.held.len();
        let dot = token == Token::Symbol(b'.');
        self.stage = match self.stage {
            Stage::Schema { start } if dot => Stage::Dot { start, end },
            Stage::Dot { start, end } if !matches!(token, Token::Symbol(_)) => match self.kind {
                Kind::View => Stage::Name { start, end },
                Kind::Trigger => self.cut(start, end),
            },
            Stage::Name { start, end } if dot || token == Token::Symbol(b'(') => self.cut(start, end),
            Stage::Nothing | Stage::Schema { .. } | Stage::Dot { .. } | Stage::Name { .. } => {
                out.extend(self.held.drain(..self.token_start));
                self.token_start = 0;
                if self.is_schema(token) { Stage::Schema { start: 0 } } else { Stage::Nothing }
            }
        };
        if matches!(self.stage, Stage::Nothing) {
            out.append(&mut self.held);
        }
        self.kind == Kind::Trigger && matches!(token, Token::Word(word) if word.eq_ignore_ascii_case(b"for"))
    }

    /// What is held when the statement ends.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.held
    }

    fn cut(&mut self, start: usize, end: usize) -> Stage {
        self.held.drain(start..end);
        Stage::Nothing
    }

    fn is_schema(&self, token: Token<'_>) -> bool {
        match token {
            Token::Quoted => {
                self.held.strip_prefix(b"`").and_then(|rest| rest.strip_suffix(b"`")) == Some(&self.schema)
            }
            Token::Word(word) => self.kind == Kind::Trigger && word == self.schema,
            Token::Symbol(_) => false,
        }
    }
}
