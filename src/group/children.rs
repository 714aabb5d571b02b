//! The clients of a group: those taking messages, those closing, and the sums over those that are gone.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::{
    RxWsClient, Tag, Tally, WsDatatype,
    stats::{GroupStats, Stats},
};

/// How many clients may be closing beside the ones that take messages, if [`PathBounds::max`] is less. More arise only where
/// paths are closed and opened again faster than their servers let go of them.
const CLOSING: usize = 1024;

/// How many paths a group may have, and how long they may be idle.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PathBounds {
    pub(crate) max: usize,
    /// How long a path may be idle; `None` for ever.
    pub(crate) idle: Option<Duration>,
}

impl Default for PathBounds {
    fn default() -> Self {
        Self { max: 1024, idle: None }
    }
}

/// A client that takes messages.
pub(crate) struct Taker<D: WsDatatype> {
    pub(crate) number: u64,
    pub(crate) client: RxWsClient<D>,
}

/// The report that counts a refused message.
#[derive(PartialEq, Eq)]
pub(crate) enum Report {
    /// The caller has to arrange it: this is the first refusal since the last report.
    Due,
    /// A report that is arranged already.
    UnderWay,
}

pub(crate) struct Children<D: WsDatatype> {
    /// The numbers of the clients that take messages, by path.
    takers: HashMap<Tag, u64>,
    /// Those clients and the closing ones, by number.
    clients: HashMap<u64, Child<D>>,
    opened: u64,
    /// The group is to end: no client is opened any more.
    pub(crate) closing: bool,
    /// The sums over the clients that are gone.
    past: Stats,
    /// Set once the group's task has died: the messages that its clients have not sent since.
    pub(crate) unsent: Option<Tally>,
    /// The messages that were refused for lack of room.
    refused: Tally,
    /// The refused messages that no event has reported yet, with the path of the first.
    unreported: Option<(Tag, Tally)>,
}

struct Child<D: WsDatatype> {
    client: RxWsClient<D>,
    /// `open` has returned it: it is closed by the program alone, however long it is idle.
    kept: bool,
    /// How many messages it had sent, received and dropped at the last look, and since when that number has not changed.
    moved: u64,
    since: Instant,
}

// Not derived: the datatype need not have a default.
impl<D: WsDatatype> Default for Children<D> {
    fn default() -> Self {
        Self {
            takers: HashMap::new(),
            clients: HashMap::new(),
            opened: 0,
            closing: false,
            past: Stats::default(),
            unsent: None,
            refused: Tally::default(),
            unreported: None,
        }
    }
}

impl<D: WsDatatype> Children<D> {
    /// The client that takes messages for `path`. One that is ending takes none, and frees it.
    pub(crate) fn taker(&mut self, path: &Tag) -> Option<Taker<D>> {
        let number = *self.takers.get(path)?;
        match self.clients.get(&number) {
            Some(Child { client, .. }) if !client.core().outbox.is_closing() => {
                Some(Taker { number, client: client.clone() })
            }
            _ => {
                self.takers.remove(path);
                None
            }
        }
    }

    /// Whether one more path may be opened.
    pub(crate) fn have_room(&self, max: usize) -> bool {
        let closing = self.clients.len().saturating_sub(self.takers.len());
        self.takers.len() < max && closing < max.max(CLOSING)
    }

    /// The number of the next client.
    pub(crate) fn next_number(&self) -> u64 {
        self.opened + 1
    }

    /// Takes in the client that has the next number, for a path that has none.
    pub(crate) fn add(&mut self, path: Tag, client: RxWsClient<D>) {
        self.opened += 1;
        self.takers.insert(path, self.opened);
        self.clients.insert(self.opened, Child { client, kept: false, moved: 0, since: Instant::now() });
    }

    /// Keeps a client open however long it is idle.
    pub(crate) fn keep(&mut self, number: u64) {
        if let Some(child) = self.clients.get_mut(&number) {
            child.kept = true;
        }
    }

    /// Frees the path of a client that is ending: the next message for it opens another one.
    pub(crate) fn release(&mut self, path: &Tag, number: u64) {
        if self.takers.get(path) == Some(&number) {
            self.takers.remove(path);
        }
    }

    /// Frees the paths of the clients that have been idle for `limit`, and returns them, the oldest client first.
    pub(crate) fn release_idle(&mut self, limit: Duration, now: Instant) -> Vec<(Tag, RxWsClient<D>)> {
        let Self { takers, clients, .. } = self;
        let mut idle = Vec::new();
        takers.retain(|path, number| {
            let Some(child) = clients.get_mut(number) else { return false };
            let is_idle = child.is_idle(limit, now);
            if is_idle {
                idle.push((*number, (path.clone(), child.client.clone())));
            }
            !is_idle
        });
        in_order(idle)
    }

    /// Takes out a client that has ended, whose sums remain.
    pub(crate) fn retire(&mut self, path: &Tag, number: u64) -> Option<RxWsClient<D>> {
        self.release(path, number);
        let client = self.clients.remove(&number)?.client;
        let stats = client.stats();
        self.past += stats;
        if let Some(unsent) = &mut self.unsent {
            *unsent += stats.sent.dropped.closed;
        }
        Some(client)
    }

    /// Counts a message that was refused for lack of room.
    pub(crate) fn refuse(&mut self, path: &Tag, refused: Tally) -> Report {
        self.refused += refused;
        let is_first = self.unreported.is_none();
        self.unreported.get_or_insert_with(|| (path.clone(), Tally::default())).1 += refused;
        if is_first { Report::Due } else { Report::UnderWay }
    }

    /// Takes the refused messages that have not been reported, for a report.
    pub(crate) fn take_unreported(&mut self) -> Option<(Tag, Tally)> {
        self.unreported.take()
    }

    pub(crate) fn are_gone(&self) -> bool {
        self.clients.is_empty()
    }

    /// The clients, the oldest first.
    pub(crate) fn all(&self) -> Vec<RxWsClient<D>> {
        in_order(self.clients.iter().map(|(number, child)| (*number, child.client.clone())).collect())
    }

    /// The paths that have a client, sorted.
    pub(crate) fn paths(&self) -> Vec<Tag> {
        let mut paths: Vec<_> = self.takers.keys().cloned().collect();
        paths.sort_unstable();
        paths
    }

    pub(crate) fn stats(&self) -> GroupStats {
        let mut all = self.past;
        self.clients.values().for_each(|child| all += child.client.stats());
        GroupStats { clients: self.takers.len(), refused: self.refused, all }
    }
}

/// What belongs to numbers, in their order.
fn in_order<T>(mut numbered: Vec<(u64, T)>) -> Vec<T> {
    numbered.sort_unstable_by_key(|(number, _)| *number);
    numbered.into_iter().map(|(_, value)| value).collect()
}

impl<D: WsDatatype> Child<D> {
    /// Whether it may be closed, since it has been idle for `limit`: as far as occasional looks can tell.
    fn is_idle(&mut self, limit: Duration, now: Instant) -> bool {
        let stats = self.client.stats();
        let moves = [stats.sent.accepted, stats.sent.written, stats.sent.dropped.total(), stats.received];
        let moved = moves.iter().map(|tally| tally.messages).sum::<u64>() + stats.undecodable;
        if stats.sent.queued.messages > 0 || moved != self.moved {
            (self.moved, self.since) = (moved, now);
        }
        !self.kept && now.saturating_duration_since(self.since) >= limit
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Frame, IoScheduler, WsStr, client::dialing::Dialing, endpoint::options::Options, runtime::UserValue};

    const LIMIT: Duration = Duration::from_secs(60);

    /// A client that is never started.
    fn client() -> RxWsClient<WsStr> {
        let (address, options) = ("ws://127.0.0.1:1".parse().unwrap(), Options::client("child"));
        let datatype = UserValue::new(Arc::new(WsStr));
        RxWsClient::new(address, datatype, options, Dialing::default(), IoScheduler::default()).unwrap()
    }

    /// The paths that have been idle for too long after `secs`.
    fn idle_after(children: &mut Children<WsStr>, begun: Instant, secs: u64) -> Vec<Tag> {
        let idle = children.release_idle(LIMIT, begun + Duration::from_secs(secs));
        idle.into_iter().map(|(path, _)| path).collect()
    }

    #[test]
    fn child_is_idle_when_nothing_was_sent_received_or_queued_for_the_limit() {
        let mut children = Children::default();
        let [quiet, hears, sends, queues] = [(); 4].map(|()| client());
        for (path, client) in [("/quiet", &quiet), ("/hears", &hears), ("/sends", &sends), ("/queues", &queues)] {
            children.add(path.into(), client.clone());
        }
        let begun = Instant::now();
        sends.send("sent before the next look").unwrap();
        queues.send("waits").unwrap();
        assert!(idle_after(&mut children, begun, 30).is_empty());
        sends.clear_outbox();
        hears.core().take_in(Frame::from("heard")).unwrap();
        assert_eq!(idle_after(&mut children, begun, 61), ["/quiet"]);
        assert!(idle_after(&mut children, begun, 119).is_empty());
        let mut idle = idle_after(&mut children, begun, 121);
        idle.sort_unstable();
        assert_eq!(idle, ["/hears", "/sends"]);
        assert!(idle_after(&mut children, begun, 100_000).is_empty(), "something is queued");
        assert_eq!(children.paths(), ["/queues"]);
    }

    #[test]
    fn child_that_is_kept_is_never_idle() {
        let mut children = Children::default();
        let number = children.next_number();
        children.add("/".into(), client());
        children.keep(number);
        assert!(idle_after(&mut children, Instant::now(), 100_000).is_empty());
    }

    #[test]
    fn clients_that_are_closing_leave_room_until_they_are_too_many() {
        let mut children = Children::default();
        let (path, client) = (Tag::from("/"), client());
        children.add(path.clone(), client.clone());
        assert!(!children.have_room(1));
        for number in 1..=CLOSING as u64 {
            children.release(&path, number);
            assert!(children.have_room(1) != (number == CLOSING as u64), "{number} are closing");
            children.add(path.clone(), client.clone());
        }
        children.retire(&path, 1);
        assert!(children.have_room(2));
    }
}
