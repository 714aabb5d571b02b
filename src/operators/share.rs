//! One subscription to a source, shared. Each stretch from a first subscriber to the leaving of the last one is a [`Round`],
//! with a hub of its own, so that a round that is ending and the next one never meet.

use std::{
    fmt,
    mem::replace,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use rxrust::{
    context::Context,
    observable::{CoreObservable, ObservableType},
    observer::Observer,
    subscription::{IntoBoxedSubscription, Subscription},
};

use super::ref_count::{Leave, RefCounted, lock};
use crate::{SerializedSubject, SerializedSubscription};

/// The observable that [`share`](crate::ObservableExt::share) returns. Its clones share one subscription to the source.
pub struct Share<S, T, E, U> {
    source: S,
    current: Arc<Mutex<Option<Round<T, E, U>>>>,
}

/// The subscription to a [`Share`].
///
/// Dropping it does not unsubscribe.
pub struct ShareSubscription<U> {
    inner: SerializedSubscription,
    seat: Arc<Seat>,
    connection: Arc<Connection<U>>,
}

/// The observer that feeds a round from the source.
pub struct ShareObserver<T, E> {
    hub: SerializedSubject<T, E>,
    subscribers: Arc<AtomicUsize>,
    /// Tells the round that the source still holds this.
    alive: Arc<()>,
}

/// The time from the first subscriber to the leaving of the last one.
struct Round<T, E, U> {
    hub: SerializedSubject<T, E>,
    feeder: Weak<()>,
    connection: Arc<Connection<U>>,
}

/// A round's subscription to the source. Separate from the hub, whose observers may hold a [`ShareSubscription`] of their
/// own.
struct Connection<U> {
    /// Once zero, it stays zero.
    subscribers: Arc<AtomicUsize>,
    source: Mutex<Source<U>>,
}

enum Source<U> {
    /// The first subscriber is in the middle of subscribing to it.
    Connecting,
    Connected(U),
    Over,
}

/// A subscriber's place in a round.
struct Seat {
    // Not the connection: in a `Local` context that is not `Send`, and the hub's observers must be.
    subscribers: Arc<AtomicUsize>,
    left: AtomicBool,
}

/// The parts of a round that a new subscriber joins.
struct Entrance<T, E, U> {
    hub: SerializedSubject<T, E>,
    connection: Arc<Connection<U>>,
    seat: Arc<Seat>,
    /// Given to the first one, to subscribe to the source.
    feeder: Option<ShareObserver<T, E>>,
}

impl<S, T, E, U> Share<S, T, E, U> {
    pub(super) fn new(source: S) -> Self {
        Self { source, current: Arc::default() }
    }
}

impl<S, T, E, U> Share<S, T, E, U>
where
    T: Clone + Send + 'static,
    E: Clone + Send + Sync + 'static,
    U: Subscription,
{
    /// Takes a seat in the current round, or starts a new one.
    fn enter(&self) -> Entrance<T, E, U> {
        let mut current = lock(&self.current);
        if let Some(entrance) = current.as_ref().and_then(Round::enter) {
            return entrance;
        }
        let (round, entrance) = Round::start();
        let last = current.replace(round);
        // Unsubscribing may run user code: not under the lock.
        drop(current);
        if let Some(last) = last {
            last.connection.disconnect();
        }
        entrance
    }
}

impl<S, T, E, U, C> CoreObservable<C> for Share<S, T, E, U>
where
    C: Context,
    C::Inner: Observer<T, E> + Send + 'static,
    T: Clone + Send + 'static,
    E: Clone + Send + Sync + 'static,
    U: Subscription,
    S: CoreObservable<C::With<ShareObserver<T, E>>>,
    S::Unsub: IntoBoxedSubscription<U>,
{
    type Unsub = ShareSubscription<U>;

    fn subscribe(self, context: C) -> Self::Unsub {
        let Entrance { hub, connection, seat, feeder } = self.enter();
        let feeder = feeder.map(|feeder| context.wrap(feeder));
        // Before the source, which may emit while it is subscribed to.
        let inner = hub.subscribe(context.transform(|observer| RefCounted::new(observer, seat.clone())));
        if let Some(feeder) = feeder {
            connection.connected(self.source.subscribe(feeder).into_boxed());
        }
        ShareSubscription { inner, seat, connection }
    }
}

impl<T, E, U> Round<T, E, U>
where
    T: Clone + Send + 'static,
    E: Clone + Send + Sync + 'static,
{
    fn start() -> (Self, Entrance<T, E, U>) {
        let (hub, alive) = (SerializedSubject::new(), Arc::new(()));
        let subscribers = Arc::new(AtomicUsize::new(1));
        let source = Mutex::new(Source::Connecting);
        let connection = Arc::new(Connection { subscribers: subscribers.clone(), source });
        let round = Self { hub: hub.clone(), feeder: Arc::downgrade(&alive), connection };
        let feeder = ShareObserver { hub, subscribers, alive };
        let entrance = round.entrance(Some(feeder));
        (round, entrance)
    }

    /// Takes a seat, unless no more items can come: all subscribers have left, a terminal event came, or the source has
    /// dropped the feeder without one.
    fn enter(&self) -> Option<Entrance<T, E, U>> {
        if self.hub.is_closed() || self.feeder.strong_count() == 0 {
            return None;
        }
        let one_more = |n| (n > 0).then_some(n + 1);
        self.connection.subscribers.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok()?;
        Some(self.entrance(None))
    }

    fn entrance(&self, feeder: Option<ShareObserver<T, E>>) -> Entrance<T, E, U> {
        let connection = self.connection.clone();
        let seat = Arc::new(Seat { subscribers: connection.subscribers.clone(), left: AtomicBool::new(false) });
        Entrance { hub: self.hub.clone(), connection, seat, feeder }
    }
}

impl<U: Subscription> Connection<U> {
    fn connected(&self, subscription: U) {
        let mut source = lock(&self.source);
        if let Source::Over = *source {
            drop(source);
            return subscription.unsubscribe();
        }
        *source = Source::Connected(subscription);
        drop(source);
        // All may have left while the source was being subscribed to, when there was nothing to unsubscribe yet.
        self.disconnect_if_empty();
    }

    fn disconnect_if_empty(&self) {
        if self.subscribers.load(Ordering::Acquire) == 0 {
            self.disconnect();
        }
    }

    fn disconnect(&self) {
        let source = replace(&mut *lock(&self.source), Source::Over);
        if let Source::Connected(subscription) = source {
            subscription.unsubscribe();
        }
    }
}

impl Leave for Seat {
    fn leave(&self) {
        if !self.left.swap(true, Ordering::AcqRel) {
            self.subscribers.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl<U: Subscription> Subscription for ShareSubscription<U> {
    fn unsubscribe(self) {
        self.inner.unsubscribe();
        // Not left to the observer's drop, which waits for an emission under way.
        self.seat.leave();
        self.connection.disconnect_if_empty();
    }

    fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }
}

impl<T: Clone + Send + 'static, E: Clone + Send + Sync + 'static> Observer<T, E> for ShareObserver<T, E> {
    fn next(&mut self, item: T) {
        self.hub.relay(item);
    }

    fn error(self, error: E) {
        self.hub.relay_end(Some(Arc::new(error)));
    }

    fn complete(self) {
        self.hub.relay_end(None);
    }

    fn is_closed(&self) -> bool {
        self.subscribers.load(Ordering::Acquire) == 0 || self.hub.is_closed()
    }
}

impl<S, T, E, U> ObservableType for Share<S, T, E, U> {
    type Item<'a>
        = T
    where
        Self: 'a;
    type Err = E;
}

impl<S: Clone, T, E, U> Clone for Share<S, T, E, U> {
    fn clone(&self) -> Self {
        Self { source: self.source.clone(), current: self.current.clone() }
    }
}

impl<T, E> Clone for ShareObserver<T, E> {
    fn clone(&self) -> Self {
        Self { hub: self.hub.clone(), subscribers: self.subscribers.clone(), alive: self.alive.clone() }
    }
}

impl<S: fmt::Debug, T, E, U> fmt::Debug for Share<S, T, E, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share").field("source", &self.source).finish_non_exhaustive()
    }
}

impl<U> fmt::Debug for ShareSubscription<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShareSubscription").field("is_closed", &self.inner.is_closed()).finish()
    }
}

impl<T, E> fmt::Debug for ShareObserver<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShareObserver").field("subscribers", &self.subscribers).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Barrier, thread};

    use super::*;
    use crate::{operators::recorder::Recorder, prelude::*};

    const ROUNDS: usize = 200;

    /// A hot source that knows how often it was subscribed to, and how often that has ended.
    #[derive(Clone, Default)]
    struct Source {
        subject: SerializedSubject<usize, Infallible>,
        subscribed: Arc<AtomicUsize>,
        unsubscribed: Arc<AtomicUsize>,
    }

    struct SourceSubscription(SerializedSubscription, Arc<AtomicUsize>);

    impl ObservableType for Source {
        type Item<'a> = usize;
        type Err = Infallible;
    }

    impl<C: Context<Inner: Observer<usize, Infallible> + Send + 'static>> CoreObservable<C> for Source {
        type Unsub = SourceSubscription;

        fn subscribe(self, context: C) -> SourceSubscription {
            self.subscribed.fetch_add(1, Ordering::SeqCst);
            SourceSubscription(self.subject.subscribe(context), self.unsubscribed)
        }
    }

    impl Subscription for SourceSubscription {
        fn unsubscribe(self) {
            self.0.unsubscribe();
            self.1.fetch_add(1, Ordering::SeqCst);
        }

        fn is_closed(&self) -> bool {
            self.0.is_closed()
        }
    }

    impl Source {
        fn counts(&self) -> (usize, usize) {
            (self.subscribed.load(Ordering::SeqCst), self.unsubscribed.load(Ordering::SeqCst))
        }
    }

    /// Runs `left` and `right` at the same moment.
    fn race(left: impl FnOnce() + Send, right: impl FnOnce() + Send) {
        let start = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| (start.wait(), left()));
            start.wait();
            right();
        });
    }

    #[test]
    fn subscribers_share_one_subscription_until_the_last_one_leaves() {
        let (source, left, right) = (Source::default(), Recorder::default(), Recorder::default());
        let shared = Io::new(source.clone()).map(|n| n + 1).share();
        let first = shared.clone().subscribe_with(left.clone());
        source.subject.next(0);
        let second = shared.clone().filter(|n| *n > 2).subscribe_with(right.clone());
        source.subject.next(1);
        first.unsubscribe();
        source.subject.next(2);
        assert_eq!(source.counts(), (1, 0));
        second.unsubscribe();
        assert_eq!(source.counts(), (1, 1));
        assert_eq!((left.heard(), right.heard()), (vec!["1".into(), "2".into()], vec!["3".into()]));
        shared.subscribe_with(left.clone());
        source.subject.next(9);
        assert_eq!((source.counts(), left.heard().len()), ((2, 1), 3));
    }

    #[test]
    fn synchronous_source_reaches_the_first_subscriber_whole_and_the_next_one_afresh() {
        let (left, right) = (Recorder::default(), Recorder::default());
        let shared = Io::from_iter([1, 2]).share();
        shared.clone().subscribe_with(left.clone());
        shared.subscribe_with(right.clone());
        assert_eq!(left.heard(), ["1", "2", "complete"]);
        assert_eq!(right.heard(), left.heard());
    }

    #[test]
    fn local_source_is_shared() {
        let (mut subject, heard) = (Local::subject::<u8, Infallible>(), Recorder::default());
        let shared = subject.clone().share();
        let first = shared.clone().subscribe_with(heard.clone());
        shared.subscribe_with(heard.clone());
        subject.next(1);
        first.unsubscribe();
        subject.next(2);
        assert_eq!(heard.heard(), ["1", "1", "2"]);
    }

    #[test]
    fn error_reaches_all_and_the_next_subscriber_starts_afresh() {
        let heard = Recorder::default();
        let shared = Io::<()>::throw_err("broken").share();
        shared.clone().subscribe_with(heard.clone());
        shared.map(|_: ()| ()).subscribe_with(heard.clone());
        assert_eq!(heard.heard(), ["error \"broken\"", "error \"broken\""]);
    }

    #[test]
    fn retry_finds_its_way_through() {
        let attempts = Arc::new(AtomicUsize::new(0));
        let (counted, heard) = (attempts.clone(), Recorder::default());
        let flaky = Io::defer(move || {
            let attempt = counted.fetch_add(1, Ordering::SeqCst);
            Io::of(attempt).map_err(|never: Infallible| match never {}).merge(Io::throw_err("broken").map(|_: ()| 0))
        });
        let (done, finished) = std::sync::mpsc::channel();
        flaky
            .share()
            .tag("/a")
            .untag()
            .retry(2)
            .on_error(move |_| done.send(()).unwrap())
            .subscribe_with(heard.clone());
        finished.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(heard.heard(), ["0", "1", "2"]);
    }

    #[test]
    fn last_subscriber_that_has_taken_its_share_unsubscribes_the_source() {
        let (source, heard) = (Source::default(), Recorder::default());
        let shared = Io::new(source.clone()).share();
        shared.clone().take(1).subscribe_with(heard.clone());
        source.subject.next(1);
        assert_eq!(source.counts(), (1, 1));
        shared.subscribe_with(heard.clone());
        source.subject.next(2);
        assert_eq!(source.counts(), (2, 1));
        assert_eq!(heard.heard(), ["1", "complete", "2"]);
    }

    #[test]
    fn synchronous_source_is_unsubscribed_when_its_only_subscriber_leaves_before_it_returns() {
        let torn_down = Arc::new(AtomicUsize::new(0));
        let counted = torn_down.clone();
        let source = Io::create::<u8, Infallible, _, _>(move |emitter| {
            emitter.next(1);
            ClosureSubscription(move || _ = counted.fetch_add(1, Ordering::SeqCst))
        });
        source.share().take(1).subscribe(|_| {});
        assert_eq!(torn_down.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn synchronous_source_is_unsubscribed_when_its_only_subscriber_panics_before_it_returns() {
        let torn_down = Arc::new(AtomicUsize::new(0));
        let counted = torn_down.clone();
        let source = Io::create::<u8, Infallible, _, _>(move |emitter| {
            emitter.next(1);
            ClosureSubscription(move || _ = counted.fetch_add(1, Ordering::SeqCst))
        });
        source.share().subscribe(|n| panic!("{n}"));
        assert_eq!(torn_down.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn round_that_all_have_left_takes_nobody_in() {
        let (round, first) = Round::<u8, Infallible, BoxedSubscriptionSend>::start();
        let second = round.enter().unwrap();
        first.seat.leave();
        first.seat.leave();
        assert!(!Observer::<u8, _>::is_closed(first.feeder.as_ref().unwrap()));
        second.seat.leave();
        assert!(Observer::<u8, _>::is_closed(first.feeder.as_ref().unwrap()));
        assert!(round.enter().is_none());
    }

    #[test]
    fn subscription_to_the_source_that_comes_when_its_round_is_over_is_ended() {
        let (ended, end) = std::sync::mpsc::channel();
        let (_round, first) = Round::<u8, Infallible, BoxedSubscriptionSend>::start();
        first.connection.disconnect();
        let subscription = ClosureSubscription(move || ended.send(()).unwrap());
        first.connection.connected(BoxedSubscriptionSend::new(subscription));
        assert_eq!(end.try_recv(), Ok(()));
    }

    #[test]
    fn last_subscriber_that_panics_lets_the_source_go() {
        let (source, heard) = (Source::default(), Recorder::default());
        let shared = Io::new(source.clone()).share();
        shared.clone().subscribe(|n| panic!("{n}"));
        source.subject.next(1);
        shared.subscribe_with(heard.clone());
        source.subject.next(2);
        assert_eq!((heard.heard(), source.counts()), (vec!["2".into()], (2, 1)));
    }

    #[test]
    fn observer_that_holds_its_subscription_is_dropped_with_the_source() {
        let held = Arc::new(());
        let (captured, source) = (held.clone(), Source::default());
        let shared = Io::new(source.clone()).share();
        shared.take(2).subscribe(move |_| _ = &captured);
        assert_eq!(Arc::strong_count(&held), 2);
        drop(source);
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[test]
    fn subscriber_that_panics_leaves_and_the_others_go_on() {
        let (source, heard) = (Source::default(), Recorder::default());
        let shared = Io::new(source.clone()).share();
        let panicking = shared.clone().subscribe(|n| panic!("{n}"));
        let steady = shared.clone().subscribe_with(heard.clone());
        source.subject.next(1);
        source.subject.next(2);
        assert!(panicking.is_closed());
        assert_eq!(heard.heard(), ["1", "2"]);
        steady.unsubscribe();
        assert_eq!(source.counts(), (1, 1));
    }

    #[test]
    fn source_whose_pipeline_panicked_is_subscribed_to_afresh() {
        let (source, heard) = (Source::default(), Recorder::default());
        let shared = Io::new(source.clone()).tap(|n| assert_ne!(*n, 1)).share();
        shared.clone().subscribe_with(heard.clone());
        source.subject.next(1);
        shared.subscribe_with(heard.clone());
        source.subject.next(2);
        assert_eq!(heard.heard(), ["2"]);
    }

    #[test]
    fn subscriptions_made_and_ended_in_a_callback_take_effect() {
        let (source, heard) = (Source::default(), Recorder::default());
        let shared = Io::new(source.clone()).share();
        let own = Arc::new(Mutex::new(None));
        let (own_too, again, inner) = (own.clone(), shared.clone(), heard.clone());
        let first = shared.subscribe(move |n| {
            if n == 1 {
                again.clone().subscribe_with(inner.clone());
            } else if let Some(own) = own_too.lock().unwrap().take() {
                let own: ShareSubscription<_> = own;
                own.unsubscribe();
            }
        });
        *own.lock().unwrap() = Some(first);
        for n in 1..=3 {
            source.subject.next(n);
        }
        assert_eq!(heard.heard(), ["2", "3"]);
        assert_eq!(source.counts(), (1, 0));
    }

    #[test]
    fn last_subscriber_unsubscribing_in_its_callback_unsubscribes_the_source() {
        let source = Source::default();
        let own = Arc::new(Mutex::new(None::<ShareSubscription<_>>));
        let own_too = own.clone();
        let subscription = Io::new(source.clone()).share().subscribe(move |_| {
            own_too.lock().unwrap().take().unwrap().unsubscribe();
        });
        *own.lock().unwrap() = Some(subscription);
        source.subject.next(1);
        source.subject.next(2);
        assert_eq!(source.counts(), (1, 1));
    }

    #[test]
    fn two_first_subscribers_racing_subscribe_the_source_once() {
        for _ in 0..ROUNDS {
            let (source, left, right) = (Source::default(), Recorder::default(), Recorder::default());
            let shared = Io::new(source.clone()).share();
            let other = shared.clone();
            race(|| drop(shared.subscribe_with(left.clone())), || drop(other.subscribe_with(right.clone())));
            source.subject.next(1);
            assert_eq!((left.heard().len(), right.heard().len(), source.counts()), (1, 1, (1, 0)));
        }
    }

    #[test]
    fn subscriber_racing_the_last_one_to_leave_is_not_lost() {
        for _ in 0..ROUNDS {
            let (source, heard) = (Source::default(), Recorder::default());
            let shared = Io::new(source.clone()).share();
            let last = shared.clone().subscribe(|_| {});
            race(|| last.unsubscribe(), || drop(shared.subscribe_with(heard.clone())));
            source.subject.next(1);
            assert_eq!(heard.heard(), ["1"]);
            let (subscribed, unsubscribed) = source.counts();
            assert_eq!(subscribed - unsubscribed, 1);
        }
    }

    #[test]
    fn two_last_subscribers_racing_to_leave_unsubscribe_the_source_once() {
        for _ in 0..ROUNDS {
            let source = Source::default();
            let shared = Io::new(source.clone()).share();
            let (left, right) = (shared.clone().subscribe(|_| {}), shared.subscribe(|_| {}));
            race(|| left.unsubscribe(), || right.unsubscribe());
            assert_eq!(source.counts(), (1, 1));
        }
    }

    #[test]
    fn subscriber_racing_the_completion_hears_it() {
        for _ in 0..ROUNDS {
            let (source, heard) = (Source::default(), Recorder::default());
            let shared = Io::new(source.clone()).share();
            shared.clone().subscribe(|_| {});
            race(|| source.subject.clone().complete(), || drop(shared.subscribe_with(heard.clone())));
            assert_eq!(heard.heard(), ["complete"]);
        }
    }

    #[test]
    fn survivor_misses_nothing_while_others_come_and_go() {
        const ITEMS: usize = 2_000;
        let (source, survivor) = (Source::default(), Recorder::default());
        let shared = Io::new(source.clone()).share();
        let surviving = shared.clone().subscribe_with(survivor.clone());
        let start = Barrier::new(4);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    start.wait();
                    for _ in 0..ROUNDS {
                        shared.clone().subscribe(|_| {}).unsubscribe();
                    }
                });
            }
            start.wait();
            (0..ITEMS).for_each(|n| source.subject.next(n));
        });
        assert_eq!(survivor.heard(), (0..ITEMS).map(|n| n.to_string()).collect::<Vec<_>>());
        assert_eq!(source.counts(), (1, 0));
        surviving.unsubscribe();
        assert_eq!(source.counts(), (1, 1));
    }

    #[test]
    fn subscribers_coming_and_going_leave_no_subscription_behind() {
        let source = Source::default();
        let shared = Io::new(source.clone()).share();
        let start = Barrier::new(4);
        thread::scope(|scope| {
            for n in 0..4 {
                let (source, shared, start) = (&source, &shared, &start);
                scope.spawn(move || {
                    start.wait();
                    for _ in 0..ROUNDS {
                        let heard = Recorder::default();
                        let subscription = shared.clone().subscribe_with(heard.clone());
                        source.subject.next(n);
                        subscription.unsubscribe();
                    }
                });
            }
        });
        let (subscribed, unsubscribed) = source.counts();
        assert_eq!(subscribed, unsubscribed);
    }
}
