//! The newest item of each key, for an observer that is slower than its source. The items wait in a map, and their keys in the
//! queue of [`deliver_on`](crate::ObservableExt::deliver_on), each at most once. What drops a key there drops its item.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    marker::PhantomData,
    mem,
    sync::{Arc, Mutex},
};

use rxrust::{
    context::Context,
    observable::{CoreObservable, ObservableType},
    observer::Observer,
};

use super::{
    deliver::{DeliverObserver, DeliverOn, channel::Bounds},
    ref_count::lock,
};
use crate::{
    runtime::{UserValue, callback},
    sparse,
};

/// The observable that [`conflate_by`](crate::ObservableExt::conflate_by) and
/// [`conflate_by_counting`](crate::ObservableExt::conflate_by_counting) return.
pub struct ConflateBy<S, T, K, F, Sch, L> {
    source: S,
    key_of: F,
    scheduler: Sch,
    on_skipped: L,
    // Of `fn() -> _`, so that neither need be `Send` or `Clone`: no value of them exists.
    types: PhantomData<fn() -> (T, K)>,
}

/// The items that wait, by their keys.
struct Waiting<K, T>(Mutex<State<K, T>>);

struct State<K, T> {
    newest: HashMap<K, T>,
    /// How many items were replaced by newer ones.
    skipped: u64,
}

/// The key of an item that waits.
pub struct Ticket<K: Eq + Hash, T> {
    /// `None` once the item is taken.
    key: Option<UserValue<K>>,
    waiting: Arc<Waiting<K, T>>,
}

/// The observer that keeps the newest item of each key, and passes on the keys.
pub struct KeyObserver<O, K, T, F> {
    keys: O,
    key_of: UserValue<F>,
    waiting: Arc<Waiting<K, T>>,
}

/// The observer that passes on the newest item of a key.
pub struct NewestObserver<O, K, T, L> {
    observer: O,
    on_skipped: UserValue<L>,
    /// How many skipped items were reported.
    told: u64,
    types: PhantomData<fn() -> (K, T)>,
}

impl<K, T> Waiting<K, T> {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { newest: HashMap::new(), skipped: 0 })))
    }
}

impl<K: Eq + Hash, T> Ticket<K, T> {
    /// Takes the newest item, and says how many have been skipped so far.
    fn redeem(&mut self) -> (Option<T>, u64) {
        let Some(key) = self.key.take() else { return (None, 0) };
        let (entry, skipped) = self.waiting.take(&key);
        let (twin, item) = entry.unzip();
        callback::drop_each("a key's destructor", twin);
        (item, skipped)
    }
}

/// Nobody is to observe its item any more.
impl<K: Eq + Hash, T> Drop for Ticket<K, T> {
    fn drop(&mut self) {
        let mut item = None;
        callback::isolate("the hash of a key", || item = self.redeem().0);
        callback::drop_each("an item's destructor", item);
    }
}

impl<K, T> Drop for Waiting<K, T> {
    /// Of those whose tickets could not find them.
    fn drop(&mut self) {
        let (keys, items): (Vec<_>, Vec<_>) = mem::take(&mut lock(&self.0).newest).into_iter().unzip();
        callback::drop_each("a key's destructor", keys);
        callback::drop_each("an item's destructor", items);
    }
}

impl<K: Eq + Hash, T> Waiting<K, T> {
    /// Puts an item in the place of the one that waits with its key, and returns that one. An error is the item itself, when none
    /// waits.
    fn replace(&self, key: &K, item: T) -> Result<T, T> {
        let mut state = lock(&self.0);
        let Some(waiting) = state.newest.get_mut(key) else { return Err(item) };
        let replaced = mem::replace(waiting, item);
        state.skipped += 1;
        Ok(replaced)
    }

    /// Adds an item whose key does not wait. One for which there is no room comes back.
    fn insert(&self, key: K, item: T) -> Option<(K, T)> {
        let mut state = lock(&self.0);
        if state.newest.len() >= Bounds::default_bounds().capacity {
            state.skipped += 1;
            return Some((key, item));
        }
        state.newest.insert(key, item);
        None
    }

    /// Takes the newest item of a key, and says how many have been skipped so far.
    fn take(&self, key: &K) -> (Option<(K, T)>, u64) {
        let mut state = lock(&self.0);
        (sparse::remove_entry(&mut state.newest, key), state.skipped)
    }
}

impl<S, T, K, F, Sch, L> ConflateBy<S, T, K, F, Sch, L> {
    pub(super) fn new(source: S, key_of: F, scheduler: Sch, on_skipped: L) -> Self {
        Self { source, key_of, scheduler, on_skipped, types: PhantomData }
    }
}

impl<S: ObservableType, T, K, F, Sch, L> ObservableType for ConflateBy<S, T, K, F, Sch, L> {
    type Item<'a>
        = T
    where
        Self: 'a;
    type Err = S::Err;
}

impl<S, T, K, F, Sch, L, C> CoreObservable<C> for ConflateBy<S, T, K, F, Sch, L>
where
    C: Context,
    C::Inner: Observer<T, S::Err>,
    K: Eq + Hash + Clone + Send + 'static,
    L: FnMut(u64),
    S: ObservableType,
    Keys<S, T, K, F>: CoreObservable<C::With<DeliverObserver<Ticket<K, T>, S::Err>>>,
    DeliverOn<Keys<S, T, K, F>, Ticket<K, T>, Sch, fn(u64)>: CoreObservable<C::With<NewestObserver<C::Inner, K, T, L>>>,
{
    type Unsub = <DeliverOn<Keys<S, T, K, F>, Ticket<K, T>, Sch, fn(u64)> as CoreObservable<
        C::With<NewestObserver<C::Inner, K, T, L>>,
    >>::Unsub;

    fn subscribe(self, context: C) -> Self::Unsub {
        let Self { source, key_of, scheduler, on_skipped, .. } = self;
        let (waiting, on_skipped) = (Waiting::new(), UserValue::new(on_skipped));
        let keys = Keys { source, key_of, waiting, item: PhantomData };
        let context =
            context.transform(|observer| NewestObserver { observer, on_skipped, told: 0, types: PhantomData });
        DeliverOn::with_default_bounds(keys, scheduler).subscribe(context)
    }
}

/// The keys of the items that wait.
pub struct Keys<S, T, K, F> {
    source: S,
    key_of: F,
    waiting: Arc<Waiting<K, T>>,
    item: PhantomData<fn() -> T>,
}

impl<S: ObservableType, T, K: Eq + Hash, F> ObservableType for Keys<S, T, K, F> {
    type Item<'a>
        = Ticket<K, T>
    where
        Self: 'a;
    type Err = S::Err;
}

impl<S, T, K, F, C> CoreObservable<C> for Keys<S, T, K, F>
where
    C: Context,
    K: Eq + Hash,
    S: CoreObservable<C::With<KeyObserver<C::Inner, K, T, F>>>,
{
    type Unsub = S::Unsub;

    fn subscribe(self, context: C) -> Self::Unsub {
        let Self { source, key_of, waiting, .. } = self;
        let key_of = UserValue::new(key_of);
        source.subscribe(context.transform(|keys| KeyObserver { keys, key_of, waiting }))
    }
}

impl<O, K, T, F, E> Observer<T, E> for KeyObserver<O, K, T, F>
where
    O: Observer<Ticket<K, T>, E>,
    K: Eq + Hash + Clone,
    F: FnMut(&T) -> K,
{
    fn next(&mut self, item: T) {
        let key = (self.key_of)(&item);
        if let Err(item) = self.waiting.replace(&key, item) {
            // Nobody else adds items.
            if self.waiting.insert(key.clone(), item).is_none() {
                self.keys.next(Ticket { key: Some(UserValue::new(key)), waiting: self.waiting.clone() });
            }
        }
    }

    fn error(self, error: E) {
        self.keys.error(error);
    }

    fn complete(self) {
        self.keys.complete();
    }

    fn is_closed(&self) -> bool {
        self.keys.is_closed()
    }
}

impl<O, K, T, L, E> Observer<Ticket<K, T>, E> for NewestObserver<O, K, T, L>
where
    O: Observer<T, E>,
    K: Eq + Hash,
    L: FnMut(u64),
{
    fn next(&mut self, mut ticket: Ticket<K, T>) {
        let (newest, skipped) = ticket.redeem();
        let news = skipped - mem::replace(&mut self.told, skipped);
        if news > 0 {
            (self.on_skipped)(news);
        }
        if let Some(item) = newest {
            self.observer.next(item);
        }
    }

    fn error(self, error: E) {
        self.observer.error(error);
    }

    fn complete(self) {
        self.observer.complete();
    }

    fn is_closed(&self) -> bool {
        self.observer.is_closed()
    }
}

impl<S: Clone, T, K, F: Clone, Sch: Clone, L: Clone> Clone for ConflateBy<S, T, K, F, Sch, L> {
    fn clone(&self) -> Self {
        Self::new(self.source.clone(), self.key_of.clone(), self.scheduler.clone(), self.on_skipped.clone())
    }
}

// For `retry` before it, which subscribes with it again.
impl<O: Clone, K, T, F: Clone> Clone for KeyObserver<O, K, T, F> {
    fn clone(&self) -> Self {
        Self { keys: self.keys.clone(), key_of: self.key_of.clone(), waiting: self.waiting.clone() }
    }
}

impl<S: fmt::Debug, T, K, F, Sch: fmt::Debug, L> fmt::Debug for ConflateBy<S, T, K, F, Sch, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConflateBy")
            .field("source", &self.source)
            .field("scheduler", &self.scheduler)
            .finish_non_exhaustive()
    }
}

impl<O, K, T, F> fmt::Debug for KeyObserver<O, K, T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyObserver").finish_non_exhaustive()
    }
}

impl<O, K, T, L> fmt::Debug for NewestObserver<O, K, T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewestObserver").finish_non_exhaustive()
    }
}

impl<K: Eq + Hash, T> fmt::Debug for Ticket<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").finish_non_exhaustive()
    }
}

impl<S, T, K, F> fmt::Debug for Keys<S, T, K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{Arc, mpsc},
        thread,
        time::Instant,
    };

    use crate::prelude::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    type Quote = (u32, u64);

    #[test]
    fn slow_observer_ends_with_the_newest_item_of_each_key_and_every_skipped_one_is_counted() {
        const KEYS: u32 = 1_000;
        const ROUNDS: u64 = 100;
        let (quotes, worker) = (SerializedSubject::<Quote, Infallible>::new(), EventLoopScheduler::new("worker"));
        let ((skips, skipped), (heard, newest)) = (mpsc::channel(), mpsc::channel());
        let (go, wait) = mpsc::channel::<()>();
        let conflated = Io::new(quotes.clone()).conflate_by_counting(
            |quote| quote.0,
            &worker,
            move |count| skips.send(count).unwrap(),
        );
        conflated.subscribe(move |quote| {
            // The first one finds the observer busy until all have come.
            _ = wait.recv();
            heard.send(quote).unwrap();
        });
        quotes.next((KEYS, 0));
        for round in 1..=ROUNDS {
            (0..KEYS).for_each(|key| quotes.next((key, round)));
        }
        quotes.complete();
        drop(go);
        let heard: Vec<_> = newest.iter().collect();
        assert_eq!(heard[0], (KEYS, 0));
        // In the order in which the keys began to wait.
        assert!(heard[1..].iter().copied().eq((0..KEYS).map(|key| (key, ROUNDS))));
        assert_eq!(skipped.iter().sum::<u64>(), u64::from(KEYS) * (ROUNDS - 1));
    }

    #[test]
    fn observer_that_keeps_up_hears_everything_and_the_end() {
        let (quotes, worker) = (SerializedSubject::<Quote, WsError>::new(), EventLoopScheduler::new("worker"));
        let (sender, heard) = mpsc::channel();
        let errors = sender.clone();
        Io::new(quotes.clone())
            .conflate_by(|quote| quote.0, &worker)
            .on_error(move |error| errors.send(Err(error.to_string())).unwrap())
            .subscribe(move |quote| sender.send(Ok(quote)).unwrap());
        for n in 0..100 {
            quotes.next((1, n));
            assert_eq!(heard.recv_timeout(PATIENCE), Ok(Ok((1, n))));
        }
        quotes.error(WsError::Closed("the exchange".into()));
        assert!(heard.recv_timeout(PATIENCE).unwrap().is_err());
    }

    /// How the delivery of a thousand items ends, in the callback of the first.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum End {
        Unsubscribed,
        HadEnough,
        Panics,
        RuntimeEnds,
    }

    #[test]
    fn items_that_wait_are_gone_with_their_delivery_however_it_ends() {
        for end in [End::Unsubscribed, End::HadEnough, End::Panics, End::RuntimeEnds] {
            let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let worker = IoScheduler::on(&IoRuntime::from_tokio(tokio.handle().clone()));
            let subject = SerializedSubject::<(u32, Arc<()>), Infallible>::new();
            let ((begun, begins), (go, wait)) = (mpsc::channel(), mpsc::channel::<()>());
            let conflated = Io::new(subject.clone()).conflate_by(|item| item.0, &worker);
            let enough = if end == End::HadEnough { 1 } else { usize::MAX };
            let subscription = conflated.take(enough).subscribe(move |_| {
                begun.send(()).unwrap();
                _ = wait.recv();
                assert!(end != End::Panics, "on purpose");
            });
            let item = Arc::new(());
            (0..1000).for_each(|key| subject.next((key, item.clone())));
            begins.recv_timeout(PATIENCE).unwrap();
            match end {
                End::Unsubscribed => subscription.unsubscribe(),
                End::RuntimeEnds => tokio.shutdown_background(),
                End::HadEnough | End::Panics => {}
            }
            drop(go);
            let deadline = Instant::now() + PATIENCE;
            for comes_later in [false, true] {
                while Arc::strong_count(&item) > 1 {
                    let left = Arc::strong_count(&item) - 1;
                    assert!(Instant::now() < deadline, "{end:?}, {comes_later}: {left} items are left");
                    thread::yield_now();
                }
                subject.next((0, item.clone()));
            }
        }
    }

    #[test]
    fn items_that_wait_for_a_busy_thread_are_gone_when_unsubscribe_has_returned() {
        let (subject, worker) =
            (SerializedSubject::<(u32, Arc<()>), Infallible>::new(), EventLoopScheduler::new("worker"));
        let ((begun, begins), (go, wait)) = (mpsc::channel(), mpsc::channel::<()>());
        Io::of(()).deliver_on(&worker).subscribe(move |()| {
            begun.send(()).unwrap();
            _ = wait.recv();
        });
        begins.recv_timeout(PATIENCE).unwrap();
        let subscription = Io::new(subject.clone()).conflate_by(|item| item.0, &worker).subscribe(|_| {});
        let item = Arc::new(());
        (0..1000).for_each(|key| subject.next((key, item.clone())));
        subscription.unsubscribe();
        assert_eq!(Arc::strong_count(&item), 1);
        drop(go);
    }
}
