use rxrust::{
    context::Context,
    observable::{CoreObservable, ObservableType},
    observer::Observer,
};

use crate::TaggedData;

/// The observable that [`tag`](crate::ObservableExt::tag) and [`tag_with`](crate::ObservableExt::tag_with) return.
#[derive(Clone, Debug)]
pub struct TagWith<S, K> {
    pub(super) source: S,
    pub(super) key: K,
}

#[derive(Clone, Debug)]
pub struct TagWithObserver<O, K> {
    observer: O,
    key: K,
}

impl<S: ObservableType, K> ObservableType for TagWith<S, K> {
    type Item<'a>
        = TaggedData<S::Item<'a>, K>
    where
        Self: 'a;
    type Err = S::Err;
}

impl<S, K, C> CoreObservable<C> for TagWith<S, K>
where
    C: Context,
    S: CoreObservable<C::With<TagWithObserver<C::Inner, K>>>,
{
    type Unsub = S::Unsub;

    fn subscribe(self, context: C) -> Self::Unsub {
        let Self { source, key } = self;
        source.subscribe(context.transform(|observer| TagWithObserver { observer, key }))
    }
}

impl<O, K, Item, Err> Observer<Item, Err> for TagWithObserver<O, K>
where
    O: Observer<TaggedData<Item, K>, Err>,
    K: Clone,
{
    fn next(&mut self, item: Item) {
        self.observer.next(TaggedData::with_key(self.key.clone(), item));
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

#[cfg(test)]
mod tests {
    use crate::{operators::recorder::Recorder, prelude::*};

    #[test]
    fn items_are_tagged_with_a_string() {
        let heard = Recorder::default();
        Io::from_iter([1, 2]).tag("/a").map(|td| format!("{} {}", td.tag, td.data)).subscribe_with(heard.clone());
        assert_eq!(heard.heard(), ["\"/a 1\"", "\"/a 2\"", "complete"]);
    }

    #[test]
    fn items_of_a_local_source_are_tagged_with_a_key_of_any_type() {
        let mut heard = Vec::new();
        Local::from_iter([1, 2]).tag_with('k').subscribe(|td| heard.push(td));
        assert_eq!(heard, [TaggedData::with_key('k', 1), TaggedData::with_key('k', 2)]);
    }

    #[test]
    fn error_passes() {
        let heard = Recorder::default();
        Io::<()>::throw_err("broken").tag("/a").subscribe_with(heard.clone());
        assert_eq!(heard.heard(), ["error \"broken\""]);
    }
}
