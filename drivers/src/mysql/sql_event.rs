//! The head of an event behind its name: whether it is switched on. An event that comes in is left off, in a way that tells it from
//! those that were off before: it would run here and where it comes from. Pure.

use super::sql_head::Token;

/// What stands for "on" until somebody switches it on: no server runs such an event, and nobody else writes this.
const OFF_FOR_NOW: &[u8] = b"DISABLE ON SLAVE";

/// An event up to its status.
#[derive(Debug, Default)]
pub(super) struct EventStatus {
    held: Vec<u8>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Before its schedule: a name may be any word.
    #[default]
    Name,
    /// In its schedule and what follows.
    Schedule,
    /// Behind DISABLE.
    Disabled,
    /// Behind DISABLE ON.
    DisabledOn,
}

impl EventStatus {
    /// Takes bytes as they come.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// Bytes held back.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// A token begins with the next byte: what was before it can be passed on.
    pub(super) fn token_begins(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
    }

    /// A token ended with the last byte. `true`: the status is decided, and the rest passes unchanged.
    pub(super) fn token_ends(&mut self, token: Token<'_>, out: &mut Vec<u8>) -> bool {
        let is = |word: &str| matches!(token, Token::Word(w) if w.eq_ignore_ascii_case(word.as_bytes()));
        match self.stage {
            Stage::Name if is("schedule") => self.stage = Stage::Schedule,
            Stage::Name => {}
            Stage::Schedule if is("enable") => {
                self.held.clear();
                out.extend_from_slice(OFF_FOR_NOW);
                return true;
            }
            Stage::Schedule if is("comment") || is("do") => {
                // Without a word it would be on.
                out.extend_from_slice(OFF_FOR_NOW);
                out.push(b' ');
                return true;
            }
            Stage::Schedule if is("disable") => self.stage = Stage::Disabled,
            Stage::Schedule => {}
            Stage::Disabled if is("on") => {
                self.held.clear();
                self.stage = Stage::DisabledOn;
            }
            Stage::Disabled => return true,
            Stage::DisabledOn => {
                // Left off by another server's replication: here it is off for good.
                self.held.clear();
                return true;
            }
        }
        false
    }

    /// What is held.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.held
    }
}
