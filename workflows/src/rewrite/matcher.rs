//! Finds the old names in text and writes the new ones: all pairs at once, leftmost first, then longest; each byte of the text belongs to
//! one match at most. Knows nothing of serialised data or SQL.

use std::ops::Range;

use super::anchors::Finder;
use super::neighbours::{MAX_PERCENT_LEVELS, after, before, is_escaped};
use super::pair::{Pair, is_component_byte};

/// Most backslashes before a slash of a path: four levels of JSON in JSON.
const MAX_BACKSLASHES: usize = 15;

/// Most directories that are looked at between a name and `uploads`: plugins have some levels below year and month.
const MAX_DEPTH: usize = 16;
/// What host names in punycode have, and comments of HTML must not have.
const DASHES: &str = "--";

/// One pair, ready to be searched.
#[derive(Debug)]
pub(super) struct Pattern {
    finder: Finder,
    kind: Kind,
    /// Old and new are the same: found (so that it is protected), never changed.
    keeps: bool,
}

#[derive(Debug)]
enum Kind {
    /// `from`: the old name in parts, between which it has `--`.
    Host {
        from: Vec<Vec<u8>>,
        to: Vec<u8>,
        anchor: usize,
    },
    Path {
        from: Vec<Vec<u8>>,
        to: Vec<Vec<u8>>,
        anchor: usize,
    },
}

/// An old name in text.
#[derive(Clone, Debug)]
pub(super) struct Match {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) pattern: usize,
    /// Paths: where their separator is written (`/`, `\/`, `%2F`), to be written alike in the new path. Hosts: where their `--` is.
    separator: Range<usize>,
}

impl Pattern {
    /// `hosts`: the old hosts of all pairs. A component that holds one of them is the cheapest anchor: it is searched anyway.
    pub(super) fn new(pair: &Pair, hosts: &[&str]) -> Self {
        let keeps = pair.from() == pair.to();
        if pair.is_host() {
            let parts: Vec<&str> = pair.from().split(DASHES).collect();
            let anchor = (0..parts.len()).max_by_key(|index| parts[*index].len()).unwrap_or(0);
            let from = parts.iter().map(|part| part.as_bytes().to_vec()).collect();
            let kind = Kind::Host { from, to: pair.to().as_bytes().to_vec(), anchor };
            return Self { finder: Finder::any_case(parts[anchor]), kind, keeps };
        }
        let parts: Vec<&str> = components(pair.from()).collect();
        let anchor = (0..parts.len())
            .max_by_key(|index| {
                let lower = parts[*index].to_ascii_lowercase();
                (hosts.iter().any(|host| lower.contains(host)), parts[*index].len())
            })
            .unwrap_or(0);
        let bytes = |path| components(path).map(|part| part.as_bytes().to_vec()).collect();
        let kind = Kind::Path { from: bytes(pair.from()), to: bytes(pair.to()), anchor };
        Self { finder: Finder::exact(parts[anchor]), kind, keeps }
    }

    /// Bytes that are in every written form of this name, and whether their case may differ.
    pub(super) fn anchor(&self) -> (String, bool) {
        let needle = String::from_utf8_lossy(self.finder.needle()).into_owned();
        (needle, matches!(self.kind, Kind::Host { .. }))
    }

    /// Whether the new name differs from the old one.
    pub(super) fn changes(&self) -> bool {
        !self.keeps
    }

    /// The first match that begins at `from` or later.
    fn find(&self, index: usize, text: &[u8], from: usize) -> Option<Match> {
        let mut at = from;
        while let Some(anchor) = self.finder.find(text, at) {
            let found = match &self.kind {
                Kind::Host { from: parts, anchor: position, .. } => {
                    host_around(text, parts, *position, anchor)
                }
                Kind::Path { from: parts, anchor: position, .. } => {
                    path_around(text, parts, *position, anchor)
                }
            };
            if let Some((start, end, separator)) = found
                && start >= from
            {
                return Some(Match { start, end, pattern: index, separator });
            }
            at = anchor + 1;
        }
        None
    }
}

fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').skip(1)
}

/// The host whose part `position` begins at `anchor`, if it is whole and all its `--` are written alike.
fn host_around(
    text: &[u8],
    parts: &[Vec<u8>],
    position: usize,
    anchor: usize,
) -> Option<(usize, usize, Range<usize>)> {
    let (mut start, mut end) = (anchor, anchor + parts[position].len());
    let range = match (parts.len(), position) {
        (1, _) => 0..0,
        (_, 0) => dashes_after(text, end)?,
        _ => dashes_before(text, start)?,
    };
    let dashes = &text[range.clone()];
    let alike =
        |there: Option<&[u8]>, part: &[u8]| there.is_some_and(|there| there.eq_ignore_ascii_case(part));
    for part in parts[..position].iter().rev() {
        let part_end = ends_with(text, start, dashes)?;
        start = part_end.checked_sub(part.len())?;
        alike(text.get(start..part_end), part).then_some(())?;
    }
    for part in &parts[position + 1..] {
        let part_start = starts_with(text, end, dashes)?;
        end = part_start + part.len();
        alike(text.get(part_start..end), part).then_some(())?;
    }
    (is_whole_host(text, start, end) && !is_below_uploads(text, start)).then_some((start, end, range))
}

/// `--`, or both dashes as JSON's escape with the same backslashes, that end at `end`: WordPress writes them so in a block's
/// attributes, which are in a comment of HTML.
fn dashes_before(text: &[u8], end: usize) -> Option<Range<usize>> {
    if let Some(start) = ends_with(text, end, DASHES.as_bytes()) {
        return Some(start..end);
    }
    let front = text[..end].strip_suffix(b"u002d").or_else(|| text[..end].strip_suffix(b"u002D"))?;
    let escapes = front.iter().rev().take(MAX_BACKSLASHES).take_while(|byte| **byte == b'\\').count();
    let second = front.len().checked_sub(escapes).filter(|_| escapes > 0)?;
    ends_with(text, second, &text[second..end]).map(|start| start..end)
}

/// The same that begins at `start`.
fn dashes_after(text: &[u8], start: usize) -> Option<Range<usize>> {
    if let Some(end) = starts_with(text, start, DASHES.as_bytes()) {
        return Some(start..end);
    }
    let rest = &text[start..];
    let escapes = rest.iter().take(MAX_BACKSLASHES).take_while(|byte| **byte == b'\\').count();
    let second = start + escapes + "u002d".len();
    let first = text.get(start..second).filter(|_| escapes > 0)?;
    first[escapes..].eq_ignore_ascii_case(b"u002d").then_some(())?;
    starts_with(text, second, first).map(|end| start..end)
}

/// Whether it is a file or directory below WordPress's `uploads`: those keep their names. Elsewhere a host within a path may be meant
/// (`i0.wp.com/old.test/a.png`) or be one that is renamed (`sites/old.test/files`).
fn is_below_uploads(text: &[u8], start: usize) -> bool {
    let mut end = start;
    for _ in 0..MAX_DEPTH {
        let Some(separator) = separator_before(text, end) else { return false };
        end = separator.start;
        if let Some(at) = ends_with(text, end, b"uploads")
            && (separator_before(text, at).is_some() || begins_path(text, at, &[]))
        {
            return true;
        }
        end -= text[..end].iter().rev().take_while(|byte| is_component_byte(**byte)).count();
        if end == separator.start {
            return false; // `//`: a host is behind it
        }
    }
    false
}

/// Whether what stands at `start..end` is a host name of its own: not a part of a longer name, not the domain of a mail address.
fn is_whole_host(text: &[u8], start: usize, end: usize) -> bool {
    if is_escaped(text, start) {
        return false; // `\news.test` in JSON is a line break and `ews.test`
    }
    if let Some(left) = before(text, start)
        && (left.is_ascii_alphanumeric() || matches!(left, b'.' | b'-' | b'_' | b'@'))
    {
        return false;
    }
    match after(text, end) {
        None => true,
        Some((b'.', width)) => {
            !after(text, end + width).is_some_and(|(next, _)| next.is_ascii_alphanumeric())
        }
        Some((right, _)) => !(right.is_ascii_alphanumeric() || matches!(right, b'-' | b'_')),
    }
}

/// The path whose component `position` begins at `anchor`, if it is whole and all its separators are written alike.
fn path_around(
    text: &[u8],
    parts: &[Vec<u8>],
    position: usize,
    anchor: usize,
) -> Option<(usize, usize, Range<usize>)> {
    let range = if position == 0 {
        separator_after(text, anchor + parts[0].len())?
    } else {
        separator_before(text, anchor)?
    };
    let separator = &text[range.clone()];
    let mut start = anchor;
    for part in parts[..position].iter().rev() {
        start = ends_with(text, start, separator)?;
        start = ends_with(text, start, part)?;
    }
    start = ends_with(text, start, separator)?;
    let mut end = anchor + parts[position].len();
    for part in &parts[position + 1..] {
        end = starts_with(text, end, separator)?;
        end = starts_with(text, end, part)?;
    }
    (begins_path(text, start, separator) && ends_component(text, end)).then_some((start, end, range))
}

/// No part of a longer path begins before `start`; `file:///srv` is a path behind a scheme.
fn begins_path(text: &[u8], start: usize, separator: &[u8]) -> bool {
    match before(text, start) {
        None => true,
        Some(b'/') => ends_with(text, start, separator)
            .and_then(|at| ends_with(text, at, separator))
            .is_some_and(|at| before(text, at) == Some(b':')),
        Some(left) => left.is_ascii() && !is_component_byte(left),
    }
}

fn ends_component(text: &[u8], end: usize) -> bool {
    after(text, end).is_none_or(|(right, _)| right.is_ascii() && !is_component_byte(right))
}

fn ends_with(text: &[u8], end: usize, part: &[u8]) -> Option<usize> {
    text[..end].ends_with(part).then(|| end - part.len())
}

fn starts_with(text: &[u8], start: usize, part: &[u8]) -> Option<usize> {
    text[start..].starts_with(part).then(|| start + part.len())
}

/// `/` with the backslashes before it, or `%2F` in any depth, that ends at `end`.
fn separator_before(text: &[u8], end: usize) -> Option<Range<usize>> {
    match &text[..end] {
        [front @ .., b'/'] => {
            let escapes = front.iter().rev().take(MAX_BACKSLASHES).take_while(|byte| **byte == b'\\').count();
            Some(front.len() - escapes..end)
        }
        [front @ .., b'2', b'F' | b'f'] => {
            let mut front = front;
            for _ in 0..MAX_PERCENT_LEVELS {
                match front {
                    [rest @ .., b'%'] => return Some(rest.len()..end),
                    [rest @ .., b'2', b'5'] => front = rest,
                    _ => return None,
                }
            }
            None
        }
        _ => None,
    }
}

/// The same that begins at `start`.
fn separator_after(text: &[u8], start: usize) -> Option<Range<usize>> {
    let rest = &text[start..];
    let escapes = rest.iter().take(MAX_BACKSLASHES).take_while(|byte| **byte == b'\\').count();
    if rest.get(escapes) == Some(&b'/') {
        return Some(start..start + escapes + 1);
    }
    let mut tail = rest.strip_prefix(b"%")?;
    for _ in 0..MAX_PERCENT_LEVELS {
        match tail {
            [b'2', b'F' | b'f', ..] => return Some(start..start + rest.len() - tail.len() + 2),
            [b'2', b'5', more @ ..] => tail = more,
            _ => return None,
        }
    }
    None
}

/// Walks through the matches of a text.
pub(super) struct Matches<'a> {
    patterns: &'a [Pattern],
    text: &'a [u8],
    at: usize,
    next: Vec<Next>,
}

#[derive(Clone)]
enum Next {
    Unknown,
    Never,
    Found(Match),
}

impl<'a> Matches<'a> {
    pub(super) fn new(patterns: &'a [Pattern], text: &'a [u8]) -> Self {
        Self { patterns, text, at: 0, next: vec![Next::Unknown; patterns.len()] }
    }

    /// Goes on behind `at`: what lies before is somebody else's.
    pub(super) fn skip_to(&mut self, at: usize) {
        self.at = self.at.max(at);
    }

    /// Writes what stands in the match's place; tells whether that is new.
    pub(super) fn write(&self, found: &Match, out: &mut Vec<u8>) -> bool {
        let pattern = &self.patterns[found.pattern];
        if pattern.keeps {
            out.extend_from_slice(&self.text[found.start..found.end]);
            return false;
        }
        match &pattern.kind {
            Kind::Host { to, .. } => {
                let mut rest = to.as_slice();
                while let Some(at) = memchr::memmem::find(rest, DASHES.as_bytes())
                    && !found.separator.is_empty()
                {
                    out.extend_from_slice(&rest[..at]);
                    out.extend_from_slice(&self.text[found.separator.clone()]);
                    rest = &rest[at + DASHES.len()..];
                }
                out.extend_from_slice(rest);
            }
            Kind::Path { to, .. } => {
                for part in to {
                    out.extend_from_slice(&self.text[found.separator.clone()]);
                    out.extend_from_slice(part);
                }
            }
        }
        true
    }
}

impl Iterator for Matches<'_> {
    type Item = Match;

    fn next(&mut self) -> Option<Match> {
        let mut best: Option<&Match> = None;
        for (index, next) in self.next.iter_mut().enumerate() {
            let stale = match next {
                Next::Unknown => true,
                Next::Never => false,
                Next::Found(found) => found.start < self.at,
            };
            if stale {
                *next = self.patterns[index].find(index, self.text, self.at).map_or(Next::Never, Next::Found);
            }
            if let Next::Found(found) = next
                && best.is_none_or(|best| (found.start, best.end) < (best.start, found.end))
            {
                best = Some(found);
            }
        }
        let found = best?.clone();
        self.at = found.end;
        Some(found)
    }
}
