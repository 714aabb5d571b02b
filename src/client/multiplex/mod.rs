//! Topics on one link: [`RxWsClient::multiplex`](crate::RxWsClient::multiplex).
//!
//! ```text
//! observers -> Share -> TopicSource -> a gate in Topics (wanted) -> the client's task -> the outbox, or a greeting
//!                    <- gate <- Belongs <- the client's subject
//! ```
//!
//! Observers only note in [`Topics`] what is wanted. What the server has been told is the business of the client's task alone: it
//! compares the two when a link begins, and whenever something has changed while there is one. So whatever threads come and go, the
//! server is told each change once, in order, and on each link anew.

mod notice;
mod signal;
mod topics;

pub(crate) use signal::Watch;
pub(crate) use topics::Topics;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use notice::Say;
use rxrust::{
    context::Context,
    observable::{CoreObservable, ObservableType},
    observer::Observer,
    ops::map::Map,
    subscription::Subscription,
};

use crate::{
    SerializedSubject, SerializedSubscription, WsDatatype, WsError,
    client::ClientSource,
    endpoint::{Arrived, Received},
    runtime::{UserValue, callback},
    subject::{discard, holding::Holding},
};

/// Where the items of a topic go, until it ends.
pub(super) type Gate<T> = SerializedSubject<T, WsError>;

/// The program's functions.
pub(super) struct Topic<D: WsDatatype> {
    pub(super) subscribe: Telling<D>,
    pub(super) unsubscribe: Telling<D>,
    pub(super) belongs: Choice<D>,
}

/// Makes a message to the server.
type Telling<D> = UserValue<Box<dyn Fn() -> <D as WsDatatype>::Outgoing + Send + Sync>>;

/// Tells whether an item belongs to the topic.
type Choice<D> = UserValue<Box<dyn Fn(&<D as WsDatatype>::Item) -> bool + Send + Sync>>;

/// A topic of a client before it is shared: what is inside of what [`multiplex`](crate::RxWsClient::multiplex) returns.
pub struct TopicSource<D: WsDatatype> {
    client: ClientSource<D>,
    number: u64,
    topic: Arc<Topic<D>>,
}

/// The subscription to a [`TopicSource`].
///
/// Dropping it does not unsubscribe.
pub struct TopicSubscription<D: WsDatatype> {
    inner: SerializedSubscription,
    arriving: SerializedSubscription,
    place: Arc<Place<D>>,
}

/// The observer that a topic subscribes to its client.
struct Belongs<D: WsDatatype> {
    topic: Arc<Topic<D>>,
    gate: Gate<D::Item>,
    inner: SerializedSubscription,
}

/// One who wants the topic, counted out once.
struct Place<D: WsDatatype> {
    client: ClientSource<D>,
    topic: u64,
    number: u64,
    has_left: AtomicBool,
}

/// Leaves a place when the observer is dropped: unsubscribed, finished or panicked.
struct Leave<D: WsDatatype>(Arc<Place<D>>);

impl<D: WsDatatype> Topic<D> {
    fn message(&self, say: Say) -> D::Outgoing {
        match say {
            Say::Subscribe => (self.subscribe)(),
            Say::Unsubscribe => (self.unsubscribe)(),
        }
    }
}

impl<D: WsDatatype> TopicSource<D> {
    pub(super) fn new(client: ClientSource<D>, topic: Topic<D>) -> Self {
        let number = client.core.topics.shared().next_number();
        Self { client, number, topic: Arc::new(topic) }
    }
}

impl<D: WsDatatype> ObservableType for TopicSource<D> {
    type Item<'a>
        = D::Item
    where
        Self: 'a;
    type Err = WsError;
}

impl<D, C> CoreObservable<C> for TopicSource<D>
where
    D: WsDatatype,
    C: Context,
    C::Inner: Observer<D::Item, WsError> + Send + 'static,
{
    type Unsub = TopicSubscription<D>;

    fn subscribe(self, context: C) -> TopicSubscription<D> {
        let Self { client, number: of_topic, topic } = self;
        let (gate, topics) = (Gate::new(), client.core.topics.shared());
        let number = topics.next_number();
        let place =
            Arc::new(Place { client: client.clone(), topic: of_topic, number, has_left: AtomicBool::new(false) });
        let feeder = context.wrap(());
        let inner = gate.clone().subscribe(context.transform(|observer| Holding::new(observer, Leave(place.clone()))));
        let belongs = Belongs { topic: topic.clone(), gate: gate.clone(), inner: inner.clone() };
        let items = Map { source: client.core.inbound.clone(), func: Received::into_item };
        let arriving = items.subscribe(feeder.transform(|()| belongs));
        // Last: the server may answer at once. If the client has ended, the place is left already.
        topics.want(of_topic, &topic, number, gate);
        if place.has_left.load(Ordering::SeqCst) {
            topics.leave(of_topic, number);
        }
        TopicSubscription { inner, arriving, place }
    }
}

impl<D: WsDatatype> Observer<D::Item, WsError> for Belongs<D> {
    fn next(&mut self, item: D::Item) {
        let belongs = callback::attempt("a function given to multiplex", || (self.topic.belongs)(&item));
        match belongs {
            Ok(true) => self.gate.relay(item),
            // Here: the panic of a destructor must not end the topic.
            Ok(false) => discard(item),
            Err(panic) => self.gate.relay_end(Some(Arc::new(panicked(&panic)))),
        }
    }

    fn error(self, error: WsError) {
        self.gate.relay_end(Some(Arc::new(error)));
    }

    fn complete(self) {
        self.gate.relay_end(None);
    }

    fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }
}

impl<D: WsDatatype> Place<D> {
    fn leave(&self) {
        if !self.has_left.swap(true, Ordering::SeqCst) {
            self.client.core.topics.shared().leave(self.topic, self.number);
        }
    }
}

impl<D: WsDatatype> Drop for Leave<D> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl<D: WsDatatype> Subscription for TopicSubscription<D> {
    fn unsubscribe(self) {
        self.inner.unsubscribe();
        self.arriving.unsubscribe();
        // Not left to the observer's drop, which waits for an emission under way.
        self.place.leave();
    }

    fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }
}

/// What a function of the program's has said as it panicked.
pub(super) fn panicked(panic: &str) -> WsError {
    WsError::application(format_args!("a function given to multiplex panicked: {panic}"))
}

impl<D: WsDatatype> Clone for TopicSource<D> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), number: self.number, topic: self.topic.clone() }
    }
}

impl<D: WsDatatype> fmt::Debug for TopicSource<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicSource").field("number", &self.number).finish_non_exhaustive()
    }
}

impl<D: WsDatatype> fmt::Debug for TopicSubscription<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicSubscription").field("is_closed", &self.is_closed()).finish()
    }
}
