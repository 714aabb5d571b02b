//! The way out of a server or a group: from a message with a path to the outboxes on that path.

use std::{
    convert::Infallible,
    sync::{Mutex, PoisonError},
};

use rxrust::{context::Context, observable::Observable};

use crate::{
    Frame, Io, IoScheduler, ObservableExt, RouteSubscription, Router, SerializedSubject, Tag, TaggedData,
    ws::outbox::{Outbox, Outgoing, Receipt, Refusal},
};

/// Offers each message to the outboxes that are connected for its path. It holds no queue: a push goes straight through,
/// and comes back with their answer.
pub(crate) struct Switchboard {
    outbound: SerializedSubject<TaggedData<Outgoing>>,
    router: Router<Tag, Outgoing, Infallible>,
    /// Held while a message is on its way, one at a time: a subject that is busy would only take it into its queue, and the
    /// answer would be missing.
    pushing: Mutex<Receipt>,
}

impl Switchboard {
    pub(crate) fn new(home: IoScheduler) -> Self {
        let outbound = SerializedSubject::new();
        let router = Io::from_parts(outbound.clone(), home).route_by_tag();
        Self { outbound, router, pushing: Mutex::default() }
    }

    /// Has `outbox` be offered what is pushed for `path`.
    pub(crate) fn connect(&self, path: Tag, outbox: Outbox) -> RouteSubscription {
        self.router.tag(path).subscribe_with(outbox)
    }

    /// The answer of the outboxes on `path`: acceptance if at least one accepted, `None` where there are none.
    pub(crate) fn push(&self, path: &Tag, frame: Frame) -> Option<Result<(), Refusal>> {
        let receipt = self.pushing.lock().unwrap_or_else(PoisonError::into_inner);
        receipt.clear();
        // A clone: the last one of a message is not to be dropped under the lock.
        let outgoing = Outgoing { frame: frame.clone(), receipt: receipt.clone() };
        // Past the queue for pushes from callbacks: only outboxes listen, and they call nobody.
        self.outbound.relay(TaggedData::with_key(path.clone(), outgoing));
        let (answer, mut spent) = (receipt.answer(), receipt.spent());
        drop(receipt);
        spent.push(frame);
        answer
    }

    /// How many messages had a path on which there was no outbox.
    pub(crate) fn unrouted(&self) -> u64 {
        self.router.unrouted()
    }
}
