//! The way out of a server: from a message with a tag to the outboxes on that tag, which is the path of some and a room of others.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use crate::{
    Tag,
    by_tag::ByTag,
    fate::Fate,
    outbox::{Answer, FETCHED_AT_ONCE, Key, Outbox, OutboxFrame, Refusal, Runs, Spent, discard},
    sparse,
};

/// Offers each message to the outboxes that are registered for its tag. It holds no queue: a push goes straight through, and
/// comes back with their answer.
///
/// [`route_by_tag`](crate::ObservableExt::route_by_tag) does it for observers, one emission at a time: a thread that pushes while
/// another one emits leaves its item to that one, and returns. `send` must not, since it gives the answer of the outboxes, and
/// `complete` must find in them all that was pushed before. Outboxes call nobody, so here the others wait for the lock instead.
#[derive(Default)]
pub(crate) struct RoutingTable {
    table: Mutex<Table>,
    /// How many links compress, over all tags.
    compressing: AtomicUsize,
}

#[derive(Default)]
struct Table {
    /// Those on each tag. None is empty.
    tags: ByTag<Hearers>,
    added: u64,
    pushed: u64,
    unrouted: u64,
}

/// Those who hear the messages of a tag.
#[derive(Default)]
struct Hearers {
    /// By number, in the order in which they came.
    outboxes: Vec<(u64, Outbox)>,
    /// How many of their links compress.
    compressing: usize,
    /// What goes to all of them.
    runs: Runs,
}

impl RoutingTable {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offers `outbox`, whose link `compresses` or not, the messages that are pushed for `tag` from now on. Returns its number there.
    #[must_use]
    pub(crate) fn add(&self, tag: Tag, outbox: Outbox, compresses: bool) -> u64 {
        let mut table = self.lock();
        table.added += 1;
        let number = table.added;
        let hearers = table.tags.get_or_default(tag);
        sparse::expect_one(&mut hearers.outboxes);
        hearers.outboxes.push((number, outbox));
        if compresses {
            self.count_compressing(hearers, 1);
        }
        number
    }

    /// Takes out the outbox with this number, whose link `compresses` or not. The caller holds another handle of it: with the last
    /// one would go the messages in it.
    pub(crate) fn remove(&self, tag: &Tag, number: u64, compresses: bool) {
        let mut table = self.lock();
        let Some(hearers) = table.tags.get_mut(tag) else { return };
        let Ok(at) = hearers.outboxes.binary_search_by_key(&number, |(number, _)| *number) else { return };
        hearers.outboxes.remove(at).1.settle();
        if compresses {
            self.count_compressing(hearers, -1);
        }
        if hearers.outboxes.is_empty() {
            table.tags.remove(tag);
        }
    }

    /// Notes that the link of an outbox on `tag` has begun to compress, or has ended.
    pub(crate) fn set_compressing(&self, tag: &Tag, compresses: bool) {
        if let Some(hearers) = self.lock().tags.get_mut(tag) {
            self.count_compressing(hearers, if compresses { 1 } else { -1 });
        }
    }

    fn count_compressing(&self, hearers: &mut Hearers, change: isize) {
        hearers.compressing = hearers.compressing.wrapping_add_signed(change);
        self.compressing.fetch_add(change as usize, Relaxed);
    }

    /// Whether a link on `tag` compresses. Without the lock as long as none does on any.
    pub(crate) fn has_compressing(&self, tag: &Tag) -> bool {
        self.compressing.load(Relaxed) > 0 && self.lock().tags.get(tag).is_some_and(|hearers| hearers.compressing > 0)
    }

    /// The answer of the outboxes on `path`, but for the one left out: acceptance if at least one accepted, `None` where there are
    /// none.
    pub(crate) fn push(
        &self,
        path: &Tag,
        frame: OutboxFrame,
        fate: Option<&Arc<dyn Fate>>,
        except: Option<&Outbox>,
    ) -> Option<Result<(), Refusal>> {
        self.push_by(path, frame, |hearers, frame| match fate {
            None => hearers.offer_all(frame, except),
            Some(_) => hearers.offer_to_each(frame, except, |outbox, frame| outbox.offer(frame, fate)),
        })
    }

    /// As [`push`](Self::push), for a message with a key.
    pub(crate) fn push_keyed(
        &self,
        path: &Tag,
        frame: OutboxFrame,
        key: Key,
        fate: Option<&Arc<dyn Fate>>,
        except: Option<&Outbox>,
    ) -> Option<Result<(), Refusal>> {
        self.push_by(path, frame, |hearers, frame| hearers.offer_keyed(frame, key, fate, except))
    }

    fn push_by(
        &self,
        path: &Tag,
        frame: OutboxFrame,
        offer: impl FnOnce(&mut Hearers, OutboxFrame) -> Answers,
    ) -> Option<Result<(), Refusal>> {
        let mut table = self.lock();
        table.pushed += 1;
        let answers = match table.tags.get_mut(path) {
            Some(hearers) => offer(hearers, frame),
            None => Answers::of_nobody(frame),
        };
        if answers.best.is_none() {
            table.unrouted += 1;
        }
        drop(table);
        answers.into_best()
    }

    /// As [`push`](Self::push), for a message that was not pushed here: it is not counted.
    #[cfg(feature = "nats")]
    pub(crate) fn relay(&self, path: &Tag, frame: OutboxFrame, key: Option<Key>) {
        let mut table = self.lock();
        let answers = match (table.tags.get_mut(path), key) {
            (Some(hearers), None) => hearers.offer_all(frame, None),
            (Some(hearers), Some(key)) => hearers.offer_keyed(frame, key, None, None),
            (None, _) => Answers::of_nobody(frame),
        };
        drop(table);
        answers.into_best();
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

impl Hearers {
    /// Offers a message of which nothing else is to be known, in a run if that pays.
    fn offer_all(&mut self, frame: OutboxFrame, except: Option<&Outbox>) -> Answers {
        // A message that is to be compressed is kept in another form, for all.
        if self.compressing == 0
            && let Some(message) = self.runs.add(&frame, self.outboxes.len())
        {
            let mut answers = Answers::of_nobody(frame);
            answers.add(&self.outboxes, except, |outbox| outbox.offer_of_run(&message));
            return answers;
        }
        self.offer_to_each(frame, except, |outbox, frame| outbox.offer(frame, None))
    }

    fn offer_keyed(
        &self,
        frame: OutboxFrame,
        key: Key,
        fate: Option<&Arc<dyn Fate>>,
        except: Option<&Outbox>,
    ) -> Answers {
        self.offer_to_each(frame, except, |outbox, frame| outbox.offer_keyed(frame, key, fate))
    }

    fn offer_to_each(
        &self,
        frame: OutboxFrame,
        except: Option<&Outbox>,
        offer: impl Fn(&Outbox, OutboxFrame) -> Answer,
    ) -> Answers {
        let outboxes = match self.outboxes.split_last() {
            Some(((_, last), others)) if !is_meant(last, except) => others,
            _ => &self.outboxes,
        };
        let Some(((_, last), others)) = outboxes.split_last() else { return Answers::of_nobody(frame) };
        let frame = if others.is_empty() { frame } else { frame.shared() };
        let mut answers = Answers::default();
        answers.add(others, except, |outbox| offer(outbox, frame.clone()));
        answers.note(offer(last, frame));
        answers
    }
}

fn is_meant(outbox: &Outbox, except: Option<&Outbox>) -> bool {
    except.is_none_or(|except| !outbox.is_same(except))
}

/// The answers of the outboxes to which a message was offered. With it goes what is to be dropped behind the lock.
#[derive(Default)]
struct Answers {
    /// The one that counts of all; a full one still shows that there is a peer.
    best: Option<Result<(), Refusal>>,
    spent: Option<Spent>,
    /// The message, if none of them has this handle of it.
    left: Option<OutboxFrame>,
}

impl Answers {
    fn of_nobody(message: OutboxFrame) -> Self {
        Self { left: Some(message), ..Self::default() }
    }

    /// Adds those of `outboxes`, but for the one left out.
    fn add(&mut self, outboxes: &[(u64, Outbox)], except: Option<&Outbox>, offer: impl Fn(&Outbox) -> Answer) {
        for some in outboxes.chunks(FETCHED_AT_ONCE) {
            some.iter().for_each(|(_, outbox)| outbox.prefetch());
            for (_, outbox) in some {
                if is_meant(outbox, except) {
                    self.note(offer(outbox));
                } else {
                    outbox.settle();
                }
            }
        }
    }

    #[inline]
    fn note(&mut self, (answer, spent): Answer) {
        if let Some(spent) = spent {
            self.spent.get_or_insert_default().append(spent);
        }
        if answer.is_ok() || matches!(self.best, None | Some(Err(Refusal::Closed))) {
            self.best = Some(answer);
        }
    }

    /// Drops the rest. The caller holds no lock.
    fn into_best(self) -> Option<Result<(), Refusal>> {
        self.left.into_iter().for_each(discard);
        self.best
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
        Outbox::unreported(OutboxBound::new(messages, 1 << 20, Overflow::DropLatest))
    }

    fn message() -> OutboxFrame {
        Frame::Binary("x".into()).into()
    }

    #[test]
    fn message_goes_to_the_outboxes_on_its_path_and_the_best_answer_counts() {
        let (routes, path) = (RoutingTable::default(), Tag::from("/"));
        let (small, large, other, closed) = (outbox(1), outbox(2), outbox(9), outbox(9));
        closed.close(1000, "", std::time::Duration::ZERO);
        let push = || routes.push(&path, message(), None, None);
        assert_eq!(push(), None);
        let of_closed = routes.add(path.clone(), closed, false);
        assert_eq!(push(), Some(Err(Refusal::Closed)));
        let added = [&small, &large].map(|outbox| routes.add(path.clone(), outbox.clone(), false));
        let _other = routes.add("/other".into(), other.clone(), false);
        assert_eq!([push(), push(), push()], [Some(Ok(())), Some(Ok(())), Some(Err(Refusal::Full))]);
        let queued = [&small, &large, &other].map(|outbox| outbox.stats().queued.messages);
        assert_eq!(queued, [1, 2, 0]);
        added.iter().chain([&of_closed]).for_each(|route| routes.remove(&path, *route, false));
        routes.remove(&path, of_closed, false);
        assert_eq!((push(), routes.pushed(), routes.unrouted()), (None, 6, 2));
        assert_eq!(routes.lock().tags.len(), 1);
    }

    #[test]
    fn message_reaches_all_but_the_outbox_that_is_left_out_wherever_that_is() {
        let (routes, path) = (RoutingTable::default(), Tag::from("/"));
        let outboxes: Vec<_> = (0..3).map(|_| outbox(9)).collect();
        let alone = routes.add(path.clone(), outboxes[0].clone(), false);
        assert_eq!(routes.push(&path, message(), None, Some(&outboxes[0])), None);
        assert_eq!(routes.unrouted(), 1);
        let _others = [1, 2].map(|at| routes.add(path.clone(), outboxes[at].clone(), false));
        for except in &outboxes {
            assert_eq!(routes.push(&path, message(), None, Some(except)), Some(Ok(())));
        }
        let queued = || outboxes.iter().map(|outbox| outbox.stats().queued.messages).collect::<Vec<_>>();
        assert_eq!(queued(), [2, 2, 2]);
        // One that is elsewhere.
        routes.remove(&path, alone, false);
        assert_eq!(routes.push(&path, message(), None, Some(&outboxes[0])), Some(Ok(())));
        assert_eq!((queued(), routes.unrouted()), (vec![2, 3, 3], 1));
    }

    #[test]
    fn outbox_that_leaves_or_is_left_out_keeps_its_own_messages_and_no_run() {
        let (routes, path) = (RoutingTable::default(), Tag::from("/"));
        let outboxes: Vec<_> = (0..10).map(|_| outbox(9)).collect();
        let numbers: Vec<_> = outboxes.iter().map(|outbox| routes.add(path.clone(), outbox.clone(), false)).collect();
        let is_kept = || routes.lock().tags.get(&path).unwrap().runs.is_kept();
        assert_eq!(routes.push(&path, message(), None, None), Some(Ok(())));
        routes.remove(&path, numbers[0], false);
        assert_eq!(routes.push(&path, message(), None, Some(&outboxes[1])), Some(Ok(())));
        for outbox in &outboxes[2..] {
            assert!(is_kept());
            outbox.take_each(100, None, |_, _| {});
            outbox.confirm(2, false);
        }
        assert!(!is_kept());
        assert!(outboxes[..2].iter().all(|outbox| outbox.stats().queued.messages == 1));
    }

    #[test]
    fn tag_compresses_as_long_as_a_link_on_it_does() {
        let (routes, path) = (RoutingTable::default(), Tag::from("/"));
        let add = |compresses| routes.add(path.clone(), outbox(1), compresses);
        let (plain, first, second) = (add(false), add(true), add(false));
        let is_so = |here| routes.has_compressing(&path) == here && !routes.has_compressing(&"/other".into());
        assert!(is_so(true));
        routes.set_compressing(&path, true); // of the second
        routes.remove(&path, first, true);
        assert!(is_so(true));
        routes.set_compressing(&path, false);
        assert!(is_so(false));
        routes.set_compressing(&path, true);
        routes.remove(&path, second, true);
        assert!(is_so(false));
        routes.remove(&path, plain, false);
        // One whose connection has left.
        routes.set_compressing(&path, true);
        assert_eq!((routes.lock().tags.len(), routes.compressing.load(Relaxed)), (0, 0));
    }

    #[test]
    fn message_that_no_outbox_answered_is_unrouted_whoever_comes_and_goes_meanwhile() {
        let (routes, path) = (RoutingTable::default(), Tag::from("/"));
        let (start, is_over) = (Barrier::new(2), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                while !is_over.load(Relaxed) {
                    let outbox = outbox(1 << 20);
                    routes.remove(&path, routes.add(path.clone(), outbox.clone(), false), false);
                }
            });
            start.wait();
            let unanswered = (0..20_000).filter(|_| routes.push(&path, message(), None, None).is_none()).count();
            is_over.store(true, Relaxed);
            assert_eq!((routes.pushed(), routes.unrouted()), (20_000, unanswered as u64));
        });
    }
}
