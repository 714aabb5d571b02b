//! [`Feed`]: an observable of events, states or connections.

use std::{convert::Infallible, fmt};

use rxrust::{
    context::Context,
    observable::{CoreObservable, ObservableType},
    observer::Observer,
};

use crate::{Io, IoScheduler, SerializedSubject, SerializedSubscription};

/// An observable of a component, as `events()`, `state()` and `connections()` return it, in an [`Io`] context. *Hot*.
///
/// # Emission
///
/// On the component's I/O thread. Its error type is `Infallible`, so `subscribe(closure)` works directly.
pub struct Feed<T> {
    subject: SerializedSubject<T>,
}

impl<T> Feed<T> {
    pub(crate) fn of(subject: &SerializedSubject<T>, home: &IoScheduler) -> Io<Self> {
        Io::from_parts(Self { subject: subject.clone() }, home.clone())
    }
}

impl<T> Clone for Feed<T> {
    fn clone(&self) -> Self {
        Self { subject: self.subject.clone() }
    }
}

impl<T> ObservableType for Feed<T> {
    type Item<'a>
        = T
    where
        Self: 'a;
    type Err = Infallible;
}

impl<T, C> CoreObservable<C> for Feed<T>
where
    T: Clone + Send + 'static,
    C: Context,
    C::Inner: Observer<T, Infallible> + Send + 'static,
{
    type Unsub = SerializedSubscription;

    fn subscribe(self, context: C) -> SerializedSubscription {
        self.subject.subscribe(context)
    }
}

impl<T> fmt::Debug for Feed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").finish_non_exhaustive()
    }
}
