//! Who is inside a server: its connections and opening handshakes, counted by address and path.

use std::{
    collections::{BTreeMap, HashMap},
    future::pending,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use crate::{Tag, limits::Limits, sparse};

/// How long an opening handshake is left alone: twice the round trip of a slow network. One that has not even sent its
/// request by then, or is only being told why it is refused, may have to make room for a newcomer.
const GRACE: Duration = Duration::from_millis(500);

/// Lets visitors in as far as the limits allow.
pub(crate) struct Lobby {
    limits: Limits,
    crowd: Mutex<Crowd>,
}

#[derive(Default)]
struct Crowd {
    inside: usize,
    /// Counted only while there is a limit of it.
    addresses: HashMap<IpAddr, usize>,
    paths: HashMap<Tag, usize>,
    /// Those whose request has not come yet or is refused, the oldest first.
    waiting: BTreeMap<u64, Waiting>,
    visits: u64,
}

struct Waiting {
    since: Instant,
    /// Under which it is counted in; `None` if it is not.
    address: Option<IpAddr>,
    ask_to_leave: oneshot::Sender<()>,
}

/// A peer's place inside, from its arrival to the end of its connection.
pub(crate) struct Visit {
    lobby: Arc<Lobby>,
    number: u64,
    asked_to_leave: Option<oneshot::Receiver<()>>,
    refusal: Option<&'static str>,
    /// Under which it is counted in; `None` if it is not, or as one of those who wait.
    address: Option<IpAddr>,
    path: Option<Tag>,
}

impl Lobby {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, crowd: Mutex::default() })
    }

    /// Lets a peer begin its opening handshake, if only to be refused with an answer; `None` when there is no room even
    /// for that.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Visit> {
        let now = Instant::now();
        let mut crowd = self.lock();
        if crowd.waiting.len() >= self.limits.handshakes && !crowd.make_room(now, GRACE, |_| true) {
            return None;
        }
        let (refusal, address) = crowd.admit(subscriber(address), &self.limits, now);
        crowd.visits += 1;
        let number = crowd.visits;
        let (ask_to_leave, asked_to_leave) = oneshot::channel();
        crowd.waiting.insert(number, Waiting { since: now, address, ask_to_leave });
        drop(crowd);
        let lobby = self.clone();
        Some(Visit { lobby, number, asked_to_leave: Some(asked_to_leave), refusal, address: None, path: None })
    }

    /// Has those leave whose requests are awaited for the longest time: half of all, since accepting rests after each time
    /// that this is needed, and with one at a time a queue of silent peers would hold up everybody behind it.
    pub(crate) fn make_room(&self) {
        let mut crowd = self.lock();
        let now = Instant::now();
        for _ in 0..crowd.waiting.len().div_ceil(2) {
            crowd.make_room(now, Duration::ZERO, |_| true);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Crowd> {
        self.crowd.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Crowd {
    /// Has the oldest of those who wait leave who `may` and has waited for `time`.
    fn make_room(&mut self, now: Instant, time: Duration, may: impl Fn(&Waiting) -> bool) -> bool {
        let mut old = self.waiting.iter().take_while(|(_, waiting)| now.duration_since(waiting.since) >= time);
        let Some((&number, _)) = old.find(|(_, waiting)| may(waiting)) else { return false };
        if let Some(leaving) = self.waiting.remove(&number) {
            // Its place is free from now on, however long it takes to leave.
            self.count_out(leaving.address);
            // It may be leaving by itself.
            let _ = leaving.ask_to_leave.send(());
        }
        true
    }

    fn count_out(&mut self, address: Option<IpAddr>) {
        if let Some(address) = address {
            self.inside -= 1;
            count_out(&mut self.addresses, &address);
        }
    }

    /// Counts a newcomer in, and returns under which address; or says which limit keeps it out.
    fn admit(&mut self, address: IpAddr, limits: &Limits, now: Instant) -> (Option<&'static str>, Option<IpAddr>) {
        // First: nobody is to leave for one that may not stay.
        if let Some(limit) = limits.connections_per_address
            && self.addresses.get(&address).is_some_and(|count| *count >= limit)
        {
            return (Some("your address has as many connections as it may (Limits::connections_per_address)"), None);
        }
        let is_full = limits.connections.is_some_and(|limit| self.inside >= limit);
        if is_full && !self.make_room(now, GRACE, |waiting| waiting.address.is_some()) {
            return (Some("this server has as many connections as it allows (Limits::connections)"), None);
        }
        if limits.connections_per_address.is_some() {
            *self.addresses.entry(address).or_default() += 1;
        }
        self.inside += 1;
        (None, Some(address))
    }
}

impl Visit {
    /// Why it may not stay, if so.
    pub(crate) fn refusal(&self) -> Option<&'static str> {
        self.refusal
    }

    /// Takes a place on a path, or says which limit keeps it out.
    pub(crate) fn take_path(&mut self, path: &Tag) -> Result<(), &'static str> {
        let Some(limit) = self.lobby.limits.connections_per_path else { return Ok(()) };
        if !count_in(&mut self.lobby.lock().paths, path.clone(), limit) {
            return Err("this path has as many connections as it allows (Limits::connections_per_path)");
        }
        self.path = Some(path.clone());
        Ok(())
    }

    /// The request has come and is one to be granted: from now on it is not asked to leave. False when it has been already.
    #[must_use]
    pub(crate) fn stays(&mut self) -> bool {
        let waiting = self.lobby.lock().waiting.remove(&self.number);
        self.address = waiting.as_ref().and_then(|waiting| waiting.address);
        waiting.is_some()
    }

    /// Resolves when the peer is to leave, to make room for others.
    pub(crate) fn asked_to_leave(&mut self) -> impl Future<Output = ()> + Send + use<> {
        let asked = self.asked_to_leave.take();
        async {
            let asked = match asked {
                Some(asked) => asked.await.is_ok(),
                None => false,
            };
            if !asked {
                pending().await
            }
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut crowd = self.lobby.lock();
        let waited_as = crowd.waiting.remove(&self.number).and_then(|waiting| waiting.address);
        crowd.count_out(waited_as.or(self.address));
        if let Some(path) = &self.path {
            count_out(&mut crowd.paths, path);
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

/// What an address is counted as: a provider's subscriber has a whole /64 network of IPv6.
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one_and_mapped_ones_as_ipv4() {
        assert_eq!(subscriber(ip("2001:db8:1:2:3::9")), subscriber(ip("2001:db8:1:2:ffff::1")));
        assert_ne!(subscriber(ip("2001:db8:1:2::1")), subscriber(ip("2001:db8:1:3::1")));
        assert_eq!(subscriber(ip("::ffff:10.0.0.1")), ip("10.0.0.1"));
    }

    #[test]
    fn what_enters_is_counted_out_again() {
        let lobby = Lobby::new(Limits::server().connections(2).connections_per_address(1).connections_per_path(1));
        let mut first = lobby.enter(ip("10.0.0.1")).unwrap();
        assert_eq!(first.refusal(), None);
        first.take_path(&"/a".into()).unwrap();
        assert!(lobby.enter(ip("10.0.0.1")).unwrap().refusal().unwrap().contains("connections_per_address"));
        let mut second = lobby.enter(ip("10.0.0.2")).unwrap();
        assert!(second.take_path(&"/a".into()).unwrap_err().contains("connections_per_path"));
        assert!(lobby.enter(ip("10.0.0.3")).unwrap().refusal().unwrap().contains("Limits::connections)"));
        drop((first, second));
        let crowd = lobby.lock();
        assert!(crowd.inside == 0 && crowd.addresses.is_empty() && crowd.paths.is_empty() && crowd.waiting.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_that_has_waited_longest_makes_room_after_the_grace() {
        let lobby = Lobby::new(Limits::server().handshakes(2));
        let mut oldest = lobby.enter(ip("10.0.0.1")).unwrap();
        let mut other = lobby.enter(ip("10.0.0.1")).unwrap();
        assert!(lobby.enter(ip("10.0.0.1")).is_none());
        tokio::time::advance(GRACE).await;
        let third = lobby.enter(ip("10.0.0.1"));
        oldest.asked_to_leave().await;
        assert!(third.is_some() && lobby.enter(ip("10.0.0.1")).is_some(), "the second one makes room as well");
        other.asked_to_leave().await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_older_half_makes_room_at_once_where_descriptors_run_out() {
        let lobby = Lobby::new(Limits::server());
        let mut visits: Vec<_> = (0..5).map(|_| lobby.enter(ip("10.0.0.1")).unwrap()).collect();
        lobby.make_room();
        let stay: Vec<_> = visits.iter_mut().map(Visit::stays).collect();
        assert_eq!(stay, [false, false, false, true, true]);
        lobby.make_room();
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_has_sent_its_request_is_left_alone() {
        let lobby = Lobby::new(Limits::server().handshakes(1));
        let mut visit = lobby.enter(ip("10.0.0.1")).unwrap();
        assert!(visit.stays());
        tokio::time::advance(GRACE).await;
        assert!(lobby.enter(ip("10.0.0.1")).is_some());
        let asked = tokio::time::timeout(GRACE, visit.asked_to_leave()).await;
        assert!(asked.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn silent_ones_make_room_for_connections_too_and_are_counted_out_once() {
        let lobby = Lobby::new(Limits::server().connections(2).connections_per_address(2));
        let mut open = lobby.enter(ip("10.0.0.1")).unwrap();
        assert!(open.stays());
        let mut silent = lobby.enter(ip("10.0.0.1")).unwrap();
        let refused = lobby.enter(ip("10.0.0.2")).unwrap();
        assert!(refused.refusal().is_some(), "the silent one is young");
        tokio::time::advance(GRACE).await;
        let mut newcomer = lobby.enter(ip("10.0.0.2")).unwrap();
        assert!(newcomer.refusal().is_none() && newcomer.stays());
        silent.asked_to_leave().await;
        assert!(!silent.stays(), "its request comes too late");
        drop(silent);
        assert_eq!(lobby.lock().inside, 2);
        tokio::time::advance(GRACE).await;
        assert!(lobby.enter(ip("10.0.0.3")).unwrap().refusal().is_some(), "connections make no room");
        drop((open, refused, newcomer));
        let crowd = lobby.lock();
        assert!(crowd.inside == 0 && crowd.addresses.is_empty() && crowd.waiting.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_has_to_leave_for_one_that_is_refused_for_its_address() {
        let lobby = Lobby::new(Limits::server().connections(2).connections_per_address(1));
        let mut open = lobby.enter(ip("10.0.0.1")).unwrap();
        assert!(open.stays());
        let mut silent = lobby.enter(ip("10.0.0.2")).unwrap();
        tokio::time::advance(GRACE).await;
        assert!(lobby.enter(ip("10.0.0.1")).unwrap().refusal().unwrap().contains("connections_per_address"));
        assert!(silent.stays());
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_are_being_refused_are_bounded_in_number_and_make_room() {
        let lobby = Lobby::new(Limits::server().connections(1).handshakes(2));
        let mut open = lobby.enter(ip("10.0.0.1")).unwrap();
        assert!(open.stays());
        let mut refused: Vec<_> = (0..2).map(|_| lobby.enter(ip("10.0.0.2")).unwrap()).collect();
        assert!(lobby.enter(ip("10.0.0.2")).is_none());
        tokio::time::advance(GRACE).await;
        assert!(lobby.enter(ip("10.0.0.2")).is_some());
        refused[0].asked_to_leave().await;
    }
}
