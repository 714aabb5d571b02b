//! Operators, as one extension trait on every RxRust observable.

mod conflate_by;
mod deliver;
mod log_errors;
mod merge_into;
#[cfg(test)]
mod recorder;
mod ref_count;
mod route_by_pattern;
mod route_by_tag;
mod share;
mod tag;
mod tag_filter;
mod timeout;
mod untag;
mod with_err;

use std::{convert::Infallible, error::Error, hash::Hash, time::Duration};

use rxrust::{
    context::{Context, Local},
    observable::{CoreObservable, Observable},
    observer::Observer,
};

use crate::{RunLoop, Tag, TaggedData, WsError, operators::deliver::channel::Bounds};

pub use conflate_by::ConflateBy;
pub use deliver::{BoundedStream, DeliverLocal, DeliverObserver, DeliverOn, DeliverSubscription, DeliverTask, Lossy};
pub use log_errors::LogErrors;
pub use merge_into::MergeIntoObserver;
pub use route_by_pattern::{PatternObserver, PatternRoutes};
pub use route_by_tag::{RouteObserver, RouteSubscription, Routed, Router};
pub use share::{Share, ShareSubscription};
pub use tag::TagWith;
pub use tag_filter::TagFilter;
pub use timeout::{Timeout, TimeoutObserver, TimeoutSubscription, Timer};
pub use untag::Untag;
pub use with_err::WithErr;

/// rxplus's operators, on every RxRust observable and on every subject of rxplus.
///
/// They work in any context, [`Io`](crate::Io), `Shared` and `Local`. The observables that they return are `Clone` when
/// their parts are, as `retry` demands.
#[expect(clippy::type_complexity, reason = "an alias would hide what comes out")]
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
    /// For string tags, `tag` is a `&str`, `String`, `&String`, `Tag` or `&Tag`; for other keys it is anything that converts
    /// into the key, so an integer needs its suffix: `tag_filter(7u32)`.
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// let all = Io::from_iter([TaggedData::new("/chat", "hello"), TaggedData::new("/log", "started")]);
    /// all.tag_filter("/chat").untag().subscribe(|text| assert_eq!(text, "hello"));
    /// ```
    ///
    /// Servers and groups have a faster one [of their own](crate::RxWsServer::tag_filter). To separate several tags,
    /// [`route_by_tag`](Self::route_by_tag) looks each item's tag up once, instead of asking one filter after another.
    fn tag_filter<'a, T, K>(self, tag: impl Into<K>) -> Self::With<TagFilter<Self::Inner, K>>
    where
        K: PartialEq,
        Self: Observable<Item<'a> = TaggedData<T, K>> + 'a,
    {
        self.transform(|source| TagFilter { source, tag: tag.into() })
    }

    /// Subscribes at once, and lets others subscribe to the items of one tag each, through the returned [`Router`].
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
    /// The source is *hot* from here on: items that it emits before anybody has subscribed to their tag are counted, not
    /// kept.
    fn route_by_tag<'a, T, K>(self) -> Router<K, T, Self::Err>
    where
        T: Clone + Send + 'static,
        K: Eq + Hash + Clone + Send + 'static,
        Self: Observable<Item<'a> = TaggedData<T, K>, Err: Clone + Send + Sync + 'static, Scheduler: 'static> + 'a,
        Self::Inner: CoreObservable<Self::With<RouteObserver<K, T, Self::Err>>>,
    {
        route_by_tag::route(self)
    }

    /// As [`route_by_tag`](Self::route_by_tag), by [patterns](crate::PathPattern) of the tags: returns one observable for each of them.
    ///
    /// ```
    /// # use rxplus::prelude::*;
    /// let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr)?;
    /// let [rooms, logs] = server.clone().route_by_pattern(["/rooms/{room}", "/robots/{robot}/log"])?;
    /// rooms.log_errors().subscribe(|td| println!("in {}: {}", &td.tag["room"], td.data));
    /// # Ok::<(), WsError>(())
    /// ```
    ///
    /// The tag of an item is then its [`PathMatch`](crate::PathMatch): the parameters, decoded, and the path. Of several patterns that match, the one that says most
    /// gets it: `/rooms/lobby` before `/rooms/{room}` before `/{*rest}`. Items that none matches, or whose pattern has no subscriber, are
    /// dropped: of all that others leave, `/{*rest}` gets what is not on the path `/`. Up to 1,024 paths are remembered with what they match: one of these costs a lookup more than a tag.
    ///
    /// A tag is compared as it stands in the URL. So a decoded parameter makes none: of `/rooms/caf%C3%A9` it is `café`, and nobody
    /// hears what is pushed to `/rooms/café`. Answer to `td.tag.path()`.
    ///
    /// # Errors
    ///
    /// [`WsError::InvalidPattern`], before it subscribes, for what is no pattern, or matches the same paths as another one.
    fn route_by_pattern<'a, T, P, const N: usize>(
        self,
        patterns: [P; N],
    ) -> Result<PatternRoutes<T, Self::Err, N>, WsError>
    where
        T: Clone + Send + 'static,
        P: AsRef<str>,
        Self: Observable<Item<'a> = TaggedData<T>, Err: Clone + Send + Sync + 'static, Scheduler: 'static> + 'a,
        Self::Inner: CoreObservable<Self::With<PatternObserver<T, Self::Err>>>,
    {
        route_by_pattern::route(self, &patterns)
    }

    /// Subscribes at once, and pushes each item, but not the terminal event, into `subject`.
    ///
    /// So several sources can feed one subject that outlives them. If the end of the source is to end the subject as well,
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
    /// type that converts into `WsError`; if another subject has an error type of its own, make the source infallible first:
    ///
    /// ```
    /// # use rxplus::prelude::*;
    /// let all = SerializedSubject::<u32, WsError>::new();
    /// Io::of(1).with_err::<WsError>().merge_into(&all);
    /// ```
    ///
    /// # Emission
    ///
    /// Pushes made while the source emits are delivered after the outermost callback of the thread has returned, like all
    /// pushes from a callback into a subject of rxplus.
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
    /// The first subscriber subscribes to the source, the last one to leave unsubscribes from it. A subscriber that comes
    /// after that, or after a terminal event, subscribes to the source anew.
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
    /// The source must be `Clone`, so that it can be subscribed to anew; `Io::defer` makes any source `Clone`, as above.
    ///
    /// RxRust's `publish().ref_count()` panics when two threads meet in it, and falls silent after a subscriber has
    /// panicked; this one keeps the promises of [`SerializedSubject`](crate::SerializedSubject). Its observers must be
    /// `Send`, even in a `Local` context.
    ///
    /// # Emission
    ///
    /// *Hot* while it has subscribers: on the source's thread, each subscriber from where it joined. The first one misses
    /// nothing, even if the source emits inside `subscribe`.
    ///
    /// When the last subscriber unsubscribes, as `take` does once it has its items, the source is unsubscribed before that
    /// returns. When the last subscriber panics, the source learns it from `is_closed`, which sources check around each
    /// item.
    fn share<'a, T>(self) -> Self::With<Share<Self::Inner, T, Self::Err, Self::BoxedSubscription>>
    where
        T: Clone + Send + 'static,
        Self: Observable<Item<'a> = T, Err: Clone + Send + Sync + 'static, Inner: Clone> + 'a,
    {
        self.transform(Share::new)
    }

    /// Delivers items on the thread of `scheduler`, in order: the purpose of RxRust's `observe_on`, at a fraction of its cost.
    ///
    /// Items are queued, and the target is woken once for all items that gather; `observe_on` makes a task for each.
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// let worker = EventLoopScheduler::new("worker");
    /// let readings = Io::from_iter([20.5, 21.0]);
    /// readings.deliver_on(&worker).subscribe(|celsius| println!("stored {celsius}")); // on the worker
    /// ```
    ///
    /// Takes any RxRust scheduler. On one that spreads tasks over several threads it keeps the order too, since it is one task.
    ///
    /// # Bound
    ///
    /// When 1,048,576 items wait, a thread that pushes waits for room, once it is outside any callback. Threads that cannot
    /// wait, since others may be waiting for them, go on: callbacks, rxplus's own threads, any code that runs inside tokio,
    /// and a thread that has a [`RunLoop`]. So a component's I/O thread never waits here. At twice as many items the newest
    /// are dropped, and their number is logged (`tracing::warn!`). Use [`deliver_on_bounded`](Self::deliver_on_bounded) when
    /// that can happen.
    ///
    /// A cold source that emits while it is being subscribed to, on a thread that may wait, waits too, inside the operators
    /// between it and this one: see [`SerializedSubject`](crate::SerializedSubject).
    ///
    /// # Emission
    ///
    /// On the scheduler's thread, in the order in which items came in; the terminal event, even an error, comes after the
    /// last item. Each item is a callback of its own: pushes of the observer are delivered before the next item. After
    /// `unsubscribe` has returned no delivery begins, and the queued items are gone; if the observer is in the middle of one,
    /// up to 256 of them go when it returns. An observer that panics ends its own pipeline only.
    fn deliver_on<'a, T, Sch>(self, scheduler: &Sch) -> Self::With<DeliverOn<Self::Inner, T, Sch, fn(u64)>>
    where
        T: Send + 'static,
        Sch: Clone,
        Self: Observable<Item<'a> = T> + 'a,
    {
        self.transform(|source| DeliverOn::with_default_bounds(source, scheduler.clone()))
    }

    /// As [`deliver_on`](Self::deliver_on), for an observer that may be slower than the source: keeps up to `capacity`
    /// items, drops items as `lossy` says, and reports their number to `on_lost`.
    ///
    /// No thread ever waits. `on_lost` is called on the scheduler's thread, before the next items, with the number lost
    /// since its last call; all of its calls together give the exact sum. If it panics, the pipeline ends.
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// let screen = EventLoopScheduler::new("screen");
    /// let frames = Io::interval(Duration::from_millis(1));
    /// let skipped = |count| println!("{count} frames were skipped");
    /// frames.deliver_on_bounded(&screen, 2, Lossy::DropOldest, skipped).subscribe(|frame| println!("frame {frame}"));
    /// ```
    ///
    /// # Panics
    ///
    /// If `capacity` is zero.
    fn deliver_on_bounded<'a, T, Sch, L>(
        self,
        scheduler: &Sch,
        capacity: usize,
        lossy: Lossy,
        on_lost: L,
    ) -> Self::With<DeliverOn<Self::Inner, T, Sch, L>>
    where
        T: Send + 'static,
        Sch: Clone,
        L: FnMut(u64),
        Self: Observable<Item<'a> = T> + 'a,
    {
        let bounds = Bounds::with_capacity(capacity, lossy);
        self.transform(|source| DeliverOn::new(source, scheduler.clone(), bounds, on_lost))
    }

    /// As [`deliver_on`](Self::deliver_on), with the newest item of each key: one that waits is replaced, in its place, by a newer
    /// one with the same key. So an observer that is slower than its source hears the last value of every key, and no more
    /// items wait than there are keys.
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// #[derive(Clone)]
    /// struct Quote { symbol: String, price: f64 }
    ///
    /// let screen = EventLoopScheduler::new("screen");
    /// let quotes = Io::from_iter([Quote { symbol: "EURUSD".into(), price: 1.09 }]);
    /// quotes.conflate_by(|quote| quote.symbol.clone(), &screen).subscribe(|quote| println!("{} {}", quote.symbol, quote.price));
    /// ```
    ///
    /// `key` is called on the source's thread, and so are the `Hash` and `Eq` of keys. When 2,097,152 (2^21) keys wait, items of
    /// further keys are dropped. Emission is that of [`deliver_on`](Self::deliver_on).
    fn conflate_by<'a, T, K, F, Sch>(
        self,
        key: F,
        scheduler: &Sch,
    ) -> Self::With<ConflateBy<Self::Inner, T, K, F, Sch, fn(u64)>>
    where
        T: Send + 'static,
        K: Eq + Hash + Send + 'static,
        F: FnMut(&T) -> K,
        Sch: Clone,
        Self: Observable<Item<'a> = T> + 'a,
    {
        self.conflate_by_counting(key, scheduler, (|_| {}) as fn(u64))
    }

    /// As [`conflate_by`](Self::conflate_by), and reports to `on_skipped` how many items were replaced by newer ones.
    ///
    /// `on_skipped` is called on the scheduler's thread, before the next item, with the number since its last call; all of its
    /// calls together give the exact sum. If it panics, the pipeline ends.
    fn conflate_by_counting<'a, T, K, F, Sch, L>(
        self,
        key: F,
        scheduler: &Sch,
        on_skipped: L,
    ) -> Self::With<ConflateBy<Self::Inner, T, K, F, Sch, L>>
    where
        T: Send + 'static,
        K: Eq + Hash + Send + 'static,
        F: FnMut(&T) -> K,
        Sch: Clone,
        L: FnMut(u64),
        Self: Observable<Item<'a> = T> + 'a,
    {
        self.transform(|source| ConflateBy::new(source, key, scheduler.clone(), on_skipped))
    }

    /// Delivers items on the thread of `run_loop`, which is the calling one, as a `Local` observable: from there on,
    /// closures and captured values need not be `Send`.
    ///
    /// So a GUI's handles, or an `Rc<RefCell<..>>`, can be used as they are:
    ///
    /// ```
    /// use rxplus::prelude::*;
    /// use std::{cell::Cell, rc::Rc};
    ///
    /// let run_loop = RunLoop::new();
    /// let sum = Rc::new(Cell::new(0));
    /// let added = sum.clone();
    /// Io::from_iter([1, 2, 3]).deliver_local(&run_loop).subscribe(move |n| added.set(added.get() + n));
    /// run_loop.run_pending();
    /// assert_eq!(sum.get(), 6);
    /// ```
    ///
    /// Bound and emission are those of [`deliver_on`](Self::deliver_on). When the loop is dropped, the pipeline ends and its observer is dropped.
    fn deliver_local<'a, T>(self, run_loop: &RunLoop) -> Local<DeliverLocal<Self, T>>
    where
        T: Send + 'static,
        Self: Observable<Item<'a> = T> + 'a,
    {
        Local::new(DeliverLocal::new(self, run_loop.local_set()))
    }

    /// Subscribes at once, and gives the items to async code as a `futures` stream with a bound: it keeps up to `capacity`
    /// items, drops items as `lossy` says, and [counts](BoundedStream::lost) them.
    ///
    /// RxRust's `into_stream` keeps every item.
    ///
    /// ```
    /// use futures::StreamExt;
    /// use rxplus::prelude::*;
    ///
    /// # futures::executor::block_on(async {
    /// let mut newest = Io::from_iter(1..=5).into_bounded_stream(2, Lossy::DropOldest);
    /// assert_eq!(newest.next().await, Some(Ok(4)));
    /// assert_eq!(newest.next().await, Some(Ok(5)));
    /// assert_eq!(newest.next().await, None);
    /// assert_eq!(newest.lost(), 3);
    /// # });
    /// ```
    ///
    /// Needs no runtime of any kind. Dropping the stream unsubscribes.
    ///
    /// # Panics
    ///
    /// If `capacity` is zero.
    fn into_bounded_stream<'a, T>(
        self,
        capacity: usize,
        lossy: Lossy,
    ) -> BoundedStream<
        T,
        Self::Err,
        <Self::Inner as CoreObservable<Self::With<DeliverObserver<T, <Self as Observable>::Err>>>>::Unsub,
    >
    where
        T: Send + 'static,
        Self: Observable<Item<'a> = T, Err: Send + 'static> + 'a,
        Self::Inner: CoreObservable<Self::With<DeliverObserver<T, <Self as Observable>::Err>>>,
    {
        BoundedStream::new(self, Bounds::with_capacity(capacity, lossy))
    }

    /// Logs the error that the source ends with, if any, and completes instead: leaves `Err = Infallible`.
    ///
    /// `subscribe(closure)` needs that. The error is logged through `tracing::error!`, with all its causes, from the first
    /// to the last. It is any [`Error`], or a `String` or `&str`. In a program without a `tracing` subscriber the log goes
    /// nowhere; `.on_error(|error| eprintln!("{error:?}"))`, which prints the causes too, fits in the same place.
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

    /// Gives a source that never fails the error type `E`, so that it can be merged with a source that may fail.
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

    /// Ends with [`WsError::TimedOut`](crate::WsError::TimedOut) when no item comes within `limit`: after the subscription, or
    /// after the item before.
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// let client = RxWsClient::connect("ws://127.0.0.1:8765/ticker", WsStr)?;
    /// let ticks = client.clone().timeout(Duration::from_secs(5));
    /// ticks.on_error(|error| eprintln!("the ticker is silent: {error}")).subscribe(|tick| println!("{tick}"));
    /// # Ok::<(), WsError>(())
    /// ```
    ///
    /// A source that cannot fail gets an error type by [`with_err`](Self::with_err) first. To hear of silence and go on, use RxRust's
    /// `debounce`: `ticks.log_errors().debounce(limit)` emits the last item before each silence.
    ///
    /// # Emission
    ///
    /// Items on the thread of the source, the error on the scheduler's. When both happen at once, either the item comes and then
    /// the error, or the error alone. The source is told by `is_closed`, as RxRust's operators do it.
    fn timeout<'a, T>(self, limit: Duration) -> Self::With<Timeout<Self::Inner, T, Self::Scheduler>>
    where
        Self: Observable<Item<'a> = T, Err = WsError> + 'a,
    {
        let scheduler = self.scheduler().clone();
        self.transform(|source| Timeout::new(source, limit, scheduler))
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
    fn source_is_retried_before_a_time_limit_and_before_it_is_conflated() {
        let limit = Duration::from_secs(10);
        let worker = EventLoopScheduler::new("worker");
        for round in 0..2 {
            let flaky = Io::of(1u8)
                .with_err::<WsError>()
                .merge(Io::<()>::throw_err(WsError::application("broken")).map(|_: ()| 0));
            let (end, ended) = mpsc::channel();
            let end = move |error: WsError| end.send(error.to_string()).unwrap();
            match round {
                0 => drop(flaky.retry(2).timeout(limit).on_error(end).subscribe(|_| {})),
                _ => drop(flaky.retry(2).conflate_by(|n| *n, &worker).on_error(end).subscribe(|_| {})),
            }
            assert_eq!(ended.recv_timeout(limit).as_deref(), Ok("broken"));
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
