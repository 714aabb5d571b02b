//! [`Parking`]: the sessions without a link, and which of them is given up when there are too many.

use std::{collections::HashMap, net::IpAddr};

use crate::{limits::Limits, numbered::Numbered};

/// The sessions without a link, by number in the order in which they lost it, each with a way to reach it.
pub(super) struct Parking<R> {
    parked: Numbered<Parked<R>>,
    /// Who has how many of them. Clients without an address have one share together.
    shares: HashMap<Option<IpAddr>, Share>,
    /// The bytes that wait for all of them.
    len: u64,
    /// How often a session was parked.
    count: u64,
}

struct Parked<R> {
    reach: R,
    address: Option<IpAddr>,
    len: u64,
}

#[derive(Default)]
struct Share {
    numbers: Numbered<()>,
    len: u64,
}

impl<R> Parking<R> {
    pub(super) fn new() -> Self {
        Self { parked: Numbered::default(), shares: HashMap::new(), len: 0, count: 0 }
    }

    pub(super) fn count(&self) -> usize {
        self.parked.len()
    }

    /// Parks a session. Returns its number.
    pub(super) fn insert(&mut self, reach: R, address: Option<IpAddr>) -> u64 {
        self.count += 1;
        self.parked.insert(self.count, Parked { reach, address, len: 0 });
        self.shares.entry(address).or_default().numbers.insert(self.count, ());
        self.count
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        self.parked.get(number).is_some()
    }

    /// Notes how many bytes wait for a session.
    pub(super) fn note_len(&mut self, number: u64, len: u64) {
        let Some(parked) = self.parked.get_mut(number) else { return };
        let before = std::mem::replace(&mut parked.len, len);
        self.len = self.len - before + len;
        if let Some(share) = self.shares.get_mut(&parked.address) {
            share.len = share.len - before + len;
        }
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<R> {
        let parked = self.parked.remove(number)?;
        self.len -= parked.len;
        if let Some(share) = self.shares.get_mut(&parked.address) {
            share.len -= parked.len;
            share.numbers.remove(number);
            if share.numbers.is_empty() {
                self.shares.remove(&parked.address);
            }
        }
        Some(parked.reach)
    }

    /// Takes out a session that is to be given up, while there are more than the limits allow, or more waits for them: the one
    /// that has been parked for longest. If the address of the one that has just `grown` has more than an equal share, it is
    /// one of that address: who opens sessions only to leave them takes the places of nobody else.
    pub(super) fn evict(&mut self, grown: u64, limits: &Limits) -> Option<R> {
        let (too_many, too_long) = (self.parked.len() > limits.sessions, self.len > limits.parked_len);
        if !too_many && !too_long {
            return None;
        }
        let share = self.parked.get(grown).and_then(|parked| self.shares.get(&parked.address));
        let addresses = self.shares.len() as u64;
        let has_more = |share: &&Share| match too_many {
            true => share.numbers.len() as u64 * addresses > self.parked.len() as u64,
            false => share.len.saturating_mul(addresses) > self.len,
        };
        let own = share.filter(has_more).and_then(|share| share.numbers.iter().next());
        let oldest = own.map(|(number, ())| number).or_else(|| Some(self.parked.iter().next()?.0))?;
        self.remove(oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRANGER: Option<IpAddr> = None;

    fn address(last: u8) -> Option<IpAddr> {
        Some([10, 0, 0, last].into())
    }

    fn limits(sessions: usize, len: u64) -> Limits {
        Limits::server().sessions(sessions).parked_len(len)
    }

    fn park(
        parking: &mut Parking<&'static str>,
        name: &'static str,
        address: Option<IpAddr>,
        len: u64,
    ) -> Vec<&'static str> {
        let number = parking.insert(name, address);
        parking.note_len(number, len);
        std::iter::from_fn(|| parking.evict(number, &limits(4, 100))).collect()
    }

    #[test]
    fn session_that_is_parked_for_longest_goes_first() {
        let mut parking = Parking::new();
        for (last, name) in (1..).zip(["a", "b", "c", "d"]) {
            assert!(park(&mut parking, name, address(last), 10).is_empty());
        }
        assert_eq!(park(&mut parking, "e", address(5), 10), ["a"]);
        let mut parking = Parking::new();
        for (last, name) in (1..).zip(["a", "b"]) {
            assert!(park(&mut parking, name, address(last), 40).is_empty());
        }
        assert_eq!(park(&mut parking, "c", address(3), 40), ["a"], "too many bytes");
        assert_eq!((parking.count(), parking.len), (2, 80));
    }

    #[test]
    fn address_with_more_than_its_share_pays_with_its_own() {
        let mut parking = Parking::new();
        park(&mut parking, "honest", address(1), 10);
        park(&mut parking, "other", address(2), 10);
        for name in ["x", "y"] {
            assert!(park(&mut parking, name, STRANGER, 10).is_empty());
        }
        assert_eq!(park(&mut parking, "z", STRANGER, 10), ["x"]);
        assert_eq!(park(&mut parking, "long", STRANGER, 70), ["y"]);
        assert_eq!(
            park(&mut parking, "longer", STRANGER, 90),
            ["z", "long", "longer"],
            "even if nothing is left of it"
        );
        assert_eq!((parking.count(), parking.len, parking.shares.len()), (2, 20, 2));
    }

    #[test]
    fn among_sessions_of_one_address_the_oldest_goes() {
        let mut parking = Parking::new();
        for name in ["a", "b", "c", "d"] {
            assert!(park(&mut parking, name, address(1), 0).is_empty());
        }
        assert_eq!(park(&mut parking, "e", address(1), 0), ["a"]);
    }

    #[test]
    fn session_that_has_gone_leaves_nothing() {
        let mut parking = Parking::new();
        let number = parking.insert("a", STRANGER);
        parking.note_len(number, 10);
        assert_eq!(parking.remove(number), Some("a"));
        assert_eq!(parking.remove(number), None);
        parking.note_len(number, 10);
        assert_eq!((parking.count(), parking.len, parking.shares.len()), (0, 0, 0));
    }
}
