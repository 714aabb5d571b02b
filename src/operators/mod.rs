//! Operators, as one extension trait on every RxRust observable.

mod log_errors;
mod merge_into;
#[cfg(test)]
mod recorder;
mod route_by_tag;
mod seat;
mod share;
mod tag;
mod tag_filter;
mod untag;
mod with_err;

use std::{convert::Infallible, error::Error, hash::Hash};

use rxrust::{
    observable::{CoreObservable, Observable},
    observer::Observer,
};

use crate::{Tag, TaggedData};

pub use log_errors::LogErrors;
pub use merge_into::MergeIntoObserver;
pub use route_by_tag::{RouteObserver, RouteSubscription, Routed, Router};
pub use share::{Share, ShareSubscription};
pub use tag::TagWith;
pub use tag_filter::TagFilter;
pub use untag::Untag;
pub use with_err::WithErr;

/// rxplus's operators, on every RxRust observable and on every subject of rxplus.
///
/// They work in any context, [`Io`](crate::Io), `Shared` and `Local`. What they make is `Clone` when its parts are, as
/// `retry` demands.
pub trait ObservableExt: Observable {
    /// Tags each item with a string: `T` becomes `TaggedData<T>`.
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// let readings = Io::from_iter([1, 2]).tag("/temperature");
    /// readings.subscribe(|td| println!("[{}] {}", td.tag, td.data));
    /// ```
    fn tag(self, tag: impl Into<Tag>) -> Self::With<TagWith<Self::Inner, Tag>> {
        self.tag_with(tag.into())
    }

    /// Tags each item with a key of any type: `T` becomes `TaggedData<T, K>`.
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// let samples = Io::from_iter([1, 2]).tag_with(7u32);
    /// samples.subscribe(|td| println!("channel {}: {}", td.tag, td.data));
    /// ```
    fn tag_with<K: Clone>(self, key: K) -> Self::With<TagWith<Self::Inner, K>> {
        self.transform(|source| TagWith { source, key })
    }

    /// Takes the tag off each item: `TaggedData<T, K>` becomes `T`.
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// let readings = Io::from_iter([1, 2]).tag("/temperature");
    /// readings.untag().subscribe(|n: i32| println!("{n}"));
    /// ```
    fn untag<'a, T, K>(self) -> Self::With<Untag<Self::Inner, T>>
    where
        Self: Observable<Item<'a> = TaggedData<T, K>> + 'a,
    {
        self.transform(Untag::new)
    }

    /// Passes on the items whose tag is equal to `tag`, with their tag.
    ///
    /// For tags that are strings, `tag` is a `&str`, `String`, `&String`, `Tag` or `&Tag`; for other keys it is whatever
    /// converts into one, so an integer needs its suffix: `tag_filter(7u32)`.
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// let all = Io::from_iter([TaggedData::new("/chat", "hello"), TaggedData::new("/log", "started")]);
    /// all.tag_filter("/chat").untag().subscribe(|text| assert_eq!(text, "hello"));
    /// ```
    ///
    /// To take several tags apart, [`route_by_tag`](Self::route_by_tag) looks each item's tag up once, instead of asking
    /// one filter after another.
    fn tag_filter<'a, T, K>(self, tag: impl Into<K>) -> Self::With<TagFilter<Self::Inner, K>>
    where
        K: PartialEq,
        Self: Observable<Item<'a> = TaggedData<T, K>> + 'a,
    {
        self.transform(|source| TagFilter { source, tag: tag.into() })
    }

    /// Subscribes at once, and lets others subscribe to the items of one tag each, through the [`Router`] it returns.
    ///
    /// ```
    /// use rxplus::prelude::*;
    /// use std::convert::Infallible;
    ///
    /// let inbound = SerializedSubject::<TaggedData<&str>, Infallible>::new();
    /// let router = Io::new(inbound.clone()).route_by_tag();
    /// router.tag("/chat").subscribe(|text| println!("{text}"));
    /// inbound.next(TaggedData::new("/chat", "hello"));
    /// inbound.next(TaggedData::new("/log", "nobody listens"));
    /// assert_eq!(router.unrouted(), 1);
    /// ```
    ///
    /// The source is *hot* from here on: what it emits before anybody has subscribed to the item's tag is counted, not kept.
    fn route_by_tag<'a, T, K>(self) -> Router<K, T, Self::Err>
    where
        T: Clone + Send + 'static,
        K: Eq + Hash + Clone + Send + 'static,
        Self: Observable<Item<'a> = TaggedData<T, K>, Err: Clone + Send + 'static, Scheduler: 'static> + 'a,
        Self::Inner: CoreObservable<Self::With<RouteObserver<K, T, Self::Err>>>,
    {
        route_by_tag::route(self)
    }

    /// Subscribes at once, and pushes each item, but not the terminal event, into `subject`.
    ///
    /// So several sources can feed one subject that outlives them. For the end of the source to end the subject as well,
    /// write `subscribe_with(subject)` instead.
    ///
    /// ```
    /// use rxplus::prelude::*;
    /// use std::convert::Infallible;
    ///
    /// let all = SerializedSubject::<u32, Infallible>::new();
    /// Io::new(all.clone()).subscribe(|n| println!("{n}"));
    /// Io::of(1).merge_into(&all);
    /// Io::of(2).merge_into(&all);
    /// ```
    ///
    /// `subject` is any observer of the source's items and errors. A server, client, group or connection takes every error
    /// type that converts into `WsError`; for another subject with an error type of its own, give it to an infallible source
    /// first:
    ///
    /// ```
    /// # use rxplus::prelude::*;
    /// let all = SerializedSubject::<u32, WsError>::new();
    /// Io::of(1).with_err::<WsError>().merge_into(&all);
    /// ```
    ///
    /// # Emission
    ///
    /// Pushes made while the source emits are, as any pushes from a callback into a subject of rxplus, delivered after the
    /// outermost callback of the thread has returned.
    fn merge_into<'a, O>(self, subject: &O) -> <Self::Inner as CoreObservable<Self::With<MergeIntoObserver<O>>>>::Unsub
    where
        O: Observer<Self::Item<'a>, Self::Err> + Clone,
        Self: 'a,
        Self::Inner: CoreObservable<Self::With<MergeIntoObserver<O>>>,
    {
        self.subscribe_with(MergeIntoObserver::new(subject.clone()))
    }

    /// Shares one subscription to the source among all subscribers: ReactiveX's *share*.
    ///
    /// The first subscriber subscribes to the source, the last one to leave unsubscribes from it. Whoever comes after that,
    /// or after a terminal event, subscribes to the source afresh.
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// let ticks = Io::defer(|| Io::interval(Duration::from_secs(1)));
    /// let squares = ticks.map(|n| n * n).share(); // squared once, not once for each subscriber
    /// squares.clone().subscribe(|n| println!("left: {n}"));
    /// squares.subscribe(|n| println!("right: {n}"));
    /// ```
    ///
    /// The source must be `Clone`, to be subscribed to afresh; `Io::defer` makes any source so, as above.
    ///
    /// RxRust's `publish().ref_count()` panics when two threads meet in it and falls silent after a subscriber panicked;
    /// this one keeps the promises of [`SerializedSubject`](crate::SerializedSubject). Its observers must be `Send`, in a
    /// `Local` context too.
    ///
    /// # Emission
    ///
    /// *Hot* while it has subscribers: on the source's thread, each subscriber from where it joined. The first one misses
    /// nothing, even of a source that emits inside of `subscribe`.
    ///
    /// When the last subscriber unsubscribes, as `take` does once it has its items, the source is unsubscribed before that
    /// returns. When it panics, the source is told by `is_closed`, which sources ask around each item.
    #[expect(clippy::type_complexity, reason = "an alias would hide what comes out")]
    fn share<'a, T>(self) -> Self::With<Share<Self::Inner, T, Self::Err, Self::BoxedSubscription>>
    where
        T: Clone + Send + 'static,
        Self: Observable<Item<'a> = T, Err: Clone + Send + 'static, Inner: Clone> + 'a,
    {
        self.transform(Share::new)
    }

    /// Logs the error that the source ends with, if it does, and completes instead: leaves `Err = Infallible`.
    ///
    /// That is what `subscribe(closure)` needs. The error is logged through `tracing::error!`, with all its causes, from
    /// the first to the last. It is any [`Error`], or a `String` or `&str`. A program that has set up no `tracing`
    /// subscriber sees nothing of it; `.on_error(|error| eprintln!("{error}"))` fits in the same place.
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// let subject = SerializedSubject::<u32, WsError>::new();
    /// Io::new(subject.clone()).log_errors().subscribe(|n| println!("{n}"));
    /// subject.error(WsError::application("the sensor is gone"));
    /// ```
    fn log_errors(self) -> Self::With<LogErrors<Self::Inner>>
    where
        Self: Observable<Err: Into<Box<dyn Error>>>,
    {
        self.transform(|source| LogErrors { source })
    }

    /// Gives a source that never fails the error type `E`, so that it can be merged with one that may.
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// let subject = SerializedSubject::<usize, WsError>::new();
    /// let ticks = Io::interval(Duration::from_secs(1)).with_err::<WsError>();
    /// Io::new(subject).merge(ticks).log_errors().subscribe(|n| println!("{n}"));
    /// ```
    fn with_err<E>(self) -> Self::With<WithErr<Self::Inner, E>>
    where
        Self: Observable<Err = Infallible>,
    {
        self.transform(WithErr::new)
    }
}

impl<C: Observable> ObservableExt for C {}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::mpsc};

    use crate::prelude::*;

    #[test]
    fn retry_before_the_operators_and_after_them_tries_again() {
        let all = SerializedSubject::<u8, Infallible>::new();
        let (hear, heard) = mpsc::channel();
        Io::new(all.clone()).subscribe(move |n| hear.send(n).unwrap());
        let flaky = Io::of(1u8).with_err::<&str>().merge(Io::<()>::throw_err("broken").map(|_: ()| 0));
        flaky.retry(1).share().tag("/a").tag_filter("/a").untag().retry(1).log_errors().merge_into(&all);
        for _ in 0..4 {
            assert_eq!(heard.recv_timeout(Duration::from_secs(10)), Ok(1));
        }
    }

    #[test]
    fn router_is_fed_by_a_source_that_is_retried() {
        let flaky = Io::<()>::throw_err("broken").map(|_: ()| 0).tag("/a");
        let (end, ended) = mpsc::channel();
        let router = flaky.retry(1).route_by_tag();
        router.tag("/a").on_error(move |error| end.send(error).unwrap()).subscribe(|_| {});
        assert_eq!(ended.recv_timeout(Duration::from_secs(10)), Ok("broken"));
    }
}
