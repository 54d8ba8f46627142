//! The quick test before everything else: literal bytes that are part of every written form of a name. Where no anchor is, nothing can
//! match; where one is, the exact search follows. Never decides about a match itself.

use memchr::arch::all::packedpair::Pair as RareBytes;
use memchr::memmem;

use super::matcher::Pattern;

/// No anchor from here on.
pub(super) const NOWHERE: usize = usize::MAX;

/// Finds one byte sequence.
#[derive(Debug)]
pub(super) enum Finder {
    /// In any case (hosts).
    AnyCase { needle: Vec<u8>, rare: usize, other: usize },
    /// As written (components of paths).
    Exact(Box<memmem::Finder<'static>>),
}

impl Finder {
    pub(super) fn any_case(needle: &str) -> Self {
        let needle = needle.to_ascii_lowercase().into_bytes();
        let (rare, other) =
            RareBytes::new(&needle).map_or((0, 0), |rare| (rare.index1().into(), rare.index2().into()));
        Self::AnyCase { needle, rare, other }
    }

    pub(super) fn exact(needle: &str) -> Self {
        Self::Exact(Box::new(memmem::Finder::new(needle.as_bytes()).into_owned()))
    }

    pub(super) fn needle(&self) -> &[u8] {
        match self {
            Self::AnyCase { needle, .. } => needle,
            Self::Exact(finder) => finder.needle(),
        }
    }

    /// The first occurrence that begins at `from` or later.
    pub(super) fn find(&self, text: &[u8], from: usize) -> Option<usize> {
        match self {
            Self::Exact(finder) => finder.find(text.get(from..)?).map(|at| from + at),
            Self::AnyCase { needle, rare, other } => {
                let (low, high) = (needle[*rare], needle[*rare].to_ascii_uppercase());
                let mut at = from + rare;
                while let Some(next) = find_either(low, high, text.get(at..)?) {
                    let start = at + next - rare;
                    let place = text.get(start..start + needle.len())?;
                    if place[*other].eq_ignore_ascii_case(&needle[*other])
                        && place.eq_ignore_ascii_case(needle)
                    {
                        return Some(start);
                    }
                    at += next + 1;
                }
                None
            }
        }
    }
}

fn find_either(low: u8, high: u8, text: &[u8]) -> Option<usize> {
    if low == high { memchr::memchr(low, text) } else { memchr::memchr2(low, high, text) }
}

/// All anchors of a rewrite, without those that contain another one.
#[derive(Debug)]
pub(super) struct Anchors {
    finders: Vec<Finder>,
    shortest: usize,
    longest: usize,
}

impl Anchors {
    pub(super) fn new(patterns: &[Pattern]) -> Self {
        let mut needles: Vec<(String, bool)> = patterns.iter().map(Pattern::anchor).collect();
        needles.sort_by_key(|(needle, any_case)| (needle.len(), !any_case));
        let mut kept: Vec<(String, bool)> = Vec::new();
        for (needle, any_case) in needles {
            let covered = kept.iter().any(|(other, other_any_case)| {
                if *other_any_case {
                    needle.to_ascii_lowercase().contains(&other.to_ascii_lowercase())
                } else {
                    !any_case && needle.contains(other.as_str())
                }
            });
            if !covered {
                kept.push((needle, any_case));
            }
        }
        let finders: Vec<Finder> = kept
            .iter()
            .map(
                |(needle, any_case)| if *any_case { Finder::any_case(needle) } else { Finder::exact(needle) },
            )
            .collect();
        let lengths = || finders.iter().map(|finder| finder.needle().len());
        let (shortest, longest) = (lengths().min().unwrap_or(0), lengths().max().unwrap_or(0));
        Self { finders, shortest, longest }
    }

    /// Length of the shortest anchor; 0 without pairs.
    pub(super) fn shortest(&self) -> usize {
        self.shortest
    }

    /// How many bytes at the end of a piece may be the beginning of an anchor.
    pub(super) fn overlap(&self) -> usize {
        self.longest.saturating_sub(1)
    }

    /// Whether any anchor is in the text.
    pub(super) fn in_text(&self, text: &[u8]) -> bool {
        self.finders.iter().any(|finder| finder.find(text, 0).is_some())
    }

    pub(super) fn cursor<'a>(&'a self, text: &'a [u8]) -> AnchorCursor<'a> {
        AnchorCursor { text, anchors: self.finders.iter().map(|finder| (finder, None)).collect() }
    }
}

/// Walks through the anchors of a text, each byte searched once.
pub(super) struct AnchorCursor<'a> {
    text: &'a [u8],
    anchors: Vec<(&'a Finder, Option<usize>)>,
}

impl AnchorCursor<'_> {
    /// Where the next anchor begins at `from` or later, or [`NOWHERE`]. `from` never goes back from call to call.
    pub(super) fn next(&mut self, from: usize) -> usize {
        let mut nearest = NOWHERE;
        for (finder, known) in &mut self.anchors {
            let at = match *known {
                Some(at) if at >= from => at,
                _ => finder.find(self.text, from).unwrap_or(NOWHERE),
            };
            *known = Some(at);
            nearest = nearest.min(at);
        }
        nearest
    }
}
