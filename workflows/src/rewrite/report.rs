//! What a rewrite did and what it left. Never holds a value or a part of one.

use serde::{Deserialize, Serialize};

/// Most places that are listed one by one: a report fits into a value of the journal (4 KiB), and nobody reads more; the rest is counted.
pub const MAX_LISTED: usize = 20;

/// Figures of one dump.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Literals (`'...'` and `0x...`) in rows.
    pub values_seen: u64,
    /// Literals that came out different.
    pub values_changed: u64,
    /// Of these, those that are or hold serialised data whose lengths were corrected.
    pub serialised_changed: u64,
    /// Names rewritten.
    pub replacements: u64,
    /// Keys of serialised arrays that hold an old name and keep it.
    pub keys_left: u64,
    /// Values with an old name that was left because rewriting it would break them (or might: values beyond the bound).
    pub left_alone: u64,
    /// The first [`MAX_LISTED`] of these.
    pub left_alone_list: Vec<LeftAlone>,
    /// Bytes taken in.
    pub bytes_in: u64,
    /// Bytes passed on.
    pub bytes_out: u64,
}

/// Where a value was left alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftAlone {
    /// The table.
    pub table: String,
    /// Which of its rows in the dump, from 1.
    pub row: u64,
    /// Which column of the row, from 1.
    pub column: u64,
    /// Where the literal begins in the dump, in bytes.
    pub offset: u64,
    /// Why.
    pub reason: Reason,
}

/// Why a value that holds an old name keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It begins like PHP-serialised data, but is cut off or has wrong lengths.
    InvalidSerialised,
    /// An object that serialises itself in a form of its own.
    Opaque,
    /// Serialised data behind escapes that cannot be told apart.
    EscapedSerialised,
    /// Binary data.
    Binary,
    /// Packed in itself too often.
    TooDeep,
    /// Longer than the bound, before or after.
    TooLarge,
}

impl Report {
    /// Notes a value that keeps an old name.
    pub(super) fn leave(&mut self, place: impl FnOnce() -> LeftAlone) {
        self.left_alone += 1;
        if self.left_alone_list.len() < MAX_LISTED {
            self.left_alone_list.push(place());
        }
    }
}
