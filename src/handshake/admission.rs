//! How many peers a server admits: its connections and opening handshakes, counted by address and path.

use std::{
    collections::HashMap,
    future::pending,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use crate::{Tag, limits::Limits, numbered::Numbered, sparse};

/// How long an opening handshake is left alone: twice the round trip of a slow network. A peer that has not even sent its
/// request by then, or is only being told why it is refused, may be evicted for a newcomer.
const GRACE: Duration = Duration::from_millis(500);

/// Why a peer that was evicted is refused.
pub(crate) const MADE_ROOM: &str = "it made room for other handshakes (Limits::handshakes)";

/// Gives each peer that the limits allow a [`Permit`].
pub(crate) struct Admission {
    limits: Arc<Limits>,
    occupancy: Mutex<Occupancy>,
}

/// The counts of connections and handshakes.
#[derive(Default)]
struct Occupancy {
    connections: usize,
    /// Counted only while there is a limit per address.
    addresses: HashMap<IpAddr, usize>,
    paths: HashMap<Tag, usize>,
    /// The peers whose request has not arrived yet or is refused, the oldest first.
    waiting: Numbered<Waiting>,
    /// How many permits there have been.
    permits: u64,
}

/// A peer that is counted, under its address if it has one.
#[derive(Clone, Copy, Debug)]
struct Counted(Option<IpAddr>);

struct Waiting {
    since: Instant,
    /// `None` if the peer is refused.
    counted: Option<Counted>,
    evict: oneshot::Sender<()>,
}

/// A limit that keeps a peer out.
#[derive(Clone, Copy)]
enum Limit {
    Connections,
    PerAddress,
}

impl Limit {
    fn reason(self) -> &'static str {
        match self {
            Self::Connections => "this server has as many connections as it allows (Limits::connections)",
            Self::PerAddress => "your address has as many connections as it may (Limits::connections_per_address)",
        }
    }
}

/// The peer has lost its place to another one.
#[derive(Debug, PartialEq)]
pub(crate) struct Evicted;

/// A peer's place in a server, from its arrival to the end of its connection.
pub(crate) struct Permit {
    admission: Arc<Admission>,
    number: u64,
    eviction: Option<oneshot::Receiver<()>>,
    refusal: Option<Limit>,
    /// `None` while the peer is counted as waiting, or not counted.
    counted: Option<Counted>,
    path: Option<Tag>,
}

impl Admission {
    pub(crate) fn new(limits: impl Into<Arc<Limits>>) -> Arc<Self> {
        Arc::new(Self { limits: limits.into(), occupancy: Mutex::default() })
    }

    /// Lets a peer begin its opening handshake, if only to be refused with an answer; `None` when there is no room even
    /// for that. Peers without an address have no limit per address.
    pub(crate) fn enter(self: &Arc<Self>, address: Option<IpAddr>) -> Option<Permit> {
        let now = Instant::now();
        let mut occupancy = self.lock();
        if occupancy.waiting.len() >= self.limits.handshakes {
            occupancy.evict_oldest(now, GRACE, |_| true)?;
        }
        let (counted, refusal) = match occupancy.admit(address.map(subscriber), &self.limits, now) {
            Ok(counted) => (Some(counted), None),
            Err(limit) => (None, Some(limit)),
        };
        occupancy.permits += 1;
        let number = occupancy.permits;
        let (evict, eviction) = oneshot::channel();
        occupancy.waiting.insert(number, Waiting { since: now, counted, evict });
        drop(occupancy);
        let admission = self.clone();
        Some(Permit { admission, number, eviction: Some(eviction), refusal, counted: None, path: None })
    }

    /// Evicts the peers whose requests have been missing for the longest time, for want of file descriptors: half of all,
    /// since accepting rests each time, and with one eviction at a time a queue of silent peers would hold up everybody
    /// behind it.
    pub(crate) fn evict_older_half(&self) {
        let mut occupancy = self.lock();
        let now = Instant::now();
        for _ in 0..occupancy.waiting.len().div_ceil(2) {
            let _ = occupancy.evict_oldest(now, Duration::ZERO, |_| true);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Occupancy> {
        self.occupancy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Occupancy {
    /// Evicts the oldest waiting peer that `may` accepts and that has waited for at least `time`, if there is one.
    #[must_use]
    fn evict_oldest(&mut self, now: Instant, time: Duration, may: impl Fn(&Waiting) -> bool) -> Option<Evicted> {
        let is_old = |waiting: &Waiting| now.duration_since(waiting.since) >= time;
        let (number, _) =
            self.waiting.iter().take_while(|(_, waiting)| is_old(waiting)).find(|(_, waiting)| may(waiting))?;
        let evicted = self.waiting.remove(number)?;
        // Its place is free from now on, however long it takes to leave.
        self.count_out(evicted.counted);
        // An error means that the peer is leaving by itself.
        let _ = evicted.evict.send(());
        Some(Evicted)
    }

    fn count_out(&mut self, counted: Option<Counted>) {
        let Some(Counted(address)) = counted else { return };
        self.connections -= 1;
        if let Some(address) = address {
            count_out(&mut self.addresses, &address);
        }
    }

    /// Counts a newcomer, or returns the limit that keeps it out.
    fn admit(&mut self, address: Option<IpAddr>, limits: &Limits, now: Instant) -> Result<Counted, Limit> {
        // First: no peer is evicted for a newcomer that may not stay.
        if let (Some(limit), Some(address)) = (limits.connections_per_address, address)
            && self.addresses.get(&address).is_some_and(|count| *count >= limit)
        {
            return Err(Limit::PerAddress);
        }
        if limits.connections.is_some_and(|limit| self.connections >= limit) {
            let evicted = self.evict_oldest(now, GRACE, |waiting| waiting.counted.is_some());
            evicted.ok_or(Limit::Connections)?;
        }
        if limits.connections_per_address.is_some()
            && let Some(address) = address
        {
            *self.addresses.entry(address).or_default() += 1;
        }
        self.connections += 1;
        Ok(Counted(address))
    }
}

impl Permit {
    /// The reason why the peer may not stay, if there is one.
    pub(crate) fn refusal(&self) -> Option<&'static str> {
        self.refusal.map(Limit::reason)
    }

    /// Takes a place on a path, or returns the limit that keeps the peer out.
    pub(crate) fn take_path(&mut self, path: &Tag) -> Result<(), &'static str> {
        let Some(limit) = self.admission.limits.connections_per_path else { return Ok(()) };
        if !count_in(&mut self.admission.lock().paths, path.clone(), limit) {
            return Err("this path has as many connections as it allows (Limits::connections_per_path)");
        }
        self.path = Some(path.clone());
        Ok(())
    }

    /// Notes that a request has arrived that may be granted: from now on the peer is not evicted.
    ///
    /// # Errors
    ///
    /// When it has been evicted already.
    pub(crate) fn stay(&mut self) -> Result<(), Evicted> {
        let waiting = self.admission.lock().waiting.remove(self.number).ok_or(Evicted)?;
        self.counted = waiting.counted;
        Ok(())
    }

    /// Takes a place for good, with a request that is granted already, or returns the limit that keeps the peer out.
    pub(crate) fn enter(&mut self, path: &Tag) -> Result<(), &'static str> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        self.stay().map_err(|Evicted| MADE_ROOM)?;
        self.take_path(path)
    }

    /// Resolves when the peer has lost its place to another one.
    pub(crate) fn evicted(&mut self) -> impl Future<Output = ()> + Send + use<> {
        let eviction = self.eviction.take();
        async {
            // An error means that the peer stays: the sender is gone.
            if let Some(eviction) = eviction
                && eviction.await.is_ok()
            {
                return;
            }
            pending().await
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut occupancy = self.admission.lock();
        let waited_as = occupancy.waiting.remove(self.number).and_then(|waiting| waiting.counted);
        occupancy.count_out(waited_as.or(self.counted));
        if let Some(path) = &self.path {
            count_out(&mut occupancy.paths, path);
        }
    }
}

fn count_in<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K, limit: usize) -> bool {
    let count = counts.entry(key).or_default();
    let has_room = *count < limit;
    *count += usize::from(has_room);
    has_room
}

fn count_out<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            sparse::remove(counts, key);
        }
    }
}

/// The address under which an address is counted: a provider gives one subscriber a whole /64 network of IPv6.
pub(crate) fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one_and_mapped_ones_as_ipv4() {
        let counted = |text| ip(text).map(subscriber);
        assert_eq!(counted("2001:db8:1:2:3::9"), counted("2001:db8:1:2:ffff::1"));
        assert_ne!(counted("2001:db8:1:2::1"), counted("2001:db8:1:3::1"));
        assert_eq!(counted("::ffff:10.0.0.1"), ip("10.0.0.1"));
    }

    #[test]
    fn what_enters_is_counted_out_again() {
        let admission =
            Admission::new(Limits::server().connections(2).connections_per_address(1).connections_per_path(1));
        let mut first = admission.enter(ip("10.0.0.1")).unwrap();
        assert_eq!(first.refusal(), None);
        first.take_path(&"/a".into()).unwrap();
        assert!(admission.enter(ip("10.0.0.1")).unwrap().refusal().unwrap().contains("connections_per_address"));
        let mut second = admission.enter(ip("10.0.0.2")).unwrap();
        assert!(second.take_path(&"/a".into()).unwrap_err().contains("connections_per_path"));
        assert!(admission.enter(ip("10.0.0.3")).unwrap().refusal().unwrap().contains("Limits::connections)"));
        drop((first, second));
        let occupancy = admission.lock();
        assert!(
            occupancy.connections == 0
                && occupancy.addresses.is_empty()
                && occupancy.paths.is_empty()
                && occupancy.waiting.is_empty()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_that_has_waited_longest_makes_room_after_the_grace() {
        let admission = Admission::new(Limits::server().handshakes(2));
        let mut oldest = admission.enter(ip("10.0.0.1")).unwrap();
        let mut other = admission.enter(ip("10.0.0.1")).unwrap();
        assert!(admission.enter(ip("10.0.0.1")).is_none());
        tokio::time::advance(GRACE).await;
        let third = admission.enter(ip("10.0.0.1"));
        oldest.evicted().await;
        assert!(third.is_some() && admission.enter(ip("10.0.0.1")).is_some(), "the second one makes room as well");
        other.evicted().await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_older_half_makes_room_at_once_where_descriptors_run_out() {
        let admission = Admission::new(Limits::server());
        let mut permits: Vec<_> = (0..5).map(|_| admission.enter(ip("10.0.0.1")).unwrap()).collect();
        admission.evict_older_half();
        let stay: Vec<_> = permits.iter_mut().map(Permit::stay).collect();
        assert_eq!(stay, [Err(Evicted), Err(Evicted), Err(Evicted), Ok(()), Ok(())]);
        admission.evict_older_half();
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_has_sent_its_request_is_left_alone() {
        let admission = Admission::new(Limits::server().handshakes(1));
        let mut permit = admission.enter(ip("10.0.0.1")).unwrap();
        assert!(permit.stay().is_ok());
        tokio::time::advance(GRACE).await;
        assert!(admission.enter(ip("10.0.0.1")).is_some());
        let asked = tokio::time::timeout(GRACE, permit.evicted()).await;
        assert!(asked.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn silent_ones_make_room_for_connections_too_and_are_counted_out_once() {
        let admission = Admission::new(Limits::server().connections(2).connections_per_address(2));
        let mut open = admission.enter(ip("10.0.0.1")).unwrap();
        assert!(open.stay().is_ok());
        let mut silent = admission.enter(ip("10.0.0.1")).unwrap();
        let refused = admission.enter(ip("10.0.0.2")).unwrap();
        assert!(refused.refusal().is_some(), "the silent one is young");
        tokio::time::advance(GRACE).await;
        let mut newcomer = admission.enter(ip("10.0.0.2")).unwrap();
        assert!(newcomer.refusal().is_none() && newcomer.stay().is_ok());
        silent.evicted().await;
        assert!(silent.stay().is_err(), "its request comes too late");
        drop(silent);
        assert_eq!(admission.lock().connections, 2);
        tokio::time::advance(GRACE).await;
        assert!(admission.enter(ip("10.0.0.3")).unwrap().refusal().is_some(), "connections make no room");
        drop((open, refused, newcomer));
        let occupancy = admission.lock();
        assert!(occupancy.connections == 0 && occupancy.addresses.is_empty() && occupancy.waiting.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_has_to_leave_for_one_that_is_refused_for_its_address() {
        let admission = Admission::new(Limits::server().connections(2).connections_per_address(1));
        let mut open = admission.enter(ip("10.0.0.1")).unwrap();
        assert!(open.stay().is_ok());
        let mut silent = admission.enter(ip("10.0.0.2")).unwrap();
        tokio::time::advance(GRACE).await;
        assert!(admission.enter(ip("10.0.0.1")).unwrap().refusal().unwrap().contains("connections_per_address"));
        assert!(silent.stay().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_are_being_refused_are_bounded_in_number_and_make_room() {
        let admission = Admission::new(Limits::server().connections(1).handshakes(2));
        let mut open = admission.enter(ip("10.0.0.1")).unwrap();
        assert!(open.stay().is_ok());
        let mut refused: Vec<_> = (0..2).map(|_| admission.enter(ip("10.0.0.2")).unwrap()).collect();
        assert!(admission.enter(ip("10.0.0.2")).is_none());
        tokio::time::advance(GRACE).await;
        assert!(admission.enter(ip("10.0.0.2")).is_some());
        refused[0].evicted().await;
    }
}
