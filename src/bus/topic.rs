//! [`Topic`]: the messages of some paths, which the broker sends as long as somebody subscribes.

use std::sync::Arc;

use rxrust::{
    context::Context,
    observable::{CoreObservable, ObservableType},
    observer::Observer,
};

use crate::{
    SerializedSubject, SerializedSubscription, TaggedData, WsError,
    bus::interests::{Holder, Interest, Interests, Scope},
    endpoint::Received,
};

/// The messages of a scope, out of those of all scopes.
pub(crate) struct Topic<T> {
    pub(crate) inbound: SerializedSubject<TaggedData<Received<T>>, WsError>,
    pub(crate) interests: Arc<Interests>,
    pub(crate) scope: Scope,
}

/// An observer of the messages that came for one interest, which it holds.
struct Interested<O> {
    observer: O,
    interest: Interest,
}

impl<T> ObservableType for Topic<T> {
    type Item<'a>
        = TaggedData<Received<T>>
    where
        Self: 'a;
    type Err = WsError;
}

impl<T, C> CoreObservable<C> for Topic<T>
where
    T: Clone + Send + 'static,
    C: Context,
    C::Inner: Observer<TaggedData<Received<T>>, WsError> + Send + 'static,
{
    type Unsub = SerializedSubscription;

    fn subscribe(self, context: C) -> SerializedSubscription {
        let interest = self.interests.join(self.scope, Holder::Subscriber);
        self.inbound.subscribe(context.transform(|observer| Interested { observer, interest }))
    }
}

impl<T, O: Observer<TaggedData<Received<T>>, WsError>> Observer<TaggedData<Received<T>>, WsError> for Interested<O> {
    fn next(&mut self, item: TaggedData<Received<T>>) {
        if item.data.from == self.interest.number {
            self.observer.next(item);
        }
    }

    fn error(self, error: WsError) {
        self.observer.error(error);
    }

    fn complete(self) {
        self.observer.complete();
    }

    fn is_closed(&self) -> bool {
        self.observer.is_closed()
    }
}
