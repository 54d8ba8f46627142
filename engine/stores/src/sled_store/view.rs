//! What readers see: the durable state. sled shows a batch as soon as it is applied, which is before it is synced; so while a
//! group is on its way, the old values of its keys lie over sled, and all are taken away at once when it is durable.
//! It never writes to sled.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use kedge_engine::store::ReadError;

use super::keys;

type Pair = (Vec<u8>, Vec<u8>);
type Range = (Bound<Vec<u8>>, Bound<Vec<u8>>);

pub(super) struct View {
    db: sled::Db,
    /// The group that is applied but not yet durable. Readers hold the lock over their whole read, so that a group cannot be
    /// applied or revealed in its middle. Only the committer writes, twice a group and briefly.
    in_flight: RwLock<Changes>,
}

/// What a group changes, by key.
pub(super) type Changes = BTreeMap<Vec<u8>, Change>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// The durable value.
    pub(super) before: Option<Vec<u8>>,
    /// The value to be.
    pub(super) after: Option<Vec<u8>>,
}

#[derive(Clone, Copy)]
enum Direction {
    Forward,
    Back,
}

impl View {
    pub(super) fn new(db: sled::Db) -> Self {
        Self { db, in_flight: RwLock::default() }
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        let in_flight = self.in_flight();
        match in_flight.get(key) {
            Some(change) => Ok(change.before.clone()),
            None => self.stored(key).map_err(read_error),
        }
    }

    pub(super) fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Pair>, ReadError> {
        let Some(range) = range(prefix, after, None) else { return Ok(Vec::new()) };
        let in_flight = self.in_flight();
        merge(self.rows(&range), in_flight.range(range), limit, Direction::Forward)
    }

    pub(super) fn scan_back(
        &self,
        prefix: &[u8],
        before: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Pair>, ReadError> {
        let Some(range) = range(prefix, None, before) else { return Ok(Vec::new()) };
        let in_flight = self.in_flight();
        merge(self.rows(&range).rev(), in_flight.range(range).rev(), limit, Direction::Back)
    }

    /// Covers the keys of a group with their old values; to be called before the group is applied to sled.
    pub(super) fn cover(&self, changes: Changes) {
        *self.in_flight_mut() = changes;
    }

    /// Shows the group: it is durable.
    pub(super) fn reveal(&self) {
        // Freed outside of the lock, for the readers' sake.
        let _durable = std::mem::take(&mut *self.in_flight_mut());
    }

    /// What sled holds under a key, durable or not: for the committer, which knows.
    pub(super) fn stored(&self, key: &[u8]) -> sled::Result<Option<Vec<u8>>> {
        Ok(self.db.get(keys::encode(key))?.map(|value| value.to_vec()))
    }

    pub(super) fn size_on_disk(&self) -> Option<u64> {
        self.db.size_on_disk().inspect_err(|error| tracing::warn!(%error, "cannot size the journal")).ok()
    }

    fn rows(&self, (start, end): &Range) -> impl DoubleEndedIterator<Item = Result<Pair, ReadError>> + use<> {
        let spell = |bound: &Bound<Vec<u8>>| bound.as_ref().map(|key| keys::encode(key).into_owned());
        let rows = self.db.range::<Vec<u8>, _>((spell(start), spell(end)));
        rows.map(|row| row.map(|(key, value)| (keys::decode(&key), value.to_vec())).map_err(read_error))
    }

    // A panic under this lock leaves a whole map behind, so poison says nothing.
    fn in_flight(&self) -> RwLockReadGuard<'_, Changes> {
        self.in_flight.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_flight_mut(&self) -> RwLockWriteGuard<'_, Changes> {
        self.in_flight.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rows of sled under the old values of what is in flight, in the order of `direction`.
fn merge<'a>(
    rows: impl Iterator<Item = Result<Pair, ReadError>>,
    in_flight: impl Iterator<Item = (&'a Vec<u8>, &'a Change)>,
    limit: usize,
    direction: Direction,
) -> Result<Vec<Pair>, ReadError> {
    let (mut rows, mut in_flight) = (rows.peekable(), in_flight.peekable());
    let mut found = Vec::new();
    while found.len() < limit {
        let next = match (rows.peek(), in_flight.peek()) {
            (None, None) => break,
            (Some(Err(_)), _) | (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(Ok((row, _))), Some((changed, _))) => match direction {
                Direction::Forward => row.cmp(changed),
                Direction::Back => changed.cmp(&row),
            },
        };
        if next.is_le() {
            let row = rows.next().transpose()?;
            found.extend(row.filter(|_| next.is_lt()));
        }
        if next.is_ge() {
            let old = in_flight.next().and_then(|(key, change)| Some((key.clone(), change.before.clone()?)));
            found.extend(old);
        }
    }
    Ok(found)
}

/// The keys that start with `prefix`, above `after` and below `before`; none when there can be no such key.
fn range(prefix: &[u8], after: Option<&[u8]>, before: Option<&[u8]>) -> Option<Range> {
    let (start, low) = match after {
        Some(after) if after >= prefix => (Bound::Excluded(after.to_vec()), after),
        _ => (Bound::Included(prefix.to_vec()), prefix),
    };
    let end = [before.map(<[u8]>::to_vec), keys::first_above(prefix)].into_iter().flatten().min();
    match end {
        Some(end) if end.as_slice() <= low => None,
        Some(end) => Some((start, Bound::Excluded(end))),
        None => Some((start, Bound::Unbounded)),
    }
}

fn read_error(error: sled::Error) -> ReadError {
    match error {
        sled::Error::Corruption { .. } => ReadError::Damaged(format!("journal: {error}")),
        error => ReadError::Io(format!("journal: {error}")),
    }
}
