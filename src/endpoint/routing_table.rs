//! The way out of a server or a group: from a message with a path to the outboxes on that path.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use crate::{
    Tag,
    fate::Fate,
    outbox::{FETCHED_AT_ONCE, Key, Outbox, OutboxFrame, Refusal, Spent, discard},
    sparse,
};

/// Offers each message to the outboxes that are registered for its path. It holds no queue: a push goes straight through, and
/// comes back with their answer.
///
/// [`route_by_tag`](crate::ObservableExt::route_by_tag) does it for observers, one emission at a time: a thread that pushes while
/// another one emits leaves its item to that one, and returns. `send` must not, since it gives the answer of the outboxes, and
/// `complete` must find in them all that was pushed before. Outboxes call nobody, so here the others wait for the lock instead.
#[derive(Default)]
pub(crate) struct RoutingTable {
    table: Mutex<Table>,
    /// How many links compress, over all paths.
    compressing: AtomicUsize,
}

#[derive(Default)]
struct Table {
    /// The outboxes of each path, by number, in the order in which they came. None is empty.
    outboxes: HashMap<Tag, Vec<(u64, Outbox)>>,
    /// How many links compress on each path. None is 0.
    compressing: HashMap<Tag, usize>,
    added: u64,
    pushed: u64,
    unrouted: u64,
}

/// An outbox's place in a routing table.
#[must_use]
pub(crate) struct Route {
    path: Tag,
    number: u64,
}

impl RoutingTable {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offers `outbox` the messages that are pushed for `path` from now on.
    pub(crate) fn add(&self, path: Tag, outbox: Outbox) -> Route {
        let mut table = self.lock();
        table.added += 1;
        let number = table.added;
        table.outboxes.entry(path.clone()).or_default().push((number, outbox));
        Route { path, number }
    }

    pub(crate) fn remove(&self, route: &Route) {
        let mut table = self.lock();
        let Some(outboxes) = table.outboxes.get_mut(&route.path) else { return };
        let Ok(at) = outboxes.binary_search_by_key(&route.number, |(number, _)| *number) else { return };
        let removed = outboxes.remove(at);
        if outboxes.is_empty() {
            sparse::remove(&mut table.outboxes, &route.path);
        }
        // Not under the lock: with the last handle of an outbox go the messages in it.
        drop(table);
        drop(removed);
    }

    /// Notes that a link of a connection on `path` compresses, until the result is dropped.
    pub(crate) fn note_compressing(&self, path: Tag) -> Compressing<'_> {
        self.compressing.fetch_add(1, Relaxed);
        *self.lock().compressing.entry(path.clone()).or_default() += 1;
        Compressing { routes: self, path }
    }

    /// Whether a link on `path` compresses. Without the lock as long as none does on any path.
    pub(crate) fn has_compressing(&self, path: &Tag) -> bool {
        self.compressing.load(Relaxed) > 0 && self.lock().compressing.contains_key(path)
    }

    /// The answer of the outboxes on `path`: acceptance if at least one accepted, `None` where there are none.
    pub(crate) fn push(
        &self,
        path: &Tag,
        frame: OutboxFrame,
        fate: Option<&Arc<dyn Fate>>,
    ) -> Option<Result<(), Refusal>> {
        let mut table = self.lock();
        table.pushed += 1;
        Self::offer_all(table, path, frame, |outbox, frame| outbox.offer(frame, fate))
    }

    /// As [`push`](Self::push), for a message with a key.
    pub(crate) fn push_keyed(
        &self,
        path: &Tag,
        frame: OutboxFrame,
        key: Key,
        fate: Option<&Arc<dyn Fate>>,
    ) -> Option<Result<(), Refusal>> {
        let mut table = self.lock();
        table.pushed += 1;
        Self::offer_all(table, path, frame, |outbox, frame| outbox.offer_keyed(frame, key, fate))
    }

    /// As [`push`](Self::push), for a message that was not pushed here: it is not counted.
    #[cfg(feature = "nats")]
    pub(crate) fn relay(&self, path: &Tag, frame: OutboxFrame, key: Option<Key>) {
        let table = self.lock();
        if table.outboxes.contains_key(path) {
            Self::offer_all(table, path, frame, |outbox, frame| match key {
                None => outbox.offer(frame, None),
                Some(key) => outbox.offer_keyed(frame, key, None),
            });
        }
    }

    fn offer_all(
        mut table: MutexGuard<'_, Table>,
        path: &Tag,
        frame: OutboxFrame,
        offer: impl Fn(&Outbox, OutboxFrame) -> (Result<(), Refusal>, Spent),
    ) -> Option<Result<(), Refusal>> {
        let Some(((_, last), others)) = table.outboxes.get(path).and_then(|outboxes| outboxes.split_last()) else {
            table.unrouted += 1;
            drop(table);
            discard(frame);
            return None;
        };
        let frame = if others.is_empty() { frame } else { frame.shared() };
        let (mut answer, mut spent) = (Err(Refusal::Closed), Spent::default());
        for some in others.chunks(FETCHED_AT_ONCE) {
            some.iter().for_each(|(_, outbox)| outbox.prefetch());
            some.iter().for_each(|(_, outbox)| note(offer(outbox, frame.clone()), &mut answer, &mut spent));
        }
        note(offer(last, frame), &mut answer, &mut spent);
        // What is spent is dropped behind the lock.
        drop(table);
        Some(answer)
    }

    /// How many messages were pushed.
    pub(crate) fn pushed(&self) -> u64 {
        self.lock().pushed
    }

    /// How many messages had a path on which there was no outbox.
    pub(crate) fn unrouted(&self) -> u64 {
        self.lock().unrouted
    }
}

/// A link that compresses.
#[must_use]
pub(crate) struct Compressing<'a> {
    routes: &'a RoutingTable,
    path: Tag,
}

impl Drop for Compressing<'_> {
    fn drop(&mut self) {
        let Self { routes, path } = self;
        let mut table = routes.lock();
        if let Some(count) = table.compressing.get_mut(path) {
            *count -= 1;
            if *count == 0 {
                sparse::remove(&mut table.compressing, path);
            }
        }
        routes.compressing.fetch_sub(1, Relaxed);
    }
}

/// Notes the answer of one more outbox. `best` is the answer that counts of all; a full one still shows that there is a peer.
#[inline]
fn note((answer, dropped): (Result<(), Refusal>, Spent), best: &mut Result<(), Refusal>, spent: &mut Spent) {
    spent.append(dropped);
    if answer.is_ok() || *best == Err(Refusal::Closed) {
        *best = answer;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Barrier, atomic::AtomicBool},
        thread,
    };

    use super::*;
    use crate::{
        Frame,
        outbox::{OutboxBound, Overflow},
    };

    fn outbox(messages: usize) -> Outbox {
        Outbox::new(OutboxBound::new(messages, 1 << 20, Overflow::DropLatest), |_| {})
    }

    fn message() -> OutboxFrame {
        Frame::Binary("x".into()).into()
    }

    #[test]
    fn message_goes_to_the_outboxes_on_its_path_and_the_best_answer_counts() {
        let (routes, path) = (RoutingTable::default(), Tag::from("/"));
        let (small, large, other, closed) = (outbox(1), outbox(2), outbox(9), outbox(9));
        closed.close(1000, "", std::time::Duration::ZERO);
        let push = || routes.push(&path, message(), None);
        assert_eq!(push(), None);
        let of_closed = routes.add(path.clone(), closed);
        assert_eq!(push(), Some(Err(Refusal::Closed)));
        let added = [&small, &large].map(|outbox| routes.add(path.clone(), outbox.clone()));
        let _other = routes.add("/other".into(), other.clone());
        assert_eq!([push(), push(), push()], [Some(Ok(())), Some(Ok(())), Some(Err(Refusal::Full))]);
        let queued = [&small, &large, &other].map(|outbox| outbox.stats().queued.messages);
        assert_eq!(queued, [1, 2, 0]);
        added.iter().chain([&of_closed]).for_each(|route| routes.remove(route));
        routes.remove(&of_closed);
        assert_eq!((push(), routes.pushed(), routes.unrouted()), (None, 6, 2));
        assert_eq!(routes.lock().outboxes.len(), 1);
    }

    #[test]
    fn path_compresses_as_long_as_one_of_its_links_does() {
        let (routes, path) = (RoutingTable::default(), Tag::from("/"));
        let first = routes.note_compressing(path.clone());
        let second = routes.note_compressing(path.clone());
        assert!(routes.has_compressing(&path) && !routes.has_compressing(&"/other".into()));
        drop(first);
        assert!(routes.has_compressing(&path));
        drop(second);
        assert!(!routes.has_compressing(&path) && routes.lock().compressing.is_empty());
    }

    #[test]
    fn message_that_no_outbox_answered_is_unrouted_whoever_comes_and_goes_meanwhile() {
        let (routes, path) = (RoutingTable::default(), Tag::from("/"));
        let (start, is_over) = (Barrier::new(2), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                while !is_over.load(Relaxed) {
                    routes.remove(&routes.add(path.clone(), outbox(1 << 20)));
                }
            });
            start.wait();
            let unanswered = (0..20_000).filter(|_| routes.push(&path, message(), None).is_none()).count();
            is_over.store(true, Relaxed);
            assert_eq!((routes.pushed(), routes.unrouted()), (20_000, unanswered as u64));
        });
    }
}
