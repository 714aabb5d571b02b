//! How events come in: they are delivered at once, or wait in the inbox.

use std::sync::{Arc, PoisonError};

use tokio::sync::oneshot;

use crate::{
    runtime::{
        callback::{self, Room},
        debts,
    },
    subject::{
        core::{Core, Observers},
        delivery::{discard, discard_all},
        state::{Event, INBOX_BOUND, INBOX_CROWD, State, Terminal},
    },
    sync::{MutexGuard, Ordering},
};

/// The thread that has to arrange the delivery of the inbox.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpTo {
    /// The caller of the function that returns this. It delivers, or waits for the thread that does.
    Caller,
    /// The thread that is emitting.
    Others,
}

/// The fate of an event that comes to the inbox. Its rest is [dropped](Core::finish) outside the lock.
enum Put<T, E> {
    Waiting,
    /// Into one that waits.
    Merged(Event<T, E>),
    /// The inbox is full.
    Refused(Event<T, E>),
    /// It comes after the terminal event.
    Late(Event<T, E>),
}

/// At once, if nobody else emits.
impl<T: Clone + Send + 'static, E: Clone + Send + Sync + 'static> Core<T, E> {
    /// As [`emit`](Self::emit). The usual case, an item and nothing else to do, takes no lock.
    pub(crate) fn emit_item(self: &Arc<Self>, item: T) {
        match self.token.try_hold_quiet() {
            Some(observers) if !observers.is_empty() || !self.keeps_unheard => self.emit_quietly(observers, item),
            None if self.keeps_early.load(Ordering::Relaxed) => self.emit_early(item),
            held => self.emit_holding(held, self.lock(), Event::Next(item)),
        }
    }

    /// Emits an item where there may not have been an observer yet: then it is only kept.
    fn emit_early(self: &Arc<Self>, item: T) {
        let mut state = self.lock();
        if !state.replay.is_early() || self.has_work(&state) || self.closed.load(Ordering::Relaxed) {
            return self.emit_holding(None, state, Event::Next(item));
        }
        let noted = state.replay.note(item, true);
        drop(state);
        if !noted.dropped.is_empty() {
            callback::run(|| discard_all(noted.dropped));
        }
    }

    /// As [`emit_item`](Self::emit_item), for [`SerializedSubject::offer`](crate::SerializedSubject::offer).
    pub(crate) fn offer(self: &Arc<Self>, item: T) -> Option<T> {
        match self.token.try_hold_quiet() {
            Some(observers) if !observers.is_empty() => {
                self.emit_quietly(observers, item);
                None
            }
            held => self.offer_holding(held, item),
        }
    }

    /// Delivers an item if nothing waits before it and nobody emits; gives it back otherwise.
    pub(crate) fn emit_first(self: &Arc<Self>, item: T) -> Option<T> {
        let state = self.lock();
        if self.has_work(&state) || self.closed.load(Ordering::Relaxed) {
            return Some(item);
        }
        let Some(observers) = self.token.try_hold() else { return Some(item) };
        callback::run(|| self.deliver_one(state, observers, Event::Next(item)));
        None
    }

    fn emit_quietly<'a>(self: &'a Arc<Self>, mut observers: Observers<'a, T, E>, item: T) {
        // The core itself, since it is read many times: not through the `Arc` each time.
        let core = &**self;
        callback::run(|| {
            core.emit_to(&mut observers, item);
            drop(observers);
            if core.token.is_called() {
                self.answer_call();
            }
        });
    }

    /// Does what others left while this thread held the token, unless another one has it by now.
    #[cold]
    fn answer_call(self: &Arc<Self>) {
        let state = self.lock();
        if let Some(observers) = self.token.try_hold() {
            _ = self.deliver(state, observers, None);
        }
    }

    fn offer_holding<'a>(self: &'a Arc<Self>, held: Option<Observers<'a, T, E>>, item: T) -> Option<T> {
        let mut state = self.lock();
        let held = if held.is_some() { held } else { self.token.try_hold() };
        let nobody = held.as_ref().is_some_and(|observers| observers.is_empty()) && !self.has_work(&state);
        if !nobody || self.closed.load(Ordering::Relaxed) {
            self.emit_holding(held, state, Event::Next(item));
            return None;
        }
        drop(held);
        callback::run(|| {
            let noted = state.replay.note(item, true);
            drop(state);
            discard_all(noted.dropped);
            noted.item
        })
    }

    /// Delivers `event` now, or leaves it to the thread that is emitting.
    pub(crate) fn emit(self: &Arc<Self>, event: Event<T, E>) {
        self.emit_holding(None, self.lock(), event);
    }

    /// As [`emit`](Self::emit), by a thread that may hold the token already.
    fn emit_holding<'a>(
        self: &'a Arc<Self>,
        mut held: Option<Observers<'a, T, E>>,
        mut state: MutexGuard<'a, State<T, E>>,
        event: Event<T, E>,
    ) {
        if held.is_none() && !callback::is_inside() {
            // A callback must not wait: the thread that emits may be waiting for it to return.
            state = self.wait_for_room(state);
        }
        if held.is_none() {
            held = self.token.try_hold();
        }
        let Some(observers) = held else {
            let put = self.put(&mut state, event, INBOX_BOUND - 1);
            drop(state);
            return self.finish(put);
        };
        let (first, put) = if state.inbox.is_empty() && self.admits(&event) {
            (Some(event), Put::Waiting)
        } else {
            // What this thread delivers at once makes room.
            let bound = if callback::is_turn_over() { INBOX_BOUND } else { usize::MAX };
            (None, self.put(&mut state, event, bound))
        };
        // Also if nothing was put: others may have left something while this thread held the token.
        callback::run(|| _ = self.deliver(state, observers, first));
        self.finish(put);
    }
}

/// Later.
impl<T: Clone + Send + 'static, E: Clone + Send + Sync + 'static> Core<T, E> {
    /// Delivers `event` once this thread has left all callbacks.
    pub(crate) fn push_later(self: &Arc<Self>, event: Event<T, E>) {
        if self.enqueue(event, None) == UpTo::Caller {
            callback::later(self.clone());
        }
    }

    /// Puts an event into an inbox of fewer than `bound`, or merges it into one that waits there.
    fn put(&self, state: &mut State<T, E>, event: Event<T, E>, bound: usize) -> Put<T, E> {
        if !self.admits(&event) {
            return Put::Late(event);
        }
        if let Event::Next(later) = &event {
            if state.inbox.len() >= bound {
                return Put::Refused(event);
            }
            if self.merge.is_some_and(|merge| merge(state, later)) {
                return Put::Merged(event);
            }
        }
        self.token.call();
        state.inbox.push_back(event);
        Put::Waiting
    }

    /// Drops the rest of an event, outside the lock.
    fn finish(&self, put: Put<T, E>) {
        match put {
            Put::Waiting => {}
            Put::Merged(event) => discard(event),
            Put::Refused(event) => self.lose(event),
            Put::Late(event) => self.discard_event(event),
        }
    }

    /// Queues `event`, and a mark behind it.
    pub(crate) fn enqueue(&self, event: Event<T, E>, mark: Option<oneshot::Sender<()>>) -> UpTo {
        let mut state = self.lock();
        let is_emitting = self.token.try_hold().is_none();
        let put = self.put(&mut state, event, INBOX_BOUND - usize::from(is_emitting));
        if let Put::Waiting | Put::Merged(_) = put
            && let Some(mark) = mark
        {
            state.inbox.push_back(Event::Mark(mark));
        }
        // Also when another thread emits and is far behind: the caller cannot deliver then, but comes into debt.
        let is_callers = !state.inbox.is_empty() && (!is_emitting || state.inbox.len() > debts::CREDIT);
        drop(state);
        self.finish(put);
        if is_callers { UpTo::Caller } else { UpTo::Others }
    }

    /// Queues `item` and the end: nothing comes in between.
    pub(crate) fn enqueue_last(&self, item: T) {
        let mut state = self.lock();
        let item = self.put(&mut state, Event::Next(item), INBOX_BOUND);
        let end = self.put(&mut state, Event::Terminal(Terminal::Complete), INBOX_BOUND);
        drop(state);
        self.finish(item);
        self.finish(end);
    }

    /// Queues a mark behind the waiting events, if there are any, and returns when it is passed.
    pub(crate) fn enqueue_mark(&self) -> Option<(UpTo, oneshot::Receiver<()>)> {
        let mut state = self.lock();
        let is_emitting = self.token.try_hold().is_none();
        if !is_emitting && state.inbox.is_empty() {
            return None;
        }
        let (mark, passed) = oneshot::channel();
        state.inbox.push_back(Event::Mark(mark));
        Some((if is_emitting { UpTo::Others } else { UpTo::Caller }, passed))
    }

    /// Waits until the inbox is no longer crowded or nobody emits, on a thread that may wait.
    fn wait_for_room<'a>(&'a self, mut state: MutexGuard<'a, State<T, E>>) -> MutexGuard<'a, State<T, E>> {
        while state.inbox.len() >= INBOX_CROWD && callback::may_wait() && self.token.try_hold().is_none() {
            state.waits.noted().pushes += 1;
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waits.noted().pushes -= 1;
        }
        state
    }
}

impl<T: Clone + Send + 'static, E: Clone + Send + Sync + 'static> Room for Core<T, E> {
    fn wait(self: Arc<Self>) {
        let state = self.wait_for_room(self.lock());
        if let Some(observers) = self.token.try_hold() {
            _ = self.deliver(state, observers, None);
        }
    }
}
