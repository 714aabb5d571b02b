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
//! How events come in is in [`pushing`](super::pushing), how observers do in [`joining`](super::joining), and how they are called in
//! [`delivery`](super::delivery).

use std::{
    mem::take,
    sync::{Arc, PoisonError, atomic::AtomicU64},
    task::{self, Waker},
};

use crate::{
    runtime::{
        self, Deliver, IoScheduler, Place,
        callback::{self, Drain, Rest},
    },
    subject::{
        delivery::{PanicHook, discard, discard_all},
        replay::Replay,
        state::{Event, INBOX_CROWD, Slot, State},
        token::{Held, Token},
        waits::Asked,
    },
    sync::{AtomicBool, AtomicUsize, Condvar, Mutex, MutexGuard, Ordering},
};

/// The observers, held by the thread that emits.
pub(crate) type Observers<'a, T, E> = Held<'a, Vec<Slot<T, E>>>;

/// Merges an item into one that waits. Returns whether there is such a one.
type MergeWaiting<T, E> = fn(&mut State<T, E>, &T) -> bool;

pub(crate) struct Core<T, E> {
    state: Mutex<State<T, E>>,
    /// Its holder emits.
    pub(crate) token: Token<Vec<Slot<T, E>>>,
    /// A terminal event was accepted: nothing may follow it. Changed under the lock, and read without it by every observer
    /// that feeds this subject, after each item.
    pub(crate) closed: AtomicBool,
    /// Items are kept for a first observer. As `closed`: read by every connection of a server for every message.
    pub(crate) keeps_early: AtomicBool,
    /// The items that nobody hears are kept by another subject.
    pub(crate) keeps_unheard: bool,
    /// An observer unsubscribed while another thread emitted. Changed under the lock, and read without it before each
    /// observer's turn: one flag for all of them, since looking at each one's own flag would cost one memory access per
    /// observer.
    pub(crate) stale: AtomicBool,
    /// Signalled when the inbox has room again.
    pub(crate) room: Condvar,
    /// Where backlogs and posted items are delivered; `None` in a user's own subject.
    home: Option<IoScheduler>,
    pub(crate) on_panic: Option<PanicHook>,
    pub(crate) merge: Option<MergeWaiting<T, E>>,
    /// Counts the items that reached no observer.
    pub(crate) unheard: Option<Arc<AtomicU64>>,
    /// See [`Backlog::inflated`](super::Backlog::inflated).
    pub(crate) inflated: AtomicUsize,
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
            token: Token::new(Vec::new(), replay.notes_all()),
            keeps_unheard: replay.is_elsewhere(),
            closed: AtomicBool::new(false),
            keeps_early: AtomicBool::new(replay.is_early()),
            stale: AtomicBool::new(false),
            room: Condvar::new(),
            home,
            on_panic,
            merge: None,
            unheard: None,
            inflated: AtomicUsize::new(0),
            state: Mutex::new(State::new(replay)),
        }
    }

    /// Ignores poisoning: nothing can panic while the lock is held.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State<T, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `event` may still come; notes that nothing may follow a terminal one. Only under the lock.
    pub(crate) fn admits(&self, event: &Event<T, E>) -> bool {
        let admits = !self.closed.load(Ordering::Relaxed);
        if matches!(event, Event::Terminal(_)) {
            self.closed.store(true, Ordering::Release);
        }
        admits
    }

    /// Lets items take the short way again, if they may. Only for the holder of the token, under the lock.
    pub(crate) fn quiet_down(&self, state: &State<T, E>) {
        if !self.has_work(state) && !state.replay.notes_all() {
            self.token.end_call();
        }
    }

    pub(crate) fn has_work(&self, state: &State<T, E>) -> bool {
        !state.is_idle() || state.waits.any() || self.stale.load(Ordering::Relaxed)
    }
}

/// The emission loop.
impl<T: Clone + Send + 'static, E: Clone + Send + Sync + 'static> Core<T, E> {
    /// Delivers `event`, then the inbox, until nothing is left or this thread's turn is over.
    pub(crate) fn deliver<'a>(
        self: &'a Arc<Self>,
        mut state: MutexGuard<'a, State<T, E>>,
        mut observers: Observers<'a, T, E>,
        mut event: Option<Event<T, E>>,
    ) -> Rest {
        loop {
            state = self.let_in(state, &mut observers);
            let Some(turn) = self.next_turn(&mut state, event.take(), &observers) else {
                return self.rest(state, observers);
            };
            drop(state);
            self.perform(turn, &mut observers);
            state = self.lock();
        }
    }

    /// As [`deliver`](Self::deliver), of `event` alone, where nothing waits before it. What comes behind it is left to a task at
    /// home.
    pub(crate) fn deliver_one<'a>(
        self: &'a Arc<Self>,
        mut state: MutexGuard<'a, State<T, E>>,
        mut observers: Observers<'a, T, E>,
        event: Event<T, E>,
    ) {
        let turn = self.next_turn(&mut state, Some(event), &observers);
        drop(state);
        if let Some(turn) = turn {
            self.perform(turn, &mut observers);
        }
        let mut state = self.lock();
        // Those that have left meanwhile are this thread's to drop: it had the token.
        while self.stale.swap(false, Ordering::Relaxed) {
            drop(state);
            self.sweep(&mut observers);
            state = self.lock();
        }
        if state.is_idle() {
            self.rest(state, observers);
            return;
        }
        drop(observers);
        drop(state);
        self.wake_home();
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
            if let Some(event) = event.take() {
                state.inbox.push_front(event);
            }
        } else if event.is_none() {
            event = state.pop();
        }
        let is_stale = self.stale.load(Ordering::Relaxed);
        if event.is_none() && !is_stale {
            return None;
        }
        self.stale.store(false, Ordering::Relaxed);
        if state.waits.any_push() {
            self.room.notify_all();
        }
        let (event, forgotten) = state.note(event, || !observers.iter().any(Slot::is_open));
        Some(Turn { event, forgotten, is_stale, creditors: state.count_delivery() })
    }

    /// Calls the observers, outside the lock.
    fn perform(&self, turn: Turn<T, E>, observers: &mut Vec<Slot<T, E>>) {
        let Turn { event, forgotten, is_stale, creditors } = turn;
        creditors.into_iter().for_each(callback::wake);
        discard_all(forgotten);
        if is_stale {
            self.sweep(observers);
        }
        // Each call of an observer is isolated by itself. This isolation is for the destructors of an item and of an error.
        callback::isolate("a destructor", || match event {
            Some(Event::Next(item)) => self.emit_to(observers, item),
            Some(Event::Terminal(terminal)) => {
                for slot in take(observers) {
                    self.terminate(slot, &terminal);
                }
            }
            Some(Event::Mark(passed)) => {
                drop(passed);
                callback::spend(callback::SHARE);
            }
            None => {}
        });
    }

    /// Stops emitting: everything is delivered, or callbacks have deferred something that comes first, or the turn of this
    /// thread is over and another one goes on.
    fn rest<'a>(self: &'a Arc<Self>, mut state: MutexGuard<'a, State<T, E>>, observers: Observers<'a, T, E>) -> Rest {
        let mut tasks = state.waits.take_creditors();
        // Everything before these marks is delivered, whatever this thread still has to do.
        let passed = state.take_passed();
        if state.is_idle() {
            tasks.append(&mut state.waits.take_tasks());
            let burst = state.take_burst();
            self.quiet_down(&state);
            drop(observers);
            drop(state);
            drop((burst, passed));
            tasks.into_iter().for_each(callback::wake);
            return Rest::Little;
        }
        if state.waits.any_push() {
            self.room.notify_all();
        }
        let is_over = callback::is_turn_over();
        let mut asked = None;
        if is_over {
            let place = runtime::place(self.home.as_ref());
            asked = (state.waits.note_asked(place) == Asked::Now).then_some(place);
        }
        drop(observers);
        drop(state);
        drop(passed);
        tasks.into_iter().for_each(callback::wake);
        if let Some(place) = asked {
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
        let place = runtime::place(Some(home));
        let asked = self.lock().waits.note_asked(place);
        if asked == Asked::Now {
            runtime::deliver_on(home, self.clone(), place);
        }
    }
}

impl<T: Clone + Send + 'static, E: Clone + Send + Sync + 'static> Drain for Core<T, E> {
    fn drain(self: Arc<Self>) -> Rest {
        let state = self.lock();
        if let Some(observers) = self.token.try_hold() {
            return self.deliver(state, observers, None);
        }
        let (is_crowded, is_far) = (state.inbox.len() >= INBOX_CROWD, state.is_far_behind());
        drop(state);
        if is_crowded {
            // The callbacks of this thread are over: it may be faster than the observers.
            callback::wait_outside(self);
        }
        if is_far { Rest::Much } else { Rest::Little }
    }

    fn watch(&self, cx: &mut task::Context<'_>) -> Option<u64> {
        // Its `clone` may be user code: not under the lock.
        let task = cx.waker().clone();
        let mut state = self.lock();
        if !state.is_far_behind() || self.token.try_hold().is_some() {
            return None;
        }
        state.waits.noted().creditors.push(task);
        Some(state.delivered)
    }

    fn note_stuck(&self, delivered: u64) {
        let mut state = self.lock();
        if state.delivered == delivered {
            state.waits.noted().stuck_at = Some(delivered);
        }
    }

    fn unwatch(&self, task: &Waker) {
        let mut state = self.lock();
        let creditor = state.waits.take_creditor(task);
        // Its destructor may be user code: not under the lock.
        drop(state);
        drop(creditor);
    }
}

impl<T: Clone + Send + 'static, E: Clone + Send + Sync + 'static> Deliver for Core<T, E> {
    fn is_done_at(&self, place: Place) -> bool {
        let mut state = self.lock();
        // Even when another thread is emitting: an entry left in `asked` would keep the next delivery from being asked for.
        let is_done = state.is_idle() || self.token.try_hold().is_none();
        if is_done {
            state.waits.note_done(place);
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
        let observers = self.token.try_hold().map(|mut observers| take(&mut *observers));
        let mut state = self.lock();
        let (joining, inbox) = (take(&mut state.joining), take(&mut state.inbox));
        let (early, replay) = state.replay.take();
        let terminal = state.terminal.take();
        drop(state);
        for slot in observers.unwrap_or_default() {
            self.dismiss(slot);
        }
        for joining in joining {
            self.dismiss_joining(joining);
        }
        discard_all(inbox);
        discard_all(early);
        discard(replay);
        discard(terminal);
    }
}
