//! Room for the bodies that are read at the same time, of all connections and streams. Reads none.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// KiB of each body for which there is a pot of their own: most messages have no more, and whoever sends large ones must not be in their way.
pub(crate) const SMALL_KIB: u32 = 16;
/// KiB of bodies of strangers, whose signature can be checked only when all of a body is there: small ones (a thousand and more), and what
/// others have beyond. With those of callers a part of the 256 MiB that the process stays under.
const STRANGERS_KIB: [u32; 2] = [16 * 1024, 48 * 1024];
/// The same of callers whose token is known before.
const CALLERS_KIB: [u32; 2] = [8 * 1024, 24 * 1024];
/// The part of a pot that one sender may have.
const SHARE: u32 = 4;

/// Room for what has arrived of bodies. What is only announced costs nothing, and nobody waits for room: a body that waited would hold up
/// its HTTP/2 connection, and be waited for by the next one.
pub(crate) struct Room {
    held: Mutex<[Pot; 2]>,
}

/// KiB, of the beginnings of bodies or of the rest.
struct Pot {
    total: u32,
    /// The most of one sender.
    share: u32,
    all: u32,
    by: HashMap<Sender, u32>,
}

/// Whose a body is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Sender {
    /// Somebody there.
    Network(IpAddr),
    /// Who has told who they are.
    Known(String),
}

impl Sender {
    /// Whoever is at an address: with IPv6, a customer is given networks of 56 to 64 bits.
    pub(crate) fn at(address: IpAddr) -> Self {
        Self::Network(match address {
            IpAddr::V6(address) if address.to_ipv4_mapped().is_none() => {
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !(u128::MAX >> 56)))
            }
            other => other.to_canonical(),
        })
    }
}

impl Room {
    /// Room for the bodies of strangers.
    pub(crate) fn for_strangers() -> Self {
        Self::new(STRANGERS_KIB.map(|kib| (kib, kib / SHARE)))
    }

    /// Room for the bodies of callers who have told who they are, which no stranger can take.
    pub(crate) fn for_callers() -> Self {
        Self::new(CALLERS_KIB.map(|kib| (kib, kib / SHARE)))
    }

    /// KiB in all and of one sender, of the beginnings of bodies and of the rest.
    pub(crate) fn new(pots: [(u32, u32); 2]) -> Self {
        let pots = pots.map(|(total, share)| Pot { total, share, all: 0, by: HashMap::new() });
        Self { held: Mutex::new(pots) }
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.held().iter().all(|pot| pot.all == 0 && pot.by.is_empty())
    }

    fn held(&self) -> MutexGuard<'_, [Pot; 2]> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pot {
    fn has_room(&self, of: &Sender, more: u32) -> bool {
        let fits = |has: u32, most: u32| has.checked_add(more).is_some_and(|has| has <= most);
        fits(self.all, self.total) && fits(self.by.get(of).copied().unwrap_or_default(), self.share)
    }

    fn take(&mut self, of: &Sender, more: u32) {
        if more > 0 {
            self.all += more;
            *self.by.entry(of.clone()).or_default() += more;
        }
    }

    fn give_back(&mut self, of: &Sender, kib: u32) {
        self.all -= kib;
        if let Entry::Occupied(mut mine) = self.by.entry(of.clone()) {
            *mine.get_mut() -= kib;
            if *mine.get() == 0 {
                mine.remove();
            }
        }
    }
}

/// What one body has of a room, until it is dropped.
pub(crate) struct Place<'a> {
    room: &'a Room,
    of: Sender,
    kib: u32,
}

impl<'a> Place<'a> {
    pub(crate) fn new(room: &'a Room, of: Sender) -> Self {
        Self { room, of, kib: 0 }
    }

    /// Whether there is room for so many bytes of this body.
    pub(crate) fn reach(&mut self, bytes: usize) -> bool {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        if kib <= self.kib {
            return true;
        }
        let (had, wants) = (parts(self.kib), parts(kib));
        let pots = &mut *self.room.held();
        let more = [wants[0] - had[0], wants[1] - had[1]];
        let room = pots.iter().zip(more).all(|(pot, more)| more == 0 || pot.has_room(&self.of, more));
        if room {
            pots.iter_mut().zip(more).for_each(|(pot, more)| pot.take(&self.of, more));
            self.kib = kib;
        }
        room
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let pots = &mut *self.room.held();
        pots.iter_mut().zip(parts(self.kib)).for_each(|(pot, kib)| pot.give_back(&self.of, kib));
    }
}

/// What of so many KiB goes to which pot.
fn parts(kib: u32) -> [u32; 2] {
    [kib.min(SMALL_KIB), kib.saturating_sub(SMALL_KIB)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_customer_is_given_is_one_sender() {
        let at = |text: &str| Sender::at(text.parse().unwrap());
        assert_eq!(at("2001:db8:1:2:3::4"), at("2001:db8:1:2::9"));
        assert_eq!(at("2001:db8:1:200::4"), at("2001:db8:1:2ff::4"));
        assert_ne!(at("2001:db8:1:200::4"), at("2001:db8:1:300::4"));
        assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
        assert_ne!(at("192.0.2.1"), at("192.0.2.2"));
    }

    #[test]
    fn no_sender_has_all_of_it() {
        for room in [Room::for_strangers(), Room::for_callers()] {
            let mut places = Vec::new();
            for bytes in [1024 * 1024, 16 * 1024] {
                for name in ["a", "b"] {
                    let begun = places.len();
                    loop {
                        let mut place = Place::new(&room, Sender::Known(name.to_owned()));
                        if !place.reach(bytes) {
                            break;
                        }
                        places.push(place);
                    }
                    assert!(places.len() > begun + 4, "{name} has its own part");
                }
            }
            drop(places);
            assert!(room.is_empty());
        }
    }
}
