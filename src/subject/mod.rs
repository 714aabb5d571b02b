//! [`SerializedSubject`], the only place that calls observers.
//!
//! One mutex, held for moments and never while an observer runs. Who finds the subject idle takes the list of observers
//! out of it, delivers, and keeps delivering what others leave in the inbox meanwhile; then it puts the list back.

pub(crate) mod branch;
pub(crate) mod holding;
pub(crate) mod replay;

use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt,
    future::poll_fn,
    mem::take,
    sync::{Arc, PoisonError, Weak, atomic::AtomicU64},
    task::{self, Poll, Waker},
};

use tokio::sync::oneshot;

use rxrust::{
    context::Context,
    observable::{CoreObservable, ObservableType},
    observer::{BoxedObserverSend, Observer},
    subscription::Subscription,
};

use crate::{
    runtime::{
        self, Deliver, IoScheduler, Place,
        callback::{self, Drain},
        debts,
    },
    subject::replay::{Elsewhere, Memory, Noted},
    sync::{AtomicBool, Condvar, Mutex, MutexGuard, Ordering},
};

/// How many items may wait while another thread emits, before a push waits for room.
///
/// Far above what a burst needs; it is there so that a producer faster than its observers cannot take all memory.
const INBOX_CROWD: usize = 1 << 20;

/// How many may wait at most. Those that may not wait, callbacks and the threads of runtimes and loops, can go on for as long
/// again.
const INBOX_BOUND: usize = 2 * INBOX_CROWD;

/// An inbox that grew beyond this in a burst is given back once it is empty.
const KEPT_CAPACITY: usize = 4_096;

/// A subject into which any thread may push, at any time, also from inside a callback: ReactiveX's *serialize*.
///
/// RxRust's own `Shared` subject panics when two threads push at once and falls silent after a subscriber panicked. This
/// one gives its observers the Rx grammar, `next* (error | complete)?`, whatever its callers do. It is *hot*.
///
/// Subscribe through a context, which lends it RxRust's operators:
///
/// ```
/// use rxplus::prelude::*;
/// use std::convert::Infallible;
///
/// let subject = SerializedSubject::<u32, Infallible>::new();
/// Io::new(subject.clone()).map(|n| n * 2).subscribe(|n| println!("{n}"));
/// subject.next(21);
/// subject.complete();
/// ```
///
/// # Emission
///
/// On the thread that pushes, or, when another thread is emitting, on that one. Items pushed by one thread keep their
/// order. A thread of a runtime or of a [`RunLoop`](crate::RunLoop), which has more to do, delivers 256 items in a row that
/// others left it; then whoever pushes next goes on, or a task on that runtime or loop, after it has looked at its sockets.
///
/// What a callback pushes, into this subject or any other of rxplus, is never delivered on the callback's own thread before
/// the outermost callback of that thread has returned. Another thread that is emitting, or that pushes into the same
/// subject meanwhile, may deliver it at once. So never wait in a callback for the effect of such a push, nor count on it not
/// having happened yet.
///
/// A connection whose callbacks push while more than 1,024 items wait here reads no more messages before those are delivered,
/// and a [`deliver_on`](crate::ObservableExt::deliver_on) hands on no more items. So a fast peer is slowed down to what the
/// observers take.
///
/// When a million items wait because observers are slower than producers, a push waits for room. On a thread of a runtime or
/// one that has a `RunLoop` none waits, and what a callback pushes on another thread waits once that is outside of any
/// callback. If they have pushed another million meanwhile, the newest items are dropped, counted by [`lost`](Self::lost),
/// and logged (`tracing::error!`).
///
/// One thing is out of this subject's hands: a cold source that emits while it is being subscribed, such as `Io::of` or
/// `Io::from_iter`, is no callback, yet RxRust's combining operators hold their lock meanwhile. If what such a source
/// emits makes an observer push into the other side of a `merge`, start it with `.subscribe_on(IoScheduler::default())`.
///
/// A subscriber that panics is removed and logged (`tracing::error!`); the others go on. A subscriber that comes after the
/// terminal event hears it at once, on its own thread, inside `subscribe`.
pub struct SerializedSubject<T, E = Infallible> {
    core: Arc<Core<T, E>>,
}

/// What a subscription to a [`SerializedSubject`] returns.
///
/// After `unsubscribe` has returned no delivery begins, and the observer is dropped as soon as nobody is using it.
/// Dropping the subscription does not unsubscribe.
#[derive(Clone)]
pub struct SerializedSubscription {
    number: u64,
    open: Arc<AtomicBool>,
    subject: Weak<dyn Remove>,
}

/// Told, outside of all locks, that an observer panicked and was removed.
pub(crate) type PanicHook = Arc<dyn Fn() + Send + Sync>;

/// An item that can stand for several of its kind, so that not all of them have to wait for slow observers.
pub(crate) trait Merge {
    /// Merges `later` into this item, which waits. Must not call user code: a lock is held.
    fn merge(&mut self, later: &Self) -> Merged;
}

/// Whether an item stands for a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merged {
    Done,
    /// One that waits for longer may.
    NotHere,
    /// And none that waits for longer.
    Never,
}

/// What became of an item's way to one observer.
#[derive(Clone, Copy, PartialEq)]
enum Turnout {
    Took,
    /// It took the item, and takes no more.
    TookLast,
    /// It was gone.
    Gone,
}

/// With the error in an `Arc`: its `clone`, which is user code, is made where an observer is called, and under no lock.
#[derive(Clone)]
enum Terminal<E> {
    Error(Arc<E>),
    Complete,
}

enum Event<T, E> {
    Next(T),
    Terminal(Terminal<E>),
    /// Nothing for observers: dropped when all before it is delivered, it tells a task so. The turn of the thread that delivers
    /// ends with it: of several threads, no other one may take the task that it wakes.
    Mark(oneshot::Sender<()>),
}

struct Core<T, E> {
    state: Mutex<State<T, E>>,
    /// A terminal event was accepted: nothing may follow it. Changed under the lock, and read without it by every observer
    /// that feeds this subject, after each item.
    closed: AtomicBool,
    /// The memory is one for a first observer. As `closed`: read by every connection of a server for every message.
    keeps_early: AtomicBool,
    /// Somebody unsubscribed while another emitted. Changed under the lock, and read without it before each observer's
    /// turn: one flag for all of them, since to look at each one's own is a memory access for each.
    stale: AtomicBool,
    /// Signalled when the inbox has room again.
    room: Condvar,
    /// Where a backlog and what other threads post is delivered; `None` in a subject of the user's own.
    home: Option<IoScheduler>,
    on_panic: Option<PanicHook>,
    /// Merges an item into one that waits.
    merge: Option<fn(&mut T, &T) -> Merged>,
    /// Counts the items that nobody took.
    unheard: Option<Arc<AtomicU64>>,
    /// How many items the full inbox has refused.
    lost: AtomicU64,
}

struct State<T, E> {
    /// Empty while somebody emits, who has them.
    observers: Vec<Slot<T, E>>,
    emitting: bool,
    /// Subscribed since the last event began; they join before the next one.
    joining: VecDeque<Joining<T, E>>,
    /// How many have subscribed.
    subscribed: u64,
    /// Events that wait for the one who emits.
    inbox: VecDeque<Event<T, E>>,
    /// The terminal event, once its delivery has begun.
    terminal: Option<Terminal<E>>,
    /// How many pushes wait for room.
    waiting: usize,
    /// The tasks that wait until nothing is left to be delivered.
    tasks: Vec<Waker>,
    /// Where tasks were asked to deliver that have not begun: at most one at a place, since it can be kept by a callback there.
    asked: Vec<Place>,
    /// What those who subscribe later hear first.
    memory: Memory<T>,
}

/// What became of the items that an observer has left unheard.
struct Handed<T> {
    dropped: VecDeque<T>,
    /// What the memory elsewhere no longer keeps, since somebody has subscribed there meanwhile.
    emitted: Option<(Arc<dyn Elsewhere<T>>, Vec<T>)>,
}

impl<T> Handed<T> {
    /// Does what is to be done outside of the lock.
    fn settle(self) {
        discard(self.dropped);
        if let Some((memory, items)) = self.emitted {
            items.into_iter().for_each(|item| memory.emit(item));
        }
    }
}

/// An observer that has subscribed.
struct Joining<T, E> {
    slot: Slot<T, E>,
    /// What it hears first.
    backlog: VecDeque<T>,
}

struct Slot<T, E> {
    /// Counted up: by it a slot is found among thousands.
    number: u64,
    open: Arc<AtomicBool>,
    observer: BoxedObserverSend<'static, T, E>,
}

impl<T, E> Default for SerializedSubject<T, E> {
    fn default() -> Self {
        Self::build(None, Memory::Nothing, None, None)
    }
}

impl<T, E> SerializedSubject<T, E> {
    /// Makes a subject without observers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A component's subject: what other threads post, and what `memory` has for a new observer, is delivered on `home`.
    pub(crate) fn at_home(home: IoScheduler, memory: Memory<T>, on_panic: Option<PanicHook>) -> Self {
        Self::build(Some(home), memory, on_panic, None)
    }

    /// A subject that counts, in `unheard`, the items that nobody took.
    pub(crate) fn counting(unheard: Arc<AtomicU64>) -> Self {
        Self::build(None, Memory::Nothing, None, Some(unheard))
    }

    /// How many items were lost because two million (2^21) were waiting already.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.core.lost.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn inbox_capacity(&self) -> usize {
        self.core.lock().inbox.capacity()
    }

    fn build(
        home: Option<IoScheduler>,
        memory: Memory<T>,
        on_panic: Option<PanicHook>,
        unheard: Option<Arc<AtomicU64>>,
    ) -> Self {
        Self { core: Arc::new(Core::new(home, memory, on_panic, unheard)) }
    }

    /// The hook that hears of observers that panicked.
    pub(crate) fn on_panic(&self) -> Option<PanicHook> {
        self.core.on_panic.clone()
    }

    /// Tells that code of the user's panicked on an item's way to this subject.
    pub(crate) fn tell_of_panic(&self) {
        self.core.tell_of_panic();
    }

    /// Whether items are still kept for a first observer.
    pub(crate) fn keeps_early(&self) -> bool {
        self.core.keeps_early.load(Ordering::Acquire)
    }

    /// Takes out the items kept for a first observer that are `wanted`, which must call nobody.
    pub(crate) fn take_early(&self, wanted: impl Fn(&T) -> bool) -> VecDeque<T> {
        self.core.lock().memory.take_early(wanted)
    }

    /// Forgets a member, so that later observers do not hear of it.
    pub(crate) fn forget(&self, number: u64) {
        let forgotten = self.core.lock().memory.forget(number);
        drop(forgotten);
    }
}

impl<T: Clone + Send + 'static, E: Clone + Send + Sync + 'static> SerializedSubject<T, E> {
    /// Emits `item`, or leaves it to whoever is emitting. Ignored after a terminal event.
    pub fn next(&self, item: T) {
        if callback::is_inside() {
            self.core.push_later(Event::Next(item));
        } else {
            self.core.emit_item(item);
        }
    }

    /// Ends the subject with an error. Ignored after a terminal event.
    pub fn error(self, error: E) {
        self.core.push(Event::Terminal(Terminal::Error(Arc::new(error))));
    }

    /// Ends the subject. Ignored after a terminal event.
    pub fn complete(self) {
        self.core.push(Event::Terminal(Terminal::Complete));
    }

    /// Emits as a part of the emission this is called in, as an operator does: at once, unless somebody is emitting.
    pub(crate) fn relay(&self, item: T) {
        self.core.emit_item(item);
    }

    /// This subject as a component's own sources feed it: each item is [relayed](Self::relay).
    ///
    /// Only for what comes straight from a driver or from another subject of ours. Then no callback of the user's is under
    /// way on this thread whose lock the emission could wait for, and nothing has to be put off. For a message through a
    /// server's own subject that is worth 0.15 us.
    pub(crate) fn fed(&self) -> Fed<T, E> {
        Fed(self.clone())
    }

    /// Keeps an item for the first observer, as long as there has been none. Calls nobody.
    ///
    /// It does not wait for its turn behind those that wait to be emitted: as long as items are kept, none is.
    pub(crate) fn keep_early(&self, item: T) -> Noted<T> {
        let mut state = self.core.lock();
        if self.core.closed.load(Ordering::Relaxed) {
            return Noted::unkept(item);
        }
        let nobody = state.memory.is_early();
        state.memory.note(item, nobody)
    }

    /// As [`next`](Self::next), outside of any callback, for a subject that [remembers elsewhere](Memory::elsewhere): returns
    /// the item if nobody is there to hear it, and it is not kept there.
    pub(crate) fn offer(&self, item: T) -> Option<T> {
        self.core.offer(item)
    }

    /// As [`at_home`](Self::at_home), for a subject that emits what `panicked` makes when an observer of its own panicked, and
    /// when its [hook](Self::on_panic) is told so. Items that wait are [merged](Merge).
    pub(crate) fn telling(home: IoScheduler, memory: Memory<T>, panicked: fn() -> T) -> Self
    where
        T: Merge,
    {
        let core = Arc::new_cyclic(|core: &Weak<Core<T, E>>| {
            let core = core.clone();
            let tell = move || {
                if let Some(core) = core.upgrade() {
                    Self { core }.post(panicked());
                }
            };
            let mut core = Core::new(Some(home), memory, Some(Arc::new(tell)), None);
            core.merge = Some(T::merge);
            core
        });
        Self { core }
    }

    /// As [`relay`](Self::relay), with the terminal event.
    pub(crate) fn relay_end(&self, error: Option<Arc<E>>) {
        self.core.emit(self.core.lock(), Event::Terminal(error.map_or(Terminal::Complete, Terminal::Error)));
    }

    /// Queues `item`, in the order of the calls, for the home thread to deliver.
    pub(crate) fn post(&self, item: T) {
        if self.core.enqueue(Event::Next(item), None) {
            self.core.wake_home();
        }
    }

    /// Has a task at home deliver `item`, and waits until it has: not for what comes behind it. Not for a callback.
    ///
    /// A task that delivered it by itself might have to deliver what others push meanwhile, too.
    pub(crate) async fn deliver_at_home(&self, item: T) {
        let (mark, passed) = oneshot::channel();
        if self.core.enqueue(Event::Next(item), Some(mark)) {
            callback::run(|| self.core.wake_home());
        }
        // Dropped, it has been passed, too.
        let _ = passed.await;
    }

    /// Queues `item` without delivering it: for [`settle`](Self::settle), or whoever emits next. Calls no observer.
    pub(crate) fn leave(&self, item: T) {
        self.core.enqueue(Event::Next(item), None);
    }

    /// Has the home thread deliver what was left.
    pub(crate) fn settle(&self) {
        self.core.wake_home();
    }

    /// What this subject has still to deliver: for those who are not to run ahead of it.
    pub(crate) fn backlog(&self) -> Arc<dyn Backlog> {
        self.core.clone()
    }

    /// Waits until everything pushed so far is delivered, and not for what others push meanwhile. Not for a callback, which
    /// would wait for itself.
    pub(crate) async fn delivered(&self) {
        let (mark, passed) = oneshot::channel();
        if self.core.place(mark) {
            self.core.wake_home();
        }
        // Dropped, it has been passed, too.
        let _ = passed.await;
    }

    pub(crate) fn add(&self, observer: impl Observer<T, E> + Send + 'static) -> SerializedSubscription {
        self.add_after(VecDeque::new, observer)
    }

    /// Adds an observer that hears `backlog` before anything else, on the home thread.
    ///
    /// `backlog` is called in the same step in which the observer joins, under the lock, and must call no code of the user's.
    pub(crate) fn add_after(
        &self,
        backlog: impl FnOnce() -> VecDeque<T>,
        observer: impl Observer<T, E> + Send + 'static,
    ) -> SerializedSubscription {
        let open = Arc::new(AtomicBool::new(true));
        let number = self.core.join(open.clone(), Box::new(observer), backlog);
        let subject: Arc<dyn Remove> = self.core.clone();
        SerializedSubscription { number, open, subject: Arc::downgrade(&subject) }
    }
}

impl<T, E> Core<T, E> {
    fn new(
        home: Option<IoScheduler>,
        memory: Memory<T>,
        on_panic: Option<PanicHook>,
        unheard: Option<Arc<AtomicU64>>,
    ) -> Self {
        let keeps_early = AtomicBool::new(memory.is_early());
        let state = State {
            observers: Vec::new(),
            emitting: false,
            joining: VecDeque::new(),
            subscribed: 0,
            inbox: VecDeque::new(),
            terminal: None,
            waiting: 0,
            tasks: Vec::new(),
            asked: Vec::new(),
            memory,
        };
        let (state, room) = (Mutex::new(state), Condvar::new());
        let (closed, stale) = (AtomicBool::new(false), AtomicBool::new(false));
        let lost = AtomicU64::new(0);
        Self { state, closed, keeps_early, stale, room, home, on_panic, merge: None, unheard, lost }
    }

    /// Whether `event` may still come; notes that nothing may follow a terminal one. Only under the lock.
    fn admits(&self, event: &Event<T, E>) -> bool {
        let admits = !self.closed.load(Ordering::Relaxed);
        if matches!(event, Event::Terminal(_)) {
            self.closed.store(true, Ordering::Release);
        }
        admits
    }

    /// The state, also after a panic: none can happen while the lock is held.
    fn lock(&self) -> MutexGuard<'_, State<T, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone + Send + 'static, E: Clone + Send + Sync + 'static> Core<T, E> {
    fn push(self: &Arc<Self>, event: Event<T, E>) {
        if callback::is_inside() {
            self.push_later(event);
        } else {
            self.emit(self.lock(), event);
        }
    }

    /// Has `event` delivered once this thread is outside of any callback.
    fn push_later(self: &Arc<Self>, event: Event<T, E>) {
        if self.enqueue(event, None) {
            callback::later(self.clone());
        }
    }

    /// As [`emit`](Self::emit), and in the usual case, an item and nothing else to be done, without the moves and the looks of
    /// [`deliver`](Self::deliver), which take half as long again as all of this.
    fn emit_item(self: &Arc<Self>, item: T) {
        self.emit_with(self.lock(), item);
    }

    fn emit_with<'a>(self: &'a Arc<Self>, mut state: MutexGuard<'a, State<T, E>>, item: T) {
        // Itself, which is looked at many times, and not by way of the `Arc`.
        let core = &**self;
        if !core.is_quiet(&state) {
            return self.emit(state, Event::Next(item));
        }
        state.emitting = true;
        let mut observers = take(&mut state.observers);
        drop(state);
        callback::run(|| {
            core.emit_to(&mut observers, item);
            let mut state = core.lock();
            state.observers = observers;
            state.emitting = false;
            if core.has_work(&state) {
                self.deliver(state, None);
            }
        });
    }

    /// As [`emit_item`](Self::emit_item), for [`SerializedSubject::offer`].
    fn offer(self: &Arc<Self>, item: T) -> Option<T> {
        let mut state = self.lock();
        let nobody = state.observers.is_empty() && !state.emitting && !self.has_work(&state);
        if !nobody || self.closed.load(Ordering::Relaxed) {
            self.emit_with(state, item);
            return None;
        }
        callback::run(|| {
            let noted = state.memory.note(item, true);
            drop(state);
            discard(noted.dropped);
            noted.item
        })
    }

    /// Delivers `event` now, or leaves it to the one who is emitting.
    fn emit<'a>(self: &'a Arc<Self>, mut state: MutexGuard<'a, State<T, E>>, event: Event<T, E>) {
        if state.emitting && !callback::is_inside() {
            // A callback must not wait: the one who emits may be waiting for it to return.
            state = self.wait_for_room(state);
        }
        if !self.admits(&event) {
            // Not where it goes out of scope, which is before the lock is given back.
            drop(state);
            return self.discard_event(event);
        }
        if !state.emitting && state.inbox.is_empty() {
            return callback::run(|| self.deliver(state, Some(event)));
        }
        let may_deliver = !state.emitting && !callback::is_turn_over();
        if state.is_full() && !may_deliver && matches!(event, Event::Next(_)) {
            drop(state);
            return self.lose(event);
        }
        let spent = self.put(&mut state, event);
        if state.emitting {
            drop(state);
        } else {
            callback::run(|| self.deliver(state, None));
        }
        discard(spent);
    }

    /// Puts an event into the inbox, or has one that waits there stand for it: then it is spent.
    fn put(&self, state: &mut State<T, E>, event: Event<T, E>) -> Option<Event<T, E>> {
        if let (Some(merge), Event::Next(later)) = (self.merge, &event) {
            for waiting in state.inbox.iter_mut().rev() {
                let Event::Next(waiting) = waiting else { continue };
                match merge(waiting, later) {
                    Merged::Done => return Some(event),
                    Merged::NotHere => {}
                    Merged::Never => break,
                }
            }
        }
        state.inbox.push_back(event);
        None
    }

    /// Nobody emits, and the next item goes to the observers there are, and nowhere else.
    fn is_quiet(&self, state: &State<T, E>) -> bool {
        !state.emitting
            && !self.has_work(state)
            && !self.closed.load(Ordering::Relaxed)
            && !state.memory.notes(state.observers.is_empty())
    }

    fn has_work(&self, state: &State<T, E>) -> bool {
        // Asked twice for each item: one branch for all of them.
        let waiting = state.inbox.len() | state.joining.len() | state.waiting | state.tasks.len();
        waiting > 0 || self.stale.load(Ordering::Relaxed)
    }

    /// Queues `event`, and a mark behind it. True when it is up to the caller to have it delivered, or to wait for those who do.
    fn enqueue(&self, event: Event<T, E>, mark: Option<oneshot::Sender<()>>) -> bool {
        let mut state = self.lock();
        let is_admitted = self.admits(&event);
        let is_full = state.is_full() && matches!(event, Event::Next(_));
        let has_place = is_admitted && !is_full;
        let rest = if has_place { self.put(&mut state, event) } else { Some(event) };
        if has_place {
            state.inbox.extend(mark.map(Event::Mark));
        }
        let is_callers = !state.inbox.is_empty() && (!state.emitting || state.inbox.len() > debts::CREDIT);
        drop(state);
        match rest {
            Some(spent) if has_place => discard(spent),
            Some(event) if is_admitted => self.lose(event),
            Some(event) => self.discard_event(event),
            None => {}
        }
        is_callers
    }

    /// Queues a mark behind what waits, if anything does. True when it is up to the caller to have it delivered.
    fn place(&self, mark: oneshot::Sender<()>) -> bool {
        let mut state = self.lock();
        let is_over = !state.emitting && state.inbox.is_empty();
        if !is_over {
            state.inbox.push_back(Event::Mark(mark));
        }
        !state.emitting && !is_over
    }

    /// Waits until the inbox is no longer crowded or nobody emits, on a thread that may.
    fn wait_for_room<'a>(&'a self, mut state: MutexGuard<'a, State<T, E>>) -> MutexGuard<'a, State<T, E>> {
        while state.emitting && state.inbox.len() >= INBOX_CROWD && callback::may_wait() {
            state.waiting += 1;
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        state
    }

    /// Delivers `event`, then what is in the inbox, until nothing is left or this thread's turn is over. Only while nobody
    /// else is emitting.
    fn deliver<'a>(self: &'a Arc<Self>, mut state: MutexGuard<'a, State<T, E>>, mut event: Option<Event<T, E>>) {
        state.emitting = true;
        let mut observers = take(&mut state.observers);
        loop {
            state = self.let_in(state, &mut observers);
            if !state.joining.is_empty() {
                // They are to hear it, too: in another turn.
                event.take().into_iter().for_each(|event| state.inbox.push_front(event));
            }
            let event = event.take().or_else(|| state.pop());
            let stale = self.stale.load(Ordering::Relaxed);
            if event.is_none() && !stale {
                state.observers = observers;
                return self.rest(state);
            }
            self.stale.store(false, Ordering::Relaxed);
            if state.waiting > 0 {
                self.room.notify_all();
            }
            let (event, forgotten) = state.note(event, !observers.iter().any(Slot::is_open));
            drop(state);
            discard(forgotten);
            if stale {
                self.sweep(&mut observers);
            }
            // What is not isolated by itself: the destructor of an item or of an error.
            callback::isolate("a destructor", || match event {
                Some(Event::Next(item)) => self.emit_to(&mut observers, item),
                Some(Event::Terminal(terminal)) => observers.drain(..).for_each(|slot| self.end(slot, &terminal)),
                Some(Event::Mark(passed)) => {
                    drop(passed);
                    callback::spend(callback::SHARE);
                }
                None => {}
            });
            state = self.lock();
        }
    }

    /// Takes in those who are joining, as far as the turn of this thread reaches.
    fn let_in<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<T, E>>,
        observers: &mut Vec<Slot<T, E>>,
    ) -> MutexGuard<'a, State<T, E>> {
        while state.joining.front().is_some_and(Joining::may_go_on) {
            let mut joining = take(&mut state.joining);
            drop(state);
            let left = self.admit(observers, &mut joining);
            state = self.lock();
            joining.append(&mut state.joining);
            state.joining = joining;
            if !left.is_empty() {
                let handed = state.hand_on(left, !observers.iter().any(Slot::is_open));
                drop(state);
                handed.settle();
                state = self.lock();
            }
        }
        state
    }

    /// Emits no more: all is delivered, or observers are first to take what they have put off, or the turn of this thread is
    /// over, and others are to go on.
    fn rest<'a>(self: &'a Arc<Self>, mut state: MutexGuard<'a, State<T, E>>) {
        state.emitting = false;
        if state.inbox.is_empty() && state.joining.is_empty() {
            let (tasks, burst) = (take(&mut state.tasks), state.take_burst());
            drop(state);
            drop(burst);
            return tasks.into_iter().for_each(Waker::wake);
        }
        if state.waiting > 0 {
            self.room.notify_all();
        }
        if !callback::is_turn_over() {
            drop(state);
            return callback::later(self.clone());
        }
        self.owe(&mut state);
        let place = runtime::place(self.home.as_ref());
        let is_news = state.ask(place);
        drop(state);
        if is_news {
            runtime::hand_over(self.clone(), place, self.home.as_ref());
        }
    }

    /// Has the task that is being polled wait until what it left is delivered, if that is much.
    fn owe(&self, state: &mut State<T, E>) {
        state.inbox.extend(debts::owe(state.inbox.len()).map(Event::Mark));
    }

    /// Takes in an observer, which hears `backlog` first, and returns its number.
    fn join(
        self: &Arc<Self>,
        open: Arc<AtomicBool>,
        observer: BoxedObserverSend<'static, T, E>,
        backlog: impl FnOnce() -> VecDeque<T>,
    ) -> u64 {
        let mut state = self.lock();
        state.subscribed += 1;
        let number = state.subscribed;
        let mut joining = Joining { slot: Slot { number, open, observer }, backlog: backlog() };
        joining.backlog.append(&mut state.memory.backlog());
        self.keeps_early.store(state.memory.is_early(), Ordering::Release);
        if let Some(terminal) = state.terminal.clone() {
            drop(state);
            callback::run(|| {
                self.replay(&mut joining, || true);
                let handed = self.lock().hand_on(joining.backlog, true);
                handed.settle();
                self.end(joining.slot, &terminal);
            });
        } else if state.emitting {
            state.joining.push_back(joining);
        } else if joining.backlog.is_empty() && state.joining.is_empty() {
            if state.observers.len() < 2 {
                // Most have no more, and a connection has several subjects: a vector begins with room for four.
                state.observers.reserve_exact(1);
            }
            state.observers.push(joining.slot);
        } else {
            state.joining.push_back(joining);
            drop(state);
            self.wake_home();
        }
        number
    }

    /// Has the home thread deliver what waits.
    fn wake_home(self: &Arc<Self>) {
        let home = self.home.as_ref().filter(|home| callback::is_inside() || !home.is_current());
        let Some(home) = home else { return callback::run(|| self.clone().drain()) };
        let is_news = self.lock().ask(Place::Home);
        if is_news {
            runtime::deliver_on(home, self.clone());
        }
    }
}

impl<T: Clone + Send + 'static, E: Clone + Send + Sync + 'static> Drain for Core<T, E> {
    fn drain(self: Arc<Self>) {
        let mut state = self.lock();
        if state.emitting {
            // Its callbacks are over: it may be faster than the observers.
            state = self.wait_for_room(state);
        }
        if state.emitting {
            self.owe(&mut state);
        } else {
            self.deliver(state, None);
        }
    }
}

impl<T: Clone + Send + 'static, E: Clone + Send + Sync + 'static> Deliver for Core<T, E> {
    fn deliver_as_asked(self: Arc<Self>, place: Place) {
        let mut state = self.lock();
        // Also when another thread is emitting: left there, it would keep the next one from asking.
        state.asked.retain(|asked| *asked != place);
        if !state.emitting {
            self.deliver(state, None);
        }
    }
}

/// Calling observers: outside of the lock, each in isolation from the others.
impl<T: Clone, E: Clone> Core<T, E> {
    fn emit_to(&self, observers: &mut Vec<Slot<T, E>>, item: T) {
        let Some((last, others)) = observers.split_last_mut() else { return self.discard_event(Event::Next(item)) };
        let (mut any_ended, mut missed) = (false, 0);
        let mut note = |turnout| {
            if turnout != Turnout::Took {
                any_ended = true;
                missed += usize::from(turnout == Turnout::Gone);
            }
        };
        others.iter_mut().for_each(|slot| note(self.next(slot, || item.clone())));
        note(self.next(last, || item));
        if any_ended {
            if missed == observers.len() {
                self.count_unheard();
            }
            self.sweep(observers);
        }
    }

    ///
    /// Returns what the last one has left unheard, if it left.
    fn admit(&self, observers: &mut Vec<Slot<T, E>>, joining: &mut VecDeque<Joining<T, E>>) -> VecDeque<T> {
        while let Some(first) = joining.front_mut() {
            self.replay(first, callback::may_deliver);
            if first.slot.is_open() && !first.backlog.is_empty() {
                break;
            }
            let Some(Joining { slot, backlog }) = joining.pop_front() else { break };
            if slot.is_open() {
                observers.push(slot);
                continue;
            }
            self.dismiss(slot);
            if !backlog.is_empty() {
                return backlog;
            }
        }
        VecDeque::new()
    }

    /// Has an observer hear what it is to hear first, for as long as `may_go_on`.
    fn replay(&self, Joining { slot, backlog }: &mut Joining<T, E>, may_go_on: impl Fn() -> bool) {
        while slot.is_open()
            && !backlog.is_empty()
            && may_go_on()
            && let Some(item) = backlog.pop_front()
        {
            self.next(slot, || item);
        }
    }

    /// Delivers an item, which is made inside of the isolation: a `clone` is user code too.
    fn next(&self, slot: &mut Slot<T, E>, item: impl FnOnce() -> T) -> Turnout {
        let (open, observer) = (&slot.open, &mut slot.observer);
        let (mut is_gone, mut is_done) = (false, true);
        let returned = callback::isolate("an observer", || {
            let item = item();
            // Asked behind the `clone`, in which the observer may have left.
            is_gone = self.stale.load(Ordering::Acquire) && !open.load(Ordering::Acquire);
            if is_gone {
                return drop(item); // here, because of its destructor
            }
            observer.next(item);
            is_done = observer.is_closed();
        });
        if returned && !is_done {
            return Turnout::Took;
        }
        self.see_off(slot, returned);
        if is_gone { Turnout::Gone } else { Turnout::TookLast }
    }

    #[cold]
    fn see_off(&self, slot: &Slot<T, E>, returned: bool) {
        slot.close();
        if !returned {
            self.tell_of_panic();
        }
    }

    /// Delivers the terminal event, to a slot that is not open any more only by dropping it.
    fn end(&self, slot: Slot<T, E>, terminal: &Terminal<E>) {
        if !slot.is_open() {
            return self.dismiss(slot);
        }
        let Slot { open, observer, .. } = slot;
        let returned = callback::isolate("an observer", || {
            let error = match terminal {
                Terminal::Error(error) => Some(E::clone(error)),
                Terminal::Complete => None,
            };
            // As for an item: behind the `clone`.
            match error {
                _ if !close(&open) => {}
                Some(error) => observer.error(error),
                None => observer.complete(),
            }
        });
        if !returned {
            close(&open);
            self.tell_of_panic();
        }
    }
}

/// Dropping what is the user's: outside of the lock, each in isolation from the others.
impl<T, E> Core<T, E> {
    /// Drops an event that nobody hears.
    fn discard_event(&self, event: Event<T, E>) {
        if let Event::Next(_) = event {
            self.count_unheard();
        }
        discard(event);
    }

    fn count_unheard(&self) {
        if let Some(unheard) = &self.unheard {
            unheard.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Drops an item for which the inbox has no room. Says so at every power of two, since one loss seldom comes alone.
    #[cold]
    fn lose(&self, event: Event<T, E>) {
        let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
        if lost.is_power_of_two() {
            tracing::error!(
                lost,
                "items pushed into a subject were lost: its observers are slower than what callbacks push"
            );
        }
        discard(event);
    }

    /// Drops the observers that have unsubscribed, finished or panicked.
    fn sweep(&self, observers: &mut Vec<Slot<T, E>>) {
        observers.extract_if(.., |slot| !slot.is_open()).for_each(|slot| self.dismiss(slot));
        if observers.capacity() > KEPT_CAPACITY && observers.len() < observers.capacity() / 4 {
            observers.shrink_to_fit();
        }
    }

    /// Drops an observer, whose captured values may panic in their destructors.
    fn dismiss(&self, slot: Slot<T, E>) {
        if !callback::isolate("an observer's destructor", || drop(slot)) {
            self.tell_of_panic();
        }
    }

    fn dismiss_joining(&self, Joining { slot, backlog }: Joining<T, E>) {
        self.dismiss(slot);
        discard(backlog);
    }

    fn tell_of_panic(&self) {
        if let Some(hook) = &self.on_panic {
            hook();
        }
    }
}

impl<T, E> State<T, E> {
    /// What comes next, when all have joined, if this thread may still deliver in this turn.
    fn pop(&mut self) -> Option<Event<T, E>> {
        let any = self.joining.is_empty() && !self.inbox.is_empty();
        let is_next = any && !callback::should_return() && callback::may_deliver();
        if is_next { self.inbox.pop_front() } else { None }
    }

    /// Notes that a task is asked to deliver. False when one was before, and has not begun.
    fn ask(&mut self, place: Place) -> bool {
        let is_news = !self.asked.contains(&place);
        if is_news {
            self.asked.push(place);
        }
        is_news
    }

    fn is_full(&self) -> bool {
        self.inbox.len() + usize::from(self.emitting) >= INBOX_BOUND
    }

    /// The memory of an empty inbox that has grown in a burst.
    fn take_burst(&mut self) -> VecDeque<Event<T, E>> {
        if self.inbox.capacity() > KEPT_CAPACITY { take(&mut self.inbox) } else { VecDeque::new() }
    }
}

impl<T: Clone, E: Clone> State<T, E> {
    /// Takes what an observer has left that was to hear it first: for the next one, or for a memory elsewhere. Only inside a
    /// callback.
    fn hand_on(&mut self, mut left: VecDeque<T>, nobody: bool) -> Handed<T> {
        let mut handed = Handed { dropped: VecDeque::new(), emitted: None };
        match (&self.memory, self.joining.front_mut()) {
            (Memory::Elsewhere(_), Some(next)) => {
                left.append(&mut next.backlog);
                next.backlog = left;
            }
            (Memory::Elsewhere(memory), None) if nobody => {
                let mut unkept = Vec::new();
                for noted in left.into_iter().map(|item| memory.keep(item)) {
                    unkept.extend(noted.item);
                    handed.dropped.extend(noted.dropped);
                }
                handed.emitted = Some((memory.clone(), unkept));
            }
            _ => handed.dropped = left,
        }
        handed
    }

    /// Notes an event for those who subscribe later. Returns it if it is to be emitted now, and what is no longer kept.
    fn note(&mut self, event: Option<Event<T, E>>, nobody: bool) -> (Option<Event<T, E>>, Vec<T>) {
        match event {
            Some(Event::Next(item)) => {
                let Noted { item, dropped } = self.memory.note(item, nobody);
                (item.map(Event::Next), dropped)
            }
            Some(Event::Terminal(terminal)) => {
                self.terminal = Some(terminal.clone());
                (Some(Event::Terminal(terminal)), Vec::new())
            }
            Some(Event::Mark(_)) | None => (event, Vec::new()),
        }
    }
}

impl<T, E> Joining<T, E> {
    fn may_go_on(&self) -> bool {
        self.backlog.is_empty() || !callback::is_turn_over()
    }
}

impl<T, E> Slot<T, E> {
    fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    fn close(&self) {
        close(&self.open);
    }
}

/// True for the one who closes it.
fn close(open: &AtomicBool) -> bool {
    open.swap(false, Ordering::AcqRel)
}

/// Drops an item, or several, whose destructors are user code.
pub(crate) fn discard<T>(items: T) {
    callback::isolate("an item's destructor", || drop(items));
}

/// What those who feed a subject need of it, whatever its types.
pub(crate) trait Backlog: Send + Sync {
    /// Ready when at most `most` events wait or are being delivered; otherwise the task is woken once none is left.
    fn poll_at_most(&self, most: usize, cx: &task::Context<'_>) -> Poll<()>;
}

/// Waits until at most `most` events wait or are being delivered.
pub(crate) async fn at_most(backlog: &dyn Backlog, most: usize) {
    poll_fn(|cx| backlog.poll_at_most(most, cx)).await;
}

impl<T: Send + 'static, E: Send + Sync + 'static> Backlog for Core<T, E> {
    fn poll_at_most(&self, most: usize, cx: &task::Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.inbox.len() + usize::from(state.emitting) <= most {
            return Poll::Ready(());
        }
        if !state.tasks.iter().any(|task| task.will_wake(cx.waker())) {
            state.tasks.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// What a subscription needs of its subject, whatever its types.
trait Remove: Send + Sync {
    /// Drops an observer that is no longer open.
    fn remove(&self, number: u64);
}

impl<T: Clone + Send + 'static, E: Clone + Send + Sync + 'static> Remove for Core<T, E> {
    fn remove(&self, number: u64) {
        let mut state = self.lock();
        if state.emitting {
            return self.stale.store(true, Ordering::Release);
        }
        let State { observers, joining, .. } = &mut *state;
        let gone = match observers.binary_search_by_key(&number, |slot| slot.number) {
            Ok(at) => Some(Joining { slot: observers.remove(at), backlog: VecDeque::new() }),
            Err(_) => {
                let at = joining.iter().position(|joining| joining.slot.number == number);
                at.and_then(|at| joining.remove(at))
            }
        };
        let Some(Joining { slot, backlog }) = gone else { return };
        callback::run(|| {
            let nobody = state.observers.is_empty();
            let handed = state.hand_on(backlog, nobody);
            drop(state);
            self.dismiss(slot);
            handed.settle();
        });
    }
}

impl<T, E> Drop for Core<T, E> {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let (observers, joining) = (take(&mut state.observers), take(&mut state.joining));
        observers.into_iter().for_each(|slot| self.dismiss(slot));
        joining.into_iter().for_each(|joining| self.dismiss_joining(joining));
    }
}

impl Subscription for SerializedSubscription {
    fn unsubscribe(self) {
        // Closed already means that somebody else has seen to the removal.
        if self.open.swap(false, Ordering::AcqRel)
            && let Some(subject) = self.subject.upgrade()
        {
            subject.remove(self.number);
        }
    }

    fn is_closed(&self) -> bool {
        !self.open.load(Ordering::Acquire)
    }
}

impl<T, E> Clone for SerializedSubject<T, E> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone() }
    }
}

impl<T: Clone + Send + 'static, E: Clone + Send + Sync + 'static> Observer<T, E> for SerializedSubject<T, E> {
    fn next(&mut self, item: T) {
        (*self).next(item);
    }

    fn error(self, error: E) {
        self.error(error);
    }

    fn complete(self) {
        self.complete();
    }

    fn is_closed(&self) -> bool {
        self.core.closed.load(Ordering::Acquire)
    }
}

/// What [`SerializedSubject::fed`] gives.
#[derive(Clone)]
pub(crate) struct Fed<T, E>(SerializedSubject<T, E>);

impl<T: Clone + Send + 'static, E: Clone + Send + Sync + 'static> Observer<T, E> for Fed<T, E> {
    fn next(&mut self, item: T) {
        self.0.relay(item);
    }

    fn error(self, error: E) {
        self.0.relay_end(Some(Arc::new(error)));
    }

    fn complete(self) {
        self.0.relay_end(None);
    }

    fn is_closed(&self) -> bool {
        self.0.core.closed.load(Ordering::Acquire)
    }
}

impl<T, E> ObservableType for SerializedSubject<T, E> {
    type Item<'a>
        = T
    where
        Self: 'a;
    type Err = E;
}

impl<T, E, C> CoreObservable<C> for SerializedSubject<T, E>
where
    T: Clone + Send + 'static,
    E: Clone + Send + Sync + 'static,
    C: Context,
    C::Inner: Observer<T, E> + Send + 'static,
{
    type Unsub = SerializedSubscription;

    fn subscribe(self, context: C) -> SerializedSubscription {
        self.add(context.into_inner())
    }
}

impl<T, E> fmt::Debug for SerializedSubject<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SerializedSubject").field("closed", &self.core.closed).finish_non_exhaustive()
    }
}

impl fmt::Debug for SerializedSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SerializedSubscription").field("is_closed", &self.is_closed()).finish()
    }
}
