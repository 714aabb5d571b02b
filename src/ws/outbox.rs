//! The bounded outbound queue of one connection, the only queue between a push and the socket.
//!
//! A message stays at the head of the queue until the operating system has taken its last byte, so a link that breaks
//! loses none: the next connection's driver finds it where it was.

use std::{
    collections::VecDeque,
    mem::take,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Waker},
    time::Duration,
};

use rxrust::observer::Observer;
use tokio::time::Instant;

use crate::{
    Frame, SendError,
    ws::stats::{DropReason, SendStats, Tally},
};

/// What a full outbox does with one more message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Ends the connection: an accepted one with close code 1013, a client with [`WsError::OutboxFull`](crate::WsError).
    Disconnect,
    /// Drops the oldest message of which nothing was written yet.
    DropOldest,
    /// Refuses the new message.
    DropLatest,
}

/// RFC 6455, section 7.4, as registered with IANA: the server is overloaded; come back later.
const TRY_AGAIN_LATER: u16 = 1013;

/// How long a peer that reads too slowly may take for what is on its way to it.
const OVERFLOW_GRACE: Duration = Duration::from_secs(1);

/// How much an outbox holds, and what it does when it is full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutboxBound {
    pub(crate) messages: usize,
    /// In bytes of payload.
    pub(crate) len: usize,
    pub(crate) overflow: Overflow,
}

/// A closing handshake to be made once the queue is written.
#[derive(Clone, Debug)]
pub(crate) struct Closing {
    pub(crate) code: u16,
    pub(crate) reason: Arc<str>,
    /// When waiting for the peer ends.
    pub(crate) deadline: Instant,
}

/// Why a message got no place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Full,
    Closed,
}

impl Refusal {
    /// The error that hands `item` back.
    pub(crate) fn of<I>(self, item: I) -> SendError<I> {
        match self {
            Self::Full => SendError::Full(item),
            Self::Closed => SendError::Closed(item),
        }
    }
}

/// A message on its way to an outbox, with the place for the outbox's answer.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) frame: Frame,
    pub(crate) receipt: Option<Receipt>,
}

/// Where the outboxes that a message was offered to leave their answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Receipt(Arc<Mutex<Option<Result<(), Refusal>>>>);

impl Receipt {
    /// The answer, if any outbox has given one: acceptance if at least one accepted.
    pub(crate) fn answer(&self) -> Option<Result<(), Refusal>> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, answer: Result<(), Refusal>) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *noted = Some(noted.map_or(answer, |before| before.or(answer)));
    }
}

/// A handle of one connection's outbound queue.
#[derive(Clone)]
pub(crate) struct Outbox {
    core: Arc<Core>,
}

struct Core {
    bound: OutboxBound,
    state: Mutex<State>,
    /// Called, outside of the lock, when drops have begun to wait for being reported.
    on_drop: Box<dyn Fn(&Outbox) + Send + Sync>,
}

struct State {
    queue: VecDeque<Frame>,
    /// How many at the head of the queue a driver is writing.
    taken: usize,
    /// How many at the head of the queue belong to this link alone.
    greetings: usize,
    stats: SendStats,
    /// Drops that no event has told of yet.
    unreported: VecDeque<(DropReason, Tally)>,
    closing: Option<Closing>,
    overflown: bool,
    /// The driver found nothing to take and wants to be woken by the next message.
    asleep: bool,
    /// The driver has to know at once, whatever it is doing.
    alarm: bool,
    waker: Option<Waker>,
}

/// What a driver got from an outbox.
pub(crate) struct Taken {
    /// The closing handshake that was asked for.
    pub(crate) closing: Option<Closing>,
    /// Nothing is left that was not taken.
    pub(crate) drained: bool,
}

impl Outbox {
    pub(crate) fn new(bound: OutboxBound, on_drop: impl Fn(&Outbox) + Send + Sync + 'static) -> Self {
        let state = State {
            queue: VecDeque::new(),
            taken: 0,
            greetings: 0,
            stats: SendStats::default(),
            unreported: VecDeque::new(),
            closing: None,
            overflown: false,
            asleep: false,
            alarm: false,
            waker: None,
        };
        Self { core: Arc::new(Core { bound, state: Mutex::new(state), on_drop: Box::new(on_drop) }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.core.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, then wakes the driver and tells of drops, both outside of the lock.
    fn change<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let reported = state.unreported.is_empty();
        let result = f(&mut state);
        let wake = take(&mut state.asleep) | take(&mut state.alarm);
        let waker = if wake { state.waker.clone() } else { None };
        let tell = reported && !state.unreported.is_empty();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        if tell {
            (self.core.on_drop)(self);
        }
        result
    }

    /// Queues a message, or says why not.
    pub(crate) fn push(&self, frame: Frame) -> Result<(), Refusal> {
        let bound = self.core.bound;
        self.change(|state| state.push(frame, bound))
    }

    /// Queues messages ahead of all others, for the link that begins now and for no other.
    pub(crate) fn greet(&self, frames: Vec<Frame>) {
        self.change(|state| {
            state.greetings = frames.len();
            for frame in frames.into_iter().rev() {
                state.stats.accepted += Tally::of(&frame);
                state.stats.queued += Tally::of(&frame);
                state.queue.push_front(frame);
            }
        });
    }

    /// Refuses everything from now on and has the closing handshake made after what is queued. The first call counts.
    pub(crate) fn close(&self, code: u16, reason: &str, within: Duration) {
        self.change(|state| state.close(code, reason, within));
    }

    /// Drops what no driver has taken.
    pub(crate) fn clear(&self) {
        self.change(|state| state.drop_untaken(DropReason::Cleared));
    }

    /// Ends the queue for good: what was not written is dropped and returned as a count.
    pub(crate) fn end(&self) -> Tally {
        self.change(|state| {
            state.close(1006, "", Duration::ZERO);
            state.taken = 0;
            let unsent = state.stats.queued;
            state.drop_untaken(DropReason::Closed);
            unsent
        })
    }

    /// Takes messages for a driver until `budget` bytes are reached; with nothing to take, has it woken by the next change.
    pub(crate) fn take(&self, cx: &Context<'_>, budget: usize, batch: &mut Vec<Frame>) -> Taken {
        let mut state = self.lock();
        let mut len = 0;
        while len < budget
            && let Some(frame) = state.queue.get(state.taken)
        {
            len += frame.len().max(1);
            batch.push(frame.clone());
            state.taken += 1;
        }
        let drained = state.taken == state.queue.len();
        // A driver that takes nothing because its socket is blocked is woken by the socket.
        state.asleep = batch.is_empty() && budget > 0;
        if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
        Taken { closing: state.closing.clone(), drained }
    }

    /// The driver is at work and looks here before it sleeps: nobody has to wake it.
    pub(crate) fn attend(&self) {
        self.lock().asleep = false;
    }

    /// The operating system has taken the last byte of the first `count` messages.
    pub(crate) fn written(&self, count: usize) {
        let mut state = self.lock();
        for _ in 0..count {
            let Some(frame) = state.queue.pop_front() else { break };
            state.taken = state.taken.saturating_sub(1);
            state.greetings = state.greetings.saturating_sub(1);
            state.stats.queued -= Tally::of(&frame);
            state.stats.written += Tally::of(&frame);
        }
    }

    /// The link broke: what it did not write whole waits for the next one, but for its greetings.
    pub(crate) fn link_lost(&self) {
        self.change(|state| {
            state.taken = 0;
            for _ in 0..take(&mut state.greetings) {
                if let Some(frame) = state.queue.pop_front() {
                    state.count_drop(&frame, DropReason::Greeting);
                }
            }
            state.waker = None;
        });
    }

    /// Tells of the drops that nobody has told of yet.
    pub(crate) fn report_drops(&self, tell: impl Fn(DropReason, Tally)) {
        let unreported = take(&mut self.lock().unreported);
        unreported.into_iter().for_each(|(reason, dropped)| tell(reason, dropped));
    }

    pub(crate) fn stats(&self) -> SendStats {
        self.lock().stats
    }

    pub(crate) fn closing(&self) -> Option<Closing> {
        self.lock().closing.clone()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().queue.is_empty()
    }

    /// Whether it was closed for being full, under [`Overflow::Disconnect`].
    pub(crate) fn has_overflown(&self) -> bool {
        self.lock().overflown
    }
}

impl State {
    fn push(&mut self, frame: Frame, bound: OutboxBound) -> Result<(), Refusal> {
        if self.closing.is_some() {
            return Err(Refusal::Closed);
        }
        let has_room = self.has_room(&frame, bound);
        self.stats.accepted += Tally::of(&frame);
        self.stats.queued += Tally::of(&frame);
        if has_room {
            self.queue.push_back(frame);
            return Ok(());
        }
        match bound.overflow {
            Overflow::DropLatest => {
                self.count_drop(&frame, DropReason::Overflow);
                Err(Refusal::Full)
            }
            Overflow::DropOldest => {
                self.queue.push_back(frame);
                self.make_room(bound)
            }
            Overflow::Disconnect => {
                self.queue.push_back(frame);
                self.drop_untaken(DropReason::Overflow);
                self.overflown = true;
                self.close(TRY_AGAIN_LATER, "too slow", OVERFLOW_GRACE);
                Err(Refusal::Full)
            }
        }
    }

    /// An empty queue takes one message of any length.
    fn has_room(&self, frame: &Frame, bound: OutboxBound) -> bool {
        let queued = self.stats.queued;
        queued.messages == 0
            || (queued.messages < bound.messages as u64 && queued.len + frame.len() as u64 <= bound.len as u64)
    }

    /// Drops the oldest messages that no driver has taken, the newest one too if nothing else helps.
    fn make_room(&mut self, bound: OutboxBound) -> Result<(), Refusal> {
        let newest = self.queue.len();
        let mut dropped = 0;
        while self.stats.queued.messages > bound.messages as u64 || self.stats.queued.len > bound.len as u64 {
            let Some(oldest) = self.queue.remove(self.taken) else { break };
            if self.taken < self.greetings {
                self.greetings -= 1;
            }
            self.count_drop(&oldest, DropReason::Overflow);
            dropped += 1;
        }
        if self.taken + dropped < newest { Ok(()) } else { Err(Refusal::Full) }
    }

    fn drop_untaken(&mut self, reason: DropReason) {
        for frame in self.queue.split_off(self.taken.min(self.queue.len())) {
            self.count_drop(&frame, reason);
        }
        self.greetings = self.greetings.min(self.queue.len());
    }

    fn count_drop(&mut self, frame: &Frame, reason: DropReason) {
        let tally = Tally::of(frame);
        self.stats.queued -= tally;
        self.stats.dropped.add(reason, tally);
        match self.unreported.back_mut() {
            Some((last, count)) if *last == reason => *count += tally,
            _ => self.unreported.push_back((reason, tally)),
        }
    }

    fn close(&mut self, code: u16, reason: &str, within: Duration) {
        if self.closing.is_none() {
            self.alarm = true;
            self.closing = Some(Closing { code, reason: reason.into(), deadline: Instant::now() + within });
        }
    }
}

impl<E> Observer<Outgoing, E> for Outbox {
    fn next(&mut self, outgoing: Outgoing) {
        let answer = self.push(outgoing.frame);
        if let Some(receipt) = outgoing.receipt {
            receipt.note(answer);
        }
    }

    // Where the routing ends is not where the connection does: its owner closes it.
    fn error(self, _: E) {}

    fn complete(self) {}

    fn is_closed(&self) -> bool {
        self.lock().closing.is_some()
    }
}
