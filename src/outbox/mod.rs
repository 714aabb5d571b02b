//! The bounded outbound queue of one connection, the only queue between a push and the socket.
//!
//! ```text
//!                                  Outbox                                  link (Outflow)
//!              +---------------------------------------------+         +------------------+
//!   push ----->| queue: waiting ............ taken ..........|--take-->| write buffer     |----> socket
//!   offer      |    ^           ^              ^      |      |  _each  |                  |
//!              |    | full:     |    untake ---+      |      |<-confirm| the system has   |
//!              |    | relieve,  greet                 v      |         | the last byte    |
//!              |    | overflow                      Spent    |         +------------------+
//!              +---------------------------------------------+
//! ```
//!
//! 1. A push puts the message at the end of the queue and wakes the link if that sleeps. It sleeps when it has found
//!    nothing to take.
//! 2. The link takes messages: it copies them into its write buffer, and they stay in the queue.
//! 3. Once the operating system has taken the last byte of a message, the link confirms it, and the message leaves the
//!    queue. Its payload is dropped outside all locks ([`Spent`]).
//! 4. A push that finds the queue full makes the link write on the spot ([`Outflow::relieve`]). The [`Overflow`] policy
//!    applies only after that. One who would rather wait stands in a line ([`Turn`]), and is called when messages leave.
//!
//! So a link that breaks loses no message: the next connection's driver finds it where it was.
//!
//! A link calls the outbox with its own lock held; the outbox calls a link without holding its own lock.

mod drops;
mod effects;
mod flush;
mod keys;
mod line;
mod message;
mod overflow;
mod places;
mod pressure;
mod queue;
mod rare;
mod run;
#[cfg(test)]
mod tests;
mod tracking;
mod window;

use std::{
    hint::black_box,
    mem::take,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{
            AtomicBool, AtomicU32, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use tokio::sync::Notify;

pub(crate) use drops::{Reporter, Reports};
pub(crate) use effects::{Effects, Spent, discard};
pub(crate) use flush::Flush;
pub(crate) use keys::Key;
pub(crate) use line::Turn;
pub(crate) use message::OutboxFrame;
pub use overflow::Overflow;
pub(crate) use overflow::{OutboxBound, Refusal, may_greet};
pub use pressure::Pressure;
use queue::State;
pub(crate) use queue::{Closing, Head};
pub(crate) use run::{Encoded, InPlace, Runs, Several, Taken};
pub(crate) use window::{Beyond, Leftover};

use crate::{
    Frame,
    fate::Fate,
    protocol::deflate::Agreed,
    stats::{DropReason, SendStats, Tally},
};

/// The longest head of a frame (RFC 6455, section 5.2), which a short message needs as well.
const FRAME_HEAD_LEN: usize = 14;

/// How many outboxes are [prefetched](Outbox::prefetch) before the first has its turn. More than can be fetched side by side
/// gain nothing, and of many more, the first have left the cache again.
pub(crate) const FETCHED_AT_ONCE: usize = 64;

/// From this length on, a message is copied outside the lock: otherwise pushers would wait for the copy.
const LONG_LEN: usize = 32 * 1024;

/// The link that empties an outbox.
pub(crate) trait Outflow: Send + Sync {
    /// The link has work that it does not know of.
    fn wake(self: Arc<Self>);

    /// Writes as much as the socket takes at this moment, on the thread that pushes. Runs no user code, and waits only for
    /// other such writes.
    fn relieve(&self) -> Relief;

    /// Drops the messages of which nothing was written, taken or not, except the link's greetings.
    fn clear(&self);

    /// Ends all writing, once a write that is under way on another thread is done.
    fn stop(&self) {}
}

/// The outcome of a write on the thread that pushes.
pub(crate) struct Relief {
    /// The socket took all bytes offered to it; it may take more.
    pub(crate) takes: bool,
    pub(crate) spent: Spent,
}

/// The answer to a message that was offered, and what has to be told or dropped outside all locks, if anything.
pub(crate) type Answer = (Result<(), Refusal>, Option<Spent>);

/// A handle of one connection's outbound queue.
#[derive(Clone)]
pub(crate) struct Outbox {
    core: Arc<Core>,
}

/// When many outboxes get a message each, most of the time goes into fetching their cache lines: a push needs
/// three of them, and one of a [run](run::Run) two.
#[repr(C, align(64))]
struct Core {
    state: Mutex<State>,
    /// Closing was asked for. Set under the lock, and read without it by each source after each message.
    is_closing: AtomicBool,
    /// As `is_closing`: it was closed because it was full.
    overflown: AtomicBool,
    /// The driver found nothing to take and wants to be woken by the next message. Set under the lock.
    asleep: AtomicBool,
    /// Tracked messages are written, and no ping behind them is under way. Set under the lock.
    wants_pong: AtomicBool,
    overflow: Overflow,
    /// Messages may have keys.
    conflates: bool,
    /// Messages may be compressed on the link, or could on the last one.
    is_compressed: AtomicBool,
    /// The round trip of the last ping that was answered, in microseconds; 0 before. It is here since the outbox is what a link
    /// and its endpoint share.
    latency: AtomicU32,
    /// How many messages pongs have confirmed, and how many links have left unconfirmed, while none were kept. Set under the
    /// lock.
    confirmed: AtomicU64,
    unconfirmed: AtomicU64,
    reporter: Weak<dyn Reporter>,
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
const _: () = assert!(std::mem::offset_of!(Core, overflow) < 3 * 64);

impl Outbox {
    /// What it drops is reported by `reporter`, as long as there is one.
    pub(crate) fn new(bound: OutboxBound, reporter: Weak<dyn Reporter>) -> Self {
        let core = Core {
            state: Mutex::new(State::new(bound)),
            is_closing: AtomicBool::new(false),
            overflown: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            wants_pong: AtomicBool::new(false),
            overflow: bound.overflow,
            conflates: bound.conflates,
            is_compressed: AtomicBool::new(false),
            latency: AtomicU32::new(0),
            confirmed: AtomicU64::new(0),
            unconfirmed: AtomicU64::new(0),
            reporter,
        };
        Self { core: Arc::new(core) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock_unsettled();
        state.settle();
        state
    }

    /// As [`lock`](Self::lock), for those who know that the last messages may be a stretch of a [run](run::Run).
    fn lock_unsettled(&self) -> MutexGuard<'_, State> {
        self.core.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, runs the effects, and drops the messages that left the queue. The caller must hold no lock.
    fn change<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        let (result, effects) = self.apply(f);
        drop(effects.run());
        result
    }

    /// Changes the state. The caller runs the effects once it holds no lock.
    fn apply<R>(&self, f: impl FnOnce(&mut State) -> R) -> (R, Effects<'_>) {
        self.apply_to(self.lock(), f)
    }

    fn apply_to<R>(&self, mut state: MutexGuard<'_, State>, f: impl FnOnce(&mut State) -> R) -> (R, Effects<'_>) {
        let result = f(&mut state);
        (result, self.take_effects(&mut state))
    }

    fn take_effects(&self, state: &mut State) -> Effects<'_> {
        let (mut alarm, mut waiter, mut report, mut spent) = (false, None, None, Spent::default());
        if let Some(rare) = &mut state.rare {
            self.core.is_closing.store(rare.closing.is_some(), Release);
            self.core.overflown.store(rare.overflown, Release);
            (alarm, spent) = (take(&mut rare.alarm), take(&mut rare.spent));
            waiter = if alarm { rare.waiter.take() } else { None };
            report = rare.take_need_of_reports().then_some(self);
        }
        let wake = if self.take_asleep() || alarm { state.link.clone() } else { None };
        Effects { wake, waiter, report, spent }
    }

    /// Clears the flag that the link sleeps, as it is being woken or is awake. Returns whether the flag was set.
    fn take_asleep(&self) -> bool {
        self.core.asleep.load(Relaxed) && self.core.asleep.swap(false, Relaxed)
    }
}

/// Pushing.
impl Outbox {
    /// Queues a message, or returns the reason why not. Tells `fate`, if there is one, what becomes of it.
    pub(crate) fn push_tracked(&self, frame: Frame, fate: Option<&Arc<dyn Fate>>) -> Result<(), Refusal> {
        self.offer(frame.into(), fate).0
    }

    /// As [`push_tracked`](Self::push_tracked), for a message that may have a key.
    #[inline]
    pub(crate) fn push_with(
        &self,
        frame: Frame,
        key: Option<Key>,
        fate: Option<&Arc<dyn Fate>>,
    ) -> Result<(), Refusal> {
        match key {
            None => self.push_tracked(frame, fate),
            Some(key) => self.offer_keyed(frame.into(), key, fate).0,
        }
    }

    /// As [`push_tracked`](Self::push_tracked), and gives a refused message back.
    #[inline]
    pub(crate) fn push_or_return(&self, frame: Frame, fate: Option<&Arc<dyn Fate>>) -> Result<(), (Refusal, Frame)> {
        let (state, frame) = (self.lock(), OutboxFrame::from(frame));
        if self.takes(&state, &frame) {
            drop(self.accept(state, frame, fate));
            return Ok(());
        }
        let returned = frame.clone();
        let (answer, spent) = self.offer_to_full(state, frame, None, fate);
        drop(spent);
        if let Err(refusal) = answer {
            return Err((refusal, returned.frame().clone()));
        }
        // It may be the last handle by now.
        discard(returned);
        Ok(())
    }

    /// As [`push_tracked`](Self::push_tracked), for a caller that holds a lock.
    pub(crate) fn offer(&self, frame: OutboxFrame, fate: Option<&Arc<dyn Fate>>) -> Answer {
        let state = self.lock();
        if self.takes(&state, &frame) {
            return (Ok(()), self.accept(state, frame, fate));
        }
        let (answer, spent) = self.offer_to_full(state, frame, None, fate);
        (answer, Some(spent))
    }

    /// Whether a message has a place, and nothing else changes: the usual case.
    #[inline]
    fn takes(&self, state: &State, frame: &OutboxFrame) -> bool {
        !self.is_closing() && state.has_room(frame)
    }

    /// Queues a message that the outbox [takes](Self::takes). Returns what is to be told of it, if anything.
    #[inline]
    fn accept(
        &self,
        mut state: MutexGuard<'_, State>,
        frame: OutboxFrame,
        fate: Option<&Arc<dyn Fate>>,
    ) -> Option<Spent> {
        state.append(frame);
        if fate.is_some() {
            state.track(fate, None);
        }
        let news = state.has_gauge().then(|| state.take_news_of_fill());
        self.wake_link(state);
        news
    }

    /// Wakes the link, if it sleeps, behind the lock.
    #[inline]
    fn wake_link(&self, state: MutexGuard<'_, State>) {
        let asleep = if self.take_asleep() { state.link.clone() } else { None };
        drop(state);
        if let Some(link) = asleep {
            link.wake();
        }
    }

    /// Queues messages ahead of all others, for the link that begins now and for no other. Messages beyond 65,536, or beyond
    /// 64 MiB, are dropped.
    pub(crate) fn greet(&self, frames: Vec<Frame>) {
        if !frames.is_empty() {
            self.change(|state| state.greet(frames));
        }
    }

    /// Loads the memory that a push and a write need into the cache. Many such calls in a row fetch side by side; locking
    /// does not.
    pub(crate) fn prefetch(&self) {
        black_box((self.core.state.is_poisoned(), self.core.asleep.load(Relaxed)));
    }
}

/// The link's side.
impl Outbox {
    /// Makes `link` the one that is woken by the next message when nothing was left to take, and at once by a close.
    pub(crate) fn attach(&self, link: Arc<dyn Outflow>) {
        let mut state = self.lock();
        state.note_progress();
        let before = state.link.replace(link);
        drop(state);
        drop(before);
    }

    /// Takes messages for the link until `budget` bytes are reached; if there are none, the next change wakes it. Returns
    /// the closing handshake that was asked for, once every message is taken.
    ///
    /// Shows each message to `f` where it lies, under the lock: copying a handle and dropping it cost more than copying a
    /// short message. A long message is shown without the lock, and so is one that is compressed before, as the link has
    /// `agreed`. One caller at a time, which holds the link's lock. Where written messages are kept, the second argument is the
    /// position of a message that the peer does not expect next.
    pub(crate) fn take_each(
        &self,
        budget: usize,
        agreed: Option<&Agreed>,
        mut f: impl FnMut(Taken<'_>, Option<u64>),
    ) -> Option<Closing> {
        let mut state = self.lock_unsettled();
        if agreed.is_some() {
            // What is encoded is not compressed.
            state.settle();
        }
        let (mut len, before) = (0, state.taken);
        while len < budget && state.under_way() < state.queue.len() && state.has_window() {
            let leap = state.leap();
            let Some(frame) = state.queue.get(state.under_way()) else { break };
            len += FRAME_HEAD_LEN + frame.len();
            if frame.len() < LONG_LEN && !agreed.is_some_and(|agreed| frame.is_to_be_compressed(agreed)) {
                f(Taken::Message(frame), leap);
                state.taken += 1;
            } else {
                let message = frame.clone();
                state = self.take_unlocked(state, message, agreed, |message| f(Taken::Message(message), leap));
            }
        }
        state.take_of_runs(budget.saturating_sub(len), f);
        // A driver that takes nothing because its socket is blocked is woken by the socket; one that may not take more, by
        // the peer's acknowledgement.
        self.core.asleep.store(state.taken == before && budget > 0 && !state.is_held(), Relaxed);
        if state.is_drained() { state.closing() } else { None }
    }

    /// Takes the next message, and shows it without the lock: a long one, or one that has to be compressed before. Out of the
    /// way of all others.
    #[cold]
    #[inline(never)]
    fn take_unlocked<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        mut message: OutboxFrame,
        agreed: Option<&Agreed>,
        f: impl FnOnce(&OutboxFrame),
    ) -> MutexGuard<'a, State> {
        state.taken += 1;
        drop(state);
        agreed.into_iter().for_each(|agreed| message.compress(agreed));
        f(&message);
        let mut state = self.lock();
        if agreed.is_some() {
            state.keep_compressed(&message);
        }
        state
    }

    /// Whether messages wait that may not be written before the peer has acknowledged others.
    pub(crate) fn is_held(&self) -> bool {
        self.lock_unsettled().is_held()
    }

    /// Notes whether messages may be compressed on the link that begins.
    pub(crate) fn set_compressed(&self, is_compressed: bool) {
        self.core.is_compressed.store(is_compressed, Relaxed);
    }

    fn count_compressed(&self, count: usize, agreed: &Agreed) {
        let mut state = self.lock();
        let (mut before, mut after) = (Tally::default(), 0);
        for message in state.queue.iter().skip(state.retained as usize).take(count) {
            if let Some(compressed) = message.compressed(agreed) {
                before += message.tally();
                after += compressed.len() as u64;
            }
        }
        if before.messages > 0 {
            let rare = state.rare();
            rare.compressed += before;
            rare.compressed_to += after;
        }
    }

    /// Notes that the operating system has taken the last byte of the first `count` messages, which leave the queue for `spent`.
    /// Returns whether a link that `may_sleep` does: the queue is empty, and the next change of it wakes the link. One that has
    /// `agreed` on compression counts what it took in compressed form.
    pub(crate) fn confirm_sent(
        &self,
        count: usize,
        may_sleep: bool,
        agreed: Option<&Agreed>,
        spent: &mut Spent,
    ) -> bool {
        if let Some(agreed) = agreed {
            self.count_compressed(count, agreed);
        }
        let mut state = self.lock_unsettled();
        state.confirm(count, spent);
        if state.wants_pong() {
            self.core.wants_pong.store(true, Relaxed);
        }
        let sleeps = may_sleep && state.is_drained() && !state.is_closing();
        if sleeps {
            self.core.asleep.store(true, Relaxed);
        }
        sleeps
    }

    /// Notes that the link has not begun to write the last `count` messages that it took. They wait again; with a reason,
    /// they and all other waiting messages are dropped. The link holds its lock, so it runs the effects later.
    pub(crate) fn untake(&self, count: usize, reason: Option<DropReason>) -> Effects<'_> {
        self.apply(|state| state.untake(count, reason)).1
    }

    /// Notes that the driver is at work and looks here before it sleeps, so that nobody has to wake it.
    pub(crate) fn note_awake(&self) {
        self.take_asleep();
    }

    /// Whether a message of which nothing was written may have to go for a newer one.
    pub(crate) fn replaces(&self) -> bool {
        self.core.overflow == Overflow::DropOldest || self.core.conflates
    }

    /// Ends the work of the link. The messages that it did not write whole wait for the next link, except its greetings.
    /// `has_begun` says whether it has written a part of the first message that waits.
    pub(crate) fn detach(&self, has_begun: bool) {
        self.change(|state| state.detach(has_begun));
    }
}

/// The session's side, if what is written is kept until the peer has acknowledged it.
impl Outbox {
    /// Keeps nothing any more: the next link belongs to no session.
    pub(crate) fn keep_nothing(&self) {
        let mut state = self.lock();
        let counts = state.keep_nothing();
        self.core.confirmed.fetch_add(counts.acknowledged, Relaxed);
        self.core.unconfirmed.fetch_add(counts.lost, Relaxed);
    }

    pub(crate) fn keeps_written(&self) -> bool {
        self.lock().keeps_written()
    }

    /// Begins a session, with `greetings` as its first messages. Up to `window` is kept of what is written.
    pub(crate) fn begin_session(&self, window: Tally, greetings: Vec<Frame>) {
        self.change(|state| state.begin_session(window, greetings));
    }

    /// Notes that the peer has come to a position on this link. Returns the messages that left the queue, for a caller that
    /// holds a lock.
    pub(crate) fn acknowledge(&self, position: u64) -> Result<Spent, Beyond> {
        self.lock_unsettled().acknowledge(position)
    }

    /// Begins a new link, on which the peer has come to `position`. Returns the position of the next message.
    pub(crate) fn rewind(&self, position: u64) -> Result<u64, Beyond> {
        let (next, spent) = self.lock().rewind(position)?;
        drop(spent);
        Ok(next)
    }

    /// The position behind the last message, if the peer has to be told.
    pub(crate) fn untold_end(&self) -> Option<u64> {
        self.lock().untold_end()
    }

    /// The bytes of the messages that are written and not acknowledged.
    pub(crate) fn written_len(&self) -> u64 {
        self.lock().written_len()
    }

    /// Makes the next push wake the link, although that has taken nothing.
    pub(crate) fn wake_at_push(&self) {
        let _state = self.lock();
        self.core.asleep.store(true, Relaxed);
    }

    /// The position behind the last message.
    pub(crate) fn end_position(&self) -> u64 {
        self.lock().end_position()
    }

    /// See [`State::received`].
    pub(crate) fn received(&self) -> u64 {
        self.lock().received()
    }

    /// See [`State::note_received`].
    pub(crate) fn note_received(&self, position: u64) {
        self.lock().note_received(position);
    }

    /// Takes leave of a session that is lost, in which the peer had come to the position `known`.
    pub(crate) fn lose_session(&self, known: Option<u64>, resends: bool) -> Leftover {
        self.change(|state| state.lose_session(known, resends))
    }

    /// Whether a link has begun to write the first message.
    pub(crate) fn has_begun_first(&self) -> bool {
        self.lock().has_begun_first()
    }

    /// Gives up the first message, which the peer refuses or which ends links, if a link has begun to write it. Returns its
    /// length.
    pub(crate) fn give_up_first(&self) -> Option<usize> {
        self.change(State::give_up_first)
    }
}

/// The component's side: the end, and the present state.
impl Outbox {
    /// Refuses everything from now on and asks for the closing handshake after the messages in the queue. The first call
    /// counts.
    pub(crate) fn close(&self, code: u16, reason: &str, within: Duration) {
        self.change(|state| state.close(code, reason, within));
    }

    /// Drops the messages of which nothing was written, except the link's greetings.
    pub(crate) fn clear(&self) {
        let link = self.lock().link.clone();
        match link {
            Some(link) => link.clear(),
            None => self.change(|state| state.drop_untaken(DropReason::Cleared)),
        }
    }

    /// Ends the work of the link, whose task is about to be dropped and may be writing on another thread.
    pub(crate) fn stop_link(&self) {
        let link = self.lock().link.clone();
        link.into_iter().for_each(|link| link.stop());
    }

    /// Ends the queue for good. Drops the messages that were not written, and returns their count.
    pub(crate) fn end(&self) -> Tally {
        self.change(State::end)
    }

    /// The message at the head. Between two links it is suspected of having ended the last one.
    pub(crate) fn head(&self) -> Option<Head> {
        self.lock().head()
    }

    /// Drops the message at the head if it still is `head`, and no link has taken it. Returns whether it did.
    pub(crate) fn try_drop_head(&self, head: Head) -> bool {
        self.change(|state| state.try_drop_head(head))
    }

    /// Takes a tracked message back between two links: it is not to be sent on the next one.
    pub(crate) fn withdraw(&self, fate: &Arc<dyn Fate>) {
        self.change(|state| state.withdraw(fate));
    }

    pub(crate) fn stats(&self) -> SendStats {
        let state = self.lock();
        let mut stats = state.stats();
        stats.acknowledged += self.core.confirmed.load(Relaxed);
        stats.lost += self.core.unconfirmed.load(Relaxed);
        stats.retained = stats.written.messages - stats.acknowledged - stats.lost;
        stats
    }

    /// Notes that a pong has confirmed `count` more of the messages that this link has written, up to the message with this
    /// `number` of all.
    pub(crate) fn note_confirmed(&self, count: u64, number: u64) {
        self.change(|state| {
            self.core.confirmed.fetch_add(count, Relaxed);
            state.note_confirmed(number);
            self.core.wants_pong.store(state.wants_pong(), Relaxed);
        });
    }

    /// Whether a ping is to follow tracked messages that were written. Read without the lock.
    pub(crate) fn wants_pong(&self) -> bool {
        self.core.wants_pong.load(Relaxed)
    }

    /// Notes that a ping follows all messages that were written.
    pub(crate) fn note_pinged(&self) {
        let mut state = self.lock();
        state.note_pinged();
        self.core.wants_pong.store(false, Relaxed);
    }

    /// Notes that a link has ended with this many written messages unconfirmed.
    pub(crate) fn note_unconfirmed(&self, count: u64) {
        let _state = self.lock();
        self.core.unconfirmed.fetch_add(count, Relaxed);
    }

    /// Notes the round trip of a ping, to the microsecond.
    pub(crate) fn note_latency(&self, round_trip: Duration) {
        self.core.latency.store(u32::try_from(round_trip.as_micros()).unwrap_or(u32::MAX).max(1), Relaxed);
    }

    /// The round trip of the last ping that was answered.
    pub(crate) fn latency(&self) -> Option<Duration> {
        let micros = self.core.latency.load(Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros.into()))
    }

    /// Whether messages may be compressed on the link, or could on the last one.
    pub(crate) fn is_compressed(&self) -> bool {
        self.core.is_compressed.load(Relaxed)
    }

    /// How many messages are written, or on their way.
    pub(crate) fn begun(&self) -> u64 {
        let state = self.lock();
        state.written.messages + u64::from(state.taken)
    }

    pub(crate) fn closing(&self) -> Option<Closing> {
        self.lock().closing()
    }

    /// Waits until it is closed. Supports one waiter at a time.
    pub(crate) async fn until_closing(&self) -> Closing {
        loop {
            match self.closing_or_waiter() {
                Ok(closing) => return closing,
                Err(waiter) => waiter.notified().await,
            }
        }
    }

    /// The closing, or what will be notified of it.
    fn closing_or_waiter(&self) -> Result<Closing, Arc<Notify>> {
        let mut state = self.lock();
        state.closing().ok_or_else(|| state.rare().waiter.get_or_insert_default().clone())
    }

    /// Whether it refuses everything; read without the lock.
    pub(crate) fn is_closing(&self) -> bool {
        self.core.is_closing.load(Acquire)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().queue.is_empty()
    }

    /// Whether both are handles of the same queue.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.core, &other.core)
    }

    /// Whether it was closed for being full, under [`Overflow::Disconnect`]; read without the lock.
    pub(crate) fn has_overflown(&self) -> bool {
        self.core.overflown.load(Acquire)
    }
}
