//! A pipeline that one task feeds.

use std::marker::PhantomData;

use rxrust::{
    context::Context,
    observable::{CoreObservable, ObservableType},
    observer::Observer,
    subscription::Subscription,
};

use crate::WsError;

/// An observable whose subscription is what feeds it: [`Feeder`]. Nothing is serialized and nobody is isolated here, as a
/// subject does both for what comes from everywhere to everybody.
pub(crate) struct Source<T>(PhantomData<fn() -> T>);

/// The head of a pipeline, in the hands of the one who feeds it.
pub(crate) struct Feeder<O>(O);

impl<T> Source<T> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<O> Feeder<O> {
    pub(crate) fn next<T>(&mut self, item: T)
    where
        O: Observer<T, WsError>,
    {
        self.0.next(item);
    }
}

impl<T> ObservableType for Source<T> {
    type Item<'a>
        = T
    where
        Self: 'a;
    type Err = WsError;
}

impl<T, C> CoreObservable<C> for Source<T>
where
    C: Context<Inner: Observer<T, WsError>>,
{
    type Unsub = Feeder<C::Inner>;

    fn subscribe(self, context: C) -> Self::Unsub {
        Feeder(context.into_inner())
    }
}

/// Dropping it is all that there is to unsubscribe.
impl<O> Subscription for Feeder<O> {
    fn unsubscribe(self) {}

    fn is_closed(&self) -> bool {
        false
    }
}
