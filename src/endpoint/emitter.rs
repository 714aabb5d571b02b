//! A pipeline that one task feeds.

use std::marker::PhantomData;

use rxrust::{
    context::Context,
    observable::{CoreObservable, ObservableType},
    observer::Observer,
    subscription::Subscription,
};

use crate::WsError;

/// An observable whose subscription is an [`Emitter`], which feeds it. Nothing is serialized or isolated here: a subject
/// does both, for items from several threads and for several observers.
pub(crate) struct Emitting<T>(PhantomData<fn() -> T>);

/// The head of a pipeline, for the task that feeds it.
pub(crate) struct Emitter<O>(O);

impl<T> Emitting<T> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<O> Emitter<O> {
    pub(crate) fn next<T>(&mut self, item: T)
    where
        O: Observer<T, WsError>,
    {
        self.0.next(item);
    }
}

impl<T> ObservableType for Emitting<T> {
    type Item<'a>
        = T
    where
        Self: 'a;
    type Err = WsError;
}

impl<T, C> CoreObservable<C> for Emitting<T>
where
    C: Context<Inner: Observer<T, WsError>>,
{
    type Unsub = Emitter<C::Inner>;

    fn subscribe(self, context: C) -> Self::Unsub {
        Emitter(context.into_inner())
    }
}

/// To unsubscribe, drop it.
impl<O> Subscription for Emitter<O> {
    fn unsubscribe(self) {}

    fn is_closed(&self) -> bool {
        false
    }
}
