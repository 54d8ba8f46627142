//! The proof of a rollback: listings of resources before and after, and what differs. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::task::{Drift, MAX_DRIFT};

/// What a fingerprint step outputs: for each resource, its items and what was seen of each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Listing(pub BTreeMap<String, BTreeMap<String, String>>);

impl Listing {
    /// SHA-256 over everything, lengths included, in hex.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        };
        for (resource, items) in &self.0 {
            add(resource);
            add(&items.len().to_string());
            for (item, seen) in items {
                add(item);
                add(seen);
            }
        }
        hex::encode(hash.finalize())
    }

    /// What differs between two listings: at most [`MAX_DRIFT`] entries, the last of which counts the rest.
    #[must_use]
    pub fn drift(before: &Self, after: &Self) -> Vec<Drift> {
        let empty = BTreeMap::new();
        let mut drift = Vec::new();
        let mut more = 0usize;
        let mut resources: Vec<&String> = before.0.keys().chain(after.0.keys()).collect();
        resources.sort();
        resources.dedup();
        for resource in resources {
            let (old, new) =
                (before.0.get(resource).unwrap_or(&empty), after.0.get(resource).unwrap_or(&empty));
            let mut items: Vec<&String> = old.keys().chain(new.keys()).collect();
            items.sort();
            items.dedup();
            for item in items.into_iter().filter(|item| old.get(*item) != new.get(*item)) {
                if drift.len() + 1 < MAX_DRIFT {
                    drift.push(Drift {
                        resource: resource.clone(),
                        item: item.clone(),
                        before: old.get(item).map(|seen| short(seen)),
                        after: new.get(item).map(|seen| short(seen)),
                    });
                } else {
                    more += 1;
                }
            }
        }
        if more > 0 {
            drift.push(Drift {
                resource: "…".to_owned(),
                item: format!("{more} more"),
                before: None,
                after: None,
            });
        }
        drift
    }
}

/// Longest text of what was seen in a drift report, in characters: reports are for people and live in the journal.
const MAX_SEEN: usize = 200;

fn short(seen: &str) -> String {
    if seen.chars().count() <= MAX_SEEN {
        seen.to_owned()
    } else {
        seen.chars().take(MAX_SEEN).chain(['…']).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(items: &[(&str, &str, &str)]) -> Listing {
        let mut listing = Listing::default();
        for (resource, item, seen) in items {
            listing
                .0
                .entry((*resource).to_owned())
                .or_default()
                .insert((*item).to_owned(), (*seen).to_owned());
        }
        listing
    }

    #[test]
    fn drift_names_what_changed_came_and_went() {
        let before = listing(&[("files", "a", "1"), ("files", "b", "2"), ("db", "t", "3")]);
        let after = listing(&[("files", "a", "1"), ("files", "b", "9"), ("files", "c", "4")]);
        assert_ne!(before.digest(), after.digest());
        let drift = Listing::drift(&before, &after);
        let told: Vec<_> =
            drift.iter().map(|d| (d.item.as_str(), d.before.as_deref(), d.after.as_deref())).collect();
        assert_eq!(told, [("t", Some("3"), None), ("b", Some("2"), Some("9")), ("c", None, Some("4"))]);
        assert!(Listing::drift(&before, &before.clone()).is_empty());
    }

    #[test]
    fn a_long_drift_is_bounded_and_counted() {
        let items: Vec<String> = (0..200).map(|n| n.to_string()).collect();
        let before = Listing(BTreeMap::from([(
            "r".to_owned(),
            items.iter().map(|i| (i.clone(), i.clone())).collect(),
        )]));
        let drift = Listing::drift(&before, &Listing::default());
        assert_eq!(drift.len(), MAX_DRIFT);
        assert_eq!(drift.last().unwrap().item, "151 more");
    }
}
