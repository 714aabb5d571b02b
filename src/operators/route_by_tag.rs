//! Items taken apart by their tag. The router holds no queue: an item goes straight through to those who subscribed to
//! its tag, and costs one lookup, however many tags there are.

use std::{
    any::Any,
    collections::HashMap,
    fmt,
    hash::Hash,
    mem::take,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use rxrust::{
    context::Context,
    observable::{CoreObservable, Observable, ObservableType},
    observer::Observer,
    subscription::Subscription,
};

use super::ref_count::{Leave, RefCounted, lock};
use crate::{Io, IoScheduler, SerializedSubject, SerializedSubscription, TaggedData, sparse};

/// How many routes an observer remembers at most, also some that have gone. With more tags than this, items of the others take the
/// router's lock.
const REMEMBERED: usize = 1_024;

/// A router forgets the routes that have gone once more of them have than this, and than half of all that it knows.
const FORGOTTEN_AT_ONCE: usize = 64;

/// Gives each subscriber the items of one tag. Made by [`route_by_tag`](crate::ObservableExt::route_by_tag).
///
/// Clones share one subscription to the source. A tag costs memory while it has a subscriber. Afterwards it may be remembered, with an
/// empty route, until some more items have come: at most 1,024 such tags are.
/// A tag's `Hash` and `Eq` are called under the router's lock, so they must not use the router.
///
/// When the last `Router` is gone and the last subscriber has left, the source is told by `is_closed`, as RxRust's operators
/// do it; until then the routing lives as long as the source.
#[must_use = "the routing ends with the last `Router` and its subscribers"]
pub struct Router<K, T, E> {
    core: Arc<Core<K, T, E>>,
    handle: Arc<()>,
    scheduler: Option<IoScheduler>,
}

/// The items of one tag: what [`Router::tag`] gives.
pub struct Routed<K, T, E> {
    router: Router<K, T, E>,
    key: K,
}

/// What a subscription to a [`Routed`] returns.
///
/// Dropping it does not unsubscribe.
#[derive(Clone)]
pub struct RouteSubscription {
    inner: SerializedSubscription,
    seat: Arc<dyn Leave>,
}

/// The observer that [`route_by_tag`](crate::ObservableExt::route_by_tag) subscribes.
pub struct RouteObserver<K, T, E> {
    core: Arc<Core<K, T, E>>,
    /// The routes of the items that came before. One that has gone since has no observers, and never gets any.
    known: HashMap<K, SerializedSubject<T, E>>,
    /// How many routes had gone when they were last forgotten.
    forgotten: usize,
}

struct Core<K, T, E> {
    routes: Mutex<Routes<K, T, E>>,
    /// Shared with the hubs, which count what arrives while their last subscriber leaves, or their first one comes.
    unrouted: Arc<AtomicU64>,
    /// One strong reference for each [`Router`].
    handles: Weak<()>,
    /// How many routes have gone.
    gone: AtomicUsize,
}

struct Routes<K, T, E> {
    by_key: HashMap<K, Route<T, E>>,
    /// How many routes there have been.
    begun: u64,
    /// Set by the source's terminal event, which it gives to those who come late.
    over: Option<SerializedSubject<T, E>>,
}

struct Route<T, E> {
    hub: SerializedSubject<T, E>,
    number: u64,
    /// At least one, and the entry goes with the last one.
    subscribers: usize,
}

/// A subscriber's place in the entry of its key, given up once.
struct Seat<K, T, E> {
    /// Weak, since the observers, which hold their seats, are held by the routes.
    core: Weak<Core<K, T, E>>,
    /// Taken when the seat is given up.
    key: Mutex<Option<K>>,
}

/// Subscribes a new router to `source`.
pub(super) fn route<S, K, T, E>(source: S) -> Router<K, T, E>
where
    S: Observable<Scheduler: 'static>,
    S::Inner: CoreObservable<S::With<RouteObserver<K, T, E>>>,
{
    route_through(source, |observer| observer)
}

/// As [`route`], for a source of other items: `adapt` puts an observer of them in front of the router's.
pub(super) fn route_through<S, K, T, E, O>(
    source: S,
    adapt: impl FnOnce(RouteObserver<K, T, E>) -> O,
) -> Router<K, T, E>
where
    S: Observable<Scheduler: 'static>,
    S::Inner: CoreObservable<S::With<O>>,
{
    // So that the pipelines behind the router use the threads of the component before it.
    let scheduler = (source.scheduler() as &dyn Any).downcast_ref::<IoScheduler>().cloned();
    let handle = Arc::new(());
    let routes = Mutex::new(Routes { by_key: HashMap::new(), begun: 0, over: None });
    let (unrouted, gone) = (Arc::default(), AtomicUsize::new(0));
    let core = Arc::new(Core { routes, unrouted, handles: Arc::downgrade(&handle), gone });
    source.subscribe_with(adapt(RouteObserver::new(core.clone())));
    Router { core, handle, scheduler }
}

impl<K, T, E> Router<K, T, E> {
    /// The items tagged `key`, without their tag. *Hot*.
    ///
    /// For tags that are strings, `key` is a `&str`, `String`, `&String`, [`Tag`](crate::Tag) or `&Tag`.
    ///
    /// # Emission
    ///
    /// On the source's thread, inside the source's emission, in its order. The source's terminal event ends the
    /// subscribers of all tags, in the order in which the tags were first subscribed to; who subscribes after it hears it at
    /// once, on its own thread.
    pub fn tag(&self, key: impl Into<K>) -> Io<Routed<K, T, E>> {
        let scheduler = self.scheduler.clone().unwrap_or_default();
        Io::from_parts(Routed { router: self.clone(), key: key.into() }, scheduler)
    }

    /// How many items had a tag that nobody was subscribed to. Each item is either delivered or counted, also while a tag's only
    /// subscriber comes or goes.
    pub fn unrouted(&self) -> u64 {
        self.core.unrouted.load(Ordering::Relaxed)
    }
}

impl<K, T, E> Core<K, T, E> {
    fn routes(&self) -> MutexGuard<'_, Routes<K, T, E>> {
        lock(&self.routes)
    }
}

impl<K, T, E> Core<K, T, E>
where
    K: Eq + Hash + Clone,
    T: Clone + Send + 'static,
    E: Clone + Send + Sync + 'static,
{
    /// The hub of `key`, with one subscriber more; after the terminal event, the one that repeats it.
    fn enter(&self, key: K) -> SerializedSubject<T, E> {
        let mut routes = self.routes();
        let known = routes.over.clone().or_else(|| routes.by_key.get_mut(&key).map(Route::enter));
        if let Some(hub) = known {
            // The key's destructor is the user's: not under the lock.
            drop(routes);
            return hub;
        }
        let hub = SerializedSubject::counting(self.unrouted.clone());
        routes.begun += 1;
        let route = Route { hub: hub.clone(), number: routes.begun, subscribers: 1 };
        routes.by_key.insert(key, route);
        hub
    }

    fn hub(&self, key: &K) -> Option<SerializedSubject<T, E>> {
        self.routes().by_key.get(key).map(|route| route.hub.clone())
    }

    fn end(&self, error: Option<E>) {
        // In an `Arc`: each hub clones it for its subscribers, in isolation.
        let (over, error) = (SerializedSubject::new(), error.map(Arc::new));
        over.relay_end(error.clone());
        let mut routes = self.routes();
        routes.over = Some(over);
        let by_key = take(&mut routes.by_key);
        drop(routes);
        let mut ending: Vec<_> = by_key.into_values().collect();
        ending.sort_unstable_by_key(|route| route.number);
        for route in ending {
            route.hub.relay_end(error.clone());
        }
    }
}

impl<T, E> Route<T, E> {
    /// The hub, with one subscriber more.
    fn enter(&mut self) -> SerializedSubject<T, E> {
        self.subscribers += 1;
        self.hub.clone()
    }
}

impl<K, T, E> RouteObserver<K, T, E> {
    fn new(core: Arc<Core<K, T, E>>) -> Self {
        Self { core, known: HashMap::new(), forgotten: 0 }
    }
}

impl<K, T, E> RouteObserver<K, T, E>
where
    K: Eq + Hash + Clone,
    T: Clone + Send + 'static,
    E: Clone + Send + Sync + 'static,
{
    /// Emits an item whose route is not known, or has gone or has no observer yet.
    fn look_up(&mut self, tag: K, data: T) {
        let Some(hub) = self.core.hub(&tag) else {
            self.known.remove(&tag);
            self.core.unrouted.fetch_add(1, Ordering::Relaxed);
            return;
        };
        if self.known.len() < REMEMBERED || self.known.contains_key(&tag) {
            self.known.insert(tag, hub.clone());
        }
        hub.relay(data);
    }

    /// From time to time: a router may see many tags come and go.
    fn forget_gone(&mut self) {
        let gone = self.core.gone.load(Ordering::Relaxed);
        if gone.wrapping_sub(self.forgotten) > FORGOTTEN_AT_ONCE.max(self.known.len() / 2) {
            self.forgotten = gone;
            self.known = HashMap::new();
        }
    }
}

impl<K, T, E, C> CoreObservable<C> for Routed<K, T, E>
where
    C: Context,
    C::Inner: Observer<T, E> + Send + 'static,
    K: Eq + Hash + Clone + Send + 'static,
    T: Clone + Send + 'static,
    E: Clone + Send + Sync + 'static,
{
    type Unsub = RouteSubscription;

    fn subscribe(self, context: C) -> RouteSubscription {
        let Self { router, key } = self;
        let hub = router.core.enter(key.clone());
        let seat = Arc::new(Seat { core: Arc::downgrade(&router.core), key: Mutex::new(Some(key)) });
        let inner = hub.subscribe(context.transform(|observer| RefCounted::new(observer, seat.clone())));
        RouteSubscription { inner, seat }
    }
}

impl<K, T, E> Observer<TaggedData<T, K>, E> for RouteObserver<K, T, E>
where
    K: Eq + Hash + Clone,
    T: Clone + Send + 'static,
    E: Clone + Send + Sync + 'static,
{
    fn next(&mut self, TaggedData { tag, data }: TaggedData<T, K>) {
        self.forget_gone();
        // Without the lock and the count of references, which would take a quarter of all that an item takes.
        let unheard = match self.known.get(&tag) {
            Some(hub) => hub.offer(data),
            None => Some(data),
        };
        if let Some(data) = unheard {
            self.look_up(tag, data);
        }
    }

    fn error(self, error: E) {
        self.core.end(Some(error));
    }

    fn complete(self) {
        self.core.end(None);
    }

    fn is_closed(&self) -> bool {
        self.core.handles.strong_count() == 0 && self.core.routes().by_key.is_empty()
    }
}

impl<K, T, E> Leave for Seat<K, T, E>
where
    K: Eq + Hash + Send,
    T: Send,
    E: Send + Sync,
{
    fn leave(&self) {
        let Some(key) = lock(&self.key).take() else { return };
        let Some(core) = self.core.upgrade() else { return };
        let mut routes = core.routes();
        // No entry: the terminal event has taken all of them.
        let Some(route) = routes.by_key.get_mut(&key) else { return };
        route.subscribers -= 1;
        if route.subscribers == 0 {
            let removed = sparse::remove_entry(&mut routes.by_key, &key);
            core.gone.fetch_add(1, Ordering::Relaxed);
            // The hub drops observers, whose destructors are the user's: not under the lock.
            drop(routes);
            drop(removed);
        }
    }
}

impl Subscription for RouteSubscription {
    fn unsubscribe(self) {
        self.inner.unsubscribe();
        // Not left to the observer's drop, which waits for an emission under way.
        self.seat.leave();
    }

    fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }
}

impl<K, T, E> ObservableType for Routed<K, T, E> {
    type Item<'a>
        = T
    where
        Self: 'a;
    type Err = E;
}

impl<K, T, E> Clone for Router<K, T, E> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone(), handle: self.handle.clone(), scheduler: self.scheduler.clone() }
    }
}

impl<K: Clone, T, E> Clone for Routed<K, T, E> {
    fn clone(&self) -> Self {
        Self { router: self.router.clone(), key: self.key.clone() }
    }
}

impl<K, T, E> Clone for RouteObserver<K, T, E> {
    fn clone(&self) -> Self {
        Self::new(self.core.clone())
    }
}

impl<K, T, E> fmt::Debug for Router<K, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.core.routes().by_key.len();
        f.debug_struct("Router").field("keys", &keys).field("unrouted", &self.unrouted()).finish_non_exhaustive()
    }
}

impl<K: fmt::Debug, T, E> fmt::Debug for Routed<K, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routed").field("key", &self.key).finish_non_exhaustive()
    }
}

impl<K, T, E> fmt::Debug for RouteObserver<K, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteObserver").finish_non_exhaustive()
    }
}

impl fmt::Debug for RouteSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteSubscription").field("is_closed", &self.is_closed()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{
            Barrier,
            atomic::{AtomicBool, AtomicUsize},
        },
        thread,
    };

    use super::*;
    use crate::{operators::recorder::Recorder, prelude::*};

    const ROUNDS: usize = 200;

    type Inbound<E = Infallible> = SerializedSubject<TaggedData<usize>, E>;

    fn routed() -> (Inbound, Router<Tag, usize, Infallible>) {
        let inbound = Inbound::new();
        (inbound.clone(), Io::new(inbound).route_by_tag())
    }

    fn keys<K, T, E>(router: &Router<K, T, E>) -> usize {
        router.core.routes().by_key.len()
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
    fn end_reaches_the_tags_in_the_order_of_their_first_subscribers() {
        let (inbound, router) = routed();
        let ended = Arc::new(Mutex::new(Vec::new()));
        for n in 0..32 {
            let ended = ended.clone();
            router.tag(format!("/{n}")).on_complete(move || ended.lock().unwrap().push(n)).subscribe(drop);
        }
        inbound.complete();
        assert_eq!(*ended.lock().unwrap(), (0..32).collect::<Vec<_>>());
    }

    #[test]
    fn items_reach_the_subscribers_of_their_tag_and_the_rest_are_counted() {
        let (inbound, router) = routed();
        let (a, b) = (Recorder::default(), Recorder::default());
        router.tag("/a").subscribe_with(a.clone());
        router.tag(Tag::from("/a")).map(|n| n * 10).subscribe_with(a.clone());
        router.tag(String::from("/b")).subscribe_with(b.clone());
        for (n, tag) in ["/a", "/b", "/c", "/a"].into_iter().enumerate() {
            inbound.next(TaggedData::new(tag, n));
        }
        assert_eq!((a.heard(), b.heard()), (["0", "0", "3", "30"].map(String::from).into(), vec!["1".into()]));
        assert_eq!(router.unrouted(), 1);
    }

    #[test]
    fn completion_reaches_the_subscribers_of_all_tags_and_those_who_come_late() {
        let (inbound, router) = routed();
        let heard = Recorder::default();
        router.tag("/a").subscribe_with(heard.clone());
        router.tag("/b").subscribe_with(heard.clone());
        inbound.complete();
        let late = router.tag("/a").subscribe_with(heard.clone());
        assert_eq!(heard.heard(), ["complete"; 3]);
        assert!(late.is_closed());
        assert_eq!(keys(&router), 0);
    }

    #[test]
    fn error_reaches_the_subscribers_of_all_tags_and_those_who_come_late() {
        let inbound = Inbound::<&str>::new();
        let router = Io::new(inbound.clone()).route_by_tag();
        let heard = Recorder::default();
        router.tag("/a").subscribe_with(heard.clone());
        inbound.error("broken");
        router.tag("/b").subscribe_with(heard.clone());
        assert_eq!(heard.heard(), ["error \"broken\""; 2]);
    }

    #[test]
    fn local_source_with_keys_of_any_type_is_routed() {
        let (mut inbound, heard) = (Local::subject::<TaggedData<&str, u32>, Infallible>(), Recorder::default());
        let router = inbound.clone().route_by_tag();
        router.tag(7u32).subscribe_with(heard.clone());
        inbound.next(TaggedData::with_key(7, "seven"));
        inbound.next(TaggedData::with_key(8, "eight"));
        assert_eq!((heard.heard(), router.unrouted()), (vec!["\"seven\"".into()], 1));
    }

    #[test]
    fn synchronous_source_has_ended_before_anybody_subscribes() {
        let heard = Recorder::default();
        let router = Io::of(1).tag("/a").route_by_tag();
        router.tag("/a").subscribe_with(heard.clone());
        assert_eq!((heard.heard(), router.unrouted()), (vec!["complete".into()], 1));
    }

    #[test]
    fn tag_whose_last_subscriber_has_left_costs_nothing() {
        let (inbound, router) = routed();
        let left = router.tag("/left").subscribe(|_| {});
        let also_left = router.tag("/left").subscribe(|_| {});
        router.tag("/finished").take(1).subscribe(|_| {});
        router.tag("/panicked").subscribe(|n| panic!("{n}"));
        assert_eq!(keys(&router), 3);
        left.unsubscribe();
        assert_eq!(keys(&router), 3);
        also_left.clone().unsubscribe();
        also_left.unsubscribe();
        inbound.next(TaggedData::new("/finished", 1));
        inbound.next(TaggedData::new("/panicked", 1));
        assert_eq!(keys(&router), 0);
        assert_eq!(router.unrouted(), 0);
        inbound.next(TaggedData::new("/left", 1));
        assert_eq!(router.unrouted(), 1);
    }

    #[test]
    fn subscriber_that_panics_takes_nobody_along() {
        let (inbound, router) = routed();
        let heard = Recorder::default();
        router.tag("/a").subscribe(|n| panic!("{n}"));
        router.tag("/a").subscribe_with(heard.clone());
        router.tag("/b").subscribe_with(heard.clone());
        for (n, tag) in ["/a", "/b", "/a"].into_iter().enumerate() {
            inbound.next(TaggedData::new(tag, n));
        }
        assert_eq!(heard.heard(), ["0", "1", "2"]);
    }

    #[test]
    fn observer_whose_destructor_uses_the_router_is_dropped_outside_of_its_lock() {
        struct Joins(Router<Tag, usize, Infallible>);
        impl Drop for Joins {
            fn drop(&mut self) {
                self.0.tag("/joined").subscribe(|_| {});
            }
        }
        let (inbound, router) = routed();
        let joins = Joins(router.clone());
        let subscription = router.tag("/a").subscribe(move |_| _ = &joins);
        subscription.unsubscribe();
        assert_eq!(router.core.routes().by_key.keys().collect::<Vec<_>>(), [&Tag::from("/joined")]);
        drop(inbound);
    }

    #[test]
    fn subscriptions_made_and_ended_in_a_callback_take_effect() {
        let (inbound, router) = routed();
        let heard = Recorder::default();
        let own = Arc::new(Mutex::new(None::<RouteSubscription>));
        let (own_too, again, inner) = (own.clone(), router.clone(), heard.clone());
        *own.lock().unwrap() = Some(router.tag("/a").subscribe(move |_| {
            own_too.lock().unwrap().take().unwrap().unsubscribe();
            again.tag("/a").subscribe_with(inner.clone());
            again.tag("/b").subscribe_with(inner.clone());
        }));
        inbound.next(TaggedData::new("/a", 1));
        inbound.next(TaggedData::new("/a", 2));
        inbound.next(TaggedData::new("/b", 3));
        assert_eq!(heard.heard(), ["2", "3"]);
    }

    #[test]
    fn source_is_left_when_the_last_router_and_the_last_subscriber_are_gone() {
        let (inbound, router) = routed();
        let observer = RouteObserver::new(router.core.clone());
        let closed = || Observer::<TaggedData<usize>, _>::is_closed(&observer);
        let unused = router.tag("/a");
        let subscription = router.tag("/a").subscribe(|_| {});
        drop(router);
        assert!(!closed());
        drop(unused);
        assert!(!closed());
        subscription.unsubscribe();
        assert!(closed());
        inbound.next(TaggedData::new("/a", 1));
        assert_eq!(Arc::strong_count(&observer.core), 1);
    }

    #[test]
    fn observers_are_dropped_with_a_source_that_never_ends() {
        let (inbound, router) = routed();
        let held = Arc::new(());
        let captured = held.clone();
        router.tag("/a").subscribe(move |_| _ = &captured);
        drop(inbound);
        assert_eq!(Arc::strong_count(&held), 2);
        drop(router);
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[test]
    fn routes_run_on_the_scheduler_of_the_source() {
        let runtime = IoRuntime::new("route").unwrap();
        let inbound = Inbound::new();
        let source = Io::from_parts(inbound.clone(), IoScheduler::on(&runtime));
        let (name, named) = std::sync::mpsc::channel();
        let pipeline = source.route_by_tag().tag("/a").delay(Duration::from_millis(1));
        pipeline.subscribe(move |_| name.send(thread::current().name().map(str::to_owned)).unwrap());
        inbound.next(TaggedData::new("/a", 1));
        let name = named.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(name.unwrap().contains("route"));
    }

    #[test]
    fn ten_thousand_tags_are_told_apart() {
        const TAGS: usize = 10_000;
        let inbound = SerializedSubject::<TaggedData<usize, usize>, Infallible>::new();
        let router = Io::new(inbound.clone()).route_by_tag();
        let sum = Arc::new(AtomicU64::new(0));
        let subscribe = |n: usize| {
            let sum = sum.clone();
            router.tag(n).subscribe(move |item| {
                assert_eq!(item, n);
                sum.fetch_add(1, Ordering::Relaxed);
            })
        };
        let subscriptions: Vec<_> = (0..TAGS).map(subscribe).collect();
        (0..TAGS).for_each(|n| inbound.next(TaggedData::with_key(n, n)));
        assert_eq!((sum.load(Ordering::Relaxed), router.unrouted()), (TAGS as u64, 0));
        subscriptions.into_iter().for_each(Subscription::unsubscribe);
        assert_eq!(keys(&router), 0);
    }

    #[test]
    fn subscriber_racing_the_last_one_to_leave_is_not_lost() {
        for _ in 0..ROUNDS {
            let (inbound, router) = routed();
            let heard = Recorder::default();
            let last = router.tag("/a").subscribe(|_| {});
            race(|| last.unsubscribe(), || drop(router.tag("/a").subscribe_with(heard.clone())));
            inbound.next(TaggedData::new("/a", 1));
            assert_eq!((heard.heard(), keys(&router)), (vec!["1".into()], 1));
        }
    }

    #[test]
    fn subscriber_racing_the_end_of_one_that_finishes_is_not_lost() {
        for _ in 0..ROUNDS {
            let (inbound, router) = routed();
            let heard = Recorder::default();
            router.tag("/a").take(1).subscribe(|_| {});
            race(
                || inbound.next(TaggedData::new("/a", 0)),
                || drop(router.tag("/a").filter(|n| *n > 0).subscribe_with(heard.clone())),
            );
            inbound.next(TaggedData::new("/a", 1));
            assert_eq!((heard.heard(), keys(&router)), (vec!["1".into()], 1));
        }
    }

    #[test]
    fn subscriber_racing_the_completion_hears_it() {
        for _ in 0..ROUNDS {
            let (inbound, router) = routed();
            let heard = Recorder::default();
            race(|| inbound.complete(), || drop(router.tag("/a").subscribe_with(heard.clone())));
            assert_eq!((heard.heard(), keys(&router)), (vec!["complete".into()], 0));
        }
    }

    #[test]
    fn survivors_miss_nothing_while_others_come_and_go() {
        const ITEMS: usize = 2_000;
        let (inbound, router) = routed();
        let survivors = [Recorder::default(), Recorder::default()];
        let tags = ["/a", "/b"];
        let surviving: Vec<_> = (0..2).map(|n| router.tag(tags[n]).subscribe_with(survivors[n].clone())).collect();
        let start = Barrier::new(4);
        thread::scope(|scope| {
            for tag in ["/a", "/b", "/c"] {
                let (router, start) = (&router, &start);
                scope.spawn(move || {
                    start.wait();
                    for _ in 0..ROUNDS {
                        router.tag(tag).subscribe(|_| {}).unsubscribe();
                    }
                });
            }
            start.wait();
            (0..ITEMS).for_each(|n| inbound.next(TaggedData::new(tags[n % 2], n)));
        });
        for (first, survivor) in survivors.iter().enumerate() {
            let expected: Vec<_> = (first..ITEMS).step_by(2).map(|n| n.to_string()).collect();
            assert_eq!(survivor.heard(), expected);
        }
        surviving.into_iter().for_each(Subscription::unsubscribe);
        assert_eq!((keys(&router), router.unrouted()), (0, 0));
    }

    #[test]
    fn each_item_is_delivered_or_counted_while_the_only_subscriber_comes_and_goes() {
        const ITEMS: usize = 100_000;
        let (inbound, router) = routed();
        let (over, delivered) = (AtomicBool::new(false), Arc::new(AtomicUsize::new(0)));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    let count = delivered.clone();
                    let visit = router.tag("/a").subscribe(move |_| _ = count.fetch_add(1, Ordering::SeqCst));
                    thread::yield_now();
                    visit.unsubscribe();
                }
            });
            (0..ITEMS).for_each(|n| inbound.next(TaggedData::new("/a", n)));
            over.store(true, Ordering::SeqCst);
        });
        assert_eq!(delivered.load(Ordering::SeqCst) + router.unrouted() as usize, ITEMS);
    }

    #[test]
    fn memory_of_tags_that_have_gone_is_given_back() {
        let (_inbound, router) = routed();
        let tags: Vec<_> = (0..10_000).map(|n| router.tag(format!("/{n}")).subscribe(|_| {})).collect();
        tags.into_iter().for_each(Subscription::unsubscribe);
        let capacity = router.core.routes().by_key.capacity();
        assert!(capacity <= 2 * sparse::KEPT_CAPACITY, "room for {capacity}");
    }

    #[test]
    fn tag_that_is_subscribed_to_again_is_routed_again() {
        let (inbound, router) = routed();
        let heard = Recorder::default();
        for n in 0..3 {
            let visit = router.tag("/a").subscribe_with(heard.clone());
            inbound.next(TaggedData::new("/a", n));
            visit.unsubscribe();
        }
        inbound.next(TaggedData::new("/a", 3));
        assert_eq!((heard.heard(), router.unrouted()), (["0", "1", "2"].map(String::from).into(), 1));
    }

    #[test]
    fn no_more_routes_are_remembered_than_that_many() {
        let (_, router) = routed();
        let mut observer = RouteObserver::new(router.core.clone());
        let heard = Recorder::default();
        for n in 0..2 * REMEMBERED {
            router.tag(format!("/{n}")).subscribe_with(heard.clone());
        }
        for n in 0..2 * REMEMBERED {
            Observer::<_, Infallible>::next(&mut observer, TaggedData::new(format!("/{n}"), n));
        }
        assert_eq!((observer.known.len(), heard.heard().len()), (REMEMBERED, 2 * REMEMBERED));
    }

    #[test]
    fn routes_that_have_gone_are_forgotten() {
        let (_, router) = routed();
        let mut observer = RouteObserver::new(router.core.clone());
        for n in 0..1_000 {
            let visit = router.tag(format!("/{n}")).subscribe(|_| {});
            Observer::<_, Infallible>::next(&mut observer, TaggedData::new(format!("/{n}"), n));
            visit.unsubscribe();
        }
        assert!(observer.known.len() <= 2 * FORGOTTEN_AT_ONCE, "{} are known", observer.known.len());
    }
}
