//! The way out of a server or a group: from a message with a path to the outboxes on that path.

use std::{
    convert::Infallible,
    mem::take,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering::Relaxed},
    },
};

use rxrust::{observable::Observable, observer::Observer};

use crate::{
    Frame, IoScheduler, RouteSubscription, Router, Tag,
    ws::outbox::{Outbox, Refusal, Spent},
};

/// Offers each message to the outboxes that are connected for its path. It holds no queue: a push goes straight through,
/// and comes back with their answer.
pub(crate) struct Switchboard {
    router: Router<Tag, Frame, Infallible>,
    receipt: Receipt,
    /// Held while a message is on its way, one at a time: a hub that is busy would only take it into its queue, and the
    /// answer would be missing.
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    pushed: u64,
    /// Those that no outbox answered. The router knows of a path before the outbox is there, and until it has left.
    unrouted: u64,
}

impl Switchboard {
    pub(crate) fn new(home: IoScheduler) -> Self {
        Self { router: Router::new(Some(home)), receipt: Receipt::default(), counts: Mutex::default() }
    }

    /// Has `outbox` be offered what is pushed for `path`.
    pub(crate) fn connect(&self, path: Tag, outbox: Outbox) -> RouteSubscription {
        self.router.tag(path).subscribe_with(Outlet { outbox, receipt: self.receipt.clone() })
    }

    /// The answer of the outboxes on `path`: acceptance if at least one accepted, `None` where there are none.
    pub(crate) fn push(&self, path: &Tag, frame: Frame) -> Option<Result<(), Refusal>> {
        let mut counts = lock(&self.counts);
        self.receipt.clear();
        // A clone: the last one of a message is not to be dropped under the lock. And past the queue for pushes from
        // callbacks: only outboxes listen, and they call nobody.
        self.router.route(path, frame.clone());
        let (answer, mut spent) = (self.receipt.answer(), self.receipt.spent());
        counts.pushed += 1;
        counts.unrouted += u64::from(answer.is_none());
        drop(counts);
        spent.push(frame);
        answer
    }

    /// How many messages were pushed.
    pub(crate) fn pushed(&self) -> u64 {
        lock(&self.counts).pushed
    }

    /// How many messages had a path on which there was no outbox.
    pub(crate) fn unrouted(&self) -> u64 {
        lock(&self.counts).unrouted
    }
}

/// Offers what is routed to it to an outbox, and notes the answer.
struct Outlet {
    outbox: Outbox,
    receipt: Receipt,
}

impl<E> Observer<Frame, E> for Outlet {
    fn next(&mut self, frame: Frame) {
        let (answer, spent) = self.outbox.offer(frame);
        self.receipt.note(answer, spent);
    }

    // Where the routing ends is not where the connection does: its owner closes it.
    fn error(self, _: E) {}

    fn complete(self) {}

    fn is_closed(&self) -> bool {
        self.outbox.is_closing()
    }
}

/// Where the outboxes that a message was offered to leave their answers, and what they have dropped for it.
#[derive(Clone, Default)]
struct Receipt(Arc<Answers>);

/// Of one message at a time, so a load and a store do.
#[derive(Default)]
struct Answers {
    /// The best one counts.
    best: AtomicU8,
    any_spent: AtomicBool,
    spent: Mutex<Spent>,
}

const CLOSED: u8 = 1;
const FULL: u8 = 2;
const ACCEPTED: u8 = 3;

impl Receipt {
    /// Forgets the answers of the message before.
    fn clear(&self) {
        self.0.best.store(0, Relaxed);
    }

    /// The answer, if any outbox has given one: acceptance if at least one accepted.
    fn answer(&self) -> Option<Result<(), Refusal>> {
        match self.0.best.load(Relaxed) {
            ACCEPTED => Some(Ok(())),
            FULL => Some(Err(Refusal::Full)),
            CLOSED => Some(Err(Refusal::Closed)),
            _ => None,
        }
    }

    /// What the outboxes have dropped.
    fn spent(&self) -> Spent {
        if self.0.any_spent.load(Relaxed) {
            self.0.any_spent.store(false, Relaxed);
            return take(&mut *lock(&self.0.spent));
        }
        Spent::default()
    }

    fn note(&self, answer: Result<(), Refusal>, spent: Spent) {
        if !spent.is_empty() {
            lock(&self.0.spent).append(spent);
            self.0.any_spent.store(true, Relaxed);
        }
        let answer = match answer {
            Ok(()) => ACCEPTED,
            Err(Refusal::Full) => FULL,
            Err(Refusal::Closed) => CLOSED,
        };
        if answer > self.0.best.load(Relaxed) {
            self.0.best.store(answer, Relaxed);
        }
    }
}

/// What `mutex` holds, also after a panic: none can happen that leaves it half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, thread};

    use rxrust::subscription::Subscription;

    use super::*;
    use crate::ws::outbox::{OutboxBound, Overflow};

    #[test]
    fn message_that_no_outbox_answered_is_unrouted_whoever_comes_and_goes_meanwhile() {
        let (switchboard, path) = (Switchboard::new(IoScheduler::default()), Tag::from("/"));
        let bound = OutboxBound { messages: 1 << 20, len: 1 << 20, overflow: Overflow::DropLatest };
        let (start, is_over) = (Barrier::new(2), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                while !is_over.load(Relaxed) {
                    switchboard.connect(path.clone(), Outbox::new(bound, |_| {})).unsubscribe();
                }
            });
            start.wait();
            let push = || switchboard.push(&path, Frame::Binary("x".into()));
            let unanswered = (0..20_000).filter(|_| push().is_none()).count();
            is_over.store(true, Relaxed);
            assert_eq!((switchboard.pushed(), switchboard.unrouted()), (20_000, unanswered as u64));
        });
    }
}
