//! The code that servers, clients, groups and connections share.
//!
//! ```text
//! next, send -> EndpointCore::offer -> Codec -> (RoutingTable of a server, or the client of a group) -> Outbox -> link
//! link -> Incoming -> Received -> Component::inbound, a branch of the server's or the group's -> subscribers
//!                           everything else -> Component::events -> Feed -> subscribers
//! ```
//!
//! A push runs on the caller's thread, as far as the outbox. Messages that arrive are decoded and emitted by the task of the
//! client or of the connection, on the I/O threads, where events are emitted as well.

pub(crate) mod codec;
pub(crate) mod component;
pub(crate) mod drop_guard;
pub(crate) mod emitter;
pub(crate) mod event;
pub(crate) mod events;
pub(crate) mod feed;
pub(crate) mod inbound;
pub(crate) mod incoming;
pub(crate) mod options;
pub(crate) mod routing_table;
pub(crate) mod subject;
pub(crate) mod subscribe;
pub(crate) mod tag_filter;
pub(crate) mod trace;

pub(crate) use component::Component;
pub use event::{ClientEvent, CloseReport, ConnectionState, Peer, ServerEvent};
pub use feed::Feed;

use std::sync::Arc;

use crate::{
    DatatypeError, DropReason, SendError, TaggedData, Tally, WsError,
    endpoint::{event::EndpointEvent, events::Events},
    fate::Fate,
    outbox::Outbox,
    subject::{branch::FromBranch, discard},
};

/// A message that arrived, how many bytes it took, and the number of the connection that it came from (0 on a client).
#[derive(Clone, Debug)]
pub(crate) struct Received<T> {
    pub(crate) item: T,
    pub(crate) len: usize,
    pub(crate) from: u64,
}

/// A message that arrived, as an endpoint's subject carries it: with its path or without.
pub(crate) trait Arrived {
    /// The type that subscribers receive.
    type Item;

    /// How many bytes it took.
    fn len(&self) -> usize;

    fn into_item(self) -> Self::Item;
}

impl<T> Arrived for Received<T> {
    type Item = T;

    fn len(&self) -> usize {
        self.len
    }

    fn into_item(self) -> T {
        self.item
    }
}

impl<T> Arrived for TaggedData<Received<T>> {
    type Item = TaggedData<T>;

    fn len(&self) -> usize {
        self.data.len
    }

    fn into_item(self) -> TaggedData<T> {
        self.map(|received| received.item)
    }
}

impl<T> FromBranch<Received<T>> for TaggedData<Received<T>> {
    fn branch(&self) -> u64 {
        self.data.from
    }

    fn into_own(self) -> Received<T> {
        self.data
    }
}

/// The state that the handles, the subscribers and the task of an endpoint share. `endpoint!` makes the handles.
pub(crate) trait EndpointCore: Send + Sync + 'static {
    /// The type of the pushed items.
    type Item;
    /// The type of the arriving items.
    type Arrived: Clone + Send + 'static;
    type Event: EndpointEvent;

    fn component(&self) -> &Component<Self::Arrived, Self::Event>;

    /// Encodes and queues an item, or returns the reason why not. Tells `fate`, if there is one, what becomes of it.
    fn offer(self: &Arc<Self>, item: &Self::Item, fate: Option<&Arc<dyn Fate>>) -> Result<(), SendError<()>>;

    /// The event of an item that could not be encoded.
    fn unencodable(&self, item: Self::Item, error: DatatypeError) -> Self::Event;

    /// Asks the endpoint to end, and its subscribers with it, once the queued messages are written. The first call decides
    /// how.
    fn finish(&self, how: Result<(), WsError>);

    fn is_closing(&self) -> bool;

    /// As [`offer`](Self::offer), but gives a refused item back.
    fn send(self: &Arc<Self>, item: Self::Item, fate: Option<&Arc<dyn Fate>>) -> Result<(), SendError<Self::Item>> {
        give_back(self.offer(&item, fate), item)
    }

    /// As [`offer`](Self::offer), with an event instead of an answer.
    fn next(self: &Arc<Self>, item: Self::Item) {
        // Any other refusal has its event already, or none at all if the endpoint is closed.
        match self.send(item, None) {
            Err(SendError::Encode(item, error)) => self.component().events.post(self.unencodable(item, error)),
            Err(refused) => discard(refused),
            Ok(()) => {}
        }
    }
}

/// The answer to a push, with the item if it was refused.
pub(crate) fn give_back<T>(answer: Result<(), SendError<()>>, item: T) -> Result<(), SendError<T>> {
    match answer {
        Ok(()) => {
            // It may have the last handle of its payload, whose destructor is user code.
            discard(item);
            Ok(())
        }
        Err(error) => Err(error.map(|()| item)),
    }
}

/// Reports the drops of an outbox as events, and as copies of these if there is one who gets them.
pub(crate) fn report_drops<V: EndpointEvent>(
    outbox: &Outbox,
    events: &Events<V>,
    copies: Option<&Events<V>>,
    event: impl Fn(DropReason, Tally) -> V,
) {
    let all = || copies.into_iter().chain([events]);
    let mut reported = Vec::new();
    outbox.report_drops(|reason, dropped| {
        let event = event(reason, dropped);
        all().for_each(|events| events.enqueue_copy(&event));
        reported.push(event);
    });
    // A subscriber of `tracing` is user code: not under the lock of the outbox.
    reported.iter().for_each(|event| events.trace(event));
    if !reported.is_empty() {
        all().for_each(Events::wake_home);
    }
}
