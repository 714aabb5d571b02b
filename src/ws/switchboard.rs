//! The way out of a server or a group: from a message with a path to the outboxes on that path.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
};

use rxrust::{observable::Observable, observer::Observer};

use crate::{
    Frame, IoScheduler, RouteSubscription, Router, Tag,
    ws::outbox::{Outbox, Refusal},
};

/// Offers each message to the outboxes that are connected for its path. It holds no queue: a push goes straight through,
/// and comes back with their answer.
pub(crate) struct Switchboard {
    router: Router<Tag, Frame, Infallible>,
    receipt: Receipt,
    /// How many messages were pushed. Held while one is on its way, one at a time: a hub that is busy would only take it into
    /// its queue, and the answer would be missing.
    pushed: Mutex<u64>,
}

impl Switchboard {
    pub(crate) fn new(home: IoScheduler) -> Self {
        Self { router: Router::new(Some(home)), receipt: Receipt::default(), pushed: Mutex::default() }
    }

    /// Has `outbox` be offered what is pushed for `path`.
    pub(crate) fn connect(&self, path: Tag, outbox: Outbox) -> RouteSubscription {
        self.router.tag(path).subscribe_with(Outlet { outbox, receipt: self.receipt.clone() })
    }

    /// The answer of the outboxes on `path`: acceptance if at least one accepted, `None` where there are none.
    pub(crate) fn push(&self, path: &Tag, frame: Frame) -> Option<Result<(), Refusal>> {
        let mut pushed = self.pushed.lock().unwrap_or_else(PoisonError::into_inner);
        *pushed += 1;
        self.receipt.clear();
        // Past the queue for pushes from callbacks: only outboxes listen, and they call nobody.
        self.router.route(path, frame);
        self.receipt.answer()
    }

    /// How many messages were pushed.
    pub(crate) fn pushed(&self) -> u64 {
        *self.pushed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many messages had a path on which there was no outbox.
    pub(crate) fn unrouted(&self) -> u64 {
        self.router.unrouted()
    }
}

/// Offers what is routed to it to an outbox, and notes the answer.
struct Outlet {
    outbox: Outbox,
    receipt: Receipt,
}

impl<E> Observer<Frame, E> for Outlet {
    fn next(&mut self, frame: Frame) {
        self.receipt.note(self.outbox.push(frame));
    }

    // Where the routing ends is not where the connection does: its owner closes it.
    fn error(self, _: E) {}

    fn complete(self) {}

    fn is_closed(&self) -> bool {
        self.outbox.is_closing()
    }
}

/// Where the outboxes that a message was offered to leave their answers: the best one counts. One message at a time, so a
/// load and a store do.
#[derive(Clone, Default)]
struct Receipt(Arc<AtomicU8>);

const CLOSED: u8 = 1;
const FULL: u8 = 2;
const ACCEPTED: u8 = 3;

impl Receipt {
    /// Forgets the answers of the message before.
    fn clear(&self) {
        self.0.store(0, Relaxed);
    }

    /// The answer, if any outbox has given one: acceptance if at least one accepted.
    fn answer(&self) -> Option<Result<(), Refusal>> {
        match self.0.load(Relaxed) {
            ACCEPTED => Some(Ok(())),
            FULL => Some(Err(Refusal::Full)),
            CLOSED => Some(Err(Refusal::Closed)),
            _ => None,
        }
    }

    fn note(&self, answer: Result<(), Refusal>) {
        let answer = match answer {
            Ok(()) => ACCEPTED,
            Err(Refusal::Full) => FULL,
            Err(Refusal::Closed) => CLOSED,
        };
        if answer > self.0.load(Relaxed) {
            self.0.store(answer, Relaxed);
        }
    }
}
