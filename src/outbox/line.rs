//! [`Line`]: those who wait for room in an outbox, in the order in which they came.
//!
//! Whenever the queue has become shorter, the first in the line is called: its waker runs behind the lock. It comes back,
//! takes its place and leaves, and the next one is called if there is room for more. One that leaves without a place does the
//! same, so that no call is lost with it.
//!
//! A future that is called is polled or dropped. A sink is polled when its owner has the next item, perhaps never: so from its
//! call on those behind it may pass, and are called with it. It keeps its place, in case there is no room for it when it comes.
//!
//! One whose key a newer message has, that came in before it, is called too: its own message is replaced before it has a place.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::{Flush, Key, Outbox, OutboxFrame, Refusal, effects::News, queue::State};

/// Those who wait, the first to come first. There is one only while somebody waits.
#[derive(Default)]
pub(super) struct Line {
    waiting: VecDeque<Waiting>,
    last_number: u64,
}

struct Waiting {
    number: u64,
    /// `None` once it was called.
    waker: Option<Waker>,
    /// Whether those behind it wait for it even when it was called.
    holds: bool,
    key: Option<Key>,
    /// A newer message with its key has come in.
    is_outdated: bool,
}

impl Waiting {
    /// Whether those behind it have to wait.
    fn is_in_the_way(&self) -> bool {
        self.holds || self.waker.is_some()
    }
}

impl Line {
    fn position(&self, number: u64) -> Option<usize> {
        self.waiting.binary_search_by_key(&number, |waiting| waiting.number).ok()
    }

    /// Lets one wait, with a place at the end if it has none yet. Returns its number, and the waker that it had.
    fn wait(&mut self, turn: &Turn, key: Option<Key>, waker: Waker) -> (u64, Option<Waker>) {
        if let Some(at) = turn.number.and_then(|number| self.position(number)) {
            let waiting = &mut self.waiting[at];
            waiting.key = key;
            return (waiting.number, waiting.waker.replace(waker));
        }
        self.last_number += 1;
        let (number, holds) = (self.last_number, turn.holds);
        self.waiting.push_back(Waiting { number, waker: Some(waker), holds, key, is_outdated: false });
        (number, None)
    }

    fn leave(&mut self, number: u64) -> Option<Waker> {
        let at = self.position(number)?;
        self.waiting.remove(at)?.waker
    }
}

impl State {
    /// Whether nobody is in the way of the one with this number in the line, or of one who is not in it.
    fn is_turn_of(&self, number: Option<u64>) -> bool {
        let line = self.rare.as_ref().and_then(|rare| rare.line.as_ref());
        let first = line.and_then(|line| line.waiting.iter().find(|waiting| waiting.is_in_the_way()));
        first.is_none_or(|first| number.is_some_and(|number| number <= first.number))
    }

    fn leave_line(&mut self, number: Option<u64>) -> Option<Waker> {
        let line = self.rare.as_mut()?.line.as_mut()?;
        let waker = number.and_then(|number| line.leave(number));
        if line.waiting.is_empty() {
            self.rare().line = None;
        }
        self.call_first();
        waker
    }

    /// Calls the first in the line if there is room for anything, and those behind it up to one that holds.
    #[cold]
    pub(super) fn call_first(&mut self) {
        if !self.has_room_at_all() {
            return;
        }
        let Some(rare) = &mut self.rare else { return };
        for waiting in rare.line.iter_mut().flat_map(|line| &mut line.waiting) {
            rare.spent.tell_all(waiting.waker.take().map(News::Room));
            if waiting.holds {
                break;
            }
        }
    }

    /// Notes that a message with this key has come in, which is newer than those of all who came before this number, or of all.
    pub(super) fn outdate(&mut self, key: Key, before: Option<u64>) {
        let Some(rare) = &mut self.rare else { return };
        let waiting = rare.line.iter_mut().flat_map(|line| &mut line.waiting);
        let older = waiting.take_while(|waiting| before.is_none_or(|before| waiting.number < before));
        for waiting in older.filter(|waiting| waiting.key == Some(key)) {
            waiting.is_outdated = true;
            rare.spent.tell_all(waiting.waker.take().map(News::Room));
        }
    }

    fn is_outdated(&self, number: Option<u64>) -> bool {
        let line = self.rare.as_ref().and_then(|rare| rare.line.as_ref());
        let waiting = line.zip(number).and_then(|(line, number)| line.waiting.get(line.position(number)?));
        waiting.is_some_and(|waiting| waiting.is_outdated)
    }

    /// Calls all, since nobody will get a place any more.
    pub(super) fn call_all(&mut self) {
        let Some(rare) = &mut self.rare else { return };
        let waiting = rare.line.iter_mut().flat_map(|line| &mut line.waiting);
        for waker in waiting.filter_map(|waiting| waiting.waker.take()) {
            rare.spent.tell(News::Room(waker));
        }
    }
}

/// The turn of one who waits for room. Dropping it gives the turn to the next.
pub(crate) struct Turn {
    outbox: Outbox,
    /// Its number in the line, while it waits.
    number: Option<u64>,
    /// Whether those behind it wait for it even when it was called.
    holds: bool,
}

impl Turn {
    /// Of a future, which is polled or dropped once it was called.
    pub(crate) fn of_future(outbox: &Outbox) -> Self {
        Self { outbox: outbox.clone(), number: None, holds: true }
    }

    pub(crate) fn of_sink(outbox: &Outbox) -> Self {
        Self { outbox: outbox.clone(), number: None, holds: false }
    }

    /// Queues the message once there is room for it and all who came before have theirs.
    pub(crate) fn poll_push(
        &mut self,
        message: &mut Option<OutboxFrame>,
        key: Option<Key>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Refusal>> {
        self.poll(message, key, cx, |state, message| state.try_append_keyed(message, key, None))
    }

    /// As [`poll_push`](Self::poll_push). `flush` then waits for the message too.
    pub(crate) fn poll_push_flushed(
        &mut self,
        message: &mut Option<OutboxFrame>,
        key: Option<Key>,
        flush: &mut Option<Arc<Flush>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Refusal>> {
        self.poll(message, key, cx, |state, message| {
            let is_in = state.try_append_keyed(message, key, None);
            if is_in {
                state.note_queued_by(flush);
            }
            is_in
        })
    }

    /// Ready once there is room for some message and all who came before have theirs. The room is not kept.
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        self.poll(&mut None, None, cx, |state, _| state.has_room_at_all())
    }

    /// Tries once, and then with a waker: that is cloned outside the lock, since it is user code.
    fn poll(
        &mut self,
        message: &mut Option<OutboxFrame>,
        key: Option<Key>,
        cx: &mut Context<'_>,
        mut act: impl FnMut(&mut State, &mut Option<OutboxFrame>) -> bool,
    ) -> Poll<Result<(), Refusal>> {
        let first = self.attempt(message, key, None, &mut act);
        if first.is_ready() { first } else { self.attempt(message, key, Some(cx.waker().clone()), &mut act) }
    }

    fn attempt(
        &mut self,
        message: &mut Option<OutboxFrame>,
        key: Option<Key>,
        waker: Option<Waker>,
        act: &mut impl FnMut(&mut State, &mut Option<OutboxFrame>) -> bool,
    ) -> Poll<Result<(), Refusal>> {
        let outbox = self.outbox.clone();
        let (answer, before) = outbox.change(|state| {
            if state.is_closing() {
                return (Poll::Ready(Err(Refusal::Closed)), state.leave_line(self.number.take()));
            }
            if state.is_outdated(self.number) {
                message.take().into_iter().for_each(|message| state.replace_waiting(message));
                return (Poll::Ready(Ok(())), state.leave_line(self.number.take()));
            }
            // One that takes the place of another needs no room, and so no turn.
            let is_turn = state.is_turn_of(self.number) || key.is_some_and(|key| state.has_waiting(key));
            if is_turn && act(state, message) {
                key.into_iter().for_each(|key| state.outdate(key, self.number));
                return (Poll::Ready(Ok(())), state.leave_line(self.number.take()));
            }
            let Some(waker) = waker else { return (Poll::Pending, None) };
            let (number, before) = state.rare().line.get_or_insert_default().wait(self, key, waker);
            self.number = Some(number);
            (Poll::Pending, before)
        });
        drop(before);
        answer
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(number) = self.number.take() {
            let waker = self.outbox.change(|state| state.leave_line(Some(number)));
            drop(waker);
        }
    }
}
