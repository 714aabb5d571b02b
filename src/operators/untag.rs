use std::{fmt, marker::PhantomData};

use rxrust::{
    context::Context,
    observable::{CoreObservable, ObservableType},
    observer::Observer,
};

use crate::TaggedData;

/// The observable that [`untag`](crate::ObservableExt::untag) returns.
pub struct Untag<S, T> {
    source: S,
    item: PhantomData<fn() -> T>,
}

#[derive(Clone, Debug)]
pub struct UntagObserver<O> {
    observer: O,
}

impl<S, T> Untag<S, T> {
    pub(super) fn new(source: S) -> Self {
        Self { source, item: PhantomData }
    }
}

impl<S: ObservableType, T> ObservableType for Untag<S, T> {
    type Item<'a>
        = T
    where
        Self: 'a;
    type Err = S::Err;
}

impl<S, T, C> CoreObservable<C> for Untag<S, T>
where
    C: Context,
    S: CoreObservable<C::With<UntagObserver<C::Inner>>>,
{
    type Unsub = S::Unsub;

    fn subscribe(self, context: C) -> Self::Unsub {
        self.source.subscribe(context.transform(|observer| UntagObserver { observer }))
    }
}

impl<O, T, K, Err> Observer<TaggedData<T, K>, Err> for UntagObserver<O>
where
    O: Observer<T, Err>,
{
    fn next(&mut self, item: TaggedData<T, K>) {
        self.observer.next(item.data);
    }

    fn error(self, error: Err) {
        self.observer.error(error);
    }

    fn complete(self) {
        self.observer.complete();
    }

    fn is_closed(&self) -> bool {
        self.observer.is_closed()
    }
}

impl<S: Clone, T> Clone for Untag<S, T> {
    fn clone(&self) -> Self {
        Self::new(self.source.clone())
    }
}

impl<S: fmt::Debug, T> fmt::Debug for Untag<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Untag").field("source", &self.source).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use crate::{operators::recorder::Recorder, prelude::*};

    #[test]
    fn tags_come_off() {
        let heard = Recorder::default();
        Io::from_iter([1, 2]).tag("/a").untag().map(|n| n + 1).subscribe_with(heard.clone());
        assert_eq!(heard.heard(), ["2", "3", "complete"]);
    }

    #[test]
    fn keys_come_off_a_local_source() {
        let mut heard = Vec::new();
        Local::from_iter([1, 2]).map(|n| n + 10).tag_with(7).untag().subscribe(|n| heard.push(n));
        assert_eq!(heard, [11, 12]);
    }

    #[test]
    fn items_of_a_subject_are_untagged() {
        let (subject, heard) = (SerializedSubject::<TaggedData<u8>, Infallible>::new(), Recorder::default());
        Io::new(subject.clone()).untag().filter(|n| *n > 1).subscribe_with(heard.clone());
        subject.next(TaggedData::new("/a", 1));
        subject.next(TaggedData::new("/b", 2));
        subject.complete();
        assert_eq!(heard.heard(), ["2", "complete"]);
    }
}
