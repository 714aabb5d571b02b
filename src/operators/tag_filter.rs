use rxrust::{
    context::Context,
    observable::{CoreObservable, ObservableType},
    observer::Observer,
};

use crate::TaggedData;

/// The observable that [`tag_filter`](crate::ObservableExt::tag_filter) returns.
#[derive(Clone, Debug)]
pub struct TagFilter<S, K> {
    pub(super) source: S,
    pub(super) tag: K,
}

#[derive(Clone, Debug)]
pub struct TagFilterObserver<O, K> {
    observer: O,
    tag: K,
}

impl<S: ObservableType, K> ObservableType for TagFilter<S, K> {
    type Item<'a>
        = S::Item<'a>
    where
        Self: 'a;
    type Err = S::Err;
}

impl<S, K, C> CoreObservable<C> for TagFilter<S, K>
where
    C: Context,
    S: CoreObservable<C::With<TagFilterObserver<C::Inner, K>>>,
{
    type Unsub = S::Unsub;

    fn subscribe(self, context: C) -> Self::Unsub {
        let Self { source, tag } = self;
        source.subscribe(context.transform(|observer| TagFilterObserver { observer, tag }))
    }
}

impl<O, T, K, Err> Observer<TaggedData<T, K>, Err> for TagFilterObserver<O, K>
where
    O: Observer<TaggedData<T, K>, Err>,
    K: PartialEq,
{
    fn next(&mut self, item: TaggedData<T, K>) {
        if item.tag == self.tag {
            self.observer.next(item);
        }
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

    fn two() -> [TaggedData<u8>; 2] {
        [TaggedData::new("/a", 1), TaggedData::new("/b", 2)]
    }

    #[test]
    fn items_of_one_tag_pass() {
        let heard = Recorder::default();
        Io::from_iter(two()).tag_filter("/b").untag().subscribe_with(heard.clone());
        assert_eq!(heard.heard(), ["2", "complete"]);
    }

    #[test]
    fn tag_is_given_as_any_string() {
        let (owned, tag) = (String::from("/a"), Tag::from("/a"));
        let mut heard = Vec::new();
        let mut note = |td: TaggedData<u8>| heard.push(td.data);
        Local::from_iter(two()).tag_filter("/a").subscribe(&mut note);
        Local::from_iter(two()).tag_filter(&owned).subscribe(&mut note);
        Local::from_iter(two()).tag_filter(owned).subscribe(&mut note);
        Local::from_iter(two()).tag_filter(&tag).subscribe(&mut note);
        Local::from_iter(two()).tag_filter(tag).subscribe(&mut note);
        assert_eq!(heard, [1; 5]);
    }

    #[test]
    fn keys_of_another_type_are_compared_too() {
        let heard = Recorder::default();
        Io::of("x").tag_with(7u32).tag_filter(7u32).tag_filter(8u8).subscribe_with(heard.clone());
        assert_eq!(heard.heard(), ["complete"]);
    }
}
