//! Rewrites host names and paths inside an SQL dump while it streams from one server to another, and keeps PHP-serialised data right.
//! Never does I/O, never touches identifiers, comments, DDL, view or trigger bodies, and never changes a value it does not understand:
//! what cannot be rewritten safely stays byte for byte and is named in the [`Report`].
//!
//! How it works, from the outside in:
//! - [`SqlRewriter`] reads the dump piece by piece, finds the values of `INSERT` and `REPLACE` statements, and passes everything else on.
//!   A search for [anchors](anchors) over the raw bytes decides which values are looked at at all.
//! - [`Rewrite::value`] decides what a value is: PHP-serialised data (parsed strictly, lengths corrected, strings inside treated as
//!   values again), or text.
//! - Text is searched for all pairs at once, leftmost and longest first, and nothing just written is read again; so `a.com -> aa.com`
//!   and swaps are right, and a second run changes nothing more when only hosts were renamed. (A path moved *below itself*, `/srv/a ->
//!   /srv/a/b`, cannot be told from a path that was there before: run that once.)
//!
//! What is not rewritten, on purpose: keys of serialised arrays, property and class names (code looks them up; WP-CLI leaves them too;
//! counted in [`Report::keys_left`]); mail addresses; base64; hosts with their dots escaped (regular expressions); files below
//! `uploads` that are named like a host; values that are binary (hold a NUL outside serialised data). The definitions of `ENUM`
//! columns are DDL and stay, so a value of theirs that is an old name would no longer fit; that was never met.
//!
//! Dumps are read in UTF-8 or a single-byte character set (the tools' default), with backslash escapes (they switch
//! `NO_BACKSLASH_ESCAPES` off). The work is done where [`SqlRewriter::push`] is called, some hundred megabytes a second; hand it pieces
//! of moderate size (64 KiB) where other work shares the thread.

mod anchors;
mod json;
mod literal;
mod matcher;
mod neighbours;
mod pair;
mod php;
mod php_forms;
mod report;
mod sql;
mod sql_skip;
mod sql_state;
mod stream;
mod telltales;
mod text;
mod value;

#[cfg(test)]
mod tests;

use anchors::Anchors;
use matcher::Pattern;
pub use pair::{BadPair, Pair};
pub use report::{LeftAlone, MAX_LISTED, Reason, Report};
pub use sql::{RewriteError, SqlRewriter};
pub use stream::{ReportHandle, rewrite_stream};
pub use value::ValueOutcome;

/// Most pairs of one rewrite: each costs a search over the text, and a site has some dozen names at most.
pub const MAX_PAIRS: usize = 256;

/// Longest SQL literal that is rewritten, in bytes as written in the dump: what MySQL 8 takes in a packet by default (MariaDB: 16 MiB;
/// the largest possible is 1 GiB). A literal is held in memory whole, about six times while it is rewritten.
pub const MAX_VALUE_BYTES: usize = 64 << 20;

/// What to rewrite: pairs of old and new names, ready for use. Cheap to share, immutable.
#[derive(Debug)]
pub struct Rewrite {
    patterns: Vec<Pattern>,
    anchors: Anchors,
    telltales: Vec<String>,
    skipped_tables: Vec<String>,
    value_limit: usize,
}

impl Rewrite {
    /// Prepares the pairs. A pair whose old and new name are the same protects that name (a longer path below one that moves).
    ///
    /// # Errors
    /// When an old name is there twice with different new names, or there are too many pairs.
    pub fn new(pairs: Vec<Pair>) -> Result<Self, BadPair> {
        if pairs.len() > MAX_PAIRS {
            return Err(BadPair::TooMany { pairs: pairs.len() });
        }
        for (index, pair) in pairs.iter().enumerate() {
            if pairs[..index].iter().any(|other| other.from() == pair.from() && other.to() != pair.to()) {
                return Err(BadPair::Twice { from: pair.from().to_owned() });
            }
        }
        let hosts: Vec<&str> = pairs.iter().filter(|pair| pair.is_host()).map(Pair::from).collect();
        let patterns: Vec<Pattern> = pairs.iter().map(|pair| Pattern::new(pair, &hosts)).collect();
        let anchors = Anchors::new(&patterns);
        let telltales = telltales::telltales(&pairs);
        Ok(Self { patterns, anchors, telltales, skipped_tables: Vec::new(), value_limit: MAX_VALUE_BYTES })
    }

    /// Leaves tables alone whose name ends so (applications prefix theirs): logs such as `watchdog` hold most of the old names of a
    /// dump, and nobody misses them.
    #[must_use]
    pub fn skip_tables(mut self, suffixes: impl IntoIterator<Item = String>) -> Self {
        self.skipped_tables.extend(suffixes);
        self
    }

    /// Another bound than [`MAX_VALUE_BYTES`], in bytes of the literal.
    #[must_use]
    pub fn value_limit(mut self, bytes: usize) -> Self {
        self.value_limit = bytes;
        self
    }

    /// Texts one of which, in upper or lower case, is in every value that would change. Empty: no value would.
    #[must_use]
    pub fn telltales(&self) -> &[String] {
        &self.telltales
    }

    /// Rewrites one value: what a column holds, without quotes or SQL escapes.
    #[must_use]
    pub fn value(&self, value: &[u8]) -> ValueOutcome {
        value::rewrite(self, value)
    }

    fn skips(&self, table: &str) -> bool {
        self.skipped_tables.iter().any(|suffix| table.ends_with(suffix.as_str()))
    }
}
