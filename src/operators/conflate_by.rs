//! The newest item of each key, for an observer that is slower than its source.
//!
//! Each item that waits has a place. The queue of [`deliver_on`](crate::ObservableExt::deliver_on) holds a ticket for it, which takes
//! what is there when its turn comes, and also when it is dropped; the source's side finds the place by the key, and puts newer
//! items there. So each key waits once at most, and what ends the delivery frees what waits.
//!
//! The program's code, such as the `Hash` of a key or a destructor, never runs under a lock.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    hash::{Hash, Hasher},
    marker::PhantomData,
    mem::{replace, take},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
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
use crate::{runtime::UserValue, sparse};

/// After so many new places, those are forgotten that are empty; in a larger map, after a [part](FORGOTTEN_PART) of its length.
const FORGOTTEN: usize = 64;
const FORGOTTEN_PART: usize = 4;

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

/// What both sides of a pipeline count.
#[derive(Default)]
struct Counts {
    waiting: AtomicUsize,
    /// How many items were replaced by newer ones, or found no room.
    skipped: AtomicU64,
}

/// Where the newest item of a key waits; empty once that is taken.
type Place<T> = Mutex<Option<UserValue<T>>>;

/// The turn of the item in a place.
pub struct Ticket<T> {
    place: Arc<Place<T>>,
    counts: Arc<Counts>,
}

/// A key. Its destructor may panic.
struct Key<K>(UserValue<K>);

/// The places by their keys.
struct Places<K, T> {
    by_key: HashMap<Key<K>, Arc<Place<T>>>,
    /// How many are new since the empty ones were last forgotten.
    new: usize,
}

/// The observer that keeps the newest item of each key, and passes on the tickets.
pub struct KeyObserver<O, K, T, F> {
    tickets: O,
    key_of: UserValue<F>,
    /// Shared with its clones. Not there, but an empty one in its place, while one of them looks for a place.
    places: Arc<Mutex<Places<K, T>>>,
    counts: Arc<Counts>,
}

/// The observer that passes on the newest item of a key.
pub struct NewestObserver<O, L> {
    observer: O,
    on_skipped: UserValue<L>,
    /// How many skipped items were reported.
    told: u64,
    counts: Arc<Counts>,
}

impl<T> Ticket<T> {
    fn new(item: UserValue<T>, counts: &Arc<Counts>) -> Self {
        counts.waiting.fetch_add(1, Relaxed);
        Self { place: Arc::new(Mutex::new(Some(item))), counts: counts.clone() }
    }

    /// Takes the newest item.
    fn redeem(&self) -> Option<UserValue<T>> {
        let item = lock(&self.place).take();
        if item.is_some() {
            self.counts.waiting.fetch_sub(1, Relaxed);
        }
        item
    }
}

impl<T> Drop for Ticket<T> {
    /// Nobody is to observe its item any more.
    fn drop(&mut self) {
        drop(self.redeem());
    }
}

impl<K: PartialEq> PartialEq for Key<K> {
    fn eq(&self, other: &Self) -> bool {
        *self.0 == *other.0
    }
}

impl<K: Eq> Eq for Key<K> {}

impl<K: Hash> Hash for Key<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<K, T> Default for Places<K, T> {
    fn default() -> Self {
        Self { by_key: HashMap::new(), new: 0 }
    }
}

impl<K: Eq + Hash, T> Places<K, T> {
    /// Puts an item in the place of its key. If nothing waits there, the ticket is for the queue.
    fn put(&mut self, key: Key<K>, item: UserValue<T>, counts: &Arc<Counts>) -> Option<Ticket<T>> {
        self.forget_empty_ones();
        let entry = self.by_key.entry(key);
        let item = match &entry {
            Entry::Occupied(entry) => renew(entry.get(), item, counts)?,
            Entry::Vacant(_) => item,
        };
        if !counts.have_room() {
            counts.skipped.fetch_add(1, Relaxed);
            return None;
        }
        let ticket = Ticket::new(item, counts);
        entry.insert_entry(ticket.place.clone());
        self.new += 1;
        Some(ticket)
    }

    /// Forgets the places of items that were taken, from time to time.
    fn forget_empty_ones(&mut self) {
        if self.new >= FORGOTTEN.max(self.by_key.len() / FORGOTTEN_PART) {
            self.new = 0;
            self.by_key.retain(|_, place| lock(place).is_some());
            sparse::give_back(&mut self.by_key);
        }
    }
}

/// Puts `item` in the place of the one that waits there. Returns it when none waits.
fn renew<T>(place: &Place<T>, item: UserValue<T>, counts: &Counts) -> Option<UserValue<T>> {
    let mut waiting = lock(place);
    if waiting.is_none() {
        return Some(item);
    }
    // Inside the lock: whoever is handed the item knows of those that it has replaced.
    counts.skipped.fetch_add(1, Relaxed);
    let skipped = waiting.replace(item);
    drop(waiting);
    drop(skipped);
    None
}

impl Counts {
    fn have_room(&self) -> bool {
        self.waiting.load(Relaxed) < Bounds::default_bounds().capacity
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
    L: FnMut(u64),
    S: ObservableType,
    Tickets<S, T, K, F>: CoreObservable<C::With<DeliverObserver<Ticket<T>, S::Err>>>,
    DeliverOn<Tickets<S, T, K, F>, Ticket<T>, Sch, fn(u64)>: CoreObservable<C::With<NewestObserver<C::Inner, L>>>,
{
    type Unsub = <DeliverOn<Tickets<S, T, K, F>, Ticket<T>, Sch, fn(u64)> as CoreObservable<
        C::With<NewestObserver<C::Inner, L>>,
    >>::Unsub;

    fn subscribe(self, context: C) -> Self::Unsub {
        let Self { source, key_of, scheduler, on_skipped, .. } = self;
        let (counts, on_skipped) = (Arc::<Counts>::default(), UserValue::new(on_skipped));
        let tickets = Tickets { source, key_of, counts: counts.clone(), types: PhantomData };
        let context = context.transform(|observer| NewestObserver { observer, on_skipped, told: 0, counts });
        DeliverOn::with_default_bounds(tickets, scheduler).subscribe(context)
    }
}

/// The tickets of the items that wait.
pub struct Tickets<S, T, K, F> {
    source: S,
    key_of: F,
    counts: Arc<Counts>,
    types: PhantomData<fn() -> (T, K)>,
}

impl<S: ObservableType, T, K, F> ObservableType for Tickets<S, T, K, F> {
    type Item<'a>
        = Ticket<T>
    where
        Self: 'a;
    type Err = S::Err;
}

impl<S, T, K, F, C> CoreObservable<C> for Tickets<S, T, K, F>
where
    C: Context,
    S: CoreObservable<C::With<KeyObserver<C::Inner, K, T, F>>>,
{
    type Unsub = S::Unsub;

    fn subscribe(self, context: C) -> Self::Unsub {
        let Self { source, key_of, counts, .. } = self;
        let (key_of, places) = (UserValue::new(key_of), Arc::default());
        source.subscribe(context.transform(|tickets| KeyObserver { tickets, key_of, places, counts }))
    }
}

impl<O, K, T, F, E> Observer<T, E> for KeyObserver<O, K, T, F>
where
    O: Observer<Ticket<T>, E>,
    K: Eq + Hash,
    F: FnMut(&T) -> K,
{
    fn next(&mut self, item: T) {
        let item = UserValue::new(item);
        let key = Key(UserValue::new((self.key_of)(&item)));
        // Out of the lock meanwhile.
        let mut places = take(&mut *lock(&self.places));
        let ticket = places.put(key, item, &self.counts);
        let _of_a_clone = replace(&mut *lock(&self.places), places);
        if let Some(ticket) = ticket {
            self.tickets.next(ticket);
        }
    }

    fn error(self, error: E) {
        self.tickets.error(error);
    }

    fn complete(self) {
        self.tickets.complete();
    }

    fn is_closed(&self) -> bool {
        self.tickets.is_closed()
    }
}

impl<O, L: FnMut(u64)> NewestObserver<O, L> {
    fn report_skipped(&mut self) {
        let skipped = self.counts.skipped.load(Relaxed);
        let news = skipped - replace(&mut self.told, skipped);
        if news > 0 {
            (self.on_skipped)(news);
        }
    }
}

impl<O, T, L, E> Observer<Ticket<T>, E> for NewestObserver<O, L>
where
    O: Observer<T, E>,
    L: FnMut(u64),
{
    fn next(&mut self, ticket: Ticket<T>) {
        let newest = ticket.redeem();
        self.report_skipped();
        if let Some(item) = newest {
            self.observer.next(item.into_inner());
        }
    }

    fn error(mut self, error: E) {
        self.report_skipped();
        self.observer.error(error);
    }

    fn complete(mut self) {
        self.report_skipped();
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
        let Self { tickets, key_of, places, counts } = self;
        Self { tickets: tickets.clone(), key_of: key_of.clone(), places: places.clone(), counts: counts.clone() }
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

impl<O, L> fmt::Debug for NewestObserver<O, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewestObserver").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Ticket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").finish_non_exhaustive()
    }
}

impl<S, T, K, F> fmt::Debug for Tickets<S, T, K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{Arc, Mutex, mpsc},
        thread,
        time::Instant,
    };

    use super::{FORGOTTEN, Key, Places, Ticket};
    use crate::{prelude::*, runtime::UserValue};

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

    /// Its destructor says that it runs, and waits.
    struct Lingering(mpsc::Sender<()>, Mutex<mpsc::Receiver<()>>);

    impl Drop for Lingering {
        fn drop(&mut self) {
            _ = self.0.send(());
            _ = self.1.lock().unwrap().recv_timeout(PATIENCE);
        }
    }

    #[test]
    fn skipped_item_is_told_before_the_one_in_its_place_whenever_it_is_dropped() {
        type Item = (u64, Option<Arc<Lingering>>);
        let (quotes, worker) = (SerializedSubject::<Item, Infallible>::new(), EventLoopScheduler::new("worker"));
        let ((hear, heard), (gate, wait)) = (mpsc::channel(), mpsc::channel::<()>());
        let ((drops, dropping), (leave, linger)) = (mpsc::channel(), mpsc::channel::<()>());
        let skipped = hear.clone();
        Io::new(quotes.clone())
            .conflate_by_counting(|_| (), &worker, move |count| skipped.send(("skipped", count)).unwrap())
            .subscribe(move |item| {
                hear.send(("heard", item.0)).unwrap();
                _ = wait.recv();
            });
        quotes.next((1, None));
        assert_eq!(heard.recv_timeout(PATIENCE), Ok(("heard", 1)));
        quotes.next((2, Some(Arc::new(Lingering(drops, Mutex::new(linger))))));
        let pushing = thread::spawn(move || quotes.next((3, None)));
        assert_eq!(dropping.recv_timeout(PATIENCE), Ok(()));
        drop(gate);
        assert_eq!(heard.recv_timeout(PATIENCE), Ok(("skipped", 1)));
        assert_eq!(heard.recv_timeout(PATIENCE), Ok(("heard", 3)));
        drop(leave);
        pushing.join().unwrap();
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
    fn keys_that_wait_no_more_are_forgotten() {
        let (mut places, counts) = (Places::default(), Arc::default());
        let mut put = |number: u32| {
            let [key, item] = [number; 2].map(UserValue::new);
            let ticket = places.put(Key(key), item, &counts);
            (ticket.expect("nothing waits there"), places.by_key.len())
        };
        let longest = |puts: &mut dyn Iterator<Item = (Ticket<u32>, usize)>| puts.map(|(_, len)| len).max().unwrap();
        assert!(longest(&mut (0..100_000).map(&mut put)) <= FORGOTTEN);
        let waiting: Vec<_> = (0..10_000).map(&mut put).collect();
        assert_eq!(waiting.last().unwrap().1, 10_000);
        drop(waiting);
        (0..10_000).map(&mut put).for_each(drop);
        assert!(put(0).1 <= FORGOTTEN);
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
