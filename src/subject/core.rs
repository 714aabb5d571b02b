//! [`Core`]: which thread delivers, and when.
//!
//! | verb | use |
//! |---|---|
//! | `emit_item` | delivers an item at once: the short way, when nothing else waits; otherwise as `emit` |
//! | `emit` | delivers an event at once, or leaves it in the inbox for the thread that is emitting |
//! | `push_later` | queues an event from inside a callback, and delivers it once this thread has left all callbacks |
//! | `enqueue`, `enqueue_mark` | put an event into the inbox, call nobody, and say whether the caller must arrange the delivery |
//! | `wake_home` | makes the home thread deliver the inbox; without a home, delivers it on this thread |
//! | `offer` | as `emit_item`, but an item without an observer goes to the main subject's memory |
//! | `join` | adds an observer, with the backlog that it hears first |
//! | `deliver` | the loop behind all of them: turn by turn, until nothing is left or the thread has to return |
//!
//! How observers come in is in [`joining`](super::joining), and how they are called in [`delivery`](super::delivery).

use std::{
    mem::take,
    sync::{Arc, PoisonError, atomic::AtomicU64},
    task::{self, Waker},
};

use tokio::sync::oneshot;

use crate::{
    runtime::{
        self, Deliver, IoScheduler, Place,
        callback::{self, Drain, Rest, Room},
        debts,
    },
    subject::{
        delivery::{PanicHook, discard},
        feeding::Merged,
        replay::Replay,
        state::{Asked, Event, INBOX_CROWD, Slot, State},
    },
    sync::{AtomicBool, Condvar, Mutex, MutexGuard, Ordering},
};

pub(crate) struct Core<T, E> {
    state: Mutex<State<T, E>>,
    /// A terminal event was accepted: nothing may follow it. Changed under the lock, and read without it by every observer
    /// that feeds this subject, after each item.
    pub(crate) closed: AtomicBool,
    /// Items are kept for a first observer. As `closed`: read by every connection of a server for every message.
    pub(crate) keeps_early: AtomicBool,
    /// An observer unsubscribed while another thread emitted. Changed under the lock, and read without it before each
    /// observer's turn: one flag for all of them, since looking at each one's own flag would cost one memory access per
    /// observer.
    pub(crate) stale: AtomicBool,
    /// Signalled when the inbox has room again.
    room: Condvar,
    /// Where backlogs and posted items are delivered; `None` in a user's own subject.
    home: Option<IoScheduler>,
    pub(crate) on_panic: Option<PanicHook>,
    /// Merges an item into one that waits.
    pub(crate) merge: Option<fn(&mut T, &T) -> Merged>,
    /// Counts the items that reached no observer.
    pub(crate) unheard: Option<Arc<AtomicU64>>,
    /// How many items the full inbox has refused.
    pub(crate) lost: AtomicU64,
}

/// The thread that has to arrange the delivery of the inbox.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpTo {
    /// The caller of the function that returns this. It delivers, or waits for the thread that does.
    Caller,
    /// The thread that is emitting.
    Others,
}

/// An event, or only a sweep of some observers, for a thread that has taken the observers.
struct Turn<T, E> {
    event: Option<Event<T, E>>,
    /// The items that are no longer kept for later subscribers.
    forgotten: Vec<T>,
    /// Observers have unsubscribed.
    is_stale: bool,
    /// Tasks that have waited for a share of deliveries.
    creditors: Vec<Waker>,
}

impl<T, E> Core<T, E> {
    pub(crate) fn new(home: Option<IoScheduler>, replay: Replay<T>, on_panic: Option<PanicHook>) -> Self {
        Self {
            closed: AtomicBool::new(false),
            keeps_early: AtomicBool::new(replay.is_early()),
            stale: AtomicBool::new(false),
            room: Condvar::new(),
            home,
            on_panic,
            merge: None,
            unheard: None,
            lost: AtomicU64::new(0),
            state: Mutex::new(State::new(replay)),
        }
    }

    /// Ignores poisoning: nothing can panic while the lock is held.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State<T, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `event` may still come; notes that nothing may follow a terminal one. Only under the lock.
    fn admits(&self, event: &Event<T, E>) -> bool {
        let admits = !self.closed.load(Ordering::Relaxed);
        if matches!(event, Event::Terminal(_)) {
            self.closed.store(true, Ordering::Release);
        }
        admits
    }

    /// Nobody emits, and the next item goes to the present observers, and nowhere else.
    fn is_quiet(&self, state: &State<T, E>) -> bool {
        !state.emitting
            && !self.has_work(state)
            && !self.closed.load(Ordering::Relaxed)
            && !state.replay.notes(state.observers.is_empty())
    }

    fn has_work(&self, state: &State<T, E>) -> bool {
        // Checked twice for each item: one branch for all of them.
        let waiting =
            state.inbox.len() | state.joining.len() | state.waiting | state.tasks.len() | state.creditors.len();
        waiting > 0 || self.stale.load(Ordering::Relaxed)
    }
}

/// Events come in.
impl<T: Clone + Send + 'static, E: Clone + Send + Sync + 'static> Core<T, E> {
    /// Delivers `event` once this thread has left all callbacks.
    pub(crate) fn push_later(self: &Arc<Self>, event: Event<T, E>) {
        if self.enqueue(event, None) == UpTo::Caller {
            callback::later(self.clone());
        }
    }

    /// As [`emit`](Self::emit). The usual case, an item and nothing else to do, skips the moves and the checks of
    /// [`deliver`](Self::deliver), which take half as long again as all of this.
    pub(crate) fn emit_item(self: &Arc<Self>, item: T) {
        self.emit_with(self.lock(), item);
    }

    fn emit_with<'a>(self: &'a Arc<Self>, mut state: MutexGuard<'a, State<T, E>>, item: T) {
        // The core itself, since it is read many times: not through the `Arc` each time.
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
                _ = self.deliver(state, None);
            }
        });
    }

    /// As [`emit_item`](Self::emit_item), for [`SerializedSubject::offer`](crate::SerializedSubject::offer).
    pub(crate) fn offer(self: &Arc<Self>, item: T) -> Option<T> {
        let mut state = self.lock();
        let nobody = state.observers.is_empty() && !state.emitting && !self.has_work(&state);
        if !nobody || self.closed.load(Ordering::Relaxed) {
            self.emit_with(state, item);
            return None;
        }
        callback::run(|| {
            let noted = state.replay.note(item, true);
            drop(state);
            discard(noted.dropped);
            noted.item
        })
    }

    /// Delivers `event` now, or leaves it to the thread that is emitting.
    pub(crate) fn emit<'a>(self: &'a Arc<Self>, mut state: MutexGuard<'a, State<T, E>>, event: Event<T, E>) {
        if state.emitting && !callback::is_inside() {
            // A callback must not wait: the thread that emits may be waiting for it to return.
            state = self.wait_for_room(state);
        }
        if !self.admits(&event) {
            // Not left to the end of the scope, where the event would be dropped before the lock is released.
            drop(state);
            return self.discard_event(event);
        }
        if !state.emitting && state.inbox.is_empty() {
            return callback::run(|| _ = self.deliver(state, Some(event)));
        }
        let may_deliver = !state.emitting && !callback::is_turn_over();
        if state.is_full() && !may_deliver && matches!(event, Event::Next(_)) {
            drop(state);
            return self.lose(event);
        }
        let merged = self.put(&mut state, event);
        if state.emitting {
            drop(state);
        } else {
            callback::run(|| _ = self.deliver(state, None));
        }
        discard(merged);
    }

    /// Puts an event into the inbox, or merges it into one that waits there. A merged event is returned, to be dropped
    /// outside the lock.
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

    /// Queues `event`, and a mark behind it.
    pub(crate) fn enqueue(&self, event: Event<T, E>, mark: Option<oneshot::Sender<()>>) -> UpTo {
        let mut state = self.lock();
        let is_admitted = self.admits(&event);
        let is_full = state.is_full() && matches!(event, Event::Next(_));
        let has_place = is_admitted && !is_full;
        let rest = if has_place { self.put(&mut state, event) } else { Some(event) };
        if has_place {
            state.inbox.extend(mark.map(Event::Mark));
        }
        // Also when another thread emits and is far behind: the caller cannot deliver then, but comes into debt.
        let is_callers = !state.inbox.is_empty() && (!state.emitting || state.inbox.len() > debts::CREDIT);
        drop(state);
        match rest {
            Some(merged) if has_place => discard(merged),
            Some(event) if is_admitted => self.lose(event),
            Some(event) => self.discard_event(event),
            None => {}
        }
        if is_callers { UpTo::Caller } else { UpTo::Others }
    }

    /// Queues a mark behind the waiting events, if there are any; otherwise drops it, which counts as passed.
    pub(crate) fn enqueue_mark(&self, mark: oneshot::Sender<()>) -> UpTo {
        let mut state = self.lock();
        let is_over = !state.emitting && state.inbox.is_empty();
        if !is_over {
            state.inbox.push_back(Event::Mark(mark));
        }
        if state.emitting || is_over { UpTo::Others } else { UpTo::Caller }
    }

    /// Waits until the inbox is no longer crowded or nobody emits, on a thread that may wait.
    fn wait_for_room<'a>(&'a self, mut state: MutexGuard<'a, State<T, E>>) -> MutexGuard<'a, State<T, E>> {
        while state.emitting && state.inbox.len() >= INBOX_CROWD && callback::may_wait() {
            state.waiting += 1;
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        state
    }
}

/// The emission loop.
impl<T: Clone + Send + 'static, E: Clone + Send + Sync + 'static> Core<T, E> {
    /// Delivers `event`, then the inbox, until nothing is left or this thread's turn is over. Only while nobody else is
    /// emitting.
    fn deliver<'a>(
        self: &'a Arc<Self>,
        mut state: MutexGuard<'a, State<T, E>>,
        mut event: Option<Event<T, E>>,
    ) -> Rest {
        state.emitting = true;
        let mut observers = take(&mut state.observers);
        loop {
            state = self.let_in(state, &mut observers);
            let Some(turn) = self.next_turn(&mut state, event.take(), &observers) else {
                state.observers = observers;
                return self.rest(state);
            };
            drop(state);
            self.perform(turn, &mut observers);
            state = self.lock();
        }
    }

    /// Picks, under the lock, the next event: `event` if there is one, otherwise the first in the inbox.
    fn next_turn(
        &self,
        state: &mut State<T, E>,
        mut event: Option<Event<T, E>>,
        observers: &[Slot<T, E>],
    ) -> Option<Turn<T, E>> {
        if !state.joining.is_empty() {
            // The joining observers are to hear it, too: in another turn.
            event.take().into_iter().for_each(|event| state.inbox.push_front(event));
        }
        let event = event.or_else(|| state.pop());
        let is_stale = self.stale.load(Ordering::Relaxed);
        if event.is_none() && !is_stale {
            return None;
        }
        self.stale.store(false, Ordering::Relaxed);
        if state.waiting > 0 {
            self.room.notify_all();
        }
        let (event, forgotten) = state.note(event, !observers.iter().any(Slot::is_open));
        Some(Turn { event, forgotten, is_stale, creditors: state.count_delivery() })
    }

    /// Calls the observers, outside the lock.
    fn perform(&self, turn: Turn<T, E>, observers: &mut Vec<Slot<T, E>>) {
        let Turn { event, forgotten, is_stale, creditors } = turn;
        creditors.into_iter().for_each(callback::wake);
        discard(forgotten);
        if is_stale {
            self.sweep(observers);
        }
        // Each call of an observer is isolated by itself. This isolation is for the destructors of an item and of an error.
        callback::isolate("a destructor", || match event {
            Some(Event::Next(item)) => self.emit_to(observers, item),
            Some(Event::Terminal(terminal)) => observers.drain(..).for_each(|slot| self.terminate(slot, &terminal)),
            Some(Event::Mark(passed)) => {
                drop(passed);
                callback::spend(callback::SHARE);
            }
            None => {}
        });
    }

    /// Stops emitting: everything is delivered, or callbacks have deferred something that comes first, or the turn of this
    /// thread is over and another one goes on.
    fn rest<'a>(self: &'a Arc<Self>, mut state: MutexGuard<'a, State<T, E>>) -> Rest {
        state.emitting = false;
        let mut tasks = take(&mut state.creditors);
        // Everything before these marks is delivered, whatever this thread still has to do.
        let passed = state.take_passed();
        if state.is_idle() {
            tasks.append(&mut state.tasks);
            let burst = state.take_burst();
            drop(state);
            drop((burst, passed));
            tasks.into_iter().for_each(callback::wake);
            return Rest::Little;
        }
        if state.waiting > 0 {
            self.room.notify_all();
        }
        let is_over = callback::is_turn_over();
        let place =
            is_over.then(|| runtime::place(self.home.as_ref())).filter(|place| state.note_asked(*place) == Asked::Now);
        drop(state);
        drop(passed);
        tasks.into_iter().for_each(callback::wake);
        if let Some(place) = place {
            runtime::hand_over(self.clone(), place, self.home.as_ref());
        }
        if is_over {
            return Rest::Much;
        }
        callback::put_back(self.clone());
        Rest::Little
    }

    /// Makes the home thread deliver the inbox.
    pub(crate) fn wake_home(self: &Arc<Self>) {
        let home = self.home.as_ref().filter(|home| callback::is_inside() || !home.is_current());
        let Some(home) = home else { return callback::run(|| _ = self.clone().drain()) };
        let asked = self.lock().note_asked(Place::Home);
        if asked == Asked::Now {
            runtime::deliver_on(home, self.clone());
        }
    }
}

impl<T: Clone + Send + 'static, E: Clone + Send + Sync + 'static> Drain for Core<T, E> {
    fn drain(self: Arc<Self>) -> Rest {
        let state = self.lock();
        if !state.emitting {
            return self.deliver(state, None);
        }
        let (is_crowded, is_behind) = (state.inbox.len() >= INBOX_CROWD, state.is_behind());
        drop(state);
        if is_crowded {
            // The callbacks of this thread are over: it may be faster than the observers.
            callback::wait_outside(self);
        }
        if is_behind { Rest::Much } else { Rest::Little }
    }

    fn watch(&self, cx: &mut task::Context<'_>) -> Option<u64> {
        // Its `clone` may be user code: not under the lock.
        let task = cx.waker().clone();
        let mut state = self.lock();
        if !state.is_behind() {
            return None;
        }
        state.creditors.push(task);
        Some(state.delivered)
    }

    fn note_stuck(&self, delivered: u64) {
        let mut state = self.lock();
        if state.delivered == delivered {
            state.stuck_at = Some(delivered);
        }
    }

    fn unwatch(&self, task: &Waker) {
        let mut state = self.lock();
        let at = state.creditors.iter().position(|creditor| creditor.will_wake(task));
        let creditor = at.map(|at| state.creditors.swap_remove(at));
        // Its destructor may be user code: not under the lock.
        drop(state);
        drop(creditor);
    }
}

impl<T: Clone + Send + 'static, E: Clone + Send + Sync + 'static> Room for Core<T, E> {
    fn wait(self: Arc<Self>) {
        let state = self.wait_for_room(self.lock());
        if !state.emitting {
            _ = self.deliver(state, None);
        }
    }
}

impl<T: Clone + Send + 'static, E: Clone + Send + Sync + 'static> Deliver for Core<T, E> {
    fn is_done_at(&self, place: Place) -> bool {
        let mut state = self.lock();
        // Even when another thread is emitting: an entry left in `asked` would keep the next delivery from being asked for.
        let is_done = state.emitting || state.is_idle();
        if is_done {
            state.asked.retain(|asked| *asked != place);
        }
        is_done
    }

    fn is_at_end(&self) -> bool {
        let state = self.lock();
        let is_near = (1..=callback::SHARE).contains(&state.inbox.len());
        let ends_soon = is_near && self.closed.load(Ordering::Relaxed);
        ends_soon || matches!(state.inbox.front(), Some(Event::Terminal(_) | Event::Mark(_)))
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
