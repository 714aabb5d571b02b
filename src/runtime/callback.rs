//! Re-entrance: a push from inside a callback waits until the outermost callback of its thread has returned.
//!
//! RxRust's combining operators hold a blocking lock while they call downstream, so an emission that ran inside another one
//! could wait for itself. Here each thread knows how deep in callbacks it is; a push at a depth is noted, and delivered when
//! the thread comes back to depth zero.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::VecDeque,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
    task::{Context, Wake, Waker},
    thread::LocalKey,
};

use super::{debts, turn::has_loop, yield_now};
use crate::one_line::OneLine;

/// How many deliveries that others left to a thread it makes in one turn, before it looks at its sockets. At 10 us each they
/// take 2.6 ms.
pub(crate) const SHARE: usize = 256;

/// How many entries the list of a burst may keep.
const KEPT_CAPACITY: usize = 4_096;

/// A source of waiting deliveries.
pub(crate) trait Drain: Send + Sync {
    /// Makes the waiting deliveries, unless another thread is doing so already, as far as this thread's [share](SHARE)
    /// reaches.
    fn drain(self: Arc<Self>) -> Rest;

    /// If another thread delivers and much is left, returns how many deliveries have been made so far, and wakes the task
    /// when that thread has made a [share](SHARE) of them, or stops.
    fn watch(&self, cx: &mut Context<'_>) -> Option<u64>;

    /// No longer wakes a task that [watches](Self::watch).
    fn unwatch(&self, task: &Waker);

    /// Notes that waiting is in vain if the count of deliveries is still `delivered`: the thread that delivers is blocked.
    /// Until it makes another delivery, no task waits for it.
    fn note_stuck(&self, delivered: u64);
}

/// How much a [`Drain`] has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Nothing, or little that another thread delivers.
    Little,
    Much,
}

/// A queue in which a thread may have to wait for room.
pub(crate) trait Room: Send + Sync {
    /// Blocks while the queue is crowded.
    fn wait(self: Arc<Self>);
}

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    /// Whether the outermost callback is a task that one of rxplus's schedulers runs.
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
    /// The rest of this turn's [`SHARE`].
    static LEFT: Cell<usize> = const { Cell::new(SHARE) };
    /// How many [`LoopOwner`]s this thread has.
    static LOOPS: Cell<usize> = const { Cell::new(0) };
    /// How often callbacks have deferred something since this thread last delivered it. Beside `LATER` because it needs no
    /// destructor: reading it is a plain load.
    static PUT_OFF: Cell<usize> = const { Cell::new(0) };
    /// The deferred sources, each with how often callbacks have deferred it.
    static LATER: RefCell<VecDeque<(Arc<dyn Drain>, usize)>> = const { RefCell::new(VecDeque::new()) };
    /// The rooms in which this thread is to wait, once it has nothing left that others could wait for.
    static ROOMS: RefCell<VecDeque<Arc<dyn Room>>> = const { RefCell::new(VecDeque::new()) };
    /// How often the source that is being drained was deferred.
    static DRAINING: Cell<usize> = const { Cell::new(1) };
    /// How many deliveries this thread has made since it began to drain that source.
    static DRAINED: Cell<usize> = const { Cell::new(0) };
    /// The task that this thread polls is in [debt](super::debts), and its turn is over.
    static IS_IN_DEBT: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is inside a callback.
pub(crate) fn is_inside() -> bool {
    DEPTH.get() > 0
}

/// Runs `f` as a callback: pushes in it are delivered after the outermost callback of this thread.
///
/// `f` must not panic: user code in it goes through [`isolate`].
// Inlined, since the captures of `f` would be copied twice otherwise, which is a tenth of an emission.
#[inline(always)]
pub(crate) fn run<R>(f: impl FnOnce() -> R) -> R {
    let depth = DEPTH.replace(DEPTH.get() + 1);
    let result = f();
    DEPTH.set(depth);
    if depth == 0 && PUT_OFF.get() > 0 {
        deliver_later_ones();
    }
    result
}

/// Runs a scheduler's task, or a step of it, as a callback.
///
/// As with [`run`], `f` must not panic. A scheduler calls it with no lock held.
pub(crate) fn task<R>(f: impl FnOnce() -> R) -> R {
    if is_inside() {
        return run(f);
    }
    run(|| {
        IN_TASK.set(true);
        let result = f();
        IN_TASK.set(false);
        result
    })
}

/// Between two deliveries of one task: delivers the pushes of the first one, rather than keeping them until the task yields.
///
/// Does nothing when this thread is inside any other callback, whose caller may hold a lock.
pub(crate) fn deliver_deferred() {
    if PUT_OFF.get() > 0 && DEPTH.get() == 1 && IN_TASK.replace(false) {
        deliver_later_ones();
        DEPTH.set(1);
        IN_TASK.set(true);
    }
}

/// Begins a turn of a task, in which its thread may deliver a whole [`SHARE`] again.
pub(crate) fn begin_turn() {
    LEFT.set(SHARE);
}

/// Whether this turn is over: its [`SHARE`] is used up, or the polled task is in debt. Never on a thread without sockets or
/// a loop.
pub(crate) fn is_turn_over() -> bool {
    IS_IN_DEBT.get() || (LEFT.get() == 0 && is_share_used_up())
}

#[cold]
fn is_share_used_up() -> bool {
    // The next turn should have begun in a `block_on`, which has returned.
    let is_plain = !has_loop() && tokio::runtime::Handle::try_current().is_err();
    if is_plain {
        begin_turn();
    }
    !is_plain
}

/// The result of a function, and how many deliveries it has made.
pub(crate) struct Delivered<R> {
    pub(crate) result: R,
    pub(crate) count: usize,
}

/// Runs `f`, which may make at most `most` of the deliveries left in this turn.
pub(crate) fn with_share<R>(most: usize, f: impl FnOnce() -> R) -> Delivered<R> {
    let left = LEFT.get();
    LEFT.set(left.min(most));
    let result = f();
    let count = left.min(most) - LEFT.get().min(left.min(most));
    LEFT.set(left - count);
    Delivered { result, count }
}

/// Marks the task that this thread polls as in debt, or as not in debt. Returns whether it was in debt before.
pub(crate) fn set_in_debt(is_in_debt: bool) -> bool {
    IS_IN_DEBT.replace(is_in_debt)
}

/// Takes one delivery out of this turn's [`SHARE`], if one is left. Returns whether one was.
pub(crate) fn may_deliver() -> bool {
    let may = !is_turn_over();
    if may {
        DRAINED.set(DRAINED.get() + 1);
        spend(1);
    }
    may
}

/// Takes `deliveries` out of this turn's [`SHARE`].
pub(crate) fn spend(deliveries: usize) {
    let left = LEFT.get();
    LEFT.set(left.saturating_sub(deliveries));
    if deliveries >= left && left > 0 {
        end_turn();
    }
}

/// Begins the next turn once this thread has looked at its sockets, or at once if it has none.
#[cold]
fn end_turn() {
    struct Begin;
    impl Wake for Begin {
        fn wake(self: Arc<Self>) {
            begin_turn();
        }
    }
    static BEGIN: OnceLock<Waker> = OnceLock::new();
    yield_now(&mut Context::from_waker(BEGIN.get_or_init(|| Waker::from(Arc::new(Begin)))));
}

/// Whether this thread may be kept waiting for room in a queue. It may not where it could be waiting for itself: on a thread
/// that drives a [`RunLoop`](crate::RunLoop), and within tokio, where all other threads of rxplus are.
pub(crate) fn may_wait() -> bool {
    LOOPS.get() == 0 && tokio::runtime::Handle::try_current().is_err()
}

/// Blocks the calling thread in `room` once it is outside any callback and has made all its deliveries, if it
/// [may wait](may_wait).
pub(crate) fn wait_outside(room: Arc<dyn Room>) {
    if !may_wait() {
        return;
    }
    if !is_inside() {
        return room.wait();
    }
    // Does nothing while the thread ends.
    let _ = ROOMS.try_with(|rooms| {
        let mut rooms = rooms.borrow_mut();
        if !rooms.back().is_some_and(|last| Arc::ptr_eq(last, &room)) {
            rooms.push_back(room);
            PUT_OFF.set(PUT_OFF.get() + 1);
        }
    });
}

/// Marks a thread as one that others may wait for, as long as this lives.
pub(crate) struct LoopOwner {
    // Belongs to one thread.
    _not_send: PhantomData<*const ()>,
}

impl LoopOwner {
    pub(crate) fn new() -> Self {
        LOOPS.set(LOOPS.get() + 1);
        Self { _not_send: PhantomData }
    }
}

impl Drop for LoopOwner {
    fn drop(&mut self) {
        LOOPS.set(LOOPS.get() - 1);
    }
}

/// Whether the outermost callback of this thread, from which this is called, should return and defer the rest of its work:
/// callbacks have deferred a [`SHARE`], or other sources have waited for as long.
pub(crate) fn should_return() -> bool {
    DEPTH.get() == 1 && (PUT_OFF.get() >= SHARE || (DRAINED.get() >= SHARE && do_others_wait()))
}

#[cold]
fn do_others_wait() -> bool {
    DRAINED.set(0);
    LATER.try_with(|later| !later.borrow().is_empty()).unwrap_or(false)
}

/// Notes that `source` has deliveries to make when the outermost callback of this thread has returned.
pub(crate) fn later(source: Arc<dyn Drain>) {
    note_later(source, 1);
}

/// As [`later`], for the source that is being drained.
pub(crate) fn put_back(source: Arc<dyn Drain>) {
    note_later(source, DRAINING.get());
}

fn note_later(source: Arc<dyn Drain>, times: usize) {
    // A thread that is ending has lost its list and cannot defer: it can only deliver at once.
    let noted = LATER.try_with(|later| {
        let mut later = later.borrow_mut();
        // The usual case, one callback that pushes many items into one subject, takes one entry.
        match later.back_mut() {
            Some((last, before)) if Arc::ptr_eq(last, &source) => *before += times,
            _ => later.push_back((source.clone(), times)),
        }
    });
    match noted {
        Ok(()) => PUT_OFF.set(PUT_OFF.get() + 1),
        Err(_) => _ = source.drain(),
    }
}

#[cold]
fn deliver_later_ones() {
    loop {
        // At a depth of one, so that the callbacks run by it add to this loop instead of starting their own.
        if let Some((source, times)) = first_of(&LATER) {
            DRAINING.set(times);
            at_depth_one(|| {
                if source.clone().drain() == Rest::Much {
                    debts::owe(&source, times);
                }
            });
        } else if let Some(room) = first_of(&ROOMS) {
            // Last, since others may wait for the deliveries that this thread has deferred.
            at_depth_one(|| room.wait());
        } else {
            break;
        }
    }
    PUT_OFF.set(0);
    let _ = LATER.try_with(|later| {
        let mut later = later.borrow_mut();
        if later.capacity() > KEPT_CAPACITY {
            *later = VecDeque::new();
        }
    });
}

fn first_of<T>(list: &'static LocalKey<RefCell<VecDeque<T>>>) -> Option<T> {
    list.try_with(|list| list.borrow_mut().pop_front()).unwrap_or_default()
}

fn at_depth_one(f: impl FnOnce()) {
    PUT_OFF.set(0);
    DRAINED.set(0);
    DEPTH.set(1);
    f();
    DEPTH.set(0);
}

/// Runs user code and reports whether it returned; a panic is logged and goes no further.
///
/// Without the bookkeeping of [`run`]: for the innermost call, whose depth the caller has set.
pub(crate) fn isolate(what: &'static str, f: impl FnOnce()) -> bool {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(()) => true,
        Err(panic) => {
            report(what, panic);
            false
        }
    }
}

/// Drops what user code has made, each [isolated](isolate) from the others: a second panic while the first one unwinds would end
/// the process.
pub(crate) fn drop_each<T>(what: &'static str, items: impl IntoIterator<Item = T>) {
    let mut items = items.into_iter();
    // All in one, since most drop in peace. After a panic it goes on with the next one.
    while !isolate(what, || items.by_ref().for_each(drop)) {}
}

/// Wakes a task. Its waker may be user code.
pub(crate) fn wake(task: Waker) {
    isolate("a waker", || task.wake());
}

/// As [`isolate`], with the result of `f`, or the message of its panic.
pub(crate) fn attempt<R>(what: &'static str, f: impl FnOnce() -> R) -> Result<R, String> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => Ok(result),
        Err(panic) => Err(report(what, panic)),
    }
}

#[cold]
fn report(what: &'static str, panic: Box<dyn Any + Send>) -> String {
    let said = OneLine(message(panic.as_ref())).to_string();
    tracing::error!(panic = said, "{what} panicked");
    // The payload's own destructor may panic too.
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
    said
}

fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(not a text)")
}
