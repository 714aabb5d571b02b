use std::{convert::Infallible, fmt, marker::PhantomData};

use rxrust::{
    context::Context,
    observable::{CoreObservable, ObservableType},
    observer::Observer,
};

/// The observable that [`with_err`](crate::ObservableExt::with_err) returns.
pub struct WithErr<S, E> {
    source: S,
    // Of `fn() -> E`, so that `E` need not be `Send` or `Clone`: no value of it ever exists.
    error: PhantomData<fn() -> E>,
}

pub struct WithErrObserver<O, E> {
    observer: O,
    error: PhantomData<fn() -> E>,
}

impl<S, E> WithErr<S, E> {
    pub(super) fn new(source: S) -> Self {
        Self { source, error: PhantomData }
    }
}

impl<S: ObservableType, E> ObservableType for WithErr<S, E> {
    type Item<'a>
        = S::Item<'a>
    where
        Self: 'a;
    type Err = E;
}

impl<S, E, C> CoreObservable<C> for WithErr<S, E>
where
    C: Context,
    S: CoreObservable<C::With<WithErrObserver<C::Inner, E>>>,
{
    type Unsub = S::Unsub;

    fn subscribe(self, context: C) -> Self::Unsub {
        self.source.subscribe(context.transform(|observer| WithErrObserver { observer, error: PhantomData }))
    }
}

impl<O, E, Item> Observer<Item, Infallible> for WithErrObserver<O, E>
where
    O: Observer<Item, E>,
{
    fn next(&mut self, item: Item) {
        self.observer.next(item);
    }

    fn error(self, never: Infallible) {
        match never {}
    }

    fn complete(self) {
        self.observer.complete();
    }

    fn is_closed(&self) -> bool {
        self.observer.is_closed()
    }
}

impl<S: Clone, E> Clone for WithErr<S, E> {
    fn clone(&self) -> Self {
        Self::new(self.source.clone())
    }
}

impl<O: Clone, E> Clone for WithErrObserver<O, E> {
    fn clone(&self) -> Self {
        Self { observer: self.observer.clone(), error: PhantomData }
    }
}

impl<S: fmt::Debug, E> fmt::Debug for WithErr<S, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithErr").field("source", &self.source).finish()
    }
}

impl<O: fmt::Debug, E> fmt::Debug for WithErrObserver<O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithErrObserver").field("observer", &self.observer).finish()
    }
}

#[cfg(test)]
mod tests {
    use crate::{operators::recorder::Recorder, prelude::*};

    #[test]
    fn infallible_source_merges_with_a_subject_that_fails() {
        let (subject, heard) = (SerializedSubject::<u8, WsError>::new(), Recorder::default());
        let merged = Io::new(subject.clone()).merge(Io::of(1).with_err::<WsError>());
        merged.map_err(|error| error.to_string()).subscribe_with(heard.clone());
        subject.next(2);
        subject.error(WsError::application("broken"));
        assert_eq!(heard.heard(), ["1", "2", "error \"broken\""]);
    }

    #[test]
    fn local_source_takes_an_error_type_that_is_not_clone() {
        struct Opaque;
        let mut heard = Vec::new();
        let source = Local::from_iter([1, 2]).with_err::<Opaque>();
        source.clone().on_error(|_| {}).subscribe(|n| heard.push(n));
        assert_eq!(heard, [1, 2]);
    }
}
