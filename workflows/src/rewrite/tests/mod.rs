//! Tests of the rewrite, in the words of sites that move.

mod dumps;
mod names;
mod properties;
mod serialised;
mod streams;
mod trees;

use std::sync::Arc;

use super::{Pair, Report, Rewrite, RewriteError, SqlRewriter};
use crate::names::SiteName;

fn host(from: &str, to: &str) -> Pair {
    Pair::host(&SiteName::parse(from).unwrap(), &SiteName::parse(to).unwrap())
}

fn path(from: &str, to: &str) -> Pair {
    Pair::path(from, to).unwrap()
}

fn rewrite(pairs: impl IntoIterator<Item = Pair>) -> Rewrite {
    Rewrite::new(pairs.into_iter().collect()).unwrap()
}

/// A site that is renamed and moved to another platform.
fn moved_site() -> Rewrite {
    rewrite([
        host("old.example.test", "new.test"),
        path("/srv/platforms/a/sites/old", "/srv/platforms/b/sites/brand-new"),
    ])
}

/// A value after the rewrite, as text.
fn value(rewrite: &Rewrite, value: &str) -> String {
    let outcome = rewrite.value(value.as_bytes());
    String::from_utf8(outcome.changed.unwrap_or_else(|| value.as_bytes().to_vec())).unwrap()
}

/// A whole dump through the rewriter in pieces of `piece` bytes.
fn dump_in_pieces(rewrite: Rewrite, dump: &[u8], piece: usize) -> (Vec<u8>, Result<Report, RewriteError>) {
    let mut rewriter = SqlRewriter::new(Arc::new(rewrite));
    let mut out = Vec::new();
    for chunk in dump.chunks(piece) {
        rewriter.push(chunk, &mut out);
    }
    let end = rewriter.finish(&mut out);
    (out, end)
}

/// A whole dump at once and byte by byte, which must give the same.
fn dump(rewrite: impl Fn() -> Rewrite, dump: &str) -> (String, Report) {
    let (whole, report) = dump_in_pieces(rewrite(), dump.as_bytes(), usize::MAX);
    let (pieces, report_of_pieces) = dump_in_pieces(rewrite(), dump.as_bytes(), 1);
    assert_eq!(
        String::from_utf8_lossy(&whole),
        String::from_utf8_lossy(&pieces),
        "pieces of one byte differ"
    );
    assert_eq!(report, report_of_pieces);
    (String::from_utf8(whole).unwrap(), report.unwrap())
}
